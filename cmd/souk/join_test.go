package main

import (
	"strings"
	"testing"

	"souk/node/core/step"
)

func TestInviteIsReadFromStandardInput(t *testing.T) {
	for stdin, want := range map[string]string{
		"  souk1abc \nmore\n": "souk1abc",
		"souk1abc":            "souk1abc",
	} {
		e := &env{in: strings.NewReader(stdin)}
		if got, err := e.inviteCode(t.Context(), "-"); got != want || err != nil {
			t.Errorf("of %q: got %q, %v; want %q", stdin, got, err, want)
		}
	}
	e := &env{in: strings.NewReader("")}
	if _, err := e.inviteCode(t.Context(), "-"); err == nil || problem(err).Code != step.ProblemUsage {
		t.Errorf("no code: got %v; want a usage error", err)
	}
	if got, err := e.inviteCode(t.Context(), "souk1abc"); got != "souk1abc" || err != nil {
		t.Errorf("got %q, %v; want the argument", got, err)
	}
}

func TestNoticesSaySomething(t *testing.T) {
	for _, c := range []struct{ kind, text, want string }{
		{"join.approved", "", "the operator has approved this node"},
		{"join.approved", "welcome", "welcome"},
		{"some.news", "", "some.news"},
	} {
		if got := notice(step.Notice{Type: c.kind, Text: c.text}); got != c.want {
			t.Errorf("%s %q: got %q, want %q", c.kind, c.text, got, c.want)
		}
	}
}
