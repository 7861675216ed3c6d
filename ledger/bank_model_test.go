package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// The model keeps no balances at all: it remembers deposits and reservations and derives every balance from them, in
// integers without bound.
type model struct {
	deposits map[string]modelDeposit
	holds    map[wire.ID]*modelHold
}

type modelDeposit struct {
	account identity.Address
	amount  *big.Int
}

type modelHold struct {
	ask            ledger.Reserve
	seq            uint64
	limit, settled *big.Int
	fee            *big.Rat
	voucher        *ledger.Voucher
	open           bool
	opened, redeem member.Time
	closeAt, act   member.Time
	rest           bool
	keep           *big.Int
}

func num(a ledger.Amount) *big.Int { return big.NewInt(int64(a)) }

func least(a, b *big.Int) *big.Int {
	if a.Cmp(b) < 0 {
		return a
	}
	return b
}

func most(a, b *big.Int) *big.Int {
	if a.Cmp(b) > 0 {
		return a
	}
	return b
}

// cost is ceil(rate × minutes of 60 s / 3600).
func cost(r ledger.Rate, minutes int64) *big.Int {
	n := new(big.Int).Mul(big.NewInt(int64(r)), big.NewInt(minutes*60))
	n.Add(n, big.NewInt(3599))
	return n.Quo(n, big.NewInt(3600))
}

func (h *modelHold) owed() *big.Int {
	if h.voucher == nil {
		return h.settled
	}
	return most(h.settled, num(h.voucher.Total))
}

func (h *modelHold) left() *big.Int { return new(big.Int).Sub(h.limit, h.settled) }

func (m *model) deposited(a identity.Address) *big.Int {
	sum := new(big.Int)
	for _, d := range m.deposits {
		if d.account == a {
			sum.Add(sum, d.amount)
		}
	}
	return sum
}

func (m *model) reserved(a identity.Address) *big.Int {
	sum := new(big.Int)
	for _, h := range m.holds {
		if h.ask.Consumer == a && h.open {
			sum.Add(sum, h.left())
		}
	}
	return sum
}

func (m *model) available(a identity.Address) *big.Int {
	sum := m.deposited(a)
	for _, h := range m.holds {
		if h.ask.Consumer == a {
			sum.Sub(sum, h.settled)
		}
	}
	return sum.Sub(sum, m.reserved(a))
}

func (h *modelHold) feeTaken() *big.Int { return new(big.Int).Quo(h.fee.Num(), h.fee.Denom()) }

func (m *model) payable(a identity.Address) *big.Int {
	sum := new(big.Int)
	for _, h := range m.holds {
		if h.ask.Host == a {
			sum.Add(sum, h.settled)
			sum.Sub(sum, h.feeTaken())
		}
	}
	return sum
}

func (m *model) fees() *big.Int {
	sum := new(big.Int)
	for _, h := range m.holds {
		sum.Add(sum, h.feeTaken())
	}
	return sum
}

func (m *model) deposit(p member.Policy, acct identity.Address, amount ledger.Amount, ref string) ledger.Code {
	if amount <= 0 || ref == "" {
		return ledger.CodeMalformed
	}
	if old, ok := m.deposits[ref]; ok {
		if old.account != acct || old.amount.Cmp(num(amount)) != 0 {
			return ledger.CodeReused
		}
		return 0
	}
	if int64(amount) < p.MinDeposit {
		return ledger.CodeSmall
	}
	total := num(amount)
	for _, d := range m.deposits {
		total.Add(total, d.amount)
	}
	if !total.IsInt64() {
		return ledger.CodeOverflow
	}
	m.deposits[ref] = modelDeposit{acct, num(amount)}
	return 0
}

