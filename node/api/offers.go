package api

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"souk/ledger"
	"souk/market"
	"souk/node/core/observer"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// An Offer is the GPUs of one model that one host has on sale, and what is known of the host.
type Offer struct {
	Host        identity.Address `json:"host"`
	Alias       string           `json:"alias,omitempty"`
	Tier        string           `json:"tier"`
	Reliability uint32           `json:"reliabilityPpm"`
	New         bool             `json:"new" doc:"too little was seen of the host to judge"`
	Group
	Region    string        `json:"region,omitempty"`
	Machine   Machine       `json:"machine"`
	Disk      ledger.Amount `json:"diskPerMonth" doc:"per GB-month, while the pod runs"`
	Stopped   ledger.Amount `json:"stoppedPerMonth" doc:"per GB-month, of a stopped pod's volume"`
	ZeroGPU   ledger.Rate   `json:"zeroGpu" doc:"per hour, of a pod without GPUs"`
	Grace     uint16        `json:"graceSeconds"`
	Notice    uint16        `json:"noticeSeconds"`
	MaxHours  uint32        `json:"maxHours" doc:"longest lease; 0: no limit"`
	DiskLimit string        `json:"diskLimit" doc:"how container disks are limited: none, quota, watch"`
	Seq       uint64        `json:"seq"`
	At        member.Time   `json:"at"`
	Expires   member.Time   `json:"expires"`
	Version   string        `json:"version"`
}

// Offers are those that fit a query.
type Offers struct {
	Offers  []Offer `json:"offers"`
	Fit     int     `json:"fit" doc:"how many fit; more than are listed where a limit was given"`
	Total   int     `json:"total" doc:"how many are live"`
	Implied string  `json:"implied" doc:"conditions that were added to the query"`
}

// An OfferQuery asks for offers.
type OfferQuery struct {
	Query string `query:"query" maxLength:"2048" doc:"as in gpu_name=RTX_4090 reliability>=0.99"`
	Lift  bool   `query:"lift" doc:"add no conditions to the query"`
	Sort  string `query:"sort" maxLength:"256" doc:"fields, the first one first; a dash behind one turns its order: dph,reliability-"`
	Limit int    `query:"limit" minimum:"0" doc:"0: all"`
}

func newOffer(l market.Listing) Offer {
	o := l.Offer
	return Offer{
		Host: o.Host, Alias: l.Alias, Tier: l.Tier.String(), Reliability: l.Reliability, New: l.New, Group: Group(l.GPUs()),
		Region: o.Region, Machine: Machine(o.Machine), Disk: o.Disk, Stopped: o.Stopped, ZeroGPU: o.ZeroGPU, Grace: o.Grace,
		Notice: o.Notice, MaxHours: o.MaxHours, DiskLimit: o.DiskLimit, Seq: o.Seq, At: o.At, Expires: o.Expires, Version: o.Version,
	}
}

// orders are the fields that offers can be sorted by.
var orders = map[string]func(a, b Offer) int{
	"dph":         func(a, b Offer) int { return cmp.Compare(a.Price, b.Price) },
	"spot":        func(a, b Offer) int { return cmp.Compare(spotOf(a), spotOf(b)) },
	"min_bid":     func(a, b Offer) int { return cmp.Compare(a.Floor, b.Floor) },
	"reliability": func(a, b Offer) int { return cmp.Compare(a.Reliability, b.Reliability) },
	"num_gpus":    func(a, b Offer) int { return cmp.Compare(a.Free, b.Free) },
	"gpu_ram":     func(a, b Offer) int { return cmp.Compare(a.MemoryMiB, b.MemoryMiB) },
	"gpu_name":    func(a, b Offer) int { return cmp.Compare(a.Model, b.Model) },
	"alias":       func(a, b Offer) int { return cmp.Compare(a.Alias, b.Alias) },
	"host":        func(a, b Offer) int { return a.Host.Compare(b.Host) },
}

// spotOf puts offers that take no spot bid behind all others.
func spotOf(o Offer) uint64 { return uint64(o.SpotNow) - 1 }

// orderOf makes a comparison of fields as in dph,reliability-.
func orderOf(spec string) (func(a, b Offer) int, error) {
	var by []func(a, b Offer) int
	for _, f := range strings.FieldsFunc(spec, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, turned := strings.CutSuffix(f, "-")
		c, ok := orders[name]
		if !ok {
			known := make([]string, 0, len(orders))
			for k := range orders {
				known = append(known, k)
			}
			slices.Sort(known)
			return nil, usage("offers are not sorted by %q; want some of %s", name, strings.Join(known, ", "))
		}
		if turned {
			by = append(by, func(a, b Offer) int { return c(b, a) })
		} else {
			by = append(by, c)
		}
	}
	by = append(by, orders["dph"], orders["host"], orders["gpu_name"])
	return func(a, b Offer) int {
		for _, c := range by {
			if n := c(a, b); n != 0 {
				return n
			}
		}
		return 0
	}, nil
}

func (s *server) offers(ctx context.Context, q *OfferQuery) (Offers, error) {
	compare, err := orderOf(q.Sort)
	if err != nil {
		return Offers{}, err
	}
	l, err := do[observer.Listed](ctx, s.b, observer.Offers{Query: q.Query, Lift: q.Lift})
	if err != nil {
		return Offers{}, err
	}
	out := Offers{Offers: make([]Offer, 0, len(l.Listings)), Fit: len(l.Listings), Total: l.Total, Implied: l.Implicit}
	for _, x := range l.Listings {
		out.Offers = append(out.Offers, newOffer(x))
	}
	slices.SortStableFunc(out.Offers, compare)
	if q.Limit > 0 && q.Limit < len(out.Offers) {
		out.Offers = out.Offers[:q.Limit]
	}
	return out, nil
}

func (s *server) offerRoutes(a huma.API) {
	route(a, op("offers", "GET", "/v1/offers", "What is on sale"), s.offers)
	route(a, op("reputation", "GET", "/v1/reputation/{addr}", "What this node saw of a host"),
		func(ctx context.Context, in *whoInput) (observer.Repute, error) {
			return do[observer.Repute](ctx, s.b, observer.Reputation{Host: in.Addr})
		})
}
