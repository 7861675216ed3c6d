package host

import (
	"slices"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// How often an offer is published, and how long it lives.
const (
	offerPause = 5 * member.Second
	offerEvery = 5 * 60 * member.Second
	offerLife  = 10 * 60 * member.Second
)

// publish gossips the offer: soon after it has changed, and again before it runs out.
func (h *Host) publish(ctx *step.Context, soon func(member.Time)) {
	s := h.sale.Get()
	if s.Seq == 0 && !s.Listed || !h.known || !h.world.Is(ctx.Self, member.RoleHost, ctx.Now) {
		return
	}
	next := h.lastOffer + offerEvery
	if h.stale || h.lastOffer == 0 {
		next = h.lastOffer + offerPause
	}
	if ctx.Now < next {
		soon(next)
		return
	}
	if !s.Listed && !h.stale && !h.engaged() {
		h.lastOffer = ctx.Now // look again then
		return
	}
	s.Seq++
	h.sale.Touch()
	o := h.offer(ctx)
	obj := wire.Draft(o)
	ctx.Guard([]byte("offer"), o.Seq, obj)
	h.world.Enact(ctx, o)
	h.lastOffer, h.stale = ctx.Now, false
	soon(ctx.Now + offerEvery)
}

// engaged reports whether some lease is not over: its consumer learns from the offer where this host is, though nothing
// more may be on sale.
func (h *Host) engaged() bool {
	for _, id := range h.leases.Keys() {
		if !h.leases.Get(id).Done {
			return true
		}
	}
	return false
}

func (h *Host) offer(ctx *step.Context) market.Offer {
	s := h.sale.Get()
	o := market.Offer{
		Host: ctx.Self, Seq: s.Seq, At: ctx.Now, Expires: ctx.Now + offerLife, Machine: h.machine, Addrs: addresses(ctx.Boot.Addrs),
		Disk: ledger.Amount(ctx.Policy.DiskRunning), Stopped: ledger.Amount(ctx.Policy.VolumeStopped),
		Grace: max(s.Grace, ctx.Policy.Grace), MaxHours: s.MaxHours, DiskLimit: "none",
		LogSeq: h.log.Get().Seq, LogHead: h.log.Get().Head, Policy: ctx.Policy.Number, Region: s.Region, Version: clip(ctx.Boot.Version, 32),
	}
	for _, f := range s.Fills {
		if f.At+market.FillsFor >= ctx.Now {
			o.Fills = append(o.Fills, f)
		}
	}
	if !s.Listed || !h.engine || h.unfit != "" {
		return o
	}
	t := h.alloc.Get()
	for _, model := range t.Models() {
		c := t.Counts(model)
		if c.Usable == 0 || len(o.Groups) == groupsMost {
			continue
		}
		o.Groups = append(o.Groups, market.Group{
			Model: model, MemoryMiB: h.memory(model), Count: c.Usable, Free: c.Free, Price: s.Price, Floor: s.Floor,
			SpotNow: t.SpotNow(model, s.Floor), OnDemand: c.OnDemand, Simulated: h.simulated(model),
			Compute: h.compute(model),
		})
	}
	return o
}

// What one offer can carry.
const (
	groupsMost    = 16
	addressesMost = 16
	addressMost   = 256
)

// addresses are those of this node that an offer can carry.
func addresses(all []string) []string {
	var out []string
	for _, a := range all {
		if len(a) <= addressMost && len(out) < addressesMost {
			out = append(out, a)
		}
	}
	return out
}

func (h *Host) memory(model string) uint32 {
	for _, s := range h.alloc.Get().Slots {
		if s.Device.Model == model {
			return s.Device.MemoryMiB
		}
	}
	return 0
}

func (h *Host) compute(model string) uint16 {
	for _, s := range h.alloc.Get().Slots {
		if s.Device.Model == model {
			return s.Device.Compute
		}
	}
	return 0
}

// filled notes for the next offers that a lease took GPUs.
func (h *Host) filled(e market.LogEntry) {
	gpus := h.devicesOf(e.GPUs)
	if len(gpus) == 0 {
		return
	}
	s := h.sale.Get()
	s.Fills = append(s.Fills, market.Fill{Seq: e.Seq, At: e.At, Type: e.Type, Model: gpus[0].Model, GPUs: uint16(len(gpus)), Rate: e.Rate, Simulated: gpus[0].Simulated})
	s.Fills = slices.Clone(s.Fills[max(len(s.Fills)-market.FillsMost, 0):])
	h.sale.Touch()
	h.stale = true
}

// Commands of a host's user.
type (
	// Advertise puts GPUs on sale. Answer: Sale.
	Advertise struct {
		Price    ledger.Rate `json:"price"`
		Floor    ledger.Rate `json:"minBid"`
		GPUs     []string    `json:"gpus,omitempty"` // UUIDs or unique prefixes; empty: all
		MaxHours uint32      `json:"maxHours,omitempty"`
		Region   string      `json:"region,omitempty"`
		Grace    uint16      `json:"graceSeconds,omitempty"`
	}
	// Withdraw takes everything off sale; running leases go on. Answer: Sale.
	Withdraw struct{}
	// OnSale asks what is on sale. Answer: Sale.
	OnSale struct{}
	// Earnings asks what leases have brought. Answer: []Earning.
	Earnings struct{}
	// SettleAll shows the bank the vouchers of all leases now. Answer: the number of leases.
	SettleAll struct{}
)

// A Sale is what a host has on sale.
type Sale struct {
	Listed bool            `json:"listed"`
	Price  ledger.Rate     `json:"price"`
	Floor  ledger.Rate     `json:"minBid"`
	Groups []market.Group  `json:"groups"`
	GPUs   []member.Device `json:"gpus"`
	Engine bool            `json:"engine"`
	Offer  uint64          `json:"offer"`
	Reason string          `json:"reason,omitempty"` // why nothing is published
}

// An Earning is what one lease has brought its host.
type Earning struct {
	Lease    wire.ID          `json:"lease"`
	Consumer identity.Address `json:"consumer"`
	Type     market.BidKind   `json:"kind"`
	Model    string           `json:"model"`
	GPUs     uint16           `json:"gpus"`
	Rate     ledger.Rate      `json:"rate"`
	State    market.State     `json:"state"`
	Reason   market.Reason    `json:"reason"`
	Minutes  uint64           `json:"minutes"`
	Owed     ledger.Amount    `json:"owed"`
	Vouched  ledger.Amount    `json:"vouched"`
	Settled  ledger.Amount    `json:"settled"`
	At       member.Time      `json:"at"`
}

// Local takes a command of this host's user.
func (h *Host) Local(ctx *step.Context, id uint64, cmd any) bool {
	switch c := cmd.(type) {
	case Advertise:
		v, err := h.advertise(ctx, c)
		answer(ctx, id, v, err)
	case Withdraw:
		h.sale.Get().Listed = false
		h.sale.Touch()
		h.stale, h.lastOffer = true, min(h.lastOffer, ctx.Now-offerPause)
		ctx.Answer(id, h.onSale(ctx), nil)
	case OnSale:
		ctx.Answer(id, h.onSale(ctx), nil)
	case Earnings:
		ctx.Answer(id, h.earnings(), nil)
	case SettleAll:
		n := 0
		for _, lease := range h.leases.Keys() {
			if l := h.leases.Get(lease); !l.Done && l.Vouched > l.Settled {
				h.Settle(ctx, lease)
				n++
			}
		}
		ctx.Answer(id, n, nil)
	default:
		return false
	}
	return true
}

func answer(ctx *step.Context, id uint64, v any, p *step.Problem) {
	if p != nil {
		ctx.Answer(id, nil, p)
		return
	}
	ctx.Answer(id, v, nil)
}

func (h *Host) advertise(ctx *step.Context, c Advertise) (any, *step.Problem) {
	switch {
	case !h.world.Is(ctx.Self, member.RoleHost, ctx.Now):
		return nil, step.Fail(step.ProblemTrust, "'souk status' shows where this node stands", "this node is not a host in good standing: %v", h.world.Standing(ctx.Self, ctx.Now))
	case c.Price <= 0 || c.Floor <= 0:
		return nil, step.Fail(step.ProblemUsage, "", "--price and --min-bid want credits per GPU-hour, over zero")
	case c.Floor > c.Price:
		return nil, step.Fail(step.ProblemUsage, "", "the least bid (%s) is over the price (%s)", c.Floor.Text(), c.Price.Text())
	case len(c.Region) > 8 || clip(c.Region, 8) != c.Region:
		return nil, step.Fail(step.ProblemUsage, "", "a region is a code of at most 8 letters, as in DE or US-CA")
	case !h.known || len(h.devices) == 0:
		return nil, step.Fail(step.ProblemOther, "'souk doctor' says what was looked for", "no GPUs were found on this machine")
	case h.unfit != "":
		return nil, step.Fail(step.ProblemOther, "'souk host doctor' shows all gates", "this machine is not fit to host: %s", h.unfit)
	case c.Grace != 0 && (c.Grace < ctx.Policy.Grace || c.Grace > 300):
		return nil, step.Fail(step.ProblemUsage, "", "grace is %d to 300 s", ctx.Policy.Grace)
	}
	gpus, p := h.resolve(c.GPUs)
	if p != nil {
		return nil, p
	}
	s := h.sale.Get()
	s.Listed, s.Price, s.Floor, s.GPUs, s.MaxHours, s.Region, s.Grace = true, c.Price, c.Floor, gpus, c.MaxHours, c.Region, c.Grace
	h.sale.Touch()
	h.stale, h.lastOffer = true, min(h.lastOffer, ctx.Now-offerPause)
	h.restock(ctx)
	return h.onSale(ctx), nil
}

// resolve turns prefixes of UUIDs into UUIDs.
func (h *Host) resolve(refs []string) ([]string, *step.Problem) {
	var out []string
	for _, ref := range refs {
		var found []string
		for _, d := range h.devices {
			if len(ref) <= len(d.UUID) && d.UUID[:len(ref)] == ref {
				found = append(found, d.UUID)
			}
		}
		if len(found) != 1 {
			return nil, step.Fail(step.ProblemUsage, "'souk host gpus' lists them", "%q names %d of this machine's GPUs, want one", ref, len(found))
		}
		out = append(out, found[0])
	}
	return out, nil
}

func (h *Host) onSale(ctx *step.Context) Sale {
	s := h.sale.Get()
	v := Sale{Listed: s.Listed, Price: s.Price, Floor: s.Floor, GPUs: h.devices, Engine: h.engine, Offer: s.Seq, Groups: h.offer(ctx).Groups}
	switch {
	case !h.world.Is(ctx.Self, member.RoleHost, ctx.Now):
		v.Reason = "this node is no host of the market"
		if err := h.world.Standing(ctx.Self, ctx.Now); err != nil {
			v.Reason = err.Error()
		}
	case !h.engine:
		v.Reason = "the container engine does not answer"
	case h.unfit != "":
		v.Reason = h.unfit
	case !s.Listed:
		v.Reason = "nothing is advertised"
	}
	return v
}

func (h *Host) earnings() []Earning {
	out := []Earning{}
	for _, id := range h.leases.Keys() {
		l := h.leases.Get(id)
		out = append(out, Earning{
			Lease: id, Consumer: l.Terms.Consumer, Type: l.Terms.Type, Model: l.Terms.Model, GPUs: l.Terms.GPUs, Rate: l.Terms.Rate,
			State: l.State, Reason: l.Reason, Minutes: l.Ran, Owed: l.Place.Meter.Owed(), Vouched: l.Vouched, Settled: l.Settled, At: l.At,
		})
	}
	return out
}