func (m *model) reserve(p member.Policy, r ledger.Reserve, quoted ledger.Rate, now member.Time) ledger.Code {
	if r.Cap <= 0 || r.MaxRate < 0 || r.Budget < 0 {
		return ledger.CodeMalformed
	}
	if h, ok := m.holds[r.Reservation]; ok {
		same := h.ask
		same.Cap, same.At, same.Quote = r.Cap, r.At, r.Quote
		switch {
		case same != r:
			return ledger.CodeReused
		case !h.open:
			return ledger.CodeClosed
		}
		return 0
	}
	for _, h := range m.holds {
		if h.ask.Lease == r.Lease {
			return ledger.CodeReused
		}
	}
	if r.MaxRate < quoted {
		return ledger.CodeSmall
	}
	need := cost(r.MaxRate, int64(p.ReserveLeast))
	if !need.IsInt64() {
		return ledger.CodeOverflow
	}
	limit := least(num(r.Cap), cost(r.MaxRate, int64(p.ReserveOpen)))
	if r.Budget > 0 {
		limit = least(limit, num(r.Budget))
	}
	if r.MaxRate == 0 || limit.Cmp(cost(r.MaxRate, 1)) < 0 {
		return ledger.CodeSmall
	}
	have := m.available(r.Consumer)
	if have.Cmp(least(need, limit)) < 0 {
		return ledger.CodeFunds
	}
	m.holds[r.Reservation] = &modelHold{ask: r, seq: 1, limit: least(limit, have), settled: new(big.Int), fee: new(big.Rat),
		open: true, opened: now, redeem: now + ledger.RedeemWithin, act: now}
	return 0
}

// lack is what a hold misses to pay n more minutes than it owes.
func (h *modelHold) lack(n int64) *big.Int {
	if h.closeAt != 0 || h.rest {
		return new(big.Int)
	}
	want := new(big.Int).Add(h.owed(), cost(h.ask.MaxRate, n))
	want = least(want, big.NewInt(math.MaxInt64))
	if h.ask.Budget > 0 {
		want = least(want, num(h.ask.Budget))
	}
	return most(new(big.Int), want.Sub(want, h.limit))
}

func (m *model) lackAll(a identity.Address, n int64) *big.Int {
	sum := new(big.Int)
	for _, h := range m.holds {
		if h.ask.Consumer == a && h.open {
			sum.Add(sum, h.lack(n))
		}
	}
	return sum
}

func (m *model) raise(p member.Policy, id wire.ID, now member.Time) bool {
	h, ok := m.holds[id]
	if !ok || !h.open || h.closeAt != 0 || now >= h.redeem {
		return false
	}
	have, more := m.available(h.ask.Consumer), new(big.Int)
	minutes := int64(p.ReserveOpen)
	for minutes > 0 && m.lackAll(h.ask.Consumer, minutes).Cmp(have) > 0 {
		minutes--
	}
	more.Set(h.lack(minutes))
	if minutes == int64(p.ReserveOpen) {
		// What all have first leaves half of the rest idle.
		idle := new(big.Int).Sub(have, m.reserved(h.ask.Consumer))
		idle.Quo(idle, big.NewInt(2))
		rest := new(big.Int).Sub(have, m.lackAll(h.ask.Consumer, minutes))
		extra := least(idle, rest)
		extra.Sub(extra, more)
		ahead := new(big.Int).Sub(h.lack(int64(p.ReserveAhead)), more)
		more.Add(more, most(new(big.Int), least(extra, ahead)))
	}
	if m.lackAll(h.ask.Consumer, 0).Cmp(have) > 0 && minutes == 0 {
		more.SetInt64(0)
	}
	if h.rest {
		ahead := most(new(big.Int), new(big.Int).Sub(h.limit, h.owed()))
		more.Sub(h.keep, ahead)
		if h.ask.Budget > 0 {
			more = least(more, most(new(big.Int), new(big.Int).Sub(num(h.ask.Budget), h.limit)))
		}
		more = most(new(big.Int), least(more, have))
		if new(big.Int).Mul(ahead, big.NewInt(2)).Cmp(h.keep) > 0 {
			more.SetInt64(0)
		}
	}
	urgent := h.rest || h.lack(int64(p.ReserveOpen/2)).Sign() > 0
	step := cost(h.ask.MaxRate, int64(p.ReserveLeast))
	if !urgent && more.Cmp(step) < 0 {
		more.SetInt64(0)
	}
	half := ledger.RedeemWithin / 2
	if more.Sign() == 0 && (now-h.act >= half && !h.rest || h.redeem-now >= half) {
		return false
	}
	h.limit = new(big.Int).Add(h.limit, more)
	h.seq++
	h.redeem = max(h.redeem, now+ledger.RedeemWithin)
	return true
}

