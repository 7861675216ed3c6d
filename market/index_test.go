package market

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// roll is a witness with a list: of hosts that are not in it nothing is known.
type roll map[identity.Address]Facts

func (r roll) see(h identity.Address) (Facts, bool) { f, ok := r[h]; return f, ok }

func (r roll) witness(stamp uint64) Witness { return Witness{stamp, r.see} }

func (r roll) list(o Offer, now member.Time) (out []Listing) {
	f, ok := r[o.Host]
	for i := range o.Groups {
		if ok && o.Live(now) {
			out = append(out, Listing{Offer: o, Group: i, Tier: f.Tier, Alias: f.Alias, Reliability: f.Reliability, New: f.New, Seen: o.At})
		}
	}
	return out
}

// drawOffer draws from few values, so that queries often just meet or just miss.
func drawOffer(t *rapid.T, host byte) Offer {
	o := Offer{
		Host: identity.Address{host}, Seq: 1, At: 100, Expires: member.Time(rapid.SampledFrom([]int{900, 2000}).Draw(t, "expires")),
		Disk: ledger.Amount(rapid.IntRange(0, 3).Draw(t, "storage") * 50_000_000), Grace: 5,
		MaxHours: uint32(rapid.SampledFrom([]int{0, 1, 72}).Draw(t, "hours")),
		Region:   rapid.SampledFrom([]string{"", "DE", "US-CA", "us", "NL"}).Draw(t, "region"),
		Machine: member.Machine{
			Cores: uint16(rapid.IntRange(0, 64).Draw(t, "cores")), MemoryMiB: uint32(rapid.IntRange(0, 3).Draw(t, "ram") * 32768),
			DiskGiB: uint32(rapid.IntRange(0, 3).Draw(t, "disk") * 100), OS: rapid.SampledFrom([]string{"", "linux/amd64", "linux/arm64"}).Draw(t, "os"),
			Runtime: rapid.SampledFrom([]string{"docker", "process"}).Draw(t, "runtime"), GPUs: uint16(rapid.IntRange(0, 8).Draw(t, "machine")),
			CUDA: rapid.SampledFrom([]string{"", "12.4", "12.10", "11", "new", "12.4.0"}).Draw(t, "cuda"),
		},
	}
	for range rapid.IntRange(0, 3).Draw(t, "groups") {
		g := Group{
			Model:     rapid.SampledFrom([]string{"RTX_4090", "rtx 4090", "H100_SXM", "A100"}).Draw(t, "model"),
			MemoryMiB: uint32(rapid.IntRange(1, 4).Draw(t, "memory")*12288 - rapid.IntRange(0, 12).Draw(t, "less")), Count: 8, Free: uint16(rapid.IntRange(0, 8).Draw(t, "free")),
			OnDemand: uint16(rapid.IntRange(0, 8).Draw(t, "demand")), Price: ledger.Rate(rapid.IntRange(2, 6).Draw(t, "price") * 100_000_000), Floor: 100_000_000,
			Simulated: rapid.Bool().Draw(t, "simulated"), Compute: rapid.SampledFrom([]uint16{0, 890, 900, 1200}).Draw(t, "compute"),
		}
		if g.Free > 0 {
			g.SpotNow = ledger.Rate(rapid.IntRange(1, 3).Draw(t, "spot") * 100_000_000)
		}
		o.Groups = append(o.Groups, g)
	}
	return o
}

// A plainCondition is a condition as text, and whether a listing meets it, worked out without anything of the parser.
type plainCondition struct {
	text  string
	meets func(l Listing) bool
}

