package simnet

import "souk/p2p/member"

// A label says what kind of event it is, in traces.
type label string

// An event is something that happens at an instant. Events of one instant happen in the order in which they were planned.
type event struct {
	at   member.Time
	seq  uint64
	what label
	node int32 // whom it concerns; -1: the world
	do   func()
}

// before is the order of events.
func (e *event) before(f *event) bool { return e.at < f.at || e.at == f.at && e.seq < f.seq }

// A queue is the events to come, a binary heap.
type queue struct {
	heap []event
	seq  uint64
}

func (q *queue) push(e event) {
	q.seq++
	e.seq = q.seq
	q.heap = append(q.heap, e)
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !e.before(&q.heap[up]) {
			break
		}
		q.heap[i] = q.heap[up]
		i = up
	}
	q.heap[i] = e
}

func (q *queue) pop() event {
	top, last := q.heap[0], q.heap[len(q.heap)-1]
	q.heap[len(q.heap)-1] = event{}
	q.heap = q.heap[:len(q.heap)-1]
	n := len(q.heap)
	if n == 0 {
		return top
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= n {
			break
		}
		if c+1 < n && q.heap[c+1].before(&q.heap[c]) {
			c++
		}
		if !q.heap[c].before(&last) {
			break
		}
		q.heap[i] = q.heap[c]
		i = c
	}
	q.heap[i] = last
	return top
}
