package node

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"souk/exec"
	"souk/exec/plan"
	"souk/node/config"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A pod is never run with less isolation than its terms promise, nor with other isolation, also not after a restart.
func TestPodOfOtherIsolationIsRefused(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("plain processes need Linux")
	}
	var got []step.PodEvent
	p := &pods{
		log: slog.New(slog.DiscardHandler), home: "h", at: member.At, market: func() string { return "" }, closed: context.Background(),
		put:      func(_ context.Context, in step.Input) { got = append(got, in.(step.PodEvent)) },
		engine:   openEngine(t, t.TempDir(), config.RuntimeProcess, "", true, true),
		measured: make(chan struct{}),
	}
	sup, err := p.supervisor(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	p.measure(member.Machine{MemoryMiB: 8 << 10, Cores: 4}, 2)
	for _, all := range []bool{false, true} {
		for i, w := range []step.PodWant{
			{Phase: step.PodRun, Isolation: "process"}, {Phase: step.PodStop, Isolation: "docker"}, {Phase: step.PodRemove, Isolation: "docker"},
			{Phase: step.PodRun, Isolation: "docker"}, {Phase: step.PodRun},
		} {
			got, w.Lease, w.Start = nil, wire.ID{byte(i)}, 3
			p.carry(context.Background(), sup, order{list: []step.PodWant{w}, all: all})
			if refused := i > 2; refused != (len(got) == 1) {
				t.Errorf("%+v, all %v: told %+v", w, all, got)
			} else if refused && (got[0].What != step.PodFailed || got[0].Fault != step.FaultEngine || got[0].Start != 3 || got[0].Lease != w.Lease ||
				!strings.Contains(got[0].Detail, `"process"`)) {
				t.Errorf("%+v, all %v: told %+v", w, all, got[0])
			}
		}
	}
	if used, err := p.engine.used(); err != nil || used != config.RuntimeProcess {
		t.Errorf("the home remembers %q, %v", used, err)
	}
}

func TestPodHasItsShareOfTheMachine(t *testing.T) {
	p := &pods{market: func() string { return "" }, measured: make(chan struct{})}
	p.measure(member.Machine{MemoryMiB: 100 << 10, Cores: 16}, 4)
	p.measure(member.Machine{MemoryMiB: 100 << 10, Cores: 16}, 2)
	pod := p.translate(step.PodWant{Phase: step.PodRun, GPUs: make([]member.Device, 1)}).Pod
	if pod.Memory != 45<<30 || pod.CPUs != 8000 {
		t.Fatalf("got %d bytes and %d milli-CPUs", pod.Memory, pod.CPUs)
	}
	select {
	case <-p.measured:
	default:
		t.Fatal("nobody is told that the machine is known")
	}
}

// What an engine says of the disk is the host's trouble, not the image's.
func TestFullDiskIsNotTheConsumersFault(t *testing.T) {
	var got step.PodEvent
	p := &pods{at: member.At, put: func(_ context.Context, in step.Input) { got = in.(step.PodEvent) }}
	p.event(exec.Event{Lease: strings.Repeat("0", 32), Start: 1, Kind: exec.Failed, Code: exec.CodeDisk, Reason: "full"})
	if got.What != step.PodFailed || got.Fault != step.FaultEngine || got.Detail != "full" {
		t.Fatalf("got %+v", got)
	}
}

// What the engine said is dated in the core's time, which minutes are counted in: a wall clock that jumped alone does not count.
func TestEngineIsAskedInTheCoresTime(t *testing.T) {
	var got step.PodEvent
	asked := time.Now()
	begun := &moment{core: member.At(asked) - 2*member.Hour, machine: asked.Add(-3 * time.Second)}
	p := &pods{at: begun.at, put: func(_ context.Context, in step.Input) { got = in.(step.PodEvent) }}
	p.event(exec.Event{Lease: strings.Repeat("0", 32), Start: 1, Kind: exec.Observed, State: plan.Running, At: asked})
	if want := begun.core + 3*member.Second; got.What != step.PodStarted || got.At != want {
		t.Errorf("asked at %v, the core is told %v", want, got.At)
	}
}
