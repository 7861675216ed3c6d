package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func serve(t *testing.T) *Registry {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := Serve(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); r.Wait() })
	return r
}

func TestResolvePinsAnImage(t *testing.T) {
	ctx, reg := context.Background(), serve(t)
	img, err := random.Image(1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := reg.Push(ctx, img, "team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := img.Manifest()
	size := m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	for _, ref := range []string{reg.Addr() + "/team/app:v1", pinned} {
		got, err := Resolve(ctx, ref, Options{})
		if err != nil || got != (Resolved{Ref: pinned, Size: size}) {
			t.Errorf("%s: got %+v, %v, want %s of %d bytes", ref, got, err, pinned, size)
		}
	}
	layers, err := Layers(ctx, pinned, Options{})
	if err != nil || len(layers) != 3 || layers[1].Size != m.Layers[1].Size {
		t.Errorf("layers: got %v, %v", layers, err)
	}
}

func TestResolvePinsTheIndexAndSizesThePlatform(t *testing.T) {
	ctx, reg := context.Background(), serve(t)
	amd, _ := random.Image(100, 1)
	arm, _ := random.Image(5000, 1)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	ref, err := Parse(reg.Addr() + "/multi:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	got, err := Resolve(ctx, ref.String(), Options{})
	digest, _ := index.Digest()
	if err != nil || !strings.HasSuffix(got.Ref, "/multi@"+digest.String()) || got.Size > 2000 {
		t.Fatalf("got %+v, %v, want the index %s and the size of linux/amd64", got, err, digest)
	}
	_, err = Resolve(ctx, ref.String(), Options{Platform: v1.Platform{OS: "linux", Architecture: "s390x"}})
	if !errors.Is(err, ErrNotFound) {
		t.Fatalf("another platform: got %v, want %v", err, ErrNotFound)
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	reg := serve(t)
	denied := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, `{"errors":[{"code":"DENIED"}]}`, http.StatusForbidden)
	}))
	defer denied.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		http.Error(w, "no", http.StatusTeapot)
	}))
	defer broken.Close()
	for ref, want := range map[string]error{
		"":                         ErrBadReference,
		"UPPER/case":               ErrBadReference,
		"a b":                      ErrBadReference,
		"x@sha256:123":             ErrBadReference,
		reg.Addr() + "/none:1":     ErrNotFound,
		denied.URL[7:] + "/app:1":  ErrDenied,
		broken.URL[7:] + "/app:1":  ErrBadReference,
		"127.0.0.1:1/nobody/app:1": ErrUnreachable,
	} {
		_, err := Resolve(context.Background(), ref, Options{})
		if !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", ref, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%q", ref)) {
			t.Errorf("%q: %v does not name it", ref, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Resolve(ctx, reg.Addr()+"/x:1", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestPrivateRegistries(t *testing.T) {
	for ref, want := range map[string]bool{
		"127.0.0.1:5000/x": true, "localhost:5000/x": true, "localhost/x": true, "10.1.2.3/x": true, "192.168.0.9:80/x": true,
		"172.16.5.4/x": true, "169.254.169.254/x": true, "100.64.1.1/x": true, "[::1]:5000/x": true, "[fd00::1]:80/x": true,
		"[fe80::1]:80/x": true, "0.0.0.0:80/x": true, "[::ffff:127.0.0.1]:80/x": true,
		"8.8.8.8/x": false, "[2001:4860:4860::8888]:443/x": false,
	} {
		if err := CheckPublic(context.Background(), ref); errors.Is(err, ErrPrivate) != want || !want && err != nil {
			t.Errorf("%q: got %v, want private: %v", ref, err, want)
		}
	}
	for ref, want := range map[string]error{"!!": ErrBadReference, "registry.invalid/x": ErrUnreachable} {
		if err := CheckPublic(context.Background(), ref); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", ref, err, want)
		}
	}
}

// Whatever leads there, a redirect too: nothing is asked of this machine's own network.
func TestPublicTransportConnectsToNoPrivateAddress(t *testing.T) {
	asked := make(chan string, 10)
	lan := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	defer lan.Close()
	_, port, err := net.SplitHostPort(lan.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		_, err := (&http.Client{Transport: publicTransport()}).Get("http://" + net.JoinHostPort(host, port))
		if !errors.Is(err, ErrPrivate) {
			t.Errorf("%s: got %v, want %v", host, err, ErrPrivate)
		}
	}
	ref := lan.Listener.Addr().String() + "/x:1"
	if _, err := Layers(context.Background(), ref, Options{Public: true}); !errors.Is(err, ErrPrivate) {
		t.Errorf("layers: got %v, want %v", err, ErrPrivate)
	}
	if len(asked) > 0 {
		t.Errorf("asked for %s", <-asked)
	}
}

// The image of a dynamic program has its interpreter and libraries, and is the same whenever it is built.
func TestBuildTakesWhatAProgramNeeds(t *testing.T) {
	binary := "/bin/sh"
	interp, libs, _, err := needs(binary)
	if err != nil || interp == "" || len(libs) == 0 {
		t.Fatalf("%s: interpreter %q, libraries %v, %v: want a dynamic program", binary, interp, libs, err)
	}
	recipe := Recipe{Binary: binary, Path: "/app/shell", Cmd: []string{"-c", "true"}, Files: map[string][]byte{"/etc/motd": []byte("hello")},
		Folders: []string{"/workspace"}}
	img, err := Build(recipe)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Build(recipe)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := img.Digest()
	if b, _ := again.Digest(); a != b {
		t.Errorf("built twice: %s and %s", a, b)
	}
	cfg, err := img.ConfigFile()
	if err != nil || !slices.Equal(cfg.Config.Entrypoint, []string{"/app/shell"}) || cfg.OS != "linux" {
		t.Errorf("configuration %+v, %v", cfg, err)
	}
	names := map[string]bool{}
	stream := mutate.Extract(img)
	defer stream.Close()
	for tr := tar.NewReader(stream); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names["/"+strings.Trim(h.Name, "/")] = true
	}
	want := []string{"/app/shell", "/etc/motd", "/workspace", "/tmp", interp}
	for _, l := range libs {
		p, err := locate(l, nil)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, p)
	}
	for _, n := range want {
		if !names[n] {
			t.Errorf("the image lacks %s; it has %v", n, names)
		}
	}
}

func TestBuildRefusesWhatIsNoProgram(t *testing.T) {
	script := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, b := range []string{script, filepath.Join(t.TempDir(), "none")} {
		if _, err := Build(Recipe{Binary: b}); err == nil || !strings.Contains(err.Error(), b) {
			t.Errorf("%s: got %v", b, err)
		}
	}
}
