package consumer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// paper signs by writing down who signs what, which is enough where nobody forges, and fast.
type paper identity.Address

func (p paper) Address() identity.Address { return identity.Address(p) }

func (p paper) Sign(d identity.Hash) (s identity.Signature, err error) {
	copy(s[:20], p[:])
	copy(s[20:52], d[:])
	s[64] = 27
	return s, nil
}

func (paper) Recover(d identity.Hash, s identity.Signature) (identity.Address, error) {
	if identity.Hash(s[20:52]) != d {
		return identity.Address{}, identity.ErrSignature
	}
	return identity.Address(s[:20]), nil
}

func named(s string) (a identity.Address) { copy(a[:], s); return a }

func idOf(n int) (id wire.ID) {
	copy(id[:], fmt.Sprintf("%08d%08d", n, 7919*n))
	return id
}

// A rig is one consumer with the hosts and the bank that it deals with, all scripted, on one clock.
type rig struct {
	t       *testing.T
	now     member.Time
	market  wire.Market
	charter member.Charter
	policy  member.Policy
	self    identity.Address
	bank    *fakeBank
	hosts   []*fakeHost
	c       *Consumer
	seq     *step.Sequence
	boots   int
	old     bool // the next start is out of a quarantine: what was signed since is not known
	wake    member.Time

	store   map[string][]byte // what the consumer's keepers have flushed
	log     map[string][]byte
	guards  map[string]step.Guard
	queue   []step.Send
	answers map[uint64]step.Answer
	notices []step.Notice
	replies []step.Reply
	steps   int
	asked   uint64

	hearing  []market.AliveReply
	heard    map[wire.ID]map[member.Minute]bool // minutes with an answer that was delivered; true: it said running
	vouchers map[string]identity.Hash           // by reservation and place
	signed   map[wire.ID]ledger.Voucher         // the highest

	attends  []identity.Address // whose leases this consumer attends
	attended *rig               // the consumer that attends this one's

	// What goes wrong. Each may be nil.
	lose     func(step.Send) bool // on the way there
	loseBack func(step.Send) bool // on the way back
	crash    func(n int) crash
}

// A crash is when the node ends in a step.
type crash int

const (
	none crash = iota
	before
	after
	later
)

func newRig(t *testing.T) *rig {
	r := &rig{t: t, now: 1_800_000_000_000, self: named("consumer"), seq: new(step.Sequence), store: map[string][]byte{}, log: map[string][]byte{},
		guards: map[string]step.Guard{}, answers: map[uint64]step.Answer{}, heard: map[wire.ID]map[member.Minute]bool{},
		vouchers: map[string]identity.Hash{}, signed: map[wire.ID]ledger.Voucher{}}
	key, err := identity.ParsePrivateKey(append(make([]byte, 31), 1))
	if err != nil {
		t.Fatal(err)
	}
	r.charter = member.Charter{Salt: idOf(1), Name: "test", Testnet: true, Slot: 60, Threshold: 1, Operators: []identity.PublicKey{key.Public()}}
	r.market = wire.NewMarket(identity.Keccak([]byte("market")), 1, identity.Address{})
	r.bank = &fakeBank{r: r, self: key.Address(), holds: map[wire.ID]*fakeHold{}, funds: 100 * ledger.Credit}
	r.policy = member.DefaultPolicy(r.bank.self, 0)
	r.hosts = []*fakeHost{newHost(r, "alpha", 340_000_000), newHost(r, "beta", 350_000_000)}
	r.c = New(r)
	r.step(r.c.Boot)
	return r
}

// The rig is the World.

func (r *rig) CheckQuery(market.Query) error { return nil }

func (r *rig) Match(w market.Want, now member.Time) ([]market.Candidate, *market.Miss) {
	return market.Match(r.Listings(now), w, now)
}

func (r *rig) Listings(now member.Time) (out []market.Listing) {
	for _, h := range r.hosts {
		if h.offer.Live(now) {
			out = append(out, market.Listing{Offer: h.offer, Tier: member.TierSecure, Alias: h.name, Reliability: 1_000_000})
		}
	}
	return out
}

func (r *rig) Offer(a identity.Address) (market.Offer, bool) {
	h := r.host(a)
	if h == nil {
		return market.Offer{}, false
	}
	return h.offer, true
}

func (r *rig) Credential(a identity.Address) (member.Credential, wire.Object, bool) {
	if h := r.host(a); h != nil {
		return member.Credential{Alias: h.name, Owner: cmp.Or(h.owner, h.self)}, wire.Object{}, true
	}
	if a == r.self {
		return member.Credential{Alias: "consumer", Owner: r.self}, wire.Object{}, true
	}
	return member.Credential{}, wire.Object{}, false
}

