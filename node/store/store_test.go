package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"souk/node/core/table"
)

// quiet is what tests open with: no log, no look at the disk that they share.
var quiet = Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), MinFree: -1}

// temporary is a directory for property tests, which have no t.TempDir per draw.
func temporary(t interface{ Fatal(...any) }) (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "souk-store-")
	if err != nil {
		t.Fatal(err)
	}
	return dir, func() { os.RemoveAll(dir) }
}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, quiet)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

func closed(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func money(n uint64) []byte  { return table.Key(table.BankEntry, table.Uint64(n)) }
func config(n uint64) []byte { return table.Key(table.Config, fmt.Appendf(nil, "key-%06d", n)) }

// numbered is a batch that says n in a money row, a plain row and a guard.
func numbered(n uint64) Batch {
	return Batch{
		Rows:   []Row{{Key: money(n), Value: fmt.Appendf(nil, "entry %d", n)}, {Key: config(n), Value: []byte("v")}},
		Guards: []Guard{{Chain: []byte("bank"), Place: n, Hash: sha256.Sum256(money(n))}},
	}
}

func commit(t testing.TB, s interface{ Commit([]Batch) error }, batches ...Batch) {
	t.Helper()
	if err := s.Commit(batches); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// rows is everything below a prefix as text, for comparison.
func rows(t testing.TB, s reader, prefix []byte) []string {
	t.Helper()
	var all []string
	err := s.Scan(prefix, func(key, value []byte) error {
		all = append(all, fmt.Sprintf("%x=%s", key, value))
		return nil
	})
	if err != nil {
		t.Fatalf("Scan(%x): %v", prefix, err)
	}
	return all
}

// reader is what Store and Memory have in common.
type reader interface {
	Commit(batches []Batch) error
	Get(key []byte) ([]byte, error)
	Scan(prefix []byte, fn func(key, value []byte) error) error
	Range(from, to []byte, limit int, reverse bool, fn func(key, value []byte) error) error
	Guarded(chain []byte) (place uint64, hash [32]byte, ok bool)
	Close() error
}

func both(t *testing.T, claim func(t *testing.T, s reader)) {
	t.Run("store", func(t *testing.T) {
		s := open(t, t.TempDir())
		claim(t, s)
		closed(t, s)
	})
	t.Run("memory", func(t *testing.T) { claim(t, NewMemory()) })
}

func TestReadsGiveWhatWasCommitted(t *testing.T) {
	both(t, func(t *testing.T, s reader) {
		for n := uint64(1); n <= 5; n++ {
			commit(t, s, numbered(n))
		}
		commit(t, s, Batch{Rows: []Row{{Key: money(3), Delete: true}, {Key: money(4), Value: []byte("changed")}}})

		if got, err := s.Get(money(4)); string(got) != "changed" || err != nil {
			t.Errorf("Get(4) = %q, %v; want the changed value", got, err)
		}
		if _, err := s.Get(money(3)); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get of a deleted row: %v, want ErrNotFound", err)
		}
		list := func(from, to []byte, limit int, reverse bool) (got []uint64) {
			err := s.Range(from, to, limit, reverse, func(key, _ []byte) error {
				got = append(got, table.Number(table.Field(key, 0)))
				return nil
			})
			if err != nil {
				t.Fatalf("Range: %v", err)
			}
			return got
		}
		end := table.After(table.Key(table.BankEntry))
		for _, c := range []struct {
			from, to []byte
			limit    int
			reverse  bool
			want     []uint64
		}{
			{money(0), end, 0, false, []uint64{1, 2, 4, 5}},
			{money(0), end, 0, true, []uint64{5, 4, 2, 1}},
			{money(2), money(5), 0, false, []uint64{2, 4}},
			{money(2), money(5), 0, true, []uint64{4, 2}},
			{money(0), end, 2, false, []uint64{1, 2}},
			{money(0), end, 1, true, []uint64{5}},
			{money(6), end, 0, false, nil},
			{money(5), money(2), 0, false, nil},
		} {
			if got := list(c.from, c.to, c.limit, c.reverse); !slices.Equal(got, c.want) {
				t.Errorf("Range(%x, %x, limit %d, reverse %v) = %v, want %v", c.from, c.to, c.limit, c.reverse, got, c.want)
			}
		}
		seen := 0
		err := s.Scan(table.Key(table.BankEntry), func(_, _ []byte) error { seen++; return fs.SkipAll })
		if err != nil || seen != 1 {
			t.Errorf("Scan with SkipAll: %v after %d rows, want nil after 1", err, seen)
		}
		stop := errors.New("enough")
		if err := s.Scan(nil, func(_, _ []byte) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("Scan gives %v, want the error of fn", err)
		}
	})
}

func TestNoPlaceIsSignedTwice(t *testing.T) {
	a, b := [32]byte{1}, [32]byte{2}
	guard := func(place uint64, hash [32]byte) Guard {
		return Guard{Chain: []byte("lease"), Place: place, Hash: hash}
	}
	both(t, func(t *testing.T, s reader) {
		for _, c := range []struct {
			name    string
			guards  []Guard
			refused bool
		}{
			{"a first place", []Guard{guard(7, a)}, false},
			{"the same again", []Guard{guard(7, a)}, false},
			{"the same place, another payload", []Guard{guard(7, b)}, true},
			{"a lower place", []Guard{guard(6, a)}, true},
			{"another chain", []Guard{{Chain: []byte("other"), Place: 7, Hash: b}}, false},
			{"two places in one batch", []Guard{guard(8, b), guard(9, a)}, false},
			{"one place twice in one batch", []Guard{guard(10, a), guard(10, b)}, true},
			{"the next", []Guard{guard(10, b)}, false},
		} {
			row := Row{Key: table.Key(table.Config, []byte(c.name)), Value: []byte("x")}
			var told []error
			err := s.Commit([]Batch{{Rows: []Row{row}, Guards: c.guards, Done: func(err error) { told = append(told, err) }}})
			var twice *SignedTwice
			if errors.As(err, &twice) != c.refused || err != nil != c.refused {
				t.Errorf("%s: %v, want refused %v", c.name, err, c.refused)
			}
			if len(told) != 1 || !errors.Is(told[0], err) {
				t.Errorf("%s: Done was told %v, want once %v", c.name, told, err)
			}
			if _, err := s.Get(row.Key); errors.Is(err, ErrNotFound) != c.refused {
				t.Errorf("%s: its row: %v", c.name, err)
			}
		}
		if place, hash, ok := s.Guarded([]byte("lease")); place != 10 || hash != b || !ok {
			t.Errorf("Guarded = %d, %x, %v; want 10, %x", place, hash[:2], ok, b[:2])
		}
		if _, _, ok := s.Guarded([]byte("nobody")); ok {
			t.Error("an unknown chain is guarded")
		}
	})
}

func TestRowsOutsideTheLayoutAreRefused(t *testing.T) {
	both(t, func(t *testing.T, s reader) {
		for name, b := range map[string]Batch{
			"unknown table":     {Rows: []Row{{Key: []byte{0x99, 1}}}},
			"the store's own":   {Rows: []Row{{Key: positionKey, Value: make([]byte, 40)}}},
			"the guard's":       {Rows: []Row{{Key: table.Key(table.Guard, []byte("bank"))}}},
			"a short key":       {Rows: []Row{{Key: money(1)[:5]}}},
			"no key":            {Rows: []Row{{}}},
			"a huge value":      {Rows: []Row{{Key: config(1), Value: make([]byte, 1<<20)}}},
			"a guard of nobody": {Guards: []Guard{{Place: 1}}},
		} {
			if err := s.Commit([]Batch{b}); err == nil {
				t.Errorf("%s: committed", name)
			}
		}
		if got := rows(t, s, table.Key(table.Config)); got != nil {
			t.Errorf("refused batches left %q", got)
		}
	})
}

// TestStoreBehavesAsAMap drives a Store and a Memory with the same commits, closings and crashes of the memory, and
// compares both with a plain map.
func TestStoreBehavesAsAMap(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, remove := temporary(r)
		defer remove()
		small := quiet
		small.SegmentSize = 2048 // many rotations
		s, err := Open(dir, small)
		if err != nil {
			r.Fatalf("Open: %v", err)
		}
		defer func() { s.Close() }()
		mem, model, place := NewMemory(), map[string]string{}, uint64(0)

		key := rapid.Custom(func(r *rapid.T) []byte {
			n := rapid.Uint64Range(0, 20).Draw(r, "n")
			if rapid.Bool().Draw(r, "money") {
				return money(n)
			}
			return config(n)
		})
		batch := rapid.Custom(func(r *rapid.T) Batch {
			var b Batch
			for range rapid.IntRange(0, 4).Draw(r, "rows") {
				b.Rows = append(b.Rows, Row{
					Key:    key.Draw(r, "key"),
					Value:  rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(r, "value"),
					Delete: rapid.Bool().Draw(r, "delete"),
				})
			}
			return b
		})
		r.Repeat(map[string]func(*rapid.T){
			"commit": func(r *rapid.T) {
				batches := rapid.SliceOfN(batch, 1, 4).Draw(r, "batches")
				for i := range batches {
					if rapid.Bool().Draw(r, "guard") {
						place++
						batches[i].Guards = []Guard{{Chain: []byte("c"), Place: place, Hash: [32]byte{byte(place)}}}
					}
					for _, row := range batches[i].Rows {
						if row.Delete {
							delete(model, string(row.Key))
						} else {
							model[string(row.Key)] = string(row.Value)
						}
					}
					mem.Submit(batches[i])
				}
				if err := s.Commit(batches); err != nil {
					r.Fatalf("Commit: %v", err)
				}
				if err := mem.Flush(); err != nil {
					r.Fatalf("Flush: %v", err)
				}
			},
			"reopen": func(r *rapid.T) {
				if rapid.IntRange(0, 4).Draw(r, "seldom") > 0 {
					r.Skip() // opening is most of the cost
				}
				if err := s.Close(); err != nil {
					r.Fatalf("Close: %v", err)
				}
				if s, err = Open(dir, small); err != nil {
					r.Fatalf("Open: %v", err)
				}
				if got := s.Recovery(); got != (Recovery{}) {
					r.Fatalf("a clean opening recovered %+v", got)
				}
			},
			"crash": func(r *rapid.T) {
				mem.Submit(Batch{Rows: []Row{{Key: money(1), Value: []byte("lost")}}})
				mem.Crash()
			},
			"": func(r *rapid.T) {
				for name, have := range map[string]reader{"store": s, "memory": mem} {
					got := map[string]string{}
					last := []byte(nil)
					err := have.Scan(nil, func(k, v []byte) error {
						if last != nil && bytes.Compare(last, k) >= 0 {
							r.Fatalf("%s: key %x after %x", name, k, last)
						}
						last = bytes.Clone(k)
						if table.Table(k[0]).Kind() != table.Own {
							got[string(k)] = string(v)
						}
						return nil
					})
					if err != nil {
						r.Fatalf("%s: Scan: %v", name, err)
					}
					if fmt.Sprint(got) != fmt.Sprint(model) {
						r.Fatalf("%s has %q, want %q", name, got, model)
					}
					if at, _, _ := have.Guarded([]byte("c")); at != place {
						r.Fatalf("%s: guarded up to %d, want %d", name, at, place)
					}
				}
				if err := s.Check(); err != nil {
					r.Fatalf("Check: %v", err)
				}
			},
		})
	})
}

