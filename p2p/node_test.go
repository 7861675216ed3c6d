package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	lcrypto "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

func TestKeyAndPeerIDAreOneAnother(t *testing.T) {
	k := testKey(7).Public()
	id, err := PeerID(k)
	if err != nil || !strings.HasPrefix(id.String(), "16Uiu2HA") {
		t.Fatalf("PeerID: got %s, %v; want 16Uiu2HA…", id, err)
	}
	back, err := PublicKey(id)
	if err != nil || back != k {
		t.Fatalf("PublicKey: got %x, %v; want %x", back, err, k)
	}
	if _, err := PeerID(identity.PublicKey{}); !errors.Is(err, identity.ErrKey) {
		t.Fatalf("PeerID of zeros: got %v, want ErrKey", err)
	}
	_, pub, _ := lcrypto.GenerateEd25519Key(nil2rand{})
	other, _ := peer.IDFromPublicKey(pub)
	if _, err := PublicKey(other); !errors.Is(err, identity.ErrKey) {
		t.Fatalf("PublicKey of an Ed25519 name: got %v, want ErrKey", err)
	}
}

type nil2rand struct{}

func (nil2rand) Read(p []byte) (int, error) { return len(p), nil }

func TestHelloAdmitsBothSidesAndRequestsAreAnswered(t *testing.T) {
	for _, listen := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		t.Run(listen, func(t *testing.T) {
			a, b := pair(t, func(s *setup) { s.listen = []string{listen} })
			mustConnect(t, a, b)
			a.mustEvent("up " + b.addr.String())
			b.mustEvent("up " + a.addr.String())
			for _, way := range [][2]*peerNode{{a, b}, {b, a}} {
				got, err := way[0].Request(short10(t), way[1].addr, ProtoSync, wire.Frame{Op: 3, Body: []byte("hi")})
				if err != nil || got.Op != 3 || string(got.Body) != "/souk/sync/1 hi" {
					t.Fatalf("Request: got %d %q, %v; want 3 %q", got.Op, got.Body, err, "/souk/sync/1 hi")
				}
			}
			ps := a.Peers()
			if len(ps) != 1 || ps[0].Address != b.addr || ps[0].Inbound || ps[0].Latency <= 0 || !strings.Contains(listen, ps[0].Transport) {
				t.Fatalf("Peers: got %+v, want %s dialled over %s", ps, b.addr, listen)
			}
			eventually(t, "the agent", func() error {
				if got := a.Peers()[0].Agent; got != "souk/test" {
					return fmt.Errorf("agent %q", got)
				}
				return nil
			})
		})
	}
}

func TestRequestLinksByItself(t *testing.T) {
	a, b := pair(t, nil)
	eventually(t, "an answer", func() error {
		_, err := a.Request(short10(t), b.addr, ProtoLease, wire.Frame{})
		return err
	})
}

