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
	h.closeMinutes(ctx, id, l, false)
	h.collect(ctx, id, l)
	h.weigh(ctx, id, l)
	if l.TermAt != 0 && ctx.Now >= l.TermAt && (l.State == market.StateRunning || l.State == market.StateSetup) {
		h.stop(ctx, id, l, market.ReasonOutbid)
	}
	if waits := l.State == market.StateSetup || l.State == market.StateCertified; waits && ctx.Now >= h.setupEnds(ctx, id, l) {
		h.giveUp(ctx, id, l)
	}
	if l.State == market.StateEnded && !l.Wiped && l.Unlocked != 0 && ctx.Now >= l.Unlocked {
		l.Unlocked = 0
		h.touch(id)
		h.want(ctx, id, l)
	}
	h.settle(ctx, id, l)

	if l.State == market.StateSetup || l.State == market.StateCertified {
		soon(h.setupEnds(ctx, id, l))
	}
	soon(l.Due)
	soon(l.TermAt)
	soon(l.Unlocked)
	soon(h.retry[id])
	if l.Place.Next < ctx.Minute() {
		soon(ctx.Clock.Due(ctx.Minute()))
	}
}

// setupEnds is when a lease that waits for its GPUs, its image or its container has waited long enough.
func (h *Host) setupEnds(ctx *step.Context, id wire.ID, l *lease) member.Time {
	return max(l.Since, h.progress[id], h.bootAt) + member.Time(ctx.Policy.SetupDeadline)*ctx.Clock.Slot
}

// giveUp ends a setup that goes nowhere: the lease with it, if it never ran; else the pod is stopped and keeps its data.
func (h *Host) giveUp(ctx *step.Context, id wire.ID, l *lease) {
	l.Detail = "no progress in setting up"
	h.touch(id)
	if l.Start <= 1 && !l.Had {
		h.end(ctx, id, l, market.ReasonSetup)
		return
	}
	h.stop(ctx, id, l, market.ReasonSetup)
}

// saw reports whether the engine, asked after u, said that the lease's container runs.
func (h *Host) saw(l *lease, u member.Time) bool {
	s := h.sighted[l.Terms.Lease]
	return s.run == l.Run.ID && s.at >= u
}

// closeMinutes signs the usage entries of all minutes of a lease that are over and whose status is known. told says that
// the consumer's keep-alive has just come: before that, or :50, its map is not what it will be.
func (h *Host) closeMinutes(ctx *step.Context, id wire.ID, l *lease, told bool) {
	for !l.Closing && l.Place.Next < ctx.Minute() {
		if h.unseen[id] {
			return // inspect speaks first
		}
		m := l.Place.Next
		if h.idle(ctx, l, m) {
			if !h.closeIdle(ctx, id, l, false) {
				return
			}
			continue
		}
		judge := func(m member.Minute) (verdict, bool) {
			if m > l.Place.Next && h.idle(ctx, l, m) {
				return verdict{}, false
			}
			return h.judge(ctx, l, m, told)
		}
		v, ok := judge(m)
		if !ok {
			return
		}
		h.close(ctx, id, l, m, h.stretch(ctx, l, m, judge), v)
	}
}

// stretch is how many minutes from m on, of one hour, close alike and cost nothing: they share an entry, so that one after an
// outage of days does not have a thousand of them.
func (h *Host) stretch(ctx *step.Context, l *lease, m member.Minute, judge func(member.Minute) (verdict, bool)) uint8 {
	v, _ := judge(m)
	n := member.Minute(1)
	switch v.status {
	case ledger.StatusSetup, ledger.StatusHostFault, ledger.StatusEngine, ledger.StatusGPUFault, ledger.StatusUnreachable, ledger.StatusHold:
	default:
		return 1
	}
	for ; (m+n)%member.HourMinutes != 0 && m+n < ctx.Minute() && !h.isLast(ctx, l, m) && l.Lapse.Minute != m && l.Lapse.Minute != m+n; n++ {
		if w, ok := judge(m + n); !ok || w != v || h.isLast(ctx, l, m+n) {
			break
		}
	}
	return uint8(n)
}

