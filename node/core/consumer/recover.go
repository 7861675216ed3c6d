package consumer

import (
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// CodeRestored: this node's records are of an old copy, and what it signed since is not known.
const CodeRestored Code = "restored"

// A Debt is a lease for which this consumer may have signed more than it knows, and who holds that: the host and the bank.
type Debt struct {
	Lease      wire.ID
	Host, Bank identity.Address
}

// Debts are the leases that are not settled.
func (c *Consumer) Debts() []Debt {
	var out []Debt
	for _, id := range c.leases.Keys() {
		if l := c.leases.Get(id); !l.Done {
			out = append(out, Debt{id, l.Host, l.Bank})
		}
	}
	return out
}

// heldMost is how many entries of a usage chain go into one answer.
const heldMost = 32

// Held gives a host that has lost its records what this consumer holds of its signatures for a lease: the voucher, and the
// entries from that on which it names.
func (c *Consumer) Held(peer identity.Address, lease wire.ID) (objects []wire.Object, more step.Span, known bool) {
	l := c.leases.Get(lease)
	if l == nil || l.Host != peer {
		return nil, step.Span{}, false
	}
	if v := c.vouchers.Get(lease); v != nil {
		objects = append(objects, *v)
	}
	from := max(1, l.SignedSeq)
	span := step.Span{From: table.Key(table.ConsumerUsage, lease[:], table.Uint64(from)), To: table.After(table.Key(table.ConsumerUsage, lease[:])), Limit: heldMost}
	return objects, span, true
}

// HeldOf is what this node holds of a bank's signatures: of the leases that are not over all that there is, of the others, and of
// payments, the last receipts.
func (c *Consumer) HeldOf(bank identity.Address) (open, past []wire.Object) {
	for _, id := range c.leases.Keys() {
		l := c.leases.Get(id)
		if l.Bank != bank {
			continue
		}
		to := &past
		if !l.Done {
			to = &open
			open = append(open, l.Reserved)
			if !l.Lodged.IsZero() {
				open = append(open, l.Lodged)
			}
		}
		if !l.Receipt.IsZero() {
			*to = append(*to, l.Receipt)
		}
	}
	for _, id := range c.payments.Keys() {
		if p := c.payments.Get(id); p.Bank == bank && !p.Receipt.IsZero() {
			past = append(past, p.Receipt)
		}
	}
	return open, past
}

// Regain takes from the host's or the bank's answer what this consumer has lost: the highest voucher, and what the bank has
// paid on one. It returns the place of the highest voucher known.
func (c *Consumer) Regain(ctx *step.Context, lease wire.ID, objects []wire.AnyVerified) uint64 {
	l := c.leases.Get(lease)
	c.takeVoucher(ctx, l, objects)
	c.takeReservation(ctx, l, objects)
	c.takeReceipt(ctx, l, objects)
	return l.SignedSeq
}

// Forsake makes a consumer out of old records safe: it signs nothing more for the leases that are open, which their hosts then
// stop; its commands jump over the numbers that can be taken; and an order under way is given up. It is called before Boot.
func (c *Consumer) Forsake(ctx *step.Context) {
	for _, bid := range c.orders.Keys() {
		if o := c.orders.Get(bid); o.underway() {
			c.undo(ctx, o, o.Stage != StageAsked)
			c.fail(ctx, o, step.Fail(step.ProblemQuarantine, "order again", "this node was restored from an old copy before the lease was agreed"))
		}
	}
	for _, id := range c.leases.Keys() {
		l := c.leases.Get(id)
		if l.Done {
			continue
		}
		l.Commands = max(l.Commands, uint64(ctx.Now)) // fewer than a thousand commands a second
		if l.Refused == nil {
			l.Refused = object(CodeRestored, "this node was restored from an old copy and does not know what it signed last")
			l.Refused.At = ctx.Now
		}
		c.leases.Touch(id)
		if l.State != market.StateEnded {
			ctx.Notify("lease.forsaken", id, c.nameOf(l)+": nothing more is signed for it; its host stops the pod, and 'souk rm' ends it")
		}
	}
}
