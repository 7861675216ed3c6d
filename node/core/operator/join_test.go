package operator_test

import (
	"testing"

	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

func TestInviteIsABearerCodeOfWhichOnlyAHashIsKept(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		secret := wire.ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
		b.secrets = append(b.secrets, secret)
		c := operator.InviteCreate{Secret: secret, Role: member.RoleHost, Tier: member.TierSecure, MaxGPUs: 8, Note: "rack 4"}
		made := do[operator.Invitation](b, c)
		i, err := member.ParseInvite(made.Code)
		if err != nil || i.Secret != secret || i.Market != b.open.Market.ID || i.Operator != b.op.Public() || i.Addrs[0] != b.boot.Addrs[0] || i.Role != c.Role {
			t.Fatalf("code: got %+v, %v", i, err)
		}
		if made.Expires != noon+7*member.Day || made.State != "open" || made.ID != i.SecretHash().Short() {
			t.Fatalf("got %+v", made)
		}
		if again := do[operator.Invitation](b, c); again != made {
			t.Fatalf("again: got %+v, want %+v", again, made)
		}
		c.MaxGPUs = 4
		b.fails(c, step.ProblemConflict)
		if list := do[[]operator.InviteView](b, operator.InviteList{}); len(list) != 1 || list[0] != made.InviteView {
			t.Fatalf("list: got %+v", list)
		}
		if v := do[operator.InviteView](b, operator.InviteRevoke{ID: made.ID}); v.State != "revoked" {
			t.Fatalf("revoke: got %+v", v)
		}
		b.fails(operator.InviteRevoke{ID: "ffffffff"}, step.ProblemNotFound)
	})
}

func TestInviteCreateRefuses(t *testing.T) {
	b := newBench(t, false)
	s := wire.ID{1}
	for name, c := range map[string]operator.InviteCreate{
		"no secret":        {Role: member.RoleHost},
		"no role":          {Secret: s},
		"operator":         {Secret: s, Role: member.RoleOperator},
		"two roles":        {Secret: s, Role: member.RoleHost | member.RoleConsumer},
		"tier of consumer": {Secret: s, Role: member.RoleConsumer, Tier: member.TierSecure},
		"GPUs of consumer": {Secret: s, Role: member.RoleConsumer, MaxGPUs: 1},
		"unknown tier":     {Secret: s, Role: member.RoleHost, Tier: 9},
		"too many GPUs":    {Secret: s, Role: member.RoleHost, MaxGPUs: 65},
		"negative life":    {Secret: s, Role: member.RoleHost, Life: -1},
		"two years":        {Secret: s, Role: member.RoleHost, Life: 730 * member.Day},
		"no address":       {Secret: s, Role: member.RoleHost, Addrs: []string{"192.0.2.1:4001"}},
	} {
		t.Run(name, func(t *testing.T) { b.t = t; b.fails(c, step.ProblemUsage) })
	}
}