func (m *model) lower(l ledger.Lower) ledger.Code {
	h, code := m.find(l.Reservation, l.Lease)
	switch {
	case l.Cap < 0:
		return ledger.CodeMalformed
	case code != 0:
		return code
	case h.ask.Host != l.Host:
		return ledger.CodeHost
	case !h.open:
		return ledger.CodeClosed
	case num(l.Cap).Cmp(h.limit) == 0 && l.Seq < h.seq:
		return 0
	case l.Seq != h.seq:
		return ledger.CodeStale
	case num(l.Cap).Cmp(h.limit) > 0 || num(l.Cap).Cmp(h.owed()) < 0:
		return ledger.CodeCap
	}
	h.rest, h.keep = true, new(big.Int).Sub(num(l.Cap), h.owed())
	if num(l.Cap).Cmp(h.limit) != 0 {
		h.seq++
	}
	h.limit = num(l.Cap)
	return 0
}

func (m *model) find(id, lease wire.ID) (*modelHold, ledger.Code) {
	h, ok := m.holds[id]
	switch {
	case !ok:
		return nil, ledger.CodeUnknown
	case h.ask.Lease != lease:
		return nil, ledger.CodeLease
	}
	return h, 0
}

// show checks a voucher; it tells whether it is newer.
func (h *modelHold) show(v ledger.Voucher, now member.Time) (bool, ledger.Code) {
	switch {
	case v.Lease != h.ask.Lease:
		return false, ledger.CodeLease
	case v.Host != h.ask.Host:
		return false, ledger.CodeHost
	case v.By != h.ask.By:
		return false, ledger.CodeSigner
	}
	if old := h.voucher; old != nil && v.Total <= old.Total {
		return false, 0
	}
	switch {
	case !h.open:
		return false, ledger.CodeClosed
	case now >= h.redeem:
		return false, ledger.CodeLate
	}
	return true, 0
}

func (h *modelHold) pay(p member.Policy) {
	if h.voucher == nil {
		return
	}
	to := most(h.settled, least(h.limit, num(h.voucher.Total)))
	diff := new(big.Int).Sub(to, h.settled)
	h.settled = to
	h.fee.Add(h.fee, new(big.Rat).Mul(new(big.Rat).SetInt(diff), big.NewRat(int64(p.Fee), 1_000_000)))
}

func (m *model) settle(p member.Policy, v ledger.Voucher, now member.Time) ledger.Code {
	h, code := m.find(v.Reservation, v.Lease)
	if code != 0 {
		return code
	}
	newer, code := h.show(v, now)
	if code != 0 {
		return code
	}
	if newer {
		h.voucher, h.act = &v, now
	}
	if h.open {
		h.pay(p)
	}
	return 0
}

func (m *model) final(p member.Policy, f ledger.Final, v *ledger.Voucher, now member.Time) ledger.Code {
	h, code := m.find(f.Reservation, f.Lease)
	switch {
	case f.Total < 0:
		return ledger.CodeMalformed
	case code != 0:
		return code
	case h.ask.Host != f.Host:
		return ledger.CodeHost
	case !h.open:
		return 0
	case v != nil && v.Total > f.Total:
		return ledger.CodeMismatch
	}
	if v != nil {
		if v.Reservation != h.ask.Reservation {
			return ledger.CodeLease
		}
		if code := m.settle(p, *v, now); code != 0 {
			return code
		}
	}
	h.pay(p)
	h.open = false
	return 0
}

func (m *model) noLease(p member.Policy, n ledger.NoLease) ledger.Code {
	h, code := m.find(n.Reservation, n.Lease)
	switch {
	case code != 0:
		return code
	case h.ask.Host != n.Host:
		return ledger.CodeHost
	case h.owed().Sign() > 0:
		return ledger.CodePaid
	case !h.open:
		return 0
	case h.opened-n.At > member.Time(p.Hold+p.Skew)*member.Second:
		return ledger.CodeStale
	}
	h.open = false
	return 0
}

