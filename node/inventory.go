package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"time"

	"souk/exec/gate"
	"souk/exec/gpu"
	"souk/node/core/step"
	"souk/p2p/member"
)

// Deadlines at the edge.
const (
	inventoryEvery = time.Minute
	inventoryWait  = 20 * time.Second // a driver that takes longer is hung
)

// watchInventory tells the core of this machine's hardware, at the start and whenever it changes.
func (n *Node) watchInventory(ctx context.Context) error {
	if !n.opts.Config.Role().Has(member.RoleHost) {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	t := time.NewTicker(inventoryEvery)
	defer t.Stop()
	var last step.Inventory
	for known := false; ; {
		devices, machine, _, err := n.Inventory(ctx)
		next := step.Inventory{Devices: devices, Machine: machine}
		if err != nil {
			n.log.Warn("looking for GPUs", "err", err)
			next = last // but whether it is fit
		}
		next.Unfit = gate.Unfit(n.judge(ctx, false))
		changed := !reflect.DeepEqual(next.Devices, last.Devices) || next.Machine.Engine != last.Machine.Engine || next.Unfit != last.Unfit
		if ctx.Err() == nil && (known && changed || !known && err == nil) {
			last, known = next, true
			n.put(ctx, last)
		}
		select {
		case <-t.C:
		case <-n.pods.fitness:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// gpus is the inventory that the configuration names: simulated GPUs, or those that NVML finds.
func (n *Node) gpus() (gpu.Inventory, error) {
	if spec := n.opts.Config.SimulatedGPUs; spec != "" {
		return gpu.Simulated(n.self, spec)
	}
	return gpu.NVML(), nil
}

// Inventory is this machine as it is now: its GPUs, the computer around them, and the self-test's lines. An error means
// that the list of GPUs cannot be trusted.
func (n *Node) Inventory(ctx context.Context) ([]member.Device, member.Machine, []member.Check, error) {
	ctx, cancel := context.WithTimeout(ctx, inventoryWait)
	defer cancel()
	m := n.machine(ctx)
	inv, err := n.gpus()
	if err != nil {
		return nil, m, nil, err
	}
	found, err := inv.Devices(ctx)
	if errors.Is(err, gpu.ErrUnavailable) {
		found = nil
	} else if err != nil {
		return nil, m, nil, err
	}
	devices := make([]member.Device, 0, len(found))
	for _, d := range found {
		devices = append(devices, member.Device{UUID: d.UUID, Model: d.Name, MemoryMiB: uint32(d.MemoryMiB), Simulated: d.Simulated, Compute: d.Compute})
		m.Driver, m.CUDA = d.Driver, d.CUDA
	}
	m.GPUs = uint16(len(devices))
	n.pods.measure(m, len(devices))
	n.realGPUs(devices)
	return devices, m, n.checks(devices, m, n.judge(ctx, false), err), nil
}

func (n *Node) machine(ctx context.Context) member.Machine {
	name, version := n.pods.describe(ctx)
	m := member.Machine{CPU: cpuModel(), Cores: cores(), OS: runtime.GOOS + "/" + runtime.GOARCH, Runtime: name, Engine: clip(version, 96)}
	m.MemoryMiB = memoryMiB()
	if free, err := freeSpace(n.opts.Config.Home); err == nil {
		m.DiskGiB = uint32(free >> 30)
	}
	return m
}

// checks is the self-test, in the words of an application.
func (n *Node) checks(devices []member.Device, m member.Machine, gates []gate.Result, gpuErr error) []member.Check {
	gpus := member.Check{Name: "gpus", OK: len(devices) > 0, Detail: fmt.Sprintf("%d found", len(devices))}
	if gpuErr != nil {
		gpus.Detail = clip(gpuErr.Error(), 256)
	} else if len(devices) > 0 {
		gpus.Detail = fmt.Sprintf("%d × %s", len(devices), devices[0].Model)
		if devices[0].Simulated {
			gpus.Detail += " (simulated)"
		}
	}
	disk := member.Check{Name: "disk", OK: m.DiskGiB >= 10, Detail: fmt.Sprintf("%d GiB free", m.DiskGiB)}
	memory := member.Check{Name: "memory", OK: m.MemoryMiB >= 2048, Detail: fmt.Sprintf("%d MiB, %d cores", m.MemoryMiB, m.Cores)}
	network := member.Check{Name: "network", OK: len(n.net.Addrs()) > 0, Detail: clip(strings.Join(n.addrs(), " "), 256)}
	list := []member.Check{gpus, disk, memory, network}
	for _, g := range gates {
		c := member.Check{Name: g.Name, OK: g.State != gate.Fails, Detail: g.Actual}
		if g.State != gate.Passes {
			c.Detail += "; needed: " + g.Needed
		}
		c.Detail = clip(c.Detail, 256)
		list = append(list, c)
	}
	return list
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

// cpuModel reads the processor's name where the system tells it.
func cpuModel() string { return clip(field("/proc/cpuinfo", "model name"), 96) }

func memoryMiB() uint32 {
	kb, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	v, _ := strconv.ParseUint(kb, 10, 64)
	return uint32(v >> 10)
}

func cores() uint16 { return uint16(min(runtime.NumCPU(), 65535)) }

// field is the value behind the first line of a file that begins with a name.
func field(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		k, v, ok := strings.Cut(s.Text(), ":")
		if ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
