//go:build unix && !linux

package main

import (
	"context"
	osexec "os/exec"
	"syscall"
)

// detach lets a process outlive this one and its terminal.
func detach(c *osexec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// awaitEnd waits until a process has ended.
func awaitEnd(ctx context.Context, pid int) error { return pollEnd(ctx, pid) }
