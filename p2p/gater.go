package p2p

import (
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"souk/p2p/identity"
)

// A gater refuses connections before they cost anything: those of revoked keys, of names that carry no key of ours, and
// of strangers when the lobby is full. It cannot give reasons; hello does.
type gater struct {
	serving atomic.Bool
	revoked func(identity.Address) bool
	roster  *roster
}

func (g *gater) welcome(id peer.ID) bool {
	_, a, err := who(id)
	return err == nil && !g.revoked(a)
}

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g *gater) InterceptPeerDial(id peer.ID) bool { return g.welcome(id) }

// InterceptAddrDial implements connmgr.ConnectionGater.
func (g *gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

// InterceptAccept implements connmgr.ConnectionGater: nobody comes in before the node above is ready.
func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool { return g.serving.Load() }

// InterceptSecured implements connmgr.ConnectionGater.
func (g *gater) InterceptSecured(d network.Direction, id peer.ID, _ network.ConnMultiaddrs) bool {
	return g.welcome(id) && (d == network.DirOutbound || !g.roster.full(id))
}

// InterceptUpgraded implements connmgr.ConnectionGater.
func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
