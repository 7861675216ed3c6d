package audit

import (
	"encoding/binary"
	"errors"
	"fmt"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// Sums are the balances of one account, or of many together. None is negative.
type Sums struct {
	_         struct{}      `cbor:",toarray"`
	Deposited ledger.Amount `json:"deposited"`
	Available ledger.Amount `json:"available"`
	Reserved  ledger.Amount `json:"reserved"`
	Payable   ledger.Amount `json:"payable"`
	Paying    ledger.Amount `json:"paying"`
	PaidOut   ledger.Amount `json:"paidOut"`
	Fees      ledger.Amount `json:"fees"`
}

func (s *Sums) each() []*ledger.Amount {
	return []*ledger.Amount{&s.Deposited, &s.Available, &s.Reserved, &s.Payable, &s.Paying, &s.PaidOut, &s.Fees}
}

// errSums is a sum that no balance can have.
var errSums = errors.New("audit: a balance is negative or overflows")

// plus is the sum of both.
func (s Sums) plus(o Sums) (Sums, error) {
	out := s
	to, add := out.each(), o.each()
	for i := range to {
		v, err := to[i].Add(*add[i])
		if err != nil || *to[i] < 0 || *add[i] < 0 {
			return Sums{}, errSums
		}
		*to[i] = v
	}
	return out, nil
}

// Held is all that is held, on its way and paid out: what deposits come to, over all accounts together.
func (s Sums) Held() (ledger.Amount, error) {
	var sum ledger.Amount
	for _, v := range s.each()[1:] {
		n, err := sum.Add(*v)
		if err != nil || *v < 0 {
			return 0, errSums
		}
		sum = n
	}
	return sum, nil
}

// SumsOf are the balances of an account of the bank.
func SumsOf(a ledger.Account) Sums {
	return Sums{Deposited: a.Deposited, Available: a.Available, Reserved: a.Reserved, Payable: a.Payable, Paying: a.Paying, PaidOut: a.PaidOut, Fees: a.Fees}
}

// post applies one posting.
func (s *Sums) post(p ledger.Posting) error {
	books := map[ledger.Book]*ledger.Amount{
		ledger.BookExternal: &s.Deposited, ledger.BookAvailable: &s.Available, ledger.BookReserved: &s.Reserved, ledger.BookPayable: &s.Payable,
		ledger.BookPaying: &s.Paying, ledger.BookPaidOut: &s.PaidOut, ledger.BookFees: &s.Fees,
	}
	to, d := books[p.Book], p.Amount
	if to == nil {
		return fmt.Errorf("audit: a posting to book %v", p.Book)
	}
	if p.Book == ledger.BookExternal {
		d = -d
	}
	v, err := to.Add(d)
	if err != nil || v < 0 {
		return errSums
	}
	*to = v
	return nil
}

// A Leaf is one account as a checkpoint commits to it: its balances, and with the hash over its entries that none of them
// can be left out.
type Leaf struct {
	Account identity.Address `cbor:"1,keyasint" json:"account"`
	Sums    Sums             `cbor:"2,keyasint" json:"sums"`
	Entries uint64           `cbor:"3,keyasint" json:"entries"` // that have moved anything on the account
	Head    identity.Hash    `cbor:"4,keyasint" json:"head"`    // hash over the refs of these entries, in their order
}

// Touches reports whether an entry moves anything on the account.
func (l Leaf) Touches(e ledger.Entry) bool {
	for _, p := range e.Postings {
		if p.Account == l.Account {
			return true
		}
	}
	return false
}

// Follow is the account after an entry with this ref.
func (l Leaf) Follow(e ledger.Entry, ref identity.Hash) (Leaf, error) {
	if !l.Touches(e) {
		return l, fmt.Errorf("audit: entry %d moves nothing on %v", e.Seq, l.Account)
	}
	for _, p := range e.Postings {
		if p.Account != l.Account {
			continue
		}
		if err := l.Sums.post(p); err != nil {
			return l, err
		}
	}
	l.Entries++
	l.Head = identity.Keccak([]byte("souk/account-chain/1"), l.Head[:], ref[:])
	return l, nil
}

// A Node is a node of the tree over all leaves: its hash, and what the leaves below it come to.
type Node struct {
	_    struct{}      `cbor:",toarray"`
	Hash identity.Hash `json:"hash"`
	Sums Sums          `json:"sums"`
}

func (l Leaf) node() Node {
	return Node{Hash: identity.Keccak([]byte("souk/liability-leaf/1"), wire.Marshal(l)), Sums: l.Sums}
}

// join is the node above two.
func join(a, b Node) (Node, error) {
	sums, err := a.Sums.plus(b.Sums)
	if err != nil {
		return Node{}, err
	}
	part := func(n Node) []byte {
		out := n.Hash[:]
		for _, v := range n.Sums.each() {
			out = binary.BigEndian.AppendUint64(out, uint64(*v))
		}
		return out
	}
	return Node{Hash: identity.Keccak([]byte("souk/liability-node/1"), part(a), part(b)), Sums: sums}, nil
}

// Liabilities is the Merkle-sum tree over the leaves of all accounts, in the order in which they came. A node that has no
// neighbour to the right stands for itself one level up.
type Liabilities struct {
	leaves []Leaf
	levels [][]Node // from the leaves up
}

// Len is the number of accounts.
func (t *Liabilities) Len() int { return len(t.leaves) }

// Put sets leaf i, or adds it when i is the number of leaves. It costs a hash a level.
func (t *Liabilities) Put(i int, l Leaf) error {
	switch {
	case i < 0 || i > len(t.leaves):
		return fmt.Errorf("audit: leaf %d of %d", i, len(t.leaves))
	case i == len(t.leaves):
		t.leaves = append(t.leaves, l)
	default:
		t.leaves[i] = l
	}
	n := l.node()
	for level, width := 0, len(t.leaves); ; level, i, width = level+1, i/2, (width+1)/2 {
		if level == len(t.levels) {
			t.levels = append(t.levels, nil)
		}
		row := t.levels[level]
		if i == len(row) {
			row = append(row, n)
		} else {
			row[i] = n
		}
		t.levels[level] = row
		if width == 1 {
			return nil
		}
		left := i &^ 1
		if n = row[left]; left+1 < len(row) {
			up, err := join(row[left], row[left+1])
			if err != nil {
				return err
			}
			n = up
		}
	}
}

// Root is the root; zero where there is no account.
func (t *Liabilities) Root() Node {
	if len(t.leaves) == 0 {
		return Node{}
	}
	return t.levels[len(t.levels)-1][0]
}

// Prove gives leaf i and the nodes beside its way to the root, from below.
func (t *Liabilities) Prove(i int) (Leaf, []Node) {
	l, path := t.leaves[i], []Node{}
	for level := range t.levels {
		if beside := i ^ 1; beside < len(t.levels[level]) {
			path = append(path, t.levels[level][beside])
		}
		i /= 2
	}
	return l, path
}

// ErrLeaf is a leaf that is not in the tree whose root is given.
var ErrLeaf = errors.New("audit: the account is not in the sum of all accounts")

// CheckLeaf checks that a tree of n leaves with this root has the leaf at place i.
func CheckLeaf(l Leaf, i, n uint64, path []Node, root Node) error {
	if i >= n || n > most {
		return fmt.Errorf("%w: leaf %d of %d", ErrLeaf, i, n)
	}
	at := l.node()
	for ; n > 1; i, n = i/2, (n+1)/2 {
		if i^1 >= n {
			continue
		}
		if len(path) == 0 {
			return fmt.Errorf("%w: its path is too short", ErrLeaf)
		}
		left, right := at, path[0]
		if i&1 == 1 {
			left, right = right, left
		}
		up, err := join(left, right)
		if err != nil {
			return fmt.Errorf("%w: %v", ErrLeaf, err)
		}
		at, path = up, path[1:]
	}
	if at != root || len(path) > 0 {
		return ErrLeaf
	}
	return nil
}
