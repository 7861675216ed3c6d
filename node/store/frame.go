package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A journal is segments of frames. All numbers are big-endian.
//
//	segment header   magic 8 · version 4 · salt 16 · number of its first frame 8 · hash of the frame before 32 · crc 4
//	frame            magic 4 · length of the body 4 · number 8 · hash of the frame before 32 · crc 4 · body
//	body             rows 4 · row… · guards 4 · guard…
//	row              flags 1 (1: delete) · length 4 · key · length 4 · value
//	guard            length 4 · chain · place 8 · payload hash 32
//
// A crc is CRC-32C over the segment's salt, the header before it and the body. The salt is random, so that nobody can
// hide a valid frame inside a value that we store. The hash of a frame is SHA-256 over its header, without the crc, and
// its body; as the header holds the hash before, the last hash stands for the whole journal.
const (
	segmentMagic   = "SOUKJRNL"
	segmentVersion = 1
	segmentHeader  = 8 + 4 + saltSize + 8 + 32 + 4
	saltSize       = 16

	frameMagic  = 0x534a4652 // "SJFR"
	frameHeader = 4 + 4 + 8 + 32 + 4
	frameLimit  = 4 << 20 // a body is about as large as a batch, and a batch is bounded by Badger's 1.2 MB
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errFrame says that bytes are no frame of this place in the journal.
var errFrame = errors.New("store: not a frame")

// A Position names a frame of the journal: its number, from 1, and its hash. The zero Position is before the first.
type Position struct {
	Number uint64
	Hash   [32]byte
}

// A header is what a segment says about itself.
type header struct {
	salt  [saltSize]byte
	first uint64   // number of its first frame
	prev  [32]byte // hash of the frame before that
}

func (h header) encode() []byte {
	b := make([]byte, 0, segmentHeader)
	b = append(b, segmentMagic...)
	b = binary.BigEndian.AppendUint32(b, segmentVersion)
	b = append(b, h.salt[:]...)
	b = binary.BigEndian.AppendUint64(b, h.first)
	b = append(b, h.prev[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeHeader(b []byte) (header, error) {
	var h header
	body := segmentHeader - 4
	switch {
	case len(b) < segmentHeader, string(b[:8]) != segmentMagic:
		return h, errors.New("no segment header")
	case crc32.Checksum(b[:body], castagnoli) != binary.BigEndian.Uint32(b[body:]):
		return h, errors.New("segment header has a wrong checksum")
	case binary.BigEndian.Uint32(b[8:]) > segmentVersion:
		return h, &NewerFormat{Found: binary.BigEndian.Uint32(b[8:]), Known: segmentVersion}
	}
	copy(h.salt[:], b[12:])
	h.first = binary.BigEndian.Uint64(b[12+saltSize:])
	copy(h.prev[:], b[20+saltSize:])
	return h, nil
}

// appendFrame adds the frame that follows prev, and returns its position.
func appendFrame(dst []byte, salt [saltSize]byte, prev Position, rows []Row, guards []Guard) ([]byte, Position) {
	at := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, frameMagic)
	dst = binary.BigEndian.AppendUint32(dst, 0) // the length, when it is known
	dst = binary.BigEndian.AppendUint64(dst, prev.Number+1)
	dst = append(dst, prev.Hash[:]...)
	dst = binary.BigEndian.AppendUint32(dst, 0) // the crc
	dst = appendBody(dst, rows, guards)

	frame := dst[at:]
	body := frame[frameHeader:]
	binary.BigEndian.PutUint32(frame[4:], uint32(len(body)))
	binary.BigEndian.PutUint32(frame[frameHeader-4:], frameSum(salt, frame))
	return dst, Position{Number: prev.Number + 1, Hash: frameHash(frame)}
}

func frameSum(salt [saltSize]byte, frame []byte) uint32 {
	sum := crc32.Checksum(salt[:], castagnoli)
	sum = crc32.Update(sum, castagnoli, frame[:frameHeader-4])
	return crc32.Update(sum, castagnoli, frame[frameHeader:])
}

func frameHash(frame []byte) (sum [32]byte) {
	h := sha256.New()
	h.Write(frame[:frameHeader-4])
	h.Write(frame[frameHeader:])
	h.Sum(sum[:0])
	return sum
}

// frameLength reads from a frame's header how long the whole frame is.
func frameLength(head []byte) (int, error) {
	length := binary.BigEndian.Uint32(head[4:])
	if binary.BigEndian.Uint32(head) != frameMagic || length > frameLimit {
		return 0, errFrame
	}
	return frameHeader + int(length), nil
}

// checkFrame tells whether frame, whole, carries a right checksum, and gives its number and the hash before it.
func checkFrame(salt [saltSize]byte, frame []byte) (number uint64, prev [32]byte, err error) {
	if binary.BigEndian.Uint32(frame[frameHeader-4:]) != frameSum(salt, frame) {
		return 0, prev, errFrame
	}
	copy(prev[:], frame[16:])
	return binary.BigEndian.Uint64(frame[8:]), prev, nil
}

func appendBody(dst []byte, rows []Row, guards []Guard) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(rows)))
	for _, r := range rows {
		var flags byte
		if r.Delete {
			flags = 1
		}
		dst = append(dst, flags)
		dst = appendBytes(dst, r.Key)
		dst = appendBytes(dst, r.Value)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(guards)))
	for _, g := range guards {
		dst = appendBytes(dst, g.Chain)
		dst = binary.BigEndian.AppendUint64(dst, g.Place)
		dst = append(dst, g.Hash[:]...)
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(b)))
	return append(dst, b...)
}

// decodeBody reads a body whose checksum was right. The rows share its memory.
func decodeBody(body []byte) (rows []Row, guards []Guard, err error) {
	d := decoder{rest: body}
	for range d.count() {
		flags := d.take(1)
		row := Row{Key: d.bytes(), Value: d.bytes()}
		if d.bad || flags[0] > 1 {
			return nil, nil, errFrame
		}
		row.Delete = flags[0] == 1
		rows = append(rows, row)
	}
	for range d.count() {
		g := Guard{Chain: d.bytes()}
		place, hash := d.take(8), d.take(32)
		if d.bad {
			return nil, nil, errFrame
		}
		g.Place = binary.BigEndian.Uint64(place)
		copy(g.Hash[:], hash)
		guards = append(guards, g)
	}
	if d.bad || len(d.rest) != 0 {
		return nil, nil, errFrame
	}
	return rows, guards, nil
}

// A decoder takes bytes off a body until one is missing; from then on it is bad and gives nothing.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.rest) {
		d.bad = true
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) length() int {
	b := d.take(4)
	if d.bad {
		return 0
	}
	return int(binary.BigEndian.Uint32(b))
}

// count is a length that cannot be more than the bytes that are left.
func (d *decoder) count() int {
	n := d.length()
	if n > len(d.rest) {
		d.bad = true
		return 0
	}
	return n
}

func (d *decoder) bytes() []byte { return d.take(d.length()) }
