package p2p

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// testMarket is the id of the market in these tests.
const testMarket = "00000000000000000000000000000000000000000000000000000000000000aa"

// patience is how long a test waits for what must happen; a loaded machine under the race detector is slow.
const patience = 20 * time.Second

func testKey(b byte) *identity.PrivateKey {
	raw := make([]byte, 32)
	raw[0], raw[31] = 1, b
	k, err := identity.ParsePrivateKey(raw)
	if err != nil {
		panic(err)
	}
	return k
}

// said is a gossip message that was delivered.
type said struct {
	topic Topic
	data  string
}

// A peerNode is a node under test with a shell that admits members and echoes requests.
type peerNode struct {
	*Node
	t    *testing.T
	key  *identity.PrivateKey
	addr identity.Address
	stop func()

	members  *sync.Map // identity.Address → true; shared by the nodes of a test
	revoked  sync.Map
	joinOpen atomic.Bool
	asked    atomic.Int64 // requests that reached the handler
	heard    chan said
	events   chan string // "up ADDRESS", "down ADDRESS"
}

type setup struct {
	key      byte
	listen   []string
	members  *sync.Map
	market   string
	handlers func(*Handlers)
	idle     bool // Run is not started
}

func start(t *testing.T, s setup) *peerNode {
	t.Helper()
	key := testKey(s.key)
	p := &peerNode{
		t: t, key: key, addr: key.Address(), members: s.members,
		heard: make(chan said, 1024), events: make(chan string, 1024),
	}
	h := Handlers{
		HelloFrame: func() wire.Frame { return wire.Frame{Op: 1, Body: []byte{s.key}} },
		Hello: func(_ context.Context, k identity.PublicKey, f wire.Frame) *Refusal {
			a, _ := k.Address()
			if _, ok := p.members.Load(a); !ok {
				return Refuse(CodeNoCredential, "no operator vouches for %s", a)
			}
			return nil
		},
		Request: func(_ context.Context, _ identity.PublicKey, proto Protocol, f wire.Frame) (wire.Frame, error) {
			p.asked.Add(1)
			f.Body = append([]byte(string(proto)+" "), f.Body...)
			return f, nil
		},
		Validate: func(_ context.Context, _ Topic, data []byte) (any, Verdict) {
			switch {
			case len(data) > 0 && data[0] == '!':
				return nil, Reject
			case len(data) > 0 && data[0] == '?':
				return nil, Ignore
			}
			return string(data), Accept
		},
		Deliver:       func(topic Topic, v any) { p.heard <- said{topic, v.(string)} },
		PeerUp:        func(a identity.Address) { p.events <- "up " + a.String() },
		PeerDown:      func(a identity.Address) { p.events <- "down " + a.String() },
		Revoked:       func(a identity.Address) bool { _, ok := p.revoked.Load(a); return ok },
		LobbyJoinOpen: p.joinOpen.Load,
	}
	if s.handlers != nil {
		s.handlers(&h)
	}
	listen := s.listen
	if listen == nil {
		listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
	}
	level := slog.LevelWarn
	if os.Getenv("SOUK_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("node", s.key)
	n, err := New(Config{Key: key, Listen: listen, MarketID: s.market, Version: "test", Log: log}, h)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	p.Node = n
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	if s.idle {
		close(done)
	} else {
		go func() {
			defer close(done)
			if err := n.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		}()
	}
	p.stop = sync.OnceFunc(func() { cancel(); <-done; n.Close() })
	t.Cleanup(p.stop)
	return p
}

// pair is two members of one market that have learnt each other's addresses.
func pair(t *testing.T, change func(*setup)) (a, b *peerNode) {
	t.Helper()
	members := &sync.Map{}
	one := setup{key: 1, members: members, market: testMarket}
	two := setup{key: 2, members: members, market: testMarket}
	if change != nil {
		change(&two)
	}
	a, b = start(t, one), start(t, two)
	members.Store(a.addr, true)
	members.Store(b.addr, true)
	a.Learn(b.key.Public(), b.Addrs())
	b.Learn(a.key.Public(), a.Addrs())
	return a, b
}

func short10(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// mustConnect links a with b.
func mustConnect(t *testing.T, a, b *peerNode) {
	t.Helper()
	eventually(t, "a link", func() error { return a.Connect(short10(t), b.key.Public()) })
}

// eventually polls until f returns nil. The network has no event for "gossip has settled".
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		<-tick.C
	}
}

func (p *peerNode) mustEvent(want string) {
	p.t.Helper()
	select {
	case got := <-p.events:
		if got != want {
			p.t.Fatalf("event: got %q, want %q", got, want)
		}
	case <-time.After(patience):
		p.t.Fatalf("event: got none, want %q", want)
	}
}

// mustHear publishes on from until p hears it, with new bytes each time since the mesh forms while we speak.
func (p *peerNode) mustHear(from *peerNode, topic Topic, text string) {
	p.t.Helper()
	for i := range 400 {
		msg := fmt.Sprintf("%s %d %s", text, i, from.addr) // other bytes than anybody else's
		if err := from.Publish(short10(p.t), topic, []byte(msg)); err != nil {
			p.t.Fatalf("Publish: %v", err)
		}
		wait := time.After(50 * time.Millisecond)
		for {
			select {
			case got := <-p.heard:
				if got.topic != topic || len(got.data) < len(text) || got.data[:len(text)] != text {
					continue
				}
				return
			case <-wait:
			}
			break
		}
	}
	p.t.Fatalf("%s never heard %q of %s", p.addr, text, from.addr)
}

// mustNotHear fails if anything that was published is delivered before the sentinel that follows it.
func (p *peerNode) mustNotHearUntil(sentinel string) {
	p.t.Helper()
	for {
		select {
		case got := <-p.heard:
			if got.data == sentinel {
				return
			}
			p.t.Fatalf("delivered %q, want only %q", got.data, sentinel)
		case <-time.After(patience):
			p.t.Fatalf("%q was not delivered", sentinel)
		}
	}
}
