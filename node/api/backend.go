// Package api is how people and programs talk to a node on their own machine: HTTP over a unix socket.
//
// The socket, mode 0600, stands in the node's home: whoever may open it is the node's user, and may do everything. Routes
// are nouns below /v1; what they take and give are Go types, of the core's roles where those say it all, and the OpenAPI
// description at /openapi.json is made of the same types. Money is a decimal string of credits, a time RFC 3339 in UTC, an
// id 32 hex digits. What is created carries an id that the client has drawn, so that asking twice is asking once. What
// goes on for long is a stream of server-sent events.
//
// An error is a problem as RFC 9457 has it, with the core's code in a word, the exit code of the command line, and a hint.
// Its HTTP status follows from its code and tells nothing more.
//
// A Backend is the node behind the API; Serve answers for it. A Client is the other end, which the command line uses for
// all that it does. Between the two nothing is decided: rules stand in the core, words and tables in the command.
package api

import (
	"context"
	"io"
	"iter"
	"time"

	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Backend is the node that an API serves.
type Backend interface {
	// Do has the core carry out a command, a type of one of its roles. The error is a *step.Problem where the core refused.
	Do(ctx context.Context, cmd any) (any, error)
	// Info is the node in figures.
	Info(ctx context.Context) Info
	// Events are the notices after a number, and with follow those to come, until ctx ends.
	Events(ctx context.Context, after uint64, follow bool) iter.Seq2[step.Notice, error]
	// Logs copies a pod's output; tail: the last lines only, 0: all. With follow it ends with the pod.
	Logs(ctx context.Context, lease wire.ID, follow bool, tail int, stdout, stderr io.Writer) error
	// ResolveImage asks a registry what a reference stands for now, and for its size in bytes.
	ResolveImage(ctx context.Context, ref string) (pinned string, size int64, err error)
	// Objects are the stored objects of a log table from a key up to another, that one excluded; drafts are signed.
	Objects(ctx context.Context, from, to []byte, limit int, reverse bool) ([]wire.Object, error)
	// Signed is an object that the core answered with, as it travels: a draft of this node's own gets its signature.
	Signed(ctx context.Context, o wire.Object) (wire.Object, error)
	// Bill is the file that proves what a lease cost.
	Bill(ctx context.Context, lease wire.ID) ([]byte, error)
	// Inventory is this machine: its GPUs, what is around them, and the self-test.
	Inventory(ctx context.Context) ([]member.Device, member.Machine, []member.Check, error)
	// SelfTest judges whether this machine is fit to run strangers' pods, now; nothing of a node that hosts none.
	SelfTest(ctx context.Context) []Gate
	// Backup writes the node's ledger to a file, or into a folder.
	Backup(ctx context.Context, path string) (Backup, error)
	// Shutdown ends the node, and leaves its pods running.
	Shutdown()
}

// Info is a node in figures, whatever its market.
type Info struct {
	Version   string           `json:"version"`
	Address   identity.Address `json:"address"`
	PeerID    string           `json:"peerId"`
	Addrs     []string         `json:"addrs"` // multiaddrs under which it can be reached
	PID       int              `json:"pid"`
	Started   time.Time        `json:"started"`
	Home      string           `json:"home"`
	Runtime   string           `json:"runtime"`   // docker, process or none
	Engine    string           `json:"engine"`    // its version, or why there is none
	Height    uint64           `json:"height"`    // batches in the node's own journal
	LastEvent uint64           `json:"lastEvent"` // number of the newest notice
	Stalled   bool             `json:"stalled"`   // the disk is full: what is decided waits for room
	Peers     []PeerInfo       `json:"peers"`
}

// PeerInfo is a neighbour.
type PeerInfo struct {
	Address   identity.Address `json:"address"`
	Alias     string           `json:"alias,omitempty"`
	PeerID    string           `json:"peerId"`
	Direction string           `json:"direction"` // who dialled: in, the peer; out, this node
	Transport string           `json:"transport"` // tcp or quic
	Remote    string           `json:"remote"`    // multiaddr
	Since     time.Time        `json:"since"`
	Latency   time.Duration    `json:"latencyNanos"` // of the last round trip; 0: not known
}
