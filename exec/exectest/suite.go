package exectest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"souk/exec"
	"souk/exec/image"
	"souk/exec/plan"
)

// Suite runs every test of the suite on runtimes made by open.
func Suite(t *testing.T, open func(t *testing.T) exec.Runtime) {
	tests := []struct {
		name string
		run  func(*testing.T, *Bench)
	}{
		{"PodRunsAndItsExitIsToldWithTrueTimes", runs},
		{"PullTellsTrueTotals", pulls},
		{"ImageDefaultCommandIsKept", defaults},
		{"EndedRunIsNotStartedAgain", endsOnce},
		{"BadCommandIsAFailedStart", badCommand},
		{"MissingImageIsAFailedPull", badImage},
		{"BadPodIsRefused", badPod},
		{"StopLetsThePodSeeSIGTERM", stopTrap},
		{"StopKillsWhatIgnoresSIGTERM", stopIgnore},
		{"ShorterGraceShortensAStop", stopSooner},
		{"StopDuringPullCancelsIt", stopPull},
		{"VolumeIsKeptAndDiskIsLostAcrossStarts", volumes},
		{"RemoveLeavesNothing", removes},
		{"RunningPodIsAdopted", adopts},
		{"EndWhileNobodyWatchedIsObserved", observes},
		{"NewerRunIsLeftAlone", newer},
		{"OrphansAreStoppedAfterSyncAndKeepTheirVolumes", orphans},
		{"VolumesOfOtherLeasesAreNotUsed", foreign},
		{"OtherHomesAreNotTouched", homes},
		{"LogsFollowAndTail", logs},
		{"EnvironmentNamesSimulatedGPUs", environment},
		{"LostContainerIsToldAndNotStartedAgain", lost},
		{"NothingOutlivesItsPod", orphanProcess},
		{"LooksTellOfWhatRunsThen", looks},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, New(t, open(t)))
		})
	}
}

func runs(t *testing.T, b *Bench) {
	before := time.Now()
	p := b.Pod("exit", "7")
	b.Sup.Want(Run(p, 1))
	started := b.Await(t, p.Lease, 1, exec.Started)
	exited := b.Await(t, p.Lease, 1, exec.Exited, exec.Failed)
	if exited.Kind != exec.Exited || exited.ExitCode != 7 || exited.Signalled || exited.OOM || exited.Lost {
		t.Fatalf("got %s, want exit 7 by itself", Format([]exec.Event{exited}))
	}
	if started.StartID == "" || exited.StartID != started.StartID || !exited.StartedAt.Equal(started.StartedAt) {
		t.Fatalf("start %q at %s, exit of %q at %s: want one identity", started.StartID, started.StartedAt, exited.StartID, exited.StartedAt)
	}
	if exited.StartedAt.Before(before.Add(-time.Second)) || exited.FinishedAt.Before(exited.StartedAt) || exited.FinishedAt.After(time.Now().Add(time.Second)) {
		t.Fatalf("started %s, finished %s, now %s", exited.StartedAt, exited.FinishedAt, time.Now())
	}
}

func looks(t *testing.T, b *Bench) {
	p := b.Pod("ignore")
	b.Sup.Want(Run(p, 1))
	first := b.Await(t, p.Lease, 1, exec.Started)
	asked := time.Now()
	b.Sup.Look(p.Lease)
	again := b.AwaitSince(t, asked, p.Lease, 1, exec.Started)
	if again.StartID != first.StartID || !again.StartedAt.Equal(first.StartedAt) {
		t.Fatalf("a look says %s, the start said %s", Format([]exec.Event{again}), Format([]exec.Event{first}))
	}
	b.Sup.Want(Stop(p, 1, 100*time.Millisecond))
	ended := b.Await(t, p.Lease, 1, exec.Exited)
	b.Sup.Look(p.Lease)
	b.Sup.Want(Remove(p, 1))
	b.Await(t, p.Lease, 0, exec.Removed)
	for _, e := range b.Events(p.Lease) {
		if e.Kind == exec.Started && e.At.After(ended.FinishedAt) {
			t.Fatalf("a look says %s of a pod that ended at %s", Format([]exec.Event{e}), ended.FinishedAt)
		}
	}
}

