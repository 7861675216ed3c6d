package exec

import (
	"context"

	"github.com/moby/moby/client"
)

// HowToRemove says how a person removes a volume.
func (d *Docker) HowToRemove(volume string) string { return "docker volume rm " + volume }

// Version is the engine's version, for people and for version gates.
func (d *Docker) Version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v, err := d.api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return "", err
	}
	return v.Version, nil
}
