package node

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"souk/exec"
	"souk/exec/image"
	"souk/ledger"
	"souk/market"
	"souk/node/config"
	"souk/node/core/consumer"
	"souk/node/core/host"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/keys"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// TestMain lets the test binary stand in for the program, which pods' processes are started through.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == exec.ShimCommand {
		os.Exit(exec.Shim(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// running is a node of a test, with its own home.
type running struct {
	*Node
	t    *testing.T
	cfg  config.Config
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, name string, set func(*config.Config)) *running {
	t.Helper()
	home := filepath.Join(t.TempDir(), name)
	listen, err := config.Ports([]string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, cfg: config.Config{Home: home, Listen: listen, Runtime: config.RuntimeProcess}}
	if set != nil {
		set(&r.cfg)
	}
	if err := r.cfg.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Create(r.cfg.Keystore(), keys.Seal{Plain: true}); err != nil {
		t.Fatal(err)
	}
	r.up()
	t.Cleanup(func() {
		r.down()
		if e := r.pods.engine; e != nil && e.docker != nil {
			e.docker.Unfence(context.Background(), r.self.String()) // what was never loaded, or may not be, is not there
		}
	})
	return r
}

func (r *running) up() {
	r.t.Helper()
	key, err := keys.Open(r.cfg.Keystore(), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	out := io.Writer(io.Discard)
	if os.Getenv("SOUK_TEST_LOG") != "" {
		out = os.Stderr
	}
	n, err := New(Options{Config: r.cfg, Key: key, Log: slog.New(slog.NewTextHandler(out, nil)).With("home", filepath.Base(r.cfg.Home)), Version: "test"})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.Node, r.stop, r.done = n, cancel, make(chan error, 1)
	go func() { r.done <- n.Run(ctx) }()
	<-n.Ready()
}

func (r *running) down() {
	r.stop()
	if err := <-r.done; err != nil {
		r.t.Errorf("%s: %v", r.cfg.Home, err)
	}
	r.done <- nil
}

// ask has a node carry out a command that must succeed.
func ask[T any](r *running, cmd any) T {
	r.t.Helper()
	v, err := r.Do(context.Background(), cmd)
	if err != nil {
		r.t.Fatalf("%T: %v", cmd, err)
	}
	out, ok := v.(T)
	if !ok {
		r.t.Fatalf("%T: answered with a %T, want %T", cmd, v, out)
	}
	return out
}

// eventually follows a node's events until a condition holds.
func eventually(r *running, what string, holds func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(50 * time.Millisecond); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			r.t.Fatalf("not in time: %s", what)
		}
	}
}

func TestStrangerJoinsAndSeesOffers(t *testing.T) {
	t.Parallel()
	op := start(t, "operator", func(c *config.Config) { c.Roles = []string{"operator"} })
	s := found(op)
	if s.State != "approved" {
		t.Fatalf("operator stands at %+v", s)
	}

	h := start(t, "host", func(c *config.Config) { c.Roles, c.SimulatedGPUs = []string{"host"}, "4xH100" })
	inv := ask[operator.Invitation](op, operator.InviteCreate{Secret: wire.ID{7}, Role: member.RoleHost, Tier: member.TierCommunity, MaxGPUs: 8})
	joinWith(h, inv.Code)
	queue := ask[[]operator.ApplicantView](op, operator.Queue{})
	if len(queue) != 1 {
		t.Fatalf("queue has %d, want 1", len(queue))
	}
	ask[operator.MemberView](op, operator.Approve{Addr: h.self.String(), Tier: member.TierCommunity})
	eventually(h, "host is approved", func() bool { return ask[observer.Standing](h, observer.Where{}).State == "approved" })
	ask[host.Sale](h, host.Advertise{Price: rate(t, "0.34"), Floor: rate(t, "0.12")})

	c := start(t, "consumer", func(c *config.Config) { c.Roles = []string{"consumer"} })
	inv = ask[operator.Invitation](op, operator.InviteCreate{Secret: wire.ID{8}, Role: member.RoleConsumer})
	if s := joinWith(c, inv.Code); s.State != "approved" {
		t.Fatalf("consumer stands at %+v", s)
	}
	eventually(c, "consumer sees the offer", func() bool { return len(ask[observer.Listed](c, observer.Offers{}).Listings) == 1 })
}

func rate(t *testing.T, s string) ledger.Rate {
	a, err := ledger.ParseAmount(s)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Rate(a)
}

func joinWith(r *running, code string) observer.Standing {
	r.t.Helper()
	i, err := member.ParseInvite(code)
	if err != nil {
		r.t.Fatal(err)
	}
	ask[observer.Prospect](r, observer.Look{Invite: i})
	devices, machine, checks, err := r.Inventory(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return ask[observer.Standing](r, observer.Join{Invite: i, Devices: devices, Machine: machine, Checks: checks})
}

// found makes an operator's testnet.
func found(op *running) observer.Standing {
	now := member.At(time.Now())
	p := member.DefaultPolicy(op.self, now)
	p.Bootstrap = op.net.Addrs()
	return ask[observer.Standing](op, observer.Found{
		Charter: member.Charter{Salt: wire.ID{1}, Name: "test", Founded: now, ChainID: member.DefaultChainID, Operators: []identity.PublicKey{op.key.Public()}, Threshold: 1, Testnet: true, Slot: 5},
		Policy:  p, Alias: "op",
	})
}

// world is a market with a host and a consumer that has money.
type world struct {
	op, host, consumer *running
	image              string
}

func newWorld(t *testing.T, rt config.Runtime) world {
	op := start(t, "operator", func(c *config.Config) { c.Roles = []string{"operator"} })
	found(op)
	h := start(t, "host", func(c *config.Config) {
		c.Roles, c.SimulatedGPUs, c.PrivateImages, c.Runtime = []string{"host"}, "2xH100", true, rt
	})
	inv := ask[operator.Invitation](op, operator.InviteCreate{Secret: wire.ID{7}, Role: member.RoleHost, Tier: member.TierCommunity, MaxGPUs: 8})
	joinWith(h, inv.Code)
	ask[operator.MemberView](op, operator.Approve{Addr: h.self.String(), Tier: member.TierCommunity})
	eventually(h, "host is approved", func() bool { return ask[observer.Standing](h, observer.Where{}).State == "approved" })
	ask[host.Sale](h, host.Advertise{Price: rate(t, "0.34"), Floor: rate(t, "0.12")})
	c := start(t, "consumer", func(c *config.Config) { c.Roles = []string{"consumer"} })
	inv = ask[operator.Invitation](op, operator.InviteCreate{Secret: wire.ID{8}, Role: member.RoleConsumer})
	joinWith(c, inv.Code)
	eventually(c, "consumer sees the offer", func() bool { return len(ask[observer.Listed](c, observer.Offers{}).Listings) == 1 })
	ask[operator.DepositView](op, operator.Deposit{Addr: c.self.String(), Amount: 25 * ledger.Credit, Ref: "test"})

	ctx, cancel := context.WithCancel(context.Background())
	reg, err := image.Serve(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); reg.Wait() })
	img, err := image.Build(image.Recipe{Binary: "/bin/sleep"})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reg.Push(ctx, img, "sleep:1")
	if err != nil {
		t.Fatal(err)
	}
	pinned, _, err := c.Backend().ResolveImage(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	return world{op, h, c, pinned}
}

func TestLeaseRunsIsPaidAndSettled(t *testing.T) {
	runtimes := []config.Runtime{config.RuntimeProcess, config.RuntimeDocker}
	if os.Getenv("SOUK_TEST_NO_DOCKER") != "" {
		runtimes = runtimes[:1]
	}
	for _, rt := range runtimes {
		t.Run(string(rt), func(t *testing.T) {
			t.Parallel()
			leaseRunsIsPaidAndSettled(t, newWorld(t, rt))
		})
	}
}

func leaseRunsIsPaidAndSettled(t *testing.T, w world) {
	run := consumer.Run{
		Lease: wire.ID{1}, Reservation: wire.ID{2}, Bid: wire.ID{3}, Type: market.OnDemand, GPUs: 1, MaxRate: rate(t, "0.40"), Simulated: true,
		Spec: market.Spec{Image: w.image, Tag: "sleep:1", Command: []string{"600"}, Disk: 1 << 30},
	}
	ask[consumer.View](w.consumer, run)
	var v consumer.View
	show := func() consumer.View {
		v = ask[consumer.View](w.consumer, consumer.Show{Lease: run.Lease})
		return v
	}
	eventually(w.consumer, "pod runs", func() bool { return show().State == "running" })
	eventually(w.consumer, "two minutes are paid", func() bool { return show().Minutes >= 2 && v.Vouched == v.Owed })
	ask[consumer.Ordered](w.consumer, consumer.Remove{Lease: run.Lease})
	eventually(w.consumer, "lease is settled", func() bool { return show().Settled })
	if v.Paid != v.Owed || v.Owed == 0 {
		t.Errorf("paid %v of %v", v.Paid, v.Owed)
	}
	bill, err := w.consumer.Backend().Bill(context.Background(), run.Lease)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := market.VerifyBill(bill, identity.Secp256k1{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries, owed %v, paid %v", sum.Entries, sum.Owed, sum.Paid)
}
