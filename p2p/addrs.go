package p2p

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// inner are how the interfaces of container networks begin: nobody outside this machine reaches a node by their addresses, and
// they come and go with pods.
var inner = []string{"docker", "br-", "veth", "virbr", "cni", "podman", "souk"}

// outside is a node's own addresses without those of this machine's container networks, as long as any is left.
func outside(own []ma.Multiaddr) []ma.Multiaddr {
	all, err := net.Interfaces()
	if err != nil {
		return own
	}
	drop := map[netip.Addr]bool{}
	for _, i := range all {
		if !slices.ContainsFunc(inner, func(p string) bool { return strings.HasPrefix(i.Name, p) }) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				drop[p.Addr().Unmap()] = true
			}
		}
	}
	kept := slices.DeleteFunc(slices.Clone(own), func(m ma.Multiaddr) bool {
		ip, err := manet.ToIP(m)
		if err != nil {
			return false
		}
		a, ok := netip.AddrFromSlice(ip)
		return ok && drop[a.Unmap()]
	})
	if len(kept) == 0 {
		return own
	}
	return kept
}
