package ledger_test

import (
	"errors"
	"testing"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

const minute = 60 * member.Second

// claimAt is claim for reservation 1, of a minute of the clock.
func claimAt(seq uint64, total ledger.Amount, m member.Minute) (ledger.Voucher, ledger.Usage) {
	v, u := claim(1, seq, total)
	u.First = m
	v.Minute, v.Usage = m, charter().Market().Ref(wire.KindUsage, wire.Marshal(u))
	return v, u
}

func awake(wire.ID) bool { return false }

// An account with 10 credits runs a pod at 1 an hour, which settles every hour: after 9 h 50 min it has 10 minutes left.
func TestNoticeComesUnderThePolicysMinutesOfFunds(t *testing.T) {
	b, p := funded(t, "10"), policy()
	if _, err := b.Reserve(p, reserve(1, credits(t, "10"), ledger.Credit), 0, noon); err != nil {
		t.Fatal(err)
	}
	at := noon
	for n := 0; ; n, at = n+1, at+minute {
		if n > 20*60 {
			t.Fatal("no notice in 20 hours")
		}
		if n > 0 && n%60 == 0 {
			v, u := claimAt(uint64(n), ledger.Credit*ledger.Amount(n)/60, charter().Clock().Minute(at)-1)
			if _, err := b.Settle(p, v, u, at); err != nil {
				t.Fatal(err)
			}
		}
		b.Raise(p, wire.ID{1}, at)
		s, changed := b.Watch(p, consumer, at)
		if !changed {
			continue
		}
		if want := noon + 590*minute; at != want || s.Notice.Seq != 1 || s.Notice.Burn != ledger.Rate(ledger.Credit) {
			t.Fatalf("notice %+v after %d minutes, want 590", s.Notice, (at-noon)/minute)
		}
		break
	}
	s, stands := b.ShortageOf(consumer)
	if !stands || s.Notice.ForfeitAt != at+member.Time(p.DataHold)*minute {
		t.Fatalf("got %+v, %v", s, stands)
	}
	if _, raised := b.Raise(p, wire.ID{1}, at); raised {
		t.Error("raised although a notice stands")
	}
	if _, err := b.Reserve(p, reserve(2, credits(t, "0.1"), ledger.Credit/10), 0, at); !errors.Is(err, ledger.ErrFunds) {
		t.Errorf("a new reservation: got %v", err)
	}
	if f := b.Forfeits(consumer, s.Notice.ForfeitAt-1); f != nil {
		t.Errorf("forfeit before its time: %+v", f)
	}
	if f := b.Forfeits(consumer, s.Notice.ForfeitAt); len(f) != 1 || f[0].Lease != (wire.ID{100, 1}) || f[0].Host != host {
		t.Errorf("got %+v", f)
	}
	if _, err := b.Deposit(p, consumer, credits(t, "10"), "second", at); err != nil {
		t.Fatal(err)
	}
	if _, changed := b.Watch(p, consumer, at); !changed {
		t.Fatal("money has come, and the notice stands")
	}
	if f := b.Forfeits(consumer, s.Notice.ForfeitAt); f != nil {
		t.Errorf("forfeit after money came: %+v", f)
	}
	if _, raised := b.Raise(p, wire.ID{1}, at); !raised {
		t.Error("not raised although money has come")
	}
	c := ledger.NewBank(operator, charter())
	if err := c.Restore(b.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Transfer(ledger.Transfer{From: consumer, To: host, Operator: operator, ID: wire.ID{1}, Amount: c.Account(consumer).Available}, at); err != nil {
		t.Fatal(err)
	}
	if next, _ := c.Watch(p, consumer, at+20*member.Hour); next.Notice.Seq != 2 {
		t.Errorf("after a restart the next notice is number %d, want 2", next.Notice.Seq)
	}
}

func TestNoNoticeForWhatIsPaidForOrStopped(t *testing.T) {
	p := policy()
	whole := reserve(1, credits(t, "0.2"), ledger.Credit) // 12 minutes, all of its budget
	whole.Budget = whole.Cap
	b := funded(t, "10")
	if _, err := b.Transfer(ledger.Transfer{From: consumer, To: host, Operator: operator, ID: wire.ID{1}, Amount: credits(t, "9.8")}, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reserve(p, whole, 0, noon); err != nil {
		t.Fatal(err)
	}
	if s, changed := b.Watch(p, consumer, noon+11*minute); changed {
		t.Errorf("a lease that has its whole budget: %+v", s.Notice)
	}
	b = funded(t, "10")
	if _, err := b.Reserve(p, reserve(1, credits(t, "4"), 90*ledger.Credit), 0, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lower(ledger.Lower{Host: host, Lease: wire.ID{100, 1}, Reservation: wire.ID{1}, Seq: 1, Cap: credits(t, "4")}, noon); err != nil {
		t.Fatal(err)
	}
	if s, changed := b.Watch(p, consumer, noon+member.Hour); changed {
		t.Errorf("a stopped pod: %+v", s.Notice)
	}
	if err := b.Wake(p, wire.ID{1}, noon); err == nil {
		t.Error("4 and 6 credits do not pay 10 minutes at 90 an hour, and the pod may start")
	}
	b = funded(t, "10")
	if _, err := b.Reserve(p, reserve(1, credits(t, "4"), 50*ledger.Credit), 0, noon); err != nil {
		t.Fatal(err)
	}
	if _, changed := b.Watch(p, consumer, noon+member.Hour); !changed {
		t.Error("a pod that is up: no notice")
	}
}

// A pod that has rested for days is not taken to have run through them when it starts again, and its start may come to nothing.
func TestWakingCountsFromThen(t *testing.T) {
	b, p := funded(t, "10"), policy()
	if _, err := b.Reserve(p, reserve(1, credits(t, "9.5"), 95*ledger.Credit/10), 0, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lower(ledger.Lower{Host: host, Lease: wire.ID{100, 1}, Reservation: wire.ID{1}, Seq: 1, Cap: 0}, noon); err != nil {
		t.Fatal(err)
	}
	at := noon + 3*member.Day
	if err := b.Wake(p, wire.ID{1}, at); err != nil {
		t.Fatal(err)
	}
	b.Raise(p, wire.ID{1}, at)
	if s, changed := b.Watch(p, consumer, at+minute); changed {
		t.Errorf("a minute after its start: %+v", s.Notice)
	}
}

// Money that comes ends a shortage, before the bank sets it aside.
func TestRefillThatIsReservedAtOnceEndsTheShortage(t *testing.T) {
	b, p := funded(t, "10"), policy()
	if _, err := b.Reserve(p, reserve(1, credits(t, "10"), 10*ledger.Credit), 0, noon); err != nil {
		t.Fatal(err)
	}
	at := noon + 55*minute
	v, u := claimAt(55, credits(t, "9.1"), charter().Clock().Minute(at)-1)
	if _, err := b.Settle(p, v, u, at); err != nil {
		t.Fatal(err)
	}
	if _, changed := b.Watch(p, consumer, at); !changed {
		t.Fatal("no notice")
	}
	if _, err := b.Deposit(p, consumer, credits(t, "10"), "second", at); err != nil {
		t.Fatal(err)
	}
	if _, raised := b.Raise(p, wire.ID{1}, at); !raised || b.Account(consumer).Available > credits(t, "2") {
		t.Fatalf("not raised: %+v", b.Account(consumer))
	}
	b.Watch(p, consumer, at)
	if s, stands := b.ShortageOf(consumer); stands {
		t.Errorf("money has come, and the notice stands: %+v", s)
	}
}

// Stopped pods take nothing of what the others may have.
func TestStoppedPodsShareNoMinutes(t *testing.T) {
	b, p := funded(t, "20"), policy()
	for n := byte(1); n <= 5; n++ {
		if _, err := b.Reserve(p, reserve(n, credits(t, "3"), 12*ledger.Credit), 0, noon); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Lower(ledger.Lower{Host: host, Lease: wire.ID{100, n}, Reservation: wire.ID{n}, Seq: 1, Cap: 0}, noon); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Reserve(p, reserve(9, credits(t, "0.5"), 2*ledger.Credit), 0, noon); err != nil {
		t.Fatal(err)
	}
	if r, raised := b.Raise(p, wire.ID{9}, noon); !raised || r.Cap < credits(t, "2") {
		t.Errorf("raised to %s, want at least an hour", r.Cap.Text())
	}
}

// Storage alone may use up an account: that is told too, and the reservation is not let go in silence.
func TestStorageThatRunsDryIsANotice(t *testing.T) {
	b, p := funded(t, "10"), policy()
	if _, err := b.Reserve(p, reserve(1, credits(t, "10"), 10*ledger.Credit), 0, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lower(ledger.Lower{Host: host, Lease: wire.ID{100, 1}, Reservation: wire.ID{1}, Seq: 1, Cap: credits(t, "2.88")}, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Transfer(ledger.Transfer{From: consumer, To: host, Operator: operator, ID: wire.ID{1}, Amount: credits(t, "7.12")}, noon); err != nil {
		t.Fatal(err)
	}
	at := noon + 48*member.Hour
	if _, changed := b.Watch(p, consumer, at); changed {
		t.Error("a notice although 2,880 minutes are set aside")
	}
	v, u := claimAt(9, credits(t, "2.875"), charter().Clock().Minute(at)-1)
	if _, err := b.Settle(p, v, u, at); err != nil {
		t.Fatal(err)
	}
	if _, changed := b.Watch(p, consumer, at); !changed {
		t.Error("five minutes of storage are left, and no notice")
	}
}

// Storage of a stopped pod that is paid every hour goes on for as long as there is money, and so does its reservation.
func TestReservationAtRestPaysStorage(t *testing.T) {
	b, p := funded(t, "10"), policy()
	if _, err := b.Reserve(p, reserve(1, credits(t, "1"), ledger.Credit), 0, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lower(ledger.Lower{Host: host, Lease: wire.ID{100, 1}, Reservation: wire.ID{1}, Seq: 1, Cap: credits(t, "0.1")}, noon); err != nil {
		t.Fatal(err)
	}
	at, owed := noon, ledger.Amount(0)
	for n := uint64(1); n <= 40*24; n++ { // 0.002 an hour
		at += member.Hour
		owed += credits(t, "0.002")
		v, u := claimAt(n, owed, charter().Clock().Minute(at)-1)
		if r, err := b.Settle(p, v, u, at); err != nil || r.Paid != owed {
			t.Fatalf("hour %d: paid %s, want %s: %v", n, r.Paid.Text(), owed.Text(), err)
		}
		b.Raise(p, wire.ID{1}, at)
		if ahead := b.Account(consumer).Reserved; ahead > credits(t, "0.1") || ahead <= 0 {
			t.Fatalf("hour %d: %s set aside for a stopped pod that wants 0.1", n, ahead.Text())
		}
		if released := b.Tick(p, at); len(released) > 0 {
			t.Fatalf("hour %d: released", n)
		}
	}
	if s := b.Balance(consumer, at); s.Burn != 0 {
		t.Errorf("a stopped pod burns %s", s.Burn.Text())
	}
}

// A notice that nothing was left of does not come back over the next lease.
func TestOldNoticeDoesNotReachANewLease(t *testing.T) {
	b, p := funded(t, "10"), policy()
	if _, err := b.Reserve(p, reserve(1, credits(t, "10"), 10*ledger.Credit), 0, noon); err != nil {
		t.Fatal(err)
	}
	at := noon + 55*minute
	if _, changed := b.Watch(p, consumer, at); !changed {
		t.Fatal("no notice")
	}
	v, _ := claim(1, 40, credits(t, "1"))
	if _, err := b.Final(p, ledger.Final{Host: host, Lease: v.Lease, Reservation: v.Reservation, Total: v.Total}, &v, at); err != nil {
		t.Fatal(err)
	}
	if d := b.Debtors(); len(d) != 1 {
		t.Errorf("nobody looks after an account with a notice: %v", d)
	}
	later := at + 3*member.Day
	if _, err := b.Deposit(p, consumer, credits(t, "10"), "second", later); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reserve(p, reserve(2, credits(t, "18"), 18*ledger.Credit), 0, later); err != nil {
		t.Fatal(err)
	}
	if s, stands := b.ShortageOf(consumer); stands {
		t.Errorf("the notice stands: %+v", s)
	}
	if f := b.Forfeits(consumer, later+minute); f != nil {
		t.Errorf("the new lease is forfeit: %+v", f)
	}
}

// What a consumer has signed it owes, whatever else it signs and shows first.
func TestForgedVoucherTakesNothingBack(t *testing.T) {
	b, p := funded(t, "25"), policy()
	if _, err := b.Reserve(p, reserve(1, credits(t, "10"), credits(t, "0.60")), 0, noon); err != nil {
		t.Fatal(err)
	}
	real, u := claim(1, 40, credits(t, "0.40"))
	fake := real
	fake.Seq, fake.Total, fake.Usage = 1<<63, 0, identity.Hash{9}
	if err := b.Close(p, ledger.Close{Consumer: consumer, Lease: real.Lease, Reservation: real.Reservation}, &fake, noon); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Settle(p, real, u, noon+member.Hour); err != nil || r.Paid != real.Total {
		t.Errorf("got %+v, %v, want %s paid", r, err, real.Total.Text())
	}
	if err := b.Audit(); err != nil {
		t.Error(err)
	}
}

// The same money may change hands as often as it likes: nobody else is kept from giving.
func TestTransfersInACircleStopNobody(t *testing.T) {
	b := funded(t, "1000000")
	third := identity.Address{0: 9}
	if _, err := b.Deposit(policy(), third, 20*ledger.Credit, "third", noon); err != nil {
		t.Fatal(err)
	}
	from, to := consumer, host
	for i := range 9300 {
		if _, err := b.Transfer(ledger.Transfer{From: from, To: to, Operator: operator, ID: wire.ID{1, byte(i), byte(i >> 8)}, Amount: 1000000 * ledger.Credit}, noon); err != nil {
			t.Fatal(i, err)
		}
		from, to = to, from
	}
	if _, err := b.Transfer(ledger.Transfer{From: third, To: host, Operator: operator, ID: wire.ID{2}, Amount: 20 * ledger.Credit}, noon); err != nil {
		t.Error(err)
	}
	if err := b.Audit(); err != nil {
		t.Error(err)
	}
}

// A notice ends when the last lease does, and not by money that pays for nothing.
func TestShortageEndsWithMoneyOrLeases(t *testing.T) {
	b, p := funded(t, "10"), policy()
	if _, err := b.Reserve(p, reserve(1, credits(t, "10"), 40*ledger.Credit), 0, noon); err != nil {
		t.Fatal(err)
	}
	at := noon + 30*minute
	if _, changed := b.Watch(p, consumer, at); !changed {
		t.Fatal("no notice")
	}
	if _, err := b.Deposit(p, host, credits(t, "10"), "host", at); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Transfer(ledger.Transfer{From: host, To: consumer, Operator: operator, ID: wire.ID{1}, Amount: credits(t, "0.01")}, at); err != nil {
		t.Fatal(err)
	}
	if _, changed := b.Watch(p, consumer, at); changed {
		t.Error("a cent pays for 15 minutes at 40 an hour")
	}
	if _, err := b.Final(p, ledger.Final{Host: host, Lease: wire.ID{100, 1}, Reservation: wire.ID{1}}, nil, at); err != nil {
		t.Fatal(err)
	}
	if s, changed := b.Watch(p, consumer, at); !changed || !s.Over {
		t.Errorf("no lease is left: %+v, %v", s, changed)
	}
}
