package consumer

import (
	"strings"
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A pair is a principal and its attendant, with the same hosts and bank, on one clock.
type pair struct {
	a, b *rig
	off  bool // the principal's node is down
}

func newPair(t *testing.T) *pair {
	p := &pair{a: newRig(t), b: newRig(t)}
	p.b.self, p.b.hosts, p.b.bank = named("attendant"), p.a.hosts, p.a.bank
	p.b.attends = []identity.Address{p.a.self}
	p.b.restart()
	p.a.attended = p.b
	return p
}

// hear takes what a principal sends to its attendant.
func (r *rig) hear(s step.Send, from identity.Address) step.Response {
	r.t.Helper()
	in := step.Request{ID: s.ID, Peer: from, Proto: step.Protocol(s.Proto), Op: step.Op(s.Frame.Op), Body: s.Frame.Body}
	for _, o := range s.Frame.Objects {
		in.Objects = append(in.Objects, r.open(o))
	}
	r.replies = nil
	r.step(func(ctx *step.Context) {
		if !r.c.Request(ctx, in) {
			r.t.Fatalf("operation %d is not taken", in.Op)
		}
	})
	if len(r.replies) != 1 || r.replies[0].ID != s.ID {
		r.t.Fatalf("replies %+v", r.replies)
	}
	if no := r.replies[0].Refusal; no != nil {
		return step.Response{ID: s.ID, Err: &step.Failure{Code: step.FailRefused, Refusal: no}}
	}
	return step.Response{ID: s.ID, Op: step.OpOK, Body: r.replies[0].Frame.Body}
}

func (p *pair) pass(slots int) {
	p.a.t.Helper()
	p.until(p.a.now + member.Time(slots)*p.a.clock().Slot)
}

// until lets things happen to both up to an instant.
func (p *pair) until(t member.Time) {
	p.a.t.Helper()
	rigs := []*rig{p.b, p.a}
	if p.off {
		rigs = rigs[:1]
	}
	for n := 0; ; n++ {
		if n > 200_000 {
			p.a.t.Fatal("no end of it")
		}
		next, busy := member.Time(0), false
		for _, r := range rigs {
			if len(r.queue) > 0 {
				r.deliver()
				busy = true
				break
			}
			if r.wake > 0 && (next == 0 || r.wake < next) {
				next = r.wake
			}
		}
		if busy {
			continue
		}
		for _, h := range p.a.hosts {
			h.close()
		}
		if next == 0 || next > t {
			p.now(max(p.a.now, t))
			return
		}
		p.now(max(next, p.a.now+1))
		for _, r := range rigs {
			r.step(func(*step.Context) {})
		}
	}
}

func (p *pair) now(t member.Time) { p.a.now, p.b.now = t, t }

func (p *pair) do(cmd any) (any, error) {
	p.a.t.Helper()
	id := p.a.tell(cmd)
	for range 600 {
		if v, ok := p.a.answers[id]; ok {
			return v.Value, v.Err
		}
		p.until(p.a.now + member.Second)
	}
	p.a.t.Fatalf("%T was never answered", cmd)
	return nil, nil
}

// run has a pod run that the attendant attends.
func (p *pair) run() *fakeLease {
	p.a.t.Helper()
	o := order(1)
	o.Attendant = "attendant"
	if _, err := p.do(o); err != nil {
		p.a.t.Fatalf("run: %v", err)
	}
	return p.a.hosts[0].leases[o.Lease]
}

func viewOf(r *rig, lease wire.ID) View {
	l := r.c.leases.Get(lease)
	if l == nil {
		return View{}
	}
	out := &step.Out{}
	return r.c.view(&step.Context{Now: r.now, Self: r.self, Market: r.market, Policy: r.policy, Clock: r.clock(), Out: out, Seq: r.seq}, r.c.orders.Get(l.Bid))
}

func TestAttendantPaysWhileItsPrincipalIsOff(t *testing.T) {
	p := newPair(t)
	l := p.run()
	p.pass(3)
	a, b := viewOf(p.a, l.terms.Lease), viewOf(p.b, l.terms.Lease)
	if a.Attendant == nil || !a.Attendant.Has || a.Attendant.Address != p.b.self || b.Principal == nil || b.Principal.Address != p.a.self || b.Name != a.Name {
		t.Fatalf("principal's view %+v, attendant's %+v", a.Attendant, b.Principal)
	}
	p.off = true
	p.pass(30)
	if l.state != market.StateRunning || l.paid.By != p.b.self || l.paid.Total < l.bill.Total-l.bill.Total/20 {
		t.Fatalf("after half an hour without its principal the pod is %v (%v); %s of %s is signed for by %v", l.state, l.reason, l.paid.Total.Text(), l.bill.Total.Text(), l.paid.By)
	}
	p.off = false
	p.a.restart()
	p.pass(2)
	a, b = viewOf(p.a, l.terms.Lease), viewOf(p.b, l.terms.Lease)
	if a.Refused != nil || a.Owed != b.Owed || a.Vouched != l.paid.Total || a.Minutes < 30 || p.a.host(a.Host).sent[step.OpVoucher] == 0 {
		t.Fatalf("back, the principal knows of %d minutes, owed %s, signed %s (%v); the attendant of %s", a.Minutes, a.Owed.Text(), a.Vouched.Text(), a.Refused, b.Owed.Text())
	}
	if _, err := p.do(Remove{l.terms.Lease}); err != nil {
		t.Fatal(err)
	}
	p.pass(70)
	a, b = viewOf(p.a, l.terms.Lease), viewOf(p.b, l.terms.Lease)
	if !a.Settled || !b.Settled || a.Paid != l.bill.Total || p.a.told("bank.overpaid")+p.b.told("bank.overpaid") != 0 {
		t.Errorf("at the end: principal %+v, attendant settled %v", a, b.Settled)
	}
}

func TestPrincipalSignsNoVoucher(t *testing.T) {
	p := newPair(t)
	l := p.run()
	p.b.lose = func(s step.Send) bool { return step.Op(s.Frame.Op) == step.OpVoucher }
	p.pass(4)
	if l.bill.Total == 0 || l.paid.Total != 0 || p.a.view(l.terms.Lease).Owed == 0 {
		t.Fatalf("%s is owed, %s signed for, the principal knows of %s", l.bill.Total.Text(), l.paid.Total.Text(), p.a.view(l.terms.Lease).Owed.Text())
	}
	for _, g := range p.a.guards {
		if strings.HasPrefix(string(g.Chain), "voucher/") {
			t.Error("the principal signed a voucher")
		}
	}
}

func TestAttendantIsAskedBeforeAnybodyElse(t *testing.T) {
	for name, set := range map[string]func(p *pair){
		"it attends for others": func(p *pair) { p.b.attends = nil },
		"it is off":             func(p *pair) { p.a.lose = func(s step.Send) bool { return s.To == p.b.self } },
	} {
		p := newPair(t)
		set(p)
		o := order(1)
		o.Attendant = "attendant"
		_, err := p.do(o)
		pr := problemOf(t, err)
		if pr.Hint == "" || p.a.hosts[0].sent[step.OpRequest]+len(p.a.bank.holds) != 0 {
			t.Errorf("%s: %v (hint %q); %d requests to the host, %d reservations", name, pr, pr.Hint, p.a.hosts[0].sent[step.OpRequest], len(p.a.bank.holds))
		}
		if name == "it attends for others" && (pr.Code != step.ProblemTrust || !strings.Contains(pr.Hint, p.a.self.String()) || !strings.Contains(pr.Hint, "attend_for")) {
			t.Errorf("%s: %v, hint %q", name, pr, pr.Hint)
		}
	}
	p := newPair(t)
	for _, ref := range []string{"nobody", "consumer"} {
		o := order(1)
		o.Attendant = ref
		if _, err := p.do(o); err == nil {
			t.Errorf("%s attends", ref)
		}
	}
}

func TestQuoteWithAnotherAttendantIsRefused(t *testing.T) {
	for name, worse := range map[string]func(*market.Terms){
		"the consumer attends": func(t *market.Terms) { t.Attendant = t.Consumer },
		"the consumer signs":   func(t *market.Terms) { t.By = t.Consumer },
		"another does both":    func(t *market.Terms) { t.By, t.Attendant = named("thief"), named("thief") },
	} {
		p := newPair(t)
		p.a.hosts[0].worse = worse
		o := order(1)
		o.Attendant, o.Only, o.Host = "attendant", true, p.a.hosts[0].self
		if _, err := p.do(o); err == nil || !strings.Contains(err.Error(), "between others") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAttendantTakesNoOrders(t *testing.T) {
	p := newPair(t)
	l := p.run()
	p.pass(3)
	for _, cmd := range []any{Stop{l.terms.Lease}, Start{Lease: l.terms.Lease}, Remove{l.terms.Lease}, Entrust{Lease: l.terms.Lease}} {
		id := p.b.tell(cmd)
		pr, ok := p.b.answers[id].Err.(*step.Problem)
		if !ok || pr.Code != step.ProblemConflict || pr.Hint == "" {
			t.Errorf("%T: %v", cmd, p.b.answers[id].Err)
		}
	}
	p.pass(1)
	if n := p.a.hosts[0].sent[step.OpCommand] + p.a.hosts[0].sent[step.OpMandate]; n != 0 || l.state != market.StateRunning {
		t.Errorf("%d commands reached the host, the pod is %v", n, l.state)
	}
}

// TestAttendantFollowsOrders: starts and stops that the principal orders are paid for as they are without an attendant, also when
// the attendant hears of them late.
func TestAttendantFollowsOrders(t *testing.T) {
	for _, late := range []bool{false, true} {
		p := newPair(t)
		l := p.run()
		p.pass(3)
		cut := false
		p.a.lose = func(s step.Send) bool { return cut && s.To == p.b.self }
		for range 3 {
			for _, cmd := range []any{Stop{l.terms.Lease}, Start{Lease: l.terms.Lease}} {
				cut = late
				if _, err := p.do(cmd); err != nil {
					t.Fatal(err)
				}
				p.until(p.a.now + 34*member.Second)
				cut = false
				p.until(p.a.now + 8*member.Second)
			}
		}
		p.pass(3)
		minimums := 0
		for _, e := range l.entries {
			if u, _ := wire.Decode[ledger.Usage](e); u.Status == ledger.StatusMinimum {
				minimums++
			}
		}
		a, b := viewOf(p.a, l.terms.Lease), viewOf(p.b, l.terms.Lease)
		if minimums == 0 || b.Refused != nil || a.Refused != nil || l.paid.Total != l.bill.Total || a.Vouched != l.paid.Total || l.state != market.StateRunning {
			t.Errorf("late %v: %d minimums; the pod is %v (%v); the attendant objects %+v and signed %s of %s", late, minimums, l.state, l.reason, b.Refused, b.Vouched.Text(), l.bill.Total.Text())
		}
	}
}

func TestAttendantPaysNothingThatItsPrincipalHadStopped(t *testing.T) {
	p := newPair(t)
	l := p.run()
	p.pass(3)
	if _, err := p.do(Stop{l.terms.Lease}); err != nil {
		t.Fatal(err)
	}
	l.state, l.stopAt, l.reason = market.StateRunning, 0, 0 // the host lets it run on
	p.pass(4)
	at := l.paid.Total
	p.off = true
	p.pass(10)
	if l.paid.Total != at || l.bill.Total == at {
		t.Errorf("%s was signed for at the stop, %s ten minutes later; the host counts %s", at.Text(), l.paid.Total.Text(), l.bill.Total.Text())
	}
}

func TestAttendantThatLostItsRecordsGoesOn(t *testing.T) {
	p := newPair(t)
	l := p.run()
	p.pass(5)
	p.b.store, p.b.log = map[string][]byte{}, map[string][]byte{}
	p.b.restart()
	p.pass(8)
	b := viewOf(p.b, l.terms.Lease)
	if l.state != market.StateRunning || b.Refused != nil || b.Minutes < 8 || l.paid.Total != l.bill.Total {
		t.Errorf("the pod is %v (%v), the attendant objects %+v, %d minutes, %s of %s signed for", l.state, l.reason, b.Refused, b.Minutes, l.paid.Total.Text(), l.bill.Total.Text())
	}
}

func TestHandoverIsChecked(t *testing.T) {
	p := newPair(t)
	l := p.run()
	p.pass(1)
	lease := p.a.c.leases.Get(l.terms.Lease)
	body, objects := p.a.c.brief(lease)
	thief := named("thief")
	res, _ := wire.Decode[ledger.Reservation](lease.Reserved)
	cert, _ := wire.Decode[market.Cert](l.cert)
	for name, c := range map[string]struct {
		change func(o []wire.Object) []wire.Object
		from   identity.Address
		want   step.RefusalCode
	}{
		"a stranger's":          {nil, thief, step.RefuseNotForYou},
		"without a reservation": {func(o []wire.Object) []wire.Object { return o[:2] }, p.a.self, step.RefuseBadRequest},
		"terms of another": {func(o []wire.Object) []wire.Object {
			u := l.terms
			u.By = thief
			return put(o, 0, p.a.seal(p.a.self, u))
		}, p.a.self, step.RefuseNotForYou},
		"another certificate": {func(o []wire.Object) []wire.Object {
			cert.Terms = identity.Hash{1}
			return put(o, 1, p.a.seal(cert.Host, cert))
		}, p.a.self, step.RefuseBadRequest},
		"another's reservation": {func(o []wire.Object) []wire.Object {
			u := res
			u.By = thief
			return put(o, 2, p.a.seal(res.Operator, u))
		}, p.a.self, step.RefuseReservation},
		"a bank of no operator's": {func(o []wire.Object) []wire.Object {
			u := res
			u.Operator = thief
			return put(o, 2, p.a.seal(thief, u))
		}, p.a.self, step.RefuseReservation},
		"all in order, again": {nil, p.a.self, 0},
	} {
		given := append([]wire.Object{p.a.sign(objects[0])}, objects[1:]...)
		if c.change != nil {
			given = c.change(given)
		}
		before := len(p.b.store)
		r := p.b.hear(step.Send{ID: 9, Proto: step.ProtoAttend, Frame: wire.Frame{Op: uint8(step.OpAttend), Body: wire.Marshal(body), Objects: given}}, c.from)
		switch {
		case c.want == 0 && r.Err != nil, c.want != 0 && (r.Err == nil || r.Err.Refusal.Code != c.want):
			t.Errorf("%s: %+v, want refusal %d", name, r.Err, c.want)
		case len(p.b.store) != before:
			t.Errorf("%s: %d rows more", name, len(p.b.store)-before)
		}
	}
}

func put(o []wire.Object, i int, v wire.Object) []wire.Object { o[i] = v; return o }
