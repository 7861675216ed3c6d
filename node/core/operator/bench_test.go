package operator_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

const noon = member.Time(1_800_000_000_000)

// both runs a test twice: as one run of the node, and with a new operator loaded from the rows before every step.
func both(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Run("one run", func(t *testing.T) { f(t, newBench(t, false)) })
	t.Run("crash at each step", func(t *testing.T) { f(t, newBench(t, true)) })
}

// A bench is an operator with a store, a guard and a world around it.
type bench struct {
	t       *testing.T
	crash   bool
	trust   bool // skips the checks after every step, where there are thousands
	now     member.Time
	op      *identity.PrivateKey
	boot    step.Boot
	world   *world
	o       *operator.Operator
	open    wire.Opener
	rows    map[string][]byte // state
	logs    map[string][]byte
	guards  map[string]step.Guard
	secrets []wire.ID
	requests,
	drawn uint64
	notices []string
}

func key(n byte) *identity.PrivateKey {
	k, err := identity.ParsePrivateKey(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		panic(err)
	}
	return k
}

func newBench(t *testing.T, crash bool) *bench { return newMarket(t, crash, true) }

func newMarket(t *testing.T, crash, testnet bool) *bench {
	op := key(1)
	c := member.Charter{Salt: wire.ID{7}, Name: "bazaar", Founded: noon, ChainID: 1, Operators: []identity.PublicKey{op.Public()}, Threshold: 1,
		Testnet: testnet, Slot: 60}
	p := member.DefaultPolicy(op.Address(), noon)
	p.Fee = 50_000
	p.Bootstrap = []string{"/ip4/192.0.2.1/tcp/4001"}
	b := &bench{
		t: t, crash: crash, now: noon, op: op, world: newWorld(c, p),
		boot: step.Boot{Key: op.Public(), Addrs: p.Bootstrap},
		open: wire.Opener{Market: c.Market(), Verifier: identity.Secp256k1{}},
		rows: map[string][]byte{}, logs: map[string][]byte{}, guards: map[string]step.Guard{},
	}
	b.restart()
	b.step(func(ctx *step.Context) { b.o.Boot(ctx) })
	return b
}

