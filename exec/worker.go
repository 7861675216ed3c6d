package exec

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"souk/exec/plan"
	"souk/node/crash"
)

// A worker acts for one lease. Its goroutine owns all but the first group of fields.
type worker struct {
	s     *Supervisor
	lease string
	wake  chan struct{} // capacity 1: look again

	// Guarded by the supervisor's mu.
	wanted   plan.Want
	observe  bool               // an Observed is owed
	confirm  bool               // a Started is owed of what runs
	stopping bool               // a stop was wanted, and whoever wanted it waits to hear that nothing runs
	orphan   bool               // nobody knows this lease, so nobody is told
	stopPull context.CancelFunc // set while an image is pulled for wanted

	at         time.Time         // when the engine was last asked for the list
	confirming bool              // confirm was set before it was asked
	seen       map[string]*sight // by StartID
	ended      uint32            // newest start that failed, ended or was lost: not to be tried again (P1)
	halt       halt
	retry      time.Duration
	away       away
	again      uint32 // start whose image went away between pull and creation, and was pulled once more
}

// A sight is what the core was told of one start of a container.
type sight struct {
	have      plan.Have
	end       bool
	signalled bool
}

// A halt is a stop under way.
type halt struct {
	container string
	kill      time.Time
}

// away is a registry that a start waits for.
type away struct {
	start uint32
	since time.Time
}

var errStalled = errors.New("exec: pull without progress")

func newWorker(s *Supervisor, lease string) *worker {
	w := &worker{s: s, lease: lease, wake: make(chan struct{}, 1), seen: map[string]*sight{}}
	poke(w.wake)
	return w
}

// want replaces what is wanted. The caller holds mu.
func (w *worker) want(n plan.Want, observe bool) {
	if w.stopPull != nil && !sameRun(w.wanted, n) {
		w.stopPull()
	}
	w.wanted, w.orphan = n, false
	w.observe = w.observe || observe
	w.stopping = n.Phase == plan.Stop
	poke(w.wake)
}

func sameRun(a, b plan.Want) bool {
	return a.Phase == plan.Run && b.Phase == plan.Run && a.Start == b.Start
}

// run works until ctx ends, or until the lease is removed.
func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		timer.Stop()
		wait, done := w.step(ctx)
		if done {
			return
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// step looks and acts until there is nothing to do, or nothing but waiting: for a wake, or for wait when it is not 0.
func (w *worker) step(ctx context.Context) (wait time.Duration, done bool) {
	for ctx.Err() == nil {
		have, err := w.look(ctx)
		if err != nil {
			return w.trouble(ctx, "list", err), false
		}
		want := w.report(have)
		if want.Phase == 0 {
			return 0, false
		}
		actions := plan.Actions([]plan.Want{w.due(want)}, have)
		if len(actions) == 0 {
			w.retry, w.halt = 0, halt{}
			w.stopped(want, have)
			return 0, (want.Phase == plan.Remove || want.Phase == plan.Clear) && w.gone(want)
		}
		if actions[0].Verb != plan.Halt {
			w.halt = halt{}
		}
		wait, err := w.act(ctx, want, actions[0])
		if err != nil {
			return w.trouble(ctx, actions[0].Verb.String(), err), false
		}
		if wait > 0 {
			return wait, false
		}
	}
	return 0, false
}

// stopped tells, once for each stop, that there was nothing to stop: of a run that never started no end is reported.
func (w *worker) stopped(want plan.Want, have []plan.Have) {
	w.s.mu.Lock()
	owed := w.stopping && sameStop(w.wanted, want)
	w.stopping = w.stopping && !owed
	w.s.mu.Unlock()
	ran := func(h plan.Have) bool { return h.Start == want.Start && h.StartID() != "" }
	if owed && !slices.ContainsFunc(have, ran) {
		w.emit(startEvent(Observed, plan.Have{Start: want.Start}))
	}
}

func sameStop(a, b plan.Want) bool {
	return a.Phase == plan.Stop && b.Phase == plan.Stop && a.Start == b.Start
}

// due is what is wanted, but that a start which is over is not tried again, even if its container has gone (P1): what was
// never started of it is cleared away.
func (w *worker) due(want plan.Want) plan.Want {
	if want.Phase == plan.Run && want.Start <= w.ended {
		want.Phase, want.Grace = plan.Stop, want.Pod.Grace
	}
	return want
}

// gone tells that nothing is left, and ends the worker unless something new is wanted.
func (w *worker) gone(want plan.Want) bool {
	w.s.mu.Lock()
	orphan := w.orphan
	w.s.mu.Unlock()
	if !orphan {
		w.emit(Event{Kind: Removed, Start: want.Start})
	}
	return w.s.forget(w)
}

func (w *worker) look(ctx context.Context) ([]plan.Have, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	w.s.mu.Lock()
	w.confirming = w.confirming || w.confirm
	w.confirm = false
	w.s.mu.Unlock()
	w.at = time.Now()
	crash.Here("engine.list")
	return w.s.rt.List(ctx, w.s.home, w.lease)
}

// trouble logs what went wrong with the engine itself, and says when to try again: it never ends a pod.
func (w *worker) trouble(ctx context.Context, doing string, err error) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	poke(w.s.engine)
	w.retry = min(max(2*w.retry, retryFirst), retryMax)
	w.s.log.Warn("engine", "lease", w.lease, "doing", doing, "err", err, "again", w.retry)
	return w.retry
}

