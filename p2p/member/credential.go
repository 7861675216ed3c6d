package member

import (
	"errors"
	"fmt"
	"strings"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// A Role is what a member does; roles add up.
type Role uint8

// The roles.
const (
	RoleHost     Role = 1
	RoleConsumer Role = 2
	RoleOperator Role = 4
)

// ParseRole reads one of host, consumer, operator, or several with commas.
func ParseRole(s string) (Role, error) {
	var r Role
	for _, w := range strings.Split(s, ",") {
		switch strings.TrimSpace(w) {
		case "host":
			r |= RoleHost
		case "consumer":
			r |= RoleConsumer
		case "operator":
			r |= RoleOperator
		default:
			return 0, fmt.Errorf("member: no role %q; want host, consumer or operator", w)
		}
	}
	return r, nil
}

// Has reports whether r includes all of x.
func (r Role) Has(x Role) bool { return r&x == x }

// String lists the roles with commas.
func (r Role) String() string {
	var w []string
	if r.Has(RoleOperator) {
		w = append(w, "operator")
	}
	if r.Has(RoleHost) {
		w = append(w, "host")
	}
	if r.Has(RoleConsumer) {
		w = append(w, "consumer")
	}
	if len(w) == 0 {
		return "none"
	}
	return strings.Join(w, ",")
}

// A Tier is how far a host was vetted. The zero tier is for members that are no hosts.
type Tier uint8

// The tiers, from the least vetted.
const (
	TierNone      Tier = 0
	TierCommunity Tier = 1
	TierSecure    Tier = 2
)

// ParseTier reads community or secure.
func ParseTier(s string) (Tier, error) {
	switch s {
	case "community":
		return TierCommunity, nil
	case "secure":
		return TierSecure, nil
	}
	return 0, fmt.Errorf("member: no tier %q; want community or secure", s)
}

// String is the tier's name, "-" for none.
func (t Tier) String() string {
	switch t {
	case TierCommunity:
		return "community"
	case TierSecure:
		return "secure"
	}
	return "-"
}

// A Credential makes its subject a member. It carries the public key, because an address alone leads to none.
type Credential struct {
	Subject      identity.PublicKey `cbor:"1,keyasint"`
	Issuer       identity.Address   `cbor:"2,keyasint"`
	Delegation   identity.Hash      `cbor:"3,keyasint"` // ref of the delegation that the issuer acts under; 0 for operators
	Owner        identity.Address   `cbor:"4,keyasint"` // who runs this node; several nodes may have one owner
	Sponsor      identity.Address   `cbor:"5,keyasint"` // the member that vouched; 0 when invited by an operator
	Roles        Role               `cbor:"6,keyasint"`
	Tier         Tier               `cbor:"7,keyasint"`
	Alias        string             `cbor:"8,keyasint"`
	MaxGPUs      uint32             `cbor:"9,keyasint"`
	HourlyLimit  int64              `cbor:"10,keyasint"` // most a consumer may burn per hour, nano-credits; 0: as the policy says
	Payout       identity.Address   `cbor:"11,keyasint"`
	Serial       uint64             `cbor:"12,keyasint"`
	NotBefore    Time               `cbor:"13,keyasint"`
	NotAfter     Time               `cbor:"14,keyasint"`
	Witness      bool               `cbor:"15,keyasint"`
	NetPrefix    string             `cbor:"16,keyasint"`
	Attestations identity.Hash      `cbor:"17,keyasint"`
	Extension    identity.Hash      `cbor:"18,keyasint"`
}

// Kin reports whether two members belong together: they have one owner, or one member vouched for both.
func (c Credential) Kin(o Credential) bool {
	return c.Owner == o.Owner || !c.Sponsor.IsZero() && c.Sponsor == o.Sponsor
}

// Kind implements wire.Message.
func (c Credential) Kind() wire.Kind { return wire.KindCredential }

// Signer is the issuing operator.
func (c Credential) Signer() identity.Address { return c.Issuer }

// Address is the subject's address; zero when its key is none, which Validate refuses.
func (c Credential) Address() identity.Address {
	a, err := c.Subject.Address()
	if err != nil {
		return identity.Address{}
	}
	return a
}

// Validate checks key, roles, dates and bounds.
func (c Credential) Validate() error {
	if _, err := c.Subject.Address(); err != nil {
		return err
	}
	switch {
	case c.Issuer.IsZero():
		return errors.New("credential has no issuer")
	case c.Roles == 0 || c.Roles > RoleHost|RoleConsumer|RoleOperator:
		return errors.New("credential has no known role")
	case c.Tier > TierSecure || c.Roles.Has(RoleHost) && c.Tier == TierNone:
		return errors.New("credential of a host needs a tier")
	case len(c.Alias) > 32 || len(c.NetPrefix) > 64:
		return errors.New("credential: alias over 32 or prefix over 64 bytes")
	case c.NotAfter <= c.NotBefore:
		return errors.New("credential ends before it begins")
	case c.HourlyLimit < 0:
		return errors.New("credential: limit is negative")
	}
	return nil
}

// Typed implements wire.TypedMessage.
func (c Credential) Typed() *wire.Struct {
	return wire.NewStruct("Credential").
		Bytes("subject", c.Subject[:]).Address("issuer", c.Issuer).Bytes32("delegation", c.Delegation).
		Address("owner", c.Owner).Address("sponsor", c.Sponsor).Uint64("roles", uint64(c.Roles)).
		Uint64("tier", uint64(c.Tier)).String("alias", c.Alias).Uint64("maxGpus", uint64(c.MaxGPUs)).
		Uint128("hourlyLimit", uint64(c.HourlyLimit)).Address("payout", c.Payout).Uint64("serial", c.Serial).
		Uint64("notBefore", uint64(c.NotBefore)).Uint64("notAfter", uint64(c.NotAfter)).Bool("witness", c.Witness).
		String("netPrefix", c.NetPrefix).Bytes32("attestations", c.Attestations).Bytes32("extension", c.Extension)
}

// A Sanction is what a revocation does.
type Sanction uint8

// The sanctions. Reinstate lifts a suspension; nothing lifts a revocation.
const (
	Suspend   Sanction = 1
	Revoke    Sanction = 2
	Reinstate Sanction = 3
)

// String is the sanction's name.
func (s Sanction) String() string {
	switch s {
	case Suspend:
		return "suspended"
	case Revoke:
		return "revoked"
	case Reinstate:
		return "reinstated"
	}
	return "unknown"
}

// A Revocation suspends, revokes or reinstates a member. Those of one operator are numbered without gap.
type Revocation struct {
	Operator identity.Address `cbor:"1,keyasint"`
	Number   uint64           `cbor:"2,keyasint"`
	Prev     identity.Hash    `cbor:"3,keyasint"`
	Subject  identity.Address `cbor:"4,keyasint"`
	Sanction Sanction         `cbor:"5,keyasint"`
	Fraud    bool             `cbor:"6,keyasint"` // proven: running leases end too
	Reason   string           `cbor:"7,keyasint"`
	At       Time             `cbor:"8,keyasint"`
}

// Kind implements wire.Message.
func (r Revocation) Kind() wire.Kind { return wire.KindRevocation }

// Signer is the operator.
func (r Revocation) Signer() identity.Address { return r.Operator }

// Validate checks bounds.
func (r Revocation) Validate() error {
	switch {
	case r.Number == 0:
		return errors.New("revocation: numbers begin at 1")
	case r.Subject.IsZero():
		return errors.New("revocation names nobody")
	case r.Sanction < Suspend || r.Sanction > Reinstate:
		return errors.New("revocation: unknown sanction")
	case len(r.Reason) == 0 || len(r.Reason) > 256:
		return errors.New("revocation wants a reason of 1 to 256 bytes")
	}
	return nil
}
