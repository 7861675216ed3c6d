package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"souk/market"
	"souk/node/api"
	"souk/node/core/observer"
)

// offersUsual is how many offers are listed unless told otherwise.
const offersUsual = 64

func offersCommand(e *env) *cobra.Command {
	var q api.OfferQuery
	var ask queryFlags
	var watch bool
	c := &cobra.Command{
		Use: "offers [QUERY]", Short: "What is on sale, the cheapest first", Args: cobra.ArbitraryArgs,
		Long: "Offers lists what hosts have on sale. QUERY is conditions that must all hold. Words that are known from Vast's search mean the\n" +
			"same here; prices are always per GPU-hour, sizes and spans have their unit.\n\n" + queryHelp(),
		Example: "  souk offers 'gpu_name=RTX_4090 num_gpus>=2 reliability>=0.99 dph<0.4'\n" +
			"  souk offers 'cuda_max_good>=12.4 geolocation in [DE,NL]' --sort price,reliability-\n" +
			"  souk offers 'gpu_ram>=24GiB simulated=any' -o wide\n" +
			"  souk offers gpu_name=H100_SXM --watch",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) (err error) {
			if q.Query, err = ask.query(args); err != nil {
				return err
			}
			q.Quick = e.quiet || e.output == "name" || e.output == "jsonl" || e.output == "csv"
			if watch {
				return e.watchOffers(ctx, c, q)
			}
			v, err := c.Offers(ctx, q)
			if err != nil {
				return err
			}
			return e.showOffers(v)
		}),
	}
	f := c.Flags()
	ask.add(c)
	f.StringVar(&q.Sort, "sort", "", "fields, the first one first; a dash behind one turns its order: dph,reliability- (default dph)")
	f.IntVar(&q.Limit, "limit", offersUsual, "list so many at most; 0: all")
	f.BoolVar(&q.Lift, "no-default", false, "add no conditions to the query")
	f.BoolVarP(&watch, "watch", "w", false, "go on with what changes: new, changed, gone")
	return c
}

// queryFlags is a query as it may be given: as arguments or as a flag.
type queryFlags struct{ filter string }

func (q *queryFlags) add(c *cobra.Command) {
	c.Flags().StringVarP(&q.filter, "filter", "f", "", "the query, where it does not stand as an argument")
}

func (q *queryFlags) query(args []string) (string, error) {
	if q.filter != "" && len(args) > 0 {
		return "", usageError("", "the query stands twice: as an argument and with -f")
	}
	if len(args) > 0 {
		return strings.Join(args, " "), nil
	}
	return q.filter, nil
}

func queryHelp() string {
	var b strings.Builder
	b.WriteString("Fields:\n")
	for _, f := range market.Fields() {
		fmt.Fprintf(&b, "  %-19s  %s\n", f.Name, f.Help)
	}
	b.WriteString("Operators: = != < <= > >= in [A,B] notin [A,B]. A value with spaces has quotes, or underscores for them; case does not matter.\n" +
		"FIELD=any lifts a condition that would be added. What a host does not tell meets no condition.")
	return b.String()
}

// watchOffers prints what fits, and then each change.
func (e *env) watchOffers(ctx context.Context, c *api.Client, q api.OfferQuery) error {
	list := offerList(e)
	changed := listing[api.OfferChange]{key: func(c api.OfferChange) string { return c.Change + " " + list.key(c.Offer) }}
	changed.columns = append(changed.columns, column[api.OfferChange]{head: "CHANGE", of: func(c api.OfferChange) string { return c.Change }})
	for _, col := range list.columns {
		changed.columns = append(changed.columns, column[api.OfferChange]{head: col.head, right: col.right, wide: col.wide,
			of: func(c api.OfferChange) string { return col.of(c.Offer) }})
	}
	show := changed.stream(e, 7, 12, 24, 5, 8, 8, 16, 9, 11)
	for o, err := range c.WatchOffers(ctx, q) {
		if err != nil {
			return ended(ctx, err)
		}
		if err := show(o); err != nil {
			return err
		}
	}
	return nil
}

// ended is how a watch ends: when the user has seen enough, well.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
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
	e.implied(v.Implied)
	if !e.plain() {
		return nil
	}
	switch {
	case v.Total == 0:
		e.note("no offer is live; hosts announce every few minutes")
	case v.Fit == 0:
		e.note("%s", clean(v.Missing))
	case len(v.Offers) < v.Fit:
		e.note("%d of %d shown; --limit 0 lists all", len(v.Offers), v.Fit)
	}
	return nil
}

// implied tells which conditions nobody wrote.
func (e *env) implied(s string) {
	if s != "" && e.plain() {
		e.note("added to the query: %s (FIELD=any lifts one, --no-default all)", s)
	}
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
