package market

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"souk/ledger"
	"souk/market/ranked"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// An Index is what many hosts have on sale, in order of price, for searches: over all GPUs, and over those of each model. A
// search walks from the cheapest on. It asks a listing first what its offer says, and only of those that meet that who their
// host is. Make one with NewIndex.
type Index struct {
	offers map[identity.Address]*Offer
	all    ranked.List[row]
	models map[string]*ranked.List[row] // by the plain name of the model
}

// place is where a row is in the order of an index: by price, then by host, then by group.
func place(price ledger.Rate, host identity.Address, group int) ranked.Key {
	k := ranked.Key{Rank: int64(price)}
	copy(k.Tie[:], host[:])
	k.Tie[len(host)] = byte(group)
	return k
}

// A Witness tells what its node knows of hosts. What it has told is not asked again as long as its stamp is the same.
type Witness struct {
	Stamp uint64                               // 0: ask always
	See   func(identity.Address) (Facts, bool) // false: no host in good standing
}

// NewIndex is an index of no offers.
func NewIndex() *Index {
	return &Index{offers: map[identity.Address]*Offer{}, models: map[string]*ranked.List[row]{}}
}

// Put enters an offer in place of its host's former one. It is the index's from then on.
func (x *Index) Put(o *Offer) {
	old := x.offers[o.Host]
	if old != nil && len(old.Groups) != len(o.Groups) {
		x.Remove(o.Host)
		old = nil
	}
	x.offers[o.Host] = o
	for i := range o.Groups {
		g, at := &o.Groups[i], place(o.Groups[i].Price, o.Host, i)
		l := x.of(g.Model)
		if old != nil {
			switch was := &old.Groups[i]; {
			case was.Model != g.Model:
				x.remove(place(was.Price, o.Host, i), was.Model)
				l = x.of(g.Model)
			case was.Price != g.Price:
				k := place(was.Price, o.Host, i)
				x.all.Delete(k)
				l.Delete(k)
			}
		}
		v, _ := x.all.Put(at)
		*v = newRow(o, i)
		w, _ := l.Put(at)
		*w = *v
	}
}

// of is the rows of a model, those that are to come included.
func (x *Index) of(model string) *ranked.List[row] {
	l := x.models[plain(model)]
	if l == nil {
		l = new(ranked.List[row])
		x.models[plain(model)] = l
	}
	return l
}

func (x *Index) remove(at ranked.Key, model string) {
	x.all.Delete(at)
	l := x.of(model)
	if l.Delete(at); l.Len() == 0 {
		delete(x.models, plain(model))
	}
}

// Remove takes a host's offer out.
func (x *Index) Remove(host identity.Address) {
	o := x.offers[host]
	if o == nil {
		return
	}
	delete(x.offers, host)
	for i, g := range o.Groups {
		x.remove(place(g.Price, host, i), g.Model)
	}
}

// Offer is the newest offer of a host.
func (x *Index) Offer(host identity.Address) (Offer, bool) {
	if o := x.offers[host]; o != nil {
		return *o, true
	}
	return Offer{}, false
}

// Len is how many hosts have an offer, the empty ones included.
func (x *Index) Len() int { return len(x.offers) }

// Check refuses a query for a model that nobody has a name for: neither the market nor any offer. The error is a QueryError
// that names near ones.
func (x *Index) Check(q Query) error {
	for _, c := range q.conds {
		if c.field.name != "gpu_name" {
			continue
		}
		for _, v := range c.values {
			if x.models[v.plain] != nil || slices.ContainsFunc(models, func(m string) bool { return plainly(m, v.plain) }) {
				continue
			}
			names := slices.Clone(models)
			x.all.Each(func(_ ranked.Key, r *row) bool {
				if len(names) < 2*len(models) && !slices.Contains(names, r.model()) {
					names = append(names, r.model())
				}
				return true
			})
			return QueryError{At: v.at, Why: fmt.Sprintf("gpu_name: no GPU is called %q", v.text), Near: nearest(v.text, names, 4)}
		}
	}
	return nil
}

// A Search asks an index for listings.
type Search struct {
	Query Query // all of it: what is implied too
	Order Order
	Limit int  // 0: all
	Count bool // how many fit in all, and if none does, why; otherwise the walk may end at the limit
	Now   member.Time
}

