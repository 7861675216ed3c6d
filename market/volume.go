package market

import (
	"errors"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A VolumeRecord is the host's word that it has removed a lease's volume, and why.
type VolumeRecord struct {
	Host   identity.Address `cbor:"1,keyasint"`
	Lease  wire.ID          `cbor:"2,keyasint"`
	Volume uint64           `cbor:"3,keyasint"` // bytes, as in the terms
	Reason Reason           `cbor:"4,keyasint"` // why the lease ended
	Cause  identity.Hash    `cbor:"5,keyasint"` // ref of the Forfeit; 0: the lease's end itself
	At     member.Time      `cbor:"6,keyasint"`
}

// Kind implements wire.Message.
func (v VolumeRecord) Kind() wire.Kind { return wire.KindVolumeRecord }

// Signer is the host.
func (v VolumeRecord) Signer() identity.Address { return v.Host }

// Validate checks shape.
func (v VolumeRecord) Validate() error {
	if v.Lease.IsZero() || v.Reason == ReasonNone {
		return errors.New("volume record names no lease or reason")
	}
	return nil
}
