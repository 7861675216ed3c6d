package plan

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const image = "reg.example/team/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func good() Pod {
	return Pod{Lease: leaseA, Market: "0011223344556677", Image: image, Command: []string{"train", "--fast"},
		Env: []string{"A=1", "B=2", "A=3"}, Disk: 10 << 30, Volume: 20 << 30, Memory: 32 << 30, CPUs: 8000, Grace: 5 * time.Second,
		GPUs: []GPU{{UUID: "GPU-0a"}, {UUID: "GPU-0b"}}}
}

func TestConfigOfAPod(t *testing.T) {
	c, err := NewConfig(good(), 3, Policy{Home: "home1"})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Name: "souk-" + leaseA + "-9b799aa4-3", Image: image, Cmd: []string{"train", "--fast"},
		Env: []string{"B=2", "A=3", "SOUK_POD_ID=" + leaseA, "SOUK_GPU_COUNT=2", "SOUK_VOLUME=/workspace",
			"NVIDIA_DRIVER_CAPABILITIES=compute,utility", "NVIDIA_VISIBLE_DEVICES=void"},
		Labels: map[string]string{"souk.home": "home1", "souk.lease": leaseA, "souk.start": "3", "souk.market": "0011223344556677",
			"souk.disk": "10737418240", "souk.volume": "21474836480", "souk.grace": "5000"},
		Volume: &Mount{Name: "souk-" + leaseA + "-9b799aa4", Target: "/workspace", Labels: map[string]string{"souk.home": "home1",
			"souk.lease": leaseA, "souk.start": "0", "souk.market": "0011223344556677", "souk.disk": "10737418240", "souk.volume": "21474836480",
			"souk.grace": "5000"}},
		Init: true, Restart: "no", LogType: "local", LogOpts: map[string]string{"max-size": "10m", "max-file": "3"},
		Network: Net{Name: "souk-" + leaseA + "-9b799aa4", Bridge: "soukplok2zc8q79", Labels: map[string]string{"souk.home": "home1",
			"souk.lease": leaseA, "souk.start": "0", "souk.market": "0011223344556677", "souk.disk": "10737418240", "souk.volume": "21474836480",
			"souk.grace": "5000"}},
		DNS: []string{"1.1.1.1", "9.9.9.9"}, Search: []string{"."}, OpenFiles: 65536, Ipc: "private", Cgroupns: "private", CapDrop: []string{"ALL"}, CapAdd: capabilities[:],
		SecurityOpt: []string{"no-new-privileges:true"}, Memory: 32 << 30, MemorySwap: 32 << 30, Shm: 16 << 30, NanoCPUs: 8_000_000_000,
		Pids: 4096, OomScoreAdj: 500, LockMemory: true,
		Devices: []DeviceRequest{{Driver: "nvidia", IDs: []string{"GPU-0a", "GPU-0b"}, Capabilities: []string{"gpu", "compute", "utility"}}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Fatalf("got  %+v\nwant %+v", c, want)
	}
}

func TestBridgeNames(t *testing.T) {
	seen := map[string]bool{}
	for _, home := range []string{"h", "i"} {
		for _, lease := range []string{leaseA, leaseA[:31] + "0", leaseB} {
			name := BridgeName(home, lease)
			if len(name) != 15 || !strings.HasPrefix(name, BridgePrefix(home)) || len(BridgePrefix(home)) != 7 || seen[name] {
				t.Errorf("bridge of %s in %s is %q, prefix %q: want 15 characters of its own behind 7", lease, home, name, BridgePrefix(home))
			}
			seen[name] = true
		}
	}
	if BridgePrefix("h") == BridgePrefix("i") {
		t.Error("two homes with one prefix")
	}
}

// A consumer chooses the id of its lease, and so could choose the beginning of another's.
func TestNamesTellLeasesAndHomesApart(t *testing.T) {
	seen := map[string]string{}
	for _, home := range []string{"h", "i"} {
		for _, lease := range []string{leaseA, leaseA[:31] + "0", leaseA[:16] + leaseB[16:], leaseB} {
			for _, name := range []string{VolumeName(home, lease), ContainerName(home, lease, 1), ContainerName(home, lease, 11)} {
				if other, ok := seen[name]; ok {
					t.Errorf("%s names something of %s in %s, and of %s", name, lease, home, other)
				}
				seen[name] = lease + " in " + home
			}
		}
	}
}

