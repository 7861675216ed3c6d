package observer

import (
	"errors"
	"strings"

	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// lastBeat is the newest beat seen of a host, and how far its chain was followed.
type lastBeat struct {
	Beat  wire.Object       `cbor:"1,keyasint"`
	Chain reliability.Chain `cbor:"2,keyasint"`
	At    member.Time       `cbor:"3,keyasint"` // when it came
	Fork  wire.Object       `cbor:"4,keyasint"` // another beat at the same place: the host signed twice
}

// hourKey names an hour of a host's minutes; of this node's own address, an hour of what it observed.
type hourKey struct {
	host identity.Address
	hour reliability.Hour
}

func newHours() *step.Map[hourKey, reliability.Row] {
	return step.NewMap[hourKey, reliability.Row](table.Minutes,
		func(k hourKey) []byte { return table.Key(table.Minutes, k.host[:], table.Uint64(uint64(k.hour))) },
		func(b []byte) hourKey {
			return hourKey{identity.Address(table.Field(b, 0)), reliability.Hour(table.Number(table.Field(b, 1)))}
		})
}

func (o *Observer) restoreMinutes() error {
	for _, k := range o.hours.Keys() {
		if err := o.minutesOf(k.host).Load(*o.hours.Get(k)); err != nil {
			return err
		}
	}
	return nil
}

func (o *Observer) minutesOf(host identity.Address) *reliability.Minutes {
	m := o.minutes[host]
	if m == nil {
		m = new(reliability.Minutes)
		o.minutes[host] = m
	}
	return m
}

func (o *Observer) addMinute(host identity.Address, m member.Minute) {
	if row, changed := o.minutesOf(host).Add(m); changed {
		o.hours.Put(hourKey{host, row.Hour}, row)
	}
}

// takeBeat notes that a host was there in a minute.
func (o *Observer) takeBeat(ctx *step.Context, b reliability.Beat, obj wire.Object) bool {
	if b.Host != o.self && !o.Is(b.Host, member.RoleHost, ctx.Now) {
		return false
	}
	last := o.beats.Get(b.Host)
	if last == nil {
		last = &lastBeat{}
	}
	next, err := last.Chain.Follow(b, obj.Ref(o.market))
	switch {
	case errors.Is(err, reliability.ErrFork):
		if !last.Fork.IsZero() {
			return false // one proof is enough
		}
		o.beats.Put(b.Host, lastBeat{Beat: last.Beat, Chain: last.Chain, At: last.At, Fork: obj})
		ctx.Notify("evidence.beats", wire.ID{}, "host "+b.Host.Short()+" signed two beats for one place in its chain")
		return false
	case errors.Is(err, reliability.ErrOld) && near(ctx.Minute(), b.Minute, 2):
		// overtaken by a later one on its way: the minute was beaten all the same
	case err != nil, last.Chain.Seq > 0 && next.Minute == last.Chain.Minute:
		return false // one a minute
	default:
		o.beats.Put(b.Host, lastBeat{Beat: obj, Chain: next, At: ctx.Now, Fork: last.Fork})
	}
	if b.Host != o.self {
		o.addMinute(b.Host, b.Minute)
	}
	return true
}

// closeMinutes counts the minute that has ended as observed, if this node was up through it and heard anybody.
func (o *Observer) closeMinutes(ctx *step.Context, now member.Minute) {
	if m := o.watched; m+1 == now && o.upSince <= ctx.Clock.Tick(m) && o.heard.Has(m) {
		o.addMinute(o.self, m)
	}
	if now%member.HourMinutes != 0 {
		return
	}
	hosts := o.beats.Keys()
	for _, host := range append(hosts, o.self) {
		for _, h := range o.minutesOf(host).Forget(now) {
			o.hours.Delete(hourKey{host, h})
		}
	}
}

func (o *Observer) score(host identity.Address, now member.Time) reliability.Score {
	return o.minutesOf(host).Score(o.minutesOf(o.self), o.charter.Clock().Minute(now))
}

// Questions that any node answers.
type (
	// Reputation asks what this node saw of a host. Answer: Repute.
	Reputation struct{ Host string }
	// Vouch asks for the objects that say who the parties of a lease are, and under which policy. Answer: Vouched.
	Vouch struct {
		Host, Consumer identity.Address
		Policy         uint64
	}
)

// Vouched is who the parties of a lease are, in signed objects. Drafts among them are this node's own.
type Vouched struct{ Charter, Policy, Host, Consumer wire.Object }

// A Repute is what one node saw of a host.
type Repute struct {
	Host        identity.Address `json:"host"`
	Alias       string           `json:"alias,omitempty"`
	Tier        string           `json:"tier"`
	Standing    string           `json:"standing"`
	Reliability uint32           `json:"reliabilityPpm"`
	New         bool             `json:"new"`
	Observed    uint32           `json:"observedMinutes"`
	Down        uint32           `json:"downMinutes"`
	LastBeat    member.Time      `json:"lastBeat,omitempty"`
	Minute      member.Minute    `json:"minute,omitempty"` // that the last beat names
	Seq         uint64           `json:"beats"`            // sequence of the last beat
	Missed      uint64           `json:"missedBeats"`      // never seen here
	LogSeq      uint64           `json:"logSeq"`
	Live        bool             `json:"live"` // a beat of this minute or the last was seen
	Forked      bool             `json:"forked"`
	Basis       string           `json:"basis"`
}

// localViews answers questions.
func (o *Observer) localViews(ctx *step.Context, id uint64, cmd any) bool {
	switch c := cmd.(type) {
	case Offers:
		v, p := o.offered(ctx, c)
		respond(ctx, id, v, p)
	case Book:
		v, p := o.book(ctx, c)
		respond(ctx, id, v, p)
	case Tape:
		v, p := o.taped(ctx, c)
		respond(ctx, id, v, p)
	case Reputation:
		v, p := o.repute(ctx, c)
		respond(ctx, id, v, p)
	case Vouch:
		v, p := o.vouch(c)
		respond(ctx, id, v, p)
	default:
		return o.auditViews(ctx, id, cmd)
	}
	return true
}

func (o *Observer) vouch(c Vouch) (Vouched, *step.Problem) {
	_, charter := o.Charter()
	_, host, ok1 := o.Credential(c.Host)
	_, consumer, ok2 := o.Credential(c.Consumer)
	policy := o.policies.Get(c.Policy)
	if !ok1 || !ok2 || policy == nil {
		return Vouched{}, step.Fail(step.ProblemNotFound, "try again once this node has caught up with its peers", "a credential or the policy of this lease is not known here")
	}
	return Vouched{Charter: charter, Policy: policy.Object, Host: host, Consumer: consumer}, nil
}

func respond[T any](ctx *step.Context, id uint64, v T, p *step.Problem) {
	if p != nil {
		ctx.Answer(id, nil, p)
		return
	}
	ctx.Answer(id, v, nil)
}

// Find is the member that a reference names: an address, the unique beginning of one, or an alias.
func (o *Observer) Find(ref string) (identity.Address, *step.Problem) {
	if a, err := identity.ParseAddress(ref); err == nil {
		return a, nil
	}
	var found []identity.Address
	for _, a := range o.Members() {
		c, _, _ := o.roster.Credential(a)
		if c.Alias == ref && ref != "" {
			return a, nil
		}
		if s := a.String(); len(ref) >= 4 && len(ref) <= len(s) && strings.EqualFold(s[:len(ref)], ref) {
			found = append(found, a)
		}
	}
	if len(found) != 1 {
		return identity.Address{}, step.Fail(step.ProblemNotFound, "give an address, its beginning, or an alias", "%q names %d members", ref, len(found))
	}
	return found[0], nil
}

func (o *Observer) repute(ctx *step.Context, c Reputation) (Repute, *step.Problem) {
	host, p := o.Find(c.Host)
	if p != nil {
		return Repute{}, p
	}
	cred, _, ok := o.Credential(host)
	if !ok || !cred.Roles.Has(member.RoleHost) {
		return Repute{}, step.Fail(step.ProblemNotFound, "", "%s is no host that this node knows", c.Host)
	}
	s := o.score(host, ctx.Now)
	v := Repute{
		Host: host, Alias: cred.Alias, Tier: cred.Tier.String(), Standing: "good", Reliability: s.Reliability, New: s.New,
		Observed: s.Observed, Down: s.Down, Basis: "seen by this node",
	}
	if err := o.roster.Standing(host, ctx.Now); err != nil {
		v.Standing = err.Error()
	}
	if b := o.beats.Get(host); b != nil {
		v.LastBeat, v.Minute, v.Seq, v.Missed, v.Forked = b.At, b.Chain.Minute, b.Chain.Seq, b.Chain.Missed, !b.Fork.IsZero()
		v.Live = near(ctx.Minute(), b.Chain.Minute, 1)
		if beat, err := wire.Decode[reliability.Beat](b.Beat); err == nil {
			v.LogSeq = beat.LogSeq
		}
	}
	return v, nil
}

// Held is what this node holds of a member's own publications: its newest beat and offer.
func (o *Observer) Held(of identity.Address) []wire.Object {
	var out []wire.Object
	if b := o.beats.Get(of); b != nil {
		out = append(out, b.Beat)
	}
	if f := o.offers.Get(of); f != nil {
		out = append(out, f.Object)
	}
	return out
}

// Neighbours are the members that this node is connected to.
func (o *Observer) Neighbours() []identity.Address { return o.order }
