package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"souk/node/core"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/node/crash"
	"souk/p2p"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// replyWait is the most that a peer waits for the core: it decides at once, and the disk is fast.
const replyWait = 10 * time.Second

// connect takes the ports. Nobody comes in before Run.
func (n *Node) connect() error {
	h := p2p.Handlers{
		HelloFrame: n.helloFrame, Hello: n.judgeHello, Request: n.request, Stream: n.stream, Validate: n.validate, Deliver: n.deliver,
		PeerUp:   func(a identity.Address) { n.peer(a, true) },
		PeerDown: func(a identity.Address) { n.peer(a, false) },
		Revoked:  n.revoked, LobbyJoinOpen: n.serves.Load,
	}
	market := ""
	if n.core.Observer().Founded() {
		market = n.core.Market().ID.String()
	}
	var err error
	n.net, err = p2p.New(p2p.Config{
		Key: n.key.PrivateKey, Listen: n.opts.Config.Listen, Announce: n.opts.Config.Announce, MarketID: market, Log: n.log, Version: n.opts.Version,
	}, h)
	return err
}

// refusalBase is where the core's codes begin among those of the network.
const refusalBase = p2p.CodeOfNode

// ownCodes are refusals that the network has codes of its own for.
var ownCodes = map[step.RefusalCode]p2p.Code{
	step.RefuseNoCredential: p2p.CodeNoCredential, step.RefuseRevoked: p2p.CodeRevoked, step.RefuseOtherMarket: p2p.CodeOtherMarket,
	step.RefuseClock: p2p.CodeClock, step.RefuseBusy: p2p.CodeBusy, step.RefuseBadHello: p2p.CodeBadHello,
}

func toNetwork(r *step.Refusal) *p2p.Refusal {
	if c, ok := ownCodes[r.Code]; ok {
		return p2p.Refuse(c, "%s", r.Reason)
	}
	return p2p.Refuse(refusalBase+p2p.Code(r.Code), "%s", r.Reason)
}

func fromNetwork(r *p2p.Refusal) *step.Refusal {
	for ours, theirs := range ownCodes {
		if theirs == r.Code {
			return &step.Refusal{Code: ours, Reason: r.Reason}
		}
	}
	if r.Code >= refusalBase {
		return &step.Refusal{Code: step.RefusalCode(r.Code - refusalBase), Reason: r.Reason}
	}
	return &step.Refusal{Code: step.RefuseBadRequest, Reason: r.Reason}
}

// peer tells the core of a neighbour.
func (n *Node) peer(a identity.Address, up bool) {
	p := step.Peer{Address: a, Up: up}
	if m, ok := n.members.Load(a); ok {
		p.Key = m.(step.Membership).Key
	}
	n.put(n.closed, p)
}

func (n *Node) revoked(a identity.Address) bool {
	m, ok := n.members.Load(a)
	return ok && m.(step.Membership).Revoked
}

// helloFrame is what this node says of itself.
func (n *Node) helloFrame() wire.Frame {
	h := n.hello.Load()
	if h == nil {
		return wire.Frame{}
	}
	body := h.body
	body.Now = now()
	objects := slices.Clone(h.objects)
	if err := n.signAll(n.opener.Load().Market, objects); err != nil {
		n.log.Error("signing the own credential", "err", err)
		objects = nil
	}
	return wire.Frame{Objects: objects, Body: wire.Marshal(body)}
}

// judgeHello asks the core about a peer.
func (n *Node) judgeHello(ctx context.Context, who identity.PublicKey, f wire.Frame) *p2p.Refusal {
	body, err := step.Body[step.HelloBody](f.Body)
	o := n.opener.Load()
	if err != nil || o == nil {
		return p2p.Refuse(p2p.CodeBadHello, "hello does not decode")
	}
	if body.Market != o.Market.ID {
		f.Objects = nil // signed under another market: not for us to check
	}
	_, no := n.askCore(ctx, who, p2p.Protocol(step.ProtoHello), f)
	if no != nil {
		return toNetwork(no)
	}
	return nil
}

