package store

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"souk/node/crash"
)

// growth is how much zeroed room the journal adds at once: overwriting zeros costs a sync less than growing a file does
// (132 against 192 µs on the machine where both were measured), and a megabyte of zeros is written in about a millisecond.
const growth = 1 << 20

// A journal is an append-only row of frames in segment files. It has one owner, the store's committing goroutine.
type journal struct {
	dir   string
	limit int64 // a segment over this size is followed by a new one

	file  *os.File // the last segment; nil while there is none
	salt  [saltSize]byte
	end   int64 // behind its last frame
	room  int64 // its size: zeros from end to here
	last  Position
	frame []byte // scratch
}

// A segment is one file of the journal as listed: its name tells the number of its first frame.
type segment struct {
	path  string
	first uint64
}

func (s segment) name() string { return filepath.Base(s.path) }

const segmentSuffix = ".journal"

func segments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir) // sorted, and so are the numbers, of fixed width
	if err != nil {
		return nil, fmt.Errorf("store: listing the journal: %w", err)
	}
	var list []segment
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if !ok {
			continue
		}
		first, err := strconv.ParseUint(digits, 16, 64)
		if err != nil || len(digits) != 16 {
			return nil, &Corrupt{Segment: e.Name(), Reason: "not a segment's name"}
		}
		list = append(list, segment{path: filepath.Join(dir, e.Name()), first: first})
	}
	return list, nil
}

// A tail is what a reading of the journal found at its end.
type tail struct {
	seg  segment // the last one; its path is empty when there is none
	salt [saltSize]byte
	end  int64    // behind the last good frame
	size int64    // of the file
	torn bool     // bytes other than zero follow, but no whole frame
	last Position // of the last good frame
}

// readJournal walks all of the journal's frames, checks every one, and calls each with those behind number `from`. It changes
// nothing. At frame `from` it compares the hash.
func readJournal(dir string, from Position, each func(Position, []Row, []Guard) error) (tail, error) {
	list, err := segments(dir)
	if err != nil || len(list) == 0 {
		return tail{}, err
	}
	var t tail
	for i, s := range list {
		t, err = readSegment(s, from, t, i == 0, i == len(list)-1, each)
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

func readSegment(s segment, from Position, before tail, anchor, newest bool, each func(Position, []Row, []Guard) error) (tail, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return tail{}, fmt.Errorf("store: opening the journal: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return tail{}, fmt.Errorf("store: opening the journal: %w", err)
	}
	in := bufio.NewReaderSize(f, 256<<10)
	buf := make([]byte, segmentHeader, 64<<10)
	n, err := io.ReadFull(in, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return tail{}, fmt.Errorf("store: reading the journal: %w", err)
	}
	h, err := decodeHeader(buf[:n])
	switch newer := (*NewerFormat)(nil); {
	case errors.As(err, &newer):
		return tail{}, err
	case err != nil:
		return tail{}, &Corrupt{Segment: s.name(), Reason: err.Error()}
	case h.first != s.first || h.first == 0:
		return tail{}, &Corrupt{Segment: s.name(), Reason: fmt.Sprintf("its header counts from frame %d", h.first)}
	case !anchor && (h.first != before.last.Number+1 || h.prev != before.last.Hash):
		return tail{}, &Corrupt{Segment: before.seg.name(), Offset: before.end,
			Reason: fmt.Sprintf("frames are missing between %d and %d", before.last.Number, h.first)}
	}
	t := tail{seg: s, salt: h.salt, end: segmentHeader, size: fi.Size(), last: Position{h.first - 1, h.prev}}
	switch {
	case anchor && t.last.Number > from.Number:
		return t, &Corrupt{Segment: s.name(), Reason: fmt.Sprintf("frames up to %d are missing", t.last.Number)}
	case anchor && t.last.Number == from.Number && t.last.Hash != from.Hash:
		return t, fmt.Errorf("%w: the index knows another frame %d than the journal", ErrQuarantine, from.Number)
	}
	for {
		frame, err := nextFrame(in, buf, &t)
		if errors.Is(err, errFrame) {
			return t, endOfSegment(f, &t, newest)
		}
		if err != nil {
			return t, fmt.Errorf("store: reading the journal: %w", err)
		}
		buf = frame
		rows, guards, err := decodeBody(frame[frameHeader:])
		if err != nil {
			return t, &Corrupt{Segment: s.name(), Offset: t.end, Reason: "a frame's body does not decode"}
		}
		t.last = Position{t.last.Number + 1, frameHash(frame)}
		t.end += int64(len(frame))
		switch {
		case t.last.Number == from.Number && t.last.Hash != from.Hash:
			return t, fmt.Errorf("%w: the index knows another frame %d than the journal", ErrQuarantine, from.Number)
		case t.last.Number > from.Number:
			if err := each(t.last, rows, guards); err != nil {
				return t, err
			}
		}
	}
}

// nextFrame reads the frame behind t, into buf where it is large enough. It fails with errFrame when none is there.
func nextFrame(in *bufio.Reader, buf []byte, t *tail) ([]byte, error) {
	head, err := in.Peek(frameHeader)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errFrame
		}
		return nil, err
	}
	length, err := frameLength(head)
	if err != nil || t.end+int64(length) > t.size {
		return nil, errFrame
	}
	if cap(buf) < length {
		buf = make([]byte, length)
	}
	frame := buf[:length]
	if _, err := io.ReadFull(in, frame); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errFrame
		}
		return nil, err
	}
	number, prev, err := checkFrame(t.salt, frame)
	if err != nil || number != t.last.Number+1 || prev != t.last.Hash {
		return nil, errFrame
	}
	return frame, nil
}

