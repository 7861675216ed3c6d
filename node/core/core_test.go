package core_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"souk/market"
	"souk/node/core"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

const noon = member.Time(1_800_014_400_000)

func key(n byte) *identity.PrivateKey {
	k, err := identity.ParsePrivateKey(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		panic(err)
	}
	return k
}

// A peer is a node of a test: a core, its key, and what its store holds.
type peer struct {
	t      *testing.T
	now    *member.Time
	key    *identity.PrivateKey
	node   *core.Node
	rows   map[string][]byte
	guards map[string]identity.Hash
	others map[identity.Address]*peer
	out    *step.Out // of the last step
	said   []wire.Object
	away   bool
	ids    uint64
	logs   map[string][]byte
	lie    func(op step.Op, body []byte) *step.Reply // answers in its place
	told   []step.Notice
}

// town is an operator that has founded a testnet, and others that have not joined it.
func town(t *testing.T) (op, a, b *peer) {
	now := noon
	all := map[identity.Address]*peer{}
	for i, p := range []**peer{&op, &a, &b} {
		k := key(byte(i + 1))
		*p = &peer{t: t, now: &now, key: k, node: core.New(k.Address()), rows: map[string][]byte{}, logs: map[string][]byte{}, guards: map[string]identity.Hash{}, others: all}
		all[k.Address()] = *p
		(*p).boot()
	}
	c := member.Charter{Salt: wire.ID{7}, Name: "bazaar", Founded: now, ChainID: 1, Operators: []identity.PublicKey{op.key.Public()}, Threshold: 1,
		Testnet: true, Slot: 60}
	must[observer.Standing](op, observer.Found{Charter: c, Policy: member.DefaultPolicy(op.key.Address(), now)})
	return op, a, b
}

func (p *peer) boot() {
	p.step(step.Boot{ID: wire.ID{1}, Seed: identity.Hash{2}, Key: p.key.Public(), Addrs: []string{"/ip4/192.0.2.1/tcp/1"}, Version: "test"})
}

