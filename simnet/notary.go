package simnet

import (
	"bytes"
	"fmt"

	"souk/ledger"
	"souk/ledger/audit"
	"souk/market"
	"souk/node/core"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// A notary makes and checks the signatures of a simulation: a keyed hash of signer and digest, whose key no node has. That
// is as hard to forge in this process as a real signature, and a hundred times faster. An object that goes to many is
// checked once and shared.
type notary struct {
	secret identity.Hash
	market wire.Market // of the founded market; before that, zero
	opened [2]map[identity.Signature]wire.AnyVerified
	drafts [2]map[identity.Hash]wire.Object
	places map[place]identity.Hash // what has left, by its place in its chain
	broken func(promise, format string, args ...any)
}

// generation is how many objects are remembered before the older half is forgotten.
const generation = 1 << 15

func newNotary(secret identity.Hash) *notary {
	n := &notary{secret: secret, places: map[place]identity.Hash{}}
	for i := range n.opened {
		n.opened[i] = map[identity.Signature]wire.AnyVerified{}
		n.drafts[i] = map[identity.Hash]wire.Object{}
	}
	return n
}

// A signer signs for one node.
type signer struct {
	*notary
	addr identity.Address
}

// Address implements identity.Signer.
func (s signer) Address() identity.Address { return s.addr }

// Sign implements identity.Signer.
func (s signer) Sign(d identity.Hash) (sig identity.Signature, err error) {
	mac := identity.Keccak(s.secret[:], s.addr[:], d[:])
	copy(sig[:32], mac[:])
	copy(sig[32:52], s.addr[:])
	sig[64] = 27
	return sig, nil
}

// Recover implements identity.Verifier.
func (n *notary) Recover(d identity.Hash, sig identity.Signature) (identity.Address, error) {
	addr := identity.Address(sig[32:52])
	mac := identity.Keccak(n.secret[:], addr[:], d[:])
	if !bytes.Equal(sig[:32], mac[:]) || sig[64] != 27 {
		return identity.Address{}, identity.ErrSignature
	}
	return addr, nil
}

// firstPlain is the first kind that is signed over its ref, so that it can be signed without being decoded.
const firstPlain = wire.KindPolicy

// sign completes a draft on its way out, and checks that nobody signs two contents for one place.
func (n *notary) sign(m wire.Market, s signer, o wire.Object) (wire.Object, error) {
	if !o.IsDraft() {
		return o, nil
	}
	key := identity.Keccak(s.addr[:], m.ID[:], o.Payload)
	if done, ok := recall(&n.drafts, key); ok && done.Kind == o.Kind {
		return done, nil
	}
	var err error
	if o.Kind >= firstPlain {
		o.Sig, err = s.Sign(m.Ref(o.Kind, o.Payload))
	} else {
		o, err = core.Sign(m, s, o)
	}
	if err != nil {
		return o, err
	}
	v, err := core.Open(wire.Opener{Market: m, Verifier: n}, o)
	if err != nil {
		return o, fmt.Errorf("own draft of a %v: %w", o.Kind, err)
	}
	n.enter(v)
	remember(&n.opened, o.Sig, v)
	remember(&n.drafts, key, o)
	return o, nil
}

// open checks the objects of a frame, as core.OpenAll does.
func (n *notary) open(m wire.Market, objects []wire.Object) ([]wire.AnyVerified, error) {
	out := make([]wire.AnyVerified, 0, len(objects))
	for i, o := range objects {
		if v, ok := recall(&n.opened, o.Sig); ok && m == n.market && v.Kind() == o.Kind && bytes.Equal(v.Object().Payload, o.Payload) {
			out = append(out, v)
			continue
		}
		rest, err := core.OpenAll(wire.Opener{Market: m, Verifier: n}, objects[i:])
		if err != nil {
			return nil, err
		}
		for _, v := range rest {
			if m == n.market {
				remember(&n.opened, v.Object().Sig, v)
			}
		}
		return append(out, rest...), nil
	}
	return out, nil
}

func recall[K comparable, V any](gens *[2]map[K]V, k K) (V, bool) {
	v, ok := gens[0][k]
	if !ok {
		v, ok = gens[1][k]
	}
	return v, ok
}

func remember[K comparable, V any](gens *[2]map[K]V, k K, v V) {
	if len(gens[0]) >= generation {
		gens[1], gens[0] = gens[0], gens[1]
		clear(gens[0])
	}
	gens[0][k] = v
}

// A place is where in which chain a signed object stands.
type place struct {
	kind wire.Kind
	by   identity.Address
	of   [20]byte // lease, reservation, subject
	n    uint64
}

// enter notes a signature that leaves, and compares it with what has left before for its place.
func (n *notary) enter(v wire.AnyVerified) {
	p, ok := placeOf(v)
	if !ok {
		return
	}
	switch old, taken := n.places[p]; {
	case !taken:
		n.places[p] = v.Ref()
	case old != v.Ref():
		n.broken("L5", "%v signs %v %x number %d twice: %s, then %s", p.by, p.kind, p.of, p.n, old.Short(), v.Ref().Short())
	}
}

// placeOf is the place of an object that stands in a chain.
func placeOf(v wire.AnyVerified) (place, bool) {
	p := place{kind: v.Kind(), by: v.By()}
	lease := func(id wire.ID, n uint64) { copy(p.of[:], id[:]); p.n = n }
	switch v := v.(type) {
	case wire.Verified[ledger.Usage]:
		lease(v.Value().Lease, v.Value().Seq)
	case wire.Verified[ledger.Voucher]:
		lease(v.Value().Reservation, v.Value().Seq)
	case wire.Verified[ledger.Reservation]:
		lease(v.Value().ID, v.Value().Seq)
	case wire.Verified[market.Terms]:
		lease(v.Value().Lease, v.Value().Seq)
	case wire.Verified[market.Cert]:
		lease(v.Value().Lease, 1)
	case wire.Verified[market.Command]:
		lease(v.Value().Lease, v.Value().Seq)
	case wire.Verified[market.LogEntry]:
		p.n = v.Value().Seq
	case wire.Verified[market.Offer]:
		p.n = v.Value().Seq
	case wire.Verified[reliability.Beat]:
		p.n = v.Value().Seq
	case wire.Verified[member.Credential]:
		a := v.Value().Address()
		copy(p.of[:], a[:])
		p.n = v.Value().Serial
	case wire.Verified[member.Policy]:
		p.n = v.Value().Number
	case wire.Verified[member.Revocation]:
		p.n = v.Value().Number
	case wire.Verified[ledger.Entry]:
		p.n = v.Value().Seq
	case wire.Verified[audit.Checkpoint]:
		p.n = v.Value().Number
	default:
		return p, false
	}
	return p, true
}