// restart is a crash: all that is left are the rows.
func (b *bench) restart() {
	b.t.Helper()
	b.o = operator.New(b.world)
	for _, k := range slices.Sorted(maps.Keys(b.rows)) {
		taken := 0
		for _, keeper := range b.o.Keepers() {
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
	if err := b.o.Restore(b.op.Address()); err != nil {
		b.t.Fatal(err)
	}
}

// step runs one step, stores what came of it, and checks what must hold after every one.
func (b *bench) step(f func(ctx *step.Context)) *step.Out {
	b.t.Helper()
	if b.crash {
		b.restart()
	}
	out := &step.Out{Market: b.open.Market}
	policy, _ := b.world.Policy()
	f(&step.Context{Now: b.now, Self: b.op.Address(), Market: b.open.Market, Charter: b.world.charter, Policy: policy,
		Clock: b.world.charter.Clock(), Boot: b.boot, Out: out, Seq: &step.Sequence{}})
	for _, k := range b.o.Keepers() {
		out.Rows = k.Flush(out.Rows)
	}
	b.store(out)
	if !b.trust {
		b.check()
	}
	for _, n := range out.Notices {
		b.notices = append(b.notices, n.Type)
	}
	return out
}

func (b *bench) store(out *step.Out) {
	b.t.Helper()
	if len(out.Rows)+len(out.Guards) > 512 {
		b.t.Fatalf("%d rows and %d guards of one step", len(out.Rows), len(out.Guards))
	}
	for _, g := range out.Guards {
		held, taken := b.guards[string(g.Chain)]
		if taken && (g.Place < held.Place || g.Place == held.Place && g.Hash != held.Hash) {
			b.t.Fatalf("chain %q: place %d is signed after %d, or twice", g.Chain, g.Place, held.Place)
		}
		b.guards[string(g.Chain)] = g
	}
	for _, r := range out.Rows {
		if err := table.Check(r.Key); err != nil {
			b.t.Fatal(err)
		}
		to := b.rows
		if table.Table(r.Key[0]).Kind() == table.Log {
			to = b.logs
		}
		if r.Delete {
			delete(to, string(r.Key))
		} else {
			to[string(r.Key)] = r.Value
		}
	}
}

func (b *bench) check() {
	b.t.Helper()
	all := map[string][]byte{}
	for _, k := range b.o.Keepers() {
		for _, r := range k.Rows(nil) {
			all[string(r.Key)] = r.Value
		}
	}
	if !maps.EqualFunc(all, b.rows, bytes.Equal) {
		b.t.Fatalf("the core's %d rows are not the %d that it flushed", len(all), len(b.rows))
	}
	for k, v := range b.rows {
		for _, s := range b.secrets {
			if bytes.Contains(v, s[:]) || bytes.Contains([]byte(k), s[:]) {
				b.t.Fatalf("row %x holds the secret of an invite", k)
			}
		}
	}
	if err := b.o.Audit(); err != nil {
		b.t.Fatal(err)
	}
}

// try gives a command, and returns what it was answered with.
func (b *bench) try(cmd operator.Command) (any, error) {
	b.t.Helper()
	out := b.step(func(ctx *step.Context) {
		if !b.o.Local(ctx, 1, cmd) {
			b.t.Fatalf("%T is not taken", cmd)
		}
	})
	if len(out.Answers) != 1 {
		b.t.Fatalf("%T: %d answers", cmd, len(out.Answers))
	}
	if err := out.Answers[0].Err; err != nil && len(out.Rows)+len(out.Guards) > 0 {
		b.t.Fatalf("%+v failed (%v) and still wrote %d rows", cmd, err, len(out.Rows))
	}
	return out.Answers[0].Value, out.Answers[0].Err
}

// do gives a command that must work.
func do[T any](b *bench, cmd operator.Command) T {
	b.t.Helper()
	v, err := b.try(cmd)
	if err != nil {
		b.t.Fatalf("%+v: %v", cmd, err)
	}
	return v.(T)
}

// fails gives a command that must fail with a code.
func (b *bench) fails(cmd operator.Command, want step.ProblemCode) {
	b.t.Helper()
	_, err := b.try(cmd)
	var p *step.Problem
	if !errors.As(err, &p) || p.Code != want {
		b.t.Fatalf("%+v: got %v, want problem %d", cmd, err, want)
	}
}

// An answer is a reply as its peer sees it: opened, everything in it signed.
type answer struct {
	refused *step.Refusal
	objects []wire.AnyVerified
	body    []byte
	out     *step.Out
}

// ask sends a request of a peer.
func (b *bench) ask(from *identity.PrivateKey, proto step.Protocol, op step.Op, body any, objects ...wire.AnyVerified) answer {
	b.t.Helper()
	b.requests++
	r := step.Request{ID: b.requests, From: from.Public(), Peer: from.Address(), Proto: proto, Op: op, Objects: objects}
	if body != nil {
		r.Body = wire.Marshal(body)
	}
	out := b.step(func(ctx *step.Context) {
		if !b.o.Request(ctx, r) {
			b.t.Fatalf("%s %d is not taken", proto, op)
		}
	})
	if len(out.Replies) != 1 || out.Replies[0].ID != r.ID {
		b.t.Fatalf("%s %d: replies %+v", proto, op, out.Replies)
	}
	a := answer{refused: out.Replies[0].Refusal, body: out.Replies[0].Frame.Body, out: out}
	for _, o := range out.Replies[0].Frame.Objects {
		a.objects = append(a.objects, b.verified(o))
	}
	return a
}

// refuses wants an answer to be a refusal with this code.
func (b *bench) refuses(a answer, want step.RefusalCode) {
	b.t.Helper()
	if a.refused == nil || a.refused.Code != want || a.refused.Reason == "" {
		b.t.Fatalf("got refusal %+v, want code %d", a.refused, want)
	}
	if len(a.out.Rows)+len(a.out.Guards) > 0 {
		b.t.Fatalf("refused (%v) and still wrote %d rows", a.refused, len(a.out.Rows))
	}
}

// object is the answer's object of a kind.
func object[T wire.Message](b *bench, a answer) T {
	b.t.Helper()
	if a.refused != nil {
		b.t.Fatalf("refused: %v", a.refused)
	}
	v, ok := step.Find[T](a.objects)
	if !ok {
		b.t.Fatalf("no %v among %d objects", v.Value().Kind(), len(a.objects))
	}
	return v.Value()
}

// verified opens an object, signing it first where it is a draft, as the shell does.
func (b *bench) verified(o wire.Object) wire.AnyVerified {
	b.t.Helper()
	switch o.Kind {
	case wire.KindCharter:
		return signed[member.Charter](b, b.op, o)
	case wire.KindPolicy:
		return signed[member.Policy](b, b.op, o)
	case wire.KindCredential:
		return signed[member.Credential](b, b.op, o)
	case wire.KindReservation:
		return signed[ledger.Reservation](b, b.op, o)
	case wire.KindSettleReceipt:
		return signed[ledger.SettleReceipt](b, b.op, o)
	case wire.KindLodged:
		return signed[market.Lodged](b, b.op, o)
	}
	b.t.Fatalf("a %v in an answer", o.Kind)
	return nil
}

func signed[T wire.Message](b *bench, by identity.Signer, o wire.Object) wire.Verified[T] {
	b.t.Helper()
	msg, err := wire.Decode[T](o)
	if err != nil {
		b.t.Fatal(err)
	}
	if o.IsDraft() {
		if o.Sig, err = by.Sign(b.open.Market.Digest(msg, o.Payload)); err != nil {
			b.t.Fatal(err)
		}
	}
	v, err := wire.Open[T](b.open, o)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// seal signs a message with a key.
func seal[T wire.Message](b *bench, by identity.Signer, msg T) wire.Verified[T] {
	b.t.Helper()
	return signed[T](b, by, wire.Draft(msg))
}

func (b *bench) tick() (*step.Out, member.Time) {
	b.t.Helper()
	var wake member.Time
	out := b.step(func(ctx *step.Context) { wake = b.o.Tick(ctx) })
	return out, wake
}

// invite makes an invite for a role.
func (b *bench) invite(r member.Role) wire.ID {
	b.t.Helper()
	b.drawn++
	drawn := identity.Keccak([]byte{byte(b.drawn)})
	secret := wire.ID(drawn[:16])
	b.secrets = append(b.secrets, secret)
	do[operator.Invitation](b, operator.InviteCreate{Secret: secret, Role: r})
	return secret
}

// request is what the bearer of a secret would sign.
func (b *bench) request(k *identity.PrivateKey, secret wire.ID, r member.Role) member.JoinRequest {
	p, _ := b.world.Policy()
	j := member.JoinRequest{Subject: k.Public(), Secret: member.Invite{Secret: secret}.SecretHash(), Role: r, At: b.now}
	if r == member.RoleHost {
		j.Agreement = p.AgreementHash()
		j.Devices = []member.Device{{UUID: "GPU-" + k.Address().Short(), Model: "RTX_4090", MemoryMiB: 24576}}
		j.Machine = member.Machine{CPU: "EPYC", Cores: 32, Runtime: "docker"}
		j.Checks = []member.Check{{Name: "docker", OK: true}}
	}
	return j
}

func (b *bench) join(k *identity.PrivateKey, secret wire.ID, j member.JoinRequest) answer {
	b.t.Helper()
	return b.ask(k, step.ProtoJoin, step.OpJoin, step.JoinBody{Secret: secret, Market: b.open.Market.ID}, seal(b, k, j))
}

// joined is a new member.
func (b *bench) joined(n byte, r member.Role) *identity.PrivateKey {
	b.t.Helper()
	k, secret := key(n), b.invite(r)
	b.join(k, secret, b.request(k, secret, r))
	if r == member.RoleHost {
		do[operator.MemberView](b, operator.Approve{Addr: k.Address().String()})
	}
	if err := b.world.Standing(k.Address(), b.now); err != nil {
		b.t.Fatal(err)
	}
	return k
}

func state(b *bench, a answer) step.JoinState {
	b.t.Helper()
	if a.refused != nil {
		b.t.Fatalf("refused: %v", a.refused)
	}
	v, err := step.Body[step.JoinAnswer](a.body)
	if err != nil {
		b.t.Fatal(err)
	}
	return v.State
}

// A world is the rest of the node's core. It survives the operator's crashes.
type world struct {
	*member.Roster
	charter member.Charter
	policy  member.Policy
	self    identity.Address
	refs    []identity.Hash // of revocations
}

func newWorld(c member.Charter, p member.Policy) *world {
	return &world{Roster: member.NewRoster(c), charter: c, policy: p, self: c.Signer()}
}

func (w *world) Charter() (member.Charter, wire.Object) { return w.charter, wire.Draft(w.charter) }
func (w *world) Policy() (member.Policy, wire.Object)   { return w.policy, wire.Draft(w.policy) }

func (w *world) LastRevocation() (uint64, identity.Hash) {
	if n := len(w.refs); n > 0 {
		return uint64(n), w.refs[n-1]
	}
	return 0, identity.Hash{}
}

func (w *world) Enact(ctx *step.Context, msg wire.Message) {
	obj := wire.Draft(msg)
	ctx.Publish(step.TopicMembers, obj)
	var err error
	switch m := msg.(type) {
	case member.Credential:
		err = w.Admit(m, obj)
	case member.Revocation:
		if n, prev := w.LastRevocation(); m.Number != n+1 || m.Prev != prev {
			panic("a gap between revocations")
		}
		w.refs = append(w.refs, obj.Ref(ctx.Market))
		err = w.Sanction(m)
	case member.Policy:
		_, prev := w.Policy()
		if m.Number != w.policy.Number+1 || m.Prev != prev.Ref(ctx.Market) {
			panic("a gap between policies")
		}
		w.policy = m
	}
	if err != nil {
		panic(err)
	}
}

// quote is a host's signed quote for a consumer.
func (b *bench) quote(host *identity.PrivateKey, change func(*market.Terms)) wire.Verified[market.Quote] {
	b.t.Helper()
	consumer := key(3).Address()
	t := market.Terms{Lease: wire.ID{1}, Seq: 1, Host: host.Address(), Consumer: consumer, By: consumer, Attendant: consumer, Bid: wire.ID{2},
		Type: market.OnDemand, GPUs: 2, Model: "RTX_4090", Rate: 300_000_000, Grace: 5, OnEnd: market.OnEndStop, Reservation: wire.ID{9},
		Tariff: ledger.Tariff{GPU: 600_000_000, DiskRunning: 1_000_000, VolumeRunning: 2_000_000, VolumeStopped: 4_000_000}}
	if change != nil {
		change(&t)
	}
	return seal(b, host, market.Quote{Host: host.Address(), Lease: t.Lease, Request: identity.Hash{1}, Terms: wire.Marshal(t), At: b.now,
		Expires: b.now + 10*member.Second})
}

const rate = ledger.Rate(603_000_000) // of the quote

func reserve(q wire.Verified[market.Quote]) ledger.Reserve {
	t, _ := q.Value().Contract(q.Ref())
	return ledger.Reserve{Consumer: t.Consumer, Reservation: t.Reservation, Lease: t.Lease, Host: t.Host, By: t.By, Quote: q.Ref(),
		Cap: ledger.Amount(rate), MaxRate: rate, Budget: t.Budget}
}

// claim is a voucher for a total at an entry, and that entry.
func (b *bench) claim(r ledger.Reservation, seq uint64, total ledger.Amount) (wire.Verified[ledger.Voucher], wire.Verified[ledger.Usage]) {
	u := seal(b, key(2), ledger.Usage{Host: r.Host, Lease: r.Lease, Seq: seq, First: b.world.charter.Clock().Minute(b.now), Count: 1, Billable: 1,
		Status: ledger.StatusRunning, Basis: ledger.BasisAttended, Numerator: int64(total) * 3600})
	v := seal(b, key(3), ledger.Voucher{Reservation: r.ID, Lease: r.Lease, By: r.By, Host: r.Host, Total: total, Minute: u.Value().Last(),
		Usage: u.Ref(), Seq: seq})
	return v, u
}

func credits(s string) ledger.Amount {
	a, err := ledger.ParseAmount(s)
	if err != nil {
		panic(err)
	}
	return a
}
