package member

import (
	"encoding/json"
	"testing"
)

func TestTimeTravelsAsText(t *testing.T) {
	for _, c := range []struct {
		at   Time
		want string
	}{
		{0, `""`},
		{1_790_820_000_000, `"2026-10-01T02:00:00Z"`},
		{1_790_820_000_007, `"2026-10-01T02:00:00.007Z"`},
	} {
		b, err := json.Marshal(c.at)
		if err != nil || string(b) != c.want {
			t.Errorf("Marshal(%d) = %s, %v; want %s", int64(c.at), b, err, c.want)
		}
		var back Time
		if err := json.Unmarshal(b, &back); err != nil || back != c.at {
			t.Errorf("Unmarshal(%s) = %d, %v; want %d", b, int64(back), err, int64(c.at))
		}
	}
	var at Time
	if err := json.Unmarshal([]byte(`"tomorrow"`), &at); err == nil {
		t.Errorf("tomorrow was read as %v", at)
	}
}
