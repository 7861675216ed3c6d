package host_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"souk/ledger"
	"souk/market"
	"souk/node/core/host"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// open is a bench with one GPU on sale at 0.60, on which nothing has happened yet.
func open(t testing.TB) *bench {
	b := newBench(t, false)
	b.do([]string{"gpus", "1"})
	b.do([]string{"advertise", "0.60", "0.10"})
	return b
}

// running is a bench with a lease of alice's that has run since 12:01:10, at 12:03:30.
func running(t testing.TB) (*bench, *deal) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	b.now += 20 * member.Second
	b.must(b.request(d))
	b.must(b.accept(d))
	b.to(noon + 70*member.Second)
	b.up(d.id)
	b.to(noon + 210*member.Second)
	return b, d
}

func (b *bench) must(r step.Reply) {
	b.t.Helper()
	if r.Refusal != nil {
		b.t.Fatalf("refused %d: %s", r.Refusal.Code, r.Refusal.Reason)
	}
}

func TestRequestsThatFitNotAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(b *bench, d *deal)
		want   step.RefusalCode
	}{
		{"for another host", func(_ *bench, d *deal) { d.request.Host = key(9).Address() }, step.RefuseBadRequest},
		{"of somebody else", func(_ *bench, d *deal) { d.by = people["bob"] }, step.RefuseBadRequest},
		{"of no member", func(_ *bench, d *deal) { d.by = key(9); d.request.Consumer = d.by.Address() }, step.RefuseNotForYou},
		{"of a suspended member", func(b *bench, _ *deal) { b.sanction("alice", member.Suspend) }, step.RefuseNotForYou},
		{"to a host that is out of standing", func(b *bench, _ *deal) { b.now += 4 * member.Day; b.prolong("alice") }, step.RefuseWithdrawn},
		{"to a host that has withdrawn", func(b *bench, _ *deal) { b.local(host.Withdraw{}) }, step.RefuseWithdrawn},
		{"without an engine", func(b *bench, _ *deal) { b.do([]string{"engine", "down"}) }, step.RefuseWithdrawn},
		{"under the price", func(_ *bench, d *deal) { d.request.Rate = 599_999_999 }, step.RefusePrice},
		{"under the floor", func(_ *bench, d *deal) { d.request.Type, d.request.Rate = market.Spot, 99_999_999 }, step.RefusePrice},
		{"of a model that is not there", func(_ *bench, d *deal) { d.request.Model = "H100" }, step.RefuseNoGPUs},
		{"of more GPUs than there are", func(_ *bench, d *deal) { d.request.GPUs = 16 }, step.RefuseNoGPUs},
		{"of more disk than there is", func(_ *bench, d *deal) { d.request.Spec.Disk = 1 << 50 }, step.RefuseSpec},
		{"with a budget under a minute's price", func(_ *bench, d *deal) { d.request.Budget = 9_999_999 }, step.RefuseSpec},
		{"on-demand beyond the longest lease", func(b *bench, d *deal) {
			b.local(host.Advertise{Price: 600_000_000, Floor: 100_000_000, MaxHours: 1})
			d.request.Minutes = 61
		}, step.RefuseSpec},
		{"on-demand without an end, where leases have one", func(b *bench, _ *deal) {
			b.local(host.Advertise{Price: 600_000_000, Floor: 100_000_000, MaxHours: 1})
		}, step.RefuseSpec},
		{"at a price that overflows", func(_ *bench, d *deal) { d.request.Type, d.request.Rate, d.request.GPUs = market.Spot, 1<<62, 16 }, step.RefuseSpec},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := open(t)
			d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
			signer := people["alice"]
			tt.change(b, d)
			if d.request.Consumer == key(9).Address() {
				signer = key(9)
			}
			r := b.ask(d.by, step.OpRequest, nil, seal(b, signer, d.request))
			if r.Refusal == nil || r.Refusal.Code != tt.want || r.Refusal.Reason == "" {
				t.Errorf("got %+v, want %d", r.Refusal, tt.want)
			}
		})
	}
}

