package core_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"souk/ledger"
	"souk/ledger/audit"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// bankTown is a town whose members have accounts, and hold the first checkpoint.
func bankTown(t *testing.T) (op, a, b *peer) {
	t.Helper()
	op, a, b = town(t)
	a.join(op.invite(member.RoleConsumer))
	b.join(op.invite(member.RoleConsumer))
	op.pays(a, 1)
	for _, o := range op.said {
		if o.Kind == wire.KindCheckpoint {
			a.hears(o)
			b.hears(o)
		}
	}
	return op, a, b
}

// pays enters deposits.
func (p *peer) pays(to *peer, n int) {
	p.t.Helper()
	for range n {
		secrets++
		must[operator.DepositView](p, operator.Deposit{Addr: to.key.Address().String(), Amount: 20 * ledger.Credit, Ref: fmt.Sprint("ref ", secrets)})
	}
}

// draws has the operator draw a checkpoint in another hour.
func (p *peer) draws() wire.Object {
	p.t.Helper()
	*p.now += member.Hour
	p.step(step.Tick{})
	o := p.said[len(p.said)-1]
	if o.Kind != wire.KindCheckpoint {
		p.t.Fatalf("the operator says a %v", o.Kind)
	}
	return o
}

func (p *peer) audited() observer.Audited {
	p.t.Helper()
	v := must[[]observer.Audited](p, observer.Audits{})
	if len(v) != 1 {
		p.t.Fatalf("audited: %+v", v)
	}
	return v[0]
}

func decode[T wire.Message](t *testing.T, o wire.Object) T {
	t.Helper()
	m, err := wire.Decode[T](o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCheckpointsAreDrawnHourlyAndProven(t *testing.T) {
	op, a, _ := bankTown(t)
	if v := a.audited(); v.State != "proven" || v.Checkpoint.Size != 1 || v.Checkpoint.Number != 1 || v.Note == "" {
		t.Fatalf("%+v", v)
	}
	op.pays(a, 3)
	said := len(op.said)
	if op.step(step.Tick{}); len(op.said) != said {
		t.Fatal("a checkpoint before its hour")
	}
	next := op.draws()
	a.hears(next)
	if v := a.audited(); v.State != "proven" || v.Checkpoint.Size != 4 || v.Checkpoint.Number != 2 || v.Next != nil {
		t.Fatalf("%+v", v)
	}
	op.crash()
	said = len(op.said)
	*op.now += 2 * member.Hour
	if op.step(step.Tick{}); slices.ContainsFunc(op.said[said:], func(o wire.Object) bool { return o.Kind == wire.KindCheckpoint }) {
		t.Fatal("a checkpoint of nothing new")
	}
	// One that the operator cannot be asked about stays unproven, and is asked about again.
	op.pays(a, 1)
	last := op.draws()
	op.away = true
	a.hears(last)
	if v := a.audited(); v.State != "unproven" || v.Checkpoint.Number != 2 || v.Next.Number != 3 || v.Refused != 0 {
		t.Fatalf("%+v", v)
	}
	a.crash()
	op.away = false
	op.lie = func(step.Op, []byte) *step.Reply {
		return &step.Reply{Refusal: step.Refuse(step.RefuseBusy, "too much to do")}
	}
	for range 5 {
		*a.now += 60 * member.Second
		a.step(step.Tick{})
	}
	if v := a.audited(); v.State != "unproven" || v.Refused != 0 {
		t.Fatalf("a busy operator is accused: %+v", v)
	}
	op.lie = nil
	*a.now += 60 * member.Second
	a.step(step.Tick{})
	if v := a.audited(); v.State != "proven" || v.Checkpoint.Number != 3 {
		t.Fatalf("%+v", v)
	}
}

// forged is a checkpoint that the operator signs beside its own.
func (p *peer) forged(o wire.Object, change func(*audit.Checkpoint)) wire.Object {
	p.t.Helper()
	c := decode[audit.Checkpoint](p.t, o)
	change(&c)
	return p.seal(c)
}

func TestTwoJournalsConvict(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*audit.Checkpoint)
		lie    func(op *peer, body step.ConsistencyBody, held, next audit.Checkpoint) *step.Reply
		state  string
	}{
		"same number": {change: func(c *audit.Checkpoint) { c.Root[0] ^= 1 }, state: "false"},
		"same size":   {change: func(c *audit.Checkpoint) { c.Number += 3; c.Root[0] ^= 1 }, state: "false"},
		"same journal, other accounts": {change: func(c *audit.Checkpoint) {
			c.Number += 3
			c.Sums.Available++
			c.Sums.Deposited++
		}, state: "false"},
		"shorter": {change: func(c *audit.Checkpoint) { c.Number += 3; c.Size-- }, state: "false"},
		// The operator proves its own journal, which the checkpoint is not of.
		"another journal": {change: func(c *audit.Checkpoint) { c.Number += 3; c.Size++; c.Root[0] ^= 1 }, state: "false"},
		"a proof that fails": {
			change: func(c *audit.Checkpoint) { c.Number += 3; c.Size++; c.Root[0] ^= 1 },
			lie: func(op *peer, b step.ConsistencyBody, held, next audit.Checkpoint) *step.Reply {
				return &step.Reply{Frame: wire.Frame{Op: uint8(step.OpOK), Objects: []wire.Object{op.seal(audit.Consistency{
					Operator: held.Operator, Old: held.Size, OldRoot: held.Root, Size: next.Size, Root: next.Root, Proof: []identity.Hash{{1}},
				})}}}
			}, state: "false",
		},
		"no proof": {
			change: func(c *audit.Checkpoint) { c.Number += 3; c.Size++; c.Root[0] ^= 1 },
			lie: func(*peer, step.ConsistencyBody, audit.Checkpoint, audit.Checkpoint) *step.Reply {
				return &step.Reply{Refusal: step.Refuse(step.RefuseUnknown, "no")}
			}, state: "unproven",
		},
	} {
		t.Run(name, func(t *testing.T) {
			op, a, b := bankTown(t)
			op.pays(a, 4)
			held := op.draws()
			a.hears(held)
			b.hears(held)
			op.pays(a, 1)
			false1 := op.forged(held, c.change)
			if c.lie != nil {
				op.lie = func(o step.Op, body []byte) *step.Reply {
					if o != step.OpConsistency {
						return nil
					}
					return c.lie(op, step.ConsistencyBody{}, decode[audit.Checkpoint](t, held), decode[audit.Checkpoint](t, false1))
				}
			}
			said := len(a.said)
			a.hears(false1)
			if v := a.audited(); v.State != c.state {
				t.Fatalf("%+v", v)
			}
			notices := func(p *peer, kind string) (n int) {
				for _, x := range p.told {
					if x.Type == kind {
						n++
					}
				}
				return n
			}
			if c.state != "false" {
				for range 5 {
					*a.now += 60 * member.Second
					a.step(step.Tick{})
				}
				if n := notices(a, "audit.unproven"); n != 1 || a.audited().Checkpoint.Number != 2 {
					t.Fatalf("%d notices, %+v", n, a.audited())
				}
				return
			}
			a.crash()
			if v := a.audited(); v.State != "false" || v.What == "" || notices(a, "evidence.bank") != 1 {
				t.Fatalf("after a crash: %+v", v)
			}
			b.hears(a.said[said:]...) // what a tells everybody is enough
			if v := b.audited(); v.State != "false" {
				t.Fatalf("the other member: %+v", v)
			}
			for _, p := range []*peer{a, b} {
				list := must[[]audit.Evidence](p, observer.Evident{})
				if len(list) != 1 {
					t.Fatalf("evidence: %+v", list)
				}
				if v, err := audit.VerifyEvidence(list[0].Encode(), identity.Secp256k1{}); err != nil || v.Operator != op.key.Address() {
					t.Fatalf("%+v, %v", v, err)
				}
			}
		})
	}
}

