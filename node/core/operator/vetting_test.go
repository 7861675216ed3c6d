package operator_test

import (
	"errors"
	"slices"
	"testing"

	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

func TestApproveChangesAMemberByANewSerial(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, consumer := b.joined(2, member.RoleHost).Address(), b.joined(3, member.RoleConsumer).Address()
		m := do[operator.MemberView](b, operator.Approve{Addr: host.String(), Tier: member.TierSecure, Alias: "big", MaxGPUs: 4})
		if m.Serial != 2 || m.Tier != "secure" || m.Alias != "big" || m.MaxGPUs != 4 {
			t.Fatalf("got %+v", m)
		}
		if again := do[operator.MemberView](b, operator.Approve{Addr: "big"}); again != m {
			t.Fatalf("again: got %+v", again)
		}
		b.fails(operator.Approve{Addr: consumer.String(), Tier: member.TierSecure}, step.ProblemUsage)
		b.fails(operator.Approve{Addr: consumer.String(), Alias: "big"}, step.ProblemConflict)
		b.fails(operator.Approve{Addr: consumer.String(), Alias: "a b"}, step.ProblemUsage)
		b.fails(operator.Approve{Addr: host.String(), Tier: 7}, step.ProblemUsage)
		b.fails(operator.Approve{Addr: key(9).Address().String()}, step.ProblemNotFound)
		if v := do[operator.ApplicantView](b, operator.Applicant{Addr: "big"}); v.Member == nil || *v.Member != m || v.Sanction != nil {
			t.Fatalf("got %+v", v)
		}
		if list := do[[]operator.MemberView](b, operator.Members{}); len(list) != 3 {
			t.Fatalf("got %d members, want operator, host and consumer", len(list))
		}
	})
}

func TestCredentialRenewsItselfFromItsFirstDay(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		k := b.joined(2, member.RoleHost)
		renew := func(p step.Protocol) answer { return b.ask(k, p, step.OpRenew, step.RenewBody{Serial: 1}) }
		steps := []struct {
			after  member.Time // since the join
			proto  step.Protocol
			serial uint64
		}{
			{0, step.ProtoBank, 1},
			{24*member.Hour - 1, step.ProtoBank, 1},
			{24 * member.Hour, step.ProtoBank, 2},
			{25 * member.Hour, step.ProtoJoin, 2},
			{24*member.Hour + 72*member.Hour, step.ProtoJoin, 3},                 // it has just ended
			{96*member.Hour + 102*member.Day - 72*member.Day, "/souk/join/1", 4}, // ended 27 days ago
		}
		for _, s := range steps {
			b.now = noon + s.after
			c := object[member.Credential](b, renew(s.proto))
			if c.Serial != s.serial || c.Address() != k.Address() || c.Tier != member.TierCommunity || b.now >= c.NotAfter {
				t.Fatalf("at +%v: got serial %d until %v, want %d", s.after.Span(), c.Serial, c.NotAfter, s.serial)
			}
		}
		c, _, _ := b.world.Credential(k.Address())
		b.now = c.NotAfter + 30*member.Day
		b.refuses(renew(step.ProtoJoin), step.RefuseNoCredential)
		m := do[operator.MemberView](b, operator.Approve{Addr: k.Address().String()})
		if m.Serial != 5 || m.Standing != "good" {
			t.Fatalf("approved again: got %+v", m)
		}
		b.refuses(b.ask(key(9), step.ProtoJoin, step.OpRenew, step.RenewBody{}), step.RefuseNoCredential)
	})
}

func TestOperatorRenewsItsOwnCredential(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		own := func() member.Credential { c, _, _ := b.world.Credential(b.op.Address()); return c }
		if c := own(); c.Serial != 1 || c.Roles != member.RoleOperator {
			t.Fatalf("got %+v", c)
		}
		_, wake := b.tick()
		if c := own(); c.Serial != 1 || wake > c.NotBefore+24*member.Hour {
			t.Fatalf("serial %d, wake %v", c.Serial, wake)
		}
		b.now += 24 * member.Hour
		b.tick()
		if c := own(); c.Serial != 2 || c.NotBefore != b.now {
			t.Fatalf("got %+v", c)
		}
	})
}

