package store

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"souk/node/core/table"
	"souk/node/crash"
)

// A backup is one file: what a store held at one moment, as a journal of its own.
//
//	magic 8 · version 4 · segment · manifest, as JSON · its length 4 · SHA-256 over all before 32
const (
	backupMagic   = "SOUKBKUP"
	backupVersion = 1
	backupHead    = 8 + 4
	backupFoot    = 4 + 32
	manifestLimit = 64 << 10
)

// A Manifest says what a backup is of.
type Manifest struct {
	Key     string `json:"key"`     // address of the node
	Market  string `json:"market"`  // id; empty: of none yet
	At      int64  `json:"at"`      // milliseconds since 1970
	Program string `json:"program"` // version of the program that made it
	Frame   uint64 `json:"frame"`   // last frame of the journal that is in it
	Rows    int    `json:"rows"`
	Guards  int    `json:"guards"` // chains of which it knows the highest place
}

// Errors of backups that callers test with errors.Is.
var (
	// ErrNoBackup: the file is no whole backup.
	ErrNoBackup = errors.New("store: not a whole backup")
	// ErrOccupied: the home has a ledger.
	ErrOccupied = errors.New("store: the home has a ledger")
)

// Backup writes a backup of what is durable now. Others may read and commit meanwhile: it is of one moment.
func (s *Store) Backup(to io.Writer, m Manifest) (Manifest, error) {
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(to, sum), 256<<10)
	out.WriteString(backupMagic)
	out.Write(binary.BigEndian.AppendUint32(nil, backupVersion))
	w, err := newSegmentWriter(out)
	if err == nil {
		err = w.addIndex(s.index)
	}
	if err == nil {
		err = w.flush()
	}
	m.Frame, m.Rows, m.Guards = w.known.Number, w.count.rows, w.count.guards
	text, err2 := json.Marshal(m)
	out.Write(text)
	out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
	if err := errors.Join(err, err2, out.Flush()); err != nil {
		return m, fmt.Errorf("store: writing a backup: %w", err)
	}
	if _, err := to.Write(sum.Sum(nil)); err != nil {
		return m, fmt.Errorf("store: writing a backup: %w", err)
	}
	return m, nil
}

// BackupFile makes a backup in a new file, which is there whole or not at all.
func (s *Store) BackupFile(path string, m Manifest) (Manifest, error) {
	if _, err := os.Lstat(path); err == nil {
		return m, fmt.Errorf("store: making a backup: %w", &os.PathError{Op: "create", Path: path, Err: os.ErrExist})
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".backup-*") // mode 0600
	if err != nil {
		return m, fmt.Errorf("store: making a backup: %w", err)
	}
	defer os.Remove(f.Name())
	m, err = s.Backup(f, m)
	crash.Here("backup.written")
	if err == nil {
		err = f.Sync()
	}
	crash.Here("backup.synced")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), path) // unlike a renaming, it takes nobody's place
	}
	crash.Here("backup.linked")
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return m, fmt.Errorf("store: making a backup: %w", err)
	}
	return m, nil
}

// ReadBackup checks a backup, every byte of it, and gives what it is of.
func ReadBackup(path string) (Manifest, error) {
	m, _, err := readBackup(path, func(Batch) error { return nil })
	return m, err
}

// readBackup checks a backup and calls each with its frames; nothing that each was given counts when it fails.
func readBackup(path string, each func(Batch) error) (m Manifest, last Position, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, last, fmt.Errorf("store: opening a backup: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return m, last, fmt.Errorf("store: opening a backup: %w", err)
	}
	body, err := checkBackup(f, fi.Size(), &m)
	if err != nil {
		return m, last, err
	}
	in := bufio.NewReaderSize(io.NewSectionReader(f, backupHead, body), 256<<10)
	buf := make([]byte, segmentHeader, 64<<10)
	if _, err := io.ReadFull(in, buf); err != nil {
		return m, last, fmt.Errorf("%w: %w", ErrNoBackup, err)
	}
	h, err := decodeHeader(buf)
	if err != nil {
		return m, last, fmt.Errorf("%w: %w", ErrNoBackup, err)
	}
	for t := (tail{salt: h.salt, end: segmentHeader, size: body}); ; {
		if t.end == body {
			return m, t.last, nil
		}
		frame, err := nextFrame(in, buf, &t)
		if err != nil {
			return m, last, fmt.Errorf("%w: %w", ErrNoBackup, err)
		}
		buf = frame
		rows, guards, err := decodeBody(frame[frameHeader:])
		if err != nil {
			return m, last, fmt.Errorf("%w: %w", ErrNoBackup, err)
		}
		t.last = Position{t.last.Number + 1, frameHash(frame)}
		t.end += int64(len(frame))
		if err := each(Batch{Rows: rows, Guards: guards}); err != nil {
			return m, last, err
		}
	}
}

