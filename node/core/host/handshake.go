package host

import (
	"errors"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Request takes a consumer's request on the lease protocol, and a witness's.
func (h *Host) Request(ctx *step.Context, r step.Request) bool {
	if witness := r.Op == step.OpAsk || r.Op == step.OpWitnessed; r.Proto != step.ProtoLease && (r.Proto != step.ProtoWitness || !witness) {
		return false
	}
	var no *step.Refusal
	switch r.Op {
	case step.OpAsk:
		no = h.asked(ctx, r)
	case step.OpWitnessed:
		no = h.witnessed(ctx, r)
	case step.OpMandate:
		no = h.mandate(ctx, r)
	case step.OpRequest:
		no = h.quote(ctx, r)
	case step.OpAccept:
		no = h.accept(ctx, r)
	case step.OpGetLease:
		no = h.tell(ctx, r)
	case step.OpDecline:
		no = h.decline(ctx, r)
	case step.OpAlive:
		no = h.alive(ctx, r)
	case step.OpVoucher:
		no = h.voucher(ctx, r)
	case step.OpCommand:
		no = h.command(ctx, r)
	case step.OpRaise:
		no = h.raise(ctx, r)
	case step.OpUsage:
		no = h.usage(ctx, r)
	case step.OpWiped:
		no = h.wiped(ctx, r)
	case step.OpFunds:
		no = h.funds(ctx, r)
	default:
		no = step.Refuse(step.RefuseBadRequest, "unknown operation %d", r.Op)
	}
	if no != nil {
		ctx.Refuse(r.ID, no)
	}
	return true
}

// quote holds GPUs and answers with the terms under which they can be had.
func (h *Host) quote(ctx *step.Context, r step.Request) *step.Refusal {
	v, ok := step.Find[market.Request](r.Objects)
	if !ok {
		return step.Refuse(step.RefuseBadRequest, "no request in it")
	}
	q := v.Value()
	if no := h.mayAsk(ctx, r, q); no != nil {
		return no
	}
	if old := h.holds.Get(q.Lease); old != nil {
		if old.Dead || ctx.Now >= old.Until || old.Request.Ref(ctx.Market) != v.Ref() {
			return step.Refuse(step.RefuseExpired, "this lease id has been used; ask with a new one")
		}
		ctx.Reply(r.ID, step.OpOK, nil, old.Quote)
		return nil
	}
	if h.leases.Get(q.Lease) != nil {
		return step.Refuse(step.RefuseState, "this lease exists already")
	}
	t, no := h.terms(ctx, q)
	if no != nil {
		return no
	}
	ask := market.Ask{Lease: q.Lease, Type: q.Type, Rate: t.Rate, Model: q.Model, Count: q.GPUs, Policy: ctx.Policy}
	if !h.fits(ask, q.Spec.Disk+q.Spec.Volume) {
		return step.Refuse(step.RefuseSpec, "this host has no room for %d bytes", q.Spec.Disk+q.Spec.Volume)
	}
	until := ctx.Now + member.Time(ctx.Policy.Hold)*member.Second
	held, err := h.alloc.Get().Hold(ask, until)
	if err != nil {
		return step.Refuse(step.RefuseNoGPUs, "%v", err)
	}
	h.alloc.Touch()
	h.write(ctx, market.LogEntry{
		Entry: market.EntryHold, Lease: q.Lease, Bidder: market.Bidder(q.Consumer, q.Lease), Type: q.Type, Rate: t.Rate, Model: q.Model,
		Count: q.GPUs, GPUs: held.GPUs, Leases: held.Victims, Until: until, Cause: v.Ref(),
	})
	quote := market.Quote{
		Host: ctx.Self, Lease: q.Lease, Request: v.Ref(), Terms: wire.Marshal(t), At: ctx.Now, Expires: until,
		Wait: h.wait(held.Victims), LogSeq: h.log.Get().Seq, LogHead: h.log.Get().Head,
	}
	obj := wire.Draft(quote)
	h.holdsNext = 0
	h.holds.Put(q.Lease, hold{Request: v.Object(), Quote: obj, Until: until, Consumer: q.Consumer, Reservation: q.Reservation})
	h.stale = true
	ctx.Reply(r.ID, step.OpOK, nil, obj)
	return nil
}

// wait is how long the victims need to go, in seconds.
func (h *Host) wait(victims []wire.ID) uint16 {
	var n uint16
	for _, id := range victims {
		if l := h.leases.Get(id); l != nil {
			n = max(n, l.Terms.Notice+l.Terms.Grace)
		}
	}
	return n
}

// mayAsk checks who asks, and whether this host sells at all.
func (h *Host) mayAsk(ctx *step.Context, r step.Request, q market.Request) *step.Refusal {
	switch a := h.abandoned[q.Consumer]; {
	case q.By != q.Consumer && (q.By == ctx.Self || h.world.Standing(q.By, ctx.Now) != nil):
		return step.Refuse(step.RefuseSpec, "%v cannot attend a lease here: it is no other member in good standing", q.By)
	case q.Consumer != r.Peer || q.Host != ctx.Self:
		return step.Refuse(step.RefuseBadRequest, "the request is another's, or for another host")
	case !h.world.Is(q.Consumer, member.RoleConsumer, ctx.Now):
		return step.Refuse(step.RefuseNotForYou, "your credential does not let you rent: %v", h.world.Standing(q.Consumer, ctx.Now))
	case !h.world.Is(ctx.Self, member.RoleHost, ctx.Now):
		return step.Refuse(step.RefuseWithdrawn, "this host is not in good standing: %v", h.world.Standing(ctx.Self, ctx.Now))
	case !h.sale.Get().Listed:
		return step.Refuse(step.RefuseWithdrawn, "this host takes no new leases")
	case !h.engine || !h.known:
		return step.Refuse(step.RefuseWithdrawn, "this host's container engine does not answer now")
	case h.unfit != "":
		return step.Refuse(step.RefuseWithdrawn, "this host does not pass its own self-test now")
	case ctx.Now < a.until:
		return step.Refuse(step.RefuseCooldown, "you let %d quotes expire; ask again in %d s", a.count, (a.until-ctx.Now)/member.Second+1)
	}
	if no := h.patient(ctx, q.Consumer); no != nil {
		return no
	}
	if no := h.crowded(q.Consumer); no != nil {
		return no
	}
	for _, id := range h.holds.Keys() {
		if o := h.holds.Get(id); !o.Dead && id != q.Lease && o.Consumer == q.Consumer {
			return step.Refuse(step.RefuseCooldown, "you have an open quote here; accept or decline it first")
		}
	}
	return nil
}

// terms writes the contract for a request.
func (h *Host) terms(ctx *step.Context, q market.Request) (market.Terms, *step.Refusal) {
	s := h.sale.Get()
	rate := q.Rate
	switch {
	case s.MaxHours > 0 && (q.Minutes == 0 || q.Minutes > uint64(s.MaxHours)*member.HourMinutes):
		return market.Terms{}, step.Refuse(step.RefuseSpec, "leases here last at most %d h; ask for a --max-duration", s.MaxHours)
	case q.Type == market.OnDemand && q.Rate < s.Price:
		return market.Terms{}, step.Refuse(step.RefusePrice, "on-demand costs %s per GPU-hour here, you offer %s", s.Price.Text(), q.Rate.Text())
	case q.Type == market.OnDemand:
		rate = s.Price
	case q.Rate < s.Floor:
		return market.Terms{}, step.Refuse(step.RefusePrice, "the least spot bid here is %s per GPU-hour, you offer %s", s.Floor.Text(), q.Rate.Text())
	}
	tariff, err := h.tariff(ctx, q, rate)
	if err != nil {
		return market.Terms{}, step.Refuse(step.RefuseSpec, "the price of this request overflows")
	}
	if minute, err := minuteOf(ctx, tariff); err != nil || q.Budget > 0 && q.Budget < minute {
		return market.Terms{}, step.Refuse(step.RefuseSpec, "a budget of %s does not pay one minute (%s)", q.Budget.Text(), minute.Text())
	}
	return market.Terms{
		Lease: q.Lease, Seq: 1, Host: ctx.Self, Consumer: q.Consumer, By: q.By, Attendant: q.By, Bid: q.Bid, Type: q.Type,
		GPUs: q.GPUs, Model: q.Model, Rate: rate, Tariff: tariff, Disk: q.Spec.Disk, Volume: q.Spec.Volume, VolumeID: volumeID(q),
		Grace: max(s.Grace, ctx.Policy.Grace), Minutes: q.Minutes, Budget: q.Budget, OnEnd: q.OnEnd, Resume: q.Resume,
		Hold: uint64(ctx.Policy.DataHold), Isolation: clip(h.machine.Runtime, 16), Spec: q.Spec.Hash(), Image: q.Spec.Digest(),
		Reservation: q.Reservation, Policy: ctx.Policy.Number, Simulated: h.simulated(q.Model),
	}, nil
}

// minuteOf is what one running minute costs at most.
func minuteOf(ctx *step.Context, t ledger.Tariff) (ledger.Amount, error) {
	rate, err := t.Rate(ledger.StatusRunning)
	if err != nil {
		return 0, err
	}
	return rate.Cost(ctx.Clock.Seconds())
}

func (h *Host) tariff(ctx *step.Context, q market.Request, rate ledger.Rate) (ledger.Tariff, error) {
	gpu, e1 := rate.Times(uint32(q.GPUs))
	disk, e2 := ledger.StorageRate(ledger.Amount(ctx.Policy.DiskRunning), q.Spec.Disk)
	run, e3 := ledger.StorageRate(ledger.Amount(ctx.Policy.DiskRunning), q.Spec.Volume)
	stop, e4 := ledger.StorageRate(ledger.Amount(ctx.Policy.VolumeStopped), q.Spec.Volume)
	t := ledger.Tariff{GPU: gpu, DiskRunning: disk, VolumeRunning: run, VolumeStopped: stop}
	return t, errors.Join(e1, e2, e3, e4, t.Validate())
}

func volumeID(q market.Request) wire.ID {
	if q.Spec.Volume == 0 {
		return wire.ID{}
	}
	return q.Lease
}

func (h *Host) simulated(model string) bool {
	for _, s := range h.alloc.Get().Slots {
		if s.Device.Model == model && s.Device.Simulated {
			return true
		}
	}
	return false
}

// accept makes a lease of a quote.
func (h *Host) accept(ctx *step.Context, r step.Request) *step.Refusal {
	v, ok := step.Find[market.Terms](r.Objects)
	res, ok2 := step.Find[ledger.Reservation](r.Objects)
	if !ok || !ok2 {
		return step.Refuse(step.RefuseBadRequest, "an accept wants signed terms and a reservation")
	}
	id := v.Value().Lease
	if l := h.leases.Get(id); l != nil {
		if l.Ref != v.Ref() || v.Value().Consumer != r.Peer {
			return step.Refuse(step.RefuseNotForYou, "this lease has other terms")
		}
		ctx.Reply(r.ID, step.OpOK, nil, l.Cert)
		return nil
	}
	hold := h.holds.Get(id)
	if hold == nil || hold.Dead || ctx.Now >= hold.Until {
		return step.Refuse(step.RefuseExpired, "the quote has expired; ask again")
	}
	quote, err := wire.Decode[market.Quote](hold.Quote)
	if err != nil {
		panic("host: own quote: " + err.Error())
	}
	want, err := quote.Contract(hold.Quote.Ref(ctx.Market))
	if err != nil || wire.Draft(want).Ref(ctx.Market) != v.Ref() || v.Value().Consumer != r.Peer {
		return step.Refuse(step.RefuseBadRequest, "the signed terms are not those of the quote")
	}
	if no := h.covers(ctx, quote.At, want, res.Value()); no != nil {
		return no
	}
	if res.Value().Opened <= *h.past.Get() { // there may be a certificate already that this node does not know of
		return step.Refuse(step.RefuseReservation, "the reservation is older than what this host knows of; ask with a new lease")
	}
	req, err := wire.Decode[market.Request](hold.Request)
	if err != nil {
		panic("host: kept request: " + err.Error())
	}
	victims, err := h.alloc.Get().Certify(id, ctx.Now)
	if err != nil {
		h.drop(ctx, id, hold, market.EntryNoLease) // a GPU failed meanwhile: no fault of the consumer's
		return step.Refuse(step.RefuseNoGPUs, "%v", err)
	}
	h.certify(ctx, r, v, res, req, victims)
	return nil
}

func (h *Host) certify(ctx *step.Context, r step.Request, v wire.Verified[market.Terms], res wire.Verified[ledger.Reservation], req market.Request, victims []wire.ID) {
	t, id := v.Value(), v.Value().Lease
	cert := market.Cert{
		Host: ctx.Self, Lease: id, Terms: v.Ref(), Minute: ctx.Minute(), At: ctx.Now, LogSeq: h.log.Get().Seq + 1, LogHead: h.log.Get().Head,
	}
	obj := wire.Draft(cert)
	ref := obj.Ref(ctx.Market)
	ctx.Guard(append([]byte("cert/"), id[:]...), 1, obj)
	h.write(ctx, market.LogEntry{
		Entry: market.EntryCert, Lease: id, Bidder: market.Bidder(t.Consumer, id), Type: t.Type, Rate: t.Rate, Model: t.Model,
		Count: t.GPUs, Leases: victims, State: market.StateCertified, Cause: v.Ref(),
	})
	h.holds.Delete(id)
	delete(h.abandoned, t.Consumer)
	h.alloc.Touch()
	h.touched[id] = true
	h.specs.Put(id, req.Spec)
	l := h.leases.Put(id, lease{
		Terms: t, Signed: v.Object(), Ref: v.Ref(), Cert: obj, Reservation: res.Value(), Promise: res.Object(), State: market.StateCertified,
		Desire: market.DesireRun, Ordered: true, At: ctx.Now, Since: ctx.Now,
		Place:    ledger.Place{Head: ref, Next: cert.Minute},
		SettleAt: ctx.Clock.Tick((ctx.Minute()/member.HourMinutes + 1) * member.HourMinutes),
		Lowered:  true, Evicts: len(victims) > 0,
	})
	ctx.Notify("lease.certified", id, "lease "+id.Short()+": "+t.Type.String()+", "+t.Model+", "+t.Rate.Text()+" per GPU-hour, for "+t.Consumer.Short())
	for _, victim := range victims {
		h.displace(ctx, victim, id, l)
	}
	h.takeReady(ctx)
	h.stale = true
	ctx.Reply(r.ID, step.OpOK, nil, obj)
}

// displace tells a victim, over this host's signature, that it must go, and begins its grace.
func (h *Host) displace(ctx *step.Context, id, winner wire.ID, by *lease) {
	l := h.leases.Get(id)
	if l == nil || !l.State.Owns() {
		return
	}
	if l.State == market.StateStopping {
		return // it is on its way out
	}
	term := ctx.Now + member.Time(l.Terms.Notice)*member.Second
	n := market.Notice{
		Host: ctx.Self, Lease: id, Reason: market.ReasonOutbid, Minute: ctx.Minute(), Term: term,
		Kill: term + member.Time(l.Terms.Grace)*member.Second, Rate: uint64(by.Terms.Rate), LogSeq: h.log.Get().Seq + 1,
	}
	l.Notice = wire.Draft(n)
	h.touch(id)
	h.write(ctx, market.LogEntry{Entry: market.EntryNotice, Lease: id, Leases: []wire.ID{winner}, Reason: market.ReasonOutbid, Rate: by.Terms.Rate, Until: n.Kill})
	ctx.Notify("lease.outbid", id, "lease "+id.Short()+" is displaced by "+by.Terms.Type.String()+" at "+by.Terms.Rate.Text()+" per GPU-hour")
	if l.Terms.Notice == 0 || l.State == market.StateCertified {
		h.stop(ctx, id, l, market.ReasonOutbid)
		return
	}
	l.TermAt = term
}

// covers checks that a reservation pays for a lease that was quoted then. One from before the quote may be released by
// now: the host's word on an earlier quote of the same lease is enough for that.
func (h *Host) covers(ctx *step.Context, quoted member.Time, t market.Terms, r ledger.Reservation) *step.Refusal {
	rate, err := t.Tariff.Rate(ledger.StatusRunning)
	if err != nil {
		return step.Refuse(step.RefuseReservation, "the price overflows")
	}
	switch {
	case !ctx.Charter.Operates(r.Operator):
		return step.Refuse(step.RefuseReservation, "the reservation is not of an operator of this market")
	case r.ID != t.Reservation || r.Lease != t.Lease || r.Host != ctx.Self || r.Consumer != t.Consumer || r.By != t.By:
		return step.Refuse(step.RefuseReservation, "the reservation is for another lease")
	case r.MaxRate < rate:
		return step.Refuse(step.RefuseReservation, "the reservation's highest rate is under that of the terms")
	case r.Opened < quoted-member.Time(ctx.Policy.Hold+ctx.Policy.Skew)*member.Second:
		return step.Refuse(step.RefuseReservation, "the reservation is older than the quote")
	case r.RedeemBy < ctx.Now+member.Day:
		return step.Refuse(step.RefuseReservation, "the reservation ends too soon")
	}
	need, err := h.least(ctx, t, rate)
	if err != nil || r.Cap < need {
		return step.Refuse(step.RefuseReservation, "the reservation covers %s, this lease needs %s to start", r.Cap.Text(), need.Text())
	}
	return nil
}

// least is what must be reserved for a lease to start: some minutes of its rate, less if its own limits end it sooner.
func (h *Host) least(ctx *step.Context, t market.Terms, rate ledger.Rate) (ledger.Amount, error) {
	minutes := uint64(ctx.Policy.ReserveLeast)
	if t.Minutes > 0 {
		minutes = min(minutes, t.Minutes)
	}
	need, err := rate.Cost(int64(minutes) * ctx.Clock.Seconds())
	if err == nil && t.Budget > 0 {
		need = min(need, t.Budget)
	}
	return need, err
}

// tell answers what became of a lease.
func (h *Host) tell(ctx *step.Context, r step.Request) *step.Refusal {
	b, err := step.Body[step.LeaseBody](r.Body)
	if err != nil {
		return step.Refuse(step.RefuseBadRequest, "which lease?")
	}
	if l := h.leases.Get(b.Lease); l != nil {
		if l.Terms.Consumer != r.Peer {
			return step.Refuse(step.RefuseUnknown, "no such lease")
		}
		ctx.Reply(r.ID, step.OpOK, nil, l.Cert)
		return nil
	}
	o := h.holds.Get(b.Lease)
	switch {
	case o == nil || o.Consumer != r.Peer:
		return step.Refuse(step.RefuseUnknown, "no such lease")
	case !o.Dead:
		return step.Refuse(step.RefuseState, "the quote still stands")
	}
	ctx.Reply(r.ID, step.OpOK, nil, noLease(ctx, b.Lease, o))
	return nil
}

func noLease(ctx *step.Context, id wire.ID, o *hold) wire.Object {
	return wire.Draft(ledger.NoLease{Host: ctx.Self, Lease: id, Reservation: o.Reservation, At: o.Until})
}

// decline gives a quote back.
func (h *Host) decline(ctx *step.Context, r step.Request) *step.Refusal {
	b, err := step.Body[step.LeaseBody](r.Body)
	if err != nil {
		return step.Refuse(step.RefuseBadRequest, "which lease?")
	}
	if l := h.leases.Get(b.Lease); l != nil && l.Terms.Consumer == r.Peer {
		return step.Refuse(step.RefuseState, "this lease is already made; end it with rm")
	}
	o := h.holds.Get(b.Lease)
	if o == nil || o.Consumer != r.Peer {
		return step.Refuse(step.RefuseUnknown, "no such quote")
	}
	if !o.Dead {
		h.drop(ctx, b.Lease, o, market.EntryNoLease)
		h.cool(ctx, o.Consumer, freeDeclines)
	}
	ctx.Reply(r.ID, step.OpOK, nil, noLease(ctx, b.Lease, o))
	return nil
}

// freeDeclines is how many quotes in a row one may give back without having to wait.
const freeDeclines = 8

// cool counts a quote that came to nothing. Beyond those that are free the consumer waits, each time twice as long, up to
// an hour: so neither GPUs nor memory can be held by asking alone.
func (h *Host) cool(ctx *step.Context, who identity.Address, free int) {
	a := h.abandoned[who]
	a.count = min(a.count+1, 32)
	if over := a.count - free; over > 0 {
		a.until = ctx.Now + pause(ctx, over)
	}
	h.abandoned[who] = a
}

// drop ends a hold without a lease.
func (h *Host) drop(ctx *step.Context, id wire.ID, o *hold, why market.EntryKind) {
	o.Dead, o.Until, o.Request, o.Quote = true, ctx.Now, wire.Object{}, wire.Object{}
	h.holds.Touch(id)
	h.alloc.Get().Expire(id)
	h.alloc.Touch()
	h.write(ctx, market.LogEntry{Entry: why, Lease: id, Reason: market.ReasonExpired})
	h.stale = true
}

// deadFor is how long an ended hold is remembered.
const deadFor = 48 * member.Hour

// expireHolds ends the holds that nobody accepted. Whoever lets quotes expire waits, longer each time.
func (h *Host) expireHolds(ctx *step.Context, soon func(member.Time)) {
	if ctx.Now < h.holdsNext {
		soon(h.holdsNext)
		return
	}
	h.holdsNext = ctx.Now + member.Hour
	defer func() { soon(h.holdsNext) }()
	for _, id := range h.holds.Keys() {
		o := h.holds.Get(id)
		switch {
		case o.Dead && ctx.Now >= o.Until+deadFor:
			h.holds.Delete(id)
		case o.Dead:
			h.holdsNext = min(h.holdsNext, o.Until+deadFor)
		case ctx.Now < o.Until:
			h.holdsNext = min(h.holdsNext, o.Until)
		default:
			h.drop(ctx, id, o, market.EntryExpire)
			h.cool(ctx, o.Consumer, 0)
			h.ask(ctx, h.bankOf(ctx, o.Consumer), step.OpNoLease, nil, nil, noLease(ctx, id, o))
		}
	}
}

// bankOf is the operator that keeps a consumer's account.
func (h *Host) bankOf(ctx *step.Context, consumer identity.Address) identity.Address {
	if c, _, ok := h.world.Credential(consumer); ok {
		return c.Issuer
	}
	return ctx.Charter.Signer()
}

// ask sends a request to a bank.
func (h *Host) ask(ctx *step.Context, bank identity.Address, op step.Op, body any, then func(*step.Context, step.Response), objects ...wire.Object) {
	n := ctx.Send(bank, step.ProtoBank, op, body, objects...)
	if then != nil {
		h.awaiting[n] = then
	}
}

// usage answers with entries of a lease's chain.
func (h *Host) usage(ctx *step.Context, r step.Request) *step.Refusal {
	b, err := step.Body[step.UsageBody](r.Body)
	l := h.leases.Get(b.Lease)
	if err != nil || l == nil || !l.party(r.Peer) {
		return step.Refuse(step.RefuseUnknown, "no such lease")
	}
	ctx.Reply(r.ID, step.OpOK, nil)
	ctx.Out.Replies[len(ctx.Out.Replies)-1].Append = h.documents(l, b.From, b.Minute)
	return nil
}

// entriesAtOnce is how many usage entries one answer carries.
const entriesAtOnce = 64

func entries(id wire.ID, from uint64) step.Span {
	prefix := table.Key(table.Usage, id[:])
	return step.Span{From: table.Key(table.Usage, id[:], table.Uint64(from)), To: table.After(prefix), Limit: entriesAtOnce}
}
