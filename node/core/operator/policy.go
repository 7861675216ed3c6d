package operator

import (
	"slices"

	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// bootstrapMost is how many addresses a policy can list.
const bootstrapMost = 16

// Bootstrap tells the market where this operator can be reached, when that has changed. It is answered with a PolicyView.
type Bootstrap struct{ Addrs []string }

// A PolicyView says which policy is in force, and where newcomers find the market.
type PolicyView struct {
	Number    uint64        `json:"number"`
	Ref       identity.Hash `json:"ref"`
	Effective member.Time   `json:"effective"`
	Bootstrap []string      `json:"bootstrap"`
}

func (c Bootstrap) run(o *Operator, ctx *step.Context) (any, error) {
	if len(c.Addrs) == 0 || len(c.Addrs) > bootstrapMost {
		return nil, step.Fail(step.ProblemUsage, "", "want 1 to %d addresses", bootstrapMost)
	}
	if err := checkAddrs(c.Addrs); err != nil {
		return nil, err
	}
	o.announce(ctx, c.Addrs)
	p, obj := o.world.Policy()
	return PolicyView{Number: p.Number, Ref: obj.Ref(ctx.Market), Effective: p.Effective, Bootstrap: p.Bootstrap}, nil
}

// announce issues the next policy when the addresses in force are not these. New addresses are in effect at once.
func (o *Operator) announce(ctx *step.Context, addrs []string) {
	c, _ := o.world.Charter()
	p, obj := o.world.Policy()
	next := slices.Compact(slices.Sorted(slices.Values(addrs)))
	old := slices.Sorted(slices.Values(p.Bootstrap))
	if len(c.Operators) > 1 {
		// Other operators have addresses there too, and none says whose it is: what is new goes before what was there.
		next = append(next, slices.DeleteFunc(slices.Clone(old), func(a string) bool { return slices.Contains(next, a) })...)
	}
	next = next[:min(len(next), bootstrapMost)]
	if len(addrs) == 0 || p.Number == 0 || slices.Equal(slices.Sorted(slices.Values(next)), old) {
		return
	}
	p.Operator, p.Number, p.Prev, p.Effective, p.Bootstrap = ctx.Self, p.Number+1, obj.Ref(ctx.Market), ctx.Now, next
	o.enact(ctx, []byte("policy"), p.Number, p)
}
