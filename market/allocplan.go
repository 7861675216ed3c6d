package market

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"souk/ledger"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// An Ask is what a lease wants of a host's table.
type Ask struct {
	Lease  wire.ID
	Type   BidKind
	Rate   ledger.Rate // per GPU-hour
	Model  string
	Count  uint16
	Policy member.Policy // the market's, for the step between spot bids
}

// A Plan is how an ask would be met. The same table and ask give the same plan everywhere.
type Plan struct {
	GPUs    []string  // UUIDs, in the table's order: free ones and those of victims
	Victims []wire.ID // spot leases that have to go first, newest first
}

// A Shortage is why an ask cannot be met now.
type Shortage struct {
	Model string
	Want  uint16
	Have  uint16 // healthy GPUs of the model; 0: no such model
	Could uint16 // how many an ask of this kind could have now
}

// Error says what is missing and how much could be had.
func (s Shortage) Error() string {
	if s.Have == 0 {
		return fmt.Sprintf("market: host has no GPU of model %q", s.Model)
	}
	return fmt.Sprintf("market: %d of %d GPUs of model %q could be had, want %d", s.Could, s.Have, s.Model, s.Want)
}

// Plan decides which GPUs an ask gets. Spot gets free ones. On-demand gets free ones, and displaces spot leases where they
// do not suffice: of all sets of victims that suffice, the one that loses the host the least rate per hour, then the one
// with the fewest leases, then the one that breaks the fewest blocks (see pick), then the one with the newest arrivals,
// then the lowest lease ids. Nothing changes. Errors: ErrAsk, ErrBusy, Shortage.
func (t *Table) Plan(a Ask) (Plan, error) {
	switch {
	case a.Lease.IsZero() || a.Count == 0 || a.Type != OnDemand && a.Type != Spot || a.Rate < 0:
		return Plan{}, ErrAsk
	case t.tenant(a.Lease) >= 0 || t.held(a.Lease) >= 0:
		return Plan{}, ErrBusy
	}
	g := t.ground(a.Model)
	want, free := int(a.Count), count(g.free)
	var victims []candidate
	if a.Type == OnDemand {
		victims = t.candidates(g)
	}
	could := free
	for _, v := range victims {
		could += len(v.at)
	}
	if could < want {
		return Plan{}, Shortage{Model: a.Model, Want: a.Count, Have: t.Counts(a.Model).Usable, Could: uint16(could)}
	}
	avail, p := g.free, Plan{}
	for _, v := range cheapest(g.free, victims, want) {
		avail = v.open(avail)
		p.Victims = append(p.Victims, v.lease)
	}
	at, _ := pick(avail, want)
	for _, i := range at {
		p.GPUs = append(p.GPUs, g.slots[i].Device.UUID)
	}
	return p, nil
}

// Beats reports whether a spot bid displaces another: it pays at least step hundredths of the victim's rate, both per
// GPU-hour.
func Beats(challenger, victim ledger.Rate, step uint32) bool {
	if challenger < 0 || victim < 0 {
		return false
	}
	ch, cl := bits.Mul64(uint64(challenger), 100)
	vh, vl := bits.Mul64(uint64(victim), uint64(step))
	return ch > vh || ch == vh && cl >= vl
}

// ToBeat is the least rate that Beats a victim. ledger.ErrOverflow when there is none.
func ToBeat(victim ledger.Rate, step uint32) (ledger.Rate, error) {
	if victim < 0 {
		return 0, ledger.ErrNegative
	}
	hi, lo := bits.Mul64(uint64(victim), uint64(step))
	lo, carry := bits.Add64(lo, 99, 0)
	hi += carry
	if hi >= 100 {
		return 0, ledger.ErrOverflow
	}
	q, _ := bits.Div64(hi, lo, 100)
	if q > 1<<63-1 {
		return 0, ledger.ErrOverflow
	}
	return ledger.Rate(q), nil
}

// A ground is the slots of one model and which of them are free.
type ground struct {
	slots []Slot
	free  []bool
}

func (t *Table) ground(model string) ground {
	var g ground
	for _, s := range t.Slots {
		if s.Device.Model == model {
			g.slots = append(g.slots, s)
			g.free = append(g.free, s.Usable && s.Lease.IsZero() && !t.promised(s.Device.UUID))
		}
	}
	return g
}

// A candidate is a lease that on-demand may displace.
type candidate struct {
	lease   wire.ID
	arrival uint64
	lost    cost
	at      []int // places of its healthy GPUs
}

// open is avail with the candidate's GPUs.
func (c candidate) open(avail []bool) []bool {
	out := slices.Clone(avail)
	for _, i := range c.at {
		out[i] = true
	}
	return out
}

// candidates lists the spot leases in possession of GPUs of this ground that nobody has marked, newest first.
func (t *Table) candidates(g ground) []candidate {
	var out []candidate
	for _, e := range t.Tenants {
		if e.Type != Spot || !e.Taken || t.marked(e.Lease) {
			continue
		}
		c := candidate{lease: e.Lease, arrival: e.Arrival, lost: costOf(e.Rate, len(e.GPUs))}
		for i, s := range g.slots {
			if s.Lease == e.Lease && s.Usable {
				c.at = append(c.at, i)
			}
		}
		if len(c.at) > 0 {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.arrival, a.arrival), cmp.Compare(string(a.lease[:]), string(b.lease[:])))
	})
	return out
}

