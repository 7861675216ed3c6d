package ledger

import (
	"errors"
	"fmt"
	"math/bits"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Status says what a lease was in a minute. Numbers are on the wire: append only.
type Status uint8

// The statuses. Only running, zero, minimum and stopped cost anything.
const (
	StatusSetup       Status = 1  // pulling, starting
	StatusPartial     Status = 2  // up for a part of the minute
	StatusRunning     Status = 3  // up at both ends of the minute, and attended
	StatusMinimum     Status = 4  // a start that the consumer ordered and ended without a full minute: one minute's price, names no GPU
	StatusPreempted   Status = 5  // outbid: the minute of SIGTERM and later
	StatusStopped     Status = 6  // volume kept, no container
	StatusHostFault   Status = 7  // the host's node or engine was down
	StatusGPUFault    Status = 8  // an unhealthy GPU
	StatusUnreachable Status = 9  // the host was cut off
	StatusUnobserved  Status = 10 // no majority of witnesses
	StatusUnattended  Status = 11 // the consumer did not sign and no mandate paid
	StatusMaintenance Status = 12
	StatusHold        Status = 13 // out of funds or ended: data kept, unpaid
	StatusZero        Status = 14 // running without GPUs
	StatusEngine      Status = 15 // engine paused or hung
)

var statusNames = [...]string{"", "setup", "partial", "running", "minimum", "preempted", "stopped", "host-fault", "gpu-fault",
	"unreachable", "unobserved", "unattended", "maintenance", "hold", "zero", "engine"}

// String is the status's name.
func (s Status) String() string {
	if s == 0 || int(s) >= len(statusNames) {
		return "unknown"
	}
	return statusNames[s]
}

// MarshalText is String.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a status's name.
func (s *Status) UnmarshalText(b []byte) error {
	for i, name := range statusNames {
		if name == string(b) {
			*s = Status(i)
			return nil
		}
	}
	return fmt.Errorf("ledger: no status %q", b)
}

// A Basis says by whose word a minute is billed.
type Basis uint8

// The bases.
const (
	BasisNone     Basis = 0
	BasisAttended Basis = 1 // the consumer's own answered Alive
	BasisMandate  Basis = 2 // receipts of a majority of witnesses under a mandate
	BasisStorage  Basis = 3 // the terms themselves: storage of a stopped pod
)

// String is the basis's name.
func (b Basis) String() string {
	switch b {
	case BasisNone:
		return "none"
	case BasisAttended:
		return "attended"
	case BasisMandate:
		return "mandate"
	case BasisStorage:
		return "storage"
	}
	return "unknown"
}

// A Tariff is what a lease costs per hour in each state. GPU covers all GPUs of the lease together; disk and volume rates
// cover their whole size.
type Tariff struct {
	GPU           Rate `cbor:"1,keyasint" json:"gpu"`
	ZeroGPU       Rate `cbor:"2,keyasint" json:"zeroGpu"`
	DiskRunning   Rate `cbor:"3,keyasint" json:"diskRunning"`
	VolumeRunning Rate `cbor:"4,keyasint" json:"volumeRunning"`
	VolumeStopped Rate `cbor:"5,keyasint" json:"volumeStopped"`
}

// Rate is the hourly rate of a minute with this status. Most statuses cost nothing.
func (t Tariff) Rate(s Status) (Rate, error) {
	var r Amount
	var err error
	switch s {
	case StatusRunning, StatusMinimum:
		r = Amount(t.GPU)
	case StatusZero:
		r = Amount(t.ZeroGPU)
	case StatusStopped:
		return t.VolumeStopped, nil
	default:
		return 0, nil
	}
	if r, err = r.Add(Amount(t.DiskRunning)); err != nil {
		return 0, err
	}
	r, err = r.Add(Amount(t.VolumeRunning))
	return Rate(r), err
}

// Validate refuses negative rates and sums that overflow.
func (t Tariff) Validate() error {
	if t.GPU < 0 || t.ZeroGPU < 0 || t.DiskRunning < 0 || t.VolumeRunning < 0 || t.VolumeStopped < 0 {
		return ErrNegative
	}
	if _, err := t.Rate(StatusRunning); err != nil {
		return err
	}
	_, err := t.Rate(StatusZero)
	return err
}

// A Usage entry closes one minute of a lease, or up to an hour of minutes with one status. The host signs it. Entries of a
// lease form a chain: sequence without gap, each with the ref of the one before; the first has the ref of the LeaseCert.
type Usage struct {
	Host      identity.Address `cbor:"1,keyasint"`
	Lease     wire.ID          `cbor:"2,keyasint"`
	Seq       uint64           `cbor:"3,keyasint"` // from 1
	First     member.Minute    `cbor:"4,keyasint"`
	Count     uint8            `cbor:"5,keyasint"` // minutes covered, 1 to 60
	Billable  uint64           `cbor:"6,keyasint"` // bit i: minute First+i counts
	Status    Status           `cbor:"7,keyasint"`
	Basis     Basis            `cbor:"8,keyasint"`
	Terms     identity.Hash    `cbor:"9,keyasint"`  // ref of the terms in force
	GPUs      []string         `cbor:"10,keyasint"` // UUIDs, for running minutes
	Start     identity.Hash    `cbor:"11,keyasint"` // identity of the container start; 0 when none ran
	Numerator int64            `cbor:"12,keyasint"` // of the lease, after this entry
	Receipts  identity.Hash    `cbor:"13,keyasint"` // root of the receipts that the basis rests on
	Final     bool             `cbor:"14,keyasint"` // the last entry of the lease
	Prev      identity.Hash    `cbor:"15,keyasint"`
}

// Kind implements wire.Message.
func (u Usage) Kind() wire.Kind { return wire.KindUsage }

// Signer is the host.
func (u Usage) Signer() identity.Address { return u.Host }

// Validate checks shape.
func (u Usage) Validate() error {
	switch {
	case u.Lease.IsZero() || u.Seq == 0:
		return errors.New("usage names no lease or no sequence")
	case u.Count == 0 || u.Count > member.HourMinutes:
		return fmt.Errorf("usage covers %d minutes, want 1 to 60", u.Count)
	case u.Billable>>u.Count != 0:
		return errors.New("usage bills minutes that it does not cover")
	case u.Status == 0 || int(u.Status) >= len(statusNames):
		return errors.New("usage has an unknown status")
	case u.Basis > BasisStorage:
		return errors.New("usage has an unknown basis")
	case u.Numerator < 0:
		return ErrNegative
	case len(u.GPUs) > 16:
		return errors.New("usage names more than 16 GPUs")
	}
	return nil
}

// Last is the last minute covered.
func (u Usage) Last() member.Minute { return u.First + member.Minute(u.Count) - 1 }

// Minutes is how many minutes count.
func (u Usage) Minutes() int64 { return int64(bits.OnesCount64(u.Billable)) }

// Owed is what the lease owes after this entry.
func (u Usage) Owed() Amount { return Meter{u.Numerator}.Owed() }

// Why an entry does not continue its chain. The codes are on the wire in refusals: append only.
var (
	ErrChain      = errors.New("ledger: usage entry does not continue its chain")
	ErrArithmetic = errors.New("ledger: usage entry's numerator is not what its minutes cost")
	ErrStatusBill = errors.New("ledger: usage entry bills minutes that are free")
)

// A Place is how far a usage chain has come.
type Place struct {
	Seq    uint64        `cbor:"1,keyasint"`
	Head   identity.Hash `cbor:"2,keyasint"` // ref of the last entry; of the LeaseCert before the first
	Next   member.Minute `cbor:"3,keyasint"` // first minute not yet covered
	Meter  Meter         `cbor:"4,keyasint"`
	Billed Billing       `cbor:"5,keyasint"`
}

// Follow checks that entry u, whose ref is given, continues the chain at p under a tariff: sequence, hash, minutes without
// gap or overlap, no free status billed, no start billed in a way in which none is, and the exact numerator. It returns the
// place after u.
func (p Place) Follow(u Usage, ref identity.Hash, t Tariff, slotSeconds int64) (Place, error) {
	switch {
	case u.Seq != p.Seq+1:
		return p, fmt.Errorf("%w: sequence %d after %d", ErrChain, u.Seq, p.Seq)
	case u.Prev != p.Head:
		return p, fmt.Errorf("%w: entry %d names another one before it", ErrChain, u.Seq)
	case u.First != p.Next:
		return p, fmt.Errorf("%w: entry %d begins at minute %d, want %d", ErrChain, u.Seq, u.First, p.Next)
	case u.Last()+1 <= u.First:
		return p, fmt.Errorf("%w: entry %d ends after the last minute there is", ErrChain, u.Seq)
	}
	rate, err := t.Rate(u.Status)
	if err != nil {
		return p, err
	}
	if u.Billable != 0 && !billable(u.Status, u.Basis) {
		return p, fmt.Errorf("%w: entry %d is %v, %v", ErrStatusBill, u.Seq, u.Status, u.Basis)
	}
	billed, err := p.Billed.Follow(u)
	if err != nil {
		return p, err
	}
	m := p.Meter
	if n := u.Minutes(); n > 0 {
		if m, err = m.Add(rate, n*slotSeconds); err != nil {
			return p, err
		}
	}
	if m.Numerator != u.Numerator {
		return p, fmt.Errorf("%w: entry %d says %d, want %d", ErrArithmetic, u.Seq, u.Numerator, m.Numerator)
	}
	return Place{Seq: u.Seq, Head: ref, Next: u.Last() + 1, Meter: m, Billed: billed}, nil
}

// billable reports whether minutes of this status and basis may count at all.
func billable(s Status, b Basis) bool {
	switch s {
	case StatusRunning, StatusZero:
		return b == BasisAttended || b == BasisMandate
	case StatusMinimum:
		return b == BasisAttended
	case StatusStopped:
		return b == BasisStorage || b == BasisAttended
	}
	return false
}
