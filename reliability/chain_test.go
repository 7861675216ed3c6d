package reliability

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

func testMarket() wire.Market {
	return wire.NewMarket(identity.Keccak([]byte("test")), 1, identity.Address{1})
}

func refOf(b Beat) identity.Hash { return testMarket().Ref(wire.KindBeat, wire.Marshal(b)) }

// TestHonestChainsAreFollowed drops, repeats and delays beats at random.
func TestHonestChainsAreFollowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var beats []Beat
		prev, minute := identity.Hash{}, member.Minute(100)
		for i := range rapid.IntRange(1, 30).Draw(t, "beats") {
			b := Beat{Host: identity.Address{1}, Seq: uint64(i + 1), Minute: minute, Prev: prev}
			beats, prev = append(beats, b), refOf(b)
			minute += member.Minute(rapid.Uint64Range(0, 3).Draw(t, "pause"))
		}
		var c Chain
		got, first, newest := map[uint64]bool{}, uint64(0), uint64(0)
		for range 40 {
			b := beats[rapid.IntRange(0, len(beats)-1).Draw(t, "which")]
			next, err := c.Follow(b, refOf(b))
			var want error
			switch {
			case b.Seq == newest:
				want = ErrRepeat
			case b.Seq < newest:
				want = ErrOld
			}
			if !errors.Is(err, want) || err != nil && next != c {
				t.Fatalf("beat %d after %d: %v, want %v", b.Seq, newest, err, want)
			}
			if err == nil {
				if first == 0 {
					first = b.Seq
				}
				newest, got[b.Seq] = b.Seq, true
			}
			c = next
			if missed := newest - first + 1 - uint64(len(got)); c.Missed != missed || c.Seq != newest {
				t.Fatalf("chain %+v, want %d missed at %d", c, missed, newest)
			}
		}
	})
}

func TestDishonestChainsAreNot(t *testing.T) {
	first := Beat{Host: identity.Address{1}, Seq: 5, Minute: 100, Boot: wire.ID{1}}
	c, err := Chain{}.Follow(first, refOf(first))
	if err != nil {
		t.Fatal(err)
	}
	good := Beat{Host: first.Host, Seq: 6, Minute: 101, Prev: refOf(first), Boot: wire.ID{2}}
	next, err := c.Follow(good, refOf(good))
	if err != nil || !c.Restarted(next) || c.Restarted(c) || (Chain{}).Restarted(next) {
		t.Fatalf("the next beat, of a new boot: %+v, %v", next, err)
	}
	for name, x := range map[string]struct {
		change func(*Beat)
		want   error
	}{
		"another of one number":   {func(b *Beat) { b.Seq = 5 }, ErrFork},
		"names another before it": {func(b *Beat) { b.Prev = identity.Hash{1} }, ErrFork},
		"minute goes back":        {func(b *Beat) { b.Minute = 99 }, ErrBackwards},
		"another host":            {func(b *Beat) { b.Host = identity.Address{2} }, ErrOther},
	} {
		b := good
		x.change(&b)
		if got, err := c.Follow(b, refOf(b)); !errors.Is(err, x.want) || got != c {
			t.Errorf("%s: %v, want %v and the chain as it was", name, err, x.want)
		}
	}
}

func TestForkConvictsItsSignerOnly(t *testing.T) {
	m := testMarket()
	o := wire.Opener{Market: m, Verifier: identity.Secp256k1{}}
	seal := func(n byte, b Beat) wire.Object {
		k, err := identity.ParsePrivateKey(slices.Concat(make([]byte, 31), []byte{n}))
		if err != nil {
			t.Fatal(err)
		}
		b.Host = k.Address()
		obj, err := wire.Seal(m, k, b)
		if err != nil {
			t.Fatal(err)
		}
		return obj
	}
	a := seal(1, Beat{Seq: 3})
	for name, x := range map[string]struct {
		b    wire.Object
		want bool
	}{
		"two of one number":   {seal(1, Beat{Seq: 3, Minute: 1}), true},
		"names another":       {seal(1, Beat{Seq: 4, Prev: identity.Hash{1}}), true},
		"names it":            {seal(1, Beat{Seq: 4, Prev: a.Ref(m)}), false},
		"the same":            {a, false},
		"two numbers later":   {seal(1, Beat{Seq: 5}), false},
		"one before":          {seal(1, Beat{Seq: 2}), false},
		"another host's":      {seal(2, Beat{Seq: 3, Minute: 1}), false},
		"signed by no one":    {wire.Object{Kind: a.Kind, Payload: seal(1, Beat{Seq: 3, Minute: 1}).Payload}, false},
		"another's signature": {wire.Object{Kind: a.Kind, Payload: seal(1, Beat{Seq: 3, Minute: 1}).Payload, Sig: seal(2, Beat{Seq: 3, Minute: 1}).Sig}, false},
	} {
		who, err := Fork{A: a, B: x.b}.Prove(o)
		if (err == nil) != x.want || x.want && who.IsZero() {
			t.Errorf("%s: convicts %v, %v; want %v", name, who, err, x.want)
		}
	}
}

func FuzzBeat(f *testing.F) {
	f.Add(wire.Marshal(Beat{Seq: 1, Version: "1"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		beat, err := wire.Decode[Beat](wire.Object{Kind: wire.KindBeat, Payload: b})
		if err != nil {
			return
		}
		if string(wire.Marshal(beat)) != string(b) {
			t.Fatalf("%x decodes and encodes as %x", b, wire.Marshal(beat))
		}
		if _, err := (Chain{}).Follow(beat, refOf(beat)); err != nil {
			t.Fatal(err)
		}
	})
}
