package market

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"souk/ledger"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Why the table refuses a change. Plan also refuses with a Shortage.
var (
	ErrAsk      = errors.New("market: an ask names a lease, a kind of bid and at least one GPU")
	ErrBusy     = errors.New("market: the lease already holds, awaits or has GPUs")
	ErrNoHold   = errors.New("market: the lease holds nothing")
	ErrNoRight  = errors.New("market: the lease has no right to GPUs that it does not already have")
	ErrOccupied = errors.New("market: a GPU of the lease still belongs to another")
	ErrUnusable = errors.New("market: a GPU of the lease is gone or unhealthy")
)

// A Slot is one GPU of a host and whose it is.
type Slot struct {
	Device member.Device `cbor:"1,keyasint"`
	Usable bool          `cbor:"2,keyasint"` // on the newest inventory
	Lease  wire.ID       `cbor:"3,keyasint"` // zero: nobody's
}

// A Held is GPUs kept back while a quote is out. It marks its victims and touches none.
type Held struct {
	Lease   wire.ID     `cbor:"1,keyasint"`
	Type    BidKind     `cbor:"2,keyasint"`
	Rate    ledger.Rate `cbor:"3,keyasint"` // per GPU-hour
	Model   string      `cbor:"4,keyasint"`
	GPUs    []string    `cbor:"5,keyasint"` // UUIDs: free ones and those of victims
	Victims []wire.ID   `cbor:"6,keyasint"` // spot leases that would have to go, newest first
	Arrival uint64      `cbor:"7,keyasint"`
	Until   member.Time `cbor:"8,keyasint"`
}

// A Tenant is a certified lease: first with a right to its GPUs, then, once Taken, in possession of them.
type Tenant struct {
	Lease   wire.ID     `cbor:"1,keyasint"`
	Type    BidKind     `cbor:"2,keyasint"`
	Rate    ledger.Rate `cbor:"3,keyasint"` // per GPU-hour
	Model   string      `cbor:"4,keyasint"`
	GPUs    []string    `cbor:"5,keyasint"` // UUIDs
	Victims []wire.ID   `cbor:"6,keyasint"` // displaced for it and not yet gone
	Arrival uint64      `cbor:"7,keyasint"` // order in which holds came, over all leases of the host
	Taken   bool        `cbor:"8,keyasint"`
	Since   member.Time `cbor:"9,keyasint"` // of possession; before that, of the right
}

// A Table is whose every GPU of one host is. One writer changes it, and each change has a log entry:
//
//	Hold → Certify → Take → Free
//	     ↘ Expire  ↘ Drop
//
// A GPU belongs to a victim until Free, and to the winner only from Take. The table is plain data: one row in a store.
type Table struct {
	Slots    []Slot   `cbor:"1,keyasint"` // by model, within a model in the order of the inventory
	Tenants  []Tenant `cbor:"2,keyasint"` // by arrival
	Holds    []Held   `cbor:"3,keyasint"` // by arrival
	Arrivals uint64   `cbor:"4,keyasint"` // the newest arrival
}

// Inventory sets the GPUs that are there and healthy. One that is missing from devs and in no lease, right or hold is
// forgotten; otherwise it stays whose it is, unusable, until it is freed. The answer is what the log has to say: one
// inventory entry a model, in this order.
func (t *Table) Inventory(devs []member.Device) []Stock {
	var out []Stock
	models := t.Models()
	for _, d := range devs {
		models = append(models, d.Model)
	}
	slices.Sort(models)
	for _, m := range slices.Compact(models) {
		var of []member.Device
		for _, d := range devs {
			if d.Model == m {
				of = append(of, d)
			}
		}
		t.inventory(m, of)
		out = append(out, Stock{m, t.Usable(m)})
	}
	return out
}

// A Stock is the healthy GPUs of one model: the Model and GPUs of an inventory entry. A model that is gone has no GPUs.
type Stock struct {
	Model string
	GPUs  []string
}

// Usable lists the healthy GPUs of a model, in the table's order.
func (t *Table) Usable(model string) []string {
	var out []string
	for _, s := range t.Slots {
		if s.Usable && s.Device.Model == model {
			out = append(out, s.Device.UUID)
		}
	}
	return out
}

