package node

import (
	"net"
	"slices"
	"strings"
)

// bridges are the beginnings of names of interfaces behind which only this machine's own containers are.
var bridges = []string{"docker", "br-", "virbr", "cni", "podman", "veth"}

// reachable leaves out the addresses of the machine's own container networks: nobody else can dial them.
func reachable(addrs []string) []string {
	var inner []string
	list, err := net.Interfaces()
	if err != nil {
		return addrs
	}
	for _, i := range list {
		if !slices.ContainsFunc(bridges, func(p string) bool { return strings.HasPrefix(i.Name, p) }) {
			continue
		}
		own, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range own {
			if n, ok := a.(*net.IPNet); ok {
				inner = append(inner, "/"+n.IP.String()+"/")
			}
		}
	}
	out := slices.DeleteFunc(slices.Clone(addrs), func(a string) bool {
		return slices.ContainsFunc(inner, func(ip string) bool { return strings.Contains(a, ip) })
	})
	if len(out) == 0 {
		return addrs
	}
	return out
}

// addrs is where others can reach this node: where the configuration says so first.
func (n *Node) addrs() []string {
	out := slices.Clone(n.opts.Config.Announce)
	for _, a := range reachable(n.net.Addrs()) {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out[:min(len(out), 16)]
}
