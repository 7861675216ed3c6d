package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"souk/node/crash"
)

// A Sink makes batches durable and calls their Done: a Store, or a Memory.
type Sink interface {
	Commit(batches []Batch) error
}

// The queue's bounds: some commit groups ahead of the disk are enough to keep it busy; beyond, whoever submits waits.
const (
	queueRecords = 8 * groupRecords
	queueBytes   = 8 * groupBytes
)

// A Committer is the one goroutine that writes a store. While one group is on its way to the disk, the batches of other
// steps gather, and become the next group: the busier the node, the more of them share a sync.
type Committer struct {
	sink Sink

	mu             sync.Mutex
	changed        sync.Cond // of all below
	queue          []Batch   // in the order of submission
	records, bytes int       // of queue
	stopping       bool      // no more is taken
	stalled        bool      // the disk is full, and a group waits for room
	err            error     // why
}

// NewCommitter makes the committer of a store. From now on nothing else may call its Commit.
func NewCommitter(s Sink) *Committer {
	c := &Committer{sink: s}
	c.changed.L = &c.mu
	return c
}

// Run commits what is submitted until ctx ends or the store fails. On a full disk nothing is lost: it waits for room. When ctx ends it still commits what has been
// submitted, and returns nil; when the store fails it returns the error. In both cases later batches, and after a failure
// those in the queue, get their Done with an error: ErrClosed or the store's.
func (c *Committer) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.end(ErrClosed) })
	defer stop()
	for {
		group, more := c.next()
		if !more {
			return nil
		}
		crash.Here("group.begin")
		err := c.sink.Commit(group)
		crash.Here("group.end")
		for errors.Is(err, ErrDiskFull) && c.waits() {
			err = c.sink.Commit(group)
		}
		if errors.Is(err, ErrDiskFull) {
			finish(group, err)
		}
		if err != nil {
			c.end(err)
			c.abandon(err)
			return err
		}
	}
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

// next waits for batches and takes as many as one group holds. It is false when the committer is stopping and all is
// taken.
func (c *Committer) next() ([]Batch, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 && !c.stopping {
		c.changed.Wait()
	}
	if len(c.queue) == 0 {
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

func (c *Committer) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopping {
		c.stopping, c.err = true, err
	}
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
