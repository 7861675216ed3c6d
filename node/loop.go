package node

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"souk/node/core"
	"souk/node/core/step"
	"souk/node/crash"
	"souk/node/store"
	"souk/p2p"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// signersAtOnce is how many steps have their drafts signed at the same time.
var signersAtOnce = runtime.GOMAXPROCS(0)

// unsignedMost is how many steps may wait for a signer before the loop does.
const unsignedMost = 64

// release is one step on its way out.
type release struct {
	out    *step.Out
	err    error         // of the disk
	signed chan struct{} // closed when every draft has its signature
	fault  error         // of the signing; read after signed
	hello  *helloSnapshot
}

// loop owns the core: it alone steps it.
func (n *Node) loop(ctx context.Context) error {
	b, err := n.boot()
	if err != nil {
		return err
	}
	var clock clock
	begun, doubted := time.Now(), false
	wake := time.NewTimer(0)
	defer wake.Stop()
	in := step.Input(b)
	for {
		read := time.Now()
		at := clock.read(member.At(read), read.Sub(begun), n.peersAhead)
		n.moment.Store(&moment{at, read})
		if clock.off != doubted {
			doubted = clock.off
			n.log.Warn("this machine's clock jumped, and no peer agrees: going on by its own counting", "doubted", doubted)
		}
		crash.Here("step.begin")
		out, next := n.core.Step(at, in)
		crash.Here("step.end")
		n.submit(out, n.snapshot())
		pause := time.Hour
		if next > 0 {
			pause = max(0, (next - at).Span())
		}
		wake.Reset(pause)
		select {
		case in = <-n.inbox:
		case <-wake.C:
			in = step.Tick{}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// peersAhead reports whether the neighbours' clocks are ahead of this node's by about so much.
func (n *Node) peersAhead(ahead member.Time) bool {
	o := n.core.Observer()
	if o.Peers() == 0 {
		return false
	}
	d := o.Skew() - ahead
	return d < clockJump && d > -clockJump
}

// snapshot keeps what other goroutines need of the core, and returns what the node would say of itself after this step:
// a credential that it has just issued itself may be shown only once it is on disk.
func (n *Node) snapshot() *helloSnapshot {
	m := n.core.Market()
	if o := n.opener.Load(); o == nil || o.Market != m {
		n.opener.Store(&wire.Opener{Market: m, Verifier: identity.Secp256k1{}})
		if n.core.Observer().Founded() {
			if err := n.net.SetMarket(m.ID.String()); err != nil {
				n.log.Error("joining the market's gossip", "err", err)
			}
		}
	}
	n.serves.Store(n.core.ServesJoin())
	body, objects := n.core.Hello()
	return &helloSnapshot{body, objects}
}

// submit sends a step to the disk and to the signers, both at once.
func (n *Node) submit(out *step.Out, hello *helloSnapshot) {
	r := &release{out: out, signed: make(chan struct{}), hello: hello}
	b := store.Batch{Done: func(err error) {
		crash.Here("step.durable")
		r.err = err
		n.height.Store(n.store.Position().Number)
		n.released <- r
	}}
	for i := range out.Notices {
		n.events.number(&out.Notices[i])
		b.Rows = append(b.Rows, n.events.row(out.Notices[i]))
	}
	for _, row := range out.Rows {
		b.Rows = append(b.Rows, store.Row{Key: row.Key, Value: row.Value, Delete: row.Delete})
	}
	for _, g := range out.Guards {
		b.Guards = append(b.Guards, store.Guard{Chain: g.Chain, Place: g.Place, Hash: g.Hash})
	}
	if hasDrafts(out) {
		n.unsigned <- r
	} else {
		close(r.signed)
	}
	crash.Here("step.submit")
	n.committer.Submit(b)
	crash.Here("step.submitted")
}

func hasDrafts(out *step.Out) bool {
	for _, p := range out.Publish {
		if p.Object.IsDraft() {
			return true
		}
	}
	for _, s := range out.Sends {
		for _, o := range s.Frame.Objects {
			if o.IsDraft() {
				return true
			}
		}
	}
	for _, r := range out.Replies {
		for _, o := range r.Frame.Objects {
			if o.IsDraft() {
				return true
			}
		}
	}
	return false
}

// signAsTheyCome signs what is submitted until no more can come.
func (n *Node) signAsTheyCome() {
	for r := range n.unsigned {
		crash.Here("sign.begin")
		r.fault = n.sign(r.out)
		crash.Here("sign.end")
		close(r.signed)
	}
}

// sign gives every draft of a step its signature.
func (n *Node) sign(out *step.Out) error {
	for i := range out.Publish {
		if err := n.signOne(out.Market, &out.Publish[i].Object); err != nil {
			return err
		}
	}
	for i := range out.Sends {
		if err := n.signAll(out.Market, out.Sends[i].Frame.Objects); err != nil {
			return err
		}
	}
	for i := range out.Replies {
		if err := n.signAll(out.Market, out.Replies[i].Frame.Objects); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) signAll(m wire.Market, objects []wire.Object) error {
	for i := range objects {
		if err := n.signOne(m, &objects[i]); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) signOne(m wire.Market, o *wire.Object) (err error) {
	if o.IsDraft() {
		crash.Here("sign.object")
	}
	*o, err = core.Sign(m, n.key, *o)
	crash.Here("sign.signed")
	return err
}

// releaseAll lets steps leave, in order, once they are on disk and signed, until no more can come.
func (n *Node) releaseAll(ctx context.Context) {
	for r := range n.released {
		<-r.signed
		if r.err == nil {
			r.err = r.fault
		}
		if r.err != nil {
			n.end(fmt.Errorf("nothing can be made durable or signed any more: %w", r.err))
			n.fail(r.out)
			continue
		}
		crash.Here("leave.begin")
		n.hello.Store(r.hello)
		n.leave(ctx, r.out)
	}
}

// fail answers those who wait for a step that could not be made durable.
func (n *Node) fail(out *step.Out) {
	for _, r := range out.Replies {
		n.resolve(r.ID, waitOutcome{reply: step.Reply{Refusal: step.Refuse(step.RefuseInternal, "this node cannot write to its disk")}})
	}
	for _, a := range out.Answers {
		n.resolve(a.ID, waitOutcome{answer: step.Answer{Err: step.Fail(step.ProblemOther, "see the node's log", "the node cannot write to its disk")}})
	}
}

// leave does what a step decided.
func (n *Node) leave(ctx context.Context, out *step.Out) {
	for _, m := range out.Members {
		n.members.Store(m.Address, m)
	}
	n.contact(out.Contacts)
	if out.AllPods || len(out.Pods) > 0 || len(out.Looks) > 0 {
		crash.Here("leave.pods")
		n.pods.want(order{out.Pods, out.AllPods, out.Looks})
		crash.Here("leave.ordered")
	}
	for _, r := range out.Replies {
		crash.Here("leave.reply")
		n.resolve(r.ID, waitOutcome{reply: r})
		crash.Here("leave.replied")
	}
	for _, a := range out.Answers {
		crash.Here("leave.answer")
		n.resolve(a.ID, waitOutcome{answer: a})
		crash.Here("leave.answered")
	}
	for _, s := range out.Sends {
		crash.Here("leave.send")
		n.send(ctx, s)
		crash.Here("leave.sent")
	}
	for _, p := range out.Publish {
		crash.Here("leave.publish")
		if err := n.net.Publish(ctx, p2p.Topic(p.Topic), wire.Marshal(p.Object)); err != nil {
			n.log.Debug("publishing", "kind", p.Object.Kind, "err", err)
		}
	}
	for _, a := range out.Evict {
		n.net.Drop(a)
	}
	crash.Here("leave.notices")
	n.events.publish(out.Notices)
	crash.Here("leave.end")
}
