package consumer

import (
	"fmt"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// pending is a command that the host may not have yet. A later one takes its place.
type pending struct {
	Seq    uint64             `cbor:"1,keyasint"`
	Order  market.CommandKind `cbor:"2,keyasint"`
	At     member.Time        `cbor:"3,keyasint"`
	Object wire.Object        `cbor:"4,keyasint"` // a draft
	Zero   bool               `cbor:"5,keyasint"` // of a start: without GPUs
}

// command takes a Stop, Start or Remove.
func (c *Consumer) command(ctx *step.Context, id uint64, lease wire.ID, order market.CommandKind, zero bool) {
	l := c.leases.Get(lease)
	if l == nil {
		c.commandOrder(ctx, id, lease, order)
		return
	}
	out := Ordered{Lease: lease, Name: c.nameOf(l), Order: order.String(), Done: true}
	if note, p := c.needless(l, order); p != nil || note != "" {
		out.Note = note
		answer(ctx, id, out, p)
		return
	}
	w := c.watch(lease)
	if l.Pending == nil || l.Pending.Order != order {
		c.issue(ctx, l, order, zero)
	}
	w.waiters = append(w.waiters, waiter{id, l.Pending.Seq, ctx.Now + shortly})
	w.order.next = min(w.order.next, ctx.Now)
}

func answer(ctx *step.Context, id uint64, v any, p *step.Problem) {
	if p != nil {
		ctx.Answer(id, nil, p)
		return
	}
	ctx.Answer(id, v, nil)
}

// commandOrder takes a command about something that is no lease yet.
func (c *Consumer) commandOrder(ctx *step.Context, id uint64, lease wire.ID, order market.CommandKind) {
	o := c.orderOf(lease)
	switch {
	case o == nil:
		ctx.Answer(id, nil, step.Fail(step.ProblemNotFound, "'souk ps -a' lists them", "no lease %s", lease.Short()))
		return
	case o.Stage == StageLeased:
		c.command(ctx, id, o.Lease, order, false)
		return
	case o.Stage == StageFailed:
		ctx.Answer(id, Ordered{Lease: lease, Name: o.Name, Order: order.String(), Done: true, Note: "it never became a lease"}, nil)
		return
	case order != market.CommandRemove:
		ctx.Answer(id, nil, step.Fail(step.ProblemConflict, "", "%s is not agreed yet", o.Name))
		return
	}
	out := Ordered{Lease: lease, Name: o.Name, Order: order.String(), Done: true}
	o.Cancelled = true
	c.orders.Touch(o.Run.Bid)
	if o.Stage == StageAccepting {
		out.Done, out.Note = false, "this node has signed already: the lease will be ended as soon as the host answers"
	} else {
		if o.Stage != StageNew {
			c.undo(ctx, o, o.Stage == StageReserving)
		}
		c.fail(ctx, o, step.Fail(step.ProblemOther, "", "given up before it was agreed"))
	}
	ctx.Answer(id, out, nil)
}

// needless says why a command has nothing to do, or may not be given.
func (c *Consumer) needless(l *Lease, order market.CommandKind) (string, *step.Problem) {
	if !l.own() {
		return "", step.Fail(step.ProblemConflict, "give the order on the node that bought it",
			"%s is a pod of %s; this node only attends it", c.nameOf(l), c.hostName(l.Principal))
	}
	return l.needless(order)
}

func (l *Lease) needless(order market.CommandKind) (string, *step.Problem) {
	over := l.Final || l.State == market.StateEnded || l.Done
	switch {
	case order == market.CommandRemove && over:
		return "it has ended", nil
	case order == market.CommandRevoke && (over || l.Pending != nil):
		return "", step.Fail(step.ProblemConflict, "try again in a moment", "another order for this pod is on its way")
	case order == market.CommandRevoke:
		return "", nil
	case order == market.CommandRemove || l.Pending != nil && !over:
		return "", nil
	case over:
		return "", step.Fail(step.ProblemConflict, "", "the lease has ended")
	case l.Desire == market.DesireEnd:
		return "", step.Fail(step.ProblemConflict, "", "the lease is being removed")
	case order == market.CommandStop && l.State == market.StateStopped && l.Desire == market.DesireStop:
		return "it is stopped", nil
	case order == market.CommandStart && l.Refused != nil:
		return "", step.Fail(step.ProblemVerify, "'souk bill show' tells what was wrong; 'souk rm' ends the lease",
			"this node refused to pay its host on (%s)", l.Refused.Code)
	case order == market.CommandStart && l.State.Owns() && l.Desire == market.DesireRun:
		return "it is running", nil
	}
	return "", nil
}

// issue signs a command. It is durable before it leaves, and stays so until the host has it.
func (c *Consumer) issue(ctx *step.Context, l *Lease, order market.CommandKind, zero bool) {
	l.Commands++
	draft := wire.Draft(market.Command{
		Consumer: ctx.Self, Host: l.Host, Lease: l.ID, Seq: l.Commands, Order: order, Zero: zero, Minute: ctx.Minute(), At: ctx.Now,
	})
	ctx.Guard(chain("command", l.ID), l.Commands, draft)
	l.Pending = &pending{l.Commands, order, ctx.Now, draft, zero}
	switch order {
	case market.CommandStart:
		l.Desire = market.DesireRun
		l.Orders++
		l.Ordered++
	case market.CommandStop:
		l.Desire = market.DesireStop
	case market.CommandRemove:
		l.Desire = market.DesireEnd
	}
	c.leases.Touch(l.ID)
	w := c.watch(l.ID)
	w.order, w.lodging, w.ready = retry{}, retry{}, false
}

// tickCommand sends the pending command, answers users who have waited long enough, and closes a lease whose host is gone.
func (c *Consumer) tickCommand(ctx *step.Context, l *Lease, w *watch, wake *alarm) {
	if l.Pending == nil {
		w.lodging = retry{}
	}
	keep := w.waiters[:0]
	for _, u := range w.waiters {
		if ctx.Now < u.until {
			wake.at(u.until)
			keep = append(keep, u)
		} else {
			c.later(ctx, l, u)
		}
	}
	w.waiters = keep
	if at := l.endBy(ctx); at != 0 && ctx.Now < at {
		wake.at(at)
	} else if at != 0 {
		c.closeLease(ctx, l)
	}
	if l.Pending == nil || !w.order.due(ctx.Now, wake) {
		return
	}
	w.order.busy = true
	if l.Pending.Order == market.CommandStart && !w.ready {
		c.prepareStart(ctx, l, w)
		return
	}
	c.sendCommand(ctx, l, w)
}

// endBy is when this node closes a lease that it wants removed, unless its host has ended it by then: whether that is silent, hears
// no orders, refuses this one, or has said that it is carried out. 0: it need not.
func (l *Lease) endBy(ctx *step.Context) member.Time {
	switch {
	case l.Desire != market.DesireEnd || !l.Close.IsZero() || l.Final:
		return 0
	case l.Pending != nil && l.Pending.Order == market.CommandRemove:
		return l.Pending.At + span(ctx, goneAfter)
	case l.StopMinute > 0:
		return ctx.Clock.Tick(l.StopMinute) + span(ctx, goneAfter)
	}
	return 0
}

// later tells a user that a command is kept.
func (c *Consumer) later(ctx *step.Context, l *Lease, u waiter) {
	order := market.CommandStop
	if l.Pending != nil {
		order = l.Pending.Order
	}
	ctx.Answer(u.id, Ordered{Lease: l.ID, Name: c.nameOf(l), Order: order.String(),
		Note: fmt.Sprintf("%s does not answer; it will be carried out when the host is back%s", c.hostName(l.Host), l.lodgedNote())}, nil)
}

// prepareStart has the bank raise the reservation before a pod is started again.
func (c *Consumer) prepareStart(ctx *step.Context, l *Lease, w *watch) {
	lease, seq := l.ID, l.Pending.Seq
	c.ask(ctx, c.refresh(l).within(shortly), func(ctx *step.Context, r step.Response) {
		l := c.leases.Get(lease)
		if l == nil || l.Pending == nil || l.Pending.Seq != seq {
			return
		}
		w.order.busy = false
		if r.Err != nil {
			if no(r.Err) || !c.covers(ctx, l, ctx.Policy.ReserveLeast) {
				c.dropCommand(ctx, l, w, fundsProblem(r.Err))
				return
			}
		} else {
			c.takeReservation(ctx, l, r.Objects)
			c.takeReceipt(ctx, l, r.Objects)
		}
		if !c.covers(ctx, l, ctx.Policy.StopFunds) {
			c.dropCommand(ctx, l, w, step.Fail(step.ProblemFunds, "'souk balance' shows the account",
				"%s is left for this lease, too little for %d minutes", (l.Cap-l.Place.Meter.Owed()).Text(), ctx.Policy.StopFunds))
			return
		}
		w.ready = true
	})
}

// covers reports whether what is set aside pays so many more running minutes, or all that the budget leaves.
func (c *Consumer) covers(ctx *step.Context, l *Lease, minutes uint32) bool {
	t := c.termsOf(l)
	if t.Minutes > 0 {
		minutes = uint32(min(uint64(minutes), t.Minutes+1-min(l.Minutes, t.Minutes)))
	}
	need := costOf(ctx, dearest(t.Tariff), uint64(minutes))
	left := l.Cap - l.Place.Meter.Owed()
	if t.Budget > 0 && l.Cap >= t.Budget {
		return left > 0
	}
	return left >= need
}

func (c *Consumer) sendCommand(ctx *step.Context, l *Lease, w *watch) {
	lease, seq := l.ID, l.Pending.Seq
	objects := []wire.Object{l.Pending.Object}
	if l.Pending.Order == market.CommandStart {
		objects = append(objects, l.Reserved)
	}
	c.ask(ctx, toHost(l.Host, step.OpCommand, nil, objects...).within(shortly), func(ctx *step.Context, r step.Response) {
		l := c.leases.Get(lease)
		if l == nil || l.Pending == nil || l.Pending.Seq != seq {
			return
		}
		w.order.busy = false
		if r.Err == nil {
			c.heard(ctx, l, w)
		}
		switch {
		case r.Err == nil && (l.Refused == nil || l.Pending.Order != market.CommandRevoke || w.lodged(l)):
			c.carriedOut(ctx, l, w, seq)
		case r.Err == nil: // a host that this node has fallen out with may say so to it, and not to the bank
			w.order.failed(ctx.Now, member.Second, ctx.Clock.Slot)
			c.lodge(ctx, l, w)
		case !no(r.Err):
			w.order.failed(ctx.Now, member.Second, max(ctx.Clock.Slot, 30*member.Second))
			c.lodge(ctx, l, w)
		case l.Pending.Order == market.CommandRemove && r.Err.Refusal.Code == step.RefuseUnknown:
			c.closeLease(ctx, l) // the host knows nothing of it any more
			c.carriedOut(ctx, l, w, seq)
		case l.Pending.Order != market.CommandStart && r.Err.Refusal.Code != step.RefuseState && r.Err.Refusal.Code != step.RefuseUnknown:
			// No host may say no to an end: the bank hears of it.
			w.order.failed(ctx.Now, member.Second, max(ctx.Clock.Slot, 30*member.Second))
			c.lodge(ctx, l, w)
		case r.Err.Refusal.Code == step.RefuseUnpaid && l.Refused == nil && w.order.n < payTries:
			// It wants what it has only now counted paid first: ask for the entries, sign, and order again.
			w.order.failed(ctx.Now, member.Second, ctx.Clock.Slot)
			w.alive = 0
		case l.Pending.Order == market.CommandRemove, l.Pending.Order != market.CommandStart && !w.lodged(l):
			// Nor is one believed that says there is nothing to end, before the bank has heard of it. A removal stays until this node
			// closes the lease.
			for _, u := range w.waiters {
				ctx.Answer(u.id, nil, step.FromFailure(r.Err, c.hostName(l.Host)))
			}
			w.waiters = nil
			w.order.failed(ctx.Now, member.Second, ctx.Clock.Slot)
			c.lodge(ctx, l, w)
		case l.Pending.Order == market.CommandRevoke: // for the bank it is
			c.carriedOut(ctx, l, w, seq)
		default:
			c.dropCommand(ctx, l, w, step.FromFailure(r.Err, c.hostName(l.Host)))
		}
	})
}

// carriedOut is when the host has a command.
func (c *Consumer) carriedOut(ctx *step.Context, l *Lease, w *watch, seq uint64) {
	p := l.Pending
	l.Pending = nil
	switch p.Order {
	case market.CommandRevoke:
		c.revoked(ctx, l, ctx.Clock.Minute(ctx.Now+skew(ctx)))
	case market.CommandStart:
		l.StopMinute, l.Zero = 0, p.Zero
		if !l.State.Owns() {
			// The host has taken it on. Until it tells more, whoever waits must not take the pod for one that stays down.
			l.State, l.Reason, l.Since = market.StateCertified, market.ReasonNone, ctx.Now
			w.applied = ctx.Now
		}
	default:
		l.StopMinute = ctx.Clock.Minute(ctx.Now + skew(ctx))
		if n := len(l.Ran); n > 0 {
			l.Ran[n-1].ended(l.StopMinute, market.ReasonConsumer)
		}
	}
	c.leases.Touch(l.ID)
	for _, u := range w.waiters {
		ctx.Answer(u.id, Ordered{Lease: l.ID, Name: c.nameOf(l), Order: p.Order.String(), Done: u.seq <= seq}, nil)
	}
	w.waiters, w.alive = nil, 0
}

// dropCommand is when the host or the bank says no to one.
func (c *Consumer) dropCommand(ctx *step.Context, l *Lease, w *watch, p *step.Problem) {
	was, order := l.Pending, l.Pending.Order
	l.Pending = nil
	switch order {
	case market.CommandStart:
		l.Desire = market.DesireStop
		l.Orders -= min(l.Orders, 1)
		l.Ordered--
	case market.CommandStop, market.CommandRemove:
		l.StopMinute = ctx.Clock.Minute(was.At + skew(ctx)) // it may say no, and knows all the same
		if l.LodgedSeq == was.Seq {
			l.StopMinute = max(l.StopMinute, l.RunUntil)
		}
	}
	c.leases.Touch(l.ID)
	if len(w.waiters) == 0 {
		ctx.Notify("lease.command", l.ID, fmt.Sprintf("%s: %s was refused: %s", c.nameOf(l), order, p.Text))
	}
	for _, u := range w.waiters {
		ctx.Answer(u.id, nil, p)
	}
	w.waiters = nil
}

// closeLease tells the bank that the lease is over for this node, whatever the host says or does not say.
func (c *Consumer) closeLease(ctx *step.Context, l *Lease) {
	if !l.Close.IsZero() {
		return
	}
	l.Close = wire.Draft(ledger.Close{Consumer: ctx.Self, Lease: l.ID, Reservation: l.Reservation, Total: l.Signed, At: ctx.Now})
	c.leases.Touch(l.ID)
	ctx.Notify("lease.closed", l.ID, c.nameOf(l)+": the host is gone or takes no orders; the bank is asked to release what is left")
}
