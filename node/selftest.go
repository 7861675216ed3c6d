package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"souk/exec"
	"souk/exec/gate"
	"souk/node/api"
	"souk/node/config"
	"souk/node/core/observer"
	"souk/p2p/member"
)

// factsFor is how long what was found of the engine counts: versions change by people's hands. That the firewall is in place is known
// at any time.
const factsFor = 10 * time.Minute

// standsWait is how long the core may take to say where this node stands: with a full disk it says nothing.
const standsWait = 5 * time.Second

// A selfTest is what this node last found of its machine.
type selfTest struct {
	mu    sync.Mutex
	facts gate.Facts
	at    time.Time
	real  bool // GPUs
	stood observer.Standing
}

// SelfTest judges this machine now: nothing of a node that hosts no pods.
func (n *Node) SelfTest(ctx context.Context) []api.Gate {
	var list []api.Gate
	for _, r := range n.judge(ctx, true) {
		list = append(list, api.Gate{Name: r.Name, State: string(r.State), Actual: r.Actual, Needed: r.Needed, Fix: r.Fix})
	}
	return list
}

// judge is the self-test, with what was found a while ago unless fresh.
func (n *Node) judge(ctx context.Context, fresh bool) []gate.Result {
	if n.pods.engine == nil {
		return nil
	}
	at := n.stands(ctx)
	f := n.facts(ctx, fresh)
	f.Skew, f.SkewKnown = time.Duration(at.Skew)*time.Millisecond, len(n.net.Peers()) > 0
	testnet := at.Testnet || at.Market == "" && n.opts.Config.SimulatedGPUs != "" // which only a testnet takes
	return f.Judge(testnet)
}

// stands is where this node stands in its market, or stood when the core last had time to say so.
func (n *Node) stands(ctx context.Context) observer.Standing {
	ctx, cancel := context.WithTimeout(ctx, standsWait)
	defer cancel()
	v, err := n.Do(ctx, observer.Where{})
	n.selfTest.mu.Lock()
	defer n.selfTest.mu.Unlock()
	if at, ok := v.(observer.Standing); ok && err == nil {
		n.selfTest.stood = at
	}
	return n.selfTest.stood
}

func (n *Node) facts(ctx context.Context, fresh bool) gate.Facts {
	rt, err := n.pods.engine.runtime(ctx)
	d, ok := rt.(*exec.Docker)
	switch {
	case err != nil:
		return gate.Facts{EngineErr: err}
	case rt == nil:
		return gate.Facts{EngineErr: exec.ErrNoEngine}
	case !ok:
		return gate.Facts{Process: true}
	}
	s := &n.selfTest
	s.mu.Lock()
	defer s.mu.Unlock()
	if fresh || time.Since(s.at) > factsFor || s.facts.EngineErr != nil {
		s.facts, s.at = d.Facts(ctx, n.self.String(), s.real), time.Now()
		return s.facts
	}
	f := s.facts
	f.FirewallErr = d.Fence(n.self.String()).Err()
	return f
}

// realGPUs notes whether NVIDIA's toolkit matters.
func (n *Node) realGPUs(list []member.Device) {
	is := slices.ContainsFunc(list, func(d member.Device) bool { return !d.Simulated })
	n.selfTest.mu.Lock()
	defer n.selfTest.mu.Unlock()
	if is != n.selfTest.real {
		n.selfTest.real, n.selfTest.at = is, time.Time{}
	}
}

// Probe judges a machine whose node is down, and leaves nothing behind.
func Probe(ctx context.Context, cfg config.Config, realGPUs bool) []gate.Result {
	if cfg.Pods() == config.RuntimeProcess {
		return gate.Facts{Process: true}.Judge(true) // in any other market such a node hosts nothing
	}
	d, err := newDocker(cfg, nil)
	if err != nil {
		return gate.Facts{EngineErr: err}.Judge(false)
	}
	defer d.Close()
	const home = "souk host doctor"
	f := d.Facts(ctx, home, realGPUs)
	if f.EngineErr == nil && f.FirewallErr == nil {
		f.FirewallErr = d.Unfence(context.WithoutCancel(ctx), home)
	}
	return f.Judge(cfg.SimulatedGPUs != "") // which only a testnet takes
}
