package consumer

import (
	"errors"
	"fmt"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// An Objection is why this node signs nothing more for a lease.
type Objection struct {
	Code  Code          `cbor:"1,keyasint" json:"code"`
	Text  string        `cbor:"2,keyasint" json:"text"`
	At    member.Time   `cbor:"3,keyasint" json:"at"`
	Seq   uint64        `cbor:"4,keyasint" json:"entry"` // sequence of the entry; 0: of none
	Owed  ledger.Amount `cbor:"5,keyasint" json:"owed"`  // as the entry has it
	Entry wire.Object   `cbor:"6,keyasint" json:"-"`

	ordered bool // it rests on what was ordered: an attendant may hear of that late
}

// A Code says in a word what is wrong with a usage entry.
type Code string

// The codes.
const (
	CodeChain      Code = "chain"      // it does not follow the entry before
	CodeArithmetic Code = "arithmetic" // its numerator is not what its minutes cost
	CodeStatus     Code = "status"     // it bills minutes that are free
	CodeTerms      Code = "terms"      // it is under other terms, or names other GPUs than they have
	CodeUnattended Code = "unattended" // it bills a minute in which this node was not answered so
	CodeMandate    Code = "mandate"    // it rests on receipts that do not prove it, or on no mandate of this node's
	CodeStopped    Code = "stopped"    // it bills a minute after the host had the order to stop
	CodeBudget     Code = "budget"     // it passes the lease's budget
	CodeHalt       Code = "halt"       // whose lease it is pays no more
)

func object(code Code, format string, args ...any) *Objection {
	return &Objection{Code: code, Text: fmt.Sprintf(format, args...)}
}

// asOrdered marks an objection that rests on what the pod's owner has ordered.
func (o *Objection) asOrdered() *Objection { o.ordered = true; return o }

// evidence is what a host's answer shows of a lease: entries of its chain, and the receipts that they rest on, for the minutes
// before end.
type evidence struct {
	entries  []wire.Verified[ledger.Usage]
	receipts []wire.Verified[reliability.Receipt]
	end      member.Minute
}

// shown is the evidence in an answer to a question that named a minute.
func shown(objects []wire.AnyVerified, from member.Minute) evidence {
	return evidence{step.FindAll[ledger.Usage](objects), step.FindAll[reliability.Receipt](objects), from + step.ReceiptsReach}
}

// followAll takes usage entries in order, and signs for what they come to. It reports whether it left one alone that cannot
// be judged yet: the next keep-alive asks for it again.
func (c *Consumer) followAll(ctx *step.Context, l *Lease, e evidence) (later bool) {
	w := c.watch(l.ID)
	for _, u := range e.entries {
		if l.Refused != nil || l.Final {
			break
		}
		if u.Value().Seq <= l.Place.Seq {
			continue // seen before
		}
		c.leases.Touch(l.ID)
		var why *Objection
		if why, later = c.follow(ctx, l, u, e); later {
			break
		}
		w.lacking = 0
		if why != nil {
			c.refuse(ctx, l, why, u)
			break
		}
	}
	c.vouch(ctx, l)
	return later
}

// follow checks one entry and takes it, if it need not be looked at later.
func (c *Consumer) follow(ctx *step.Context, l *Lease, v wire.Verified[ledger.Usage], e evidence) (why *Objection, later bool) {
	u, t := v.Value(), c.termsOf(l)
	if u.Host != l.Host || u.Lease != l.ID || u.Terms != l.Terms {
		return object(CodeTerms, "entry %d is under other terms", u.Seq), false
	}
	next, err := l.Place.Follow(u, v.Ref(), t.Tariff, ctx.Clock.Seconds())
	switch {
	case errors.Is(err, ledger.ErrChain):
		return object(CodeChain, "%v", err), false
	case errors.Is(err, ledger.ErrStatusBill), errors.Is(err, ledger.ErrStart):
		return object(CodeStatus, "%v", err), false
	case err != nil:
		return object(CodeArithmetic, "%v", err), false
	}
	if why := shaped(u, t); why != nil {
		return why, false
	}
	if u.Last() >= ctx.Clock.Minute(ctx.Now+skew(ctx)) {
		return nil, true // its minute has not ended: one of the clocks is off, and may be this node's
	}
	switch {
	case u.Seq <= l.SignedSeq: // who signed has judged it
		why = c.signedFor(l, u, v.Ref())
	case u.Billable != 0 && (u.Basis == ledger.BasisMandate || u.Basis == ledger.BasisStorage):
		why, later = c.witnessed(ctx, l, u, next.Meter.Owed(), e)
	case l.attends():
		why, later = l.attended(u, ctx.Clock.Minute(ctx.Now-skew(ctx)))
	default:
		why = l.heeded(u)
	}
	if why != nil && why.ordered && !l.own() {
		return nil, true // unpaid until its owner has told what it ordered
	}
	if later || why != nil {
		return why, later
	}
	ctx.Put(table.Key(table.ConsumerUsage, l.ID[:], table.Uint64(u.Seq)), v.Object())
	l.take(v, next)
	if u.Final {
		l.Final = true
		if l.State != market.StateEnded {
			l.State, l.Since = market.StateEnded, ctx.Now
			c.tell(ctx, l)
		}
	}
	return nil, false
}

// take adds up an entry that was checked.
func (l *Lease) take(v wire.Verified[ledger.Usage], next ledger.Place) {
	u := v.Value()
	l.Place = next
	if owed := next.Meter.Owed(); owed > l.Bill.Total {
		l.Bill = bill{u.Seq, v.Ref(), u.Last(), owed, v.Object()}
	}
	if u.Status == ledger.StatusStopped {
		l.Stored += uint64(u.Minutes())
		return
	}
	l.Minutes += uint64(u.Minutes())
}

// shaped checks what an entry that bills something is, whatever this node has heard.
func shaped(u ledger.Usage, t market.Terms) *Objection {
	gpus := 0
	if u.Status == ledger.StatusRunning {
		gpus = int(t.GPUs)
	}
	switch {
	case u.Billable == 0:
		return nil
	case u.Status == ledger.StatusStopped:
		return nil
	case len(u.GPUs) != gpus:
		return object(CodeTerms, "entry %d, %v, names %d GPUs, not %d", u.Seq, u.Status, len(u.GPUs), gpus)
	}
	return nil
}

// attended compares the minutes that an entry bills with what this node itself has seen. now is the minute that it is by
// the slowest clock.
func (l *Lease) attended(u ledger.Usage, now member.Minute) (why *Objection, later bool) {
	switch {
	case u.Billable == 0:
	case u.Status == ledger.StatusMinimum:
		return l.minimum(u, now)
	case u.Status == ledger.StatusStopped:
		return l.stored(u), false
	default:
		return l.running(u, u.First), false
	}
	return nil, false
}

// running checks a minute in which a pod was up, with or without GPUs.
func (l *Lease) running(u ledger.Usage, m member.Minute) *Objection {
	r := l.ran(u.Start)
	switch {
	case r == nil || !r.Minutes.Has(m):
		return object(CodeUnattended, "entry %d bills minute %d, in which the host did not tell this node that the pod was running", u.Seq, m)
	case l.otherGPUs(r, u):
		return object(CodeTerms, "entry %d is with another number of GPUs than the pod was started with", u.Seq).asOrdered()
	case l.before(u.Start, l.Place.Billed.Start):
		return object(CodeStatus, "entry %d bills a start from before the last that was billed", u.Seq)
	}
	return l.heeded(u)
}

// heeded checks a running minute against the order to stop.
func (l *Lease) heeded(u ledger.Usage) *Objection {
	running := u.Billable != 0 && (u.Status == ledger.StatusRunning || u.Status == ledger.StatusZero)
	if running && l.StopMinute > 0 && u.First > l.StopMinute {
		return object(CodeStopped, "entry %d bills minute %d; the host had the order to stop by minute %d", u.Seq, u.First, l.StopMinute).asOrdered()
	}
	return nil
}

// otherGPUs reports whether a running minute is not with the GPUs that its start was ordered with. An attendant may have heard of
// the order after the start.
func (l *Lease) otherGPUs(r *ran, u ledger.Usage) bool {
	zero := u.Status == ledger.StatusZero
	return r.Zero != zero && (l.own() || l.Zero != zero)
}

// minimum checks the one minute that a start owes which this node ordered, and which its command, the lease's limits or the
// program itself ended without a running minute. It belongs to the minute of that end. The answer that tells of the end
// may be on its way, and the one that told of the start may be lost.
func (l *Lease) minimum(u ledger.Usage, now member.Minute) (why *Objection, later bool) {
	r := l.ran(u.Start)
	switch {
	case (r == nil || r.Gone == 0) && now <= u.First+1:
		return nil, true
	case r == nil:
		why = object(CodeUnattended, "entry %d bills a start of which this node never heard", u.Seq)
	case r.Zero:
		why = object(CodeTerms, "entry %d bills GPUs for a start without any", u.Seq)
	case !r.Ordered && (l.own() || l.Orders == 0):
		why = object(CodeStatus, "entry %d bills the minimum of a start that its owner did not order", u.Seq).asOrdered()
	case l.before(u.Start, l.Place.Billed.Start):
		why = object(CodeStatus, "entry %d bills the minimum of a start from before the last that was billed", u.Seq)
	case !owing(r.End):
		why = object(CodeStatus, "entry %d bills the minimum of a start that nothing ended which makes one due (%v)", u.Seq, r.End)
		why.ordered = r.Gone == 0
	case u.First > r.Gone || r.Minutes.Bits != 0 && u.First < r.Minutes.Top:
		why = object(CodeStatus, "entry %d bills a minimum in minute %d, in which that start did not end", u.Seq, u.First)
	case !r.Ordered: // its order was heard of after it
		r.Ordered = true
		l.Orders--
	}
	return why, false
}

// owing reports whether a start that ended for this reason may owe its minimum.
func owing(why market.Reason) bool {
	switch why {
	case market.ReasonConsumer, market.ReasonExit, market.ReasonBudget, market.ReasonDuration:
		return true
	}
	return false
}

// stored checks minutes of storage.
func (l *Lease) stored(u ledger.Usage) *Objection {
	for i := range member.Minute(u.Count) {
		if u.Billable>>i&1 == 1 && !l.Seen.Has(u.First+i) {
			return object(CodeUnattended, "entry %d bills storage of minute %d; this node was not answered then", u.Seq, u.First+i)
		}
	}
	return nil
}

// refuse signs nothing more. The host will stop the pod.
func (c *Consumer) refuse(ctx *step.Context, l *Lease, why *Objection, u wire.Verified[ledger.Usage]) {
	why.At, why.Seq, why.Owed, why.Entry = ctx.Now, u.Value().Seq, u.Value().Owed(), u.Object()
	l.Refused = why
	c.leases.Touch(l.ID)
	ctx.Notify("lease.refused", l.ID, fmt.Sprintf("%s: not paying on: %s", c.nameOf(l), why.Text),
		"code", string(why.Code), "entry", fmt.Sprint(why.Seq))
}

// checkHead compares heads: the host's signature under another head at a place that this node knows is a fork.
func (c *Consumer) checkHead(ctx *step.Context, l *Lease, rep market.AliveReply) {
	if rep.UsageSeq != l.Place.Seq || l.Place.Seq == 0 || rep.UsageHead == l.Place.Head || l.Refused != nil {
		return
	}
	l.Refused = object(CodeChain, "the host tells of another entry %d than it gave this node", rep.UsageSeq)
	l.Refused.At, l.Refused.Seq = ctx.Now, rep.UsageSeq
	c.leases.Touch(l.ID)
	ctx.Notify("lease.refused", l.ID, fmt.Sprintf("%s: not paying on: %s", c.nameOf(l), l.Refused.Text), "code", string(CodeChain))
}

// fetchUsage asks for the entries that did not fit into an answer.
func (c *Consumer) fetchUsage(ctx *step.Context, l *Lease, w *watch, seq uint64) {
	if w.usage || l.Refused != nil || l.Final || seq <= l.Place.Seq {
		return
	}
	w.usage = true
	lease, from := l.ID, l.Place.Next
	q := toHost(l.Host, step.OpUsage, step.UsageBody{Lease: lease, From: l.Place.Seq + 1, Minute: l.Place.Next})
	c.ask(ctx, q, func(ctx *step.Context, r step.Response) {
		w.usage = false
		l := c.leases.Get(lease)
		if r.Err != nil || l == nil || l.Done {
			return
		}
		before := l.Place.Seq
		c.followAll(ctx, l, shown(r.Objects, from))
		if l.Place.Seq > before {
			c.fetchUsage(ctx, l, w, seq)
		}
	})
}

// vouch signs for what is owed, if that is more than was signed for and everything about it was checked.
func (c *Consumer) vouch(ctx *step.Context, l *Lease) {
	owed := l.Bill.Total
	if l.Refused != nil || owed <= l.Signed {
		return
	}
	if b := c.termsOf(l).Budget; b > 0 && owed > b {
		l.Refused = object(CodeBudget, "%s is owed; the lease's budget is %s", owed.Text(), b.Text())
		l.Refused.At, l.Refused.Seq, l.Refused.Owed = ctx.Now, l.Bill.Seq, owed
		c.leases.Touch(l.ID)
		ctx.Notify("lease.refused", l.ID, fmt.Sprintf("%s: not paying on: %s", c.nameOf(l), l.Refused.Text), "code", string(CodeBudget))
		return
	}
	if !l.attends() || owed > l.Cap {
		return // tickRaise asks the bank first
	}
	v := wire.Draft(ledger.Voucher{
		Reservation: l.Reservation, Lease: l.ID, By: ctx.Self, Host: l.Host, Total: owed, Minute: l.Bill.Last,
		Usage: l.Bill.Ref, Seq: l.Bill.Seq,
	})
	c.vouchers.Put(l.ID, v)
	ctx.Guard(chain("voucher", l.Reservation), l.Bill.Seq, v)
	l.Signed, l.SignedSeq, l.SignedAt, l.SignedFor = owed, l.Bill.Seq, l.Bill.Last, l.Bill.Entry
	c.leases.Touch(l.ID)
	if l.ToldSigned == 0 || ctx.Now >= l.ToldSigned+member.Hour {
		l.ToldSigned = ctx.Now
		ctx.Notify("voucher.signed", l.ID, fmt.Sprintf("%s: %s so far", c.nameOf(l), owed.Text()), "total", owed.String())
	}
	c.sendVoucher(ctx, l)
}

// sendVoucher gives the host the highest voucher. Until the host confirms it, each keep-alive repeats it.
func (c *Consumer) sendVoucher(ctx *step.Context, l *Lease) {
	v := c.vouchers.Get(l.ID)
	if v == nil {
		return
	}
	w, lease, seq := c.watch(l.ID), l.ID, l.SignedSeq
	w.voucher = true
	q := toHost(l.Host, step.OpVoucher, nil, *v).within(max(ctx.Clock.Slot/3, hurry))
	c.ask(ctx, q, func(ctx *step.Context, r step.Response) {
		w.voucher = false
		l := c.leases.Get(lease)
		if l == nil {
			return
		}
		stale := r.Err != nil && r.Err.Refusal != nil && r.Err.Refusal.Code == step.RefuseStale
		if (r.Err == nil || stale) && seq > l.GivenSeq {
			l.GivenSeq = seq
			c.leases.Touch(lease)
			if l.Pending != nil && !w.order.busy {
				w.order.next = min(w.order.next, ctx.Now)
			}
		} else if r.Err != nil && !no(r.Err) && !w.lost {
			w.alive = min(w.alive, ctx.Now+hurry)
		}
	})
}
