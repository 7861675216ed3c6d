package ledger

import (
	"errors"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Voucher is the consumer's word that it owes Total for a lease, all told. It names the usage entry whose owed amount
// that is. A later voucher replaces an earlier one; losing or repeating one does no harm.
type Voucher struct {
	Reservation wire.ID          `cbor:"1,keyasint"`
	Lease       wire.ID          `cbor:"2,keyasint"`
	By          identity.Address `cbor:"3,keyasint"` // the reservation's voucher signer
	Host        identity.Address `cbor:"4,keyasint"`
	Total       Amount           `cbor:"5,keyasint"`
	Minute      member.Minute    `cbor:"6,keyasint"` // last minute of the entry
	Usage       identity.Hash    `cbor:"7,keyasint"` // ref of the entry
	Seq         uint64           `cbor:"8,keyasint"` // sequence of the entry
	Extension   identity.Hash    `cbor:"9,keyasint"`
}

// Kind implements wire.Message.
func (v Voucher) Kind() wire.Kind { return wire.KindVoucher }

// Signer is the voucher signer.
func (v Voucher) Signer() identity.Address { return v.By }

// Validate checks shape.
func (v Voucher) Validate() error {
	switch {
	case v.Reservation.IsZero() || v.Lease.IsZero() || v.Usage.IsZero():
		return errors.New("voucher names no reservation, lease or usage entry")
	case v.Total < 0:
		return ErrNegative
	}
	return nil
}

// types are the EIP-712 types of what is hashed most often: a voucher a minute and lease.
var types = struct{ voucher wire.Type }{voucher: wire.TypeOf("Voucher", Voucher{}.fill)}

// Typed implements wire.TypedMessage.
func (v Voucher) Typed() *wire.Struct { return v.fill(types.voucher.New()) }

func (v Voucher) fill(s *wire.Struct) *wire.Struct {
	return s.
		Bytes16("reservation", v.Reservation).Bytes16("lease", v.Lease).Address("signer", v.By).Address("host", v.Host).
		Uint128("total", uint64(v.Total)).Uint64("minute", uint64(v.Minute)).Bytes32("usage", v.Usage).
		Uint64("sequence", v.Seq).Bytes32("extension", v.Extension)
}

// A Reserve asks the bank to set money aside for one lease. Asking again with the same id gives the same reservation.
type Reserve struct {
	Consumer    identity.Address `cbor:"1,keyasint"`
	Reservation wire.ID          `cbor:"2,keyasint"`
	Lease       wire.ID          `cbor:"3,keyasint"`
	Host        identity.Address `cbor:"4,keyasint"`
	By          identity.Address `cbor:"5,keyasint"` // who will sign vouchers
	Quote       identity.Hash    `cbor:"6,keyasint"` // ref of the host's quote, sent beside it
	Cap         Amount           `cbor:"7,keyasint"`
	MaxRate     Rate             `cbor:"8,keyasint"` // most that the lease costs per hour, all told
	Budget      Amount           `cbor:"9,keyasint"` // the lease never gets more than this; 0: no limit
	At          member.Time      `cbor:"10,keyasint"`
}

// Kind implements wire.Message.
func (r Reserve) Kind() wire.Kind { return wire.KindReserve }

// Signer is the consumer.
func (r Reserve) Signer() identity.Address { return r.Consumer }

// Validate checks shape.
func (r Reserve) Validate() error {
	switch {
	case r.Reservation.IsZero() || r.Lease.IsZero() || r.Consumer.IsZero() || r.Host.IsZero() || r.By.IsZero():
		return errors.New("reserve names no reservation, lease, consumer, host or voucher signer")
	case r.Cap <= 0 || r.MaxRate < 0 || r.Budget < 0:
		return ErrNegative
	}
	return nil
}

// A Reservation is the bank's promise to pay one host the vouchers of one lease, up to Cap. The same id with a higher
// sequence replaces it: raised by the bank alone, lowered with the host's signature.
type Reservation struct {
	ID        wire.ID          `cbor:"1,keyasint"`
	Seq       uint64           `cbor:"2,keyasint"` // from 1
	Operator  identity.Address `cbor:"3,keyasint"`
	Consumer  identity.Address `cbor:"4,keyasint"`
	By        identity.Address `cbor:"5,keyasint"` // voucher signer
	Host      identity.Address `cbor:"6,keyasint"`
	Lease     wire.ID          `cbor:"7,keyasint"`
	Cap       Amount           `cbor:"8,keyasint"`
	MaxRate   Rate             `cbor:"9,keyasint"`
	Opened    member.Time      `cbor:"10,keyasint"`
	RedeemBy  member.Time      `cbor:"11,keyasint"` // vouchers shown later are not paid
	Entry     uint64           `cbor:"12,keyasint"` // number of the bank's entry that made it
	Extension identity.Hash    `cbor:"13,keyasint"`
}

// Kind implements wire.Message.
func (r Reservation) Kind() wire.Kind { return wire.KindReservation }

// Signer is the operator whose bank it is.
func (r Reservation) Signer() identity.Address { return r.Operator }

// Validate checks shape.
func (r Reservation) Validate() error {
	switch {
	case r.ID.IsZero() || r.Seq == 0 || r.Lease.IsZero():
		return errors.New("reservation has no id, sequence or lease")
	case r.Consumer.IsZero() || r.By.IsZero() || r.Host.IsZero():
		return errors.New("reservation names no consumer, signer or host")
	case r.Cap < 0 || r.MaxRate < 0:
		return ErrNegative
	}
	return nil
}

// Typed implements wire.TypedMessage.
func (r Reservation) Typed() *wire.Struct {
	return wire.NewStruct("Reservation").
		Bytes16("id", r.ID).Uint64("sequence", r.Seq).Address("operator", r.Operator).Address("consumer", r.Consumer).
		Address("signer", r.By).Address("host", r.Host).Bytes16("lease", r.Lease).Uint128("cap", uint64(r.Cap)).
		Uint128("maxRate", uint64(r.MaxRate)).Uint64("opened", uint64(r.Opened)).Uint64("redeemBy", uint64(r.RedeemBy)).
		Uint64("entry", r.Entry).Bytes32("extension", r.Extension)
}

// A Deposit is the operator's receipt for money that came in from outside.
type Deposit struct {
	Operator  identity.Address `cbor:"1,keyasint"`
	Account   identity.Address `cbor:"2,keyasint"`
	Amount    Amount           `cbor:"3,keyasint"`
	Ref       string           `cbor:"4,keyasint"` // of the payment outside; unique per operator
	At        member.Time      `cbor:"5,keyasint"`
	Entry     uint64           `cbor:"6,keyasint"`
	Extension identity.Hash    `cbor:"7,keyasint"`
}

// Kind implements wire.Message.
func (d Deposit) Kind() wire.Kind { return wire.KindDeposit }

// Signer is the operator.
func (d Deposit) Signer() identity.Address { return d.Operator }

// Validate checks shape.
func (d Deposit) Validate() error {
	switch {
	case d.Account.IsZero():
		return errors.New("deposit names no account")
	case d.Amount <= 0:
		return ErrNegative
	case len(d.Ref) == 0 || len(d.Ref) > 128:
		return errors.New("deposit wants a reference of 1 to 128 bytes")
	}
	return nil
}

// Typed implements wire.TypedMessage.
func (d Deposit) Typed() *wire.Struct {
	return wire.NewStruct("Deposit").
		Address("operator", d.Operator).Address("account", d.Account).Uint128("amount", uint64(d.Amount)).
		String("ref", d.Ref).Uint64("at", uint64(d.At)).Uint64("entry", d.Entry).Bytes32("extension", d.Extension)
}

// A Final is the host's last word on a lease: nothing more will be asked for than Total. It releases the rest of the
// reservation.
type Final struct {
	Host        identity.Address `cbor:"1,keyasint"`
	Lease       wire.ID          `cbor:"2,keyasint"`
	Reservation wire.ID          `cbor:"3,keyasint"`
	Total       Amount           `cbor:"4,keyasint"` // of the highest voucher, with what receipts prove
	Usage       identity.Hash    `cbor:"5,keyasint"` // ref of the final usage entry; 0 when there is none
	At          member.Time      `cbor:"6,keyasint"`
}

// Kind implements wire.Message.
func (f Final) Kind() wire.Kind { return wire.KindFinal }

// Signer is the host.
func (f Final) Signer() identity.Address { return f.Host }

// Validate checks shape.
func (f Final) Validate() error {
	if f.Lease.IsZero() || f.Reservation.IsZero() {
		return errors.New("final names no lease or reservation")
	}
	if f.Total < 0 {
		return ErrNegative
	}
	return nil
}

// A NoLease is the host's word that a reservation made for it came to no lease, which releases it whole.
type NoLease struct {
	Host        identity.Address `cbor:"1,keyasint"`
	Lease       wire.ID          `cbor:"2,keyasint"`
	Reservation wire.ID          `cbor:"3,keyasint"`
	At          member.Time      `cbor:"4,keyasint"`
}

// Kind implements wire.Message.
func (n NoLease) Kind() wire.Kind { return wire.KindNoLease }

// Signer is the host.
func (n NoLease) Signer() identity.Address { return n.Host }

// Validate checks shape.
func (n NoLease) Validate() error {
	if n.Lease.IsZero() || n.Reservation.IsZero() {
		return errors.New("no-lease names no lease or reservation")
	}
	return nil
}

// A Close is the consumer's word that a lease is over for it. The bank releases the reservation a set time later, at the
// highest voucher that either side has shown.
type Close struct {
	Consumer    identity.Address `cbor:"1,keyasint"`
	Lease       wire.ID          `cbor:"2,keyasint"`
	Reservation wire.ID          `cbor:"3,keyasint"`
	Total       Amount           `cbor:"4,keyasint"` // of the highest voucher it signed
	At          member.Time      `cbor:"5,keyasint"`
}

// Kind implements wire.Message.
func (c Close) Kind() wire.Kind { return wire.KindClose }

// Signer is the consumer.
func (c Close) Signer() identity.Address { return c.Consumer }

// Validate checks shape.
func (c Close) Validate() error {
	if c.Lease.IsZero() || c.Reservation.IsZero() {
		return errors.New("close names no lease or reservation")
	}
	if c.Total < 0 {
		return ErrNegative
	}
	return nil
}

// A Lower is the host's consent to a smaller cap.
type Lower struct {
	Host        identity.Address `cbor:"1,keyasint"`
	Lease       wire.ID          `cbor:"2,keyasint"`
	Reservation wire.ID          `cbor:"3,keyasint"`
	Seq         uint64           `cbor:"4,keyasint"` // of the reservation that it lowers
	Cap         Amount           `cbor:"5,keyasint"`
	At          member.Time      `cbor:"6,keyasint"`
}

// Kind implements wire.Message.
func (l Lower) Kind() wire.Kind { return wire.KindLower }

// Signer is the host.
func (l Lower) Signer() identity.Address { return l.Host }

// Validate checks shape.
func (l Lower) Validate() error {
	if l.Lease.IsZero() || l.Reservation.IsZero() || l.Seq == 0 {
		return errors.New("lower names no lease, reservation or sequence")
	}
	if l.Cap < 0 {
		return ErrNegative
	}
	return nil
}

// A SettleReceipt is the bank's word that a host has been credited for a lease up to Paid, all told.
type SettleReceipt struct {
	Operator    identity.Address `cbor:"1,keyasint"`
	Host        identity.Address `cbor:"2,keyasint"`
	Lease       wire.ID          `cbor:"3,keyasint"`
	Reservation wire.ID          `cbor:"4,keyasint"`
	Paid        Amount           `cbor:"5,keyasint"` // total settled, fee included
	Fee         Amount           `cbor:"6,keyasint"` // of that, kept by the operator
	Voucher     identity.Hash    `cbor:"7,keyasint"` // ref of the voucher that it was paid on; 0 when none
	Released    bool             `cbor:"8,keyasint"` // the rest of the reservation went back to the consumer
	Entry       uint64           `cbor:"9,keyasint"`
	At          member.Time      `cbor:"10,keyasint"`
}

// Kind implements wire.Message.
func (s SettleReceipt) Kind() wire.Kind { return wire.KindSettleReceipt }

// Signer is the operator.
func (s SettleReceipt) Signer() identity.Address { return s.Operator }

// Validate checks shape.
func (s SettleReceipt) Validate() error {
	if s.Lease.IsZero() || s.Reservation.IsZero() || s.Host.IsZero() {
		return errors.New("settle receipt names no lease, reservation or host")
	}
	if s.Paid < 0 || s.Fee < 0 || s.Fee > s.Paid {
		return ErrNegative
	}
	return nil
}
