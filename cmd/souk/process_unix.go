//go:build unix

package main

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// pollEnd looks again and again whether a process has ended, where the system cannot tell.
func pollEnd(ctx context.Context, pid int) error {
	for !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
