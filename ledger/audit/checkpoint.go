package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Checkpoint is the operator's word on its bank at one moment: the journal so far, and what it owes to all accounts
// together. Checkpoints are numbered and chained, so that no two members can be given different ones unnoticed.
type Checkpoint struct {
	Operator    identity.Address `cbor:"1,keyasint" json:"operator"`
	Number      uint64           `cbor:"2,keyasint" json:"number"` // from 1
	Prev        identity.Hash    `cbor:"3,keyasint" json:"prev"`   // ref of the checkpoint before; 0 for the first
	Size        uint64           `cbor:"4,keyasint" json:"size"`   // entries of the journal
	Root        identity.Hash    `cbor:"5,keyasint" json:"root"`   // over their payloads
	Accounts    uint64           `cbor:"6,keyasint" json:"accounts"`
	Liabilities identity.Hash    `cbor:"7,keyasint" json:"liabilities"` // root over all accounts
	Sums        Sums             `cbor:"8,keyasint" json:"sums"`        // of all accounts
	At          member.Time      `cbor:"9,keyasint" json:"at"`
	Extension   identity.Hash    `cbor:"10,keyasint" json:"extension"`
}

// Kind implements wire.Message.
func (c Checkpoint) Kind() wire.Kind { return wire.KindCheckpoint }

// Signer is the operator.
func (c Checkpoint) Signer() identity.Address { return c.Operator }

// Validate checks shape, and that the sums balance: no member takes a checkpoint that owes more or less than came in.
func (c Checkpoint) Validate() error {
	held, err := c.Sums.Held()
	switch {
	case err != nil:
		return err
	case c.Number == 0 || c.Number > most || (c.Number == 1) != c.Prev.IsZero():
		return errors.New("checkpoint: numbers begin at 1, and each names the one before")
	case c.Size == 0 || c.Size > most:
		return errors.New("checkpoint of no entries")
	case c.Accounts == 0 || c.Accounts > most:
		return errors.New("checkpoint of no accounts")
	case c.At < 0 || c.At > most:
		return errors.New("checkpoint of no time")
	case c.Sums.Deposited != held:
		return fmt.Errorf("checkpoint: %s deposited, %s held", c.Sums.Deposited.Text(), held.Text())
	}
	return nil
}

// liabilities is the root over all accounts.
func (c Checkpoint) liabilities() Node { return Node{Hash: c.Liabilities, Sums: c.Sums} }

// Origin names the log: one of each operator in each market.
func Origin(m wire.Market, operator identity.Address) string {
	return "souk/" + m.ID.String() + "/" + operator.String()
}

// signatureType is the type of our signature lines in the words of c2sp.org/signed-note: 0xff, and a name that is ours.
const signatureType = "\xffsouk/checkpoint/1"

// Text is the checkpoint as c2sp.org/tlog-checkpoint writes it: origin, size and root in base64, and a line for each other
// field. It says all that the payload says.
func (c Checkpoint) Text(m wire.Market) string {
	lines := []string{
		Origin(m, c.Operator), strconv.FormatUint(c.Size, 10), tlog.Hash(c.Root).String(),
		"number " + strconv.FormatUint(c.Number, 10), "prev " + c.Prev.String(), "accounts " + strconv.FormatUint(c.Accounts, 10),
		"liabilities " + c.Liabilities.String(),
	}
	for i, v := range c.Sums.each() {
		lines = append(lines, sumNames[i]+" "+strconv.FormatInt(int64(*v), 10))
	}
	lines = append(lines, "at "+strconv.FormatInt(int64(c.At), 10), "extension "+c.Extension.String())
	return strings.Join(lines, "\n") + "\n"
}

var sumNames = [7]string{"deposited", "available", "reserved", "payable", "paying", "paid-out", "fees"}

// errText is a text that no checkpoint has.
var errText = errors.New("audit: not the text of a checkpoint")

// ParseText reads what Text wrote for an operator of a market.
func ParseText(m wire.Market, operator identity.Address, text string) (Checkpoint, error) {
	c := Checkpoint{Operator: operator}
	lines := strings.Split(text, "\n")
	if len(lines) != 17 {
		return c, errText
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return c, errText
	}
	c.Root = identity.Hash(root)
	word := func(i int) string { _, w, _ := strings.Cut(lines[i], " "); return w }
	var bad error
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 63)
		bad = errors.Join(bad, err)
		return n
	}
	hash := func(s string) (h identity.Hash) {
		bad = errors.Join(bad, h.UnmarshalText([]byte(s)))
		return h
	}
	c.Size, c.Number, c.Prev, c.Accounts, c.Liabilities = number(lines[1]), number(word(3)), hash(word(4)), number(word(5)), hash(word(6))
	for i, v := range c.Sums.each() {
		*(*int64)(v) = int64(number(word(7 + i)))
	}
	c.At, c.Extension = member.Time(number(word(14))), hash(word(15))
	if bad != nil || c.Text(m) != text {
		return c, errText
	}
	return c, c.Validate()
}

// Note is a signed checkpoint in the format of golang.org/x/mod/sumdb/note: its text, an empty line, and one signature
// line. The signature is the object's own.
func Note(m wire.Market, c Checkpoint, sig identity.Signature) string {
	k := NoteKey{Market: m, Operator: c.Operator}
	b := append(binary.BigEndian.AppendUint32(nil, k.KeyHash()), sig[:]...)
	return c.Text(m) + "\n— " + k.Name() + " " + base64.StdEncoding.EncodeToString(b) + "\n"
}

// A NoteKey verifies notes of one operator; it is a note.Verifier. The key is the operator's address, its name the log's
// origin. A signature is over the object that the note's text stands for, as all that is signed here is.
type NoteKey struct {
	Market   wire.Market
	Operator identity.Address
	Verifier identity.Verifier
}

// Name is the origin of the operator's log.
func (k NoteKey) Name() string { return Origin(k.Market, k.Operator) }

// KeyHash is the id of the key as c2sp.org/signed-note has it.
func (k NoteKey) KeyHash() uint32 {
	h := sha256.Sum256([]byte(k.Name() + "\n" + signatureType + string(k.Operator[:])))
	return binary.BigEndian.Uint32(h[:])
}

// Verify reports whether sig is the operator's over the checkpoint that the text stands for.
func (k NoteKey) Verify(text, sig []byte) bool {
	c, err := ParseText(k.Market, k.Operator, string(text))
	if err != nil || len(sig) != len(identity.Signature{}) {
		return false
	}
	by, err := k.Verifier.Recover(k.Market.Digest(c, wire.Marshal(c)), identity.Signature(sig))
	return err == nil && by == k.Operator
}
