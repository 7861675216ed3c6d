// Package observer is what every node does whatever its role: it knows the market, its members, its offers and who was
// there.
//
// It holds the charter, the policy in force, a roster of credentials and revocations, the newest offer of each host, and
// the minutes in which each host's beat was seen. It judges who may come in (hello), asks to join and to renew, and fills
// the gaps of gossip by comparing what it holds with one peer a minute (sync).
//
// It holds the newest checkpoint of each operator's bank, has the operator prove that a newer one extends it, and keeps and
// passes on evidence where an operator has signed what cannot all be true (souk/ledger/audit).
package observer

import (
	"slices"

	"souk/ledger/audit"
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// known is a signed object as it came.
type known struct {
	Object wire.Object `cbor:"1,keyasint"`
}

type revocationKey struct {
	operator identity.Address
	number   uint64
}

// An Observer is one node's view of its market.
type Observer struct {
	charters    *step.Map[identity.Hash, known]
	policies    *step.Map[uint64, known]
	credentials *step.Map[identity.Address, known]
	revocations *step.Map[revocationKey, known]
	offers      *step.Map[identity.Address, known]
	beats       *step.Map[identity.Address, lastBeat]
	hours       *step.Map[hourKey, reliability.Row]
	fills       *step.Map[fillKey, market.Fill]
	joining     *step.Cell[joining]
	points      *step.Map[identity.Address, watched] // by operator
	proofs      *step.Map[identity.Address, proven]  // by operator

	// What follows is derived.
	charter  member.Charter
	market   wire.Market
	founded  bool
	policy   member.Policy // in force
	newest   member.Policy // highest number known; it may be in force only later
	roster   *member.Roster
	index    *market.Index
	stamp    uint64    // of what is known of hosts: another one whenever that changes
	tape     []fillKey // all fills, the oldest first
	minutes  map[identity.Address]*reliability.Minutes
	peers    map[identity.Address]*peer
	skews    map[identity.Address]member.Time // of every member that said hello
	order    []identity.Address               // peers in order
	again    []asking                         // syncs that are due, the earliest first
	fresh    member.Time                      // when anything fresh and signed of another member last came
	heard    market.Answered
	self     identity.Address
	awaiting map[uint64]func(*step.Context, step.Response)
	watched  member.Minute // last minute whose observation was closed
	pinged   member.Minute // last minute in which silence was answered with questions
	upSince  member.Time
	renewing member.Time
	shorts   map[*byte]uint64 // of what is held, for sync
	audits   map[identity.Address]*auditing
}

// New is the observer of the node with this address, which knows nothing yet.
func New(self identity.Address) *Observer {
	o := &Observer{
		self:        self,
		charters:    step.ByHash[known](table.Charter),
		policies:    step.ByNumber[known](table.Policy),
		credentials: step.ByAddress[known](table.Credential),
		revocations: step.NewMap[revocationKey, known](table.Revocation,
			func(k revocationKey) []byte {
				return table.Key(table.Revocation, k.operator[:], table.Uint64(k.number))
			},
			func(b []byte) revocationKey {
				return revocationKey{identity.Address(table.Field(b, 0)), table.Number(table.Field(b, 1))}
			}),
		offers:  step.ByAddress[known](table.Offer),
		beats:   step.ByAddress[lastBeat](table.Beat),
		hours:   newHours(),
		joining: step.NewCell[joining]("joining"),
		points:  step.ByAddress[watched](table.Checkpoint),
		proofs:  step.ByAddress[proven](table.Evidence),
		audits:  map[identity.Address]*auditing{},
		fills:   newFills(),
		index:   market.NewIndex(),
		minutes: map[identity.Address]*reliability.Minutes{},
		peers:   map[identity.Address]*peer{}, skews: map[identity.Address]member.Time{},
		awaiting: map[uint64]func(*step.Context, step.Response){},
		shorts:   map[*byte]uint64{},
	}
	return o
}

// Keepers is the durable state.
func (o *Observer) Keepers() []step.Keeper {
	return []step.Keeper{o.charters, o.policies, o.credentials, o.revocations, o.offers, o.beats, o.hours, o.fills, o.joining, o.points, o.proofs}
}

// Restore derives what is not stored. It is called once, after the rows are loaded.
func (o *Observer) Restore() error {
	for _, id := range o.charters.Keys() {
		c, err := wire.Decode[member.Charter](o.charters.Get(id).Object)
		if err != nil {
			return err
		}
		o.adopt(c)
	}
	if o.joining.IsSet() && !o.founded {
		o.market = wire.Market{ID: o.joining.Get().Invite.Market}
	}
	for _, n := range o.policies.Keys() {
		p, err := wire.Decode[member.Policy](o.policies.Get(n).Object)
		if err != nil {
			return err
		}
		if o.newest = p; o.policy.Number == 0 {
			o.policy = p // enforce finds the right one as soon as it knows the time
		}
	}
	for _, a := range o.credentials.Keys() {
		obj := o.credentials.Get(a).Object
		c, err := wire.Decode[member.Credential](obj)
		if err != nil {
			return err
		}
		if err := o.roster.Admit(c, obj); err != nil {
			return err
		}
	}
	for _, k := range o.revocations.Keys() {
		r, err := wire.Decode[member.Revocation](o.revocations.Get(k).Object)
		if err != nil {
			return err
		}
		_ = o.roster.Sanction(r) // an earlier one of a later sanction is stale, and kept for others
	}
	for _, a := range o.offers.Keys() {
		f, err := wire.Decode[market.Offer](o.offers.Get(a).Object)
		if err != nil {
			return err
		}
		o.index.Put(&f)
	}
	o.restoreTape()
	return o.restoreMinutes()
}

func (o *Observer) adopt(c member.Charter) {
	o.charter, o.market, o.founded = c, c.Market(), true
	o.roster = member.NewRoster(c)
}

// Founded reports whether the node belongs to a market.
func (o *Observer) Founded() bool { return o.founded }

// Market is the signing domain; before the node belongs to a market, that of the invite it holds.
func (o *Observer) Market() wire.Market { return o.market }

// Charter is the market's charter, and the object that it came as.
func (o *Observer) Charter() (member.Charter, wire.Object) {
	if !o.founded {
		return member.Charter{}, wire.Object{}
	}
	return o.charter, o.charters.Get(o.market.ID).Object
}

// Policy is the policy in force.
func (o *Observer) Policy() (member.Policy, wire.Object) {
	if k := o.policies.Get(o.policy.Number); k != nil {
		return o.policy, k.Object
	}
	return o.policy, wire.Object{}
}

// Credential is the newest credential known of a.
func (o *Observer) Credential(a identity.Address) (member.Credential, wire.Object, bool) {
	if !o.founded {
		return member.Credential{}, wire.Object{}, false
	}
	return o.roster.Credential(a)
}

// Standing is nil for a member in good standing.
func (o *Observer) Standing(a identity.Address, now member.Time) error {
	if !o.founded {
		return member.ErrNoCredential
	}
	return o.roster.Standing(a, now)
}

// Is reports whether a is a member in good standing with a role.
func (o *Observer) Is(a identity.Address, r member.Role, now member.Time) bool {
	return o.founded && o.roster.Is(a, r, now)
}

// Sanctioned is the sanction that stands against a.
func (o *Observer) Sanctioned(a identity.Address) (member.Revocation, bool) {
	if !o.founded {
		return member.Revocation{}, false
	}
	return o.roster.Sanctioned(a)
}

// Members are all addresses with a credential.
func (o *Observer) Members() []identity.Address {
	if !o.founded {
		return nil
	}
	return o.roster.Members()
}

// Bank is the operator that keeps this node's account: the issuer of its credential.
func (o *Observer) Bank() identity.Address {
	if c, _, ok := o.Credential(o.self); ok {
		return c.Issuer
	}
	return o.charter.Signer()
}

// LastRevocation is the number and ref of this node's own last revocation.
func (o *Observer) LastRevocation() (uint64, identity.Hash) {
	if !o.founded {
		return 0, identity.Hash{}
	}
	n := o.roster.LastNumber(o.self)
	if k := o.revocations.Get(revocationKey{o.self, n}); k != nil {
		return n, k.Object.Ref(o.market)
	}
	return n, identity.Hash{}
}

// actsMost is how many of an operator's revocations it is given back.
const actsMost = 16

// Acts are an operator's newest words that are not its bank's, for one that may have lost them: the policy, its last revocations,
// and this node's own credential.
func (o *Observer) Acts(op identity.Address) []wire.Object {
	var out []wire.Object
	if p, obj := o.Policy(); p.Operator == op && !obj.IsZero() {
		out = append(out, obj)
	}
	if c, obj, ok := o.Credential(o.self); ok && c.Issuer == op {
		out = append(out, obj)
	}
	var last []wire.Object
	for _, k := range o.revocations.Keys() {
		if k.operator == op {
			last = append(last, o.revocations.Get(k).Object)
		}
	}
	return append(out, last[max(0, len(last)-actsMost):]...)
}

// Fresh is when anything fresh and signed of another member last came to this node: what tells a node that is cut off.
func (o *Observer) Fresh() member.Time { return o.fresh }

// Heard reports whether anything fresh and signed of another member came in minute m, one of the last 64.
func (o *Observer) Heard(m member.Minute) bool { return o.heard.Has(m) }

// Hear notes that something fresh and signed of another member came.
func (o *Observer) Hear(ctx *step.Context, by identity.Address) {
	if by != o.self {
		o.fresh = max(o.fresh, ctx.Now)
		o.heard = o.heard.With(ctx.Minute())
	}
}

// Offer is the newest offer of a host.
func (o *Observer) Offer(host identity.Address) (market.Offer, bool) {
	return o.index.Offer(host)
}

// Enact makes an object that this node has drafted part of its own view, keeps it, and gossips it.
func (o *Observer) Enact(ctx *step.Context, msg wire.Message) {
	obj := wire.Draft(msg)
	o.take(ctx, msg, obj)
	ctx.Publish(topicOf(obj.Kind), obj)
}

func topicOf(k wire.Kind) step.Topic {
	switch k {
	case wire.KindOffer:
		return step.TopicOffers
	case wire.KindBeat:
		return step.TopicBeats
	}
	return step.TopicMembers
}

// take applies a message that is verified, or this node's own. It reports whether it told anything new.
func (o *Observer) take(ctx *step.Context, msg wire.Message, obj wire.Object) bool {
	if !o.founded {
		return false
	}
	switch m := msg.(type) {
	case member.Policy:
		return o.takePolicy(ctx, m, obj)
	case member.Credential:
		if o.roster.Admit(m, obj) != nil {
			return false
		}
		a := m.Address()
		o.credentials.Put(a, known{obj})
		o.tellStanding(ctx, a)
	case member.Revocation:
		key := revocationKey{m.Operator, m.Number}
		if o.revocations.Get(key) != nil || o.roster.Sanction(m) != nil && m.Operator != o.self {
			return false // this node's own are kept in any case: their numbers have no gap
		}
		o.revocations.Put(key, known{obj})
		o.tellStanding(ctx, m.Subject)
		if m.Subject == o.self {
			ctx.Notify("member."+m.Sanction.String(), wire.ID{}, "this node is "+m.Sanction.String()+": "+m.Reason)
		}
	case market.Offer:
		return o.takeOffer(ctx, m, obj)
	case reliability.Beat:
		return o.takeBeat(ctx, m, obj)
	case audit.Checkpoint:
		return o.takeCheckpoint(ctx, m, obj)
	case audit.Consistency:
		return o.takeConsistency(ctx, m, obj)
	default:
		return false
	}
	return true
}

// tellStanding tells the shell's gater and validators, and drops who is out.
func (o *Observer) tellStanding(ctx *step.Context, a identity.Address) {
	c, _, ok := o.roster.Credential(a)
	s, out := o.roster.Sanctioned(a)
	revoked := out && s.Sanction == member.Revoke
	o.stamp++
	ctx.Out.Members = append(ctx.Out.Members, step.Membership{Address: a, Key: c.Subject, Good: ok && !out, Revoked: revoked})
	if revoked {
		ctx.Out.Evict = append(ctx.Out.Evict, a)
	}
}

func (o *Observer) takePolicy(ctx *step.Context, p member.Policy, obj wire.Object) bool {
	if p.Number <= o.newest.Number || !o.charter.Operates(p.Operator) {
		return false
	}
	if prev := o.policies.Get(o.newest.Number); prev != nil && p.Number == o.newest.Number+1 && p.Prev != prev.Object.Ref(o.market) {
		return false
	}
	o.policies.Put(p.Number, known{obj})
	o.newest = p
	o.enforce(ctx)
	o.contactOperators(ctx)
	return true
}

// enforce puts the highest policy in force whose time has come. A market is never without one: the first that is known
// stands until another does.
func (o *Observer) enforce(ctx *step.Context) {
	for _, n := range o.policies.Keys() {
		p, err := wire.Decode[member.Policy](o.policies.Get(n).Object)
		if err != nil {
			panic("observer: a policy that this node kept does not decode: " + err.Error())
		}
		if o.policy.Number == 0 || p.Effective <= ctx.Now {
			o.policy = p
		}
	}
	ctx.Policy = o.policy
}

// offerPause is the least time between two offers of a host that are taken: each costs every node a row.
const offerPause = member.Second

func (o *Observer) takeOffer(ctx *step.Context, f market.Offer, obj wire.Object) bool {
	if old, ok := o.index.Offer(f.Host); ok && (old.Seq >= f.Seq || f.Host != o.self && f.At < old.At+offerPause) {
		return false
	}
	if !o.Is(f.Host, member.RoleHost, ctx.Now) || f.At > ctx.Now+90*member.Second || f.Expires <= ctx.Now {
		return false
	}
	if !o.charter.Testnet && slices.ContainsFunc(f.Groups, func(g market.Group) bool { return g.Simulated }) {
		return false
	}
	o.index.Put(&f)
	o.offers.Put(f.Host, known{obj})
	o.takeFills(ctx, f)
	if c, _, ok := o.roster.Credential(f.Host); ok && f.Host != o.self {
		ctx.Out.Contacts = append(ctx.Out.Contacts, step.Contact{Key: c.Subject, Addrs: f.Addrs, Keep: true})
	}
	return true
}

// Gossip takes a verified message of a topic.
func (o *Observer) Gossip(ctx *step.Context, g step.Gossip) {
	msg := message(g.Msg)
	if msg == nil {
		return
	}
	// A window for live gossip alone: what comes by sync is older. Only what is of this minute or the last tells that
	// its author can be heard now.
	switch m := msg.(type) {
	case market.Offer:
		if ctx.Now-m.At > liveWindow {
			return
		}
		if ctx.Now-m.At < 2*ctx.Clock.Slot {
			o.Hear(ctx, m.Host)
		}
	case reliability.Beat:
		if !near(ctx.Minute(), m.Minute, 1+uint64(liveWindow/ctx.Clock.Slot)) {
			return
		}
		if near(ctx.Minute(), m.Minute, 1) {
			o.Hear(ctx, m.Host)
		}
	}
	o.take(ctx, msg, g.Msg.Object())
}

// liveWindow is how far a gossiped message may lie from our clock.
const liveWindow = 90 * member.Second

func near(a, b member.Minute, span uint64) bool {
	if a < b {
		a, b = b, a
	}
	return uint64(a-b) <= span
}

// message is the value of a verified object of a kind that the observer keeps; nil for others.
func message(v wire.AnyVerified) wire.Message {
	switch m := v.(type) {
	case wire.Verified[member.Policy]:
		return m.Value()
	case wire.Verified[member.Credential]:
		return m.Value()
	case wire.Verified[member.Revocation]:
		return m.Value()
	case wire.Verified[market.Offer]:
		return m.Value()
	case wire.Verified[reliability.Beat]:
		return m.Value()
	case wire.Verified[audit.Checkpoint]:
		return m.Value()
	case wire.Verified[audit.Consistency]:
		return m.Value()
	}
	return nil
}
