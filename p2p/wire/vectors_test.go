package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common/math"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file, or rewrites the file.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s is not what this code makes; what is signed must never change under the same kind. got:\n%s", path, got)
	}
}

// A vector is what one message is in bytes.
type vector struct {
	Kind      string `json:"kind"`
	Number    uint16 `json:"number"`
	Payload   string `json:"payload"`
	Ref       string `json:"ref"`
	Digest    string `json:"digest"`
	Signature string `json:"signature"`
}

func TestVectorsOfEveryKind(t *testing.T) {
	m, k := testMarket(), testKey(t)
	list := []vector{}
	last := wire.Kind(0)
	for _, s := range samples(t) {
		kind := s.msg.Kind()
		if kind < last { // a kind that has got fields since has its former sample first
			t.Fatalf("%v stands after %v", kind, last)
		}
		last = kind
		if err := s.msg.Validate(); err != nil {
			t.Fatalf("%v: %v", kind, err)
		}
		o, err := wire.Seal(m, k, s.msg)
		if err != nil {
			t.Fatal(err)
		}
		back, err := s.decode(o)
		if err != nil || !reflect.DeepEqual(back, s.msg) {
			t.Fatalf("%v: decoded %+v, %v, want %+v", kind, back, err, s.msg)
		}
		digest := m.Digest(s.msg, o.Payload)
		list = append(list, vector{kind.String(), uint16(kind), hex.EncodeToString(o.Payload), o.Ref(m).String(), digest.String(),
			hex.EncodeToString(o.Sig[:])})
	}
	got, err := json.MarshalIndent(map[string]any{
		"market":    map[string]any{"id": m.ID, "chainId": m.ChainID, "contract": m.Contract, "separator": m.Separator()},
		"key":       strings.Repeat("46", 32),
		"address":   k.Address(),
		"publicKey": fmt.Sprintf("%x", k.Public()),
		"objects":   list,
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/vectors.json", append(got, '\n'))
}

func TestSealedOpensAndNothingElseDoes(t *testing.T) {
	m, k := testMarket(), testKey(t)
	o := wire.Opener{Market: m, Verifier: identity.Secp256k1{}}
	other := wire.Opener{Market: wire.NewMarket(identity.Hash{1}, m.ChainID, m.Contract), Verifier: identity.Secp256k1{}}
	for _, s := range samples(t) {
		kind := s.msg.Kind()
		if s.msg.Signer() != k.Address() {
			t.Fatalf("%v: the sample's signer is %v", kind, s.msg.Signer())
		}
		obj, err := wire.Seal(m, k, s.msg)
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.open(o, obj)
		if err != nil || v.By() != k.Address() || v.Ref() != obj.Ref(m) {
			t.Fatalf("%v: %v", kind, err)
		}
		if _, err := s.open(other, obj); err == nil {
			t.Fatalf("%v opens in another market", kind)
		}
		if _, err := s.open(o, wire.Object{Kind: kind, Payload: obj.Payload}); err == nil {
			t.Fatalf("%v: a draft opens", kind)
		}
		if _, err := s.open(o, wire.Object{Kind: kind ^ 1, Payload: obj.Payload, Sig: obj.Sig}); err == nil {
			t.Fatalf("%v opens as %v", kind, kind^1)
		}
		for i := range obj.Payload {
			bad := obj
			bad.Payload = bytes.Clone(obj.Payload)
			bad.Payload[i] ^= 1
			if _, err := s.open(o, bad); err == nil {
				t.Fatalf("%v opens with byte %d changed", kind, i)
			}
		}
	}
}

// members are the types and names in a type string.
func members(typeString string) (name string, list []apitypes.Type) {
	name, rest, _ := strings.Cut(strings.TrimSuffix(typeString, ")"), "(")
	for _, m := range strings.Split(rest, ",") {
		kind, field, _ := strings.Cut(m, " ")
		list = append(list, apitypes.Type{Name: field, Type: kind})
	}
	return name, list
}

// flat are the fields of a message in order, those of structs inside it in place.
func flat(v reflect.Value) []reflect.Value {
	var out []reflect.Value
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Struct {
			out = append(out, flat(f)...)
		} else {
			out = append(out, f)
		}
	}
	return out
}

// plain is a field as go-ethereum's typed data wants it.
func plain(t *testing.T, kind string, v reflect.Value) any {
	t.Helper()
	switch x := v.Interface().(type) {
	case identity.PublicKey:
		return x[:]
	case []identity.PublicKey:
		var list []any
		for _, k := range x {
			a, err := k.Address()
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, a.String())
		}
		return list
	case identity.Address:
		return x.String()
	case identity.Hash:
		return x[:]
	case wire.ID:
		return x[:]
	case bool:
		return x
	}
	switch {
	case kind == "string":
		return fmt.Sprint(v.Interface())
	case v.CanInt():
		return fmt.Sprint(v.Int())
	}
	return fmt.Sprint(v.Uint())
}