func (m *model) close(p member.Policy, c ledger.Close, v *ledger.Voucher, now member.Time) ledger.Code {
	h, code := m.find(c.Reservation, c.Lease)
	switch {
	case code != 0:
		return code
	case h.ask.Consumer != c.Consumer:
		return ledger.CodeSigner
	case !h.open:
		return 0
	}
	if v != nil {
		if v.Reservation != h.ask.Reservation {
			return ledger.CodeLease
		}
		if code := m.settle(p, *v, now); code != 0 {
			return code
		}
	}
	h.pay(p)
	if h.closeAt == 0 {
		h.closeAt = now + member.Time(p.CloseAfter)*60*member.Second
		h.redeem = min(h.redeem, h.closeAt)
		h.seq++
	}
	return 0
}

func (m *model) tick(p member.Policy, now member.Time) int {
	n := 0
	for _, h := range m.holds {
		if h.open && (h.closeAt != 0 && now >= h.closeAt || now >= h.redeem) {
			h.pay(p)
			h.open = false
			n++
		}
	}
	return n
}

// run is one random history: the bank, its model, the rows that its caller would have written, and the journal.
type run struct {
	t       *rapid.T
	bank    *ledger.Bank
	model   *model
	now     member.Time
	policy  member.Policy
	rows    map[string][]byte
	replay  map[identity.Address]map[ledger.Book]*big.Int
	head    ledger.Head
	claims  []ledger.Voucher
	entries map[wire.ID]ledger.Usage // usage of claims, by the first half of its ref
}

var (
	consumers = []identity.Address{{1, 1}, {1, 2}, {1, 3}}
	hosts     = []identity.Address{{2, 1}, {2, 2}, {1, 3}} // one is a consumer too
)

func pick[T any](t *rapid.T, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(t, label)
}

// amount draws from the sizes that matter: small, usual, and at the edge of int64.
func amount(t *rapid.T, label string) ledger.Amount {
	switch rapid.IntRange(0, 9).Draw(t, label+" size") {
	case 0:
		return ledger.Amount(rapid.Int64Range(-2, 40).Draw(t, label))
	case 1:
		return ledger.Amount(math.MaxInt64 - rapid.Int64Range(0, 40).Draw(t, label))
	case 2:
		return ledger.Amount(rapid.Int64Range(0, math.MaxInt64).Draw(t, label))
	}
	return ledger.Amount(rapid.Int64Range(0, 40_000_000_000).Draw(t, label))
}

func (r *run) code(err error) ledger.Code {
	if err == nil {
		return 0
	}
	var no *ledger.Refused
	if !errors.As(err, &no) {
		r.t.Fatalf("an error that is no refusal: %v", err)
	}
	return no.Code
}

func (r *run) ask() ledger.Reserve {
	n := byte(rapid.IntRange(1, 5).Draw(r.t, "id"))
	lease := n
	if rapid.IntRange(0, 9).Draw(r.t, "lease") == 0 {
		lease++
	}
	return ledger.Reserve{
		Consumer: consumers[n%3], Reservation: wire.ID{n}, Lease: wire.ID{9, lease}, By: consumers[n%3],
		Host: pick(r.t, "host", hosts[n%3], hosts[n%3], hosts[n%3], hosts[0]),
		Cap:  amount(r.t, "cap"), MaxRate: pick(r.t, "rate", ledger.Rate(0), 500_000_000, 500_000_000, 3_000_000_000, math.MaxInt64),
		Budget: pick(r.t, "budget", ledger.Amount(0), 0, 2_000_000_000),
	}
}

// target is an open reservation as a rule, or one that may not exist.
func (r *run) target() ledger.Reserve {
	n := byte(rapid.IntRange(1, 5).Draw(r.t, "target"))
	if h, ok := r.model.holds[wire.ID{n}]; ok {
		a := h.ask
		switch rapid.IntRange(0, 24).Draw(r.t, "wrong") {
		case 0:
			a.Host = identity.Address{7}
		case 1:
			a.Lease = wire.ID{7}
		case 2:
			a.By, a.Consumer = identity.Address{7}, identity.Address{7}
		}
		return a
	}
	return ledger.Reserve{Reservation: wire.ID{n}, Lease: wire.ID{9, n}, Host: hosts[0], Consumer: consumers[0], By: consumers[0]}
}

