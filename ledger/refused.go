package ledger

import "fmt"

// A Code says why the bank refuses. Numbers are on the wire: append only.
type Code uint16

// The codes.
const (
	CodeMalformed Code = 1  // the request does not validate
	CodeFunds     Code = 2  // not enough available; Needed and Available say how much
	CodeUnknown   Code = 3  // no such reservation
	CodeReused    Code = 4  // the id or reference stands for something else already
	CodeSmall     Code = 5  // under the policy's least
	CodeHost      Code = 6  // another host than the reservation's
	CodeSigner    Code = 7  // another consumer or voucher signer than the reservation's
	CodeLease     Code = 8  // another lease than the reservation's
	CodeStale     Code = 9  // older than what the bank has
	CodeMismatch  Code = 10 // the voucher does not say what its usage entry says
	CodeCap       Code = 11 // outside the reservation's cap
	CodeClosed    Code = 12 // the reservation is released
	CodeLate      Code = 13 // past the reservation's redeem-by
	CodeOverflow  Code = 14 // more than an Amount holds
	CodePaid      Code = 15 // something was already paid on it
	CodeLimit     Code = 16 // the account has as many open reservations as it may
)

var codeNames = [...]string{"", "malformed", "funds", "unknown", "reused", "too-small", "host", "signer", "lease", "stale",
	"mismatch", "cap", "closed", "late", "overflow", "paid", "limit"}

// String is the code's word.
func (c Code) String() string {
	if c == 0 || int(c) >= len(codeNames) {
		return "unknown-code"
	}
	return codeNames[c]
}

// A Refused is the bank's no to a request that it understood. The bank is as it was before.
type Refused struct {
	Code      Code
	Reason    string
	Needed    Amount // with CodeFunds
	Available Amount // with CodeFunds
}

// Refusals that callers test with errors.Is; only the code is compared.
var (
	ErrFunds     = &Refused{Code: CodeFunds, Reason: "not enough funds"}
	ErrUnknown   = &Refused{Code: CodeUnknown, Reason: "no such reservation"}
	ErrRefReused = &Refused{Code: CodeReused, Reason: "the reference stands for something else"}
	ErrClosed    = &Refused{Code: CodeClosed, Reason: "the reservation is released"}
	ErrStale     = &Refused{Code: CodeStale, Reason: "older than what the bank has"}
)

// Error implements error.
func (r *Refused) Error() string { return "ledger: " + r.Reason }

// Is reports whether target is a refusal with the same code.
func (r *Refused) Is(target error) bool {
	t, ok := target.(*Refused)
	return ok && t.Code == r.Code
}

func refuse(c Code, format string, args ...any) error {
	return &Refused{Code: c, Reason: fmt.Sprintf(format, args...)}
}

func malformed(err error) error { return refuse(CodeMalformed, "%v", err) }

func short(needed, available Amount) error {
	return &Refused{Code: CodeFunds, Needed: needed, Available: available,
		Reason: fmt.Sprintf("not enough funds: %s needed, %s available", needed.Text(), available.Text())}
}
