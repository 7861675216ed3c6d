package observer

import (
	"strings"

	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// Questions about what is on sale.
type (
	// Offers asks for the offers that fit a query. Answer: Listed.
	Offers struct {
		Query string
		Lift  bool   // no implicit conditions
		Sort  string // as market.ParseOrder reads it; empty: by price
		Limit int    // 0: all
		Quick bool   // do not count how many fit and are live
	}
	// Book asks for what can be had at which price. Answer: Depth.
	Book struct {
		Query string
		Lift  bool
		Depth int // levels of each side
	}
)

// Listed is the answer to Offers.
type Listed struct {
	Listings []market.Listing
	Fit      int    // how many fit
	Total    int    // of live listings
	Implicit string // conditions that were added
	Missing  string // why none fits
}

// Depth is the answer to Book.
type Depth struct {
	market.Depth
	Implicit string
	Missing  string // why there is nothing
}

// witness tells the index what this node knows of hosts.
func (o *Observer) witness(now member.Time) market.Witness {
	return market.Witness{Stamp: o.stamp + 1, See: func(host identity.Address) (market.Facts, bool) {
		if !o.Is(host, member.RoleHost, now) {
			return market.Facts{}, false
		}
		c, _, _ := o.roster.Credential(host)
		s := o.score(host, now)
		return market.Facts{Tier: c.Tier, Alias: c.Alias, Reliability: s.Reliability, New: s.New}, true
	}}
}

// Match finds the listings of hosts in good standing that fit a want, best first, or says why there is none.
func (o *Observer) Match(w market.Want, now member.Time) ([]market.Candidate, *market.Miss) {
	return o.index.Match(w, now, o.witness(now))
}

// Listings are the live offers of hosts in good standing, one for each group of GPUs, by price.
func (o *Observer) Listings(now member.Time) []market.Listing {
	var out []market.Listing
	for _, h := range o.index.Search(market.Search{Now: now}, o.witness(now)).Hits {
		out = append(out, h.Listing())
	}
	return out
}

// CheckQuery refuses a query that asks for a model which nobody has a name for.
func (o *Observer) CheckQuery(q market.Query) error { return o.index.Check(q) }

// query reads a query, and what is asked beside it.
func (o *Observer) query(text string, lift bool) (q, extra market.Query, p *step.Problem) {
	if !o.founded {
		return q, extra, step.Fail(step.ProblemTrust, "join one with 'souk join CODE'", "this node belongs to no market")
	}
	q, err := market.ParseQuery(text)
	if err == nil {
		err = o.index.Check(q)
	}
	if err != nil {
		return q, extra, badQuery(err)
	}
	if lift {
		return q, extra, nil
	}
	asked := q
	if o.charter.Testnet { // simulated GPUs are what a testnet trades in
		if any, err := market.ParseQuery("simulated=any"); err == nil {
			asked = q.And(any)
		}
	}
	extra = asked.Implicit(o.policy)
	return q.And(extra), extra, nil
}

// badQuery is a query that cannot be read.
func badQuery(err error) *step.Problem {
	return step.Fail(step.ProblemUsage, "souk offers --help lists the fields", "%s", strings.TrimPrefix(err.Error(), "market: "))
}

func (o *Observer) offered(ctx *step.Context, c Offers) (Listed, *step.Problem) {
	q, extra, p := o.query(c.Query, c.Lift)
	if p != nil {
		return Listed{}, p
	}
	order, err := market.ParseOrder(c.Sort)
	if err != nil {
		return Listed{}, badQuery(err)
	}
	found := o.index.Search(market.Search{Query: q, Order: order, Limit: c.Limit, Count: !c.Quick, Now: ctx.Now}, o.witness(ctx.Now))
	out := Listed{Listings: make([]market.Listing, 0, len(found.Hits)), Fit: found.Fit, Total: found.Live, Implicit: extra.String(), Missing: missing(found.Miss)}
	for _, h := range found.Hits {
		out.Listings = append(out.Listings, h.Listing())
	}
	return out, nil
}

func (o *Observer) book(ctx *step.Context, c Book) (Depth, *step.Problem) {
	q, extra, p := o.query(c.Query, c.Lift)
	if p != nil {
		return Depth{}, p
	}
	out := Depth{Depth: o.index.Depth(q, c.Depth, ctx.Now, o.witness(ctx.Now)), Implicit: extra.String()}
	if len(out.OnDemand)+len(out.Spot) == 0 {
		out.Missing = missing(o.index.Search(market.Search{Query: q, Limit: 1, Count: true, Now: ctx.Now}, o.witness(ctx.Now)).Miss)
	}
	return out, nil
}

// missing says why a query finds nothing, if it does not.
func missing(m *market.Miss) string {
	if m == nil {
		return ""
	}
	return strings.TrimPrefix(m.Error(), "market: ")
}
