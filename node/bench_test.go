package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"souk/ledger"
	"souk/node/core"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/node/keys"
	"souk/node/store"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// BenchmarkMinute has a consumer take usage minutes of 256 leases at once: the host's signature on each is checked, and that it
// continues its chain; the voucher for it is signed; entry, voucher and guard are on disk before the voucher leaves. All of it
// goes the shell's way: opened by whoever brought it, then one loop, then committer and signers at once, then out, in order. What is
// left out is the rest of the consumer's step.
//
// Beside it, in turns of 100 ms, run the limit, which is checking one signature and making one on all cores and nothing else;
// the same minutes without making anything durable; and the same with a synced Badger transaction for each instead of the store.
// The figures are medians over the rounds.
func BenchmarkMinute(b *testing.B) {
	const flight = 256
	host, consumer := benchKey(b, 2), benchKey(b, 3)
	m := member.Charter{Salt: wire.ID{7}, Name: "bazaar", ChainID: 1, Operators: []identity.PublicKey{host.Public()}, Threshold: 1, Slot: 60}.Market()
	leases := make([]*metered, flight)
	var group sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := w; i < flight; i += runtime.GOMAXPROCS(0) {
				leases[i] = newMetered(b, i, m, host, consumer)
			}
		})
	}
	group.Wait()
	sh := newPipeline(b, m, consumer)
	each, err := badger.Open(badger.DefaultOptions(b.TempDir()).WithSyncWrites(true).WithLogger(nil))
	if err != nil {
		b.Fatal(err)
	}
	defer each.Close()

	limit, err := consumer.Sign(identity.Hash{1})
	if err != nil {
		b.Fatal(err)
	}
	contenders := []struct {
		name string
		do   func(l *metered) error
	}{
		{"crypto", func(*metered) error {
			if _, err := (identity.Secp256k1{}).Recover(identity.Hash{1}, limit); err != nil {
				return err
			}
			_, err := consumer.Sign(identity.Hash{2})
			return err
		}},
		{"minutes", func(l *metered) error { return sh.minute(l) }},
		{"fleeting", func(l *metered) error {
			_, err := sh.fleeting(l)
			return err
		}},
		{"each", func(l *metered) error {
			out, err := sh.fleeting(l)
			if err != nil {
				return err
			}
			return each.Update(func(txn *badger.Txn) error {
				for _, r := range out.Rows {
					if err := txn.Set(r.Key, r.Value); err != nil {
						return err
					}
				}
				return txn.Set(out.Guards[0].Chain, out.Guards[0].Hash[:])
			})
		}},
	}
	rates := make(map[string][]float64)
	for b.Loop() {
		for _, c := range contenders {
			rates[c.name] = append(rates[c.name], turn(b, leases, c.do))
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, c := range contenders {
		b.ReportMetric(median(rates[c.name]), c.name+"/s")
	}
	for _, of := range []string{"crypto", "fleeting", "each"} {
		var ratios []float64
		for i := range rates[of] {
			ratios = append(ratios, rates["minutes"][i]/rates[of][i])
		}
		b.ReportMetric(median(ratios), "minutes:"+of)
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// turn has one goroutine for each lease take minutes for 100 ms, and gives how many were taken in a second.
func turn(b *testing.B, leases []*metered, do func(*metered) error) float64 {
	var done atomic.Int64
	var group sync.WaitGroup
	begin := time.Now()
	for _, l := range leases {
		group.Go(func() {
			for time.Since(begin) < 100*time.Millisecond {
				if err := do(l); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

func benchKey(b *testing.B, n byte) *identity.PrivateKey {
	k, err := identity.ParsePrivateKey(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		b.Fatal(err)
	}
	return k
}

// metered is a lease of which a consumer has got its entries and not taken them. When there are no more, it begins anew under
// another name.
type metered struct {
	id      wire.ID
	begin   ledger.Place
	entries []wire.Object
	host    identity.Address
	tariff  ledger.Tariff

	place ledger.Place
	round uint64
	at    int
}

func newMetered(b *testing.B, n int, m wire.Market, host, consumer *identity.PrivateKey) *metered {
	l := &metered{id: wire.ID{byte(n), 1}, host: host.Address(), tariff: ledger.Tariff{GPU: 600_000_000}}
	l.begin = ledger.Place{Head: identity.Hash{byte(n), 2}, Next: 30_000_000}
	l.place = l.begin
	for place := l.begin; len(l.entries) < 32; {
		u := ledger.Usage{
			Host: host.Address(), Lease: l.id, Seq: place.Seq + 1, First: place.Next, Count: 1, Billable: 1, Status: ledger.StatusRunning,
			Basis: ledger.BasisAttended, Terms: identity.Hash{3}, GPUs: []string{"GPU-5e1f3a52-0c5c-4d5e-9d21-6f0f0f6f3a10"}, Start: identity.Hash{4},
			Numerator: place.Meter.Numerator + 600_000_000*60, Prev: place.Head,
		}
		o, err := wire.Seal(m, host, u)
		if err == nil {
			place, err = place.Follow(u, o.Ref(m), l.tariff, 60)
		}
		if err != nil {
			b.Error(err)
			return l
		}
		l.entries = append(l.entries, o)
	}
	return l
}

// next is the entry that comes next.
func (l *metered) next() wire.Object {
	if l.at == len(l.entries) {
		l.at, l.place, l.round = 0, l.begin, l.round+1
	}
	l.at++
	return l.entries[l.at-1]
}

// take is what a consumer does with an entry that it finds right.
func (l *metered) take(ctx *step.Context, v wire.Verified[ledger.Usage], id uint64) {
	u := v.Value()
	place, err := l.place.Follow(u, v.Ref(), l.tariff, 60)
	if err != nil {
		ctx.Refuse(id, step.Refuse(step.RefuseBadRequest, "%v", err))
		return
	}
	l.place = place
	draft := wire.Draft(ledger.Voucher{
		Reservation: wire.ID{5}, Lease: l.id, By: ctx.Self, Host: l.host, Total: u.Owed(), Minute: u.Last(), Usage: v.Ref(), Seq: u.Seq,
	})
	ctx.Put(table.Key(table.Usage, l.id[:], table.Uint64(l.round<<32|u.Seq)), v.Object())
	ctx.Put(table.Key(table.Voucher, l.id[:]), draft)
	ctx.Guard(fmt.Appendf(nil, "voucher/%s/%d", l.id[:], l.round), u.Seq, draft)
	ctx.Reply(id, step.OpOK, nil, draft)
}

// A pipeline is a node's way from a verified message to what leaves, without a network.
type pipeline struct {
	*Node
	taken chan arrival
}

type arrival struct {
	lease *metered
	msg   wire.Verified[ledger.Usage]
	id    uint64
}

func newPipeline(b *testing.B, m wire.Market, k *identity.PrivateKey) *pipeline {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := store.Open(b.TempDir(), store.Options{Log: log})
	if err != nil {
		b.Fatal(err)
	}
	n := &Node{
		log: log, key: &keys.Key{PrivateKey: k}, self: k.Address(), store: s, committer: store.NewCommitter(s), released: make(chan *release, 1024),
		unsigned: make(chan *release, unsignedMost), waiting: map[uint64]chan<- waitOutcome{},
	}
	n.opener.Store(&wire.Opener{Market: m, Verifier: identity.Secp256k1{}})
	if n.events, err = openEvents(s); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	n.end = cancel
	sh := &pipeline{Node: n, taken: make(chan arrival, inboxSize)}
	var disk, exit, loop sync.WaitGroup
	disk.Go(func() {
		if err := n.committer.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	exit.Go(func() { n.releaseAll(ctx) })
	for range signersAtOnce {
		exit.Go(n.signAsTheyCome)
	}
	loop.Go(func() {
		for a := range sh.taken {
			out := &step.Out{Market: m}
			a.lease.take(&step.Context{Out: out, Market: m, Self: n.self}, a.msg, a.id)
			n.submit(out, nil)
		}
	})
	b.Cleanup(func() {
		close(sh.taken)
		loop.Wait()
		cancel(nil)
		disk.Wait()
		close(n.unsigned)
		close(n.released)
		exit.Wait()
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return sh
}

// fleeting takes the next entry of a lease and signs its voucher, in one goroutine, and makes nothing durable.
func (s *pipeline) fleeting(l *metered) (*step.Out, error) {
	m := s.opener.Load().Market
	v, err := core.Open(*s.opener.Load(), l.next())
	if err != nil {
		return nil, err
	}
	out := &step.Out{Market: m}
	l.take(&step.Context{Out: out, Market: m, Self: s.self}, v.(wire.Verified[ledger.Usage]), 0)
	return out, s.sign(out)
}

// minute takes the next entry of a lease, and waits for its voucher.
func (s *pipeline) minute(l *metered) error {
	v, err := core.Open(*s.opener.Load(), l.next())
	if err != nil {
		return err
	}
	id, outcome, done := s.await()
	defer done()
	s.taken <- arrival{l, v.(wire.Verified[ledger.Usage]), id}
	r := (<-outcome).reply
	switch {
	case r.Refusal != nil:
		return r.Refusal
	case len(r.Frame.Objects) != 1 || r.Frame.Objects[0].IsDraft():
		return fmt.Errorf("no signed voucher left: %+v", r)
	}
	return nil
}
