package ledger

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A PayoutRequest is an account's order to pay out what it has earned. The same request again is the same payout.
type PayoutRequest struct {
	Account   identity.Address `cbor:"1,keyasint"`
	Operator  identity.Address `cbor:"2,keyasint"` // whose bank
	ID        wire.ID          `cbor:"3,keyasint"` // random, chosen by the account
	Amount    Amount           `cbor:"4,keyasint"`
	At        member.Time      `cbor:"5,keyasint"`
	Extension identity.Hash    `cbor:"6,keyasint"`
}

// Kind implements wire.Message.
func (r PayoutRequest) Kind() wire.Kind { return wire.KindPayoutRequest }

// Signer is the account's owner.
func (r PayoutRequest) Signer() identity.Address { return r.Account }

// Validate checks shape.
func (r PayoutRequest) Validate() error {
	switch {
	case r.Account.IsZero() || r.Operator.IsZero() || r.ID.IsZero():
		return errors.New("payout names no account, bank or id")
	case r.Amount <= 0:
		return ErrNegative
	}
	return nil
}

// A PayoutState is where a payout stands. Numbers are on the wire: append only.
type PayoutState uint8

// The states of a payout. Nothing leads back from paid or returned.
const (
	PayoutPaying   PayoutState = 1 // on its way: whether it arrives is not known here
	PayoutPaid     PayoutState = 2
	PayoutReturned PayoutState = 3 // it could not be paid: the amount is payable again
)

var payoutNames = [...]string{"", "paying", "paid", "returned"}

// String is the state's word.
func (s PayoutState) String() string {
	if s == 0 || int(s) >= len(payoutNames) {
		return "unknown"
	}
	return payoutNames[s]
}

// A PayoutReceipt is the bank's word on where a payout stands.
type PayoutReceipt struct {
	Operator identity.Address `cbor:"1,keyasint"`
	Account  identity.Address `cbor:"2,keyasint"`
	ID       wire.ID          `cbor:"3,keyasint"`
	Amount   Amount           `cbor:"4,keyasint"`
	State    PayoutState      `cbor:"5,keyasint"`
	Ref      string           `cbor:"6,keyasint"` // of the payment outside, when paid; why not, when returned
	Entry    uint64           `cbor:"7,keyasint"` // of the bank's journal, that brought it there
	At       member.Time      `cbor:"8,keyasint"`
}

// Kind implements wire.Message.
func (r PayoutReceipt) Kind() wire.Kind { return wire.KindPayoutReceipt }

// Signer is the operator.
func (r PayoutReceipt) Signer() identity.Address { return r.Operator }

// Validate checks shape.
func (r PayoutReceipt) Validate() error {
	switch {
	case r.Account.IsZero() || r.ID.IsZero() || r.Amount <= 0:
		return errors.New("payout receipt names no account, id or amount")
	case r.State == 0 || int(r.State) >= len(payoutNames):
		return errors.New("payout receipt has an unknown state")
	case len(r.Ref) > refMost || (r.Ref == "") != (r.State == PayoutPaying):
		return errors.New("payout receipt wants a reference of 1 to 128 bytes once it is decided, and none before")
	}
	return nil
}

// refMost is how long a reference to the world outside may be, bytes.
const refMost = 128

// MostPaying is how many payouts of one account may be on their way.
const MostPaying = 16

// Payout takes what an account has earned out of what it may dispose of, to be paid outside. The same request again gets the
// receipt as it stands; another one under the same id is refused.
func (b *Bank) Payout(r PayoutRequest, now member.Time) (PayoutReceipt, error) {
	if err := r.Validate(); err != nil {
		return PayoutReceipt{}, malformed(err)
	}
	if r.Operator != b.operator {
		return PayoutReceipt{}, refuse(CodeSigner, "the payout is asked of another bank")
	}
	if old, ok := b.payouts[r.ID]; ok {
		if old.Account != r.Account || old.Amount != r.Amount {
			return PayoutReceipt{}, refuse(CodeReused, "payout %s stands for something else", r.ID.Short())
		}
		return old, nil
	}
	if payable := b.accounts[r.Account].Payable; payable < r.Amount {
		return PayoutReceipt{}, short(r.Amount, payable)
	}
	if n := b.paying[r.Account]; n >= MostPaying {
		return PayoutReceipt{}, refuse(CodeLimit, "%d payouts of this account are on their way, the most there may be", n)
	}
	return b.turn(PayoutReceipt{Operator: b.operator, Account: r.Account, ID: r.ID, Amount: r.Amount, State: PayoutPaying}, EntryPayout,
		b.market.Ref(wire.KindPayoutRequest, wire.Marshal(r)), now)
}

