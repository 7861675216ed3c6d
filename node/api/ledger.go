package api

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"souk/ledger"
	"souk/node/core"
	"souk/node/core/consumer"
	"souk/node/core/host"
	"souk/node/core/observer"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// An Entry is one line of what this node knows of money: an entry of the bank's journal (of an operator), a usage entry
// (of a host, those it has written; of a consumer, those it was sent), or a consumer's highest voucher for a lease.
type Entry struct {
	Kind     string           `json:"kind" doc:"bank, usage or voucher"`
	Seq      uint64           `json:"seq" doc:"in its chain"`
	At       member.Time      `json:"at" doc:"of a usage entry, the end of its last minute"`
	Lease    wire.ID          `json:"lease" doc:"zero in the bank's journal"`
	Reserved wire.ID          `json:"reservation" doc:"of a bank entry; zero for deposits"`
	Entry    string           `json:"entry" doc:"what the bank did, or what the pod was"`
	Basis    string           `json:"basis,omitempty" doc:"by whose word a minute is billed"`
	First    member.Minute    `json:"firstMinute,omitempty"`
	Minutes  uint8            `json:"minutes,omitempty" doc:"that the entry covers"`
	Billed   int64            `json:"billed" doc:"minutes of them that count"`
	Total    ledger.Amount    `json:"total" doc:"owed or vouched for so far; of a bank entry, what it moved"`
	Final    bool             `json:"final,omitempty" doc:"the last of its lease"`
	Postings []Posting        `json:"postings,omitempty"`
	Ref      identity.Hash    `json:"ref" doc:"hash by which the entry is referred to; zero of a draft of an unknown market"`
	Host     identity.Address `json:"host" doc:"zero in the bank's journal"`
}

// A Posting changes one book of one account.
type Posting struct {
	Account identity.Address `json:"account"`
	Book    string           `json:"book"`
	Amount  ledger.Amount    `json:"amount"`
}

// Bounds of a look into the ledger.
const (
	entriesUsual = 50
	entriesMost  = 1000
	pagesMost    = 64 // of entriesMost, that are searched for the entries of one reservation
)

// eventEntry is the event of an Entry.
const eventEntry = "entry"

type ledgerInput struct {
	Lease  string `query:"lease" doc:"name of a pod or the beginning of a lease's id, of an operator a reservation's; empty: all"`
	Limit  int    `query:"limit" minimum:"0" maximum:"1000" doc:"newest entries; 0: 50"`
	Follow bool   `query:"follow" doc:"go on with those to come"`
}

// A Backup is a file that holds a node's ledger as it was at one moment.
type Backup struct {
	Path   string           `json:"path"`
	Key    identity.Address `json:"key"`
	Market string           `json:"market" doc:"id; empty: of none yet"`
	At     member.Time      `json:"at"`
	Frame  uint64           `json:"frame" doc:"last frame of the journal that is in it"`
	Rows   int              `json:"rows"`
	Chains int              `json:"chains" doc:"of which it knows the highest place"`
}

// A Destination is where a backup goes.
type Destination struct {
	Path string `json:"path" minLength:"1" maxLength:"4096" doc:"absolute; a folder: under a name of the node's"`
}

func (s *server) ledgerRoutes(a huma.API) {
	route(a, patient(op("backup", "POST", "/v1/ledger/backup", "Write the ledger, as it is now, to one file")),
		func(ctx context.Context, in *struct{ Body Destination }) (Backup, error) {
			return s.b.Backup(ctx, in.Body.Path)
		})
	route(a, op("accept-loss", "POST", "/v1/ledger/accept-loss", "End a quarantine without what is still awaited"),
		func(ctx context.Context, _ *none) (core.Accepted, error) {
			return do[core.Accepted](ctx, s.b, core.AcceptLoss{})
		})
	stream(s, a, op("ledger", "GET", "/v1/ledger", "What this node knows of money, the oldest first"), map[string]any{eventEntry: Entry{}}, s.tail)
}

