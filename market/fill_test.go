package market

import (
	"cmp"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// TestSpansAreAverages compares with sums of any size, stretch by stretch.
func TestSpansAreAverages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to, n := member.Time(1000), member.Time(rapid.IntRange(1001, 9000).Draw(t, "to")), rapid.IntRange(1, 9).Draw(t, "parts")
		var fills []Fill
		for range rapid.IntRange(0, 30).Draw(t, "fills") {
			fills = append(fills, Fill{At: member.Time(rapid.IntRange(900, 9100).Draw(t, "at")), Type: rapid.SampledFrom([]BidKind{OnDemand, Spot}).Draw(t, "type"),
				GPUs: uint16(rapid.IntRange(1, 65535).Draw(t, "gpus")), Rate: ledger.Rate(rapid.Int64Range(1, 1<<63-1).Draw(t, "rate"))})
		}
		spans := Spans(fills, from, to, n)
		if len(spans) != n {
			t.Fatalf("%d spans, want %d", len(spans), n)
		}
		for i, s := range spans {
			end := to + 1
			if i+1 < n {
				end = spans[i+1].From
			}
			for kind, got := range map[BidKind]Mean{OnDemand: s.OnDemand, Spot: s.Spot} {
				sum, gpus, count := new(big.Int), int64(0), uint32(0)
				low, high := ledger.Rate(0), ledger.Rate(0)
				for _, f := range fills {
					if f.Type != kind || f.At < s.From || f.At >= end || f.At > to {
						continue
					}
					sum.Add(sum, new(big.Int).Mul(big.NewInt(int64(f.Rate)), big.NewInt(int64(f.GPUs))))
					if count == 0 {
						low = f.Rate
					}
					gpus, count, low, high = gpus+int64(f.GPUs), count+1, min(low, f.Rate), max(high, f.Rate)
				}
				want := ledger.Rate(0)
				if gpus > 0 {
					want = ledger.Rate(sum.Div(sum, big.NewInt(gpus)).Int64())
				}
				if got.Rate != want || got.Fills != count || int64(got.GPUs) != gpus || got.Low != low || got.High != high {
					t.Fatalf("%v from %d to %d: %+v, want %d of %d fills and %d GPUs, %d to %d", kind, s.From, end, got, want, count, gpus, low, high)
				}
			}
		}
	})
}

// TestDepthIsBruteForce adds up by hand what an index stacks.
func TestDepthIsBruteForce(t *testing.T) {
	const now = 1000
	rapid.Check(t, func(t *rapid.T) {
		x, known := NewIndex(), roll{}
		var all []Listing
		for h := range byte(rapid.IntRange(0, 9).Draw(t, "hosts")) {
			o := drawOffer(t, h+1)
			known[o.Host] = Facts{Tier: member.TierCommunity}
			x.Put(&o)
			all = append(all, known.list(o, now)...)
		}
		q, err := ParseQuery(rapid.SampledFrom([]string{"", "gpu_name=RTX_4090", "num_gpus>=2", "geolocation in [DE,US]"}).Draw(t, "query"))
		if err != nil {
			t.Fatal(err)
		}
		levels := rapid.IntRange(1, 4).Draw(t, "levels")
		count := func(kind BidKind) []Level {
			sum := map[ledger.Rate]Level{}
			for _, l := range all {
				g, r := l.GPUs(), l.GPUs().Price
				n := g.OnDemand
				if kind == Spot {
					n, r = g.Free, g.SpotNow
				}
				// Of a query, only the number of GPUs depends on the kind.
				free := l
				free.Offer.Groups = slices.Clone(l.Offer.Groups)
				free.Offer.Groups[l.Group].Free = n
				if ok, _ := q.Match(free); ok && n > 0 && r > 0 {
					sum[r] = Level{r, sum[r].GPUs + uint32(n), sum[r].Hosts + 1}
				}
			}
			out := []Level{}
			for _, l := range sum {
				out = append(out, l)
			}
			slices.SortFunc(out, func(a, b Level) int { return cmp.Compare(a.Rate, b.Rate) })
			return out[:min(len(out), levels)]
		}
		got := x.Depth(q, levels, now, known.witness(0))
		if a, b := count(OnDemand), count(Spot); !slices.Equal(got.OnDemand, a) || !slices.Equal(got.Spot, b) || len(got.Bids) > 0 {
			t.Fatalf("%s: %+v, want on-demand %v, spot %v", q, got, a, b)
		}
	})
}

func TestFillsThatAreNone(t *testing.T) {
	good := Fill{Seq: 2, At: 900, Type: Spot, Model: "A", GPUs: 1, Rate: 1}
	offer := func(fills ...Fill) Offer {
		return Offer{Host: identity.Address{1}, Seq: 1, At: 1000, Expires: 2000, Grace: 5, LogSeq: 5, Fills: fills}
	}
	if err := offer(good, Fill{Seq: 5, At: 1000, Type: OnDemand, Model: "A", GPUs: 1, Rate: 1}).Validate(); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*Fill)) Fill { f := good; change(&f); return f }
	many := make([]Fill, FillsMost+1)
	for why, o := range map[string]Offer{
		"more than":     offer(many...),
		"order":         offer(good, good),
		"in it":         offer(with(func(f *Fill) { f.Seq = 6 })),
		"lease log":     offer(with(func(f *Fill) { f.Seq = 0 })),
		"another time":  offer(with(func(f *Fill) { f.At = 1001 })),
		"a kind":        offer(with(func(f *Fill) { f.Type = 3 })),
		"a price":       offer(with(func(f *Fill) { f.Rate = 0 })),
		"and GPUs":      offer(with(func(f *Fill) { f.GPUs = 0 })),
		"has a kind, a": offer(with(func(f *Fill) { f.Model = strings.Repeat("x", 65) })),
	} {
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%+v: %v, want %q", o.Fills[:1], err, why)
		}
	}
	old := offer(with(func(f *Fill) { f.At = 1 }))
	if old.At += member.Hour + 2; old.Validate() == nil {
		t.Error("a fill of long ago is taken")
	}
}
