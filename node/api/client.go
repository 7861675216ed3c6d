package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"souk/ledger"
	"souk/node/core"
	"souk/node/core/consumer"
	"souk/node/core/host"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/p2p/wire"
)

// answerMost bounds what a client reads of one answer, bytes. A long lease's bill is the largest.
const answerMost = 1 << 30

// ErrDown is what calls fail with when no node answers on the socket.
var ErrDown = errors.New("api: no node answers")

// ErrForeign is that a socket, or the folder it is in, is in another user's hands.
var ErrForeign = errors.New("api: the socket is not this user's")

// A Client talks to a node. Errors that the node answered are *step.Problem.
type Client struct {
	http *http.Client
	dial func(context.Context) (net.Conn, error)
}

// NewClient is a client for the node behind the socket at path. Calls fail with ErrForeign when another user made it.
func NewClient(path string) *Client {
	return newClient(func(ctx context.Context) (net.Conn, error) {
		if err := ownSocket(path); err != nil {
			return nil, err
		}
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	})
}

func newClient(dial func(context.Context) (net.Conn, error)) *Client {
	return &Client{dial: dial, http: &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression: true, MaxIdleConns: 4, IdleConnTimeout: time.Minute,
	}}}
}

// Local is a client for a Backend in this very process, without a socket. It serves until ctx ends.
func Local(ctx context.Context, b Backend, log *slog.Logger) *Client {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	go ServeOn(ctx, l, b, log)
	return newClient(l.dial)
}

// A pipeListener accepts connections of its own process.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "here", Net: "unix"} }

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Up reports whether a node answers.
func (c *Client) Up(ctx context.Context) bool {
	conn, err := c.dial(ctx)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// Await waits until a node answers, or ctx ends. A node that is not there yet cannot tell anybody when it will be: this is
// the one place where a client asks again and again.
func (c *Client) Await(ctx context.Context) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		if c.Up(ctx) {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrDown, ctx.Err())
		}
	}
}

// request sends a request and gives back an answer that is no error.
func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://souk"+path, r)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, down(ctx, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	var p Problem
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if json.Unmarshal(b, &p) != nil || p.Code == "" {
		return nil, fmt.Errorf("api: %s %s: %s: %.200s", method, path, resp.Status, b)
	}
	return nil, p.Problem()
}

// down tells a node that is not there from other failures.
func down(ctx context.Context, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrForeign):
		return err
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%w: %w", ErrDown, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%w: it ended meanwhile", ErrDown)
	}
	return fmt.Errorf("api: %w", err)
}

// call sends a request and decodes its answer.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var out T
	resp, err := c.request(ctx, method, path, body)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerMost)).Decode(&out); err != nil {
		return out, down(ctx, fmt.Errorf("reading the answer to %s %s: %w", method, path, err))
	}
	return out, nil
}

// query makes the end of a path out of names and values; empty values and false are left out.
func query(kv ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i+1] != "" && kv[i+1] != "false" && kv[i+1] != "0" {
			v.Set(kv[i], kv[i+1])
		}
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

func flag(b bool) string { return strconv.FormatBool(b) }

func at(parts ...string) string {
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "/v1/" + strings.Join(parts, "/")
}

// Status is how the node does.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, "GET", at("node"), nil)
}

// Shutdown ends the node.
func (c *Client) Shutdown(ctx context.Context) error {
	_, err := call[Done](ctx, c, "POST", at("node", "shutdown"), nil)
	return err
}

// Backup has the node write its ledger to a file of this machine.
func (c *Client) Backup(ctx context.Context, path string) (Backup, error) {
	return call[Backup](ctx, c, "POST", at("ledger", "backup"), Destination{path})
}

// AcceptLoss ends the node's quarantine without what is still awaited.
func (c *Client) AcceptLoss(ctx context.Context) (core.Accepted, error) {
	return call[core.Accepted](ctx, c, "POST", at("ledger", "accept-loss"), nil)
}

// SelfTest is whether the machine is fit to host.
func (c *Client) SelfTest(ctx context.Context) (Gates, error) {
	return call[Gates](ctx, c, "GET", at("node", "self-test"), nil)
}

