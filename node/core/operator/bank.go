package operator

import (
	"errors"
	"fmt"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// tickMost is how many reservations one tick may change, but for the rest of an account's: all that comes of a step goes to
// disk in one transaction. lookMost is how many it may look at: a step is over before anybody waits for it.
const (
	tickMost = 48
	lookMost = 192
)

// tickBank lets the bank release and raise reservations, and look after the funds of their accounts, each account once a minute.
// It returns when there is more to do.
func (o *Operator) tickBank(ctx *step.Context) member.Time {
	if o.minute != ctx.Minute() {
		o.minute, o.due = ctx.Minute(), o.bank.Debtors()
		o.tickLodged(ctx)
	}
	p, _ := o.world.Policy()
	for looked, changed := 0, 0; len(o.due) > 0 && looked < lookMost && changed < tickMost; o.due = o.due[1:] {
		for _, id := range o.bank.OpenOf(o.due[0]) {
			looked++
			if _, released := o.bank.Expire(p, id, ctx.Now); released {
				changed++
			} else if _, raised := o.bank.Raise(p, id, ctx.Now); raised {
				changed++
			}
		}
		o.watch(ctx, p, o.due[0])
	}
	o.keep(ctx)
	switch {
	case len(o.due) > 0:
		return ctx.Now + 1
	case len(o.bank.Open()) > 0:
		return ctx.Clock.Tick(o.minute + 1)
	}
	return ctx.Now + member.Hour
}

// serveBank answers a member's request to the bank.
func (o *Operator) serveBank(ctx *step.Context, r step.Request) {
	if r.Op == step.OpBalance {
		ctx.Reply(r.ID, step.OpOK, o.answer(r.Peer, ctx.Now))
		return
	}
	if r.Op == step.OpLimit {
		o.limit(ctx, r)
		return
	}
	if o.serveAudit(ctx, r) {
		return
	}
	var body any
	var objects []wire.Object
	var err error
	if r.Op == step.OpClaim {
		objects, body, err = o.claim(ctx, r)
	} else {
		objects, err = o.bankOp(ctx, r)
	}
	o.keep(ctx)
	if err != nil {
		no := refusal(err)
		if no.Code == step.RefuseInternal {
			ctx.Notify("bank.fault", wire.ID{}, fmt.Sprintf("the bank cannot answer %s: %s", name(r.Peer, o.alias(r.Peer)), no.Reason),
				"peer", r.Peer.String(), "op", fmt.Sprint(r.Op))
		}
		ctx.Refuse(r.ID, no)
		return
	}
	ctx.Reply(r.ID, step.OpOK, body, objects...)
}

func (o *Operator) bankOp(ctx *step.Context, r step.Request) ([]wire.Object, error) {
	switch r.Op {
	case step.OpReserve:
		return one(o.reserve(ctx, r))
	case step.OpSettle:
		return o.standing(o.settle(ctx, r))
	case step.OpFinal:
		return o.standing(o.final(ctx, r))
	case step.OpNoLease:
		return one(o.noLease(ctx, r))
	case step.OpClose:
		return nil, o.closeLease(ctx, r)
	case step.OpLower:
		return one(o.lower(ctx, r))
	case step.OpRefresh:
		return o.refresh(ctx, r)
	case step.OpReceipt:
		return o.receipt(r)
	case step.OpPayout:
		return one(o.payout(ctx, r))
	case step.OpTransfer:
		return one(o.transfer(ctx, r))
	case step.OpLodge:
		return one(o.lodge(ctx, r))
	}
	return nil, step.Refuse(step.RefuseBadRequest, "no such request")
}

// one is what the bank will sign, as the draft to answer with.
func one[T wire.Message](msg T, err error) ([]wire.Object, error) {
	if err != nil {
		return nil, err
	}
	return drafts(msg)
}

// standing is a receipt, and the reservation as it stands after it.
func (o *Operator) standing(s ledger.SettleReceipt, err error) ([]wire.Object, error) {
	if err != nil {
		return nil, err
	}
	h, _ := o.bank.Hold(s.Reservation)
	return drafts(s, h.Reservation)
}

// drafts are messages to answer with. One that must not be signed is no reason to stop: the peer is refused.
func drafts(msgs ...wire.Message) ([]wire.Object, error) {
	out := make([]wire.Object, 0, len(msgs))
	for _, m := range msgs {
		obj, err := wire.TryDraft(m)
		if err != nil {
			return nil, step.Refuse(step.RefuseInternal, "%v", err)
		}
		out = append(out, obj)
	}
	return out, nil
}

// refusal is the bank's no, or ours, as the peer hears it.
func refusal(err error) *step.Refusal {
	var ours *step.Refusal
	if errors.As(err, &ours) {
		return ours
	}
	var bank *ledger.Refused
	if !errors.As(err, &bank) {
		return step.Refuse(step.RefuseMoney, "%v", err)
	}
	code := step.RefuseMoney
	switch bank.Code {
	case ledger.CodeMalformed:
		code = step.RefuseBadRequest
	case ledger.CodeFunds:
		code = step.RefuseFunds
	case ledger.CodeUnknown:
		code = step.RefuseUnknown
	case ledger.CodeHost, ledger.CodeSigner:
		code = step.RefuseNotForYou
	case ledger.CodeLimit:
		code = step.RefuseLimit
	case ledger.CodeStale:
		code = step.RefuseStale
	case ledger.CodeMismatch:
		code = step.RefuseVoucher
	}
	return step.Refuse(code, "%s", bank.Reason)
}

// need is the request's object of a kind.
func need[T wire.Message](r step.Request) (T, error) {
	v, ok := step.Find[T](r.Objects)
	if !ok {
		return v.Value(), step.Refuse(step.RefuseBadRequest, "the request lacks its %v", v.Value().Kind())
	}
	return v.Value(), nil
}

// voucher is the voucher of a request, if there is one.
func voucher(r step.Request) *ledger.Voucher {
	if v, ok := step.Find[ledger.Voucher](r.Objects); ok {
		w := v.Value()
		return &w
	}
	return nil
}

// from refuses what only its signer itself may ask for: shown by another, a Final could come before its voucher.
func from(r step.Request, who identity.Address) error {
	if r.Peer != who {
		return step.Refuse(step.RefuseNotForYou, "only %v may ask for that", who)
	}
	return nil
}

// partOf is the reservation of a lease, for its host, its consumer and who signs its vouchers.
func (o *Operator) partOf(r step.Request) (ledger.Hold, error) {
	b, err := step.Body[step.LeaseBody](r.Body)
	if err != nil {
		return ledger.Hold{}, step.Refuse(step.RefuseBadRequest, "%v", err)
	}
	h, ok := o.bank.HoldOf(b.Lease)
	switch v := h.Reservation; {
	case !ok:
		return h, step.Refuse(step.RefuseUnknown, "no reservation for lease %s", b.Lease.Short())
	case !party(r.Peer, v):
		return h, step.Refuse(step.RefuseNotForYou, "lease %s is between others", b.Lease.Short())
	}
	return h, nil
}

// party reports whether a reservation is somebody's: the host's, the consumer's or the voucher signer's.
func party(who identity.Address, v ledger.Reservation) bool {
	return who == v.Host || who == v.Consumer || who == v.By
}

func (o *Operator) reserve(ctx *step.Context, r step.Request) (ledger.Reservation, error) {
	var none ledger.Reservation
	ask, err := need[ledger.Reserve](r)
	if err != nil {
		return none, err
	}
	if err := from(r, ask.Consumer); err != nil {
		return none, err
	}
	p, _ := o.world.Policy()
	if _, again := o.bank.Hold(ask.Reservation); again {
		return o.bank.Reserve(p, ask, 0, ctx.Now)
	}
	if no := o.mayReserve(ctx, ask); no != nil {
		return none, no
	}
	quoted, hold, no := o.quoted(ctx, r, ask)
	if no != nil {
		return none, no
	}
	v, err := o.bank.Reserve(p, ask, quoted, ctx.Now)
	if err != nil {
		return none, err
	}
	o.bank.Keeps(v.ID, hold)
	if o.kin(ask.Consumer, ask.Host) || o.kin(ask.By, ask.Host) {
		o.bank.Kin(v.ID)
	}
	return v, nil
}

// mayReserve checks the standing of both sides, and the consumer's own limit.
func (o *Operator) mayReserve(ctx *step.Context, ask ledger.Reserve) *step.Refusal {
	if no := o.outcast(ctx, ask.Consumer); no != nil {
		return no
	}
	consumer, _, _ := o.world.Credential(ask.Consumer)
	host, _, _ := o.world.Credential(ask.Host)
	switch {
	case !consumer.Roles.Has(member.RoleConsumer):
		return step.Refuse(step.RefuseNotForYou, "%v is no consumer", ask.Consumer)
	case o.world.Standing(ask.Host, ctx.Now) != nil || !host.Roles.Has(member.RoleHost):
		return step.Refuse(step.RefuseMoney, "%v is no host in good standing", ask.Host)
	}
	return o.withinLimit(ctx, ask.Consumer, ask.MaxRate)
}

// withinLimit refuses to let an account run something more than its limits allow.
func (o *Operator) withinLimit(ctx *step.Context, who identity.Address, more ledger.Rate) *step.Refusal {
	limit := o.ceiling(ctx, who).Hourly
	total, over := ledger.Amount(o.bank.Balance(who, ctx.Now).Burn).Add(ledger.Amount(more))
	if limit > 0 && (over != nil || total > ledger.Amount(limit)) {
		return step.Refuse(step.RefuseLimit, "this would make %s an hour, and the account may spend %s: 'souk limit show --explain' says why", total.Text(), limit.Text())
	}
	return nil
}

func (o *Operator) ceiling(ctx *step.Context, who identity.Address) ledger.Ceiling {
	p, _ := o.world.Policy()
	c, _, _ := o.world.Credential(who)
	return o.bank.Ceiling(p, who, ledger.Rate(c.HourlyLimit), ctx.Now)
}

// kin reports whether two members belong together.
func (o *Operator) kin(a, b identity.Address) bool {
	x, _, _ := o.world.Credential(a)
	y, _, _ := o.world.Credential(b)
	return a == b || x.Kin(y)
}

// quoted checks the host's quote beside the request, and returns the most that it can cost per hour, and for how many minutes its
// terms keep data.
func (o *Operator) quoted(ctx *step.Context, r step.Request, ask ledger.Reserve) (rate ledger.Rate, hold uint64, no *step.Refusal) {
	v, ok := step.Find[market.Quote](r.Objects)
	if !ok {
		return 0, 0, step.Refuse(step.RefuseBadRequest, "the request lacks its quote")
	}
	q := v.Value()
	t, err := q.Contract(v.Ref())
	if err != nil {
		return 0, 0, step.Refuse(step.RefuseBadRequest, "%v", err)
	}
	c, _ := o.world.Charter()
	p, _ := o.world.Policy()
	switch {
	case v.Ref() != ask.Quote || q.Host != ask.Host || q.Lease != ask.Lease:
		return 0, 0, step.Refuse(step.RefuseBadRequest, "the quote is another one than the request names")
	case t.Consumer != ask.Consumer || t.Reservation != ask.Reservation || t.By != ask.By:
		return 0, 0, step.Refuse(step.RefuseBadRequest, "the quote is for another consumer, reservation or voucher signer")
	case t.By != t.Attendant || t.By == t.Host || o.world.Standing(t.By, ctx.Now) != nil:
		return 0, 0, step.Refuse(step.RefuseMoney, "%v may sign no vouchers: it is no other member in good standing that attends the lease", t.By)
	case t.Budget != ask.Budget:
		return 0, 0, step.Refuse(step.RefuseBadRequest, "the quote has a budget of %s, the request of %s", t.Budget.Text(), ask.Budget.Text())
	case t.Simulated && !c.Testnet:
		return 0, 0, step.Refuse(step.RefuseBadRequest, "simulated GPUs are for testnets")
	case ctx.Now > q.Expires+member.Time(p.Skew)*member.Second: // the host's clock may be that much behind ours
		return 0, 0, step.Refuse(step.RefuseExpired, "the quote ended at %v", q.Expires)
	}
	rate, err = dearest(t.Tariff)
	if err != nil {
		return 0, 0, step.Refuse(step.RefuseBadRequest, "%v", err)
	}
	return rate, t.Hold, nil
}

// dearest is the most that a tariff costs per hour, whatever the lease does.
func dearest(t ledger.Tariff) (ledger.Rate, error) {
	var most ledger.Rate
	for _, s := range []ledger.Status{ledger.StatusRunning, ledger.StatusZero, ledger.StatusStopped} {
		r, err := t.Rate(s)
		if err != nil {
			return 0, err
		}
		most = max(most, r)
	}
	return most, nil
}

func (o *Operator) settle(ctx *step.Context, r step.Request) (ledger.SettleReceipt, error) {
	var none ledger.SettleReceipt
	v, err := need[ledger.Voucher](r)
	if err != nil {
		return none, err
	}
	u, err := need[ledger.Usage](r)
	if err != nil {
		return none, err
	}
	if h, ok := o.bank.Hold(v.Reservation); ok && !party(r.Peer, h.Reservation) {
		return none, step.Refuse(step.RefuseNotForYou, "lease %s is between others", v.Lease.Short())
	}
	p, _ := o.world.Policy()
	return o.bank.Settle(p, v, u, ctx.Now)
}

func (o *Operator) final(ctx *step.Context, r step.Request) (ledger.SettleReceipt, error) {
	f, err := need[ledger.Final](r)
	if err != nil {
		return ledger.SettleReceipt{}, err
	}
	if err := from(r, f.Host); err != nil {
		return ledger.SettleReceipt{}, err
	}
	p, _ := o.world.Policy()
	return o.bank.Final(p, f, voucher(r), ctx.Now)
}

func (o *Operator) noLease(ctx *step.Context, r step.Request) (ledger.SettleReceipt, error) {
	n, err := need[ledger.NoLease](r)
	if err != nil {
		return ledger.SettleReceipt{}, err
	}
	// The host's word is final, whichever side brings it.
	if h, ok := o.bank.Hold(n.Reservation); ok && r.Peer != h.Reservation.Host && r.Peer != h.Reservation.Consumer {
		return ledger.SettleReceipt{}, step.Refuse(step.RefuseNotForYou, "lease %s is between others", n.Lease.Short())
	}
	p, _ := o.world.Policy()
	return o.bank.NoLease(p, n, ctx.Now)
}

func (o *Operator) closeLease(ctx *step.Context, r step.Request) error {
	c, err := need[ledger.Close](r)
	if err != nil {
		return err
	}
	if err := from(r, c.Consumer); err != nil {
		return err
	}
	p, _ := o.world.Policy()
	return o.bank.Close(p, c, voucher(r), ctx.Now)
}

func (o *Operator) lower(ctx *step.Context, r step.Request) (ledger.Reservation, error) {
	l, err := need[ledger.Lower](r)
	if err != nil {
		return ledger.Reservation{}, err
	}
	if err := from(r, l.Host); err != nil {
		return ledger.Reservation{}, err
	}
	return o.bank.Lower(l, ctx.Now)
}

// refresh is the newest reservation of a lease, raised as far as the funds allow. A voucher that comes with the question is settled
// first: what the bank does not know to be owed it takes for funds.
func (o *Operator) refresh(ctx *step.Context, r step.Request) ([]wire.Object, error) {
	h, err := o.partOf(r)
	if err != nil {
		return nil, err
	}
	p, _ := o.world.Policy()
	shown := voucher(r) != nil
	if shown {
		if _, err := o.settle(ctx, r); err != nil {
			return nil, err
		}
	}
	if h.Rest {
		if no := o.withinLimit(ctx, h.Reservation.Consumer, h.Reservation.MaxRate); no != nil {
			return nil, no
		}
	}
	if err := o.bank.Wake(p, h.Reservation.ID, ctx.Now); err != nil {
		return nil, err
	}
	v, _ := o.bank.Raise(p, h.Reservation.ID, ctx.Now)
	if h, _ = o.bank.Hold(v.ID); shown {
		return drafts(h.Receipt, v)
	}
	return one(v, nil)
}

// receipt is the last receipt of a lease, if there is one, and its reservation.
func (o *Operator) receipt(r step.Request) ([]wire.Object, error) {
	h, err := o.partOf(r)
	if err != nil {
		return nil, err
	}
	if h.Receipt.Lease.IsZero() {
		return one(h.Reservation, nil)
	}
	return drafts(h.Receipt, h.Reservation)
}

// answer is the account of a member as it is told to it.
func (o *Operator) answer(a identity.Address, now member.Time) step.BalanceAnswer {
	s := o.bank.Balance(a, now)
	short, stands := o.bank.ShortageOf(a)
	if !stands {
		short = ledger.Shortage{}
	}
	return step.BalanceAnswer{
		Paying: int64(s.Paying), ShortSince: short.Notice.At, ForfeitAt: short.Notice.ForfeitAt,
		Account: a, Deposited: int64(s.Deposited), Available: int64(s.Available), Reserved: int64(s.Reserved),
		Payable: int64(s.Payable), Settled: int64(s.Settled), PaidOut: int64(s.PaidOut), Burn: int64(s.Burn),
		Entries: s.Entries, Fees: int64(o.bank.Account(a).Fees),
	}
}
