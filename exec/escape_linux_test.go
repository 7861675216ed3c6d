package exec_test

import (
	"archive/tar"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"souk/exec"
	"souk/exec/exectest"
	"souk/exec/fence"
	"souk/exec/fence/alone"
	"souk/exec/image"
	"souk/exec/plan"
)

var escapesLong = flag.Bool("escapes", false, "the whole escape suite")

// A yard is a host in a network namespace of its own, with an engine, a LAN, and something that plays the internet.
type yard struct {
	t    *testing.T
	dir  string
	host string // where the engine listens
	api  *client.Client

	dockerd *osexec.Cmd
}

// The addresses of the yard. What is forbidden stands in targets.
const (
	hostPublic = "203.0.113.2"
	hostLAN    = "192.168.77.1"
)

// lan are the addresses of neighbours and of clouds' metadata, all of one machine on the LAN.
var lan = []string{"192.168.77.2/24", "10.20.0.2/32", "172.20.0.2/32", "100.64.0.5/32", "10.255.255.53/32", "198.18.0.9/32", "169.254.169.254/32",
	"169.254.170.2/32", "169.254.1.1/32", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32"}

func newYard(t *testing.T) *yard {
	t.Helper()
	y := &yard{t: t}
	escapee := exectest.Program(t, "escapee")
	var err error
	if y.dir, err = os.MkdirTemp("/tmp", "yd"); err != nil { // short: sockets allow about 100 bytes
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(y.dir) })
	// /run/netns is ours alone: this process has its own tree of mounts.
	alone.Run(t, "mount", "-t", "tmpfs", "tmpfs", "/run/netns", "-o", "X-mount.mkdir")
	for _, n := range []string{"internet", "lan"} {
		alone.IP(t, "netns", "add", n)
		alone.IP(t, "-n", n, "link", "set", "lo", "up")
		alone.IP(t, "link", "add", n, "type", "veth", "peer", "name", "eth0", "netns", n)
		alone.IP(t, "link", "set", n, "up")
		alone.IP(t, "-n", n, "link", "set", "eth0", "up")
	}
	alone.IP(t, "addr", "add", hostPublic+"/24", "dev", "internet")
	alone.IP(t, "-n", "internet", "addr", "add", "203.0.113.1/24", "dev", "eth0")
	for _, a := range []string{"8.8.8.8/32", "1.1.1.1/32", "9.9.9.9/32"} {
		alone.IP(t, "-n", "internet", "addr", "add", a, "dev", "lo")
	}
	alone.IP(t, "route", "add", "default", "via", "203.0.113.1")
	alone.IP(t, "addr", "add", hostLAN+"/24", "dev", "lan")
	for _, a := range lan {
		alone.IP(t, "-n", "lan", "addr", "add", a, "dev", "eth0")
		if strings.HasSuffix(a, "/32") {
			alone.IP(t, "route", "add", a, "via", "192.168.77.2")
		}
	}
	// What a pod's address is, the LAN knows: an answer finds its way even where nothing hides it.
	for _, to := range []string{"10.213.0.0/16", "172.17.0.0/16"} {
		alone.IP(t, "-n", "lan", "route", "add", to, "via", hostLAN)
	}
	for _, w := range [][]string{{"", "fd77::1/64"}, {"lan", "fd77::2/64"}, {"lan", "fd00:ec2::254/128"}} {
		if w[0] == "" {
			alone.IP(t, "addr", "add", w[1], "dev", "lan", "nodad")
		} else {
			alone.IP(t, "-n", w[0], "addr", "add", w[1], "dev", "eth0", "nodad")
		}
	}
	listeners := []string{"tcp::22", "tcp::80", "tcp::443", "tcp::2375", "udp::53", "udp::123", "tcp::25"}
	y.spawn(escapee, append([]string{"listen"}, listeners...)...)
	y.spawn("ip", append([]string{"netns", "exec", "lan", escapee, "listen"}, listeners...)...)
	y.spawn("ip", "netns", "exec", "internet", escapee, "listen", "tcp::25", "tcp::80", "tcp::443", "dns:1.1.1.1:53", "dns:9.9.9.9:53", "udp:8.8.8.8:53", "flood::9000")

	y.host = "unix://" + filepath.Join(y.dir, "s")
	y.engine()
	if y.api, err = client.New(client.WithHost(y.host)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.api.Close() })
	return y
}

