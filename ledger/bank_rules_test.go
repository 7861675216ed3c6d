package ledger_test

import (
	"errors"
	"testing"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// open reserves limit for lease n at a rate per hour, both in credits.
func open(t *testing.T, b *ledger.Bank, n byte, limit, rate string) ledger.Reservation {
	t.Helper()
	r := reserve(n, credits(t, limit), credits(t, rate))
	got, err := b.Reserve(policy(), r, r.MaxRate, noon)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func settle(t *testing.T, b *ledger.Bank, n byte, seq uint64, total string, now member.Time) ledger.SettleReceipt {
	t.Helper()
	v, u := claim(n, seq, credits(t, total))
	r, err := b.Settle(policy(), v, u, now)
	if err != nil {
		t.Fatal(err)
	}
	audit(t, b)
	return r
}

func refused(t *testing.T, what string, err error, want ledger.Code) {
	t.Helper()
	var r *ledger.Refused
	if !errors.As(err, &r) || r.Code != want {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func TestVoucherSaysWhatItsEntrySays(t *testing.T) {
	b := funded(t, "25")
	open(t, b, 1, "5", "5")
	for _, c := range []struct {
		name   string
		change func(*ledger.Voucher, *ledger.Usage)
		want   ledger.Code
	}{
		{"another entry", func(v *ledger.Voucher, u *ledger.Usage) { u.Receipts = identity.Hash{1} }, ledger.CodeMismatch},
		{"a nano-credit more", func(v *ledger.Voucher, u *ledger.Usage) { v.Total++ }, ledger.CodeMismatch},
		{"a nano-credit less", func(v *ledger.Voucher, u *ledger.Usage) { v.Total-- }, ledger.CodeMismatch},
		{"another sequence", func(v *ledger.Voucher, u *ledger.Usage) { v.Seq++ }, ledger.CodeMismatch},
		{"another minute", func(v *ledger.Voucher, u *ledger.Usage) { v.Minute++ }, ledger.CodeMismatch},
		{"another lease's entry", func(v *ledger.Voucher, u *ledger.Usage) { v.Lease = wire.ID{8} }, ledger.CodeMismatch},
		{"unknown reservation", func(v *ledger.Voucher, u *ledger.Usage) { v.Reservation = wire.ID{8} }, ledger.CodeUnknown},
		{"another signer", func(v *ledger.Voucher, u *ledger.Usage) { v.By = host }, ledger.CodeSigner},
		{"empty entry", func(v *ledger.Voucher, u *ledger.Usage) { u.Count = 0 }, ledger.CodeMalformed},
	} {
		v, u := claim(1, 4, credits(t, "0.3"))
		c.change(&v, &u)
		_, err := b.Settle(policy(), v, u, noon)
		refused(t, c.name, err, c.want)
	}
	if s := b.Balance(host, noon); s.Payable != 0 {
		t.Fatalf("something was paid: %+v", s)
	}
}

func TestCapLimitsAndRaisePaysTheRest(t *testing.T) {
	b := funded(t, "25")
	open(t, b, 1, "0.25", "1")
	if r := settle(t, b, 1, 18, "0.3", noon); r.Paid != credits(t, "0.25") {
		t.Fatalf("paid %v over the cap", r.Paid)
	}
	r, raised := b.Raise(policy(), wire.ID{1}, noon)
	if want := credits(t, "12.625"); !raised || r.Seq != 2 || r.Cap != want { // a day is 24.3; half of the 24.75 available is less
		t.Fatalf("raised %v to %v, want %v", raised, r.Cap, want)
	}
	lower := ledger.Lower{Host: host, Lease: wire.ID{100, 1}, Reservation: wire.ID{1}, Seq: 2, Cap: credits(t, "0.27")}
	_, err := b.Lower(lower, noon)
	refused(t, "under what is owed", err, ledger.CodeCap)
	if r := settle(t, b, 1, 18, "0.3", noon); r.Paid != credits(t, "0.3") {
		t.Fatalf("the same voucher under a higher cap pays %v", r.Paid)
	}
	lower.Cap, lower.Seq = credits(t, "0.3"), 1
	_, err = b.Lower(lower, noon)
	refused(t, "old sequence", err, ledger.CodeStale)
	lower.Seq = 2
	for range 2 {
		if r, err = b.Lower(lower, noon); err != nil || r.Seq != 3 || r.Cap != lower.Cap {
			t.Fatalf("lowered to %+v, %v", r, err)
		}
	}
	audit(t, b)
}

func TestShortMoneyLastsEquallyLong(t *testing.T) {
	b := funded(t, "10")
	open(t, b, 1, "4", "4")
	open(t, b, 2, "4", "4")
	settle(t, b, 1, 45, "3", noon)
	// Lease 1 owes 3 of 4; the 2 that are left give it what 45 minutes cost, as lease 2 has more.
	if r, ok := b.Raise(policy(), wire.ID{1}, noon); !ok || r.Cap != credits(t, "6") {
		t.Fatalf("raised %v to %v, want 6", ok, r.Cap)
	}
	if _, ok := b.Raise(policy(), wire.ID{2}, noon); ok {
		t.Fatal("raised with nothing available")
	}
	audit(t, b)
}

func TestRaiseLeavesOthersTheirFirstHour(t *testing.T) {
	b := funded(t, "10")
	open(t, b, 1, "0.1", "0.1")
	open(t, b, 2, "0.5", "2")
	open(t, b, 3, "7.4", "7.4") // ties money up; 2 are available
	settle(t, b, 3, 9, "0", noon)
	if _, err := b.NoLease(policy(), ledger.NoLease{Host: host, Lease: wire.ID{100, 3}, Reservation: wire.ID{3}, At: noon}, noon); err != nil {
		t.Fatal(err)
	}
	// 9.4 are available, lease 2 lacks 1.5 to an hour, lease 1 2.3 to a day: it gets all.
	if r, ok := b.Raise(policy(), wire.ID{1}, noon); !ok || r.Cap != credits(t, "2.4") {
		t.Fatalf("raised %v to %v, want 2.4", ok, r.Cap)
	}
	b = funded(t, "10")
	p := policy()
	p.MinDeposit = 0
	open(t, b, 1, "0.1", "0.1")
	open(t, b, 2, "0.5", "2")
	open(t, b, 5, "7.4", "7.4")
	settle(t, b, 5, 9, "7.4", noon)
	v, _ := claim(5, 9, credits(t, "7.4"))
	if _, err := b.Final(p, ledger.Final{Host: host, Lease: v.Lease, Reservation: v.Reservation, Total: v.Total}, &v, noon); err != nil {
		t.Fatal(err)
	}
	// 2 are available, half of the idle would be 0.7, but lease 2 lacks 1.5 to its hour.
	if r, ok := b.Raise(p, wire.ID{1}, noon); !ok || r.Cap != credits(t, "0.6") {
		t.Fatalf("raised %v to %v, want 0.6", ok, r.Cap)
	}
	audit(t, b)
}

func TestRaiseStopsAtTheBudget(t *testing.T) {
	b := funded(t, "25")
	r := reserve(1, credits(t, "0.5"), credits(t, "1"))
	r.Budget = credits(t, "0.75")
	if _, err := b.Reserve(policy(), r, r.MaxRate, noon); err != nil {
		t.Fatal(err)
	}
	if got, ok := b.Raise(policy(), wire.ID{1}, noon); !ok || got.Cap != r.Budget {
		t.Fatalf("raised %v to %v", ok, got.Cap)
	}
	if _, ok := b.Raise(policy(), wire.ID{1}, noon); ok {
		t.Fatal("raised over the budget")
	}
}

func TestCloseReleasesAfterItsTime(t *testing.T) {
	b, p := funded(t, "25"), policy()
	open(t, b, 1, "1", "1")
	c := ledger.Close{Consumer: consumer, Lease: wire.ID{100, 1}, Reservation: wire.ID{1}}
	v, _ := claim(1, 3, credits(t, "0.05"))
	for i := range 2 { // the second one changes nothing
		if err := b.Close(p, c, &v, noon+member.Time(i)*member.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := b.Raise(p, wire.ID{1}, noon); ok {
		t.Fatal("a closed reservation was raised")
	}
	settle(t, b, 1, 4, "0.07", noon+member.Hour)
	end := noon + 48*member.Hour
	if got := b.Tick(p, end-1); len(got) != 0 {
		t.Fatalf("released early: %+v", got)
	}
	got := b.Tick(p, end)
	if len(got) != 1 || !got[0].Released || got[0].Paid != credits(t, "0.07") {
		t.Fatalf("got %+v", got)
	}
	if s := b.Balance(consumer, end); s.Reserved != 0 || s.Available != credits(t, "24.93") || s.Burn != 0 {
		t.Fatalf("consumer: %+v", s)
	}
	v, u := claim(1, 5, credits(t, "0.08"))
	_, err := b.Settle(p, v, u, end)
	refused(t, "after the release", err, ledger.CodeClosed)
	audit(t, b)
}

// Between the end of a closed reservation and the tick that releases it, the host's last word releases it too.
func TestFinalAfterTheEndGetsWhatWasShown(t *testing.T) {
	b, p := funded(t, "100"), policy()
	if _, err := b.Reserve(p, reserve(1, credits(t, "5"), credits(t, "1")), 0, noon); err != nil {
		t.Fatal(err)
	}
	shown, _ := claim(1, 1, credits(t, "1"))
	if err := b.Close(p, ledger.Close{Consumer: consumer, Lease: wire.ID{100, 1}, Reservation: wire.ID{1}, Total: shown.Total}, &shown, noon); err != nil {
		t.Fatal(err)
	}
	late, u := claim(1, 2, credits(t, "2"))
	f := ledger.Final{Host: host, Lease: u.Lease, Reservation: wire.ID{1}, Total: late.Total, Usage: late.Usage}
	r, err := b.Final(p, f, &late, noon+member.Time(p.CloseAfter)*60*member.Second)
	if err != nil || !r.Released || r.Paid != shown.Total || len(b.Open()) != 0 {
		t.Errorf("late final: %+v, %v, %d open; want %s, released", r, err, len(b.Open()), shown.Total)
	}
}

func TestReservationInUseIsRenewed(t *testing.T) {
	b, p := funded(t, "25"), policy()
	for n := range byte(2) { // up to their budget already
		r := reserve(n+1, credits(t, "1"), credits(t, "1"))
		r.Budget = r.Cap
		if _, err := b.Reserve(policy(), r, r.MaxRate, noon); err != nil {
			t.Fatal(err)
		}
	}
	late := noon + 16*member.Day
	settle(t, b, 1, 1, "0", late-member.Day)
	r, ok := b.Raise(p, wire.ID{1}, late)
	if !ok || r.RedeemBy != late+ledger.RedeemWithin || r.Seq != 2 || r.Cap != credits(t, "1") {
		t.Fatalf("renewed %v: %+v", ok, r)
	}
	if _, ok := b.Raise(p, wire.ID{1}, late); ok {
		t.Fatal("renewed twice")
	}
	if _, ok := b.Raise(p, wire.ID{2}, late); ok {
		t.Fatal("a reservation that nobody used was renewed")
	}
	if err := b.Close(p, ledger.Close{Consumer: consumer, Lease: wire.ID{100, 1}, Reservation: wire.ID{1}}, nil, late); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.Raise(p, wire.ID{1}, late+16*member.Day); ok {
		t.Fatal("a closed reservation was renewed")
	}
	end := noon + ledger.RedeemWithin
	v, u := claim(2, 1, credits(t, "0.1"))
	_, err := b.Settle(p, v, u, end)
	refused(t, "at redeem-by", err, ledger.CodeLate)
	if _, err := b.Settle(p, v, u, end-1); err != nil {
		t.Fatalf("just before redeem-by: %v", err)
	}
	if got := b.Tick(p, end-1); len(got) != 1 { // the closed one
		t.Fatalf("got %+v", got)
	}
	if got := b.Tick(p, end); len(got) != 1 || got[0].Reservation != (wire.ID{2}) || got[0].Paid != credits(t, "0.1") {
		t.Fatalf("got %+v", got)
	}
}

func TestFeeIsDividedOnce(t *testing.T) {
	b := funded(t, "25")
	open(t, b, 1, "1", "1")
	for i := range ledger.Amount(41) { // a nano-credit each time, a twentieth of it the operator's
		v, u := claim(1, uint64(i+1), i)
		r, err := b.Settle(policy(), v, u, noon)
		if err != nil || r.Fee != i/20 {
			t.Fatalf("after %d: fee %d, %v", i, r.Fee, err)
		}
	}
	audit(t, b)
}

func TestNoLeaseFreesAllAndOnlyWhenNothingIsOwed(t *testing.T) {
	b := funded(t, "25")
	open(t, b, 1, "1", "1")
	no := ledger.NoLease{Host: host, Lease: wire.ID{100, 1}, Reservation: wire.ID{1}, At: noon}
	wrong := no
	wrong.Host = consumer
	_, err := b.NoLease(policy(), wrong, noon)
	refused(t, "the consumer's own", err, ledger.CodeHost)
	r, err := b.NoLease(policy(), no, noon)
	if err != nil || !r.Released || r.Paid != 0 || b.Balance(consumer, noon).Available != 25*ledger.Credit {
		t.Fatalf("got %+v, %v", r, err)
	}
	if again, err := b.NoLease(policy(), no, noon+1); err != nil || again != r {
		t.Fatalf("again: %+v, %v", again, err)
	}
	open(t, b, 2, "1", "1")
	settle(t, b, 2, 1, "0.01", noon)
	_, err = b.NoLease(policy(), ledger.NoLease{Host: host, Lease: wire.ID{100, 2}, Reservation: wire.ID{2}, At: noon}, noon)
	refused(t, "after a voucher", err, ledger.CodePaid)
}

func TestFinalPaysNoMoreThanItSays(t *testing.T) {
	b, p := funded(t, "25"), policy()
	open(t, b, 1, "1", "1")
	v, _ := claim(1, 3, credits(t, "0.05"))
	f := ledger.Final{Host: host, Lease: v.Lease, Reservation: v.Reservation, Total: v.Total - 1}
	_, err := b.Final(p, f, &v, noon)
	refused(t, "voucher over the final", err, ledger.CodeMismatch)
	f.Total++
	r, err := b.Final(p, f, &v, noon)
	if err != nil || r.Paid != v.Total || !r.Released {
		t.Fatalf("got %+v, %v", r, err)
	}
	if again, err := b.Final(p, f, &v, noon+1); err != nil || again != r {
		t.Fatalf("again: %+v, %v", again, err)
	}
}

func TestFundsRunOutBeforeTheyAreSpent(t *testing.T) {
	b, p := funded(t, "10"), policy()
	open(t, b, 1, "9", "9")
	open(t, b, 2, "1", "3")
	now := noon + 40*60*member.Second
	// 12 an hour for 40 minutes is 8, but lease 2 cannot use more than the 1 it has.
	if s := b.Balance(consumer, now); s.Burn != 12_000_000_000 || s.Left != credits(t, "3") || s.Open != 2 {
		t.Fatalf("got %+v", s)
	}
	if b.Short(p, consumer, now) {
		t.Fatal("short with 15 minutes left")
	}
	last := noon + 3200*member.Second // 9 an hour: 1 left, 10 minutes of 12 an hour are 2
	if !b.Short(p, consumer, last) {
		t.Fatal("not short")
	}
	exact := noon + 2800*member.Second // 2 left
	if b.Short(p, consumer, exact) || !b.Short(p, consumer, exact+member.Second) {
		t.Fatal("the border is not at ten minutes")
	}
	// A voucher moves the clock of its lease, and a refill helps.
	if _, err := b.Deposit(p, consumer, credits(t, "10"), "second", noon); err != nil || b.Short(p, consumer, last) {
		t.Fatal("short after a refill")
	}
}

func TestVoucherMovesTheClockOfItsLease(t *testing.T) {
	b := funded(t, "10")
	open(t, b, 1, "9", "9")
	v, u := claim(1, 1, credits(t, "3"))
	if _, err := b.Settle(policy(), v, u, noon); err != nil {
		t.Fatal(err)
	}
	after := charter().Clock().Tick(u.Last() + 1)
	if s := b.Balance(consumer, after); s.Left != credits(t, "7") {
		t.Fatalf("at the end of the voucher's minute: %v left", s.Left)
	}
	if s := b.Balance(consumer, after+20*60*member.Second); s.Left != credits(t, "4") {
		t.Fatalf("20 minutes later: %v left", s.Left)
	}
}

func TestAuditFindsEveryWrongRow(t *testing.T) {
	b := funded(t, "25")
	open(t, b, 1, "1", "1")
	open(t, b, 2, "1", "1")
	settle(t, b, 1, 3, "0.05", noon)
	good := func() ledger.Snapshot { return b.Snapshot() }
	if err := ledger.NewBank(operator, charter()).Restore(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*ledger.Snapshot){
		"money from nowhere":       func(s *ledger.Snapshot) { s.Accounts[1].Available++ },
		"moved between books":      func(s *ledger.Snapshot) { s.Accounts[1].Available++; s.Accounts[1].Reserved-- },
		"negative":                 func(s *ledger.Snapshot) { s.Accounts[1].Available -= 25e9; s.Accounts[1].Payable += 25e9 },
		"account lost":             func(s *ledger.Snapshot) { s.Accounts = s.Accounts[1:] },
		"reservation lost":         func(s *ledger.Snapshot) { s.Holds = s.Holds[1:] },
		"released by itself":       func(s *ledger.Snapshot) { s.Holds[0].State = ledger.HoldReleased },
		"settled over the cap":     func(s *ledger.Snapshot) { s.Holds[0].Settled = s.Holds[0].Reservation.Cap + 1 },
		"settled over voucher":     func(s *ledger.Snapshot) { s.Holds[0].Voucher.Total-- },
		"two under one lease":      func(s *ledger.Snapshot) { s.Holds[1].Reservation.Lease = s.Holds[0].Reservation.Lease },
		"overflowing":              func(s *ledger.Snapshot) { s.Accounts[0].Fees = 1<<63 - 1; s.Accounts[1].Fees = 1 },
		"deposit after the head":   func(s *ledger.Snapshot) { s.Head.Seq = 0 },
		"fee over what is settled": func(s *ledger.Snapshot) { s.Holds[0].Fee = s.Holds[0].Settled + 1 },
	} {
		s := good()
		spoil(&s)
		if err := ledger.NewBank(operator, charter()).Restore(s); err == nil {
			t.Errorf("%s: restored", name)
		}
	}
	if err := b.Restore(good()); err == nil {
		t.Error("restored over a bank in use")
	}
}
