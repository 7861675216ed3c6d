package market

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"souk/ledger"
	"souk/p2p/identity"
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
	unitCompute
)

// A field is one name that a query knows. It has one of num and text.
type field struct {
	name    string
	unit    unit
	aliases []string
	help    string
	num     func(r *row, gpus uint64) uint64 // gpus: those that can be had; unknown: not said
	text    func(r *row) string              // empty: not said
	blank   bool                             // an empty text is a text
	judged  bool                             // not of the offer, but of what is known of its host
	among   []string                         // the only values that there are
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

// truth is a bool as a number.
func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// said is a number that is zero where the host does not say it.
func said(n uint64) uint64 {
	if n == 0 {
		return unknown
	}
	return n
}

// fields is every field.
var fields = []field{
	{name: "gpu_name", unit: unitText, aliases: []string{"model"}, help: "model of the GPUs, as in RTX_4090",
		text: func(r *row) string { return r.model() }},
	{name: "num_gpus", unit: unitCount, aliases: []string{"gpus"}, help: "GPUs that can be had now", num: func(_ *row, n uint64) uint64 { return n }},
	{name: "gpu_ram", unit: unitBytes, help: "memory of each GPU, up to a whole GiB as it is sold: 24GiB",
		num: func(r *row, _ uint64) uint64 { return r.sold() }},
	{name: "gpu_total_ram", unit: unitBytes, help: "memory of all those GPUs together",
		num: func(r *row, n uint64) uint64 { return n * r.sold() }},
	{name: "gpu_frac", unit: unitShare, help: "those GPUs as a share of the machine's, as in 0.5", num: func(r *row, n uint64) uint64 {
		if r.gpus == 0 {
			return unknown
		}
		return n * 1e6 / uint64(r.gpus)
	}},
	{name: "compute_cap", unit: unitCompute, help: "CUDA compute capability, as in 8.9 or 890",
		num: func(r *row, _ uint64) uint64 { return said(uint64(r.compute)) }},
	{name: "gpu_arch", unit: unitText, help: "maker of the GPUs: nvidia", among: []string{"nvidia"}, text: func(*row) string { return "nvidia" }},
	{name: "dph", unit: unitRate, aliases: []string{"price"}, help: "on-demand price, credits per GPU-hour",
		num: func(r *row, _ uint64) uint64 { return uint64(r.price) }},
	{name: "dph_total", unit: unitRate, help: "on-demand price of all those GPUs together, credits per hour",
		num: func(r *row, n uint64) uint64 { return saturated(n, uint64(r.price)) }},
	{name: "min_bid", unit: unitRate, aliases: []string{"floor"}, help: "least spot bid that the host takes, credits per GPU-hour",
		num: func(r *row, _ uint64) uint64 { return uint64(r.floor) }},
	{name: "spot", unit: unitRate, help: "spot bid that wins a GPU now, credits per GPU-hour",
		num: func(r *row, _ uint64) uint64 { return said(uint64(r.spot)) }},
	{name: "reliability", unit: unitShare, aliases: []string{"reliability2"}, help: "share of the last 30 days that the host was up, as in 0.99",
		judged: true, num: func(r *row, _ uint64) uint64 { return uint64(r.Reliability) }},
	{name: "new", unit: unitBool, help: "seen for less than 7 days", judged: true, num: func(r *row, _ uint64) uint64 { return truth(r.New) }},
	{name: "tier", unit: unitText, help: "how the host was vetted: community or secure", judged: true, among: []string{"community", "secure", "none"},
		text: func(r *row) string {
			if r.Tier == member.TierNone {
				return "none"
			}
			return r.Tier.String()
		}},
	{name: "verified", unit: unitBool, help: "vetted by an operator", judged: true,
		num: func(r *row, _ uint64) uint64 { return truth(r.Tier != member.TierNone) }},
	{name: "verification", unit: unitText, help: "verified, or unverified", judged: true, among: []string{"verified", "unverified"},
		text: func(r *row) string {
			if r.Tier == member.TierNone {
				return "unverified"
			}
			return "verified"
		}},
	{name: "datacenter", unit: unitBool, help: "vetted for the tier secure", judged: true,
		num: func(r *row, _ uint64) uint64 { return truth(r.Tier == member.TierSecure) }},
	{name: "rentable", unit: unitBool, help: "has GPUs that can be had now", num: func(_ *row, n uint64) uint64 { return truth(n > 0) }},
	{name: "rented", unit: unitBool, help: "some of its GPUs are taken", num: func(r *row, _ uint64) uint64 { return truth(r.free < r.count) }},
	{name: "host_id", unit: unitText, aliases: []string{"host", "machine_id"}, help: "address of the host; a host is one machine",
		text: func(r *row) string { return hexed(r.offer.Host) }},
	{name: "id", unit: unitText, help: "the offer: address and model, as in 0x…/RTX_4090", text: func(r *row) string { return hexed(r.offer.Host) + "/" + r.model() }},
	{name: "alias", unit: unitText, help: "name of the host", judged: true, blank: true, text: func(r *row) string { return r.Alias }},
	{name: "cpu_arch", unit: unitText, help: "amd64 or arm64", among: []string{"amd64", "arm64"}, text: func(r *row) string {
		_, arch, _ := strings.Cut(r.offer.Machine.OS, "/")
		return arch
	}},
	{name: "cpu_cores", unit: unitCount, help: "cores of the machine", num: func(r *row, _ uint64) uint64 { return said(uint64(r.cores)) }},
	{name: "cpu_cores_effective", unit: unitCount, help: "cores that go with those GPUs", num: func(r *row, n uint64) uint64 {
		if r.gpus == 0 {
			return unknown
		}
		return uint64(r.cores) * n / uint64(r.gpus)
	}},
	{name: "cpu_ram", unit: unitBytes, aliases: []string{"ram"}, help: "memory of the machine",
		num: func(r *row, _ uint64) uint64 { return said(uint64(r.ram) << 20) }},
	{name: "disk_space", unit: unitBytes, help: "disk that is free for pods", num: func(r *row, _ uint64) uint64 { return uint64(r.disk) << 30 }},
	{name: "storage_cost", unit: unitRate, help: "credits per GB-month of disk", num: func(r *row, _ uint64) uint64 { return uint64(r.offer.Disk) }},
	{name: "inet_down_cost", unit: unitRate, aliases: []string{"inet_up_cost"}, help: "credits for traffic: none is taken", num: func(*row, uint64) uint64 { return 0 }},
	{name: "cuda_max_good", unit: unitVersion, aliases: []string{"cuda_vers"}, help: "highest CUDA version that the driver takes",
		text: func(r *row) string { return r.offer.Machine.CUDA }},
	{name: "driver_version", unit: unitVersion, help: "NVIDIA driver", text: func(r *row) string { return r.offer.Machine.Driver }},
	{name: "geolocation", unit: unitPlace, aliases: []string{"region"}, help: "country, as in DE; US means US-CA too",
		text: func(r *row) string { return r.offer.Region }},
	{name: "duration", unit: unitSeconds, help: "longest lease, as in 3d", num: func(r *row, _ uint64) uint64 {
		if r.maxHours == 0 {
			return unlimited
		}
		return uint64(r.maxHours) * 3600
	}},
	{name: "grace", unit: unitSeconds, help: "time between SIGTERM and SIGKILL, as in 30s", num: func(r *row, _ uint64) uint64 { return uint64(r.offer.Grace) }},
	{name: "simulated", unit: unitBool, help: "GPUs that only pretend", num: func(r *row, _ uint64) uint64 { return truth(r.simulated) }},
	{name: "runtime", unit: unitText, help: "what runs the pods: docker or process", among: []string{"docker", "process"},
		text: func(r *row) string { return r.offer.Machine.Runtime }},
	{name: "static_ip", unit: unitBool, aliases: []string{"static"}, help: "reached at an address of its own, not through a relay",
		num: func(r *row, _ uint64) uint64 {
			return truth(slices.ContainsFunc(r.offer.Addrs, func(a string) bool { return !strings.Contains(a, "/p2p-circuit") }))
		}},
}

// unmeasured are the names of Vast's search that nobody here can answer, and why.
var unmeasured = map[string]string{
	"direct_port_count": "pods have no ports of their own, they are reached through their host's node",
	"disk_bw":           "no host tells how fast its disk is",
	"dlperf":            noBenchmark, "dlperf_per_dphtotal": noBenchmark, "dlperf_usd": noBenchmark, "score": noBenchmark,
	"total_flops": noBenchmark, "flops_per_dphtotal": noBenchmark, "flops_usd": noBenchmark,
	"inet_down": noNetwork, "inet_up": noNetwork,
	"pcie_bw": noHardware, "pci_gen": noHardware, "gpu_lanes": noHardware, "bw_nvlink": noHardware, "gpu_mem_bw": noHardware,
	"gpu_max_power": noHardware, "gpu_max_temp": noHardware, "gpu_display_active": noHardware, "cpu_ghz": noHardware,
	"has_avx": noHardware, "mobo_name": noHardware, "ubuntu_version": noHardware, "vms_enabled": noHardware,
	"cluster_id": noHardware, "external": noHardware,
}

const (
	noBenchmark = "no benchmark is run on the GPUs"
	noNetwork   = "nobody measures the network of a host"
	noHardware  = "hosts do not tell it"
)

// hexed is an address as it is compared: without the letter case that is its checksum.
func hexed(a identity.Address) string { return "0x" + hex.EncodeToString(a[:]) }

// saturated is a product, as far as it can be counted.
func saturated(a, b uint64) uint64 {
	if hi, lo := bits.Mul64(a, b); hi == 0 && lo < unlimited {
		return lo
	}
	return unlimited
}

// findField finds a field by name or alias, else up to three near names, nearest first.
func findField(name string) (*field, []string) {
	name = strings.ToLower(name)
	var names []string
	for i := range fields {
		f := &fields[i]
		all := append([]string{f.name}, f.aliases...)
		if slices.Contains(all, name) {
			return f, nil
		}
		names = append(names, nearest(name, all, 1)...)
	}
	return nil, nearest(name, names, 3)
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

// Why a number is not one.
const (
	notDigits = "no number"
	negative  = "negative"
	tooLarge  = "too large"
)

// parseNumber reads digits with at most one point, times a scale. The answer says what is wrong with it.
func parseNumber(s string, scale uint64) (n number, why string) {
	rest, minus := strings.CutPrefix(s, "-")
	whole, frac, dot := strings.Cut(rest, ".")
	digits := whole + frac
	switch {
	case whole == "" || dot && frac == "" || strings.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' }):
		return n, notDigits
	case minus:
		return n, negative
	case len(digits) > 18:
		return n, tooLarge
	}
	v, _ := strconv.ParseUint(digits, 10, 64) // 18 digits always fit
	div := uint64(1)
	for range frac {
		div *= 10
	}
	hi, lo := bits.Mul64(v, scale)
	if hi >= div {
		return n, tooLarge
	}
	q, rem := bits.Div64(hi, lo, div)
	if q >= unlimited {
		return n, tooLarge
	}
	return number{q, rem > 0}, ""
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
	spanSuffixes    = []suffix{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}, {"w", 604800}}
	shareSuffixes   = []suffix{{"%", 1e4}, {"", 1e6}}
	rateSuffixes    = []suffix{{"", uint64(ledger.Credit)}}
	countSuffixes   = []suffix{{"", 1}}
	computeSuffixes = []suffix{{"", 100}}
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
	case unitCompute:
		return computeSuffixes, "a compute capability, as in 8.9 or 890"
	}
	return countSuffixes, "a number"
}

