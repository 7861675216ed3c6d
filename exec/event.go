package exec

import (
	"strconv"
	"time"

	"souk/exec/plan"
)

// A Kind says what an Event tells.
type Kind uint8

// The kinds. Each names the fields of Event that it sets, beside Lease, Start and At.
const (
	Pulling    Kind = iota + 1 // Progress; at most every progressEvery
	Created                    // the container exists
	Started                    // StartID, StartedAt
	Exited                     // StartID, StartedAt, FinishedAt, ExitCode, OOM, Signalled, Lost
	Failed                     // Stage, Code, Reason; and those of Exited, when it had started
	Observed                   // the answer to Sync, one for each lease: State, and those of Started or Exited; also a stop that found nothing
	Removed                    // neither container nor volume is left
	EngineDown                 // no Lease, no Start; Reason
	EngineUp                   // no Lease, no Start
)

func (k Kind) String() string {
	switch k {
	case Pulling:
		return "pulling"
	case Created:
		return "created"
	case Started:
		return "started"
	case Exited:
		return "exited"
	case Failed:
		return "failed"
	case Observed:
		return "observed"
	case Removed:
		return "removed"
	case EngineDown:
		return "engine-down"
	case EngineUp:
		return "engine-up"
	}
	return "kind " + strconv.Itoa(int(k))
}

// A Stage is the step of a start that failed.
type Stage string

// The stages.
const (
	StagePull   Stage = "pull"
	StageCreate Stage = "create"
	StageStart  Stage = "start"
)

// An Event is what the Supervisor tells the node's core. Start is the run that it is about; an Observed run may be older or
// newer than the one wanted.
type Event struct {
	Lease string
	Start uint32
	Kind  Kind
	At    time.Time // when the supervisor noticed, by the node's clock; never the time of what happened

	Progress Progress

	State      plan.State
	StartID    string // identity of this start of this container, stable across restarts of the node
	StartedAt  time.Time
	FinishedAt time.Time
	ExitCode   int
	OOM        bool
	Signalled  bool // the supervisor had sent it a signal, or it was found ended while the core wanted it ended
	Lost       bool // the container is gone from the engine: FinishedAt is the time at which that was noticed

	Stage  Stage
	Code   Code
	Reason string // for the user
}
