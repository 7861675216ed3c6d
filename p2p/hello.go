package p2p

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// helloMessage is what each side says in hello. Boot is drawn once by each process, so that the other side knows which
// of its connections died with the last one.
type helloMessage struct {
	_     struct{} `cbor:",toarray"`
	Boot  uint64
	Frame wire.Frame
}

// A dial is one attempt to link with a peer, shared by all who want it.
type dial struct {
	done chan struct{}
	err  error
}

// Connect links with a peer whose addresses were learnt, unless there is a link. Errors: ErrUnknownPeer, ErrUnreachable,
// a *Refusal of the other side, ErrUntrusted.
func (n *Node) Connect(ctx context.Context, pub identity.PublicKey) error {
	id, err := PeerID(pub)
	if err != nil {
		return err
	}
	n.book.learn(pub, nil)
	return n.connect(ctx, id)
}

// ConnectAddr links with the peer at a multiaddr that ends in /p2p/ID, as typed by a user or given by a charter, and
// remembers it for the key. Unlike with Learn, the address may be a DNS name. Errors are those of Connect.
func (n *Node) ConnectAddr(ctx context.Context, addr string) (identity.PublicKey, error) {
	pub, id, at, err := parse(addr)
	if err != nil {
		return pub, err
	}
	n.book.learn(pub, []ma.Multiaddr{at})
	return pub, n.connect(ctx, id)
}

// ParseAddr is the key in a multiaddr that ends in /p2p/ID.
func ParseAddr(addr string) (identity.PublicKey, error) {
	pub, _, _, err := parse(addr)
	return pub, err
}

func parse(addr string) (identity.PublicKey, peer.ID, ma.Multiaddr, error) {
	m, err := ma.NewMultiaddr(addr)
	if err != nil {
		return identity.PublicKey{}, "", nil, fmt.Errorf("p2p: address %q: %w", addr, err)
	}
	at, id := peer.SplitAddr(m)
	if id == "" || len(at) == 0 {
		return identity.PublicKey{}, "", nil, fmt.Errorf("p2p: address %q does not end in /p2p/ID", addr)
	}
	pub, err := PublicKey(id)
	return pub, id, at, err
}

// connect waits for a link that is up, or for the one attempt to make it.
func (n *Node) connect(ctx context.Context, id peer.ID) error {
	if n.linked(id) {
		return nil
	}
	n.mu.Lock()
	d := n.dialing[id]
	if d == nil && n.closing {
		n.mu.Unlock()
		return ErrClosed
	}
	if d == nil {
		d = &dial{done: make(chan struct{})}
		n.dialing[id] = d
		n.wg.Add(1)
		go n.dial(id, d)
	}
	n.mu.Unlock()
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
	}
}

// linked reports whether a peer is admitted and connected.
func (n *Node) linked(id peer.ID) bool {
	l := n.roster.find(id)
	return l != nil && l.up.Load() && len(n.host.Network().ConnsToPeer(id)) > 0
}

// dial runs one attempt: dial and hello. A connection that does not even say hello back is dead (its process was killed, or
// its machine is gone); it is closed and dialled anew, once.
func (n *Node) dial(id peer.ID, d *dial) {
	defer n.wg.Done()
	ctx, cancel := context.WithTimeout(n.ctx, connectDeadline)
	defer cancel()
	for range 2 {
		had := len(n.host.Network().ConnsToPeer(id)) > 0
		if d.err = n.reach(ctx, id); d.err != nil {
			break
		}
		d.err = n.sayHello(ctx, id)
		if d.err == nil || !had || errors.Is(d.err, ErrRefused) || ctx.Err() != nil {
			break
		}
		_ = n.host.Network().ClosePeer(id)
	}
	n.mu.Lock()
	delete(n.dialing, id)
	n.mu.Unlock()
	close(d.done)
}

// reach opens a connection to a peer, without hello.
func (n *Node) reach(ctx context.Context, id peer.ID) error {
	if len(n.host.Network().ConnsToPeer(id)) > 0 {
		return nil
	}
	if id == n.host.ID() {
		return fmt.Errorf("%w: it is this node itself", ErrUnknownPeer)
	}
	e, _ := n.book.findID(id)
	if len(e.addrs) == 0 && len(n.host.Peerstore().Addrs(id)) == 0 {
		return fmt.Errorf("%w: peer %s", ErrUnknownPeer, id)
	}
	if !n.gate.welcome(id) {
		return fmt.Errorf("%w: %w", ErrUntrusted, Refuse(CodeRevoked, "the key is revoked"))
	}
	if s, ok := n.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(id) // the keeper has a backoff of its own; whoever else asks wants to know now
	}
	if err := n.host.Connect(ctx, peer.AddrInfo{ID: id, Addrs: e.addrs}); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return nil
}

