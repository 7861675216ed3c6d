package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"souk/node/api"
	"souk/node/core/observer"
	"souk/node/core/step"
	"souk/p2p"
	"souk/p2p/identity"
)

func statusCommand(e *env) *cobra.Command {
	var wait string
	timeout := spanValue(time.Minute)
	c := &cobra.Command{
		Use: "status", Short: "How the node does, and where it stands in its market", Args: cobra.NoArgs,
		Long: "Status shows the node. With --wait it waits first, until the node is up, approved, has peers (peers=2: so many), sees\noffers (offers=1), is signing (in no quarantine, with room on its disk), or is ready: up, approved and with a peer.",
		RunE: does(func(ctx context.Context, _ []string) error {
			cfg, err := e.load()
			if err != nil {
				return err
			}
			client := api.NewClient(cfg.Socket())
			defer client.Close()
			if wait != "" {
				if err := awaitStatus(ctx, client, wait, time.Duration(timeout)); err != nil {
					return err
				}
			}
			return e.showStatus(ctx, client)
		}),
	}
	c.Flags().StringVar(&wait, "wait", "", "wait until it is up, approved, peers[=N], offers[=N], signing or ready")
	c.Flags().Var(&timeout, "timeout", "how long to wait")
	return c
}

// awaits is a condition on a node's status.
type awaits func(api.Status) bool

func parseAwaits(s string) (awaits, error) {
	what, count, given := strings.Cut(s, "=")
	n := 1
	if given {
		var err error
		if n, err = strconv.Atoi(count); err != nil || n < 0 {
			return nil, usageError("", "--wait %s: %q is no number", s, count)
		}
	}
	approved := func(st api.Status) bool { return st.Standing.State == "approved" }
	switch {
	case what == "peers":
		return func(st api.Status) bool { return len(st.Peers) >= n }, nil
	case what == "offers":
		return func(st api.Status) bool { return st.Offers >= n }, nil
	case given:
	case what == "up":
		return func(api.Status) bool { return true }, nil
	case what == "approved":
		return approved, nil
	case what == "signing":
		return func(st api.Status) bool { return st.Condition.Signs() }, nil
	case what == "ready":
		return func(st api.Status) bool { return approved(st) && len(st.Peers) > 0 }, nil
	}
	return nil, usageError("", "--wait %s; want up, approved, peers[=N], offers[=N], signing or ready", s)
}

// awaitStatus waits until the node's status is as wanted.
func awaitStatus(ctx context.Context, c *api.Client, wait string, timeout time.Duration) error {
	ok, err := parseAwaits(wait)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, step.Fail(step.ProblemTimeout, "'souk status' tells how it stands", "the node was not %s within %s", wait, showSpan(timeout)))
	defer cancel()
	if err := c.Await(ctx); err != nil {
		return context.Cause(ctx)
	}
	for st, err := range c.WatchStatus(ctx) {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case ok(st):
			return nil
		case st.Standing.State == "rejected" || st.Standing.State == "revoked":
			return step.Fail(step.ProblemTrust, "", "this node is %s: %s", st.Standing.State, st.Standing.Reason)
		}
	}
	return context.Cause(ctx)
}

func (e *env) showStatus(ctx context.Context, c *api.Client) error {
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	s := st.Standing
	engine := st.Runtime
	if st.Engine != "" {
		engine += ", " + st.Engine
	}
	err = e.one(st, st.Address.String(),
		fact{"address", st.Address.String()}, fact{"peer id", st.PeerID}, fact{"alias", s.Alias}, fact{"home", st.Home},
		fact{"up", showSpan(e.now().Sub(st.Started)) + ", process " + strconv.Itoa(st.PID) + ", version " + st.Version},
		fact{"market", marketName(s)}, fact{"standing", standing(s)}, fact{"quarantine", st.Condition.Quarantine},
		fact{"waits for", strings.Join(st.Condition.Awaited, "; ")}, fact{"books lack", strings.Join(st.Condition.Missing, "; ")}, fact{"disk", diskLine(st)}, fact{"to do", st.Condition.Hint},
		fact{"roles", s.Roles}, fact{"tier", dash(s.Tier)},
		fact{"ledger", bankHeight(st)}, fact{"bank", banks(st)}, fact{"journal", plural(int(st.Height), "batch", "batches")},
		fact{"clock", fmt.Sprintf("%+d ms against its peers", s.Skew)}, fact{"engine", engine}, fact{"offers", strconv.Itoa(st.Offers)},
		fact{"listens", strings.Join(st.Addrs, " ")}, fact{"peers", strconv.Itoa(len(st.Peers))})
	if err != nil || !e.plain() || len(st.Peers) == 0 {
		return err
	}
	fmt.Fprintln(e.out)
	return peerList(e).show(e, st.Peers)
}

