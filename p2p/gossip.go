package p2p

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"souk/p2p/wire"
)

// gossip is the topics of one market.
type gossip struct {
	market string
	ps     *pubsub.PubSub

	mu     sync.Mutex // guards topics; never held while handlers run
	topics map[Topic]*subject
}

// A subject is a topic that this node has joined, and perhaps subscribed.
type subject struct {
	topic *pubsub.Topic
	sub   *pubsub.Subscription
}

// name is a topic as pubsub knows it.
func (g *gossip) name(t Topic) string { return topicName(g.market, t) }

func topicName(market string, t Topic) string { return "/souk/" + market + "/" + string(t) + "/1" }

// SetMarket joins the gossip of a market, by its id in hex. It may be called once; the same id again does nothing.
func (n *Node) SetMarket(id string) error {
	n.market.Lock()
	defer n.market.Unlock()
	if g := n.talk(); g != nil {
		if g.market == id {
			return nil
		}
		return fmt.Errorf("p2p: market %s is set already", g.market)
	}
	if id == "" || len(id) > 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return fmt.Errorf("p2p: market id %q is not hex", id)
	}
	g := &gossip{market: id, topics: map[Topic]*subject{}}
	ps, err := pubsub.NewGossipSub(n.ctx, lobbyHost{n.host, n}, n.gossipOptions(id)...)
	if err != nil {
		return fmt.Errorf("p2p: gossip: %w", err)
	}
	g.ps = ps
	for _, t := range allTopics {
		if err := n.join(g, t); err != nil {
			return err
		}
		if n.wanted[t] {
			if err := n.listen(g, t); err != nil {
				return err
			}
		}
	}
	n.mu.Lock()
	n.gossip = g
	n.mu.Unlock()
	n.kick()
	return nil
}

// talk is the gossip of the market, nil before SetMarket.
func (n *Node) talk() *gossip {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gossip
}

// Subscribe takes part in a topic: Bids and Evidence are taken by those that ask, the others by all.
func (n *Node) Subscribe(t Topic) error {
	n.market.Lock()
	defer n.market.Unlock()
	if !slices.Contains(allTopics, t) {
		return fmt.Errorf("p2p: no topic %q", t)
	}
	n.wanted[t] = true
	if g := n.talk(); g != nil {
		return n.listen(g, t)
	}
	return nil
}

// Unsubscribe takes no part in a topic any more, other than Members, which every node takes. What was accepted before
// may still be delivered.
func (n *Node) Unsubscribe(t Topic) {
	if t == Members {
		return
	}
	n.market.Lock()
	defer n.market.Unlock()
	delete(n.wanted, t)
	g := n.talk()
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.topics[t]; s != nil && s.sub != nil {
		s.sub.Cancel()
		s.sub = nil
	}
}

// join makes a topic ready to publish.
func (n *Node) join(g *gossip, t Topic) error {
	validate := func(ctx context.Context, _ peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		return n.validate(ctx, t, m)
	}
	// Inline: the workers bound how many run at once, and no goroutine is made for each message.
	if err := g.ps.RegisterTopicValidator(g.name(t), validate, pubsub.WithValidatorInline(true)); err != nil {
		return fmt.Errorf("p2p: topic %s: %w", t, err)
	}
	topic, err := g.ps.Join(g.name(t))
	if err != nil {
		return fmt.Errorf("p2p: topic %s: %w", t, err)
	}
	g.topics[t] = &subject{topic: topic}
	return nil
}

// listen subscribes a topic and delivers what comes.
func (n *Node) listen(g *gossip, t Topic) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.topics[t]
	if s.sub != nil {
		return nil
	}
	sub, err := s.topic.Subscribe(pubsub.WithBufferSize(deliverQueue))
	if err != nil {
		return fmt.Errorf("p2p: topic %s: %w", t, err)
	}
	s.sub = sub
	n.spawn(func() { n.deliver(t, sub) })
	return nil
}

func (n *Node) deliver(t Topic, sub *pubsub.Subscription) {
	for {
		m, err := sub.Next(n.ctx)
		if err != nil {
			return // unsubscribed, or the node ends
		}
		if m.ReceivedFrom != n.host.ID() {
			n.h.Deliver(t, m.ValidatorData)
		}
	}
}

// validate asks the node above. What this node publishes itself was checked before it was signed.
func (n *Node) validate(ctx context.Context, t Topic, m *pubsub.Message) pubsub.ValidationResult {
	if m.ReceivedFrom == n.host.ID() {
		return pubsub.ValidationAccept
	}
	if len(m.Data) > GossipLimit {
		return pubsub.ValidationReject
	}
	if !n.begin() {
		return pubsub.ValidationIgnore
	}
	defer n.wg.Done()
	value, verdict := n.h.Validate(ctx, t, m.Data)
	switch verdict {
	case Accept:
		m.ValidatorData = value
		return pubsub.ValidationAccept
	case Reject:
		return pubsub.ValidationReject
	}
	return pubsub.ValidationIgnore
}

