package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// gate is a Sink that lets a group through to the journal when told, with the error it is told, and so to the index.
type gate struct {
	pass  chan error
	index chan error // nil: the index is always fast, and never fails

	mu      sync.Mutex // guards what follows
	tried   [][]Batch
	indexed []string // batches at once, and the place
}

// groups are those that have come so far.
func (g *gate) groups() [][]Batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.tried)
}

func (g *gate) Journal(group []Batch) (Position, error) {
	g.mu.Lock()
	g.tried = append(g.tried, group)
	n := len(g.tried)
	g.mu.Unlock()
	return Position{Number: uint64(n)}, <-g.pass
}

func (g *gate) Index(batches []Batch, at Position) (err error) {
	g.mu.Lock()
	g.indexed = append(g.indexed, fmt.Sprintf("%d up to %d", len(batches), at.Number))
	g.mu.Unlock()
	if g.index != nil {
		err = <-g.index
	}
	finish(batches, err)
	return err
}

// running starts a committer and gives a way to wait for its end.
func running(ctx context.Context, c *Committer) (ended chan error) {
	ended = make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return ended
}

func TestBatchesGatherWhileTheDiskIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		g := &gate{pass: make(chan error)}
		c := NewCommitter(g)
		ended := running(ctx, c)
		var told []uint64
		for n := uint64(1); n <= 400; n++ { // 3 records each: 170 fit into a group
			b := numbered(n)
			b.Done = func(err error) {
				if err != nil {
					t.Errorf("batch %d: %v", n, err)
				}
				told = append(told, n)
			}
			c.Submit(b)
			if n == 1 {
				synctest.Wait() // the first is on its way to the disk, alone
			}
		}
		for range 4 {
			g.pass <- nil
		}
		synctest.Wait()
		var sizes []int
		for _, group := range g.groups() {
			sizes = append(sizes, len(group))
		}
		if want := []int{1, 170, 170, 59}; !slices.Equal(sizes, want) {
			t.Errorf("groups of %v, want %v", sizes, want)
		}
		if len(told) != 400 || !slices.IsSorted(told) {
			t.Errorf("Done was called %d times, in order %v; want 400 in order", len(told), slices.IsSorted(told))
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestAFullQueueMakesSubmittersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		g := &gate{pass: make(chan error)}
		c := NewCommitter(g)
		ended := running(ctx, c)
		var taken atomic.Int64
		go func() {
			for range 2 * queueRecords {
				c.Submit(Batch{Rows: []Row{{Key: config(1)}}})
				taken.Add(1)
			}
		}()
		synctest.Wait()
		if n := taken.Load(); n < queueRecords || n > queueRecords+groupRecords {
			t.Errorf("%d batches were taken while the disk stood still, want about %d", n, queueRecords)
		}
		close(g.pass)
		synctest.Wait()
		if n := taken.Load(); n != 2*queueRecords {
			t.Errorf("%d batches were taken in the end, want %d", n, 2*queueRecords)
		}
		stop()
		<-ended
	})
}

func TestAStorageErrorEndsTheCommitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("the disk is gone")
		g := &gate{pass: make(chan error, 1)}
		c := NewCommitter(g)
		ended := running(t.Context(), c)
		var told []string
		submit := func(n uint64) {
			b := numbered(n)
			b.Done = func(err error) { told = append(told, fmt.Sprint(n, " ", err)) }
			c.Submit(b)
		}
		submit(1)
		synctest.Wait()
		submit(2)
		g.pass <- broken
		if err := <-ended; !errors.Is(err, broken) {
			t.Errorf("Run: %v, want %v", err, broken)
		}
		submit(3)
		if want := []string{"1 the disk is gone", "2 the disk is gone", "3 the disk is gone"}; !slices.Equal(told, want) {
			t.Errorf("Done was told %q, want %q", told, want)
		}
		if len(g.groups()) != 1 {
			t.Errorf("%d groups were begun, want 1", len(g.groups()))
		}
	})
}

// While the index is busy with a group the journal takes the next, and no more.
func TestTheJournalGoesAheadOfTheIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		g := &gate{pass: make(chan error), index: make(chan error)}
		close(g.pass)
		c := NewCommitter(g)
		ended := running(ctx, c)
		var told []uint64
		for n := uint64(1); n <= 9; n++ {
			b := numbered(n)
			b.Done = func(error) { told = append(told, n) }
			c.Submit(b)
			synctest.Wait() // each is a group of its own as long as the journal takes any
		}
		if n := len(g.groups()); n != ahead || len(told) != 0 {
			t.Errorf("the journal has %d groups of which the index has none, want %d; %d are called durable", n, ahead, len(told))
		}
		g.index <- nil
		synctest.Wait()
		if !slices.Equal(told, []uint64{1}) {
			t.Errorf("the index has the first; told %v", told)
		}
		close(g.index)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if want := []string{"1 up to 1", "1 up to 2", "7 up to 3"}; !slices.Equal(g.indexed, want) {
			t.Errorf("the index took %q, want %q", g.indexed, want)
		}
		if len(told) != 9 || !slices.IsSorted(told) {
			t.Errorf("told %v, want 9 in order", told)
		}
	})
}