// plainNumber is what a listing has for a field that is a number; nil: it does not say.
var plainNumbers = map[string]func(l Listing, g Group) *big.Rat{
	"num_gpus": func(_ Listing, g Group) *big.Rat { return natural(uint64(g.Free)) },
	"gpu_ram":  func(_ Listing, g Group) *big.Rat { return natural(uint64((g.MemoryMiB+12)/12288) * 12 << 30) },
	"gpu_total_ram": func(_ Listing, g Group) *big.Rat {
		return new(big.Rat).Mul(natural(uint64((g.MemoryMiB+12)/12288)*12<<30), natural(uint64(g.Free)))
	},
	"dph": func(_ Listing, g Group) *big.Rat { return credits(uint64(g.Price)) },
	"dph_total": func(_ Listing, g Group) *big.Rat {
		return new(big.Rat).Mul(credits(uint64(g.Price)), natural(uint64(g.Free)))
	},
	"spot": func(_ Listing, g Group) *big.Rat {
		if g.SpotNow == 0 {
			return nil
		}
		return credits(uint64(g.SpotNow))
	},
	"storage_cost": func(l Listing, _ Group) *big.Rat { return credits(uint64(l.Offer.Disk)) },
	"reliability":  func(l Listing, _ Group) *big.Rat { return big.NewRat(int64(l.Reliability), 1_000_000) },
	"disk_space":   func(l Listing, _ Group) *big.Rat { return natural(uint64(l.Offer.Machine.DiskGiB) << 30) },
	"cpu_cores": func(l Listing, _ Group) *big.Rat {
		if l.Offer.Machine.Cores == 0 {
			return nil
		}
		return natural(uint64(l.Offer.Machine.Cores))
	},
	"compute_cap": func(_ Listing, g Group) *big.Rat {
		if g.Compute == 0 {
			return nil
		}
		return big.NewRat(int64(g.Compute), 100)
	},
	"duration": func(l Listing, _ Group) *big.Rat {
		if l.Offer.MaxHours == 0 {
			return new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), 100))
		}
		return natural(uint64(l.Offer.MaxHours) * 3600)
	},
}

func natural(n uint64) *big.Rat { return new(big.Rat).SetUint64(n) }
func credits(n uint64) *big.Rat { return new(big.Rat).Quo(natural(n), natural(1_000_000_000)) }

var plainTexts = map[string]func(l Listing, g Group) string{
	"gpu_name": func(_ Listing, g Group) string { return g.Model },
	"runtime":  func(l Listing, _ Group) string { return l.Offer.Machine.Runtime },
	"tier":     func(l Listing, _ Group) string { return strings.Replace(l.Tier.String(), "-", "none", 1) },
	"alias":    func(l Listing, _ Group) string { return l.Alias },
	"cpu_arch": func(l Listing, _ Group) string { _, a, _ := strings.Cut(l.Offer.Machine.OS, "/"); return a },
}

func sameText(a, b string) bool {
	f := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", " ") }
	return f(a) == f(b)
}

