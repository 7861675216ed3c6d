package host_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/host"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// noon is 12:00:00 of the day on which everything happens.
const noon = member.Time(1_800_014_400_000)

func key(n byte) *identity.PrivateKey {
	k, err := identity.ParsePrivateKey(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		panic(err)
	}
	return k
}

var (
	operator = key(1)
	self     = key(2)
	people   = map[string]*identity.PrivateKey{"alice": key(3), "bob": key(4), "carol": key(5)}
)

// A bench is a host with a store, an engine, a bank, consumers and a clock, and checks after every step what must hold
// whatever happens.
type bench struct {
	t       testing.TB
	crashes bool            // the node is killed before every step
	sink    func(*step.Out) // takes what steps decide, in place of the maps below and all their checks
	now     member.Time
	charter member.Charter
	policy  member.Policy
	market  wire.Market
	open    wire.Opener
	world   *world
	h       *host.Host
	seq     *step.Sequence
	boots   byte
	down    bool
	wake    member.Time

	rows, logs map[string][]byte
	guards     map[string]identity.Hash // chain and place
	follower   *market.Follower
	gap        bool // nobody can follow the log any further
	places     map[wire.ID]ledger.Place
	ran        map[string]wire.ID // GPU and minute → lease
	requests   uint64

	hardware  step.Inventory
	engineUp  bool
	noticed   member.Time // when the bank gave its funds notice
	blind     bool        // looks at the engine are not answered
	pods      map[wire.ID]*pod
	later     []event // of the engine, by time
	deals     map[wire.ID]*deal
	bankAway  bool
	witnesses map[string]*witness
	banker    func(step.Send, *step.Response) // has the last word on the bank's answers
	facts     []string
}

// A pod is what the engine has and was told of a lease.
type pod struct {
	want     step.PodWant
	start    uint32 // of the container; 0: none
	id       identity.Hash
	started  member.Time
	finished member.Time // 0: it runs
	code     int32
	stubborn bool
}

type event struct {
	at    member.Time
	lease wire.ID
	do    func()
}

// A deal is a consumer's side of a lease.
type deal struct {
	id       wire.ID
	by       *identity.PrivateKey
	signer   *identity.PrivateKey // attends and signs vouchers
	request  market.Request
	quote    wire.Object
	terms    market.Terms
	signed   wire.Verified[market.Terms]
	res      ledger.Reservation
	cert     wire.Object
	attends  bool
	pays     bool
	seen     market.Answered
	next     member.Time
	commands uint64
	state    market.State
	usage    []wire.Object
	vouched  uint64
	mandates uint64
	claimed  ledger.Unvouched // by the bank
}

// A world is the rest of the node's core. It survives the host's crashes.
type world struct {
	*member.Roster
	heard market.Answered
	fresh member.Time
	deaf  bool
}

func (w *world) Heard(m member.Minute) bool { return w.heard.Has(m) }
func (w *world) Fresh() member.Time         { return w.fresh }
func (w *world) Enact(ctx *step.Context, m wire.Message) {
	ctx.Publish(step.TopicOffers, wire.Draft(m))
}

func newBench(t testing.TB, crashes bool) *bench {
	c := member.Charter{Salt: wire.ID{7}, Name: "bazaar", Founded: noon, ChainID: 1, Operators: []identity.PublicKey{operator.Public()},
		Threshold: 1, Testnet: true, Slot: 60}
	b := &bench{
		t: t, crashes: crashes, now: noon, charter: c, market: c.Market(), world: &world{Roster: member.NewRoster(c)},
		open: wire.Opener{Market: c.Market(), Verifier: identity.Secp256k1{}}, seq: &step.Sequence{},
		rows: map[string][]byte{}, logs: map[string][]byte{}, guards: map[string]identity.Hash{}, follower: market.NewFollower(c.Market()),
		places: map[wire.ID]ledger.Place{}, ran: map[string]wire.ID{}, pods: map[wire.ID]*pod{}, deals: map[wire.ID]*deal{}, engineUp: true,
		witnesses: map[string]*witness{"bank": {away: true}, "dave": {away: true}},
	}
	b.policy = member.DefaultPolicy(operator.Address(), noon)
	b.policy.DiskRunning = 0 // so that the sums can be done in one's head
	b.policy.DataHold = 5
	b.admit(self, member.RoleHost)
	b.admit(witnesses["dave"], member.RoleHost)
	b.admit(operator, member.RoleOperator)
	for _, name := range slices.Sorted(maps.Keys(people)) {
		b.admit(people[name], member.RoleConsumer)
	}
	b.load()
	b.boot()
	return b
}

