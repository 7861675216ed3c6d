package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// The forms of output.
var forms = []string{"table", "wide", "json", "jsonl", "yaml", "csv", "name"}

// The groups of commands in the help text.
const (
	groupNode     = "node"
	groupConsumer = "consumer"
	groupHost     = "host"
	groupOperator = "operator"
	groupMoney    = "money"
)

// run carries out one call of the program and gives its exit code.
func run(ctx context.Context, e *env, args []string) int {
	root := newRoot(e)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if cmd != nil {
		e.verb = strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), "souk"))
	}
	if err != nil && !e.started {
		hint := "souk help"
		if e.verb != "" {
			hint = "souk " + e.verb + " --help"
		}
		err = usageError(hint, "%s", err)
	}
	return e.report(ctx, err)
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:           "souk",
		Short:         "A peer-to-peer market for GPU pods",
		Long:          "Souk is a market for GPU pods without a platform in the middle: hosts offer GPUs, consumers run containers on them, every\nminute is signed by both sides, and anyone can verify the bill.",
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(forms, e.output) {
				return usageError("", "no form of output %q; want %s", e.output, strings.Join(forms, ", "))
			}
			e.started = true
			return nil
		},
	}
	root.SetIn(e.in)
	root.SetOut(e.out)
	root.SetErr(e.err)
	f := root.PersistentFlags()
	f.StringVar(&e.home, "home", "", "the node's home (default $SOUK_HOME, else ~/.souk)")
	f.StringVarP(&e.output, "output", "o", "table", "form of the output: "+strings.Join(forms, ", "))
	f.BoolVarP(&e.quiet, "quiet", "q", false, "print ids and names only")
	root.AddGroup(
		&cobra.Group{ID: groupConsumer, Title: "Pods:"}, &cobra.Group{ID: groupHost, Title: "For hosts:"},
		&cobra.Group{ID: groupMoney, Title: "Money and proofs:"}, &cobra.Group{ID: groupOperator, Title: "For operators:"},
		&cobra.Group{ID: groupNode, Title: "The node:"},
	)
	in := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	in(groupNode, demoCommand(e), initCommand(e), upCommand(e), downCommand(e), statusCommand(e), joinCommand(e), idCommand(e), eventsCommand(e), doctorCommand(e), versionCommand(e))
	in(groupConsumer, offersCommand(e), quoteCommand(e), bookCommand(e), tapeCommand(e), statsCommand(e), runCommand(e), psCommand(e), logsCommand(e), stopCommand(e), startCommand(e), rmCommand(e), waitCommand(e), reputationCommand(e))
	in(groupHost, hostCommand(e))
	in(groupOperator, operatorCommand(e))
	in(groupMoney, balanceCommand(e), transferCommand(e), limitCommand(e), mandateCommand(e), ledgerCommand(e), billCommand(e))
	root.AddCommand(simCommand(e), shimCommand(), configTopic(), demoPodCommand(), demoRegistryCommand())
	return root
}

// noun is a command that only holds others.
func noun(use, short string, cmds ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return usageError("souk "+strings.TrimPrefix(cmd.CommandPath(), "souk ")+" --help", "%s wants a verb", cmd.Name())
	}}
	c.AddCommand(cmds...)
	return c
}
