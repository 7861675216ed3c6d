package consumer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/wire"
)

// view is what a user sees of an order and its lease.
func (c *Consumer) view(ctx *step.Context, o *Order) View {
	r := &o.Run
	v := View{
		Lease: o.Lease, Bid: r.Bid, Name: o.Name, Host: o.Host, Alias: c.hostName(o.Host), Type: r.Type, Model: o.Model, GPUs: r.GPUs,
		Rate: o.Agreed.Rate, Tariff: o.Agreed.Tariff, State: o.Stage.String(), Desire: "run", Created: o.At, Since: o.Since,
		Image: cmp.Or(r.Spec.Tag, r.Spec.Image), Digest: r.Spec.Digest(), Command: r.Spec.Command, Budget: r.Budget, Limit: r.Minutes,
		Disk: r.Spec.Disk, Volume: r.Spec.Volume, Mount: r.Spec.Mount, Simulated: o.Agreed.Simulated,
	}
	if o.Cancelled {
		v.Desire = "end"
	}
	if o.Failed != nil {
		v.Detail = o.Failed.Text
	}
	if l := c.leases.Get(o.Lease); l != nil {
		c.viewLease(ctx, l, &v)
	}
	return v
}

func (c *Consumer) viewLease(ctx *step.Context, l *Lease, v *View) {
	t := c.termsOf(l)
	v.Rate, v.Tariff, v.Isolation, v.Simulated, v.HostKey = t.Rate, t.Tariff, t.Isolation, t.Simulated, t.SSHHostKey
	v.PerHour, v.Zero = perHour(l, t), l.Zero
	v.State, v.Reason, v.ExitCode, v.Detail, v.Since = l.State.String(), l.Reason.String(), l.ExitCode, l.Detail, l.Since
	v.Desire = desireNames[l.Desire]
	if l.Pending != nil {
		v.Pending, v.Lodged = l.Pending.Order.String(), l.LodgedSeq == l.Pending.Seq
	}
	v.Away = c.absence(l)
	v.Attendant, v.Principal = c.attendance(l), c.principal(l)
	if !l.own() { // how it is called where it was bought is not known here
		v.Image, v.Digest = t.Image, t.Image
	}
	v.Owed, v.Vouched, v.Paid, v.Cap, v.Settled = l.Place.Meter.Owed(), l.Signed, l.Paid, l.Cap, l.Done
	v.Minutes, v.Stored, v.Starts, v.Refused = l.Minutes, l.Stored, l.Starts, l.Refused
	v.Wiped = l.wiped()
	v.Heard, v.Reachable = l.Heard, ctx.Now < l.Heard+silence(ctx, l)
	if w := c.watches[l.ID]; w != nil {
		v.Pulled, v.PullSize = w.pulled, w.pullSize
	}
}

var desireNames = [...]string{"", "run", "stop", "end"}

// perHour is what a lease costs in the state that it is in.
func perHour(l *Lease, t market.Terms) ledger.Rate {
	status := ledger.StatusSetup
	switch l.State {
	case market.StateRunning:
		status = ledger.StatusRunning
		if l.Zero {
			status = ledger.StatusZero
		}
	case market.StateStopped, market.StateOutbid, market.StateExited:
		status = ledger.StatusStopped
	}
	r, _ := t.Tariff.Rate(status)
	return r
}

// list is all orders and leases, oldest first.
func (c *Consumer) list(ctx *step.Context, all bool) []View {
	out := []View{}
	for _, bid := range c.orders.Keys() {
		o := c.orders.Get(bid)
		if all || o.underway() || o.Stage == StageLeased && !c.over(o.Lease) {
			out = append(out, c.view(ctx, o))
		}
	}
	slices.SortStableFunc(out, func(a, b View) int { return cmp.Compare(a.Created, b.Created) })
	return out
}

