package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"souk/ledger"
	"souk/node/core/operator"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// An Inviting is an invite to be made.
type Inviting struct {
	Secret  wire.ID  `json:"secret" doc:"random; the same one again gives the same invite"`
	Role    string   `json:"role" enum:"host,consumer"`
	Tier    string   `json:"tier,omitempty" enum:"community,secure" doc:"of a host"`
	MaxGPUs uint32   `json:"maxGpus,omitempty" doc:"of a host; 0: no limit of its own"`
	Seconds int64    `json:"lifeSeconds,omitempty" minimum:"0" maximum:"31536000" doc:"0: a week"`
	Addrs   []string `json:"addrs,omitempty" doc:"where this operator can be reached; none: where it listens"`
	Note    string   `json:"note,omitempty"`
}

// A Decision is an operator's word about an applicant or member.
type Decision struct {
	Tier    string `json:"tier,omitempty" enum:"community,secure"`
	Alias   string `json:"alias,omitempty"`
	MaxGPUs uint32 `json:"maxGpus,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Fraud   bool   `json:"fraud,omitempty" doc:"proven: running leases end too"`
}

// A Payment is money that came in from outside.
type Payment struct {
	Account string        `json:"account" doc:"address, the beginning of it, or alias"`
	Amount  ledger.Amount `json:"amount" doc:"credits"`
	Ref     string        `json:"ref" doc:"of the payment outside; the same one again is the same payment"`
}

type whoInput struct {
	Addr string `path:"addr" doc:"address, the beginning of it, or alias"`
}

type decisionInput struct {
	Addr string `path:"addr" doc:"address, the beginning of it, or alias"`
	Body Decision
}

// An ID in a path.
type idInput struct {
	ID string `path:"id"`
}

func (s *server) operatorRoutes(a huma.API) {
	s.inviteRoutes(a)
	route(a, op("applicants", "GET", "/v1/operator/applicants", "Who waits for approval"),
		func(ctx context.Context, in *struct {
			All bool `query:"all" doc:"those who were decided on too"`
		}) ([]operator.ApplicantView, error) {
			return do[[]operator.ApplicantView](ctx, s.b, operator.Queue{All: in.All})
		})
	command[whoInput, operator.ApplicantView](s, a, op("applicant", "GET", "/v1/operator/applicants/{addr}", "All that is known of one node"),
		func(in *whoInput) any { return operator.Applicant{Addr: in.Addr} })
	route(a, op("approve", "POST", "/v1/operator/applicants/{addr}/approve", "Make an applicant a member, or change a member's tier, alias or limit"),
		func(ctx context.Context, in *decisionInput) (operator.MemberView, error) {
			t, err := tier(in.Body.Tier)
			if err != nil {
				return operator.MemberView{}, err
			}
			return do[operator.MemberView](ctx, s.b, operator.Approve{Addr: in.Addr, Tier: t, Alias: in.Body.Alias, MaxGPUs: in.Body.MaxGPUs})
		})
	command[decisionInput, operator.ApplicantView](s, a, op("reject", "POST", "/v1/operator/applicants/{addr}/reject", "Turn an applicant away"),
		func(in *decisionInput) any { return operator.Reject{Addr: in.Addr, Reason: in.Body.Reason} })
	for _, w := range []struct {
		verb string
		what member.Sanction
		says string
	}{
		{"suspend", member.Suspend, "Suspend a member: no new leases until it is reinstated"},
		{"revoke", member.Revoke, "Revoke a member for good"},
		{"reinstate", member.Reinstate, "Lift a suspension"},
	} {
		command[decisionInput, operator.SanctionView](s, a, op(w.verb, "POST", "/v1/operator/members/{addr}/"+w.verb, w.says),
			func(in *decisionInput) any {
				return operator.Sanction{Addr: in.Addr, What: w.what, Reason: in.Body.Reason, Fraud: in.Body.Fraud}
			})
	}
	command[none, []operator.MemberView](s, a, op("members", "GET", "/v1/operator/members", "Every member"),
		func(*none) any { return operator.Members{} })
	command[none, []operator.AccountView](s, a, op("accounts", "GET", "/v1/operator/accounts", "Every account of the bank"),
		func(*none) any { return operator.Accounts{} })
	command[none, operator.HeightView](s, a, op("height", "GET", "/v1/operator/bank", "The end of the bank's journal, and the sum of its books"),
		func(*none) any { return operator.Height{} })
	command[struct{ Body Payment }, operator.DepositView](s, a, op("deposit", "POST", "/v1/operator/deposits", "Enter money that came in"),
		func(in *struct{ Body Payment }) any {
			return operator.Deposit{Addr: in.Body.Account, Amount: in.Body.Amount, Ref: in.Body.Ref}
		})
}

func (s *server) inviteRoutes(a huma.API) {
	route(a, op("create-invite", "POST", "/v1/operator/invites", "Make an invite; its code is shown once"),
		func(ctx context.Context, in *struct{ Body Inviting }) (operator.Invitation, error) {
			cmd, err := in.Body.create()
			if err != nil {
				return operator.Invitation{}, err
			}
			return do[operator.Invitation](ctx, s.b, cmd)
		})
	command[none, []operator.InviteView](s, a, op("invites", "GET", "/v1/operator/invites", "Every invite, the newest first"),
		func(*none) any { return operator.InviteList{} })
	command[idInput, operator.InviteView](s, a, op("revoke-invite", "DELETE", "/v1/operator/invites/{id}", "Take an invite back that nobody has used"),
		func(in *idInput) any { return operator.InviteRevoke{ID: in.ID} })
}

func (i Inviting) create() (operator.InviteCreate, error) {
	role, err := member.ParseRole(i.Role)
	if err != nil {
		return operator.InviteCreate{}, usage("%v", err)
	}
	t, err := tier(i.Tier)
	return operator.InviteCreate{
		Secret: i.Secret, Role: role, Tier: t, MaxGPUs: i.MaxGPUs, Life: member.Time(i.Seconds) * member.Second, Addrs: i.Addrs, Note: i.Note,
	}, err
}

// tier reads a tier; an empty one is none.
func tier(s string) (member.Tier, error) {
	if s == "" {
		return member.TierNone, nil
	}
	t, err := member.ParseTier(s)
	if err != nil {
		return t, usage("%v", err)
	}
	return t, nil
}