// sayHello is the dialer's side: our frame there, theirs back, our verdict there.
func (n *Node) sayHello(ctx context.Context, id peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, helloDeadline)
	defer cancel()
	s, err := n.newStream(ctx, id, protoHello)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	begun := time.Now()
	first, err := encodeFrame(helloMessage{Boot: n.boot, Frame: n.h.HelloFrame()})
	if err != nil {
		_ = s.Reset()
		return err
	}
	_, writeErr := s.Write(first)
	var theirs helloMessage
	if err := readReply(s, &theirs); err != nil {
		_ = s.Reset()
		return n.broken(ctx, err, writeErr)
	}
	took := time.Since(begun)
	key, addr, _ := who(id)
	no := n.judge(ctx, key, addr, theirs)
	verdict, err := encodeReply(wire.Frame{}, no)
	if err != nil {
		_ = s.Reset()
		return err
	}
	if no != nil {
		_, _ = s.Write(verdict)
		_ = s.CloseWrite()
		if l := n.roster.find(id); l != nil {
			n.expel(l) // what is left of the connection the lobby ends
		}
		return fmt.Errorf("%w: %w", ErrUntrusted, no)
	}
	l, stale := n.roster.admit(s.Conn(), theirs.Boot)
	if l == nil {
		_ = s.Reset()
		return fmt.Errorf("%w: connection ended during hello", ErrUnreachable)
	}
	n.shut(stale) // before the other side begins to gossip, which the end of an old stream would make us forget
	if _, err := s.Write(verdict); err != nil {
		_ = s.Reset()
		return n.broken(ctx, err, nil)
	}
	_ = s.Close()
	l.latency.Store(int64(took))
	n.arrived(l)
	return nil
}

// judge asks the node above about a peer's hello.
func (n *Node) judge(ctx context.Context, key identity.PublicKey, a identity.Address, m helloMessage) *Refusal {
	switch {
	case m.Boot == 0:
		return Refuse(CodeBadHello, "no boot number")
	case n.h.Revoked(a):
		return Refuse(CodeRevoked, "the key is revoked")
	}
	return n.h.Hello(ctx, key, m.Frame)
}

// arrived makes a link known above and to gossip.
func (n *Node) arrived(l *link) {
	n.book.learn(l.key, nil)
	n.host.ConnManager().TagPeer(l.id, "admitted", 100)
	n.roster.raise(l)
	n.keeper.met(l.id)
	n.kick()
}

// serveHello is the other side.
func (n *Node) serveHello(l *link, _ Protocol, s network.Stream) {
	ctx, cancel := context.WithTimeout(l.ctx, helloDeadline)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	_ = s.SetDeadline(time.Now().Add(helloDeadline))
	if !l.lobby.Allow() {
		n.answer(s, nil, Refuse(CodeBusy, "too many hellos"))
		return
	}
	var theirs helloMessage
	if err := readFrame(s, wire.FrameLimit, &theirs); err != nil {
		n.misread(s, err)
		return
	}
	if no := n.judge(ctx, l.key, l.addr, theirs); no != nil {
		n.expel(l)
		n.log.Debug("hello refused", "peer", l.addr, "code", no.Code, "reason", no.Reason)
		n.answer(s, nil, no)
		return
	}
	admitted, stale := n.roster.admit(s.Conn(), theirs.Boot)
	if admitted == nil {
		_ = s.Reset()
		return
	}
	n.shut(stale)
	ours, err := encodeReply(helloMessage{Boot: n.boot, Frame: n.h.HelloFrame()}, nil)
	if err == nil {
		_, err = s.Write(ours)
	}
	var verdict wire.Frame
	if err == nil {
		err = readReply(s, &verdict)
	}
	if err != nil {
		_ = s.Reset()
		if errors.Is(err, ErrRefused) || !l.up.Load() {
			n.expel(l)
		}
		n.log.Debug("hello broke off", "peer", l.addr, "err", err)
		return
	}
	_ = s.Close()
	n.arrived(l)
}
