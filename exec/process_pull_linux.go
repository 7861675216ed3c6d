package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"golang.org/x/sys/unix"

	"souk/exec/image"
	"souk/exec/unpack"
)

// maxUnpacked bounds what a plain-process pod's image may unfold to on the host's disk. Sparse files and compression let a
// small download ask for any size.
const maxUnpacked = 64 << 30

func (p *Process) imageFile(ref, suffix string) string {
	_, digest, _ := strings.Cut(ref, "@sha256:")
	return filepath.Join(p.root, "images", filepath.Base(digest)+suffix)
}

// Pull downloads an image and keeps it as one flat archive, its layers merged. The digests of manifest and layers are
// checked on the way. The configuration is written last, so an image with a configuration is complete.
func (p *Process) Pull(ctx context.Context, ref string, progress func(Progress)) error {
	if info, err := os.Stat(p.imageFile(ref, ".json")); err == nil {
		size := max(info.Size(), 1)
		progress(Progress{Done: size, Total: size})
		return nil
	}
	if p.public {
		if err := image.CheckPublic(ctx, ref); err != nil {
			return pullFault(ref, err)
		}
	}
	img, err := image.Open(ctx, ref, image.Options{Public: p.public})
	if err != nil {
		return pullFault(ref, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return pullFault(ref, err)
	}
	counted, bar, err := countLayers(img, progress)
	if err != nil {
		return pullFault(ref, err)
	}
	if err := room(bar.now.Total, p.root); err != nil {
		return err
	}
	if err := p.saveImage(ref, counted); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return pullFault(ref, err)
	}
	if err := writeJSON(p.imageFile(ref, ".json"), config.Config); err != nil {
		return diskFault(err)
	}
	bar.finish()
	return nil
}

func (p *Process) saveImage(ref string, img v1.Image) error {
	tmp, err := os.CreateTemp(filepath.Join(p.root, "tmp"), "image-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	stream := mutate.Extract(img)
	defer stream.Close()
	n, err := io.Copy(tmp, io.LimitReader(stream, maxUnpacked+1))
	switch {
	case err != nil:
		return err
	case n > maxUnpacked:
		return &Fault{Code: CodeBadImage, Reason: fmt.Sprintf("the image unfolds to more than %d GiB", maxUnpacked>>30)}
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), p.imageFile(ref, ".tar"))
}

func pullFault(ref string, err error) error {
	var local *fs.PathError
	var known *Fault
	switch {
	case errors.Is(err, context.Canceled), errors.As(err, &known):
		return err
	case errors.As(err, &local):
		return diskFault(err)
	}
	return imageFault(ref, image.Typed(ref, err))
}

func (p *Process) imageConfig(ref string) (c v1.Config, err error) {
	if err := readJSON(p.imageFile(ref, ".json"), &c); err != nil {
		return c, &Fault{Code: CodeImageNotFound, Reason: "the image " + ref + " is not here any more", Err: err}
	}
	return c, nil
}

func (p *Process) unpackImage(ctx context.Context, ref, dir string) error {
	f, err := os.Open(p.imageFile(ref, ".tar"))
	if err != nil {
		return &Fault{Code: CodeImageNotFound, Reason: "the image " + ref + " is not here any more", Err: err}
	}
	defer f.Close()
	err = unpack.Tar(dir, contextReader{ctx, f}, maxUnpacked, p.owner)
	switch {
	case err == nil, ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, unix.ENOSPC):
		return err
	}
	return &Fault{Code: CodeBadImage, Reason: "the image cannot be unpacked", Err: err}
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// A pullBar counts the bytes of layers as they are read.
type pullBar struct {
	mu       sync.Mutex
	now      Progress
	progress func(Progress)
}

func (b *pullBar) add(layer int, n int64) {
	b.mu.Lock()
	l := &b.now.Layers[layer]
	n = min(n, l.Total-l.Done)
	l.Done += n
	b.now.Done += n
	now := b.now
	now.Layers = append([]Layer(nil), b.now.Layers...)
	b.mu.Unlock()
	b.progress(now)
}

func (b *pullBar) finish() {
	for i, l := range b.now.Layers {
		if i == len(b.now.Layers)-1 || l.Done < l.Total {
			b.add(i, l.Total-l.Done)
		}
	}
}

// countLayers is img with layers that count what is read of them.
func countLayers(img v1.Image, progress func(Progress)) (v1.Image, *pullBar, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, nil, err
	}
	bar := &pullBar{progress: progress}
	counted := make([]v1.Layer, len(layers))
	for i, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return nil, nil, err
		}
		size, err := l.Size()
		if err != nil {
			return nil, nil, err
		}
		bar.now.Layers = append(bar.now.Layers, Layer{ID: shortID(digest.String()), Total: size})
		bar.now.Total += size
		if counted[i], err = partial.CompressedToLayer(countedLayer{l, bar, i}); err != nil {
			return nil, nil, fmt.Errorf("layer %s: %w", digest, err)
		}
	}
	merged, err := mutate.AppendLayers(empty.Image, counted...)
	return merged, bar, err
}

type countedLayer struct {
	v1.Layer
	bar   *pullBar
	index int
}

// Compressed counts what is read.
func (l countedLayer) Compressed() (io.ReadCloser, error) {
	r, err := l.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	return &countedReader{r, l}, nil
}

type countedReader struct {
	io.ReadCloser
	l countedLayer
}

func (r *countedReader) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	if n > 0 {
		r.l.bar.add(r.l.index, int64(n))
	}
	return n, err
}