func (r *rig) Find(ref string) (identity.Address, *step.Problem) {
	if ref == "nobody" {
		return identity.Address{}, step.Fail(step.ProblemNotFound, "", "%q names 0 members", ref)
	}
	return named(ref), nil
}

func (r *rig) Standing(identity.Address, member.Time) error { return nil }
func (r *rig) Bank() identity.Address                       { return r.bank.self }

func (r *rig) host(a identity.Address) *fakeHost {
	for _, h := range r.hosts {
		if h.self == a {
			return h
		}
	}
	return nil
}

func (r *rig) clock() member.Clock { return r.charter.Clock() }

func (r *rig) minute() member.Minute { return r.clock().Minute(r.now) }

func (r *rig) seal(by identity.Address, msg wire.Message) wire.Object {
	o, err := wire.Seal(r.market, paper(by), msg)
	if err != nil {
		r.t.Fatal(err)
	}
	return o
}

// sign is what the shell does with a draft on its way out.
func (r *rig) sign(o wire.Object) wire.Object {
	if !o.IsDraft() {
		return o
	}
	var msg wire.Message
	var err error
	switch o.Kind {
	case wire.KindLeaseRequest:
		msg, err = wire.Decode[market.Request](o)
	case wire.KindReserve:
		msg, err = wire.Decode[ledger.Reserve](o)
	case wire.KindTerms:
		msg, err = wire.Decode[market.Terms](o)
	case wire.KindAlive:
		msg, err = wire.Decode[market.Alive](o)
	case wire.KindVoucher:
		msg, err = wire.Decode[ledger.Voucher](o)
	case wire.KindCommand:
		msg, err = wire.Decode[market.Command](o)
	case wire.KindClose:
		msg, err = wire.Decode[ledger.Close](o)
	case wire.KindMandate:
		msg, err = wire.Decode[ledger.Mandate](o)
	default:
		r.t.Fatalf("a draft of %v is sent", o.Kind)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return r.seal(r.self, msg)
}

func (r *rig) open(o wire.Object) wire.AnyVerified {
	op := wire.Opener{Market: r.market, Verifier: paper{}}
	var v wire.AnyVerified
	var err error
	switch o.Kind {
	case wire.KindQuote:
		v, err = wire.Open[market.Quote](op, o)
	case wire.KindReservation:
		v, err = wire.Open[ledger.Reservation](op, o)
	case wire.KindCert:
		v, err = wire.Open[market.Cert](op, o)
	case wire.KindNoLease:
		v, err = wire.Open[ledger.NoLease](op, o)
	case wire.KindAliveReply:
		v, err = wire.Open[market.AliveReply](op, o)
	case wire.KindUsage:
		v, err = wire.Open[ledger.Usage](op, o)
	case wire.KindVolumeRecord:
		v, err = wire.Open[market.VolumeRecord](op, o)
	case wire.KindNotice:
		v, err = wire.Open[market.Notice](op, o)
	case wire.KindSettleReceipt:
		v, err = wire.Open[ledger.SettleReceipt](op, o)
	case wire.KindReceipt:
		v, err = wire.Open[reliability.Receipt](op, o)
	case wire.KindTerms:
		v, err = wire.Open[market.Terms](op, o)
	case wire.KindVoucher:
		v, err = wire.Open[ledger.Voucher](op, o)
	case wire.KindMandate:
		v, err = wire.Open[ledger.Mandate](op, o)
	case wire.KindLodged:
		v, err = wire.Open[market.Lodged](op, o)
	default:
		r.t.Fatalf("no %v is answered", o.Kind)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// step is one step of the core: input, tick, rows to the store; then it may end.
func (r *rig) step(input func(*step.Context)) {
	r.steps++
	out := &step.Out{}
	ctx := &step.Context{Now: r.now, Self: r.self, Market: r.market, Charter: r.charter, Policy: r.policy, Clock: r.clock(),
		Boot: step.Boot{Seed: identity.Keccak([]byte{byte(r.boots), byte(r.boots >> 8)}), AttendFor: r.attends}, Out: out, Seq: r.seq}
	input(ctx)
	r.wake = r.c.Tick(ctx)
	c := none
	if r.crash != nil {
		c = r.crash(r.steps)
	}
	if c == before {
		r.hearing = nil
		r.restart()
		return
	}
	r.persist(out)
	for _, s := range out.Sends {
		for i, o := range s.Frame.Objects {
			s.Frame.Objects[i] = r.sign(o)
			r.checkSigned(s.Frame.Objects[i])
		}
		r.queue = append(r.queue, s)
	}
	for _, a := range out.Answers {
		r.answers[a.ID] = a
	}
	r.replies = append(r.replies, out.Replies...)
	r.notices = append(r.notices, out.Notices...)
	switch c {
	case after:
		r.restart()
	case later:
		for _, s := range r.queue {
			r.serve(s) // everything arrives; no answer does
		}
		r.restart()
	}
}

func (r *rig) persist(out *step.Out) {
	r.t.Helper()
	var rows []step.Row
	for _, k := range r.c.Keepers() {
		rows = k.Flush(rows)
	}
	for _, row := range rows {
		if row.Delete {
			delete(r.store, string(row.Key))
		} else {
			r.store[string(row.Key)] = row.Value
		}
	}
	for _, row := range out.Rows {
		if t := table.Table(row.Key[0]); t != table.ConsumerUsage && t != table.LeaseReceipt {
			r.t.Fatalf("a row of %v is put by hand", table.Table(row.Key[0]))
		}
		r.log[string(row.Key)] = row.Value
	}
	for _, g := range out.Guards {
		top, ok := r.guards[string(g.Chain)]
		if ok && (g.Place < top.Place || g.Place == top.Place && g.Hash != top.Hash) {
			r.t.Fatalf("step %d: place %d of chain %q is taken twice", r.steps, g.Place, g.Chain)
		}
		r.guards[string(g.Chain)] = g
	}
	for _, a := range r.hearing {
		if r.heard[a.Lease] == nil {
			r.heard[a.Lease] = map[member.Minute]bool{}
		}
		r.heard[a.Lease][a.Minute] = r.heard[a.Lease][a.Minute] || a.State == market.StateRunning
	}
	r.hearing = nil
	r.checkRows()
}

// checkRows compares what the consumer holds with what it has flushed: a forgotten Touch shows here.
func (r *rig) checkRows() {
	r.t.Helper()
	var rows []step.Row
	for _, k := range r.c.Keepers() {
		rows = k.Rows(rows)
	}
	if len(rows) != len(r.store) {
		r.t.Fatalf("step %d: %d rows held, %d stored", r.steps, len(rows), len(r.store))
	}
	for _, row := range rows {
		if string(r.store[string(row.Key)]) != string(row.Value) {
			r.t.Fatalf("step %d: row %x of %v was changed and not flushed", r.steps, row.Key, table.Table(row.Key[0]))
		}
	}
}

// checkSigned holds every voucher against what the rig itself has seen delivered.
func (r *rig) checkSigned(o wire.Object) {
	if o.Kind != wire.KindVoucher {
		return
	}
	v, err := wire.Decode[ledger.Voucher](o)
	if err != nil {
		r.t.Fatal(err)
	}
	key := fmt.Sprint(v.Reservation, v.Seq)
	if old, ok := r.vouchers[key]; ok && old != o.Ref(r.market) {
		r.t.Fatalf("two vouchers at place %d", v.Seq)
	}
	r.vouchers[key] = o.Ref(r.market)
	var m ledger.Meter
	starts := map[identity.Hash]bool{}
	l := r.host(v.Host).leases[v.Lease]
	for _, e := range l.entries[:v.Seq] {
		u, _ := wire.Decode[ledger.Usage](e)
		rate, _ := l.terms.Tariff.Rate(u.Status)
		for i := range member.Minute(u.Count) {
			if u.Billable>>i&1 == 0 {
				continue
			}
			ran, answered := r.heard[v.Lease][u.First+i]
			h := r.host(v.Host)
			if seen := len(h.receipts[u.First+i]); u.Basis == ledger.BasisMandate || u.Basis == ledger.BasisStorage && !answered {
				if seen == 0 || u.Basis == ledger.BasisMandate && seen != len(h.panel) {
					r.t.Fatalf("a voucher pays minute %d, which %d witnesses saw", u.First+i, seen)
				}
			} else if u.Status == ledger.StatusMinimum {
				if starts[u.Start] {
					r.t.Fatalf("a voucher pays the minimum in minute %d for a start that was paid", u.First)
				}
			} else if !answered || u.Status == ledger.StatusRunning && !ran {
				r.t.Fatalf("a voucher pays minute %d, which nobody attended", u.First+i)
			}
			starts[u.Start] = u.Status != ledger.StatusStopped
			m, _ = m.Add(rate, r.clock().Seconds())
		}
	}
	if v.Total != m.Owed() {
		r.t.Fatalf("voucher at %d is of %v, want %v", v.Seq, v.Total, m.Owed())
	}
	if v.Total > r.signed[v.Lease].Total {
		r.signed[v.Lease] = v
	}
}

// restart ends the consumer and loads a new one from the store.
func (r *rig) restart() {
	r.t.Helper()
	saved := r.crash
	r.crash, r.queue = nil, nil
	r.boots++
	r.seq = new(step.Sequence)
	r.c = New(r)
	for _, key := range slices.Sorted(maps.Keys(r.store)) {
		ours := false
		for _, k := range r.c.Keepers() {
			ok, err := k.Load([]byte(key), r.store[key])
			if err != nil {
				r.t.Fatal(err)
			}
			ours = ours || ok
		}
		if !ours {
			r.t.Fatalf("row %x is nobody's", key)
		}
	}
	r.step(func(ctx *step.Context) {
		if r.old {
			r.c.Forsake(ctx)
		}
		r.c.Boot(ctx)
	})
	r.crash = saved
}

// serve lets the addressed peer answer.
func (r *rig) serve(s step.Send) step.Response {
	res := step.Response{ID: s.ID, Op: step.Op(s.Frame.Op)}
	var objects []wire.Object
	var body any
	var no *step.Refusal
	if r.attended != nil && s.To == r.attended.self {
		return r.attended.hear(s, r.self)
	}
	if s.To == r.bank.self {
		objects, body, no = r.bank.serve(s)
	} else {
		objects, body, no = r.host(s.To).serve(s)
	}
	if no != nil {
		res.Err = &step.Failure{Code: step.FailRefused, Refusal: no}
		return res
	}
	for _, o := range objects {
		res.Objects = append(res.Objects, r.open(o))
	}
	if body != nil {
		res.Body = wire.Marshal(body)
	}
	return res
}

// deliver takes the oldest message to its peer and the answer back.
func (r *rig) deliver() {
	s := r.queue[0]
	r.queue = r.queue[1:]
	gone := func() {
		res := step.Response{ID: s.ID, Err: &step.Failure{Code: step.FailUnreachable}}
		r.step(func(ctx *step.Context) { r.c.Response(ctx, res) })
	}
	if r.lose != nil && r.lose(s) {
		gone()
		return
	}
	res := r.serve(s)
	if r.loseBack != nil && r.loseBack(s) {
		gone()
		return
	}
	r.step(func(ctx *step.Context) {
		if !r.c.Response(ctx, res) {
			r.t.Fatalf("nobody wants the answer to %v", s.Frame.Op)
		}
		// The step that takes an answer may already sign for what it proves.
		if v, ok := step.Find[market.AliveReply](res.Objects); ok {
			r.hearing = append(r.hearing, v.Value())
		}
	})
}

// until lets things happen up to an instant.
func (r *rig) until(t member.Time) {
	r.t.Helper()
	for n := 0; ; n++ {
		if n > 100_000 {
			r.t.Fatal("no end of it")
		}
		if len(r.queue) > 0 {
			r.deliver()
			continue
		}
		next := r.wake
		for _, h := range r.hosts {
			h.close()
		}
		if next == 0 || next > t {
			r.now = max(r.now, t)
			return
		}
		if next <= r.now {
			next = r.now + 1
			if n > 50_000 {
				r.t.Fatalf("the consumer wakes at %v again and again", r.wake)
			}
		}
		r.now = next
		r.step(func(*step.Context) {})
	}
}

func (r *rig) pass(slots int) { r.t.Helper(); r.until(r.now + member.Time(slots)*r.clock().Slot) }

// tell gives a command, and returns the number of its answer.
func (r *rig) tell(cmd any) uint64 {
	r.asked++
	id := r.asked
	r.step(func(ctx *step.Context) {
		if !r.c.Local(ctx, id, cmd) {
			r.t.Fatalf("%T is not the consumer's", cmd)
		}
	})
	return id
}

// do gives a command and waits for its answer.
func (r *rig) do(cmd any) (any, error) {
	r.t.Helper()
	id := r.tell(cmd)
	for end := r.now + 2*member.Hour; ; {
		if a, ok := r.answers[id]; ok {
			return a.Value, a.Err
		}
		if r.now > end {
			r.t.Fatalf("%T was never answered", cmd)
		}
		r.until(r.now + member.Second)
	}
}

func (r *rig) view(lease wire.ID) View {
	r.t.Helper()
	v, err := r.do(Show{lease})
	if err != nil {
		r.t.Fatal(err)
	}
	return v.(View)
}

func (r *rig) told(kind string) int {
	n := 0
	for _, x := range r.notices {
		if x.Type == kind {
			n++
		}
	}
	return n
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// order is a run that both hosts could serve.
func order(n int) Run {
	return Run{
		Lease: idOf(100 * n), Reservation: idOf(100*n + 1), Bid: idOf(100*n + 2), Type: market.OnDemand, Model: "RTX_4090", GPUs: 2,
		MaxRate: 400_000_000, Simulated: true, Away: Away{Off: true},
		Spec: market.Spec{Image: "docker.io/library/pod@" + digest, Tag: "pod:1", Disk: 10_000_000_000, Volume: 5_000_000_000, Mount: "/workspace"},
	}
}
