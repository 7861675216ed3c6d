package simnet

import (
	"errors"
	"fmt"

	"souk/ledger"
	"souk/node/core/host"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// models are the GPUs that hosts have, and what they cost per hour on demand.
var models = []struct {
	name   string
	memory uint32
	price  ledger.Rate
}{
	{"RTX_4090", 24 << 10, 340_000_000}, {"H100_SXM", 80 << 10, 2_490_000_000}, {"A100_PCIE", 40 << 10, 1_190_000_000}, {"L4", 24 << 10, 430_000_000},
}

// populate makes the nodes and has them join.
func (w *world) populate() {
	rnd := newLots(w.opt.Seed, "people")
	testnet := rnd.chance(0.5)
	count := 1 + w.opt.Hosts + w.opt.Consumers
	w.links = make([]link, count*count)
	op := w.add("operator", rnd)
	for i := range w.opt.Hosts {
		n := w.add(fmt.Sprintf("host-%d", i+1), rnd)
		w.equip(n, rnd, testnet)
	}
	for i := range w.opt.Consumers {
		n := w.add(fmt.Sprintf("consumer-%d", i+1), rnd)
		w.buyers = append(w.buyers, newBuyer(n))
	}
	for _, n := range w.nodes {
		n.boot()
	}
	w.found(op, testnet, rnd)
}

func (w *world) add(name string, rnd lots) *node {
	secret := rnd.hash()
	secret[0] &= 0x7f // below the order of the curve
	key, err := identity.ParsePrivateKey(secret[:])
	if err != nil {
		panic("simnet: " + err.Error())
	}
	n := &node{w: w, index: len(w.nodes), name: name, key: key.Public(), addr: key.Address(), disk: newDisk()}
	n.skew = rnd.between(-mostSkew, mostSkew)
	n.sign = signer{w.notary, n.addr}
	if w.opt.sabotage == sabotageForget {
		l := newLots(w.opt.Seed, "forgets/"+name)
		n.disk.forgets = &l
	}
	w.nodes = append(w.nodes, n)
	w.byAddr[n.addr] = n
	return n
}

// mostSkew keeps any two clocks within the policy's 30 s of each other.
const mostSkew = 14 * member.Second

// equip gives a host its GPUs.
func (w *world) equip(n *node, rnd lots, simulated bool) {
	var devices []member.Device
	for range 1 + rnd.IntN(2) {
		m := models[rnd.IntN(len(models))]
		for range 1 + rnd.IntN(4) {
			devices = append(devices, member.Device{UUID: fmt.Sprintf("GPU-%s-%02d", n.name, len(devices)), Model: m.name, MemoryMiB: m.memory, Simulated: simulated})
		}
	}
	n.host = newMachine(n, devices, "docker")
}

// found founds the market and invites everybody.
func (w *world) found(op *node, testnet bool, rnd lots) {
	w.charter = member.Charter{
		Salt: rnd.id(), Name: "simulated", Founded: w.now, ChainID: member.DefaultChainID, Operators: []identity.PublicKey{op.key},
		Threshold: 1, Testnet: testnet, Slot: 60,
	}
	p := member.DefaultPolicy(op.addr, op.clock())
	p.Fee = uint32(rnd.IntN(3) * 25_000)
	p.MinReliability = 0 // hosts that crash for the sake of it should find buyers
	p.CloseAfter, p.DataHold = closeAfter, dataHold
	p.Bootstrap = []string{"/ip4/10.0.0.0/tcp/4001"}
	w.notary.market = w.charter.Market()
	op.local(observer.Found{Charter: w.charter, Policy: p, Alias: "bank"}, func(_ any, err error) {
		if err != nil {
			w.broken(op, "setup", "founding: %v", err)
			return
		}
		for _, n := range w.nodes[1:] {
			w.invite(op, n, rnd)
		}
	})
}

func (w *world) invite(op, n *node, rnd lots) {
	c := operator.InviteCreate{Secret: rnd.id(), Role: member.RoleConsumer}
	if n.host != nil {
		c.Role, c.Tier = member.RoleHost, member.TierSecure
	}
	op.local(c, func(v any, err error) {
		if err != nil {
			w.broken(op, "setup", "inviting %s: %v", n.name, err)
			return
		}
		i, err := member.ParseInvite(v.(operator.Invitation).Code)
		if err != nil {
			w.broken(op, "setup", "%v", err)
			return
		}
		n.local(observer.Look{Invite: i}, func(_ any, err error) {
			if err != nil {
				w.broken(n, "setup", "looking: %v", err)
				return
			}
			w.joins(op, n, i)
		})
	})
}

func (w *world) joins(op, n *node, i member.Invite) {
	j := observer.Join{Invite: i, Alias: n.name}
	if n.host != nil {
		j.Devices, j.Machine = n.host.devices, n.host.hardware
	}
	n.local(j, func(v any, err error) {
		if err != nil {
			w.broken(n, "setup", "joining: %v", err)
			return
		}
		if n.host == nil {
			return
		}
		op.local(operator.Approve{Addr: n.addr.String()}, func(_ any, err error) {
			if err != nil {
				w.broken(op, "setup", "approving %s: %v", n.name, err)
			}
		})
	})
}

// checkJoined checks that all are members, and sends everybody about their business.
func (w *world) checkJoined() {
	for _, n := range w.nodes {
		if !n.up || !n.core.Observer().Founded() || n.core.Observer().Standing(n.addr, n.clock()) != nil {
			w.broken(n, "setup", "%s has not become a member", n.name)
			return
		}
	}
	for _, n := range w.nodes {
		if n.host != nil {
			newSeller(n).begin()
		}
	}
	for _, b := range w.buyers {
		b.begin()
	}
}

// A seller is the owner of a host.
type seller struct {
	n     *node
	rnd   lots
	price ledger.Rate
	grace uint16
}

func newSeller(n *node) *seller {
	s := &seller{n: n, rnd: newLots(n.w.opt.Seed, "seller/"+n.name)}
	for _, m := range models {
		if m.name == n.host.devices[0].Model {
			s.price = m.price
		}
	}
	s.price = s.price * ledger.Rate(80+s.rnd.IntN(40)) / 100
	s.grace = uint16(5 + 5*s.rnd.IntN(3))
	return s
}

func (s *seller) begin() {
	s.n.w.check.grace[s.n.addr] = member.Time(s.grace) * member.Second
	s.advertise()
	s.n.w.plan(s.n.w.now+s.rnd.about(3*member.Hour), "seller", s.n.index, s.change)
}

func (s *seller) advertise() {
	cmd := host.Advertise{Price: s.price, Floor: s.price * ledger.Rate(30+s.rnd.IntN(30)) / 100, Grace: s.grace, Region: "CZ"}
	s.n.local(cmd, func(_ any, err error) {
		if err != nil && !resting(err) { // then what was advertised last stays
			s.n.w.broken(s.n, "setup", "advertising: %v", err)
		}
	})
}

// resting reports whether a command failed for want of room on the disk.
func resting(err error) bool {
	var p *step.Problem
	return errors.As(err, &p) && p.Code == step.ProblemDisk
}

// change is what a seller does now and then: another price, or a while off the market.
func (s *seller) change() {
	w := s.n.w
	if w.calm {
		return
	}
	if s.n.up && !s.n.host.down && s.n.wellUp() {
		if s.rnd.chance(0.3) {
			s.n.local(host.Withdraw{}, func(any, error) {})
		} else {
			s.price = s.price * ledger.Rate(90+s.rnd.IntN(22)) / 100
			s.advertise()
		}
	}
	w.plan(w.now+s.rnd.about(2*member.Hour), "seller", s.n.index, s.change)
}

// wellUp reports whether the node has found its inventory again after a start.
func (n *node) wellUp() bool { return n.up && len(n.core.Host().Table().Slots) > 0 && n.ready }