// spawn starts a program that says ready, and ends it with the test.
func (y *yard) spawn(name string, args ...string) {
	y.t.Helper()
	c := osexec.Command(name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	var word string
	if _, err := fmt.Fscanln(out, &word); err != nil || word != "ready" {
		y.t.Fatalf("%s %v says %q, %v", name, args, word, err)
	}
	go io.Copy(io.Discard, out)
}

// engine starts the yard's engine, again if it has run before.
func (y *yard) engine() {
	y.t.Helper()
	log, err := os.OpenFile(filepath.Join(y.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		y.t.Fatal(err)
	}
	defer log.Close()
	first := y.dockerd == nil
	y.dockerd = osexec.Command("dockerd", "--data-root", filepath.Join(y.dir, "data"), "--exec-root", filepath.Join(y.dir, "x"),
		"--pidfile", filepath.Join(y.dir, "pid"), "-H", y.host, "--userland-proxy=false")
	y.dockerd.Stdout, y.dockerd.Stderr = log, log
	if err := y.dockerd.Start(); err != nil {
		y.t.Fatal(err)
	}
	if first {
		y.t.Cleanup(func() {
			y.stopEngine()
			if y.t.Failed() {
				b, _ := os.ReadFile(filepath.Join(y.dir, "log"))
				y.t.Logf("the engine's log ends with\n%s", b[max(0, len(b)-4000):])
			}
		})
	}
}

func (y *yard) stopEngine() {
	y.dockerd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(30*time.Second, func() { y.dockerd.Process.Kill() })
	y.dockerd.Wait()
	kill.Stop()
}

// runtime is Docker on the yard's engine.
func (y *yard) runtime(o exec.DockerOptions) *exec.Docker {
	y.t.Helper()
	o.Host = y.host
	d, err := exec.NewDocker(o)
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() { d.Close() })
	for begin := time.Now(); ; {
		err := d.Ping(y.t.Context())
		if err == nil {
			return d
		}
		if time.Since(begin) > 60*time.Second {
			y.t.Fatal(err)
		}
	}
}

// inside runs the escapee with other words in a container that runs.
func (y *yard) inside(container string, words ...string) string {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), 3*time.Minute)
	defer cancel()
	made, err := y.api.ExecCreate(ctx, container, client.ExecCreateOptions{Cmd: append([]string{"/bin/escapee"}, words...), AttachStdout: true, AttachStderr: true})
	if err != nil {
		y.t.Fatal(err)
	}
	at, err := y.api.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		y.t.Fatal(err)
	}
	defer at.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, at.Reader); err != nil {
		y.t.Fatal(err)
	}
	return out.String()
}

// unfenced runs the escapee in a container of the engine's own kind, to show what our pods are kept from.
func (y *yard) unfenced(ref string, h container.HostConfig, then func(id string)) {
	y.t.Helper()
	ctx := y.t.Context()
	made, err := y.api.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &container.Config{Image: ref, Cmd: []string{"listen", "tcp::80", "udp::53"}}, HostConfig: &h})
	if err == nil {
		defer y.api.ContainerRemove(context.WithoutCancel(ctx), made.ID, client.ContainerRemoveOptions{Force: true})
		_, err = y.api.ContainerStart(ctx, made.ID, client.ContainerStartOptions{})
	}
	if err != nil {
		y.t.Fatal(err)
	}
	then(made.ID)
}

// address is a container's.
func (y *yard) address(name string) (ip, gateway string) {
	y.t.Helper()
	res, err := y.api.ContainerInspect(y.t.Context(), name, client.ContainerInspectOptions{})
	if err != nil {
		y.t.Fatal(err)
	}
	for _, n := range res.Container.NetworkSettings.Networks {
		return n.IPAddress.String(), n.Gateway.String()
	}
	y.t.Fatalf("%s has no address", name)
	return "", ""
}

// through counts the lines that say ok, and gives them.
func through(out string) (n int, ok []string) {
	for l := range strings.Lines(out) {
		word, rest, _ := strings.Cut(strings.TrimSpace(l), " ")
		switch word {
		case "ok":
			ok = append(ok, rest)
			n++
		case "no":
			n++
		}
	}
	return n, ok
}

