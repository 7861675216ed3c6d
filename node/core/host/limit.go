package host

import (
	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// How many leases that are not over a host has at most, in all and of one consumer. Those that are stopped cost it little, but at the hour
// all are closed in one step, and that has to fit into one transaction of the store.
const (
	leasesMost   = 160
	leasesOfEach = 32
)

// crowded refuses a lease more than this host can keep.
func (h *Host) crowded(who identity.Address) *step.Refusal {
	all, own := 0, 0
	for _, id := range h.leases.Keys() {
		if l := h.leases.Get(id); !l.Done {
			all++
			if l.Terms.Consumer == who {
				own++
			}
		}
	}
	switch {
	case own >= leasesOfEach:
		return step.Refuse(step.RefuseLimit, "you have %d pods here, stopped ones included, the most there may be: remove some", own)
	case all >= leasesMost:
		return step.Refuse(step.RefuseWithdrawn, "this host keeps %d leases, the most it can", all)
	}
	return nil
}

// limit stops a pod at the first tick at which one more minute would not fit its budget, its duration or its funds. For
// want of funds it stops only after the bank was asked for more.
func (h *Host) limit(ctx *step.Context, id wire.ID, l *lease) {
	switch {
	case h.unseen[id]:
		return
	case l.Broke != 0 && l.Broke < ctx.Minute():
		l.Broke = 0
		h.touch(id)
		h.stop(ctx, id, l, market.ReasonFunds)
		return
	case l.State != market.StateRunning:
		return
	}
	if why := h.limited(ctx, l); why != market.ReasonNone {
		h.stop(ctx, id, l, why)
		return
	}
	p := ctx.Policy
	switch short := h.short(ctx, l, p.StopFunds, member.Time(p.StopFunds)*ctx.Clock.Slot); {
	case short && l.refused(ctx.Minute()):
		ctx.Notify("lease.funds", id, "lease "+id.Short()+": its reservation no longer covers it; the pod stops")
		h.stop(ctx, id, l, market.ReasonFunds)
	case short || h.short(ctx, l, p.ReserveOpen/2, 7*member.Day):
		h.refresh(ctx, id, l)
	case !h.raised[id] && h.short(ctx, l, p.ReserveAhead/2, 0): // what the bank has raised meanwhile counts only for who has it
		h.refresh(ctx, id, l)
	case l.Asked != 0:
		l.Asked = 0
		h.touch(id)
	}
}

// short reports whether a reservation does not pay so many more minutes, or must be redeemed within that time.
func (h *Host) short(ctx *step.Context, l *lease, minutes uint32, within member.Time) bool {
	cost, err := h.ahead(ctx, l, minutes)
	return err != nil || cost > l.Reservation.Cap || l.Reservation.RedeemBy <= ctx.Now+within
}

// limited says which of the lease's own limits leaves no room for the minute that begins.
func (h *Host) limited(ctx *step.Context, l *lease) market.Reason {
	cost, err := h.costOf(ctx, l, 1)
	switch {
	case l.Terms.Minutes > 0 && l.Ran+h.pending(ctx, l) >= l.Terms.Minutes:
		return market.ReasonDuration
	case l.Terms.StopAt != 0 && ctx.Now+ctx.Clock.Slot > l.Terms.StopAt:
		return market.ReasonDuration
	case l.Terms.Budget > 0 && (err != nil || cost > l.Terms.Budget):
		return market.ReasonBudget
	}
	return market.ReasonNone
}

// pending counts the minutes that are over, not yet closed, and may still be billed.
func (h *Host) pending(ctx *step.Context, l *lease) uint64 {
	n := uint64(0)
	for m := l.Place.Next; m < ctx.Minute(); m++ {
		u := ctx.Clock.Tick(m + 1)
		if late := ctx.Now >= ctx.Clock.Due(m+1) && !l.Map.Has(m); late {
			continue
		}
		if l.Run.full(ctx.Clock.Tick(m), u) && !l.signalled(u) && !h.off.Get().Has(m) && !l.Quiet.Has(m) && (!h.out(m) || l.Map.Has(m)) {
			n++
		}
	}
	return n
}

// costOf is what the lease will owe when it has run for so many more minutes.
func (h *Host) costOf(ctx *step.Context, l *lease, minutes uint64) (ledger.Amount, error) {
	m, err := l.Place.Meter.Add(l.rate(), int64(h.pending(ctx, l)+minutes)*ctx.Clock.Seconds())
	return m.Owed(), err
}

// ahead is costOf, but of no more than the lease's own limits leave.
func (h *Host) ahead(ctx *step.Context, l *lease, minutes uint32) (ledger.Amount, error) {
	n := uint64(max(1, minutes))
	if l.Terms.Minutes > 0 {
		n = min(n, l.Terms.Minutes-min(l.Terms.Minutes, l.Ran+h.pending(ctx, l)))
	}
	cost, err := h.costOf(ctx, l, n)
	if b := l.Terms.Budget; b > 0 && (err != nil || cost > b) {
		return b, nil
	}
	return cost, err
}
