// Package reliability is who was there: heartbeats, what each node saw of them, and the scores made of it.
//
// A host signs a Beat every minute, chained to the one before. A node keeps, for each host, the Minutes in which it saw a
// beat, and reads a reliability from them. What a node saw itself is its own view; drawn witnesses make a common one.
//
// Promises: R1 a score depends only on evidence, and the same evidence gives the same bytes everywhere.
package reliability

import (
	"errors"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Beat is a host's sign of life for one minute.
type Beat struct {
	Host    identity.Address `cbor:"1,keyasint"`
	Minute  member.Minute    `cbor:"2,keyasint"`
	Seq     uint64           `cbor:"3,keyasint"` // from 1, over all restarts
	Boot    wire.ID          `cbor:"4,keyasint"` // random at each start of the node
	Free    uint16           `cbor:"5,keyasint"` // GPUs
	LogSeq  uint64           `cbor:"6,keyasint"`
	LogHead identity.Hash    `cbor:"7,keyasint"`
	Meters  identity.Hash    `cbor:"8,keyasint"` // root over all leases' usage heads
	Policy  uint64           `cbor:"9,keyasint"`
	Version string           `cbor:"10,keyasint"`
	Prev    identity.Hash    `cbor:"11,keyasint"` // ref of the beat before
}

// Kind implements wire.Message.
func (b Beat) Kind() wire.Kind { return wire.KindBeat }

// Signer is the host.
func (b Beat) Signer() identity.Address { return b.Host }

// Validate checks shape.
func (b Beat) Validate() error {
	switch {
	case b.Seq == 0:
		return errors.New("beat: sequences begin at 1")
	case len(b.Version) > 32:
		return errors.New("beat: version over 32 bytes")
	}
	return nil
}
