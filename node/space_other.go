//go:build !unix

package node

import "errors"

// freeSpace is not told on this system.
func freeSpace(string) (uint64, error) {
	return 0, errors.New("node: free space is not known on this system")
}
