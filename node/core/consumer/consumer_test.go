package consumer

import (
	"errors"
	"strings"
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

func problemOf(t *testing.T, err error) *step.Problem {
	t.Helper()
	var p *step.Problem
	if !errors.As(err, &p) {
		t.Fatalf("got %v, want a problem", err)
	}
	return p
}

func mustRun(t *testing.T, r *rig, run Run) View {
	t.Helper()
	v, err := r.do(run)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	return v.(View)
}

func TestRunIsPaidMinuteByMinuteAndSettled(t *testing.T) {
	r := newRig(t)
	run := order(1)
	v := mustRun(t, r, run)
	if v.Lease != run.Lease || v.State != "certified" || v.Name == "" || v.Host != r.hosts[0].self || v.Rate != 340_000_000 {
		t.Fatalf("view after run: %+v", v)
	}
	r.pass(5)
	v = r.view(run.Lease)
	per := ledger.Amount(v.PerHour) / 60
	if v.State != "running" || v.Minutes != 4 || v.Owed != v.Vouched || v.Owed < 4*per || v.Owed > 4*per+4 {
		t.Fatalf("after 5 minutes: %s, %d minutes, owed %v, vouched %v; want 4 minutes of %v", v.State, v.Minutes, v.Owed, v.Vouched, per)
	}
	if o, err := r.do(Remove{run.Lease}); err != nil || !o.(Ordered).Done {
		t.Fatalf("remove: %+v, %v", o, err)
	}
	r.pass(8)
	v = r.view(run.Lease)
	if v.State != "ended" || !v.Settled || v.Paid != v.Vouched || v.Paid != r.hosts[0].leases[run.Lease].bill.Total || v.Paid == 0 {
		t.Fatalf("at the end: %+v", v)
	}
	for _, kind := range []string{"lease.requested", "lease.quoted", "lease.certified", "lease.running", "voucher.signed", "lease.ended", "lease.settled"} {
		if r.told(kind) != 1 {
			t.Errorf("%s was told %d times, want once", kind, r.told(kind))
		}
	}
	if n := len(r.log); n != int(r.hosts[0].leases[run.Lease].place.Seq) {
		t.Errorf("%d entries are kept, the host signed %d", n, r.hosts[0].leases[run.Lease].place.Seq)
	}
	if r.wake != 0 {
		t.Errorf("with nothing left to do it wakes at %v", r.wake)
	}
}

func TestSameRunIsOneOrder(t *testing.T) {
	r := newRig(t)
	run := order(1)
	a := r.tell(run)
	b := r.tell(run)
	r.pass(1)
	mustRun(t, r, run)
	if r.answers[a].Err != nil || r.answers[b].Err != nil || r.hosts[0].sent[step.OpRequest] != 1 {
		t.Fatalf("answers %v, %v; the host was asked %d times", r.answers[a].Err, r.answers[b].Err, r.hosts[0].sent[step.OpRequest])
	}
	again := order(2)
	again.Bid = run.Bid
	if _, err := r.do(again); problemOf(t, err).Code != step.ProblemConflict {
		t.Errorf("another lease under the same bid: %v", err)
	}
}

func TestPlanTellsWhatRunWillCost(t *testing.T) {
	r := newRig(t)
	run := order(1)
	p := run.wish()
	v, err := r.do(p)
	if err != nil {
		t.Fatal(err)
	}
	pr := v.(Proposal)
	run.MaxRate, run.Host = pr.Rate, pr.Host
	mustRun(t, r, run)
	set := r.view(run.Lease).Cap
	r.pass(3)
	got := r.view(run.Lease)
	if got.Rate != pr.Rate || got.Tariff != pr.Tariff || got.PerHour != pr.PerHour || set != pr.Reserve || !pr.BankKnown || pr.FundsFor <= 0 || pr.Offers != 2 {
		t.Fatalf("proposed %+v, got %+v", pr, got)
	}
	p.Budget = ledger.Credit / 10
	if v, _ := r.do(p); v.(Proposal).MostCost != p.Budget || v.(Proposal).MostFor != "budget" || v.(Proposal).Reserve != p.Budget {
		t.Errorf("with a budget: %+v", v)
	}
	p.MaxRate = 1
	_, err = r.do(p)
	if q := problemOf(t, err); q.Code != step.ProblemNoOffer || !strings.Contains(q.Text, "nearest") {
		t.Errorf("no offer: %v", err)
	}
	p.Type, p.MaxRate = market.Spot, 0
	if v, err := r.do(p); err != nil || v.(Proposal).Rate != r.hosts[0].offer.Groups[0].SpotNow {
		t.Errorf("spot without a bid: %+v, %v", v, err)
	}
}

func TestWorseQuoteIsDeclined(t *testing.T) {
	for name, worse := range map[string]func(*market.Terms){
		"rate":        func(t *market.Terms) { t.Rate++; t.Tariff.GPU += 2 },
		"disk":        func(t *market.Terms) { t.Tariff.DiskRunning++ },
		"volume":      func(t *market.Terms) { t.Tariff.VolumeStopped++ },
		"grace":       func(t *market.Terms) { t.Grace = 5; t.Notice = 0; t.Hold-- },
		"spec":        func(t *market.Terms) { t.Spec[0]++ },
		"image":       func(t *market.Terms) { t.Image = "sha256:" + strings.Repeat("9", 64) },
		"gpus":        func(t *market.Terms) { t.GPUs = 1; t.Tariff.GPU /= 2 },
		"type":        func(t *market.Terms) { t.Type = market.Spot },
		"budget":      func(t *market.Terms) { t.Budget = 1 },
		"policy":      func(t *market.Terms) { t.Policy = 2 },
		"signer":      func(t *market.Terms) { t.By = t.Host },
		"reservation": func(t *market.Terms) { t.Reservation[0]++ },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.hosts[0].worse = worse
			_, err := r.do(order(1))
			if p := problemOf(t, err); p.Code != step.ProblemConflict {
				t.Fatalf("got %v, want a conflict", err)
			}
			r.pass(2)
			if r.hosts[0].sent[step.OpDecline] != 1 || r.hosts[0].sent[step.OpAccept] != 0 || len(r.bank.holds) != 0 {
				t.Errorf("declined %d times, accepted %d, %d reservations", r.hosts[0].sent[step.OpDecline], r.hosts[0].sent[step.OpAccept], len(r.bank.holds))
			}
		})
	}
}

