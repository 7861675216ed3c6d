package p2p

import (
	"bytes"
	"errors"
	"testing"

	"souk/p2p/wire"
)

func TestReplyRoundTrips(t *testing.T) {
	f := wire.Frame{Op: 4, Body: []byte("x")}
	b, err := encodeReply(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got wire.Frame
	if err := readReply(bytes.NewReader(b), &got); err != nil || got.Op != 4 || string(got.Body) != "x" {
		t.Fatalf("got %+v, %v; want %+v", got, err, f)
	}
	no := Refuse(CodeClock, "late")
	if b, err = encodeReply(nil, no); err != nil {
		t.Fatal(err)
	}
	var back *Refusal
	if err := readReply(bytes.NewReader(b), &got); !errors.As(err, &back) || *back != *no {
		t.Fatalf("got %v, want %v", err, no)
	}
	b[0] = 7
	if err := readReply(bytes.NewReader(b), &got); !errors.Is(err, errFrame) {
		t.Fatalf("status 7: got %v, want a bad frame", err)
	}
}

// FuzzReadFrame: no panic, and what is read is written with the same bytes.
func FuzzReadFrame(f *testing.F) {
	for _, v := range []wire.Frame{{}, {Op: 1, Body: []byte("x")}, {Objects: []wire.Object{{Kind: wire.KindOffer, Payload: []byte{1}}}}} {
		b, _ := encodeFrame(v)
		f.Add(b)
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 1, 0xf6})
	f.Fuzz(func(t *testing.T, in []byte) {
		var v wire.Frame
		if readFrame(bytes.NewReader(in), wire.FrameLimit, &v) != nil {
			return
		}
		out, err := encodeFrame(v)
		if err != nil || !bytes.HasPrefix(in, out) {
			t.Fatalf("read %x, wrote %x, %v", in, out, err)
		}
	})
}

// FuzzReadReply: no panic; refusals come out valid.
func FuzzReadReply(f *testing.F) {
	for _, no := range []*Refusal{nil, Refuse(CodeBusy, "later")} {
		b, _ := encodeReply(wire.Frame{}, no)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var v wire.Frame
		var no *Refusal
		if err := readReply(bytes.NewReader(in), &v); errors.As(err, &no) && len(no.Reason) > reasonLimit {
			t.Fatalf("reason of %d bytes", len(no.Reason))
		}
	})
}
