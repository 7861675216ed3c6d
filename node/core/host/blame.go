package host

import (
	"bytes"
	"slices"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A blame is how often in a row a consumer has had GPUs here and paid for nothing. Only a paid minute clears it.
type blame struct {
	Consumer identity.Address `cbor:"1,keyasint"`
	Count    uint8            `cbor:"2,keyasint"`
	Until    member.Time      `cbor:"3,keyasint"` // it gets nothing new before
}

// What is remembered of consumers that use a host for nothing.
const (
	blamesMost = 1024 // the one whose pause is over first makes room
	blameMost  = 32
	freeVain   = 3 // starts that come to nothing before one has to wait: whoever tries an image out does no wrong
)

// blamed is what stands against a consumer.
func (h *Host) blamed(who identity.Address) blame {
	if i, ok := h.blameAt(who); ok {
		return (*h.blames.Get())[i]
	}
	return blame{Consumer: who}
}

func (h *Host) blameAt(who identity.Address) (int, bool) {
	return slices.BinarySearchFunc(*h.blames.Get(), who, func(b blame, a identity.Address) int {
		return bytes.Compare(b.Consumer[:], a[:])
	})
}

// blame counts a use of GPUs that nobody paid for. Beyond those that are free the consumer waits, each time twice as
// long, up to an hour.
func (h *Host) blame(ctx *step.Context, who identity.Address, free uint8) {
	all := h.blames.Get()
	i, ok := h.blameAt(who)
	if !ok && len(*all) >= blamesMost {
		first := slices.MinFunc(*all, func(a, b blame) int { return int(a.Until - b.Until) })
		j, _ := h.blameAt(first.Consumer)
		*all = slices.Delete(*all, j, j+1)
		i, _ = h.blameAt(who)
	}
	if !ok {
		*all = slices.Insert(*all, i, blame{Consumer: who})
	}
	b := &(*all)[i]
	b.Count = min(b.Count+1, blameMost)
	if b.Count > free {
		b.Until = ctx.Now + pause(ctx, int(b.Count-free))
	}
	h.blames.Touch()
}

// pause is how long one waits after so many misuses.
func pause(ctx *step.Context, n int) member.Time {
	return min(member.Hour, member.Time(ctx.Policy.Cooldown)*member.Second<<min(n-1, 16))
}

// absolve forgets what stands against a consumer.
func (h *Host) absolve(who identity.Address) {
	if i, ok := h.blameAt(who); ok {
		all := h.blames.Get()
		*all = slices.Delete(*all, i, i+1)
		h.blames.Touch()
	}
}

// patient refuses a consumer that has to wait.
func (h *Host) patient(ctx *step.Context, who identity.Address) *step.Refusal {
	if b := h.blamed(who); ctx.Now < b.Until {
		return step.Refuse(step.RefuseCooldown, "%d of your starts here came to nothing or were not paid; ask again in %d s", b.Count,
			(b.Until-ctx.Now)/member.Second+1)
	}
	return nil
}

// unpaid stops a pod that nobody pays for, and holds it against its consumer, once for each start.
func (h *Host) unpaid(ctx *step.Context, id wire.ID, l *lease) {
	if !l.Weighed {
		l.Weighed = true
		h.touch(id)
		h.blame(ctx, l.Terms.Consumer, 0)
	}
	h.stop(ctx, id, l, market.ReasonUnpaid)
}

// weigh looks at a start that is over: if the consumer ordered it, nothing of it was billed and that was no failure of
// this host's, it is held against the consumer; at once if somebody had to go for it.
func (h *Host) weigh(ctx *step.Context, id wire.ID, l *lease) {
	if l.Weighed || !l.Ordered || l.Counted || l.State.Owns() || h.pending(ctx, l) > 0 || h.minimumOpen(ctx, l) {
		return
	}
	h.held(ctx, id, l)
}

// held holds a start without a billed minute against its consumer.
func (h *Host) held(ctx *step.Context, id wire.ID, l *lease) {
	l.Weighed = true
	h.touch(id)
	why := l.StopFor
	if why == market.ReasonNone {
		why = l.Reason
	}
	switch why {
	case market.ReasonConsumer, market.ReasonExit, market.ReasonBudget, market.ReasonDuration, market.ReasonFunds:
		free := uint8(freeVain)
		if l.Evicts {
			free = 0
		}
		h.blame(ctx, l.Terms.Consumer, free)
	case market.ReasonImage, market.ReasonCommand:
		if l.Evicts {
			h.blame(ctx, l.Terms.Consumer, 0)
		}
	}
}

// minimumOpen reports whether the minute that may turn out to be the start's minimum is not closed yet.
func (h *Host) minimumOpen(ctx *step.Context, l *lease) bool {
	end := l.Run.Finished
	if l.StopAt != 0 {
		end = l.StopAt
	}
	m := ctx.Clock.Minute(end)
	return l.Place.Next <= m && l.mayOweMinimum(ctx.Clock, m)
}

// ours reports whether a minute was not billed because of this host, which excuses the start that it is of.
func ours(s ledger.Status) bool {
	switch s {
	case ledger.StatusUnreachable, ledger.StatusEngine, ledger.StatusGPUFault, ledger.StatusHostFault:
		return true
	}
	return false
}
