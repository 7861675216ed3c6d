// Package simnet runs whole markets from one number: the very cores that real nodes run, on a virtual clock, in one goroutine.
//
// A world has one operator, some hosts and some consumers. Around each core stands what a real node's shell does: a disk
// that makes a step durable a while later and lets nothing of it leave before; a network that delays, loses, repeats and
// reorders, with links that are judged by hello, and partitions; a clock that is off by a constant skew; a container engine
// that pulls, starts, runs and kills pods and outlives the node. Actors want things: the operator invites and books
// deposits, hosts advertise, consumers plan, run, stop, start and remove pods that end by themselves, ignore signals or
// cannot be started, until their money runs out. Nodes crash at any step and at any moment, with what was not yet durable
// lost, alone or with their machine.
//
// Some of the nodes may cheat, each in one way (Options.Cheats): they refuse vouchers, fall silent, hold GPUs for nothing, kill young
// pods, hear no orders to stop, keep certificates back, set their clocks, send what is wrong. A cheat stands around the core that
// everybody runs. What honest nodes are promised whatever others do is checked beside the promises (claim.go), and the report
// tells of each cheat how often it was tried, what it got and what it cost others.
//
// All randomness comes from the seed, through a stream for each part of the world, so a seed is a whole history: it gives
// the same trace hash every time, and a failure is found again by its number alone.
//
// While it runs, the world is compared with what was promised:
//
//	L1, L2  after each step of the bank: its totals add up, no balance is negative; in full each minute
//	L3      a lease minute is in one usage entry, a (GPU, minute) in one running entry
//	L4      settled is at most the cap and exactly the highest voucher shown, which the consumer has signed
//	L5      no chain has a gap, none gets two contents for one place, whatever crashed in between
//	L6      a core loaded after a crash has exactly the rows of the store, and a live one too, each hour
//	L7      a consumer signs for no minute in which its pod, by the engine's own account, did not run; a host is left with
//	        one unpaid minute at most
//	M1–M3   the host's table after each change; two pods never run on one GPU
//	M4      no pod is killed before the grace that it was promised is over
//	M5      a follower of the host's log has the host's table at every durable step
//	A1      the journal that the bank has made durable gives its accounts when it is replayed, each checkpoint is of it, and
//	        nobody has evidence against the operator
//	N2      once faults end and all pods are removed, everything is settled, released and known to all
//
// The first broken promise ends the run, with the seed, the instant, and the last steps of the nodes concerned.
package simnet

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strings"
	"time"

	"souk/p2p/identity"
	"souk/p2p/member"
)

// Faults says how often things go wrong while they may.
type Faults struct {
	Loss       float64     // of a message, one way
	Late       float64     // of a message that takes seconds
	Repeat     float64     // of a message that comes twice
	Crash      member.Time // mean time between crashes of one node; 0: none
	StepCrash  float64     // of a node crashing right in a durable step
	Power      float64     // of a crash that takes the machine down
	Partition  member.Time // mean time between partitions; 0: none
	EngineDown member.Time // mean time between outages of one engine; 0: none
	DiskFull   member.Time // mean time between times in which one node's disk is full; 0: none
}

// Heavy is a world in which something is always broken.
func Heavy() Faults {
	return Faults{Loss: 0.01, Late: 0.003, Repeat: 0.005, Crash: 30 * minute, StepCrash: 0.0005, Power: 0.3, Partition: 20 * minute, EngineDown: member.Hour}
}

// Light is a world like ours.
func Light() Faults {
	return Faults{Loss: 0.0005, Late: 0.0002, Repeat: 0.0002, Crash: 12 * member.Hour, StepCrash: 0.000002, Power: 0.2, Partition: 3 * member.Hour, EngineDown: 24 * member.Hour}
}

const minute = 60 * member.Second