// inventory sets the GPUs of one model, which is what one log entry carries. A UUID counts once.
func (t *Table) inventory(model string, devs []member.Device) {
	var now []Slot
	for _, d := range devs {
		if slices.ContainsFunc(now, func(s Slot) bool { return s.Device.UUID == d.UUID }) {
			continue
		}
		s := Slot{Device: d, Usable: true}
		if i := t.slot(d.UUID); i >= 0 {
			s.Lease = t.Slots[i].Lease
		}
		now = append(now, s)
	}
	var rest []Slot
	for _, s := range t.Slots {
		switch {
		case slices.ContainsFunc(now, func(n Slot) bool { return n.Device.UUID == s.Device.UUID }):
		case s.Device.Model != model:
			rest = append(rest, s)
		case !s.Lease.IsZero() || t.promised(s.Device.UUID):
			s.Usable = false
			now = append(now, s)
		}
	}
	at, _ := slices.BinarySearchFunc(rest, model, func(s Slot, m string) int { return cmp.Compare(s.Device.Model, m) })
	t.Slots = slices.Insert(rest, at, now...)
}

// Hold plans for an ask and keeps the planned GPUs back until the given time. Errors: those of Plan.
func (t *Table) Hold(a Ask, until member.Time) (Held, error) {
	p, err := t.Plan(a)
	if err != nil {
		return Held{}, err
	}
	t.Arrivals++
	h := Held{Lease: a.Lease, Type: a.Type, Rate: a.Rate, Model: a.Model, GPUs: p.GPUs, Victims: p.Victims,
		Arrival: t.Arrivals, Until: until}
	t.Holds = append(t.Holds, h)
	return h.clone(), nil
}

// Expire ends a hold without a lease. It reports whether there was one.
func (t *Table) Expire(lease wire.ID) bool {
	i := t.held(lease)
	if i < 0 {
		return false
	}
	t.Holds = cut(t.Holds, i)
	return true
}

// ExpireAll ends the holds whose time has come and names them in order of arrival. A hold stands until then, whatever the
// clock says: what counts is the order in the log.
func (t *Table) ExpireAll(now member.Time) []wire.ID {
	var out []wire.ID
	for _, h := range t.Holds {
		if h.Until <= now {
			out = append(out, h.Lease)
		}
	}
	for _, l := range out {
		t.Expire(l)
	}
	return out
}

// Certify turns a hold into a right, and names the victims that must now be told to go. ErrNoHold; ErrUnusable when a
// held GPU has failed meanwhile, and the hold stands.
func (t *Table) Certify(lease wire.ID, now member.Time) (victims []wire.ID, err error) {
	i := t.held(lease)
	if i < 0 {
		return nil, ErrNoHold
	}
	h := t.Holds[i]
	if !t.usable(h.GPUs) {
		return nil, ErrUnusable
	}
	t.Holds = cut(t.Holds, i)
	at, _ := slices.BinarySearchFunc(t.Tenants, h.Arrival, func(e Tenant, a uint64) int { return cmp.Compare(e.Arrival, a) })
	t.Tenants = slices.Insert(t.Tenants, at, Tenant{Lease: h.Lease, Type: h.Type, Rate: h.Rate, Model: h.Model,
		GPUs: h.GPUs, Victims: h.Victims, Arrival: h.Arrival, Since: now})
	return slices.Clone(h.Victims), nil
}

// Ready reports whether a lease with a right can take its GPUs: all are healthy and nobody's.
func (t *Table) Ready(lease wire.ID) bool { return t.takeable(lease) == nil }

// Take puts a lease with a right in possession of its GPUs. Errors: ErrNoRight, ErrOccupied, ErrUnusable.
func (t *Table) Take(lease wire.ID, now member.Time) error {
	if err := t.takeable(lease); err != nil {
		return err
	}
	e := &t.Tenants[t.tenant(lease)]
	e.Taken, e.Since, e.Victims = true, now, nil
	for _, id := range e.GPUs {
		t.Slots[t.slot(id)].Lease = lease
	}
	return nil
}

func (t *Table) takeable(lease wire.ID) error {
	i := t.tenant(lease)
	if i < 0 || t.Tenants[i].Taken {
		return ErrNoRight
	}
	for _, id := range t.Tenants[i].GPUs {
		if s := t.slot(id); s >= 0 && !t.Slots[s].Lease.IsZero() {
			return ErrOccupied
		}
	}
	if !t.usable(t.Tenants[i].GPUs) {
		return ErrUnusable
	}
	return nil
}

