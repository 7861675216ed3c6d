//go:build unix

package api

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// ownFolder refuses a folder of sockets that another user owns, has laid a link to, or can write in. Where anybody may
// make folders, as in /tmp, somebody else may have been first.
func ownFolder(dir string) error {
	link, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	for _, i := range []fs.FileInfo{link, fi} {
		if uid, ok := owner(i); ok && uid != os.Geteuid() && uid != 0 {
			return fmt.Errorf("%w: the folder %s is user %d's", ErrForeign, dir, uid)
		}
	}
	if fi.Mode().Perm()&0o002 != 0 && fi.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("%w: anybody may write in %s", ErrForeign, dir)
	}
	return nil
}

// ownSocket refuses a socket that another user has made: what answers there is not this user's node.
func ownSocket(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return nil // dialling says it better
	}
	if uid, ok := owner(fi); ok && uid != os.Geteuid() {
		return fmt.Errorf("%w: %s is user %d's", ErrForeign, path, uid)
	}
	return nil
}

func owner(fi fs.FileInfo) (int, bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// listenPrivate takes a unix socket that nobody else may open, at no moment: it gets its mode in a private folder, under
// another name.
func listenPrivate(path string) (net.Listener, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(filepath.Join(dir, "s"), 0o600); err == nil {
		err = os.Rename(filepath.Join(dir, "s"), path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return &named{l, path}, nil
}

// named removes the socket's name when it is closed.
type named struct {
	*net.UnixListener
	path string
}

// Close implements net.Listener.
func (n *named) Close() error {
	err := n.UnixListener.Close()
	os.Remove(n.path)
	return err
}