// close signs the entry of a minute, or of several that cost nothing.
func (h *Host) close(ctx *step.Context, id wire.ID, l *lease, m member.Minute, n uint8, v verdict) {
	switch v.status {
	case ledger.StatusRunning, ledger.StatusZero:
		l.Counted = true
		l.Ran++
	case ledger.StatusMinimum:
		l.Counted = l.Counted || l.Lapse.Minute != m
	default:
		if l.Lapse.Minute == m && m != 0 && !ours(v.status) { // the start before this one owes nothing after all
			h.blame(ctx, l.Terms.Consumer, freeVain)
		}
		l.Weighed = l.Weighed || ours(v.status) && !l.Counted
	}
	u := ledger.Usage{First: m, Count: n, Status: v.status, Basis: v.basis, Final: h.isLast(ctx, l, m)}
	if v.basis != ledger.BasisNone {
		u.Billable = 1
	}
	switch {
	case v.basis == ledger.BasisMandate:
		if l.RestSeq != l.Place.Seq { // the minute before did not
			ctx.Notify("lease.away", id, "lease "+id.Short()+": its consumer is away; what witnesses see is billed on its mandate")
		}
		h.rests(ctx, l, &u, h.panelOf(l))
	case v.status == ledger.StatusUnobserved:
		v.unpaid = l.dim(m)
	}
	h.sign(ctx, id, l, u)
	if v.unpaid {
		h.unpaid(ctx, id, l)
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
	if l.State != market.StateFailed && l.State != market.StateHold && l.Had {
		u.Status = ledger.StatusStopped
		h.store(ctx, l, &u)
	}
	h.sign(ctx, id, l, u)
	return true
}

// store bills the minutes of an entry in which the consumer, or the bank as a witness, had this host's answer. Where it takes the
// bank's receipts the entry ends with the last minute for which none can come any more.
func (h *Host) store(ctx *step.Context, l *lease, u *ledger.Usage) {
	u.Basis = ledger.BasisAttended
	seen := h.testimony(ctx, keeperOf(l), u.First, u.Last())
	for i := member.Minute(0); i < member.Minute(u.Count) && l.Terms.Tariff.VolumeStopped > 0; i++ {
		m, last := u.First+i, u.Basis
		settled := ctx.Now >= ctx.Clock.Due(m+1)
		switch attended := l.Map.Has(m); {
		case !attended && !(settled && seen.Has(m)):
			continue
		case !attended:
			u.Basis = ledger.BasisStorage
		}
		if u.Basis == ledger.BasisStorage && !settled {
			u.Count = uint8(i)
			break
		}
		if u.Billable |= 1 << i; !l.pays(ledger.StatusStopped, u.Minutes(), ctx.Clock.Seconds()) {
			u.Billable &^= 1 << i
			u.Basis = last
		}
	}
	switch {
	case u.Billable == 0:
		u.Basis = ledger.BasisNone
	case u.Basis == ledger.BasisStorage:
		h.rests(ctx, l, u, keeperOf(l))
	}
}

// pays reports whether reservation and budget cover so many more minutes of a status.
func (l *lease) pays(st ledger.Status, minutes, slot int64) bool {
	rate, err := l.Terms.Tariff.Rate(st)
	if err != nil {
		return false
	}
	m, err := l.Place.Meter.Add(rate, minutes*slot)
	return err == nil && m.Owed() <= l.Reservation.Cap && (l.Terms.Budget == 0 || m.Owed() <= l.Terms.Budget)
}

// flush closes the idle minutes that lie behind, before a lease leaves an idle state. It reports false while an earlier
// minute is still open.
func (h *Host) flush(ctx *step.Context, id wire.ID, l *lease) bool {
	h.closeMinutes(ctx, id, l, true)
	for !l.Closing && l.Place.Next < ctx.Minute() && h.idle(ctx, l, l.Place.Next) && h.closeIdle(ctx, id, l, true) {
	}
	return l.Closing || l.Place.Next >= ctx.Minute()
}

// judge decides the status of minute m, in which a container lived or was awaited. It reports false when that is not
// known yet.
func (h *Host) judge(ctx *step.Context, l *lease, m member.Minute, told bool) (verdict, bool) {
	t, u := ctx.Clock.Tick(m), ctx.Clock.Tick(m+1)
	due := ctx.Clock.Due(m + 1)
	out := h.out(m)
	if out {
		due = max(due, ctx.Clock.Due(h.booted+1))
	}
	lived := l.Run.within(t, u)
	switch {
	case h.off.Get().Has(m) && lived:
		return verdict{status: ledger.StatusEngine}, true
	case l.Lapse.Minute == m && m != 0:
		return h.judgeMinimum(ctx, l, l.Lapse.Said, due)
	case l.signalled(u) && l.StopFor == market.ReasonOutbid:
		return verdict{status: ledger.StatusPreempted}, true
	case lived && l.Sick.Has(m):
		return verdict{status: ledger.StatusGPUFault}, true
	case lived && l.Run.Finished == 0 && !(told && h.saw(l, u)) && ctx.Now < due:
		return verdict{}, false // its end may be on its way here
	case lived && l.Run.Finished == 0 && !h.saw(l, u):
		return verdict{status: ledger.StatusEngine}, true // nobody knows whether it lived
	case l.Run.full(t, u) && !l.signalled(u):
		return h.judgeFull(ctx, l, m, due, told)
	case lived && l.mayOweMinimum(ctx.Clock, m):
		return h.judgeMinimum(ctx, l, l.Said, due)
	case lived:
		return verdict{status: ledger.StatusPartial}, true
	case out && l.Had && !(l.over() && m >= ctx.Clock.Minute(l.Since)):
		return verdict{status: ledger.StatusHostFault}, true
	case l.over():
		return verdict{status: ledger.StatusHold}, true
	case l.State == market.StateCertified, l.State.Up():
		return verdict{status: ledger.StatusSetup}, true
	}
	// A start that ended in this minute and left no container: the minute of its stop.
	return verdict{status: ledger.StatusPartial}, true
}

// over reports whether nothing of the lease costs anything any more.
func (l *lease) over() bool {
	return l.State == market.StateFailed || l.State == market.StateEnded || l.State == market.StateHold
}

// out reports whether this host was down in minute m, for a part of it at least.
func (h *Host) out(m member.Minute) bool {
	return h.downSince < h.booted && m >= h.downSince && m <= h.booted || h.away.Get().Has(m)
}

// signalled reports whether SIGTERM was sent before an instant.
func (l *lease) signalled(u member.Time) bool { return l.StopAt != 0 && l.StopAt < u }

// attended reports whether the consumer holds an answer of minute m that said the pod was running.
func (l *lease) attended(m member.Minute) bool { return l.Map.Has(m) && !l.Quiet.Has(m) }

// judgeFull decides a minute through which the container ran. It counts when the consumer attended it, or when it has given a
// mandate and more than half of the witnesses that this names have given their receipts in time.
func (h *Host) judgeFull(ctx *step.Context, l *lease, m member.Minute, due member.Time, told bool) (verdict, bool) {
	status := ledger.StatusRunning
	if l.Zero {
		status = ledger.StatusZero
	}
	switch {
	case l.attended(m) && l.pays(status, 1, ctx.Clock.Seconds()):
		return verdict{status: status, basis: ledger.BasisAttended}, true
	case l.attended(m):
		return verdict{status: ledger.StatusHold}, true
	case h.inForce(ctx, l, m) && ctx.Now >= due && !l.Quiet.Has(m) && h.testimony(ctx, h.panelOf(l), m, m).Has(m):
		if !l.pays(status, 1, ctx.Clock.Seconds()) {
			return verdict{status: ledger.StatusHold}, true
		}
		return verdict{status: status, basis: ledger.BasisMandate}, true
	case h.out(m) && (told || ctx.Now >= due): // what the consumer was answered before the outage, it knows by now
		return verdict{status: ledger.StatusHostFault}, true
	case ctx.Now < due:
		return verdict{}, false
	case l.Quiet.Has(m): // the engine's word came late: this host told the consumer that the pod was not up yet
		return verdict{status: ledger.StatusPartial}, true
	case h.cutOff(ctx, m):
		return verdict{status: ledger.StatusUnreachable}, true
	case h.inForce(ctx, l, m):
		return verdict{status: ledger.StatusUnobserved}, true
	}
	return verdict{status: ledger.StatusUnattended, unpaid: true}, true
}

// mayOweMinimum reports whether m is the minute in which a start that the consumer ordered came to its end, by the
// consumer's will, its limits or its own, without a running minute.
func (l *lease) mayOweMinimum(c member.Clock, m member.Minute) bool {
	end := l.Run.Finished
	if l.StopAt != 0 {
		end = l.StopAt
	}
	switch l.StopFor {
	case market.ReasonConsumer, market.ReasonBudget, market.ReasonDuration, market.ReasonExit:
	default:
		return false
	}
	return end != 0 && c.Minute(end) == m && l.Ordered && !l.Counted && l.Said != 0 && !l.Zero
}

// judgeMinimum decides a minute that a start owes as its minimum, if the consumer was told in minute said that it runs.
func (h *Host) judgeMinimum(ctx *step.Context, l *lease, said member.Minute, due member.Time) (verdict, bool) {
	switch {
	case !l.Map.Has(said):
		return verdict{status: ledger.StatusPartial}, ctx.Now >= due
	case !l.pays(ledger.StatusMinimum, 1, ctx.Clock.Seconds()):
		return verdict{status: ledger.StatusPartial}, true
	}
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
		if u.First == l.Lapse.Minute {
			u.Start = l.Lapse.Start
		}
	}
	obj := wire.Draft(u)
	ref := obj.Ref(ctx.Market)
	place, err := l.Place.Follow(u, ref, l.Terms.Tariff, ctx.Clock.Seconds())
	if err != nil {
		panic("host: own usage entry: " + err.Error())
	}
	ctx.Guard(append([]byte("usage/"), id[:]...), u.Seq, obj)
	ctx.Put(table.Key(table.Usage, id[:], table.Uint64(u.Seq)), obj)
	due := h.voucherDue(ctx, id, u.Last()+1)
	if place.Meter.Owed() > l.EntryOwed {
		l.Prior = billed{l.Entry, l.EntrySeq, l.EntryOwed, l.EntryLast}
		l.Entry, l.EntrySeq, l.EntryOwed, l.EntryLast = obj, u.Seq, place.Meter.Owed(), u.Last()
		if u.Status != ledger.StatusStopped && u.Basis == ledger.BasisAttended {
			l.Due = due
		}
	}
	if u.Final && l.Vouched < l.EntryOwed {
		l.Due = max(l.Due, due) // the last word waits for the consumer's
	}
	l.Place, l.Closing = place, u.Final
	h.touch(id)
}

