package simnet

import (
	"fmt"
	"slices"
	"strings"

	"souk/ledger"
	"souk/ledger/audit"
	"souk/market"
	"souk/node/core/host"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A checker compares the world with its promises. What it knows comes from the rows that nodes make durable, from the
// cores between steps, and from the machines, who know what really ran.
type checker struct {
	w       *world
	grace   map[identity.Address]member.Time // that hosts advertise
	logs    map[identity.Address]*market.Follower
	tables  map[identity.Address]*market.Table
	chains  map[wire.ID]*chain
	entries map[entryKey]owed
	ran     map[gpuMinute]wire.ID
	vouched map[wire.ID]ledger.Amount // by reservation: the highest voucher that its consumer has made durable
	outbid  map[wire.ID]bool          // it is being displaced
	known   map[identity.Address]uint64
	claims  *claims
	replay  *ledger.Replay // of the bank's journal, as far as it is durable
	tree    audit.Tree     // over the same entries
}

// A chain is a lease's usage chain as its host has made it durable.
type chain struct {
	place      ledger.Place
	tariff     ledger.Tariff
	terms      identity.Hash
	unattended member.Minute // the last such minute
	final      bool
}

type entryKey struct {
	lease wire.ID
	seq   uint64
}

type owed struct {
	ref   identity.Hash
	total ledger.Amount
}

type gpuMinute struct {
	gpu string
	at  member.Minute
}

func newChecker(w *world) *checker {
	return &checker{
		w: w, grace: map[identity.Address]member.Time{}, logs: map[identity.Address]*market.Follower{}, tables: map[identity.Address]*market.Table{},
		chains: map[wire.ID]*chain{}, entries: map[entryKey]owed{}, ran: map[gpuMinute]wire.ID{}, vouched: map[wire.ID]ledger.Amount{},
		outbid: map[wire.ID]bool{}, known: map[identity.Address]uint64{}, claims: newClaims(w),
	}
}

// gpusKey is the row of a host's table.
var gpusKey = string(table.Key(table.Node, []byte("gpus")))

// alarms are notices that no honest node has reason to give another honest one.
var alarms = map[string]string{
	"lease.refused": "L7", "evidence.beats": "L5", "bank.overpaid": "L4", "settle.refused": "L4",
	"evidence.bank": "A1", "audit.unproven": "A1",
}

// stepped looks at a node right after a step.
func (c *checker) stepped(n *node, out *step.Out) {
	money, gpus := false, false
	for _, r := range out.Rows {
		switch table.Table(r.Key[0]) {
		case table.Account:
			money = true
		case table.Reservation:
			money = true
			c.settled(n, wire.ID(table.Field(r.Key, 0)))
		case table.Node:
			gpus = gpus || string(r.Key) == gpusKey
		}
	}
	if money {
		c.totals(n)
	}
	if gpus {
		if err := n.core.Host().Table().Audit(); err != nil {
			c.w.broken(n, "M1-M3", "%v", err)
		}
	}
	for _, t := range out.Notices {
		if c.w.opt.sabotage == sabotageSplitView {
			c.convinced(t)
			continue
		}
		if p, bad := alarms[t.Type]; bad && !n.crooked() && !c.crooked(t.Lease) && !(t.Type == "settle.refused" && c.closed(t.Lease)) {
			c.w.broken(n, p, "%s: %s", t.Type, t.Text)
		}
	}
}

// totals checks L1 and L2 on the sums that the bank keeps up.
func (c *checker) totals(n *node) {
	b := n.core.Operator().Bank()
	if b == nil {
		return
	}
	t := b.Totals()
	if sum := t.Available + t.Reserved + t.Payable + t.Paying + t.PaidOut + t.Fees; sum != t.Deposited {
		c.w.broken(n, "L1", "deposits are %s, the balances add up to %s", t.Deposited.Text(), sum.Text())
	}
	if min(t.Available, t.Reserved, t.Payable, t.Paying, t.PaidOut, t.Fees) < 0 {
		c.w.broken(n, "L2", "a total is negative: %+v", t)
	}
}

// settled checks L4 on one reservation.
func (c *checker) settled(n *node, id wire.ID) {
	b := n.core.Operator().Bank()
	if b == nil {
		return
	}
	h, ok := b.Hold(id)
	if !ok {
		return
	}
	if !h.Open() {
		c.claims.released(h.Reservation.Lease)
	}
	most := min(h.Reservation.Cap, max(h.Voucher.Total, h.Chain.Amount()))
	claimed := c.entries[entryKey{h.Reservation.Lease, h.Chain.Place.Seq}].total // by the chain, proven or not
	switch {
	case h.Settled > h.Reservation.Cap:
		c.w.broken(n, "L4", "reservation %s has settled %s over its cap of %s", id.Short(), h.Settled.Text(), h.Reservation.Cap.Text())
	case h.Settled > most || !h.Open() && h.Settled < most:
		c.w.broken(n, "L4", "reservation %s (open: %v) has settled %s; the highest voucher shown is %s, and %s are proven", id.Short(), h.Open(), h.Settled.Text(), h.Voucher.Total.Text(), h.Chain.Amount().Text())
	case h.Settled > max(c.vouched[id], claimed):
		c.w.broken(n, "L4", "reservation %s has settled %s; its consumer signed for %s, and its host claimed %s", id.Short(), h.Settled.Text(), c.vouched[id].Text(), claimed.Text())
	}
	c.claims.charged(n, h)
	if a := b.Account(h.Reservation.Consumer); a.Available < 0 || a.Reserved < 0 {
		c.w.broken(n, "L2", "account %v: %+v", a.Address, a)
	}
}

// durable looks at what a node has just made durable.
func (c *checker) durable(n *node, out *step.Out) {
	changed := false
	for _, r := range out.Rows {
		if r.Delete {
			continue
		}
		switch table.Table(r.Key[0]) {
		case table.LeaseLog:
			c.logged(n, r)
			changed = true
		case table.Usage:
			c.used(n, r)
		case table.ConsumerUsage:
			c.accepted(n, r)
		case table.Voucher:
			c.signed(n, r)
		case table.Receipt:
			c.claims.hears(n, r)
		case table.BankEntry:
			c.banked(n, r)
		case table.Node:
			if string(r.Key) == gpusKey {
				t := &market.Table{}
				if err := wire.Load(r.Value, t); err != nil {
					c.w.broken(n, "L6", "the table does not load: %v", err)
				}
				c.tables[n.addr] = t
				changed = true
			}
		}
	}
	if changed {
		c.replayed(n)
	}
}

// object is the message of a log row.
func object[T wire.Message](c *checker, n *node, r step.Row) (msg T, ref identity.Hash, ok bool) {
	var o wire.Object
	err := wire.Load(r.Value, &o)
	if err == nil {
		msg, err = wire.Decode[T](o)
	}
	if err != nil {
		c.w.broken(n, "L6", "row %x: %v", r.Key, err)
		return msg, ref, false
	}
	return msg, o.Ref(c.w.notary.market), true
}

// logged follows the lease log.
func (c *checker) logged(n *node, r step.Row) {
	e, _, ok := object[market.LogEntry](c, n, r)
	if !ok {
		return
	}
	f := c.logs[n.addr]
	if f == nil {
		f = market.NewFollower(c.w.notary.market)
		c.logs[n.addr] = f
	}
	if err := f.Follow(e); err != nil {
		c.w.broken(n, "M5", "the lease log: %v", err)
	}
	c.claims.logged(n, e)
	if e.Entry == market.EntryState {
		c.outbid[e.Lease] = e.State == market.StateStopping && e.Reason == market.ReasonOutbid
		if e.State == market.StateOutbid {
			c.w.stats.Displaced++
		}
	}
}

// replayed checks M5: who follows the log has the host's table.
func (c *checker) replayed(n *node) {
	f, t := c.logs[n.addr], c.tables[n.addr]
	if f == nil || t == nil {
		return
	}
	if a, b := tableText(f.Table()), tableText(t); a != b {
		c.w.broken(n, "M5", "the log gives another table than the host has:\n%s\n%s", a, b)
	}
}

func tableText(t *market.Table) string {
	var b strings.Builder
	for _, s := range t.Slots {
		fmt.Fprint(&b, s.Device.UUID, s.Usable, s.Lease.Short(), " ")
	}
	for _, e := range t.Tenants {
		fmt.Fprint(&b, e.Lease.Short(), e.Type, e.Rate, e.GPUs, e.Victims, e.Arrival, e.Taken, " ")
	}
	for _, h := range t.Holds {
		fmt.Fprint(&b, "held ", h.Lease.Short(), h.GPUs, h.Victims, h.Arrival, " ")
	}
	return b.String()
}

// used follows a host's usage chain, and compares what it bills with what ran.
func (c *checker) used(n *node, r step.Row) {
	u, ref, ok := object[ledger.Usage](c, n, r)
	if !ok {
		return
	}
	ch := c.chains[u.Lease]
	if ch == nil {
		t, cert, ok := n.core.Host().Contract(u.Lease)
		if !ok {
			c.w.broken(n, "L5", "usage of a lease %s that there is not", u.Lease.Short())
			return
		}
		x, err := wire.Decode[market.Cert](cert)
		if err != nil {
			c.w.broken(n, "L5", "certificate: %v", err)
			return
		}
		ch = &chain{place: ledger.Place{Head: cert.Ref(c.w.notary.market), Next: x.Minute}, tariff: t.Tariff, terms: wire.Draft(t).Ref(c.w.notary.market)}
		c.chains[u.Lease] = ch
	}
	next, err := ch.place.Follow(u, ref, ch.tariff, c.w.charter.Clock().Seconds())
	switch {
	case err != nil:
		c.w.broken(n, "L5", "%v", err)
		return
	case ch.final:
		c.w.broken(n, "L5", "lease %s has an entry after its final one", u.Lease.Short())
	case u.Terms != ch.terms:
		c.w.broken(n, "L5", "entry %d of lease %s is under other terms", u.Seq, u.Lease.Short())
	}
	if u.Status == ledger.StatusUnattended {
		if ch.unattended+1 == u.First && !n.crooked() && c.w.now-n.host.lastDown > 5*minute {
			c.w.broken(n, "L7", "lease %s ran through two minutes that nobody attended, up to %d", u.Lease.Short(), u.First)
		}
		ch.unattended = u.First
	}
	ch.place, ch.final = next, u.Final
	c.entries[entryKey{u.Lease, u.Seq}] = owed{ref, next.Meter.Owed()}
	c.count(u)
	c.claims.used(n, u, next.Meter.Owed())
	if u.Status == ledger.StatusRunning && u.Billable != 0 {
		for _, g := range u.GPUs {
			k := gpuMinute{g, u.First}
			if other, twice := c.ran[k]; twice {
				c.w.broken(n, "L3", "minute %d of %s is billed to leases %s and %s", u.First, g, other.Short(), u.Lease.Short())
			}
			c.ran[k] = u.Lease
		}
	}
	c.truth(n, n, u)
}

func (c *checker) count(u ledger.Usage) {
	switch u.Basis {
	case ledger.BasisMandate:
		c.w.stats.Mandated += u.Minutes()
	case ledger.BasisStorage:
		c.w.stats.Kept += u.Minutes()
	}
	c.w.stats.Billed += u.Minutes()
	c.w.stats.Free += int64(u.Count) - u.Minutes()
	c.w.stats.Minutes[u.Status.String()] += int64(u.Count)
}

// truth compares an entry with what the machine of its host knows.
func (c *checker) truth(n, at *node, u ledger.Usage) {
	if u.Billable == 0 {
		return
	}
	clock := c.w.charter.Clock()
	switch u.Status {
	case ledger.StatusRunning, ledger.StatusZero, ledger.StatusMinimum:
		r := c.w.runs[u.Start]
		from, to := clock.Tick(u.First), clock.Tick(u.First+1)
		switch {
		case r == nil || r.lease != u.Lease:
			c.w.broken(n, "L7", "entry %d of lease %s bills a start that never was", u.Seq, u.Lease.Short())
		case u.Status == ledger.StatusMinimum:
			if r.started >= to {
				c.w.broken(n, "L7", "entry %d of lease %s bills a minimum before the start", u.Seq, u.Lease.Short())
			}
		case r.started > from || r.finished != 0 && r.finished < to || r.term != 0 && r.term < to:
			c.w.broken(n, "L7", "entry %d of lease %s bills minute %d (%v to %v); its pod ran from %v to %v, SIGTERM %v", u.Seq, u.Lease.Short(), u.First,
				from, to, r.started, r.finished, r.term)
		}
	}
}

// accepted checks what a consumer takes from its host.
func (c *checker) accepted(n *node, r step.Row) {
	u, ref, ok := object[ledger.Usage](c, n, r)
	if !ok {
		return
	}
	if e, ok := c.entries[entryKey{u.Lease, u.Seq}]; !ok || e.ref != ref {
		c.w.broken(n, "L5", "entry %d of lease %s is not what its host has", u.Seq, u.Lease.Short())
	}
	c.truth(n, c.w.byAddr[u.Host], u)
	c.claims.accepted(n, u)
}

// signed checks a voucher.
func (c *checker) signed(n *node, r step.Row) {
	v, _, ok := object[ledger.Voucher](c, n, r)
	if !ok {
		return
	}
	if v.By != n.addr { // a principal's copy of what its attendant signed
		return
	}
	e, ok := c.entries[entryKey{v.Lease, v.Seq}]
	switch {
	case !ok || e.ref != v.Usage || e.total != v.Total:
		c.w.broken(n, "L4", "a voucher of %s for entry %d of lease %s, which owes %s", v.Total.Text(), v.Seq, v.Lease.Short(), e.total.Text())
	case v.Total < c.vouched[v.Reservation]:
		c.w.broken(n, "L4", "a voucher of %s after one of %s", v.Total.Text(), c.vouched[v.Reservation].Text())
	}
	c.vouched[v.Reservation] = v.Total
	c.claims.paid(n, v)
}

// killed checks M4 when a pod gets SIGKILL.
func (c *checker) killed(n *node, k *container) {
	least := 5 * member.Second
	if c.outbid[k.lease] {
		least = max(least, c.grace[n.addr])
	}
	switch {
	case k.term == 0:
		c.w.broken(n, "M4", "the pod of lease %s was killed without a SIGTERM before", k.lease.Short())
	case k.killed-k.term < least:
		c.w.broken(n, "M4", "the pod of lease %s was killed %d ms after its SIGTERM; its grace is %d ms", k.lease.Short(), k.killed-k.term, least)
	}
}

// full checks everything that is too dear to be checked after each step.
func (c *checker) full() {
	c.journals()
	c.claims.minute()
	for _, n := range c.w.nodes {
		if !n.up {
			continue
		}
		if err := n.core.Operator().Audit(); err != nil {
			c.w.broken(n, "L1-L4", "%v", err)
		}
		if n.host == nil {
			continue
		}
		if err := n.core.Host().Table().Audit(); err != nil {
			c.w.broken(n, "M1-M3", "%v", err)
		}
	}
}

// offersKnown checks N2 on gossip: what a host had published a minute ago is known to everybody.
func (c *checker) offersKnown() {
	for _, h := range c.w.nodes {
		f, ok := h.core.Observer().Offer(h.addr)
		if h.host == nil || !ok || h.crooked() {
			continue
		}
		for _, n := range c.w.nodes {
			if g, ok := n.core.Observer().Offer(h.addr); !n.crooked() && (!ok || g.Seq < f.Seq) && f.At < h.clock()-minute && f.Live(h.clock()) {
				c.w.broken(n, "N2", "%s does not know offer %d of %s (but %d), %v after it was published", n.name, f.Seq, h.name, g.Seq, (h.clock() - f.At).Span())
			}
		}
	}
}

// ended checks N2 on leases, and L7 on what hosts are left with, once all were told to end.
func (c *checker) ended() {
	for _, n := range c.w.nodes {
		if c.w.failure != nil {
			return
		}
		if n.crooked() {
			continue
		}
		if n.host != nil {
			for _, t := range n.core.Host().Tallies(c.w.charter.Clock().Seconds()) {
				c.endedOne(n, t, c.closed(t.Lease) || c.crooked(t.Lease))
			}
			continue
		}
		if left := n.core.Consumer().Unfinished(); len(left) > 0 && c.w.failure == nil {
			// A Close takes longer, and the last receipt is asked for less and less often.
			left = slices.DeleteFunc(left, func(s string) bool { return strings.HasPrefix(s, "order") || strings.Contains(s, "final true") })
			if len(c.w.rogues) > 0 {
				left = nil // who rents of a cheat may have to wait for the bank
			}
			if len(left) > 0 {
				c.w.broken(n, "N2", "not finished: %s", strings.Join(left, "; "))
			}
		}
	}
}

func (c *checker) endedOne(n *node, t host.Tally, closed bool) {
	switch {
	case !t.Done && closed:
		// The host hears of it when it next asks the bank.
	case t.State != market.StateEnded || !t.Done:
		c.w.broken(n, "N2", "lease %s is %v (%v), settled for good: %v; owed %s, vouched %s, settled %s", t.Lease.Short(), t.State, t.Reason, t.Done,
			t.Owed.Text(), t.Vouched.Text(), t.Settled.Text())
	case c.crooked(t.Lease):
		if m, tooMany := c.claims.unpaid(t); tooMany {
			c.w.broken(n, "L7", "the host of lease %s is left with %d billed minutes that nobody pays; %d of all no witness saw", t.Lease.Short(), m, c.claims.dark(c.claims.lives[t.Lease]))
		}
	case t.Owed-t.Settled > t.Minute:
		c.w.broken(n, "L7", "the host of lease %s is owed %s and was paid %s; a minute costs %s", t.Lease.Short(), t.Owed.Text(), t.Settled.Text(), t.Minute.Text())
	}
}

// crooked reports whether one of the two sides of a lease cheats, or the word between them is kept back.
func (c *checker) crooked(lease wire.ID) bool {
	l := c.claims.lives[lease]
	return l != nil && (l.host.crooked() || l.consumer.crooked() || l.host.rogue != nil && l.host.rogue.odd[lease])
}

// closed reports whether the consumer of a lease has closed it at the bank, because its host could not be reached.
func (c *checker) closed(lease wire.ID) bool {
	op := c.w.nodes[0]
	if !op.up {
		return false
	}
	h, ok := op.core.Operator().Bank().HoldOf(lease)
	return ok && h.CloseAt != 0
}

// released checks N2 on money and machines at the very end.
func (c *checker) released() {
	for _, n := range c.w.nodes {
		if c.w.failure != nil {
			return
		}
		if b := n.core.Operator().Bank(); b != nil {
			if open := b.Open(); len(open) > 0 {
				h, _ := b.Hold(open[0])
				c.w.broken(n, "N2", "%d reservations are still open, the first is %s of lease %s at %s, close at %v", len(open), h.Reservation.ID.Short(), h.Reservation.Lease.Short(), c.w.byAddr[h.Reservation.Host].name, h.CloseAt)
			}
		}
		if n.crooked() {
			continue
		}
		if left := n.core.Consumer().Unfinished(); len(left) > 0 {
			c.w.broken(n, "N2", "not finished: %s", strings.Join(left, "; "))
		}
		if n.host != nil {
			for _, t := range n.core.Host().Tallies(c.w.charter.Clock().Seconds()) {
				c.endedOne(n, t, false)
			}
			if left := n.host.leases(); len(left) > 0 {
				c.w.broken(n, "N2", "the engine still has something of lease %s", left[0].Short())
			}
			if t := n.core.Host().Table(); len(t.Tenants)+len(t.Holds) > 0 {
				c.w.broken(n, "N2", "the table still has %d tenants and %d holds", len(t.Tenants), len(t.Holds))
			}
		}
	}
}
