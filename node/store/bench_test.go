package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"souk/node/core/table"
)

// A contender makes one batch durable and returns then.
type contender struct {
	name string
	put  func(Batch) error
}

// BenchmarkDurable compares, with 1, 16 and 256 batches in flight, the committer (rows) with what the disk allows (log): a
// preallocated file to which a goroutine appends all that waits, with one fdatasync, and does nothing else. Beside them: the
// committer over the journal alone and over Badger alone, a Badger transaction for each batch, and replicas, which skip the
// journal. All run in turns of 100 ms in one process; the figures are medians over the rounds of the ratio within a round. A
// batch is one row of 256 bytes.
func BenchmarkDurable(b *testing.B) {
	for _, flight := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("flight=%d", flight), func(b *testing.B) { benchmark(b, flight) })
	}
}

func benchmark(b *testing.B, flight int) {
	home := open(b, b.TempDir())
	defer home.Close()
	alone := open(b, b.TempDir())
	defer alone.Close()
	apart := open(b, b.TempDir())
	defer apart.Close()
	j, err := openJournal(b.TempDir(), 64<<20, tail{})
	if err != nil {
		b.Fatal(err)
	}
	defer j.close()
	bare := newBareLog(b)
	defer bare.close()

	ctx, stop := context.WithCancel(b.Context())
	var ends []chan error
	grouped := func(s Sink) func(Batch) error {
		c := NewCommitter(s)
		ends = append(ends, running(ctx, c))
		return func(batch Batch) error {
			durable := make(chan error, 1)
			batch.Done = func(err error) { durable <- err }
			c.Submit(batch)
			return <-durable
		}
	}
	committer := grouped(home)
	contenders := []contender{
		{"log", bare.put},
		{"journal", grouped(bareJournal{j})},
		{"badger", grouped(bareIndex{alone.index})},
		{"each", func(batch Batch) error { return apart.index.put(batch.Rows) }},
		{"rows", committer},
		{"replicas", committer},
	}
	var serial atomic.Uint64
	value := make([]byte, 256)
	rand.Read(value)
	rates := make(map[string][]float64)
	for b.Loop() {
		for _, c := range contenders {
			key := money
			if c.name == "replicas" {
				key = offer
			}
			n := turn(b, flight, func() error {
				return c.put(Batch{Rows: []Row{{Key: key(serial.Add(1)), Value: value}}})
			})
			rates[c.name] = append(rates[c.name], n)
		}
	}
	stop()
	for _, end := range ends {
		if err := <-end; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, c := range contenders {
		b.ReportMetric(median(rates[c.name]), c.name+"/s")
	}
	for _, pair := range [][2]string{{"rows", "each"}, {"rows", "log"}, {"journal", "log"}, {"badger", "log"}, {"replicas", "log"}} {
		var ratios []float64
		for i := range rates[pair[0]] {
			ratios = append(ratios, rates[pair[0]][i]/rates[pair[1]][i])
		}
		b.ReportMetric(median(ratios), pair[0]+":"+pair[1])
	}
}

// turn keeps `flight` puts in flight for 100 ms, and gives how many became durable in a second.
func turn(b *testing.B, flight int, put func() error) float64 {
	var done atomic.Int64
	var group sync.WaitGroup
	begin := time.Now()
	for range flight {
		group.Go(func() {
			for time.Since(begin) < 100*time.Millisecond {
				if err := put(); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

func offer(n uint64) []byte {
	return table.Key(table.Offer, append(make([]byte, 12), table.Uint64(n)...))
}

// A bareLog is the plainest group commit there is.
type bareLog struct {
	file    *os.File
	at      int64
	ended   chan struct{}
	mu      sync.Mutex
	changed *sync.Cond
	queue   []bareWait
	stop    bool
}

type bareWait struct {
	row  Row
	done chan error
}

// bareRoom is how much of the file is written before its beginning is written over.
const bareRoom = 64 << 20

func newBareLog(b *testing.B) *bareLog {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := f.Write(make([]byte, bareRoom)); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	l := &bareLog{file: f, ended: make(chan struct{})}
	l.changed = sync.NewCond(&l.mu)
	go l.run()
	return l
}

func (l *bareLog) put(b Batch) error {
	w := bareWait{b.Rows[0], make(chan error, 1)}
	l.mu.Lock()
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	l.changed.Signal()
	return <-w.done
}

func (l *bareLog) run() {
	defer close(l.ended)
	var buf []byte
	for {
		l.mu.Lock()
		for len(l.queue) == 0 && !l.stop {
			l.changed.Wait()
		}
		list := l.queue
		l.queue = nil
		l.mu.Unlock()
		if len(list) == 0 {
			return
		}
		buf = buf[:0]
		for _, w := range list {
			buf = append(append(buf, w.row.Key...), w.row.Value...)
		}
		if l.at+int64(len(buf)) > bareRoom {
			l.at = 0
		}
		_, err := l.file.WriteAt(buf, l.at)
		l.at += int64(len(buf))
		if err == nil {
			err = datasync(l.file)
		}
		for _, w := range list {
			w.done <- err
		}
	}
}

func (l *bareLog) close() {
	l.mu.Lock()
	l.stop = true
	l.mu.Unlock()
	l.changed.Signal()
	<-l.ended
	l.file.Close()
}

// bareJournal is group commit without an index.
type bareJournal struct{ j *journal }

func (s bareJournal) Journal(group []Batch) (Position, error) {
	var all Batch
	for _, b := range group {
		all.Rows = append(all.Rows, b.Rows...)
	}
	return s.j.append(all.Rows, nil)
}

func (s bareJournal) Index(batches []Batch, _ Position) error {
	finish(batches, nil)
	return nil
}

// bareIndex is group commit without a journal.
type bareIndex struct{ ix *index }

func (s bareIndex) Journal([]Batch) (Position, error) { return Position{}, nil }

func (s bareIndex) Index(batches []Batch, _ Position) error {
	var all Batch
	for _, b := range batches {
		all.Rows = append(all.Rows, b.Rows...)
	}
	err := s.ix.put(all.Rows)
	finish(batches, err)
	return err
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// BenchmarkOpen opens a home of 100,000 money rows in 1,000 frames.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := open(b, dir)
	for f := range uint64(1000) {
		var batch Batch
		for n := range uint64(100) {
			batch.Rows = append(batch.Rows, Row{Key: money(f*100 + n), Value: make([]byte, 256)})
		}
		commit(b, s, batch)
	}
	closed(b, s)
	b.Run("home", func(b *testing.B) {
		for b.Loop() {
			closed(b, open(b, dir))
		}
	})
	b.Run("journal", func(b *testing.B) {
		for b.Loop() {
			none := func(Position, []Row, []Guard) error { return nil }
			if _, err := readJournal(filepath.Join(dir, "journal"), Position{}, none); err != nil {
				b.Fatal(err)
			}
		}
	})
}
