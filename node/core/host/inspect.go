package host

import (
	"souk/ledger"
	"souk/market"
	"souk/p2p/wire"
)

// Table is whose every GPU is. It is read between steps, and never changed.
func (h *Host) Table() *market.Table { return h.alloc.Get() }

// A Tally is where one lease stands with its host.
type Tally struct {
	Lease   wire.ID
	State   market.State
	Reason  market.Reason
	Owed    ledger.Amount // by the usage chain
	Vouched ledger.Amount
	Settled ledger.Amount
	Minute  ledger.Amount // what a running minute costs at most
	Done    bool          // settled and released
	Wiped   bool          // nothing of it is left in the engine
}

// Tallies are all leases of this host, in the order of their ids.
func (h *Host) Tallies(slotSeconds int64) []Tally {
	out := make([]Tally, 0, h.leases.Len())
	for _, id := range h.leases.Keys() {
		l := h.leases.Get(id)
		r, _ := l.Terms.Tariff.Rate(ledger.StatusRunning)
		minute, _ := r.Cost(slotSeconds)
		out = append(out, Tally{id, l.State, l.Reason, l.Place.Meter.Owed(), l.Vouched, l.Settled, minute, l.Done, l.Wiped})
	}
	return out
}

// Cap is what the newest reservation of a lease that this host holds sets aside.
func (h *Host) Cap(lease wire.ID) ledger.Amount {
	if l := h.leases.Get(lease); l != nil {
		return l.Reservation.Cap
	}
	return 0
}

// Contract is the terms of a lease and the certificate that its usage chain begins with.
func (h *Host) Contract(lease wire.ID) (market.Terms, wire.Object, bool) {
	l := h.leases.Get(lease)
	if l == nil {
		return market.Terms{}, wire.Object{}, false
	}
	return l.Terms, l.Cert, true
}