func TestOneProcessHasAHome(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := Open(dir, quiet)
	var locked *Locked
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Fatalf("second Open: %v, want *Locked with pid %d", err, os.Getpid())
	}
	if want := fmt.Sprintf("another souk node runs on this home (pid %d)", os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("it says %q, want %q in it", err, want)
	}
	closed(t, s)
	closed(t, open(t, dir))
}

func TestANewerFormatDoesNotOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.index.put([]Row{{Key: formatKey, Value: []byte{0, 0, 0, format + 1}}}); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	_, err := Open(dir, quiet)
	var newer *NewerFormat
	if !errors.As(err, &newer) || newer.Found != format+1 || newer.Known != format {
		t.Fatalf("Open: %v, want *NewerFormat %d", err, format+1)
	}
}

func TestAFullDiskRefusesBeforeWriting(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	commit(t, s, numbered(1))
	before := s.journal.last
	s.opts.MinFree = 1 << 62
	var told error
	b := numbered(2)
	b.Done = func(err error) { told = fmt.Errorf("done: %w", err) }
	if err := s.Commit([]Batch{b}); !errors.Is(err, ErrDiskFull) || told != nil {
		t.Fatalf("Commit on a full disk: %v, Done %v; want ErrDiskFull, and Done not yet", err, told)
	}
	if s.journal.last != before {
		t.Errorf("it wrote to the journal: %d, want %d", s.journal.last.Number, before.Number)
	}
	s.opts.MinFree = -1
	commit(t, s, numbered(2)) // room again
	closed(t, s)
	full := quiet
	full.MinFree = 1 << 62
	if _, err := Open(dir, full); !errors.Is(err, ErrDiskFull) {
		t.Errorf("Open on a full disk: %v, want ErrDiskFull", err)
	}
}

