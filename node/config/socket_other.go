//go:build !unix

package config

import (
	"os"
	"path/filepath"
)

// socketDir is a folder of short name for the sockets of this user, in whose own folder of temporary files it is.
func socketDir() string { return filepath.Join(os.TempDir(), "souk") }
