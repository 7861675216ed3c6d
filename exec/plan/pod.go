// Package plan decides what should happen to pods, and does nothing itself.
//
// A *pod* is the program that a consumer rents GPUs for: an image, a command, an environment, some disk. A *lease* has one
// pod; each *run* of it is numbered by a *start* (1, 2, …), lives in one container, and loses its container disk when the
// next start comes. The *volume* belongs to the lease and survives runs.
//
// Each pod is alone on a *network* of its lease, whose bridge has a name that the host's firewall knows.
//
// The node's core says with a Want, per lease, what it wants now: run this start, stop, or remove everything. The engine
// says with a Have, per object, what there is. Actions compares the two and lists what has to be done, in order; carried out
// any number of times, after any crash in between, the list shrinks to nothing. Config turns a pod and the host's policy into
// the container's whole configuration, and is the only place where that is written down.
//
// Promises:
//
//	P1 A run that ended is never started again under the same start.
//	P2 A run newer than the one wanted is left alone: the caller's state is behind, not the engine's.
//	P3 A volume is removed only when its lease is wanted removed. A list that does not name a lease, however complete it is
//	   said to be, costs that lease its containers and never its data.
//	P4 Nothing in a Pod can make a Config privileged: capabilities, namespaces, mounts, devices and the last word on the
//	   environment come from this package and the host's policy alone.
//	P5 Objects of another home are neither read nor touched.
//	P6 The objects of two leases never share a name, whatever ids their consumers chose.
//
// The package is pure: no clock, no goroutine, no engine.
package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// The labels on every object that belongs to a pod.
const (
	LabelHome   = "souk.home"   // identity of the node that owns the object
	LabelLease  = "souk.lease"  // lease id, 32 hex digits
	LabelStart  = "souk.start"  // number of the run; 0 on a volume, which outlives runs
	LabelMarket = "souk.market" // first 16 hex digits of the market id
	LabelDisk   = "souk.disk"   // bytes of container disk that the lease pays for
	LabelVolume = "souk.volume" // bytes of volume that the lease pays for
	LabelGrace  = "souk.grace"  // milliseconds from SIGTERM to SIGKILL, for whoever stops a container without knowing its lease
)

// Limits on what a lease may say about its pod. They bound memory and what is handed to the engine.
const (
	MaxWords    = 256       // words of a command, entries of an environment
	MaxText     = 128 << 10 // bytes of a command or of an environment, together
	MaxGPUs     = 64
	MaxGrace    = 10 * time.Minute
	maxImage    = 512
	maxMount    = 256
	maxMilliCPU = 4096 * 1000
)

// DefaultMount is where a volume appears in the pod when the lease does not say.
const DefaultMount = "/workspace"

// ErrPod is what Validate's errors wrap.
var ErrPod = errors.New("plan: bad pod")

// A GPU names one GPU assigned to a pod.
type GPU struct {
	UUID      string // as NVML gives it, GPU-xxxxxxxx-…
	Simulated bool   // no device is behind it: testnet markets only
}

// A Pod is what a lease says about its pod. It does not change during the life of a lease, except for its GPUs.
type Pod struct {
	Lease   string        // lease id, 32 hex digits
	Market  string        // market id, hex, first 16 digits; a label only
	Image   string        // REPO@sha256:digest
	Command []string      // replaces the image's CMD when not empty; ENTRYPOINT is kept
	Env     []string      // K=V
	Disk    int64         // bytes of container disk; a label only, until quotas exist
	Volume  int64         // bytes; 0: no volume
	Mount   string        // where the volume is mounted, DefaultMount when empty
	Memory  int64         // bytes; 0: the engine's default
	CPUs    int64         // milli-CPUs; 0: no limit
	GPUs    []GPU         // may be empty: a pod can start without GPUs to reach its volume
	Grace   time.Duration // from SIGTERM to SIGKILL
}

