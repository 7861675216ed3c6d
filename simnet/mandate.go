package simnet

import (
	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// mostUnseen is how many minutes of a day a pod runs on under a mandate that nobody pays and too few witnesses saw. The one that
// is too many has run too, before its host knows.
const mostUnseen = 60

// orderTakes is in how many minutes after an order to stop the bank has it or another that ends the mandate, where the host
// does not carry it out. It is longest where the host says that it has: its consumer then sees a minute billed that should not be.
const orderTakes = 4

// A sighting is that a witness saw a host in a minute.
type sighting struct {
	witness, host identity.Address
	minute        member.Minute
}

// A given is a mandate that has left its consumer, and the witnesses that it names.
type given struct {
	ledger.Mandate
	panel reliability.Panel
}

// seen reports whether more than half of a mandate's witnesses saw a host in a minute, by the sights in s.
func (g given) seen(s map[sighting]bool, host identity.Address, m member.Minute) bool {
	n := 0
	for _, w := range g.panel {
		if s[sighting{w, host, m}] {
			n++
		}
	}
	return 2*n > len(g.panel)
}

// pays reports whether one of a lease's mandates lets minute m be paid without its consumer, by receipts that were signed, and
// no order that the bank had by then has ended it. Where nothing is lost the bank has an order soon after it was given.
func (c *claims) pays(l *life, m member.Minute) bool {
	if c.w.opt.Faults == (Faults{}) && !l.consumer.crooked() && l.stopped(m-orderTakes, c.w.charter.Clock(), 30*member.Second) != 0 {
		return false
	}
	for _, g := range l.mandates {
		if m < g.From || m > g.Until || !g.seen(c.signed, l.host.addr, m) {
			continue
		}
		ended := false
		for _, at := range l.lodged {
			ended = ended || at >= g.From && m > at
		}
		if !ended {
			return true
		}
	}
	return false
}

// bears takes what a witness gives a host, or a consumer, as it leaves.
func (c *claims) bears(s *step.Send) {
	switch op := step.Op(s.Frame.Op); {
	case len(s.Frame.Objects) == 0:
	case s.Proto == step.ProtoWitness && op == step.OpWitnessed:
		if r, err := wire.Decode[reliability.Receipt](s.Frame.Objects[0]); err == nil {
			c.signed[sighting{r.Witness, r.Host, r.Minute}] = true
		}
	case s.Proto == step.ProtoLease && op == step.OpMandate:
		m, err := wire.Decode[ledger.Mandate](s.Frame.Objects[0])
		b, no := step.Body[step.PanelBody](s.Frame.Body)
		l := c.lives[m.Lease]
		if err != nil || no != nil || l == nil {
			return
		}
		if n := len(l.mandates); n == 0 || l.mandates[n-1].Seq < m.Seq {
			l.mandates = append(l.mandates, given{m, b.Panel})
		}
	}
}

// hears takes a receipt that a host has made durable, which it does in time or not at all.
func (c *claims) hears(n *node, r step.Row) {
	if !c.on() {
		return
	}
	w, m := identity.Address(table.Field(r.Key, 0)), member.Minute(table.Number(table.Field(r.Key, 1)))
	c.held[sighting{w, n.addr, m}] = true
}

// lodges takes an order that the bank has answered for, in a minute of the bank's clock.
func (c *claims) lodges(f wire.Frame, at member.Minute) {
	if !c.on() || len(f.Objects) == 0 {
		return
	}
	m, err := wire.Decode[market.Command](f.Objects[0])
	if l := c.lives[m.Lease]; err == nil && l != nil {
		l.lodged = append(l.lodged, at)
	}
}

// charged checks what the bank has paid of a lease beyond its consumer's highest voucher: minutes that a mandate pays, up to its
// MaxTotal and for a day, and storage.
func (c *claims) charged(n *node, h ledger.Hold) {
	l, ch := c.lives[h.Reservation.Lease], c.w.check.chains[h.Reservation.Lease]
	if !c.on() || l == nil || ch == nil || h.Settled <= h.Voucher.Total || h.Settled == l.charged {
		return
	}
	l.charged = h.Settled
	vouched := h.Voucher.Minute
	if vouched == 0 {
		vouched = l.first - 1
	}
	var most ledger.Amount
	for _, g := range l.mandates {
		most = max(most, g.MaxTotal)
	}
	run, stored, numerator := 0, int64(0), int64(h.Voucher.Total)*3600+3599
	seconds := c.w.charter.Clock().Seconds()
	for m := vouched + 1; m < ch.place.Next; m++ {
		u := l.closed[m]
		rate, err := ch.tariff.Rate(u.Status)
		if err != nil || u.Billable>>(m-u.First)&1 == 0 {
			continue
		}
		switch u.Status {
		case ledger.StatusStopped:
			stored += int64(rate) * seconds
		case ledger.StatusRunning, ledger.StatusZero:
			if m-vouched <= ledger.MaxUnattended && c.pays(l, m) {
				run++
				numerator += int64(rate) * seconds
			}
		}
	}
	store := ledger.Amount(stored/3600 + 1)
	limit := ledger.Amount((numerator + stored) / 3600)
	if h.Settled > limit {
		c.w.broken(n, "L4", "lease %s has settled %s: %s are vouched for, and of the minutes since %d may be paid on a mandate, which makes %s", h.Reservation.Lease.Short(),
			h.Settled.Text(), h.Voucher.Total.Text(), run, limit.Text())
	}
	if limit := max(h.Voucher.Total, most) + store; h.Settled > limit {
		c.w.broken(n, "L4", "lease %s has settled %s; its mandates allow %s", h.Reservation.Lease.Short(), h.Settled.Text(), limit.Text())
	}
}

// unseen takes a minute that nobody attended and too few witnesses saw.
func (c *claims) unseen(n *node, l *life, u ledger.Usage) {
	day := 0
	for m := range member.Minute(ledger.MaxUnattended) {
		if l.closed[u.First-m].Status == ledger.StatusUnobserved {
			day++
		}
	}
	if day > mostUnseen+1 && !n.crooked() {
		c.w.broken(n, "L7", "the pod of lease %s has run through %d minutes of a day that nobody attended and no witness saw", u.Lease.Short(), day)
	}
}

// dark is how many billed running minutes of a lease its host has no receipts for, though there was a mandate: the bank pays them only
// with the consumer's voucher. More of a day than may be do not count.
func (c *claims) dark(l *life) int {
	n := map[member.Minute]int{}
	for _, u := range l.closed {
		if u.Billable == 0 || u.Status != ledger.StatusRunning && u.Status != ledger.StatusZero {
			continue
		}
		mandated, seen := false, false
		for _, g := range l.mandates {
			mandated = mandated || u.First >= g.From
			seen = seen || g.seen(c.held, l.host.addr, u.First)
		}
		if mandated && !seen {
			n[(u.First-l.first)/ledger.MaxUnattended]++
		}
	}
	all := 0
	for _, k := range n {
		all += min(k, mostUnseen)
	}
	return all
}
