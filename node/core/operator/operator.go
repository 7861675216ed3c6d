// Package operator is what a node does as an operator of its market: it decides who belongs, and it is the bank.
//
// Vetting. An invite is a bearer code of which only a hash is kept. Whoever shows the code may look at the charter and
// the policy; with a signed JoinRequest it becomes an applicant, and the invite is used up by its key. A consumer is
// approved at once; a host waits in the queue until the operator approves or rejects it. An approved applicant has a
// credential, which it renews by asking, and which this operator can replace (another tier) or sanction. Asking again, at
// any point, tells where one stands and changes nothing.
//
// Bank. Members ask for reservations, show vouchers, end leases and read their accounts; the operator's user enters
// deposits. All arithmetic is ledger.Bank's. This package checks who may ask for what, keeps the bank's rows, and guards
// the place of everything that the bank will sign. Once a minute it raises reservations that run low, but for those that a host
// has lowered, and releases those whose time has come; accounts that run short of funds get their notice, and those that stay
// so lose what they have stopped. An order that a consumer cannot give its host is lodged here and passed on; minutes that
// witnesses have seen and that a mandate covers are paid without a voucher, but none after such an order.
//
// What is signed here, and its place in its chain: credentials by subject and serial, revocations by number, policies by
// number, reservations by id and sequence, bank entries by sequence, deposits by their reference, settle receipts by
// reservation and count, payouts by id and state, transfers by id, funds notices by account and sequence, forfeits by
// reservation, checkpoints by number, lodged orders by lease and sequence.
//
// Audit. Every bank entry goes into a transparency log (ledger/audit). Once an hour, and when a member asks, the operator
// draws and gossips a checkpoint; it proves to any member that one extends another, and to each the entries of its own
// account and its place in the sum of all.
//
// Promises: O1 an invite makes at most one key a member. O2 the secret of an invite is nowhere in the rows. O3 a
// repeated request has the answer of the first and moves no money. O4 the rows hold the bank as it is after every step. O5 checkpoints
// are numbered without gap, and each extends the one before.
package operator

