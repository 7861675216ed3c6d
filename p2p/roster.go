package p2p

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"souk/p2p/identity"
)

// A link is a peer with at least one connection, from the first to the last of them.
type link struct {
	id   peer.ID
	key  identity.PublicKey
	addr identity.Address

	ctx      context.Context // ends with the link
	cancel   context.CancelFunc
	admitted atomic.Bool  // hello went well here; all protocols are open to the peer
	up       atomic.Bool  // hello went well on both sides; set with the roster's lock held
	latency  atomic.Int64 // nanoseconds of the last round trip; 0 unknown
	pinging  atomic.Bool
	pinged   atomic.Int64 // unix nanoseconds of the last ping

	lobby    *rate.Limiter // of hellos and, for a stranger, joins
	rate     *rate.Limiter // of requests and streams that an admitted peer begins
	gossip   *rate.Limiter // of messages that the peer sends
	requests slots         // of the peer, under way here
	streams  slots
	asking   slots // ours, under way there

	// Guarded by the roster's lock.
	conns map[network.Conn]*place
	boot  uint64 // of the peer's process, as it said in hello; 0 unknown
	gen   uint64 // of up: another number is another Up
	since time.Time

	// Owned by mend.
	deaf   time.Time // since when we do not know what the peer subscribes; zero: we do
	mended int       // attempts to find out, in a row
}

// A place is where one connection stands: in the lobby while timer is set.
type place struct {
	timer *time.Timer
	count *int // of the lobby's counters, the one that this connection is in; nil for our own dials
}

// A roster knows all links. Its state changes under its lock, which is held for map operations only; live is read without
// it, by gossip and by every stream that comes in.
type roster struct {
	known func(peer.ID) bool
	live  sync.Map // peer.ID → *link

	mu        sync.Mutex
	byAddr    map[identity.Address]*link
	strangers int // connections in the lobby, of keys we know nothing of
	returners int // and of keys in the address book
	gens      uint64
	changed   chan struct{} // of capacity 1: some up has changed
	stay      time.Duration
}

func newRoster(known func(peer.ID) bool) *roster {
	return &roster{known: known, byAddr: map[identity.Address]*link{}, changed: make(chan struct{}, 1), stay: lobbyStay}
}

// find is the link of a peer, nil when there is none. It takes no lock.
func (r *roster) find(id peer.ID) *link {
	l, ok := r.live.Load(id)
	if !ok {
		return nil
	}
	return l.(*link)
}

// admitted reports whether hello has admitted the peer. It takes no lock.
func (r *roster) admitted(id peer.ID) bool {
	l := r.find(id)
	return l != nil && l.admitted.Load()
}

// lookup is the link of an address, nil when there is none.
func (r *roster) lookup(a identity.Address) *link {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byAddr[a]
}

