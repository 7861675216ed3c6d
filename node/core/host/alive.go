package host

import (
	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// alive answers a keep-alive, and closes the minutes that its map of answers settles. Where the lease has an attendant of its own,
// its consumer is answered too, and attends nothing.
func (h *Host) alive(ctx *step.Context, r step.Request) *step.Refusal {
	v, ok := step.Find[market.Alive](r.Objects)
	if !ok {
		return step.Refuse(step.RefuseBadRequest, "no alive in it")
	}
	a := v.Value()
	l := h.leases.Get(a.Lease)
	switch {
	case l == nil || r.Peer != a.By || !l.party(a.By):
		return step.Refuse(step.RefuseUnknown, "no such lease of yours")
	case a.Host != ctx.Self:
		return step.Refuse(step.RefuseBadRequest, "meant for another host")
	case a.Top > ctx.Minute()+1:
		return step.Refuse(step.RefuseClock, "your clock is ahead of this host's")
	}
	body, err := step.Body[step.AliveBody](r.Body)
	if err != nil {
		return step.Refuse(step.RefuseBadRequest, "alive's body does not decode")
	}
	if a.By == l.Terms.Attendant {
		h.attendBy(ctx, l, a)
	}
	reply := market.AliveReply{
		Host: ctx.Self, Lease: a.Lease, Nonce: a.Nonce, Minute: ctx.Minute(), State: l.State, Reason: l.Reason, Start: l.Run.ID,
		ExitCode: l.Run.ExitCode, UsageSeq: l.Place.Seq, UsageHead: l.Place.Head, LogSeq: h.log.Get().Seq,
	}
	if a.By == l.Terms.Attendant {
		h.says(ctx, l)
	}
	objects := []wire.Object{wire.Draft(reply)}
	if !l.Notice.IsZero() && (l.State == market.StateStopping || l.State == market.StateOutbid || l.TermAt != 0) {
		objects = append(objects, l.Notice)
	}
	if a.By != l.Terms.By && !l.Voucher.IsZero() { // who pays and does not sign hears what was signed
		objects = append(objects, l.Voucher)
	}
	p := h.pulls[a.Lease]
	ctx.Reply(r.ID, step.OpOK, step.AliveAnswer{Command: l.Command, Pulled: p[0], PullSize: p[1], Detail: l.Detail}, objects...)
	if body.UsageSeq < l.Place.Seq {
		ctx.Out.Replies[len(ctx.Out.Replies)-1].Append = h.documents(l, body.UsageSeq+1, body.Minute)
	}
	return nil
}

// party reports whether somebody is the lease's consumer, or attends it in its place.
func (l *lease) party(who identity.Address) bool {
	return who == l.Terms.Consumer || who == l.Terms.Attendant
}

// attendBy takes an attendant's map of answers.
func (h *Host) attendBy(ctx *step.Context, l *lease, a market.Alive) {
	if seen := merge(l.Map, market.Answered{Top: a.Top, Bits: a.Answered}); seen != l.Map {
		l.Map = seen
		h.touch(a.Lease)
	}
	h.attended[a.Lease] = ctx.Now
	h.closeMinutes(ctx, a.Lease, l, true)
}

// says notes what the attendant is told of the pod.
func (h *Host) says(ctx *step.Context, l *lease) {
	switch running := l.State == market.StateRunning; {
	case running && l.Said == 0:
		l.Said = ctx.Minute()
		h.touch(l.Terms.Lease)
	case !running && !l.Quiet.Has(ctx.Minute()):
		l.Quiet = l.Quiet.With(ctx.Minute())
		h.touch(l.Terms.Lease)
	}
}

// merge is a newer map of answers with what an older one, overtaken on its way, has beside it. Both are one consumer's word.
func merge(old, next market.Answered) market.Answered {
	if next.Top < old.Top {
		old, next = next, old
	}
	if gap := next.Top - old.Top; gap < 64 {
		next.Bits |= old.Bits << gap
	}
	return next
}

// voucher takes the word of a lease's voucher signer for what is owed.
func (h *Host) voucher(ctx *step.Context, r step.Request) *step.Refusal {
	v, ok := step.Find[ledger.Voucher](r.Objects)
	if !ok {
		return step.Refuse(step.RefuseBadRequest, "no voucher in it")
	}
	c := v.Value()
	l := h.leases.Get(c.Lease)
	switch {
	case l == nil || !l.party(r.Peer):
		return step.Refuse(step.RefuseUnknown, "no such lease of yours")
	case c.By != l.Terms.By:
		return step.Refuse(step.RefuseVoucher, "the terms have %v sign the vouchers, not %v", l.Terms.By, c.By)
	case c.Reservation != l.Reservation.ID || c.Host != ctx.Self:
		return step.Refuse(step.RefuseVoucher, "the voucher is for another lease, reservation or host")
	case c.Seq <= l.VouchedSeq:
		ctx.Reply(r.ID, step.OpOK, nil) // older or repeated: what is held stands
		return nil
	case c.Total > l.Reservation.Cap:
		return step.Refuse(step.RefuseVoucher, "the voucher is over its reservation of %s", l.Reservation.Cap.Text())
	}
	entry := billed{l.Entry, l.EntrySeq, l.EntryOwed, l.EntryLast}
	if c.Seq == l.Prior.Seq {
		entry = l.Prior // its successor was signed while this was on its way
	}
	switch {
	case c.Seq != entry.Seq || c.Usage != entry.Entry.Ref(ctx.Market):
		return step.Refuse(step.RefuseStale, "the voucher names entry %d, the last billed one is %d", c.Seq, l.EntrySeq)
	case c.Total != entry.Owed || c.Minute != entry.Last:
		return step.Refuse(step.RefuseVoucher, "entry %d owes %s as of minute %d, the voucher says %s as of %d", c.Seq, entry.Owed.Text(), entry.Last,
			c.Total.Text(), c.Minute)
	}
	if minute, err := minuteOf(ctx, l.Terms.Tariff); err == nil && c.Total-l.Vouched >= max(1, minute) {
		h.absolve(l.Terms.Consumer)
	}
	l.Voucher, l.Vouched, l.VouchedSeq, l.VouchedAt, l.Paid = v.Object(), c.Total, c.Seq, c.Minute, entry.Entry
	if l.Vouched >= l.EntryOwed {
		l.Due = 0
	}
	h.touch(c.Lease)
	ctx.Reply(r.ID, step.OpOK, nil)
	return nil
}

// raise takes a newer reservation, whoever brings it: it is the bank's word.
func (h *Host) raise(ctx *step.Context, r step.Request) *step.Refusal {
	v, ok := step.Find[ledger.Reservation](r.Objects)
	if !ok || h.leases.Get(v.Value().Lease) == nil {
		return step.Refuse(step.RefuseUnknown, "no reservation of a lease of yours in it")
	}
	h.takeReservation(v.Value().Lease, v)
	ctx.Reply(r.ID, step.OpOK, nil)
	return nil
}

// command carries out a consumer's order, once. It may come by way of the bank.
func (h *Host) command(ctx *step.Context, r step.Request) *step.Refusal {
	v, ok := step.Find[market.Command](r.Objects)
	if !ok {
		return step.Refuse(step.RefuseBadRequest, "no command in it")
	}
	c := v.Value()
	l := h.leases.Get(c.Lease)
	switch {
	case l == nil || c.Consumer != l.Terms.Consumer || r.Peer != c.Consumer && r.Peer != l.Reservation.Operator:
		return step.Refuse(step.RefuseUnknown, "no such lease of yours")
	case c.Host != ctx.Self:
		return step.Refuse(step.RefuseBadRequest, "meant for another host")
	}
	if b, ok := step.Find[market.Lodged](r.Objects); ok && b.By() == l.Reservation.Operator && b.Value().Command == v.Ref() {
		l.Revoked = max(l.Revoked, b.Value().Minute) // whatever the order is worth here, the bank pays nothing on a mandate given before it
		h.touch(c.Lease)
	}
	switch {
	case c.Seq <= l.Command:
		ctx.Reply(r.ID, step.OpOK, step.CommandAnswer{Seq: l.Command, LogSeq: h.log.Get().Seq})
		return nil
	case l.State == market.StateEnded && c.Order != market.CommandRemove:
		return step.Refuse(step.RefuseState, "the lease has ended")
	}
	if res, ok := step.Find[ledger.Reservation](r.Objects); ok {
		h.takeReservation(c.Lease, res)
	}
	if c.Order == market.CommandStart {
		if no := h.mayStart(ctx, c, l); no != nil {
			l.Lowered = false // the consumer may have had the reservation raised for it: that goes back
			h.touch(c.Lease)
			return no
		}
	}
	l.Command = c.Seq
	h.touch(c.Lease)
	if l.changedBy(c.Order) {
		h.write(ctx, market.LogEntry{Entry: market.EntryCommand, Lease: c.Lease, Cause: v.Ref()})
	}
	switch c.Order {
	case market.CommandStop:
		if l.Desire == market.DesireRun {
			l.Desire = market.DesireStop
		}
		h.stop(ctx, c.Lease, l, market.ReasonConsumer)
	case market.CommandStart:
		h.start(ctx, c, l)
	case market.CommandRemove:
		h.flush(ctx, c.Lease, l)
		h.end(ctx, c.Lease, l, market.ReasonConsumer)
	case market.CommandRevoke:
		if _, lodged := step.Find[market.Lodged](r.Objects); !lodged {
			l.Revoked = max(l.Revoked, ctx.Minute())
		}
	}
	ctx.Reply(r.ID, step.OpOK, step.CommandAnswer{Seq: c.Seq, LogSeq: h.log.Get().Seq})
	return nil
}

// changedBy reports whether an order changes anything: it is logged then, and only then. As a stop wants a start before
// it, what bounds the starts bounds the log.
func (l *lease) changedBy(o market.CommandKind) bool {
	switch o {
	case market.CommandStop:
		return l.Desire == market.DesireRun && l.State.Owns()
	case market.CommandRemove:
		return l.Desire != market.DesireEnd || l.Unlocked != 0
	case market.CommandRevoke:
		return false // it is between the two, and changes nothing that anybody else sees
	}
	return true
}

// startsMost is how many starts of one pod a minute may have.
const startsMost = 8

// mayStart holds the GPUs of a stopped pod, if they are to be had, and checks that it is paid for.
func (h *Host) mayStart(ctx *step.Context, c market.Command, l *lease) *step.Refusal {
	switch l.State {
	case market.StateStopped, market.StateExited, market.StateOutbid, market.StateFailed, market.StateHold:
	default:
		return step.Refuse(step.RefuseState, "the pod is %v", l.State)
	}
	h.closeMinutes(ctx, c.Lease, l, true) // one of them may be billed
	switch {
	case !h.engine || !h.known:
		return step.Refuse(step.RefuseWithdrawn, "this host's container engine does not answer now")
	case l.Vouched < l.EntryOwed:
		return step.Refuse(step.RefuseUnpaid, "a voucher for %s is due first", l.EntryOwed.Text())
	case !h.flush(ctx, c.Lease, l): // storage that only this closes may be paid for later
		return step.Refuse(step.RefuseUnpaid, "the minutes until the stop are not settled yet")
	case l.StartsIn == ctx.Minute() && l.Starts >= startsMost:
		return step.Refuse(step.RefuseCooldown, "%d starts in one minute are enough", startsMost)
	case l.Terms.Minutes > 0 && l.Ran >= l.Terms.Minutes:
		return step.Refuse(step.RefuseState, "the lease's %d minutes are used up", l.Terms.Minutes)
	}
	if no := h.patient(ctx, l.Terms.Consumer); no != nil {
		return no
	}
	zero := l.Zero
	l.Zero = c.Zero
	rate := l.rate()
	l.Zero = zero
	more, err := h.least(ctx, l.Terms, rate)
	one, err2 := rate.Cost(ctx.Clock.Seconds())
	switch left := l.Terms.Budget - l.EntryOwed; {
	case err != nil || err2 != nil:
		return step.Refuse(step.RefuseReservation, "the price overflows")
	case l.Terms.Budget > 0 && left < one:
		return step.Refuse(step.RefuseState, "of the lease's budget of %s, too little is left for one minute", l.Terms.Budget.Text())
	case l.Terms.Budget > 0:
		more = min(more, left)
	}
	if l.Reservation.RedeemBy <= ctx.Now+member.Time(ctx.Policy.StopFunds)*ctx.Clock.Slot {
		return step.Refuse(step.RefuseReservation, "the reservation ends too soon")
	}
	if l.Reservation.Cap < l.EntryOwed+more {
		return step.Refuse(step.RefuseReservation, "the reservation has %s left, a start needs %s", (l.Reservation.Cap - l.EntryOwed).Text(), more.Text())
	}
	ask := market.Ask{Lease: c.Lease, Type: l.Terms.Type, Rate: l.Terms.Rate, Model: l.Terms.Model, Count: l.Terms.GPUs, Policy: ctx.Policy}
	if no := h.roomFor(ask, l); no != nil || c.Zero {
		return no
	}
	held, err := h.alloc.Get().Hold(ask, ctx.Now)
	if err != nil && h.freeing(l.Terms.Model) {
		return step.Refuse(step.RefuseNoGPUs, "%v; some are being freed: try again in a few seconds", err)
	}
	if err != nil {
		return step.Refuse(step.RefuseNoGPUs, "%v; its data can be reached with --gpus 0", err)
	}
	h.alloc.Touch()
	h.write(ctx, market.LogEntry{
		Entry: market.EntryHold, Lease: c.Lease, Bidder: market.Bidder(l.Terms.Consumer, c.Lease), Type: ask.Type, Rate: ask.Rate,
		Model: ask.Model, Count: ask.Count, GPUs: held.GPUs, Leases: held.Victims, Until: ctx.Now,
	})
	return nil
}

// freeing reports whether a pod with GPUs of a model is on its way down.
func (h *Host) freeing(model string) bool {
	for _, id := range h.leases.Keys() {
		if l := h.leases.Get(id); l.State == market.StateStopping && l.Terms.Model == model && len(l.GPUs) > 0 {
			return true
		}
	}
	return false
}

// start takes a stopped pod up again.
func (h *Host) start(ctx *step.Context, c market.Command, l *lease) {
	m := ctx.Minute()
	switch lapses := l.mayOweMinimum(ctx.Clock, m); {
	case lapses && l.Lapse.Minute != m:
		l.Lapse = lapse{m, l.Run.ID, l.Said}
	case !lapses && l.Ordered && !l.Counted && !l.Weighed:
		h.held(ctx, c.Lease, l)
	}
	if l.StartsIn != m {
		l.StartsIn, l.Starts = m, 0
	}
	l.Starts++
	l.Weighed, l.Evicts, l.Asked, l.Told = false, false, 0, 0
	l.Ordered, l.Zero, l.Lowered, l.Desire = true, c.Zero, true, market.DesireRun
	l.Run, l.StopAt, l.StopFor, l.Said = run{}, 0, 0, 0
	h.set(ctx, c.Lease, l, market.StateCertified, market.ReasonConsumer)
	if c.Zero {
		l.GPUs = nil
		h.begin(ctx, c.Lease, l, true, market.ReasonConsumer)
		return
	}
	victims, err := h.alloc.Get().Certify(c.Lease, ctx.Now)
	if err != nil {
		panic("host: a hold of this very step is gone: " + err.Error())
	}
	h.alloc.Touch()
	l.Evicts = len(victims) > 0
	for _, v := range victims {
		h.displace(ctx, v, c.Lease, l)
	}
	h.takeReady(ctx)
}
