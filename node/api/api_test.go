package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/api"
	"souk/node/api/apitest"
	"souk/node/core/consumer"
	"souk/node/core/host"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/p2p/wire"
)

var quiet = slog.New(slog.DiscardHandler)

// served is a client of a fake node, over a real socket.
func served(t *testing.T, n *apitest.Node) *api.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "souk") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(t.Context())
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- api.ServeOn(ctx, l, n, quiet) }()
	c := api.NewClient(path)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve ended with %v", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
		os.RemoveAll(dir)
	})
	return c
}

func TestSocketIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("rights are kept elsewhere")
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
	}
	if _, err := api.Listen(path); err == nil {
		t.Errorf("a second node took the socket of one that answers")
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil { // what a killed node leaves
		t.Fatal(err)
	}
	again, err := api.Listen(path)
	if err != nil {
		t.Fatalf("a dead socket was not replaced: %v", err)
	}
	again.Close()
}

func TestProblemsKeepCodeAndHint(t *testing.T) {
	var n apitest.Node
	c := served(t, &n)
	for code := step.ProblemOther; code <= step.ProblemCommand; code++ {
		apitest.On(&n, func(consumer.Balance) (any, error) { return nil, step.Fail(code, "do this", "problem %d", code) })
		_, err := c.Balance(t.Context())
		var p *step.Problem
		if code == step.ProblemPartial {
			continue // the command line's own
		}
		if !errors.As(err, &p) || p.Code != code || p.Hint != "do this" || !strings.HasPrefix(p.Text, "problem ") {
			t.Errorf("code %d came back as %#v", code, err)
		}
	}
	apitest.On(&n, func(consumer.Balance) (any, error) { return nil, errors.New("disk on fire") })
	var p *step.Problem
	if _, err := c.Balance(t.Context()); !errors.As(err, &p) || p.Code != step.ProblemOther || p.Text != "disk on fire" {
		t.Errorf("an ordinary error came back as %#v", err)
	}
	apitest.On(&n, func(consumer.Balance) (any, error) { return nil, context.DeadlineExceeded })
	if _, err := c.Balance(t.Context()); !errors.As(err, &p) || p.Code != step.ProblemTimeout {
		t.Errorf("a missed deadline came back as %#v", err)
	}
}

func ask(t *testing.T, n *apitest.Node, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	api.Handler(t.Context(), n, quiet).ServeHTTP(w, r)
	return w
}

func TestBadRequestsAreProblems(t *testing.T) {
	var n apitest.Node
	big := `{"kind":"spot","gpus":1,"query":"` + strings.Repeat("x", 300<<10) + `"}`
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"no such route", "GET", "/v1/nothing", "", 404, ""},
		{"unknown field", "POST", "/v1/plans", `{"kind":"spot","gpus":1,"colour":"red"}`, 422, "usage"},
		{"no GPUs", "POST", "/v1/plans", `{"kind":"spot","gpus":0}`, 422, "usage"},
		{"unknown kind", "POST", "/v1/plans", `{"kind":"free","gpus":1}`, 422, "usage"},
		{"price as a number", "POST", "/v1/plans", `{"kind":"spot","gpus":1,"maxRate":0.3}`, 422, "usage"},
		{"price that is none", "POST", "/v1/plans", `{"kind":"spot","gpus":1,"maxRate":"1e3"}`, 422, "usage"},
		{"no JSON", "POST", "/v1/plans", `{"kind":`, 400, "usage"},
		{"too large", "POST", "/v1/plans", big, 413, "usage"},
		{"bad host", "POST", "/v1/plans", `{"kind":"spot","gpus":1,"host":"ada"}`, 400, "usage"},
		{"bad lease id", "PUT", "/v1/leases/xyz", `{"kind":"spot","gpus":1,"reservation":"00","bid":"00","image":"x"}`, 422, "usage"},
		{"mistyped invite", "POST", "/v1/market/look", `{"code":"souk1abc"}`, 400, "usage"},
		{"negative limit", "GET", "/v1/offers?limit=-1", "", 422, "usage"},
	} {
		w := ask(t, &n, c.method, c.path, c.body)
		if w.Code != c.status {
			t.Errorf("%s: status %d, want %d: %s", c.name, w.Code, c.status, w.Body)
		}
		if c.code == "" {
			continue
		}
		var p api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Code != c.code || p.Detail == "" || p.Status != c.status {
			t.Errorf("%s: %s, want a problem %q", c.name, w.Body, c.code)
		}
		if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%s: content type %q", c.name, ct)
		}
	}
	if len(apitest.Asked[consumer.Plan](&n)) > 0 {
		t.Errorf("a bad request reached the core")
	}
}