// voucher is a new one, mostly a little more than the last, or an old one again.
func (r *run) voucher(a ledger.Reserve) (ledger.Voucher, ledger.Usage) {
	if len(r.claims) > 0 && rapid.IntRange(0, 3).Draw(r.t, "old") == 0 {
		v := pick(r.t, "which", r.claims...)
		return v, r.entries[wire.ID(v.Usage[:16])]
	}
	seq, total := uint64(rapid.IntRange(1, 8).Draw(r.t, "seq")), ledger.Amount(rapid.Int64Range(0, 4_000_000_000).Draw(r.t, "total"))
	if h := r.model.holds[a.Reservation]; h != nil && h.voucher != nil && rapid.Bool().Draw(r.t, "next") {
		seq = h.voucher.Seq + uint64(rapid.IntRange(0, 2).Draw(r.t, "step"))
		total = min(h.voucher.Total, math.MaxInt64/3600-1e9) + ledger.Amount(rapid.Int64Range(-5, 500_000_000).Draw(r.t, "more"))
	}
	if rapid.IntRange(0, 19).Draw(r.t, "huge") == 0 {
		total = math.MaxInt64 / 3600
	}
	total = max(0, total)
	u := ledger.Usage{Host: a.Host, Lease: a.Lease, Seq: seq, First: 1 << 20, Count: 1, Billable: 1, Status: ledger.StatusRunning,
		Basis: ledger.BasisAttended, Numerator: int64(total) * 3600}
	v := ledger.Voucher{Reservation: a.Reservation, Lease: a.Lease, By: a.By, Host: a.Host, Total: total, Minute: u.Last(), Seq: seq,
		Usage: charter().Market().Ref(wire.KindUsage, wire.Marshal(u))}
	r.claims = append(r.claims, v)
	r.entries[wire.ID(v.Usage[:16])] = u
	return v, u
}

func (r *run) maybe(v ledger.Voucher) *ledger.Voucher {
	if rapid.Bool().Draw(r.t, "with voucher") {
		return &v
	}
	return nil
}

