package market

import (
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"souk/p2p/identity"
	"souk/p2p/member"
)

func testListing() Listing {
	return Listing{
		Offer: Offer{
			Host: identity.Address{0xab, 0xcd}, Seq: 1, At: 1000, Expires: 10_000,
			Groups: []Group{{Model: "RTX_4090", MemoryMiB: 24564, Count: 4, Free: 2, Price: 400_000_000, Floor: 150_000_000,
				SpotNow: 150_000_000, OnDemand: 4, Compute: 890}},
			Machine: member.Machine{CPU: "EPYC", Cores: 32, MemoryMiB: 131072, DiskGiB: 500, Runtime: "docker",
				Driver: "535.104.05", CUDA: "12.4", OS: "linux/amd64", GPUs: 8},
			Addrs: []string{"/ip4/1.2.3.4/tcp/4001"}, Disk: 100_000_000, Grace: 30, MaxHours: 72, Region: "US-CA",
		},
		Tier: member.TierSecure, Alias: "my_host", Reliability: 991_000,
	}
}

func TestQueryConditions(t *testing.T) {
	l := testListing()
	for _, c := range []struct {
		query  string
		failed string // empty: matches
	}{
		{"", ""},
		{"gpu_name=RTX_4090 num_gpus>=2 reliability>=0.99 dph<0.45 gpu_ram>=24GiB geolocation in [DE,US] verified=true simulated=false tier=secure", ""},
		{`gpu_name="RTX 4090"`, ""},
		{"gpu_name = rtx_4090", ""},
		{"gpu_name!=RTX_4090", `gpu_name!=RTX_4090 (is "RTX_4090")`},
		{"gpu_name in [A100, RTX_4090]", ""},
		{"gpu_name notin [A100,RTX_4090]", `gpu_name notin [A100,RTX_4090] (is "RTX_4090")`},
		{"gpu_name not in [A100]", ""},
		{"num_gpus gte 2 num_gpus lte 2 num_gpus eq 2 num_gpus neq 3 num_gpus gt 1 num_gpus lt 3", ""},
		{"num_gpus>2", "num_gpus>2 (is 2)"},
		{"num_gpus<2", "num_gpus<2 (is 2)"},
		{"dph<0.4", "dph<0.4 (is 0.40)"},
		{"dph<=0.4", ""},
		{"dph<0.400000001", ""},
		{"dph<=0.399999999", "dph<=0.399999999 (is 0.40)"},
		{"dph>0.399999999", ""},
		{"dph==0.4", ""},
		{"dph!=0.400000001", ""},
		{"min_bid=0.15 spot<=0.15 storage_cost=0.1", ""},
		{"reliability>=99.1%", ""},
		{"reliability>0.991", "reliability>0.991 (is 0.991)"},
		{"gpu_ram>=24GB", ""},
		{"gpu_ram<24GiB", "gpu_ram<24GiB (is 24GiB)"},
		{"gpu_ram>=25GiB", "gpu_ram>=25GiB (is 24GiB)"},
		{"cpu_ram=128GiB disk_space>=0.4TiB", ""},
		{"cuda_max_good>=12.4 cuda_vers<12.10", ""},
		{"driver_version>=535.86 driver_version<535.104.6", ""},
		{"geolocation=US", ""},
		{"geolocation=us-ca", ""},
		{"geolocation=US-C", `geolocation=US-C (is "US-CA")`},
		{"alias='my host'", ""},
		{"host=0xABcD000000000000000000000000000000000000", ""},
		{"grace>=30s grace<1m duration>=3d", ""},
		{"duration>3d", "duration>3d (is 259200s)"},
		{"runtime=docker static=true new=false", ""},
		{"tier=community", `tier=community (is "secure")`},
		{"tier=any simulated=any", ""},
		{`alias="any"`, `alias="any" (is "my_host")`},
		{"gpu_total_ram=48GiB gpu_frac=0.25 gpu_frac=25% dph_total=0.8 cpu_cores_effective=8 rentable=true rented=true", ""},
		{"compute_cap>=8.9 compute_cap=890 compute_cap<12.0 compute_cap>=700 compute_cap<900", ""},
		{"compute_cap>8.9", "compute_cap>8.9 (is 8.9)"},
		{"gpu_arch=nvidia cpu_arch=amd64 verification=verified datacenter=true inet_up_cost=0", ""},
		{"cpu_arch=arm64", `cpu_arch=arm64 (is "amd64")`},
		{"machine_id=0xabcd000000000000000000000000000000000000 id=0xABCD000000000000000000000000000000000000/RTX_4090", ""},
		{"cuda_max_good>=12.10", `cuda_max_good>=12.10 (is "12.4")`},
		{"cuda_max_good in [12.4.0,13] cuda_max_good notin [12.40]", ""},
		{"verified=false", "verified=false (is true)"},
		{"rentable=false", "rentable=false (is true)"},
	} {
		q, err := ParseQuery(c.query)
		if err != nil {
			t.Errorf("%s: %v", c.query, err)
			continue
		}
		if ok, failed := q.Match(l); failed != c.failed || ok != (failed == "") {
			t.Errorf("%s: %v, %q; want %q", c.query, ok, failed, c.failed)
		}
	}
}