// prolong gives a member a newer credential.
func (b *bench) prolong(who string) {
	k := people[who]
	c := member.Credential{Subject: k.Public(), Issuer: operator.Address(), Owner: k.Address(), Roles: member.RoleConsumer, Serial: 2,
		Payout: k.Address(), NotBefore: b.now, NotAfter: b.now + member.Day}
	if err := b.world.Admit(c, wire.Draft(c)); err != nil {
		b.t.Fatal(err)
	}
}

func TestReservationsThatFitNotAreRefused(t *testing.T) {
	for name, change := range map[string]func(*ledger.Reservation){
		"of no operator":   func(r *ledger.Reservation) { r.Operator = people["alice"].Address() },
		"another's":        func(r *ledger.Reservation) { r.Consumer = people["bob"].Address() },
		"of another id":    func(r *ledger.Reservation) { r.ID = wire.ID{9} },
		"of another lease": func(r *ledger.Reservation) { r.Lease = wire.ID{9} },
		"at another host":  func(r *ledger.Reservation) { r.Host = key(9).Address() },
		"another signer's": func(r *ledger.Reservation) { r.By = people["bob"].Address() },
		"at a lower rate":  func(r *ledger.Reservation) { r.MaxRate-- },
		"ending soon":      func(r *ledger.Reservation) { r.RedeemBy = noon + member.Hour },
		"too small":        func(r *ledger.Reservation) { r.Cap = 149_999_999 },
		"of before":        func(r *ledger.Reservation) { r.Opened = noon - 41*member.Second },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
			b.must(b.request(d))
			res := d.res
			change(&res)
			by := operator
			if res.Operator != operator.Address() {
				by = people["alice"]
			}
			r := b.ask(d.by, step.OpAccept, nil, seal(b, d.by, d.terms), seal(b, by, res))
			if r.Refusal == nil || r.Refusal.Code != step.RefuseReservation {
				t.Errorf("got %+v", r.Refusal)
			}
			b.must(b.accept(d)) // the hold still stands
		})
	}
}

func TestTermsMustBeThoseOfTheQuote(t *testing.T) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	b.must(b.request(d))
	other := d.terms
	other.Budget = 1
	if r := b.ask(d.by, step.OpAccept, nil, seal(b, d.by, other), seal(b, operator, d.res)); r.Refusal == nil || r.Refusal.Code != step.RefuseBadRequest {
		t.Errorf("other terms: %+v", r.Refusal)
	}
	if r := b.ask(people["bob"], step.OpAccept, nil, seal(b, d.by, d.terms), seal(b, operator, d.res)); r.Refusal == nil {
		t.Error("another's accept was taken")
	}
	b.must(b.accept(d))
	if r := b.ask(d.by, step.OpAccept, nil, seal(b, d.by, other), seal(b, operator, d.res)); r.Refusal == nil || r.Refusal.Code != step.RefuseNotForYou {
		t.Errorf("other terms afterwards: %+v", r.Refusal)
	}
}

