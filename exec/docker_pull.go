package exec

import (
	"context"
	"errors"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"

	"souk/exec/image"
)

// Pull lets the engine pull, unless it has the image already. The sizes come from the registry's manifest: the engine names
// layers only as it comes to them, and says nothing of those that it has.
func (d *Docker) Pull(ctx context.Context, ref string, progress func(Progress)) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	found, err := d.api.ImageInspect(call, ref)
	cancel()
	if err == nil {
		size := max(found.Size, 1)
		progress(Progress{Done: size, Total: size})
		return nil
	}
	if !errdefs.IsNotFound(err) {
		return d.fault(err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	layers, err := d.layers(ctx, ref)
	if err != nil {
		return err
	}
	bar := newBar(layers)
	if err := room(bar.progress().Total, d.imageDir(ctx)); err != nil {
		return err
	}
	progress(bar.progress())
	resp, err := d.api.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err != nil {
		return d.pullFault(ref, err)
	}
	defer resp.Close()
	for m, err := range resp.JSONMessages(ctx) {
		switch {
		case err != nil:
			return d.pullFault(ref, err)
		case m.Error != nil:
			return d.pullFault(ref, m.Error)
		}
		if bar.line(m) {
			progress(bar.progress())
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	progress(bar.done())
	return nil
}

// layers asks the registry for the image's parts. None, without an error, means that only the engine can tell.
func (d *Docker) layers(ctx context.Context, ref string) ([]image.Layer, error) {
	if d.opts.Public {
		if err := image.CheckPublic(ctx, ref); err != nil {
			return nil, imageFault(ref, err)
		}
	}
	layers, err := image.Layers(ctx, ref, image.Options{Public: d.opts.Public})
	switch {
	case errors.Is(err, image.ErrUnreachable):
		return nil, nil // the engine may have a mirror or a proxy that we do not know of
	case err != nil:
		return nil, imageFault(ref, err)
	}
	return layers, nil
}

// imageDir is the folder of the engine's images, or empty if the engine does not say, or is not on this machine.
func (d *Docker) imageDir(ctx context.Context) string {
	d.mu.Lock()
	root := d.root
	d.mu.Unlock()
	if root != "" || !strings.HasPrefix(d.api.DaemonHost(), "unix://") {
		return root
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	res, err := d.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return "" // the pull itself will say what is wrong
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.root = res.Info.DockerRootDir
	return d.root
}

// Forget removes an image that Pull brought. One that is not there, or that a container still needs, is no error.
func (d *Docker) Forget(ctx context.Context, ref string) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	_, err := d.api.ImageRemove(ctx, ref, client.ImageRemoveOptions{PruneChildren: true})
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return d.fault(err)
}

// pullFault sorts what the engine says when a pull fails. Some of it comes as text only, as the registry's answer is quoted.
func (d *Docker) pullFault(ref string, err error) error {
	text := err.Error()
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.Is(err, context.Canceled), client.IsErrConnectionFailed(err):
		return d.fault(err)
	case has("no space left on device"):
		return d.fault(err)
	case has("pull access denied", "unauthorized", "denied:", "authentication required"):
		return &Fault{Code: CodeImageDenied, Reason: "the registry does not give " + ref + " to everyone: only public images can be used", Err: err}
	case errdefs.IsNotFound(err), has("manifest unknown", "not found", "no matching manifest"):
		return &Fault{Code: CodeImageNotFound, Reason: "the registry has no " + ref, Err: err}
	}
	return &Fault{Code: CodeRegistry, Reason: "the image could not be pulled: " + engineText(err), Err: err}
}

// imageFault is the Fault for an error of package image.
func imageFault(ref string, err error) error {
	switch {
	case errors.Is(err, image.ErrNotFound):
		return &Fault{Code: CodeImageNotFound, Reason: "the registry has no " + ref, Err: err}
	case errors.Is(err, image.ErrDenied):
		return &Fault{Code: CodeImageDenied, Reason: "the registry does not give " + ref + " to everyone: only public images can be used", Err: err}
	case errors.Is(err, image.ErrBadReference):
		return &Fault{Code: CodeBadPod, Reason: "bad image reference " + ref, Err: err}
	case errors.Is(err, image.ErrPrivate):
		return &Fault{Code: CodeImageDenied, Reason: "this host takes no images of registries on private addresses (its owner can allow them: souk join --allow-private-registries)", Err: err}
	case errors.Is(err, image.ErrUnreachable):
		return &Fault{Code: CodeRegistry, Reason: "the registry of " + ref + " does not answer", Err: err}
	}
	return err
}

// A bar adds up a pull.
type bar struct {
	layers []Layer
	index  map[string]int // by short id
	known  bool           // layers are those of the manifest, so the total is right from the start
}

func newBar(layers []image.Layer) *bar {
	b := &bar{index: map[string]int{}, known: len(layers) > 0}
	for _, l := range layers {
		b.layer(shortID(l.Digest)).Total += l.Size
	}
	return b
}

func (b *bar) layer(id string) *Layer {
	i, ok := b.index[id]
	if !ok {
		i = len(b.layers)
		b.index[id] = i
		b.layers = append(b.layers, Layer{ID: id})
	}
	return &b.layers[i]
}

// line takes in one line of the engine, and says whether anything moved.
func (b *bar) line(m jsonstream.Message) bool {
	if _, ok := b.index[m.ID]; b.known && !ok || m.ID == "" || strings.Contains(m.ID, ":") {
		return false // of no layer: a tag or a digest
	}
	switch m.Status {
	case "Downloading":
		if m.Progress == nil || m.Progress.Current <= 0 {
			return false
		}
		l := b.layer(m.ID)
		if !b.known {
			l.Total = max(l.Total, m.Progress.Total)
		}
		l.Done = max(l.Done, min(m.Progress.Current, max(l.Total, m.Progress.Current)))
		return true
	case "Download complete", "Pull complete", "Already exists":
		l := b.layer(m.ID)
		moved := l.Done != l.Total
		l.Done = l.Total
		return moved
	}
	return false
}

func (b *bar) progress() Progress {
	var p Progress
	for _, l := range b.layers {
		l.Done = min(l.Done, l.Total)
		p.Layers = append(p.Layers, l)
		p.Done += l.Done
		p.Total += l.Total
	}
	if !b.known {
		p.Total = 0
	}
	return p
}

// done is the whole image, whatever lines the engine left out.
func (b *bar) done() Progress {
	for i := range b.layers {
		b.layers[i].Done = b.layers[i].Total
	}
	p := b.progress()
	p.Total = p.Done
	return p
}

func shortID(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		hex = digest
	}
	return hex[:min(12, len(hex))]
}

var _ Runtime = (*Docker)(nil)
