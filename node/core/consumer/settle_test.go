package consumer

import (
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// The request for a reservation outlives the attempt that it was for, and reaches the bank after the word that there is no
// lease.
func TestReservationThatComesTooLateIsReleased(t *testing.T) {
	for name, prepare := range map[string]func(*rig){
		"by the host's word": func(*rig) {},
		"by a close":         func(r *rig) { r.hosts[0].refuse[step.OpDecline] = step.Refuse(step.RefuseUnknown, "no such quote") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			prepare(r)
			var late step.Send
			r.lose = func(s step.Send) bool {
				if step.Op(s.Frame.Op) == step.OpReserve {
					late = s
					return true
				}
				return false
			}
			if _, err := r.do(order(1)); err == nil {
				t.Fatal("a lease without a reservation")
			}
			r.until(r.now + 5*member.Second)
			if len(r.bank.holds) != 0 || len(r.c.orders.Get(order(1).Bid).Loose) != 1 {
				t.Fatalf("%d reservations, %d attempts to undo; want none and one", len(r.bank.holds), len(r.c.orders.Get(order(1).Bid).Loose))
			}
			r.serve(late)
			r.restart()
			r.pass(5)
			for _, h := range r.bank.holds {
				if h.open {
					t.Error("money is set aside for no lease")
				}
			}
			if n := len(r.c.orders.Get(order(1).Bid).Loose); n != 0 || len(r.bank.holds) != 1 {
				t.Errorf("%d attempts are not undone, %d reservations were made", n, len(r.bank.holds))
			}
		})
	}
}

func TestCommandIsAnsweredWhenItsLeaseIsSettled(t *testing.T) {
	id := order(1).Lease
	for name, c := range map[string]struct {
		cmd any
		ok  bool
	}{"stop": {Stop{id}, true}, "remove": {Remove{id}, true}, "start": {Start{Lease: id}, false}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			mustRun(t, r, order(1))
			r.pass(3)
			if !c.ok {
				mustDo(t, r, Stop{id})
				r.pass(1)
			}
			n := r.tell(c.cmd)
			r.bank.final(r.hosts[0].leases[id])
			r.step(func(ctx *step.Context) {
				r.c.takeReceipt(ctx, r.c.leases.Get(id), []wire.AnyVerified{r.open(r.bank.of(id).receipt)})
			})
			r.pass(2)
			a, ok := r.answers[n]
			if !ok || (a.Err == nil) != c.ok {
				t.Fatalf("answered %v: %+v", ok, a)
			}
			if o, is := a.Value.(Ordered); c.ok && (!is || !o.Done || o.Note == "") {
				t.Errorf("answer %+v", a.Value)
			}
		})
	}
}

// The bank's raise did not come back; the next answer that shows the reservation does as well.
func TestReservationBesideAReceiptIsTaken(t *testing.T) {
	r := newRig(t)
	run := order(1)
	r.bank.meddle = func(v *ledger.Reservation) { v.Cap /= 4 }
	r.bank.down = true
	mustRun(t, r, run)
	r.pass(30)
	h, v := r.bank.of(run.Lease), r.view(run.Lease)
	if v.Vouched == v.Owed {
		t.Fatalf("vouched %v of a reservation of %v", v.Vouched, v.Cap)
	}
	h.res.Seq, h.res.Cap = h.res.Seq+1, 10*h.res.Cap
	h.receipt = r.seal(r.bank.self, ledger.SettleReceipt{Operator: r.bank.self, Host: v.Host, Lease: run.Lease, Reservation: h.res.ID, Paid: v.Vouched, Entry: 2, At: r.now})
	r.pass(35)
	if v := r.view(run.Lease); v.Cap != h.res.Cap || v.Paid == 0 || v.Vouched != v.Owed || v.State != market.StateRunning.String() {
		t.Fatalf("%s, reserved %v of %v, vouched %v of %v, paid %v", v.State, v.Cap, h.res.Cap, v.Vouched, v.Owed, v.Paid)
	}
}

// The bank is shown what is owed when it is asked for more: what it does not know it takes for funds.
func TestRaiseIsAskedForWithTheVoucher(t *testing.T) {
	r := newRig(t)
	run := order(1)
	r.bank.meddle = func(v *ledger.Reservation) { v.Cap /= 3 }
	mustRun(t, r, run)
	r.pass(20)
	v := r.view(run.Lease)
	if r.bank.shown.Total == 0 || r.bank.shown.Lease != run.Lease || v.Paid != r.bank.shown.Total || v.State != market.StateRunning.String() {
		t.Errorf("%s; the bank was shown %v, vouched are %v, known as paid %v", v.State, r.bank.shown.Total, v.Vouched, v.Paid)
	}
	if owed := v.Owed; owed != v.Vouched {
		t.Errorf("vouched %v of %v", v.Vouched, owed)
	}
}
