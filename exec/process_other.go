//go:build !linux

package exec

import "fmt"

// ShimCommand is the hidden command of the node's program that runs Shim.
const ShimCommand = "pod-shim"

// ProcessOptions say how plain processes run.
type ProcessOptions struct {
	Root     string
	NoChroot bool
	Public   bool
}

// NewProcess is for Linux only.
func NewProcess(ProcessOptions) (Runtime, error) {
	return nil, &Fault{Code: CodeNotImplemented, Reason: "plain-process pods need Linux: use Docker"}
}

// Shim is for Linux only.
func Shim([]string) int {
	fmt.Println("souk " + ShimCommand + ": needs Linux")
	return 2
}
