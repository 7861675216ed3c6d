package consumer

import (
	"errors"
	"fmt"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// An Objection is why this node signs nothing more for a lease.
type Objection struct {
	Code  Code          `cbor:"1,keyasint" json:"code"`
	Text  string        `cbor:"2,keyasint" json:"text"`
	At    member.Time   `cbor:"3,keyasint" json:"at"`
	Seq   uint64        `cbor:"4,keyasint" json:"entry"` // sequence of the entry; 0: of none
	Owed  ledger.Amount `cbor:"5,keyasint" json:"owed"`  // as the entry has it
	Entry wire.Object   `cbor:"6,keyasint" json:"-"`
}

// A Code says in a word what is wrong with a usage entry.
type Code string

// The codes.
const (
	CodeChain      Code = "chain"      // it does not follow the entry before
	CodeArithmetic Code = "arithmetic" // its numerator is not what its minutes cost
	CodeStatus     Code = "status"     // it bills minutes that are free
	CodeTerms      Code = "terms"      // it is under other terms, or names other GPUs than they have
	CodeEarly      Code = "early"      // it closes a minute that has not ended
	CodeUnattended Code = "unattended" // it bills a minute in which this node was not answered so
	CodeMandate    Code = "mandate"    // it rests on a mandate that nobody gave
	CodeStopped    Code = "stopped"    // it bills a minute after the host had the order to stop
	CodeBudget     Code = "budget"     // it passes the lease's budget
)

func object(code Code, format string, args ...any) *Objection {
	return &Objection{Code: code, Text: fmt.Sprintf(format, args...)}
}

// followAll takes usage entries in order, and signs for what they come to.
func (c *Consumer) followAll(ctx *step.Context, l *Lease, entries []wire.Verified[ledger.Usage]) {
	for _, u := range entries {
		if l.Refused != nil || l.Final {
			break
		}
		if u.Value().Seq <= l.Place.Seq {
			continue // seen before
		}
		c.leases.Touch(l.ID)
		if why := c.follow(ctx, l, u); why != nil {
			c.refuse(ctx, l, why, u)
			break
		}
	}
	c.vouch(ctx, l)
}

// follow checks one entry and takes it.
func (c *Consumer) follow(ctx *step.Context, l *Lease, v wire.Verified[ledger.Usage]) *Objection {
	u, t := v.Value(), c.termsOf(l)
	if u.Host != l.Host || u.Lease != l.ID || u.Terms != l.Terms {
		return object(CodeTerms, "entry %d is under other terms", u.Seq)
	}
	next, err := l.Place.Follow(u, v.Ref(), t.Tariff, ctx.Clock.Seconds())
	switch {
	case errors.Is(err, ledger.ErrChain):
		return object(CodeChain, "%v", err)
	case errors.Is(err, ledger.ErrStatusBill):
		return object(CodeStatus, "%v", err)
	case err != nil:
		return object(CodeArithmetic, "%v", err)
	case u.Last() >= ctx.Clock.Minute(ctx.Now+skew(ctx)):
		return object(CodeEarly, "entry %d closes minute %d, which has not ended", u.Seq, u.Last())
	}
	if why := l.attended(u, t); why != nil {
		return why
	}
	ctx.Put(table.Key(table.ConsumerUsage, l.ID[:], table.Uint64(u.Seq)), v.Object())
	l.Place = next
	if owed := next.Meter.Owed(); owed > l.Bill.Total {
		l.Bill = bill{u.Seq, v.Ref(), u.Last(), owed}
	}
	if u.Status == ledger.StatusStopped {
		l.Stored += uint64(u.Minutes())
	} else {
		l.Minutes += uint64(u.Minutes())
	}
	if u.Final {
		l.Final = true
		if l.State != market.StateEnded {
			l.State, l.Since = market.StateEnded, ctx.Now
			c.tell(ctx, l)
		}
	}
	return nil
}

// attended compares the minutes that an entry bills with what this node itself has seen.
func (l *Lease) attended(u ledger.Usage, t market.Terms) *Objection {
	if u.Billable == 0 {
		return nil
	}
	switch {
	case u.Basis == ledger.BasisMandate:
		return object(CodeMandate, "entry %d rests on a mandate; none was given", u.Seq)
	case u.Status == ledger.StatusRunning && len(u.GPUs) != int(t.GPUs), u.Status == ledger.StatusZero && len(u.GPUs) != 0:
		return object(CodeTerms, "entry %d names %d GPUs; the lease has %d", u.Seq, len(u.GPUs), t.GPUs)
	case u.Status == ledger.StatusMinimum && u.Minutes() != 1:
		return object(CodeStatus, "entry %d bills %d minutes for one start", u.Seq, u.Minutes())
	}
	for i := range member.Minute(u.Count) {
		if u.Billable>>i&1 == 0 {
			continue
		}
		if why := l.attendedIn(u, u.First+i); why != nil {
			return why
		}
	}
	return nil
}

func (l *Lease) attendedIn(u ledger.Usage, m member.Minute) *Objection {
	switch u.Status {
	case ledger.StatusRunning, ledger.StatusZero:
		r, ok := l.ran(u.Start)
		if !ok || !r.Minutes.Has(m) {
			return object(CodeUnattended, "entry %d bills minute %d, in which the host did not tell this node that the pod was running", u.Seq, m)
		}
		if r.Zero != (u.Status == ledger.StatusZero) {
			return object(CodeTerms, "entry %d is with another number of GPUs than the pod was started with", u.Seq)
		}
		if l.StopMinute > 0 && m > l.StopMinute {
			return object(CodeStopped, "entry %d bills minute %d; the host had the order to stop by minute %d", u.Seq, m, l.StopMinute)
		}
	case ledger.StatusMinimum:
		if _, ok := l.ran(u.Start); !ok {
			return object(CodeUnattended, "entry %d bills a start of which this node never heard that it was running", u.Seq)
		}
	case ledger.StatusStopped:
		if u.Basis == ledger.BasisAttended && !l.Seen.Has(m) {
			return object(CodeUnattended, "entry %d bills storage of minute %d as attended; this node was not answered then", u.Seq, m)
		}
	}
	return nil
}

// ran is what was heard of a container start; false: that it was running, never.
func (l *Lease) ran(start identity.Hash) (ran, bool) {
	for _, r := range l.Ran {
		if r.Start == start {
			return r, true
		}
	}
	return ran{}, false
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
	lease := l.ID
	q := toHost(l.Host, step.OpUsage, step.UsageBody{Lease: lease, From: l.Place.Seq + 1})
	c.ask(ctx, q, func(ctx *step.Context, r step.Response) {
		w.usage = false
		l := c.leases.Get(lease)
		if r.Err != nil || l == nil || l.Done {
			return
		}
		before := l.Place.Seq
		c.followAll(ctx, l, step.FindAll[ledger.Usage](r.Objects))
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
	if owed > l.Cap {
		return // tickRaise asks the bank first
	}
	v := wire.Draft(ledger.Voucher{
		Reservation: l.Reservation, Lease: l.ID, By: ctx.Self, Host: l.Host, Total: owed, Minute: l.Bill.Last,
		Usage: l.Bill.Ref, Seq: l.Bill.Seq,
	})
	c.vouchers.Put(l.ID, v)
	ctx.Guard(chain("voucher", l.Reservation), l.Bill.Seq, v)
	l.Signed, l.SignedSeq = owed, l.Bill.Seq
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
