package witness

import (
	"testing"

	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

const noon = member.Time(1_800_014_400_000)

var (
	self = identity.Address{1}
	host = identity.Address{2}
)

// A town says who is what.
type town map[identity.Address]member.Role

func (w town) Is(a identity.Address, r member.Role, _ member.Time) bool { return w[a].Has(r) }

type rig struct {
	t        *testing.T
	w        *Witness
	now      member.Time
	withheld bool
	seq      step.Sequence
	sends    []step.Send
}

func newRig(t *testing.T, w town) *rig {
	r := &rig{t: t, now: noon + 5*member.Second}
	r.w = New(w, func(h identity.Address, _ member.Minute) bool { return r.withheld && h == host })
	return r
}

func (r *rig) step(f func(ctx *step.Context)) *step.Out {
	out := &step.Out{}
	ctx := &step.Context{Now: r.now, Self: self, Market: wire.NewMarket(identity.Hash{1}, 1, identity.Address{}), Clock: member.Clock{Slot: 60 * member.Second},
		Out: out, Seq: &r.seq, Boot: step.Boot{Seed: identity.Hash{7}}}
	f(ctx)
	r.w.Tick(ctx)
	r.sends = append(r.sends, out.Sends...)
	return out
}

// watch is a host's wish. It answers the refusal.
func (r *rig) watch(by identity.Address) *step.Refusal {
	out := r.step(func(ctx *step.Context) {
		if !r.w.Request(ctx, step.Request{ID: 1, Peer: by, Proto: step.ProtoWitness, Op: step.OpWatch}) {
			r.t.Fatal("not taken")
		}
	})
	return out.Replies[0].Refusal
}

// pass lets time go by, second by second, and answers the witness's questions.
func (r *rig) pass(minutes int, answer func(s step.Send) *step.Response) (receipts []reliability.Receipt) {
	for range minutes * 60 {
		r.now += member.Second
		r.step(func(*step.Context) {})
		for len(r.sends) > 0 {
			s := r.sends[0]
			r.sends = r.sends[1:]
			if step.Op(s.Frame.Op) == step.OpWitnessed {
				v, err := wire.Decode[reliability.Receipt](s.Frame.Objects[0])
				if err != nil {
					r.t.Fatal(err)
				}
				receipts = append(receipts, v)
				continue
			}
			if a := answer(s); a != nil {
				a.ID = s.ID
				r.step(func(ctx *step.Context) { r.w.Response(ctx, *a) })
			}
		}
	}
	return receipts
}

// paper takes every signature for that of the message's signer: what is tested here is what is made of messages.
type paper struct{ by identity.Address }

func (p paper) Recover(identity.Hash, identity.Signature) (identity.Address, error) { return p.by, nil }

// present is an honest host's answer.
func (r *rig) present(change func(*reliability.Presence)) func(step.Send) *step.Response {
	return func(s step.Send) *step.Response {
		body, err := step.Body[step.AskBody](s.Frame.Body)
		if err != nil {
			r.t.Fatal(err)
		}
		p := reliability.Presence{Host: host, Witness: self, Nonce: body.Nonce, Minute: member.Clock{Slot: 60 * member.Second}.Minute(r.now), LogSeq: 3}
		if change != nil {
			change(&p)
		}
		o := wire.Draft(p)
		o.Sig[0] = 1
		v, err := wire.Open[reliability.Presence](wire.Opener{Market: wire.NewMarket(identity.Hash{1}, 1, identity.Address{}), Verifier: paper{p.Host}}, o)
		if err != nil {
			r.t.Fatal(err)
		}
		return &step.Response{Objects: []wire.AnyVerified{v}}
	}
}

var market = town{self: member.RoleHost, host: member.RoleHost, {3}: member.RoleConsumer}

func TestHostGetsOneReceiptAMinute(t *testing.T) {
	r := newRig(t, market)
	if no := r.watch(host); no != nil {
		t.Fatal(no)
	}
	seconds := map[member.Time]bool{}
	honest := r.present(nil)
	got := r.pass(10, func(s step.Send) *step.Response {
		seconds[r.now%(60*member.Second)] = true
		return honest(s)
	})
	if len(got) != 10 && len(got) != 11 {
		t.Fatalf("%d receipts in ten minutes", len(got))
	}
	minutes := map[member.Minute]bool{}
	for _, c := range got {
		if c.Host != host || c.Witness != self || c.LogSeq != 3 || minutes[c.Minute] {
			t.Fatalf("receipt %+v", c)
		}
		minutes[c.Minute] = true
	}
	if len(seconds) < 5 {
		t.Errorf("asked at %d different seconds of ten minutes: a host could foresee them", len(seconds))
	}
	for s := range seconds {
		if s < 6*member.Second || s > 43*member.Second {
			t.Errorf("asked at second %v of a minute", s/member.Second)
		}
	}
}

func TestWhoGetsNoReceipt(t *testing.T) {
	for name, change := range map[string]func(*reliability.Presence){
		"another nonce":     func(p *reliability.Presence) { p.Nonce++ },
		"another minute":    func(p *reliability.Presence) { p.Minute += 2 },
		"an old minute":     func(p *reliability.Presence) { p.Minute -= 2 },
		"another witness":   func(p *reliability.Presence) { p.Witness = identity.Address{9} },
		"in another's name": func(p *reliability.Presence) { p.Host = identity.Address{9} },
	} {
		r := newRig(t, market)
		r.watch(host)
		if got := r.pass(3, r.present(change)); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	r := newRig(t, market)
	r.watch(host)
	r.withheld = true
	if got := r.pass(3, r.present(nil)); len(got) != 0 {
		t.Errorf("with an order on its way to it: %+v", got)
	}
	r.withheld = false
	if got := r.pass(3, r.present(nil)); len(got) < 3 {
		t.Errorf("once it has the order: %d receipts", len(got))
	}
}

func TestWitnessRefusesWhoIsNoHost(t *testing.T) {
	for who, town := range map[identity.Address]town{{3}: market, {9}: market, self: market, host: {host: member.RoleHost}} {
		if no := newRig(t, town).watch(who); no == nil || no.Code != step.RefuseNotForYou {
			t.Errorf("%v: %v", who, no)
		}
	}
}

func TestSilentHostIsAskedSometimesAndThenForgotten(t *testing.T) {
	r := newRig(t, market)
	r.watch(host)
	asked := 0
	r.pass(1, func(step.Send) *step.Response {
		asked++
		return &step.Response{Err: &step.Failure{Code: step.FailUnreachable}}
	})
	if asked < 2 || asked > 2*retries {
		t.Errorf("asked %d times in a minute", asked)
	}
	r.pass(62, func(step.Send) *step.Response { return &step.Response{Err: &step.Failure{Code: step.FailUnreachable}} })
	if len(r.w.hosts) != 0 {
		t.Error("a host that has not asked for an hour is still watched")
	}
	r.watch(host)
	r.pass(2, func(step.Send) *step.Response {
		return &step.Response{Err: &step.Failure{Code: step.FailRefused, Refusal: step.Refuse(step.RefuseNotForYou, "no need")}}
	})
	if len(r.w.hosts) != 0 {
		t.Error("a host that wants no witness is still watched")
	}
}

// A host whose clock is off by less than the market's skew is seen in each of its own minutes, once this node knows.
func TestMinutesOfAHostWithAnotherClockAreAllSeen(t *testing.T) {
	for _, off := range []member.Time{-29 * member.Second, -15 * member.Second, 7 * member.Second, 15 * member.Second, 29 * member.Second} {
		r := newRig(t, market)
		r.watch(host)
		clock := member.Clock{Slot: 60 * member.Second}
		asked := 0
		answer := func(s step.Send) *step.Response {
			asked++
			return r.present(func(p *reliability.Presence) { p.Minute = clock.Minute(r.now + off) })(s)
		}
		r.pass(20, answer)
		r.watch(host)
		asked = 0
		first := clock.Minute(r.now+off) + 1
		seen := map[member.Minute]bool{}
		for _, c := range r.pass(50, answer) {
			seen[c.Minute] = true
		}
		for m := first; m < first+48; m++ {
			if !seen[m] {
				t.Errorf("clock off by %v: minute %d of %d has no receipt", off.Span(), m-first, len(seen))
			}
		}
		if asked > 2*51 {
			t.Errorf("clock off by %v: asked %d times in 50 minutes", off.Span(), asked)
		}
	}
}
