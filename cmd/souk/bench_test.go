package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"souk/exec/plan"
	"souk/node/config"
	"souk/node/core/consumer"
)

var idleFor = flag.Duration("idle", 2*time.Minute, "how long BenchmarkIdle watches")

// BenchmarkIdle holds a host that waits for customers against the least that such a process can be: libp2p, GossipSub with
// three topics, and Badger, and nothing done with them (testdata/bare). Both have one peer. The minutes are of 60 s, as
// in a real market. The goal: at most 1.3 times the CPU and twice the memory.
//
// Memory is what the kernel calls resident. A new kernel maps programs in pieces of 2 MiB, and then nearly all of the
// program's file counts, whether it is used or not: that part is shown apart.
func BenchmarkIdle(b *testing.B) {
	l := &lab{bin: program(b), dir: b.TempDir()}
	b.Cleanup(func() { l.end(b) })
	must(b, l.found("op", "60s"))
	must(b, l.host("host", "8xH100", "2.40", "0.90", "process"))
	cfg, err := config.Load(l.home("host"))
	must(b, err)
	pid, err := cfg.PID()
	must(b, err)
	bare := startBare(b, startBare(b, "").addr)

	pause(10 * time.Second) // what a start leaves to be done
	for b.Loop() {
		souk, least := gauge(b, pid), gauge(b, bare.pid)
		pause(*idleFor)
		souk, least = gauge(b, pid).since(souk), gauge(b, bare.pid).since(least)
		cpu, memory := souk.cpu.Seconds()/least.cpu.Seconds(), float64(souk.memory)/float64(least.memory)
		b.ReportMetric(cpu, "×cpu")
		b.ReportMetric(memory, "×memory")
		fmt.Printf("idle for %s: host %s, bare %s: %.2f × the CPU (goal 1.3), %.2f × the memory (goal 2)\n", *idleFor, souk.show(*idleFor), least.show(*idleFor), cpu, memory)
	}
}

// pause is time in which something is watched.
func pause(d time.Duration) { <-time.After(d) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// end kills all nodes.
func (l *lab) end(t testing.TB) {
	homes, _ := filepath.Glob(filepath.Join(l.dir, "*", "config.yaml"))
	for _, f := range homes {
		if err := kill(filepath.Dir(f)); err != nil {
			t.Error(err)
		}
	}
}

// A bare is a process of testdata/bare.
type bare struct {
	pid  int
	addr string
}

func startBare(b *testing.B, peer string) bare {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "bare")
	if out, err := osexec.Command("go", "build", "-o", bin, "./testdata/bare").CombinedOutput(); err != nil {
		b.Fatalf("building the bare process: %v\n%s", err, out)
	}
	args := []string{b.TempDir()}
	if peer != "" {
		args = append(args, peer)
	}
	c := osexec.Command(bin, args...)
	c.Stderr = os.Stderr
	end, err := c.StdinPipe()
	must(b, err)
	said, err := c.StdoutPipe()
	must(b, err)
	must(b, c.Start())
	b.Cleanup(func() {
		end.Close()
		c.Wait()
	})
	addr, err := bufio.NewReader(said).ReadString('\n')
	must(b, err)
	return bare{c.Process.Pid, strings.TrimSpace(addr)}
}

// A usage is what a process has used.
type usage struct {
	cpu    time.Duration
	memory int64 // resident, bytes
	shared int64 // of it, pages of files: the program itself, above all
}

func (u usage) since(before usage) usage { return usage{u.cpu - before.cpu, u.memory, u.shared} }

func (u usage) show(over time.Duration) string {
	mb := func(n int64) float64 { return float64(n) / 1e6 }
	return fmt.Sprintf("%.2f %% of a core and %.1f MB (%.1f of its own, the rest the program's file)", 100*u.cpu.Seconds()/over.Seconds(), mb(u.memory), mb(u.memory-u.shared))
}

// gauge reads what the kernel keeps of a process: the time of each of its threads, in nanoseconds, and its memory.
func gauge(t testing.TB, pid int) (u usage) {
	t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	threads, err := filepath.Glob(filepath.Join(proc, "task", "*", "schedstat"))
	must(t, err)
	for _, f := range threads {
		b, err := os.ReadFile(f)
		must(t, err)
		n, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
		must(t, err)
		u.cpu += time.Duration(n)
	}
	b, err := os.ReadFile(filepath.Join(proc, "statm"))
	must(t, err)
	var size, resident, shared int64
	_, err = fmt.Sscan(string(b), &size, &resident, &shared)
	must(t, err)
	u.memory, u.shared = resident*int64(os.Getpagesize()), shared*int64(os.Getpagesize())
	return u
}

