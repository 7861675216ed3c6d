package market

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

func testMarket() wire.Market {
	return wire.NewMarket(identity.Keccak([]byte("test")), 1, identity.Address{1})
}

// A scribe is a table whose every change is logged, as a host does it.
type scribe struct {
	market  wire.Market
	table   Table
	entries []LogEntry
	head    identity.Hash
}

func newScribe() *scribe { return &scribe{market: testMarket()} }

func (s *scribe) log(e LogEntry) {
	e.Host, e.Seq, e.Prev, e.At = identity.Address{7}, uint64(len(s.entries)+1), s.head, member.Time(len(s.entries))
	s.entries = append(s.entries, e)
	s.head = s.market.Ref(wire.KindLogEntry, wire.Marshal(e))
}

func (s *scribe) stock(devs []member.Device) {
	for _, st := range s.table.Inventory(devs) {
		s.log(LogEntry{Entry: EntryInventory, Model: st.Model, GPUs: st.GPUs})
	}
}

func (s *scribe) hold(a Ask) bool {
	h, err := s.table.Hold(a, 100)
	if err == nil {
		s.log(LogEntry{Entry: EntryHold, Lease: a.Lease, Type: a.Type, Rate: a.Rate, Model: a.Model, Count: a.Count,
			GPUs: h.GPUs, Leases: h.Victims, Until: h.Until})
	}
	return err == nil
}

func (s *scribe) expire(l wire.ID) {
	if s.table.Expire(l) {
		s.log(LogEntry{Entry: EntryExpire, Lease: l, Reason: ReasonExpired})
	}
}

func (s *scribe) certify(l wire.ID, e EntryKind) {
	victims, err := s.table.Certify(l, member.Time(len(s.entries)))
	if err != nil {
		return
	}
	s.log(LogEntry{Entry: e, Lease: l, State: StateCertified})
	for _, v := range victims {
		s.log(LogEntry{Entry: EntryNotice, Lease: v, Reason: ReasonOutbid})
		s.log(LogEntry{Entry: EntryState, Lease: v, State: StateStopping, Reason: ReasonOutbid})
	}
}

func (s *scribe) take(l wire.ID) {
	e, ok := s.table.Tenant(l)
	if ok && s.table.Take(l, member.Time(len(s.entries))) == nil {
		s.log(LogEntry{Entry: EntryTake, Lease: l, GPUs: e.GPUs})
	}
}

func (s *scribe) free(l wire.ID) {
	if g := s.table.Free(l); g != nil {
		s.log(LogEntry{Entry: EntryFree, Lease: l, GPUs: g})
	}
}

func (s *scribe) drop(l wire.ID) {
	if s.table.Drop(l) {
		s.log(LogEntry{Entry: EntryState, Lease: l, State: StateStopped, Reason: ReasonConsumer})
	}
}

// relink makes the chain whole again after a change, as a lying host would.
func (s *scribe) relink() {
	head := identity.Hash{}
	for i := range s.entries {
		s.entries[i].Seq, s.entries[i].Prev = uint64(i+1), head
		head = s.market.Ref(wire.KindLogEntry, wire.Marshal(s.entries[i]))
	}
}

// a log in which lease 1 is displaced by lease 2.
func displaced() *scribe {
	s := newScribe()
	s.stock(devices("A", 2))
	s.hold(ask(1, Spot, 10, 2))
	s.certify(lease(1), EntryCert)
	s.take(lease(1))
	s.hold(ask(2, OnDemand, 50, 1))
	s.certify(lease(2), EntryCert)
	s.free(lease(1))
	s.log(LogEntry{Entry: EntryState, Lease: lease(1), State: StateOutbid, Reason: ReasonOutbid})
	s.take(lease(2))
	return s
}

func TestReplayGivesTheHostsTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newScribe()
		s.stock(devices("A", rapid.IntRange(1, 8).Draw(t, "gpus")))
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			l := rapid.IntRange(1, 12).Draw(t, "lease")
			switch rapid.IntRange(0, 8).Draw(t, "step") {
			case 0, 1, 2:
				k := rapid.SampledFrom([]BidKind{Spot, OnDemand}).Draw(t, "kind")
				s.hold(ask(l, k, 5, rapid.Uint16Range(1, 3).Draw(t, "n")))
			case 3:
				s.certify(lease(l), rapid.SampledFrom([]EntryKind{EntryCert, EntryState}).Draw(t, "by"))
			case 4:
				s.take(lease(l))
			case 5:
				s.free(lease(l))
			case 6:
				s.drop(lease(l))
			case 7:
				s.expire(lease(l))
			case 8:
				s.stock(append(devices("A", rapid.IntRange(0, 8).Draw(t, "a")), devices("B", rapid.IntRange(0, 2).Draw(t, "b"))...))
			}
		}
		got, err := Replay(s.market, s.entries)
		if err != nil {
			t.Fatal(err)
		}
		want := s.table
		want.Slots = slices.Clone(want.Slots)
		for i := range want.Slots {
			want.Slots[i].Device.MemoryMiB = 0
		}
		if string(wire.Marshal(got)) != string(wire.Marshal(want)) {
			t.Fatalf("replayed table\n%+v\nis not the host's\n%+v", got, want)
		}
	})
}

func TestReplayNamesTheFirstWrongEntry(t *testing.T) {
	const (
		inventory, hold1, cert1, take1, hold2, cert2, notice1, stopping1, free1, outbid1, take2 = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
	)
	drop := func(s *scribe, i int) { s.entries = slices.Delete(s.entries, i, i+1) }
	for _, c := range []struct {
		name   string
		change func(*scribe)
		relink bool
		seq    uint64
		why    error
	}{
		{"nothing", func(*scribe) {}, true, 0, nil},
		{"take of a GPU that is not free", func(s *scribe) { drop(s, free1); drop(s, outbid1-1) }, true, 9, ErrOccupied},
		{"take by a lease without a right", func(s *scribe) { drop(s, cert1) }, true, 3, ErrNoRight},
		{"take of another GPU", func(s *scribe) { s.entries[take2].GPUs = []string{"GPU-A-01"} }, true, 11, ErrLogTake},
		{"hold of another GPU", func(s *scribe) { s.entries[hold2].GPUs = []string{"GPU-A-01"} }, true, 5, ErrLogHold},
		{"hold without its victims", func(s *scribe) { s.entries[hold2].Leases = nil }, true, 5, ErrLogHold},
		{"hold of what is not there", func(s *scribe) { s.entries[hold2].Count = 3 }, true, 5,
			Shortage{Model: "A", Want: 3, Have: 2, Could: 2}},
		{"spot that displaces spot", func(s *scribe) { s.entries[hold2].Type = Spot }, true, 5,
			Shortage{Model: "A", Want: 1, Have: 2, Could: 0}},
		{"on-demand displaced", func(s *scribe) { s.entries[hold1].Type = OnDemand }, true, 5,
			Shortage{Model: "A", Want: 1, Have: 2, Could: 0}},
		{"outbid notice to no victim", func(s *scribe) { s.entries[notice1].Lease = lease(2) }, true, 7, ErrLogOutbid},
		{"outbid without notice", func(s *scribe) { drop(s, notice1) }, true, 9, ErrLogOutbid},
		{"free of another GPU", func(s *scribe) { s.entries[free1].GPUs = s.entries[free1].GPUs[:1] }, true, 9, ErrLogFree},
		{"expiry of no hold", func(s *scribe) { s.entries[cert1].Entry = EntryExpire; s.entries[take1].Entry = EntryExpire }, true, 4, ErrNoHold},
		{"end with GPUs", func(s *scribe) { s.entries[free1].Entry = EntryEnd }, true, 9, ErrLogEnd},
		{"a GPU named twice", func(s *scribe) { s.entries[inventory].GPUs[1] = "GPU-A-00" }, true, 1, nil},
		{"gap", func(s *scribe) { drop(s, cert1) }, false, 4, ErrLogGap},
		{"fork", func(s *scribe) { s.entries[hold2].Prev[0]++ }, false, 5, ErrLogFork},
		{"repeat", func(s *scribe) { s.entries = slices.Insert(s.entries, 2, s.entries[1]) }, false, 2, ErrLogFork},
		{"no beginning", func(s *scribe) { drop(s, inventory) }, false, 2, ErrLogStart},
		{"another host", func(s *scribe) { s.entries[hold2].Host = identity.Address{8} }, false, 5, ErrLogHost},
	} {
		s := displaced()
		c.change(s)
		if c.relink {
			s.relink()
		}
		_, err := Replay(s.market, s.entries)
		var m Mismatch
		switch {
		case c.seq == 0 && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.seq > 0 && (!errors.As(err, &m) || m.Seq != c.seq || c.why != nil && !errors.Is(err, c.why)):
			t.Errorf("%s: %v, want entry %d: %v", c.name, err, c.seq, c.why)
		}
	}
}