// Validate says whether an engine can be asked for this pod. Its errors wrap ErrPod and name the field.
func (p Pod) Validate() error {
	switch {
	case !ValidLease(p.Lease):
		return bad("lease id %q is not 32 hex digits", p.Lease)
	case p.Market != "" && !isHex(p.Market, 16):
		return bad("market %q is not 16 hex digits", p.Market)
	case len(p.Image) > maxImage || strings.ContainsFunc(p.Image, unprintable):
		return bad("image reference %q", clip(p.Image))
	case !pinned(p.Image):
		return bad("image %q is not pinned: want REPO@sha256:DIGEST", p.Image)
	case p.Disk < 0 || p.Volume < 0 || p.Memory < 0:
		return bad("negative size")
	case p.CPUs < 0 || p.CPUs > maxMilliCPU:
		return bad("%d milli-CPUs", p.CPUs)
	case p.Grace < 0 || p.Grace > MaxGrace:
		return bad("grace %s is not within 0 and %s", p.Grace, MaxGrace)
	case len(p.GPUs) > MaxGPUs:
		return bad("%d GPUs, more than %d", len(p.GPUs), MaxGPUs)
	}
	if err := validWords("command", p.Command); err != nil {
		return err
	}
	if err := validWords("environment", p.Env); err != nil {
		return err
	}
	for _, e := range p.Env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
			return bad("environment %q is not K=V", clip(e))
		}
	}
	for _, g := range p.GPUs {
		// A driver also takes "all" and indexes for a name: only UUIDs name what was leased.
		named := strings.HasPrefix(g.UUID, "GPU-") || strings.HasPrefix(g.UUID, "MIG-")
		if !named || len(g.UUID) > 64 || strings.ContainsFunc(g.UUID, notUUID) {
			return bad("GPU %q", clip(g.UUID))
		}
	}
	return validMount(p.mount())
}

// ValidLease says whether id is a lease id: 32 lower-case hex digits.
func ValidLease(id string) bool { return isHex(id, 32) }

func (p Pod) mount() string {
	if p.Mount == "" {
		return DefaultMount
	}
	return p.Mount
}

// ContainerName is the name of the container of one run: souk-<lease>-<home>-<start>, where home is shortened as in
// VolumeName.
func ContainerName(home, lease string, start uint32) string {
	return VolumeName(home, lease) + "-" + strconv.FormatUint(uint64(start), 10)
}

// VolumeName is the name of the volume of a lease: souk-<lease>-<first 8 hex digits of the home's SHA-256>. The consumer
// chooses the lease's id, so the whole of it counts; the home keeps the nodes of one engine apart.
func VolumeName(home, lease string) string {
	sum := sha256.Sum256([]byte(home))
	return "souk-" + lease + "-" + hex.EncodeToString(sum[:4])
}

// BridgeName is the name of the bridge of a lease's network, 15 letters and digits as the kernel allows: BridgePrefix, and
// eight of a hash over home and lease.
func BridgeName(home, lease string) string {
	return BridgePrefix(home) + short([]byte(home+"/"+lease), 8)
}

// BridgePrefix is how the names of all bridges of a home begin, and no other interface's should: souk, and three of a hash.
// Two of a machine's homes have the same once in some tens of thousands; then the rules of both are for the pods of both.
func BridgePrefix(home string) string { return "souk" + short([]byte(home), 3) }

// short is a hash in as many of the characters 0-9 and a-z.
func short(text []byte, digits int) string {
	sum := sha256.Sum256(text)
	s := strconv.FormatUint(binary.BigEndian.Uint64(sum[:]), 36)
	return strings.Repeat("0", max(0, digits-len(s))) + s[max(0, len(s)-digits):]
}

func validWords(what string, words []string) error {
	total := 0
	for _, w := range words {
		if strings.ContainsRune(w, 0) {
			return bad("%s contains a zero byte", what)
		}
		total += len(w)
	}
	if len(words) > MaxWords || total > MaxText {
		return bad("%s has %d words of %d bytes, more than %d or %d", what, len(words), total, MaxWords, MaxText)
	}
	return nil
}

// validMount refuses targets that would hide what the container's own set-up puts there.
func validMount(target string) error {
	if !path.IsAbs(target) || path.Clean(target) != target || target == "/" || len(target) > maxMount ||
		strings.ContainsFunc(target, unprintable) || strings.ContainsAny(target, ",:") {
		return bad("mount %q is not a clean absolute path below /", clip(target))
	}
	first, _, _ := strings.Cut(target[1:], "/")
	switch first {
	case "proc", "sys", "dev", "etc", "bin", "sbin", "lib", "lib64", "usr", "run", "boot":
		return bad("mount %q would hide a part of the system", target)
	}
	return nil
}

func pinned(image string) bool {
	repo, digest, ok := strings.Cut(image, "@sha256:")
	return ok && repo != "" && !strings.Contains(repo, "@") && isHex(digest, 64)
}

func isHex(s string, digits int) bool {
	if len(s) != digits || strings.ToLower(s) != s {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

func unprintable(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd }

func notUUID(r rune) bool {
	return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

func clip(s string) string { return s[:min(len(s), 80)] }

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrPod}, args...)...)
}