// What the journal has and the index could not take is not called durable, and nothing more is begun.
func TestAFailureOfTheIndexEndsTheCommitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("the disk is gone")
		g := &gate{pass: make(chan error), index: make(chan error)}
		close(g.pass)
		c := NewCommitter(g)
		ended := running(t.Context(), c)
		var told []string
		for n := 1; n <= ahead+3; n++ {
			b := numbered(uint64(n))
			b.Done = func(err error) { told = append(told, fmt.Sprint(n, " ", err)) }
			c.Submit(b)
			synctest.Wait()
		}
		g.index <- broken
		if err := <-ended; !errors.Is(err, broken) {
			t.Errorf("Run: %v, want %v", err, broken)
		}
		var want []string
		for n := 1; n <= ahead+3; n++ {
			want = append(want, fmt.Sprint(n, " the disk is gone"))
		}
		if !slices.Equal(told, want) || len(g.groups()) != ahead || len(g.indexed) != 1 {
			t.Errorf("told %q, want %q; %d groups begun, %d brought to the index", told, want, len(g.groups()), len(g.indexed))
		}
	})
}

func TestWhatWasSubmittedIsCommittedAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ctx, stop := context.WithCancel(t.Context())
	c := NewCommitter(s)
	for n := uint64(1); n <= 300; n++ {
		c.Submit(numbered(n))
	}
	stop()
	if err := c.Run(ctx); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if place, _, _ := s.Guarded([]byte("bank")); place != 300 {
		t.Errorf("committed up to %d, want 300", place)
	}
	var told error
	c.Submit(Batch{Done: func(err error) { told = err }})
	if !errors.Is(told, ErrClosed) {
		t.Errorf("a late batch was told %v, want ErrClosed", told)
	}
	closed(t, s)
}

func TestManySubmittersOneStore(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	c := NewCommitter(s)
	ended := running(ctx, c)
	var group sync.WaitGroup
	for w := range uint64(8) {
		group.Go(func() {
			for n := range uint64(50) {
				durable := make(chan error)
				key := money(w*1000 + n)
				c.Submit(Batch{Rows: []Row{{Key: key, Value: []byte("x")}}, Done: func(err error) { durable <- err }})
				if err := <-durable; err != nil {
					t.Errorf("writer %d, batch %d: %v", w, n, err)
				}
				if _, err := s.Get(key); err != nil {
					t.Errorf("writer %d reads its batch %d: %v", w, n, err)
				}
			}
		})
	}
	group.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if frames := s.Position().Number; frames >= 400 {
		t.Errorf("400 batches of 8 writers took %d frames: nothing was gathered", frames)
	}
	closed(t, s)
}

// A full disk keeps what was submitted waiting, and loses nothing of it.
func TestAFullDiskStallsTheCommitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{pass: make(chan error, 8)}
		c := NewCommitter(g)
		ended := running(t.Context(), c)
		told := make(chan error, 2)
		b := numbered(1)
		b.Done = func(err error) { told <- err }
		g.pass <- ErrDiskFull
		g.pass <- ErrDiskFull
		c.Submit(b)
		synctest.Wait()
		if !c.Stalled() || len(told) != 0 || len(g.groups()) != 1 {
			t.Fatalf("stalled %v, %d told, %d tries", c.Stalled(), len(told), len(g.groups()))
		}
		begun := time.Now()
		g.pass <- nil
		if err := <-told; err != nil || time.Since(begun) != 2*roomEvery || len(g.groups()) != 3 {
			t.Errorf("Done %v after %v and %d tries, want nil after %v and 3", err, time.Since(begun), len(g.groups()), 2*roomEvery)
		}
		g.pass <- ErrDiskFull // and a node that ends meanwhile says that it was not written
		last := numbered(2)
		last.Done = func(err error) { told <- err }
		c.Submit(last)
		synctest.Wait()
		c.end(ErrClosed, false)
		if err := <-ended; !errors.Is(err, ErrDiskFull) {
			t.Errorf("Run: %v", err)
		}
		if err := <-told; !errors.Is(err, ErrDiskFull) {
			t.Errorf("Done of what was not written: %v", err)
		}
	})
}