func TestWhatIsMissingOrAnotherPartysIsRefused(t *testing.T) {
	b, d := running(t)
	bob := people["bob"]
	alive := func(top member.Minute) wire.AnyVerified {
		return seal(b, d.by, market.Alive{By: d.by.Address(), Host: self.Address(), Lease: d.id, Top: top})
	}
	stop := market.Command{Consumer: bob.Address(), Host: self.Address(), Lease: d.id, Seq: 1, Order: market.CommandStop}
	elsewhere := market.Command{Consumer: d.by.Address(), Host: bob.Address(), Lease: d.id, Seq: 1, Order: market.CommandStop}
	start := market.Command{Consumer: d.by.Address(), Host: self.Address(), Lease: d.id, Seq: 1, Order: market.CommandStart}
	for i, tt := range []struct {
		by      *identity.PrivateKey
		op      step.Op
		body    any
		objects []wire.AnyVerified
		want    step.RefusalCode
	}{
		{bob, step.OpRequest, nil, nil, step.RefuseBadRequest},
		{bob, step.OpAccept, nil, nil, step.RefuseBadRequest},
		{bob, step.OpGetLease, nil, nil, step.RefuseBadRequest},
		{bob, step.OpGetLease, step.LeaseBody{Lease: d.id}, nil, step.RefuseUnknown},
		{bob, step.OpDecline, step.LeaseBody{Lease: d.id}, nil, step.RefuseUnknown},
		{d.by, step.OpDecline, step.LeaseBody{Lease: d.id}, nil, step.RefuseState},
		{d.by, step.OpAlive, step.AliveBody{}, nil, step.RefuseBadRequest},
		{bob, step.OpAlive, step.AliveBody{}, []wire.AnyVerified{alive(1)}, step.RefuseUnknown},
		{d.by, step.OpAlive, nil, []wire.AnyVerified{alive(1)}, step.RefuseBadRequest},
		{d.by, step.OpAlive, step.AliveBody{}, []wire.AnyVerified{alive(b.minute() + 2)}, step.RefuseClock},
		{d.by, step.OpVoucher, nil, nil, step.RefuseBadRequest},
		{d.by, step.OpCommand, nil, nil, step.RefuseBadRequest},
		{bob, step.OpCommand, nil, []wire.AnyVerified{seal(b, bob, stop)}, step.RefuseUnknown},
		{d.by, step.OpCommand, nil, []wire.AnyVerified{seal(b, d.by, elsewhere)}, step.RefuseBadRequest},
		{d.by, step.OpCommand, nil, []wire.AnyVerified{seal(b, d.by, start)}, step.RefuseState},
		{d.by, step.OpRaise, nil, nil, step.RefuseUnknown},
		{bob, step.OpUsage, step.UsageBody{Lease: d.id}, nil, step.RefuseUnknown},
		{d.by, step.Op(99), nil, nil, step.RefuseBadRequest},
	} {
		if r := b.ask(tt.by, tt.op, tt.body, tt.objects...); r.Refusal == nil || r.Refusal.Code != tt.want {
			t.Errorf("%d: operation %d: got %+v, want %d", i, tt.op, r.Refusal, tt.want)
		}
	}
}

func TestVouchersNameTheEntryThatTheyPay(t *testing.T) {
	b, d := running(t)
	d.pays = false
	b.to(noon + 4*member.Hour/60 + 5*member.Second) // 12:04:05: 12:03 is signed and not paid
	good, _ := b.voucher(d, 0)
	for name, tt := range map[string]struct {
		change func(*ledger.Voucher)
		want   step.RefusalCode
	}{
		"over":              {func(v *ledger.Voucher) { v.Total++ }, step.RefuseVoucher},
		"under":             {func(v *ledger.Voucher) { v.Total-- }, step.RefuseVoucher},
		"other reservation": {func(v *ledger.Voucher) { v.Reservation = wire.ID{9} }, step.RefuseVoucher},
		"other entry":       {func(v *ledger.Voucher) { v.Usage = identity.Hash{9} }, step.RefuseStale},
		"entry to come":     {func(v *ledger.Voucher) { v.Seq++ }, step.RefuseStale},
		"other lease":       {func(v *ledger.Voucher) { v.Lease = wire.ID{9} }, step.RefuseUnknown},
		"other minute":      {func(v *ledger.Voucher) { v.Minute++ }, step.RefuseVoucher},
	} {
		v := good.Value()
		tt.change(&v)
		if r := b.ask(d.by, step.OpVoucher, nil, seal(b, d.by, v)); r.Refusal == nil || r.Refusal.Code != tt.want {
			t.Errorf("%s: got %+v, want %d", name, r.Refusal, tt.want)
		}
	}
	b.must(b.ask(d.by, step.OpVoucher, nil, good))
	b.must(b.ask(d.by, step.OpVoucher, nil, good)) // a repeated one does no harm
}

