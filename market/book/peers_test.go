//go:build peers

// The book beside its peers: a plain one on a B-tree, as one would write it with a library, and the floor, which knows all
// prices beforehand and hashes nothing. `make bench-book` runs it.

package book

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/tidwall/btree"

	"souk/ledger"
	"souk/p2p/wire"
)

var rounds = flag.Int("rounds", 5, "how often each of the peers is measured, one after the other")

// prices is how many there are on each side.
const prices = 2000

// a peer is something that orders rest in. Prices are 1 to prices.
type peer interface {
	insert(i int, o Order)
	cancel(i int, o Order)
	match(s Side, limit ledger.Rate, gpus uint32) (filled uint32)
}

type ours struct {
	*Book
	fill func(Fill)
}

func (b ours) insert(_ int, o Order) {
	if err := b.Insert(o); err != nil {
		panic(err)
	}
}
func (b ours) cancel(_ int, o Order) { b.Cancel(o.ID) }
func (b ours) match(s Side, limit ledger.Rate, gpus uint32) uint32 {
	return gpus - b.Match(s, limit, gpus, b.fill)
}

// plain is a tree of prices with a queue at each, and a map of ids.
type plain struct {
	ids   map[wire.ID]*plainOrder
	sides [3]*btree.BTreeG[*plainLevel]
}

type plainOrder struct {
	Order
	level      *plainLevel
	next, prev *plainOrder
}

type plainLevel struct {
	key         int64
	gpus        uint64
	first, last *plainOrder
}

func newPlain() *plain {
	p := &plain{ids: map[wire.ID]*plainOrder{}}
	for s := Bid; s <= Ask; s++ {
		p.sides[s] = btree.NewBTreeGOptions(func(a, b *plainLevel) bool { return a.key < b.key }, btree.Options{NoLocks: true})
	}
	return p
}

func (p *plain) insert(_ int, o Order) {
	l, ok := p.sides[o.Side].Get(&plainLevel{key: o.Side.rung(o.Rate).Rank})
	if !ok {
		l = &plainLevel{key: o.Side.rung(o.Rate).Rank}
		p.sides[o.Side].Set(l)
	}
	r := &plainOrder{Order: o, level: l, prev: l.last}
	if l.last != nil {
		l.last.next = r
	} else {
		l.first = r
	}
	l.last, l.gpus = r, l.gpus+uint64(o.GPUs)
	p.ids[o.ID] = r
}

func (p *plain) cancel(_ int, o Order) {
	if r, ok := p.ids[o.ID]; ok {
		p.remove(r)
	}
}

func (p *plain) remove(r *plainOrder) {
	l := r.level
	if l.gpus -= uint64(r.GPUs); r.prev != nil {
		r.prev.next = r.next
	} else {
		l.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		l.last = r.prev
	}
	if l.first == nil {
		p.sides[r.Side].Delete(l)
	}
	delete(p.ids, r.ID)
}

func (p *plain) match(s Side, limit ledger.Rate, gpus uint32) (filled uint32) {
	for filled < gpus {
		l, ok := p.sides[s].Min()
		if !ok || l.key > s.rung(limit).Rank {
			break
		}
		r := l.first
		n := min(gpus-filled, r.GPUs)
		if filled += n; n == r.GPUs {
			p.remove(r)
		} else {
			r.GPUs, l.gpus = r.GPUs-n, l.gpus-uint64(n)
		}
	}
	return filled
}

// ladder is the floor: one slot for every price there can be, a bitmap of those in use, and orders found by their number.
type ladder struct {
	orders []floorOrder
	rungs  [3][prices + 2]floorLevel
	used   [3][(prices + 65) / 64]uint64
}

type floorOrder struct {
	Order
	next, prev uint32
}

type floorLevel struct{ first, last uint32 }

func (f *ladder) at(o Order) int { return f.rung(o.Side, o.Rate) }

func (f *ladder) rung(s Side, r ledger.Rate) int {
	if s == Bid {
		return int(prices + 1 - r)
	}
	return int(r)
}

func (f *ladder) insert(i int, o Order) {
	p, at := uint32(i)+1, f.at(o)
	for len(f.orders) <= int(p) {
		f.orders = append(f.orders, floorOrder{})
	}
	l := &f.rungs[o.Side][at]
	f.orders[p] = floorOrder{Order: o, prev: l.last}
	if l.last != 0 {
		f.orders[l.last].next = p
	} else {
		l.first = p
		f.used[o.Side][at/64] |= 1 << (at % 64)
	}
	l.last = p
}

func (f *ladder) cancel(i int, _ Order) { f.remove(uint32(i) + 1) }

func (f *ladder) remove(p uint32) {
	r := &f.orders[p]
	at := f.at(r.Order)
	l := &f.rungs[r.Side][at]
	if r.prev != 0 {
		f.orders[r.prev].next = r.next
	} else {
		l.first = r.next
	}
	if r.next != 0 {
		f.orders[r.next].prev = r.prev
	} else {
		l.last = r.prev
	}
	if l.first == 0 {
		f.used[r.Side][at/64] &^= 1 << (at % 64)
	}
	r.GPUs = 0
}

func (f *ladder) match(s Side, limit ledger.Rate, gpus uint32) (filled uint32) {
	for filled < gpus {
		at := -1
		for w, b := range f.used[s] {
			if b != 0 {
				at = w*64 + bits.TrailingZeros64(b)
				break
			}
		}
		if at < 0 || at > f.rung(s, limit) {
			break
		}
		r := &f.orders[f.rungs[s][at].first]
		n := min(gpus-filled, r.GPUs)
		if filled += n; n == r.GPUs {
			f.remove(f.rungs[s][at].first)
		} else {
			r.GPUs -= n
		}
	}
	return filled
}

