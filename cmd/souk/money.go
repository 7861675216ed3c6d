package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"souk/ledger"
	"souk/node/api"
	"souk/node/core/consumer"
	"souk/node/core/operator"
)

func transferCommand(e *env) *cobra.Command {
	var o api.TransferOrder
	var yes bool
	c := &cobra.Command{
		Use: "transfer ADDR AMOUNT", Short: "Give credits to another member, for good", Args: cobra.ExactArgs(2),
		Long:    "Transfer gives credits of this account to another account of the same bank. ADDR is the receiver's whole address, as its\n'souk id show' prints it; with --earned also your own, to spend what you have earned as a host.",
		Example: "  souk transfer 0x52908400098527886E0F7030069857D2E4169EE7 5 --memo rent",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			amount, err := ledger.ParseAmount(args[1])
			if err != nil {
				return usageError("", "%s", trim(err))
			}
			if err := e.agree(ctx, yes, fmt.Sprintf("Give %s credits to %s? It cannot be taken back.", money(amount), args[0])); err != nil {
				return err
			}
			o.ID, o.To, o.Amount = newID(), args[0], amount
			v, err := c.Transfer(ctx, o)
			if err != nil {
				return err
			}
			return e.showPayment(v)
		}),
	}
	c.Flags().BoolVar(&o.Earned, "earned", false, "from what was earned as a host, not from what is available")
	c.Flags().StringVar(&o.Memo, "memo", "", "for the receiver, at most 128 bytes")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func payoutCommand(e *env) *cobra.Command {
	ask := &cobra.Command{
		Use: "request [AMOUNT]", Short: "Have the bank pay out what was earned (default all of it)", Args: cobra.MaximumNArgs(1),
		Long: "Request orders a payout, which the operator makes outside of the market: 'souk host payout ls' tells how it stands. Until\nthe operator says that it was paid or returned, the amount is on its way, and can be asked for no second time.",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			var amount ledger.Amount
			if len(args) == 1 {
				a, err := ledger.ParseAmount(args[0])
				if err != nil {
					return usageError("", "%s", trim(err))
				}
				amount = a
			} else {
				a, err := c.Balance(ctx)
				if err != nil {
					return err
				}
				if a.Payable == 0 {
					return usageError("souk host settle", "nothing is payable: what hosts earn is settled at the hour, or when you ask for it")
				}
				amount = a.Payable
			}
			v, err := c.PayOut(ctx, api.PayoutOrder{ID: newID(), Amount: amount})
			if err != nil {
				return err
			}
			return e.showPayment(v)
		}),
	}
	ls := &cobra.Command{
		Use: "ls", Short: "Payouts and transfers that were ordered here, and how they stand", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Payments(ctx)
			if err != nil {
				return err
			}
			return paymentList().show(e, list)
		}),
	}
	return noun("payout", "What was earned, on its way out", ask, ls)
}

// paymentStates says what a payment's state means, where the word alone does not.
var paymentStates = map[string]string{
	"sent":   "sent; the bank has not answered yet, and is asked until it has",
	"paying": "on its way: the operator says when it is paid",
}

func (e *env) showPayment(v consumer.Payment) error {
	to := ""
	if !v.To.IsZero() {
		to = v.To.String()
	}
	state := v.State
	if s, ok := paymentStates[state]; ok {
		state = s
	}
	return e.one(v, v.ID.String(), fact{v.Kind, v.ID.String()}, fact{"credits", money(v.Amount)}, fact{"to", to}, fact{"state", state},
		fact{"says", v.Detail}, fact{"at", v.At.String()})
}

func paymentList() listing[consumer.Payment] {
	type view = consumer.Payment
	return listing[view]{
		key: func(v view) string { return v.ID.String() },
		columns: []column[view]{
			{head: "ID", of: func(v view) string { return v.ID.Short() }},
			{head: "KIND", of: func(v view) string { return v.Kind }},
			{head: "CREDITS", right: true, of: func(v view) string { return money(v.Amount) }},
			{head: "STATE", of: func(v view) string { return v.State }},
			{head: "AT", of: func(v view) string { return v.At.String() }},
			{head: "SAYS", of: func(v view) string { return v.Detail }},
			{head: "TO", wide: true, of: func(v view) string { return who(v.To, "") }},
			{head: "ENTRY", wide: true, right: true, of: func(v view) string { return count(v.Entry) }},
		},
	}
}

func operatorPayoutCommand(e *env) *cobra.Command {
	var ref, reason string
	ls := &cobra.Command{
		Use: "ls", Short: "Payouts that members asked for, those that wait first", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Payouts(ctx)
			if err != nil {
				return err
			}
			return payoutList().show(e, list)
		}),
	}
	decide := func(use, short, verb, missing string, outcome func() (api.Outcome, bool)) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.ExactArgs(1),
			RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
				o, ok := outcome()
				if !ok {
					return usageError("", "%s", missing)
				}
				v, err := c.Decide(ctx, args[0], verb, o)
				if err != nil {
					return err
				}
				return payoutList().show(e, []operator.PayoutView{v})
			}),
		}
	}
	pay := decide("pay ID --ref REF", "Record that a payout has arrived; the same reference again changes nothing", "pay", "say --ref: what the payment is known by outside",
		func() (api.Outcome, bool) { return api.Outcome{Ref: ref}, ref != "" })
	pay.Flags().StringVar(&ref, "ref", "", "of the payment outside, as in sepa-2026-001")
	back := decide("return ID --reason TEXT", "Record that a payout could not be made: the amount is payable again", "return", "say --reason: its account can read it",
		func() (api.Outcome, bool) { return api.Outcome{Reason: reason}, reason != "" })
	back.Flags().StringVar(&reason, "reason", "", "why; the account can read it")
	return noun("payout", "What members have earned, on its way out", ls, pay, back)
}

