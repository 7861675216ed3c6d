// Package ranked keeps values in order where many come, go and are walked through from the first on: the offers of a market
// by price, the levels of an order book.
//
// A List holds its values in blocks of a few dozen, in one order over all of them. A value is found by two binary
// searches, over the blocks and within one; to insert or delete moves part of one block; a walk reads memory from front to
// back. That is why it is here and not a tree: a query over prices looks at thousands of values in a row.
package ranked

import (
	"bytes"
	"slices"
)

// blockMost is how many values a block has before it is split: few enough that moving half of them is cheap.
const blockMost = 32

// A Key is by what values are ordered: a number, and among equal numbers some bytes.
type Key struct {
	Rank int64
	Tie  [21]byte
}

// before reports whether a comes before b. Keys with equal ranks are few.
func (a *Key) before(b *Key) bool {
	if a.Rank != b.Rank {
		return a.Rank < b.Rank
	}
	return bytes.Compare(a.Tie[:], b.Tie[:]) < 0
}

// A List is values in the order of their keys, one for each key. The zero List is empty. Whoever walks through it must not
// put or delete meanwhile.
type List[V any] struct {
	blocks []block[V] // none is empty
	firsts []int64    // the rank of the first key of each, side by side: most of a search is here
	n      int
	spare  []block[V] // that became empty, for the next split
}

// A block has the keys of its values beside them: a search touches nothing else.
type block[V any] struct {
	keys   []Key
	values []V
}

// spareMost bounds how many empty blocks are kept.
const spareMost = 16

// Len is how many values there are.
func (l *List[V]) Len() int { return l.n }

// find is where a key is, or where it would be inserted.
func (l *List[V]) find(k Key) (in, at int, ok bool) {
	lo, hi := 0, len(l.firsts) // the last block whose first key is not behind k
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if first := l.firsts[mid]; first < k.Rank || first == k.Rank && !k.before(&l.blocks[mid].keys[0]) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if len(l.blocks) == 0 {
		return 0, 0, false
	}
	in = max(lo-1, 0)
	keys := l.blocks[in].keys
	lo, hi = 0, len(keys)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); keys[mid].before(&k) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return in, lo, lo < len(keys) && keys[lo] == k
}

// Get is the value of a key, to be read or changed in place until the next Put or Delete; nil if there is none.
func (l *List[V]) Get(k Key) *V {
	if b, i, ok := l.find(k); ok {
		return &l.blocks[b].values[i]
	}
	return nil
}

// Put makes room for the value of a key, unless it is there, and is that value, to be set until the next Put or Delete.
func (l *List[V]) Put(k Key) (v *V, fresh bool) {
	b, i, ok := l.find(k)
	switch {
	case ok:
		return &l.blocks[b].values[i], false
	case len(l.blocks) == 0:
		l.blocks, l.firsts = append(l.blocks, l.block()), append(l.firsts, k.Rank)
	case len(l.blocks[b].keys) == blockMost:
		l.blocks = slices.Insert(l.blocks, b+1, l.block())
		lower, upper := &l.blocks[b], &l.blocks[b+1]
		upper.keys, lower.keys = split(upper.keys, lower.keys)
		upper.values, lower.values = split(upper.values, lower.values)
		l.firsts = slices.Insert(l.firsts, b+1, upper.keys[0].Rank)
		if i > len(lower.keys) {
			b, i = b+1, i-len(lower.keys)
		}
	}
	var none V
	at := &l.blocks[b]
	at.keys, at.values = slices.Insert(at.keys, i, k), slices.Insert(at.values, i, none)
	l.firsts[b] = at.keys[0].Rank
	l.n++
	return &at.values[i], true
}

// split moves the upper half of a full list behind an empty one.
func split[T any](empty, full []T) (upper, lower []T) {
	upper = append(empty, full[blockMost/2:]...)
	clear(full[blockMost/2:])
	return upper, full[:blockMost/2]
}

// Delete removes the value of a key, and reports whether there was one.
func (l *List[V]) Delete(k Key) bool {
	b, i, ok := l.find(k)
	if !ok {
		return false
	}
	l.n--
	at := &l.blocks[b]
	at.keys, at.values = slices.Delete(at.keys, i, i+1), slices.Delete(at.values, i, i+1)
	if len(at.keys) > 0 {
		l.firsts[b] = at.keys[0].Rank
		return true
	}
	if len(l.spare) < spareMost {
		l.spare = append(l.spare, *at)
	}
	l.blocks, l.firsts = slices.Delete(l.blocks, b, b+1), slices.Delete(l.firsts, b, b+1)
	return true
}

// block is an empty block.
func (l *List[V]) block() block[V] {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	return block[V]{make([]Key, 0, blockMost), make([]V, 0, blockMost)}
}

// First is the value before all others; nil if there is none.
func (l *List[V]) First() (k Key, v *V) {
	if l.n == 0 {
		return k, nil
	}
	return l.blocks[0].keys[0], &l.blocks[0].values[0]
}

// Each walks through all values in order, until visit says no.
func (l *List[V]) Each(visit func(k Key, v *V) bool) {
	for _, b := range l.blocks {
		for i := range b.values {
			if !visit(b.keys[i], &b.values[i]) {
				return
			}
		}
	}
}
