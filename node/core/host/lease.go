package host

import (
	"strings"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// lease is everything that the host keeps of one lease.
type lease struct {
	Terms       market.Terms       `cbor:"1,keyasint"`
	Signed      wire.Object        `cbor:"2,keyasint"` // the terms with the consumer's signature
	Ref         identity.Hash      `cbor:"3,keyasint"` // of the terms
	Cert        wire.Object        `cbor:"5,keyasint"`
	Reservation ledger.Reservation `cbor:"6,keyasint"`
	State       market.State       `cbor:"7,keyasint"`
	Reason      market.Reason      `cbor:"8,keyasint"`
	Desire      market.Desire      `cbor:"9,keyasint"`
	Detail      string             `cbor:"10,keyasint"` // why it failed, for people
	Start       uint32             `cbor:"11,keyasint"` // number of the latest start
	Ordered     bool               `cbor:"12,keyasint"` // the consumer ordered that start
	Zero        bool               `cbor:"13,keyasint"` // it runs without GPUs
	Counted     bool               `cbor:"14,keyasint"` // that start has had a running minute, or its minimum
	Run         run                `cbor:"15,keyasint"`
	StopAt      member.Time        `cbor:"16,keyasint"` // of SIGTERM; 0: none sent
	TermAt      member.Time        `cbor:"17,keyasint"` // SIGTERM is due then, after a paid notice
	StopFor     market.Reason      `cbor:"18,keyasint"`
	Place       ledger.Place       `cbor:"19,keyasint"`
	Entry       wire.Object        `cbor:"20,keyasint"` // last usage entry that changed what is owed
	EntrySeq    uint64             `cbor:"21,keyasint"`
	EntryOwed   ledger.Amount      `cbor:"22,keyasint"`
	Due         member.Time        `cbor:"23,keyasint"` // when a voucher for Entry must have come; 0: nothing is due
	Voucher     wire.Object        `cbor:"24,keyasint"`
	Vouched     ledger.Amount      `cbor:"25,keyasint"`
	VouchedSeq  uint64             `cbor:"26,keyasint"`
	Paid        wire.Object        `cbor:"27,keyasint"` // entry that Voucher names
	Settled     ledger.Amount      `cbor:"28,keyasint"`
	SettleAt    member.Time        `cbor:"29,keyasint"` // next settlement
	Receipt     wire.Object        `cbor:"30,keyasint"`
	Command     uint64             `cbor:"31,keyasint"` // highest carried out
	Map         market.Answered    `cbor:"32,keyasint"` // the consumer's, as last heard
	Quiet       market.Answered    `cbor:"33,keyasint"` // minutes in which an answer said that it is not running
	Ran         uint64             `cbor:"34,keyasint"` // running minutes counted
	Notice      wire.Object        `cbor:"35,keyasint"` // last notice of displacement
	Said        member.Minute      `cbor:"36,keyasint"` // first minute in which a reply said this start runs; 0: none
	Closing     bool               `cbor:"37,keyasint"` // the final entry is signed
	Wiped       bool               `cbor:"38,keyasint"` // the engine has removed container and volume
	Done        bool               `cbor:"39,keyasint"` // settled and released
	At          member.Time        `cbor:"40,keyasint"` // of the certificate
	Since       member.Time        `cbor:"41,keyasint"` // of the state
	GPUs        []member.Device    `cbor:"42,keyasint"` // of the last run: minutes of it may be closed after they were given back
	Unlocked    member.Time        `cbor:"43,keyasint"` // volume is removed then, when the lease ended by itself; 0: at once
	Lowered     bool               `cbor:"44,keyasint"` // the reservation fits the lease as it is
	Prior       billed             `cbor:"45,keyasint"` // the billed entry before Entry: its voucher may still be on its way
	Had         bool               `cbor:"46,keyasint"` // a container of the lease has been up: there is data
	Sick        market.Answered    `cbor:"47,keyasint"` // minutes in which one of its GPUs was missing
	Lapse       lapse              `cbor:"48,keyasint"`
	Weighed     bool               `cbor:"49,keyasint"` // that start was held against the consumer, or is excused
	Evicts      bool               `cbor:"50,keyasint"` // somebody had to go for that start
	Asked       member.Minute      `cbor:"51,keyasint"` // first minute of those in which the bank was asked for more and did not answer
	Told        member.Minute      `cbor:"52,keyasint"` // in which the bank last said what it sets aside for that start
	Starts      uint8              `cbor:"53,keyasint"` // ordered in minute StartsIn
	StartsIn    member.Minute      `cbor:"54,keyasint"`
	Blind       member.Minute      `cbor:"55,keyasint"` // from which on no run of this host has seen the pod; 0: it is in sight
	Noticed     uint64             `cbor:"56,keyasint"` // the last funds notice that it was told of
	Broke       member.Minute      `cbor:"57,keyasint"` // in which it was: at the next tick it stops; 0: nothing to do
	Cause       identity.Hash      `cbor:"58,keyasint"` // ref of the Forfeit that ended it
	Record      wire.Object        `cbor:"59,keyasint"` // of the removal of its volume
	EndFor      market.Reason      `cbor:"62,keyasint"` // why it is to end once its pod is down
	Lost        bool               `cbor:"60,keyasint"` // this node may not know all that it signed for it, and signs nothing more
	Promise     wire.Object        `cbor:"71,keyasint"` // the reservation as the bank has signed it
	Mute        bool               `cbor:"61,keyasint"` // nor a last word: its consumer did not tell what it holds
	EntryLast   member.Minute      `cbor:"70,keyasint"` // last minute of Entry
	Disputed    bool               `cbor:"80,keyasint"` // the bank does not believe what it claims, and it has ended
	VouchedAt   member.Minute      `cbor:"63,keyasint"` // last minute of the entry that Voucher names; 0: there is none
	Revoked     member.Minute      `cbor:"64,keyasint"` // last minute that its mandate pays; 0: it was not revoked
	Dim         []member.Minute    `cbor:"65,keyasint"` // unobserved minutes of the last day
	RestSeq     uint64             `cbor:"66,keyasint"` // last entry that rests on receipts
	Claimed     uint64             `cbor:"67,keyasint"` // last entry that the bank has followed without a voucher
	ClaimedTo   member.Minute      `cbor:"68,keyasint"` // first minute after it
	Proven      ledger.Amount      `cbor:"69,keyasint"` // what it then took for proven
}

// billed is a usage entry that changed what is owed.
type billed struct {
	Entry wire.Object   `cbor:"1,keyasint"`
	Seq   uint64        `cbor:"2,keyasint"`
	Owed  ledger.Amount `cbor:"3,keyasint"`
	Last  member.Minute `cbor:"4,keyasint"`
}

// lapse is the minimum of a start that ended in the very minute in which the next one was ordered.
type lapse struct {
	Minute member.Minute `cbor:"1,keyasint"`
	Start  identity.Hash `cbor:"2,keyasint"`
	Said   member.Minute `cbor:"3,keyasint"`
}

// run is one start of a container, as inspect tells it.
type run struct {
	ID       identity.Hash `cbor:"1,keyasint"`
	Started  member.Time   `cbor:"2,keyasint"`
	Finished member.Time   `cbor:"3,keyasint"` // 0: alive when last seen
	ExitCode int32         `cbor:"4,keyasint"`
}

// full reports whether one container start lived from t to u.
func (r run) full(t, u member.Time) bool {
	return r.Started != 0 && r.Started <= t && (r.Finished == 0 || r.Finished >= u)
}

// within reports whether the container lived at any moment from t to u.
func (r run) within(t, u member.Time) bool {
	return r.Started != 0 && r.Started < u && (r.Finished == 0 || r.Finished > t)
}

// rate is what a minute costs per hour while the pod is up.
func (l *lease) rate() ledger.Rate {
	s := ledger.StatusRunning
	if l.Zero {
		s = ledger.StatusZero
	}
	r, err := l.Terms.Tariff.Rate(s)
	if err != nil {
		panic("host: a lease was signed with rates that overflow")
	}
	return r
}

// set moves a lease to a state, and says so in the log and to the user.
func (h *Host) set(ctx *step.Context, id wire.ID, l *lease, to market.State, why market.Reason) {
	if l.State == to {
		return
	}
	if err := l.State.Next(to); err != nil {
		panic("host: " + err.Error())
	}
	l.State, l.Reason, l.Since = to, why, ctx.Now
	h.touch(id)
	h.write(ctx, market.LogEntry{Entry: market.EntryState, Lease: id, State: to, Reason: why})
	text := "lease " + id.Short() + " is " + to.String()
	if why != market.ReasonNone {
		text += " (" + why.String() + ")"
	}
	if l.Detail != "" && to == market.StateFailed {
		text += ": " + l.Detail
	}
	ctx.Notify("lease."+to.String(), id, text)
	h.stale = true
}

// want tells the engine what to make of a lease's pod.
func (h *Host) want(ctx *step.Context, id wire.ID, l *lease) {
	var s market.Spec
	if p := h.specs.Get(id); p != nil { // of a lease that is settled it is gone
		s = *p
	}
	w := step.PodWant{
		Lease: id, Start: l.Start, Grace: member.Time(l.Terms.Grace) * member.Second, Image: s.Image, Command: s.Command,
		Env: s.Env, Disk: s.Disk, Volume: s.Volume, Mount: s.Mount, GPUs: l.GPUs, Isolation: l.Terms.Isolation,
	}
	if l.StopFor == market.ReasonUnpaid || l.StopFor == market.ReasonRefused {
		w.Grace = shortGrace
	}
	switch {
	case l.State == market.StateEnded && ctx.Now >= l.Unlocked:
		w.Phase = step.PodRemove
	case l.State == market.StateSetup || l.State == market.StateRunning:
		w.Phase = step.PodRun
	default:
		w.Phase = step.PodStop
	}
	ctx.Out.Pods = append(ctx.Out.Pods, w)
}

// shortGrace is what a pod gets that nobody pays for, whatever its terms promise when it is displaced.
const shortGrace = 5 * member.Second

// begin starts the pod of a lease that possesses its GPUs.
func (h *Host) begin(ctx *step.Context, id wire.ID, l *lease, ordered bool, why market.Reason) {
	l.Start++
	l.Ordered, l.Counted, l.Run, l.StopAt, l.TermAt, l.StopFor, l.Said = ordered, false, run{}, 0, 0, 0, 0
	l.Detail, l.Notice, l.Broke = "", wire.Object{}, 0
	l.Desire = market.DesireRun
	delete(h.pulls, id)
	h.set(ctx, id, l, market.StateSetup, why)
	h.touch(id)
	h.want(ctx, id, l)
}

// takeReady gives GPUs that have become free to the leases that wait for them, and starts these.
func (h *Host) takeReady(ctx *step.Context) {
	for _, id := range h.alloc.Get().Waiting() {
		l := h.leases.Get(id)
		if l == nil || l.State != market.StateCertified || !h.alloc.Get().Ready(id) {
			continue
		}
		if err := h.alloc.Get().Take(id, ctx.Now); err != nil {
			continue
		}
		h.alloc.Touch()
		t, _ := h.alloc.Get().Tenant(id)
		l.GPUs = h.devicesOf(t.GPUs)
		h.write(ctx, market.LogEntry{Entry: market.EntryTake, Lease: id, Type: l.Terms.Type, Rate: l.Terms.Rate, GPUs: t.GPUs})
		h.begin(ctx, id, l, l.Ordered, market.ReasonNone)
	}
}

func (h *Host) devicesOf(uuids []string) []member.Device {
	out := make([]member.Device, 0, len(uuids))
	for _, u := range uuids {
		for _, s := range h.alloc.Get().Slots {
			if s.Device.UUID == u {
				out = append(out, s.Device)
			}
		}
	}
	return out
}

// release gives a lease's GPUs, or its right to them, back.
func (h *Host) release(ctx *step.Context, id wire.ID, l *lease) {
	if gpus := h.alloc.Get().Free(id); len(gpus) > 0 {
		h.write(ctx, market.LogEntry{Entry: market.EntryFree, Lease: id, GPUs: gpus})
	} else if !h.alloc.Get().Drop(id) {
		return
	}
	h.touch(id)
	h.alloc.Touch()
	h.stale = true
	h.takeReady(ctx)
}

// stop sends SIGTERM to a pod that is up, or gives up one that waits for its GPUs. It does nothing to others.
func (h *Host) stop(ctx *step.Context, id wire.ID, l *lease, why market.Reason) {
	switch {
	case l.State == market.StateCertified:
		l.StopFor = why
		h.touch(id)
		h.set(ctx, id, l, market.StateStopped, why)
		h.release(ctx, id, l)
		h.stopped(ctx, id, l)
	case l.State == market.StateSetup, l.State == market.StateRunning:
		l.StopAt, l.TermAt, l.StopFor = ctx.Now, 0, why
		h.set(ctx, id, l, market.StateStopping, why)
		h.want(ctx, id, l)
	}
}

// Pod takes what became of a pod.
func (h *Host) Pod(ctx *step.Context, e step.PodEvent) {
	l := h.leases.Get(e.Lease)
	if l == nil {
		return
	}
	h.touched[e.Lease] = true
	first := h.unseen[e.Lease]
	if e.Start < l.Start && first {
		e = step.PodEvent{Lease: e.Lease, Start: l.Start, What: step.PodAbsent, At: e.At} // only an older run is left
	}
	switch {
	case e.What == step.PodRemoved:
		if l.Wiped = l.State == market.StateEnded; l.Wiped {
			h.record(ctx, e.Lease, l)
		}
		h.touch(e.Lease)
		return
	case e.Start != l.Start && e.What != step.PodAbsent, !l.State.Up():
		return
	case e.What == step.PodPulling:
		h.pulls[e.Lease] = [2]int64{e.Done, e.Total}
		h.progress[e.Lease] = ctx.Now
		return
	}
	delete(h.unseen, e.Lease)
	h.touch(e.Lease)
	switch e.What {
	case step.PodStarted:
		h.started(ctx, e.Lease, l, e)
	case step.PodExited:
		h.ended(ctx, e.Lease, l, e, first)
	case step.PodFailed:
		h.failed(ctx, e.Lease, l, e)
	case step.PodAbsent:
		h.absent(ctx, e.Lease, l)
	}
	l.Blind = 0
	h.closeMinutes(ctx, e.Lease, l, false)
	if first {
		h.limit(ctx, e.Lease, l) // the tick did not know yet whether it runs
	}
}

// started is a container that runs. One that somebody else started anew under us is another run, and no minute of the one
// before counts any more.
func (h *Host) started(ctx *step.Context, id wire.ID, l *lease, e step.PodEvent) {
	l.Had = true
	h.sighted[id] = sighting{e.ID, e.At}
	if l.Run.ID != e.ID {
		if !l.Run.ID.IsZero() {
			l.Ordered, l.Said = false, 0
		}
		l.Run = run{ID: e.ID, Started: e.Started}
	}
	if l.State == market.StateSetup {
		h.set(ctx, id, l, market.StateRunning, l.Reason)
	}
}

// What an engine says of a container whose end it did not see, because the machine lost its power, and of a command that
// could not be run.
const (
	exitLost     = 255
	exitNoRun    = 126
	exitNotFound = 127
	exitSoon     = 10 * member.Second
)

// ended is a container that has ended, as the engine tells now, or told first after a restart of this node.
func (h *Host) ended(ctx *step.Context, id wire.ID, l *lease, e step.PodEvent, first bool) {
	if !l.Run.ID.IsZero() && l.Run.ID != e.ID {
		return // of a run that another has followed
	}
	noRun := (e.ExitCode == exitNoRun || e.ExitCode == exitNotFound) && e.Finished <= e.Started+exitSoon
	switch {
	case l.State != market.StateStopping && noRun:
		e.Fault = step.FaultCommand
		h.failed(ctx, id, l, e)
		return
	case l.State == market.StateRunning && first && e.ExitCode == exitLost:
		h.again(ctx, id, l)
		return
	}
	l.Had = true
	l.Run = run{ID: e.ID, Started: e.Started, Finished: max(e.Finished, e.Started), ExitCode: e.ExitCode}
	h.exited(ctx, id, l)
}

// exited is a container's end: by our signal or by itself.
func (h *Host) exited(ctx *step.Context, id wire.ID, l *lease) {
	if !l.State.Up() {
		return
	}
	switch {
	case l.State != market.StateStopping:
		if l.State == market.StateSetup {
			h.set(ctx, id, l, market.StateRunning, market.ReasonNone)
		}
		l.Desire, l.StopFor = market.DesireStop, market.ReasonExit
		h.set(ctx, id, l, market.StateExited, market.ReasonExit)
	case l.StopFor == market.ReasonOutbid:
		h.set(ctx, id, l, market.StateOutbid, market.ReasonOutbid)
	default:
		h.set(ctx, id, l, market.StateStopped, l.StopFor)
	}
	h.release(ctx, id, l)
	h.want(ctx, id, l)
	h.stopped(ctx, id, l)
}

// stopped is what follows when a pod is down: its limits may end the lease, and money that it no longer needs goes back.
func (h *Host) stopped(ctx *step.Context, id wire.ID, l *lease) {
	limited := l.StopFor == market.ReasonBudget || l.StopFor == market.ReasonDuration
	switch {
	case l.Desire == market.DesireEnd:
		h.end(ctx, id, l, l.EndFor)
		return
	case limited && l.Terms.OnEnd == market.OnEndRemove:
		h.end(ctx, id, l, l.StopFor)
		return
	}
	l.Desire = market.DesireStop
	h.lower(ctx, id, l)
}

// failed is a start that came to nothing. The first one of a lease ends it: it cost nothing and leaves nothing.
func (h *Host) failed(ctx *step.Context, id wire.ID, l *lease, e step.PodEvent) {
	if !l.State.Up() {
		return
	}
	why := map[step.PodFault]market.Reason{step.FaultImage: market.ReasonImage, step.FaultCommand: market.ReasonCommand}[e.Fault]
	if why == market.ReasonNone {
		why = market.ReasonEngine
	}
	l.Detail, l.StopFor, l.Run = clip(e.Detail, 400), why, run{}
	h.set(ctx, id, l, market.StateFailed, why)
	h.release(ctx, id, l)
	h.want(ctx, id, l)
	l.Had = l.Had && l.Start > 1
	if l.Start == 1 || l.Desire == market.DesireEnd {
		h.end(ctx, id, l, why)
		return
	}
	l.Desire = market.DesireStop
	h.lower(ctx, id, l)
}

// absent is a pod that the engine does not have although the lease says that it is up: after a power cut it is started
// again with the same command, a fresh container disk and its old volume.
func (h *Host) absent(ctx *step.Context, id wire.ID, l *lease) {
	switch {
	case l.State == market.StateStopping:
		h.lose(ctx, l)
		h.exited(ctx, id, l)
	case l.State == market.StateRunning:
		h.again(ctx, id, l)
	case l.State == market.StateSetup:
		h.want(ctx, id, l)
	}
}

// again starts a pod afresh that was lost with its machine.
func (h *Host) again(ctx *step.Context, id wire.ID, l *lease) {
	h.lostMinutes(ctx, id, l)
	h.set(ctx, id, l, market.StateSetup, market.ReasonPower)
	l.Start++
	l.Ordered, l.Counted, l.Run, l.Said = false, false, run{}, 0
	h.touch(id)
	h.want(ctx, id, l)
}

// end finishes a lease: nothing but its final entry and its settlement follow. Data goes at once when the consumer wants
// it so, or when there is none; after any other end it is kept for a while.
func (h *Host) end(ctx *step.Context, id wire.ID, l *lease, why market.Reason) {
	if l.Desire != market.DesireEnd || why == market.ReasonConsumer {
		l.EndFor = why // that data goes at once, a later rm may still say
	}
	l.Desire = market.DesireEnd
	h.touch(id)
	switch {
	case l.State == market.StateSetup || l.State == market.StateRunning:
		h.stop(ctx, id, l, why)
		return
	case l.State == market.StateStopping:
		return
	case l.State == market.StateEnded && why == market.ReasonConsumer && l.Unlocked > ctx.Now:
		l.Unlocked = 0
		h.want(ctx, id, l)
		return
	case l.State == market.StateEnded:
		return
	}
	h.release(ctx, id, l)
	h.set(ctx, id, l, market.StateEnded, why)
	h.write(ctx, market.LogEntry{Entry: market.EntryEnd, Lease: id, Reason: why})
	if why != market.ReasonConsumer && why != market.ReasonForfeit && l.Had && l.Terms.Volume > 0 {
		l.Unlocked = ctx.Now + member.Time(l.Terms.Hold)*ctx.Clock.Slot
	}
	delete(h.pulls, id)
	delete(h.progress, id)
	delete(h.sighted, id)
	delete(h.raised, id)
	h.want(ctx, id, l)
}

// clip is a text of at most n bytes that every peer can read.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
