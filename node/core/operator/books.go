package operator

import (
	"fmt"
	"slices"
	"strings"

	"souk/ledger"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// A hold is the row of a reservation.
type hold struct {
	Hold     ledger.Hold `cbor:"1,keyasint"`
	Receipts uint64      `cbor:"2,keyasint"` // settle receipts given: the place of the last one in its chain
}

// An entry is the log row of one bank entry.
type entry struct {
	Object wire.Object `cbor:"1,keyasint"`
}

// EntryKey is the key of the log row of bank entry n, from 1.
func EntryKey(n uint64) []byte { return table.Key(table.BankEntry, table.Uint64(n)) }

// DecodeEntry reads the log row of a bank entry. The object is a draft: signing it gives the signature that the entry
// always has.
func DecodeEntry(value []byte) (ledger.Entry, wire.Object, error) {
	var e entry
	if err := wire.Load(value, &e); err != nil {
		return ledger.Entry{}, wire.Object{}, err
	}
	msg, err := wire.Decode[ledger.Entry](e.Object)
	return msg, e.Object, err
}

// books are the bank's rows.
type books struct {
	accounts  *step.Map[identity.Address, ledger.Account]
	holds     *step.Map[wire.ID, hold]
	deposits  *step.Map[identity.Hash, ledger.Deposit] // by ledger.RefKey
	payouts   *step.Map[wire.ID, ledger.PayoutReceipt]
	transfers *step.Map[wire.ID, ledger.TransferReceipt]
	shortages *step.Map[identity.Address, ledger.Shortage]
	spendings *step.Map[identity.Address, ledger.Spending]
	head      *step.Cell[ledger.Head]
}

func newBooks() books {
	return books{
		accounts:  step.ByAddress[ledger.Account](table.Account),
		holds:     step.ByID[hold](table.Reservation),
		deposits:  step.ByHash[ledger.Deposit](table.DepositRef),
		payouts:   step.ByID[ledger.PayoutReceipt](table.Payout),
		transfers: step.ByID[ledger.TransferReceipt](table.Transfer),
		shortages: step.ByAddress[ledger.Shortage](table.Shortage),
		spendings: step.ByAddress[ledger.Spending](table.Spending),
		head:      step.NewCell[ledger.Head]("bank"),
	}
}

func (b books) keepers() []step.Keeper {
	return []step.Keeper{b.accounts, b.holds, b.deposits, b.payouts, b.transfers, b.shortages, b.spendings, b.head}
}

// snapshot is the bank that the rows make, in the order of ledger.Bank.Snapshot.
func (b books) snapshot() ledger.Snapshot {
	s := ledger.Snapshot{Head: *b.head.Get()}
	for _, a := range b.accounts.Keys() {
		s.Accounts = append(s.Accounts, *b.accounts.Get(a))
	}
	for _, id := range b.holds.Keys() {
		s.Holds = append(s.Holds, b.holds.Get(id).Hold)
	}
	for _, ref := range b.deposits.Keys() {
		s.Deposits = append(s.Deposits, *b.deposits.Get(ref))
	}
	for _, id := range b.payouts.Keys() {
		s.Payouts = append(s.Payouts, *b.payouts.Get(id))
	}
	for _, id := range b.transfers.Keys() {
		s.Transfers = append(s.Transfers, *b.transfers.Get(id))
	}
	for _, a := range b.spendings.Keys() {
		s.Spendings = append(s.Spendings, *b.spendings.Get(a))
	}
	for _, a := range b.shortages.Keys() {
		s.Shortages = append(s.Shortages, *b.shortages.Get(a))
	}
	slices.SortFunc(s.Deposits, func(x, y ledger.Deposit) int { return strings.Compare(x.Ref, y.Ref) })
	return s
}

// keep brings what the bank has changed into its rows, and guards the place of all that it will sign.
func (o *Operator) keep(ctx *step.Context) {
	c := o.bank.Changes()
	for _, e := range c.Entries {
		obj := ctx.Guard([]byte("bank"), e.Seq, wire.Draft(e))
		ctx.Put(EntryKey(e.Seq), entry{obj})
		o.record(ctx, e, obj)
	}
	for _, d := range c.Deposits {
		key := ledger.RefKey(d.Ref)
		ctx.Guard(chain("deposit", key[:]), 1, wire.Draft(d))
		o.books.deposits.Put(key, d)
	}
	for _, r := range c.Payouts {
		ctx.Guard(chain("payout", r.ID[:]), uint64(r.State), wire.Draft(r))
		o.books.payouts.Put(r.ID, r)
	}
	for _, r := range c.Transfers {
		ctx.Guard(chain("transfer", r.ID[:]), 1, wire.Draft(r))
		o.books.transfers.Put(r.ID, r)
	}
	for _, s := range c.Shortages {
		if !s.Over {
			ctx.Guard(chain("funds", s.Notice.Consumer[:]), s.Notice.Seq, wire.Draft(s.Notice))
		}
		old := o.books.shortages.Get(s.Notice.Consumer)
		stood := old != nil && !old.Over
		o.books.shortages.Put(s.Notice.Consumer, s)
		if stood || !s.Over {
			o.tellShort(ctx, s)
		}
	}
	for _, s := range c.Spendings {
		o.books.spendings.Put(s.Account, s)
	}
	for _, a := range c.Accounts {
		o.books.accounts.Put(a.Address, a)
	}
	for _, h := range c.Holds {
		o.keepHold(ctx, h)
	}
	if len(c.Entries) > 0 {
		o.books.head.Put(c.Head)
	}
}

func (o *Operator) keepHold(ctx *step.Context, h ledger.Hold) {
	id := h.Reservation.ID
	row := hold{Hold: h}
	var old ledger.Hold
	if p := o.books.holds.Get(id); p != nil {
		old, row.Receipts = p.Hold, p.Receipts
	}
	if h.Reservation != old.Reservation {
		ctx.Guard(chain("reservation", id[:]), h.Reservation.Seq, wire.Draft(h.Reservation))
	}
	if h.Receipt != old.Receipt {
		row.Receipts++
		ctx.Guard(chain("receipt", id[:]), row.Receipts, wire.Draft(h.Receipt))
		o.tellSettled(ctx, h.Receipt, h.Receipt.Paid-old.Receipt.Paid)
	}
	o.books.holds.Put(id, row)
	if !h.Open() {
		delete(o.heard, id)
	}
}

func (o *Operator) tellSettled(ctx *step.Context, r ledger.SettleReceipt, paid ledger.Amount) {
	text := fmt.Sprintf("%s is credited %s for lease %s", name(r.Host, o.alias(r.Host)), paid.Text(), r.Lease.Short())
	if r.Released {
		text += ", which is settled for good"
	}
	ctx.Notify("settle", r.Lease, text, "host", r.Host.String(), "paid", paid.String(), "total", r.Paid.String())
}
