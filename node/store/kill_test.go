package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"souk/node/core/table"
)

// The test binary, started again with this variable naming a home, is a node that commits until it is killed.
const childHome = "SOUK_STORE_TEST_HOME"

// childBackup names a file that it is to make a backup in first.
const childBackup = "SOUK_STORE_TEST_BACKUP"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childHome); dir != "" {
		if err := errors.Join(unsynced(), os.MkdirAll(dir, 0o700)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		commits := commitUntilKilled
		if os.Getenv("SOUK_STORE_TEST_COMMITS") != "" {
			commits = endless
		}
		if err := commits(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// unsynced turns syncing off in a child that is to show what it is good for.
var unsynced = func() error { return nil }

// endless is a child that commits until it is told to end.
var endless func(dir string) error

// tiny makes the child pass rotation and growth often.
func tiny() Options {
	o := quiet
	o.SegmentSize = 20_000
	o.Repair = func(l Loss) []Row { return []Row{{Key: noteKey, Value: []byte(l.String())}} }
	return o
}

// commitUntilKilled goes on where the home ends, and writes the number of each batch to standard output once it is
// durable. It ends by itself after 3,000 batches, lest a test that loses its child leaves it running.
func commitUntilKilled(dir string) error {
	s, err := Open(dir, tiny())
	if err != nil {
		return err
	}
	if path := os.Getenv(childBackup); path != "" {
		if _, err := s.BackupFile(path, Manifest{}); err != nil {
			return err
		}
	}
	next, _, _ := s.Guarded([]byte("bank"))
	ctx, stop := context.WithCancel(context.Background())
	c := NewCommitter(s)
	ended := running(ctx, c)
	if next > 0 {
		c.Submit(numbered(next)) // what a crash kept from leaving is signed again
	}
	for n := next + 1; n <= next+3000; n++ {
		b := numbered(n)
		b.Done = func(err error) {
			if err == nil {
				fmt.Println(n)
			}
		}
		c.Submit(b)
	}
	stop()
	return errors.Join(<-ended, s.Close())
}

// child starts such a node. It returns the last number acknowledged, having killed the node after `acks` of them, or with
// acks 0 having waited until it died.
func child(t *testing.T, dir string, acks int, env ...string) (last uint64, state *os.ProcessState) {
	t.Helper()
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, childHome+"="+dir)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 1; lines.Scan(); n++ {
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			t.Errorf("the child says %q", lines.Text())
		}
		if n == acks {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd.Wait() // its error is that it was killed; the state says so
	return last, cmd.ProcessState
}

// whole opens the home and checks that nothing acknowledged is missing and nothing is there by half.
func whole(t *testing.T, dir string, acknowledged uint64) {
	t.Helper()
	s, err := Open(dir, tiny())
	if err != nil {
		t.Fatalf("Open after %d were acknowledged: %v", acknowledged, err)
	}
	defer closed(t, s)
	top, _, _ := s.Guarded([]byte("bank"))
	if top < acknowledged {
		t.Errorf("guarded up to %d, but %d was acknowledged", top, acknowledged)
	}
	moneys, plain := rows(t, s, table.Key(table.BankEntry)), rows(t, s, table.Key(table.Config))
	if uint64(len(moneys)) != top {
		t.Errorf("%d money rows, want %d as the guard says", len(moneys), top)
	}
	if len(plain) != len(moneys) {
		t.Errorf("%d plain rows, want %d as of money: a batch is there by half", len(plain), len(moneys))
	}
	if err := s.Check(); err != nil {
		t.Errorf("Check: %v", err)
	}
	if _, err := s.Get(noteKey); err == nil {
		t.Error("it is in quarantine")
	}
	renewed, _ := filepath.Glob(filepath.Join(dir, "db.damaged-*")) // then the whole index is made anew
	if r := s.Recovery(); r.Replayed > ahead && len(renewed) == 0 {
		t.Errorf("the index lacked %d frames, want at most %d", r.Replayed, ahead)
	}
}

func TestKilledNodesKeepWhatTheyAcknowledged(t *testing.T) {
	dir := t.TempDir()
	var last uint64
	for round, acks := range []int{1, 40, 333, 777, 2} {
		n, state := child(t, dir, acks)
		if !strings.Contains(state.String(), "killed") && n < last+3000 {
			t.Fatalf("round %d: the child ended with %s after %d", round, state, n)
		}
		last = max(last, n)
		whole(t, dir, last)
	}
}
