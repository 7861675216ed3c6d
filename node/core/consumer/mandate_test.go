package consumer

import (
	"strings"
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

// entrusted is an order with a mandate.
func entrusted(r *rig, most ledger.Amount) (Run, *fakeHost) {
	run := order(1)
	run.Away = Away{Most: most}
	mustRun(r.t, r, run)
	r.pass(3)
	h := r.hosts[0]
	if len(h.mandates) != 1 || len(h.panel) != 2 || !h.panel.Has(r.bank.self) || !h.panel.Has(r.hosts[1].self) {
		r.t.Fatalf("mandates %+v, witnesses %v", h.mandates, h.panel)
	}
	return run, h
}

// leave cuts the consumer off from its host for a while: the host goes by its mandate.
func (r *rig) leave(minutes int) {
	host := r.hosts[0].self
	r.lose = func(s step.Send) bool { return s.To == host }
	for range minutes {
		r.pass(1)
		r.hosts[0].close()
	}
	r.lose = nil
}

func TestMinutesOfAnAbsenceAreSignedForOnReceipts(t *testing.T) {
	r := newRig(t)
	run, h := entrusted(r, 0)
	h.blind = map[member.Minute]bool{r.minute() + 30: true}
	r.leave(200) // more than one answer tells of
	r.pass(4)
	l := h.leases[run.Lease]
	v := r.view(run.Lease)
	if v.Refused != nil || v.Vouched != v.Owed || v.Vouched != l.bill.Total || v.Minutes < 195 {
		t.Fatalf("vouched %s of %s, host bills %s, %d minutes; refused %+v", v.Vouched, v.Owed, l.bill.Total, v.Minutes, v.Refused)
	}
	kept := 0
	for k := range r.log {
		if table.Table(k[0]) == table.LeaseReceipt {
			kept++
		}
	}
	if mandated := len(h.receipts); mandated < 190 || kept != 2*mandated {
		t.Errorf("%d receipts kept of %d mandated minutes", kept, mandated)
	}
	r.boots++
	r.restart()
	r.pass(2)
	if v := r.view(run.Lease); v.Refused != nil || v.Vouched != v.Owed || v.Away == nil || !v.Away.Known {
		t.Errorf("after a restart: %+v", v)
	}
}

func TestMandatedMinutesWithoutProofAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(r *rig, h *fakeHost)
		code Code
	}{
		"a receipt is missing": {func(_ *rig, h *fakeHost) {
			h.forge = func(r *reliability.Receipt) bool { return r.Witness == h.panel[0] }
		}, CodeMandate},
		"for another host": {func(r *rig, h *fakeHost) {
			h.forge = func(c *reliability.Receipt) bool { c.Host = r.hosts[1].self; c.Witness = r.bank.self; return false }
		}, CodeMandate},
		"of no witness": {func(_ *rig, h *fakeHost) {
			h.forge = func(c *reliability.Receipt) bool { c.Witness = named("nobody"); return false }
		}, CodeMandate},
		"others than named": {func(_ *rig, h *fakeHost) {
			h.forge = func(c *reliability.Receipt) bool { c.Answer = identity.Hash{9}; return false }
		}, CodeMandate},
		"of two GPUs more": {func(_ *rig, h *fakeHost) {
			h.tamper = func(u *ledger.Usage) {
				if u.Basis == ledger.BasisMandate {
					u.GPUs = []string{"a", "b", "c"}
				}
			}
		}, CodeTerms},
		"more than the mandate allows": {func(r *rig, h *fakeHost) {
			l := r.c.trusts.Get(order(1).Lease)
			l.Mandate.MaxUnattended = 2
			r.c.trusts.Touch(order(1).Lease)
		}, CodeMandate},
		"after a stop that the host has": {func(r *rig, _ *fakeHost) {
			r.c.leases.Get(order(1).Lease).StopMinute = r.minute() + 2
			r.c.leases.Touch(order(1).Lease)
		}, CodeStopped},
		"with no mandate": {func(r *rig, _ *fakeHost) { r.c.trusts.Delete(order(1).Lease) }, CodeMandate},
	} {
		r := newRig(t)
		run, h := entrusted(r, 0)
		before := r.view(run.Lease).Vouched
		h.refuse[step.OpMandate] = step.Refuse(step.RefuseBusy, "later")
		c.lie(r, h)
		r.step(func(*step.Context) {})
		r.leave(10)
		r.pass(2)
		v := r.view(run.Lease)
		if v.Refused == nil || v.Refused.Code != c.code {
			t.Errorf("%s: refused %+v, want %s", name, v.Refused, c.code)
		}
		if minute := ledger.Amount(v.PerHour)/60 + 1; v.Vouched > before+4*minute {
			t.Errorf("%s: vouched %s after %s", name, v.Vouched, before)
		}
	}
}

