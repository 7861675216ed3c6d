package reliability

import (
	"errors"
	"fmt"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Why a beat does not lengthen a chain. ErrRepeat and ErrOld are harmless; ErrFork and ErrBackwards are the host's fault.
var (
	ErrRepeat    = errors.New("reliability: the beat is known")
	ErrOld       = errors.New("reliability: a later beat is known")
	ErrFork      = errors.New("reliability: the host signed another beat for one place of its chain")
	ErrBackwards = errors.New("reliability: the beat's minute is before that of an earlier one")
	ErrOther     = errors.New("reliability: another host's beat")
)

// A Chain is how far a host's beats have been followed. The zero Chain takes any beat: a newcomer joins in the middle.
type Chain struct {
	Host   identity.Address `cbor:"1,keyasint"`
	Seq    uint64           `cbor:"2,keyasint"`
	Head   identity.Hash    `cbor:"3,keyasint"` // ref of the last beat
	Minute member.Minute    `cbor:"4,keyasint"`
	Boot   wire.ID          `cbor:"5,keyasint"`
	Missed uint64           `cbor:"6,keyasint"` // beats that this node never saw, since it began to follow
}

// Follow takes a verified beat, whose ref is given, and answers the chain after it. Beats may be missing: the new chain
// counts them. On an error the chain stays as it is. On ErrFork the beat at the chain's head and this one are a Fork.
func (c Chain) Follow(b Beat, ref identity.Hash) (Chain, error) {
	next := Chain{Host: b.Host, Seq: b.Seq, Head: ref, Minute: b.Minute, Boot: b.Boot, Missed: c.Missed}
	switch {
	case c.Seq == 0:
		return next, nil
	case b.Host != c.Host:
		return c, ErrOther
	case b.Seq < c.Seq:
		return c, ErrOld
	case b.Seq == c.Seq && ref == c.Head:
		return c, ErrRepeat
	case b.Seq == c.Seq:
		return c, fmt.Errorf("%w: number %d", ErrFork, b.Seq)
	case b.Seq == c.Seq+1 && b.Prev != c.Head:
		return c, fmt.Errorf("%w: number %d is not the one that %d names", ErrFork, c.Seq, b.Seq)
	case b.Minute < c.Minute:
		return c, fmt.Errorf("%w: number %d", ErrBackwards, b.Seq)
	}
	next.Missed += b.Seq - c.Seq - 1
	return next, nil
}

// Restarted reports whether the host's node was started anew between this chain's head and a later one's.
func (c Chain) Restarted(later Chain) bool { return c.Seq > 0 && c.Boot != later.Boot }

// A Fork proves that a host signed two beats for one place: either both have its number, or the second, which has the
// next, names another before it than the first.
type Fork struct {
	_ struct{} `cbor:",toarray"`
	A wire.Object
	B wire.Object
}

// ErrNoFork is what a pair of beats that proves nothing is refused with.
var ErrNoFork = errors.New("reliability: the two beats are no fork")

// FindFork compares two verified beats, the one with the lower number first.
func FindFork(a, b wire.Verified[Beat]) (Fork, bool) {
	x, y := a.Value(), b.Value()
	twice := x.Seq == y.Seq && a.Ref() != b.Ref()
	torn := y.Seq > 0 && x.Seq == y.Seq-1 && y.Prev != a.Ref()
	if x.Host != y.Host || !twice && !torn {
		return Fork{}, false
	}
	return Fork{A: a.Object(), B: b.Object()}, true
}

// Prove checks the proof and names the host that it convicts. Errors: those of wire.Open, ErrNoFork.
func (f Fork) Prove(o wire.Opener) (identity.Address, error) {
	a, err := wire.Open[Beat](o, f.A)
	if err != nil {
		return identity.Address{}, err
	}
	b, err := wire.Open[Beat](o, f.B)
	if err != nil {
		return identity.Address{}, err
	}
	if _, ok := FindFork(a, b); !ok {
		return identity.Address{}, ErrNoFork
	}
	return a.Value().Host, nil
}