// Options say which world is run.
type Options struct {
	Hosts     int
	Consumers int
	Hours     float64 // of virtual time with demand and faults; what follows until all is settled comes on top
	Seed      uint64
	Faults    Faults

	// Progress is called every ten virtual minutes; when it answers false, the run ends with ErrStopped. It may be nil.
	Progress func(at, until time.Duration, r Report) bool

	// Cheats are dealt to nodes by the seed, as far as there are nodes for them beside an honest host and consumer.
	Cheats []Cheat

	sabotage sabotage
	rollback *rollback // homes are restored from old backups; nil: never
}

// A sabotage breaks the world on purpose, to see that it is noticed.
type sabotage uint8

const (
	sabotageNone      sabotage = iota
	sabotageNoDisk             // what a step decided leaves before it is durable
	sabotageOldStore           // a crash brings back rows of a while ago
	sabotageForget             // a row in a thousand is never written
	sabotageNoGrace            // SIGKILL comes with SIGTERM
	sabotagePodDies            // pods die and the engine does not notice
	sabotageSellTwice          // all pods of a machine get the same GPU
	sabotageCutOff             // one host is never reached again
	sabotageSplitView          // the operator shows every other member another journal
)

// A Failure is a promise that was broken. The same options break it again.
type Failure struct {
	Seed    uint64
	At      time.Duration // virtual, since the beginning
	Node    string
	Promise string
	What    string
	History string // the last steps of the nodes concerned
}

// Error names the seed first.
func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d: %s broken at %v by %s: %s\n%s", f.Seed, f.Promise, f.At, f.Node, f.What, f.History)
}

// beginning is when every world begins: a minute of UTC.
const beginning member.Time = 1_800_000_000_000

// A world is one run.
type world struct {
	opt     Options
	now     member.Time
	queue   queue
	nodes   []*node
	byAddr  map[identity.Address]*node
	links   []link
	notary  *notary
	check   *checker
	runs    map[identity.Hash]*container
	net     lots
	disks   lots
	faults  lots
	crashes lots
	faulty  bool
	stats   Report
	trace   uint64
	failure *Failure
	trail   string // of a panic
	charter member.Charter
	buyers  []*buyer
	rogues  []*rogue
	calm    bool // no new demand
	stopped bool
}

// ErrStopped is what a run ends with that its caller has stopped.
var ErrStopped = errors.New("simnet: stopped")

// Run runs a world to its end. The error is a *Failure when a promise was broken.
func Run(o Options) (Report, error) {
	switch {
	case o.Hosts < 0 || o.Consumers < 0 || o.Hosts+o.Consumers > 2000:
		return Report{}, errors.New("simnet: want up to 2000 hosts and consumers")
	case !(o.Hours > 0 && o.Hours <= 24*366):
		return Report{}, fmt.Errorf("simnet: %v hours, want more than none and at most a year", o.Hours)
	}
	begun := time.Now()
	w := newWorld(o)
	w.populate()
	w.run()
	w.finish()
	w.stats.Wall = time.Since(begun)
	w.stats.Trace = fmt.Sprintf("%016x", w.trace)
	switch {
	case w.failure != nil:
		return w.stats, w.failure
	case w.stopped:
		return w.stats, ErrStopped
	}
	return w.stats, nil
}

func newWorld(o Options) *world {
	w := &world{
		opt: o, now: beginning, byAddr: map[identity.Address]*node{}, runs: map[identity.Hash]*container{},
		net: newLots(o.Seed, "net"), disks: newLots(o.Seed, "disks"), faults: newLots(o.Seed, "faults"), crashes: newLots(o.Seed, "crashes"),
	}
	w.notary = newNotary(newLots(o.Seed, "notary").hash())
	w.notary.broken = func(promise, format string, args ...any) { w.broken(nil, promise, format, args...) }
	w.check = newChecker(w)
	w.stats = Report{Seed: o.Seed, Hosts: o.Hosts, Consumers: o.Consumers, Ended: map[string]int{}, Minutes: map[string]int64{}}
	return w
}

// plan puts an event into the queue.
func (w *world) plan(at member.Time, what label, node int, do func()) {
	w.queue.push(event{at: max(at, w.now), what: what, node: int32(node), do: do})
}

