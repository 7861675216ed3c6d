package node

import (
	"errors"
	"fmt"

	"souk/ledger"
	"souk/market"
	"souk/node/core"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

var vouchersOf = []ledger.Amount{5 * aMinute, 12 * aMinute, 20 * aMinute, 33 * aMinute, 50 * aMinute}

// draw is any question. All who ask share few ids: most is asked more than once.
func (c *counter) draw() demand {
	d := demand{what: question(c.lots.IntN(int(askTick)))}
	some := func(list ...ledger.Amount) ledger.Amount { return list[c.lots.IntN(len(list))] }
	switch d.what {
	case askDeposit:
		d.of, d.odd = c.lots.IntN(mostDeposits), c.lots.IntN(8) == 0
		d.from, d.amount = []int{alice, bob, saver, saver}[d.of], 10*ledger.Credit
		if d.odd {
			d.amount++
		}
	case askReserve:
		d.of, d.odd = c.lots.IntN(mostLeases), c.lots.IntN(8) == 0
	case askSettle, askFinal, askClose:
		d.of, d.amount = c.lots.IntN(mostLeases), some(vouchersOf...)
	case askNoLease, askReceipt:
		d.of = c.lots.IntN(mostLeases)
	case askRaise:
		if d.of = c.lots.IntN(mostLeases); c.lots.IntN(2) == 0 {
			d.amount = some(vouchersOf...)
		}
	case askLower:
		d.of, d.amount, d.seq = c.lots.IntN(mostLeases), some(10*aMinute, 20*aMinute, 25*aMinute, 40*aMinute), 1+uint64(c.lots.IntN(4))
	case askPayout:
		d.of, d.odd, d.from = c.lots.IntN(mostPayouts), c.lots.IntN(8) == 0, hosting
		if d.amount = ledger.Amount(1+d.of) * 5 * aMinute; d.odd {
			d.amount++
		}
	case askPaid, askReturned:
		d.of = c.lots.IntN(mostPayouts)
	case askTransfer:
		d.of, d.odd = c.lots.IntN(mostTransfers), c.lots.IntN(8) == 0
		d.from, d.to = [mostTransfers]int{saver, saver, alice, hosting, saver}[d.of], [mostTransfers]int{bob, alice, saver, saver, hosting}[d.of]
		d.amount, d.earned = [mostTransfers]ledger.Amount{6, 7, 3, 1, 5}[d.of]*ledger.Credit, d.from == hosting
		if d.earned {
			d.amount = 4 * aMinute
		}
		if d.odd {
			d.amount++
		}
	case askBalance, askLook:
		d.of = c.lots.IntN(mostAccounts)
	}
	return d
}

// asker is whose question it is.
func (c *counter) asker(d demand) int {
	switch d.what {
	case askReserve, askClose:
		return tenant(d.of)
	case askBalance:
		return d.of
	case askTransfer:
		return d.from
	}
	return hosting
}

func (c *counter) signed(who int, msg wire.Message) wire.Object {
	o, err := core.Sign(c.node.Market(), bankKeys[who], wire.Draft(msg))
	if err != nil {
		c.t.Fatal(err)
	}
	return o
}

func (c *counter) verified(objects ...wire.Object) []wire.AnyVerified {
	list, err := core.OpenAll(wire.Opener{Market: c.node.Market(), Verifier: identity.Secp256k1{}}, objects)
	if err != nil {
		c.t.Fatal(err)
	}
	return list
}

// frame is a question as it is sent: the same bytes each time.
func (c *counter) frame(d demand) wire.Frame {
	f, ok := c.frames[d]
	if !ok {
		f = c.compose(d)
		c.frames[d] = f
	}
	return f
}

func (c *counter) compose(d demand) wire.Frame {
	host, op, at := bankKeys[hosting].Address(), bankKeys[operating].Address(), bankNoon+member.Hour
	lease, res := wire.ID{byte(d.of + 1), 1}, wire.ID{byte(d.of + 1), 2}
	who := bankKeys[tenant(d.of)].Address()
	frame := func(o step.Op, body any, objects ...wire.Object) wire.Frame {
		f := wire.Frame{Op: uint8(o), Objects: objects}
		if body != nil {
			f.Body = wire.Marshal(body)
		}
		return f
	}
	claim := func() []wire.Object {
		n := uint64(d.amount / aMinute)
		u := c.signed(hosting, ledger.Usage{Host: host, Lease: lease, Seq: n, First: member.Minute(bankNoon/60000) + member.Minute(n), Count: 1, Billable: 1,
			Status: ledger.StatusRunning, Basis: ledger.BasisAttended, Numerator: int64(d.amount) * 3600})
		m, _ := wire.Decode[ledger.Usage](u)
		v := ledger.Voucher{Reservation: res, Lease: lease, By: who, Host: host, Total: d.amount, Minute: m.Last(), Usage: u.Ref(c.node.Market()), Seq: n}
		return []wire.Object{c.signed(tenant(d.of), v), u}
	}
	switch d.what {
	case askReserve:
		t := market.Terms{Lease: lease, Seq: 1, Host: host, Consumer: who, By: who, Attendant: who, Bid: wire.ID{byte(d.of + 1), 3}, Type: market.OnDemand,
			GPUs: 1, Model: "RTX_4090", Rate: 60 * ledger.Rate(aMinute), Grace: 5, OnEnd: market.OnEndStop, Reservation: res, Budget: budgeted,
			Tariff: ledger.Tariff{GPU: 60 * ledger.Rate(aMinute)}}
		q := c.signed(hosting, market.Quote{Host: host, Lease: lease, Request: identity.Hash{1}, Terms: wire.Marshal(t), At: bankNoon, Expires: at})
		r := ledger.Reserve{Consumer: who, Reservation: res, Lease: lease, Host: host, By: who, Quote: q.Ref(c.node.Market()), Cap: capAsked,
			MaxRate: t.Rate, Budget: t.Budget}
		if d.odd {
			r.Budget -= 10 * aMinute
		}
		return frame(step.OpReserve, nil, c.signed(tenant(d.of), r), q)
	case askSettle:
		return frame(step.OpSettle, nil, claim()...)
	case askFinal:
		f := ledger.Final{Host: host, Lease: lease, Reservation: res, Total: d.amount, At: at}
		return frame(step.OpFinal, nil, append(claim(), c.signed(hosting, f))...)
	case askNoLease:
		return frame(step.OpNoLease, nil, c.signed(hosting, ledger.NoLease{Host: host, Lease: lease, Reservation: res, At: at}))
	case askClose:
		v := ledger.Close{Consumer: who, Lease: lease, Reservation: res, Total: d.amount, At: at}
		return frame(step.OpClose, nil, c.signed(tenant(d.of), v), claim()[0])
	case askLower:
		return frame(step.OpLower, nil, c.signed(hosting, ledger.Lower{Host: host, Lease: lease, Reservation: res, Seq: d.seq, Cap: d.amount, At: at}))
	case askRaise:
		if d.amount == 0 {
			return frame(step.OpRefresh, step.LeaseBody{Lease: lease})
		}
		return frame(step.OpRefresh, step.LeaseBody{Lease: lease}, claim()...)
	case askReceipt:
		return frame(step.OpReceipt, step.LeaseBody{Lease: lease})
	case askPayout:
		r := ledger.PayoutRequest{Account: host, Operator: op, ID: payoutID(d.of), Amount: d.amount, At: at}
		return frame(step.OpPayout, nil, c.signed(hosting, r))
	case askTransfer:
		r := ledger.Transfer{From: bankKeys[d.from].Address(), To: bankKeys[d.to].Address(), Operator: op, ID: wire.ID{byte(d.of + 1), 5}, Amount: d.amount,
			Earned: d.earned, At: at}
		return frame(step.OpTransfer, nil, c.signed(d.from, r))
	}
	return frame(step.OpBalance, nil)
}

func payoutID(i int) wire.ID { return wire.ID{byte(i + 1), 4} }

func (c *counter) command(d demand) any {
	switch d.what {
	case askDeposit:
		return operator.Deposit{Addr: bankKeys[d.from].Address().String(), Amount: d.amount, Ref: fmt.Sprint("wire ", d.of)}
	case askPaid:
		return operator.Pay{ID: payoutID(d.of).String(), Ref: fmt.Sprint("paid ", d.of)}
	case askReturned:
		return operator.Return{ID: payoutID(d.of).String(), Reason: "no such account"}
	}
	return operator.Balance{Addr: bankKeys[d.of].Address().String()}
}

// reply is what a peer is told: everything in it is signed by the bank.
func (c *counter) reply(out *step.Out, d demand, r step.Reply) said {
	s := said{known: true}
	if r.Refusal != nil {
		s.no = r.Refusal.Code
		return s
	}
	for i, o := range r.Frame.Objects {
		var err error
		if r.Frame.Objects[i], err = core.Sign(out.Market, bankKeys[operating], o); err != nil {
			c.t.Fatal(err)
		}
	}
	at := 4
	if d.what == askReserve || d.what == askLower {
		at = 0
	}
	for _, o := range c.verified(r.Frame.Objects...) {
		switch v := o.(type) {
		case wire.Verified[ledger.Reservation]:
			copy(s.says[at:], []int64{int64(v.Value().Seq), int64(v.Value().Cap), int64(v.Value().Entry)})
		case wire.Verified[ledger.SettleReceipt]:
			x := v.Value()
			copy(s.says[:4], []int64{int64(x.Paid), int64(x.Fee), int64(x.Entry), 1})
			if x.Released {
				s.says[3] = 2
			}
		case wire.Verified[ledger.PayoutReceipt]:
			copy(s.says[:], []int64{int64(v.Value().State), int64(v.Value().Entry)})
		case wire.Verified[ledger.TransferReceipt]:
			s.says[0] = int64(v.Value().Entry)
		}
	}
	if d.what == askBalance {
		b, err := step.Body[step.BalanceAnswer](r.Frame.Body)
		if err != nil {
			c.t.Fatal(err)
		}
		s.says = [9]int64{b.Deposited, b.Available, b.Reserved, b.Payable, b.Paying, b.PaidOut, b.Settled, b.Fees, int64(b.Entries)}
	}
	return s
}

// answer is what the operator's user is told.
func (c *counter) answer(a step.Answer) said {
	s := said{known: true}
	var p *step.Problem
	if errors.As(a.Err, &p) {
		switch p.Code {
		case step.ProblemConflict:
			s.no = step.RefuseMoney
		case step.ProblemNotFound:
			s.no = step.RefuseUnknown
		default:
			c.t.Errorf("a command fails: %v", p)
		}
		return s
	}
	switch v := a.Value.(type) {
	case operator.DepositView:
		s.says[0] = int64(v.Entry)
	case operator.PayoutView:
		for st := ledger.PayoutPaying; st <= ledger.PayoutReturned; st++ {
			if st.String() == v.State {
				s.says = [9]int64{int64(st), int64(v.Entry)}
			}
		}
	case operator.AccountView:
		s.says = [9]int64{int64(v.Deposited), int64(v.Available), int64(v.Reserved), int64(v.Payable), int64(v.Paying), int64(v.PaidOut),
			int64(v.Settled), int64(v.Fees), int64(v.Entries)}
	}
	return s
}
