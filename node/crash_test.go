//go:build crashtest

package node

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"souk/exec/image"
	"souk/ledger"
	"souk/market"
	"souk/node/config"
	"souk/node/core/consumer"
	"souk/node/core/host"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/table"
	"souk/node/keys"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

var tortureFlag = flag.Bool("torture", false, "long campaigns")

// The test binary, started again with this variable naming a folder, is a whole market that plays one lease from the founding
// to the settlement and a backup, begins where it was left, and writes what was acknowledged to standard output.
const crashDir = "SOUK_NODE_CRASH_DIR"

// A fact is something that was acknowledged, or signed: under one name there is never another value.
type fact struct{ Name, Value string }

func say(name, format string, args ...any) {
	b, _ := json.Marshal(fact{name, fmt.Sprintf(format, args...)})
	fmt.Printf("fact %s\n", b)
}

// shell makes or finds a home and runs its node.
func shell(t *testing.T, dir, name string, set func(*config.Config)) *running {
	home := filepath.Join(dir, name)
	cfg, err := config.Load(home)
	if err != nil {
		listen, err := config.Ports([]string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"})
		if err != nil {
			t.Fatal(err)
		}
		cfg = config.Config{Home: home, Listen: listen, Runtime: config.RuntimeProcess}
		set(&cfg)
		if err := os.RemoveAll(cfg.Keystore()); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Create(cfg.Keystore(), keys.Seal{Plain: true}); err != nil {
			t.Fatal(err)
		}
		if err := cfg.Save(); err != nil {
			t.Fatal(err)
		}
	}
	r := &running{t: t, cfg: cfg}
	r.up()
	t.Cleanup(r.down)
	return r
}

// seen says every object of a log that a node has, as signed.
func seen(r *running, who string, t table.Table, key ...[]byte) {
	prefix := table.Key(t, key...)
	list, err := r.Backend().Objects(context.Background(), prefix, table.After(prefix), 512, false)
	if err != nil {
		r.t.Fatal(err)
	}
	for i, o := range list {
		say(fmt.Sprintf("%s %v %x %d", who, t, prefix, i+1), "%x %x", identity.Keccak(o.Payload), o.Sig)
	}
}

func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("a child of TestTortureCrash")
	}
	op := shell(t, dir, "operator", func(c *config.Config) { c.Roles = []string{"operator"} })
	if ask[observer.Standing](op, observer.Where{}).State == "none" {
		p := member.DefaultPolicy(op.self, member.At(time.Now()))
		p.Bootstrap = op.net.Addrs()
		ask[observer.Standing](op, observer.Found{Charter: member.Charter{Salt: wire.ID{1}, Name: "test", Founded: member.At(time.Now()), ChainID: member.DefaultChainID,
			Operators: []identity.PublicKey{op.key.Public()}, Threshold: 1, Testnet: true, Slot: 5}, Policy: p, Alias: "op"})
	}
	say("market", "%s", ask[observer.Standing](op, observer.Where{}).MarketID)
	h := shell(t, dir, "host", func(c *config.Config) {
		c.Roles, c.SimulatedGPUs, c.PrivateImages = []string{"host"}, "2xH100", true
	})
	c := shell(t, dir, "consumer", func(c *config.Config) { c.Roles = []string{"consumer"} })
	for r, i := range map[*running]operator.InviteCreate{
		h: {Secret: wire.ID{7}, Role: member.RoleHost, Tier: member.TierCommunity, MaxGPUs: 8}, c: {Secret: wire.ID{8}, Role: member.RoleConsumer},
	} {
		inv := ask[operator.Invitation](op, i)
		if ask[observer.Standing](r, observer.Where{}).State == "none" {
			joinWith(r, inv.Code)
		}
	}
	eventually(op, "host has applied", func() bool {
		_, err := op.Do(context.Background(), operator.Approve{Addr: h.self.String(), Tier: member.TierCommunity})
		return err == nil
	})
	eventually(h, "host is approved", func() bool { return ask[observer.Standing](h, observer.Where{}).State == "approved" })
	ask[host.Sale](h, host.Advertise{Price: rate(t, "0.34"), Floor: rate(t, "0.12")})
	eventually(c, "consumer is approved", func() bool { return ask[observer.Standing](c, observer.Where{}).State == "approved" })
	ask[operator.DepositView](op, operator.Deposit{Addr: c.self.String(), Amount: 25 * ledger.Credit, Ref: "test"})
	say("deposit", "acknowledged")
	lease(t, dir, h, c)
	seen(op, "bank", table.BankEntry)
	if b := ask[operator.AccountView](op, operator.Balance{Addr: c.self.String()}); b.Deposited != 25*ledger.Credit {
		t.Errorf("the deposit is gone: %+v", b)
	}
	if _, err := c.Backend().Backup(context.Background(), filepath.Join(dir, fmt.Sprint("backup-", time.Now().UnixNano()))); err != nil {
		t.Error(err)
	}
	for _, r := range []*running{op, h, c} {
		for n, err := range r.Backend().Events(context.Background(), 0, false) {
			switch {
			case err != nil:
				t.Error(err)
			case n.Type == "lease.refused", n.Type == "evidence.beats", n.Type == "bank.overpaid":
				t.Errorf("%s: %s", filepath.Base(r.cfg.Home), n.Text)
			}
		}
	}
}

