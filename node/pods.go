package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"souk/exec"
	"souk/exec/plan"
	"souk/node/core/observer"
	"souk/node/core/step"
	"souk/node/crash"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// pods is where the core's wishes meet the container engine. A node that hosts nothing has no engine.
type pods struct {
	log    *slog.Logger
	home   string // on every object of this node
	put    func(context.Context, step.Input)
	market func() string               // id, for labels
	at     func(time.Time) member.Time // in the core's time
	engine *engine                     // nil: this node hosts no pods

	mu        sync.Mutex
	orders    []order          // in the order of the core's steps
	more      chan struct{}    // capacity 1: there are orders
	fitness   chan struct{}    // capacity 1: whether pods can be fenced off has changed
	sup       *exec.Supervisor // nil until the engine is known
	isolation string           // sup's runtime
	capacity  capacity
	measured  chan struct{}   // closed when capacity is known
	closed    context.Context // of run
}

// order is what one step wants of pods.
type order struct {
	list  []step.PodWant
	all   bool
	looks []wire.ID
}

// marketEvery is how often a node whose engine hangs on its market looks whether it is in one.
const marketEvery = 2 * time.Second

func newPods(n *Node) (*pods, error) {
	p := &pods{log: n.log, home: n.self.String(), put: n.put, market: n.marketID, at: func(t time.Time) member.Time { return n.moment.Load().at(t) }, closed: context.Background(),
		more: make(chan struct{}, 1), fitness: make(chan struct{}, 1), measured: make(chan struct{})}
	if !n.opts.Config.Role().Has(member.RoleHost) {
		return p, nil
	}
	var err error
	p.engine, err = newEngine(n.opts.Config, n.log, func(context.Context) (is, known bool) { // the loop does not run yet
		c, _ := n.core.Observer().Charter()
		return c.Testnet, n.core.Observer().Founded()
	})
	if err == nil {
		_, err = p.supervisor(p.closed)
		p.engine.testnet = n.testnet
	}
	if err == nil && p.engine.docker != nil {
		p.engine.docker.OnFence(func() {
			select {
			case p.fitness <- struct{}{}:
			default:
			}
		})
	}
	return p, err
}

// testnet asks the running core whether this node's market is one, if there is a market yet.
func (n *Node) testnet(ctx context.Context) (is, known bool) {
	v, err := n.Do(ctx, observer.Where{})
	at, ok := v.(observer.Standing)
	return at.Testnet, err == nil && ok && at.Market != ""
}

// supervisor is nil as long as the engine is not known.
func (p *pods) supervisor(ctx context.Context) (*exec.Supervisor, error) {
	rt, err := p.engine.runtime(ctx)
	if err != nil || rt == nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sup == nil {
		p.sup, p.isolation = exec.NewSupervisor(rt, p.home, p.event, p.log), rt.Name()
	}
	return p.sup, nil
}

