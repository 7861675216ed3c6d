package operator

import (
	"encoding/hex"
	"slices"
	"strings"

	"souk/node/core/step"
	"souk/p2p/identity"
)

// prefixLeast is how many hex digits must be given of an address or id.
const prefixLeast = 4

// Resolve finds who is meant. It is answered with a Name.
//
// Wherever a command of this package takes an Addr it takes what Resolve takes: a whole address, an alias, or the first
// digits of an address that this operator knows as a member, an applicant or an account.
type Resolve struct{ Ref string }

// A Name is an address and what its owner is called.
type Name struct {
	Address identity.Address `json:"address"`
	Alias   string           `json:"alias"`
}

func (c Resolve) run(o *Operator, _ *step.Context) (any, error) {
	a, err := o.resolve(c.Ref)
	if err != nil {
		return nil, err
	}
	return Name{a, o.alias(a)}, nil
}

// alias is what a is called: as its credential says, else as it asked to be.
func (o *Operator) alias(a identity.Address) string {
	if c, _, ok := o.world.Credential(a); ok {
		return c.Alias
	}
	if p := o.applicants.Get(a); p != nil {
		return p.request().Alias
	}
	return ""
}

// everyone lists all addresses that this operator has heard of, in order.
func (o *Operator) everyone() []identity.Address {
	all := slices.Concat(o.world.Members(), o.applicants.Keys(), o.books.accounts.Keys())
	slices.SortFunc(all, identity.Address.Compare)
	return slices.Compact(all)
}

// resolve finds the one address that ref means. A whole address means itself, known or not.
func (o *Operator) resolve(ref string) (identity.Address, error) {
	digits := strings.TrimPrefix(ref, "0x")
	if len(digits) == 40 {
		a, err := identity.ParseAddress(ref)
		if err != nil {
			return a, step.Fail(step.ProblemUsage, "", "%v", err)
		}
		return a, nil
	}
	prefix := strings.ToLower(digits)
	var found []identity.Address
	for _, a := range o.everyone() {
		byPrefix := len(prefix) >= prefixLeast && strings.HasPrefix(hex.EncodeToString(a[:]), prefix)
		if byPrefix || ref != "" && o.alias(a) == ref {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 0:
		return identity.Address{}, step.Fail(step.ProblemNotFound, "list them with 'souk operator queue' and 'souk operator members'",
			"nobody is called %q, and no known address begins so (at least %d digits)", ref, prefixLeast)
	case 1:
		return found[0], nil
	}
	return identity.Address{}, step.Fail(step.ProblemUsage, "give more digits of the address", "%q may be %v or %v", ref, found[0], found[1])
}
