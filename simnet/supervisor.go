package simnet

import (
	"encoding/hex"
	"slices"
	"strings"

	"souk/exec/plan"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A supervisor makes the machine's pods be as the core wants them, in one run of the node, as exec.Supervisor does: the same
// plan, the same words to the core, one lease at a time.
type supervisor struct {
	n       *node
	m       *machine
	workers map[wire.ID]*worker
	said    member.Time // when the last event to the core is due: they stay in order
	up      bool        // what the core was told of the engine
}

// A worker acts for one lease.
type worker struct {
	lease   wire.ID
	want    step.PodWant
	observe bool
	confirm bool // a PodStarted is owed of what runs
	stops   bool // a stop was wanted, and the core waits to hear that nothing runs
	orphan  bool // no lease of the core's: its containers go, its data stay
	busy    bool // a slow call is under way
	cut     func()
	seen    map[identity.Hash]*sight
	ended   uint32
	halted  int // container that was signalled
	kill    member.Time
}

// A sight is what the core was told of one start.
type sight struct {
	c   *container
	end bool
}

func newSupervisor(n *node) *supervisor {
	return &supervisor{n: n, m: n.host, workers: map[wire.ID]*worker{}}
}

// begin looks for the engine, and for what else there is, from time to time.
func (s *supervisor) begin() {
	if !s.m.down {
		s.up = true
		s.tell(step.Engine{Up: true})
	}
	s.audit()
}

func (s *supervisor) audit() {
	s.n.later(20*member.Second, "audit", func() {
		for _, id := range s.known() {
			if w := s.workers[id]; w.want.Phase != 0 && w.want.Phase != step.PodRun || !w.busy {
				s.poke(id, 0)
			}
		}
		s.audit()
	})
}

func (s *supervisor) known() []wire.ID {
	out := make([]wire.ID, 0, len(s.workers))
	for id := range s.workers {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b wire.ID) int { return strings.Compare(string(a[:]), string(b[:])) })
	return out
}

// tell brings the core an input, after those told before.
func (s *supervisor) tell(in step.Input) {
	if e, ok := in.(step.PodEvent); ok {
		e.At = s.n.clock()
		in = e
	}
	s.said = max(s.said, s.n.w.now+s.m.rnd.between(1, 5))
	s.n.later(s.said-s.n.w.now, "pod", func() {
		s.n.step(in)
	})
}

// engine tells the core that the engine has gone or come.
func (s *supervisor) engine(up bool) {
	if s.up == up {
		return
	}
	s.up = up
	s.tell(step.Engine{Up: up})
	if up {
		for _, id := range s.known() {
			s.poke(id, 0)
		}
	}
}

// want takes the core's wishes.
func (s *supervisor) want(list []step.PodWant, all bool) {
	for _, p := range list {
		w := s.workers[p.Lease]
		if w == nil {
			w = &worker{lease: p.Lease, seen: map[identity.Hash]*sight{}}
			s.workers[p.Lease] = w
		}
		if w.cut != nil && !(w.want.Phase == step.PodRun && p.Phase == step.PodRun && w.want.Start == p.Start) {
			w.cut()
		}
		w.want, w.orphan, w.stops = p, false, p.Phase == step.PodStop
		w.observe = w.observe || all
		s.poke(p.Lease, 0)
	}
	if !all {
		return
	}
	for _, id := range s.m.leases() {
		if s.workers[id] == nil && len(s.m.containers[id]) > 0 {
			s.workers[id] = &worker{lease: id, seen: map[identity.Hash]*sight{}, orphan: true, want: step.PodWant{Lease: id, Phase: step.PodRemove}}
			s.poke(id, 0)
		}
	}
}

// confirm has pods looked at again.
func (s *supervisor) confirm(leases []wire.ID) {
	for _, id := range leases {
		if w := s.workers[id]; w != nil {
			w.confirm = true
			s.poke(id, 0)
		}
	}
}

