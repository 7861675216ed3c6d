package operator_test

import (
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/member"
)

func TestAttendantDealsWithTheBankForItsPrincipal(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, consumer := b.shop("25")
		attendant := key(7)
		delegated := func(m *market.Terms) { m.By, m.Attendant = attendant.Address(), attendant.Address() }
		q := b.quote(host, delegated)
		ask := seal(b, consumer, reserve(q))
		b.refuses(b.bank(consumer, step.OpReserve, nil, ask, q), step.RefuseMoney) // it is no member
		b.joined(7, member.RoleConsumer)
		r := object[ledger.Reservation](b, b.bank(consumer, step.OpReserve, nil, ask, q))
		if r.By != attendant.Address() || r.Consumer != consumer.Address() {
			t.Fatalf("got %+v", r)
		}
		lease := step.LeaseBody{Lease: r.Lease}
		for _, op := range []step.Op{step.OpRefresh, step.OpReceipt} {
			if got := object[ledger.Reservation](b, b.bank(attendant, op, lease)); got.By != r.By || got.Seq < r.Seq {
				t.Fatalf("operation %d: got %+v", op, got)
			}
		}
		as := r
		as.By = consumer.Address()
		_, u := b.claim(as, 3, credits("0.02"))
		word := ledger.Voucher{Reservation: r.ID, Lease: r.Lease, By: r.By, Host: r.Host, Total: credits("0.02"), Minute: u.Value().Last(), Usage: u.Ref(), Seq: 3}
		mine := word
		mine.By = consumer.Address()
		b.refuses(b.bank(host, step.OpSettle, nil, seal(b, consumer, mine), u), step.RefuseNotForYou)
		if s := object[ledger.SettleReceipt](b, b.bank(attendant, step.OpRefresh, lease, seal(b, attendant, word), u)); s.Paid != credits("0.02") {
			t.Fatalf("got %+v", s)
		}
		closing := seal(b, consumer, ledger.Close{Consumer: consumer.Address(), Lease: r.Lease, Reservation: r.ID, At: b.now})
		b.refuses(b.bank(attendant, step.OpClose, nil, closing), step.RefuseNotForYou)
		stop := seal(b, consumer, market.Command{Consumer: consumer.Address(), Host: r.Host, Lease: r.Lease, Seq: 1, Order: market.CommandStop})
		b.refuses(b.bank(attendant, step.OpLodge, nil, stop), step.RefuseNotForYou)
		if a, c := b.balance(attendant), b.balance(consumer); a.Settled != 0 || c.Settled != int64(credits("0.02")) {
			t.Fatalf("the attendant paid %d, its principal %d", a.Settled, c.Settled)
		}
	})
}
