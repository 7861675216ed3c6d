package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestConfigReadsBackWhatItSaved(t *testing.T) {
	home := filepath.Join(t.TempDir(), "a", "home")
	want := Config{
		Home: home, Roles: []string{"host", "consumer"}, Listen: []string{"/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/udp/4001/quic-v1"},
		Runtime: RuntimeDocker, SimulatedGPUs: "8xH100", Region: "DE", Alias: "ada: \"#1\"", PrivateImages: true, LogLevel: "debug",
		PassphraseFile: "pass", APISocket: "x.sock", DockerHost: "unix:///run/docker.sock", PodInternet: InternetClosed, PodMbit: 100,
		PodDNS: []string{"9.9.9.9"}, PodSubnets: []string{"10.9.0.0/16"}, Announce: []string{"/dns4/example.com/tcp/4001"},
	}
	if Exists(home) {
		t.Errorf("there is no node yet")
	}
	if err := want.Save(); err != nil {
		t.Fatal(err)
	}
	got, err := Load(home)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for path, mode := range map[string]os.FileMode{home: 0o700, filepath.Join(home, "config.yaml"): 0o600} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v; want %v", path, fi.Mode().Perm(), err, mode)
		}
	}
	entries, err := os.ReadDir(home)
	if err != nil || len(entries) != 1 {
		t.Errorf("saving left %v behind, %v", entries, err)
	}
}

func TestBadSettingsAreNamedWithTheirLine(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown", "roles: [host]\nrolez: [host]\n", "[2:1] unknown field \"rolez\""},
		{"twice", "region: DE\nregion: FR\n", "[2:1]"},
		{"type", "roles: [host]\nlisten: 7\n", "[2:9]"},
		{"no yaml", "roles: [host\n", "[1:"},
		{"role", "alias: x\nroles: [boss]\n", "[2:1] config: roles: "},
		{"address", "\n\nlisten:\n- somewhere\n", "[3:1] config: listen: "},
		{"runtime", "runtime: podman\n", "[1:1] config: runtime: \"podman\"; want auto, docker or process"},
		{"level", "log_level: loud\n", "[1:1] config: log_level"},
		{"boolean", "allow_private_registries: maybe\n", "[1:27]"},
		{"internet", "pod_internet: half\n", "[1:1] config: pod_internet: \"half\"; want open or closed"},
		{"resolver on the LAN", "pod_dns: [1.1.1.1, 192.168.1.1]\n", "[1:1] config: pod_dns: \"192.168.1.1\""},
		{"resolver on the host", "pod_dns: [127.0.0.53]\n", "[1:1] config: pod_dns: "},
		{"resolver over IPv6", "pod_dns: ['2606:4700:4700::1111']\n", "[1:1] config: pod_dns: "},
		{"range", "pod_subnets: [10.0.0.0/30]\n", "[1:1] config: pod_subnets: "},
		{"no range", "pod_subnets: [10.0.0.0]\n", "[1:1] config: pod_subnets: "},
		{"line", "pod_mbit: 2000000\n", "[1:1] config: pod_mbit: "},
		{"size", strings.Repeat("#", limit+1), "over"},
	} {
		if got, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %+v, %v; want an error with %q", c.name, got, err, c.want)
		}
	}
}

func TestEmptyConfigIsADefaultOne(t *testing.T) {
	for _, text := range []string{"", "# nothing\n"} {
		c, err := Parse([]byte(text))
		if l, _ := c.Level(); err != nil || c.Pods() != RuntimeAuto || l != 0 || c.Role() != 0 {
			t.Errorf("%q: got %+v, %v", text, c, err)
		}
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, ErrNoHome) {
		t.Errorf("an empty folder: %v, want ErrNoHome", err)
	}
}

func TestHomeIsFoundInOrder(t *testing.T) {
	t.Setenv("SOUK_HOME", "/from/env")
	t.Setenv("HOME", "/user")
	for _, c := range []struct{ flag, env, want string }{
		{"/flag", "/from/env", "/flag"}, {"", "/from/env", "/from/env"}, {"", "", "/user/.souk"},
	} {
		t.Setenv("SOUK_HOME", c.env)
		if got, err := Home(c.flag); err != nil || runtime.GOOS != "windows" && got != c.want {
			t.Errorf("flag %q, env %q: got %q, %v; want %q", c.flag, c.env, got, err, c.want)
		}
	}
}

func TestLongSocketsMove(t *testing.T) {
	short := Config{Home: "/home/x/.souk"}
	if got := short.Socket(); got != filepath.Join(short.Home, "souk.sock") {
		t.Errorf("got %s", got)
	}
	a := Config{Home: "/" + strings.Repeat("a", 120)}
	b := Config{Home: "/" + strings.Repeat("b", 120)}
	for _, c := range []Config{a, b} {
		if got := c.Socket(); len(got) > socketMost || got != c.Socket() {
			t.Errorf("got %s of %d bytes", got, len(got))
		}
	}
	if a.Socket() == b.Socket() {
		t.Errorf("two homes have one socket")
	}
	here := a.Socket()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if got := a.Socket(); got != here {
		t.Errorf("in another session the socket is %s, not %s", got, here)
	}
	named := Config{Home: "/home/x", APISocket: "/run/s"}
	if got := named.Socket(); got != "/run/s" {
		t.Errorf("got %s", got)
	}
}

func TestPortsArePickedOnce(t *testing.T) {
	got, err := Ports([]string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/4001"})
	if err != nil {
		t.Fatal(err)
	}
	tcp, ok1 := strings.CutPrefix(got[0], "/ip4/127.0.0.1/tcp/")
	udp, ok2 := strings.CutPrefix(got[1], "/ip4/127.0.0.1/udp/")
	if !ok1 || !ok2 || tcp == "0" || udp != tcp+"/quic-v1" || got[2] != "/ip4/127.0.0.1/tcp/4001" {
		t.Errorf("got %v", got)
	}
	again, err := Ports(got)
	if err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("ports moved from %v to %v, %v", got, again, err)
	}
}

func TestPIDIsNoted(t *testing.T) {
	c := Config{Home: t.TempDir()}
	if pid, err := c.PID(); pid != 0 || err != nil {
		t.Errorf("got %d, %v before any", pid, err)
	}
	if err := c.WritePID(1234); err != nil {
		t.Fatal(err)
	}
	c.RemovePID(99) // another's
	if pid, err := c.PID(); pid != 1234 || err != nil {
		t.Errorf("got %d, %v; want 1234", pid, err)
	}
	c.RemovePID(1234)
	if pid, err := c.PID(); pid != 0 || err != nil {
		t.Errorf("got %d, %v after its end", pid, err)
	}
	os.WriteFile(c.PIDFile(), []byte("soon\n"), 0o600)
	if _, err := c.PID(); err == nil {
		t.Errorf("%q was read as a process number", "soon")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("roles: [host]\nlisten: [/ip4/1.2.3.4/tcp/1]\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := Parse(b); err == nil && c.Validate() != nil {
			t.Errorf("%q was read as an invalid %+v", b, c)
		}
	})
}
