package gpu

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"souk/market"
)

func TestSimulatedGPUsStayTheSameForANode(t *testing.T) {
	a, b := [20]byte{1}, [20]byte{2}
	list := func(addr [20]byte, spec string) []Device {
		inv, err := Simulated(addr, spec)
		if err != nil {
			t.Fatal(err)
		}
		d, err := inv.Devices(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first, again, other := list(a, "4xRTX_4090, 2xA100"), list(a, "4xrtx-4090,2xA100"), list(b, "4xRTX_4090,2xA100")
	if !slices.Equal(first, again) {
		t.Fatalf("one node, two lists:\n%v\n%v", first, again)
	}
	uuid := regexp.MustCompile(`^GPU-[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for _, d := range slices.Concat(first, other) {
		if !uuid.MatchString(d.UUID) || seen[d.UUID] || !d.Simulated || d.MemoryMiB <= 0 {
			t.Errorf("device %+v: want a new UUID, memory, and to be called simulated", d)
		}
		seen[d.UUID] = true
	}
	if len(first) != 6 || first[0].Name != "RTX_4090" || first[5].Name != "A100_SXM_80GB" {
		t.Fatalf("got %v", first)
	}
	if got, want := first[0].UUID, "GPU-a1d4c204-e358-807f-b5aa-94b1306c0c9d"; got != want {
		t.Fatalf("the UUID of a node's GPU has changed: got %s, want %s", got, want)
	}
}

func TestBadSpecificationsSayWhatToWrite(t *testing.T) {
	for spec, hint := range map[string]string{
		"": "8xH100", "H100": "8xH100", "0xH100": "8xH100", "-1xH100": "8xH100", "1xH100,": "8xH100",
		"1xRTX_409": "RTX_4090", "1xh1000": "H100", "65xH100": "more than 64", "64xH100,1xA100": "more than 64",
		"99999999999999999999xH100": "8xH100", "1x" + strings.Repeat("z", 10000): "did you mean",
	} {
		_, err := Simulated([20]byte{}, spec)
		if !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%.40q: got %v, want %q in it", spec, err, hint)
		}
	}
}

// TestMarketKnowsEveryModel keeps the market's list of names, against which queries are checked, and ours together.
func TestMarketKnowsEveryModel(t *testing.T) {
	var names []string
	for _, m := range models {
		names = append(names, m.name)
		if m.compute < 700 || m.compute > 1300 {
			t.Errorf("%s has compute capability %d", m.name, m.compute)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, market.Models()) {
		t.Errorf("the market knows %v, want %v", market.Models(), names)
	}
}

func TestMarketNames(t *testing.T) {
	for model, want := range map[string]string{
		"NVIDIA H100 80GB HBM3":          "H100_SXM",
		"NVIDIA GeForce RTX 4090":        "RTX_4090",
		"NVIDIA RTX 6000 Ada Generation": "RTX_6000_ADA",
		"NVIDIA GeForce RTX 2080 Ti":     "RTX_2080_Ti",
		"Tesla P100-PCIE-16GB":           "P100_PCIE_16GB",
	} {
		if got := MarketName(model); got != want {
			t.Errorf("%q: got %q, want %q", model, got, want)
		}
	}
	for _, m := range models {
		if got := MarketName(m.model); got != m.name {
			t.Errorf("%q: got %q, want %q", m.model, got, m.name)
		}
	}
}