// Inventory is the machine.
func (c *Client) Inventory(ctx context.Context) (Inventory, error) {
	return call[Inventory](ctx, c, "GET", at("node", "inventory"), nil)
}

// Image resolves a reference.
func (c *Client) Image(ctx context.Context, ref string) (Image, error) {
	return call[Image](ctx, c, "GET", at("images")+query("ref", ref), nil)
}

// Found founds a market.
func (c *Client) Found(ctx context.Context, f Founding) (observer.Standing, error) {
	return call[observer.Standing](ctx, c, "POST", at("market"), f)
}

// Look asks about the market of an invite.
func (c *Client) Look(ctx context.Context, code string) (observer.Prospect, error) {
	return call[observer.Prospect](ctx, c, "POST", at("market", "look"), Membership{Code: code})
}

// Join applies for membership.
func (c *Client) Join(ctx context.Context, m Membership) (observer.Standing, error) {
	return call[observer.Standing](ctx, c, "PUT", at("membership"), m)
}

// Standing is where the node stands in its market.
func (c *Client) Standing(ctx context.Context) (observer.Standing, error) {
	return call[observer.Standing](ctx, c, "GET", at("membership"), nil)
}

// Balance is the node's account.
func (c *Client) Balance(ctx context.Context) (Account, error) {
	return call[Account](ctx, c, "GET", at("balance"), nil)
}

// Checkpoints is what the node holds of the operators' checkpoints.
func (c *Client) Checkpoints(ctx context.Context) ([]observer.Audited, error) {
	return call[[]observer.Audited](ctx, c, "GET", at("ledger", "checkpoints"), nil)
}

// Proof is the node's account, proven by its bank.
func (c *Client) Proof(ctx context.Context) (Proof, error) {
	return call[Proof](ctx, c, "GET", at("ledger", "proof"), nil)
}

// Evidence is what the node has against operators.
func (c *Client) Evidence(ctx context.Context) ([]Accusation, error) {
	return call[[]Accusation](ctx, c, "GET", at("ledger", "evidence"), nil)
}

// Offers are those that fit.
func (c *Client) Offers(ctx context.Context, q OfferQuery) (Offers, error) {
	return call[Offers](ctx, c, "GET", at("offers")+q.encode(), nil)
}

func (q *OfferQuery) encode() string {
	return query("query", q.Query, "lift", flag(q.Lift), "sort", q.Sort, "limit", strconv.Itoa(q.Limit), "quick", flag(q.Quick))
}

// Quote is what wins now.
func (c *Client) Quote(ctx context.Context, q QuoteQuery) (consumer.Priced, error) {
	return call[consumer.Priced](ctx, c, "GET", at("quote")+query("query", q.Query, "gpus", strconv.Itoa(int(q.GPUs)), "seconds", strconv.FormatUint(q.Seconds, 10),
		"disk", strconv.FormatUint(q.Disk, 10), "volume", strconv.FormatUint(q.Volume, 10), "simulated", flag(q.Simulated)), nil)
}

// Book is what can be had at which price.
func (c *Client) Book(ctx context.Context, q BookQuery) (Book, error) {
	return call[Book](ctx, c, "GET", at("book")+q.encode(), nil)
}

func (q *BookQuery) encode() string {
	return query("query", q.Query, "lift", flag(q.Lift), "depth", strconv.Itoa(q.Depth))
}

// Tape is what was taken at which price, the newest first.
func (c *Client) Tape(ctx context.Context, q TapeQuery) (Tape, error) {
	return call[Tape](ctx, c, "GET", at("tape")+query("gpu", q.GPU, "since", strconv.FormatInt(q.Since, 10), "limit", strconv.Itoa(q.Limit)), nil)
}

// Stats is what GPUs went for.
func (c *Client) Stats(ctx context.Context, q StatsQuery) (Stats, error) {
	return call[Stats](ctx, c, "GET", at("stats")+query("gpu", q.GPU, "since", strconv.FormatInt(q.Since, 10), "until", strconv.FormatInt(q.Until, 10), "parts", strconv.Itoa(q.Parts)), nil)
}

