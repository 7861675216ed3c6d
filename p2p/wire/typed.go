package wire

import (
	"encoding/binary"

	"souk/p2p/identity"
)

// A Struct collects the members of one EIP-712 struct: its type string and its encoded data, in one pass.
// https://eips.ethereum.org/EIPS/eip-712
type Struct struct {
	of   *Type  // nil: the members spell the type
	kind []byte // the type string so far, without the closing parenthesis
	data []byte // the hash of the type, and a word for each member
}

// A Type is a type of structs whose string and hash are known beforehand: for kinds that are hashed again and again.
type Type struct {
	text string
	hash identity.Hash
}

// TypeOf is the type of structs with this name and the members that fill adds, whatever their values.
func TypeOf(name string, fill func(*Struct) *Struct) Type {
	text := fill(NewStruct(name)).Type()
	return Type{text: text, hash: identity.Keccak([]byte(text))}
}

// NewStruct begins a struct with its type name.
func NewStruct(name string) *Struct {
	s := &Struct{kind: make([]byte, 0, 512), data: make([]byte, 32, 32*24)}
	s.kind = append(append(s.kind, name...), '(')
	return s
}

// New begins a struct of the type. Its members must be those that the type was made with.
func (t *Type) New() *Struct {
	s := &Struct{of: t, data: make([]byte, 0, 32*12)}
	s.data = append(s.data, t.hash[:]...)
	return s
}

func (s *Struct) member(kind, name string) {
	if s.of != nil {
		return
	}
	if s.kind[len(s.kind)-1] != '(' {
		s.kind = append(s.kind, ',')
	}
	s.kind = append(s.kind, kind...)
	s.kind = append(s.kind, ' ')
	s.kind = append(s.kind, name...)
}

func (s *Struct) word(b []byte) {
	var w [32]byte
	copy(w[32-len(b):], b)
	s.data = append(s.data, w[:]...)
}

// Address adds a member of type address.
func (s *Struct) Address(name string, a identity.Address) *Struct {
	s.member("address", name)
	s.word(a[:])
	return s
}

// Bytes32 adds a member of type bytes32.
func (s *Struct) Bytes32(name string, h identity.Hash) *Struct {
	s.member("bytes32", name)
	s.data = append(s.data, h[:]...)
	return s
}

// Bytes16 adds a member of type bytes16: left-aligned, as the EIP encodes short bytesN.
func (s *Struct) Bytes16(name string, id ID) *Struct {
	s.member("bytes16", name)
	var w [32]byte
	copy(w[:], id[:])
	s.data = append(s.data, w[:]...)
	return s
}

// Bytes adds a member of type bytes, which is encoded as its hash.
func (s *Struct) Bytes(name string, b []byte) *Struct {
	s.member("bytes", name)
	h := identity.Keccak(b)
	s.data = append(s.data, h[:]...)
	return s
}

// String adds a member of type string, which is encoded as its hash.
func (s *Struct) String(name, v string) *Struct {
	s.member("string", name)
	h := identity.Keccak([]byte(v))
	s.data = append(s.data, h[:]...)
	return s
}

// Uint64 adds a member of type uint64.
func (s *Struct) Uint64(name string, v uint64) *Struct {
	s.member("uint64", name)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	s.word(b[:])
	return s
}

// Uint128 adds a member of type uint128. Amounts of money are such; here they never exceed 63 bits.
func (s *Struct) Uint128(name string, v uint64) *Struct {
	s.member("uint128", name)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	s.word(b[:])
	return s
}

// Bool adds a member of type bool.
func (s *Struct) Bool(name string, v bool) *Struct {
	s.member("bool", name)
	var b [1]byte
	if v {
		b[0] = 1
	}
	s.word(b[:])
	return s
}

// Addresses adds a member of type address[]: the hash of its encoded elements.
func (s *Struct) Addresses(name string, list []identity.Address) *Struct {
	s.member("address[]", name)
	var b []byte
	for _, a := range list {
		var w [32]byte
		copy(w[12:], a[:])
		b = append(b, w[:]...)
	}
	h := identity.Keccak(b)
	s.data = append(s.data, h[:]...)
	return s
}

// Type is the type string, as in "Voucher(bytes32 reservation,uint64 minute)".
func (s *Struct) Type() string {
	if s.of != nil {
		return s.of.text
	}
	return string(s.kind) + ")"
}

// Hash is hashStruct of the EIP.
func (s *Struct) Hash() identity.Hash {
	if s.of == nil {
		t := identity.Keccak(s.kind, []byte{')'})
		copy(s.data, t[:])
	}
	return identity.Keccak(s.data)
}

// separator is the EIP-712 domain separator of a market.
func separator(m Market) identity.Hash {
	d := NewStruct("EIP712Domain").
		String("name", "Souk").
		String("version", "1")
	d.member("uint256", "chainId")
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], m.ChainID)
	d.word(b[:])
	d.member("address", "verifyingContract")
	d.word(m.Contract[:])
	d.member("bytes32", "salt")
	d.data = append(d.data, m.ID[:]...)
	return d.Hash()
}
