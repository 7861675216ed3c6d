package ledger_test

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

var tariff = ledger.Tariff{GPU: 600_000_000, ZeroGPU: 7, DiskRunning: 1000, VolumeRunning: 200, VolumeStopped: 400}

// TestStatusesCostWhatTheTableSays is the whole table of statuses and bases.
func TestStatusesCostWhatTheTableSays(t *testing.T) {
	const up = 600_000_000 + 1000 + 200
	attended, mandate, storage := ledger.BasisAttended, ledger.BasisMandate, ledger.BasisStorage
	paid := map[ledger.Status]struct {
		rate  ledger.Rate
		bases []ledger.Basis
	}{
		ledger.StatusRunning: {up, []ledger.Basis{attended, mandate}},
		ledger.StatusZero:    {7 + 1000 + 200, []ledger.Basis{attended, mandate}},
		ledger.StatusMinimum: {up, []ledger.Basis{attended}},
		ledger.StatusStopped: {400, []ledger.Basis{attended, storage}},
	}
	for s := ledger.StatusSetup; s <= ledger.StatusEngine; s++ {
		want := paid[s]
		if got, err := tariff.Rate(s); err != nil || got != want.rate {
			t.Errorf("%v: rate %d, %v, want %d", s, got, err, want.rate)
		}
		for b := ledger.BasisNone; b <= ledger.BasisStorage; b++ {
			allowed := false
			for _, x := range want.bases {
				allowed = allowed || x == b
			}
			u := ledger.Usage{Lease: wire.ID{1}, Seq: 1, First: 10, Count: 1, Billable: 1, Status: s, Basis: b,
				Start: identity.Hash{3}, Numerator: int64(want.rate) * 60}
			_, err := ledger.Place{Next: 10}.Follow(u, identity.Hash{1}, tariff, 60)
			if allowed && err != nil || !allowed && !errors.Is(err, ledger.ErrStatusBill) {
				t.Errorf("%v, %v: got %v, allowed %v", s, b, err, allowed)
			}
			u.Billable, u.Numerator = 0, 0
			if _, err := (ledger.Place{Next: 10}).Follow(u, identity.Hash{1}, tariff, 60); err != nil {
				t.Errorf("%v, %v, unbilled: got %v", s, b, err)
			}
		}
	}
}

func TestOnlyTheNextEntryFollows(t *testing.T) {
	head := identity.Hash{9}
	p := ledger.Place{Seq: 4, Head: head, Next: 100, Meter: ledger.Meter{Numerator: 1000}}
	good := ledger.Usage{Lease: wire.ID{1}, Seq: 5, First: 100, Count: 3, Billable: 0b101, Status: ledger.StatusStopped,
		Basis: ledger.BasisStorage, Numerator: 1000 + 2*400*5, Prev: head}
	next, err := p.Follow(good, identity.Hash{8}, tariff, 5)
	if want := (ledger.Place{Seq: 5, Head: identity.Hash{8}, Next: 103, Meter: ledger.Meter{Numerator: 5000}}); err != nil || next != want {
		t.Fatalf("got %+v, %v, want %+v", next, err, want)
	}
	for _, c := range []struct {
		name   string
		change func(*ledger.Usage)
		want   error
	}{
		{"same sequence", func(u *ledger.Usage) { u.Seq = 4 }, ledger.ErrChain},
		{"sequence with a gap", func(u *ledger.Usage) { u.Seq = 6 }, ledger.ErrChain},
		{"another one before", func(u *ledger.Usage) { u.Prev = identity.Hash{7} }, ledger.ErrChain},
		{"none before", func(u *ledger.Usage) { u.Prev = identity.Hash{} }, ledger.ErrChain},
		{"minute twice", func(u *ledger.Usage) { u.First = 99 }, ledger.ErrChain},
		{"minute left out", func(u *ledger.Usage) { u.First = 101 }, ledger.ErrChain},
		{"one too much", func(u *ledger.Usage) { u.Numerator++ }, ledger.ErrArithmetic},
		{"one too little", func(u *ledger.Usage) { u.Numerator-- }, ledger.ErrArithmetic},
		{"billed minute more", func(u *ledger.Usage) { u.Billable = 0b111 }, ledger.ErrArithmetic},
		{"free status billed", func(u *ledger.Usage) { u.Status = ledger.StatusHold }, ledger.ErrStatusBill},
		{"no basis", func(u *ledger.Usage) { u.Basis = ledger.BasisNone }, ledger.ErrStatusBill},
	} {
		u := good
		c.change(&u)
		if got, err := p.Follow(u, identity.Hash{8}, tariff, 5); !errors.Is(err, c.want) || got != p {
			t.Errorf("%s: got %+v, %v, want %v", c.name, got, err, c.want)
		}
	}
	p.Next, good.First = math.MaxUint64-1, math.MaxUint64-1
	if got, err := p.Follow(good, identity.Hash{8}, tariff, 5); !errors.Is(err, ledger.ErrChain) {
		t.Errorf("minutes that wrap around: got %+v, %v", got, err)
	}
}

