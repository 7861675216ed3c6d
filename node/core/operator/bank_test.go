package operator_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"souk/ledger"
	"souk/market"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// shop is a bench with a host (key 2) and a consumer (key 3) that has money.
func (b *bench) shop(amount string) (host, consumer *identity.PrivateKey) {
	b.t.Helper()
	host, consumer = b.joined(2, member.RoleHost), b.joined(3, member.RoleConsumer)
	do[operator.DepositView](b, operator.Deposit{Addr: consumer.Address().String(), Amount: credits(amount), Ref: "wire 1"})
	return host, consumer
}

// reserved is the reservation for the host's quote.
func (b *bench) reserved(change func(*market.Terms)) ledger.Reservation {
	b.t.Helper()
	q := b.quote(key(2), change)
	return object[ledger.Reservation](b, b.bank(key(3), step.OpReserve, nil, seal(b, key(3), reserve(q)), q))
}

func (b *bench) bank(from *identity.PrivateKey, op step.Op, body any, objects ...wire.AnyVerified) answer {
	b.t.Helper()
	return b.ask(from, step.ProtoBank, op, body, objects...)
}

// again wants a repeated request to be answered as before and to write nothing.
func (b *bench) again(first answer, ask func() answer) {
	b.t.Helper()
	second := ask()
	if second.refused != nil || len(second.out.Rows)+len(second.out.Guards)+len(second.out.Notices) > 0 {
		b.t.Fatalf("again: refused %v, %d rows", second.refused, len(second.out.Rows))
	}
	for i, o := range second.objects {
		if o.Ref() != first.objects[i].Ref() {
			b.t.Fatalf("again: another %v", o.Kind())
		}
	}
}

func (b *bench) balance(k *identity.PrivateKey) step.BalanceAnswer {
	b.t.Helper()
	v, err := step.Body[step.BalanceAnswer](b.bank(k, step.OpBalance, nil).body)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func TestLeaseIsReservedSettledAndClosedOnce(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, consumer := b.shop("25")
		q := b.quote(host, nil)
		ask := func() answer { return b.bank(consumer, step.OpReserve, nil, seal(b, consumer, reserve(q)), q) }
		a := ask()
		r := object[ledger.Reservation](b, a)
		if r.Seq != 1 || r.Cap != ledger.Amount(rate) || r.Host != host.Address() || r.Operator != b.op.Address() || r.Entry != 2 {
			t.Fatalf("got %+v", r)
		}
		b.again(a, ask)
		b.now += 10 * member.Hour // its quote has ended: it is still the same reservation
		b.again(a, ask)

		v1, u1 := b.claim(r, 3, credits("0.02"))
		settle := func() answer { return b.bank(host, step.OpSettle, nil, v1, u1) }
		a = settle()
		if s := object[ledger.SettleReceipt](b, a); s.Paid != credits("0.02") || s.Fee != credits("0.001") || s.Released {
			t.Fatalf("got %+v", s)
		}
		b.again(a, settle)

		v2, u2 := b.claim(r, 7, credits("0.05"))
		f := seal(b, host, ledger.Final{Host: host.Address(), Lease: r.Lease, Reservation: r.ID, Total: credits("0.05"), Usage: u2.Ref(), At: b.now})
		final := func() answer { return b.bank(host, step.OpFinal, nil, f, v2, u2) }
		a = final()
		if s := object[ledger.SettleReceipt](b, a); s.Paid != credits("0.05") || !s.Released {
			t.Fatalf("got %+v", s)
		}
		b.again(a, final)
		b.refuses(ask(), step.RefuseMoney) // released for good

		c, h := b.balance(consumer), b.balance(host)
		if c.Available != int64(credits("24.95")) || c.Reserved != 0 || c.Settled != int64(credits("0.05")) || c.Deposited != int64(credits("25")) {
			t.Fatalf("consumer: got %+v", c)
		}
		if h.Payable != int64(credits("0.0475")) || h.Entries != 5 {
			t.Fatalf("host: got %+v", h)
		}
		if op := b.balance(b.op); op.Fees != int64(credits("0.0025")) {
			t.Fatalf("operator: got %+v", op)
		}
		for _, k := range []*identity.PrivateKey{host, consumer} {
			a := b.bank(k, step.OpReceipt, step.LeaseBody{Lease: r.Lease})
			if object[ledger.SettleReceipt](b, a).Paid != credits("0.05") || object[ledger.Reservation](b, a) != r {
				t.Fatal("receipt of another state")
			}
		}
	})
}

