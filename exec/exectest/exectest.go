// Package exectest is the suite that every exec.Runtime passes, through a Supervisor as the node uses it. Its images are
// made in memory from the testpod program beside it and served from a loopback registry, so it needs no network. The
// package exec itself runs it for Docker and for Process; other packages can use its Bench to have pods in their tests.
package exectest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"souk/exec"
	"souk/exec/image"
	"souk/exec/plan"
)

// patience bounds every wait: an engine on a busy machine of two cores needs seconds, not this.
const patience = 30 * time.Second

// A Bench is a runtime, a home of its own on it, a supervisor, and a registry with the test pod's image.
type Bench struct {
	T     *testing.T
	RT    exec.Runtime
	Home  string
	Image string // the test pod, pinned
	Reg   *image.Registry
	*Watcher

	mu     sync.Mutex
	images []string // pushed
}

// A Watcher is one supervisor and the events it has told.
type Watcher struct {
	Sup  *exec.Supervisor
	stop func()

	mu     sync.Mutex
	events []exec.Event
	news   chan struct{} // closed and replaced at each event
}

// New makes a bench; at the test's end everything of its home is removed from the runtime.
func New(t *testing.T, rt exec.Runtime) *Bench {
	t.Helper()
	b := &Bench{T: t, RT: rt, Home: "test-" + NewLease()[:12]}
	ctx, cancel := context.WithCancel(context.Background())
	reg, err := image.Serve(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.Reg = reg
	b.Image = b.PushImage(standard(t))
	b.Watcher = b.Watch()
	t.Cleanup(func() {
		b.Stop()
		b.clear()
		cancel()
		reg.Wait()
	})
	return b
}

// Push builds an image of this bench and returns its pinned reference.
func (b *Bench) Push(r image.Recipe) string {
	b.T.Helper()
	img, err := image.Build(r)
	if err != nil {
		b.T.Fatal(err)
	}
	return b.PushImage(img)
}

// PushImage is Push of an image that is made already.
func (b *Bench) PushImage(img v1.Image) string {
	b.T.Helper()
	// A name of its own keeps the image apart from those of other runs of the suite.
	ref, err := b.Reg.Push(context.Background(), img, b.Home+"/testpod:"+NewLease()[:8])
	if err != nil {
		b.T.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.images = append(b.images, ref)
	return ref
}

// Watch starts a supervisor on the bench's home, as a restarted node would.
func (b *Bench) Watch() *Watcher {
	w := &Watcher{news: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(testWriter{b.T}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w.Sup = exec.NewSupervisor(b.RT, b.Home, w.add, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Sup.Run(ctx) }()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	return w
}

// Stop ends the supervisor, and leaves the pods.
func (w *Watcher) Stop() { w.stop() }

func (w *Watcher) add(e exec.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	close(w.news)
	w.news = make(chan struct{})
}

// Events is what was told so far about a lease.
func (w *Watcher) Events(lease string) []exec.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []exec.Event
	for _, e := range w.events {
		if e.Lease == lease {
			list = append(list, e)
		}
	}
	return list
}

// Await waits for an event of one of these kinds about a run; start 0 is any run.
func (w *Watcher) Await(t *testing.T, lease string, start uint32, kinds ...exec.Kind) exec.Event {
	t.Helper()
	return w.AwaitSince(t, time.Time{}, lease, start, kinds...)
}

// AwaitSince is Await for an event that tells of a time after since.
func (w *Watcher) AwaitSince(t *testing.T, since time.Time, lease string, start uint32, kinds ...exec.Kind) exec.Event {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		w.mu.Lock()
		news := w.news
		i := slices.IndexFunc(w.events, func(e exec.Event) bool {
			return e.Lease == lease && (start == 0 || e.Start == start) && slices.Contains(kinds, e.Kind) && e.At.After(since)
		})
		failed := i < 0 && start != 0 && slices.ContainsFunc(w.events, func(e exec.Event) bool {
			return e.Lease == lease && e.Start == start && e.Kind == exec.Failed
		})
		var found exec.Event
		if i >= 0 {
			found = w.events[i]
		}
		w.mu.Unlock()
		switch {
		case i >= 0:
			return found
		case failed:
			t.Fatalf("lease %.8s start %d: waiting for %v; got %s", lease, start, kinds, Format(w.Events(lease)))
		}
		select {
		case <-news:
		case <-deadline.C:
			t.Fatalf("lease %.8s start %d: no event %v within %s; got %s", lease, start, kinds, patience, Format(w.Events(lease)))
		}
	}
}

// Format shows events in one line.
func Format(events []exec.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "[%s %d code=%s exit=%d sig=%v %q]", e.Kind, e.Start, e.Code, e.ExitCode, e.Signalled, e.Reason)
	}
	return b.String()
}

// Pod is a pod of the test image with a lease of its own.
func (b *Bench) Pod(command ...string) plan.Pod {
	return plan.Pod{Lease: NewLease(), Market: "00112233445566ff", Image: b.Image, Command: command, Grace: 5 * time.Second}
}

