package consumer

import (
	"slices"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// A fakeHost keeps to the rules of a host, except where a test tells it not to.
type fakeHost struct {
	owner  identity.Address // of its credential; zero for itself
	r      *rig
	name   string
	self   identity.Address
	offer  market.Offer
	quotes map[wire.ID]wire.Object
	asked  map[wire.ID]market.Request
	leases map[wire.ID]*fakeLease
	sent   map[step.Op]int // requests received

	refuse map[step.Op]*step.Refusal
	worse  func(*market.Terms)
	tamper func(*ledger.Usage)
	lazy   bool // closes stopped minutes late
	forced bool
	behind member.Time  // its clock, when it dates quotes
	ahead  member.Time  // its clock, when it counts minutes
	says   market.State // in answers, instead of the truth
	setup  member.Time  // from certificate to running

	mandates []ledger.Mandate
	panel    reliability.Panel
	blind    map[member.Minute]bool                   // minutes in which one witness did not see it
	receipts map[member.Minute][]wire.Object          // that mandated entries rest on
	forge    func(r *reliability.Receipt) (gone bool) // of each receipt, when it is shown
	keeps    member.Time                              // it removes volumes so long after the end
	records  func(*market.VolumeRecord)
}

type fakeLease struct {
	terms   market.Terms
	ref     identity.Hash
	cert    wire.Object
	state   market.State
	reason  market.Reason
	start   identity.Hash
	upAt    member.Time
	stopAt  member.Time   // of the container; 0: up
	said    member.Minute // first in which an answer said that this start runs; 0: none
	counted bool          // this start was billed
	lapse   *lapsed
	endAt   member.Time
	answers market.Answered
	place   ledger.Place
	entries []wire.Object
	bill    bill
	paid    ledger.Voucher
	voucher wire.Object
	command uint64
	notice  wire.Object
	final   bool
}

// lapsed is a start that owes its minimum for the minute in which the next one was ordered.
type lapsed struct {
	minute, said member.Minute
	start        identity.Hash
}

func newHost(r *rig, name string, price ledger.Rate) *fakeHost {
	h := &fakeHost{r: r, name: name, self: named(name), quotes: map[wire.ID]wire.Object{}, asked: map[wire.ID]market.Request{},
		leases: map[wire.ID]*fakeLease{}, sent: map[step.Op]int{}, refuse: map[step.Op]*step.Refusal{}, setup: 30 * member.Second}
	h.offer = market.Offer{
		Host: h.self, Seq: 1, At: r.now, Expires: r.now + 365*member.Day, Grace: 5, Disk: 100_000_000, Stopped: 200_000_000,
		Groups:  []market.Group{{Model: "RTX_4090", MemoryMiB: 24576, Count: 8, Free: 8, Price: price, Floor: price / 3, SpotNow: price / 3, OnDemand: 8, Simulated: true}},
		Machine: member.Machine{DiskGiB: 1000, Runtime: "process"},
	}
	return h
}

func (h *fakeHost) serve(s step.Send) ([]wire.Object, any, *step.Refusal) {
	op := step.Op(s.Frame.Op)
	h.sent[op]++
	if no := h.refuse[op]; no != nil {
		return nil, nil, no
	}
	h.close()
	switch op {
	case step.OpRequest:
		q := decode[market.Request](h.r, s.Frame.Objects[0])
		return h.quote(q, s.Frame.Objects[0].Ref(h.r.market)), nil, nil
	case step.OpAccept:
		return h.accept(s)
	case step.OpGetLease:
		id := lease(s)
		if l := h.leases[id]; l != nil {
			return []wire.Object{l.cert}, nil, nil
		}
		if _, open := h.quotes[id]; open && h.r.now < h.expires(id) {
			return nil, nil, step.Refuse(step.RefuseState, "the quote stands")
		}
		return h.noLease(id)
	case step.OpDecline:
		id := lease(s)
		if h.leases[id] != nil {
			return nil, nil, step.Refuse(step.RefuseState, "it is made")
		}
		delete(h.quotes, id)
		return h.noLease(id)
	case step.OpAlive:
		return h.alive(s)
	case step.OpVoucher:
		v := decode[ledger.Voucher](h.r, s.Frame.Objects[0])
		l := h.leases[v.Lease]
		if v.Seq < l.bill.Seq {
			return nil, nil, step.Refuse(step.RefuseStale, "old")
		}
		if v.Seq != l.bill.Seq || v.Usage != l.bill.Ref || v.Total != l.bill.Total {
			return nil, nil, step.Refuse(step.RefuseVoucher, "another entry")
		}
		if v.By != l.terms.By {
			return nil, nil, step.Refuse(step.RefuseVoucher, "another signs")
		}
		l.paid, l.voucher = v, s.Frame.Objects[0]
		return nil, nil, nil
	case step.OpCommand:
		return h.obey(s)
	case step.OpUsage:
		b, _ := step.Body[step.UsageBody](s.Frame.Body)
		return append(slices.Clone(h.leases[b.Lease].entries[b.From-1:]), h.shown(b.Minute)...), nil, nil
	case step.OpMandate:
		b, _ := step.Body[step.PanelBody](s.Frame.Body)
		m := decode[ledger.Mandate](h.r, s.Frame.Objects[0])
		if b.Panel.Hash() != m.Extension {
			h.r.t.Fatal("a mandate names other witnesses than those beside it")
		}
		h.mandates, h.panel = append(h.mandates, m), b.Panel
		return nil, nil, nil
	case step.OpHeld:
		l := h.leases[lease(s)]
		if l == nil {
			return nil, nil, step.Refuse(step.RefuseUnknown, "no such lease")
		}
		return l.shownVoucher(), nil, nil
	case step.OpRaise:
		return nil, nil, nil
	case step.OpWiped:
		id := lease(s)
		l := h.leases[id]
		if l == nil || l.state != market.StateEnded || h.r.now < l.endAt+h.keeps {
			return nil, nil, step.Refuse(step.RefuseState, "the volume is not removed")
		}
		rec := market.VolumeRecord{Host: h.self, Lease: id, Volume: l.terms.Volume, Reason: l.reason, At: h.r.now}
		if h.records != nil {
			h.records(&rec)
		}
		return []wire.Object{h.r.seal(h.self, rec)}, nil, nil
	}
	return nil, nil, step.Refuse(step.RefuseBadRequest, "what?")
}

func decode[T wire.Message](r *rig, o wire.Object) T {
	m, err := wire.Decode[T](o)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func lease(s step.Send) wire.ID {
	b, _ := step.Body[step.LeaseBody](s.Frame.Body)
	return b.Lease
}

func (h *fakeHost) quote(q market.Request, ref identity.Hash) []wire.Object {
	if o, ok := h.quotes[q.Lease]; ok {
		return []wire.Object{o}
	}
	price := h.offer.Groups[0].Price
	if q.Type == market.Spot {
		price = q.Rate
	}
	tariff, err := tariffOf(h.offer, price, q.GPUs, q.Spec.Disk, q.Spec.Volume)
	if err != nil {
		h.r.t.Fatal(err)
	}
	t := market.Terms{
		Lease: q.Lease, Seq: 1, Host: h.self, Consumer: q.Consumer, By: q.By, Attendant: q.By, Bid: q.Bid, Type: q.Type,
		GPUs: q.GPUs, Model: q.Model, Rate: price, Tariff: tariff, Disk: q.Spec.Disk, Volume: q.Spec.Volume, VolumeID: q.Lease,
		Grace: 5, Minutes: q.Minutes, Budget: q.Budget, OnEnd: q.OnEnd, Resume: q.Resume, Hold: uint64(h.r.policy.DataHold),
		Isolation: "process", Spec: q.Spec.Hash(), Image: q.Spec.Digest(), Reservation: q.Reservation, Policy: 1, Simulated: true,
	}
	if h.worse != nil {
		h.worse(&t)
	}
	at := h.r.now - h.behind
	o := h.r.seal(h.self, market.Quote{Host: h.self, Lease: q.Lease, Request: ref, Terms: wire.Marshal(t), At: at, Expires: at + 10*member.Second})
	h.quotes[q.Lease], h.asked[q.Lease] = o, q
	return []wire.Object{o}
}

func (h *fakeHost) expires(id wire.ID) member.Time {
	return decode[market.Quote](h.r, h.quotes[id]).Expires + h.behind
}

func (h *fakeHost) noLease(id wire.ID) ([]wire.Object, any, *step.Refusal) {
	q, ok := h.asked[id]
	if !ok {
		return nil, nil, step.Refuse(step.RefuseUnknown, "no such lease")
	}
	return []wire.Object{h.r.seal(h.self, ledger.NoLease{Host: h.self, Lease: id, Reservation: q.Reservation, At: h.r.now})}, nil, nil
}

func (h *fakeHost) accept(s step.Send) ([]wire.Object, any, *step.Refusal) {
	r := h.r
	t := decode[market.Terms](r, s.Frame.Objects[0])
	ref := s.Frame.Objects[0].Ref(r.market)
	if l := h.leases[t.Lease]; l != nil {
		return []wire.Object{l.cert}, nil, nil
	}
	q, ok := h.quotes[t.Lease]
	if !ok || r.now >= h.expires(t.Lease) {
		return nil, nil, step.Refuse(step.RefuseExpired, "too late")
	}
	want, _ := decode[market.Quote](r, q).Contract(q.Ref(r.market))
	if wire.Draft(want).Ref(r.market) != ref || s.Frame.Objects[1].Kind != wire.KindReservation {
		return nil, nil, step.Refuse(step.RefuseBadRequest, "other terms")
	}
	cert := r.seal(h.self, market.Cert{Host: h.self, Lease: t.Lease, Terms: ref, Minute: r.minute(), At: r.now})
	h.leases[t.Lease] = &fakeLease{terms: t, ref: ref, cert: cert, state: market.StateSetup, upAt: r.now + h.setup,
		start: identity.Keccak(t.Lease[:], []byte{1}), place: ledger.Place{Head: cert.Ref(r.market), Next: r.minute()}}
	return []wire.Object{cert}, nil, nil
}

func (h *fakeHost) obey(s step.Send) ([]wire.Object, any, *step.Refusal) {
	c := decode[market.Command](h.r, s.Frame.Objects[0])
	l := h.leases[c.Lease]
	if c.Order == market.CommandStart {
		h.forced = true
		h.close()
		h.forced = false
		if l.paid.Total < l.bill.Total {
			return nil, nil, step.Refuse(step.RefuseUnpaid, "%s is due first", l.bill.Total.Text())
		}
	}
	if c.Seq > l.command {
		l.command = c.Seq
		switch c.Order {
		case market.CommandStop:
			if l.stopAt == 0 {
				l.stopAt, l.state, l.reason = h.r.now, market.StateStopped, market.ReasonConsumer
			}
		case market.CommandStart:
			if h.owesMinimum(l, h.minute()) {
				l.lapse = &lapsed{h.minute(), l.said, l.start}
			}
			l.upAt, l.stopAt, l.state, l.reason = h.r.now+h.setup, 0, market.StateSetup, market.ReasonConsumer
			l.said, l.counted = 0, false
			l.start = identity.Keccak(c.Lease[:], []byte{byte(c.Seq + 1)})
		case market.CommandRevoke:
		default:
			if l.stopAt == 0 {
				l.stopAt = h.r.now
			}
			l.endAt, l.state, l.reason = h.r.now, market.StateEnded, market.ReasonConsumer
		}
	}
	return nil, step.CommandAnswer{Seq: l.command}, nil
}

func (h *fakeHost) minute() member.Minute { return h.r.clock().Minute(h.r.now + h.ahead) }

// owesMinimum reports whether a start that ended in minute m owes a minute for having been started.
func (h *fakeHost) owesMinimum(l *fakeLease, m member.Minute) bool {
	return l.stopAt != 0 && h.r.clock().Minute(l.stopAt) == m && l.said != 0 && !l.counted &&
		(l.reason == market.ReasonConsumer || l.reason == market.ReasonExit)
}

func (h *fakeHost) alive(s step.Send) ([]wire.Object, any, *step.Refusal) {
	r := h.r
	a := decode[market.Alive](r, s.Frame.Objects[0])
	l := h.leases[a.Lease]
	attends := a.By == l.terms.Attendant
	if attends && a.Top >= l.answers.Top {
		l.answers = market.Answered{Top: a.Top, Bits: a.Answered}
	}
	h.close()
	b, _ := step.Body[step.AliveBody](s.Frame.Body)
	rep := market.AliveReply{Host: h.self, Lease: a.Lease, Nonce: a.Nonce, Minute: h.minute(), State: l.state, Reason: l.reason, UsageSeq: l.place.Seq, UsageHead: l.place.Head}
	if r.now >= l.upAt && (l.stopAt == 0 || l.stopAt >= l.upAt) {
		rep.Start = l.start
	}
	if attends && l.state == market.StateRunning && l.said == 0 {
		l.said = h.minute()
	}
	if h.says != 0 {
		rep.State = h.says
	}
	out := []wire.Object{r.seal(h.self, rep)}
	out = append(out, l.entries[min(b.UsageSeq, uint64(len(l.entries))):]...)
	out = append(out, h.shown(b.Minute)...)
	if !attends {
		out = append(out, l.shownVoucher()...)
	}
	if !l.notice.IsZero() {
		out = append(out, l.notice)
	}
	return out, step.AliveAnswer{Command: l.command}, nil
}

// shownVoucher is the voucher that the host holds, if it does.
func (l *fakeLease) shownVoucher() []wire.Object {
	if l.voucher.IsZero() {
		return nil
	}
	return []wire.Object{l.voucher}
}

// close ends the minutes of all leases that are over, as far as their status is known, and settles what is final.
func (h *fakeHost) close() {
	ids := make([]wire.ID, 0, len(h.leases))
	for id := range h.leases {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b wire.ID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		l := h.leases[id]
		if l.state == market.StateSetup && h.r.now >= l.upAt {
			l.state = market.StateRunning
		}
		for !l.final && l.place.Next < h.minute() && h.closeMinute(id, l) {
		}
		c, due := h.r.clock(), member.Time(0)
		if l.final {
			due = c.Due(l.place.Next)
		}
		if l.final && (l.paid.Total >= l.bill.Total || h.r.now >= due) {
			h.r.bank.final(l)
		}
	}
}

func (h *fakeHost) closeMinute(id wire.ID, l *fakeLease) bool {
	c, m := h.r.clock(), l.place.Next
	from, to := c.Tick(m)-h.ahead, c.Tick(m+1)-h.ahead
	u := ledger.Usage{Status: ledger.StatusPartial}
	switch {
	case l.lapse != nil && l.lapse.minute == m:
		if l.answers.Has(l.lapse.said) {
			u.Status, u.Basis, u.Billable, u.Start = ledger.StatusMinimum, ledger.BasisAttended, 1, l.lapse.start
		} else if h.r.now < c.Due(m+1) {
			return false
		}
	case h.owesMinimum(l, m):
		if l.answers.Has(l.said) {
			u.Status, u.Basis, u.Billable, u.Start = ledger.StatusMinimum, ledger.BasisAttended, 1, l.start
		} else if h.r.now < c.Due(m+1) {
			return false
		}
	case l.upAt <= from && (l.stopAt == 0 || l.stopAt >= to):
		u.Status = ledger.StatusUnattended
		if l.answers.Has(m) {
			u.Status, u.Basis, u.Billable, u.GPUs, u.Start = ledger.StatusRunning, ledger.BasisAttended, 1, []string{"a", "b"}, l.start
			l.counted = true
		} else if h.r.now < c.Due(m+1) {
			return false
		} else if len(h.mandates) > 0 {
			h.mandated(&u, l, m)
		} else if l.state == market.StateRunning {
			l.state, l.reason, l.stopAt = market.StateStopped, market.ReasonUnpaid, h.r.now
		}
	case l.upAt >= to:
		u.Status = ledger.StatusSetup
	case l.stopAt != 0 && l.stopAt <= from && l.endAt == 0:
		u.Status = ledger.StatusHold
		if h.lazy && m%10 != 9 && !h.forced || !l.answers.Has(m) && h.r.now < c.Due(m+1) {
			return false
		} else if l.answers.Has(m) {
			u.Status, u.Basis, u.Billable = ledger.StatusStopped, ledger.BasisAttended, 1
		}
	}
	u.Host, u.Lease, u.Seq, u.First, u.Count, u.Terms, u.Prev = h.self, id, l.place.Seq+1, m, 1, l.ref, l.place.Head
	rate, _ := l.terms.Tariff.Rate(u.Status)
	meter, _ := l.place.Meter.Add(rate, u.Minutes()*c.Seconds())
	u.Numerator = meter.Numerator
	u.Final = l.endAt != 0 && m >= c.Minute(l.endAt)
	if h.tamper != nil {
		h.tamper(&u)
	}
	o := h.r.seal(h.self, u)
	l.place = ledger.Place{Seq: u.Seq, Head: o.Ref(h.r.market), Next: m + 1, Meter: ledger.Meter{Numerator: u.Numerator}}
	l.entries = append(l.entries, o)
	if u.Owed() > l.bill.Total {
		l.bill = bill{u.Seq, l.place.Head, m, u.Owed(), o}
	}
	l.final = u.Final
	return true
}

// A fakeBank sets aside and releases.
type fakeBank struct {
	r         *rig
	self      identity.Address
	holds     map[wire.ID]*fakeHold // by reservation
	funds     ledger.Amount
	down      bool
	meddle    func(*ledger.Reservation)
	closed    int
	lodged    []market.Command
	unwilling *step.Refusal  // to take orders for hosts
	shown     ledger.Voucher // with a question for more
}

type fakeHold struct {
	res     ledger.Reservation
	receipt wire.Object
	open    bool
}

func (b *fakeBank) of(lease wire.ID) *fakeHold {
	for _, h := range b.holds {
		if h.res.Lease == lease {
			return h
		}
	}
	return nil
}

func (b *fakeBank) serve(s step.Send) ([]wire.Object, any, *step.Refusal) {
	switch step.Op(s.Frame.Op) {
	case step.OpReserve:
		q := decode[ledger.Reserve](b.r, s.Frame.Objects[0])
		if h := b.holds[q.Reservation]; h != nil {
			return []wire.Object{b.r.seal(b.self, h.res)}, nil, nil
		}
		if q.Cap > b.funds {
			return nil, nil, step.Refuse(step.RefuseFunds, "%s is asked, %s is there", q.Cap.Text(), b.funds.Text())
		}
		res := ledger.Reservation{ID: q.Reservation, Seq: 1, Operator: b.self, Consumer: q.Consumer, By: q.By, Host: q.Host, Lease: q.Lease,
			Cap: q.Cap, MaxRate: q.MaxRate, Opened: b.r.now, RedeemBy: b.r.now + 90*member.Day, Entry: 1}
		if b.meddle != nil {
			b.meddle(&res)
		}
		b.holds[q.Reservation] = &fakeHold{res: res, open: true}
		return []wire.Object{b.r.seal(b.self, res)}, nil, nil
	case step.OpRefresh:
		if b.down {
			return nil, nil, step.Refuse(step.RefuseBusy, "busy")
		}
		h := b.of(lease(s))
		h.res.Seq++
		h.res.Cap += h.res.Cap / 2
		if len(s.Frame.Objects) == 0 {
			return []wire.Object{b.r.seal(b.self, h.res)}, nil, nil
		}
		v, u := decode[ledger.Voucher](b.r, s.Frame.Objects[0]), decode[ledger.Usage](b.r, s.Frame.Objects[1])
		if v.Usage != s.Frame.Objects[1].Ref(b.r.market) || v.Total != u.Owed() || v.Seq != u.Seq {
			return nil, nil, step.Refuse(step.RefuseVoucher, "another entry")
		}
		b.shown = v
		h.receipt = b.r.seal(b.self, ledger.SettleReceipt{Operator: b.self, Host: h.res.Host, Lease: h.res.Lease, Reservation: h.res.ID,
			Paid: v.Total, Entry: 2, At: b.r.now})
		return []wire.Object{h.receipt, b.r.seal(b.self, h.res)}, nil, nil
	case step.OpReceipt:
		h := b.of(lease(s))
		if h == nil {
			return nil, nil, step.Refuse(step.RefuseUnknown, "no such reservation")
		}
		if h.receipt.IsZero() {
			return []wire.Object{b.r.seal(b.self, h.res)}, nil, nil
		}
		return []wire.Object{h.receipt, b.r.seal(b.self, h.res)}, nil, nil
	case step.OpNoLease:
		n := decode[ledger.NoLease](b.r, s.Frame.Objects[0])
		h := b.holds[n.Reservation]
		if h == nil {
			return nil, nil, step.Refuse(step.RefuseUnknown, "no such reservation")
		}
		h.open = false
		return nil, nil, nil
	case step.OpClose:
		q := decode[ledger.Close](b.r, s.Frame.Objects[0])
		b.closed++
		h := b.holds[q.Reservation]
		if h == nil {
			return nil, nil, step.Refuse(step.RefuseUnknown, "no such reservation")
		}
		h.open = false
		return nil, nil, nil
	case step.OpLodge:
		if b.unwilling != nil {
			return nil, nil, b.unwilling
		}
		q := decode[market.Command](b.r, s.Frame.Objects[0])
		b.lodged = append(b.lodged, q)
		return []wire.Object{b.r.seal(b.self, market.Lodged{Operator: b.self, Lease: q.Lease, Seq: q.Seq, Command: s.Frame.Objects[0].Ref(b.r.market),
			Minute: b.r.minute(), At: b.r.now})}, nil, nil
	case step.OpBalance:
		return nil, step.BalanceAnswer{Account: b.r.self, Available: int64(b.funds)}, nil
	}
	return nil, nil, step.Refuse(step.RefuseBadRequest, "what?")
}

func (b *fakeBank) final(l *fakeLease) {
	h := b.holds[l.terms.Reservation]
	if h == nil || !h.open {
		return
	}
	h.open = false
	h.receipt = b.r.seal(b.self, ledger.SettleReceipt{Operator: b.self, Host: l.terms.Host, Lease: l.terms.Lease, Reservation: h.res.ID,
		Paid: l.paid.Total, Released: true, Entry: 2, At: b.r.now})
}

// mandated bills a minute on the word of the mandate's witnesses, if all have seen this host in it.
func (h *fakeHost) mandated(u *ledger.Usage, l *fakeLease, m member.Minute) {
	u.Status = ledger.StatusUnobserved
	if h.blind[m] {
		return
	}
	u.Status, u.Basis, u.Billable, u.GPUs, u.Start = ledger.StatusRunning, ledger.BasisMandate, 1, []string{"a", "b"}, l.start
	l.counted = true
	seen := reliability.NewTestimony(h.self, h.panel)
	for _, w := range h.panel {
		r := reliability.Receipt{Witness: w, Host: h.self, Minute: m, Answer: identity.Hash{1}}
		o := h.r.seal(w, r)
		if h.receipts == nil {
			h.receipts = map[member.Minute][]wire.Object{}
		}
		h.receipts[m] = append(h.receipts[m], o)
		seen.Add(r, o.Ref(h.r.market))
	}
	u.Receipts = seen.Root(m, 1)
}

// shown are the receipts for the hour from a minute on.
func (h *fakeHost) shown(first member.Minute) (out []wire.Object) {
	for m := first; m < first+64; m++ {
		for _, o := range h.receipts[m] {
			if h.forge != nil {
				r := decode[reliability.Receipt](h.r, o)
				if h.forge(&r) {
					continue
				}
				o = h.r.seal(r.Witness, r)
			}
			out = append(out, o)
		}
	}
	return out
}