// Free ends a lease's possession and its right, and names the GPUs it had. A later start is a new ask.
func (t *Table) Free(lease wire.ID) []string {
	i := t.tenant(lease)
	if i < 0 || !t.Tenants[i].Taken {
		return nil
	}
	gpus := t.Tenants[i].GPUs
	for _, id := range gpus {
		if s := t.slot(id); s >= 0 {
			t.Slots[s].Lease = wire.ID{}
		}
	}
	t.Tenants = cut(t.Tenants, i)
	for i := range t.Holds {
		t.Holds[i].Victims = without(t.Holds[i].Victims, lease)
	}
	for i := range t.Tenants {
		t.Tenants[i].Victims = without(t.Tenants[i].Victims, lease)
	}
	return gpus
}

// Drop gives up a right before its GPUs were taken. It reports whether there was one. Victims that were already told to
// go are not called back.
func (t *Table) Drop(lease wire.ID) bool {
	i := t.tenant(lease)
	if i < 0 || t.Tenants[i].Taken {
		return false
	}
	t.Tenants = cut(t.Tenants, i)
	return true
}

// Tenant is the certified lease with this id.
func (t *Table) Tenant(lease wire.ID) (Tenant, bool) {
	i := t.tenant(lease)
	if i < 0 {
		return Tenant{}, false
	}
	e := t.Tenants[i]
	e.GPUs, e.Victims = slices.Clone(e.GPUs), slices.Clone(e.Victims)
	return e, true
}

// Held is the hold of this lease.
func (t *Table) Held(lease wire.ID) (Held, bool) {
	i := t.held(lease)
	if i < 0 {
		return Held{}, false
	}
	return t.Holds[i].clone(), true
}

// Waiting names the leases with a right that they cannot or did not yet take, in order of arrival.
func (t *Table) Waiting() []wire.ID {
	var out []wire.ID
	for _, e := range t.Tenants {
		if !e.Taken {
			out = append(out, e.Lease)
		}
	}
	return out
}

// Lost names the leases that hold, await or have a GPU that is gone or unhealthy: tenants, then holds, by arrival.
func (t *Table) Lost() []wire.ID {
	var out []wire.ID
	for _, e := range t.Tenants {
		if !t.usable(e.GPUs) {
			out = append(out, e.Lease)
		}
	}
	for _, h := range t.Holds {
		if !t.usable(h.GPUs) {
			out = append(out, h.Lease)
		}
	}
	return out
}

// Models names the models of the host, in order.
func (t *Table) Models() []string {
	var out []string
	for _, s := range t.Slots {
		if len(out) == 0 || out[len(out)-1] != s.Device.Model {
			out = append(out, s.Device.Model)
		}
	}
	return out
}

// Counts is what an offer says of one model.
type Counts struct {
	Usable   uint16 // GPUs there and healthy
	Free     uint16 // nobody's, held for nobody, promised to nobody
	OnDemand uint16 // what one on-demand ask could have now: free ones and those of spot leases
}

// Counts counts the GPUs of a model.
func (t *Table) Counts(model string) Counts {
	var c Counts
	g := t.ground(model)
	for i, s := range g.slots {
		if s.Usable {
			c.Usable++
		}
		if g.free[i] {
			c.Free++
		}
	}
	c.OnDemand = c.Free
	for _, v := range t.candidates(g) {
		c.OnDemand += uint16(len(v.at))
	}
	return c
}

// SpotNow is the least rate per GPU-hour that wins one more spot GPU of a model now, where the host takes no bid under
// floor; 0 when none can be won.
func (t *Table) SpotNow(model string, floor ledger.Rate) ledger.Rate {
	if t.Counts(model).Free == 0 {
		return 0
	}
	return floor
}

// Audit checks what must hold after every change: M1, a GPU is in at most one lease and promised to at most one more; M2,
// no on-demand lease is a victim; M3, whoever has victims is on-demand. An error names the GPU or lease.
func (t *Table) Audit() error {
	if err := t.auditSlots(); err != nil {
		return err
	}
	var promised []string
	var marked []wire.ID
	for _, c := range t.claims() {
		for _, id := range c.gpus {
			s := t.slot(id)
			switch {
			case s < 0:
				return fmt.Errorf("market: lease %v counts on GPU %q, which the host does not have", c.lease, id)
			case slices.Contains(promised, id):
				return fmt.Errorf("market: M1: GPU %q is promised twice", id)
			case !t.Slots[s].Lease.IsZero() && !slices.Contains(c.victims, t.Slots[s].Lease):
				return fmt.Errorf("market: M1: GPU %q is promised to lease %v while lease %v has it and is no victim", id, c.lease,
					t.Slots[s].Lease)
			}
			promised = append(promised, id)
		}
		for _, v := range c.victims {
			i := t.tenant(v)
			switch {
			case c.kind != OnDemand:
				return fmt.Errorf("market: M3: lease %v is not on-demand and has victims", c.lease)
			case i < 0 || !t.Tenants[i].Taken || slices.Contains(marked, v):
				return fmt.Errorf("market: lease %v is a victim twice, or has no GPUs", v)
			case t.Tenants[i].Type != Spot:
				return fmt.Errorf("market: M2: on-demand lease %v is a victim", v)
			}
			marked = append(marked, v)
		}
	}
	return nil
}