// BenchmarkStart holds the time from 'souk run -d -y' to the first line of the container's output against that of 'docker
// run' with the same image and the same settings, turn by turn. The engine's own time of the line counts for both. The
// image is present; ledger, signatures and three nodes are included. The goal: at most 1.1 times.
func BenchmarkStart(b *testing.B) {
	s := newStage(b)
	l := &lab{bin: s.bin, dir: b.TempDir()}
	b.Cleanup(func() {
		l.end(b)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(b, clearEngine(ctx, s.engine, l.home("host")))
	})
	must(b, l.found("op", "60s"))
	must(b, l.host("host", "2xH100", "0.36", "0.12", "docker"))
	must(b, l.consumer("me", "100"))
	_, err := l.souk("me", "status", "--wait", "offers=1")
	must(b, err)

	startSouk(b, s, l, "warm-up") // pulls the image
	var souk, docker []time.Duration
	for i := 0; b.Loop(); i++ {
		took, again := startSouk(b, s, l, "pod-"+strconv.Itoa(i))
		souk, docker = append(souk, took), append(docker, startDocker(b, again))
	}
	ratio := median(souk).Seconds() / median(docker).Seconds()
	b.ReportMetric(ratio, "×docker")
	fmt.Printf("start, median of %d: souk run %s, docker run %s: %.2f × (goal 1.1)\n", len(souk),
		median(souk).Round(time.Millisecond), median(docker).Round(time.Millisecond), ratio)
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return (d[(len(d)-1)/2] + d[len(d)/2]) / 2
}

// startSouk runs a pod, and gives the arguments of docker that make the same container.
func startSouk(b *testing.B, s *stage, l *lab, name string) (took time.Duration, docker []string) {
	b.Helper()
	begun := time.Now()
	_, err := l.souk("me", "run", "-d", "-y", "--type", "on-demand", "--max-price", "0.36", "--name", name, "--volume", "1GiB", s.image)
	must(b, err)
	var pods []consumer.View
	must(b, l.value(&pods, "me", "wait", name, "--for", "running"))
	container := engine(b, "ps", "--format", "{{.Names}}", "--filter", fmt.Sprintf("label=%s=%x", plan.LabelLease, pods[0].Lease[:]))
	took = firstLine(b, container).Sub(begun)
	docker = sameSettings(b, container)
	must(b, l.each("me", []string{"rm", name}, []string{"wait", name, "--for", "ended"}))
	for left := container; left != ""; pause(50 * time.Millisecond) { // what is still being removed would slow the next turn
		left = engine(b, "ps", "-aq", "--filter", "name="+container)
	}
	return took, docker
}

// startDocker times docker's own command line.
func startDocker(b *testing.B, args []string) time.Duration {
	b.Helper()
	name := "souk-bench-" + strconv.Itoa(os.Getpid())
	volume := name + "-volume"
	run := append([]string{"run", "-d", "--name", name, "--mount", "type=volume,source=" + volume + ",target=/workspace"}, args...)
	begun := time.Now()
	engine(b, run...)
	took := firstLine(b, name).Sub(begun)
	engine(b, "rm", "-f", name)
	engine(b, "volume", "rm", volume)
	return took
}

// engine runs docker's own command line.
func engine(t testing.TB, args ...string) string {
	t.Helper()
	out, err := osexec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// firstLine is when the engine took the first line of a container's output.
func firstLine(t testing.TB, container string) time.Time {
	t.Helper()
	c := osexec.Command("docker", "logs", "-f", "--timestamps", container)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	c.Process.Kill()
	io.Copy(io.Discard, out)
	c.Wait()
	stamp, _, _ := strings.Cut(line, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	must(t, err)
	return at
}

// sameSettings asks the engine how a container was made.
func sameSettings(t testing.TB, container string) []string {
	t.Helper()
	field := func(format string) []string {
		return strings.Fields(engine(t, "inspect", "--format", format, container))
	}
	args := []string{"--init"}
	for flag, format := range map[string]string{
		"--cap-drop": "{{range .HostConfig.CapDrop}}{{.}} {{end}}", "--cap-add": "{{range .HostConfig.CapAdd}}{{.}} {{end}}",
		"--security-opt": "{{range .HostConfig.SecurityOpt}}{{.}} {{end}}", "--env": "{{range .Config.Env}}{{.}} {{end}}",
		// Under the node's own labels its supervisor would take the container for one that should not be.
		"--label":      "{{range $k, $v := .Config.Labels}}bench.{{$k}}={{$v}} {{end}}",
		"--log-driver": "{{.HostConfig.LogConfig.Type}}", "--log-opt": "{{range $k, $v := .HostConfig.LogConfig.Config}}{{$k}}={{$v}} {{end}}",
		"--restart": "{{.HostConfig.RestartPolicy.Name}}", "--network": "{{.HostConfig.NetworkMode}}", "--ipc": "{{.HostConfig.IpcMode}}",
		"--cgroupns": "{{.HostConfig.CgroupnsMode}}", "--pids-limit": "{{.HostConfig.PidsLimit}}", "--oom-score-adj": "{{.HostConfig.OomScoreAdj}}",
		"--ulimit": "{{range .HostConfig.Ulimits}}{{.Name}}={{.Soft}}:{{.Hard}} {{end}}",
	} {
		for _, v := range field(format) {
			args = append(args, flag, v)
		}
	}
	return append(args, field("{{.Config.Image}}")...)
}