func TestJournalOfTheBankIsAChain(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, _ := b.shop("25")
		r := b.reserved(nil)
		v, u := b.claim(r, 1, credits("0.02"))
		b.bank(host, step.OpSettle, nil, v, u)
		height := do[operator.HeightView](b, operator.Height{})
		kept := 0
		for k := range b.logs {
			if table.Table(k[0]) == table.BankEntry {
				kept++
			}
		}
		if height.Entries != 3 || kept != 3 || height.Deposited != credits("25") || height.Reserved != ledger.Amount(rate)-credits("0.02") || height.Open != 1 {
			t.Fatalf("got %+v, %d rows", height, kept)
		}
		var prev identity.Hash
		for n := uint64(1); n <= height.Entries; n++ {
			e, obj, err := operator.DecodeEntry(b.logs[string(operator.EntryKey(n))])
			if err != nil || e.Seq != n || e.Prev != prev {
				t.Fatalf("entry %d: got %+v, %v", n, e, err)
			}
			prev = obj.Ref(b.open.Market)
		}
		if prev != height.Ref {
			t.Fatal("the head is not the last entry")
		}
	})
}

func TestReceiptsHaveAPlaceEachAlsoWithoutAnEntry(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, _ := b.shop("10")
		r := b.reserved(func(t *market.Terms) { t.Budget = credits("0.10") })
		if r.Cap != credits("0.10") {
			t.Fatalf("got %+v", r)
		}
		var receipts []ledger.SettleReceipt
		for seq, total := range []string{"", "0.10", "0.12", "0.15"} { // the cap is reached at once
			if total == "" {
				continue
			}
			v, u := b.claim(r, uint64(seq), credits(total))
			receipts = append(receipts, object[ledger.SettleReceipt](b, b.bank(host, step.OpSettle, nil, v, u)))
		}
		f := seal(b, host, ledger.Final{Host: host.Address(), Lease: r.Lease, Reservation: r.ID, Total: credits("0.15"), At: b.now})
		receipts = append(receipts, object[ledger.SettleReceipt](b, b.bank(host, step.OpFinal, nil, f)))
		for i, s := range receipts {
			if s.Paid != credits("0.10") || s.Released != (i == 3) || s.Entry != receipts[0].Entry {
				t.Fatalf("receipt %d: got %+v", i, s)
			}
		}
	})
}

