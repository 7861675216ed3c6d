package node

import (
	"github.com/anishathalye/porcupine"

	"souk/ledger"
	"souk/node/core/step"
)

// The naive bank that histories are held against: sequential, in memory, and all by index, so that == compares two states. It
// has no journal, but counts its entries.
const (
	mostDeposits  = 4
	mostLeases    = 3
	mostPayouts   = 3
	mostTransfers = 5
)

// Who has an account. Alice and bob lease pods of the host; the saver only gives and takes.
const (
	alice = iota
	bob
	saver
	hosting
	operating
	mostAccounts
)

// tenant is whose lease it is.
func tenant(lease int) int { return lease % 2 }

// What a bank is asked.
type question int

const (
	askDeposit question = iota
	askReserve
	askSettle
	askFinal
	askNoLease
	askClose
	askLower
	askRaise
	askReceipt
	askPayout
	askPaid
	askReturned
	askTransfer
	askBalance
	askLook // the operator's own question about an account
	askTick // nobody's: what the bank does by itself, once a minute and after each start
	questions
)

// A demand is one question with all that is in it.
type demand struct {
	what     question
	of       int // which deposit, lease, payout, transfer or account
	amount   ledger.Amount
	seq      uint64 // of a lower: of the reservation
	odd      bool   // the same id for something else
	from, to int    // of a deposit, payout or transfer: accounts
	earned   bool
}

// A said is what the asker was told; what it did not hear is not known.
type said struct {
	known bool
	no    step.RefusalCode
	says  [9]int64
}

// The model's money, as the policy has it for what costs this much a minute.
const (
	aMinute   = ledger.Credit / 100
	capAsked  = 20 * aMinute
	budgeted  = 50 * aMinute
	worthIt   = 15 * aMinute // a raise of so much is worth an entry
	lowAhead  = 30 * aMinute // and any with less than that ahead
	stopAhead = 10 * aMinute
	feePPM    = 50_000
)

type modelAccount struct{ deposited, available, reserved, payable, paying, paidOut, settled, fees ledger.Amount }

type modelHold struct {
	known, released, closed, rest, shown bool
	seq, entry                           uint64
	limit, settled, voucher, keep        ledger.Amount
	receipt                              modelReceipt
}

type modelReceipt struct {
	given, released bool
	paid, fee       ledger.Amount
	entry           uint64
}

// A modelMark is what was done under an id: as which entry, and for which of the two things that are asked under it.
type modelMark struct {
	entry uint64
	odd   bool
}

type modelPayout struct {
	mark   modelMark
	state  ledger.PayoutState
	entry  uint64 // that brought it there
	amount ledger.Amount
}

type modelBank struct {
	entries   uint64
	accounts  [mostAccounts]modelAccount
	deposits  [mostDeposits]modelMark
	holds     [mostLeases]modelHold
	payouts   [mostPayouts]modelPayout
	transfers [mostTransfers]modelMark
}

// modelOf is the naive bank as the checker wants it.
func modelOf(begin modelBank, debtors []int) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return begin },
		Step: func(state, input, output any) (bool, any) {
			b, heard := state.(modelBank), output.(said)
			answer := b.take(input.(demand), debtors)
			return !heard.known || heard == answer, b
		},
	}
}

