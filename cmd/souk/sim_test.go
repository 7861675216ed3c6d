package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"souk/simnet"
)

// simulated runs 'souk sim run' and gives what it printed.
func simulated(t *testing.T, args ...string) (code int, out, err string) {
	t.Helper()
	var o, x bytes.Buffer
	e := &env{in: strings.NewReader(""), out: &o, err: &x, now: time.Now}
	code = run(t.Context(), e, append([]string{"sim", "run"}, args...))
	return code, o.String(), x.String()
}

func TestSimRun(t *testing.T) {
	args := []string{"--hosts", "1", "--consumers", "2", "--hours", "1", "--seed", "3"}
	code, out, progress := simulated(t, args...)
	if code != 0 || !strings.Contains(out, "promises") || !strings.Contains(progress, "events") {
		t.Fatalf("exit %d\n%s\n%s", code, out, progress)
	}
	var traces []string
	for range 2 {
		var r simnet.Report
		code, out, _ := simulated(t, append(args, "-o", "json")...)
		if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || r.Hosts != 1 || r.Seed != 3 || r.Events == 0 {
			t.Fatalf("exit %d, %v: %+v", code, err, r)
		}
		traces = append(traces, r.Trace)
	}
	if traces[0] != traces[1] || !strings.Contains(out, traces[0]) {
		t.Errorf("traces %v, and:\n%s", traces, out)
	}
}

// Whoever cheats is named, with what it came to.
func TestSimRunCheats(t *testing.T) {
	args := []string{"--hosts", "2", "--consumers", "2", "--hours", "1", "--seed", "3", "--faults", "none", "--cheats", "refused-voucher,early-kill"}
	code, out, _ := simulated(t, args...)
	for _, want := range []string{"refused-voucher", "early-kill", "unpaid", "consumer-"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, want %q in\n%s", code, want, out)
		}
	}
}

func TestSimRunUsage(t *testing.T) {
	for _, args := range [][]string{{"--faults", "some"}, {"--hours", "0"}, {"--hosts", "-1"}, {"--cheats", "some"}} {
		if code, _, err := simulated(t, args...); code != 2 {
			t.Errorf("%v: exit %d, want 2: %s", args, code, err)
		}
	}
}
