package exec_test

import (
	"context"
	"os"
	"testing"
	"time"

	"souk/exec"
	"souk/exec/exectest"
)

// openDocker fails the test where no engine answers, unless the tester said that there is none.
func openDocker(t *testing.T) exec.Runtime {
	t.Helper()
	if os.Getenv("SOUK_TEST_NO_DOCKER") == "1" {
		t.Skip("SOUK_TEST_NO_DOCKER=1")
	}
	d, err := exec.NewDocker(exec.DockerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := d.Ping(ctx); err != nil {
		t.Fatalf("%v (start an engine, or set SOUK_TEST_NO_DOCKER=1 to go without these tests)", err)
	}
	return d
}

func TestDocker(t *testing.T) { exectest.Suite(t, openDocker) }
