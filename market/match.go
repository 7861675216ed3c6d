package market

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"souk/ledger"
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

// A Miss is why no listing fits. It is an error.
type Miss struct {
	Live    int      // listings that were live
	Unmet   []string // conditions that none of them meets
	Nearest Listing  // that which fails the fewest conditions; none if Live is 0
	Failed  []string // what the nearest lacks
}

// Error says what is lacking and which listing comes nearest.
func (m *Miss) Error() string {
	if m.Live == 0 {
		return "market: no offer is live"
	}
	s := "market: no offer fits"
	if len(m.Unmet) > 0 {
		s += fmt.Sprintf("; none of %d has %s", m.Live, strings.Join(m.Unmet, ", "))
	}
	return s + fmt.Sprintf("; nearest: host %s, %s", m.Nearest.Name(), strings.Join(m.Failed, ", "))
}

// A check is one condition and how a listing meets it.
type check struct {
	name string
	ok   bool
	lack string // what a listing that does not meet it says
}

// Match finds the listings that fit, best first: by what the host takes, then hosts that are not new, the more reliable
// ones, the earlier offer, the host's address, the group. The same listings give the same order everywhere. When none fits
// the Miss says why.
func Match(ls []Listing, w Want, now member.Time) ([]Candidate, *Miss) {
	var fit []Candidate
	var miss Miss
	var unmet []check
	var nearest []check
	for _, l := range ls {
		if !l.Offer.Live(now) || l.Group < 0 || l.Group >= len(l.Offer.Groups) {
			continue
		}
		miss.Live++
		checks := w.checks(l)
		failed := slices.DeleteFunc(slices.Clone(checks), func(c check) bool { return c.ok })
		if len(failed) == 0 {
			fit = append(fit, w.candidate(l))
			continue
		}
		if unmet == nil {
			unmet = slices.Clone(checks)
		}
		for i, c := range checks {
			unmet[i].ok = unmet[i].ok || c.ok
		}
		nearer := len(failed) - len(nearest)
		if nearest == nil || nearer < 0 || nearer == 0 && w.candidate(l).compare(w.candidate(miss.Nearest)) < 0 {
			miss.Nearest, nearest = l, failed
		}
	}
	if len(fit) > 0 {
		slices.SortFunc(fit, Candidate.compare)
		return fit, nil
	}
	for _, c := range unmet {
		if !c.ok {
			miss.Unmet = append(miss.Unmet, c.name)
		}
	}
	for _, c := range nearest {
		miss.Failed = append(miss.Failed, c.lack)
	}
	return nil, &miss
}

// candidate is a listing with its price for this want.
func (w Want) candidate(l Listing) Candidate {
	g := l.GPUs()
	if w.Type == Spot {
		return Candidate{Listing: l, Cost: g.SpotNow, Pay: w.MaxRate}
	}
	return Candidate{Listing: l, Cost: g.Price, Pay: g.Price}
}

// compare orders candidates, the better first.
func (c Candidate) compare(d Candidate) int {
	a, b := c.Listing, d.Listing
	return cmp.Or(
		cmp.Compare(c.Cost, d.Cost),
		cmp.Compare(count([]bool{a.New}), count([]bool{b.New})),
		cmp.Compare(b.Reliability, a.Reliability),
		cmp.Compare(a.Offer.At, b.Offer.At),
		a.Offer.Host.Compare(b.Offer.Host),
		cmp.Compare(a.Group, b.Group),
	)
}

// checks tests a listing against every condition of a want, always in the same order.
func (w Want) checks(l Listing) []check {
	g := l.GPUs()
	free, now := g.Free, g.SpotNow
	if w.Type == OnDemand {
		free, now = g.OnDemand, g.Price
	}
	out := []check{
		{fmt.Sprintf("gpu_name=%s", w.Model), w.Model == "" || plain(w.Model) == plain(g.Model), "has " + g.Model},
		{"GPUs that are real", w.AllowSimulated || !g.Simulated, "has simulated GPUs"},
		{fmt.Sprintf("num_gpus>=%d", w.GPUs), free >= w.GPUs, fmt.Sprintf("has %d of %d GPUs for %v", free, g.Count, w.Type)},
		w.price(now),
		{fmt.Sprintf("disk_space>=%s", unitBytes.show(num(w.space()))), w.space() <= uint64(l.Offer.Machine.DiskGiB)<<30,
			fmt.Sprintf("has %dGiB of disk", l.Offer.Machine.DiskGiB)},
		{fmt.Sprintf("leases of %d minutes", w.Minutes),
			l.Offer.MaxHours == 0 || w.Minutes <= uint64(l.Offer.MaxHours)*member.HourMinutes,
			fmt.Sprintf("leases for at most %d h", l.Offer.MaxHours)},
	}
	for _, c := range w.Query.conds {
		ok, is := c.match(l, free)
		out = append(out, check{c.String(), ok, fmt.Sprintf("%s is %s", c.field.name, is)})
	}
	return out
}

// price tests what the host takes now.
func (w Want) price(now ledger.Rate) check {
	c := check{name: fmt.Sprintf("%v at most %s", w.Type, w.MaxRate.Text())}
	if w.MaxRate == math.MaxInt64 || w.MaxRate == 0 {
		c.name = fmt.Sprintf("%v at any price", w.Type)
	}
	switch {
	case now == 0:
		c.lack = "takes no spot bid now"
	case w.Type == Spot:
		c.ok, c.lack = now <= w.MaxRate, fmt.Sprintf("takes %s, you bid %s", now.Text(), w.MaxRate.Text())
	default:
		c.ok, c.lack = w.MaxRate == 0 || now <= w.MaxRate, fmt.Sprintf("asks %s, you pay at most %s", now.Text(), w.MaxRate.Text())
	}
	return c
}

// space is disk and volume together, as far as it can be counted.
func (w Want) space() uint64 {
	if s := w.Disk + w.Volume; s >= w.Disk {
		return s
	}
	return 1<<64 - 1
}
