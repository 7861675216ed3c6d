package consumer

import (
	"fmt"
)

// Unfinished says, for each order and lease about which something is left to be done, what. It is read between steps.
func (c *Consumer) Unfinished() []string {
	var out []string
	for _, bid := range c.orders.Keys() {
		if o := c.orders.Get(bid); o.underway() || len(o.Loose) > 0 {
			out = append(out, fmt.Sprintf("order %s is %v, with %d attempts to undo", o.Lease.Short(), o.Stage, len(o.Loose)))
		}
	}
	for _, id := range c.leases.Keys() {
		l := c.leases.Get(id)
		if l.Done {
			continue
		}
		out = append(out, fmt.Sprintf("lease %s is %v, final %v, entry %d, owed %s, signed %s, given %d of %d, pending %v, closed %v", id.Short(), l.State,
			l.Final, l.Place.Seq, l.Place.Meter.Owed().Text(), l.Signed.Text(), l.GivenSeq, l.SignedSeq, l.Pending != nil, l.Closed))
	}
	return out
}