// diskLine says what the disk keeps the node from.
func diskLine(st api.Status) string {
	switch c := st.Condition; c.Disk {
	case "":
		return ""
	case step.RoomFull.String():
		return "full: nothing is signed (" + c.Room + ")"
	default:
		return c.Disk + ": nothing new is taken (" + c.Room + ")"
	}
}

func bankHeight(st api.Status) string {
	if st.BankEntries == 0 {
		return ""
	}
	return plural(int(st.BankEntries), "entry", "entries") + " of the bank's journal"
}

func dash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

// standing is where a node stands, in a few words.
func standing(s observer.Standing) string {
	out := s.State
	if s.Reason != "" {
		out += ": " + s.Reason
	}
	if s.State == "approved" && s.Until > 0 {
		out += ", credential until " + s.Until.String()
	}
	return out
}

func peerList(e *env) listing[api.PeerInfo] {
	return listing[api.PeerInfo]{
		key: func(p api.PeerInfo) string { return p.Address.String() },
		columns: []column[api.PeerInfo]{
			{head: "PEER", of: func(p api.PeerInfo) string { return who(p.Address, p.Alias) }},
			{head: "DIALLED", of: func(p api.PeerInfo) string { return map[string]string{"in": "by peer", "out": "by us"}[p.Direction] }},
			{head: "OVER", of: func(p api.PeerInfo) string { return p.Transport }},
			{head: "SINCE", of: func(p api.PeerInfo) string { return e.since(p.Since) }},
			{head: "LATENCY", right: true, of: func(p api.PeerInfo) string {
				if p.Latency == 0 {
					return "-"
				}
				return p.Latency.Round(100 * time.Microsecond).String()
			}},
			{head: "ADDRESS", wide: true, of: func(p api.PeerInfo) string { return p.Address.String() }},
			{head: "REMOTE", wide: true, of: func(p api.PeerInfo) string { return p.Remote }},
		},
	}
}

// An ident is who a node is.
type ident struct {
	Address identity.Address `json:"address"`
	PeerID  string           `json:"peerId"`
	Home    string           `json:"home"`
}

func idCommand(e *env) *cobra.Command {
	var p passFlags
	show := &cobra.Command{
		Use: "show", Short: "The node's address and peer id", Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error {
			id, err := e.whoAmI(ctx, &p)
			if err != nil {
				return err
			}
			return e.one(id, id.Address.String(), fact{"address", id.Address.String()}, fact{"peer id", id.PeerID}, fact{"home", id.Home})
		}),
	}
	p.add(show, false)
	return noun("id", "The node's key", show)
}

// whoAmI asks the node, and opens the key where none is up.
func (e *env) whoAmI(ctx context.Context, p *passFlags) (ident, error) {
	cfg, err := e.load()
	if err != nil {
		return ident{}, err
	}
	c := api.NewClient(cfg.Socket())
	defer c.Close()
	if st, err := c.Status(ctx); err == nil {
		return ident{st.Address, st.PeerID, st.Home}, nil
	}
	k, err := e.openKey(cfg, p)
	if err != nil {
		return ident{}, err
	}
	id, err := p2p.PeerID(k.Public())
	return ident{k.Address(), id.String(), cfg.Home}, err
}
