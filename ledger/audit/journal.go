package audit

import (
	"fmt"
	"maps"
	"slices"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Journal is what an operator keeps beside its bank so that it can draw checkpoints and prove what they say: the Tree
// over all entries, the leaf of each account as it is now, and the Liabilities as of the last checkpoint. An entry costs
// a few hashes, a checkpoint a few for each account that has changed since the last one.
type Journal struct {
	Tree
	places  map[identity.Address]int
	leaves  []Leaf
	changed map[int]struct{} // since the last checkpoint
	drawn   Liabilities
}

// NewJournal is empty.
func NewJournal() *Journal {
	return &Journal{places: map[identity.Address]int{}, changed: map[int]struct{}{}}
}

// Add appends the next entry. It returns the places of the accounts that it touches. An entry that leads to a balance that
// cannot be is a bug of the bank.
func (j *Journal) Add(m wire.Market, e ledger.Entry) []int {
	if e.Seq != j.Size()+1 {
		panic(fmt.Sprintf("audit: entry %d after %d records", e.Seq, j.Size()))
	}
	record := wire.Marshal(e)
	ref := m.Ref(e.Kind(), record)
	j.Append(record)
	var touched []int
	for _, p := range e.Postings {
		i, known := j.places[p.Account]
		if !known {
			i = len(j.leaves)
			j.places[p.Account] = i
			j.leaves = append(j.leaves, Leaf{Account: p.Account})
		}
		if slices.Contains(touched, i) {
			continue
		}
		next, err := j.leaves[i].Follow(e, ref)
		if err != nil {
			panic("audit: " + err.Error())
		}
		j.leaves[i] = next
		j.changed[i] = struct{}{}
		touched = append(touched, i)
	}
	return touched
}

// Leaf is the account at a place, as it is now.
func (j *Journal) Leaf(place int) Leaf { return j.leaves[place] }

// Accounts is how many accounts there are.
func (j *Journal) Accounts() int { return len(j.leaves) }

// PutLeaves brings back the leaves of all accounts, in the order of their places.
func (j *Journal) PutLeaves(leaves []Leaf) error {
	j.leaves = leaves
	for i, l := range leaves {
		if _, twice := j.places[l.Account]; twice {
			return fmt.Errorf("audit: two leaves of %v", l.Account)
		}
		j.places[l.Account] = i
		j.changed[i] = struct{}{}
	}
	return j.settle()
}

// settle brings the Liabilities up to the leaves.
func (j *Journal) settle() error {
	for _, i := range slices.Sorted(maps.Keys(j.changed)) {
		if err := j.drawn.Put(i, j.leaves[i]); err != nil {
			return err
		}
	}
	clear(j.changed)
	return nil
}

// Draw is the next checkpoint over all that is there now. prev is the one before; zero before the first.
func (j *Journal) Draw(m wire.Market, operator identity.Address, prev Checkpoint, at member.Time) Checkpoint {
	if err := j.settle(); err != nil {
		panic(err.Error())
	}
	root, err := j.Root(j.Size())
	if err != nil {
		panic(err.Error())
	}
	all := j.drawn.Root()
	c := Checkpoint{
		Operator: operator, Number: prev.Number + 1, Size: j.Size(), Root: root, Accounts: uint64(j.drawn.Len()), Liabilities: all.Hash,
		Sums: all.Sums, At: at,
	}
	if prev.Number > 0 {
		c.Prev = m.Ref(prev.Kind(), wire.Marshal(prev))
	}
	return c
}

// Owed is an account's leaf as of the last checkpoint, its place and its path; false where it had none.
func (j *Journal) Owed(a identity.Address) (Leaf, uint64, []Node, bool) {
	i, ok := j.places[a]
	if !ok || i >= j.drawn.Len() {
		return Leaf{}, 0, nil, false
	}
	l, path := j.drawn.Prove(i)
	return l, uint64(i), path, true
}

// Between is the consistency of the journal's first old and first size entries.
func (j *Journal) Between(operator identity.Address, old, size uint64) (Consistency, error) {
	proof, err := j.Extend(size, old)
	if err != nil {
		return Consistency{}, err
	}
	a, err := j.Root(old)
	if err != nil {
		return Consistency{}, err
	}
	b, err := j.Root(size)
	return Consistency{Operator: operator, Old: old, OldRoot: a, Size: size, Root: b, Proof: proof}, err
}
