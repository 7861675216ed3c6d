// Package p2p connects a node to the others: links, requests, long streams and gossip over libp2p (TCP and QUIC).
//
// It is an adapter and knows nothing of the market's rules. Whatever needs judgement is asked of the node above through
// Handlers: who may come in, what a request is answered, which gossip is worth passing on. In return the node above
// names peers by their address and never sees a socket.
//
// The story of a link. Somebody dials, both sides prove their keys, and the newcomer stands in the lobby: a small room
// (strangersLimit places, lobbyStay each) in which only two protocols are spoken, hello and, where it is open, join. In
// hello the dialer says what it is (a Frame of the node above), the other side judges it, answers with a Refusal or with
// its own Frame, the dialer judges that, and says so. From then on the peer is admitted, by its key, as long as one
// connection to it lasts; whoever comes back says hello again. Only to admitted peers do requests, streams and gossip
// work; for anybody else their streams are reset.
//
// A request is one stream: one frame there, one reply back, within requestDeadline. A Stream begins like a request and
// goes on as raw bytes in both directions. Gossip is GossipSub without its own signatures: what is published carries
// its author's signature inside. Maintain names the peers to stay linked with; the keeper redials them.
//
// Promises:
//
//	N1  Bytes of strangers cost bounded work: sizes are checked before memory is taken, every stream has a deadline,
//	    every peer a rate and a number of requests under way; what is over is answered "busy".
//	N2  While somebody wants it, a link that broke is tried again at once, after 0.25, 0.5, 1 seconds, and so on up to a
//	    minute; gossip between linked peers that broke in whatever way is mended within seconds.
//	P1  No handler other than Hello, and Request for ProtoJoin while LobbyJoinOpen, is ever called for a peer that hello has
//	    not admitted.
//	P2  A revoked key gets no connection, in either direction; Drop ends those that exist.
//	P3  A refusal in hello, of a request or of a stream reaches the other side as a typed Refusal.
//	P4  When Run returns, nothing that it started calls a handler any more.
package p2p

import (
	"context"
	"log/slog"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// A Protocol is the name of what is spoken on a stream, with its version.
type Protocol string

// The protocols of requests: one frame there, one back.
const (
	ProtoJoin    Protocol = "/souk/join/1"    // a stranger asks an operator for a credential
	ProtoSync    Protocol = "/souk/sync/1"    // snapshots and repair of gossiped state
	ProtoLease   Protocol = "/souk/lease/1"   // consumer and host: quotes, accepts, commands, minutes
	ProtoBank    Protocol = "/souk/bank/1"    // member and bank: reservations, settlement, statements
	ProtoWitness Protocol = "/souk/witness/1" // witness and host: beats over nonces, receipts
	ProtoHeld    Protocol = "/souk/held/1"    // what a counterparty holds that the asker has signed
	ProtoAttend  Protocol = "/souk/attend/1"  // attend a lease in its consumer's place
)

// The protocols of long streams.
const (
	ProtoLogs Protocol = "/souk/logs/1" // output of a pod
	ProtoSSH  Protocol = "/souk/ssh/1"  // a shell, copies and forwarded ports
)

// The adapter's own protocols.
const (
	protoHello Protocol = "/souk/hello/1"
	protoPing  Protocol = "/souk/ping/1"
)

var (
	requestProtocols = []Protocol{ProtoJoin, ProtoSync, ProtoLease, ProtoBank, ProtoWitness, ProtoHeld, ProtoAttend}
	streamProtocols  = []Protocol{ProtoLogs, ProtoSSH}
)

// A Topic is one of the kinds of gossip in a market.
type Topic string

// The topics. Offers, Beats and Members are subscribed by every node; Bids and Evidence by those that ask.
const (
	Offers   Topic = "offers"
	Bids     Topic = "bids"
	Beats    Topic = "beats"
	Evidence Topic = "evidence"
	Members  Topic = "members"
)

var (
	allTopics     = []Topic{Offers, Bids, Beats, Evidence, Members}
	defaultTopics = []Topic{Offers, Beats, Members}
)

// A Verdict is what becomes of a gossip message. The zero value passes nothing on.
type Verdict uint8

// The verdicts.
const (
	Ignore Verdict = iota // not passed on, nobody's fault: late, repeated, not yet known
	Accept                // delivered and passed on
	Reject                // not passed on, and whoever sent it loses standing
)

// String is the verdict's name.
func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accept"
	case Reject:
		return "reject"
	}
	return "ignore"
}

