package plan

import (
	"strconv"
	"time"
)

// A Phase is what the core wants of a lease's pod.
type Phase uint8

// The phases. The zero value is refused by Actions: it is nobody's wish.
const (
	Run    Phase = iota + 1 // this start should be running, unless it has already ended
	Stop                    // nothing should run; the ended container is kept for its logs, the volume for its data
	Remove                  // neither container nor volume should exist
	Clear                   // no container should exist, the volume stays: for leases that nobody knows
)

func (p Phase) String() string {
	switch p {
	case Run:
		return "run"
	case Stop:
		return "stop"
	case Remove:
		return "remove"
	case Clear:
		return "clear"
	}
	return "phase " + strconv.Itoa(int(p))
}

// A Want is what the node's core wants of one lease's pod now.
//
// Start numbers the runs of a lease (1, 2, …). A new Start with Run means a fresh container: container disk lost, volume
// kept. The same Start with Run means that this very run should be running; if it has ended by itself it is not started
// again, the core decides that with a new Start. Stop sends SIGTERM now and SIGKILL after Grace, and keeps the volume.
// Remove stops likewise, and removes container and volume. Clear stops each container with the grace that it was made with,
// removes it, and leaves the volume.
type Want struct {
	Pod   Pod
	Phase Phase
	Start uint32
	Grace time.Duration // of Stop and Remove; a shorter one than before shortens a stop under way
}

// A State is what an engine says of a container.
type State uint8

// The states. Absent is only used in reports: a Have that is absent is not in the list.
const (
	Absent  State = iota
	Created       // made, never started
	Running
	Exited
)

func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Created:
		return "created"
	case Running:
		return "running"
	case Exited:
		return "exited"
	}
	return "state " + strconv.Itoa(int(s))
}

// An Object is a kind of thing in an engine.
type Object uint8

// The objects.
const (
	Container Object = iota
	Volume
	Network // of one lease, from its first start to its removal; it holds nothing
)

// A Have is one object of this home as the engine's inspect gives it.
type Have struct {
	Object     Object
	ID         string        // what the engine calls it
	Lease      string        // label
	Start      uint32        // label; 0 of a volume
	State      State         // of a container
	Grace      time.Duration // label; of a container
	StartedAt  time.Time
	FinishedAt time.Time
	ExitCode   int
	OOM        bool
}

// Belongs says whether an object with these labels is one of this lease in this home. What is not is never used for it.
func Belongs(labels map[string]string, home, lease string) bool {
	return labels[LabelHome] == home && labels[LabelLease] == lease
}

// GraceOf reads the grace in a container's labels. One that says nothing sensible gets DefaultGrace.
func GraceOf(labels map[string]string) time.Duration {
	ms, err := strconv.ParseInt(labels[LabelGrace], 10, 64)
	if err != nil || ms < 0 || ms > MaxGrace.Milliseconds() {
		return DefaultGrace
	}
	return time.Duration(ms) * time.Millisecond
}

// DefaultGrace is that of containers whose own is not known, as those of older versions.
const DefaultGrace = 30 * time.Second

// StartID is the identity of one start of one container: the engine's id and the time at which it started, so the same
// for everyone who asks, before and after a restart of the node. It is empty before the container has started.
func (h Have) StartID() string {
	if h.Object != Container || h.StartedAt.IsZero() {
		return ""
	}
	return h.ID + "@" + strconv.FormatInt(h.StartedAt.UnixNano(), 10)
}
