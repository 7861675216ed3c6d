package simnet

import (
	"souk/ledger"
	"souk/market"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// freeMost is what a start may have beyond its first minutes: one that nobody attended, and under one more, with what a grace
// and a slow engine add to that. What every start has besides, up to its second tick, is not counted.
const freeMost = 2*minute + 15*member.Second

// loopMost is how long a start can run that costs no more than its minimum: not quite two minutes, and its grace.
const loopMost = 2*minute + 16*member.Second

// A pair is a host and a consumer of it.
type pair struct{ host, consumer identity.Address }

// A streak is how often in a row, and when it may try again.
type streak struct {
	count int
	until member.Time
}

// add counts one more, of which so many are free.
func (s *streak) add(at member.Time, free int) {
	s.count = min(s.count+1, 32)
	if n := s.count - free; n > 0 {
		s.until = max(s.until, at+min(member.Hour, minute<<min(n-1, 16)))
	}
}

// A ride is one run of a container.
type ride struct {
	c          *container
	host       *node
	ordered    bool
	lost       bool        // with its machine
	quiet      bool        // its consumer kept back what it saw
	born, died member.Time // of the world
}

// loops reports whether a node is a looper.
func (n *node) loops() bool { return n.rogue != nil && n.rogue.cheat == CheatLoop }

// quiet notes that the consumer of a run says nothing of what it sees.
func (w *world) quiet(r *ride) {
	if l := w.check.claims.lives[r.c.lease]; l != nil && l.consumer.rogue != nil {
		r.quiet = r.quiet || l.consumer.rogue.mood || l.consumer.rogue.veil
	}
}

func streakOf(m map[pair]*streak, p pair) *streak {
	s := m[p]
	if s == nil {
		s = &streak{}
		m[p] = s
	}
	return s
}

// waits checks that a consumer that has to wait for its vain starts gets nothing.
func (c *claims) waits(n, who *node) {
	if s := streakOf(c.vain, pair{n.addr, who.addr}); c.w.now+member.Second < s.until && !n.crooked() {
		c.w.broken(n, "S2", "%s is served after %d starts that came to nothing; it was to wait for another %v", who.name, s.count, (s.until - c.w.now).Span())
	}
}

// started takes a container that begins to run.
func (c *claims) started(host *node, k *container) {
	if !c.on() {
		return
	}
	k.ride = &ride{c: k, host: host, born: c.w.now, ordered: true}
	c.w.quiet(k.ride)
	if l := c.lives[k.lease]; l != nil {
		k.ride.ordered, l.before = !l.before, true // what follows by itself nobody has ordered
	}
	if host.rogue != nil && host.rogue.run != nil {
		host.rogue.run(k)
	}
}

// ended takes one that has ended, or was lost with its machine.
func (c *claims) ended(k *container, lost bool) {
	if r := k.ride; r != nil && r.died == 0 {
		r.died, r.lost = c.w.now, lost
		c.w.quiet(r)
		c.rides = append(c.rides, r)
	}
}

// minute judges the runs whose minutes are all closed.
func (c *claims) minute() {
	if !c.on() {
		return
	}
	clock := c.w.charter.Clock()
	left := c.rides[:0]
	for _, r := range c.rides {
		ch, l := c.w.check.chains[r.c.lease], c.lives[r.c.lease]
		if l == nil || ch == nil || !ch.final && ch.place.Next <= clock.Minute(r.c.finished) {
			left = append(left, r)
			continue
		}
		c.judge(r, l)
	}
	c.rides = left
}

// judge compares how long a container ran with what its minutes were closed as.
func (c *claims) judge(r *ride, l *life) {
	clock, k := c.w.charter.Clock(), r.c
	first := clock.Minute(k.started)
	var free, unseen member.Time
	billed, least, excused := false, false, r.lost
	for m := first; m <= clock.Minute(k.finished) && m < first+member.Minute(240*member.HourMinutes); m++ {
		u := l.closed[m]
		over := min(k.finished, clock.Tick(m+1)) - max(k.started, clock.Tick(m))
		switch u.Status {
		case ledger.StatusRunning, ledger.StatusZero, ledger.StatusMinimum:
			billed = true // by this start, or by another of the same minute: a minute of a lease counts once
			least = least || u.Start == k.id && u.Status == ledger.StatusMinimum
		case ledger.StatusHostFault, ledger.StatusGPUFault, ledger.StatusUnreachable, ledger.StatusEngine:
			excused = true
		case ledger.StatusUnobserved: // how many there may be is a claim of its own
			excused = true
			unseen += over
		case ledger.StatusPreempted:
		default:
			if m > first {
				free += over
			}
		}
	}
	if over := min(c.backOr(r.died), r.died) - max(c.left, r.born); c.left != 0 && over > 0 {
		tally(c.w.nodes[0], CheatBankGone).Ran = append(tally(c.w.nodes[0], CheatBankGone).Ran, over.Span())
	}
	if r.host.crooked() {
		return
	}
	t := tally(l.consumer)
	t.Free += (free + unseen).Span()
	t.Worst = max(t.Worst, (free + unseen).Span())
	c.w.stats.WorstFree = max(c.w.stats.WorstFree, free.Span())
	if ran := k.finished - k.started; least && !excused && ran > loopMost {
		c.w.broken(r.host, "S2", "a start of lease %s, for %s, ran for %v and cost its minimum", k.lease.Short(), l.consumer.name, ran.Span())
	}
	if free > freeMost {
		c.w.broken(r.host, "L7", "a start of lease %s, for %s, ran for %v, %v of which nobody pays", k.lease.Short(), l.consumer.name, (k.finished - k.started).Span(), free.Span())
	}
	// A looper that says what it sees, where nothing goes wrong, has no way around the minimum.
	if owes := r.ordered && !r.quiet && l.consumer.loops() && l.reason == market.ReasonConsumer && c.w.opt.Faults == (Faults{}); owes && !billed && k.finished-k.started > 5*member.Second {
		c.w.broken(r.host, "S2", "a start of lease %s, ordered and stopped by %s, ran for %v and cost nothing", k.lease.Short(), l.consumer.name, (k.finished - k.started).Span())
	}
	p := pair{r.host.addr, l.consumer.addr}
	s := streakOf(c.vain, p)
	switch {
	case billed || excused || !r.ordered:
	case l.reason == market.ReasonUnpaid:
		s.add(r.died-20*member.Second, 0) // it is the order to stop that counts, and not when the pod was down
	case l.reason == market.ReasonConsumer, l.reason == market.ReasonExit, l.reason == market.ReasonBudget, l.reason == market.ReasonDuration:
		s.add(r.died, 3)
	}
	for _, at := range l.starts { // the minutes of a run are closed later than its pod may be started again
		if at > r.died && at+member.Second < s.until && c.settled[p] < r.born {
			c.w.broken(r.host, "S2", "lease %s was started again for %s after %d starts that came to nothing, %v too early", k.lease.Short(), l.consumer.name, s.count, (s.until - at).Span())
		}
	}
}

// paid takes a voucher: what came to nothing before is forgotten.
func (c *claims) paid(n *node, v ledger.Voucher) {
	if n.rogue == nil || n.rogue.cheat != CheatNoVoucher {
		delete(c.vain, pair{v.Host, n.addr})
		c.settled[pair{v.Host, n.addr}] = c.w.now
	}
}