// until runs all events before an instant.
func (w *world) until(t member.Time) {
	for len(w.queue.heap) > 0 && w.queue.heap[0].at < t && w.failure == nil {
		e := w.queue.pop()
		w.now = e.at
		w.stats.Events++
		w.mix(uint64(e.at)<<16 | uint64(uint16(e.node)))
		w.mix(e.seq)
		e.do()
	}
	if w.failure == nil {
		w.now = t
	}
}

// mix makes a number part of the trace hash (the finaliser of splitmix64, chained).
func (w *world) mix(v uint64) {
	z := (w.trace ^ v) + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	w.trace = z ^ z>>31
}

// run is the history: joining, a time of demand and faults, a calm in which everything is to end.
func (w *world) run() {
	demand := member.Time(math.Ceil(w.opt.Hours * float64(member.Hour)))
	w.plan(w.now+minute, "minute", -1, w.everyMinute)
	w.until(w.now + 3*minute)
	w.cast()
	w.checkJoined()
	w.faulty = true
	w.planFaults()
	end := w.now + demand
	for w.now < end && w.failure == nil {
		w.until(min(w.now+10*minute, end))
		if p := w.opt.Progress; p != nil && !p((w.now-beginning).Span(), (end-beginning).Span(), w.stats) {
			w.stopped = true
			return
		}
	}
	if w.failure == nil {
		w.settleDown()
	}
}

// settleDown ends faults and demand, and checks that everything converges.
func (w *world) settleDown() {
	w.faulty, w.calm = false, true
	for _, n := range w.nodes {
		if n.group = 0; w.opt.sabotage == sabotageCutOff && n.index == 1 {
			n.group = -1
		}
		if n.host != nil && n.host.down {
			n.host.setDown(false)
		}
		if n.away = 0; !n.up {
			n.boot()
		}
	}
	w.regroup()
	w.until(w.now + 2*minute)
	if w.opt.rollback != nil {
		w.until(w.now + calmFor)
		w.giveUp()
		w.until(w.now + minute)
		w.freed()
		return
	}
	w.check.offersKnown()
	for _, b := range w.buyers {
		b.windUp()
	}
	w.until(w.now + calmFor)
	w.check.ended()
	w.until(w.now + closeAfter*minute + 75*minute) // a host asks the bank once an hour
	w.check.released()
}

const (
	dataHold   = 10 // minutes for which data outlives its funds
	closeAfter = 30 // minutes from a consumer's Close to the release of its reservation, in these worlds
	calmFor    = 12 * minute
)

// everyMinute checks everything, and each hour that cores are what their stores say.
func (w *world) everyMinute() {
	if w.opt.rollback == nil {
		w.check.full()
	}
	if (w.now-beginning)/minute%60 == 0 {
		for _, n := range w.nodes {
			if n.up {
				n.compare("each hour")
			}
		}
	}
	w.plan(w.now+minute, "minute", -1, w.everyMinute)
}

// broken notes the first promise that is broken, and ends the run.
func (w *world) broken(n *node, promise, format string, args ...any) {
	if w.failure != nil || w.opt.rollback != nil && promise != "L5" && promise != "panic" && promise != "N2" {
		return
	}
	f := &Failure{Seed: w.opt.Seed, At: (w.now - beginning).Span(), Promise: promise, What: fmt.Sprintf(format, args...), Node: "the world"}
	var b strings.Builder
	if n != nil {
		f.Node = n.name
		n.tellHistory(&b, 60)
	}
	b.WriteString(w.trail)
	f.History = b.String()
	w.failure = f
}

// stack keeps where a core panicked.
func (w *world) stack(any) { w.trail = string(debug.Stack()) }

// tellHistory writes the last steps of a node.
func (n *node) tellHistory(b *strings.Builder, most uint64) {
	size := uint64(len(n.history))
	from := uint64(0)
	if n.told > min(most, size) {
		from = n.told - min(most, size)
	}
	for i := from; i < n.told; i++ {
		p := &n.history[i%size]
		fmt.Fprintf(b, "  %v %s ← %s\n", (p.at - beginning).Span(), n.name, describeIn(p.in))
		describeOut(b, p.out)
	}
}
