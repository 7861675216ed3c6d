//go:build !unix

package api

import "net"

// listenPrivate takes a unix socket. Who may open it follows from its folder.
func listenPrivate(path string) (net.Listener, error) { return net.Listen("unix", path) }
