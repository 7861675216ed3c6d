package observer

import (
	"slices"
	"testing"

	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// TestTapeIsBounded fills the tape over its bounds, out of order, and loads it again.
func TestTapeIsBounded(t *testing.T) {
	o := New(identity.Address{9})
	ctx := &step.Context{Now: tapeFor + 1000}
	fill := func(host byte, seq uint64, at member.Time) {
		o.takeFills(ctx, market.Offer{Host: identity.Address{host}, Fills: []market.Fill{{Seq: seq, At: at, Model: "A"}}})
	}
	fill(1, 1, 3000)
	fill(2, 1, 1000)
	fill(1, 2, 2000)
	fill(2, 1, 5000) // known: what was said first stands
	order := func() (out []member.Time) {
		for _, k := range o.tape {
			out = append(out, o.fills.Get(k).At)
		}
		return out
	}
	if got, want := order(), []member.Time{1000, 2000, 3000}; !slices.Equal(got, want) {
		t.Fatalf("the tape is %v, want %v", got, want)
	}
	var rows []step.Row
	rows = o.fills.Rows(rows)
	again := New(identity.Address{9})
	for _, r := range rows {
		if ours, err := again.fills.Load(r.Key, r.Value); !ours || err != nil {
			t.Fatal(ours, err)
		}
	}
	if again.restoreTape(); !slices.Equal(again.tape, o.tape) {
		t.Errorf("loaded %v, want %v", again.tape, o.tape)
	}
	if o.expireFills(ctx); len(order()) != 3 {
		t.Errorf("at the end of its week a fill is gone: %v", order())
	}
	ctx.Now++
	if o.expireFills(ctx); !slices.Equal(order(), []member.Time{2000, 3000}) || o.fills.Len() != 2 {
		t.Errorf("after a week the tape is %v", order())
	}
	for i := range tapeMost {
		fill(3, uint64(i+1), member.Time(4000+i))
	}
	if len(o.tape) != tapeMost || o.fills.Len() != tapeMost || order()[0] != 4000 {
		t.Errorf("%d fills, the first of %v; want %d from 4000", len(o.tape), order()[0], tapeMost)
	}
}