func drawCondition(t *rapid.T) plainCondition {
	op := rapid.SampledFrom([]string{"=", "==", "!=", "<", "<=", ">", ">=", " in ", " notin ", " not in "}).Draw(t, "op")
	list := strings.Contains(op, "in")
	not := op == "!=" || strings.Contains(op, "not")
	switch rapid.IntRange(0, 3).Draw(t, "sort") {
	case 0: // a text
		name := rapid.SampledFrom([]string{"gpu_name", "runtime", "tier", "alias", "cpu_arch"}).Draw(t, "text")
		values := map[string][]string{"gpu_name": {"RTX_4090", "h100_sxm", "'rtx 4090'"}, "runtime": {"docker", "PROCESS"}, "tier": {"secure", "community", "none"},
			"alias": {"ada", "'a b'", "a_b", `""`}, "cpu_arch": {"amd64", "arm64"}}[name]
		if !list && op != "=" && op != "!=" {
			op = "=="
		}
		vs := []string{rapid.SampledFrom(values).Draw(t, "value")}
		if list {
			vs = append(vs, rapid.SampledFrom(values).Draw(t, "value"))
		}
		return plainCondition{write(name, op, list, vs), func(l Listing) bool {
			have := plainTexts[name](l, l.GPUs())
			if have == "" && name != "alias" {
				return false
			}
			return slices.ContainsFunc(vs, func(v string) bool { return sameText(have, strings.Trim(v, `'"`)) }) != not
		}}
	case 1: // a version
		v := rapid.SampledFrom([]string{"12.4", "12.10", "11.0", "12.4.0", "13"}).Draw(t, "version")
		if list {
			op, list, not = ">=", false, false
		}
		return plainCondition{"cuda_max_good" + op + v, func(l Listing) bool {
			order := []string{"11", "12.4", "12.10", "13"}
			rank := func(s string) int { return slices.Index(order, strings.TrimSuffix(s, ".0")) }
			a, b := rank(l.Offer.Machine.CUDA), rank(v)
			return a >= 0 && holdsPlainly(op, cmp.Compare(a, b))
		}}
	case 2: // a bool
		name := rapid.SampledFrom([]string{"simulated", "new", "rented", "datacenter"}).Draw(t, "bool")
		want := rapid.Bool().Draw(t, "want")
		return plainCondition{fmt.Sprintf("%s=%v", name, want), func(l Listing) bool {
			g := l.GPUs()
			return map[string]bool{"simulated": g.Simulated, "new": l.New, "rented": g.Free < g.Count, "datacenter": l.Tier == member.TierSecure}[name] == want
		}}
	}
	names := []string{"num_gpus", "gpu_ram", "gpu_total_ram", "dph", "dph_total", "spot", "storage_cost", "reliability", "disk_space", "cpu_cores", "compute_cap", "duration"}
	name := rapid.SampledFrom(names).Draw(t, "number")
	number := rapid.SampledFrom([]string{"0", "1", "2", "4", "0.2", "0.3", "0.4", "0.299999999", "0.5", "8", "24", "96", "1.5", "900"}).Draw(t, "value")
	factor, suffix := big.NewRat(1, 1), ""
	switch name {
	case "gpu_ram", "gpu_total_ram", "disk_space":
		suffix = rapid.SampledFrom([]string{"GiB", "gb", "TiB"}).Draw(t, "suffix")
		factor = natural(map[string]uint64{"GiB": 1 << 30, "gb": 1e9, "TiB": 1 << 40}[suffix])
	case "duration":
		suffix = rapid.SampledFrom([]string{"s", "h", "d"}).Draw(t, "suffix")
		factor = natural(map[string]uint64{"s": 1, "h": 3600, "d": 86400}[suffix])
	case "reliability":
		number = rapid.SampledFrom([]string{"0.98", "0.99", "1", "0.9", "0.9900001"}).Draw(t, "share")
	case "compute_cap":
		number = rapid.SampledFrom([]string{"8.9", "9", "9.0", "12", "8"}).Draw(t, "capability")
	}
	want, _ := new(big.Rat).SetString(number)
	want.Mul(want, factor)
	vs := []string{number + suffix}
	return plainCondition{write(name, op, list, vs), func(l Listing) bool {
		have := plainNumbers[name](l, l.GPUs())
		switch {
		case have == nil:
			return false
		case list:
			return (have.Cmp(want) == 0) != not
		}
		return holdsPlainly(op, have.Cmp(want))
	}}
}

func write(name, op string, list bool, values []string) string {
	if list {
		return name + op + "[" + strings.Join(values, ", ") + "]"
	}
	return name + op + values[0]
}

func holdsPlainly(op string, d int) bool {
	return map[string]bool{"=": d == 0, "==": d == 0, "!=": d != 0, "<": d < 0, "<=": d <= 0, ">": d > 0, ">=": d >= 0}[op]
}

