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

// clearEngine removes the pods, networks and volumes that a node has left on an engine, and their firewall. The node must be down, or it would make them
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
	self := key.Address().String()
	have, err := rt.List(ctx, self, "")
	if err != nil {
		return err
	}
	var failed []error
	for _, object := range []plan.Object{plan.Container, plan.Volume, plan.Network} {
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
	if d, ok := rt.(*exec.Docker); ok {
		failed = append(failed, d.Unfence(ctx, self))
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
