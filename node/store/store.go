// Package store makes durable what the core decides, and holds the node back from signing two things for one place.
//
// The core yields rows to persist and guards: which payload takes which place in a chain that the node signs. A batch of
// both is what one step, or several, want on disk before anything they caused may leave the node. The Committer gathers
// the batches of many steps into one group and commits it: first the journal takes guards and rows, with one sync; then
// one synced Badger transaction takes them, and with them the journal's position; then each batch's Done is called, and
// messages, replies and signatures may go. While Badger syncs one group the journal already syncs the next. Only replicas,
// rows that others publish again and again, skip the journal.
//
// Why twice? Badger is the index: every row, in order, quick to open. But one flipped bit in its write-ahead log makes it
// open without an error and without all that followed. The journal is append-only, framed, checksummed and hash-chained,
// so damage is seen, and the index can be rebuilt from it. Each watches over the other:
//
//	journal ahead of the index   its tail is replayed: a crash between the two, or an index that lost writes
//	index ahead of the journal   quarantine: the journal was cut, damaged at its end, or exchanged
//	another frame at one place   quarantine
//	a bad frame, good ones after damage (Corrupt): never repaired by cutting
//	an index that does not open  damage (Damaged)
//	a bad frame, nothing after   a write that a crash tore and nobody acknowledged: cut off
//
// With Options.Repair, Open mends: a damaged part is made again from the other, where that has everything (renew.go puts a new
// journal into place). Where both lack something, the home goes back to the newest state that is known whole, all guards
// that can be read are kept, and Recovery.Lost says what is gone; the node's own rows say it for good. The same way a backup is
// restored, which is a journal in one file (backup.go).
//
// A home looks so: lock, db/ (Badger), journal/0000000000000001.journal and further segments, each named by its first
// frame in hexadecimal. Keys are laid out in package table.
//
// Promises:
//
//	S1  What Done or Commit reported as durable survives power loss at any instant.
//	S2  A batch is there whole or not at all, and batches become durable in the order of their submission. (A crash may
//	    lose the replicas of a batch without guards alone: their senders repeat them.)
//	S3  No place of a chain is ever taken by two payloads, whatever crashes and wherever; asking again for the same
//	    payload succeeds, so that what a crash kept from leaving can be signed again.
//	S4  A damaged journal is reported, with segment and offset, and never silently shortened.
//	S5  All rows but replicas, and the guards, can be rebuilt from the journal alone.
//	S6  One process at a time has a home open.
//	S7  On a nearly full disk a commit is refused before it writes: Badger maps its files, and a full disk would kill
//	    the process.
//
// After any error in writing, the store refuses further commits: what the disk holds is known again only after the next
// Open. The node ends.
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"souk/node/core/table"
	"souk/node/crash"
)

// format is the version of the layout of tables and values. A store with a newer one does not open.
const format = 1

// The store's own rows.
var (
	formatKey   = table.Key(table.Meta, []byte("format"))   // 4 bytes, big-endian
	positionKey = table.Key(table.Meta, []byte("position")) // number 8, hash 32: the last frame that is in the index
)

// Options tune a store. The zero value is what a node uses.
type Options struct {
	// Log receives what opening found, and Badger's own messages at debug. Nil is slog.Default.
	Log *slog.Logger
	// MinFree is the room in bytes below which commits are refused. 0 is 32 MiB; negative is no check.
	MinFree int64
	// SegmentSize is the size in bytes over which a journal segment is followed by a new one. 0 is 64 MiB.
	SegmentSize int64
	// Repair lets Open mend what is damaged. It gives the rows that are to say, in a home that lost something for good, what
	// that is. Nil: Open changes nothing of a damaged home, and fails.
	Repair func(Loss) []Row
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.MinFree == 0 {
		o.MinFree = 32 << 20
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 64 << 20
	}
	return o
}

// A Recovery is what Open had to do.
type Recovery struct {
	// Cut is how many bytes of a torn, unacknowledged write were cut off the journal.
	Cut int64
	// Replayed is how many journal frames the index lacked. A few are what a crash between the two leaves. More means that
	// the index had lost acknowledged writes; they are back, but its newest replicas may be missing.
	Replayed int
	// Rebuilt: the index was damaged, and is made again from the journal.
	Rebuilt bool
	// Renewed: the journal was damaged, and is written again from the index, which had everything.
	Renewed bool
	// Lost is what neither had. The rows that Options.Repair gave for it are in the store.
	Lost *Loss
}

