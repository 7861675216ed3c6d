package host

import (
	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/wire"
	"souk/reliability"
)

// A Debt is a lease of which this host may not know all that it signed, and who does.
type Debt struct {
	Lease wire.ID
	Who   identity.Address
}

// Debts are the leases that are not settled.
func (h *Host) Debts() []Debt {
	var out []Debt
	for _, id := range h.leases.Keys() {
		if l := h.leases.Get(id); !l.Done {
			out = append(out, Debt{id, l.Terms.By})
		}
	}
	return out
}

// Held gives a consumer, or its attendant, that has lost its records what this host holds of its signatures for a lease.
func (h *Host) Held(peer identity.Address, lease wire.ID) (objects []wire.Object, known bool) {
	l := h.leases.Get(lease)
	if l == nil || !l.party(peer) {
		return nil, false
	}
	if !l.Voucher.IsZero() {
		objects = append(objects, l.Voucher)
	}
	return objects, true
}

// HeldOf is what this host holds of a bank's signatures: of the leases that are not over all that there is, of the others
// the last receipts.
func (h *Host) HeldOf(bank identity.Address) (open, past []wire.Object) {
	for _, id := range h.leases.Keys() {
		l := h.leases.Get(id)
		if l.Reservation.Operator != bank {
			continue
		}
		to := &past
		if !l.Done {
			to = &open
			if open = append(open, l.Promise); l.Promise.IsZero() { // of an earlier version of this node
				open = open[:len(open)-1]
			}
		}
		if !l.Receipt.IsZero() {
			*to = append(*to, l.Receipt)
		}
	}
	return open, past
}

// Regain takes from a consumer's answer what this host has lost: the highest voucher, with the entry that it names. It
// returns the highest place of the usage chain that the consumer holds.
func (h *Host) Regain(ctx *step.Context, lease wire.ID, objects []wire.AnyVerified) uint64 {
	l := h.leases.Get(lease)
	top := l.Place.Seq
	v, signed := step.Find[ledger.Voucher](objects)
	for _, u := range step.FindAll[ledger.Usage](objects) {
		if u.Value().Host != ctx.Self || u.Value().Lease != lease {
			continue
		}
		top = max(top, u.Value().Seq)
		c := v.Value()
		fits := signed && c.Lease == lease && c.Host == ctx.Self && c.By == l.Terms.By && c.Reservation == l.Reservation.ID && c.Usage == u.Ref()
		if fits && c.Seq > l.VouchedSeq && c.Total == u.Value().Owed() {
			l.Voucher, l.Vouched, l.VouchedSeq, l.VouchedAt, l.Paid = v.Object(), c.Total, c.Seq, c.Minute, u.Object()
			l.Entry, l.EntrySeq, l.EntryOwed, l.EntryLast = u.Object(), c.Seq, max(c.Total, l.EntryOwed), c.Minute
			h.touch(lease)
		}
	}
	return top
}

// Seen is how far others have seen the chains of a host.
type Seen struct {
	Log, Beat chainEnd
	Offer     uint64
}

// See takes what somebody holds of this host's own publications.
func (s *Seen) See(ctx *step.Context, objects []wire.AnyVerified) {
	log := func(seq uint64, head identity.Hash) {
		if seq > s.Log.Seq {
			s.Log = chainEnd{Seq: seq, Head: head}
		}
	}
	for _, b := range step.FindAll[reliability.Beat](objects) {
		if v := b.Value(); v.Host == ctx.Self {
			if log(v.LogSeq, v.LogHead); v.Seq > s.Beat.Seq {
				s.Beat = chainEnd{Seq: v.Seq, Head: b.Ref(), Minute: v.Minute}
			}
		}
	}
	for _, o := range step.FindAll[market.Offer](objects) {
		if v := o.Value(); v.Host == ctx.Self {
			log(v.LogSeq, v.LogHead)
			s.Offer = max(s.Offer, v.Seq)
		}
	}
}

// Forsake makes a host out of old records safe: no chain goes on at a place that may be taken. What is numbered by the host
// jumps over all that can have been signed since; a lease that is open ends, and its usage chain gets no further entry.
// told says whose consumers have given this host all they hold. It is called before Boot.
func (h *Host) Forsake(ctx *step.Context, seen Seen, told map[wire.ID]bool) {
	h.past.Put(ctx.Now)
	jump(h.log, seen.Log, uint64(ctx.Now)) // fewer than a thousand entries a second
	b := h.beat.Get()
	ahead := uint64(0)
	if m := ctx.Minute(); m > b.Minute {
		ahead = uint64(m - b.Minute) // one a minute
	}
	jump(h.beat, seen.Beat, b.Seq+ahead)
	b.Minute = max(b.Minute, ctx.Minute()) // whose beat is taken for signed, so that whatever was restored before, places keep pace with minutes
	s := h.sale.Get()
	s.Seq = max(s.Seq, seen.Offer, uint64(ctx.Now))
	h.sale.Touch()
	for _, id := range h.holds.Keys() {
		if o := h.holds.Get(id); !o.Dead { // it may have become a lease that is not known here: its consumer is told nothing
			h.alloc.Get().Expire(id)
			h.alloc.Touch()
			h.holds.Delete(id)
		}
	}
	for _, id := range h.leases.Keys() {
		l := h.leases.Get(id)
		if l.Done {
			continue
		}
		l.Lost, l.Closing, l.Due, l.Lowered, l.Mute = true, true, 0, true, !told[id]
		h.touch(id)
	}
}

// jump moves the end of a chain to a place, or to where others have seen it, if that is further.
func jump(end *step.Cell[chainEnd], seen chainEnd, place uint64) {
	e := end.Get()
	if seen.Seq > e.Seq {
		e.Seq, e.Head, e.Minute = seen.Seq, seen.Head, max(e.Minute, seen.Minute)
	}
	e.Seq = max(e.Seq, place)
	end.Touch()
}

// EndLost ends the leases that Forsake gave up. It is called after Boot.
func (h *Host) EndLost(ctx *step.Context) {
	for _, id := range h.leases.Keys() {
		if l := h.leases.Get(id); l.Lost && !l.Done && l.State != market.StateEnded {
			h.end(ctx, id, l, market.ReasonHost)
		}
	}
}

// Chains are the ends of what this host numbers, for tests of its promises.
func (h *Host) Chains() (log, beat, offer uint64) {
	return h.log.Get().Seq, h.beat.Get().Seq, h.sale.Get().Seq
}