// TestSearchIsBruteForce compares an index that offers come to, change in and go from with all listings asked one by one, by
// an evaluator that shares nothing with the query.
func TestSearchIsBruteForce(t *testing.T) {
	const now = 1000
	rapid.Check(t, func(t *rapid.T) {
		x, offers, known := NewIndex(), map[byte]Offer{}, roll{}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			h := byte(rapid.IntRange(1, 12).Draw(t, "host"))
			if rapid.IntRange(0, 4).Draw(t, "what") == 0 {
				x.Remove(identity.Address{h})
				delete(offers, h)
				continue
			}
			offers[h] = drawOffer(t, h)
			o := offers[h]
			x.Put(&o)
			if rapid.IntRange(0, 5).Draw(t, "known") > 0 {
				known[identity.Address{h}] = Facts{Tier: member.Tier(rapid.IntRange(0, 2).Draw(t, "tier")), New: rapid.Bool().Draw(t, "new"),
					Alias: rapid.SampledFrom([]string{"", "ada", "a_b"}).Draw(t, "alias"), Reliability: uint32(rapid.SampledFrom([]int{980_000, 990_000, 1_000_000}).Draw(t, "ppm"))}
			}
		}
		var text []string
		var conds []plainCondition
		for range rapid.IntRange(0, 4).Draw(t, "conditions") {
			c := drawCondition(t)
			conds, text = append(conds, c), append(text, c.text)
		}
		q, err := ParseQuery(strings.Join(text, " "))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var want []string
		live, all := 0, 0
		for h := byte(1); h <= 12; h++ {
			if offers[h].Live(now) {
				all += len(offers[h].Groups)
			}
			for _, l := range known.list(offers[h], now) {
				live++
				if !slices.ContainsFunc(conds, func(c plainCondition) bool { return !c.meets(l) }) {
					want = append(want, fmt.Sprintf("%012d %02d %d", l.GPUs().Price, h, l.Group))
				}
			}
		}
		slices.Sort(want)
		stamp := rapid.Uint64Range(0, 1).Draw(t, "stamp")
		got := x.Search(Search{Query: q, Now: now, Count: true}, known.witness(stamp))
		if s := named(got.Hits); !slices.Equal(s, want) || got.Fit != len(want) || got.Live != all {
			t.Fatalf("%s finds %v, fit %d, live %d; want %v, live %d", q, s, got.Fit, got.Live, want, all)
		}
		if (got.Miss != nil) != (len(want) == 0) || got.Miss != nil && got.Miss.Live != live {
			t.Fatalf("%s: miss %v with %d that fit of %d", q, got.Miss, len(want), live)
		}
		checkMiss(t, got.Miss, conds, offers, known, now)
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		few := x.Search(Search{Query: q, Now: now, Limit: limit}, known.witness(stamp))
		if s := named(few.Hits); !slices.Equal(s, want[:min(limit, len(want))]) {
			t.Fatalf("%s limited to %d finds %v, want the first of %v", q, limit, s, want)
		}
		matchedToo(t, x, q, offers, known)
	})
}

func named(hits []Hit) (out []string) {
	for _, h := range hits {
		l := h.Listing()
		out = append(out, fmt.Sprintf("%012d %02d %d", l.GPUs().Price, l.Offer.Host[0], l.Group))
	}
	return out
}

// checkMiss holds a Miss to what it says: nobody meets what is unmet, and nobody lacks less than the nearest.
func checkMiss(t *rapid.T, m *Miss, conds []plainCondition, offers map[byte]Offer, known roll, now member.Time) {
	if m == nil || m.Live == 0 {
		return
	}
	least := len(conds)
	met := make([]bool, len(conds))
	for h := byte(1); h <= 12; h++ {
		for _, l := range known.list(offers[h], now) {
			lacks := 0
			for i, c := range conds {
				if c.meets(l) {
					met[i] = true
				} else {
					lacks++
				}
			}
			least = min(least, lacks)
		}
	}
	unmet := 0
	for _, ok := range met {
		unmet += int(truth(!ok))
	}
	if len(m.Unmet) != unmet || len(m.Failed) != least {
		t.Fatalf("%v: says %d conditions are met by none and the nearest lacks %d; want %d and %d", m, len(m.Unmet), len(m.Failed), unmet, least)
	}
}

// matchedToo compares the index's Match with that over listings.
func matchedToo(t *rapid.T, x *Index, q Query, offers map[byte]Offer, known roll) {
	var ls []Listing
	for h := byte(1); h <= 12; h++ {
		ls = append(ls, known.list(offers[h], 1000)...)
	}
	w := Want{Type: rapid.SampledFrom([]BidKind{OnDemand, Spot}).Draw(t, "type"), MaxRate: ledger.Rate(rapid.IntRange(0, 6).Draw(t, "most") * 100_000_000),
		GPUs: uint16(rapid.IntRange(0, 4).Draw(t, "gpus")), Model: rapid.SampledFrom([]string{"", "rtx_4090"}).Draw(t, "model"), Query: q, AllowSimulated: rapid.Bool().Draw(t, "allow")}
	got, miss := x.Match(w, 1000, known.witness(1))
	want, wantMiss := Match(ls, w, 1000)
	if !slices.EqualFunc(got, want, func(a, b Candidate) bool {
		return a.Cost == b.Cost && a.Pay == b.Pay && a.Listing.Offer.Host == b.Listing.Offer.Host && a.Listing.Group == b.Listing.Group
	}) || fmt.Sprint(miss) != fmt.Sprint(wantMiss) {
		t.Fatalf("%+v: index %v %v, listings %v %v", w, got, miss, want, wantMiss)
	}
}

