package p2p

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"souk/p2p/identity"
)

// A Node is this node's place in the network.
type Node struct {
	cfg    Config
	h      Handlers
	log    *slog.Logger
	host   host.Host
	gate   *gater
	roster *roster
	book   *book
	keeper *keeper
	boot   uint64 // names this process to peers
	poke   event.Emitter

	ctx      context.Context // ends with Run
	cancel   context.CancelFunc
	requests slots // of all peers, under way here
	streams  slots
	joins    slots // of strangers

	mu      sync.Mutex // guards what follows; never held across I/O of the network
	closing bool
	wg      sync.WaitGroup // of all goroutines that may call handlers
	dialing map[peer.ID]*dial

	market sync.Mutex // orders SetMarket and Subscribe
	gossip *gossip    // nil before SetMarket; guarded by mu
	wanted map[Topic]bool
}

// New takes the ports that the configuration asks for. Nobody is let in before Run.
func New(cfg Config, h Handlers) (*Node, error) {
	if cfg.Key == nil {
		return nil, errors.New("p2p: no key")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		cfg: cfg, h: h.withDefaults(), log: cfg.Log, book: newBook(),
		requests: make(slots, requestsOfAll), streams: make(slots, streamsOfAll), joins: make(slots, joinsOfAll),
		dialing: map[peer.ID]*dial{}, wanted: map[Topic]bool{},
	}
	for _, t := range defaultTopics {
		n.wanted[t] = true
	}
	n.roster = newRoster(func(id peer.ID) bool { _, ok := n.book.findID(id); return ok })
	n.gate = &gater{revoked: n.h.Revoked, roster: n.roster}
	n.keeper = newKeeper(n)
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	n.boot = binary.BigEndian.Uint64(b[:]) | 1
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.open(); err != nil {
		n.cancel()
		return nil, err
	}
	if cfg.MarketID != "" {
		if err := n.SetMarket(cfg.MarketID); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}

// open makes the libp2p host.
func (n *Node) open() error {
	key, err := privateKey(n.cfg.Key)
	if err != nil {
		return err
	}
	var announce []ma.Multiaddr
	for _, s := range n.cfg.Announce {
		m, err := ma.NewMultiaddr(s)
		if err != nil {
			return fmt.Errorf("p2p: announced address %q: %w", s, err)
		}
		announce = append(announce, m)
	}
	if n.host, err = n.newHost(key, announce); err != nil {
		return fmt.Errorf("p2p: listening: %w", err)
	}
	n.poke, err = n.host.EventBus().Emitter(&event.EvtPeerProtocolsUpdated{})
	if err != nil {
		_ = n.host.Close()
		return fmt.Errorf("p2p: event bus: %w", err)
	}
	n.host.Network().Notify(&network.NotifyBundle{ConnectedF: n.connected, DisconnectedF: n.disconnected})
	return nil
}

// Run lets peers in and serves until ctx ends. When it returns, all that it started has ended and the ports are free: it
// waits for the handlers that are under way, whose ctx has ended.
func (n *Node) Run(ctx context.Context) error {
	if !n.begin() {
		return ErrClosed
	}
	for _, p := range requestProtocols {
		n.serve(p, p == ProtoJoin, n.serveRequest)
	}
	for _, p := range streamProtocols {
		n.serve(p, false, n.serveStream)
	}
	n.serve(protoPing, false, n.serveRequest)
	n.serve(protoHello, true, n.serveHello)
	n.spawn(func() { n.roster.report(n.ctx, n.h.PeerUp, n.h.PeerDown) })
	n.spawn(n.keeper.run)
	n.spawn(n.mend)
	n.gate.serving.Store(true)
	n.wg.Done()
	select {
	case <-ctx.Done():
	case <-n.ctx.Done(): // Close
	}
	n.Close()
	return nil
}

// Close ends a node, Run included. It is idempotent.
func (n *Node) Close() {
	n.mu.Lock()
	first := !n.closing
	n.closing = true
	n.mu.Unlock()
	n.cancel()
	if first {
		_ = n.poke.Close()
		_ = n.host.Close() // an error of closing a socket at the end is nobody's business
	}
	n.wg.Wait()
}

// begin marks the start of work that may call handlers; it reports false once the node is closing. Whoever began calls
// n.wg.Done.
func (n *Node) begin() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return false
	}
	n.wg.Add(1)
	return true
}

