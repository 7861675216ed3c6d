package p2p

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Errors that callers test with errors.Is.
var (
	// ErrUnknownPeer: neither a link nor a key with addresses is known for this peer.
	ErrUnknownPeer = errors.New("p2p: no address of the peer is known")
	// ErrUnreachable: the peer could not be dialled, or the link broke, or no answer came in time. Whether a request was
	// carried out is not known.
	ErrUnreachable = errors.New("p2p: peer is unreachable")
	// ErrRefused: every Refusal of the other side is one.
	ErrRefused = errors.New("p2p: peer refused")
	// ErrBusy: the peer has too much to do; nothing was done. It is an ErrRefused too.
	ErrBusy = errors.New("p2p: peer is busy")
	// ErrUntrusted: this node itself does not admit the peer; the Refusal that it gave is wrapped.
	ErrUntrusted = errors.New("p2p: this node does not admit the peer")
	// ErrNoMarket: gossip needs SetMarket first.
	ErrNoMarket = errors.New("p2p: no market is set")
	// ErrClosed: Run has ended.
	ErrClosed = errors.New("p2p: node is closed")
)

// A Code says why a peer refused. Codes are on the wire: append only.
type Code uint16

// The codes of this package. Codes from CodeOfNode on belong to the node above.
const (
	CodeBusy         Code = 1  // over a limit of rate or number; try again later
	CodeBadFrame     Code = 2  // not the one accepted encoding, or too large
	CodeInternal     Code = 3  // the other side's own trouble
	CodeUnsupported  Code = 4  // protocol not spoken here
	CodeNoCredential Code = 16 // hello: nobody vouches for the key
	CodeRevoked      Code = 17 // hello: it was revoked
	CodeOtherMarket  Code = 18 // hello: member of another market
	CodeClock        Code = 19 // hello: the clocks are too far apart
	CodeBadHello     Code = 20 // hello: makes no sense
	CodeNotOpen      Code = 21 // join: no invite is open here

	CodeOfNode Code = 256
)

var codeNames = map[Code]string{
	CodeBusy: "busy", CodeBadFrame: "bad-frame", CodeInternal: "internal", CodeUnsupported: "unsupported",
	CodeNoCredential: "no-credential", CodeRevoked: "revoked", CodeOtherMarket: "other-market", CodeClock: "clock",
	CodeBadHello: "bad-hello", CodeNotOpen: "not-open",
}

// String is the code's name, as in "no-credential", or its number.
func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return fmt.Sprintf("code-%d", uint16(c))
}

// reasonLimit is the most bytes of a refusal's reason.
const reasonLimit = 512

// A Refusal is a peer's typed no. The Reason is foreign text, at most 512 bytes of UTF-8.
type Refusal struct {
	_      struct{} `cbor:",toarray"`
	Code   Code
	Reason string
}

// Refuse makes a refusal; a reason over the limit is cut.
func Refuse(c Code, format string, args ...any) *Refusal {
	return &Refusal{Code: c, Reason: cut(fmt.Sprintf(format, args...))}
}

// Error says the code and quotes the reason.
func (r *Refusal) Error() string { return fmt.Sprintf("p2p: refused (%v): %q", r.Code, r.Reason) }

// Is makes every refusal an ErrRefused, and one that says busy an ErrBusy.
func (r *Refusal) Is(target error) bool {
	return target == ErrRefused || target == ErrBusy && r.Code == CodeBusy
}

// cut makes a reason fit for the wire.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= reasonLimit {
		return s
	}
	s = s[:reasonLimit]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}
