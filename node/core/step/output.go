package step

import (
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Row is one change of the store.
type Row struct {
	Key    []byte
	Value  []byte
	Delete bool
}

// A Guard claims a place in a chain that this node signs: no other payload may ever take it.
type Guard struct {
	Chain []byte
	Place uint64
	Hash  identity.Hash
}

// A Topic is what is gossiped together.
type Topic string

// The topics.
const (
	TopicOffers  Topic = "offers"
	TopicBeats   Topic = "beats"
	TopicMembers Topic = "members"
)

// A Publication goes to everybody. A draft is signed first.
type Publication struct {
	Topic  Topic
	Object wire.Object
}

// A Send asks a peer; the answer comes as a Response with the same id.
type Send struct {
	ID    uint64
	To    identity.Address
	Proto Protocol
	Frame wire.Frame
	Wait  member.Time // most milliseconds to wait; 0: the shell's default

	Append []Span // objects from the store that go after those of the frame
}

// A Reply answers a Request. Refusal or Frame.
type Reply struct {
	ID      uint64
	Frame   wire.Frame
	Refusal *Refusal
	Append  []Span // objects from the store that go after those of the frame
}

// A Span is rows of a log, each one an object, that the shell reads for the core.
type Span struct {
	From, To []byte // keys, To excluded
	Limit    int
}

// An Answer answers a Local. Err or Value.
type Answer struct {
	ID    uint64
	Value any
	Err   error
}

// A PodPhase is what a pod should be doing.
type PodPhase uint8

// The phases.
const (
	PodRun    PodPhase = 1
	PodStop   PodPhase = 2 // SIGTERM, then SIGKILL after the grace; volume kept
	PodRemove PodPhase = 3 // volume too
)

// A PodWant says what the engine should make of a lease's pod. Start numbers the runs: another number means a fresh
// container with the same volume. Spec is empty in a stop or removal.
type PodWant struct {
	Lease     wire.ID
	Phase     PodPhase
	Start     uint32
	Grace     member.Time
	Image     string
	Command   []string
	Env       []string
	Disk      uint64
	Volume    uint64
	Mount     string
	GPUs      []member.Device
	Isolation string
}

// A Notice is an event for the node's own user.
type Notice struct {
	At     member.Time `cbor:"1,keyasint" json:"at"`
	Seq    uint64      `cbor:"2,keyasint" json:"seq"`
	Type   string      `cbor:"3,keyasint" json:"type"` // as in lease.running
	Lease  wire.ID     `cbor:"4,keyasint" json:"lease"`
	Text   string      `cbor:"5,keyasint" json:"text"`
	Fields []string    `cbor:"6,keyasint" json:"fields,omitempty"` // name, value, …
}

// A Contact is how to reach somebody.
type Contact struct {
	Key   identity.PublicKey
	Addrs []string
	Keep  bool // stay connected
}

// An Out is all that came of one step. Nothing of it may leave before its rows are on disk, and none of its guards may be
// broken.
type Out struct {
	Rows     []Row
	Guards   []Guard
	Publish  []Publication
	Sends    []Send
	Replies  []Reply
	Answers  []Answer
	Pods     []PodWant
	AllPods  bool      // Pods is the full list: what is not in it is removed from the engine
	Looks    []wire.ID // pods to look at again: of each that runs a PodStarted follows, At when it was looked at
	Notices  []Notice
	Contacts []Contact
	Members  []Membership       // whose standing changed
	Evict    []identity.Address // connections to close
	Admit    []identity.Address // hello succeeded: let in
	Market   wire.Market        // what drafts are signed under; set in every step
}

// Durable reports whether anything must be on disk before the rest may leave.
func (o *Out) Durable() bool { return len(o.Rows) > 0 || len(o.Guards) > 0 }

// A Membership is one member's standing, for the gater and the gossip validators.
type Membership struct {
	Address identity.Address
	Key     identity.PublicKey
	Good    bool // a member, neither suspended nor revoked
	Revoked bool
}
