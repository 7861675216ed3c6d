package market

import (
	"errors"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Lodged is the bank's word that a consumer has left an order with it for a host that does not carry it out. No minute after its
// own is paid on a mandate that the order ends.
type Lodged struct {
	Operator identity.Address `cbor:"1,keyasint"`
	Lease    wire.ID          `cbor:"2,keyasint"`
	Seq      uint64           `cbor:"3,keyasint"` // of the command
	Command  identity.Hash    `cbor:"4,keyasint"` // its ref
	Minute   member.Minute    `cbor:"5,keyasint"` // in which the bank had it
	At       member.Time      `cbor:"6,keyasint"`
}

// Kind implements wire.Message.
func (l Lodged) Kind() wire.Kind { return wire.KindLodged }

// Signer is the operator.
func (l Lodged) Signer() identity.Address { return l.Operator }

// Validate checks shape.
func (l Lodged) Validate() error {
	if l.Lease.IsZero() || l.Seq == 0 || l.Command.IsZero() {
		return errors.New("lodged names no lease or command")
	}
	return nil
}
