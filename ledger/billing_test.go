package ledger_test

import (
	"errors"
	"testing"

	"souk/ledger"
	"souk/p2p/identity"
)

func TestStartIsBilledMinuteByMinuteOrItsMinimumOnce(t *testing.T) {
	const running, zero, minimum, stopped = ledger.StatusRunning, ledger.StatusZero, ledger.StatusMinimum, ledger.StatusStopped
	type entry struct {
		status ledger.Status
		start  byte
		count  uint8
		billed uint64
	}
	for _, c := range []struct {
		name    string
		entries []entry
		ok      bool // of the last; those before it are good
	}{
		{"running", []entry{{running, 1, 1, 1}, {running, 1, 1, 1}}, true},
		{"running without a start", []entry{{running, 0, 1, 1}}, false},
		{"without GPUs, without a start", []entry{{zero, 0, 1, 1}}, false},
		{"running for two minutes", []entry{{running, 1, 2, 3}}, false},
		{"without GPUs for two minutes", []entry{{zero, 1, 2, 1}}, false},
		{"two minutes, neither billed", []entry{{running, 1, 2, 0}}, false},
		{"two minimums at once", []entry{{minimum, 1, 2, 3}}, false},
		{"running, not billed, of no start", []entry{{running, 0, 1, 0}}, true},
		{"minimum", []entry{{minimum, 1, 1, 1}}, true},
		{"minimum of no start", []entry{{minimum, 0, 1, 1}}, false},
		{"minimum twice", []entry{{minimum, 1, 1, 1}, {minimum, 1, 1, 1}}, false},
		{"minimum twice, with a stop between", []entry{{minimum, 1, 1, 1}, {stopped, 0, 60, 1 << 59}, {minimum, 1, 1, 1}}, false},
		{"minimum after running", []entry{{running, 1, 1, 1}, {minimum, 1, 1, 1}}, false},
		{"minimum after running without GPUs", []entry{{zero, 1, 1, 1}, {minimum, 1, 1, 1}}, false},
		{"minimum of each start", []entry{{minimum, 1, 1, 1}, {stopped, 0, 5, 31}, {minimum, 2, 1, 1}}, true},
		{"running, then the minimum of the next", []entry{{running, 1, 1, 1}, {minimum, 2, 1, 1}}, true},
		{"minimum after one that cost nothing", []entry{{minimum, 1, 1, 0}, {minimum, 1, 1, 1}}, true},
		{"running after its minimum", []entry{{minimum, 1, 1, 1}, {running, 1, 1, 1}}, false},
		{"without GPUs after its minimum", []entry{{minimum, 1, 1, 1}, {zero, 1, 1, 1}}, false},
		{"running after the minimum of the start before", []entry{{minimum, 1, 1, 1}, {running, 2, 1, 1}}, true},
		{"storage for an hour", []entry{{stopped, 0, 60, 1<<60 - 1}}, true},
	} {
		var b ledger.Billing
		for i, e := range c.entries {
			u := ledger.Usage{Seq: uint64(i + 1), Status: e.status, Count: e.count, Billable: e.billed}
			if e.start != 0 {
				u.Start = identity.Hash{e.start}
			}
			next, err := b.Follow(u)
			if last := i == len(c.entries)-1; (err == nil) != (c.ok || !last) || err != nil && (!errors.Is(err, ledger.ErrStart) || next != b) {
				t.Errorf("%s, entry %d: got %+v, %v", c.name, i+1, next, err)
			}
			b = next
		}
	}
}
