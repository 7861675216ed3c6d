package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"souk/ledger"
	"souk/market"
	"souk/node/api"
	"souk/node/core/consumer"
	"souk/node/core/step"
)

// runFlags are those of 'run'.
type runFlags struct {
	kind      string
	maxPrice  rateValue
	gpus      uint16
	query     string
	duration  spanValue
	budget    amountValue
	env       []string
	envFiles  []string
	name      string
	disk      bytesValue
	volume    volumeValue
	host      string
	detach    bool
	yes       bool
	removeEnd bool
	noResume  bool
	simulated string
	mandate   mandateValue
	attendant string
}

func runCommand(e *env) *cobra.Command {
	f := runFlags{disk: 10 << 30, gpus: 1}
	c := &cobra.Command{
		Use: "run --type on-demand|spot [flags] IMAGE [-- COMMAND…]", Short: "Rent GPUs and run a container on them", Args: cobra.MinimumNArgs(1),
		Long: "Run takes the best offer, shows what it costs and the most that it can come to, and asks. Then it follows the pod: pulling,\n" +
			"starting, running, and its output until its program ends, with whose exit code it ends. Ctrl-C leaves the pod running.\n\n" +
			"On-demand cannot be displaced while it is paid for. Spot is cheaper, and goes when an on-demand pod needs its GPUs: SIGTERM,\na few seconds, SIGKILL; its volume is kept, and 'souk start' starts it again when there is room.",
		Example: "  souk run --type on-demand --max-price 0.40 --gpus 1 pytorch/pytorch:latest -- nvidia-smi\n" +
			"  souk run --type spot --max-price 0.22 -f 'gpu_name=RTX_4090' --budget 3 --volume 50GiB -d IMAGE",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error { return f.run(ctx, e, c, args) }),
	}
	fl := c.Flags()
	fl.StringVar(&f.kind, "type", "", "on-demand or spot")
	fl.Var(&f.maxPrice, "max-price", "most per GPU-hour; of spot, the bid")
	fl.Uint16Var(&f.gpus, "gpus", f.gpus, "how many GPUs")
	fl.StringVarP(&f.query, "filter", "f", "", "which offers, as 'souk offers' takes it")
	fl.Var(&f.duration, "max-duration", "stop after so long, as in 8h (default no limit)")
	fl.Var(&f.budget, "budget", "never spend more on it, all told (default no limit)")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "KEY=VALUE for the program, more than once; KEY alone takes it from here")
	fl.StringArrayVar(&f.envFiles, "env-file", nil, "file with a KEY=VALUE a line, more than once")
	fl.StringVar(&f.name, "name", "", "what to call the pod")
	fl.Var(&f.disk, "disk", "size of the container disk, lost at each stop")
	fl.Var(&f.volume, "volume", "size of a volume that is kept until 'souk rm', and where it is mounted, as in 5GiB:/data (default at "+usualMount+")")
	fl.StringVar(&f.host, "host", "", "this host only: address, its beginning, or alias")
	fl.BoolVarP(&f.detach, "detach", "d", false, "do not wait for the pod: print its id")
	fl.BoolVarP(&f.yes, "yes", "y", false, "agree to the price without being asked")
	fl.BoolVar(&f.removeEnd, "rm-at-limit", false, "when duration or budget is reached, end the lease instead of stopping the pod")
	fl.BoolVar(&f.noResume, "no-resume", false, "once outbid, stay so; today every outbid pod does, until 'souk start'")
	fl.Var(&f.mandate, "mandate", "most that minutes without this node may cost, on the word of witnesses; none: without it the pod stops (default a day in a testnet market, else none)")
	fl.StringVar(&f.attendant, "attendant", "", "another node of yours that attends the pod and signs for it, so that it runs on while this one is off: address, its beginning, or alias; its config.yaml must name this node in attend_for")
	fl.StringVar(&f.simulated, "simulated", "", "take simulated GPUs: yes or no (default yes in a testnet market)")
	return c
}

// wish checks the flags and makes of them what the pod should have.
func (f *runFlags) wish(ctx context.Context, c *api.Client) (api.Wish, error) {
	w := api.Wish{
		Query: f.query, GPUs: f.gpus, MaxRate: ledger.Rate(f.maxPrice), Disk: uint64(f.disk), Volume: f.volume.size, Budget: ledger.Amount(f.budget),
	}
	var err error
	switch {
	case f.kind == "":
		return w, usageError("", "say --type on-demand or --type spot")
	case f.gpus == 0:
		return w, usageError("", "a pod has 1 to 16 GPUs")
	case f.yes && f.maxPrice == 0:
		return w, usageError("", "say --max-price: with -y nobody looks at the price")
	}
	if w.Type, err = market.ParseBidKind(f.kind); err != nil {
		return w, usageError("", "%s", trim(err))
	}
	st, err := c.Standing(ctx)
	if err != nil {
		return w, err
	}
	switch f.simulated {
	case "":
		w.Simulated = st.Testnet
	case "yes", "no":
		w.Simulated = f.simulated == "yes"
	default:
		return w, usageError("", "--simulated is yes or no")
	}
	if slot := time.Duration(st.Slot) * time.Second; f.duration > 0 && slot > 0 {
		w.Minutes = uint64((time.Duration(f.duration) + slot - 1) / slot)
	}
	if f.host != "" {
		rep, err := c.Reputation(ctx, f.host)
		if err != nil {
			return w, err
		}
		w.Host = rep.Host.String()
	}
	return w, nil
}

