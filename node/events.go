package node

import (
	"context"
	"iter"
	"sync"

	"souk/node/core/step"
	"souk/node/core/table"
	"souk/node/store"
	"souk/p2p/wire"
)

// eventLog numbers what the core tells the user, keeps it, and wakes those who follow.
type eventLog struct {
	store *store.Store
	next  uint64 // owned by the loop

	mu   sync.Mutex
	top  uint64
	wake chan struct{} // closed and replaced whenever events were published
}

// eventsAtOnce bounds what one read of the log takes into memory.
const eventsAtOnce = 256

func openEvents(s *store.Store) (*eventLog, error) {
	e := &eventLog{store: s, wake: make(chan struct{})}
	prefix := table.Key(table.Event)
	err := s.Range(prefix, table.After(prefix), 1, true, func(key, _ []byte) error {
		e.next = table.Number(table.Field(key, 0))
		return nil
	})
	e.top = e.next
	return e, err
}

func (e *eventLog) number(n *step.Notice) {
	e.next++
	n.Seq = e.next
}

func (e *eventLog) row(n step.Notice) store.Row {
	return store.Row{Key: table.Key(table.Event, table.Uint64(n.Seq)), Value: wire.Marshal(n)}
}

// publish wakes followers: these events are on disk now.
func (e *eventLog) publish(list []step.Notice) {
	if len(list) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.top = list[len(list)-1].Seq
	close(e.wake)
	e.wake = make(chan struct{})
}

func (e *eventLog) news() (uint64, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.top, e.wake
}

// since yields the events after a number, and with follow those to come, until ctx ends.
func (e *eventLog) since(ctx context.Context, after uint64, follow bool) iter.Seq2[step.Notice, error] {
	return func(yield func(step.Notice, error) bool) {
		for {
			top, wake := e.news()
			for after < top {
				batch, err := e.read(after)
				if err != nil || len(batch) == 0 {
					if err != nil {
						yield(step.Notice{}, err)
					}
					break
				}
				for _, n := range batch {
					if n.Seq > top {
						break
					}
					if !yield(n, nil) {
						return
					}
					after = n.Seq
				}
			}
			if !follow {
				return
			}
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (e *eventLog) read(after uint64) ([]step.Notice, error) {
	var out []step.Notice
	err := e.store.Range(table.Key(table.Event, table.Uint64(after+1)), table.After(table.Key(table.Event)), eventsAtOnce, false, func(_, v []byte) error {
		var n step.Notice
		if err := wire.Load(v, &n); err != nil {
			return err
		}
		out = append(out, n)
		return nil
	})
	return out, err
}
