package market

import (
	"slices"
	"strings"
	"testing"

	"souk/p2p/member"
	"souk/p2p/wire"
)

func TestOffersAreBounded(t *testing.T) {
	for name, change := range map[string]func(*Offer){
		"sequence 0":          func(o *Offer) { o.Seq = 0 },
		"ends as it begins":   func(o *Offer) { o.Expires = o.At },
		"lives over an hour":  func(o *Offer) { o.Expires = o.At + member.Hour + 1 },
		"17 groups":           func(o *Offer) { o.Groups = slices.Repeat(o.Groups, 17) },
		"17 addresses":        func(o *Offer) { o.Addrs = slices.Repeat(o.Addrs, 17) },
		"long address":        func(o *Offer) { o.Addrs = []string{strings.Repeat("x", 257)} },
		"negative storage":    func(o *Offer) { o.Disk = -1 },
		"negative stopped":    func(o *Offer) { o.Stopped = -1 },
		"negative zero rate":  func(o *Offer) { o.ZeroGPU = -1 },
		"grace of 4 s":        func(o *Offer) { o.Grace = 4 },
		"grace over 300 s":    func(o *Offer) { o.Grace = 301 },
		"long region":         func(o *Offer) { o.Region = "nowhere-x" },
		"no model":            func(o *Offer) { o.Groups[0].Model = "" },
		"long model":          func(o *Offer) { o.Groups[0].Model = strings.Repeat("x", 65) },
		"free of charge":      func(o *Offer) { o.Groups[0].Price = 0 },
		"floor over price":    func(o *Offer) { o.Groups[0].Floor = o.Groups[0].Price + 1 },
		"no floor":            func(o *Offer) { o.Groups[0].Floor = 0 },
		"negative spot":       func(o *Offer) { o.Groups[0].SpotNow = -1 },
		"no GPUs":             func(o *Offer) { o.Groups[0] = Group{Model: "A", Price: 1, Floor: 1} },
		"more free than GPUs": func(o *Offer) { o.Groups[0].Free = 5 },
		"more for on-demand":  func(o *Offer) { o.Groups[0].OnDemand = 5 },
		"long machine text":   func(o *Offer) { o.Machine.CPU = strings.Repeat("x", 97) },
	} {
		o := testListing().Offer
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		o.Groups = slices.Clone(o.Groups)
		change(&o)
		if o.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
	}
}

func TestOfferIsLiveUntilItExpires(t *testing.T) {
	o := testListing().Offer
	if !o.Live(o.Expires-1) || o.Live(o.Expires) {
		t.Error("an offer lives until it expires")
	}
	o.Groups = nil
	if o.Live(o.At) {
		t.Error("a withdrawn offer is live")
	}
	if err := o.Validate(); err != nil {
		t.Errorf("a withdrawn offer: %v", err)
	}
}

func TestKindOfBidIsNeverGuessed(t *testing.T) {
	for s, want := range map[string]BidKind{"on-demand": OnDemand, "spot": Spot, "": 0, "Spot": 0, "demand": 0} {
		k, err := ParseBidKind(s)
		if k != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %v, %v", s, k, err)
		}
		if want != 0 && k.String() != s {
			t.Errorf("%q is printed %q", s, k)
		}
	}
}

// FuzzOffer checks that what decodes has one spelling and never panics.
func FuzzOffer(f *testing.F) {
	f.Add(wire.Marshal(testListing().Offer))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := wire.Decode[Offer](wire.Object{Kind: wire.KindOffer, Payload: b})
		if err != nil {
			return
		}
		if string(wire.Marshal(o)) != string(b) {
			t.Fatalf("%x decodes and encodes as %x", b, wire.Marshal(o))
		}
		for i := range o.Groups {
			Match([]Listing{{Offer: o, Group: i}}, Want{Type: Spot, MaxRate: 1, GPUs: 1}, o.At)
		}
	})
}
