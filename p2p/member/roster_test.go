package member_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

const day0 = member.Time(1_800_000_000_000)

func charter(t testing.TB) member.Charter {
	return member.Charter{Salt: wire.ID{1}, Name: "bazaar", Founded: day0, ChainID: member.DefaultChainID,
		Operators: []identity.PublicKey{key(t, 1).Public(), key(t, 2).Public()}, Threshold: 1, Slot: 60}
}

func credential(t testing.TB, n byte, serial uint64) member.Credential {
	return member.Credential{Subject: key(t, n).Public(), Issuer: key(t, 1).Address(), Owner: key(t, n).Address(),
		Roles: member.RoleHost, Tier: member.TierCommunity, Serial: serial, NotBefore: day0, NotAfter: day0 + 3*member.Day}
}

func sanction(t testing.TB, by byte, number uint64, of byte, s member.Sanction) member.Revocation {
	return member.Revocation{Operator: key(t, by).Address(), Number: number, Subject: key(t, of).Address(), Sanction: s,
		Reason: "because", At: day0}
}

func TestStandingFollowsEveryTransition(t *testing.T) {
	type event struct {
		admit    uint64 // serial; 0: none
		sanction member.Revocation
		refused  error
		standing error
	}
	sus := func(n uint64) member.Revocation { return sanction(t, 1, n, 5, member.Suspend) }
	rev := func(n uint64) member.Revocation { return sanction(t, 1, n, 5, member.Revoke) }
	rei := func(n uint64) member.Revocation { return sanction(t, 1, n, 5, member.Reinstate) }
	for name, list := range map[string][]event{
		"nobody": {{sanction: sanction(t, 1, 1, 6, member.Suspend), standing: member.ErrNoCredential}},
		"admitted and renewed": {{admit: 1}, {admit: 2}, {admit: 2, refused: member.ErrStale},
			{admit: 1, refused: member.ErrStale}},
		"suspended and reinstated": {{admit: 1}, {sanction: sus(1), standing: member.ErrSuspended}, {sanction: rei(2)},
			{sanction: sus(1), refused: member.ErrStale}, {sanction: rei(2), refused: member.ErrStale},
			{sanction: sus(3), standing: member.ErrSuspended}},
		"renewed while suspended": {{admit: 1}, {sanction: sus(1), standing: member.ErrSuspended}, {admit: 2, standing: member.ErrSuspended}},
		"revoked for good": {{admit: 1}, {sanction: rev(1), standing: member.ErrRevoked},
			{sanction: rei(2), refused: member.ErrStale, standing: member.ErrRevoked},
			{sanction: sus(3), refused: member.ErrStale, standing: member.ErrRevoked}, {admit: 9, standing: member.ErrRevoked}},
		"revoked before known": {{sanction: rev(1), standing: member.ErrRevoked}, {admit: 1, standing: member.ErrRevoked}},
		"revoked while suspended by another": {{admit: 1}, {sanction: sus(7), standing: member.ErrSuspended},
			{sanction: sanction(t, 2, 1, 5, member.Revoke), standing: member.ErrRevoked}},
		"by a stranger": {{admit: 1}, {sanction: sanction(t, 9, 1, 5, member.Revoke), refused: member.ErrNotOperator}},
	} {
		r := member.NewRoster(charter(t))
		for i, e := range list {
			var err error
			if e.admit > 0 {
				err = r.Admit(credential(t, 5, e.admit), wire.Object{Kind: wire.KindCredential})
			} else {
				err = r.Sanction(e.sanction)
			}
			if !errors.Is(err, e.refused) {
				t.Errorf("%s, %d: got %v, want %v", name, i, err, e.refused)
			}
			if err := r.Standing(key(t, 5).Address(), day0); !errors.Is(err, e.standing) {
				t.Errorf("%s, %d: standing %v, want %v", name, i, err, e.standing)
			}
		}
	}
}

