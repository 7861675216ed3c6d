package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"souk/p2p/identity"
	"souk/p2p/member"
)

// A Statement is what an account looks like to its owner.
type Statement struct {
	Account   identity.Address `cbor:"1,keyasint" json:"account"`
	Deposited Amount           `cbor:"2,keyasint" json:"deposited"`
	Available Amount           `cbor:"3,keyasint" json:"available"`
	Reserved  Amount           `cbor:"4,keyasint" json:"reserved"`
	Payable   Amount           `cbor:"5,keyasint" json:"payable"`
	Paying    Amount           `cbor:"6,keyasint" json:"paying"`
	PaidOut   Amount           `cbor:"7,keyasint" json:"paidOut"`
	Settled   Amount           `cbor:"8,keyasint" json:"settled"`
	Earned    Amount           `cbor:"9,keyasint" json:"earned"`
	Open      uint32           `cbor:"10,keyasint" json:"open"` // reservations
	Burn      Rate             `cbor:"11,keyasint" json:"burn"` // most that its pods that are up cost per hour
	Left      Amount           `cbor:"12,keyasint" json:"left"` // least that is left when all pods that are up have run since their last voucher
	At        member.Time      `cbor:"13,keyasint" json:"at"`
	Entries   uint64           `cbor:"14,keyasint" json:"entries"` // of the bank's journal
}

// Balance is the statement of an account. An account that nothing ever moved on is all zero.
func (b *Bank) Balance(addr identity.Address, now member.Time) Statement {
	a := b.Account(addr)
	s := Statement{
		Account: addr, Deposited: a.Deposited, Available: a.Available, Reserved: a.Reserved, Payable: a.Payable,
		Paying: a.Paying, PaidOut: a.PaidOut, Settled: a.Settled, Earned: a.Earned, At: now, Entries: b.head.Seq,
		Left: a.Available,
	}
	for _, id := range b.openOf[addr] {
		h := b.holds[id]
		s.Open++
		if h.CloseAt == 0 && !h.Rest {
			s.Burn = Rate(satAdd(Amount(s.Burn), Amount(h.Reservation.MaxRate)))
		}
		s.Left += b.unspent(h, now) // at most available + reserved
	}
	return s
}

// unspent is what is left of a hold if its lease has run at its highest rate since its last voucher or claim, or since it opened.
func (b *Bank) unspent(h Hold, now member.Time) Amount {
	since := h.Reservation.Opened
	if !h.Voucher.Usage.IsZero() {
		since = max(since, b.clock.Tick(h.Voucher.Minute+1))
	}
	if !h.Chain.Place.Head.IsZero() { // what was claimed is taken off what is ahead
		since = max(since, b.clock.Tick(h.Chain.Place.Next))
	}
	since = max(since, h.Woken)
	left := min(h.ahead(), h.Left())
	if h.CloseAt != 0 || h.Rest || now <= since {
		return left
	}
	cost, err := h.Reservation.MaxRate.Cost(int64((now - since) / member.Second))
	if err != nil || cost > left {
		return 0
	}
	return left - cost
}

const maxAmount = Amount(1<<63 - 1)

func satAdd(a, b Amount) Amount {
	s, err := a.Add(b)
	if err != nil {
		return maxAmount
	}
	return s
}

// Totals is the sum of all accounts, kept up entry by entry.
func (b *Bank) Totals() Account { return b.totals }

// Audit recomputes everything that the bank keeps up step by step and compares: L1 and L2, reserved = Σ (cap − settled) per
// consumer, and the lists of open reservations.
func (b *Bank) Audit() error {
	var sum Account
	var err error
	for _, a := range b.accounts {
		if a.negative() {
			return fmt.Errorf("ledger: account %v has a negative balance", a.Address)
		}
		if sum, err = sum.plus(a); err != nil {
			return err
		}
	}
	sum.Address = b.totals.Address
	if sum != b.totals {
		return fmt.Errorf("ledger: accounts sum to %+v, kept are %+v", sum, b.totals)
	}
	if held, err := sum.held(); err != nil || held != sum.Deposited {
		return fmt.Errorf("ledger: %s deposited, %s held", sum.Deposited.Text(), held.Text())
	}
	paying := map[identity.Address]Amount{}
	for _, r := range b.payouts {
		if r.State == PayoutPaying {
			paying[r.Account] += r.Amount
		}
	}
	for a, acc := range b.accounts {
		if acc.Paying != paying[a] {
			return fmt.Errorf("ledger: account %v has %s on its way out, its payouts are %s", a, acc.Paying.Text(), paying[a].Text())
		}
	}
	return b.auditHolds()
}

func (b *Bank) auditHolds() error {
	reserved := map[identity.Address]Amount{}
	open := 0
	for id, h := range b.holds {
		if h.Reservation.ID != id || b.leases[h.Reservation.Lease] != id {
			return fmt.Errorf("ledger: reservation %s is filed under another", id.Short())
		}
		if h.Settled > h.Reservation.Cap || h.Settled > max(h.Voucher.Total, h.Chain.Amount()) || h.Fee > h.Settled || h.Settled < 0 || h.Fee < 0 {
			return fmt.Errorf("ledger: reservation %s has settled %s of a cap of %s, a voucher of %s and what is proven", id.Short(),
				h.Settled.Text(), h.Reservation.Cap.Text(), h.Voucher.Total.Text())
		}
		if !h.Open() {
			continue
		}
		open++
		c := h.Reservation.Consumer
		reserved[c] += h.Left()
		if _, ok := slices.BinarySearchFunc(b.openOf[c], id, compareIDs); !ok {
			return fmt.Errorf("ledger: reservation %s is open and not in its list", id.Short())
		}
	}
	if open != len(b.open) {
		return fmt.Errorf("ledger: %d reservations are open, %d are listed", open, len(b.open))
	}
	for a, acc := range b.accounts {
		if acc.Reserved != reserved[a] {
			return fmt.Errorf("ledger: account %v has %s reserved, its reservations hold %s", a, acc.Reserved.Text(),
				reserved[a].Text())
		}
	}
	return nil
}