// tail sends the newest entries, and with follow those to come.
func (s *server) tail(ctx context.Context, in *ledgerInput, out *sender) error {
	st, err := do[observer.Standing](ctx, s.b, observer.Where{})
	if err != nil {
		return err
	}
	b := &book{s: s, slot: max(st.Slot, 1), market: st.MarketID, roles: st.Roles, next: map[wire.ID]uint64{}, vouched: map[wire.ID]ledger.Amount{}}
	if err := b.choose(ctx, in.Lease); err != nil {
		return err
	}
	limit := in.Limit
	if limit == 0 {
		limit = entriesUsual
	}
	list, err := b.newest(ctx, limit)
	if err != nil {
		return err
	}
	out.start()
	news := s.news(ctx)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		for _, e := range list {
			if err := out.send(eventEntry, 0, e); err != nil {
				return err
			}
		}
		if !in.Follow {
			return nil
		}
		select {
		case <-news:
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
		if list, err = b.more(ctx); err != nil {
			return err
		}
	}
}

// A book reads what this node has of money, each chain from where it was left.
type book struct {
	s       *server
	slot    uint16
	market  identity.Hash
	roles   string
	ref     string                    // of the bank's journal: only reservations that begin so
	lease   wire.ID                   // only this one; zero: all
	next    map[wire.ID]uint64        // sequence to read next, by lease; of the bank, under the zero lease
	vouched map[wire.ID]ledger.Amount // as told last
}

func (b *book) is(role string) bool { return slices.Contains(strings.Split(b.roles, ","), role) }

// choose finds the lease that ref means, among those of the node's roles.
func (b *book) choose(ctx context.Context, ref string) error {
	b.ref = strings.ToLower(ref)
	if ref == "" || b.is("operator") && !b.is("host") && !b.is("consumer") {
		return nil
	}
	if id := (wire.ID{}); id.UnmarshalText([]byte(ref)) == nil {
		b.lease = id
		return nil
	}
	if b.is("host") {
		list, err := do[[]host.Earning](ctx, b.s.b, host.Earnings{})
		if err != nil {
			return err
		}
		for _, e := range list {
			if strings.HasPrefix(e.Lease.String(), strings.ToLower(ref)) {
				if !b.lease.IsZero() {
					return step.Fail(step.ProblemUsage, "give more of the id", "several leases begin with %q", ref)
				}
				b.lease = e.Lease
			}
		}
	}
	if b.is("consumer") && b.lease.IsZero() {
		v, err := b.s.find(ctx, ref)
		if err != nil {
			return err
		}
		b.lease = v.Lease
	}
	if b.lease.IsZero() {
		return step.Fail(step.ProblemNotFound, "give the whole id", "no lease begins with %q", ref)
	}
	return nil
}

// newest are the last entries, in the order of time, and leaves every chain at its end.
func (b *book) newest(ctx context.Context, limit int) ([]Entry, error) {
	out, err := b.entries(ctx, limit, true)
	return out[max(0, len(out)-limit):], err
}

// more are the entries that came since.
func (b *book) more(ctx context.Context) ([]Entry, error) { return b.entries(ctx, entriesMost, false) }