// Paid records that a payout has arrived, under its reference outside. The same reference again changes nothing; another one
// for the same payout, or the same for another payout, is refused with ErrRefReused.
func (b *Bank) Paid(id wire.ID, ref string, now member.Time) (PayoutReceipt, error) {
	r, err := b.decide(id, ref, PayoutPaid)
	if err != nil || r.State == PayoutPaid {
		return r, err
	}
	if other, ok := b.paidRefs[ref]; ok {
		return PayoutReceipt{}, refuse(CodeReused, "reference %q stands for payout %s", ref, other.Short())
	}
	r.State, r.Ref = PayoutPaid, ref
	return b.turn(r, EntryPaid, payoutKey(ref), now)
}

// Returned records that a payout could not be paid, and why: its amount is payable again.
func (b *Bank) Returned(id wire.ID, why string, now member.Time) (PayoutReceipt, error) {
	r, err := b.decide(id, why, PayoutReturned)
	if err != nil || r.State == PayoutReturned {
		return r, err
	}
	r.State, r.Ref = PayoutReturned, why
	return b.turn(r, EntryUnpaid, identity.Hash{}, now)
}

// decide finds a payout that is to be in a final state: in paying, or in that very state already.
func (b *Bank) decide(id wire.ID, ref string, to PayoutState) (PayoutReceipt, error) {
	r, ok := b.payouts[id]
	switch {
	case !ok:
		return r, refuse(CodeUnknown, "no payout %s", id.Short())
	case ref == "" || len(ref) > refMost:
		return r, refuse(CodeMalformed, "a payout wants a reference or reason of 1 to %d bytes", refMost)
	case r.State == PayoutPaying || r.State == to && r.Ref == ref:
		return r, nil
	}
	return r, refuse(CodeReused, "payout %s is %v already (%s)", id.Short(), r.State, r.Ref)
}

// turn moves a payout's amount from the book that it is in to the one of its new state.
func (b *Bank) turn(r PayoutReceipt, kind EntryKind, cause identity.Hash, now member.Time) (PayoutReceipt, error) {
	books := map[EntryKind][2]Book{EntryPayout: {BookPayable, BookPaying}, EntryPaid: {BookPaying, BookPaidOut}, EntryUnpaid: {BookPaying, BookPayable}}[kind]
	r.Entry, r.At = b.head.Seq+1, now
	err := b.commit(Entry{At: now, Entry: kind, Cause: cause, Postings: []Posting{
		{Account: r.Account, Book: books[0], Amount: -r.Amount},
		{Account: r.Account, Book: books[1], Amount: r.Amount},
	}}, nil)
	if err != nil {
		return PayoutReceipt{}, err
	}
	b.file(r)
	b.turned[r.ID] = true
	return r, nil
}

// file keeps a payout, and what is counted of them.
func (b *Bank) file(r PayoutReceipt) {
	was := b.payouts[r.ID].State == PayoutPaying
	b.payouts[r.ID] = r
	switch is := r.State == PayoutPaying; {
	case is && !was:
		b.paying[r.Account]++
	case was && !is:
		if b.paying[r.Account]--; b.paying[r.Account] == 0 {
			delete(b.paying, r.Account)
		}
	}
	if r.State == PayoutPaid {
		b.paidRefs[r.Ref] = r.ID
	}
}

// Payouts lists all payouts, those on their way first, then the newest first.
func (b *Bank) Payouts() []PayoutReceipt {
	return slices.SortedFunc(maps.Values(b.payouts), func(x, y PayoutReceipt) int {
		switch xp, yp := x.State == PayoutPaying, y.State == PayoutPaying; {
		case xp && !yp:
			return -1
		case yp && !xp:
			return 1
		}
		return cmp.Or(cmp.Compare(y.At, x.At), compareIDs(x.ID, y.ID))
	})
}

// payoutKey is the hash of a payout's outside reference.
func payoutKey(ref string) identity.Hash {
	return identity.Keccak([]byte("souk/payout-ref/1"), []byte(ref))
}
