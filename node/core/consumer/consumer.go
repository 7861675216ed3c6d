// Package consumer is the buyer's half of a node's core: it finds an offer, agrees on a lease, watches over the pod, and
// signs for what it has checked.
//
// A Run becomes an order. The order asks one host for a lease, checks the quote against what the user agreed to, has the
// bank set money aside, and accepts; a host that cannot serve is followed by the next best one, a quote that is worse than
// agreed ends the order. With the host's certificate there is a lease. While it lasts the consumer sends a keep-alive three
// times a minute, remembers durably in which minutes it was answered and what the answers said, follows the host's usage
// entries one by one, and signs a voucher for what they add up to. A mandate pays minutes that witnesses saw while this node was away. Stop, Start and Remove are numbered commands that are
// kept until the host has them. After the last entry the bank's receipt closes the lease.
//
// A lease may have an attendant: another node that sends its keep-alives and signs its vouchers. Its principal, which bought it,
// still orders and follows the chain, and signs no voucher; the attendant does the rest, and orders nothing (attend.go).
//
// Promises: C1 what an answer or a signature rests on is durable before it leaves. C2 no voucher is signed for a minute
// that this node has not seen answered, save one minimum for each start that it ordered and what witnesses prove under its own
// mandate, nor after an entry that does not
// follow from the terms. C3 no place of a chain is
// signed twice. C4 whatever moment the node ends at, the next run finishes what was begun or gives it up in so many words.
package consumer

