package ledger

import (
	"souk/p2p/identity"
	"souk/p2p/member"
)

// A HoldState is where a reservation is.
type HoldState uint8

// The states of a Hold; nothing leads back to open.
const (
	HoldOpen     HoldState = 1
	HoldReleased HoldState = 2
)

// String is open or released.
func (s HoldState) String() string {
	switch s {
	case HoldOpen:
		return "open"
	case HoldReleased:
		return "released"
	}
	return "unknown"
}

// RedeemWithin is how long after its last renewal a reservation pays vouchers. The bank renews one that is in use long
// before.
const RedeemWithin = 30 * member.Day

// A Hold is what the bank keeps of one reservation, and with it of one lease: one durable row.
type Hold struct {
	Reservation Reservation   `cbor:"1,keyasint"` // as it stands now
	Budget      Amount        `cbor:"2,keyasint"` // the cap never exceeds it; 0: no limit
	Settled     Amount        `cbor:"3,keyasint"` // credited to the host and the operator together
	Fee         Amount        `cbor:"4,keyasint"` // of that, the operator's
	FeeRest     int64         `cbor:"5,keyasint"` // millionths of a nano-credit of fee not yet taken, so that it is divided once
	Voucher     Voucher       `cbor:"6,keyasint"` // highest shown; its Usage is 0 when none was
	VoucherRef  identity.Hash `cbor:"7,keyasint"`
	State       HoldState     `cbor:"8,keyasint"`
	CloseAt     member.Time   `cbor:"9,keyasint"`  // when the consumer's Close releases it; 0: not closed
	Active      member.Time   `cbor:"10,keyasint"` // when it was opened or a newer voucher was shown
	Receipt     SettleReceipt `cbor:"11,keyasint"` // last one given; zero before the first
	Rest        bool          `cbor:"12,keyasint"` // its pod is stopped, says its host: it wants no more than Keep ahead
	Keep        Amount        `cbor:"13,keyasint"` // what the host left ahead of what is owed, for storage
	Woken       member.Time   `cbor:"15,keyasint"` // when it last ceased to rest
	DataHold    uint64        `cbor:"17,keyasint"` // minutes that the lease's terms keep data for after a funds notice
	Kin         bool          `cbor:"14,keyasint"` // its parties have one owner or sponsor: it counts for no limit
	Chain       Unvouched     `cbor:"16,keyasint"` // how far its host has claimed minutes beyond the voucher
}

// Open reports whether the reservation still pays.
func (h Hold) Open() bool { return h.State == HoldOpen }

// Left is what the reservation can still pay.
func (h Hold) Left() Amount { return h.Reservation.Cap - h.Settled }

// owed is what the host is known to be owed, paid or not.
func (h Hold) owed() Amount { return max(h.Settled, h.Voucher.Total, h.Chain.Amount()) }

// ahead is what the cap holds beyond what is owed.
func (h Hold) ahead() Amount { return max(0, h.Reservation.Cap-h.owed()) }
