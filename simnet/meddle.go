package simnet

import (
	"errors"
	"fmt"
	"slices"

	"souk/ledger"
	"souk/market"
	"souk/node/core/consumer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A trick is one piece of bad input. It has to be refused, with one of the codes, or to change nothing where it only repeats what
// is known (code 0). What does not verify never reaches a core.
type trick struct {
	name    string
	to      *node
	proto   step.Protocol
	op      step.Op
	body    any
	objects []wire.Object
	want    []step.RefusalCode
	forged  bool // some signature in it is not what it says
}

// meddle rents pods like anybody, and beside that sends hosts and the bank what they must not take. In the end its key is
// revoked, and it goes on.
func (r *rogue) meddle() {
	w := r.n.w
	revoked := false
	r.again(func() member.Time { return r.rnd.between(10*member.Second, 40*member.Second) }, func() {
		if !r.n.up {
			return
		}
		if revoked {
			r.play(r.outcast())
			return
		}
		r.n.local(consumer.List{All: true}, func(v any, err error) {
			views := v.([]consumer.View)
			views = slices.DeleteFunc(views, func(x consumer.View) bool { return w.check.claims.lives[x.Lease] == nil })
			if err != nil || len(views) == 0 || w.calm {
				return
			}
			lease := views[r.rnd.IntN(len(views))].Lease
			r.n.local(consumer.Papers{Lease: lease}, func(v any, err error) {
				if d, ok := v.(consumer.Documents); ok && err == nil && !w.calm && !revoked {
					r.play(r.tricks(d))
				}
			})
		})
	})
	w.plan(w.now+member.Time(0.8*w.opt.Hours*float64(member.Hour)), "cheat", r.n.index, func() {
		w.nodes[0].local(operator.Sanction{Addr: r.n.addr.String(), What: member.Revoke, Reason: "bad input", Fraud: true}, func(_ any, err error) {
			revoked = err == nil
		})
	})
}

// play tries one of several tricks.
func (r *rogue) play(all []trick) {
	all = slices.DeleteFunc(all, func(t trick) bool { return !t.to.up || t.to.crooked() || !r.n.w.reach(r.n, t.to) })
	if len(all) == 0 {
		return
	}
	t := all[r.rnd.IntN(len(all))]
	w, to := r.n.w, t.to
	var body []byte
	if t.body != nil {
		body = wire.Marshal(t.body)
	}
	r.Tried++
	if r.Tricks == nil {
		r.Tricks = map[string]int{}
	}
	r.Tricks[t.name]++
	objects, err := w.notary.open(to.core.Market(), t.objects)
	if (err != nil) != t.forged {
		w.broken(to, "N1", "%s: verifying it gives %v", t.name, err)
		return
	}
	if err != nil {
		r.Refused++
		return
	}
	to.step(step.Tick{}) // what time brings comes first
	if !to.up {
		return
	}
	to.number++
	id := to.number
	to.step(step.Request{ID: id, From: r.n.key, Peer: r.n.addr, Proto: t.proto, Op: t.op, Objects: objects, Body: body})
	if w.failure != nil {
		return
	}
	out := to.history[(to.told-1)%uint64(len(to.history))].out
	code, answered := step.RefusalCode(0), false
	for _, a := range out.Replies {
		if a.ID == id {
			answered = true
			if a.Refusal != nil {
				code = a.Refusal.Code
				if a.Refusal.Reason == "" {
					w.broken(to, "N1", "%s is refused without a reason", t.name)
				}
			}
		}
	}
	switch {
	case code == step.RefuseDisk || code == step.RefuseQuarantine:
	case !answered || !slices.Contains(t.want, code):
		w.broken(to, "N1", "%s is answered (%v) with code %d, want one of %v", t.name, answered, code, t.want)
	case len(out.Rows)+len(out.Guards)+len(out.Pods)+len(out.Publish) > 0:
		w.broken(to, "N1", "%s has an effect: %d rows, %d guards, %d wishes for pods, %d publications", t.name, len(out.Rows), len(out.Guards), len(out.Pods), len(out.Publish))
	}
	if code != 0 {
		r.Refused++
	}
}

// forge signs a message, whoever is to be its signer.
func (r *rogue) forge(m wire.Message) wire.Object { return r.forgeFor(r.n.w.notary.market, m) }

func (r *rogue) forgeFor(m wire.Market, msg wire.Message) wire.Object {
	o, err := wire.Seal(m, r.n.sign, msg)
	if err != nil {
		panic("simnet: " + err.Error())
	}
	return o
}

// tricks are what can be tried with a lease of one's own, and with what others have.
func (r *rogue) tricks(d consumer.Documents) []trick {
	w, me := r.n.w, r.n
	op, h := w.nodes[0], w.byAddr[d.View.Host]
	t, err := wire.Decode[market.Terms](d.Terms)
	res, err2 := wire.Decode[ledger.Reservation](d.Reservation)
	if err != nil || err2 != nil || d.Cert.IsZero() {
		return nil
	}
	lease := func(op step.Op, name string, m wire.Message, want ...step.RefusalCode) trick {
		return trick{name: name, to: h, proto: step.ProtoLease, op: op, objects: []wire.Object{r.forge(m)}, want: want}
	}
	bank := func(op2 step.Op, name string, body any, m wire.Message, want ...step.RefusalCode) trick {
		k := trick{name: name, to: op, proto: step.ProtoBank, op: op2, body: body, want: want}
		if m != nil {
			k.objects = []wire.Object{r.forge(m)}
		}
		return k
	}
	v := ledger.Voucher{Reservation: res.ID, Lease: t.Lease, By: me.addr, Host: h.addr, Total: 1, Minute: 1, Usage: identity.Hash{1}, Seq: 1 << 40}
	with := func(change func(*ledger.Voucher)) ledger.Voucher {
		c := v
		change(&c)
		return c
	}
	minute := w.charter.Clock().Minute(h.clock())
	otherMarket := wire.NewMarket(identity.Hash{9}, w.charter.ChainID, identity.Address{})
	all := []trick{
		lease(step.OpVoucher, "a voucher for an entry that there is not", v, step.RefuseStale, step.RefuseVoucher),
		lease(step.OpVoucher, "a voucher over the reservation", with(func(v *ledger.Voucher) { v.Total = res.Cap + ledger.Credit }), step.RefuseVoucher, step.RefuseStale),
		lease(step.OpVoucher, "a voucher of all the money there can be", with(func(v *ledger.Voucher) { v.Total = 1<<63 - 1 }), step.RefuseVoucher),
		lease(step.OpVoucher, "a voucher of another reservation", with(func(v *ledger.Voucher) { v.Reservation = wire.ID{7} }), step.RefuseVoucher),
		lease(step.OpVoucher, "a voucher for another host", with(func(v *ledger.Voucher) { v.Host = op.addr }), step.RefuseVoucher),
		lease(step.OpVoucher, "a voucher of no lease", with(func(v *ledger.Voucher) { v.Lease = wire.ID{7} }), step.RefuseUnknown),
		lease(step.OpAlive, "a keep-alive of a clock that is ahead", market.Alive{By: me.addr, Host: h.addr, Lease: t.Lease, Nonce: 1, Top: minute + 2, Answered: 1}, step.RefuseClock),
		lease(step.OpAlive, "a keep-alive for another host", market.Alive{By: me.addr, Host: op.addr, Lease: t.Lease, Nonce: 1, Top: minute, Answered: 0}, step.RefuseBadRequest),
		lease(step.OpCommand, "a command for another host", market.Command{Consumer: me.addr, Host: op.addr, Lease: t.Lease, Seq: 1 << 40, Order: market.CommandRemove, At: me.clock()}, step.RefuseBadRequest),
		lease(step.OpCommand, "a command of no lease", market.Command{Consumer: me.addr, Host: h.addr, Lease: wire.ID{7}, Seq: 1, Order: market.CommandRemove, At: me.clock()}, step.RefuseUnknown),
		{name: "a voucher of another market", to: h, proto: step.ProtoLease, op: step.OpVoucher, objects: []wire.Object{r.forgeFor(otherMarket, v)}, forged: true},
		bank(step.OpTransfer, "a transfer of all the money there can be", nil, ledger.Transfer{From: me.addr, To: h.addr, Operator: op.addr, ID: r.rnd.id(), Amount: 1<<63 - 1, At: me.clock()}, step.RefuseFunds, step.RefuseLimit),
		bank(step.OpPayout, "a payout of what was not earned", nil, ledger.PayoutRequest{Account: me.addr, Operator: op.addr, ID: r.rnd.id(), Amount: 1<<63 - 1, At: me.clock()}, step.RefuseFunds),
		bank(step.OpReserve, "a reservation without a quote", nil, ledger.Reserve{Consumer: me.addr, Reservation: r.rnd.id(), Lease: r.rnd.id(), Host: h.addr, By: me.addr, Quote: identity.Hash{1},
			Cap: 1<<63 - 1, MaxRate: 1<<62 - 1, At: me.clock()}, step.RefuseBadRequest, step.RefuseLimit, step.RefuseMoney),
		bank(step.OpFinal, "a last word on one's own lease, in place of its host", nil, ledger.Final{Host: me.addr, Lease: t.Lease, Reservation: res.ID, At: me.clock()}, step.RefuseNotForYou),
		bank(step.OpLower, "a lowering by the consumer", nil, ledger.Lower{Host: me.addr, Lease: t.Lease, Reservation: res.ID, Seq: res.Seq, Cap: 1, At: me.clock()}, step.RefuseNotForYou, step.RefuseMoney, step.RefuseStale),
	}
	all = append(all, r.replays(t.Lease, h)...)
	all = append(all, r.ofOthers()...)
	r.deposit()
	return all
}

// replays are vouchers that the bank has had, and older ones, shown again.
func (r *rogue) replays(lease wire.ID, h *node) []trick {
	w := r.n.w
	op := w.nodes[0]
	if !op.up {
		return nil
	}
	hold, ok := op.core.Operator().Bank().HoldOf(lease)
	if !ok || hold.Voucher.Seq < 2 || hold.CloseAt != 0 {
		return nil
	}
	var all []trick
	for seq := hold.Voucher.Seq - 1; seq <= hold.Voucher.Seq; seq++ {
		o, ok := w.entry(h, lease, seq)
		u, err := wire.Decode[ledger.Usage](o)
		if !ok || err != nil {
			return nil
		}
		v := hold.Voucher
		v.Seq, v.Usage, v.Total, v.Minute = seq, o.Ref(w.notary.market), u.Owed(), u.Last()
		name := "a voucher again"
		if seq < hold.Voucher.Seq {
			name = "an older voucher"
		}
		objects := []wire.Object{r.forge(v), o}
		all = append(all,
			trick{name: name, to: h, proto: step.ProtoLease, op: step.OpVoucher, objects: objects[:1], want: []step.RefusalCode{0}},
			trick{name: name + ", to the bank", to: op, proto: step.ProtoBank, op: step.OpSettle, objects: objects, want: []step.RefusalCode{0}},
		)
	}
	return all
}

// entry is an entry of a lease's usage chain, as its host signed it.
func (w *world) entry(h *node, lease wire.ID, seq uint64) (wire.Object, bool) {
	var u wire.Object
	b, ok := h.disk.rows[string(table.Key(table.Usage, lease[:], table.Uint64(seq)))]
	if !ok || wire.Load(b, &u) != nil {
		return u, false
	}
	u, err := w.notary.sign(w.notary.market, h.sign, u)
	return u, err == nil
}

// ofOthers are tricks with a lease of somebody else.
func (r *rogue) ofOthers() []trick {
	w, me := r.n.w, r.n
	op := w.nodes[0]
	var all []trick
	for _, n := range w.nodes {
		if n.host != nil || n.crooked() || n == op {
			continue
		}
		var rows []string
		for k := range n.disk.rows {
			if table.Table(k[0]) == table.Voucher {
				rows = append(rows, k)
			}
		}
		slices.Sort(rows)
		if len(rows) == 0 {
			continue
		}
		var o wire.Object
		if wire.Load(n.disk.rows[rows[r.rnd.IntN(len(rows))]], &o) != nil {
			continue
		}
		x, err := wire.Decode[ledger.Voucher](o)
		h := w.byAddr[x.Host]
		if err != nil || h == nil || w.check.claims.lives[x.Lease] == nil {
			continue
		}
		theirs, err := w.notary.sign(w.notary.market, n.sign, o)
		if err != nil {
			continue
		}
		if u, ok := w.entry(h, x.Lease, x.Seq); ok {
			all = append(all, trick{name: "a settlement by one who is neither host nor consumer", to: op, proto: step.ProtoBank, op: step.OpSettle,
				objects: []wire.Object{theirs, u}, want: []step.RefusalCode{step.RefuseNotForYou}})
		}
		more := x
		more.Total, more.Seq = more.Total+ledger.Credit, more.Seq+1
		mine := more
		mine.By = me.addr
		all = append(all,
			trick{name: "a voucher in another's name", to: h, proto: step.ProtoLease, op: step.OpVoucher, objects: []wire.Object{r.forge(more)}, forged: true},
			trick{name: "a voucher for another's lease", to: h, proto: step.ProtoLease, op: step.OpVoucher, objects: []wire.Object{r.forge(mine)}, want: []step.RefusalCode{step.RefuseUnknown}},
			trick{name: "another's voucher", to: h, proto: step.ProtoLease, op: step.OpVoucher, objects: []wire.Object{theirs}, want: []step.RefusalCode{step.RefuseUnknown}},
			trick{name: "a stop for another's lease", to: h, proto: step.ProtoLease, op: step.OpCommand, want: []step.RefusalCode{step.RefuseUnknown},
				objects: []wire.Object{r.forge(market.Command{Consumer: me.addr, Host: h.addr, Lease: x.Lease, Seq: 1 << 40, Order: market.CommandStop, At: me.clock()})}},
			trick{name: "a close of another's lease", to: op, proto: step.ProtoBank, op: step.OpClose, want: []step.RefusalCode{step.RefuseNotForYou},
				objects: []wire.Object{r.forge(ledger.Close{Consumer: me.addr, Lease: x.Lease, Reservation: x.Reservation, At: me.clock()})}},
			trick{name: "a word that another's lease never was", to: op, proto: step.ProtoBank, op: step.OpNoLease, want: []step.RefusalCode{step.RefuseNotForYou},
				objects: []wire.Object{r.forge(ledger.NoLease{Host: me.addr, Lease: x.Lease, Reservation: x.Reservation, At: me.clock()})}},
			trick{name: "a look at another's reservation", to: op, proto: step.ProtoBank, op: step.OpReceipt, body: step.LeaseBody{Lease: x.Lease}, want: []step.RefusalCode{step.RefuseNotForYou}},
		)
	}
	return all
}

// outcast are tricks of one whose key is revoked.
func (r *rogue) outcast() []trick {
	w, me := r.n.w, r.n
	op := w.nodes[0]
	hello, objects := me.core.Hello()
	hello.Market = w.notary.market.ID
	me.signAll(w.notary.market, objects)
	gone := []step.RefusalCode{step.RefuseRevoked}
	all := []trick{
		{name: "a hello of a revoked key", to: op, proto: step.ProtoHello, body: hello, objects: objects, want: gone},
		{name: "a transfer of a revoked key", to: op, proto: step.ProtoBank, op: step.OpTransfer, want: gone,
			objects: []wire.Object{r.forge(ledger.Transfer{From: me.addr, To: op.addr, Operator: op.addr, ID: r.rnd.id(), Amount: ledger.Credit, At: me.clock()})}},
		{name: "a payout to a revoked key", to: op, proto: step.ProtoBank, op: step.OpPayout, want: gone,
			objects: []wire.Object{r.forge(ledger.PayoutRequest{Account: me.addr, Operator: op.addr, ID: r.rnd.id(), Amount: ledger.Credit, At: me.clock()})}},
	}
	for _, h := range w.nodes {
		if h.host == nil || !h.up || h.core.Observer().Standing(me.addr, h.clock()) == nil { // it has not heard yet
			continue
		}
		q := market.Request{Consumer: me.addr, Host: h.addr, Lease: r.rnd.id(), Bid: r.rnd.id(), Reservation: r.rnd.id(), Type: market.OnDemand, Model: h.host.devices[0].Model,
			GPUs: 1, Rate: 1 << 40, Spec: r.buyer().wish().Spec, OnEnd: market.OnEndStop, By: me.addr, At: me.clock()}
		all = append(all, trick{name: "a request of a revoked key", to: h, proto: step.ProtoLease, op: step.OpRequest, want: []step.RefusalCode{step.RefuseNotForYou}, objects: []wire.Object{r.forge(q)}})
	}
	return all
}

// deposit has the operator enter a deposit of before with another amount.
func (r *rogue) deposit() {
	w, b := r.n.w, r.buyer()
	ref := fmt.Sprintf("%s-%d", r.n.name, 1)
	w.nodes[0].local(operator.Deposit{Addr: b.n.addr.String(), Amount: 7777 * ledger.Credit, Ref: ref}, func(_ any, err error) {
		var p *step.Problem
		if !resting(err) && (!errors.As(err, &p) || p.Code != step.ProblemConflict) {
			w.broken(w.nodes[0], "N1", "a deposit of before with another amount gives %v", err)
		}
	})
}