// Reputation is what the node saw of a host.
func (c *Client) Reputation(ctx context.Context, addr string) (observer.Repute, error) {
	return call[observer.Repute](ctx, c, "GET", at("reputation", addr), nil)
}

// Plan is what an order would get.
func (c *Client) Plan(ctx context.Context, w Wish) (consumer.Proposal, error) {
	return call[consumer.Proposal](ctx, c, "POST", at("plans"), w)
}

// Run buys a lease.
func (c *Client) Run(ctx context.Context, lease wire.ID, o Order) (consumer.View, error) {
	return call[consumer.View](ctx, c, "PUT", at("leases", lease.String()), o)
}

// Leases are the node's pods.
func (c *Client) Leases(ctx context.Context, all bool) ([]consumer.View, error) {
	return call[[]consumer.View](ctx, c, "GET", at("leases")+query("all", flag(all)), nil)
}

// Lease is one pod.
func (c *Client) Lease(ctx context.Context, ref string) (consumer.View, error) {
	return call[consumer.View](ctx, c, "GET", at("leases", ref), nil)
}

// Stop stops a pod.
func (c *Client) Stop(ctx context.Context, ref string) (consumer.Ordered, error) {
	return call[consumer.Ordered](ctx, c, "POST", at("leases", ref, "stop"), nil)
}

// Start starts a pod again; zero: without GPUs.
func (c *Client) Start(ctx context.Context, ref string, zero bool) (consumer.Ordered, error) {
	verb := "start"
	if zero {
		verb = "start-zero"
	}
	return call[consumer.Ordered](ctx, c, "POST", at("leases", ref, verb), nil)
}

// Remove ends a lease.
func (c *Client) Remove(ctx context.Context, ref string) (consumer.Ordered, error) {
	return call[consumer.Ordered](ctx, c, "DELETE", at("leases", ref), nil)
}

// SetMandate lets witnesses vouch for a pod's minutes while the node is off.
func (c *Client) SetMandate(ctx context.Context, ref string, m Mandate) (consumer.View, error) {
	return call[consumer.View](ctx, c, "PUT", at("leases", ref, "mandate"), m)
}

// RevokeMandate takes a pod's mandate back.
func (c *Client) RevokeMandate(ctx context.Context, ref string) (consumer.View, error) {
	return call[consumer.View](ctx, c, "DELETE", at("leases", ref, "mandate"), nil)
}

// Bill is the file that proves a lease's cost.
func (c *Client) Bill(ctx context.Context, ref string) (Bill, error) {
	return call[Bill](ctx, c, "GET", at("leases", ref, "bill"), nil)
}

// Advertise puts GPUs on sale.
func (c *Client) Advertise(ctx context.Context, a host.Advertise) (Sale, error) {
	return call[Sale](ctx, c, "PUT", at("host", "offer"), a)
}

// Withdraw takes everything off sale.
func (c *Client) Withdraw(ctx context.Context) (Sale, error) {
	return call[Sale](ctx, c, "DELETE", at("host", "offer"), nil)
}

// OnSale is what is on sale.
func (c *Client) OnSale(ctx context.Context) (Sale, error) {
	return call[Sale](ctx, c, "GET", at("host", "offer"), nil)
}

// Earnings is what each lease has brought.
func (c *Client) Earnings(ctx context.Context) ([]host.Earning, error) {
	return call[[]host.Earning](ctx, c, "GET", at("host", "earnings"), nil)
}

// Settle takes all vouchers to the bank.
func (c *Client) Settle(ctx context.Context) (Settling, error) {
	return call[Settling](ctx, c, "POST", at("host", "settle"), nil)
}

// Invite makes an invite.
func (c *Client) Invite(ctx context.Context, i Inviting) (operator.Invitation, error) {
	return call[operator.Invitation](ctx, c, "POST", at("operator", "invites"), i)
}

// Invites are all of them.
func (c *Client) Invites(ctx context.Context) ([]operator.InviteView, error) {
	return call[[]operator.InviteView](ctx, c, "GET", at("operator", "invites"), nil)
}

// RevokeInvite takes an invite back.
func (c *Client) RevokeInvite(ctx context.Context, id string) (operator.InviteView, error) {
	return call[operator.InviteView](ctx, c, "DELETE", at("operator", "invites", id), nil)
}