// report tells the core what is new in have, and returns what is wanted now.
func (w *worker) report(have []plan.Have) plan.Want {
	w.s.mu.Lock()
	want, observe, confirm := w.wanted, w.observe, w.confirming
	w.observe, w.confirming = false, false
	w.s.mu.Unlock()

	if observe {
		w.observed(want, have)
	}
	here := make(map[string]bool, len(have))
	for _, h := range have {
		id := h.StartID()
		if id == "" {
			continue
		}
		here[id] = true
		told := w.seen[id]
		if told == nil {
			told = &sight{}
			w.seen[id] = told
			w.emit(w.seenEvent(Started, h))
		} else if confirm && h.State == plan.Running && h.Start == want.Start {
			w.emit(w.seenEvent(Started, h))
		}
		told.have = h
		if h.State == plan.Exited && !told.end {
			told.end = true
			w.ended = max(w.ended, h.Start)
			w.emit(w.endEvent(h, told.signalled))
		}
	}
	for id, told := range w.seen {
		if here[id] {
			continue
		}
		delete(w.seen, id)
		if !told.end {
			w.ended = max(w.ended, told.have.Start)
			e := startEvent(Exited, told.have)
			e.FinishedAt, e.Lost, e.Signalled = time.Now(), true, told.signalled
			w.emit(e)
		}
	}
	return want
}

// observed answers Sync with the newest container. What it says is not said again.
func (w *worker) observed(want plan.Want, have []plan.Have) {
	newest := plan.Have{Start: want.Start}
	for _, h := range have {
		if h.Object != plan.Container {
			continue
		}
		if newest.ID == "" || h.Start > newest.Start {
			newest = h
		}
		if id := h.StartID(); id != "" {
			w.seen[id] = &sight{have: h, end: h.State == plan.Exited}
		}
	}
	e := w.seenEvent(Observed, newest)
	if newest.State == plan.Exited {
		w.ended = max(w.ended, newest.Start)
		e.FinishedAt, e.ExitCode, e.OOM = newest.FinishedAt, newest.ExitCode, newest.OOM
		e.Signalled = want.Phase != plan.Run
	}
	w.emit(e)
}

// seenEvent is startEvent of what the last list had.
func (w *worker) seenEvent(k Kind, h plan.Have) Event {
	e := startEvent(k, h)
	e.At = w.at
	return e
}

func startEvent(k Kind, h plan.Have) Event {
	return Event{Kind: k, Start: h.Start, State: h.State, StartID: h.StartID(), StartedAt: h.StartedAt}
}

// endEvent is Exited, or Failed for a command that could not be run: with an init process in front the engine starts well,
// and the answer is an exit code.
func (w *worker) endEvent(h plan.Have, signalled bool) Event {
	e := startEvent(Exited, h)
	e.FinishedAt, e.ExitCode, e.OOM, e.Signalled = h.FinishedAt, h.ExitCode, h.OOM, signalled
	if !signalled && (h.ExitCode == 126 || h.ExitCode == 127) && h.FinishedAt.Sub(h.StartedAt) <= failedStart {
		e.Kind, e.Stage, e.Code = Failed, StageStart, CodeBadCommand
		e.Reason = "the command could not be run (exit code " + strconv.Itoa(h.ExitCode) + ")" + w.lastWords(h)
	}
	return e
}

// lastWords is the end of a container's output, for the reason of a failure.
func (w *worker) lastWords(h plan.Have) string {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	var out bytes.Buffer
	if w.s.rt.Logs(ctx, h.ID, LogOptions{Tail: 1}, &out, &out) != nil || out.Len() == 0 {
		return ""
	}
	const most = 300
	b := out.Bytes()
	return ": " + strings.ToValidUTF8(strings.TrimSpace(string(b[max(0, len(b)-most):])), "?")
}

// act carries out one action. An error is the engine's; what is the pod's own fault was told in an event.
func (w *worker) act(ctx context.Context, want plan.Want, a plan.Action) (wait time.Duration, err error) {
	switch a.Verb {
	case plan.Launch:
		return 0, w.launch(ctx, want)
	case plan.Begin:
		call, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		crash.Here("engine.start")
		err := w.s.rt.Start(call, a.Have.ID)
		crash.Here("engine.started")
		return 0, w.failed(ctx, StageStart, a.Start, err)
	case plan.Halt:
		return w.stop(ctx, a)
	default:
		call, cancel := context.WithTimeout(ctx, removeTimeout)
		defer cancel()
		crash.Here("engine.remove")
		err := w.s.rt.Remove(call, a.Have)
		crash.Here("engine.removed")
		return 0, err
	}
}

