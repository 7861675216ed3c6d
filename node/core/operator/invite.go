package operator

import (
	"cmp"
	"slices"
	"strings"

	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Bounds of an invite.
const (
	InviteLife    = 7 * member.Day // unless another is asked for
	inviteLongest = 365 * member.Day
	inviteAddrs   = 8   // a code is typed by people
	noteLimit     = 256 // bytes
	mostGPUs      = 64  // as many as a JoinRequest can list
)

// An invite is what is kept of a code, under the hash of its secret.
type invite struct {
	Role    member.Role      `cbor:"1,keyasint"`
	Tier    member.Tier      `cbor:"2,keyasint"`
	MaxGPUs uint32           `cbor:"3,keyasint"`
	Note    string           `cbor:"4,keyasint"`
	Created member.Time      `cbor:"5,keyasint"`
	Expires member.Time      `cbor:"6,keyasint"`
	Addrs   []string         `cbor:"7,keyasint"`
	Used    member.Time      `cbor:"8,keyasint"` // 0: not yet
	By      identity.Address `cbor:"9,keyasint"` // who used it
	Revoked member.Time      `cbor:"10,keyasint"`
}

// state is open, used, revoked or expired.
func (i invite) state(now member.Time) string {
	switch {
	case i.Used != 0:
		return "used"
	case i.Revoked != 0:
		return "revoked"
	case now >= i.Expires:
		return "expired"
	}
	return "open"
}

// An InviteView is an invite as its operator sees it.
type InviteView struct {
	ID      string           `json:"id"` // first 12 hex digits of the secret's hash
	State   string           `json:"state"`
	Role    string           `json:"role"`
	Tier    string           `json:"tier"`
	MaxGPUs uint32           `json:"maxGpus"`
	Note    string           `json:"note"`
	Created member.Time      `json:"created"`
	Expires member.Time      `json:"expires"`
	Used    member.Time      `json:"used,omitempty"`
	By      identity.Address `json:"by"`
}

func (i invite) view(id identity.Hash, now member.Time) InviteView {
	return InviteView{ID: id.Short(), State: i.state(now), Role: i.Role.String(), Tier: i.Tier.String(), MaxGPUs: i.MaxGPUs,
		Note: i.Note, Created: i.Created, Expires: i.Expires, Used: i.Used, By: i.By}
}

// InviteCreate makes an invite. It is answered with an Invitation; the same secret again gives the same one.
type InviteCreate struct {
	Secret  wire.ID     // drawn by the caller, kept by nobody but the invited
	Role    member.Role // host or consumer
	Tier    member.Tier // of a host; none: community
	MaxGPUs uint32      // of a host; 0: as many as can be listed
	Life    member.Time // 0: InviteLife
	Addrs   []string    // where this operator can be reached; none: those of its node
	Note    string
}

// An Invitation is an invite with its code, which is shown once.
type Invitation struct {
	InviteView
	Code string `json:"code"`
}

func (c InviteCreate) run(o *Operator, ctx *step.Context) (any, error) {
	if err := c.complete(o, ctx); err != nil {
		return nil, err
	}
	code := member.Invite{Market: ctx.Market.ID, Operator: ctx.Boot.Key, Addrs: c.Addrs, Secret: c.Secret, Role: c.Role}
	id := code.SecretHash()
	made := invite{Role: c.Role, Tier: c.Tier, MaxGPUs: c.MaxGPUs, Note: c.Note, Created: ctx.Now, Expires: ctx.Now + c.Life}
	old := o.invites.Get(id)
	switch {
	case old == nil:
		old = o.invites.Put(id, made)
	case old.Role != made.Role || old.Tier != made.Tier || old.MaxGPUs != made.MaxGPUs || old.Note != made.Note:
		return nil, step.Fail(step.ProblemConflict, "draw a new secret", "invite %s stands for something else", id.Short())
	}
	return Invitation{InviteView: old.view(id, ctx.Now), Code: code.Code()}, nil
}

// complete fills in what was left out and checks the rest.
func (c *InviteCreate) complete(o *Operator, ctx *step.Context) error {
	host := c.Role == member.RoleHost
	if c.Life == 0 {
		c.Life = InviteLife
	}
	if host && c.Tier == member.TierNone {
		c.Tier = member.TierCommunity
	}
	if host && c.MaxGPUs == 0 {
		c.MaxGPUs = mostGPUs
	}
	if len(c.Addrs) == 0 {
		c.Addrs = ctx.Boot.Addrs
	}
	if p, _ := o.world.Policy(); len(c.Addrs) == 0 {
		c.Addrs = p.Bootstrap
	}
	c.Addrs = terse(c.Addrs)
	switch {
	case c.Secret.IsZero():
		return step.Fail(step.ProblemUsage, "", "an invite needs a secret")
	case !host && c.Role != member.RoleConsumer:
		return step.Fail(step.ProblemUsage, "use --role host or --role consumer", "an invite is for one role, host or consumer")
	case !host && (c.Tier != member.TierNone || c.MaxGPUs != 0):
		return step.Fail(step.ProblemUsage, "", "a consumer's invite has no tier and no GPUs")
	case c.Tier > member.TierSecure || c.MaxGPUs > mostGPUs:
		return step.Fail(step.ProblemUsage, "", "an invite has a known tier and at most %d GPUs", mostGPUs)
	case c.Life < 0 || c.Life > inviteLongest:
		return step.Fail(step.ProblemUsage, "", "an invite lives up to a year")
	case len(c.Note) > noteLimit:
		return step.Fail(step.ProblemUsage, "", "a note has at most %d bytes", noteLimit)
	case len(c.Addrs) == 0:
		return step.Fail(step.ProblemUsage, "give --addr", "no address is known under which this node can be reached")
	}
	return checkAddrs(c.Addrs)
}

// terse is the addresses as a code carries them: without the peer's id, which follows from its key, and where there are TCP
// addresses, these alone. The others come with the policy.
func terse(addrs []string) []string {
	var tcp, all []string
	for _, a := range addrs {
		a, _, _ = strings.Cut(a, "/p2p/")
		if !slices.Contains(all, a) {
			all = append(all, a)
			if strings.Contains(a, "/tcp/") {
				tcp = append(tcp, a)
			}
		}
	}
	if len(tcp) > 0 {
		all = tcp
	}
	return all[:min(len(all), inviteAddrs)]
}

func checkAddrs(addrs []string) error {
	for _, a := range addrs {
		if !strings.HasPrefix(a, "/") || len(a) > 256 {
			return step.Fail(step.ProblemUsage, "as in /ip4/203.0.113.7/tcp/4001", "%q is no address of a node", a)
		}
	}
	return nil
}

// InviteList is answered with []InviteView, the newest first.
type InviteList struct{}

func (InviteList) run(o *Operator, ctx *step.Context) (any, error) {
	out := make([]InviteView, 0, o.invites.Len())
	for _, id := range o.invites.Keys() {
		out = append(out, o.invites.Get(id).view(id, ctx.Now))
	}
	slices.SortStableFunc(out, func(a, b InviteView) int { return cmp.Compare(b.Created, a.Created) })
	return out, nil
}

// InviteRevoke takes an invite back that nobody has used yet. It is answered with its InviteView.
type InviteRevoke struct {
	ID string // hash of the secret, or its first 4 digits or more
}

func (c InviteRevoke) run(o *Operator, ctx *step.Context) (any, error) {
	id, err := o.findInvite(c.ID)
	if err != nil {
		return nil, err
	}
	i := o.invites.Get(id)
	if i.Used != 0 {
		return nil, step.Fail(step.ProblemConflict, "reject or sanction that node", "invite %s was used by %v", id.Short(), i.By)
	}
	if i.Revoked == 0 {
		i.Revoked = ctx.Now
		o.invites.Touch(id)
	}
	return i.view(id, ctx.Now), nil
}

func (o *Operator) findInvite(prefix string) (identity.Hash, error) {
	prefix = strings.ToLower(strings.TrimPrefix(prefix, "0x"))
	var found []identity.Hash
	for _, id := range o.invites.Keys() {
		if len(prefix) >= prefixLeast && strings.HasPrefix(id.String(), prefix) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return identity.Hash{}, step.Fail(step.ProblemNotFound, "list them with 'souk operator invite ls'",
			"no invite begins with %q (at least %d digits)", prefix, prefixLeast)
	case 1:
		return found[0], nil
	}
	return identity.Hash{}, step.Fail(step.ProblemUsage, "give more digits", "%d invites begin with %q", len(found), prefix)
}
