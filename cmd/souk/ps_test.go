package main

import (
	"errors"
	"strings"
	"testing"

	"souk/market"
	"souk/node/core/consumer"
	"souk/node/core/step"
)

// TestNothingWaitsForWhatCannotCome asks each goal about each state: where a pod is down and nobody has told it to start,
// waiting for its run or its exit would never end.
func TestNothingWaitsForWhatCannotCome(t *testing.T) {
	for _, c := range []struct{ state, pending, reached, missed string }{
		{"held", "", "", ""},
		{"setup", "", "", ""},
		{"running", "", "running", ""},
		{"stopping", "", "", ""},
		{"stopped", "", "stopped", "running exit"},
		{"stopped", "start", "stopped", ""},
		{"outbid", "", "stopped outbid", "running exit"},
		{"outbid", "start", "stopped outbid", ""},
		{"hold", "", "stopped", "running exit"},
		{"hold", "start", "stopped", ""},
		{"hold", "remove", "stopped", "running exit"},
		{"exited", "", "stopped exit", "running"},
		{"failed", "", "stopped", "running outbid exit"},
		{"ended", "", "stopped ended", "running outbid exit"},
		{"ended", "start", "stopped ended", "running outbid exit"},
	} {
		v := consumer.View{State: c.state, Pending: c.pending}
		for name, g := range goals {
			reached := g.reached(v)
			if want := strings.Contains(" "+c.reached+" ", " "+name+" "); reached != want {
				t.Errorf("%s, %q ordered: reached %s %t, want %t", c.state, c.pending, name, reached, want)
			}
			missed := !reached && g.missed != nil && g.missed(v)
			if want := strings.Contains(" "+c.missed+" ", " "+name+" "); missed != want {
				t.Errorf("%s, %q ordered: missed %s %t, want %t", c.state, c.pending, name, missed, want)
			}
		}
	}
}

func TestMissedGoalsSayHowToGoOn(t *testing.T) {
	for _, state := range []market.State{market.StateStopped, market.StateOutbid, market.StateHold} {
		var p *step.Problem
		err := missed(consumer.View{Name: "p1", State: state.String()})
		if !errors.As(err, &p) || p.Code != step.ProblemConflict || p.Hint != "souk start p1" {
			t.Errorf("%v: got %#v; want a conflict and a hint", state, err)
		}
	}
}
