package node

import (
	"testing"

	"pgregory.net/rapid"
)

func TestShareOfAPod(t *testing.T) {
	const gib = 1 << 30
	big := capacity{memory: 1000 * gib, cpus: 128_000, gpus: 8}
	small := capacity{memory: 4 * gib, cpus: 2000, gpus: 8}
	for _, tt := range []struct {
		c            capacity
		gpus         int
		memory, cpus int64
	}{
		{big, 8, 900 * gib, 128_000},
		{big, 2, 225 * gib, 32_000},
		{big, 0, 900 * gib / 16, 8000},
		{small, 8, 3 * gib, 2000},
		{small, 1, 3 * gib / 8, 1000},
		{small, 0, 256 << 20, 1000},
		{capacity{memory: 10 * gib, cpus: 500, gpus: 1}, 1, 9 * gib, 500},
		{capacity{memory: 11 * gib, cpus: 4000}, 0, (11*gib - 11*gib/10) / 2, 2000},
		{capacity{memory: 11 * gib, cpus: 4000}, 2, 11*gib - 11*gib/10, 4000}, // more than there are: they went away
		{capacity{memory: gib / 2, cpus: 1000, gpus: 1}, 1, 256 << 20, 1000},
		{capacity{cpus: 4000, gpus: 2}, 1, 0, 2000},
	} {
		memory, cpus := tt.c.share(tt.gpus)
		if d := memory - tt.memory; d < -64 || d > 0 || cpus != tt.cpus {
			t.Errorf("%d GPUs of %+v: got %d bytes and %d milli-CPUs, want %d and %d", tt.gpus, tt.c, memory, cpus, tt.memory, tt.cpus)
		}
	}
}

// The pods of a machine whose GPUs are all rented leave its reserve alone, as long as shares are above the least ones.
func TestSharesLeaveTheReserve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := capacity{memory: rapid.Int64Range(64<<30, 4<<40).Draw(t, "memory"), cpus: rapid.Int64Range(64_000, 1_000_000).Draw(t, "cpus"),
			gpus: rapid.IntRange(1, 16).Draw(t, "gpus")}
		left, memory, cpus := c.gpus, int64(0), int64(0)
		for left > 0 {
			n := rapid.IntRange(1, left).Draw(t, "pod")
			left -= n
			m, p := c.share(n)
			memory, cpus = memory+m, cpus+p
		}
		if memory > c.memory-max(leastReserve, c.memory/10) || cpus > c.cpus {
			t.Fatalf("%+v: pods have %d bytes and %d milli-CPUs", c, memory, cpus)
		}
	})
}
