package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"souk/node/core/step"
	"souk/simnet"
)

func simCommand(e *env) *cobra.Command {
	return noun("sim", "Simulated markets", simRunCommand(e))
}

func simRunCommand(e *env) *cobra.Command {
	o := simnet.Options{}
	faults, cheats := "", ""
	c := &cobra.Command{
		Use: "run", Short: "Run a whole market on a virtual clock, and check what was promised", Args: cobra.NoArgs,
		Long: "Runs a market of one operator, some hosts and some consumers on a virtual clock, with lost and late messages, partitions and\n" +
			"crashes, and checks after every event what the market promises. The same numbers give the same run. Needs no node and no home.\n\n" +
			"With --cheats some of the nodes do not keep to the rules, each in one of these ways: " + strings.Join(simnet.CheatNames(), ", ") + ".",
		Example: "  souk sim run --hosts 20 --consumers 30 --hours 24 --seed 7\n  souk sim run --hosts 8 --consumers 10 --cheats all",
		RunE: does(func(ctx context.Context, _ []string) error {
			switch faults {
			case "none":
			case "light":
				o.Faults = simnet.Light()
			case "heavy":
				o.Faults = simnet.Heavy()
			default:
				return usageError("", "no faults %q; want none, light or heavy", faults)
			}
			var err error
			if o.Cheats, err = simnet.ParseCheats(cheats); err != nil {
				return usageError("", "%v", err)
			}
			return e.simulate(ctx, o)
		}),
	}
	f := c.Flags()
	f.IntVar(&o.Hosts, "hosts", 3, "how many hosts")
	f.IntVar(&o.Consumers, "consumers", 5, "how many consumers")
	f.Float64Var(&o.Hours, "hours", 2, "virtual hours of demand and faults; about two more follow until all is settled")
	f.Uint64Var(&o.Seed, "seed", 1, "number of the run")
	f.StringVar(&faults, "faults", "light", "what goes wrong: none, light or heavy")
	f.StringVar(&cheats, "cheats", "none", "who cheats: all, none, or names with commas between them; as many as there are nodes for, one host and one consumer stay honest")
	return c
}

// simulate runs a simulation and prints what came of it.
func (e *env) simulate(ctx context.Context, o simnet.Options) error {
	next := e.now()
	o.Progress = func(at, until time.Duration, r simnet.Report) bool {
		if now := e.now(); !now.Before(next) {
			next = now.Add(2 * time.Second)
			e.note("%s of %s: %d events, %d messages, %d crashes, %d minutes billed",
				hours(at), hours(until), r.Events, r.Messages, r.Crashes, r.Billed)
		}
		return ctx.Err() == nil
	}
	r, err := simnet.Run(o)
	var broken *simnet.Failure
	switch {
	case errors.Is(err, simnet.ErrStopped):
		return ctx.Err()
	case errors.As(err, &broken):
		e.note("%s", broken.History)
		return step.Fail(step.ProblemVerify, fmt.Sprintf("the same numbers, with --seed %d, break it again", broken.Seed),
			"%s broken at %s by %s: %s", broken.Promise, broken.At, broken.Node, broken.What)
	case err != nil:
		return usageError("", "%v", err)
	}
	return e.showSimulation(r)
}

func (e *env) showSimulation(r simnet.Report) error {
	facts := []fact{
		{"trace", r.Trace}, {"market", fmt.Sprintf("1 operator, %d hosts, %d consumers, seed %d", r.Hosts, r.Consumers, r.Seed)},
		{"time", fmt.Sprintf("%s in %s, %.0f times as fast as a clock", hours(r.Virtual), r.Wall.Round(time.Millisecond), r.Ratio())},
		{"events", fmt.Sprintf("%d, of which %d steps of cores; %d messages delivered, %d requests", r.Events, r.Steps, r.Messages, r.Requests)},
		{"faults", fmt.Sprintf("%d crashes (%d of the machine), %d partitions, %d engine outages", r.Crashes, r.PowerCuts, r.Cuts, r.Outages)},
		{"orders", fmt.Sprintf("%d, %d of which came to nothing", r.Orders, r.Refused)},
		{"leases", fmt.Sprintf("%d, %d pods started, %d displaced; ended by %s", r.Leases, r.Starts, r.Displaced, counts(r.Ended))},
		{"minutes", fmt.Sprintf("%d billed, %d free: %s", r.Billed, r.Free, counts(r.Minutes))},
		{"deposited", r.Deposited.Text()}, {"settled", r.Settled.Text()}, {"fees", r.Fees.Text()}, {"never paid", r.Unpaid.Text()},
	}
	for _, t := range r.Cheats {
		facts = append(facts, fact{t.Cheat, t.Text()})
	}
	return e.one(r, r.Trace, append(facts, fact{"promises", "kept"})...)
}

// hours is a span of virtual time in hours and minutes.
func hours(d time.Duration) string {
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// counts lists numbers by name.
func counts[N int | int64](m map[string]N) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(out, ", ")
}
