package gate

import (
	"strconv"
	"strings"
)

// AtLeast compares a version with the least good ones, one for each branch (the first two numbers) that is still mended, the
// oldest first. A branch newer than all of them is good; one that is not among them is not. What is no version is not.
func AtLeast(version string, least []string) bool {
	v, ok := parse(version)
	if !ok {
		return false
	}
	for i, s := range least {
		l, _ := parse(s)
		last := i == len(least)-1
		switch {
		case v[0] == l[0] && v[1] == l[1]:
			return v[2] >= l[2]
		case last:
			return v[0] > l[0] || v[0] == l[0] && v[1] > l[1]
		}
	}
	return false
}

// parse reads the first three numbers of v1.2.3-more; missing ones are 0.
func parse(s string) (v [3]int, ok bool) {
	s = strings.TrimPrefix(strings.TrimSpace(s), "v")
	if i := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		s = s[:i]
	}
	for i, part := range strings.SplitN(s, ".", 4) {
		if i == len(v) {
			break
		}
		n, err := strconv.Atoi(part)
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}
