package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"souk/node/config"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/node/store"
)

// storedHome is a home with a store of three frames, and no node.
func storedHome(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := (config.Config{Home: dir, Roles: []string{"host"}}).Save(); err != nil {
		t.Fatal(err)
	}
	commit(t, dir, 1, 3)
	return dir
}

// commit puts events into the store of a home, each in a frame of its own.
func commit(t *testing.T, dir string, from, to uint64) {
	t.Helper()
	s, err := store.Open(dir, storeOptions())
	if err != nil {
		t.Fatal(err)
	}
	for i := from; i <= to; i++ {
		row := store.Row{Key: table.Key(table.Event, table.Uint64(i)), Value: []byte("told")}
		if err := s.Commit([]store.Batch{{Rows: []store.Row{row}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedIndexIsRebuilt(t *testing.T) {
	dir := storedHome(t)
	if out, errs, code := call(t, dir, "", "ledger", "check"); code != 0 || !strings.Contains(out, "sound, 3 frames") {
		t.Fatalf("check: %d\n%s%s", code, out, errs)
	}
	if err := os.WriteFile(filepath.Join(dir, "db", "MANIFEST"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := call(t, dir, "", "ledger", "check"); code != int(step.ProblemVerify) || !strings.Contains(errs, "hint: souk ledger rebuild") {
		t.Errorf("check of a damaged index: %d\n%s", code, errs)
	}
	out, errs, code := call(t, dir, "", "ledger", "rebuild")
	if code != 0 || !strings.Contains(out, "sound, 3 frames") || !strings.Contains(out, "db.damaged-") {
		t.Errorf("rebuild: %d\n%s%s", code, out, errs)
	}
	s, err := store.Open(dir, storeOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 3 {
		if b, err := s.Get(table.Key(table.Event, table.Uint64(uint64(i+1)))); string(b) != "told" {
			t.Errorf("row %d is %q, %v after the rebuild", i+1, b, err)
		}
	}
	if _, errs, code := call(t, dir, "", "ledger", "rebuild"); code != int(step.ProblemConflict) {
		t.Errorf("a store in use was rebuilt: %d\n%s", code, errs)
	}
}

// TestRebuildForgetsNoSignature puts an old copy of the journal back: an index made from it would not know what was signed since.
func TestRebuildForgetsNoSignature(t *testing.T) {
	dir := storedHome(t)
	list, err := filepath.Glob(filepath.Join(dir, "journal", "*.journal"))
	if err != nil || len(list) != 1 {
		t.Fatalf("segments %v, %v", list, err)
	}
	old, err := os.ReadFile(list[0])
	if err != nil {
		t.Fatal(err)
	}
	commit(t, dir, 4, 5)
	if err := os.WriteFile(list[0], old, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"check", "rebuild"} {
		_, errs, code := call(t, dir, "", "ledger", verb)
		if code != int(step.ProblemVerify) || !strings.Contains(errs, "quarantine") || !strings.Contains(errs, "hint: ") {
			t.Errorf("%s: %d\n%s", verb, code, errs)
		}
	}
	if old, _ := setAside(dir); len(old) > 0 {
		t.Errorf("%v was put aside", old)
	}
}

func TestHomeWithoutJournalIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := (config.Config{Home: dir}).Save(); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"check", "rebuild"} {
		if _, errs, code := call(t, dir, "", "ledger", verb); code != int(step.ProblemNotFound) {
			t.Errorf("%s: %d\n%s", verb, code, errs)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "db")); err == nil {
		t.Errorf("a store was made")
	}
}
