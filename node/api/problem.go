package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"souk/node/core/step"
)

// A Problem is an error as it travels: RFC 9457, with the core's code.
type Problem struct {
	Type   string              `json:"type" doc:"urn:souk:problem: and the code"`
	Title  string              `json:"title" doc:"the code in words"`
	Status int                 `json:"status" doc:"HTTP status"`
	Detail string              `json:"detail" doc:"what happened"`
	Code   string              `json:"code" doc:"what kind of problem it is: as in funds, conflict, not-found"`
	Exit   int                 `json:"exit" doc:"exit code of the command line"`
	Hint   string              `json:"hint,omitempty" doc:"what to do about it"`
	Errors []*huma.ErrorDetail `json:"errors,omitempty" doc:"fields of the request that are wrong"`
}

// kindOf is what a code is called, and the HTTP status that it travels under.
type kindOf struct {
	code   step.ProblemCode
	word   string
	title  string
	status int
}

var kinds = []kindOf{
	{step.ProblemOther, "other", "it failed", http.StatusInternalServerError},
	{step.ProblemUsage, "usage", "the request makes no sense", http.StatusBadRequest},
	{step.ProblemNotFound, "not-found", "there is no such thing", http.StatusNotFound},
	{step.ProblemConflict, "conflict", "things are not as the request takes them to be", http.StatusConflict},
	{step.ProblemTrust, "trust", "not allowed", http.StatusForbidden},
	{step.ProblemFunds, "funds", "not enough credit", http.StatusPaymentRequired},
	{step.ProblemTimeout, "timeout", "no answer in time", http.StatusGatewayTimeout},
	{step.ProblemUnreachable, "unreachable", "a peer cannot be reached", http.StatusBadGateway},
	{step.ProblemVerify, "verify", "something does not verify", http.StatusUnprocessableEntity},
	{step.ProblemPartial, "partial", "a part of it failed", http.StatusMultiStatus},
	{step.ProblemNoOffer, "no-offer", "no offer fits", http.StatusNotFound},
	{step.ProblemImage, "image", "the image cannot be had", http.StatusUnprocessableEntity},
	{step.ProblemQuarantine, "quarantine", "the node does not know what it has signed", http.StatusServiceUnavailable},
	{step.ProblemDisk, "disk", "the disk is nearly full", http.StatusInsufficientStorage},
	{step.ProblemCommand, "command", "the command cannot be started", http.StatusUnprocessableEntity},
}

// Word is what a code is called in problems: funds, no-offer.
func Word(c step.ProblemCode) string { return kindBy(c).word }

func kindBy(c step.ProblemCode) kindOf {
	for _, k := range kinds {
		if k.code == c {
			return k
		}
	}
	return kinds[0]
}

// newProblem is how a problem of the core travels.
func newProblem(p *step.Problem) *Problem {
	k := kindBy(p.Code)
	return &Problem{Type: "urn:souk:problem:" + k.word, Title: k.title, Status: k.status, Detail: p.Text, Code: k.word, Exit: int(k.code), Hint: p.Hint}
}

// problemOf is how any error of a Backend travels.
func problemOf(err error) *Problem {
	var p *step.Problem
	switch {
	case errors.As(err, &p):
		return newProblem(p)
	case errors.Is(err, context.DeadlineExceeded):
		return newProblem(step.Fail(step.ProblemTimeout, "the node may go on with it; 'souk events' tells", "no answer in time"))
	}
	return newProblem(step.Fail(step.ProblemOther, "", "%v", err))
}

// Problem is the core's problem that this one carries.
func (p *Problem) Problem() *step.Problem {
	text := p.Detail
	for _, e := range p.Errors {
		text += "; " + e.Error()
	}
	for _, k := range kinds {
		if k.word == p.Code {
			return &step.Problem{Code: k.code, Text: text, Hint: p.Hint}
		}
	}
	return &step.Problem{Code: step.ProblemOther, Text: text, Hint: p.Hint}
}

// Error is the problem without its hint.
func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(ct string) string {
	if ct == "application/json" {
		return "application/problem+json"
	}
	return ct
}

// ownErrors makes huma's own errors, of requests that do not fit their description, Problems too. That is one setting for
// the whole process.
var ownErrors = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		code := step.ProblemOther
		switch {
		case status == http.StatusNotFound:
			code = step.ProblemNotFound
		case status == http.StatusRequestTimeout:
			code = step.ProblemTimeout
		case status < 500:
			code = step.ProblemUsage
		}
		p := newProblem(step.Fail(code, "", "%s", strings.TrimSpace(msg)))
		p.Status = status
		for _, err := range errs {
			var d huma.ErrorDetailer
			if errors.As(err, &d) {
				p.Errors = append(p.Errors, d.ErrorDetail())
			} else if err != nil {
				p.Errors = append(p.Errors, &huma.ErrorDetail{Message: err.Error()})
			}
		}
		return p
	}
})