// request answers a peer through the core.
func (n *Node) request(ctx context.Context, from identity.PublicKey, proto p2p.Protocol, f wire.Frame) (wire.Frame, error) {
	r, no := n.askCore(ctx, from, proto, f)
	if no != nil {
		return wire.Frame{}, toNetwork(no)
	}
	if err := n.appended(ctx, &r.Frame, r.Append); err != nil {
		return wire.Frame{}, err
	}
	return r.Frame, nil
}

// appended puts objects of the store behind those of a frame.
func (n *Node) appended(ctx context.Context, f *wire.Frame, spans []step.Span) error {
	for _, s := range spans {
		more, err := n.Objects(ctx, s.From, s.To, s.Limit, false)
		if err != nil {
			return err
		}
		f.Objects = append(f.Objects, more...)
		crash.Here("request.appended")
	}
	return nil
}

// askCore verifies a request and waits for the core's reply to it.
func (n *Node) askCore(ctx context.Context, from identity.PublicKey, proto p2p.Protocol, f wire.Frame) (step.Reply, *step.Refusal) {
	peer, err := from.Address()
	if err != nil {
		return step.Reply{}, step.Refuse(step.RefuseBadRequest, "not a key")
	}
	o := n.opener.Load()
	if o == nil {
		return step.Reply{}, step.Refuse(step.RefuseBusy, "this node is starting")
	}
	objects, err := core.OpenAll(*o, f.Objects)
	if err != nil {
		return step.Reply{}, step.Refuse(step.RefuseBadRequest, "%v", err)
	}
	id, outcome, done := n.await()
	defer done()
	in := step.Request{ID: id, From: from, Peer: peer, Proto: step.Protocol(proto), Op: step.Op(f.Op), Objects: objects, Body: f.Body}
	crash.Here("request.begin")
	if !n.offer(in) {
		return step.Reply{}, step.Refuse(step.RefuseBusy, "too much to do; ask again")
	}
	crash.Here("request.asked")
	ctx, cancel := context.WithTimeout(ctx, replyWait)
	defer cancel()
	select {
	case r := <-outcome:
		crash.Here("request.decided")
		return r.reply, r.reply.Refusal
	case <-ctx.Done():
		return step.Reply{}, step.Refuse(step.RefuseBusy, "no decision in time; ask again")
	}
}

// send asks a peer, and brings the core the answer or the failure.
func (n *Node) send(ctx context.Context, s step.Send) {
	go func() {
		call, cancel := ctx, context.CancelFunc(func() {})
		if s.Wait > 0 {
			call, cancel = context.WithTimeout(ctx, s.Wait.Span())
		}
		r := n.exchange(call, s)
		cancel()
		crash.Here("response.begin")
		n.put(ctx, r) // the core waits for it, in time or not
		crash.Here("response.end")
	}()
}

func (n *Node) exchange(ctx context.Context, s step.Send) step.Response {
	r := step.Response{ID: s.ID}
	if err := n.appended(ctx, &s.Frame, s.Append); err != nil {
		r.Err = &step.Failure{Code: step.FailUnreachable, Detail: err.Error()}
		return r
	}
	if s.To == n.self {
		return n.exchangeSelf(ctx, s)
	}
	crash.Here("exchange.begin")
	f, err := n.net.Request(ctx, s.To, p2p.Protocol(s.Proto), s.Frame)
	crash.Here("exchange.end")
	if err != nil {
		r.Err = failure(err)
		return r
	}
	objects, err := core.OpenAll(*n.opener.Load(), f.Objects)
	if err != nil {
		r.Err = &step.Failure{Code: step.FailInvalid, Detail: err.Error()}
		return r
	}
	r.Op, r.Objects, r.Body = step.Op(f.Op), objects, f.Body
	return r
}

