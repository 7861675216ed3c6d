package host

import (
	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// verdict is how a minute closes.
type verdict struct {
	status ledger.Status
	basis  ledger.Basis
	unpaid bool // nobody attended: the pod must stop
}

// attend does what a lease is due, and names the next moment at which something is.
func (h *Host) attend(ctx *step.Context, id wire.ID, l *lease, soon func(member.Time)) {
	h.closeMinutes(ctx, id, l)
	h.collect(ctx, id, l)
	if l.TermAt != 0 && ctx.Now >= l.TermAt && (l.State == market.StateRunning || l.State == market.StateSetup) {
		h.stop(ctx, id, l, market.ReasonOutbid)
	}
	if l.State == market.StateSetup && ctx.Now >= h.setupEnds(ctx, id, l) {
		l.Detail = "no progress in setting up"
		h.end(ctx, id, l, market.ReasonSetup)
	}
	if l.State == market.StateEnded && !l.Wiped && l.Unlocked != 0 && ctx.Now >= l.Unlocked {
		l.Unlocked = 0
		h.leases.Touch(id)
		h.want(ctx, id, l)
	}
	h.settle(ctx, id, l)

	soon(l.Due)
	soon(l.TermAt)
	soon(l.Unlocked)
	soon(h.retry[id])
	if l.Place.Next < ctx.Minute() {
		soon(ctx.Clock.Due(ctx.Minute()))
	}
}

func (h *Host) setupEnds(ctx *step.Context, id wire.ID, l *lease) member.Time {
	return max(l.Since, h.progress[id]) + member.Time(ctx.Policy.SetupDeadline)*ctx.Clock.Slot
}

// closeMinutes signs the usage entries of all minutes of a lease that are over and whose status is known.
func (h *Host) closeMinutes(ctx *step.Context, id wire.ID, l *lease) {
	for !l.Closing && l.Place.Next < ctx.Minute() {
		if h.unseen[id] && h.engine {
			return // inspect speaks first
		}
		m := l.Place.Next
		if h.idle(ctx, l, m) {
			if !h.closeIdle(ctx, id, l, false) {
				return
			}
			continue
		}
		v, ok := h.judge(ctx, l, m)
		if !ok {
			return
		}
		u := ledger.Usage{First: m, Count: 1, Status: v.status, Basis: v.basis, Final: h.isLast(ctx, l, m)}
		if v.basis != ledger.BasisNone {
			u.Billable = 1
		}
		h.sign(ctx, id, l, u)
		if v.unpaid {
			h.stop(ctx, id, l, market.ReasonUnpaid)
		}
	}
}

// isLast reports whether the minute is the one in which the lease ended.
func (h *Host) isLast(ctx *step.Context, l *lease, m member.Minute) bool {
	return l.State == market.StateEnded && m >= ctx.Clock.Minute(l.Since)
}

// idle reports whether no container lived in minute m and none was awaited: storage, at most.
func (h *Host) idle(ctx *step.Context, l *lease, m member.Minute) bool {
	switch l.State {
	case market.StateStopped, market.StateExited, market.StateOutbid, market.StateFailed, market.StateHold:
		return !l.Run.within(ctx.Clock.Tick(m), ctx.Clock.Tick(m+1)) && m > ctx.Clock.Minute(l.Since)
	}
	return false
}

// closeIdle signs one entry for the idle minutes up to the end of their hour. While the hour lasts it waits, unless
// forced, which a change of state does.
func (h *Host) closeIdle(ctx *step.Context, id wire.ID, l *lease, force bool) bool {
	first := l.Place.Next
	last := first/member.HourMinutes*member.HourMinutes + member.HourMinutes - 1
	if now := ctx.Minute(); last >= now {
		if !force || first >= now {
			return false
		}
		last = now - 1
	}
	if !force && ctx.Now < ctx.Clock.Due(last+1) && !l.Map.Has(last) {
		return false
	}
	u := ledger.Usage{First: first, Count: uint8(last - first + 1), Status: ledger.StatusHold}
	if l.State != market.StateFailed && l.State != market.StateHold && l.Terms.Tariff.VolumeStopped > 0 {
		u.Status = ledger.StatusStopped
		for m := first; m <= last; m++ {
			if l.Map.Has(m) {
				u.Billable |= 1 << (m - first)
				u.Basis = ledger.BasisAttended
			}
		}
	}
	if !h.covered(l, u, ctx.Clock.Seconds()) {
		u.Status, u.Basis, u.Billable = ledger.StatusHold, ledger.BasisNone, 0
	}
	h.sign(ctx, id, l, u)
	return true
}

// covered reports whether the reservation's cap still pays the entry.
func (h *Host) covered(l *lease, u ledger.Usage, slot int64) bool {
	rate, err := l.Terms.Tariff.Rate(u.Status)
	if err != nil {
		return false
	}
	m, err := l.Place.Meter.Add(rate, u.Minutes()*slot)
	return err == nil && m.Owed() <= l.Reservation.Cap
}

// flush closes the idle minutes that lie behind, before a lease leaves an idle state.
func (h *Host) flush(ctx *step.Context, id wire.ID, l *lease) {
	h.closeMinutes(ctx, id, l)
	for !l.Closing && l.Place.Next < ctx.Minute() && h.idle(ctx, l, l.Place.Next) && h.closeIdle(ctx, id, l, true) {
	}
}

// judge decides the status of minute m, in which a container lived or was awaited. It reports false when that is not
// known yet.
func (h *Host) judge(ctx *step.Context, l *lease, m member.Minute) (verdict, bool) {
	t, u := ctx.Clock.Tick(m), ctx.Clock.Tick(m+1)
	due := ctx.Clock.Due(m + 1)
	out := m >= h.downSince && m <= h.booted && h.downSince < h.booted
	if out {
		due = max(due, ctx.Clock.Due(h.booted+1))
	}
	signalled := l.StopAt != 0 && l.StopAt < u
	switch {
	case h.off[m] && l.Run.within(t, u):
		return verdict{status: ledger.StatusEngine}, true
	case signalled && l.StopFor == market.ReasonOutbid:
		return verdict{status: ledger.StatusPreempted}, true
	case l.Run.full(t, u) && !signalled:
		return h.judgeFull(ctx, l, m, due, out)
	case l.Run.within(t, u):
		return h.judgePart(ctx, l, m, due)
	case l.State == market.StateFailed, l.State == market.StateEnded, l.State == market.StateHold:
		return verdict{status: ledger.StatusHold}, true
	case out && l.Start > 0 && l.Reason == market.ReasonPower:
		return verdict{status: ledger.StatusHostFault}, true
	case l.State == market.StateCertified, l.State.Up():
		return verdict{status: ledger.StatusSetup}, true
	}
	// A start that ended in this minute and left no container: the minute of its stop.
	return verdict{status: ledger.StatusPartial}, true
}

// judgeFull decides a minute through which the container ran. It counts when the consumer attended it.
func (h *Host) judgeFull(ctx *step.Context, l *lease, m member.Minute, due member.Time, out bool) (verdict, bool) {
	status := ledger.StatusRunning
	if l.Zero {
		status = ledger.StatusZero
	}
	switch {
	case l.Map.Has(m):
		l.Counted = true
		l.Ran++
		return verdict{status: status, basis: ledger.BasisAttended}, true
	case ctx.Now < due:
		return verdict{}, false
	case out:
		return verdict{status: ledger.StatusHostFault}, true
	case h.cutOff(ctx, m):
		return verdict{status: ledger.StatusUnreachable}, true
	}
	return verdict{status: ledger.StatusUnattended, unpaid: true}, true
}

// judgePart decides a minute in which the container lived for a part: free, unless it is all that a start which the
// consumer ordered, and ended, ever had.
func (h *Host) judgePart(ctx *step.Context, l *lease, m member.Minute, due member.Time) (verdict, bool) {
	partial := verdict{status: ledger.StatusPartial}
	end := l.Run.Finished
	if l.StopAt != 0 {
		end = l.StopAt
	}
	switch l.StopFor {
	case market.ReasonConsumer, market.ReasonBudget, market.ReasonDuration, market.ReasonExit:
	default:
		return partial, true
	}
	if end == 0 || ctx.Clock.Minute(end) != m || !l.Ordered || l.Counted || l.Said == 0 || l.Zero {
		return partial, true
	}
	if !l.Map.Has(l.Said) {
		return partial, ctx.Now >= due
	}
	l.Counted = true
	return verdict{status: ledger.StatusMinimum, basis: ledger.BasisAttended}, true
}

// cutOff reports whether this host heard nothing fresh and signed of any member in minute m, or nothing since.
func (h *Host) cutOff(ctx *step.Context, m member.Minute) bool {
	return !h.world.Heard(m) || h.world.Fresh() < ctx.Clock.Tick(m+1)
}

// sign closes minutes with a usage entry.
func (h *Host) sign(ctx *step.Context, id wire.ID, l *lease, u ledger.Usage) {
	u.Host, u.Lease, u.Seq, u.Terms, u.Prev = ctx.Self, id, l.Place.Seq+1, l.Ref, l.Place.Head
	rate, err := l.Terms.Tariff.Rate(u.Status)
	if err == nil && u.Billable != 0 {
		var m ledger.Meter
		if m, err = l.Place.Meter.Add(rate, u.Minutes()*ctx.Clock.Seconds()); err == nil {
			u.Numerator = m.Numerator
		}
	} else {
		u.Numerator = l.Place.Meter.Numerator
	}
	if err != nil { // a price beyond all numbers is not billed
		u.Billable, u.Basis, u.Numerator = 0, ledger.BasisNone, l.Place.Meter.Numerator
	}
	switch u.Status {
	case ledger.StatusRunning:
		for _, g := range l.GPUs {
			u.GPUs = append(u.GPUs, g.UUID)
		}
		u.Start = l.Run.ID
	case ledger.StatusZero, ledger.StatusMinimum, ledger.StatusPartial:
		u.Start = l.Run.ID
	}
	obj := wire.Draft(u)
	ref := obj.Ref(ctx.Market)
	place, err := l.Place.Follow(u, ref, l.Terms.Tariff, ctx.Clock.Seconds())
	if err != nil {
		panic("host: own usage entry: " + err.Error())
	}
	ctx.Guard(append([]byte("usage/"), id[:]...), u.Seq, obj)
	ctx.Put(table.Key(table.Usage, id[:], table.Uint64(u.Seq)), obj)
	if place.Meter.Owed() > l.EntryOwed {
		l.Entry, l.EntrySeq, l.EntryOwed = obj, u.Seq, place.Meter.Owed()
		if u.Status != ledger.StatusStopped {
			l.Due = max(ctx.Clock.Due(u.Last()+1), ctx.Now+ctx.Clock.Slot/6)
		}
	}
	l.Place, l.Closing = place, u.Final
	h.leases.Touch(id)
}

// collect stops a pod whose voucher is overdue, unless nobody could have brought it.
func (h *Host) collect(ctx *step.Context, id wire.ID, l *lease) {
	if l.Due == 0 || ctx.Now < l.Due {
		return
	}
	h.leases.Touch(id)
	switch {
	case l.Vouched >= l.EntryOwed:
		l.Due = 0
	case l.State.Up() && h.cutOff(ctx, ctx.Minute()-1):
		l.Due = ctx.Clock.Due(ctx.Minute() + 1)
	default:
		l.Due = 0
		if l.State == market.StateRunning || l.State == market.StateSetup {
			ctx.Notify("lease.unpaid", id, "lease "+id.Short()+": no voucher came in time; the pod stops")
			h.stop(ctx, id, l, market.ReasonUnpaid)
		}
	}
}

// lostMinutes closes the minutes of a run that was lost with its machine, before the next run begins.
func (h *Host) lostMinutes(ctx *step.Context, id wire.ID, l *lease) {
	last := ctx.Clock.Tick(h.downSince)
	if l.Run.Started != 0 && l.Run.Finished == 0 {
		l.Run.Finished = max(last, l.Run.Started)
	}
	for !l.Closing && l.Place.Next < ctx.Minute() {
		m := l.Place.Next
		u := ledger.Usage{First: m, Count: 1, Status: ledger.StatusHostFault}
		if l.Run.full(ctx.Clock.Tick(m), ctx.Clock.Tick(m+1)) && l.Map.Has(m) {
			u.Status, u.Basis, u.Billable = ledger.StatusRunning, ledger.BasisAttended, 1
			l.Counted = true
			l.Ran++
		}
		h.sign(ctx, id, l, u)
	}
}

// limit stops a pod at the first tick at which one more minute would not fit its budget, its duration or its funds.
func (h *Host) limit(ctx *step.Context, id wire.ID, l *lease) {
	if l.State != market.StateRunning {
		return
	}
	rate, slot := l.rate(), ctx.Clock.Seconds()
	pending := int64(ctx.Minute() - min(l.Place.Next, ctx.Minute()))
	owed := func(minutes int64) ledger.Amount {
		m, err := l.Place.Meter.Add(rate, (pending+minutes)*slot)
		if err != nil {
			return l.Reservation.Cap + 1
		}
		return m.Owed()
	}
	horizon := int64(ctx.Policy.StopFunds)
	if l.Terms.Minutes > 0 {
		left := int64(l.Terms.Minutes) - int64(l.Ran) - pending
		if left < 1 {
			h.stop(ctx, id, l, market.ReasonDuration)
			return
		}
		horizon = min(horizon, left)
	}
	if l.Terms.StopAt != 0 && ctx.Now+ctx.Clock.Slot > l.Terms.StopAt {
		h.stop(ctx, id, l, market.ReasonDuration)
		return
	}
	if l.Terms.Budget > 0 {
		if owed(1) > l.Terms.Budget {
			h.stop(ctx, id, l, market.ReasonBudget)
			return
		}
		for horizon > 1 && owed(horizon) > l.Terms.Budget {
			horizon--
		}
	}
	if owed(horizon) > l.Reservation.Cap {
		ctx.Notify("lease.funds", id, "lease "+id.Short()+": its reservation no longer covers it; the pod stops")
		h.stop(ctx, id, l, market.ReasonFunds)
		return
	}
	if owed(int64(ctx.Policy.ReserveOpen)/2) > l.Reservation.Cap {
		h.refresh(ctx, id, l)
	}
}
