package simnet

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"souk/exec/plan"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A machine is the computer of a host: its GPUs, and a container engine that outlives the node. Its clock is the host's.
// What its containers did is the truth that bills are compared with.
type machine struct {
	n        *node
	devices  []member.Device
	hardware member.Machine
	rnd      lots

	down       bool // the engine does not answer
	lastDown   member.Time
	containers map[wire.ID][]*container
	volumes    map[wire.ID]bool
	images     map[string]bool
	made       int
}

// A container is one run of a pod.
type container struct {
	lease    wire.ID
	start    uint32
	number   int
	id       identity.Hash // of the start
	state    plan.State
	started  member.Time
	finished member.Time
	exit     int32
	grace    member.Time // that it was made with
	gpus     []string
	program  program

	term    member.Time // of the first SIGTERM; 0: none
	killed  member.Time
	promise member.Time // grace that was asked for with it
	gone    bool        // lost or removed
	cut     bool        // ended by a cheat
	ride    *ride       // what claims know of it
}

// A program is what a pod runs, written in its command so that every run does the same.
type program struct {
	life  member.Time // it ends by itself then; 0: never
	code  int32
	heeds member.Time // how long after SIGTERM it ends; negative: it does not
	bad   bool        // it cannot be started
}

// command writes a program down.
func (p program) command() []string {
	if p.bad {
		return []string{"no-such-program"}
	}
	return []string{"sim", fmt.Sprint("life=", int64(p.life)), fmt.Sprint("code=", p.code), fmt.Sprint("heeds=", int64(p.heeds))}
}

func parseProgram(command []string) program {
	if len(command) == 0 || command[0] != "sim" {
		return program{bad: true}
	}
	var p program
	for _, w := range command[1:] {
		k, v, _ := strings.Cut(w, "=")
		x, _ := strconv.ParseInt(v, 10, 64)
		switch k {
		case "life":
			p.life = member.Time(x)
		case "code":
			p.code = int32(x)
		case "heeds":
			p.heeds = member.Time(x)
		}
	}
	return p
}

func newMachine(n *node, devices []member.Device, runtime string) *machine {
	return &machine{
		n: n, devices: devices, rnd: newLots(n.w.opt.Seed, "machine/"+n.name),
		hardware:   member.Machine{CPU: "simulated", Cores: 32, MemoryMiB: 256 << 10, DiskGiB: 4096, OS: "linux", Runtime: runtime, Engine: "sim", CUDA: "12.8", Driver: "570.1"},
		containers: map[wire.ID][]*container{}, volumes: map[wire.ID]bool{}, images: map[string]bool{},
	}
}

// after plans something in the machine, which no crash of the node undoes.
func (m *machine) after(d member.Time, what label, do func()) {
	m.n.w.plan(m.n.w.now+max(d, 0), what, m.n.index, do)
}

// create makes a container and, for a lease that has one, its volume.
func (m *machine) create(w step.PodWant) *container {
	m.made++
	c := &container{lease: w.Lease, start: w.Start, grace: w.Grace, number: m.made, state: plan.Created, program: parseProgram(w.Command)}
	for _, d := range w.GPUs {
		if m.n.w.opt.sabotage == sabotageSellTwice {
			d = m.devices[0]
		}
		c.gpus = append(c.gpus, d.UUID)
	}
	m.containers[w.Lease] = append(m.containers[w.Lease], c)
	if w.Volume > 0 {
		m.volumes[w.Lease] = true
	}
	return c
}

// run starts a container. It checks that no other has one of its GPUs.
func (m *machine) run(c *container) {
	if c.gone || c.state != plan.Created {
		return
	}
	c.state, c.started = plan.Running, m.n.clock()
	c.id = identity.Keccak([]byte("souk/start/1"), fmt.Appendf(nil, "%s %d@%d", m.n.name, c.number, c.started))
	m.n.w.runs[c.id] = c
	for _, list := range m.containers {
		for _, o := range list {
			if o != c && o.state == plan.Running && slices.ContainsFunc(c.gpus, func(g string) bool { return slices.Contains(o.gpus, g) }) {
				m.n.w.broken(m.n, "M1", "the pods of leases %s and %s run on one GPU", c.lease.Short(), o.lease.Short())
			}
		}
	}
	m.n.w.check.claims.started(m.n, c)
	if c.program.life > 0 {
		m.after(c.program.life, "exit", func() { m.end(c, c.program.code) })
	}
}