// Found is what a search finds.
type Found struct {
	Hits []Hit // in order
	Fit  int   // how many fit, if that was asked; otherwise as many as there are hits
	Live int   // all listings that have not run out; 0 if it was not asked to count
	Miss *Miss // why none fits, if that was asked
}

// A Hit is a listing without a copy of its offer, which is the index's: to be read until the next step.
type Hit struct {
	Offer *Offer
	Group int
	Facts
}

// Listing is the hit with a copy of its offer.
func (h Hit) Listing() Listing {
	return Listing{Offer: *h.Offer, Group: h.Group, Tier: h.Tier, Alias: h.Alias, Reliability: h.Reliability, New: h.New, Seen: h.Offer.At}
}

func (r *row) hit() Hit { return Hit{r.offer, int(r.group), r.Facts} }

// Search finds the listings that meet a query.
func (x *Index) Search(s Search, see Witness) Found {
	h := hunt{checks: s.Query.checks(), now: s.Now, see: see}
	h.split()
	out := Found{Hits: make([]Hit, 0, min(s.Limit, 256))}
	if s.Order.byPrice() {
		out.Fit = x.first(s, &h, &out)
	} else {
		out.Fit = x.sorted(s, &h, &out)
	}
	if !s.Count {
		out.Fit = len(out.Hits)
		return out
	}
	if out.Live = x.live(s.Now); out.Fit == 0 {
		out.Miss = x.why(h, func(a, b *row) int { return cmp.Or(cmp.Compare(a.price, b.price), a.offer.Host.Compare(b.offer.Host)) })
	}
	return out
}

// first takes hits in the order of the index, and ends where no more are wanted.
func (x *Index) first(s Search, h *hunt, out *Found) (fit int) {
	x.rows(s.Query).Each(func(_ ranked.Key, r *row) bool {
		if !h.meets(r) {
			return r.price <= h.most
		}
		if fit++; s.Limit == 0 || len(out.Hits) < s.Limit {
			out.Hits = append(out.Hits, r.hit())
		}
		return s.Count || s.Limit == 0 || len(out.Hits) < s.Limit
	})
	return fit
}

// sorted takes all that fit, and then those that come first in another order.
func (x *Index) sorted(s Search, h *hunt, out *Found) (fit int) {
	var all []*row
	x.rows(s.Query).Each(func(_ ranked.Key, r *row) bool {
		if h.meets(r) {
			all = append(all, r)
		}
		return true
	})
	slices.SortStableFunc(all, s.Order.compare)
	fit = len(all)
	if s.Limit > 0 && s.Limit < fit {
		all = all[:s.Limit]
	}
	for _, r := range all {
		out.Hits = append(out.Hits, r.hit())
	}
	return fit
}

// rows are those that a query can be about.
func (x *Index) rows(q Query) *ranked.List[row] {
	for _, c := range q.conds {
		if c.field.name != "gpu_name" || len(c.values) != 1 || c.op != opEqual && c.op != opIn {
			continue
		}
		if l := x.models[c.values[0].plain]; l != nil {
			return l
		}
		return new(ranked.List[row])
	}
	return &x.all
}

// live is how many listings have not run out.
func (x *Index) live(now member.Time) (n int) {
	x.all.Each(func(_ ranked.Key, r *row) bool {
		if r.expires > now {
			n++
		}
		return true
	})
	return n
}

// why is why no row of the index meets the checks.
func (x *Index) why(h hunt, better func(a, b *row) int) *Miss {
	m := missing{hunt: h, better: better}
	x.all.Each(func(_ ranked.Key, r *row) bool {
		if !h.skips(r) && h.judge(r) {
			m.add(r)
		}
		return true
	})
	return m.miss()
}

// A hunt is checks that are asked of row after row.
type hunt struct {
	checks []check // those that are judged last
	kind   BidKind // which GPUs count; 0: free ones
	only   identity.Address
	now    member.Time
	see    Witness

	offer, host []check     // the checks in two parts: of the offer, of what is known of the host
	turns       []uint8     // the checks of the offer, in which order they are asked: of those on numbers, that which most rows fail comes to be the first
	failed      []uint32    // rows that failed each check of the offer
	most        ledger.Rate // no row with a higher price meets them
}

