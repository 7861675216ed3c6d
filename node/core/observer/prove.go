package observer

import (
	"souk/ledger"
	"souk/ledger/audit"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// Bounds of a statement: the entries of one account that are asked for, and how often to begin again because the bank has
// drawn a newer checkpoint meanwhile.
const (
	proveMost  = 50_000
	proveTries = 3
)

// A proving is a statement that is being put together, answer by answer. It is over when the user is answered.
type proving struct {
	o     *Observer
	id    uint64 // of the user's question
	bank  identity.Address
	tries int
	point audit.Checkpoint
	s     audit.Statement
}

func (o *Observer) prove(ctx *step.Context, id uint64) {
	if !o.founded {
		ctx.Answer(id, nil, step.Fail(step.ProblemTrust, "join one with 'souk join CODE'", "this node belongs to no market"))
		return
	}
	p := &proving{o: o, id: id, bank: o.Bank()}
	p.begin(ctx)
}

// ask sends the bank a question; then is called with its answer, unless there is none.
func (p *proving) ask(ctx *step.Context, op step.Op, body any, then func(*step.Context, step.Response)) {
	p.o.awaiting[ctx.Send(p.bank, step.ProtoBank, op, body)] = func(ctx *step.Context, r step.Response) {
		if r.Err == nil {
			then(ctx, r)
			return
		}
		if no := r.Err.Refusal; no != nil && no.Code == step.RefuseStale && p.tries < proveTries {
			p.tries++
			p.begin(ctx)
			return
		}
		ctx.Answer(p.id, nil, step.FromFailure(r.Err, "the bank"))
	}
}

func (p *proving) fail(ctx *step.Context, format string, args ...any) {
	ctx.Answer(p.id, nil, step.Fail(step.ProblemVerify, "", format, args...))
}

// begin asks for a checkpoint of now.
func (p *proving) begin(ctx *step.Context) {
	_, charter := p.o.Charter()
	p.s = audit.Statement{Charter: charter}
	p.ask(ctx, step.OpCheckpoint, nil, func(ctx *step.Context, r step.Response) {
		c, ok := step.Find[audit.Checkpoint](r.Objects)
		if !ok || c.By() != p.bank {
			p.fail(ctx, "the bank shows no checkpoint of its own")
			return
		}
		p.o.take(ctx, c.Value(), c.Object()) // it has to extend what this node holds
		p.point, p.s.Checkpoint = c.Value(), c.Object()
		p.ask(ctx, step.OpOwed, step.OwedBody{Number: p.point.Number}, p.owed)
	})
}

// owed takes the leaf, which tells how many entries there are.
func (p *proving) owed(ctx *step.Context, r step.Response) {
	a, err := step.Body[step.OwedAnswer](r.Body)
	switch {
	case err != nil || a.Leaf.Account != p.o.self:
		p.fail(ctx, "the bank answers with no account of this node's")
		return
	case a.Leaf.Entries > proveMost:
		ctx.Answer(p.id, nil, step.Fail(step.ProblemOther, "", "the account has %d entries; at most %d can be proven in one file", a.Leaf.Entries, proveMost))
		return
	}
	p.s.Leaf, p.s.Place, p.s.Path = a.Leaf, a.Place, a.Path
	p.more(ctx)
}

// more asks for entries and their proofs until there are as many as the leaf says.
func (p *proving) more(ctx *step.Context) {
	have := uint64(len(p.s.Entries))
	if have >= p.s.Leaf.Entries {
		ctx.Answer(p.id, p.s, nil)
		return
	}
	p.ask(ctx, step.OpEntries, step.EntriesBody{After: have}, func(ctx *step.Context, r step.Response) {
		var list []wire.Object
		var body step.ProveBody
		for _, e := range step.FindAll[ledger.Entry](r.Objects) {
			if seq := e.Value().Seq; seq <= p.point.Size && len(list) < step.MostEntries {
				list, body.Seqs = append(list, e.Object()), append(body.Seqs, seq)
			}
		}
		if len(list) == 0 {
			p.fail(ctx, "the bank shows %d entries of this node's account, and says that there are %d", have, p.s.Leaf.Entries)
			return
		}
		body.Size = p.point.Size
		p.ask(ctx, step.OpProve, body, func(ctx *step.Context, r step.Response) {
			a, err := step.Body[step.ProveAnswer](r.Body)
			if err != nil || len(a.Proofs) != len(list) {
				p.fail(ctx, "the bank does not prove the entries that it has shown")
				return
			}
			for i, obj := range list {
				p.s.Entries = append(p.s.Entries, audit.Proven{Entry: obj, Proof: a.Proofs[i]})
			}
			p.more(ctx)
		})
	})
}
