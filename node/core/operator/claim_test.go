package operator_test

import (
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// A pod is a lease of the bench whose host claims minutes.
type pod struct {
	b       *bench
	host    *identity.PrivateKey
	by      *identity.PrivateKey
	res     ledger.Reservation
	terms   wire.Verified[market.Terms]
	cert    wire.Verified[market.Cert]
	mandate wire.Verified[ledger.Mandate]
	panel   reliability.Panel
	entries []wire.AnyVerified
	first   member.Minute
	body    step.ClaimBody
	extra   []wire.AnyVerified // receipts
}

// running is a pod that ran for some minutes under a mandate, each of which the bank and another host have seen.
func (b *bench) running(n int) *pod {
	b.t.Helper()
	host, consumer := b.shop("25")
	dave := b.joined(4, member.RoleHost)
	q := b.quote(host, nil)
	r := object[ledger.Reservation](b, b.bank(consumer, step.OpReserve, nil, seal(b, consumer, reserve(q)), q))
	t, err := q.Value().Contract(q.Ref())
	if err != nil {
		b.t.Fatal(err)
	}
	p := &pod{b: b, host: host, by: consumer, res: r, terms: seal(b, consumer, t), panel: reliability.NewPanel(b.op.Address(), dave.Address()),
		first: member.Minute(b.now / (60 * member.Second))}
	p.cert = seal(b, host, market.Cert{Host: host.Address(), Lease: r.Lease, Terms: p.terms.Ref(), Minute: p.first, At: b.now})
	p.entrust(nil)
	place := ledger.Place{Head: p.cert.Ref(), Next: p.first}
	for range n {
		u := ledger.Usage{Host: host.Address(), Lease: r.Lease, Seq: place.Seq + 1, First: place.Next, Count: 1, Billable: 1, Status: ledger.StatusRunning,
			Basis: ledger.BasisMandate, Terms: p.terms.Ref(), Start: identity.Hash{1}, Prev: place.Head}
		run, _ := t.Tariff.Rate(ledger.StatusRunning)
		m, _ := place.Meter.Add(run, 60)
		u.Numerator = m.Numerator
		v := seal(b, host, u)
		p.entries = append(p.entries, v)
		if place, err = place.Follow(u, v.Ref(), t.Tariff, 60); err != nil {
			b.t.Fatal(err)
		}
		for _, w := range []*identity.PrivateKey{b.op, dave} {
			p.extra = append(p.extra, seal(b, w, reliability.Receipt{Witness: w.Address(), Host: host.Address(), Minute: u.First, Answer: identity.Hash{2}}))
		}
	}
	p.body = step.ClaimBody{Panel: p.panel, Until: p.first + 240}
	return p
}

func (p *pod) entrust(change func(*ledger.Mandate)) {
	m := ledger.Mandate{Consumer: p.by.Address(), Lease: p.res.Lease, Seq: 1, Reservation: p.res.ID, From: p.first, Until: p.first + 1000,
		MaxTotal: credits("5"), MaxUnattended: ledger.MaxUnattended, Quorum: 1, Extension: p.panel.Hash()}
	if change != nil {
		change(&m)
	}
	p.mandate = seal(p.b, p.by, m)
}

func (p *pod) claim() answer {
	p.b.t.Helper()
	objects := append([]wire.AnyVerified{p.terms, p.cert, p.mandate}, p.entries...)
	return p.b.bank(p.host, step.OpClaim, p.body, append(objects, p.extra...)...)
}

func (p *pod) claimed(a answer) (ledger.SettleReceipt, step.ClaimAnswer) {
	p.b.t.Helper()
	body, err := step.Body[step.ClaimAnswer](a.body)
	if err != nil {
		p.b.t.Fatal(err)
	}
	return object[ledger.SettleReceipt](p.b, a), body
}

func TestClaimIsPaidOnce(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		p := b.running(5)
		a := p.claim()
		s, at := p.claimed(a)
		if s.Paid == 0 || ledger.Amount(at.Proven) != s.Paid || at.Seq != 5 || at.Next != p.first+5 || s.Released {
			t.Fatalf("got %+v, %+v", s, at)
		}
		again, _ := p.claimed(p.claim())
		if again != s {
			t.Fatalf("again: %+v", again)
		}
		if h := b.balance(p.host); h.Payable != int64(s.Paid-s.Fee) {
			t.Fatalf("payable %d after %+v", h.Payable, s)
		}
		p.body.Until = p.first + 3 // what reaches further is for the next claim
		if _, at := p.claimed(p.claim()); at.Seq != 5 {
			t.Fatalf("a claim of less goes back to entry %d", at.Seq)
		}
	})
}