func TestBelongsComparesHomeAndLease(t *testing.T) {
	for home, want := range map[string]bool{"h": true, "i": false, "": false} {
		if got := Belongs(map[string]string{LabelHome: home, LabelLease: leaseA}, "h", leaseA); got != want {
			t.Errorf("home %q: got %v, want %v", home, got, want)
		}
	}
	if Belongs(map[string]string{LabelHome: "h", LabelLease: leaseB}, "h", leaseA) || Belongs(nil, "h", leaseA) {
		t.Error("another lease's object, or one without labels, was taken")
	}
}

func TestGraceOfLabels(t *testing.T) {
	for text, want := range map[string]time.Duration{"0": 0, "5000": 5 * time.Second, "": DefaultGrace, "-1": DefaultGrace, "x": DefaultGrace,
		"999999999999": DefaultGrace} {
		if got := GraceOf(map[string]string{LabelGrace: text}); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestConfigAsksForGPUsByName(t *testing.T) {
	p := good()
	c, err := NewConfig(p, 1, Policy{Home: "h", CDI: true})
	if err != nil {
		t.Fatal(err)
	}
	if want := []DeviceRequest{{Driver: "cdi", IDs: []string{"nvidia.com/gpu=GPU-0a", "nvidia.com/gpu=GPU-0b"}}}; !reflect.DeepEqual(c.Devices, want) {
		t.Errorf("CDI: got %+v, want %+v", c.Devices, want)
	}
	p.GPUs = []GPU{{UUID: "GPU-0a", Simulated: true}}
	c, err = NewConfig(p, 1, Policy{Home: "h", CDI: true})
	if err != nil || c.Devices != nil || c.LockMemory || !slices.Contains(c.Env, "SOUK_SIMULATED=1") {
		t.Errorf("simulated: got %+v, %v, want no device, and the pod to be told", c, err)
	}
}

func TestBadPodsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Pod){
		"short lease":       func(p *Pod) { p.Lease = "00" },
		"upper-case lease":  func(p *Pod) { p.Lease = strings.ToUpper(leaseA) },
		"market":            func(p *Pod) { p.Market = "x" },
		"tag, no digest":    func(p *Pod) { p.Image = "app:latest" },
		"short digest":      func(p *Pod) { p.Image = image[:len(image)-1] },
		"only a digest":     func(p *Pod) { p.Image = image[strings.Index(image, "@"):] },
		"space in image":    func(p *Pod) { p.Image = "a " + image },
		"negative memory":   func(p *Pod) { p.Memory = -1 },
		"negative volume":   func(p *Pod) { p.Volume = -1 },
		"too many CPUs":     func(p *Pod) { p.CPUs = 1 << 40 },
		"long grace":        func(p *Pod) { p.Grace = time.Hour },
		"zero byte":         func(p *Pod) { p.Command = []string{"a\x00b"} },
		"too long":          func(p *Pod) { p.Command = []string{strings.Repeat("a", MaxText+1)} },
		"too many words":    func(p *Pod) { p.Env = slices.Repeat([]string{"A=1"}, MaxWords+1) },
		"no value":          func(p *Pod) { p.Env = []string{"A"} },
		"no name":           func(p *Pod) { p.Env = []string{"=A"} },
		"every GPU":         func(p *Pod) { p.GPUs = []GPU{{UUID: "all"}} },
		"GPU by index":      func(p *Pod) { p.GPUs = []GPU{{UUID: "0"}} },
		"two GPUs in one":   func(p *Pod) { p.GPUs = []GPU{{UUID: "GPU-0,GPU-1"}} },
		"too many GPUs":     func(p *Pod) { p.GPUs = slices.Repeat([]GPU{{UUID: "GPU-0"}}, MaxGPUs+1) },
		"mount at the root": func(p *Pod) { p.Mount = "/" },
		"mount over /proc":  func(p *Pod) { p.Mount = "/proc/x" },
		"mount over /etc":   func(p *Pod) { p.Mount = "/etc" },
		"mount with dots":   func(p *Pod) { p.Mount = "/data/../etc" },
		"relative mount":    func(p *Pod) { p.Mount = "data" },
		"mount option":      func(p *Pod) { p.Mount = "/data,readonly" },
	} {
		p := good()
		change(&p)
		if c, err := NewConfig(p, 1, Policy{Home: "h"}); !errors.Is(err, ErrPod) {
			t.Errorf("%s: got %+v, %v, want a refusal", name, c, err)
		}
	}
}

