package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"souk/ledger"
	"souk/market"
	"souk/node/api"
	"souk/node/api/apitest"
	"souk/node/config"
	"souk/node/core/consumer"
	"souk/node/core/host"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files of views")

// noon is when the tests take place.
const noon = member.Time(1_790_856_000_000) // 2026-10-01T12:00:00Z

var (
	aHost      = identity.Address{0xad, 0xa0, 1}
	aUser      = identity.Address{0xc1, 0xe0, 2}
	anOperator = identity.Address{0x01, 0x9a, 3}
	aLease     = wire.ID{0x0b, 0x0b, 0x0b, 0x0b, 4}
)

// fakeHome makes a home whose node is a fake one.
func fakeHome(t *testing.T, n *apitest.Node) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "souk") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Config{Home: dir, Roles: []string{"consumer"}}
	if err := cfg.Save(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l, err := api.Listen(cfg.Socket())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- api.ServeOn(ctx, l, n, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		<-done
		os.RemoveAll(dir)
	})
	return dir
}

// call runs the program in this process.
func call(t *testing.T, dir, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	e := &env{in: strings.NewReader(stdin), out: &out, err: &errs, now: func() time.Time { return noon.Go() }}
	code = run(t.Context(), e, append([]string{"--home", dir}, args...))
	clean := func(s string) string { return strings.ReplaceAll(s, dir, "HOME") }
	return clean(out.String()), clean(errs.String()), code
}

// fakeMarket is a fake node of a small market, with something of everything.
func fakeMarket() *apitest.Node {
	n := &apitest.Node{
		Figures: api.Info{
			Version: "1.0", Address: aUser, PeerID: "16Uiu2HAm1", Addrs: []string{"/ip4/203.0.113.7/tcp/4001"}, PID: 1234,
			Started: (noon - 90*60*member.Second).Go(), Home: "/home/cleo/.souk", Runtime: "docker", Engine: "28.0.1", Height: 17,
			Peers: []api.PeerInfo{{Address: aHost, Alias: "ada", PeerID: "16Uiu2HAm2", Direction: "out", Transport: "quic", Remote: "/ip4/203.0.113.8/udp/4001/quic-v1",
				Since: (noon - 60*member.Second).Go(), Latency: 12 * time.Millisecond}},
		},
		Pinned: "docker.io/library/x@sha256:" + strings.Repeat("ab", 32),
		Out:    "step 1\nstep 2\n", Err: "a warning\n",
		Devices: []member.Device{{UUID: "GPU-1", Model: "H100_SXM", MemoryMiB: 81559, Simulated: true}, {UUID: "GPU-2", Model: "RTX_4090", MemoryMiB: 24564}},
		Machine: member.Machine{CPU: "EPYC", Cores: 64, MemoryMiB: 524288, DiskGiB: 900, OS: "linux/amd64", Runtime: "docker", Engine: "28.0.1", Driver: "550.1", CUDA: "12.4"},
		Checks:  []member.Check{{Name: "gpus", OK: true, Detail: "2 found"}, {Name: "disk", Detail: "3 GiB free"}},
		Gates: []api.Gate{
			{Name: "runc", State: "warns", Actual: "1.1.5", Needed: "1.3.6 or 1.4.3", Fix: "with Docker: install the newest"},
			{Name: "firewall", State: "no", Actual: "there is no nft command", Needed: "in place", Fix: "apt-get install nftables"},
			{Name: "clock", State: "yes", Actual: "-12 ms against the peers", Needed: "within 2s"},
		},
	}
	n.Tell(step.Notice{At: noon, Type: "lease.running", Lease: aLease, Text: "train: running"})
	n.Tell(step.Notice{At: noon + 1000, Type: "deposit", Text: "25 came in\x1b[31m"})
	apitest.Say[observer.Where](n, observer.Standing{State: "approved", Market: "Coop", MarketID: identity.Hash{7}, Testnet: true, Slot: 5, Address: aUser,
		Roles: "consumer", Tier: "-", Alias: "cleo", Until: noon + member.Day, Peers: 1, Skew: -12, Policy: 2})
	fakeOffers(n)
	fakePods(n)
	fakeOperator(n)
	fakeHost(n)
	return n
}