func TestClaimsAreRefused(t *testing.T) {
	stranger := key(9)
	for name, c := range map[string]struct {
		spoil func(p *pod)
		code  step.RefusalCode
	}{
		"other witnesses than the mandate's": {func(p *pod) { p.body.Panel = p.panel[:1] }, step.RefuseBadRequest},
		"no panel":                           {func(p *pod) { p.body.Panel = nil }, step.RefuseBadRequest},
		"without the bank as witness": {func(p *pod) {
			p.panel = reliability.NewPanel(key(4).Address())
			p.body.Panel = p.panel
			p.entrust(nil)
		}, step.RefuseMoney},
		"a certificate of other terms": {func(p *pod) {
			c := p.cert.Value()
			c.Terms = identity.Hash{9}
			p.cert = seal(p.b, p.host, c)
		}, step.RefuseBadRequest},
		"terms of another reservation": {func(p *pod) {
			x := p.terms.Value()
			x.Reservation = wire.ID{99}
			p.terms = seal(p.b, p.by, x)
			c := p.cert.Value()
			c.Terms = p.terms.Ref()
			p.cert = seal(p.b, p.host, c)
		}, step.RefuseUnknown},
		"a mandate for another lease": {func(p *pod) { p.entrust(func(m *ledger.Mandate) { m.Lease = wire.ID{9} }) }, step.RefuseVoucher},
		"by another host":             {func(p *pod) { p.host = stranger }, step.RefuseNotForYou},
		"entries of another chain":    {func(p *pod) { p.entries = p.entries[1:] }, step.RefuseVoucher},
		"entries under other terms": {func(p *pod) {
			u := p.entries[2].(wire.Verified[ledger.Usage]).Value()
			u.Terms = identity.Hash{9}
			p.entries[2] = seal(p.b, p.host, u)
		}, step.RefuseBadRequest},
	} {
		b := newBench(t, false)
		p := b.running(3)
		b.joined(9, member.RoleHost)
		c.spoil(p)
		a := p.claim()
		if a.refused == nil || a.refused.Code != c.code {
			t.Errorf("%s: %v, want code %d", name, a.refused, c.code)
		}
		if h := b.balance(key(2)); h.Payable != 0 {
			t.Errorf("%s: %d are payable", name, h.Payable)
		}
	}
	b := newBench(t, false)
	p := b.running(3)
	p.extra = p.extra[1:] // of the first minute the bank's is missing
	if s, _ := p.claimed(p.claim()); s.Paid != p.res.Cap*2/60 {
		t.Errorf("two of three minutes are proven: paid %s", s.Paid)
	}
}

func (p *pod) command(seq uint64, o market.CommandKind) wire.Verified[market.Command] {
	return seal(p.b, p.by, market.Command{Consumer: p.by.Address(), Host: p.res.Host, Lease: p.res.Lease, Seq: seq, Order: o, Minute: p.first, At: p.b.now})
}

func TestLodgedOrderEndsTheMandateAndIsPassedOn(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		p := b.running(5)
		b.now += 90 * member.Second // minute 1
		stop := p.command(1, market.CommandStop)
		a := b.bank(p.by, step.OpLodge, nil, stop)
		if l := object[market.Lodged](b, a); l.Minute != p.first+1 || l.Seq != 1 || l.Command != stop.Ref() {
			t.Fatalf("got %+v", l)
		}
		if len(a.out.Sends) != 1 || a.out.Sends[0].To != p.res.Host || step.Op(a.out.Sends[0].Frame.Op) != step.OpCommand {
			t.Fatalf("it is not passed on: %+v", a.out.Sends)
		}
		if with := a.out.Sends[0].Frame.Objects; len(with) != 2 || with[1].Kind != wire.KindLodged {
			t.Error("the host is not told in which minute the bank had the order")
		}
		if b.o.Withholds(p.res.Host, p.first+1) {
			t.Error("no receipt for the minute of the order, which is paid")
		}
		first := a
		b.again(first, func() answer { return b.bank(p.by, step.OpLodge, nil, stop) })
		b.refuses(b.bank(p.by, step.OpLodge, nil, p.command(2, market.CommandStart)), step.RefuseBadRequest)
		b.refuses(b.bank(p.host, step.OpLodge, nil, p.command(2, market.CommandStop)), step.RefuseNotForYou)
		b.now += 60 * member.Second
		out, _ := b.tick()
		if len(out.Sends) != 1 || !b.o.Withholds(p.res.Host, p.first+2) {
			t.Fatal("a minute later it is not sent again, or a receipt is given meanwhile")
		}
		if !b.crash {
			resting := &step.Failure{Code: step.FailRefused, Refusal: step.Refuse(step.RefuseQuarantine, "later")}
			b.step(func(ctx *step.Context) { b.o.Response(ctx, step.Response{ID: out.Sends[0].ID, Err: resting}) })
			if !b.o.Withholds(p.res.Host, p.first+3) {
				t.Error("a host that says later counts as told")
			}
			b.now += 60 * member.Second
			out, _ = b.tick()
		}
		b.step(func(ctx *step.Context) { b.o.Response(ctx, step.Response{ID: out.Sends[0].ID}) })
		if !b.crash && b.o.Withholds(p.res.Host, p.first+4) {
			t.Error("no receipts although the host has it")
		}
		if s, at := p.claimed(p.claim()); s.Paid != p.res.Cap*2/60 || at.Seq != 5 {
			t.Errorf("paid %s to entry %d, want the two minutes until the order", s.Paid, at.Seq)
		}
		// A mandate given after it pays again.
		b.refuses(b.bank(p.by, step.OpLodge, nil, p.command(1, market.CommandRemove)), step.RefuseStale)
	})
}

func TestMandateGivenAfterAnOrderPaysAgain(t *testing.T) {
	b := newBench(t, false)
	p := b.running(5)
	object[market.Lodged](b, b.bank(p.by, step.OpLodge, nil, p.command(1, market.CommandStop)))
	p.entrust(func(m *ledger.Mandate) { m.Seq, m.From = 2, p.first+3 })
	if s, _ := p.claimed(p.claim()); s.Paid != p.res.Cap*2/60 {
		t.Errorf("paid %s, want the two minutes of the new mandate", s.Paid)
	}
	b = newBench(t, false)
	p = b.running(5)
	object[market.Lodged](b, b.bank(p.by, step.OpLodge, nil, p.command(1, market.CommandStop)))
	b.now += 3 * 60 * member.Second
	object[market.Lodged](b, b.bank(p.by, step.OpLodge, nil, p.command(2, market.CommandStop)))
	p.entrust(func(m *ledger.Mandate) { m.Seq, m.From = 2, p.first+3 })
	if s, _ := p.claimed(p.claim()); s.Paid != p.res.Cap/60 {
		t.Errorf("paid %s, want the one minute between the new mandate and the second order", s.Paid)
	}
}
