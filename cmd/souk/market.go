package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"souk/ledger"
	"souk/market"
	"souk/node/api"
	"souk/node/core/consumer"
	"souk/node/core/step"
)

func quoteCommand(e *env) *cobra.Command {
	var ask queryFlags
	q := api.QuoteQuery{GPUs: 1}
	span, disk := spanValue(time.Hour), bytesValue(10<<30)
	var volume bytesValue
	c := &cobra.Command{
		Use: "quote [QUERY]", Short: "What it takes to win GPUs now, and what that costs", Args: cobra.ArbitraryArgs,
		Long: "Quote says which offer wins now, on demand and on spot, and what it comes to. It reads signed offers; no host is asked and no lease\n" +
			"is made: 'souk run' gets the host's own quote. What hosts tell of spot is for one more GPU: of several, a host may ask for more.",
		Example: "  souk quote 'gpu_name=RTX_4090 reliability>=0.99' --gpus 2 --for 6h\n  souk quote gpu_name=H100_SXM --volume 50GiB -o json",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) (err error) {
			if q.Query, err = ask.query(args); err != nil {
				return err
			}
			switch {
			case q.GPUs < 1 || q.GPUs > 16:
				return usageError("", "a pod has 1 to 16 GPUs")
			case span <= 0:
				return usageError("", "--for wants a span over zero, as in 6h")
			}
			st, err := c.Standing(ctx)
			if err != nil {
				return err
			}
			q.Seconds, q.Disk, q.Volume, q.Simulated = uint64((time.Duration(span)+time.Second-1)/time.Second), uint64(disk), uint64(volume), st.Testnet
			v, err := c.Quote(ctx, q)
			if err != nil {
				return err
			}
			return e.showQuotes(v, time.Duration(span))
		}),
	}
	ask.add(c)
	f := c.Flags()
	f.Uint16Var(&q.GPUs, "gpus", q.GPUs, "how many GPUs, all of one host")
	f.Var(&span, "for", "how long it is to run")
	f.Var(&disk, "disk", "size of the container disk")
	f.Var(&volume, "volume", "size of the volume")
	return c
}

func (e *env) showQuotes(v consumer.Priced, span time.Duration) error {
	var found []consumer.Quoted
	var missing []string
	for _, q := range v.Quotes {
		if q.Missing == "" {
			found = append(found, q)
		} else {
			missing = append(missing, fmt.Sprintf("%v: %s", q.Type, clean(q.Missing)))
		}
	}
	if len(found) == 0 {
		hint := "ask for less, or wait: 'souk offers' lists what there is"
		if v.Implied != "" {
			hint += "; implied: " + v.Implied + " (lift one with FIELD=any)"
		}
		return step.Fail(step.ProblemNoOffer, hint, "%s", strings.Join(missing, "; "))
	}
	if e.output == "json" || e.output == "yaml" {
		return e.one(v, "")
	}
	if err := quoteList(span).show(e, found); err != nil {
		return err
	}
	if e.plain() {
		for _, m := range missing {
			e.note("%s", m)
		}
		if v.Implied != "" {
			e.note("added to the query: %s (FIELD=any lifts one)", v.Implied)
		}
	}
	return nil
}

func quoteList(span time.Duration) listing[consumer.Quoted] {
	return listing[consumer.Quoted]{
		key: func(q consumer.Quoted) string { return q.Host.String() },
		columns: []column[consumer.Quoted]{
			{head: "KIND", of: func(q consumer.Quoted) string { return q.Type.String() }},
			{head: "$/GPU-h", right: true, of: func(q consumer.Quoted) string { return price(q.Rate) }},
			{head: "$/h", right: true, of: func(q consumer.Quoted) string { return price(q.PerHour) }},
			{head: "$ FOR " + showSpan(span), right: true, of: func(q consumer.Quoted) string { return money(q.Total) }},
			{head: "HOST", of: func(q consumer.Quoted) string { return who(q.Host, q.Alias) }},
			{head: "GPU", of: func(q consumer.Quoted) string { return model(q.GPUs, q.Model, q.Simulated) }},
			{head: "TIER", of: func(q consumer.Quoted) string { return q.Tier }},
			{head: "RELIABILITY", right: true, of: func(q consumer.Quoted) string { return reliability(q.Reliability, q.New) }},
			{head: "OFFERS", right: true, of: func(q consumer.Quoted) string { return strconv.Itoa(q.Fit) }},
		},
	}
}

