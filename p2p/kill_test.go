package p2p

import (
	"bufio"
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// childListen makes the test binary a node of its own, which the test can kill.
const childListen = "SOUK_P2P_CHILD_LISTEN"

func TestMain(m *testing.M) {
	if listen := os.Getenv(childListen); listen != "" {
		child(listen)
		return
	}
	os.Exit(m.Run())
}

// child is member 2; it admits everybody and prints its addresses.
func child(listen string) {
	n, err := New(Config{Key: testKey(2), Listen: strings.Fields(listen), MarketID: testMarket}, Handlers{
		Hello:    func(context.Context, identity.PublicKey, wire.Frame) *Refusal { return nil },
		Validate: func(_ context.Context, _ Topic, b []byte) (any, Verdict) { return string(b), Accept },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(strings.Join(n.Addrs(), " "))
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		for i := 0; ; i++ {
			<-tick.C
			_ = n.Publish(context.Background(), Beats, fmt.Appendf(nil, "%d of %d", i, n.boot))
		}
	}()
	_ = n.Run(context.Background())
}

// spawnChild starts member 2 as a process and returns its addresses.
func spawnChild(t *testing.T, listen string) (*osexec.Cmd, []string) {
	t.Helper()
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childListen+"="+listen)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("child said nothing: %v", err)
	}
	return cmd, strings.Fields(line)
}

func TestLinkIsBackSoonAfterKill(t *testing.T) {
	for name, listen := range map[string]string{
		"tcp and quic": "/ip4/127.0.0.1/tcp/0 /ip4/127.0.0.1/udp/0/quic-v1",
		"quic":         "/ip4/127.0.0.1/udp/0/quic-v1",
	} {
		t.Run(name, func(t *testing.T) {
			a := start(t, setup{key: 1, members: &sync.Map{}, market: testMarket})
			b := testKey(2)
			a.members.Store(b.Address(), true)
			cmd, addrs := spawnChild(t, listen)
			a.Learn(b.Public(), addrs)
			a.Maintain([]identity.PublicKey{b.Public()})
			a.mustEvent("up " + b.Address().String())
			first := heardFrom(t, a, "")
			for range 2 {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				var same []string
				for _, m := range addrs {
					same = append(same, strings.Split(m, "/p2p/")[0])
				}
				cmd, _ = spawnChild(t, strings.Join(same, " "))
				begun := time.Now()
				a.mustEvent("down " + b.Address().String())
				a.mustEvent("up " + b.Address().String())
				link := time.Since(begun)
				first = heardFrom(t, a, first)
				t.Logf("link back after %v, gossip after %v", link, time.Since(begun))
				if link > 4*time.Second {
					t.Errorf("link back after %v, want about 2 s", link)
				}
			}
		})
	}
}

// heardFrom waits for gossip of a process other than old, and names that process.
func heardFrom(t *testing.T, a *peerNode, old string) string {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case m := <-a.heard:
			_, who, _ := strings.Cut(m.data, " of ")
			if who != old {
				return who
			}
		case <-late:
			t.Fatalf("no gossip from another process than %q", old)
		}
	}
}

func TestTwoThatWantEachOtherLink(t *testing.T) {
	for i := range 5 {
		a, b := pair(t, nil)
		a.Maintain([]identity.PublicKey{b.key.Public()})
		b.Maintain([]identity.PublicKey{a.key.Public()})
		a.mustEvent("up " + b.addr.String())
		b.mustEvent("up " + a.addr.String())
		b.mustHear(a, Offers, fmt.Sprint("there ", i))
		a.mustHear(b, Offers, fmt.Sprint("back ", i))
		a.stop()
		b.stop()
	}
}
