package gpu

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxSimulated bounds how many GPUs a specification may make up.
const MaxSimulated = 64

// ErrSpec is what errors about a specification wrap.
var ErrSpec = errors.New("gpu: bad simulated GPUs")

// A simulation is a list made up once.
type simulation []Device

// Simulated makes up GPUs: spec is a list like 8xH100 or 4xRTX_4090,2xA100, in market names or the short forms H100, A100
// and V100. The same node address and spec give the same devices, with the same UUIDs; other addresses give others.
func Simulated(addr [20]byte, spec string) (Inventory, error) {
	var list simulation
	for part := range strings.SplitSeq(spec, ",") {
		count, name, ok := strings.Cut(strings.TrimSpace(part), "x")
		n, err := strconv.Atoi(count)
		if !ok || err != nil || n < 1 {
			return nil, fmt.Errorf("%w: %q: write COUNTxMODEL, as in 8xH100 or 4xRTX_4090,2xA100", ErrSpec, part)
		}
		m, err := modelOf(name)
		if err != nil {
			return nil, err
		}
		if n > MaxSimulated-len(list) {
			return nil, fmt.Errorf("%w: %q has more than %d GPUs", ErrSpec, spec, MaxSimulated)
		}
		for range n {
			i := len(list)
			list = append(list, Device{UUID: simulatedUUID(addr, i), Model: m.model, Name: m.name, MemoryMiB: m.memoryMiB, Compute: m.compute,
				PCI: fmt.Sprintf("0000:%02x:00.0", i+1), Simulated: true})
		}
	}
	return list, nil
}

// Devices is the made-up list.
func (s simulation) Devices(ctx context.Context) ([]Device, error) { return slices.Clone(s), ctx.Err() }

// simulatedUUID is the first half of sha256("souk simulated gpu" ‖ address ‖ index), with the version and variant of a
// name-based UUID (RFC 9562, version 8).
func simulatedUUID(addr [20]byte, index int) string {
	h := sha256.New()
	h.Write([]byte("souk simulated gpu"))
	h.Write(addr[:])
	binary.Write(h, binary.BigEndian, uint32(index))
	b := h.Sum(nil)[:16]
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	x := hex.EncodeToString(b)
	return "GPU-" + x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

func modelOf(name string) (model, error) {
	want := strings.ToUpper(strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(name), "-", "_"), " ", "_"))
	for _, a := range aliases {
		if want == a.alias {
			want = a.name
		}
	}
	for _, m := range models {
		if want == m.name {
			return m, nil
		}
	}
	return model{}, fmt.Errorf("%w: no model %q: did you mean %s?", ErrSpec, name, strings.Join(near(want), ", "))
}

// near are the three known names that need the fewest changes.
func near(want string) []string {
	var names []string
	for _, a := range aliases {
		names = append(names, a.alias)
	}
	for _, m := range models {
		names = append(names, m.name)
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(distance(want, a), distance(want, b)) })
	return names[:3]
}

// distance is Levenshtein's.
func distance(a, b string) int {
	a = a[:min(len(a), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
