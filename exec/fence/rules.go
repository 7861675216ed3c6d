package fence

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// forbidden is what is not the public internet, by IANA's register of special addresses (RFC 6890 and its updates), and the one
// public address under which a cloud keeps its metadata (Azure). Ranges for documentation are left out: nothing answers there.
var forbidden = []string{
	"0.0.0.0/8",      // this network
	"10.0.0.0/8",     // private
	"100.64.0.0/10",  // carriers' NAT; some clouds' metadata
	"127.0.0.0/8",    // loopback
	"168.63.129.16",  // Azure's metadata
	"169.254.0.0/16", // link local: metadata of most clouds
	"172.16.0.0/12",  // private
	"192.0.0.0/24",   // protocol assignments; Oracle's metadata
	"192.88.99.0/24", // relays of 6to4
	"192.168.0.0/16", // private
	"198.18.0.0/15",  // benchmarks
	"224.0.0.0/3",    // multicast, reserved, broadcast
}

// What one pod may do to the host's tables, and its share of the line.
const (
	opensPerSecond = 200  // new connections: a scan is slow, and a loader of data does not notice
	opensAtOnce    = 1000 // before that counts
	flowsMost      = 4096 // connections that the host's table holds for a pod at once
)

// Rules are the table of a home, in the language of nft. It is loaded in one transaction, in place of what was there. Near
// are the networks that the host itself is on, which are forbidden whatever their addresses.
//
// The table stands alone, and before the engine's. A verdict to drop is final, whatever other tables say: so nothing that an
// engine, a firewall or a person adds to theirs can open what is shut here. It says nothing about anything but pods.
func (o Options) Rules(near []netip.Prefix) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	name, pods := Table(o.Home), `"`+o.Prefix+`*"`
	line("add table inet %s", name)
	line("delete table inet %s", name)
	line("table inet %s {", name)
	for _, s := range []string{"opened", "sent", "got"} {
		line("\tset %s { type ifname; size 4096; flags dynamic, timeout; timeout 1m; }", s)
	}
	line("\tset flows { type ifname; size 65535; flags dynamic; }")

	// What a pod may address, before anything translates an address, and again after.
	line("\tchain pod {")
	line("\t\tct direction reply ct state established accept")
	if o.Closed {
		line("\t\tdrop")
	} else {
		line("\t\tmeta nfproto != ipv4 drop")
		line("\t\tfib daddr type != unicast drop")
		line("\t\tip daddr { %s } drop", strings.Join(addresses(near), ", "))
		line("\t\ttcp dport 25 drop")
	}
	line("\t}")
	line("\tchain before {")
	line("\t\ttype filter hook prerouting priority mangle; policy accept;")
	line("\t\tiifname %s jump pod", pods)
	line("\t}")

	// What goes through the host. Nothing opens a connection to a pod from there: only the host itself does.
	line("\tchain through {")
	line("\t\ttype filter hook forward priority filter - 10; policy accept;")
	line("\t\tiifname %s oifname \"souk*\" drop", pods)
	line("\t\tiifname %s ct direction reply drop", pods)
	line("\t\toifname %s ct direction original drop", pods)
	line("\t\tiifname %s jump pod", pods)
	line("\t\tiifname %s ct state new update @opened { iifname limit rate over %d/second burst %d packets } drop", pods, opensPerSecond, opensAtOnce)
	line("\t\tiifname %s ct state new add @flows { iifname ct count over %d } drop", pods, flowsMost)
	if o.Mbit > 0 {
		rate := fmt.Sprintf("limit rate over %d kbytes/second burst %d kbytes", o.Mbit*125, max(o.Mbit*125/4, 64))
		line("\t\tiifname %s update @sent { iifname %s } drop", pods, rate)
		line("\t\toifname %s update @got { oifname %s } drop", pods, rate)
	}
	line("\t}")

	// What is meant for the host: answers to what it asked, and no more.
	line("\tchain in {")
	line("\t\ttype filter hook input priority filter - 10; policy accept;")
	line("\t\tiifname %s ct direction reply ct state established accept", pods)
	line("\t\tiifname %s drop", pods)
	line("\t}")
	line("}")
	return b.String()
}

// addresses are the forbidden ones and those near that are not among them.
func addresses(near []netip.Prefix) []string {
	list := slices.Clone(forbidden)
	for _, p := range near {
		if p = p.Masked(); p.Addr().Is4() && p.Bits() >= 8 && !covered(p) && !slices.Contains(list, p.String()) {
			list = append(list, p.String())
		}
	}
	slices.Sort(list[len(forbidden):])
	return list
}

func covered(p netip.Prefix) bool {
	return slices.ContainsFunc(forbidden, func(s string) bool {
		f, err := netip.ParsePrefix(s)
		return err == nil && f.Bits() <= p.Bits() && f.Contains(p.Addr())
	})
}