func TestVoucherThatWasOvertakenStillCounts(t *testing.T) {
	b, d := running(t)
	d.pays = false
	b.world.deaf = true // so that the pod runs on unpaid
	b.world.heard, b.world.fresh = market.Answered{}, 0
	b.to(noon + 305*member.Second) // 12:05:05: 12:03 and 12:04 are signed
	older, _ := b.voucher(d, 1)
	b.must(b.ask(d.by, step.OpVoucher, nil, older))
	earned := b.local(host.Earnings{}).Value.([]host.Earning)
	if earned[0].Vouched != older.Value().Total || earned[0].Owed <= earned[0].Vouched {
		t.Errorf("got %+v, want %v vouched", earned[0], older.Value().Total)
	}
}

func TestKeepAlivesMayOvertakeOneAnother(t *testing.T) {
	b, d := running(t)
	m := b.minute()
	say := func(top member.Minute, bits uint64) {
		b.must(b.ask(d.by, step.OpAlive, step.AliveBody{}, seal(b, d.by, market.Alive{By: d.by.Address(), Host: self.Address(), Lease: d.id,
			Nonce: bits, Top: top, Answered: bits})))
	}
	d.attends = false
	say(m, 0b1)   // newer, with a short memory
	say(m-1, 0b1) // older: it says that m-1 was answered
	b.to(b.now + member.Second)
	b.to(noon + 245*member.Second)
	say(m, 0b11)
	if b.places[d.id].Next != m+1 {
		t.Errorf("minute %d is not closed", m)
	}
}

func TestOldCommandsDoNothing(t *testing.T) {
	b, d := running(t)
	d.commands = 4
	b.must(b.order(d, market.CommandStop, false)) // 5
	b.to(b.now + 2*member.Second)
	d.commands = 2
	before := len(b.logs)
	b.must(b.order(d, market.CommandRemove, false)) // 3, overtaken
	if len(b.logs) != before {
		t.Error("an overtaken command was carried out")
	}
}

func TestEndlessRequestsAreSlowedDown(t *testing.T) {
	b := open(t)
	given := 0
	for i := range 200 {
		d := b.newDeal(wire.ID{byte(i), 1}, "alice", market.OnDemand, 600_000_000)
		if r := b.request(d); r.Refusal == nil {
			given++
			b.must(b.ask(d.by, step.OpDecline, step.LeaseBody{Lease: d.id}))
		} else if r.Refusal.Code != step.RefuseCooldown {
			t.Fatal(r.Refusal)
		}
		b.to(b.now + member.Second)
	}
	if given > 12 {
		t.Errorf("%d quotes were given away in 200 s", given)
	}
	for k, v := range b.rows {
		if table.Table(k[0]) == table.HostHold && len(v) > 256 {
			t.Errorf("a hold that has ended keeps %d bytes", len(v))
		}
	}
}

func TestWordsOfAnEngineAreMadeReadable(t *testing.T) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	b.must(b.request(d))
	b.must(b.accept(d))
	detail := "\xff" + strings.Repeat("é", 300)
	b.pod(step.PodEvent{Lease: d.id, Start: 1, What: step.PodFailed, Fault: step.FaultImage, Detail: detail})
	b.load() // what cannot be read back would be lost
	b.boot()
	r := b.ask(d.by, step.OpAlive, step.AliveBody{}, seal(b, d.by, market.Alive{By: d.by.Address(), Host: self.Address(), Lease: d.id}))
	a, err := step.Body[step.AliveAnswer](r.Frame.Body)
	if err != nil || !utf8.ValidString(a.Detail) || len(a.Detail) < 300 {
		t.Errorf("%v, %q", err, a.Detail)
	}
}

