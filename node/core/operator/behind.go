package operator

import (
	"fmt"

	"souk/ledger"
	"souk/ledger/audit"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/wire"
)

// Behind says what of this bank's own signatures its books do not have: each is of an entry or a place that was given after the
// books were copied. The signatures are verified; whose else they are, they say nothing.
func (o *Operator) Behind(ctx *step.Context, objects []wire.AnyVerified) []string {
	var out []string
	miss := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, v := range objects {
		if o.bank == nil || v.By() != ctx.Self {
			continue
		}
		switch v := v.(type) {
		case wire.Verified[ledger.Reservation]:
			r := v.Value()
			if h, known := o.bank.Hold(r.ID); !known || r.Seq > h.Reservation.Seq || r.Seq == h.Reservation.Seq && r != h.Reservation {
				miss("reservation %s for lease %s at %s, sequence %d, entry %d", r.ID.Short(), r.Lease.Short(), r.Cap.Text(), r.Seq, r.Entry)
			}
		case wire.Verified[ledger.SettleReceipt]:
			r := v.Value()
			if h, known := o.bank.Hold(r.Reservation); !known || r.Paid > h.Settled || r.At > h.Receipt.At || r.Released && h.Open() {
				miss("receipt for lease %s: %s paid, entry %d", r.Lease.Short(), r.Paid.Text(), r.Entry)
			}
		case wire.Verified[ledger.PayoutReceipt]:
			r := v.Value()
			if p := o.books.payouts.Get(r.ID); p == nil || r.State > p.State {
				miss("payout %s of %s to %v: %v, entry %d", r.ID.Short(), r.Amount.Text(), r.Account, r.State, r.Entry)
			}
		case wire.Verified[ledger.TransferReceipt]:
			if r := v.Value(); o.books.transfers.Get(r.ID) == nil {
				miss("transfer %s of %s from %v to %v, entry %d", r.ID.Short(), r.Amount.Text(), r.From, r.To, r.Entry)
			}
		case wire.Verified[market.Lodged]:
			r := v.Value()
			if l := o.lodged.Get(r.Lease); l == nil || r.Seq > l.Receipt.Seq {
				miss("order %d left here for the host of lease %s", r.Seq, r.Lease.Short())
			}
		case wire.Verified[audit.Checkpoint]:
			if c := v.Value(); c.Size > o.bank.Head().Seq || c.Number > o.audit.last.Get().Number {
				miss("checkpoint %d of %d entries, where the books have %d", c.Number, c.Size, o.bank.Head().Seq)
			}
		}
	}
	return out
}

// Forsake makes a bank whose books were copied safe, once nobody has shown more than they have: what it numbers without an entry of
// its journal jumps over all that can have been given since. It is called before Boot.
func (o *Operator) Forsake(ctx *step.Context) {
	if o.bank != nil {
		o.bank.Skip(uint64(ctx.Now)) // fewer than a thousand notices a second
		o.keep(ctx)
	}
}
