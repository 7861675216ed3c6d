package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"souk/node/core/table"
)

// frames is how many a home of these tests has.
const frames = 400

// noteKey is where a test's home says what it lost.
var noteKey = table.Key(table.Node, []byte("quarantine"))

// mending are options that repair, and keep a note of what is lost.
func mending() Options {
	o := quiet
	o.SegmentSize = 20_000
	o.Repair = func(l Loss) []Row { return []Row{{Key: noteKey, Value: []byte(l.String())}} }
	return o
}

// digest is a hash over all that a store must not lose: rows but replicas, and guards.
func digest(t testing.TB, s *Store) (sum [32]byte) {
	t.Helper()
	h := sha256.New()
	err := s.Scan(nil, func(key, value []byte) error {
		if k := table.Table(key[0]).Kind(); k == table.Replica || table.Table(key[0]) == table.Meta {
			return nil
		}
		for _, b := range [][]byte{key, value} {
			h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
			h.Write(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Sum(sum[:0])
	return sum
}

// mended is a home in several segments, and the digest of it.
func mended(t testing.TB) (dir string, ends []int64, sum [32]byte) {
	t.Helper()
	dir = t.TempDir()
	ends = written(t, dir, frames, mending())
	s, err := Open(dir, mending())
	if err != nil {
		t.Fatal(err)
	}
	sum = digest(t, s)
	closed(t, s)
	if n := len(segmentFiles(t, dir)); n < 3 {
		t.Fatalf("%d segments", n)
	}
	return dir, ends, sum
}

func spoil(t testing.TB, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// lag puts an index that knows only the first frames in the place of a home's.
func lag(t testing.TB, dir string, frames int) {
	t.Helper()
	old := t.TempDir()
	written(t, old, frames, mending())
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "db")), os.CopyFS(filepath.Join(dir, "db"), os.DirFS(filepath.Join(old, "db")))); err != nil {
		t.Fatal(err)
	}
}

func TestWhatOnePartStillHasIsMended(t *testing.T) {
	home, _, sum := mended(t)
	segs := segmentFiles(t, home)
	last := segs[len(segs)-1]
	for name, damage := range map[string]func(t *testing.T, dir string){
		"index": func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "db", "MANIFEST"), []byte("nonsense"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"no index at all":       func(t *testing.T, dir string) { os.RemoveAll(filepath.Join(dir, "db")) },
		"an old segment":        func(t *testing.T, dir string) { spoil(t, filepath.Join(dir, "journal", segs[0].name()), 3000) },
		"an old segment's head": func(t *testing.T, dir string) { spoil(t, filepath.Join(dir, "journal", segs[1].name()), 20) },
		"a segment is gone":     func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "journal", segs[1].name())) },
		"the newest segment":    func(t *testing.T, dir string) { spoil(t, filepath.Join(dir, "journal", last.name()), segmentHeader+60) },
		"the last frame": func(t *testing.T, dir string) {
			b, _ := os.ReadFile(filepath.Join(dir, "journal", last.name()))
			spoil(t, filepath.Join(dir, "journal", last.name()), int64(len(bytes.TrimRight(b, "\x00")))-10)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyTree(t, home)
			damage(t, dir)
			s, err := Open(dir, mending())
			if err != nil {
				t.Fatal(err)
			}
			if r := s.Recovery(); r.Lost != nil || !r.Rebuilt && !r.Renewed && r.Replayed == 0 {
				t.Errorf("recovery %+v: nothing was said, or lost", r)
			}
			if digest(t, s) != sum {
				t.Error("another state")
			}
			if err := s.Check(); err != nil {
				t.Error(err)
			}
			commit(t, s, numbered(frames+1))
			closed(t, s)
			again := open(t, dir) // and it stays so, for one that repairs nothing
			if r := again.Recovery(); !reflect.DeepEqual(r, Recovery{}) {
				t.Errorf("the next opening: %+v", r)
			}
			if top, _, _ := again.Guarded([]byte("bank")); top != frames+1 {
				t.Errorf("guarded up to %d", top)
			}
			closed(t, again)
		})
	}
}

// What neither part has is named, with the places that what follows it tells of, and no place of it can be taken again.
func TestWhatIsLostIsNamed(t *testing.T) {
	home, ends, _ := mended(t)
	segs := segmentFiles(t, home)
	last := segs[len(segs)-1]
	mid := int(last.first) + 3 // a frame in the newest segment
	for name, c := range map[string]struct {
		damage     func(t *testing.T, dir string)
		holes      []Hole
		chain      Places
		kept, next uint64 // rows that are left; the first place that may be taken
	}{
		"a frame that the index lacks": {func(t *testing.T, dir string) {
			lag(t, dir, mid-10)
			spoil(t, filepath.Join(dir, "journal", last.name()), ends[mid-1]-10)
		}, []Hole{{uint64(mid), uint64(mid)}}, Places{[]byte("bank"), uint64(mid), uint64(mid)}, uint64(mid - 1), frames + 1},
		"a segment that the index lacks": {func(t *testing.T, dir string) {
			lag(t, dir, 3)
			os.Remove(filepath.Join(dir, "journal", segs[1].name()))
		}, []Hole{{segs[1].first, segs[2].first - 1}}, Places{[]byte("bank"), segs[1].first, segs[2].first - 1}, segs[1].first - 1, frames + 1},
		"the journal's end": {func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, "journal", last.name()))
		}, []Hole{{last.first, frames}}, Places{}, frames, frames + 1},
		"a frame, and the index": {func(t *testing.T, dir string) {
			os.RemoveAll(filepath.Join(dir, "db"))
			spoil(t, filepath.Join(dir, "journal", segs[0].name()), ends[4]-10)
		}, []Hole{{5, 5}}, Places{[]byte("bank"), 5, 5}, 4, frames + 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyTree(t, home)
			c.damage(t, dir)
			o := quiet
			o.SegmentSize = 20_000
			if s, err := Open(dir, o); err == nil {
				closed(t, s)
				t.Fatal("a home that lost something opened without a word")
			}
			s, err := Open(dir, mending())
			if err != nil {
				t.Fatal(err)
			}
			defer closed(t, s)
			lost := s.Recovery().Lost
			if lost == nil || !reflect.DeepEqual(lost.Holes, c.holes) {
				t.Fatalf("lost %+v, want %v", lost, c.holes)
			}
			if c.chain.Chain != nil && (len(lost.Chains) != 1 || !reflect.DeepEqual(lost.Chains[0], c.chain)) {
				t.Errorf("chains %v, want %v", lost.Chains, c.chain)
			}
			if note, err := s.Get(noteKey); err != nil || !strings.Contains(string(note), c.holes[0].String()) {
				t.Errorf("the home says %q, %v", note, err)
			}
			if n := len(rows(t, s, table.Key(table.BankEntry))); uint64(n) != c.kept {
				t.Errorf("%d rows are left, want %d", n, c.kept)
			}
			var twice *SignedTwice
			bad := numbered(c.next - 1)
			bad.Guards[0].Hash[0]++
			if err := s.Commit([]Batch{bad}); !errors.As(err, &twice) {
				t.Errorf("place %d again: %v", c.next-1, err)
			}
			commit(t, s, numbered(c.next))
		})
	}
}
