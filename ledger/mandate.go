package ledger

import (
	"errors"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Mandate pays minutes that the consumer cannot attend, on the word of more than half of the panel that it names. One with
// a higher sequence replaces it.
type Mandate struct {
	Consumer      identity.Address `cbor:"1,keyasint"`
	Lease         wire.ID          `cbor:"2,keyasint"`
	Seq           uint64           `cbor:"3,keyasint"`
	Reservation   wire.ID          `cbor:"4,keyasint"`
	From          member.Minute    `cbor:"5,keyasint"`
	Until         member.Minute    `cbor:"6,keyasint"`
	MaxTotal      Amount           `cbor:"7,keyasint"` // absolute, for the lease
	MaxUnattended uint64           `cbor:"8,keyasint"` // minutes since the last voucher
	Quorum        uint8            `cbor:"9,keyasint"` // 1: more than half of the drawn committee
	Attendant     identity.Address `cbor:"10,keyasint"`
	Revocable     bool             `cbor:"11,keyasint"`
	Extension     identity.Hash    `cbor:"12,keyasint"` // hash of the panel that it names
}

// Kind implements wire.Message.
func (m Mandate) Kind() wire.Kind { return wire.KindMandate }

// Signer is the consumer.
func (m Mandate) Signer() identity.Address { return m.Consumer }

// Validate checks shape.
func (m Mandate) Validate() error {
	switch {
	case m.Lease.IsZero() || m.Reservation.IsZero() || m.Seq == 0:
		return errors.New("mandate names no lease, reservation or sequence")
	case m.MaxTotal < 0:
		return ErrNegative
	case m.Until < m.From || m.Quorum != 1:
		return errors.New("mandate ends before it begins, or has an unknown quorum rule")
	}
	return nil
}

// MaxUnattended is how many minutes a mandate pays at most without a voucher in between: a day, whatever it says itself.
const MaxUnattended = 24 * member.HourMinutes

// Covers reports whether the mandate pays minute at, when vouched is the last minute that the consumer has signed for and
// owed what the lease owes with that minute.
func (m Mandate) Covers(at, vouched member.Minute, owed Amount) bool {
	return at >= m.From && at <= m.Until && owed <= m.MaxTotal && (at <= vouched || uint64(at-vouched) <= min(m.MaxUnattended, MaxUnattended))
}

// Typed implements wire.TypedMessage.
func (m Mandate) Typed() *wire.Struct {
	return wire.NewStruct("Mandate").
		Address("consumer", m.Consumer).Bytes16("lease", m.Lease).Uint64("sequence", m.Seq).
		Bytes16("reservation", m.Reservation).Uint64("from", uint64(m.From)).Uint64("until", uint64(m.Until)).
		Uint128("maxTotal", uint64(m.MaxTotal)).Uint64("maxUnattended", m.MaxUnattended).Uint64("quorum", uint64(m.Quorum)).
		Address("attendant", m.Attendant).Bool("revocable", m.Revocable).Bytes32("extension", m.Extension)
}

// A Proof is what lets usage entries be paid that no voucher names.
type Proof struct {
	Mandate   Mandate                    // zero where there is none: then it proves storage alone
	Seen      func(m member.Minute) bool // more than half of the mandate's panel say that the host was there
	Kept      func(m member.Minute) bool // and of those who speak for storage, which the terms themselves pay
	RunUntil  member.Minute              // the last minute in which a pod may run by the mandate; 0: no such order
	KeepUntil member.Minute              // and be stored
}

// Unvouched is how far a usage chain was followed beyond the consumer's last voucher, and what may be paid of it.
type Unvouched struct {
	Place     Place         `cbor:"1,keyasint"`
	Numerator int64         `cbor:"2,keyasint"` // of the entry that the voucher names, and of each minute since that is proven
	Vouched   member.Minute `cbor:"3,keyasint"` // last minute of that entry; the one before the chain begins where there is none
}

// From is where following begins: at the entry that a voucher names.
func (u Usage) From(ref identity.Hash) Unvouched {
	p := Place{Seq: u.Seq, Head: ref, Next: u.Last() + 1, Meter: Meter{u.Numerator}}
	switch u.Status {
	case StatusRunning, StatusZero, StatusMinimum:
		p.Billed = Billing{u.Start, u.Status == StatusMinimum}
	}
	return Unvouched{Place: p, Numerator: u.Numerator, Vouched: u.Last()}
}

// Amount is what may be paid.
func (c Unvouched) Amount() Amount { return Meter{c.Numerator}.Owed() }

// Follow takes the next entry of the chain, and counts those of its minutes that the proof holds for. Minutes of which it does
// not are left out: they wait for a voucher. A minimum always does. Errors: those of Place.Follow.
func (c Unvouched) Follow(u Usage, ref identity.Hash, t Tariff, slotSeconds int64, p Proof) (Unvouched, error) {
	place, err := c.Place.Follow(u, ref, t, slotSeconds)
	if err != nil {
		return c, err
	}
	rate, err := t.Rate(u.Status)
	if err != nil {
		return c, err
	}
	c.Place = place
	for i := range member.Minute(u.Count) {
		if u.Billable>>i&1 == 0 {
			continue
		}
		m, err := Meter{c.Numerator}.Add(rate, slotSeconds)
		if err != nil {
			return c, err
		}
		if p.holds(u.Status, u.First+i, c.Vouched, m.Owed()) {
			c.Numerator = m.Numerator
		}
	}
	return c, nil
}

// holds reports whether a billed minute is proven, with which so much is owed.
func (p Proof) holds(s Status, at, vouched member.Minute, owed Amount) bool {
	before := func(m member.Minute) bool { return m == 0 || at <= m }
	switch s {
	case StatusRunning, StatusZero:
		return !p.Mandate.Lease.IsZero() && before(p.RunUntil) && p.Mandate.Covers(at, vouched, owed) && p.Seen(at)
	case StatusStopped:
		return before(p.KeepUntil) && p.Kept(at)
	}
	return false
}

// A Claim is what a host shows its bank to be paid minutes without a voucher for them.
type Claim struct {
	Reservation wire.ID
	Lease       wire.ID
	Host        identity.Address
	Voucher     *Voucher // highest; nil where the consumer signed none
	Paid        *Usage   // entry that it names
	Genesis     Place    // of the chain, from its certificate
	Tariff      Tariff
	Entries     []Usage // that follow what the voucher, or the claim before, has covered
	Proof       Proof
}

// Claim settles minutes that the consumer has not signed for: those that a proof holds for, in the order of the chain. Entries
// that an earlier claim has covered may come again. It answers how far the chain is followed. A claim that proves no more than is paid
// gets the last receipt again.
func (b *Bank) Claim(p member.Policy, c Claim, now member.Time) (SettleReceipt, Unvouched, error) {
	var none SettleReceipt
	var nowhere Unvouched
	h, err := b.find(c.Reservation, c.Lease)
	switch {
	case err != nil:
		return none, nowhere, err
	case h.Reservation.Host != c.Host:
		return none, nowhere, refuse(CodeHost, "reservation %s is for another host", c.Reservation.Short())
	case c.Proof.Mandate.Lease != (wire.ID{}) && (c.Proof.Mandate.Reservation != c.Reservation || c.Proof.Mandate.Lease != c.Lease || c.Proof.Mandate.Consumer != h.Reservation.Consumer):
		return none, nowhere, refuse(CodeMismatch, "the mandate is for another lease")
	case !h.Open():
		return none, nowhere, refuse(CodeClosed, "reservation %s is released", c.Reservation.Short())
	case now >= h.Reservation.RedeemBy:
		return none, nowhere, refuse(CodeLate, "reservation %s was to be redeemed by %v", c.Reservation.Short(), h.Reservation.RedeemBy)
	}
	next, err := b.shown(h, c.Voucher, now)
	if err != nil {
		return none, nowhere, err
	}
	if next.Chain, err = b.base(next, c); err != nil {
		return none, nowhere, err
	}
	for _, u := range c.Entries {
		if u.Seq <= next.Chain.Place.Seq {
			continue
		}
		ref := b.market.Ref(wire.KindUsage, wire.Marshal(u))
		if next.Chain, err = next.Chain.Follow(u, ref, c.Tariff, b.clock.Seconds(), c.Proof); err != nil {
			return none, nowhere, refuse(CodeMismatch, "%v", err)
		}
	}
	if next.Chain.Place.Seq > h.Chain.Place.Seq {
		next.Active = now
	}
	if next.due() == 0 && !next.Receipt.Lease.IsZero() {
		if next != h {
			b.store(next)
		}
		return next.Receipt, next.Chain, nil
	}
	r, err := b.pay(p, next, false, now)
	return r, next.Chain, err
}

// base is where the entries of a claim are followed from: where the last claim ended, or at the entry of a later voucher that the
// claim shows. The bank may know a higher one, of which it was not shown the entry: what that pays is paid in any case.
func (b *Bank) base(h Hold, c Claim) (Unvouched, error) {
	v := c.Voucher
	if v == nil || v.Seq < h.Chain.Place.Seq || v.Seq == h.Chain.Place.Seq && h.Chain.Amount() == v.Total {
		at := h.Chain
		if at.Place.Head.IsZero() {
			at = Unvouched{Place: c.Genesis, Vouched: c.Genesis.Next - 1}
		}
		if v != nil { // the consumer was there again, for its host too
			at.Vouched = max(at.Vouched, v.Minute)
		}
		return at, nil
	}
	if c.Paid == nil {
		return h.Chain, refuse(CodeMismatch, "the entry that the voucher names is not shown")
	}
	ref := b.market.Ref(wire.KindUsage, wire.Marshal(*c.Paid))
	if ref != v.Usage || c.Paid.Owed() != v.Total || c.Paid.Last() != v.Minute {
		return h.Chain, refuse(CodeMismatch, "the voucher names another usage entry")
	}
	return c.Paid.From(ref), nil
}
