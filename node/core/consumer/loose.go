package consumer

import (
	"souk/ledger"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// loose is an attempt that came to nothing and is still to be undone: the host to be told, so that it need not wait for its
// hold to run out, and the money at the bank to be released. The host's NoLease does that; if the host is gone, this
// node's Close, in time. A bank that knows of no reservation is asked once more when it takes none any longer: what this node
// gave up may still have been on its way.
type loose struct {
	Lease       wire.ID          `cbor:"1,keyasint"`
	Reservation wire.ID          `cbor:"2,keyasint"`
	Host        identity.Address `cbor:"3,keyasint"`
	Bank        identity.Address `cbor:"4,keyasint"`
	Reserved    bool             `cbor:"5,keyasint"` // the bank may have set money aside
	At          member.Time      `cbor:"6,keyasint"`
	NoLease     wire.Object      `cbor:"7,keyasint"`
	Close       wire.Object      `cbor:"8,keyasint"`  // a draft
	Until       member.Time      `cbor:"9,keyasint"`  // the bank reserves nothing for the quote after that
	Asking      bool             `cbor:"10,keyasint"` // the bank knew of no reservation: ask again after Until
}

// undo gives up the attempt under way.
func (c *Consumer) undo(ctx *step.Context, o *Order, reserved bool) {
	// Host's and bank's clocks may be off either way, and the bank allows for the skew on top.
	until := max(o.Agreed.Expires, ctx.Now) + 3*skew(ctx)
	o.Loose = append(o.Loose, loose{Lease: o.Lease, Reservation: o.Reservation, Host: o.Host, Bank: o.Bank, Reserved: reserved, At: ctx.Now, Until: until})
	c.orders.Touch(o.Run.Bid)
}

// tickLoose takes each attempt to be undone one step further.
func (c *Consumer) tickLoose(ctx *step.Context, o *Order, wake *alarm) {
	for i := range o.Loose {
		l := &o.Loose[i]
		r := c.loose[l.Lease]
		if r == nil {
			r = &retry{}
			c.loose[l.Lease] = r
		}
		if !r.due(ctx.Now, wake) {
			continue
		}
		if l.Asking && ctx.Now <= l.Until {
			wake.at(l.Until + 1)
			continue
		}
		r.busy = true
		if l.NoLease.IsZero() && l.Close.IsZero() && l.Reserved && ctx.Now >= l.At+span(ctx, goneAfter) {
			l.close(ctx)
			c.orders.Touch(o.Run.Bid)
		}
		q := toHost(l.Host, step.OpDecline, step.LeaseBody{Lease: l.Lease}).within(shortly)
		switch {
		case l.Asking:
			q = toBank(l.Bank, step.OpReceipt, step.LeaseBody{Lease: l.Lease})
		case !l.NoLease.IsZero():
			q = toBank(l.Bank, step.OpNoLease, nil, l.NoLease)
		case !l.Close.IsZero():
			q = toBank(l.Bank, step.OpClose, nil, l.Close)
		}
		bid, lease, op := o.Run.Bid, l.Lease, q.op
		c.ask(ctx, q, func(ctx *step.Context, r step.Response) { c.undone(ctx, bid, lease, op, r) })
	}
}

func (l *loose) close(ctx *step.Context) {
	l.Close = wire.Draft(ledger.Close{Consumer: ctx.Self, Lease: l.Lease, Reservation: l.Reservation, At: ctx.Now})
}

// undone takes the answer to one step.
func (c *Consumer) undone(ctx *step.Context, bid, lease wire.ID, op step.Op, r step.Response) {
	o := c.orders.Get(bid)
	if o == nil {
		return
	}
	for i := range o.Loose {
		l := &o.Loose[i]
		if l.Lease != lease {
			continue
		}
		again := c.loose[lease]
		if c.further(ctx, l, op, r) {
			o.Loose = append(o.Loose[:i:i], o.Loose[i+1:]...)
			delete(c.loose, lease)
			c.orders.Touch(bid)
			return
		}
		if r.Err == nil || no(r.Err) {
			*again = retry{}
			c.orders.Touch(bid)
		} else {
			again.failed(ctx.Now, member.Second, max(ctx.Clock.Slot, 30*member.Second))
		}
		return
	}
}

// further reports whether nothing is left to be done; otherwise it says what is next.
func (c *Consumer) further(ctx *step.Context, l *loose, op step.Op, r step.Response) bool {
	unknown := r.Err != nil && no(r.Err) && r.Err.Refusal.Code == step.RefuseUnknown
	switch {
	case op == step.OpReceipt && r.Err == nil && l.stands(r.Objects):
		l.Asking = false // it came after all: the same word again
		return false
	case op == step.OpReceipt:
		return r.Err == nil || no(r.Err)
	case op != step.OpDecline && unknown && ctx.Now <= l.Until:
		l.Asking = true
		return false
	case op == step.OpNoLease && r.Err != nil && no(r.Err) && !unknown:
		l.NoLease = wire.Object{} // the host may have told the bank itself; if not, there is a longer way
		l.close(ctx)
		return false
	case op != step.OpDecline:
		return r.Err == nil || no(r.Err)
	}
	if !l.Reserved {
		return true // the hold runs out by itself
	}
	if v, ok := step.Find[ledger.NoLease](r.Objects); ok && v.By() == l.Host && v.Value().Lease == l.Lease && v.Value().Reservation == l.Reservation {
		l.NoLease = v.Object()
	} else if r.Err == nil || no(r.Err) {
		l.close(ctx)
	}
	return false
}

// stands reports whether the bank's answer shows that the attempt's reservation is there and not released.
func (l *loose) stands(objects []wire.AnyVerified) bool {
	v, ok := step.Find[ledger.Reservation](objects)
	s, paid := step.Find[ledger.SettleReceipt](objects)
	return ok && v.By() == l.Bank && v.Value().ID == l.Reservation && !(paid && s.By() == l.Bank && s.Value().Released)
}
