package gate

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// good is a machine that passes every gate.
func good() Facts {
	return Facts{Platform: "Debian GNU/Linux 13", Engine: "29.5.1", Containerd: "v2.2.5", Runc: "1.3.6", Toolkit: "1.17.8", RealGPUs: true,
		Security: []string{"name=apparmor", "name=seccomp,profile=builtin"}, Storage: "overlay2 on xfs", Quota: true, SkewKnown: true, Skew: -time.Second}
}

func TestGoodMachinePassesEveryGate(t *testing.T) {
	list := good().Judge(false)
	if len(list) != 10 || Unfit(list) != "" {
		t.Fatalf("%d gates, unfit %q", len(list), Unfit(list))
	}
	for _, r := range list {
		if r.State != Passes || r.Fix != "" || r.Actual == "" || r.Needed == "" {
			t.Errorf("got %+v", r)
		}
	}
}

// Each gate fails alone, says what is needed and how to mend it, and in a testnet only the soft ones warn.
func TestEachGateFailsAlone(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Facts)
		soft   bool
	}{
		{"engine", func(f *Facts) { f.EngineErr = errors.New("no answer") }, false},
		{"engine", func(f *Facts) { f.Remote = true }, false},
		{"engine", func(f *Facts) { f.Platform = "Docker Desktop" }, false},
		{"engine", func(f *Facts) { f.Process = true }, true},
		{"docker", func(f *Facts) { f.Engine = "20.10.24+dfsg1" }, true},
		{"docker", func(f *Facts) { f.Engine = "" }, true},
		{"containerd", func(f *Facts) { f.Containerd = "1.6.20~ds1" }, true},
		{"runc", func(f *Facts) { f.Runc = "1.1.5+ds1" }, true},
		{"nvidia-toolkit", func(f *Facts) { f.Toolkit = "1.16.1" }, true},
		{"seccomp", func(f *Facts) { f.Security = []string{"name=seccomp,profile=unconfined"} }, false},
		{"seccomp", func(f *Facts) { f.Security = nil }, false},
		{"disk-quota", func(f *Facts) { f.Quota = false }, true},
		{"firewall", func(f *Facts) { f.FirewallErr = errors.New("no nft") }, false},
		{"pod-networks", func(f *Facts) { f.RoomErr = errors.New("routes everywhere") }, false},
		{"clock", func(f *Facts) { f.Skew = 2001 * time.Millisecond }, false},
		{"clock", func(f *Facts) { f.Skew = -time.Hour }, false},
	} {
		f := good()
		tt.change(&f)
		for _, testnet := range []bool{false, true} {
			want := Fails
			if testnet && tt.soft {
				want = Warns
			}
			list := f.Judge(testnet)
			for _, r := range list {
				if r.Name == tt.name && (r.State != want || r.Fix == "" || r.Needed == "" || r.Actual == "") || r.Name != tt.name && r.State != Passes {
					t.Errorf("%s, testnet %v: got %+v", tt.name, testnet, r)
				}
			}
			if why := Unfit(list); strings.HasPrefix(why, tt.name+": ") != (want == Fails) {
				t.Errorf("%s, testnet %v: unfit %q", tt.name, testnet, why)
			}
		}
	}
}

func TestSimulatedGPUsNeedNoToolkit(t *testing.T) {
	f := good()
	f.RealGPUs, f.Toolkit, f.SkewKnown, f.Skew = false, "", false, time.Hour
	if why := Unfit(f.Judge(false)); why != "" {
		t.Error(why)
	}
}

func TestAtLeast(t *testing.T) {
	least := []string{"1.7.33", "2.0.10", "2.2.5"}
	for version, want := range map[string]bool{
		"1.6.99": false, "1.7.32": false, "1.7.33": true, "v1.7.40~ds1": true, "1.8.0": false, "2.0.9": false, "2.0.10": true, "2.1.99": false,
		"2.2.4": false, "2.2.5-rc1": true, "2.3.0": true, "10.0.0": true, "3": true, "": false, "dev": false, "2.2": false,
	} {
		if got := AtLeast(version, least); got != want {
			t.Errorf("%q: got %v, want %v", version, got, want)
		}
	}
}
