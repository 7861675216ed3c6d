package exec

import (
	"encoding/json"
	"sync"

	"github.com/moby/profiles/seccomp"
	"golang.org/x/sys/unix"
)

// seccompProfile is Docker's newest default, whatever the engine's own is, for the machine's own kind of code only. By the calls
// of 32-bit code a pod could have every kind of socket that the profile refuses: their arguments lie where no filter can
// look (socketcall), and libseccomp lets them in for the sake of the calls that are allowed.
var seccompProfile = sync.OnceValues(func() (string, error) {
	p := seccomp.DefaultProfile()
	for i := range p.ArchMap {
		p.ArchMap[i].SubArches = nil
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
