package p2p

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/x/rate"
)

// Times at the edge, each with its reason.
const (
	requestDeadline = 10 * time.Second // one request, dialling included: a user waits for it
	helloDeadline   = 4 * time.Second  // one try of hello: two fit into connectDeadline when the first finds a dead link
	connectDeadline = 10 * time.Second // dial and hello
	dialTimeout     = 5 * time.Second  // one address
	lobbyStay       = 10 * time.Second // a stranger's place is wanted by others
	streamIdle      = 5 * time.Minute  // a long stream on which nothing moves is dead
	pingDeadline    = 2 * time.Second  // a link that takes longer is no use for a request either
	pingEvery       = 30 * time.Second // latency for the user, and an end to links that died in silence
	mendEvery       = time.Second      // how long a peer may be without a gossip stream before we open another
	deafFor         = 2 * time.Second  // how long we wait for a peer's subscriptions, which come with its first gossip
)

// Numbers of things.
const (
	strangersLimit = 64  // connections of unknown keys in the lobby
	returnersLimit = 256 // connections of keys in the address book that have yet to say hello, so strangers cannot keep them out

	requestRate       = 200 // a second and peer
	requestBurst      = 400
	strangerRate      = 5 // join and hello of one stranger
	strangerBurst     = 10
	requestsOfPeer    = 32 // under way
	requestsOfAll     = 512
	joinsOfAll        = 32
	streamsOfPeer     = 64
	streamsOfAll      = 512
	gossipRate        = 2000 // messages a second and peer
	gossipBurst       = 8000
	connectionsLow    = 400 // the connection manager trims idle strangers from connectionsHigh down to this
	connectionsHigh   = 600
	connectionsOfIP   = 64 // a site behind one address
	bookLimit         = 1 << 16
	addressesOfPeer   = 16
	dialsAtOnce       = 16
	validateQueue     = 4096
	outboundQueue     = 1024
	deliverQueue      = 4096
	subscriptionLimit = 16
)

// GossipLimit is the most bytes of one published message: the largest kind of object, a policy, in its envelope.
const GossipLimit = 16<<10 + 256

// rpcLimit is the most bytes of one GossipSub frame: a message, its topic and framing.
const rpcLimit = GossipLimit + 512

// The limits must leave room for the largest payload.
var _ [GossipLimit - 16384 - 96]struct{}

// codeStranger is the reset code that tells a peer to say hello first.
const codeStranger network.StreamErrorCode = 0x50 << 8

// resources is the resource manager: what all peers together, and each, may take.
func resources() (network.ResourceManager, error) {
	scale := rcmgr.DefaultLimits
	const mib = 1 << 20
	for _, id := range []protocol.ID{identify.ID, identify.IDPush} { // the one service of libp2p's own that runs here
		scale.AddProtocolLimit(id, rcmgr.BaseLimit{StreamsInbound: 128, StreamsOutbound: 128, Streams: 256, Memory: 8 * mib}, rcmgr.BaseLimitIncrease{})
		scale.AddProtocolPeerLimit(id, rcmgr.BaseLimit{StreamsInbound: 16, StreamsOutbound: 16, Streams: 32, Memory: mib}, rcmgr.BaseLimitIncrease{})
	}
	scale.AddServiceLimit(identify.ServiceName, rcmgr.BaseLimit{StreamsInbound: 128, StreamsOutbound: 128, Streams: 256, Memory: 8 * mib}, rcmgr.BaseLimitIncrease{})
	scale.AddServicePeerLimit(identify.ServiceName, rcmgr.BaseLimit{StreamsInbound: 16, StreamsOutbound: 16, Streams: 32, Memory: mib}, rcmgr.BaseLimitIncrease{})
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: connectionsHigh + 200, ConnsInbound: connectionsHigh, ConnsOutbound: connectionsHigh,
			Streams: 8192, StreamsInbound: 6144, StreamsOutbound: 6144, Memory: 512 * mib, FD: 1024,
		},
		Transient: rcmgr.ResourceLimits{
			Conns: 128, ConnsInbound: 64, ConnsOutbound: 64 + dialsAtOnce,
			Streams: 512, StreamsInbound: 256, StreamsOutbound: 256, Memory: 64 * mib,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: 8, ConnsInbound: 6, ConnsOutbound: 6,
			Streams: 512, StreamsInbound: 256, StreamsOutbound: 256, Memory: 32 * mib,
		},
		ProtocolPeerDefault: rcmgr.ResourceLimits{
			Streams: 384, StreamsInbound: 192, StreamsOutbound: 192, Memory: 32 * mib,
		},
	}.Build(scale.AutoScale())
	local := []rate.PrefixLimit{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::1/128")}}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: connectionsOfIP}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: connectionsOfIP}, {PrefixLength: 48, ConnCount: 4 * connectionsOfIP}}),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: local,
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: rate.Limit{RPS: 2, Burst: 32}}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: rate.Limit{RPS: 2, Burst: 32}}},
				GracePeriod:      time.Minute,
			},
		}))
}

// A slots is a number of things that may be under way at once.
type slots chan struct{}

// take reports whether there was a free slot.
func (s slots) take() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) free() { <-s }
