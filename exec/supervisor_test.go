package exec

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"souk/exec/plan"
)

// toy is a runtime in memory, for what real engines do too rarely to be tested with.
type toy struct {
	mu      sync.Mutex
	have    []plan.Have
	down    bool
	calls   []string
	pull    func(ctx context.Context, progress func(Progress)) error
	refuse  func() error               // instead of making a container
	create  func() error               // after the container was made
	start   func(h *plan.Have) error   // instead of running it
	changed map[int]func(lease string) // watchers
	cut     chan struct{}
}

var errDown = &Fault{Code: CodeEngineDown, Reason: "toy is down"}

func newToy() *toy { return &toy{changed: map[int]func(string){}, cut: make(chan struct{})} }

func (f *toy) call(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, name)
	if f.down {
		return errDown
	}
	return nil
}

func (f *toy) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
	if down {
		close(f.cut)
		f.cut = make(chan struct{})
	}
}

func (f *toy) HowToRemove(volume string) string                                     { return "toy rm " + volume }
func (f *toy) Name() string                                                         { return "toy" }
func (f *toy) Ping(context.Context) error                                           { return f.call("ping") }
func (f *toy) Policy(context.Context) (plan.Policy, error)                          { return plan.Policy{}, f.call("policy") }
func (f *toy) Logs(context.Context, string, LogOptions, io.Writer, io.Writer) error { return ErrNoRun }

func (f *toy) List(_ context.Context, home, lease string) ([]plan.Have, error) {
	if err := f.call("list"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.have), func(h plan.Have) bool { return lease != "" && h.Lease != lease }), nil
}

func (f *toy) Pull(ctx context.Context, ref string, progress func(Progress)) error {
	if err := f.call("pull"); err != nil || f.pull == nil {
		return err
	}
	return f.pull(ctx, progress)
}

func (f *toy) Create(_ context.Context, c plan.Config) (string, error) {
	if err := f.call("create"); err != nil {
		return "", err
	}
	if f.refuse != nil {
		if err := f.refuse(); err != nil {
			return "", err
		}
	}
	f.mu.Lock()
	start, _ := strconv.ParseUint(c.Labels[plan.LabelStart], 10, 32)
	f.have = append(f.have, plan.Have{ID: c.Name, Lease: c.Labels[plan.LabelLease], Start: uint32(start), State: plan.Created})
	f.mu.Unlock()
	if f.create != nil {
		return "", f.create()
	}
	return c.Name, nil
}

func (f *toy) edit(id string, change func(*plan.Have) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.have {
		if f.have[i].ID == id {
			if err := change(&f.have[i]); err != nil {
				return err
			}
			for _, changed := range f.changed {
				go changed(f.have[i].Lease)
			}
		}
	}
	return nil
}

func (f *toy) Start(_ context.Context, id string) error {
	if err := f.call("start"); err != nil {
		return err
	}
	return f.edit(id, func(h *plan.Have) error {
		if f.start != nil {
			return f.start(h)
		}
		h.State, h.StartedAt = plan.Running, time.Now()
		return nil
	})
}

func (f *toy) Signal(_ context.Context, id string, kill bool) error {
	name := "term"
	if kill {
		name = "kill"
	}
	if err := f.call(name); err != nil || !kill {
		return err
	}
	return f.edit(id, func(h *plan.Have) error {
		h.State, h.FinishedAt, h.ExitCode = plan.Exited, time.Now(), 137
		return nil
	})
}

func (f *toy) Remove(_ context.Context, h plan.Have) error {
	if err := f.call("remove"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have = slices.DeleteFunc(f.have, func(o plan.Have) bool { return o.ID == h.ID })
	return nil
}

func (f *toy) Watch(ctx context.Context, home string, ready func(), changed func(string)) error {
	f.mu.Lock()
	id, cut := len(f.calls), f.cut
	f.changed[id] = changed
	f.mu.Unlock()
	ready()
	select {
	case <-ctx.Done():
	case <-cut:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.changed, id)
	return errDown
}

func (f *toy) count(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if c == call {
			n++
		}
	}
	return n
}

// told collects events by kind.
type told struct {
	mu     sync.Mutex
	events []Event
}

func (t *told) add(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
}

func (t *told) kinds() (list []Kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.events {
		list = append(list, e.Kind)
	}
	return list
}

func (t *told) last(k Kind) (e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.events {
		if o.Kind == k {
			e = o
		}
	}
	return e
}