func (f *runFlags) run(ctx context.Context, e *env, c *api.Client, args []string) error {
	vars, err := environment(f.env, f.envFiles)
	if err != nil {
		return err
	}
	w, err := f.wish(ctx, c)
	if err != nil {
		return err
	}
	img, err := c.Image(ctx, args[0])
	if err != nil {
		return err
	}
	p, err := c.Plan(ctx, w)
	if err != nil {
		return err
	}
	e.showPlan(p, w, img)
	away := f.mandate.settled(p)
	if f.attendant != "" {
		e.note("%s attends it and signs for its minutes, up to what is reserved, whether this node is on or off", f.attendant)
		e.showAway(p, away, "both are")
	} else {
		e.showAway(p, away, "this node is")
	}
	if p.BankKnown && p.Available < p.Reserve {
		return step.Fail(step.ProblemFunds, "ask the operator to enter a deposit for this account, or take a smaller --budget", "the start sets %s $ aside, and %s $ are available", money(p.Reserve), money(p.Available))
	}
	if err := e.agree(ctx, f.yes, "run it?"); err != nil {
		return err
	}
	o := api.Order{
		Wish: w, Reservation: newID(), Bid: newID(), Image: img.Pinned, Tag: args[0], Command: args[1:], Env: vars, Mount: f.volume.mount,
		RemoveAtEnd: f.removeEnd, NoResume: f.noResume, Name: f.name, Only: w.Host != "", Mandate: !away.off, MandateMost: away.most, Attendant: f.attendant,
	}
	o.Model, o.MaxRate, o.Host = p.Model, p.Rate, p.Host.String()
	v, err := order(ctx, e, c, o)
	if err != nil {
		return err
	}
	if f.detach {
		return e.showStarted(v)
	}
	return e.follow(ctx, c, v, img)
}

// showPlan says what would be bought.
func (e *env) showPlan(p consumer.Proposal, w api.Wish, img api.Image) {
	e.note("%s: %s at %s, host %s (%s, reliability %s)", p.Type, model(p.GPUs, p.Model, p.Simulated), p.Rate.Text()+" $/GPU-h", who(p.Host, p.Alias), p.Tier, reliability(p.Reliability, p.New))
	e.note("image %s, %s", img.Pinned, showBytes(uint64(img.Size)))
	size := "disk " + showBytes(w.Disk)
	if w.Volume > 0 {
		size += ", volume " + showBytes(w.Volume)
	}
	e.note("running %s $/h, stopped %s $/h, %s", p.PerHour.Text(), p.Stopped.Text(), size)
	most := map[string]string{"budget": "its budget", "duration": "for its whole duration", "24h": "in 24 h"}[p.MostFor]
	e.note("at most %s $ (%s); %s $ are set aside at the start", money(p.MostCost), most, money(p.Reserve))
	if p.BankKnown && p.Available > 0 {
		e.note("available %s $, which lasts %s", money(p.Available), lasting(p.FundsFor))
	} else if p.BankKnown {
		e.note("available %s $", money(p.Available))
	}
	if p.Type == market.Spot {
		e.note("spot: when outbid it gets SIGTERM, and SIGKILL %d s later; its volume is kept", p.Grace)
	}
	if p.Implied != "" {
		e.note("added to the filter: %s", p.Implied)
	}
}

// order buys the lease. The node tells meanwhile what it does.
func order(ctx context.Context, e *env, c *api.Client, o api.Order) (consumer.View, error) {
	lease := newID()
	told, stop := context.WithCancel(ctx)
	defer stop()
	if st, err := c.Status(ctx); err == nil && e.draws {
		go func() {
			for n, err := range c.Events(told, st.LastEvent, true) {
				if err == nil && strings.HasPrefix(n.Type, "lease.") && n.Lease == lease {
					e.note("%s", clean(n.Text))
				}
			}
		}()
	}
	v, err := c.Run(ctx, lease, o)
	if ctx.Err() != nil {
		e.note("the order %s is given, and may still become a lease: 'souk ps' tells, 'souk rm %s' gives it up", lease.Short(), lease.Short())
		return v, exitCode(exitInterrupted)
	}
	return v, err
}