// A Store is one home's durable state. One goroutine at a time writes the journal, and one the index, usually a
// Committer's; any may read.
type Store struct {
	dir      string
	opts     Options
	lock     *os.File
	index    *index
	journal  *journal
	marks    marks
	recovery Recovery

	journaling atomic.Bool // these two catch two owners
	indexing   atomic.Bool
	failed     atomic.Pointer[error] // of the first write that failed
	indexed    Position              // the journal position in the index; owned by the indexing goroutine
	scratch    []Row                 // owned by the indexing goroutine
}

// Open opens the home dir, creating it if needed. It fails with *Locked when another process has it, ErrDiskFull,
// *NewerFormat, *Damaged when the index does not open, *Corrupt when the journal is damaged, and ErrQuarantine when the
// two contradict each other.
func Open(dir string, opts Options) (*Store, error) {
	s := &Store{dir: dir, opts: opts.withDefaults()}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: making the home: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s.lock = lock
	err = s.mend()
	if err == nil {
		err = s.open()
	}
	if err != nil && s.opts.Repair != nil && repairable(err) {
		if err = errors.Join(s.closeFiles(), s.repair(err)); err == nil {
			err = errors.Join(s.folders(), s.open())
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// mend finishes what an opening before this one began.
func (s *Store) mend() error {
	found, err := adopt(s.dir)
	s.recovery.Renewed = found
	return errors.Join(err, s.folders())
}

func (s *Store) folders() error {
	for _, d := range []string{s.journalDir(), s.indexDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("store: making the home: %w", err)
		}
	}
	return nil
}

// Rebuild opens the home dir with a new index, made from the journal alone. The old one is kept beside it, as
// db.damaged- and the time. Only the replicas are missing afterwards.
func Rebuild(dir string, opts Options) (*Store, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	old := filepath.Join(dir, "db")
	err = os.Rename(old, fmt.Sprintf("%s.damaged-%d", old, time.Now().UnixNano()))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err := errors.Join(err, lock.Close()); err != nil {
		return nil, fmt.Errorf("store: putting the old index aside: %w", err)
	}
	return Open(dir, opts)
}

func (s *Store) indexDir() string   { return filepath.Join(s.dir, "db") }
func (s *Store) journalDir() string { return filepath.Join(s.dir, "journal") }

func (s *Store) open() error {
	if err := s.Room(); err != nil {
		return err
	}
	var err error
	if s.index, err = openIndex(s.indexDir(), s.opts.Log); err != nil {
		return err
	}
	known, err := s.position()
	if err != nil {
		return err
	}
	s.indexed = known
	if err := s.loadMarks(); err != nil {
		return err
	}
	r := replay{store: s, at: known}
	end, err := readJournal(s.journalDir(), known, r.frame)
	if err != nil {
		return err
	}
	if known.Number > end.last.Number {
		return fmt.Errorf("%w: the index knows journal frame %d, the journal ends at %d; frames that were acknowledged are lost",
			ErrQuarantine, known.Number, end.last.Number)
	}
	if err := r.flush(); err != nil {
		return err
	}
	if s.journal, err = openJournal(s.journalDir(), s.opts.SegmentSize, end); err != nil {
		return err
	}
	s.recovery.Replayed = r.frames
	if end.torn {
		s.recovery.Cut = end.size - end.end
	}
	s.report()
	return nil
}

// position reads, in a new index writes, the format, and gives the last journal frame that the index has.
func (s *Store) position() (Position, error) {
	switch b, err := s.index.get(formatKey); {
	case errors.Is(err, ErrNotFound):
		row := Row{Key: formatKey, Value: binary.BigEndian.AppendUint32(nil, format)}
		if err := s.index.put([]Row{row}); err != nil {
			return Position{}, err
		}
	case err != nil:
		return Position{}, err
	case len(b) != 4:
		return Position{}, &Damaged{Dir: s.indexDir(), Cause: fmt.Errorf("its format record has %d bytes", len(b))}
	case binary.BigEndian.Uint32(b) > format:
		return Position{}, &NewerFormat{Found: binary.BigEndian.Uint32(b), Known: format}
	}
	b, err := s.index.get(positionKey)
	switch {
	case errors.Is(err, ErrNotFound):
		return Position{}, nil
	case err != nil:
		return Position{}, err
	case len(b) != 40:
		return Position{}, &Damaged{Dir: s.indexDir(), Cause: fmt.Errorf("its position record has %d bytes", len(b))}
	}
	return Position{Number: binary.BigEndian.Uint64(b), Hash: [32]byte(b[8:])}, nil
}

func positionRow(p Position) Row {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, 40), p.Number)
	return Row{Key: positionKey, Value: append(value, p.Hash[:]...)}
}