func payoutList() listing[operator.PayoutView] {
	type view = operator.PayoutView
	return listing[view]{
		key: func(v view) string { return v.ID.String() },
		columns: []column[view]{
			{head: "ID", of: func(v view) string { return v.ID.Short() }},
			{head: "ACCOUNT", of: func(v view) string { return v.Account.String() }},
			{head: "ALIAS", of: func(v view) string { return v.Alias }},
			{head: "CREDITS", right: true, of: func(v view) string { return money(v.Amount) }},
			{head: "STATE", of: func(v view) string { return v.State }},
			{head: "AT", of: func(v view) string { return v.At.String() }},
			{head: "REFERENCE", of: func(v view) string { return v.Ref }},
			{head: "PAY TO", wide: true, of: func(v view) string { return v.To }},
		},
	}
}

func statementCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "statement ADDR", Short: "Every entry of the bank's journal about one account", Args: cobra.ExactArgs(1),
		Example: "  souk operator statement cleo -o csv > cleo.csv",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			list, err := c.Statement(ctx, args[0])
			if err != nil {
				return err
			}
			return lineList().show(e, list)
		}),
	}
}

func lineList() listing[api.Line] {
	cols := []column[api.Line]{
		{head: "ENTRY", right: true, of: func(v api.Line) string { return strconv.FormatUint(v.Entry, 10) }},
		{head: "TIME", of: func(v api.Line) string { return v.At.String() }},
		{head: "KIND", of: func(v api.Line) string { return v.Kind }},
		{head: "RESERVATION", of: func(v api.Line) string {
			if v.Reservation.IsZero() {
				return ""
			}
			return v.Reservation.Short()
		}},
	}
	for _, b := range []string{"available", "reserved", "payable", "paying", "paid-out", "fees"} {
		cols = append(cols, column[api.Line]{head: b + " $", right: true, of: func(v api.Line) string {
			if v.Books[b] == 0 {
				return ""
			}
			return v.Books[b].Text()
		}})
	}
	cols = append(cols, column[api.Line]{head: "AVAILABLE AFTER $", right: true, of: func(v api.Line) string { return v.Available.Text() }})
	return listing[api.Line]{key: func(v api.Line) string { return strconv.FormatUint(v.Entry, 10) }, columns: cols}
}

func limitCommand(e *env) *cobra.Command {
	var hourly, daily string
	set := &cobra.Command{
		Use: "set [--hourly AMOUNT] [--daily AMOUNT]", Short: "Have the bank hold this account to a limit, whether this node is up or not", Args: cobra.NoArgs,
		Long: "Set replaces both limits of this account; one that is left out, or none, is lifted. Nothing is started that would make all that is up cost more per\n" +
			"hour, and no more is set aside for hosts than the limit of a day leaves: pods stop when that is used up. A day is 1,440 minutes of the market.",
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			if hourly == "" && daily == "" {
				return usageError("", "say --hourly, --daily or both: an amount, or none to lift it")
			}
			var l api.OwnLimit
			for _, x := range []struct {
				text string
				to   *ledger.Amount
			}{{hourly, (*ledger.Amount)(&l.Hourly)}, {daily, &l.Daily}} {
				if x.text == "" || x.text == "none" {
					continue
				}
				a, err := ledger.ParseAmount(x.text)
				if err != nil {
					return usageError("", "%s", trim(err))
				}
				if a <= 0 {
					return usageError("", "a limit is over 0; none lifts it")
				}
				*x.to = a
			}
			v, err := c.SetLimit(ctx, l)
			if err != nil {
				return err
			}
			return e.showLimit(v, false)
		}),
	}
	set.Flags().StringVar(&hourly, "hourly", "", "most that all that is up may cost per hour, credits; none: no limit")
	set.Flags().StringVar(&daily, "daily", "", "most in a day, credits; none: no limit")
	var explain bool
	show := &cobra.Command{
		Use: "show", Short: "What this account may spend", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			v, err := c.Limit(ctx)
			if err != nil {
				return err
			}
			return e.showLimit(v, explain)
		}),
	}
	show.Flags().BoolVar(&explain, "explain", false, "say what the limit is made of")
	return noun("limit", "What this account may spend", set, show)
}

func (e *env) showLimit(v ledger.Ceiling, explain bool) error {
	per := func(a ledger.Amount, unit string) string {
		if a == 0 {
			return "no limit"
		}
		return money(a) + " $" + unit
	}
	facts := []fact{{"per hour", per(ledger.Amount(v.Hourly), "/h")}, {"per day", per(v.Daily, "")}}
	if v.Daily > 0 {
		facts = append(facts, fact{"settled today", money(v.Today) + " $"})
	}
	if explain {
		rule := "none"
		if v.Rule > 0 {
			rule = fmt.Sprintf("%s $/h = %s for a new account + %s of the %s $ that it has settled with hosts of others",
				money(ledger.Amount(v.Rule)), money(ledger.Amount(v.Floor)), share(v.Growth), money(v.Trade))
		}
		facts = append(facts, fact{"the market's rule", rule}, fact{"granted by the operator", per(ledger.Amount(v.Granted), "/h, in place of the rule")},
			fact{"your own", per(ledger.Amount(v.Own), "/h")})
	}
	return e.one(v, money(ledger.Amount(v.Hourly)), facts...)
}
