package simnet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// A disk is what of a node survives a crash: rows, and the highest place taken in each chain. What is submitted becomes
// durable in groups, in order, a while later.
type disk struct {
	rows    map[string][]byte
	guards  map[string]mark
	pending []*step.Out
	group   int // how many of pending are being written; 0: the disk is idle

	forgets *lots             // of a sabotage
	old     map[string][]byte // of a sabotage: the rows of a while ago
}

// A mark is the highest place taken in a chain.
type mark struct {
	place uint64
	hash  identity.Hash
}

func newDisk() *disk { return &disk{rows: map[string][]byte{}, guards: map[string]mark{}} }

// write makes one step durable. It refuses a guard whose place is taken, or passed.
func (d *disk) write(out *step.Out) error {
	for _, g := range out.Guards {
		old, taken := d.guards[string(g.Chain)]
		if taken && (g.Place < old.place || g.Place == old.place && g.Hash != old.hash) {
			return fmt.Errorf("place %d of chain %s is to be signed again: it is at %d", g.Place, chainName(g.Chain), old.place)
		}
		d.guards[string(g.Chain)] = mark{g.Place, g.Hash}
	}
	for _, r := range out.Rows {
		if d.forgets != nil && d.forgets.chance(0.001) {
			continue
		}
		apply(d.rows, r)
	}
	return nil
}

func chainName(c []byte) string {
	name, rest, _ := strings.Cut(string(c), "/")
	return fmt.Sprintf("%s/%x", name, rest)
}

func apply(rows map[string][]byte, r step.Row) {
	if r.Delete {
		delete(rows, string(r.Key))
	} else {
		rows[string(r.Key)] = r.Value
	}
}

// state visits the rows that a core is loaded from, in order.
func state(rows map[string][]byte, yield func(k, v []byte) error) error {
	for _, k := range slices.Sorted(maps.Keys(rows)) {
		if !loaded(k) {
			continue
		}
		if err := yield([]byte(k), rows[k]); err != nil {
			return err
		}
	}
	return nil
}

func loaded(key string) bool {
	kind := table.Table(key[0]).Kind()
	return kind == table.State || kind == table.Replica
}

// scan is the values of a span of rows of a log, in order. A log is numbered without gaps, by the last field of its keys.
func (d *disk) scan(s step.Span) [][]byte {
	key := slices.Clone(s.From)
	n := key[len(key)-8:]
	gaps := len(s.To) == len(key) // it ends at a number, not with its table: some before that may be missing
	var out [][]byte
	for i := binary.BigEndian.Uint64(n); len(out) < s.Limit; i++ {
		binary.BigEndian.PutUint64(n, i)
		if s.To != nil && bytes.Compare(key, s.To) >= 0 {
			break
		}
		if v, ok := d.rows[string(key)]; ok {
			out = append(out, v)
		} else if !gaps {
			break
		}
	}
	return out
}

// submit hands a step to the disk; it leaves once it is durable. What needs no disk, and has nothing to wait behind, leaves
// at once.
func (n *node) submit(out *step.Out) {
	d := n.disk
	if n.w.opt.sabotage == sabotageNoDisk {
		n.leave(out)
		d.pending = append(d.pending, out)
		n.flush()
		return
	}
	if !out.Durable() && len(d.pending) == 0 {
		n.leave(out)
		return
	}
	d.pending = append(d.pending, out)
	n.flush()
}

// flush begins to write all that waits, unless a group is being written.
func (n *node) flush() {
	d := n.disk
	if d.group > 0 || len(d.pending) == 0 {
		return
	}
	d.group = len(d.pending)
	took := n.w.disks.between(1, 4)
	if n.w.faulty && n.w.disks.chance(0.002) {
		took = n.w.disks.between(50, 1500) // a slow sync
	}
	if n.w.opt.sabotage == sabotageNoDisk {
		took = 5 * member.Second
	}
	n.later(took, "disk", func() {
		if n.w.mayCrash(n) {
			n.crash(false) // before anything of the group leaves
			return
		}
		n.commit()
		n.flush()
	})
}

// commit makes the group durable and lets it leave.
func (n *node) commit() {
	d := n.disk
	group := d.pending[:d.group]
	d.pending = append([]*step.Out(nil), d.pending[d.group:]...)
	d.group = 0
	for _, out := range group {
		n.persist(out)
	}
	epoch := n.epoch
	for _, out := range group {
		if n.epoch != epoch || !n.up {
			return
		}
		if n.w.opt.sabotage != sabotageNoDisk {
			n.leave(out)
		}
	}
}

func (n *node) persist(out *step.Out) {
	if err := n.disk.write(out); err != nil {
		n.w.broken(n, "L5", "%v", err)
	}
	if n.w.opt.rollback != nil {
		for _, g := range out.Guards {
			n.w.claims(n, string(g.Chain), g.Place, g.Hash)
		}
		return
	}
	n.w.check.durable(n, out)
}