import (
	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// World is what the consumer asks of the rest of the core.
type World interface {
	// Listings are the live offers of hosts in good standing, one for each group of GPUs.
	Listings(now member.Time) []market.Listing
	// Match finds what fits a want, best first, or says why there is nothing.
	Match(w market.Want, now member.Time) ([]market.Candidate, *market.Miss)
	// CheckQuery refuses a query that nobody can ever meet.
	CheckQuery(q market.Query) error
	// Offer is the newest offer of a host.
	Offer(host identity.Address) (market.Offer, bool)
	// Credential is the newest credential of a member.
	Credential(a identity.Address) (member.Credential, wire.Object, bool)
	// Standing is nil for a member in good standing.
	Standing(a identity.Address, now member.Time) error
	// Find is the member that a reference names: an address, the unique beginning of one, or an alias.
	Find(ref string) (identity.Address, *step.Problem)
	// Bank is the operator that keeps this node's account; zero when there is none.
	Bank() identity.Address
}

// How long things may take.
const (
	attempts  = 3                  // hosts that an order asks
	shortly   = 10 * member.Second // a user waits this long for a command to reach the host
	patience  = 60 * member.Second // a user waits this long for an acceptance to be confirmed
	hurry     = 2 * member.Second  // between keep-alives while something is about to change
	goneAfter = 10                 // minutes after which a silent host counts as gone
	payTries  = 4                  // times that a start is repeated because the host wants to be paid first
	keepFails = member.Day         // a failed order is remembered this long
	keepRuns  = 8                  // container starts whose answered minutes are kept
)

// A Consumer is the state of the role. The core's goroutine owns it.
type Consumer struct {
	w        World
	orders   *step.Map[wire.ID, Order]       // by bid
	leases   *step.Map[wire.ID, Lease]       // by lease
	vouchers *step.Map[wire.ID, wire.Object] // by lease: the highest, a draft
	payments *step.Map[wire.ID, payment]
	limits   *step.Cell[uint64]        // sequence of the last limit
	trusts   *step.Map[wire.ID, trust] // by lease: what may be billed without this node

	// What follows is of this run only.
	awaiting map[uint64]func(*step.Context, step.Response)
	flights  map[wire.ID]*flight // by bid
	watches  map[wire.ID]*watch  // by lease
	loose    map[wire.ID]*retry  // by lease: giving it up
	terms    map[wire.ID]market.Terms
	pays     map[wire.ID]*retry // by payment
	records  map[wire.ID]*retry // by lease: whether its volume is removed
	warned   uint64             // the last funds notice that the user was told of
	stirred  bool               // something happened since the last Tick
	wake     member.Time        // what the last Tick returned
}

// A flight is what this run knows of an order under way.
type flight struct {
	retry
	asked   member.Time // when the host was last asked for its quote
	waiters []uint64    // local commands that wait for the lease
}

// A retry spaces out attempts.
type retry struct {
	busy bool // one is out
	n    uint
	next member.Time
}

// failed says that an attempt came to nothing, and when the next one is due.
func (r *retry) failed(now, least, most member.Time) {
	r.busy = false
	r.next = now + min(least<<min(r.n, 16), most)
	r.n++
}

// due reports whether an attempt should be made, and wakes the core when it will be.
func (r *retry) due(now member.Time, wake *alarm) bool {
	if r.busy {
		return false
	}
	if now < r.next {
		wake.at(r.next)
		return false
	}
	return true
}

// An alarm is the earliest of several instants; 0 is never.
type alarm member.Time

func (a *alarm) at(t member.Time) {
	if t > 0 && (*a == 0 || t < member.Time(*a)) {
		*a = alarm(t)
	}
}

// New is a consumer without leases.
func New(w World) *Consumer {
	return &Consumer{
		w:        w,
		orders:   step.ByID[Order](table.Order),
		leases:   step.ByID[Lease](table.ConsumerLease),
		vouchers: step.ByID[wire.Object](table.Voucher),
		awaiting: map[uint64]func(*step.Context, step.Response){},
		flights:  map[wire.ID]*flight{},
		watches:  map[wire.ID]*watch{},
		loose:    map[wire.ID]*retry{},
		terms:    map[wire.ID]market.Terms{},
		payments: step.ByID[payment](table.Payment),
		limits:   step.NewCell[uint64]("limit"),
		trusts:   step.ByID[trust](table.Mandate),
		pays:     map[wire.ID]*retry{},
		records:  map[wire.ID]*retry{},
	}
}

// Keepers is the durable state.
func (c *Consumer) Keepers() []step.Keeper {
	return []step.Keeper{c.orders, c.leases, c.vouchers, c.payments, c.limits, c.trusts}
}

// Boot resumes what was under way when the node last ended. It is called once, after the rows are loaded.
func (c *Consumer) Boot(ctx *step.Context) {
	for _, bid := range c.orders.Keys() {
		c.resume(ctx, bid, c.orders.Get(bid))
	}
	c.stirred = true
}

// Tick does what is due, and returns when it wants to be called next; 0: never. It is called in every step after the
// input was handled.
func (c *Consumer) Tick(ctx *step.Context) member.Time {
	if ctx.Clock.Slot <= 0 {
		return 0
	}
	if !c.stirred && (c.wake == 0 || ctx.Now < c.wake) {
		return c.wake
	}
	c.stirred = false
	var wake alarm
	for _, bid := range c.orders.Keys() {
		c.tickOrder(ctx, bid, &wake)
	}
	for _, id := range c.leases.Keys() {
		l := c.leases.Get(id)
		if !l.Done {
			c.tickLease(ctx, l, &wake)
		}
		c.tickRecord(ctx, l, &wake)
	}
	c.tickPayments(ctx, &wake)
	c.wake = member.Time(wake)
	return c.wake
}

// Local takes a command of this node's user. False: it is none of the consumer's.
func (c *Consumer) Local(ctx *step.Context, id uint64, cmd any) bool {
	switch m := cmd.(type) {
	case Plan:
		c.plan(ctx, id, m)
	case Price:
		if v, p := c.price(ctx, m); p != nil {
			ctx.Answer(id, nil, p)
		} else {
			ctx.Answer(id, v, nil)
		}
	case Run:
		c.run(ctx, id, m)
	case Stop:
		c.command(ctx, id, m.Lease, market.CommandStop, false)
	case Start:
		c.command(ctx, id, m.Lease, market.CommandStart, m.Zero)
	case Remove:
		c.command(ctx, id, m.Lease, market.CommandRemove, false)
	case Entrust:
		c.setTrust(ctx, id, m)
	case List:
		ctx.Answer(id, c.list(ctx, m.All), nil)
	case Show:
		c.show(ctx, id, m.Lease)
	case Glance:
		c.glance(ctx, m.Lease)
		c.show(ctx, id, m.Lease)
	case Resolve:
		c.resolve(ctx, id, m.Ref)
	case Papers:
		c.papers(ctx, id, m.Lease)
	case Balance:
		c.balance(ctx, id)
	case PayOut:
		c.payOut(ctx, id, m)
	case Give:
		c.give(ctx, id, m)
	case SetLimit:
		c.setLimit(ctx, id, m)
	case ShowLimit:
		c.showLimit(ctx, id)
	case Payments:
		c.listPayments(ctx, id)
	default:
		return false
	}
	c.stirred = true
	return true
}

// Response takes the answer to something this role has sent. False: another role has sent it.
func (c *Consumer) Response(ctx *step.Context, r step.Response) bool {
	then, ok := c.awaiting[r.ID]
	if !ok {
		return false
	}
	delete(c.awaiting, r.ID)
	then(ctx, r)
	c.stirred = true
	return true
}

// ask sends a request and keeps what is to be done with its answer.
func (c *Consumer) ask(ctx *step.Context, q question, then func(*step.Context, step.Response)) {
	id := ctx.Send(q.to, q.proto, q.op, q.body, q.objects...)
	ctx.Out.Sends[len(ctx.Out.Sends)-1].Wait = q.wait
	c.awaiting[id] = then
}

// A question is a request to a host or to the bank.
type question struct {
	to      identity.Address
	proto   step.Protocol
	op      step.Op
	body    any
	objects []wire.Object
	wait    member.Time
}

func toHost(host identity.Address, op step.Op, body any, objects ...wire.Object) question {
	return question{to: host, proto: step.ProtoLease, op: op, body: body, objects: objects}
}

func toBank(bank identity.Address, op step.Op, body any, objects ...wire.Object) question {
	return question{to: bank, proto: step.ProtoBank, op: op, body: body, objects: objects}
}

// within says how long to wait for the answer.
func (q question) within(t member.Time) question { q.wait = t; return q }

// skew is how far a peer's clock may be off.
func skew(ctx *step.Context) member.Time { return member.Time(ctx.Policy.Skew) * member.Second }

// span is n minutes of the market.
func span(ctx *step.Context, n member.Time) member.Time { return n * ctx.Clock.Slot }

// costOf is a rate over n minutes of the market, rounded up, and the most that money can be where it does not fit.
func costOf(ctx *step.Context, r ledger.Rate, n uint64) ledger.Amount {
	if n > 1<<32 {
		return 1<<63 - 1
	}
	a, err := r.Cost(int64(n) * ctx.Clock.Seconds())
	if err != nil {
		return 1<<63 - 1
	}
	return a
}
