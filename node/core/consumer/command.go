package consumer

import (
	"errors"
	"strings"
	"unicode"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// Commands of the node's user. Ids are random and drawn by the caller.
type (
	// Price asks what wins now, on demand and on spot. It has no effects. Answer: Priced.
	Price struct {
		Query     string
		GPUs      uint16
		Seconds   uint64 // of the run
		Disk      uint64 // bytes
		Volume    uint64 // bytes
		Simulated bool   // simulated GPUs will do
	}
	// Plan asks what a Run would get. It has no effects. Answer: Proposal.
	Plan struct {
		Type    market.BidKind
		Query   string // as in gpu_name=RTX_4090 reliability>=0.99
		Model   string // empty: any that the query takes
		GPUs    uint16
		MaxRate ledger.Rate // most per GPU-hour; of spot, the bid; 0: no limit, and of spot what wins now
		Disk    uint64      // bytes
		Volume  uint64      // bytes
		Minutes uint64      // longest run; 0: no limit
		Budget  ledger.Amount
		Host    identity.Address // zero: any

		Simulated bool // simulated GPUs will do
	}

	// Run buys a lease. The same Lease again is the same order. Answer: View, when both have signed.
	Run struct {
		Lease       wire.ID          `cbor:"1,keyasint"`
		Reservation wire.ID          `cbor:"2,keyasint"`
		Bid         wire.ID          `cbor:"3,keyasint"`
		Type        market.BidKind   `cbor:"4,keyasint"`
		Query       string           `cbor:"5,keyasint"`
		Model       string           `cbor:"6,keyasint"`
		GPUs        uint16           `cbor:"7,keyasint"`
		MaxRate     ledger.Rate      `cbor:"8,keyasint"`            // per GPU-hour, as agreed to; of spot, the bid
		Spec        market.Spec      `cbor:"9,keyasint"`            // image pinned
		Minutes     uint64           `cbor:"10,keyasint"`           // longest run; 0: no limit
		Budget      ledger.Amount    `cbor:"11,keyasint"`           // 0: no limit
		OnEnd       market.OnEnd     `cbor:"12,keyasint"`           // 0: stop
		NoResume    bool             `cbor:"13,keyasint"`           // once outbid, stay so
		Name        string           `cbor:"14,keyasint"`           // empty: one is made of the lease id
		Host        identity.Address `cbor:"15,keyasint"`           // of the Proposal; zero: the best
		Only        bool             `cbor:"16,keyasint"`           // no other host than that
		Simulated   bool             `cbor:"17,keyasint"`           // simulated GPUs will do
		Away        Away             `cbor:"18,keyasint"`           // what it may cost while this node is off
		Attendant   string           `cbor:"19,keyasint,omitempty"` // who attends and signs for it: address, its beginning, or alias; empty: this node
	}

	// Stop stops a pod and keeps its volume. Answer: Ordered.
	Stop struct{ Lease wire.ID }
	// Start starts a stopped pod again; Zero: without GPUs, to reach its data. Answer: Ordered.
	Start struct {
		Lease wire.ID
		Zero  bool
	}
	// Remove ends a lease and wipes its volume; of an order that is not yet a lease, it gives the order up. Answer: Ordered.
	Remove struct{ Lease wire.ID }
	// List asks for the leases and orders of this node; All: ended and failed ones too. Answer: []View, oldest first.
	List struct{ All bool }
	// Show asks for one. Answer: View.
	Show struct{ Lease wire.ID }
	// Glance has the host asked at once, and for a while often, as when a pod's output has ended. Answer: View, as known before.
	Glance struct{ Lease wire.ID }
	// Resolve finds a lease by its name or by the beginning of its id. Answer: View.
	Resolve struct{ Ref string }
	// Papers asks for what a lease's bill rests on. Answer: Documents.
	Papers struct{ Lease wire.ID }
	// Balance asks the bank. Answer: Account.
	Balance struct{}
)

// A Proposal is what a Run would get now, and what it could cost.
type Proposal struct {
	Host        identity.Address `json:"host"`
	Alias       string           `json:"alias,omitempty"`
	Tier        string           `json:"tier"`
	Reliability uint32           `json:"reliabilityPpm"`
	New         bool             `json:"new"` // the host is too young for a reliability
	Region      string           `json:"region,omitempty"`
	Type        market.BidKind   `json:"kind"`
	Model       string           `json:"model"`
	GPUs        uint16           `json:"gpus"`
	Simulated   bool             `json:"simulated"`
	Rate        ledger.Rate      `json:"rate"` // per GPU-hour: what Run should name as MaxRate
	Tariff      ledger.Tariff    `json:"tariff"`
	PerHour     ledger.Rate      `json:"perHour"` // running, all in
	Stopped     ledger.Rate      `json:"perHourStopped"`
	Grace       uint16           `json:"graceSeconds"`
	AwayMost    ledger.Amount    `json:"awayMost"`    // that a day without this node may cost, on a mandate
	AwayFor     int64            `json:"awaySeconds"` // length of such a day
	AwayUsual   bool             `json:"awayUsual"`   // a mandate is what this market's users usually give
	MostCost    ledger.Amount    `json:"mostCost"`
	MostFor     string           `json:"mostFor"` // what bounds MostCost: budget, duration, or 24h
	Reserve     ledger.Amount    `json:"reserve"` // set aside at the start
	Offers      int              `json:"offers"`  // how many fit
	Implied     string           `json:"implied"` // conditions beside those that were asked for
	Bank        identity.Address `json:"bank"`    // who keeps the account
	BankKnown   bool             `json:"funds"`   // the bank has answered; what follows is its word
	Available   ledger.Amount    `json:"available"`
	FundsFor    int64            `json:"fundsForSeconds"` // how long that pays this pod and those that run; -1: for ever
}

// An Ordered is what became of a Stop, Start or Remove.
type Ordered struct {
	Lease wire.ID `json:"lease"`
	Name  string  `json:"name"`
	Order string  `json:"order"`
	Done  bool    `json:"done"` // the host has it; otherwise it is kept until the host does
	Note  string  `json:"note,omitempty"`
}

// A View is one lease, or an order on its way to one, as people want to see it.
type View struct {
	Lease     wire.ID          `json:"lease"`
	Bid       wire.ID          `json:"bid"`
	Name      string           `json:"name"`
	Host      identity.Address `json:"host"`
	Alias     string           `json:"alias,omitempty"`
	Type      market.BidKind   `json:"kind"`
	Model     string           `json:"model"`
	GPUs      uint16           `json:"gpus"`
	Zero      bool             `json:"zero,omitempty"` // last started without them, to reach its data
	Rate      ledger.Rate      `json:"rate"`           // per GPU-hour
	PerHour   ledger.Rate      `json:"perHour"`        // as things stand, all in
	Tariff    ledger.Tariff    `json:"tariff"`
	State     string           `json:"state"` // requested, reserving, accepting or failed of an order; else the lease's
	Reason    string           `json:"reason,omitempty"`
	ExitCode  int32            `json:"exitCode"`
	Detail    string           `json:"detail,omitempty"`
	Desire    string           `json:"desire"` // run, stop, end
	Pending   string           `json:"pending,omitempty"`
	Created   member.Time      `json:"created"`
	Since     member.Time      `json:"since"` // of the state
	Image     string           `json:"image"` // as the user wrote it
	Digest    string           `json:"digest"`
	Command   []string         `json:"command,omitempty"`
	Pulled    int64            `json:"pulled"`
	PullSize  int64            `json:"pullSize"`
	Owed      ledger.Amount    `json:"owed"`
	Vouched   ledger.Amount    `json:"vouched"`
	Paid      ledger.Amount    `json:"paid"` // by the bank, of what was vouched
	Cap       ledger.Amount    `json:"cap"`  // set aside for the lease, all told
	Budget    ledger.Amount    `json:"budget"`
	Settled   bool             `json:"settled"`
	Minutes   uint64           `json:"minutes"`       // billed at the running price
	Stored    uint64           `json:"minutesStored"` // billed as storage
	Limit     uint64           `json:"limitMinutes"`  // longest run; 0: none
	Disk      uint64           `json:"disk"`
	Volume    uint64           `json:"volume"`
	Mount     string           `json:"mount,omitempty"`
	Isolation string           `json:"isolation,omitempty"`
	Simulated bool             `json:"simulated"`
	Starts    uint32           `json:"starts"`
	Reachable bool             `json:"reachable"`
	Heard     member.Time      `json:"heard"` // when the host last answered; 0: never
	Refused   *Objection       `json:"refused,omitempty"`
	HostKey   identity.Hash    `json:"sshHostKey"`
	Away      *Absence         `json:"away,omitempty"`      // the mandate
	Lodged    bool             `json:"lodged,omitempty"`    // the bank has the pending order
	Wiped     *Wiped           `json:"wiped,omitempty"`     // the volume is removed, says the host
	Attendant *Attendance      `json:"attendant,omitempty"` // who attends and signs for it; nil: this node
	Principal *Party           `json:"principal,omitempty"` // whose pod it is that this node attends; nil: its own
}

// Documents are the objects that a lease's bill rests on. Drafts among them are this node's own, to be signed on their way
// out. Those that do not exist are zero.
type Documents struct {
	View        View
	Quote       wire.Object
	Terms       wire.Object // a draft
	Cert        wire.Object
	Reservation wire.Object
	Voucher     wire.Object // a draft
	Receipt     wire.Object
	Mandate     wire.Object // a draft
	Panel       reliability.Panel
	Refused     wire.Object // the usage entry that was refused
	Spec        market.Spec
}

// An Account is the bank's word and what this node's own pods do to it.
type Account struct {
	step.BalanceAnswer
	Bank    identity.Address `json:"bank"`
	Running int              `json:"running"` // pods that cost something now
	PerHour ledger.Rate      `json:"perHour"`
	Lasts   int64            `json:"lastsSeconds"` // until available and reserved are used up; -1: for ever
}

// check refuses a Run that no host could serve.
func (r *Run) check() error {
	switch {
	case r.Lease.IsZero() || r.Bid.IsZero() || r.Reservation.IsZero():
		return errors.New("a run names its lease, bid and reservation")
	case r.Type != market.OnDemand && r.Type != market.Spot:
		return errors.New("say on-demand or spot")
	case r.GPUs == 0 || r.GPUs > 16:
		return errors.New("a pod has 1 to 16 GPUs")
	case r.MaxRate <= 0:
		return errors.New("say how much a GPU-hour may cost")
	case r.Budget < 0:
		return errors.New("the budget is negative")
	case r.OnEnd > market.OnEndRemove:
		return errors.New("at the end, stop or remove")
	case r.Minutes > 1<<32:
		return errors.New("the duration is too long")
	case r.Only && r.Host.IsZero():
		return errors.New("no host is named")
	}
	if err := checkName(r.Name); err != nil {
		return err
	}
	return r.Spec.Validate()
}

func checkName(s string) error {
	if len(s) > 63 {
		return errors.New("a name has at most 63 bytes")
	}
	odd := func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.", r)
	}
	if strings.ContainsFunc(s, odd) || strings.HasPrefix(s, "-") {
		return errors.New("a name is made of letters, digits, and -_. between them")
	}
	return nil
}