func TestStrangerMayOnlyJoin(t *testing.T) {
	a, b := pair(t, nil)
	stranger := start(t, setup{key: 9, members: a.members, market: testMarket})
	stranger.Learn(a.key.Public(), a.Addrs())
	mustConnect(t, a, b)

	ask := func(p Protocol) error {
		_, err := stranger.Request(short10(t), a.addr, p, wire.Frame{Body: []byte("let me in")})
		return err
	}
	var no *Refusal
	if err := ask(ProtoJoin); !errors.As(err, &no) || no.Code != CodeNotOpen {
		t.Fatalf("join without invite: got %v, want not-open", err)
	}
	a.joinOpen.Store(true)
	if err := ask(ProtoJoin); err != nil {
		t.Fatalf("join: got %v, want an answer", err)
	}
	before := a.asked.Load()
	if err := ask(ProtoSync); !errors.As(err, &no) || no.Code != CodeNoCredential || !strings.Contains(no.Reason, "vouches") {
		t.Fatalf("sync through the front door: got %v, want no-credential with its reason", err)
	}

	// A stranger that does not ask for permission: raw streams on the connection that it has.
	if err := stranger.reach(short10(t), a.host.ID()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Protocol{ProtoSync, ProtoLogs, protoPing, "/meshsub/1.1.0", "/meshsub/1.2.0"} {
		s, err := stranger.host.NewStream(short10(t), a.host.ID(), protocol.ID(p))
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		_ = s.SetDeadline(time.Now().Add(patience))
		_, _ = s.Write([]byte{0, 0, 0, 1, 0})
		if _, err := io.ReadFull(s, make([]byte, 1)); !isStranger(err) {
			t.Errorf("%s of a stranger: got %v, want a reset that says so", p, err)
		}
	}
	if got := a.asked.Load(); got != before {
		t.Errorf("handler saw %d requests of a stranger", got-before)
	}
	for _, p := range a.Peers() {
		if p.Address == stranger.addr {
			t.Errorf("stranger is listed among the peers")
		}
	}

	// Its gossip goes nowhere, nor does ours reach it.
	_ = stranger.Publish(short10(t), Offers, []byte("stranger speaks"))
	b.mustHear(a, Offers, "members speak")
	select {
	case got := <-stranger.heard:
		t.Errorf("stranger heard %q", got.data)
	case got := <-a.heard:
		t.Errorf("member heard %q of a stranger", got.data)
	default:
	}
}

func TestGossipFlowsAfterLateAdmission(t *testing.T) {
	a, b := pair(t, nil)
	late := start(t, setup{key: 3, members: a.members, market: testMarket})
	late.Learn(a.key.Public(), a.Addrs())
	mustConnect(t, a, b)
	if err := late.Connect(short10(t), a.key.Public()); !errors.Is(err, ErrRefused) {
		t.Fatalf("Connect before approval: got %v, want refused", err)
	}
	a.members.Store(late.addr, true)
	mustConnect(t, late, a)
	late.mustHear(a, Offers, "to the late one")
	a.mustHear(late, Members, "from the late one")
	late.mustHear(b, Beats, "through the one between")
}

func TestGossipRecoversFromHalfABrokenPair(t *testing.T) {
	a, b := pair(t, nil)
	mustConnect(t, a, b)
	b.mustHear(a, Offers, "before")
	a.mustHear(b, Offers, "before")
	for _, c := range b.host.Network().ConnsToPeer(a.host.ID()) {
		for _, s := range c.GetStreams() {
			if s.Stat().Direction == network.DirOutbound && strings.HasPrefix(string(s.Protocol()), "/meshsub/") {
				_ = s.Reset()
			}
		}
	}
	a.mustHear(b, Offers, "after")
	b.mustHear(a, Offers, "after")
}

func TestTopicsAreTakenAsAsked(t *testing.T) {
	a, b := pair(t, nil)
	mustConnect(t, a, b)
	b.mustHear(a, Offers, "warm")
	if err := a.Publish(short10(t), Bids, []byte("a bid nobody takes")); err != nil {
		t.Fatal(err)
	}
	if err := b.Subscribe(Bids); err != nil {
		t.Fatal(err)
	}
	b.mustHear(a, Bids, "a bid for those who ask")
	b.Unsubscribe(Bids)
	b.Unsubscribe(Members) // stays
	b.mustHear(a, Members, "for all")
	if err := a.Subscribe("gold"); err == nil {
		t.Fatal("Subscribe of an unknown topic: got nil, want an error")
	}
}

func TestVerdictsDecideWhatIsDelivered(t *testing.T) {
	a, b := pair(t, nil)
	mustConnect(t, a, b)
	b.mustHear(a, Offers, "warm")
	for _, m := range []string{"?late", "good"} {
		if err := a.Publish(short10(t), Members, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	b.mustNotHearUntil("good")
	if err := a.Publish(short10(t), Members, bytes.Repeat([]byte("x"), GossipLimit)); err != nil {
		t.Fatalf("Publish at the limit: %v", err)
	}
	got := <-b.heard
	if len(got.data) != GossipLimit {
		t.Fatalf("got %d bytes, want %d", len(got.data), GossipLimit)
	}
	if err := a.Publish(short10(t), Members, make([]byte, GossipLimit+1)); !errors.Is(err, wire.ErrTooLarge) {
		t.Fatalf("Publish over the limit: got %v, want ErrTooLarge", err)
	}
	select {
	case m := <-a.heard:
		t.Fatalf("own message %q was delivered", m.data)
	default:
	}
}

func TestRejectedGossipCostsStanding(t *testing.T) {
	a, b := pair(t, nil)
	mustConnect(t, a, b)
	b.mustHear(a, Offers, "warm")
	for i := range 3 {
		_ = a.Publish(short10(t), Offers, fmt.Appendf(nil, "!broken %d", i))
	}
	// Two invalid messages put a peer below the graylist threshold: nothing more of it is taken.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	silent := 0
	for i := 0; silent < 10; i++ {
		if i > 200 {
			t.Fatal("still heard after invalid messages")
		}
		_ = a.Publish(short10(t), Offers, fmt.Appendf(nil, "after %d", i))
		<-tick.C
		select {
		case <-b.heard:
			silent = 0
		default:
			silent++
		}
	}
}

func TestPublishNeedsAMarket(t *testing.T) {
	a := start(t, setup{key: 1, members: &sync.Map{}})
	if err := a.Publish(short10(t), Offers, []byte("x")); !errors.Is(err, ErrNoMarket) {
		t.Fatalf("got %v, want ErrNoMarket", err)
	}
	for _, id := range []string{"", "xyz", "AA", strings.Repeat("a", 65)} {
		if err := a.SetMarket(id); err == nil {
			t.Errorf("SetMarket(%q): got nil, want an error", id)
		}
	}
	if err := errors.Join(a.SetMarket(testMarket), a.SetMarket(testMarket), a.Publish(short10(t), Offers, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	if err := a.SetMarket("bb"); err == nil {
		t.Error("another market: got nil, want an error")
	}
}

func TestRefusedHelloGivesTypedReason(t *testing.T) {
	long := strings.Repeat("é", 400)
	for _, want := range []*Refusal{
		Refuse(CodeClock, "your clock is 200 s ahead"), Refuse(CodeOtherMarket, "not ours"),
		Refuse(CodeBusy, "later"), Refuse(CodeOfNode+1, "%s", long),
	} {
		t.Run(want.Code.String(), func(t *testing.T) {
			a, b := pair(t, func(s *setup) {
				s.handlers = func(h *Handlers) {
					h.Hello = func(context.Context, identity.PublicKey, wire.Frame) *Refusal { return want }
				}
			})
			var no *Refusal
			eventually(t, "a refusal", func() error {
				err := a.Connect(short10(t), b.key.Public())
				if !errors.As(err, &no) {
					return fmt.Errorf("got %v", err)
				}
				if errors.Is(err, ErrUntrusted) || !errors.Is(err, ErrRefused) || errors.Is(err, ErrBusy) != (want.Code == CodeBusy) {
					t.Fatalf("%v is of the wrong kind", err)
				}
				return nil
			})
			if *no != *want || len(no.Reason) > reasonLimit {
				t.Fatalf("got %v, want %v", no, want)
			}
			// The other way: the dialer is the one that says no.
			err := b.Connect(short10(t), a.key.Public())
			if !errors.Is(err, ErrUntrusted) || !errors.As(err, &no) || no.Code != want.Code {
				t.Fatalf("got %v, want ErrUntrusted with %v", err, want.Code)
			}
			for _, n := range []*peerNode{a, b} {
				if ps := n.Peers(); len(ps) != 0 {
					t.Fatalf("peers after a refusal: %+v", ps)
				}
			}
		})
	}
}

func TestRevokedIsRefusedAndDropped(t *testing.T) {
	a, b := pair(t, nil)
	mustConnect(t, a, b)
	a.mustEvent("up " + b.addr.String())
	b.mustEvent("up " + a.addr.String())
	a.revoked.Store(b.addr, true)
	a.Drop(b.addr)
	a.mustEvent("down " + b.addr.String())
	b.mustEvent("down " + a.addr.String())
	if err := a.Connect(short10(t), b.key.Public()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("dialling a revoked peer: got %v, want ErrUntrusted", err)
	}
	if err := b.Connect(short10(t), a.key.Public()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("dialled by a revoked peer: got %v at its side, want ErrUnreachable", err)
	}
	if ps := a.Peers(); len(ps) != 0 {
		t.Errorf("peers: got %+v, want none", ps)
	}
}

func TestLobbyIsBoundedAndShort(t *testing.T) {
	a := start(t, setup{key: 1, members: &sync.Map{}})
	a.roster.mu.Lock()
	a.roster.stay = 700 * time.Millisecond // a shorter stay than strangers get, so that the test is short
	a.roster.mu.Unlock()
	at := peer.AddrInfo{ID: a.host.ID(), Addrs: a.host.Addrs()}
	var in int
	for i := range strangersLimit + 8 {
		h := bareHost(t, byte(10+i))
		if h.Connect(short10(t), at) == nil {
			in++
		}
	}
	most := func() int {
		a.roster.mu.Lock()
		defer a.roster.mu.Unlock()
		return a.roster.strangers
	}()
	if most > strangersLimit {
		t.Fatalf("%d strangers in the lobby, limit %d", most, strangersLimit)
	}
	if in == 0 {
		t.Fatal("no stranger came in at all")
	}
	eventually(t, "an empty lobby", func() error {
		a.roster.mu.Lock()
		defer a.roster.mu.Unlock()
		if n := a.roster.strangers; n != 0 || len(a.roster.byAddr) != 0 {
			return fmt.Errorf("%d strangers, %d links", n, len(a.roster.byAddr))
		}
		return nil
	})
}

// bareHost is a libp2p host with a key of the right kind and none of our manners.
func bareHost(t *testing.T, b byte) host.Host {
	t.Helper()
	k, err := privateKey(testKey(b))
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(libp2p.Identity(k), libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func TestOtherKindsOfKeysDoNotComeIn(t *testing.T) {
	a := start(t, setup{key: 1, members: &sync.Map{}})
	k, _, _ := lcrypto.GenerateEd25519Key(nil2rand{})
	h, err := libp2p.New(libp2p.Identity(k), libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	_ = h.Connect(short10(t), peer.AddrInfo{ID: a.host.ID(), Addrs: a.host.Addrs()}) // may seem to succeed
	eventually(t, "no connection", func() error {
		if n := len(h.Network().Conns()); n > 0 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
}

// raw opens a stream of an admitted peer around the client code.
func raw(t *testing.T, from, to *peerNode, p Protocol) network.Stream {
	t.Helper()
	s, err := from.host.NewStream(short10(t), to.host.ID(), protocol.ID(p))
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(patience))
	return s
}

func TestBadFramesAreRefused(t *testing.T) {
	a, b := pair(t, nil)
	mustConnect(t, a, b)
	ok, _ := encodeFrame(wire.Frame{Op: 1})
	for name, bad := range map[string][]byte{
		"oversize":  binary.BigEndian.AppendUint32(nil, wire.FrameLimit+1),
		"huge":      {0xff, 0xff, 0xff, 0xff},
		"garbage":   append(binary.BigEndian.AppendUint32(nil, 64), bytes.Repeat([]byte{0xa5}, 64)...),
		"no array":  {0, 0, 0, 1, 0},
		"trailing":  append(binary.BigEndian.AppendUint32(nil, uint32(len(ok)-4+1)), append(ok[4:], 0)...),
		"cut short": ok[:len(ok)-1],
	} {
		for _, p := range []Protocol{ProtoLease, ProtoLogs, protoHello} {
			s := raw(t, a, b, p)
			_, _ = s.Write(bad)
			_ = s.CloseWrite()
			var no *Refusal
			if err := readReply(s, &wire.Frame{}); !errors.As(err, &no) || no.Code != CodeBadFrame {
				t.Errorf("%s on %s: got %v, want bad-frame", name, p, err)
			}
			_ = s.Reset()
		}
	}
	if n := b.asked.Load(); n != 0 {
		t.Errorf("handler saw %d bad requests", n)
	}
	if _, err := a.Request(short10(t), b.addr, ProtoLease, wire.Frame{Body: make([]byte, wire.FrameLimit)}); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("own frame over the limit: got %v, want ErrTooLarge", err)
	}
	big := make([]byte, wire.FrameLimit-64)
	if got, err := a.Request(short10(t), b.addr, ProtoLease, wire.Frame{Body: big}); err != nil || len(got.Body) < len(big) {
		t.Errorf("frame just under the limit: got %d bytes, %v", len(got.Body), err)
	}
}

func TestLengthPrefixTakesNoMemory(t *testing.T) {
	promise := append(binary.BigEndian.AppendUint32(nil, wire.FrameLimit), 1, 2, 3)
	over := binary.BigEndian.AppendUint32(nil, wire.FrameLimit+1)
	for _, in := range [][]byte{promise, over} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			var f wire.Frame
			if err := readFrame(bytes.NewReader(in), wire.FrameLimit, &f); !errors.Is(err, errFrame) {
				t.Fatalf("got %v, want a bad frame", err)
			}
		}
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) / 100; took > 8<<10 {
			t.Errorf("a frame of %d bytes that announces %d took %d bytes", len(in), binary.BigEndian.Uint32(in), took)
		}
	}
}

func TestSlowPeerHitsTheDeadline(t *testing.T) {
	t.Parallel()
	a, b := pair(t, nil)
	mustConnect(t, a, b)
	s := raw(t, a, b, ProtoLease)
	_, _ = s.Write([]byte{0, 0, 0, 9, 0x83}) // and never the rest
	begun := time.Now()
	_, err := s.Read(make([]byte, 1))
	var reset *network.StreamError
	if !errors.As(err, &reset) || !reset.Remote {
		t.Fatalf("got %v, want a reset by the other side", err)
	}
	if took := time.Since(begun); took < requestDeadline/2 {
		t.Errorf("cut after %v, deadline %v", took, requestDeadline)
	}
}

func TestSilentHandlerHitsTheCallersDeadline(t *testing.T) {
	block := make(chan struct{})
	a, b := pair(t, func(s *setup) {
		s.handlers = func(h *Handlers) {
			h.Request = func(ctx context.Context, _ identity.PublicKey, _ Protocol, _ wire.Frame) (wire.Frame, error) {
				select {
				case <-block:
				case <-ctx.Done():
				}
				return wire.Frame{}, nil
			}
		}
	})
	defer close(block)
	mustConnect(t, a, b)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := a.Request(ctx, b.addr, ProtoLease, wire.Frame{})
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want ErrUnreachable by deadline", err)
	}
	if !a.linked(b.host.ID()) {
		t.Error("the link ended though the peer still answers pings")
	}
}

func TestTooManyRequestsAreBusy(t *testing.T) {
	block := make(chan struct{})
	entered := make(chan struct{}, 2*requestsOfPeer)
	a, b := pair(t, func(s *setup) {
		s.handlers = func(h *Handlers) {
			h.Request = func(context.Context, identity.PublicKey, Protocol, wire.Frame) (wire.Frame, error) {
				entered <- struct{}{}
				<-block
				return wire.Frame{}, nil
			}
		}
	})
	mustConnect(t, a, b)
	var wg sync.WaitGroup
	for range requestsOfPeer {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := a.Request(short10(t), b.addr, ProtoLease, wire.Frame{}); err != nil {
				t.Errorf("Request within the limit: %v", err)
			}
		}()
	}
	for range requestsOfPeer {
		select {
		case <-entered:
		case <-time.After(patience):
			close(block)
			t.Fatal("not all requests within the limit were served at once")
		}
	}
	// Our own client waits for a place; a rude one is told.
	s := raw(t, a, b, ProtoLease)
	body, _ := encodeFrame(wire.Frame{})
	_, _ = s.Write(body)
	if err := readReply(s, &wire.Frame{}); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: got %v, want busy", err)
	}
	close(block)
	wg.Wait()
}

func TestTooFastIsBusy(t *testing.T) {
	a, b := pair(t, nil)
	mustConnect(t, a, b)
	b.roster.find(a.host.ID()).rate.SetBurst(1)
	b.roster.find(a.host.ID()).rate.SetLimit(0.001)
	var err error
	for range 3 {
		_, err = a.Request(short10(t), b.addr, ProtoLease, wire.Frame{})
	}
	if !errors.Is(err, ErrBusy) || !errors.Is(err, ErrRefused) {
		t.Fatalf("got %v, want busy", err)
	}
}

func TestHandlersRefusalIsTypedAndErrorsAreNotTold(t *testing.T) {
	a, b := pair(t, func(s *setup) {
		s.handlers = func(h *Handlers) {
			h.Request = func(_ context.Context, _ identity.PublicKey, p Protocol, _ wire.Frame) (wire.Frame, error) {
				if p == ProtoBank {
					return wire.Frame{}, fmt.Errorf("bank: %w", Refuse(CodeOfNode+7, "no funds"))
				}
				return wire.Frame{}, errors.New("the password is swordfish")
			}
		}
	})
	mustConnect(t, a, b)
	var no *Refusal
	if _, err := a.Request(short10(t), b.addr, ProtoBank, wire.Frame{}); !errors.As(err, &no) || no.Code != CodeOfNode+7 || no.Reason != "no funds" {
		t.Fatalf("got %v, want code-263 %q", err, "no funds")
	}
	if _, err := a.Request(short10(t), b.addr, ProtoLease, wire.Frame{}); !errors.As(err, &no) || no.Code != CodeInternal || strings.Contains(no.Reason, "swordfish") {
		t.Fatalf("got %v, want internal without its text", err)
	}
	if _, err := a.Request(short10(t), b.addr, "/souk/other/9", wire.Frame{}); !errors.As(err, &no) || no.Code != CodeUnsupported {
		t.Fatalf("unknown protocol: got %v, want unsupported", err)
	}
}

func TestUnknownAndAbsentPeers(t *testing.T) {
	a := start(t, setup{key: 1, members: &sync.Map{}})
	ghost := testKey(99)
	if _, err := a.Request(short10(t), ghost.Address(), ProtoSync, wire.Frame{}); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("no key known: got %v, want ErrUnknownPeer", err)
	}
	a.Learn(ghost.Public(), []string{"/dns4/evil.example/tcp/1", "/ip4/0.0.0.0/tcp/1", "/ip4/127.0.0.1/tcp/0", "nonsense"})
	if _, err := a.Request(short10(t), ghost.Address(), ProtoSync, wire.Frame{}); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("no usable address: got %v, want ErrUnknownPeer", err)
	}
	// A port that was free a moment ago.
	gone := start(t, setup{key: 99, members: a.members})
	addrs := gone.Addrs()
	gone.stop()
	a.Learn(ghost.Public(), addrs)
	if _, err := a.Request(short10(t), ghost.Address(), ProtoSync, wire.Frame{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody at home: got %v, want ErrUnreachable", err)
	}
	if _, err := a.Request(short10(t), a.addr, ProtoSync, wire.Frame{}); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("oneself: got %v, want ErrUnknownPeer", err)
	}
}

