package member

import (
	"fmt"
	"time"
)

// A Time is an instant: milliseconds since 1970, UTC. It enters the pure packages in inputs and is never asked for there.
type Time int64

// Common spans, in milliseconds.
const (
	Second Time = 1000
	Hour   Time = 3600 * Second
	Day    Time = 24 * Hour
)

// At is the Time of a time.Time.
func At(t time.Time) Time { return Time(t.UnixMilli()) }

// Go is the time.Time, in UTC.
func (t Time) Go() time.Time { return time.UnixMilli(int64(t)).UTC() }

// Span is a number of milliseconds as a time.Duration.
func (t Time) Span() time.Duration { return time.Duration(t) * time.Millisecond }

// String is RFC 3339 in UTC.
func (t Time) String() string { return t.Go().Format(time.RFC3339) }

// MarshalText is String, and nothing for the zero Time, which means never. On the wire a Time is a number all the same.
func (t Time) MarshalText() ([]byte, error) {
	if t == 0 {
		return nil, nil
	}
	return []byte(t.Go().Format("2006-01-02T15:04:05.999Z07:00")), nil
}

// UnmarshalText reads what MarshalText wrote, and any other RFC 3339 time.
func (t *Time) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*t = 0
		return nil
	}
	at, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return fmt.Errorf("member: %q is not a time; want RFC 3339, as in 2026-10-01T02:00:00Z", b)
	}
	*t = At(at)
	return nil
}

// A Minute is one slot of a market, counted from 1970: floor(unix seconds / slot). It is 60 s long except in testnets.
type Minute uint64

// HourMinutes is how many minutes make an hour of evidence and storage, whatever the slot.
const HourMinutes = 60

// A Clock turns instants into minutes of one market.
type Clock struct{ Slot Time }

// Minute is the minute that t lies in.
func (c Clock) Minute(t Time) Minute { return Minute(t / c.Slot) }

// Tick is the instant at which minute m begins.
func (c Clock) Tick(m Minute) Time { return Time(m) * c.Slot }

// Due is ":50" of minute m: five sixths of a slot after its tick, when what pays for the minute before must have come.
func (c Clock) Due(m Minute) Time { return c.Tick(m) + c.Slot*5/6 }

// Seconds is the length of a slot in seconds.
func (c Clock) Seconds() int64 { return int64(c.Slot / Second) }
