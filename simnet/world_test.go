package simnet

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// One seed is one history: the trace covers every event and every row that a core wrote.
func TestSeedGivesOneTrace(t *testing.T) {
	var last string
	for seed := uint64(1); seed <= 3; seed++ {
		a, err := Run(small(seed))
		if err != nil {
			t.Fatal(err)
		}
		b, err := Run(small(seed))
		if err != nil {
			t.Fatal(err)
		}
		a.Wall, b.Wall = 0, 0
		if !reflect.DeepEqual(a, b) {
			t.Errorf("seed %d twice:\n%+v\n%+v", seed, a, b)
		}
		if a.Trace == last {
			t.Errorf("seeds %d and %d have one trace", seed-1, seed)
		}
		last = a.Trace
	}
}

// A check that nothing can fail checks nothing: each of these worlds is broken on purpose, and has to be found out.
func TestSabotageIsNoticed(t *testing.T) {
	for _, c := range []struct {
		name     string
		how      sabotage
		promises string // one of which is broken
	}{
		{"outputs leave before the disk has them", sabotageNoDisk, "L5 L6 L4"},
		{"a crash brings back an old store", sabotageOldStore, "L5 L6 L7"},
		{"a row is not written", sabotageForget, "L5 L6 L7 M5 N2"},
		{"pods are killed without grace", sabotageNoGrace, "M4"},
		{"pods die unnoticed and are billed", sabotagePodDies, "L7"},
		{"two pods get one GPU", sabotageSellTwice, "M1"},
		{"a host is never reached again", sabotageCutOff, "N2"},
		{"the operator shows two journals", sabotageSplitView, "A1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := uint64(1); seed <= 12; seed++ {
				o := small(seed)
				o.Hosts, o.Consumers = 2, 4
				o.sabotage = c.how
				_, err := Run(o)
				var f *Failure
				if !errors.As(err, &f) {
					continue
				}
				if !strings.Contains(" "+c.promises+" ", " "+f.Promise+" ") && f.Promise != "panic" {
					t.Errorf("seed %d: %s is broken, want one of %s: %s", seed, f.Promise, c.promises, f.What)
				}
				t.Logf("seed %d: %s at %v: %s", seed, f.Promise, f.At, f.What)
				return
			}
			t.Error("12 seeds, and nobody noticed")
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{Hosts: -1, Hours: 1}, {Hosts: 3000, Hours: 1}, {Hosts: 1}, {Hosts: 1, Hours: -1}} {
		if _, err := Run(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// A world without faults has nothing that is free for want of somebody.
func TestWorldWithoutFaults(t *testing.T) {
	r, err := Run(Options{Hosts: 2, Consumers: 4, Hours: 3, Seed: 11})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"unattended", "unreachable", "host-fault", "engine", "gpu-fault"} {
		if r.Minutes[s] != 0 {
			t.Errorf("%d minutes are %s", r.Minutes[s], s)
		}
	}
	if r.Leases == 0 || r.Billed == 0 || r.Settled == 0 || r.Crashes != 0 || r.Unpaid != 0 {
		t.Errorf("%+v", r)
	}
}

// Disks that fill up and are freed, beside everything else that goes wrong, break no promise.
func TestFullDisksBreakNothing(t *testing.T) {
	few := uint64(12)
	if testing.Short() {
		few = 3
	}
	for seed := uint64(1); seed <= few; seed++ {
		o := small(seed)
		o.Faults.DiskFull = 15 * minute
		if _, err := Run(o); err != nil {
			t.Errorf("%v", err)
		}
	}
}
