package store

import (
	"encoding/binary"
	"fmt"
	"sync"

	"souk/node/core/table"
)

// A mark is the highest place taken in a chain.
type mark struct {
	place uint64
	hash  [32]byte
}

// marks knows for each chain the highest place taken. Any goroutine may read it; the committing one writes.
type marks struct {
	mu  sync.RWMutex
	top map[string]mark // guarded by mu
}

func (m *marks) of(chain []byte) (mark, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	k, ok := m.top[string(chain)]
	return k, ok
}

// admit checks the guards of batches, in order, against what is taken, earlier ones of the same batches included. It
// changes nothing.
func (m *marks) admit(batches []Batch) error {
	var ahead map[string]mark
	for _, b := range batches {
		for _, g := range b.Guards {
			held, taken := ahead[string(g.Chain)]
			if !taken {
				held, taken = m.of(g.Chain)
			}
			if taken && (g.Place < held.place || g.Place == held.place && g.Hash != held.hash) {
				return &SignedTwice{Chain: g.Chain, Place: g.Place, Hash: g.Hash, Top: held.place, Held: held.hash}
			}
			if ahead == nil {
				ahead = make(map[string]mark)
			}
			ahead[string(g.Chain)] = mark{g.Place, g.Hash}
		}
	}
	return nil
}

// take records guards that are on disk.
func (m *marks) take(guards []Guard) {
	if len(guards) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range guards {
		m.top[string(g.Chain)] = mark{g.Place, g.Hash}
	}
}

// guardRow is the row of the highest place of a chain.
func guardRow(g Guard) Row {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, 40), g.Place)
	return Row{Key: table.Key(table.Guard, g.Chain), Value: append(value, g.Hash[:]...)}
}

func decodeMark(value []byte) (mark, error) {
	if len(value) != 40 {
		return mark{}, fmt.Errorf("store: a guard row has %d bytes, want 40", len(value))
	}
	return mark{place: binary.BigEndian.Uint64(value), hash: [32]byte(value[8:])}, nil
}
