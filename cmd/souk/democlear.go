package main

import (
	"context"
	"errors"

	"souk/exec"
	"souk/exec/image"
	"souk/exec/plan"
	"souk/node/config"
	"souk/node/keys"
)

// clearEngine removes the pods and volumes that a node has left on an engine. The node must be down, or it would make them
// again.
func clearEngine(ctx context.Context, rt exec.Runtime, home string) error {
	cfg, err := config.Load(home)
	if err != nil {
		return err
	}
	key, err := keys.Open(cfg.Keystore(), nil)
	if err != nil {
		return err
	}
	have, err := rt.List(ctx, key.Address().String(), "")
	if err != nil {
		return err
	}
	var failed []error
	for _, object := range []plan.Object{plan.Container, plan.Volume} {
		for _, h := range have {
			if h.Object != object {
				continue
			}
			if object == plan.Container {
				failed = append(failed, rt.Signal(ctx, h.ID, true))
			}
			failed = append(failed, rt.Remove(ctx, h))
		}
	}
	return errors.Join(failed...)
}

// forgetImage takes an image off the Docker engine. Its registry must still be there, to say which one it is.
func forgetImage(ctx context.Context, d *exec.Docker, ref string) error {
	r, err := image.Resolve(ctx, ref, image.Options{})
	if err != nil {
		return err
	}
	return d.Forget(ctx, r.Ref)
}