func TestJoinRefuses(t *testing.T) {
	host, other := key(2), key(5)
	cases := []struct {
		name   string
		want   step.RefusalCode
		real   bool // not a testnet
		change func(b *bench, secret *wire.ID, body *step.JoinBody, j *member.JoinRequest)
	}{
		{"a secret never issued", step.RefuseInviteForeign, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			body.Secret = wire.ID{1}
		}},
		{"a code of another market", step.RefuseInviteForeign, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			body.Market = identity.Hash{1}
		}},
		{"a request signed for another code", step.RefuseInviteForeign, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			j.Secret = identity.Hash{1}
		}},
		{"a code that ended", step.RefuseInviteExpired, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			b.now += operator.InviteLife
		}},
		{"a code taken back", step.RefuseInviteExpired, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			do[operator.InviteView](b, operator.InviteRevoke{ID: member.Invite{Secret: *s}.SecretHash().String()})
		}},
		{"a code used by another key", step.RefuseInviteUsed, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			b.join(other, *s, b.request(other, *s, member.RoleHost))
		}},
		{"another's request", step.RefuseNotForYou, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			j.Subject = other.Public()
		}},
		{"another role", step.RefuseInviteRole, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			j.Role = member.RoleConsumer
		}},
		{"another agreement", step.RefuseAgreement, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			j.Agreement = identity.Hash{1}
		}},
		{"more GPUs than the code allows", step.RefuseInviteRole, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			*s = wire.ID{42}
			body.Secret, j.Secret = *s, member.Invite{Secret: *s}.SecretHash()
			do[operator.Invitation](b, operator.InviteCreate{Secret: *s, Role: member.RoleHost, MaxGPUs: 1})
			j.Devices = append(j.Devices, member.Device{UUID: "GPU-2", Model: "RTX_4090"})
		}},
		{"a GPU listed twice", step.RefuseBadRequest, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			j.Devices = append(j.Devices, j.Devices[0])
		}},
		{"simulated GPUs outside a testnet", step.RefuseBadRequest, true, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			j.Devices[0].Simulated = true
		}},
		{"plain processes outside a testnet", step.RefuseBadRequest, true, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			j.Machine.Runtime = "process"
		}},
		{"an alias like an address", step.RefuseBadRequest, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			j.Alias = "0xabcd"
		}},
		{"an alias with an escape", step.RefuseBadRequest, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			j.Alias = "a\x1b[2J"
		}},
		{"a revoked key", step.RefuseRevoked, false, func(b *bench, s *wire.ID, body *step.JoinBody, j *member.JoinRequest) {
			do[operator.SanctionView](b, operator.Sanction{Addr: host.Address().String(), What: member.Revoke, Reason: "known thief"})
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newMarket(t, true, !c.real)
			secret := b.invite(member.RoleHost)
			j := b.request(host, secret, member.RoleHost)
			body := step.JoinBody{Secret: secret, Market: b.open.Market.ID}
			c.change(b, &secret, &body, &j)
			signer := host
			if j.Subject == other.Public() {
				signer = other
			}
			b.refuses(b.ask(host, step.ProtoJoin, step.OpJoin, body, seal(b, signer, j)), c.want)
			if _, _, in := b.world.Credential(host.Address()); in {
				t.Fatal("it has a credential")
			}
		})
	}
	b := newBench(t, false)
	b.refuses(b.ask(host, step.ProtoJoin, step.OpJoin, nil), step.RefuseBadRequest)
	b.refuses(b.ask(host, step.ProtoJoin, step.OpReserve, nil), step.RefuseBadRequest)
}

func TestLookShowsTheMarketAndUsesNothing(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		secret := b.invite(member.RoleHost)
		for _, k := range []*identity.PrivateKey{key(2), key(5)} {
			a := b.ask(k, step.ProtoJoin, step.OpJoin, step.JoinBody{Secret: secret, Market: b.open.Market.ID})
			if s := state(b, a); s != step.JoinPending || len(a.out.Rows) > 0 {
				t.Fatalf("got state %d, %d rows", s, len(a.out.Rows))
			}
			if c := object[member.Charter](b, a); c.Market().ID != b.open.Market.ID {
				t.Fatalf("got charter %q", c.Name)
			}
			if p := object[member.Policy](b, a); p.Agreement != member.Agreement {
				t.Fatalf("got policy %d", p.Number)
			}
		}
	})
}