// take does what is demanded. debtors are the tenants in the order in which the bank looks after them.
func (b *modelBank) take(d demand, debtors []int) said {
	v := said{known: true}
	switch d.what {
	case askDeposit:
		v.no, v.says[0] = b.once(&b.deposits[d.of], d.odd, true, func() {
			b.accounts[d.from].deposited += d.amount
			b.accounts[d.from].available += d.amount
		})
	case askTransfer:
		have := &b.accounts[d.from].available
		if d.earned {
			have = &b.accounts[d.from].payable
		}
		v.no, v.says[0] = b.once(&b.transfers[d.of], d.odd, *have >= d.amount, func() {
			*have -= d.amount
			b.accounts[d.to].available += d.amount
		})
	case askPayout:
		p := &b.payouts[d.of]
		v.no, _ = b.once(&p.mark, d.odd, b.accounts[hosting].payable >= d.amount, func() {
			p.state, p.entry, p.amount = ledger.PayoutPaying, b.entries, d.amount
			b.accounts[hosting].payable -= d.amount
			b.accounts[hosting].paying += d.amount
		})
		if v.no == 0 {
			v.says = [9]int64{int64(p.state), int64(p.entry)}
		}
	case askPaid:
		b.decide(d.of, ledger.PayoutPaid, &b.accounts[hosting].paidOut, &v)
	case askReturned:
		b.decide(d.of, ledger.PayoutReturned, &b.accounts[hosting].payable, &v)
	case askBalance, askLook:
		a := b.accounts[d.of]
		v.says = [9]int64{int64(a.deposited), int64(a.available), int64(a.reserved), int64(a.payable), int64(a.paying), int64(a.paidOut),
			int64(a.settled), int64(a.fees), int64(b.entries)}
	case askTick:
		for _, who := range debtors {
			for i := range b.holds {
				if tenant(i) == who {
					b.raise(i)
				}
			}
		}
	case askReserve:
		b.reserve(d, &v)
	default:
		if !b.holds[d.of].known {
			v.no = step.RefuseUnknown
			break
		}
		b.lease(d, &v)
	}
	return v
}

// once is what is done at most once under an id: it gives the entry of the first time.
func (b *modelBank) once(m *modelMark, odd, funded bool, do func()) (no step.RefusalCode, at int64) {
	switch {
	case m.entry != 0 && m.odd != odd:
		return step.RefuseMoney, 0
	case m.entry == 0 && !funded:
		return step.RefuseFunds, 0
	case m.entry == 0:
		b.entries++
		*m = modelMark{b.entries, odd}
		do()
	}
	return 0, int64(m.entry)
}

// decide is the operator's word on what became of a payout.
func (b *modelBank) decide(i int, to ledger.PayoutState, book *ledger.Amount, v *said) {
	p := &b.payouts[i]
	switch {
	case p.state == 0:
		v.no = step.RefuseUnknown
		return
	case p.state == ledger.PayoutPaying:
		b.entries++
		p.state, p.entry = to, b.entries
		b.accounts[hosting].paying -= p.amount
		*book += p.amount
	case p.state != to:
		v.no = step.RefuseMoney
		return
	}
	v.says = [9]int64{int64(p.state), int64(p.entry)}
}

func (b *modelBank) reserve(d demand, v *said) {
	h := &b.holds[d.of]
	switch {
	case d.odd && !h.known: // its quote says otherwise
		v.no = step.RefuseBadRequest
		return
	case d.odd || h.released:
		v.no = step.RefuseMoney
		return
	case !h.known:
		*h = modelHold{known: true, seq: 1}
		b.recap(d.of, capAsked)
	}
	h.stands(v, 0)
}

// lease takes what concerns a reservation that is known.
func (b *modelBank) lease(d demand, v *said) {
	h := &b.holds[d.of]
	switch d.what {
	case askSettle, askFinal:
		if d.what == askFinal && h.released {
			h.receipt.says(v)
			h.stands(v, 4)
			return
		}
		fresh, ok := h.show(d.amount, v)
		if !ok {
			return
		}
		if d.what == askFinal {
			b.pay(d.of, true)
		} else if fresh || h.due() > 0 || !h.receipt.given {
			b.pay(d.of, false)
		}
		h.receipt.says(v)
		h.stands(v, 4)
	case askNoLease:
		if h.owed() > 0 {
			v.no = step.RefuseMoney
			return
		}
		if !h.released {
			b.pay(d.of, true)
		}
		h.receipt.says(v)
	case askClose:
		if h.released {
			return
		}
		h.show(d.amount, v)
		if !h.closed {
			h.closed = true
			h.seq++
		}
		if h.due() > 0 {
			b.pay(d.of, false)
		}
	case askLower:
		b.lower(d, v)
	case askRaise:
		if d.amount > 0 { // a voucher comes with it
			fresh, ok := h.show(d.amount, v)
			if !ok {
				return
			}
			if fresh || h.due() > 0 || !h.receipt.given {
				b.pay(d.of, false)
			}
		}
		if h.rest && !h.released {
			more := max(0, budgeted-h.limit)
			if h.closed {
				more = 0
			}
			if h.limit+more < budgeted && max(0, h.limit-h.owed())+more < stopAhead {
				v.no = step.RefuseFunds
				return
			}
			h.rest = false
		}
		b.raise(d.of)
		if d.amount > 0 {
			h.receipt.says(v)
		}
		h.stands(v, 4)
	case askReceipt:
		h.receipt.says(v)
		h.stands(v, 4)
	}
}