func (e *env) showStarted(v consumer.View) error {
	if e.plain() {
		_, err := fmt.Fprintln(e.out, v.Lease)
		return err
	}
	return e.one(v, v.Lease.String())
}

// follow shows a pod until its program ends, and ends as that did.
func (e *env) follow(ctx context.Context, c *api.Client, v consumer.View, img api.Image) error {
	id := v.Lease
	e.note("%s (%s): %s", v.Name, id.Short(), setupWord(v))
	v, err := e.followSetup(ctx, c, v, img.Size)
	if err == nil && attachable(v) {
		err = c.Logs(ctx, id.String(), true, 0, e.out, e.err)
		if err == nil {
			v, err = await(ctx, c, id.String(), goals["stopped"], 0)
		}
	}
	switch {
	case ctx.Err() != nil:
		e.note("\ndetached; %s runs on: 'souk logs -f %s' shows it, 'souk stop %s' stops it", v.Name, v.Name, v.Name)
		return exitCode(exitInterrupted)
	case err != nil:
		return err
	}
	return e.ended(v)
}

// attachable reports whether there may be output.
func attachable(v consumer.View) bool {
	return v.State == market.StateRunning.String() || v.State == market.StateExited.String() || v.State == market.StateStopping.String()
}

// followSetup shows a pod's way to running.
func (e *env) followSetup(ctx context.Context, c *api.Client, v consumer.View, size int64) (_ consumer.View, err error) {
	bar := newPull(e, size)
	defer bar.end()
	said := setupWord(v)
	for v, err = range c.Watch(ctx, v.Lease.String()) {
		if err != nil {
			return v, err
		}
		bar.show(v)
		if word := setupWord(v); word != said {
			bar.say(v.Name + ": " + word)
			said = word
		}
		if attachable(v) || downStates[v.State] {
			return v, nil
		}
	}
	if ctx.Err() != nil {
		return v, ctx.Err()
	}
	return v, errors.New("the node tells no more of the pod")
}

// setupWord is where a pod is on its way.
func setupWord(v consumer.View) string {
	switch {
	case v.State == market.StateSetup.String() && v.PullSize > 0 && v.Pulled < v.PullSize:
		return "pulling " + v.Image
	case v.State == market.StateSetup.String():
		return "starting"
	}
	return podState(v)
}

// ended is what a pod's end means for the user.
func (e *env) ended(v consumer.View) error {
	cost := fmt.Sprintf("; owed so far, its last minute not counted yet: %s $", money(v.Owed))
	why := v.Reason
	if v.Detail != "" {
		why = v.Detail
	}
	switch v.State {
	case market.StateExited.String():
		e.note("%s ended with exit code %d%s", v.Name, v.ExitCode, cost)
		if v.Volume > 0 {
			e.note("its volume is kept, at %s $/h, until 'souk rm %s'", v.Tariff.VolumeStopped.Text(), v.Name)
		}
		if v.ExitCode != 0 {
			return exitCode(v.ExitCode)
		}
		return nil
	case market.StateFailed.String():
		return couldNotStart(v, why+cost)
	case market.StateOutbid.String():
		return step.Fail(step.ProblemConflict, "'souk start "+v.Name+"' starts it again when there is room; 'souk rm "+v.Name+"' ends it", "%s was outbid; its volume is kept%s", v.Name, cost)
	case market.StateHold.String():
		return step.Fail(step.ProblemFunds, "", "%s is out of funds; its volume is kept for now%s", v.Name, cost)
	}
	switch v.Reason {
	case market.ReasonImage.String(), market.ReasonCommand.String(), market.ReasonEngine.String(), market.ReasonSetup.String():
		return couldNotStart(v, why+cost) // a first start that fails ends the lease
	case market.ReasonUnpaid.String(), market.ReasonFunds.String(), market.ReasonBudget.String():
		return step.Fail(step.ProblemFunds, "'souk start "+v.Name+"' starts it again", "%s is %s%s", v.Name, because(v.State, v.Reason), cost)
	}
	e.note("%s is %s%s", v.Name, because(v.State, v.Reason), cost)
	return nil
}

// couldNotStart is a start that came to nothing.
func couldNotStart(v consumer.View, why string) error {
	code, hint := step.ProblemOther, "try again, or take another host"
	switch v.Reason {
	case market.ReasonImage.String():
		code, hint = step.ProblemImage, "check the image; its registry must be reachable from the host"
	case market.ReasonCommand.String():
		code, hint = step.ProblemCommand, "check the command; what stands behind -- goes to the image's entrypoint, if it has one"
	}
	if v.State == market.StateFailed.String() {
		hint += "; 'souk rm " + v.Name + "' ends the lease"
	}
	return step.Fail(code, hint, "%s could not start: %s", v.Name, why)
}
