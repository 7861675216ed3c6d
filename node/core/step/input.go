package step

import (
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// An Input is anything that makes a core decide something.
type Input interface{ input() }

// A Boot is the first input after a start. Everything random of this run derives from Seed.
type Boot struct {
	ID      wire.ID // random at each start
	Seed    identity.Hash
	Key     identity.PublicKey
	Addrs   []string // multiaddrs under which this node can be dialled
	Version string

	Contacts  []Contact          // where nodes are that the user has told of
	AttendFor []identity.Address // members whose leases this node attends, if they ask
}

// A Tick is nothing but time: the core asked to be woken.
type Tick struct{}

// A Gossip is a verified message of a topic.
type Gossip struct{ Msg wire.AnyVerified }

// A Request comes from a peer and wants a Reply with the same id. Its objects are verified.
type Request struct {
	ID      uint64
	From    identity.PublicKey
	Peer    identity.Address // address of From
	Proto   Protocol
	Op      Op
	Objects []wire.AnyVerified
	Body    []byte
}

// A Response answers a Send of ours. Exactly one comes for each, also when the peer cannot be reached; none comes for
// those of a run before this one.
type Response struct {
	ID      uint64
	Op      Op
	Objects []wire.AnyVerified
	Body    []byte
	Err     *Failure
}

// A Local is a command of this node's own user, and wants an Answer with the same id. Cmd is a type of the role's package.
type Local struct {
	ID  uint64
	Cmd any
}

// A PodEvent says what became of a pod, from the engine's inspect.
type PodEvent struct {
	Lease wire.ID
	Start uint32 // which start of the lease
	What  PodFact
	At    member.Time // when the engine was asked

	ID       identity.Hash // identity of the container start: stable over restarts of the node
	Started  member.Time
	Finished member.Time
	ExitCode int32
	Fault    PodFault // of a failure
	Detail   string   // for people
	Done     int64    // bytes pulled
	Total    int64    // bytes to pull; 0: unknown
}

// A PodFact is what a PodEvent tells.
type PodFact uint8

// The facts.
const (
	PodPulling PodFact = 1
	PodCreated PodFact = 2
	PodStarted PodFact = 3 // also what is found running after a restart of the node
	PodExited  PodFact = 4
	PodFailed  PodFact = 5
	PodAbsent  PodFact = 6 // nothing is there: after a restart of the node, or when a stop found nothing to stop
	PodRemoved PodFact = 7 // container and volume are gone
)

// A PodFault is why a pod could not start.
type PodFault uint8

// The faults.
const (
	FaultNone    PodFault = 0
	FaultImage   PodFault = 1
	FaultCommand PodFault = 2
	FaultEngine  PodFault = 3
)

// An Engine says whether the container engine answers.
type Engine struct{ Up bool }

// An Inventory is the host's hardware as found now, and whether the machine is fit to run strangers' pods.
type Inventory struct {
	Devices []member.Device
	Machine member.Machine
	Unfit   string // why it is not; empty: it is
}

// A Peer came or went.
type Peer struct {
	Address identity.Address
	Key     identity.PublicKey
	Up      bool
}

func (Boot) input()      {}
func (Tick) input()      {}
func (Gossip) input()    {}
func (Request) input()   {}
func (Response) input()  {}
func (Local) input()     {}
func (PodEvent) input()  {}
func (Engine) input()    {}
func (Inventory) input() {}
func (Peer) input()      {}

// A Failure is why there was no answer from a peer.
type Failure struct {
	Code    FailureCode
	Refusal *Refusal // of FailRefused
	Detail  string
}

// A FailureCode tells failures apart.
type FailureCode uint8

// The failures.
const (
	FailUnreachable FailureCode = 1 // no connection, or none in time
	FailUnknown     FailureCode = 2 // no address known
	FailRefused     FailureCode = 3 // the peer said no
	FailInvalid     FailureCode = 4 // the peer's answer did not verify
	FailResting     FailureCode = 5 // the peer is in quarantine, or its disk is full: it decides nothing now, and will later
)

// Error is the failure in words.
func (f *Failure) Error() string {
	if f.Refusal != nil {
		return f.Refusal.Error()
	}
	switch f.Code {
	case FailUnreachable:
		return "peer is unreachable: " + f.Detail
	case FailResting:
		return f.Detail
	case FailUnknown:
		return "no address of the peer is known"
	case FailInvalid:
		return "peer's answer is not valid: " + f.Detail
	}
	return f.Detail
}
