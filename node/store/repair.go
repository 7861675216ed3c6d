package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Loss is what an opening found to be gone for good, and was not kept by the index either.
type Loss struct {
	Holes  []Hole   // of the journal
	Chains []Places // that were signed in them, as far as what follows tells; any chain may have more
	Cause  string
}

// Places are places of a chain, From and To included.
type Places struct {
	Chain    []byte
	From, To uint64
}

// String says what is missing.
func (l Loss) String() string {
	var parts []string
	for _, h := range l.Holes {
		parts = append(parts, h.String())
	}
	text := l.Cause
	if len(parts) > 0 {
		text += "; missing of the journal: " + strings.Join(parts, ", ")
	}
	for i, c := range l.Chains {
		if i == 8 {
			text += fmt.Sprintf(" and %d chains more", len(l.Chains)-i)
			break
		}
		sep := ", "
		if i == 0 {
			sep = "; signed there: "
		}
		text += fmt.Sprintf("%splaces %d to %d of %s", sep, c.From, c.To, ChainName(c.Chain))
	}
	return text
}

// ChainName writes a chain for people: its name, and what follows in hexadecimal.
func ChainName(c []byte) string {
	name, rest, ok := strings.Cut(string(c), "/")
	if !ok {
		return name
	}
	return fmt.Sprintf("%s/%x", name, rest)
}

// repairable reports whether an error of opening is one that repair can do something about.
func repairable(err error) bool {
	var damaged *Damaged
	var corrupt *Corrupt
	return errors.As(err, &damaged) || errors.As(err, &corrupt) || errors.Is(err, ErrQuarantine)
}

// repair makes a home whole again that did not open. Where index or journal holds everything, the other is made of it.
// Where both lack something, the home is taken back to the newest state that is known whole; every guard that can still be
// read is kept, and the rows that Options.Repair gives for the loss are written with it.
func (s *Store) repair(cause error) error {
	ix, known := s.survivor()
	if ix != nil {
		defer ix.close()
	}
	var damaged *Damaged
	sv, err := surveyJournal(s.journalDir(), known.Number, func(Position, []Row, []Guard) error { return nil })
	switch {
	case err != nil:
		return errors.Join(cause, err)
	case ix == nil && len(sv.holes) == 0 && errors.As(cause, &damaged):
		s.recovery.Rebuilt = true
		return s.dropIndex()
	case ix == nil && len(sv.holes) == 0:
		return cause
	case ix != nil && covers(known, sv):
		s.recovery.Renewed = true
		err := renew(s.dir, func(to io.Writer) error { return s.fill(to, ix, known, sv, nil, nil) })
		return err
	}
	loss := Loss{Holes: sv.holes, Cause: cause.Error()}
	if ix != nil && known.Number > sv.top.Number {
		loss.Holes = append(loss.Holes, Hole{sv.top.Number + 1, known.Number})
	}
	s.recovery.Lost = &loss
	return renew(s.dir, func(to io.Writer) error { return s.fill(to, ix, known, sv, &loss, s.opts.Repair) })
}

// survivor opens the index if it opens, and reads how far it knows the journal.
func (s *Store) survivor() (*index, Position) {
	ix, err := openIndex(s.indexDir(), s.opts.Log)
	if err != nil {
		return nil, Position{}
	}
	s.index = ix
	known, err := s.position()
	s.index = nil
	if err != nil {
		ix.close()
		return nil, Position{}
	}
	return ix, known
}

// covers reports whether an index at a position has all that the journal lacks.
func covers(known Position, sv survey) bool {
	for _, h := range sv.holes {
		if h.To == 0 || h.To > known.Number {
			return false
		}
	}
	if hash, ok := sv.at[known.Number]; ok && hash != known.Hash {
		return false // two histories
	}
	// The last frame may be damaged itself: then the bytes of it are there, and the index has what it said.
	return known.Number <= sv.top.Number || known.Number == sv.top.Number+1 && sv.torn
}

// fill writes a journal of what an index and the frames behind it hold, up to the first hole; of later frames the guards.
func (s *Store) fill(to io.Writer, ix *index, known Position, sv survey, loss *Loss, note func(Loss) []Row) error {
	w, err := newSegmentWriter(to)
	if err != nil {
		return err
	}
	tops := map[string]mark{}
	if ix != nil {
		if err := w.addIndex(ix); err != nil {
			return err
		}
		if tops, err = marksOf(ix); err != nil {
			return err
		}
	}
	whole := true // no hole so far behind what the index knows
	end := known.Number
	_, err = surveyJournal(s.journalDir(), 0, func(p Position, rows []Row, guards []Guard) error {
		if hash, ok := sv.at[known.Number]; ix != nil && ok && hash != known.Hash {
			whole = false // another history: of it only the guards count
		} else if p.Number <= known.Number {
			return nil
		} else if whole && p.Number == end+1 {
			end = p.Number
			for _, g := range guards {
				tops[string(g.Chain)] = mark{g.Place, g.Hash}
			}
			return w.add(cloneBatch(Batch{Rows: rows, Guards: guards}))
		}
		whole = false
		var higher []Guard
		for _, g := range guards {
			top := tops[string(g.Chain)]
			if g.Place <= top.place && top != (mark{}) {
				continue
			}
			if loss != nil && g.Place > top.place+1 {
				loss.Chains = append(loss.Chains, Places{[]byte(string(g.Chain)), top.place + 1, g.Place - 1})
			}
			tops[string(g.Chain)] = mark{g.Place, g.Hash}
			higher = append(higher, g)
		}
		return w.add(cloneBatch(Batch{Guards: higher}))
	})
	if err == nil && note != nil {
		err = w.add(Batch{Rows: note(*loss)})
	}
	if err == nil {
		err = w.flush()
	}
	return err
}

func marksOf(ix *index) (map[string]mark, error) {
	s := Store{index: ix}
	err := s.loadMarks()
	return s.marks.top, err
}

// dropIndex puts the index aside: the next opening makes a new one from the journal.
func (s *Store) dropIndex() error {
	old := filepath.Join(s.dir, "db")
	if err := os.Rename(old, fmt.Sprintf("%s.damaged-%d", old, time.Now().UnixNano())); err != nil {
		return fmt.Errorf("store: putting the old index aside: %w", err)
	}
	return os.MkdirAll(old, 0o700)
}
