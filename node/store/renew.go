package store

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"souk/node/core/table"
	"souk/node/crash"
)

// A segmentWriter writes a segment that begins at frame 1: what a store holds, as a journal of its own.
type segmentWriter struct {
	to    io.Writer
	salt  [saltSize]byte
	last  Position
	batch Batch
	bytes int
	frame []byte
	count struct{ rows, guards int }
	known Position // of the index that was added
}

func newSegmentWriter(to io.Writer) (*segmentWriter, error) {
	h := header{first: 1}
	rand.Read(h.salt[:]) // never fails
	if _, err := to.Write(h.encode()); err != nil {
		return nil, fmt.Errorf("store: writing a segment: %w", err)
	}
	return &segmentWriter{to: to, salt: h.salt}, nil
}

func (w *segmentWriter) add(b Batch) error {
	records, size := b.size()
	if held, _ := w.batch.size(); held > 0 && (held+records > groupRecords || w.bytes+size > groupBytes) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.batch.Rows = append(w.batch.Rows, b.Rows...)
	w.batch.Guards = append(w.batch.Guards, b.Guards...)
	w.bytes += size
	w.count.rows += len(b.Rows)
	w.count.guards += len(b.Guards)
	return nil
}

// flush ends a frame.
func (w *segmentWriter) flush() error {
	if len(w.batch.Rows)+len(w.batch.Guards) == 0 {
		return nil
	}
	w.frame, w.last = appendFrame(w.frame[:0], w.salt, w.last, w.batch.Rows, w.batch.Guards)
	w.batch, w.bytes = Batch{}, 0
	if _, err := w.to.Write(w.frame); err != nil {
		return fmt.Errorf("store: writing a segment: %w", err)
	}
	return nil
}

// addIndex adds all that an index holds, from one snapshot: every row but replicas, which others will send again, and the
// store's own; and every guard.
func (w *segmentWriter) addIndex(ix *index) error {
	return ix.walk(window{}, func(key, value []byte) error {
		t, err := table.Of(key)
		switch {
		case err != nil:
			return err
		case t == table.Guard:
			m, err := decodeMark(value)
			if err != nil {
				return err
			}
			g := Guard{Chain: append([]byte(nil), table.Field(key, 0)...), Place: m.place, Hash: m.hash}
			return w.add(Batch{Guards: []Guard{g}})
		case bytes.Equal(key, positionKey) && len(value) == 40:
			w.known = Position{Number: binary.BigEndian.Uint64(value), Hash: [32]byte(value[8:])}
			return nil
		case t.Kind() == table.Own, t.Kind() == table.Replica:
			return nil
		}
		return w.add(Batch{Rows: []Row{{Key: append([]byte(nil), key...), Value: append([]byte(nil), value...)}}})
	})
}

// The folder in which a new journal is made, and the file in it that says that it is whole.
const (
	renewDir  = "journal.new"
	renewDone = "whole"
)

// renew puts a new journal in the place of a home's journal and index, or does nothing: whenever it is cut short, the next
// opening finishes it, or finds the old ones untouched. They are kept beside the new one. The lock is the caller's.
func renew(dir string, fill func(io.Writer) error) error {
	fresh := filepath.Join(dir, renewDir)
	if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(fresh, 0o700)); err != nil {
		return fmt.Errorf("store: making a new journal: %w", err)
	}
	if err := fillDurably(filepath.Join(fresh, fmt.Sprintf("%016x%s", 1, segmentSuffix)), fill); err != nil {
		return err
	}
	crash.Here("renew.filled")
	f, err := createDurably(filepath.Join(fresh, renewDone), nil)
	if err != nil {
		return fmt.Errorf("store: making a new journal: %w", err)
	}
	crash.Here("renew.whole")
	if err := errors.Join(f.Close(), syncDir(dir)); err != nil {
		return fmt.Errorf("store: making a new journal: %w", err)
	}
	_, err = adopt(dir)
	return err
}

func fillDurably(path string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("store: making a new journal: %w", err)
	}
	err = fill(f)
	crash.Here("renew.written")
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// adopt finishes a renewal that was begun, and reports whether there was one. It clears one away that never became whole.
func adopt(dir string) (found bool, err error) {
	fresh := filepath.Join(dir, renewDir)
	if _, err := os.Lstat(filepath.Join(fresh, renewDone)); errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(fresh); err != nil {
			return false, fmt.Errorf("store: clearing away half a journal: %w", err)
		}
		return false, nil
	}
	stamp := time.Now().UnixNano()
	for _, name := range []string{"db", "journal"} {
		old := filepath.Join(dir, name)
		err := os.Rename(old, fmt.Sprintf("%s.damaged-%d", old, stamp))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("store: putting the old %s aside: %w", name, err)
		}
		crash.Here("renew.aside")
	}
	err = os.Rename(fresh, filepath.Join(dir, "journal"))
	crash.Here("renew.adopted")
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return false, fmt.Errorf("store: adopting a new journal: %w", err)
	}
	return true, nil
}