// ordered reports whether values of the unit are more or less.
func (u unit) ordered() bool { return u >= unitVersion }

// read finds out what a value means. The answer is empty, or what is wrong with the value.
func (u unit) read(v *operand) (why string) {
	switch u {
	case unitText:
		return ""
	case unitPlace:
		if country, _, _ := strings.Cut(v.text, "-"); len(country) != 2 || strings.ContainsFunc(country, func(r rune) bool { return r|0x20 < 'a' || r|0x20 > 'z' }) {
			return "no place; want the two letters of a country, as in DE, or of a part of one, as in US-CA"
		}
		return ""
	case unitBool:
		s := strings.ToLower(v.text)
		if v.num.whole = truth(s == "true"); s != "true" && s != "false" {
			return "neither true nor false"
		}
		return ""
	case unitVersion:
		if v.ver = parseVersion(v.text); v.ver == nil {
			return "not a version, as in 12.4"
		}
		return ""
	}
	return u.readNumber(v)
}

func (u unit) readNumber(v *operand) (why string) {
	list, want := u.numeral()
	s := strings.ToLower(v.text)
	worst := notDigits
	for _, x := range list {
		digits, ok := strings.CutSuffix(s, x.name)
		if !ok {
			continue
		}
		if v.num, why = parseNumber(digits, x.scale); why != "" {
			if why != notDigits {
				worst = why
			}
			continue
		}
		_, frac, _ := strings.Cut(digits, ".")
		switch {
		case u == unitShare && v.num.compare(1e6) < 0:
			return "over 1; want " + want
		case u == unitRate && len(frac) > 9:
			return "finer than the smallest step of a price, 0.000000001"
		case u == unitCompute && frac == "" && v.num.whole >= 1e4: // as Vast writes it: 890 for 8.9
			v.num.whole /= 100
		}
		return ""
	}
	if worst == notDigits {
		return "not " + want
	}
	return worst + "; want " + want
}

