package node

import (
	"fmt"
	"slices"

	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/node/store"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// refillRows is how many rows go into one batch.
const refillRows = 256

// refill gives the home of an operator whose bank is older than its transparency log the rows of that log. It reads the
// bank's journal whole, once; where it is interrupted it begins again.
func refill(s *store.Store) error {
	entries, err := lastOf(s, table.BankEntry)
	if err != nil {
		return err
	}
	logged, err := lastOf(s, table.BankTree)
	if err != nil || logged >= entries {
		return err
	}
	var charter struct {
		Object wire.Object `cbor:"1,keyasint"`
	}
	err = s.Scan(table.Key(table.Charter), func(_, value []byte) error { return wire.Load(value, &charter) })
	if err != nil {
		return err
	}
	c, err := wire.Decode[member.Charter](charter.Object)
	if err != nil {
		return err
	}
	r := operator.NewRefill(c.Market())
	write := func(rows []step.Row) error {
		for part := range slices.Chunk(rows, refillRows) {
			b := store.Batch{}
			for _, row := range part {
				b.Rows = append(b.Rows, store.Row{Key: row.Key, Value: row.Value})
			}
			if err := s.Commit([]store.Batch{b}); err != nil {
				return err
			}
		}
		return nil
	}
	var rows []step.Row
	for n := uint64(1); n <= entries; n++ {
		value, err := s.Get(operator.EntryKey(n))
		if err != nil {
			return fmt.Errorf("bank entry %d: %w", n, err)
		}
		e, obj, err := operator.DecodeEntry(value)
		if err != nil {
			return fmt.Errorf("bank entry %d: %w", n, err)
		}
		if rows = append(rows, r.Add(e, obj)...); len(rows) >= refillRows {
			if err := write(rows); err != nil {
				return err
			}
			rows = rows[:0]
		}
	}
	return write(append(rows, r.Rest()...))
}

// lastOf is the highest number in a table of numbers; 0 when it is empty.
func lastOf(s *store.Store, t table.Table) (uint64, error) {
	n, prefix := uint64(0), table.Key(t)
	err := s.Range(prefix, table.After(prefix), 1, true, func(key, _ []byte) error {
		n = table.Number(table.Field(key, 0))
		return nil
	})
	return n, err
}
