package consumer

import (
	"fmt"

	"souk/ledger"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Commands about the account's own money. Ids are random and drawn by the caller; the same one again is the same payment.
type (
	// PayOut has the bank pay out what this account has earned. Answer: Payment.
	PayOut struct {
		ID     wire.ID
		Amount ledger.Amount
	}
	// Give transfers credits to another account. Answer: Payment.
	Give struct {
		ID     wire.ID
		To     identity.Address
		Amount ledger.Amount
		Earned bool // from what was earned, not from what is available
		Memo   string
	}
	// Payments lists both, oldest first, and asks the bank how those stand that are on their way. Answer: []Payment.
	Payments struct{}
)

// A payment is an order that this node gave its bank: one durable row. It is repeated until the bank has had its say, so a lost
// answer is never a second payment.
type payment struct {
	Bank    identity.Address `cbor:"1,keyasint"`
	Order   wire.Object      `cbor:"2,keyasint"` // a draft of a PayoutRequest or Transfer
	Receipt wire.Object      `cbor:"3,keyasint"` // zero until the bank has answered
	Refused string           `cbor:"4,keyasint"` // why the bank will not
	At      member.Time      `cbor:"5,keyasint"`
}

// A Payment is what a user sees of one.
type Payment struct {
	ID     wire.ID          `json:"id"`
	Kind   string           `json:"kind"` // payout or transfer
	To     identity.Address `json:"to"`   // of a transfer
	Amount ledger.Amount    `json:"amount"`
	State  string           `json:"state"` // sent, paying, paid, returned, made, refused
	Detail string           `json:"detail,omitempty"`
	Entry  uint64           `json:"entry,omitempty"` // of the bank's journal
	At     member.Time      `json:"at"`
}

// paysAt is how often a payout that is on its way is asked after, minutes.
const paysAt = member.HourMinutes

func (c *Consumer) payOut(ctx *step.Context, id uint64, m PayOut) {
	c.pay(ctx, id, m.ID, func(bank identity.Address) wire.Message {
		return ledger.PayoutRequest{Account: ctx.Self, Operator: bank, ID: m.ID, Amount: m.Amount, At: ctx.Now}
	})
}

func (c *Consumer) give(ctx *step.Context, id uint64, m Give) {
	c.pay(ctx, id, m.ID, func(bank identity.Address) wire.Message {
		return ledger.Transfer{From: ctx.Self, To: m.To, Operator: bank, ID: m.ID, Amount: m.Amount, Earned: m.Earned, Memo: m.Memo, At: ctx.Now}
	})
}

// pay files an order, sends it, and answers with what became of it.
func (c *Consumer) pay(ctx *step.Context, id uint64, pid wire.ID, order func(bank identity.Address) wire.Message) {
	if p := c.payments.Get(pid); p != nil && !p.same(order(p.Bank)) {
		ctx.Answer(id, nil, step.Fail(step.ProblemConflict, "draw a new id for another payment", "payment %s stands for something else", pid.Short()))
		return
	} else if p != nil { // the same order once more
		c.askPayment(ctx, pid, func(ctx *step.Context) { ctx.Answer(id, c.paymentView(pid), nil) })
		return
	}
	bank := c.w.Bank()
	if bank.IsZero() {
		ctx.Answer(id, nil, noBank())
		return
	}
	draft, err := wire.TryDraft(order(bank))
	if err != nil {
		ctx.Answer(id, nil, step.Fail(step.ProblemUsage, "", "%v", err))
		return
	}
	ctx.Guard(chain("payment", pid), 1, draft)
	c.payments.Put(pid, payment{Bank: bank, Order: draft, At: ctx.Now})
	c.askPayment(ctx, pid, func(ctx *step.Context) {
		v := c.paymentView(pid)
		switch p := c.payments.Get(pid); {
		case p.Refused != "":
			ctx.Answer(id, nil, step.Fail(step.ProblemFunds, "", "the bank refuses: %s", p.Refused))
		default:
			ctx.Answer(id, v, nil)
		}
	})
}

// same reports whether an order is this one, given at another time.
func (p *payment) same(msg wire.Message) bool {
	switch m := msg.(type) {
	case ledger.PayoutRequest:
		old, err := wire.Decode[ledger.PayoutRequest](p.Order)
		m.At = old.At
		return err == nil && m == old
	case ledger.Transfer:
		old, err := wire.Decode[ledger.Transfer](p.Order)
		m.At = old.At
		return err == nil && m == old
	}
	return false
}

// askPayment gives the bank the order, and takes its answer. then is called when it has come, or none has.
func (c *Consumer) askPayment(ctx *step.Context, pid wire.ID, then func(*step.Context)) {
	p := c.payments.Get(pid)
	op := step.OpPayout
	if p.Order.Kind == wire.KindTransfer {
		op = step.OpTransfer
	}
	r := c.paying(pid)
	r.busy = true
	c.ask(ctx, toBank(p.Bank, op, nil, p.Order).within(shortly), func(ctx *step.Context, ans step.Response) {
		p := c.payments.Get(pid)
		r.failed(ctx.Now, hurry, 16*ctx.Clock.Slot)
		switch {
		case ans.Err == nil:
			if c.takePayment(ctx, p, ans.Objects) {
				r.n, r.next = 0, ctx.Now+span(ctx, paysAt)
			}
		case no(ans.Err) && p.Receipt.IsZero():
			p.Refused = ans.Err.Refusal.Reason
			c.payments.Touch(pid)
		}
		if then != nil {
			then(ctx)
		}
	})
}

// takePayment keeps the bank's word. It reports whether it was about this order.
func (c *Consumer) takePayment(ctx *step.Context, p *payment, objects []wire.AnyVerified) bool {
	v := p.view()
	if r, ok := step.Find[ledger.PayoutReceipt](objects); ok && v.Kind == "payout" {
		w := r.Value()
		if w.Operator != p.Bank || w.ID != v.ID || w.Amount != v.Amount || w.Account != ctx.Self {
			return false
		}
		if p.Receipt.IsZero() || w.State.String() != v.State {
			p.Receipt, p.Refused = r.Object(), ""
			c.payments.Touch(v.ID)
			ctx.Notify("payout."+w.State.String(), wire.ID{}, fmt.Sprintf("payout %s of %s is %v %s", v.ID.Short(), v.Amount.Text(), w.State, w.Ref),
				"payout", v.ID.String(), "amount", v.Amount.String())
		}
		return true
	}
	r, ok := step.Find[ledger.TransferReceipt](objects)
	w := r.Value()
	if !ok || v.Kind != "transfer" || w.Operator != p.Bank || w.Transfer != p.Order.Ref(ctx.Market) {
		return false
	}
	p.Receipt = r.Object()
	c.payments.Touch(v.ID)
	return true
}

// paying is the pace at which an order is repeated.
func (c *Consumer) paying(pid wire.ID) *retry {
	r := c.pays[pid]
	if r == nil {
		r = &retry{}
		c.pays[pid] = r
	}
	return r
}

// tickPayments repeats what the bank has not answered, and asks after what is on its way.
func (c *Consumer) tickPayments(ctx *step.Context, wake *alarm) {
	for _, pid := range c.payments.Keys() {
		p := c.payments.Get(pid)
		if p.open() && c.paying(pid).due(ctx.Now, wake) {
			c.askPayment(ctx, pid, nil)
		}
	}
}

// open reports whether the outcome is not known yet.
func (p *payment) open() bool {
	if p.Refused != "" {
		return false
	}
	s := p.view().State
	return s == "sent" || s == "paying"
}

func (c *Consumer) paymentView(pid wire.ID) Payment { return c.payments.Get(pid).view() }

// view reads an order and its receipt, both of which this node has checked.
func (p *payment) view() Payment {
	v := Payment{State: "sent", At: p.At}
	if o, err := wire.Decode[ledger.PayoutRequest](p.Order); err == nil {
		v.Kind, v.ID, v.Amount = "payout", o.ID, o.Amount
	} else if o, err := wire.Decode[ledger.Transfer](p.Order); err == nil {
		v.Kind, v.ID, v.Amount, v.To, v.Detail = "transfer", o.ID, o.Amount, o.To, o.Memo
	}
	if p.Refused != "" {
		v.State, v.Detail = "refused", p.Refused
	}
	if r, err := wire.Decode[ledger.PayoutReceipt](p.Receipt); err == nil {
		v.State, v.Detail, v.Entry, v.At = r.State.String(), r.Ref, r.Entry, r.At
	} else if r, err := wire.Decode[ledger.TransferReceipt](p.Receipt); err == nil {
		v.State, v.Entry, v.At = "made", r.Entry, r.At
	}
	return v
}

// listPayments answers with all, after the bank was asked about those that are open.
func (c *Consumer) listPayments(ctx *step.Context, id uint64) {
	open := 0
	answer := func(ctx *step.Context) {
		if open > 0 {
			return
		}
		list := []Payment{}
		for _, pid := range c.payments.Keys() {
			list = append(list, c.paymentView(pid))
		}
		ctx.Answer(id, list, nil)
	}
	for _, pid := range c.payments.Keys() {
		if c.payments.Get(pid).open() && open < ledger.MostPaying {
			open++
			c.askPayment(ctx, pid, func(ctx *step.Context) {
				open--
				answer(ctx)
			})
		}
	}
	answer(ctx)
}

// Funds takes the bank's word that this account runs out of funds, or has lost what was stopped for want of them.
func (c *Consumer) Funds(ctx *step.Context, r step.Request) {
	v, ok := step.Find[ledger.FundsNotice](r.Objects)
	n := v.Value()
	if !ok || n.Consumer != ctx.Self || n.Operator != r.Peer || n.Operator != c.w.Bank() || n.Seq <= c.warned {
		return
	}
	c.warned = n.Seq
	ctx.Notify("funds.out", wire.ID{}, fmt.Sprintf("the account has %s left, less than what its pods need: they stop, and their volumes are removed at %v unless money comes",
		n.Left.Text(), n.ForfeitAt), "left", n.Left.String(), "forfeitAt", n.ForfeitAt.String())
}
