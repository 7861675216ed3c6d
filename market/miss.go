package market

import (
	"fmt"
	"math/bits"
	"strings"
)

// A Miss is why no listing fits. It is an error.
type Miss struct {
	Live    int      // listings that were live
	Unmet   []string // conditions that none of them meets
	Nearest Listing  // that which fails the fewest conditions; none if Live is 0
	Failed  []string // what the nearest lacks
}

// Error says what is lacking and which listing comes nearest.
func (m *Miss) Error() string {
	if m.Live == 0 {
		return "market: no offer is live"
	}
	s := "market: no offer fits"
	if len(m.Unmet) > 0 {
		s += fmt.Sprintf("; none of %d has %s", m.Live, strings.Join(m.Unmet, ", "))
	}
	return s + fmt.Sprintf("; nearest: host %s, %s", m.Nearest.Name(), strings.Join(m.Failed, ", "))
}

// missing looks at rows for what they lack. A check is a bit: there are no more than 32 conditions and those of a want.
type missing struct {
	hunt
	better func(a, b *row) int // of two rows that lack equally much

	live    int
	met     uint64 // checks that some row meets
	nearest row
	lacks   uint64 // of the nearest
}

// add asks a live row, with what is known of its host, and reports whether it meets everything.
func (m *missing) add(r *row) bool {
	m.live++
	n := r.having(m.kind)
	var lacks uint64
	for i := range m.checks {
		if !m.checks[i].met(r, n) {
			lacks |= 1 << i
		}
	}
	m.met |= ^lacks
	few := bits.OnesCount64(lacks) - bits.OnesCount64(m.lacks)
	if m.live == 1 || few < 0 || few == 0 && m.better(r, &m.nearest) < 0 {
		m.nearest, m.lacks = *r, lacks
	}
	return lacks == 0
}

// miss is what came of it.
func (m *missing) miss() *Miss {
	out := &Miss{Live: m.live}
	if m.live == 0 {
		return out
	}
	out.Nearest = m.nearest.listing()
	for i := range m.checks {
		c := &m.checks[i]
		if m.met&(1<<i) == 0 {
			out.Unmet = append(out.Unmet, c.String())
		}
		if m.lacks&(1<<i) != 0 {
			out.Failed = append(out.Failed, c.lacks(&m.nearest, m.nearest.having(m.kind)))
		}
	}
	return out
}
