package host_test

import (
	"testing"

	"souk/market"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// The bench's disk has 1000 GiB.
func TestDiskIsSoldOnce(t *testing.T) {
	b := newBench(t, false)
	b.do([]string{"gpus", "1", "2", "3"})
	b.do([]string{"advertise", "0.60", "0.10"})
	deal := func(n byte, who string, kind market.BidKind, disk, volume uint64) (*deal, step.Reply) {
		d := b.newDeal(wire.ID{n}, who, kind, 600_000_000)
		d.request.Spec.Disk, d.request.Spec.Volume = disk<<30, volume<<30
		if volume > 0 {
			d.request.Spec.Mount = "/data"
		}
		return d, b.request(d)
	}
	a, r := deal(1, "alice", market.Spot, 400, 200)
	b.must(r)
	if _, r := deal(2, "bob", market.OnDemand, 500, 0); r.Refusal == nil || r.Refusal.Code != step.RefuseSpec {
		t.Errorf("beside an open quote: %+v", r.Refusal)
	}
	b.must(b.accept(a))
	b.up(a.id)
	if _, r := deal(3, "bob", market.OnDemand, 500, 0); r.Refusal == nil || r.Refusal.Code != step.RefuseSpec {
		t.Errorf("beside a pod: %+v", r.Refusal)
	}
	b.to(b.now + 3*member.Hour/60)
	b.must(b.order(a, market.CommandStop, false))
	b.to(b.now + 5*member.Second)
	c, r := deal(4, "bob", market.OnDemand, 500, 0) // a stopped pod keeps its volume only
	b.must(r)
	b.must(b.accept(c))
	b.to(b.now + 2*member.Hour/60)
	if r := b.order(a, market.CommandStart, false); r.Refusal == nil || r.Refusal.Code != step.RefuseNoGPUs {
		t.Errorf("a start without room: %+v", r.Refusal)
	}
	if _, r := deal(5, "carol", market.OnDemand, 301, 0); r.Refusal == nil || r.Refusal.Code != step.RefuseSpec {
		t.Errorf("over a volume: %+v", r.Refusal)
	}
	b.must(b.order(a, market.CommandRemove, false))
	b.to(b.now + 5*member.Second)
	_, r = deal(6, "carol", market.OnDemand, 500, 0)
	b.must(r)
}

func TestVictimsMakeRoom(t *testing.T) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.Spot, 300_000_000)
	d.request.Spec.Disk = 900 << 30
	b.must(b.request(d))
	b.must(b.accept(d))
	b.up(d.id)
	b.to(noon + 3*member.Hour/60)
	e := b.newDeal(wire.ID{2}, "bob", market.OnDemand, 600_000_000)
	e.request.Spec.Disk = 900 << 30
	b.must(b.request(e))
}