// A quote lasts ten seconds, and clocks may be thirty apart: it is the span that counts.
func TestQuoteOfAHostWhoseClockIsBehind(t *testing.T) {
	for _, c := range []struct {
		behind member.Time
		ok     bool
	}{{25 * member.Second, true}, {-25 * member.Second, true}, {35 * member.Second, false}, {-35 * member.Second, false}} {
		r := newRig(t)
		for _, h := range r.hosts {
			h.behind = c.behind
		}
		if _, err := r.do(order(1)); (err == nil) != c.ok {
			t.Errorf("host's clock %v ms behind: %v", c.behind, err)
		}
	}
}

func TestHostThatRefusesIsFollowedByTheNext(t *testing.T) {
	for name, prepare := range map[string]func(*rig){
		"no GPUs":     func(r *rig) { r.hosts[0].refuse[step.OpRequest] = step.Refuse(step.RefuseNoGPUs, "none") },
		"price":       func(r *rig) { r.hosts[0].refuse[step.OpRequest] = step.Refuse(step.RefusePrice, "dearer") },
		"too late":    func(r *rig) { r.hosts[0].refuse[step.OpAccept] = step.Refuse(step.RefuseExpired, "late") },
		"unreachable": func(r *rig) { r.lose = func(s step.Send) bool { return s.To == r.hosts[0].self } },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			// The second host asks more than the first: it is taken where the first one's price leaves room.
			r.hosts[1].offer.Groups[0].Price = r.hosts[0].offer.Groups[0].Price
			prepare(r)
			v := mustRun(t, r, order(1))
			if v.Host != r.hosts[1].self || v.Lease == order(1).Lease {
				t.Fatalf("leased at %v as %v", v.Host, v.Lease)
			}
			r.pass(30)
			open := 0
			for _, h := range r.bank.holds {
				if h.open {
					open++
				}
			}
			if open != 1 || len(r.c.orders.Get(order(1).Bid).Loose) != 0 {
				t.Errorf("%d reservations are open, %d attempts are loose", open, len(r.c.orders.Get(order(1).Bid).Loose))
			}
			if again := mustRun(t, r, order(1)); again.Lease != v.Lease {
				t.Errorf("the same run again is %v, want %v", again.Lease, v.Lease)
			}
		})
	}
}