func (b *bench) admit(k *identity.PrivateKey, r member.Role) {
	c := member.Credential{Subject: k.Public(), Issuer: operator.Address(), Owner: k.Address(), Roles: r, Serial: 1, Payout: k.Address(),
		NotBefore: noon, NotAfter: noon + 3*member.Day}
	if r == member.RoleHost {
		c.Tier = member.TierCommunity
	}
	if err := b.world.Admit(c, wire.Draft(c)); err != nil {
		b.t.Fatal(err)
	}
}

// load is a host of what the store holds.
func (b *bench) load() {
	b.t.Helper()
	b.h = host.New(b.world)
	for _, k := range slices.Sorted(maps.Keys(b.rows)) {
		taken := 0
		for _, keeper := range b.h.Keepers() {
			mine, err := keeper.Load([]byte(k), b.rows[k])
			if err != nil {
				b.t.Fatal(err)
			}
			if mine {
				taken++
			}
		}
		if taken != 1 {
			b.t.Fatalf("row %x is loaded by %d keepers", k, taken)
		}
	}
	b.seq = &step.Sequence{}
}

// boot starts the node: it hears of its hardware, and the engine says what it has of each lease.
func (b *bench) boot() {
	b.t.Helper()
	b.down = false
	b.boots++
	out := b.raw(func(ctx *step.Context) { b.h.Boot(ctx) })
	if !out.AllPods {
		b.t.Fatal("a boot does not say all that it wants of the engine")
	}
	if b.hardware.Machine.Runtime != "" {
		b.raw(func(ctx *step.Context) { b.h.Inventory(ctx, b.hardware) })
	}
	if !b.engineUp {
		b.raw(func(ctx *step.Context) { b.h.Engine(ctx, step.Engine{}) })
		return
	}
	for _, w := range out.Pods {
		b.observe(w.Lease)
	}
}

// observe tells what the engine has of a lease.
func (b *bench) observe(id wire.ID) {
	p := b.pods[id]
	switch {
	case p.start == 0:
		b.pod(step.PodEvent{Lease: id, Start: p.want.Start, What: step.PodAbsent})
	case p.finished == 0:
		b.pod(step.PodEvent{Lease: id, Start: p.start, What: step.PodStarted, ID: p.id, Started: p.started})
	default:
		b.pod(step.PodEvent{Lease: id, Start: p.start, What: step.PodExited, ID: p.id, Started: p.started, Finished: p.finished, ExitCode: p.code})
	}
}

func (b *bench) pod(e step.PodEvent) {
	b.t.Helper()
	e.At = b.now
	if b.down {
		return
	}
	b.raw(func(ctx *step.Context) { b.h.Pod(ctx, e) })
}

// step is one input, before which the node may be killed.
func (b *bench) step(f func(ctx *step.Context)) *step.Out {
	b.t.Helper()
	if b.crashes {
		b.load()
		b.boot()
	}
	return b.raw(f)
}

func (b *bench) raw(f func(ctx *step.Context)) *step.Out {
	b.t.Helper()
	out := &step.Out{Market: b.market}
	if !b.world.deaf {
		b.world.heard, b.world.fresh = b.world.heard.With(b.minute()), b.now
	}
	ctx := &step.Context{Now: b.now, Self: self.Address(), Market: b.market, Charter: b.charter, Policy: b.policy, Clock: b.charter.Clock(),
		Boot: step.Boot{ID: wire.ID{b.boots}, Seed: identity.Hash{b.boots}, Key: self.Public(), Version: "test"}, Out: out, Seq: b.seq}
	f(ctx)
	b.wake = b.h.Tick(ctx)
	for _, k := range b.h.Keepers() {
		out.Rows = k.Flush(out.Rows)
	}
	if b.sink != nil {
		b.sink(out)
	} else {
		b.store(out)
		b.check()
	}
	for _, w := range out.Pods {
		b.wanted(w)
	}
	for _, id := range out.Looks {
		b.look(id)
	}
	for _, s := range out.Sends {
		b.bank(s)
	}
	return out
}