func TestALargeCommitIsCutBetweenBatches(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	var batches []Batch
	var told []uint64
	for n := range uint64(400) { // 1,200 records
		b := numbered(n + 1)
		b.Done = func(error) { told = append(told, n) }
		batches = append(batches, b)
	}
	lone := Batch{Rows: []Row{{Key: config(9), Value: make([]byte, 900<<10)}}}
	commit(t, s, append(batches, lone)...)
	if got := s.Position().Number; got != 4 {
		t.Errorf("1,200 records and a large batch took %d frames, want 3 and 1", got)
	}
	if !slices.IsSorted(told) || len(told) != 400 {
		t.Errorf("Done was called %d times, sorted %v; want 400 in order", len(told), slices.IsSorted(told))
	}

	over := lone
	over.Rows = append(over.Rows, Row{Key: config(10), Value: make([]byte, 900<<10)})
	err := s.Commit([]Batch{over})
	var large *TooLarge
	if !errors.As(err, &large) || large.Records != 2 || !strings.Contains(err.Error(), fmt.Sprint(large.Bytes)) {
		t.Errorf("a batch of 1.8 MB: %v, want *TooLarge naming its size", err)
	}
	var many Batch
	for n := range uint64(20_000) {
		many.Rows = append(many.Rows, Row{Key: config(n)})
	}
	if err := s.Commit([]Batch{many}); !errors.As(err, &large) || large.Records != 20_000 {
		t.Errorf("a batch of 20,000 records: %v, want *TooLarge", err)
	}
	commit(t, s, numbered(401)) // none of it did harm
}

