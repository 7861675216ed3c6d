package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"souk/ledger"
	"souk/market"
	"souk/node/core/host"
)

// A Group is the GPUs of one model on one host.
type Group struct {
	Model     string      `json:"model"`
	MemoryMiB uint32      `json:"memoryMiB"` // of each
	Count     uint16      `json:"count"`
	Free      uint16      `json:"free"`
	Price     ledger.Rate `json:"price"`    // on-demand, per GPU-hour
	Floor     ledger.Rate `json:"minBid"`   // least spot bid, per GPU-hour
	SpotNow   ledger.Rate `json:"spotNow"`  // what one more spot GPU takes to win now; 0: cannot be won
	OnDemand  uint16      `json:"onDemand"` // GPUs that on-demand could have now
	Simulated bool        `json:"simulated"`
	Compute   uint16      `json:"computeCapability,omitempty"` // times 100, as 890; 0: not told
}

// A Sale is what this host has on sale.
type Sale struct {
	Listed bool        `json:"listed"`
	Price  ledger.Rate `json:"price"`
	Floor  ledger.Rate `json:"minBid"`
	Groups []Group     `json:"groups"`
	GPUs   []Device    `json:"gpus"`
	Engine bool        `json:"engine" doc:"the container engine answers"`
	Offer  uint64      `json:"offer" doc:"sequence of the offer last published"`
	Reason string      `json:"reason,omitempty" doc:"why nothing is published"`
}

func newSale(s host.Sale) Sale {
	return Sale{
		Listed: s.Listed, Price: s.Price, Floor: s.Floor, Groups: groups(s.Groups), GPUs: devices(s.GPUs), Engine: s.Engine,
		Offer: s.Offer, Reason: s.Reason,
	}
}

func groups(gs []market.Group) []Group {
	out := make([]Group, 0, len(gs))
	for _, g := range gs {
		out = append(out, Group(g))
	}
	return out
}

// Settling is how many leases were taken to the bank.
type Settling struct {
	Leases int `json:"leases"`
}

func (s *server) hostRoutes(a huma.API) {
	sale := func(o huma.Operation, cmd any) {
		route(a, o, func(ctx context.Context, _ *none) (Sale, error) {
			v, err := do[host.Sale](ctx, s.b, cmd)
			return newSale(v), err
		})
	}
	sale(op("on-sale", "GET", "/v1/host/offer", "What is on sale"), host.OnSale{})
	sale(op("withdraw", "DELETE", "/v1/host/offer", "Take everything off sale; running leases go on"), host.Withdraw{})
	route(a, op("advertise", "PUT", "/v1/host/offer", "Put GPUs on sale"),
		func(ctx context.Context, in *struct{ Body host.Advertise }) (Sale, error) {
			v, err := do[host.Sale](ctx, s.b, in.Body)
			return newSale(v), err
		})
	command[none, []host.Earning](s, a, op("earnings", "GET", "/v1/host/earnings", "What each lease has brought"),
		func(*none) any { return host.Earnings{} })
	route(a, op("settle", "POST", "/v1/host/settle", "Take the vouchers of all leases to the bank now"),
		func(ctx context.Context, _ *none) (Settling, error) {
			n, err := do[int](ctx, s.b, host.SettleAll{})
			return Settling{n}, err
		})
}