// entries reads every chain of this node, at most limit of each: the newest, or those that follow what was read before.
func (b *book) entries(ctx context.Context, limit int, newest bool) ([]Entry, error) {
	var out []Entry
	if b.is("operator") {
		list, err := b.read(ctx, table.BankEntry, wire.ID{}, limit, newest)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	for _, t := range b.usageTables() {
		leases, err := b.leases(ctx, t)
		if err != nil {
			return nil, err
		}
		for _, id := range leases {
			list, err := b.read(ctx, t, id, limit, newest)
			if err != nil {
				return nil, err
			}
			out = append(out, list...)
		}
	}
	vs, err := b.vouchers(ctx)
	out = append(out, vs...)
	order(out)
	return out, err
}

func order(list []Entry) {
	slices.SortStableFunc(list, func(x, y Entry) int { return cmp.Or(cmp.Compare(x.At, y.At), cmp.Compare(x.Seq, y.Seq)) })
}

func (b *book) usageTables() []table.Table {
	var ts []table.Table
	if b.is("host") {
		ts = append(ts, table.Usage)
	}
	if b.is("consumer") {
		ts = append(ts, table.ConsumerUsage)
	}
	return ts
}

// leases are those whose chains a table holds.
func (b *book) leases(ctx context.Context, t table.Table) ([]wire.ID, error) {
	if !b.lease.IsZero() {
		return []wire.ID{b.lease}, nil
	}
	var out []wire.ID
	if t == table.Usage {
		list, err := do[[]host.Earning](ctx, b.s.b, host.Earnings{})
		for _, e := range list {
			out = append(out, e.Lease)
		}
		return out, err
	}
	list, err := do[[]consumer.View](ctx, b.s.b, consumer.List{All: true})
	for _, v := range list {
		out = append(out, v.Lease)
	}
	return out, err
}

// read takes entries of one chain: the newest ones, or those after the last that was read.
func (b *book) read(ctx context.Context, t table.Table, lease wire.ID, limit int, newest bool) ([]Entry, error) {
	prefix := table.Key(t)
	if t != table.BankEntry {
		prefix = table.Key(t, lease[:])
	}
	if newest {
		return b.back(ctx, prefix, lease, limit)
	}
	from := prefix
	if n := b.next[lease]; n > 0 {
		from = append(bytes.Clone(prefix), table.Uint64(n)...)
	}
	objects, err := b.s.b.Objects(ctx, from, table.After(prefix), limit, false)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, o := range objects {
		e, err := b.entry(o)
		if err != nil {
			return nil, err
		}
		b.next[lease] = e.Seq + 1
		if b.wanted(e) {
			out = append(out, e)
		}
	}
	return out, nil
}

// wanted reports whether an entry is of the reservation asked for. Of other chains all are.
func (b *book) wanted(e Entry) bool {
	return e.Kind != "bank" || strings.HasPrefix(e.Reserved.String(), b.ref)
}

// back takes the newest entries of one chain that are wanted, page by page from its end, in the order of the chain.
func (b *book) back(ctx context.Context, prefix []byte, lease wire.ID, limit int) ([]Entry, error) {
	var out []Entry
	to, size := table.After(prefix), limit
	for range pagesMost {
		objects, err := b.s.b.Objects(ctx, prefix, to, size, true)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			e, err := b.entry(o)
			if err != nil {
				return nil, err
			}
			b.next[lease] = max(b.next[lease], e.Seq+1)
			if b.wanted(e) && len(out) < limit {
				out = append(out, e)
			}
			to = append(bytes.Clone(prefix), table.Uint64(e.Seq)...)
		}
		if len(out) == limit || len(objects) < size {
			break
		}
		size = entriesMost
	}
	slices.Reverse(out)
	return out, nil
}

func (b *book) entry(o wire.Object) (Entry, error) {
	ref := wire.Market{ID: b.market}.Ref(o.Kind, o.Payload)
	switch o.Kind {
	case wire.KindBankEntry:
		m, err := wire.Decode[ledger.Entry](o)
		e := Entry{Kind: "bank", Seq: m.Seq, At: m.At, Reserved: m.Reservation, Entry: m.Entry.String(), Ref: ref}
		for _, p := range m.Postings {
			e.Postings = append(e.Postings, Posting{p.Account, p.Book.String(), p.Amount})
			e.Total = max(e.Total, p.Amount)
		}
		return e, err
	case wire.KindUsage:
		u, err := wire.Decode[ledger.Usage](o)
		return Entry{
			Kind: "usage", Seq: u.Seq, At: member.Time(u.Last()+1) * member.Time(b.slot) * member.Second, Lease: u.Lease, Entry: u.Status.String(),
			Basis: u.Basis.String(), First: u.First, Minutes: u.Count, Billed: u.Minutes(), Total: u.Owed(), Final: u.Final, Ref: ref, Host: u.Host,
		}, err
	}
	return Entry{}, fmt.Errorf("api: a %v in the ledger", o.Kind)
}

// vouchers are those of a consumer that are higher than when they were told last.
func (b *book) vouchers(ctx context.Context) ([]Entry, error) {
	if !b.is("consumer") {
		return nil, nil
	}
	leases, err := b.leases(ctx, table.ConsumerUsage)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, id := range leases {
		d, err := do[consumer.Documents](ctx, b.s.b, consumer.Papers{Lease: id})
		if err != nil {
			return nil, err
		}
		if d.Voucher.IsZero() {
			continue
		}
		v, err := wire.Decode[ledger.Voucher](d.Voucher)
		if err != nil {
			return nil, err
		}
		if v.Total <= b.vouched[id] {
			continue
		}
		b.vouched[id] = v.Total
		out = append(out, Entry{
			Kind: "voucher", Seq: v.Seq, At: member.Time(v.Minute+1) * member.Time(b.slot) * member.Second, Lease: v.Lease, Entry: "signed",
			First: v.Minute, Total: v.Total, Ref: wire.Market{ID: b.market}.Ref(d.Voucher.Kind, d.Voucher.Payload), Host: v.Host,
		})
	}
	return out, nil
}
