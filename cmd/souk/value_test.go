package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"souk/p2p/wire"
)

func TestSizes(t *testing.T) {
	for s, want := range map[string]uint64{"10GiB": 10 << 30, "1.5TiB": 3 << 39, "500MB": 500e6, "0B": 0, "2KiB": 2048, "1kB": 1000} {
		if got, err := parseBytes(s); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "10", "GiB", "-1GiB", "1e3GiB", "0x10MiB", "10 gigabytes", "infGiB", "NaNB", "99999999TiB", "1_0GB"} {
		if got, err := parseBytes(s); err == nil {
			t.Errorf("%q was read as %d", s, got)
		}
	}
	for n, want := range map[uint64]string{0: "0B", 512: "512B", 1 << 30: "1GiB", 3 << 29: "1.5GiB", 81559 << 20: "79.6GiB"} {
		if got := showBytes(n); got != want {
			t.Errorf("%d is shown as %s, want %s", n, got, want)
		}
	}
}

func TestSpans(t *testing.T) {
	day := 24 * time.Hour
	for s, want := range map[string]time.Duration{"30m": 30 * time.Minute, "8h": 8 * time.Hour, "7d": 7 * day, "2w": 14 * day, "1d12h": 36 * time.Hour, "1w1d1s": 8*day + time.Second, "5s": 5 * time.Second} {
		if got, err := parseSpan(s); err != nil || got != want {
			t.Errorf("%s is %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "5", "-1h", "d", "1.5d", "1d-1h", "soon", "99999999w"} {
		if got, err := parseSpan(s); err == nil {
			t.Errorf("%q was read as %v", s, got)
		}
	}
	for d, want := range map[time.Duration]string{90 * time.Second: "1m30s", 25*time.Hour + time.Minute: "1d1h", 24*time.Hour + time.Second: "1d", time.Hour: "1h", 3 * time.Millisecond: "3ms", 59 * time.Second: "59s"} {
		if got := showSpan(d); got != want {
			t.Errorf("%v is shown as %s, want %s", d, got, want)
		}
	}
}

func TestPrices(t *testing.T) {
	var r rateValue
	if err := r.Set("0.34"); err != nil || r != 340_000_000 {
		t.Errorf("0.34 is %d, %v", r, err)
	}
	for _, s := range []string{"", "-1", "1e9", "0,34", "$1", "0.1234567891"} {
		if err := r.Set(s); err == nil {
			t.Errorf("%q was read as %d", s, r)
		}
	}
}

func TestVolumes(t *testing.T) {
	var v volumeValue
	if err := v.Set("5GiB"); err != nil || v.size != 5<<30 || v.mount != usualMount {
		t.Errorf("got %+v, %v", v, err)
	}
	if err := v.Set("1GiB:/data"); err != nil || v.size != 1<<30 || v.mount != "/data" {
		t.Errorf("got %+v, %v", v, err)
	}
	for _, s := range []string{"", "5", "5GiB:data", ":/data"} {
		if err := v.Set(s); err == nil {
			t.Errorf("%q was read as %+v", s, v)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("FROM_HERE", "yes")
	file := filepath.Join(t.TempDir(), "env")
	os.WriteFile(file, []byte("# comment\n\nA=file\nB = kept = so\n"), 0o600)
	if _, err := environment(nil, []string{file}); err == nil {
		t.Errorf("a name with a space was taken")
	}
	os.WriteFile(file, []byte("# comment\n\nA=file\nB=x=y\n"), 0o600)
	got, err := environment([]string{"A=flag", "FROM_HERE", "E="}, []string{file})
	if want := "A=file|B=x=y|A=flag|FROM_HERE=yes|E="; err != nil || strings.Join(got, "|") != want {
		t.Errorf("got %v, %v; want %s", got, err, want)
	}
	for _, s := range []string{"=x", "NOT_HERE_EITHER", ""} {
		if got, err := environment([]string{s}, nil); err == nil {
			t.Errorf("%q was taken as %v", s, got)
		}
	}
}

func TestIDsDiffer(t *testing.T) {
	seen := map[wire.ID]bool{}
	for range 100 {
		id := newID()
		if id.IsZero() || seen[id] {
			t.Fatalf("%v is no new id", id)
		}
		seen[id] = true
	}
}

func TestForeignTextSteersNoTerminal(t *testing.T) {
	if got := clean("a\x1b[31mb\u009bc\nd"); strings.ContainsAny(got, "\x1b\n\u009b") || !strings.HasPrefix(got, "a") {
		t.Errorf("got %q", got)
	}
}

func TestConditionsToWaitFor(t *testing.T) {
	for _, s := range []string{"up", "approved", "peers", "peers=2", "offers=0", "ready"} {
		if _, err := parseAwaits(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"", "down", "peers=x", "peers=-1", "up=1"} {
		if _, err := parseAwaits(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}
