package market

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"souk/ledger"
	"souk/market/ranked"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// A Listing is one group of GPUs of an offer, and what is known of its host.
type Listing struct {
	Offer       Offer
	Group       int // which of the offer's groups
	Tier        member.Tier
	Alias       string
	Reliability uint32 // parts per million
	New         bool   // too little was seen of the host to judge
	Seen        member.Time
}

// GPUs is the group that is listed.
func (l Listing) GPUs() Group {
	if l.Group < 0 || l.Group >= len(l.Offer.Groups) {
		return Group{}
	}
	return l.Offer.Groups[l.Group]
}

// Name is the host's alias, or the start of its address.
func (l Listing) Name() string {
	if l.Alias != "" {
		return l.Alias
	}
	return l.Offer.Host.Short()
}

// A Want is what a consumer is looking for.
type Want struct {
	Host           identity.Address // no other is looked at; zero: any
	Type           BidKind
	MaxRate        ledger.Rate // per GPU-hour; 0: any price, on-demand only
	GPUs           uint16
	Model          string // empty: any
	Query          Query
	Disk           uint64 // bytes
	Volume         uint64 // bytes
	Minutes        uint64 // longest run; 0: as long as the host allows
	AllowSimulated bool
}

// A Candidate is a listing that fits.
type Candidate struct {
	Listing Listing
	Cost    ledger.Rate // what the host takes now, per GPU-hour: by this candidates are compared
	Pay     ledger.Rate // what will be signed, per GPU-hour: the price on demand, for spot the consumer's own bid
}

// Match finds the listings that fit, best first: by what the host takes, then hosts that are not new, the more reliable
// ones, the earlier offer, the host's address, the group. The same listings give the same order everywhere. When none fits
// the Miss says why.
func Match(ls []Listing, w Want, now member.Time) ([]Candidate, *Miss) {
	h := w.hunt(now)
	m := missing{hunt: h, better: func(a, b *row) int { return w.candidate(a).compare(w.candidate(b)) }}
	var fit []Candidate
	for i := range ls {
		l := &ls[i]
		if l.Group < 0 || l.Group >= len(l.Offer.Groups) {
			continue
		}
		r := rowOf(l)
		if h.skips(&r) {
			continue
		}
		if m.add(&r) {
			fit = append(fit, w.candidate(&r))
		}
	}
	if len(fit) == 0 {
		return nil, m.miss()
	}
	slices.SortFunc(fit, Candidate.compare)
	return fit, nil
}

// Match is the function Match over what an index has of hosts in good standing.
func (x *Index) Match(w Want, now member.Time, see Witness) ([]Candidate, *Miss) {
	h := w.hunt(now)
	h.see = see
	h.split()
	var fit []Candidate
	rows := x.rows(w.Query)
	if l := x.models[plain(w.Model)]; l != nil {
		rows = l
	}
	rows.Each(func(_ ranked.Key, r *row) bool {
		if h.meets(r) {
			fit = append(fit, w.candidate(r))
		}
		return true
	})
	if len(fit) == 0 {
		return nil, x.why(h, func(a, b *row) int { return w.candidate(a).compare(w.candidate(b)) })
	}
	slices.SortFunc(fit, Candidate.compare)
	return fit, nil
}

// candidate is a listing with its price for this want.
func (w Want) candidate(r *row) Candidate {
	if w.Type == Spot {
		return Candidate{Listing: r.listing(), Cost: r.spot, Pay: w.MaxRate}
	}
	return Candidate{Listing: r.listing(), Cost: r.price, Pay: r.price}
}

// compare orders candidates, the better first.
func (c Candidate) compare(d Candidate) int {
	a, b := c.Listing, d.Listing
	return cmp.Or(
		cmp.Compare(c.Cost, d.Cost),
		cmp.Compare(truth(a.New), truth(b.New)),
		cmp.Compare(b.Reliability, a.Reliability),
		cmp.Compare(a.Offer.At, b.Offer.At),
		a.Offer.Host.Compare(b.Offer.Host),
		cmp.Compare(a.Group, b.Group),
	)
}

// hunt makes every condition of a want ready, always in the same order.
func (w Want) hunt(now member.Time) hunt {
	model, space := plain(w.Model), w.space()
	h := hunt{now: now, kind: w.Type, only: w.Host}
	add := func(name string, holds func(*row, uint64) bool, lack func(*row, uint64) string) {
		h.checks = append(h.checks, check{name: func() string { return name }, holds: holds, lack: lack})
	}
	if w.Model != "" {
		add("gpu_name="+w.Model, func(r *row, _ uint64) bool { return plainly(r.model(), model) }, func(r *row, _ uint64) string { return "has " + r.model() })
	}
	if !w.AllowSimulated {
		add("GPUs that are real", func(r *row, _ uint64) bool { return !r.simulated }, func(*row, uint64) string { return "has simulated GPUs" })
	}
	add(fmt.Sprintf("num_gpus>=%d", w.GPUs), func(_ *row, n uint64) bool { return n >= uint64(w.GPUs) },
		func(r *row, n uint64) string { return fmt.Sprintf("has %d of %d GPUs for %v", n, r.count, w.Type) })
	h.checks = append(h.checks, w.price())
	add("disk_space>="+unitBytes.show(space), func(r *row, _ uint64) bool { return space <= uint64(r.disk)<<30 },
		func(r *row, _ uint64) string { return fmt.Sprintf("has %dGiB of disk", r.disk) })
	add(fmt.Sprintf("leases of %d minutes", w.Minutes),
		func(r *row, _ uint64) bool {
			return r.maxHours == 0 || w.Minutes <= uint64(r.maxHours)*member.HourMinutes
		},
		func(r *row, _ uint64) string { return fmt.Sprintf("leases for at most %d h", r.maxHours) })
	h.checks = append(h.checks, w.Query.checks()...)
	return h
}

// price tests what the host takes now.
func (w Want) price() check {
	c := check{name: func() string {
		if w.MaxRate == math.MaxInt64 || w.MaxRate == 0 {
			return fmt.Sprintf("%v at any price", w.Type)
		}
		return fmt.Sprintf("%v at most %s", w.Type, w.MaxRate.Text())
	}}
	if w.Type == Spot {
		c.holds = func(r *row, _ uint64) bool { return r.spot > 0 && r.spot <= w.MaxRate }
		c.lack = func(r *row, _ uint64) string {
			if r.spot == 0 {
				return "takes no spot bid now"
			}
			return fmt.Sprintf("takes %s, you bid %s", r.spot.Text(), w.MaxRate.Text())
		}
		return c
	}
	c.holds = func(r *row, _ uint64) bool { return w.MaxRate == 0 || r.price <= w.MaxRate }
	c.lack = func(r *row, _ uint64) string {
		return fmt.Sprintf("asks %s, you pay at most %s", r.price.Text(), w.MaxRate.Text())
	}
	return c
}

// space is disk and volume together, as far as it can be counted.
func (w Want) space() uint64 {
	if s := w.Disk + w.Volume; s >= w.Disk {
		return s
	}
	return unlimited
}
