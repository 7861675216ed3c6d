//go:build unix

package exec

import "golang.org/x/sys/unix"

// freeSpace is the bytes that can still be written below a folder.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
