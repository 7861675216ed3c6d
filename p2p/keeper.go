package p2p

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"souk/p2p/identity"
)

// A keeper keeps the links that the node above wants: it redials what is not up and pings what is.
type keeper struct {
	n    *Node
	kick chan struct{} // of capacity 1: look again
	mend chan struct{} // of capacity 1: gossip, look again

	mu    sync.Mutex // guards wants; never held across I/O
	wants map[peer.ID]*want
	busy  int // dials under way
}

// A want is a peer to stay linked with.
type want struct {
	tries   int // failures in a row
	next    time.Time
	dialing bool
}

func newKeeper(n *Node) *keeper {
	return &keeper{n: n, kick: make(chan struct{}, 1), mend: make(chan struct{}, 1), wants: map[peer.ID]*want{}}
}

// Maintain names the peers to stay linked with, instead of those named before. Links with others are left as they are. A
// peer of whom no address is known is linked with once Learn tells one.
func (n *Node) Maintain(pubs []identity.PublicKey) {
	k := n.keeper
	manager := n.host.ConnManager()
	named := map[peer.ID]bool{}
	for _, pub := range pubs {
		id, err := PeerID(pub)
		if err != nil || id == n.host.ID() {
			continue
		}
		n.book.learn(pub, nil)
		named[id] = true
		manager.Protect(id, "wanted")
	}
	k.mu.Lock()
	for id := range k.wants {
		if !named[id] {
			delete(k.wants, id)
			manager.Unprotect(id, "wanted")
		}
	}
	for id := range named {
		if k.wants[id] == nil {
			k.wants[id] = &want{}
		}
	}
	k.mu.Unlock()
	k.wake()
}

func (k *keeper) wake() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// met forgets the failures of a peer that is here now, so that, should it go, it is tried at once.
func (k *keeper) met(id peer.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.wants[id]; w != nil {
		w.tries, w.next = 0, time.Time{}
	}
}

// retry tries a peer again at once: there is news of it.
func (k *keeper) retry(id peer.ID) {
	k.met(id)
	k.wake()
}

// run dials and pings until the node ends.
func (k *keeper) run() {
	pings := time.NewTicker(time.Second)
	defer pings.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-k.n.ctx.Done():
			return
		case <-k.kick:
		case <-due.C:
		case <-pings.C:
			k.ping()
			continue
		}
		due.Reset(k.dialDue())
	}
}

// dialDue begins the dials that are due and says when to look again.
func (k *keeper) dialDue() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, wait := time.Now(), time.Minute
	for id, w := range k.wants {
		if w.dialing || k.n.linked(id) {
			continue
		}
		if d := w.next.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		if k.busy >= dialsAtOnce {
			break // the end of any of them wakes us
		}
		k.busy++
		w.dialing = true
		if !k.n.spawn(func() { k.dial(id, w) }) {
			return wait
		}
	}
	return wait
}

func (k *keeper) dial(id peer.ID, w *want) {
	err := k.n.connect(k.n.ctx, id)
	k.mu.Lock()
	k.busy--
	w.dialing = false
	if err != nil {
		w.next = time.Now().Add(backoff(w.tries, err))
		w.tries++
	}
	tries := w.tries
	k.mu.Unlock()
	k.wake()
	if err != nil && k.n.ctx.Err() == nil {
		k.n.log.Debug("no link", "peer", id.String(), "tries", tries, "err", err)
	}
}

// backoff is how long to wait after failures in a row: 0.25, 0.5, 1, 2 seconds, up to a minute, with a tenth of jitter. A
// peer that said no, for another reason than having too much to do, is not asked again within five seconds.
func backoff(tries int, err error) time.Duration {
	d := time.Minute
	if tries < 8 {
		d = 250 * time.Millisecond << tries
	}
	if (errors.Is(err, ErrRefused) || errors.Is(err, ErrUntrusted)) && !errors.Is(err, ErrBusy) {
		d = max(d, 5*time.Second)
	}
	return d - d/20 + rand.N(d/10)
}

// ping asks the links that have not been asked for a while. A wanted peer on QUIC is asked every second: no kernel tells
// us when its process is gone.
func (k *keeper) ping() {
	now := time.Now()
	for _, l := range k.n.roster.ups() {
		k.mu.Lock()
		wanted := k.wants[l.id] != nil
		k.mu.Unlock()
		every := pingEvery
		if wanted && k.overQUIC(l.id) {
			every = time.Second
		}
		if last := time.Unix(0, l.pinged.Load()); now.Sub(last) < every || l.pinging.Load() {
			continue
		}
		if l.pinged.Load() == 0 { // hello has just measured it
			l.pinged.Store(now.UnixNano())
			continue
		}
		k.n.spawn(func() { k.n.ping(l) })
	}
}

func (k *keeper) overQUIC(id peer.ID) bool {
	for _, c := range k.n.host.Network().ConnsToPeer(id) {
		if transportOf(c) != "quic" {
			return false
		}
	}
	return true
}