func pulls(t *testing.T, b *Bench) {
	p := b.Pod("exit", "0")
	p.Image = b.Push(image.Recipe{Binary: testpod(t), Path: "/bin/testpod", Files: map[string][]byte{"/etc/made-for": []byte(b.Home)}})
	ref, err := image.Resolve(context.Background(), p.Image, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.Sup.Want(Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Exited)
	var last exec.Progress
	created := false
	for _, e := range b.Events(p.Lease) {
		switch e.Kind {
		case exec.Pulling:
			last = e.Progress
			if created {
				t.Fatal("pull after create")
			}
		case exec.Created:
			created = true
		}
	}
	if last.Done != last.Total || last.Total <= 0 || last.Total > ref.Size || len(last.Layers) != 1 {
		t.Fatalf("last progress %+v, want all of at most %d bytes in one layer", last, ref.Size)
	}
}

func defaults(t *testing.T, b *Bench) {
	p := b.Pod()
	b.Sup.Want(Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Exited)
	if out, err := b.Output(t, p, 1, 0); out != "image\n" || err != "default\n" {
		t.Fatalf("output %q and %q, want those of the image's command", out, err)
	}
}

func endsOnce(t *testing.T, b *Bench) {
	p := b.Pod("exit", "0")
	b.Sup.Want(Run(p, 1))
	first := b.Await(t, p.Lease, 1, exec.Exited)
	b.Sup.Want(Run(p, 1))
	b.Sup.Want(Run(p, 2))
	second := b.Await(t, p.Lease, 2, exec.Exited)
	if first.StartID == second.StartID {
		t.Fatal("two starts with one identity")
	}
	for _, k := range []exec.Kind{exec.Started, exec.Exited} {
		for start := range uint32(2) {
			n := 0
			for _, e := range b.Events(p.Lease) {
				if e.Kind == k && e.Start == start+1 {
					n++
				}
			}
			if n != 1 {
				t.Fatalf("%d events %s for start %d, want 1: %s", n, k, start+1, Format(b.Events(p.Lease)))
			}
		}
	}
}

func badCommand(t *testing.T, b *Bench) {
	for name, pod := range map[string]plan.Pod{
		"entrypoint not there": {Image: b.Push(image.Recipe{Binary: testpod(t), Path: "/bin/testpod", Entrypoint: []string{"/no/such/program"}})},
		"name not in PATH":     {Image: b.Push(image.Recipe{Binary: testpod(t), Path: "/bin/testpod", Entrypoint: []string{"no-such-program"}})},
		"no command at all":    {Image: b.Push(image.Recipe{Binary: testpod(t), Path: "/bin/testpod", Entrypoint: []string{}})},
	} {
		pod.Lease, pod.Grace = NewLease(), time.Second
		b.Sup.Want(Run(pod, 1))
		e := b.Await(t, pod.Lease, 1, exec.Failed, exec.Exited)
		if e.Kind != exec.Failed || e.Code != exec.CodeBadCommand || e.Reason == "" {
			t.Errorf("%s: got %s, want a failed start for a bad command", name, Format([]exec.Event{e}))
		}
		// The next start is not in the way of what is left of this one.
		pod.Image, pod.Command = b.Image, []string{"exit", "0"}
		b.Sup.Want(Run(pod, 2))
		b.Await(t, pod.Lease, 2, exec.Exited)
		for _, h := range b.Have(pod.Lease) {
			if h.Start == 1 {
				t.Errorf("%s: %+v is left of the failed start", name, h)
			}
		}
	}
}

func badImage(t *testing.T, b *Bench) {
	none := strings.Repeat("0", 64)
	tests := map[string]struct {
		ref  string
		code exec.Code
	}{
		"no such digest": {b.Reg.Addr() + "/" + b.Home + "/testpod@sha256:" + none, exec.CodeImageNotFound},
		"no such name":   {b.Reg.Addr() + "/nobody/nothing@sha256:" + none, exec.CodeImageNotFound},
		"no registry":    {"127.0.0.1:1/nobody/nothing@sha256:" + none, exec.CodeRegistry},
	}
	for name, tt := range tests {
		p := b.Pod("exit", "0")
		p.Image = tt.ref
		b.Sup.Want(Run(p, 1))
		e := b.Await(t, p.Lease, 1, exec.Failed, exec.Started)
		if e.Stage != exec.StagePull || e.Code != tt.code || e.Reason == "" {
			t.Errorf("%s: got %s at %q, want %s at pull", name, Format([]exec.Event{e}), e.Stage, tt.code)
		}
	}
}

func badPod(t *testing.T, b *Bench) {
	p := b.Pod("exit", "0")
	p.Image = "testpod:latest"
	b.Sup.Want(Run(p, 1))
	if e := b.Await(t, p.Lease, 1, exec.Failed); e.Code != exec.CodeBadPod {
		t.Fatalf("got %s, want %s", Format([]exec.Event{e}), exec.CodeBadPod)
	}
}

func stopTrap(t *testing.T, b *Bench) {
	p := b.Pod("trap", "9")
	b.Sup.Want(Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Started)
	b.AwaitOutput(t, p, 1, "ready")
	b.Sup.Want(Stop(p, 1, time.Minute))
	e := b.Await(t, p.Lease, 1, exec.Exited)
	if e.ExitCode != 9 || !e.Signalled {
		t.Fatalf("got %s, want exit 9 after a signal", Format([]exec.Event{e}))
	}
	if out, _ := b.Output(t, p, 1, 0); !strings.HasSuffix(out, "got SIGTERM\n") {
		t.Fatalf("logs after the stop: %q", out)
	}
}

func stopIgnore(t *testing.T, b *Bench) {
	const grace = 1500 * time.Millisecond
	p := b.Pod("ignore")
	b.Sup.Want(Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Started)
	b.AwaitOutput(t, p, 1, "ready")
	asked := time.Now()
	b.Sup.Want(Stop(p, 1, grace))
	e := b.Await(t, p.Lease, 1, exec.Exited)
	if e.ExitCode != 137 || !e.Signalled {
		t.Fatalf("got %s, want 137 after a signal", Format([]exec.Event{e}))
	}
	if d := e.FinishedAt.Sub(asked); d < grace-50*time.Millisecond || d > grace+10*time.Second {
		t.Fatalf("killed %s after the stop, want %s", d, grace)
	}
}

func stopSooner(t *testing.T, b *Bench) {
	p := b.Pod("ignore")
	b.Sup.Want(Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Started)
	b.AwaitOutput(t, p, 1, "ready")
	b.Sup.Want(Stop(p, 1, 9*time.Minute))
	b.Sup.Want(Stop(p, 1, 100*time.Millisecond))
	if e := b.Await(t, p.Lease, 1, exec.Exited); e.ExitCode != 137 {
		t.Fatalf("got %s, want 137", Format([]exec.Event{e}))
	}
}

// stopPull asks for a start and takes it back at once; whatever was under way, nothing may be left, and a later start works.
func stopPull(t *testing.T, b *Bench) {
	p := b.Pod("trap", "0")
	b.Sup.Want(Run(p, 1))
	b.Sup.Want(Remove(p, 1))
	b.Await(t, p.Lease, 0, exec.Removed)
	if have := b.All(p.Lease); len(have) != 0 {
		t.Fatalf("left: %+v", have)
	}
	b.Sup.Want(Run(p, 2))
	b.Await(t, p.Lease, 2, exec.Started)
}

func volumes(t *testing.T, b *Bench) {
	const kept, lost = "$SOUK_VOLUME/n", "lose/n"
	p := b.Pod("count", kept, lost)
	p.Volume, p.Mount = 1<<20, "/data/keep"
	for start := uint32(1); start <= 3; start++ {
		b.Sup.Want(Run(p, start))
		b.Await(t, p.Lease, start, exec.Started)
		b.AwaitOutput(t, p, start, "ready")
		want := fmt.Sprintf("%s %d\n%s 1\nready\n", kept, start, lost)
		if out, errs := b.Output(t, p, start, 0); out != want {
			t.Fatalf("start %d: got %q %q, want %q", start, out, errs, want)
		}
		b.Sup.Want(Stop(p, start, 5*time.Second))
		b.Await(t, p.Lease, start, exec.Exited)
	}
}

func removes(t *testing.T, b *Bench) {
	p := b.Pod("trap", "0")
	p.Volume = 1 << 20
	b.Sup.Want(Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Started)
	if have := b.Have(p.Lease); len(have) != 2 {
		t.Fatalf("have %+v, want a container and a volume", have)
	}
	b.Sup.Want(Remove(p, 1))
	b.Await(t, p.Lease, 1, exec.Exited)
	b.Await(t, p.Lease, 1, exec.Removed)
	if have := b.All(p.Lease); len(have) != 0 {
		t.Fatalf("left: %+v", have)
	}
	var errNoRun = b.Sup.Logs(context.Background(), p.Lease, 0, false, 0, io.Discard, io.Discard)
	if errNoRun != exec.ErrNoRun {
		t.Fatalf("logs: %v, want %v", errNoRun, exec.ErrNoRun)
	}
}

func adopts(t *testing.T, b *Bench) {
	p := b.Pod("trap", "4")
	b.Sup.Want(Run(p, 1))
	first := b.Await(t, p.Lease, 1, exec.Started)
	b.AwaitOutput(t, p, 1, "ready")
	b.Stop()

	next := b.Watch()
	defer next.Stop()
	next.Sup.Sync(Run(p, 1))
	seen := next.Await(t, p.Lease, 1, exec.Observed)
	if seen.State != plan.Running || seen.StartID != first.StartID || !seen.StartedAt.Equal(first.StartedAt) {
		t.Fatalf("observed %s %q %s, want running %q %s", seen.State, seen.StartID, seen.StartedAt, first.StartID, first.StartedAt)
	}
	next.Sup.Want(Stop(p, 1, time.Minute))
	if e := next.Await(t, p.Lease, 1, exec.Exited, exec.Failed); e.ExitCode != 4 || e.StartID != first.StartID || !e.Signalled {
		t.Fatalf("got %s, want exit 4 of the adopted start", Format([]exec.Event{e}))
	}
	for _, e := range next.Events(p.Lease) {
		if e.Kind == exec.Started || e.Kind == exec.Created {
			t.Fatalf("adoption started something: %s", Format(next.Events(p.Lease)))
		}
	}
}

func observes(t *testing.T, b *Bench) {
	ended, running, absent := b.Pod("trap", "5"), b.Pod("trap", "0"), b.Pod("trap", "0")
	b.Sup.Want(append(Run(ended, 3), Run(running, 1)...))
	first := b.Await(t, ended.Lease, 3, exec.Started)
	b.Await(t, running.Lease, 1, exec.Started)
	b.AwaitOutput(t, ended, 3, "ready")
	b.Stop()
	asked := time.Now()
	if err := b.RT.Signal(context.Background(), b.Have(ended.Lease)[0].ID, false); err != nil {
		t.Fatal(err)
	}
	// The end is seen by polling, as a node that is down would miss every event.
	for b.Have(ended.Lease)[0].State != plan.Exited {
		if time.Since(asked) > patience {
			t.Fatal("the pod does not end")
		}
	}

	next := b.Watch()
	defer next.Stop()
	next.Sup.Sync(slices.Concat(Run(ended, 3), Run(running, 1), Run(absent, 2)))
	e := next.Await(t, ended.Lease, 3, exec.Observed)
	if e.State != plan.Exited || e.ExitCode != 5 || e.StartID != first.StartID || e.Signalled ||
		e.FinishedAt.Before(asked.Add(-time.Second)) || e.FinishedAt.After(time.Now().Add(time.Second)) {
		t.Fatalf("observed %+v, want the exit that nobody watched", e)
	}
	if e := next.Await(t, running.Lease, 1, exec.Observed); e.State != plan.Running {
		t.Fatalf("observed %s, want running", e.State)
	}
	if e := next.Await(t, absent.Lease, 2, exec.Observed); e.State != plan.Absent || e.StartID != "" {
		t.Fatalf("observed %s, want absent", e.State)
	}
	next.Await(t, absent.Lease, 2, exec.Started)
	if out, _ := next.Output(t, ended, 3, 1); out != "got SIGTERM\n" {
		t.Fatalf("logs of the ended run: %q", out)
	}
}

func newer(t *testing.T, b *Bench) {
	p := b.Pod("trap", "0")
	b.Sup.Want(Run(p, 5))
	first := b.Await(t, p.Lease, 5, exec.Started)
	b.Stop()
	next := b.Watch()
	defer next.Stop()
	next.Sup.Sync(Run(p, 4))
	if e := next.Await(t, p.Lease, 0, exec.Observed); e.Start != 5 || e.StartID != first.StartID || e.State != plan.Running {
		t.Fatalf("observed %+v, want the newer run", e)
	}
	next.Sup.Want(Run(p, 6))
	next.Await(t, p.Lease, 5, exec.Exited)
	next.Await(t, p.Lease, 6, exec.Started)
}

func orphans(t *testing.T, b *Bench) {
	known, unknown := b.Pod("trap", "0"), b.Pod("trap", "0")
	unknown.Command, unknown.Volume = []string{"trap", "0", "$SOUK_VOLUME/ended"}, 1<<20
	b.Sup.Want(append(Run(known, 1), Run(unknown, 1)...))
	b.Await(t, known.Lease, 1, exec.Started)
	b.Await(t, unknown.Lease, 1, exec.Started)
	b.AwaitOutput(t, unknown, 1, "ready")
	b.Stop()
	next := b.Watch()
	defer next.Stop()
	next.Sup.Sync(Run(known, 1))
	next.Await(t, known.Lease, 1, exec.Observed)
	for begin := time.Now(); len(b.All(unknown.Lease)) > 1; {
		if time.Since(begin) > patience {
			t.Fatalf("left: %+v", b.All(unknown.Lease))
		}
	}
	if have := b.All(unknown.Lease); len(have) != 1 || have[0].Object != plan.Volume {
		t.Fatalf("left of the unknown lease: %+v, want its volume", have)
	}
	// The lease was known after all: its data are there, and it had its grace to put them there.
	unknown.Command = []string{"count", "$SOUK_VOLUME/ended", "x"}
	next.Sup.Want(Run(unknown, 2))
	next.Await(t, unknown.Lease, 2, exec.Started)
	next.AwaitOutput(t, unknown, 2, "ended 2\n")
	if have := b.Have(known.Lease); len(have) != 1 || have[0].State != plan.Running {
		t.Fatalf("the known pod: %+v, want running", have)
	}
}

// foreign has a lease find a volume of its own volume's name that is another's, as if names could be made to collide.
func foreign(t *testing.T, b *Bench) {
	victim, thief := b.Pod("trap", "0"), b.Pod("trap", "0")
	victim.Volume, thief.Volume = 1<<20, 1<<20
	policy := plan.Policy{Home: b.Home}
	theirs, err := plan.NewConfig(victim, 1, policy)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := plan.NewConfig(thief, 1, policy)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.RT.Pull(ctx, b.Image, func(exec.Progress) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.RT.Create(ctx, theirs); err != nil {
		t.Fatal(err)
	}
	ours.Volume.Name = theirs.Volume.Name
	var fault *exec.Fault
	if _, err := b.RT.Create(ctx, ours); !errors.As(err, &fault) || fault.Code != exec.CodeEngine || !strings.Contains(fault.Reason, theirs.Volume.Name) {
		t.Fatalf("got %v, want a refusal that names %s", err, theirs.Volume.Name)
	}
	if have := b.Have(thief.Lease); len(have) != 0 {
		t.Fatalf("made in spite of it: %+v", have)
	}
}

func homes(t *testing.T, b *Bench) {
	p := b.Pod("trap", "0")
	b.Sup.Want(Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Started)
	other := &Bench{T: t, RT: b.RT, Home: b.Home + "-other"}
	defer other.clear()
	next := other.Watch()
	defer next.Stop()
	q := b.Pod("exit", "0")
	next.Sup.Sync(Run(q, 1))
	next.Await(t, q.Lease, 1, exec.Exited)
	next.Sup.Want(Remove(q, 1))
	next.Await(t, q.Lease, 1, exec.Removed)
	if have := b.Have(p.Lease); len(have) != 1 || have[0].State != plan.Running {
		t.Fatalf("the other home's pod: %+v, want running", have)
	}
}

func logs(t *testing.T, b *Bench) {
	const n = 2000
	p := b.Pod("lines", fmt.Sprint(n))
	b.Sup.Want(Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Started)
	b.AwaitOutput(t, p, 1, "ready")
	if out, _ := b.Output(t, p, 1, 3); out != fmt.Sprintf("line %d\nline %d\nready\n", n-1, n) {
		t.Fatalf("tail 3: %q", out)
	}
	followed := make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var out bytes.Buffer
		if err := b.Sup.Logs(ctx, p.Lease, 0, true, 2, &out, io.Discard); err != nil {
			t.Errorf("follow: %v", err)
		}
		followed <- out.String()
	}()
	b.Sup.Want(Stop(p, 1, time.Minute))
	b.Await(t, p.Lease, 1, exec.Exited)
	if out := <-followed; !strings.HasSuffix(out, "ready\ngot SIGTERM\n") {
		t.Fatalf("followed: %q, want it to reach the end", out)
	}
	all, _ := b.Output(t, p, 1, 0)
	if lines := strings.Split(strings.TrimSpace(all), "\n"); len(lines) != n+2 || lines[0] != "line 1" {
		t.Fatalf("%d lines from %q, want %d", len(lines), lines[0], n+2)
	}
}

func environment(t *testing.T, b *Bench) {
	p := b.Pod("env")
	p.GPUs = []plan.GPU{{UUID: "GPU-11111111-2222-3333-4444-555555555555", Simulated: true}, {UUID: "GPU-11111111-2222-3333-4444-666666666666", Simulated: true}}
	p.Env = []string{"MINE=1", "NVIDIA_VISIBLE_DEVICES=all", "LD_PRELOAD=/x.so", "MINE=2"}
	b.Sup.Want(Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Exited)
	out, _ := b.Output(t, p, 1, 0)
	env := strings.Split(out, "\n")
	for _, want := range []string{"MINE=2", "SOUK_POD_ID=" + p.Lease, "SOUK_GPU_COUNT=2", "SOUK_SIMULATED=1", "NVIDIA_VISIBLE_DEVICES=void"} {
		if !slices.Contains(env, want) {
			t.Errorf("%q is not in the pod's environment %q", want, env)
		}
	}
	for _, e := range env {
		if strings.HasPrefix(e, "LD_PRELOAD=") || e == "MINE=1" || e == "NVIDIA_VISIBLE_DEVICES=all" {
			t.Errorf("the pod's environment has %q", e)
		}
	}
}

func lost(t *testing.T, b *Bench) {
	p := b.Pod("trap", "0")
	b.Sup.Want(Run(p, 1))
	b.Await(t, p.Lease, 1, exec.Started)
	h := b.Have(p.Lease)[0]
	if err := b.RT.Remove(context.Background(), h); err != nil {
		t.Fatal(err)
	}
	e := b.Await(t, p.Lease, 1, exec.Exited)
	b.Sup.Want(Run(p, 2))
	b.Await(t, p.Lease, 2, exec.Started)
	if n := len(b.Events(p.Lease)); e.StartID != h.StartID() || n == 0 {
		t.Fatalf("exit of %q, want %q", e.StartID, h.StartID())
	}
	started := 0
	for _, e := range b.Events(p.Lease) {
		if e.Kind == exec.Started && e.Start == 1 {
			started++
		}
	}
	if started != 1 {
		t.Fatalf("start 1 was started %d times: %s", started, Format(b.Events(p.Lease)))
	}
}

// orphanProcess has a pod leave a process behind that holds its output open: the pod ends, and so does the process.
func orphanProcess(t *testing.T, b *Bench) {
	p := b.Pod("orphan")
	b.Sup.Want(Run(p, 1))
	if e := b.Await(t, p.Lease, 1, exec.Exited); e.ExitCode != 0 {
		t.Fatalf("got %s, want exit 0", Format([]exec.Event{e}))
	}
	if out, _ := b.Output(t, p, 1, 0); !strings.Contains(out, "child ") {
		t.Fatalf("output %q", out)
	}
}