func TestReserveRefuses(t *testing.T) {
	cases := []struct {
		name   string
		want   step.RefusalCode
		before func(b *bench)
		terms  func(*market.Terms)
		change func(b *bench, r *ledger.Reserve)
	}{
		{name: "too little money", want: step.RefuseFunds, terms: func(t *market.Terms) {
			t.Rate, t.Tariff.GPU = 30_000_000_000, 60_000_000_000
		}, change: func(b *bench, r *ledger.Reserve) { r.MaxRate, r.Cap = 61_000_000_000, credits("60") }},
		{name: "a rate under the quote's", want: step.RefuseMoney, change: func(b *bench, r *ledger.Reserve) { r.MaxRate-- }},
		{name: "a quote that ended", want: step.RefuseExpired, before: func(b *bench) { b.now += 40*member.Second + 1 }},
		{name: "another quote", want: step.RefuseBadRequest, change: func(b *bench, r *ledger.Reserve) { r.Quote = identity.Hash{1} }},
		{name: "another lease", want: step.RefuseBadRequest, change: func(b *bench, r *ledger.Reserve) { r.Lease = wire.ID{77} }},
		{name: "another reservation", want: step.RefuseBadRequest, change: func(b *bench, r *ledger.Reserve) { r.Reservation = wire.ID{77} }},
		{name: "another voucher signer", want: step.RefuseBadRequest, change: func(b *bench, r *ledger.Reserve) { r.By = key(8).Address() }},
		{name: "another host", want: step.RefuseMoney, change: func(b *bench, r *ledger.Reserve) { r.Host = key(8).Address() }},
		{name: "another budget", want: step.RefuseBadRequest, change: func(b *bench, r *ledger.Reserve) { r.Budget = 1 }},
		{name: "a quote for another consumer", want: step.RefuseBadRequest, terms: func(t *market.Terms) { t.Consumer = key(8).Address() },
			change: func(b *bench, r *ledger.Reserve) { r.Consumer = key(3).Address() }},
		{name: "a suspended consumer", want: step.RefuseRevoked, before: func(b *bench) {
			do[operator.SanctionView](b, operator.Sanction{Addr: key(3).Address().String(), What: member.Suspend, Reason: "late"})
		}},
		{name: "a suspended host", want: step.RefuseMoney, before: func(b *bench) {
			do[operator.SanctionView](b, operator.Sanction{Addr: key(2).Address().String(), What: member.Suspend, Reason: "late"})
		}},
		{name: "an expired consumer", want: step.RefuseNoCredential, before: func(b *bench) { b.now += 73 * member.Hour }},
		{name: "an account at its limit", want: step.RefuseLimit, before: func(b *bench) {
			c, _, _ := b.world.Credential(key(3).Address())
			c.Serial, c.HourlyLimit = c.Serial+1, int64(rate)-1
			if err := b.world.Admit(c, wire.Draft(c)); err != nil {
				b.t.Fatal(err)
			}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, true)
			b.shop("10")
			q := b.quote(key(2), c.terms)
			r := reserve(q)
			if c.change != nil {
				c.change(b, &r)
			}
			if c.before != nil {
				c.before(b)
			}
			b.refuses(b.bank(key(3), step.OpReserve, nil, seal(b, key(3), r), q), c.want)
		})
	}
	b := newBench(t, false)
	host, consumer := b.shop("10")
	q := b.quote(host, nil)
	b.refuses(b.bank(consumer, step.OpReserve, nil, seal(b, consumer, reserve(q))), step.RefuseBadRequest) // no quote
	b.refuses(b.bank(consumer, step.OpReserve, nil, q), step.RefuseBadRequest)                             // no request
	b.refuses(b.bank(host, step.OpReserve, nil, seal(b, consumer, reserve(q)), q), step.RefuseNotForYou)
	own := b.quote(host, func(t *market.Terms) { t.Consumer, t.By, t.Attendant = host.Address(), host.Address(), host.Address() })
	b.refuses(b.bank(host, step.OpReserve, nil, seal(b, host, reserve(own)), own), step.RefuseNotForYou) // no consumer
}

