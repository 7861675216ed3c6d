package consumer

import (
	"testing"

	"souk/market"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// The host's record of a wiped volume comes to the consumer, however long after the settlement, over a restart too.
func TestRecordOfAWipedVolumeIsKept(t *testing.T) {
	for name, keeps := range map[string]member.Time{"at once": 0, "two days later": 2 * member.Day} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			run := order(1)
			r.hosts[0].keeps = keeps
			mustRun(t, r, run)
			r.pass(3)
			mustDo(t, r, Remove{run.Lease})
			r.pass(8)
			v := r.view(run.Lease)
			if !v.Settled || (v.Wiped != nil) != (keeps == 0) {
				t.Fatalf("settled %v, wiped %+v", v.Settled, v.Wiped)
			}
			r.restart()
			r.until(r.now + keeps + 2*member.Hour)
			v = r.view(run.Lease)
			if v.Wiped == nil || v.Wiped.Bytes != run.Spec.Volume || v.Wiped.Reason != market.ReasonConsumer.String() || r.told("lease.wiped") != 1 {
				t.Fatalf("wiped %+v, told %d times", v.Wiped, r.told("lease.wiped"))
			}
			var o wire.Object
			if err := wire.Unmarshal(v.Wiped.Record, &o); err != nil || r.open(o).By() != r.hosts[0].self {
				t.Errorf("the record is not the host's: %v", err)
			}
			if r.wake != 0 {
				t.Errorf("with nothing left to do it wakes at %v", r.wake)
			}
		})
	}
}

// A record of another lease or volume, or of a forfeit that names none, is not taken; and nobody asks for ever.
func TestRecordThatFitsNotIsNotTaken(t *testing.T) {
	for name, change := range map[string]func(*market.VolumeRecord){
		"of another lease":             func(v *market.VolumeRecord) { v.Lease[0]++ },
		"of another volume":            func(v *market.VolumeRecord) { v.Volume++ },
		"of a nameless forfeit":        func(v *market.VolumeRecord) { v.Reason = market.ReasonForfeit },
		"with a cause that it has not": func(v *market.VolumeRecord) { v.Cause = identity.Hash{1} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			run := order(1)
			r.hosts[0].records = change
			mustRun(t, r, run)
			r.pass(3)
			mustDo(t, r, Remove{run.Lease})
			r.pass(20)
			if v := r.view(run.Lease); v.Wiped != nil {
				t.Fatalf("taken: %+v", v.Wiped)
			}
			r.until(r.now + 10*member.Day)
			if r.wake != 0 {
				t.Errorf("after ten days it still wakes at %v", r.wake)
			}
		})
	}
}
