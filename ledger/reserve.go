package ledger

import (
	"sort"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// MostOpen is how many open reservations an account may have: the bank looks at each of them every minute.
const MostOpen = 64

// Reserve sets money aside for one lease at one host. quoted is the most that the host's quote costs per hour, all told;
// the request may not name less. The reservation opens with the least of the cap asked for, the budget, the policy's
// opening minutes and what is available; it is refused with ErrFunds when that is less than the policy's least minutes (or
// the cap or budget, where those are smaller still). Nothing is reserved for nothing: a rate of 0, a cap under a minute's
// price and more than MostOpen at once are refused. The same request again gives the reservation as it stands.
func (b *Bank) Reserve(p member.Policy, r Reserve, quoted Rate, now member.Time) (Reservation, error) {
	if err := r.Validate(); err != nil {
		return Reservation{}, malformed(err)
	}
	if old, ok := b.holds[r.Reservation]; ok {
		return old.again(r)
	}
	if _, ok := b.leases[r.Lease]; ok {
		return Reservation{}, refuse(CodeReused, "lease %s has another reservation", r.Lease.Short())
	}
	if r.MaxRate < quoted {
		return Reservation{}, refuse(CodeSmall, "a reservation at %s an hour for a quote of %s", r.MaxRate.Text(), quoted.Text())
	}
	if n := len(b.openOf[r.Consumer]); n >= MostOpen {
		return Reservation{}, refuse(CodeLimit, "%d reservations of this account are open, the most there may be", n)
	}
	b.relieve(p, r.Consumer)
	if s, stands := b.ShortageOf(r.Consumer); stands {
		return Reservation{}, refuse(CodeFunds, "the account is out of funds since %v: it takes a deposit to start anything", s.Notice.At)
	}
	limit, needed, err := b.opening(p, r)
	if err != nil {
		return Reservation{}, err
	}
	available := b.accounts[r.Consumer].Available
	if available < needed {
		return Reservation{}, short(needed, available)
	}
	room := b.Room(r.Consumer, now)
	if room < needed {
		return Reservation{}, refuse(CodeLimit, "the account's own limit of %s a day leaves %s, the start sets %s aside",
			b.SpendingOf(r.Consumer).Limit.Daily.Text(), room.Text(), needed.Text())
	}
	limit = min(limit, room)
	h := Hold{State: HoldOpen, Budget: r.Budget, Active: now, Reservation: Reservation{
		ID: r.Reservation, Seq: 1, Operator: b.operator, Consumer: r.Consumer, By: r.By, Host: r.Host, Lease: r.Lease,
		MaxRate: r.MaxRate, Opened: now, RedeemBy: now + RedeemWithin,
	}}
	return b.recap(h, min(limit, available), EntryReserve, now)
}

// opening is the most that a reservation opens with, and the least.
func (b *Bank) opening(p member.Policy, r Reserve) (limit, needed Amount, err error) {
	minute, err := r.MaxRate.Cost(b.clock.Seconds())
	if err != nil {
		return 0, 0, overflow(err)
	}
	if needed, err = r.MaxRate.Cost(b.span(p.ReserveLeast)); err != nil {
		return 0, 0, overflow(err)
	}
	limit = r.Cap
	if most, err := r.MaxRate.Cost(b.span(p.ReserveOpen)); err == nil {
		limit = min(limit, most)
	}
	if r.Budget > 0 {
		limit = min(limit, r.Budget)
	}
	if r.MaxRate == 0 || limit < minute {
		return 0, 0, refuse(CodeSmall, "a reservation of %s at %s an hour; it wants a rate, and a minute's price", limit.Text(),
			r.MaxRate.Text())
	}
	return limit, min(needed, limit), nil
}

// again answers a repeated request.
func (h Hold) again(r Reserve) (Reservation, error) {
	v := h.Reservation
	switch {
	case v.Consumer != r.Consumer || v.Lease != r.Lease || v.Host != r.Host || v.By != r.By || v.MaxRate != r.MaxRate ||
		h.Budget != r.Budget:
		return Reservation{}, refuse(CodeReused, "reservation %s stands for something else", v.ID.Short())
	case !h.Open():
		return Reservation{}, refuse(CodeClosed, "reservation %s is released", v.ID.Short())
	}
	return v, nil
}

// recap gives a hold a new cap; money moves between available and reserved. h is not yet stored when it is new.
func (b *Bank) recap(h Hold, limit Amount, kind EntryKind, now member.Time) (Reservation, error) {
	diff := limit - h.Reservation.Cap
	e := Entry{At: now, Entry: kind, Reservation: h.Reservation.ID}
	if diff != 0 {
		h.Reservation.Entry = b.head.Seq + 1
		c := h.Reservation.Consumer
		e.Postings = []Posting{
			{Account: c, Book: BookAvailable, Amount: -diff},
			{Account: c, Book: BookReserved, Amount: diff},
		}
	}
	h.Reservation.Cap = limit
	if err := b.commit(e, &h); err != nil {
		return Reservation{}, err
	}
	return h.Reservation, nil
}

// Raise lets the bank set more aside for a lease by itself. Up to the policy's opening minutes beyond what is owed it may
// use all that is available; where that does not do for all of the account's leases, each gets as many minutes as the
// others. Beyond, up to the policy's minutes ahead, it uses idle funds only, and leaves as much available as is reserved.
// It also renews the redeem-by of a reservation in use. One whose pod is stopped gets what its storage uses up, and no more. It
// reports whether anything changed.
func (b *Bank) Raise(p member.Policy, id wire.ID, now member.Time) (Reservation, bool) {
	h, ok := b.holds[id]
	if !ok || !h.Open() || h.CloseAt != 0 || now >= h.Reservation.RedeemBy {
		return h.Reservation, false
	}
	b.relieve(p, h.Reservation.Consumer) // before what came in is set aside
	_, stands := b.ShortageOf(h.Reservation.Consumer)
	limit, room := h.Reservation.Cap, b.Room(h.Reservation.Consumer, now)
	if h.Rest {
		limit += min(room, b.keepUp(h))
	} else if more := b.more(p, h); b.worth(p, h, more) {
		limit += min(room, more)
	}
	renew := (now-h.Active < RedeemWithin/2 || h.Rest && !stands) && h.Reservation.RedeemBy-now < RedeemWithin/2
	if limit == h.Reservation.Cap && !renew {
		return h.Reservation, false
	}
	h.Reservation.Seq++
	h.Reservation.RedeemBy = max(h.Reservation.RedeemBy, now+RedeemWithin)
	r, err := b.recap(h, limit, EntryRaise, now)
	if err != nil {
		return b.holds[id].Reservation, false
	}
	return r, true
}

// A need is what the open reservations of one account lack together.
type need struct {
	open    uint32 // the policy's opening minutes that it is reckoned with
	total   Amount // to have that many minutes beyond what is owed
	short   bool   // the account has less than total
	minutes int    // then: how many each can have; -1: none pays what is owed
}

// need reckons what an account's reservations lack, once for as long as neither they nor the account change.
func (b *Bank) need(p member.Policy, a identity.Address) need {
	n, ok := b.needs[a]
	if ok && n.open == p.ReserveOpen {
		return n
	}
	available := b.accounts[a].Available
	total, within := b.lackOf(a, p.ReserveOpen, available)
	n = need{open: p.ReserveOpen, total: total, short: !within}
	if n.short {
		over := sort.Search(int(p.ReserveOpen)+1, func(m int) bool {
			_, within := b.lackOf(a, uint32(m), available)
			return !within
		})
		n.minutes = over - 1
	}
	b.needs[a] = n
	return n
}

// lackOf is what an account's reservations lack to n minutes each, if it is within a limit.
func (b *Bank) lackOf(a identity.Address, n uint32, limit Amount) (Amount, bool) {
	var sum Amount
	for _, id := range b.openOf[a] {
		s, err := sum.Add(b.lack(b.holds[id], n))
		if err != nil || s > limit {
			return 0, false
		}
		sum = s
	}
	return sum, true
}

// more is how much the cap of h may grow.
func (b *Bank) more(p member.Policy, h Hold) Amount {
	acc := b.accounts[h.Reservation.Consumer]
	if _, stands := b.ShortageOf(h.Reservation.Consumer); acc.Available <= 0 || stands {
		return 0
	}
	need := b.need(p, h.Reservation.Consumer)
	switch {
	case need.short && need.minutes < 0:
		return 0
	case need.short: // each gets as many minutes as the others
		return b.lack(h, uint32(need.minutes))
	}
	first := b.lack(h, p.ReserveOpen)
	// Half of available + reserved stays available: idle funds are what is above it, when all leases have their first part.
	idle := min((acc.Available-acc.Reserved)/2, acc.Available-need.total)
	return first + min(max(0, b.lack(h, p.ReserveAhead)-first), max(0, idle-first))
}

// lack is what h is short of to pay n more minutes than it owes, within its budget.
func (b *Bank) lack(h Hold, n uint32) Amount {
	if h.CloseAt != 0 || h.Rest {
		return 0
	}
	want, err := h.Reservation.MaxRate.Cost(b.span(n))
	if err == nil {
		want, err = want.Add(h.owed())
	}
	if err != nil {
		want = maxAmount
	}
	if h.Budget > 0 {
		want = min(want, h.Budget)
	}
	return max(0, want-h.Reservation.Cap)
}

// worth reports whether a raise is worth an entry: always when less than half of the opening minutes is left ahead, or little
// more than those under which pods stop, else only from the policy's least minutes on.
func (b *Bank) worth(p member.Policy, h Hold, more Amount) bool {
	if more <= 0 {
		return false
	}
	if b.lack(h, max(p.ReserveOpen/2, p.StopFunds+p.ReserveLeast)) > 0 {
		return true
	}
	least, err := h.Reservation.MaxRate.Cost(b.span(p.ReserveLeast))
	return err == nil && more >= least
}

// Lower takes a smaller cap, to which the host consents; never under what is owed. The difference is available at once.
func (b *Bank) Lower(l Lower, now member.Time) (Reservation, error) {
	if err := l.Validate(); err != nil {
		return Reservation{}, malformed(err)
	}
	h, err := b.find(l.Reservation, l.Lease)
	switch {
	case err != nil:
		return Reservation{}, err
	case h.Reservation.Host != l.Host:
		return Reservation{}, refuse(CodeHost, "reservation %s is for another host", l.Reservation.Short())
	case !h.Open():
		return Reservation{}, refuse(CodeClosed, "reservation %s is released", l.Reservation.Short())
	case l.Cap == h.Reservation.Cap && l.Seq < h.Reservation.Seq:
		return h.Reservation, nil
	case l.Seq != h.Reservation.Seq:
		return Reservation{}, refuse(CodeStale, "reservation %s is at sequence %d, not %d", l.Reservation.Short(),
			h.Reservation.Seq, l.Seq)
	case l.Cap > h.Reservation.Cap || l.Cap < h.owed():
		return Reservation{}, refuse(CodeCap, "a lower cap is between %s and %s", h.owed().Text(), h.Reservation.Cap.Text())
	}
	h.Rest, h.Keep = true, l.Cap-h.owed()
	if l.Cap == h.Reservation.Cap {
		b.store(h)
		return h.Reservation, nil
	}
	h.Reservation.Seq++
	return b.recap(h, l.Cap, EntryLower, now)
}

// Kin notes that the parties of a reservation are of one owner or sponsor: what is settled on it earns no higher limit.
func (b *Bank) Kin(id wire.ID) {
	if h, ok := b.holds[id]; ok && !h.Kin {
		h.Kin = true
		b.store(h)
	}
}

// Keeps notes for how many minutes after a funds notice the terms of a reservation's lease keep data: no forfeit comes sooner.
// More than a reservation lasts is not waited for.
func (b *Bank) Keeps(id wire.ID, minutes uint64) {
	minutes = min(minutes, uint64(RedeemWithin/b.clock.Slot))
	if h, ok := b.holds[id]; ok && h.DataHold != minutes {
		h.DataHold = minutes
		b.store(h)
	}
}

// Wake ends the rest of a reservation: its pod is to be started. It is refused with ErrFunds, and rests on, when what is set aside
// with what may be added does not pay the minutes under which pods stop.
func (b *Bank) Wake(p member.Policy, id wire.ID, now member.Time) error {
	rests, ok := b.holds[id]
	if !ok || !rests.Rest || !rests.Open() {
		return nil
	}
	h := rests
	h.Rest, h.Woken = false, now
	b.store(h)
	more := min(b.more(p, h), b.Room(h.Reservation.Consumer, now))
	need, err := h.Reservation.MaxRate.Cost(b.span(p.StopFunds))
	whole := h.Budget > 0 && h.Reservation.Cap+more >= h.Budget
	if have := h.ahead() + more; !whole && (err != nil || have < need) {
		b.store(rests)
		return short(need, have)
	}
	return nil
}

// keepUp is how much the cap of a hold at rest may grow: to what its host left ahead, once half of that is used up.
func (b *Bank) keepUp(h Hold) Amount {
	_, stands := b.ShortageOf(h.Reservation.Consumer)
	if h.ahead() > h.Keep/2 || h.CloseAt != 0 || stands {
		return 0
	}
	more := h.Keep - h.ahead()
	if h.Budget > 0 {
		more = min(more, max(0, h.Budget-h.Reservation.Cap))
	}
	return max(0, min(more, b.accounts[h.Reservation.Consumer].Available))
}

// find is the hold of a reservation and its lease.
func (b *Bank) find(id, lease wire.ID) (Hold, error) {
	h, ok := b.holds[id]
	switch {
	case !ok:
		return Hold{}, refuse(CodeUnknown, "no reservation %s", id.Short())
	case h.Reservation.Lease != lease:
		return Hold{}, refuse(CodeLease, "reservation %s is for another lease", id.Short())
	}
	return h, nil
}
