package store

import (
	"bytes"
	"errors"

	"souk/node/core/table"
	"souk/node/crash"
)

// Commit makes batches durable, in order, and calls each one's Done before it returns. Batches that fit the group limits
// together cost one sync of the journal, unless they hold nothing but replicas, and one of the index; more batches are cut
// into several groups, between batches, never within one.
//
// It fails with *SignedTwice, *TooLarge or ErrDiskFull before anything is written; with ErrDiskFull no Done is called, and the
// same batches may be committed again when there is room. After any other error some batches may
// be durable and some not; each one's Done says what is known, and the store takes no more.
//
// One goroutine at a time may commit; two at once are a bug of the node, and Commit panics.
func (s *Store) Commit(batches []Batch) error {
	if err := s.admit(batches); err != nil {
		if !errors.Is(err, ErrDiskFull) {
			finish(batches, err)
		}
		return err
	}
	for len(batches) > 0 {
		n := groupLength(batches)
		at, err := s.write(batches[:n])
		if err != nil {
			finish(batches, err)
			return err
		}
		if err := s.Index(batches[:n], at); err != nil {
			finish(batches[n:], err)
			return err
		}
		batches = batches[n:]
	}
	return nil
}

// Journal is the first half of committing a group, no larger than the group limits: it writes what belongs into the
// journal, and gives the place that this has come to, for Index. It fails as Commit does, and calls no Done.
func (s *Store) Journal(group []Batch) (Position, error) {
	if err := s.admit(group); err != nil {
		return Position{}, err
	}
	return s.write(group)
}

// Index is the second half: it makes a group durable in the index, with the place that Journal gave for it, and calls
// their Done. It goes in the order of Journal, and may run beside the Journal of later groups.
func (s *Store) Index(group []Batch, at Position) error {
	if !s.indexing.CompareAndSwap(false, true) {
		panic("store: two goroutines write the index at once")
	}
	defer s.indexing.Store(false)
	err := s.broken()
	if err == nil {
		crash.Here("index.write")
		err = s.fail(s.writeIndex(group, at))
		crash.Here("index.written")
	}
	finish(group, err)
	return err
}

// broken is the first error of a write, after which nothing more is written.
func (s *Store) broken() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail notes that a write failed, if it did.
func (s *Store) fail(err error) error {
	if err != nil {
		s.failed.CompareAndSwap(nil, &err)
	}
	return err
}

func finish(batches []Batch, err error) {
	for _, b := range batches {
		if b.Done != nil {
			b.Done(err)
		}
	}
}

// admit refuses what must not be begun.
func (s *Store) admit(batches []Batch) error {
	if err := s.broken(); err != nil {
		return err
	}
	maxRecords, maxBytes := s.index.limits()
	for _, b := range batches {
		if err := b.check(); err != nil {
			return err
		}
		if records, bytes := b.size(); records > maxRecords || bytes > maxBytes {
			return &TooLarge{Records: records, Bytes: bytes, MaxRecords: maxRecords, MaxBytes: maxBytes}
		}
	}
	if err := s.marks.admit(batches); err != nil {
		return err
	}
	return s.Room()
}

// write makes one group durable in the journal, and its places taken.
func (s *Store) write(group []Batch) (Position, error) {
	if !s.journaling.CompareAndSwap(false, true) {
		panic("store: two goroutines write the journal at once")
	}
	defer s.journaling.Store(false)
	rows, guards := journaled(group)
	if len(rows)+len(guards) > 0 {
		if _, err := s.journal.append(rows, guards); err != nil {
			return Position{}, s.fail(err)
		}
		s.marks.take(guards)
	}
	return s.journal.last, nil
}

// journaled picks what of a group belongs into the journal: everything but the replicas that came without a guard. What
// goes with a guard is our own, and must not be missing where its place is taken.
func journaled(group []Batch) (rows []Row, guards []Guard) {
	for _, b := range group {
		for _, r := range b.Rows {
			if len(b.Guards) > 0 || table.Table(r.Key[0]).Kind() != table.Replica {
				rows = append(rows, r)
			}
		}
		guards = append(guards, b.Guards...)
	}
	return rows, guards
}

// writeIndex makes a group durable in the index, with the journal position that it brings the index to.
func (s *Store) writeIndex(group []Batch, pos Position) error {
	rows := s.scratch[:0]
	for _, b := range group {
		rows = append(rows, b.Rows...)
		for _, g := range b.Guards {
			rows = append(rows, guardRow(g))
		}
	}
	if pos != s.indexed {
		rows = append(rows, positionRow(pos))
	}
	if len(rows) == 0 {
		return nil
	}
	err := s.index.put(rows)
	clear(rows)
	s.scratch = rows[:0]
	if err != nil {
		return err
	}
	s.indexed = pos
	return nil
}

// cloneBatch copies rows and guards, not Done.
func cloneBatch(b Batch) Batch {
	c := Batch{Rows: make([]Row, len(b.Rows)), Guards: make([]Guard, len(b.Guards))}
	for i, r := range b.Rows {
		c.Rows[i] = Row{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), Delete: r.Delete}
	}
	for i, g := range b.Guards {
		c.Guards[i] = Guard{Chain: bytes.Clone(g.Chain), Place: g.Place, Hash: g.Hash}
	}
	return c
}
