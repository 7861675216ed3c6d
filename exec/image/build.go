package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A Recipe says what Build puts into an image.
type Recipe struct {
	Binary     string   // a Linux program of this machine, static or dynamic
	Path       string   // where it stands in the image; empty: /bin/<base of Binary>
	Entrypoint []string // nil: Path
	Cmd        []string
	Env        []string
	Files      map[string][]byte // more files, by absolute path
	Folders    []string          // more folders, by absolute path; /tmp is always there
}

// Build makes an image, in memory, of one program with its interpreter and its shared libraries, as the ELF headers name
// them. It needs no compiler, no engine and no base image, and gives the same digest for the same files.
func Build(r Recipe) (v1.Image, error) {
	at := r.Path
	if at == "" {
		at = "/bin/" + filepath.Base(r.Binary)
	}
	files, err := closure(r.Binary, at)
	if err != nil {
		return nil, fmt.Errorf("image: build from %q: %w", r.Binary, err)
	}
	for p, data := range r.Files {
		files[p] = file{data: data, mode: 0o644}
	}
	layer, err := tarball.LayerFromOpener(archive(files, append([]string{"/tmp"}, r.Folders...)), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("image: build from %q: %w", r.Binary, err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("image: build from %q: %w", r.Binary, err)
	}
	entry := r.Entrypoint
	if entry == nil {
		entry = []string{at}
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("image: build from %q: %w", r.Binary, err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", "amd64"
	cfg.Config = v1.Config{Entrypoint: entry, Cmd: r.Cmd, WorkingDir: "/",
		Env: append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, r.Env...)}
	return mutate.ConfigFile(img, cfg)
}

// file is content by value, or by a path on this machine.
type file struct {
	data []byte
	from string
	mode int64
}

// closure finds a program's files: itself, its interpreter, and breadth first the libraries that each part needs. A library
// stands in the image at the path at which this machine's loader would find it.
func closure(binary, at string) (map[string]file, error) {
	files := map[string]file{at: {from: binary, mode: 0o755}}
	seen := map[string]bool{}
	queue := []string{binary}
	for len(queue) > 0 {
		part := queue[0]
		queue = queue[1:]
		interp, needed, dirs, err := needs(part)
		if err != nil {
			return nil, err
		}
		if interp != "" {
			files[interp] = file{from: interp, mode: 0o755}
		}
		for _, lib := range needed {
			if seen[lib] {
				continue
			}
			seen[lib] = true
			from, err := locate(lib, dirs)
			if err != nil {
				return nil, fmt.Errorf("%s needs %s: %w", part, lib, err)
			}
			files[from] = file{from: from, mode: 0o755}
			queue = append(queue, from)
		}
	}
	return files, nil
}

// needs reads what one ELF file asks its loader for.
func needs(p string) (interp string, libs, dirs []string, err error) {
	f, err := elf.Open(p)
	if err != nil {
		return "", nil, nil, err
	}
	defer f.Close()
	for _, prog := range f.Progs {
		if prog.Type == elf.PT_INTERP {
			b, err := io.ReadAll(io.LimitReader(prog.Open(), 4096))
			if err != nil {
				return "", nil, nil, err
			}
			interp = strings.TrimRight(string(b), "\x00")
		}
	}
	libs, err = f.ImportedLibraries()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return "", nil, nil, err
	}
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		paths, _ := f.DynString(tag)
		for _, list := range paths {
			for d := range strings.SplitSeq(list, ":") {
				dirs = append(dirs, strings.NewReplacer("$ORIGIN", filepath.Dir(p), "${ORIGIN}", filepath.Dir(p)).Replace(d))
			}
		}
	}
	return interp, libs, dirs, nil
}

// libraryDirs are where loaders look by default, on Debian's and on other systems.
var libraryDirs = [...]string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
	"/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"}

func locate(lib string, dirs []string) (string, error) {
	if strings.HasPrefix(lib, "/") {
		return lib, nil
	}
	for _, d := range append(slices.Clone(dirs), libraryDirs[:]...) {
		if p := filepath.Join(d, lib); filepath.IsAbs(p) {
			if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("%w in %v", os.ErrNotExist, libraryDirs)
}

// archive gives the layer as a tar stream: folders first, then files, each by name, without times or owners.
func archive(files map[string]file, folders []string) tarball.Opener {
	names := make([]string, 0, len(files))
	dirs := map[string]bool{}
	for n := range files {
		names = append(names, n)
		for d := path.Dir(n); d != "/" && d != "."; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	for _, d := range folders {
		for ; d != "/" && d != "."; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	slices.Sort(names)
	sortedDirs := make([]string, 0, len(dirs))
	for d := range dirs {
		sortedDirs = append(sortedDirs, d)
	}
	slices.Sort(sortedDirs)
	return func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { w.CloseWithError(write(w, sortedDirs, names, files)) }()
		return r, nil
	}
}

func write(w io.Writer, dirs, names []string, files map[string]file) error {
	t := tar.NewWriter(w)
	for _, d := range dirs {
		mode := int64(0o755)
		if d == "/tmp" {
			mode = 0o1777
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d[1:] + "/", Mode: mode}); err != nil {
			return err
		}
	}
	for _, n := range names {
		if err := writeFile(t, n, files[n]); err != nil {
			return err
		}
	}
	return t.Close()
}

func writeFile(t *tar.Writer, name string, f file) error {
	var content io.Reader = bytes.NewReader(f.data)
	size := int64(len(f.data))
	if f.from != "" {
		in, err := os.Open(f.from)
		if err != nil {
			return err
		}
		defer in.Close()
		info, err := in.Stat()
		if err != nil {
			return err
		}
		content, size = in, info.Size()
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: f.mode, Size: size}); err != nil {
		return err
	}
	_, err := io.Copy(t, content)
	return err
}