func TestWhatAHostDoesNotSayIsNotMet(t *testing.T) {
	for _, s := range []string{"spot<1", "spot!=1", "compute_cap<9", "gpu_frac<1", "cpu_cores_effective>=0", "cpu_ram>=0B", "cpu_arch!=arm64", "cuda_max_good>=1", "cuda_max_good!=1", "geolocation!=DE", "geolocation notin [DE]"} {
		q, err := ParseQuery(s)
		if err != nil {
			t.Fatal(err)
		}
		if ok, failed := q.Match(Listing{Offer: Offer{Groups: []Group{{}}}}); ok || !strings.Contains(failed, "not known") {
			t.Errorf("%s: %v, %q; want it not known", s, ok, failed)
		}
	}
}

func TestQueryErrorsNameThePlace(t *testing.T) {
	for _, c := range []struct {
		query string
		at    int
		why   string
		near  []string
	}{
		{"gpu_nam=A", 0, `unknown field "gpu_nam"`, []string{"gpu_name", "gpu_ram", "cpu_ram"}},
		{"num_gpus>1 relaibility>1", 11, "unknown field", []string{"reliability"}},
		{"zzzzzzzz=1", 0, "unknown field", nil},
		{"gpu_name", 8, "want an operator", nil},
		{"gpu_name RTX", 9, "want an operator", nil},
		{"gpu_name=", 9, "want a value", nil},
		{"gpu_name>A", 8, "has no order", nil},
		{"gpu_ram>=24", 9, "want", nil},
		{"gpu_ram>=24XB", 9, "not a size", nil},
		{"dph<0.4x", 4, "not a number of credits", nil},
		{"dph<-1", 4, "is negative", nil},
		{"dph<0.3999999999", 4, "finer than the smallest step of a price", nil},
		{"dph<0.40EUR", 4, "not a number of credits", nil},
		{"dph<0.40GiB", 4, "not a number of credits", nil},
		{"gpu_ram>=24h", 9, "not a size", nil},
		{"gpu_ram>=99999999TiB", 9, "too large", nil},
		{"gpu_ram>=-24GiB", 9, "is negative", nil},
		{"num_gpus>=1.5.2", 10, "not a number", nil},
		{"num_gpus>=99999999999999999999", 10, "too large", nil},
		{"disk_bw>500", 0, "disk_bw is not measured yet: no host tells how fast its disk is", nil},
		{"dlperf>5", 0, "dlperf is not measured yet", nil},
		{"INET_UP>100", 0, "not measured yet", nil},
		{"geolocation=Germany", 12, "no place; want the two letters of a country", nil},
		{"geolocation in [DE,Netherlands]", 19, "no place", nil},
		{"tier=platinum", 5, "none of community, secure, none", nil},
		{"runtime=podman", 8, "none of docker, process", nil},
		{"compute_cap>=eight", 13, "not a compute capability", nil},
		{"dph<+1", 4, "not a number", nil},
		{"dph<1e3", 4, "not a number", nil},
		{"dph<.5", 4, "not a number", nil},
		{"dph<5.", 4, "not a number", nil},
		{"dph<99999999999999999999", 4, "too large", nil},
		{"reliability>99", 12, "over 1", nil},
		{"duration>3", 9, "span with its unit", nil},
		{"cuda_max_good>new", 14, "not a version", nil},
		{"cuda_max_good>1234567890123456789", 14, "not a version", nil},
		{"cuda_max_good>1.2.3.4.5.6.7", 14, "not a version", nil},
		{"verified=yes", 9, "neither true nor false", nil},
		{"geolocation in DE", 15, "want a list", nil},
		{"geolocation in [DE", 18, "want , or ]", nil},
		{"geolocation in [,DE]", 16, "want a value", nil},
		{`alias="open`, 6, "not closed", nil},
		{`alias="a"b`, 9, "want a space", nil},
		{"=3", 0, "want a field", nil},
		{"alias=" + strings.Repeat("x", 97), 6, "at most 96 bytes", nil},
		{strings.Repeat(" ", 2049), 2048, "at most 2048 bytes", nil},
		{strings.Repeat("new=true ", 33), 9 * 32, "at most 32 conditions", nil},
		{"alias in [" + strings.Repeat("x,", 32) + "x]", 10 + 64, "at most 32 values", nil},
	} {
		_, err := ParseQuery(c.query)
		var e QueryError
		if !errors.As(err, &e) || e.At != c.at || !strings.Contains(err.Error(), c.why) && c.why != "want" {
			t.Errorf("%.60q: %v (%+v), want %q at %d", c.query, err, e, c.why, c.at)
		}
		if (c.near != nil || c.why == "unknown field") && (!slices.Equal(e.Near, c.near) || e.Field == "") {
			t.Errorf("%.60q: near %v, want %v", c.query, e.Near, c.near)
		}
	}
}