// poke has a lease looked at.
func (s *supervisor) poke(lease wire.ID, after member.Time) {
	s.n.later(after+1, "look", func() {
		if w := s.workers[lease]; w != nil && !w.busy {
			s.look(w)
		}
	})
}

// look acts until there is nothing to do, or nothing but waiting.
func (s *supervisor) look(w *worker) {
	if s.m.down {
		s.poke(w.lease, 2*member.Second)
		return
	}
	for {
		have, by := s.m.list(w.lease)
		s.report(w, by)
		if w.want.Phase == 0 {
			return
		}
		actions := plan.Actions([]plan.Want{w.due()}, have)
		if len(actions) == 0 {
			w.halted, w.kill = 0, 0
			s.stopped(w)
			if w.want.Phase == step.PodRemove {
				if !w.orphan {
					s.tell(step.PodEvent{Lease: w.lease, Start: w.want.Start, What: step.PodRemoved})
				}
				delete(s.workers, w.lease)
			}
			return
		}
		if !s.act(w, actions[0], by) {
			return
		}
	}
}

// stopped tells, once for each stop, that there was nothing to stop: of a run that never started no end is reported.
func (s *supervisor) stopped(w *worker) {
	if !w.stops {
		return
	}
	w.stops = false
	ran := func(c *container) bool { return c.start == w.want.Start && c.started != 0 }
	if !slices.ContainsFunc(s.m.containers[w.lease], ran) {
		s.tell(step.PodEvent{Lease: w.lease, Start: w.want.Start, What: step.PodAbsent})
	}
}

// due is what is wanted, but that a start which is over is not tried again.
func (w *worker) due() plan.Want {
	p := plan.Want{Pod: plan.Pod{Lease: hex.EncodeToString(w.lease[:]), Grace: w.want.Grace.Span()}, Start: w.want.Start, Grace: w.want.Grace.Span()}
	switch {
	case w.orphan:
		p.Phase = plan.Clear
	case w.want.Phase == step.PodRun && w.want.Start <= w.ended:
		p.Phase = plan.Stop
	case w.want.Phase == step.PodRun:
		p.Phase = plan.Run
	case w.want.Phase == step.PodStop:
		p.Phase = plan.Stop
	default:
		p.Phase = plan.Remove
	}
	return p
}

// report tells the core what is new.
func (s *supervisor) report(w *worker, by map[string]*container) {
	if w.observe {
		w.observe = false
		s.observed(w)
	}
	for _, c := range s.m.containers[w.lease] {
		if c.started == 0 {
			continue
		}
		told := w.seen[c.id]
		if told == nil {
			told = &sight{c: c}
			w.seen[c.id] = told
			s.tell(c.event(step.PodStarted))
		} else if w.confirm && c.state == plan.Running && c.start == w.want.Start {
			s.tell(c.event(step.PodStarted))
		}
		if c.state == plan.Exited && !told.end {
			told.end = true
			w.ended = max(w.ended, c.start)
			s.tell(c.event(step.PodExited))
		}
	}
	w.confirm = false
	var gone []*sight
	for id, told := range w.seen {
		if told.c.gone {
			delete(w.seen, id)
			gone = append(gone, told)
		}
	}
	slices.SortFunc(gone, func(a, b *sight) int { return a.c.number - b.c.number })
	for _, told := range gone {
		if !told.end {
			w.ended = max(w.ended, told.c.start)
			e := told.c.event(step.PodExited)
			e.Finished = s.n.clock()
			s.tell(e)
		}
	}
}

// observed answers a start of the node with the newest container.
func (s *supervisor) observed(w *worker) {
	e := step.PodEvent{Lease: w.lease, Start: w.want.Start, What: step.PodAbsent}
	var newest *container
	for _, c := range s.m.containers[w.lease] {
		if newest == nil || c.start > newest.start {
			newest = c
		}
		if c.started != 0 {
			w.seen[c.id] = &sight{c, c.state == plan.Exited}
		}
	}
	if newest != nil {
		switch newest.state {
		case plan.Running:
			e = newest.event(step.PodStarted)
		case plan.Exited:
			w.ended = max(w.ended, newest.start)
			e = newest.event(step.PodExited)
		default:
			e.Start = newest.start
		}
	}
	s.tell(e)
}

