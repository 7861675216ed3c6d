package host

import (
	"slices"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// grant is a mandate that this host holds, and the witnesses that it names.
type grant struct {
	Object  wire.Object       `cbor:"1,keyasint"`
	Mandate ledger.Mandate    `cbor:"2,keyasint"`
	Panel   reliability.Panel `cbor:"3,keyasint"`
	Spoken  bool              `cbor:"4,keyasint"` // more than half of its witnesses have seen this host in some minute
}

// heardKey names a receipt: of a witness, for a minute.
type heardKey struct {
	witness identity.Address
	minute  member.Minute
}

// heard is a receipt of the last hours.
type heard struct {
	Object wire.Object `cbor:"1,keyasint"`
	Kept   bool        `cbor:"2,keyasint"` // a usage entry rests on it: it is in the log
}

// heardFor is how many minutes a receipt is kept that nothing rests on: an entry of a stopped pod covers an hour.
const heardFor = 2 * member.HourMinutes

func newReceipts() *step.Map[heardKey, heard] {
	return step.NewMap[heardKey, heard](table.Receipt,
		func(k heardKey) []byte { return table.Key(table.Receipt, k.witness[:], table.Uint64(uint64(k.minute))) },
		func(b []byte) heardKey {
			return heardKey{identity.Address(table.Field(b, 0)), member.Minute(table.Number(table.Field(b, 1)))}
		})
}

// mandate takes a consumer's word that minutes which witnesses have seen may be billed without it.
func (h *Host) mandate(ctx *step.Context, r step.Request) *step.Refusal {
	v, ok := step.Find[ledger.Mandate](r.Objects)
	if !ok {
		return step.Refuse(step.RefuseBadRequest, "no mandate in it")
	}
	m := v.Value()
	l := h.leases.Get(m.Lease)
	body, err := step.Body[step.PanelBody](r.Body)
	held := h.grants.Get(m.Lease)
	switch {
	case l == nil || l.Terms.Consumer != r.Peer || m.Consumer != r.Peer:
		return step.Refuse(step.RefuseUnknown, "no such lease of yours")
	case m.Reservation != l.Reservation.ID:
		return step.Refuse(step.RefuseBadRequest, "the mandate is for another reservation")
	case err != nil || body.Panel.Validate() != nil || body.Panel.Hash() != m.Extension:
		return step.Refuse(step.RefuseBadRequest, "the witnesses are not those that the mandate names")
	case held != nil && m.Seq < held.Mandate.Seq:
		return step.Refuse(step.RefuseStale, "mandate %d is held already", held.Mandate.Seq)
	}
	if no := h.trusts(ctx, l, body.Panel); no != nil {
		return no
	}
	if held != nil && m.Seq > held.Mandate.Seq && !wider(held.Mandate, m) && l.claimable() {
		h.Settle(ctx, m.Lease) // what was worked on the one that this ends is claimed on it first
		return step.Refuse(step.RefuseBusy, "minutes on the mandate before are being settled; give this one again in a moment")
	}
	if held == nil || m.Seq > held.Mandate.Seq {
		spoken := held != nil && held.Spoken && held.Mandate.Extension == m.Extension
		h.grants.Put(m.Lease, grant{Object: v.Object(), Mandate: m, Panel: body.Panel, Spoken: spoken})
		h.touch(m.Lease)
		h.enlist(ctx)
	}
	ctx.Reply(r.ID, step.OpOK, nil)
	return nil
}

// wider reports whether a mandate pays all that an earlier one did.
func wider(old, m ledger.Mandate) bool {
	return m.From <= old.From && m.Until >= old.Until && m.MaxTotal >= old.MaxTotal && m.MaxUnattended >= old.MaxUnattended && m.Extension == old.Extension
}

// panelMost is how many witnesses this host takes: so many that a claim of two hours, or an answer with their receipts, fits a frame.
const panelMost = 4

// trusts refuses witnesses on whose word this host would work for nothing: such as its bank does not pay on, and such as are
// no members, or belong to one of the parties.
func (h *Host) trusts(ctx *step.Context, l *lease, panel reliability.Panel) *step.Refusal {
	if len(panel) > panelMost {
		return step.Refuse(step.RefuseSpec, "this host takes mandates of at most %d witnesses, not %d", panelMost, len(panel))
	}
	if !panel.Has(l.Reservation.Operator) {
		return step.Refuse(step.RefuseSpec, "the bank that pays must be one of the witnesses")
	}
	for _, w := range panel {
		switch {
		case w == ctx.Self || l.party(w):
			return step.Refuse(step.RefuseSpec, "a party of the lease is no witness of it")
		case !h.world.Is(w, member.RoleHost, ctx.Now) && !h.world.Is(w, member.RoleOperator, ctx.Now):
			return step.Refuse(step.RefuseSpec, "%v is no node that may bear witness", w)
		case w != l.Reservation.Operator && (h.kin(w, ctx.Self) || h.kin(w, l.Terms.Consumer) || h.kin(w, l.Terms.Attendant)):
			return step.Refuse(step.RefuseSpec, "%v belongs to a party of the lease", w)
		}
	}
	return nil
}

// kin reports whether two members belong together.
func (h *Host) kin(a, b identity.Address) bool {
	x, _, _ := h.world.Credential(a)
	y, _, _ := h.world.Credential(b)
	return x.Kin(y)
}

// inForce reports whether the mandate of a lease pays minute m, if witnesses have seen this host in it. One whose witnesses never
// did is none: a consumer that names some who are away would have an hour a day for nothing.
func (h *Host) inForce(ctx *step.Context, l *lease, m member.Minute) bool {
	g := h.grants.Get(l.Terms.Lease)
	if g == nil || !g.Spoken || l.Revoked != 0 && m > l.Revoked && g.Mandate.From <= l.Revoked {
		return false
	}
	vouched := l.VouchedAt
	if vouched == 0 {
		vouched = ctx.Clock.Minute(l.At) - 1
	}
	owed, err := l.Place.Meter.Add(l.rate(), ctx.Clock.Seconds())
	return err == nil && g.Mandate.Covers(m, vouched, owed.Owed())
}

// panelOf is whose receipts count for the running minutes of a lease.
func (h *Host) panelOf(l *lease) reliability.Panel {
	if g := h.grants.Get(l.Terms.Lease); g != nil {
		return g.Panel
	}
	return nil
}

// keeperOf is whose receipts count for its storage.
func keeperOf(l *lease) reliability.Panel { return reliability.NewPanel(l.Reservation.Operator) }

// testimony is what the receipts at hand say of the minutes from first to last.
func (h *Host) testimony(ctx *step.Context, panel reliability.Panel, first, last member.Minute) *reliability.Testimony {
	t := reliability.NewTestimony(ctx.Self, panel)
	for m := first; m <= last; m++ {
		for _, w := range panel {
			if o := h.receipts.Get(heardKey{w, m}); o != nil {
				t.Add(reliability.Receipt{Witness: w, Host: ctx.Self, Minute: m}, o.Object.Ref(ctx.Market))
			}
		}
	}
	return t
}

// rests makes a usage entry rest on receipts: it names them, and they are kept with it.
func (h *Host) rests(ctx *step.Context, l *lease, u *ledger.Usage, panel reliability.Panel) {
	u.Receipts = h.testimony(ctx, panel, u.First, u.Last()).Root(u.First, u.Billable)
	for i := range member.Minute(u.Count) {
		if u.Billable>>i&1 == 1 {
			h.preserve(ctx, panel, u.First+i)
		}
	}
	l.RestSeq = l.Place.Seq + 1
}

// preserve keeps what a panel's witnesses said of a minute, for the bank and the consumer to see.
func (h *Host) preserve(ctx *step.Context, panel reliability.Panel, m member.Minute) {
	for _, w := range panel {
		k := heardKey{w, m}
		if o := h.receipts.Get(k); o != nil && !o.Kept {
			o.Kept = true
			h.receipts.Touch(k)
			ctx.Put(table.Key(table.Testimony, w[:], table.Uint64(uint64(m))), o.Object)
		}
	}
}

// bears reports whether a running pod whose voucher is overdue may go on: its mandate is in force, and witnesses saw this host
// in minute m, or it is one of the few in a day that they did not. What they saw of the minute that the voucher should pay for
// is kept: the bank pays it on the mandate.
func (h *Host) bears(ctx *step.Context, l *lease, m member.Minute) bool {
	if l.State != market.StateRunning || !h.inForce(ctx, l, m) {
		return false
	}
	panel := h.panelOf(l)
	if h.testimony(ctx, panel, l.EntryLast, l.EntryLast).Has(l.EntryLast) {
		h.preserve(ctx, panel, l.EntryLast)
		l.RestSeq = max(l.RestSeq, l.EntrySeq)
	}
	return h.testimony(ctx, panel, m, m).Has(m) || !l.dim(m)
}

// asked answers a witness.
func (h *Host) asked(ctx *step.Context, r step.Request) *step.Refusal {
	body, err := step.Body[step.AskBody](r.Body)
	switch {
	case err != nil:
		return step.Refuse(step.RefuseBadRequest, "a witness's question has a nonce")
	case !slices.Contains(h.witnesses(), r.Peer):
		return step.Refuse(step.RefuseNotForYou, "this host needs no witness of yours")
	}
	ctx.Reply(r.ID, step.OpOK, nil, wire.Draft(reliability.Presence{
		Host: ctx.Self, Witness: r.Peer, Nonce: body.Nonce, Minute: ctx.Minute(), LogSeq: h.log.Get().Seq, LogHead: h.log.Get().Head,
		Meters: h.meters(),
	}))
	return nil
}

// witnessed takes a witness's receipt. One that comes after :50 of the next minute is too late: what rests on that minute may
// be signed.
func (h *Host) witnessed(ctx *step.Context, r step.Request) *step.Refusal {
	v, ok := step.Find[reliability.Receipt](r.Objects)
	c := v.Value()
	switch {
	case !ok || c.Host != ctx.Self || c.Witness != r.Peer:
		return step.Refuse(step.RefuseBadRequest, "no receipt of yours for this host in it")
	case c.Minute > ctx.Minute() || ctx.Now >= ctx.Clock.Due(c.Minute+1):
		return step.Refuse(step.RefuseStale, "the receipt is for minute %d, it is %d", c.Minute, ctx.Minute())
	case !slices.Contains(h.witnesses(), r.Peer):
		return step.Refuse(step.RefuseNotForYou, "this host needs no witness of yours")
	}
	if k := (heardKey{c.Witness, c.Minute}); h.receipts.Get(k) == nil {
		h.receipts.Put(k, heard{Object: v.Object()})
		for _, id := range h.grants.Keys() {
			if g := h.grants.Get(id); !g.Spoken && g.Panel.Has(c.Witness) && h.testimony(ctx, g.Panel, c.Minute, c.Minute).Has(c.Minute) {
				g.Spoken = true
				h.grants.Touch(id)
			}
		}
	}
	ctx.Reply(r.ID, step.OpOK, nil)
	return nil
}

// witnesses are those whose receipts this host may need: of the mandates that it holds, and the banks of pods that are stopped.
func (h *Host) witnesses() []identity.Address {
	var all reliability.Panel
	for _, id := range h.leases.Keys() {
		switch l := h.leases.Get(id); {
		case l.Closing:
		case l.State.Owns() || l.State == market.StateCertified:
			all = append(all, h.panelOf(l)...)
		case l.Terms.Tariff.VolumeStopped > 0 && l.Had:
			all = append(all, keeperOf(l)...)
		}
	}
	return reliability.NewPanel(all...)
}

// enlist asks those to bear witness of whom nothing was heard of late.
func (h *Host) enlist(ctx *step.Context) {
	m := ctx.Minute()
	for _, w := range h.witnesses() {
		asked := h.enlisted[w]
		quiet := h.receipts.Get(heardKey{w, m - 1}) == nil && h.receipts.Get(heardKey{w, m - 2}) == nil
		if w != ctx.Self && (asked == 0 || quiet && asked < m || m-asked >= member.HourMinutes/2) {
			h.enlisted[w] = m
			ctx.Send(w, step.ProtoWitness, step.OpWatch, nil)
		}
	}
}

// forget drops receipts that nothing will rest on any more.
func (h *Host) forget(ctx *step.Context) {
	for _, k := range h.receipts.Keys() {
		if k.minute+heardFor < ctx.Minute() {
			h.receipts.Delete(k)
		}
	}
}

// unobserved are the minutes of a day that nobody attended and not enough witnesses saw, of which there may be so many.
const mostUnobserved = 60

// dim notes an unobserved minute, once, and reports whether it is one too many for a day. A minute that closes so while an earlier
// voucher is overdue is looked at twice.
func (l *lease) dim(m member.Minute) bool {
	if slices.Contains(l.Dim, m) {
		return false
	}
	l.Dim = slices.DeleteFunc(l.Dim, func(old member.Minute) bool { return old+ledger.MaxUnattended <= m })
	if len(l.Dim) >= mostUnobserved {
		return true
	}
	l.Dim = append(l.Dim, m)
	return false
}

// documents are the spans of the store that have the usage entries of a lease from one on, and the receipts for minutes from one
// on that they may rest on.
func (h *Host) documents(l *lease, from uint64, minute member.Minute) []step.Span {
	spans := []step.Span{entries(l.Terms.Lease, from)}
	if l.RestSeq < from {
		return spans
	}
	return append(spans, h.receiptsFor(l, minute, minute+step.ReceiptsReach)...)
}

func (h *Host) receiptsFor(l *lease, first, end member.Minute) []step.Span {
	var spans []step.Span
	for _, w := range reliability.NewPanel(append(h.panelOf(l), keeperOf(l)...)...) {
		key := func(m member.Minute) []byte { return table.Key(table.Testimony, w[:], table.Uint64(uint64(m))) }
		spans = append(spans, step.Span{From: key(first), To: key(end), Limit: int(end - first)})
	}
	return spans
}

// claimable reports whether entries rest on receipts that no voucher names and the bank was not shown.
func (l *lease) claimable() bool {
	return l.RestSeq > max(l.VouchedSeq, l.Claimed) && !l.Lost && !l.Disputed
}

// What one claim holds: the entries of an hour, and the receipts of two. At their largest, with panelMost witnesses and 16 GPUs,
// they are under 200 kB.
const (
	claimEntries = 60
	claimMinutes = 2 * member.HourMinutes
)

// claim shows the bank entries that rest on receipts, and then does what follows on its answer.
func (h *Host) claim(ctx *step.Context, id wire.ID, l *lease, then func(*step.Context)) {
	h.later(id, ctx.Now+2*ctx.Clock.Slot)
	from, minute := l.Claimed+1, l.ClaimedTo
	objects := []wire.Object{l.Signed, l.Cert}
	if !l.Voucher.IsZero() {
		objects = append(objects, l.Voucher, l.Paid)
	}
	switch {
	case l.VouchedSeq >= l.Claimed && l.VouchedSeq > 0:
		from, minute = l.VouchedSeq+1, l.VouchedAt+1
	case l.Claimed == 0:
		minute = ctx.Clock.Minute(l.At)
	}
	body := step.ClaimBody{Until: minute + claimMinutes}
	if g := h.grants.Get(id); g != nil {
		objects, body.Panel = append(objects, g.Object), g.Panel
	}
	h.ask(ctx, l.Reservation.Operator, step.OpClaim, body, func(ctx *step.Context, r step.Response) {
		l := h.leases.Get(id)
		if a, err := step.Body[step.ClaimAnswer](r.Body); r.Err == nil && err == nil && a.Seq > l.Claimed {
			l.Claimed, l.ClaimedTo = a.Seq, a.Next
			l.Proven = max(l.Proven, ledger.Amount(a.Proven))
			h.touch(id)
		}
		h.receipt(ctx, id, r)
		switch no := r.Err != nil && r.Err.Refusal != nil && r.Err.Refusal.Code != step.RefuseBusy; {
		case r.Err == nil && l.Closing: // its last word comes next
			h.promptly(id)
		case no:
			delete(h.goals, id)
			if l.Closing { // it does not wait for what the bank does not believe
				l.Disputed = true
				h.touch(id)
				h.promptly(id)
			}
		}
		if then != nil {
			then(ctx)
		}
	}, objects...)
	ctx.Out.Sends[len(ctx.Out.Sends)-1].Append = append([]step.Span{{
		From: table.Key(table.Usage, id[:], table.Uint64(from)), To: table.Key(table.Usage, id[:], table.Uint64(from+claimEntries)), Limit: claimEntries,
	}}, h.receiptsFor(l, minute, body.Until)...)
}
