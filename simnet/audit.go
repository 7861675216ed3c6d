package simnet

import (
	"souk/ledger"
	"souk/ledger/audit"
	"souk/node/core"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// banked follows the bank's journal as it becomes durable.
func (c *checker) banked(n *node, r step.Row) {
	e, obj, err := operator.DecodeEntry(r.Value)
	if err != nil {
		c.w.broken(n, "L6", "row %x: %v", r.Key, err)
		return
	}
	if c.replay == nil {
		c.replay = ledger.NewReplay(n.addr, c.w.charter)
	}
	if err := c.replay.Follow(e); err != nil {
		c.w.broken(n, "A1", "%v", err)
		return
	}
	c.tree.Append(obj.Payload)
}

// journals checks A1 at a moment at which nothing is on its way to the operator's disk: its accounts are those that its
// journal gives, and the checkpoints that members hold are of that journal.
func (c *checker) journals() {
	op := c.w.nodes[0]
	if !op.up || len(op.disk.pending) > 0 || c.replay == nil || c.w.opt.sabotage != sabotageNone {
		return
	}
	b := op.core.Operator().Bank()
	if c.replay.Head() != b.Head() {
		c.w.broken(op, "A1", "the journal ends at %+v, the bank at %+v", c.replay.Head(), b.Head())
		return
	}
	for _, a := range c.replay.Accounts() {
		if a != b.Account(a.Address) {
			c.w.broken(op, "A1", "the journal gives %+v, the bank has %+v", a, b.Account(a.Address))
		}
	}
	for _, n := range c.w.nodes {
		if !n.up {
			continue
		}
		p, ok := n.core.Observer().Checkpoint(op.addr)
		if !ok {
			continue
		}
		if root, err := c.tree.Root(p.Size); err != nil || root != p.Root {
			c.w.broken(n, "A1", "it holds a checkpoint of %d entries with root %s; the journal has %s (%v)", p.Size, p.Root.Short(), root.Short(), err)
		}
	}
}

// otherJournal is what every other member is shown in place of a checkpoint, where the operator is to be false: one of a
// journal in which an entry is another. Of all else it is the same.
func (n *node) otherJournal(o wire.Object, in step.Gossip) step.Gossip {
	if n.w.opt.sabotage != sabotageSplitView || o.Kind != wire.KindCheckpoint || n.index != 0 {
		return in
	}
	c, err := wire.Decode[audit.Checkpoint](o)
	if err != nil {
		panic("simnet: " + err.Error())
	}
	c.Root = identity.Keccak([]byte("another journal"), c.Root[:])
	if c.Number > 1 {
		c.Prev = identity.Keccak([]byte("another journal"), c.Prev[:])
	}
	obj, err := wire.Seal(n.w.notary.market, n.sign, c) // past the notary: it would not have it
	if err != nil {
		panic("simnet: " + err.Error())
	}
	v, err := core.Open(wire.Opener{Market: n.w.notary.market, Verifier: n.w.notary}, obj)
	if err != nil {
		panic("simnet: " + err.Error())
	}
	return step.Gossip{Msg: v}
}

// convinced counts who has evidence against a false operator. The promise is broken, as it should be, when all honest
// members that are up have it.
func (c *checker) convinced(t step.Notice) {
	if t.Type != "evidence.bank" {
		return
	}
	op := c.w.nodes[0]
	for _, n := range c.w.nodes[1:] {
		if n.up && n.core.Observer().Founded() && !n.core.Observer().Convicted(op.addr) {
			return
		}
	}
	c.w.broken(op, "A1", "all members have evidence: %s", t.Text)
}
