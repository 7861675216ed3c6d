package market

import (
	"testing"
)

// TestEveryTransition states for each pair of states whether a lease goes from the first (rows) to the second (columns).
func TestEveryTransition(t *testing.T) {
	const columns = 11 // held certified setup running stopping stopped outbid exited failed hold ended
	table := []struct {
		from State
		to   string
	}{
		{StateHeld /*     */, ".x........x"},
		{StateCertified /**/, "..x..xx.x.x"},
		{StateSetup /*    */, "...xxx.xx.."},
		{StateRunning /*  */, "..x.xx.xx.."},
		{StateStopping /* */, ".....xxxx.x"},
		{StateStopped /*  */, ".x.......xx"},
		{StateOutbid /*   */, ".x...x...xx"},
		{StateExited /*   */, ".x.......xx"},
		{StateFailed /*   */, ".x.......xx"},
		{StateHold /*     */, ".x........x"},
		{StateEnded /*    */, "..........."},
	}
	if len(table) != columns || len(stateNames) != columns+1 {
		t.Fatalf("%d states are tested, %d are known", len(table), len(stateNames)-1)
	}
	for i, row := range table {
		if row.from != State(i+1) {
			t.Fatalf("row %d is of %v", i, row.from)
		}
		for j := range columns {
			to := State(j + 1)
			want := row.to[j] == 'x'
			if err := row.from.Next(to); (err == nil) != want {
				t.Errorf("%v to %v: %v, want allowed %v", row.from, to, err, want)
			}
		}
		for _, to := range []State{0, State(columns + 1), 255} {
			if row.from.Next(to) == nil || to.Next(row.from) == nil {
				t.Errorf("%v goes to or comes from the unknown state %d", row.from, to)
			}
		}
	}
}

func TestEveryStateLeadsToTheEnd(t *testing.T) {
	for from := StateHeld; from < StateEnded; from++ {
		seen := map[State]bool{from: true}
		todo := []State{from}
		for len(todo) > 0 {
			s := todo[0]
			todo = todo[1:]
			for to := StateHeld; to <= StateEnded; to++ {
				if s.Next(to) == nil && !seen[to] {
					seen[to], todo = true, append(todo, to)
				}
			}
		}
		if !seen[StateEnded] {
			t.Errorf("a lease that is %v can never end", from)
		}
	}
}

func TestWhatStatesMean(t *testing.T) {
	for s, want := range map[State]struct{ up, owns bool }{
		0: {}, StateHeld: {}, StateCertified: {owns: true}, StateSetup: {true, true}, StateRunning: {true, true},
		StateStopping: {true, true}, StateStopped: {}, StateOutbid: {}, StateExited: {}, StateFailed: {}, StateHold: {},
		StateEnded: {}, 12: {},
	} {
		if s.Up() != want.up || s.Owns() != want.owns {
			t.Errorf("%v: up %v, owns %v; want %+v", s, s.Up(), s.Owns(), want)
		}
	}
}

func TestWordsOfCodes(t *testing.T) {
	for got, want := range map[string]string{
		State(0).String(): "unknown", StateOutbid.String(): "outbid", ReasonNone.String(): "",
		ReasonReplaced.String(): "replaced", EntryCommand.String(): "command",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if Reason(200).String() != "unknown" || State(200).String() != "unknown" || EntryKind(200).String() != "unknown" {
		t.Error("a code that nobody knows has a word")
	}
	if len(reasonNames) != int(reasonAfterLast) {
		t.Errorf("%d reasons, %d words", reasonAfterLast, len(reasonNames))
	}
	if b, err := StateExited.MarshalText(); err != nil || string(b) != "exited" {
		t.Errorf("text of exited: %q, %v", b, err)
	}
}
