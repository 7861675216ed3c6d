package step

import (
	"bytes"
	"fmt"
	"slices"

	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// A Keeper is state that survives: it loads its rows, writes what changed, and can write all.
type Keeper interface {
	// Load takes a row that Flush once wrote, and reports whether it is one of this keeper's.
	Load(key, value []byte) (bool, error)
	// Flush appends the rows that changed since the last Flush.
	Flush(rows []Row) []Row
	// Rows appends all rows, as a store that missed no Flush holds them.
	Rows(rows []Row) []Row
}

// A Map is durable values by key, each one row of a table. Whoever changes a value says so with Put or Touch. Values are
// visited in the order of their keys.
type Map[K comparable, V any] struct {
	table  table.Table
	key    func(K) []byte
	unkey  func([]byte) K
	values map[K]*V
	order  []K // sorted by key bytes; nil: to be made again
	dirty  map[K]struct{}
}

// NewMap is an empty map over a table. key makes the whole row key, unkey reads it back.
func NewMap[K comparable, V any](t table.Table, key func(K) []byte, unkey func([]byte) K) *Map[K, V] {
	return &Map[K, V]{table: t, key: key, unkey: unkey, values: map[K]*V{}, dirty: map[K]struct{}{}}
}

// ByID is a map over a table whose only field is an id.
func ByID[V any](t table.Table) *Map[wire.ID, V] {
	return NewMap[wire.ID, V](t,
		func(id wire.ID) []byte { return table.Key(t, id[:]) },
		func(k []byte) wire.ID { return wire.ID(table.Field(k, 0)) })
}

// ByAddress is a map over a table whose only field is an address.
func ByAddress[V any](t table.Table) *Map[identity.Address, V] {
	return NewMap[identity.Address, V](t,
		func(a identity.Address) []byte { return table.Key(t, a[:]) },
		func(k []byte) identity.Address { return identity.Address(table.Field(k, 0)) })
}

// ByHash is a map over a table whose only field is a hash.
func ByHash[V any](t table.Table) *Map[identity.Hash, V] {
	return NewMap[identity.Hash, V](t,
		func(h identity.Hash) []byte { return table.Key(t, h[:]) },
		func(k []byte) identity.Hash { return identity.Hash(table.Field(k, 0)) })
}

// ByNumber is a map over a table whose only field is a number.
func ByNumber[V any](t table.Table) *Map[uint64, V] {
	return NewMap[uint64, V](t,
		func(n uint64) []byte { return table.Key(t, table.Uint64(n)) },
		func(k []byte) uint64 { return table.Number(table.Field(k, 0)) })
}

// Len is the number of values.
func (m *Map[K, V]) Len() int { return len(m.values) }

// Get is the value at k, or nil. Whoever changes it calls Touch.
func (m *Map[K, V]) Get(k K) *V { return m.values[k] }

// Put sets the value at k.
func (m *Map[K, V]) Put(k K, v V) *V {
	p, ok := m.values[k]
	if !ok {
		p = new(V)
		m.values[k] = p
		m.order = nil
	}
	*p = v
	m.dirty[k] = struct{}{}
	return p
}

// Touch marks the value at k as changed.
func (m *Map[K, V]) Touch(k K) { m.dirty[k] = struct{}{} }

// Delete removes the value at k.
func (m *Map[K, V]) Delete(k K) {
	if _, ok := m.values[k]; ok {
		delete(m.values, k)
		m.order = nil
		m.dirty[k] = struct{}{}
	}
}

// Keys are the keys in order, as they are now: the map may be changed while they are walked.
func (m *Map[K, V]) Keys() []K {
	if m.order == nil {
		m.order = make([]K, 0, len(m.values))
		for k := range m.values {
			m.order = append(m.order, k)
		}
		m.sort(m.order)
	}
	return m.order[:len(m.order):len(m.order)]
}

func (m *Map[K, V]) sort(ks []K) {
	if len(ks) > 1 {
		slices.SortFunc(ks, func(a, b K) int { return bytes.Compare(m.key(a), m.key(b)) })
	}
}

// Load implements Keeper.
func (m *Map[K, V]) Load(key, value []byte) (bool, error) {
	if len(key) == 0 || table.Table(key[0]) != m.table {
		return false, nil
	}
	if err := table.Check(key); err != nil {
		return true, err
	}
	v := new(V)
	if err := wire.Load(value, v); err != nil {
		return true, fmt.Errorf("row %x of %v: %w", key, m.table, err)
	}
	m.values[m.unkey(key)] = v
	m.order = nil
	return true, nil
}

// Flush implements Keeper.
func (m *Map[K, V]) Flush(rows []Row) []Row {
	if len(m.dirty) == 0 {
		return rows
	}
	ks := make([]K, 0, len(m.dirty))
	for k := range m.dirty {
		ks = append(ks, k)
	}
	m.sort(ks)
	for _, k := range ks {
		if v, ok := m.values[k]; ok {
			rows = append(rows, Row{Key: m.key(k), Value: wire.Marshal(v)})
		} else {
			rows = append(rows, Row{Key: m.key(k), Delete: true})
		}
	}
	clear(m.dirty)
	return rows
}

// Rows implements Keeper.
func (m *Map[K, V]) Rows(rows []Row) []Row {
	for _, k := range m.Keys() {
		rows = append(rows, Row{Key: m.key(k), Value: wire.Marshal(m.values[k])})
	}
	return rows
}

// A Cell is one durable value under a name. It has no row until it is first set.
type Cell[V any] struct {
	key   []byte
	value V
	set   bool
	dirty bool
}

// NewCell is an empty cell; names are unique in the node.
func NewCell[V any](name string) *Cell[V] { return &Cell[V]{key: table.Key(table.Node, []byte(name))} }

// Get is the value. Whoever changes it calls Touch.
func (c *Cell[V]) Get() *V { return &c.value }

// IsSet reports whether the cell has a row.
func (c *Cell[V]) IsSet() bool { return c.set }

// Put sets the value.
func (c *Cell[V]) Put(v V) { c.value = v; c.Touch() }

// Touch marks the value as changed.
func (c *Cell[V]) Touch() { c.set, c.dirty = true, true }

// Clear removes the row.
func (c *Cell[V]) Clear() {
	var none V
	c.value, c.set, c.dirty = none, false, true
}

// Load implements Keeper.
func (c *Cell[V]) Load(key, value []byte) (bool, error) {
	if !bytes.Equal(key, c.key) {
		return false, nil
	}
	c.set = true
	return true, wire.Load(value, &c.value)
}

// Flush implements Keeper.
func (c *Cell[V]) Flush(rows []Row) []Row {
	if !c.dirty {
		return rows
	}
	c.dirty = false
	if !c.set {
		return append(rows, Row{Key: c.key, Delete: true})
	}
	return c.Rows(rows)
}

// Rows implements Keeper.
func (c *Cell[V]) Rows(rows []Row) []Row {
	if !c.set {
		return rows
	}
	return append(rows, Row{Key: c.key, Value: wire.Marshal(&c.value)})
}
