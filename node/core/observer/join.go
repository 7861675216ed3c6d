package observer

import (
	"errors"
	"slices"
	"strings"

	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// joining is where this node stands with the operator that invited it.
type joining struct {
	Invite  member.Invite      `cbor:"1,keyasint"`
	Request member.JoinRequest `cbor:"2,keyasint"`
	State   step.JoinState     `cbor:"3,keyasint"`
	Reason  string             `cbor:"4,keyasint"`
	Next    member.Time        `cbor:"5,keyasint"` // when to ask again
	Asked   bool               `cbor:"6,keyasint"` // the request has been sent
}

// Commands of every node.
type (
	// Found makes this node the operator of a new market. Answer: Standing.
	Found struct {
		Charter member.Charter
		Policy  member.Policy
		Alias   string
	}
	// Look asks an invite's operator about its market, and obliges to nothing. Answer: Prospect.
	Look struct{ Invite member.Invite }
	// Join asks for membership, with what Look has shown agreed to. Answer: Standing, as soon as the operator has answered.
	Join struct {
		Invite  member.Invite
		Alias   string
		Devices []member.Device
		Machine member.Machine
		Checks  []member.Check
	}
	// Where asks where this node stands. Answer: Standing.
	Where struct{}
)

// A Prospect is a market that one is invited to.
type Prospect struct {
	Name      string        `json:"name"`
	Market    identity.Hash `json:"market"`
	Testnet   bool          `json:"testnet"`
	Slot      uint16        `json:"slotSeconds"`
	Role      string        `json:"role"`
	Agreement string        `json:"agreement,omitempty"` // of hosts
}

// A Standing is this node's place in its market.
type Standing struct {
	State    string           `json:"state"` // none, pending, approved, rejected, suspended, revoked, expired
	Reason   string           `json:"reason,omitempty"`
	Market   string           `json:"market,omitempty"`
	MarketID identity.Hash    `json:"marketId"`
	Testnet  bool             `json:"testnet"`
	Slot     uint16           `json:"slotSeconds,omitempty"`
	Address  identity.Address `json:"address"`
	Roles    string           `json:"roles"`
	Tier     string           `json:"tier"`
	Alias    string           `json:"alias,omitempty"`
	Until    member.Time      `json:"until,omitempty"` // of the credential
	Peers    int              `json:"peers"`
	Skew     int64            `json:"skewMs"`
	Policy   uint64           `json:"policy"`
}

// Local takes a command of this node's user.
func (o *Observer) Local(ctx *step.Context, id uint64, cmd any) bool {
	switch c := cmd.(type) {
	case Found:
		o.found(ctx, id, c)
	case Look:
		o.look(ctx, id, c)
	case Join:
		o.join(ctx, id, c)
	case Where:
		ctx.Answer(id, o.Standings(ctx), nil)
	default:
		return o.localViews(ctx, id, cmd)
	}
	return true
}

// Standings is this node's place in its market now.
func (o *Observer) Standings(ctx *step.Context) Standing {
	s := Standing{State: "none", MarketID: o.market.ID, Address: o.self, Roles: "none", Tier: "-", Peers: len(o.order),
		Skew: int64(o.Skew()), Policy: o.policy.Number}
	if o.founded {
		s.Market, s.Testnet, s.Slot = o.charter.Name, o.charter.Testnet, o.charter.Slot
	}
	if o.joining.IsSet() {
		j := o.joining.Get()
		s.Reason = j.Reason
		s.State = joinWords[j.State]
	}
	c, _, ok := o.Credential(o.self)
	if !ok {
		return s
	}
	s.Roles, s.Tier, s.Alias, s.Until = c.Roles.String(), c.Tier.String(), c.Alias, c.NotAfter
	switch err := o.roster.Standing(o.self, ctx.Now); err {
	case nil:
		s.State, s.Reason = "approved", ""
	case member.ErrExpired:
		s.State, s.Reason = "expired", "the credential ended; it renews when the operator is reached"
	case member.ErrNotYet:
		s.State, s.Reason = "pending", err.Error()
	default:
		r, _ := o.roster.Sanctioned(o.self)
		s.State, s.Reason = r.Sanction.String(), r.Reason
	}
	return s
}

func (o *Observer) found(ctx *step.Context, id uint64, c Found) {
	if o.founded || o.joining.IsSet() {
		ctx.Answer(id, nil, step.Fail(step.ProblemConflict, "use another --home for another market", "this home already belongs to a market"))
		return
	}
	own := member.Credential{
		Subject: ctx.Boot.Key, Issuer: o.self, Owner: o.self, Roles: member.RoleOperator, Alias: c.Alias, Payout: o.self,
		Serial: 1, NotBefore: ctx.Now, NotAfter: ctx.Now + member.Time(c.Policy.CredentialLife)*member.Second, Witness: true,
	}
	if err := errors.Join(c.Charter.Validate(), c.Policy.Validate(), own.Validate()); err != nil {
		ctx.Answer(id, nil, step.Fail(step.ProblemUsage, "", "%v", err))
		return
	}
	if c.Charter.Signer() != o.self || c.Policy.Operator != o.self || c.Policy.Number != 1 {
		ctx.Answer(id, nil, step.Fail(step.ProblemUsage, "", "a market is founded by its first operator, with its first policy"))
		return
	}
	o.adopt(c.Charter)
	ctx.Charter, ctx.Market, ctx.Clock = o.charter, o.market, o.charter.Clock()
	o.charters.Put(o.market.ID, known{wire.Draft(c.Charter)})
	o.takePolicy(ctx, c.Policy, ctx.Guard([]byte("policy"), c.Policy.Number, wire.Draft(c.Policy)))
	o.take(ctx, own, ctx.Guard(append([]byte("credential/"), o.self[:]...), own.Serial, wire.Draft(own)))
	ctx.Answer(id, o.Standings(ctx), nil)
}

// operatorOf checks an invite against this home and tells the shell where its operator is.
func (o *Observer) operatorOf(ctx *step.Context, i member.Invite) (identity.Address, *step.Problem) {
	op, err := i.Operator.Address()
	switch {
	case err != nil:
		return op, step.Fail(step.ProblemUsage, "", "%v", err)
	case (o.founded || o.joining.IsSet()) && i.Market != o.market.ID:
		return op, step.Fail(step.ProblemTrust, "use another --home for another market",
			"this code is of another market (%s); this home belongs to %s", i.Market.Short(), o.market.ID.Short())
	}
	o.market = pick(o.founded, o.market, wire.Market{ID: i.Market})
	ctx.Market = o.market
	ctx.Out.Contacts = append(ctx.Out.Contacts, step.Contact{Key: i.Operator, Addrs: i.Addrs, Keep: true})
	return op, nil
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

func (o *Observer) look(ctx *step.Context, id uint64, c Look) {
	op, p := o.operatorOf(ctx, c.Invite)
	if p != nil {
		ctx.Answer(id, nil, p)
		return
	}
	body := step.JoinBody{Secret: c.Invite.Secret, Market: c.Invite.Market}
	o.awaiting[ctx.Send(op, step.ProtoJoin, step.OpJoin, body)] = func(ctx *step.Context, r step.Response) {
		if r.Err != nil {
			ctx.Answer(id, nil, step.FromFailure(r.Err, "the inviting operator"))
			return
		}
		ch, ok1 := step.Find[member.Charter](r.Objects)
		po, ok2 := step.Find[member.Policy](r.Objects)
		if !ok1 || !ok2 || ch.Value().Market().ID != c.Invite.Market || !ch.Value().Operates(po.By()) {
			ctx.Answer(id, nil, step.Fail(step.ProblemVerify, "", "the operator showed no charter of the market that the code names"))
			return
		}
		pr := Prospect{Name: ch.Value().Name, Market: c.Invite.Market, Testnet: ch.Value().Testnet, Slot: ch.Value().Slot, Role: c.Invite.Role.String()}
		if c.Invite.Role.Has(member.RoleHost) {
			pr.Agreement = po.Value().Agreement
		}
		o.enter(ctx, ch, po)
		ctx.Answer(id, pr, nil)
	}
}

// enter takes the charter and policy of the market that this node is invited to.
func (o *Observer) enter(ctx *step.Context, ch wire.Verified[member.Charter], po wire.Verified[member.Policy]) {
	if !o.founded {
		o.adopt(ch.Value())
		o.charters.Put(o.market.ID, known{ch.Object()})
		ctx.Charter, ctx.Market, ctx.Clock = o.charter, o.market, o.charter.Clock()
	}
	o.takePolicy(ctx, po.Value(), po.Object())
}

func (o *Observer) join(ctx *step.Context, id uint64, c Join) {
	if _, _, member := o.Credential(o.self); member {
		ctx.Answer(id, o.Standings(ctx), nil)
		return
	}
	if _, p := o.operatorOf(ctx, c.Invite); p != nil {
		ctx.Answer(id, nil, p)
		return
	}
	if !o.founded {
		ctx.Answer(id, nil, step.Fail(step.ProblemConflict, "", "look at the market before joining it"))
		return
	}
	req := member.JoinRequest{
		Subject: ctx.Boot.Key, Secret: c.Invite.SecretHash(), Role: c.Invite.Role, Alias: c.Alias, Owner: o.self, Payout: o.self,
		Devices: c.Devices, Machine: c.Machine, Checks: c.Checks, At: ctx.Now,
	}
	if c.Invite.Role.Has(member.RoleHost) {
		req.Agreement = o.policy.AgreementHash()
	}
	if err := req.Validate(); err != nil {
		ctx.Answer(id, nil, step.Fail(step.ProblemUsage, "", "%v", err))
		return
	}
	o.joining.Put(joining{Invite: c.Invite, Request: req, State: step.JoinPending})
	o.askJoin(ctx, id)
}

// askJoin sends the request, or asks what became of it: the operator takes a repeat as a question.
func (o *Observer) askJoin(ctx *step.Context, id uint64) {
	j := o.joining.Get()
	op, _ := j.Invite.Operator.Address()
	j.Next, j.Asked = ctx.Now+max(ctx.Clock.Slot/4, 2*member.Second), true
	o.joining.Touch()
	body := step.JoinBody{Secret: j.Invite.Secret, Market: j.Invite.Market}
	o.awaiting[ctx.Send(op, step.ProtoJoin, step.OpJoin, body, wire.Draft(j.Request))] = func(ctx *step.Context, r step.Response) {
		if r.Err != nil {
			switch no := r.Err.Refusal; {
			case no == nil || !final(no.Code):
			case id != 0:
				o.joining.Clear() // a refused code binds nobody
			default:
				o.joining.Get().State, o.joining.Get().Reason = step.JoinRejected, no.Reason
				o.joining.Touch()
				ctx.Notify("join.rejected", wire.ID{}, no.Reason)
			}
			ctx.Answer(id, nil, step.FromFailure(r.Err, "the inviting operator"))
			return
		}
		o.joined(ctx, r)
		ctx.Answer(id, o.Standings(ctx), nil)
	}
}

// final reports whether asking again with the same request would get the same refusal.
func final(c step.RefusalCode) bool {
	switch c {
	case step.RefuseBusy, step.RefuseInternal, step.RefuseClock:
		return false
	}
	return true
}

// joinWords are the states of joining, for people.
var joinWords = map[step.JoinState]string{step.JoinPending: "pending", step.JoinApproved: "approved", step.JoinRejected: "rejected"}

func (o *Observer) joined(ctx *step.Context, r step.Response) {
	a, err := step.Body[step.JoinAnswer](r.Body)
	if err != nil || joinWords[a.State] == "" || !o.joining.IsSet() {
		return
	}
	j := o.joining.Get()
	if a.Reason = strings.ToValidUTF8(a.Reason[:min(len(a.Reason), 512)], ""); j.State != a.State {
		ctx.Notify("join."+joinWords[a.State], wire.ID{}, a.Reason)
	}
	j.State, j.Reason = a.State, a.Reason
	o.joining.Touch()
	for _, c := range step.FindAll[member.Credential](r.Objects) {
		if o.take(ctx, c.Value(), c.Object()) && c.Value().Address() == o.self {
			ctx.Publish(step.TopicMembers, c.Object())
		}
	}
	if a.State == step.JoinApproved {
		// Whoever is connected already must hear of the credential: say hello again.
		ctx.Out.Evict = append(ctx.Out.Evict, slices.Clone(o.order)...)
	}
}

// tickJoin asks again while the operator has not decided.
func (o *Observer) tickJoin(ctx *step.Context) member.Time {
	if !o.joining.IsSet() {
		return 0
	}
	j := o.joining.Get()
	if _, _, in := o.Credential(o.self); in || j.State != step.JoinPending || !j.Asked {
		return 0
	}
	if ctx.Now >= j.Next {
		ctx.Out.Contacts = append(ctx.Out.Contacts, step.Contact{Key: j.Invite.Operator, Addrs: j.Invite.Addrs, Keep: true})
		o.askJoin(ctx, 0)
	}
	return j.Next
}

// Reads reports whether a command is a question to the observer, which decides nothing.
func (o *Observer) Reads(cmd any) bool {
	switch cmd.(type) {
	case Where, Look, Offers, Book, Tape, Reputation, Vouch:
		return true
	}
	return false
}
