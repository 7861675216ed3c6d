package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// A Hole is frames of the journal that are gone: damaged, or not there. To is 0 where nobody can tell how many there were.
type Hole struct{ From, To uint64 }

// String names the frames.
func (h Hole) String() string {
	switch {
	case h.To == 0:
		return fmt.Sprintf("frame %d and all after it", h.From)
	case h.To == h.From:
		return fmt.Sprintf("frame %d", h.From)
	}
	return fmt.Sprintf("frames %d to %d", h.From, h.To)
}

// A survey is what a reading of a damaged journal found, that goes on behind every damage.
type survey struct {
	holes []Hole
	top   Position // of the last good frame
	torn  bool     // bytes follow it that are no whole frame
	at    map[uint64][32]byte
}

// surveyJournal reads all frames that are whole, in order, whatever lies between them. mark names a frame whose hash is to
// be kept.
func surveyJournal(dir string, mark uint64, each func(Position, []Row, []Guard) error) (survey, error) {
	sv := survey{at: map[uint64][32]byte{}}
	list, err := segments(dir)
	if err != nil {
		return sv, err
	}
	for i, s := range list {
		next := uint64(0) // first frame of the segment after this one
		if i+1 < len(list) {
			next = list[i+1].first
		}
		if err := sv.segment(s, next, mark, each); err != nil {
			return sv, err
		}
	}
	return sv, nil
}

func (sv *survey) missing(from, to uint64) {
	if to == 0 || to >= from {
		sv.holes = append(sv.holes, Hole{from, to})
	}
}

func (sv *survey) segment(s segment, next, mark uint64, each func(Position, []Row, []Guard) error) error {
	b, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("store: reading the journal: %w", err)
	}
	h, err := decodeHeader(b)
	switch newer := (*NewerFormat)(nil); {
	case errors.As(err, &newer):
		return err
	case err != nil || h.first != s.first || h.first == 0: // without its salt no frame of it can be told from noise
		switch {
		case next == 0:
			sv.missing(sv.top.Number+1, 0)
		default:
			sv.missing(sv.top.Number+1, next-1)
			sv.top.Number = next - 1
		}
		return nil
	case h.first > sv.top.Number+1:
		sv.missing(sv.top.Number+1, h.first-1)
		sv.top = Position{h.first - 1, h.prev}
	}
	for at := segmentHeader; ; {
		frame := wholeFrame(h.salt, b[at:], sv.top.Number+1)
		if frame == nil {
			skip := findFrame(h.salt, b[at:], sv.top.Number)
			if skip < 0 {
				return sv.rest(b[at:], next)
			}
			at += skip
			number := binary.BigEndian.Uint64(b[at+8:])
			sv.missing(sv.top.Number+1, number-1)
			sv.top.Number = number - 1
			continue
		}
		rows, guards, err := decodeBody(frame[frameHeader:])
		if err != nil {
			return &Corrupt{Segment: s.name(), Offset: int64(at), Reason: "a frame's body does not decode"}
		}
		sv.top = Position{sv.top.Number + 1, frameHash(frame)}
		if sv.top.Number == mark {
			sv.at[mark] = sv.top.Hash
		}
		if err := each(sv.top, rows, guards); err != nil {
			return err
		}
		at += len(frame)
	}
}

// rest judges what follows the last good frame of a segment.
func (sv *survey) rest(b []byte, next uint64) error {
	switch used := len(bytes.TrimRight(b, "\x00")) > 0; {
	case next == 0:
		sv.torn = used
	case next > sv.top.Number+1:
		sv.missing(sv.top.Number+1, next-1)
		sv.top.Number = next - 1
	}
	return nil
}

// wholeFrame is the frame with a number at the beginning of b, or nil.
func wholeFrame(salt [saltSize]byte, b []byte, number uint64) []byte {
	if len(b) < frameHeader {
		return nil
	}
	length, err := frameLength(b)
	if err != nil || length > len(b) {
		return nil
	}
	if n, _, err := checkFrame(salt, b[:length]); err != nil || n != number {
		return nil
	}
	return b[:length]
}
