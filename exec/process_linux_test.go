package exec_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"souk/exec"
	"souk/exec/exectest"
	"souk/exec/plan"
)

// The test program is its own shim, as souk is, and can be a node that somebody kills.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case exec.ShimCommand:
			os.Exit(exec.Shim(os.Args[2:]))
		case "test-node":
			node(os.Args[2], os.Args[3], os.Args[4])
		}
	}
	os.Exit(m.Run())
}

// node runs a pod, says when it runs, and waits for its end.
func node(root, home, want string) {
	var wants []plan.Want
	if err := json.Unmarshal([]byte(want), &wants); err != nil {
		panic(err)
	}
	rt, err := exec.NewProcess(exec.ProcessOptions{Root: root})
	if err != nil {
		panic(err)
	}
	s := exec.NewSupervisor(rt, home, func(e exec.Event) {
		if e.Kind == exec.Started {
			os.Stdout.WriteString(e.StartID + "\n")
		}
	}, slog.New(slog.DiscardHandler))
	s.Want(wants)
	s.Run(context.Background())
}

func openProcess(o exec.ProcessOptions) func(*testing.T) exec.Runtime {
	return func(t *testing.T) exec.Runtime {
		t.Helper()
		o := o
		o.Root = t.TempDir()
		p, err := exec.NewProcess(o)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

func TestProcess(t *testing.T) { exectest.Suite(t, openProcess(exec.ProcessOptions{})) }

func TestProcessWithoutChroot(t *testing.T) {
	exectest.Suite(t, openProcess(exec.ProcessOptions{NoChroot: true}))
}

// The node is killed with kill -9, with its whole process group, as an impatient owner would do it. The pod runs on, keeps
// writing, and the next node learns its true end.
func TestPodSurvivesKillOfTheNode(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	rt, err := exec.NewProcess(exec.ProcessOptions{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	b := exectest.New(t, rt)
	b.Stop()
	p := b.Pod("trap", "6")
	want, err := json.Marshal(exectest.Run(p, 1))
	if err != nil {
		t.Fatal(err)
	}
	first := osexec.Command(os.Args[0], "test-node", root, b.Home, string(want))
	first.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	startID := strings.TrimSpace(string(line[:n]))
	if err := syscall.Kill(-first.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	first.Wait()

	next := b.Watch()
	defer next.Stop()
	next.Sup.Sync(exectest.Run(p, 1))
	if e := next.Await(t, p.Lease, 1, exec.Observed); e.State != plan.Running || e.StartID != startID {
		t.Fatalf("observed %s %q, want running %q", e.State, e.StartID, startID)
	}
	next.AwaitOutput(t, p, 1, "ready")
	next.Sup.Want(exectest.Stop(p, 1, time.Minute))
	if e := next.Await(t, p.Lease, 1, exec.Exited); e.ExitCode != 6 || e.StartID != startID {
		t.Fatalf("got %s, want exit 6", exectest.Format([]exec.Event{e}))
	}
	if out, _ := next.Output(t, p, 1, 1); out != "got SIGTERM\n" {
		t.Fatalf("output %q", out)
	}
}

// Without its shim a pod cannot be told from a dead one later on: it dies with it, and the end is written down once.
func TestPodDiesWithItsShim(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	rt, err := exec.NewProcess(exec.ProcessOptions{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	b := exectest.New(t, rt)
	p := b.Pod("ignore")
	b.Sup.Want(exectest.Run(p, 1))
	started := b.Await(t, p.Lease, 1, exec.Started)
	b.AwaitOutput(t, p, 1, "ready")
	id := b.Have(p.Lease)[0].ID
	pod := podPid(t, filepath.Join(root, "pods", id, "state.json"))
	shim := parent(t, pod)
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e := b.Await(t, p.Lease, 1, exec.Exited)
	if e.ExitCode != 137 || e.StartID != started.StartID || e.FinishedAt.Before(e.StartedAt) || e.FinishedAt.After(time.Now()) {
		t.Fatalf("got %s from %s to %s", exectest.Format([]exec.Event{e}), e.StartedAt, e.FinishedAt)
	}
	for begin := time.Now(); syscall.Kill(pod, 0) == nil; {
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("process %d has outlived its shim", pod)
		}
	}
	if again := b.Have(p.Lease)[0]; !again.FinishedAt.Equal(e.FinishedAt) {
		t.Fatalf("ended at %s, and later at %s", e.FinishedAt, again.FinishedAt)
	}
}

// What a pod leaves behind in a session of its own ends with it.
func TestPodLeavesNoProcess(t *testing.T) {
	t.Parallel()
	b := exectest.New(t, openProcess(exec.ProcessOptions{})(t))
	p := b.Pod("orphan")
	b.Sup.Want(exectest.Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Exited)
	out, _ := b.Output(t, p, 1, 0)
	_, text, _ := strings.Cut(out, "child ")
	pid, err := strconv.Atoi(strings.Fields(text)[0])
	if err != nil {
		t.Fatalf("output %q", out)
	}
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Fatalf("process %d: %v, want none", pid, err)
	}
}

// What a node was making or removing when it was cut off does not fill the disk for ever.
func TestNewProcessEmptiesItsScratchFolder(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"tmp/pod-1/rootfs/bin", "tmp/trash-2/x", "volumes/v/data", "pods/p"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := exec.NewProcess(exec.ProcessOptions{Root: root}); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(root, "*", "*"))
	if err != nil || len(left) != 2 {
		t.Fatalf("left %v, %v, want the pod and the volume", left, err)
	}
}

func TestPlainProcessesTakeNoRealGPUs(t *testing.T) {
	rt := openProcess(exec.ProcessOptions{})(t)
	b := exectest.New(t, rt)
	p := b.Pod("env")
	p.GPUs = []plan.GPU{{UUID: "GPU-00000000-0000-0000-0000-000000000001"}}
	b.Sup.Want(exectest.Run(p, 1))
	if e := b.Await(t, p.Lease, 1, exec.Failed); e.Code != exec.CodeGPU {
		t.Fatalf("got %s, want %s", exectest.Format([]exec.Event{e}), exec.CodeGPU)
	}
}

func podPid(t *testing.T, file string) int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var state struct{ Pid int }
	if err := json.Unmarshal(b, &state); err != nil {
		t.Fatal(err)
	}
	return state.Pid
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}