// Applicants are those who wait, or all.
func (c *Client) Applicants(ctx context.Context, all bool) ([]operator.ApplicantView, error) {
	return call[[]operator.ApplicantView](ctx, c, "GET", at("operator", "applicants")+query("all", flag(all)), nil)
}

// Applicant is one node as the operator knows it.
func (c *Client) Applicant(ctx context.Context, addr string) (operator.ApplicantView, error) {
	return call[operator.ApplicantView](ctx, c, "GET", at("operator", "applicants", addr), nil)
}

// Approve makes an applicant a member.
func (c *Client) Approve(ctx context.Context, addr string, d Decision) (operator.MemberView, error) {
	return call[operator.MemberView](ctx, c, "POST", at("operator", "applicants", addr, "approve"), d)
}

// Reject turns an applicant away.
func (c *Client) Reject(ctx context.Context, addr, reason string) (operator.ApplicantView, error) {
	return call[operator.ApplicantView](ctx, c, "POST", at("operator", "applicants", addr, "reject"), Decision{Reason: reason})
}

// Sanction suspends, revokes or reinstates a member: the verb.
func (c *Client) Sanction(ctx context.Context, addr, verb string, d Decision) (operator.SanctionView, error) {
	return call[operator.SanctionView](ctx, c, "POST", at("operator", "members", addr, verb), d)
}

// Members are all of them.
func (c *Client) Members(ctx context.Context) ([]operator.MemberView, error) {
	return call[[]operator.MemberView](ctx, c, "GET", at("operator", "members"), nil)
}

// Accounts are all of the bank's.
func (c *Client) Accounts(ctx context.Context) ([]operator.AccountView, error) {
	return call[[]operator.AccountView](ctx, c, "GET", at("operator", "accounts"), nil)
}

// Height is the end of the bank's journal.
func (c *Client) Height(ctx context.Context) (operator.HeightView, error) {
	return call[operator.HeightView](ctx, c, "GET", at("operator", "bank"), nil)
}

// Deposit enters money.
func (c *Client) Deposit(ctx context.Context, p Payment) (operator.DepositView, error) {
	return call[operator.DepositView](ctx, c, "POST", at("operator", "deposits"), p)
}

// PayOut has the bank pay out what was earned.
func (c *Client) PayOut(ctx context.Context, o PayoutOrder) (consumer.Payment, error) {
	return call[consumer.Payment](ctx, c, "POST", at("payments", "payouts"), o)
}

// Transfer gives credits to another member.
func (c *Client) Transfer(ctx context.Context, o TransferOrder) (consumer.Payment, error) {
	return call[consumer.Payment](ctx, c, "POST", at("payments", "transfers"), o)
}

// Payments are the payouts and transfers that this node ordered.
func (c *Client) Payments(ctx context.Context) ([]consumer.Payment, error) {
	return call[[]consumer.Payment](ctx, c, "GET", at("payments"), nil)
}

// Payouts are those that members asked for.
func (c *Client) Payouts(ctx context.Context) ([]operator.PayoutView, error) {
	return call[[]operator.PayoutView](ctx, c, "GET", at("operator", "payouts"), nil)
}

// Decide records what became of a payout: the verb, pay or return.
func (c *Client) Decide(ctx context.Context, id, verb string, o Outcome) (operator.PayoutView, error) {
	return call[operator.PayoutView](ctx, c, "POST", at("operator", "payouts", id, verb), o)
}

// Statement is every entry of the bank's journal about one account.
func (c *Client) Statement(ctx context.Context, addr string) ([]Line, error) {
	return call[[]Line](ctx, c, "GET", at("operator", "statements", addr), nil)
}

// Limit is what the account may spend.
func (c *Client) Limit(ctx context.Context) (ledger.Ceiling, error) {
	return call[ledger.Ceiling](ctx, c, "GET", at("limit"), nil)
}

// SetLimit has the bank hold the account to a limit of its own.
func (c *Client) SetLimit(ctx context.Context, l OwnLimit) (ledger.Ceiling, error) {
	return call[ledger.Ceiling](ctx, c, "PUT", at("limit"), l)
}
