package fence

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// watchAgain is how long watch waits when the kernel does not let it listen: then checkEvery has to do.
const watchAgain = 30 * time.Second

// watch pokes news whenever somebody changes rules, until ctx ends.
func watch(ctx context.Context, news chan<- struct{}) {
	for ctx.Err() == nil {
		listen(ctx, news)
		t := time.NewTimer(watchAgain)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

// listen joins the kernel's group for changes of nftables.
func listen(ctx context.Context, news chan<- struct{}) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}) != nil {
		return
	}
	pipe := make([]int, 2)
	if unix.Pipe2(pipe, unix.O_CLOEXEC) != nil {
		return
	}
	defer unix.Close(pipe[0])
	end := sync.OnceFunc(func() { unix.Close(pipe[1]) }) // which ends the poll
	defer end()
	defer context.AfterFunc(ctx, end)()
	buf := make([]byte, 16<<10)
	for ctx.Err() == nil {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(pipe[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err != nil && err != unix.EINTR {
			return
		}
		if ready[0].Revents == 0 {
			continue
		}
		// What it says does not matter, and neither that it says too much at once (ENOBUFS).
		if _, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); err != nil && err != unix.ENOBUFS && err != unix.EAGAIN && err != unix.EINTR {
			return
		}
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

// setLink switches an interface on or off.
func setLink(name string, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r); err != nil {
		return err
	}
	flags := r.Uint16() &^ unix.IFF_UP
	if on {
		flags |= unix.IFF_UP
	}
	r.SetUint16(flags)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}
