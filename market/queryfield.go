package market

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"souk/ledger"
	"souk/p2p/member"
)

// A unit is what the values of a field are and how they are written.
type unit uint8

// The units. Numbers of a listing are integers: bytes, nano-credits, millionths, seconds, or a plain count.
const (
	unitText unit = iota
	unitPlace
	unitBool
	unitVersion
	unitCount
	unitBytes
	unitRate
	unitShare
	unitSeconds
)

// A datum is what a listing has for a field.
type datum struct {
	known bool
	num   uint64
	text  string
}

// A field is one name that a query knows.
type field struct {
	name    string
	unit    unit
	aliases []string
	help    string
	of      func(l Listing, free uint16) datum
}

// A Field describes a field to people.
type Field struct {
	Name, Help string
}

// Fields lists what a query can ask, in the order of help texts.
func Fields() []Field {
	var out []Field
	for _, f := range fields {
		out = append(out, Field{f.name, f.help})
	}
	return out
}

func num(n uint64) datum { return datum{known: true, num: n} }

func text(s string) datum { return datum{known: true, text: s} }

func said(s string) datum { return datum{known: s != "", text: s} }

func flag(b bool) datum { return text(strconv.FormatBool(b)) }

// fields is every field. Those that a host does not state are not known.
var fields = []field{
	{"gpu_name", unitText, []string{"model"}, "model of the GPUs, as in RTX_4090",
		func(l Listing, _ uint16) datum { return text(l.GPUs().Model) }},
	{"num_gpus", unitCount, []string{"gpus"}, "GPUs that can be had now", func(_ Listing, free uint16) datum { return num(uint64(free)) }},
	{"gpu_ram", unitBytes, nil, "memory of each GPU, as in 24GiB",
		func(l Listing, _ uint16) datum { return num(uint64(l.GPUs().MemoryMiB) << 20) }},
	{"dph", unitRate, []string{"price"}, "on-demand price, credits per GPU-hour",
		func(l Listing, _ uint16) datum { return num(uint64(l.GPUs().Price)) }},
	{"min_bid", unitRate, []string{"floor"}, "least spot bid that the host takes, credits per GPU-hour",
		func(l Listing, _ uint16) datum { return num(uint64(l.GPUs().Floor)) }},
	{"spot", unitRate, nil, "spot bid that wins a GPU now, credits per GPU-hour",
		func(l Listing, _ uint16) datum {
			return datum{known: l.GPUs().SpotNow > 0, num: uint64(l.GPUs().SpotNow)}
		}},
	{"reliability", unitShare, []string{"reliability2"}, "share of the last 30 days that the host was up, as in 0.99",
		func(l Listing, _ uint16) datum { return num(uint64(l.Reliability)) }},
	{"new", unitBool, nil, "seen for less than 7 days", func(l Listing, _ uint16) datum { return flag(l.New) }},
	{"tier", unitText, nil, "how the host was vetted: community or secure", func(l Listing, _ uint16) datum { return text(l.Tier.String()) }},
	{"verified", unitBool, nil, "vetted by an operator", func(l Listing, _ uint16) datum { return flag(l.Tier != member.TierNone) }},
	{"host", unitText, []string{"host_id"}, "address of the host", func(l Listing, _ uint16) datum { return text(l.Offer.Host.String()) }},
	{"alias", unitText, nil, "name of the host", func(l Listing, _ uint16) datum { return text(l.Alias) }},
	{"cpu_cores", unitCount, nil, "cores of the machine", func(l Listing, _ uint16) datum { return num(uint64(l.Offer.Machine.Cores)) }},
	{"ram", unitBytes, []string{"cpu_ram"}, "memory of the machine",
		func(l Listing, _ uint16) datum { return num(uint64(l.Offer.Machine.MemoryMiB) << 20) }},
	{"disk_space", unitBytes, nil, "disk that is free for pods",
		func(l Listing, _ uint16) datum { return num(uint64(l.Offer.Machine.DiskGiB) << 30) }},
	{"storage_cost", unitRate, nil, "credits per GB-month of disk", func(l Listing, _ uint16) datum { return num(uint64(l.Offer.Disk)) }},
	{"cuda_max_good", unitVersion, []string{"cuda_vers"}, "highest CUDA version that the driver takes",
		func(l Listing, _ uint16) datum { return version(l.Offer.Machine.CUDA) }},
	{"driver_version", unitVersion, nil, "NVIDIA driver", func(l Listing, _ uint16) datum { return version(l.Offer.Machine.Driver) }},
	{"geolocation", unitPlace, []string{"region"}, "country, as in DE; US means US-CA too",
		func(l Listing, _ uint16) datum { return said(l.Offer.Region) }},
	{"duration", unitSeconds, nil, "longest lease, as in 3d", func(l Listing, _ uint16) datum {
		if l.Offer.MaxHours == 0 {
			return num(1<<64 - 1)
		}
		return num(uint64(l.Offer.MaxHours) * 3600)
	}},
	{"grace", unitSeconds, nil, "time between SIGTERM and SIGKILL, as in 30s",
		func(l Listing, _ uint16) datum { return num(uint64(l.Offer.Grace)) }},
	{"simulated", unitBool, nil, "GPUs that only pretend", func(l Listing, _ uint16) datum { return flag(l.GPUs().Simulated) }},
	{"runtime", unitText, nil, "what runs the pods: docker or process", func(l Listing, _ uint16) datum { return said(l.Offer.Machine.Runtime) }},
	{"static", unitBool, []string{"static_ip"}, "reached at an address of its own, not through a relay",
		func(l Listing, _ uint16) datum {
			return flag(slices.ContainsFunc(l.Offer.Addrs, func(a string) bool { return !strings.Contains(a, "/p2p-circuit") }))
		}},
}

