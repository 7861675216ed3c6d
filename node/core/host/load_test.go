package host_test

import (
	"bytes"
	"flag"
	"io"
	"log/slog"
	"slices"
	"syscall"
	"testing"
	"time"

	"souk/ledger"
	"souk/market"
	"souk/node/core"
	"souk/node/core/step"
	"souk/node/store"
	"souk/p2p/member"
	"souk/p2p/wire"
)

var loadLeases = flag.Int("leases", 1000, "how many leases BenchmarkMetering has running")

// BenchmarkMetering is what a minute of 1,000 running leases costs a host's node: for each lease the look at its container,
// three keep-alives, the usage entry and the voucher. Every message is opened as the shell opens it, stepped, made durable in
// a store by itself, and what leaves is signed; all CPU of the process counts while that is done, and none while the
// consumers write their messages. The node serves nobody else meanwhile, and the network is left out.
func BenchmarkMetering(b *testing.B) {
	l := newLoad(b, *loadLeases)
	var cores []float64
	for b.Loop() {
		l.spent = 0
		l.slot()
		cores = append(cores, 100*l.spent.Seconds()/60)
	}
	slices.Sort(cores)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(cores[len(cores)/2], "%core")
	b.ReportMetric(float64(*loadLeases), "leases")
}

// A load is a host with many leases that run, and their consumers.
type load struct {
	*bench
	disk  *store.Store
	deals []*deal
	spent time.Duration // CPU that the host took
}

// newLoad has one lease run, and makes of what the store has of it what it would have of many.
func newLoad(t testing.TB, n int) *load {
	b, d := running(t)
	l := &load{bench: b}
	var err error
	if l.disk, err = store.Open(t.TempDir(), store.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.disk.Close(); err != nil {
			t.Error(err)
		}
	})
	p := *b.pods[d.id]
	one := d.id
	for i := range n - 1 {
		id := wire.ID{1, 'l', 'o', 'a', 'd', byte(i >> 8), byte(i)}
		for k, v := range b.rows {
			if key := bytes.Replace([]byte(k), one[:], id[:], 1); string(key) != k {
				b.rows[string(key)] = bytes.ReplaceAll(v, one[:], id[:])
			}
		}
		b.pods[id], b.places[id] = &p, b.places[one]
		more := *d
		more.id, more.terms.Lease = id, id
		b.deals[id] = &more
	}
	for _, id := range sorted(b.deals) {
		l.deals = append(l.deals, b.deals[id])
	}
	b.load()
	b.sink = func(*step.Out) {} // what a start writes of so many leases is more than a store takes of one step
	b.boot()
	b.to(b.now)
	b.sink = l.take
	for _, d := range b.deals {
		d.attends = false // from here on the consumers act only when told
	}
	return l
}

// take makes a step durable and signs what leaves with it, as the shell does.
func (l *load) take(out *step.Out) {
	l.t.Helper()
	var b store.Batch
	for _, r := range out.Rows {
		b.Rows = append(b.Rows, store.Row{Key: r.Key, Value: r.Value, Delete: r.Delete})
	}
	for _, g := range out.Guards {
		b.Guards = append(b.Guards, store.Guard{Chain: g.Chain, Place: g.Place, Hash: g.Hash})
	}
	if err := l.disk.Commit([]store.Batch{b}); err != nil {
		l.t.Fatal(err)
	}
	for i := range out.Publish {
		out.Publish[i].Object = l.signed(out.Publish[i].Object)
	}
	for _, r := range out.Replies {
		for i := range r.Frame.Objects {
			r.Frame.Objects[i] = l.signed(r.Frame.Objects[i])
		}
	}
}

func (l *load) signed(o wire.Object) wire.Object {
	l.t.Helper()
	o, err := core.Sign(l.market, self, o)
	if err != nil {
		l.t.Fatal(err)
	}
	return o
}

// cpu is what this process has used.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// work counts what the host does.
func (l *load) work(do func()) {
	before := cpu(l.t)
	do()
	l.spent += cpu(l.t) - before
}

// asked is a request on its way.
type asked struct {
	d     *deal
	op    step.Op
	frame wire.Frame
}

// answers has the host take requests, and gives each reply with the objects that the store adds to it.
func (l *load) answers(list []asked) []wire.Frame {
	l.t.Helper()
	out := make([]wire.Frame, len(list))
	l.work(func() {
		for i, a := range list {
			objects, err := core.OpenAll(l.open, a.frame.Objects)
			if err != nil {
				l.t.Fatal(err)
			}
			l.requests++
			r := step.Request{ID: l.requests, From: a.d.by.Public(), Peer: a.d.by.Address(), Proto: step.ProtoLease, Op: a.op, Objects: objects, Body: a.frame.Body}
			replies := l.raw(func(ctx *step.Context) { l.h.Request(ctx, r) }).Replies
			if len(replies) != 1 || replies[0].Refusal != nil {
				l.t.Fatalf("%s: operation %d: %+v", l.clock(), a.op, replies)
			}
			out[i] = replies[0].Frame
			for _, s := range replies[0].Append {
				out[i].Objects = append(out[i].Objects, l.span(s)...)
			}
		}
	})
	return out
}

func (l *load) span(s step.Span) (list []wire.Object) {
	err := l.disk.Range(s.From, s.To, s.Limit, false, func(_, value []byte) error {
		var o wire.Object
		if err := wire.Load(value, &o); err != nil {
			return err
		}
		list = append(list, l.signed(o))
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return list
}

// slot is a minute of all leases, from the tick that begins it.
func (l *load) slot() {
	tick := l.charter.Clock().Tick(l.minute() + 1)
	l.now = tick
	l.work(func() { l.raw(func(*step.Context) {}) })
	paid := 0
	for _, second := range []member.Time{1, 21, 41} {
		l.now = tick + second*member.Second
		var alive, vouchers []asked
		for _, d := range l.deals {
			a := seal(l.bench, d.by, market.Alive{By: d.by.Address(), Host: self.Address(), Lease: d.id, Nonce: uint64(l.now), Top: d.seen.Top, Answered: d.seen.Bits})
			alive = append(alive, asked{d, step.OpAlive, wire.Frame{Objects: []wire.Object{a.Object()}, Body: wire.Marshal(step.AliveBody{UsageSeq: l.places[d.id].Seq})}})
		}
		for i, f := range l.answers(alive) {
			d := l.deals[i]
			reply := sign[market.AliveReply](l.bench, self, f.Objects[0]).Value()
			d.seen = d.seen.With(reply.Minute)
			for _, o := range f.Objects[1:] {
				v, err := wire.Open[ledger.Usage](l.open, o)
				if err != nil {
					l.t.Fatal(err)
				}
				place, err := l.places[d.id].Follow(v.Value(), v.Ref(), d.terms.Tariff, 60)
				if err != nil {
					l.t.Fatal(err)
				}
				l.places[d.id] = place
				w := seal(l.bench, d.by, ledger.Voucher{Reservation: d.res.ID, Lease: d.id, By: d.by.Address(), Host: self.Address(),
					Total: v.Value().Owed(), Minute: v.Value().Last(), Usage: v.Ref(), Seq: v.Value().Seq})
				vouchers = append(vouchers, asked{d, step.OpVoucher, wire.Frame{Objects: []wire.Object{w.Object()}}})
			}
		}
		l.answers(vouchers)
		paid += len(vouchers)
	}
	if paid != len(l.deals) {
		l.t.Fatalf("%s: %d vouchers, want one of each of %d leases", l.clock(), paid, len(l.deals))
	}
}