func TestNoLogIsBegunBeforeTheNodeIsAHost(t *testing.T) {
	b := newBench(t, false)
	b.world.Roster = member.NewRoster(b.charter)
	b.do([]string{"gpus", "1", "2"})
	if len(b.logs) != 0 {
		t.Fatalf("%d entries", len(b.logs))
	}
	b.admit(self, member.RoleHost)
	b.to(b.now + 61*member.Second)
	if len(b.logs) != 1 {
		t.Errorf("got %d entries, want the inventory", len(b.logs))
	}
	b.do([]string{"gpus", "1", "2"})
	if len(b.logs) != 1 {
		t.Error("an inventory that says nothing new is in the log")
	}
}

// What is advertised already is off sale while the machine fails its self-test, and on again when it passes.
func TestUnfitMachineSellsNothing(t *testing.T) {
	b := newBench(t, false)
	b.do([]string{"gpus", "1", "2"})
	b.do([]string{"advertise", "0.60", "0.10"})
	for _, why := range []string{"", "firewall: not in place", ""} {
		b.do([]string{"unfit", why})
		s, ok := b.local(host.OnSale{}).Value.(host.Sale)
		if !ok || (len(s.Groups) == 0) != (why != "") || s.Reason != why || !s.Listed {
			t.Errorf("unfit %q: on sale %+v", why, s)
		}
	}
}

func TestOddHardwareIsNoReasonToStop(t *testing.T) {
	b := newBench(t, false)
	b.hardware = step.Inventory{Machine: member.Machine{CPU: strings.Repeat("x", 500), Runtime: strings.Repeat("docker", 9)}}
	for i := range 100 {
		model := "RTX_4090"
		if i >= 50 {
			model = fmt.Sprint("MODEL", i)
		}
		b.hardware.Devices = append(b.hardware.Devices, member.Device{UUID: fmt.Sprint("GPU-", i), Model: model, Simulated: true})
	}
	b.hardware.Devices = append(b.hardware.Devices, member.Device{}, b.hardware.Devices[0], member.Device{UUID: strings.Repeat("u", 65), Model: "X"})
	b.step(func(ctx *step.Context) { b.h.Inventory(ctx, b.hardware) })
	b.do([]string{"advertise", "0.60", "0.10"})
	if a := b.local(host.Advertise{Price: 1, Floor: 1, Region: "somewhere else"}); a.Err == nil {
		t.Error("a region that no offer can carry was taken")
	}
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	d.request.GPUs = 16
	b.must(b.request(d))
	b.must(b.accept(d))
	b.up(d.id)
	b.to(noon + 5*member.Hour/60)
	if got := b.places[d.id].Meter.Owed(); got == 0 {
		t.Error("16 GPUs owe nothing")
	}
}

func TestLimitsHoldForAHostOutOfStanding(t *testing.T) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	d.request.Minutes = 2
	b.must(b.request(d))
	b.must(b.accept(d))
	b.up(d.id)
	if err := b.world.Sanction(member.Revocation{Operator: operator.Address(), Number: 1, Subject: self.Address(), Sanction: member.Suspend,
		Reason: "late", At: b.now}); err != nil {
		t.Fatal(err)
	}
	b.to(noon + 10*member.Hour/60)
	if got := b.places[d.id].Meter.Owed(); got != 20_000_000 {
		t.Errorf("owed %s, want 0.02", got.Text())
	}
}

func TestLogsAreForTheLeasesConsumer(t *testing.T) {
	b, d := running(t)
	ask := func(k *identity.PrivateKey) *step.Refusal {
		out := b.step(func(ctx *step.Context) {
			b.h.Logs(ctx, step.Request{ID: 1, Peer: k.Address(), Body: wire.Marshal(host.LogsBody{Lease: d.id})})
		})
		return out.Replies[0].Refusal
	}
	if no := ask(d.by); no != nil {
		t.Error(no)
	}
	if no := ask(people["bob"]); no == nil || no.Code != step.RefuseUnknown {
		t.Errorf("another's: %+v", no)
	}
}