func TestBankRefuses(t *testing.T) {
	b := newBench(t, true)
	host, consumer := b.shop("25")
	stranger := b.joined(4, member.RoleConsumer)
	r := b.reserved(nil)
	v, u := b.claim(r, 1, credits("0.02"))
	wrong, _ := b.claim(r, 1, credits("0.03"))
	lease := step.LeaseBody{Lease: r.Lease}
	final := seal(b, host, ledger.Final{Host: host.Address(), Lease: r.Lease, Reservation: r.ID, Total: 0, At: b.now})
	foreign := seal(b, stranger, ledger.Final{Host: stranger.Address(), Lease: r.Lease, Reservation: r.ID, At: b.now})
	noLease := seal(b, host, ledger.NoLease{Host: host.Address(), Lease: r.Lease, Reservation: r.ID, At: b.now})
	otherNo := seal(b, stranger, ledger.NoLease{Host: stranger.Address(), Lease: r.Lease, Reservation: r.ID, At: b.now})
	closing := seal(b, consumer, ledger.Close{Consumer: consumer.Address(), Lease: r.Lease, Reservation: r.ID, At: b.now})
	otherClose := seal(b, stranger, ledger.Close{Consumer: stranger.Address(), Lease: r.Lease, Reservation: r.ID, At: b.now})
	lower := seal(b, host, ledger.Lower{Host: host.Address(), Lease: r.Lease, Reservation: r.ID, Seq: 1, Cap: 1, At: b.now})
	stale := seal(b, host, ledger.Lower{Host: host.Address(), Lease: r.Lease, Reservation: r.ID, Seq: 9, Cap: 1, At: b.now})
	cases := []struct {
		name    string
		from    *identity.PrivateKey
		op      step.Op
		body    any
		objects []wire.AnyVerified
		want    step.RefusalCode
	}{
		{"an unknown op", host, 99, nil, nil, step.RefuseBadRequest},
		{"settle without voucher", host, step.OpSettle, nil, []wire.AnyVerified{u}, step.RefuseBadRequest},
		{"settle without entry", host, step.OpSettle, nil, []wire.AnyVerified{v}, step.RefuseBadRequest},
		{"settle by a stranger", stranger, step.OpSettle, nil, []wire.AnyVerified{v, u}, step.RefuseNotForYou},
		{"a voucher of another entry", host, step.OpSettle, nil, []wire.AnyVerified{wrong, u}, step.RefuseVoucher},
		{"final by the consumer, before the voucher", consumer, step.OpFinal, nil, []wire.AnyVerified{final}, step.RefuseNotForYou},
		{"final of another host", stranger, step.OpFinal, nil, []wire.AnyVerified{foreign}, step.RefuseNotForYou},
		{"final without final", host, step.OpFinal, nil, []wire.AnyVerified{v, u}, step.RefuseBadRequest},
		{"a final under its voucher", host, step.OpFinal, nil, []wire.AnyVerified{final, v, u}, step.RefuseVoucher},
		{"no-lease by a stranger", stranger, step.OpNoLease, nil, []wire.AnyVerified{noLease}, step.RefuseNotForYou},
		{"no-lease without it", host, step.OpNoLease, nil, nil, step.RefuseBadRequest},
		{"no-lease signed by another", consumer, step.OpNoLease, nil, []wire.AnyVerified{otherNo}, step.RefuseNotForYou},
		{"close without it", consumer, step.OpClose, nil, nil, step.RefuseBadRequest},
		{"lower without it", host, step.OpLower, nil, nil, step.RefuseBadRequest},
		{"receipt of no lease", host, step.OpReceipt, step.LeaseBody{Lease: wire.ID{88}}, nil, step.RefuseUnknown},
		{"close by the host", host, step.OpClose, nil, []wire.AnyVerified{closing}, step.RefuseNotForYou},
		{"close of another consumer", stranger, step.OpClose, nil, []wire.AnyVerified{otherClose}, step.RefuseNotForYou},
		{"lower by the consumer", consumer, step.OpLower, nil, []wire.AnyVerified{lower}, step.RefuseNotForYou},
		{"lower of another sequence", host, step.OpLower, nil, []wire.AnyVerified{stale}, step.RefuseStale},
		{"refresh by a stranger", stranger, step.OpRefresh, lease, nil, step.RefuseNotForYou},
		{"refresh of no lease", host, step.OpRefresh, step.LeaseBody{Lease: wire.ID{88}}, nil, step.RefuseUnknown},
		{"refresh without body", host, step.OpRefresh, nil, nil, step.RefuseBadRequest},
		{"receipt for a stranger", stranger, step.OpReceipt, lease, nil, step.RefuseNotForYou},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b.t = t
			b.refuses(b.bank(c.from, c.op, c.body, c.objects...), c.want)
		})
	}
}

func TestReservationThatCameToNothingIsReleased(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, consumer := b.shop("25")
		r := b.reserved(nil)
		n := seal(b, host, ledger.NoLease{Host: host.Address(), Lease: r.Lease, Reservation: r.ID, At: b.now})
		no := func() answer { return b.bank(consumer, step.OpNoLease, nil, n) } // the consumer brings it
		a := no()
		if s := object[ledger.SettleReceipt](b, a); s.Paid != 0 || !s.Released {
			t.Fatalf("got %+v", s)
		}
		b.again(a, no)
		if c := b.balance(consumer); c.Available != int64(credits("25")) || c.Reserved != 0 || c.Burn != 0 {
			t.Fatalf("got %+v", c)
		}
	})
}

