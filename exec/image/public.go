package image

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// CheckPublic is nil if ref names a registry on the public network. It is ErrPrivate for one on this machine or on its
// network, by a loopback, private, link-local or otherwise not public address, or by a name that has such an address: the
// answer guards a host's network. A name that cannot be looked up now is ErrUnreachable, and says nothing either way.
func CheckPublic(ctx context.Context, ref string) error {
	r, err := Parse(ref)
	if err != nil {
		return err
	}
	host := hostOf(r.Context().RegistryStr())
	if addr, err := netip.ParseAddr(host); err == nil {
		return checkAddr(ref, addr)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		return fmt.Errorf("%w: %q: looking up %s: %w", ErrUnreachable, ref, host, err)
	}
	for _, a := range addrs {
		if err := checkAddr(ref, a); err != nil {
			return err
		}
	}
	return nil
}

func checkAddr(ref string, a netip.Addr) error {
	if public(a) {
		return nil
	}
	return fmt.Errorf("%w: %q is at %s", ErrPrivate, ref, a)
}

// publicTransport connects to public addresses only. The check stands where the connection is made, so neither a redirect
// nor a name that has another address by then gets around it.
var publicTransport = sync.OnceValue(func() http.RoundTripper {
	d := &net.Dialer{Timeout: dialTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !public(to.Addr()) {
			return fmt.Errorf("%w: %s", ErrPrivate, to.Addr())
		}
		return nil
	}}
	t := remote.DefaultTransport.(*http.Transport).Clone()
	t.Proxy, t.DialContext = nil, d.DialContext
	t.ResponseHeaderTimeout = resolveTimeout
	return t
})

func hostOf(registry string) string {
	if host, _, err := net.SplitHostPort(registry); err == nil {
		return host
	}
	return strings.Trim(registry, "[]")
}

// notPublic are the reserved blocks that netip's own predicates do not cover.
var notPublic = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
}

func public(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