// full reports whether the lobby has no place for a peer.
func (r *roster) full(id peer.ID) bool {
	known := r.known(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.find(id); l != nil && l.admitted.Load() {
		return false
	}
	count, limit := r.counter(known)
	return *count >= limit
}

// counter is the part of the lobby that a key stands in. The caller holds the lock.
func (r *roster) counter(known bool) (*int, int) {
	if known {
		return &r.returners, returnersLimit
	}
	return &r.strangers, strangersLimit
}

// enter notes a new connection. It reports false when there is no place for it.
func (r *roster) enter(c network.Conn) bool {
	id := c.RemotePeer()
	key, addr, err := who(id)
	if err != nil {
		return false
	}
	known := r.known(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.find(id)
	if l == nil {
		l = newLink(id, key, addr)
		r.live.Store(id, l)
		r.byAddr[addr] = l
	}
	p := &place{}
	l.conns[c] = p
	if l.admitted.Load() {
		return true
	}
	p.timer = time.AfterFunc(r.stay, func() { _ = c.Close() })
	if c.Stat().Direction != network.DirInbound {
		return true
	}
	count, limit := r.counter(known)
	*count++
	p.count = count
	return *count <= limit
}

func newLink(id peer.ID, key identity.PublicKey, addr identity.Address) *link {
	ctx, cancel := context.WithCancel(context.Background())
	return &link{
		id: id, key: key, addr: addr, ctx: ctx, cancel: cancel,
		lobby:    rate.NewLimiter(strangerRate, strangerBurst),
		rate:     rate.NewLimiter(requestRate, requestBurst),
		gossip:   rate.NewLimiter(gossipRate, gossipBurst),
		requests: make(slots, requestsOfPeer),
		streams:  make(slots, streamsOfPeer),
		asking:   make(slots, requestsOfPeer),
		conns:    map[network.Conn]*place{},
	}
}

// leave notes that a connection has ended, and with the last one the link.
func (r *roster) leave(c network.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.find(c.RemotePeer())
	if l == nil || l.conns[c] == nil {
		return
	}
	l.conns[c].out()
	delete(l.conns, c)
	if len(l.conns) > 0 {
		return
	}
	l.admitted.Store(false)
	l.cancel()
	r.live.Delete(l.id)
	delete(r.byAddr, l.addr)
	if l.up.Swap(false) {
		r.tell()
	}
}

// out takes a connection out of the lobby. The caller holds the roster's lock.
func (p *place) out() {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if p.count != nil {
		*p.count--
		p.count = nil
	}
}

// admit opens all protocols to the peer at the other end of c. It returns nil when c has ended meanwhile. When the peer
// says that it is another process than before, its older connections are dead, and come back as stale.
func (r *roster) admit(c network.Conn, boot uint64) (l *link, stale []network.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l = r.find(c.RemotePeer())
	if l == nil || l.conns[c] == nil {
		return nil, nil
	}
	reborn := l.boot != 0 && l.boot != boot
	l.boot = boot
	for other, p := range l.conns {
		p.out()
		if reborn && other != c && other.Stat().Opened.Before(c.Stat().Opened) {
			stale = append(stale, other)
		}
	}
	if reborn && l.up.Load() {
		r.gens++
		l.gen, l.since = r.gens, time.Now()
		r.tell()
	}
	l.admitted.Store(true)
	return l, stale
}

// raise makes an admitted link known above: both sides have agreed.
func (r *roster) raise(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.up.Load() || !l.admitted.Load() || len(l.conns) == 0 {
		return
	}
	r.gens++
	l.gen, l.since = r.gens, time.Now()
	l.up.Store(true)
	r.tell()
}

// expel takes admission back: the connections are returned, to be closed, and if they are not, end like any in the lobby.
func (r *roster) expel(l *link) []network.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.admitted.Store(false)
	if l.up.Swap(false) {
		r.tell()
	}
	var out []network.Conn
	for c, p := range l.conns {
		out = append(out, c)
		if p.timer == nil {
			p.timer = time.AfterFunc(r.stay, func() { _ = c.Close() })
		}
	}
	return out
}

// ups is all links that are up.
func (r *roster) ups() []*link {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*link, 0, len(r.byAddr))
	for _, l := range r.byAddr {
		if l.up.Load() {
			out = append(out, l)
		}
	}
	return out
}

// tell wakes whoever reports ups and downs.
func (r *roster) tell() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// report calls up and down as links change, until ctx ends: what changed twice meanwhile is told once.
func (r *roster) report(ctx context.Context, up, down func(identity.Address)) {
	told := map[identity.Address]uint64{}
	for {
		now := map[identity.Address]uint64{}
		r.mu.Lock()
		for a, l := range r.byAddr {
			if l.up.Load() {
				now[a] = l.gen
			}
		}
		r.mu.Unlock()
		for a, gen := range told {
			if now[a] != gen {
				down(a)
				delete(told, a)
			}
		}
		for a, gen := range now {
			if told[a] == 0 {
				up(a)
				told[a] = gen
			}
		}
		select {
		case <-r.changed:
		case <-ctx.Done():
			return
		}
	}
}
