package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"souk/exec/image"
)

// demoImage is the name of the demo's image in its own registry.
const demoImage = "job:1"

// demoRegistryCommand serves one image, made of this very program, on a loopback port. It prints the image's reference and
// ends when it is told to.
func demoRegistryCommand() *cobra.Command {
	return &cobra.Command{
		Use: "demo-registry", Hidden: true, Short: "The registry of the demo", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			reg, err := serveDemoImage(c.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), reg.Addr()+"/"+demoImage)
			reg.Wait()
			return nil
		},
	}
}

// serveDemoImage makes the image and serves it until ctx ends. It holds this program, with the libraries that it needs, and
// runs 'souk demo-pod'.
func serveDemoImage(ctx context.Context) (*image.Registry, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return serveImageOf(ctx, self)
}

func serveImageOf(ctx context.Context, binary string) (*image.Registry, error) {
	img, err := image.Build(image.Recipe{
		Binary: binary, Path: "/bin/souk", Entrypoint: []string{"/bin/souk", "demo-pod"}, Folders: []string{"/workspace"},
	})
	if err != nil {
		return nil, err
	}
	reg, err := image.Serve(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, err = reg.Push(ctx, img, demoImage)
	return reg, err
}
