package reliability

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Presence is a host's answer to a witness that asks at a second which the host could not foresee. It is no Beat: a minute
// has one beat, and as many answers as there are questions.
type Presence struct {
	Host    identity.Address `cbor:"1,keyasint"`
	Witness identity.Address `cbor:"2,keyasint"`
	Nonce   uint64           `cbor:"3,keyasint"` // of the question
	Minute  member.Minute    `cbor:"4,keyasint"` // by the host's count
	LogSeq  uint64           `cbor:"5,keyasint"`
	LogHead identity.Hash    `cbor:"6,keyasint"`
	Meters  identity.Hash    `cbor:"7,keyasint"` // root over all leases' usage heads
}

// Kind implements wire.Message.
func (p Presence) Kind() wire.Kind { return wire.KindPresence }

// Signer is the host.
func (p Presence) Signer() identity.Address { return p.Host }

// Validate checks shape.
func (p Presence) Validate() error {
	if p.Host.IsZero() || p.Witness.IsZero() {
		return errors.New("presence names no host or witness")
	}
	return nil
}

// A Receipt is a witness's word, given to the host at once, that it was answered in a minute. A witness may give several for
// one minute: they say the same.
type Receipt struct {
	Witness identity.Address `cbor:"1,keyasint"`
	Host    identity.Address `cbor:"2,keyasint"`
	Minute  member.Minute    `cbor:"3,keyasint"`
	Answer  identity.Hash    `cbor:"4,keyasint"` // ref of the host's Presence
	Path    Path             `cbor:"5,keyasint"`
	LogSeq  uint64           `cbor:"6,keyasint"` // as the answer had it
	LogHead identity.Hash    `cbor:"7,keyasint"`
	Beacon  identity.Hash    `cbor:"8,keyasint"` // by which the witness was drawn; 0: it was named, not drawn
}

// A Path is how a witness reached its host.
type Path uint8

// The paths.
const (
	PathUntold Path = 0
	PathDirect Path = 1
	PathRelay  Path = 2
)

// Kind implements wire.Message.
func (r Receipt) Kind() wire.Kind { return wire.KindReceipt }

// Signer is the witness.
func (r Receipt) Signer() identity.Address { return r.Witness }

// Validate checks shape.
func (r Receipt) Validate() error {
	switch {
	case r.Witness.IsZero() || r.Host.IsZero() || r.Answer.IsZero():
		return errors.New("receipt names no witness, host or answer")
	case r.Witness == r.Host:
		return errors.New("receipt is a host's own")
	case r.Path > PathRelay:
		return errors.New("receipt has an unknown path")
	}
	return nil
}

// Compare orders receipts by minute, then by witness.
func (r Receipt) Compare(o Receipt) int {
	return cmp.Or(cmp.Compare(r.Minute, o.Minute), r.Witness.Compare(o.Witness))
}

// MostPanel is how many witnesses a panel has at most.
const MostPanel = 16

// A Panel is the witnesses whose receipts count for a lease, in the order of their addresses.
type Panel []identity.Address

// ErrPanel is what a list of witnesses is refused with that is no panel.
var ErrPanel = errors.New("reliability: not a panel")

// NewPanel is the panel of these witnesses.
func NewPanel(of ...identity.Address) Panel {
	p := slices.Clone(of)
	slices.SortFunc(p, identity.Address.Compare)
	return slices.Compact(p)
}

// Validate checks the number of witnesses and their order. Errors: ErrPanel.
func (p Panel) Validate() error {
	if len(p) == 0 || len(p) > MostPanel {
		return fmt.Errorf("%w: %d witnesses, want 1 to %d", ErrPanel, len(p), MostPanel)
	}
	for i, a := range p {
		if a.IsZero() || i > 0 && p[i-1].Compare(a) >= 0 {
			return fmt.Errorf("%w: its witnesses are not in order", ErrPanel)
		}
	}
	return nil
}

// Has reports whether a witness is of the panel.
func (p Panel) Has(a identity.Address) bool {
	_, ok := slices.BinarySearchFunc(p, a, identity.Address.Compare)
	return ok
}

// Hash is what a mandate names its panel by: Keccak-256 over "souk/panel/1" and the addresses in order.
func (p Panel) Hash() identity.Hash {
	b := []byte("souk/panel/1")
	for _, a := range p {
		b = append(b, a[:]...)
	}
	return identity.Keccak(b)
}

// A Testimony is what a panel's receipts say of one host: in which minutes it was there.
type Testimony struct {
	host  identity.Address
	panel Panel
	by    map[member.Minute]map[identity.Address]identity.Hash // ref of the receipt
}

// NewTestimony is a testimony that nothing was heard of yet.
func NewTestimony(host identity.Address, panel Panel) *Testimony {
	return &Testimony{host: host, panel: panel, by: map[member.Minute]map[identity.Address]identity.Hash{}}
}

// Add takes a verified receipt, whose ref is given. One of another host or witness says nothing; of two of one witness for a
// minute the first stands.
func (t *Testimony) Add(r Receipt, ref identity.Hash) {
	if r.Host != t.host || !t.panel.Has(r.Witness) {
		return
	}
	if t.by[r.Minute] == nil {
		t.by[r.Minute] = map[identity.Address]identity.Hash{}
	}
	if _, heard := t.by[r.Minute][r.Witness]; !heard {
		t.by[r.Minute][r.Witness] = ref
	}
}

// Has reports whether more than half of the panel say that the host was there in a minute.
func (t *Testimony) Has(m member.Minute) bool { return 2*len(t.by[m]) > len(t.panel) }

// Root binds a usage entry to the receipts that it rests on: those for count minutes from first on whose bits are set. It is
// Keccak-256 over "souk/receipts/1" and, in order of minute and witness, the minute as 8 bytes and the receipt's ref.
func (t *Testimony) Root(first member.Minute, bits uint64) identity.Hash {
	var buf bytes.Buffer
	buf.WriteString("souk/receipts/1")
	for i := range member.Minute(64) {
		if bits>>i&1 == 0 {
			continue
		}
		for _, w := range t.panel {
			if ref, ok := t.by[first+i][w]; ok {
				buf.Write(binary.BigEndian.AppendUint64(nil, uint64(first+i)))
				buf.Write(ref[:])
			}
		}
	}
	return identity.Keccak(buf.Bytes())
}
