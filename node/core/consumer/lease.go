package consumer

import (
	"fmt"
	"strings"
	"unicode"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Lease is what this node knows of a pod that it pays for.
type Lease struct {
	ID          wire.ID          `cbor:"1,keyasint"`
	Bid         wire.ID          `cbor:"2,keyasint"`
	Reservation wire.ID          `cbor:"3,keyasint"`
	Host        identity.Address `cbor:"4,keyasint"`
	Bank        identity.Address `cbor:"5,keyasint"`
	Terms       identity.Hash    `cbor:"6,keyasint"` // ref of the terms in force
	Created     member.Time      `cbor:"7,keyasint"`
	State       market.State     `cbor:"8,keyasint"`
	Reason      market.Reason    `cbor:"9,keyasint"`
	ExitCode    int32            `cbor:"10,keyasint"`
	Detail      string           `cbor:"11,keyasint"`
	Since       member.Time      `cbor:"12,keyasint"` // of the state
	Heard       member.Time      `cbor:"13,keyasint"` // when the host last answered
	Start       identity.Hash    `cbor:"14,keyasint"` // newest container start
	Starts      uint32           `cbor:"15,keyasint"`
	Zero        bool             `cbor:"16,keyasint"` // last started without GPUs
	Desire      market.Desire    `cbor:"17,keyasint"`
	Seen        market.Answered  `cbor:"18,keyasint"` // minutes with an answer
	Ran         []ran            `cbor:"19,keyasint"` // what was heard of container starts; newest last
	Orders      uint32           `cbor:"42,keyasint"` // starts that this node ordered and that it has not heard of
	Place       ledger.Place     `cbor:"20,keyasint"`
	Bill        bill             `cbor:"41,keyasint"`
	Minutes     uint64           `cbor:"21,keyasint"` // billed at a running price
	Stored      uint64           `cbor:"22,keyasint"` // billed as storage
	Signed      ledger.Amount    `cbor:"23,keyasint"` // total of the highest voucher
	SignedSeq   uint64           `cbor:"24,keyasint"`
	GivenSeq    uint64           `cbor:"25,keyasint"` // highest voucher that the host has confirmed
	ToldSigned  member.Time      `cbor:"26,keyasint"` // when the user last heard of a voucher
	Cap         ledger.Amount    `cbor:"27,keyasint"`
	Reserved    wire.Object      `cbor:"28,keyasint"` // newest reservation
	ReservedSeq uint64           `cbor:"29,keyasint"`
	Commands    uint64           `cbor:"30,keyasint"` // number of the last command
	Pending     *pending         `cbor:"31,keyasint"` // that the host may not have
	StopMinute  member.Minute    `cbor:"32,keyasint"` // last minute in which what a stop ended may have run; 0: none
	Winner      ledger.Rate      `cbor:"33,keyasint"` // of who displaced it, per GPU-hour
	Refused     *Objection       `cbor:"34,keyasint"`
	Final       bool             `cbor:"35,keyasint"` // the last entry is known
	Close       wire.Object      `cbor:"36,keyasint"` // a draft: for a host that is gone
	Closed      bool             `cbor:"37,keyasint"` // the bank has it
	Receipt     wire.Object      `cbor:"38,keyasint"`
	Paid        ledger.Amount    `cbor:"39,keyasint"`
	Done        bool             `cbor:"40,keyasint"` // settled; nothing is left to do
	First       member.Minute    `cbor:"50,keyasint"` // of the usage chain
	SignedAt    member.Minute    `cbor:"51,keyasint"` // last minute of the entry that the highest voucher names; 0: none was signed
	Lodged      wire.Object      `cbor:"52,keyasint"` // the bank's word that it has the order LodgedSeq
	LodgedSeq   uint64           `cbor:"53,keyasint"`
	RunUntil    member.Minute    `cbor:"54,keyasint"`           // last minute that may be billed on a mandate signed until then, by an order of this node; 0: no such order
	KeepUntil   member.Minute    `cbor:"55,keyasint"`           // last minute of storage that may be billed on receipts
	Record      wire.Object      `cbor:"44,keyasint"`           // the host's word that the volume is removed
	NoRecord    bool             `cbor:"45,keyasint"`           // the host keeps none, or has said nothing for too long
	SignedFor   wire.Object      `cbor:"43,keyasint"`           // the entry that the highest voucher names
	Ordered     uint32           `cbor:"56,keyasint,omitempty"` // starts that the pod's owner has ordered in all
	Attendant   identity.Address `cbor:"57,keyasint"`           // who attends and signs in this node's place; zero: nobody
	Attending   attending        `cbor:"58,keyasint"`           // how that stands
	Principal   identity.Address `cbor:"59,keyasint"`           // whose lease it is that this node attends; zero: its own
	Recall      bool             `cbor:"60,keyasint,omitempty"` // the host is still to be asked what this node has signed of it before
}

// ran is what was heard of one container start, and billed for it.
type ran struct {
	Start   identity.Hash   `cbor:"1,keyasint"`
	Minutes market.Answered `cbor:"2,keyasint"` // in which an answer said that it runs
	Zero    bool            `cbor:"3,keyasint"` // ordered without GPUs
	Ordered bool            `cbor:"4,keyasint"` // by this node: the lease's first start, or one by its command
	Gone    member.Minute   `cbor:"6,keyasint"` // the latest in which it can have ended, as first told; 0: it has not
	End     market.Reason   `cbor:"7,keyasint"` // why it ended, as first told
	Heard   member.Time     `cbor:"8,keyasint"` // when an answer first told of it
	Asked   member.Time     `cbor:"9,keyasint"` // when the last question left that was answered with it
}

// bill is the last entry that changed what is owed: that which a voucher names.
type bill struct {
	Seq   uint64        `cbor:"1,keyasint"`
	Ref   identity.Hash `cbor:"2,keyasint"`
	Last  member.Minute `cbor:"3,keyasint"`
	Total ledger.Amount `cbor:"4,keyasint"`
	Entry wire.Object   `cbor:"5,keyasint"`
}

// A watch is what this run knows of a lease.
type watch struct {
	born     member.Time // when this run first saw the lease
	alive    member.Time // when the next keep-alive leaves; 0: at once
	hasty    member.Time // until then the next one leaves soon
	applied  member.Time // when the newest answer's question left
	pulled   int64
	pullSize int64
	pulling  bool // the user was told
	lost     bool // the user was told
	order    retry
	ready    bool // a start has its reservation
	raise    retry
	raised   bool // the bank has said what it sets aside beyond the first hour
	receipt  retry
	closing  retry
	voucher  bool // one is out
	usage    bool // entries are being fetched
	mandate  retry
	lodging  retry
	handing  retry
	handed   identity.Hash // of what the attendant has confirmed
	handNext member.Time   // when it is told again all the same
	caught   bool          // this run has followed all that the host has billed
	lacking  uint8         // answers in a row without the receipts that the next entry rests on
	vain     uint64        // the newest command that the bank did not take
	waiters  []waiter
}

// A waiter is a user's command that the host may not have yet.
type waiter struct {
	id    uint64
	seq   uint64
	until member.Time
}

func (c *Consumer) watch(id wire.ID) *watch {
	w := c.watches[id]
	if w == nil {
		w = &watch{}
		c.watches[id] = w
	}
	return w
}

// termsOf is the contract of a lease.
func (c *Consumer) termsOf(l *Lease) market.Terms {
	if t, ok := c.terms[l.ID]; ok {
		return t
	}
	t, err := wire.Decode[market.Terms](c.orders.Get(l.Bid).Terms)
	if err != nil {
		panic("consumer: terms that this node signed do not decode: " + err.Error())
	}
	c.terms[l.ID] = t
	return t
}

// certify makes a lease of an order: both have signed.
func (c *Consumer) certify(ctx *step.Context, o *Order, v wire.Verified[market.Cert]) {
	o.Cert = v.Object()
	res, err := wire.Decode[ledger.Reservation](o.Reserved)
	if err != nil {
		panic("consumer: a reservation that this node kept does not decode: " + err.Error())
	}
	l := c.leases.Put(o.Lease, Lease{
		ID: o.Lease, Bid: o.Run.Bid, Reservation: o.Reservation, Host: o.Host, Bank: o.Bank, Terms: o.Terms.Ref(ctx.Market),
		Created: ctx.Now, State: market.StateCertified, Since: ctx.Now, Heard: ctx.Now, Desire: market.DesireRun,
		Place: ledger.Place{Head: v.Ref(), Next: v.Value().Minute}, First: v.Value().Minute,
		Cap: res.Cap, Orders: 1, Ordered: 1, Attendant: o.Attendant, Reserved: o.Reserved, ReservedSeq: res.Seq,
	})
	c.reach(ctx, o, StageLeased)
	ctx.Notify("lease.certified", l.ID, fmt.Sprintf("%s: %s has signed", o.Name, c.hostName(o.Host)), "host", o.Host.String())
	for _, id := range c.flight(o.Run.Bid).waiters {
		ctx.Answer(id, c.view(ctx, o), nil)
	}
	delete(c.flights, o.Run.Bid)
	if o.Cancelled {
		c.issue(ctx, l, market.CommandRemove, false)
	} else if !o.Run.Away.Off {
		c.entrust(ctx, l, o.Run.Away.Most)
	}
}

// tickLease does what is due for one lease.
func (c *Consumer) tickLease(ctx *step.Context, l *Lease, wake *alarm) {
	w := c.watch(l.ID)
	if w.born == 0 {
		w.born = ctx.Now
	}
	if l.Recall {
		c.tickRecall(ctx, l, w, wake)
		c.tickSettle(ctx, l, w, wake)
		return
	}
	c.tickCommand(ctx, l, w, wake)
	if l.State != market.StateEnded || !l.Final && l.Refused == nil || l.GivenSeq < l.SignedSeq {
		if ctx.Now >= w.alive {
			c.keepAlive(ctx, l, w)
			w.alive = nextAlive(ctx, l, w)
		}
		wake.at(w.alive)
	}
	c.tickMandate(ctx, l, w, wake)
	c.tickAttendant(ctx, l, w, wake)
	c.tickLost(ctx, l, w, wake)
	c.tickRaise(ctx, l, w, wake)
	c.tickSettle(ctx, l, w, wake)
}

// nextAlive is when the keep-alive after this one is due: a little after the tick and each third of a minute from there,
// so that one lost answer loses no minute; once a minute for what is not up; at once again where something is about to
// change, for the user's sake.
func nextAlive(ctx *step.Context, l *Lease, w *watch) member.Time {
	slot, lead := ctx.Clock.Slot, ctx.Clock.Slot/60
	every := slot / 3
	if idle(l.State) || !l.Close.IsZero() {
		every = slot
	}
	into := ctx.Now%slot - lead
	next := ctx.Now - into + every
	if into < 0 {
		next = ctx.Now - into
	} else {
		next += into / every * every
	}
	if !w.lost && (changing(l.State) || ctx.Now < w.hasty) {
		next = min(next, ctx.Now+hurry)
	}
	return next
}

// changing reports whether a pod in this state is on its way to another.
func changing(s market.State) bool {
	return s == market.StateCertified || s == market.StateSetup || s == market.StateStopping
}

// hastyFor is how long a lease is looked at often after its user had a reason to: an engine tells its host of an end
// within a moment of the end of the output.
const hastyFor = 3 * hurry

// glance has the host asked now.
func (c *Consumer) glance(ctx *step.Context, lease wire.ID) {
	if l := c.leases.Get(lease); l != nil && !l.Done && !idle(l.State) {
		w := c.watch(lease)
		w.alive, w.hasty = min(w.alive, ctx.Now), ctx.Now+hastyFor
	}
}

// idle reports whether the pod of a lease in this state is not up and will not be by itself in a moment.
func idle(s market.State) bool {
	switch s {
	case market.StateStopped, market.StateOutbid, market.StateExited, market.StateFailed, market.StateHold, market.StateEnded:
		return true
	}
	return false
}

// keepAlive asks the host how the pod is, shows in which minutes it was answered, and repeats what the host has not
// confirmed.
func (c *Consumer) keepAlive(ctx *step.Context, l *Lease, w *watch) {
	if l.GivenSeq < l.SignedSeq && !w.voucher {
		c.sendVoucher(ctx, l)
	}
	if l.Final {
		return
	}
	id := ctx.ID()
	nonce := uint64(0)
	for _, b := range id[:8] {
		nonce = nonce<<8 | uint64(b)
	}
	a := market.Alive{By: ctx.Self, Host: l.Host, Lease: l.ID, Nonce: nonce, Top: l.Seen.Top, Answered: l.Seen.Bits}
	lease, asked := l.ID, asking{nonce, ctx.Now, l.Place.Next}
	q := toHost(l.Host, step.OpAlive, step.AliveBody{UsageSeq: l.Place.Seq, Minute: l.Place.Next}, wire.Draft(a)).within(max(ctx.Clock.Slot/3, hurry))
	c.ask(ctx, q, func(ctx *step.Context, r step.Response) { c.alive(ctx, lease, asked, r) })
}

// An asking is a keep-alive that is out.
type asking struct {
	nonce uint64
	sent  member.Time
	from  member.Minute // first that no entry known covered
}

// alive takes the host's answer to a keep-alive.
func (c *Consumer) alive(ctx *step.Context, lease wire.ID, asked asking, r step.Response) {
	sent := asked.sent
	l := c.leases.Get(lease)
	if l == nil || l.Done || r.Err != nil {
		return
	}
	v, ok := step.Find[market.AliveReply](r.Objects)
	body, err := step.Body[step.AliveAnswer](r.Body)
	rep := v.Value()
	if !ok || err != nil || rep.Host != l.Host || rep.Lease != lease || rep.Nonce != asked.nonce {
		return
	}
	w := c.watch(lease)
	c.heard(ctx, l, w)
	if p := l.Pending; p != nil && body.Command >= p.Seq && p.Order == market.CommandStart {
		l.Zero = p.Zero // what this answer tells of may be that very start
	}
	l.hearEnd(ctx, rep, sent)
	if !l.attends() {
		c.takeVoucher(ctx, l, r.Objects)
	}
	// Entries first: they close minutes before this one, and the maps may be about to forget those.
	before := l.Place.Seq
	later := c.followAll(ctx, l, shown(r.Objects, asked.from))
	if l.Pending != nil && body.Command >= l.Pending.Seq {
		c.carriedOut(ctx, l, w, l.Pending.Seq)
	}
	if p := l.Pending; p == nil || p.Order == market.CommandStart || p.Order == market.CommandRevoke || sent < p.At {
		c.attend(ctx, l, rep, sent) // whoever answers, and does not take the order to stop, is not paid for what goes on
	}
	for _, n := range step.FindAll[market.Notice](r.Objects) {
		if n.By() == l.Host && n.Value().Lease == lease && n.Value().Reason == market.ReasonOutbid {
			l.Winner = ledger.Rate(min(n.Value().Rate, 1<<62))
		}
	}
	if sent >= w.applied {
		w.applied = sent
		c.become(ctx, l, w, rep, body)
		if changing(l.State) {
			w.alive = min(w.alive, ctx.Now+hurry)
		}
	}
	c.checkHead(ctx, l, rep)
	w.caught = w.caught || rep.UsageSeq <= l.Place.Seq
	if !later || l.Place.Seq > before {
		c.fetchUsage(ctx, l, w, rep.UsageSeq)
	}
}

func (c *Consumer) heard(ctx *step.Context, l *Lease, w *watch) {
	l.Heard = ctx.Now
	c.leases.Touch(l.ID)
	if w.lost {
		w.lost = false
		ctx.Notify("lease.reachable", l.ID, c.nameOf(l)+": the host answers again")
	}
}

// attend notes the minute that an answer proves. An answer whose minute is not of the time between question and answer,
// within the clocks' skew, proves none.
func (c *Consumer) attend(ctx *step.Context, l *Lease, rep market.AliveReply, sent member.Time) {
	if rep.Minute < ctx.Clock.Minute(sent-skew(ctx)) || rep.Minute > ctx.Clock.Minute(ctx.Now+skew(ctx)) {
		return
	}
	l.Seen = l.Seen.With(rep.Minute)
	if rep.State != market.StateRunning || rep.Start.IsZero() {
		return
	}
	r := l.begun(ctx, rep.Start, sent)
	r.Minutes = r.Minutes.With(rep.Minute)
}

// ran is what was heard of a container start; nil: nothing.
func (l *Lease) ran(start identity.Hash) *ran {
	for i := range l.Ran {
		if l.Ran[i].Start == start {
			return &l.Ran[i]
		}
	}
	return nil
}

// before reports whether start a is known to have been before start b: an answer told of a before a question was asked that was
// answered with b. Answers may overtake one another, so that the order in which they come says less.
func (l *Lease) before(a, b identity.Hash) bool {
	x, y := l.ran(a), l.ran(b)
	return x != nil && y != nil && a != b && x.Heard < y.Asked
}

// begun is ran, and makes a start that was not heard of before. It counts as ordered while there is an order that no start
// was heard of for: hosts can bill no more minimums than this node has given orders.
// The answer that tells of it has come now; its question left at sent.
func (l *Lease) begun(ctx *step.Context, start identity.Hash, sent member.Time) *ran {
	if r := l.ran(start); r != nil {
		r.Asked = max(r.Asked, sent)
		return r
	}
	l.Ran = append(l.Ran, ran{Start: start, Zero: l.Zero, Ordered: l.Orders > 0, Heard: ctx.Now, Asked: sent})
	l.Orders -= min(l.Orders, 1)
	if n := len(l.Ran); n > keepRuns {
		l.Ran = append([]ran(nil), l.Ran[n-keepRuns:]...)
	}
	return &l.Ran[len(l.Ran)-1]
}

// hearEnd notes the end of a start that an answer tells of, be it the first that this node hears of that start.
func (l *Lease) hearEnd(ctx *step.Context, rep market.AliveReply, sent member.Time) {
	switch rep.State {
	case market.StateStopping, market.StateStopped, market.StateExited, market.StateOutbid, market.StateHold, market.StateEnded:
		if !rep.Start.IsZero() {
			l.begun(ctx, rep.Start, sent).ended(min(rep.Minute, ctx.Clock.Minute(ctx.Now+skew(ctx))), rep.Reason)
		}
	}
}

// ended notes a start's end. What is told first stands.
func (r *ran) ended(by member.Minute, why market.Reason) {
	if r.Gone == 0 {
		r.Gone, r.End = by, why
	}
}

// become takes over the state that the host tells, and tells the user of a change.
func (c *Consumer) become(ctx *step.Context, l *Lease, w *watch, rep market.AliveReply, body step.AliveAnswer) {
	w.pulled, w.pullSize = max(body.Pulled, 0), max(body.PullSize, 0)
	if len(body.Detail) <= 512 {
		l.Detail = strings.Map(printable, body.Detail)
	}
	if !rep.Start.IsZero() && rep.Start != l.Start {
		l.Start = rep.Start
		l.Starts++
	}
	if rep.State == market.StateSetup && body.PullSize > 0 && !w.pulling {
		w.pulling = true
		ctx.Notify("lease.pulling", l.ID, c.nameOf(l)+": pulling the image", "bytes", fmt.Sprint(body.PullSize))
	}
	if rep.State == l.State && rep.Reason == l.Reason || rep.State < market.StateCertified || rep.State > market.StateEnded {
		return
	}
	l.State, l.Reason, l.ExitCode, l.Since = rep.State, rep.Reason, rep.ExitCode, ctx.Now
	if rep.State != market.StateSetup {
		w.pulling = false
	}
	c.tell(ctx, l)
}

// printable makes a space of what could play tricks on a terminal.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}

// tell says to the user what the lease has become.
func (c *Consumer) tell(ctx *step.Context, l *Lease) {
	name, why := c.nameOf(l), ""
	if l.Reason != market.ReasonNone {
		why = " (" + l.Reason.String() + ")"
	}
	fields := []string{"reason", l.Reason.String()}
	text := name + ": " + l.State.String() + why
	switch l.State {
	case market.StateCertified:
		return
	case market.StateRunning:
		l.Winner = 0
	case market.StateExited:
		text = fmt.Sprintf("%s: the program ended with code %d", name, l.ExitCode)
		fields = append(fields, "code", fmt.Sprint(l.ExitCode))
	case market.StateFailed:
		text = name + ": could not start" + why + ": " + l.Detail
		fields = append(fields, "detail", l.Detail)
	case market.StateOutbid:
		text = name + ": outbid; its volume is kept"
		if l.Winner > 0 {
			text = fmt.Sprintf("%s: outbid at %s per GPU-hour; its volume is kept", name, l.Winner.Text())
			fields = append(fields, "rate", l.Winner.Text())
		}
	}
	ctx.Notify("lease."+l.State.String(), l.ID, text, fields...)
}

// silence is how long a host may be silent before it counts as away: two minutes without an answer to any of three
// keep-alives each, or to two of one a minute.
func silence(ctx *step.Context, l *Lease) member.Time {
	if idle(l.State) {
		return span(ctx, 3)
	}
	return span(ctx, 2)
}

// tickLost tells the user of a host that is away.
func (c *Consumer) tickLost(ctx *step.Context, l *Lease, w *watch, wake *alarm) {
	if w.lost || l.Final || l.State == market.StateEnded {
		return
	}
	if at := max(l.Heard, w.born) + silence(ctx, l); ctx.Now < at {
		wake.at(at)
		return
	}
	w.lost = true
	ctx.Notify("lease.unreachable", l.ID, fmt.Sprintf("%s: %s does not answer; minutes that are not answered cost nothing", c.nameOf(l), c.hostName(l.Host)))
}

// nameOf is what the user calls a lease.
func (c *Consumer) nameOf(l *Lease) string { return c.orders.Get(l.Bid).Name }
