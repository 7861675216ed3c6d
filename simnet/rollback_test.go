package simnet

import (
	"errors"
	"flag"
	"testing"

	"souk/p2p/member"
)

var tortureFlag = flag.Bool("torture", false, "long campaigns")

func restless(seed uint64, naked bool) Options {
	o := small(seed)
	o.Hosts, o.Consumers, o.Hours = 2, 4, 2
	o.Faults.Partition, o.Faults.Crash = 0, 2*member.Hour
	o.rollback = &rollback{every: 150 * member.Second, impair: 0.3, naked: naked}
	return o
}

// TestTortureRollback restores homes from old backups, in worlds under heavy faults: no place is ever signed twice.
func TestTortureRollback(t *testing.T) {
	want := 40
	if *tortureFlag {
		want = 1000
	}
	trials, waited, gaveUp, places := 0, 0, 0, 0
	for seed := uint64(1); trials < want; seed++ {
		o := restless(seed, false)
		if _, err := Run(o); err != nil {
			t.Fatal(err)
		}
		r := o.rollback
		if r.trials == 0 {
			t.Fatalf("seed %d: no home was restored", seed)
		}
		trials, waited, gaveUp, places = trials+r.trials, waited+r.waited, gaveUp+r.gaveUp, places+r.guarded
	}
	t.Logf("rollback: %d homes restored from old backups, %d told all, %d accepted the loss, %d places signed, 0 signed twice", trials, waited, gaveUp, places)
}

// Without quarantine the same worlds sign twice: the campaign can fail.
func TestRollbackWithoutQuarantineIsNoticed(t *testing.T) {
	_, err := Run(restless(1, true))
	var f *Failure
	if !errors.As(err, &f) || f.Promise != "L5" {
		t.Errorf("%v", err)
	}
}