// end is a container's end.
func (m *machine) end(c *container, code int32) {
	if c.gone || c.state != plan.Running {
		return
	}
	if m.n.w.opt.sabotage == sabotagePodDies && c.term == 0 {
		c.finished = m.n.clock()
		return
	}
	c.state, c.finished, c.exit = plan.Exited, m.n.clock(), code
	m.n.w.check.claims.ended(c, false)
	m.hint(c.lease)
}

// hint is an event of the engine. Now and then one is late, or lost: the supervisor's next look makes up for it.
func (m *machine) hint(lease wire.ID) {
	d := m.rnd.between(1, 10)
	if m.n.w.faulty && m.rnd.chance(0.02) {
		if m.rnd.chance(0.5) {
			return
		}
		d = m.rnd.between(10, 5*member.Second)
	}
	m.after(d, "hint", func() {
		if m.n.up && m.n.pods != nil {
			m.n.pods.poke(lease, 0)
		}
	})
}

// signal sends SIGTERM, or SIGKILL.
func (m *machine) signal(c *container, kill bool, grace member.Time) {
	if c.gone || c.state != plan.Running {
		return
	}
	if kill {
		if c.killed == 0 {
			c.killed = m.n.clock()
			m.n.w.check.killed(m.n, c)
		}
		m.after(m.rnd.between(1, 15), "kill", func() { m.end(c, 137) })
		return
	}
	if c.term == 0 {
		c.term, c.promise = m.n.clock(), grace
	}
	if c.program.heeds >= 0 {
		m.after(c.program.heeds, "term", func() { m.end(c, 143) })
	}
}

// powerCut ends everything that runs, and leaves volumes.
func (m *machine) powerCut() {
	for lease, list := range m.containers {
		for _, c := range list {
			if c.state == plan.Running {
				c.finished = m.n.clock()
				m.n.w.check.claims.ended(c, true)
			}
			c.gone = true
		}
		delete(m.containers, lease)
	}
}

// list is what inspect says of a lease.
func (m *machine) list(lease wire.ID) ([]plan.Have, map[string]*container) {
	var out []plan.Have
	by := map[string]*container{}
	hexed := hex.EncodeToString(lease[:])
	for _, c := range m.containers[lease] {
		id := strconv.Itoa(c.number)
		by[id] = c
		out = append(out, plan.Have{Object: plan.Container, ID: id, Lease: hexed, Start: c.start, State: c.state, Grace: c.grace.Span()})
	}
	if m.volumes[lease] {
		out = append(out, plan.Have{Object: plan.Volume, ID: "volume", Lease: hexed})
	}
	return out, by
}

// remove takes an object away.
func (m *machine) remove(lease wire.ID, h plan.Have, by map[string]*container) {
	if h.Object == plan.Volume {
		delete(m.volumes, lease)
		return
	}
	c := by[h.ID]
	if c.state == plan.Running {
		m.n.w.broken(m.n, "M4", "the pod of lease %s is removed while it runs", lease.Short())
	}
	c.gone = true
	m.containers[lease] = slices.DeleteFunc(m.containers[lease], func(o *container) bool { return o == c })
	if len(m.containers[lease]) == 0 {
		delete(m.containers, lease)
	}
}

// leases are those that have anything here, in order.
func (m *machine) leases() []wire.ID {
	var out []wire.ID
	for id := range m.containers {
		out = append(out, id)
	}
	for id := range m.volumes {
		if m.containers[id] == nil {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b wire.ID) int { return strings.Compare(string(a[:]), string(b[:])) })
	return out
}
