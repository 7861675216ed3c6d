package simnet

import (
	"errors"
	"fmt"
	"strings"

	"souk/ledger"
	"souk/market"
	"souk/node/core/consumer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// A buyer is the user of a consumer's node: it has some money, and wants pods at random.
type buyer struct {
	n        *node
	rnd      lots
	deposits int
	rich     bool
	orders   int
	failed   int
	idle     bool // it wants nothing by itself
}

func newBuyer(n *node) *buyer {
	b := &buyer{n: n, rnd: newLots(n.w.opt.Seed, "buyer/"+n.name)}
	b.rich = b.rnd.chance(0.7)
	return b
}

func (b *buyer) begin() {
	b.deposit()
	b.again(b.rnd.between(member.Second, 5*minute))
}

func (b *buyer) again(after member.Time) {
	b.n.w.plan(b.n.w.now+after, "buyer", b.n.index, b.act)
}

// deposit has the operator book money.
func (b *buyer) deposit() {
	credits := ledger.Amount(10 + b.rnd.IntN(8))
	if b.rich {
		credits = ledger.Amount(50 + b.rnd.IntN(400))
	}
	b.pay(credits * ledger.Credit)
}

// pay is one payment to the operator. While that is down, the same reference is booked later.
func (b *buyer) pay(a ledger.Amount) {
	b.deposits++
	b.book(operator.Deposit{Addr: b.n.addr.String(), Amount: a, Ref: fmt.Sprintf("%s-%d", b.n.name, b.deposits)})
}

func (b *buyer) book(d operator.Deposit) {
	w, op := b.n.w, b.n.w.nodes[0]
	done := false
	op.local(d, func(_ any, err error) {
		if done = !resting(err); done && err != nil && !b.n.crooked() {
			w.broken(op, "setup", "a deposit: %v", err)
		}
	})
	w.plan(w.now+20*member.Second, "deposit", op.index, func() {
		if !done {
			b.book(d)
		}
	})
}

// act is one thing that a buyer does; then it thinks for a while.
func (b *buyer) act() {
	if b.n.w.calm {
		return
	}
	b.again(member.Second + b.rnd.about(6*minute))
	if r := b.n.rogue; r != nil && r.act != nil {
		r.act(b)
		return
	}
	if !b.n.up || b.idle {
		return
	}
	b.n.local(consumer.List{}, func(v any, err error) {
		if err != nil {
			return
		}
		var live []consumer.View
		for _, x := range v.([]consumer.View) {
			if x.Desire != "end" && x.Principal == nil {
				live = append(live, x)
			}
		}
		if len(live) < 1+b.rnd.IntN(3) {
			b.order()
			return
		}
		b.command(live[b.rnd.IntN(len(live))])
	})
	if b.rnd.chance(0.02) {
		b.deposit()
	}
}

// command does something to a lease that fits its state.
func (b *buyer) command(v consumer.View) {
	var cmd any
	switch p := b.rnd.Float64(); {
	case v.State == "running" && p < 0.2:
		cmd = consumer.Stop{Lease: v.Lease}
	case v.State == "running" && p < 0.3, v.State == "setup" && p < 0.1, v.State == "certified" && p < 0.2:
		cmd = consumer.Remove{Lease: v.Lease}
	case v.State == "stopped" || v.State == "exited" || v.State == "outbid" || v.State == "failed":
		switch {
		case p < 0.35:
			cmd = consumer.Start{Lease: v.Lease}
		case p < 0.42:
			cmd = consumer.Start{Lease: v.Lease, Zero: true}
		case p < 0.6:
			cmd = consumer.Remove{Lease: v.Lease}
		}
	case p < 0.02, v.State == "accepting" && p < 0.3 && len(b.n.w.rogues) > 0: // a host that says nothing is given up
		cmd = consumer.Remove{Lease: v.Lease}
	}
	if cmd != nil {
		b.n.local(cmd, func(any, error) {})
	}
}

// order plans and runs a pod.
func (b *buyer) order() { b.buy(b.wish()) }

// plain orders a pod that runs until it is told to stop, and then ends at once.
func (b *buyer) plain() {
	r := b.wish()
	r.Type, r.Minutes, r.Budget, r.OnEnd, r.GPUs = market.OnDemand, 0, 0, 0, 1
	r.Spec.Image = "registry.example/app@sha256:" + strings.Repeat(fmt.Sprint(1+b.n.index%5), 64)
	r.Spec.Command = program{}.command()
	b.buy(r)
}

// beg gives all but the money for an hour of a plain pod with a volume to the operator, and orders that.
func (b *buyer) beg() {
	r := b.wish()
	r.Type, r.Minutes, r.Budget, r.OnEnd, r.GPUs = market.OnDemand, 0, 0, market.OnEndStop, 1
	r.Spec.Image, r.Spec.Command = "registry.example/app@sha256:"+strings.Repeat("1", 64), program{}.command()
	r.Spec.Volume, r.Spec.Mount = 10<<30, "/workspace"
	p := consumer.Plan{Type: r.Type, Query: r.Query, GPUs: r.GPUs, Disk: r.Spec.Disk, Volume: r.Spec.Volume, Simulated: true}
	b.n.local(p, func(v any, err error) {
		pr, ok := v.(consumer.Proposal)
		if err != nil || !ok || !pr.BankKnown {
			return
		}
		g := consumer.Give{ID: b.rnd.id(), To: b.n.w.nodes[0].addr, Amount: pr.Available - pr.Reserve - pr.Reserve/50}
		b.n.local(g, func(_ any, err error) {
			if err == nil {
				b.buy(r)
			}
		})
	})
}

func (b *buyer) buy(r consumer.Run) {
	p := consumer.Plan{Type: r.Type, Query: r.Query, GPUs: r.GPUs, MaxRate: 0, Disk: r.Spec.Disk, Volume: r.Spec.Volume, Minutes: r.Minutes, Budget: r.Budget, Simulated: true}
	b.n.local(p, func(v any, err error) {
		if err != nil {
			return // nothing is on offer
		}
		pr := v.(consumer.Proposal)
		r.Host, r.MaxRate = pr.Host, pr.Rate
		if r.Type == market.Spot {
			r.MaxRate = pr.Rate * ledger.Rate(100+b.rnd.IntN(40)) / 100
		}
		if b.rnd.chance(0.2) {
			r.Only = true
		}
		b.orders++
		b.n.local(r, func(_ any, err error) {
			if err != nil {
				b.failed++
				b.n.w.orderFailed(b.n, err)
			}
		})
	})
}

func (w *world) orderFailed(n *node, err error) {
	var p *step.Problem
	if errors.As(err, &p) && p.Code == step.ProblemVerify {
		w.broken(n, "N1", "an order among honest nodes failed: %s", p.Text)
	}
}

// wish draws what is to be run.
func (b *buyer) wish() consumer.Run {
	r := b.rnd
	image := "registry.example/app@sha256:" + strings.Repeat(fmt.Sprint(1+r.IntN(5)), 64)
	if r.chance(0.03) {
		image = "registry.example/missing@sha256:" + strings.Repeat("0", 64)
	}
	p := program{heeds: r.between(0, 3*member.Second)}
	switch x := r.Float64(); {
	case x < 0.4:
		p.life, p.code = member.Second+r.about(25*minute), int32(r.IntN(2))
	case x < 0.45:
		p.bad = true
	}
	if r.chance(0.15) {
		p.heeds = -1 // ignores SIGTERM
	}
	run := consumer.Run{
		Lease: r.id(), Reservation: r.id(), Bid: r.id(), Type: market.OnDemand, Query: "reliability=any", GPUs: uint16(1 + r.IntN(2)), Simulated: true,
		Spec: market.Spec{Image: image, Tag: "app:1", Command: p.command(), Disk: 10 << 30},
	}
	if r.chance(0.5) {
		run.Type = market.Spot
	}
	if r.chance(0.6) {
		run.Spec.Volume, run.Spec.Mount = uint64(1+r.IntN(100))<<30, "/workspace"
	}
	if r.chance(0.3) {
		run.Minutes = uint64(1 + r.IntN(60))
	}
	if r.chance(0.2) {
		run.Budget = ledger.Amount(1+r.IntN(2000)) * ledger.Credit / 1000
	}
	if r.chance(0.3) {
		run.OnEnd = market.OnEndRemove
	}
	run.Away.Off = r.chance(0.4)
	if b.n.rogue != nil && b.n.rogue.cheat == CheatSilentUnseen {
		run.Away = b.n.rogue.away()
	}
	if len(b.n.w.rogues) > 0 {
		return run // what attendants add to cheats is not played yet
	}
	if other := b.n.w.buyers[r.IntN(len(b.n.w.buyers))]; r.chance(0.3) && other != b {
		run.Attendant = other.n.addr.String()
	}
	return run
}

// attends is for whom a node attends, and where those are that attend for it: every buyer does for every other.
func (w *world) attends(n *node) (who []identity.Address, where []step.Contact) {
	for _, b := range w.buyers {
		if n.host == nil && n != w.nodes[0] && b.n != n {
			who = append(who, b.n.addr)
			where = append(where, step.Contact{Key: b.n.key, Addrs: []string{b.n.place()}})
		}
	}
	return who, where
}

// windUp removes all that is left, and keeps at it.
func (b *buyer) windUp() {
	w := b.n.w
	if !b.n.up {
		return
	}
	b.n.local(consumer.List{}, func(v any, err error) {
		if err != nil {
			return
		}
		for _, x := range v.([]consumer.View) {
			if x.Principal == nil && x.Desire != "end" && x.State != market.StateEnded.String() {
				b.n.local(consumer.Remove{Lease: x.Lease}, func(any, error) {})
			}
		}
	})
	w.plan(w.now+minute, "wind up", b.n.index, b.windUp)
}
