package market

import (
	"testing"

	"pgregory.net/rapid"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// TestAnsweredIsASetOfTheNewest64Minutes compares the map with a plain set.
func TestAnsweredIsASetOfTheNewest64Minutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a Answered
		set := map[member.Minute]bool{}
		var top member.Minute
		base := member.Minute(rapid.SampledFrom([]uint64{0, 3, 29_000_000, 1<<64 - 400}).Draw(t, "base"))
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			m := base + member.Minute(rapid.Uint64Range(0, 300).Draw(t, "minute"))
			a = a.With(m)
			if len(set) == 0 || m > top {
				top = m
			}
			set[m] = true
			for x := base; x <= base+310; x++ {
				want := set[x] && top-x < 64 && x <= top
				if a.Has(x) != want {
					t.Fatalf("after %d with newest %d: has %d is %v, want %v", m, top, x, a.Has(x), want)
				}
			}
			if a.Top != top {
				t.Fatalf("newest is %d, want %d", a.Top, top)
			}
			if b := a.With(m); b != a {
				t.Fatalf("adding %d twice: %+v, once: %+v", m, b, a)
			}
		}
	})
}

func TestEmptyMapHasNoMinute(t *testing.T) {
	var a Answered
	if a.Has(0) || a.Has(1) || (Alive{}).Attended(0) {
		t.Fatal("an empty map has a minute")
	}
}

func TestKeepAlivesAreShaped(t *testing.T) {
	id, host := wire.ID{1}, identity.Address{2}
	for name, c := range map[string]struct {
		msg interface{ Validate() error }
		ok  bool
	}{
		"alive":                  {Alive{Lease: id, Host: host}, true},
		"alive without lease":    {Alive{Host: host}, false},
		"alive without host":     {Alive{Lease: id}, false},
		"reply":                  {AliveReply{Lease: id}, true},
		"reply without lease":    {AliveReply{}, false},
		"command":                {Command{Lease: id, Host: host, Seq: 1, Order: CommandStop}, true},
		"command number 0":       {Command{Lease: id, Host: host, Order: CommandStop}, false},
		"command of no kind":     {Command{Lease: id, Host: host, Seq: 1}, false},
		"command past the last":  {Command{Lease: id, Host: host, Seq: 1, Order: CommandRevoke + 1}, false},
		"notice":                 {Notice{Lease: id, Term: 5, Kill: 5}, true},
		"notice without lease":   {Notice{Term: 5, Kill: 5}, false},
		"kill before terminate":  {Notice{Lease: id, Term: 5, Kill: 4}, false},
		"log entry":              {LogEntry{Seq: 1, Entry: EntryCommand}, true},
		"log entry number 0":     {LogEntry{Entry: EntryHold}, false},
		"log entry of no kind":   {LogEntry{Seq: 1}, false},
		"log entry past the end": {LogEntry{Seq: 1, Entry: EntryCommand + 1}, false},
		"log entry of 65 GPUs":   {LogEntry{Seq: 1, Entry: EntryTake, GPUs: make([]string, 65)}, false},
	} {
		if err := c.msg.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v, want valid %v", name, err, c.ok)
		}
	}
}

func TestBidderIsHiddenAndBound(t *testing.T) {
	a, b := identity.Address{1}, identity.Address{2}
	if Bidder(a, lease(1)) != Bidder(a, lease(1)) || Bidder(a, lease(1)) == Bidder(a, lease(2)) || Bidder(a, lease(1)) == Bidder(b, lease(1)) {
		t.Fatal("a bidder's hash is of its address and lease, and of nothing else")
	}
}
