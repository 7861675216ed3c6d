//go:build unix

package node

import "golang.org/x/sys/unix"

// freeSpace is the bytes that can still be written below a folder.
func freeSpace(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}
