package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	leaseA = "0123456789abcdef0123456789abcdef"
	leaseB = "ffffffffffffffffffffffffffffffff"
)

func container(start uint32, s State) Have {
	return Have{ID: fmt.Sprintf("c%d", start), Lease: leaseA, Start: start, State: s}
}

func show(list []Action) string {
	var b []string
	for _, a := range list {
		b = append(b, strings.TrimSuffix(fmt.Sprintf("%s %s", a.Verb, a.Have.ID), " "))
	}
	return strings.Join(b, ", ")
}

// Every phase against every state of the run wanted, of an older one and of a newer one.
func TestActionsForEveryPhaseAndState(t *testing.T) {
	volume := Have{Object: Volume, ID: "v", Lease: leaseA}
	network := Have{Object: Network, ID: "n", Lease: leaseA}
	for _, tt := range []struct {
		phase Phase
		have  []Have
		want  string
	}{
		{Run, nil, "launch"},
		{Run, []Have{volume}, "launch"},
		{Run, []Have{container(2, Created)}, "begin c2"},
		{Run, []Have{container(2, Running)}, ""},
		{Run, []Have{container(2, Exited)}, ""},
		{Run, []Have{container(1, Created)}, "remove container c1"},
		{Run, []Have{container(1, Running)}, "halt c1"},
		{Run, []Have{container(1, Exited), volume}, "remove container c1"},
		{Run, []Have{container(3, Created)}, ""},
		{Run, []Have{container(3, Running)}, ""},
		{Run, []Have{container(3, Exited)}, ""},
		{Run, []Have{container(1, Running), container(2, Running)}, "halt c1"},
		{Run, []Have{container(1, Exited), container(2, Created)}, "remove container c1"},
		{Run, []Have{container(1, Exited), container(2, Exited)}, "remove container c1"},
		{Run, []Have{container(1, Exited), container(3, Running)}, ""},
		{Run, []Have{container(0, Exited), container(1, Running)}, "halt c1, remove container c0"},

		{Run, []Have{network}, "launch"},
		{Run, []Have{container(1, Exited), network}, "remove container c1"},

		{Stop, nil, ""},
		{Stop, []Have{network, container(2, Exited)}, ""},
		{Stop, []Have{volume}, ""},
		{Stop, []Have{container(2, Created)}, "remove container c2"},
		{Stop, []Have{container(2, Running), volume}, "halt c2"},
		{Stop, []Have{container(2, Exited)}, ""},
		{Stop, []Have{container(1, Running)}, "halt c1"},
		{Stop, []Have{container(3, Running)}, "halt c3"},

		{Remove, nil, ""},
		{Remove, []Have{volume}, "remove volume v"},
		{Remove, []Have{volume, container(2, Created)}, "remove container c2, remove volume v"},
		{Remove, []Have{volume, container(2, Running)}, "halt c2"},
		{Remove, []Have{volume, container(2, Exited)}, "remove container c2, remove volume v"},
		{Remove, []Have{volume, container(1, Exited), container(3, Running)}, "halt c3"},
		{Remove, []Have{network, volume, container(1, Exited)}, "remove container c1, remove volume v, remove network n"},
		{Remove, []Have{network, container(3, Running)}, "halt c3"},

		{Clear, nil, ""},
		{Clear, []Have{volume}, ""},
		{Clear, []Have{volume, container(2, Created)}, "remove container c2"},
		{Clear, []Have{volume, container(2, Running), container(1, Exited)}, "halt c2"},
		{Clear, []Have{volume, container(2, Exited), container(1, Exited)}, "remove container c2, remove container c1"},
		{Clear, []Have{network, volume, container(2, Exited)}, "remove container c2, remove network n"},
		{Clear, []Have{network, container(2, Running)}, "halt c2"},
		{Clear, []Have{network}, "remove network n"},
	} {
		w := Want{Pod: Pod{Lease: leaseA}, Phase: tt.phase, Start: 2}
		if got := show(Actions([]Want{w}, tt.have)); got != tt.want {
			t.Errorf("%s of start 2 with %v: got %q, want %q", tt.phase, tt.have, got, tt.want)
		}
	}
}

