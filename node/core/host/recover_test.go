package host_test

import (
	"testing"

	"souk/market"
	"souk/node/core/host"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A host out of a quarantine keeps no quote that was live: who accepts it is refused, and its GPUs are free at once.
func TestForsakenHoldIsDropped(t *testing.T) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	b.must(b.request(d))
	b.down, b.gap = true, true
	b.load()
	b.raw(func(ctx *step.Context) { b.h.Forsake(ctx, host.Seen{}, nil) })
	b.boot()
	b.now += member.Second
	if r := b.accept(d); r.Refusal == nil {
		t.Error("a quote of before the loss made a lease")
	}
	other := b.newDeal(wire.ID{2}, "bob", market.OnDemand, 600_000_000)
	b.must(b.request(other))
	b.must(b.accept(other))
}
