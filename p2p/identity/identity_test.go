package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"souk/p2p/identity"
)

// order is that of secp256k1 (SEC 2).
var order, _ = new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)

func key(t testing.TB) *identity.PrivateKey {
	t.Helper()
	k, err := identity.ParsePrivateKey(bytes.Repeat([]byte{0x46}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signed(t testing.TB) (identity.Hash, identity.Signature) {
	t.Helper()
	d := identity.Keccak([]byte("something"))
	s, err := key(t).Sign(d)
	if err != nil {
		t.Fatal(err)
	}
	return d, s
}

func TestSignatureRecoversItsSigner(t *testing.T) {
	d, s := signed(t)
	by, err := identity.Secp256k1{}.Recover(d, s)
	if err != nil || by != key(t).Address() {
		t.Fatalf("got %v, %v, want %v", by, err, key(t).Address())
	}
	if again, err := key(t).Sign(d); err != nil || again != s {
		t.Fatal("signing again gives other bytes")
	}
	if pub, err := key(t).Public().Address(); err != nil || pub != key(t).Address() {
		t.Fatalf("public key leads to %v, %v", pub, err)
	}
}

// TestKnownAddress is the key of the example in EIP-155.
func TestKnownAddress(t *testing.T) {
	if got := key(t).Address().String(); got != "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F" {
		t.Fatalf("got %s", got)
	}
}

func TestTwinOfASignatureIsRefused(t *testing.T) {
	d, s := signed(t)
	twin := s
	new(big.Int).Sub(order, new(big.Int).SetBytes(s[32:64])).FillBytes(twin[32:64])
	twin[64] = 27 + 28 - s[64]
	if _, err := (identity.Secp256k1{}).Recover(d, twin); !errors.Is(err, identity.ErrSignature) || !strings.Contains(err.Error(), "upper half") {
		t.Fatalf("high s: got %v", err)
	}
}

func TestHalfOrderIsTheBorder(t *testing.T) {
	half := new(big.Int).Rsh(order, 1)
	d, s := signed(t)
	half.FillBytes(s[32:64])
	if _, err := (identity.Secp256k1{}).Recover(d, s); err != nil && strings.Contains(err.Error(), "upper half") {
		t.Fatalf("half the order: got %v", err)
	}
	half.Add(half, big.NewInt(1)).FillBytes(s[32:64])
	if _, err := (identity.Secp256k1{}).Recover(d, s); err == nil || !strings.Contains(err.Error(), "upper half") {
		t.Fatalf("half the order and one: got %v", err)
	}
}

func TestOtherSpellingsOfVAreRefused(t *testing.T) {
	d, s := signed(t)
	for v := range 256 {
		bad := s
		bad[64] = byte(v)
		by, err := identity.Secp256k1{}.Recover(d, bad)
		switch {
		case v != 27 && v != 28 && !errors.Is(err, identity.ErrSignature):
			t.Fatalf("v %d: got %v", v, err)
		case byte(v) != s[64] && err == nil && by == key(t).Address():
			t.Fatalf("v %d is the signer's too", v)
		}
	}
}

func TestChangedSignatureIsNotTheSigners(t *testing.T) {
	d, s := signed(t)
	for i := range s {
		for bit := range 8 {
			bad := s
			bad[i] ^= 1 << bit
			if by, err := (identity.Secp256k1{}).Recover(d, bad); err == nil && by == key(t).Address() {
				t.Fatalf("byte %d, bit %d changed: still the signer's", i, bit)
			}
		}
	}
	for _, bad := range []identity.Signature{{}, {64: 27}, {31: 1, 64: 27}, {63: 1, 64: 28}} {
		if _, err := (identity.Secp256k1{}).Recover(d, bad); !errors.Is(err, identity.ErrSignature) {
			t.Fatalf("%x: got %v", bad, err)
		}
	}
}

// TestChecksumIsEIP55 uses the examples of the EIP.
func TestChecksumIsEIP55(t *testing.T) {
	for _, s := range []string{"0x52908400098527886E0F7030069857D2E4169EE7", "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
		"0xde709f2102306220921060314715629080e2fb77", "0x27b1fdb04752bbc536007a920d24acb045561c26",
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
		"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb"} {
		a, err := identity.ParseAddress(s)
		if err != nil || a.String() != s {
			t.Fatalf("%s: got %v, %v", s, a, err)
		}
	}
}

func TestMistypedAddressIsCaught(t *testing.T) {
	good := "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	for i := 2; i < len(good); i++ {
		for _, c := range "0123456789abcdefABCDEF" {
			bad := good[:i] + string(c) + good[i+1:]
			if bad == good {
				continue
			}
			if _, err := identity.ParseAddress(bad); !errors.Is(err, identity.ErrAddress) {
				t.Fatalf("%s is taken", bad)
			}
		}
	}
	for _, bad := range []string{"", "0x", good[:41], good + "0", "0X" + good[2:], " " + good, "0x0x" + good[4:]} {
		if _, err := identity.ParseAddress(bad); !errors.Is(err, identity.ErrAddress) {
			t.Fatalf("%q is taken", bad)
		}
	}
}

func TestOtherCurveIsRefused(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.NewPrivateKey(k); !errors.Is(err, identity.ErrKey) {
		t.Fatalf("P-256: got %v", err)
	}
	for _, b := range [][]byte{nil, make([]byte, 32), make([]byte, 31), order.Bytes(), bytes.Repeat([]byte{0xff}, 32)} {
		if _, err := identity.ParsePrivateKey(b); !errors.Is(err, identity.ErrKey) {
			t.Fatalf("%x: got %v", b, err)
		}
	}
	for _, p := range []identity.PublicKey{{}, {0: 2}, {0: 5, 32: 1}, {0: 2, 32: 5}} {
		if a, err := p.Address(); !errors.Is(err, identity.ErrKey) {
			t.Fatalf("%x: got %v, %v", p, a, err)
		}
	}
}

func TestHashTextRoundTrips(t *testing.T) {
	want := identity.Keccak(nil)
	if want.String() != "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470" {
		t.Fatalf("keccak of nothing: %v", want)
	}
	var h identity.Hash
	if err := h.UnmarshalText([]byte("0x" + want.String())); err != nil || h != want {
		t.Fatalf("got %v, %v", h, err)
	}
	if err := h.UnmarshalText([]byte(want.String()[1:])); err == nil {
		t.Fatal("63 digits are taken")
	}
}

func FuzzRecover(f *testing.F) {
	d, s := signed(f)
	f.Add(d[:], s[:])
	f.Fuzz(func(t *testing.T, digest, sig []byte) {
		if len(digest) != 32 || len(sig) != 65 {
			return
		}
		by, err := identity.Secp256k1{}.Recover(identity.Hash(digest), identity.Signature(sig))
		if (err == nil) == by.IsZero() {
			t.Fatalf("%s: %v, %v", hex.EncodeToString(sig), by, err)
		}
	})
}

func TestBinaryFormsHaveOneLength(t *testing.T) {
	for _, v := range []interface {
		encoding.BinaryMarshaler
		encoding.BinaryUnmarshaler
	}{&identity.Hash{1}, &identity.Address{2}, &identity.PublicKey{3}, &identity.Signature{4}} {
		b, err := v.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		again := append([]byte{b[0] + 1}, b[1:]...)
		if err := v.UnmarshalBinary(again); err != nil || fmt.Sprint(b) != fmt.Sprint(again) {
			t.Errorf("%T of %x: %v, %x", v, again, err, b)
		}
		for _, bad := range [][]byte{nil, b[1:], append(again, 0)} {
			if err := v.UnmarshalBinary(bad); err == nil {
				t.Errorf("%T takes %d bytes", v, len(bad))
			}
		}
	}
}
