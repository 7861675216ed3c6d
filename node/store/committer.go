package store

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"souk/node/crash"
)

// A Sink makes groups of batches durable, in two halves, each in its own order: first Journal for one group after another,
// then Index, which may run beside the Journal of the next. A Store is one.
type Sink interface {
	// Journal writes what of a group belongs into the journal, and gives the place that the journal has come to. With
	// ErrDiskFull nothing was written, and the same group may be tried again.
	Journal(group []Batch) (Position, error)
	// Index completes a group that the journal has, and calls each Done.
	Index(group []Batch, at Position) error
}

// The queue's bounds: some commit groups ahead of the disk are enough to keep it busy; beyond, whoever submits waits.
const (
	queueRecords = 8 * groupRecords
	queueBytes   = 8 * groupBytes
)

// ahead is how many frames the journal may have that the index has not: while the index syncs one group, the journal syncs
// the next. After a crash no more are replayed.
const ahead = 2

// A Committer writes a store, with one goroutine for the journal and one for the index. While groups are on their way to
// the disk, the batches of other steps gather, and become the next group: the busier the node, the more of them share a sync.
type Committer struct {
	sink Sink

	mu             sync.Mutex
	changed        sync.Cond // of all below
	queue          []Batch   // in the order of submission
	records, bytes int       // of queue
	stopping       bool      // no more is taken
	broken         bool      // what is in the queue is not written any more
	stalled        bool      // the disk is full, and a group waits for room
	err            error     // why
}

// half is a group that has been through the journal: up to where, and with what success.
type half struct {
	group []Batch
	at    Position
	err   error
}

// NewCommitter makes the committer of a store. From now on nothing else may call its Commit, Journal or Index.
func NewCommitter(s Sink) *Committer {
	c := &Committer{sink: s}
	c.changed.L = &c.mu
	return c
}

// Run commits what is submitted until ctx ends or the store fails. On a full disk nothing is lost: it waits for room. When
// ctx ends it still commits what has been submitted, and returns nil; when the store fails it returns the error. In both
// cases later batches, and after a failure those that are not written yet, get their Done with an error: ErrClosed or the
// store's.
func (c *Committer) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.end(ErrClosed, false) })
	defer stop()
	halves := make(chan half) // unbuffered: the journal begins a group when the index has taken the one before
	go func() {
		defer close(halves)
		c.journal(halves)
	}()
	err := c.index(halves)
	c.abandon(err)
	return err
}

// journal brings one group after another to the journal.
func (c *Committer) journal(to chan<- half) {
	for {
		group, more := c.next()
		if !more {
			return
		}
		crash.Here("group.begin")
		at, err := c.sink.Journal(group)
		for errors.Is(err, ErrDiskFull) && c.waits() {
			at, err = c.sink.Journal(group)
		}
		crash.Here("group.journaled")
		to <- half{group, at, err}
		if err != nil {
			return
		}
	}
}

// index brings to the index what the journal has. After a failure it only tells what comes that it is not written.
func (c *Committer) index(from <-chan half) (failed error) {
	for h := range from {
		err := cmp.Or(failed, h.err)
		if err != nil {
			finish(h.group, err)
		} else {
			err = c.sink.Index(h.group, h.at)
		}
		crash.Here("group.end")
		if err != nil {
			failed = err
			c.end(err, true)
		}
	}
	return failed
}

// roomEvery is how often a committer looks whether a full disk has room again.
const roomEvery = time.Second

// waits lets a moment pass on a full disk. It is false when the committer is to end.
func (c *Committer) waits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled = true
	wake := time.AfterFunc(roomEvery, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stalled = false
		c.changed.Broadcast()
	})
	defer wake.Stop()
	for c.stalled && !c.stopping {
		c.changed.Wait()
	}
	return !c.stopping
}

// Stalled reports whether what was submitted waits for room on the disk. Any goroutine may ask.
func (c *Committer) Stalled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stalled
}

// Submit hands over a batch; its rows must not be changed afterwards. It blocks while the queue is full. Done is called
// from Run's goroutine, in the order of submission, or, when the committer has ended, from the caller's; it must not
// submit itself.
func (c *Committer) Submit(b Batch) {
	if err := c.enqueue(b); err != nil && b.Done != nil {
		b.Done(err)
	}
}

func (c *Committer) enqueue(b Batch) error {
	records, bytes := b.size()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 && !c.stopping && (c.records+records > queueRecords || c.bytes+bytes > queueBytes || len(c.queue) >= queueRecords) {
		c.changed.Wait()
	}
	if c.stopping {
		return c.err
	}
	c.queue = append(c.queue, b)
	c.records, c.bytes = c.records+records, c.bytes+bytes
	c.changed.Broadcast()
	return nil
}

// next waits for batches, and takes as many as one group holds. It is false when the committer is stopping and all is taken,
// or broken.
func (c *Committer) next() ([]Batch, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 && !c.stopping {
		c.changed.Wait()
	}
	// Those whose batches have just become durable are about to submit more: one turn for whoever can run makes groups twice
	// as large, and costs nothing where nobody can.
	c.mu.Unlock()
	runtime.Gosched()
	c.mu.Lock()
	if c.broken || len(c.queue) == 0 {
		return nil, false
	}
	n := groupLength(c.queue)
	group := c.queue[:n:n]
	c.queue = c.queue[n:]
	for _, b := range group {
		records, bytes := b.size()
		c.records, c.bytes = c.records-records, c.bytes-bytes
	}
	c.changed.Broadcast()
	return group, true
}

// end takes nothing more, and when broken writes nothing more either.
func (c *Committer) end(err error, broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopping {
		c.stopping, c.err = true, err
	}
	c.broken = c.broken || broken
	c.changed.Broadcast()
}

// abandon tells the batches in the queue that they were not written.
func (c *Committer) abandon(err error) {
	c.mu.Lock()
	queue := c.queue
	c.queue, c.records, c.bytes = nil, 0, 0
	c.changed.Broadcast()
	c.mu.Unlock()
	finish(queue, err)
}
