package ledger_test

import (
	"errors"
	"math"
	"testing"

	"souk/ledger"
	"souk/p2p/member"
	"souk/p2p/wire"
)

func ownLimit(seq uint64, hourly ledger.Rate, daily ledger.Amount) ledger.Limit {
	return ledger.Limit{Account: consumer, Operator: operator, Seq: seq, Hourly: hourly, Daily: daily, At: noon}
}

func TestCeilingIsTheLeastOfItsParts(t *testing.T) {
	p := policy()
	p.SpendFloor, p.SpendGrowth = int64(20*ledger.Credit), 100_000
	b := funded(t, "100")
	if c := b.Ceiling(p, consumer, 0, noon); c.Hourly != 20*ledger.Rate(ledger.Credit) {
		t.Errorf("a new account: %+v", c)
	}
	settle := func(n byte) {
		t.Helper()
		if _, err := b.Reserve(p, reserve(n, credits(t, "10"), 10*ledger.Credit), 0, noon); err != nil {
			t.Fatal(err)
		}
		if n == 2 {
			b.Kin(wire.ID{n})
		}
		v, u := claim(n, 1, credits(t, "10"))
		if _, err := b.Settle(p, v, u, noon); err != nil {
			t.Fatal(err)
		}
	}
	settle(1)
	if c := b.Ceiling(p, consumer, 0, noon); c.Hourly != 21*ledger.Rate(ledger.Credit) || c.Trade != credits(t, "10") {
		t.Errorf("10 credits settled: %+v", c)
	}
	settle(2) // with a host of its own
	if c := b.Ceiling(p, consumer, 0, noon); c.Hourly != 21*ledger.Rate(ledger.Credit) {
		t.Errorf("10 more settled with one's own host: %+v", c)
	}
	if c := b.Ceiling(p, consumer, 50*ledger.Rate(ledger.Credit), noon); c.Hourly != 50*ledger.Rate(ledger.Credit) {
		t.Errorf("granted 50: %+v", c)
	}
	if _, err := b.SetLimit(ownLimit(5, 3*ledger.Rate(ledger.Credit), 0), noon); err != nil {
		t.Fatal(err)
	}
	if c := b.Ceiling(p, consumer, 50*ledger.Rate(ledger.Credit), noon); c.Hourly != 3*ledger.Rate(ledger.Credit) {
		t.Errorf("its own of 3: %+v", c)
	}
	p.SpendFloor, p.SpendGrowth = math.MaxInt64, math.MaxUint32
	if c := b.Ceiling(p, host, 0, noon); c.Hourly != ledger.Rate(math.MaxInt64) {
		t.Errorf("a rule without bounds: %+v", c)
	}
	p.SpendFloor = 0
	if c := b.Ceiling(p, host, 0, noon); c.Hourly != 0 {
		t.Errorf("no rule: %+v", c)
	}
	for name, l := range map[string]ledger.Limit{
		"older":              ownLimit(4, 0, 0),
		"another of its age": ownLimit(5, 0, 0),
	} {
		if _, err := b.SetLimit(l, noon); !errors.Is(err, ledger.ErrStale) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	foreign := ownLimit(6, 0, 0)
	foreign.Operator = host
	if _, err := b.SetLimit(foreign, noon); err == nil {
		t.Error("another bank's limit is taken")
	}
}

// A daily limit of 3 credits: what is settled on a day and what is set aside never pass it, and the next day is a new one.
func TestDailyLimitHoldsWhateverIsAskedFor(t *testing.T) {
	b, p := funded(t, "100"), policy()
	at := charter().Clock().Tick((charter().Clock().Minute(noon)/1440 + 1) * 1440) // a day begins
	if _, err := b.SetLimit(ownLimit(1, 0, credits(t, "3")), at); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reserve(p, reserve(1, credits(t, "10"), ledger.Credit), 0, at); err != nil {
		t.Fatal(err)
	}
	ran := ledger.Amount(0) // minutes
	owed, days := ledger.Amount(0), map[member.Time]ledger.Amount{}
	for n := uint64(1); n <= 3*1440; n++ { // one credit an hour, as long as the cap pays it
		at += minute
		b.Watch(p, consumer, at)
		b.Raise(p, wire.ID{1}, at)
		h, _ := b.Hold(wire.ID{1})
		if next := ledger.Credit * (ran + 1) / 60; next <= h.Reservation.Cap {
			ran++
			v, u := claimAt(n, next, charter().Clock().Minute(at)-1)
			r, err := b.Settle(p, v, u, at)
			if err != nil {
				t.Fatal(err)
			}
			if n%1440 != 0 {
				days[member.Time(n/1440)] += r.Paid - owed
			}
			owed = r.Paid
		}
		today := days[member.Time(n/1440)]
		if a := b.Account(consumer); n%1440 != 0 && today+a.Reserved > credits(t, "3") {
			t.Fatalf("minute %d: %s settled today and %s set aside", n, today.Text(), a.Reserved.Text())
		}
	}
	if days[0] < credits(t, "2.9") || days[1] == 0 {
		t.Errorf("settled by day: %v", days)
	}
	if _, err := b.Reserve(p, reserve(2, credits(t, "10"), 12*ledger.Credit), 0, at); err == nil {
		t.Error("a start that the day does not pay is let in")
	}
}
