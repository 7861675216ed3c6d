package p2p

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// A closingHost is a host that also ends the part below its swarm.
type closingHost struct {
	*basichost.BasicHost
	quic *quicreuse.ConnManager
}

// Close ends the host and then its sockets.
func (h closingHost) Close() error {
	err := h.BasicHost.Close()
	if e := h.quic.Close(); err == nil {
		err = e
	}
	return err
}

// newHost makes the libp2p host of its parts. libp2p.New would do it in fewer lines, and with them would come WebRTC,
// WebTransport and WebSocket: a seventh of the program, and parsers of strangers' bytes that nobody here speaks.
func (n *Node) newHost(key crypto.PrivKey, announce []ma.Multiaddr) (_ host.Host, err error) {
	var undo []func() error
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				_ = f()
			}
		}
	}()
	limits, err := resources()
	if err != nil {
		return nil, err
	}
	undo = append(undo, limits.Close)
	manager, err := connmgr.NewConnManager(connectionsLow, connectionsHigh, connmgr.WithGracePeriod(time.Minute))
	if err != nil {
		return nil, err
	}
	undo = append(undo, manager.Close)
	below, err := quicSockets(key, limits)
	if err != nil {
		return nil, err
	}
	undo = append(undo, below.Close)
	bus := eventbus.NewBus()
	net, err := n.newSwarm(key, bus, limits)
	if err != nil {
		return nil, err
	}
	undo = append(undo, net.Peerstore().Close, net.Close)
	transports, err := n.transports(key, below, limits)
	if err != nil {
		return nil, err
	}
	for _, t := range transports {
		if err := net.AddTransport(t); err != nil {
			return nil, err
		}
	}
	h, err := basichost.NewHost(net, &basichost.HostOpts{
		EventBus: bus, ConnManager: manager, UserAgent: "souk/" + cmp.Or(n.cfg.Version, "dev"),
		AddrsFactory: func(own []ma.Multiaddr) []ma.Multiaddr { return append(slices.Clone(announce), outside(own)...) },
	})
	if err != nil {
		return nil, err
	}
	undo = []func() error{below.Close, h.Close} // which closes all else
	listen := make([]ma.Multiaddr, len(n.cfg.Listen))
	for i, s := range n.cfg.Listen {
		if listen[i], err = ma.NewMultiaddr(s); err != nil {
			return nil, fmt.Errorf("address %q: %w", s, err)
		}
	}
	if err := net.Listen(listen...); len(listen) > 0 && err != nil {
		return nil, err
	}
	h.Start()
	return closingHost{h, below}, nil
}

// newSwarm is the connections, with nothing to make them with yet.
func (n *Node) newSwarm(key crypto.PrivKey, bus event.Bus, limits network.ResourceManager) (*swarm.Swarm, error) {
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	peers, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	err = errors.Join(peers.AddPrivKey(self, key), peers.AddPubKey(self, key.GetPublic()))
	if err == nil {
		var s *swarm.Swarm
		s, err = swarm.NewSwarm(self, peers, bus, swarm.WithConnectionGater(n.gate), swarm.WithResourceManager(limits),
			swarm.WithDialTimeout(dialTimeout), swarm.WithDialRanker(tcpFirst))
		if err == nil {
			return s, nil
		}
	}
	_ = peers.Close()
	return nil, err
}

// transports are the ways in and out: TCP, secured with Noise or TLS and shared by yamux, and QUIC.
func (n *Node) transports(key crypto.PrivKey, below *quicreuse.ConnManager, limits network.ResourceManager) ([]transport.Transport, error) {
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	secureNoise, err := noise.New(noise.ID, key, muxers)
	if err != nil {
		return nil, err
	}
	secureTLS, err := libp2ptls.New(libp2ptls.ID, key, muxers)
	if err != nil {
		return nil, err
	}
	up, err := upgrader.New([]sec.SecureTransport{secureNoise, secureTLS}, muxers, nil, limits, n.gate)
	if err != nil {
		return nil, err
	}
	overTCP, err := tcp.NewTCPTransport(up, limits, nil)
	if err != nil {
		return nil, err
	}
	overQUIC, err := libp2pquic.NewTransport(key, below, nil, n.gate, limits)
	return []transport.Transport{overTCP, overQUIC}, err
}

// quicSockets is what QUIC connections share. A handshake is counted, and a source that asks too often must first prove
// its address, before any work is done for it.
func quicSockets(key crypto.PrivKey, limits network.ResourceManager) (*quicreuse.ConnManager, error) {
	raw, err := key.Raw()
	if err != nil {
		return nil, err
	}
	var reset quic.StatelessResetKey
	var token quic.TokenGeneratorKey
	for _, k := range []struct {
		key  []byte
		info string
	}{{reset[:], "souk/quic/reset/1"}, {token[:], "souk/quic/token/1"}} {
		derived, err := hkdf.Key(sha256.New, raw, nil, k.info, len(k.key))
		if err != nil {
			return nil, err
		}
		copy(k.key, derived)
	}
	return quicreuse.NewConnManager(reset, token,
		quicreuse.ConnContext(func(ctx context.Context, from *quic.ClientInfo) (context.Context, error) {
			addr, err := quicreuse.ToQuicMultiaddr(from.RemoteAddr, quic.Version1)
			if err != nil {
				addr = nil // the limits decide all the same
			}
			scope, err := limits.OpenConnection(network.DirInbound, false, addr)
			if err != nil {
				return ctx, err
			}
			ctx = network.WithConnManagementScope(ctx, scope)
			context.AfterFunc(ctx, scope.Done)
			return ctx, nil
		}),
		quicreuse.VerifySourceAddress(func(addr net.Addr) bool { return limits.VerifySourceAddress(addr) }))
}

// tcpFirst prefers TCP: when a process dies, its kernel tells the peers of its TCP connections at once; those of QUIC
// find out half a minute later. The delays are those of RFC 8305, as libp2p has them.
func tcpFirst(addrs []ma.Multiaddr) []network.AddrDelay {
	out := make([]network.AddrDelay, 0, len(addrs))
	var others []ma.Multiaddr
	for _, a := range addrs {
		if _, err := a.ValueForProtocol(ma.P_TCP); err != nil {
			others = append(others, a)
			continue
		}
		out = append(out, network.AddrDelay{Addr: a})
	}
	var wait time.Duration
	if len(out) > 0 {
		wait = 300 * time.Millisecond
	}
	for _, a := range others {
		out = append(out, network.AddrDelay{Addr: a, Delay: wait})
	}
	return out
}
