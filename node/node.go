// Package node is the shell around the core: the one place where clock, key, network, store and container engine meet.
//
// One goroutine, the loop, owns the core. Inputs reach it through a bounded inbox; for each it steps the core and hands the
// step's rows and guards to the committer, while workers sign the step's drafts. When both are done, and not before, the
// rest of the step leaves, in the order of the steps: gossip, requests to peers, replies, answers, orders to the engine.
// So whatever anybody outside has seen is on disk, and is not signed twice with other content after a crash.
//
// Promises: L6 what was acknowledged survives power loss. N1 a full inbox answers "busy" and costs nothing more. When Run
// returns, everything that it started has ended, except the pods, which outlive the node.
package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"souk/node/api"
	"souk/node/config"
	"souk/node/core"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/node/keys"
	"souk/node/store"
	"souk/p2p"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Options is what a node is made of.
type Options struct {
	Config  config.Config
	Key     *keys.Key
	Log     *slog.Logger
	Version string
}

// inboxSize bounds the inputs that wait for the core.
const inboxSize = 4096

// A Node is a running node.
type Node struct {
	opts    Options
	log     *slog.Logger
	key     *keys.Key
	self    identity.Address
	started time.Time

	store     *store.Store
	committer *store.Committer
	core      *core.Node // owned by the loop
	inbox     chan step.Input
	released  chan *release
	unsigned  chan *release // steps with drafts, for the signers
	ready     chan struct{}
	closed    context.Context // of Run
	end       context.CancelCauseFunc

	net      *p2p.Node
	pods     *pods
	selfTest selfTest
	events   *eventLog
	members  sync.Map // identity.Address → step.Membership
	keep     map[identity.Address]identity.PublicKey
	opener   atomic.Pointer[wire.Opener]
	hello    atomic.Pointer[helloSnapshot]
	height   atomic.Uint64 // batches in the journal
	serves   atomic.Bool   // join requests
	moment   atomic.Pointer[moment]

	mu      sync.Mutex
	next    uint64                        // number of the last request or command
	waiting map[uint64]chan<- waitOutcome // by number
}

// waitOutcome is what a request or command comes to.
type waitOutcome struct {
	reply  step.Reply
	answer step.Answer
}

type helloSnapshot struct {
	body    step.HelloBody
	objects []wire.Object
}

// New opens a home: its store, which no other process may have open, and the core that the store holds.
func New(o Options) (*Node, error) {
	n := &Node{
		opts: o, log: o.Log, key: o.Key, self: o.Key.Address(), started: time.Now(),
		inbox: make(chan step.Input, inboxSize), released: make(chan *release, 1024), unsigned: make(chan *release, unsignedMost),
		ready: make(chan struct{}), closed: context.Background(), keep: map[identity.Address]identity.PublicKey{}, waiting: map[uint64]chan<- waitOutcome{},
	}
	s, err := store.Open(o.Config.Home, storeOptions(o.Config, o.Log))
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", o.Config.Home, err)
	}
	if err := refill(s); err != nil {
		return nil, errors.Join(fmt.Errorf("logging the bank's entries in %s: %w", o.Config.Home, err), s.Close())
	}
	n.store, n.committer = s, store.NewCommitter(s)
	n.height.Store(s.Position().Number)
	n.core, err = core.Load(n.self, func(yield func(k, v []byte) error) error {
		for _, t := range table.All() {
			if k := t.Kind(); k != table.State && k != table.Replica {
				continue
			}
			if err := s.Scan(table.Key(t), yield); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		n.events, err = openEvents(s)
	}
	if err == nil {
		n.pods, err = newPods(n)
	}
	if err == nil {
		err = n.connect()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return n, nil
}

// Ready is closed once commands are answered.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Run works until ctx ends or something fails that a node cannot go on without.
func (n *Node) Run(ctx context.Context) error {
	socket, err := api.Listen(n.opts.Config.Socket())
	if err != nil {
		return errors.Join(err, n.store.Close())
	}
	ctx, n.end = context.WithCancelCause(ctx)
	defer n.end(nil)
	n.closed, n.pods.closed = ctx, ctx
	work, stop := context.WithCancel(context.WithoutCancel(ctx)) // what the others rest on ends last
	defer stop()

	var disk, exit, above errgroup.Group
	disk.Go(func() error {
		err := n.committer.Run(work)
		n.end(err)
		return err
	})
	exit.Go(func() error { n.releaseAll(ctx); return nil })
	for range signersAtOnce {
		exit.Go(func() error { n.signAsTheyCome(); return nil })
	}

	g, run := errgroup.WithContext(ctx)
	g.Go(func() error { return n.loop(run) })
	g.Go(func() error { return n.net.Run(run) })
	g.Go(func() error { return n.pods.run(run) })
	g.Go(func() error { return n.watchInventory(run) })
	g.Go(func() error { return n.watchRoom(run) })
	above.Go(func() error {
		err := api.ServeOn(run, socket, n.Backend(), n.log)
		if err != nil && run.Err() == nil {
			n.end(err)
		}
		return err
	})
	close(n.ready)

	err = g.Wait()
	n.end(err)
	err = errors.Join(err, above.Wait())
	stop()
	err = errors.Join(err, disk.Wait())
	close(n.unsigned) // the loop and the committer have ended: nothing more comes
	close(n.released)
	err = errors.Join(err, exit.Wait(), n.store.Close())
	if cause := context.Cause(ctx); errors.Is(err, context.Canceled) || err == nil {
		if cause == nil || errors.Is(cause, context.Canceled) || errors.Is(cause, errShutdown) {
			return nil
		}
		return cause
	}
	return err
}

// errShutdown is the cause of an end that the user asked for.
var errShutdown = errors.New("node: shut down")

// put hands an input to the core, and waits while the inbox is full.
func (n *Node) put(ctx context.Context, in step.Input) {
	select {
	case n.inbox <- in:
	case <-ctx.Done():
	}
}

// offer hands an input to the core unless the inbox is full.
func (n *Node) offer(in step.Input) bool {
	select {
	case n.inbox <- in:
		return true
	default:
		return false
	}
}

// await numbers a question to the core. done must be called when nobody waits any more.
func (n *Node) await() (id uint64, outcome <-chan waitOutcome, done func()) {
	ch := make(chan waitOutcome, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	id = n.next
	n.waiting[id] = ch
	return id, ch, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.waiting, id)
	}
}

func (n *Node) resolve(id uint64, o waitOutcome) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch, ok := n.waiting[id]; ok {
		delete(n.waiting, id)
		ch <- o
	}
}

// marketID is the beginning of the market's id, as pods are labelled with it; empty before there is one.
func (n *Node) marketID() string {
	if o := n.opener.Load(); o != nil {
		return o.Market.ID.String()[:16]
	}
	return ""
}

// boot is the first input of this run.
func (n *Node) boot() (step.Boot, error) {
	b := step.Boot{Key: n.key.Public(), Addrs: n.addrs(), Version: n.opts.Version}
	var err error
	if b.AttendFor, err = n.opts.Config.Principals(); err != nil {
		return b, err
	}
	for _, a := range n.opts.Config.Peers {
		k, err := p2p.Located(a)
		if err != nil {
			return b, err
		}
		b.Contacts = append(b.Contacts, step.Contact{Key: k, Addrs: []string{a}, Keep: true})
	}
	if _, err := rand.Read(b.ID[:]); err != nil {
		return b, err
	}
	_, err = rand.Read(b.Seed[:])
	return b, err
}

func now() member.Time { return member.At(time.Now()) }
