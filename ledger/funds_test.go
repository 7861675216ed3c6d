package ledger_test

import (
	"errors"
	"testing"

	"souk/ledger"
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
		s, changed := b.Watch(p, consumer, awake, at)
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
	if _, changed := b.Watch(p, consumer, awake, at); !changed {
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
	if next, _ := c.Watch(p, consumer, awake, at+20*member.Hour); next.Notice.Seq != 2 {
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
	if s, changed := b.Watch(p, consumer, awake, noon+11*minute); changed {
		t.Errorf("a lease that has its whole budget: %+v", s.Notice)
	}
	b = funded(t, "10")
	if _, err := b.Reserve(p, reserve(1, credits(t, "4"), 90*ledger.Credit), 0, noon); err != nil {
		t.Fatal(err)
	}
	asleep := func(wire.ID) bool { return true }
	if s, changed := b.Watch(p, consumer, asleep, noon+member.Hour); changed {
		t.Errorf("a stopped pod: %+v", s.Notice)
	}
	if _, changed := b.Watch(p, consumer, awake, noon+member.Hour); !changed {
		t.Error("a pod that is up: no notice")
	}
}

// A notice ends when the last lease does, and not by money that pays for nothing.
func TestShortageEndsWithMoneyOrLeases(t *testing.T) {
	b, p := funded(t, "10"), policy()
	if _, err := b.Reserve(p, reserve(1, credits(t, "10"), 40*ledger.Credit), 0, noon); err != nil {
		t.Fatal(err)
	}
	at := noon + 30*minute
	if _, changed := b.Watch(p, consumer, awake, at); !changed {
		t.Fatal("no notice")
	}
	if _, err := b.Deposit(p, host, credits(t, "10"), "host", at); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Transfer(ledger.Transfer{From: host, To: consumer, Operator: operator, ID: wire.ID{1}, Amount: credits(t, "0.01")}, at); err != nil {
		t.Fatal(err)
	}
	if _, changed := b.Watch(p, consumer, awake, at); changed {
		t.Error("a cent pays for 15 minutes at 40 an hour")
	}
	if _, err := b.Final(p, ledger.Final{Host: host, Lease: wire.ID{100, 1}, Reservation: wire.ID{1}}, nil, at); err != nil {
		t.Fatal(err)
	}
	if s, changed := b.Watch(p, consumer, awake, at); !changed || !s.Over {
		t.Errorf("no lease is left: %+v, %v", s, changed)
	}
}
