package member

import (
	"errors"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// A Policy holds the numbers of a market. The highest number in effect stands. Spans named "minutes" are minutes of the
// market (slots); money is in nano-credits.
type Policy struct {
	Operator       identity.Address `cbor:"1,keyasint"`
	Number         uint64           `cbor:"2,keyasint"` // 1 at the founding
	Effective      Time             `cbor:"3,keyasint"` // at least an hour ahead, except number 1 and new addresses
	Prev           identity.Hash    `cbor:"4,keyasint"` // ref of the policy before
	Fee            uint32           `cbor:"5,keyasint"` // operator's share of a settlement, parts per million
	MinDeposit     int64            `cbor:"6,keyasint"`
	Grace          uint16           `cbor:"7,keyasint"` // least seconds from SIGTERM to SIGKILL
	Hold           uint16           `cbor:"8,keyasint"` // seconds that a quote holds its GPUs
	Cooldown       uint16           `cbor:"9,keyasint"` // seconds after an abandoned hold; doubles to an hour
	ReserveOpen    uint32           `cbor:"10,keyasint"`
	ReserveLeast   uint32           `cbor:"11,keyasint"`
	ReserveAhead   uint32           `cbor:"12,keyasint"`
	StopFunds      uint32           `cbor:"13,keyasint"` // minutes of funds under which pods stop
	StoppedReserve uint32           `cbor:"14,keyasint"` // minutes of storage kept reserved for a stopped pod
	DataHold       uint32           `cbor:"15,keyasint"` // minutes a volume outlives its lease or its funds
	SetupDeadline  uint32           `cbor:"16,keyasint"` // minutes without pull progress that end a setup
	Step           uint32           `cbor:"17,keyasint"` // a challenger pays at least this many hundredths of its victim's rate
	Protected      uint32           `cbor:"18,keyasint"` // full minutes before spot displaces spot
	MinReliability uint32           `cbor:"19,keyasint"` // parts per million
	Committee      uint32           `cbor:"20,keyasint"`
	MinCommittee   uint32           `cbor:"21,keyasint"`
	Skew           uint16           `cbor:"22,keyasint"` // seconds off the peers' clock at which a node stops signing
	DiskRunning    int64            `cbor:"23,keyasint"` // per GB-month (720 h), container disk and volume of a running pod
	VolumeStopped  int64            `cbor:"24,keyasint"` // per GB-month, volume of a stopped pod
	CloseAfter     uint32           `cbor:"25,keyasint"` // minutes from a consumer's Close to the release of its reservation
	Bootstrap      []string         `cbor:"26,keyasint"` // multiaddrs of operators
	Agreement      string           `cbor:"27,keyasint"` // text of the host agreement
	CredentialLife uint32           `cbor:"28,keyasint"` // seconds
	RenewAfter     uint32           `cbor:"29,keyasint"` // seconds of age at which a credential renews itself
	Extension      identity.Hash    `cbor:"30,keyasint"`
	SpendFloor     int64            `cbor:"31,keyasint,omitempty"` // most that a new consumer's pods may cost per hour; 0: no limit
	SpendGrowth    uint32           `cbor:"32,keyasint,omitempty"` // by how much of what it has settled that grows, parts per million
}

// MostFee is the operator's largest share of a settlement, parts per million.
const MostFee = 500_000

// Agreement is the default text that a host signs.
const Agreement = "I offer this machine to members of this market. I do not look into, copy or alter their pods, data or " +
	"traffic. I keep volumes for as long as the market's policy says, and I report hardware truthfully."

// DefaultPolicy is the policy that a market starts with.
func DefaultPolicy(operator identity.Address, at Time) Policy {
	return Policy{
		Operator: operator, Number: 1, Effective: at, MinDeposit: 10_000_000_000,
		Grace: 5, Hold: 10, Cooldown: 60,
		ReserveOpen: 60, ReserveLeast: 15, ReserveAhead: 24 * 60, StopFunds: 10, StoppedReserve: 48 * 60, DataHold: 48 * 60,
		SetupDeadline: 30, Step: 105, Protected: 1, MinReliability: 980_000, Committee: 16, MinCommittee: 5, Skew: 30,
		DiskRunning: 100_000_000, VolumeStopped: 200_000_000, CloseAfter: 48 * 60, Agreement: Agreement,
		CredentialLife: 72 * 3600, RenewAfter: 24 * 3600,
	}
}

// ForSlot is the policy for a market with minutes of this many seconds: clocks may not differ by more than a minute.
func (p Policy) ForSlot(seconds uint16) Policy {
	p.Skew = min(p.Skew, seconds)
	return p
}

// Kind implements wire.Message.
func (p Policy) Kind() wire.Kind { return wire.KindPolicy }

// Signer is the operator that issued the policy.
func (p Policy) Signer() identity.Address { return p.Operator }

// Validate checks bounds.
func (p Policy) Validate() error {
	switch {
	case p.Number == 0:
		return errors.New("policy: numbers begin at 1")
	case p.Fee > MostFee:
		return errors.New("policy: fee is over half")
	case p.MinDeposit < 0 || p.SpendFloor < 0 || p.DiskRunning < 0 || p.VolumeStopped < 0:
		return errors.New("policy: money is negative")
	case p.Grace < 5 || p.Grace > 300:
		return errors.New("policy: grace is 5 to 300 s")
	case p.Hold == 0 || p.Hold > 60:
		return errors.New("policy: hold is 1 to 60 s")
	case p.ReserveLeast == 0 || p.ReserveOpen < p.ReserveLeast || p.ReserveAhead < p.ReserveOpen:
		return errors.New("policy: reservations want least <= open <= ahead")
	case p.StopFunds >= p.ReserveOpen:
		return errors.New("policy: pods must not stop with as many minutes as a reservation opens with")
	case p.Step < 100:
		return errors.New("policy: a challenger must not pay less than its victim")
	case len(p.Bootstrap) > 16 || len(p.Agreement) > 8192:
		return errors.New("policy: too many addresses or too long an agreement")
	case p.CredentialLife < 3600 || p.RenewAfter >= p.CredentialLife:
		return errors.New("policy: credentials live an hour or more and renew before they end")
	}
	return nil
}

// AgreementHash is what a joining host signs.
func (p Policy) AgreementHash() identity.Hash { return identity.Keccak([]byte(p.Agreement)) }
