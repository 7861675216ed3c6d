package api

import (
	"context"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"souk/ledger"
	"souk/market"
	"souk/node/core/consumer"
	"souk/node/core/observer"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// The events of watches.
const (
	eventOffer = "offer"
	eventBook  = "book"
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
	Missing string  `json:"missing,omitempty" doc:"why none fits"`
}

// An OfferQuery asks for offers.
type OfferQuery struct {
	Query string `query:"query" maxLength:"2048" doc:"as in gpu_name=RTX_4090 reliability>=0.99"`
	Lift  bool   `query:"lift" doc:"add no conditions to the query"`
	Sort  string `query:"sort" maxLength:"256" doc:"fields, the first one first; a dash behind one turns its order: dph,reliability-"`
	Limit int    `query:"limit" minimum:"0" doc:"0: all"`
	Quick bool   `query:"quick" doc:"do not count how many fit and are live"`
}

func newOffer(l market.Listing) Offer {
	o := l.Offer
	return Offer{
		Host: o.Host, Alias: l.Alias, Tier: l.Tier.String(), Reliability: l.Reliability, New: l.New, Group: Group(l.GPUs()),
		Region: o.Region, Machine: Machine(o.Machine), Disk: o.Disk, Stopped: o.Stopped, ZeroGPU: o.ZeroGPU, Grace: o.Grace,
		Notice: o.Notice, MaxHours: o.MaxHours, DiskLimit: o.DiskLimit, Seq: o.Seq, At: o.At, Expires: o.Expires, Version: o.Version,
	}
}

func (q *OfferQuery) command() observer.Offers {
	return observer.Offers{Query: q.Query, Lift: q.Lift, Sort: q.Sort, Limit: q.Limit, Quick: q.Quick}
}

func (s *server) offers(ctx context.Context, q *OfferQuery) (Offers, error) {
	l, err := do[observer.Listed](ctx, s.b, q.command())
	if err != nil {
		return Offers{}, err
	}
	out := Offers{Offers: make([]Offer, 0, len(l.Listings)), Fit: l.Fit, Total: l.Total, Implied: l.Implicit, Missing: l.Missing}
	for _, x := range l.Listings {
		out.Offers = append(out.Offers, newOffer(x))
	}
	return out, nil
}

// An OfferChange is one step in what fits a query.
type OfferChange struct {
	Change string `json:"change" enum:"new,changed,gone"`
	Offer  Offer  `json:"offer"`
}

// watchOffers sends what fits, and then each change of it. An offer that is only published again has not changed.
func (s *server) watchOffers(ctx context.Context, q *OfferQuery, out *sender) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	quick := *q
	quick.Quick = true
	var sent []Offer
	for {
		now, err := s.offers(ctx, &quick)
		if err != nil {
			return err
		}
		out.start()
		for _, c := range changes(sent, now.Offers) {
			if err := out.send(eventOffer, 0, c); err != nil {
				return err
			}
		}
		sent = now.Offers
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// changes are the steps from one list to another: first what is gone, then what is new or has changed.
func changes(old, now []Offer) []OfferChange {
	type id struct {
		host  identity.Address
		model string
	}
	before, there := map[id]Offer{}, map[id]bool{}
	for _, o := range now {
		there[id{o.Host, o.Model}] = true
	}
	var out []OfferChange
	for _, o := range old {
		if before[id{o.Host, o.Model}] = o; !there[id{o.Host, o.Model}] {
			out = append(out, OfferChange{"gone", o})
		}
	}
	for _, o := range now {
		switch was, ok := before[id{o.Host, o.Model}]; {
		case !ok:
			out = append(out, OfferChange{"new", o})
		case !reflect.DeepEqual(still(was), still(o)):
			out = append(out, OfferChange{"changed", o})
		}
	}
	return out
}

// still is an offer without what is another each time that it is published.
func still(o Offer) Offer {
	o.Seq, o.At, o.Expires = 0, 0, 0
	return o
}

// A QuoteQuery asks what wins now.
type QuoteQuery struct {
	Query     string `query:"query" maxLength:"2048" doc:"as in gpu_name=RTX_4090 reliability>=0.99"`
	GPUs      uint16 `query:"gpus" minimum:"1" maximum:"16" default:"1"`
	Seconds   uint64 `query:"seconds" default:"3600" doc:"how long it is to run"`
	Disk      uint64 `query:"disk" doc:"bytes"`
	Volume    uint64 `query:"volume" doc:"bytes"`
	Simulated bool   `query:"simulated" doc:"simulated GPUs will do"`
}

// A BookQuery asks for what can be had at which price.
type BookQuery struct {
	Query string `query:"query" maxLength:"2048" doc:"as in gpu_name=RTX_4090 reliability>=0.99"`
	Lift  bool   `query:"lift" doc:"add no conditions to the query"`
	Depth int    `query:"depth" minimum:"1" maximum:"1000" default:"20" doc:"prices of each side"`
}

// A Book is both sides of the market, the best price of each first.
type Book struct {
	market.Depth
	Implied string `json:"implied" doc:"conditions that were added to the query"`
	Missing string `json:"missing,omitempty" doc:"why there is nothing"`
}

func (s *server) book(ctx context.Context, q *BookQuery) (Book, error) {
	d, err := do[observer.Depth](ctx, s.b, observer.Book{Query: q.Query, Lift: q.Lift, Depth: q.Depth})
	return Book{d.Depth, d.Implicit, d.Missing}, err
}

// watchBook sends the book, now and whenever it changes.
func (s *server) watchBook(ctx context.Context, q *BookQuery, out *sender) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var sent *Book
	for {
		b, err := s.book(ctx, q)
		if err != nil {
			return err
		}
		if sent == nil || !reflect.DeepEqual(b, *sent) {
			if err := out.send(eventBook, 0, b); err != nil {
				return err
			}
			sent = &b
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A TapeQuery asks for what was taken.
type TapeQuery struct {
	GPU   string `query:"gpu" maxLength:"64" doc:"model; empty: all"`
	Since int64  `query:"since" minimum:"0" doc:"milliseconds since 1970"`
	Limit int    `query:"limit" minimum:"0" doc:"0: all"`
}

// A Fill says that GPUs of a host were taken at a price.
type Fill struct {
	At    member.Time      `json:"at"`
	Type  market.BidKind   `json:"kind"`
	Model string           `json:"model"`
	GPUs  uint16           `json:"gpus"`
	Rate  ledger.Rate      `json:"rate" doc:"per GPU-hour"`
	Host  identity.Address `json:"host"`
	Alias string           `json:"alias,omitempty"`
	Seq   uint64           `json:"seq" doc:"of the entry in the host's lease log"`

	Simulated bool `json:"simulated"`
}

// A Tape is the fills that this node has heard of, the newest first.
type Tape struct {
	Fills []Fill `json:"fills"`
	Count int    `json:"count" doc:"how many there are; more than are listed where a limit was given"`
}

func (s *server) tape(ctx context.Context, q *TapeQuery) (Tape, error) {
	t, err := do[observer.Taped](ctx, s.b, observer.Tape{Model: q.GPU, Since: member.Time(q.Since), Limit: q.Limit})
	if err != nil {
		return Tape{}, err
	}
	out := Tape{Fills: make([]Fill, 0, len(t.Fills)), Count: t.Count}
	for _, f := range t.Fills {
		out.Fills = append(out.Fills, Fill{f.At, f.Type, f.Model, f.GPUs, f.Rate, f.Host, f.Alias, f.Seq, f.Simulated})
	}
	return out, nil
}

// A StatsQuery asks what GPUs went for.
type StatsQuery struct {
	GPU   string `query:"gpu" maxLength:"64" doc:"model; empty: all"`
	Since int64  `query:"since" minimum:"0" doc:"milliseconds since 1970"`
	Until int64  `query:"until" minimum:"0" doc:"milliseconds since 1970; 0: now"`
	Parts int    `query:"parts" minimum:"1" maximum:"500" default:"24" doc:"stretches of time"`
}

// Stats is what GPUs went for: in all, and in each stretch of the time.
type Stats struct {
	All   market.Span   `json:"all"`
	To    member.Time   `json:"to"`
	Spans []market.Span `json:"spans"`

	Simulated int `json:"simulated" doc:"fills of GPUs that only pretend, which count as others"`
}

func (s *server) stats(ctx context.Context, q *StatsQuery) (Stats, error) {
	t, err := do[observer.Taped](ctx, s.b, observer.Tape{Model: q.GPU, Since: member.Time(q.Since)})
	if err != nil {
		return Stats{}, err
	}
	fills := make([]market.Fill, 0, len(t.Fills))
	from, out := member.Time(q.Since), Stats{To: member.Time(q.Until)}
	if out.To == 0 {
		out.To = member.At(time.Now())
	}
	if from >= out.To {
		return Stats{}, usage("the time that is asked about ends before it begins")
	}
	for _, f := range t.Fills {
		if fills = append(fills, f.Fill); f.Simulated {
			out.Simulated++
		}
	}
	out.All = market.Spans(fills, from, out.To, 1)[0]
	out.Spans = market.Spans(fills, from, out.To, q.Parts)
	return out, nil
}

func (s *server) offerRoutes(a huma.API) {
	route(a, op("offers", "GET", "/v1/offers", "What is on sale"), s.offers)
	stream(s, a, op("watch-offers", "GET", "/v1/offers/watch", "What is on sale, and each change of it"), map[string]any{eventOffer: OfferChange{}}, s.watchOffers)
	command[QuoteQuery, consumer.Priced](s, a, op("quote", "GET", "/v1/quote", "What wins now, on demand and on spot"), func(q *QuoteQuery) any {
		return consumer.Price{Query: q.Query, GPUs: q.GPUs, Seconds: q.Seconds, Disk: q.Disk, Volume: q.Volume, Simulated: q.Simulated}
	})
	route(a, op("book", "GET", "/v1/book", "What can be had at which price"), s.book)
	stream(s, a, op("watch-book", "GET", "/v1/book/watch", "The book, now and whenever it changes"), map[string]any{eventBook: Book{}}, s.watchBook)
	route(a, op("tape", "GET", "/v1/tape", "What was taken at which price"), s.tape)
	route(a, op("stats", "GET", "/v1/stats", "What GPUs went for on average"), s.stats)
	route(a, op("reputation", "GET", "/v1/reputation/{addr}", "What this node saw of a host"),
		func(ctx context.Context, in *whoInput) (observer.Repute, error) {
			return do[observer.Repute](ctx, s.b, observer.Reputation{Host: in.Addr})
		})
}