// findField finds a field by name or alias, else up to three near names, nearest first: those a few edits away, and those
// that contain it.
func findField(name string) (*field, []string) {
	name = strings.ToLower(name)
	type near struct {
		name  string
		edits int
	}
	var list []near
	for i := range fields {
		f := &fields[i]
		best := near{edits: -1}
		for _, n := range append([]string{f.name}, f.aliases...) {
			if n == name {
				return f, nil
			}
			d := edits(n, clip(name))
			like := d <= min(3, 1+len(n)/4) || len(name) > 2 && strings.Contains(n, clip(name))
			if like && (best.edits < 0 || d < best.edits) {
				best = near{n, d}
			}
		}
		if best.edits >= 0 {
			list = append(list, best)
		}
	}
	slices.SortFunc(list, func(a, b near) int { return cmp.Or(cmp.Compare(a.edits, b.edits), cmp.Compare(a.name, b.name)) })
	var out []string
	for _, n := range list[:min(len(list), 3)] {
		out = append(out, n.name)
	}
	return nil, out
}

// edits is the Levenshtein distance of two short texts.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			sub := diag
			if a[i] != b[j] {
				sub++
			}
			diag = row[j+1]
			row[j+1] = min(sub, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// A number is a decimal number of a query, in the integers of a listing: whole, and whether there is more after it. So
// it is compared exactly.
type number struct {
	whole uint64
	more  bool
}

// compare orders an integer and a number.
func (n number) compare(have uint64) int {
	if c := cmp.Compare(have, n.whole); c != 0 || !n.more {
		return c
	}
	return -1
}

// parseNumber reads digits with at most one point, times a scale.
func parseNumber(s string, scale uint64) (number, bool) {
	whole, frac, dot := strings.Cut(s, ".")
	digits := whole + frac
	if whole == "" || dot && frac == "" || len(digits) > 18 {
		return number{}, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || digits[0] == '+' {
		return number{}, false
	}
	div := uint64(1)
	for range frac {
		div *= 10
	}
	hi, lo := bits.Mul64(n, scale)
	if hi >= div {
		return number{}, false
	}
	q, rem := bits.Div64(hi, lo, div)
	return number{q, rem > 0}, true
}

// A suffix is a unit that may follow a number.
type suffix struct {
	name  string
	scale uint64
}

var (
	byteSuffixes = []suffix{
		{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
		{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"b", 1},
	}
	spanSuffixes  = []suffix{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}, {"w", 604800}}
	shareSuffixes = []suffix{{"%", 1e4}, {"", 1e6}}
	rateSuffixes  = []suffix{{"", uint64(ledger.Credit)}}
	countSuffixes = []suffix{{"", 1}}
)

// numeral is the number's suffixes and an example of the unit.
func (u unit) numeral() ([]suffix, string) {
	switch u {
	case unitBytes:
		return byteSuffixes, "a size with its unit, as in 24GiB or 24GB"
	case unitSeconds:
		return spanSuffixes, "a span with its unit, as in 30s, 8h or 3d"
	case unitShare:
		return shareSuffixes, "a share, as in 0.99 or 99%"
	case unitRate:
		return rateSuffixes, "a number of credits, as in 0.34"
	}
	return countSuffixes, "a number"
}

// ordered reports whether values of the unit are more or less.
func (u unit) ordered() bool { return u >= unitVersion }

// read finds out what a value means. The answer is empty, or what the value is not.
func (u unit) read(v *operand) (why string) {
	switch u {
	case unitText, unitPlace:
		return ""
	case unitBool:
		if s := strings.ToLower(v.text); s != "true" && s != "false" {
			return "neither true nor false"
		}
		return ""
	case unitVersion:
		if v.ver = parseVersion(v.text); v.ver == nil {
			return "not a version, as in 12.4"
		}
		return ""
	}
	list, want := u.numeral()
	s := strings.ToLower(v.text)
	for _, x := range list {
		digits, ok := strings.CutSuffix(s, x.name)
		if !ok {
			continue
		}
		if v.num, ok = parseNumber(digits, x.scale); ok && u == unitShare && v.num.compare(1e6) < 0 {
			return "over 1; want " + want
		}
		if ok {
			return ""
		}
	}
	return "not " + want
}

// equal reports whether a listing has the value.
func (u unit) equal(have datum, v operand) bool {
	switch u {
	case unitText, unitBool:
		return plain(have.text) == plain(v.text)
	case unitPlace:
		h, w := plain(have.text), plain(v.text)
		return h == w || strings.HasPrefix(h, w+"-")
	}
	return u.compare(have, v) == 0
}

// compare orders what a listing has and a value.
func (u unit) compare(have datum, v operand) int {
	if u == unitVersion {
		return compareVersions(parseVersion(have.text), v.ver)
	}
	return v.num.compare(have.num)
}

// show is what a listing has, for people.
func (u unit) show(d datum) string {
	switch u {
	case unitText, unitPlace, unitBool, unitVersion:
		return strconv.Quote(d.text)
	case unitBytes:
		for _, x := range []suffix{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}} {
			if d.num >= x.scale && d.num%x.scale == 0 {
				return fmt.Sprintf("%d%s", d.num/x.scale, x.name)
			}
		}
		return fmt.Sprintf("%dB", d.num)
	case unitSeconds:
		if d.num == 1<<64-1 {
			return "without limit"
		}
		return fmt.Sprintf("%ds", d.num)
	case unitRate:
		return ledger.Rate(d.num).Text()
	case unitShare:
		return ppmText(d.num)
	}
	return strconv.FormatUint(d.num, 10)
}

// plain is a text without case, and with spaces for underscores.
func plain(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", " ")) }

// ppmText is parts per million as a share of one: 0.985.
func ppmText(ppm uint64) string {
	s := strings.TrimRight(fmt.Sprintf("%d.%06d", ppm/1e6, ppm%1e6), "0")
	return strings.TrimSuffix(s, ".")
}

func version(s string) datum { return datum{known: parseVersion(s) != nil, text: s} }

// parseVersion reads numbers between points, at most six; nil when s is none.
func parseVersion(s string) []uint64 {
	parts := strings.Split(s, ".")
	if len(parts) > 6 {
		return nil
	}
	var out []uint64
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 63)
		if err != nil || p[0] == '+' {
			return nil
		}
		out = append(out, n)
	}
	return out
}

// compareVersions orders versions part by part; parts that are missing are zero, so 12.4 is 12.4.0.
func compareVersions(a, b []uint64) int {
	for i := range max(len(a), len(b)) {
		var x, y uint64
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return cmp.Compare(x, y)
		}
	}
	return 0
}
