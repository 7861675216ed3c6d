package step

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"souk/node/core/table"
	"souk/p2p/wire"
)

// stored is a store as the rows of a keeper make it.
type stored map[string][]byte

func (s stored) take(rows []Row) {
	for _, r := range rows {
		if r.Delete {
			delete(s, string(r.Key))
		} else {
			s[string(r.Key)] = r.Value
		}
	}
}

func (s stored) equal(rows []Row) error {
	if len(rows) != len(s) {
		return fmt.Errorf("%d rows, the store has %d", len(rows), len(s))
	}
	for _, r := range rows {
		if !bytes.Equal(s[string(r.Key)], r.Value) {
			return fmt.Errorf("row %x is %x, the store has %x", r.Key, r.Value, s[string(r.Key)])
		}
	}
	return nil
}

type counted struct {
	N uint64 `cbor:"1,keyasint"`
}

// Whatever is put, touched and deleted: what Flush wrote is what Rows gives, and loading it gives the same map.
func TestStoreHoldsWhatTheMapHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, c := ByNumber[counted](table.Policy), NewCell[counted]("x")
		store := stored{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			k := rapid.Uint64Range(0, 5).Draw(t, "key")
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0, 1:
				m.Put(k, counted{rapid.Uint64().Draw(t, "value")})
			case 2:
				if v := m.Get(k); v != nil {
					v.N++
					m.Touch(k)
				}
			case 3:
				m.Delete(k)
			case 4:
				c.Get().N++
				c.Touch()
			case 5:
				c.Clear()
			}
			if !slices.IsSorted(m.Keys()) || len(m.Keys()) != m.Len() {
				t.Fatalf("keys %v of %d values", m.Keys(), m.Len())
			}
			if rapid.Bool().Draw(t, "flush") {
				store.take(c.Flush(m.Flush(nil)))
				if err := store.equal(c.Rows(m.Rows(nil))); err != nil {
					t.Fatal(err)
				}
			}
		}
		store.take(c.Flush(m.Flush(nil)))
		m2, c2 := ByNumber[counted](table.Policy), NewCell[counted]("x")
		for k, v := range store {
			ours, err := m2.Load([]byte(k), v)
			if !ours {
				ours, err = c2.Load([]byte(k), v)
			}
			if !ours || err != nil {
				t.Fatalf("row %x: ours %v, %v", k, ours, err)
			}
		}
		if err := store.equal(c2.Rows(m2.Rows(nil))); err != nil {
			t.Fatalf("after loading: %v", err)
		}
	})
}

func TestBadRowIsRefused(t *testing.T) {
	m := ByID[counted](table.HostLease)
	good := table.Key(table.HostLease, make([]byte, 16))
	for name, r := range map[string]Row{
		"short key":     {Key: good[:9], Value: wire.Marshal(counted{1})},
		"unknown field": {Key: good, Value: wire.Marshal(map[int]int{7: 1})},
		"no CBOR":       {Key: good, Value: []byte{0xff}},
	} {
		if ours, err := m.Load(r.Key, r.Value); !ours || err == nil {
			t.Errorf("%s: ours %v, error %v", name, ours, err)
		}
	}
	if ours, _ := m.Load(table.Key(table.Policy, table.Uint64(1)), nil); ours {
		t.Error("took another table's row")
	}
}