func TestSanctions(t *testing.T) {
	const suspend, revoke, reinstate = member.Suspend, member.Revoke, member.Reinstate
	cases := []struct {
		name string
		do   []operator.Sanction
		want step.ProblemCode // of the last
		ends error            // standing afterwards
		made uint64           // revocations
	}{
		{"suspend", []operator.Sanction{{What: suspend}}, 0, member.ErrSuspended, 1},
		{"suspend twice", []operator.Sanction{{What: suspend}, {What: suspend}}, 0, member.ErrSuspended, 1},
		{"suspend, then for fraud", []operator.Sanction{{What: suspend}, {What: suspend, Fraud: true}}, 0, member.ErrSuspended, 2},
		{"suspend and reinstate", []operator.Sanction{{What: suspend}, {What: reinstate}}, 0, nil, 2},
		{"reinstate nobody", []operator.Sanction{{What: reinstate}}, step.ProblemConflict, nil, 0},
		{"reinstate for fraud", []operator.Sanction{{What: suspend}, {What: reinstate, Fraud: true}}, step.ProblemUsage, member.ErrSuspended, 1},
		{"revoke", []operator.Sanction{{What: revoke}}, 0, member.ErrRevoked, 1},
		{"suspend and revoke", []operator.Sanction{{What: suspend}, {What: revoke}}, 0, member.ErrRevoked, 2},
		{"nothing lifts a revocation", []operator.Sanction{{What: revoke}, {What: reinstate}}, step.ProblemConflict, member.ErrRevoked, 1},
		{"no such sanction", []operator.Sanction{{What: 9}}, step.ProblemUsage, nil, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, b *bench) {
				k := b.joined(2, member.RoleHost)
				for i, s := range c.do {
					s.Addr, s.Reason = k.Address().String(), "because"
					if i == len(c.do)-1 && c.want != 0 {
						b.fails(s, c.want)
					} else if v := do[operator.SanctionView](b, s); v.Sanction != s.What.String() || v.Subject != k.Address() {
						t.Fatalf("got %+v", v)
					}
				}
				if err := b.world.Standing(k.Address(), b.now); !errors.Is(err, c.ends) {
					t.Fatalf("standing: got %v, want %v", err, c.ends)
				}
				if n, _ := b.world.LastRevocation(); n != c.made {
					t.Fatalf("%d revocations, want %d", n, c.made)
				}
				if c.ends == nil {
					return
				}
				b.now += 25 * member.Hour
				b.refuses(b.ask(k, step.ProtoBank, step.OpRenew, step.RenewBody{}), step.RefuseRevoked)
				b.fails(operator.Approve{Addr: k.Address().String()}, step.ProblemConflict)
			})
		})
	}
	b := newBench(t, false)
	b.fails(operator.Sanction{Addr: b.op.Address().String(), What: suspend, Reason: "me"}, step.ProblemUsage)
	b.fails(operator.Sanction{Addr: key(2).Address().String(), What: suspend}, step.ProblemUsage) // no reason
}

