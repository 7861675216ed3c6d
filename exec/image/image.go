// Package image finds, makes and serves container images, without any container engine.
//
// Resolve turns what a user writes (pytorch/pytorch:latest) into a *pinned* reference, REPO@sha256:DIGEST: a lease names
// the digest, so that nobody can swap the image after the price was agreed. Layers says how large its parts are, for
// honest progress. CheckPublic says whether a reference points at the machine itself or at its network, which a host refuses
// unless its owner allows it; with Options.Public no redirect leads there either. Build makes an image out of one program of this machine and the libraries it
// needs; Serve offers images on a loopback registry, from memory. Together they let a demonstration run with no registry,
// no engine and no network.
package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// What can be wrong with a reference. Errors of this package wrap one of them and say what to do.
var (
	ErrBadReference = errors.New("image: bad reference")
	ErrNotFound     = errors.New("image: not found")
	ErrDenied       = errors.New("image: access denied")
	ErrUnreachable  = errors.New("image: registry unreachable")
	ErrPrivate      = errors.New("image: registry on a private address")
)

// Deadlines at the edge.
const (
	resolveTimeout = 30 * time.Second // a registry that takes longer for a manifest is as good as down
	lookupTimeout  = 5 * time.Second
	dialTimeout    = 30 * time.Second
)

// Options of Resolve, Layers and Open. The zero value asks anonymously for linux/amd64.
type Options struct {
	Auth     authn.Authenticator // nil: anonymous
	Platform v1.Platform         // zero: linux/amd64
	Public   bool                // connect to public addresses only, wherever a registry redirects to; through no proxy
}

// A Resolved is an image by its digest.
type Resolved struct {
	Ref  string // REPO@sha256:DIGEST
	Size int64  // bytes to be downloaded: configuration and compressed layers
}

// A Layer is one part of an image.
type Layer struct {
	Digest string // sha256:…
	Size   int64  // bytes, compressed
}

// Parse reads a reference as Docker users write it. A registry on a loopback address is spoken to in plain HTTP.
func Parse(ref string) (name.Reference, error) {
	var opts []name.Option
	if r, err := name.ParseReference(ref); err == nil && loopback(r.Context().RegistryStr()) {
		opts = append(opts, name.Insecure)
	}
	r, err := name.ParseReference(ref, opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: write NAME[:TAG] or REGISTRY/NAME[:TAG], as in pytorch/pytorch:latest: %w", ErrBadReference, ref, err)
	}
	return r, nil
}

// Resolve asks the registry what ref stands for now. The digest is that of the image, or of the index if there are several
// platforms. Size is that of the image for the platform asked for.
func Resolve(ctx context.Context, ref string, o Options) (Resolved, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	r, err := Parse(ref)
	if err != nil {
		return Resolved{}, err
	}
	desc, err := remote.Get(r, o.remote(ctx)...)
	if err != nil {
		return Resolved{}, typed(ref, err)
	}
	img, err := desc.Image()
	if err != nil {
		return Resolved{}, typed(ref, err)
	}
	m, err := img.Manifest()
	if err != nil {
		return Resolved{}, typed(ref, err)
	}
	size := m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return Resolved{Ref: pin(r, desc.Digest), Size: size}, nil
}

// Layers lists the layers of an image, bottom first.
func Layers(ctx context.Context, ref string, o Options) ([]Layer, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	img, err := Open(ctx, ref, o)
	if err != nil {
		return nil, err
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, typed(ref, err)
	}
	var list []Layer
	for _, l := range m.Layers {
		list = append(list, Layer{Digest: l.Digest.String(), Size: l.Size})
	}
	return list, nil
}

// Open gives access to an image in its registry. Everything read from it later uses ctx too, and is checked against
// the digests that ref leads to; use Typed on errors of later reads.
func Open(ctx context.Context, ref string, o Options) (v1.Image, error) {
	r, err := Parse(ref)
	if err != nil {
		return nil, err
	}
	img, err := remote.Image(r, o.remote(ctx)...)
	if err != nil {
		return nil, typed(ref, err)
	}
	return img, nil
}

// Typed wraps an error met while reading an image in the error of this package that it amounts to, if any.
func Typed(ref string, err error) error { return typed(ref, err) }

func (o Options) remote(ctx context.Context) []remote.Option {
	auth, platform, way := o.Auth, o.Platform, remote.DefaultTransport
	if o.Public {
		way = publicTransport()
	}
	if auth == nil {
		auth = authn.Anonymous
	}
	if platform.OS == "" {
		platform = v1.Platform{OS: "linux", Architecture: "amd64"}
	}
	return []remote.Option{remote.WithContext(ctx), remote.WithAuth(auth), remote.WithPlatform(platform), remote.WithTransport(way),
		remote.WithUserAgent("souk"), remote.WithRetryBackoff(remote.Backoff{Duration: 200 * time.Millisecond, Factor: 3, Steps: 3})}
}

// pin writes a reference in the short form that engines take.
func pin(r name.Reference, digest v1.Hash) string { return r.Context().Name() + "@" + digest.String() }

func typed(ref string, err error) error {
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDenied) || errors.Is(err, ErrUnreachable) || errors.Is(err, ErrBadReference) {
		return err
	}
	var refused *transport.Error
	switch {
	case errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: the registry has no %q: check name and tag: %w", ErrNotFound, ref, err)
	case errors.As(err, &refused) && (refused.StatusCode == http.StatusUnauthorized || refused.StatusCode == http.StatusForbidden):
		return fmt.Errorf("%w: %q does not exist or needs a login: only public images can be used: %w", ErrDenied, ref, err)
	case errors.As(err, &refused) && refused.StatusCode < http.StatusInternalServerError && refused.StatusCode != http.StatusTooManyRequests:
		return fmt.Errorf("%w: the registry does not understand %q: %w", ErrBadReference, ref, err)
	case errors.Is(err, ErrPrivate):
		return fmt.Errorf("%w: %q leads there: %w", ErrPrivate, ref, err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("image: %q: %w", ref, err)
	case isPlatform(err):
		return fmt.Errorf("%w: %q has no image for linux/amd64: %w", ErrNotFound, ref, err)
	}
	return fmt.Errorf("%w: %q: try again later, or another registry: %w", ErrUnreachable, ref, err)
}

// isPlatform recognises the one error that go-containerregistry tells by text only.
func isPlatform(err error) bool { return strings.Contains(err.Error(), "no child with platform") }

func loopback(registry string) bool {
	host := hostOf(registry)
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return host == "localhost"
}
