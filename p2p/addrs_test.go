package p2p

import (
	"net"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

// TestContainerNetworksAreNotAnnounced asks with the addresses of this machine, whatever interfaces it has.
func TestContainerNetworksAreNotAnnounced(t *testing.T) {
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	own := []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/1"), ma.StringCast("/ip4/198.51.100.7/tcp/1")}
	bridge := ""
	for _, i := range all {
		if addrs, err := i.Addrs(); err == nil && i.Name == "docker0" && len(addrs) > 0 {
			ip, _, _ := net.ParseCIDR(addrs[0].String())
			bridge = "/ip4/" + ip.String() + "/tcp/1"
			own = append(own, ma.StringCast(bridge))
		}
	}
	kept := outside(own)
	if len(kept) != 2 {
		t.Errorf("%v of %v, with the engine's bridge at %q", kept, own, bridge)
	}
	if bridge != "" {
		if only := outside(own[2:]); len(only) != 1 {
			t.Errorf("a node that has nothing else announces %v", only)
		}
	}
}