// TestDescriptionTellsTheTruth checks that money, times, ids and states are strings in the description, as they are in
// answers.
func TestDescriptionTellsTheTruth(t *testing.T) {
	w := ask(t, &apitest.Node{}, "GET", "/openapi.json", "")
	var d struct {
		OpenAPI    string
		Paths      map[string]any
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Type any }
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || !strings.HasPrefix(d.OpenAPI, "3.") {
		t.Fatalf("no description: %v: %.200s", err, w.Body)
	}
	for _, path := range []string{"/v1/node", "/v1/events", "/v1/leases/{lease}", "/v1/leases/{ref}/logs", "/v1/offers", "/v1/operator/invites", "/v1/host/offer", "/v1/ledger"} {
		if d.Paths[path] == nil {
			t.Errorf("%s is not described", path)
		}
	}
	for _, f := range []struct{ schema, field string }{
		{"Offer", "price"}, {"Offer", "at"}, {"Offer", "host"}, {"ConsumerView", "kind"}, {"ConsumerView", "lease"}, {"ConsumerView", "owed"},
		{"ConsumerView", "created"}, {"HostEarning", "state"}, {"HostEarning", "reason"}, {"Account", "available"}, {"OperatorDepositView", "amount"},
		{"StepNotice", "at"}, {"Entry", "total"}, {"Problem", "code"},
	} {
		s, ok := d.Components.Schemas[f.schema]
		if !ok {
			t.Errorf("there is no schema %s", f.schema)
			continue
		}
		if got := s.Properties[f.field].Type; got != "string" {
			t.Errorf("%s.%s is described as %v, want a string", f.schema, f.field, got)
		}
	}
}

func TestAnswersComeBackAsTheyWere(t *testing.T) {
	var n apitest.Node
	c := served(t, &n)
	view := consumer.View{
		Lease: wire.ID{1}, Name: "train", Type: market.Spot, Rate: 220_000_000, Owed: 1_000_000_001, State: "running", Created: 1_790_820_000_000,
		Command: []string{"a", "b"},
	}
	apitest.Say[consumer.Resolve](&n, view)
	got, err := c.Lease(t.Context(), "train")
	if err != nil || got.Lease != view.Lease || got.Owed != view.Owed || got.Type != view.Type || got.Created != view.Created || got.Rate != view.Rate {
		t.Errorf("got %+v, %v; want %+v", got, err, view)
	}
	earning := host.Earning{Lease: wire.ID{2}, Type: market.OnDemand, State: market.StateExited, Reason: market.ReasonExit, Owed: 5}
	apitest.Say[host.Earnings](&n, []host.Earning{earning})
	if list, err := c.Earnings(t.Context()); err != nil || len(list) != 1 || list[0] != earning {
		t.Errorf("got %+v, %v; want %+v", list, err, earning)
	}
	account := consumer.Account{BalanceAnswer: step.BalanceAnswer{Available: 25_000_000_001, Burn: 7}, Lasts: -1}
	apitest.Say[consumer.Balance](&n, account)
	if a, err := c.Balance(t.Context()); err != nil || a.Available != ledger.Amount(account.Available) || a.Burn != 7 || a.Lasts != -1 {
		t.Errorf("got %+v, %v; want %+v", a, err, account)
	}
}