func fakeOffers(n *apitest.Node) {
	offer := func(h identity.Address, region string, g market.Group) market.Offer {
		return market.Offer{Host: h, Seq: 3, At: noon - 1000, Expires: noon + 600_000, Groups: []market.Group{g}, Region: region, Grace: 5,
			Machine: member.Machine{Cores: 16, MemoryMiB: 65536, DiskGiB: 500, Runtime: "docker", CUDA: "12.4"}, Disk: 100_000_000, Stopped: 200_000_000, DiskLimit: "none"}
	}
	x := market.NewIndex()
	for _, o := range []market.Offer{
		offer(aHost, "DE", market.Group{Model: "H100_SXM", MemoryMiB: 81559, Count: 8, Free: 3, Price: 2_400_000_000, Floor: 800_000_000, SpotNow: 850_000_000, OnDemand: 8,
			Simulated: true, Compute: 900}),
		offer(anOperator, "", market.Group{Model: "RTX_4090", MemoryMiB: 24564, Count: 2, Price: 340_000_000, Floor: 120_000_000}),
		offer(aUser, "NL", market.Group{Model: "RTX_4090", MemoryMiB: 24564, Count: 4, Free: 4, Price: 380_000_000, Floor: 120_000_000, SpotNow: 120_000_000, OnDemand: 4}),
	} {
		x.Put(&o)
	}
	known := market.Witness{See: func(h identity.Address) (market.Facts, bool) {
		return map[identity.Address]market.Facts{aHost: {Alias: "ada", Tier: member.TierCommunity, Reliability: 999_100}, anOperator: {Tier: member.TierSecure, New: true, Reliability: 1_000_000},
			aUser: {Alias: "bob", Tier: member.TierCommunity, Reliability: 985_000}}[h], true
	}}
	read := func(text string, lift bool) (q, extra market.Query, err error) {
		if q, err = market.ParseQuery(text); err == nil {
			err = x.Check(q)
		}
		if !lift {
			any, _ := market.ParseQuery("simulated=any")
			extra = q.And(any).Implicit(member.DefaultPolicy(anOperator, noon))
		}
		if err != nil {
			err = step.Fail(step.ProblemUsage, "souk offers --help lists the fields", "%s", strings.TrimPrefix(err.Error(), "market: "))
		}
		return q.And(extra), extra, err
	}
	apitest.On(n, func(c observer.Offers) (any, error) {
		q, extra, err := read(c.Query, c.Lift)
		if err != nil {
			return nil, err
		}
		order, err := market.ParseOrder(c.Sort)
		if err != nil {
			return nil, step.Fail(step.ProblemUsage, "", "%s", strings.TrimPrefix(err.Error(), "market: "))
		}
		f := x.Search(market.Search{Query: q, Order: order, Limit: c.Limit, Count: !c.Quick, Now: noon}, known)
		out := observer.Listed{Total: f.Live, Fit: f.Fit, Implicit: extra.String()}
		for _, h := range f.Hits {
			out.Listings = append(out.Listings, h.Listing())
		}
		if f.Miss != nil {
			out.Missing = strings.TrimPrefix(f.Miss.Error(), "market: ")
		}
		return out, nil
	})
	apitest.On(n, func(c observer.Book) (any, error) {
		q, extra, err := read(c.Query, c.Lift)
		out := observer.Depth{Depth: x.Depth(q, c.Depth, noon, known), Implicit: extra.String()}
		if m := x.Search(market.Search{Query: q, Count: true, Now: noon}, known).Miss; m != nil {
			out.Missing = strings.TrimPrefix(m.Error(), "market: ")
		}
		return out, err
	})
	apitest.On(n, func(c observer.Tape) (any, error) {
		out := observer.Taped{}
		for i := range 6 {
			f := market.Fill{Seq: uint64(90 - i), At: noon - member.Time(i*i)*member.Hour, Type: market.OnDemand, Model: "H100_SXM", GPUs: uint16(1 + i), Rate: 2_400_000_000}
			if i%2 == 1 {
				f.Type, f.Rate = market.Spot, ledger.Rate(800_000_000+100_000_000*i)
			}
			if f.At >= c.Since && (c.Model == "" || c.Model == f.Model) {
				out.Fills, out.Count = append(out.Fills, observer.Filled{Fill: f, Host: aHost, Alias: "ada"}), out.Count+1
			}
		}
		return out, nil
	})
	apitest.On(n, func(c consumer.Price) (any, error) {
		if c.GPUs > 8 {
			return consumer.Priced{Quotes: []consumer.Quoted{{Type: market.OnDemand, Missing: "no offer fits; none of 3 has num_gpus>=9"}, {Type: market.Spot, Missing: "no offer fits"}}}, nil
		}
		return consumer.Priced{Implied: "verified=true reliability>=0.98", Minutes: c.Seconds / 60, Quotes: []consumer.Quoted{
			{Type: market.OnDemand, Host: aHost, Alias: "ada", Tier: "community", Reliability: 999_100, Model: "H100_SXM", GPUs: c.GPUs, Simulated: true, Rate: 2_400_000_000,
				PerHour: 4_801_388_888, Total: 28_808_333_328, Fit: 2},
			{Type: market.Spot, GPUs: c.GPUs, Missing: "no offer fits; none of 3 has num_gpus>=4"}}}, nil
	})
	apitest.Say[observer.Reputation](n, observer.Repute{Host: aHost, Alias: "ada", Tier: "community", Standing: "good", Reliability: 999_100, Observed: 1440, Down: 3,
		LastBeat: noon - 20_000, Seq: 99, Missed: 2, LogSeq: 41, Live: true, Basis: "seen by this node"})
}

