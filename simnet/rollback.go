package simnet

import (
	"maps"

	"souk/node/core"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// A rollback makes a world in which homes are restored from old backups, again and again: a node loses what it wrote and
// signed since. What is checked then is one thing: that no place of a chain is signed twice, by the memory of the notary and
// of the world, which no restoring touches. What a lost home costs in money and minutes is the loss that it is.
type rollback struct {
	every   member.Time // mean time between two
	naked   bool        // of a sabotage: the restored home is not put into quarantine
	impair  float64     // of one whose user does not wait
	copies  map[*node][]backup
	signed  map[claim]identity.Hash
	trials  int
	waited  int // came out of quarantine when all was told
	gaveUp  int // or when the user accepted the loss
	guarded int // places that were taken
}

// A backup is what a node's disk held.
type backup struct {
	at     member.Time
	rows   map[string][]byte
	guards map[string]mark
}

// A claim is a place in a chain of a node.
type claim struct {
	by    identity.Address
	chain string
	place uint64
}

// copiesMost is how many backups of a home are kept.
const copiesMost = 12

// planRollbacks begins to copy homes, and to bring copies back.
func (w *world) planRollbacks() {
	r := w.opt.rollback
	r.copies = map[*node][]backup{}
	w.plan(w.now+r.every/2, "backup", -1, w.backUp)
	w.plan(w.now+w.faults.about(r.every), "rollback", -1, w.rollBack)
}

func (w *world) backUp() {
	r := w.opt.rollback
	for _, n := range w.nodes {
		b := backup{w.now, maps.Clone(n.disk.rows), maps.Clone(n.disk.guards)}
		list := append(r.copies[n], b)
		r.copies[n] = list[max(0, len(list)-copiesMost):]
	}
	w.plan(w.now+r.every/2, "backup", -1, w.backUp)
}

func (w *world) rollBack() {
	if !w.faulty {
		return
	}
	r := w.opt.rollback
	n := w.nodes[1+w.faults.IntN(len(w.nodes)-1)] // not the operator: its books are nobody else's
	if list := r.copies[n]; len(list) > 0 && n.up {
		b := list[w.faults.IntN(len(list))]
		n.crash(false)
		n.disk.rows, n.disk.guards = maps.Clone(b.rows), maps.Clone(b.guards)
		if !r.naked {
			apply(n.disk.rows, core.QuarantineRow("restored from a backup", b.at))
		}
		r.trials++
		n.boot()
		if w.faults.chance(r.impair) {
			w.plan(w.now+w.faults.between(member.Second, minute), "accept", n.index, func() {
				if n.up {
					n.local(core.AcceptLoss{}, func(_ any, err error) {
						if err == nil {
							r.gaveUp++
						}
					})
				}
			})
		}
	}
	w.plan(w.now+w.faults.about(r.every), "rollback", -1, w.rollBack)
}

// giveUp has the users of homes that still wait accept the loss: whom they wait for may have lost its own records, and will
// never come.
func (w *world) giveUp() {
	for _, n := range w.nodes {
		if n.up && n.core.Quarantined() {
			n.local(core.AcceptLoss{}, func(_ any, err error) {
				if err == nil {
					w.opt.rollback.gaveUp++
				}
			})
		}
	}
}

// claims checks what a step has just made durable against all that was ever.
func (w *world) claims(n *node, chain string, place uint64, hash identity.Hash) {
	r := w.opt.rollback
	if r.signed == nil {
		r.signed = map[claim]identity.Hash{}
	}
	c := claim{n.addr, chain, place}
	if old, taken := r.signed[c]; taken && old != hash {
		w.broken(n, "L5", "place %d of chain %s was signed before its home was restored", place, chainName([]byte(chain)))
	}
	r.signed[c] = hash
	r.guarded++
}

// freed checks at the end that no node is still in quarantine.
func (w *world) freed() {
	for _, n := range w.nodes {
		if n.up && n.core.Quarantined() {
			w.broken(n, "N2", "it is still in quarantine")
		}
	}
	w.opt.rollback.waited = w.opt.rollback.trials - w.opt.rollback.gaveUp
}