func TestCommandsReachTheCore(t *testing.T) {
	var n apitest.Node
	c := served(t, &n)
	apitest.Say[operator.InviteCreate](&n, operator.Invitation{Code: "souk1x"})
	secret := wire.ID{9}
	if v, err := c.Invite(t.Context(), api.Inviting{Secret: secret, Role: "host", Tier: "secure", MaxGPUs: 8, Seconds: 3600}); err != nil || v.Code != "souk1x" {
		t.Fatalf("got %+v, %v", v, err)
	}
	if got := apitest.Asked[operator.InviteCreate](&n); len(got) != 1 || got[0].Secret != secret || got[0].MaxGPUs != 8 || got[0].Life != 3600_000 || got[0].Tier.String() != "secure" {
		t.Errorf("the core was asked %+v", got)
	}
	lease := wire.ID{3}
	apitest.Say[consumer.Run](&n, consumer.View{Lease: lease, Type: market.OnDemand})
	o := api.Order{
		Wish:        api.Wish{Type: market.OnDemand, GPUs: 2, MaxRate: 340_000_000, Disk: 10 << 30, Minutes: 60},
		Reservation: wire.ID{4}, Bid: wire.ID{5}, Image: "x@sha256:y", Command: []string{"sleep", "1"}, Env: []string{"A=b"}, RemoveAtEnd: true,
	}
	if _, err := c.Run(t.Context(), lease, o); err != nil {
		t.Fatal(err)
	}
	got := apitest.Asked[consumer.Run](&n)
	if len(got) != 1 || got[0].Lease != lease || got[0].Bid != o.Bid || got[0].MaxRate != o.MaxRate || got[0].OnEnd != market.OnEndRemove || got[0].Spec.Command[1] != "1" {
		t.Errorf("the core was asked %+v", got)
	}
	if err := c.Shutdown(t.Context()); err != nil || !n.Ended() {
		t.Errorf("the node was not ended: %v", err)
	}
}

func TestOffersAreAskedFor(t *testing.T) {
	var n apitest.Node
	c := served(t, &n)
	offer := market.Offer{Groups: []market.Group{{Model: "H100", Price: 3, Count: 1}}}
	apitest.Say[observer.Offers](&n, observer.Listed{Fit: 3, Total: 4, Implicit: "verified=true", Missing: "why", Listings: []market.Listing{{Alias: "a", Offer: offer}}})
	v, err := c.Offers(t.Context(), api.OfferQuery{Query: "new=true", Sort: "spot-,alias", Limit: 7, Lift: true, Quick: true})
	if err != nil || len(v.Offers) != 1 || v.Offers[0].Alias != "a" || v.Fit != 3 || v.Total != 4 || v.Implied != "verified=true" || v.Missing != "why" {
		t.Errorf("%+v, %v", v, err)
	}
	want := observer.Offers{Query: "new=true", Sort: "spot-,alias", Limit: 7, Lift: true, Quick: true}
	if got := apitest.Asked[observer.Offers](&n); len(got) != 1 || got[0] != want {
		t.Errorf("the core was asked %+v, want %+v", got, want)
	}
}

// TestOffersAreWatched takes a market through what an offer can do: come, stay, change, go.
func TestOffersAreWatched(t *testing.T) {
	var n apitest.Node
	c := served(t, &n)
	at := 0
	list := func(price ledger.Rate, seq uint64) observer.Listed {
		return observer.Listed{Listings: []market.Listing{{Alias: "a", Offer: market.Offer{Seq: seq, Groups: []market.Group{{Model: "H100", Price: price, Count: 1}}}}}}
	}
	steps := []observer.Listed{{}, list(3, 1), list(3, 2), list(4, 3), {}}
	apitest.On(&n, func(observer.Offers) (any, error) {
		at++
		return steps[min(at-1, len(steps)-1)], nil
	})
	var got []string
	for o, err := range c.WatchOffers(t.Context(), api.OfferQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, o.Change+" "+o.Offer.Price.Text()); o.Change == "gone" {
			break
		}
	}
	if want := []string{"new 0.000000003", "changed 0.000000004", "gone 0.000000004"}; !slices.Equal(got, want) {
		t.Errorf("changes are %q, want %q", got, want)
	}
	apitest.On(&n, func(observer.Offers) (any, error) { return nil, step.Fail(step.ProblemUsage, "", "no such field") })
	for _, err := range c.WatchOffers(t.Context(), api.OfferQuery{Query: "x"}) {
		var p *step.Problem
		if !errors.As(err, &p) || p.Code != step.ProblemUsage {
			t.Errorf("a bad query: %v", err)
		}
	}
}

