package market

import "testing"

func TestWordsReadBack(t *testing.T) {
	for s := StateHeld; s <= StateEnded; s++ {
		var back State
		if err := back.UnmarshalText([]byte(s.String())); err != nil || back != s {
			t.Errorf("state %v reads back as %v, %v", s, back, err)
		}
	}
	for r := ReasonNone; r < reasonAfterLast; r++ {
		var back Reason
		if err := back.UnmarshalText([]byte(r.String())); err != nil || back != r {
			t.Errorf("reason %v reads back as %v, %v", r, back, err)
		}
	}
	for _, k := range []BidKind{OnDemand, Spot} {
		var back BidKind
		if err := back.UnmarshalText([]byte(k.String())); err != nil || back != k {
			t.Errorf("kind %v reads back as %v, %v", k, back, err)
		}
	}
	var s State
	if s.UnmarshalText([]byte("asleep")) == nil {
		t.Errorf("asleep was read as state %v", s)
	}
}
