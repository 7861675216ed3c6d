package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"souk/ledger"
	"souk/node/api"
	"souk/node/core/host"
)

func hostCommand(e *env) *cobra.Command {
	return noun("host", "Put this machine's GPUs on sale",
		advertiseCommand(e), withdrawCommand(e), hostStatusCommand(e), gpusCommand(e), hostDoctorCommand(e), earningsCommand(e), settleCommand(e), payoutCommand(e))
}

func advertiseCommand(e *env) *cobra.Command {
	var a host.Advertise
	var ask, bid rateValue
	var gpus string
	var grace, longest spanValue
	c := &cobra.Command{
		Use: "advertise --price P --min-bid P", Short: "Put GPUs on sale, across restarts, until they are withdrawn", Args: cobra.NoArgs,
		Example: "  souk host advertise --price 0.34 --min-bid 0.12",
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			if ask == 0 || bid == 0 {
				return usageError("", "say --price and --min-bid, in credits per GPU-hour")
			}
			a.Price, a.Floor = ledger.Rate(ask), ledger.Rate(bid)
			if gpus != "all" {
				a.GPUs = strings.FieldsFunc(gpus, func(r rune) bool { return r == ',' || r == ' ' })
			}
			g, l := time.Duration(grace), time.Duration(longest)
			if g > 300*time.Second || g%time.Second != 0 || l%time.Hour != 0 || l > 1<<20*time.Hour {
				return usageError("", "--grace is up to 300s in whole seconds, --max-duration whole hours")
			}
			a.Grace, a.MaxHours = uint16(g/time.Second), uint32(l/time.Hour)
			if a.Region == "" {
				if cfg, err := e.load(); err == nil {
					a.Region = cfg.Region
				}
			}
			v, err := c.Advertise(ctx, a)
			if err != nil {
				return err
			}
			return e.showSale(v)
		}),
	}
	f := c.Flags()
	f.Var(&ask, "price", "on-demand price, per GPU-hour")
	f.Var(&bid, "min-bid", "least spot bid, per GPU-hour")
	f.StringVar(&gpus, "gpus", "all", "all, or UUIDs or beginnings of them, with commas")
	f.Var(&grace, "grace", "time between SIGTERM and SIGKILL (default as the market's policy says)")
	f.Var(&longest, "max-duration", "longest lease, whole hours (default no limit)")
	f.StringVar(&a.Region, "region", "", "country, as in DE (default as in the settings)")
	return c
}

func withdrawCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "withdraw", Short: "Take everything off sale; running leases go on", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			v, err := c.Withdraw(ctx)
			if err != nil {
				return err
			}
			return e.showSale(v)
		}),
	}
}

func hostStatusCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "What is on sale, and what is taken", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			v, err := c.OnSale(ctx)
			if err != nil {
				return err
			}
			return e.showSale(v)
		}),
	}
}

func (e *env) showSale(v api.Sale) error {
	facts := []fact{{"on sale", yesNo(v.Listed)}}
	if v.Listed {
		offer := "is published within seconds"
		if v.Offer > 0 {
			offer = strconv.FormatUint(v.Offer, 10)
		}
		facts = append(facts, fact{"price", price(v.Price) + " $/GPU-h"}, fact{"least bid", price(v.Floor) + " $/GPU-h"}, fact{"offer", offer})
	}
	facts = append(facts, fact{"not published", v.Reason})
	if err := e.one(v, strconv.FormatUint(v.Offer, 10), facts...); err != nil || !e.plain() || len(v.Groups) == 0 {
		return err
	}
	fmt.Fprintln(e.out)
	return listing[api.Group]{
		key: func(g api.Group) string { return g.Model },
		columns: []column[api.Group]{
			{head: "GPU", of: func(g api.Group) string { return model(0, g.Model, g.Simulated) }},
			{head: "MEMORY", right: true, of: func(g api.Group) string { return showBytes(uint64(g.MemoryMiB) << 20) }},
			{head: "FREE", right: true, of: func(g api.Group) string { return fmt.Sprintf("%d/%d", g.Free, g.Count) }},
			{head: "$/GPU-h", right: true, of: func(g api.Group) string { return price(g.Price) }},
			{head: "SPOT NOW $/GPU-h", right: true, of: func(g api.Group) string { return price(g.SpotNow) }},
		},
	}.show(e, v.Groups)
}

func gpusCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "gpus", Short: "The GPUs of this machine", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			v, err := c.Inventory(ctx)
			if err != nil {
				return err
			}
			if len(v.Devices) == 0 && e.plain() {
				e.note("no GPUs were found; 'souk doctor' says what was looked for")
				return nil
			}
			return listing[api.Device]{
				key: func(d api.Device) string { return d.UUID },
				columns: []column[api.Device]{
					{head: "UUID", of: func(d api.Device) string { return d.UUID }},
					{head: "GPU", of: func(d api.Device) string { return model(0, d.Model, d.Simulated) }},
					{head: "MEMORY", right: true, of: func(d api.Device) string { return showBytes(uint64(d.MemoryMiB) << 20) }},
				},
			}.show(e, v.Devices)
		}),
	}
}

func earningsCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "earnings", Short: "What each lease has brought", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Earnings(ctx)
			if err != nil {
				return err
			}
			if err := earningList(e).show(e, list); err != nil || !e.plain() {
				return err
			}
			var owed, vouched, settled ledger.Amount
			for _, v := range list {
				owed, vouched, settled = owed+v.Owed, vouched+v.Vouched, settled+v.Settled
			}
			e.note("in all: owed %s, signed for %s, settled %s", money(owed), money(vouched), money(settled))
			return nil
		}),
	}
}

func earningList(e *env) listing[host.Earning] {
	return listing[host.Earning]{
		key: func(v host.Earning) string { return v.Lease.String() },
		columns: []column[host.Earning]{
			{head: "LEASE", of: func(v host.Earning) string { return v.Lease.Short() }},
			{head: "CONSUMER", of: func(v host.Earning) string { return v.Consumer.Short() }},
			{head: "KIND", of: func(v host.Earning) string { return v.Type.String() }},
			{head: "GPUS", of: func(v host.Earning) string { return model(v.GPUs, v.Model, false) }},
			{head: "$/GPU-h", right: true, of: func(v host.Earning) string { return price(v.Rate) }},
			{head: "STATE", of: func(v host.Earning) string { return because(v.State.String(), v.Reason.String()) }},
			{head: "MINUTES", right: true, of: func(v host.Earning) string { return strconv.FormatUint(v.Minutes, 10) }},
			{head: "OWED $", right: true, of: func(v host.Earning) string { return money(v.Owed) }},
			{head: "SIGNED $", right: true, of: func(v host.Earning) string { return money(v.Vouched) }},
			{head: "SETTLED $", right: true, of: func(v host.Earning) string { return money(v.Settled) }},
			{head: "SINCE", of: func(v host.Earning) string { return e.ago(v.At) }},
		},
	}
}

// because is a state and why.
func because(state, reason string) string {
	if reason == "" || reason == state {
		return state
	}
	return state + " (" + reason + ")"
}

func settleCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "settle", Short: "Take the vouchers of all leases to the bank now, not at the hour", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			v, err := c.Settle(ctx)
			if err != nil {
				return err
			}
			return e.one(v, strconv.Itoa(v.Leases), fact{"leases", strconv.Itoa(v.Leases)})
		}),
	}
}