// crash loads the node from its rows, and starts it.
func (p *peer) crash() {
	p.t.Helper()
	n, err := core.Load(p.key.Address(), func(yield func(k, v []byte) error) error {
		for k, v := range p.rows {
			if err := yield([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.node = n
	p.boot()
}

// step takes an input, keeps what must be kept, and carries requests to the others and their answers back.
func (p *peer) step(in step.Input) *step.Out {
	p.t.Helper()
	out, _ := p.node.Step(*p.now, in)
	for _, r := range out.Rows {
		if table.Table(r.Key[0]).Kind() == table.Log {
			p.logs[string(r.Key)] = r.Value
			continue
		}
		if r.Delete {
			delete(p.rows, string(r.Key))
		} else {
			p.rows[string(r.Key)] = r.Value
		}
	}
	for _, g := range out.Guards {
		at := string(g.Chain) + string(rune(g.Place))
		if h, ok := p.guards[at]; ok && h != g.Hash {
			p.t.Fatalf("two contents for place %d of %q", g.Place, g.Chain)
		}
		p.guards[at] = g.Hash
	}
	all := p.node.Rows()
	for _, r := range all {
		if !bytes.Equal(p.rows[string(r.Key)], r.Value) {
			p.t.Fatalf("%T: row %q was changed and not flushed", in, r.Key)
		}
	}
	if len(all) != len(p.rows) {
		p.t.Fatalf("%T: the core has %d rows, the store %d", in, len(all), len(p.rows))
	}
	p.out = out
	p.told = append(p.told, out.Notices...)
	for _, o := range out.Publish {
		p.said = append(p.said, p.sign(out, o.Object))
	}
	for _, s := range out.Sends {
		p.step(p.carry(s, out))
		p.out = out
	}
	return out
}

func (p *peer) sign(out *step.Out, o wire.Object) wire.Object {
	p.t.Helper()
	signed, err := core.Sign(out.Market, p.key, o)
	if err != nil {
		p.t.Fatal(err)
	}
	return signed
}

func (p *peer) verify(objects []wire.Object) ([]wire.AnyVerified, error) {
	return core.OpenAll(wire.Opener{Market: p.node.Market(), Verifier: identity.Secp256k1{}}, objects)
}

// carry brings a request to its peer, as the network does.
func (p *peer) carry(s step.Send, out *step.Out) step.Response {
	p.t.Helper()
	to := p.others[s.To]
	if to == nil || to.away {
		return step.Response{ID: s.ID, Err: &step.Failure{Code: step.FailUnreachable}}
	}
	var objects []wire.Object
	for _, o := range s.Frame.Objects {
		objects = append(objects, p.sign(out, o))
	}
	rep := to.ask(p, s.Proto, step.Op(s.Frame.Op), s.Frame.Body, objects...)
	if rep.Refusal != nil {
		return step.Response{ID: s.ID, Err: &step.Failure{Code: step.FailRefused, Refusal: rep.Refusal}}
	}
	got, err := p.verify(rep.Frame.Objects)
	if err != nil {
		return step.Response{ID: s.ID, Err: &step.Failure{Code: step.FailInvalid, Detail: err.Error()}}
	}
	return step.Response{ID: s.ID, Op: step.Op(rep.Frame.Op), Objects: got, Body: rep.Frame.Body}
}

// ask is a request of another peer, answered with everything signed.
func (p *peer) ask(by *peer, proto step.Protocol, op step.Op, body []byte, objects ...wire.Object) step.Reply {
	p.t.Helper()
	got, err := p.verify(objects)
	if err != nil {
		return step.Reply{Refusal: step.Refuse(step.RefuseBadRequest, "%v", err)}
	}
	if p.lie != nil {
		if r := p.lie(op, body); r != nil {
			return *r
		}
	}
	p.ids++
	out := p.step(step.Request{ID: p.ids, From: by.key.Public(), Peer: by.key.Address(), Proto: proto, Op: op, Objects: got, Body: body})
	if len(out.Replies) != 1 {
		p.t.Fatalf("%s: %d replies", proto, len(out.Replies))
	}
	r := out.Replies[0]
	for i, o := range r.Frame.Objects {
		r.Frame.Objects[i] = p.sign(out, o)
	}
	for _, s := range r.Append {
		r.Frame.Objects = append(r.Frame.Objects, p.span(out, s)...)
	}
	return r
}

// span are the objects of a log.
func (p *peer) span(out *step.Out, s step.Span) []wire.Object {
	p.t.Helper()
	var list []wire.Object
	for _, k := range slices.Sorted(maps.Keys(p.logs)) {
		if k < string(s.From) || k >= string(s.To) || len(list) == s.Limit {
			continue
		}
		var o wire.Object
		if err := wire.Load(p.logs[k], &o); err != nil {
			p.t.Fatal(err)
		}
		list = append(list, p.sign(out, o))
	}
	return list
}

// try gives a command. The answer may come with a peer's.
func (p *peer) try(cmd any) (any, error) {
	p.t.Helper()
	var answers []step.Answer
	out, _ := p.node.Step(*p.now, step.Local{ID: 1, Cmd: cmd})
	queue := []*step.Out{out}
	for len(queue) > 0 {
		out, queue = queue[0], queue[1:]
		p.keep(out)
		answers = append(answers, out.Answers...)
		for _, s := range out.Sends {
			next, _ := p.node.Step(*p.now, p.carry(s, out))
			queue = append(queue, next)
		}
	}
	if len(answers) != 1 {
		p.t.Fatalf("%T: %d answers", cmd, len(answers))
	}
	return answers[0].Value, answers[0].Err
}

func (p *peer) keep(out *step.Out) {
	for _, r := range out.Rows {
		if table.Table(r.Key[0]).Kind() == table.Log {
			p.logs[string(r.Key)] = r.Value
			continue
		}
		if r.Delete {
			delete(p.rows, string(r.Key))
		} else {
			p.rows[string(r.Key)] = r.Value
		}
	}
	for _, o := range out.Publish {
		p.said = append(p.said, p.sign(out, o.Object))
	}
}

func must[T any](p *peer, cmd any) T {
	p.t.Helper()
	v, err := p.try(cmd)
	if err != nil {
		p.t.Fatalf("%T: %v", cmd, err)
	}
	return v.(T)
}

func (p *peer) fails(cmd any, want step.ProblemCode) {
	p.t.Helper()
	_, err := p.try(cmd)
	var problem *step.Problem
	if !errors.As(err, &problem) || problem.Code != want {
		p.t.Fatalf("%T: got %v, want problem %d", cmd, err, want)
	}
}

var secrets byte

// invite is a code of the operator's for a role.
func (p *peer) invite(r member.Role) member.Invite {
	p.t.Helper()
	secrets++
	must[operator.Invitation](p, operator.InviteCreate{Secret: wire.ID{secrets, 1}, Role: r})
	return member.Invite{Market: p.node.Market().ID, Operator: p.key.Public(), Addrs: []string{"/ip4/192.0.2.1/tcp/1"}, Secret: wire.ID{secrets, 1}, Role: r}
}

func (p *peer) join(i member.Invite) observer.Standing {
	p.t.Helper()
	must[observer.Prospect](p, observer.Look{Invite: i})
	return must[observer.Standing](p, observer.Join{Invite: i, Devices: []member.Device{{UUID: "GPU-1", Model: "RTX_4090", Simulated: true}},
		Machine: member.Machine{Runtime: "docker"}})
}

// host is p as a member that hosts.
func (p *peer) host(op *peer) {
	p.t.Helper()
	p.join(op.invite(member.RoleHost))
	must[operator.MemberView](op, operator.Approve{Addr: p.key.Address().String(), Tier: member.TierCommunity})
	*p.now += 16 * member.Second
	p.step(step.Tick{})
}

func (p *peer) seal(msg wire.Message) wire.Object {
	p.t.Helper()
	o, err := core.Sign(p.node.Market(), p.key, wire.Draft(msg))
	if err != nil {
		p.t.Fatal(err)
	}
	return o
}

// hears is a gossiped object.
func (p *peer) hears(objects ...wire.Object) {
	p.t.Helper()
	for _, o := range objects {
		v, err := p.verify([]wire.Object{o})
		if err != nil {
			p.t.Fatal(err)
		}
		p.step(step.Gossip{Msg: v[0]})
	}
}

func TestConsumerJoinsAtOnceAndHostWhenApproved(t *testing.T) {
	op, a, b := town(t)
	if s := a.join(op.invite(member.RoleConsumer)); s.State != "approved" || s.Roles != "consumer" {
		t.Fatalf("consumer: %+v", s)
	}
	a.crash()
	if s := a.join(op.invite(member.RoleConsumer)); s.State != "approved" {
		t.Fatalf("again, after a crash: %+v", s)
	}
	if s := b.join(op.invite(member.RoleHost)); s.State != "pending" {
		t.Fatalf("host: %+v", s)
	}
	b.crash()
	op.away = true
	*b.now += member.Hour / 60
	b.step(step.Tick{}) // nobody answers
	op.away = false
	must[operator.MemberView](op, operator.Approve{Addr: b.key.Address().String(), Tier: member.TierCommunity})
	*b.now += member.Hour / 60
	b.step(step.Tick{})
	if s := must[observer.Standing](b, observer.Where{}); s.State != "approved" || s.Tier != "community" {
		t.Fatalf("host, approved: %+v", s)
	}
}

func TestCodesThatAreRefusedBindNobody(t *testing.T) {
	op, a, b := town(t)
	used := op.invite(member.RoleConsumer)
	a.join(used)
	b.fails(observer.Look{Invite: used}, step.ProblemTrust)
	unknown := used
	unknown.Secret = wire.ID{99}
	b.fails(observer.Look{Invite: unknown}, step.ProblemTrust)
	fresh := op.invite(member.RoleHost)
	op.away = true
	b.fails(observer.Look{Invite: fresh}, step.ProblemUnreachable)
	op.away = false
	must[observer.Prospect](b, observer.Look{Invite: fresh})
	b.fails(observer.Join{Invite: unknown}, step.ProblemTrust)
	if s := must[observer.Standing](b, observer.Where{}); s.State != "none" {
		t.Errorf("after a refused code: %+v", s)
	}
	other := fresh
	other.Market = identity.Hash{9}
	b.fails(observer.Join{Invite: other}, step.ProblemTrust)
	b.crash()
	if s := b.join(fresh); s.State != "pending" {
		t.Errorf("with a good code: %+v", s)
	}
}

func TestFoundingChecksWhatItIsGiven(t *testing.T) {
	op, a, _ := town(t)
	c := member.Charter{Salt: wire.ID{7}, Name: "second", Founded: noon, ChainID: 1, Operators: []identity.PublicKey{a.key.Public()}, Threshold: 1,
		Testnet: true, Slot: 60}
	p := member.DefaultPolicy(a.key.Address(), noon)
	nameless, foreign := c, c
	nameless.Name = ""
	foreign.Operators = []identity.PublicKey{op.key.Public()}
	a.fails(observer.Found{Charter: nameless, Policy: p}, step.ProblemUsage)
	a.fails(observer.Found{Charter: foreign, Policy: p}, step.ProblemUsage)
	a.fails(observer.Found{Charter: c, Policy: p, Alias: string(make([]byte, 40))}, step.ProblemUsage)
	op.fails(observer.Found{Charter: c, Policy: p}, step.ProblemConflict)
}

func TestHelloTellsWhyNot(t *testing.T) {
	op, a, b := town(t)
	a.join(op.invite(member.RoleConsumer))
	hello := func(who *peer, change func(*step.HelloBody)) step.RefusalCode {
		body, objects := who.node.Hello()
		body.Now = *who.now + 7*member.Second
		if change != nil {
			change(&body)
		}
		r := op.ask(who, step.ProtoHello, 0, wire.Marshal(body), objects...)
		if r.Refusal == nil {
			if !slices.Contains(op.out.Admit, who.key.Address()) {
				t.Error("a good hello does not admit")
			}
			return 0
		}
		return r.Refusal.Code
	}
	if got := hello(a, nil); got != 0 {
		t.Errorf("member: %d", got)
	}
	op.step(step.Peer{Address: a.key.Address(), Key: a.key.Public(), Up: true})
	// Hello said 7 s; the sync that follows is newer, and its clock is right.
	if s := must[observer.Standing](op, observer.Where{}); s.Skew != 0 {
		t.Errorf("skew %d ms, want 0", s.Skew)
	}
	if got := hello(a, func(h *step.HelloBody) { h.Market = identity.Hash{1} }); got != step.RefuseOtherMarket {
		t.Errorf("other market: %d", got)
	}
	if got := hello(b, func(h *step.HelloBody) { h.Market = op.node.Market().ID }); got != step.RefuseNoCredential {
		t.Errorf("stranger: %d", got)
	}
	if r := op.ask(b, step.ProtoHello, 0, []byte{0xff}); r.Refusal == nil || r.Refusal.Code != step.RefuseBadHello {
		t.Errorf("garbage: %+v", r.Refusal)
	}
	if r := b.ask(a, step.ProtoHello, 0, wire.Marshal(step.HelloBody{})); r.Refusal == nil || r.Refusal.Code != step.RefuseNoCredential {
		t.Errorf("at a node without a market: %+v", r.Refusal)
	}
	sanction := func(s member.Sanction) {
		must[operator.SanctionView](op, operator.Sanction{Addr: a.key.Address().String(), What: s, Reason: "late"})
	}
	sanction(member.Suspend)
	if got := hello(a, nil); got != 0 {
		t.Errorf("suspended: %d, but its leases run on", got)
	}
	sanction(member.Revoke)
	op.crash()
	if got := hello(a, nil); got != step.RefuseRevoked {
		t.Errorf("revoked: %d", got)
	}
}

// offer is what a host gossips.
func (p *peer) offer(seq uint64, at member.Time) wire.Object {
	return p.seal(market.Offer{Host: p.key.Address(), Seq: seq, At: at, Expires: at + 600*member.Second, Grace: 5,
		Groups: []market.Group{{Model: "RTX_4090", Count: 1, Free: 1, Price: 2, Floor: 1, Simulated: true}}})
}

func TestOffersOfTheMomentAreListed(t *testing.T) {
	op, a, b := town(t)
	a.host(op)
	b.join(op.invite(member.RoleConsumer))
	b.step(step.Peer{Address: op.key.Address(), Key: op.key.Public(), Up: true}) // sync: b hears of a
	listed := func() int { return len(b.node.Observer().Listings(*b.now)) }
	for _, tt := range []struct {
		name string
		seq  uint64
		at   member.Time
		want uint64
	}{
		{"stale", 5, -91 * member.Second, 0},
		{"from the future", 5, 91 * member.Second, 0},
		{"of now", 2, 0, 2},
		{"older", 1, member.Second, 2},
		{"too soon", 3, member.Second / 2, 2},
		{"newer", 3, 89 * member.Second, 3},
	} {
		b.hears(a.offer(tt.seq, *b.now+tt.at))
		f, _ := b.node.Observer().Offer(a.key.Address())
		if f.Seq != tt.want {
			t.Errorf("%s: have %d, want %d", tt.name, f.Seq, tt.want)
		}
	}
	b.crash()
	if listed() != 1 {
		t.Fatal("not listed")
	}
	must[operator.SanctionView](op, operator.Sanction{Addr: a.key.Address().String(), What: member.Suspend, Reason: "late"})
	b.hears(op.said[len(op.said)-1])
	if listed() != 0 {
		t.Error("a suspended host is listed")
	}
	b.crash()
	*b.now += 90 * member.Second
	b.hears(a.offer(4, *b.now))
	if f, _ := b.node.Observer().Offer(a.key.Address()); f.Seq != 3 || listed() != 0 {
		t.Error("a suspended host's offer is taken")
	}
	must[operator.SanctionView](op, operator.Sanction{Addr: a.key.Address().String(), What: member.Reinstate, Reason: "back"})
	b.hears(op.said[len(op.said)-1])
	if listed() != 1 {
		t.Error("a reinstated host is not listed")
	}
	*b.now += 601 * member.Second
	if listed() != 0 {
		t.Error("an offer that ended is listed")
	}
	*b.now += 2 * member.Hour
	b.step(step.Tick{})
	if _, ok := b.node.Observer().Offer(a.key.Address()); ok {
		t.Error("it is never forgotten")
	}
}

func TestSyncBringsWhatGossipMissed(t *testing.T) {
	op, a, b := town(t)
	a.host(op)
	b.join(op.invite(member.RoleConsumer))
	op.hears(a.offer(1, *a.now))
	b.step(step.Peer{Address: op.key.Address(), Key: op.key.Public(), Up: true})
	if len(b.node.Observer().Listings(*b.now)) != 1 || len(b.node.Observer().Members()) != 3 {
		t.Errorf("%d listings, %d members", len(b.node.Observer().Listings(*b.now)), len(b.node.Observer().Members()))
	}
	have := len(b.rows)
	b.step(step.Peer{Address: op.key.Address()})
	b.step(step.Peer{Address: op.key.Address(), Key: op.key.Public(), Up: true})
	if n := len(op.out.Replies[0].Frame.Objects); n > 0 || len(b.rows) != have {
		t.Errorf("a second sync brings %d objects again", n)
	}
	r := op.ask(b, step.ProtoSync, step.OpSync, wire.Marshal(step.SyncBody{Have: make([]uint64, 16384)}))
	if r.Refusal != nil || len(r.Frame.Objects) == 0 {
		t.Errorf("a long list: %+v", r.Refusal)
	}
	if r := op.ask(b, step.ProtoSync, step.OpSync, []byte{1}); r.Refusal == nil {
		t.Error("garbage is answered")
	}
}

func TestBeatsCountOnlyWhenTheyAreHeardThen(t *testing.T) {
	op, a, _ := town(t)
	a.host(op)
	beat := func(seq uint64, m member.Minute) wire.Object {
		return a.seal(reliability.Beat{Host: a.key.Address(), Minute: m, Seq: seq})
	}
	last := func() uint64 {
		return must[observer.Repute](op, observer.Reputation{Host: a.key.Address().String()}).Seq
	}
	m := member.Clock{Slot: 60 * member.Second}.Minute(*op.now)
	if op.hears(beat(7, m-5)); last() != 0 {
		t.Error("a beat of long ago counts")
	}
	if op.hears(beat(7, m+5)); last() != 0 {
		t.Error("a beat of the future counts")
	}
	if op.hears(beat(7, m)); last() != 7 {
		t.Error("a beat of now does not count")
	}
	if !op.node.Observer().Heard(m) || op.node.Observer().Fresh() != *op.now {
		t.Error("a beat is not heard")
	}
}

func TestPolicyWaitsForItsDayAndAddressesDoNot(t *testing.T) {
	op, a, _ := town(t)
	a.join(op.invite(member.RoleConsumer))
	first, obj := a.node.Observer().Policy()
	next := first
	next.Number, next.Prev, next.Effective, next.Fee, next.Bootstrap = first.Number+1, obj.Ref(a.node.Market()), *a.now+member.Hour, 7,
		[]string{"/ip4/192.0.2.9/tcp/9"}
	torn := next
	torn.Prev = identity.Hash{9}
	a.hears(op.seal(torn))
	a.hears(op.seal(next))
	if p, _ := a.node.Observer().Policy(); p.Fee != 0 {
		t.Error("a policy is in force before its day")
	}
	told := slices.ContainsFunc(a.out.Contacts, func(c step.Contact) bool { return slices.Equal(c.Addrs, next.Bootstrap) })
	if !told {
		t.Error("its addresses are not taken at once")
	}
	a.crash()
	if p, _ := a.node.Observer().Policy(); p.Fee != 0 {
		t.Error("a crash puts it in force")
	}
	*a.now += member.Hour
	a.step(step.Tick{})
	if p, _ := a.node.Observer().Policy(); p.Fee != 7 {
		t.Error("its day has come, and it is not in force")
	}
}

func TestCredentialRenewsItself(t *testing.T) {
	op, a, _ := town(t)
	a.join(op.invite(member.RoleConsumer))
	before, _, _ := a.node.Observer().Credential(a.key.Address())
	*a.now += 25 * member.Hour
	op.away = true
	a.step(step.Tick{})
	op.away = false
	*a.now += member.Hour
	a.step(step.Tick{})
	after, _, _ := a.node.Observer().Credential(a.key.Address())
	if after.Serial <= before.Serial || after.NotAfter <= before.NotAfter {
		t.Errorf("serial %d until %v, before %d until %v", after.Serial, after.NotAfter, before.Serial, before.NotAfter)
	}
}
