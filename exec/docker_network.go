package exec

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"iter"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"souk/exec/fence"
	"souk/exec/plan"
)

const (
	podBits     = 28 // of a pod's network: the bridge, the pod, and room for what an engine wants
	optionName  = "com.docker.network.bridge.name"
	subnetTries = 32 // engines that say no to so many have none
)

// pools are ranges that are seldom used. The engine's own would do for 31 networks.
var pools = []netip.Prefix{netip.MustParsePrefix("10.213.0.0/16"), netip.MustParsePrefix("172.30.0.0/16"), netip.MustParsePrefix("192.168.208.0/20")}

// Fence is the firewall of a home's pods.
func (d *Docker) Fence(home string) *fence.Fence {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.fences[home]
	if f == nil {
		f = fence.New(fence.Options{Home: home, Prefix: plan.BridgePrefix(home), Closed: d.opts.Closed, Mbit: d.opts.Mbit, Nft: d.opts.Nft, Log: d.opts.Log})
		d.fences[home] = f
	}
	return f
}

// Guard keeps the firewall of a home's pods in place until ctx ends.
func (d *Docker) Guard(ctx context.Context, home string) {
	d.Fence(home).Run(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, f := range d.turned {
			f()
		}
	})
}

// Unfence takes the firewall of a home away, of which no pod may be left.
func (d *Docker) Unfence(ctx context.Context, home string) error { return d.Fence(home).Remove(ctx) }

// OnFence has f called when a firewall goes down or comes up. f does not block.
func (d *Docker) OnFence(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turned = append(d.turned, f)
}

// fenced says whether what is about to be started stands behind the firewall.
func (d *Docker) fenced(ctx context.Context, id string) error {
	res, err := d.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return d.fault(err)
	}
	c := res.Container
	if c.Config == nil || c.HostConfig == nil {
		return &Fault{Code: CodeEngine, Reason: "the engine does not say what the container is"}
	}
	home, lease := c.Config.Labels[plan.LabelHome], c.Config.Labels[plan.LabelLease]
	if home == "" || string(c.HostConfig.NetworkMode) != plan.VolumeName(home, lease) {
		return &Fault{Code: CodeEngine, Reason: "the container is not on its lease's own network: an older version made it"}
	}
	if _, err := net.InterfaceByName(plan.BridgeName(home, lease)); err != nil {
		return &Fault{Code: CodeFence, Reason: "the pod's bridge is not on this machine, so its firewall would not be either: the node and the engine have to share one machine and one network namespace", Err: err}
	}
	if err := d.Fence(home).Load(ctx); err != nil {
		return &Fault{Code: CodeFence, Reason: "the firewall of pods cannot be loaded", Err: err}
	}
	return nil
}

// createNetwork makes the lease's network, unless it is there already, as it should be.
func (d *Docker) createNetwork(ctx context.Context, c plan.Config) error {
	res, err := d.api.NetworkInspect(ctx, c.Network.Name, client.NetworkInspectOptions{})
	switch {
	case errdefs.IsNotFound(err):
	case err != nil:
		return d.fault(err)
	case !plan.Belongs(res.Network.Labels, c.Labels[plan.LabelHome], c.Labels[plan.LabelLease]):
		return &Fault{Code: CodeEngine, Reason: "a network " + c.Network.Name + " exists already, and is not this lease's"}
	case res.Network.Driver == "bridge" && res.Network.Options[optionName] == c.Network.Bridge && !res.Network.EnableIPv6:
		return nil
	default: // of another version
		if _, err := d.api.NetworkRemove(ctx, res.Network.ID, client.NetworkRemoveOptions{}); err != nil {
			return d.fault(err)
		}
	}
	taken := routes()
	tries := 0
	for subnet := range subnets(d.pools(), c.Network.Bridge, taken) {
		no := false
		_, err := d.api.NetworkCreate(ctx, c.Network.Name, client.NetworkCreateOptions{
			Driver: "bridge", Labels: c.Network.Labels, EnableIPv6: &no,
			IPAM:    &network.IPAM{Driver: "default", Config: []network.IPAMConfig{{Subnet: subnet}}},
			Options: map[string]string{optionName: c.Network.Bridge, "com.docker.network.bridge.enable_icc": "false"},
		})
		if tries++; err == nil || !strings.Contains(err.Error(), "overlap") || tries == subnetTries {
			return d.fault(err)
		}
	}
	return &Fault{Code: CodeFence, Reason: fmt.Sprintf("no room for the pod's network: this machine has routes over all of %s; name another range in pod_subnets", join(d.pools()))}
}

func (d *Docker) pools() []netip.Prefix {
	if len(d.opts.Pools) > 0 {
		return d.opts.Pools
	}
	return pools
}

// subnets are the networks of the pools that no route of this machine touches. Where they begin hangs on the key, so that
// two engines of one machine seldom want the same at once.
func subnets(pools []netip.Prefix, key string, taken []netip.Prefix) iter.Seq[netip.Prefix] {
	h := fnv.New32a()
	h.Write([]byte(key))
	return func(yield func(netip.Prefix) bool) {
		for _, pool := range pools {
			if pool.Bits() > podBits || !pool.Addr().Is4() {
				continue
			}
			base, n := binary.BigEndian.Uint32(pool.Masked().Addr().AsSlice()), uint32(1)<<(podBits-pool.Bits())
			for i := range n {
				at := base + (h.Sum32()%n+i)%n<<(32-podBits)
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, at))), podBits)
				free := true
				for _, t := range taken {
					free = free && !t.Overlaps(p)
				}
				if free && !yield(p) {
					return
				}
			}
		}
	}
}

// routes are the networks that this machine has a way to, but for the one to everywhere.
func routes() []netip.Prefix {
	f, err := os.Open("/proc/self/net/route")
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []netip.Prefix
	for s := bufio.NewScanner(f); s.Scan(); {
		// Iface Destination Gateway Flags RefCnt Use Metric Mask …, the numbers in hex, in this machine's order of bytes
		w := strings.Fields(s.Text())
		if len(w) < 8 {
			continue
		}
		to, err1 := hex.DecodeString(w[1])
		mask, err2 := hex.DecodeString(w[7])
		if err1 != nil || err2 != nil || len(to) != 4 || len(mask) != 4 {
			continue // the line of names
		}
		for _, b := range [][]byte{to, mask} {
			binary.NativeEndian.PutUint32(b, binary.BigEndian.Uint32(b))
		}
		if ones, _ := net.IPMask(mask).Size(); ones > 0 {
			list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte(to)), ones))
		}
	}
	return list
}

func join(list []netip.Prefix) string {
	var b []string
	for _, p := range list {
		b = append(b, p.String())
	}
	return strings.Join(b, ", ")
}
