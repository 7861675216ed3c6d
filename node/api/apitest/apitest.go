// Package apitest is a node that only says what a test has put into its mouth: an api.Backend for tests of the API and of
// what stands on it. Commands are answered by their type; what has no answer is a problem that says so.
package apitest

import (
	"context"
	"fmt"
	"io"
	"iter"
	"reflect"
	"sync"

	"souk/node/api"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Node is the fake. Set its fields before it is served.
type Node struct {
	Figures  api.Info
	Notices  []step.Notice // Events yields them, and with follow then those of Tell
	Out, Err string        // of every pod
	Pinned   string        // of every image; empty: there are no images
	Stored   []wire.Object // of every table, filtered by nothing
	File     []byte        // of every bill
	Devices  []member.Device
	Machine  member.Machine
	Checks   []member.Check
	Gates    []api.Gate

	mu      sync.Mutex
	answers map[reflect.Type]func(any) (any, error)
	asked   []any
	ended   bool
	more    chan struct{}
}

// On answers commands of one type.
func On[C any](n *Node, f func(C) (any, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.answers == nil {
		n.answers = map[reflect.Type]func(any) (any, error){}
	}
	n.answers[reflect.TypeFor[C]()] = func(cmd any) (any, error) { return f(cmd.(C)) }
}

// Say answers every command of one type with a value.
func Say[C any](n *Node, v any) { On(n, func(C) (any, error) { return v, nil }) }

// Asked are the commands of one type that were given, in order.
func Asked[C any](n *Node) []C {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []C
	for _, cmd := range n.asked {
		if c, ok := cmd.(C); ok {
			out = append(out, c)
		}
	}
	return out
}

// Ended reports whether Shutdown was called.
func (n *Node) Ended() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ended
}

// Do implements api.Backend.
func (n *Node) Do(_ context.Context, cmd any) (any, error) {
	n.mu.Lock()
	n.asked = append(n.asked, cmd)
	f := n.answers[reflect.TypeOf(cmd)]
	n.mu.Unlock()
	if f == nil {
		return nil, step.Fail(step.ProblemOther, "", "the test has no answer to %T", cmd)
	}
	return f(cmd)
}

// Info implements api.Backend.
func (n *Node) Info(context.Context) api.Info { return n.Figures }

// Tell adds a notice, and wakes those who follow.
func (n *Node) Tell(s step.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s.Seq = uint64(len(n.Notices)) + 1
	n.Notices = append(n.Notices, s)
	if n.more != nil {
		close(n.more)
		n.more = nil
	}
}

// Events implements api.Backend.
func (n *Node) Events(ctx context.Context, after uint64, follow bool) iter.Seq2[step.Notice, error] {
	return func(yield func(step.Notice, error) bool) {
		for {
			n.mu.Lock()
			list := append([]step.Notice(nil), n.Notices...)
			if n.more == nil {
				n.more = make(chan struct{})
			}
			more := n.more
			n.mu.Unlock()
			for _, s := range list {
				if s.Seq <= after {
					continue
				}
				if !yield(s, nil) {
					return
				}
				after = s.Seq
			}
			if !follow {
				return
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Logs implements api.Backend.
func (n *Node) Logs(_ context.Context, _ wire.ID, _ bool, _ int, stdout, stderr io.Writer) error {
	if _, err := io.WriteString(stdout, n.Out); err != nil {
		return err
	}
	_, err := io.WriteString(stderr, n.Err)
	return err
}

// Signed implements api.Backend. Nothing is a draft here.
func (n *Node) Signed(_ context.Context, o wire.Object) (wire.Object, error) { return o, nil }

// ResolveImage implements api.Backend.
func (n *Node) ResolveImage(_ context.Context, ref string) (string, int64, error) {
	if n.Pinned == "" {
		return "", 0, step.Fail(step.ProblemImage, "check the name and the tag", "image %q is not found", ref)
	}
	return n.Pinned, 32 << 20, nil
}

// Objects implements api.Backend.
func (n *Node) Objects(context.Context, []byte, []byte, int, bool) ([]wire.Object, error) {
	return n.Stored, nil
}

// Bill implements api.Backend.
func (n *Node) Bill(context.Context, wire.ID) ([]byte, error) {
	if n.File == nil {
		return nil, fmt.Errorf("apitest: no bill")
	}
	return n.File, nil
}

// Inventory implements api.Backend.
func (n *Node) SelfTest(context.Context) []api.Gate { return n.Gates }

func (n *Node) Inventory(context.Context) ([]member.Device, member.Machine, []member.Check, error) {
	return n.Devices, n.Machine, n.Checks, nil
}

// Backup implements api.Backend.
func (n *Node) Backup(_ context.Context, path string) (api.Backup, error) {
	return api.Backup{Path: path}, nil
}

// Shutdown implements api.Backend.
func (n *Node) Shutdown() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
}