const toyLease = "0123456789abcdef0123456789abcdef"

var toyPod = plan.Pod{Lease: toyLease, Image: "reg.example/app@sha256:" + toyLease + toyLease, Grace: 5 * time.Second}

func want(phase plan.Phase) []plan.Want {
	return []plan.Want{{Pod: toyPod, Phase: phase, Start: 1, Grace: 5 * time.Second}}
}

// inBubble runs a supervisor on a toy in virtual time.
func inBubble(t *testing.T, f *toy, test func(s *Supervisor, got *told)) {
	synctest.Test(t, func(t *testing.T) {
		f.cut = make(chan struct{})
		got := &told{}
		s := NewSupervisor(f, "home", got.add, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		test(s, got)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestEngineAwayFailsNoPod(t *testing.T) {
	f := newToy()
	inBubble(t, f, func(s *Supervisor, got *told) {
		f.setDown(true)
		s.Want(want(plan.Run))
		after(10 * time.Minute)
		if k := got.kinds(); !slices.Equal(k, []Kind{EngineUp, EngineDown}) {
			t.Fatalf("while the engine is away: %v", k)
		}
		f.setDown(false)
		after(5 * time.Second)
		if k := got.kinds(); !slices.Equal(k, []Kind{EngineUp, EngineDown, EngineUp, Created, Started}) {
			t.Fatalf("when it is back: %v", k)
		}
		f.setDown(true)
		s.Want(want(plan.Stop))
		after(time.Hour)
		if f.count("kill") != 0 {
			t.Fatal("killed without an engine")
		}
		f.setDown(false)
		after(10 * time.Second)
		if e := got.last(Exited); !e.Signalled || e.ExitCode != 137 {
			t.Fatalf("a stop that came while the engine was away: %+v", e)
		}
	})
}

func TestEngineThatIsAwayAtTheStartIsTold(t *testing.T) {
	f := newToy()
	f.down = true
	inBubble(t, f, func(s *Supervisor, got *told) {
		after(time.Minute)
		if k := got.kinds(); !slices.Equal(k, []Kind{EngineDown}) || got.last(EngineDown).Reason == "" {
			t.Fatalf("got %v", k)
		}
		f.setDown(false)
		after(5 * time.Second)
		if k := got.kinds(); !slices.Equal(k, []Kind{EngineDown, EngineUp}) {
			t.Fatalf("when it is there: %v", k)
		}
	})
}

// A list that is older than the engine's state costs a pod its container, after the grace it was made with, and no data.
func TestUnknownLeaseHasItsGraceAndKeepsItsVolume(t *testing.T) {
	f := newToy()
	const stray = "ffffffffffffffffffffffffffffffff"
	f.have = []plan.Have{
		{ID: "pod", Lease: stray, Start: 1, State: plan.Running, StartedAt: time.Unix(1, 0), Grace: 7 * time.Second},
		{Object: plan.Volume, ID: "precious", Lease: stray},
		{Object: plan.Volume, ID: "known", Lease: toyLease},
	}
	var log bytes.Buffer
	inBubble(t, f, func(s *Supervisor, got *told) {
		s.log = slog.New(slog.NewTextHandler(&log, nil))
		s.Sync(want(plan.Stop))
		after(6 * time.Second)
		if f.count("term") != 1 || f.count("kill") != 0 {
			t.Fatalf("within its grace: %d SIGTERM, %d SIGKILL", f.count("term"), f.count("kill"))
		}
		after(time.Hour)
		if f.count("kill") != 1 || f.count("remove") != 1 || len(f.have) != 2 || f.have[0].ID != "precious" {
			t.Fatalf("after its grace: %d SIGKILL, %d removals, left %+v", f.count("kill"), f.count("remove"), f.have)
		}
		s.Want([]plan.Want{{Pod: plan.Pod{Lease: stray}, Phase: plan.Remove}})
		after(time.Second)
		if len(f.have) != 1 || got.last(Removed).Lease != stray {
			t.Fatalf("after a removal: left %+v, told %v", f.have, got.kinds())
		}
	})
	if text := log.String(); strings.Count(text, "precious") != 2 || !strings.Contains(text, "toy rm precious") || strings.Contains(text, "volume=known") {
		t.Fatalf("the log names the volume and how to remove it once; got %s", text)
	}
}

// An engine can make a container and fail to say so: the container is found and used.
func TestContainerMadeInSpiteOfAnErrorIsUsed(t *testing.T) {
	f := newToy()
	f.create = func() error { return context.DeadlineExceeded }
	inBubble(t, f, func(s *Supervisor, got *told) {
		s.Want(want(plan.Run))
		after(time.Minute)
		if k := got.kinds(); !slices.Equal(k, []Kind{EngineUp, Started}) || f.count("create") != 1 {
			t.Fatalf("got %v after %d creates", k, f.count("create"))
		}
	})
}

// Somebody prunes the engine's images between a pull and the creation of its container.
func TestImageThatWentAwayIsPulledOnceMore(t *testing.T) {
	for _, times := range []int{1, 2} {
		f := newToy()
		f.refuse = func() error {
			if times--; times < 0 {
				return nil
			}
			return &Fault{Code: CodeImageNotFound, Reason: "no such image"}
		}
		ok := times == 1
		inBubble(t, f, func(s *Supervisor, got *told) {
			s.Want(want(plan.Run))
			after(time.Minute)
			if f.count("pull") != 2 || slices.Contains(got.kinds(), Started) != ok || slices.Contains(got.kinds(), Failed) == ok {
				t.Errorf("%d pulls, told %v", f.count("pull"), got.kinds())
			}
		})
	}
}

func TestFailedStartIsClearedAwayAndNotRepeated(t *testing.T) {
	f := newToy()
	f.start = func(*plan.Have) error { return &Fault{Code: CodeBadCommand, Reason: "no such file"} }
	inBubble(t, f, func(s *Supervisor, got *told) {
		s.Want(want(plan.Run))
		s.Want(want(plan.Run))
		after(time.Hour)
		e := got.last(Failed)
		if e.Stage != StageStart || e.Code != CodeBadCommand || e.Reason != "no such file" || f.count("start") != 1 || len(f.have) != 0 {
			t.Fatalf("got %+v, %d starts, left %+v", e, f.count("start"), f.have)
		}
	})
}

func TestPullIsCutShortWhenItIsNotWantedAnyMore(t *testing.T) {
	for _, phase := range []plan.Phase{plan.Stop, plan.Remove} {
		f := newToy()
		f.pull = func(ctx context.Context, _ func(Progress)) error { <-ctx.Done(); return ctx.Err() }
		inBubble(t, f, func(s *Supervisor, got *told) {
			s.Want(want(plan.Run))
			after(time.Second)
			s.Want(want(plan.Run)) // the same again changes nothing
			after(time.Second)
			if f.count("pull") != 1 {
				t.Fatalf("%d pulls", f.count("pull"))
			}
			begin := time.Now()
			s.Want(want(phase))
			synctest.Wait()
			k := got.kinds()
			if nothing := slices.Contains(k, Observed); nothing != (phase == plan.Stop) {
				t.Fatalf("%s: got %v; a stop that finds nothing to stop says so", phase, k)
			}
			if time.Since(begin) != 0 || slices.Contains(k, Failed) || f.count("create") != 0 || (phase == plan.Remove) != slices.Contains(k, Removed) {
				t.Fatalf("%s: got %v, %d creates", phase, k, f.count("create"))
			}
		})
	}
}

// After a power cut the network comes up later than the node.
func TestPullWaitsForNamesAndAgainForRegistries(t *testing.T) {
	noNames := &Fault{Code: CodeRegistry, Reason: "no names", Err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}}
	noSuch := &Fault{Code: CodeRegistry, Reason: "no such name", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}
	silent := &Fault{Code: CodeRegistry, Reason: "silent"}
	for _, tt := range []struct {
		start uint32
		fault *Fault
		waits bool
	}{{1, noNames, true}, {1, noSuch, false}, {1, silent, false}, {2, silent, true}, {2, &Fault{Code: CodeImageDenied}, false}} {
		f := newToy()
		var back atomic.Bool
		f.pull = func(context.Context, func(Progress)) error {
			if back.Load() {
				return nil
			}
			return tt.fault
		}
		again := []plan.Want{{Pod: toyPod, Phase: plan.Run, Start: tt.start, Grace: time.Second}}
		inBubble(t, f, func(s *Supervisor, got *told) {
			s.Want(again)
			after(registryPatience - time.Minute)
			if failed := slices.Contains(got.kinds(), Failed); failed == tt.waits {
				t.Errorf("start %d, %s: failed %v, want %v", tt.start, tt.fault.Reason, failed, !tt.waits)
			}
			back.Store(true)
			after(time.Minute)
			if started := f.count("start") == 1; started != tt.waits {
				t.Errorf("start %d, %s: started %v when the network is back, want %v", tt.start, tt.fault.Reason, started, tt.waits)
			}
		})
		f = newToy()
		f.pull = func(context.Context, func(Progress)) error { return tt.fault }
		inBubble(t, f, func(s *Supervisor, got *told) {
			s.Want(again)
			after(registryPatience + time.Minute)
			if e := got.last(Failed); e.Stage != StagePull || e.Code != tt.fault.Code {
				t.Errorf("start %d, %s: after the patience got %v", tt.start, tt.fault.Reason, got.kinds())
			}
		})
	}
}

func TestPullWithoutProgressFails(t *testing.T) {
	f := newToy()
	f.pull = func(ctx context.Context, progress func(Progress)) error {
		for i := range int64(3) {
			progress(Progress{Done: i, Total: 10})
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(stallTimeout - time.Second):
			}
		}
		<-ctx.Done()
		return ctx.Err()
	}
	inBubble(t, f, func(s *Supervisor, got *told) {
		s.Want(want(plan.Run))
		after(2*stallTimeout + time.Minute)
		if slices.Contains(got.kinds(), Failed) {
			t.Fatal("a pull that goes on was ended")
		}
		after(2 * stallTimeout)
		if e := got.last(Failed); e.Stage != StagePull || e.Code != CodeRegistry {
			t.Fatalf("got %+v", e)
		}
	})
}

func TestStopSendsOneSIGTERMAndThenSIGKILL(t *testing.T) {
	f := newToy()
	inBubble(t, f, func(s *Supervisor, got *told) {
		s.Want(want(plan.Run))
		after(time.Second)
		begin := time.Now()
		for range 4 {
			s.Want(want(plan.Stop))
			after(time.Second)
		}
		if f.count("term") != 1 || f.count("kill") != 0 {
			t.Fatalf("within the grace: %d SIGTERM, %d SIGKILL", f.count("term"), f.count("kill"))
		}
		after(time.Minute)
		e := got.last(Exited)
		if d := e.FinishedAt.Sub(begin); f.count("term") != 1 || f.count("kill") != 1 || d < 5*time.Second || d > 5*time.Second+10*time.Millisecond {
			t.Fatalf("after the grace: %d SIGTERM, %d SIGKILL, ended after %s", f.count("term"), f.count("kill"), d)
		}
	})
}

// A hint can get lost: within auditEvery the supervisor looks anyway.
func TestLostHintIsMadeUpFor(t *testing.T) {
	f := newToy()
	inBubble(t, f, func(s *Supervisor, got *told) {
		s.Want(want(plan.Run))
		after(time.Second)
		f.mu.Lock()
		f.have[0].State, f.have[0].FinishedAt = plan.Exited, time.Now()
		f.have = append(f.have, plan.Have{ID: "stray", Lease: "ffffffffffffffffffffffffffffffff", State: plan.Exited})
		f.mu.Unlock()
		after(auditEvery + time.Second)
		if got.last(Exited).Kind != Exited {
			t.Fatalf("got %v", got.kinds())
		}
		if len(f.have) != 2 {
			t.Fatal("removed what may be wanted: Sync was not called")
		}
		s.Sync(want(plan.Run))
		after(time.Second)
		if len(f.have) != 1 || got.last(Observed).State != plan.Exited {
			t.Fatalf("after Sync: %+v, %+v", f.have, got.last(Observed))
		}
	})
}

func TestQuickExit127IsAFailedStartALateOneIsNot(t *testing.T) {
	for _, tt := range []struct {
		lived time.Duration
		code  int
		want  Kind
	}{{time.Second, 127, Failed}, {failedStart, 126, Failed}, {failedStart + 1, 127, Exited}, {time.Second, 1, Exited}, {time.Second, 125, Exited}} {
		f := newToy()
		f.start = func(h *plan.Have) error {
			h.State, h.StartedAt, h.FinishedAt, h.ExitCode = plan.Exited, time.Now(), time.Now().Add(tt.lived), tt.code
			return nil
		}
		inBubble(t, f, func(s *Supervisor, got *told) {
			s.Want(want(plan.Run))
			after(time.Second)
			if e := got.last(tt.want); !slices.Equal(got.kinds(), []Kind{EngineUp, Created, Started, tt.want}) || e.ExitCode != tt.code {
				t.Errorf("exit %d after %s: got %v, want %s", tt.code, tt.lived, got.kinds(), tt.want)
			}
		})
	}
}
