package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Errors that callers test with errors.Is.
var (
	ErrTooLarge     = errors.New("wire: message is over its size limit")
	ErrEncoding     = errors.New("wire: not in the one accepted encoding")
	ErrUnknownKind  = errors.New("wire: unknown kind of message")
	ErrWrongKind    = errors.New("wire: another kind of message than asked for")
	ErrForged       = errors.New("wire: signed by another key than it names")
	ErrNoDraftReady = errors.New("wire: an unsigned draft")
)

var (
	encoder = mustEncoder()
	decoder = mustDecoder()
)

func mustEncoder() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return m
}

func mustDecoder() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   12,
		MaxArrayElements:  16384,
		MaxMapPairs:       4096,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}

// Marshal encodes v as deterministic CBOR (RFC 8949 §4.2.1). Values of this program always encode; anything else is a
// bug.
func Marshal(v any) []byte {
	b, err := encoder.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("wire: %T does not encode: %v", v, err))
	}
	return b
}

// Unmarshal decodes exactly what Marshal would have written, and nothing else: b must be the only spelling of its
// value, with no byte after it.
func Unmarshal(b []byte, v any) error {
	if err := decoder.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %v", ErrEncoding, err)
	}
	again, err := encoder.Marshal(v)
	if err != nil || !bytes.Equal(again, b) {
		return fmt.Errorf("%w: another spelling of the same value", ErrEncoding)
	}
	return nil
}

// Load decodes what this node itself once wrote to its own store, where the second check of Unmarshal is not needed.
func Load(b []byte, v any) error {
	if err := decoder.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %v", ErrEncoding, err)
	}
	return nil
}
