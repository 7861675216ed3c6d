package exec

import (
	"encoding/json"
	"slices"
	"sync"

	"github.com/moby/profiles/seccomp"
	"golang.org/x/sys/unix"
)

// seccompProfile is Docker's newest default, whatever the engine's own is, and without socketcall: through it, 32-bit code can
// have every kind of socket that the profile refuses.
var seccompProfile = sync.OnceValues(func() (string, error) {
	p := seccomp.DefaultProfile()
	for _, s := range p.Syscalls {
		s.Names = slices.DeleteFunc(s.Names, func(name string) bool { return name == "socketcall" })
	}
	b, err := json.Marshal(p)
	return string(b), err
})

// openFiles is 0, what the plan says, where root may raise limits; else what this process may have, as the engine most likely
// lacks the right too.
func openFiles() int64 {
	var l unix.Rlimit
	if capable(unix.CAP_SYS_RESOURCE) || unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int64(min(l.Max, 65536))
}
