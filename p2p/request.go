package p2p

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// Request asks one peer and waits for its answer, linking with it first where the addresses are known; for ProtoJoin a
// bare connection is enough. It takes requestDeadline at most, less where ctx says so. Errors: ErrUnknownPeer,
// ErrUnreachable (whether the peer acted is not known), ErrUntrusted, a *Refusal of the peer (an ErrRefused, and ErrBusy
// where it says so), wire.ErrTooLarge for a frame of ours.
func (n *Node) Request(ctx context.Context, to identity.Address, proto Protocol, f wire.Frame) (wire.Frame, error) {
	ctx, cancel := context.WithTimeout(ctx, requestDeadline)
	defer cancel()
	body, err := encodeFrame(f)
	if err != nil {
		return wire.Frame{}, err
	}
	var answer wire.Frame
	err = n.ask(ctx, to, proto, func(l *link) error {
		select {
		case l.asking <- struct{}{}:
			defer l.asking.free()
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
		}
		s, err := n.exchange(ctx, l.id, proto, body, &answer)
		if err == nil {
			_ = s.Close()
		}
		return err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		n.suspect(to)
	}
	return answer, err
}

// errNotSent marks a failure before the peer can have seen anything of a request.
var errNotSent = errors.New("not sent")

// ask finds a link to a peer and tries do on it; once more when the link turns out to be dead, or no link to the other side,
// before anything was asked.
func (n *Node) ask(ctx context.Context, to identity.Address, proto Protocol, do func(*link) error) error {
	id, err := n.locate(to)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		if proto == ProtoJoin && !n.roster.admitted(id) {
			err = n.reach(ctx, id)
		} else {
			err = n.connect(ctx, id)
		}
		if err != nil {
			return err
		}
		l := n.roster.find(id)
		if l == nil {
			err = fmt.Errorf("%w: the link broke", ErrUnreachable)
		} else {
			err = do(l)
		}
		stranger := isStranger(err)
		if try > 0 || ctx.Err() != nil || l != nil && !stranger && !errors.Is(err, errNotSent) {
			return err
		}
		if stranger && l != nil {
			n.expel(l) // the other side wants hello first
		}
	}
}

// locate is the libp2p name behind an address.
func (n *Node) locate(to identity.Address) (peer.ID, error) {
	if l := n.roster.lookup(to); l != nil {
		return l.id, nil
	}
	e, ok := n.book.find(to)
	if !ok {
		return "", fmt.Errorf("%w: %v", ErrUnknownPeer, to)
	}
	return e.id, nil
}

// isStranger reports whether the peer reset a stream because, to it, we have yet to say hello.
func isStranger(err error) bool {
	var reset *network.StreamError
	return errors.As(err, &reset) && reset.Remote && reset.ErrorCode == codeStranger
}

// newStream opens a stream on a connection that exists, with ctx's deadline on it.
func (n *Node) newStream(ctx context.Context, id peer.ID, proto Protocol) (network.Stream, error) {
	s, err := n.host.NewStream(network.WithNoDial(ctx, "links are made by hello"), id, protocol.ID(proto))
	if errors.Is(err, multistream.ErrNotSupported[protocol.ID]{}) {
		return nil, Refuse(CodeUnsupported, "%s is not served there", proto)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %w", ErrUnreachable, errNotSent, err)
	}
	if d, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(d)
	}
	return s, nil
}

// exchange sends a framed request and reads the reply into answer. The stream is returned open for reading, and for
// writing unless the protocol is of requests.
func (n *Node) exchange(ctx context.Context, id peer.ID, proto Protocol, body []byte, answer *wire.Frame) (network.Stream, error) {
	s, err := n.newStream(ctx, id, proto)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	// A peer that refuses early stops reading: its reply counts, not our failure to write.
	_, writeErr := s.Write(body)
	if writeErr == nil && !proto.long() {
		writeErr = s.CloseWrite()
	}
	err = readReply(s, answer)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = s.Reset()
		return nil, n.broken(ctx, err, writeErr)
	}
	return s, nil
}

// long reports whether a stream of the protocol goes on after the reply.
func (p Protocol) long() bool {
	for _, q := range streamProtocols {
		if p == q {
			return true
		}
	}
	return false
}