func TestHostWaitsUntilItIsApproved(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, secret := key(2), b.invite(member.RoleHost)
		j := b.request(host, secret, member.RoleHost)
		j.Alias, j.Checks = "rack-4", append(j.Checks, member.Check{Name: "clock", Detail: "3 s off"})
		for range 3 { // again is asking once
			if s := state(b, b.join(host, secret, j)); s != step.JoinPending {
				t.Fatalf("got state %d", s)
			}
		}
		q := do[[]operator.ApplicantView](b, operator.Queue{})
		if len(q) != 1 || q[0].Alias != "rack-4" || q[0].State != "waiting" || len(q[0].Devices) != 1 || q[0].Invite.State != "used" || len(q[0].Warnings) != 1 {
			t.Fatalf("queue: got %+v", q)
		}
		m := do[operator.MemberView](b, operator.Approve{Addr: "rack-4", Tier: member.TierSecure})
		if m.Tier != "secure" || m.Roles != "host" || m.MaxGPUs != 64 || m.Serial != 1 || m.NotAfter != b.now+72*member.Hour || m.Standing != "good" {
			t.Fatalf("approved: got %+v", m)
		}
		if again := do[operator.MemberView](b, operator.Approve{Addr: "rack-4", Tier: member.TierSecure}); again != m {
			t.Fatalf("again: got %+v, want %+v", again, m)
		}
		a := b.join(host, secret, j)
		if s := state(b, a); s != step.JoinApproved {
			t.Fatalf("got state %d", s)
		}
		got := step.FindAll[member.Credential](a.objects)
		if len(got) != 2 || got[0].Value().Address() != b.op.Address() || got[1].Value().Address() != host.Address() {
			t.Fatalf("got %d credentials", len(got))
		}
		if c := got[1].Value(); !c.Witness || c.Owner != host.Address() || c.Payout != host.Address() || c.Attestations.IsZero() {
			t.Fatalf("got %+v", c)
		}
		if q := do[[]operator.ApplicantView](b, operator.Queue{}); len(q) != 0 {
			t.Fatalf("queue: got %+v", q)
		}
		b.fails(operator.Reject{Addr: "rack-4", Reason: "late"}, step.ProblemConflict)
		b.fails(operator.InviteRevoke{ID: member.Invite{Secret: secret}.SecretHash().String()}, step.ProblemConflict)
		want := []string{"join.waiting", "join.approved"}
		if len(b.notices) != 2 || b.notices[0] != want[0] || b.notices[1] != want[1] {
			t.Fatalf("notices: got %v, want %v", b.notices, want)
		}
	})
}

func TestConsumerIsApprovedAtOnce(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		consumer, secret := key(3), b.invite(member.RoleConsumer)
		j := b.request(consumer, secret, member.RoleConsumer)
		j.Alias, j.Owner = "ann", key(2).Address()
		a := b.join(consumer, secret, j)
		if s := state(b, a); s != step.JoinApproved {
			t.Fatalf("got state %d", s)
		}
		c := step.FindAll[member.Credential](a.objects)[1].Value()
		if c.Roles != member.RoleConsumer || c.Tier != member.TierNone || c.Alias != "ann" || c.Witness {
			t.Fatalf("got %+v", c)
		}
		if c.Owner != consumer.Address() {
			t.Fatalf("nobody confirmed that %v is its owner", c.Owner)
		}
		// Past its invite's end, and with a code of its own, the same key is still told where it stands.
		b.now += 8 * member.Day
		if a := b.join(consumer, secret, j); state(b, a) != step.JoinApproved || len(a.out.Rows) > 0 {
			t.Fatalf("again: %d rows", len(a.out.Rows))
		}
		second := b.invite(member.RoleConsumer)
		bob := key(4)
		k := b.request(bob, second, member.RoleConsumer)
		k.Alias = "ann"
		b.join(bob, second, k)
		if c, _, _ := b.world.Credential(bob.Address()); c.Alias != "ann-2" {
			t.Fatalf("got alias %q, want ann-2", c.Alias)
		}
	})
}

