package plan

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// A Verb is what an Action asks for.
type Verb uint8

// The verbs.
const (
	Launch          Verb = iota + 1 // pull the image, make the volume, create the container, start it
	Begin                           // start a container that was created and never started
	Halt                            // SIGTERM, and SIGKILL when Grace is over
	RemoveContainer                 // with its disk, by force
	RemoveVolume                    // with its data
	RemoveNetwork                   // which no container is on any more
)

func (v Verb) String() string {
	switch v {
	case Launch:
		return "launch"
	case Begin:
		return "begin"
	case Halt:
		return "halt"
	case RemoveContainer:
		return "remove container"
	case RemoveVolume:
		return "remove volume"
	case RemoveNetwork:
		return "remove network"
	}
	return "verb " + strconv.Itoa(int(v))
}

// An Action is one thing to do in the engine.
type Action struct {
	Verb  Verb
	Lease string
	Start uint32
	Have  Have          // the object it is about; zero for Launch
	Grace time.Duration // of Halt
}

// Actions is the reconcile plan: what to do now so that the engine comes nearer to what is wanted. It begins with the
// containers of leases that want does not name, then goes through the leases by id. What has to wait for an action (a removal
// for the end of a stop, a launch for the removal of the run before) is not listed until the engine reports that it is done;
// when nothing is left to do, or only waiting, the list is empty.
//
// want has one entry for each lease. Whoever calls with a part of the leases must pass the objects of these only.
func Actions(want []Want, have []Have) []Action {
	of := make(map[string][]Have, len(want))
	for _, h := range have {
		of[h.Lease] = append(of[h.Lease], h)
	}
	want = slices.Clone(want)
	slices.SortStableFunc(want, func(a, b Want) int { return cmp.Compare(a.Pod.Lease, b.Pod.Lease) })

	wanted := make(map[string]bool, len(want))
	for _, w := range want {
		wanted[w.Pod.Lease] = true
	}
	var list []Action
	for _, lease := range Orphans(wanted, have) {
		list = append(list, actionsOf(OrphanWant(lease), sorted(of[lease]))...)
	}
	for _, w := range want {
		list = append(list, actionsOf(w, sorted(of[w.Pod.Lease]))...)
	}
	return list
}

// Orphans lists, sorted, the leases that have containers or networks and are not known.
func Orphans(known map[string]bool, have []Have) []string {
	var list []string
	for _, h := range have {
		if h.Object != Volume && !known[h.Lease] {
			list = append(list, h.Lease)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// OrphanWant is what is wanted of a lease that nobody knows: that it runs no longer. Its data stay, since to be unknown may
// as well mean that the list is older than the lease (P3).
func OrphanWant(lease string) Want { return Want{Pod: Pod{Lease: lease}, Phase: Clear} }

// OrphanVolumes lists the volumes of leases that are not known, for people to look at.
func OrphanVolumes(known map[string]bool, have []Have) []Have {
	var list []Have
	for _, h := range sorted(have) {
		if h.Object == Volume && !known[h.Lease] {
			list = append(list, h)
		}
	}
	return list
}

// actionsOf plans for one lease; have is sorted.
func actionsOf(w Want, have []Have) []Action {
	switch w.Phase {
	case Run:
		return run(w, have)
	case Stop:
		return stop(w, have)
	case Remove:
		if busy := stop(w, have); slices.ContainsFunc(busy, isHalt) {
			return busy
		}
		var list []Action
		for _, h := range have {
			list = append(list, remove(h))
		}
		return list
	case Clear:
		return unload(have)
	}
	panic("plan: want without phase")
}

// run keeps one container: that of the wanted start, or a newer one (P2). Older ones go first.
func run(w Want, have []Have) []Action {
	var older []Action
	var wanted *Have
	for _, h := range have {
		switch {
		case h.Object != Container:
		case h.Start > w.Start:
			return nil
		case h.Start == w.Start:
			wanted = &h
		case h.State == Running:
			older = append(older, halt(h, w.Pod.Grace))
		default:
			older = append(older, remove(h))
		}
	}
	switch {
	case len(older) > 0:
		return older
	case wanted == nil:
		return []Action{{Verb: Launch, Lease: w.Pod.Lease, Start: w.Start}}
	case wanted.State == Created:
		return []Action{{Verb: Begin, Lease: w.Pod.Lease, Start: w.Start, Have: *wanted}}
	}
	return nil // it runs, or has ended (P1)
}

// stop ends what runs, and clears away what was never started.
func stop(w Want, have []Have) []Action {
	var list []Action
	for _, h := range have {
		switch {
		case h.Object == Container && h.State == Running:
			list = append(list, halt(h, w.Grace))
		case h.Object == Container && h.State == Created:
			list = append(list, remove(h))
		}
	}
	return list
}

// unload stops the containers that run, each with its own grace, and then removes them all, and what they were connected to.
func unload(have []Have) []Action {
	var running, rest []Action
	for _, h := range have {
		switch {
		case h.Object == Container && h.State == Running:
			running = append(running, halt(h, h.Grace))
		case h.Object != Volume:
			rest = append(rest, remove(h))
		}
	}
	if len(running) > 0 {
		return running
	}
	return rest
}

func halt(h Have, grace time.Duration) Action {
	return Action{Verb: Halt, Lease: h.Lease, Start: h.Start, Have: h, Grace: grace}
}

func isHalt(a Action) bool { return a.Verb == Halt }

func remove(h Have) Action {
	verb := map[Object]Verb{Container: RemoveContainer, Volume: RemoveVolume, Network: RemoveNetwork}[h.Object]
	return Action{Verb: verb, Lease: h.Lease, Start: h.Start, Have: h}
}

// sorted puts containers before volumes and networks, which they hold, and newer starts before older ones.
func sorted(have []Have) []Have {
	have = slices.Clone(have)
	slices.SortStableFunc(have, func(a, b Have) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Lease, b.Lease), cmp.Compare(b.Start, a.Start),
			cmp.Compare(a.ID, b.ID))
	})
	return have
}
