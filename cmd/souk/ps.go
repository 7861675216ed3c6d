package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"souk/ledger"
	"souk/market"
	"souk/node/api"
	"souk/node/core/consumer"
	"souk/node/core/step"
)

func psCommand(e *env) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "ps", Short: "This node's pods, and what each costs per hour", Args: cobra.NoArgs,
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Leases(ctx, all)
			if err != nil {
				return err
			}
			return podList(e).show(e, list)
		}),
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "ended and failed ones too")
	return c
}

func podList(e *env) listing[consumer.View] {
	type view = consumer.View
	return listing[view]{
		key: func(v view) string { return v.Lease.String() },
		columns: []column[view]{
			{head: "ID", of: func(v view) string { return v.Lease.Short() }},
			{head: "NAME", of: func(v view) string { return v.Name }},
			{head: "IMAGE", of: func(v view) string { return v.Image }},
			{head: "KIND", of: func(v view) string { return v.Type.String() }},
			{head: "GPUS", of: podGPUs},
			{head: "STATE", of: podState},
			{head: "SINCE", of: func(v view) string { return e.ago(v.Since) }},
			{head: "$/h", right: true, of: func(v view) string { return v.PerHour.Text() }},
			{head: "OWED $", right: true, of: func(v view) string { return money(v.Owed) }},
			{head: "HOST", of: func(v view) string { return who(v.Host, v.Alias) }},
			{head: "$/GPU-h", right: true, wide: true, of: func(v view) string { return price(v.Rate) }},
			{head: "SIGNED $", right: true, wide: true, of: func(v view) string { return money(v.Vouched) }},
			{head: "PAID $", right: true, wide: true, of: func(v view) string { return money(v.Paid) }},
			{head: "RESERVED $", right: true, wide: true, of: func(v view) string { return money(v.Cap) }},
			{head: "MINUTES", right: true, wide: true, of: func(v view) string { return strconv.FormatUint(v.Minutes, 10) }},
			{head: "VOLUME", right: true, wide: true, of: func(v view) string { return sizeOrDash(v.Volume) }},
			{head: "ISOLATION", wide: true, of: func(v view) string { return orDash(v.Isolation) }},
			{head: "CREATED", wide: true, of: func(v view) string { return v.Created.String() }},
		},
	}
}

// podGPUs are those that a pod has, or had when it was last up.
func podGPUs(v consumer.View) string {
	if v.Zero {
		return "none of " + model(v.GPUs, v.Model, v.Simulated)
	}
	return model(v.GPUs, v.Model, v.Simulated)
}

func sizeOrDash(n uint64) string {
	if n == 0 {
		return "-"
	}
	return showBytes(n)
}

// podState is the state in a few words.
func podState(v consumer.View) string {
	s := v.State
	switch {
	case v.State == market.StateExited.String():
		s += " (" + strconv.Itoa(int(v.ExitCode)) + ")"
	case v.State == market.StateSetup.String() && v.PullSize > 0 && v.Pulled < v.PullSize:
		s = fmt.Sprintf("pulling %d%%", v.Pulled*100/v.PullSize)
	case v.Reason != "" && v.State != market.StateRunning.String():
		s = because(s, v.Reason)
	}
	if v.Principal != nil {
		s += ", attended for " + who(v.Principal.Address, v.Principal.Alias)
	}
	if a := v.Attendant; a != nil {
		s += attendedBy(a)
	}
	if v.Pending != "" {
		s += ", " + v.Pending + " ordered"
	}
	if !v.Reachable && v.Heard > 0 && v.State != market.StateEnded.String() {
		s += ", host silent"
	}
	return s
}

// attendedBy says who attends a pod in this node's place.
func attendedBy(a *consumer.Attendance) string {
	name := who(a.Address, a.Alias)
	switch {
	case a.Refused != "":
		return ", not attended: " + name + " refuses"
	case !a.Has:
		return ", " + name + " is to attend it"
	}
	return ", attended by " + name
}

func logsCommand(e *env) *cobra.Command {
	var follow bool
	tail := 100
	c := &cobra.Command{
		Use: "logs POD", Short: "A pod's output: its standard output and errors on ours", Args: cobra.ExactArgs(1),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			return c.Logs(ctx, args[0], follow, tail, e.out, e.err)
		}),
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the pod ends")
	c.Flags().IntVarP(&tail, "tail", "n", tail, "last lines only; 0: all that is kept")
	return c
}

func stopCommand(e *env) *cobra.Command {
	return orderCommand(e, &cobra.Command{Use: "stop POD…", Short: "Stop pods and keep their volumes"},
		func(ctx context.Context, c *api.Client, ref string) (consumer.Ordered, error) {
			return c.Stop(ctx, ref)
		})
}

