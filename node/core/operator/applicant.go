package operator

import (
	"cmp"
	"fmt"
	"slices"

	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// An applicant is somebody who has asked to join, and what became of it. Its invite is that of its request.
type applicant struct {
	Request wire.Object    `cbor:"1,keyasint"` // the JoinRequest as it was signed
	State   step.JoinState `cbor:"2,keyasint"`
	Reason  string         `cbor:"3,keyasint"` // of a rejection
	Asked   member.Time    `cbor:"4,keyasint"`
	Decided member.Time    `cbor:"5,keyasint"` // 0: not yet
}

// request is what was asked for. It was verified when it came.
func (a *applicant) request() member.JoinRequest {
	j, err := wire.Decode[member.JoinRequest](a.Request)
	if err != nil {
		panic("operator: a join request in the store: " + err.Error())
	}
	return j
}

// An ApplicantView is all that this operator knows of one node, to decide about it.
type ApplicantView struct {
	Address  identity.Address `json:"address"`
	State    string           `json:"state"` // waiting, approved, rejected, or none: a member that never asked here
	Reason   string           `json:"reason,omitempty"`
	Asked    member.Time      `json:"asked,omitempty"`
	Decided  member.Time      `json:"decided,omitempty"`
	Alias    string           `json:"alias"`
	Role     string           `json:"role"`
	Owner    identity.Address `json:"owner"`
	Payout   identity.Address `json:"payout"`
	Devices  []DeviceView     `json:"devices"`
	Machine  MachineView      `json:"machine"`
	Checks   []CheckView      `json:"checks"`
	Warnings []string         `json:"warnings"` // what to look at before approving
	Invite   *InviteView      `json:"invite,omitempty"`
	Member   *MemberView      `json:"member,omitempty"`
	Sanction *SanctionView    `json:"sanction,omitempty"`
}

// A DeviceView is one GPU as its owner reports it.
type DeviceView struct {
	UUID      string `json:"uuid"`
	Model     string `json:"model"`
	MemoryMiB uint32 `json:"memoryMiB"`
	Simulated bool   `json:"simulated"`
	Compute   uint16 `json:"computeCapability,omitempty"` // times 100, as 890; 0: not told
}

// A MachineView is the computer around the GPUs as its owner reports it.
type MachineView struct {
	CPU       string `json:"cpu"`
	Cores     uint16 `json:"cores"`
	MemoryMiB uint32 `json:"memoryMiB"`
	DiskGiB   uint32 `json:"diskGiB"`
	OS        string `json:"os"`
	Runtime   string `json:"runtime"`
	Engine    string `json:"engine"`
	Driver    string `json:"driver"`
	CUDA      string `json:"cuda"`
	GPUs      uint16 `json:"gpus,omitempty"` // in the machine; 0: not told
}

// A CheckView is one line of the applicant's self-test.
type CheckView struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Queue is answered with []ApplicantView: those who wait, the longest first.
type Queue struct {
	All bool // also those who were decided on
}

func (c Queue) run(o *Operator, ctx *step.Context) (any, error) {
	out := []ApplicantView{}
	for _, a := range o.applicants.Keys() {
		if c.All || o.applicants.Get(a).State == step.JoinPending {
			out = append(out, o.view(ctx, a))
		}
	}
	slices.SortStableFunc(out, func(x, y ApplicantView) int { return cmp.Compare(x.Asked, y.Asked) })
	return out, nil
}

// Applicant is answered with the ApplicantView of one node.
type Applicant struct{ Addr string }

func (c Applicant) run(o *Operator, ctx *step.Context) (any, error) {
	a, err := o.resolve(c.Addr)
	if err != nil {
		return nil, err
	}
	if _, _, in := o.world.Credential(a); !in && o.applicants.Get(a) == nil {
		return nil, unknown(a)
	}
	return o.view(ctx, a), nil
}

func unknown(a identity.Address) error {
	return step.Fail(step.ProblemNotFound, "give it an invite: 'souk operator invite create'", "%v is neither a member nor an applicant", a)
}

func (o *Operator) view(ctx *step.Context, a identity.Address) ApplicantView {
	v := ApplicantView{Address: a, State: "none", Devices: []DeviceView{}, Checks: []CheckView{}, Warnings: []string{}}
	if p := o.applicants.Get(a); p != nil {
		v.fill(p)
		id := p.request().Secret
		if i := o.invites.Get(id); i != nil {
			w := i.view(id, ctx.Now)
			v.Invite = &w
		}
		v.Warnings = o.warnings(a, p.request())
	}
	if _, _, ok := o.world.Credential(a); ok {
		m := o.member(ctx, a)
		v.Member, v.Alias, v.Role, v.Owner = &m, m.Alias, m.Roles, m.Owner
	}
	if s, ok := o.world.Sanctioned(a); ok {
		w := sanctionView(s)
		v.Sanction = &w
	}
	return v
}

func (v *ApplicantView) fill(p *applicant) {
	j := p.request()
	v.State = map[step.JoinState]string{step.JoinPending: "waiting", step.JoinApproved: "approved", step.JoinRejected: "rejected"}[p.State]
	v.Reason, v.Asked, v.Decided = p.Reason, p.Asked, p.Decided
	v.Alias, v.Role, v.Owner, v.Payout = j.Alias, j.Role.String(), j.Owner, j.Payout
	for _, d := range j.Devices {
		v.Devices = append(v.Devices, DeviceView(d))
	}
	for _, k := range j.Checks {
		v.Checks = append(v.Checks, CheckView(k))
	}
	v.Machine = MachineView(j.Machine)
}

// warnings are what a person should look at before approving.
func (o *Operator) warnings(a identity.Address, j member.JoinRequest) []string {
	out := []string{}
	if j.Role == member.RoleHost && len(j.Devices) == 0 {
		out = append(out, "reports no GPU")
	}
	for _, k := range j.Checks {
		if !k.OK {
			out = append(out, fmt.Sprintf("check %s failed: %s", k.Name, k.Detail))
		}
	}
	if !j.Owner.IsZero() && j.Owner != a {
		out = append(out, fmt.Sprintf("says that its owner is %v, who has not confirmed it", j.Owner))
	}
	mine := map[string]bool{}
	for _, d := range j.Devices {
		mine[d.UUID] = true
	}
	for _, b := range o.applicants.Keys() {
		p := o.applicants.Get(b)
		if b == a || len(mine) == 0 || p.State == step.JoinRejected {
			continue
		}
		for _, d := range p.request().Devices {
			if mine[d.UUID] {
				out = append(out, fmt.Sprintf("GPU %s is also reported by %v", d.UUID, b))
			}
		}
	}
	return out
}