func (b *modelBank) lower(d demand, v *said) {
	h := &b.holds[d.of]
	switch {
	case h.released:
		v.no = step.RefuseMoney
		return
	case d.amount == h.limit && d.seq < h.seq:
		h.stands(v, 0)
		return
	case d.seq != h.seq:
		v.no = step.RefuseStale
		return
	case d.amount > h.limit || d.amount < h.owed():
		v.no = step.RefuseMoney
		return
	}
	h.rest, h.keep = true, d.amount-h.owed()
	if d.amount != h.limit {
		h.seq++
		b.recap(d.of, d.amount)
	}
	h.stands(v, 0)
}

// raise is what the bank adds of its own accord. All accounts have more than their leases can want.
func (b *modelBank) raise(i int) {
	h := &b.holds[i]
	more := budgeted - h.limit
	switch ahead := max(0, h.limit-h.owed()); {
	case !h.known || h.released || h.closed:
		return
	case h.rest && ahead > h.keep/2:
		return
	case h.rest:
		more = min(more, h.keep-ahead)
	case min(h.owed()+lowAhead, budgeted) <= h.limit && more < worthIt:
		return
	}
	if more > 0 {
		h.seq++
		b.recap(i, h.limit+more)
	}
}

// recap moves money between available and reserved.
func (b *modelBank) recap(i int, limit ledger.Amount) {
	h, a := &b.holds[i], &b.accounts[tenant(i)]
	b.entries++
	h.entry = b.entries
	a.available -= limit - h.limit
	a.reserved += limit - h.limit
	h.limit = limit
}

func (h *modelHold) owed() ledger.Amount { return max(h.settled, h.voucher) }

func (h *modelHold) due() ledger.Amount {
	if h.released {
		return 0
	}
	return max(0, min(h.limit, h.voucher)-h.settled)
}

// show takes a voucher. It reports whether it is more than was shown, and whether it can be taken.
func (h *modelHold) show(total ledger.Amount, v *said) (fresh, ok bool) {
	switch {
	case h.shown && total <= h.voucher:
		return false, true
	case h.released:
		v.no = step.RefuseMoney
		return false, false
	}
	h.shown, h.voucher = true, total
	return true, true
}

// pay credits the host with what is due, and gives the rest back if the lease is over.
func (b *modelBank) pay(i int, over bool) {
	h := &b.holds[i]
	tenant, host, op := &b.accounts[tenant(i)], &b.accounts[hosting], &b.accounts[operating]
	due := h.due()
	fee := (h.settled+due)*feePPM/1_000_000 - h.settled*feePPM/1_000_000
	if due > 0 {
		b.entries++
		tenant.reserved -= due
		tenant.settled += due
		host.payable += due - fee
		op.fees += fee
		h.settled += due
	}
	if left := h.limit - h.settled; over && left > 0 {
		b.entries++
		tenant.reserved -= left
		tenant.available += left
	}
	h.released = h.released || over
	h.receipt = modelReceipt{given: true, released: over, paid: h.settled, fee: h.receipt.fee + fee, entry: b.entries}
}

// stands says how a reservation stands, from a place in the answer on.
func (h *modelHold) stands(v *said, at int) {
	copy(v.says[at:], []int64{int64(h.seq), int64(h.limit), int64(h.entry)})
}

func (r modelReceipt) says(v *said) {
	if r.given {
		copy(v.says[:4], []int64{int64(r.paid), int64(r.fee), int64(r.entry), 1})
		if r.released {
			v.says[3] = 2
		}
	}
}
