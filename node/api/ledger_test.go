package api_test

import (
	"bytes"
	"context"
	"testing"

	"souk/ledger"
	"souk/node/api"
	"souk/node/api/apitest"
	"souk/node/core/observer"
	"souk/node/core/table"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A longBank is an operator's node whose journal has many entries: of reservation mine every hundredth, of others the rest.
type longBank struct {
	*apitest.Node
	entries uint64
	asked   int // entries
}

var mine, others = wire.ID{0xaa, 1}, wire.ID{0xbb, 2}

// Objects implements api.Backend, from the newest on.
func (b *longBank) Objects(_ context.Context, from, to []byte, limit int, reverse bool) ([]wire.Object, error) {
	var out []wire.Object
	for i := b.entries; i > 0 && reverse && len(out) < limit; i-- {
		key := table.Key(table.BankEntry, table.Uint64(i))
		if bytes.Compare(key, from) < 0 || bytes.Compare(key, to) >= 0 {
			continue
		}
		e := ledger.Entry{Seq: i, At: member.Time(i), Entry: ledger.EntryReserve, Reservation: others, Postings: []ledger.Posting{
			{Book: ledger.BookAvailable, Amount: -1}, {Book: ledger.BookReserved, Amount: 1},
		}}
		if i%100 == 0 {
			e.Reservation = mine
		}
		out = append(out, wire.Draft(e))
	}
	b.asked += len(out)
	return out, nil
}

func TestTailPagesBackToAReservation(t *testing.T) {
	b := &longBank{Node: &apitest.Node{}, entries: 5000}
	apitest.Say[observer.Where](b.Node, observer.Standing{Roles: "operator", Slot: 60})
	c := api.Local(t.Context(), b, quiet)
	defer c.Close()
	tail := func(ref string, limit int) (out []uint64) {
		for e, err := range c.Ledger(t.Context(), ref, limit, false) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, e.Seq)
		}
		return out
	}
	for _, w := range []struct {
		ref         string
		limit, got  int
		first, last uint64
	}{
		{"", 50, 50, 4951, 5000},
		{"aa", 3, 3, 4800, 5000},
		{"aa", 40, 40, 1100, 5000},
		{"aa", 1000, 50, 100, 5000},
	} {
		got := tail(w.ref, w.limit)
		if len(got) != w.got || got[0] != w.first || got[len(got)-1] != w.last {
			t.Errorf("tail of %d of %q: got %d entries %v; want %d, from %d to %d", w.limit, w.ref, len(got), got, w.got, w.first, w.last)
		}
	}
	b.entries, b.asked = 200_000, 0
	if got := tail("cc", 5); len(got) != 0 || b.asked > 70_000 {
		t.Errorf("of a reservation that is not there: %v, after %d entries", got, b.asked)
	}
}
