package main

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"souk/node/api"
	"souk/node/core/step"
)

func eventsCommand(e *env) *cobra.Command {
	var follow bool
	var after uint64
	var kinds []string
	c := &cobra.Command{
		Use: "events", Short: "What the node has to tell", Args: cobra.NoArgs,
		Long: "Events prints what the node has told so far; with -f, what it tells from now on, or from --after on.",
		RunE: func(cmd *cobra.Command, args []string) error {
			given := cmd.Flags().Changed("after")
			return e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
				if follow && !given {
					st, err := c.Status(ctx)
					if err != nil {
						return err
					}
					after = st.LastEvent
				}
				return e.events(ctx, c, after, follow, kinds)
			})(cmd, args)
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with those to come")
	c.Flags().Uint64Var(&after, "after", 0, "only those after this number")
	c.Flags().StringSliceVar(&kinds, "type", nil, "only these, as in lease.running, or lease for all of leases")
	return c
}

func (e *env) events(ctx context.Context, c *api.Client, after uint64, follow bool, kinds []string) error {
	show := noticeList().stream(e, 6, 20, 16, 8)
	for n, err := range c.Events(ctx, after, follow) {
		if err != nil {
			return err
		}
		if !chosen(n.Type, kinds) {
			continue
		}
		if err := show(n); err != nil {
			return err
		}
	}
	return nil
}

// chosen reports whether a type is one of kinds, or below one of them.
func chosen(kind string, kinds []string) bool {
	for _, k := range kinds {
		if kind == k || strings.HasPrefix(kind, k+".") {
			return true
		}
	}
	return len(kinds) == 0
}

// sentences are what notices mean that come without a text.
var sentences = map[string]string{
	"join.approved": "the operator has approved this node",
	"join.pending":  "the operator has the request, and has not decided yet",
	"join.rejected": "the operator has turned this node away",
}

// notice is a notice for people.
func notice(n step.Notice) string {
	if n.Text == "" {
		return cmp.Or(sentences[n.Type], n.Type)
	}
	return n.Text
}

func noticeList() listing[step.Notice] {
	return listing[step.Notice]{
		key: func(n step.Notice) string { return strconv.FormatUint(n.Seq, 10) },
		columns: []column[step.Notice]{
			{head: "NUMBER", right: true, of: func(n step.Notice) string { return strconv.FormatUint(n.Seq, 10) }},
			{head: "TIME", of: func(n step.Notice) string { return n.At.String() }},
			{head: "TYPE", of: func(n step.Notice) string { return n.Type }},
			{head: "LEASE", of: func(n step.Notice) string {
				if n.Lease.IsZero() {
					return "-"
				}
				return n.Lease.Short()
			}},
			{head: "WHAT", of: notice},
		},
	}
}