func (c *container) event(what step.PodFact) step.PodEvent {
	return step.PodEvent{Lease: c.lease, Start: c.start, What: what, ID: c.id, Started: c.started, Finished: c.finished, ExitCode: c.exit}
}

// act carries out one action. It reports false when what follows has to wait.
func (s *supervisor) act(w *worker, a plan.Action, by map[string]*container) bool {
	switch a.Verb {
	case plan.Launch:
		s.launch(w)
	case plan.Begin:
		s.start(w, by[a.Have.ID])
	case plan.Halt:
		s.halt(w, by[a.Have.ID], member.Time(a.Grace.Milliseconds()))
	default:
		s.m.remove(w.lease, a.Have, by)
		return true
	}
	return false
}

// halt sends SIGTERM once, and SIGKILL when the grace is over; a shorter grace given meanwhile counts.
func (s *supervisor) halt(w *worker, c *container, grace member.Time) {
	now := s.n.w.now
	first := w.halted != c.number
	if first {
		w.halted, w.kill = c.number, now+grace
	}
	w.kill = min(w.kill, now+grace)
	if s.n.w.opt.sabotage == sabotageNoGrace {
		w.kill = now
	}
	if kill := now >= w.kill; first || kill {
		s.m.signal(c, kill, grace)
		if kill {
			s.poke(w.lease, member.Second)
			return
		}
	}
	s.poke(w.lease, w.kill-now)
}

// launch pulls the image if it is not there, with progress, and creates the container.
func (s *supervisor) launch(w *worker) {
	p := w.want
	w.busy = true
	cut := false
	w.cut = func() { cut = true }
	free := func(again bool) {
		w.busy, w.cut = false, nil
		if again {
			s.poke(w.lease, 0)
		}
	}
	fail := func(f step.PodFault, why string) {
		free(true)
		w.ended = max(w.ended, p.Start)
		s.tell(step.PodEvent{Lease: w.lease, Start: p.Start, What: step.PodFailed, Fault: f, Detail: why})
	}
	create := func() {
		s.n.later(s.m.rnd.between(30, 200), "create", func() {
			switch {
			case s.m.down:
				free(true)
			default:
				s.m.create(p)
				free(true)
			}
		})
	}
	total := int64(2 << 30)
	var pull func(done int64)
	pull = func(done int64) {
		switch {
		case cut:
			free(true)
		case s.m.down:
			free(true)
		case strings.Contains(p.Image, "missing"):
			fail(step.FaultImage, "no such image")
		case done >= total:
			s.m.images[p.Image] = true
			create()
		default:
			s.tell(step.PodEvent{Lease: w.lease, Start: p.Start, What: step.PodPulling, Done: done, Total: total})
			s.n.later(s.m.rnd.between(member.Second, 12*member.Second), "pull", func() { pull(done + total/8 + s.m.rnd.Int64N(total/2)) })
		}
	}
	if s.m.images[p.Image] {
		create()
		return
	}
	s.n.later(s.m.rnd.between(100, 900), "pull", func() { pull(0) })
}

// start starts a created container.
func (s *supervisor) start(w *worker, c *container) {
	w.busy = true
	s.n.later(s.m.rnd.between(50, 400), "start", func() {
		w.busy = false
		switch {
		case s.m.down:
		case c.program.bad:
			w.ended = max(w.ended, c.start)
			s.tell(step.PodEvent{Lease: w.lease, Start: c.start, What: step.PodFailed, Fault: step.FaultCommand, Detail: "no such program"})
		default:
			s.m.run(c)
		}
		s.poke(w.lease, 0)
	})
}
