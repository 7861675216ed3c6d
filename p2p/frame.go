package p2p

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"souk/p2p/wire"
)

// What stands before the body of a reply.
const (
	statusOK      = 0
	statusRefused = 1
)

// errFrame marks bytes that no honest peer sends.
var errFrame = errors.New("p2p: bad frame")

// encodeFrame is the length of v's encoding, 4 bytes big-endian, and the encoding.
func encodeFrame(v any) ([]byte, error) { return appendFrame(nil, v) }

func appendFrame(head []byte, v any) ([]byte, error) {
	body := wire.Marshal(v)
	if len(body) > wire.FrameLimit {
		return nil, fmt.Errorf("%w: frame of %d bytes, limit %d", wire.ErrTooLarge, len(body), wire.FrameLimit)
	}
	head = binary.BigEndian.AppendUint32(head, uint32(len(body)))
	return append(head, body...), nil
}

// encodeReply is a status and a frame. A nil refusal means v is the answer.
func encodeReply(v any, r *Refusal) ([]byte, error) {
	if r != nil {
		return appendFrame([]byte{statusRefused}, Refuse(r.Code, "%s", r.Reason)) // its reason cut to the limit
	}
	return appendFrame([]byte{statusOK}, v)
}

// readFrame reads one frame into v. Memory grows with the bytes that arrive, never with what the length promises. Errors:
// errFrame for bad bytes, else the reader's.
func readFrame(r io.Reader, limit int, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return short(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		return fmt.Errorf("%w: %d bytes announced, limit %d", errFrame, n, limit)
	}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(n)); err != nil {
		return short(err)
	}
	if err := wire.Unmarshal(body.Bytes(), v); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}

// short names the end of a stream in the middle of a frame.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: cut short", errFrame)
	}
	return err
}

// readReply reads a reply into v. A refusal of the other side is returned as *Refusal.
func readReply(r io.Reader, v any) error {
	var status [1]byte
	if _, err := io.ReadFull(r, status[:]); err != nil {
		return short(err)
	}
	switch status[0] {
	case statusOK:
		return readFrame(r, wire.FrameLimit, v)
	case statusRefused:
		var no Refusal
		if err := readFrame(r, reasonLimit+16, &no); err != nil {
			return err
		}
		no.Reason = cut(no.Reason)
		return &no
	}
	return fmt.Errorf("%w: status %d", errFrame, status[0])
}
