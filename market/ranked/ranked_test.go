package ranked

import (
	"bytes"
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type pair struct {
	key   Key
	value int
}

func compare(a, b pair) int {
	return cmp.Or(cmp.Compare(a.key.Rank, b.key.Rank), bytes.Compare(a.key.Tie[:], b.key.Tie[:]))
}

// TestListIsASortedSlice compares every step with a slice that is sorted anew.
func TestListIsASortedSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l List[int]
		var naive []pair
		span := rapid.SampledFrom([]int{3, 40, 5000}).Draw(t, "span")
		for step := range rapid.IntRange(1, 700).Draw(t, "steps") {
			v := pair{Key{Rank: int64(rapid.IntRange(0, span).Draw(t, "rank")), Tie: [21]byte{byte(rapid.IntRange(0, 1).Draw(t, "tie"))}}, step}
			i, there := slices.BinarySearchFunc(naive, v, compare)
			if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
				if l.Delete(v.key) != there {
					t.Fatalf("delete %v: want %v", v.key, there)
				}
				if there {
					naive = slices.Delete(naive, i, i+1)
				}
			} else {
				at, fresh := l.Put(v.key)
				if fresh == there || fresh && *at != 0 {
					t.Fatalf("put %v: value %d, want new %v", v.key, *at, !there)
				}
				*at = v.value
				if there {
					naive[i] = v
				} else {
					naive = slices.Insert(naive, i, v)
				}
			}
			if g := l.Get(v.key); (g != nil) != slices.Contains(naive, v) || g != nil && *g != v.value {
				t.Fatalf("get %v: %v", v.key, g)
			}
		}
		var all []pair
		l.Each(func(k Key, v *int) bool { all = append(all, pair{k, *v}); return true })
		if !slices.Equal(all, naive) || l.Len() != len(naive) {
			t.Fatalf("%d values %v, want %v", l.Len(), all, naive)
		}
		if k, f := l.First(); (f == nil) != (len(naive) == 0) || f != nil && (pair{k, *f}) != naive[0] {
			t.Fatalf("first is %v", f)
		}
		for i, b := range l.blocks {
			if l.firsts[i] != b.keys[0].Rank {
				t.Fatalf("block %d begins with %v, not %v", i, b.keys[0], l.firsts[i])
			}
			if len(b.keys) == 0 || len(b.keys) > blockMost || len(b.keys) != len(b.values) {
				t.Fatalf("a block has %d keys and %d values", len(b.keys), len(b.values))
			}
		}
	})
}

func TestEachStopsWhenToldTo(t *testing.T) {
	var l List[int]
	for i := range 1000 {
		l.Put(Key{Rank: int64(i)})
	}
	seen := 0
	l.Each(func(Key, *int) bool { seen++; return seen < 70 })
	if seen != 70 {
		t.Errorf("visited %d, want 70", seen)
	}
}
