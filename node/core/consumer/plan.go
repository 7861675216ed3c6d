package consumer

import (
	"errors"
	"math"
	"math/bits"
	"slices"
	"strings"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// plan is what a Run would get, as Plan asks.
func (c *Consumer) plan(ctx *step.Context, id uint64, p Plan) {
	bank := c.w.Bank()
	found, implied, problem := c.find(ctx, p)
	if problem == nil && bank.IsZero() {
		problem = noBank()
	}
	if problem != nil {
		ctx.Answer(id, nil, problem)
		return
	}
	pr, err := propose(ctx, p, found[0])
	if err != nil {
		ctx.Answer(id, nil, step.Fail(step.ProblemOther, "", "the offer of %s cannot be priced: %v", pr.Host, err))
		return
	}
	pr.Offers, pr.Implied, pr.Bank = len(found), implied, bank
	q := toBank(bank, step.OpBalance, nil).within(hurry)
	c.ask(ctx, q, func(ctx *step.Context, r step.Response) {
		if b, err := step.Body[step.BalanceAnswer](r.Body); r.Err == nil && err == nil {
			pr.BankKnown, pr.Available = true, ledger.Amount(b.Available)
			pr.FundsFor = lasts(pr.Available, ledger.Amount(b.Burn)+ledger.Amount(pr.PerHour))
		}
		ctx.Answer(id, pr, nil)
	})
}

// Priced is what wins now, as far as signed offers tell.
type Priced struct {
	Quotes  []Quoted `json:"quotes"`
	Implied string   `json:"implied" doc:"conditions that were added to the query"`
	Minutes uint64   `json:"minutes" doc:"of the market, for which the totals are"`
}

// Quoted is the best offer for one kind of bid, or why there is none.
type Quoted struct {
	Type        market.BidKind   `json:"kind"`
	Host        identity.Address `json:"host,omitzero"`
	Alias       string           `json:"alias,omitempty"`
	Tier        string           `json:"tier,omitempty"`
	Reliability uint32           `json:"reliabilityPpm,omitempty"`
	New         bool             `json:"new,omitempty"`
	Region      string           `json:"region,omitempty"`
	Model       string           `json:"model,omitempty"`
	GPUs        uint16           `json:"gpus"`
	Simulated   bool             `json:"simulated,omitempty"`
	Rate        ledger.Rate      `json:"rate,omitzero" doc:"that wins now, per GPU-hour"`
	PerHour     ledger.Rate      `json:"perHour,omitzero" doc:"of all GPUs, disk and volume"`
	Total       ledger.Amount    `json:"total,omitzero" doc:"for the whole time, at this price"`
	Fit         int              `json:"fit" doc:"offers that would do"`
	Missing     string           `json:"missing,omitempty" doc:"why there is none"`
}

// price finds the best offer for each kind. What an offer says of spot is for one more GPU: of several, the host's quote may
// be higher.
func (c *Consumer) price(ctx *step.Context, p Price) (Priced, *step.Problem) {
	slot := uint64(ctx.Clock.Slot / member.Second)
	out := Priced{Quotes: []Quoted{}, Minutes: p.Seconds/slot + min(p.Seconds%slot, 1)}
	for _, kind := range []market.BidKind{market.OnDemand, market.Spot} {
		plan := Plan{Type: kind, Query: p.Query, GPUs: p.GPUs, Disk: p.Disk, Volume: p.Volume, Minutes: out.Minutes, Simulated: p.Simulated}
		found, implied, problem := c.find(ctx, plan)
		if problem != nil && problem.Code != step.ProblemNoOffer {
			return out, problem
		}
		q := Quoted{Type: kind, GPUs: p.GPUs}
		if out.Implied = implied; problem != nil {
			q.Missing = problem.Text
		} else if pr, err := propose(ctx, plan, found[0]); err != nil {
			q.Missing = err.Error()
		} else {
			q = Quoted{Type: kind, Host: pr.Host, Alias: pr.Alias, Tier: pr.Tier, Reliability: pr.Reliability, New: pr.New, Region: pr.Region,
				Model: pr.Model, GPUs: p.GPUs, Simulated: pr.Simulated, Rate: pr.Rate, PerHour: pr.PerHour, Total: costOf(ctx, pr.PerHour, out.Minutes),
				Fit: len(found)}
		}
		out.Quotes = append(out.Quotes, q)
	}
	return out, nil
}

// lasts is for how many seconds money pays an hourly cost; -1: for ever.
func lasts(have, perHour ledger.Amount) int64 {
	switch {
	case perHour <= 0:
		return -1
	case have <= 0:
		return 0
	}
	hours, rest := have/perHour, have%perHour
	if hours > math.MaxInt64/7200 {
		return -1
	}
	hi, lo := bits.Mul64(uint64(rest), 3600)
	seconds, _ := bits.Div64(hi, lo, uint64(perHour)) // rest is less than perHour, so it fits
	return int64(hours)*3600 + int64(seconds)
}

func noBank() *step.Problem {
	return step.Fail(step.ProblemTrust, "join a market first: souk join CODE", "no operator keeps an account for this node")
}

// find is the candidates for a plan, best first, and the conditions that nobody wrote.
func (c *Consumer) find(ctx *step.Context, p Plan) ([]market.Candidate, string, *step.Problem) {
	q, err := market.ParseQuery(p.Query)
	if err == nil {
		err = c.w.CheckQuery(q)
	}
	if err != nil {
		return nil, "", step.Fail(step.ProblemUsage, "souk offers --help lists the fields", "%s", strings.TrimPrefix(err.Error(), "market: "))
	}
	named := q
	if p.Simulated && !q.Names("simulated") {
		any, _ := market.ParseQuery("simulated=any")
		named = q.And(any)
	}
	implied := named.Implicit(ctx.Policy)
	want := market.Want{
		Host: p.Host, Type: p.Type, MaxRate: p.MaxRate, GPUs: p.GPUs, Model: p.Model, Query: q.And(implied), Disk: p.Disk, Volume: p.Volume,
		Minutes: p.Minutes, AllowSimulated: p.Simulated || q.Names("simulated"),
	}
	whatever := p.Type == market.Spot && p.MaxRate == 0
	if whatever {
		want.MaxRate = math.MaxInt64
	}
	found, miss := c.w.Match(want, ctx.Now)
	if miss != nil {
		return nil, implied.String(), noOffer(miss, implied)
	}
	for i := range found {
		if whatever {
			found[i].Pay = found[i].Cost
		}
	}
	return found, implied.String(), nil
}

func noOffer(m *market.Miss, implied market.Query) *step.Problem {
	text := strings.TrimPrefix(m.Error(), "market: ")
	hint := "ask for less, pay more, or wait: 'souk offers' lists what there is"
	if m.Live == 0 {
		hint = "hosts announce every few minutes; is a host up, and does 'souk status' show peers?"
	} else if !implied.IsZero() {
		hint += "; implied: " + implied.String() + " (lift one with FIELD=any)"
	}
	return step.Fail(step.ProblemNoOffer, hint, "%s", text)
}

// tariffOf is what a lease of an offer costs, at a rate per GPU-hour.
func tariffOf(o market.Offer, rate ledger.Rate, gpus uint16, disk, volume uint64) (t ledger.Tariff, err error) {
	var bad [4]error
	t.GPU, bad[0] = rate.Times(uint32(gpus))
	t.ZeroGPU = o.ZeroGPU
	t.DiskRunning, bad[1] = ledger.StorageRate(o.Disk, disk)
	t.VolumeRunning, bad[2] = ledger.StorageRate(o.Disk, volume)
	t.VolumeStopped, bad[3] = ledger.StorageRate(o.Stopped, volume)
	if err := errors.Join(bad[:]...); err != nil {
		return t, err
	}
	return t, t.Validate()
}

func propose(ctx *step.Context, p Plan, cand market.Candidate) (Proposal, error) {
	o, g := cand.Listing.Offer, cand.Listing.GPUs()
	pr := Proposal{
		Host: o.Host, Alias: cand.Listing.Alias, Tier: cand.Listing.Tier.String(), Reliability: cand.Listing.Reliability,
		New: cand.Listing.New, Region: o.Region, Type: p.Type, Model: g.Model, GPUs: p.GPUs, Simulated: g.Simulated,
		Rate: cand.Pay, Grace: max(o.Grace, ctx.Policy.Grace),
	}
	var err error
	if pr.Tariff, err = tariffOf(o, cand.Pay, p.GPUs, p.Disk, p.Volume); err != nil {
		return pr, err
	}
	pr.PerHour, _ = pr.Tariff.Rate(ledger.StatusRunning)
	pr.Stopped = pr.Tariff.VolumeStopped
	day := uint64(member.Day / ctx.Clock.Slot)
	pr.MostCost, pr.MostFor = costOf(ctx, pr.PerHour, day), "24h"
	if p.Minutes > 0 {
		pr.MostCost, pr.MostFor = costOf(ctx, pr.PerHour, p.Minutes+1), "duration"
	}
	if p.Budget > 0 && (p.Minutes == 0 || p.Budget < pr.MostCost) {
		pr.MostCost, pr.MostFor = p.Budget, "budget"
	}
	pr.AwayMost, pr.AwayFor, pr.AwayUsual = costOf(ctx, pr.PerHour, ledger.MaxUnattended), ledger.MaxUnattended*ctx.Clock.Seconds(), ctx.Charter.Testnet
	if p.Budget > 0 {
		pr.AwayMost = min(pr.AwayMost, p.Budget)
	}
	pr.Reserve = opening(ctx, pr.Tariff, limits{p.Minutes, p.Budget, market.OnEndStop})
	return pr, nil
}

// limits bound what a lease can cost.
type limits struct {
	minutes uint64
	budget  ledger.Amount
	onEnd   market.OnEnd
}

// opening is what the bank is first asked to set aside: the policy's minutes of the lease's cost, less if it will not cost
// so much.
func opening(ctx *step.Context, t ledger.Tariff, lim limits) ledger.Amount {
	rate := dearest(t)
	most := costOf(ctx, rate, uint64(ctx.Policy.ReserveOpen))
	if lim.minutes > 0 {
		run := costOf(ctx, rate, lim.minutes+1)
		if lim.onEnd == market.OnEndStop {
			if kept, err := run.Add(costOf(ctx, t.VolumeStopped, uint64(ctx.Policy.StoppedReserve))); err == nil {
				run = kept
			}
		}
		most = min(most, run)
	}
	if lim.budget > 0 {
		most = min(most, lim.budget)
	}
	return max(most, 1)
}

// dearest is the highest hourly rate that a lease can come to.
func dearest(t ledger.Tariff) ledger.Rate {
	run, _ := t.Rate(ledger.StatusRunning)
	zero, _ := t.Rate(ledger.StatusZero)
	return max(run, zero, t.VolumeStopped)
}

// wish is the plan that a run amounts to.
func (r *Run) wish() Plan {
	return Plan{Type: r.Type, Query: r.Query, Model: r.Model, GPUs: r.GPUs, MaxRate: r.MaxRate, Disk: r.Spec.Disk,
		Volume: r.Spec.Volume, Minutes: r.Minutes, Budget: r.Budget, Simulated: r.Simulated}
}

// candidates are the hosts that an order may ask next, the one that the user saw first.
func (c *Consumer) candidates(ctx *step.Context, o *Order) ([]market.Candidate, *step.Problem) {
	p := o.Run.wish()
	if o.Run.Only {
		p.Host = o.Run.Host
	}
	found, _, problem := c.find(ctx, p)
	if problem != nil {
		return nil, problem
	}
	tried := func(m market.Candidate) bool {
		h := m.Listing.Offer.Host
		return slices.Contains(o.Tried, h) || h == ctx.Self || h == o.Attendant || !o.affords(m)
	}
	found = slices.DeleteFunc(found, tried)
	seen := func(m market.Candidate) int {
		if m.Listing.Offer.Host == o.Run.Host {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(found, func(a, b market.Candidate) int { return seen(a) - seen(b) })
	if len(found) == 0 {
		return nil, step.Fail(step.ProblemNoOffer, "'souk offers' lists what there is", "no other offer fits")
	}
	return found, nil
}

// affords reports whether a candidate is no worse than what the order's first host offered.
func (o *Order) affords(m market.Candidate) bool {
	if len(o.Tried) == 0 {
		return true
	}
	t, err := tariffOf(m.Listing.Offer, m.Pay, o.Run.GPUs, o.Run.Spec.Disk, o.Run.Spec.Volume)
	if err != nil {
		return false
	}
	now, _ := t.Rate(ledger.StatusRunning)
	return now <= o.MostPerHour && t.VolumeStopped <= o.MostStopped && m.Listing.Offer.Grace >= o.LeastGrace
}

// hostName is what people call a host, or another member.
func (c *Consumer) hostName(who identity.Address) string {
	if m, _, ok := c.w.Credential(who); ok && m.Alias != "" {
		return m.Alias
	}
	return who.Short()
}