func TestDearerHostIsNoSubstitute(t *testing.T) {
	r := newRig(t)
	r.hosts[0].refuse[step.OpRequest] = step.Refuse(step.RefuseNoGPUs, "none")
	if _, err := r.do(order(1)); problemOf(t, err).Code != step.ProblemConflict || r.hosts[1].sent[step.OpRequest] != 0 {
		t.Fatalf("got %v; the dearer host was asked %d times", err, r.hosts[1].sent[step.OpRequest])
	}
}

func TestNoFunds(t *testing.T) {
	r := newRig(t)
	r.bank.funds = 1
	_, err := r.do(order(1))
	if p := problemOf(t, err); p.Code != step.ProblemFunds || p.Hint == "" {
		t.Fatalf("got %v", err)
	}
	if _, err := r.do(order(1)); problemOf(t, err).Code != step.ProblemFunds {
		t.Errorf("the same run again: %v", err)
	}
	r.pass(30)
	if r.hosts[0].sent[step.OpDecline] != 1 || r.hosts[1].sent[step.OpRequest] != 0 {
		t.Errorf("declined %d times, the next host asked %d times", r.hosts[0].sent[step.OpDecline], r.hosts[1].sent[step.OpRequest])
	}
	r.until(r.now + 2*keepFails)
	if r.c.orders.Len() != 0 {
		t.Errorf("%d orders are kept for ever", r.c.orders.Len())
	}
}

func TestOtherReservationIsRefused(t *testing.T) {
	r := newRig(t)
	r.bank.meddle = func(v *ledger.Reservation) { v.Cap /= 10 }
	if _, err := r.do(order(1)); problemOf(t, err).Code != step.ProblemVerify || r.hosts[0].sent[step.OpAccept] != 0 {
		t.Fatalf("got %v", err)
	}
}

func TestNoOffer(t *testing.T) {
	r := newRig(t)
	run := order(1)
	run.Model = "H100"
	if _, err := r.do(run); problemOf(t, err).Code != step.ProblemNoOffer {
		t.Fatalf("got %v", err)
	}
	run = order(2)
	run.Host, run.MaxRate = r.hosts[0].self, 300_000_000
	if _, err := r.do(run); problemOf(t, err).Code != step.ProblemConflict || !strings.Contains(err.Error(), "0.34") {
		t.Fatalf("a host that asks more than agreed: %v", err)
	}
}

func TestLostAcceptIsAskedFor(t *testing.T) {
	for name, lose := range map[string]func(*rig){
		"on the way back":  func(r *rig) { r.loseBack = once(step.OpAccept) },
		"on the way there": func(r *rig) { r.lose = once(step.OpAccept) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			lose(r)
			v := mustRun(t, r, order(1))
			if r.hosts[0].sent[step.OpGetLease] == 0 || v.Host != r.hosts[0].self || v.Lease != order(1).Lease {
				t.Fatalf("asked %d times, leased %v at %v", r.hosts[0].sent[step.OpGetLease], v.Lease, v.Host)
			}
		})
	}
}

func once(op step.Op) func(step.Send) bool {
	done := false
	return func(s step.Send) bool {
		hit := !done && step.Op(s.Frame.Op) == op
		done = done || hit
		return hit
	}
}

func TestGivingUpAnUnconfirmedAcceptance(t *testing.T) {
	r := newRig(t)
	r.loseBack = func(s step.Send) bool {
		return step.Op(s.Frame.Op) == step.OpAccept || step.Op(s.Frame.Op) == step.OpGetLease
	}
	_, err := r.do(order(1))
	if problemOf(t, err).Code != step.ProblemUnreachable {
		t.Fatalf("got %v", err)
	}
	if o, err := r.do(Remove{order(1).Lease}); err != nil || o.(Ordered).Done {
		t.Fatalf("remove: %+v, %v", o, err)
	}
	r.loseBack = nil
	r.pass(8)
	if v := r.view(order(1).Lease); v.State != "ended" || !v.Settled {
		t.Fatalf("it is %s", v.State)
	}
}