// lease plays one, from where it is.
func lease(t *testing.T, dir string, h, c *running) {
	ctx, cancel := context.WithCancel(context.Background())
	reg, err := image.Serve(ctx, port(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); reg.Wait() })
	run := consumer.Run{
		Lease: wire.ID{1}, Reservation: wire.ID{2}, Bid: wire.ID{3}, Type: market.OnDemand, GPUs: 1, MaxRate: rate(t, "0.40"), Simulated: true,
		Spec: market.Spec{Tag: "sleep:1", Command: []string{"600"}, Disk: 1 << 30},
	}
	img, err := image.Build(image.Recipe{Binary: "/bin/sleep"})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reg.Push(ctx, img, "sleep:1")
	if err != nil {
		t.Fatal(err)
	}
	if run.Spec.Image, _, err = c.Backend().ResolveImage(ctx, ref); err != nil {
		t.Fatal(err)
	}
	// An order that a crash ended before it was agreed is ordered again, under new ids.
	var v consumer.View
	show := func() consumer.View { v = ask[consumer.View](c, consumer.Show{Lease: run.Lease}); return v }
	for n := byte(0); ; n++ {
		run.Lease[1], run.Reservation[1], run.Bid[1] = n, n, n
		if _, err := c.Do(ctx, consumer.Show{Lease: run.Lease}); err != nil {
			eventually(c, "an offer", func() bool { return len(ask[observer.Listed](c, observer.Offers{}).Listings) == 1 })
			c.Do(ctx, run) // what comes of it, Show tells
		}
		if _, err := c.Do(ctx, consumer.Show{Lease: run.Lease}); err == nil {
			patient(c, "agreed or not", func() bool { return !slices.Contains(underway, show().State) })
			if v.State != consumer.StageFailed.String() {
				break
			}
		}
		if n == 20 {
			t.Fatalf("no lease came about: %+v", v)
		}
	}
	say("lease", "%s", run.Lease)
	if !v.Settled && v.State != "ended" {
		patient(c, "a minute is paid", func() bool {
			return show().Minutes >= 1 && v.Vouched == v.Owed || v.State == "ended" || v.State == "stopped"
		})
	}
	ask[consumer.Ordered](c, consumer.Remove{Lease: run.Lease})
	patient(c, "the lease is settled", func() bool { return show().Settled })
	say("settled "+run.Lease.String(), "%v", v.Paid)
	seen(h, "host", table.Usage, run.Lease[:])
	seen(c, "consumer", table.ConsumerUsage, run.Lease[:])
	seen(h, "host", table.LeaseLog)
	if v.Paid != v.Owed {
		t.Errorf("paid %v of %v", v.Paid, v.Owed)
	}
}

