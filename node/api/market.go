package api

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"souk/ledger"
	"souk/node/core/consumer"
	"souk/node/core/observer"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Founding is a market to be founded, with this node as its operator.
type Founding struct {
	Salt    wire.ID `json:"salt" doc:"random: no two markets share it"`
	Name    string  `json:"name" minLength:"1" maxLength:"64"`
	Key     string  `json:"key" minLength:"66" maxLength:"66" doc:"this node's public key, 66 hex digits"`
	Testnet bool    `json:"testnet,omitempty" doc:"simulated GPUs, plain processes and short minutes are allowed"`
	Slot    uint16  `json:"slotSeconds,omitempty" maximum:"60" doc:"seconds of a minute, 5 to 60; only a testnet may have others than 60"`
	Alias   string  `json:"alias,omitempty" maxLength:"32"`

	Fee        uint32         `json:"feePpm,omitempty" maximum:"500000" doc:"the operator's share of what hosts earn, parts per million"`
	MinDeposit *ledger.Amount `json:"minDeposit,omitempty" doc:"smallest deposit, credits; none: 10"`
	StopFunds  *uint32        `json:"stopFundsMinutes,omitempty" doc:"minutes of funds under which an account's pods stop; none: 10"`
	SpendFloor *ledger.Amount `json:"spendFloor,omitempty" doc:"most that a new consumer's pods may cost per hour, credits; 0: no limit; none: 20"`
	SpendGrow  *uint32        `json:"spendGrowthPpm,omitempty" maximum:"10000000" doc:"by how much of what it has settled that grows, parts per million; none: a tenth"`
	DataHold   *uint32        `json:"dataHoldMinutes,omitempty" doc:"minutes for which data outlives its funds or its lease; none: 2880"`
}

// policy is the market's first.
func (f Founding) policy(self identity.Address, now member.Time, slot uint16) member.Policy {
	p := member.DefaultPolicy(self, now).ForSlot(slot)
	p.Fee, p.SpendFloor, p.SpendGrowth = f.Fee, int64(20*ledger.Credit), 100_000
	if f.SpendFloor != nil {
		p.SpendFloor = int64(*f.SpendFloor)
	}
	if f.SpendGrow != nil {
		p.SpendGrowth = *f.SpendGrow
	}
	if f.MinDeposit != nil {
		p.MinDeposit = int64(*f.MinDeposit)
	}
	if f.StopFunds != nil {
		p.StopFunds = *f.StopFunds
	}
	if f.DataHold != nil {
		p.DataHold = *f.DataHold
	}
	return p
}

// A Membership is an application to a market.
type Membership struct {
	Code  string `json:"code" maxLength:"4096" doc:"of the invite"`
	Alias string `json:"alias,omitempty" maxLength:"32"`
}

// An Account is what the bank keeps for this node, and what its own pods do to it.
type Account struct {
	Account   identity.Address `json:"account"`
	Bank      identity.Address `json:"bank"`
	Deposited ledger.Amount    `json:"deposited"`
	Available ledger.Amount    `json:"available"`
	Reserved  ledger.Amount    `json:"reserved"` // for hosts of running leases
	Payable   ledger.Amount    `json:"payable"`  // earned, not yet paid out
	Settled   ledger.Amount    `json:"settled"`  // all that hosts were paid from it
	Paying    ledger.Amount    `json:"paying"`   // payouts on their way
	PaidOut   ledger.Amount    `json:"paidOut"`
	Fees      ledger.Amount    `json:"fees"`
	Burn      ledger.Rate      `json:"burn"` // most that open leases cost per hour, says the bank
	Entries   uint64           `json:"entries"`
	Running   int              `json:"running"` // pods that cost something now
	PerHour   ledger.Rate      `json:"perHour"` // what they cost
	Lasts     int64            `json:"lastsSeconds" doc:"-1: for ever"`
	Short     member.Time      `json:"shortSince,omitempty" doc:"since when the account is out of funds; 0: it is not"`
	Forfeit   member.Time      `json:"forfeitAt,omitempty" doc:"when the volumes of its stopped pods are removed, unless money comes"`
}