// equal reports whether a text, not empty, is a value.
func (u unit) equal(have string, v operand) bool {
	switch u {
	case unitPlace:
		w := v.plain
		return len(have) > len(w) && have[len(w)] == '-' && plainly(have[:len(w)], w) || plainly(have, w)
	case unitVersion:
		return compareVersion(have, v.ver) == 0
	}
	return plainly(have, v.plain)
}

// show is what a row has, for people.
func (f *field) show(r *row, gpus uint64) string {
	if f.text != nil {
		s := f.text(r)
		if s == "" && !f.blank || f.unit == unitVersion && parseVersion(s) == nil {
			return "not known"
		}
		return strconv.Quote(s)
	}
	n := f.num(r, gpus)
	if n == unknown {
		return "not known"
	}
	return f.unit.show(n)
}

// show is a number, for people.
func (u unit) show(n uint64) string {
	if n == unlimited {
		return "without limit"
	}
	switch u {
	case unitBool:
		return strconv.FormatBool(n != 0)
	case unitBytes:
		for _, x := range []suffix{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}} {
			if n >= x.scale && n%x.scale == 0 {
				return fmt.Sprintf("%d%s", n/x.scale, x.name)
			}
		}
		return fmt.Sprintf("%dB", n)
	case unitSeconds:
		return fmt.Sprintf("%ds", n)
	case unitRate:
		return ledger.Rate(n).Text()
	case unitShare:
		return ppmText(n)
	case unitCompute:
		return fmt.Sprintf("%d.%d", n/100, n%100/10)
	}
	return strconv.FormatUint(n, 10)
}

