//go:build linux

// Package alone runs a test in a network namespace of its own, as root: with nobody else's interfaces, routes and rules.
package alone

import (
	"os"
	osexec "os/exec"
	"strings"
	"syscall"
	"testing"
)

const mark = "SOUK_TEST_ALONE"

// Here is true inside. Outside it runs the test again, inside, and is false when that has passed.
func Here(t *testing.T) bool {
	t.Helper()
	switch {
	case os.Getenv(mark) == t.Name():
		IP(t, "link", "set", "lo", "up")
		return true
	case os.Getenv("SOUK_TEST_NO_DOCKER") == "1":
		t.Skip("SOUK_TEST_NO_DOCKER=1")
	case os.Geteuid() != 0:
		t.Fatal("a network namespace takes root (or set SOUK_TEST_NO_DOCKER=1 to go without these tests)")
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.count=1"}
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(a, "-test.run") && !strings.HasPrefix(a, "-test.count") && !strings.HasPrefix(a, "-test.coverprofile") &&
			!strings.HasPrefix(a, "-test.testlogfile") && !strings.HasPrefix(a, "-test.paniconexit0") {
			args = append(args, a)
		}
	}
	c := osexec.CommandContext(t.Context(), os.Args[0], args...)
	c.Env = append(os.Environ(), mark+"="+t.Name())
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("inside: %v", err)
	}
	return false
}

// IP runs ip.
func IP(t *testing.T, args ...string) { t.Helper(); Run(t, "ip", args...) }

// Run runs a program, which has to do well, and gives its output.
func Run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := osexec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
