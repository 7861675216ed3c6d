package observer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"souk/ledger/audit"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A peer is an admitted neighbour.
type peer struct {
	key   identity.PublicKey
	skew  member.Time // its clock minus ours, as last heard
	since member.Time

	window member.Time // in which syncs were last served
	served int
}

// settling is when a new neighbour is asked again: gossip between two nodes takes a moment to begin.
var settling = [...]member.Time{2 * member.Second, 6 * member.Second}

// asking is a sync that is due.
type asking struct {
	who identity.Address
	at  member.Time
}

// limits of one sync answer.
const (
	syncBytes   = 200 << 10
	syncObjects = 2048

	syncWindow    = 10 * member.Second
	syncsInWindow = 16 // of one peer
)

// Peer notes that a neighbour came or went. A new one is asked for what we lack.
func (o *Observer) Peer(ctx *step.Context, p step.Peer) {
	i, found := slices.BinarySearchFunc(o.order, p.Address, identity.Address.Compare)
	switch {
	case p.Up && !found:
		o.order = slices.Insert(o.order, i, p.Address)
		o.peers[p.Address] = &peer{key: p.Key, since: ctx.Now, skew: o.skews[p.Address]}
		o.askSync(ctx, p.Address)
		for _, pause := range settling {
			o.again = append(o.again, asking{p.Address, ctx.Now + pause})
		}
		slices.SortStableFunc(o.again, func(a, b asking) int { return cmp.Compare(a.at, b.at) })
	case !p.Up && found:
		o.order = slices.Delete(o.order, i, i+1)
		delete(o.peers, p.Address)
	}
}

// Peers is the number of admitted neighbours.
func (o *Observer) Peers() int { return len(o.order) }