// endOfSegment judges what follows the last good frame. Zeros are room for more. Other bytes are a torn write if this is
// the newest segment and no whole frame follows; otherwise something that was acknowledged is damaged.
func endOfSegment(f *os.File, t *tail, newest bool) error {
	rest := make([]byte, t.size-t.end)
	if _, err := f.ReadAt(rest, t.end); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("store: reading the journal: %w", err)
	}
	trimmed := bytes.TrimRight(rest, "\x00")
	switch at := findFrame(t.salt, rest, t.last.Number); {
	case at >= 0:
		return &Corrupt{Segment: t.seg.name(), Offset: t.end, Reason: fmt.Sprintf("a good frame follows at offset %d", t.end+int64(at))}
	case len(trimmed) > 0 && !newest:
		return &Corrupt{Segment: t.seg.name(), Offset: t.end, Reason: "not a frame, and newer segments follow"}
	}
	t.torn = len(trimmed) > 0
	return nil
}

// findFrame looks for a whole frame that comes later than number `last`, anywhere in b.
func findFrame(salt [saltSize]byte, b []byte, last uint64) int {
	magic := binary.BigEndian.AppendUint32(nil, frameMagic)
	for at := 0; ; at++ {
		next := bytes.Index(b[at:], magic)
		if next < 0 {
			return -1
		}
		at += next
		if len(b)-at < frameHeader {
			return -1
		}
		length, err := frameLength(b[at:])
		number := binary.BigEndian.Uint64(b[at+8:])
		if err != nil || length > len(b)-at || number <= last || number > last+2+uint64(at/frameHeader) {
			continue
		}
		if _, _, err := checkFrame(salt, b[at:at+length]); err == nil {
			return at
		}
	}
}

// openJournal makes the journal ready to append behind t, cutting off a torn write.
func openJournal(dir string, limit int64, t tail) (*journal, error) {
	j := &journal{dir: dir, limit: limit, salt: t.salt, end: t.end, room: t.size, last: t.last}
	if t.seg.path == "" {
		return j, nil
	}
	f, err := os.OpenFile(t.seg.path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: opening the journal: %w", err)
	}
	j.file = f
	if !t.torn {
		return j, nil
	}
	if err := j.truncate(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

func (j *journal) truncate() error {
	if err := j.file.Truncate(j.end); err != nil {
		return fmt.Errorf("store: cutting the journal: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("store: cutting the journal: %w", err)
	}
	j.room = j.end
	return nil
}

// append writes one frame and returns when it is on disk. After an error the journal must not be used again: what the
// disk holds is unknown until the next opening.
func (j *journal) append(rows []Row, guards []Guard) (Position, error) {
	if err := j.rotate(); err != nil {
		return j.last, err
	}
	frame, pos := appendFrame(j.frame[:0], j.salt, j.last, rows, guards)
	if j.frame = frame; cap(frame) > growth {
		j.frame = nil // do not keep the memory of a rare large one
	}
	end := j.end + int64(len(frame))
	if err := j.grow(end); err != nil {
		return j.last, err
	}
	crash.Here("journal.write")
	if _, err := j.file.WriteAt(frame, j.end); err != nil {
		return j.last, fmt.Errorf("store: writing the journal: %w", err)
	}
	crash.Here("journal.written")
	if err := datasync(j.file); err != nil {
		return j.last, fmt.Errorf("store: syncing the journal: %w", err)
	}
	crash.Here("journal.synced")
	j.end, j.last = end, pos
	return pos, nil
}

// grow adds zeros until the file reaches end. The sync of the frame makes them durable too.
func (j *journal) grow(end int64) error {
	if end <= j.room {
		return nil
	}
	size := (end + growth - 1) / growth * growth
	if _, err := j.file.WriteAt(make([]byte, size-j.room), j.room); err != nil {
		return fmt.Errorf("store: growing the journal: %w", err)
	}
	crash.Here("journal.grown")
	j.room = size
	return nil
}

// rotate begins a new segment when there is none, or the newest is full.
func (j *journal) rotate() error {
	if j.file != nil {
		if j.end < j.limit {
			return nil
		}
		if err := j.truncate(); err != nil {
			return err
		}
		if err := j.file.Close(); err != nil {
			return fmt.Errorf("store: closing a journal segment: %w", err)
		}
		j.file = nil
		crash.Here("journal.rotate")
	}
	h := header{first: j.last.Number + 1, prev: j.last.Hash}
	rand.Read(h.salt[:]) // never fails
	path := filepath.Join(j.dir, fmt.Sprintf("%016x%s", h.first, segmentSuffix))
	f, err := createDurably(path, h.encode())
	if err != nil {
		return fmt.Errorf("store: beginning a journal segment: %w", err)
	}
	crash.Here("journal.rotated")
	j.file, j.salt, j.end, j.room = f, h.salt, segmentHeader, segmentHeader
	return nil
}

// createDurably makes a file that has its whole content or does not exist, whatever happens.
func createDurably(path string, content []byte) (*os.File, error) {
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	crash.Here("journal.created")
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}