// Publish gossips a message to everybody who takes the topic. To have nobody to tell is no error, and publishing the same
// bytes again within two minutes does nothing. Errors: ErrNoMarket, wire.ErrTooLarge over GossipLimit.
func (n *Node) Publish(ctx context.Context, t Topic, data []byte) error {
	if len(data) > GossipLimit {
		return fmt.Errorf("%w: gossip of %d bytes, limit %d", wire.ErrTooLarge, len(data), GossipLimit)
	}
	g := n.talk()
	if g == nil {
		return ErrNoMarket
	}
	g.mu.Lock()
	s := g.topics[t]
	g.mu.Unlock()
	if s == nil {
		return fmt.Errorf("p2p: no topic %q", t)
	}
	if err := s.topic.Publish(ctx, data); err != nil {
		if n.ctx.Err() != nil {
			return ErrClosed
		}
		return fmt.Errorf("p2p: publishing on %s: %w", t, err)
	}
	return nil
}

// messageID names a message by what it says: our envelope carries the author and the signature, so a copy is a copy.
func messageID(m *pb.Message) string {
	h := sha256.New()
	h.Write([]byte(m.GetTopic()))
	h.Write(m.GetData())
	return string(h.Sum(nil)[:20])
}

func (n *Node) gossipOptions(market string) []pubsub.Option {
	params := pubsub.DefaultGossipSubParams()
	params.D, params.Dlo, params.Dhi, params.Dlazy = 6, 5, 8, 3
	var names []string
	for _, t := range allTopics {
		names = append(names, topicName(market, t))
	}
	score, thresholds := n.scoring(names)
	quiet := slog.New(onlyErrors{n.log.Handler()})
	return []pubsub.Option{
		pubsub.WithGossipSubParams(params),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(messageID),
		pubsub.WithMaxMessageSize(rpcLimit),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(
			pubsub.NewAllowlistSubscriptionFilter(names...), subscriptionLimit)),
		pubsub.WithValidateQueueSize(validateQueue),
		pubsub.WithValidateWorkers(runtime.NumCPU()),
		pubsub.WithPeerOutboundQueueSize(outboundQueue),
		pubsub.WithPeerScore(score, thresholds),
		pubsub.WithFloodPublish(true),
		pubsub.WithBlacklist(strangers{n}),
		pubsub.WithAppSpecificRpcInspector(n.inspect),
		pubsub.WithLogger(quiet), pubsub.WithRPCLogger(quiet),
	}
}

// scoring says what costs a peer its standing. Weights and thresholds are those of Lotus
// (https://github.com/filecoin-project/lotus/blob/master/node/modules/lp2p/pubsub.go), except that what counts most is
// admission, that few or slow deliveries cost nothing, and that many members behind one address cost nothing: an
// operator has vouched for each.
func (n *Node) scoring(topics []string) (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	perTopic := map[string]*pubsub.TopicScoreParams{}
	for _, name := range topics {
		perTopic[name] = &pubsub.TopicScoreParams{
			TopicWeight:      1,
			TimeInMeshWeight: 0.00027, TimeInMeshQuantum: time.Second, TimeInMeshCap: 1,
			FirstMessageDeliveriesWeight: 0.5, FirstMessageDeliveriesCap: 100,
			FirstMessageDeliveriesDecay:    pubsub.ScoreParameterDecay(10 * time.Minute),
			InvalidMessageDeliveriesWeight: -1000,
			InvalidMessageDeliveriesDecay:  pubsub.ScoreParameterDecay(time.Hour),
		}
	}
	return &pubsub.PeerScoreParams{
			Topics: perTopic,
			AppSpecificScore: func(id peer.ID) float64 {
				if n.roster.admitted(id) {
					return 10
				}
				return -10000
			},
			AppSpecificWeight:         1,
			BehaviourPenaltyWeight:    -10,
			BehaviourPenaltyThreshold: 6,
			BehaviourPenaltyDecay:     pubsub.ScoreParameterDecay(time.Hour),
			DecayInterval:             pubsub.DefaultDecayInterval,
			DecayToZero:               pubsub.DefaultDecayToZero,
			RetainScore:               6 * time.Hour,
		}, &pubsub.PeerScoreThresholds{
			GossipThreshold:             -500,
			PublishThreshold:            -1000,
			GraylistThreshold:           -2500,
			AcceptPXThreshold:           math.MaxFloat32, // nobody introduces peers but the node above
			OpportunisticGraftThreshold: 3.5,
		}
}

