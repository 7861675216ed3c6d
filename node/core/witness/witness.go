// Package witness is what a node does to bear witness for hosts of its market: it asks a host that wants it, once a minute, at
// a second that the host cannot foresee, and gives it a receipt at once for its answer. It is the host that numbers minutes: one whose
// minutes begin at another time than this node's is asked twice, so that each of them has a question in it.
//
// A host asks for witnesses where somebody may have to be paid on their word: a consumer's mandate names them, or a stopped
// pod's storage goes on while its consumer is away. Witnesses that are drawn for every host of a market are not built yet.
//
// Nothing of it is durable: a host that hears no witness asks it again. Receipts for one host and minute all say the same, so
// that a node which signs two has contradicted nothing.
package witness

import (
	"encoding/binary"
	"maps"
	"slices"

	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// World is what a witness asks of the rest of its node's core.
type World interface {
	Is(a identity.Address, r member.Role, now member.Time) bool
}

// How much a witness takes on.
const (
	mostHosts = 4096               // that are asked at once
	watchFor  = member.HourMinutes // minutes after a host has last asked for it
	retries   = 3                  // questions a minute of a host that does not answer
	hurry     = 2 * member.Second
)

// A Witness is the state of the role. The core's goroutine owns it.
type Witness struct {
	world    World
	withheld func(host identity.Address, now member.Minute) bool
	hosts    map[identity.Address]*watched
	minute   member.Minute
	awaiting map[uint64]func(*step.Context, step.Response)
	wake     member.Time
}

// watched is a host that wants to be asked.
type watched struct {
	until member.Minute
	next  member.Time // of the next question; 0: none more in this minute
	again member.Time // of a second one in this minute; 0: none
	tries int
	apart bool // its minutes do not begin with this node's
}

// New is a witness that nobody has asked. withheld names the hosts that get no receipt now.
func New(w World, withheld func(host identity.Address, now member.Minute) bool) *Witness {
	return &Witness{world: w, withheld: withheld, hosts: map[identity.Address]*watched{}, awaiting: map[uint64]func(*step.Context, step.Response){}}
}

// Request takes a host's wish. It reports false for what is not a witness's.
func (w *Witness) Request(ctx *step.Context, r step.Request) bool {
	if r.Proto != step.ProtoWitness || r.Op != step.OpWatch {
		return false
	}
	switch h := w.hosts[r.Peer]; {
	case !w.world.Is(ctx.Self, member.RoleHost, ctx.Now) && !w.world.Is(ctx.Self, member.RoleOperator, ctx.Now):
		ctx.Refuse(r.ID, step.Refuse(step.RefuseNotForYou, "this node bears no witness"))
	case r.Peer == ctx.Self || !w.world.Is(r.Peer, member.RoleHost, ctx.Now):
		ctx.Refuse(r.ID, step.Refuse(step.RefuseNotForYou, "you are no host in good standing"))
	case h == nil && len(w.hosts) >= mostHosts:
		ctx.Refuse(r.ID, step.Refuse(step.RefuseBusy, "this node bears witness for %d hosts, the most it can", mostHosts))
	default:
		if h == nil {
			h = &watched{}
			w.hosts[r.Peer] = h
			w.plan(ctx, r.Peer, h)
		}
		h.until = ctx.Minute() + watchFor
		ctx.Reply(r.ID, step.OpOK, nil)
	}
	return true
}

// plan draws the second of this minute at which a host is asked: after the first tenth of it, and early enough for the receipt
// to be there in time. One whose clock is another is asked in the first half of a minute and in the second: its own minutes
// begin somewhere between, and one question a minute may fall twice into one of them and never into the next.
func (w *Witness) plan(ctx *step.Context, host identity.Address, h *watched) {
	slot, tick := ctx.Clock.Slot, ctx.Clock.Tick(ctx.Minute())
	at := func(from, span member.Time) member.Time {
		return max(ctx.Now, tick+from+member.Time(w.draw(ctx, host, "second")%uint64(span)))
	}
	h.next, h.again, h.tries = 0, 0, 0
	if h.apart {
		h.next, h.again = at(slot/10, slot*3/10), at(slot*6/10, slot*3/10)
	} else {
		h.next = at(slot/10, slot*6/10)
	}
	w.soon(h.next)
}

// draw is a number that hosts cannot foresee.
func (w *Witness) draw(ctx *step.Context, host identity.Address, what string) uint64 {
	id := ctx.ID()
	sum := identity.Keccak([]byte("souk/witness/1"), ctx.Boot.Seed[:], host[:], id[:], []byte(what))
	return binary.BigEndian.Uint64(sum[:8])
}

func (w *Witness) soon(t member.Time) {
	if t > 0 && (w.wake == 0 || t < w.wake) {
		w.wake = t
	}
}

// Tick asks whom it is time to ask, and returns when it wants to be called next; 0: never.
func (w *Witness) Tick(ctx *step.Context) member.Time {
	m := ctx.Minute()
	if len(w.hosts) == 0 {
		w.minute, w.wake = m, 0
		return 0
	}
	if m == w.minute && ctx.Now < w.wake {
		return w.wake
	}
	w.wake = ctx.Clock.Tick(m + 1)
	for _, host := range slices.SortedFunc(maps.Keys(w.hosts), identity.Address.Compare) {
		h := w.hosts[host]
		switch {
		case m > h.until || !w.world.Is(host, member.RoleHost, ctx.Now):
			delete(w.hosts, host)
			continue
		case m != w.minute:
			w.plan(ctx, host, h)
		}
		switch {
		case h.again != 0 && ctx.Now >= h.again:
			h.again, h.tries = 0, 0
			w.ask(ctx, host, h)
		case h.next != 0 && ctx.Now >= h.next:
			w.ask(ctx, host, h)
		}
		w.soon(h.next)
		w.soon(h.again)
	}
	w.minute = m
	return w.wake
}

// ask asks a host whether it is there.
func (w *Witness) ask(ctx *step.Context, host identity.Address, h *watched) {
	nonce := w.draw(ctx, host, "nonce")
	h.next, h.tries = 0, h.tries+1
	id := ctx.Send(host, step.ProtoWitness, step.OpAsk, step.AskBody{Nonce: nonce})
	ctx.Out.Sends[len(ctx.Out.Sends)-1].Wait = max(ctx.Clock.Slot/6, hurry)
	w.awaiting[id] = func(ctx *step.Context, r step.Response) {
		v, ok := step.Find[reliability.Presence](r.Objects)
		if r.Err != nil && r.Err.Refusal != nil && r.Err.Refusal.Code == step.RefuseNotForYou {
			delete(w.hosts, host) // it asks again when it needs one
			return
		}
		if r.Err != nil || !ok {
			if h.tries < retries && ctx.Now < ctx.Clock.Due(ctx.Minute()) {
				h.next = ctx.Now + min(hurry, ctx.Clock.Slot/12)
				w.soon(h.next)
			}
			return
		}
		if p := v.Value(); p.Host == host && p.Witness == ctx.Self && p.Nonce == nonce && p.Minute+1 >= ctx.Minute() && p.Minute <= ctx.Minute()+1 {
			h.apart = h.apart || p.Minute != ctx.Minute()
			w.attest(ctx, v)
		}
	}
}

// attest gives a host the receipt for its answer.
func (w *Witness) attest(ctx *step.Context, v wire.Verified[reliability.Presence]) {
	p := v.Value()
	if w.withheld(p.Host, ctx.Minute()) {
		return
	}
	ctx.Send(p.Host, step.ProtoWitness, step.OpWitnessed, nil, wire.Draft(reliability.Receipt{
		Witness: ctx.Self, Host: p.Host, Minute: p.Minute, Answer: v.Ref(), LogSeq: p.LogSeq, LogHead: p.LogHead,
	}))
}

// Response takes the answer to one of this role's questions.
func (w *Witness) Response(ctx *step.Context, r step.Response) bool {
	f, ok := w.awaiting[r.ID]
	if ok {
		delete(w.awaiting, r.ID)
		f(ctx, r)
	}
	return ok
}