// Run is the want that a pod runs.
func Run(p plan.Pod, start uint32) []plan.Want {
	return []plan.Want{{Pod: p, Phase: plan.Run, Start: start, Grace: p.Grace}}
}

// Stop is the want that a pod stops.
func Stop(p plan.Pod, start uint32, grace time.Duration) []plan.Want {
	return []plan.Want{{Pod: p, Phase: plan.Stop, Start: start, Grace: grace}}
}

// Remove is the want that nothing is left of a pod.
func Remove(p plan.Pod, start uint32) []plan.Want {
	return []plan.Want{{Pod: p, Phase: plan.Remove, Start: start}}
}

// Output is what a run has written so far.
func (w *Watcher) Output(t *testing.T, p plan.Pod, start uint32, tail int) (stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, err bytes.Buffer
	if e := w.Sup.Logs(ctx, p.Lease, start, false, tail, &out, &err); e != nil {
		t.Fatalf("logs of start %d: %v", start, e)
	}
	return out.String(), err.String()
}

// AwaitOutput follows a run's output until it contains text.
func (w *Watcher) AwaitOutput(t *testing.T, p plan.Pod, start uint32, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seen := &finder{want: text, found: cancel}
	err := w.Sup.Logs(ctx, p.Lease, start, true, 0, seen, io.Discard)
	if !seen.has() {
		t.Fatalf("start %d: output ended without %q (%v): %q", start, text, err, seen.buf.String())
	}
}

type finder struct {
	want  string
	found func()
	mu    sync.Mutex
	buf   bytes.Buffer
}

func (f *finder) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.buf.Write(p)
	if strings.Contains(f.buf.String(), f.want) {
		f.found()
	}
	return len(p), nil
}

func (f *finder) has() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Contains(f.buf.String(), f.want)
}

// Have lists the containers and volumes that the runtime has of this bench.
func (b *Bench) Have(lease string) []plan.Have {
	b.T.Helper()
	return slices.DeleteFunc(b.All(lease), func(h plan.Have) bool { return h.Object == plan.Network })
}

// All lists what the runtime has of this bench.
func (b *Bench) All(lease string) []plan.Have {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	have, err := b.RT.List(ctx, b.Home, lease)
	if err != nil {
		b.T.Fatal(err)
	}
	return have
}

// clear removes everything of this home, by way of the runtime only.
func (b *Bench) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	have, err := b.RT.List(ctx, b.Home, "")
	if err != nil {
		b.T.Errorf("clear: %v", err)
		return
	}
	slices.SortFunc(have, func(a, c plan.Have) int { return int(a.Object) - int(c.Object) })
	for _, h := range have {
		if h.Object == plan.Container {
			b.RT.Signal(ctx, h.ID, true)
		}
		if err := b.RT.Remove(ctx, h); err != nil {
			b.T.Errorf("clear: %v", err)
		}
	}
	engine, ok := b.RT.(interface {
		Forget(ctx context.Context, ref string) error
		Unfence(ctx context.Context, home string) error
	})
	if !ok {
		return // its images go with its folder, and it has no firewall
	}
	if err := engine.Unfence(ctx, b.Home); err != nil {
		b.T.Errorf("clear: %v", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ref := range b.images {
		if err := engine.Forget(ctx, ref); err != nil {
			b.T.Errorf("clear: %v", err)
		}
	}
}

// NewLease draws a lease id.
func NewLease() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// testpod is the program of most pods.
func testpod(t *testing.T) string { return Program(t, "testpod") }

var programs struct {
	sync.Mutex
	paths map[string]string
}

// Program builds one of the programs below this package, once, without cgo, so that it is small and stands alone.
func Program(t *testing.T, name string) string {
	t.Helper()
	p := &programs
	p.Lock()
	defer p.Unlock()
	if at := p.paths[name]; at != "" {
		return at
	}
	dir, err := os.MkdirTemp("", "souk-testpod")
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, name)
	c := osexec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", at, "souk/exec/exectest/"+name)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", name, err, out)
	}
	if p.paths == nil {
		p.paths = map[string]string{}
	}
	p.paths[name] = at
	return at
}

var standardOnce struct {
	sync.Once
	img v1.Image
	err error
}

// standard is the image that most pods run, built and compressed once.
func standard(t *testing.T) v1.Image {
	t.Helper()
	binary, o := testpod(t), &standardOnce
	o.Do(func() {
		o.img, o.err = image.Build(image.Recipe{Binary: binary, Path: "/bin/testpod", Cmd: []string{"echo", "image", "default"}})
	})
	if o.err != nil {
		t.Fatal(o.err)
	}
	return o.img
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// AwaitEngine waits for EngineDown or EngineUp.
func (w *Watcher) AwaitEngine(t *testing.T, kind exec.Kind) {
	t.Helper()
	w.Await(t, "", 0, kind)
}
