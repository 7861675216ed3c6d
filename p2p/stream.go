package p2p

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// A Stream is raw bytes in both directions, after a request was accepted. One goroutine may read while another writes.
// When nothing moves for streamIdle it is reset.
type Stream struct {
	s      network.Stream
	answer wire.Frame
	idle   *time.Timer

	mu       sync.Mutex // guards accepted, and keeps what is written behind the acceptance
	accepted bool
	refused  error
}

func newStream(s network.Stream, accepted bool) *Stream {
	st := &Stream{s: s, accepted: accepted}
	st.idle = time.AfterFunc(streamIdle, func() { _ = s.Reset() })
	return st
}

// Answer is the frame with which the other side accepted.
func (s *Stream) Answer() wire.Frame { return s.answer }

// Accept tells the side that opened the stream that it is served, with a frame for it. The first Read or Write accepts
// with an empty frame.
func (s *Stream) Accept(f wire.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accepted {
		return s.refused
	}
	s.accepted = true
	b, err := encodeReply(f, nil)
	if err == nil {
		_, err = s.s.Write(b)
	}
	if err == nil {
		err = s.s.SetDeadline(time.Time{}) // from here on the idle timer decides
	}
	s.refused = err
	return err
}

func (s *Stream) isAccepted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Read implements io.Reader.
func (s *Stream) Read(p []byte) (int, error) {
	if err := s.Accept(wire.Frame{}); err != nil {
		return 0, err
	}
	n, err := s.s.Read(p)
	if n > 0 {
		s.idle.Reset(streamIdle)
	}
	return n, err
}

// Write implements io.Writer.
func (s *Stream) Write(p []byte) (int, error) {
	if err := s.Accept(wire.Frame{}); err != nil {
		return 0, err
	}
	n, err := s.s.Write(p)
	if n > 0 {
		s.idle.Reset(streamIdle)
	}
	return n, err
}

// CloseWrite tells the other side that no more bytes come; it can still be read.
func (s *Stream) CloseWrite() error { return s.s.CloseWrite() }

// Close ends the stream; what was written still arrives.
func (s *Stream) Close() error {
	s.idle.Stop()
	return s.s.Close()
}

// Reset ends the stream at once; what was written may be lost.
func (s *Stream) Reset() error {
	s.idle.Stop()
	return s.s.Reset()
}

// OpenStream begins a long stream with a peer; ctx bounds the beginning only. Errors are those of Request.
func (n *Node) OpenStream(ctx context.Context, to identity.Address, proto Protocol, f wire.Frame) (*Stream, error) {
	if !proto.long() {
		return nil, fmt.Errorf("p2p: %s is no protocol of streams", proto)
	}
	body, err := encodeFrame(f)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestDeadline)
	defer cancel()
	var st *Stream
	err = n.ask(ctx, to, proto, func(l *link) error {
		var answer wire.Frame
		s, err := n.exchange(ctx, l.id, proto, body, &answer)
		if err != nil {
			return err
		}
		_ = s.SetDeadline(time.Time{})
		st = newStream(s, true)
		st.answer = answer
		return nil
	})
	if err != nil {
		return nil, err
	}
	return st, nil
}

// serveStream hands a long stream to the node above.
func (n *Node) serveStream(l *link, p Protocol, s network.Stream) {
	_ = s.SetDeadline(time.Now().Add(requestDeadline))
	done, ok := n.room(l, l.streams, n.streams)
	if !ok {
		n.answer(s, nil, Refuse(CodeBusy, "too many streams"))
		return
	}
	defer done()
	var f wire.Frame
	if err := readFrame(s, wire.FrameLimit, &f); err != nil {
		n.misread(s, err)
		return
	}
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	st := newStream(s, false)
	err := n.h.Stream(ctx, l.key, p, f, st)
	switch {
	case err != nil && !st.isAccepted():
		st.idle.Stop()
		n.answer(s, nil, n.refusal(err, p, l.addr))
	case err != nil:
		_ = st.Reset()
	default:
		_ = st.Accept(wire.Frame{})
		_ = st.Close()
	}
}
