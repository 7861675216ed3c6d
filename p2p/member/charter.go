// Package member is who belongs to a market, and by whose word.
//
// A Charter founds a market; the market's id is the hash of its payload. A Policy holds the market's numbers and can be
// replaced by a later one. An operator hands out an Invite, a code that its bearer presents once in a JoinRequest; if the
// operator agrees it issues a Credential, short-lived and renewed while the member is in good standing. A Revocation
// suspends or revokes a member. A Roster is one node's view of all these: pure, and the same for everybody who holds the
// same objects.
//
// Promises: m1 a key without a valid credential is not a member. m2 a revoked member is refused even under a later
// credential of the same or a lower serial. m3 expiry, unlike revocation, ends no lease.
package member

import (
	"errors"
	"fmt"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// A Charter founds a market. None of it ever changes.
type Charter struct {
	Salt      wire.ID              `cbor:"1,keyasint"` // random, so that two markets never share an id
	Name      string               `cbor:"2,keyasint"`
	Founded   Time                 `cbor:"3,keyasint"`
	ChainID   uint64               `cbor:"4,keyasint"` // EIP-712 domain
	Contract  identity.Address     `cbor:"5,keyasint"` // EIP-712 domain
	Operators []identity.PublicKey `cbor:"6,keyasint"` // founding operators; the first one signs
	Threshold uint8                `cbor:"7,keyasint"` // how many operators a policy needs
	Testnet   bool                 `cbor:"8,keyasint"` // simulated GPUs, plain processes and short slots are allowed
	Slot      uint16               `cbor:"9,keyasint"` // seconds of a minute: 60, in a testnet 5 to 60
	Extension identity.Hash        `cbor:"10,keyasint"`
}

// DefaultChainID is the EIP-712 chain id of a market that names none: that of Ethereum.
const DefaultChainID = 1

// Kind implements wire.Message.
func (c Charter) Kind() wire.Kind { return wire.KindCharter }

// Signer is the first founding operator.
func (c Charter) Signer() identity.Address {
	if len(c.Operators) == 0 {
		return identity.Address{}
	}
	a, err := c.Operators[0].Address()
	if err != nil {
		return identity.Address{}
	}
	return a
}

// Validate checks names, bounds and that every operator's key is one.
func (c Charter) Validate() error {
	switch {
	case c.Salt.IsZero():
		return errors.New("charter has no salt")
	case len(c.Name) == 0 || len(c.Name) > 64:
		return errors.New("charter: a market's name has 1 to 64 bytes")
	case len(c.Operators) == 0 || len(c.Operators) > 16:
		return errors.New("charter: a market has 1 to 16 operators")
	case c.Threshold == 0 || int(c.Threshold) > len(c.Operators):
		return errors.New("charter: threshold is outside the number of operators")
	case !c.Testnet && c.Slot != 60:
		return errors.New("charter: only a testnet may have another slot than 60 s")
	case c.Slot < 5 || c.Slot > 60:
		return fmt.Errorf("charter: slot of %d s, want 5 to 60", c.Slot)
	}
	for _, k := range c.Operators {
		if _, err := k.Address(); err != nil {
			return err
		}
	}
	return nil
}

// Typed implements wire.TypedMessage.
func (c Charter) Typed() *wire.Struct {
	ops := make([]identity.Address, 0, len(c.Operators))
	for _, k := range c.Operators {
		a, _ := k.Address()
		ops = append(ops, a)
	}
	return wire.NewStruct("Charter").
		Bytes16("salt", c.Salt).String("name", c.Name).Uint64("founded", uint64(c.Founded)).
		Uint64("chainId", c.ChainID).Address("contract", c.Contract).Addresses("operators", ops).
		Uint64("threshold", uint64(c.Threshold)).Bool("testnet", c.Testnet).Uint64("slot", uint64(c.Slot)).
		Bytes32("extension", c.Extension)
}

// Market is the signing domain that the charter founds. Its id is the hash of the charter's payload.
func (c Charter) Market() wire.Market {
	id := identity.Keccak([]byte("souk/market/1"), wire.Marshal(c))
	return wire.NewMarket(id, c.ChainID, c.Contract)
}

// Clock counts the market's minutes.
func (c Charter) Clock() Clock { return Clock{Slot: Time(c.Slot) * Second} }

// Operates reports whether a is a founding operator.
func (c Charter) Operates(a identity.Address) bool {
	for _, k := range c.Operators {
		if o, err := k.Address(); err == nil && o == a {
			return true
		}
	}
	return false
}

// OpenCharter checks a charter, which defines the market that its own signature is made under.
func OpenCharter(v identity.Verifier, obj wire.Object) (wire.Verified[Charter], error) {
	c, err := wire.Decode[Charter](obj)
	if err != nil {
		return wire.Verified[Charter]{}, err
	}
	return wire.Open[Charter](wire.Opener{Market: c.Market(), Verifier: v}, obj)
}
