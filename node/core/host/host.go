// Package host is the host role of a node's core: what it has on sale, whom it has promised it to, what each lease owes.
//
// A request for a lease is answered with a quote, whose GPUs are held durably before it leaves. The consumer's accept makes
// the lease: only then are victims told to go. The lease log has every such step; it is what the host can be held to.
// Every minute of a lease is closed by exactly one usage entry; minute.go says when, and with which status. A lease whose
// minute is not paid in time is stopped. At its end, and every hour, the host settles with the bank.
package host

import (
	"bytes"
	"maps"
	"slices"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// World is what the host asks of the rest of the core.
type World interface {
	Standing(a identity.Address, now member.Time) error
	Is(a identity.Address, r member.Role, now member.Time) bool
	Credential(a identity.Address) (member.Credential, wire.Object, bool)
	// Heard reports whether anything fresh and signed of another member came in minute m, one of the last 64.
	Heard(m member.Minute) bool
	// Fresh is when anything fresh and signed of another member last came.
	Fresh() member.Time
	// Sanctioned is the sanction that stands against a.
	Sanctioned(a identity.Address) (member.Revocation, bool)
	// Enact makes an object that this node has drafted part of its own view, keeps it, and gossips it.
	Enact(ctx *step.Context, msg wire.Message)
}

// sale is what the host has decided to sell.
type sale struct {
	Listed   bool        `cbor:"1,keyasint"`
	Price    ledger.Rate `cbor:"2,keyasint"` // on-demand, per GPU-hour
	Floor    ledger.Rate `cbor:"3,keyasint"` // least spot bid
	GPUs     []string    `cbor:"4,keyasint"` // UUIDs; empty: all
	MaxHours uint32      `cbor:"5,keyasint"`
	Region   string      `cbor:"6,keyasint"`
	Grace    uint16      `cbor:"7,keyasint"`
	Seq      uint64      `cbor:"8,keyasint"`  // of the last offer
	Private  bool        `cbor:"9,keyasint"`  // images of registries on private addresses are taken
	Room     uint32      `cbor:"10,keyasint"` // GiB that were free for pods when there were most

	Fills []market.Fill `cbor:"11,keyasint,omitempty"` // the newest, the oldest first
}

// chainEnd is how far a chain that this host signs has come.
type chainEnd struct {
	Seq    uint64        `cbor:"1,keyasint"`
	Head   identity.Hash `cbor:"2,keyasint"`
	Minute member.Minute `cbor:"3,keyasint"`
}

// hold is a quote that stands, or one that ended without a lease and is kept so that the consumer can be told.
type hold struct {
	Request     wire.Object      `cbor:"1,keyasint"` // zero once it has ended, as Quote
	Quote       wire.Object      `cbor:"2,keyasint"`
	Until       member.Time      `cbor:"3,keyasint"`
	Dead        bool             `cbor:"4,keyasint"`
	Consumer    identity.Address `cbor:"5,keyasint"`
	Reservation wire.ID          `cbor:"6,keyasint"`
}

// A Host is the host role.
type Host struct {
	world    World
	sale     *step.Cell[sale]
	alloc    *step.Cell[market.Table]
	log      *step.Cell[chainEnd]
	beat     *step.Cell[chainEnd]
	holds    *step.Map[wire.ID, hold]
	leases   *step.Map[wire.ID, lease]
	grants   *step.Map[wire.ID, grant] // by lease
	receipts *step.Map[heardKey, heard]
	specs    *step.Map[wire.ID, market.Spec] // of the leases: what is large and never changes is written once
	blames   *step.Cell[[]blame]             // by consumer
	off      *step.Cell[market.Answered]     // minutes in which the engine was down
	away     *step.Cell[market.Answered]     // minutes in which this node was down
	past     *step.Cell[member.Time]         // what was opened before it may be known to others only

	// What follows lives as long as the process.
	machine   member.Machine
	devices   []member.Device
	known     bool // the inventory has come
	engine    bool
	unfit     string // why the machine should take no new leases
	booted    member.Minute
	bootAt    member.Time
	downSince member.Minute // first minute of the outage before this boot
	unseen    map[wire.ID]bool
	sighted   map[wire.ID]sighting
	attended  map[wire.ID]member.Time            // when the last keep-alive came
	enlisted  map[identity.Address]member.Minute // when a witness was last asked to be one
	goals     map[wire.ID]uint64                 // entry up to which a claim that has begun goes
	pulls     map[wire.ID][2]int64               // bytes pulled and to pull
	progress  map[wire.ID]member.Time
	raised    map[wire.ID]bool // the bank was asked for more than a lease begins with
	awaiting  map[uint64]func(*step.Context, step.Response)
	retry     map[wire.ID]member.Time // of settlements and reservations
	abandoned map[identity.Address]abandon
	lastOffer member.Time
	stale     bool // the offer has changed since it was published
	ticked    member.Minute
	touched   map[wire.ID]bool // leases that this step has changed, or of which it has news
	next      member.Time      // when something is due of some lease; 0: all are to be looked at
	holdsNext member.Time      // and of some hold
}

// A sighting is when the engine last said that a container runs.
type sighting struct {
	run identity.Hash
	at  member.Time
}

type abandon struct {
	count int
	until member.Time
}

// New is a host that has nothing yet.
func New(w World) *Host {
	return &Host{
		world: w,
		sale:  step.NewCell[sale]("sale"), alloc: step.NewCell[market.Table]("gpus"),
		log: step.NewCell[chainEnd]("lease-log"), beat: step.NewCell[chainEnd]("beat"),
		holds: step.ByID[hold](table.HostHold), leases: step.ByID[lease](table.HostLease),
		specs: step.ByID[market.Spec](table.HostSpec), grants: step.ByID[grant](table.HostMandate), receipts: newReceipts(),
		enlisted: map[identity.Address]member.Minute{}, goals: map[wire.ID]uint64{},
		blames: step.NewCell[[]blame]("blames"), off: step.NewCell[market.Answered]("engine-off"), away: step.NewCell[market.Answered]("node-off"),
		past:   step.NewCell[member.Time]("host-past"),
		engine: true, unseen: map[wire.ID]bool{}, sighted: map[wire.ID]sighting{}, attended: map[wire.ID]member.Time{}, pulls: map[wire.ID][2]int64{},
		progress: map[wire.ID]member.Time{}, raised: map[wire.ID]bool{},
		awaiting: map[uint64]func(*step.Context, step.Response){}, retry: map[wire.ID]member.Time{},
		abandoned: map[identity.Address]abandon{}, touched: map[wire.ID]bool{},
	}
}

// Keepers is the durable state.
func (h *Host) Keepers() []step.Keeper {
	return []step.Keeper{h.sale, h.alloc, h.log, h.beat, h.holds, h.leases, h.grants, h.receipts, h.specs, h.blames, h.off, h.away, h.past}
}

// Boot tells the engine what it should be running, and waits for its word before it closes any minute.
func (h *Host) Boot(ctx *step.Context) {
	h.bootAt, h.booted, h.ticked = ctx.Now, ctx.Minute(), ctx.Minute()-1
	h.downSince = h.booted
	if b := h.beat.Get(); b.Seq > 0 && b.Minute < h.booted {
		h.downSince = b.Minute
		for m := max(b.Minute, h.booted-min(h.booted, 63)); m <= h.booted; m++ {
			h.away.Put(h.away.Get().With(m))
		}
	}
	ctx.Out.AllPods, h.next = true, 0
	for _, id := range h.leases.Keys() {
		l := h.leases.Get(id)
		if l.State == market.StateEnded && l.Wiped {
			continue
		}
		h.want(ctx, id, l)
		if l.State.Up() {
			h.unseen[id] = true
			if l.Blind == 0 {
				l.Blind = h.downSince
				h.touch(id)
			}
		}
	}
}

// Inventory takes the hardware as found now.
func (h *Host) Inventory(ctx *step.Context, in step.Inventory) {
	h.machine, h.devices, h.known = in.Machine, in.Devices, true
	for _, text := range []*string{&h.machine.CPU, &h.machine.OS, &h.machine.Runtime, &h.machine.Engine, &h.machine.Driver, &h.machine.CUDA} {
		*text = clip(*text, 96)
	}
	if unfit := clip(in.Unfit, unfitMost); unfit != h.unfit {
		h.unfit, h.stale = unfit, true
		if unfit != "" {
			ctx.Notify("host.unfit", wire.ID{}, "this machine takes no new leases: "+unfit)
		}
	}
	h.measure()
	h.restock(ctx)
	h.ail(ctx)
}

// unfitMost is how much is told of what a machine lacks, bytes.
const unfitMost = 1000

// mostGPUs is how many GPUs one log entry can name.
const mostGPUs = 64

// restock puts the devices that are for sale into the table, and says so in the log when that changes anything. A node
// that is no host yet has no log.
func (h *Host) restock(ctx *step.Context) {
	c, _, ok := h.world.Credential(ctx.Self)
	if !h.known || !ok || !c.Roles.Has(member.RoleHost) {
		return
	}
	most := mostGPUs
	if c.MaxGPUs > 0 {
		most = int(min(mostGPUs, c.MaxGPUs))
	}
	var on []member.Device
	for _, d := range h.devices {
		listed := len(h.sale.Get().GPUs) == 0 || slices.Contains(h.sale.Get().GPUs, d.UUID)
		named := d.UUID != "" && len(d.UUID) <= 64 && d.Model != "" && len(d.Model) <= 64
		known := slices.ContainsFunc(on, func(o member.Device) bool { return o.UUID == d.UUID })
		if listed && named && !known && len(on) < most && (!d.Simulated || ctx.Charter.Testnet) {
			on = append(on, d)
		}
	}
	if h.stocked(on) {
		return
	}
	for _, stock := range h.alloc.Get().Inventory(on) {
		h.write(ctx, market.LogEntry{Entry: market.EntryInventory, Model: stock.Model, GPUs: stock.GPUs})
	}
	h.alloc.Touch()
	h.stale = true
	h.takeReady(ctx)
}

// stocked reports whether the table has just these devices.
func (h *Host) stocked(on []member.Device) bool {
	n := 0
	for _, s := range h.alloc.Get().Slots {
		if s.Usable {
			n++
		}
		if s.Usable && !slices.Contains(on, s.Device) {
			return false
		}
	}
	return n == len(on)
}

// ail notes which leases have a GPU that the machine does not find any more. Such a minute is free.
func (h *Host) ail(ctx *step.Context) {
	if !h.known {
		return
	}
	for _, id := range h.leases.Keys() {
		l := h.leases.Get(id)
		if !l.State.Owns() {
			continue
		}
		for _, g := range l.GPUs {
			if slices.ContainsFunc(h.devices, func(d member.Device) bool { return d.UUID == g.UUID }) {
				continue
			}
			if !l.Sick.Has(ctx.Minute() - 1) {
				ctx.Notify("lease.gpu", id, "lease "+id.Short()+": GPU "+g.UUID+" is gone; its minutes are not billed")
			}
			l.Sick = l.Sick.With(ctx.Minute())
			h.touch(id)
			break
		}
	}
}

// Engine notes whether the container engine answers. While it does not, no minute is billed and nothing new is sold.
func (h *Host) Engine(ctx *step.Context, e step.Engine) {
	h.next = 0
	if e.Up != h.engine {
		h.engine, h.stale = e.Up, true
		if !e.Up {
			ctx.Notify("engine.down", wire.ID{}, "the container engine does not answer; running pods are not billed and no new ones are taken")
		}
	}
	if !e.Up {
		h.off.Put(h.off.Get().With(ctx.Minute()))
	}
}

// write adds an entry to the lease log.
func (h *Host) write(ctx *step.Context, e market.LogEntry) identity.Hash {
	end := h.log.Get()
	e.Host, e.Seq, e.Prev, e.At, e.Minute, e.Policy = ctx.Self, end.Seq+1, end.Head, ctx.Now, ctx.Minute(), ctx.Policy.Number
	obj := wire.Draft(e)
	ref := obj.Ref(ctx.Market)
	ctx.Guard([]byte("lease-log"), e.Seq, obj)
	ctx.Put(table.Key(table.LeaseLog, ctx.Self[:], table.Uint64(e.Seq)), obj)
	h.log.Put(chainEnd{Seq: e.Seq, Head: ref, Minute: e.Minute})
	if e.Entry == market.EntryTake {
		h.filled(e)
	}
	return ref
}

// touch notes that a lease has changed.
func (h *Host) touch(id wire.ID) {
	h.leases.Touch(id)
	h.touched[id] = true
}

// later puts off what a lease wants of its bank.
func (h *Host) later(id wire.ID, t member.Time) {
	h.retry[id] = t
	h.touched[id] = true
}

// promptly takes it up again.
func (h *Host) promptly(id wire.ID) {
	delete(h.retry, id)
	h.touched[id] = true
}

// Tick does what is due, and says when something is due next.
func (h *Host) Tick(ctx *step.Context) member.Time {
	m := ctx.Minute()
	if m > h.ticked {
		for n := max(h.ticked+1, m-min(m, 64)); n <= m && !h.engine; n++ {
			h.off.Put(h.off.Get().With(n))
		}
		h.ticked, h.next = m, 0
		h.newMinute(ctx)
	}
	wake := ctx.Clock.Tick(m + 1)
	soon := func(t member.Time) {
		if t > ctx.Now && t < wake {
			wake = t
		}
	}
	h.expireHolds(ctx, soon)
	h.attendAll(ctx, wake)
	soon(h.next)
	h.publish(ctx, soon)
	return wake
}

// attendAll does what leases are due: those that this step has touched, and all when something is due of one of them.
// Nothing else changes what a lease is due.
func (h *Host) attendAll(ctx *step.Context, end member.Time) {
	ids := h.leases.Keys()
	if ctx.Now < h.next {
		ids = slices.SortedFunc(maps.Keys(h.touched), func(a, b wire.ID) int { return bytes.Compare(a[:], b[:]) })
	} else {
		h.next = end
	}
	clear(h.touched)
	soon := func(t member.Time) {
		if t > ctx.Now && t < h.next {
			h.next = t
		}
	}
	for _, id := range ids {
		if l := h.leases.Get(id); !l.Done || !l.Wiped {
			h.attend(ctx, id, l, soon)
		}
	}
}

// newMinute signs the beat, and applies every lease's limits. The limits are those of a host in any standing: leases run
// on where its credential has ended.
func (h *Host) newMinute(ctx *step.Context) {
	if h.world.Is(ctx.Self, member.RoleHost, ctx.Now) {
		h.signBeat(ctx)
	}
	h.restock(ctx)
	h.ail(ctx)
	h.enlist(ctx)
	h.forget(ctx)
	for _, id := range h.leases.Keys() {
		l := h.leases.Get(id)
		if l.State == market.StateEnded {
			continue
		}
		if s, out := h.world.Sanctioned(l.Terms.Consumer); out && s.Sanction == member.Revoke && s.Fraud {
			h.end(ctx, id, l, market.ReasonFraud)
		}
		if l.State == market.StateRunning || l.State == market.StateStopping {
			ctx.Out.Looks = append(ctx.Out.Looks, id) // no minute is billed before the engine was asked after it
		}
		h.closeMinutes(ctx, id, l, false) // what is not billed uses up no limit
		h.limit(ctx, id, l)
	}
}

func (h *Host) signBeat(ctx *step.Context) {
	b := h.beat.Get()
	if b.Minute >= ctx.Minute() && b.Seq > 0 {
		return
	}
	beat := reliability.Beat{
		Host: ctx.Self, Minute: ctx.Minute(), Seq: b.Seq + 1, Boot: ctx.Boot.ID, Free: h.free(), LogSeq: h.log.Get().Seq,
		LogHead: h.log.Get().Head, Meters: h.meters(), Policy: ctx.Policy.Number, Version: clip(ctx.Boot.Version, 32), Prev: b.Head,
	}
	obj := wire.Draft(beat)
	ctx.Guard([]byte("beat"), beat.Seq, obj)
	h.beat.Put(chainEnd{Seq: beat.Seq, Head: obj.Ref(ctx.Market), Minute: beat.Minute})
	h.world.Enact(ctx, beat)
}

// meters is the root over the usage heads of all open leases, which stamps them in time.
func (h *Host) meters() identity.Hash {
	var b []byte
	for _, id := range h.leases.Keys() {
		if l := h.leases.Get(id); !l.Done {
			b = append(append(b, id[:]...), l.Place.Head[:]...)
		}
	}
	if len(b) == 0 {
		return identity.Hash{}
	}
	return identity.Keccak(b)
}

func (h *Host) free() uint16 {
	var n uint16
	for _, model := range h.alloc.Get().Models() {
		n += h.alloc.Get().Counts(model).Free
	}
	return n
}

// Response takes the answer to one of the host's own questions.
func (h *Host) Response(ctx *step.Context, r step.Response) bool {
	f, ok := h.awaiting[r.ID]
	if ok {
		delete(h.awaiting, r.ID)
		f(ctx, r)
	}
	return ok
}