// fixed is what of a configuration is the same for every pod: all but what a lease may say.
func fixed(c Config) Config {
	c.Name, c.Image, c.Cmd, c.Env, c.Labels, c.Volume = "", "", nil, nil, nil, nil
	c.Network = Net{}
	c.Memory, c.MemorySwap, c.Shm, c.NanoCPUs, c.LockMemory, c.Devices = 0, 0, 0, 0, false, nil
	return c
}

// FuzzNothingIsPrivileged holds whatever a consumer can write into a pod against promise P4.
func FuzzNothingIsPrivileged(f *testing.F) {
	f.Add(leaseA, image, "sh", "A=1", "/workspace", int64(1), int64(1), int64(1000), "GPU-0", "", false, false)
	f.Add(leaseA, image, "--privileged", "NVIDIA_VISIBLE_DEVICES=all", "/var/run/docker.sock", int64(0), int64(0), int64(0), "all", "GPU-1", true, true)
	f.Add(leaseB, image, "x", "nvidia_visible_devices=all", "/proc/1/root", int64(-1), int64(5), int64(1), "MIG-0", "none", false, false)
	f.Add("../"+leaseA[3:], image, "x", "LD_PRELOAD=/evil.so", "/data:rw", int64(9), int64(5), int64(1), "nvidia.com/gpu=all", "GPU-0", false, true)
	f.Add(leaseA, image+" --net=host", "x", "SOUK_VOLUME=/", "/var/lib/docker", int64(9), int64(1)<<62, int64(1)<<62, "GPU-0", "GPU-0", true, false)
	f.Fuzz(func(t *testing.T, lease, image, command, env, mount string, volume, memory, cpus int64, uuid, other string, simulated, cdi bool) {
		p := Pod{Lease: lease, Image: image, Command: []string{command}, Env: []string{env, "NVIDIA_VISIBLE_DEVICES=all", "LD_PRELOAD=x"}, Mount: mount,
			Volume: volume, Memory: memory, CPUs: cpus, GPUs: []GPU{{UUID: uuid}}}
		if other != "" {
			p.GPUs = append(p.GPUs, GPU{UUID: other, Simulated: simulated})
		}
		policy := Policy{Home: "h", CDI: cdi, Seccomp: "{}"}
		c, err := NewConfig(p, 1, policy)
		if err != nil {
			return
		}
		base, err := NewConfig(good(), 1, policy)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(fixed(c), fixed(base)) {
			t.Fatalf("got  %+v\nwant %+v", fixed(c), fixed(base))
		}
		if c.Privileged || c.MemorySwap != c.Memory || c.Shm > c.Memory || c.Name != ContainerName("h", lease, 1) ||
			c.Network.Name != VolumeName("h", lease) || c.Network.Bridge != BridgeName("h", lease) || c.Labels[LabelHome] != "h" ||
			!Belongs(c.Network.Labels, "h", lease) {
			t.Fatalf("got %+v", c)
		}
		if last := c.Env[len(c.Env)-1]; last != "NVIDIA_VISIBLE_DEVICES=void" {
			t.Fatalf("environment ends with %q", last)
		}
		for _, e := range c.Env[:len(c.Env)-1] {
			name, value, _ := strings.Cut(strings.ToUpper(e), "=")
			if name == "NVIDIA_VISIBLE_DEVICES" || name == "LD_PRELOAD" || strings.HasPrefix(name, "NVIDIA_") && value != "COMPUTE,UTILITY" {
				t.Fatalf("environment has %q", e)
			}
		}
		if c.Volume != nil && (c.Volume.Name != VolumeName("h", lease) || !strings.HasPrefix(c.Volume.Target, "/") ||
			slices.Contains(strings.Split(c.Volume.Target, "/"), "..") || strings.HasPrefix(c.Volume.Target, "/proc")) {
			t.Fatalf("mount %+v", c.Volume)
		}
		if len(c.Devices) > 1 {
			t.Fatalf("devices %+v", c.Devices)
		}
		for _, d := range c.Devices {
			for _, id := range d.IDs {
				if id = strings.TrimPrefix(id, "nvidia.com/gpu="); id != uuid && id != other || !strings.HasPrefix(id, "GPU-") && !strings.HasPrefix(id, "MIG-") {
					t.Fatalf("device %q", id)
				}
			}
		}
	})
}