func startCommand(e *env) *cobra.Command {
	gpus := -1
	c := orderCommand(e, &cobra.Command{
		Use: "start POD…", Short: "Start stopped pods again",
		Long: "Start starts pods again: the same command, the volume as it was, the container disk fresh. When the GPUs are taken,\n--gpus 0 starts without any, to reach the data.",
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("gpus") && gpus != 0 {
				return usageError("", "--gpus can only be 0: a lease has as many GPUs as it was made with")
			}
			return nil
		},
	}, func(ctx context.Context, c *api.Client, ref string) (consumer.Ordered, error) {
		return c.Start(ctx, ref, gpus == 0)
	})
	c.Flags().IntVar(&gpus, "gpus", -1, "0: start without GPUs, to reach the data")
	c.Flags().Lookup("gpus").DefValue = "all of the lease"
	return c
}

func rmCommand(e *env) *cobra.Command {
	var yes bool
	c := orderCommand(e, &cobra.Command{Use: "rm POD…", Short: "End leases and wipe their volumes"},
		func(ctx context.Context, c *api.Client, ref string) (consumer.Ordered, error) {
			v, err := c.Lease(ctx, ref)
			if err != nil {
				return consumer.Ordered{}, err
			}
			if v.Volume > 0 && v.State != market.StateEnded.String() && e.asks {
				if err := e.agree(ctx, yes, fmt.Sprintf("end %s and wipe its volume of %s?", v.Name, showBytes(v.Volume))); err != nil {
					return consumer.Ordered{}, err
				}
			}
			return c.Remove(ctx, v.Lease.String())
		})
	c.Flags().BoolVarP(&yes, "yes", "y", false, "wipe volumes without being asked")
	return c
}

// orderCommand completes a command that tells hosts to do something with pods. Where a part of them fails, the rest is done.
func orderCommand(e *env, c *cobra.Command, order func(context.Context, *api.Client, string) (consumer.Ordered, error)) *cobra.Command {
	c.Args = cobra.MinimumNArgs(1)
	c.RunE = e.asking(func(ctx context.Context, client *api.Client, refs []string) error {
		var done []consumer.Ordered
		var failed error
		for _, ref := range refs {
			o, err := order(ctx, client, ref)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				if len(refs) > 1 {
					e.note("%s: %s", ref, problem(err).Text)
				}
				failed = err
				continue
			}
			done = append(done, o)
		}
		if len(done) > 0 {
			if err := orderedList().show(e, done); err != nil {
				return err
			}
		}
		if failed != nil && len(done) > 0 {
			return step.Fail(step.ProblemPartial, "", "%d of %d could not be done", len(refs)-len(done), len(refs))
		}
		return failed
	})
	return c
}

func orderedList() listing[consumer.Ordered] {
	return listing[consumer.Ordered]{
		key: func(o consumer.Ordered) string { return o.Lease.String() },
		columns: []column[consumer.Ordered]{
			{head: "ID", of: func(o consumer.Ordered) string { return o.Lease.Short() }},
			{head: "NAME", of: func(o consumer.Ordered) string { return o.Name }},
			{head: "ORDER", of: func(o consumer.Ordered) string { return o.Order }},
			{head: "HOST HAS IT", of: func(o consumer.Ordered) string { return yesNo(o.Done) }},
			{head: "NOTE", of: func(o consumer.Ordered) string { return o.Note }},
		},
	}
}

// downStates are those in which no container is.
var downStates = map[string]bool{"stopped": true, "outbid": true, "exited": true, "failed": true, "hold": true, "ended": true}

// A goal is what 'wait' waits for.
type goal struct {
	reached func(consumer.View) bool
	missed  func(consumer.View) bool // it will not come to that by itself
}

// starting reports whether a pod that is down has been told to start. Nothing else brings it up again: hosts do not keep
// the bids of outbid pods yet.
func starting(v consumer.View) bool {
	return v.Pending == market.CommandStart.String() && v.State != market.StateEnded.String()
}

// goals by name.
var goals = map[string]goal{
	"running": {
		func(v consumer.View) bool { return v.State == "running" },
		func(v consumer.View) bool { return downStates[v.State] && !starting(v) },
	},
	"stopped": {func(v consumer.View) bool { return downStates[v.State] }, nil},
	"outbid": {
		func(v consumer.View) bool { return v.State == "outbid" },
		func(v consumer.View) bool { return v.State == "ended" || v.State == "failed" },
	},
	"exit": {
		func(v consumer.View) bool { return v.State == "exited" },
		func(v consumer.View) bool { return downStates[v.State] && !starting(v) },
	},
	"ended":   {func(v consumer.View) bool { return v.State == "ended" }, nil},
	"settled": {func(v consumer.View) bool { return v.State == "ended" && v.Settled }, nil},
}

