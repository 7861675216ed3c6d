package image

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

const (
	headerTimeout   = 10 * time.Second // a client that is slower to ask is no engine
	shutdownTimeout = 2 * time.Second  // pulls under way may end; a pod's start is retried anyway
)

// A Registry serves images out of memory, on one address, until its context ends.
type Registry struct {
	addr string
	done chan struct{}
}

// Serve starts a registry at addr, normally 127.0.0.1:0: Docker speaks plain HTTP to 127.0.0.0/8 without being told, and
// to no other address.
func Serve(ctx context.Context, addr string) (*Registry, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("image: registry at %q: %w", addr, err)
	}
	srv := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), ReadHeaderTimeout: headerTimeout}
	r := &Registry{addr: l.Addr().String(), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		stop := context.AfterFunc(ctx, func() {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
			defer cancel()
			if srv.Shutdown(last) != nil {
				srv.Close()
			}
		})
		defer stop()
		srv.Serve(l)
	}()
	return r, nil
}

// Addr is the registry's host:port.
func (r *Registry) Addr() string { return r.addr }

// Wait returns when the registry, whose context has ended, has stopped listening.
func (r *Registry) Wait() { <-r.done }

// Push stores img as tag, name[:tag], and returns its pinned reference.
func (r *Registry) Push(ctx context.Context, img v1.Image, tag string) (string, error) {
	ref, err := name.ParseReference(r.addr+"/"+tag, name.Insecure)
	if err != nil {
		return "", fmt.Errorf("%w: %q: %w", ErrBadReference, tag, err)
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	if err := remote.Write(ref, img, remote.WithContext(ctx)); err != nil {
		return "", typed(ref.String(), err)
	}
	digest, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("image: push %q: %w", tag, err)
	}
	return pin(ref, digest), nil
}
