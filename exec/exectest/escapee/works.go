//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// works are what honest pods do.
var works = []attempt{
	{"unpack a package as root", unpackPackage},
	{"serve on port 80", servePort},
	{"become another user", becomeUser},
	{"two hundred threads", threads},
	{"shared memory", sharedMemory},
	{"chroot", func() error {
		dir, err := os.MkdirTemp("", "root")
		if err == nil {
			err = syscall.Chroot(dir)
		}
		return err
	}},
	{"end a process of another user", func() error {
		p, err := os.StartProcess("/proc/self/exe", []string{"escapee", "listen"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}})
		if err != nil {
			return err
		}
		if err := p.Kill(); err != nil {
			return err
		}
		_, err = p.Wait()
		return err
	}},
	{"keep a file on the volume", func() error {
		dir := os.Getenv("SOUK_VOLUME")
		if dir == "" {
			return errors.New("there is none")
		}
		return os.WriteFile(filepath.Join(dir, "data"), []byte("x"), 0o600)
	}},
	{"a pseudo-terminal", func() error {
		f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		if err == nil {
			f.Close()
		}
		return err
	}},
}

// unpackPackage does what dpkg does with a package: folders, owners, set-uid programs, links, replaced files.
func unpackPackage() error {
	var pack bytes.Buffer
	w := tar.NewWriter(&pack)
	for _, h := range []tar.Header{
		{Name: "usr/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "usr/bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "var/mail/", Typeflag: tar.TypeDir, Mode: 0o2775, Gid: 8},
		{Name: "usr/bin/sudo", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 4},
		{Name: "usr/bin/wall", Typeflag: tar.TypeReg, Mode: 0o2755, Gid: 5, Size: 4},
		{Name: "var/lib/postgres", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 105, Gid: 110, Size: 4},
		{Name: "usr/bin/link", Typeflag: tar.TypeSymlink, Linkname: "sudo"},
		{Name: "usr/bin/hard", Typeflag: tar.TypeLink, Linkname: "usr/bin/wall"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		if h.Size > 0 {
			io.WriteString(w, "data")
		}
	}
	root, err := os.MkdirTemp("", "package")
	if err != nil {
		return err
	}
	for r := tar.NewReader(&pack); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		at := filepath.Join(root, h.Name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(at, 0o755)
		case tar.TypeSymlink:
			if err := os.Symlink(h.Linkname, at); err != nil {
				return err
			}
			err = os.Lchown(at, 3, 3)
			if err != nil {
				return err
			}
			continue
		case tar.TypeLink:
			if err := os.Link(filepath.Join(root, h.Linkname), at); err != nil {
				return err
			}
			continue
		default: // beside it, and then in its place
			if err = os.WriteFile(at+".dpkg-new", []byte("data"), 0o600); err == nil {
				err = os.Rename(at+".dpkg-new", at)
			}
		}
		if err := errors.Join(err, os.Chown(at, h.Uid, h.Gid), syscall.Chmod(at, uint32(h.Mode)), os.Chtimes(at, time.Now(), time.Unix(1, 0))); err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Stat(at, &st); err != nil || int(st.Uid) != h.Uid || int(st.Gid) != h.Gid || int64(st.Mode&0o7777) != h.Mode {
			return fmt.Errorf("%s is %o of %d:%d, %v", h.Name, st.Mode, st.Uid, st.Gid, err)
		}
	}
	return nil
}

func servePort() error {
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	defer l.Close()
	low, err := net.Listen("tcp", ":81")
	if err != nil {
		return err
	}
	low.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	c, err := net.Dial("tcp", "127.0.0.1:8080")
	if err != nil {
		return err
	}
	b, err := io.ReadAll(c)
	if string(b) != "hello" {
		return fmt.Errorf("got %q, %v", b, err)
	}
	return nil
}

func becomeUser() error {
	out, err := child(5*time.Second, &syscall.Credential{Uid: 1000, Gid: 1000, Groups: []uint32{44}}, "whoami")
	if out != "1000" {
		return fmt.Errorf("got %q, %v", out, err)
	}
	return nil
}

func threads() error {
	var all sync.WaitGroup
	hold := make(chan struct{})
	seen := make(chan int, 200)
	for range 200 {
		all.Go(func() {
			runtime.LockOSThread()
			seen <- unix.Gettid()
			<-hold
		})
	}
	ids := map[int]bool{}
	for range 200 {
		ids[<-seen] = true
	}
	close(hold)
	all.Wait()
	if len(ids) != 200 {
		return fmt.Errorf("%d threads", len(ids))
	}
	return nil
}

func sharedMemory() error {
	const size = 16 << 20
	f, err := os.OpenFile("/dev/shm/souk", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := f.Truncate(size); err != nil {
		return err
	}
	a, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	for i := 0; i < size; i += 4096 {
		a[i] = byte(i >> 12)
	}
	for i := 0; i < size; i += 4096 {
		if b[i] != byte(i>>12) {
			return fmt.Errorf("byte %d is %d", i, b[i])
		}
	}
	return nil
}