func TestStopAndStart(t *testing.T) {
	r := newRig(t)
	run := order(1)
	run.Name = "train"
	mustRun(t, r, run)
	r.pass(3)
	if o, err := r.do(Stop{run.Lease}); err != nil || !o.(Ordered).Done {
		t.Fatalf("stop: %+v, %v", o, err)
	}
	r.pass(3)
	v := r.view(run.Lease)
	if v.State != "stopped" || v.Desire != "stop" || v.Stored == 0 || v.Vouched != v.Owed || v.PerHour != v.Tariff.VolumeStopped {
		t.Fatalf("stopped: %+v", v)
	}
	if o, _ := r.do(Stop{run.Lease}); o.(Ordered).Note == "" {
		t.Errorf("a second stop: %+v", o)
	}
	if o, err := r.do(Start{Lease: run.Lease}); err != nil || !o.(Ordered).Done {
		t.Fatalf("start: %+v, %v", o, err)
	}
	r.pass(4)
	if v := r.view(run.Lease); v.State != "running" || v.Starts != 2 || v.Refused != nil || v.Vouched != v.Owed {
		t.Fatalf("started again: %+v", v)
	}
	other := order(2)
	other.Name = "train"
	if _, err := r.do(other); problemOf(t, err).Code != step.ProblemConflict {
		t.Errorf("a second pod of that name: %v", err)
	}
	if v, err := r.do(Resolve{"train"}); err != nil || v.(View).Lease != run.Lease {
		t.Errorf("by name: %+v, %v", v, err)
	}
	if v, err := r.do(Resolve{run.Lease.String()[:12]}); err != nil || v.(View).Lease != run.Lease {
		t.Errorf("by prefix: %+v, %v", v, err)
	}
	if _, err := r.do(Resolve{"nothing"}); problemOf(t, err).Code != step.ProblemNotFound {
		t.Errorf("nothing: %v", err)
	}
	mustRun(t, r, order(2))
	if _, err := r.do(Resolve{"3"}); problemOf(t, err).Code != step.ProblemUsage {
		t.Errorf("two: %v", err)
	}
	if a, err := r.do(Balance{}); err != nil || a.(Account).PerHour == 0 || a.(Account).Lasts <= 0 {
		t.Errorf("balance: %+v, %v", a, err)
	}
}

func TestStartPaysFirstWhatTheHostHasJustCounted(t *testing.T) {
	r := newRig(t)
	run := order(1)
	r.hosts[0].lazy = true
	mustRun(t, r, run)
	r.pass(3)
	r.do(Stop{run.Lease})
	r.pass(4)
	if o, err := r.do(Start{Lease: run.Lease}); err != nil || !o.(Ordered).Done {
		t.Fatalf("start: %+v, %v", o, err)
	}
	if v := r.view(run.Lease); v.Stored == 0 || v.Vouched != v.Owed {
		t.Fatalf("started: %+v", v)
	}
}

func TestCommandWaitsForAHostThatIsAway(t *testing.T) {
	r := newRig(t)
	run := order(1)
	mustRun(t, r, run)
	r.pass(3)
	r.lose = func(s step.Send) bool { return s.To == r.hosts[0].self }
	o, err := r.do(Stop{run.Lease})
	if err != nil || o.(Ordered).Done || o.(Ordered).Note == "" {
		t.Fatalf("stop: %+v, %v", o, err)
	}
	r.pass(3)
	if v := r.view(run.Lease); v.Reachable || v.Pending != "stop" || r.told("lease.unreachable") != 1 {
		t.Fatalf("away: %+v", v)
	}
	r.restart()
	r.pass(1)
	r.lose = nil
	r.pass(2)
	if v := r.view(run.Lease); v.State != "stopped" || v.Pending != "" || !v.Reachable || v.Refused != nil {
		t.Fatalf("back: %+v", v)
	}
}

