package node

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"souk/node/config"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Whatever a peer does, the core hears what became of each of its questions.
func TestSilentPeerIsToldToTheCore(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	secret, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := identity.NewPrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, "asker", func(c *config.Config) { c.Roles = []string{"consumer"} })
	_, port, _ := net.SplitHostPort(silent.Addr().String())
	r.net.Learn(peer.Public(), []string{"/ip4/127.0.0.1/tcp/" + port})

	n := &Node{net: r.net, self: r.self, inbox: make(chan step.Input, inboxSize)}
	n.opener.Store(r.opener.Load())
	const asked = 40
	for i := range uint64(asked) {
		n.send(context.Background(), step.Send{ID: i, To: peer.Address(), Proto: step.ProtoLease, Frame: wire.Frame{}, Wait: 50 * member.Time(1)})
	}
	for i := range asked {
		select {
		case in := <-n.inbox:
			if v, ok := in.(step.Response); !ok || v.Err == nil {
				t.Fatalf("input %d is %#v, want a failure", i, in)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%d of %d questions were answered", i, asked)
		}
	}
}
