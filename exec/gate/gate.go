// Package gate says whether a machine is fit to run strangers' pods: a list of gates, each with what was found, what is needed and
// how to mend it. Facts are found by others; here they are only judged, so each gate has its test without the machine that
// fails it.
//
// A host that fails a gate takes no new leases. In a testnet, gates of versions and of disks only warn: what is at stake there is
// nobody's money, and a distribution's own engine is old. The firewall, the list of system calls and the clock never only
// warn.
package gate

import (
	"fmt"
	"strings"
	"time"
)

// A State is what a gate says.
type State string

// The states.
const (
	Passes State = "yes"
	Warns  State = "warns" // not as it should be, and goes in this market
	Fails  State = "no"
)

// A Result is one gate's word.
type Result struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Actual string `json:"actual"`
	Needed string `json:"needed"`
	Fix    string `json:"fix,omitempty"` // empty where it passes
}

// Facts are what was found. Versions are as the programs say them; empty: not found out.
type Facts struct {
	Process bool // pods are plain processes: what follows of an engine does not matter

	EngineErr  error  // why it does not answer
	Remote     bool   // it is on another machine
	Platform   string // the engine's operating system, as in Debian GNU/Linux 12, or Docker Desktop
	Engine     string
	Containerd string
	Runc       string
	Toolkit    string   // nvidia-container-toolkit
	RealGPUs   bool     // there are some: the toolkit matters
	Security   []string // as in name=seccomp,profile=default
	Storage    string   // as in overlay2 on extfs
	Quota      bool     // containers can be held to a size

	FirewallErr error
	RoomErr     error // no range is free for the networks of pods

	Skew      time.Duration // of the clock, against the peers'
	SkewKnown bool
}

// Versions under which a hole is known that a pod can get through. A distribution may have mended its older one: a gate cannot
// tell. Sources: the projects' advisories, as of November 2026.
var (
	leastEngine     = []string{"29.5.1"}                                      // CVE-2026-41567, -41568, -42306
	leastContainerd = []string{"1.7.33", "2.0.10", "2.1.9", "2.2.5", "2.3.2"} // CVE-2026-47262
	leastRunc       = []string{"1.3.6", "1.4.3"}                              // CVE-2026-41579, CVE-2025-31133, -52565, -52881
	leastToolkit    = []string{"1.17.8"}                                      // CVE-2025-23266, -23267
)

const (
	skewMost = 2 * time.Second // a node that is 30 s off signs nothing more
	update   = "install the newest from https://docs.docker.com/engine/install/"
)

// Judge is every gate's word.
func (f Facts) Judge(testnet bool) []Result {
	soft := Fails
	if testnet {
		soft = Warns
	}
	var list []Result
	say := func(name string, ok bool, otherwise State, actual, needed, fix string) {
		r := Result{Name: name, State: Passes, Actual: actual, Needed: needed}
		if !ok {
			r.State, r.Fix = otherwise, fix
		}
		list = append(list, r)
	}
	version := func(name, found string, least []string, fix string) {
		say(name, AtLeast(found, least), soft, or(found, "not known"), strings.Join(least, " or "), fix)
	}
	switch {
	case f.Process:
		say("engine", false, soft, "none: pods are plain processes, which nothing isolates", "Docker", "install the Docker engine; set 'runtime: docker' in config.yaml")
	case f.EngineErr != nil:
		say("engine", false, Fails, f.EngineErr.Error(), "Docker answers", "install it, or start it: apt-get install docker.io")
	default:
		local := !f.Remote && f.Platform != "Docker Desktop"
		where := or(f.Platform, "this machine")
		if f.Remote {
			where = "on another machine"
		}
		say("engine", local, Fails, "Docker, "+where, "on this machine, not in Docker Desktop", "run the node beside the engine, on Linux")
		version("docker", f.Engine, leastEngine, update)
		version("containerd", f.Containerd, leastContainerd, "with Docker: "+update)
		version("runc", f.Runc, leastRunc, "with Docker: "+update)
		if f.RealGPUs {
			version("nvidia-toolkit", f.Toolkit, leastToolkit, "apt-get install nvidia-container-toolkit, from NVIDIA's repository")
		}
		say("seccomp", confined(f.Security), Fails, or(strings.Join(f.Security, " "), "none"), "on", "a kernel and an engine with seccomp; no --seccomp-profile=unconfined")
		say("disk-quota", f.Quota, soft, or(f.Storage, "not known"), "overlay2 on xfs mounted with pquota", "put Docker's data-root on an xfs file system mounted with -o pquota")
		say("firewall", f.FirewallErr == nil, Fails, text(f.FirewallErr, "in place"), "in place", "run the node as root; apt-get install nftables")
		say("pod-networks", f.RoomErr == nil, Fails, text(f.RoomErr, "room"), "a range that no route of this machine touches", "name one in pod_subnets, in config.yaml")
	}
	clock := "not compared yet"
	if f.SkewKnown {
		clock = fmt.Sprintf("%+d ms against the peers", f.Skew.Milliseconds())
	}
	say("clock", !f.SkewKnown || f.Skew.Abs() <= skewMost, Fails, clock, "within "+skewMost.String(), "set the clock, and keep it so: apt-get install chrony")
	return list
}

// Unfit is why a machine takes no new leases: each gate that fails, and how to mend it. Empty: none fails.
func Unfit(list []Result) string {
	var b []string
	for _, r := range list {
		if r.State == Fails {
			b = append(b, fmt.Sprintf("%s: %s, needed %s; %s", r.Name, r.Actual, r.Needed, r.Fix))
		}
	}
	return strings.Join(b, " | ")
}

// confined says whether the engine filters system calls.
func confined(security []string) bool {
	for _, s := range security {
		if strings.HasPrefix(s, "name=seccomp") {
			return !strings.Contains(s, "unconfined")
		}
	}
	return false
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func text(err error, otherwise string) string {
	if err == nil {
		return otherwise
	}
	return err.Error()
}
