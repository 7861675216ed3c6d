package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/client"

	"souk/exec/gate"
)

// Facts are what a host's gates are judged by: the engine's versions and settings, and whether pods of home can be fenced off,
// which it tries. realGPUs: the machine has some, so NVIDIA's toolkit matters.
func (d *Docker) Facts(ctx context.Context, home string, realGPUs bool) gate.Facts {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	f := gate.Facts{RealGPUs: realGPUs, Remote: !strings.HasPrefix(d.api.DaemonHost(), "unix://")}
	v, err := d.api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		f.EngineErr = d.fault(err)
		return f
	}
	f.Engine = v.Version
	for _, c := range v.Components {
		switch c.Name {
		case "containerd":
			f.Containerd = c.Version
		case "runc":
			f.Runc = c.Version
		}
	}
	info, err := d.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		f.EngineErr = d.fault(err)
		return f
	}
	f.Platform, f.Security, f.Storage = info.Info.OperatingSystem, info.Info.SecurityOptions, info.Info.Driver
	for _, s := range info.Info.DriverStatus {
		if s[0] == "Backing Filesystem" {
			f.Storage += " on " + s[1]
		}
	}
	f.Quota = slices.Contains([]string{"btrfs", "zfs"}, info.Info.Driver) || f.Storage == "overlay2 on xfs" && quotas("/proc/self/mounts", info.Info.DockerRootDir)
	if f.Storage == "overlay2 on xfs" && !f.Quota {
		f.Storage += " without pquota"
	}
	f.FirewallErr = d.Fence(home).Load(ctx)
	f.RoomErr = fmt.Errorf("routes over all of %s", join(d.pools()))
	for range subnets(d.pools(), home, routes()) {
		f.RoomErr = nil
		break
	}
	if realGPUs {
		out, _ := osexec.CommandContext(ctx, "nvidia-ctk", "--version").Output()
		if _, version, ok := strings.Cut(string(out), "version "); ok {
			f.Toolkit, _, _ = strings.Cut(version, "\n")
		}
	}
	return f
}

// quotas says whether the file system that a folder is on keeps project quotas.
func quotas(mounts, dir string) bool {
	b, err := os.ReadFile(mounts)
	if err != nil {
		return false
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	at, options := "", ""
	for l := range strings.Lines(string(b)) {
		if w := strings.Fields(l); len(w) > 3 && len(w[1]) >= len(at) && (dir == w[1] || strings.HasPrefix(dir, strings.TrimSuffix(w[1], "/")+"/")) {
			at, options = w[1], w[3]
		}
	}
	list := strings.Split(options, ",")
	return slices.Contains(list, "prjquota") || slices.Contains(list, "pquota")
}

// ErrNoEngine is the fact of a host whose engine is not known yet.
var ErrNoEngine = errors.New("no container engine answers")