func TestQuoteEndsAtItsTime(t *testing.T) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	b.must(b.request(d))
	b.now += 10 * member.Second // and nothing has woken the node since
	if r := b.accept(d); r.Refusal == nil || r.Refusal.Code != step.RefuseExpired {
		t.Errorf("got %+v", r.Refusal)
	}
}

func TestReservationOfAnEarlierQuoteBuysNothing(t *testing.T) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	b.must(b.request(d))
	old := d.res
	b.must(b.ask(d.by, step.OpDecline, step.LeaseBody{Lease: d.id})) // the host's NoLease releases it
	b.to(b.now + 49*member.Hour)                                     // the host has forgotten the id
	b.must(b.request(d))
	d.res = old
	if r := b.accept(d); r.Refusal == nil || r.Refusal.Code != step.RefuseReservation {
		t.Errorf("got %+v", r.Refusal)
	}
}

func TestOrdersWithoutEffectAreNotLogged(t *testing.T) {
	b, d := running(t)
	b.must(b.order(d, market.CommandStop, false))
	before := len(b.logs)
	for range 20 {
		b.must(b.order(d, market.CommandStop, false))
	}
	b.to(b.now + 5*member.Second)
	if got := len(b.logs) - before; got != 2 { // stopped, free
		t.Errorf("%d entries follow 20 stops of a pod that stops, want 2", got)
	}
	b.must(b.order(d, market.CommandRemove, false))
	b.to(b.now + 2*member.Hour/60)
	before = len(b.logs)
	for range 20 {
		b.must(b.order(d, market.CommandRemove, false))
		if r := b.order(d, market.CommandStop, false); r.Refusal == nil || r.Refusal.Code != step.RefuseState {
			t.Fatalf("a stop of an ended lease: %+v", r.Refusal)
		}
	}
	if got := len(b.logs) - before; got != 0 {
		t.Errorf("%d entries of orders to an ended lease", got)
	}
}

func TestStartsOfOneMinuteAreBounded(t *testing.T) {
	b, d := running(t)
	b.to(noon + 242*member.Second) // 12:04:02: all is paid
	b.must(b.order(d, market.CommandStop, false))
	b.to(b.now + 2*member.Second)
	n := 0
	for range 14 {
		d.res.Seq++
		if r := b.order(d, market.CommandStart, false); r.Refusal != nil {
			break
		}
		b.up(d.id)
		b.to(b.now + 2*member.Second) // a keep-alive is told that it runs
		b.must(b.order(d, market.CommandStop, false))
		b.to(b.now + 2*member.Second)
		n++
	}
	if n != 8 {
		t.Errorf("%d starts in one minute, want 8", n)
	}
}

// The consumer, and nobody else, is given the record of its volume's removal, once there is one.
func TestRecordOfARemovalIsForItsConsumer(t *testing.T) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	d.request.Spec.Volume, d.request.Spec.Mount = 1_000_000_000, "/workspace"
	b.must(b.request(d))
	b.must(b.accept(d))
	b.up(d.id)
	b.to(b.now + member.Hour/20)
	ask := func(who *identity.PrivateKey) step.Reply {
		return b.ask(who, step.OpWiped, step.LeaseBody{Lease: d.id})
	}
	if r := ask(d.by); r.Refusal == nil || r.Refusal.Code != step.RefuseState {
		t.Errorf("of a pod that runs: %+v", r.Refusal)
	}
	b.must(b.order(d, market.CommandRemove, false))
	b.to(b.now + member.Hour/20)
	b.pod(step.PodEvent{Lease: d.id, What: step.PodRemoved})
	if r := ask(people["bob"]); r.Refusal == nil || r.Refusal.Code != step.RefuseUnknown {
		t.Errorf("for another: %+v", r.Refusal)
	}
	r := ask(d.by)
	b.must(r)
	m, err := wire.Decode[market.VolumeRecord](r.Frame.Objects[0])
	if err != nil || m.Lease != d.id || m.Volume != 1_000_000_000 || m.Reason != market.ReasonConsumer {
		t.Errorf("%+v, %v", m, err)
	}
}