func TestRejectedApplicantIsToldWhyAndMayTryAnotherCode(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, secret := key(2), b.invite(member.RoleHost)
		j := b.request(host, secret, member.RoleHost)
		b.join(host, secret, j)
		b.fails(operator.Reject{Addr: host.Address().String()}, step.ProblemUsage)
		b.fails(operator.Reject{Addr: key(9).Address().String(), Reason: "who?"}, step.ProblemNotFound)
		if v := do[operator.ApplicantView](b, operator.Reject{Addr: host.Address().Short(), Reason: "no ECC"}); v.State != "rejected" {
			t.Fatalf("got %+v", v)
		}
		a := b.join(host, secret, j)
		if v, _ := step.Body[step.JoinAnswer](a.body); v.State != step.JoinRejected || v.Reason != "no ECC" {
			t.Fatalf("got %+v", v)
		}
		second := b.invite(member.RoleHost)
		if s := state(b, b.join(host, second, b.request(host, second, member.RoleHost))); s != step.JoinPending {
			t.Fatalf("second code: got state %d", s)
		}
		do[operator.ApplicantView](b, operator.Reject{Addr: host.Address().Short(), Reason: "still no ECC"})
		do[operator.MemberView](b, operator.Approve{Addr: host.Address().Short()}) // a person may change its mind
		if s := state(b, b.join(host, second, b.request(host, second, member.RoleHost))); s != step.JoinApproved {
			t.Fatalf("approved after all: got state %d", s)
		}
	})
}

func TestMemberGainsARoleByAnotherCode(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		k := b.joined(2, member.RoleConsumer)
		secret := b.invite(member.RoleHost)
		if s := state(b, b.join(k, secret, b.request(k, secret, member.RoleHost))); s != step.JoinPending {
			t.Fatalf("got state %d", s)
		}
		if m := do[operator.MemberView](b, operator.Approve{Addr: k.Address().String()}); m.Roles != "host,consumer" || m.Serial != 2 || m.Tier != "community" {
			t.Fatalf("got %+v", m)
		}
		// A code for what it already is changes nothing, but is used up.
		third := b.invite(member.RoleHost)
		if s := state(b, b.join(k, third, b.request(k, third, member.RoleHost))); s != step.JoinApproved {
			t.Fatalf("got state %d", s)
		}
		if m := do[operator.MemberView](b, operator.Approve{Addr: k.Address().String()}); m.Serial != 2 {
			t.Fatalf("got %+v", m)
		}
	})
}

func TestWaitingApplicantMayCorrectItsRequest(t *testing.T) {
	both(t, func(t *testing.T, b *bench) {
		host, secret := key(2), b.invite(member.RoleHost)
		j := b.request(host, secret, member.RoleHost)
		b.join(host, secret, j)
		newer := j
		newer.At, newer.Alias = j.At+1, "right"
		b.join(host, secret, newer)
		b.join(host, secret, j) // the older one, late
		if v := do[operator.ApplicantView](b, operator.Applicant{Addr: host.Address().String()}); v.Alias != "right" {
			t.Fatalf("got alias %q", v.Alias)
		}
	})
}

func TestGPUsThatTwoReportAreShown(t *testing.T) {
	b := newBench(t, true)
	for _, n := range []byte{2, 5} {
		k, secret := key(n), b.invite(member.RoleHost)
		j := b.request(k, secret, member.RoleHost)
		j.Devices[0].UUID = "GPU-same"
		b.join(k, secret, j)
	}
	for _, v := range do[[]operator.ApplicantView](b, operator.Queue{}) {
		if len(v.Warnings) != 1 {
			t.Fatalf("got %v", v.Warnings)
		}
	}
}

func TestNodeThatIsNoOperatorRefuses(t *testing.T) {
	b := newBench(t, false)
	b.op = key(8)
	b.o = operator.New(b.world)
	b.refuses(b.ask(key(2), step.ProtoBank, step.OpBalance, nil), step.RefuseNotForYou)
	b.fails(operator.Height{}, step.ProblemTrust)
	if _, wake := b.tick(); wake != 0 {
		t.Fatalf("wants to be woken at %v", wake)
	}
	b.step(func(ctx *step.Context) {
		b.o.Boot(ctx)
		if b.o.Request(ctx, step.Request{Proto: step.ProtoLease}) || b.o.Local(ctx, 1, 7) || b.o.Response(ctx, step.Response{}) {
			t.Fatal("took what is not for it")
		}
	})
}
