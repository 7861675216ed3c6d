// Package core is everything that a node decides, without doing any of it.
//
// A Node is stepped with one input at a time (see step) and answers with what is to be made durable, signed, sent and done
// to pods. It joins the roles: the observer that every node is, and the host, consumer and operator that it may be. It
// holds no key, asks no clock, draws no lot: from one seed and one sequence of inputs comes one sequence of outputs, so
// thousands of nodes can be run in one process, and every run can be repeated.
//
// State that survives is rows: Load makes a node of what its store holds, and Rows gives back exactly what a store that
// missed nothing would hold.
package core

import (
	"fmt"

	"souk/node/core/consumer"
	"souk/node/core/host"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/node/core/witness"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Node is one node's core.
type Node struct {
	self     identity.Address
	boot     step.Boot
	seq      step.Sequence
	observer *observer.Observer
	host     *host.Host
	consumer *consumer.Consumer
	operator *operator.Operator
	witness  *witness.Witness
	keepers  []step.Keeper
	ready    bool // Boot has come
	roles    member.Role

	quarantine *step.Cell[quarantine]
	room       step.Room      // of the disk, as last told
	errands    []errand       // by ask of the quarantine
	asked      map[uint64]int // questions of the quarantine that are out
	engine     *step.Engine   // as last told: what a host that begins anew has to know
	inventory  *step.Inventory
}

// New is the core of a node with this address that has no rows yet.
func New(self identity.Address) *Node {
	o := observer.New(self)
	n := &Node{self: self, observer: o, quarantine: step.NewCell[quarantine]("quarantine"), asked: map[uint64]int{}}
	n.newRoles()
	return n
}

// newRoles makes the roles without what they know.
func (n *Node) newRoles() {
	n.host, n.consumer, n.operator = host.New(n.observer), consumer.New(n.observer), operator.New(n.observer)
	n.witness = witness.New(n.observer, n.operator.Withholds)
	n.keepers = append(n.observer.Keepers(), n.quarantine)
	for _, ks := range [][]step.Keeper{n.host.Keepers(), n.consumer.Keepers(), n.operator.Keepers()} {
		n.keepers = append(n.keepers, ks...)
	}
}

// renewRoles has the roles begin anew with the rows that they have, as after a restart.
func (n *Node) renewRoles(ctx *step.Context) {
	var rows []step.Row
	for _, ks := range [][]step.Keeper{n.host.Keepers(), n.consumer.Keepers(), n.operator.Keepers()} {
		for _, k := range ks {
			ctx.Out.Rows = k.Flush(ctx.Out.Rows)
			rows = k.Rows(rows)
		}
	}
	n.newRoles()
	for _, r := range rows {
		if err := n.load(r.Key, r.Value); err != nil {
			panic("core: its own rows do not load: " + err.Error())
		}
	}
	if err := n.operator.Restore(n.self); err != nil {
		panic("core: its own bank does not load: " + err.Error())
	}
	n.bootRoles(ctx)
}

// bootRoles tells the roles that they begin.
func (n *Node) bootRoles(ctx *step.Context) {
	n.refresh(ctx)
	n.host.Boot(ctx)
	n.consumer.Boot(ctx)
	if n.roles.Has(member.RoleOperator) {
		n.operator.Boot(ctx)
	}
	if n.engine != nil {
		n.host.Engine(ctx, *n.engine)
	}
	if n.inventory != nil {
		n.host.Inventory(ctx, *n.inventory)
	}
}

// Load makes the core of a node from the rows of its state tables, which each visits in any order.
func Load(self identity.Address, each func(yield func(key, value []byte) error) error) (*Node, error) {
	n := New(self)
	if err := each(n.load); err != nil {
		return nil, err
	}
	if err := n.observer.Restore(); err != nil {
		return nil, fmt.Errorf("core: restoring what was stored: %w", err)
	}
	if err := n.operator.Restore(self); err != nil {
		return nil, fmt.Errorf("core: restoring the bank: %w", err)
	}
	return n, nil
}

func (n *Node) load(key, value []byte) error {
	for _, k := range n.keepers {
		if ours, err := k.Load(key, value); ours || err != nil {
			return err
		}
	}
	t, _ := table.Of(key)
	return fmt.Errorf("core: a row of %v that no part of this version knows: %x", t, key)
}

// Rows is the whole state, as a store that missed nothing holds it.
func (n *Node) Rows() []step.Row {
	var rows []step.Row
	for _, k := range n.keepers {
		rows = k.Rows(rows)
	}
	return rows
}

// Market is the domain that this node signs under.
func (n *Node) Market() wire.Market { return n.observer.Market() }

// Observer is the node's view of its market, to be read between steps.
func (n *Node) Observer() *observer.Observer { return n.observer }

// Step takes one input at an instant. It returns what follows, and when the core wants to be stepped next at the latest.
func (n *Node) Step(now member.Time, in step.Input) (*step.Out, member.Time) {
	out := &step.Out{}
	if b, ok := in.(step.Boot); ok {
		n.boot, n.ready = b, true
	}
	ctx := n.context(now, out)
	wake := member.Time(0)
	if n.ready {
		n.dispatch(ctx, in)
		n.refresh(ctx)
		wake = n.tick(ctx)
	}
	for _, k := range n.keepers {
		out.Rows = k.Flush(out.Rows)
	}
	if n.resting() && len(out.Guards) > 0 {
		panic("core: a node that must not sign is about to")
	}
	out.Market = n.observer.Market()
	return out, wake
}

func (n *Node) context(now member.Time, out *step.Out) *step.Context {
	ctx := &step.Context{Now: now, Self: n.self, Boot: n.boot, Out: out, Seq: &n.seq, Clock: member.Clock{Slot: 60 * member.Second}}
	n.refresh(ctx)
	return ctx
}

// refresh brings a context up to what the observer knows now.
func (n *Node) refresh(ctx *step.Context) {
	ctx.Market = n.observer.Market()
	if !n.observer.Founded() {
		return
	}
	ctx.Charter, _ = n.observer.Charter()
	ctx.Policy, _ = n.observer.Policy()
	ctx.Clock = ctx.Charter.Clock()
	n.roles = 0
	if c, _, ok := n.observer.Credential(n.self); ok {
		n.roles = c.Roles
	}
}

func (n *Node) dispatch(ctx *step.Context, in step.Input) {
	switch in := in.(type) {
	case step.Boot:
		ctx.Out.Contacts = append(ctx.Out.Contacts, in.Contacts...)
		n.observer.Boot(ctx)
		if !n.resting() {
			n.bootRoles(ctx)
		}
	case step.Room:
		n.takeRoom(ctx, in)
	case step.Gossip:
		n.observer.Gossip(ctx, in)
	case step.Peer:
		n.observer.Peer(ctx, in)
	case step.Request:
		n.request(ctx, in)
	case step.Response:
		n.response(ctx, in)
	case step.Local:
		n.local(ctx, in)
	case step.PodEvent:
		if !n.resting() { // the engine is asked again when the host begins anew
			n.host.Pod(ctx, in)
		}
	case step.Engine:
		if n.engine = &in; !n.resting() {
			n.host.Engine(ctx, in)
		}
	case step.Inventory:
		if n.inventory = &in; !n.resting() {
			n.host.Inventory(ctx, in)
		}
	case step.Tick:
	}
}

func (n *Node) request(ctx *step.Context, r step.Request) {
	if r.Proto != step.ProtoHello && r.Proto != step.ProtoJoin {
		n.observer.Hear(ctx, r.Peer)
	}
	if r.Proto == step.ProtoLease && r.Op == step.OpFunds {
		n.consumer.Funds(ctx, r)
	}
	switch {
	case r.Proto == step.ProtoHello:
		n.observer.Hello(ctx, r)
	case r.Proto == step.ProtoSync && n.observer.Founded():
		n.observer.Sync(ctx, r)
	case r.Proto == step.ProtoHeld && n.observer.Founded():
		n.held(ctx, r)
	case n.resting():
		ctx.Refuse(r.ID, n.refusal())
	case n.room.Level == step.RoomLow && takesOn(r):
		ctx.Refuse(r.ID, step.Refuse(step.RefuseDisk, "this node's disk is nearly full; it takes nothing new until there is room"))
	case r.Proto == step.ProtoLogs:
		n.host.Logs(ctx, r)
	case n.witness.Request(ctx, r):
	case n.consumer.Request(ctx, r):
	case n.roles.Has(member.RoleOperator) && n.operator.Request(ctx, r):
	case n.roles.Has(member.RoleHost) && n.host.Request(ctx, r):
	case r.Proto == step.ProtoLease && r.Op == step.OpFunds: // told above
		ctx.Reply(r.ID, step.OpOK, nil)
	default:
		ctx.Refuse(r.ID, step.Refuse(step.RefuseBadRequest, "this node does not serve %s", r.Proto))
	}
}

func (n *Node) response(ctx *step.Context, r step.Response) {
	for _, o := range r.Objects {
		n.observer.Hear(ctx, o.By())
	}
	if r.Err != nil && r.Err.Refusal.Rests() { // that is no answer to what was asked
		r.Err = &step.Failure{Code: step.FailResting, Detail: r.Err.Refusal.Reason}
	}
	_ = n.observer.Response(ctx, r) || n.answered(ctx, r) || !n.resting() && n.roleResponse(ctx, r)
}

func (n *Node) roleResponse(ctx *step.Context, r step.Response) bool {
	return n.host.Response(ctx, r) || n.consumer.Response(ctx, r) || n.operator.Response(ctx, r) || n.witness.Response(ctx, r)
}

func (n *Node) local(ctx *step.Context, in step.Local) {
	switch cmd := in.Cmd.(type) {
	case Health:
		ctx.Answer(in.ID, n.condition(), nil)
		return
	case AcceptLoss:
		n.acceptLoss(ctx, in.ID)
		return
	case observer.Found, observer.Join:
		if n.resting() {
			ctx.Answer(in.ID, nil, n.problem())
			return
		}
	default:
		if n.resting() && !reads(cmd) && !n.observer.Reads(cmd) {
			ctx.Answer(in.ID, nil, n.problem())
			return
		}
	}
	switch {
	case n.room.Level == step.RoomLow && takesOn(in):
		ctx.Answer(in.ID, nil, n.problem())
	case n.observer.Local(ctx, in.ID, in.Cmd), n.host.Local(ctx, in.ID, in.Cmd), n.consumer.Local(ctx, in.ID, in.Cmd):
	case !n.roles.Has(member.RoleOperator):
		ctx.Answer(in.ID, nil, step.Fail(step.ProblemTrust, "only the node of the market's operator can do that", "this node is not an operator"))
	case n.operator.Local(ctx, in.ID, in.Cmd):
	default:
		ctx.Answer(in.ID, nil, step.Fail(step.ProblemOther, "", "the core does not know %T", in.Cmd))
	}
}

// tick lets every part do what is due, and returns the earliest moment at which something is next.
func (n *Node) tick(ctx *step.Context) member.Time {
	wake := n.observer.Tick(ctx)
	soonest := func(t member.Time) {
		if t > 0 && (wake == 0 || t < wake) {
			wake = t
		}
	}
	if !n.observer.Founded() {
		return wake
	}
	if n.quarantine.IsSet() {
		soonest(n.tickQuarantine(ctx))
	}
	if n.resting() {
		return max(wake, ctx.Now+1)
	}
	soonest(n.host.Tick(ctx))
	soonest(n.consumer.Tick(ctx))
	soonest(n.witness.Tick(ctx))
	if n.roles.Has(member.RoleOperator) {
		soonest(n.operator.Tick(ctx))
	}
	return max(wake, ctx.Now+1)
}