func TestLinkIsBackSoonAfterRestart(t *testing.T) {
	for _, kind := range []string{"tcp", "quic"} {
		t.Run(kind, func(t *testing.T) {
			a, b := pair(t, func(s *setup) {
				if kind == "quic" {
					s.listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1"}
				} else {
					s.listen = []string{"/ip4/127.0.0.1/tcp/0"}
				}
			})
			a.Maintain([]identity.PublicKey{b.key.Public()})
			a.mustEvent("up " + b.addr.String())
			b.mustHear(a, Offers, "before")
			var listen []string
			for _, m := range b.Addrs() {
				listen = append(listen, strings.Split(m, "/p2p/")[0])
			}
			b.stop()
			a.mustEvent("down " + b.addr.String())
			again := start(t, setup{key: 2, members: a.members, market: testMarket, listen: listen})
			begun := time.Now()
			a.mustEvent("up " + b.addr.String())
			if took := time.Since(begun); took > 4*time.Second {
				t.Errorf("link back after %v, want about 2 s", took)
			}
			again.mustHear(a, Offers, "after")
			a.mustHear(again, Offers, "after")
		})
	}
}

func TestNewProcessOfAPeerReplacesItsOldLink(t *testing.T) {
	a, b := pair(t, nil)
	mustConnect(t, b, a)
	a.mustEvent("up " + b.addr.String())
	old := a.host.Network().ConnsToPeer(b.host.ID())
	// The same key from another process, while a still thinks that the first one lives.
	again := start(t, setup{key: 2, members: a.members, market: testMarket})
	again.Learn(a.key.Public(), a.Addrs())
	mustConnect(t, again, a)
	a.mustEvent("down " + b.addr.String())
	a.mustEvent("up " + b.addr.String())
	eventually(t, "the end of the old connection", func() error {
		for _, c := range old {
			if !c.IsClosed() {
				return fmt.Errorf("%v is open", c)
			}
		}
		return nil
	})
	if _, err := a.Request(short10(t), b.addr, ProtoSync, wire.Frame{}); err != nil {
		t.Fatal(err)
	}
	if n := again.asked.Load(); n != 1 {
		t.Fatalf("the new process got %d requests, want 1", n)
	}
}

