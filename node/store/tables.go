package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4/fb"
)

// checkTables checks every table file of the database before it is opened: Badger does so too, but in goroutines of its own,
// and it ends the process, or panics where nobody can catch it, when a table's footer or block is damaged.
//
// A table is blocks, their index, and from its end backwards: length of a checksum 4, the checksum, length of the index 4.
// A block ends likewise: in the length of its checksum 4, and the checksum.
func checkTables(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		return fmt.Errorf("store: listing tables: %w", err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err == nil {
			err = checkTable(b)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

var errTable = errors.New("its checksum is wrong")

func checkTable(b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil { // of the index's decoder
			err = errTable
		}
	}()
	rest, sum, err := cutSum(b)
	if err != nil || len(rest) < 4 {
		return errTable
	}
	rest, length := rest[:len(rest)-4], binary.BigEndian.Uint32(rest[len(rest)-4:])
	if uint64(length) > uint64(len(rest)) {
		return errTable
	}
	blocks, index := rest[:len(rest)-int(length)], rest[len(rest)-int(length):]
	if len(index) == 0 || uint64(crc32.Checksum(index, castagnoli)) != sum {
		return errTable
	}
	t := fb.GetRootAsTableIndex(index, 0)
	var at fb.BlockOffset
	for i := range t.OffsetsLength() {
		if !t.Offsets(&at, i) || uint64(at.Offset())+uint64(at.Len()) > uint64(len(blocks)) {
			return errTable
		}
		body, sum, err := cutSum(blocks[at.Offset() : at.Offset()+at.Len()])
		if err != nil || uint64(crc32.Checksum(body, castagnoli)) != sum {
			return errTable
		}
	}
	return nil
}

// cutSum takes the checksum off the end of a block or an index: a message of two numbers, the algorithm, which is CRC-32C and
// so not named, and the sum.
func cutSum(b []byte) (body []byte, sum uint64, err error) {
	if len(b) < 4 {
		return nil, 0, errTable
	}
	length := binary.BigEndian.Uint32(b[len(b)-4:])
	b = b[:len(b)-4]
	if uint64(length) > uint64(len(b)) {
		return nil, 0, errTable
	}
	body, text := b[:len(b)-int(length)], b[len(b)-int(length):]
	if len(text) == 0 {
		return body, 0, nil // a sum of zero is not written at all
	}
	sum, n := binary.Uvarint(text[1:])
	if text[0] != 2<<3 || n != len(text)-1 {
		return nil, 0, errTable
	}
	return body, sum, nil
}
