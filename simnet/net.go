package simnet

import (
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// How long the network waits.
const (
	requestDeadline = 10 * member.Second // one request, dialling included
	helloDeadline   = 4 * member.Second
)

// A link is an admitted connection between two nodes. It holds as long as both are the runs that made it.
type link struct {
	up     bool
	epochs [2]uint32
}

// link is that of two nodes.
func (w *world) link(a, b *node) *link {
	i, j := min(a.index, b.index), max(a.index, b.index)
	return &w.links[i*len(w.nodes)+j]
}

func (w *world) epochs(a, b *node) [2]uint32 {
	if a.index > b.index {
		a, b = b, a
	}
	return [2]uint32{a.epoch, b.epoch}
}

// linked reports whether two nodes have a link and are both the runs that made it.
func (w *world) linked(a, b *node) bool {
	l := w.link(a, b)
	return l.up && l.epochs == w.epochs(a, b)
}

// reach reports whether packets get from one to the other.
func (w *world) reach(a, b *node) bool { return a.group == b.group }

// delay is how long a message takes; now and then much longer, so that later ones overtake it.
func (w *world) delay(a, b *node) member.Time {
	base := member.Time(2 + (a.index*7+b.index*13)%60)
	d := base + w.net.about(base/4+1)
	if w.faulty && w.net.chance(w.opt.Faults.Late) {
		d += w.net.between(member.Second, 8*member.Second)
	}
	return d
}

func (w *world) lost(a, b *node) bool {
	return !w.reach(a, b) || w.faulty && w.net.chance(w.opt.Faults.Loss)
}

// publish floods an object to everybody who can be reached, each after a delay of its own.
func (n *node) publish(o wire.Object) {
	if n.core.Market() != n.w.notary.market {
		return
	}
	vs, err := n.w.notary.open(n.w.notary.market, []wire.Object{o})
	if err != nil {
		n.w.broken(n, "N1", "an object that this node gossips does not verify: %v", err)
		return
	}
	in := step.Gossip{Msg: vs[0]}
	by := vs[0].By()
	other := n.otherJournal(o, in)
	n.w.stats.Gossiped++
	for _, to := range n.w.nodes {
		if to == n || !to.up || n.w.lost(n, to) {
			continue
		}
		copies := 1
		if n.w.faulty && n.w.net.chance(n.w.opt.Faults.Repeat) {
			copies = 2
		}
		for range copies {
			epoch := to.epoch
			n.w.plan(n.w.now+n.w.delay(n, to)+n.w.net.about(40), "gossip", to.index, func() {
				if m, known := to.members[by]; to.epoch == epoch && to.up && known && m.Good {
					n.w.stats.Messages++
					if to.index%2 == 1 {
						to.step(other)
						return
					}
					to.step(in)
				}
			})
		}
	}
}

// contact takes a peer into the address book, and keeps a link with it if so told.
func (n *node) contact(c step.Contact) {
	a, err := c.Key.Address()
	if err != nil || a == n.addr || n.w.byAddr[a] == nil {
		return
	}
	n.book[a] = true
	if _, kept := n.keep[a]; c.Keep && !kept {
		n.keep[a] = 0
		n.tryKeep(a, n.w.net.between(1, 200))
	} else if !c.Keep {
		delete(n.keep, a)
	}
}

// tryKeep links with a peer that is wanted, after a while, and again until it succeeds.
func (n *node) tryKeep(a identity.Address, after member.Time) {
	n.later(after, "keep", func() {
		to := n.w.byAddr[a]
		if _, kept := n.keep[a]; !kept || n.w.linked(n, to) {
			return
		}
		n.dial(to, func(f *step.Failure) {
			if f == nil {
				n.keep[a] = 0
				return
			}
			n.keep[a] = min(n.keep[a]+1, 6)
			n.tryKeep(a, n.w.net.between(500, member.Second)<<n.keep[a])
		})
	})
}

// dial links two nodes: both judge the other's hello. then is called in this run of n only.
func (n *node) dial(to *node, then func(*step.Failure)) {
	l := n.w.link(n, to)
	if n.w.linked(n, to) {
		then(nil)
		return
	}
	if l.up { // of an earlier run: the other side has not noticed yet
		n.w.cut(n, to)
	}
	done, epoch := false, n.epoch
	finish := func(f *step.Failure) {
		if !done && n.epoch == epoch {
			done = true
			then(f)
		}
	}
	n.later(helloDeadline, "hello", func() { finish(unreachable("no answer to hello")) })
	if n.w.lost(n, to) {
		return
	}
	n.later(n.w.delay(n, to), "hello", func() {
		if !to.up {
			finish(unreachable("connection refused"))
			return
		}
		if !n.w.reach(n, to) {
			return
		}
		epochs := n.w.epochs(n, to)
		to.hear(n, func(no *step.Refusal) {
			if no != nil {
				finish(refused(no))
				return
			}
			n.later(n.w.delay(to, n), "hello", func() {
				n.hear(to, func(no *step.Refusal) {
					switch {
					case no != nil:
						finish(refused(no))
					case n.w.epochs(n, to) != epochs || !n.w.reach(n, to):
						finish(unreachable("connection lost"))
					default:
						n.w.join(n, to)
						finish(nil)
					}
				})
			})
		})
	})
}

// hear has this node judge the hello of another.
func (n *node) hear(from *node, then func(*step.Refusal)) {
	if !from.up || !n.up {
		return
	}
	body, objects := from.core.Hello()
	body.Now = from.clock()
	from.signAll(from.core.Market(), objects)
	if body.Market != n.core.Market().ID {
		objects = nil
	}
	n.serve(from, step.ProtoHello, wire.Frame{Objects: objects, Body: wire.Marshal(body)}, func(r step.Reply) { then(r.Refusal) })
}

// join makes a link, and tells both.
func (w *world) join(a, b *node) {
	l := w.link(a, b)
	if l.up && l.epochs == w.epochs(a, b) {
		return
	}
	l.up, l.epochs = true, w.epochs(a, b)
	a.peer(b, true)
	b.peer(a, true)
}

// cut ends a link, and tells whoever of the two is up; who wants it tries again.
func (w *world) cut(a, b *node) {
	l := w.link(a, b)
	if !l.up {
		return
	}
	was := l.epochs
	l.up = false
	for _, p := range [2][2]*node{{a, b}, {b, a}} {
		n, o := p[0], p[1]
		e := was[0]
		if n.index > o.index {
			e = was[1]
		}
		if !n.up || n.epoch != e {
			continue
		}
		n.peer(o, false)
		if _, kept := n.keep[o.addr]; kept {
			n.tryKeep(o.addr, w.net.between(50, 2*member.Second))
		}
	}
}

// peer tells the core of a neighbour.
func (n *node) peer(o *node, up bool) {
	n.book[o.addr] = true
	n.later(0, "peer", func() { n.step(step.Peer{Address: o.addr, Key: n.members[o.addr].Key, Up: up}) })
}

// gone is when a node has ended: its neighbours notice one by one.
func (w *world) gone(n *node) {
	for _, o := range w.nodes {
		if l := w.link(n, o); o != n && l.up {
			was := l.epochs
			w.plan(w.now+w.net.between(10, 3*member.Second), "drop", o.index, func() {
				if l.up && l.epochs == was {
					w.cut(n, o)
				}
			})
		}
	}
}

func unreachable(detail string) *step.Failure {
	return &step.Failure{Code: step.FailUnreachable, Detail: detail}
}

func refused(r *step.Refusal) *step.Failure {
	return &step.Failure{Code: step.FailRefused, Refusal: r}
}

// send asks a peer, and brings the core exactly one answer.
func (n *node) send(s step.Send) {
	n.w.stats.Requests++
	n.sends[s.ID] = true
	n.w.check.claims.sent(n, &s)
	epoch := n.epoch
	done := func(r step.Response) {
		if n.epoch == epoch && n.sends[s.ID] {
			delete(n.sends, s.ID)
			r.ID = s.ID
			n.step(r)
		}
	}
	wait := s.Wait
	if wait == 0 {
		wait = requestDeadline
	}
	to := n.w.byAddr[s.To]
	switch {
	case n.rogue != nil && n.rogue.mute != nil && n.rogue.mute(&s):
	case s.Proto == step.ProtoWitness && to != nil && (n.w.now < n.unseen || n.w.now < to.unseen): // it is lost
	case to == n:
		n.later(1, "self", func() { n.ask(n, s, done) })
	case to == nil || !n.book[s.To] && !n.w.linked(n, to):
		n.later(1, "unknown", func() { done(step.Response{Err: &step.Failure{Code: step.FailUnknown}}) })
	case s.Proto == step.ProtoJoin || n.w.linked(n, to):
		n.ask(to, s, done)
	default:
		n.dial(to, func(f *step.Failure) {
			if f != nil {
				done(step.Response{Err: f})
				return
			}
			n.ask(to, s, done)
		})
	}
	n.later(min(wait, requestDeadline), "deadline", func() { done(step.Response{Err: unreachable("no answer in time")}) })
}

// ask carries a request there and its answer back, if neither is lost.
func (n *node) ask(to *node, s step.Send, done func(step.Response)) {
	times, mine := 1, n.epoch
	if n.w.faulty && n.w.net.chance(n.w.opt.Faults.Repeat) {
		times = 2 // the second time nobody waits for the answer
	}
	for i := range times {
		if to != n && n.w.lost(n, to) {
			continue
		}
		epoch := to.epoch
		n.later(n.w.delay(n, to)*member.Time(1+3*i), "request", func() {
			if !to.up || to.epoch != epoch || to != n && (!n.w.reach(n, to) || s.Proto != step.ProtoJoin && !n.w.linked(n, to)) {
				if i == 0 && n.w.net.chance(0.5) { // a broken stream is noticed
					done(step.Response{Err: unreachable("stream reset")})
				}
				return
			}
			n.w.stats.Messages++
			to.serve(n, s.Proto, s.Frame, func(r step.Reply) {
				if i > 0 || to != n && n.w.lost(to, n) {
					return
				}
				n.later(n.w.delay(to, n), "response", func() {
					if n.epoch == mine && (to == n || n.w.reach(n, to)) {
						n.w.stats.Messages++
						done(n.response(r))
					}
				})
			})
		})
	}
}

// response is an answer as the asker's shell hands it to its core.
func (n *node) response(r step.Reply) step.Response {
	if r.Refusal != nil {
		return step.Response{Err: refused(r.Refusal)}
	}
	objects, err := n.w.notary.open(n.core.Market(), r.Frame.Objects)
	if err != nil {
		n.w.broken(n, "N1", "an honest answer does not verify: %v", err)
		return step.Response{Err: &step.Failure{Code: step.FailInvalid, Detail: err.Error()}}
	}
	return step.Response{Op: step.Op(r.Frame.Op), Objects: objects, Body: r.Frame.Body}
}

// serve answers a peer through the core. then is called when the answer is durable.
func (n *node) serve(from *node, proto step.Protocol, f wire.Frame, then func(step.Reply)) {
	if r := n.rogue; r != nil {
		if r.deaf != nil && r.deaf(proto, f) {
			return
		}
		if r.deny != nil {
			if a := r.deny(proto, f); a != nil {
				then(*a)
				return
			}
		}
		if r.hush != nil && proto == step.ProtoLease {
			speak := then
			then = func(a step.Reply) {
				if !r.hush(from, f, &a) {
					speak(a)
				}
			}
		}
	}
	if proto == step.ProtoBank && step.Op(f.Op) == step.OpLodge {
		speak, at := then, n.w.charter.Clock().Minute(n.clock())
		then = func(a step.Reply) {
			if a.Refusal == nil {
				n.w.check.claims.lodges(f, at)
			}
			speak(a)
		}
	}
	objects, err := n.w.notary.open(n.core.Market(), f.Objects)
	if err != nil {
		n.w.broken(n, "N1", "an honest request does not verify: %v", err)
		return
	}
	n.number++
	n.asked[n.number] = then
	n.step(step.Request{ID: n.number, From: from.key, Peer: from.addr, Proto: proto, Op: step.Op(f.Op), Objects: objects, Body: f.Body})
}