func bookCommand(e *env) *cobra.Command {
	var ask queryFlags
	var q api.BookQuery
	var watch bool
	c := &cobra.Command{
		Use: "book [QUERY]", Short: "How many GPUs there are at which price", Args: cobra.ArbitraryArgs,
		Long: "Book shows both sides of the market, the best price of each first: what can be had on demand, what spot bids win now, and the bids\n" +
			"that stand. Standing bids are not published yet, so that side is empty.",
		Example: "  souk book gpu_name=RTX_4090\n  souk book 'gpu_name=H100_SXM geolocation in [DE,NL]' --depth 5 --watch",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) (err error) {
			if q.Query, err = ask.query(args); err != nil {
				return err
			}
			if q.Depth < 1 || q.Depth > 1000 {
				return usageError("", "--depth is 1 to 1000")
			}
			if !watch {
				v, err := c.Book(ctx, q)
				if err != nil {
					return err
				}
				return e.showBook(v)
			}
			for v, err := range c.WatchBook(ctx, q) {
				if err != nil {
					return ended(ctx, err)
				}
				if err := e.showBookAgain(v); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	ask.add(c)
	f := c.Flags()
	f.IntVar(&q.Depth, "depth", 20, "prices of each side")
	f.BoolVar(&q.Lift, "no-default", false, "add no conditions to the query")
	f.BoolVarP(&watch, "watch", "w", false, "show it again whenever it changes")
	return c
}

// A rung is one price of one side of the book.
type rung struct {
	Side string `json:"side"`
	market.Level
}

// rungs is the book as one list.
func rungs(b api.Book) []rung {
	var out []rung
	for _, s := range []struct {
		name   string
		levels []market.Level
	}{{"on-demand", b.OnDemand}, {"spot", b.Spot}, {"bid", b.Bids}} {
		for _, l := range s.levels {
			out = append(out, rung{s.name, l})
		}
	}
	return out
}

func (e *env) showBook(b api.Book) error {
	if e.output == "json" || e.output == "yaml" {
		return e.one(b, "")
	}
	list := listing[rung]{
		key: func(r rung) string { return price(r.Rate) },
		columns: []column[rung]{
			{head: "SIDE", of: func(r rung) string { return r.Side }},
			{head: "$/GPU-h", right: true, of: func(r rung) string { return price(r.Rate) }},
			{head: "GPUS", right: true, of: func(r rung) string { return strconv.FormatUint(uint64(r.GPUs), 10) }},
			{head: "HOSTS", right: true, of: func(r rung) string { return strconv.FormatUint(uint64(r.Hosts), 10) }},
		},
	}
	all := rungs(b)
	if len(all) == 0 && e.plain() {
		e.note("nothing can be had now: %s", cmp.Or(clean(b.Missing), "all GPUs on sale are taken"))
	} else if err := list.show(e, all); err != nil {
		return err
	}
	e.implied(b.Implied)
	return nil
}

// showBookAgain draws over the book on a terminal; elsewhere it prints one book after another.
func (e *env) showBookAgain(b api.Book) error {
	switch {
	case e.output == "json" || e.output == "jsonl":
		return e.jsonLine(b)
	case e.fancy && e.plain():
		fmt.Fprint(e.out, "\x1b[H\x1b[2J")
	case e.plain():
		fmt.Fprintln(e.out, e.now().UTC().Format(time.RFC3339))
	}
	return e.showBook(b)
}

func tapeCommand(e *env) *cobra.Command {
	var q api.TapeQuery
	since := spanValue(24 * time.Hour)
	c := &cobra.Command{
		Use: "tape", Short: "What GPUs were taken at which price, the newest first", Args: cobra.NoArgs,
		Long: "Tape shows which GPUs were taken at which price. Hosts tell it in their signed offers and prove it with their lease logs, whose entry\n" +
			"each line names; a node knows what was told while it was up. A host that rents from itself tells that too: a tape is what hosts say.",
		Example: "  souk tape --gpu H100_SXM --since 24h\n  souk tape -o jsonl",
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			q.Since = e.now().Add(-time.Duration(since)).UnixMilli()
			v, err := c.Tape(ctx, q)
			if err != nil {
				return err
			}
			if e.output == "json" || e.output == "yaml" {
				return e.one(v, "")
			}
			if len(v.Fills) > 0 || !e.plain() {
				if err := tapeList().show(e, v.Fills); err != nil {
					return err
				}
			}
			switch {
			case !e.plain():
			case v.Count == 0:
				e.note("nothing was taken in the last %s, as far as this node has heard", showSpan(time.Duration(since)))
			case len(v.Fills) < v.Count:
				e.note("%d of %d shown; --limit 0 lists all", len(v.Fills), v.Count)
			}
			return nil
		}),
	}
	f := c.Flags()
	f.StringVar(&q.GPU, "gpu", "", "this model only")
	f.Var(&since, "since", "how far back")
	f.IntVar(&q.Limit, "limit", 100, "list so many at most; 0: all")
	return c
}

