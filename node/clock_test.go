package node

import (
	"testing"
	"time"

	"souk/p2p/member"
)

func TestClockFollowsWhatPeersAgreeWith(t *testing.T) {
	const start = member.Time(1_800_000_000_000)
	nobody := func(member.Time) bool { return false }
	peers := func(at member.Time) func(member.Time) bool {
		return func(ahead member.Time) bool { return ahead > at-clockJump && ahead < at+clockJump }
	}
	for name, c := range map[string]struct {
		wall   member.Time // jumped by, after 10 s
		agreed func(member.Time) bool
		want   member.Time // after start, at 20 s
		off    bool
	}{
		"steady":                     {0, nobody, 20 * member.Second, false},
		"corrected a little":         {5 * member.Second, nobody, 25 * member.Second, false},
		"set back a little":          {-15 * member.Second, nobody, 10 * member.Second, false},
		"two hours ahead, alone":     {2 * member.Hour, nobody, 20 * member.Second, true},
		"two hours ahead, with all":  {2 * member.Hour, peers(2 * member.Hour), 2*member.Hour + 20*member.Second, false},
		"two hours back, alone":      {-2 * member.Hour, nobody, 20 * member.Second, true},
		"peers agree with no change": {2 * member.Hour, peers(0), 20 * member.Second, true},
	} {
		var k clock
		k.read(start, 0, c.agreed)
		k.read(start+10*member.Second, 10*time.Second, c.agreed)
		got := k.read(start+20*member.Second+c.wall, 20*time.Second, c.agreed)
		if got-start != c.want || k.off != c.off {
			t.Errorf("%s: %v after the start, off %v; want %v, %v", name, (got - start).Span(), k.off, c.want.Span(), c.off)
		}
	}
}

func TestClockLosesNoTimeInSmallSteps(t *testing.T) {
	const start = member.Time(1_800_000_000_000)
	nobody := func(member.Time) bool { return false }
	var k clock
	k.read(start, 0, nobody)
	for i := range 100_000 { // the wall clock is hours off; the machine counts a tenth of a millisecond a step
		k.read(start+5*member.Hour, time.Duration(i)*100*time.Microsecond, nobody)
	}
	if got := k.last - start; got < 9990 || got > 10_000 {
		t.Errorf("%v went by, want 10 s", got.Span())
	}
}
