// Package market is what is traded and how: offers, bids, the choice among them, the host's auction for its GPUs, the
// contract that both sides sign, and the life of a lease.
//
// A host advertises an Offer. A consumer asks one host for a lease (Request); the host holds the very GPUs before it
// answers with a Quote, which carries the complete Terms; the consumer signs those Terms against a reservation; the host
// signs a Cert and enters it in its lease log. The log's take and free entries are the truth about its GPUs. While the pod
// runs, the consumer's Alive and the host's AliveReply prove each minute to both; a Command stops, starts or ends it.
//
// Promises: M1 a GPU is in at most one lease. M2 funded on-demand is never displaced by a bid. M3 what displaced a victim
// paid at least the policy's step more, or was on-demand. M4 a victim had its full grace. M5 whoever replays a host's log
// gets the same allocations.
package market

import (
	"errors"
	"fmt"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Group is the GPUs of one model on one host.
type Group struct {
	Model     string      `cbor:"1,keyasint"` // market name, as in RTX_4090
	MemoryMiB uint32      `cbor:"2,keyasint"` // of each
	Count     uint16      `cbor:"3,keyasint"` // on offer
	Free      uint16      `cbor:"4,keyasint"`
	Price     ledger.Rate `cbor:"5,keyasint"` // on-demand, per GPU-hour
	Floor     ledger.Rate `cbor:"6,keyasint"` // least spot bid, per GPU-hour
	SpotNow   ledger.Rate `cbor:"7,keyasint"` // what one more spot GPU takes to win now, per GPU-hour; 0: cannot be won
	OnDemand  uint16      `cbor:"8,keyasint"` // GPUs that on-demand could have now: free ones and those of spot pods
	Simulated bool        `cbor:"9,keyasint"`
	Compute   uint16      `cbor:"10,keyasint,omitempty"` // CUDA compute capability times 100, as 890; 0: not told
}

// An Offer is everything one host has on sale. A later sequence replaces it.
type Offer struct {
	Host      identity.Address `cbor:"1,keyasint"`
	Seq       uint64           `cbor:"2,keyasint"`
	At        member.Time      `cbor:"3,keyasint"`
	Expires   member.Time      `cbor:"4,keyasint"`
	Groups    []Group          `cbor:"5,keyasint"` // empty: withdrawn
	Machine   member.Machine   `cbor:"6,keyasint"`
	Addrs     []string         `cbor:"7,keyasint"` // multiaddrs
	Disk      ledger.Amount    `cbor:"8,keyasint"` // per GB-month, container disk and volume of a running pod
	Stopped   ledger.Amount    `cbor:"9,keyasint"` // per GB-month, volume of a stopped pod
	ZeroGPU   ledger.Rate      `cbor:"10,keyasint"`
	Grace     uint16           `cbor:"11,keyasint"` // seconds from SIGTERM to SIGKILL
	Notice    uint16           `cbor:"12,keyasint"` // paid seconds before SIGTERM when displaced
	MaxHours  uint32           `cbor:"13,keyasint"` // longest lease; 0: no limit
	DiskLimit string           `cbor:"14,keyasint"` // how container disks are limited: none, quota, watch
	LogSeq    uint64           `cbor:"15,keyasint"`
	LogHead   identity.Hash    `cbor:"16,keyasint"`
	Policy    uint64           `cbor:"17,keyasint"`
	Region    string           `cbor:"18,keyasint"` // ISO 3166 code, as the host says
	Version   string           `cbor:"19,keyasint"`
	Extension identity.Hash    `cbor:"20,keyasint"`
	Fills     []Fill           `cbor:"21,keyasint,omitempty"` // what was taken lately, the oldest first
}

// Kind implements wire.Message.
func (o Offer) Kind() wire.Kind { return wire.KindOffer }

// Signer is the host.
func (o Offer) Signer() identity.Address { return o.Host }

// Validate checks shape.
func (o Offer) Validate() error {
	switch {
	case o.Seq == 0:
		return errors.New("offer: sequences begin at 1")
	case o.Expires <= o.At || o.Expires > o.At+member.Hour:
		return errors.New("offer: lives up to an hour")
	case len(o.Groups) > 16 || len(o.Addrs) > 16:
		return errors.New("offer: more than 16 groups or addresses")
	case o.Disk < 0 || o.Stopped < 0 || o.ZeroGPU < 0:
		return ledger.ErrNegative
	case o.Grace < 5 || o.Grace > 300:
		return errors.New("offer: grace is 5 to 300 s")
	case len(o.DiskLimit) > 16 || len(o.Region) > 8 || len(o.Version) > 32:
		return errors.New("offer: a text is too long")
	}
	for _, g := range o.Groups {
		switch {
		case len(g.Model) == 0 || len(g.Model) > 64:
			return errors.New("offer: a model has 1 to 64 bytes")
		case g.Price <= 0 || g.Floor <= 0 || g.Floor > g.Price || g.SpotNow < 0:
			return errors.New("offer: want 0 < floor <= price")
		case g.Count == 0 || g.Free > g.Count || g.OnDemand > g.Count:
			return errors.New("offer: more free GPUs than GPUs")
		}
	}
	for _, a := range o.Addrs {
		if len(a) > 256 {
			return errors.New("offer: an address is over 256 bytes")
		}
	}
	if err := o.validFills(); err != nil {
		return err
	}
	return o.Machine.Validate()
}

// Live reports whether the offer stands at now.
func (o Offer) Live(now member.Time) bool { return now < o.Expires && len(o.Groups) > 0 }

// A BidKind is what a consumer buys.
type BidKind uint8

// The kinds of bid.
const (
	OnDemand BidKind = 1 // cannot be displaced while funded
	Spot     BidKind = 2 // cheaper, until outbid
)

// ParseBidKind reads on-demand or spot.
func ParseBidKind(s string) (BidKind, error) {
	switch s {
	case "on-demand":
		return OnDemand, nil
	case "spot":
		return Spot, nil
	}
	return 0, fmt.Errorf("market: no kind %q; want on-demand or spot", s)
}

// String is on-demand or spot.
func (k BidKind) String() string {
	switch k {
	case OnDemand:
		return "on-demand"
	case Spot:
		return "spot"
	}
	return "unknown"
}

// MarshalText is String.
func (k BidKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is ParseBidKind.
func (k *BidKind) UnmarshalText(b []byte) (err error) {
	*k, err = ParseBidKind(string(b))
	return err
}
