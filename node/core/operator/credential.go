package operator

import (
	"errors"
	"fmt"
	"slices"

	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// renewWithin is how long after its credential's end a member may still renew it by itself.
const renewWithin = 30 * member.Day

// terms are what an operator decides about a member; zero fields leave it to the invite or to the credential before.
type terms struct {
	tier    member.Tier
	alias   string
	maxGPUs uint32
}

// admit approves an applicant: it gets its first credential, or its next with one more role.
func (o *Operator) admit(ctx *step.Context, a identity.Address, p *applicant, t terms) {
	j := p.request()
	c, _, in := o.world.Credential(a)
	if !in {
		c = member.Credential{Subject: j.Subject, Owner: a}
		c.Alias = o.freeAlias(a, j.Alias)
	}
	c.Roles |= j.Role
	if !j.Payout.IsZero() || c.Payout.IsZero() {
		c.Payout = j.Payout
	}
	if c.Payout.IsZero() {
		c.Payout = a
	}
	if j.Role == member.RoleHost {
		i := o.invites.Get(j.Secret)
		c.Tier, c.MaxGPUs, c.Witness = i.Tier, i.MaxGPUs, true
		c.Attestations = p.Request.Ref(ctx.Market)
		if !j.Owner.IsZero() {
			c.Owner = j.Owner // a person has looked at it
		}
	}
	o.issue(ctx, t.on(c))
	p.State, p.Reason, p.Decided = step.JoinApproved, "", ctx.Now
	o.applicants.Touch(a)
	ctx.Notify("join.approved", wire.ID{}, fmt.Sprintf("%s is a %v now", name(a, c.Alias), j.Role),
		"address", a.String(), "role", j.Role.String(), "tier", c.Tier.String())
}

// on is the credential with what was decided.
func (t terms) on(c member.Credential) member.Credential {
	if t.tier != member.TierNone {
		c.Tier = t.tier
	}
	if t.alias != "" {
		c.Alias = t.alias
	}
	if t.maxGPUs != 0 {
		c.MaxGPUs = t.maxGPUs
	}
	return c
}

// issue signs a credential anew: the next serial, from now on.
func (o *Operator) issue(ctx *step.Context, c member.Credential) {
	p, _ := o.world.Policy()
	a := c.Address()
	c.Issuer, c.Delegation = ctx.Self, identity.Hash{}
	c.Serial++
	c.NotBefore, c.NotAfter = ctx.Now, ctx.Now+member.Time(p.CredentialLife)*member.Second
	o.enact(ctx, chain("credential", a[:]), c.Serial, c)
}

// ripe is when a credential may be renewed.
func (o *Operator) ripe(c member.Credential) member.Time {
	p, _ := o.world.Policy()
	return c.NotBefore + member.Time(p.RenewAfter)*member.Second
}

// renewOwn keeps this operator itself a member, and returns when it must next.
func (o *Operator) renewOwn(ctx *step.Context) member.Time {
	c, _, ok := o.world.Credential(ctx.Self)
	if !ok {
		c = member.Credential{Subject: ctx.Boot.Key, Owner: ctx.Self, Payout: ctx.Self, Roles: member.RoleOperator, Witness: true}
	}
	if !ok || ctx.Now >= o.ripe(c) {
		o.issue(ctx, c)
		c, _, _ = o.world.Credential(ctx.Self)
	}
	return max(o.ripe(c), ctx.Now+member.Second)
}

// renew gives a member its next credential, or the one it has while that is young.
func (o *Operator) renew(ctx *step.Context, r step.Request) {
	if no := o.mayRenew(ctx, r.Peer); no != nil {
		ctx.Refuse(r.ID, no)
		return
	}
	if c, _, _ := o.world.Credential(r.Peer); ctx.Now >= o.ripe(c) {
		o.issue(ctx, c)
	}
	ctx.Reply(r.ID, step.OpOK, nil, o.credentials(nil, r.Peer)...)
}

func (o *Operator) mayRenew(ctx *step.Context, a identity.Address) *step.Refusal {
	c, _, _ := o.world.Credential(a)
	switch err := o.world.Standing(a, ctx.Now); {
	case o.foreign(a, ctx.Self):
		return step.Refuse(step.RefuseNotForYou, "%v issued this credential, and renews it", c.Issuer)
	case errors.Is(err, member.ErrExpired) && ctx.Now < c.NotAfter+renewWithin:
		return nil
	case errors.Is(err, member.ErrExpired):
		return step.Refuse(step.RefuseNoCredential, "the credential ended at %v; ask the operator to approve this node again", c.NotAfter)
	case err != nil:
		return o.outcast(ctx, a)
	}
	return nil
}

// foreign reports whether another operator issued a's credential: that one renews it, and keeps a's account.
func (o *Operator) foreign(a, self identity.Address) bool {
	c, _, ok := o.world.Credential(a)
	return ok && c.Issuer != self
}

// outcast is the refusal of somebody who is no member in good standing; nil for one who is.
func (o *Operator) outcast(ctx *step.Context, a identity.Address) *step.Refusal {
	err := o.world.Standing(a, ctx.Now)
	if s, out := o.world.Sanctioned(a); out {
		return step.Refuse(step.RefuseRevoked, "this node is %v: %s", s.Sanction, s.Reason)
	}
	if err != nil {
		return step.Refuse(step.RefuseNoCredential, "%v", err)
	}
	return nil
}

// freeAlias is the alias wanted, or with a number behind it when somebody else has it.
func (o *Operator) freeAlias(a identity.Address, want string) string {
	if want == "" || !o.taken(a, want) {
		return want
	}
	for n := 2; ; n++ {
		end := fmt.Sprintf("-%d", n)
		if s := want[:min(len(want), 32-len(end))] + end; !o.taken(a, s) {
			return s
		}
	}
}

func (o *Operator) taken(by identity.Address, alias string) bool {
	return slices.ContainsFunc(o.world.Members(), func(b identity.Address) bool {
		c, _, _ := o.world.Credential(b)
		return b != by && c.Alias == alias
	})
}
