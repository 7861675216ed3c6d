package simnet

import (
	"slices"

	"souk/exec/plan"
	"souk/ledger"
	"souk/market"
	"souk/node/core/consumer"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// leaseOp is the operation of a frame of the lease protocol, or 0.
func leaseOp(proto step.Protocol, f wire.Frame) step.Op {
	if proto != step.ProtoLease {
		return 0
	}
	return step.Op(f.Op)
}

// leaseOf is the lease that the first object of a frame, or its body, is about.
func leaseOf(f wire.Frame) wire.ID {
	if len(f.Objects) > 0 {
		switch o := f.Objects[0]; o.Kind {
		case wire.KindCommand:
			m, _ := wire.Decode[market.Command](o)
			return m.Lease
		case wire.KindAlive:
			m, _ := wire.Decode[market.Alive](o)
			return m.Lease
		case wire.KindTerms:
			m, _ := wire.Decode[market.Terms](o)
			return m.Lease
		case wire.KindVoucher:
			m, _ := wire.Decode[ledger.Voucher](o)
			return m.Lease
		}
	}
	b, _ := step.Body[step.LeaseBody](f.Body)
	return b.Lease
}

// noVoucher has its pods run, does not pay, and starts them again.
func (r *rogue) noVoucher() {
	r.mute = func(s *step.Send) bool {
		return leaseOp(s.Proto, s.Frame) == step.OpVoucher && r.oddly(leaseOf(s.Frame), 1)
	}
	r.again(func() member.Time { return r.rnd.between(20*member.Second, 2*minute) }, func() {
		r.n.local(consumer.List{}, func(v any, err error) {
			views, _ := v.([]consumer.View)
			for _, x := range views {
				if x.State == market.StateStopped.String() && x.Desire != "end" && x.Pending == "" { // and once more, unpaid
					r.n.local(consumer.Start{Lease: x.Lease}, func(_ any, err error) {
						if err != nil {
							r.Refused++
						}
					})
				}
			}
		})
	})
}

// silent says nothing more to hosts while its pods run, now and then. Others hear of it as ever. Where its hosts are to be cut
// off at the same time, they are: nobody can then tell one from the other. Where its witnesses are to be out, they are, for a
// while of that time, and only they.
func (r *rogue) silent() {
	r.mute = func(s *step.Send) bool {
		op := leaseOp(s.Proto, s.Frame)
		return r.mood && (op == step.OpAlive || op == step.OpVoucher || op == step.OpCommand)
	}
	w := r.n.w
	if r.cheat == CheatSilentUnseen {
		r.act = r.keepOne
		r.buyer().pay(2000 * ledger.Credit)
		for _, b := range w.buyers {
			b.idle = w.opt.Hours > fullDay // there it is about one pod
		}
	}
	r.again(func() member.Time { return r.rnd.between(minute, 4*minute) }, func() {
		if r.mood || !r.n.up {
			return
		}
		r.n.local(consumer.List{}, func(v any, err error) {
			if err != nil || r.mood || w.calm {
				return
			}
			for _, x := range v.([]consumer.View) {
				if x.State != market.StateRunning.String() || r.cheat == CheatSilentUnseen && (x.Away == nil || !x.Away.Known) {
					continue
				}
				r.mood = true
				r.Tried++
				lasts := r.rnd.between(4*minute, 15*minute)
				switch r.cheat {
				case CheatSilentCut:
					w.isolate(w.byAddr[x.Host], r.rnd.between(2*minute, 12*minute))
				case CheatSilentUnseen:
					var out member.Time
					lasts, out = r.silence()
					w.byAddr[x.Host].unseen = w.now + out
				}
				w.plan(w.now+lasts, "cheat", r.n.index, func() { r.mood = false })
				return
			}
		})
	})
}

// fullDay is of how many hours a world has to be for a mandate to end in it by itself.
const fullDay = 25

// silence is how long a consumer under a mandate says nothing, and for how long of that its host's witnesses are out: for longer than its
// pod may run unseen, or shorter; or, in a world that lasts long enough for that, for longer than a mandate pays.
func (r *rogue) silence() (lasts, out member.Time) {
	switch {
	case r.n.w.opt.Hours > fullDay:
		return 100 * member.Hour, r.rnd.between(5*minute, 40*minute)
	case r.rnd.chance(0.5):
		lasts = r.rnd.between(70*minute, 90*minute)
		return lasts, lasts
	}
	lasts = r.rnd.between(5*minute, 40*minute)
	return lasts, lasts * r.rnd.between(0, 6) / 10
}

// away is what a consumer that will be silent lets its pod cost meanwhile: a day of it, or what some minutes cost.
func (r *rogue) away() consumer.Away {
	if r.n.w.opt.Hours > fullDay || r.rnd.chance(0.5) {
		return consumer.Away{}
	}
	return consumer.Away{Most: ledger.Amount(r.rnd.between(30, 300)) * ledger.Credit / 1000}
}

// keepOne has one pod run, and takes another for one that has stopped.
func (r *rogue) keepOne(b *buyer) {
	if !r.n.up || r.mood {
		return
	}
	r.n.local(consumer.List{}, func(v any, err error) {
		if err != nil {
			return
		}
		for _, x := range v.([]consumer.View) {
			switch {
			case x.Desire == "end":
			case x.State == market.StateStopped.String():
				r.n.local(consumer.Remove{Lease: x.Lease}, func(any, error) {})
			default:
				return
			}
		}
		b.plain()
	})
}

// isolate cuts one node off from all others for a while.
func (w *world) isolate(n *node, lasts member.Time) {
	if n.group != 0 {
		return
	}
	w.stats.Cuts++
	group := w.stats.Cuts
	n.group = group
	w.regroup()
	w.plan(w.now+w.faults.between(2*member.Second, 8*member.Second), "partition", -1, w.dropAcross)
	w.plan(w.now+lasts, "heal", -1, func() {
		if n.group == group {
			n.group = 0
			w.regroup()
		}
	})
}

// regroup notes since when a node reaches nobody.
func (w *world) regroup() {
	for _, n := range w.nodes {
		alone := true
		for _, o := range w.nodes {
			alone = alone && (o == n || !w.reach(n, o))
		}
		switch {
		case !alone:
			n.alone = 0
		case n.alone == 0:
			n.alone = w.now
		}
	}
}

// loop stops its pods just before their first full minute and starts them again; at times it does so at once, and at times it
// keeps to itself that it has seen them run: it asks nothing until they are down.
func (r *rogue) loop() {
	r.mute = func(s *step.Send) bool { return r.veil && leaseOp(s.Proto, s.Frame) == step.OpAlive }
	r.again(func() member.Time { return r.rnd.about(15 * minute) }, func() { r.mood = !r.mood })
	r.again(func() member.Time { return r.rnd.between(2*member.Second, 4*member.Second) }, r.lap)
	r.act = func(b *buyer) {}
}

// lap is one look of a looper at its pod.
func (r *rogue) lap() {
	if !r.n.up {
		return
	}
	r.n.local(consumer.List{}, func(v any, err error) {
		if err != nil {
			return
		}
		for _, x := range v.([]consumer.View) {
			if x.Desire == "end" || x.State == market.StateEnded.String() || x.State == consumer.StageFailed.String() {
				continue
			}
			r.turn(x)
			return
		}
		if r.rnd.chance(0.2) {
			r.veil = r.mood
			r.buyer().plain()
		}
	})
}

// turn does the next thing to a pod. Where it keeps to itself what it sees it goes by what it has ordered, for it hears of
// nothing.
func (r *rogue) turn(x consumer.View) {
	now := r.n.clock()
	up := x.State == market.StateRunning.String()
	down := x.State == market.StateStopped.String() || x.State == market.StateExited.String() || x.State == market.StateOutbid.String()
	if r.mood {
		up, down = x.Desire == "run", x.Desire == "stop"
	}
	since := r.past[x.Lease]
	switch {
	case x.Pending != "":
	case down:
		r.past[x.Lease] = 0
		r.Tried++
		r.veil = r.mood
		r.n.local(consumer.Start{Lease: x.Lease}, func(_ any, err error) {
			if err != nil {
				r.Refused++
				r.veil = false
			}
		})
	case up && since == 0:
		r.past[x.Lease] = now
		stop := now + r.rnd.between(member.Second, 50*member.Second)
		if r.rnd.chance(0.7) && !r.mood { // as late as it can be: before the tick that would end a full minute
			stop = (now/minute+2)*minute - r.rnd.between(100, 4*member.Second)
		}
		r.n.later(stop-now, "cheat", func() {
			r.n.local(consumer.Stop{Lease: x.Lease}, func(any, error) { r.veil = false })
		})
	case now > since+4*minute:
		r.past[x.Lease], r.veil = 0, false
	}
}

// buyer is the user of a consumer.
func (r *rogue) buyer() *buyer {
	for _, b := range r.n.w.buyers {
		if b.n == r.n {
			return b
		}
	}
	panic("simnet: a cheat of consumers is played by somebody else")
}

// abandon asks for quotes and lets them run out, with or without having money set aside for them.
func (r *rogue) abandon() {
	r.mute = func(s *step.Send) bool {
		op := step.Op(s.Frame.Op)
		return s.Proto == step.ProtoLease && (op == step.OpAccept || op == step.OpDecline) || s.Proto == step.ProtoBank && op == step.OpReserve && r.mood
	}
	r.act = func(b *buyer) {}
	r.again(func() member.Time { return r.rnd.between(2*member.Second, minute) }, func() {
		r.mood = r.rnd.chance(0.5)
		if r.n.up {
			r.Tried++
			r.buyer().plain()
		}
		r.giveUp()
	})
}

// giveUp has all orders that wait for an answer given up.
func (r *rogue) giveUp() {
	if !r.n.up {
		return
	}
	r.n.local(consumer.List{}, func(v any, err error) {
		if err != nil {
			return
		}
		for _, x := range v.([]consumer.View) {
			if x.State == consumer.StageAccepting.String() && x.Desire != "end" {
				r.n.local(consumer.Remove{Lease: x.Lease}, func(any, error) {})
			}
		}
	})
}

// jump sets its clock forward, and back again some minutes later. Time in its core stands still then until it has come round.
func (r *rogue) jump() {
	if r.cheat == CheatClockBank {
		r.beggar()
	}
	r.again(func() member.Time { return 5*minute + r.rnd.about(15*minute) }, func() {
		by := r.rnd.between(31*member.Second, 90*member.Second)
		if r.rnd.chance(0.6) {
			by = r.rnd.between(90*member.Second, 20*minute)
		}
		r.leap(by)
	})
}

func (r *rogue) leap(by member.Time) {
	if r.mood {
		return
	}
	n := r.n
	r.Tried++
	r.mood = true
	n.skew += by
	n.step(step.Tick{})
	n.w.plan(n.w.now+r.rnd.between(minute, 10*minute), "cheat", n.index, func() {
		n.skew -= by
		r.mood = false
	})
}

// beggar has a consumer run a pod with a volume on the money for little more than an hour, so that there will be something to
// forfeit: the bank's clock is set forward as soon as it has said that the money runs out.
func (r *rogue) beggar() {
	w := r.n.w
	b := w.buyers[r.rnd.IntN(len(w.buyers))]
	if b.n.crooked() {
		return
	}
	b.idle = true
	w.plan(w.now+minute, "cheat", b.n.index, b.beg)
	r.again(func() member.Time { return r.rnd.between(20*member.Second, 40*member.Second) }, func() {
		if _, short := w.check.claims.notices[b.n.addr]; short {
			r.leap(r.rnd.between(12*minute, 20*minute))
		}
	})
}

// earlyKill ends young pods, and has it look as if they had ended by themselves.
func (r *rogue) earlyKill() {
	r.run = func(c *container) {
		if r.rnd.chance(0.6) {
			r.Tried++
			r.n.host.after(r.rnd.between(member.Second, 50*member.Second), "cheat", func() {
				c.cut = c.state == plan.Running
				r.n.host.end(c, int32(137*r.rnd.IntN(2)))
			})
		}
	}
}

// withholdStop keeps orders to stop or to remove a pod, of some leases, from its core, whoever brings them. It does not answer, or, where
// a mandate pays on, refuses them or says that they are carried out, always in one way for a lease.
func (r *rogue) withholdStop() {
	kept := func(f wire.Frame) (lease wire.ID, ok bool) {
		for _, o := range f.Objects {
			if o.Kind == wire.KindCommand {
				m, err := wire.Decode[market.Command](o)
				return m.Lease, err == nil && m.Order != market.CommandStart && (m.Order != market.CommandRevoke || r.cheat == CheatMandateStop) && r.oddly(m.Lease, 0.7)
			}
		}
		return lease, false
	}
	r.deaf = func(_ step.Protocol, f wire.Frame) bool {
		lease, ok := kept(f)
		return ok && (r.cheat == CheatWithheldStop || lease[0]%3 == 0)
	}
	if r.cheat == CheatMandateStop {
		r.deny = func(_ step.Protocol, f wire.Frame) *step.Reply {
			switch lease, ok := kept(f); {
			case !ok:
				return nil
			case lease[0]%3 == 1:
				return &step.Reply{Refusal: step.Refuse(step.RefuseState, "not now")}
			}
			return &step.Reply{Frame: wire.Frame{Op: uint8(step.OpOK)}}
		}
	}
}

// forgeUsage gives consumers other usage entries than it keeps, over its own signature: each is wrong in one way.
func (r *rogue) forgeUsage() {
	r.hush = func(_ *node, f wire.Frame, a *step.Reply) bool {
		if op := step.Op(f.Op); op != step.OpAlive && op != step.OpUsage || a.Refusal != nil {
			return false
		}
		a.Frame.Objects = slices.Clone(a.Frame.Objects)
		for i, o := range a.Frame.Objects {
			u, err := wire.Decode[ledger.Usage](o)
			if o.Kind != wire.KindUsage || err != nil || !r.oddly(u.Lease, 0.7) || r.rnd.chance(0.7) {
				continue
			}
			switch r.rnd.IntN(5) {
			case 0:
				u.Numerator += 1000
			case 1:
				u.First++
			case 2:
				u.Prev = r.rnd.hash()
			case 3:
				u.Terms = r.rnd.hash()
			case 4:
				u.Seq++
			}
			a.Frame.Objects[i] = r.forge(u)
		}
		return false
	}
}

// noCert takes acceptances and does not say so: for ever, or, where it is the wire that loses the word, for some time.
func (r *rogue) noCert() {
	w := r.n.w
	r.hush = func(to *node, f wire.Frame, a *step.Reply) bool {
		op := leaseOp(step.ProtoLease, f)
		if op != step.OpAccept && op != step.OpGetLease && op != step.OpDecline {
			return false
		}
		id := leaseOf(f)
		if !r.oddly(id, 0.6) {
			return false
		}
		until, known := r.past[id]
		if !known {
			until = w.now + 10*member.Day
			if r.cheat == CheatLateCert {
				until = w.now + r.rnd.between(5*member.Second, 25*minute)
			}
			r.past[id] = until
		}
		return w.now < until
	}
}

// goneFor is how long a bank that goes is gone, in a world that lasts long enough.
const goneFor = 30 * member.Hour

// bankGone is the operator's absence, once. In a world that lasts long enough for all of it the pods that it leaves behind are
// chosen: one of which the bank has had the time to raise the reservation to a day, and one that has just begun, with its first
// hour.
func (r *rogue) bankGone() {
	w, n := r.n.w, r.n
	demand := member.Time(w.opt.Hours * float64(member.Hour))
	gone := min(goneFor, demand/2)
	at := w.now + 30*minute + r.rnd.between(0, 10*minute)
	if demand > goneFor+member.Hour {
		gone = goneFor
		for i, b := range w.buyers {
			b.idle = true
			w.plan(w.now+minute, "cheat", b.n.index, func() { b.pay(2000 * ledger.Credit) })
			if i == 0 {
				w.plan(at-15*minute, "cheat", b.n.index, b.plain)
			} else {
				w.plan(at-900, "cheat", b.n.index, b.plain) // its image takes longer than that
			}
		}
	}
	w.plan(at, "cheat", n.index, func() {
		r.Tried++
		w.check.claims.bankGoes()
		n.away = w.now + gone
		n.crash(false)
		w.plan(n.away, "start", n.index, func() {
			w.check.claims.bankBack()
			if !n.up {
				n.boot()
			}
		})
	})
}
