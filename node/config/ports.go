package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// DefaultListen is where a node listens unless told otherwise: one port, TCP and QUIC, on every address of the machine.
func DefaultListen() []string { return []string{"/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"} }

// LocalListen is where a node listens whose market lives on one machine.
func LocalListen() []string { return []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} }

// Ports puts a free port in the place of every port 0, so that it can be kept. TCP and UDP addresses of one IP get the
// same number where they can.
func Ports(addrs []string) ([]string, error) {
	out := make([]string, len(addrs))
	given := map[string]string{} // by IP
	for i, a := range addrs {
		parts := strings.Split(a, "/")
		if len(parts) < 5 || parts[4] != "0" || parts[3] != "tcp" && parts[3] != "udp" {
			out[i] = a
			continue
		}
		port, ok := given[parts[2]]
		if !ok {
			var err error
			if port, err = freePort(parts[2]); err != nil {
				return nil, fmt.Errorf("config: looking for a free port for %s: %w", a, err)
			}
			given[parts[2]] = port
		}
		parts[4] = port
		out[i] = strings.Join(parts, "/")
	}
	return out, nil
}

// freePort is a port that nobody has now, neither of TCP nor of UDP.
func freePort(ip string) (string, error) {
	var last error
	for range 16 {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			return "", err
		}
		port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		u, err := net.ListenPacket("udp", net.JoinHostPort(ip, port))
		l.Close()
		if err == nil {
			u.Close()
			return port, nil
		}
		last = err
	}
	return "", last
}
