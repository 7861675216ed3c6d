package simnet

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"maps"

	"souk/node/core"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A node is one simulated node: the real core, and around it what the shell does, on the world's clock.
type node struct {
	w      *world
	index  int
	name   string
	key    identity.PublicKey
	addr   identity.Address
	sign   signer
	skew   member.Time // its clock minus the world's
	disk   *disk
	host   *machine    // of a host: the computer with its GPUs and containers
	group  int         // of a partition: only nodes of one group reach each other
	alone  member.Time // since when it reaches nobody; 0: it reaches somebody
	unseen member.Time // until then no witness reaches it
	rogue  *rogue      // of one that cheats
	away   member.Time // it is not started again before

	// What follows is of one run of the node.
	up      bool
	epoch   uint32 // counts runs and crashes: what was planned for an earlier one is void
	core    *core.Node
	last    member.Time
	wake    member.Time // for which a tick is planned; 0: none
	members map[identity.Address]step.Membership
	book    map[identity.Address]bool
	keep    map[identity.Address]int // peers to stay linked with: failures in a row
	asked   map[uint64]func(step.Reply)
	sends   map[uint64]bool // requests that are out
	locals  map[uint64]func(any, error)
	number  uint64
	pods    *supervisor
	ready   bool // of a host: the inventory has come
	boots   uint64
	history [64]past
	told    uint64
}

// A past is one step, kept for the report of a failure.
type past struct {
	at  member.Time
	in  step.Input
	out *step.Out
}

// clock is what the node's clock shows.
func (n *node) clock() member.Time { return n.w.now + n.skew }

// later plans something for this run of the node.
func (n *node) later(after member.Time, what label, do func()) {
	epoch := n.epoch
	n.w.plan(n.w.now+max(after, 0), what, n.index, func() {
		if n.epoch == epoch {
			do()
		}
	})
}

// boot starts the node from its disk, and checks that a core made of it is what the disk holds.
func (n *node) boot() {
	n.w.check.claims.booted(n)
	c, err := core.Load(n.addr, func(yield func(k, v []byte) error) error { return state(n.disk.rows, yield) })
	if err != nil {
		n.w.broken(n, "L6", "the store does not load: %v", err)
		return
	}
	n.core, n.up, n.wake, n.ready = c, true, 0, false
	n.epoch++
	n.boots++
	n.last = n.clock()
	n.members, n.book, n.keep = map[identity.Address]step.Membership{}, map[identity.Address]bool{}, map[identity.Address]int{}
	n.asked, n.sends, n.locals = map[uint64]func(step.Reply){}, map[uint64]bool{}, map[uint64]func(any, error){}
	n.compare("after a start")
	if n.host != nil {
		n.pods = newSupervisor(n)
	}
	rnd := newLots(n.w.opt.Seed, fmt.Sprintf("boot/%s/%d", n.name, n.boots))
	boot := step.Boot{ID: rnd.id(), Seed: rnd.hash(), Key: n.key, Addrs: []string{n.place()}, Version: "sim"}
	boot.AttendFor, boot.Contacts = n.w.attends(n)
	n.step(boot)
	if n.host != nil && n.up { // it may have crashed in its first step
		n.later(n.w.disks.between(5, 50), "inventory", func() {
			n.ready = true
			n.step(step.Inventory{Devices: n.host.devices, Machine: n.host.hardware})
		})
		n.pods.begin()
	}
}

// place is where a node is reached.
func (n *node) place() string {
	return fmt.Sprintf("/ip4/10.0.%d.%d/tcp/4001", n.index>>8, n.index&255)
}

// compare checks that the core's rows are those of the store and of what is on its way there.
func (n *node) compare(when string) {
	want := n.disk.rows
	if len(n.disk.pending) > 0 {
		want = maps.Clone(want)
		for _, out := range n.disk.pending {
			for _, r := range out.Rows {
				apply(want, r)
			}
		}
	}
	rows := n.core.Rows()
	for _, r := range rows {
		if v, ok := want[string(r.Key)]; !ok || !bytes.Equal(v, r.Value) {
			n.w.broken(n, "L6", "%s the core has a row %x that the store has not so (%d bytes, %d there)", when, r.Key, len(r.Value), len(v))
			return
		}
	}
	count := 0
	for k := range want {
		if loaded(k) {
			count++
		}
	}
	if count != len(rows) {
		n.w.broken(n, "L6", "%s the core has %d rows, the store %d", when, len(rows), count)
	}
}

// crash ends the node at once: what is not durable is lost. With cut, the whole machine goes down, and its pods with it.
func (n *node) crash(cut bool) {
	if !n.up {
		return
	}
	n.w.stats.Crashes++
	d := n.disk
	if d.group > 0 && n.w.disks.chance(0.5) {
		for _, out := range d.pending[:d.group] { // it was on disk, and nobody was told
			n.persist(out)
		}
	}
	d.pending, d.group = nil, 0
	if n.w.opt.sabotage == sabotageOldStore {
		if d.old != nil {
			d.rows = d.old
		}
		d.old = maps.Clone(d.rows)
	}
	n.up = false
	n.epoch++
	n.core, n.pods = nil, nil
	if cut && n.host != nil {
		n.w.stats.PowerCuts++
		n.host.powerCut()
	}
	n.w.gone(n)
}

