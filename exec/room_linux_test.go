package exec

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestDownloadsLeaveRoomOnTheDisk(t *testing.T) {
	for _, tt := range []struct {
		size, free int64
		ok         bool
	}{
		{1, keepFree + 1, true}, {1, keepFree, false}, {1, 0, false}, {0, keepFree, true},
		{20 << 30, 30 << 30, true}, {20<<30 + 1, 30 << 30, false},
	} {
		err := fits(tt.size, tt.free)
		var fault *Fault
		if refused := errors.As(err, &fault) && fault.Code == CodeDisk; refused == tt.ok {
			t.Errorf("%d bytes with %d free: got %v", tt.size, tt.free, err)
		}
	}
	for size, ok := range map[int64]bool{1: true, maxDownload: true, maxDownload + 1: false} {
		if err := room(size, ""); (err == nil) != ok {
			t.Errorf("%d bytes with nothing known of the disk: got %v", size, err)
		}
	}
	if free, err := freeSpace(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("free space: %d, %v", free, err)
	}
}

// An image says in its manifest how large it is: one that is too large is refused before anything of it is fetched.
func TestImageLargerThanTheCapIsNotPulled(t *testing.T) {
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("0", 64) + `"]}}`
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
		"config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":%d,"digest":"sha256:%x"},
		"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":%d,"digest":"sha256:%064d"}]}`,
		len(config), sha256.Sum256([]byte(config)), int64(maxDownload)+1, 1)
	fetched := make(chan string, 100)
	reg := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
			fmt.Fprint(w, manifest)
		case strings.HasSuffix(r.URL.Path, fmt.Sprintf("%x", sha256.Sum256([]byte(config)))):
			fmt.Fprint(w, config)
		case strings.Contains(r.URL.Path, "/blobs/"):
			fetched <- r.URL.Path
			http.NotFound(w, r)
		}
	}))
	defer reg.Close()
	ref := fmt.Sprintf("%s/big@sha256:%x", reg.Listener.Addr(), sha256.Sum256([]byte(manifest)))
	for name, rt := range pullers(t) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err := rt.Pull(ctx, ref, func(Progress) {})
		cancel()
		var fault *Fault
		if !errors.As(err, &fault) || fault.Code != CodeDisk || !strings.Contains(fault.Reason, "100.0 GiB") || len(fetched) > 0 {
			t.Errorf("%s: got %v after %d layers, want %s with figures after none", name, err, len(fetched), CodeDisk)
		}
	}
}

// A registry inside the host's network is refused without being asked, and only when there is something to ask it for.
func TestPrivateRegistryIsNotAsked(t *testing.T) {
	asked := make(chan string, 100)
	reg := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	defer reg.Close()
	ref := reg.Listener.Addr().String() + "/x@sha256:" + strings.Repeat("0", 64)
	for name, rt := range pullers(t) {
		guard(rt)
		err := rt.Pull(context.Background(), ref, func(Progress) {})
		var fault *Fault
		if !errors.As(err, &fault) || fault.Code != CodeImageDenied || len(asked) > 0 {
			t.Errorf("%s: got %v after %d requests, want %s after none", name, err, len(asked), CodeImageDenied)
		}
	}
}

// A name that cannot be looked up says nothing about where the registry is: it is not refused as a private one.
func TestRegistryThatCannotBeLookedUpIsUnreachable(t *testing.T) {
	ref := "registry.invalid/x@sha256:" + strings.Repeat("0", 64)
	for name, rt := range pullers(t) {
		guard(rt)
		err := rt.Pull(context.Background(), ref, func(Progress) {})
		var fault *Fault
		if !errors.As(err, &fault) || fault.Code != CodeRegistry {
			t.Errorf("%s: got %v, want %s", name, err, CodeRegistry)
		}
	}
}

// pullers are the runtimes of this machine.
func pullers(t *testing.T) map[string]Runtime {
	t.Helper()
	list := map[string]Runtime{}
	if p, err := NewProcess(ProcessOptions{Root: t.TempDir()}); err == nil {
		list["process"] = p
	}
	d, err := NewDocker(DockerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if d.Ping(context.Background()) == nil {
		list["docker"] = d
	}
	if len(list) == 0 {
		t.Skip("this machine has no runtime")
	}
	return list
}

// guard has a runtime take images of public registries only.
func guard(rt Runtime) {
	switch rt := rt.(type) {
	case *Docker:
		rt.opts.Public = true
	case *Process:
		rt.public = true
	}
}
