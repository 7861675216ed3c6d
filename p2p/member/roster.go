package member

import (
	"errors"
	"slices"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// Why somebody is no member in good standing.
var (
	ErrNoCredential = errors.New("member: no credential of this market")
	ErrExpired      = errors.New("member: credential has expired")
	ErrNotYet       = errors.New("member: credential is not valid yet; compare the clocks")
	ErrSuspended    = errors.New("member: suspended")
	ErrRevoked      = errors.New("member: revoked")
	ErrNotOperator  = errors.New("member: not signed by an operator of this market")
	ErrStale        = errors.New("member: an older or equal one is known")
)

// A Roster is what one node knows of the members of its market.
type Roster struct {
	charter     Charter
	credentials map[identity.Address]wire.Object
	members     map[identity.Address]Credential
	sanctions   map[identity.Address]Revocation
	numbers     map[identity.Address]uint64 // highest revocation of each operator
}

// NewRoster is an empty roster of a market.
func NewRoster(c Charter) *Roster {
	return &Roster{
		charter:     c,
		credentials: map[identity.Address]wire.Object{},
		members:     map[identity.Address]Credential{},
		sanctions:   map[identity.Address]Revocation{},
		numbers:     map[identity.Address]uint64{},
	}
}

// Admit takes a verified credential. ErrStale when one of the same or a higher serial is known.
func (r *Roster) Admit(c Credential, obj wire.Object) error {
	if !r.charter.Operates(c.Issuer) {
		return ErrNotOperator
	}
	a := c.Address()
	if c.Roles.Has(RoleOperator) && !r.charter.Operates(a) {
		return ErrNotOperator
	}
	if old, ok := r.members[a]; ok && old.Serial >= c.Serial {
		return ErrStale
	}
	r.members[a], r.credentials[a] = c, obj
	return nil
}

// Sanction takes a verified revocation. A later one about the same member replaces the former: by number among those of one
// operator, by date among those of several, so that it does not matter which one comes first. Nothing lifts a revocation.
func (r *Roster) Sanction(v Revocation) error {
	if !r.charter.Operates(v.Operator) {
		return ErrNotOperator
	}
	r.numbers[v.Operator] = max(r.numbers[v.Operator], v.Number)
	if old, ok := r.sanctions[v.Subject]; ok && !follows(old, v) {
		return ErrStale
	}
	r.sanctions[v.Subject] = v
	return nil
}

// follows reports whether sanction v replaces old.
func follows(old, v Revocation) bool {
	switch {
	case old.Sanction == Revoke || v.Sanction == Revoke:
		return old.Sanction != Revoke
	case old.Operator == v.Operator:
		return v.Number > old.Number
	case v.At != old.At:
		return v.At > old.At
	}
	return old.Operator.Compare(v.Operator) < 0
}

// Credential is the newest credential known of a.
func (r *Roster) Credential(a identity.Address) (Credential, wire.Object, bool) {
	c, ok := r.members[a]
	return c, r.credentials[a], ok
}

// Sanctioned is the latest sanction against a, if it still stands.
func (r *Roster) Sanctioned(a identity.Address) (Revocation, bool) {
	s, ok := r.sanctions[a]
	return s, ok && s.Sanction != Reinstate
}

// Standing is nil for a member in good standing at now, else why not.
func (r *Roster) Standing(a identity.Address, now Time) error {
	if s, ok := r.Sanctioned(a); ok {
		if s.Sanction == Revoke {
			return ErrRevoked
		}
		return ErrSuspended
	}
	c, ok := r.members[a]
	switch {
	case !ok:
		return ErrNoCredential
	case now < c.NotBefore-Time(90)*Second:
		return ErrNotYet
	case now >= c.NotAfter:
		return ErrExpired
	}
	return nil
}

// Is reports whether a is a member in good standing with role x.
func (r *Roster) Is(a identity.Address, x Role, now Time) bool {
	return r.Standing(a, now) == nil && r.members[a].Roles.Has(x)
}

// LastNumber is the highest revocation number known of an operator.
func (r *Roster) LastNumber(op identity.Address) uint64 { return r.numbers[op] }

// Members are all addresses with a credential, in order.
func (r *Roster) Members() []identity.Address {
	out := make([]identity.Address, 0, len(r.members))
	for a := range r.members {
		out = append(out, a)
	}
	slices.SortFunc(out, identity.Address.Compare)
	return out
}
