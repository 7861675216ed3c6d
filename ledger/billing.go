package ledger

import (
	"errors"
	"fmt"

	"souk/p2p/identity"
)

// ErrStart is an entry that bills a container start in a way in which none is billed.
var ErrStart = errors.New("ledger: usage entry does not fit its container start")

// A Billing is what the entries of a lease have billed of its container starts, as far as it decides what the next one
// may: a pod that is up has an entry for each minute, and the last start costs its minimum only where it cost nothing else.
// Starts follow one another; that none comes back is for those to check who have the whole chain.
type Billing struct {
	Start   identity.Hash `cbor:"1,keyasint"` // last one that a minute was billed of; 0 before the first
	Minimum bool          `cbor:"2,keyasint"` // that minute was its minimum: it is over
}

// Follow checks entry u, which continues the lease's chain, and returns what is billed after it. Errors are ErrStart.
func (b Billing) Follow(u Usage) (Billing, error) {
	switch u.Status {
	case StatusRunning, StatusZero, StatusMinimum:
	default:
		return b, nil
	}
	switch {
	case u.Count != 1:
		return b, fmt.Errorf("%w: entry %d is %v for %d minutes, each of which has its own", ErrStart, u.Seq, u.Status, u.Count)
	case u.Billable == 0:
		return b, nil
	case u.Start.IsZero():
		return b, fmt.Errorf("%w: entry %d is %v and names no start", ErrStart, u.Seq, u.Status)
	case u.Status == StatusMinimum && u.Start == b.Start:
		return b, fmt.Errorf("%w: entry %d bills the minimum of a start that has cost a minute already", ErrStart, u.Seq)
	case b.Minimum && u.Start == b.Start:
		return b, fmt.Errorf("%w: entry %d bills a start after its minimum", ErrStart, u.Seq)
	}
	return Billing{u.Start, u.Status == StatusMinimum}, nil
}