func TestGoneHostIsClosedAtTheBank(t *testing.T) {
	r := newRig(t)
	run := order(1)
	mustRun(t, r, run)
	r.pass(3)
	r.lose = func(s step.Send) bool { return s.To == r.hosts[0].self }
	r.do(Remove{run.Lease})
	r.pass(9)
	if r.bank.closed != 0 {
		t.Fatal("closed too early")
	}
	r.pass(4)
	if r.bank.closed != 1 || r.told("lease.closed") != 1 {
		t.Fatalf("closed %d times, told %d times", r.bank.closed, r.told("lease.closed"))
	}
}

func TestDisplacedPodTellsTheWinnersRate(t *testing.T) {
	r := newRig(t)
	run := order(1)
	run.Type, run.MaxRate = market.Spot, 200_000_000
	mustRun(t, r, run)
	r.pass(3)
	l := r.hosts[0].leases[run.Lease]
	l.notice = r.seal(r.hosts[0].self, market.Notice{Host: r.hosts[0].self, Lease: run.Lease, Reason: market.ReasonOutbid, Rate: 340_000_000, Term: 1, Kill: 2})
	l.state, l.reason, l.stopAt = market.StateOutbid, market.ReasonOutbid, r.now
	r.pass(3)
	v := r.view(run.Lease)
	if v.State != "outbid" || v.Rate != 200_000_000 || r.told("lease.outbid") != 1 {
		t.Fatalf("outbid: %+v", v)
	}
	for _, n := range r.notices {
		if n.Type == "lease.outbid" && !strings.Contains(n.Text, "0.34") {
			t.Errorf("told %q", n.Text)
		}
	}
}

func TestWrongEntryIsRefused(t *testing.T) {
	slot := int64(60)
	for name, c := range map[string]struct {
		code   Code
		tamper func(*ledger.Usage, *fakeLease)
	}{
		"numerator": {CodeArithmetic, func(u *ledger.Usage, _ *fakeLease) { u.Numerator++ }},
		"gap":       {CodeChain, func(u *ledger.Usage, _ *fakeLease) { u.Seq++ }},
		"skipped":   {CodeChain, func(u *ledger.Usage, _ *fakeLease) { u.First++ }},
		"fork":      {CodeChain, func(u *ledger.Usage, _ *fakeLease) { u.Prev[0]++ }},
		"terms":     {CodeTerms, func(u *ledger.Usage, _ *fakeLease) { u.Terms[0]++ }},
		"GPUs":      {CodeTerms, func(u *ledger.Usage, _ *fakeLease) { u.GPUs = nil }},
		"start":     {CodeUnattended, func(u *ledger.Usage, _ *fakeLease) { u.Start[0]++ }},
		"mandate":   {CodeMandate, func(u *ledger.Usage, _ *fakeLease) { u.Basis = ledger.BasisMandate }},
		"many": {CodeStatus, func(u *ledger.Usage, l *fakeLease) {
			rate, _ := l.terms.Tariff.Rate(u.Status)
			u.Count, u.Billable, u.Numerator = 2, 3, u.Numerator+slot*int64(rate)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			run := order(1)
			mustRun(t, r, run)
			l := r.hosts[0].leases[run.Lease]
			r.pass(4)
			good := r.view(run.Lease).Vouched
			hit := false
			r.hosts[0].tamper = func(u *ledger.Usage) {
				if !hit && u.Status == ledger.StatusRunning {
					hit = true
					c.tamper(u, l)
				}
			}
			r.pass(4)
			v := r.view(run.Lease)
			if v.Refused == nil || v.Refused.Code != c.code || r.told("lease.refused") != 1 {
				t.Fatalf("refused: %+v, want %s", v.Refused, c.code)
			}
			if v.Vouched != good {
				t.Errorf("vouched %v, want %v as before", v.Vouched, good)
			}
			if _, err := r.do(Stop{run.Lease}); err != nil {
				t.Errorf("stop: %v", err)
			}
		})
	}
}

