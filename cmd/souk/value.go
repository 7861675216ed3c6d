package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
)

// A bytesValue is a size on the command line: 10GiB, 500MB, 1.5TiB. A unit is a must.
type bytesValue uint64

var byteUnits = []struct {
	name string
	size uint64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

// Set implements pflag.Value.
func (v *bytesValue) Set(s string) error {
	n, err := parseBytes(s)
	*v = bytesValue(n)
	return err
}

// Type implements pflag.Value.
func (v *bytesValue) Type() string { return "size" }

// String implements pflag.Value.
func (v *bytesValue) String() string {
	if *v == 0 {
		return ""
	}
	return showBytes(uint64(*v))
}

func parseBytes(s string) (uint64, error) {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || f < 0 || math.IsInf(f, 0) || math.IsNaN(f) || f*float64(u.size) > 1<<60 || strings.ContainsAny(digits, "eExX_+") {
			return 0, fmt.Errorf("%q is no size; want one as in 10GiB", s)
		}
		return uint64(f * float64(u.size)), nil
	}
	return 0, fmt.Errorf("%q is no size; want a number and a unit, as in 10GiB", s)
}

// showBytes is a size in its largest binary unit that keeps it short.
func showBytes(n uint64) string {
	for _, u := range byteUnits[:4] {
		if n >= u.size {
			if n%u.size == 0 {
				return strconv.FormatUint(n/u.size, 10) + u.name
			}
			return strconv.FormatFloat(float64(n)/float64(u.size), 'f', 1, 64) + u.name
		}
	}
	return strconv.FormatUint(n, 10) + "B"
}

// A spanValue is a duration on the command line: 30m, 8h, 7d, 2w, 1d12h.
type spanValue time.Duration

// Set implements pflag.Value.
func (v *spanValue) Set(s string) error {
	d, err := parseSpan(s)
	*v = spanValue(d)
	return err
}

// Type implements pflag.Value.
func (v *spanValue) Type() string { return "duration" }

// String implements pflag.Value.
func (v *spanValue) String() string {
	if *v == 0 {
		return ""
	}
	return showSpan(time.Duration(*v))
}

func parseSpan(s string) (time.Duration, error) {
	rest, total := s, time.Duration(0)
	for _, u := range []struct {
		name string
		span time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		n, after, ok := strings.Cut(rest, u.name)
		if !ok {
			continue
		}
		k, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration; want one as in 30m, 8h or 7d", s)
		}
		total += time.Duration(k) * u.span
		rest = after
	}
	if rest == "" && s != "" {
		return total, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration; want one as in 30m, 8h or 7d", s)
	}
	return total + d, nil
}

// showSpan is a duration in its two largest units.
func showSpan(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + showSpan(-d)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	s := int64(d / time.Second)
	parts := []struct {
		n    int64
		name string
	}{{s / 86400, "d"}, {s / 3600 % 24, "h"}, {s / 60 % 60, "m"}, {s % 60, "s"}}
	out, left := "", 2
	for _, p := range parts {
		if p.n > 0 && left > 0 {
			out += strconv.FormatInt(p.n, 10) + p.name
		}
		if p.n > 0 || out != "" {
			left--
		}
	}
	return out
}

// A rateValue is a price per hour on the command line: 0.34.
type rateValue ledger.Rate

// Set implements pflag.Value.
func (v *rateValue) Set(s string) error {
	a, err := ledger.ParseAmount(s)
	*v = rateValue(a)
	return err
}

// Type implements pflag.Value.
func (v *rateValue) Type() string { return "credits" }

// String implements pflag.Value.
func (v *rateValue) String() string {
	if *v == 0 {
		return ""
	}
	return ledger.Rate(*v).Text()
}

// An amountValue is money on the command line: 25 or 0.50.
type amountValue ledger.Amount

// Set implements pflag.Value.
func (v *amountValue) Set(s string) error {
	a, err := ledger.ParseAmount(s)
	*v = amountValue(a)
	return err
}

// Type implements pflag.Value.
func (v *amountValue) Type() string { return "credits" }

// String implements pflag.Value.
func (v *amountValue) String() string {
	if *v == 0 {
		return ""
	}
	return ledger.Amount(*v).Text()
}

// A volumeValue is a volume on the command line: 5GiB, or 5GiB:/data.
type volumeValue struct {
	size  uint64
	mount string
}

// usualMount is where a volume is mounted unless told otherwise.
const usualMount = "/workspace"

// Set implements pflag.Value.
func (v *volumeValue) Set(s string) error {
	size, mount, ok := strings.Cut(s, ":")
	n, err := parseBytes(size)
	if err != nil {
		return err
	}
	if !ok {
		mount = usualMount
	}
	if !strings.HasPrefix(mount, "/") {
		return fmt.Errorf("%q is no volume; want one as in 5GiB or 5GiB:/data", s)
	}
	v.size, v.mount = n, mount
	return nil
}

// Type implements pflag.Value.
func (v *volumeValue) Type() string { return "size[:path]" }

// String implements pflag.Value.
func (v *volumeValue) String() string {
	if v.size == 0 {
		return ""
	}
	return showBytes(v.size) + ":" + v.mount
}

// environment joins -e flags and the lines of env files, the files first. NAME alone takes its value from this process.
func environment(flags, files []string) ([]string, error) {
	var out []string
	add := func(s string) error {
		k, v, ok := strings.Cut(s, "=")
		if k == "" || strings.ContainsAny(k, " \t") {
			return usageError("", "environment %q is not KEY=VALUE", s)
		}
		if !ok {
			if v, ok = os.LookupEnv(k); !ok {
				return usageError("", "environment %q: there is no such variable here to take the value from", k)
			}
		}
		out = append(out, k+"="+v)
		return nil
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, usageError("", "%v", err)
		}
		for _, line := range strings.Split(string(b), "\n") {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := add(line); err != nil {
				return nil, err
			}
		}
	}
	for _, s := range flags {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// money is an amount for people.
func money(a ledger.Amount) string { return a.Text() }

// price is a rate for people; none is a dash.
func price(r ledger.Rate) string {
	if r == 0 {
		return "-"
	}
	return r.Text()
}

// share is parts per million as a percentage.
func share(ppm uint32) string { return fmt.Sprintf("%d.%02d%%", ppm/10000, ppm/100%100) }

// ago is how long something is past.
func (e *env) ago(t member.Time) string {
	if t == 0 {
		return "-"
	}
	return e.since(t.Go())
}

func (e *env) since(t time.Time) string {
	if d := e.now().Sub(t); d >= time.Second {
		return showSpan(d)
	}
	return "now"
}

// who is what somebody is called: an alias, else the beginning of the address.
func who(a identity.Address, alias string) string {
	switch {
	case alias != "":
		return alias
	case a.IsZero():
		return "-"
	}
	return a.Short()
}

// model is GPUs for people, marked where they only pretend.
func model(n uint16, name string, simulated bool) string {
	s := name
	if n > 0 {
		s = strconv.Itoa(int(n)) + "×" + name
	}
	if simulated {
		s += " (simulated)"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
