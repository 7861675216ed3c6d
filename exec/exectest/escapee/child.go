//go:build linux

package main

import (
	"context"
	"os/exec"
	"syscall"
	"time"
)

// child runs this program again.
func child(limit time.Duration, as *syscall.Credential, args ...string) (string, error) {
	return program(limit, "/proc/self/exe", as, args...)
}

func program(limit time.Duration, path string, as *syscall.Credential, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, path, args...)
	if as != nil {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	out, err := c.CombinedOutput()
	return string(out), err
}
