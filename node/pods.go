package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"souk/exec"
	"souk/exec/image"
	"souk/exec/plan"
	"souk/node/config"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// pods is where the core's wishes meet the container engine. A node that hosts nothing has no engine.
type pods struct {
	cfg    config.Config
	log    *slog.Logger
	put    func(context.Context, step.Input)
	market func() string    // id, for labels
	sup    *exec.Supervisor // nil: this node hosts no pods

	mu     sync.Mutex
	orders []order       // in the order of the core's steps
	more   chan struct{} // capacity 1: there are orders
	rt     exec.Runtime
	closed context.Context // of run
}

// order is what one step wants of pods.
type order struct {
	list []step.PodWant
	all  bool
}

// engineWait is how long the engine may take to answer when a node starts.
const engineWait = 3 * time.Second

func newPods(o Options, self identity.Address, market func() string, put func(context.Context, step.Input)) (*pods, error) {
	p := &pods{cfg: o.Config, log: o.Log, put: put, market: market, closed: context.Background(), more: make(chan struct{}, 1)}
	if !o.Config.Role().Has(member.RoleHost) {
		return p, nil
	}
	var err error
	if p.rt, err = p.choose(); err != nil {
		return nil, err
	}
	p.sup = exec.NewSupervisor(p.rt, self.String(), p.event, o.Log)
	return p, nil
}

// choose takes the engine that the configuration names; auto: Docker where it answers, else plain processes.
func (p *pods) choose() (exec.Runtime, error) {
	docker, err := exec.NewDocker(exec.DockerOptions{})
	if err != nil {
		return nil, err
	}
	if p.cfg.Pods() == config.RuntimeDocker {
		return docker, nil
	}
	if p.cfg.Pods() == config.RuntimeAuto {
		ctx, cancel := context.WithTimeout(context.Background(), engineWait)
		defer cancel()
		if err = docker.Ping(ctx); err == nil {
			return docker, nil
		}
		p.log.Warn("no container engine answers; pods are plain processes, which only a testnet market takes", "err", err)
	}
	return exec.NewProcess(exec.ProcessOptions{Root: p.cfg.PodsDir()})
}

// run keeps the engine as the core wants it, until ctx ends. The pods run on.
func (p *pods) run(ctx context.Context) error {
	if p.sup == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	var g errgroup.Group
	g.Go(func() error { p.pass(ctx); return nil })
	g.Go(func() error { return p.sup.Run(ctx) })
	return g.Wait()
}

// want takes the core's wishes. It does not block: whoever gives them has other peers to answer.
func (p *pods) want(list []step.PodWant, all bool) {
	if p.sup == nil {
		return
	}
	p.mu.Lock()
	p.orders = append(p.orders, order{list, all})
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// pass gives the wishes to the supervisor, in order, until ctx ends.
func (p *pods) pass(ctx context.Context) {
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
			p.carry(o.list, o.all)
		}
	}
}

func (p *pods) carry(list []step.PodWant, all bool) {
	wants := make([]plan.Want, 0, len(list))
	for _, w := range list {
		wants = append(wants, p.translate(w))
	}
	if all {
		p.sup.Sync(wants)
		return
	}
	for i, w := range list {
		if w.Phase == step.PodRun && !p.allowed(w) {
			continue
		}
		p.sup.Want(wants[i : i+1])
	}
}

// allowed refuses images of registries inside the host's own network, unless the host says otherwise: a pull must not
// become a way to look around there.
func (p *pods) allowed(w step.PodWant) bool {
	if p.cfg.PrivateImages {
		return true
	}
	ctx, cancel := context.WithTimeout(p.closed, engineWait)
	defer cancel()
	if !image.Private(ctx, w.Image) {
		return true
	}
	go p.put(p.closed, step.PodEvent{
		Lease: w.Lease, Start: w.Start, What: step.PodFailed, At: now(), Fault: step.FaultImage,
		Detail: "this host takes no images of registries on private addresses",
	})
	return false
}

func (p *pods) translate(w step.PodWant) plan.Want {
	gpus := make([]plan.GPU, 0, len(w.GPUs))
	for _, d := range w.GPUs {
		gpus = append(gpus, plan.GPU{UUID: d.UUID, Simulated: d.Simulated})
	}
	phase := map[step.PodPhase]plan.Phase{step.PodRun: plan.Run, step.PodStop: plan.Stop, step.PodRemove: plan.Remove}[w.Phase]
	return plan.Want{
		Phase: phase, Start: w.Start, Grace: w.Grace.Span(),
		Pod: plan.Pod{
			Lease: hex.EncodeToString(w.Lease[:]), Market: p.market(), Image: w.Image, Command: w.Command, Env: w.Env,
			Disk: int64(w.Disk), Volume: int64(w.Volume), Mount: w.Mount, GPUs: gpus, Grace: w.Grace.Span(),
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
		Lease: wire.ID(raw), Start: e.Start, At: member.At(e.At), Done: e.Progress.Done, Total: e.Progress.Total,
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
	p.put(p.closed, out)
}

func instant(t time.Time) member.Time {
	if t.IsZero() {
		return 0
	}
	return member.At(t)
}

// logs copies a pod's output.
func (p *pods) logs(ctx context.Context, lease wire.ID, start uint32, follow bool, tail int, stdout, stderr io.Writer) error {
	if p.sup == nil {
		return errors.New("this node hosts no pods")
	}
	err := p.sup.Logs(ctx, hex.EncodeToString(lease[:]), start, follow, tail, stdout, stderr)
	if errors.Is(err, exec.ErrNoRun) {
		return step.Refuse(step.RefuseState, "the pod's container is not there (yet, or any more)")
	}
	return err
}

// describe says which engine there is, for people.
func (p *pods) describe(ctx context.Context) (name, version string) {
	if p.rt == nil {
		return "none", "this node hosts no pods"
	}
	v, ok := p.rt.(interface {
		Version(context.Context) (string, error)
	})
	if !ok {
		return p.rt.Name(), ""
	}
	version, err := v.Version(ctx)
	if err != nil {
		return p.rt.Name(), fmt.Sprintf("does not answer: %v", err)
	}
	return p.rt.Name(), version
}
