package exec

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"souk/exec/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func hardPod() plan.Pod {
	return plan.Pod{Lease: toyLease, Market: "0011223344556677", Image: "reg.example/a@sha256:" + strings.Repeat("0a", 32), Command: []string{"x"},
		Env: []string{"A=1"}, Volume: 1 << 30, Memory: 1 << 30, CPUs: 2000, GPUs: []plan.GPU{{UUID: "GPU-0a"}}}
}

// hosted is the engine's configuration of a pod, as it goes over the socket.
func hosted(t *testing.T, p plan.Pod) (json.RawMessage, error) {
	t.Helper()
	c, err := plan.NewConfig(p, 1, plan.Policy{Home: "home1", Seccomp: "PROFILE"})
	if err != nil {
		return nil, err
	}
	h, err := hostConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(h, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n'), nil
}

func TestHostConfig(t *testing.T) {
	got, err := hosted(t, hardPod())
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/hostconfig.json"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got (%v)\n%s\nwant\n%s", err, got, want)
	}
}

// leaseSays are the settings that hang on the lease. FuzzNothingIsPrivileged, of package plan, bounds them.
var leaseSays = []string{"Memory", "MemorySwap", "ShmSize", "NanoCpus", "NetworkMode", "Mounts", "DeviceRequests", "Ulimits"}

// FuzzHostConfig holds what the engine is asked for against the golden file, whatever a consumer writes into a pod.
func FuzzHostConfig(f *testing.F) {
	f.Add(toyLease, "x", "A=1", "/workspace", int64(1), int64(1), int64(1), "GPU-0")
	f.Add(toyLease, "--privileged", "NVIDIA_VISIBLE_DEVICES=all", "/var/run/docker.sock", int64(1), int64(0), int64(0), "all")
	f.Fuzz(func(t *testing.T, lease, command, env, mount string, volume, memory, cpus int64, uuid string) {
		p := hardPod()
		p.Lease, p.Command, p.Env, p.Mount, p.Volume, p.Memory, p.CPUs, p.GPUs[0].UUID = lease, []string{command}, []string{env}, mount, volume, memory, cpus, uuid
		raw, err := hosted(t, p)
		if err != nil {
			return
		}
		golden, err := os.ReadFile("testdata/hostconfig.json")
		if err != nil {
			t.Fatal(err)
		}
		var got, want map[string]any
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(golden, &want); err != nil {
			t.Fatal(err)
		}
		if mounts, _ := got["Mounts"].([]any); len(mounts) > 1 || len(mounts) == 1 && mounts[0].(map[string]any)["Type"] != "volume" {
			t.Fatalf("mounts %v", got["Mounts"])
		}
		for _, name := range leaseSays {
			delete(got, name)
			delete(want, name)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
	})
}

func TestProfileOfSystemCalls(t *testing.T) {
	text, err := seccompProfile()
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		DefaultAction string
		ArchMap       []struct{ SubArchitectures []string }
		Syscalls      []struct {
			Names    []string
			Action   string
			Args     []any
			Includes *struct{ Caps []string }
		}
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for _, s := range p.Syscalls {
		if s.Action == "SCMP_ACT_ALLOW" && len(s.Args) == 0 && (s.Includes == nil || len(s.Includes.Caps) == 0) {
			for _, n := range s.Names {
				allowed[n] = true
			}
		}
	}
	if p.DefaultAction != "SCMP_ACT_ERRNO" || !allowed["read"] || !allowed["execve"] || !allowed["futex"] {
		t.Errorf("default %q, and what everybody needs: %v", p.DefaultAction, allowed["read"])
	}
	for _, a := range p.ArchMap {
		if len(a.SubArchitectures) > 0 {
			t.Errorf("calls of %v are let in", a.SubArchitectures)
		}
	}
	for _, n := range []string{"socket", "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup",
		"io_uring_enter", "mount", "unshare", "setns", "clone3", "init_module", "kexec_load", "open_by_handle_at", "reboot", "swapon"} {
		if allowed[n] {
			t.Errorf("%s is allowed to all", n)
		}
	}
}

func TestSubnetsLeaveRoutesAlone(t *testing.T) {
	small := []netip.Prefix{netip.MustParsePrefix("10.213.0.0/26"), netip.MustParsePrefix("10.9.0.16/28"), netip.MustParsePrefix("10.8.0.0/29"), netip.MustParsePrefix("fd00::/64")}
	collect := func(key string, taken ...string) (list []string) {
		var routes []netip.Prefix
		for _, s := range taken {
			routes = append(routes, netip.MustParsePrefix(s))
		}
		for p := range subnets(small, key, routes) {
			list = append(list, p.String())
		}
		return list
	}
	all := collect("a")
	sorted := slices.Sorted(slices.Values(all))
	if want := []string{"10.213.0.0/28", "10.213.0.16/28", "10.213.0.32/28", "10.213.0.48/28", "10.9.0.16/28"}; !slices.Equal(sorted, want) || all[4] != "10.9.0.16/28" {
		t.Errorf("got %v, want each of %v, the second pool's last", all, want)
	}
	if got := collect("a", "10.213.0.20/32", "10.213.0.32/27", "192.168.0.0/16"); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"10.213.0.0/28", "10.9.0.16/28"}) {
		t.Errorf("around routes: got %v", got)
	}
	if got := collect("a", "10.0.0.0/8"); len(got) != 0 {
		t.Errorf("under a route over all: got %v", got)
	}
	first := map[string]bool{}
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		first[collect(key)[0]] = true
	}
	if len(first) < 2 {
		t.Errorf("eight keys begin at %v", first)
	}
}
