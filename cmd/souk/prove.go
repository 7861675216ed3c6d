package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"souk/ledger"
	"souk/ledger/audit"
	"souk/node/api"
	"souk/node/config"
	"souk/node/core/observer"
	"souk/node/core/step"
	"souk/p2p/identity"
)

// proveBalance has the bank prove this node's account, checks the proof, and keeps it in a file if one is named.
func (e *env) proveBalance(ctx context.Context, c *api.Client, file string) error {
	p, err := c.Proof(ctx)
	if err != nil {
		return err
	}
	sum, err := audit.VerifyStatement([]byte(p.File), identity.Secp256k1{}) // what is shown is what the file says
	if err != nil {
		return step.Fail(step.ProblemVerify, "", "the node's statement does not verify: %s", trim(err))
	}
	if file != "" {
		if err := config.WriteFile(file, []byte(p.File)); err != nil {
			return err
		}
		if e.plain() {
			e.note("the proof is in %s; 'souk ledger verify %s --offline' checks it", file, file)
		}
	}
	return e.showStatement(sum)
}

func (e *env) showStatement(s audit.Summary) error {
	name := s.Name
	if s.Testnet {
		name += " (testnet)"
	}
	some := func(x ledger.Amount) string {
		if x == 0 {
			return ""
		}
		return x.String() + " $"
	}
	return e.one(s, s.Account.String(),
		fact{"account", s.Account.String()}, fact{"market", name + ", " + s.Market.String()}, fact{"bank", s.Operator.String()},
		fact{"checkpoint", strconv.FormatUint(s.Number, 10) + " of " + s.At.String() + ", over " + plural(int(s.Size), "entry", "entries")},
		fact{"entries", strconv.FormatUint(s.Entries, 10) + " of this account, each proven, and no other"},
		fact{"deposited", s.Sums.Deposited.String() + " $"}, fact{"available", s.Sums.Available.String() + " $"},
		fact{"reserved", s.Sums.Reserved.String() + " $"}, fact{"payable", some(s.Sums.Payable)}, fact{"paying", some(s.Sums.Paying)},
		fact{"paid out", some(s.Sums.PaidOut)}, fact{"fees", some(s.Sums.Fees)},
		fact{"in the sum of", plural(int(s.Accounts), "account", "accounts") + ", " + s.Totals.Deposited.String() + " $ deposited, and as much held or paid out"})
}

func ledgerVerifyCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use: "verify FILE", Short: "Check a statement or evidence with nothing but its file", Args: cobra.ExactArgs(1),
		Long: "Verify checks a file of 'souk balance --prove' or of 'souk ledger evidence': every signature and proof, that a statement has all\n" +
			"entries of its account and its balances are their sum, or that an operator signed what cannot all be true. It asks no node\n" +
			"and no network. - reads standard input. Exit code 9 means that the file does not verify. Whether to trust the operators it\nnames, you must know.",
		RunE: does(func(_ context.Context, args []string) error {
			b, err := e.readFile(args[0])
			if err != nil {
				return err
			}
			if audit.Format(b) == audit.EvidenceFormat {
				v, err := audit.VerifyEvidence(b, identity.Secp256k1{})
				if err != nil {
					return notAudited(args[0], err)
				}
				if e.plain() {
					e.note("%s verifies", args[0])
				}
				return e.showVerdict(v)
			}
			s, err := audit.VerifyStatement(b, identity.Secp256k1{})
			if err != nil {
				return notAudited(args[0], err)
			}
			if e.plain() {
				e.note("%s verifies", args[0])
			}
			return e.showStatement(s)
		}),
	}
	c.Flags().Bool("offline", true, "ask nobody: it never does")
	return c
}

func notAudited(name string, err error) error {
	return step.Fail(step.ProblemVerify, "ask whoever gave it to you for the file as it was exported", "%s does not verify: %s", name, trim(err))
}

func (e *env) showVerdict(v audit.Verdict) error {
	name := v.Name
	if v.Testnet {
		name += " (testnet)"
	}
	return e.one(v, v.Operator.String(), fact{"operator", v.Operator.String()}, fact{"market", name + ", " + v.Market.String()}, fact{"proven false", v.What})
}

func ledgerEvidenceCommand(e *env) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "evidence", Short: "What this node has against operators that contradict themselves", Args: cobra.NoArgs,
		Long: "Evidence shows operators that have signed what cannot all be true: two histories of their bank, or a proof that fails. With\n--file it writes what proves it of the first, for 'souk ledger verify'.",
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Evidence(ctx)
			if err != nil {
				return err
			}
			if file != "" {
				if len(list) == 0 {
					return step.Fail(step.ProblemNotFound, "", "there is no evidence against any operator")
				}
				return config.WriteFile(file, []byte(list[0].File))
			}
			if len(list) == 0 && e.plain() {
				e.note("no evidence against any operator")
				return nil
			}
			return listing[api.Accusation]{
				key: func(v api.Accusation) string { return v.Verdict.Operator.String() },
				columns: []column[api.Accusation]{
					{head: "OPERATOR", of: func(v api.Accusation) string { return v.Verdict.Operator.String() }},
					{head: "PROVEN FALSE", of: func(v api.Accusation) string { return v.Verdict.What }},
				},
			}.show(e, list)
		}),
	}
	c.Flags().StringVar(&file, "file", "", "write the proof there")
	return c
}

func ledgerCheckpointCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "checkpoint", Short: "The newest checkpoint of the bank that this node has seen proven", Args: cobra.NoArgs,
		Long: "Checkpoint prints the bank's checkpoint as a signed note: the number and root of its entries, and the sums of all accounts.\nWhoever has another note of this operator with the same number, or one that it cannot prove to be of the same journal, has\ncaught it.",
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Checkpoints(ctx)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				return step.Fail(step.ProblemNotFound, "a bank draws its first with its first entry", "no checkpoint has come here yet")
			}
			v := list[0]
			if e.plain() && v.Note != "" {
				e.note("%s", bankState(v))
				_, err := e.out.Write([]byte(v.Note))
				return err
			}
			return e.one(list, strconv.FormatUint(v.Checkpoint.Number, 10), fact{"bank", bankState(v)}, fact{"root", v.Checkpoint.Root.String()})
		}),
	}
}

// bankState is what a node holds of a bank, in a few words.
func bankState(v observer.Audited) string {
	s := "checkpoint " + strconv.FormatUint(v.Checkpoint.Number, 10) + " of " + v.Checkpoint.At.String() + ", " + plural(int(v.Checkpoint.Size), "entry", "entries")
	switch v.State {
	case "false":
		return "PROVEN FALSE: " + strings.TrimPrefix(v.What, "audit: ") + "; see 'souk ledger evidence'"
	case "unproven":
		return s + "; that checkpoint " + strconv.FormatUint(v.Next.Number, 10) + " extends it is not proven yet"
	}
	return s
}

// banks is what a node holds of all banks.
func banks(st api.Status) string {
	var out []string
	for _, v := range st.Banks {
		out = append(out, bankState(v))
	}
	return strings.Join(out, "; ")
}