// underway are the stages of an order of which it is not known yet what becomes.
var underway = []string{consumer.StageAsked.String(), consumer.StageReserving.String(), consumer.StageAccepting.String()}

// patient is eventually, for what may take minutes of the market.
func patient(r *running, what string, holds func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(150 * time.Second)
	for tick := time.NewTicker(100 * time.Millisecond); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			r.t.Fatalf("not in time: %s", what)
		}
	}
}

// port is where the registry of a market listens, in every run of it: pods are pinned to what they were pulled from.
func port(t *testing.T, dir string) string {
	path := filepath.Join(dir, "registry")
	if b, err := os.ReadFile(path); err == nil {
		return string(b)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := config.WriteFile(path, []byte(l.Addr().String())); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// crashPoints are those of this node's sources that a market passes. Those of the store die in its own tests.
func crashPoints(t *testing.T) []string {
	var names []string
	for _, dir := range []string{".", "../exec"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && path != dir {
				if err == nil {
					err = fs.SkipDir
				}
				return err
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			text, err := os.ReadFile(path)
			for _, m := range regexp.MustCompile(`crash\.Here\("([^"]+)"\)`).FindAllSubmatch(text, -1) {
				names = append(names, string(m[1]))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	return names
}

// passing is which passing of a point to die at: those that are passed all the time, in the middle of things.
func passing(name string) int {
	switch kind, _, _ := strings.Cut(name, "."); {
	case kind == "step" || name == "leave.begin" || name == "leave.notices" || name == "leave.end":
		return 220
	case kind == "sign" || kind == "exchange" || kind == "response" || kind == "request" && name != "request.appended":
		return 40
	case name == "leave.publish":
		return 6
	case name == "engine.list":
		return 4
	case kind == "leave" && name != "leave.pods" && name != "leave.ordered" || kind == "command":
		return 30
	}
	return 1
}

func child(t *testing.T, dir, point string) (facts map[string]string, state *os.ProcessState, said string) {
	cmd := osexec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.v", "-test.timeout=9m")
	cmd.Env = append(os.Environ(), crashDir+"="+dir, "SOUK_CRASH="+point)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	facts = map[string]string{}
	var all strings.Builder
	lines := bufio.NewScanner(io.TeeReader(out, &all))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var f fact
		if b, ok := strings.CutPrefix(lines.Text(), "fact "); ok && json.Unmarshal([]byte(b), &f) == nil {
			facts[f.Name] = f.Value
		}
	}
	cmd.Wait() // its error is that it was killed; the state says so
	text := all.String()
	return facts, cmd.ProcessState, text[max(0, len(text)-3000):]
}

// TestTortureCrash kills a market at every crash point of node and engine, starts it again, and lets it finish: nothing that was
// acknowledged is lost, nothing is signed with two contents, and the books add up.
func TestTortureCrash(t *testing.T) {
	names := crashPoints(t)
	if n := len(names); n < 40 || len(slices.Compact(slices.Clone(names))) != n {
		t.Fatalf("%d crash points %q: too few, or one name twice", n, names)
	}
	if !*tortureFlag {
		names = []string{"step.durable", "leave.answer", "engine.started"}
	}
	var mu sync.Mutex
	done, facts := 0, 0
	t.Run("points", func(t *testing.T) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				before, state, said := child(t, dir, fmt.Sprintf("%s:%d", name, passing(name)))
				if !strings.Contains(state.String(), "killed") {
					t.Fatalf("the market ended with %s: it never passed there\n%s", state, said)
				}
				after, state, said := child(t, dir, "")
				if !state.Success() {
					t.Fatalf("the market did not finish: %s\n%s", state, said)
				}
				for k, v := range before {
					if after[k] != v && !strings.HasPrefix(k, "settled") {
						t.Errorf("%s was %q, and is %q", k, v, after[k])
					}
				}
				mu.Lock()
				defer mu.Unlock()
				done, facts = done+1, facts+len(after)
			})
		}
	})
	t.Logf("crash: a market killed at each of %d points and started again: %d finished, %d acknowledged facts and signed objects, 0 lost, 0 signed twice", len(names), done, facts)
}
