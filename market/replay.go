package market

import (
	"errors"
	"fmt"
	"slices"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Why a log is not a true account of a host's GPUs. A Mismatch wraps one of these, or one of the table's own errors.
var (
	ErrLogStart  = errors.New("market: a log begins with sequence 1, an inventory")
	ErrLogGap    = errors.New("market: an entry of the log is missing")
	ErrLogFork   = errors.New("market: the log does not continue the entry before")
	ErrLogHost   = errors.New("market: another host's log entry")
	ErrLogHold   = errors.New("market: a hold is not what the rules give")
	ErrLogTake   = errors.New("market: a take is not of the GPUs that the lease has a right to")
	ErrLogFree   = errors.New("market: a free is not of the GPUs that the lease has")
	ErrLogOutbid = errors.New("market: a lease was outbid by nobody")
	ErrLogEnd    = errors.New("market: a lease ended that still has GPUs")
	ErrMarked    = errors.New("market: the lease is being displaced")
)

// A Mismatch names the first entry of a log that is not what the entries before it allow.
type Mismatch struct {
	Seq   uint64
	Entry EntryKind
	Why   error
}

// Error says which entry and why.
func (m Mismatch) Error() string { return fmt.Sprintf("log entry %d (%v): %v", m.Seq, m.Entry, m.Why) }

// Unwrap is the reason.
func (m Mismatch) Unwrap() error { return m.Why }

// A Follower recomputes a host's table from its log, entry by entry. It takes entries whose signatures were checked.
//
// What an entry must say so that it can be followed:
//
//	inventory  Model, GPUs: one entry for each Stock that Table.Inventory answers
//	hold       Lease, Type, Rate, Model, Count as asked; GPUs and Leases (victims) as planned; Until
//	expire     Lease; no-lease, of a lease that holds, is the same
//	cert       Lease; a state entry with StateCertified, of a lease that holds, is the same (a start without a new contract)
//	notice     Lease, Reason; outbid only for a victim of a certified lease
//	take       Lease, GPUs
//	free       Lease, GPUs
//	state      Lease, State, Reason; a state that owns no GPUs gives up a right not yet taken
//	amend      Lease; Type and Rate where they change
//	end        Lease, after its free
//
// The other kinds change no GPU.
type Follower struct {
	market wire.Market
	table  Table
	host   identity.Address
	seq    uint64
	head   identity.Hash
	told   map[wire.ID]bool // leases that were given an outbid notice
	err    error
}

// NewFollower follows a log of this market from its first entry.
func NewFollower(m wire.Market) *Follower {
	return &Follower{market: m, told: map[wire.ID]bool{}}
}

// Table is the host's table after the last entry followed. Its devices have UUID and model only.
func (f *Follower) Table() *Table { return &f.table }

// Head is the sequence and ref of the last entry followed.
func (f *Follower) Head() (uint64, identity.Hash) { return f.seq, f.head }

// Follow checks one more entry. The first Mismatch ends it: later calls give the same one.
func (f *Follower) Follow(e LogEntry) error {
	if f.err != nil {
		return f.err
	}
	why := f.chain(e)
	if why == nil {
		why = f.apply(e)
	}
	if why != nil {
		f.err = Mismatch{Seq: e.Seq, Entry: e.Entry, Why: why}
		return f.err
	}
	f.host, f.seq, f.head = e.Host, e.Seq, f.market.Ref(wire.KindLogEntry, wire.Marshal(e))
	return nil
}

// chain checks that an entry follows the one before.
func (f *Follower) chain(e LogEntry) error {
	switch {
	case f.seq == 0 && (e.Seq != 1 || e.Entry != EntryInventory || !e.Prev.IsZero()):
		return ErrLogStart
	case f.seq > 0 && e.Host != f.host:
		return ErrLogHost
	case e.Seq > f.seq+1:
		return fmt.Errorf("%w: %d follows %d", ErrLogGap, e.Seq, f.seq)
	case e.Seq != f.seq+1 || e.Prev != f.head:
		return fmt.Errorf("%w (%d, %s)", ErrLogFork, f.seq, f.head.Short())
	}
	return nil
}

// apply makes the entry's change, if the table allows exactly that.
func (f *Follower) apply(e LogEntry) error {
	switch e.Entry {
	case EntryInventory:
		return f.inventory(e)
	case EntryHold:
		return f.hold(e)
	case EntryExpire:
		if !f.table.Expire(e.Lease) {
			return ErrNoHold
		}
	case EntryNoLease:
		f.table.Expire(e.Lease)
	case EntryCert:
		_, err := f.table.Certify(e.Lease, e.At)
		return err
	case EntryNotice:
		return f.notice(e)
	case EntryTake:
		return f.take(e)
	case EntryFree:
		return f.free(e)
	case EntryState:
		return f.state(e)
	case EntryAmend:
		if e.Type != 0 {
			return f.table.Amend(e.Lease, e.Type, e.Rate)
		}
	case EntryEnd:
		if t, ok := f.table.Tenant(e.Lease); ok && t.Taken {
			return ErrLogEnd
		}
		f.table.Drop(e.Lease)
	}
	return nil
}

func (f *Follower) inventory(e LogEntry) error {
	var devs []member.Device
	for _, id := range e.GPUs {
		devs = append(devs, member.Device{UUID: id, Model: e.Model})
	}
	f.table.inventory(e.Model, devs)
	if got := f.table.Usable(e.Model); !slices.Equal(got, e.GPUs) {
		return fmt.Errorf("market: the inventory names a GPU twice: %q", e.GPUs)
	}
	return nil
}

func (f *Follower) hold(e LogEntry) error {
	a := Ask{Lease: e.Lease, Type: e.Type, Rate: e.Rate, Model: e.Model, Count: e.Count}
	h, err := f.table.Hold(a, e.Until)
	switch {
	case err != nil:
		return err
	case !slices.Equal(h.GPUs, e.GPUs):
		return fmt.Errorf("%w: GPUs %q, want %q", ErrLogHold, e.GPUs, h.GPUs)
	case !slices.Equal(h.Victims, e.Leases):
		return fmt.Errorf("%w: victims %v, want %v", ErrLogHold, e.Leases, h.Victims)
	}
	delete(f.told, e.Lease)
	return nil
}

func (f *Follower) notice(e LogEntry) error {
	if e.Reason != ReasonOutbid {
		return nil
	}
	for _, t := range f.table.Tenants {
		if !t.Taken && slices.Contains(t.Victims, e.Lease) {
			f.told[e.Lease] = true
			return nil
		}
	}
	return ErrLogOutbid
}

func (f *Follower) take(e LogEntry) error {
	if t, ok := f.table.Tenant(e.Lease); ok && !slices.Equal(t.GPUs, e.GPUs) {
		return fmt.Errorf("%w: %q, want %q", ErrLogTake, e.GPUs, t.GPUs)
	}
	return f.table.Take(e.Lease, e.At)
}

func (f *Follower) free(e LogEntry) error {
	if got := f.table.Free(e.Lease); len(got) == 0 || !slices.Equal(got, e.GPUs) {
		return fmt.Errorf("%w: %q, want %q", ErrLogFree, e.GPUs, got)
	}
	return nil
}

func (f *Follower) state(e LogEntry) error {
	if _, held := f.table.Held(e.Lease); held && e.State == StateCertified {
		_, err := f.table.Certify(e.Lease, e.At)
		return err
	}
	if e.State == StateOutbid && !f.told[e.Lease] {
		return ErrLogOutbid
	}
	if !e.State.Owns() && e.State != StateHeld {
		f.table.Drop(e.Lease)
	}
	return nil
}

// Amend changes what a certified lease is and pays. A lease that is being displaced stays as it is: ErrMarked.
func (t *Table) Amend(lease wire.ID, kind BidKind, rate ledger.Rate) error {
	i := t.tenant(lease)
	switch {
	case i < 0:
		return ErrNoRight
	case t.marked(lease):
		return ErrMarked
	case kind != OnDemand && kind != Spot || rate < 0:
		return ErrAsk
	case kind != OnDemand && len(t.Tenants[i].Victims) > 0:
		return ErrBusy
	}
	t.Tenants[i].Type, t.Tenants[i].Rate = kind, rate
	return nil
}

// Replay recomputes a host's table from its whole log, every hold's plan and every take. The error is a Mismatch that
// names the first entry that is not what the rules give.
func Replay(m wire.Market, entries []LogEntry) (Table, error) {
	f := NewFollower(m)
	for _, e := range entries {
		if err := f.Follow(e); err != nil {
			return Table{}, err
		}
	}
	return f.table, nil
}

// A Fork proves that a host signed two contents for one place of its log. Whoever has the two objects can check it.
type Fork struct {
	_ struct{} `cbor:",toarray"`
	A wire.Object
	B wire.Object
}

// ErrNoFork is what a pair of entries that proves nothing is refused with.
var ErrNoFork = errors.New("market: the two entries are no fork")

// FindFork compares two verified entries.
func FindFork(a, b wire.Verified[LogEntry]) (Fork, bool) {
	x, y := a.Value(), b.Value()
	if x.Host != y.Host || x.Seq != y.Seq || a.Ref() == b.Ref() {
		return Fork{}, false
	}
	return Fork{A: a.Object(), B: b.Object()}, true
}

// Prove checks the proof and names the host that it convicts, and the place. Errors: those of wire.Open, ErrNoFork.
func (f Fork) Prove(o wire.Opener) (host identity.Address, seq uint64, err error) {
	a, err := wire.Open[LogEntry](o, f.A)
	if err != nil {
		return host, 0, err
	}
	b, err := wire.Open[LogEntry](o, f.B)
	if err != nil {
		return host, 0, err
	}
	if _, ok := FindFork(a, b); !ok {
		return host, 0, ErrNoFork
	}
	return a.Value().Host, a.Value().Seq, nil
}
