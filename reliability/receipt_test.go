package reliability

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

func receiptRef(r Receipt) identity.Hash { return testMarket().Ref(wire.KindReceipt, wire.Marshal(r)) }

// TestTestimonyIsMoreThanHalf draws receipts of a panel's members and of others, for this host and another, and counts by hand.
func TestTestimonyIsMoreThanHalf(t *testing.T) {
	host, other := identity.Address{1}, identity.Address{2}
	rapid.Check(t, func(t *rapid.T) {
		var members []identity.Address
		for i := range rapid.IntRange(1, 6).Draw(t, "panel") {
			members = append(members, identity.Address{10, byte(i)})
		}
		panel := NewPanel(members...)
		seen := NewTestimony(host, panel)
		count := map[member.Minute]map[identity.Address]bool{}
		for range rapid.IntRange(0, 40).Draw(t, "receipts") {
			r := Receipt{
				Witness: identity.Address{10, byte(rapid.IntRange(0, 8).Draw(t, "witness"))}, Host: rapid.SampledFrom([]identity.Address{host, host, other}).Draw(t, "host"),
				Minute: member.Minute(rapid.Uint64Range(0, 4).Draw(t, "minute")), Answer: identity.Hash{1},
			}
			seen.Add(r, receiptRef(r))
			if r.Host == host && int(r.Witness[1]) < len(members) {
				if count[r.Minute] == nil {
					count[r.Minute] = map[identity.Address]bool{}
				}
				count[r.Minute][r.Witness] = true
			}
		}
		for m := range member.Minute(5) {
			if got, want := seen.Has(m), 2*len(count[m]) > len(members); got != want {
				t.Fatalf("minute %d: %d of %d: %v, want %v", m, len(count[m]), len(members), got, want)
			}
		}
	})
}

func TestRootBindsEachReceiptOfItsMinutes(t *testing.T) {
	host, a, b, stranger := identity.Address{1}, identity.Address{2}, identity.Address{3}, identity.Address{4}
	panel := NewPanel(b, a, b)
	if len(panel) != 2 || panel[0] != a {
		t.Fatalf("the panel is %v", panel)
	}
	root := func(rs ...Receipt) identity.Hash {
		seen := NewTestimony(host, panel)
		for _, r := range rs {
			r.Host = host
			seen.Add(r, receiptRef(r))
		}
		return seen.Root(100, 0b101)
	}
	first, second, between := Receipt{Witness: a, Minute: 100}, Receipt{Witness: b, Minute: 102}, Receipt{Witness: a, Minute: 101}
	want := root(first, second)
	for name, x := range map[string]struct {
		got  identity.Hash
		same bool
	}{
		"another order":           {root(second, first), true},
		"of a minute not billed":  {root(first, second, between), true},
		"a stranger's":            {root(first, second, Receipt{Witness: stranger, Minute: 100}), true},
		"the same twice":          {root(first, second, first), true},
		"one less":                {root(first), false},
		"one more":                {root(first, second, Receipt{Witness: b, Minute: 100}), false},
		"another answer":          {root(Receipt{Witness: a, Minute: 100, Answer: identity.Hash{9}}, second), false},
		"the same of the witness": {root(first, Receipt{Witness: a, Minute: 102}), false},
	} {
		if (x.got == want) != x.same {
			t.Errorf("%s: root %v, with the two %v", name, x.got, want)
		}
	}
}

func TestPanelsAreInOrder(t *testing.T) {
	a, b := identity.Address{1}, identity.Address{2}
	for name, x := range map[string]struct {
		p  Panel
		ok bool
	}{
		"two": {Panel{a, b}, true}, "none": {nil, false}, "out of order": {Panel{b, a}, false}, "one twice": {Panel{a, a}, false},
		"nobody": {Panel{{}, a}, false}, "seventeen": {make(Panel, MostPanel+1), false},
	} {
		if err := x.p.Validate(); (err == nil) != x.ok || err != nil && !errors.Is(err, ErrPanel) {
			t.Errorf("%s: %v, want valid %v", name, err, x.ok)
		}
	}
	if (Panel{a}).Hash() == (Panel{a, b}).Hash() || (Panel{a}).Hash() == (Panel{b}).Hash() || !(Panel{a, b}).Has(b) || (Panel{a}).Has(b) {
		t.Error("panels are taken for one another")
	}
}

func TestReceiptsNameTwoOthers(t *testing.T) {
	w, h := identity.Address{1}, identity.Address{2}
	for name, x := range map[string]struct {
		msg wire.Message
		ok  bool
	}{
		"receipt":           {Receipt{Witness: w, Host: h, Answer: identity.Hash{1}}, true},
		"receipt of itself": {Receipt{Witness: h, Host: h, Answer: identity.Hash{1}}, false},
		"without answer":    {Receipt{Witness: w, Host: h}, false},
		"unknown path":      {Receipt{Witness: w, Host: h, Answer: identity.Hash{1}, Path: PathRelay + 1}, false},
		"presence":          {Presence{Host: h, Witness: w}, true},
		"presence for none": {Presence{Host: h}, false},
	} {
		if err := x.msg.Validate(); (err == nil) != x.ok {
			t.Errorf("%s: %v, want valid %v", name, err, x.ok)
		}
	}
}
