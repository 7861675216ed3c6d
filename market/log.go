package market

import (
	"errors"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// An EntryKind is what a lease-log entry records. Numbers are on the wire: append only.
type EntryKind uint8

// The entries.
const (
	EntryInventory EntryKind = 1 // GPUs (all of the host, usable) as of now; the first entry of every log
	EntryHold      EntryKind = 2 // GPUs held, victims marked, for a quote
	EntryExpire    EntryKind = 3 // a hold ended without a lease
	EntryCert      EntryKind = 4 // both have signed
	EntryNotice    EntryKind = 5 // a victim was told
	EntryTake      EntryKind = 6 // GPUs now belong to the lease
	EntryFree      EntryKind = 7 // GPUs no longer belong to the lease
	EntryState     EntryKind = 8 // the lease changed its state
	EntryAmend     EntryKind = 9
	EntryArrive    EntryKind = 10
	EntryClear     EntryKind = 11
	EntryDrain     EntryKind = 12
	EntryEnd       EntryKind = 13
	EntryNoLease   EntryKind = 14
	EntryCommand   EntryKind = 15 // a consumer's command was received
)

var entryNames = [...]string{"", "inventory", "hold", "expire", "cert", "notice", "take", "free", "state", "amend", "arrive",
	"clear", "drain", "end", "no-lease", "command"}

// String is the entry's word.
func (k EntryKind) String() string {
	if k == 0 || int(k) >= len(entryNames) {
		return "unknown"
	}
	return entryNames[k]
}

// A LogEntry is one line of a host's lease log: hash-chained and signed, it is the truth about who has which GPU. What it
// needs for a replay of every allocation is in it.
type LogEntry struct {
	Host   identity.Address `cbor:"1,keyasint"`
	Seq    uint64           `cbor:"2,keyasint"` // from 1
	Prev   identity.Hash    `cbor:"3,keyasint"`
	At     member.Time      `cbor:"4,keyasint"`
	Minute member.Minute    `cbor:"5,keyasint"`
	Entry  EntryKind        `cbor:"6,keyasint"`
	Lease  wire.ID          `cbor:"7,keyasint"`
	Bidder identity.Hash    `cbor:"8,keyasint"` // salted hash of the consumer, opened on proof
	Type   BidKind          `cbor:"9,keyasint"`
	Rate   ledger.Rate      `cbor:"10,keyasint"` // per GPU-hour
	Model  string           `cbor:"11,keyasint"`
	Count  uint16           `cbor:"12,keyasint"` // GPUs wanted
	GPUs   []string         `cbor:"13,keyasint"` // UUIDs held, taken, freed, on hand
	Leases []wire.ID        `cbor:"14,keyasint"` // victims of a hold
	State  State            `cbor:"15,keyasint"`
	Reason Reason           `cbor:"16,keyasint"`
	Cause  identity.Hash    `cbor:"17,keyasint"` // ref of the object that caused it
	Until  member.Time      `cbor:"18,keyasint"` // of a hold
	Policy uint64           `cbor:"19,keyasint"`
}

// Kind implements wire.Message.
func (e LogEntry) Kind() wire.Kind { return wire.KindLogEntry }

// Signer is the host.
func (e LogEntry) Signer() identity.Address { return e.Host }

// Validate checks shape.
func (e LogEntry) Validate() error {
	switch {
	case e.Seq == 0:
		return errors.New("log entry: sequences begin at 1")
	case e.Entry == 0 || int(e.Entry) >= len(entryNames):
		return errors.New("log entry of an unknown kind")
	case len(e.GPUs) > 64 || len(e.Leases) > 64 || len(e.Model) > 64:
		return errors.New("log entry is too long")
	}
	return nil
}

// Bidder hides a consumer's address in a log: whoever is shown the lease id can check it.
func Bidder(consumer identity.Address, lease wire.ID) identity.Hash {
	return identity.Keccak([]byte("souk/bidder/1"), lease[:], consumer[:])
}