// step does one thing to both and compares the answers.
func (r *run) step() {
	before := wire.Marshal(r.bank.Snapshot())
	var got, want ledger.Code
	var err error
	var did string
	switch op := rapid.IntRange(0, 19).Draw(r.t, "op"); op {
	case 0, 1, 2:
		acct, amt := pick(r.t, "account", consumers...), amount(r.t, "deposit")
		ref := fmt.Sprint("ref", rapid.IntRange(0, 7).Draw(r.t, "ref"))
		did = fmt.Sprintf("deposit %v %v %q", acct.Short(), amt, ref)
		_, err = r.bank.Deposit(r.policy, acct, amt, ref, r.now)
		want = r.model.deposit(r.policy, acct, amt, ref)
	case 3, 4, 5, 6:
		a := r.ask()
		quoted := pick(r.t, "quoted", a.MaxRate, a.MaxRate, a.MaxRate/2, 1_000_000_000)
		did = fmt.Sprintf("reserve %+v", a)
		_, err = r.bank.Reserve(r.policy, a, quoted, r.now)
		want = r.model.reserve(r.policy, a, quoted, r.now)
	case 7, 8, 9:
		a := r.target()
		_, raised := r.bank.Raise(r.policy, a.Reservation, r.now)
		did = fmt.Sprintf("raise %v: %v", a.Reservation.Short(), raised)
		if must := r.model.raise(r.policy, a.Reservation, r.now); must != raised {
			r.t.Fatalf("%s, want %v", did, must)
		}
	case 10, 11:
		a := r.target()
		l := ledger.Lower{Host: a.Host, Lease: a.Lease, Reservation: a.Reservation, Seq: 1, Cap: amount(r.t, "lower")}
		if h := r.model.holds[a.Reservation]; h != nil {
			l.Seq = h.seq - uint64(rapid.IntRange(0, 1).Draw(r.t, "stale"))
			if l.Seq == 0 {
				l.Seq = 1
			}
		}
		did = fmt.Sprintf("lower %+v", l)
		_, err = r.bank.Lower(l, r.now)
		want = r.model.lower(l)
	case 12, 13, 14, 15:
		v, u := r.voucher(r.target())
		did = fmt.Sprintf("settle %+v", v)
		_, err = r.bank.Settle(r.policy, v, u, r.now)
		want = r.model.settle(r.policy, v, r.now)
	case 16:
		a := r.target()
		v, _ := r.voucher(a)
		f := ledger.Final{Host: a.Host, Lease: a.Lease, Reservation: a.Reservation, Total: v.Total - 1 + pick(r.t, "total", ledger.Amount(0), 1, 1, 1)}
		with := r.maybe(v)
		did = fmt.Sprintf("final %+v %+v", f, with)
		_, err = r.bank.Final(r.policy, f, with, r.now)
		want = r.model.final(r.policy, f, with, r.now)
	case 17:
		a := r.target()
		n := ledger.NoLease{Host: a.Host, Lease: a.Lease, Reservation: a.Reservation,
			At: r.now - pick(r.t, "said", 0, 0, 40*member.Second, 41*member.Second, member.Hour)}
		did = fmt.Sprintf("no lease %+v", n)
		_, err = r.bank.NoLease(r.policy, n, r.now)
		want = r.model.noLease(r.policy, n)
	case 18:
		a := r.target()
		v, _ := r.voucher(a)
		with := r.maybe(v)
		did = fmt.Sprintf("close %v %+v", a.Reservation.Short(), with)
		c := ledger.Close{Consumer: a.Consumer, Lease: a.Lease, Reservation: a.Reservation}
		err = r.bank.Close(r.policy, c, with, r.now)
		want = r.model.close(r.policy, c, with, r.now)
	case 19:
		r.now += pick(r.t, "later", member.Second, member.Hour, member.Day, 3*member.Day, 16*member.Day)
		n := len(r.bank.Tick(r.policy, r.now))
		did = fmt.Sprintf("tick %v: %d", r.now, n)
		if must := r.model.tick(r.policy, r.now); must != n {
			r.t.Fatalf("%s released, want %d", did, must)
		}
	}
	if got = r.code(err); got != want {
		r.t.Fatalf("%s: got %v (%v), want %v", did, got, err, want)
	}
	if err != nil && !bytes.Equal(before, wire.Marshal(r.bank.Snapshot())) {
		r.t.Fatalf("%s was refused (%v) and changed the bank", did, err)
	}
	r.check(did)
}

// check holds the bank against the model, and its rows and journal against the bank.
func (r *run) check(did string) {
	if err := r.bank.Audit(); err != nil {
		r.t.Fatalf("%s: %v", did, err)
	}
	same := func(what string, a identity.Address, got ledger.Amount, want *big.Int) {
		if num(got).Cmp(want) != 0 {
			r.t.Fatalf("%s: %s of %v is %d, want %v", did, what, a.Short(), got, want)
		}
	}
	for _, a := range append(slices.Clone(consumers), hosts...) {
		acc := r.bank.Account(a)
		same("deposited", a, acc.Deposited, r.model.deposited(a))
		same("available", a, acc.Available, r.model.available(a))
		same("reserved", a, acc.Reserved, r.model.reserved(a))
		same("payable", a, acc.Payable, r.model.payable(a))
	}
	same("fees", operator, r.bank.Account(operator).Fees, r.model.fees())
	for id, h := range r.model.holds {
		got, _ := r.bank.Hold(id)
		same("cap", h.ask.Consumer, got.Reservation.Cap, h.limit)
		same("settled", h.ask.Consumer, got.Settled, h.settled)
		if got.Reservation.Seq != h.seq || got.Open() != h.open || got.Reservation.RedeemBy != h.redeem {
			r.t.Fatalf("%s: hold %+v, want sequence %d, open %v, redeem by %v", did, got, h.seq, h.open, h.redeem)
		}
	}
	r.write(did)
}