func TestImplicitFilterIsWhatTheQueryDoesNotName(t *testing.T) {
	p := member.DefaultPolicy(identity.Address{}, 0)
	for query, want := range map[string]string{
		"":                                "verified=true simulated=false reliability>=0.98",
		"simulated=any":                   "verified=true reliability>=0.98",
		"verified=false reliability2>0.5": "simulated=false",
	} {
		q, err := ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.Implicit(p).String(); got != want {
			t.Errorf("implicit for %q: %q, want %q", query, got, want)
		}
	}
}

func TestEveryFieldHasOneMeaning(t *testing.T) {
	var seen []string
	for _, f := range fields {
		for _, n := range append([]string{f.name}, f.aliases...) {
			if slices.Contains(seen, n) {
				t.Errorf("name %q is there twice", n)
			}
			seen = append(seen, n)
		}
		if f.help == "" {
			t.Errorf("field %q has no help", f.name)
		}
		l := testListing()
		r, empty := rowOf(&l), row{offer: &Offer{Groups: []Group{{}}}}
		for _, r := range []*row{&r, &empty} {
			if s := f.show(r, 1); s == "" {
				t.Errorf("field %q shows nothing", f.name)
			}
		}
		if (f.num == nil) == (f.text == nil) || unmeasured[f.name] != "" {
			t.Errorf("field %q has to be a number or a text, and not unmeasured", f.name)
		}
	}
	if len(Fields()) != len(fields) {
		t.Error("Fields leaves some out")
	}
}

func TestNumbersCompareAsRationals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[0-9]{1,9}(\.[0-9]{1,9})?`).Draw(t, "number")
		scale := rapid.SampledFrom([]uint64{1, 60, 1e6, 1e9, 1 << 30, 1 << 40}).Draw(t, "scale")
		have := rapid.Uint64().Draw(t, "have")
		r, _ := new(big.Rat).SetString(s)
		r.Mul(r, new(big.Rat).SetUint64(scale))
		whole := new(big.Int).Quo(r.Num(), r.Denom())
		n, why := parseNumber(s, scale)
		if fits := whole.IsUint64() && whole.Uint64() < unlimited; fits != (why == "") || !fits && why != tooLarge {
			t.Fatalf("parseNumber(%s, %d): %q", s, scale, why)
		}
		if why != "" {
			return
		}
		near := whole.Uint64() + rapid.Uint64Range(0, 2).Draw(t, "off") - 1
		for _, h := range []uint64{have, near} {
			for _, op := range []operator{opEqual, opLess, opAtMost, opMore, opAtLeast} {
				span, d := n.span(op), new(big.Rat).SetUint64(h).Cmp(r)
				if in := span.from <= h && h <= span.to; h <= unlimited && in != (op == opEqual && d == 0 || op.ordered() && op.admits(d)) {
					t.Fatalf("%d %s %s × %d: %v", h, op, s, scale, in)
				}
			}
			if got, want := n.compare(h), new(big.Rat).SetUint64(h).Cmp(r); got != want {
				t.Fatalf("%d against %s × %d: %d, want %d", h, s, scale, got, want)
			}
		}
	})
}

func TestEditsIsADistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"host", "hots", 2}, {"dph", "dph", 0}} {
		if got := edits(c.a, c.b); got != c.want || edits(c.b, c.a) != c.want {
			t.Errorf("edits(%q, %q): %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add("gpu_name=RTX_4090 num_gpus>=2 reliability>=0.99 dph<0.4 gpu_ram>=24GiB geolocation in [DE,NL] verified=true")
	f.Add(`alias="a b" alias='"' alias!=any alias="any" tier=any alias in [any,"",'x,y']`)
	f.Add("grace not in [1s,\t2m] cuda_max_good>=12.4 driver_version lt 5")
	l := testListing()
	f.Fuzz(func(t *testing.T, s string) {
		q, err := ParseQuery(s)
		if err != nil {
			var e QueryError
			if !errors.As(err, &e) || e.At < 0 || e.At > len(s) {
				t.Fatalf("%q: error %#v is outside the query", s, err)
			}
			return
		}
		again, err := ParseQuery(q.String())
		if err != nil || again.String() != q.String() {
			t.Fatalf("%q is printed as %q, which reads as %q: %v", s, q, again, err)
		}
		ok, failed := q.Match(l)
		if ok2, failed2 := again.Match(l); ok != ok2 || failed != failed2 || ok != (failed == "") {
			t.Fatalf("%q matches %v %q, printed %v %q", s, ok, failed, ok2, failed2)
		}
	})
}
