package book

import (
	"cmp"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"souk/ledger"
	"souk/p2p/wire"
)

// naive is a book as one would first write it: all orders in one list, sorted for every question.
type naive []Order

func (n naive) side(s Side) []Order {
	var out []Order
	for _, o := range n {
		if o.Side == s {
			out = append(out, o)
		}
	}
	slices.SortStableFunc(out, func(a, b Order) int {
		if s == Bid {
			return cmp.Compare(b.Rate, a.Rate)
		}
		return cmp.Compare(a.Rate, b.Rate)
	})
	return out
}

func (n *naive) match(s Side, limit ledger.Rate, gpus uint32) (fills []Fill, left uint32) {
	for _, o := range n.side(s) {
		if gpus == 0 || s == Bid && o.Rate < limit || s == Ask && o.Rate > limit {
			break
		}
		k := min(gpus, o.GPUs)
		gpus -= k
		fills = append(fills, Fill{o.ID, o.Rate, k, k == o.GPUs})
		i := slices.IndexFunc(*n, func(x Order) bool { return x.ID == o.ID })
		if (*n)[i].GPUs -= k; (*n)[i].GPUs == 0 {
			*n = slices.Delete(*n, i, i+1)
		}
	}
	return fills, gpus
}

// TestBookIsASortedList compares every step with the naive book.
func TestBookIsASortedList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Without a seed, the hash of these ids is their first byte: they lie in one another's way.
		b, n := New([2]uint64{}), naive{}
		id := func() wire.ID {
			return wire.ID{0: byte(rapid.IntRange(0, 9).Draw(t, "home")), 8: 1, 15: byte(rapid.IntRange(0, 3).Draw(t, "tie"))}
		}
		side := func() Side { return rapid.SampledFrom([]Side{Bid, Ask}).Draw(t, "side") }
		rate := func() ledger.Rate { return ledger.Rate(rapid.IntRange(1, 12).Draw(t, "rate")) }
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				o := Order{id(), side(), rate(), uint32(rapid.IntRange(1, 9).Draw(t, "gpus"))}
				there := slices.ContainsFunc(n, func(x Order) bool { return x.ID == o.ID })
				if err := b.Insert(o); errors.Is(err, ErrTwice) != there || err == nil == there {
					t.Fatalf("insert %v: %v, want twice %v", o, err, there)
				}
				if !there {
					n = append(n, o)
				}
			case 2:
				x := id()
				i := slices.IndexFunc(n, func(o Order) bool { return o.ID == x })
				o, ok := b.Cancel(x)
				if ok != (i >= 0) || ok && o != n[i] {
					t.Fatalf("cancel %v: %v, %v", x, o, ok)
				}
				if ok {
					n = slices.Delete(n, i, i+1)
				}
			case 3:
				s, limit, want := side(), rate(), uint32(rapid.IntRange(0, 20).Draw(t, "want"))
				fills, left := n.match(s, limit, want)
				var got []Fill
				if l := b.Match(s, limit, want, func(f Fill) { got = append(got, f) }); l != left || !slices.Equal(got, fills) {
					t.Fatalf("match %d of %d at %d: %v left %d, want %v left %d", s, want, limit, got, l, fills, left)
				}
			}
			agree(t, b, n)
		}
	})
}

func agree(t *rapid.T, b *Book, n naive) {
	if b.Len() != len(n) {
		t.Fatalf("%d orders, want %d", b.Len(), len(n))
	}
	for _, s := range []Side{Bid, Ask} {
		want := n.side(s)
		var got []Order
		b.Orders(s, func(o Order) bool { got = append(got, o); return true })
		if !slices.Equal(got, want) {
			t.Fatalf("K1: side %d is %v, want %v", s, got, want)
		}
		if best, ok := b.Best(s); ok != (len(want) > 0) || ok && best != want[0] {
			t.Fatalf("best of side %d is %v, %v", s, best, ok)
		}
		b.Levels(s, func(l Level) bool {
			var sum Level
			for _, o := range want {
				if o.Rate == l.Rate {
					sum.Rate, sum.GPUs, sum.Orders = o.Rate, sum.GPUs+uint64(o.GPUs), sum.Orders+1
				}
			}
			if sum != l || l.Orders == 0 {
				t.Fatalf("K2: level %v, want %v", l, sum)
			}
			return true
		})
	}
}

func TestOrdersThatAreNone(t *testing.T) {
	b := New([2]uint64{1, 2})
	for _, o := range []Order{{}, {ID: wire.ID{1}, Side: Bid, Rate: 1}, {ID: wire.ID{1}, Side: Bid, GPUs: 1}, {ID: wire.ID{1}, Rate: 1, GPUs: 1},
		{ID: wire.ID{1}, Side: 3, Rate: 1, GPUs: 1}, {Side: Ask, Rate: 1, GPUs: 1}, {ID: wire.ID{1}, Side: Ask, Rate: -1, GPUs: 1}} {
		if err := b.Insert(o); !errors.Is(err, ErrOrder) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, ok := b.Get(wire.ID{}); ok || b.Len() > 0 {
		t.Error("an order that is none rests")
	}
}

// TestNothingIsAllocated is K3: a book that has its size cancels, inserts and matches in the memory that it has.
func TestNothingIsAllocated(t *testing.T) {
	const size = 5000
	b := New([2]uint64{1, 2})
	order := func(i int) Order {
		return Order{ID: wire.ID{1, byte(i), byte(i >> 8), byte(i >> 16)}, Side: Bid + Side(i&1), Rate: ledger.Rate(2 + i*7919%997), GPUs: 1}
	}
	for i := range size {
		if err := b.Insert(order(i)); err != nil {
			t.Fatal(err)
		}
	}
	i := size
	got := 0
	fill := func(Fill) { got++ }
	step := func() {
		b.Cancel(order(i - size).ID)
		if b.Insert(order(i)) != nil {
			t.Fatal("not inserted")
		}
		o := Order{ID: wire.ID{2}, Side: Ask, Rate: 1, GPUs: 1}
		if b.Insert(o) != nil || b.Match(Ask, 1, 1, fill) != 0 {
			t.Fatal("not matched")
		}
		i++
	}
	for range 4 * size {
		step()
	}
	if n := testing.AllocsPerRun(4*size, step); n != 0 {
		t.Errorf("K3: %v allocations a step", n)
	}
	if got < 8*size {
		t.Errorf("%d fills", got)
	}
}
