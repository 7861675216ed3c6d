package consumer

import (
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// rebill makes an entry one that bills its only minute with another status.
func rebill(l *fakeLease, u *ledger.Usage, status ledger.Status, start identity.Hash) {
	was, _ := l.terms.Tariff.Rate(u.Status)
	now, _ := l.terms.Tariff.Rate(status)
	u.Numerator += 60 * (int64(now) - u.Minutes()*int64(was))
	u.Status, u.Basis, u.Billable, u.GPUs, u.Start = status, ledger.BasisAttended, 1, nil, start
}

// young is a lease whose pod has just come up.
func young(t *testing.T) (*rig, *fakeLease) {
	r := newRig(t)
	r.until(r.clock().Tick(r.minute()+1) + member.Second)
	mustRun(t, r, order(1))
	l := r.hosts[0].leases[order(1).Lease]
	r.until(l.upAt + 5*member.Second)
	return r, l
}

// exit ends a pod by itself.
func (l *fakeLease) exit(r *rig) {
	l.stopAt, l.state, l.reason = r.now, market.StateExited, market.ReasonExit
}

func mustDo(t *testing.T, r *rig, cmd any) {
	t.Helper()
	if o, err := r.do(cmd); err != nil || !o.(Ordered).Done {
		t.Fatalf("%T: %+v, %v", cmd, o, err)
	}
}

func TestEachOrderedStartOwesItsMinimumOnce(t *testing.T) {
	id := order(1).Lease
	for name, end := range map[string]func(*rig, *fakeLease){
		"stop":    func(r *rig, _ *fakeLease) { mustDo(t, r, Stop{id}) },
		"exit":    func(r *rig, l *fakeLease) { l.exit(r) },
		"restart": func(r *rig, _ *fakeLease) { mustDo(t, r, Stop{id}); mustDo(t, r, Start{Lease: id}) },
		"unheard": func(r *rig, l *fakeLease) {
			r.until(r.now + 30*member.Second)
			l.exit(r)
			r.loseBack = func(s step.Send) bool { return step.Op(s.Frame.Op) == step.OpAlive }
			r.pass(4)
			r.loseBack = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, l := young(t)
			end(r, l)
			r.pass(1)
			if v := r.view(id); v.Refused != nil || v.Minutes != 1 || v.Vouched != v.Owed {
				t.Fatalf("the first start: %d minutes, vouched %v of %v, refused %+v", v.Minutes, v.Vouched, v.Owed, v.Refused)
			}
			if name == "restart" {
				return
			}
			mustDo(t, r, Start{Lease: id})
			r.until(l.upAt + 5*member.Second)
			mustDo(t, r, Stop{id})
			r.pass(2)
			if v := r.view(id); v.Refused != nil || v.Minutes != 2 || v.Vouched != v.Owed {
				t.Fatalf("the second start: %d minutes, vouched %v of %v, refused %+v", v.Minutes, v.Vouched, v.Owed, v.Refused)
			}
		})
	}
}

// The answers that say running are lost, others of the same minute are not, so that the host takes the minute for answered.
func TestMinimumOfAStartThatWasHeardOfOnlyAtItsEnd(t *testing.T) {
	r := newRig(t)
	run := order(1)
	r.until(r.clock().Tick(r.minute()+1) + member.Second)
	mustRun(t, r, run)
	l := r.hosts[0].leases[run.Lease]
	r.loseBack = func(s step.Send) bool { return step.Op(s.Frame.Op) == step.OpAlive && l.state == market.StateRunning }
	r.until(l.upAt + 5*member.Second)
	l.exit(r)
	r.pass(2)
	if v := r.view(run.Lease); v.Refused != nil || v.Minutes != 1 || v.Vouched != v.Owed {
		t.Fatalf("%d minutes, vouched %v of %v, refused %+v", v.Minutes, v.Vouched, v.Owed, v.Refused)
	}
}

func TestMinimumThatIsNotOwedIsRefused(t *testing.T) {
	id := order(1).Lease
	for name, c := range map[string]struct {
		minutes uint64 // that are owed
		prepare func(*rig, *fakeLease)
	}{
		"beside running minutes": {3, func(r *rig, _ *fakeLease) {
			r.pass(4)
			mustDo(t, r, Stop{id})
		}},
		"twice": {1, func(r *rig, _ *fakeLease) {
			mustDo(t, r, Stop{id})
			r.pass(1)
		}},
		"while it runs": {0, func(*rig, *fakeLease) {}},
		"after displacement": {0, func(r *rig, l *fakeLease) {
			l.stopAt, l.state, l.reason = r.now, market.StateOutbid, market.ReasonOutbid
		}},
		"after another failure": {0, func(r *rig, l *fakeLease) {
			l.stopAt, l.state, l.reason = r.now, market.StateStopped, market.ReasonEngine
		}},
		"of a restart after a power loss": {3, func(r *rig, l *fakeLease) {
			r.pass(4)
			l.start, l.said, l.counted = identity.Keccak([]byte("again")), 0, true
			l.upAt = r.now
			r.until(r.now + 21*member.Second)
			mustDo(t, r, Stop{id})
		}},
		"of a start that never was": {0, func(r *rig, l *fakeLease) {
			l.counted, l.start = true, identity.Keccak([]byte("none"))
			r.lose = func(s step.Send) bool { return step.Op(s.Frame.Op) == step.OpAlive }
			mustDo(t, r, Stop{id})
			l.stopAt = l.upAt - 1
			r.lose = nil
		}},
		"of a start without GPUs": {3, func(r *rig, l *fakeLease) {
			r.pass(4)
			mustDo(t, r, Stop{id})
			r.pass(1)
			mustDo(t, r, Start{Lease: id, Zero: true})
			r.until(l.upAt + 5*member.Second)
			l.counted = true
			mustDo(t, r, Stop{id})
		}},
		"long after its end": {0, func(r *rig, l *fakeLease) {
			l.counted = true
			mustDo(t, r, Stop{id})
			r.pass(4)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r, l := young(t)
			c.prepare(r, l)
			start := l.start
			r.hosts[0].tamper = func(u *ledger.Usage) {
				if u.Status != ledger.StatusRunning && (u.Status != ledger.StatusMinimum || u.Start != start) {
					rebill(l, u, ledger.StatusMinimum, start)
				}
			}
			r.pass(5)
			if v := r.view(id); v.Refused == nil || v.Minutes != c.minutes || v.Vouched != v.Owed {
				t.Fatalf("%d minutes, want %d; vouched %v of %v, refused %+v", v.Minutes, c.minutes, v.Vouched, v.Owed, v.Refused)
			}
		})
	}
}

