package market

import (
	"errors"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// An Alive is the consumer's keep-alive to its pod's host, a third of a minute apart. It carries which of the last 64
// minutes the consumer holds a reply of: that is how a minute becomes attended.
type Alive struct {
	By       identity.Address `cbor:"1,keyasint"` // the lease's attendant
	Host     identity.Address `cbor:"2,keyasint"`
	Lease    wire.ID          `cbor:"3,keyasint"`
	Nonce    uint64           `cbor:"4,keyasint"`
	Top      member.Minute    `cbor:"5,keyasint"` // newest minute of the map
	Answered uint64           `cbor:"6,keyasint"` // bit i: a reply of minute Top-i is held
}

// Kind implements wire.Message.
func (a Alive) Kind() wire.Kind { return wire.KindAlive }

// Signer is the attendant.
func (a Alive) Signer() identity.Address { return a.By }

// Validate checks shape.
func (a Alive) Validate() error {
	if a.Lease.IsZero() || a.Host.IsZero() {
		return errors.New("alive names no lease or host")
	}
	return nil
}

// Attended reports whether the map holds minute m.
func (a Alive) Attended(m member.Minute) bool { return Answered{a.Top, a.Answered}.Has(m) }

// Answered is a map of the last 64 minutes in which something was answered.
type Answered struct {
	Top  member.Minute `cbor:"1,keyasint"`
	Bits uint64        `cbor:"2,keyasint"` // bit i: minute Top-i
}

// Has reports whether minute m is in the map.
func (a Answered) Has(m member.Minute) bool {
	return m <= a.Top && a.Top-m < 64 && a.Bits>>(a.Top-m)&1 == 1
}

// With is the map with minute m. Minutes more than 63 before the newest are forgotten.
func (a Answered) With(m member.Minute) Answered {
	switch {
	case a.Bits == 0 || m > a.Top && m-a.Top >= 64:
		return Answered{m, 1}
	case m > a.Top:
		return Answered{m, a.Bits<<(m-a.Top) | 1}
	case a.Top-m < 64:
		a.Bits |= 1 << (a.Top - m)
	}
	return a
}

// An AliveReply is the host's answer. It names the minute, by the host's count, that it proves.
type AliveReply struct {
	Host      identity.Address `cbor:"1,keyasint"`
	Lease     wire.ID          `cbor:"2,keyasint"`
	Nonce     uint64           `cbor:"3,keyasint"`
	Minute    member.Minute    `cbor:"4,keyasint"`
	State     State            `cbor:"5,keyasint"`
	Reason    Reason           `cbor:"6,keyasint"`
	Start     identity.Hash    `cbor:"7,keyasint"` // identity of the container start; 0 when none is up
	ExitCode  int32            `cbor:"8,keyasint"` // of an exited pod
	UsageSeq  uint64           `cbor:"9,keyasint"`
	UsageHead identity.Hash    `cbor:"10,keyasint"`
	LogSeq    uint64           `cbor:"11,keyasint"`
}

// Kind implements wire.Message.
func (a AliveReply) Kind() wire.Kind { return wire.KindAliveReply }

// Signer is the host.
func (a AliveReply) Signer() identity.Address { return a.Host }

// Validate checks shape.
func (a AliveReply) Validate() error {
	if a.Lease.IsZero() {
		return errors.New("alive reply names no lease")
	}
	return nil
}

// A CommandKind is what a consumer orders.
type CommandKind uint8

// The commands.
const (
	CommandStop   CommandKind = 1
	CommandStart  CommandKind = 2
	CommandRemove CommandKind = 3
	CommandRevoke CommandKind = 4 // the mandate ends
)

// String is the command's word.
func (c CommandKind) String() string {
	switch c {
	case CommandStop:
		return "stop"
	case CommandStart:
		return "start"
	case CommandRemove:
		return "rm"
	case CommandRevoke:
		return "revoke"
	}
	return "unknown"
}

// A Command orders a host to stop, start or end a pod, or to bill nothing more on a mandate. Commands of a lease are numbered; a repeated number does nothing.
type Command struct {
	Consumer identity.Address `cbor:"1,keyasint"`
	Host     identity.Address `cbor:"2,keyasint"`
	Lease    wire.ID          `cbor:"3,keyasint"`
	Seq      uint64           `cbor:"4,keyasint"` // from 1
	Order    CommandKind      `cbor:"5,keyasint"`
	GPUs     uint16           `cbor:"6,keyasint"` // of a start; 0: as the terms say
	Zero     bool             `cbor:"7,keyasint"` // start without GPUs
	Minute   member.Minute    `cbor:"8,keyasint"`
	At       member.Time      `cbor:"9,keyasint"`
}

// Kind implements wire.Message.
func (c Command) Kind() wire.Kind { return wire.KindCommand }

// Signer is the consumer.
func (c Command) Signer() identity.Address { return c.Consumer }

// Validate checks shape.
func (c Command) Validate() error {
	switch {
	case c.Lease.IsZero() || c.Host.IsZero() || c.Seq == 0:
		return errors.New("command names no lease, host or sequence")
	case c.Order < CommandStop || c.Order > CommandRevoke:
		return errors.New("command is unknown")
	}
	return nil
}

// A Notice tells a consumer, over the host's signature, that its pod will be stopped.
type Notice struct {
	Host   identity.Address `cbor:"1,keyasint"`
	Lease  wire.ID          `cbor:"2,keyasint"`
	Reason Reason           `cbor:"3,keyasint"`
	Minute member.Minute    `cbor:"4,keyasint"`
	Term   member.Time      `cbor:"5,keyasint"` // of SIGTERM
	Kill   member.Time      `cbor:"6,keyasint"` // of SIGKILL
	Rate   uint64           `cbor:"7,keyasint"` // of the winner, nano-credits per GPU-hour
	LogSeq uint64           `cbor:"8,keyasint"`
}

// Kind implements wire.Message.
func (n Notice) Kind() wire.Kind { return wire.KindNotice }

// Signer is the host.
func (n Notice) Signer() identity.Address { return n.Host }

// Validate checks shape.
func (n Notice) Validate() error {
	if n.Lease.IsZero() || n.Kill < n.Term {
		return errors.New("notice names no lease, or kills before it terminates")
	}
	return nil
}
