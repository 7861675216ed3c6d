package exec_test

import (
	"os"
	"testing"

	"souk/exec"
	"souk/exec/exectest"
)

// The test program is its own shim, as souk is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == exec.ShimCommand {
		os.Exit(exec.Shim(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func openProcess(o exec.ProcessOptions) func(*testing.T) exec.Runtime {
	return func(t *testing.T) exec.Runtime {
		t.Helper()
		o.Root = t.TempDir()
		p, err := exec.NewProcess(o)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

func TestProcess(t *testing.T) { exectest.Suite(t, openProcess(exec.ProcessOptions{})) }

func TestProcessWithoutChroot(t *testing.T) {
	exectest.Suite(t, openProcess(exec.ProcessOptions{NoChroot: true}))
}
