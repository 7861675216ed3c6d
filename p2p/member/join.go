package member

import (
	"errors"
	"fmt"
	"strings"

	"souk/p2p/identity"
	"souk/p2p/wire"
)

// A Device is one GPU as its owner reports it.
type Device struct {
	UUID      string `cbor:"1,keyasint"`
	Model     string `cbor:"2,keyasint"` // market name, as in RTX_4090
	MemoryMiB uint32 `cbor:"3,keyasint"`
	Simulated bool   `cbor:"4,keyasint"`
	Compute   uint16 `cbor:"5,keyasint,omitempty"` // CUDA compute capability times 100, as 890; 0: not told
}

// A Machine is what a host says of the computer around its GPUs.
type Machine struct {
	CPU       string `cbor:"1,keyasint"`
	Cores     uint16 `cbor:"2,keyasint"`
	MemoryMiB uint32 `cbor:"3,keyasint"`
	DiskGiB   uint32 `cbor:"4,keyasint"` // free for pods
	OS        string `cbor:"5,keyasint"`
	Runtime   string `cbor:"6,keyasint"`            // docker or process
	Engine    string `cbor:"7,keyasint"`            // version of the container engine
	Driver    string `cbor:"8,keyasint"`            // NVIDIA driver
	CUDA      string `cbor:"9,keyasint"`            // highest CUDA version that the driver takes
	GPUs      uint16 `cbor:"10,keyasint,omitempty"` // in the machine, whether on sale or not; 0: not told
}

// Validate checks bounds.
func (m Machine) Validate() error {
	for _, s := range []string{m.CPU, m.OS, m.Runtime, m.Engine, m.Driver, m.CUDA} {
		if len(s) > 96 {
			return errors.New("machine: a description is over 96 bytes")
		}
	}
	return nil
}

// A Check is one line of a self-test.
type Check struct {
	Name   string `cbor:"1,keyasint"`
	OK     bool   `cbor:"2,keyasint"`
	Detail string `cbor:"3,keyasint"`
}

// A JoinRequest asks an operator for membership. The invite's secret travels beside it, to that operator alone; here
// stands only its hash.
type JoinRequest struct {
	Subject   identity.PublicKey `cbor:"1,keyasint"`
	Secret    identity.Hash      `cbor:"2,keyasint"` // keccak256 of the invite's secret
	Role      Role               `cbor:"3,keyasint"`
	Alias     string             `cbor:"4,keyasint"`
	Owner     identity.Address   `cbor:"5,keyasint"`
	Payout    identity.Address   `cbor:"6,keyasint"`
	Devices   []Device           `cbor:"7,keyasint"`
	Machine   Machine            `cbor:"8,keyasint"`
	Checks    []Check            `cbor:"9,keyasint"`
	Agreement identity.Hash      `cbor:"10,keyasint"` // of the host agreement, for hosts
	At        Time               `cbor:"11,keyasint"`
}

// Kind implements wire.Message.
func (j JoinRequest) Kind() wire.Kind { return wire.KindJoinRequest }

// Signer is the joining key.
func (j JoinRequest) Signer() identity.Address {
	a, err := j.Subject.Address()
	if err != nil {
		return identity.Address{}
	}
	return a
}

// Validate checks bounds.
func (j JoinRequest) Validate() error {
	if _, err := j.Subject.Address(); err != nil {
		return err
	}
	switch {
	case j.Role != RoleHost && j.Role != RoleConsumer:
		return errors.New("join: one role, host or consumer")
	case len(j.Alias) > 32:
		return errors.New("join: an alias has at most 32 bytes")
	case len(j.Devices) > 64 || len(j.Checks) > 64:
		return errors.New("join: more than 64 GPUs or checks")
	}
	for _, d := range j.Devices {
		if len(d.UUID) == 0 || len(d.UUID) > 64 || len(d.Model) == 0 || len(d.Model) > 64 {
			return errors.New("join: a GPU wants a UUID and a model of at most 64 bytes")
		}
	}
	for _, c := range j.Checks {
		if len(c.Name) > 64 || len(c.Detail) > 256 {
			return errors.New("join: a check's text is too long")
		}
	}
	return j.Machine.Validate()
}