func TestResolveTakesAddressPrefixAndAlias(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		a := b.joined(2, member.RoleHost).Address()
		do[operator.MemberView](b, operator.Approve{Addr: a.String(), Alias: "big"})
		lower := "0x" + string([]byte(a.String())[2:8])
		for _, ref := range []string{a.String(), a.Short(), a.Short()[2:], lower, "big"} {
			if n := do[operator.Name](b, operator.Resolve{Ref: ref}); n.Address != a || n.Alias != "big" {
				t.Fatalf("%q: got %+v", ref, n)
			}
		}
		if n := do[operator.Name](b, operator.Resolve{Ref: key(9).Address().String()}); n.Address != key(9).Address() {
			t.Fatalf("a whole unknown address: got %+v", n)
		}
		b.fails(operator.Resolve{Ref: a.String()[:5]}, step.ProblemNotFound) // three digits
		b.fails(operator.Resolve{Ref: ""}, step.ProblemNotFound)
		b.fails(operator.Resolve{Ref: "0x" + string(make([]byte, 40))}, step.ProblemUsage)
		// An alias that is also the beginning of another's address names nobody for sure.
		c := b.joined(3, member.RoleConsumer).Address()
		do[operator.MemberView](b, operator.Approve{Addr: c.String(), Alias: a.Short()[2:8]})
		b.fails(operator.Resolve{Ref: a.Short()[2:8]}, step.ProblemUsage)
	})
}

func TestNewAddressesMakeTheNextPolicy(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		boot := func(addrs ...string) member.Policy {
			b.boot.Addrs = addrs
			b.step(func(ctx *step.Context) { b.o.Boot(ctx) })
			p, _ := b.world.Policy()
			return p
		}
		first, second := "/ip4/192.0.2.1/tcp/4001", "/ip4/192.0.2.2/tcp/4001"
		if p := boot(first); p.Number != 1 {
			t.Fatalf("the same address made policy %d", p.Number)
		}
		if p := boot(); p.Number != 1 {
			t.Fatalf("no address made policy %d", p.Number)
		}
		b.now += member.Hour
		if p := boot(second, first, first); p.Number != 2 || p.Effective != b.now || !slices.Equal(p.Bootstrap, []string{first, second}) || p.Fee != 50_000 {
			t.Fatalf("got %+v", p)
		}
		if p := boot(first, second); p.Number != 2 {
			t.Fatalf("another order made policy %d", p.Number)
		}
		if v := do[operator.PolicyView](b, operator.Bootstrap{Addrs: []string{second}}); v.Number != 3 || !slices.Equal(v.Bootstrap, []string{second}) {
			t.Fatalf("got %+v", v)
		}
		b.fails(operator.Bootstrap{}, step.ProblemUsage)
		b.fails(operator.Bootstrap{Addrs: []string{"example.org"}}, step.ProblemUsage)
	})
}

func TestMemberOfAnotherOperatorStaysThere(t *testing.T) {
	b := newBench(t, true)
	k := b.joined(2, member.RoleHost)
	b.world.charter.Operators = append(b.world.charter.Operators, key(8).Public())
	b.world.Roster = member.NewRoster(b.world.charter)
	c := member.Credential{Subject: k.Public(), Issuer: key(8).Address(), Owner: k.Address(), Roles: member.RoleHost, Tier: member.TierSecure,
		Serial: 9, NotBefore: noon, NotAfter: noon + 72*member.Hour}
	if err := b.world.Admit(c, wire.Draft(c)); err != nil {
		t.Fatal(err)
	}
	b.now += 25 * member.Hour
	b.refuses(b.ask(k, step.ProtoBank, step.OpRenew, step.RenewBody{Serial: 9}), step.RefuseNotForYou)
	b.fails(operator.Approve{Addr: k.Address().String(), Tier: member.TierCommunity}, step.ProblemConflict)
	secret := b.invite(member.RoleConsumer)
	b.refuses(b.join(k, secret, b.request(k, secret, member.RoleConsumer)), step.RefuseNotForYou)
}

func TestAddressesOfOtherOperatorsStay(t *testing.T) {
	b := newBench(t, false)
	b.world.charter.Operators = append(b.world.charter.Operators, key(8).Public())
	b.boot.Addrs = []string{"/ip4/192.0.2.9/tcp/4001"}
	b.step(func(ctx *step.Context) { b.o.Boot(ctx) })
	if p, _ := b.world.Policy(); !slices.Equal(p.Bootstrap, []string{"/ip4/192.0.2.9/tcp/4001", "/ip4/192.0.2.1/tcp/4001"}) {
		t.Fatalf("got %v", p.Bootstrap)
	}
}