// Evidence comes to a newcomer by sync, whatever it has seen before.
func TestEvidenceComesBySync(t *testing.T) {
	op, a, b := bankTown(t)
	op.pays(a, 4)
	held := op.draws()
	a.hears(held, op.forged(held, func(c *audit.Checkpoint) { c.Root[0] ^= 1 }))
	if v := b.audited(); v.State != "proven" || v.Checkpoint.Number != 1 {
		t.Fatalf("%+v", v)
	}
	b.step(step.Peer{Address: a.key.Address(), Key: a.key.Public(), Up: true})
	if v := b.audited(); v.State != "false" {
		t.Fatalf("%+v", v)
	}
}

// The pieces of evidence convict in either order, also where each alone is of an hour that is long over.
func TestOldPiecesOfEvidenceConvict(t *testing.T) {
	op, a, b := bankTown(t)
	op.pays(a, 4)
	old := op.draws()
	false1 := op.forged(old, func(c *audit.Checkpoint) { c.Root[0] ^= 1 })
	op.pays(a, 4)
	next := op.draws()
	a.hears(old)
	for _, p := range []*peer{a, b} {
		p.hears(next)
		if v := p.audited(); v.State != "proven" || v.Checkpoint.Size != 9 {
			t.Fatalf("%+v", v)
		}
		p.crash() // what it had in mind is lost
	}
	a.hears(old, false1)
	b.hears(false1) // its operator has no proof for it
	for _, p := range []*peer{a, b} {
		if v := p.audited(); v.State != "false" {
			t.Fatalf("%+v", v)
		}
	}
}

