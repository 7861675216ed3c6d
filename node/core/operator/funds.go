package operator

import (
	"fmt"
	"strings"

	"souk/ledger"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// watch looks after an account that has something reserved. As long as a notice stands, the hosts of what the account runs are told
// of it every minute, so none that was away goes on for nothing; when it has stood to its end, and as long as the lease's terms
// keep data, they are told of the forfeit.
func (o *Operator) watch(ctx *step.Context, p member.Policy, who identity.Address) {
	_, changed := o.bank.Watch(p, who, ctx.Now)
	if s, stands := o.bank.ShortageOf(who); stands {
		o.warn(ctx, s.Notice, changed)
	}
}

// tellShort tells this operator's user what has become of an account's funds.
func (o *Operator) tellShort(ctx *step.Context, s ledger.Shortage) {
	who := s.Notice.Consumer
	if s.Over {
		ctx.Notify("funds.back", wire.ID{}, fmt.Sprintf("%s has funds again", name(who, o.alias(who))), "account", who.String())
		return
	}
	ctx.Notify("funds.out", wire.ID{}, fmt.Sprintf("%s has %s left for what it runs at %s an hour: its pods stop", name(who, o.alias(who)),
		s.Notice.Left.Text(), s.Notice.Burn.Text()), "account", who.String(), "left", s.Notice.Left.String())
}

// warn sends a notice that stands to all whom it concerns now.
func (o *Operator) warn(ctx *step.Context, n ledger.FundsNotice, first bool) {
	notice := wire.Draft(n)
	if hourly := ctx.Minute()%member.HourMinutes == 0; first || hourly {
		ctx.Send(n.Consumer, step.ProtoLease, step.OpFunds, nil, notice)
	}
	told := map[identity.Address]bool{}
	for _, f := range o.bank.Forfeits(n.Consumer, ctx.Now) {
		told[f.Host] = true
		if ctx.Now < o.heard[f.Reservation] {
			continue
		}
		draft := ctx.Guard(chain("forfeit", f.Reservation[:]), n.Seq, wire.Draft(f))
		id := f.Reservation
		o.awaiting[ctx.Send(f.Host, step.ProtoLease, step.OpFunds, nil, notice, draft)] = func(ctx *step.Context, r step.Response) {
			if r.Err == nil || r.Err.Code == step.FailRefused {
				o.heard[id] = ctx.Now + forfeitAgain
			}
		}
	}
	for _, h := range o.bank.Reservations(n.Consumer) {
		if host := h.Reservation.Host; !h.Rest && !told[host] {
			told[host] = true
			ctx.Send(host, step.ProtoLease, step.OpFunds, nil, notice)
		}
	}
}

// forfeitAgain is how long a host that has heard of a forfeit, and has taken or refused it, is left alone. One that could not be
// reached is told again in the next minute.
const forfeitAgain = member.Hour

// payout takes an order to pay out, or tells how it stands.
func (o *Operator) payout(ctx *step.Context, r step.Request) (ledger.PayoutReceipt, error) {
	ask, err := need[ledger.PayoutRequest](r)
	if err != nil {
		return ledger.PayoutReceipt{}, err
	}
	if err := from(r, ask.Account); err != nil {
		return ledger.PayoutReceipt{}, err
	}
	again := o.books.payouts.Get(ask.ID) != nil
	if no := o.outcast(ctx, ask.Account); no != nil && !again {
		return ledger.PayoutReceipt{}, no
	}
	v, err := o.bank.Payout(ask, ctx.Now)
	if err == nil && !again {
		ctx.Notify("payout.requested", wire.ID{}, fmt.Sprintf("%s wants %s paid out: 'souk operator payout pay %s --ref …' when it is",
			name(v.Account, o.alias(v.Account)), v.Amount.Text(), v.ID.Short()), "account", v.Account.String(), "amount", v.Amount.String(), "payout", v.ID.String())
	}
	return v, err
}

// transfersMost is how many transfers an account may order in an hour: each leaves a row for ever.
const transfersMost = 60

// transfer takes an order to give credits to another member.
func (o *Operator) transfer(ctx *step.Context, r step.Request) (ledger.TransferReceipt, error) {
	t, err := need[ledger.Transfer](r)
	if err != nil {
		return ledger.TransferReceipt{}, err
	}
	if err := from(r, t.From); err != nil {
		return ledger.TransferReceipt{}, err
	}
	if o.books.transfers.Get(t.ID) == nil {
		if no := o.outcast(ctx, t.From); no != nil {
			return ledger.TransferReceipt{}, no
		}
		if err := o.world.Standing(t.To, ctx.Now); err != nil {
			return ledger.TransferReceipt{}, step.Refuse(step.RefuseUnknown, "%v is no member in good standing", t.To)
		}
		if hour := ctx.Minute() / member.HourMinutes; hour != o.hour {
			o.hour = hour
			clear(o.given)
		}
		if o.given[t.From]++; o.given[t.From] > transfersMost {
			return ledger.TransferReceipt{}, step.Refuse(step.RefuseLimit, "%d transfers in one hour are the most: ask again in the next", transfersMost)
		}
	}
	return o.bank.Transfer(t, ctx.Now)
}

// limit takes an account's own limit, if one comes, and answers with all that bound it.
func (o *Operator) limit(ctx *step.Context, r step.Request) {
	if v, ok := step.Find[ledger.Limit](r.Objects); ok {
		err := from(r, v.Value().Account)
		if err == nil {
			_, err = o.bank.SetLimit(v.Value(), ctx.Now)
		}
		o.keep(ctx)
		if err != nil {
			ctx.Refuse(r.ID, refusal(err))
			return
		}
	}
	ctx.Reply(r.ID, step.OpOK, o.ceiling(ctx, r.Peer))
}

// What the operator's user does with payouts. Each is answered with a PayoutView, Payouts with all of them.
type (
	// Pay records that a payout has arrived outside, under a reference.
	Pay struct {
		ID  string // or the beginning of it
		Ref string
	}
	// Return records that a payout could not be made: the amount is payable again.
	Return struct {
		ID     string
		Reason string
	}
	// Payouts lists them, those that wait first.
	Payouts struct{}
)

// A PayoutView is a payout as the operator sees it.
type PayoutView struct {
	ID      wire.ID          `json:"id"`
	Account identity.Address `json:"account"`
	Alias   string           `json:"alias"`
	To      string           `json:"to"` // payout address in the member's credential
	Amount  ledger.Amount    `json:"amount"`
	State   string           `json:"state"`
	Ref     string           `json:"ref"` // of the payment, or why it was returned
	Entry   uint64           `json:"entry"`
	At      member.Time      `json:"at"`
}

func (o *Operator) payoutView(r ledger.PayoutReceipt) PayoutView {
	v := PayoutView{ID: r.ID, Account: r.Account, Alias: o.alias(r.Account), Amount: r.Amount, State: r.State.String(), Ref: r.Ref, Entry: r.Entry, At: r.At}
	if c, _, ok := o.world.Credential(r.Account); ok && !c.Payout.IsZero() {
		v.To = c.Payout.String()
	}
	return v
}

func (c Pay) run(o *Operator, ctx *step.Context) (any, error) {
	return o.decide(ctx, c.ID, func(id wire.ID) (ledger.PayoutReceipt, error) { return o.bank.Paid(id, c.Ref, ctx.Now) })
}

func (c Return) run(o *Operator, ctx *step.Context) (any, error) {
	return o.decide(ctx, c.ID, func(id wire.ID) (ledger.PayoutReceipt, error) { return o.bank.Returned(id, c.Reason, ctx.Now) })
}

func (o *Operator) decide(ctx *step.Context, ref string, turn func(wire.ID) (ledger.PayoutReceipt, error)) (any, error) {
	id, err := o.findPayout(ref)
	if err != nil {
		return nil, err
	}
	r, err := turn(id)
	if err != nil {
		return nil, problem(err)
	}
	o.keep(ctx)
	return o.payoutView(r), nil
}

// findPayout finds the one payout whose id begins so.
func (o *Operator) findPayout(ref string) (wire.ID, error) {
	var found []wire.ID
	for _, id := range o.books.payouts.Keys() {
		if ref != "" && len(ref) >= prefixLeast && strings.HasPrefix(id.String(), strings.ToLower(ref)) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return wire.ID{}, step.Fail(step.ProblemNotFound, "list them with 'souk operator payout ls'", "no payout begins with %q (at least %d digits)", ref, prefixLeast)
	case 1:
		return found[0], nil
	}
	return wire.ID{}, step.Fail(step.ProblemUsage, "give more digits", "%d payouts begin with %q", len(found), ref)
}

func (Payouts) run(o *Operator, _ *step.Context) (any, error) {
	list := []PayoutView{}
	for _, r := range o.bank.Payouts() {
		list = append(list, o.payoutView(r))
	}
	return list, nil
}
