package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"souk/ledger"
	"souk/market"
	"souk/node/api"
	"souk/node/core/consumer"
)

func mandateCommand(e *env) *cobra.Command {
	show := &cobra.Command{
		Use: "show POD", Short: "What a pod may cost while this node is off", Args: cobra.ExactArgs(1),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.Lease(ctx, args[0])
			if err != nil {
				return err
			}
			return e.showMandate(v)
		}),
	}
	var most amountValue
	set := &cobra.Command{
		Use: "set POD [--most AMOUNT]", Short: "Let witnesses vouch for a pod's minutes while this node is off", Args: cobra.ExactArgs(1),
		Long: "Without a mandate a pod stops as soon as this node does not sign for its minutes. With one it runs on for up to a day, and its host is paid for\n" +
			"the minutes in which more than half of the named witnesses reached it. They see that the host's node is there, not what the pod does: that is\nthe host's word. Back, this node checks their receipts, signs for the minutes, and the day begins anew.",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.SetMandate(ctx, args[0], api.Mandate{Most: ledger.Amount(most)})
			if err != nil {
				return err
			}
			return e.showMandate(v)
		}),
	}
	set.Flags().Var(&most, "most", "most that minutes without this node may cost (default what a day of the pod costs)")
	revoke := &cobra.Command{
		Use: "revoke POD", Short: "Take a pod's mandate back: without this node it stops", Args: cobra.ExactArgs(1),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.RevokeMandate(ctx, args[0])
			if err != nil {
				return err
			}
			if v.Pending == market.CommandRevoke.String() {
				e.note("%s: the mandate ends as soon as the host, or for it the bank, has this", v.Name)
				return nil
			}
			return e.showMandate(v)
		}),
	}
	return noun("mandate", "What pods may cost while this node is off", show, set, revoke)
}

func (e *env) showMandate(v consumer.View) error {
	if !e.plain() {
		return e.one(v, v.Lease.String())
	}
	a := v.Away
	switch {
	case a == nil:
		_, err := fmt.Fprintf(e.out, "%s has no mandate: when this node is off it stops\n", v.Name)
		return err
	case a.Refused != "":
		_, err := fmt.Fprintf(e.out, "%s has no mandate: its host takes none (%s)\n", v.Name, a.Refused)
		return err
	}
	var names []string
	for _, w := range a.Witnesses {
		names = append(names, w.String())
	}
	known := "its host has it"
	if !a.Known {
		known = "its host does not have it yet"
	}
	_, err := fmt.Fprintf(e.out, "%s may cost %s $ and %d minutes more while this node is off; %s\nwitnesses, more than half of whom must reach the host in a minute: %s\n",
		v.Name, money(a.Most), a.Minutes, known, strings.Join(names, ", "))
	return err
}

// A mandateValue is what 'run' does about a mandate.
type mandateValue struct {
	said bool
	off  bool
	most ledger.Amount // 0: a day
}

// String implements pflag.Value.
func (m *mandateValue) String() string {
	switch {
	case !m.said:
		return ""
	case m.off:
		return "none"
	case m.most == 0:
		return "day"
	}
	return m.most.Text()
}

// Type implements pflag.Value.
func (m *mandateValue) Type() string { return "AMOUNT|day|none" }

// Set implements pflag.Value.
func (m *mandateValue) Set(s string) error {
	*m = mandateValue{said: true}
	switch s {
	case "none":
		m.off = true
		return nil
	case "day":
		return nil
	}
	a, err := ledger.ParseAmount(s)
	if err == nil && a <= 0 {
		err = fmt.Errorf("want an amount over 0, day, or none")
	}
	m.most = a
	return err
}

// settled is the mandate of a run, where the flag says nothing: what the market's users usually give.
func (m mandateValue) settled(p consumer.Proposal) mandateValue {
	if !m.said {
		m.off = !p.AwayUsual
	}
	return m
}

// showAway says what happens when who is to sign is off.
func (e *env) showAway(p consumer.Proposal, m mandateValue, who string) {
	if m.off {
		e.note("while %s off the pod stops; with --mandate it would run on for what witnesses see, for a day at most", who)
		return
	}
	most := p.AwayMost
	if m.most > 0 {
		most = m.most
	}
	e.note("while %s off it runs on, for %s and %s $ at most, on the host's word that it does: witnesses see only the host", who, showSpan(time.Duration(p.AwayFor)*time.Second), money(most))
}
