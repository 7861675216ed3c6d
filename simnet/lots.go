package simnet

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A lots is a stream of random draws of its own, made from the run's seed and a name: what one part of the world draws
// does not shift what another draws.
type lots struct{ *rand.Rand }

func newLots(seed uint64, name string) lots {
	h := identity.Keccak([]byte("souk/simnet/1"), binary.BigEndian.AppendUint64(nil, seed), []byte(name))
	return lots{rand.New(rand.NewPCG(binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:16])))}
}

// chance is true once in so many times.
func (l lots) chance(p float64) bool { return p > 0 && l.Float64() < p }

// between is a time from a to b.
func (l lots) between(a, b member.Time) member.Time {
	if b <= a {
		return a
	}
	return a + member.Time(l.Int64N(int64(b-a)+1))
}

// about is an exponential time with this mean, at most ten times as long.
func (l lots) about(mean member.Time) member.Time {
	return member.Time(min(-math.Log(1-l.Float64()), 10) * float64(mean))
}

// id is a random id.
func (l lots) id() (id wire.ID) {
	binary.BigEndian.PutUint64(id[:8], l.Uint64())
	binary.BigEndian.PutUint64(id[8:], l.Uint64()|1)
	return id
}

// hash is a random hash.
func (l lots) hash() (h identity.Hash) {
	for i := 0; i < len(h); i += 8 {
		binary.BigEndian.PutUint64(h[i:], l.Uint64())
	}
	return h
}