func TestFollowOverflowsAreRefused(t *testing.T) {
	dear := ledger.Tariff{GPU: math.MaxInt64}
	u := ledger.Usage{Lease: wire.ID{1}, Seq: 1, First: 1, Count: 1, Billable: 1, Status: ledger.StatusRunning, Basis: ledger.BasisAttended, Start: identity.Hash{3}}
	if _, err := (ledger.Place{Next: 1}).Follow(u, identity.Hash{}, dear, 60); !errors.Is(err, ledger.ErrOverflow) {
		t.Fatalf("got %v", err)
	}
	twice := ledger.Usage{Lease: wire.ID{1}, Seq: 1, First: 1, Count: 1, Billable: 1, Status: ledger.StatusRunning, Basis: ledger.BasisAttended}
	if _, err := (ledger.Place{Next: 1}).Follow(twice, identity.Hash{}, tariff, 60); !errors.Is(err, ledger.ErrStart) {
		t.Fatalf("a running minute of no start: got %v", err)
	}
	dear.DiskRunning = 1
	if err := dear.Validate(); !errors.Is(err, ledger.ErrOverflow) {
		t.Fatalf("tariff: got %v", err)
	}
}

// TestChainCountsEachMinuteOnce builds random chains and counts their minutes one by one.
func TestChainCountsEachMinuteOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := ledger.Place{Next: 1000}
		minute, numerator := member.Minute(1000), int64(0)
		for range rapid.IntRange(1, 30).Draw(t, "entries") {
			u := ledger.Usage{Lease: wire.ID{1}, Seq: p.Seq + 1, First: p.Next, Prev: p.Head,
				Count:  uint8(rapid.IntRange(1, 60).Draw(t, "count")),
				Status: rapid.SampledFrom([]ledger.Status{ledger.StatusRunning, ledger.StatusStopped, ledger.StatusPartial}).Draw(t, "status")}
			if u.Status == ledger.StatusRunning { // a pod that is up has an entry for each minute
				u.Count, u.Start = 1, identity.Hash{1}
			}
			if u.Status != ledger.StatusPartial {
				u.Basis = ledger.BasisAttended
				u.Billable = rapid.Uint64().Draw(t, "billable") & (1<<u.Count - 1)
			}
			rate, _ := tariff.Rate(u.Status)
			for i := range u.Count {
				if u.Billable>>i&1 == 1 {
					numerator += int64(rate) * 60
				}
				minute++
			}
			u.Numerator = numerator
			if err := u.Validate(); err != nil {
				t.Fatal(err)
			}
			next, err := p.Follow(u, identity.Hash{byte(u.Seq)}, tariff, 60)
			if err != nil || next.Next != minute || next.Meter.Numerator != numerator {
				t.Fatalf("got %+v, %v, want minute %d and %d", next, err, minute, numerator)
			}
			p = next
		}
	})
}

func TestStatusReadsItsNameBack(t *testing.T) {
	for s := ledger.StatusSetup; s <= ledger.StatusEngine; s++ {
		b, err := s.MarshalText()
		var got ledger.Status
		if err != nil || got.UnmarshalText(b) != nil || got != s {
			t.Errorf("%s is read as %v", b, got)
		}
	}
	if err := new(ledger.Status).UnmarshalText([]byte("paid")); err == nil {
		t.Error("a status that there is not was read")
	}
}
