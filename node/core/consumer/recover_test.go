package consumer

import (
	"testing"

	"souk/node/core/step"
	"souk/p2p/member"
)

// forsake restarts the node out of a quarantine: its records are old, and what it signed since is not known.
func (r *rig) forsake() {
	r.t.Helper()
	r.old = true
	r.restart()
	r.old = false
}

// What was open is vouched for no more, by whatever way an entry comes; its commands jump over numbers that can be taken.
func TestForsakenLeaseIsVouchedForNoMore(t *testing.T) {
	r := newRig(t)
	run := order(1)
	mustRun(t, r, run)
	r.pass(3)
	before := r.signed[run.Lease]
	if before.Total == 0 {
		t.Fatal("nothing was signed before")
	}
	r.forsake()
	r.pass(3)
	r.restart()
	r.pass(3)
	if after := r.signed[run.Lease]; after != before || r.view(run.Lease).Refused == nil || r.view(run.Lease).Refused.Code != CodeRestored {
		t.Errorf("signed %v after %v; the objection is %+v", after.Total, before.Total, r.view(run.Lease).Refused)
	}
	began := uint64(r.now)
	if o, err := r.do(Remove{run.Lease}); err != nil || !o.(Ordered).Done {
		t.Fatalf("remove: %+v, %v", o, err)
	}
	if seq := r.hosts[0].leases[run.Lease].command; seq < began-uint64(member.Day) {
		t.Errorf("the command is number %d, which an earlier one can have", seq)
	}
}

// An order under way is given up, whichever stage it is at: nothing more is signed for it, and what was set aside is released.
func TestForsakenOrderIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		stage Stage
		lost  step.Op
	}{"asked": {StageAsked, step.OpRequest}, "reserving": {StageReserving, step.OpReserve}, "accepting": {StageAccepting, step.OpAccept}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			run := order(1)
			r.tell(run)
			for step.Op(r.queue[0].Frame.Op) != c.lost {
				r.deliver()
			}
			r.serve(r.queue[0]) // it arrives, and its answer does not
			if o := r.c.orders.Get(run.Bid); o.Stage != c.stage {
				t.Fatalf("the order is %v, want %v", o.Stage, c.stage)
			}
			r.forsake()
			sent := r.hosts[0].sent[step.OpAccept] + r.hosts[1].sent[step.OpAccept]
			r.pass(20)
			o := r.c.orders.Get(run.Bid)
			if o == nil || o.Stage != StageFailed || o.Failed == nil || o.Failed.Code != step.ProblemQuarantine {
				t.Fatalf("the order is %v, failed with %+v", o.Stage, o.Failed)
			}
			if n := r.hosts[0].sent[step.OpAccept] + r.hosts[1].sent[step.OpAccept]; n != sent || r.c.leases.Len() != 0 {
				t.Errorf("%d acceptances were sent, %d leases made", n-sent, r.c.leases.Len())
			}
			for _, h := range r.bank.holds {
				if h.open {
					t.Error("money stays set aside for it")
				}
			}
		})
	}
}