// stop sends SIGTERM once, and SIGKILL when the grace is over; a shorter grace given meanwhile counts.
func (w *worker) stop(ctx context.Context, a plan.Action) (time.Duration, error) {
	now := time.Now()
	first := w.halt.container != a.Have.ID
	if first {
		w.halt = halt{container: a.Have.ID, kill: now.Add(a.Grace)}
	}
	if by := now.Add(a.Grace); by.Before(w.halt.kill) {
		w.halt.kill = by
	}
	if told := w.seen[a.Have.StartID()]; told != nil {
		told.signalled = true
	}
	kill := !now.Before(w.halt.kill)
	if first || kill {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		crash.Here("engine.signal")
		if err := w.s.rt.Signal(call, a.Have.ID, kill); err != nil {
			w.halt = halt{}
			return 0, err
		}
		crash.Here("engine.signalled")
	}
	if kill {
		return retryFirst, nil
	}
	return time.Until(w.halt.kill) + time.Millisecond, nil
}

// launch pulls and creates. The start follows when the engine lists the container.
func (w *worker) launch(ctx context.Context, want plan.Want) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	policy, err := w.s.rt.Policy(call)
	cancel()
	if err != nil {
		return err
	}
	policy.Home = w.s.home
	config, err := plan.NewConfig(want.Pod, want.Start, policy)
	if err != nil {
		return w.failed(ctx, StageCreate, want.Start, &Fault{Code: CodeBadPod, Reason: err.Error(), Err: err})
	}
	current, err := w.pull(ctx, want)
	if err != nil || !current {
		return w.failed(ctx, StagePull, want.Start, err)
	}
	call, cancel = context.WithTimeout(ctx, createTimeout)
	defer cancel()
	crash.Here("engine.create")
	_, err = w.s.rt.Create(call, config)
	crash.Here("engine.created")
	if err != nil {
		// Somebody pruned the engine's images at the wrong moment: no fault of the image's, the first time.
		var fault *Fault
		if errors.As(err, &fault) && fault.Code == CodeImageNotFound && w.again != want.Start {
			w.again = want.Start
			return err
		}
		return w.failed(ctx, StageCreate, want.Start, err)
	}
	w.emit(Event{Kind: Created, Start: want.Start})
	return nil
}

// pull makes the image present. current is false if this run is not wanted any more: then the pull was cut short.
func (w *worker) pull(ctx context.Context, want plan.Want) (current bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	ctx, stall := context.WithCancelCause(ctx)
	defer stall(nil)

	w.s.mu.Lock()
	current = sameRun(w.wanted, want)
	w.stopPull = cancel
	w.s.mu.Unlock()
	defer func() {
		w.s.mu.Lock()
		w.stopPull = nil
		current = current && sameRun(w.wanted, want)
		w.s.mu.Unlock()
		if !current {
			err = nil
		}
	}()
	if !current {
		return false, nil
	}
	watchdog := time.AfterFunc(stallTimeout, func() { stall(errStalled) })
	defer watchdog.Stop()
	crash.Here("engine.pull")
	var last Progress
	var told time.Time
	err = w.s.rt.Pull(ctx, want.Pod.Image, func(p Progress) {
		if p.Done != last.Done {
			watchdog.Reset(stallTimeout)
		}
		last = p
		if time.Since(told) >= progressEvery || p.Total > 0 && p.Done == p.Total {
			told = time.Now()
			w.emit(Event{Kind: Pulling, Start: want.Start, Progress: p})
		}
	})
	crash.Here("engine.pulled")
	switch cause := context.Cause(ctx); {
	case err == nil:
	case errors.Is(cause, errStalled):
		err = &Fault{Code: CodeRegistry, Reason: "the registry sent nothing for " + stallTimeout.String(), Err: err}
	case errors.Is(cause, context.DeadlineExceeded):
		err = &Fault{Code: CodeRegistry, Reason: "the pull took longer than " + pullTimeout.String(), Err: err}
	}
	return true, err
}

// failed sorts an error: what the engine could not do now is returned, to be tried again; what the pod cannot get is told,
// and ends this start.
func (w *worker) failed(ctx context.Context, stage Stage, start uint32, err error) error {
	if err == nil || ctx.Err() != nil {
		return nil
	}
	fault := faultOf(err)
	if fault.Code == CodeEngineDown || fault.Code == CodeFence || stage == StagePull && w.patient(start, fault) {
		return err
	}
	w.ended = max(w.ended, start)
	w.s.log.Info("start failed", "lease", w.lease, "start", start, "stage", string(stage), "err", err)
	w.emit(Event{Kind: Failed, Start: start, Stage: stage, Code: fault.Code, Reason: fault.Reason})
	return nil
}

// patient says whether to try a pull again. After a power cut a pod can be due before names can be looked up and registries
// reached. A first start of a registry that does not answer fails at once instead: its user waits, and can take another image.
func (w *worker) patient(start uint32, fault *Fault) bool {
	var lookup *net.DNSError
	noNames := errors.As(fault, &lookup) && !lookup.IsNotFound
	if fault.Code != CodeRegistry || start == 1 && !noNames {
		return false
	}
	if w.away.start != start {
		w.away = away{start, time.Now()}
	}
	return time.Since(w.away.since) < registryPatience
}

func (w *worker) emit(e Event) {
	e.Lease = w.lease
	w.s.emit(e)
}