// voucherDue is when the voucher for an entry that is signed now must have come: by :50 of the minute after its last. A
// consumer whose keep-alive brought the entry about has it at once, and a moment to sign; one that hears of it late, because
// this host was down or its engine was slow to answer, hears of it with its next keep-alive.
func (h *Host) voucherDue(ctx *step.Context, id wire.ID, after member.Minute) member.Time {
	due := ctx.Clock.Due(after)
	switch {
	case ctx.Now < due:
		return max(due, ctx.Now+ctx.Clock.Slot/6)
	case after < ctx.Minute(), h.attended[id] >= ctx.Clock.Tick(after):
		return ctx.Now + ctx.Clock.Slot/2
	}
	return due
}

// collect stops a pod whose voucher is overdue, unless nobody could have brought it.
func (h *Host) collect(ctx *step.Context, id wire.ID, l *lease) {
	if l.Due == 0 || ctx.Now < l.Due {
		return
	}
	h.touch(id)
	switch {
	case l.Vouched >= l.EntryOwed:
		l.Due = 0
	case h.cutOff(ctx, ctx.Minute()-1), h.bears(ctx, l, ctx.Minute()-1):
		l.Due = ctx.Clock.Due(ctx.Minute() + 1)
	default:
		l.Due = 0
		if l.State.Owns() && l.State != market.StateStopping {
			ctx.Notify("lease.unpaid", id, "lease "+id.Short()+": no voucher came in time; the pod stops")
		}
		h.unpaid(ctx, id, l)
	}
}

// lose marks the run of a pod that is gone: it is known to have lived until the host went down, or was started, and no longer.
func (h *Host) lose(ctx *step.Context, l *lease) {
	if l.Run.Started == 0 || l.Run.Finished != 0 {
		return
	}
	since := h.downSince
	if l.Blind != 0 {
		since = min(since, l.Blind)
	}
	l.Run.Finished = max(ctx.Clock.Tick(since), l.Run.Started)
}

// lostMinutes closes the minutes of a run that was lost with its machine, before the next run begins.
func (h *Host) lostMinutes(ctx *step.Context, id wire.ID, l *lease) {
	h.lose(ctx, l)
	judge := func(m member.Minute) (verdict, bool) {
		v, ok := h.judge(ctx, l, m, true)
		if !ok || v.unpaid || v.status == ledger.StatusSetup {
			v = verdict{status: ledger.StatusHostFault}
		}
		return v, true
	}
	for !l.Closing && l.Place.Next < ctx.Minute() {
		m := l.Place.Next
		v, _ := judge(m)
		h.close(ctx, id, l, m, h.stretch(ctx, l, m, judge), v)
	}
}