// broken gives a failed exchange its typed error.
func (n *Node) broken(ctx context.Context, err, writeErr error) error {
	var no *Refusal
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &no):
		return no
	case errors.Is(err, errFrame) && writeErr == nil:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: no answer: %w", ErrUnreachable, ctx.Err())
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%w: no answer: %w", ErrUnreachable, context.DeadlineExceeded)
	case writeErr != nil && !isStranger(err):
		return fmt.Errorf("%w: %w", ErrUnreachable, writeErr)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// serveRequest answers one request.
func (n *Node) serveRequest(l *link, p Protocol, s network.Stream) {
	_ = s.SetDeadline(time.Now().Add(requestDeadline))
	if !l.admitted.Load() && !n.h.LobbyJoinOpen() {
		n.answer(s, nil, Refuse(CodeNotOpen, "no invite is open here"))
		return
	}
	done, ok := n.room(l, l.requests, n.requests)
	if !ok {
		n.answer(s, nil, Refuse(CodeBusy, "too many requests"))
		return
	}
	defer done()
	var f wire.Frame
	if err := readFrame(s, wire.FrameLimit, &f); err != nil {
		n.misread(s, err)
		return
	}
	if p == protoPing {
		n.answer(s, wire.Frame{}, nil)
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, requestDeadline)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	reply, err := n.h.Request(ctx, l.key, p, f)
	if err != nil {
		n.answer(s, nil, n.refusal(err, p, l.addr))
		return
	}
	n.answer(s, reply, nil)
}

// room takes a place among the things under way for a peer, and among those of all peers, within its rate. Strangers
// have places and a rate of their own, so that they cannot take those of members.
func (n *Node) room(l *link, own, all slots) (done func(), ok bool) {
	rate := l.rate
	if !l.admitted.Load() {
		rate, all = l.lobby, n.joins
	}
	if !rate.Allow() || !own.take() {
		return nil, false
	}
	if !all.take() {
		own.free()
		return nil, false
	}
	return func() { all.free(); own.free() }, true
}

// refusal is what a peer is told of an error.
func (n *Node) refusal(err error, p Protocol, from identity.Address) *Refusal {
	var no *Refusal
	switch {
	case errors.As(err, &no):
		return no
	case errors.Is(err, ErrBusy):
		return Refuse(CodeBusy, "busy")
	}
	n.log.Warn("request failed", "protocol", string(p), "peer", from, "err", err)
	return Refuse(CodeInternal, "internal error")
}

// answer writes a reply and ends the stream; what the peer still sends is not read.
func (n *Node) answer(s network.Stream, v any, no *Refusal) {
	b, err := encodeReply(v, no)
	if err != nil {
		n.log.Error("answer does not fit a frame", "protocol", string(s.Protocol()), "err", err)
		b, _ = encodeReply(nil, Refuse(CodeInternal, "internal error"))
	}
	if _, err := s.Write(b); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// misread ends a stream that could not be read: bad bytes are refused, a broken or slow stream is reset.
func (n *Node) misread(s network.Stream, err error) {
	if !errors.Is(err, errFrame) {
		_ = s.Reset()
		return
	}
	n.answer(s, nil, Refuse(CodeBadFrame, "%v", err))
}

// suspect pings a peer that did not answer, so that a dead link ends now and not when its transport notices.
func (n *Node) suspect(a identity.Address) {
	if l := n.roster.lookup(a); l != nil {
		n.spawn(func() { n.ping(l) })
	}
}

// ping measures a link, and ends it when it does not answer.
func (n *Node) ping(l *link) {
	if !l.pinging.CompareAndSwap(false, true) {
		return
	}
	defer l.pinging.Store(false)
	begun := time.Now()
	l.pinged.Store(begun.UnixNano())
	ctx, cancel := context.WithTimeout(n.ctx, pingDeadline)
	defer cancel()
	body, _ := encodeFrame(wire.Frame{}) // an empty frame always fits
	var pong wire.Frame
	s, err := n.exchange(ctx, l.id, protoPing, body, &pong)
	if err == nil {
		_ = s.Close()
		l.latency.Store(int64(time.Since(begun)))
		return
	}
	if errors.Is(err, ErrRefused) || n.ctx.Err() != nil {
		return
	}
	n.log.Debug("peer does not answer", "peer", l.addr, "err", err)
	if isStranger(err) {
		n.expel(l) // the keeper says hello again if the peer is wanted
		return
	}
	_ = n.host.Network().ClosePeer(l.id)
}
