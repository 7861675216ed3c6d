package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"souk/node/api"
)

func ledgerCommand(e *env) *cobra.Command {
	var follow bool
	var lease string
	limit := 50
	tail := &cobra.Command{
		Use: "tail", Short: "The newest entries, the oldest first", Args: cobra.NoArgs,
		Long: "Tail prints what this node knows of money: an operator the bank's journal, a host the usage entries that it has signed, a\nconsumer those that it was sent, and the vouchers that it has signed.",
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			show := entryList().stream(e, 20, 7, 5, 8, 11, 6)
			for en, err := range c.Ledger(ctx, lease, limit, follow) {
				if err != nil {
					return err
				}
				if err := show(en); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	tail.Flags().BoolVarP(&follow, "follow", "f", false, "go on with those to come")
	tail.Flags().StringVar(&lease, "lease", "", "only this lease: its name or the beginning of its id; of the bank, of a reservation's")
	tail.Flags().IntVarP(&limit, "tail", "n", limit, "so many at most")
	return noun("ledger", "What this node knows of money", tail, ledgerCheckCommand(e), ledgerRebuildCommand(e),
		ledgerCheckpointCommand(e), ledgerEvidenceCommand(e), ledgerVerifyCommand(e),
		ledgerBackupCommand(e), ledgerRestoreCommand(e), ledgerAcceptCommand(e))
}

func entryList() listing[api.Entry] {
	return listing[api.Entry]{
		key: func(v api.Entry) string { return v.Ref.String() },
		columns: []column[api.Entry]{
			{head: "TIME", of: func(v api.Entry) string { return v.At.String() }},
			{head: "KIND", of: func(v api.Entry) string { return v.Kind }},
			{head: "SEQ", right: true, of: func(v api.Entry) string { return strconv.FormatUint(v.Seq, 10) }},
			{head: "LEASE", of: func(v api.Entry) string {
				switch {
				case !v.Lease.IsZero():
					return v.Lease.Short()
				case !v.Reserved.IsZero():
					return v.Reserved.Short()
				}
				return "-"
			}},
			{head: "ENTRY", of: func(v api.Entry) string { return v.Entry }},
			{head: "BILLED", right: true, of: func(v api.Entry) string {
				if v.Kind != "usage" {
					return "-"
				}
				return fmt.Sprintf("%d/%d", v.Billed, v.Minutes)
			}},
			{head: "$", of: entryAmount},
		},
	}
}

// entryAmount is what an entry comes to; of the bank's, every posting.
func entryAmount(v api.Entry) string {
	if v.Kind != "bank" {
		return v.Total.String()
	}
	var parts []string
	for _, p := range v.Postings {
		sign := "+"
		if p.Amount < 0 {
			sign = ""
		}
		parts = append(parts, fmt.Sprintf("%s %s %s%s", p.Account.Short(), p.Book, sign, p.Amount))
	}
	return strings.Join(parts, ", ")
}
