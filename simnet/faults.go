package simnet

import (
	"souk/node/core/step"
	"souk/p2p/member"
)

// planFaults begins all that goes wrong.
func (w *world) planFaults() {
	f := w.opt.Faults
	if w.opt.rollback != nil {
		w.planRollbacks()
	}
	for _, n := range w.nodes {
		if f.Crash > 0 {
			w.planCrash(n)
		}
		if n.host != nil && f.EngineDown > 0 {
			w.planOutage(n)
		}
		if f.DiskFull > 0 {
			w.planFull(n)
		}
	}
	if f.Partition > 0 {
		w.planPartition()
	}
}

// mayCrash decides whether a node ends right now, in the middle of a durable step.
func (w *world) mayCrash(n *node) bool {
	if !w.faulty || !n.up || !w.crashes.chance(w.opt.Faults.StepCrash) {
		return false
	}
	w.planReturn(n)
	return true
}

func (w *world) planCrash(n *node) {
	w.plan(w.now+w.faults.about(w.opt.Faults.Crash), "crash", n.index, func() {
		if !w.faulty {
			return
		}
		if n.up {
			n.crash(w.faults.chance(w.opt.Faults.Power))
			w.planReturn(n)
		}
		w.planCrash(n)
	})
}

// planReturn has a node that crashes come back: mostly soon, sometimes after a long while.
func (w *world) planReturn(n *node) {
	down := w.faults.between(500, 20*member.Second)
	switch p := w.faults.Float64(); {
	case p < 0.1:
		down = w.faults.between(10*minute, 40*minute)
	case p < 0.3:
		down = w.faults.between(minute, 6*minute)
	}
	w.plan(w.now+down, "start", n.index, func() {
		if !n.up && w.now >= n.away {
			n.boot()
		}
	})
}

// planFull fills a node's disk, and frees it: first it is nearly full, then full, then there is room again.
func (w *world) planFull(n *node) {
	room := func(l step.Level) {
		if n.up {
			n.step(step.Room{Level: l, Free: 1 << 20, Want: 256 << 20})
		}
	}
	w.plan(w.now+w.faults.about(w.opt.Faults.DiskFull), "full", n.index, func() {
		if !w.faulty {
			return
		}
		room(step.RoomLow)
		full := w.faults.between(0, minute)
		room2 := full + w.faults.between(member.Second, 4*minute)
		w.plan(w.now+full, "full", n.index, func() { room(step.RoomFull) })
		w.plan(w.now+room2, "full", n.index, func() { room(step.RoomAmple) })
		w.planFull(n)
	})
}

func (w *world) planOutage(n *node) {
	w.plan(w.now+w.faults.about(w.opt.Faults.EngineDown), "outage", n.index, func() {
		if !w.faulty {
			return
		}
		if !n.host.down {
			w.stats.Outages++
			n.host.setDown(true)
			w.plan(w.now+w.faults.between(3*member.Second, 4*minute), "outage", n.index, func() {
				n.host.setDown(false)
			})
		}
		w.planOutage(n)
	})
}

// setDown stops or starts the engine's answers. Pods run on.
func (m *machine) setDown(down bool) {
	if m.down == down {
		return
	}
	m.down, m.lastDown = down, m.n.w.now
	if m.n.up && m.n.pods != nil {
		m.n.pods.engine(!down)
	}
}

// planPartition cuts some nodes off from the rest, one alone or a part of the world, and heals it again.
func (w *world) planPartition() {
	w.plan(w.now+w.faults.about(w.opt.Faults.Partition), "partition", -1, func() {
		if !w.faulty {
			return
		}
		w.stats.Cuts++
		share := 0.0
		if w.faults.chance(0.5) {
			share = 0.1 + 0.5*w.faults.Float64()
		}
		chosen := w.faults.IntN(len(w.nodes))
		group := w.stats.Cuts
		for i, n := range w.nodes {
			if i == chosen || w.faults.chance(share) {
				n.group = group
			}
		}
		w.regroup()
		w.plan(w.now+w.faults.between(2*member.Second, 8*member.Second), "partition", -1, w.dropAcross)
		lasts := w.faults.between(5*member.Second, 3*minute)
		if w.faults.chance(0.2) {
			lasts = w.faults.between(3*minute, 25*minute)
		}
		w.plan(w.now+lasts, "heal", -1, func() {
			for _, n := range w.nodes {
				if n.group == group {
					n.group = 0
				}
			}
			w.regroup()
		})
		w.planPartition()
	})
}

// dropAcross ends the links whose ends do not reach each other: pings find out.
func (w *world) dropAcross() {
	for i, a := range w.nodes {
		for _, b := range w.nodes[i+1:] {
			if !w.reach(a, b) && w.link(a, b).up {
				w.cut(a, b)
			}
		}
	}
}
