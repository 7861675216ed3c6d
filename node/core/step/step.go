// Package step is the language between a node's core and the shell around it: what goes in, what comes out, and what a
// role may use meanwhile.
//
// A core is stepped with one Input at a time and answers with an Out: rows to persist, places in chains that it is about
// to sign, things to publish, send, reply or answer, what it wants of pods, and news for the user. The shell makes the
// rows durable before any of the rest leaves. Within a step a role works on a Context; what it wants kept is in a Map,
// which remembers what changed.
//
// The core holds no key: an object with an empty signature is a draft, which the shell signs on its way out. Signing is
// deterministic, so what is signed again after a crash is the same.
package step

import (
	"encoding/binary"
	"fmt"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Context is what a role has in one step.
type Context struct {
	Now     member.Time
	Self    identity.Address
	Market  wire.Market
	Charter member.Charter
	Policy  member.Policy
	Clock   member.Clock
	Boot    Boot
	Out     *Out
	Seq     *Sequence
}

// A Sequence numbers what a run of the core sends out, and draws its ids.
type Sequence struct {
	send   uint64
	ids    uint64
	notice uint64
}

// Minute is the minute it is.
func (c *Context) Minute() member.Minute { return c.Clock.Minute(c.Now) }

// ID draws an id that nobody can foresee, from the boot's seed.
func (c *Context) ID() wire.ID {
	c.Seq.ids++
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], c.Seq.ids)
	h := identity.Keccak([]byte("souk/id/1"), c.Boot.Seed[:], n[:])
	return wire.ID(h[:16])
}

// Send asks a peer; the returned id comes back in the Response.
func (c *Context) Send(to identity.Address, p Protocol, op Op, body any, objects ...wire.Object) uint64 {
	c.Seq.send++
	c.Out.Sends = append(c.Out.Sends, Send{ID: c.Seq.send, To: to, Proto: p, Frame: frame(op, body, objects)})
	return c.Seq.send
}

// Reply answers a request. What a peer could never open is not sent: it is refused instead, and this node's user told.
func (c *Context) Reply(id uint64, op Op, body any, objects ...wire.Object) {
	f := frame(op, body, objects)
	if err := sendable(f); err != nil {
		c.Notify("reply.fault", wire.ID{}, fmt.Sprintf("a peer was refused, as its answer cannot be sent: %v", err))
		c.Refuse(id, Refuse(RefuseInternal, "the answer cannot be sent: %v", err))
		return
	}
	c.Out.Replies = append(c.Out.Replies, Reply{ID: id, Frame: f})
}

// Refuse answers a request with no.
func (c *Context) Refuse(id uint64, r *Refusal) {
	c.Out.Replies = append(c.Out.Replies, Reply{ID: id, Refusal: r})
}

// Answer answers a local command.
func (c *Context) Answer(id uint64, v any, err error) {
	if id != 0 {
		c.Out.Answers = append(c.Out.Answers, Answer{ID: id, Value: v, Err: err})
	}
}

// Publish gossips an object.
func (c *Context) Publish(t Topic, o wire.Object) {
	c.Out.Publish = append(c.Out.Publish, Publication{Topic: t, Object: o})
}

// Guard claims a place in a chain for a draft, and returns the draft.
func (c *Context) Guard(chain []byte, place uint64, o wire.Object) wire.Object {
	c.Out.Guards = append(c.Out.Guards, Guard{Chain: chain, Place: place, Hash: o.Ref(c.Market)})
	return o
}

// Put writes a row of a log, which the core does not hold.
func (c *Context) Put(key []byte, v any) {
	c.Out.Rows = append(c.Out.Rows, Row{Key: key, Value: wire.Marshal(v)})
}

// Notify tells the user.
func (c *Context) Notify(kind string, lease wire.ID, text string, fields ...string) {
	c.Out.Notices = append(c.Out.Notices, Notice{At: c.Now, Type: kind, Lease: lease, Text: text, Fields: fields})
}

func frame(op Op, body any, objects []wire.Object) wire.Frame {
	f := wire.Frame{Op: uint8(op), Objects: objects}
	if body != nil {
		f.Body = wire.Marshal(body)
	}
	return f
}

// sendable checks that objects are within the limits of their kinds, and all within that of a frame.
func sendable(f wire.Frame) error {
	size := len(f.Body)
	for _, o := range f.Objects {
		if n := len(o.Payload); n == 0 || n > o.Kind.Limit() {
			return fmt.Errorf("a %v of %d bytes, limit %d", o.Kind, n, o.Kind.Limit())
		}
		size += len(o.Payload) + len(o.Sig) + 16 // at most 16 of heads: array, kind, two byte strings
	}
	if size += 16; size > wire.FrameLimit {
		return fmt.Errorf("a frame of %d bytes, limit %d", size, wire.FrameLimit)
	}
	return nil
}

// Body decodes the body of a request or response.
func Body[T any](b []byte) (T, error) {
	var v T
	err := wire.Unmarshal(b, &v)
	return v, err
}

// Find is the first object of a kind among those of a request or response.
func Find[T wire.Message](objects []wire.AnyVerified) (wire.Verified[T], bool) {
	for _, o := range objects {
		if v, ok := o.(wire.Verified[T]); ok {
			return v, true
		}
	}
	return wire.Verified[T]{}, false
}

// FindAll is every object of a kind.
func FindAll[T wire.Message](objects []wire.AnyVerified) []wire.Verified[T] {
	var out []wire.Verified[T]
	for _, o := range objects {
		if v, ok := o.(wire.Verified[T]); ok {
			out = append(out, v)
		}
	}
	return out
}
