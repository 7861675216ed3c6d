package host_test

import (
	"testing"

	"souk/market"
	"souk/node/core/host"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// earning is how a bench's only lease stands.
func (b *bench) earning() host.Earning {
	b.t.Helper()
	return b.local(host.Earnings{}).Value.([]host.Earning)[0]
}

// released is a receipt of the bank's after which it pays nothing more.
func released(b *bench, d *deal) wire.AnyVerified {
	return b.receipt(d.id, b.earning().Vouched, true)
}

func TestRefusedSettlementOfAReleasedReservationEndsTheLease(t *testing.T) {
	b, d := running(t)
	gone := released(b, d)
	b.banker = func(s step.Send, r *step.Response) {
		r.Objects = nil
		switch step.Op(s.Frame.Op) {
		case step.OpSettle:
			r.Err = &step.Failure{Code: step.FailRefused, Refusal: step.Refuse(step.RefuseMoney, "the reservation is released")}
		case step.OpReceipt:
			r.Objects = []wire.AnyVerified{gone, seal(b, operator, d.res)}
		}
	}
	b.to(noon + member.Hour + 5*member.Second)
	if e := b.earning(); e.State != market.StateEnded {
		t.Errorf("the lease is %v (%v)", e.State, e.Reason)
	}
}

func TestAnyAnswerThatTellsOfAReleaseEndsTheLease(t *testing.T) {
	b, d := running(t)
	gone := released(b, d)
	b.banker = func(s step.Send, r *step.Response) {
		if step.Op(s.Frame.Op) == step.OpRefresh {
			r.Objects = []wire.AnyVerified{seal(b, operator, d.res), gone}
		}
	}
	b.to(noon + 36*member.Hour/60) // half of what was set aside is used: the bank is asked for more
	b.to(b.now + 5*member.Second)
	b.to(noon + 38*member.Hour/60)
	if e := b.earning(); e.State != market.StateEnded {
		t.Errorf("the lease is %v (%v)", e.State, e.Reason)
	}
}

func TestReservationThatTheBankDoesNotKnowStopsThePod(t *testing.T) {
	b, d := running(t)
	d.res.Seq, d.res.Cap = d.res.Seq+1, 5_000_000_000
	b.must(b.ask(d.by, step.OpRaise, nil, seal(b, operator, d.res)))
	b.banker = func(_ step.Send, r *step.Response) {
		r.Objects, r.Err = nil, &step.Failure{Code: step.FailRefused, Refusal: step.Refuse(step.RefuseUnknown, "no such reservation")}
	}
	b.to(noon + member.Hour + 5*member.Second)
	if e := b.earning(); e.State != market.StateStopped || e.Reason != market.ReasonFunds {
		t.Errorf("the lease is %v (%v)", e.State, e.Reason)
	}
}

func TestSettlementBringsTheReservationAsItStands(t *testing.T) {
	b, d := running(t)
	asked := 0
	b.banker = func(s step.Send, r *step.Response) {
		switch step.Op(s.Frame.Op) {
		case step.OpSettle:
			d.res.Seq, d.res.Cap = d.res.Seq+1, 5_000_000_000
			r.Objects = append(r.Objects, seal(b, operator, d.res))
		case step.OpRefresh:
			asked++
		}
	}
	b.to(b.now + member.Second)
	b.local(host.SettleAll{})
	b.to(noon + 2*member.Hour)
	if e := b.earning(); e.State != market.StateRunning || asked != 0 {
		t.Errorf("the lease is %v (%v), the bank was asked for more %d times", e.State, e.Reason, asked)
	}
}

// A start that crosses the lowering of its reservation runs on: the bank is asked for more before a pod is stopped.
func TestLowerThatCrossesAStartStopsNoFundedPod(t *testing.T) {
	b, d := running(t)
	full := d.res
	asked := 0
	var late *step.Response
	b.banker = func(s step.Send, r *step.Response) {
		switch step.Op(s.Frame.Op) {
		case step.OpLower:
			held := *r
			late = &held
			r.Objects, r.Err = nil, &step.Failure{Code: step.FailUnreachable}
		case step.OpRefresh:
			asked++
			d.res.Seq, d.res.Cap = d.res.Seq+1, full.Cap
			r.Objects = []wire.AnyVerified{seal(b, operator, d.res)}
		}
	}
	b.do([]string{"stop", "L1"})
	for late == nil {
		b.to(b.now + member.Second)
	}
	low := d.res
	d.res = full
	b.must(b.order(d, market.CommandStart, false))
	b.up(d.id)
	d.res = low
	// The lowered reservation comes on its own: as it was raised and lowered, or from the consumer.
	b.must(b.ask(d.by, step.OpRaise, nil, seal(b, operator, low)))
	b.to(b.now + 3*member.Hour/60)
	if e := b.earning(); e.State != market.StateRunning || asked == 0 {
		t.Errorf("the lease is %v (%v) after %d questions", e.State, e.Reason, asked)
	}
}

func TestSilentBankKeepsNoPodRunningForLong(t *testing.T) {
	b, d := running(t)
	b.bankAway = true
	d.res.Seq, d.res.Cap = d.res.Seq+1, 60_000_000 // six minutes, of which some are owed
	b.must(b.ask(d.by, step.OpRaise, nil, seal(b, operator, d.res)))
	b.to(noon + 245*member.Second)
	if e := b.earning(); e.State != market.StateRunning {
		t.Errorf("a tick later the lease is %v (%v)", e.State, e.Reason)
	}
	b.to(noon + 365*member.Second)
	if e := b.earning(); e.State != market.StateStopped || e.Reason != market.ReasonFunds {
		t.Errorf("three ticks later the lease is %v (%v)", e.State, e.Reason)
	}
}

// A bank that has raised a reservation may be gone before it is used up: the host fetches the newer one in good time.
func TestRaisedReservationIsFetchedEarly(t *testing.T) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	asked := 0
	b.banker = func(s step.Send, r *step.Response) {
		if step.Op(s.Frame.Op) == step.OpRefresh {
			asked++
			d.res.Seq, d.res.Cap = 2, 24*600_000_000
			r.Objects = []wire.AnyVerified{seal(b, operator, d.res)}
		}
	}
	b.must(b.request(d))
	b.must(b.accept(d))
	b.up(d.id)
	b.to(noon + 5*member.Hour/60)
	b.bankAway, b.banker = true, nil
	b.to(noon + 5*member.Hour)
	if e := b.earning(); e.State != market.StateRunning || asked != 1 {
		t.Errorf("after five hours without its bank the lease is %v (%v); the bank was asked %d times", e.State, e.Reason, asked)
	}
}

// A node that was suspended closes minutes that nobody attended before it looks at the lease's limits.
func TestMinutesThatAreNotBilledUseUpNoLimit(t *testing.T) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	d.request.Minutes = 10
	b.must(b.request(d))
	b.must(b.accept(d))
	b.up(d.id)
	b.to(noon + 210*member.Second)
	b.now += 20 * member.Hour / 60
	b.step(func(*step.Context) {})
	if e := b.earning(); e.State != market.StateRunning {
		t.Errorf("after %d minutes the lease is %v (%v)", e.Minutes, e.State, e.Reason)
	}
}
