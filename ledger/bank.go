package ledger

import (
	"bytes"
	"errors"
	"maps"
	"slices"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Bank is the operator's: accounts, reservations and a journal, as a state machine without clock, key or storage. Its
// caller has verified who signed what it passes in, makes Changes durable after each call, and only then signs and sends
// what the call returned. A call that fails changes nothing. All calls are idempotent by the id, reference or voucher in
// their input.
type Bank struct {
	operator identity.Address
	market   wire.Market
	clock    member.Clock

	accounts  map[identity.Address]Account
	holds     map[wire.ID]Hold
	leases    map[wire.ID]wire.ID            // reservation of a lease
	deposits  map[string]Deposit             // by outside reference
	open      []wire.ID                      // open reservations, in order
	openOf    map[identity.Address][]wire.ID // the same, by consumer
	needs     map[identity.Address]need      // what these lack, as long as nothing of the account changes
	payouts   map[wire.ID]PayoutReceipt
	paying    map[identity.Address]int // payouts on their way
	paidRefs  map[string]wire.ID       // payouts by their reference outside
	transfers map[wire.ID]TransferReceipt
	shortages map[identity.Address]Shortage
	spendings map[identity.Address]Spending
	head      Head
	totals    Account // Σ of all accounts

	touched  map[identity.Address]bool
	held     map[wire.ID]bool
	received []Deposit
	turned   map[wire.ID]bool // payouts
	given    []TransferReceipt
	lacking  map[identity.Address]bool // accounts whose shortage changed
	spent    map[identity.Address]bool // accounts whose spending changed
	entries  []Entry
}

// A Head is the end of the bank's journal: one durable row.
type Head struct {
	Seq uint64        `cbor:"1,keyasint"`
	Ref identity.Hash `cbor:"2,keyasint"` // ref of the entry with this sequence; 0 before the first
	At  member.Time   `cbor:"3,keyasint"`
}

// NewBank is the empty bank of one operator of a market.
func NewBank(operator identity.Address, c member.Charter) *Bank {
	return &Bank{
		operator: operator,
		market:   c.Market(),
		clock:    c.Clock(),
		accounts: map[identity.Address]Account{},
		holds:    map[wire.ID]Hold{},
		leases:   map[wire.ID]wire.ID{},
		deposits: map[string]Deposit{},
		openOf:   map[identity.Address][]wire.ID{},
		needs:    map[identity.Address]need{},
		payouts:  map[wire.ID]PayoutReceipt{}, paying: map[identity.Address]int{}, paidRefs: map[string]wire.ID{},
		transfers: map[wire.ID]TransferReceipt{}, shortages: map[identity.Address]Shortage{},
		spendings: map[identity.Address]Spending{}, spent: map[identity.Address]bool{},
		turned: map[wire.ID]bool{}, lacking: map[identity.Address]bool{},
		touched: map[identity.Address]bool{},
		held:    map[wire.ID]bool{},
	}
}

// Operator is whose bank it is.
func (b *Bank) Operator() identity.Address { return b.operator }

// Head is the end of the journal.
func (b *Bank) Head() Head { return b.head }

// Account is the account of a; all zero when nothing ever moved there.
func (b *Bank) Account(a identity.Address) Account {
	acc := b.accounts[a]
	acc.Address = a
	return acc
}

// Hold is the reservation with this id.
func (b *Bank) Hold(id wire.ID) (Hold, bool) {
	h, ok := b.holds[id]
	return h, ok
}

// HoldOf is the reservation of a lease.
func (b *Bank) HoldOf(lease wire.ID) (Hold, bool) { return b.Hold(b.leases[lease]) }

// Open lists the ids of all open reservations, in order.
func (b *Bank) Open() []wire.ID { return slices.Clone(b.open) }

// Debtors lists the accounts that have open reservations or want of funds, in order.
func (b *Bank) Debtors() []identity.Address {
	all := slices.Collect(maps.Keys(b.openOf))
	for a, s := range b.shortages {
		if !s.Over {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, identity.Address.Compare)
	return slices.Compact(all)
}

// OpenOf lists the ids of an account's open reservations, in order.
func (b *Bank) OpenOf(consumer identity.Address) []wire.ID { return slices.Clone(b.openOf[consumer]) }

// Deposit credits money that came in from outside. The same reference again gives the same receipt; with another account
// or amount it is refused with ErrRefReused.
func (b *Bank) Deposit(p member.Policy, acct identity.Address, amount Amount, ref string, now member.Time) (Deposit, error) {
	d := Deposit{Operator: b.operator, Account: acct, Amount: amount, Ref: ref, At: now, Entry: b.head.Seq + 1}
	if err := d.Validate(); err != nil {
		return Deposit{}, malformed(err)
	}
	if old, ok := b.deposits[ref]; ok {
		if old.Account != acct || old.Amount != amount {
			return Deposit{}, refuse(CodeReused, "reference %q stands for %s to %v", ref, old.Amount.Text(), old.Account)
		}
		return old, nil
	}
	if amount < Amount(p.MinDeposit) {
		return Deposit{}, refuse(CodeSmall, "a deposit of %s; the smallest is %s", amount.Text(), Amount(p.MinDeposit).Text())
	}
	err := b.commit(Entry{At: now, Entry: EntryDeposit, Cause: RefKey(ref), Postings: []Posting{
		{Account: acct, Book: BookExternal, Amount: -amount},
		{Account: acct, Book: BookAvailable, Amount: amount},
	}}, nil)
	if err != nil {
		return Deposit{}, err
	}
	b.deposits[ref] = d
	b.received = append(b.received, d)
	return d, nil
}

// commit appends one entry to the journal, applies its postings and stores the hold that they belong to. Entries without
// postings are not written. On an error, which is an overflow that no earlier check foresaw, nothing has changed.
func (b *Bank) commit(e Entry, h *Hold) error {
	next, totals, err := b.apply(e)
	if err != nil {
		return err
	}
	if len(e.Postings) > 0 {
		e.Operator, e.Seq, e.Prev = b.operator, b.head.Seq+1, b.head.Ref
		if err := e.Validate(); err != nil {
			panic("ledger: " + err.Error())
		}
		b.head = Head{Seq: e.Seq, Ref: b.market.Ref(wire.KindBankEntry, wire.Marshal(e)), At: e.At}
		b.entries = append(b.entries, e)
		b.totals = totals
	}
	for _, a := range next {
		b.accounts[a.Address] = a
		b.touched[a.Address] = true
		delete(b.needs, a.Address)
	}
	if h != nil {
		b.store(*h)
	}
	return nil
}

// apply is what the accounts of an entry and the totals will be after it.
func (b *Bank) apply(e Entry) ([]Account, Account, error) {
	var next []Account
	totals := b.totals
	for _, p := range e.Postings {
		i := slices.IndexFunc(next, func(a Account) bool { return a.Address == p.Account })
		if i < 0 {
			i = len(next)
			next = append(next, b.Account(p.Account))
		}
		for _, a := range []*Account{&next[i], &totals} {
			if err := a.post(p); err != nil {
				return nil, Account{}, overflow(err)
			}
			if err := a.count(e.Entry, p); err != nil {
				return nil, Account{}, overflow(err)
			}
		}
	}
	return next, totals, nil
}

// count adds a settlement or transfer to what the account ever paid, earned or was given.
func (a *Account) count(k EntryKind, p Posting) error {
	var err error
	switch {
	case k == EntrySettle && p.Book == BookReserved:
		a.Settled, err = a.Settled.Add(-p.Amount)
	case k == EntrySettle && p.Book == BookPayable:
		a.Earned, err = a.Earned.Add(p.Amount)
	case k == EntryTransfer && p.Book == BookAvailable && p.Amount > 0:
		a.Received = satAdd(a.Received, p.Amount) // the same money may go round and round
	}
	return err
}

func overflow(err error) error {
	var r *Refused
	if errors.As(err, &r) {
		return err
	}
	return refuse(CodeOverflow, "%v", err)
}

// store keeps a hold and the lists of open ones.
func (b *Bank) store(h Hold) {
	id, consumer := h.Reservation.ID, h.Reservation.Consumer
	b.holds[id] = h
	b.leases[h.Reservation.Lease] = id
	b.held[id] = true
	delete(b.needs, consumer)
	if h.Open() {
		b.open = insert(b.open, id)
		b.openOf[consumer] = insert(b.openOf[consumer], id)
		return
	}
	b.open = remove(b.open, id)
	if rest := remove(b.openOf[consumer], id); len(rest) > 0 {
		b.openOf[consumer] = rest
	} else {
		delete(b.openOf, consumer)
	}
}

func compareIDs(a, b wire.ID) int { return bytes.Compare(a[:], b[:]) }

func insert(list []wire.ID, id wire.ID) []wire.ID {
	i, found := slices.BinarySearchFunc(list, id, compareIDs)
	if found {
		return list
	}
	return slices.Insert(list, i, id)
}

func remove(list []wire.ID, id wire.ID) []wire.ID {
	i, found := slices.BinarySearchFunc(list, id, compareIDs)
	if !found {
		return list
	}
	return slices.Delete(list, i, i+1)
}

// span is n minutes of the market in seconds.
func (b *Bank) span(n uint32) int64 { return int64(n) * b.clock.Seconds() }
