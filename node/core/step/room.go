package step

import "fmt"

// A Level says how much room the disk has left.
type Level uint8

// The levels. What a lower one needs to finish what is under way, a higher one leaves.
const (
	RoomAmple Level = 0
	RoomLow   Level = 1 // nothing new is taken
	RoomFull  Level = 2 // nothing is signed
)

// String is the level in a word.
func (l Level) String() string {
	switch l {
	case RoomAmple:
		return "ample"
	case RoomLow:
		return "low"
	case RoomFull:
		return "full"
	}
	return fmt.Sprintf("level %d", uint8(l))
}

// fullPart is the part of the wanted room below which nothing is signed any more.
const fullPart = 4

// Next is the level that follows l when so many bytes are free and so many are wanted. It changes for the better only when
// there is an eighth more than it takes to change for the worse, lest it flutter.
func (l Level) Next(free, want int64) Level {
	slack := want / 8
	switch {
	case free < want/fullPart, l == RoomFull && free < want/fullPart+slack:
		return RoomFull
	case free < want, l != RoomAmple && free < want+slack:
		return RoomLow
	}
	return RoomAmple
}

// A Room says how the disk's room has changed. Free and Want are bytes.
type Room struct {
	Level      Level
	Free, Want int64
}

func (Room) input() {}

// String says it for people.
func (r Room) String() string {
	return fmt.Sprintf("%d MiB free, %d MiB wanted", r.Free>>20, r.Want>>20)
}