func TestUnattendedMinuteIsRefused(t *testing.T) {
	r := newRig(t)
	run := order(1)
	mustRun(t, r, run)
	r.pass(4)
	// No answer comes back for two minutes; the host bills them all the same.
	r.loseBack = func(s step.Send) bool { return step.Op(s.Frame.Op) == step.OpAlive }
	l := r.hosts[0].leases[run.Lease]
	r.hosts[0].tamper = func(u *ledger.Usage) {
		if u.Status == ledger.StatusUnattended {
			rate, _ := l.terms.Tariff.Rate(ledger.StatusRunning)
			u.Status, u.Basis, u.Billable, u.GPUs, u.Start = ledger.StatusRunning, ledger.BasisAttended, 1, []string{"a", "b"}, l.start
			u.Numerator += 60 * int64(rate)
		}
	}
	r.pass(3)
	r.loseBack = nil
	r.pass(2)
	if v := r.view(run.Lease); v.Refused == nil || v.Refused.Code != CodeUnattended {
		t.Fatalf("refused: %+v", v.Refused)
	}
}

func TestMinuteAfterTheStopIsRefused(t *testing.T) {
	r := newRig(t)
	run := order(1)
	mustRun(t, r, run)
	r.pass(4)
	l := r.hosts[0].leases[run.Lease]
	if _, err := r.do(Stop{run.Lease}); err != nil {
		t.Fatal(err)
	}
	l.stopAt, l.state = 0, market.StateRunning // it took the order and runs on
	r.pass(5)
	if v := r.view(run.Lease); v.Refused == nil || v.Refused.Code != CodeStopped {
		t.Fatalf("refused: %+v", v.Refused)
	}
}

// A host that answers keep-alives and never hears an order to stop is paid up to the minute of the order, and no longer.
func TestWithheldStopIsNotPaidFor(t *testing.T) {
	for _, cmd := range []func(wire.ID) any{func(id wire.ID) any { return Stop{id} }, func(id wire.ID) any { return Remove{id} }} {
		for _, refuses := range []bool{false, true} {
			r := newRig(t)
			run := order(1)
			mustRun(t, r, run)
			r.pass(4)
			r.lose = func(s step.Send) bool { return step.Op(s.Frame.Op) == step.OpCommand && !refuses }
			if refuses {
				r.hosts[0].refuse[step.OpCommand] = step.Refuse(step.RefuseState, "not now")
			}
			at := r.minute()
			_, err := r.do(cmd(run.Lease))
			if l := r.c.leases.Get(run.Lease); refuses == (err == nil) || l.Desire == market.DesireRun {
				t.Fatalf("%T: %+v, %v", cmd(run.Lease), l, err)
			}
			before := r.c.leases.Get(run.Lease).Minutes
			r.pass(30)
			l := r.c.leases.Get(run.Lease)
			if l.Minutes > before+2 || l.Bill.Last > at+1 {
				t.Errorf("%T, refused %v: %d minutes were signed for before, %d after, the last %d after the order", cmd(run.Lease), refuses, before, l.Minutes, l.Bill.Last-at)
			}
			if _, removes := cmd(run.Lease).(Remove); removes && r.bank.closed != 1 {
				t.Errorf("refused %v: %d times closed at the bank, want once", refuses, r.bank.closed)
			}
			if len(r.bank.lodged) != 1 {
				t.Errorf("%T, refused %v: %d orders lodged with the bank, want it once", cmd(run.Lease), refuses, len(r.bank.lodged))
			}
		}
	}
}

func TestAnswerOfAnotherMinuteProvesNothing(t *testing.T) {
	r := newRig(t)
	run := order(1)
	mustRun(t, r, run)
	r.pass(4)
	l := r.c.leases.Get(run.Lease)
	ctx := &step.Context{Now: r.now, Clock: r.clock(), Policy: r.policy}
	seen := l.Seen
	for _, m := range []member.Minute{r.minute() - 2, r.minute() + 2} {
		r.c.attend(ctx, l, market.AliveReply{Minute: m, State: market.StateRunning, Start: l.Start}, r.now)
	}
	if l.Seen != seen {
		t.Errorf("map %+v became %+v", seen, l.Seen)
	}
}

func TestVoucherIsRepeatedUntilTheHostHasIt(t *testing.T) {
	r := newRig(t)
	run := order(1)
	mustRun(t, r, run)
	r.pass(3)
	n := 0
	r.lose = func(s step.Send) bool { n++; return step.Op(s.Frame.Op) == step.OpVoucher }
	r.until(r.clock().Tick(r.minute()+1) + 10*member.Second)
	r.lose = nil
	r.until(r.clock().Due(r.minute()))
	if l := r.hosts[0].leases[run.Lease]; l.paid.Total != l.bill.Total {
		t.Errorf("the host holds %v of %v", l.paid.Total, l.bill.Total)
	}
}