func TestOrders(t *testing.T) {
	x, known := NewIndex(), roll{}
	for i, c := range []struct {
		model string
		price ledger.Rate
		spot  ledger.Rate
		rel   uint32
		cuda  string
	}{{"A", 3, 0, 990_000, "12.10"}, {"C", 1, 2, 980_000, "12.4"}, {"B", 2, 1, 990_000, ""}} {
		h := identity.Address{byte(i + 1)}
		x.Put(&Offer{Host: h, Expires: 10, Machine: member.Machine{CUDA: c.cuda}, Groups: []Group{{Model: c.model, Price: c.price, SpotNow: c.spot}}})
		known[h] = Facts{Reliability: c.rel}
	}
	for order, want := range map[string]string{"": "CBA", "dph": "CBA", "price-": "ABC", "reliability-,dph": "BAC", "reliability": "CBA", "gpu_name": "ABC", "gpu_name-": "CBA",
		"spot": "BCA", "spot-": "CBA", "cuda_max_good": "CAB", "cuda_max_good-": "ACB", "new host": "ACB"} {
		o, err := ParseOrder(order)
		if err != nil {
			t.Fatal(err)
		}
		for limit := range 4 {
			var got string
			for _, l := range x.Search(Search{Order: o, Limit: limit}, known.witness(0)).Hits {
				l := l.Listing()
				got += l.GPUs().Model
			}
			if w := want[:cmp.Or(limit, len(want))]; got != w {
				t.Errorf("by %q, %d at most: %s, want %s", order, limit, got, w)
			}
		}
	}
	for order, why := range map[string]string{"dhph": "did you mean dph", "dlperf": "not measured yet", "dph,,zzzzz-": `no field "zzzzz"`} {
		if _, err := ParseOrder(order); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("order %q: %v, want %s", order, err, why)
		}
	}
}

func TestPricesBoundTheWalk(t *testing.T) {
	x, known := NewIndex(), roll{}
	for i := range 4 {
		o := Offer{Host: identity.Address{byte(i + 1)}, Expires: 10, Groups: []Group{{Model: "A", Price: ledger.Rate(i + 1), Free: uint16(i % 2)}}}
		x.Put(&o)
		known[o.Host] = Facts{}
	}
	for query, want := range map[string]int{"dph<=0.000000002 num_gpus>=1": 1, "dph>0.000000002 num_gpus=1": 1, "dph!=0.000000002 num_gpus=0": 2, "dph=0.000000004": 1, "dph in [0.000000002,0.000000004]": 2} {
		q, err := ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := x.Search(Search{Query: q, Count: true}, known.witness(0)); got.Fit != want {
			t.Errorf("%s: %d fit, want %d", query, got.Fit, want)
		}
	}
}

func TestModelsThatNobodyKnows(t *testing.T) {
	x := NewIndex()
	x.Put(&Offer{Host: identity.Address{1}, Groups: []Group{{Model: "Homemade_1"}}})
	for query, near := range map[string][]string{
		"gpu_name=H100":                     {"H100_NVL", "H100_SXM", "H100_PCIE", "H200"},
		"num_gpus>=1 gpu_name in [L4,H300]": {"H200", "B200", "GH200"},
		"gpu_name!=rtx4090":                 {"RTX_4090", "RTX_3090", "RTX_4080", "RTX_5090"},
		"gpu_name=homemade":                 {"Homemade_1"},
	} {
		q, err := ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		var e QueryError
		if err := x.Check(q); !errors.As(err, &e) || !slices.Equal(e.Near, near) || e.At < strings.Index(query, "gpu_name") {
			t.Errorf("%s: %v, want near %v", query, err, near)
		}
	}
	for _, query := range []string{"", "gpu_name=h100_sxm", "gpu_name='RTX 4090'", "gpu_name=HOMEMADE_1", "gpu_name=any", "gpu_name notin [B200]"} {
		if q, err := ParseQuery(query); err != nil || x.Check(q) != nil {
			t.Errorf("%s: %v, %v", query, err, x.Check(q))
		}
	}
}