// Changes are the rows that calls have touched, each with its newest value, in the order of their keys; entries and
// deposits in the order in which they were made.
type Changes struct {
	Accounts  []Account
	Holds     []Hold
	Deposits  []Deposit
	Payouts   []PayoutReceipt
	Transfers []TransferReceipt
	Shortages []Shortage
	Spendings []Spending
	Entries   []Entry
	Head      Head
}

// Empty reports whether nothing has changed.
func (c Changes) Empty() bool {
	return len(c.Accounts) == 0 && len(c.Holds) == 0 && len(c.Deposits) == 0 && len(c.Payouts) == 0 && len(c.Transfers) == 0 &&
		len(c.Shortages) == 0 && len(c.Spendings) == 0 && len(c.Entries) == 0
}

// Changes is what has changed since the last call of it.
func (b *Bank) Changes() Changes {
	c := Changes{Deposits: b.received, Transfers: b.given, Entries: b.entries, Head: b.head}
	for _, a := range slices.SortedFunc(maps.Keys(b.touched), identity.Address.Compare) {
		c.Accounts = append(c.Accounts, b.accounts[a])
	}
	for _, id := range slices.SortedFunc(maps.Keys(b.held), compareIDs) {
		c.Holds = append(c.Holds, b.holds[id])
	}
	for _, id := range slices.SortedFunc(maps.Keys(b.turned), compareIDs) {
		c.Payouts = append(c.Payouts, b.payouts[id])
	}
	for _, a := range slices.SortedFunc(maps.Keys(b.lacking), identity.Address.Compare) {
		c.Shortages = append(c.Shortages, b.shortages[a])
	}
	for _, a := range slices.SortedFunc(maps.Keys(b.spent), identity.Address.Compare) {
		c.Spendings = append(c.Spendings, b.spendings[a])
	}
	clear(b.spent)
	b.received, b.given, b.entries = nil, nil, nil
	clear(b.touched)
	clear(b.held)
	clear(b.turned)
	clear(b.lacking)
	return c
}

// A Snapshot is all that a bank is made of, except the journal behind its head.
type Snapshot struct {
	Accounts  []Account
	Holds     []Hold
	Deposits  []Deposit
	Payouts   []PayoutReceipt
	Transfers []TransferReceipt
	Shortages []Shortage
	Spendings []Spending
	Head      Head
}

// Snapshot lists every row, in the order of their keys.
func (b *Bank) Snapshot() Snapshot {
	s := Snapshot{Head: b.head}
	for _, a := range slices.SortedFunc(maps.Keys(b.accounts), identity.Address.Compare) {
		s.Accounts = append(s.Accounts, b.accounts[a])
	}
	for _, id := range slices.SortedFunc(maps.Keys(b.holds), compareIDs) {
		s.Holds = append(s.Holds, b.holds[id])
	}
	s.Deposits = slices.SortedFunc(maps.Values(b.deposits), func(x, y Deposit) int { return strings.Compare(x.Ref, y.Ref) })
	s.Payouts = slices.SortedFunc(maps.Values(b.payouts), func(x, y PayoutReceipt) int { return compareIDs(x.ID, y.ID) })
	s.Transfers = slices.SortedFunc(maps.Values(b.transfers), func(x, y TransferReceipt) int { return compareIDs(x.ID, y.ID) })
	s.Shortages = slices.SortedFunc(maps.Values(b.shortages), func(x, y Shortage) int { return x.Notice.Consumer.Compare(y.Notice.Consumer) })
	s.Spendings = slices.SortedFunc(maps.Values(b.spendings), func(x, y Spending) int { return x.Account.Compare(y.Account) })
	return s
}

// Restore fills an empty bank with rows in any order, and audits them.
func (b *Bank) Restore(s Snapshot) error {
	if len(b.accounts)+len(b.holds)+len(b.deposits) > 0 || b.head.Seq > 0 {
		return fmt.Errorf("ledger: restoring over a bank that is not empty")
	}
	var err error
	for _, a := range s.Accounts {
		b.accounts[a.Address] = a
		if b.totals, err = b.totals.plus(a); err != nil {
			return err
		}
	}
	b.totals.Address = identity.Address{}
	for _, h := range s.Holds {
		b.store(h)
	}
	for _, d := range s.Deposits {
		if d.Entry > s.Head.Seq {
			return fmt.Errorf("ledger: deposit %q is of entry %d, the journal ends at %d", d.Ref, d.Entry, s.Head.Seq)
		}
		b.deposits[d.Ref] = d
	}
	for _, r := range s.Payouts {
		if r.Entry > s.Head.Seq {
			return fmt.Errorf("ledger: payout %s is of entry %d, the journal ends at %d", r.ID.Short(), r.Entry, s.Head.Seq)
		}
		b.file(r)
	}
	for _, r := range s.Transfers {
		b.transfers[r.ID] = r
	}
	for _, x := range s.Spendings {
		b.spendings[x.Account] = x
	}
	for _, x := range s.Shortages {
		b.shortages[x.Notice.Consumer] = x
	}
	b.head = s.Head
	clear(b.held)
	return b.Audit()
}

// Reservations lists the holds of a consumer that are open, in order.
func (b *Bank) Reservations(consumer identity.Address) []Hold {
	var out []Hold
	for _, id := range b.openOf[consumer] {
		out = append(out, b.holds[id])
	}
	return out
}