func (h *hunt) split() {
	n := slices.IndexFunc(h.checks, func(c check) bool { return c.judged() })
	if n < 0 {
		n = len(h.checks)
	}
	h.offer, h.host = h.checks[:n], h.checks[n:]
	h.turns, h.failed = make([]uint8, n), make([]uint32, n)
	for i := range h.turns {
		h.turns[i] = uint8(i)
	}
	h.most = math.MaxInt64
	for _, c := range h.offer {
		if c.cond != nil && c.cond.field.name == "dph" && c.number != nil {
			h.most = min(h.most, ledger.Rate(min(c.to, math.MaxInt64)))
		}
	}
}

// skips reports whether a row has run out, or is of a host that is not asked about.
func (h *hunt) skips(r *row) bool {
	return r.expires <= h.now || !h.only.IsZero() && r.offer.Host != h.only
}

// meets reports whether a row is live, meets every check, and is of a host in good standing. Then the row has its facts.
func (h *hunt) meets(r *row) bool {
	if h.skips(r) {
		return false
	}
	n := r.having(h.kind)
	for i, at := range h.turns {
		if h.offer[at].met(r, n) {
			continue
		}
		h.failed[at]++
		if i > 0 && h.offer[at].number != nil && h.failed[at] > h.failed[h.turns[i-1]] {
			h.turns[i], h.turns[i-1] = h.turns[i-1], at
		}
		return false
	}
	if !h.judge(r) {
		return false
	}
	for i := range h.host {
		if !h.host[i].met(r, n) {
			return false
		}
	}
	return true
}

// judge has a row's facts be those of now, and reports whether its host is in good standing.
func (h *hunt) judge(r *row) bool {
	if h.see.Stamp == 0 || r.stamp != h.see.Stamp {
		r.Facts, r.good = h.see.See(r.offer.Host)
		r.stamp = h.see.Stamp
	}
	return r.good
}

// An Order is how listings are sorted. The zero Order is by price.
type Order struct{ keys []orderKey }

type orderKey struct {
	field *field
	down  bool
}

// ParseOrder reads fields as in dph,reliability-: the first one first, a dash behind one turns its order. Listings that are
// equal in all of them are in order of price, then of address. What a host does not say comes last either way.
func ParseOrder(s string) (Order, error) {
	var o Order
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, down := strings.CutSuffix(part, "-")
		f, near := findField(name)
		switch {
		case len(o.keys) == maxConditions:
			return Order{}, fmt.Errorf("market: an order has at most %d fields", maxConditions)
		case f != nil:
			o.keys = append(o.keys, orderKey{f, down})
		case unmeasured[strings.ToLower(name)] != "":
			return Order{}, fmt.Errorf("market: sorting by %s: it is not measured yet: %s", name, unmeasured[strings.ToLower(name)])
		default:
			return Order{}, QueryError{At: strings.Index(s, part), Why: fmt.Sprintf("no field %q to sort by", clip(name)), Field: name, Near: near}
		}
	}
	return o, nil
}

// String is the order as ParseOrder reads it.
func (o Order) String() string {
	var out []string
	for _, k := range o.keys {
		s := k.field.name
		if k.down {
			s += "-"
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}

// byPrice reports whether the order is that of an index.
func (o Order) byPrice() bool {
	return len(o.keys) == 0 || len(o.keys) == 1 && o.keys[0].field.name == "dph" && !o.keys[0].down
}

func (o Order) compare(a, b *row) int {
	for _, k := range o.keys {
		if c := k.compare(a, b); c != 0 {
			return c
		}
	}
	return 0 // rows come in order of price, and the sort is stable
}

func (k orderKey) compare(a, b *row) int {
	f := k.field
	c, unsaid := 0, 0
	if f.num != nil {
		x, y := f.num(a, a.having(0)), f.num(b, b.having(0))
		c, unsaid = cmp.Compare(x, y), cmp.Compare(truth(x == unknown), truth(y == unknown))
	} else {
		x, y := f.text(a), f.text(b)
		c, unsaid = cmp.Compare(plain(x), plain(y)), cmp.Compare(truth(x == ""), truth(y == ""))
		if f.unit == unitVersion && isVersion(x) && isVersion(y) {
			c = compareVersion(x, parseVersion(y))
		}
	}
	switch {
	case unsaid != 0:
		return unsaid
	case k.down:
		return -c
	}
	return c
}
