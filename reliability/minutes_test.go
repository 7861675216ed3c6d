package reliability

import (
	"errors"
	"math/big"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"souk/p2p/member"
	"souk/p2p/wire"
)

// A naive set of minutes scores by the formula as it is written, in fractions.
type naive map[member.Minute]bool

func (seen naive) score(observed naive, now member.Minute) Score {
	var sc Score
	sc.New, sc.Reliability = true, 1_000_000
	first, any := member.Minute(0), false
	for m := range seen {
		if !any || m < first {
			first, any = m, true
		}
	}
	for m := range observed {
		if !any || m < first || m+1 >= now || m+1+Window < now {
			continue
		}
		sc.Observed++
		if !seen[m] {
			sc.Down++
		}
	}
	if sc.Observed > 0 {
		r := big.NewRat(int64(sc.Observed)-int64(sc.Down)+10, int64(sc.Observed))
		if r.Cmp(big.NewRat(1, 1)) > 0 {
			r.SetInt64(1)
		}
		r.Mul(r, big.NewRat(1_000_000, 1))
		sc.Reliability = uint32(new(big.Int).Quo(r.Num(), r.Denom()).Uint64())
	}
	sc.New = sc.Observed < 7*24*60
	return sc
}

// TestScoreIsThatOfAPlainSet also stores every row that Add answers, and reads the set back from its rows alone.
func TestScoreIsThatOfAPlainSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := member.Minute(rapid.SampledFrom([]uint64{0, 59, 29_000_000}).Draw(t, "base"))
		var seen, observed Minutes
		plainSeen, plainObserved := naive{}, naive{}
		store := map[Hour][]byte{}
		add := func(m member.Minute) {
			row, changed := seen.Add(m)
			if first, _ := seen.First(); m < first {
				if changed {
					t.Fatalf("%d was added before the first, %d", m, first)
				}
				return
			}
			if changed == plainSeen[m] {
				t.Fatalf("add %d: changed %v, known before %v", m, changed, plainSeen[m])
			}
			b := wire.Marshal(row)
			if len(b) > 32 {
				t.Fatalf("a row of %d bytes", len(b))
			}
			store[row.Hour], plainSeen[m] = b, true
		}
		now := base
		for range rapid.IntRange(1, 12).Draw(t, "runs") {
			m := base + member.Minute(rapid.Uint64Range(0, 2*Window).Draw(t, "from"))
			up := rapid.Bool().Draw(t, "up")
			for range rapid.IntRange(1, 200).Draw(t, "for") {
				if _, taken := observed.Add(m); taken {
					plainObserved[m] = true
				}
				if up {
					add(m)
				}
				m++
			}
			now = max(now, m)
		}
		now += member.Minute(rapid.Uint64Range(0, 3).Draw(t, "later"))
		want := plainSeen.score(plainObserved, now)
		if got := seen.Score(&observed, now); got != want {
			t.Fatalf("score at %d: %+v, want %+v", now, got, want)
		}
		for _, h := range seen.Forget(now) {
			delete(store, h)
		}
		observed.Forget(now)
		var again Minutes
		for _, b := range store {
			var r Row
			if err := wire.Unmarshal(b, &r); err != nil {
				t.Fatal(err)
			}
			if err := again.Load(r); err != nil {
				t.Fatal(err)
			}
		}
		if got := again.Score(&observed, now); got != want {
			t.Fatalf("score from the store: %+v, want %+v", got, want)
		}
		if len(plainSeen) > 0 && !reflect.DeepEqual(again.Rows(), seen.Rows()) {
			t.Fatalf("rows from the store: %+v, want %+v", again.Rows(), seen.Rows())
		}
	})
}

func TestScoresOfKnownHosts(t *testing.T) {
	const day = 24 * 60
	for _, c := range []struct {
		name           string
		days, downMins int
		want           Score
	}{
		{"ten minutes down cost nothing", 30, 10, Score{1_000_000, 43200, 10, false}},
		{"eleven cost one", 30, 11, Score{999_976, 43200, 11, false}},
		{"a day of thirty", 30, day, Score{966_898, 43200, day, false}},
		{"six days", 6, 0, Score{1_000_000, 6 * day, 0, true}},
		{"seven days", 7, 0, Score{1_000_000, 7 * day, 0, false}},
	} {
		var seen, observed Minutes
		n := c.days * day
		for m := range n {
			observed.Add(member.Minute(m))
			if m < 5 || m >= 5+c.downMins {
				seen.Add(member.Minute(m))
			}
		}
		if got := seen.Score(&observed, member.Minute(n+1)); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestUnobservedMinutesChangeNoScore(t *testing.T) {
	var seen, observed Minutes
	for m := range member.Minute(200) {
		observed.Add(m)
		seen.Add(m)
	}
	before := seen.Score(&observed, 201)
	if after := seen.Score(&observed, 5000); after != before {
		t.Fatalf("score after an outage of ours: %+v, before: %+v", after, before)
	}
}

func TestHostGoneForAMonthIsDown(t *testing.T) {
	var seen, observed Minutes
	seen.Add(0)
	for m := range member.Minute(2 * Window) {
		observed.Add(m)
	}
	seen.Forget(2 * Window)
	if got, want := seen.Score(&observed, 2*Window), (Score{231, Window, Window, false}); got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestHostNeverSeenIsNew(t *testing.T) {
	var seen, observed Minutes
	for m := range member.Minute(20_000) {
		observed.Add(m)
	}
	if got, want := seen.Score(&observed, 20_000), (Score{1_000_000, 0, 0, true}); got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	if _, ok := seen.First(); ok || seen.Has(0) || !observed.Has(0) {
		t.Fatal("an empty set has a minute")
	}
}

func TestRowsThatNobodyWroteAreRefused(t *testing.T) {
	for name, r := range map[string]Row{
		"empty":             {Hour: 1, First: 60},
		"61 minutes":        {Hour: 1, Bits: 1 << 60, First: 60},
		"first after a bit": {Hour: 1, Bits: 1, First: 61},
		"known hour":        {Hour: 2, Bits: 1, First: 120},
		"another beginning": {Hour: 3, Bits: 1, First: 121},
	} {
		var s Minutes
		s.Add(120)
		if err := s.Load(r); !errors.Is(err, ErrRow) {
			t.Errorf("%s: %v, want ErrRow", name, err)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	var seen, observed Minutes
	for m := range member.Minute(Window) {
		observed.Add(m)
		seen.Add(m)
	}
	for b.Loop() {
		seen.Score(&observed, Window)
	}
}
