package ledger

import (
	"errors"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// An EntryKind says what a bank entry did. Numbers are on the wire: append only.
type EntryKind uint8

// The kinds of bank entries.
const (
	EntryDeposit  EntryKind = 1
	EntryReserve  EntryKind = 2
	EntryRaise    EntryKind = 3
	EntryLower    EntryKind = 4
	EntrySettle   EntryKind = 5
	EntryRelease  EntryKind = 6
	EntryPayout   EntryKind = 7 // payable to paying
	EntryPaid     EntryKind = 8 // paying to paid out
	EntryUnpaid   EntryKind = 9 // paying back to payable
	EntryTransfer EntryKind = 10
)

var entryNames = [...]string{"", "deposit", "reserve", "raise", "lower", "settle", "release", "payout", "paid", "unpaid", "transfer"}

// String is the kind's word.
func (k EntryKind) String() string {
	if k == 0 || int(k) >= len(entryNames) {
		return "unknown"
	}
	return entryNames[k]
}

// A Posting changes one book of one account.
type Posting struct {
	_       struct{} `cbor:",toarray"`
	Account identity.Address
	Book    Book
	Amount  Amount
}

// An Entry is one line of the bank's journal: hash-chained, signed by the operator, its postings sum to zero.
type Entry struct {
	Operator    identity.Address `cbor:"1,keyasint"`
	Seq         uint64           `cbor:"2,keyasint"` // from 1
	Prev        identity.Hash    `cbor:"3,keyasint"` // ref of the entry before; 0 for the first
	At          member.Time      `cbor:"4,keyasint"`
	Entry       EntryKind        `cbor:"5,keyasint"`
	Reservation wire.ID          `cbor:"6,keyasint"` // 0 for deposits and payouts
	Cause       identity.Hash    `cbor:"7,keyasint"` // RefKey of a deposit, ref of the voucher of a settlement, of the order of a payout or transfer
	Postings    []Posting        `cbor:"8,keyasint"`
	Extension   identity.Hash    `cbor:"9,keyasint"`
}

// Kind implements wire.Message.
func (e Entry) Kind() wire.Kind { return wire.KindBankEntry }

// Signer is the operator.
func (e Entry) Signer() identity.Address { return e.Operator }

// Validate checks shape, and that the postings sum to zero.
func (e Entry) Validate() error {
	switch {
	case e.Seq == 0:
		return errors.New("bank entry: sequences begin at 1")
	case e.Entry == 0 || int(e.Entry) >= len(entryNames):
		return errors.New("bank entry of an unknown kind")
	case len(e.Postings) == 0 || len(e.Postings) > 16:
		return errors.New("bank entry wants 1 to 16 postings")
	}
	var sum Amount
	for _, p := range e.Postings {
		if p.Book == 0 || int(p.Book) >= len(bookNames) {
			return errors.New("bank entry posts to an unknown book")
		}
		s, err := sum.Add(p.Amount)
		if err != nil {
			return err
		}
		sum = s
	}
	if sum != 0 {
		return errors.New("bank entry does not sum to zero")
	}
	return nil
}

// RefKey is the hash of a deposit's outside reference: what its durable row is kept under.
func RefKey(ref string) identity.Hash {
	return identity.Keccak([]byte("souk/deposit-ref/1"), []byte(ref))
}