// checkBackup checks the hash over a backup, reads its manifest, and says how long its segment is.
func checkBackup(f *os.File, size int64, m *Manifest) (body int64, err error) {
	head, foot := make([]byte, backupHead), make([]byte, backupFoot)
	if size < backupHead+segmentHeader+backupFoot {
		return 0, fmt.Errorf("%w: %d bytes", ErrNoBackup, size)
	}
	_, err = f.ReadAt(head, 0)
	if err == nil {
		_, err = f.ReadAt(foot, size-backupFoot)
	}
	sum := sha256.New()
	if err == nil {
		_, err = io.Copy(sum, io.NewSectionReader(f, 0, size-32))
	}
	length := int64(binary.BigEndian.Uint32(foot))
	switch {
	case err != nil:
		return 0, fmt.Errorf("store: reading a backup: %w", err)
	case string(head[:8]) != backupMagic:
		return 0, fmt.Errorf("%w: it does not begin like one", ErrNoBackup)
	case [32]byte(sum.Sum(nil)) != [32]byte(foot[4:]):
		return 0, fmt.Errorf("%w: its checksum is wrong", ErrNoBackup)
	case binary.BigEndian.Uint32(head[8:]) > backupVersion:
		return 0, &NewerFormat{Found: binary.BigEndian.Uint32(head[8:]), Known: backupVersion}
	case length > manifestLimit || size-backupFoot-length < backupHead+segmentHeader:
		return 0, fmt.Errorf("%w: its manifest has %d bytes", ErrNoBackup, length)
	}
	text := make([]byte, length)
	if _, err := f.ReadAt(text, size-backupFoot-length); err != nil {
		return 0, fmt.Errorf("store: reading a backup: %w", err)
	}
	if err := json.Unmarshal(text, m); err != nil {
		return 0, fmt.Errorf("%w: its manifest: %w", ErrNoBackup, err)
	}
	return size - backupHead - backupFoot - length, nil
}

// Restore puts a backup into a home whose node is down: with the rows of note, which say that the node must not sign yet. A
// home that has a ledger is refused unless force is set: then it is kept beside the new one, and what it knows of the highest
// places goes over into the new one.
func Restore(dir, path string, force bool, note func(Manifest) []Row) (Manifest, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return Manifest{}, err
	}
	defer lock.Close()
	if _, err := adopt(dir); err != nil {
		return Manifest{}, err
	}
	tops, occupied, err := topsOf(filepath.Join(dir, "journal"))
	if err != nil {
		return Manifest{}, err
	}
	if occupied && !force {
		return Manifest{}, fmt.Errorf("%w: %s", ErrOccupied, dir)
	}
	var m Manifest
	err = renew(dir, func(to io.Writer) error {
		w, err := newSegmentWriter(to)
		if err != nil {
			return err
		}
		m, _, err = readBackup(path, func(b Batch) error {
			for _, g := range b.Guards {
				if top, ok := tops[string(g.Chain)]; ok && top.place <= g.Place {
					delete(tops, string(g.Chain))
				}
			}
			return w.add(cloneBatch(b))
		})
		if err != nil {
			return err
		}
		for chain, top := range tops { // the order does not matter: each is of another chain
			if err := w.add(Batch{Guards: []Guard{{Chain: []byte(chain), Place: top.place, Hash: top.hash}}}); err != nil {
				return err
			}
		}
		if err := w.add(Batch{Rows: note(m)}); err != nil {
			return err
		}
		return w.flush()
	})
	return m, err
}

// topsOf reads the highest places that a journal knows, damaged or not.
func topsOf(journal string) (tops map[string]mark, occupied bool, err error) {
	tops = map[string]mark{}
	if _, err := os.Lstat(journal); errors.Is(err, os.ErrNotExist) {
		return tops, false, nil
	}
	list, err := segments(journal)
	if err != nil || len(list) == 0 {
		return tops, false, err
	}
	_, err = surveyJournal(journal, 0, func(_ Position, _ []Row, guards []Guard) error {
		for _, g := range guards {
			if top, ok := tops[string(g.Chain)]; !ok || g.Place >= top.place {
				tops[string(g.Chain)] = mark{g.Place, g.Hash}
			}
		}
		return nil
	})
	return tops, true, err
}

// Charters are the ids of the markets that a store knows: one, or none yet.
func (s *Store) Charters() (ids [][32]byte, err error) {
	err = s.Scan(table.Key(table.Charter), func(key, _ []byte) error {
		ids = append(ids, [32]byte(table.Field(key, 0)))
		return nil
	})
	return ids, err
}
