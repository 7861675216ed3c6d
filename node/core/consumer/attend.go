package consumer

import (
	"fmt"
	"slices"
	"strings"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// An Attendance is how the attendant of a pod stands, for people.
type Attendance struct {
	Party
	Has     bool   `json:"has"`               // it has taken the lease
	Refused string `json:"refused,omitempty"` // why it does not sign, or not any more
}

// A Party is a member, for people.
type Party struct {
	Address identity.Address `json:"address"`
	Alias   string           `json:"alias,omitempty"`
}

// attending is what a principal knows of its attendant.
type attending struct {
	Has     bool   `cbor:"1,keyasint"`
	Refused string `cbor:"2,keyasint"`
}

// mostAttended is how many open leases of one principal a node attends: as many as a bank lets it have.
const mostAttended = 64

// own reports whether this node bought the lease, and orders what becomes of the pod.
func (l *Lease) own() bool { return l.Principal.IsZero() }

// attends reports whether this node sends the lease's keep-alives and signs its vouchers.
func (l *Lease) attends() bool { return l.Attendant.IsZero() }

// signer is who signs the lease's vouchers.
func (l *Lease) signer(ctx *step.Context) identity.Address {
	if l.attends() {
		return ctx.Self
	}
	return l.Attendant
}

// foreign reports whether a lease is another's, which this node only attends.
func (c *Consumer) foreign(lease wire.ID) bool {
	l := c.leases.Get(lease)
	return l != nil && !l.own()
}

func (c *Consumer) party(a identity.Address) Party {
	m, _, _ := c.w.Credential(a)
	return Party{a, m.Alias}
}

func (c *Consumer) attendance(l *Lease) *Attendance {
	if l.attends() {
		return nil
	}
	return &Attendance{c.party(l.Attendant), l.Attending.Has, l.Attending.Refused}
}

func (c *Consumer) principal(l *Lease) *Party {
	if l.own() {
		return nil
	}
	p := c.party(l.Principal)
	return &p
}

// attendantOf is the attendant that a Run names.
func (c *Consumer) attendantOf(ctx *step.Context, ref string) (identity.Address, *step.Problem) {
	a, p := c.w.Find(ref)
	switch {
	case p != nil:
		return a, p
	case a == ctx.Self:
		return a, step.Fail(step.ProblemUsage, "leave --attendant out: a node attends its own pods", "%s is this node", ref)
	}
	if err := c.w.Standing(a, ctx.Now); err != nil {
		return a, step.Fail(step.ProblemTrust, "", "%s cannot attend: %v", ref, err)
	}
	return a, nil
}

// askAttendant finds out whether the attendant would attend, before bank and host are asked.
func (c *Consumer) askAttendant(ctx *step.Context, o *Order) {
	q := question{to: o.Attendant, proto: step.ProtoAttend, op: step.OpMayAttend}
	c.onOrder(ctx, o, q.within(shortly), func(ctx *step.Context, o *Order, r step.Response) {
		name := c.hostName(o.Attendant)
		switch {
		case r.Err == nil:
			c.first(ctx, o)
		case no(r.Err):
			c.fail(ctx, o, step.Fail(step.ProblemTrust, attendHint(ctx), "%s does not attend for this node: %s", name, r.Err.Refusal.Reason))
		default:
			p := step.FromFailure(r.Err, name)
			c.fail(ctx, o, step.Fail(p.Code, placeHint, "%s", p.Text))
		}
	})
}

// placeHint is for an attendant that is not reached: unlike hosts, it may be a node that tells nobody where it is.
const placeHint = "is that node up? its address, as 'souk status' shows it there, goes into peers of this node's config.yaml"

func attendHint(ctx *step.Context) string {
	return "add " + ctx.Self.String() + " to attend_for in that node's config.yaml, and start it again"
}

// brief is what the attendant of a lease is to know of it.
func (c *Consumer) brief(l *Lease) (step.AttendBody, []wire.Object) {
	o := c.orders.Get(l.Bid)
	b := step.AttendBody{Name: o.Name, Starts: l.Ordered, Zero: l.Zero, Stop: l.StopMinute, RunUntil: l.RunUntil, KeepUntil: l.KeepUntil}
	objects := []wire.Object{o.Terms, o.Cert, l.Reserved}
	if p := l.Pending; p != nil && p.Order == market.CommandStart {
		b.Zero = p.Zero
	}
	if t := c.trusts.Get(l.ID); t != nil {
		b.Panel, objects = t.Panel, append(objects, t.Object)
	}
	if l.Refused != nil {
		b.Halt = l.Refused.Text
	}
	return b, objects
}

// tickAttendant tells the attendant of a lease what it is to know, whenever that changes, and now and then all the same.
func (c *Consumer) tickAttendant(ctx *step.Context, l *Lease, w *watch, wake *alarm) {
	if l.attends() || l.Final {
		return
	}
	body, objects := c.brief(l)
	news := identity.Keccak(wire.Marshal(body))
	for _, o := range objects {
		ref := o.Ref(ctx.Market)
		news = identity.Keccak(news[:], ref[:])
	}
	if news == w.handed && ctx.Now < w.handNext {
		wake.at(w.handNext)
		return
	}
	if !w.handing.due(ctx.Now, wake) {
		return
	}
	w.handing.busy = true
	lease := l.ID
	q := question{to: l.Attendant, proto: step.ProtoAttend, op: step.OpAttend, body: body, objects: objects}
	c.ask(ctx, q.within(shortly), func(ctx *step.Context, r step.Response) {
		l := c.leases.Get(lease)
		if l == nil {
			return
		}
		w.handing.failed(ctx.Now, member.Second, ctx.Clock.Slot)
		if r.Err == nil {
			// It may lose what it knows: told again within the minute, it misses none.
			w.handing, w.handed, w.handNext = retry{}, news, ctx.Now+ctx.Clock.Slot/2
		}
		c.attendedBy(ctx, l, r)
	})
}

// attendedBy takes the attendant's answer, and tells the user of a change.
func (c *Consumer) attendedBy(ctx *step.Context, l *Lease, r step.Response) {
	a, err := step.Body[step.AttendAnswer](r.Body)
	now := l.Attending
	switch {
	case r.Err == nil && err == nil:
		now = attending{true, clean(a.Refused)}
	case r.Err != nil && no(r.Err):
		now = attending{false, clean(r.Err.Refusal.Reason)}
	}
	if now == l.Attending {
		return
	}
	name, who := c.nameOf(l), c.hostName(l.Attendant)
	switch {
	case now.Refused != "" && now.Has:
		ctx.Notify("attendant.refused", l.ID, fmt.Sprintf("%s: %s signs nothing more for it, and the pod stops: %s", name, who, now.Refused))
	case now.Refused != "":
		ctx.Notify("attendant.refused", l.ID, fmt.Sprintf("%s: %s does not attend it, and the pod stops: %s; %s", name, who, now.Refused, attendHint(ctx)))
	case !l.Attending.Has:
		ctx.Notify("attendant.has", l.ID, fmt.Sprintf("%s: %s attends it", name, who))
	}
	l.Attending = now
	c.leases.Touch(l.ID)
}

// clean is a peer's text as it may be shown.
func clean(s string) string { return strings.Map(printable, s[:min(len(s), 512)]) }

// takeVoucher takes from a host the highest voucher of a lease that this node does not know of: its own, signed before it lost
// its records, or its attendant's.
func (c *Consumer) takeVoucher(ctx *step.Context, l *Lease, objects []wire.AnyVerified) {
	v, ok := step.Find[ledger.Voucher](objects)
	u := v.Value()
	if !ok || u.By != l.signer(ctx) || u.Lease != l.ID || u.Host != l.Host || u.Reservation != l.Reservation || u.Seq <= l.SignedSeq {
		return
	}
	c.vouchers.Put(l.ID, v.Object())
	l.Signed, l.SignedSeq, l.SignedAt = u.Total, u.Seq, u.Minute
	l.SignedFor = wire.Object{} // it may be unknown here
	if !l.attends() {
		l.GivenSeq = u.Seq // it is the host's who gave it
	}
	c.leases.Touch(l.ID)
}

// signedFor checks an entry that is covered by the highest voucher already: the one that it names must be it.
func (c *Consumer) signedFor(l *Lease, u ledger.Usage, ref identity.Hash) *Objection {
	if u.Seq != l.SignedSeq {
		return nil
	}
	v, err := wire.Decode[ledger.Voucher](*c.vouchers.Get(l.ID))
	if err != nil || v.Usage != ref {
		return object(CodeChain, "entry %d is another one than the voucher was signed for", u.Seq)
	}
	return nil
}

// Request takes what a principal asks. False: it is none of the consumer's.
func (c *Consumer) Request(ctx *step.Context, r step.Request) bool {
	if r.Proto != step.ProtoAttend {
		return false
	}
	var no *step.Refusal
	switch {
	case !slices.Contains(ctx.Boot.AttendFor, r.Peer):
		no = step.Refuse(step.RefuseNotForYou, "this node attends no leases of %v", r.Peer)
	case r.Op == step.OpMayAttend:
		no = c.room(r.Peer)
		if no == nil {
			ctx.Reply(r.ID, step.OpOK, nil)
		}
	case r.Op == step.OpAttend:
		no = c.attendFor(ctx, r)
	default:
		no = step.Refuse(step.RefuseBadRequest, "unknown operation %d", r.Op)
	}
	if no != nil {
		ctx.Refuse(r.ID, no)
	}
	c.stirred = true
	return true
}

// room refuses a principal that has had as many leases attended as it may.
func (c *Consumer) room(principal identity.Address) *step.Refusal {
	n := 0
	for _, id := range c.leases.Keys() {
		if l := c.leases.Get(id); l.Principal == principal && !l.Done {
			n++
		}
	}
	if n >= mostAttended {
		return step.Refuse(step.RefuseLimit, "this node attends %d leases of yours, the most there may be", n)
	}
	return nil
}

// attendFor takes a lease to attend, or what is new of one.
func (c *Consumer) attendFor(ctx *step.Context, r step.Request) *step.Refusal {
	body, err := step.Body[step.AttendBody](r.Body)
	terms, ok1 := step.Find[market.Terms](r.Objects)
	cert, ok2 := step.Find[market.Cert](r.Objects)
	res, ok3 := step.Find[ledger.Reservation](r.Objects)
	t := terms.Value()
	if err != nil || !ok1 || !ok2 || !ok3 || checkName(body.Name) != nil {
		return step.Refuse(step.RefuseBadRequest, "a lease to attend comes with its terms, certificate, reservation and name")
	}
	switch v := res.Value(); {
	case t.Consumer != r.Peer || t.By != ctx.Self || t.Attendant != ctx.Self:
		return step.Refuse(step.RefuseNotForYou, "the terms do not have this node attend for you")
	case cert.Value().Host != t.Host || cert.Value().Lease != t.Lease || cert.Value().Terms != terms.Ref():
		return step.Refuse(step.RefuseBadRequest, "the certificate is not of these terms")
	case !ctx.Charter.Operates(v.Operator) || v.ID != t.Reservation || v.Lease != t.Lease || v.Host != t.Host || v.Consumer != t.Consumer || v.By != ctx.Self:
		return step.Refuse(step.RefuseReservation, "the reservation is not of this lease")
	}
	l := c.leases.Get(t.Lease)
	switch {
	case l == nil && c.orders.Get(t.Bid) != nil, l != nil && (l.Principal != r.Peer || l.Terms != terms.Ref()):
		return step.Refuse(step.RefuseState, "this node knows that lease or bid as another")
	case l == nil:
		if no := c.room(r.Peer); no != nil {
			return no
		}
		l = c.takeOn(ctx, terms, cert, res)
	}
	c.takeReservation(ctx, l, r.Objects)
	c.takeBrief(ctx, l, body, r.Objects)
	var a step.AttendAnswer
	if l.Refused != nil {
		a.Refused = l.Refused.Text
	}
	ctx.Reply(r.ID, step.OpOK, a)
	return nil
}

// takeOn begins to attend a lease. This node may have done so before, and lost its records: the host is asked first.
func (c *Consumer) takeOn(ctx *step.Context, terms wire.Verified[market.Terms], cert wire.Verified[market.Cert], res wire.Verified[ledger.Reservation]) *Lease {
	t, v := terms.Value(), res.Value()
	c.orders.Put(t.Bid, Order{
		Run: Run{Lease: t.Lease, Reservation: t.Reservation, Bid: t.Bid, Type: t.Type, Model: t.Model, GPUs: t.GPUs, MaxRate: t.Rate, Minutes: t.Minutes,
			Budget: t.Budget, OnEnd: t.OnEnd, Spec: market.Spec{Disk: t.Disk, Volume: t.Volume}, Away: Away{Off: true}},
		At: ctx.Now, Stage: StageLeased, Since: ctx.Now, Lease: t.Lease, Reservation: t.Reservation, Host: t.Host, Bank: v.Operator, Model: t.Model,
		Agreed: agreement{Rate: t.Rate, Tariff: t.Tariff, Notice: t.Notice, Grace: t.Grace, Simulated: t.Simulated},
		Terms:  terms.Object(), Reserved: res.Object(), Cert: cert.Object(),
	})
	return c.leases.Put(t.Lease, Lease{
		ID: t.Lease, Bid: t.Bid, Reservation: t.Reservation, Host: t.Host, Bank: v.Operator, Terms: terms.Ref(), Created: ctx.Now,
		State: market.StateCertified, Since: ctx.Now, Heard: ctx.Now, Desire: market.DesireRun,
		Place: ledger.Place{Head: cert.Ref(), Next: cert.Value().Minute}, First: cert.Value().Minute,
		Cap: v.Cap, Reserved: res.Object(), ReservedSeq: v.Seq, Principal: t.Consumer, Recall: true,
	})
}

// takeBrief takes what the principal has ordered.
func (c *Consumer) takeBrief(ctx *step.Context, l *Lease, b step.AttendBody, objects []wire.AnyVerified) {
	o := c.orders.Get(l.Bid)
	if o.Name != b.Name {
		if o.Name == "" {
			ctx.Notify("attend.began", l.ID, fmt.Sprintf("%s: attending it for %s", b.Name, c.hostName(l.Principal)), "principal", l.Principal.String())
		}
		o.Name = b.Name
		c.orders.Touch(l.Bid)
	}
	if b.Starts > l.Ordered {
		l.Orders += b.Starts - l.Ordered
		l.Ordered = b.Starts
	}
	if n := len(l.Ran); n > 0 && b.Stop > 0 && b.Stop != l.StopMinute {
		l.Ran[n-1].ended(b.Stop, market.ReasonConsumer)
	}
	l.Zero, l.StopMinute, l.RunUntil, l.KeepUntil = b.Zero, b.Stop, b.RunUntil, b.KeepUntil
	if m, ok := step.Find[ledger.Mandate](objects); ok {
		c.takeTrust(l, m, b.Panel)
	}
	if b.Halt != "" && l.Refused == nil {
		l.Refused = object(CodeHalt, "its owner pays no more: %s", clean(b.Halt))
		l.Refused.At = ctx.Now
		ctx.Notify("lease.refused", l.ID, c.nameOf(l)+": not paying on: "+l.Refused.Text, "code", string(CodeHalt))
	}
	c.leases.Touch(l.ID)
}

// takeTrust takes the principal's mandate, against which minutes are held that rest on it.
func (c *Consumer) takeTrust(l *Lease, v wire.Verified[ledger.Mandate], panel reliability.Panel) {
	m, old := v.Value(), c.trusts.Get(l.ID)
	if m.Consumer == l.Principal && m.Lease == l.ID && m.Reservation == l.Reservation && panel.Validate() == nil && panel.Hash() == m.Extension &&
		(old == nil || m.Seq > old.Mandate.Seq) {
		c.trusts.Put(l.ID, trust{Object: v.Object(), Mandate: m, Panel: panel, Held: m.Seq})
	}
}

// tickRecall asks the host what this node has signed of a lease before it follows its chain.
func (c *Consumer) tickRecall(ctx *step.Context, l *Lease, w *watch, wake *alarm) {
	if !w.handing.due(ctx.Now, wake) {
		return
	}
	w.handing.busy = true
	lease := l.ID
	q := question{to: l.Host, proto: step.ProtoHeld, op: step.OpHeld, body: step.LeaseBody{Lease: lease}}
	c.ask(ctx, q.within(shortly), func(ctx *step.Context, r step.Response) {
		l := c.leases.Get(lease)
		w.handing.failed(ctx.Now, member.Second, ctx.Clock.Slot)
		if l == nil || r.Err != nil && !no(r.Err) {
			return
		}
		c.takeVoucher(ctx, l, r.Objects)
		l.Recall = false
		c.leases.Touch(lease)
	})
}