// spawn runs f on a goroutine that Close waits for.
func (n *Node) spawn(f func()) bool {
	if !n.begin() {
		return false
	}
	go func() {
		defer n.wg.Done()
		f()
	}()
	return true
}

// Addrs is the multiaddrs of this node, each with its /p2p/ID.
func (n *Node) Addrs() []string {
	var out []string
	for _, m := range n.host.Addrs() {
		s := m.String() + "/p2p/" + n.host.ID().String()
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// connected is called by libp2p before any stream of the connection.
func (n *Node) connected(_ network.Network, c network.Conn) {
	if !n.roster.enter(c) {
		go func() { _ = c.Close() }()
	}
}

func (n *Node) disconnected(_ network.Network, c network.Conn) {
	n.roster.leave(c)
	n.keeper.wake()
}

// serve sets the handler of a protocol. Peers that are not admitted come through only where strangers may.
func (n *Node) serve(p Protocol, strangers bool, f func(*link, Protocol, network.Stream)) {
	n.host.SetStreamHandler(protocol.ID(p), func(s network.Stream) {
		l := n.roster.find(s.Conn().RemotePeer())
		if l == nil || !strangers && !l.admitted.Load() {
			_ = s.ResetWithError(codeStranger)
			return
		}
		if !n.begin() {
			_ = s.Reset()
			return
		}
		defer n.wg.Done()
		f(l, p, s)
	})
}

// Learn notes a key and where it says to be. The newest addresses replace older ones; none keep them. Claims that
// cannot be dialled are left out: names (see Connect), unspecified addresses, other transports.
func (n *Node) Learn(pub identity.PublicKey, addrs []string) {
	id, err := PeerID(pub)
	if err != nil {
		return
	}
	if _, fresh := n.book.learn(pub, claimed(id, addrs)); fresh {
		n.keeper.retry(id)
	}
}

// A Peer is an admitted peer, for people.
type Peer struct {
	Address   identity.Address
	Key       identity.PublicKey
	PeerID    string
	Inbound   bool   // who dialled: true, the peer
	Transport string // "tcp" or "quic"
	Remote    string // multiaddr of the other end
	Agent     string // what the peer's program calls itself: foreign text
	Since     time.Time
	Latency   time.Duration // of the last round trip; 0 unknown
}

// Peers is the links that are up, ordered by address.
func (n *Node) Peers() []Peer {
	links := n.roster.ups()
	out := make([]Peer, 0, len(links))
	for _, l := range links {
		p := Peer{Address: l.addr, Key: l.key, PeerID: l.id.String(), Latency: time.Duration(l.latency.Load())}
		if v, err := n.host.Peerstore().Get(l.id, "AgentVersion"); err == nil {
			p.Agent, _ = v.(string)
		}
		n.roster.mu.Lock()
		p.Since = l.since
		n.roster.mu.Unlock()
		if conns := n.host.Network().ConnsToPeer(l.id); len(conns) > 0 {
			c := conns[0]
			p.Inbound = c.Stat().Direction == network.DirInbound
			p.Remote = c.RemoteMultiaddr().String()
			p.Transport = transportOf(c)
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Peer) int { return a.Address.Compare(b.Address) })
	return out
}

func transportOf(c network.Conn) string {
	if strings.Contains(c.RemoteMultiaddr().String(), "/quic") {
		return "quic"
	}
	return "tcp"
}

// Drop ends all connections of an address, as after its revocation.
func (n *Node) Drop(a identity.Address) {
	l := n.roster.lookup(a)
	if l == nil {
		return
	}
	n.shut(n.expel(l))
}

// expel takes a peer's admission back, and tells the keeper, who may want it.
func (n *Node) expel(l *link) []network.Conn {
	conns := n.roster.expel(l)
	n.keeper.wake()
	return conns
}

func (n *Node) shut(conns []network.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}