// A cost is what a set of victims costs: nano-credits per hour in 128 bits, then heads.
type cost struct {
	hi, lo uint64
	heads  int
}

func costOf(r ledger.Rate, gpus int) cost {
	hi, lo := bits.Mul64(uint64(r), uint64(gpus))
	return cost{hi, lo, 1}
}

func (c cost) plus(d cost) cost {
	lo, carry := bits.Add64(c.lo, d.lo, 0)
	return cost{c.hi + d.hi + carry, lo, c.heads + d.heads}
}

func (c cost) less(d cost) bool {
	return cmp.Or(cmp.Compare(c.hi, d.hi), cmp.Compare(c.lo, d.lo), cmp.Compare(c.heads, d.heads)) < 0
}

// maxSets bounds how many equally cheap sets of victims are compared by the blocks that they break. It is above C(16, 8):
// with up to 16 GPUs a host the choice is exact; beyond that the newest of the cheapest sets are compared.
const maxSets = 1 << 14

// cheapest chooses among victims, which are in order of preference. Together with what is free they suffice.
//
// least[i][n] is the least cost of freeing n GPUs with the victims from i on; it settles rate and heads exactly in
// len(victims) × want steps. The sets that reach it are then walked newest first, so that the first one with the fewest
// broken blocks wins.
func cheapest(free []bool, victims []candidate, want int) []candidate {
	need := want - count(free)
	if need <= 0 {
		return nil
	}
	none := cost{hi: 1<<64 - 1}
	least := make([][]cost, len(victims)+1)
	least[len(victims)] = slices.Repeat([]cost{none}, need+1)
	least[len(victims)][0] = cost{}
	for i := len(victims) - 1; i >= 0; i-- {
		least[i] = slices.Clone(least[i+1])
		for n := 1; n <= need; n++ {
			rest := least[i+1][max(0, n-len(victims[i].at))]
			if with := rest.plus(victims[i].lost); rest != none && with.less(least[i][n]) {
				least[i][n] = with
			}
		}
	}
	var best, set []candidate
	fewest, left := -1, maxSets
	var walk func(i, n int, avail []bool)
	walk = func(i, n int, avail []bool) {
		if fewest == 0 || left == 0 {
			return
		}
		if n == 0 {
			left--
			if _, broken := pick(avail, want); fewest < 0 || broken < fewest {
				best, fewest = slices.Clone(set), broken
			}
			return
		}
		rest := max(0, n-len(victims[i].at))
		if r := least[i+1][rest]; r != none && r.plus(victims[i].lost) == least[i][n] {
			set = append(set, victims[i])
			walk(i+1, rest, victims[i].open(avail))
			set = set[:len(set)-1]
		}
		if least[i+1][n] == least[i][n] {
			walk(i+1, n, avail)
		}
	}
	walk(0, need, free)
	return best
}

// pick chooses n of the available places so that as few blocks as possible are broken, and among such choices the lowest
// places. A block is 2^k neighbouring places, k ≥ 1, beginning at a multiple of 2^k, all available; it is broken when one
// of its places is chosen. Whole blocks are what later asks for two, four or eight GPUs want.
//
// keep[node][j] is how many blocks under a node of the binary tree over all places survive when j places under it are
// chosen.
func pick(avail []bool, n int) (at []int, broken int) {
	size := 1 << bits.Len(uint(max(0, len(avail)-1)))
	keep, under := make([][]int, 2*size), make([]int, 2*size)
	for node := 2*size - 1; node >= 1; node-- {
		if node >= size {
			keep[node] = make([]int, 1, 2)
			if i := node - size; i < len(avail) && avail[i] {
				keep[node], under[node] = append(keep[node], 0), 1
			}
			continue
		}
		l, r := keep[2*node], keep[2*node+1]
		under[node] = under[2*node] + under[2*node+1]
		k := make([]int, min(n, under[node])+1)
		for i := range k {
			k[i] = -1
		}
		for i := range l {
			for j := 0; j < len(r) && i+j < len(k); j++ {
				k[i+j] = max(k[i+j], l[i]+r[j])
			}
		}
		if under[node] == size>>(bits.Len(uint(node))-1) {
			k[0]++
		}
		keep[node] = k
	}
	var walk func(node, j int)
	walk = func(node, j int) {
		if j == 0 {
			return
		}
		if node >= size {
			at = append(at, node-size)
			return
		}
		l, r := keep[2*node], keep[2*node+1]
		for i := min(j, len(l)-1); i >= 0; i-- {
			if j-i < len(r) && l[i]+r[j-i] == keep[node][j] {
				walk(2*node, i)
				walk(2*node+1, j-i)
				return
			}
		}
	}
	walk(1, n)
	return at, keep[1][0] - keep[1][n]
}

func count(set []bool) int {
	n := 0
	for _, b := range set {
		if b {
			n++
		}
	}
	return n
}
