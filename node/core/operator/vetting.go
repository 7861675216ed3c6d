package operator

import (
	"fmt"

	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A MemberView is one member as this operator sees it.
type MemberView struct {
	Address   identity.Address `json:"address"`
	Alias     string           `json:"alias"`
	Roles     string           `json:"roles"`
	Tier      string           `json:"tier"`
	MaxGPUs   uint32           `json:"maxGpus"`
	Owner     identity.Address `json:"owner"`
	Issuer    identity.Address `json:"issuer"`
	Serial    uint64           `json:"serial"`
	NotBefore member.Time      `json:"notBefore"`
	NotAfter  member.Time      `json:"notAfter"`
	Standing  string           `json:"standing"` // good, expired, suspended, revoked
}

// A SanctionView is what stands against somebody.
type SanctionView struct {
	Number   uint64           `json:"number"`
	Operator identity.Address `json:"operator"`
	Subject  identity.Address `json:"subject"`
	Sanction string           `json:"sanction"` // suspended, revoked or reinstated
	Fraud    bool             `json:"fraud"`
	Reason   string           `json:"reason"`
	At       member.Time      `json:"at"`
}

func sanctionView(r member.Revocation) SanctionView {
	return SanctionView{Number: r.Number, Operator: r.Operator, Subject: r.Subject, Sanction: r.Sanction.String(), Fraud: r.Fraud,
		Reason: r.Reason, At: r.At}
}

func (o *Operator) member(ctx *step.Context, a identity.Address) MemberView {
	c, _, _ := o.world.Credential(a)
	v := MemberView{Address: a, Alias: c.Alias, Roles: c.Roles.String(), Tier: c.Tier.String(), MaxGPUs: c.MaxGPUs, Owner: c.Owner,
		Issuer: c.Issuer, Serial: c.Serial, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Standing: "good"}
	if s, out := o.world.Sanctioned(a); out {
		v.Standing = s.Sanction.String()
	} else if o.world.Standing(a, ctx.Now) != nil {
		v.Standing = "expired"
	}
	return v
}

// Members is answered with []MemberView, in the order of addresses.
type Members struct{}

func (Members) run(o *Operator, ctx *step.Context) (any, error) {
	out := []MemberView{}
	for _, a := range o.world.Members() {
		out = append(out, o.member(ctx, a))
	}
	return out, nil
}

// Approve makes an applicant a member, or gives a member another tier, alias or limit by its next credential. What is
// left zero stays as it is, or as the invite says. It is answered with the MemberView; the same again changes nothing.
type Approve struct {
	Addr    string
	Tier    member.Tier
	Alias   string
	MaxGPUs uint32
}

func (c Approve) run(o *Operator, ctx *step.Context) (any, error) {
	a, err := o.resolve(c.Addr)
	if err != nil {
		return nil, err
	}
	p := o.applicants.Get(a)
	old, _, in := o.world.Credential(a)
	host := in && old.Roles.Has(member.RoleHost) || p != nil && p.request().Role == member.RoleHost
	if err := c.check(o, ctx.Self, a, host); err != nil {
		return nil, err
	}
	t := terms{tier: c.Tier, alias: c.Alias, maxGPUs: c.MaxGPUs}
	switch {
	case p == nil && !in:
		return nil, unknown(a)
	case p != nil && p.State != step.JoinApproved:
		o.admit(ctx, a, p, t)
	case t.on(old) != old || ctx.Now >= old.NotAfter:
		o.issue(ctx, t.on(old))
	}
	return o.member(ctx, a), nil
}

func (c Approve) check(o *Operator, self, a identity.Address, host bool) error {
	s, out := o.world.Sanctioned(a)
	switch {
	case o.foreign(a, self):
		return step.Fail(step.ProblemConflict, "its operator keeps its account, and decides", "another operator admitted %v", a)
	case out && s.Sanction == member.Suspend:
		return step.Fail(step.ProblemConflict, "reinstate it first", "%v is suspended: %s", a, s.Reason)
	case out:
		return step.Fail(step.ProblemConflict, "its owner needs a new key", "%v is revoked: %s", a, s.Reason)
	case c.Tier > member.TierSecure || c.MaxGPUs > mostGPUs:
		return step.Fail(step.ProblemUsage, "", "a host has a known tier and at most %d GPUs", mostGPUs)
	case !host && (c.Tier != member.TierNone || c.MaxGPUs != 0):
		return step.Fail(step.ProblemUsage, "", "%v is no host: it has no tier and no GPUs", a)
	case !cleanAlias(c.Alias):
		return step.Fail(step.ProblemUsage, "", "the alias %q: %v", c.Alias, errAlias)
	case c.Alias != "" && o.taken(a, c.Alias):
		return step.Fail(step.ProblemConflict, "", "another member is called %q", c.Alias)
	}
	return nil
}

// Reject turns an applicant away. It is answered with the ApplicantView. A later Approve still takes it.
type Reject struct {
	Addr   string
	Reason string // told to the applicant
}

func (c Reject) run(o *Operator, ctx *step.Context) (any, error) {
	a, err := o.resolve(c.Addr)
	if err != nil {
		return nil, err
	}
	p := o.applicants.Get(a)
	switch {
	case len(c.Reason) == 0 || len(c.Reason) > 256:
		return nil, step.Fail(step.ProblemUsage, "give --reason", "a rejection wants a reason of 1 to 256 bytes")
	case p == nil:
		return nil, step.Fail(step.ProblemNotFound, "", "%v has not asked to join", a)
	case p.State == step.JoinApproved:
		return nil, step.Fail(step.ProblemConflict, "suspend or revoke it", "%v is approved already", a)
	case p.State == step.JoinPending:
		p.State, p.Reason, p.Decided = step.JoinRejected, c.Reason, ctx.Now
		o.applicants.Touch(a)
	}
	return o.view(ctx, a), nil
}

// Sanction suspends, revokes or reinstates a member, or bars somebody who is none yet. It is answered with the
// SanctionView that stands now; the same again changes nothing.
type Sanction struct {
	Addr   string
	What   member.Sanction
	Reason string
	Fraud  bool // proven: its running leases end too
}

func (c Sanction) run(o *Operator, ctx *step.Context) (any, error) {
	a, err := o.resolve(c.Addr)
	if err != nil {
		return nil, err
	}
	now, out := o.world.Sanctioned(a)
	n, prev := o.world.LastRevocation()
	r := member.Revocation{Operator: ctx.Self, Number: n + 1, Prev: prev, Subject: a, Sanction: c.What, Fraud: c.Fraud, Reason: c.Reason, At: ctx.Now}
	switch err := r.Validate(); {
	case err != nil:
		return nil, step.Fail(step.ProblemUsage, "", "%v", err)
	case a == ctx.Self:
		return nil, step.Fail(step.ProblemUsage, "", "an operator does not sanction itself")
	case c.What == member.Reinstate && c.Fraud:
		return nil, step.Fail(step.ProblemUsage, "", "nobody is reinstated for fraud")
	case out && now.Sanction == c.What && (now.Fraud || !c.Fraud):
		return sanctionView(now), nil
	case out && now.Sanction == member.Revoke:
		return nil, step.Fail(step.ProblemConflict, "its owner needs a new key", "%v is revoked, which nothing changes", a)
	case !out && c.What == member.Reinstate:
		return nil, step.Fail(step.ProblemConflict, "", "nothing stands against %v", a)
	}
	o.enact(ctx, []byte("revocation"), r.Number, r)
	ctx.Notify("sanction", wire.ID{}, fmt.Sprintf("%s is %v: %s", name(a, o.alias(a)), r.Sanction, r.Reason),
		"address", a.String(), "sanction", r.Sanction.String())
	return sanctionView(r), nil
}
