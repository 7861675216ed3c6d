package observer

import (
	"cmp"
	"slices"
	"strings"

	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// The tape: which GPUs were taken at which price, as hosts have told in their offers while this node listened. It is bounded
// in time and in number; of the oldest it forgets first.
const (
	tapeFor  = 7 * member.Day
	tapeMost = 20_000
)

// fillKey names an entry of a host's lease log.
type fillKey struct {
	host identity.Address
	seq  uint64
}

func newFills() *step.Map[fillKey, market.Fill] {
	return step.NewMap[fillKey, market.Fill](table.Fill,
		func(k fillKey) []byte { return table.Key(table.Fill, k.host[:], table.Uint64(k.seq)) },
		func(b []byte) fillKey {
			return fillKey{identity.Address(table.Field(b, 0)), table.Number(table.Field(b, 1))}
		})
}

// older orders the tape.
func (o *Observer) older(a, b fillKey) int {
	return cmp.Or(cmp.Compare(o.fills.Get(a).At, o.fills.Get(b).At), a.host.Compare(b.host), cmp.Compare(a.seq, b.seq))
}

func (o *Observer) restoreTape() {
	o.tape = o.fills.Keys()
	slices.SortFunc(o.tape, o.older)
}

// takeFills notes the fills of an offer that are news.
func (o *Observer) takeFills(ctx *step.Context, f market.Offer) {
	for _, fill := range f.Fills {
		k := fillKey{f.Host, fill.Seq}
		if o.fills.Get(k) != nil {
			continue
		}
		o.fills.Put(k, fill)
		at, _ := slices.BinarySearchFunc(o.tape, k, o.older)
		o.tape = slices.Insert(o.tape, at, k)
	}
	o.forgetFills(len(o.tape) - tapeMost)
}

// expireFills forgets what is too old.
func (o *Observer) expireFills(ctx *step.Context) {
	n, _ := slices.BinarySearchFunc(o.tape, ctx.Now-tapeFor, func(k fillKey, t member.Time) int { return cmp.Compare(o.fills.Get(k).At, t) })
	o.forgetFills(n)
}

func (o *Observer) forgetFills(n int) {
	if n <= 0 {
		return
	}
	for _, k := range o.tape[:n] {
		o.fills.Delete(k)
	}
	o.tape = slices.Delete(o.tape, 0, n)
}

// Tape asks for what was taken, the newest first. Answer: Taped.
type Tape struct {
	Model string // as a query has it; empty: all
	Since member.Time
	Limit int // 0: all
}

// Taped is the answer to Tape.
type Taped struct {
	Fills []Filled
	Count int // how many there are since then; more than are listed where a limit was given
}

// Filled is a fill, and whose it is.
type Filled struct {
	market.Fill
	Host  identity.Address
	Alias string
}

func (o *Observer) taped(_ *step.Context, c Tape) (Taped, *step.Problem) {
	if !o.founded {
		return Taped{}, step.Fail(step.ProblemTrust, "join one with 'souk join CODE'", "this node belongs to no market")
	}
	out := Taped{Fills: []Filled{}}
	for i := len(o.tape) - 1; i >= 0; i-- {
		f := o.fills.Get(o.tape[i])
		if f.At < c.Since {
			break
		}
		if c.Model != "" && !market.SameModel(f.Model, c.Model) {
			continue
		}
		if out.Count++; c.Limit > 0 && len(out.Fills) == c.Limit {
			continue
		}
		cred, _, _ := o.Credential(o.tape[i].host)
		out.Fills = append(out.Fills, Filled{*f, o.tape[i].host, cred.Alias})
	}
	if out.Count == 0 && c.Model != "" && !slices.ContainsFunc(market.Models(), func(m string) bool { return market.SameModel(m, c.Model) }) {
		q, err := market.ParseQuery(`gpu_name="` + strings.ReplaceAll(c.Model, `"`, "") + `"`)
		if err == nil {
			err = o.index.Check(q)
		}
		if err != nil {
			return Taped{}, badQuery(err)
		}
	}
	return out, nil
}
