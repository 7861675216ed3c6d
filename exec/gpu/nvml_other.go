//go:build !linux || !cgo

package gpu

import (
	"context"
	"fmt"
)

type noNVML struct{}

// NVML is the inventory of the machine's NVIDIA GPUs; in this build it only says that it cannot look.
func NVML() Inventory { return noNVML{} }

func (noNVML) Devices(context.Context) ([]Device, error) {
	return nil, fmt.Errorf("%w: this build cannot host real GPUs: build souk on Linux with cgo (CGO_ENABLED=1 and a C compiler)", ErrUnavailable)
}
