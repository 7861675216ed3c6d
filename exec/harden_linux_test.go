package exec

import (
	"net/netip"
	"slices"
	"testing"

	"souk/exec/fence/alone"
)

func TestRoutesOfThisMachine(t *testing.T) {
	if !alone.Here(t) {
		return
	}
	alone.IP(t, "link", "add", "lan", "up", "type", "bridge")
	alone.IP(t, "addr", "add", "192.168.7.1/23", "dev", "lan")
	alone.IP(t, "route", "add", "default", "via", "192.168.7.2")
	alone.IP(t, "route", "add", "10.20.0.0/14", "via", "192.168.7.3")
	want := []netip.Prefix{netip.MustParsePrefix("10.20.0.0/14"), netip.MustParsePrefix("192.168.6.0/23")}
	if got := routes(); !slices.Equal(slices.SortedFunc(slices.Values(got), netip.Prefix.Compare), want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
