package consumer

import (
	"fmt"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Stage is how far an order has come.
type Stage uint8

// The stages.
const (
	StageNew       Stage = 0 // its attendant is asked
	StageAsked     Stage = 1 // a host is asked for a quote
	StageReserving Stage = 2 // the bank is asked to set money aside for it
	StageAccepting Stage = 3 // this node has signed; the host has not, as far as is known
	StageLeased    Stage = 4 // both have signed
	StageFailed    Stage = 5
)

// String is what the stage is called in a View.
func (s Stage) String() string {
	switch s {
	case StageNew, StageAsked:
		return "requested"
	case StageReserving:
		return "reserving"
	case StageAccepting:
		return "accepting"
	case StageLeased:
		return "leased"
	case StageFailed:
		return "failed"
	}
	return "unknown"
}

// An Order is one Run on its way to a lease, and afterwards the contract that it came to.
type Order struct {
	Run         Run                `cbor:"1,keyasint"`
	At          member.Time        `cbor:"2,keyasint"`
	Stage       Stage              `cbor:"3,keyasint"`
	Since       member.Time        `cbor:"4,keyasint"` // of the stage
	Name        string             `cbor:"5,keyasint"`
	Lease       wire.ID            `cbor:"6,keyasint"` // of the attempt under way
	Reservation wire.ID            `cbor:"7,keyasint"`
	Host        identity.Address   `cbor:"8,keyasint"`
	Bank        identity.Address   `cbor:"9,keyasint"`
	Model       string             `cbor:"10,keyasint"`
	Agreed      agreement          `cbor:"11,keyasint"` // what the host's offer said when it was asked
	MostPerHour ledger.Rate        `cbor:"12,keyasint"` // of the first host: no later one may be dearer
	MostStopped ledger.Rate        `cbor:"13,keyasint"`
	LeastGrace  uint16             `cbor:"14,keyasint"`
	Tried       []identity.Address `cbor:"15,keyasint"`
	Quote       wire.Object        `cbor:"16,keyasint"`
	Terms       wire.Object        `cbor:"17,keyasint"` // a draft
	Reserved    wire.Object        `cbor:"18,keyasint"`
	Cert        wire.Object        `cbor:"19,keyasint"`
	Failed      *failure           `cbor:"20,keyasint"`
	Cancelled   bool               `cbor:"21,keyasint"` // the user gave it up while the host might already have agreed
	Loose       []loose            `cbor:"22,keyasint"` // attempts to be undone
	Attendant   identity.Address   `cbor:"23,keyasint"` // zero: this node attends
}

// An agreement is what a quote must not be worse than.
type agreement struct {
	Asked     member.Time   `cbor:"1,keyasint"`
	Rate      ledger.Rate   `cbor:"2,keyasint"`
	Tariff    ledger.Tariff `cbor:"3,keyasint"`
	Notice    uint16        `cbor:"4,keyasint"`
	Grace     uint16        `cbor:"5,keyasint"`
	Simulated bool          `cbor:"6,keyasint"`
	Expires   member.Time   `cbor:"7,keyasint"` // of the quote, by this node's clock
}

// A failure is a problem as it is kept.
type failure struct {
	Code step.ProblemCode `cbor:"1,keyasint"`
	Text string           `cbor:"2,keyasint"`
	Hint string           `cbor:"3,keyasint"`
}

func (f *failure) problem() *step.Problem {
	return &step.Problem{Code: f.Code, Text: f.Text, Hint: f.Hint}
}

// request is what the host is asked. It is the same whenever it is made from the same order.
func (o *Order) request(self identity.Address) market.Request {
	r := &o.Run
	by := o.Attendant
	if by.IsZero() {
		by = self
	}
	end := r.OnEnd
	if end == 0 {
		end = market.OnEndStop
	}
	return market.Request{
		Consumer: self, Host: o.Host, Lease: o.Lease, Bid: r.Bid, Reservation: o.Reservation, Type: r.Type, Model: o.Model,
		GPUs: r.GPUs, Rate: o.Agreed.Rate, Spec: r.Spec, Minutes: r.Minutes, Budget: r.Budget, OnEnd: end,
		Resume: r.Type == market.Spot && !r.NoResume, By: by, At: o.Agreed.Asked,
	}
}

// underway reports whether the order may still become a lease.
func (o *Order) underway() bool { return o.Stage < StageLeased }

// orderOf is the order that a lease id belongs to: that of the Run, or that of a later attempt.
func (c *Consumer) orderOf(lease wire.ID) *Order {
	for _, bid := range c.orders.Keys() {
		if o := c.orders.Get(bid); o.Lease == lease || o.Run.Lease == lease {
			return o
		}
	}
	return nil
}

func (c *Consumer) flight(bid wire.ID) *flight {
	f := c.flights[bid]
	if f == nil {
		f = &flight{}
		c.flights[bid] = f
	}
	return f
}

// run begins an order, or tells how the same one fares.
func (c *Consumer) run(ctx *step.Context, id uint64, r Run) {
	if o := c.orderOf(r.Lease); o != nil {
		c.await(ctx, id, o)
		return
	}
	if p := c.admissible(ctx, &r); p != nil {
		ctx.Answer(id, nil, p)
		return
	}
	o := &Order{Run: r, At: ctx.Now, Name: r.Name, Bank: c.w.Bank(), Lease: r.Lease, Since: ctx.Now}
	if o.Name == "" {
		o.Name = c.freeName(r.Lease)
	}
	if r.Attendant != "" {
		var p *step.Problem
		if o.Attendant, p = c.attendantOf(ctx, r.Attendant); p != nil {
			ctx.Answer(id, nil, p)
			return
		}
	}
	if _, p := c.candidates(ctx, o); p != nil {
		ctx.Answer(id, nil, c.betterWord(&r, p))
		return
	}
	o = c.orders.Put(r.Bid, *o)
	c.flight(r.Bid).waiters = []uint64{id}
	if o.Attendant.IsZero() {
		c.first(ctx, o)
	} else {
		c.askAttendant(ctx, o)
	}
}

// first asks the first host.
func (c *Consumer) first(ctx *step.Context, o *Order) {
	found, p := c.candidates(ctx, o)
	if p != nil {
		c.fail(ctx, o, c.betterWord(&o.Run, p))
		return
	}
	if err := c.attempt(ctx, o, found[0], o.Run.Lease, o.Run.Reservation); err != nil {
		c.fail(ctx, o, step.Fail(step.ProblemUsage, "", "%v", err))
	}
}

// admissible refuses a Run before any host hears of it.
func (c *Consumer) admissible(ctx *step.Context, r *Run) *step.Problem {
	switch err := r.check(); {
	case err != nil:
		return step.Fail(step.ProblemUsage, "", "%v", err)
	case c.orders.Get(r.Bid) != nil:
		return step.Fail(step.ProblemConflict, "", "bid %s is another lease's", r.Bid.Short())
	case c.w.Bank().IsZero():
		return noBank()
	}
	if err := c.w.Standing(ctx.Self, ctx.Now); err != nil {
		return step.Fail(step.ProblemTrust, "'souk status' tells where this node stands", "this node may not buy: %v", err)
	}
	if r.Name != "" && c.named(r.Name) {
		return step.Fail(step.ProblemConflict, "choose another, or remove that one", "a pod named %q is there already", r.Name)
	}
	return nil
}

// betterWord says of a host that was agreed on and now asks more what it asks.
func (c *Consumer) betterWord(r *Run, p *step.Problem) *step.Problem {
	f, ok := c.w.Offer(r.Host)
	if r.Host.IsZero() || !ok || r.Type != market.OnDemand {
		return p
	}
	for _, g := range f.Groups {
		if (r.Model == "" || g.Model == r.Model) && g.Price > r.MaxRate {
			return dearer(c.hostName(r.Host), g.Price, r.MaxRate)
		}
	}
	return p
}

func dearer(host string, now, agreed ledger.Rate) *step.Problem {
	return step.Fail(step.ProblemConflict, "look at the new price and order again",
		"%s now asks %s per GPU-hour; agreed were %s", host, now.Text(), agreed.Text())
}

// named reports whether an order or a lease that is not over has this name.
func (c *Consumer) named(name string) bool {
	for _, bid := range c.orders.Keys() {
		if o := c.orders.Get(bid); o.Name == name && !c.foreign(o.Lease) && (o.underway() || o.Stage == StageLeased && !c.over(o.Lease)) {
			return true
		}
	}
	return false
}

func (c *Consumer) over(lease wire.ID) bool {
	l := c.leases.Get(lease)
	return l == nil || l.State == market.StateEnded || l.Done
}

func (c *Consumer) freeName(lease wire.ID) string {
	s := lease.String()
	for n := 6; n < len(s); n++ {
		if name := "pod-" + s[:n]; !c.named(name) {
			return name
		}
	}
	return "pod-" + s
}

// await answers a repeated Run, now or when the order is decided.
func (c *Consumer) await(ctx *step.Context, id uint64, o *Order) {
	switch {
	case o.Stage == StageFailed:
		ctx.Answer(id, nil, o.Failed.problem())
	case o.Stage == StageLeased:
		ctx.Answer(id, c.view(ctx, o), nil)
	default:
		f := c.flight(o.Run.Bid)
		f.waiters = append(f.waiters, id)
	}
}

// attempt asks one host.
func (c *Consumer) attempt(ctx *step.Context, o *Order, m market.Candidate, lease, reservation wire.ID) error {
	offer, g := m.Listing.Offer, m.Listing.GPUs()
	t, err := tariffOf(offer, m.Pay, o.Run.GPUs, o.Run.Spec.Disk, o.Run.Spec.Volume)
	if err != nil {
		return err
	}
	o.Lease, o.Reservation, o.Host, o.Model = lease, reservation, offer.Host, g.Model
	o.Agreed = agreement{Asked: ctx.Now, Rate: m.Pay, Tariff: t, Notice: offer.Notice, Grace: max(offer.Grace, ctx.Policy.Grace), Simulated: g.Simulated}
	o.Quote, o.Terms, o.Reserved = wire.Object{}, wire.Object{}, wire.Object{}
	if len(o.Tried) == 0 {
		o.MostPerHour, _ = t.Rate(ledger.StatusRunning)
		o.MostStopped, o.LeastGrace = t.VolumeStopped, offer.Grace
	}
	if err := o.request(ctx.Self).Validate(); err != nil {
		return err
	}
	o.Tried = append(o.Tried, o.Host)
	c.reach(ctx, o, StageAsked)
	ctx.Notify("lease.requested", o.Lease, fmt.Sprintf("%s: asking %s for %d × %s", o.Name, c.hostName(o.Host), o.Run.GPUs, o.Model),
		"host", o.Host.String(), "rate", o.Agreed.Rate.Text(), "kind", o.Run.Type.String())
	c.flight(o.Run.Bid).retry = retry{}
	c.askQuote(ctx, o)
	return nil
}

func (c *Consumer) askQuote(ctx *step.Context, o *Order) {
	f := c.flight(o.Run.Bid)
	f.busy, f.asked = true, ctx.Now
	q := toHost(o.Host, step.OpRequest, nil, wire.Draft(o.request(ctx.Self))).within(shortly)
	c.onOrder(ctx, o, q, c.quoted)
}

// queued reports whether a host only says no because it deals with another order of this node, and the order may wait.
func (c *Consumer) queued(ctx *step.Context, o *Order, f *step.Failure) bool {
	if f.Refusal == nil || f.Refusal.Code != step.RefuseCooldown || ctx.Now >= o.Since+patience {
		return false
	}
	for _, bid := range c.orders.Keys() {
		if p := c.orders.Get(bid); bid != o.Run.Bid && p.Host == o.Host && (p.underway() || ctx.Now < p.Since+hurry) {
			return true
		}
	}
	return false
}

// reach enters a stage.
func (c *Consumer) reach(ctx *step.Context, o *Order, s Stage) {
	o.Stage, o.Since = s, ctx.Now
	c.orders.Touch(o.Run.Bid)
}

// onOrder asks something for an attempt; the answer is dropped when the order has moved on meanwhile.
func (c *Consumer) onOrder(ctx *step.Context, o *Order, q question, then func(*step.Context, *Order, step.Response)) {
	bid, lease, stage := o.Run.Bid, o.Lease, o.Stage
	c.ask(ctx, q, func(ctx *step.Context, r step.Response) {
		if o := c.orders.Get(bid); o != nil && o.Lease == lease && o.Stage == stage {
			then(ctx, o, r)
		}
	})
}

// quoted takes a host's quote and has the bank set money aside for it.
func (c *Consumer) quoted(ctx *step.Context, o *Order, r step.Response) {
	if r.Err != nil && c.queued(ctx, o, r.Err) {
		c.flight(o.Run.Bid).failed(ctx.Now, member.Second, member.Second)
		return
	}
	if r.Err != nil {
		if !no(r.Err) {
			c.undo(ctx, o, false) // it may have held GPUs all the same
		}
		c.elsewhere(ctx, o, r.Err)
		return
	}
	q, ok := step.Find[market.Quote](r.Objects)
	if !ok {
		c.undo(ctx, o, false)
		c.fail(ctx, o, step.Fail(step.ProblemVerify, "", "%s answered without a quote", c.hostName(o.Host)))
		return
	}
	terms, p := c.checkQuote(ctx, o, q)
	if p != nil {
		c.undo(ctx, o, false)
		c.fail(ctx, o, p)
		return
	}
	o.Quote, o.Terms, o.Agreed.Expires = q.Object(), wire.Draft(terms), c.runsOut(o, q.Value())
	c.reach(ctx, o, StageReserving)
	ctx.Notify("lease.quoted", o.Lease, fmt.Sprintf("%s: %s quotes %s per GPU-hour", o.Name, c.hostName(o.Host), terms.Rate.Text()),
		"rate", terms.Rate.Text(), "wait", fmt.Sprint(q.Value().Wait))
	ask := c.reserve(ctx, o, terms)
	left := max(o.Agreed.Expires-ctx.Now, member.Second)
	c.onOrder(ctx, o, toBank(o.Bank, step.OpReserve, nil, wire.Draft(ask), o.Quote).within(left), c.reserved)
}

// reserve is what the bank is asked for.
func (c *Consumer) reserve(ctx *step.Context, o *Order, t market.Terms) ledger.Reserve {
	return ledger.Reserve{
		Consumer: ctx.Self, Reservation: o.Reservation, Lease: o.Lease, Host: o.Host, By: t.By, Quote: t.Quote,
		Cap: opening(ctx, t.Tariff, limits{t.Minutes, t.Budget, t.OnEnd}), MaxRate: dearest(t.Tariff), Budget: t.Budget, At: o.Since,
	}
}

// reserved takes the bank's reservation and accepts the quote.
func (c *Consumer) reserved(ctx *step.Context, o *Order, r step.Response) {
	if r.Err != nil {
		c.undo(ctx, o, true)
		c.fail(ctx, o, fundsProblem(r.Err))
		return
	}
	v, ok := step.Find[ledger.Reservation](r.Objects)
	terms, err := wire.Decode[market.Terms](o.Terms)
	if err == nil && ok {
		err = checkReservation(ctx, v.Value(), c.reserve(ctx, o, terms), o.Bank)
	}
	if err != nil || !ok {
		c.undo(ctx, o, true)
		c.fail(ctx, o, step.Fail(step.ProblemVerify, "", "the bank's reservation is not what was asked for: %v", err))
		return
	}
	if ctx.Now >= o.Agreed.Expires {
		c.undo(ctx, o, true)
		c.elsewhere(ctx, o, &step.Failure{Code: step.FailRefused, Refusal: step.Refuse(step.RefuseExpired, "the quote ran out while the bank was asked")})
		return
	}
	o.Reserved = v.Object()
	c.reach(ctx, o, StageAccepting)
	c.flight(o.Run.Bid).retry = retry{}
	ctx.Guard(chain("terms", o.Lease), terms.Seq, o.Terms)
	c.accept(ctx, o)
}

func chain(name string, id wire.ID) []byte { return append([]byte(name+"/"), id[:]...) }

func fundsProblem(f *step.Failure) *step.Problem {
	p := step.FromFailure(f, "the bank")
	if p.Code == step.ProblemFunds && p.Hint == "" {
		p.Hint = "'souk balance' shows the account; the operator books deposits"
	}
	return p
}

// accept sends, or sends again, this node's signature.
func (c *Consumer) accept(ctx *step.Context, o *Order) {
	c.flight(o.Run.Bid).busy = true
	body := step.AcceptBody{Quote: o.Quote.Ref(ctx.Market)}
	c.onOrder(ctx, o, toHost(o.Host, step.OpAccept, body, o.Terms, o.Reserved).within(shortly), c.accepted)
}

// accepted takes the host's signature. An answer that is neither yes nor no leaves the question open.
func (c *Consumer) accepted(ctx *step.Context, o *Order, r step.Response) {
	f := c.flight(o.Run.Bid)
	if r.Err == nil {
		if v, ok := step.Find[market.Cert](r.Objects); ok {
			if err := checkCert(ctx, o, v); err == nil {
				c.certify(ctx, o, v)
				return
			}
		}
		if v, ok := step.Find[ledger.NoLease](r.Objects); ok && v.By() == o.Host && v.Value().Lease == o.Lease {
			c.undo(ctx, o, true)
			o.Loose[len(o.Loose)-1].NoLease = v.Object()
			c.elsewhere(ctx, o, &step.Failure{Code: step.FailRefused, Refusal: step.Refuse(step.RefuseExpired, "the acceptance came too late")})
			return
		}
	} else if no(r.Err) {
		if !answersState(r.Err) || ctx.Now >= o.Agreed.Expires {
			c.undo(ctx, o, true)
			c.elsewhere(ctx, o, r.Err)
			return
		}
	}
	f.failed(ctx.Now, member.Second, ctx.Clock.Slot)
}

// no reports whether a failure is a peer's final word.
func no(f *step.Failure) bool {
	if f.Code != step.FailRefused || f.Refusal == nil {
		return false
	}
	switch f.Refusal.Code {
	case step.RefuseBusy, step.RefuseInternal, step.RefuseClock, step.RefuseBadHello:
		return false
	}
	return true
}

// answersState reports whether a refusal only says that there is no lease yet.
func answersState(f *step.Failure) bool {
	return f.Refusal.Code == step.RefuseUnknown || f.Refusal.Code == step.RefuseState
}

// elsewhere goes to the next host if this one's no is one that another may not give, and gives the order up otherwise.
func (c *Consumer) elsewhere(ctx *step.Context, o *Order, f *step.Failure) {
	p := step.FromFailure(f, c.hostName(o.Host))
	if o.Cancelled || len(o.Tried) >= attempts || !passing(f) {
		c.fail(ctx, o, p)
		return
	}
	found, none := c.candidates(ctx, o)
	if none != nil {
		c.fail(ctx, o, p)
		return
	}
	if err := c.attempt(ctx, o, found[0], ctx.ID(), ctx.ID()); err != nil {
		c.fail(ctx, o, p)
	}
}

// passing reports whether another host may well say yes.
func passing(f *step.Failure) bool {
	if f.Refusal == nil {
		return f.Code != step.FailInvalid
	}
	switch f.Refusal.Code {
	case step.RefuseNoGPUs, step.RefusePrice, step.RefuseExpired, step.RefuseWithdrawn, step.RefuseCooldown, step.RefuseBusy,
		step.RefuseUnknown, step.RefuseState, step.RefuseInternal:
		return true
	}
	return false
}

// fail gives an order up for good.
func (c *Consumer) fail(ctx *step.Context, o *Order, p *step.Problem) {
	o.Failed = &failure{p.Code, p.Text, p.Hint}
	c.reach(ctx, o, StageFailed)
	ctx.Notify("lease.failed", o.Lease, o.Name+": "+p.Text)
	for _, id := range c.flight(o.Run.Bid).waiters {
		ctx.Answer(id, nil, p)
	}
	delete(c.flights, o.Run.Bid)
}
