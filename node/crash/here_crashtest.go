//go:build crashtest

package crash

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A target is the point to die at, and how many passings are left until then.
type target struct {
	name string
	left atomic.Int64
}

var chosen = sync.OnceValue(func() *target {
	name, nth, counted := strings.Cut(os.Getenv("SOUK_CRASH"), ":")
	t := &target{name: name}
	t.left.Store(1)
	if counted {
		n, err := strconv.ParseInt(nth, 10, 64)
		if err != nil || n < 1 {
			panic(fmt.Sprintf("crash: SOUK_CRASH counts passings from 1, got %q", nth))
		}
		t.left.Store(n)
	}
	return t
})

// Here marks a crash point: the process dies by SIGKILL when this is the passing that SOUK_CRASH names.
func Here(name string) {
	t := chosen()
	if t.name != name || t.left.Add(-1) != 0 {
		return
	}
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic(fmt.Sprintf("crash: cannot kill this process: %v", err))
	}
	select {} // the signal may take a moment; nothing after this point may run
}
