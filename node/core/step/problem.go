package step

import "fmt"

// A Problem is what a local command fails with: said to the user, with what to do about it.
type Problem struct {
	Code ProblemCode
	Text string
	Hint string
}

// Error is the problem without its hint.
func (p *Problem) Error() string { return p.Text }

// Fail makes a Problem. The hint may be empty.
func Fail(code ProblemCode, hint, format string, args ...any) *Problem {
	return &Problem{Code: code, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// A ProblemCode is also the exit code of the command line.
type ProblemCode uint8

// The codes.
const (
	ProblemOther       ProblemCode = 1
	ProblemUsage       ProblemCode = 2
	ProblemNotFound    ProblemCode = 3
	ProblemConflict    ProblemCode = 4 // a stale quote too
	ProblemTrust       ProblemCode = 5
	ProblemFunds       ProblemCode = 6
	ProblemTimeout     ProblemCode = 7
	ProblemUnreachable ProblemCode = 8
	ProblemVerify      ProblemCode = 9
	ProblemPartial     ProblemCode = 10
	ProblemNoOffer     ProblemCode = 11 // no offer fits
	ProblemImage       ProblemCode = 12
	ProblemCommand     ProblemCode = 13
	ProblemQuarantine  ProblemCode = 14 // a node does not know what it has signed
	ProblemDisk        ProblemCode = 15 // a node's disk is nearly full
)

// FromFailure is the problem that a failed request to a peer means for the user.
func FromFailure(f *Failure, who string) *Problem {
	switch f.Code {
	case FailUnreachable, FailUnknown:
		return Fail(ProblemUnreachable, "is its node up? 'souk status' shows this node's peers", "%s cannot be reached: %v", who, f)
	case FailResting:
		return Fail(ProblemUnreachable, "try again later", "%s decides nothing now: %s", who, f.Detail)
	case FailInvalid:
		return Fail(ProblemVerify, "", "%s answered something that does not verify: %s", who, f.Detail)
	}
	if f.Refusal == nil {
		return Fail(ProblemOther, "", "%s: %v", who, f)
	}
	code := ProblemOther
	switch f.Refusal.Code {
	case RefuseNoCredential, RefuseRevoked, RefuseOtherMarket, RefuseNotForYou, RefuseInviteUsed, RefuseInviteExpired, RefuseInviteForeign, RefuseInviteRole, RefuseAgreement:
		code = ProblemTrust
	case RefuseFunds, RefuseLimit, RefuseUnpaid:
		code = ProblemFunds
	case RefuseQuarantine:
		code = ProblemQuarantine
	case RefuseDisk:
		code = ProblemDisk
	case RefuseUnknown:
		code = ProblemNotFound
	case RefuseNoGPUs, RefusePrice, RefuseExpired, RefuseState, RefuseWithdrawn, RefuseStale, RefuseCooldown:
		code = ProblemConflict
	}
	return Fail(code, "", "%s refuses: %s", who, f.Refusal.Reason)
}
