package ledger

import (
	"errors"
	"math/bits"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Limit is an account's own bound on what it spends. The bank keeps it, so it holds whatever the account's node does. The one with
// the highest sequence stands.
type Limit struct {
	Account   identity.Address `cbor:"1,keyasint"`
	Operator  identity.Address `cbor:"2,keyasint"` // whose bank
	Seq       uint64           `cbor:"3,keyasint"`
	Hourly    Rate             `cbor:"4,keyasint"` // most that all that is up may cost per hour; 0: no limit
	Daily     Amount           `cbor:"5,keyasint"` // most that may be settled and set aside in a day of the market (1,440 minutes); 0: no limit
	At        member.Time      `cbor:"6,keyasint"`
	Extension identity.Hash    `cbor:"7,keyasint"`
}

// Kind implements wire.Message.
func (l Limit) Kind() wire.Kind { return wire.KindLimit }

// Signer is the account's owner.
func (l Limit) Signer() identity.Address { return l.Account }

// Validate checks shape.
func (l Limit) Validate() error {
	switch {
	case l.Account.IsZero() || l.Operator.IsZero() || l.Seq == 0:
		return errors.New("limit names no account, bank or sequence")
	case l.Hourly < 0 || l.Daily < 0:
		return ErrNegative
	}
	return nil
}

// A Spending is what the bank keeps of an account beside its books: one durable row.
type Spending struct {
	Account identity.Address `cbor:"1,keyasint"`
	Limit   Limit            `cbor:"2,keyasint"` // its own; zero: none
	Day     uint64           `cbor:"3,keyasint"` // day of the market of which Base is
	Base    Amount           `cbor:"4,keyasint"` // what was settled from it before that day
	Trade   Amount           `cbor:"5,keyasint"` // settled for hosts of others: by this its limit grows
}

// dayMinutes is a day of the market.
const dayMinutes = 24 * member.HourMinutes

// SpendingOf is what the bank keeps of an account's spending.
func (b *Bank) SpendingOf(a identity.Address) Spending {
	s := b.spendings[a]
	s.Account = a
	return s
}

// SetLimit takes an account's own limit. An older one changes nothing; the answer is the one that stands.
func (b *Bank) SetLimit(l Limit, now member.Time) (Limit, error) {
	if err := l.Validate(); err != nil {
		return Limit{}, malformed(err)
	}
	s := b.SpendingOf(l.Account)
	switch {
	case l.Operator != b.operator:
		return Limit{}, refuse(CodeSigner, "the limit is for another bank")
	case l.Seq < s.Limit.Seq, l.Seq == s.Limit.Seq && l != s.Limit:
		return Limit{}, refuse(CodeStale, "limit %d stands", s.Limit.Seq)
	case l == s.Limit:
		return l, nil
	}
	s.Limit = l
	b.spend(b.rolled(s, now))
	return l, nil
}

func (b *Bank) spend(s Spending) {
	b.spendings[s.Account] = s
	b.spent[s.Account] = true
}

// rolled is a spending on the day that it is now.
func (b *Bank) rolled(s Spending, now member.Time) Spending {
	if day := uint64(b.clock.Minute(now)) / dayMinutes; day != s.Day {
		s.Day, s.Base = day, b.accounts[s.Account].Settled
	}
	return s
}

// roll begins the day of an account that has a daily limit. Once a minute is often enough: what is settled in a day's first minute may
// count for the day before.
func (b *Bank) roll(a identity.Address, now member.Time) {
	if s := b.SpendingOf(a); s.Limit.Daily > 0 {
		if next := b.rolled(s, now); next != s {
			b.spend(next)
		}
	}
}

// Room is how much more an account's own daily limit lets the bank set aside.
func (b *Bank) Room(a identity.Address, now member.Time) Amount {
	s := b.SpendingOf(a)
	if s.Limit.Daily == 0 {
		return maxAmount
	}
	acc := b.accounts[a]
	return max(0, s.Limit.Daily-(acc.Settled-b.rolled(s, now).Base)-acc.Reserved)
}

// Ceiling is the most that all that an account runs may cost per hour, and why: the least of its own limit, of what its operator
// grants it, and of the policy's limit for new accounts, which grows with what the account has settled for hosts of others. 0: no limit.
func (b *Bank) Ceiling(p member.Policy, a identity.Address, granted Rate, now member.Time) Ceiling {
	s := b.SpendingOf(a)
	c := Ceiling{Own: s.Limit.Hourly, Granted: granted, Trade: s.Trade, Floor: Rate(p.SpendFloor), Growth: p.SpendGrowth}
	if p.SpendFloor > 0 && granted == 0 { // what an operator grants stands in place of the rule
		hi, lo := bits.Mul64(uint64(max(0, s.Trade)), uint64(p.SpendGrowth))
		grown := maxAmount
		if hi < 1_000_000 {
			if q, _ := bits.Div64(hi, lo, 1_000_000); q <= uint64(maxAmount) {
				grown = Amount(q)
			}
		}
		c.Rule = Rate(satAdd(Amount(p.SpendFloor), grown))
	}
	for _, r := range []Rate{c.Own, c.Granted, c.Rule} {
		if r > 0 && (c.Hourly == 0 || r < c.Hourly) {
			c.Hourly = r
		}
	}
	c.Daily = s.Limit.Daily
	if c.Daily > 0 {
		c.Today = b.accounts[a].Settled - b.rolled(s, now).Base
	}
	return c
}

// A Ceiling is an account's limits and what they are made of.
type Ceiling struct {
	Hourly  Rate   `cbor:"1,keyasint" json:"hourly"` // the least of those below; 0: no limit
	Own     Rate   `cbor:"2,keyasint" json:"own"`
	Granted Rate   `cbor:"3,keyasint" json:"granted"`
	Rule    Rate   `cbor:"4,keyasint" json:"rule"`
	Floor   Rate   `cbor:"5,keyasint" json:"floor"`      // of the rule: what a new account may spend per hour
	Growth  uint32 `cbor:"6,keyasint" json:"growthPpm"`  // of the rule: of all that is settled, parts per million
	Trade   Amount `cbor:"7,keyasint" json:"settled"`    // for hosts of others
	Daily   Amount `cbor:"8,keyasint" json:"daily"`      // its own; 0: no limit
	Today   Amount `cbor:"9,keyasint" json:"spentToday"` // settled on this day of the market
}
