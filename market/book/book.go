// Package book is the resting orders of one model of GPU: bids and asks in order of price, then of arrival.
//
// An Order rests until it is cancelled or filled. On each side the better price comes first (of bids the higher, of asks
// the lower), and at one price the order that came first. Match takes from the best orders of a side as much as somebody
// wants, at prices that they accept; each piece is a Fill at the price of the order that rested.
//
// The book decides nothing else: who may bid, which GPUs go together, and whether a part is worth having is for those who
// hold it (a host's auction, a consumer's standing bids). It is plain memory and holds no time.
//
// Promises: K1 no order is before another on its side that has a better price, or came earlier at the same. K2 the GPUs of
// a level are the sum of its orders'. K3 nothing is allocated for an operation once the book has been as large as it gets:
// orders and levels live in slabs, and places are used again.
package book

import (
	"errors"

	"souk/ledger"
	"souk/market/ranked"
	"souk/p2p/wire"
)

// Why an order is not taken.
var (
	ErrOrder = errors.New("book: an order has an id, a side, a price over zero and at least one GPU")
	ErrTwice = errors.New("book: an order with this id rests already")
)

// A Side is what an order wants.
type Side uint8

// The sides.
const (
	Bid Side = 1 // buys: the highest price first
	Ask Side = 2 // sells: the lowest price first
)

// An Order rests in the book.
type Order struct {
	ID   wire.ID
	Side Side
	Rate ledger.Rate // per GPU-hour
	GPUs uint32
}

// A Fill is a piece of a resting order that somebody took.
type Fill struct {
	ID   wire.ID
	Rate ledger.Rate
	GPUs uint32
	Done bool // nothing of the order is left
}

// A Level is all that rests at one price.
type Level struct {
	Rate   ledger.Rate
	GPUs   uint64
	Orders uint32
}

// place is the index of an order or a level in its slab; none is 0, which no order and no level has.
type place uint32

// resting is an order in the slab, chained to its neighbours of the same price.
type resting struct {
	Order
	level      place
	next, prev place
}

// level is one price of one side.
type level struct {
	Level
	first, last place
}

// rung is how a level is found: by its price, of bids below zero, so that the best comes first on both sides.
func (s Side) rung(r ledger.Rate) ranked.Key {
	if s == Bid {
		r = -r
	}
	return ranked.Key{Rank: int64(r)}
}

// A Book is the resting orders of one model. Make one with New. One goroutine owns it.
type Book struct {
	ids    ids
	orders []resting
	levels []level
	sides  [3]ranked.List[place] // by Side

	freeOrders, freeLevels []place
}

// New is an empty book. The seed is random and secret.
func New(seed [2]uint64) *Book {
	b := &Book{ids: ids{seed: seed}, orders: make([]resting, 1), levels: make([]level, 1)}
	b.ids.grow(nil)
	return b
}

// Len is how many orders rest.
func (b *Book) Len() int { return b.ids.n }

// Insert has an order rest, behind those of its price. Errors: ErrOrder, ErrTwice. It fills nothing: match first.
func (b *Book) Insert(o Order) error {
	if o.ID.IsZero() || o.Side != Bid && o.Side != Ask || o.Rate <= 0 || o.GPUs == 0 {
		return ErrOrder
	}
	b.ids.grow(b.orders)
	slot, there := b.ids.find(o.ID, b.orders)
	if there {
		return ErrTwice
	}
	at, p := b.levelAt(o.Side, o.Rate), b.newOrder()
	b.ids.table[slot] = p
	b.ids.n++
	l := &b.levels[at]
	b.orders[p] = resting{Order: o, level: at, prev: l.last}
	if l.last != 0 {
		b.orders[l.last].next = p
	} else {
		l.first = p
	}
	l.last = p
	l.GPUs += uint64(o.GPUs)
	l.Orders++
	return nil
}