// TestStorageAfterALodgedRemoveIsRefused: the host has the bank's receipts, and keeps the order to itself.
func TestStorageAfterALodgedRemoveIsRefused(t *testing.T) {
	for until, code := range map[member.Minute]Code{0: "", 1: CodeStopped} {
		r := newRig(t)
		run := order(1)
		mustRun(t, r, run)
		r.pass(4)
		mustDo(t, r, Stop{run.Lease})
		r.pass(2)
		l, h := r.hosts[0].leases[run.Lease], r.hosts[0]
		r.loseBack = func(s step.Send) bool { return step.Op(s.Frame.Op) == step.OpAlive }
		h.receipts = map[member.Minute][]wire.Object{}
		h.tamper = func(u *ledger.Usage) {
			if u.Status == ledger.StatusHold {
				rebill(l, u, ledger.StatusStopped, identity.Hash{})
				c := reliability.Receipt{Witness: r.bank.self, Host: h.self, Minute: u.First, Answer: identity.Hash{1}}
				o := r.seal(r.bank.self, c)
				seen := reliability.NewTestimony(h.self, reliability.NewPanel(r.bank.self))
				seen.Add(c, o.Ref(r.market))
				u.Basis, u.Receipts, h.receipts[u.First] = ledger.BasisStorage, seen.Root(u.First, u.Billable), []wire.Object{o}
			}
		}
		if until != 0 {
			r.c.leases.Get(run.Lease).KeepUntil = r.minute() + until
			r.c.leases.Touch(run.Lease)
		}
		r.pass(5)
		r.loseBack = nil
		r.pass(2)
		if v := r.view(run.Lease); (v.Refused == nil) != (code == "") || v.Refused != nil && v.Refused.Code != code {
			t.Errorf("ordered to be removed %d minutes in: refused %+v, want %q", until, v.Refused, code)
		}
	}
}

// TestWhoObjectsRevokes: a host that is not paid is not to go on at its consumer's expense.
func TestWhoObjectsRevokes(t *testing.T) {
	r := newRig(t)
	run, h := entrusted(r, 0)
	h.tamper = func(u *ledger.Usage) {
		if u.Status == ledger.StatusRunning {
			u.Numerator += 3600
		}
	}
	r.pass(3)
	if v := r.view(run.Lease); v.Refused == nil || v.Refused.Code != CodeArithmetic || v.Away != nil {
		t.Fatalf("refused %+v, mandate %+v", v.Refused, v.Away)
	}
	if l := h.leases[run.Lease]; l.command != 1 {
		t.Fatalf("the host has %d commands, want the revocation", l.command)
	}
}

