package store

import (
	"fmt"

	"souk/node/core/table"
)

// A Row is one change of the store: Key, as package table builds it, gets Value, or is removed when Delete is set.
type Row struct {
	Key    []byte
	Value  []byte
	Delete bool
}

// A Guard says which payload takes a place in a chain that this node signs. It is made durable before the signature
// leaves, so that after any crash the node knows that the place is taken, and by what.
type Guard struct {
	Chain []byte   // for example a kind byte and a lease id
	Place uint64   // the sequence number in the chain
	Hash  [32]byte // of the payload; never of a signature
}

// A Batch is what one or more steps want durable: all of it or nothing. Done, which may be nil, is called once, when the
// batch is on disk, or with the error that kept it from getting there; it must not commit or submit itself.
type Batch struct {
	Rows   []Row
	Guards []Guard
	Done   func(error)
}

// A commit group ends at these limits, whichever comes first. Badger refuses transactions over 15 % of its memtable,
// 1.2 MB here; half a megabyte keeps well away and is far more than a disk needs to be busy with one sync.
const (
	groupRecords = 512
	groupBytes   = 512 << 10
)

// overhead is more than Badger adds to a record (key version, flags).
const overhead = 16

// valueLimit keeps values out of Badger's value log, whose sync errors are only logged.
const valueLimit = 1<<20 - 1

// size is how many records a batch has for the index, and their bytes.
func (b Batch) size() (records, bytes int) {
	for _, r := range b.Rows {
		bytes += len(r.Key) + len(r.Value) + overhead
	}
	for _, g := range b.Guards {
		bytes += 1 + len(g.Chain) + 8 + 32 + overhead
	}
	return len(b.Rows) + len(b.Guards), bytes
}

// check refuses rows that would break the layout: keys of no table, or of the store's own.
func (b Batch) check() error {
	for _, r := range b.Rows {
		if err := table.Check(r.Key); err != nil {
			return fmt.Errorf("store: refusing a row: %w", err)
		}
		if t := table.Table(r.Key[0]); t.Kind() == table.Own {
			return fmt.Errorf("store: refusing a row of table %s, which is the store's own", t)
		}
		if len(r.Value) > valueLimit {
			return fmt.Errorf("store: refusing a row: %w", &TooLarge{Records: 1, Bytes: len(r.Value), MaxRecords: 1, MaxBytes: valueLimit})
		}
	}
	for _, g := range b.Guards {
		if len(g.Chain) == 0 || len(g.Chain) > 255 {
			return fmt.Errorf("store: refusing a guard: its chain has %d bytes, want 1 to 255", len(g.Chain))
		}
	}
	return nil
}

// groupLength is how many batches from the first on fit into one group. A batch over the limits stands alone.
func groupLength(batches []Batch) int {
	records, bytes := 0, 0
	for i, b := range batches {
		r, n := b.size()
		records, bytes = records+r, bytes+n
		if i > 0 && (records > groupRecords || bytes > groupBytes) {
			return i
		}
	}
	return len(batches)
}
