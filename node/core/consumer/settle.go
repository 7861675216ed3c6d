package consumer

import (
	"fmt"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// takeReservation takes over a newer reservation of a lease. It reports whether there was one.
func (c *Consumer) takeReservation(ctx *step.Context, l *Lease, objects []wire.AnyVerified) bool {
	v, ok := step.Find[ledger.Reservation](objects)
	r := v.Value()
	if !ok || r.Operator != l.Bank || r.ID != l.Reservation || r.Lease != l.ID || r.Host != l.Host || r.By != l.signer(ctx) || r.Seq <= l.ReservedSeq {
		return false
	}
	l.Cap, l.Reserved, l.ReservedSeq = r.Cap, v.Object(), r.Seq
	c.leases.Touch(l.ID)
	return true
}

// tickRaise has the bank raise the reservation before what is owed comes near its cap, and gives the host the new one.
func (c *Consumer) tickRaise(ctx *step.Context, l *Lease, w *watch, wake *alarm) {
	owed := l.Place.Meter.Owed()
	near := l.State.Up() && !c.covers(ctx, l, ctx.Policy.ReserveLeast)
	if l.State == market.StateRunning && !w.raised && !c.covers(ctx, l, ctx.Policy.ReserveAhead/2) {
		near = true // what the bank has raised since the start counts only for who has it when the bank is away
	}
	if l.Done || l.Refused != nil || !l.attends() || !near && owed <= l.Cap {
		return
	}
	if !w.raise.due(ctx.Now, wake) {
		return
	}
	w.raise.busy = true
	lease := l.ID
	c.ask(ctx, c.refresh(l), func(ctx *step.Context, r step.Response) {
		l := c.leases.Get(lease)
		if l == nil {
			return
		}
		w.raise.failed(ctx.Now, ctx.Clock.Slot/2, 4*ctx.Clock.Slot)
		if r.Err != nil {
			return
		}
		w.raised = true
		if c.takeReservation(ctx, l, r.Objects) {
			w.raise.n = 0
			c.ask(ctx, toHost(l.Host, step.OpRaise, nil, l.Reserved), func(*step.Context, step.Response) {})
			c.vouch(ctx, l)
		}
		c.takeReceipt(ctx, l, r.Objects)
	})
}

// refresh asks the bank to raise a reservation. It shows the highest voucher that is not paid yet: what the bank does not know to
// be owed it takes for funds.
func (c *Consumer) refresh(l *Lease) question {
	var shown []wire.Object
	if v := c.vouchers.Get(l.ID); v != nil && l.Signed > l.Paid && !l.SignedFor.IsZero() {
		shown = []wire.Object{*v, l.SignedFor}
	}
	return toBank(l.Bank, step.OpRefresh, step.LeaseBody{Lease: l.ID}, shown...)
}

// tickSettle follows the money once the pod is over, and now and then before: it gives the bank a Close that is due, and asks
// for receipts.
func (c *Consumer) tickSettle(ctx *step.Context, l *Lease, w *watch, wake *alarm) {
	if !l.Close.IsZero() && !l.Closed && w.closing.due(ctx.Now, wake) {
		c.sendClose(ctx, l, w)
	}
	if w.receipt.next == 0 && !c.settling(ctx, l) {
		w.receipt.next = ctx.Now + span(ctx, member.HourMinutes)
	}
	if c.settling(ctx, l) && w.receipt.n == 0 {
		w.receipt.next = min(w.receipt.next, ctx.Now)
	}
	if w.receipt.due(ctx.Now, wake) {
		c.askReceipt(ctx, l, w)
	}
}

// settling reports whether the bank's last receipt is awaited.
func (c *Consumer) settling(ctx *step.Context, l *Lease) bool {
	gone := l.Refused != nil || l.Reason == market.ReasonHost || ctx.Now >= l.Heard+span(ctx, goneAfter) // who will not, or cannot, be told the last entry
	return l.Final || l.Closed || l.State == market.StateEnded && gone
}

func (c *Consumer) sendClose(ctx *step.Context, l *Lease, w *watch) {
	w.closing.busy = true
	objects := []wire.Object{l.Close}
	if v := c.vouchers.Get(l.ID); v != nil {
		objects = append(objects, *v)
	}
	lease := l.ID
	c.ask(ctx, toBank(l.Bank, step.OpClose, nil, objects...), func(ctx *step.Context, r step.Response) {
		l := c.leases.Get(lease)
		if l == nil {
			return
		}
		w.closing.failed(ctx.Now, member.Second, 16*ctx.Clock.Slot)
		if r.Err == nil || no(r.Err) {
			l.Closed = true
			c.leases.Touch(lease)
		}
	})
}

func (c *Consumer) askReceipt(ctx *step.Context, l *Lease, w *watch) {
	w.receipt.busy = true
	lease := l.ID
	c.ask(ctx, toBank(l.Bank, step.OpReceipt, step.LeaseBody{Lease: lease}), func(ctx *step.Context, r step.Response) {
		l := c.leases.Get(lease)
		if l == nil || l.Done {
			return
		}
		if c.settling(ctx, l) {
			w.receipt.failed(ctx.Now, hurry, 32*ctx.Clock.Slot)
		} else {
			w.receipt = retry{next: ctx.Now + span(ctx, member.HourMinutes)}
		}
		if r.Err == nil {
			if c.takeReservation(ctx, l, r.Objects) {
				c.vouch(ctx, l)
			}
			c.takeReceipt(ctx, l, r.Objects)
		}
	})
}

// takeReceipt keeps the bank's word on what the host was paid. The one that releases the reservation is the last.
func (c *Consumer) takeReceipt(ctx *step.Context, l *Lease, objects []wire.AnyVerified) {
	v, ok := step.Find[ledger.SettleReceipt](objects)
	s := v.Value()
	if !ok || s.Operator != l.Bank || s.Host != l.Host || s.Lease != l.ID || s.Reservation != l.Reservation || s.Paid < l.Paid {
		return
	}
	if s.Paid > l.Signed && l.Paid <= l.Signed && l.attends() {
		kind, text := "bank.overpaid", "%s: the bank paid %s of this account; this node signed for %s"
		if s.Paid <= c.provable(ctx, l) {
			kind, text = "receipts.paid", "%s: the bank paid %s of this account, on witnesses' receipts what is over %s; this node is about to check them"
		}
		ctx.Notify(kind, l.ID, fmt.Sprintf(text, c.nameOf(l), s.Paid.Text(), l.Signed.Text()))
	}
	if s.Paid != l.Paid || s.Released || l.Receipt.IsZero() {
		l.Paid, l.Receipt = s.Paid, v.Object()
		c.leases.Touch(l.ID)
	}
	// What is not final for this node may have been so for the bank: an order that was given up on both sides.
	if !s.Released {
		return
	}
	if l.State != market.StateEnded {
		l.State, l.Since = market.StateEnded, ctx.Now
		c.tell(ctx, l)
	}
	c.dismiss(ctx, l)
	l.Done, l.Pending = true, nil
	delete(c.watches, l.ID)
	ctx.Notify("lease.settled", l.ID, fmt.Sprintf("%s: settled at %s", c.nameOf(l), l.Paid.Text()), "paid", l.Paid.String())
}

// dismiss answers the commands that wait for the host of a lease that is over.
func (c *Consumer) dismiss(ctx *step.Context, l *Lease) {
	w := c.watch(l.ID)
	for _, u := range w.waiters {
		if l.Pending != nil && l.Pending.Order == market.CommandStart {
			ctx.Answer(u.id, nil, step.Fail(step.ProblemConflict, "", "the lease has ended"))
			continue
		}
		order := market.CommandRemove
		if l.Pending != nil {
			order = l.Pending.Order
		}
		ctx.Answer(u.id, Ordered{Lease: l.ID, Name: c.nameOf(l), Order: order.String(), Done: true, Note: "it has ended"}, nil)
	}
	w.waiters = nil
}
