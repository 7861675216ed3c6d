//go:build !crashtest

package crash

// Here marks a crash point. In this build it does nothing.
func Here(string) {}