func TestCredentialHasItsTime(t *testing.T) {
	r := member.NewRoster(charter(t))
	c := credential(t, 5, 1)
	if err := r.Admit(c, wire.Object{}); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		at   member.Time
		want error
	}{
		{c.NotBefore - 90*member.Second - 1, member.ErrNotYet}, {c.NotBefore - 90*member.Second, nil},
		{c.NotAfter - 1, nil}, {c.NotAfter, member.ErrExpired},
	} {
		if err := r.Standing(c.Address(), x.at); !errors.Is(err, x.want) {
			t.Errorf("at %v: got %v, want %v", x.at, err, x.want)
		}
	}
	if !r.Is(c.Address(), member.RoleHost, day0) || r.Is(c.Address(), member.RoleConsumer, day0) ||
		r.Is(c.Address(), member.RoleHost, c.NotAfter) {
		t.Error("roles are not those of the credential, or outlive it")
	}
}

func TestOnlyOperatorsVouch(t *testing.T) {
	r := member.NewRoster(charter(t))
	c := credential(t, 5, 1)
	c.Issuer = c.Address()
	if err := r.Admit(c, wire.Object{}); !errors.Is(err, member.ErrNotOperator) {
		t.Fatalf("by itself: %v", err)
	}
	c = credential(t, 5, 1)
	c.Roles |= member.RoleOperator
	if err := r.Admit(c, wire.Object{}); !errors.Is(err, member.ErrNotOperator) {
		t.Fatalf("an operator that the charter does not name: %v", err)
	}
}

func TestMembersAreInOrder(t *testing.T) {
	r := member.NewRoster(charter(t))
	for n := byte(40); n > 3; n-- {
		if err := r.Admit(credential(t, n, 1), wire.Object{}); err != nil {
			t.Fatal(err)
		}
	}
	list := r.Members()
	if len(list) != 37 || !slices.IsSortedFunc(list, identity.Address.Compare) {
		t.Fatalf("%d members, in order %v", len(list), slices.IsSortedFunc(list, identity.Address.Compare))
	}
}

func TestCharterFoundsItsOwnMarket(t *testing.T) {
	a, b := charter(t), charter(t)
	b.Salt[15]++
	if a.Market().ID == b.Market().ID || a.Market().Separator() == b.Market().Separator() {
		t.Fatal("two charters, one market")
	}
	obj, err := wire.Seal(a.Market(), key(t, 1), a)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := member.OpenCharter(identity.Secp256k1{}, obj); err != nil || v.By() != key(t, 1).Address() {
		t.Fatalf("got %v", err)
	}
	forged, err := wire.Seal(a.Market(), key(t, 2), a) // an operator, but not the first
	if err != nil {
		t.Fatal(err)
	}
	if _, err := member.OpenCharter(identity.Secp256k1{}, forged); !errors.Is(err, wire.ErrForged) {
		t.Fatalf("got %v", err)
	}
}

func TestBadChartersAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*member.Charter){
		"no salt":               func(c *member.Charter) { c.Salt = wire.ID{} },
		"no name":               func(c *member.Charter) { c.Name = "" },
		"no operator":           func(c *member.Charter) { c.Operators = nil },
		"no key":                func(c *member.Charter) { c.Operators[1] = identity.PublicKey{2} },
		"no threshold":          func(c *member.Charter) { c.Threshold = 0 },
		"threshold over all":    func(c *member.Charter) { c.Threshold = 3 },
		"short slot, real":      func(c *member.Charter) { c.Slot = 5 },
		"slot too short, tests": func(c *member.Charter) { c.Slot, c.Testnet = 4, true },
		"slot too long, tests":  func(c *member.Charter) { c.Slot, c.Testnet = 61, true },
	} {
		c := charter(t)
		if spoil(&c); c.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestClockCountsSlots(t *testing.T) {
	for _, slot := range []member.Time{5, 7, 60} {
		c := member.Clock{Slot: slot * member.Second}
		m := c.Minute(day0)
		if at := c.Tick(m); at > day0 || c.Tick(m+1) <= day0 || c.Minute(at) != m || c.Minute(c.Tick(m+1)-1) != m {
			t.Errorf("slot of %d s: minute %d from %v to %v", slot, m, at, c.Tick(m+1))
		}
		if c.Seconds() != int64(slot) || c.Due(m)-c.Tick(m) != slot*member.Second*5/6 {
			t.Errorf("slot of %d s: due %d ms after its tick", slot, c.Due(m)-c.Tick(m))
		}
	}
	_ = member.Time(math.MaxInt64).String() // does not panic
}