func fakePod() consumer.View {
	return consumer.View{
		Lease: aLease, Bid: wire.ID{5}, Name: "train", Host: aHost, Alias: "ada", Type: market.Spot, Model: "H100_SXM", GPUs: 2, Rate: 850_000_000, PerHour: 1_701_000_001,
		State: "running", Desire: "run", Created: noon - 3_600_000, Since: noon - 3_000_000, Image: "pytorch:latest", Digest: "sha256:ab", Owed: 1_417_500_000,
		Vouched: 1_400_000_000, Cap: 40_000_000_000, Minutes: 50, Disk: 10 << 30, Volume: 5 << 30, Mount: "/workspace", Isolation: "docker", Simulated: true,
		Reachable: true, Heard: noon, Tariff: ledger.Tariff{GPU: 1_700_000_000, VolumeStopped: 1_388_888},
	}
}

func fakePods(n *apitest.Node) {
	exited := fakePod()
	exited.Lease, exited.Name, exited.State, exited.Reason, exited.ExitCode, exited.PerHour = wire.ID{0x0c}, "once", "exited", "exit", 3, 1_388_888
	pulling := fakePod()
	pulling.Lease, pulling.Name, pulling.State, pulling.Pulled, pulling.PullSize, pulling.Owed, pulling.PerHour = wire.ID{0x0d}, "big", "setup", 1<<20, 4<<20, 0, 0
	apitest.On(n, func(c consumer.List) (any, error) {
		if c.All {
			return []consumer.View{fakePod(), pulling, exited}, nil
		}
		return []consumer.View{fakePod(), pulling}, nil
	})
	apitest.On(n, func(c consumer.Resolve) (any, error) {
		switch c.Ref {
		case "train", aLease.String():
			return fakePod(), nil
		case "once":
			return exited, nil
		}
		return nil, step.Fail(step.ProblemNotFound, "'souk ps -a' lists them", "no pod %q", c.Ref)
	})
	apitest.On(n, func(consumer.Show) (any, error) { return fakePod(), nil })
	apitest.On(n, func(c consumer.Stop) (any, error) {
		return consumer.Ordered{Lease: c.Lease, Name: "train", Order: "stop", Done: true}, nil
	})
	apitest.On(n, func(c consumer.Remove) (any, error) {
		return consumer.Ordered{Lease: c.Lease, Name: "train", Order: "rm", Note: "the host does not answer"}, nil
	})
	apitest.Say[consumer.Balance](n, consumer.Account{Bank: anOperator, Running: 2, PerHour: 1_702_388_889, Lasts: 51_000, BalanceAnswer: step.BalanceAnswer{
		Account: aUser, Deposited: 25_000_000_000, Available: 20_000_000_001, Reserved: 3_000_000_000, Settled: 1_999_999_999, Entries: 12}})
	apitest.Say[consumer.Plan](n, consumer.Proposal{Host: aHost, Alias: "ada", Tier: "community", Reliability: 999_100, Type: market.Spot, Model: "H100_SXM", GPUs: 1,
		Simulated: true, Rate: 850_000_000, PerHour: 851_388_888, Grace: 5, MostCost: 3_000_000_000, MostFor: "budget", Reserve: 70_949_074, Offers: 1,
		Implied: "verified=true", Bank: anOperator, BankKnown: true, Available: 20_000_000_001, FundsFor: 28_000})
	apitest.On(n, func(c consumer.Run) (any, error) {
		v := fakePod()
		v.Lease, v.Name = aLease, c.Name
		return v, nil
	})
}

