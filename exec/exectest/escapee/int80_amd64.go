package main

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func int80(nr, a, b uint32) int32

// socketcall asks for a socket as old 32-bit programs do: the arguments are behind a pointer, where no filter can look.
func socketcall(family, kind uint32) error {
	const map32bit = 0x40
	page, _, errno := unix.Syscall6(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|map32bit, ^uintptr(0), 0)
	if errno != 0 {
		return errno
	}
	args := (*[3]uint32)(*(*unsafe.Pointer)(unsafe.Pointer(&page)))
	args[0], args[1], args[2] = family, kind, 0
	// A filter that knows nothing of such calls ends the thread that makes one: somebody else has to tell.
	told := time.AfterFunc(500*time.Millisecond, func() {
		fmt.Println("no the thread was ended")
		os.Exit(1)
	})
	defer told.Stop()
	if r := int80(102, 1, uint32(page)); r < 0 {
		return syscall.Errno(-r)
	}
	return nil
}

// ports asks for the input and output ports of the machine.
func ports() error { return call(unix.SYS_IOPL, 3) }
