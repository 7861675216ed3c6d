package member_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

func key(t testing.TB, n byte) *identity.PrivateKey {
	t.Helper()
	k, err := identity.ParsePrivateKey(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func invite(t testing.TB) member.Invite {
	return member.Invite{Market: identity.Keccak([]byte("market")), Operator: key(t, 1).Public(),
		Addrs: []string{"/ip4/192.0.2.7/tcp/4001"}, Secret: wire.ID{1, 2, 3}, Role: member.RoleHost}
}

func same(a, b member.Invite) bool { return bytes.Equal(wire.Marshal(a), wire.Marshal(b)) }

func TestInviteCodeRoundTrips(t *testing.T) {
	want := invite(t)
	code := want.Code()
	for _, spelling := range []string{code, strings.ToUpper(code), "  " + code + "\n", code[:20] + "\n" + code[20:]} {
		if got, err := member.ParseInvite(spelling); err != nil || !same(got, want) {
			t.Fatalf("%q: got %+v, %v", spelling, got, err)
		}
	}
}

func TestEveryMistypedCharacterOfAnInviteIsCaught(t *testing.T) {
	code, want := invite(t).Code(), invite(t)
	for i := range code {
		for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789-" {
			bad := code[:i] + string(c) + code[i+1:]
			if bad == code {
				continue
			}
			if got, err := member.ParseInvite(bad); !errors.Is(err, member.ErrInvite) {
				t.Fatalf("character %d as %q: got the same invite %v, %v", i, c, same(got, want), err)
			}
		}
	}
}

func TestSwappedCutAndLongInvitesAreCaught(t *testing.T) {
	code := invite(t).Code()
	for i := range len(code) - 1 {
		swapped := code[:i] + code[i+1:i+2] + code[i:i+1] + code[i+2:]
		if swapped == code {
			continue
		}
		if _, err := member.ParseInvite(swapped); !errors.Is(err, member.ErrInvite) {
			t.Fatalf("characters %d and %d swapped: %v", i, i+1, err)
		}
	}
	for i := range code {
		if _, err := member.ParseInvite(code[:i]); !errors.Is(err, member.ErrInvite) {
			t.Fatalf("cut after %d: %v", i, err)
		}
	}
	for _, bad := range []string{code + "a", code + code, "souk1" + strings.Repeat("a", 1<<20)} {
		if _, err := member.ParseInvite(bad); !errors.Is(err, member.ErrInvite) {
			t.Fatalf("%d characters: %v", len(bad), err)
		}
	}
}

func TestInviteSecretIsOnlyAHash(t *testing.T) {
	a, b := invite(t), invite(t)
	b.Secret[15]++
	if a.SecretHash() == b.SecretHash() || a.SecretHash().IsZero() {
		t.Fatal("two secrets, one hash")
	}
}

func FuzzParseInvite(f *testing.F) {
	f.Add(invite(f).Code())
	f.Add("souk1aaaaaaaaaaaaaaaa")
	f.Fuzz(func(t *testing.T, code string) {
		i, err := member.ParseInvite(code)
		if err != nil {
			return
		}
		if again, err := member.ParseInvite(i.Code()); err != nil || !same(again, i) {
			t.Fatalf("%q reads %+v, which reads %+v, %v", code, i, again, err)
		}
	})
}