// look answers a look at a lease's containers.
func (b *bench) look(id wire.ID) {
	if p := b.pods[id]; p != nil && p.start == p.want.Start && p.start != 0 && p.finished == 0 && b.engineUp && !b.blind {
		b.pod(step.PodEvent{Lease: id, Start: p.start, What: step.PodStarted, ID: p.id, Started: p.started})
	}
}

func (b *bench) minute() member.Minute { return b.charter.Clock().Minute(b.now) }

func (b *bench) store(out *step.Out) {
	b.t.Helper()
	for _, g := range out.Guards {
		at := fmt.Sprintf("%x %d", g.Chain, g.Place)
		if h, taken := b.guards[at]; taken && h != g.Hash {
			b.t.Fatalf("%s: two contents for place %d of %q", b.clock(), g.Place, g.Chain)
		}
		b.guards[at] = g.Hash
	}
	b.guarded(out)
	for _, r := range out.Rows {
		if err := table.Check(r.Key); err != nil {
			b.t.Fatal(err)
		}
		switch t := table.Table(r.Key[0]); {
		case t == table.LeaseLog:
			b.entered(r)
		case t == table.Usage:
			b.used(r)
		case t == table.Testimony:
		case r.Delete:
			delete(b.rows, string(r.Key))
			continue
		default:
			b.rows[string(r.Key)] = r.Value
			continue
		}
		if b.logs[string(r.Key)] != nil {
			b.t.Fatalf("row %x of a log is written twice", r.Key)
		}
		b.logs[string(r.Key)] = r.Value
	}
}

// guarded checks that whatever has a place in a chain is guarded before it leaves.
func (b *bench) guarded(out *step.Out) {
	b.t.Helper()
	taken := map[identity.Hash]bool{}
	for _, h := range b.guards {
		taken[h] = true
	}
	var drafts []wire.Object
	for _, p := range out.Publish {
		drafts = append(drafts, p.Object)
	}
	for _, r := range out.Replies {
		drafts = append(drafts, r.Frame.Objects...)
	}
	for _, r := range out.Rows {
		if t := table.Table(r.Key[0]); t == table.LeaseLog || t == table.Usage {
			var o wire.Object
			if err := wire.Load(r.Value, &o); err != nil {
				b.t.Fatal(err)
			}
			drafts = append(drafts, o)
		}
	}
	for _, o := range drafts {
		switch o.Kind {
		case wire.KindOffer, wire.KindBeat, wire.KindCert, wire.KindLogEntry, wire.KindUsage:
			if !taken[o.Ref(b.market)] {
				b.t.Fatalf("%s: a %v is to be signed without a guard", b.clock(), o.Kind)
			}
		}
	}
}

func object[T wire.Message](b *bench, row []byte) (T, wire.Object) {
	b.t.Helper()
	var o wire.Object
	if err := wire.Load(row, &o); err != nil {
		b.t.Fatal(err)
	}
	v, err := wire.Decode[T](o)
	if err != nil {
		b.t.Fatal(err)
	}
	return v, o
}

// entered follows a new entry of the lease log: whoever replays it must get the host's own table.
func (b *bench) entered(r step.Row) {
	b.t.Helper()
	e, _ := object[market.LogEntry](b, r.Value)
	if err := b.follower.Follow(e); err != nil && !b.gap {
		b.t.Fatalf("%s: %v", b.clock(), err)
	}
	text := e.Entry.String()
	switch e.Entry {
	case market.EntryState:
		text = e.State.String()
		if e.Reason != 0 {
			text += " (" + e.Reason.String() + ")"
		}
	case market.EntryInventory, market.EntryTake, market.EntryFree, market.EntryHold:
		text += " " + strings.Join(e.GPUs, " ")
	}
	if e.Entry == market.EntryHold && len(e.Leases) > 0 {
		text += " from"
		for _, v := range e.Leases {
			text += " " + name(v)
		}
	}
	b.fact(e.Lease, "%s", text)
}

