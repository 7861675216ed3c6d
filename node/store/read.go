package store

import "souk/node/core/table"

// Get returns a copy of the value of key, or fails with ErrNotFound.
func (s *Store) Get(key []byte) ([]byte, error) { return s.index.get(key) }

// Scan calls fn with every row whose key begins with prefix, in the order of keys, from one snapshot. Key and value are
// valid until fn returns. An error of fn ends the scan and is returned, fs.SkipAll ends it without one.
func (s *Store) Scan(prefix []byte, fn func(key, value []byte) error) error {
	return s.index.walk(window{from: prefix, to: table.After(prefix)}, fn)
}

// Range calls fn, as Scan does, with the rows from key `from` on and before key `to`; a nil `to` is the end of the store.
// It gives at most limit rows, all when limit is 0 or less, and begins at the far end when reverse is set.
func (s *Store) Range(from, to []byte, limit int, reverse bool, fn func(key, value []byte) error) error {
	return s.index.walk(window{from: from, to: to, limit: limit, reverse: reverse}, fn)
}

// Guarded is the highest place taken in a chain, and by which payload; ok is false when none is.
func (s *Store) Guarded(chain []byte) (place uint64, hash [32]byte, ok bool) {
	m, ok := s.marks.of(chain)
	return m.place, m.hash, ok
}