func (s *Store) loadMarks() error {
	s.marks.top = make(map[string]mark)
	return s.Scan(table.Key(table.Guard), func(key, value []byte) error {
		m, err := decodeMark(value)
		s.marks.top[string(table.Field(key, 0))] = m
		return err
	})
}

func (s *Store) report() {
	log := s.opts.Log
	switch r := s.recovery; {
	case r.Lost != nil:
		log.Error("the journal was damaged and something is lost: in quarantine", "lost", r.Lost.String())
		return
	case r.Rebuilt:
		log.Warn("the index was damaged; it is made again from the journal, and the old one kept as db.damaged-*", "frames", r.Replayed)
		return
	case r.Renewed:
		log.Warn("the journal is written anew; the old one is kept as journal.damaged-*")
		return
	}
	if s.recovery.Cut > 0 {
		log.Info("cut a torn write off the journal", "bytes", s.recovery.Cut)
	}
	switch n := s.recovery.Replayed; {
	case n > 0 && n <= ahead:
		log.Info("replayed the journal's last frames into the index", "frames", n)
	case n > ahead:
		log.Warn("the index had lost acknowledged writes; they are replayed from the journal", "frames", n)
	}
}

// A replay brings journal frames into the index, many to a transaction.
type replay struct {
	store   *Store
	at      Position
	pending Batch
	frames  int
	bytes   int
}

func (r *replay) frame(pos Position, rows []Row, guards []Guard) error {
	frame := cloneBatch(Batch{Rows: rows, Guards: guards}) // the journal reads the next frame into the same memory
	records, bytes := frame.size()
	if held, _ := r.pending.size(); held > 0 && (held+records > groupRecords || r.bytes+bytes > groupBytes) {
		if err := r.flush(); err != nil {
			return err
		}
	}
	r.pending.Rows = append(r.pending.Rows, frame.Rows...)
	r.pending.Guards = append(r.pending.Guards, frame.Guards...)
	r.bytes += bytes
	r.at = pos
	r.frames++
	return nil
}

func (r *replay) flush() error {
	if r.bytes == 0 {
		return nil
	}
	if err := r.store.marks.admit([]Batch{r.pending}); err != nil {
		return fmt.Errorf("%w: the journal contradicts the guard: %w", ErrQuarantine, err)
	}
	crash.Here("replay.write")
	if err := r.store.writeIndex([]Batch{r.pending}, r.at); err != nil {
		return err
	}
	r.store.marks.take(r.pending.Guards)
	crash.Here("replay.written")
	r.pending, r.bytes = Batch{}, 0
	return nil
}

// Recovery tells what Open had to do.
func (s *Store) Recovery() Recovery { return s.recovery }

// Position is the last frame that journal and index both have. Only the indexing goroutine may ask, as in a Done.
func (s *Store) Position() Position { return s.indexed }

// Room fails with ErrDiskFull when the file system has less room than Options.MinFree. A node asks before it promises
// something new, so that what it has promised can still be written.
func (s *Store) Room() error { return Room(s.dir, s.opts.MinFree) }

// Room fails with ErrDiskFull when the file system of a folder has less room than so many bytes. Under 0 is no check.
func Room(dir string, least int64) error {
	if least < 0 {
		return nil
	}
	free, err := freeSpace(dir)
	switch {
	case err != nil:
		return fmt.Errorf("store: asking for free space: %w", err)
	case free < least:
		return fmt.Errorf("%w: %d MiB left, want %d", ErrDiskFull, free>>20, least>>20)
	}
	return nil
}

// Check reads the whole journal and checks every frame, not only those that Open had to read. It fails with *Corrupt.
// Nobody may commit meanwhile.
func (s *Store) Check() error {
	end, err := readJournal(s.journalDir(), Position{}, func(Position, []Row, []Guard) error { return nil })
	if err == nil && end.last != s.journal.last {
		err = fmt.Errorf("%w: the journal on disk ends at frame %d, in memory at %d", ErrQuarantine, end.last.Number, s.journal.last.Number)
	}
	return err
}

// Close ends the store and frees the home. Reads and commits must have ended.
func (s *Store) Close() error {
	err := s.closeFiles()
	s.fail(ErrClosed)
	return errors.Join(err, s.lock.Close())
}

func (s *Store) closeFiles() error {
	var errs []error
	if s.index != nil {
		errs = append(errs, s.index.close())
	}
	if s.journal != nil {
		errs = append(errs, s.journal.close())
	}
	s.index, s.journal = nil, nil
	return errors.Join(errs...)
}
