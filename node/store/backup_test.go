package store

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"souk/node/core/table"
)

func noted(Manifest) []Row { return []Row{{Key: noteKey, Value: []byte("restored")}} }

// withoutNote is a store's digest as if nothing had been noted in it.
func withoutNote(t testing.TB, s *Store) [32]byte {
	t.Helper()
	commit(t, s, Batch{Rows: []Row{{Key: noteKey, Delete: true}}})
	return digest(t, s)
}

func TestARestoredHomeIsTheHomeOfTheBackup(t *testing.T) {
	home, _, sum := mended(t)
	file := filepath.Join(t.TempDir(), "b")
	s := open(t, home)
	m, err := s.BackupFile(file, Manifest{Key: "k", Market: "m", At: 7})
	if err != nil || m.Frame != frames || m.Rows != 2*frames || m.Guards != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := s.BackupFile(file, Manifest{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second backup to the same file: %v", err)
	}
	commit(t, s, numbered(frames+1), numbered(frames+2))
	closed(t, s)
	if got, err := ReadBackup(file); err != nil || got != m {
		t.Errorf("read %+v, %v; want %+v", got, err, m)
	}

	fresh := t.TempDir()
	if _, err := Restore(fresh, file, false, noted); err != nil {
		t.Fatal(err)
	}
	s = open(t, fresh)
	if v, err := s.Get(noteKey); string(v) != "restored" {
		t.Errorf("the note is %q, %v", v, err)
	}
	if withoutNote(t, s) != sum {
		t.Error("another state")
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	closed(t, s)

	if _, err := Restore(home, file, false, noted); !errors.Is(err, ErrOccupied) {
		t.Errorf("over a ledger: %v", err)
	}
	s = open(t, home)
	if _, err := Restore(home, file, true, noted); err == nil {
		t.Error("over one that is open")
	}
	closed(t, s)
	if _, err := Restore(home, file, true, noted); err != nil {
		t.Fatal(err)
	}
	s = open(t, home) // it knows more than the backup: its places stay taken
	defer closed(t, s)
	var twice *SignedTwice
	if err := s.Commit([]Batch{numbered(frames + 1)}); !errors.As(err, &twice) {
		t.Errorf("a place that the old home took: %v", err)
	}
	if n := len(rows(t, s, table.Key(table.BankEntry))); n != frames {
		t.Errorf("%d rows, want %d", n, frames)
	}
}

// A backup with any bit turned, or cut anywhere, is refused, and the home stays as it was.
func TestADamagedBackupIsRefused(t *testing.T) {
	dir := t.TempDir()
	written(t, dir, 3, quiet)
	file := filepath.Join(t.TempDir(), "b")
	s := open(t, dir)
	if _, err := s.BackupFile(file, Manifest{Key: "k"}); err != nil {
		t.Fatal(err)
	}
	sum := digest(t, s)
	closed(t, s)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	for at := range good {
		for name, b := range map[string][]byte{"flipped": append([]byte(nil), good...), "cut": good[:at]} {
			if name == "flipped" {
				b[at] ^= 1 << (at % 8)
			}
			if err := os.WriteFile(bad, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadBackup(bad); !errors.Is(err, ErrNoBackup) {
				t.Fatalf("%s at %d: %v", name, at, err)
			}
		}
	}
	if _, err := Restore(dir, bad, true, noted); !errors.Is(err, ErrNoBackup) {
		t.Errorf("restoring a damaged one: %v", err)
	}
	s = open(t, dir)
	defer closed(t, s)
	if digest(t, s) != sum {
		t.Error("the home was changed")
	}
}

// A backup that is made while others commit is of one moment: no batch is in it by half.
func TestABackupIsOfOneMoment(t *testing.T) {
	s := open(t, t.TempDir())
	defer closed(t, s)
	commit(t, s, numbered(1))
	var busy sync.WaitGroup
	stop := make(chan struct{})
	busy.Go(func() {
		for n := uint64(2); ; n++ {
			select {
			case <-stop:
				return
			default:
				if err := s.Commit([]Batch{numbered(n)}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 20 {
		file := filepath.Join(t.TempDir(), "b")
		if _, err := s.BackupFile(file, Manifest{}); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if _, err := Restore(dir, file, false, noted); err != nil {
			t.Fatal(err)
		}
		r := open(t, dir)
		top, _, _ := r.Guarded([]byte("bank"))
		if a, b := len(rows(t, r, table.Key(table.BankEntry))), len(rows(t, r, table.Key(table.Config))); uint64(a) != top || a != b {
			t.Errorf("%d and %d rows, guarded up to %d", a, b, top)
		}
		closed(t, r)
	}
	close(stop)
	busy.Wait()
}
