package consumer

import (
	"fmt"

	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Wiped is the host's signed word that it has removed a lease's volume.
type Wiped struct {
	At      member.Time    `json:"at"`
	Reason  string         `json:"reason"` // why the lease ended
	Bytes   uint64         `json:"bytes"`
	Forfeit *identity.Hash `json:"forfeit,omitempty"` // ref of the bank's forfeit that it rests on
	Record  []byte         `json:"record"`            // the signed object, canonical CBOR
}

// recordWait is how much longer than the volume is kept a host is asked for its record.
const recordWait = 7 * member.Day

// tickRecord asks the host of a lease that is over whether its volume is removed, until it says so.
func (c *Consumer) tickRecord(ctx *step.Context, l *Lease, wake *alarm) {
	t := c.termsOf(l)
	if !l.own() || l.State != market.StateEnded || l.NoRecord || !l.Record.IsZero() || t.Volume == 0 || l.Starts == 0 {
		return
	}
	if ctx.Now >= l.Since+member.Time(t.Hold)*ctx.Clock.Slot+recordWait {
		l.NoRecord = true
		c.leases.Touch(l.ID)
		return
	}
	w := c.records[l.ID]
	if w == nil {
		w = &retry{}
		c.records[l.ID] = w
	}
	if !w.due(ctx.Now, wake) {
		return
	}
	w.busy = true
	lease := l.ID
	c.ask(ctx, toHost(l.Host, step.OpWiped, step.LeaseBody{Lease: lease}), func(ctx *step.Context, r step.Response) {
		w.failed(ctx.Now, hurry, member.Hour)
		if l := c.leases.Get(lease); l != nil {
			c.takeRecord(ctx, l, r)
		}
	})
}

// takeRecord keeps the host's record. What it says of a removal that this node ordered, or a bank, is held against what is
// known here.
func (c *Consumer) takeRecord(ctx *step.Context, l *Lease, r step.Response) {
	v, ok := step.Find[market.VolumeRecord](r.Objects)
	m := v.Value()
	switch {
	case r.Err != nil && no(r.Err) && r.Err.Refusal.Code == step.RefuseUnknown:
		l.NoRecord = true
		c.leases.Touch(l.ID)
		return
	case r.Err != nil || !ok || m.Host != l.Host || m.Lease != l.ID || m.Volume != c.termsOf(l).Volume || (m.Reason == market.ReasonForfeit) == m.Cause.IsZero():
		return
	}
	l.Record = v.Object()
	c.leases.Touch(l.ID)
	delete(c.records, l.ID)
	text := fmt.Sprintf("%s: the host has removed its volume (%v)", c.nameOf(l), m.Reason)
	if m.Reason == market.ReasonConsumer && l.Commands == 0 {
		text += ", as this node had ordered, it says: it had not"
	}
	ctx.Notify("lease.wiped", l.ID, text, "reason", m.Reason.String())
}

// wiped is what a user sees of a record.
func (l *Lease) wiped() *Wiped {
	if l.Record.IsZero() {
		return nil
	}
	m, err := wire.Decode[market.VolumeRecord](l.Record)
	if err != nil {
		panic("consumer: a record that this node kept does not decode: " + err.Error())
	}
	w := &Wiped{At: m.At, Reason: m.Reason.String(), Bytes: m.Volume, Record: wire.Marshal(l.Record)}
	if !m.Cause.IsZero() {
		w.Forfeit = &m.Cause
	}
	return w
}