// used follows a new usage entry.
func (b *bench) used(r step.Row) {
	b.t.Helper()
	u, o := object[ledger.Usage](b, r.Value)
	d := b.deals[u.Lease]
	next, err := b.places[u.Lease].Follow(u, o.Ref(b.market), d.terms.Tariff, 60)
	if err != nil {
		b.t.Fatalf("%s: %v", b.clock(), err)
	}
	if u.Last() >= b.minute() {
		b.t.Fatalf("%s: entry %d closes minute %d before it has ended", b.clock(), u.Seq, u.Last())
	}
	b.places[u.Lease] = next
	d.usage = append(d.usage, o)
	if u.Status == ledger.StatusRunning && u.Billable != 0 {
		for _, g := range u.GPUs {
			at := fmt.Sprintf("%s %d", g, u.First)
			if other, twice := b.ran[at]; twice {
				b.t.Fatalf("minute %d of %s is billed to %s and %s", u.First, g, name(other), name(u.Lease))
			}
			b.ran[at] = u.Lease
		}
	}
	text := fmt.Sprintf("%s %v", b.hour(u.First), u.Status)
	if u.Count > 1 {
		text = fmt.Sprintf("%s-%s %v", b.hour(u.First), b.hour(u.Last()), u.Status)
	}
	if n := u.Minutes(); n > 1 || n == 1 && u.Count > 1 {
		text += fmt.Sprintf(" %d of %d", n, u.Count)
	}
	if u.Billable != 0 {
		text += fmt.Sprintf(" %v, owed %s", u.Basis, u.Owed().Text())
	}
	if u.Final {
		text += ", final"
	}
	b.fact(u.Lease, "minute %s", text)
}

