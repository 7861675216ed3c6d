//go:build linux && cgo

package gpu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// queryTimeout bounds one look at the driver: a GPU that has fallen off the bus can make calls hang for good.
const queryTimeout = 20 * time.Second

// kernelGPUs is where NVIDIA's kernel module lists its GPUs, one folder for each PCI address.
const kernelGPUs = "/proc/driver/nvidia/gpus"

// nvmlInventory asks the driver. NVML cannot be cancelled, so at most one query runs at a time, and one that hangs is left
// behind: later calls wait for it, within their own deadline, instead of piling up.
type nvmlInventory struct {
	lib    nvml.Interface
	kernel string // folder to compare with

	mu      sync.Mutex
	running chan struct{} // closed at the end of the query under way; nil: none
	devices []Device
	err     error
}

// NVML is the inventory of the machine's NVIDIA GPUs.
func NVML() Inventory { return newNVML(nvml.New(), kernelGPUs) }

func newNVML(lib nvml.Interface, kernel string) *nvmlInventory {
	return &nvmlInventory{lib: lib, kernel: kernel}
}

// Devices asks the driver for all GPUs, and the kernel module whether it has the same ones. Without a driver the error is
// ErrUnavailable.
func (n *nvmlInventory) Devices(ctx context.Context) ([]Device, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	n.mu.Lock()
	done := n.running
	if done == nil {
		done = make(chan struct{})
		n.running = done
		go n.query(done)
	}
	n.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("gpu: the driver does not answer: %w", ctx.Err())
	case <-done:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.devices), n.err
}

func (n *nvmlInventory) query(done chan struct{}) {
	devices, err := n.list()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.devices, n.err, n.running = devices, err, nil
	close(done)
}

func (n *nvmlInventory) list() ([]Device, error) {
	if ret := n.lib.Init(); ret != nvml.SUCCESS {
		return nil, fmt.Errorf("%w: NVIDIA's driver library: %s: is the driver installed, and does nvidia-smi work?", ErrUnavailable, text(ret))
	}
	defer n.lib.Shutdown()
	driver, ret := n.lib.SystemGetDriverVersion()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("gpu: driver version: %s", text(ret))
	}
	cuda, ret := n.lib.SystemGetCudaDriverVersion()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("gpu: CUDA version: %s", text(ret))
	}
	count, ret := n.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("gpu: count: %s", text(ret))
	}
	list := make([]Device, 0, count)
	for i := range count {
		d, err := n.device(i)
		if err != nil {
			return nil, err
		}
		d.Driver, d.CUDA = driver, fmt.Sprintf("%d.%d", cuda/1000, cuda%1000/10)
		list = append(list, d)
	}
	return list, compare(list, n.kernel)
}

func (n *nvmlInventory) device(i int) (Device, error) {
	h, ret := n.lib.DeviceGetHandleByIndex(i)
	if ret != nvml.SUCCESS {
		return Device{}, fmt.Errorf("gpu: GPU %d: %s", i, text(ret))
	}
	uuid, ret := h.GetUUID()
	if ret != nvml.SUCCESS {
		return Device{}, fmt.Errorf("gpu: GPU %d: UUID: %s", i, text(ret))
	}
	name, ret := h.GetName()
	if ret != nvml.SUCCESS {
		return Device{}, fmt.Errorf("gpu: %s: name: %s", uuid, text(ret))
	}
	memory, ret := h.GetMemoryInfo()
	if ret != nvml.SUCCESS {
		return Device{}, fmt.Errorf("gpu: %s: memory: %s", uuid, text(ret))
	}
	pci, ret := h.GetPciInfo()
	if ret != nvml.SUCCESS {
		return Device{}, fmt.Errorf("gpu: %s: PCI address: %s", uuid, text(ret))
	}
	major, minor, ret := h.GetCudaComputeCapability()
	if ret != nvml.SUCCESS {
		return Device{}, fmt.Errorf("gpu: %s: compute capability: %s", uuid, text(ret))
	}
	return Device{UUID: uuid, Model: name, Name: MarketName(name), MemoryMiB: int64(memory.Total >> 20), Compute: uint16(major*100 + minor*10),
		PCI: fmt.Sprintf("%04x:%02x:%02x.0", pci.Domain, pci.Bus, pci.Device)}, nil
}

// compare holds the driver's list against the kernel module's: a library that was replaced can say anything, so each GPU
// must be known to both, by UUID. A kernel without the list (a container, an open driver without it) proves nothing.
func compare(list []Device, kernel string) error {
	folders, err := os.ReadDir(kernel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("gpu: %w", err)
	}
	known := map[string]bool{}
	for _, f := range folders {
		uuid, err := kernelUUID(filepath.Join(kernel, f.Name(), "information"))
		if err != nil {
			return fmt.Errorf("gpu: %w", err)
		}
		known[uuid] = true
	}
	for _, d := range list {
		// The module shows question marks until a GPU was first used.
		if !known[d.UUID] && !hidden(known) {
			return fmt.Errorf("gpu: %s (%s) is in the driver library's list, but not in %s", d.UUID, d.Model, kernel)
		}
	}
	if len(known) > 0 && len(folders) < len(list) {
		return fmt.Errorf("gpu: the driver library lists %d GPUs, %s has %d", len(list), kernel, len(folders))
	}
	return nil
}

func hidden(known map[string]bool) bool {
	for uuid := range known {
		if strings.Contains(uuid, "?") {
			return true
		}
	}
	return false
}

func kernelUUID(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == "GPU UUID" {
			return strings.TrimSpace(v), nil
		}
	}
	return "", errors.Join(lines.Err(), fmt.Errorf("%s: no GPU UUID", file))
}

// text avoids nvml.ErrorString, which calls into the library even when that was not found.
func text(ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return "libnvidia-ml.so.1 not found"
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "the driver is not loaded"
	case nvml.ERROR_NO_PERMISSION:
		return "no permission"
	case nvml.ERROR_GPU_IS_LOST:
		return "the GPU has fallen off the bus"
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return "library and kernel module are of different versions: restart the machine"
	case nvml.ERROR_TIMEOUT:
		return "timeout"
	}
	return fmt.Sprintf("NVML error %d", int32(ret))
}
