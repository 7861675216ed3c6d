//go:build unix

package config

import (
	"os"
	"strconv"
)

// socketDir is a folder of short name for the sockets of this user. It does not depend on TMPDIR or XDG_RUNTIME_DIR, which
// differ between a login, a service and cron.
func socketDir() string { return "/tmp/souk-" + strconv.Itoa(os.Geteuid()) }