func waitCommand(e *env) *cobra.Command {
	var what string
	var timeout spanValue
	c := &cobra.Command{
		Use: "wait POD --for running|stopped|outbid|exit|ended|settled", Short: "Wait until a pod is in a state", Args: cobra.ExactArgs(1),
		Long: "Wait ends when the pod is in the state: running; stopped (no container is up, for whatever reason); outbid; exit (its\n" +
			"program has ended by itself, and its exit code is ours); ended; or settled (ended, and the bank has paid). It fails with\nexit code 4 when the pod has come to where it cannot get there by itself.",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			g, ok := goals[what]
			if !ok {
				return usageError("", "--for %q; want running, stopped, outbid, exit, ended or settled", what)
			}
			v, err := await(ctx, c, args[0], g, time.Duration(timeout))
			if err != nil {
				return err
			}
			if err := podList(e).show(e, []consumer.View{v}); err != nil {
				return err
			}
			if what == "exit" && v.ExitCode != 0 {
				return exitCode(v.ExitCode)
			}
			return nil
		}),
	}
	c.Flags().StringVar(&what, "for", "running", "the state to wait for")
	c.Flags().Var(&timeout, "timeout", "how long to wait (default no limit)")
	return c
}

// await waits until a pod reaches a goal.
func await(ctx context.Context, c *api.Client, ref string, g goal, timeout time.Duration) (v consumer.View, err error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, step.Fail(step.ProblemTimeout, "'souk ps' tells how it stands", "%s did not come to that within %s", ref, showSpan(timeout)))
		defer cancel()
	}
	for v, err = range c.Watch(ctx, ref) {
		switch {
		case ctx.Err() != nil:
			return v, context.Cause(ctx)
		case err != nil:
			return v, err
		case g.reached(v):
			return v, nil
		case g.missed != nil && g.missed(v):
			return v, missed(v)
		}
	}
	if ctx.Err() != nil {
		return v, context.Cause(ctx)
	}
	return v, missed(v)
}

// missed is that a pod has come to something else than was waited for.
func missed(v consumer.View) error {
	text := v.Name + " is " + podState(v)
	if v.Detail != "" {
		text += ": " + v.Detail
	}
	hint := ""
	switch v.State {
	case "stopped", "outbid", "hold":
		text += "; it stays so until it is started"
		hint = "souk start " + v.Name
	}
	return step.Fail(step.ProblemConflict, hint, "%s", text)
}

func balanceCommand(e *env) *cobra.Command {
	var prove bool
	var file string
	c := &cobra.Command{
		Use: "balance", Short: "This node's account at the bank, and how long it lasts", Args: cobra.NoArgs,
		Long: "Balance shows the account as the bank tells it. With --prove the bank has to prove it: each entry of the account is in the\n" +
			"journal that the bank has signed for, no other is, the balances are their sum, and they are in the sum of all accounts. -f\n" +
			"keeps the proof in a file that 'souk ledger verify' checks offline.",
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			if prove || file != "" {
				return e.proveBalance(ctx, c, file)
			}
			a, err := c.Balance(ctx)
			if err != nil {
				return err
			}
			return e.showBalance(a)
		}),
	}
	c.Flags().BoolVar(&prove, "prove", false, "have the bank prove it, and check the proof")
	c.Flags().StringVarP(&file, "file", "f", "", "write the proof there")
	return c
}

func (e *env) showBalance(a api.Account) error {
	burn := ""
	if a.PerHour > 0 {
		burn = fmt.Sprintf("%s $/h for %s", a.PerHour.Text(), plural(a.Running, "pod", "pods"))
	}
	short := ""
	if a.Short != 0 {
		short = fmt.Sprintf("since %s: pods are stopped, and their volumes are removed at %s unless money comes", a.Short, a.Forfeit)
	}
	some := func(x ledger.Amount) string {
		if x == 0 {
			return ""
		}
		return money(x) + " $"
	}
	return e.one(a, money(a.Available),
		fact{"account", a.Account.String()}, fact{"bank", a.Bank.String()}, fact{"available", money(a.Available) + " $"},
		fact{"reserved", money(a.Reserved) + " $"}, fact{"out of funds", short}, fact{"burn", burn}, fact{"lasts", lasting(a.Lasts)},
		fact{"earned, to be paid out", some(a.Payable)}, fact{"on its way out", some(a.Paying)}, fact{"paid out", some(a.PaidOut)}, fact{"fees", some(a.Fees)},
		fact{"deposited", money(a.Deposited) + " $"}, fact{"paid to hosts", money(a.Settled) + " $"})
}

// lasting is for how long money lasts.
func lasting(seconds int64) string {
	const century = 100 * 365 * 24 * 3600
	switch {
	case seconds < 0:
		return "nothing is spent now"
	case seconds == 0:
		return "nothing is left"
	case seconds > century:
		return "over a century"
	}
	return showSpan(time.Duration(seconds) * time.Second)
}
