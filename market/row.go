package market

import (
	"math"

	"souk/ledger"
	"souk/p2p/member"
)

// What a number of a row is beside a number.
const (
	unknown   = math.MaxUint64     // the host does not say
	unlimited = math.MaxUint64 - 1 // more than any number
)

// A row is one listing as conditions see it: what is asked most lies together, so that a walk over many rows reads little.
type row struct {
	price, floor, spot ledger.Rate
	expires            member.Time
	offer              *Offer
	memory, ram, disk  uint32 // MiB, MiB, GiB
	maxHours           uint32
	count, free        uint16
	demand             uint16 // GPUs that on-demand could have
	cores, gpus        uint16 // of the machine
	compute            uint16
	group              uint8
	simulated          bool

	good  bool   // as of the stamp: a host in good standing
	stamp uint64 // of the witness that was asked
	Facts        // as of the stamp
}

// Facts are what a node knows of a host beside its offer.
type Facts struct {
	Tier        member.Tier
	New         bool   // too little was seen of the host to judge
	Reliability uint32 // parts per million
	Alias       string
}

// newRow is one group of an offer.
func newRow(o *Offer, group int) row {
	g, m := &o.Groups[group], &o.Machine
	return row{
		price: g.Price, floor: g.Floor, spot: g.SpotNow, expires: o.Expires, offer: o, memory: g.MemoryMiB, ram: m.MemoryMiB, disk: m.DiskGiB,
		maxHours: o.MaxHours, count: g.Count, free: g.Free, demand: g.OnDemand, cores: m.Cores, gpus: m.GPUs, compute: g.Compute,
		group: uint8(group), simulated: g.Simulated,
	}
}

// rowOf is a listing. It must be of a group that there is.
func rowOf(l *Listing) row {
	r := newRow(&l.Offer, l.Group)
	r.Facts = Facts{l.Tier, l.New, l.Reliability, l.Alias}
	return r
}

// sold is the memory of each GPU as it is sold. Drivers report some MiB less: of an RTX 4090, 24564.
func (r *row) sold() uint64 { return (uint64(r.memory) + 1023) >> 10 << 30 }

// model is the name of the GPUs.
func (r *row) model() string { return r.offer.Groups[r.group].Model }

// listing is the row with all of its offer.
func (r *row) listing() Listing {
	return Listing{Offer: *r.offer, Group: int(r.group), Tier: r.Tier, Alias: r.Alias, Reliability: r.Reliability, New: r.New, Seen: r.offer.At}
}

// having is how many GPUs count for a kind of bid.
func (r *row) having(k BidKind) uint64 {
	if k == OnDemand {
		return uint64(r.demand)
	}
	return uint64(r.free)
}
