package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync makes the file's content durable, and of its metadata only what reading it back needs.
func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}