func TestReservationIsRaisedBeforeItIsUsedUp(t *testing.T) {
	r := newRig(t)
	run := order(1)
	mustRun(t, r, run)
	r.pass(90)
	v := r.view(run.Lease)
	if v.Refused != nil || v.Vouched != v.Owed || v.Minutes < 85 || v.Cap <= v.Owed {
		t.Fatalf("after 90 minutes: %+v", v)
	}
}

// What the bank has raised meanwhile is fetched as soon as a pod runs, so that the bank may be gone afterwards.
func TestRaisedReservationIsFetchedEarly(t *testing.T) {
	r := newRig(t)
	run := order(1)
	mustRun(t, r, run)
	before := r.view(run.Lease).Cap
	r.bank.down = true
	r.pass(3)
	r.bank.down = false
	r.pass(3) // the first answer was that it is busy
	r.bank.down = true
	v := r.view(run.Lease)
	if v.Cap <= before || r.hosts[0].sent[step.OpRaise] != 1 {
		t.Fatalf("set aside were %v, and are %v; the host was told %d times", before, v.Cap, r.hosts[0].sent[step.OpRaise])
	}
	r.pass(60)
	if w := r.view(run.Lease); w.Vouched <= before || w.Refused != nil {
		t.Fatalf("an hour later %v are signed, no more than the %v of the start", w.Vouched, before)
	}
}

func TestNothingIsSignedOverTheReservation(t *testing.T) {
	r := newRig(t)
	run := order(1)
	r.bank.meddle = func(v *ledger.Reservation) { v.Cap /= 4 }
	r.bank.down = true
	mustRun(t, r, run)
	r.pass(20)
	v := r.view(run.Lease)
	if v.Owed <= v.Cap || v.Vouched > v.Cap || v.Vouched == 0 {
		t.Fatalf("owed %v, signed %v, set aside %v", v.Owed, v.Vouched, v.Cap)
	}
	r.bank.down = false
	r.pass(10)
	if v = r.view(run.Lease); v.Vouched != v.Owed || v.Refused != nil {
		t.Fatalf("after a raise: owed %v, signed %v, set aside %v", v.Owed, v.Vouched, v.Cap)
	}
}

func TestNothingIsSignedOverTheBudget(t *testing.T) {
	r := newRig(t)
	run := order(1)
	run.Budget = 60_000_000
	mustRun(t, r, run)
	r.pass(10) // the host runs on, past the budget
	v := r.view(run.Lease)
	if v.Vouched > run.Budget || v.Refused == nil || v.Refused.Code != CodeBudget {
		t.Fatalf("signed %v of %v; refused %+v", v.Vouched, run.Budget, v.Refused)
	}
}

func TestAnswerThatDoesNotSayRunningPaysNothing(t *testing.T) {
	r := newRig(t)
	run := order(1)
	r.hosts[0].says = market.StateSetup
	mustRun(t, r, run)
	r.pass(4)
	if v := r.view(run.Lease); v.Refused == nil || v.Refused.Code != CodeUnattended || v.Vouched != 0 {
		t.Fatalf("refused %+v, signed %v", v.Refused, v.Vouched)
	}
}

func TestTwoOrdersToOneHostWaitForEachOther(t *testing.T) {
	r := newRig(t)
	h := r.hosts[0]
	r.hosts = r.hosts[:1]
	a := r.tell(order(1))
	h.refuse[step.OpRequest] = step.Refuse(step.RefuseCooldown, "one at a time")
	served := false
	r.lose = func(s step.Send) bool {
		if step.Op(s.Frame.Op) == step.OpRequest && !served {
			served = true
			delete(h.refuse, step.OpRequest)
		} else if step.Op(s.Frame.Op) == step.OpRequest && h.leases[order(1).Lease] == nil {
			h.refuse[step.OpRequest] = step.Refuse(step.RefuseCooldown, "one at a time")
		} else {
			delete(h.refuse, step.OpRequest)
		}
		return false
	}
	b := r.tell(order(2))
	r.pass(1)
	if r.answers[a].Err != nil || r.answers[b].Err != nil || len(h.leases) != 2 {
		t.Fatalf("answers %v, %v; %d leases", r.answers[a].Err, r.answers[b].Err, len(h.leases))
	}
}