func fakeOperator(n *apitest.Node) {
	invite := operator.InviteView{ID: "0123456789ab", State: "open", Role: "host", Tier: "community", MaxGPUs: 8, Created: noon, Expires: noon + 7*member.Day}
	apitest.Say[operator.InviteCreate](n, operator.Invitation{InviteView: invite, Code: "souk1code"})
	apitest.Say[operator.InviteList](n, []operator.InviteView{invite, {ID: "ba9876543210", State: "used", Role: "consumer", Tier: "-", Expires: noon, By: aUser, Note: "for cleo"}})
	waiting := operator.ApplicantView{
		Address: aHost, State: "waiting", Asked: noon - 60_000, Alias: "ada", Role: "host",
		Devices:  []operator.DeviceView{{UUID: "a", Model: "H100_SXM"}, {UUID: "b", Model: "H100_SXM"}, {UUID: "c", Model: "RTX_4090", Simulated: true}},
		Machine:  operator.MachineView{CPU: "EPYC", Cores: 64, MemoryMiB: 524288, DiskGiB: 900, OS: "linux/amd64", Runtime: "docker", Engine: "28.0.1", Driver: "550.1", CUDA: "12.4"},
		Checks:   []operator.CheckView{{Name: "disk", OK: false, Detail: "3 GiB free"}},
		Warnings: []string{"check disk failed: 3 GiB free"}, Invite: &invite,
	}
	apitest.Say[operator.Queue](n, []operator.ApplicantView{waiting})
	apitest.Say[operator.Applicant](n, waiting)
	good := operator.MemberView{Address: aHost, Alias: "ada", Roles: "host", Tier: "community", MaxGPUs: 8, Serial: 1, NotAfter: noon + 3*member.Day, Standing: "good"}
	apitest.Say[operator.Approve](n, good)
	apitest.Say[operator.Members](n, []operator.MemberView{good})
	apitest.On(n, func(c operator.Sanction) (any, error) {
		return operator.SanctionView{Number: 1, Subject: aHost, Sanction: c.What.String(), Reason: c.Reason, At: noon}, nil
	})
	apitest.On(n, func(c operator.Deposit) (any, error) {
		return operator.DepositView{Account: aUser, Alias: "cleo", Amount: c.Amount, Ref: c.Ref, At: noon, Entry: 1}, nil
	})
	apitest.Say[operator.Accounts](n, []operator.AccountView{{Alias: "cleo", Statement: ledger.Statement{Account: aUser, Deposited: 25_000_000_000, Available: 24_000_000_000,
		Reserved: 999_999_999, Settled: 1, Burn: 340_000_000}}})
	apitest.Say[operator.Height](n, operator.HeightView{Entries: 12, Deposited: 25_000_000_000, Available: 24_000_000_000, Reserved: 999_999_999, Payable: 1})
}

