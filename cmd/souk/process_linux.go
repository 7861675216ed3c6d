package main

import (
	"context"
	"errors"
	osexec "os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// detach lets a process outlive this one and its terminal.
func detach(c *osexec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// awaitEnd waits until a process has ended: the kernel tells, through a handle of it.
func awaitEnd(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil
	case err != nil:
		return pollEnd(ctx, pid) // Linux before 5.3
	}
	defer unix.Close(fd)
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Second/time.Millisecond))
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return ctx.Err()
}
