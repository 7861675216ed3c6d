//go:build linux && cgo

package gpu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/gpus"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
)

// machine is NVIDIA's own mock of a machine with two H100, with UUIDs that do not change.
func machine(t *testing.T) (*server.Server, []string) {
	t.Helper()
	s := dgxh100.NewWithGPUs(gpus.Multiple(2, gpus.H100_SXM5_80GB)...)
	uuids := []string{"GPU-00000000-1111-2222-3333-000000000001", "GPU-00000000-1111-2222-3333-000000000002"}
	for i, d := range s.Devices {
		d := d.(*server.Device)
		d.UUID = uuids[i]
		d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) {
			return nvml.PciInfo{Bus: uint32(0x3b + i)}, nvml.SUCCESS
		}
	}
	return s, uuids
}

// kernel writes a folder as the kernel module shows it.
func kernel(t *testing.T, uuids ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, u := range uuids {
		d := filepath.Join(dir, "0000:3"+string(rune('b'+i))+":00.0")
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		text := "Model: \t\t NVIDIA H100\nIRQ:   \t\t 100\nGPU UUID: \t " + u + "\nBus Type: \t PCIe\n"
		if err := os.WriteFile(filepath.Join(d, "information"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestNVMLDevices(t *testing.T) {
	s, uuids := machine(t)
	got, err := newNVML(s, kernel(t, uuids...)).Devices(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := Device{UUID: uuids[1], Model: "NVIDIA H100 80GB HBM3", Name: "H100_SXM", MemoryMiB: 81920, Compute: 900, Driver: "550.54.15",
		CUDA: "12.4", PCI: "0000:3c:00.0"}
	if len(got) != 2 || got[1] != want {
		t.Fatalf("got %+v, want the second to be %+v", got, want)
	}
}

func TestNVMLIsHeldAgainstTheKernel(t *testing.T) {
	s, uuids := machine(t)
	for name, tt := range map[string]struct {
		kernel string
		wrong  string
	}{
		"the same":          {kernel(t, uuids...), ""},
		"no such folder":    {filepath.Join(t.TempDir(), "none"), ""},
		"not used yet":      {kernel(t, "GPU-????????-????-????-????-????????????", uuids[1]), ""},
		"another GPU":       {kernel(t, uuids[0], "GPU-00000000-1111-2222-3333-000000000009"), uuids[1]},
		"one less":          {kernel(t, uuids[0]), uuids[1]},
		"one hidden, short": {kernel(t, "GPU-????????-????-????-????-????????????"), "lists 2 GPUs"},
	} {
		_, err := newNVML(s, tt.kernel).Devices(context.Background())
		if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%s: got %v, want %q", name, err, tt.wrong)
		}
	}
}

func TestNVMLErrorsAreTold(t *testing.T) {
	s, uuids := machine(t)
	dir := kernel(t, uuids...)
	lost := s.Devices[1].(*server.Device)
	lost.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_GPU_IS_LOST }
	if _, err := newNVML(s, dir).Devices(context.Background()); err == nil || !strings.Contains(err.Error(), "fallen off the bus") {
		t.Errorf("lost GPU: got %v", err)
	}
	s.InitFunc = func() nvml.Return { return nvml.ERROR_LIBRARY_NOT_FOUND }
	if _, err := newNVML(s, dir).Devices(context.Background()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no library: got %v, want %v", err, ErrUnavailable)
	}
}

func TestHangingDriverDoesNotHangItsCallers(t *testing.T) {
	s, uuids := machine(t)
	hang, calls := make(chan struct{}), make(chan struct{}, 10)
	s.DeviceGetCountFunc = func() (int, nvml.Return) {
		calls <- struct{}{}
		<-hang
		return 2, nvml.SUCCESS
	}
	inv := newNVML(s, kernel(t, uuids...))
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if _, err := inv.Devices(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want %v", err, context.DeadlineExceeded)
		}
		cancel()
	}
	if len(calls) != 1 {
		t.Fatalf("%d calls pile up in the driver, want 1", len(calls))
	}
	close(hang)
	if d, err := inv.Devices(context.Background()); err != nil || len(d) != 2 {
		t.Fatalf("after the driver came back: %v, %v", d, err)
	}
}

// The real library: on a machine without a driver it must say so, on one with a driver it must agree with the kernel.
func TestRealNVMLDoesNotPanic(t *testing.T) {
	d, err := NVML().Devices(context.Background())
	if err != nil && !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	t.Logf("%d GPUs, %v", len(d), err)
}
