package fence

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("%s (%v): got\n%s\nwant\n%s", name, err, got, want)
	}
}

func TestRules(t *testing.T) {
	near := []netip.Prefix{netip.MustParsePrefix("203.0.113.7/24"), netip.MustParsePrefix("10.1.2.3/8"), netip.MustParsePrefix("fd00::1/64"),
		netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("203.0.113.8/24")}
	o := Options{Home: "home1", Prefix: "soukabc"}
	golden(t, "open.nft", o.Rules(near))
	o.Mbit = 100
	golden(t, "capped.nft", o.Rules(nil))
	o.Closed, o.Mbit = true, 0
	golden(t, "closed.nft", o.Rules(near))
}

// What IANA keeps for something else than the public internet is forbidden, whatever else changes in the list.
func TestForbiddenCoversWhatIsNotPublic(t *testing.T) {
	for _, a := range []string{"0.0.0.1", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "169.254.169.254", "169.254.170.2",
		"172.16.0.1", "172.31.255.254", "192.0.0.192", "192.168.1.1", "198.18.0.1", "198.19.255.254", "224.0.0.251", "239.255.255.250", "240.0.0.1",
		"255.255.255.255", "168.63.129.16"} {
		if !covered(netip.PrefixFrom(netip.MustParseAddr(a), 32)) && !strings.Contains(strings.Join(forbidden, " "), a) {
			t.Errorf("%s is open", a)
		}
	}
	for _, a := range []string{"1.1.1.1", "8.8.8.8", "9.9.9.9", "100.63.0.1", "172.15.0.1", "172.32.0.1", "192.167.0.1", "198.17.0.1", "223.255.255.1"} {
		if covered(netip.PrefixFrom(netip.MustParseAddr(a), 32)) {
			t.Errorf("%s is shut", a)
		}
	}
}

func TestTablesOfHomesDiffer(t *testing.T) {
	if Table("a") == Table("b") || !strings.HasPrefix(Table("a"), "souk_") || len(Table("a")) != 13 {
		t.Errorf("got %q and %q", Table("a"), Table("b"))
	}
}
