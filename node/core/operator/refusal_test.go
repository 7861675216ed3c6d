package operator

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"souk/ledger"
)

// TestRefusalsAreThoseOfTheProtocol compares what a peer sees of each of the bank's codes with the table in docs/protocol.
func TestRefusalsAreThoseOfTheProtocol(t *testing.T) {
	page, err := os.ReadFile("../../../docs/protocol/ledger.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## Refusals\n")
	for c := ledger.CodeMalformed; c.String() != "unknown-code"; c++ {
		row := fmt.Sprintf("\n| %d | %v | %d | ", c, c, refusal(&ledger.Refused{Code: c}).Code)
		if !strings.Contains(table, row) {
			t.Errorf("the page has no row that begins with %q", strings.TrimSpace(row))
		}
	}
}
