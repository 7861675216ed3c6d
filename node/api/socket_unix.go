//go:build unix

package api

import (
	"net"
	"os"
	"path/filepath"
)

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
