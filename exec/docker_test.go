package exec_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"souk/exec"
	"souk/exec/exectest"
	"souk/exec/image"
	"souk/exec/plan"
)

// openDocker fails the test where no engine answers, unless the tester said that there is none.
func openDocker(t *testing.T) exec.Runtime { return openDockerAt(t, "") }

func openDockerAt(t *testing.T, host string) *exec.Docker {
	t.Helper()
	if os.Getenv("SOUK_TEST_NO_DOCKER") == "1" {
		t.Skip("SOUK_TEST_NO_DOCKER=1")
	}
	d, err := exec.NewDocker(exec.DockerOptions{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := d.Ping(ctx); err != nil {
		t.Fatalf("%v (start an engine, or set SOUK_TEST_NO_DOCKER=1 to go without these tests)", err)
	}
	return d
}

func TestDocker(t *testing.T) { exectest.Suite(t, openDocker) }

// A dynamic program brings its loader and libraries along.
func TestDockerRunsABuiltDynamicProgram(t *testing.T) {
	t.Parallel()
	b := exectest.New(t, openDocker(t))
	p := b.Pod()
	p.Image = b.Push(image.Recipe{Binary: "/bin/sh", Cmd: []string{"-c", "echo hello from $0; exit 3"}})
	b.Sup.Want(exectest.Run(p, 1))
	if e := b.Await(t, p.Lease, 1, exec.Exited); e.ExitCode != 3 {
		t.Fatalf("got %s, want exit 3", exectest.Format([]exec.Event{e}))
	}
	if out, _ := b.Output(t, p, 1, 0); !strings.HasPrefix(out, "hello from") {
		t.Fatalf("output %q", out)
	}
}

// What the engine says of a running pod is held against what the plan promises.
func TestDockerContainerIsHardened(t *testing.T) {
	t.Parallel()
	b := exectest.New(t, openDocker(t))
	p := b.Pod("trap", "0")
	p.Volume, p.Memory, p.CPUs = 1<<20, 64<<20, 500
	b.Sup.Want(exectest.Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Started)
	api, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	res, err := api.ContainerInspect(context.Background(), plan.ContainerName(b.Home, p.Lease, 1), client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h, c := res.Container.HostConfig, res.Container.Config
	switch {
	case h.Privileged, !slices.Equal(h.CapDrop, []string{"ALL"}), len(h.CapAdd) != 10, len(h.Binds) > 0, len(h.Devices) > 0,
		h.PidMode != "", h.UTSMode != "", h.UsernsMode != "", !h.IpcMode.IsPrivate(), !h.CgroupnsMode.IsPrivate(), string(h.NetworkMode) != plan.VolumeName(b.Home, p.Lease),
		len(res.Container.NetworkSettings.Networks) != 1,
		h.PublishAllPorts, len(h.PortBindings) > 0, h.RestartPolicy.Name != "no", h.AutoRemove, h.PidsLimit == nil || *h.PidsLimit != 4096,
		h.Memory != 64<<20, h.MemorySwap != 64<<20, h.NanoCPUs != 500_000_000, h.OomScoreAdj != 500, h.Init == nil || !*h.Init,
		!slices.Contains(h.SecurityOpt, "no-new-privileges:true"), len(h.SecurityOpt) != 2, len(h.Ulimits) != 2, len(h.MaskedPaths) == 0, len(h.ReadonlyPaths) == 0,
		len(h.Mounts) != 1 || h.Mounts[0].Type != "volume", len(res.Container.Mounts) != 1:
		t.Errorf("not hardened: %+v, mounts %+v", h, res.Container.Mounts)
	}
	for _, l := range []string{plan.LabelHome, plan.LabelLease, plan.LabelStart} {
		if c.Labels[l] == "" {
			t.Errorf("no label %s in %v", l, c.Labels)
		}
	}
}

// A network whose creation was answered and not heard is used, or removed where nobody wants it.
func TestDockerNetworkOfALostReply(t *testing.T) {
	t.Parallel()
	b := exectest.New(t, openDocker(t))
	p, stray := b.Pod("trap", "0"), b.Pod("trap", "0")
	for _, pod := range []plan.Pod{p, stray} {
		pod.Image = pod.Image[:len(pod.Image)-4] + "0000" // the container cannot be made, and the network is
		c, err := plan.NewConfig(pod, 1, plan.Policy{Home: b.Home})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.RT.Create(t.Context(), c); err == nil {
			t.Fatal("a container without image was made")
		}
		if all := b.All(pod.Lease); len(all) != 1 || all[0].Object != plan.Network {
			t.Fatalf("have %+v, want a network", all)
		}
	}
	before := b.All(p.Lease)[0].ID
	thief, err := plan.NewConfig(b.Pod("trap", "0"), 1, plan.Policy{Home: b.Home})
	if err != nil {
		t.Fatal(err)
	}
	thief.Network.Name = plan.VolumeName(b.Home, p.Lease)
	var fault *exec.Fault
	if _, err := b.RT.Create(t.Context(), thief); !errors.As(err, &fault) || !strings.Contains(fault.Reason, "is not this lease's") {
		t.Fatalf("another lease's network: %v, want a refusal", err)
	}
	b.Sup.Sync(exectest.Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Started)
	for begin := time.Now(); len(b.All(stray.Lease)) > 0; {
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("left of a lease that nobody knows: %+v", b.All(stray.Lease))
		}
	}
	all := b.All(p.Lease)
	if i := slices.IndexFunc(all, func(h plan.Have) bool { return h.Object == plan.Network }); len(all) != 2 || i < 0 || all[i].ID != before {
		t.Fatalf("have %+v, want the container and network %s", all, before)
	}
	b.Sup.Want(exectest.Remove(p, 1))
	b.Await(t, p.Lease, 1, exec.Removed)
	if all := b.All(p.Lease); len(all) != 0 {
		t.Fatalf("left: %+v", all)
	}
}

// Without its firewall no pod starts; and it is not the pod's fault.
func TestDockerStartsNothingWithoutItsFence(t *testing.T) {
	t.Parallel()
	openDocker(t)
	nft := filepath.Join(t.TempDir(), "nft")
	if err := os.Symlink("/bin/false", nft); err != nil {
		t.Fatal(err)
	}
	d, err := exec.NewDocker(exec.DockerOptions{Nft: nft})
	if err != nil {
		t.Fatal(err)
	}
	b := exectest.New(t, d)
	p := b.Pod("trap", "0")
	b.Sup.Want(exectest.Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Created)
	id := b.Have(p.Lease)[0].ID
	var fault *exec.Fault
	if err := d.Start(t.Context(), id); !errors.As(err, &fault) || fault.Code != exec.CodeFence {
		t.Fatalf("start: %v, want %s", err, exec.CodeFence)
	}
	if h := b.Have(p.Lease); h[0].State != plan.Created || d.Fence(b.Home).Err() == nil {
		t.Fatalf("have %+v, fence %v", h, d.Fence(b.Home).Err())
	}
	real, err := osexec.LookPath("/usr/sbin/nft")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(nft), os.Symlink(real, nft)); err != nil {
		t.Fatal(err)
	}
	b.Await(t, p.Lease, 1, exec.Started)
	for _, e := range b.Events(p.Lease) {
		if e.Kind == exec.Failed {
			t.Fatalf("the pod was blamed: %s", exectest.Format([]exec.Event{e}))
		}
	}
}

// The engine goes away and comes back while a pod runs: the pod runs on, and what was asked meanwhile is done.
func TestDockerEngineAwayAndBack(t *testing.T) {
	t.Parallel()
	gate := openGate(t)
	b := exectest.New(t, openDockerAt(t, "unix://"+gate.path))
	p := b.Pod("trap", "8")
	b.Sup.Want(exectest.Run(p, 1))
	started := b.Await(t, p.Lease, 1, exec.Started)
	b.AwaitOutput(t, p, 1, "ready")
	gate.shut()
	b.AwaitEngine(t, exec.EngineDown)
	b.Sup.Want(exectest.Stop(p, 1, time.Minute))
	gate.open()
	e := b.Await(t, p.Lease, 1, exec.Exited)
	if e.ExitCode != 8 || !e.Signalled || e.StartID != started.StartID {
		t.Fatalf("got %s, want exit 8 of the same start", exectest.Format([]exec.Event{e}))
	}
}

// A gate is a way to the engine that can be shut.
type gate struct {
	path string
	t    *testing.T

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
}

func openGate(t *testing.T) *gate {
	t.Helper()
	dir, err := os.MkdirTemp("", "gate") // a short path: sockets allow about 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{path: filepath.Join(dir, "docker.sock"), t: t}
	t.Cleanup(func() { g.shut(); os.RemoveAll(dir) })
	g.open()
	return g
}

func (g *gate) open() {
	l, err := net.Listen("unix", g.path)
	if err != nil {
		g.t.Fatal(err)
	}
	g.mu.Lock()
	g.listener, g.conns = l, map[net.Conn]bool{}
	g.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("unix", "/var/run/docker.sock")
			if err != nil {
				c.Close()
				continue
			}
			g.mu.Lock()
			g.conns[c], g.conns[up] = true, true
			g.mu.Unlock()
			go func() { io.Copy(up, c); up.Close() }()
			go func() { io.Copy(c, up); c.Close() }()
		}
	}()
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listener.Close()
	for c := range g.conns {
		c.Close()
	}
}
