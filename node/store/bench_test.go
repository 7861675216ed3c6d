package store

import (
	"context"
	"crypto/rand"
	"fmt"
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

// BenchmarkDurable compares, with 1, 16 and 256 batches in flight, the committer with a Badger transaction for each batch
// and with the same group commit over the bare journal, which is what the disk allows. All run in turns of 100 ms in one
// process; the figures are medians over the rounds of the ratio within a round. A batch is one row of 256 bytes.
func BenchmarkDurable(b *testing.B) {
	for _, flight := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("flight=%d", flight), func(b *testing.B) { benchmark(b, flight) })
	}
}

func benchmark(b *testing.B, flight int) {
	home := open(b, b.TempDir())
	defer home.Close()
	apart := open(b, b.TempDir())
	defer apart.Close()
	j, err := openJournal(b.TempDir(), 64<<20, tail{})
	if err != nil {
		b.Fatal(err)
	}
	defer j.close()

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
		{"wal", grouped(bareJournal{j})},
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
	b.ReportMetric(float64(len(rates["wal"])), "rounds")
	for _, c := range contenders {
		b.ReportMetric(median(rates[c.name]), c.name+"/s")
	}
	for _, pair := range [][2]string{{"rows", "each"}, {"rows", "wal"}, {"replicas", "wal"}} {
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

// bareJournal is group commit without an index: what the disk allows.
type bareJournal struct{ j *journal }

func (s bareJournal) Commit(batches []Batch) error {
	var all Batch
	for _, b := range batches {
		all.Rows = append(all.Rows, b.Rows...)
	}
	_, err := s.j.append(all.Rows, nil)
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
