package audit

import (
	"errors"
	"fmt"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// proofMost is how many hashes a proof of consistency has at most: two for each level of the largest log.
const proofMost = 2 * 48

// A Consistency is the operator's signed word that its journal of Size entries begins with its journal of Old entries, and
// the proof of it. A proof that fails is proof against its signer.
type Consistency struct {
	Operator identity.Address `cbor:"1,keyasint" json:"operator"`
	Old      uint64           `cbor:"2,keyasint" json:"old"`
	OldRoot  identity.Hash    `cbor:"3,keyasint" json:"oldRoot"`
	Size     uint64           `cbor:"4,keyasint" json:"size"`
	Root     identity.Hash    `cbor:"5,keyasint" json:"root"`
	Proof    []identity.Hash  `cbor:"6,keyasint" json:"proof"`
}

// Kind implements wire.Message.
func (c Consistency) Kind() wire.Kind { return wire.KindConsistency }

// Signer is the operator.
func (c Consistency) Signer() identity.Address { return c.Operator }

// Validate checks shape. Whether the proof holds, Check tells: one that does not has to decode, to be shown.
func (c Consistency) Validate() error {
	switch {
	case c.Old == 0 || c.Old > c.Size || c.Size > most:
		return errors.New("consistency: want sizes from 1 on, the old one first")
	case len(c.Proof) > proofMost:
		return errors.New("consistency: a proof of too many hashes")
	}
	return nil
}

// Check tells whether the proof holds.
func (c Consistency) Check() error { return CheckExtends(c.Proof, c.Size, c.Root, c.Old, c.OldRoot) }

// ErrConflict is two words of one operator that cannot both be true.
var ErrConflict = errors.New("audit: the operator contradicts itself")

// Same tells whether two checkpoints of one operator can both be true, as far as they tell alone: a journal of one size has
// one root and one sum of accounts, numbers are given once and name the one before, and a journal only grows. Errors are
// ErrConflict.
func Same(m wire.Market, a, b Checkpoint) error {
	if a.Operator != b.Operator {
		return nil
	}
	if a.Number > b.Number {
		a, b = b, a
	}
	switch {
	case a == b:
		return nil
	case a.Number == b.Number:
		return fmt.Errorf("%w: two checkpoints have number %d", ErrConflict, a.Number)
	case a.Size > b.Size:
		return fmt.Errorf("%w: checkpoint %d has %d entries, checkpoint %d only %d", ErrConflict, a.Number, a.Size, b.Number, b.Size)
	case a.Size == b.Size && a.Root != b.Root:
		return fmt.Errorf("%w: checkpoints %d and %d have other roots over the same %d entries", ErrConflict, a.Number, b.Number, a.Size)
	case a.Size == b.Size && (a.Accounts != b.Accounts || a.liabilities() != b.liabilities()):
		return fmt.Errorf("%w: checkpoints %d and %d have other accounts after the same %d entries", ErrConflict, a.Number, b.Number, a.Size)
	case a.Number+1 == b.Number && b.Prev != m.Ref(wire.KindCheckpoint, wire.Marshal(a)):
		return fmt.Errorf("%w: checkpoint %d names another checkpoint %d before it", ErrConflict, b.Number, a.Number)
	}
	return nil
}

// Agrees tells whether a consistency and a checkpoint of one operator can both be true. Errors are ErrConflict.
func (c Consistency) Agrees(p Checkpoint) error {
	if c.Operator != p.Operator {
		return nil
	}
	for _, s := range []struct {
		size uint64
		root identity.Hash
	}{{c.Old, c.OldRoot}, {c.Size, c.Root}} {
		if s.size == p.Size && s.root != p.Root {
			return fmt.Errorf("%w: a proof speaks of another root over %d entries than checkpoint %d", ErrConflict, s.size, p.Number)
		}
	}
	return nil
}

// Proves checks that a consistency proves of two checkpoints that the newer extends the older. ErrConflict is proof against
// their signer; another error is a proof of something else.
func (c Consistency) Proves(old, newer Checkpoint) error {
	if c.Operator != old.Operator || c.Operator != newer.Operator || c.Old != old.Size || c.Size != newer.Size {
		return fmt.Errorf("audit: a proof from %d to %d entries, want %d to %d", c.Old, c.Size, old.Size, newer.Size)
	}
	if err := errors.Join(c.Agrees(old), c.Agrees(newer)); err != nil {
		return err
	}
	if err := c.Check(); err != nil {
		return fmt.Errorf("%w: its own proof from %d to %d entries fails", ErrConflict, c.Old, c.Size)
	}
	return nil
}

// Convicts checks whether signed objects of one operator, one or two of them, contradict themselves. It gives what is
// wrong, or nil where they may all be true. Their signatures are for the caller to check.
func Convicts(m wire.Market, objects []wire.Object) error {
	var points []Checkpoint
	var proofs []Consistency
	for _, o := range objects {
		switch o.Kind {
		case wire.KindCheckpoint:
			if c, err := wire.Decode[Checkpoint](o); err == nil {
				points = append(points, c)
			}
		case wire.KindConsistency:
			if c, err := wire.Decode[Consistency](o); err == nil {
				proofs = append(proofs, c)
			}
		}
	}
	for _, c := range proofs {
		if err := c.Check(); err != nil {
			return fmt.Errorf("%w: its own proof from %d to %d entries fails", ErrConflict, c.Old, c.Size)
		}
		for _, p := range points {
			if err := c.Agrees(p); err != nil {
				return err
			}
		}
	}
	for i, a := range points {
		for _, b := range points[i+1:] {
			if err := Same(m, a, b); err != nil {
				return err
			}
		}
	}
	return nil
}