// Handlers is what the node above decides and receives. All are called concurrently, from the adapter's goroutines, and
// not before Run, save those that a Connect or Request of the caller's own needs. A handler left nil refuses, ignores or
// does nothing.
type Handlers struct {
	// HelloFrame is what this node says of itself.
	HelloFrame func() wire.Frame
	// Hello judges what a peer said of itself; nil admits it. It is asked again at every hello of the same peer.
	Hello func(ctx context.Context, peer identity.PublicKey, f wire.Frame) *Refusal
	// Request answers a request. An error that is a *Refusal reaches the peer as it is; any other is logged here and
	// reaches the peer as CodeInternal without its text.
	Request func(ctx context.Context, from identity.PublicKey, proto Protocol, f wire.Frame) (wire.Frame, error)
	// Stream serves a long stream until it returns; then the stream is closed, or, after an error, reset. An error
	// before the first use of s refuses the stream, as Request does. ctx ends with the link.
	Stream func(ctx context.Context, from identity.PublicKey, proto Protocol, f wire.Frame, s *Stream) error
	// Validate judges one message of somebody else; when it is accepted, value goes to Deliver. It is called on one of
	// few workers and must not wait for others.
	Validate func(ctx context.Context, topic Topic, data []byte) (value any, verdict Verdict)
	// Deliver takes what Validate accepted, one topic in order.
	Deliver func(topic Topic, value any)
	// PeerUp and PeerDown tell of links, in order: one Up, then one Down, and so on for each address. A peer that came
	// back as a new process is Down and Up again. Its first requests may arrive before Up does.
	PeerUp, PeerDown func(identity.Address)
	// Revoked reports whether the holder of an address may have no link. It is asked for every connection and must not
	// lock or wait.
	Revoked func(identity.Address) bool
	// LobbyJoinOpen reports whether strangers may speak ProtoJoin now.
	LobbyJoinOpen func() bool
}

// withDefaults fills the handlers that the node above left out.
func (h Handlers) withDefaults() Handlers {
	if h.HelloFrame == nil {
		h.HelloFrame = func() wire.Frame { return wire.Frame{} }
	}
	if h.Hello == nil {
		h.Hello = func(context.Context, identity.PublicKey, wire.Frame) *Refusal {
			return Refuse(CodeNoCredential, "this node admits nobody")
		}
	}
	if h.Request == nil {
		h.Request = func(_ context.Context, _ identity.PublicKey, p Protocol, _ wire.Frame) (wire.Frame, error) {
			return wire.Frame{}, Refuse(CodeUnsupported, "%s is not served here", p)
		}
	}
	if h.Stream == nil {
		h.Stream = func(_ context.Context, _ identity.PublicKey, p Protocol, _ wire.Frame, _ *Stream) error {
			return Refuse(CodeUnsupported, "%s is not served here", p)
		}
	}
	if h.Validate == nil {
		h.Validate = func(context.Context, Topic, []byte) (any, Verdict) { return nil, Ignore }
	}
	if h.Deliver == nil {
		h.Deliver = func(Topic, any) {}
	}
	if h.PeerUp == nil {
		h.PeerUp = func(identity.Address) {}
	}
	if h.PeerDown == nil {
		h.PeerDown = func(identity.Address) {}
	}
	if h.Revoked == nil {
		h.Revoked = func(identity.Address) bool { return false }
	}
	if h.LobbyJoinOpen == nil {
		h.LobbyJoinOpen = func() bool { return false }
	}
	return h
}

// A Config is what New needs to know.
type Config struct {
	Key      *identity.PrivateKey
	Listen   []string     // multiaddrs, TCP or QUIC v1, as in /ip4/0.0.0.0/tcp/4301; port 0 takes a free one
	Announce []string     // multiaddrs under which others reach this node, where they differ from those it listens on
	MarketID string       // hex; may be empty for a node that has yet to join
	Version  string       // of this program, told to peers
	Log      *slog.Logger // nil: silent
}