// TestTypedDataIsEthereums checks our EIP-712 hashes against go-ethereum's own. A member of the type string must be the
// field of the Go type at the same place.
func TestTypedDataIsEthereums(t *testing.T) {
	m := testMarket()
	for _, s := range samples(t) {
		msg, ok := s.msg.(wire.TypedMessage)
		if ok != s.msg.Kind().Typed() {
			t.Fatalf("%v: typed %v, its number says %v", s.msg.Kind(), ok, !ok)
		}
		if !ok {
			continue
		}
		name, list := members(msg.Typed().Type())
		fields := flat(reflect.ValueOf(s.msg))
		if len(fields) != len(list) {
			t.Fatalf("%s has %d members, the Go type %d fields", name, len(list), len(fields))
		}
		values := apitypes.TypedDataMessage{}
		for i, f := range fields {
			values[list[i].Name] = plain(t, list[i].Type, f)
		}
		data := apitypes.TypedData{
			Types: apitypes.Types{name: list, "EIP712Domain": {{Name: "name", Type: "string"}, {Name: "version", Type: "string"},
				{Name: "chainId", Type: "uint256"}, {Name: "verifyingContract", Type: "address"}, {Name: "salt", Type: "bytes32"}}},
			PrimaryType: name,
			Domain: apitypes.TypedDataDomain{Name: "Souk", Version: "1", ChainId: math.NewHexOrDecimal256(int64(m.ChainID)),
				VerifyingContract: m.Contract.String(), Salt: "0x" + m.ID.String()},
			Message: values,
		}
		separator, err := data.HashStruct("EIP712Domain", data.Domain.Map())
		if err != nil || identity.Hash(separator) != m.Separator() {
			t.Fatalf("separator: go-ethereum has %x, %v, want %v", separator, err, m.Separator())
		}
		hash, err := data.HashStruct(name, values)
		if err != nil || identity.Hash(hash) != msg.Typed().Hash() {
			t.Fatalf("%s: go-ethereum has %x, %v; ours is %v", name, hash, err, msg.Typed().Hash())
		}
		digest, _, err := apitypes.TypedDataAndHash(data)
		if err != nil || identity.Hash(digest) != m.Digest(s.msg, nil) {
			t.Fatalf("%s: digest of go-ethereum %x, %v", name, digest, err)
		}
	}
}

func TestProtocolPageTellsTheTruth(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`# Signed objects

Generated by ` + "`go test ./p2p/wire -update`" + ` from the code; do not edit. A payload is deterministic CBOR (RFC 8949 §4.2.1) with
integer keys: the field numbers in the Go types. An object travels as an array of kind number, payload and signature (65
bytes, r ‖ s ‖ v, low s, v 27 or 28).

Kinds up to 31 are signed as EIP-712 typed data, under the domain {name "Souk", version "1", chainId and
verifyingContract of the charter, salt: the market's id}. All others are signed over
keccak256(len ‖ domain ‖ market id ‖ payload), where len is one byte. That hash is also the object's ref, whatever its
signature covers. The market's id is keccak256("souk/market/1" ‖ payload of its charter).

`)
	b.WriteString("| kind | domain | Go type | signed as | most bytes |\n|---:|---|---|---|---:|\n")
	var types []string
	for _, s := range samples(t) {
		k, as := s.msg.Kind(), "bytes"
		if typed, ok := s.msg.(wire.TypedMessage); ok {
			as = "EIP-712"
			types = append(types, fmt.Sprintf("- `%s`: `%s`", k.Domain(), typed.Typed().Type()))
		}
		line := fmt.Sprintf("| %d | `%s` | `%T` | %s | %d |\n", k, k.Domain(), s.msg, as, k.Limit())
		if !bytes.HasSuffix(b.Bytes(), []byte(line)) { // a kind may have more than one sample
			b.WriteString(line)
		}
	}
	b.WriteString("\n## Type strings\n\n" + strings.Join(types, "\n") + "\n")
	b.WriteString("\nVectors of every kind: `p2p/wire/testdata/vectors.json`.\n")
	golden(t, "../../docs/protocol/objects.md", b.Bytes())
}

// FuzzDecode feeds bytes to the decoder of every kind: no panic, one spelling, and what decodes can be hashed.
func FuzzDecode(f *testing.F) {
	all := samples(f)
	for i, s := range all {
		f.Add(uint8(i), wire.Marshal(s.msg))
	}
	m := testMarket()
	f.Fuzz(func(t *testing.T, n uint8, payload []byte) {
		s := all[int(n)%len(all)]
		msg, err := s.decode(wire.Object{Kind: s.msg.Kind(), Payload: payload})
		if err != nil {
			return
		}
		if again := wire.Marshal(msg); !bytes.Equal(again, payload) {
			t.Fatalf("%v: %x decodes and encodes to %x", s.msg.Kind(), payload, again)
		}
		msg.Signer()
		m.Digest(msg, payload)
	})
}