func TestLostAdmissionIsRepairedByTheNextRequest(t *testing.T) {
	a, b := pair(t, nil)
	mustConnect(t, a, b)
	b.roster.expel(b.roster.find(a.host.ID())) // b forgets, a does not know
	if _, err := a.Request(short10(t), b.addr, ProtoSync, wire.Frame{}); err != nil {
		t.Fatalf("got %v, want an answer after another hello", err)
	}
}

func TestStrangersAreServedNothingElse(t *testing.T) {
	a, b := pair(t, nil)
	mustConnect(t, a, b)
	open := map[protocol.ID]bool{ // libp2p's own identify, and ours
		"/ipfs/id/1.0.0": true, "/ipfs/id/push/1.0.0": true, protocol.ID(protoHello): true, protocol.ID(ProtoJoin): true,
	}
	h := bareHost(t, 77)
	if err := h.Connect(short10(t), peer.AddrInfo{ID: a.host.ID(), Addrs: a.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	for _, p := range a.host.Mux().Protocols() {
		if open[p] {
			continue
		}
		s, err := h.NewStream(short10(t), a.host.ID(), p)
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		_ = s.SetDeadline(time.Now().Add(patience))
		_, _ = s.Write([]byte{0})
		if _, err := s.Read(make([]byte, 1)); !isStranger(err) {
			t.Errorf("%s is open to strangers: got %v, want a reset", p, err)
		}
	}
}

func TestNobodyComesInBeforeRun(t *testing.T) {
	a, b := pair(t, func(s *setup) { s.idle = true })
	if err := a.Connect(short10(t), b.key.Public()); !errors.Is(err, ErrUnreachable) {
		t.Fatalf("got %v, want ErrUnreachable", err)
	}
}

func TestStreamsCarryBytesBothWays(t *testing.T) {
	a, b := pair(t, func(s *setup) {
		s.handlers = func(h *Handlers) {
			h.Stream = func(_ context.Context, _ identity.PublicKey, p Protocol, f wire.Frame, s *Stream) error {
				switch string(f.Body) {
				case "refuse":
					return Refuse(CodeOfNode+1, "no such pod")
				case "break":
					_, _ = io.ReadFull(s, make([]byte, 1))
					return errors.New("pod vanished")
				case "empty":
					return nil
				}
				if err := s.Accept(wire.Frame{Op: 9}); err != nil {
					return err
				}
				_, err := io.Copy(s, s)
				return err
			}
		}
	})
	open := func(body string) (*Stream, error) {
		return a.OpenStream(short10(t), b.addr, ProtoSSH, wire.Frame{Body: []byte(body)})
	}
	s, err := open("echo")
	if err != nil || s.Answer().Op != 9 {
		t.Fatalf("OpenStream: got %v, want the answer 9", err)
	}
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, _ = s.Write(want)
		_ = s.CloseWrite()
	}()
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("echo: got %d bytes, %v; want %d", len(got), err, len(want))
	}
	_ = s.Close()

	var no *Refusal
	if _, err := open("refuse"); !errors.As(err, &no) || no.Reason != "no such pod" {
		t.Fatalf("got %v, want the refusal", err)
	}
	if s, err = open("break"); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Write([]byte("x"))
	if _, err := io.ReadAll(s); err == nil {
		t.Fatal("a stream whose handler failed ended as if it were whole")
	}
	if s, err = open("empty"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err != nil || len(got) > 0 {
		t.Fatalf("got %q, %v; want the end", got, err)
	}
	if _, err := a.OpenStream(short10(t), b.addr, ProtoSync, wire.Frame{}); err == nil {
		t.Fatal("OpenStream on a request protocol: got nil, want an error")
	}
}

func TestStreamEndsWithItsLink(t *testing.T) {
	ended := make(chan struct{})
	a, b := pair(t, func(s *setup) {
		s.handlers = func(h *Handlers) {
			h.Stream = func(ctx context.Context, _ identity.PublicKey, _ Protocol, _ wire.Frame, s *Stream) error {
				_ = s.Accept(wire.Frame{})
				<-ctx.Done()
				close(ended)
				return ctx.Err()
			}
		}
	})
	if _, err := a.OpenStream(short10(t), b.addr, ProtoLogs, wire.Frame{}); err != nil {
		t.Fatal(err)
	}
	b.Drop(a.addr)
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("handler outlived the link")
	}
}

