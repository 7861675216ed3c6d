package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"souk/node/core/table"
)

// copyTree copies a home, so that each case damages its own.
func copyTree(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func segmentFiles(t testing.TB, dir string) []segment {
	t.Helper()
	list, err := segments(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// written is a home with the given number of frames, and where each ends in its segment.
func written(t testing.TB, dir string, frames int, opts Options) (ends []int64) {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	for n := range frames {
		commit(t, s, numbered(uint64(n+1)))
		ends = append(ends, s.journal.end)
	}
	closed(t, s)
	return ends
}

// TestATornWriteIsCut cuts the last frame at every byte, and again with the rest overwritten by zeros or noise, in a home
// whose index has not heard of it.
func TestATornWriteIsCut(t *testing.T) {
	dir := t.TempDir()
	ends := written(t, dir, 3, quiet)
	full, err := os.ReadFile(segmentFiles(t, dir)[0].path)
	if err != nil {
		t.Fatal(err)
	}
	behind := filepath.Join(t.TempDir(), "journal")
	name := segmentFiles(t, dir)[0].name()
	want := Position{}
	whole, err := readJournal(filepath.Join(dir, "journal"), want, func(p Position, _ []Row, _ []Guard) error {
		if p.Number == 2 {
			want = p
		}
		return nil
	})
	if err != nil || whole.last.Number != 3 || whole.torn {
		t.Fatalf("the whole journal reads %+v, %v", whole, err)
	}
	for at := ends[1]; at < ends[2]; at++ {
		for _, rest := range []string{"nothing", "zeros", "noise"} {
			torn := append([]byte(nil), full[:at]...)
			switch rest {
			case "zeros":
				torn = append(torn, make([]byte, 4096)...)
			case "noise":
				for i := at; i < ends[2]+100; i++ {
					torn = append(torn, byte(i*7+13)|1)
				}
			}
			if err := os.MkdirAll(behind, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(behind, name), torn, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readJournal(behind, Position{}, func(Position, []Row, []Guard) error { return nil })
			if err != nil || got.last != want || got.end != ends[1] {
				t.Fatalf("cut at %d, then %s: last %d at %d, %v; want 2 at %d", at, rest, got.last.Number, got.end, err, ends[1])
			}
			j, err := openJournal(behind, 1<<20, got)
			if err != nil {
				t.Fatalf("cut at %d, then %s: %v", at, rest, err)
			}
			if _, err := j.append([]Row{{Key: money(9), Value: []byte("after")}}, nil); err != nil {
				t.Fatal(err)
			}
			if err := j.close(); err != nil {
				t.Fatal(err)
			}
			again, err := readJournal(behind, want, func(p Position, rows []Row, _ []Guard) error {
				if p.Number != 3 || string(rows[0].Value) != "after" {
					t.Errorf("cut at %d, then %s: frame %d says %q", at, rest, p.Number, rows[0].Value)
				}
				return nil
			})
			if err != nil || again.last.Number != 3 || again.torn {
				t.Fatalf("cut at %d, then %s, appended: %+v, %v", at, rest, again, err)
			}
		}
	}
}

// TestEveryFlippedBitIsSeen flips each bit of the used part of a journal. Nothing that was acknowledged may be missing
// without an error.
func TestEveryFlippedBitIsSeen(t *testing.T) {
	dir := t.TempDir()
	ends := written(t, dir, 4, quiet)
	seg := segmentFiles(t, dir)[0]
	s := open(t, dir)
	known := s.indexed
	closed(t, s)
	whole, err := os.ReadFile(seg.path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), seg.name())
	damaged := append([]byte(nil), whole[:ends[3]]...)
	for bit := range ends[3] * 8 {
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(copied, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		damaged[bit/8] ^= 1 << (bit % 8)
		got, err := readJournal(filepath.Dir(copied), Position{}, func(Position, []Row, []Guard) error { return nil })
		var corrupt *Corrupt
		var newer *NewerFormat
		switch {
		case errors.As(err, &corrupt):
			if corrupt.Segment != seg.name() || corrupt.Offset > bit/8 {
				t.Fatalf("bit %d of byte %d: %v; want this segment and no later offset", bit%8, bit/8, err)
			}
		case errors.As(err, &newer), err == nil && got.last.Number < known.Number: // the index tells: see the next test
		default:
			t.Fatalf("bit %d of byte %d: read up to frame %d, %v", bit%8, bit/8, got.last.Number, err)
		}
		if err == nil && bit/8 < ends[2] {
			t.Fatalf("bit %d of byte %d: no error, though good frames follow", bit%8, bit/8)
		}
	}
}

// TestDamageEndsInAnError opens whole homes with damage at chosen places.
func TestDamageEndsInAnError(t *testing.T) {
	small := quiet
	small.SegmentSize = 600
	home := t.TempDir()
	written(t, home, 20, small)
	if n := len(segmentFiles(t, home)); n < 4 {
		t.Fatalf("%d segments, want several", n)
	}
	flip := func(t *testing.T, path string, at int64) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[at] ^= 0x10
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	last := func(list []segment) segment { return list[len(list)-1] }
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string, list []segment)
		fresh  bool // the index is gone too, so that every segment is read
		want   func(error) bool
	}{
		{"last frame", func(t *testing.T, dir string, list []segment) {
			end, err := readJournal(filepath.Join(dir, "journal"), Position{}, func(Position, []Row, []Guard) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			flip(t, last(list).path, end.end-3)
		}, false, isQuarantine},
		{"header of the last segment", func(t *testing.T, _ string, list []segment) { flip(t, last(list).path, 9) }, false, isCorrupt},
		{"no journal at all", func(t *testing.T, dir string, _ []segment) { os.RemoveAll(filepath.Join(dir, "journal")) }, false, isQuarantine},
		{"last segment lost", func(t *testing.T, _ string, list []segment) { os.Remove(last(list).path) }, false, isQuarantine},
		{"middle of an old segment, rebuilding", func(t *testing.T, _ string, list []segment) { flip(t, list[1].path, 200) }, true, isCorrupt},
		{"end of an old segment, rebuilding", func(t *testing.T, _ string, list []segment) {
			fi, _ := os.Stat(list[1].path)
			flip(t, list[1].path, fi.Size()-1)
		}, true, isCorrupt},
		{"an old segment lost, rebuilding", func(t *testing.T, _ string, list []segment) { os.Remove(list[1].path) }, true, isCorrupt},
		{"the first segment lost, rebuilding", func(t *testing.T, _ string, list []segment) { os.Remove(list[0].path) }, true, isCorrupt},
		{"a segment under another's name", func(t *testing.T, _ string, list []segment) {
			b, _ := os.ReadFile(list[0].path)
			os.WriteFile(last(list).path, b, 0o600)
		}, false, isCorrupt},
		{"a stranger's file", func(t *testing.T, dir string, _ []segment) {
			os.WriteFile(filepath.Join(dir, "journal", "zz.journal"), nil, 0o600)
		}, false, isCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyTree(t, home)
			c.damage(t, dir, segmentFiles(t, dir))
			if c.fresh {
				os.RemoveAll(filepath.Join(dir, "db"))
			}
			s, err := Open(dir, small)
			if err == nil {
				s.Close()
			}
			if !c.want(err) {
				t.Errorf("Open: %v", err)
			}
		})
	}
}

func isCorrupt(err error) bool    { var c *Corrupt; return errors.As(err, &c) }
func isQuarantine(err error) bool { return errors.Is(err, ErrQuarantine) }

func TestAnotherHomesJournalIsQuarantine(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	written(t, a, 3, quiet)
	s := open(t, b)
	for n := uint64(1); n <= 5; n++ {
		commit(t, s, Batch{Rows: []Row{{Key: money(n), Value: []byte("other")}}})
	}
	closed(t, s)
	os.RemoveAll(filepath.Join(a, "journal"))
	if err := os.CopyFS(filepath.Join(a, "journal"), os.DirFS(filepath.Join(b, "journal"))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(a, quiet); !isQuarantine(err) {
		t.Errorf("Open: %v, want ErrQuarantine", err)
	}
}

// TestALaggingIndexCatchesUp opens an index that is older than the journal, or gone.
func TestALaggingIndexCatchesUp(t *testing.T) {
	small := quiet
	small.SegmentSize = 1000
	for _, lag := range []int{1, 2, 5, 12} {
		dir := t.TempDir()
		written(t, dir, 12-lag, small)
		older := copyTree(t, dir)
		s, err := Open(dir, small)
		if err != nil {
			t.Fatal(err)
		}
		for n := 12 - lag; n < 12; n++ {
			commit(t, s, numbered(uint64(n+1)))
		}
		want := rows(t, s, table.Key(table.BankEntry))
		closed(t, s)

		os.RemoveAll(filepath.Join(dir, "db"))
		if lag < 12 {
			if err := os.Rename(filepath.Join(older, "db"), filepath.Join(dir, "db")); err != nil {
				t.Fatal(err)
			}
		}
		s, err = Open(dir, small)
		if err != nil {
			t.Fatalf("lag %d: %v", lag, err)
		}
		got := rows(t, s, table.Key(table.BankEntry))
		if len(got) != 12 || len(want) != 12 || got[11] != want[11] || s.Recovery().Replayed != lag {
			t.Errorf("lag %d: %d rows after replaying %d frames, want 12 after %d", lag, len(got), s.Recovery().Replayed, lag)
		}
		if place, _, _ := s.Guarded([]byte("bank")); place != 12 {
			t.Errorf("lag %d: guarded up to %d, want 12", lag, place)
		}
		closed(t, s)
	}
}

func TestAHalfMadeSegmentIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	written(t, dir, 2, quiet)
	if err := os.WriteFile(filepath.Join(dir, "journal", "0000000000000003.journal.new"), []byte("SOUK"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	commit(t, s, numbered(3))
	closed(t, s)
}

// TestAValueCannotForgeAFrame tears a frame whose value is itself a frame, made with all but the segment's salt.
func TestAValueCannotForgeAFrame(t *testing.T) {
	dir := t.TempDir()
	ends := written(t, dir, 1, quiet)
	forged, _ := appendFrame(nil, [saltSize]byte{}, Position{Number: 2}, []Row{{Key: money(7)}}, nil)
	s := open(t, dir)
	commit(t, s, Batch{Rows: []Row{{Key: money(2), Value: forged}}})
	end := s.journal.end
	closed(t, s)
	path := segmentFiles(t, dir)[0].path
	if err := os.Truncate(path, end-8); err != nil {
		t.Fatal(err)
	}
	got, err := readJournal(filepath.Dir(path), Position{}, func(Position, []Row, []Guard) error { return nil })
	if err != nil || got.end != ends[0] || !got.torn {
		t.Errorf("read %+v, %v; want a torn tail behind %d", got, err, ends[0])
	}
}

func FuzzFrameBody(f *testing.F) {
	b := numbered(3)
	f.Add(appendBody(nil, b.Rows, b.Guards))
	f.Add(appendBody(nil, []Row{{Key: money(1), Delete: true}}, nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, body []byte) {
		rows, guards, err := decodeBody(body)
		if err != nil {
			return
		}
		if again := appendBody(nil, rows, guards); string(again) != string(body) {
			t.Errorf("%x decodes and encodes as %x", body, again)
		}
	})
}

func TestReplicasSkipTheJournal(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	theirs := table.Key(table.Offer, make([]byte, 20))
	ours := table.Key(table.Offer, bytes.Repeat([]byte{1}, 20))
	commit(t, s, Batch{Rows: []Row{{Key: theirs, Value: []byte("v")}}})
	if n := s.Position().Number; n != 0 {
		t.Errorf("a commit of a replica began a journal: %d frames", n)
	}
	commit(t, s, Batch{Rows: []Row{{Key: theirs, Value: []byte("w")}}},
		Batch{Rows: []Row{{Key: ours, Value: []byte("signed")}}, Guards: numbered(1).Guards})
	if got, err := s.Get(theirs); string(got) != "w" || err != nil {
		t.Errorf("Get of the replica: %q, %v", got, err)
	}
	closed(t, s)
	os.RemoveAll(filepath.Join(dir, "db"))
	s = open(t, dir)
	defer closed(t, s)
	if got := rows(t, s, table.Key(table.Offer)); len(got) != 1 || got[0] != fmt.Sprintf("%x=signed", ours) {
		t.Errorf("rebuilt %q, want only what came with a guard", got)
	}
}