func tapeList() listing[api.Fill] {
	return listing[api.Fill]{
		key: func(f api.Fill) string { return f.Host.String() + "/" + strconv.FormatUint(f.Seq, 10) },
		columns: []column[api.Fill]{
			{head: "TIME", of: func(f api.Fill) string { return f.At.String() }},
			{head: "KIND", of: func(f api.Fill) string { return f.Type.String() }},
			{head: "GPU", of: func(f api.Fill) string { return model(f.GPUs, f.Model, f.Simulated) }},
			{head: "$/GPU-h", right: true, of: func(f api.Fill) string { return price(f.Rate) }},
			{head: "HOST", of: func(f api.Fill) string { return who(f.Host, f.Alias) }},
			{head: "LOG ENTRY", right: true, of: func(f api.Fill) string { return strconv.FormatUint(f.Seq, 10) }},
			{head: "ADDRESS", wide: true, of: func(f api.Fill) string { return f.Host.String() }},
		},
	}
}

func statsCommand(e *env) *cobra.Command {
	q := api.StatsQuery{}
	since := spanValue(24 * time.Hour)
	c := &cobra.Command{
		Use: "stats", Short: "What GPUs went for on average, as a chart", Args: cobra.NoArgs,
		Long:    "Stats averages the tape: each GPU counts once, at the price at which it was taken. 'souk tape --help' says what a tape is worth.",
		Example: "  souk stats --gpu H100_SXM\n  souk stats --gpu RTX_4090 --since 7d --parts 7",
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			if q.Parts < 1 || q.Parts > 500 {
				return usageError("", "--parts is 1 to 500")
			}
			if since <= 0 {
				return usageError("", "--since wants a span over zero, as in 24h")
			}
			q.Since, q.Until = e.now().Add(-time.Duration(since)).UnixMilli(), e.now().UnixMilli()
			v, err := c.Stats(ctx, q)
			if err != nil {
				return err
			}
			return e.showStats(v, time.Duration(since))
		}),
	}
	f := c.Flags()
	f.StringVar(&q.GPU, "gpu", "", "this model only")
	f.Var(&since, "since", "how far back")
	f.IntVar(&q.Parts, "parts", 12, "stretches that the time is cut into")
	return c
}

func (e *env) showStats(v api.Stats, span time.Duration) error {
	if e.output == "json" || e.output == "yaml" {
		return e.one(v, "")
	}
	if e.plain() {
		for _, s := range []struct {
			name string
			market.Mean
		}{{"on-demand", v.All.OnDemand}, {"spot", v.All.Spot}} {
			if s.Fills == 0 {
				e.note("%s: nothing was taken in the last %s, as far as this node has heard", s.name, showSpan(span))
				continue
			}
			e.note("%s: %s of %s, on average %s $/GPU-h, from %s to %s", s.name, plural(int(s.Fills), "fill", "fills"),
				plural(int(s.GPUs), "GPU", "GPUs"), cents(s.Rate), price(s.Low), price(s.High))
		}
		if v.All.OnDemand.Fills+v.All.Spot.Fills == 0 {
			return nil
		}
		if v.Simulated > 0 {
			e.note("%s of simulated GPUs", plural(v.Simulated, "fill is", "fills are"))
		}
	}
	return statsList(v, e.plain()).show(e, v.Spans)
}

// barMost is the length of the longest bar.
const barMost = 24

func statsList(v api.Stats, chart bool) listing[market.Span] {
	top := max(v.All.OnDemand.High, v.All.Spot.High)
	side := func(head string, of func(market.Span) market.Mean) []column[market.Span] {
		return []column[market.Span]{
			{head: head, right: true, of: func(s market.Span) string { return strconv.Itoa(int(of(s).GPUs)) }},
			{head: "$/GPU-h", right: true, of: func(s market.Span) string { return cents(of(s).Rate) }},
		}
	}
	bars := func(of func(market.Span) market.Mean) column[market.Span] {
		return column[market.Span]{head: "", of: func(s market.Span) string { return bar(of(s).Rate, top) }}
	}
	cols := []column[market.Span]{{head: "FROM", of: func(s market.Span) string { return s.From.String() }}}
	onDemand, spot := func(s market.Span) market.Mean { return s.OnDemand }, func(s market.Span) market.Mean { return s.Spot }
	cols = append(cols, side("ON-DEMAND", onDemand)...)
	if chart {
		cols = append(cols, bars(onDemand))
	}
	cols = append(cols, side("SPOT", spot)...)
	if chart {
		cols = append(cols, bars(spot))
	}
	return listing[market.Span]{key: func(s market.Span) string { return s.From.String() }, columns: cols}
}

// bar is a price as a line of blocks, to an eighth of one.
func bar(r, top ledger.Rate) string {
	if r <= 0 || top <= 0 {
		return ""
	}
	n := int(float64(r) / float64(top) * barMost * 8)
	s := strings.Repeat("█", n/8)
	if n%8 > 0 {
		s += string([]rune("▏▎▍▌▋▊▉")[n%8-1])
	}
	return s
}

// cents is an average for people: rounded down to a hundredth of a cent.
func cents(r ledger.Rate) string {
	if r == 0 {
		return "-"
	}
	return (r - r%100_000).Text()
}
