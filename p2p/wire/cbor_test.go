package wire_test

import (
	"encoding/hex"
	"errors"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

type record struct {
	Number uint64       `cbor:"1,keyasint"`
	Text   string       `cbor:"2,keyasint"`
	List   []uint64     `cbor:"3,keyasint"`
	Raw    []byte       `cbor:"4,keyasint"`
	Child  *record      `cbor:"5,keyasint,omitempty"`
	ID     wire.ID      `cbor:"6,keyasint"`
	Signed int64        `cbor:"7,keyasint"`
	Flags  map[int]bool `cbor:"8,keyasint,omitempty"`
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOtherSpellingsAreRefused(t *testing.T) {
	const id = "06 50 00000000000000000000000000000000"
	const good = "a6 01 07 02 61 61 03 81 01 04 41 ff " + id + " 07 20"
	var r record
	if err := wire.Unmarshal(unhex(t, good), &r); err != nil || r.Number != 7 || r.Signed != -1 {
		t.Fatalf("got %+v, %v", r, err)
	}
	for _, c := range []struct{ name, hex string }{
		{"empty", ""},
		{"longer number", strings.Replace(good, "01 07", "01 18 07", 1)},
		{"longer key", strings.Replace(good, "a6 01", "a6 18 01", 1)},
		{"longer text length", strings.Replace(good, "61 61", "78 01 61", 1)},
		{"longer list length", strings.Replace(good, "81 01", "98 01 01", 1)},
		{"indefinite text", strings.Replace(good, "61 61", "7f 61 61 ff", 1)},
		{"indefinite list", strings.Replace(good, "81 01", "9f 01 ff", 1)},
		{"indefinite map", "bf" + good[2:] + "ff"},
		{"keys out of order", "a6 02 61 61 01 07 03 81 01 04 41 ff " + id + " 07 20"},
		{"key twice", "a7 01 07 01 07 02 61 61 03 81 01 04 41 ff " + id + " 07 20"},
		{"unknown key", "a7 01 07 02 61 61 03 81 01 04 41 ff " + id + " 07 20 09 01"},
		{"missing key", "a5 01 07 02 61 61 03 81 01 04 41 ff " + id},
		{"text key", "a7 01 07 02 61 61 03 81 01 04 41 ff " + id + " 07 20 61 78 01"},
		{"trailing byte", good + "00"},
		{"cut", good[:len(good)-3]},
		{"float for a number", strings.Replace(good, "01 07", "01 f9 4700", 1)},
		{"tag", strings.Replace(good, "01 07", "01 c1 07", 1)},
		{"null for a number", strings.Replace(good, "01 07", "01 f6", 1)},
		{"null for bytes", strings.Replace(good, "04 41 ff", "04 f7", 1)},
		{"negative for unsigned", strings.Replace(good, "01 07", "01 20", 1)},
		{"text for bytes", strings.Replace(good, "04 41 ff", "04 61 61", 1)},
		{"list for bytes", strings.Replace(good, "04 41 ff", "04 81 18 ff", 1)},
		{"bad UTF-8", strings.Replace(good, "61 61", "61 ff", 1)},
		{"array for a map", "86 07 61 61 81 01 41 ff 50 00000000000000000000000000000000 20"},
		{"short id", strings.Replace(good, id, "06 4f 000000000000000000000000000000", 1)},
		{"long id", strings.Replace(good, id, "06 51 0000000000000000000000000000000000", 1)},
		{"list for an id", strings.Replace(good, id, "06 90 00000000000000000000000000000000", 1)},
		{"number over 64 bits", strings.Replace(good, "01 07", "01 c2 49 010000000000000000", 1)},
	} {
		var r record
		if err := wire.Unmarshal(unhex(t, c.hex), &r); !errors.Is(err, wire.ErrEncoding) {
			t.Errorf("%s: got %+v, %v", c.name, r, err)
		}
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	for _, unit := range []string{"81", "a1 05", "d8 18", "a1 01 81"} {
		var r record
		if err := wire.Unmarshal(unhex(t, strings.Repeat(unit, 10_000)+"00"), &r); !errors.Is(err, wire.ErrEncoding) {
			t.Errorf("%s nested: got %v", unit, err)
		}
	}
}

// TestLengthsAreNotBelieved decodes a few bytes that promise very many, and looks at what was allocated.
func TestLengthsAreNotBelieved(t *testing.T) {
	for _, s := range []string{
		"a1 03 9b 7fffffffffffffff", "a1 03 9a 00ffffff", "a1 03 9a 00004000 01", "a1 04 5b 7fffffffffffffff", "a1 04 5a 7fffffff",
		"a1 02 7b 7fffffffffffffff", "bb 7fffffffffffffff", "ba 00001000 01", "a1 08 ba 00001000 01 f5",
	} {
		b := unhex(t, s)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			var r record
			if err := wire.Unmarshal(b, &r); !errors.Is(err, wire.ErrEncoding) {
				t.Fatalf("%s: got %v", s, err)
			}
		}
		runtime.ReadMemStats(&after)
		if per := (after.TotalAlloc - before.TotalAlloc) / 100; per > 8192 {
			t.Errorf("%s: %d bytes allocated", s, per)
		}
	}
}

func TestOversizedPayloadIsRefusedBeforeDecoding(t *testing.T) {
	for _, s := range samples(t) {
		k := s.msg.Kind()
		_, err := s.decode(wire.Object{Kind: k, Payload: make([]byte, k.Limit()+1)})
		if !errors.Is(err, wire.ErrTooLarge) {
			t.Errorf("%v: got %v", k, err)
		}
	}
}

func TestSignatureOfAnotherKeyIsForged(t *testing.T) {
	m := testMarket()
	stranger, err := identity.ParsePrivateKey(big.NewInt(77).FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range samples(t) {
		obj, err := wire.Seal(m, stranger, s.msg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.open(wire.Opener{Market: m, Verifier: identity.Secp256k1{}}, obj); !errors.Is(err, wire.ErrForged) {
			t.Errorf("%v: got %v", s.msg.Kind(), err)
		}
	}
}

// TestDomainsDiffer guards what keeps a signature of one kind from being one of another.
func TestDomainsDiffer(t *testing.T) {
	seen := map[string]wire.Kind{}
	for k := range wire.Kind(256) {
		if k.Limit() == 0 {
			continue
		}
		if old, ok := seen[k.Domain()]; ok {
			t.Errorf("%d and %d share %s", old, k, k.Domain())
		}
		if seen[k.Domain()] = k; len(k.Domain()) > 255 {
			t.Errorf("%s is over 255 bytes", k.Domain())
		}
	}
}

func TestIDTextRoundTrips(t *testing.T) {
	want := wire.ID{1, 2, 15: 0xff}
	var id wire.ID
	if err := id.UnmarshalText([]byte(strings.ToUpper(want.String()))); err != nil || id != want {
		t.Fatalf("got %v, %v", id, err)
	}
	for _, bad := range []string{"", "0x" + want.String(), want.String()[2:], want.String() + "00", strings.Repeat("g", 32)} {
		if err := id.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestAnIDInCBORHasSixteenBytes(t *testing.T) {
	id := wire.ID{1, 15: 2}
	b := wire.Marshal(id)
	var again wire.ID
	if err := wire.Unmarshal(b, &again); err != nil || again != id {
		t.Errorf("%x: %v, %v", b, again, err)
	}
	for _, n := range []int{0, 15, 17, 32} {
		if err := wire.Load(wire.Marshal(make([]byte, n)), &again); err == nil {
			t.Errorf("%d bytes are taken for an id", n)
		}
	}
}
