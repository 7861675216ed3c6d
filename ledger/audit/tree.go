// Package audit keeps an operator honest: the bank's journal as a transparency log, and all that members hold against it.
//
// Record n of the log is the payload of bank entry n+1. The operator's Tree holds the hashes over the records, as
// golang.org/x/mod/sumdb/tlog has them (RFC 6962). Now and then the operator signs a Checkpoint: how many entries there
// are, the root over them, and the root and sums of a Merkle-sum tree over all accounts (Liabilities), one Leaf each.
// Every member holds the newest checkpoint, and has the operator show by a signed Consistency that it extends the one
// held before. Two signed statements that cannot both be true are a Conflict: with them anybody can be shown that the
// operator was false. A Statement joins a checkpoint, the entries of one account with their proofs, and its leaf; it
// verifies with nothing but its file.
//
// Promises: A1 a checkpoint determines the journal behind it: an entry that was changed, dropped, added or moved gives
// another root. A2 two journals shown to two members that compare checkpoints are found. A3 a statement that verifies
// has all entries of its account and no others, and its balances are the sum of their postings. A4 the sums of a
// checkpoint that verifies balance, and hold every account whose owner has checked its leaf.
package audit

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"souk/p2p/identity"
)

// most is how many records a log can have: far more than a bank ever writes, and no sum of two overflows.
const most = 1 << 48

// A Tree is the hashes of a log, in memory: two for each record, 64 bytes.
type Tree struct {
	hashes []tlog.Hash // by tlog's stored index
	size   int64
}

// Size is the number of records.
func (t *Tree) Size() uint64 { return uint64(t.size) }

// ReadHashes implements tlog.HashReader.
func (t *Tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= int64(len(t.hashes)) {
			return nil, fmt.Errorf("audit: no hash %d", x)
		}
		out[i] = t.hashes[x]
	}
	return out, nil
}

// Append adds a record. What it costs is a few hashes: as many as there are trees that it completes.
func (t *Tree) Append(record []byte) {
	add, err := tlog.StoredHashes(t.size, record, t)
	if err != nil {
		panic("audit: a hash of the tree is missing: " + err.Error())
	}
	t.hashes = append(t.hashes, add...)
	t.size++
}

// span is where the hashes lie that record n has added.
func span(n uint64) (from, to int64) {
	return tlog.StoredHashIndex(0, int64(n)), tlog.StoredHashIndex(0, int64(n)+1)
}

// Row is what record n, from 0, has added to the hashes: what is kept of it.
func (t *Tree) Row(n uint64) []byte {
	from, to := span(n)
	out := make([]byte, 0, (to-from)*tlog.HashSize)
	for _, h := range t.hashes[from:to] {
		out = append(out, h[:]...)
	}
	return out
}

// Put brings back what Row gave for record n, in any order of records. Check tells when all have come.
func (t *Tree) Put(n uint64, row []byte) error {
	if n >= most {
		return fmt.Errorf("audit: a row of record %d", n)
	}
	from, to := span(n)
	if int64(len(row)) != (to-from)*tlog.HashSize {
		return fmt.Errorf("audit: the row of record %d has %d bytes", n, len(row))
	}
	if grow := to - int64(len(t.hashes)); grow > 0 {
		t.hashes = append(t.hashes, make([]tlog.Hash, grow)...)
	}
	for i := range t.hashes[from:to] {
		copy(t.hashes[from+int64(i)][:], row[i*tlog.HashSize:])
	}
	t.size++
	return nil
}

// Check tells whether the tree has all hashes of its records.
func (t *Tree) Check() error {
	if want := tlog.StoredHashIndex(0, t.size); int64(len(t.hashes)) != want {
		return fmt.Errorf("audit: %d records and %d hashes, want %d", t.size, len(t.hashes), want)
	}
	return nil
}

// Root is the root over the first n records.
func (t *Tree) Root(n uint64) (identity.Hash, error) {
	if n == 0 || n > t.Size() {
		return identity.Hash{}, fmt.Errorf("audit: a root over %d of %d records", n, t.size)
	}
	h, err := tlog.TreeHash(int64(n), t)
	return identity.Hash(h), err
}

// Prove proves that the root over the first size records covers record n, from 0.
func (t *Tree) Prove(size, n uint64) ([]identity.Hash, error) {
	if size > t.Size() || n >= size {
		return nil, fmt.Errorf("audit: a proof of record %d among %d of %d", n, size, t.size)
	}
	p, err := tlog.ProveRecord(int64(size), int64(n), t)
	return hashes(p), err
}

// Extend proves that the root over the first size records covers the root over the first old.
func (t *Tree) Extend(size, old uint64) ([]identity.Hash, error) {
	if size > t.Size() || old == 0 || old > size {
		return nil, fmt.Errorf("audit: a proof from %d to %d of %d records", old, size, t.size)
	}
	p, err := tlog.ProveTree(int64(size), int64(old), t)
	return hashes(p), err
}

func hashes[S ~[]tlog.Hash](list S) []identity.Hash {
	out := make([]identity.Hash, len(list))
	for i, h := range list {
		out[i] = identity.Hash(h)
	}
	return out
}

func stored(list []identity.Hash) []tlog.Hash {
	out := make([]tlog.Hash, len(list))
	for i, h := range list {
		out[i] = tlog.Hash(h)
	}
	return out
}

// CheckRecord checks what Prove gave.
func CheckRecord(proof []identity.Hash, size uint64, root identity.Hash, n uint64, record []byte) error {
	if size > most || n >= size {
		return fmt.Errorf("audit: record %d of %d", n, size)
	}
	return tlog.CheckRecord(stored(proof), int64(size), tlog.Hash(root), int64(n), tlog.RecordHash(record))
}

// CheckExtends checks what Extend gave.
func CheckExtends(proof []identity.Hash, size uint64, root identity.Hash, old uint64, oldRoot identity.Hash) error {
	if size > most || old == 0 || old > size {
		return fmt.Errorf("audit: from %d to %d records", old, size)
	}
	return tlog.CheckTree(stored(proof), int64(size), tlog.Hash(root), int64(old), tlog.Hash(oldRoot))
}
