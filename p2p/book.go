package p2p

import (
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"souk/p2p/identity"
)

// An entry of the address book.
type entry struct {
	key   identity.PublicKey
	id    peer.ID
	addrs []ma.Multiaddr
}

// A book knows the keys of addresses and where they were last said to be. It is a leaf: its lock is held for map
// operations only.
type book struct {
	mu     sync.Mutex
	byAddr map[identity.Address]entry
	known  map[peer.ID]identity.Address
}

func newBook() *book {
	return &book{byAddr: map[identity.Address]entry{}, known: map[peer.ID]identity.Address{}}
}

// learn notes a key; addresses, when there are any, replace those known before. It reports whether these are news.
func (b *book) learn(pub identity.PublicKey, addrs []ma.Multiaddr) (peer.ID, bool) {
	id, err := PeerID(pub)
	if err != nil {
		return "", false
	}
	a, err := pub.Address()
	if err != nil {
		return "", false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old, ok := b.byAddr[a]
	if len(addrs) == 0 || slices.EqualFunc(old.addrs, addrs, ma.Multiaddr.Equal) {
		addrs = old.addrs
	}
	fresh := !ok || !slices.EqualFunc(old.addrs, addrs, ma.Multiaddr.Equal)
	if !ok && len(b.byAddr) >= bookLimit {
		b.forgetOne()
	}
	b.byAddr[a] = entry{key: pub, id: id, addrs: addrs}
	b.known[id] = a
	return id, fresh
}

// forgetOne makes room in a full book, at the cost of anybody. The caller holds the lock.
func (b *book) forgetOne() {
	for a, e := range b.byAddr {
		delete(b.byAddr, a)
		delete(b.known, e.id)
		return
	}
}

func (b *book) find(a identity.Address) (entry, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.byAddr[a]
	return e, ok
}

func (b *book) findID(id peer.ID) (entry, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, ok := b.known[id]
	if !ok {
		return entry{}, false
	}
	return b.byAddr[a], true
}

// claimed keeps of a peer's claims those that can be dialled: IP addresses (a name would let a peer choose whom our
// resolver asks), TCP or QUIC, for this very peer, and not too many.
func claimed(id peer.ID, addrs []string) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, s := range addrs {
		if len(out) == addressesOfPeer {
			break
		}
		m, err := ma.NewMultiaddr(s)
		if err != nil {
			continue
		}
		m, of := peer.SplitAddr(m)
		switch {
		case of != "" && of != id, !dialable(m), manet.IsIPUnspecified(m), slices.ContainsFunc(out, m.Equal):
			continue
		}
		out = append(out, m)
	}
	return out
}

// dialable reports whether m is an IP address with a TCP or QUIC port and nothing more.
func dialable(m ma.Multiaddr) bool {
	var codes []int
	for _, c := range m {
		codes = append(codes, c.Protocol().Code)
		if v := c.Value(); v == "0" {
			return false
		}
	}
	if len(codes) < 2 || codes[0] != ma.P_IP4 && codes[0] != ma.P_IP6 {
		return false
	}
	rest := codes[1:]
	return slices.Equal(rest, []int{ma.P_TCP}) || slices.Equal(rest, []int{ma.P_UDP, ma.P_QUIC_V1})
}
