package step

import (
	"testing"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// An answer that its peer could never open is a refusal, with a notice, and not the end of this node.
func TestUnsendableReplyIsARefusal(t *testing.T) {
	whole := func(n int) wire.Object {
		return wire.Object{Kind: wire.KindPolicy, Payload: make([]byte, n), Sig: identity.Signature{1}}
	}
	limit := wire.KindPolicy.Limit()
	var many []wire.Object
	for range wire.FrameLimit/limit + 1 {
		many = append(many, whole(limit))
	}
	for name, c := range map[string]struct {
		objects []wire.Object
		refused bool
	}{
		"nothing":                 {nil, false},
		"an object at its limit":  {[]wire.Object{whole(limit)}, false},
		"an object over it":       {[]wire.Object{whole(limit + 1)}, true},
		"no object":               {[]wire.Object{{}}, true},
		"an unknown kind":         {[]wire.Object{{Kind: 255, Payload: []byte{1}}}, true},
		"as many as a frame has":  {many[:len(many)-2], false},
		"more than fit one frame": {many, true},
	} {
		ctx := Context{Now: member.Time(1), Out: &Out{}, Seq: &Sequence{}}
		ctx.Reply(7, OpOK, nil, c.objects...)
		if len(ctx.Out.Replies) != 1 || ctx.Out.Replies[0].ID != 7 {
			t.Fatalf("%s: replies %+v", name, ctx.Out.Replies)
		}
		no := ctx.Out.Replies[0].Refusal
		if (no != nil) != c.refused || no != nil && (no.Code != RefuseInternal || no.Reason == "") || len(ctx.Out.Notices) > 0 != c.refused {
			t.Errorf("%s: refusal %+v, notices %+v", name, no, ctx.Out.Notices)
		}
	}
}

// What Reply lets pass is within a frame when it is encoded.
func TestSendableFramesFit(t *testing.T) {
	limit := wire.KindPolicy.Limit()
	for last := limit; last > 0; last -= limit / 64 {
		var f wire.Frame
		for range wire.FrameLimit / (limit + 100) {
			f.Objects = append(f.Objects, wire.Object{Kind: wire.KindPolicy, Payload: make([]byte, limit)})
		}
		f.Objects = append(f.Objects, wire.Object{Kind: wire.KindPolicy, Payload: make([]byte, last)})
		f.Body = make([]byte, 300)
		if n := len(wire.Marshal(f)); sendable(f) == nil && n > wire.FrameLimit {
			t.Fatalf("%d bytes pass, the limit is %d", n, wire.FrameLimit)
		}
	}
}
