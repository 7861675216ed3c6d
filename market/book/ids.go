package book

import (
	"encoding/binary"
	"math/bits"

	"souk/p2p/wire"
)

// ids finds orders by id: a table of places, twice as many as there are orders or more, in which the place of an id lies at
// its hash or a little behind (linear probing, deletion by moving back: Knuth, TAOCP 3, 6.4, algorithm R). Ids are chosen by
// strangers, so the hash is keyed: who does not know the seed cannot make many fall together.
type ids struct {
	seed  [2]uint64
	table []place // a power of two long
	n     int
}

func (t *ids) hash(id wire.ID) uint64 {
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(id[:8])^t.seed[0], binary.LittleEndian.Uint64(id[8:])^t.seed[1])
	return hi ^ lo
}

// find is where the table has an id, or where it would have it.
func (t *ids) find(id wire.ID, orders []resting) (at uint64, ok bool) {
	mask := uint64(len(t.table) - 1)
	for at = t.hash(id) & mask; t.table[at] != 0; at = (at + 1) & mask {
		if orders[t.table[at]].ID == id {
			return at, true
		}
	}
	return at, false
}

// get is the place of an id; 0 if there is none.
func (t *ids) get(id wire.ID, orders []resting) place {
	if at, ok := t.find(id, orders); ok {
		return t.table[at]
	}
	return 0
}

// grow keeps half of the table free, one more place counted.
func (t *ids) grow(orders []resting) {
	if 2*(t.n+1) <= len(t.table) {
		return
	}
	old := t.table
	t.table = make([]place, max(2*len(old), 64))
	for _, p := range old {
		if p != 0 {
			at, _ := t.find(orders[p].ID, orders)
			t.table[at] = p
		}
	}
}

// remove takes out what find found, and moves back what had to lie behind it.
func (t *ids) remove(at uint64, orders []resting) {
	mask := uint64(len(t.table) - 1)
	for next := (at + 1) & mask; t.table[next] != 0; next = (next + 1) & mask {
		if home := t.hash(orders[t.table[next]].ID); (next-home)&mask >= (next-at)&mask {
			t.table[at] = t.table[next]
			at = next
		}
	}
	t.table[at] = 0
	t.n--
}
