package step

import "testing"

func TestRoomIsTakenBackOnlyWithSlack(t *testing.T) {
	const want = 800
	for _, c := range []struct {
		from Level
		free int64
		to   Level
	}{
		{RoomAmple, 800, RoomAmple}, {RoomAmple, 799, RoomLow}, {RoomAmple, 200, RoomLow}, {RoomAmple, 199, RoomFull},
		{RoomLow, 800, RoomLow}, {RoomLow, 899, RoomLow}, {RoomLow, 900, RoomAmple}, {RoomLow, 199, RoomFull},
		{RoomFull, 200, RoomFull}, {RoomFull, 299, RoomFull}, {RoomFull, 300, RoomLow}, {RoomFull, 899, RoomLow}, {RoomFull, 900, RoomAmple},
	} {
		if got := c.from.Next(c.free, want); got != c.to {
			t.Errorf("%v with %d of %d: %v, want %v", c.from, c.free, want, got, c.to)
		}
	}
}