// run keeps the engine as the core wants it, until ctx ends. The pods run on.
func (p *pods) run(ctx context.Context) error {
	if p.engine == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	sup, err := p.supervisor(ctx)
	for tick := time.NewTicker(marketEvery); sup == nil && err == nil; sup, err = p.supervisor(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.Go(func() error { p.pass(ctx, sup); return nil })
	g.Go(func() error { return sup.Run(ctx) })
	return g.Wait()
}

// measure takes what this machine has, for the shares of its pods.
func (p *pods) measure(m member.Machine, gpus int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.capacity = capacity{memory: int64(m.MemoryMiB) << 20, cpus: int64(m.Cores) * 1000, gpus: gpus}
	select {
	case <-p.measured:
	default:
		close(p.measured)
	}
}

// want takes the core's wishes. It does not block: whoever gives them has other peers to answer.
func (p *pods) want(o order) {
	if p.engine == nil {
		return
	}
	p.mu.Lock()
	p.orders = append(p.orders, o)
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// pass gives the wishes to the supervisor, in order, until ctx ends.
func (p *pods) pass(ctx context.Context, sup *exec.Supervisor) {
	for {
		select {
		case <-p.more:
		case <-ctx.Done():
			return
		}
		p.mu.Lock()
		orders := p.orders
		p.orders = nil
		p.mu.Unlock()
		for _, o := range orders {
			p.carry(ctx, sup, o)
		}
	}
}

func (p *pods) carry(ctx context.Context, sup *exec.Supervisor, o order) {
	if slices.ContainsFunc(o.list, func(w step.PodWant) bool { return w.Phase == step.PodRun }) {
		p.awaitMeasure(ctx)
	}
	if len(o.list) > 0 {
		p.engine.note()
	}
	wants := make([]plan.Want, 0, len(o.list))
	for _, w := range o.list {
		want := p.translate(w)
		if w.Phase == step.PodRun && w.Isolation != p.isolation {
			p.refuse(ctx, w)
			if !o.all {
				continue
			}
			want.Phase = plan.Stop // to be known, and answered for, without being run
		}
		wants = append(wants, want)
	}
	crash.Here("pods.order")
	if o.all {
		sup.Sync(wants)
		return
	}
	sup.Want(wants)
	crash.Here("pods.ordered")
	for _, lease := range o.looks {
		sup.Look(hex.EncodeToString(lease[:]))
	}
}

// awaitMeasure waits until a pod's share of the machine can be told. A driver that hangs does not hold up pods for ever:
// then the machine is shared as if it had the pod's own GPUs only.
func (p *pods) awaitMeasure(ctx context.Context) {
	limit := time.NewTimer(inventoryWait)
	defer limit.Stop()
	select {
	case <-p.measured:
	case <-ctx.Done():
	case <-limit.C:
		p.log.Warn("the GPUs are not known in time: pods may have larger shares of this machine than they should")
		p.measure(member.Machine{MemoryMiB: memoryMiB(), Cores: cores()}, 0)
	}
}

// refuse tells the core that a pod cannot have the isolation that its terms promise.
func (p *pods) refuse(ctx context.Context, w step.PodWant) {
	p.put(ctx, step.PodEvent{
		Lease: w.Lease, Start: w.Start, What: step.PodFailed, At: p.at(time.Now()), Fault: step.FaultEngine,
		Detail: fmt.Sprintf("the terms promise isolation %q, and this host runs pods with %q", w.Isolation, p.isolation),
	})
}

func (p *pods) translate(w step.PodWant) plan.Want {
	gpus := make([]plan.GPU, 0, len(w.GPUs))
	for _, d := range w.GPUs {
		gpus = append(gpus, plan.GPU{UUID: d.UUID, Simulated: d.Simulated})
	}
	p.mu.Lock()
	memory, cpus := p.capacity.share(len(w.GPUs))
	p.mu.Unlock()
	phase := map[step.PodPhase]plan.Phase{step.PodRun: plan.Run, step.PodStop: plan.Stop, step.PodRemove: plan.Remove}[w.Phase]
	return plan.Want{
		Phase: phase, Start: w.Start, Grace: w.Grace.Span(),
		Pod: plan.Pod{
			Lease: hex.EncodeToString(w.Lease[:]), Market: p.market(), Image: w.Image, Command: w.Command, Env: w.Env,
			Disk: int64(w.Disk), Volume: int64(w.Volume), Mount: w.Mount, GPUs: gpus, Grace: w.Grace.Span(),
			Memory: memory, CPUs: cpus,
		},
	}
}

// faults is what the core makes of an engine's code.
var faults = map[exec.Code]step.PodFault{
	exec.CodeImageNotFound: step.FaultImage, exec.CodeImageDenied: step.FaultImage, exec.CodeBadImage: step.FaultImage,
	exec.CodeRegistry: step.FaultImage, exec.CodeBadCommand: step.FaultCommand, exec.CodeBadPod: step.FaultCommand,
}

// event tells the core what became of a pod.
func (p *pods) event(e exec.Event) {
	switch e.Kind {
	case exec.EngineDown, exec.EngineUp:
		p.put(p.closed, step.Engine{Up: e.Kind == exec.EngineUp})
		return
	case exec.Created:
		return
	}
	raw, err := hex.DecodeString(e.Lease)
	if err != nil || len(raw) != len(wire.ID{}) {
		p.log.Error("event of a lease that is none", "lease", e.Lease)
		return
	}
	out := step.PodEvent{
		Lease: wire.ID(raw), Start: e.Start, At: p.at(e.At), Done: e.Progress.Done, Total: e.Progress.Total,
		ExitCode: int32(e.ExitCode), Detail: e.Reason, Started: instant(e.StartedAt), Finished: instant(e.FinishedAt),
	}
	if e.StartID != "" {
		out.ID = identity.Keccak([]byte("souk/start/1"), []byte(e.StartID))
	}
	switch e.Kind {
	case exec.Pulling:
		out.What = step.PodPulling
	case exec.Started:
		out.What = step.PodStarted
	case exec.Exited:
		out.What = step.PodExited
	case exec.Removed:
		out.What = step.PodRemoved
	case exec.Failed:
		out.What, out.Fault = step.PodFailed, step.FaultEngine
		if f, ok := faults[e.Code]; ok {
			out.Fault = f
		}
	case exec.Observed:
		out.What = map[plan.State]step.PodFact{plan.Running: step.PodStarted, plan.Exited: step.PodExited}[e.State]
		if out.What == 0 {
			out.What = step.PodAbsent
		}
	}
	crash.Here("pods.event")
	p.put(p.closed, out)
	crash.Here("pods.told")
}

func instant(t time.Time) member.Time {
	if t.IsZero() {
		return 0
	}
	return member.At(t)
}

// logs copies a pod's output.
func (p *pods) logs(ctx context.Context, lease wire.ID, start uint32, follow bool, tail int, stdout, stderr io.Writer) error {
	p.mu.Lock()
	sup := p.sup
	p.mu.Unlock()
	if sup == nil {
		return errors.New("this node hosts no pods")
	}
	err := sup.Logs(ctx, hex.EncodeToString(lease[:]), start, follow, tail, stdout, stderr)
	if errors.Is(err, exec.ErrNoRun) {
		return step.Refuse(step.RefuseState, "the pod's container is not there (yet, or any more)")
	}
	return err
}

// describe says which engine there is, for people.
func (p *pods) describe(ctx context.Context) (name, version string) {
	if p.engine == nil {
		return "none", "this node hosts no pods"
	}
	return p.engine.describe(ctx)
}
