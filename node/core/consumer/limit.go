package consumer

import (
	"souk/ledger"
	"souk/node/core/step"
	"souk/p2p/wire"
)

// Commands about what the account may spend.
type (
	// SetLimit has the bank hold the account to a limit of its own. Answer: ledger.Ceiling.
	SetLimit struct {
		Hourly ledger.Rate   // most that all that is up may cost per hour; 0: no limit
		Daily  ledger.Amount // most in a day of the market; 0: no limit
	}
	// ShowLimit asks the bank for all limits of the account. Answer: ledger.Ceiling.
	ShowLimit struct{}
)

// setLimit signs the limit. Its sequence is the time, or more than the last: the newest word stands.
func (c *Consumer) setLimit(ctx *step.Context, id uint64, m SetLimit) {
	bank := c.w.Bank()
	if bank.IsZero() {
		ctx.Answer(id, nil, noBank())
		return
	}
	seq := max(uint64(ctx.Now), *c.limits.Get()+1)
	draft, err := wire.TryDraft(ledger.Limit{Account: ctx.Self, Operator: bank, Seq: seq, Hourly: m.Hourly, Daily: m.Daily, At: ctx.Now})
	if err != nil {
		ctx.Answer(id, nil, step.Fail(step.ProblemUsage, "", "%v", err))
		return
	}
	c.limits.Put(seq)
	c.askLimit(ctx, id, toBank(bank, step.OpLimit, nil, ctx.Guard([]byte("limit"), seq, draft)))
}

func (c *Consumer) showLimit(ctx *step.Context, id uint64) {
	bank := c.w.Bank()
	if bank.IsZero() {
		ctx.Answer(id, nil, noBank())
		return
	}
	c.askLimit(ctx, id, toBank(bank, step.OpLimit, nil))
}

func (c *Consumer) askLimit(ctx *step.Context, id uint64, q question) {
	c.ask(ctx, q.within(shortly), func(ctx *step.Context, r step.Response) {
		if r.Err != nil {
			ctx.Answer(id, nil, step.FromFailure(r.Err, "the bank"))
			return
		}
		v, err := step.Body[ledger.Ceiling](r.Body)
		if err != nil {
			ctx.Answer(id, nil, step.Fail(step.ProblemVerify, "", "the bank's answer cannot be read: %v", err))
			return
		}
		ctx.Answer(id, v, nil)
	})
}
