// Package identity is who somebody is in Souk: one secp256k1 key, its Ethereum address, and what it signs.
//
// A node has one PrivateKey. Its PublicKey, 33 bytes compressed, is also its libp2p key; its Address, the last 20
// bytes of the Keccak-256 hash of the key, is how people and contracts name it. The way from an address back to the
// key leads only through a credential, which carries the key.
//
// A Signature is 65 bytes, r ‖ s ‖ v, over a 32-byte Hash. There is one spelling for each: s in the lower half, v 27 or
// 28, as Ethereum wallets write it. Signing is deterministic (RFC 6979), so a node that signs the same payload again
// after a crash gives the same bytes. Nothing is ever keyed or deduplicated by signature bytes.
//
// This is a leaf: the only package, with p2p/wire, that names go-ethereum below the adapters.
package identity

import (
	"crypto/ecdsa"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Errors that callers test with errors.Is.
var (
	ErrSignature = errors.New("identity: signature is not valid")
	ErrAddress   = errors.New("identity: not an address")
	ErrKey       = errors.New("identity: not a secp256k1 key")
)

// A Hash is 32 bytes of Keccak-256.
type Hash [32]byte

// Keccak hashes the concatenation of its arguments.
func Keccak(parts ...[]byte) Hash { return Hash(crypto.Keccak256Hash(parts...)) }

// IsZero reports whether nothing was hashed here.
func (h Hash) IsZero() bool { return h == Hash{} }

// String is the hash in 64 hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short is the first 12 hex digits, for people.
func (h Hash) Short() string { return hex.EncodeToString(h[:6]) }

// MarshalText gives 64 hex digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hex digits, with or without 0x.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(strings.TrimPrefix(string(text), "0x"))
	if err != nil || len(b) != len(h) {
		return fmt.Errorf("identity: %q is not a hash of 64 hex digits", text)
	}
	copy(h[:], b)
	return nil
}

// MarshalBinary gives the bytes of the hash themselves, which the caller does not change: codecs take arrays apart byte by byte
// where they have nothing better.
func (h *Hash) MarshalBinary() ([]byte, error) { return h[:], nil }

// UnmarshalBinary takes 32 bytes.
func (h *Hash) UnmarshalBinary(b []byte) error { return fill(h[:], b) }

// fill takes exactly as many bytes as there is room for.
func fill(dst, b []byte) error {
	if len(b) != len(dst) {
		return fmt.Errorf("identity: %d bytes, want %d", len(b), len(dst))
	}
	copy(dst, b)
	return nil
}

// An Address is the Ethereum address of a key. The zero address is nobody.
type Address [20]byte

// ParseAddress reads 40 hex digits with or without 0x. Mixed case must be the right EIP-55 checksum, so that a mistyped
// address is caught before money goes there.
func ParseAddress(s string) (Address, error) {
	digits := strings.TrimPrefix(s, "0x")
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 20 {
		return Address{}, fmt.Errorf("%w: %q; want 0x and 40 hex digits", ErrAddress, s)
	}
	a := Address(b)
	plain := digits == strings.ToLower(digits) || digits == strings.ToUpper(digits)
	if !plain && a.String()[2:] != digits {
		return Address{}, fmt.Errorf("%w: %q has a wrong checksum (EIP-55); compare it with its source", ErrAddress, s)
	}
	return a, nil
}

// String is the address with its EIP-55 checksum (https://eips.ethereum.org/EIPS/eip-55).
func (a Address) String() string { return common.Address(a).Hex() }

// Short is the first ten characters, for tables.
func (a Address) Short() string { return a.String()[:10] }

// IsZero reports whether this names nobody.
func (a Address) IsZero() bool { return a == Address{} }

// Compare orders addresses by their bytes.
func (a Address) Compare(b Address) int { return strings.Compare(string(a[:]), string(b[:])) }

// MarshalText gives the EIP-55 form.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAddress.
func (a *Address) UnmarshalText(text []byte) error {
	p, err := ParseAddress(string(text))
	if err != nil {
		return err
	}
	*a = p
	return nil
}

// MarshalBinary gives the bytes of the address themselves.
func (a *Address) MarshalBinary() ([]byte, error) { return a[:], nil }

// UnmarshalBinary takes 20 bytes.
func (a *Address) UnmarshalBinary(b []byte) error { return fill(a[:], b) }

// A PublicKey is a compressed secp256k1 point.
type PublicKey [33]byte