func fakeHost(n *apitest.Node) {
	sale := host.Sale{Listed: true, Price: 340_000_000, Floor: 120_000_000, Engine: true, Offer: 7, GPUs: n.Devices,
		Groups: []market.Group{{Model: "RTX_4090", MemoryMiB: 24564, Count: 1, Free: 1, Price: 340_000_000, Floor: 120_000_000, SpotNow: 120_000_000, OnDemand: 1}}}
	apitest.Say[host.Advertise](n, sale)
	apitest.Say[host.OnSale](n, sale)
	apitest.Say[host.Withdraw](n, host.Sale{Reason: "nothing is advertised"})
	apitest.Say[host.Earnings](n, []host.Earning{{Lease: aLease, Consumer: aUser, Type: market.OnDemand, Model: "RTX_4090", GPUs: 1, Rate: 340_000_000,
		State: market.StateEnded, Reason: market.ReasonConsumer, Minutes: 61, Owed: 345_666_666, Vouched: 345_666_666, Settled: 340_000_000, At: noon - 7_200_000}})
	apitest.Say[host.SettleAll](n, 2)
}

// TestViews compares what commands print, word for word.
func TestViews(t *testing.T) {
	for _, c := range []struct {
		name  string
		calls [][]string
	}{
		{"node", [][]string{{"status"}, {"status", "-o", "json"}, {"status", "-q"}, {"id", "show"}, {"events"}, {"events", "-o", "jsonl", "--type", "lease"}, {"doctor"}}},
		{"offers", [][]string{{"offers"}, {"offers", "-o", "wide", "gpu_name=H100_SXM"}, {"offers", "-q"}, {"offers", "-o", "yaml", "--limit", "1"}, {"offers", "--limit", "1"},
			{"offers", "-f", "gpu_ram>=24GiB num_gpus>=4", "--sort", "reliability-"}, {"offers", "--no-default", "--sort", "price,reliability-"}, {"offers", "gpu_name=H100"}, {"offers", "gpu_ram>=500GiB"},
			{"offers", "dph<0.2 dph>0.1"}, {"offers", "gpu_nam=A"}, {"offers", "gpu_ram>=24"}, {"offers", "dph<0.3999999999"}, {"offers", "dph<-1"}, {"offers", "dlperf>5"},
			{"offers", "-f", "a=b", "c=d"}, {"offers", "--sort", "dhph"}, {"offers", "geolocation in [DE,Holland]"}, {"rep", "show", "ada"}}},
		{"market", [][]string{{"quote", "gpu_name=H100_SXM", "--gpus", "2", "--for", "6h"}, {"quote", "-o", "json"}, {"quote", "--gpus", "9"}, {"quote", "--gpus", "0"}, {"quote", "--for", "0s"}, {"quote", "--for", "soon"},
			{"book"}, {"book", "--depth", "1", "gpu_name=RTX_4090"}, {"book", "-o", "json"}, {"book", "gpu_ram>=500GiB"}, {"book", "gpu_name=A1000"}, {"book", "--depth", "0"},
			{"tape"}, {"tape", "--since", "5h", "-o", "jsonl"}, {"tape", "--gpu", "B200"}, {"stats", "--gpu", "H100_SXM"}, {"stats", "--since", "4h", "--parts", "4", "-o", "csv"}, {"stats", "--gpu", "B200"},
			{"stats", "--parts", "0"}, {"offers", "--help"}, {"quote", "--help"}, {"book", "--help"}, {"tape", "--help"}, {"stats", "--help"}}},
		{"pods", [][]string{{"ps"}, {"ps", "-a", "-o", "wide"}, {"ps", "-q"}, {"ps", "-o", "yaml"}, {"logs", "train"}, {"stop", "train"}, {"rm", "-y", "train"},
			{"stop", "train", "nothing"}, {"stop", "nothing"}, {"wait", "train"}, {"wait", "once", "--for", "exit"}, {"wait", "once", "--for", "running"}, {"balance"}, {"balance", "-o", "json"}}},
		{"run", [][]string{
			{"run", "--type", "spot", "--max-price", "0.85", "-d", "-y", "--name", "train", "--budget", "3", "pytorch:latest", "--", "python", "-c", "x"},
			{"run", "--type", "spot", "--max-price", "0.85", "-d", "-y", "-o", "name", "pytorch:latest"},
			{"run", "--type", "spot", "pytorch:latest"}, {"run", "pytorch:latest"}, {"run", "--type", "spot", "-y", "x"}, {"run", "--type", "rent", "-y", "--max-price", "1", "x"},
			{"run", "--type", "spot", "--max-price", "free", "x"}, {"run", "--type", "spot", "--disk", "10", "x"}, {"run", "-o", "json"}}},
		{"operator", [][]string{{"operator", "invite", "create", "--role", "host"}, {"operator", "invite", "create"}, {"operator", "invite", "ls"}, {"operator", "queue"},
			{"operator", "show", "ada"}, {"operator", "approve", "ada", "--tier", "community"}, {"operator", "suspend", "ada", "--reason", "noise"}, {"operator", "suspend", "ada"},
			{"operator", "members"}, {"operator", "deposit", "cleo", "25", "--ref", "bank-transfer-1"}, {"operator", "deposit", "cleo", "-1", "--ref", "x"}, {"operator", "accounts"}}},
		{"host", [][]string{{"host", "advertise", "--price", "0.34", "--min-bid", "0.12"}, {"host", "advertise"}, {"host", "status"}, {"host", "withdraw"}, {"host", "gpus"}, {"host", "doctor"}, {"host", "doctor", "-o", "json"}, {"host", "doctor", "-q"}, {"host", "earnings"}, {"host", "settle"}}},
		{"usage", [][]string{{"frob"}, {"status", "--bogus"}, {"operator"}, {"offers", "-o", "xml"}, {"bill", "verify"}, {"bill", "verify", "/no/such/file"}, {"init"}, {"join", "souk1mistyped"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := fakeHome(t, fakeMarket())
			var b strings.Builder
			for _, args := range c.calls {
				out, errs, code := call(t, dir, "", args...)
				fmt.Fprintf(&b, "$ souk %s\n%s", strings.Join(args, " "), out)
				for _, line := range strings.Split(strings.TrimRight(errs, "\n"), "\n") {
					if errs != "" {
						fmt.Fprintf(&b, "2> %s\n", line)
					}
				}
				fmt.Fprintf(&b, "exit %d\n\n", code)
			}
			golden(t, filepath.Join("testdata", "views", c.name+".txt"), b.String())
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s, line %d (go test -update rewrites it):\ngot  %s\nwant %s", file, i+1, g[i], strings.Join(w[min(i, len(w)):min(i+1, len(w))], ""))
		}
	}
	t.Fatalf("%s: the output ends after line %d", file, len(g))
}

// TestRunOrdersWhatWasShown checks that the order has the price that was agreed to, and ids of its own.
func TestRunOrdersWhatWasShown(t *testing.T) {
	n := fakeMarket()
	dir := fakeHome(t, n)
	args := []string{"run", "--type", "spot", "--max-price", "0.90", "-d", "-y", "-e", "A=1=2", "--volume", "5GiB:/data", "--disk", "20GiB", "--max-duration", "1m", "--gpus", "1", "img", "--", "a", "-b"}
	for range 2 {
		if _, errs, code := call(t, dir, "", args...); code != 0 {
			t.Fatalf("exit %d: %s", code, errs)
		}
	}
	got := apitest.Asked[consumer.Run](n)
	r := got[0]
	switch {
	case len(got) != 2 || r.Lease == got[1].Lease || r.Bid == got[1].Bid || r.Reservation == got[1].Reservation || r.Lease.IsZero():
		t.Errorf("two runs are not two orders: %+v", got)
	case r.MaxRate != 850_000_000 || r.Host != aHost || r.Model != "H100_SXM" || r.Only || !r.Simulated:
		t.Errorf("the order is not what was shown: %+v", r)
	case r.Minutes != 12: // of 5 s
		t.Errorf("a minute is %d of the market's, want 12", r.Minutes)
	case r.Spec.Env[0] != "A=1=2" || r.Spec.Mount != "/data" || r.Spec.Volume != 5<<30 || r.Spec.Disk != 20<<30 || strings.Join(r.Spec.Command, " ") != "a -b" || r.Spec.Tag != "img":
		t.Errorf("the pod is %+v", r.Spec)
	}
	if p := apitest.Asked[consumer.Plan](n)[0]; p.MaxRate != 900_000_000 {
		t.Errorf("planned with %s, want 0.90", p.MaxRate.Text())
	}
}

// TestRunWithoutFundsOrdersNothing checks the order of questions.
func TestRunWithoutFundsOrdersNothing(t *testing.T) {
	n := fakeMarket()
	dir := fakeHome(t, n)
	apitest.Say[consumer.Plan](n, consumer.Proposal{Type: market.Spot, Rate: 1, Reserve: 10, BankKnown: true, Available: 9})
	if _, errs, code := call(t, dir, "", "run", "--type", "spot", "--max-price", "1", "-y", "img"); code != int(step.ProblemFunds) {
		t.Errorf("exit %d, want %d: %s", code, step.ProblemFunds, errs)
	}
	n.Pinned = ""
	if _, errs, code := call(t, dir, "", "run", "--type", "spot", "--max-price", "1", "-y", "img"); code != int(step.ProblemImage) {
		t.Errorf("exit %d, want %d: %s", code, step.ProblemImage, errs)
	}
	if got := apitest.Asked[consumer.Run](n); len(got) > 0 {
		t.Errorf("the core was asked for %+v", got)
	}
}

// TestRunPassesTheExitCodeOn follows a pod from its start to its end.
func TestRunPassesTheExitCodeOn(t *testing.T) {
	n := fakeMarket()
	dir := fakeHome(t, n)
	states := []string{"certified", "setup", "running", "exited"}
	at := 0
	next := func() (any, error) {
		v := fakePod()
		v.State, v.Name, v.ExitCode = states[at], "train", 7
		at = min(at+1, len(states)-1)
		n.Tell(step.Notice{Type: "lease." + v.State, Lease: v.Lease})
		return v, nil
	}
	apitest.On(n, func(consumer.Resolve) (any, error) { return next() })
	apitest.On(n, func(consumer.Show) (any, error) { return next() })
	out, errs, code := call(t, dir, "", "run", "--type", "spot", "--max-price", "1", "-y", "--name", "train", "img")
	if code != 7 || out != n.Out {
		t.Errorf("exit %d with output %q, want 7 with %q; it said\n%s", code, out, n.Out, errs)
	}
	for _, want := range []string{"train: starting", "train: running", n.Err, "exit code 7"} {
		if !strings.Contains(errs, want) {
			t.Errorf("nothing of %q in\n%s", want, errs)
		}
	}
}

// TestPodsThatCannotStart checks the exit codes of failures.
func TestPodsThatCannotStart(t *testing.T) {
	for reason, want := range map[string]step.ProblemCode{"image": step.ProblemImage, "command": step.ProblemCommand, "engine": step.ProblemOther} {
		n := fakeMarket()
		dir := fakeHome(t, n)
		failed := fakePod()
		failed.State, failed.Reason, failed.Detail = "failed", reason, "no such thing"
		apitest.Say[consumer.Resolve](n, failed)
		if _, errs, code := call(t, dir, "", "run", "--type", "spot", "--max-price", "1", "-y", "img"); code != int(want) || !strings.Contains(errs, "no such thing") {
			t.Errorf("%s: exit %d, want %d: %s", reason, code, want, errs)
		}
	}
}

func TestErrorsAreObjectsWhereJSONIsAskedFor(t *testing.T) {
	dir := fakeHome(t, fakeMarket())
	out, errs, code := call(t, dir, "", "logs", "nothing", "-o", "json")
	want := `{"error":{"code":"not-found","exit":3,"verb":"logs","message":"no pod \"nothing\"","hint":"'souk ps -a' lists them"}}` + "\n"
	if code != 3 || out != "" || errs != want {
		t.Errorf("exit %d, output %q, error %s; want 3 and %s", code, out, errs, want)
	}
}

func TestNoNodeIsUp(t *testing.T) {
	dir := t.TempDir()
	if _, errs, code := call(t, dir, "", "ps"); code != int(step.ProblemNotFound) || !strings.Contains(errs, "souk join") {
		t.Errorf("no home: exit %d: %s", code, errs)
	}
	if err := (config.Config{Home: dir}).Save(); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := call(t, dir, "", "ps"); code != int(step.ProblemUnreachable) || !strings.Contains(errs, "souk up -d") {
		t.Errorf("no node: exit %d: %s", code, errs)
	}
	if _, errs, code := call(t, dir, "", "down"); code != 0 {
		t.Errorf("down of nothing: exit %d: %s", code, errs)
	}
}