func TestClosedLeaseIsReleasedTwoDaysLater(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		_, consumer := b.shop("25")
		r := b.reserved(nil)
		v, _ := b.claim(r, 1, credits("0.02"))
		c := seal(b, consumer, ledger.Close{Consumer: consumer.Address(), Lease: r.Lease, Reservation: r.ID, Total: credits("0.02"), At: b.now})
		if a := b.bank(consumer, step.OpClose, nil, c, v); a.refused != nil || len(a.objects) != 0 {
			t.Fatalf("got %+v", a)
		}
		for _, s := range []struct {
			after    member.Time
			reserved ledger.Amount
		}{{0, ledger.Amount(rate) - credits("0.02")}, {47 * member.Hour, ledger.Amount(rate) - credits("0.02")}, {48 * member.Hour, 0}} {
			b.now = noon + s.after
			b.tick()
			if got := b.balance(consumer); got.Reserved != int64(s.reserved) || got.Settled != int64(credits("0.02")) {
				t.Fatalf("after %v: got %+v", s.after.Span(), got)
			}
		}
	})
}

func TestBankRaisesOutOfIdleFundsAndLowersOnTheHostsWord(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, consumer := b.shop("100")
		r := b.reserved(nil)
		out, wake := b.tick()
		if wake != noon+60*member.Second || len(out.Guards) == 0 {
			t.Fatalf("wake %v, %d guards", wake, len(out.Guards))
		}
		if out, _ := b.tick(); !b.crash && len(out.Rows) > 0 {
			t.Fatal("ticked twice in a minute")
		}
		a := b.bank(host, step.OpRefresh, step.LeaseBody{Lease: r.Lease})
		up := object[ledger.Reservation](b, a)
		if up.Seq < 2 || up.Cap <= r.Cap || up.ID != r.ID || up.MaxRate != r.MaxRate {
			t.Fatalf("got %+v after %+v", up, r)
		}
		if c := b.balance(consumer); c.Reserved != int64(up.Cap) || c.Available != int64(credits("100")-up.Cap) {
			t.Fatalf("got %+v", c)
		}
		l := seal(b, host, ledger.Lower{Host: host.Address(), Lease: r.Lease, Reservation: r.ID, Seq: up.Seq, Cap: credits("0.70"), At: b.now})
		lower := func() answer { return b.bank(host, step.OpLower, nil, l) }
		a = lower()
		if down := object[ledger.Reservation](b, a); down.Seq != up.Seq+1 || down.Cap != credits("0.70") {
			t.Fatalf("got %+v", down)
		}
		b.again(a, lower)
		b.now += 60 * member.Second
		b.tick()
		receipt := func(k *identity.PrivateKey) answer { return b.bank(k, step.OpReceipt, step.LeaseBody{Lease: r.Lease}) }
		if v := object[ledger.Reservation](b, receipt(consumer)); v.Cap != credits("0.70") {
			t.Fatalf("raised again by itself: got %+v", v)
		}
		if v := object[ledger.Reservation](b, b.bank(consumer, step.OpRefresh, step.LeaseBody{Lease: r.Lease})); v.Cap <= credits("0.70") {
			t.Fatalf("refresh does not raise: got %+v", v)
		}
		if again := lower(); again.refused == nil || again.refused.Code != step.RefuseStale {
			t.Fatalf("an old consent lowers anew: %+v", again)
		}
	})
}

func TestTickChangesABoundedNumberOfReservations(t *testing.T) {
	b := newBench(t, false)
	b.crowd(3, 50)
	raised, ticks := 0, 0
	for b.now += 60 * member.Second; ; b.now++ { // the bench refuses a step of over 512 rows and guards
		out, wake := b.tick()
		for _, g := range out.Guards {
			if strings.HasPrefix(string(g.Chain), "reservation/") {
				raised++
			}
		}
		if ticks++; wake > b.now+1 {
			break
		}
	}
	if raised != 150 || ticks != 3 {
		t.Fatalf("%d reservations raised in %d ticks, want 150 in 3", raised, ticks)
	}
}

