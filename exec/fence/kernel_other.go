//go:build !linux

package fence

import (
	"context"
	"errors"
)

// watch has nothing to listen to: nftables is Linux's.
func watch(ctx context.Context, _ chan<- struct{}) { <-ctx.Done() }

func setLink(string, bool) error { return errors.ErrUnsupported }
