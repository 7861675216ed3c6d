package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// ErrReplay is an entry that cannot stand where it stands in a bank's journal.
var ErrReplay = errors.New("ledger: entry does not follow the journal")

// A Replay makes a bank's accounts again from nothing but its journal: they are a function of the entries, in their order.
// Entries are followed as they come; who signed them is for the caller to check.
type Replay struct{ bank *Bank }

// NewReplay begins before the first entry of an operator's journal.
func NewReplay(operator identity.Address, c member.Charter) *Replay {
	return &Replay{NewBank(operator, c)}
}

// Follow takes the next entry. On an error, which is ErrReplay, nothing has changed.
func (r *Replay) Follow(e Entry) error {
	if err := e.Validate(); err != nil {
		return fmt.Errorf("%w: %v", ErrReplay, err)
	}
	b := r.bank
	switch {
	case e.Operator != b.operator:
		return fmt.Errorf("%w: entry %d is of another bank", ErrReplay, e.Seq)
	case e.Seq != b.head.Seq+1:
		return fmt.Errorf("%w: entry %d after entry %d", ErrReplay, e.Seq, b.head.Seq)
	case e.Prev != b.head.Ref:
		return fmt.Errorf("%w: entry %d names another entry before it", ErrReplay, e.Seq)
	}
	next, totals, err := b.apply(e)
	if err != nil {
		return fmt.Errorf("%w: entry %d: %v", ErrReplay, e.Seq, err)
	}
	for _, a := range next {
		b.accounts[a.Address] = a
	}
	b.totals = totals
	b.head = Head{Seq: e.Seq, Ref: b.market.Ref(wire.KindBankEntry, wire.Marshal(e)), At: e.At}
	return nil
}

// Head is the last entry that was followed.
func (r *Replay) Head() Head { return r.bank.head }

// Totals is the sum of all accounts.
func (r *Replay) Totals() Account { return r.bank.totals }

// Accounts lists every account, in the order of addresses.
func (r *Replay) Accounts() []Account {
	var out []Account
	for _, a := range slices.SortedFunc(maps.Keys(r.bank.accounts), identity.Address.Compare) {
		out = append(out, r.bank.accounts[a])
	}
	return out
}