// auditSlots checks that slots and tenants agree on who has what.
func (t *Table) auditSlots() error {
	for i, s := range t.Slots {
		if t.slot(s.Device.UUID) != i {
			return fmt.Errorf("market: GPU %q is there twice", s.Device.UUID)
		}
		if s.Lease.IsZero() {
			continue
		}
		e := t.tenant(s.Lease)
		if e < 0 || !t.Tenants[e].Taken || !slices.Contains(t.Tenants[e].GPUs, s.Device.UUID) {
			return fmt.Errorf("market: M1: GPU %q is with lease %v, which has not taken it", s.Device.UUID, s.Lease)
		}
	}
	for i, e := range t.Tenants {
		if t.tenant(e.Lease) != i || t.held(e.Lease) >= 0 || i > 0 && t.Tenants[i-1].Arrival >= e.Arrival {
			return fmt.Errorf("market: lease %v is in the table twice, or out of order", e.Lease)
		}
		for _, id := range e.GPUs {
			if s := t.slot(id); e.Taken && (s < 0 || t.Slots[s].Lease != e.Lease) {
				return fmt.Errorf("market: M1: lease %v took GPU %q, which is not with it", e.Lease, id)
			}
		}
	}
	for i, h := range t.Holds {
		if t.held(h.Lease) != i {
			return fmt.Errorf("market: lease %v has two holds", h.Lease)
		}
	}
	return nil
}

// A claim is what a hold and a right not yet taken have in common.
type claim struct {
	lease   wire.ID
	kind    BidKind
	gpus    []string
	victims []wire.ID
}

func (t *Table) claims() []claim {
	var out []claim
	for _, e := range t.Tenants {
		if !e.Taken {
			out = append(out, claim{e.Lease, e.Type, e.GPUs, e.Victims})
		}
	}
	for _, h := range t.Holds {
		out = append(out, claim{h.Lease, h.Type, h.GPUs, h.Victims})
	}
	return out
}

// promised reports whether a hold or a right not yet taken counts on a GPU.
func (t *Table) promised(uuid string) bool {
	return slices.ContainsFunc(t.claims(), func(c claim) bool { return slices.Contains(c.gpus, uuid) })
}

// marked reports whether a lease is somebody's victim already.
func (t *Table) marked(lease wire.ID) bool {
	return slices.ContainsFunc(t.claims(), func(c claim) bool { return slices.Contains(c.victims, lease) })
}

func (t *Table) usable(gpus []string) bool {
	for _, id := range gpus {
		if s := t.slot(id); s < 0 || !t.Slots[s].Usable {
			return false
		}
	}
	return true
}

func (t *Table) slot(uuid string) int {
	return slices.IndexFunc(t.Slots, func(s Slot) bool { return s.Device.UUID == uuid })
}

func (t *Table) tenant(lease wire.ID) int {
	return slices.IndexFunc(t.Tenants, func(e Tenant) bool { return e.Lease == lease })
}

func (t *Table) held(lease wire.ID) int {
	return slices.IndexFunc(t.Holds, func(h Held) bool { return h.Lease == lease })
}

func (h Held) clone() Held {
	h.GPUs, h.Victims = slices.Clone(h.GPUs), slices.Clone(h.Victims)
	return h
}

// cut removes one element and never leaves an empty list where there was none, so that equal tables encode equally.
func cut[T any](list []T, i int) []T {
	if len(list) == 1 {
		return nil
	}
	return append(slices.Clone(list[:i]), list[i+1:]...)
}

func without(list []wire.ID, lease wire.ID) []wire.ID {
	if i := slices.Index(list, lease); i >= 0 {
		return cut(list, i)
	}
	return list
}
