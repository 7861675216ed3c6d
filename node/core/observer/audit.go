package observer

import (
	"errors"
	"fmt"
	"slices"

	"souk/ledger/audit"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// watched is what this node holds of one operator's checkpoints. The first that it ever sees it believes.
type watched struct {
	Held wire.Object `cbor:"1,keyasint"` // the newest that is proven to extend those held before
	Next wire.Object `cbor:"2,keyasint"` // newer, and not proven yet; zero when there is none
}

// proven is evidence against one operator.
type proven struct {
	Objects []wire.Object `cbor:"1,keyasint"` // signed by it, and not all of them can be true
	At      member.Time   `cbor:"2,keyasint"` // when this node had them together
}

// A doubt is a checkpoint that this run of the node has seen and does not hold.
type doubt struct {
	obj    wire.Object
	proven bool // to belong to the same journal as what is held
}

// seenMost is how many of an operator's earlier checkpoints are kept in mind to be compared with those to come; askMost is
// how often an operator may refuse a proof before this node's user is told.
const (
	seenMost = 16
	askMost  = 3
)

// An auditing is what a run of the node has in mind about one operator.
type auditing struct {
	seen    []doubt // the newest last
	asking  bool
	refused int
}

func (o *Observer) auditing(op identity.Address) *auditing {
	a := o.audits[op]
	if a == nil {
		a = &auditing{}
		o.audits[op] = a
	}
	return a
}

func (a *auditing) remember(d doubt) {
	a.seen = append(a.seen, d)
	a.seen = a.seen[max(0, len(a.seen)-seenMost):]
}

// point is a checkpoint that this node keeps.
func point(obj wire.Object) audit.Checkpoint {
	c, err := wire.Decode[audit.Checkpoint](obj)
	if err != nil {
		panic("observer: a checkpoint that this node kept does not decode: " + err.Error())
	}
	return c
}

// Checkpoints are all those of an operator that this node can compare with.
func (o *Observer) Checkpoints(op identity.Address) []wire.Object {
	var out []wire.Object
	if w := o.points.Get(op); w != nil {
		for _, obj := range []wire.Object{w.Held, w.Next} {
			if !obj.IsZero() {
				out = append(out, obj)
			}
		}
	}
	for _, d := range o.auditing(op).seen {
		out = append(out, d.obj)
	}
	return out
}

// takeCheckpoint compares an operator's checkpoint with all that are known of it. Where it does not contradict them by
// itself, the operator has to prove that they are of one journal.
func (o *Observer) takeCheckpoint(ctx *step.Context, c audit.Checkpoint, obj wire.Object) bool {
	op := c.Operator
	if !o.charter.Operates(op) || o.proofs.Get(op) != nil {
		return false
	}
	for _, k := range o.Checkpoints(op) {
		switch p := point(k); {
		case p == c:
			return false
		case audit.Same(o.market, p, c) != nil:
			o.convict(ctx, op, k, obj)
			return true
		}
	}
	w := o.points.Get(op)
	switch {
	case w == nil || op == o.self:
		o.points.Put(op, watched{Held: obj})
		return true
	case c.Number < point(w.Held).Number, !w.Next.IsZero() && c.Number < point(w.Next).Number:
		o.auditing(op).remember(doubt{obj: obj})
		o.demand(ctx, op)
		return false
	}
	if !w.Next.IsZero() {
		o.auditing(op).remember(doubt{obj: w.Next})
	}
	w.Next = obj
	o.points.Touch(op)
	o.demand(ctx, op)
	return true
}

// takeConsistency looks at a proof that somebody else was given. One that holds tells nothing new.
func (o *Observer) takeConsistency(ctx *step.Context, c audit.Consistency, obj wire.Object) bool {
	op := c.Operator
	switch {
	case !o.charter.Operates(op) || o.proofs.Get(op) != nil:
		return false
	case c.Check() != nil:
		o.convict(ctx, op, obj)
		return true
	}
	for _, k := range o.Checkpoints(op) {
		if c.Agrees(point(k)) != nil {
			o.convict(ctx, op, k, obj)
			return true
		}
	}
	return false
}

// convict keeps evidence against an operator, and gives it to everybody.
func (o *Observer) convict(ctx *step.Context, op identity.Address, objects ...wire.Object) {
	o.proofs.Put(op, proven{Objects: objects, At: ctx.Now})
	what := audit.Convicts(o.market, objects)
	ctx.Notify("evidence.bank", wire.ID{}, fmt.Sprintf("operator %s is proven false: %v; 'souk ledger evidence' shows it", op.Short(), what), "operator", op.String())
	for _, obj := range objects {
		ctx.Publish(step.TopicMembers, obj)
	}
}

// pair is what an operator is to prove next: that the newest checkpoint extends what is held, then that others seen belong
// to the same journal.
func (o *Observer) pair(op identity.Address) (older, newer wire.Object, ok bool) {
	w := o.points.Get(op)
	if w == nil || op == o.self || o.proofs.Get(op) != nil {
		return older, newer, false
	}
	if !w.Next.IsZero() {
		return w.Held, w.Next, true
	}
	for _, d := range o.auditing(op).seen {
		switch {
		case d.proven:
		case point(d.obj).Number < point(w.Held).Number:
			return d.obj, w.Held, true
		default:
			return w.Held, d.obj, true
		}
	}
	return older, newer, false
}

// demand has an operator prove the next pair, one at a time.
func (o *Observer) demand(ctx *step.Context, op identity.Address) {
	a := o.auditing(op)
	older, newer, ok := o.pair(op)
	if !ok || a.asking {
		return
	}
	a.asking = true
	body := step.ConsistencyBody{Old: point(older).Size, Size: point(newer).Size}
	o.awaiting[ctx.Send(op, step.ProtoBank, step.OpConsistency, body)] = func(ctx *step.Context, r step.Response) {
		a.asking = false
		if !heard(r.Err) || o.proofs.Get(op) != nil {
			return // who cannot be reached is not accused; it is asked again
		}
		c, shown := step.Find[audit.Consistency](r.Objects)
		switch err := proves(c, shown, older, newer); {
		case errors.Is(err, audit.ErrConflict):
			o.convict(ctx, op, wrong(c, older, newer)...)
		case err != nil:
			if a.refused++; a.refused == askMost {
				ctx.Notify("audit.unproven", wire.ID{}, fmt.Sprintf("operator %s does not show that its checkpoint %d extends checkpoint %d: %v",
					op.Short(), point(newer).Number, point(older).Number, err), "operator", op.String())
			}
		default:
			a.refused = 0
			o.accept(op, older, newer)
			o.demand(ctx, op)
		}
	}
}

// heard reports whether an operator has answered, and be it with no. That of the network, as when it has too much to do, is
// none of its.
func heard(f *step.Failure) bool {
	return f == nil || f.Code == step.FailInvalid || f.Code == step.FailRefused && f.Refusal != nil && f.Refusal.Code >= step.RefuseBadRequest
}

func proves(c wire.Verified[audit.Consistency], shown bool, older, newer wire.Object) error {
	if !shown {
		return errors.New("it refuses the proof")
	}
	return c.Value().Proves(point(older), point(newer))
}

// wrong are the words that contradict each other when a proof does not fit its checkpoints.
func wrong(c wire.Verified[audit.Consistency], older, newer wire.Object) []wire.Object {
	switch {
	case c.Value().Check() != nil:
		return []wire.Object{c.Object()}
	case c.Value().Agrees(point(older)) != nil:
		return []wire.Object{older, c.Object()}
	}
	return []wire.Object{newer, c.Object()}
}

// accept notes that two checkpoints are of one journal.
func (o *Observer) accept(op identity.Address, older, newer wire.Object) {
	w, a := o.points.Get(op), o.auditing(op)
	was, now := point(older), point(newer)
	for i := range a.seen {
		if p := point(a.seen[i].obj); p == was || p == now {
			a.seen[i].proven = true
		}
	}
	if was != point(w.Held) || now.Number < was.Number {
		return
	}
	if w.Next.IsZero() || point(w.Next) != now {
		return
	}
	a.remember(doubt{w.Held, true})
	w.Held, w.Next = w.Next, wire.Object{}
	o.points.Touch(op)
}

// tickAudit asks again for what is not proven yet, once a minute.
func (o *Observer) tickAudit(ctx *step.Context) {
	for _, op := range o.points.Keys() {
		o.demand(ctx, op)
	}
}

// audited visits what others need to compare.
func (o *Observer) audited(visit func(wire.Object)) {
	for _, op := range o.points.Keys() {
		w := o.points.Get(op)
		visit(w.Held)
		if !w.Next.IsZero() {
			visit(w.Next)
		}
	}
	for _, op := range o.proofs.Keys() {
		for _, obj := range o.proofs.Get(op).Objects {
			visit(obj)
		}
	}
}

// Convicted reports whether this node has evidence against an operator.
func (o *Observer) Convicted(op identity.Address) bool { return o.proofs.Get(op) != nil }

// Checkpoint is the newest checkpoint of an operator that is proven to extend those held before it; false before the first.
func (o *Observer) Checkpoint(op identity.Address) (audit.Checkpoint, bool) {
	w := o.points.Get(op)
	if w == nil {
		return audit.Checkpoint{}, false
	}
	return point(w.Held), true
}

// Questions about the operators' banks.
type (
	// Audits asks what this node holds of each operator. Answer: []Audited.
	Audits struct{}
	// Evident asks for the evidence against operators. Answer: []audit.Evidence. A charter among it may be a draft of this
	// node's own.
	Evident struct{}
	// Prove has the bank prove this node's account, entry by entry. Answer: audit.Statement, which is yet to be verified. Its
	// charter may be a draft of this node's own.
	Prove struct{}
)

// An Audited is what one node holds of one operator's bank.
type Audited struct {
	Operator   identity.Address  `json:"operator"`
	State      string            `json:"state"`             // proven, unproven (a newer one is seen that the operator has yet to prove), false (there is evidence)
	Checkpoint *audit.Checkpoint `json:"checkpoint"`        // newest that is proven
	Note       string            `json:"note"`              // the same as a signed note; empty of this node's own, which is yet to be signed
	Next       *audit.Checkpoint `json:"next,omitempty"`    // yet to be proven
	Refused    int               `json:"refused,omitempty"` // how often this run was refused a proof
	What       string            `json:"what,omitempty"`    // what the evidence shows
	Since      member.Time       `json:"since,omitempty"`   // of the evidence
}

// auditViews answers questions about the banks.
func (o *Observer) auditViews(ctx *step.Context, id uint64, cmd any) bool {
	switch cmd.(type) {
	case Audits:
		ctx.Answer(id, o.auditList(), nil)
	case Evident:
		_, charter := o.Charter()
		out := []audit.Evidence{}
		for _, op := range o.proofs.Keys() {
			out = append(out, audit.Evidence{Charter: charter, Objects: slices.Clone(o.proofs.Get(op).Objects)})
		}
		ctx.Answer(id, out, nil)
	case Prove:
		o.prove(ctx, id)
	default:
		return false
	}
	return true
}

func (o *Observer) auditList() []Audited {
	out := []Audited{}
	for _, op := range o.points.Keys() {
		w := o.points.Get(op)
		c := point(w.Held)
		v := Audited{Operator: op, State: "proven", Checkpoint: &c, Refused: o.auditing(op).refused}
		if !w.Held.IsDraft() {
			v.Note = audit.Note(o.market, c, w.Held.Sig)
		}
		if !w.Next.IsZero() {
			n := point(w.Next)
			v.State, v.Next = "unproven", &n
		}
		if e := o.proofs.Get(op); e != nil {
			v.State, v.Since = "false", e.At
			if what := audit.Convicts(o.market, e.Objects); what != nil {
				v.What = what.Error()
			}
		}
		out = append(out, v)
	}
	return out
}
