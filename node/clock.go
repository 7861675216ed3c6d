package node

import (
	"time"

	"souk/p2p/member"
)

// clockJump is the most that the wall clock may differ from the machine's own counting of time before it is doubted.
const clockJump = 30 * member.Second

// A clock is the time that the core is told. It follows the wall clock, except where that one jumps: then it goes on counting
// until the peers agree with the jump, because minutes that are signed in a wrong future cannot be taken back. It never
// goes backwards: a wall clock that is set back a little makes it stand still.
type clock struct {
	last  member.Time
	count time.Duration // of the machine, at last
	off   bool          // the wall clock is doubted now
}

// read is the time now, of a wall clock and a count of the machine that no setting of clocks changes. agreed reports whether
// the peers' clocks are ahead of this one by about so much.
func (c *clock) read(wall member.Time, count time.Duration, agreed func(ahead member.Time) bool) member.Time {
	if c.last == 0 {
		c.last, c.count = wall, count
		return wall
	}
	counted := c.last + member.Time((count-c.count)/time.Millisecond)
	ahead := wall - counted
	c.off = (ahead > clockJump || ahead < -clockJump) && !agreed(ahead)
	if c.off {
		c.count += (counted - c.last).Span() // what is under a millisecond counts the next time
		c.last = counted
		return c.last
	}
	c.last, c.count = max(c.last, wall), count
	return c.last
}

// A moment is one instant in both times: the core's, and the machine's own, which goes on whatever is made of the wall clock.
type moment struct {
	core    member.Time
	machine time.Time
}

// at is when t was in the core's time, if t comes of time.Now in this process: wall clock and core may be hours apart.
func (m *moment) at(t time.Time) member.Time {
	if m == nil { // before the core's first step
		return member.At(t)
	}
	return m.core + member.Time(t.Sub(m.machine).Milliseconds())
}
