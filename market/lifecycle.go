package market

import (
	"fmt"
)

// A State is where a lease is. Numbers are on the wire: append only.
type State uint8

// The states. Held and certified come before the first start; ended is the last.
const (
	StateHeld      State = 1  // GPUs held for a quote
	StateCertified State = 2  // both have signed; waits for its GPUs
	StateSetup     State = 3  // pulling, starting
	StateRunning   State = 4  // container is up
	StateStopping  State = 5  // SIGTERM is sent
	StateStopped   State = 6  // by the consumer, a limit, or for want of a voucher
	StateOutbid    State = 7  // displaced
	StateExited    State = 8  // the program ended by itself
	StateFailed    State = 9  // could not start
	StateHold      State = 10 // out of funds: data kept
	StateEnded     State = 11
)

var stateNames = [...]string{"", "held", "certified", "setup", "running", "stopping", "stopped", "outbid", "exited", "failed",
	"hold", "ended"}

// String is the state's name.
func (s State) String() string {
	if s == 0 || int(s) >= len(stateNames) {
		return "unknown"
	}
	return stateNames[s]
}

// MarshalText is String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a state's name.
func (s *State) UnmarshalText(b []byte) error {
	for i, name := range stateNames {
		if name == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("market: no state %q", b)
}

// Up reports whether a container may exist.
func (s State) Up() bool { return s == StateSetup || s == StateRunning || s == StateStopping }

// Owns reports whether the lease may possess GPUs in this state.
func (s State) Owns() bool { return s == StateCertified || s.Up() }

// A Desire is what the consumer wants of a pod, beside what it is: after a power cut, what should run is started, and
// nothing else.
type Desire uint8

// The desires.
const (
	DesireRun  Desire = 1
	DesireStop Desire = 2
	DesireEnd  Desire = 3
)

// A Reason says why a lease changed its state. Numbers are on the wire: append only.
type Reason uint8

// The reasons.
const (
	ReasonNone      Reason = 0
	ReasonConsumer  Reason = 1  // the consumer's command
	ReasonExit      Reason = 2  // the program ended
	ReasonOutbid    Reason = 3  // displaced by another lease
	ReasonUnpaid    Reason = 4  // no voucher and no mandate
	ReasonRefused   Reason = 5  // the consumer refused to sign
	ReasonFunds     Reason = 6  // under the policy's minutes of funds
	ReasonBudget    Reason = 7  // the lease's own budget
	ReasonDuration  Reason = 8  // the lease's own duration
	ReasonImage     Reason = 9  // image not found or not pullable
	ReasonCommand   Reason = 10 // the command could not be started
	ReasonEngine    Reason = 11 // the host's container engine
	ReasonPower     Reason = 12 // started again after the machine or node was down
	ReasonGPU       Reason = 13 // unhealthy GPU
	ReasonHost      Reason = 14 // by the host: maintenance, withdrawal
	ReasonExpired   Reason = 15 // a hold that was not accepted in time
	ReasonSetup     Reason = 16 // no progress in setup
	ReasonFraud     Reason = 17 // a party was revoked for proven fraud
	ReasonResumed   Reason = 18 // an outbid pod's bid won again
	ReasonNoGPU     Reason = 19 // GPUs are taken
	ReasonForfeit   Reason = 20 // not refilled in time
	ReasonReplaced  Reason = 21 // terms amended
	reasonAfterLast Reason = 22
)

var reasonNames = [...]string{"", "consumer", "exit", "outbid", "unpaid", "refused", "funds", "budget", "duration", "image",
	"command", "engine", "power", "gpu", "host", "expired", "setup", "fraud", "resumed", "no-gpu", "forfeit", "replaced"}

// String is the reason's code word; empty for none.
func (r Reason) String() string {
	if r >= reasonAfterLast {
		return "unknown"
	}
	return reasonNames[r]
}

// MarshalText is String.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a reason's code word.
func (r *Reason) UnmarshalText(b []byte) error {
	for i, name := range reasonNames {
		if name == string(b) {
			*r = Reason(i)
			return nil
		}
	}
	return fmt.Errorf("market: no reason %q", b)
}

// transitions is every allowed change of state. What is not here is a bug.
var transitions = map[State][]State{
	StateHeld:      {StateCertified, StateEnded},
	StateCertified: {StateSetup, StateStopped, StateFailed, StateOutbid, StateEnded},
	StateSetup:     {StateRunning, StateStopping, StateFailed, StateExited, StateStopped},
	StateRunning:   {StateStopping, StateExited, StateStopped, StateSetup, StateFailed},
	StateStopping:  {StateStopped, StateOutbid, StateExited, StateEnded, StateFailed},
	StateStopped:   {StateCertified, StateHold, StateEnded},
	StateOutbid:    {StateCertified, StateStopped, StateHold, StateEnded},
	StateExited:    {StateCertified, StateHold, StateEnded},
	StateFailed:    {StateCertified, StateHold, StateEnded},
	StateHold:      {StateCertified, StateEnded},
}

// Next checks a change of state.
func (s State) Next(to State) error {
	for _, t := range transitions[s] {
		if t == to {
			return nil
		}
	}
	return fmt.Errorf("market: a lease does not go from %v to %v", s, to)
}
