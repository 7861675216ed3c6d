package exec

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"souk/exec/plan"
)

// The supervisor's clockwork.
const (
	auditEvery       = 20 * time.Second       // look at everything, in case a hint was lost: a third of what E1 allows
	pingEvery        = 2 * time.Second        // while the engine is away
	progressEvery    = 500 * time.Millisecond // as often as a bar on a screen needs
	retryFirst       = time.Second            // after the engine failed without being away, doubling
	retryMax         = 30 * time.Second
	registryPatience = 10 * time.Minute // for the network to come up after a power cut, with a router that starts slowly
	failedStart      = 10 * time.Second // exit 126 or 127 within it is a command that could not be run
)

// A Supervisor makes pods be as the core wants them. It has one worker goroutine for each lease, which alone acts on that
// lease's objects; mu guards what the callers and the workers share.
type Supervisor struct {
	rt     Runtime
	home   string
	events func(Event)
	log    *slog.Logger

	engine chan struct{} // capacity 1: a worker found the engine away

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before: workers start with it
	wg      *sync.WaitGroup
	workers map[string]*worker
	synced  bool            // Sync was called: objects of unknown leases are dangling
	warned  map[string]bool // volumes of unknown leases that the log has named
	audit   chan struct{}   // capacity 1: look at everything now
}

// NewSupervisor makes a supervisor for the objects of one home on rt. Two homes on one engine do not touch each other's
// objects. events is called from several goroutines at once, in order for each lease, and may block for a short time.
func NewSupervisor(rt Runtime, home string, events func(Event), log *slog.Logger) *Supervisor {
	if home == "" {
		panic("exec: supervisor without home")
	}
	return &Supervisor{rt: rt, home: home, events: events, log: log.With("runtime", rt.Name()),
		engine: make(chan struct{}, 1), audit: make(chan struct{}, 1), workers: map[string]*worker{}, warned: map[string]bool{}}
}

// Run works until ctx ends. Then all that it started has ended, but the pods, which run on.
func (s *Supervisor) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	s.mu.Lock()
	s.ctx, s.wg = ctx, &wg
	for _, w := range s.workers {
		s.launch(w)
	}
	s.mu.Unlock()

	if rt, ok := s.rt.(interface{ Guard(context.Context, string) }); ok {
		wg.Go(func() { rt.Guard(ctx, s.home) })
	}
	wg.Go(func() { s.watch(ctx) })
	s.sweep(ctx)

	s.mu.Lock()
	s.ctx = nil // no worker starts from here on
	s.mu.Unlock()
	wg.Wait()
	return context.Cause(ctx)
}

// Want says what the core wants of these leases now; what it wants of others stays as it was. It does not block.
func (s *Supervisor) Want(wants []plan.Want) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range wants {
		s.worker(w.Pod.Lease).want(w, false)
	}
}

// Sync says, once, after the node has started, what the core wants of all its leases. What runs is adopted, the containers of
// leases that are not in the list are stopped and removed (X3), and each lease in it gets an Observed before anything else is
// done for it.
func (s *Supervisor) Sync(all []plan.Want) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range all {
		s.worker(w.Pod.Lease).want(w, true)
	}
	s.synced = true
	poke(s.audit)
}

// Look looks at a lease's containers again. If the wanted start of it runs, an event Started follows, also where one was
// told before: At says when that was so.
func (s *Supervisor) Look(lease string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.workers[lease]; w != nil {
		w.confirm = true
		poke(w.wake)
	}
}

// Logs copies the output of a run, as far as its container still exists; start 0 is the newest. With follow it returns at
// the end of the container. The error is ErrNoRun if there is no such container.
func (s *Supervisor) Logs(ctx context.Context, lease string, start uint32, follow bool, tail int, stdout, stderr io.Writer) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	have, err := s.rt.List(call, s.home, lease)
	cancel()
	if err != nil {
		return err
	}
	run := plan.Have{}
	for _, h := range have {
		if h.Object == plan.Container && h.State != plan.Created && (h.Start == start || start == 0 && h.Start > run.Start) {
			run = h
		}
	}
	if run.ID == "" {
		return ErrNoRun
	}
	return s.rt.Logs(ctx, run.ID, LogOptions{Follow: follow, Tail: tail}, stdout, stderr)
}

