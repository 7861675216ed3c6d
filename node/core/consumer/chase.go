package consumer

import (
	"souk/node/core/step"
	"souk/p2p/wire"
)

// resume takes up an order after a restart. Until this node has accepted, nobody owes anybody anything: it gives up.
func (c *Consumer) resume(ctx *step.Context, bid wire.ID, o *Order) {
	switch o.Stage {
	case StageNew, StageAsked, StageReserving:
		if o.Stage != StageNew {
			c.undo(ctx, o, o.Stage == StageReserving)
		}
		c.fail(ctx, o, step.Fail(step.ProblemOther, "order again", "this node was restarted before the lease was agreed"))
	case StageAccepting:
		c.flight(bid).n = 1 // the acceptance may have arrived: ask before anything else
	}
}

// tickOrder asks on, tells a user who has waited long enough, undoes what is to be undone and forgets old failures.
func (c *Consumer) tickOrder(ctx *step.Context, bid wire.ID, wake *alarm) {
	o := c.orders.Get(bid)
	if f := c.flights[bid]; o.Stage == StageAsked && f != nil && f.due(ctx.Now, wake) {
		c.askQuote(ctx, o)
	}
	if o.Stage == StageAccepting {
		c.chase(ctx, o, wake)
	}
	c.tickLoose(ctx, o, wake)
	if o.Stage == StageFailed && len(o.Loose) == 0 {
		if ctx.Now >= o.Since+keepFails {
			c.orders.Delete(bid)
			return
		}
		wake.at(o.Since + keepFails)
	}
}

// chase finds out what became of an acceptance.
func (c *Consumer) chase(ctx *step.Context, o *Order, wake *alarm) {
	f := c.flight(o.Run.Bid)
	if len(f.waiters) > 0 {
		if ctx.Now >= o.Since+patience {
			p := step.Fail(step.ProblemUnreachable, "'souk ps' shows what becomes of it; 'souk rm' gives it up",
				"%s has this node's signature and has not answered; asking on", c.hostName(o.Host))
			for _, id := range f.waiters {
				ctx.Answer(id, nil, p)
			}
			f.waiters = nil
		} else {
			wake.at(o.Since + patience)
		}
	}
	if o.Cancelled && ctx.Now >= o.Since+span(ctx, goneAfter) {
		c.undo(ctx, o, true)
		c.fail(ctx, o, step.Fail(step.ProblemUnreachable, "", "given up: %s never answered", c.hostName(o.Host)))
		return
	}
	if !f.due(ctx.Now, wake) {
		return
	}
	// First ask: the acceptance may have arrived. If it has not, it can be repeated until the quote runs out.
	if f.n != 1 && ctx.Now < o.Agreed.Expires {
		c.accept(ctx, o)
		return
	}
	f.busy = true
	body := step.LeaseBody{Lease: o.Lease}
	c.onOrder(ctx, o, toHost(o.Host, step.OpGetLease, body).within(shortly), c.accepted)
}
