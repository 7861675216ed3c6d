package operator

import (
	"errors"
	"fmt"

	"souk/ledger"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Deposit enters money that came in from outside. It is answered with a DepositView; the same reference again gives the
// same one.
type Deposit struct {
	Addr   string
	Amount ledger.Amount
	Ref    string // of the payment outside
}

// A DepositView is the receipt of a deposit.
type DepositView struct {
	Account identity.Address `json:"account"`
	Alias   string           `json:"alias"`
	Amount  ledger.Amount    `json:"amount"`
	Ref     string           `json:"ref"`
	At      member.Time      `json:"at"`
	Entry   uint64           `json:"entry"`
}

func (c Deposit) run(o *Operator, ctx *step.Context) (any, error) {
	a, err := o.resolve(c.Addr)
	if err != nil {
		return nil, err
	}
	again := o.books.deposits.Get(ledger.RefKey(c.Ref)) != nil
	if err := o.mayDeposit(a); err != nil && !again {
		return nil, err
	}
	p, _ := o.world.Policy()
	d, err := o.bank.Deposit(p, a, c.Amount, c.Ref, ctx.Now)
	if err != nil {
		return nil, problem(err)
	}
	o.keep(ctx)
	if !again {
		ctx.Notify("deposit", wire.ID{}, fmt.Sprintf("%s has deposited %s (%s)", name(a, o.alias(a)), d.Amount.Text(), d.Ref),
			"account", a.String(), "amount", d.Amount.String(), "ref", d.Ref)
	}
	return DepositView{Account: d.Account, Alias: o.alias(a), Amount: d.Amount, Ref: d.Ref, At: d.At, Entry: d.Entry}, nil
}

func (o *Operator) mayDeposit(a identity.Address) error {
	if _, _, in := o.world.Credential(a); !in {
		return step.Fail(step.ProblemNotFound, "it must join the market first", "%v is no member", a)
	}
	if s, out := o.world.Sanctioned(a); out && s.Sanction == member.Revoke {
		return step.Fail(step.ProblemConflict, "", "%v is revoked: %s", a, s.Reason)
	}
	return nil
}

// problem is the bank's no as this node's user hears it.
func problem(err error) error {
	var r *ledger.Refused
	if !errors.As(err, &r) {
		return err
	}
	switch r.Code {
	case ledger.CodeMalformed, ledger.CodeSmall, ledger.CodeOverflow:
		return step.Fail(step.ProblemUsage, "", "%s", r.Reason)
	case ledger.CodeReused:
		return step.Fail(step.ProblemConflict, "use another --ref for another payment", "%s", r.Reason)
	case ledger.CodeFunds:
		return step.Fail(step.ProblemFunds, "", "%s", r.Reason)
	}
	return step.Fail(step.ProblemOther, "", "%s", r.Reason)
}

// An AccountView is an account as this operator sees it.
type AccountView struct {
	ledger.Statement
	Alias string        `json:"alias"`
	Fees  ledger.Amount `json:"fees"` // this operator's own
}

// Balance is answered with the AccountView of one account, this operator's own when no Addr is given.
type Balance struct{ Addr string }

func (c Balance) run(o *Operator, ctx *step.Context) (any, error) {
	if c.Addr == "" {
		return o.account(ctx, ctx.Self), nil
	}
	a, err := o.resolve(c.Addr)
	if err != nil {
		return nil, err
	}
	if _, _, in := o.world.Credential(a); !in && o.books.accounts.Get(a) == nil {
		return nil, step.Fail(step.ProblemNotFound, "", "%v has no account", a)
	}
	return o.account(ctx, a), nil
}

func (o *Operator) account(ctx *step.Context, a identity.Address) AccountView {
	return AccountView{Statement: o.bank.Balance(a, ctx.Now), Alias: o.alias(a), Fees: o.bank.Account(a).Fees}
}

// Accounts is answered with []AccountView: every account that money ever moved on, in the order of addresses.
type Accounts struct{}

func (Accounts) run(o *Operator, ctx *step.Context) (any, error) {
	out := []AccountView{}
	for _, a := range o.books.accounts.Keys() {
		out = append(out, o.account(ctx, a))
	}
	return out, nil
}

// Height is answered with a HeightView. The entries themselves are log rows: EntryKey, DecodeEntry.
type Height struct{}

// A HeightView is the end of the bank's journal, and the sum of all accounts, which tells whether the books balance.
type HeightView struct {
	Entries   uint64        `json:"entries"`
	Ref       identity.Hash `json:"ref"` // of the last entry
	At        member.Time   `json:"at"`
	Accounts  int           `json:"accounts"`
	Open      int           `json:"open"` // reservations
	Deposited ledger.Amount `json:"deposited"`
	Available ledger.Amount `json:"available"`
	Reserved  ledger.Amount `json:"reserved"`
	Payable   ledger.Amount `json:"payable"`
	Paying    ledger.Amount `json:"paying"`
	PaidOut   ledger.Amount `json:"paidOut"`
	Fees      ledger.Amount `json:"fees"`
}

func (Height) run(o *Operator, _ *step.Context) (any, error) {
	h, t := o.bank.Head(), o.bank.Totals()
	return HeightView{
		Entries: h.Seq, Ref: h.Ref, At: h.At, Accounts: o.books.accounts.Len(), Open: len(o.bank.Open()),
		Deposited: t.Deposited, Available: t.Available, Reserved: t.Reserved, Payable: t.Payable, Paying: t.Paying,
		PaidOut: t.PaidOut, Fees: t.Fees,
	}, nil
}
