package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// An index is the Badger database: every row, in order.
type index struct{ db *badger.DB }

// lean are Badger's options: each transaction synced, every checksum checked, little memory. The hot state lives in the
// core, so there is no block cache; hashes and signatures do not compress; a small memtable is a small write-ahead log,
// and so a small window for damage that Badger would cut off in silence.
func lean(dir string, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithSyncWrites(true).
		WithMemTableSize(8 << 20).
		WithNumMemtables(2).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithNumCompactors(2).
		WithCompactL0OnClose(true).
		WithNumVersionsToKeep(1).
		WithValueThreshold(1 << 20).
		WithValueLogFileSize(16 << 20).
		WithVerifyValueChecksum(true).
		WithChecksumVerificationMode(options.OnTableAndBlockRead).
		WithDetectConflicts(false). // one goroutine writes
		WithMetricsEnabled(false).
		WithLogger(badgerLog{log})
}

// openIndex opens the database. Badger may panic on damaged files; that, too, comes back as *Damaged.
func openIndex(dir string, log *slog.Logger) (ix *index, err error) {
	defer func() {
		if p := recover(); p != nil {
			ix, err = nil, &Damaged{Dir: dir, Cause: fmt.Errorf("badger panicked: %v", p)}
		}
	}()
	if err := checkTables(dir); err != nil {
		return nil, &Damaged{Dir: dir, Cause: err}
	}
	db, err := badger.Open(lean(dir, log))
	if err != nil {
		return nil, &Damaged{Dir: dir, Cause: err}
	}
	return &index{db}, nil
}

// limits of one transaction; Badger itself refuses at its own, not behind them.
func (ix *index) limits() (records, bytes int) {
	return int(ix.db.MaxBatchCount()) - 8, int(ix.db.MaxBatchSize()) - 4096
}

// put makes rows durable in one transaction.
func (ix *index) put(rows []Row) error {
	txn := ix.db.NewTransaction(true)
	defer txn.Discard()
	for _, r := range rows {
		var err error
		if r.Delete {
			err = txn.Delete(r.Key)
		} else {
			err = txn.Set(r.Key, r.Value)
		}
		if err != nil {
			return fmt.Errorf("store: writing the index: %w", err)
		}
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("store: writing the index: %w", err)
	}
	return nil
}

// get copies the value of key, or fails with ErrNotFound.
func (ix *index) get(key []byte) (value []byte, err error) {
	err = ix.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(nil)
		return err
	})
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		return nil, ErrNotFound
	case errors.Is(err, badger.ErrDBClosed):
		return nil, ErrClosed
	case err != nil:
		return nil, fmt.Errorf("store: reading the index: %w", err)
	}
	return value, nil
}

// walk calls fn with the rows of a window, in order, from one snapshot.
func (ix *index) walk(w window, fn func(key, value []byte) error) error {
	err := ix.db.View(func(txn *badger.Txn) error {
		o := badger.IteratorOptions{PrefetchValues: false, Reverse: w.reverse}
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Seek(w.start()); it.Valid(); it.Next() {
			item := it.Item()
			key := item.Key()
			if w.reverse && w.to != nil && bytes.Equal(key, w.to) {
				continue
			}
			if !w.holds(key) {
				return nil
			}
			if err := item.Value(func(value []byte) error { return fn(key, value) }); err != nil {
				return err
			}
			if w.limit--; w.limit == 0 {
				return nil
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, fs.SkipAll):
		return nil
	case errors.Is(err, badger.ErrDBClosed):
		return ErrClosed
	}
	return err
}

func (ix *index) close() error {
	if err := ix.db.Close(); err != nil {
		return fmt.Errorf("store: closing the index: %w", err)
	}
	return nil
}

// A window is a range of keys: from inclusive, to exclusive, nil for open ends; at most limit rows, 0 for all.
type window struct {
	from, to []byte
	limit    int
	reverse  bool
}

// start is the key to seek in the direction of the walk; nil is the far end.
func (w window) start() []byte {
	if w.reverse {
		return w.to
	}
	return w.from
}

func (w window) holds(key []byte) bool {
	return bytes.Compare(key, w.from) >= 0 && (w.to == nil || bytes.Compare(key, w.to) < 0)
}

// badgerLog brings Badger's own messages to our log. They are about its files and of use to nobody but a developer.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(f string, a ...any)   { l.log.Error(fmt.Sprintf("badger: "+f, a...)) }
func (l badgerLog) Warningf(f string, a ...any) { l.log.Warn(fmt.Sprintf("badger: "+f, a...)) }
func (l badgerLog) Infof(f string, a ...any)    { l.log.Debug(fmt.Sprintf("badger: "+f, a...)) }
func (l badgerLog) Debugf(f string, a ...any)   { l.log.Debug(fmt.Sprintf("badger: "+f, a...)) }
