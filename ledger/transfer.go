package ledger

import (
	"errors"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Transfer is an account's order to give credits to another account of the same bank: from what it has available or, with
// Earned, from what it has earned as a host; then it may name itself, to spend what it earned. The same one again is the
// same transfer.
type Transfer struct {
	From      identity.Address `cbor:"1,keyasint"`
	To        identity.Address `cbor:"2,keyasint"`
	Operator  identity.Address `cbor:"3,keyasint"` // whose bank
	ID        wire.ID          `cbor:"4,keyasint"` // random, chosen by From
	Amount    Amount           `cbor:"5,keyasint"`
	Earned    bool             `cbor:"6,keyasint"`
	Memo      string           `cbor:"7,keyasint"` // for the receiver
	At        member.Time      `cbor:"8,keyasint"`
	Extension identity.Hash    `cbor:"9,keyasint"`
}

// TransferLeast is the smallest transfer: each makes a row that the bank keeps.
const TransferLeast = Credit / 100

// Kind implements wire.Message.
func (t Transfer) Kind() wire.Kind { return wire.KindTransfer }

// Signer is who gives.
func (t Transfer) Signer() identity.Address { return t.From }

// Validate checks shape.
func (t Transfer) Validate() error {
	switch {
	case t.From.IsZero() || t.To.IsZero() || t.Operator.IsZero() || t.ID.IsZero():
		return errors.New("transfer names no giver, receiver, bank or id")
	case t.From == t.To && !t.Earned:
		return errors.New("transfer gives to its giver")
	case t.Amount <= 0:
		return ErrNegative
	case len(t.Memo) > refMost:
		return errors.New("transfer has a memo of over 128 bytes")
	}
	return nil
}

// A TransferReceipt is the bank's word that a transfer was made.
type TransferReceipt struct {
	Operator identity.Address `cbor:"1,keyasint"`
	From     identity.Address `cbor:"2,keyasint"`
	To       identity.Address `cbor:"3,keyasint"`
	ID       wire.ID          `cbor:"4,keyasint"`
	Amount   Amount           `cbor:"5,keyasint"`
	Transfer identity.Hash    `cbor:"6,keyasint"` // ref of the order
	Entry    uint64           `cbor:"7,keyasint"`
	At       member.Time      `cbor:"8,keyasint"`
}

// Kind implements wire.Message.
func (r TransferReceipt) Kind() wire.Kind { return wire.KindTransferReceipt }

// Signer is the operator.
func (r TransferReceipt) Signer() identity.Address { return r.Operator }

// Validate checks shape.
func (r TransferReceipt) Validate() error {
	if r.From.IsZero() || r.To.IsZero() || r.ID.IsZero() || r.Transfer.IsZero() || r.Amount <= 0 {
		return errors.New("transfer receipt names no giver, receiver, id, order or amount")
	}
	return nil
}

// Transfer gives credits from one account to another. The same order again gets the same receipt; another one under the same
// id is refused with ErrRefReused.
func (b *Bank) Transfer(t Transfer, now member.Time) (TransferReceipt, error) {
	if err := t.Validate(); err != nil {
		return TransferReceipt{}, malformed(err)
	}
	ref := b.market.Ref(wire.KindTransfer, wire.Marshal(t))
	if old, ok := b.transfers[t.ID]; ok {
		if old.Transfer != ref {
			return TransferReceipt{}, refuse(CodeReused, "transfer %s stands for something else", t.ID.Short())
		}
		return old, nil
	}
	book, have := BookAvailable, b.accounts[t.From].Available
	if t.Earned {
		book, have = BookPayable, b.accounts[t.From].Payable
	}
	switch {
	case t.Operator != b.operator:
		return TransferReceipt{}, refuse(CodeSigner, "the transfer is asked of another bank")
	case t.Amount < TransferLeast:
		return TransferReceipt{}, refuse(CodeSmall, "a transfer of %s; the smallest is %s", t.Amount.Text(), Amount(TransferLeast).Text())
	case have < t.Amount:
		return TransferReceipt{}, short(t.Amount, have)
	}
	r := TransferReceipt{Operator: b.operator, From: t.From, To: t.To, ID: t.ID, Amount: t.Amount, Transfer: ref, Entry: b.head.Seq + 1, At: now}
	err := b.commit(Entry{At: now, Entry: EntryTransfer, Cause: ref, Postings: []Posting{
		{Account: t.From, Book: book, Amount: -t.Amount},
		{Account: t.To, Book: BookAvailable, Amount: t.Amount},
	}}, nil)
	if err != nil {
		return TransferReceipt{}, err
	}
	b.transfers[t.ID] = r
	b.given = append(b.given, r)
	return r, nil
}