// MarshalBinary gives the bytes of the key themselves.
func (k *PublicKey) MarshalBinary() ([]byte, error) { return k[:], nil }

// UnmarshalBinary takes 33 bytes.
func (k *PublicKey) UnmarshalBinary(b []byte) error { return fill(k[:], b) }

// Address is the address of this key. It fails when the bytes are no point of the curve.
func (k PublicKey) Address() (Address, error) {
	p, err := crypto.DecompressPubkey(k[:])
	if err != nil {
		return Address{}, fmt.Errorf("%w: %x", ErrKey, k[:])
	}
	return Address(crypto.PubkeyToAddress(*p)), nil
}

// A Signature is r ‖ s ‖ v. The zero Signature marks a draft that its author has yet to sign.
type Signature [65]byte

// IsZero reports whether nobody has signed yet.
func (s Signature) IsZero() bool { return s == Signature{} }

// MarshalBinary gives the bytes of the signature themselves.
func (s *Signature) MarshalBinary() ([]byte, error) { return s[:], nil }

// UnmarshalBinary takes 65 bytes.
func (s *Signature) UnmarshalBinary(b []byte) error { return fill(s[:], b) }

// A Verifier tells who made a signature.
type Verifier interface {
	// Recover returns the address whose key signed digest. It fails with ErrSignature for a high s, a v other than 27
	// and 28, and for bytes that are no signature.
	Recover(digest Hash, sig Signature) (Address, error)
}

// A Signer signs digests for one address.
type Signer interface {
	Address() Address
	Sign(digest Hash) (Signature, error)
}

// Secp256k1 is the Verifier of real signatures.
type Secp256k1 struct{}

// Recover implements Verifier.
func (Secp256k1) Recover(digest Hash, sig Signature) (Address, error) {
	v := sig[64]
	if v != 27 && v != 28 {
		return Address{}, fmt.Errorf("%w: v is %d, want 27 or 28", ErrSignature, v)
	}
	if highS(sig[32:64]) {
		return Address{}, fmt.Errorf("%w: s is in the upper half", ErrSignature)
	}
	raw := sig
	raw[64] = v - 27
	pub, err := crypto.Ecrecover(digest[:], raw[:])
	if err != nil {
		return Address{}, fmt.Errorf("%w: no key gives it", ErrSignature)
	}
	h := Keccak(pub[1:])
	return Address(h[12:]), nil
}

// halfOrder is the largest s allowed: half the order of the curve (SEC 2, secp256k1; EIP-2).
var halfOrder = [32]byte{
	0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
}

func highS(s []byte) bool { return string(s) > string(halfOrder[:]) }

// A PrivateKey signs for one node. It is made and kept by node/keys.
type PrivateKey struct {
	key  *ecdsa.PrivateKey
	pub  PublicKey
	addr Address
}

// NewPrivateKey wraps an ECDSA key on secp256k1.
func NewPrivateKey(k *ecdsa.PrivateKey) (*PrivateKey, error) {
	if k == nil || k.Curve != crypto.S256() {
		return nil, ErrKey
	}
	return &PrivateKey{
		key:  k,
		pub:  PublicKey(crypto.CompressPubkey(&k.PublicKey)),
		addr: Address(crypto.PubkeyToAddress(k.PublicKey)),
	}, nil
}

// ParsePrivateKey reads the 32 bytes of a secret scalar.
func ParsePrivateKey(b []byte) (*PrivateKey, error) {
	k, err := crypto.ToECDSA(b)
	if err != nil {
		return nil, fmt.Errorf("%w: want 32 bytes below the order of the curve", ErrKey)
	}
	return NewPrivateKey(k)
}

// Address is the address of the key.
func (k *PrivateKey) Address() Address { return k.addr }

// Public is the public half.
func (k *PrivateKey) Public() PublicKey { return k.pub }

// ECDSA is the key for libraries that want it (libp2p, the keystore).
func (k *PrivateKey) ECDSA() *ecdsa.PrivateKey { return k.key }

// Sign signs a digest, deterministically (RFC 6979), with s in the lower half.
func (k *PrivateKey) Sign(digest Hash) (Signature, error) {
	b, err := crypto.Sign(digest[:], k.key)
	if err != nil {
		return Signature{}, fmt.Errorf("identity: signing: %w", err)
	}
	s := Signature(b)
	s[64] += 27
	return s, nil
}