func TestDeposit(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		b.shop("25")
		who := key(3).Address().String()
		d := operator.Deposit{Addr: who, Amount: credits("10"), Ref: "wire 2"}
		first := do[operator.DepositView](b, d)
		if first.Entry != 2 || first.Amount != credits("10") || first.Account != key(3).Address() {
			t.Fatalf("got %+v", first)
		}
		b.now += member.Hour
		if again := do[operator.DepositView](b, d); again != first {
			t.Fatalf("again: got %+v, want %+v", again, first)
		}
		b.fails(operator.Deposit{Addr: who, Amount: credits("11"), Ref: "wire 2"}, step.ProblemConflict)
		b.fails(operator.Deposit{Addr: key(2).Address().String(), Amount: credits("10"), Ref: "wire 2"}, step.ProblemConflict)
		b.fails(operator.Deposit{Addr: who, Amount: credits("9.99"), Ref: "wire 3"}, step.ProblemUsage)
		b.fails(operator.Deposit{Addr: who, Amount: -1, Ref: "wire 3"}, step.ProblemUsage)
		b.fails(operator.Deposit{Addr: who, Amount: credits("10")}, step.ProblemUsage)
		b.fails(operator.Deposit{Addr: who, Amount: 1<<63 - 1, Ref: "wire 3"}, step.ProblemUsage)
		b.fails(operator.Deposit{Addr: key(9).Address().String(), Amount: credits("10"), Ref: "wire 3"}, step.ProblemNotFound)
		if v := do[operator.AccountView](b, operator.Balance{Addr: who}); v.Available != credits("35") {
			t.Fatalf("got %+v", v)
		}
		if v := do[operator.AccountView](b, operator.Balance{}); v.Account != b.op.Address() || v.Deposited != 0 {
			t.Fatalf("got %+v", v)
		}
		b.fails(operator.Balance{Addr: key(9).Address().String()}, step.ProblemNotFound)
		list := do[[]operator.AccountView](b, operator.Accounts{})
		text, err := json.Marshal(list)
		if err != nil || len(list) != 1 || !bytes.Contains(text, []byte(`"available":"35.000000000"`)) {
			t.Fatalf("got %s, %v", text, err)
		}
		do[operator.SanctionView](b, operator.Sanction{Addr: who, What: member.Revoke, Reason: "fraud", Fraud: true})
		b.fails(operator.Deposit{Addr: who, Amount: credits("10"), Ref: "wire 4"}, step.ProblemConflict)
	})
}

// TestCrashAtAnyStepChangesNothing walks at random through deposits, leases, vouchers, repeats, ends and ticks, on two
// operators: one runs on, the other is loaded from its rows before every step. Both must give the same rows.
func TestCrashAtAnyStepChangesNothing(t *testing.T) {
	for seed := range uint64(20) {
		steady, crashing := walk(t, seed, false), walk(t, seed, true)
		if !maps.EqualFunc(steady.rows, crashing.rows, bytes.Equal) || !maps.EqualFunc(steady.logs, crashing.logs, bytes.Equal) {
			t.Fatalf("seed %d: the rows differ", seed)
		}
	}
}

