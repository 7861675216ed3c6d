package ledger

import (
	"souk/p2p/identity"
)

// A Book is one of the balances of an account. Numbers are in what the operator signs: append only.
type Book uint8

// The books. External stands for the world outside: what came in from there is negative, so that entries sum to zero.
const (
	BookExternal  Book = 1
	BookAvailable Book = 2
	BookReserved  Book = 3 // set aside for hosts
	BookPayable   Book = 4 // earned by a host, not yet paid out
	BookPaying    Book = 5 // in a payout whose outcome is not known yet
	BookPaidOut   Book = 6
	BookFees      Book = 7 // the operator's share, on the operator's own account
)

var bookNames = [...]string{"", "external", "available", "reserved", "payable", "paying", "paid-out", "fees"}

// String is the book's name.
func (b Book) String() string {
	if b == 0 || int(b) >= len(bookNames) {
		return "unknown"
	}
	return bookNames[b]
}

// An Account is what the bank keeps for one address: one durable row.
type Account struct {
	Address   identity.Address `cbor:"1,keyasint"`
	Deposited Amount           `cbor:"2,keyasint"`
	Available Amount           `cbor:"3,keyasint"`
	Reserved  Amount           `cbor:"4,keyasint"` // Σ (cap − settled) of its open reservations as a consumer
	Payable   Amount           `cbor:"5,keyasint"`
	Paying    Amount           `cbor:"6,keyasint"`
	PaidOut   Amount           `cbor:"7,keyasint"`
	Fees      Amount           `cbor:"8,keyasint"`
	Settled   Amount           `cbor:"9,keyasint"`  // all that hosts were ever credited from it
	Earned    Amount           `cbor:"10,keyasint"` // all that it was ever credited as a host
	Received  Amount           `cbor:"11,keyasint"` // all that was ever transferred to it
}

// book is the balance that a posting changes, and the sign with which it stands in the account.
func (a *Account) book(b Book) (balance *Amount, negated bool) {
	switch b {
	case BookExternal:
		return &a.Deposited, true
	case BookAvailable:
		return &a.Available, false
	case BookReserved:
		return &a.Reserved, false
	case BookPayable:
		return &a.Payable, false
	case BookPaying:
		return &a.Paying, false
	case BookPaidOut:
		return &a.PaidOut, false
	case BookFees:
		return &a.Fees, false
	}
	panic("ledger: posting to an unknown book")
}

// post applies one posting. ErrOverflow or ErrNegative leave the account unchanged.
func (a *Account) post(p Posting) error {
	bal, negated := a.book(p.Book)
	d := p.Amount
	if negated {
		d = -d
	}
	v, err := bal.Add(d)
	if err != nil {
		return err
	}
	if v < 0 {
		return ErrNegative
	}
	*bal = v
	return nil
}

// negative reports whether any balance is below zero.
func (a Account) negative() bool {
	for _, v := range []Amount{a.Deposited, a.Available, a.Reserved, a.Payable, a.Paying, a.PaidOut, a.Fees, a.Settled, a.Earned, a.Received} {
		if v < 0 {
			return true
		}
	}
	return false
}

// plus is the sum of two accounts, book by book.
func (a Account) plus(b Account) (Account, error) {
	sum := Account{Address: a.Address}
	rows := []struct {
		to   *Amount
		x, y Amount
	}{
		{&sum.Deposited, a.Deposited, b.Deposited}, {&sum.Available, a.Available, b.Available},
		{&sum.Reserved, a.Reserved, b.Reserved}, {&sum.Payable, a.Payable, b.Payable}, {&sum.Paying, a.Paying, b.Paying},
		{&sum.PaidOut, a.PaidOut, b.PaidOut}, {&sum.Fees, a.Fees, b.Fees}, {&sum.Settled, a.Settled, b.Settled},
		{&sum.Earned, a.Earned, b.Earned},
	}
	for _, r := range rows {
		v, err := r.x.Add(r.y)
		if err != nil {
			return Account{}, err
		}
		*r.to = v
	}
	sum.Received = satAdd(a.Received, b.Received)
	return sum, nil
}

// held is all that the account holds or held: what L1 compares with its deposits, over all accounts together.
func (a Account) held() (Amount, error) {
	var sum Amount
	for _, v := range []Amount{a.Available, a.Reserved, a.Payable, a.Paying, a.PaidOut, a.Fees} {
		s, err := sum.Add(v)
		if err != nil {
			return 0, err
		}
		sum = s
	}
	return sum, nil
}
