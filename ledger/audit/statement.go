package audit

import (
	"fmt"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Proven is an entry of the journal, and the proof that a checkpoint covers it.
type Proven struct {
	Entry wire.Object
	Proof []identity.Hash
}

// A Statement proves what one account holds at a checkpoint: all entries that ever moved anything on it, each proven to be
// in the journal, and its leaf, proven to be in the sum of all accounts.
type Statement struct {
	Charter    wire.Object
	Checkpoint wire.Object
	Leaf       Leaf
	Place      uint64 // of the leaf
	Path       []Node
	Entries    []Proven // in the order of the journal
}

// A Summary is what a statement comes to.
type Summary struct {
	Account  identity.Address `json:"account"`
	Operator identity.Address `json:"operator"`
	Market   identity.Hash    `json:"market"`
	Name     string           `json:"name"` // of the market
	Testnet  bool             `json:"testnet"`
	Number   uint64           `json:"checkpoint"`
	At       member.Time      `json:"at"`
	Size     uint64           `json:"journal"` // entries of the journal
	Entries  uint64           `json:"entries"` // of the account
	Sums     Sums             `json:"balances"`
	Accounts uint64           `json:"accounts"` // of the bank
	Totals   Sums             `json:"totals"`   // of all accounts
}

// Verify checks a statement with nothing else: that the charter's operator signed the checkpoint and every entry, that the
// checkpoint's root covers each entry at its place, that the entries are all of the account's and its balances the sum of
// their postings, and that these balances are in the sum of all accounts, which balances. Whether to trust the operators
// that the charter names, the reader must know.
func (s Statement) Verify(v identity.Verifier) (Summary, error) {
	charter, err := member.OpenCharter(v, s.Charter)
	if err != nil {
		return Summary{}, fmt.Errorf("charter: %w", err)
	}
	c := charter.Value()
	open := wire.Opener{Market: c.Market(), Verifier: v}
	point, err := wire.Open[Checkpoint](open, s.Checkpoint)
	if err != nil {
		return Summary{}, err
	}
	p := point.Value()
	if !c.Operates(p.Operator) {
		return Summary{}, fmt.Errorf("checkpoint: %v is no operator of the market", p.Operator)
	}
	leaf := Leaf{Account: s.Leaf.Account}
	last := uint64(0)
	for i, e := range s.Entries {
		entry, err := wire.Open[ledger.Entry](open, e.Entry)
		if err != nil {
			return Summary{}, fmt.Errorf("entry %d of the account: %w", i+1, err)
		}
		m := entry.Value()
		if m.Operator != p.Operator || m.Seq <= last {
			return Summary{}, fmt.Errorf("entry %d of the account: entry %d of %v comes after entry %d", i+1, m.Seq, m.Operator, last)
		}
		if err := CheckRecord(e.Proof, p.Size, p.Root, m.Seq-1, e.Entry.Payload); err != nil {
			return Summary{}, fmt.Errorf("entry %d of the account: entry %d is not in the journal: %w", i+1, m.Seq, err)
		}
		if leaf, err = leaf.Follow(m, entry.Ref()); err != nil {
			return Summary{}, fmt.Errorf("entry %d of the account: %w", i+1, err)
		}
		last = m.Seq
	}
	if leaf != s.Leaf {
		return Summary{}, fmt.Errorf("the account's %d entries do not add up to its %d and its balances", leaf.Entries, s.Leaf.Entries)
	}
	if err := CheckLeaf(s.Leaf, s.Place, p.Accounts, s.Path, p.liabilities()); err != nil {
		return Summary{}, err
	}
	return s.summary(c, p), nil
}

func (s Statement) summary(c member.Charter, p Checkpoint) Summary {
	return Summary{
		Account: s.Leaf.Account, Operator: p.Operator, Market: c.Market().ID, Name: c.Name, Testnet: c.Testnet, Number: p.Number, At: p.At,
		Size: p.Size, Entries: s.Leaf.Entries, Sums: s.Leaf.Sums, Accounts: p.Accounts, Totals: p.Sums,
	}
}

// Evidence is one or two signed objects of an operator that cannot all be true.
type Evidence struct {
	Charter wire.Object
	Objects []wire.Object
}

// A Verdict is what evidence shows.
type Verdict struct {
	Operator identity.Address `json:"operator"`
	Market   identity.Hash    `json:"market"`
	Name     string           `json:"name"` // of the market
	Testnet  bool             `json:"testnet"`
	What     string           `json:"what"`
}

// Verify checks evidence with nothing else: an operator of the charter has signed all of it, and it contradicts itself.
func (e Evidence) Verify(v identity.Verifier) (Verdict, error) {
	charter, err := member.OpenCharter(v, e.Charter)
	if err != nil {
		return Verdict{}, fmt.Errorf("charter: %w", err)
	}
	c := charter.Value()
	open := wire.Opener{Market: c.Market(), Verifier: v}
	var by identity.Address
	for i, o := range e.Objects {
		var signer identity.Address
		switch o.Kind {
		case wire.KindCheckpoint:
			p, err := wire.Open[Checkpoint](open, o)
			if err != nil {
				return Verdict{}, err
			}
			signer = p.By()
		case wire.KindConsistency:
			p, err := wire.Open[Consistency](open, o)
			if err != nil {
				return Verdict{}, err
			}
			signer = p.By()
		default:
			return Verdict{}, fmt.Errorf("a %v is no evidence", o.Kind)
		}
		if i > 0 && signer != by {
			return Verdict{}, fmt.Errorf("evidence signed by %v and %v", by, signer)
		}
		by = signer
	}
	if !c.Operates(by) {
		return Verdict{}, fmt.Errorf("%v is no operator of the market", by)
	}
	what := Convicts(c.Market(), e.Objects)
	if what == nil {
		return Verdict{}, fmt.Errorf("these words of %v may all be true", by)
	}
	return Verdict{Operator: by, Market: c.Market().ID, Name: c.Name, Testnet: c.Testnet, What: what.Error()}, nil
}