// exchangeSelf is a request to this very node, as of an operator that has an account with itself.
func (n *Node) exchangeSelf(ctx context.Context, s step.Send) step.Response {
	r := step.Response{ID: s.ID}
	f, err := n.request(ctx, n.key.Public(), p2p.Protocol(s.Proto), s.Frame)
	if err != nil {
		r.Err = failure(err)
		return r
	}
	if r.Objects, err = core.OpenAll(*n.opener.Load(), f.Objects); err != nil {
		r.Err = &step.Failure{Code: step.FailInvalid, Detail: err.Error()}
	}
	r.Op, r.Body = step.Op(f.Op), f.Body
	return r
}

func failure(err error) *step.Failure {
	var no *p2p.Refusal
	switch {
	case errors.Is(err, p2p.ErrUntrusted):
		return &step.Failure{Code: step.FailUnreachable, Detail: oneLine(err)}
	case errors.As(err, &no):
		return &step.Failure{Code: step.FailRefused, Refusal: fromNetwork(no)}
	case errors.Is(err, p2p.ErrUnknownPeer):
		return &step.Failure{Code: step.FailUnknown, Detail: err.Error()}
	}
	return &step.Failure{Code: step.FailUnreachable, Detail: oneLine(err)}
}

// validate checks a gossiped object: its signature, and that its author is no outsider.
func (n *Node) validate(_ context.Context, topic p2p.Topic, data []byte) (any, p2p.Verdict) {
	var obj wire.Object
	if err := wire.Unmarshal(data, &obj); err != nil || topicOf(obj.Kind) != step.Topic(topic) {
		return nil, p2p.Reject
	}
	o := n.opener.Load()
	if o == nil {
		return nil, p2p.Ignore
	}
	v, err := core.Open(*o, obj)
	if err != nil {
		return nil, p2p.Reject
	}
	m, known := n.members.Load(v.By())
	switch {
	case !known:
		return nil, p2p.Ignore // perhaps not yet
	case !m.(step.Membership).Good:
		return nil, p2p.Ignore // suspended or revoked: who passed it on may not have heard of it yet
	}
	return v, p2p.Accept
}

// topicOf is where objects of a kind are gossiped.
func topicOf(k wire.Kind) step.Topic {
	switch k {
	case wire.KindOffer:
		return step.TopicOffers
	case wire.KindBeat:
		return step.TopicBeats
	case wire.KindCredential, wire.KindRevocation, wire.KindPolicy, wire.KindCheckpoint, wire.KindConsistency:
		return step.TopicMembers
	}
	return ""
}

func (n *Node) deliver(_ p2p.Topic, v any) {
	n.offer(step.Gossip{Msg: v.(wire.AnyVerified)}) // what is lost when there is too much comes again by sync
}

// contact keeps the network's address book, and says whom to stay linked with.
func (n *Node) contact(list []step.Contact) {
	if len(list) == 0 {
		return
	}
	for _, c := range list {
		n.net.Learn(c.Key, c.Addrs)
		a, err := c.Key.Address()
		if err != nil || a == n.self {
			continue
		}
		if c.Keep {
			n.keep[a] = c.Key
		} else {
			delete(n.keep, a)
		}
	}
	keep := make([]identity.PublicKey, 0, len(n.keep))
	for _, k := range n.keep {
		keep = append(keep, k)
	}
	n.net.Maintain(keep)
}

// Objects reads rows of a log, each an object, with the drafts among them signed.
func (n *Node) Objects(_ context.Context, from, to []byte, limit int, reverse bool) ([]wire.Object, error) {
	t, err := table.Of(from)
	if err != nil {
		return nil, err
	}
	var out []wire.Object
	err = n.store.Range(from, to, limit, reverse, func(_, value []byte) error {
		var o wire.Object
		var err error
		if t == table.BankEntry {
			_, o, err = operator.DecodeEntry(value)
		} else {
			err = wire.Load(value, &o)
		}
		out = append(out, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, n.signAll(n.opener.Load().Market, out)
}

// oneLine is an error of the network for people: libp2p lists every address that it tried, below the first line.
func oneLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimRight(first, " :")
}