func TestMemberProvesItsAccount(t *testing.T) {
	op, a, b := bankTown(t)
	b.fails(observer.Prove{}, step.ProblemNotFound) // nothing ever moved there
	op.pays(a, 120)                                 // more than one answer holds
	op.pays(b, 3)
	op.pays(a, 2)
	*op.now += 60 * member.Second
	for _, p := range []*peer{a, b} {
		s := must[audit.Statement](p, observer.Prove{})
		sum, err := audit.VerifyStatement(s.Encode(), identity.Secp256k1{})
		if err != nil || sum.Account != p.key.Address() || sum.Entries != uint64(len(s.Entries)) || sum.Size != 126 {
			t.Fatalf("%+v, %v", sum, err)
		}
		if want := 20 * ledger.Credit * ledger.Amount(len(s.Entries)); sum.Sums.Available != want || sum.Totals.Deposited != 20*126*ledger.Credit {
			t.Fatalf("%+v", sum)
		}
		if v := p.audited(); v.State != "proven" || v.Checkpoint.Size != 126 {
			t.Fatalf("the statement's checkpoint is not held: %+v", v)
		}
	}
	op.pays(b, 1) // within the minute of the last checkpoint: it is not in it
	if s := must[audit.Statement](b, observer.Prove{}); s.Leaf.Entries != 3 || len(s.Entries) != 3 {
		t.Fatalf("%+v", s.Leaf)
	}
	op.crash() // it draws anew what it can no longer prove
	if s := must[audit.Statement](b, observer.Prove{}); s.Leaf.Entries != 4 {
		t.Fatalf("%+v", s.Leaf)
	}
	op.away = true
	b.fails(observer.Prove{}, step.ProblemUnreachable)
}

// A bank that leaves entries out, shows another's or proves nothing is not believed.
func TestStatementOfAFalseBankFails(t *testing.T) {
	for name, lie := range map[string]func(op *peer, r *step.Reply, o step.Op){
		"an entry less": func(_ *peer, r *step.Reply, o step.Op) {
			if o == step.OpEntries && len(r.Frame.Objects) > 0 {
				r.Frame.Objects = r.Frame.Objects[1:]
			}
		},
		"an entry twice": func(_ *peer, r *step.Reply, o step.Op) {
			if o == step.OpEntries {
				r.Frame.Objects = append(r.Frame.Objects[:1:1], r.Frame.Objects...)
			}
		},
		"a higher balance": func(_ *peer, r *step.Reply, o step.Op) {
			if o == step.OpOwed {
				a, err := step.Body[step.OwedAnswer](r.Frame.Body)
				if err != nil {
					panic(err)
				}
				a.Leaf.Sums.Available++
				r.Frame.Body = wire.Marshal(a)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			op, a, _ := bankTown(t)
			op.pays(a, 4)
			*op.now += 60 * member.Second
			inside := false
			op.lie = func(o step.Op, body []byte) *step.Reply {
				if inside {
					return nil
				}
				inside = true
				defer func() { inside = false }()
				r := op.ask(a, step.ProtoBank, o, bytes.Clone(body))
				lie(op, &r, o)
				return &r
			}
			v, err := a.try(observer.Prove{})
			if err != nil {
				return // it did not even come to a statement
			}
			if sum, err := v.(audit.Statement).Verify(identity.Secp256k1{}); err == nil {
				t.Fatalf("it verifies: %+v", sum)
			}
		})
	}
}

func TestAuditRequestsAreBounded(t *testing.T) {
	op, a, _ := bankTown(t)
	for name, c := range map[string]struct {
		op   step.Op
		body any
	}{
		"a size of the future":  {step.OpConsistency, step.ConsistencyBody{Old: 1, Size: 1 << 60}},
		"no size":               {step.OpConsistency, step.ConsistencyBody{Old: 0, Size: 1}},
		"sizes the wrong way":   {step.OpConsistency, step.ConsistencyBody{Old: 2, Size: 1}},
		"too many proofs":       {step.OpProve, step.ProveBody{Size: 1, Seqs: make([]uint64, step.MostEntries+1)}},
		"entry 0":               {step.OpProve, step.ProveBody{Size: 1, Seqs: []uint64{0}}},
		"an entry behind it":    {step.OpProve, step.ProveBody{Size: 1, Seqs: []uint64{2}}},
		"another checkpoint":    {step.OpOwed, step.OwedBody{Number: 7}},
		"no checkpoint":         {step.OpOwed, step.OwedBody{}},
		"entries after the end": {step.OpEntries, step.EntriesBody{After: 1<<64 - 1}},
		"no body":               {step.OpEntries, nil},
	} {
		var body []byte
		if c.body != nil {
			body = wire.Marshal(c.body)
		}
		if r := op.ask(a, step.ProtoBank, c.op, body); r.Refusal == nil {
			t.Errorf("%s: answered", name)
		}
	}
	// Asking again and again draws one checkpoint a minute.
	said := len(op.said)
	for range 10 {
		op.pays(a, 1)
		op.ask(a, step.ProtoBank, step.OpCheckpoint, nil)
	}
	if n := len(op.said) - said; n != 0 {
		t.Errorf("%d checkpoints within a minute of the last", n)
	}
}
