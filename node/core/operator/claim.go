package operator

import (
	"slices"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// claim pays a host minutes that its consumer has not signed for, on the word of witnesses.
func (o *Operator) claim(ctx *step.Context, r step.Request) ([]wire.Object, step.ClaimAnswer, error) {
	var none step.ClaimAnswer
	body, err := step.Body[step.ClaimBody](r.Body)
	if err != nil {
		return nil, none, step.Refuse(step.RefuseBadRequest, "%v", err)
	}
	terms, ok := step.Find[market.Terms](r.Objects)
	cert, ok2 := step.Find[market.Cert](r.Objects)
	t := terms.Value()
	switch {
	case !ok || !ok2:
		return nil, none, step.Refuse(step.RefuseBadRequest, "a claim wants the lease's terms and certificate")
	case cert.Value().Terms != terms.Ref() || cert.Value().Lease != t.Lease || cert.Value().Host != t.Host:
		return nil, none, step.Refuse(step.RefuseBadRequest, "the certificate is not of these terms")
	}
	if err := from(r, t.Host); err != nil {
		return nil, none, err
	}
	h, ok := o.bank.Hold(t.Reservation)
	if v := h.Reservation; !ok || v.Lease != t.Lease || v.Host != t.Host || v.Consumer != t.Consumer || v.By != t.By {
		return nil, none, step.Refuse(step.RefuseUnknown, "no reservation for a lease on these terms")
	}
	c := ledger.Claim{
		Reservation: t.Reservation, Lease: t.Lease, Host: t.Host, Tariff: t.Tariff, Voucher: voucher(r),
		Genesis: ledger.Place{Head: cert.Ref(), Next: cert.Value().Minute},
	}
	for _, u := range step.FindAll[ledger.Usage](r.Objects) {
		e := u.Value()
		if e.Host != t.Host || e.Lease != t.Lease || e.Terms != terms.Ref() {
			return nil, none, step.Refuse(step.RefuseBadRequest, "entry %d is of another lease", e.Seq)
		}
		if c.Voucher != nil && e.Seq == c.Voucher.Seq {
			c.Paid = &e
			continue
		}
		if e.Last() < body.Until {
			c.Entries = append(c.Entries, e)
		}
	}
	if c.Proof, err = o.proof(ctx, r, t, body.Panel); err != nil {
		return nil, none, err
	}
	p, _ := o.world.Policy()
	s, chain, err := o.bank.Claim(p, c, ctx.Now)
	if err != nil {
		return nil, none, err
	}
	objects, err := o.standing(s, nil)
	return objects, step.ClaimAnswer{Seq: chain.Place.Seq, Next: chain.Place.Next, Proven: int64(chain.Amount())}, err
}

// proof is what receipts and orders lodged here say of a claim. The bank alone speaks for storage.
func (o *Operator) proof(ctx *step.Context, r step.Request, t market.Terms, panel reliability.Panel) (ledger.Proof, error) {
	kept := reliability.NewTestimony(t.Host, reliability.NewPanel(ctx.Self))
	seen := reliability.NewTestimony(t.Host, panel)
	p := ledger.Proof{Seen: seen.Has, Kept: kept.Has}
	if m, ok := step.Find[ledger.Mandate](r.Objects); ok {
		if err := panel.Validate(); err != nil || panel.Hash() != m.Value().Extension {
			return p, step.Refuse(step.RefuseBadRequest, "the witnesses are not those that the mandate names")
		}
		if !panel.Has(ctx.Self) {
			return p, step.Refuse(step.RefuseMoney, "this bank pays on no mandate of which it is no witness")
		}
		p.Mandate = m.Value()
	}
	for _, v := range step.FindAll[reliability.Receipt](r.Objects) {
		kept.Add(v.Value(), v.Ref())
		seen.Add(v.Value(), v.Ref())
	}
	if l := o.lodged.Get(t.Lease); l != nil {
		p.RunUntil, p.KeepUntil = l.runUntil(p.Mandate.From), l.KeepUntil
	}
	return p, nil
}

// lodged is what consumers have ordered of a lease by way of this bank.
type lodged struct {
	Command   wire.Object      `cbor:"1,keyasint"` // the newest, with the consumer's signature
	Receipt   market.Lodged    `cbor:"2,keyasint"` // for it
	Host      identity.Address `cbor:"3,keyasint"`
	Given     bool             `cbor:"4,keyasint"` // the host has it
	Orders    []member.Minute  `cbor:"5,keyasint"` // in which one came: each ends the mandates signed until then
	KeepUntil member.Minute    `cbor:"6,keyasint"` // in which the first came that ends the lease; 0: none
}

// mostOrders is how many orders of one lease are remembered.
const mostOrders = 64

// runUntil is the last minute that a mandate pays which was signed in minute from; 0: it was not ended.
func (l *lodged) runUntil(from member.Minute) member.Minute {
	for _, m := range l.Orders {
		if m >= from {
			return m
		}
	}
	return 0
}

// lodge keeps an order for a host that does not answer its consumer. What it ends, ends for the bank with this minute.
func (o *Operator) lodge(ctx *step.Context, r step.Request) (market.Lodged, error) {
	v, ok := step.Find[market.Command](r.Objects)
	c := v.Value()
	if !ok {
		return market.Lodged{}, step.Refuse(step.RefuseBadRequest, "no command in it")
	}
	if err := from(r, c.Consumer); err != nil {
		return market.Lodged{}, err
	}
	h, ok := o.bank.HoldOf(c.Lease)
	switch l := o.lodged.Get(c.Lease); {
	case !ok || h.Reservation.Consumer != c.Consumer || h.Reservation.Host != c.Host:
		return market.Lodged{}, step.Refuse(step.RefuseUnknown, "no reservation for such a lease")
	case c.Order == market.CommandStart:
		return market.Lodged{}, step.Refuse(step.RefuseBadRequest, "a start waits for its host")
	case l != nil && l.Receipt.Seq == c.Seq && l.Receipt.Command == v.Ref():
		return l.Receipt, nil
	case l != nil && l.Receipt.Seq >= c.Seq:
		return market.Lodged{}, step.Refuse(step.RefuseStale, "order %d of this lease is lodged already", l.Receipt.Seq)
	case !h.Open():
		return market.Lodged{}, step.Refuse(step.RefuseState, "the lease is settled")
	}
	l := lodged{}
	if old := o.lodged.Get(c.Lease); old != nil {
		l = *old
	}
	l.Command, l.Host, l.Given = v.Object(), c.Host, false
	l.Receipt = market.Lodged{Operator: ctx.Self, Lease: c.Lease, Seq: c.Seq, Command: v.Ref(), Minute: ctx.Minute(), At: ctx.Now}
	if l.Orders = append(slices.Clone(l.Orders), ctx.Minute()); len(l.Orders) > mostOrders {
		l.Orders = l.Orders[1:]
	}
	if l.KeepUntil == 0 && c.Order == market.CommandRemove {
		l.KeepUntil = ctx.Minute()
	}
	ctx.Guard(chain("lodged", c.Lease[:]), c.Seq, wire.Draft(l.Receipt))
	o.deliver(ctx, c.Lease, o.lodged.Put(c.Lease, l))
	return l.Receipt, nil
}

// deliver passes an order on to its host, with the minute in which it came: that ends the mandate for both.
func (o *Operator) deliver(ctx *step.Context, lease wire.ID, l *lodged) {
	seq := l.Receipt.Seq
	o.awaiting[ctx.Send(l.Host, step.ProtoLease, step.OpCommand, nil, l.Command, wire.Draft(l.Receipt))] = func(ctx *step.Context, r step.Response) {
		l := o.lodged.Get(lease)
		if l == nil || l.Receipt.Seq != seq || r.Err != nil && undecided(r.Err.Refusal) {
			return
		}
		l.Given = true // what it refuses is between the two
		o.lodged.Touch(lease)
	}
}

// undecided reports whether a host has not said yes or no to an order.
func undecided(no *step.Refusal) bool {
	if no == nil {
		return true
	}
	switch no.Code {
	case step.RefuseBusy, step.RefuseInternal, step.RefuseClock, step.RefuseQuarantine, step.RefuseDisk:
		return true
	}
	return false
}

// tickLodged passes on, once a minute, what hosts do not have yet, and forgets what is settled.
func (o *Operator) tickLodged(ctx *step.Context) {
	for _, lease := range o.lodged.Keys() {
		l := o.lodged.Get(lease)
		if h, ok := o.bank.HoldOf(lease); !ok || !h.Open() {
			o.lodged.Delete(lease)
		} else if !l.Given {
			o.deliver(ctx, lease, l)
		}
	}
}

// Withholds reports whether this node bears no witness for a host: an order lodged in an earlier minute is still on its way.
func (o *Operator) Withholds(host identity.Address, now member.Minute) bool {
	for _, lease := range o.lodged.Keys() {
		if l := o.lodged.Get(lease); l.Host == host && !l.Given && l.Receipt.Minute < now {
			return true
		}
	}
	return false
}
