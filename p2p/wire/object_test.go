package wire_test

import (
	"errors"
	"testing"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// page is a message of any size, which is said to be valid or not.
type page struct {
	Text []byte `cbor:"1,keyasint"`
	bad  error
}

func (p page) Kind() wire.Kind          { return wire.KindReserve }
func (p page) Signer() identity.Address { return identity.Address{} }
func (p page) Validate() error          { return p.bad }

func TestOnlyWhatMayBeSignedIsDrafted(t *testing.T) {
	bad := errors.New("bad")
	size := wire.KindReserve.Limit() - len(wire.Marshal(page{Text: make([]byte, 256)})) + 256
	for _, c := range []struct {
		name string
		page page
		want error
	}{
		{"at its limit", page{Text: make([]byte, size)}, nil},
		{"over it", page{Text: make([]byte, size+1)}, wire.ErrTooLarge},
		{"invalid", page{bad: bad}, bad},
	} {
		o, err := wire.TryDraft(c.page)
		if !errors.Is(err, c.want) || (err == nil) == o.IsZero() {
			t.Errorf("%s: got a draft of %d bytes, %v", c.name, len(o.Payload), err)
		}
	}
}
