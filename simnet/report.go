package simnet

import (
	"time"

	"souk/ledger"
	"souk/market"
)

// A Report is what came of a run.
type Report struct {
	Seed      uint64           `json:"seed"`
	Trace     string           `json:"trace"` // hash over all events and all that the cores decided
	Hosts     int              `json:"hosts"`
	Consumers int              `json:"consumers"`
	Virtual   time.Duration    `json:"virtualNanos"`
	Wall      time.Duration    `json:"wallNanos"`
	Events    uint64           `json:"events"`
	Steps     uint64           `json:"steps"`    // of cores
	Messages  uint64           `json:"messages"` // delivered
	Gossiped  uint64           `json:"gossiped"` // published
	Requests  uint64           `json:"requests"`
	Crashes   int              `json:"crashes"`
	PowerCuts int              `json:"powerCuts"`
	Cuts      int              `json:"partitions"`
	Outages   int              `json:"engineOutages"`
	Orders    int              `json:"orders"`       // that consumers gave
	Refused   int              `json:"ordersFailed"` // that came to no lease
	Leases    int              `json:"leases"`
	Ended     map[string]int   `json:"ended"` // leases by the reason of their end
	Displaced int              `json:"displaced"`
	Starts    int              `json:"containers"`
	Minutes   map[string]int64 `json:"minutes"` // by status; billed ones only where the status can be billed
	Free      int64            `json:"freeMinutes"`
	Billed    int64            `json:"billedMinutes"`
	Mandated  int64            `json:"mandatedMinutes"` // of those, on the word of witnesses under a mandate
	Kept      int64            `json:"keptMinutes"`     // and of storage, on that of the bank
	Deposited ledger.Amount    `json:"deposited"`
	Settled   ledger.Amount    `json:"settled"`
	Fees      ledger.Amount    `json:"fees"`
	Unpaid    ledger.Amount    `json:"unpaid"` // owed by the usage chains and never settled
	Cheats    []Tally          `json:"cheats,omitempty"`
	WorstFree time.Duration    `json:"worstFreeNanos"` // the most that one start of a pod had for nothing, beyond what is free for everybody
}

// Ratio is how many virtual seconds one second of the wall clock takes.
func (r Report) Ratio() float64 {
	if r.Wall <= 0 {
		return 0
	}
	return float64(r.Virtual) / float64(r.Wall)
}

// finish fills in the figures that are known at the end.
func (w *world) finish() {
	r := &w.stats
	r.Virtual = (w.now - beginning).Span()
	r.Starts = len(w.runs)
	for _, n := range w.nodes {
		if n.core == nil {
			continue
		}
		if b := n.core.Operator().Bank(); b != nil {
			t := b.Totals()
			r.Deposited, r.Settled, r.Fees = t.Deposited, t.Settled, t.Fees
		}
		if n.host == nil {
			continue
		}
		for _, t := range n.core.Host().Tallies(w.charter.Clock().Seconds()) {
			r.Leases++
			r.Unpaid += t.Owed - t.Settled
			why := t.State.String()
			if t.State == market.StateEnded {
				why = t.Reason.String()
			}
			r.Ended[why]++
		}
	}
	w.check.claims.finish()
	for _, b := range w.buyers {
		r.Orders += b.orders
		r.Refused += b.failed
	}
}
