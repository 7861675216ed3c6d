package ledger

import (
	"errors"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A FundsNotice is the bank's word that an account has less than the policy's minutes of funds for all that it runs: its hosts
// stop its pods at the next tick. Unless money comes, its leases are forfeit at ForfeitAt.
type FundsNotice struct {
	Operator  identity.Address `cbor:"1,keyasint"`
	Consumer  identity.Address `cbor:"2,keyasint"`
	Seq       uint64           `cbor:"3,keyasint"` // of this account's notices, from 1
	Left      Amount           `cbor:"4,keyasint"` // least that was left
	Burn      Rate             `cbor:"5,keyasint"` // most that what it ran cost per hour
	At        member.Time      `cbor:"6,keyasint"`
	ForfeitAt member.Time      `cbor:"7,keyasint"`
}

// Kind implements wire.Message.
func (n FundsNotice) Kind() wire.Kind { return wire.KindFundsNotice }

// Signer is the operator.
func (n FundsNotice) Signer() identity.Address { return n.Operator }

// Validate checks shape.
func (n FundsNotice) Validate() error {
	switch {
	case n.Consumer.IsZero() || n.Seq == 0:
		return errors.New("funds notice names no account or sequence")
	case n.Left < 0 || n.Burn < 0:
		return ErrNegative
	case n.ForfeitAt < n.At:
		return errors.New("funds notice whose data is forfeit before it")
	}
	return nil
}

// A Forfeit is the bank's word that no money came after a FundsNotice: the lease ends and its volume is removed. Without
// one no volume is ever removed against its owner's will.
type Forfeit struct {
	Operator    identity.Address `cbor:"1,keyasint"`
	Consumer    identity.Address `cbor:"2,keyasint"`
	Host        identity.Address `cbor:"3,keyasint"`
	Lease       wire.ID          `cbor:"4,keyasint"`
	Reservation wire.ID          `cbor:"5,keyasint"`
	Notice      identity.Hash    `cbor:"6,keyasint"` // ref of the notice, shown beside it
	At          member.Time      `cbor:"7,keyasint"` // the notice's ForfeitAt, or later where the lease's terms keep data longer
}

// Kind implements wire.Message.
func (f Forfeit) Kind() wire.Kind { return wire.KindForfeit }

// Signer is the operator.
func (f Forfeit) Signer() identity.Address { return f.Operator }

// Validate checks shape.
func (f Forfeit) Validate() error {
	if f.Consumer.IsZero() || f.Host.IsZero() || f.Lease.IsZero() || f.Reservation.IsZero() || f.Notice.IsZero() {
		return errors.New("forfeit names no consumer, host, lease, reservation or notice")
	}
	return nil
}

// A Shortage is what the bank keeps of an account's want of funds: one durable row, kept after it is over for the sequence of
// the next notice.
type Shortage struct {
	Notice FundsNotice `cbor:"1,keyasint"` // the last one
	In     Amount      `cbor:"2,keyasint"` // all that had ever come into the account when it was given
	Over   bool        `cbor:"3,keyasint"`
}

// ShortageOf is the shortage of an account, if one stands.
func (b *Bank) ShortageOf(consumer identity.Address) (Shortage, bool) {
	s, ok := b.shortages[consumer]
	return s, ok && !s.Over
}

// Watch looks after an account's funds: it gives a notice when they run short, and ends the shortage when money has come in
// that pays the policy's least minutes of its cheapest lease, or when no lease is left. It reports whether anything changed.
func (b *Bank) Watch(p member.Policy, consumer identity.Address, now member.Time) (Shortage, bool) {
	b.roll(consumer, now)
	s, stands := b.ShortageOf(consumer)
	if stands {
		over := b.relieve(p, consumer)
		return b.shortages[consumer], over
	}
	if !b.Short(p, consumer, now) && !b.dry(p, consumer) {
		return s, false
	}
	left, burn := b.straits(consumer, now)
	s = Shortage{In: b.income(consumer), Notice: FundsNotice{
		Operator: b.operator, Consumer: consumer, Seq: s.Notice.Seq + 1, Left: left, Burn: burn, At: now,
		ForfeitAt: now + member.Time(p.DataHold)*b.clock.Slot,
	}}
	b.shortages[consumer], b.lacking[consumer] = s, true
	return s, true
}

// Skip has the next notice of every account that has none come at a number over n: lower ones may have been given, and lost.
func (b *Bank) Skip(n uint64) {
	for a := range b.accounts {
		s, known := b.shortages[a]
		if known && !s.Over || s.Notice.Seq >= n {
			continue
		}
		s.Over, s.Notice.Operator, s.Notice.Consumer, s.Notice.Seq = true, b.operator, a, n
		b.shortages[a], b.lacking[a] = s, true
	}
}

// Short reports whether an account has less than the policy's minutes of funds for all its pods that are up together.
func (b *Bank) Short(p member.Policy, consumer identity.Address, now member.Time) bool {
	left, burn := b.straits(consumer, now)
	need, err := burn.Cost(b.span(p.StopFunds))
	return err != nil || left < need
}

// relieve ends an account's shortage if that is over. It reports whether it was.
func (b *Bank) relieve(p member.Policy, consumer identity.Address) bool {
	s, stands := b.ShortageOf(consumer)
	if !stands || !b.relieved(p, s) {
		return false
	}
	s.Over = true
	b.shortages[consumer], b.lacking[consumer] = s, true
	return true
}

// dry reports whether the storage of a stopped pod has less than the policy's minutes of funds.
func (b *Bank) dry(p member.Policy, consumer identity.Address) bool {
	for _, id := range b.openOf[consumer] {
		h := b.holds[id]
		if h.Rest && h.Keep > 0 && h.CloseAt == 0 && b.accounts[consumer].Available+h.ahead() < h.Keep/Amount(max(1, p.StoppedReserve))*Amount(p.StopFunds) {
			return true
		}
	}
	return false
}

// income is all that ever came into an account from others.
func (b *Bank) income(a identity.Address) Amount {
	acc := b.accounts[a]
	return satAdd(acc.Deposited, acc.Received)
}

// relieved reports whether a shortage is over.
func (b *Bank) relieved(p member.Policy, s Shortage) bool {
	c := s.Notice.Consumer
	cheapest := maxAmount
	for _, id := range b.openOf[c] {
		if h := b.holds[id]; h.CloseAt == 0 {
			if cost, err := h.Reservation.MaxRate.Cost(b.span(p.ReserveLeast)); err == nil {
				cheapest = min(cheapest, cost)
			}
		}
	}
	return len(b.openOf[c]) == 0 || b.income(c) > s.In && b.accounts[c].Available >= cheapest
}

// straits are the least that an account has left and the most that it spends per hour on pods that are up, but for those
// that have all the money that their own budget allows: these run to their end.
func (b *Bank) straits(consumer identity.Address, now member.Time) (left Amount, burn Rate) {
	left = b.accounts[consumer].Available
	for _, id := range b.openOf[consumer] {
		h := b.holds[id]
		if h.CloseAt != 0 || h.Rest || h.Budget > 0 && h.Reservation.Cap >= h.Budget {
			continue
		}
		burn = Rate(satAdd(Amount(burn), Amount(h.Reservation.MaxRate)))
		left += b.unspent(h, now) // at most available + reserved
	}
	return left, burn
}

// Forfeits are the leases that an account loses now: all that are open, when its shortage has lasted to the end of its notice
// and for as long as their terms keep data.
func (b *Bank) Forfeits(consumer identity.Address, now member.Time) []Forfeit {
	s, stands := b.ShortageOf(consumer)
	if !stands || now < s.Notice.ForfeitAt {
		return nil
	}
	ref := b.market.Ref(wire.KindFundsNotice, wire.Marshal(s.Notice))
	var out []Forfeit
	for _, id := range b.openOf[consumer] {
		h := b.holds[id]
		r := h.Reservation
		if !h.Rest && h.Budget > 0 && r.Cap >= h.Budget {
			continue // it has all that it will ever have, and runs to its end
		}
		at := max(s.Notice.ForfeitAt, s.Notice.At+member.Time(h.DataHold)*b.clock.Slot)
		if now < at {
			continue
		}
		out = append(out, Forfeit{Operator: b.operator, Consumer: consumer, Host: r.Host, Lease: r.Lease, Reservation: id, Notice: ref, At: at})
	}
	return out
}
