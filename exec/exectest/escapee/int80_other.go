//go:build linux && !amd64

package main

import "syscall"

func socketcall(uint32, uint32) error { return syscall.ENOSYS }

func ports() error { return syscall.ENOSYS }
