// Package unpack writes the files of an image, which come from a stranger, into a folder of this machine.
//
// Every path is resolved inside the folder by the operating system's own rules (os.Root), so that neither .. nor a link
// leads out of it. Device files are left out, set-user-id bits are dropped, absolute links become relative ones, so that
// they mean the same whether the folder is a program's root or not, and what a small archive unfolds to is bounded.
package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// maxEntries bounds the files of an image: more is a mistake or an attack on the host's disk.
const maxEntries = 4_000_000

// ErrTooLarge says that an image unfolds to more than it may.
var ErrTooLarge = errors.New("unpack: image too large")

// Tar writes a tar stream, whose layers are merged already, below dir, and at most limit bytes of files. Owners are set
// where own is true.
func Tar(dir string, stream io.Reader, limit int64, own bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(stream)
	left := limit
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n > maxEntries || h.Size < 0 || h.Size > left {
			return fmt.Errorf("%w: more than %d entries or %d bytes", ErrTooLarge, maxEntries, limit)
		}
		left -= h.Size
		if err := entry(root, h, t, own); err != nil {
			return fmt.Errorf("unpack: %q: %w", h.Name, err)
		}
	}
}

func entry(root *os.Root, h *tar.Header, content io.Reader, own bool) error {
	name, ok := inside(h.Name)
	if !ok {
		return fmt.Errorf("path leads out of the image")
	}
	if name == "." {
		return nil
	}
	mode := fs.FileMode(h.Mode).Perm()
	if h.Mode&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return folder(root, name, mode|0o700, h, own)
	case tar.TypeReg:
		return file(root, name, mode, h, content, own)
	case tar.TypeSymlink:
		if err := vacate(root, name); err != nil {
			return err
		}
		if err := root.Symlink(relative(name, h.Linkname), name); err != nil || !own {
			return err
		}
		return root.Lchown(name, h.Uid, h.Gid)
	case tar.TypeLink:
		target, ok := inside(h.Linkname)
		if !ok {
			return fmt.Errorf("link %q leads out of the image", h.Linkname)
		}
		if err := vacate(root, name); err != nil {
			return err
		}
		return root.Link(target, name)
	}
	return nil // devices, pipes, sockets: not in a pod
}

func folder(root *os.Root, name string, mode fs.FileMode, h *tar.Header, own bool) error {
	if info, err := root.Lstat(name); err == nil && !info.IsDir() {
		if err := root.Remove(name); err != nil {
			return err
		}
	}
	if err := root.MkdirAll(name, 0o755); err != nil {
		return err
	}
	if own {
		if err := root.Lchown(name, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	return root.Chmod(name, mode)
}

func file(root *os.Root, name string, mode fs.FileMode, h *tar.Header, content io.Reader, own bool) error {
	if err := vacate(root, name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		f.Close()
		return err
	}
	if own {
		if err := f.Chown(h.Uid, h.Gid); err != nil {
			f.Close()
			return err
		}
	}
	if err := f.Chmod(mode); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if h.ModTime.IsZero() {
		return nil
	}
	return root.Chtimes(name, h.ModTime, h.ModTime)
}

// vacate removes what an earlier layer put at name.
func vacate(root *os.Root, name string) error {
	if _, err := root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return root.RemoveAll(name)
}

// inside is a path of an archive as one relative to the image's root; false if it names something above it.
func inside(name string) (string, bool) {
	if strings.ContainsRune(name, 0) {
		return "", false
	}
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", false
	}
	return clean, true
}

// relative is where a link at name leads, seen from its own folder; links are stored so.
func relative(name, target string) string {
	if !path.IsAbs(target) {
		return target
	}
	up := strings.Repeat("../", strings.Count(name, "/"))
	rest := strings.TrimLeft(path.Clean(target), "/")
	if rest == "" {
		rest = "."
	}
	return up + rest
}
