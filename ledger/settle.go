package ledger

import (
	"math/bits"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Settle credits a host with what the consumer's voucher says, as far as the cap goes. u is the usage entry that the
// voucher names. An older or repeated voucher changes nothing and gets the last receipt again; where a Close has shown the
// voucher before, and it was for nothing, the first.
func (b *Bank) Settle(p member.Policy, v Voucher, u Usage, now member.Time) (SettleReceipt, error) {
	if err := u.Validate(); err != nil {
		return SettleReceipt{}, malformed(err)
	}
	switch {
	case u.Host != v.Host || u.Lease != v.Lease:
		return SettleReceipt{}, refuse(CodeMismatch, "the usage entry is of another lease than the voucher")
	case v.Usage != b.market.Ref(wire.KindUsage, wire.Marshal(u)):
		return SettleReceipt{}, refuse(CodeMismatch, "the voucher names another usage entry")
	case v.Total != u.Owed() || v.Seq != u.Seq || v.Minute != u.Last():
		return SettleReceipt{}, refuse(CodeMismatch, "the voucher says %s at entry %d, the entry %s at %d", v.Total.Text(), v.Seq,
			u.Owed().Text(), u.Seq)
	}
	h, err := b.find(v.Reservation, v.Lease)
	if err != nil {
		return SettleReceipt{}, err
	}
	next, err := b.shown(h, &v, now)
	if err != nil {
		return SettleReceipt{}, err
	}
	if next == h && next.due() == 0 && !h.Receipt.Lease.IsZero() {
		return h.Receipt, nil
	}
	return b.pay(p, next, false, now)
}

// Final is the host's last word: the voucher, if one comes with it, is settled up to the final's total, and the rest of
// the reservation is released. A repeated Final gets the last receipt again.
func (b *Bank) Final(p member.Policy, f Final, v *Voucher, now member.Time) (SettleReceipt, error) {
	if err := f.Validate(); err != nil {
		return SettleReceipt{}, malformed(err)
	}
	h, err := b.find(f.Reservation, f.Lease)
	switch {
	case err != nil:
		return SettleReceipt{}, err
	case h.Reservation.Host != f.Host:
		return SettleReceipt{}, refuse(CodeHost, "reservation %s is for another host", f.Reservation.Short())
	case !h.Open():
		return h.Receipt, nil
	case now >= h.Reservation.RedeemBy: // its time has come, and no tick since: what this voucher adds is too late
		r, _ := b.Expire(p, h.Reservation.ID, now)
		return r, nil
	case v != nil && v.Total > f.Total:
		return SettleReceipt{}, refuse(CodeMismatch, "a final of %s with a voucher of %s", f.Total.Text(), v.Total.Text())
	}
	if h, err = b.shown(h, v, now); err != nil {
		return SettleReceipt{}, err
	}
	return b.pay(p, h, true, now)
}

// NoLease releases a reservation that came to nothing. It is refused once something was settled, and as stale where it
// speaks of a time before the reservation: of an earlier quote for the same lease, whose hold can have ended no later than
// the policy's hold and skew before the reservation opened.
func (b *Bank) NoLease(p member.Policy, n NoLease, now member.Time) (SettleReceipt, error) {
	if err := n.Validate(); err != nil {
		return SettleReceipt{}, malformed(err)
	}
	h, err := b.find(n.Reservation, n.Lease)
	switch {
	case err != nil:
		return SettleReceipt{}, err
	case h.Reservation.Host != n.Host:
		return SettleReceipt{}, refuse(CodeHost, "reservation %s is for another host", n.Reservation.Short())
	case h.owed() > 0:
		return SettleReceipt{}, refuse(CodePaid, "reservation %s has vouchers of %s", n.Reservation.Short(), h.owed().Text())
	case !h.Open():
		return h.Receipt, nil
	case n.At < h.Reservation.Opened-(member.Time(p.Hold)+member.Time(p.Skew))*member.Second:
		return SettleReceipt{}, refuse(CodeStale, "reservation %s is newer than the quote that came to nothing", n.Reservation.Short())
	}
	return b.pay(p, h, true, now)
}

// Close is the consumer's word that the lease is over for it. The voucher that it shows is settled at once; the rest of
// the reservation is released by Tick after the policy's minutes, counted from the first Close. The first Close makes the
// reservation a newer one that is to be redeemed by then, for the host to see.
func (b *Bank) Close(p member.Policy, c Close, v *Voucher, now member.Time) error {
	if err := c.Validate(); err != nil {
		return malformed(err)
	}
	h, err := b.find(c.Reservation, c.Lease)
	switch {
	case err != nil:
		return err
	case h.Reservation.Consumer != c.Consumer:
		return refuse(CodeSigner, "reservation %s is another consumer's", c.Reservation.Short())
	case !h.Open():
		return nil
	}
	next, err := b.shown(h, v, now)
	if err != nil {
		return err
	}
	if next.CloseAt == 0 {
		next.CloseAt = now + member.Time(p.CloseAfter)*b.clock.Slot
		next.Reservation.Seq++
		next.Reservation.RedeemBy = min(next.Reservation.RedeemBy, next.CloseAt)
	}
	switch {
	case next == h:
		return nil
	case next.due() > 0:
		_, err = b.pay(p, next, false, now)
		return err
	}
	b.store(next)
	return nil
}

// Tick releases the reservations whose time has come: closed long enough ago, or past their redeem-by. Each is released at
// the highest voucher shown.
func (b *Bank) Tick(p member.Policy, now member.Time) []SettleReceipt {
	var out []SettleReceipt
	for _, id := range b.Open() {
		if r, released := b.Expire(p, id, now); released {
			out = append(out, r)
		}
	}
	return out
}

// Expire does for one reservation what Tick does for all, for callers that bound what one step may change. It reports
// whether the reservation's time had come.
func (b *Bank) Expire(p member.Policy, id wire.ID, now member.Time) (SettleReceipt, bool) {
	h, ok := b.holds[id]
	closed := h.CloseAt != 0 && now >= h.CloseAt
	if !ok || !h.Open() || !closed && now < h.Reservation.RedeemBy {
		return SettleReceipt{}, false
	}
	r, err := b.pay(p, h, true, now)
	return r, err == nil
}

// shown is the hold after a voucher was shown: itself when there is none or one of no more, else with the higher voucher. The
// total alone decides: its signer stands for the highest that it ever signed, and whatever else it signs takes nothing of that back.
func (b *Bank) shown(h Hold, v *Voucher, now member.Time) (Hold, error) {
	if v == nil {
		return h, nil
	}
	if err := v.Validate(); err != nil {
		return Hold{}, malformed(err)
	}
	r := h.Reservation
	switch {
	case v.Reservation != r.ID || v.Lease != r.Lease:
		return Hold{}, refuse(CodeLease, "the voucher is for another reservation")
	case v.Host != r.Host:
		return Hold{}, refuse(CodeHost, "the voucher is for another host")
	case v.By != r.By:
		return Hold{}, refuse(CodeSigner, "the voucher is signed by %v, not by %v", v.By, r.By)
	}
	switch {
	case !h.Voucher.Usage.IsZero() && v.Total <= h.Voucher.Total:
		return h, nil
	case !h.Open():
		return Hold{}, refuse(CodeClosed, "reservation %s is released", r.ID.Short())
	case now >= r.RedeemBy:
		return Hold{}, refuse(CodeLate, "reservation %s was to be redeemed by %v", r.ID.Short(), r.RedeemBy)
	}
	h.Voucher, h.VoucherRef = *v, b.market.Ref(wire.KindVoucher, wire.Marshal(*v))
	h.Active = now
	return h, nil
}

// due is what the highest voucher shown, or receipts, entitle the host to and has not been paid.
func (h Hold) due() Amount {
	if !h.Open() {
		return 0
	}
	return max(0, min(h.Reservation.Cap, max(h.Voucher.Total, h.Chain.Amount()))-h.Settled)
}

// pay credits what is due, releases the rest if asked to, and stores the hold with its new receipt.
func (b *Bank) pay(p member.Policy, h Hold, release bool, now member.Time) (SettleReceipt, error) {
	r := h.Reservation
	due := h.due()
	fee, rest := feeOf(due, p.Fee, h.FeeRest)
	h.Settled, h.Fee, h.FeeRest = h.Settled+due, h.Fee+fee, rest
	h.Receipt = SettleReceipt{
		Operator: b.operator, Host: r.Host, Lease: r.Lease, Reservation: r.ID, Paid: h.Settled, Fee: h.Fee,
		Voucher: h.VoucherRef, Released: release, Entry: b.head.Seq, At: now,
	}
	left := h.Left()
	settle, back := b.settlement(h, due, fee, now), b.release(h, left, now)
	if due > 0 {
		h.Receipt.Entry++
	}
	if release && left > 0 {
		h.Receipt.Entry++
	}
	if release {
		h.State = HoldReleased
	} else {
		back = Entry{}
	}
	if s := b.SpendingOf(r.Consumer); due > 0 && !h.Kin {
		s.Trade = satAdd(s.Trade, due)
		b.spend(s)
	}
	// Both entries only move what the hold has reserved, within totals that Deposit bounded: they cannot fail apart.
	if err := b.commit(settle, &h); err != nil {
		return SettleReceipt{}, err
	}
	if err := b.commit(back, nil); err != nil {
		panic("ledger: releasing what is reserved: " + err.Error())
	}
	return h.Receipt, nil
}

func (b *Bank) settlement(h Hold, due, fee Amount, now member.Time) Entry {
	e := Entry{At: now, Entry: EntrySettle, Reservation: h.Reservation.ID, Cause: h.VoucherRef}
	if due > 0 {
		e.Postings = append(e.Postings,
			Posting{Account: h.Reservation.Consumer, Book: BookReserved, Amount: -due},
			Posting{Account: h.Reservation.Host, Book: BookPayable, Amount: due - fee})
	}
	if fee > 0 {
		e.Postings = append(e.Postings, Posting{Account: b.operator, Book: BookFees, Amount: fee})
	}
	return e
}

func (b *Bank) release(h Hold, left Amount, now member.Time) Entry {
	e := Entry{At: now, Entry: EntryRelease, Reservation: h.Reservation.ID, Cause: identity.Hash{}}
	if left > 0 {
		c := h.Reservation.Consumer
		e.Postings = []Posting{
			{Account: c, Book: BookReserved, Amount: -left},
			{Account: c, Book: BookAvailable, Amount: left},
		}
	}
	return e
}

// feeOf is the operator's share of an amount in parts per million, and the rest of the division, which the next one
// begins with.
func feeOf(a Amount, ppm uint32, rest int64) (Amount, int64) {
	const million = 1_000_000
	hi, lo := bits.Mul64(uint64(a), uint64(ppm))
	lo, carry := bits.Add64(lo, uint64(rest), 0)
	q, rem := bits.Div64(hi+carry, lo, million)
	return Amount(q), int64(rem)
}
