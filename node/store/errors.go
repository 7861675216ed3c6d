package store

import (
	"errors"
	"fmt"
)

// Errors that callers test with errors.Is.
var (
	// ErrNotFound: no row has this key.
	ErrNotFound = errors.New("store: no such row")
	// ErrClosed: the store or its committer has ended.
	ErrClosed = errors.New("store: closed")
	// ErrDiskFull: the file system has less room than Options.MinFree. Nothing was written.
	ErrDiskFull = errors.New("store: disk is nearly full")
	// ErrQuarantine: index and journal contradict each other in a way that only lost or exchanged files explain. A node
	// that went on could sign a second content for one place; it must first learn from others what it signed.
	ErrQuarantine = errors.New("store: in quarantine")
)

// SignedTwice refuses a guard: its place in the chain is taken by another payload, or lies below the highest place, so
// that what was signed there is no longer known here.
type SignedTwice struct {
	Chain []byte
	Place uint64   // the place asked for
	Hash  [32]byte // the payload that was to take it
	Top   uint64   // the highest place taken
	Held  [32]byte // the payload that holds Top
}

func (e *SignedTwice) Error() string {
	if e.Place == e.Top {
		return fmt.Sprintf("store: place %d of chain %x is signed as %x, refusing %x", e.Place, e.Chain, e.Held[:8], e.Hash[:8])
	}
	return fmt.Sprintf("store: place %d of chain %x lies below %d, which is signed; refusing %x", e.Place, e.Chain, e.Top, e.Hash[:8])
}

// TooLarge refuses a batch that no transaction of the index can hold, or a value over the limit of one row.
type TooLarge struct {
	Records, Bytes       int
	MaxRecords, MaxBytes int
}

func (e *TooLarge) Error() string {
	return fmt.Sprintf("store: a batch of %d records and %d bytes; the largest has %d records and %d bytes",
		e.Records, e.Bytes, e.MaxRecords, e.MaxBytes)
}

// Corrupt says where the journal is damaged. It is never repaired by cutting: what follows the damage was acknowledged.
type Corrupt struct {
	Segment string // file name
	Offset  int64  // of the first bad byte that can be told
	Reason  string
}

func (e *Corrupt) Error() string {
	return fmt.Sprintf("store: journal segment %s is damaged at offset %d: %s", e.Segment, e.Offset, e.Reason)
}

// Damaged says that the index cannot be opened. Rebuild makes a new one from the journal.
type Damaged struct {
	Dir   string
	Cause error
}

func (e *Damaged) Error() string {
	return fmt.Sprintf("store: index %s is damaged: %v", e.Dir, e.Cause)
}

// Unwrap gives the cause.
func (e *Damaged) Unwrap() error { return e.Cause }

// Locked says that another process holds this home. PID is 0 when it cannot be told.
type Locked struct {
	Dir string
	PID int
}

func (e *Locked) Error() string {
	who := "pid unknown"
	if e.PID > 0 {
		who = fmt.Sprintf("pid %d", e.PID)
	}
	return fmt.Sprintf("store: another souk node runs on this home (%s): %s", who, e.Dir)
}

// NewerFormat says that a newer version of the program wrote this store.
type NewerFormat struct{ Found, Known uint32 }

func (e *NewerFormat) Error() string {
	return fmt.Sprintf("store: format %d was written by a newer souk; this one knows up to %d", e.Found, e.Known)
}
