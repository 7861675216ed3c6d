package main

import (
	"context"
	"os"
	osexec "os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// detach lets a process outlive this one and its console.
func detach(c *osexec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
}

// awaitEnd waits until a process has ended.
func awaitEnd(ctx context.Context, pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil // there is none
	}
	done := make(chan struct{})
	go func() { p.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
