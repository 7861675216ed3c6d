package operator

import (
	"errors"
	"strings"

	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// join answers the bearer of a code: with the market, when it only looks; with where it stands, when it asks to join or
// has asked before.
func (o *Operator) join(ctx *step.Context, r step.Request) {
	if no := o.tryJoin(ctx, r); no != nil {
		ctx.Refuse(r.ID, no)
	}
}

func (o *Operator) tryJoin(ctx *step.Context, r step.Request) *step.Refusal {
	body, err := step.Body[step.JoinBody](r.Body)
	if err != nil {
		return step.Refuse(step.RefuseBadRequest, "%v", err)
	}
	id, no := o.admits(ctx, r.Peer, body)
	if no != nil {
		return no
	}
	if s, out := o.world.Sanctioned(r.Peer); out {
		return step.Refuse(step.RefuseRevoked, "this node is %v: %s", s.Sanction, s.Reason)
	}
	req, asks := step.Find[member.JoinRequest](r.Objects)
	if asks {
		if no := o.checkRequest(ctx, r.Peer, id, req.Value()); no != nil {
			return no
		}
		o.apply(ctx, r.Peer, id, req)
	}
	o.tellJoin(ctx, r, id)
	return nil
}

// admits checks a code: of this market, known here, and open, or used by this very peer. It returns the hash that the
// invite is kept under.
func (o *Operator) admits(ctx *step.Context, peer identity.Address, b step.JoinBody) (identity.Hash, *step.Refusal) {
	id := member.Invite{Secret: b.Secret}.SecretHash()
	c, _ := o.world.Charter()
	i := o.invites.Get(id)
	switch {
	case b.Market != ctx.Market.ID:
		return id, step.Refuse(step.RefuseInviteForeign, "this code is of another market than %q", c.Name)
	case i == nil:
		return id, step.Refuse(step.RefuseInviteForeign, "this code is of the market %q, but this operator (%v) did not issue it", c.Name, ctx.Self)
	case i.Used != 0 && i.By != peer:
		return id, step.Refuse(step.RefuseInviteUsed, "this code was used by another key; ask the operator for one of your own")
	case i.Used != 0:
		return id, nil
	case i.Revoked != 0:
		return id, step.Refuse(step.RefuseInviteExpired, "the operator took this code back")
	case ctx.Now >= i.Expires:
		return id, step.Refuse(step.RefuseInviteExpired, "this code expired at %v; ask the operator for another", i.Expires)
	}
	return id, nil
}

// checkRequest checks a request against the stream that it came on, its code, and the market's rules.
func (o *Operator) checkRequest(ctx *step.Context, peer identity.Address, id identity.Hash, j member.JoinRequest) *step.Refusal {
	i := o.invites.Get(id)
	switch {
	case j.Signer() != peer:
		return step.Refuse(step.RefuseNotForYou, "the request is %v's, the connection %v's", j.Signer(), peer)
	case o.foreign(peer, ctx.Self):
		return step.Refuse(step.RefuseNotForYou, "another operator admitted this node, and keeps its account: ask that one")
	case peer == ctx.Self:
		return step.Refuse(step.RefuseNotForYou, "an operator does not invite itself")
	case j.Secret != id:
		return step.Refuse(step.RefuseInviteForeign, "the request was signed for another code")
	case j.Role != i.Role:
		return step.Refuse(step.RefuseInviteRole, "this code is for a %v, not a %v", i.Role, j.Role)
	case !cleanAlias(j.Alias):
		return step.Refuse(step.RefuseBadRequest, "the alias %q: %v", j.Alias, errAlias)
	case j.Role == member.RoleHost:
		return o.checkHost(i, j)
	}
	return nil
}

func (o *Operator) checkHost(i *invite, j member.JoinRequest) *step.Refusal {
	c, _ := o.world.Charter()
	p, _ := o.world.Policy()
	switch {
	case j.Agreement != p.AgreementHash():
		return step.Refuse(step.RefuseAgreement, "the host agreement is another now; read it and sign again")
	case len(j.Devices) > int(i.MaxGPUs):
		return step.Refuse(step.RefuseInviteRole, "this code is for up to %d GPUs, not %d", i.MaxGPUs, len(j.Devices))
	case !c.Testnet && j.Machine.Runtime == "process":
		return step.Refuse(step.RefuseBadRequest, "hosts without containers are for testnets; %q is none", c.Name)
	}
	seen := map[string]bool{}
	for _, d := range j.Devices {
		switch {
		case d.Simulated && !c.Testnet:
			return step.Refuse(step.RefuseBadRequest, "simulated GPUs are for testnets; %q is none", c.Name)
		case seen[d.UUID]:
			return step.Refuse(step.RefuseBadRequest, "GPU %s is listed twice", d.UUID)
		}
		seen[d.UUID] = true
	}
	return nil
}

var errAlias = errors.New("want at most 32 letters, digits, '.', '_' and '-', not beginning with 0x")

func cleanAlias(s string) bool {
	if len(s) > 32 || strings.HasPrefix(s, "0x") {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// apply enters a request, once. A newer request of one who still waits replaces the former; a new code lets one that was
// rejected, or that wants another role, ask anew.
func (o *Operator) apply(ctx *step.Context, peer identity.Address, id identity.Hash, req wire.Verified[member.JoinRequest]) {
	i, j := o.invites.Get(id), req.Value()
	if i.Used == 0 {
		i.Used, i.By = ctx.Now, peer
		o.invites.Touch(id)
	}
	a := o.applicants.Get(peer)
	switch {
	case a == nil || a.request().Secret != id && !o.needless(a, j):
		a = o.applicants.Put(peer, applicant{Request: req.Object(), State: step.JoinPending, Asked: ctx.Now})
	case a.State == step.JoinPending && j.At > a.request().At:
		a.Request = req.Object()
		o.applicants.Touch(peer)
		return
	default:
		return
	}
	if j.Role == member.RoleConsumer {
		o.admit(ctx, peer, a, terms{})
		return
	}
	ctx.Notify("join.waiting", wire.ID{}, name(peer, j.Alias)+" waits for approval as a host",
		"address", peer.String(), "alias", j.Alias, "invite", id.Short(), "note", i.Note)
}

// needless reports whether a request under another code changes nothing: it is for what the applicant is already.
func (o *Operator) needless(a *applicant, j member.JoinRequest) bool {
	c, _, ok := o.world.Credential(j.Signer())
	return a.State == step.JoinApproved && ok && c.Roles.Has(j.Role)
}

// tellJoin answers with the market and where the peer stands.
func (o *Operator) tellJoin(ctx *step.Context, r step.Request, id identity.Hash) {
	_, charter := o.world.Charter()
	_, policy := o.world.Policy()
	objects := []wire.Object{charter, policy}
	ans := step.JoinAnswer{State: step.JoinPending, Reason: "the code is good; nothing was asked for yet"}
	if a := o.applicants.Get(r.Peer); a != nil {
		ans = step.JoinAnswer{State: a.State, Reason: a.Reason}
		switch a.State {
		case step.JoinPending:
			ans.Reason = "the operator has yet to approve this node"
		case step.JoinApproved:
			objects = o.credentials(objects, ctx.Self, r.Peer)
		}
	}
	ctx.Reply(r.ID, step.OpOK, ans, objects...)
}

// credentials appends the credentials of members.
func (o *Operator) credentials(objects []wire.Object, of ...identity.Address) []wire.Object {
	for _, a := range of {
		if _, obj, ok := o.world.Credential(a); ok {
			objects = append(objects, obj)
		}
	}
	return objects
}

// name is how a notice calls somebody.
func name(a identity.Address, alias string) string {
	if alias == "" {
		return a.String()
	}
	return alias + " (" + a.Short() + ")"
}