// TestTheLargestBatchIsTaken shows that our limit lies within Badger's own.
func TestTheLargestBatchIsTaken(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	maxRecords, maxBytes := s.index.limits()
	var many Batch
	for n := range uint64(maxRecords) {
		many.Rows = append(many.Rows, Row{Key: config(n)})
	}
	commit(t, s, many)
	var wide Batch
	for _, size := 0, maxBytes; size > 0; {
		key := config(uint64(len(wide.Rows)))
		n := min(size-len(key)-overhead, 500<<10)
		wide.Rows = append(wide.Rows, Row{Key: key, Value: make([]byte, n)})
		if size -= n + len(key) + overhead; size < 100 {
			break
		}
	}
	commit(t, s, wide)
}

func TestRebuildKeepsAllButReplicas(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for n := uint64(1); n <= 700; n++ {
		commit(t, s, numbered(n))
	}
	want := rows(t, s, nil)
	closed(t, s)
	if err := os.WriteFile(filepath.Join(dir, "db", "MANIFEST"), []byte("no manifest"), 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *Damaged
	if _, err := Open(dir, quiet); !errors.As(err, &damaged) {
		t.Fatalf("Open with a broken manifest: %v, want *Damaged", err)
	}
	s, err := Rebuild(dir, quiet)
	if err != nil {
		t.Fatalf("Rebuild: %v", err)
	}
	defer s.Close()
	if got := rows(t, s, nil); !slices.Equal(got, want) {
		t.Errorf("rebuilt %d rows, want %d", len(got), len(want))
	}
	if got := s.Recovery().Replayed; got != 700 {
		t.Errorf("replayed %d frames, want 700", got)
	}
	if place, _, _ := s.Guarded([]byte("bank")); place != 700 {
		t.Errorf("guarded up to %d, want 700", place)
	}
	commit(t, s, numbered(701))
}

// What the journal has and the index has not is neither acknowledged nor forgotten: its places are taken at once, and the next
// opening brings it to the index.
func TestTheJournalMayBeAhead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	commit(t, s, numbered(1))
	for n := uint64(2); n <= 1+ahead; n++ {
		b := numbered(n)
		b.Done = func(error) { t.Errorf("batch %d is called done, and is not in the index", n) }
		if _, err := s.Journal([]Batch{b}); err != nil {
			t.Fatal(err)
		}
	}
	other := numbered(1 + ahead)
	other.Guards[0].Hash[0] ^= 1
	var twice *SignedTwice
	if _, err := s.Journal([]Batch{other}); !errors.As(err, &twice) {
		t.Errorf("another payload for a place that only the journal knows: %v, want *SignedTwice", err)
	}
	if got := s.Position().Number; got != 1 {
		t.Errorf("the position that both have is %d, want 1", got)
	}
	closed(t, s)
	s = open(t, dir)
	defer closed(t, s)
	if got := rows(t, s, table.Key(table.BankEntry)); len(got) != 1+ahead || s.Recovery().Replayed != ahead {
		t.Errorf("%d rows after %d frames were replayed, want %d and %d", len(got), s.Recovery().Replayed, 1+ahead, ahead)
	}
}

func TestAFailureOfTheIndexIsTheStores(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	var told []error
	b := numbered(1)
	b.Done = func(err error) { told = append(told, err) }
	at, err := s.Journal([]Batch{b})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.index.close(); err != nil {
		t.Fatal(err)
	}
	failed := s.Index([]Batch{b}, at)
	if failed == nil || len(told) != 1 || told[0] != failed {
		t.Errorf("Index over a closed database: %v, Done was told %v", failed, told)
	}
	if _, err := s.Journal([]Batch{numbered(2)}); err != failed {
		t.Errorf("Journal after that: %v, want %v", err, failed)
	}
}

func TestNothingIsIndexedAfterAFailure(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	at, err := s.Journal([]Batch{numbered(1)})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is gone")
	s.fail(broken) // as by the journal, writing the next group
	if err := s.Index([]Batch{numbered(1)}, at); err != broken {
		t.Errorf("Index: %v, want %v", err, broken)
	}
	if _, err := s.Get(money(1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("what came after the failure is in the index: %v", err)
	}
}