// step gives the core an input.
func (n *node) step(in step.Input) {
	if !n.up || n.w.failure != nil {
		return
	}
	n.last = max(n.last, n.clock())
	defer func() {
		if r := recover(); r != nil {
			n.w.stack(r)
			n.w.broken(n, "panic", "%v", r)
		}
	}()
	out, wake := n.core.Step(n.last, in)
	n.history[n.told%uint64(len(n.history))] = past{n.w.now, in, out}
	n.told++
	n.w.stats.Steps++
	n.w.mixOut(n, out)
	if n.w.opt.rollback == nil {
		n.w.check.stepped(n, out)
	}
	n.tickAt(wake)
	n.submit(out)
	if out.Durable() && n.w.mayCrash(n) {
		n.crash(false)
	}
}

// tickAt plans a tick for when the core wants one.
func (n *node) tickAt(wake member.Time) {
	if wake == 0 {
		return
	}
	at := max(wake-n.skew, n.w.now+1)
	if n.wake != 0 && n.wake <= at && n.wake > n.w.now {
		return
	}
	n.wake = at
	epoch := n.epoch
	n.w.plan(at, "tick", n.index, func() {
		if n.epoch == epoch && n.wake == at {
			n.wake = 0
			n.step(step.Tick{})
		}
	})
}

// local gives the core a command of its user; then hears what it came to, unless the node ends before.
func (n *node) local(cmd any, then func(any, error)) {
	if !n.up {
		return
	}
	n.number++
	n.locals[n.number] = then
	n.step(step.Local{ID: n.number, Cmd: cmd})
}

// leave does what a step decided.
func (n *node) leave(out *step.Out) {
	for _, m := range out.Members {
		n.members[m.Address] = m
	}
	for _, c := range out.Contacts {
		n.contact(c)
	}
	if n.pods != nil {
		n.pods.want(out.Pods, out.AllPods)
		n.pods.confirm(out.Looks)
	}
	for i := range out.Replies {
		n.reply(out, &out.Replies[i])
	}
	for _, a := range out.Answers {
		if then := n.locals[a.ID]; then != nil {
			delete(n.locals, a.ID)
			n.later(0, "answer", func() { then(a.Value, a.Err) })
		}
	}
	for i := range out.Sends {
		s := &out.Sends[i]
		n.signAll(out.Market, s.Frame.Objects)
		if n.appended(out.Market, &s.Frame, s.Append) {
			n.send(*s)
		}
	}
	for i := range out.Publish {
		p := &out.Publish[i]
		p.Object = n.signOne(out.Market, p.Object)
		n.publish(p.Object)
	}
	for _, a := range out.Evict {
		if o := n.w.byAddr[a]; o != nil {
			n.w.cut(n, o)
		}
	}
}

func (n *node) reply(out *step.Out, r *step.Reply) {
	then := n.asked[r.ID]
	if then == nil {
		return
	}
	delete(n.asked, r.ID)
	if r.Refusal == nil {
		n.signAll(out.Market, r.Frame.Objects)
		if !n.appended(out.Market, &r.Frame, r.Append) {
			return
		}
	}
	then(*r)
}

// appended puts objects of the disk behind those of a frame.
func (n *node) appended(m wire.Market, f *wire.Frame, spans []step.Span) bool {
	for _, s := range spans {
		for _, v := range n.disk.scan(s) {
			var o wire.Object
			if err := wire.Load(v, &o); err != nil {
				n.w.broken(n, "L6", "a log row does not load: %v", err)
				return false
			}
			f.Objects = append(f.Objects, n.signOne(m, o))
		}
	}
	return true
}

func (n *node) signAll(m wire.Market, objects []wire.Object) {
	for i := range objects {
		objects[i] = n.signOne(m, objects[i])
	}
}

func (n *node) signOne(m wire.Market, o wire.Object) wire.Object {
	o, err := n.w.notary.sign(m, n.sign, o)
	if err != nil {
		n.w.broken(n, "L5", "signing: %v", err)
	}
	return o
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// mixOut makes what a step decided part of the trace.
func (w *world) mixOut(n *node, out *step.Out) {
	for _, r := range out.Rows {
		w.mix(uint64(crc32.Update(crc32.Checksum(r.Key, castagnoli), castagnoli, r.Value))<<8 | uint64(n.index&255))
	}
	w.mix(uint64(len(out.Sends))<<40 | uint64(len(out.Replies))<<30 | uint64(len(out.Publish))<<20 | uint64(len(out.Pods))<<10 | uint64(len(out.Notices)))
}
