package store

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"souk/node/core/table"
)

// A Memory is a store without a disk, for simulations and tests. It refuses what a Store refuses, and forgets at a Crash
// what was submitted and not yet flushed, as a power cut would. Any goroutine may use it.
type Memory struct {
	mu        sync.RWMutex
	rows      map[string][]byte // guarded by mu
	sorted    []string          // its keys in order; nil when they must be sorted anew; guarded by mu
	submitted []Batch           // guarded by mu
	marks     marks
}

// NewMemory is an empty store.
func NewMemory() *Memory {
	return &Memory{rows: make(map[string][]byte), marks: marks{top: make(map[string]mark)}}
}

// Commit is Store.Commit, at once.
func (m *Memory) Commit(batches []Batch) error {
	err := m.commit(batches)
	finish(batches, err)
	return err
}

func (m *Memory) commit(batches []Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range batches {
		if err := b.check(); err != nil {
			return err
		}
	}
	if err := m.marks.admit(batches); err != nil {
		return err
	}
	for _, b := range batches {
		for _, r := range b.Rows {
			m.put(r)
		}
		for _, g := range b.Guards {
			m.put(guardRow(g))
		}
		m.marks.take(b.Guards)
	}
	return nil
}

func (m *Memory) put(r Row) {
	_, had := m.rows[string(r.Key)]
	if r.Delete == had {
		m.sorted = nil // a key came or went
	}
	if r.Delete {
		delete(m.rows, string(r.Key))
		return
	}
	m.rows[string(r.Key)] = append([]byte{}, r.Value...)
}

// Submit takes a batch that Flush makes durable, as a Committer does on its way to the disk.
func (m *Memory) Submit(b Batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.submitted = append(m.submitted, b)
}

// Flush commits what was submitted.
func (m *Memory) Flush() error { return m.Commit(m.drain()) }

// Crash loses what was submitted and not flushed; its Done is never called. What was committed stays.
func (m *Memory) Crash() { m.drain() }

func (m *Memory) drain() []Batch {
	m.mu.Lock()
	defer m.mu.Unlock()
	batches := m.submitted
	m.submitted = nil
	return batches
}

// Get is Store.Get.
func (m *Memory) Get(key []byte) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	value, ok := m.rows[string(key)]
	if !ok {
		return nil, ErrNotFound
	}
	return bytes.Clone(value), nil
}

// Scan is Store.Scan.
func (m *Memory) Scan(prefix []byte, fn func(key, value []byte) error) error {
	return m.Range(prefix, table.After(prefix), 0, false, fn)
}

// Range is Store.Range.
func (m *Memory) Range(from, to []byte, limit int, reverse bool, fn func(key, value []byte) error) error {
	for _, r := range m.window(window{from: from, to: to, limit: limit, reverse: reverse}) {
		if err := fn(r.Key, r.Value); err != nil {
			if errors.Is(err, fs.SkipAll) {
				return nil
			}
			return err
		}
	}
	return nil
}

// window copies the rows of a window, so that fn may use the store.
func (m *Memory) window(w window) []Row {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sorted == nil {
		m.sorted = slices.Sorted(maps.Keys(m.rows))
	}
	first, _ := slices.BinarySearch(m.sorted, string(w.from))
	last := len(m.sorted)
	if w.to != nil {
		last, _ = slices.BinarySearch(m.sorted, string(w.to))
	}
	keys := slices.Clone(m.sorted[first:max(first, last)])
	if w.reverse {
		slices.Reverse(keys)
	}
	if w.limit > 0 && len(keys) > w.limit {
		keys = keys[:w.limit]
	}
	rows := make([]Row, len(keys))
	for i, k := range keys {
		rows[i] = Row{Key: []byte(k), Value: m.rows[k]} // values are replaced, never changed
	}
	return rows
}

// Guarded is Store.Guarded.
func (m *Memory) Guarded(chain []byte) (place uint64, hash [32]byte, ok bool) {
	k, ok := m.marks.of(chain)
	return k.place, k.hash, ok
}

// Close does nothing: what was committed is still there for the next start of the node.
func (m *Memory) Close() error { return nil }