func TestConnectByTypedAddress(t *testing.T) {
	a, b := pair(t, nil)
	c := start(t, setup{key: 3, members: a.members})
	a.members.Store(c.addr, true)
	var err error
	eventually(t, "a link", func() error {
		var pub identity.PublicKey
		pub, err = c.ConnectAddr(short10(t), a.Addrs()[0])
		if err == nil && pub != a.key.Public() {
			t.Fatalf("got key %x, want %x", pub, a.key.Public())
		}
		return err
	})
	for _, bad := range []string{"", "nonsense", "/ip4/127.0.0.1/tcp/1", "/p2p/" + b.host.ID().String()} {
		if _, err := c.ConnectAddr(short10(t), bad); err == nil {
			t.Errorf("ConnectAddr(%q): got nil, want an error", bad)
		}
	}
}

func TestClaimsThatCannotBeDialledAreLeftOut(t *testing.T) {
	id, _ := PeerID(testKey(1).Public())
	other, _ := PeerID(testKey(2).Public())
	in := []string{
		"/ip4/10.0.0.1/tcp/4301", "/ip4/10.0.0.1/tcp/4301", "/ip6/::1/udp/9/quic-v1/p2p/" + id.String(),
		"/ip4/10.0.0.1/tcp/4301/p2p/" + other.String(), "/dns4/x.example/tcp/1", "/ip4/0.0.0.0/tcp/1", "/ip4/1.2.3.4/tcp/0",
		"/ip4/1.2.3.4/udp/5", "/ip4/1.2.3.4/tcp/5/ws", "/unix/x", "", "x",
	}
	var got []string
	for _, m := range claimed(id, in) {
		got = append(got, m.String())
	}
	want := "/ip4/10.0.0.1/tcp/4301 /ip6/::1/udp/9/quic-v1"
	if strings.Join(got, " ") != want {
		t.Errorf("claimed: got %v, want %s", got, want)
	}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("/ip4/10.0.0.1/tcp/%d", i+1))
	}
	if n := len(claimed(id, many)); n != addressesOfPeer {
		t.Errorf("claimed of 100: got %d, want %d", n, addressesOfPeer)
	}
}

