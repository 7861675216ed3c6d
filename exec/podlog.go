package exec

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The output of a plain process is kept in one file of records, so that the order of the two streams is kept: a byte for
// the stream (1 output, 2 errors), the payload's length in 4 bytes big-endian, the payload. A file that has grown over
// logSize becomes log.1, in place of an older one. The shim writes, anyone reads.
const (
	logName   = "log"
	logOld    = "log.1"
	logSize   = 10 << 20
	logRecord = 32 << 10 // most bytes in a record
	logPoll   = 100 * time.Millisecond
)

type logWriter struct {
	dir string

	mu   sync.Mutex // two streams write
	file *os.File
	size int64
}

func openLog(dir string) (*logWriter, error) {
	f, err := os.OpenFile(filepath.Join(dir, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &logWriter{dir: dir, file: f}, nil
}

// copy writes records of one stream until it ends. A full disk loses output, and never blocks the pod.
func (l *logWriter) copy(stream byte, r io.Reader) {
	buf := make([]byte, 5+logRecord)
	for {
		n, err := r.Read(buf[5:])
		if n > 0 {
			buf[0] = stream
			binary.BigEndian.PutUint32(buf[1:5], uint32(n))
			l.write(buf[:5+n])
		}
		if err != nil {
			return
		}
	}
}

func (l *logWriter) write(record []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(record)) > logSize {
		current := filepath.Join(l.dir, logName)
		if os.Rename(current, filepath.Join(l.dir, logOld)) == nil {
			if f, err := os.OpenFile(current, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
				l.file.Close()
				l.file, l.size = f, 0
			}
		}
	}
	n, err := l.file.Write(record)
	if err != nil && n > 0 {
		l.file.Truncate(l.size) // a torn record would make the rest unreadable
		n = 0
	}
	l.size += int64(n)
}

func (l *logWriter) close() error { return l.file.Close() }

// A logReader walks through the records of log.1 and log.
type logReader struct {
	dir  string
	file *os.File
	buf  []byte // read and not yet used
	off  int64
}

func newLogReader(dir string) *logReader { return &logReader{dir: dir} }

func (r *logReader) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// next is the next record; io.EOF means that there is none yet.
func (r *logReader) next() (stream byte, payload []byte, err error) {
	for {
		if r.file == nil {
			if err := r.open(); err != nil {
				return 0, nil, err
			}
		}
		if len(r.buf) >= 5 {
			if n := int(binary.BigEndian.Uint32(r.buf[1:5])); len(r.buf) >= 5+n {
				stream, payload = r.buf[0], r.buf[5:5+n]
				r.buf = r.buf[5+n:]
				return stream, payload, nil
			}
		}
		more := make([]byte, 4*logRecord)
		n, err := r.file.ReadAt(more, r.off)
		if n > 0 {
			r.off += int64(n)
			r.buf = append(bytes.Clone(r.buf), more[:n]...)
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, nil, err
		}
		if !r.turned() {
			return 0, nil, io.EOF
		}
	}
}

// open begins with the older file, if there is one.
func (r *logReader) open() error {
	for _, name := range []string{logOld, logName} {
		f, err := os.Open(filepath.Join(r.dir, name))
		if err == nil {
			r.file, r.off, r.buf = f, 0, nil
			return nil
		}
	}
	return io.EOF
}

// turned goes on to the newer file when the one being read, at its end, is not the newest any more.
func (r *logReader) turned() bool {
	now, err := os.Open(filepath.Join(r.dir, logName))
	if err != nil {
		return false
	}
	a, errA := now.Stat()
	b, errB := r.file.Stat()
	if errA != nil || errB != nil || os.SameFile(a, b) || b.Size() > r.off {
		now.Close()
		return errA == nil && errB == nil && !os.SameFile(a, b) // the rest of the old file first
	}
	r.file.Close()
	r.file, r.off, r.buf = now, 0, nil
	return true
}

// copyLog copies a run's output as LogOptions say. alive tells whether more can come.
func copyLog(ctx context.Context, dir string, o LogOptions, alive func() bool, stdout, stderr io.Writer) error {
	skip := 0
	if o.Tail > 0 {
		skip = max(0, countLines(dir)-o.Tail)
	}
	r := newLogReader(dir)
	defer r.close()
	tick := time.NewTicker(logPoll)
	defer tick.Stop()
	for last := !o.Follow; ; {
		more := alive()
		for {
			stream, payload, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			for ; skip > 0; skip-- {
				i := bytes.IndexByte(payload, '\n')
				if i < 0 {
					payload = nil
					break
				}
				payload = payload[i+1:]
			}
			w := stdout
			if stream == 2 {
				w = stderr
			}
			if _, err := w.Write(payload); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if last || !more {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// countLines counts the lines of both files; an unfinished last line is one.
func countLines(dir string) int {
	r := newLogReader(dir)
	defer r.close()
	n, open := 0, false
	for {
		_, payload, err := r.next()
		if err != nil {
			break
		}
		if len(payload) > 0 {
			n += bytes.Count(payload, []byte{'\n'})
			open = payload[len(payload)-1] != '\n'
		}
	}
	if open {
		n++
	}
	return n
}