// An Invite is the bearer code that an operator hands to a newcomer. Whoever holds the secret may join once.
type Invite struct {
	Market   identity.Hash      `cbor:"1,keyasint"`
	Operator identity.PublicKey `cbor:"2,keyasint"`
	Addrs    []string           `cbor:"3,keyasint"`
	Secret   wire.ID            `cbor:"4,keyasint"`
	Role     Role               `cbor:"5,keyasint"`
}

const invitePrefix = "souk1"

// inviteDigits write five bits each; 0, 1, l and o are left out, because they are mistaken for one another.
const inviteDigits = "abcdefghijkmnpqrstuvwxyz23456789"

// encodeDigits writes bytes in digits, the last one filled up with zero bits.
func encodeDigits(b []byte) string {
	out := make([]byte, 0, (len(b)*8+4)/5)
	var acc, bits uint
	for _, c := range b {
		acc, bits = acc<<8|uint(c), bits+8
		for ; bits >= 5; bits -= 5 {
			out = append(out, inviteDigits[acc>>(bits-5)&31])
		}
	}
	if bits > 0 {
		out = append(out, inviteDigits[acc<<(5-bits)&31])
	}
	return string(out)
}

// decodeDigits reads what encodeDigits wrote, and nothing else.
func decodeDigits(s string) ([]byte, bool) {
	out := make([]byte, 0, len(s)*5/8)
	var acc, bits uint
	for i := range len(s) {
		d := strings.IndexByte(inviteDigits, s[i])
		if d < 0 {
			return nil, false
		}
		if acc, bits = acc<<5|uint(d), bits+5; bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
		}
	}
	return out, encodeDigits(out) == s
}

// ErrInvite is what a code that cannot be read is refused with.
var ErrInvite = errors.New("member: not an invite code")

// Code is the text that the newcomer types. Its last four bytes check the others.
func (i Invite) Code() string {
	b := wire.Marshal(i)
	sum := identity.Keccak([]byte(invitePrefix), b)
	return invitePrefix + encodeDigits(append(b, sum[:4]...))
}

// SecretHash is what the operator keeps of the secret.
func (i Invite) SecretHash() identity.Hash {
	return identity.Keccak([]byte("souk/invite/1"), i.Secret[:])
}

// ParseInvite reads a code. A mistyped or cut one fails with ErrInvite and says so.
func ParseInvite(code string) (Invite, error) {
	var i Invite
	code = strings.ToLower(strings.Join(strings.Fields(code), ""))
	body, ok := strings.CutPrefix(code, invitePrefix)
	if !ok {
		return i, fmt.Errorf("%w: it begins with %q", ErrInvite, invitePrefix)
	}
	if len(body) > 4096 {
		return i, fmt.Errorf("%w: too long", ErrInvite)
	}
	b, ok := decodeDigits(body)
	if !ok || len(b) < 8 {
		return i, fmt.Errorf("%w: mistyped or cut; copy it whole", ErrInvite)
	}
	payload, sum := b[:len(b)-4], b[len(b)-4:]
	want := identity.Keccak([]byte(invitePrefix), payload)
	if string(sum) != string(want[:4]) {
		return i, fmt.Errorf("%w: mistyped or cut (its check digits do not fit); copy it whole", ErrInvite)
	}
	if err := wire.Unmarshal(payload, &i); err != nil {
		return i, fmt.Errorf("%w: %w", ErrInvite, err)
	}
	if _, err := i.Operator.Address(); err != nil {
		return i, fmt.Errorf("%w: %w", ErrInvite, err)
	}
	return i, nil
}