func newAccount(c consumer.Account) Account {
	return Account{
		Account: c.Account, Bank: c.Bank, Deposited: ledger.Amount(c.Deposited), Available: ledger.Amount(c.Available),
		Reserved: ledger.Amount(c.Reserved), Payable: ledger.Amount(c.Payable), Settled: ledger.Amount(c.Settled),
		PaidOut: ledger.Amount(c.PaidOut), Fees: ledger.Amount(c.Fees), Burn: ledger.Rate(c.Burn), Entries: c.Entries,
		Paying: ledger.Amount(c.Paying), Short: c.ShortSince, Forfeit: c.ForfeitAt,
		Running: c.Running, PerHour: c.PerHour, Lasts: c.Lasts,
	}
}

func (s *server) marketRoutes(a huma.API) {
	route(a, op("found", "POST", "/v1/market", "Found a market and become its operator"),
		func(ctx context.Context, in *struct{ Body Founding }) (observer.Standing, error) {
			cmd, err := in.Body.found(time.Now(), s.b.Info(ctx).Addrs)
			if err != nil {
				return observer.Standing{}, err
			}
			return do[observer.Standing](ctx, s.b, cmd)
		})
	route(a, patient(op("look", "POST", "/v1/market/look", "Ask an invite's operator about its market; obliges to nothing")),
		func(ctx context.Context, in *struct{ Body Membership }) (observer.Prospect, error) {
			invite, err := in.Body.invite()
			if err != nil {
				return observer.Prospect{}, err
			}
			return do[observer.Prospect](ctx, s.b, observer.Look{Invite: invite})
		})
	command[none, observer.Standing](s, a, op("standing", "GET", "/v1/membership", "Where this node stands in its market"),
		func(*none) any { return observer.Where{} })
	route(a, patient(op("join", "PUT", "/v1/membership", "Apply for membership; the same again asks how it stands")),
		func(ctx context.Context, in *struct{ Body Membership }) (observer.Standing, error) {
			return s.join(ctx, in.Body)
		})
	s.offerRoutes(a)
	route(a, op("balance", "GET", "/v1/balance", "This node's account at the bank"),
		func(ctx context.Context, _ *none) (Account, error) {
			c, err := do[consumer.Account](ctx, s.b, consumer.Balance{})
			return newAccount(c), err
		})
}

// found is the command that founds the market.
func (f Founding) found(now time.Time, addrs []string) (observer.Found, error) {
	var none observer.Found
	b, err := hex.DecodeString(f.Key)
	if err != nil || len(b) != len(identity.PublicKey{}) {
		return none, usage("the key is not 66 hex digits")
	}
	key := identity.PublicKey(b)
	self, err := key.Address()
	if err != nil {
		return none, usage("%v", err)
	}
	c := member.Charter{
		Salt: f.Salt, Name: f.Name, Founded: member.At(now), ChainID: member.DefaultChainID, Operators: []identity.PublicKey{key},
		Threshold: 1, Testnet: f.Testnet, Slot: f.Slot,
	}
	if c.Slot == 0 {
		c.Slot = 60
	}
	if err := c.Validate(); err != nil {
		return none, usage("%v", err)
	}
	p := f.policy(self, member.At(now), c.Slot)
	p.Bootstrap = addrs[:min(len(addrs), 16)]
	if err := p.Validate(); err != nil {
		return none, usage("%v", err)
	}
	if day := uint32(24 * member.HourMinutes); !f.Testnet && p.DataHold < day {
		return none, usage("data is kept for at least %d minutes after its funds have run out; only a testnet may keep it for less", day)
	}
	return observer.Found{Charter: c, Policy: p, Alias: f.Alias}, nil
}

func (m Membership) invite() (member.Invite, error) {
	i, err := member.ParseInvite(m.Code)
	if err != nil {
		return i, step.Fail(step.ProblemUsage, "ask the operator for a new one if it cannot be found again", "%v", err)
	}
	return i, nil
}

func (s *server) join(ctx context.Context, m Membership) (observer.Standing, error) {
	invite, err := m.invite()
	if err != nil {
		return observer.Standing{}, err
	}
	cmd := observer.Join{Invite: invite, Alias: m.Alias}
	if invite.Role.Has(member.RoleHost) {
		cmd.Devices, cmd.Machine, cmd.Checks, err = s.b.Inventory(ctx)
		if err != nil {
			return observer.Standing{}, err
		}
	}
	return do[observer.Standing](ctx, s.b, cmd)
}
