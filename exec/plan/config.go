package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Policy is what the host decides about all containers.
type Policy struct {
	Home    string   // identity of the node, on every object
	Runtime string   // OCI runtime; empty: the engine's default
	CDI     bool     // ask for GPUs by CDI names (engines from 25 on), else by the nvidia driver
	DNS     []string // resolvers for pods; empty: public ones
	Files   int64    // open files a process; 0: 65536, which an engine without CAP_SYS_RESOURCE may be unable to give
	Seccomp string   // profile of system calls, JSON; empty: the engine's default
}

// What every container gets, whatever its lease says. Capabilities are Docker's default set without NET_RAW, MKNOD, SETPCAP
// and SETFCAP: enough for package managers and for daemons that drop their privileges.
const (
	pidsLimit   = 4096
	oomScoreAdj = 500 // the pod dies before the node
	logMaxSize  = "10m"
	logMaxFiles = "3"
	maxShm      = 64 << 30
	openFiles   = 65536 // a process; data loaders want tens of thousands
)

// resolvers answer pods that their host names none for. They are public: a pod reaches none of the host's own network.
var resolvers = [...]string{"1.1.1.1", "9.9.9.9"}

var capabilities = [...]string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT",
}

// A Config is a container's whole configuration, in words of our own. A runtime translates it field by field and adds
// nothing but what its comment says.
type Config struct {
	Name   string
	Image  string
	Cmd    []string // nil: the image's
	Env    []string // overrides the image's
	Labels map[string]string
	Volume *Mount

	Init     bool // a first process that forwards signals and reaps orphans, so that the pod itself sees SIGTERM
	Restart  string
	LogType  string
	LogOpts  map[string]string
	Network  Net
	DNS      []string
	Search   []string // domains that a name without one is looked up in
	Runtime  string
	Ipc      string
	Cgroupns string

	CapDrop     []string
	CapAdd      []string
	SecurityOpt []string
	Privileged  bool // always false; here so that tests and reviewers see it said

	Memory      int64 // bytes, 0: no limit
	MemorySwap  int64 // memory and swap together: the same, so no swap
	Shm         int64
	NanoCPUs    int64
	Pids        int64
	OpenFiles   int64
	CoreFile    int64
	LockMemory  bool // without limit, which real GPUs need for transfers
	OomScoreAdj int

	Devices []DeviceRequest
}

// A Mount is a volume and where it appears. There is no other kind of mount.
type Mount struct {
	Name   string
	Target string
	Labels map[string]string
}

// A Net is a pod's own network: nobody else is on it. Its bridge on the host has a name that the host's rules know.
type Net struct {
	Name   string
	Bridge string
	Labels map[string]string
}

// A DeviceRequest asks the engine for GPUs by name.
type DeviceRequest struct {
	Driver       string // cdi or nvidia
	IDs          []string
	Capabilities []string
}

// NewConfig is the configuration of one run of a pod: a function of lease and policy only. It refuses what Validate refuses.
func NewConfig(p Pod, start uint32, policy Policy) (Config, error) {
	if err := p.Validate(); err != nil {
		return Config{}, err
	}
	if policy.Home == "" {
		return Config{}, fmt.Errorf("plan: policy without home")
	}
	c := Config{
		Name:   ContainerName(policy.Home, p.Lease, start),
		Image:  p.Image,
		Cmd:    slices.Clone(p.Command),
		Env:    environment(p),
		Labels: labels(p, start, policy),

		Init:     true,
		Restart:  "no", // the node restarts, not the engine: a restart is a new run, and is billed as one
		LogType:  "local",
		LogOpts:  map[string]string{"max-size": logMaxSize, "max-file": logMaxFiles},
		Network:  Net{Name: VolumeName(policy.Home, p.Lease), Bridge: BridgeName(policy.Home, p.Lease), Labels: labels(p, 0, policy)},
		DNS:      slices.Clone(policy.DNS),
		Search:   []string{"."}, // none: else the host's own, which name its network
		Runtime:  policy.Runtime,
		Ipc:      "private",
		Cgroupns: "private",

		CapDrop:     []string{"ALL"},
		CapAdd:      slices.Clone(capabilities[:]),
		SecurityOpt: []string{"no-new-privileges:true"},

		Memory:      p.Memory,
		MemorySwap:  p.Memory,
		Shm:         min(p.Memory/2, maxShm),
		NanoCPUs:    p.CPUs * 1_000_000,
		Pids:        pidsLimit,
		OpenFiles:   cmp.Or(policy.Files, openFiles),
		LockMemory:  hasDevice(p.GPUs),
		OomScoreAdj: oomScoreAdj,

		Devices: devices(p.GPUs, policy.CDI),
	}
	if policy.Seccomp != "" {
		c.SecurityOpt = append(c.SecurityOpt, "seccomp="+policy.Seccomp)
	}
	if len(c.DNS) == 0 {
		c.DNS = slices.Clone(resolvers[:])
	}
	if p.Volume > 0 {
		c.Volume = &Mount{Name: VolumeName(policy.Home, p.Lease), Target: p.mount(), Labels: labels(p, 0, policy)}
	}
	return c, nil
}