// Cancel takes an order out. It reports what was left of it, and whether it rested.
func (b *Book) Cancel(id wire.ID) (Order, bool) {
	p := b.ids.get(id, b.orders)
	if p == 0 {
		return Order{}, false
	}
	o := b.orders[p].Order
	b.remove(p)
	return o, true
}

// Get is what is left of an order.
func (b *Book) Get(id wire.ID) (Order, bool) {
	p := b.ids.get(id, b.orders)
	return b.orders[p].Order, p != 0
}

// Best is the order that Match would take from first.
func (b *Book) Best(s Side) (Order, bool) {
	_, at := b.sides[s].First()
	if at == nil {
		return Order{}, false
	}
	return b.orders[b.levels[*at].first].Order, true
}

// Match takes up to a number of GPUs from a side, the best order first, at prices no worse than limit: of asks no more, of
// bids no less. Each piece is told to fill, which must not use the book. It reports how many GPUs it found none for.
func (b *Book) Match(s Side, limit ledger.Rate, gpus uint32, fill func(Fill)) (left uint32) {
	for gpus > 0 {
		r, at := b.sides[s].First()
		if at == nil || r.Rank > s.rung(limit).Rank {
			break
		}
		l := &b.levels[*at]
		p := l.first
		o := &b.orders[p]
		n := min(gpus, o.GPUs)
		gpus -= n
		f := Fill{ID: o.ID, Rate: o.Rate, GPUs: n, Done: n == o.GPUs}
		if f.Done {
			b.remove(p)
		} else {
			o.GPUs -= n
			l.GPUs -= uint64(n)
		}
		fill(f)
	}
	return gpus
}

// Levels walks through the prices of a side, the best first, until visit says no.
func (b *Book) Levels(s Side, visit func(Level) bool) {
	b.sides[s].Each(func(_ ranked.Key, at *place) bool { return visit(b.levels[*at].Level) })
}

// Orders walks through the orders of a side, the best first, until visit says no.
func (b *Book) Orders(s Side, visit func(Order) bool) {
	b.sides[s].Each(func(_ ranked.Key, at *place) bool {
		for p := b.levels[*at].first; p != 0; p = b.orders[p].next {
			if !visit(b.orders[p].Order) {
				return false
			}
		}
		return true
	})
}

// levelAt is the level of a price, made if need be.
func (b *Book) levelAt(s Side, r ledger.Rate) place {
	at, fresh := b.sides[s].Put(s.rung(r))
	if !fresh {
		return *at
	}
	if n := len(b.freeLevels); n > 0 {
		*at = b.freeLevels[n-1]
		b.freeLevels = b.freeLevels[:n-1]
	} else {
		*at = place(len(b.levels))
		b.levels = append(b.levels, level{})
	}
	b.levels[*at] = level{Level: Level{Rate: r}}
	return *at
}

func (b *Book) newOrder() place {
	if n := len(b.freeOrders); n > 0 {
		p := b.freeOrders[n-1]
		b.freeOrders = b.freeOrders[:n-1]
		return p
	}
	b.orders = append(b.orders, resting{})
	return place(len(b.orders) - 1)
}

// remove takes an order out of its level, and the level out of its side when it was the last.
func (b *Book) remove(p place) {
	o := &b.orders[p]
	l := &b.levels[o.level]
	l.GPUs -= uint64(o.GPUs)
	l.Orders--
	if o.prev != 0 {
		b.orders[o.prev].next = o.next
	} else {
		l.first = o.next
	}
	if o.next != 0 {
		b.orders[o.next].prev = o.prev
	} else {
		l.last = o.prev
	}
	if l.Orders == 0 {
		b.sides[o.Side].Delete(o.Side.rung(o.Rate))
		b.freeLevels = append(b.freeLevels, o.level)
	}
	if at, ok := b.ids.find(o.ID, b.orders); ok {
		b.ids.remove(at, b.orders)
	}
	b.freeOrders = append(b.freeOrders, p)
	*o = resting{}
}
