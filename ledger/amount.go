// Package ledger is money: amounts, what a lease owes, who signed for it, and the operator's bank.
//
// An Amount is int64 nano-credits. A Rate is a price per hour. A lease keeps one integer, its numerator, the sum of rate ×
// seconds over its billable minutes; what it owes is that sum divided once by 3600. The host closes every minute of a
// lease with a Usage entry in a hash chain; the consumer answers a billable one with a Voucher, whose total is the amount
// owed at that entry, neither more nor less; newer replaces older. A Reservation is the bank's word that the voucher will
// be paid, up to a cap. The Bank moves money between accounts in entries that sum to zero.
//
// Promises: L1 deposits = available + reserved + payable + paying + paid out + fees, in integers, at all times. L2 no
// balance is negative. L3 a minute of a lease is counted at most once. L4 settled never exceeds the cap nor the highest
// voucher. L5 a usage chain has no gap and no fork.
package ledger

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// Errors that callers test with errors.Is.
var (
	ErrOverflow = errors.New("ledger: amount overflows")
	ErrNegative = errors.New("ledger: amount is negative")
	ErrAmount   = errors.New("ledger: not an amount")
)

// An Amount is money in nano-credits: 1_000_000_000 make one credit (one US dollar by convention).
type Amount int64

// Credit is one credit.
const Credit Amount = 1_000_000_000

// ParseAmount reads a decimal number of credits with at most nine digits after the point. Signs, exponents and spaces are
// refused.
func ParseAmount(s string) (Amount, error) {
	whole, frac, dot := strings.Cut(s, ".")
	if whole == "" && frac == "" || dot && frac == "" || len(frac) > 9 {
		return 0, fmt.Errorf("%w: %q; want credits, as in 0.34, with at most nine decimals", ErrAmount, s)
	}
	var n int64
	for _, c := range whole + frac + strings.Repeat("0", 9-len(frac)) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%w: %q; want credits, as in 0.34", ErrAmount, s)
		}
		d := int64(c - '0')
		if n > (math.MaxInt64-d)/10 {
			return 0, fmt.Errorf("%w: %q", ErrOverflow, s)
		}
		n = n*10 + d
	}
	return Amount(n), nil
}

// String is the amount in credits with all nine decimals, so that nothing is hidden.
func (a Amount) String() string {
	sign, u := "", uint64(a)
	if a < 0 {
		sign, u = "-", uint64(-a)
	}
	return fmt.Sprintf("%s%d.%09d", sign, u/uint64(Credit), u%uint64(Credit))
}

// Text is the amount in credits without needless zeros, but with two decimals at least: 0.34, 25.00, 0.010000001.
func (a Amount) Text() string {
	s := a.String()
	dot := strings.IndexByte(s, '.')
	t := strings.TrimRight(s, "0")
	for len(t) < dot+3 {
		t += "0"
	}
	return t
}

// MarshalText is String, so that JSON carries money as a decimal string.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what String wrote, and any other decimal number of credits.
func (a *Amount) UnmarshalText(b []byte) error {
	s, neg := strings.CutPrefix(string(b), "-")
	v, err := ParseAmount(s)
	if err != nil {
		return err
	}
	if neg {
		v = -v
	}
	*a = v
	return nil
}

// Add is a + b, or ErrOverflow.
func (a Amount) Add(b Amount) (Amount, error) {
	s := a + b
	if (b > 0 && s < a) || (b < 0 && s > a) {
		return 0, ErrOverflow
	}
	return s, nil
}

// A Rate is a price for one hour, in nano-credits. It is never negative.
type Rate int64

// Text is the rate in credits per hour.
func (r Rate) Text() string { return Amount(r).Text() }

// MarshalText is that of an Amount.
func (r Rate) MarshalText() ([]byte, error) { return Amount(r).MarshalText() }

// UnmarshalText is that of an Amount, never negative.
func (r *Rate) UnmarshalText(b []byte) error {
	v, err := ParseAmount(string(b))
	*r = Rate(v)
	return err
}

// Times is the rate for n things. ErrOverflow when it does not fit.
func (r Rate) Times(n uint32) (Rate, error) {
	hi, lo := bits.Mul64(uint64(r), uint64(n))
	if r < 0 || hi != 0 || lo > math.MaxInt64 {
		return 0, ErrOverflow
	}
	return Rate(lo), nil
}

// Cost is what the rate comes to over a number of seconds, rounded up: an upper bound for reservations and for people.
func (r Rate) Cost(seconds int64) (Amount, error) {
	if r < 0 || seconds < 0 {
		return 0, ErrNegative
	}
	hi, lo := bits.Mul64(uint64(r), uint64(seconds))
	q, rem := uint64(0), uint64(0)
	if hi >= 3600 {
		return 0, ErrOverflow
	}
	q, rem = bits.Div64(hi, lo, 3600)
	if rem > 0 {
		q++
	}
	if q > math.MaxInt64 {
		return 0, ErrOverflow
	}
	return Amount(q), nil
}

// StorageRate is the hourly rate of bytes at a price per GB-month: floor(price × bytes / (720 × 10⁹)). A month is 30 days, a
// GB 10⁹ bytes. It is computed once, when terms are made, and signed.
func StorageRate(perMonth Amount, bytes uint64) (Rate, error) {
	if perMonth < 0 {
		return 0, ErrNegative
	}
	const unit = 720 * 1_000_000_000
	hi, lo := bits.Mul64(uint64(perMonth), bytes)
	if hi >= unit {
		return 0, ErrOverflow
	}
	q, _ := bits.Div64(hi, lo, unit)
	if q > math.MaxInt64 {
		return 0, ErrOverflow
	}
	return Rate(q), nil
}

// A Meter adds up what a lease owes. It divides only once, in Owed, so rounding never accumulates, whatever rates change.
// Rates come from peers: overflow is an answer, never a panic.
type Meter struct {
	Numerator int64 `cbor:"1,keyasint" json:"numerator"` // nano-credits per hour × seconds
}

// Add counts seconds at a rate. On ErrOverflow or ErrNegative the meter is unchanged.
func (m Meter) Add(r Rate, seconds int64) (Meter, error) {
	if r < 0 || seconds < 0 {
		return m, ErrNegative
	}
	hi, lo := bits.Mul64(uint64(r), uint64(seconds))
	if hi != 0 || lo > math.MaxInt64 || m.Numerator > math.MaxInt64-int64(lo) {
		return m, ErrOverflow
	}
	return Meter{m.Numerator + int64(lo)}, nil
}

// Owed is floor(numerator / 3600).
func (m Meter) Owed() Amount { return Amount(m.Numerator / 3600) }