import (
	"errors"
	"fmt"
	"slices"

	"souk/ledger"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A World is what the operator asks of the rest of its node's core, and tells it.
type World interface {
	// Charter is the market's charter; zero before the node belongs to a market.
	Charter() (member.Charter, wire.Object)
	// Policy is the policy in force.
	Policy() (member.Policy, wire.Object)
	// Credential is the newest credential known of a.
	Credential(a identity.Address) (member.Credential, wire.Object, bool)
	// Sanctioned is the sanction that stands against a.
	Sanctioned(a identity.Address) (member.Revocation, bool)
	// Standing is nil for a member in good standing.
	Standing(a identity.Address, now member.Time) error
	// Members are all addresses with a credential, in order.
	Members() []identity.Address
	// Enact makes a credential, revocation or policy that this operator drafted part of the node's own view, keeps it
	// and gossips it. Its place in its chain is guarded by the caller.
	Enact(ctx *step.Context, msg wire.Message)
	// LastRevocation is the number and ref of this operator's own last revocation; 0 before the first.
	LastRevocation() (number uint64, ref identity.Hash)
}

// An Operator is the operator's part of a node's core. It is there in every node, and refuses where the node is none.
type Operator struct {
	world      World
	invites    *step.Map[identity.Hash, invite] // by the hash of the secret
	applicants *step.Map[identity.Address, applicant]
	books      books
	lodged     *step.Map[wire.ID, lodged] // orders for hosts that do not answer, by lease
	bank       *ledger.Bank               // nil until the node is known to be an operator
	minute     member.Minute              // in which the bank was last ticked
	due        []identity.Address         // accounts with reservations that this minute has yet to look at
	hour       member.Minute              // in which transfers are counted
	given      map[identity.Address]int
	heard      map[wire.ID]member.Time // when the host of a reservation is told again that it is forfeit
	audit      auditor
	awaiting   map[uint64]func(*step.Context, step.Response)
}

// New is an operator without rows.
func New(w World) *Operator {
	return &Operator{
		world:      w,
		invites:    step.ByHash[invite](table.Invite),
		applicants: step.ByAddress[applicant](table.Applicant),
		books:      newBooks(),
		lodged:     step.ByID[lodged](table.Lodged),
		awaiting:   map[uint64]func(*step.Context, step.Response){},
		given:      map[identity.Address]int{},
		heard:      map[wire.ID]member.Time{},
		audit:      newAuditor(),
	}
}

// Keepers is the durable state.
func (o *Operator) Keepers() []step.Keeper {
	return append(append([]step.Keeper{o.invites, o.applicants, o.lodged}, o.books.keepers()...), o.audit.keepers()...)
}

// Restore rebuilds the bank from the rows, once they are loaded and the World knows its charter. It fails when they do
// not add up.
func (o *Operator) Restore(self identity.Address) error {
	c, _ := o.world.Charter()
	if o.bank != nil || !c.Operates(self) {
		return nil
	}
	b := ledger.NewBank(self, c)
	if err := b.Restore(o.books.snapshot()); err != nil {
		return fmt.Errorf("operator: %w", err)
	}
	if err := o.audit.restore(b.Head()); err != nil {
		return fmt.Errorf("operator: %w", err)
	}
	o.bank = b
	return nil
}

// operates reports whether this node is an operator of its market, and has the bank ready if so.
func (o *Operator) operates(ctx *step.Context) bool {
	if err := o.Restore(ctx.Self); err != nil {
		panic(err.Error())
	}
	return o.bank != nil
}

// Audit recomputes what the bank and its rows should be and compares.
func (o *Operator) Audit() error {
	if o.bank == nil {
		return nil
	}
	if err := o.bank.Audit(); err != nil {
		return err
	}
	if have, want := o.books.snapshot(), o.bank.Snapshot(); !same(have, want) {
		return errors.New("operator: the rows are not the bank")
	}
	return o.audit.compare(o.bank)
}

func same(a, b ledger.Snapshot) bool {
	return a.Head == b.Head && slices.Equal(a.Accounts, b.Accounts) && slices.Equal(a.Holds, b.Holds) && slices.Equal(a.Deposits, b.Deposits) &&
		slices.Equal(a.Payouts, b.Payouts) && slices.Equal(a.Transfers, b.Transfers) && slices.Equal(a.Shortages, b.Shortages) &&
		slices.Equal(a.Spendings, b.Spendings)
}

// Boot begins a run: the market learns where this operator can be reached now.
func (o *Operator) Boot(ctx *step.Context) {
	if o.operates(ctx) {
		o.announce(ctx, ctx.Boot.Addrs)
		o.renewOwn(ctx)
	}
}

// Tick renews this operator's own credential and, once a minute, lets the bank do what is due. It returns when it wants
// to be ticked again; 0: never.
func (o *Operator) Tick(ctx *step.Context) member.Time {
	if !o.operates(ctx) {
		return 0
	}
	return min(o.renewOwn(ctx), o.tickBank(ctx), o.tickAudit(ctx))
}

// A Command is what this node's user tells its operator: a type of this package. Each says what it is answered with.
type Command interface {
	run(o *Operator, ctx *step.Context) (any, error)
}

// Local carries out a Command and answers it. It reports false for anything else.
func (o *Operator) Local(ctx *step.Context, id uint64, cmd any) bool {
	c, ok := cmd.(Command)
	if !ok {
		return false
	}
	if !o.operates(ctx) {
		ctx.Answer(id, nil, step.Fail(step.ProblemTrust, "ask the operator that invited you", "this node is no operator of a market"))
		return true
	}
	v, err := c.run(o, ctx)
	if err != nil {
		v = nil
	}
	ctx.Answer(id, v, err)
	return true
}

// Response takes the answer to a Send of the operator's.
func (o *Operator) Response(ctx *step.Context, r step.Response) bool {
	f, ok := o.awaiting[r.ID]
	if ok {
		delete(o.awaiting, r.ID)
		f(ctx, r)
	}
	return ok
}

// Request answers a peer on the join and the bank protocol. It reports false for other protocols.
func (o *Operator) Request(ctx *step.Context, r step.Request) bool {
	switch {
	case r.Proto != step.ProtoJoin && r.Proto != step.ProtoBank:
		return false
	case !o.operates(ctx):
		ctx.Refuse(r.ID, step.Refuse(step.RefuseNotForYou, "%v is no operator of a market", ctx.Self))
	case r.Op == step.OpRenew:
		o.renew(ctx, r)
	case r.Proto == step.ProtoJoin && r.Op == step.OpJoin:
		o.join(ctx, r)
	case r.Proto == step.ProtoBank:
		o.serveBank(ctx, r)
	default:
		ctx.Refuse(r.ID, step.Refuse(step.RefuseBadRequest, "no such request"))
	}
	return true
}

// enact claims the message's place in its chain and makes it known.
func (o *Operator) enact(ctx *step.Context, chain []byte, place uint64, msg wire.Message) {
	ctx.Guard(chain, place, wire.Draft(msg))
	o.world.Enact(ctx, msg)
}

// chain names a chain of what this operator signs.
func chain(name string, of []byte) []byte { return append([]byte(name+"/"), of...) }