// check compares the host with its rows, and its table of GPUs with what its log gives.
func (b *bench) check() {
	b.t.Helper()
	all := map[string][]byte{}
	for _, k := range b.h.Keepers() {
		for _, r := range k.Rows(nil) {
			all[string(r.Key)] = r.Value
		}
	}
	for k, v := range all {
		if !bytes.Equal(b.rows[k], v) {
			b.t.Fatalf("%s: row %q was changed and not flushed", b.clock(), k)
		}
	}
	if len(all) != len(b.rows) {
		b.t.Fatalf("%s: the host has %d rows, the store %d", b.clock(), len(all), len(b.rows))
	}
	var own market.Table
	if row := b.rows[string(table.Key(table.Node, []byte("gpus")))]; row != nil {
		if err := wire.Load(row, &own); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := own.Audit(); err != nil {
		b.t.Fatalf("%s: %v", b.clock(), err)
	}
	for i := range own.Slots {
		own.Slots[i].Device = member.Device{UUID: own.Slots[i].Device.UUID, Model: own.Slots[i].Device.Model}
	}
	if got, want := fmt.Sprintf("%+v", *b.follower.Table()), fmt.Sprintf("%+v", own); got != want && !b.gap {
		b.t.Fatalf("%s: the log gives\n%s\nthe host has\n%s", b.clock(), got, want)
	}
}

// wanted is what the engine makes of a wish. Containers start when the script says so; a stop ends them a second later,
// or when their grace is over.
func (b *bench) wanted(w step.PodWant) {
	p := b.pods[w.Lease]
	if p == nil {
		p = &pod{}
		b.pods[w.Lease] = p
	}
	before := p.want
	p.want = w
	if b.crashes && before.Phase == w.Phase && before.Start == w.Start {
		return
	}
	if w.Start > 0 && (before.Phase != w.Phase || before.Start != w.Start) {
		b.fact(w.Lease, "pod: %s %d", [...]string{"", "run", "stop", "remove"}[w.Phase], w.Start)
	}
	switch {
	case w.Phase == step.PodRun:
	case p.start == w.Start && p.finished == 0 && p.start != 0:
		lag := member.Second
		if p.stubborn {
			lag = w.Grace
		}
		b.after(lag, w.Lease, func() { b.end(w.Lease, 137) })
	case w.Phase == step.PodRemove:
		b.after(0, w.Lease, func() {
			*p = pod{want: w}
			b.pod(step.PodEvent{Lease: w.Lease, Start: w.Start, What: step.PodRemoved})
		})
	case p.start != w.Start:
		b.after(0, w.Lease, func() { b.pod(step.PodEvent{Lease: w.Lease, Start: w.Start, What: step.PodAbsent}) })
	}
}

func (b *bench) after(lag member.Time, id wire.ID, do func()) {
	b.later = append(b.later, event{b.now + lag, id, do})
	slices.SortStableFunc(b.later, func(x, y event) int { return int(x.at - y.at) })
}

// end is a container's end.
func (b *bench) end(id wire.ID, code int32) {
	p := b.pods[id]
	if p.start == 0 || p.finished != 0 {
		return
	}
	p.finished, p.code = b.now, code
	b.pod(step.PodEvent{Lease: id, Start: p.start, What: step.PodExited, ID: p.id, Started: p.started, Finished: b.now, ExitCode: code})
	if p.want.Phase == step.PodRemove {
		b.wanted(p.want)
	}
}

// up is a container's start.
func (b *bench) up(id wire.ID) {
	p := b.pods[id]
	if p == nil || p.want.Phase != step.PodRun {
		b.t.Fatalf("%s: nobody wants %s to run", b.clock(), name(id))
	}
	if d := b.deals[id]; d != nil {
		d.next = min(d.next, b.now+member.Second)
	}
	p.start, p.started, p.finished, p.id = p.want.Start, b.now, 0, identity.Hash{id[0], byte(p.want.Start)}
	b.pod(step.PodEvent{Lease: id, Start: p.start, What: step.PodStarted, ID: p.id, Started: p.started})
}

// bank answers what the host asks of its operator.
func (b *bench) bank(s step.Send) {
	b.t.Helper()
	r := step.Response{ID: s.ID}
	var lease wire.ID
	text := ""
	switch step.Op(s.Frame.Op) {
	case step.OpWatch:
		r = b.watch(s)
	case step.OpClaim:
		if !b.bankAway {
			r, lease, text = b.claimed(s)
		}
	}
	for _, o := range s.Frame.Objects {
		if step.Op(s.Frame.Op) == step.OpClaim {
			break
		}
		if o.IsDraft() && o.Kind != wire.KindUsage {
			if _, err := b.signAny(o); err != nil {
				b.t.Fatal(err)
			}
		}
		switch o.Kind {
		case wire.KindFinal:
			f, _ := wire.Decode[ledger.Final](o)
			lease, text = f.Lease, "final "+f.Total.Text()
			r.Objects = append(r.Objects, b.receipt(f.Lease, f.Total, true))
		case wire.KindVoucher:
			v, _ := wire.Decode[ledger.Voucher](o)
			if text == "" && s.Frame.Op != uint8(step.OpRefresh) {
				lease, text = v.Lease, "settle "+v.Total.Text()
				r.Objects = append(r.Objects, b.receipt(v.Lease, v.Total, false))
			}
		case wire.KindNoLease:
			n, _ := wire.Decode[ledger.NoLease](o)
			lease, text = n.Lease, "no lease"
		case wire.KindLower:
			l, _ := wire.Decode[ledger.Lower](o)
			lease, text = l.Lease, "lower to "+l.Cap.Text()
			d := b.deals[l.Lease]
			d.res.Seq, d.res.Cap = d.res.Seq+1, l.Cap
			r.Objects = append(r.Objects, seal(b, operator, d.res))
		}
	}
	if b.bankAway {
		r.Objects, r.Err, text = nil, &step.Failure{Code: step.FailUnreachable}, ""
	}
	if b.banker != nil {
		b.banker(s, &r)
	}
	if text != "" {
		b.fact(lease, "bank: %s", text)
	}
	b.after(0, lease, func() {
		if !b.down {
			b.raw(func(ctx *step.Context) { b.h.Response(ctx, r) })
		}
	})
}

func (b *bench) receipt(id wire.ID, paid ledger.Amount, released bool) wire.AnyVerified {
	return seal(b, operator, ledger.SettleReceipt{Operator: operator.Address(), Host: self.Address(), Lease: id,
		Reservation: b.deals[id].res.ID, Paid: paid, Released: released, Entry: 1, At: b.now})
}

func (b *bench) signAny(o wire.Object) (wire.Object, error) {
	switch o.Kind {
	case wire.KindFinal:
		return sign[ledger.Final](b, self, o).Object(), nil
	case wire.KindNoLease:
		return sign[ledger.NoLease](b, self, o).Object(), nil
	case wire.KindLower:
		return sign[ledger.Lower](b, self, o).Object(), nil
	}
	return o, fmt.Errorf("a draft of a %v for the bank", o.Kind)
}

// sign completes a draft and opens it, as the shell and a peer do.
func sign[T wire.Message](b *bench, by identity.Signer, o wire.Object) wire.Verified[T] {
	b.t.Helper()
	msg, err := wire.Decode[T](o)
	if err != nil {
		b.t.Fatal(err)
	}
	if o.IsDraft() {
		if o.Sig, err = by.Sign(b.market.Digest(msg, o.Payload)); err != nil {
			b.t.Fatal(err)
		}
	}
	v, err := wire.Open[T](b.open, o)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func seal[T wire.Message](b *bench, by identity.Signer, msg T) wire.Verified[T] {
	b.t.Helper()
	return sign[T](b, by, wire.Draft(msg))
}

// to lets time pass: what the engine, the consumers and the host themselves are due happens in order.
func (b *bench) to(t member.Time) {
	b.t.Helper()
	for {
		next, do := t, func() {}
		if len(b.later) > 0 && b.later[0].at <= next {
			next, do = b.later[0].at, func() {
				e := b.later[0]
				b.later = b.later[1:]
				e.do()
			}
		}
		for _, id := range sorted(b.deals) {
			if d := b.deals[id]; d.attends && !b.down && d.next <= next && d.next < t && (d.next < next || len(b.later) == 0 || b.later[0].at > next) {
				next, do = d.next, func() { b.alive(d) }
			}
		}
		if !b.down && b.wake < next {
			next, do = max(b.wake, b.now), func() { b.step(func(*step.Context) {}) }
		}
		b.now = max(b.now, next)
		if do(); next >= t && (len(b.later) == 0 || b.later[0].at > t) {
			b.now = t
			return
		}
	}
}

func sorted(deals map[wire.ID]*deal) []wire.ID {
	return slices.SortedFunc(maps.Keys(deals), func(a, b wire.ID) int { return bytes.Compare(a[:], b[:]) })
}

// ask sends a request of a peer, and returns the reply with everything in it signed.
func (b *bench) ask(by *identity.PrivateKey, op step.Op, body any, objects ...wire.AnyVerified) step.Reply {
	b.t.Helper()
	b.requests++
	r := step.Request{ID: b.requests, From: by.Public(), Peer: by.Address(), Proto: step.ProtoLease, Op: op, Objects: objects}
	if op == step.OpAsk || op == step.OpWitnessed {
		r.Proto = step.ProtoWitness
	}
	if body != nil {
		r.Body = wire.Marshal(body)
	}
	out := b.step(func(ctx *step.Context) {
		if !b.h.Request(ctx, r) {
			b.t.Fatalf("operation %d is not taken", op)
		}
	})
	if len(out.Replies) != 1 || out.Replies[0].ID != r.ID {
		b.t.Fatalf("%s: operation %d: replies %+v", b.clock(), op, out.Replies)
	}
	return out.Replies[0]
}

// alive is a keep-alive, and the voucher for what came with its answer.
func (b *bench) alive(d *deal) {
	b.t.Helper()
	d.next = (b.now-member.Second)/(20*member.Second)*20*member.Second + 21*member.Second
	a := seal(b, d.signer, market.Alive{By: d.signer.Address(), Host: self.Address(), Lease: d.id, Nonce: uint64(b.now), Top: d.seen.Top, Answered: d.seen.Bits})
	r := b.ask(d.signer, step.OpAlive, step.AliveBody{UsageSeq: uint64(len(d.usage))}, a)
	if r.Refusal != nil {
		b.t.Fatalf("%s: alive: %v", b.clock(), r.Refusal)
	}
	rep := sign[market.AliveReply](b, self, r.Frame.Objects[0]).Value()
	if rep.Nonce != uint64(b.now) || rep.Minute != b.minute() || rep.UsageSeq != uint64(len(d.usage)) {
		b.t.Fatalf("%s: reply %+v, %d entries", b.clock(), rep, len(d.usage))
	}
	d.seen, d.state = d.seen.With(rep.Minute), rep.State
	if rep.State >= market.StateStopped {
		d.next = b.now/(60*member.Second)*60*member.Second + 61*member.Second
	}
	if d.pays {
		b.pay(d)
	}
}

// pay signs for the last billed entry.
func (b *bench) pay(d *deal) {
	b.t.Helper()
	if v, ok := b.voucher(d, 0); ok && v.Value().Seq > d.vouched {
		if r := b.ask(d.signer, step.OpVoucher, nil, v); r.Refusal != nil {
			b.t.Fatalf("%s: voucher of %s: %v", b.clock(), v.Value().Total.Text(), r.Refusal)
		}
		d.vouched = v.Value().Seq
		b.fact(d.id, "voucher %s", v.Value().Total.Text())
	}
}

// voucher is one for the last billed entry but n.
func (b *bench) voucher(d *deal, n int) (wire.Verified[ledger.Voucher], bool) {
	b.t.Helper()
	for i := len(d.usage) - 1; i >= 0; i-- {
		u, err := wire.Decode[ledger.Usage](d.usage[i])
		if err != nil {
			b.t.Fatal(err)
		}
		before := ledger.Amount(0)
		if i > 0 {
			last, _ := wire.Decode[ledger.Usage](d.usage[i-1])
			before = last.Owed()
		}
		if u.Final {
			d.attends = n > 0 || u.Owed() > before && d.vouched < u.Seq
		}
		if u.Owed() == before {
			continue
		}
		if n--; n < 0 {
			return seal(b, d.signer, ledger.Voucher{Reservation: d.res.ID, Lease: d.id, By: d.signer.Address(), Host: self.Address(), Total: u.Owed(),
				Minute: u.Last(), Usage: d.usage[i].Ref(b.market), Seq: u.Seq}), true
		}
	}
	return wire.Verified[ledger.Voucher]{}, false
}

// request asks for a lease.
func (b *bench) request(d *deal) step.Reply {
	b.t.Helper()
	r := b.ask(d.by, step.OpRequest, nil, seal(b, d.by, d.request))
	if r.Refusal == nil {
		d.quote = sign[market.Quote](b, self, r.Frame.Objects[0]).Object()
		q, _ := wire.Decode[market.Quote](d.quote)
		var err error
		if d.terms, err = q.Contract(d.quote.Ref(b.market)); err != nil {
			b.t.Fatal(err)
		}
		rate, _ := d.terms.Tariff.Rate(ledger.StatusRunning)
		d.res = ledger.Reservation{ID: d.request.Reservation, Seq: 1, Operator: operator.Address(), Consumer: d.by.Address(), By: d.request.By,
			Host: self.Address(), Lease: d.id, Cap: ledger.Amount(rate), MaxRate: rate, Opened: b.now, RedeemBy: b.now + ledger.RedeemWithin}
	}
	return r
}

// accept signs the terms.
func (b *bench) accept(d *deal) step.Reply {
	b.t.Helper()
	d.signed = seal(b, d.by, d.terms)
	r := b.ask(d.by, step.OpAccept, step.AcceptBody{Quote: d.quote.Ref(b.market)}, d.signed, seal(b, operator, d.res))
	if r.Refusal == nil {
		v := sign[market.Cert](b, self, r.Frame.Objects[0])
		if d.cert.IsZero() {
			d.cert = v.Object()
			b.places[d.id] = ledger.Place{Head: v.Ref(), Next: v.Value().Minute}
			d.attends, d.pays, d.next = true, true, b.now+member.Second
		}
	}
	return r
}

// order gives a command.
func (b *bench) order(d *deal, o market.CommandKind, zero bool) step.Reply {
	b.t.Helper()
	d.commands++
	d.next = min(d.next, b.now+member.Second)
	return b.ask(d.by, step.OpCommand, nil, b.command(d, o, zero), seal(b, operator, d.res))
}

func (b *bench) command(d *deal, o market.CommandKind, zero bool) wire.Verified[market.Command] {
	return seal(b, d.by, market.Command{Consumer: d.by.Address(), Host: self.Address(), Lease: d.id, Seq: d.commands, Order: o, Zero: zero,
		Minute: b.minute(), At: b.now})
}

// newDeal is what a consumer would ask for.
func (b *bench) newDeal(id wire.ID, by string, kind market.BidKind, rate ledger.Rate) *deal {
	d := &deal{id: id, by: people[by], signer: people[by]}
	d.request = market.Request{Consumer: d.by.Address(), Host: self.Address(), Lease: id, Bid: wire.ID{id[0], 1}, Reservation: wire.ID{id[0], 2},
		Type: kind, Model: "RTX_4090", GPUs: 1, Rate: rate, OnEnd: market.OnEndStop, By: d.by.Address(), At: b.now,
		Spec: market.Spec{Image: "r.example/x@sha256:" + strings.Repeat("a", 64), Disk: 1 << 20}}
	b.deals[id] = d
	return d
}

func name(id wire.ID) string { return fmt.Sprintf("L%d", id[0]) }

func (b *bench) clock() string { return b.now.Go().Format("15:04:05") }

func (b *bench) hour(m member.Minute) string { return b.charter.Clock().Tick(m).Go().Format("15:04") }

func (b *bench) fact(id wire.ID, format string, args ...any) {
	who := ""
	if !id.IsZero() {
		who = name(id) + " "
	}
	b.facts = append(b.facts, "  "+b.clock()+" "+who+fmt.Sprintf(format, args...))
}
