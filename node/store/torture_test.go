package store

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var tortureFlag = flag.Bool("torture", false, "long campaigns")

// rounds is how often a campaign does what it does.
func rounds(short, long int) int {
	if *tortureFlag {
		return long
	}
	return short
}

// sparseCopy copies a home, and of its files only what is not zero: most of a database's are room.
func sparseCopy(t testing.TB, from, to string) {
	t.Helper()
	zero := make([]byte, 64<<10)
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, path)
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(filepath.Join(to, rel), 0o700))
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(to, rel))
		if err != nil {
			return err
		}
		for at := 0; at < len(b) && err == nil; at += len(zero) {
			part := b[at:min(at+len(zero), len(b))]
			if !bytes.Equal(part, zero[:len(part)]) {
				_, err = f.WriteAt(part, int64(at))
			}
		}
		return errors.Join(err, f.Truncate(int64(len(b))), f.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// flippable are the files of a home and how many of their bytes say something: up to the last that is not zero, and a few.
func flippable(t testing.TB, dir string) (files []string, sizes []int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		if n := len(bytes.TrimRight(b, "\x00")); n > 0 {
			files, sizes = append(files, rel), append(sizes, min(len(b), n+64))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, sizes
}

// TestTortureFlips turns one bit of one file of a home, anywhere: the home opens with everything, or in quarantine. The homes
// are one that was closed well, one whose database is a log as a crash leaves it, and one of many tables.
func TestTortureFlips(t *testing.T) {
	base := t.TempDir()
	var homes []string
	var sum [32]byte
	for i, live := range []bool{false, true} {
		dir := filepath.Join(base, fmt.Sprint("made-", i))
		s, err := Open(dir, mending())
		if err != nil {
			t.Fatal(err)
		}
		for n := uint64(1); n <= frames; n++ {
			commit(t, s, numbered(n))
			if n == frames/2 && live { // one half in a table, one in the log
				closed(t, s)
				if s, err = Open(dir, mending()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if live {
			homes = append(homes, filepath.Join(base, "live"))
			sparseCopy(t, dir, homes[i])
			sum = digest(t, s)
			closed(t, s)
			continue
		}
		closed(t, s)
		homes = append(homes, dir)
	}
	lots := rand.New(rand.NewPCG(1, 2))
	var intact, repaired, quarantined int
	n := rounds(60, 1000)
	work := filepath.Join(base, "work")
	for range n {
		home := homes[lots.IntN(len(homes))]
		files, sizes := flippable(t, home)
		which := lots.IntN(len(files))
		at, bit := lots.IntN(sizes[which]), lots.IntN(8)
		what := fmt.Sprintf("%s %s byte %d bit %d", filepath.Base(home), files[which], at, bit)
		if err := os.RemoveAll(work); err != nil {
			t.Fatal(err)
		}
		sparseCopy(t, home, work)
		f, err := os.OpenFile(filepath.Join(work, files[which]), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		f.ReadAt(b, int64(at))
		b[0] ^= 1 << bit
		if _, err := f.WriteAt(b, int64(at)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		s, err := Open(work, mending())
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		same := digest(t, s) == sum
		_, noted := s.Get(noteKey)
		switch r := s.Recovery(); {
		case r.Lost != nil && noted == nil && len(r.Lost.String()) > 0:
			quarantined++
			if top, _, _ := s.Guarded([]byte("bank")); top != frames && len(r.Lost.Holes) == 0 {
				t.Errorf("%s: guarded up to %d, and no hole is named", what, top)
			}
		case !same:
			t.Fatalf("%s: something is missing, and nothing was said: %+v", what, r)
		case r.Rebuilt || r.Renewed || r.Replayed > 0 || r.Cut > 0:
			repaired++
		default:
			intact++
		}
		if err := s.Check(); err != nil {
			t.Errorf("%s: Check: %v", what, err)
		}
		closed(t, s)
	}
	t.Logf("flips: %d single bits turned over every file of a home: %d repaired, %d in quarantine, %d without effect, 0 silent", n, repaired, quarantined, intact)
	if repaired == 0 {
		t.Error("the campaign hit too little")
	}
}

// TestTortureRebuild makes an index anew from a journal of many records.
func TestTortureRebuild(t *testing.T) {
	records := rounds(20_000, 1_000_000)
	dir := t.TempDir()
	s := open(t, dir)
	for n := 0; n < records; {
		var b Batch
		for range 400 {
			b.Rows = append(b.Rows, Row{Key: money(uint64(n)), Value: bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 100)})
			n++
		}
		b.Guards = []Guard{{Chain: []byte("bank"), Place: uint64(n)}}
		commit(t, s, b)
	}
	sum := digest(t, s)
	closed(t, s)
	if err := os.WriteFile(filepath.Join(dir, "db", "MANIFEST"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	s, err := Open(dir, mending())
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	if !s.Recovery().Rebuilt || digest(t, s) != sum {
		t.Fatalf("%+v, same state %v", s.Recovery(), digest(t, s) == sum)
	}
	closed(t, s)
	t.Logf("rebuild: %d records of 200 bytes in %.1f s, the same state hash", records, took.Seconds())
	if took > 60*time.Second {
		t.Errorf("it took %v, want at most 60 s", took)
	}
}
