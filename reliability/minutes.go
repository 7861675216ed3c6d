package reliability

import (
	"cmp"
	"errors"
	"math/bits"
	"slices"

	"souk/p2p/member"
)

// Spans that a score is made of, in minutes of the market.
const (
	Window   = 30 * 24 * 60 // of a score
	NewUnder = 7 * 24 * 60  // observed minutes under which a host is new
	slack    = 10           // minutes down that cost nothing (RunPod's formula)
)

// An Hour is 60 minutes of the market, counted from 1970. Its minutes are one Row.
type Hour uint64

// A Row is what is stored of one hour: at most 28 bytes, rewritten when a minute of it is added.
type Row struct {
	_     struct{} `cbor:",toarray"`
	Hour  Hour
	Bits  uint64        // bit i: the hour's minute i is in the set
	First member.Minute // the minute the set began with, also when its row is gone
}

// ErrRow is what a stored row that no Minutes ever wrote is refused with.
var ErrRow = errors.New("reliability: not a row of minutes")

// Minutes is a set of minutes, of which the last Window counts. A node keeps one for itself, the minutes that it observed:
// those through which it was up and in touch with other members. And it keeps one for each host: the minutes in which it
// saw the host's beat. The zero Minutes is empty.
type Minutes struct {
	rows  []span // by hour
	first member.Minute
}

// A span is the minutes of one hour.
type span struct {
	hour Hour
	bits uint64
}

// Add puts a minute into the set. It answers the row to store, and whether anything changed. The first minute added is
// where the set begins: one before it is not taken.
func (s *Minutes) Add(m member.Minute) (Row, bool) {
	h, bit := split(m)
	i, there := s.find(h)
	switch {
	case len(s.rows) == 0:
		s.first = m
	case m < s.first:
		return Row{}, false
	case there && s.rows[i].bits&bit != 0:
		return s.row(i), false
	}
	if !there {
		s.rows = slices.Insert(s.rows, i, span{hour: h})
	}
	s.rows[i].bits |= bit
	return s.row(i), true
}

// Has reports whether a minute is in the set.
func (s *Minutes) Has(m member.Minute) bool {
	h, bit := split(m)
	i, ok := s.find(h)
	return ok && s.rows[i].bits&bit != 0
}

// First is the minute the set began with; false if it is empty.
func (s *Minutes) First() (member.Minute, bool) { return s.first, len(s.rows) > 0 }

// Rows are all rows, by hour. Loading them one by one into an empty set gives the same set.
func (s *Minutes) Rows() []Row {
	var out []Row
	for i := range s.rows {
		out = append(out, s.row(i))
	}
	return out
}

// Load puts a stored row back. Errors: ErrRow.
func (s *Minutes) Load(r Row) error {
	at := member.Minute(r.Hour) * member.HourMinutes
	i, there := s.find(r.Hour)
	if there || len(s.rows) > 0 && r.First != s.first || r.Bits == 0 || r.Bits>>member.HourMinutes != 0 || r.First > at+member.Minute(bits.TrailingZeros64(r.Bits)) {
		return ErrRow
	}
	s.first = r.First
	s.rows = slices.Insert(s.rows, i, span{r.Hour, r.Bits})
	return nil
}

// Forget drops the hours that no score from now on can count, and names them, so that their rows can be deleted. The last
// row stays: it carries First.
func (s *Minutes) Forget(now member.Minute) []Hour {
	var out []Hour
	for i := 0; i < len(s.rows)-1 && member.Minute(s.rows[i].hour+1)*member.HourMinutes+Window < now; i++ {
		out = append(out, s.rows[i].hour)
	}
	s.rows = slices.Delete(s.rows, 0, len(out))
	return out
}

// A Score is how reliable a host was, in what one node saw itself.
type Score struct {
	Reliability uint32 `json:"reliability"` // parts per million
	Observed    uint32 `json:"observed"`    // minutes that count
	Down        uint32 `json:"down"`        // those of them in which the host was not seen
	New         bool   `json:"new"`         // observed for less than 7 days
}

// Score judges the host whose seen minutes these are, from its first minute on, over the last Window of minutes that this
// node observed: min(1, (T - down + 10) / T), rounded down. This minute and the one before are still open and do not count.
func (s *Minutes) Score(observed *Minutes, now member.Minute) Score {
	var sc Score
	end := max(now, 1) - 1
	from := max(end, Window) - Window
	if len(s.rows) > 0 {
		from = max(from, s.first)
	} else {
		from = end
	}
	for _, o := range observed.rows {
		got := o.bits & within(o.hour, from, end)
		if got == 0 {
			continue
		}
		sc.Observed += uint32(bits.OnesCount64(got))
		if i, ok := s.find(o.hour); ok {
			got &^= s.rows[i].bits
		}
		sc.Down += uint32(bits.OnesCount64(got))
	}
	sc.New = sc.Observed < NewUnder
	sc.Reliability = 1_000_000
	if t, up := uint64(sc.Observed), uint64(sc.Observed-sc.Down)+slack; up < t {
		sc.Reliability = uint32(up * 1_000_000 / t)
	}
	return sc
}

// within has the bits of an hour's minutes from one minute on and before another.
func within(h Hour, from, end member.Minute) uint64 {
	at := member.Minute(h) * member.HourMinutes
	if end <= at || from >= at+member.HourMinutes {
		return 0
	}
	mask := uint64(1)<<min(end-at, member.HourMinutes) - 1
	if from > at {
		mask &^= uint64(1)<<(from-at) - 1
	}
	return mask
}

func split(m member.Minute) (Hour, uint64) {
	return Hour(m / member.HourMinutes), 1 << (m % member.HourMinutes)
}

func (s *Minutes) find(h Hour) (int, bool) {
	return slices.BinarySearchFunc(s.rows, h, func(r span, h Hour) int { return cmp.Compare(r.hour, h) })
}

func (s *Minutes) row(i int) Row {
	return Row{Hour: s.rows[i].hour, Bits: s.rows[i].bits, First: s.first}
}
