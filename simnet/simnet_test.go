package simnet

import (
	"flag"
	"strconv"
	"strings"
	"testing"
)

var seedsFlag = flag.String("seeds", "", "how many seeds TestSeeds runs, or a list of them: 7,23")

// seeds are those that the flag asks for, or the first few.
func seeds(t *testing.T, few int) []uint64 {
	var out []uint64
	s := *seedsFlag
	if strings.Contains(s, ",") {
		for _, w := range strings.Split(strings.TrimSuffix(s, ","), ",") {
			n, err := strconv.ParseUint(w, 10, 64)
			if err != nil {
				t.Fatalf("-seeds: %v", err)
			}
			out = append(out, n)
		}
		return out
	}
	n := few
	if s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("-seeds: %v", err)
		}
	}
	for i := range n {
		out = append(out, uint64(i+1))
	}
	return out
}

// small is the small world of a seed, in which something is always broken.
func small(seed uint64) Options {
	l := newLots(seed, "options")
	return Options{Hosts: 1 + l.IntN(3), Consumers: 1 + l.IntN(5), Hours: float64(1 + l.IntN(2)), Seed: seed, Faults: Heavy()}
}

// TestSeeds runs small worlds under heavy faults. A failure names its seed: -seeds=N, runs that one alone.
func TestSeeds(t *testing.T) {
	few := 50
	if testing.Short() {
		few = 8
	}
	for _, seed := range seeds(t, few) {
		r, err := Run(small(seed))
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		t.Logf("seed %d: %d hosts, %d consumers, %v: %d events, %d leases, %d billed minutes, %d crashes, settled %s (minutes mandated %d, kept %d) in %v, trace %s",
			seed, r.Hosts, r.Consumers, r.Virtual, r.Events, r.Leases, r.Billed, r.Crashes, r.Settled.Text(), r.Mandated, r.Kept, r.Wall.Round(1e6), r.Trace)
	}
}

// big is the world of a day with as many members as a young market has.
func big(seed uint64) Options {
	return Options{Hosts: 20, Consumers: 30, Hours: 24, Seed: seed, Faults: Light()}
}

// TestDays runs whole days of larger worlds.
func TestDays(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	for _, seed := range []uint64{7, 8} {
		r, err := Run(big(seed))
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		t.Logf("seed %d: %+v", seed, r)
	}
}
