package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"souk/node/api"
	"souk/node/config"
	"souk/node/core/observer"
	"souk/node/core/step"
	"souk/node/keys"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// joinFlags are those of 'join'.
type joinFlags struct {
	homeFlags
	yes bool
}

func joinCommand(e *env) *cobra.Command {
	var f joinFlags
	c := &cobra.Command{
		Use: "join CODE|-", Short: "Join a market with an invite", Args: cobra.ExactArgs(1),
		Long: "Join proves this node's key to the operator that made the invite, and sends what the operator vets: of a host its GPUs,\n" +
			"machine and self-test, and its signature on the market's agreement. Home and key are made if there are none. The same\ncode again asks how it stands.\n\n" +
			"Whoever has the code can use it, and what stands on a command line is seen by every user of the machine and kept in the\nshell's history. '-' reads it from standard input.",
		Example: "  souk join - < code.txt",
		RunE: does(func(ctx context.Context, args []string) error {
			code, err := e.inviteCode(ctx, args[0])
			if err != nil {
				return err
			}
			return f.run(ctx, e, code)
		}),
	}
	f.homeFlags.add(c, true)
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "agree without being asked")
	return c
}

// inviteCode is the code that an argument means: itself, or with - the first line of standard input.
func (e *env) inviteCode(ctx context.Context, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	if e.asks {
		fmt.Fprint(e.err, "invite code: ")
	}
	code, err := e.answer(ctx)
	if err != nil && ctx.Err() == nil {
		err = usageError("souk join - < FILE", "there is no code on standard input")
	}
	return code, err
}

func (f *joinFlags) run(ctx context.Context, e *env, code string) error {
	invite, err := member.ParseInvite(code)
	if err != nil {
		return usageError("copy the whole code as the operator gave it", "%s", trim(err))
	}
	if err := f.check(); err != nil {
		return err
	}
	c, done, err := f.open(ctx, e, invite.Role.String())
	if err != nil {
		return err
	}
	st, err := f.apply(ctx, e, c, code, invite.Market)
	if ended := done(); err == nil {
		err = ended
	}
	if err != nil {
		return err
	}
	return e.showJoined(st)
}

// open gives a client of the node that is up, or of one in this process.
func (f *joinFlags) open(ctx context.Context, e *env, role string) (*api.Client, func() error, error) {
	home, err := e.homeDir()
	if err != nil {
		return nil, nil, err
	}
	var cfg config.Config
	var k *keys.Key
	if config.Exists(home) {
		cfg, k, err = f.reopen(ctx, e, home, role)
	} else {
		cfg, k, err = f.make(e, home, role)
	}
	if err != nil {
		return nil, nil, err
	}
	if k == nil {
		c := api.NewClient(cfg.Socket())
		return c, func() error { c.Close(); return nil }, nil
	}
	l, err := e.runLocal(ctx, cfg, k)
	if err != nil {
		return nil, nil, err
	}
	return l.Client, l.stop, nil
}

// reopen takes the settings of a home, changed as the flags say. Without a key the node is up and is to be asked.
func (f *joinFlags) reopen(ctx context.Context, e *env, home, role string) (config.Config, *keys.Key, error) {
	cfg, err := config.Load(home)
	if err != nil {
		return cfg, nil, err
	}
	up := api.NewClient(cfg.Socket()).Up(ctx)
	wanted := cfg.Role().String()
	cfg.Want(role)
	changed := f.homeFlags.apply(&cfg) || cfg.Role().String() != wanted
	if err := cfg.Validate(); err != nil {
		return cfg, nil, usageError("", "%s", trim(err))
	}
	if changed && up {
		return cfg, nil, step.Fail(step.ProblemConflict, "souk down, then join again", "the node is up with other settings than this asks for")
	}
	if up {
		return cfg, nil, nil
	}
	k, err := e.makeKey(&cfg, &f.passFlags)
	if err == nil && changed {
		err = cfg.Save()
	}
	return cfg, k, err
}

// apply shows the market, has the user agree to it, and asks for membership.
func (f *joinFlags) apply(ctx context.Context, e *env, c *api.Client, code string, of identity.Hash) (observer.Standing, error) {
	var none observer.Standing
	if st, err := c.Standing(ctx); err != nil || st.State == "approved" && st.MarketID == of {
		return st, err
	}
	p, err := c.Look(ctx, code)
	if err != nil {
		return none, err
	}
	if f.simulated != "" && !p.Testnet {
		return none, usageError("", "%s is no testnet: it takes no simulated GPUs", p.Name)
	}
	e.note("market %s (%s), as %s", marketName(observer.Standing{Market: p.Name, Testnet: p.Testnet, Slot: p.Slot}), p.Market.Short(), p.Role)
	question := "join it?"
	if p.Agreement != "" {
		e.note("\nThe agreement of its hosts, which joining signs:\n\n%s\n", wrap(p.Agreement, 78, "  "))
		question = "sign it and join?"
	}
	if err := e.agree(ctx, f.yes, question); err != nil {
		return none, err
	}
	return c.Join(ctx, api.Membership{Code: code, Alias: f.alias})
}

func (e *env) showJoined(st observer.Standing) error {
	err := e.one(st, st.Address.String(), fact{"standing", standing(st)}, fact{"market", marketName(st)}, fact{"address", st.Address.String()},
		fact{"roles", dash(strings.Replace(st.Roles, "none", "-", 1))}, fact{"tier", dash(st.Tier)})
	switch {
	case st.State == "rejected" || st.State == "revoked" || st.State == "suspended":
		return step.Fail(step.ProblemTrust, "", "%s by the operator: %s", st.State, st.Reason)
	case !e.plain():
	case st.State == "approved":
		next := "souk offers"
		if strings.Contains(st.Roles, "host") {
			next = "souk host advertise --price 0.34 --min-bid 0.12"
		}
		e.note("next: souk up -d; then %s", next)
	case st.State == "pending":
		e.note("next: keep the node up with 'souk up -d'; once the operator has approved %s, 'souk status' says so", st.Address.Short())
	}
	return err
}

// wrap breaks text into lines of at most width columns, each behind an indent.
func wrap(s string, width int, indent string) string {
	var b strings.Builder
	line := 0
	for _, w := range strings.Fields(clean(s)) {
		if line > 0 && line+1+len(w) > width-len(indent) {
			b.WriteByte('\n')
			line = 0
		}
		if line == 0 {
			b.WriteString(indent + w)
			line = len(w)
			continue
		}
		fmt.Fprintf(&b, " %s", w)
		line += 1 + len(w)
	}
	return b.String()
}