func TestEventsAreFollowed(t *testing.T) {
	var n apitest.Node
	c := served(t, &n)
	n.Tell(step.Notice{Type: "one", Text: "line\nbreak"})
	n.Tell(step.Notice{Type: "two"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	for e, err := range c.Events(ctx, 1, true) {
		if err != nil {
			if ctx.Err() == nil {
				t.Fatal(err)
			}
			break
		}
		got = append(got, e.Type)
		switch e.Type {
		case "two":
			n.Tell(step.Notice{Type: "three"})
		case "three":
			cancel()
		}
	}
	if strings.Join(got, " ") != "two three" {
		t.Errorf("got %v", got)
	}
	for e, err := range c.Events(t.Context(), 0, false) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Seq == 1 && e.Text != "line\nbreak" {
			t.Errorf("text came as %q", e.Text)
		}
	}
}

func TestOutputsStayApart(t *testing.T) {
	n := apitest.Node{Out: "to out\x00\xff\n", Err: "to err\n"}
	c := served(t, &n)
	apitest.Say[consumer.Resolve](&n, consumer.View{Lease: wire.ID{1}})
	var out, errs bytes.Buffer
	if err := c.Logs(t.Context(), "x", true, 0, &out, &errs); err != nil {
		t.Fatal(err)
	}
	if out.String() != n.Out || errs.String() != n.Err {
		t.Errorf("got %q and %q, want %q and %q", &out, &errs, n.Out, n.Err)
	}
	apitest.On(&n, func(consumer.Resolve) (any, error) {
		return nil, step.Fail(step.ProblemNotFound, "", "no pod %q", "x")
	})
	var p *step.Problem
	if err := c.Logs(t.Context(), "x", false, 0, io.Discard, io.Discard); !errors.As(err, &p) || p.Code != step.ProblemNotFound {
		t.Errorf("logs of nothing: %#v", err)
	}
}

func TestWatchTellsOfEveryChange(t *testing.T) {
	var n apitest.Node
	c := served(t, &n)
	states := []string{"setup", "running", "running", "exited", "ended"}
	at := 0
	next := func() (any, error) {
		v := consumer.View{Lease: wire.ID{1}, Type: market.Spot, State: states[at], Settled: states[at] == "ended"}
		at = min(at+1, len(states)-1)
		n.Tell(step.Notice{Type: "lease." + v.State})
		return v, nil
	}
	apitest.On(&n, func(consumer.Resolve) (any, error) { return next() })
	apitest.On(&n, func(consumer.Show) (any, error) { return next() })
	var got []string
	for v, err := range c.Watch(t.Context(), "x") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, v.State)
	}
	if strings.Join(got, " ") != "setup running exited ended" {
		t.Errorf("got %v", got)
	}
}

func TestNobodyHome(t *testing.T) {
	c := api.NewClient(filepath.Join(t.TempDir(), "s"))
	if _, err := c.Status(t.Context()); !errors.Is(err, api.ErrDown) {
		t.Errorf("got %v, want ErrDown", err)
	}
	if c.Up(t.Context()) {
		t.Errorf("nobody is up")
	}
}

func TestLocalClientNeedsNoSocket(t *testing.T) {
	var n apitest.Node
	apitest.Say[observer.Where](&n, observer.Standing{State: "approved"})
	ctx := t.Context()
	c := api.Local(ctx, &n, quiet)
	if st, err := c.Standing(ctx); err != nil || st.State != "approved" {
		t.Errorf("got %+v, %v", st, err)
	}
}

func TestStreamsEndWithTheNode(t *testing.T) {
	var n apitest.Node
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := api.Local(ctx, &n, quiet)
	n.Tell(step.Notice{Type: "one"})
	var last error
	for _, err := range c.Events(t.Context(), 0, true) {
		if last = err; err == nil {
			cancel()
		}
	}
	var p *step.Problem
	if !errors.As(last, &p) || p.Code != step.ProblemUnreachable {
		t.Errorf("the stream ended with %v", last)
	}
}