// Skew is the median of the neighbours' clocks minus ours, in milliseconds.
func (o *Observer) Skew() member.Time {
	if len(o.order) == 0 {
		return 0
	}
	all := make([]member.Time, 0, len(o.order))
	for _, a := range o.order {
		all = append(all, o.peers[a].skew)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// Hello judges what somebody says of itself, and answers in kind.
func (o *Observer) Hello(ctx *step.Context, r step.Request) {
	if no := o.judge(ctx, r.Peer, r.Body, r.Objects); no != nil {
		ctx.Refuse(r.ID, no)
		return
	}
	ctx.Out.Admit = append(ctx.Out.Admit, r.Peer)
	ctx.Reply(r.ID, step.OpOK, nil)
}

// HelloBody is what this node says of itself.
func (o *Observer) HelloBody(ctx *step.Context) (step.HelloBody, []wire.Object) {
	body := step.HelloBody{
		Market: o.market.ID, Policy: o.policy.Number, Now: ctx.Now, Version: ctx.Boot.Version, Addrs: ctx.Boot.Addrs,
	}
	if _, obj, ok := o.Credential(o.self); ok {
		return body, []wire.Object{obj}
	}
	return body, nil
}

func (o *Observer) judge(ctx *step.Context, who identity.Address, body []byte, objects []wire.AnyVerified) *step.Refusal {
	h, err := step.Body[step.HelloBody](body)
	if err != nil {
		return step.Refuse(step.RefuseBadHello, "hello does not decode")
	}
	switch {
	case !o.founded:
		return step.Refuse(step.RefuseNoCredential, "this node has not joined its market yet")
	case h.Market != o.market.ID:
		return step.Refuse(step.RefuseOtherMarket, "another market: this node is of %s", o.market.ID.Short())
	}
	for _, c := range step.FindAll[member.Credential](objects) {
		if c.Value().Address() == who {
			o.take(ctx, c.Value(), c.Object())
		}
	}
	switch err := o.roster.Standing(who, ctx.Now); {
	case err == nil, errors.Is(err, member.ErrExpired):
		// Expiry ends no lease, and an expired member must be able to ask for its next credential.
	case errors.Is(err, member.ErrNotYet):
		return step.Refuse(step.RefuseClock, "your credential begins in the future of this node's clock")
	case errors.Is(err, member.ErrSuspended):
		// A suspension makes no new leases, and ends none that runs.
	case errors.Is(err, member.ErrRevoked):
		s, _ := o.roster.Sanctioned(who)
		return step.Refuse(step.RefuseRevoked, "%v by the operator: %s", s.Sanction, s.Reason)
	default:
		return step.Refuse(step.RefuseNoCredential, "no credential of this market; join with an invite")
	}
	o.skews[who] = h.Now - ctx.Now // hello comes before the news of a neighbour
	if p := o.peers[who]; p != nil {
		p.skew = h.Now - ctx.Now
	}
	o.Hear(ctx, who)
	return nil
}

// Sync answers a peer with what it lacks.
func (o *Observer) Sync(ctx *step.Context, r step.Request) {
	if p := o.peers[r.Peer]; p != nil {
		if w := ctx.Now / syncWindow; w != p.window {
			p.window, p.served = w, 0
		}
		if p.served++; p.served > syncsInWindow {
			ctx.Refuse(r.ID, step.Refuse(step.RefuseBusy, "at most %d syncs in %d s", syncsInWindow, syncWindow/member.Second))
			return
		}
	}
	body, err := step.Body[step.SyncBody](r.Body)
	if err != nil || len(body.Have) > 16384 {
		ctx.Refuse(r.ID, step.Refuse(step.RefuseBadRequest, "sync wants at most 16384 refs"))
		return
	}
	have := make(map[uint64]bool, len(body.Have))
	for _, h := range body.Have {
		have[h] = true
	}
	var out []wire.Object
	answer, size := step.SyncAnswer{Now: ctx.Now}, 0
	o.each(ctx.Now, func(obj wire.Object) {
		if have[o.short(obj)] {
			return
		}
		if size += len(obj.Payload) + 80; size > syncBytes || len(out) >= syncObjects {
			answer.More = true
			return
		}
		out = append(out, obj)
	})
	ctx.Reply(r.ID, step.OpOK, answer, out...)
}

// each visits every object that a newcomer needs, those first that others depend on.
func (o *Observer) each(now member.Time, visit func(wire.Object)) {
	for _, n := range o.policies.Keys() {
		if n >= o.policy.Number {
			visit(o.policies.Get(n).Object)
		}
	}
	for _, a := range o.credentials.Keys() {
		visit(o.credentials.Get(a).Object)
	}
	for _, k := range o.revocations.Keys() {
		visit(o.revocations.Get(k).Object)
	}
	for _, a := range o.offers.Keys() {
		if f, _ := o.index.Offer(a); f.Expires > now {
			visit(o.offers.Get(a).Object)
		}
	}
	o.audited(visit)
}

// short is the first 8 bytes of an object's ref. It is asked for all that is held, twice a minute, so it is remembered: by
// where the payload lies, which nobody writes over.
func (o *Observer) short(obj wire.Object) uint64 {
	at := &obj.Payload[0]
	if n, ok := o.shorts[at]; ok {
		return n
	}
	if len(o.shorts) >= 4*(o.credentials.Len()+o.revocations.Len()+o.offers.Len()+1) {
		clear(o.shorts)
	}
	h := obj.Ref(o.market)
	o.shorts[at] = binary.BigEndian.Uint64(h[:8])
	return o.shorts[at]
}

func (o *Observer) askSync(ctx *step.Context, who identity.Address) {
	var body step.SyncBody
	o.each(ctx.Now, func(obj wire.Object) {
		if len(body.Have) < 16384 {
			body.Have = append(body.Have, o.short(obj))
		}
	})
	o.awaiting[ctx.Send(who, step.ProtoSync, step.OpSync, body)] = func(ctx *step.Context, r step.Response) {
		if r.Err != nil {
			return
		}
		o.Hear(ctx, who)
		news := false
		for _, v := range r.Objects {
			if msg := lasting(v); msg != nil && o.take(ctx, msg, v.Object()) {
				news = true
				if ctx.Now-born(msg) < freshNews { // gossip has missed us, and perhaps others
					ctx.Publish(topicOf(v.Kind()), v.Object())
				}
			}
		}
		a, err := step.Body[step.SyncAnswer](r.Body)
		if err != nil {
			return
		}
		o.skews[who] = a.Now - ctx.Now
		if p := o.peers[who]; p != nil {
			p.skew = o.skews[who]
		}
		if a.More && news {
			o.askSync(ctx, who)
		}
	}
}

// askOperators asks the operators that are neighbours.
func (o *Observer) askOperators(ctx *step.Context) {
	for _, k := range o.charter.Operators {
		if a, err := k.Address(); err == nil && o.peers[a] != nil {
			o.askSync(ctx, a)
		}
	}
}

// lasting is the value of an object that may come late. A beat may not: it proves that its host was there only to those who
// heard it then.
func lasting(v wire.AnyVerified) wire.Message {
	if v.Kind() == wire.KindBeat {
		return nil
	}
	return message(v)
}

// freshNews is how old an object may be to be gossiped again by who learned of it by sync.
const freshNews = 30 * member.Second

// born is when an object was made.
func born(msg wire.Message) member.Time {
	switch m := msg.(type) {
	case market.Offer:
		return m.At
	case member.Credential:
		return m.NotBefore
	case member.Revocation:
		return m.At
	case member.Policy:
		return m.Effective
	case audit.Checkpoint:
		return m.At
	}
	return 0
}

// contactOperators tells the shell where the operators are; new addresses hold at once, whatever else their policy says.
func (o *Observer) contactOperators(ctx *step.Context) {
	for _, k := range o.charter.Operators {
		if a, err := k.Address(); err == nil && a != o.self {
			ctx.Out.Contacts = append(ctx.Out.Contacts, step.Contact{Key: k, Addrs: o.newest.Bootstrap, Keep: true})
		}
	}
}

// Boot tells the shell whom to stay in touch with and who is in good standing.
func (o *Observer) Boot(ctx *step.Context) {
	o.upSince, o.watched = ctx.Now, ctx.Minute()
	if !o.founded {
		return
	}
	o.enforce(ctx)
	for _, a := range o.roster.Members() {
		o.tellStanding(ctx, a)
	}
	o.contactOperators(ctx)
	for _, a := range o.offers.Keys() {
		if c, _, ok := o.roster.Credential(a); ok && a != o.self {
			f, _ := o.index.Offer(a)
			live := f.Live(ctx.Now) // where another was last is worth knowing: there may be a lease to end
			ctx.Out.Contacts = append(ctx.Out.Contacts, step.Contact{Key: c.Subject, Addrs: f.Addrs, Keep: live})
		}
	}
}

// Response takes the answer to one of the observer's own questions.
func (o *Observer) Response(ctx *step.Context, r step.Response) bool {
	f, ok := o.awaiting[r.ID]
	if ok {
		delete(o.awaiting, r.ID)
		f(ctx, r)
	}
	return ok
}

// Tick does what is due and says when something is due next.
func (o *Observer) Tick(ctx *step.Context) member.Time {
	wake := o.tickJoin(ctx)
	if !o.founded {
		return wake
	}
	m := ctx.Minute()
	if m > o.watched {
		o.closeMinutes(ctx, m)
		o.watched = m
		o.enforce(ctx)
		o.expireOffers(ctx)
		o.expireFills(ctx)
		o.stamp++
		o.tickAudit(ctx)
		if n := len(o.order); n > 0 {
			o.askSync(ctx, o.order[int(draw(ctx, m)%uint64(n))])
		}
		o.renew(ctx)
	}
	next := ctx.Clock.Tick(m + 1)
	for len(o.again) > 0 && o.again[0].at <= ctx.Now {
		if who := o.again[0].who; o.peers[who] != nil {
			o.askSync(ctx, who)
		}
		o.again = o.again[1:]
	}
	if len(o.again) > 0 {
		next = min(next, o.again[0].at)
	}
	// Silence may be chance: before this node takes itself for cut off, it asks those whose word it would believe.
	if half := ctx.Clock.Tick(m) + ctx.Clock.Slot/2; ctx.Now < half {
		next = min(next, half)
	} else if o.pinged < m {
		o.pinged = m
		if !o.heard.Has(m) {
			o.askOperators(ctx)
		}
	}
	if wake == 0 || next < wake {
		wake = next
	}
	return wake
}

// draw is a number that peers cannot foresee, one for each minute and run.
func draw(ctx *step.Context, m member.Minute) uint64 {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(m))
	h := identity.Keccak([]byte("souk/draw/1"), ctx.Boot.Seed[:], b[:])
	return binary.BigEndian.Uint64(h[:8])
}

// expireOffers forgets offers that ended an hour ago.
func (o *Observer) expireOffers(ctx *step.Context) {
	for _, a := range o.offers.Keys() {
		if f, _ := o.index.Offer(a); f.Expires+member.Hour < ctx.Now && a != o.self {
			o.offers.Delete(a)
			o.index.Remove(a)
		}
	}
}

// renew asks the issuer for this node's next credential once the current one is old enough. The operator renews its own.
func (o *Observer) renew(ctx *step.Context) {
	c, _, ok := o.Credential(o.self)
	if !ok || c.Issuer == o.self || ctx.Now-c.NotBefore < member.Time(o.policy.RenewAfter)*member.Second {
		return
	}
	if ctx.Now < o.renewing {
		return
	}
	o.renewing = ctx.Now + 10*ctx.Clock.Slot
	o.awaiting[ctx.Send(c.Issuer, step.ProtoBank, step.OpRenew, step.RenewBody{Serial: c.Serial})] = func(ctx *step.Context, r step.Response) {
		if next, ok := step.Find[member.Credential](r.Objects); ok && next.Value().Address() == o.self {
			if o.take(ctx, next.Value(), next.Object()) {
				ctx.Publish(step.TopicMembers, next.Object())
			}
		}
	}
}

// Expired reports whether the offer of a host has run out.
func (o *Observer) Expired(host identity.Address, now member.Time) bool {
	f, ok := o.index.Offer(host)
	return !ok || !f.Live(now)
}