func walk(t *testing.T, seed uint64, crash bool) *bench {
	b := newBench(t, crash)
	b.shop("40")
	rng := rand.New(rand.NewPCG(seed, 1))
	seqs := map[byte]uint64{}
	for range 120 {
		n := byte(rng.IntN(5))
		change := func(t *market.Terms) { t.Lease, t.Reservation = wire.ID{1, n}, wire.ID{9, n} }
		r := ledger.Reservation{ID: wire.ID{9, n}, Lease: wire.ID{1, n}, Host: key(2).Address(), Consumer: key(3).Address(), By: key(3).Address()}
		v, u := b.claim(r, seqs[n]+1, ledger.Amount(seqs[n]+1)*credits("0.3"))
		switch rng.IntN(9) {
		case 0, 1:
			q := b.quote(key(2), change)
			b.bank(key(3), step.OpReserve, nil, seal(b, key(3), reserve(q)), q)
		case 2, 3:
			if rng.IntN(3) > 0 {
				seqs[n]++
			}
			b.bank(key(2), step.OpSettle, nil, v, u)
		case 4:
			b.bank(key(2), step.OpRefresh, step.LeaseBody{Lease: r.Lease})
		case 5:
			f := ledger.Final{Host: r.Host, Lease: r.Lease, Reservation: r.ID, Total: v.Value().Total}
			if rng.IntN(4) == 0 {
				b.bank(key(2), step.OpFinal, nil, seal(b, key(2), f), v, u)
			}
		case 6:
			c := ledger.Close{Consumer: r.Consumer, Lease: r.Lease, Reservation: r.ID, Total: v.Value().Total}
			if rng.IntN(4) == 0 {
				b.bank(key(3), step.OpClose, nil, seal(b, key(3), c), v)
			}
		case 7:
			ref := string(rune('a' + rng.IntN(4)))
			do[operator.DepositView](b, operator.Deposit{Addr: r.Consumer.String(), Amount: credits("10"), Ref: ref})
		case 8:
			b.now += member.Time(1+rng.IntN(90)) * 60 * member.Second
			b.tick()
		}
		b.bank(key(2), step.OpRenew, step.RenewBody{}) // so that nobody expires meanwhile
		b.bank(key(3), step.OpRenew, step.RenewBody{})
	}
	return b
}

// crowd has so many consumers open so many reservations each.
func (b *bench) crowd(consumers, each int) {
	b.t.Helper()
	host := b.joined(2, member.RoleHost)
	b.trust = true
	for c := range consumers {
		k := b.joined(byte(10+c), member.RoleConsumer)
		a := k.Address()
		do[operator.DepositView](b, operator.Deposit{Addr: a.String(), Amount: credits("2000"), Ref: "crowd " + a.String()})
		for n := range each {
			if got := b.open1(host, k, byte(n)); got.refused != nil {
				b.t.Fatal(got.refused)
			}
		}
	}
	b.trust = false
	b.check()
}

// open1 asks for the n-th reservation of a consumer.
func (b *bench) open1(host, consumer *identity.PrivateKey, n byte) answer {
	b.t.Helper()
	a := consumer.Address()
	q := b.quote(host, func(t *market.Terms) {
		t.Consumer, t.By, t.Attendant = a, a, a
		t.Lease, t.Reservation = wire.ID{1, n, a[0], a[1], a[2]}, wire.ID{9, n, a[0], a[1], a[2]}
	})
	return b.bank(consumer, step.OpReserve, nil, seal(b, consumer, reserve(q)), q)
}

func TestAccountHasABoundedNumberOfReservations(t *testing.T) {
	b := newBench(t, false)
	b.crowd(1, ledger.MostOpen)
	b.refuses(b.open1(key(2), key(10), ledger.MostOpen), step.RefuseLimit)
	if got := b.open1(key(2), key(10), 0); got.refused != nil { // one that it has
		t.Fatalf("got %v", got.refused)
	}
}

// Two thousand open reservations are gone through in many short steps, whether they change or not.
func TestThousandsOfReservationsDoNotHoldTheBankUp(t *testing.T) {
	b := newBench(t, false)
	b.crowd(32, 63)
	b.trust = true
	for minute := range 3 { // raised in the first; nothing to do in the others
		b.now += 60 * member.Second
		ticks, began := 0, time.Now()
		for ; ; b.now++ {
			ticks++
			if _, wake := b.tick(); wake > b.now+1 {
				break
			}
		}
		if each := time.Since(began) / time.Duration(ticks); each > 50*time.Millisecond {
			t.Errorf("minute %d: a step takes %v", minute, each)
		}
		if minute > 0 && ticks != 8 {
			t.Errorf("minute %d: %d steps, want 8 of 256", minute, ticks)
		}
		t.Logf("minute %d: %d steps in %v", minute, ticks, time.Since(began))
	}
}