// TestOrdersThatAHostOnlyTakesReachTheBank: it says that it has carried out a stop, bills on, and says the same of the revocation. The bank
// would pay it on the mandate.
func TestOrdersThatAHostOnlyTakesReachTheBank(t *testing.T) {
	r := newRig(t)
	run, h := entrusted(r, 0)
	if _, err := r.do(Stop{run.Lease}); err != nil {
		t.Fatal(err)
	}
	l := h.leases[run.Lease]
	l.stopAt, l.state = 0, market.StateRunning
	at := r.minute()
	r.pass(5)
	if n := len(r.bank.lodged); n != 1 || r.bank.lodged[0].Order != market.CommandRevoke || r.bank.lodged[0].Minute > at+3 {
		t.Fatalf("lodged %+v", r.bank.lodged)
	}
	if v := r.view(run.Lease); v.Refused == nil || v.Refused.Code != CodeStopped || v.Away != nil {
		t.Fatalf("refused %+v, mandate %+v", v.Refused, v.Away)
	}
	mustDo(t, r, Remove{run.Lease})
	l.state, l.endAt = market.StateRunning, 0
	r.pass(20)
	if r.bank.closed != 1 {
		t.Errorf("%d times closed at the bank, want once", r.bank.closed)
	}
}

// TestRefusedRevocationIsForTheBank: it ends there what a host does not want to hear of, and is not signed again and again.
func TestRefusedRevocationIsForTheBank(t *testing.T) {
	for name, no := range map[string]*step.Refusal{"it takes it": nil, "it does not": step.Refuse(step.RefuseUnknown, "no such lease")} {
		r := newRig(t)
		run, h := entrusted(r, 0)
		h.refuse[step.OpCommand] = step.Refuse(step.RefuseState, "not now")
		r.bank.unwilling = no
		h.tamper = func(u *ledger.Usage) {
			if u.Status == ledger.StatusRunning {
				u.Numerator += 3600
			}
		}
		r.pass(10)
		if v := r.view(run.Lease); v.Refused == nil || v.Away != nil || (len(r.bank.lodged) == 1) != (no == nil) {
			t.Errorf("%s: refused %+v, mandate %+v, lodged %+v", name, v.Refused, v.Away, r.bank.lodged)
		}
		if n := r.c.leases.Get(run.Lease).Commands; n != 1 {
			t.Errorf("%s: %d commands signed, want one", name, n)
		}
	}
}

// TestStopRefusedLateIsOfTheMinuteOfItsOrder: a host that could not be reached for a while refuses what the bank has had all the time.
func TestStopRefusedLateIsOfTheMinuteOfItsOrder(t *testing.T) {
	r := newRig(t)
	run, h := entrusted(r, 0)
	at, before := r.minute(), r.c.leases.Get(run.Lease).Minutes
	r.lose = func(s step.Send) bool { return s.To == h.self }
	if _, err := r.do(Stop{run.Lease}); err != nil {
		t.Fatal(err)
	}
	h.refuse[step.OpCommand] = step.Refuse(step.RefuseState, "not now")
	h.blind = map[member.Minute]bool{}
	for m := range member.Minute(20) {
		h.blind[at+m] = true
	}
	r.pass(5)
	r.lose = nil
	r.pass(10)
	l := r.c.leases.Get(run.Lease)
	if l.Minutes > before+2 || l.Bill.Last > at+1 || l.Pending != nil {
		t.Errorf("%d minutes were signed for before, %d after, the last %d after the order; pending %+v", before, l.Minutes, l.Bill.Last-at, l.Pending)
	}
}

