package node

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"souk/node/api"
	"souk/node/config"
	"souk/node/core/host"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// deaf is the address of an engine that does not answer.
func deaf(t *testing.T) string { return "unix://" + filepath.Join(t.TempDir(), "none.sock") }

// answering is the address of something that answers as an engine would.
func answering(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("API-Version", "1.44")
		if strings.HasSuffix(r.URL.Path, "/version") {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"Version":"99.1.2","ApiVersion":"1.44"}`))
		}
		if strings.HasSuffix(r.URL.Path, "/info") {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"Driver":"overlay2","SecurityOptions":["name=seccomp,profile=builtin"]}`))
		}
		for _, list := range []string{"/containers/json", "/networks"} {
			if strings.HasSuffix(r.URL.Path, list) {
				w.Write([]byte(`[]`))
			}
		}
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return "tcp://" + l.Addr().String()
}

func openEngine(t *testing.T, home string, want config.Runtime, host string, testnet, known bool) *engine {
	t.Helper()
	e, err := newEngine(config.Config{Home: home, Runtime: want, DockerHost: host}, slog.New(slog.DiscardHandler),
		func(context.Context) (bool, bool) { return testnet, known })
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// nameOf is what an engine decides for; empty: nothing yet.
func nameOf(t *testing.T, e *engine) string {
	t.Helper()
	rt, err := e.runtime(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if rt == nil {
		return ""
	}
	return rt.Name()
}

// Plain processes need a testnet, or somebody who asked for them; and a home stays with what it used first.
func TestRuntimeIsChosenOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("plain processes need Linux")
	}
	const auto, docker, process = config.RuntimeAuto, config.RuntimeDocker, config.RuntimeProcess
	up, down := answering(t), deaf(t)
	for _, tt := range []struct {
		name           string
		want, used     config.Runtime
		host           string
		testnet, known bool
		got            string
	}{
		{"docker wanted", docker, "", down, true, true, "docker"},
		{"processes wanted", process, "", up, false, true, "process"},
		{"an engine answers", auto, "", up, true, true, "docker"},
		{"an engine answers, no market yet", auto, "", up, false, false, "docker"},
		{"none, testnet", auto, "", down, true, true, "process"},
		{"none, no testnet", auto, "", down, false, true, "docker"},
		{"none, no market yet", auto, "", down, false, false, ""},
		{"docker before, now down", auto, docker, down, true, true, "docker"},
		{"processes before, now docker", auto, process, up, true, true, "process"},
		{"processes before, no testnet", auto, process, down, false, true, "docker"},
		{"docker before, processes wanted", process, docker, up, true, true, "process"},
	} {
		home := t.TempDir()
		if tt.used != "" {
			if err := os.MkdirAll(filepath.Join(home, "pods"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(home, "pods", "runtime"), []byte(tt.used+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := nameOf(t, openEngine(t, home, tt.want, tt.host, tt.testnet, tt.known)); got != tt.got {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.got)
		}
	}
}

func TestHomeRemembersItsRuntime(t *testing.T) {
	home := t.TempDir()
	e := openEngine(t, home, config.RuntimeAuto, answering(t), true, true)
	if got := nameOf(t, e); got != "docker" {
		t.Fatalf("got %q", got)
	}
	e.note()
	e = openEngine(t, home, config.RuntimeAuto, deaf(t), true, true)
	if got := nameOf(t, e); got != "docker" {
		t.Fatalf("with the engine down the same home has %q", got)
	}
	if name, version := e.describe(context.Background()); name != "docker" || !strings.HasPrefix(version, "does not answer") {
		t.Fatalf("described as %q %q", name, version)
	}
	if err := os.WriteFile(filepath.Join(home, "pods", "runtime"), []byte("podman"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openEngine(t, home, config.RuntimeAuto, deaf(t), true, true).runtime(context.Background()); err == nil {
		t.Fatal("a file that makes no sense was taken")
	}
}

// A node that is not in a market yet decides when it is.
func TestEngineWaitsForTheMarket(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("plain processes need Linux")
	}
	e := openEngine(t, t.TempDir(), config.RuntimeAuto, deaf(t), false, false)
	if name, version := e.describe(context.Background()); name != "process" || version == "" || nameOf(t, e) != "" {
		t.Fatalf("without a market: %q %q", name, version)
	}
	e.testnet = func(context.Context) (bool, bool) { return true, true }
	if name, version := e.describe(context.Background()); name != "process" || version != "" || nameOf(t, e) != "process" {
		t.Fatalf("in a testnet: %q %q", name, version)
	}
}

func TestDockerHostOfTheConfigurationIsAsked(t *testing.T) {
	e := openEngine(t, t.TempDir(), config.RuntimeDocker, answering(t), false, true)
	if name, version := e.describe(context.Background()); name != "docker" || version != "99.1.2" {
		t.Fatalf("got %q %q, want the engine at docker_host", name, version)
	}
}

// A host whose machine fails a gate is told which when it puts its GPUs on sale, and sells nothing.
func TestHostThatFailsAGateSellsNothing(t *testing.T) {
	t.Parallel()
	w := start(t, "operator", func(c *config.Config) { c.Roles = []string{"operator"} })
	found(w)
	h := start(t, "host", func(c *config.Config) {
		c.Roles, c.SimulatedGPUs, c.Runtime, c.DockerHost = []string{"host"}, "2xH100", config.RuntimeDocker, answering(t)
	})
	inv := ask[operator.Invitation](w, operator.InviteCreate{Secret: wire.ID{7}, Role: member.RoleHost, Tier: member.TierCommunity, MaxGPUs: 8})
	joinWith(h, inv.Code)
	ask[operator.MemberView](w, operator.Approve{Addr: h.self.String(), Tier: member.TierCommunity})
	eventually(h, "host is approved", func() bool { return ask[observer.Standing](h, observer.Where{}).State == "approved" })
	eventually(h, "the gate is known", func() bool { return ask[host.Sale](h, host.OnSale{}).Reason != "the container engine does not answer" })
	_, err := h.Do(context.Background(), host.Advertise{Price: rate(t, "0.34"), Floor: rate(t, "0.12")})
	if err == nil || !strings.Contains(err.Error(), "engine: Docker, on another machine, needed on this machine") {
		t.Fatalf("advertised: %v, want a refusal that names the gate", err)
	}
	if s := ask[host.Sale](h, host.OnSale{}); s.Listed || !strings.Contains(s.Reason, "engine: ") {
		t.Fatalf("on sale: %+v", s)
	}
	gates := h.SelfTest(context.Background())
	if i := slices.IndexFunc(gates, func(g api.Gate) bool { return g.Name == "engine" }); i < 0 || gates[i].State != "no" || gates[i].Fix == "" {
		t.Fatalf("gates: %+v", gates)
	}
}