// TestCrashAtEveryStep ends the node at each step of a whole lease, before its rows are on disk, after that but before
// anything left, and after all of it arrived. What is left must come to an end that all sides agree on.
func TestCrashAtEveryStep(t *testing.T) {
	plain := newRig(t)
	plain.whole()
	if v := plain.view(order(1).Lease); !v.Settled {
		t.Fatalf("without a crash: %+v", v)
	}
	for n := 2; n <= plain.steps; n++ {
		for _, how := range []crash{before, after, later} {
			r := newRig(t)
			r.crash = func(at int) crash {
				if at == n {
					return how
				}
				return none
			}
			r.whole()
			r.tell(Remove{order(1).Lease}) // where the crash took the order to remove with it
			r.pass(30)
			if err := r.consistent(order(1)); err != "" {
				t.Fatalf("crash %d at step %d: %s", how, n, err)
			}
		}
	}
}

// whole is a lease with everything in it.
func (r *rig) whole() {
	run := order(1)
	r.tell(run)
	r.pass(4)
	r.tell(Stop{run.Lease})
	r.pass(2)
	r.tell(Start{Lease: run.Lease})
	r.pass(3)
	r.tell(Remove{run.Lease})
	r.pass(4)
}

// TestLossAndCrashesEndConsistent loses messages both ways and ends the node again and again, from a seed.
func TestLossAndCrashesEndConsistent(t *testing.T) {
	leased := 0
	for seed := range uint64(300) {
		r := newRig(t)
		state := seed*2 + 1
		draw := func(n uint64) uint64 {
			state = state*6364136223846793005 + 1442695040888963407
			return state >> 33 % n
		}
		lossy := func(step.Send) bool { return draw(6) == 0 }
		r.lose, r.loseBack = lossy, lossy
		r.crash = func(int) crash { return []crash{before, after, later, none}[min(draw(100), 3)] }
		r.whole()
		r.lose, r.loseBack, r.crash = nil, nil, nil
		r.tell(Remove{order(1).Lease})
		r.pass(40)
		if err := r.consistent(order(1)); err != "" {
			t.Fatalf("seed %d: %s", seed, err)
		}
		if len(r.signed) > 0 {
			leased++
		}
	}
	if leased < 30 {
		t.Errorf("only %d of 300 orders came to a paid lease: the test tells little", leased)
	}
}

// consistent says what is wrong at the end of everything.
func (r *rig) consistent(run Run) string {
	o := r.c.orders.Get(run.Bid)
	if o == nil { // the crash took the order with it
		if len(r.bank.holds) != 0 || len(r.hosts[0].leases) != 0 {
			return "a lease that the consumer does not know"
		}
		return ""
	}
	for _, h := range r.bank.holds {
		if h.open {
			return "money is set aside for ever"
		}
	}
	if len(o.Loose) > 0 {
		return "an attempt is not undone"
	}
	l := r.c.leases.Get(o.Lease)
	if o.Stage == StageFailed {
		if l != nil || r.hosts[0].leases[o.Lease] != nil {
			return "a failed order has a lease"
		}
		return ""
	}
	fl := r.hosts[0].leases[o.Lease]
	switch {
	case o.Stage != StageLeased || l == nil || fl == nil:
		return "an order without an end: " + o.Stage.String()
	case !l.Done || l.State != market.StateEnded:
		return "a lease without an end: " + l.State.String()
	case l.Refused != nil:
		return "refused: " + l.Refused.Text
	case l.Paid != l.Signed || l.Signed != r.signed[o.Lease].Total:
		return "paid " + l.Paid.Text() + " of " + l.Signed.Text()
	case l.Place.Seq != fl.place.Seq || l.Place.Head != fl.place.Head:
		return "the chains end at different entries"
	case len(r.log) != len(fl.entries):
		return "entries are missing"
	}
	return ""
}