var errTooFast = errors.New("p2p: too much gossip from one peer")

// inspect drops frames of peers that are not admitted or send too much. It runs in pubsub's only loop: no lock, no wait.
func (n *Node) inspect(id peer.ID, rpc *pubsub.RPC) error {
	l := n.roster.find(id)
	if l == nil || !l.admitted.Load() {
		return ErrUntrusted
	}
	if !l.gossip.AllowN(time.Now(), 1+len(rpc.GetPublish())) {
		return errTooFast
	}
	return nil
}

// strangers is pubsub's blacklist, live: whoever is not admitted. Under StrictNoSign pubsub also asks about the author,
// who is nobody.
type strangers struct{ n *Node }

// Add implements pubsub.Blacklist.
func (strangers) Add(peer.ID) bool { return false }

// Contains implements pubsub.Blacklist.
func (b strangers) Contains(id peer.ID) bool {
	return id != "" && id != b.n.host.ID() && !b.n.roster.admitted(id)
}

// A lobbyHost is the host that pubsub sees: its streams come from admitted peers, and go to them, only.
type lobbyHost struct {
	host.Host
	n *Node
}

func (h lobbyHost) guard(f network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		if !h.n.roster.admitted(s.Conn().RemotePeer()) {
			_ = s.ResetWithError(codeStranger)
			return
		}
		f(s)
	}
}

// SetStreamHandler implements host.Host.
func (h lobbyHost) SetStreamHandler(p protocol.ID, f network.StreamHandler) {
	h.Host.SetStreamHandler(p, h.guard(f))
}

// SetStreamHandlerMatch implements host.Host.
func (h lobbyHost) SetStreamHandlerMatch(p protocol.ID, m func(protocol.ID) bool, f network.StreamHandler) {
	h.Host.SetStreamHandlerMatch(p, m, h.guard(f))
}

// NewStream implements host.Host. It never dials, and waits until the other side has admitted us too: a stream that it
// resets makes pubsub forget what the peer subscribes.
func (h lobbyHost) NewStream(ctx context.Context, id peer.ID, p ...protocol.ID) (network.Stream, error) {
	if l := h.n.roster.find(id); l == nil || !l.up.Load() {
		return nil, ErrUntrusted
	}
	return h.Host.NewStream(network.WithNoDial(ctx, "links are made by hello"), id, p...)
}

// kick wakes mend.
func (n *Node) kick() {
	select {
	case n.keeper.mend <- struct{}{}:
	default:
	}
}

// mend repairs what pubsub does not. It looks at a peer only once, when it connects, and that was in the lobby; it gives up
// on one whose streams broke a few times; and when one of the two streams between a pair ends, it forgets what the
// peer subscribes, though the peer says so only at the beginning of the other one.
func (n *Node) mend() {
	tick := time.NewTicker(mendEvery)
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		case <-n.keeper.mend:
		}
		g := n.talk()
		if g == nil {
			continue
		}
		talking, heard := set(g.ps.ListPeers("")), set(g.ps.ListPeers(g.name(Members)))
		for _, l := range n.roster.ups() {
			switch {
			case !talking[l.id]:
				_ = n.poke.Emit(event.EvtPeerProtocolsUpdated{Peer: l.id, Added: []protocol.ID{pubsub.GossipSubID_v11}})
			case !heard[l.id]:
				n.restream(l, time.Now())
			default:
				l.deaf, l.mended = time.Time{}, 0
			}
		}
	}
}

func set(ids []peer.ID) map[peer.ID]bool {
	out := make(map[peer.ID]bool, len(ids))
	for _, id := range ids {
		out[id] = true
	}
	return out
}

// restream ends both gossip streams with a peer whose subscriptions we have not known for a while (every node takes
// Members), so that both sides open them anew and say what they take. Jitter keeps two sides that do so from undoing
// each other's work.
func (n *Node) restream(l *link, now time.Time) {
	if l.deaf.IsZero() {
		l.deaf = now
		return
	}
	wait := deafFor << min(l.mended, 5)
	if now.Sub(l.deaf) < wait+rand.N(wait) {
		return
	}
	l.deaf, l.mended = now, l.mended+1
	for _, c := range n.host.Network().ConnsToPeer(l.id) {
		for _, s := range c.GetStreams() {
			if strings.HasPrefix(string(s.Protocol()), "/meshsub/") {
				_ = s.Reset()
			}
		}
	}
}

// onlyErrors keeps pubsub's talk about peers in the lobby out of the log.
type onlyErrors struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h onlyErrors) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && h.Handler.Enabled(ctx, l)
}