// write keeps rows as a caller does, follows the journal, and rebuilds the bank from the rows.
func (r *run) write(did string) {
	c := r.bank.Changes()
	for _, e := range c.Entries {
		if e.Seq != r.head.Seq+1 || e.Prev != r.head.Ref {
			r.t.Fatalf("%s: entry %d after %d does not continue the journal", did, e.Seq, r.head.Seq)
		}
		r.head = ledger.Head{Seq: e.Seq, Ref: charter().Market().Ref(wire.KindBankEntry, wire.Marshal(e)), At: e.At}
		sum := new(big.Int)
		for _, p := range e.Postings {
			sum.Add(sum, num(p.Amount))
			if r.replay[p.Account] == nil {
				r.replay[p.Account] = map[ledger.Book]*big.Int{}
			}
			if r.replay[p.Account][p.Book] == nil {
				r.replay[p.Account][p.Book] = new(big.Int)
			}
			r.replay[p.Account][p.Book].Add(r.replay[p.Account][p.Book], num(p.Amount))
		}
		if sum.Sign() != 0 {
			r.t.Fatalf("%s: entry %d sums to %v", did, e.Seq, sum)
		}
	}
	if c.Head != r.head {
		r.t.Fatalf("%s: head %+v, want %+v", did, c.Head, r.head)
	}
	for _, a := range c.Accounts {
		r.rows["a"+string(a.Address[:])] = wire.Marshal(a)
		for book, got := range map[ledger.Book]ledger.Amount{ledger.BookAvailable: a.Available, ledger.BookReserved: a.Reserved,
			ledger.BookPayable: a.Payable, ledger.BookFees: a.Fees, ledger.BookExternal: -a.Deposited} {
			want := r.replay[a.Address][book]
			if want == nil {
				want = new(big.Int)
			}
			if num(got).Cmp(want) != 0 {
				r.t.Fatalf("%s: %v of %v is %d, its postings sum to %v", did, book, a.Address.Short(), got, want)
			}
		}
	}
	for _, h := range c.Holds {
		r.rows["h"+string(h.Reservation.ID[:])] = wire.Marshal(h)
	}
	for _, s := range c.Spendings {
		r.rows["s"+string(s.Account[:])] = wire.Marshal(s)
	}
	for _, d := range c.Deposits {
		r.rows["d"+d.Ref] = wire.Marshal(d)
	}
	if again := r.bank.Changes(); !again.Empty() {
		r.t.Fatalf("%s: changes were given twice: %+v", did, again)
	}
	r.reload(did)
}

func (r *run) reload(did string) {
	s := ledger.Snapshot{Head: r.head}
	for k, row := range r.rows { // any order
		switch k[0] {
		case 'a':
			s.Accounts = append(s.Accounts, load[ledger.Account](r.t, row))
		case 'h':
			s.Holds = append(s.Holds, load[ledger.Hold](r.t, row))
		case 's':
			s.Spendings = append(s.Spendings, load[ledger.Spending](r.t, row))
		case 'd':
			s.Deposits = append(s.Deposits, load[ledger.Deposit](r.t, row))
		}
	}
	b := ledger.NewBank(operator, charter())
	if err := b.Restore(s); err != nil {
		r.t.Fatalf("%s: restore: %v", did, err)
	}
	if !bytes.Equal(wire.Marshal(b.Snapshot()), wire.Marshal(r.bank.Snapshot())) {
		r.t.Fatalf("%s: the rows give another bank", did)
	}
	if !b.Changes().Empty() {
		r.t.Fatalf("%s: a restored bank has changes", did)
	}
	r.bank = b
}

func load[T any](t *rapid.T, row []byte) T {
	var v T
	if err := wire.Load(row, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestBankAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy()
		p.MinDeposit = pick(t, "least deposit", int64(10), 10_000_000_000)
		p.Fee = pick(t, "fee", uint32(0), 33_333, 500_000)
		p.CloseAfter = 60
		r := &run{t: t, now: noon, policy: p, bank: ledger.NewBank(operator, charter()),
			model:  &model{deposits: map[string]modelDeposit{}, holds: map[wire.ID]*modelHold{}},
			rows:   map[string][]byte{},
			replay: map[identity.Address]map[ledger.Book]*big.Int{}, entries: map[wire.ID]ledger.Usage{}}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			r.step()
		}
	})
}