// plain is a text without case, and with spaces for underscores. Only ASCII letters have a case here.
func plain(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = plainByte(c)
	}
	return string(b)
}

func plainByte(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_':
		return ' '
	}
	return c
}

// plainly reports whether a text in plain is want.
func plainly(s, want string) bool {
	if len(s) != len(want) {
		return false
	}
	for i := range len(s) {
		if plainByte(s[i]) != want[i] {
			return false
		}
	}
	return true
}

// ppmText is parts per million as a share of one: 0.985.
func ppmText(ppm uint64) string {
	s := strings.TrimRight(fmt.Sprintf("%d.%06d", ppm/1e6, ppm%1e6), "0")
	return strings.TrimSuffix(s, ".")
}

// parseVersion reads numbers of up to 18 digits between points, at most six; nil when s is none.
func parseVersion(s string) []uint64 {
	if !isVersion(s) {
		return nil
	}
	var out []uint64
	for p := range strings.SplitSeq(s, ".") {
		n, _ := strconv.ParseUint(p, 10, 64) // isVersion has seen to it
		out = append(out, n)
	}
	return out
}

// compareVersion orders a version that parseVersion takes and another, part by part; parts that are missing are zero, so
// 12.4 is 12.4.0. It is asked for many rows, and makes no list of them.
func compareVersion(have string, want []uint64) int {
	for i := 0; have != "" || i < len(want); i++ {
		var x, y uint64
		for have != "" {
			c := have[0]
			have = have[1:]
			if c == '.' {
				break
			}
			x = 10*x + uint64(c-'0')
		}
		if i < len(want) {
			y = want[i]
		}
		if x != y {
			return cmp.Compare(x, y)
		}
	}
	return 0
}

// isVersion reports whether parseVersion takes a text.
func isVersion(s string) bool {
	parts, digits := 1, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			if digits++; digits > 18 {
				return false
			}
		case c == '.' && digits > 0 && parts < 6:
			parts, digits = parts+1, 0
		default:
			return false
		}
	}
	return digits > 0
}
