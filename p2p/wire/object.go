// Package wire is how things that members sign travel: one deterministic encoding, one table of kinds, one envelope.
//
// A Message is a Go value that knows its Kind and who must sign it. Sealed, it becomes an Object: kind, payload (its
// canonical CBOR) and signature; what was signed travels as the bytes that were signed. Opening an Object checks size,
// spelling, shape and signature, in that order, and yields a Verified value, which nothing else can make: code that
// takes a Verified needs no further check of who said it. A Frame carries objects and a small unsigned body over a stream.
//
// Money and contracts are signed as EIP-712 typed data under the market's domain, everything else over
// keccak256(len(domain) ‖ domain ‖ market id ‖ payload), len being one byte. The Ref of an object is always the latter hash,
// whatever its signature covers: chains and ids are built of Refs, never of signatures.
//
// Promises: W1 a payload has one spelling: Marshal(Unmarshal(b)) == b. W2 no message opens for a market, kind or signer
// other than its own. W3 the cost of refusing bad bytes is bounded by the kind's size limit.
package wire

import (
	"encoding/hex"
	"fmt"
	"strings"

	"souk/p2p/identity"
)

// An ID is 16 random bytes chosen by whoever asks for something, so that asking twice is asking once.
type ID [16]byte

// IsZero reports whether no id was chosen.
func (i ID) IsZero() bool { return i == ID{} }

// String is the id in 32 hex digits.
func (i ID) String() string { return hex.EncodeToString(i[:]) }

// Short is the first 8 hex digits, for people.
func (i ID) Short() string { return hex.EncodeToString(i[:4]) }

// MarshalText gives 32 hex digits.
func (i ID) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads 32 hex digits.
func (i *ID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(strings.ToLower(string(text)))
	if err != nil || len(b) != len(i) {
		return fmt.Errorf("wire: %q is not an id of 32 hex digits", text)
	}
	copy(i[:], b)
	return nil
}

// MarshalBinary gives the bytes of the id themselves, which the caller does not change.
func (i *ID) MarshalBinary() ([]byte, error) { return i[:], nil }

// UnmarshalBinary takes 16 bytes.
func (i *ID) UnmarshalBinary(b []byte) error {
	if len(b) != len(i) {
		return fmt.Errorf("wire: an id of %d bytes, want %d", len(b), len(i))
	}
	copy(i[:], b)
	return nil
}

// A Market is what signatures of one market have in common.
type Market struct {
	ID       identity.Hash
	ChainID  uint64
	Contract identity.Address
	sep      identity.Hash
}

// NewMarket prepares the domain of a market.
func NewMarket(id identity.Hash, chainID uint64, contract identity.Address) Market {
	m := Market{ID: id, ChainID: chainID, Contract: contract}
	m.sep = separator(m)
	return m
}

// Separator is the market's EIP-712 domain separator.
func (m Market) Separator() identity.Hash { return m.sep }

// Ref is the hash by which a payload is referred to.
func (m Market) Ref(k Kind, payload []byte) identity.Hash {
	b := k.appendDomain(make([]byte, 1, 96+len(payload)))
	b[0] = byte(len(b) - 1)
	return identity.Keccak(append(append(b, m.ID[:]...), payload...))
}

// A Message is something that one member signs.
type Message interface {
	Kind() Kind
	// Signer is who must have signed; it stands in the payload.
	Signer() identity.Address
	// Validate checks shape and bounds, without any other state.
	Validate() error
}

// A TypedMessage is signed as EIP-712 typed data.
type TypedMessage interface {
	Message
	Typed() *Struct
}

// Digest is what the signature of a message covers. The payload must be the message's encoding.
func (m Market) Digest(msg Message, payload []byte) identity.Hash {
	if t, ok := msg.(TypedMessage); ok {
		s := t.Typed()
		h := s.Hash()
		b := append(s.data[:0], 0x19, 0x01) // its members are hashed: the room is free
		return identity.Keccak(append(append(b, m.sep[:]...), h[:]...))
	}
	return m.Ref(msg.Kind(), payload)
}

// An Object is a signed message as it travels and is kept. With a zero signature it is a draft of this node's own,
// which the shell signs before it leaves.
type Object struct {
	_       struct{} `cbor:",toarray"`
	Kind    Kind
	Payload []byte
	Sig     identity.Signature
}

// Draft encodes a message that this node will sign. A message that does not validate is a bug of ours.
func Draft(msg Message) Object {
	o, err := TryDraft(msg)
	if err != nil {
		panic(err.Error())
	}
	return o
}