func TestReplayOfARestart(t *testing.T) {
	s := displaced()
	s.free(lease(2))
	s.hold(ask(1, Spot, 10, 2))
	s.certify(lease(1), EntryState)
	s.take(lease(1))
	got, err := Replay(s.market, s.entries)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := got.Tenant(lease(1)); !ok || !e.Taken {
		t.Fatalf("lease 1 after its restart: %+v", e)
	}
}

func TestAmendedLeaseIsNoVictim(t *testing.T) {
	tab := host(1)
	seat(t, tab, ask(1, Spot, 10, 1))
	if err := tab.Amend(lease(1), OnDemand, 50); err != nil {
		t.Fatal(err)
	}
	if _, err := tab.Plan(ask(2, OnDemand, 90, 1)); err == nil {
		t.Fatal("an upgraded lease was displaced")
	}
	tab = host(1)
	seat(t, tab, ask(1, Spot, 10, 1))
	tab.Hold(ask(2, OnDemand, 90, 1), 5)
	if err := tab.Amend(lease(1), OnDemand, 50); !errors.Is(err, ErrMarked) {
		t.Fatalf("upgrade of a marked victim: %v, want ErrMarked", err)
	}
}

func testKey(t *testing.T, n byte) *identity.PrivateKey {
	t.Helper()
	k, err := identity.ParsePrivateKey(slices.Concat(make([]byte, 31), []byte{n}))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestForkConvictsItsSignerOnly(t *testing.T) {
	m := testMarket()
	o := wire.Opener{Market: m, Verifier: identity.Secp256k1{}}
	sealed := func(k *identity.PrivateKey, e LogEntry) wire.Object {
		e.Host = k.Address()
		obj, err := wire.Seal(m, k, e)
		if err != nil {
			t.Fatal(err)
		}
		return obj
	}
	host, other := testKey(t, 1), testKey(t, 2)
	a := sealed(host, LogEntry{Seq: 3, Entry: EntryDrain})
	b := sealed(host, LogEntry{Seq: 3, Entry: EntryDrain, Minute: 1})
	if who, seq, err := (Fork{A: a, B: b}).Prove(o); err != nil || who != host.Address() || seq != 3 {
		t.Fatalf("prove: %v at %d, %v; want the host at 3", who, seq, err)
	}
	for name, f := range map[string]Fork{
		"the same entry":  {A: a, B: a},
		"another place":   {A: a, B: sealed(host, LogEntry{Seq: 4, Entry: EntryDrain})},
		"another host":    {A: a, B: sealed(other, LogEntry{Seq: 3, Entry: EntryDrain, Minute: 1})},
		"another's entry": {A: a, B: wire.Object{Kind: b.Kind, Payload: b.Payload, Sig: sealed(other, LogEntry{Seq: 3, Entry: EntryDrain}).Sig}},
	} {
		if _, _, err := f.Prove(o); err == nil {
			t.Errorf("%s: proves a fork", name)
		}
	}
}
