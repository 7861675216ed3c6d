package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func archiveOf(headers ...tar.Header) io.Reader {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, h := range headers {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content = h.Uname
			h.Uname, h.Size = "", int64(len(content))
		}
		if err := t.WriteHeader(&h); err != nil {
			panic(err)
		}
		io.WriteString(t, content)
	}
	t.Close()
	return &b
}

func reg(name, content string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: content, Mode: mode}
}

func link(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

func hard(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}

func dir(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }

func TestUnpackKeepsToItsFolder(t *testing.T) {
	for name, tt := range map[string]struct {
		entries []tar.Header
		refused bool
	}{
		"dots":                      {[]tar.Header{reg("../evil", "x", 0o644)}, true},
		"dots inside":               {[]tar.Header{reg("a/../../evil", "x", 0o644)}, true},
		"absolute":                  {[]tar.Header{reg("/evil", "x", 0o644)}, false},
		"through a link up":         {[]tar.Header{link("a", ".."), reg("a/evil", "x", 0o644)}, true},
		"through two links":         {[]tar.Header{dir("d"), link("d/a", ".."), link("b", "d/a/.."), reg("b/evil", "x", 0o644)}, true},
		"through an absolute link":  {[]tar.Header{link("a", "/"), reg("a/evil", "x", 0o644)}, false},
		"over a link":               {[]tar.Header{link("evil", "../evil"), reg("evil", "x", 0o644)}, false},
		"hard link to the outside":  {[]tar.Header{hard("evil2", "../secret")}, true},
		"hard link by a link":       {[]tar.Header{link("a", ".."), hard("evil2", "a/secret")}, true},
		"folder over a link":        {[]tar.Header{link("a", ".."), dir("a"), reg("a/evil", "x", 0o644)}, false},
		"folder through a link":     {[]tar.Header{link("a", ".."), dir("a/evil")}, true},
		"mode change through links": {[]tar.Header{link("a", "../secret"), {Typeflag: tar.TypeDir, Name: "a/", Mode: 0o777}}, false},
	} {
		base := t.TempDir()
		secret := filepath.Join(base, "secret")
		if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		root := filepath.Join(base, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		err := Tar(root, archiveOf(tt.entries...), 1<<20, false)
		if (err != nil) != tt.refused {
			t.Errorf("%s: got %v, want refused %v", name, err, tt.refused)
		}
		found, _ := os.ReadDir(base)
		info, _ := os.Stat(secret)
		if b, _ := os.ReadFile(secret); len(found) != 2 || string(b) != "secret" || info.Mode() != 0o600 {
			t.Errorf("%s: reached the outside: %v", name, found)
		}
	}
}

func TestUnpackKeepsContentAndDropsPower(t *testing.T) {
	root := t.TempDir()
	err := Tar(root, archiveOf(dir("usr/lib"), link("lib", "/usr/lib"), reg("lib/a", "one", 0o644), reg("bin/su", "x", 0o4755),
		hard("bin/su2", "bin/su"), reg("usr/lib/a", "two", 0o600), tar.Header{Typeflag: tar.TypeChar, Name: "dev/mem", Devmajor: 1, Devminor: 1},
		tar.Header{Typeflag: tar.TypeFifo, Name: "pipe"}, tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}), 1<<20, false)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "lib/a")); err != nil || string(b) != "two" {
		t.Errorf("lib/a: %q, %v: want the later layer's, through the link", b, err)
	}
	for name, want := range map[string]os.FileMode{"bin/su": 0o755, "bin/su2": 0o755, "usr/lib/a": 0o600, "tmp": os.ModeDir | os.ModeSticky | 0o777} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %s", name, info, err, want)
		}
	}
	for _, name := range []string{"dev/mem", "pipe"} {
		if _, err := os.Lstat(filepath.Join(root, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}

func TestUnpackIsBounded(t *testing.T) {
	many := []tar.Header{reg("a", strings.Repeat("x", 600), 0o644), reg("b", strings.Repeat("x", 600), 0o644)}
	for limit, want := range map[int64]error{1199: ErrTooLarge, 1200: nil} {
		if err := Tar(t.TempDir(), archiveOf(many...), limit, false); !errors.Is(err, want) {
			t.Errorf("1200 bytes within %d: got %v, want %v", limit, err, want)
		}
	}
}

// Nothing that a stranger sends as an archive may reach a file beside the folder.
func FuzzUnpack(f *testing.F) {
	seed, _ := io.ReadAll(archiveOf(link("a", ".."), reg("a/evil", "x", 0o644)))
	f.Add(seed)
	seed, _ = io.ReadAll(archiveOf(dir("d"), reg("d/x", "x", 0o644), hard("d/y", "d/x")))
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		base := t.TempDir()
		root := filepath.Join(base, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		Tar(root, bytes.NewReader(b), 1<<20, false)
		if found, _ := os.ReadDir(base); len(found) != 1 {
			t.Fatalf("outside: %v", found)
		}
	})
}
