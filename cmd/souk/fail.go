package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"souk/node/api"
	"souk/node/config"
	"souk/node/core/step"
	"souk/node/keys"
	"souk/node/store"
)

// exitInterrupted is the exit code of a command that was interrupted (128 + SIGINT).
const exitInterrupted = 130

// exitCode ends the program with a code and without a word: that of a pod's program.
type exitCode int

// Error implements error.
func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// usageError is a call that makes no sense.
func usageError(hint, format string, args ...any) error {
	return step.Fail(step.ProblemUsage, hint, format, args...)
}

// problem is what an error means for the user.
func problem(err error) *step.Problem {
	var p *step.Problem
	var open *keys.Exposed
	var locked *store.Locked
	var damaged *store.Damaged
	var corrupt *store.Corrupt
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, api.ErrDown):
		return step.Fail(step.ProblemUnreachable, "start it: souk up -d", "no node is up in this home")
	case errors.Is(err, api.ErrForeign):
		return step.Fail(step.ProblemTrust, "be the user whose node it is, or name another api_socket in config.yaml", "%s", trim(err))
	case errors.Is(err, config.ErrNoHome):
		return step.Fail(step.ProblemNotFound, "join a market with 'souk join CODE', found one with 'souk init --role operator --market NAME', or name another --home", "%s", trim(err))
	case errors.Is(err, keys.ErrMissing):
		return step.Fail(step.ProblemNotFound, "", "%s", trim(err))
	case errors.Is(err, keys.ErrPassphrase):
		return step.Fail(step.ProblemTrust, "", "%s", trim(err))
	case errors.As(err, &open):
		return step.Fail(step.ProblemTrust, "chmod 600 "+open.Path, "%s", trim(err))
	case errors.As(err, &locked):
		return step.Fail(step.ProblemConflict, "souk status tells whether it is up", "%s", trim(err))
	case errors.Is(err, store.ErrQuarantine):
		return step.Fail(step.ProblemVerify, "put the newest journal/ of this home back; else 'souk up' brings the node up in quarantine, and 'souk status' says what is missing", "%s", trim(err))
	case errors.As(err, &corrupt):
		return step.Fail(step.ProblemVerify, "put a copy of that journal segment back, or look after the disk; 'souk up' mends what the index still has", "%s", trim(err))
	case errors.As(err, &damaged):
		return step.Fail(step.ProblemVerify, "souk ledger rebuild makes the index again from the journal", "%s", trim(err))
	case errors.Is(err, store.ErrDiskFull):
		return step.Fail(step.ProblemOther, "make room on the disk of the home, then start again; nothing is lost", "%s", trim(err))
	case errors.Is(err, context.DeadlineExceeded):
		return step.Fail(step.ProblemTimeout, "", "it did not come to that in time")
	}
	return step.Fail(step.ProblemOther, "", "%s", trim(err))
}

// trim takes the package off the front of an error: the user knows the command, not the package.
func trim(err error) string {
	s := err.Error()
	if i := strings.Index(s, ": "); i > 0 && !strings.ContainsAny(s[:i], " /\"") {
		return s[i+2:]
	}
	return s
}

// report prints an error and gives the exit code that it means.
func (e *env) report(ctx context.Context, err error) int {
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		e.note("souk: interrupted")
		return exitInterrupted
	}
	p := problem(err)
	if e.output == "json" || e.output == "jsonl" {
		e.reportJSON(p)
		return int(p.Code)
	}
	what := "souk"
	if e.verb != "" {
		what += " " + e.verb
	}
	e.note("%s: %s", what, p.Text)
	if p.Hint != "" {
		e.note("hint: %s", p.Hint)
	}
	return int(p.Code)
}

func (e *env) reportJSON(p *step.Problem) {
	type body struct {
		Code    string `json:"code"`
		Exit    int    `json:"exit"`
		Verb    string `json:"verb,omitempty"`
		Message string `json:"message"`
		Hint    string `json:"hint,omitempty"`
	}
	b, err := json.Marshal(map[string]body{"error": {api.Word(p.Code), int(p.Code), e.verb, p.Text, p.Hint}})
	if err != nil {
		panic("souk: an error does not encode: " + err.Error())
	}
	e.note("%s", b)
}