// A voucher for nothing, which a Close has shown first, has its receipt as any other.
func TestVoucherForNothingIsSettled(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, consumer := b.shop("25")
		r := b.reserved(nil)
		v, u := b.claim(r, 1, 0)
		c := seal(b, consumer, ledger.Close{Consumer: consumer.Address(), Lease: r.Lease, Reservation: r.ID, At: b.now})
		if a := b.bank(consumer, step.OpClose, nil, c, v); a.refused != nil {
			t.Fatal(a.refused)
		}
		settle := func() answer { return b.bank(host, step.OpSettle, nil, v, u) }
		a := settle()
		if s := object[ledger.SettleReceipt](b, a); s.Paid != 0 || s.Released || s.Voucher != v.Ref() {
			t.Fatalf("got %+v", s)
		}
		b.again(a, settle)
	})
}

// The host that settles sees that its consumer has closed the lease, and by when it is to say its last word.
func TestHostSeesACloseInTheReservation(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, consumer := b.shop("25")
		r := b.reserved(nil)
		end := b.now + 48*member.Hour
		c := seal(b, consumer, ledger.Close{Consumer: consumer.Address(), Lease: r.Lease, Reservation: r.ID, At: b.now})
		for range 2 {
			b.bank(consumer, step.OpClose, nil, c)
			b.now += member.Hour
		}
		v, u := b.claim(r, 1, credits("0.01"))
		lease := step.LeaseBody{Lease: r.Lease}
		for name, a := range map[string]answer{"settle": b.bank(host, step.OpSettle, nil, v, u), "refresh": b.bank(host, step.OpRefresh, lease),
			"receipt": b.bank(host, step.OpReceipt, lease)} {
			if got := object[ledger.Reservation](b, a); got.Seq != r.Seq+1 || got.RedeemBy != end || got.Cap != r.Cap {
				t.Errorf("%s: got %+v", name, got)
			}
		}
		f := seal(b, host, ledger.Final{Host: host.Address(), Lease: r.Lease, Reservation: r.ID, Total: credits("0.01"), Usage: u.Ref(), At: b.now})
		a := b.bank(host, step.OpFinal, nil, f, v, u)
		if got := object[ledger.Reservation](b, a); got.Seq != r.Seq+1 || !object[ledger.SettleReceipt](b, a).Released {
			t.Fatalf("final: got %+v", got)
		}
	})
}

// What a host said of an earlier quote for a lease does not free what is reserved for the lease that it made since.
func TestOldNoLeaseIsStale(t *testing.T) {
	b := newBench(t, true)
	host, consumer := b.shop("25")
	r := b.reserved(nil)
	n := ledger.NoLease{Host: host.Address(), Lease: r.Lease, Reservation: r.ID, At: b.now - 40*member.Second - 1}
	b.refuses(b.bank(consumer, step.OpNoLease, nil, seal(b, host, n)), step.RefuseStale)
	n.At++
	if s := object[ledger.SettleReceipt](b, b.bank(consumer, step.OpNoLease, nil, seal(b, host, n))); !s.Released {
		t.Fatalf("got %+v", s)
	}
}

// However much a consumer asks for, no more is set aside at first than the policy's opening minutes cost.
func TestOpeningCapIsTheOpeningMinutes(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, consumer := b.shop("1000")
		ask := func(n byte, limit ledger.Amount) answer {
			q := b.quote(host, func(t *market.Terms) { t.Lease, t.Reservation = wire.ID{1, n}, wire.ID{9, n} })
			r := reserve(q)
			r.Cap = limit
			return b.bank(consumer, step.OpReserve, nil, seal(b, consumer, r), q)
		}
		if r := object[ledger.Reservation](b, ask(1, credits("999"))); r.Cap != ledger.Amount(rate) {
			t.Fatalf("opened with %s", r.Cap.Text())
		}
		minute, _ := rate.Cost(60)
		b.refuses(ask(2, minute-1), step.RefuseMoney)
		if r := object[ledger.Reservation](b, ask(3, minute)); r.Cap != minute {
			t.Fatalf("opened with %s", r.Cap.Text())
		}
	})
}