// allCapabilities are those that this process can give. A privileged container wants more on machines that lack some.
func allCapabilities(t *testing.T) (list []string) {
	head, data := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
	if err := unix.Capget(&head, &data[0]); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]int{"SYS_ADMIN": unix.CAP_SYS_ADMIN, "SYS_MODULE": unix.CAP_SYS_MODULE, "SYS_RAWIO": unix.CAP_SYS_RAWIO,
		"SYS_PTRACE": unix.CAP_SYS_PTRACE, "SYS_BOOT": unix.CAP_SYS_BOOT, "SYS_TIME": unix.CAP_SYS_TIME, "SYS_NICE": unix.CAP_SYS_NICE,
		"SYS_RESOURCE": unix.CAP_SYS_RESOURCE, "SYS_PACCT": unix.CAP_SYS_PACCT, "NET_ADMIN": unix.CAP_NET_ADMIN, "NET_RAW": unix.CAP_NET_RAW,
		"MKNOD": unix.CAP_MKNOD, "SYSLOG": unix.CAP_SYSLOG, "DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH} {
		if data[c/32].Permitted&(1<<(c%32)) != 0 {
			list = append(list, name)
		}
	}
	return list
}

// What pods try, and what they may reach, on an engine, a LAN and an internet of the test's own. Before it counts, containers
// without our settings show that the attempts get through there: else nothing would have been tested.
func TestEscapes(t *testing.T) {
	if !alone.Here(t) {
		return
	}
	y := newYard(t)
	var log bytes.Buffer // of the firewall alone: one goroutine writes
	d := y.runtime(exec.DockerOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	b := exectest.New(t, d)
	recipe := image.Recipe{Binary: exectest.Program(t, "escapee"), Path: "/bin/escapee", Cmd: []string{"listen", "tcp::80", "udp::53"}}
	ref := b.Push(recipe)
	pod := func() plan.Pod {
		p := b.Pod("listen", "tcp::80", "udp::53")
		p.Image, p.Volume, p.Memory, p.CPUs = ref, 1<<20, 256<<20, 1000
		return p
	}
	p, other := pod(), pod()
	b.Sup.Want(append(exectest.Run(p, 1), exectest.Run(other, 1)...))
	b.Await(t, p.Lease, 1, exec.Started)
	b.Await(t, other.Lease, 1, exec.Started)
	b.AwaitOutput(t, p, 1, "ready")
	b.AwaitOutput(t, other, 1, "ready")
	name := plan.ContainerName(b.Home, p.Lease, 1)

	// Attempts.
	tried, free := 0, []string(nil)
	y.unfenced(ref, container.HostConfig{CapAdd: allCapabilities(t), PidMode: "host", SecurityOpt: []string{"seccomp=unconfined", "apparmor=unconfined"},
		MaskedPaths: []string{}, ReadonlyPaths: []string{}, Resources: container.Resources{DeviceCgroupRules: []string{"a *:* rwm"}},
		Binds: []string{filepath.Join(y.dir, "s") + ":/run/docker.sock", "/:/host", "/sys:/sys"}}, func(id string) { _, free = through(y.inside(id, "escape")) })
	tried, got := through(y.inside(name, "escape"))
	if tried < 25 || len(free) < tried/2 {
		t.Errorf("%d attempts, of which %d get through where nothing is forbidden: %q", tried, len(free), free)
	}
	for _, a := range got {
		t.Errorf("got through: %s", a)
	}
	work := y.inside(name, "work")
	done, well := through(work)
	if done != len(well) || done < 9 {
		t.Errorf("of %d things that pods have to be able to do, %d work:\n%s", done, len(well), work)
	}

	// The network.
	targets := y.targets(name, plan.ContainerName(b.Home, other.Lease, 1))
	open := []string{"tcp:8.8.8.8:80", "tcp:8.8.8.8:443", "udp:8.8.8.8:53", "tcp:1.1.1.1:443", "name:pods.example"}
	alone.Run(t, "iptables", "-t", "nat", "-A", "PREROUTING", "-d", hostPublic, "-p", "tcp", "--dport", "8088", "-j", "DNAT", "--to", "192.168.77.2:80")
	var reached []string
	rounds := 0
	round := func(what, name string, internet bool) {
		t.Helper()
		rounds++
		n, ok := through(y.inside(name, append([]string{"reach"}, targets...)...))
		if n != len(targets) || n < 40 {
			t.Errorf("%s: %d targets tried", what, n)
		}
		for _, a := range ok {
			t.Errorf("%s: reached %s", what, a)
		}
		reached = append(reached, ok...)
		if !internet {
			return
		}
		if n, ok := through(y.inside(name, append([]string{"reach"}, open...)...)); n != len(open) || len(ok) != n {
			t.Errorf("%s: of the internet only %q of %q answer", what, ok, open)
		}
	}
	var plain []string
	y.unfenced(ref, container.HostConfig{}, func(id string) { _, plain = through(y.inside(id, append([]string{"reach"}, targets...)...)) })
	if len(plain) < 25 {
		t.Errorf("of %d targets a container without our firewall reaches only %q", len(targets), plain)
	}
	round("at first", name, true)

	alone.Run(t, "iptables", "-F")
	alone.Run(t, "iptables", "-P", "FORWARD", "ACCEPT")
	round("without the engine's own rules", name, true)

	begun := time.Now()
	alone.Run(t, "nft", "flush", "ruleset")
	for !strings.Contains(alone.Run(t, "nft", "list", "tables"), fence.Table(b.Home)) {
		if time.Since(begun) > 5*time.Second {
			t.Fatal("the table does not come back")
		}
	}
	back := time.Since(begun)
	round("after all rules were deleted", name, false)

	y.stopEngine()
	b.AwaitEngine(t, exec.EngineDown)
	y.engine()
	b.Await(t, p.Lease, 1, exec.Exited)
	b.Await(t, other.Lease, 1, exec.Exited)
	b.Sup.Want(append(exectest.Run(p, 2), exectest.Run(other, 2)...))
	b.Await(t, p.Lease, 2, exec.Started)
	b.Await(t, other.Lease, 2, exec.Started)
	b.AwaitOutput(t, other, 2, "ready")
	name = plan.ContainerName(b.Home, p.Lease, 2)
	targets = y.targets(name, plan.ContainerName(b.Home, other.Lease, 2))
	round("after the engine's restart", name, true)

	b.Stop()
	if n := strings.Count(log.String(), "somebody changed"); n != 1 || strings.Contains(log.String(), "cannot be loaded") {
		t.Errorf("the firewall was changed %d times, not once: %s", n, log.String())
	}
	fmt.Printf("escapes: %d attempts, %d got through (without our settings %d do), %d of %d things that pods do work, ", tried, len(got), len(free), len(well), done)
	fmt.Printf("%d forbidden targets in %d rounds, %d reached (without our firewall %d), rules back after %s\n", len(targets), rounds, len(reached), len(plain), back.Round(time.Millisecond))
}

// targets are what a pod must not reach: the host, its LAN, metadata, other pods, mail, IPv6, everybody at once.
func (y *yard) targets(name, other string) []string {
	ip, gateway := y.address(name)
	otherIP, otherGateway := y.address(other)
	_ = ip
	var list []string
	add := func(network string, addrs ...string) {
		for _, a := range addrs {
			list = append(list, network+":"+a)
		}
	}
	for _, h := range []string{gateway, hostLAN, hostPublic} {
		add("tcp", h+":22", h+":80", h+":2375")
		add("udp", h+":53")
	}
	add("tcp", "172.17.0.1:80", otherGateway+":80", hostPublic+":8088", "203.0.113.1:80")
	add("tcp", "192.168.77.2:22", "192.168.77.2:80", "192.168.77.2:443", "10.20.0.2:80", "10.20.0.2:443", "172.20.0.2:80", "100.64.0.5:80", "198.18.0.9:80")
	add("udp", "192.168.77.2:53", "192.168.77.2:123", "10.255.255.53:53")
	add("tcp", "10.255.255.53:80", "169.254.169.254:80", "169.254.170.2:80", "169.254.1.1:80", "100.100.100.200:80", "192.0.0.192:80", "168.63.129.16:80")
	add("tcp", otherIP+":80")
	add("udp", otherIP+":53")
	add("tcp", "8.8.8.8:25", "1.1.1.1:25")
	add("tcp", "[fd77::1]:80", "[fd77::2]:80", "[fd00:ec2::254]:80", "[fe80::1%eth0]:80", "[2001:4860:4860::8888]:443", "[::ffff:192.168.77.2]:80")
	add("udp", "[ff02::1%eth0]:53", "224.0.0.251:53", "255.255.255.255:53", "192.168.77.255:53")
	return list
}

// changed is an image with more in its archive and another configuration.
func changed(t *testing.T, base v1.Image, links map[string]string, change func(*v1.Config)) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for at, to := range links {
		if err := w.WriteHeader(&tar.Header{Name: at, Linkname: to, Typeflag: tar.TypeSymlink, Mode: 0o777}); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(base, layer)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := *cfg.Config.DeepCopy()
	change(&c)
	if img, err = mutate.Config(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

// Images that are made to trip the engine up while it builds the container: such a pod may fail to start, or be as any other.
func TestHostileImages(t *testing.T) {
	if !alone.Here(t) {
		return
	}
	y := newYard(t)
	b := exectest.New(t, y.runtime(exec.DockerOptions{}))
	base, err := image.Build(image.Recipe{Binary: exectest.Program(t, "escapee"), Path: "/bin/escapee"})
	if err != nil {
		t.Fatal(err)
	}
	canary := filepath.Join(y.dir, "canary") // a folder of the host
	if err := os.Mkdir(canary, 0o777); err != nil {
		t.Fatal(err)
	}
	nothing := func(*v1.Config) {}
	workdir := func(dir string) func(*v1.Config) { return func(c *v1.Config) { c.WorkingDir = dir } }
	type shape struct {
		name   string
		links  map[string]string
		config func(*v1.Config)
		words  []string
	}
	shapes := []shape{
		{"the volume's place is a link to the host", map[string]string{"workspace": canary}, nothing, []string{"work"}},
		{"the volume's place is a link upwards", map[string]string{"workspace": "../../../../../../../.." + canary}, nothing, []string{"work"}},
		{"/dev is a link (CVE-2026-41579)", map[string]string{"dev": canary}, nothing, []string{"escape"}},
		{"/dev/null is a link (CVE-2025-31133)", map[string]string{"dev/null": "/proc/sys/kernel/core_pattern"}, nothing, []string{"escape"}},
		{"/proc is a link (CVE-2019-19921)", map[string]string{"proc": canary}, nothing, []string{"escape"}},
		{"/sys is a link", map[string]string{"sys": canary}, nothing, []string{"escape"}},
		{"/etc is a link", map[string]string{"etc": canary}, nothing, []string{"escape"}},
		{"a library before all programs (CVE-2025-23266)", nil, func(c *v1.Config) { c.Env = append(c.Env, "LD_PRELOAD=/bin/escapee", "NVIDIA_VISIBLE_DEVICES=all") }, []string{"env"}},
		{"volumes over the system", nil, func(c *v1.Config) {
			c.Volumes = map[string]struct{}{"/proc/1": {}, "/var/run/docker.sock": {}, "/sys/fs/cgroup": {}}
		}, []string{"escape"}},
	}
	from, to := 7, 8
	if *escapesLong {
		from, to = 3, 14
	}
	for n := from; n <= to; n++ {
		fd := "/proc/self/fd/" + strconv.Itoa(n)
		shapes = append(shapes, shape{"its folder is descriptor " + strconv.Itoa(n) + " (CVE-2024-21626)", nil, workdir(fd), []string{"inside"}},
			shape{"its folder is a link to descriptor " + strconv.Itoa(n), map[string]string{"here": fd}, workdir("/here"), []string{"inside"}})
	}
	refused, ran, bad := 0, 0, 0
	for _, s := range shapes {
		p := b.Pod(s.words...)
		p.Image, p.Volume, p.Memory = b.PushImage(changed(t, base, s.links, s.config)), 1<<20, 256<<20
		b.Sup.Want(exectest.Run(p, 1))
		out := ""
		for _, e := range await(b, p.Lease) {
			if e.Kind == exec.Exited {
				out, _ = b.Output(t, p, 1, 0)
			}
		}
		b.Sup.Want(exectest.Remove(p, 1))
		b.Await(t, p.Lease, 0, exec.Removed)
		n, ok := through(out)
		switch {
		case n == 0 && s.words[0] != "env":
			refused++
		default:
			ran++
		}
		if s.words[0] != "work" && len(ok) > 0 || s.words[0] == "env" && !slices.Contains(strings.Split(out, "\n"), "NVIDIA_VISIBLE_DEVICES=void") {
			bad++
			t.Errorf("%s: got through: %q, %s", s.name, ok, out)
		}
		if left, err := os.ReadDir(canary); err != nil || len(left) > 0 {
			bad++
			t.Errorf("%s: the host's folder has %v, %v", s.name, left, err)
		}
	}
	if ran < 3 {
		t.Errorf("of %d images only %d ran: the shapes are not what they should be", len(shapes), ran)
	}
	fmt.Printf("images: %d hostile ones, %d not started, %d as any other, %d got through\n", len(shapes), refused, ran, bad)
}

// await waits for the end of a run, or for the failure of its start.
func await(b *exectest.Bench, lease string) []exec.Event {
	ended := func(e exec.Event) bool { return e.Kind == exec.Failed || e.Kind == exec.Exited }
	for begin := time.Now(); time.Since(begin) < time.Minute; {
		if list := b.Events(lease); slices.ContainsFunc(list, ended) {
			return list
		}
		<-time.After(10 * time.Millisecond)
	}
	b.T.Fatalf("no end: %s", exectest.Format(b.Events(lease)))
	return nil
}

// A host's owner can shut the internet, and cap the line.
func TestClosedAndCappedPods(t *testing.T) {
	if !alone.Here(t) {
		return
	}
	y := newYard(t)
	start := func(o exec.DockerOptions) (string, *exectest.Bench) {
		b := exectest.New(t, y.runtime(o))
		p := b.Pod("listen", "tcp::80")
		p.Image = b.Push(image.Recipe{Binary: exectest.Program(t, "escapee"), Path: "/bin/escapee"})
		b.Sup.Want(exectest.Run(p, 1))
		b.Await(t, p.Lease, 1, exec.Started)
		b.AwaitOutput(t, p, 1, "ready")
		return plan.ContainerName(b.Home, p.Lease, 1), b
	}
	shut, _ := start(exec.DockerOptions{Closed: true})
	if _, ok := through(y.inside(shut, "reach", "tcp:8.8.8.8:80", "udp:1.1.1.1:53", "name:pods.example", "tcp:192.168.77.2:80")); len(ok) > 0 {
		t.Errorf("closed, and reached %q", ok)
	}
	// The host itself reaches a pod, as its tunnels do, whatever the pod may reach.
	ip, _ := y.address(shut)
	out, err := osexec.CommandContext(t.Context(), exectest.Program(t, "escapee"), "reach", "tcp:"+ip+":80").Output()
	if err != nil || !strings.HasPrefix(string(out), "ok ") {
		t.Errorf("from the host: %s, %v", out, err)
	}
	from := alone.Run(t, "ip", "netns", "exec", "lan", exectest.Program(t, "escapee"), "reach", "tcp:"+ip+":80")
	if strings.HasPrefix(from, "ok ") {
		t.Errorf("the LAN reaches a pod: %s", from)
	}

	const mbit, seconds = 40, 4
	open, _ := start(exec.DockerOptions{})
	capped, _ := start(exec.DockerOptions{Mbit: mbit})
	rate := func(name string) float64 {
		var n int64
		if _, err := fmt.Sscanf(y.inside(name, "get", "8.8.8.8:9000", strconv.Itoa(seconds)), "got %d", &n); err != nil {
			t.Fatal(err)
		}
		return float64(n) * 8 / seconds / 1e6
	}
	free, held := rate(open), rate(capped)
	if free < 3*mbit || held > 1.4*mbit || held < 0.3*mbit {
		t.Errorf("%.0f Mbit/s without a limit, %.0f with %d", free, held, mbit)
	}
	fmt.Printf("line: %.0f Mbit/s without a limit, %.1f with %d\n", free, held, mbit)
}
