package host

import (
	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// funds takes a bank's word that a consumer runs out of funds: at the next tick its pods stop. With a Forfeit beside it, the
// lease that this names ends, and its volume is removed.
func (h *Host) funds(ctx *step.Context, r step.Request) *step.Refusal {
	v, ok := step.Find[ledger.FundsNotice](r.Objects)
	n := v.Value()
	if !ok || n.Operator != r.Peer {
		return step.Refuse(step.RefuseBadRequest, "no funds notice of your own in it")
	}
	if f, ok := step.Find[ledger.Forfeit](r.Objects); ok {
		if no := h.forfeit(ctx, v, f); no != nil {
			return no
		}
	}
	for _, id := range h.leases.Keys() {
		l := h.leases.Get(id)
		if l.Terms.Consumer == n.Consumer && l.Reservation.Operator == n.Operator && l.State != market.StateEnded && n.Seq > l.Noticed {
			l.Noticed = n.Seq
			h.touch(id)
			funded := l.Terms.Budget > 0 && l.Reservation.Cap >= l.Terms.Budget // it has all that it will ever have, and runs to its end
			if (l.State.Owns() || l.State == market.StateCertified) && !funded {
				l.Broke = ctx.Minute()
				ctx.Notify("lease.funds", id, "lease "+id.Short()+": its bank says that its consumer is out of funds; the pod stops at the next minute")
			}
		}
	}
	ctx.Reply(r.ID, step.OpOK, nil)
	return nil
}

// forfeit ends a lease whose consumer brought no money in time.
func (h *Host) forfeit(ctx *step.Context, v wire.Verified[ledger.FundsNotice], w wire.Verified[ledger.Forfeit]) *step.Refusal {
	n, f := v.Value(), w.Value()
	l := h.leases.Get(f.Lease)
	switch {
	case l == nil || l.Terms.Consumer != n.Consumer || l.Reservation.Operator != n.Operator:
		return step.Refuse(step.RefuseUnknown, "no such lease of that consumer and bank")
	case f.Host != ctx.Self || f.Operator != n.Operator || f.Consumer != n.Consumer || f.Reservation != l.Reservation.ID || f.Notice != v.Ref():
		return step.Refuse(step.RefuseBadRequest, "the forfeit is of another lease or notice")
	case f.At < n.At+member.Time(l.Terms.Hold)*ctx.Clock.Slot || ctx.Now < f.At-member.Time(ctx.Policy.Skew)*member.Second:
		return step.Refuse(step.RefuseState, "the notice is too young: data is kept for %d minutes", l.Terms.Hold)
	case l.Desire == market.DesireEnd:
		return nil
	}
	l.Cause = w.Ref()
	h.touch(f.Lease)
	ctx.Notify("lease.forfeit", f.Lease, "lease "+f.Lease.Short()+": its bank says that no money came; it ends and its volume is removed")
	h.flush(ctx, f.Lease, l)
	h.end(ctx, f.Lease, l, market.ReasonForfeit)
	return nil
}

// record signs that the volume of a lease is gone.
func (h *Host) record(ctx *step.Context, id wire.ID, l *lease) {
	if l.Lost || !l.Record.IsZero() || !l.Had || l.Terms.Volume == 0 || l.Reason == market.ReasonNone {
		return
	}
	l.Record = ctx.Guard(append([]byte("volume/"), id[:]...), 1, wire.Draft(market.VolumeRecord{
		Host: ctx.Self, Lease: id, Volume: l.Terms.Volume, Reason: l.Reason, Cause: l.Cause, At: ctx.Now,
	}))
}

// wiped gives a consumer the record of its volume's removal.
func (h *Host) wiped(ctx *step.Context, r step.Request) *step.Refusal {
	b, err := step.Body[step.LeaseBody](r.Body)
	l := h.leases.Get(b.Lease)
	switch {
	case err != nil:
		return step.Refuse(step.RefuseBadRequest, "which lease?")
	case l == nil || l.Terms.Consumer != r.Peer:
		return step.Refuse(step.RefuseUnknown, "no such lease of yours")
	case !l.Record.IsZero():
		ctx.Reply(r.ID, step.OpOK, nil, l.Record)
		return nil
	case l.Wiped || l.Lost || l.State == market.StateEnded && !l.Had:
		return step.Refuse(step.RefuseUnknown, "no record is kept of that volume")
	}
	return step.Refuse(step.RefuseState, "the volume is not removed")
}