// orderOf is the order with a number: its id looks like any other, its price is one of 2000.
func orderOf(i int, r *rand.Rand) Order {
	o := Order{Side: Bid + Side(r.IntN(2)), Rate: ledger.Rate(1 + r.IntN(prices)), GPUs: 1 + uint32(r.IntN(8))}
	binary.BigEndian.PutUint64(o.ID[:], r.Uint64())
	binary.BigEndian.PutUint64(o.ID[8:], uint64(i)+1)
	return o
}

// figures are nanoseconds an operation.
type figures struct{ insert, cancel, match float64 }

// measure fills a peer, then cancels and inserts at random, then has a maker and a taker meet at the best price.
func measure(p peer, orders []Order, turns int) (f figures) {
	size := len(orders) / 2
	f.insert = quickest(size, func(i int) { p.insert(i, orders[i]) })
	r := rand.New(rand.NewPCG(7, 7))
	live := make([]int, size)
	picks := make([]int, turns)
	for i := range live {
		live[i] = i
	}
	for i := range picks {
		picks[i] = r.IntN(size)
	}
	f.cancel = quickest(turns, func(t int) {
		i, n := live[picks[t]], size+t
		p.cancel(i, orders[i])
		p.insert(n, orders[n])
		live[picks[t]] = n
	})
	f.match = quickest(turns, func(t int) {
		o := Order{ID: wire.ID{0xff, byte(t), byte(t >> 8), byte(t >> 16), 1}, Side: Ask, Rate: 1, GPUs: 1}
		p.insert(len(orders)+t&1023, o)
		if p.match(Ask, prices, 1) != 1 {
			panic("nothing to match")
		}
	})
	return f
}

// quickest is nanoseconds a call, in the quickest of ten parts of n calls: other work on the machine makes none quicker.
func quickest(n int, f func(i int)) float64 {
	best := math.Inf(1)
	for part := range 10 {
		start := time.Now()
		for i := part * n / 10; i < (part+1)*n/10; i++ {
			f(i)
		}
		best = min(best, float64(time.Since(start).Nanoseconds())/float64(n/10))
	}
	return best
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// verify is what it costs to check the signature of one order.
func verify() float64 {
	key, err := crypto.GenerateKey()
	if err != nil {
		panic(err)
	}
	digest := crypto.Keccak256([]byte("an order"))
	sig, err := crypto.Sign(digest, key)
	if err != nil {
		panic(err)
	}
	pub := crypto.CompressPubkey(&key.PublicKey)
	return quickest(200, func(int) {
		if !crypto.VerifySignature(pub, digest, sig[:64]) {
			panic("not verified")
		}
	})
}

// TestBeside measures the book and its peers in turns, and holds the medians of the ratios to the goals: at least as fast as
// the plain book, and a twentieth of a signature check.
func TestBeside(t *testing.T) {
	sizes, slack := []int{10_000, 100_000, 1_000_000}, 1.0
	if testing.Short() { // beside other tests, on a machine that does other things
		sizes, slack = sizes[:2], 0.75
	}
	var line []string
	for _, size := range sizes {
		orders := make([]Order, 2*size)
		r := rand.New(rand.NewPCG(uint64(size), 1))
		for i := range orders {
			orders[i] = orderOf(i, r)
		}
		turns := min(size, 200_000) // no more than orders are left for
		var beside, above, spent [3][]float64
		for range *rounds {
			o, p, l := New([2]uint64{1, 2}), newPlain(), &ladder{}
			check := verify()
			a, b, c := measure(ours{o, func(Fill) {}}, orders, turns), measure(p, orders, turns), measure(l, orders, turns)
			for k, x := range [3][3]float64{{a.insert, b.insert, c.insert}, {a.cancel, b.cancel, c.cancel}, {a.match, b.match, c.match}} {
				beside[k] = append(beside[k], x[1]/x[0])
				above[k] = append(above[k], x[0]/x[2])
				spent[k] = append(spent[k], x[0]/check)
			}
			same(t, o, p)
		}
		t.Logf("%d orders        × plain btree   × floor   of a check", size)
		for k, name := range []string{"insert", "cancel+insert", "rest+match"} {
			m, f, s := median(beside[k]), median(above[k]), median(spent[k])
			t.Logf("  %-14s  %5.2f faster    %5.2f      1/%.0f", name, m, f, 1/s)
			line = append(line, fmt.Sprintf("%s@%dk %.2f", name, size/1000, m))
			ops := map[bool]float64{true: 2, false: 1}[k > 0] // of a pair of operations
			if m < slack {
				t.Errorf("%s of %d: %.2f times as fast as the plain book, want 1", name, size, m)
			}
			if s/ops*slack > 1.0/20 {
				t.Errorf("%s of %d: 1/%.0f of a signature check an operation, want 1/20", name, size, ops/s)
			}
		}
	}
	fmt.Println("book: times as fast as a plain btree book: " + strings.Join(line, ", "))
}

// same compares what is left in two books.
func same(t *testing.T, b *Book, p *plain) {
	t.Helper()
	if b.Len() != len(p.ids) {
		t.Fatalf("%d orders, the plain book has %d", b.Len(), len(p.ids))
	}
	for s := Bid; s <= Ask; s++ {
		var want []wire.ID
		p.sides[s].Scan(func(l *plainLevel) bool {
			for r := l.first; r != nil; r = r.next {
				want = append(want, r.ID)
			}
			return true
		})
		i := 0
		b.Orders(s, func(o Order) bool {
			if i >= len(want) || o.ID != want[i] {
				t.Fatalf("side %d: order %d differs", s, i)
			}
			i++
			return true
		})
	}
}