// TryDraft is Draft for what a peer has asked for: a message that must not be signed, because it does not validate or is
// over its kind's limit, is an error.
func TryDraft(msg Message) (Object, error) {
	if err := msg.Validate(); err != nil {
		return Object{}, fmt.Errorf("wire: drafting an invalid %v: %w", msg.Kind(), err)
	}
	b := Marshal(msg)
	if len(b) > msg.Kind().Limit() {
		return Object{}, fmt.Errorf("%w: drafting a %v of %d bytes, limit %d", ErrTooLarge, msg.Kind(), len(b), msg.Kind().Limit())
	}
	return Object{Kind: msg.Kind(), Payload: b}, nil
}

// IsZero reports whether there is no object here.
func (o Object) IsZero() bool { return o.Kind == 0 && len(o.Payload) == 0 }

// IsDraft reports whether the object still wants its signature.
func (o Object) IsDraft() bool { return o.Sig.IsZero() }

// Ref is the hash by which the object is referred to in a market.
func (o Object) Ref(m Market) identity.Hash { return m.Ref(o.Kind, o.Payload) }

// A Verified is a message whose signature has been checked. Only Open makes one.
type Verified[T Message] struct {
	msg    T
	obj    Object
	market identity.Hash
	digest identity.Hash // what the signature covers; the ref, where that is not typed data
}

// Value is the message.
func (v Verified[T]) Value() T { return v.msg }

// Object is the message as it came.
func (v Verified[T]) Object() Object { return v.obj }

// Ref is the hash by which the message is referred to.
func (v Verified[T]) Ref() identity.Hash {
	if v.obj.Kind.Typed() {
		return v.obj.Ref(Market{ID: v.market})
	}
	return v.digest
}

// By is who signed.
func (v Verified[T]) By() identity.Address { return v.msg.Signer() }

// Kind is the kind of the message.
func (v Verified[T]) Kind() Kind { return v.obj.Kind }

func (v Verified[T]) verified() {}

// AnyVerified is a Verified of any kind; a type switch tells which.
type AnyVerified interface {
	Object() Object
	Ref() identity.Hash
	By() identity.Address
	Kind() Kind
	verified()
}

// An Opener checks objects of one market.
type Opener struct {
	Market   Market
	Verifier identity.Verifier
}

// Open checks an object and yields its message. Errors: ErrWrongKind, ErrTooLarge, ErrEncoding, what Validate says,
// identity.ErrSignature, ErrForged.
func Open[T Message](o Opener, obj Object) (Verified[T], error) {
	var none Verified[T]
	msg, err := Decode[T](obj)
	if err != nil {
		return none, err
	}
	digest := o.Market.Digest(msg, obj.Payload)
	by, err := o.Verifier.Recover(digest, obj.Sig)
	if err != nil {
		return none, fmt.Errorf("%v: %w", obj.Kind, err)
	}
	if by != msg.Signer() {
		return none, fmt.Errorf("%w: a %v of %v", ErrForged, obj.Kind, msg.Signer())
	}
	return Verified[T]{msg: msg, obj: obj, market: o.Market.ID, digest: digest}, nil
}

// Decode reads the message of an object without checking who signed it: for what this node already verified or wrote
// itself.
func Decode[T Message](obj Object) (T, error) {
	var msg T
	if obj.Kind != msg.Kind() {
		return msg, fmt.Errorf("%w: got %v, want %v", ErrWrongKind, obj.Kind, msg.Kind())
	}
	if len(obj.Payload) > obj.Kind.Limit() {
		return msg, fmt.Errorf("%w: %v of %d bytes, limit %d", ErrTooLarge, obj.Kind, len(obj.Payload), obj.Kind.Limit())
	}
	if err := Unmarshal(obj.Payload, &msg); err != nil {
		return msg, fmt.Errorf("%v: %w", obj.Kind, err)
	}
	if err := msg.Validate(); err != nil {
		return msg, fmt.Errorf("%v: %w", obj.Kind, err)
	}
	return msg, nil
}

// Seal signs a message.
func Seal(m Market, s identity.Signer, msg Message) (Object, error) {
	obj := Draft(msg)
	sig, err := s.Sign(m.Digest(msg, obj.Payload))
	if err != nil {
		return Object{}, err
	}
	obj.Sig = sig
	return obj, nil
}

// FrameLimit is the most bytes of one frame on a stream.
const FrameLimit = 256 << 10

// A Frame is one request or answer on a stream: what is asked, its signed objects, and parameters that need no
// signature because they do no harm.
type Frame struct {
	_       struct{} `cbor:",toarray"`
	Op      uint8
	Objects []Object
	Body    []byte
}
