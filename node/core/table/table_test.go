package table

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestEveryTableHasAFixedLayout(t *testing.T) {
	names := map[string]Table{}
	for _, tab := range All() {
		in := layout[tab]
		if other, taken := names[in.name]; taken || in.name == "" {
			t.Errorf("table 0x%02x: name %q is empty or taken by 0x%02x", byte(tab), in.name, byte(other))
		}
		names[in.name] = tab
		if len(in.fields) == 0 {
			t.Errorf("%s has no fields", tab)
		}
		for i, width := range in.fields {
			if width == free && i != len(in.fields)-1 {
				t.Errorf("%s: field %d is free in length and not the last", tab, i)
			}
		}
	}
	if got, want := len(names), 44; got != want {
		t.Errorf("%d tables, want %d: bring the package comment up to date too", got, want)
	}
}

func TestKeysSortAsTheirNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		lease := rapid.SliceOfN(rapid.Byte(), id, id).Draw(t, "lease")
		ka, kb := Key(Usage, lease, Uint64(a)), Key(Usage, lease, Uint64(b))
		if got, want := bytes.Compare(ka, kb) < 0, a < b; got != want {
			t.Fatalf("key of %d before key of %d: %v, want %v", a, b, got, want)
		}
		if got := Number(Field(ka, 1)); got != a {
			t.Fatalf("sequence of the key of %d reads %d", a, got)
		}
		if !bytes.Equal(Field(ka, 0), lease) {
			t.Fatalf("lease of key %x reads %x, want %x", ka, Field(ka, 0), lease)
		}
		if err := Check(ka); err != nil {
			t.Fatalf("Check(%x): %v", ka, err)
		}
		if end := After(Key(Usage, lease)); end != nil && bytes.Compare(ka, end) >= 0 {
			t.Fatalf("key %x is not before the end %x of its prefix", ka, end)
		}
	})
}

func TestIncompleteKeysAreRefused(t *testing.T) {
	for _, key := range [][]byte{nil, {0x02}, {0xff, 1}, {byte(Config)}, Key(Usage, make([]byte, id)), append(Key(Policy, Uint64(1)), 0)} {
		if err := Check(key); err == nil {
			t.Errorf("Check(%x) passed, want an error", key)
		}
	}
}

func TestAWrongFieldPanics(t *testing.T) {
	for name, build := range map[string]func(){
		"width":   func() { Key(HostLease, make([]byte, 15)) },
		"surplus": func() { Key(HostLease, make([]byte, 16), Uint64(1)) },
		"table":   func() { Key(Table(0x99)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			build()
		}()
	}
}

func TestAfterIsTheEndOfAPrefix(t *testing.T) {
	for _, c := range []struct{ prefix, want []byte }{
		{nil, nil},
		{[]byte{0xff, 0xff}, nil},
		{[]byte{0x30}, []byte{0x31}},
		{[]byte{0x30, 0xff}, []byte{0x31}},
		{[]byte{0x30, 0x01, 0xff}, []byte{0x30, 0x02}},
	} {
		if got := After(c.prefix); !bytes.Equal(got, c.want) {
			t.Errorf("After(%x) = %x, want %x", c.prefix, got, c.want)
		}
	}
}
