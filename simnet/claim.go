package simnet

import (
	"bytes"
	"maps"
	"slices"

	"souk/ledger"
	"souk/market"
	"souk/node/core/host"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Claims are what honest nodes are promised whatever others do, watched from outside: from what is durable, from what leaves a
// node, and from the machines. They are checked of every lease of a world in which somebody cheats.
//
//	host      of each start of a pod, no more is free than freeMost, beside minutes that its own troubles make free
//	host      whoever has starts that came to nothing waits, longer each time, before the next one (RULES S2, S6)
//	host      whoever lets holds run out waits, longer each time, before the next one (RULES B7)
//	host      no pod is stopped as unpaid while the host can hear nobody (RULES B4)
//	consumer  no minute after the one of an order to stop is paid, until the next order to start, whether the host heard it or not
//	consumer  one minimum at most for each start that it ordered
//	consumer  no more full minutes of a start than went by on the world's clock, but for what clocks may differ by
//	both      while the bank is gone a funded pod runs on, until what is reserved for it comes to its end, and no longer
//	consumer  on a mandate nothing is paid but minutes that more than half of its witnesses saw, none after the one in which the
//	          bank got an order that ends it, and in all no more than it allows (RULES §6, S8)
//	host      under a mandate a pod that nobody attends and no witness sees runs for an hour of a day at most, unpaid
//	consumer  no volume is forfeit before its time has gone by on the world's clock
type claims struct {
	w       *world
	lives   map[wire.ID]*life
	rides   []*ride
	vain    map[pair]*streak     // starts that came to nothing
	settled map[pair]member.Time // when the consumer last signed a voucher
	dropped map[pair]*streak     // holds that ran out
	holding map[wire.ID]holding
	notices map[identity.Address]member.Time // when the bank first told of the shortage that lasts
	signed  map[sighting]bool                // receipts that have left a witness
	held    map[sighting]bool                // and that a host has
	gone    bool                             // the bank is
	caps    map[wire.ID]ledger.Amount        // by lease, when the bank went
	left    member.Time                      // when it went
	back    member.Time                      // and came back
}

// A holding is a hold that stands.
type holding struct {
	who   identity.Address
	since member.Time
	gpus  int
}

// A life is what claims know of a lease.
type life struct {
	at             member.Time // of the certificate
	host, consumer *node
	closed         map[member.Minute]ledger.Usage
	reason         market.Reason // of the last stop
	orders         []ordered
	starts         []member.Time // when it was started again
	bills          []debt
	ended          bool // by its consumer, or for good
	released       bool // at the bank
	kept           bool // it had a volume when the bank went
	boots          int  // of the host, since the certificate
	minimums       int
	billed         map[identity.Hash]int64 // by start: running minutes that the consumer has taken
	before         bool                    // its first start was ordered by the terms
	first          member.Minute           // of its chain
	mandates       []given
	lodged         []member.Minute // in which the bank got orders
	charged        ledger.Amount   // by the bank, when that was last checked
}

// An ordered is a command of a consumer, when it first left.
type ordered struct {
	seq  uint64
	stop bool
	at   member.Time // of the consumer's clock
}

func newClaims(w *world) *claims {
	return &claims{
		w: w, lives: map[wire.ID]*life{}, vain: map[pair]*streak{}, settled: map[pair]member.Time{}, dropped: map[pair]*streak{}, holding: map[wire.ID]holding{},
		notices: map[identity.Address]member.Time{}, signed: map[sighting]bool{}, held: map[sighting]bool{},
	}
}

// on reports whether claims are watched: where nobody cheats, the promises are enough.
func (c *claims) on() bool { return len(c.w.opt.Cheats) > 0 && c.w.opt.rollback == nil }

// tally is that of a cheating node, or one that nobody reads.
func tally(n *node, of ...Cheat) *Tally {
	if n == nil || n.rogue == nil {
		return &Tally{}
	}
	for _, c := range of {
		if n.rogue.cheat == c {
			return &n.rogue.Tally
		}
	}
	if len(of) > 0 {
		return &Tally{}
	}
	return &n.rogue.Tally
}

// logged takes an entry of a host's lease log.
func (c *claims) logged(n *node, e market.LogEntry) {
	if !c.on() {
		return
	}
	now := c.w.now
	switch l := c.lives[e.Lease]; e.Entry {
	case market.EntryHold:
		c.holds(n, e)
	case market.EntryExpire, market.EntryNoLease:
		h, ok := c.holding[e.Lease]
		if !ok {
			return
		}
		delete(c.holding, e.Lease)
		tally(c.w.byAddr[h.who], CheatAbandon).Held += ((now - h.since) * member.Time(h.gpus)).Span()
		free := 0
		if e.Entry == market.EntryNoLease {
			free = 8
		}
		streakOf(c.dropped, pair{n.addr, h.who}).add(now, free)
	case market.EntryCert:
		delete(c.holding, e.Lease)
		t, _, ok := n.core.Host().Contract(e.Lease)
		if !ok {
			return
		}
		delete(c.dropped, pair{n.addr, t.Consumer})
		c.lives[e.Lease] = &life{at: now, host: n, consumer: c.w.byAddr[t.Consumer], closed: map[member.Minute]ledger.Usage{}, billed: map[identity.Hash]int64{}}
		c.waits(n, c.w.byAddr[t.Consumer])
	case market.EntryState:
		if l == nil {
			return
		}
		switch {
		case e.State == market.StateCertified && e.Reason == market.ReasonConsumer:
			l.before = false
			l.starts = append(l.starts, now)
			c.waits(n, l.consumer)
		case !e.State.Owns() || e.State == market.StateStopping:
			l.reason = e.Reason
			c.stops(n, l, e)
		}
	case market.EntryEnd:
		if l != nil {
			l.ended = true
		}
		if l != nil && e.Reason == market.ReasonForfeit {
			c.forfeits(n, l, e)
		}
	}
}

// holds takes a hold that was asked for by a request. Whose it is, its bidder's hash tells who knows all consumers.
func (c *claims) holds(n *node, e market.LogEntry) {
	if e.Until == e.At { // of a start, which takes it in the same step
		return
	}
	for _, o := range c.w.nodes {
		if o.host != nil || market.Bidder(o.addr, e.Lease) != e.Bidder {
			continue
		}
		p := pair{n.addr, o.addr}
		if s := streakOf(c.dropped, p); c.w.now+member.Second < s.until && !n.crooked() {
			c.w.broken(n, "B7", "%s holds GPUs again after %d holds that came to nothing; it was to wait for another %v", o.name, s.count, (s.until - c.w.now).Span())
		}
		c.waits(n, o)
		c.holding[e.Lease] = holding{o.addr, c.w.now, int(e.Count)}
	}
}

// stops takes the end of a pod's run.
func (c *claims) stops(n *node, l *life, e market.LogEntry) {
	switch {
	case e.State != market.StateStopping:
	case e.Reason == market.ReasonUnpaid && n.alone != 0 && c.w.now-n.alone > 70*member.Second && !n.crooked():
		c.w.broken(n, "B4", "the pod of lease %s is stopped as unpaid; the host has heard nobody for %v", e.Lease.Short(), (c.w.now - n.alone).Span())
	case e.Reason == market.ReasonUnpaid && c.gone && c.w.opt.Faults == (Faults{}) && !n.crooked() && !l.consumer.crooked():
		c.w.broken(n, "B5", "the pod of lease %s is stopped as unpaid while the bank is gone", e.Lease.Short())
	case e.Reason == market.ReasonFunds && c.gone:
		c.shortOf(n, l, e.Lease)
	}
}

// used takes an entry of a host's usage chain.
func (c *claims) used(n *node, u ledger.Usage, owed ledger.Amount) {
	l := c.lives[u.Lease]
	if l == nil || !c.on() {
		return
	}
	for m := u.First; m <= u.Last(); m++ {
		l.closed[m] = u
	}
	if l.first == 0 {
		l.first = u.First
	}
	if u.Status == ledger.StatusUnobserved {
		c.unseen(n, l, u)
	}
	if u.Billable != 0 && u.Status != ledger.StatusStopped {
		l.bills = append(l.bills, debt{owed, u.Status == ledger.StatusMinimum})
	}
	if most, counts := c.caps[u.Lease]; counts && c.gone && owed > most {
		c.w.broken(n, "B5", "lease %s owes %s while the bank is gone, which has set %s aside", u.Lease.Short(), owed.Text(), most.Text())
	}
}

// A debt is what a lease owed after a minute at a running price, and whether that was a minimum.
type debt struct {
	owed  ledger.Amount
	least bool
}

// unpaid reports whether a host has billed more minutes than it may be left with unpaid: one, or two where one is the minimum of
// a start that another followed in the same minute, both of which together ran for less than two; and under a mandate those few
// of a day that its consumer attended, nobody signed for, and too few witnesses saw (RULES §6, lines 2 and 3: the pod runs on).
// Storage is beside that: it is paid on receipts, if at all.
func (c *claims) unpaid(t host.Tally) (minutes int, tooMany bool) {
	l := c.lives[t.Lease]
	full := 0
	for _, b := range l.bills {
		if b.owed > t.Settled {
			minutes++
			if !b.least {
				full++
			}
		}
	}
	// A voucher that is due in the minute of the host's start may be late: who brings it has to find the host again.
	more := l.boots + c.dark(l)
	return minutes, full > 1+more || minutes > 2+more
}

// accepted takes an entry that a consumer will pay.
func (c *claims) accepted(n *node, u ledger.Usage) {
	l := c.lives[u.Lease]
	if l == nil || !c.on() || u.Billable == 0 || n.crooked() {
		return
	}
	clock := c.w.charter.Clock()
	switch u.Status {
	case ledger.StatusMinimum:
		starts := 1
		for _, o := range l.orders {
			if !o.stop {
				starts++
			}
		}
		if l.minimums++; l.minimums > starts {
			c.w.broken(n, "S4", "it pays %d minimums of lease %s, of which it ordered %d starts", l.minimums, u.Lease.Short(), starts)
		}
		if k := c.w.runs[u.Start]; k != nil && k.ride != nil && !k.ride.ordered {
			c.w.broken(n, "S4", "it pays the minimum of a start of lease %s that nobody ordered", u.Lease.Short())
		}
		if k := c.w.runs[u.Start]; k != nil && k.cut {
			tally(l.host, CheatEarlyKill).Overpaid += c.price(l, u)
		}
	case ledger.StatusRunning, ledger.StatusZero:
		if u.Basis == ledger.BasisMandate && !c.pays(l, u.First) && c.w.opt.Faults == (Faults{}) {
			c.w.broken(n, "L7", "it pays minute %d of lease %s on a mandate that does not allow it", u.First, u.Lease.Short())
		}
		// On a mandate it pays until the bank has the order, which it gets when the host does not answer.
		late := member.Minute(0)
		if u.Basis == ledger.BasisMandate {
			late = 2
		}
		if s := l.stopped(u.First-late, clock, member.Time(30)*member.Second); s != 0 && (late == 0 || c.w.opt.Faults == (Faults{})) {
			c.w.broken(n, "L7", "it pays minute %d of lease %s; its order to stop was of minute %d", u.First, u.Lease.Short(), s)
		}
		l.billed[u.Start]++
		r := c.w.runs[u.Start]
		if r == nil || r.ride == nil {
			return
		}
		until := c.w.now
		if r.ride.died != 0 {
			until = r.ride.died
		}
		if most := int64((until-r.ride.born)/minute) + 1; l.billed[u.Start] > most {
			c.w.broken(n, "L7", "it pays %d minutes of a start of lease %s, which ran for %v", l.billed[u.Start], u.Lease.Short(), (until - r.ride.born).Span())
		}
	}
}

func (c *claims) price(l *life, u ledger.Usage) ledger.Amount {
	t, _, ok := ledger.Tariff{}, 0, false
	if l.host.up {
		if x, _, there := l.host.core.Host().Contract(u.Lease); there {
			t, ok = x.Tariff, true
		}
	}
	rate, err := t.Rate(u.Status)
	if !ok || err != nil {
		return 0
	}
	a, _ := rate.Cost(c.w.charter.Clock().Seconds())
	return a
}

// stopped is the minute of the order to stop that a minute comes after, if no order to start came in between; 0: there is none.
func (l *life) stopped(m member.Minute, clock member.Clock, skew member.Time) member.Minute {
	var since member.Minute
	for _, o := range l.orders {
		switch {
		case o.stop && since == 0:
			since = clock.Minute(o.at + skew)
		case !o.stop && since != 0:
			if m > since && m < clock.Minute(o.at-skew) {
				return since
			}
			since = 0
		}
	}
	if since != 0 && m > since {
		return since
	}
	return 0
}

// sent takes a question as it leaves a core, whether it leaves the node or not.
func (c *claims) sent(n *node, s *step.Send) {
	if !c.on() {
		return
	}
	c.bears(s)
	if s.Proto != step.ProtoLease || len(s.Frame.Objects) == 0 {
		return
	}
	switch step.Op(s.Frame.Op) {
	case step.OpCommand:
		m, err := wire.Decode[market.Command](s.Frame.Objects[0])
		l := c.lives[m.Lease]
		if err != nil || l == nil {
			return
		}
		if k := len(l.orders); m.Order != market.CommandRevoke && (k == 0 || l.orders[k-1].seq < m.Seq) {
			l.orders = append(l.orders, ordered{m.Seq, m.Order != market.CommandStart, m.At})
		}
	case step.OpFunds:
		f, err := wire.Decode[ledger.FundsNotice](s.Frame.Objects[0])
		if _, known := c.notices[f.Consumer]; err == nil && !known {
			c.notices[f.Consumer] = c.w.now
		}
	}
}

// released takes the end of a reservation.
func (c *claims) released(lease wire.ID) {
	l := c.lives[lease]
	if l == nil || l.released || l.host.rogue == nil || !l.host.rogue.odd[lease] {
		return
	}
	l.released = true
	if _, knows := l.consumer.disk.rows[string(table.Key(table.ConsumerLease, lease[:]))]; knows {
		return
	}
	tally(l.host, CheatNoCert, CheatLateCert).Held += (c.w.now - l.at).Span()
}

// forfeits checks that a consumer had its time.
func (c *claims) forfeits(n *node, l *life, e market.LogEntry) {
	since, known := c.notices[l.consumer.addr]
	hold := member.Time(dataHold) * minute
	if !known || c.w.now < since+hold-minute {
		c.w.broken(n, "B11", "lease %s is forfeit %v after its bank's first notice; data is held for %v", e.Lease.Short(), (c.w.now - since).Span(), hold.Span())
	}
}

// backOr is when the bank came back, or an instant, if it has not.
func (c *claims) backOr(t member.Time) member.Time {
	if c.back != 0 {
		return c.back
	}
	return t
}

// booted takes a start of a node: a host does not remember who let its holds run out.
func (c *claims) booted(n *node) {
	for p := range c.dropped {
		if p.host == n.addr {
			delete(c.dropped, p)
		}
	}
	for _, l := range c.lives {
		if l.host == n {
			l.boots++
		}
	}
}

// bankGoes notes what is set aside for each lease when the bank goes.
func (c *claims) bankGoes() {
	c.gone, c.left, c.caps = true, c.w.now, map[wire.ID]ledger.Amount{}
	op := c.w.nodes[0]
	if !op.up {
		return
	}
	b := op.core.Operator().Bank()
	for _, id := range b.Open() {
		h, _ := b.Hold(id)
		c.caps[h.Reservation.Lease] = h.Reservation.Cap
		if l := c.lives[h.Reservation.Lease]; l != nil {
			l.kept = l.host.host.volumes[h.Reservation.Lease]
		}
	}
}

// bankBack checks that nobody's data has gone with the bank.
func (c *claims) bankBack() {
	c.gone, c.back = false, c.w.now
	for _, lease := range slices.SortedFunc(maps.Keys(c.caps), func(a, b wire.ID) int { return bytes.Compare(a[:], b[:]) }) {
		l := c.lives[lease]
		if l == nil || l.host.crooked() || l.ended || !l.kept || l.host.host.volumes[lease] {
			continue
		}
		c.w.broken(l.host, "B11", "the volume of lease %s is gone, and the bank was gone too", lease.Short())
	}
}

// shortOf checks that a pod that stops for want of funds while the bank is gone has used up what was set aside.
func (c *claims) shortOf(n *node, l *life, lease wire.ID) {
	ch := c.w.check.chains[lease]
	most := n.core.Host().Cap(lease)
	if ch == nil || n.crooked() {
		return
	}
	rate, err := ch.tariff.Rate(ledger.StatusRunning)
	if err != nil {
		return
	}
	spare, _ := rate.Cost(14 * 60) // ten minutes by the rules, and as many ticks as the bank has to answer
	if left := most - ch.place.Meter.Owed(); left > spare {
		c.w.broken(n, "B5", "the pod of lease %s stops for want of funds while the bank is gone; %s is set aside for it, enough for more than ten minutes", lease.Short(), left.Text())
	}
}

// finish adds what is known at the end.
func (c *claims) finish() {
	for _, n := range c.w.nodes {
		if n.host == nil || n.core == nil {
			continue
		}
		for _, t := range n.core.Host().Tallies(c.w.charter.Clock().Seconds()) {
			if l := c.lives[t.Lease]; l != nil && t.Owed > t.Settled {
				tally(l.consumer).Unpaid += t.Owed - t.Settled
			}
		}
	}
	for _, r := range c.w.rogues {
		c.w.stats.Cheats = append(c.w.stats.Cheats, r.Tally)
	}
}
