package host

import (
	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// settle takes the highest voucher of a lease to the bank: every hour, and with the host's last word at its end.
func (h *Host) settle(ctx *step.Context, id wire.ID, l *lease) {
	if l.Done || ctx.Now < h.retry[id] {
		return
	}
	switch {
	case l.Mute:
		h.later(id, ctx.Now+member.Hour) // until its consumer has closed it
		h.look(ctx, id, l)
	case l.Closing && (l.Vouched >= l.EntryOwed || l.Due == 0):
		if l.claimable() {
			h.claim(ctx, id, l, nil)
		} else {
			h.final(ctx, id, l)
		}
	case !l.Closing && ctx.Now >= l.SettleAt:
		l.SettleAt = ctx.Clock.Tick((ctx.Minute()/member.HourMinutes + 1) * member.HourMinutes)
		h.touch(id)
		if l.Vouched > l.Settled || l.claimable() {
			h.Settle(ctx, id)
		} else {
			h.look(ctx, id, l)
		}
	case h.goals[id] > max(l.Claimed, l.VouchedSeq):
		h.claim(ctx, id, l, nil)
	case !l.Lowered && h.atRest(ctx, l):
		h.lowerNow(ctx, id, l)
	}
}

// Settle shows the highest voucher of a lease to the bank now, and what rests on receipts beyond it.
func (h *Host) Settle(ctx *step.Context, id wire.ID) {
	l := h.leases.Get(id)
	if l.claimable() {
		h.goals[id] = l.RestSeq
		h.claim(ctx, id, l, nil)
		return
	}
	h.later(id, ctx.Now+2*ctx.Clock.Slot)
	h.ask(ctx, l.Reservation.Operator, step.OpSettle, nil, func(ctx *step.Context, r step.Response) {
		h.receipt(ctx, id, r)
	}, l.Voucher, l.Paid)
}

// look asks the bank whether the reservation still stands: a consumer that could not reach this host may have closed it.
func (h *Host) look(ctx *step.Context, id wire.ID, l *lease) {
	h.ask(ctx, l.Reservation.Operator, step.OpReceipt, step.LeaseBody{Lease: id}, func(ctx *step.Context, r step.Response) {
		l := h.leases.Get(id)
		if r.Err != nil && r.Err.Refusal != nil && r.Err.Refusal.Code == step.RefuseUnknown && !l.Closing {
			ctx.Notify("settle.unknown", id, "lease "+id.Short()+": the bank sets nothing aside for it; the pod stops")
			h.stop(ctx, id, l, market.ReasonFunds)
		}
		h.heed(ctx, id, r)
	})
}

// heed takes whatever an answer of the bank says of a lease: how its reservation stands, and what is paid of it.
func (h *Host) heed(ctx *step.Context, id wire.ID, r step.Response) {
	if _, ok := step.Find[ledger.SettleReceipt](r.Objects); ok && r.Err == nil {
		h.receipt(ctx, id, r)
		return
	}
	h.reserved(ctx, id, r)
}

// final says the host's last word on a lease.
func (h *Host) final(ctx *step.Context, id wire.ID, l *lease) {
	h.later(id, ctx.Now+2*ctx.Clock.Slot)
	f := ledger.Final{Host: ctx.Self, Lease: id, Reservation: l.Reservation.ID, Total: max(l.Vouched, l.Proven), Usage: l.Place.Head, At: l.Since}
	objects := []wire.Object{wire.Draft(f)}
	if !l.Voucher.IsZero() {
		objects = append(objects, l.Voucher, l.Paid)
	}
	h.ask(ctx, l.Reservation.Operator, step.OpFinal, nil, func(ctx *step.Context, r step.Response) {
		h.receipt(ctx, id, r)
	}, objects...)
}

func (h *Host) receipt(ctx *step.Context, id wire.ID, r step.Response) {
	l := h.leases.Get(id)
	h.reserved(ctx, id, r)
	v, ok := step.Find[ledger.SettleReceipt](r.Objects)
	if r.Err != nil || !ok || v.Value().Lease != id || v.By() != l.Reservation.Operator {
		h.later(id, ctx.Now+4*ctx.Clock.Slot)
		if r.Err != nil && r.Err.Refusal != nil {
			ctx.Notify("settle.refused", id, "the bank refuses to settle lease "+id.Short()+": "+r.Err.Refusal.Reason)
			h.later(id, ctx.Now+member.Hour)
			if !l.Closing {
				h.look(ctx, id, l) // it may be released: then nothing of it is ever paid again
			}
		}
		return
	}
	if v.Value().Paid > l.Settled {
		ctx.Notify("settle.paid", id, "settled lease "+id.Short()+": "+v.Value().Paid.Text()+" in all")
	}
	h.promptly(id)
	l.Settled, l.Receipt = v.Value().Paid, v.Object()
	l.Done = l.Closing && v.Value().Released
	if l.Closing && !l.Done {
		h.later(id, ctx.Now+member.Hour) // paid, and not released: the bank does not say why
	}
	if l.Done {
		l.Prior = billed{} // what is left is for the books
		delete(h.goals, id)
		h.specs.Delete(id)
	}
	h.touch(id)
	if v.Value().Released && l.Desire != market.DesireEnd { // closed by the consumer, or past its time: nothing more of it is paid
		ctx.Notify("settle.closed", id, "lease "+id.Short()+": the bank has released its reservation; it ends, and its data is kept for a while")
		h.flush(ctx, id, l)
		h.end(ctx, id, l, market.ReasonFunds)
	}
}

// atRest reports whether a lease is down and all its running minutes are closed and paid.
func (h *Host) atRest(ctx *step.Context, l *lease) bool {
	switch l.State {
	case market.StateStopped, market.StateExited, market.StateOutbid, market.StateFailed:
		return l.Due == 0 && l.Place.Next > ctx.Clock.Minute(l.Since) || l.Due == 0 && h.idle(ctx, l, l.Place.Next)
	}
	return false
}

// lower asks, once the lease is at rest, for a smaller reservation: a stopped pod needs no more than its storage.
func (h *Host) lower(ctx *step.Context, id wire.ID, l *lease) {
	l.Lowered = false
	h.touch(id)
}

func (h *Host) lowerNow(ctx *step.Context, id wire.ID, l *lease) {
	keep, err := l.Terms.Tariff.VolumeStopped.Cost(int64(ctx.Policy.StoppedReserve) * ctx.Clock.Seconds())
	if err != nil {
		keep = 0
	}
	target := min(l.EntryOwed+keep, l.Reservation.Cap)
	h.later(id, ctx.Now+2*ctx.Clock.Slot)
	low := ledger.Lower{Host: ctx.Self, Lease: id, Reservation: l.Reservation.ID, Seq: l.Reservation.Seq, Cap: target, At: ctx.Now}
	h.ask(ctx, l.Reservation.Operator, step.OpLower, nil, func(ctx *step.Context, r step.Response) {
		switch l := h.leases.Get(id); {
		case r.Err != nil && r.Err.Refusal == nil:
		case r.Err != nil && r.Err.Refusal.Code == step.RefuseStale: // the bank has raised it meanwhile
			h.ask(ctx, l.Reservation.Operator, step.OpReceipt, step.LeaseBody{Lease: id}, func(ctx *step.Context, r step.Response) {
				h.heed(ctx, id, r)
			})
		default:
			l.Lowered = true
			h.promptly(id)
			h.touch(id)
			h.heed(ctx, id, r)
			if l.State.Owns() { // it was started meanwhile, on what is no longer set aside
				h.refresh(ctx, id, l)
			}
		}
	}, wire.Draft(low))
}

// refresh asks the bank to raise the reservation of a running lease.
func (h *Host) refresh(ctx *step.Context, id wire.ID, l *lease) {
	if l.Asked == 0 {
		l.Asked = ctx.Minute()
		h.touch(id)
	}
	if l.claimable() { // what rests on receipts too
		h.claim(ctx, id, l, func(ctx *step.Context) {
			if l := h.leases.Get(id); !l.claimable() {
				h.refresh(ctx, id, l)
			}
		})
		return
	}
	start := l.Start
	var shown []wire.Object // what the bank does not know to be owed it takes for funds
	if l.Vouched > l.Settled {
		shown = []wire.Object{l.Voucher, l.Paid}
	}
	h.ask(ctx, l.Reservation.Operator, step.OpRefresh, step.LeaseBody{Lease: id}, func(ctx *step.Context, r step.Response) {
		h.raised[id] = h.raised[id] || r.Err == nil
		if l := h.leases.Get(id); (r.Err == nil || r.Err.Refusal != nil) && l.Start == start {
			l.Asked, l.Told = 0, ctx.Minute()
			h.touch(id)
		}
		h.heed(ctx, id, r)
	}, shown...)
}

// refused reports whether the bank, asked for more of late, has had its say or has kept silent for too long.
func (l *lease) refused(m member.Minute) bool {
	return l.Told != 0 && m <= l.Told+1 || l.Asked != 0 && m >= l.Asked+silentTicks
}

// silentTicks is how many ticks a bank has to answer before a pod without funds stops.
const silentTicks = 2

// reserved takes a newer reservation of a lease.
func (h *Host) reserved(ctx *step.Context, id wire.ID, r step.Response) {
	if v, ok := step.Find[ledger.Reservation](r.Objects); ok && r.Err == nil {
		h.takeReservation(id, v)
	}
}

func (h *Host) takeReservation(id wire.ID, v wire.Verified[ledger.Reservation]) bool {
	l := h.leases.Get(id)
	old, r := l.Reservation, v.Value()
	if r.ID != old.ID || r.Operator != old.Operator || r.Lease != id || r.Host != old.Host || r.By != old.By || r.Seq <= old.Seq {
		return false
	}
	if r.Cap > old.Cap && !l.State.Owns() && l.State != market.StateCertified {
		l.Lowered = false // raised for a start that has not come
	}
	l.Reservation, l.Promise = r, v.Object()
	h.touch(id)
	return true
}