func labels(p Pod, start uint32, policy Policy) map[string]string {
	return map[string]string{
		LabelHome:   policy.Home,
		LabelLease:  p.Lease,
		LabelStart:  strconv.FormatUint(uint64(start), 10),
		LabelMarket: p.Market,
		LabelDisk:   strconv.FormatInt(p.Disk, 10),
		LabelVolume: strconv.FormatInt(p.Volume, 10),
		LabelGrace:  strconv.FormatInt(p.Grace.Milliseconds(), 10),
	}
}

// environment is the consumer's, each name once (the last one counts), without the names that steer NVIDIA's runtime, the
// loader or our own, and then ours. NVIDIA_VISIBLE_DEVICES=void stands last and overrides the image's: otherwise an image
// can ask NVIDIA's runtime for every GPU of the host.
func environment(p Pod) []string {
	last := make(map[string]int, len(p.Env))
	for i, e := range p.Env {
		k, _, _ := strings.Cut(e, "=")
		last[k] = i
	}
	var env []string
	for i, e := range p.Env {
		k, _, _ := strings.Cut(e, "=")
		if last[k] == i && !reserved(k) {
			env = append(env, e)
		}
	}
	env = append(env, "SOUK_POD_ID="+p.Lease, "SOUK_GPU_COUNT="+strconv.Itoa(len(p.GPUs)))
	if p.Volume > 0 {
		env = append(env, "SOUK_VOLUME="+p.mount())
	}
	if slices.ContainsFunc(p.GPUs, func(g GPU) bool { return g.Simulated }) {
		env = append(env, "SOUK_SIMULATED=1")
	}
	return append(env, "NVIDIA_DRIVER_CAPABILITIES=compute,utility", "NVIDIA_VISIBLE_DEVICES=void")
}

// reserved names are compared without regard to case only to be safe against runtimes that do so.
func reserved(name string) bool {
	name = strings.ToUpper(name)
	return strings.HasPrefix(name, "NVIDIA_") || strings.HasPrefix(name, "SOUK_") || name == "LD_PRELOAD"
}

func hasDevice(gpus []GPU) bool {
	return slices.ContainsFunc(gpus, func(g GPU) bool { return !g.Simulated })
}

// devices asks for the real GPUs by UUID. Simulated ones have no device.
func devices(gpus []GPU, cdi bool) []DeviceRequest {
	var ids []string
	for _, g := range gpus {
		switch {
		case g.Simulated:
		case cdi:
			ids = append(ids, "nvidia.com/gpu="+g.UUID)
		default:
			ids = append(ids, g.UUID)
		}
	}
	switch {
	case len(ids) == 0:
		return nil
	case cdi:
		return []DeviceRequest{{Driver: "cdi", IDs: ids}}
	}
	return []DeviceRequest{{Driver: "nvidia", IDs: ids, Capabilities: []string{"gpu", "compute", "utility"}}}
}
