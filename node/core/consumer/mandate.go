package consumer

import (
	"bytes"
	"fmt"
	"slices"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// Away is what a lease may cost while this node does not sign for it.
type Away struct {
	Off  bool          `cbor:"1,keyasint" json:"off"`  // nothing: without this node the pod stops
	Most ledger.Amount `cbor:"2,keyasint" json:"most"` // since the last voucher; 0: a day of the lease
}

// Entrust gives a lease's host a mandate, another one, or revokes it. Answer: View.
type Entrust struct {
	Lease wire.ID
	Away  Away
}

// An Absence is what a lease's mandate says, for people.
type Absence struct {
	Most      ledger.Amount      `json:"most"`      // that minutes without this node may cost, since the last voucher
	Minutes   uint64             `json:"minutes"`   // that there may be, since the last voucher
	Witnesses []identity.Address `json:"witnesses"` // more than half must have seen the host
	Known     bool               `json:"known"`     // the host has it
	Refused   string             `json:"refused,omitempty"`
}

// trust is the mandates of a lease.
type trust struct {
	Most    ledger.Amount     `cbor:"1,keyasint"` // 0: a day
	Object  wire.Object       `cbor:"2,keyasint"` // the newest, a draft
	Mandate ledger.Mandate    `cbor:"3,keyasint"`
	Panel   reliability.Panel `cbor:"4,keyasint"`
	Held    uint64            `cbor:"5,keyasint"` // sequence of the highest that the host has
	Off     bool              `cbor:"6,keyasint"` // revoked, or refused by the host
	Refused string            `cbor:"7,keyasint"` // why the host does not take it
}

// mandateLife is for how many minutes a mandate is signed. It is renewed long before.
const mandateLife = 30 * 24 * member.HourMinutes

// day is the minutes that a mandate pays at most without a voucher.
const day = ledger.MaxUnattended

// entrust signs a lease's first mandate, or its next. A later one covers the minutes of an earlier too, but for those before an
// order that has ended it.
func (c *Consumer) entrust(ctx *step.Context, l *Lease, most ledger.Amount) {
	old := c.trusts.Get(l.ID)
	t := trust{Most: most, Panel: c.panel(ctx, l)}
	m := ledger.Mandate{
		Consumer: ctx.Self, Lease: l.ID, Seq: 1, Reservation: l.Reservation, From: max(ctx.Minute(), l.RunUntil+1), MaxUnattended: day, Quorum: 1,
		Revocable: true,
	}
	if old != nil {
		m.Seq, t.Held = old.Mandate.Seq+1, old.Held
		if !old.Off && old.Mandate.From > l.RunUntil {
			m.From = old.Mandate.From
		}
		if c.stands(ctx, l, old.Panel) {
			t.Panel = old.Panel
		}
	}
	m.Until, m.Extension = ctx.Minute()+mandateLife, t.Panel.Hash()
	m.MaxTotal = c.mostTotal(ctx, l, most)
	t.Mandate, t.Object = m, wire.Draft(m)
	ctx.Guard(chain("mandate", l.ID), m.Seq, t.Object)
	c.trusts.Put(l.ID, t)
	c.watch(l.ID).mandate = retry{}
}

// mostTotal is what the lease may owe at most with what is billed on a mandate that is signed now.
func (c *Consumer) mostTotal(ctx *step.Context, l *Lease, most ledger.Amount) ledger.Amount {
	terms := c.termsOf(l)
	if most == 0 {
		most = costOf(ctx, dearest(terms.Tariff), day)
	}
	total, err := l.Signed.Add(most)
	if err != nil {
		total = 1<<63 - 1
	}
	if terms.Budget > 0 {
		total = min(total, terms.Budget)
	}
	return total
}

// panel names witnesses for a lease: the bank that pays, and one other host, whom neither party can choose: that whose address
// hashes lowest with the lease's id.
func (c *Consumer) panel(ctx *step.Context, l *Lease) reliability.Panel {
	best, least := identity.Address{}, identity.Hash{}
	for _, o := range c.w.Listings(ctx.Now) {
		h := o.Offer.Host
		if h == best || !c.impartial(ctx, l, h) {
			continue
		}
		if d := identity.Keccak([]byte("souk/witness-of/1"), l.ID[:], h[:]); best.IsZero() || bytes.Compare(d[:], least[:]) < 0 {
			best, least = h, d
		}
	}
	if best.IsZero() {
		return reliability.NewPanel(l.Bank)
	}
	return reliability.NewPanel(l.Bank, best)
}

// impartial reports whether a member in good standing belongs to no party of a lease.
func (c *Consumer) impartial(ctx *step.Context, l *Lease, who identity.Address) bool {
	m, _, ok := c.w.Credential(who)
	host, _, _ := c.w.Credential(l.Host)
	own, _, _ := c.w.Credential(ctx.Self)
	if a, _, known := c.w.Credential(l.Attendant); known && (who == l.Attendant || m.Owner == a.Owner) {
		return false
	}
	return ok && who != l.Host && who != ctx.Self && who != l.Bank && !m.Kin(host) && !m.Kin(own) && c.w.Standing(who, ctx.Now) == nil
}

// stands reports whether all witnesses of a panel may still bear witness.
func (c *Consumer) stands(ctx *step.Context, l *Lease, p reliability.Panel) bool {
	return !slices.ContainsFunc(p, func(w identity.Address) bool { return w != l.Bank && !c.impartial(ctx, l, w) })
}

// tickMandate renews a mandate that is half used up, and gives the host the newest.
func (c *Consumer) tickMandate(ctx *step.Context, l *Lease, w *watch, wake *alarm) {
	t := c.trusts.Get(l.ID)
	if t == nil || t.Off || !l.own() || l.State == market.StateEnded || l.Final || !l.Close.IsZero() {
		return
	}
	if l.Refused != nil {
		if l.Pending == nil { // what it does not pay it does not let witnesses bring about either
			c.issue(ctx, l, market.CommandRevoke, false)
			t.Off = true
			c.trusts.Touch(l.ID)
		}
		return
	}
	ended := t.Mandate.From <= l.RunUntil
	if ended && (l.Desire != market.DesireRun || l.Pending != nil || l.StopMinute != 0) {
		return // the next start gets another; until then this one tells what the minutes before the order rest on
	}
	if !w.caught {
		return // what rests on the one that the host has is followed first
	}
	full := c.mostTotal(ctx, l, t.Most)
	if ended || t.Mandate.MaxTotal-l.Signed < (full-l.Signed)/2 || t.Mandate.Until < ctx.Minute()+mandateLife/2 || !c.stands(ctx, l, t.Panel) {
		c.entrust(ctx, l, t.Most)
		t = c.trusts.Get(l.ID)
	}
	if t.Held >= t.Mandate.Seq || !w.mandate.due(ctx.Now, wake) {
		return
	}
	w.mandate.busy = true
	lease, seq := l.ID, t.Mandate.Seq
	c.ask(ctx, toHost(l.Host, step.OpMandate, step.PanelBody{Panel: t.Panel}, t.Object), func(ctx *step.Context, r step.Response) {
		t, l := c.trusts.Get(lease), c.leases.Get(lease)
		w.mandate.failed(ctx.Now, hurry, 4*ctx.Clock.Slot)
		if t == nil || l == nil {
			return
		}
		switch {
		case r.Err == nil:
			t.Held = max(t.Held, seq)
			c.trusts.Touch(lease)
		case no(r.Err) && t.Mandate.Seq == seq && r.Err.Refusal.Code != step.RefuseStale:
			t.Off, t.Refused = true, r.Err.Refusal.Reason
			c.trusts.Touch(lease)
			ctx.Notify("mandate.refused", lease, fmt.Sprintf("%s: %s takes no mandate: %s; without this node the pod stops", c.nameOf(l), c.hostName(l.Host), t.Refused))
		}
	})
}

// setTrust gives, changes or revokes a mandate as the user says.
func (c *Consumer) setTrust(ctx *step.Context, id uint64, m Entrust) {
	l := c.leases.Get(m.Lease)
	switch {
	case l == nil:
		ctx.Answer(id, nil, step.Fail(step.ProblemNotFound, "'souk ps -a' lists them", "no lease %s", m.Lease.Short()))
		return
	case m.Away.Most < 0:
		ctx.Answer(id, nil, step.Fail(step.ProblemUsage, "", "the most that a mandate may cost is negative"))
		return
	}
	t := c.trusts.Get(l.ID)
	if m.Away.Off && (t == nil || t.Off) {
		c.show(ctx, id, m.Lease)
		return
	}
	if _, p := c.needless(l, market.CommandRevoke); p != nil {
		ctx.Answer(id, nil, p)
		return
	}
	switch {
	case m.Away.Off:
		c.issue(ctx, l, market.CommandRevoke, false)
	case l.Refused != nil:
		ctx.Answer(id, nil, step.Fail(step.ProblemVerify, "'souk bill show' tells what was wrong", "this node refused to pay this pod's host on (%s)", l.Refused.Code))
		return
	default:
		c.entrust(ctx, l, m.Away.Most)
	}
	c.show(ctx, id, m.Lease)
}

// revoked ends what mandates pay with a minute.
func (c *Consumer) revoked(ctx *step.Context, l *Lease, last member.Minute) {
	c.endTrust(l, last)
	if t := c.trusts.Get(l.ID); t != nil && !t.Off {
		t.Off = true
		c.trusts.Touch(l.ID)
		ctx.Notify("mandate.revoked", l.ID, c.nameOf(l)+": the mandate is revoked; without this node the pod stops")
	}
}

// endTrust notes that no later minute is billed on a mandate signed until now. The earliest stands until the next start.
func (c *Consumer) endTrust(l *Lease, last member.Minute) {
	if t := c.trusts.Get(l.ID); l.RunUntil == 0 || t != nil && t.Mandate.From > l.RunUntil {
		l.RunUntil = last
		c.leases.Touch(l.ID)
	}
}

// lodged reports whether the bank has had its say on a lease's pending order.
func (w *watch) lodged(l *Lease) bool { return l.LodgedSeq == l.Pending.Seq || w.vain == l.Pending.Seq }

// lodge leaves an order with the bank whose host does not answer, or will not have it: the bank passes it on, and pays no minute
// after it on a mandate that it ends. Users who wait are told once the bank has answered, or has not.
func (c *Consumer) lodge(ctx *step.Context, l *Lease, w *watch) {
	p := l.Pending
	tell := func(ctx *step.Context, l *Lease) {
		for _, u := range w.waiters {
			c.later(ctx, l, u)
		}
		w.waiters = nil
	}
	if p.Order == market.CommandStart || w.lodged(l) || w.lodging.busy || ctx.Now < w.lodging.next {
		if !w.lodging.busy {
			tell(ctx, l)
		}
		return
	}
	w.lodging.busy = true
	lease, seq, order := l.ID, p.Seq, p.Order
	c.ask(ctx, toBank(l.Bank, step.OpLodge, nil, p.Object).within(shortly), func(ctx *step.Context, r step.Response) {
		l := c.leases.Get(lease)
		if l == nil {
			return
		}
		w.lodging.failed(ctx.Now, member.Second, 4*ctx.Clock.Slot)
		if r.Err != nil && no(r.Err) {
			w.vain = seq
		}
		v, ok := step.Find[market.Lodged](r.Objects)
		if s := v.Value(); r.Err == nil && ok && s.Operator == l.Bank && s.Lease == lease && s.Seq == seq && seq > l.LodgedSeq {
			l.Lodged, l.LodgedSeq = v.Object(), seq
			c.endTrust(l, s.Minute)
			if order == market.CommandRemove && l.KeepUntil == 0 {
				l.KeepUntil = s.Minute
			}
			c.leases.Touch(lease)
			ctx.Notify("lease.lodged", lease, fmt.Sprintf("%s: %s does not carry it out; the bank has the order (%s) and pays nothing on a mandate after this minute",
				c.nameOf(l), c.hostName(l.Host), order))
		}
		tell(ctx, l)
	})
}

// lodgedNote tells a user that the bank has the order under way.
func (l *Lease) lodgedNote() string {
	if l.Pending == nil || l.LodgedSeq != l.Pending.Seq {
		return ""
	}
	return "; the bank has it too, and pays nothing more without this node's voucher"
}

// missing is how many answers in a row may lack the receipts that an entry rests on, before this node takes it that there are none.
const missing = 3

// witnessed checks minutes that are billed on the word of witnesses: those of a running pod against this node's mandate, those
// of a stopped one as the terms have it.
func (c *Consumer) witnessed(ctx *step.Context, l *Lease, u ledger.Usage, owed ledger.Amount, e evidence) (why *Objection, later bool) {
	panel := reliability.NewPanel(l.Bank)
	if u.Basis == ledger.BasisMandate {
		t := c.trusts.Get(l.ID)
		if t == nil {
			return object(CodeMandate, "entry %d rests on a mandate; none was given", u.Seq).asOrdered(), false
		}
		if why := c.mandated(l, u, t.Mandate, owed); why != nil {
			return why, false
		}
		panel = t.Panel
	}
	if u.Last() >= e.end { // its receipts come with the answer to a later question
		return nil, true
	}
	seen := reliability.NewTestimony(l.Host, panel)
	for _, r := range e.receipts {
		seen.Add(r.Value(), r.Ref())
	}
	bare := member.Minute(0)
	for i := range member.Minute(u.Count) {
		m := u.First + i
		if u.Billable>>i&1 == 1 && u.Basis == ledger.BasisStorage && l.KeepUntil > 0 && m > l.KeepUntil {
			return object(CodeStopped, "entry %d bills storage of minute %d; the bank had the order to remove it in %d", u.Seq, m, l.KeepUntil), false
		}
		if own := u.Basis == ledger.BasisStorage && (!l.attends() || l.Seen.Has(m)); u.Billable>>i&1 == 1 && !own && !seen.Has(m) {
			bare = m
		}
	}
	if bare == 0 && seen.Root(u.First, u.Billable) == u.Receipts {
		c.keepReceipts(ctx, l, u, panel, e.receipts)
		return nil, false
	}
	if w := c.watch(l.ID); w.lacking < missing {
		w.lacking++
		w.alive = min(w.alive, ctx.Now+hurry)
		return nil, true
	}
	if bare == 0 {
		return object(CodeMandate, "entry %d names other receipts than the host shows", u.Seq), false
	}
	return object(CodeMandate, "entry %d bills minute %d on receipts of %d witnesses, and the host does not show those of more than half", u.Seq, bare, len(panel)), false
}

// mandated checks a running minute that no voucher of this node could pay for in time.
func (c *Consumer) mandated(l *Lease, u ledger.Usage, m ledger.Mandate, owed ledger.Amount) *Objection {
	vouched := l.SignedAt
	if vouched == 0 {
		vouched = l.First - 1
	}
	r := l.ran(u.Start)
	switch {
	case !m.Covers(u.First, vouched, owed):
		return object(CodeMandate, "entry %d bills minute %d, with which %s is owed: that is more than the mandate allows", u.Seq, u.First, owed.Text()).asOrdered()
	case l.RunUntil > 0 && u.First > l.RunUntil && m.From <= l.RunUntil, l.StopMinute > 0 && u.First > l.StopMinute:
		return object(CodeStopped, "entry %d bills minute %d on a mandate that had ended before", u.Seq, u.First).asOrdered()
	case r != nil && l.otherGPUs(r, u):
		return object(CodeTerms, "entry %d is with another number of GPUs than the pod was started with", u.Seq).asOrdered()
	case r != nil && l.before(u.Start, l.Place.Billed.Start):
		return object(CodeStatus, "entry %d bills a start from before the last that was billed", u.Seq)
	}
	return nil
}

// provable is the most that receipts can prove a lease to owe now: what its mandate allows, or storage since the last voucher.
func (c *Consumer) provable(ctx *step.Context, l *Lease) ledger.Amount {
	since := max(l.SignedAt, l.First)
	most := costOf(ctx, c.termsOf(l).Tariff.VolumeStopped, uint64(max(ctx.Minute()+1, since)-since))
	if most += l.Signed; most < 0 { // beyond all numbers
		most = 1<<63 - 1
	}
	if t := c.trusts.Get(l.ID); t != nil {
		most = max(most, t.Mandate.MaxTotal)
	}
	return most
}

// keepReceipts keeps what an entry rests on, for the bill.
func (c *Consumer) keepReceipts(ctx *step.Context, l *Lease, u ledger.Usage, panel reliability.Panel, receipts []wire.Verified[reliability.Receipt]) {
	for _, r := range receipts {
		v := r.Value()
		if v.Host == l.Host && panel.Has(v.Witness) && v.Minute >= u.First && v.Minute <= u.Last() && u.Billable>>(v.Minute-u.First)&1 == 1 {
			ctx.Put(table.Key(table.LeaseReceipt, l.ID[:], table.Uint64(uint64(v.Minute)), v.Witness[:]), r.Object())
		}
	}
}

// absence is what a lease's mandate says; nil where there is none.
func (c *Consumer) absence(l *Lease) *Absence {
	t := c.trusts.Get(l.ID)
	switch {
	case t == nil || t.Off && t.Refused == "" || l.State == market.StateEnded:
		return nil
	case t.Off:
		return &Absence{Refused: t.Refused}
	}
	return &Absence{Most: max(0, t.Mandate.MaxTotal-l.Signed), Minutes: t.Mandate.MaxUnattended, Witnesses: t.Panel, Known: t.Held >= t.Mandate.Seq}
}