func TestTCPIsDialledFirst(t *testing.T) {
	q, _ := ma.NewMultiaddr("/ip4/10.0.0.1/udp/1/quic-v1")
	c, _ := ma.NewMultiaddr("/ip4/10.0.0.1/tcp/1")
	got := tcpFirst([]ma.Multiaddr{q, c})
	if len(got) != 2 || !got[0].Addr.Equal(c) || got[0].Delay != 0 || got[1].Delay == 0 {
		t.Errorf("both: got %v, want TCP at once and QUIC later", got)
	}
	if got = tcpFirst([]ma.Multiaddr{q}); len(got) != 1 || got[0].Delay != 0 {
		t.Errorf("QUIC alone: got %v, want no delay", got)
	}
}

func TestBackoffIsFastAtFirstAndBounded(t *testing.T) {
	for i, want := range []time.Duration{250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000} {
		want *= time.Millisecond
		for range 100 {
			if got := backoff(i, ErrUnreachable); got < want-want/10 || got > want+want/10 {
				t.Fatalf("after %d failures: got %v, want about %v", i, got, want)
			}
		}
	}
	if got := backoff(0, Refuse(CodeNoCredential, "")); got < 4*time.Second {
		t.Errorf("after a refusal: got %v, want about 5 s", got)
	}
	if got := backoff(0, Refuse(CodeBusy, "")); got > time.Second {
		t.Errorf("after busy: got %v, want a quarter of a second", got)
	}
}

func TestRunEndsClean(t *testing.T) {
	settle := func() int {
		n := runtime.NumGoroutine()
		for range 100 {
			<-time.After(20 * time.Millisecond)
			if m := runtime.NumGoroutine(); m == n {
				break
			} else {
				n = m
			}
		}
		return n
	}
	a0 := start(t, setup{key: 8, members: &sync.Map{}}) // libp2p's own globals start with the first host
	a0.stop()
	before := settle()
	a, b := pair(t, nil)
	mustConnect(t, a, b)
	a.mustHear(b, Offers, "hello")
	a.stop()
	b.stop()
	if err := a.Connect(short10(t), b.key.Public()); !errors.Is(err, ErrClosed) {
		t.Errorf("Connect after Run: got %v, want ErrClosed", err)
	}
	if err := a.Run(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("second Run: got %v, want ErrClosed", err)
	}
	deadline := time.Now().Add(patience)
	for after := settle(); after > before+2; after = settle() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("goroutines: %d before, %d after\n%s", before, after, buf[:runtime.Stack(buf, true)])
		}
	}
}