// worker is the lease's worker, a new one if there is none. The caller holds mu.
func (s *Supervisor) worker(lease string) *worker {
	if !plan.ValidLease(lease) {
		panic("exec: want for lease " + strconv.Quote(lease))
	}
	w := s.workers[lease]
	if w == nil {
		w = newWorker(s, lease)
		s.workers[lease] = w
		if s.ctx != nil {
			s.launch(w)
		}
	}
	return w
}

// launch starts a worker's goroutine. The caller holds mu, and ctx is set.
func (s *Supervisor) launch(w *worker) {
	ctx := s.ctx
	s.wg.Go(func() { w.run(ctx) })
}

// forget ends a worker that has nothing left to do, unless it was given a new want meanwhile.
func (s *Supervisor) forget(w *worker) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.wanted.Phase != plan.Remove && w.wanted.Phase != plan.Clear {
		return false
	}
	delete(s.workers, w.lease)
	return true
}

// watch turns the engine's events into pokes, and tells whether the engine is there, at first and when it goes and comes.
func (s *Supervisor) watch(ctx context.Context) {
	var told Kind // 0: nothing yet, so the first answer counts whatever it is
	for ctx.Err() == nil {
		err := s.ping(ctx)
		switch {
		case ctx.Err() != nil:
			return // it says nothing of the engine
		case err == nil && told != EngineUp:
			told = EngineUp
			s.emit(Event{Kind: EngineUp})
		case err != nil && told != EngineDown:
			told = EngineDown
			s.emit(Event{Kind: EngineDown, Reason: err.Error()})
		}
		if err == nil {
			s.follow(ctx)
			continue
		}
		if !sleep(ctx, pingEvery) {
			return
		}
	}
}

// follow reads the engine's events until it goes away, or a worker says that it has. A broken stream is followed by a ping.
func (s *Supervisor) follow(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.rt.Watch(ctx, s.home, func() { poke(s.audit) }, s.changed) }()
	for {
		select {
		case err := <-done:
			if ctx.Err() == nil {
				s.log.Warn("engine's events ended", "err", err)
				sleep(ctx, time.Second)
			}
			return
		case <-s.engine:
			if s.ping(ctx) != nil {
				cancel()
				<-done
				return
			}
		}
	}
}

func (s *Supervisor) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.rt.Ping(ctx)
}

// changed pokes a lease's worker. A lease without one is dangling, or soon to be known: the audit decides.
func (s *Supervisor) changed(lease string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.workers[lease]; w != nil {
		poke(w.wake)
	}
}

// sweep looks at everything from time to time, and when asked to.
func (s *Supervisor) sweep(ctx context.Context) {
	tick := time.NewTicker(auditEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.audit:
		}
		s.mu.Lock()
		for _, w := range s.workers {
			poke(w.wake)
		}
		s.mu.Unlock()
		s.clear(ctx)
	}
}

// clear finds the leases that have containers or networks here and that nobody knows, and gives each a worker that clears them
// away: so a want for such a lease, should one come after all, is in order with the removal. Volumes are left to people.
func (s *Supervisor) clear(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	have, err := s.rt.List(call, s.home, "")
	cancel()
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("list pods", "err", err)
			poke(s.engine)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.synced {
		return
	}
	known := make(map[string]bool, len(s.workers))
	for lease := range s.workers {
		known[lease] = true
	}
	for _, lease := range plan.Orphans(known, have) {
		s.log.Warn("stop and remove what runs of a lease that this node does not know", "lease", lease)
		w := s.worker(lease)
		w.want(plan.OrphanWant(lease), false)
		w.orphan = true
	}
	for _, v := range plan.OrphanVolumes(known, have) {
		s.tellOf(v)
	}
}

// tellOf names, once, a volume whose lease nobody knows. The caller holds mu.
func (s *Supervisor) tellOf(v plan.Have) {
	if s.warned[v.ID] {
		return
	}
	s.warned[v.ID] = true
	hint := "by hand"
	if rt, ok := s.rt.(interface{ HowToRemove(volume string) string }); ok {
		hint = rt.HowToRemove(v.ID)
	}
	s.log.Warn("the volume of a lease that this node does not know is kept", "volume", v.ID, "lease", v.Lease, "remove it with", hint)
}

func (s *Supervisor) emit(e Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	s.events(e)
}

// poke fills a channel of capacity 1, or leaves it full.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