func TestOrphansAreStoppedFirstAndKeepTheirVolumes(t *testing.T) {
	have := []Have{
		{Object: Volume, ID: "v", Lease: leaseB}, {ID: "running", Lease: leaseB, State: Running, Start: 1, Grace: 7 * time.Second},
		{Object: Volume, ID: "v0", Lease: "00"}, {ID: "ended", Lease: "00", State: Exited}, {Object: Volume, ID: "v1", Lease: "11"},
		{Object: Network, ID: "n", Lease: "22"},
	}
	want := []Want{{Pod: Pod{Lease: leaseA}, Phase: Run, Start: 1}}
	got := Actions(want, have)
	if show(got) != "remove container ended, remove network n, halt running, launch" || got[2].Grace != 7*time.Second {
		t.Fatalf("got %s with grace %s", show(got), got[2].Grace)
	}
	var kept []string
	for _, h := range OrphanVolumes(map[string]bool{leaseA: true, "11": true}, have) {
		kept = append(kept, h.ID)
	}
	if !slices.Equal(kept, []string{"v0", "v"}) {
		t.Fatalf("volumes to tell of: %v", kept)
	}
}

// Carrying out the plan on a toy engine, from any state, ends with what is wanted and an empty plan.
func FuzzActionsConverge(f *testing.F) {
	f.Add([]byte{1, 2, 0, 1, 1, 2})
	f.Add([]byte{3, 1, 1, 2, 2, 2, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 2 {
			return
		}
		w := Want{Pod: Pod{Lease: leaseA}, Phase: Phase(b[0]%4) + 1, Start: uint32(b[1] % 4)}
		have := []Have{{Object: Network, ID: "n", Lease: leaseA}, {Object: Volume, ID: "v", Lease: leaseA}}
		newest := uint32(0)
		for i := 2; i+1 < len(b) && i < 12; i += 2 {
			h := container(uint32(b[i]%5), State(b[i+1]%3)+Created)
			if !slices.ContainsFunc(have, func(o Have) bool { return o.ID == h.ID }) {
				have = append(have, h)
				newest = max(newest, h.Start)
			}
		}
		for range 20 {
			list := Actions([]Want{w}, have)
			if len(list) == 0 {
				checkEnd(t, w, have, newest)
				return
			}
			have = carryOut(list[0], have)
		}
		t.Fatalf("%+v: no end with %+v", w, have)
	})
}

func carryOut(a Action, have []Have) []Have {
	same := func(h Have) bool { return h.ID == a.Have.ID }
	switch a.Verb {
	case Launch:
		return append(have, container(a.Start, Created))
	case Begin:
		have[slices.IndexFunc(have, same)].State = Running
	case Halt:
		have[slices.IndexFunc(have, same)].State = Exited
	default:
		return slices.DeleteFunc(have, same)
	}
	return have
}

func checkEnd(t *testing.T, w Want, have []Have, newest uint32) {
	t.Helper()
	count := map[State]int{}
	volumes, networks := 0, 0
	for _, h := range have {
		switch h.Object {
		case Volume:
			volumes++
		case Network:
			networks++
		default:
			count[h.State]++
		}
	}
	switch {
	case w.Phase == Remove && len(have) != 0:
		t.Fatalf("removed, but left %+v", have)
	case w.Phase != Remove && volumes != 1:
		t.Fatalf("%s lost the volume", w.Phase)
	case w.Phase == Clear && len(have) != 1:
		t.Fatalf("cleared, but has %+v", have)
	case w.Phase == Stop && count[Running]+count[Created] != 0:
		t.Fatalf("stopped, but has %+v", have)
	case (w.Phase == Run || w.Phase == Stop) && networks != 1:
		t.Fatalf("%s lost the network", w.Phase)
	case w.Phase == Run && newest <= w.Start && len(have) != 3:
		t.Fatalf("run of %d ends with %+v", w.Start, have)
	}
}

func TestStartIDNamesOneStart(t *testing.T) {
	at := time.Unix(1_700_000_000, 5)
	a := Have{ID: "x", StartedAt: at}
	if a.StartID() != "x@1700000000000000005" {
		t.Fatalf("got %q", a.StartID())
	}
	if id := (Have{ID: "x"}).StartID(); id != "" {
		t.Fatalf("never started, but %q", id)
	}
}