func TestMandateIsRenewedAsItIsUsedUp(t *testing.T) {
	r := newRig(t)
	run, h := entrusted(r, 200_000_000) // about seventeen minutes
	r.pass(60)
	if n := len(h.mandates); n < 4 || n > 12 {
		t.Fatalf("%d mandates in an hour", n)
	}
	for i, m := range h.mandates {
		if m.Seq != uint64(i+1) || m.From != h.mandates[0].From || i > 0 && m.MaxTotal <= h.mandates[i-1].MaxTotal {
			t.Fatalf("mandate %d is %+v", i+1, m)
		}
	}
	v := r.view(run.Lease)
	if v.Away == nil || v.Away.Most < 100_000_000 || v.Away.Most > 200_000_000 {
		t.Errorf("while away it may cost %+v", v.Away)
	}
	run2 := order(2)
	run2.Away, run2.Budget = Away{Most: 5 * ledger.Credit}, 100_000_000
	mustRun(t, r, run2)
	r.pass(1)
	for _, m := range h.mandates {
		if m.Lease == run2.Lease && m.MaxTotal != run2.Budget {
			t.Errorf("a mandate up to %s beyond the budget of %s", m.MaxTotal, run2.Budget)
		}
	}
}

func TestOrderForASilentHostIsLodged(t *testing.T) {
	r := newRig(t)
	run, h := entrusted(r, 0)
	r.lose = func(s step.Send) bool { return s.To == h.self }
	got, err := r.do(Stop{run.Lease})
	out, _ := got.(Ordered)
	if err != nil || out.Done || !strings.Contains(out.Note, "the bank has it too") || len(r.bank.lodged) != 1 || r.bank.lodged[0].Order != market.CommandStop {
		t.Fatalf("told %+v, lodged %+v", out, r.bank.lodged)
	}
	at := r.minute()
	r.pass(5)
	if v := r.view(run.Lease); !v.Lodged || len(r.bank.lodged) != 1 {
		t.Errorf("five minutes later: lodged %v, %d times", v.Lodged, len(r.bank.lodged))
	}
	h.close() // a host that keeps the order to itself bills on
	r.lose = nil
	h.refuse[step.OpCommand] = step.Refuse(step.RefuseBusy, "later")
	r.pass(3)
	v := r.view(run.Lease)
	if v.Refused == nil || v.Refused.Code != CodeStopped {
		t.Fatalf("minutes after the order: refused %+v", v.Refused)
	}
	for _, e := range h.leases[run.Lease].entries[:r.c.leases.Get(run.Lease).Place.Seq] {
		if u := decode[ledger.Usage](r, e); u.Basis == ledger.BasisMandate && u.First > at {
			t.Errorf("minute %d is signed for, the bank had the order in %d", u.First, at)
		}
	}
}

// TestMandateIsNotRenewedBeforeItsMinutesAreFollowed: back, this node knows a witness no more, and what it saw counts all the same.
func TestMandateIsNotRenewedBeforeItsMinutesAreFollowed(t *testing.T) {
	r := newRig(t)
	run, h := entrusted(r, 0)
	r.leave(10)
	r.hosts = r.hosts[:1]
	r.restart()
	r.until(r.now + 30*member.Second)
	if v := r.view(run.Lease); v.Refused != nil || v.Vouched != v.Owed || v.Minutes < 9 || len(h.mandates) != 2 || len(h.panel) != 1 {
		t.Fatalf("%d minutes, vouched %s of %s, %d mandates, refused %+v", v.Minutes, v.Vouched, v.Owed, len(h.mandates), v.Refused)
	}
}

func TestStopThatAHostRefusesIsLodged(t *testing.T) {
	r := newRig(t)
	run, h := entrusted(r, 0)
	h.refuse[step.OpCommand] = step.Refuse(step.RefuseWithdrawn, "not now")
	if got, err := r.do(Stop{run.Lease}); err != nil || got.(Ordered).Done || len(r.bank.lodged) != 1 {
		t.Fatalf("told %+v, %v; lodged %+v", got, err, r.bank.lodged)
	}
	delete(h.refuse, step.OpCommand)
	r.pass(2)
	if v := r.view(run.Lease); v.State != "stopped" || v.Pending != "" {
		t.Fatalf("once it is taken: %s, pending %q", v.State, v.Pending)
	}
}

