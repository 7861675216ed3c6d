package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"souk/market"
	"souk/node/api"
	"souk/node/core/observer"
)

// offersUsual is how many offers are listed unless told otherwise.
const offersUsual = 50

func offersCommand(e *env) *cobra.Command {
	var q api.OfferQuery
	c := &cobra.Command{
		Use: "offers [QUERY]", Short: "What is on sale, the cheapest first", Args: cobra.ArbitraryArgs,
		Long: "Offers lists what hosts have on sale. QUERY is conditions that must all hold, as in\n\n" +
			"  souk offers 'gpu_name=RTX_4090 num_gpus>=2 reliability>=0.99 dph<0.4'\n\n" + queryHelp(),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			q.Query = strings.Join(args, " ")
			v, err := c.Offers(ctx, q)
			if err != nil {
				return err
			}
			return e.showOffers(v)
		}),
	}
	f := c.Flags()
	f.StringVar(&q.Sort, "sort", "", "fields, the first one first; a dash behind one turns its order: dph,reliability- (default dph)")
	f.IntVar(&q.Limit, "limit", offersUsual, "list so many at most; 0: all")
	f.BoolVar(&q.Lift, "no-default", false, "add no conditions to the query")
	return c
}

func queryHelp() string {
	var b strings.Builder
	b.WriteString("Fields:\n")
	for _, f := range market.Fields() {
		fmt.Fprintf(&b, "  %-14s  %s\n", f.Name, f.Help)
	}
	b.WriteString("Operators: = != < <= > >= in [A,B] notin [A,B]; FIELD=any lifts a condition that would be added.")
	return b.String()
}

// showOffers prints the offers, and says what was added to the query and what was left out.
func (e *env) showOffers(v api.Offers) error {
	if e.output == "json" || e.output == "yaml" {
		return e.one(v, "")
	}
	if len(v.Offers) > 0 || !e.plain() {
		if err := offerList(e).show(e, v.Offers); err != nil {
			return err
		}
	}
	if !e.plain() {
		return nil
	}
	if v.Implied != "" {
		e.note("added to the query: %s (FIELD=any lifts one, --no-default all)", v.Implied)
	}
	switch {
	case v.Total == 0:
		e.note("no offer is live; hosts announce every few minutes")
	case v.Fit == 0:
		e.note("none of %s fits", plural(v.Total, "offer", "offers"))
	case len(v.Offers) < v.Fit:
		e.note("%d of %d that fit; --limit 0 lists all", len(v.Offers), v.Fit)
	}
	return nil
}

func offerList(e *env) listing[api.Offer] {
	return listing[api.Offer]{
		key: func(o api.Offer) string { return o.Host.String() },
		columns: []column[api.Offer]{
			{head: "HOST", of: func(o api.Offer) string { return who(o.Host, o.Alias) }},
			{head: "GPU", of: func(o api.Offer) string { return model(0, o.Model, o.Simulated) }},
			{head: "FREE", right: true, of: func(o api.Offer) string { return fmt.Sprintf("%d/%d", o.Free, o.Count) }},
			{head: "MEMORY", right: true, of: func(o api.Offer) string { return showBytes(uint64(o.MemoryMiB) << 20) }},
			{head: "$/GPU-h", right: true, of: func(o api.Offer) string { return price(o.Price) }},
			{head: "SPOT NOW $/GPU-h", right: true, of: func(o api.Offer) string { return price(o.SpotNow) }},
			{head: "TIER", of: func(o api.Offer) string { return o.Tier }},
			{head: "RELIABILITY", right: true, of: func(o api.Offer) string { return reliability(o.Reliability, o.New) }},
			{head: "REGION", of: func(o api.Offer) string { return orDash(o.Region) }},
			{head: "MIN BID $/GPU-h", right: true, wide: true, of: func(o api.Offer) string { return price(o.Floor) }},
			{head: "ON-DEMAND", right: true, wide: true, of: func(o api.Offer) string { return strconv.Itoa(int(o.OnDemand)) }},
			{head: "CORES", right: true, wide: true, of: func(o api.Offer) string { return strconv.Itoa(int(o.Machine.Cores)) }},
			{head: "RAM", right: true, wide: true, of: func(o api.Offer) string { return showBytes(uint64(o.Machine.MemoryMiB) << 20) }},
			{head: "DISK", right: true, wide: true, of: func(o api.Offer) string { return showBytes(uint64(o.Machine.DiskGiB) << 30) }},
			{head: "RUNTIME", wide: true, of: func(o api.Offer) string { return o.Machine.Runtime }},
			{head: "CUDA", wide: true, of: func(o api.Offer) string { return orDash(o.Machine.CUDA) }},
			{head: "EXPIRES", wide: true, of: func(o api.Offer) string { return o.Expires.String() }},
			{head: "ADDRESS", wide: true, of: func(o api.Offer) string { return o.Host.String() }},
		},
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// reliability is a share of minutes, marked when too little was seen.
func reliability(ppm uint32, young bool) string {
	if young && ppm == 0 {
		return "new"
	}
	if young {
		return share(ppm) + " new"
	}
	return share(ppm)
}

func reputationCommand(e *env) *cobra.Command {
	show := &cobra.Command{
		Use: "show ADDR", Short: "What this node saw of a host", Args: cobra.ExactArgs(1),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			v, err := c.Reputation(ctx, args[0])
			if err != nil {
				return err
			}
			return e.showRepute(v)
		}),
	}
	n := noun("reputation", "How reliable hosts are", show)
	n.Aliases = []string{"rep"}
	return n
}

func (e *env) showRepute(v observer.Repute) error {
	forked := ""
	if v.Forked {
		forked = "yes: it signed two beats for one place"
	}
	beat := "never seen"
	if v.LastBeat > 0 {
		ago := e.ago(v.LastBeat) + " ago"
		if e.ago(v.LastBeat) == "now" {
			ago = "just now"
		}
		beat = fmt.Sprintf("%s, number %d, %d never seen here", ago, v.Seq, v.Missed)
	}
	live := "no"
	if v.Live {
		live = "yes"
	}
	return e.one(v, v.Host.String(),
		fact{"host", v.Host.String()}, fact{"alias", v.Alias}, fact{"tier", v.Tier}, fact{"standing", v.Standing},
		fact{"reliability", reliability(v.Reliability, v.New)},
		fact{"minutes", fmt.Sprintf("%d observed, down in %d", v.Observed, v.Down)},
		fact{"last beat", beat}, fact{"up now", live}, fact{"lease log", plural(int(v.LogSeq), "entry", "entries")},
		fact{"forked", forked}, fact{"basis", v.Basis})
}
