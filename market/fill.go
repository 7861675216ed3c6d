package market

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"souk/ledger"
	"souk/market/ranked"
	"souk/p2p/member"
)

// A Fill says that a host's GPUs were taken at a price. It goes with the host's next offers, which sign it, and names the
// entry of the host's lease log that proves it. It tells nothing of who pays. A lease that starts again is filled again.
type Fill struct {
	Seq   uint64      `cbor:"1,keyasint"` // of the take in the lease log
	At    member.Time `cbor:"2,keyasint"`
	Type  BidKind     `cbor:"3,keyasint"`
	Model string      `cbor:"4,keyasint"`
	GPUs  uint16      `cbor:"5,keyasint"`
	Rate  ledger.Rate `cbor:"6,keyasint"` // per GPU-hour

	Simulated bool `cbor:"7,keyasint"`
}

// FillsMost is how many fills one offer carries, the newest; FillsFor is how long each is carried: three offers of a host
// on which nothing else happens.
const (
	FillsMost = 16
	FillsFor  = 15 * 60 * member.Second
)

// validFills checks the fills of an offer: in the order of the log, none older than they are carried, none from the future.
func (o *Offer) validFills() error {
	if len(o.Fills) > FillsMost {
		return fmt.Errorf("offer: more than %d fills", FillsMost)
	}
	last := uint64(0)
	for _, f := range o.Fills {
		switch {
		case f.Seq <= last || f.Seq > o.LogSeq:
			return errors.New("offer: fills are in the order of the lease log, and in it")
		case f.At > o.At || f.At+member.Hour < o.At:
			return errors.New("offer: a fill is of another time")
		case f.Type != OnDemand && f.Type != Spot || f.Rate <= 0 || f.GPUs == 0 || len(f.Model) == 0 || len(f.Model) > 64:
			return errors.New("offer: a fill has a kind, a model, a price and GPUs")
		}
		last = f.Seq
	}
	return nil
}

// A Mean is what GPUs went for on average: each GPU counts once, at the price at which it was taken.
type Mean struct {
	Fills uint32      `json:"fills"`
	GPUs  uint32      `json:"gpus"`
	Rate  ledger.Rate `json:"rate" doc:"average per GPU-hour, rounded down; 0: nothing was taken"`
	Low   ledger.Rate `json:"low"`
	High  ledger.Rate `json:"high"`

	hi, lo uint64 // the sum of all rates: 128 bits, so that no number of fills overflows it
}

// Add counts a fill.
func (m Mean) Add(f Fill) Mean {
	hi, lo := bits.Mul64(uint64(f.Rate), uint64(f.GPUs))
	var carry uint64
	m.lo, carry = bits.Add64(m.lo, lo, 0)
	m.hi, _ = bits.Add64(m.hi, hi, carry)
	if m.Fills == 0 {
		m.Low, m.High = f.Rate, f.Rate
	}
	m.Fills, m.GPUs = m.Fills+1, m.GPUs+uint32(f.GPUs)
	m.Low, m.High = min(m.Low, f.Rate), max(m.High, f.Rate)
	q, _ := bits.Div64(m.hi, m.lo, uint64(m.GPUs)) // the average of rates is a rate, so it fits
	m.Rate = ledger.Rate(q)
	return m
}

// A Span is a stretch of time and what GPUs went for in it.
type Span struct {
	From     member.Time `json:"from"`
	OnDemand Mean        `json:"onDemand"`
	Spot     Mean        `json:"spot"`
}

// Add counts a fill of its kind.
func (s Span) Add(f Fill) Span {
	if f.Type == OnDemand {
		s.OnDemand = s.OnDemand.Add(f)
	} else {
		s.Spot = s.Spot.Add(f)
	}
	return s
}

// Spans sorts fills into n equal stretches of the time from one instant to another, the earliest first. Those outside count
// nowhere. The number of stretches is at least one, and the time is at least a millisecond for each.
func Spans(fills []Fill, from, to member.Time, n int) []Span {
	step := max((to-from)/member.Time(n), 1)
	out := make([]Span, n)
	for i := range out {
		out[i].From = from + member.Time(i)*step
	}
	for _, f := range fills {
		if f.At >= from && f.At <= to {
			i := min(int((f.At-from)/step), n-1)
			out[i] = out[i].Add(f)
		}
	}
	return out
}

// A Level is what can be had, or is wanted, at one price.
type Level struct {
	Rate  ledger.Rate `json:"rate"` // per GPU-hour
	GPUs  uint32      `json:"gpus"`
	Hosts uint32      `json:"hosts"`
}

// A Depth is both sides of a market, the best price of each first.
type Depth struct {
	OnDemand []Level `json:"onDemand"` // what on-demand could have now, at the hosts' prices
	Spot     []Level `json:"spot"`     // what spot bids win now
	Bids     []Level `json:"bids"`     // what standing bids offer, as far as this node knows of any
}

// Depth is what an index has for a query, the first so many levels of each side. Bids rest with those who placed them and
// with the host that they were placed at, so no node knows those of others: that side is empty until they are published.
func (x *Index) Depth(q Query, levels int, now member.Time, see Witness) Depth {
	h := hunt{checks: q.checks(), now: now, see: see}
	h.split()
	d := Depth{OnDemand: []Level{}, Spot: []Level{}, Bids: []Level{}}
	x.rows(q).Each(func(_ ranked.Key, r *row) bool {
		h.kind = OnDemand
		if h.meets(r) && r.demand > 0 {
			d.OnDemand = stack(d.OnDemand, r.price, r.demand)
		}
		h.kind = Spot
		if h.meets(r) && r.spot > 0 && r.free > 0 {
			d.Spot = stack(d.Spot, r.spot, r.free)
		}
		return true
	})
	d.OnDemand, d.Spot = d.OnDemand[:min(len(d.OnDemand), levels)], d.Spot[:min(len(d.Spot), levels)]
	return d
}

// stack adds GPUs to the level of a price, lowest first.
func stack(to []Level, r ledger.Rate, gpus uint16) []Level {
	i, ok := slices.BinarySearchFunc(to, r, func(l Level, r ledger.Rate) int { return cmp.Compare(l.Rate, r) })
	if !ok {
		to = slices.Insert(to, i, Level{Rate: r})
	}
	to[i].GPUs += uint32(gpus)
	to[i].Hosts++
	return to
}