// TestMinutesBeforeALodgedStopArePaid: the host is back with minutes that ran on the mandate until the order.
func TestMinutesBeforeALodgedStopArePaid(t *testing.T) {
	r := newRig(t)
	run, h := entrusted(r, 0)
	r.leave(4)
	r.lose = func(s step.Send) bool { return s.To == h.self }
	if _, err := r.do(Stop{run.Lease}); err != nil {
		t.Fatal(err)
	}
	h.close()
	r.lose = nil
	r.pass(3)
	if v := r.view(run.Lease); v.Refused != nil || v.State != "stopped" || v.Vouched != v.Owed || v.Minutes < 6 || len(h.mandates) != 1 {
		t.Fatalf("%s, %d minutes, vouched %s of %s, %d mandates, refused %+v", v.State, v.Minutes, v.Vouched, v.Owed, len(h.mandates), v.Refused)
	}
}

func TestStartAfterALodgedStopHasANewMandate(t *testing.T) {
	r := newRig(t)
	run, h := entrusted(r, 0)
	r.lose = func(s step.Send) bool { return s.To == h.self }
	if _, err := r.do(Stop{run.Lease}); err != nil {
		t.Fatal(err)
	}
	r.lose = nil
	r.pass(3)
	mustDo(t, r, Start{Lease: run.Lease})
	r.pass(2)
	last := h.mandates[len(h.mandates)-1]
	if len(h.mandates) != 2 || last.From <= h.mandates[0].From || r.view(run.Lease).Away == nil {
		t.Fatalf("mandates %+v", h.mandates)
	}
}

func TestMandateIsRevokedAndGivenAgain(t *testing.T) {
	r := newRig(t)
	run, h := entrusted(r, 0)
	if _, err := r.do(Entrust{run.Lease, Away{Off: true}}); err != nil {
		t.Fatal(err)
	}
	r.pass(1)
	if v := r.view(run.Lease); v.Away != nil || v.State != "running" || r.told("mandate.revoked") != 1 {
		t.Fatalf("revoked: %+v, %s", v.Away, v.State)
	}
	if got, err := r.do(Entrust{run.Lease, Away{Most: 3 * ledger.Credit}}); err != nil {
		t.Fatal(err)
	} else if v := got.(View); v.Away == nil || v.Away.Most != 3*ledger.Credit {
		t.Fatalf("given again: %+v", v.Away)
	}
	r.pass(2)
	if len(h.mandates) != 2 || h.mandates[1].From <= h.mandates[0].From {
		t.Errorf("mandates %+v", h.mandates)
	}
	if _, err := r.do(Entrust{run.Lease, Away{Most: -1}}); err == nil {
		t.Error("a negative amount is taken")
	}
	if _, err := r.do(Entrust{idOf(999), Away{}}); err == nil {
		t.Error("a lease that there is not is taken")
	}
}

func TestHostThatTakesNoMandateIsNamed(t *testing.T) {
	r := newRig(t)
	r.hosts[0].refuse[step.OpMandate] = step.Refuse(step.RefuseSpec, "not on these terms")
	run := order(1)
	run.Away = Away{}
	mustRun(t, r, run)
	r.pass(2)
	if v := r.view(run.Lease); v.Away == nil || v.Away.Refused != "not on these terms" || r.told("mandate.refused") != 1 {
		t.Fatalf("mandate %+v", v.Away)
	}
}

func TestKinOfAPartyIsNoWitness(t *testing.T) {
	for name, owner := range map[string]func(*rig) identity.Address{
		"the host":     func(r *rig) identity.Address { return r.hosts[0].self },
		"the consumer": func(r *rig) identity.Address { return r.self },
	} {
		r := newRig(t)
		r.hosts[1].owner = owner(r)
		run := order(1)
		run.Away = Away{}
		mustRun(t, r, run)
		r.pass(3)
		if p := r.hosts[0].panel; len(p) != 1 || !p.Has(r.bank.self) {
			t.Errorf("a host of the owner of %s bears witness: %v", name, p)
		}
	}
}
