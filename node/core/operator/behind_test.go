package operator_test

import (
	"maps"
	"strings"
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// Old books lack what the bank signed since, of each kind; the newest lack nothing; and another's signature says nothing.
func TestBehindNamesWhatTheBooksLack(t *testing.T) {
	b := newBench(t, false)
	host, consumer := b.shop("25")
	books := []map[string][]byte{maps.Clone(b.rows)}
	var signed []wire.AnyVerified
	then := func(objects ...wire.AnyVerified) {
		signed, books = append(signed, objects...), append(books, maps.Clone(b.rows))
	}
	q := b.quote(host, nil)
	opened := b.bank(consumer, step.OpReserve, nil, seal(b, consumer, reserve(q)), q)
	r := object[ledger.Reservation](b, opened)
	then(opened.objects...)
	v, u := b.claim(r, 3, credits("0.02"))
	then(b.bank(host, step.OpSettle, nil, v, u).objects[0])
	then(b.bank(consumer, step.OpRefresh, step.LeaseBody{Lease: r.Lease}).objects...)
	l := seal(b, host, ledger.Lower{Host: host.Address(), Lease: r.Lease, Reservation: r.ID, Seq: 2, Cap: credits("0.1"), At: b.now})
	then(b.bank(host, step.OpLower, nil, l).objects...)
	b.step(func(ctx *step.Context) {
		if lack := b.o.Behind(ctx, signed); len(lack) > 0 {
			t.Errorf("the newest books lack %q", lack)
		}
	})
	for i, rows := range books[:len(books)-1] {
		b.rows = rows
		b.restart()
		b.step(func(ctx *step.Context) {
			if lack := b.o.Behind(ctx, signed[i:i+1]); len(lack) != 1 || !strings.Contains(lack[0], r.Lease.Short()) {
				t.Errorf("books %d lack %q of %v", i, lack, signed[i].Kind())
			}
		})
	}
	b.step(func(ctx *step.Context) {
		other := ledger.Reservation{ID: wire.ID{1}, Seq: 9, Operator: host.Address(), Consumer: consumer.Address(), By: consumer.Address(),
			Host: host.Address(), Lease: wire.ID{1}, Cap: 1, MaxRate: 1, Opened: b.now, RedeemBy: b.now + 1, Entry: 99}
		order := market.Lodged{Operator: b.op.Address(), Lease: r.Lease, Seq: 1, Command: identity.Hash{1}, Minute: 1, At: b.now}
		if lack := b.o.Behind(ctx, []wire.AnyVerified{seal(b, host, other)}); len(lack) > 0 {
			t.Errorf("another's word: %q", lack)
		}
		if lack := b.o.Behind(ctx, []wire.AnyVerified{seal(b, b.op, order)}); len(lack) != 1 {
			t.Errorf("an order that is not here: %q", lack)
		}
	})
}