func (c *Consumer) show(ctx *step.Context, id uint64, lease wire.ID) {
	if o := c.orderOf(lease); o != nil {
		ctx.Answer(id, c.view(ctx, o), nil)
		return
	}
	ctx.Answer(id, nil, step.Fail(step.ProblemNotFound, "'souk ps -a' lists them", "no lease %s", lease.Short()))
}

// resolve finds what a user means: a name, or the beginning of an id. What is not over goes before what is.
func (c *Consumer) resolve(ctx *step.Context, id uint64, ref string) {
	var live, old []View
	prefix := strings.ToLower(ref)
	for _, v := range c.list(ctx, true) {
		if ref == "" || v.Name != ref && !strings.HasPrefix(v.Lease.String(), prefix) {
			continue
		}
		if v.State == market.StateEnded.String() || v.State == StageFailed.String() && v.Vouched == 0 && c.leases.Get(v.Lease) == nil {
			old = append(old, v)
		} else {
			live = append(live, v)
		}
	}
	if named := slices.DeleteFunc(slices.Clone(live), func(v View) bool { return v.Name != ref }); len(named) > 0 {
		live = named
	}
	if len(live) == 0 {
		live = old
	}
	switch len(live) {
	case 0:
		ctx.Answer(id, nil, step.Fail(step.ProblemNotFound, "'souk ps -a' lists them", "no pod %q", ref))
	case 1:
		ctx.Answer(id, live[0], nil)
	default:
		var which []string
		for _, v := range live[:min(len(live), 8)] {
			which = append(which, fmt.Sprintf("%s (%s, %s)", v.Lease.String()[:12], v.Name, v.State))
		}
		ctx.Answer(id, nil, step.Fail(step.ProblemUsage, "give more of the id", "%q may be any of %s", ref, strings.Join(which, ", ")))
	}
}

// papers are what a bill rests on.
func (c *Consumer) papers(ctx *step.Context, id uint64, lease wire.ID) {
	o := c.orderOf(lease)
	if o == nil {
		c.show(ctx, id, lease)
		return
	}
	d := Documents{View: c.view(ctx, o), Quote: o.Quote, Terms: o.Terms, Cert: o.Cert, Reservation: o.Reserved, Spec: o.Run.Spec}
	if l := c.leases.Get(o.Lease); l != nil {
		d.Reservation, d.Receipt = l.Reserved, l.Receipt
		if v := c.vouchers.Get(l.ID); v != nil {
			d.Voucher = *v
		}
		if t := c.trusts.Get(l.ID); t != nil {
			d.Mandate, d.Panel = t.Object, t.Panel
		}
		if l.Refused != nil {
			d.Refused = l.Refused.Entry
		}
	}
	ctx.Answer(id, d, nil)
}

// balance asks the bank and adds what this node's own pods cost.
func (c *Consumer) balance(ctx *step.Context, id uint64) {
	bank := c.w.Bank()
	if bank.IsZero() {
		ctx.Answer(id, nil, noBank())
		return
	}
	c.ask(ctx, toBank(bank, step.OpBalance, nil).within(shortly), func(ctx *step.Context, r step.Response) {
		if r.Err != nil {
			ctx.Answer(id, nil, step.FromFailure(r.Err, "the bank"))
			return
		}
		b, err := step.Body[step.BalanceAnswer](r.Body)
		if err != nil {
			ctx.Answer(id, nil, step.Fail(step.ProblemVerify, "", "the bank's answer cannot be read: %v", err))
			return
		}
		a := Account{BalanceAnswer: b, Bank: bank}
		for _, lease := range c.leases.Keys() {
			l := c.leases.Get(lease)
			if r := perHour(l, c.termsOf(l)); l.own() && !l.Done && r > 0 {
				a.Running++
				a.PerHour += r
			}
		}
		a.Lasts = lasts(ledger.Amount(b.Available)+ledger.Amount(b.Reserved), ledger.Amount(a.PerHour))
		ctx.Answer(id, a, nil)
	})
}