// Entries that are asked for may overtake the answer that tells of the end.
func TestMinimumWaitsForWordOfTheEnd(t *testing.T) {
	r, l := young(t)
	l.exit(r)
	r.now = r.clock().Tick(r.minute() + 1)
	r.hosts[0].close()
	r.step(func(ctx *step.Context) {
		v := r.open(l.entries[len(l.entries)-1])
		why, later := r.c.follow(ctx, r.c.leases.Get(order(1).Lease), v.(wire.Verified[ledger.Usage]), evidence{})
		if why != nil || !later {
			t.Errorf("objection %+v, later %v", why, later)
		}
	})
	r.pass(2)
	if v := r.view(order(1).Lease); v.Refused != nil || v.Minutes != 1 {
		t.Errorf("%d minutes, refused %+v", v.Minutes, v.Refused)
	}
}

// A minute that has ended for the host has not for a consumer whose clock is behind. That is no reason to part for ever.
func TestEarlyEntryIsTakenLater(t *testing.T) {
	r := newRig(t)
	run := order(1)
	mustRun(t, r, run)
	r.pass(3)
	for _, ahead := range []member.Time{45 * member.Second, 1200 * member.Second, 0} {
		r.hosts[0].ahead = ahead
		r.pass(4)
		if v := r.view(run.Lease); v.Refused != nil {
			t.Fatalf("the host's clock is %d s ahead: %+v", ahead/member.Second, v.Refused)
		}
	}
	r.pass(30)
	if v := r.view(run.Lease); v.Refused != nil || v.Vouched != v.Owed || v.Owed != r.hosts[0].leases[run.Lease].bill.Total {
		t.Fatalf("vouched %v of %v, refused %+v", v.Vouched, v.Owed, v.Refused)
	}
}

func TestStorageWithoutAnAnswerIsRefused(t *testing.T) {
	for _, c := range []struct {
		basis ledger.Basis
		code  Code
	}{{ledger.BasisStorage, CodeMandate}, {ledger.BasisAttended, CodeUnattended}} {
		r := newRig(t)
		run := order(1)
		mustRun(t, r, run)
		r.pass(4)
		mustDo(t, r, Stop{run.Lease})
		r.pass(2)
		stored := r.view(run.Lease).Stored
		r.loseBack = func(s step.Send) bool { return step.Op(s.Frame.Op) == step.OpAlive }
		l := r.hosts[0].leases[run.Lease]
		r.hosts[0].tamper = func(u *ledger.Usage) {
			if u.Status == ledger.StatusHold {
				rebill(l, u, ledger.StatusStopped, identity.Hash{})
				u.Basis = c.basis
			}
		}
		r.pass(4)
		r.loseBack = nil
		r.pass(2)
		if v := r.view(run.Lease); v.Refused == nil || v.Refused.Code != c.code || v.Stored > stored+1 {
			t.Fatalf("%v: %d minutes of storage after %d; refused %+v, want %s", c.basis, v.Stored, stored, v.Refused, c.code)
		}
	}
}

// Which of two starts was first is told by when the questions left and the answers came, and not by which answer came first: one may
// overtake another. What is known to be old may not be billed after what followed it.
func TestStartsAreInTheOrderOfTheQuestions(t *testing.T) {
	first, second := identity.Hash{1}, identity.Hash{2}
	type heard struct {
		start      identity.Hash
		sent, came member.Time // seconds after a tick
	}
	for name, c := range map[string]struct {
		answers []heard
		billed  identity.Hash
		entry   identity.Hash
		refused bool
	}{
		"in order":                          {[]heard{{first, 0, 1}, {second, 20, 21}}, first, second, false},
		"overtaken":                         {[]heard{{second, 20, 21}, {first, 19, 22}}, first, second, false},
		"the old one after all":             {[]heard{{first, 0, 1}, {second, 20, 21}}, second, first, true},
		"known to be old by a later answer": {[]heard{{second, 20, 21}, {first, 19, 22}, {second, 40, 41}}, second, first, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			mustRun(t, r, order(1))
			r.step(func(ctx *step.Context) {
				l := *r.c.leases.Get(order(1).Lease)
				l.Ran = nil
				tick := ctx.Clock.Tick(ctx.Minute() + 1)
				for _, h := range c.answers {
					at := *ctx
					at.Now = tick + h.came*member.Second
					rep := market.AliveReply{Minute: at.Minute(), State: market.StateRunning, Start: h.start}
					r.c.attend(&at, &l, rep, tick+h.sent*member.Second)
				}
				l.Place.Billed.Start = c.billed
				why := l.running(ledger.Usage{Seq: 9, Status: ledger.StatusRunning, Start: c.entry}, ctx.Minute()+1)
				if (why != nil) != c.refused || why != nil && why.Code != CodeStatus {
					t.Errorf("got %+v", why)
				}
			})
		})
	}
}
