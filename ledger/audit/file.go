package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// The first words of the files. A changed layout is a new one.
const (
	StatementFormat = "souk statement 1"
	EvidenceFormat  = "souk evidence 1"
)

// ErrFile is a file that is not what it should be.
var ErrFile = errors.New("audit: not a statement or evidence as it was exported")

// hexBytes are bytes as a file has them.
type hexBytes []byte

// MarshalText gives hex digits.
func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText reads hex digits.
func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.AppendDecode(nil, text)
	*h = b
	return err
}

// fileObject is a signed object as a file has it.
type fileObject struct {
	Kind      string          `json:"kind"`
	Says      string          `json:"says,omitempty"` // for people
	Payload   hexBytes        `json:"payload"`
	Signature hexBytes        `json:"signature"`
	Proof     []identity.Hash `json:"proof,omitempty"`
}

func toFile(o wire.Object, says string) fileObject {
	return fileObject{Kind: o.Kind.String(), Says: says, Payload: o.Payload, Signature: o.Sig[:]}
}

// object is the signed object, of one of the kinds given. A signature of another length gives none, which no key verifies.
func (f fileObject) object(kinds ...wire.Kind) wire.Object {
	out := wire.Object{Payload: f.Payload}
	for _, k := range kinds {
		if k.String() == f.Kind {
			out.Kind = k
		}
	}
	if len(f.Signature) == len(out.Sig) {
		out.Sig = identity.Signature(f.Signature)
	}
	return out
}

type statementFile struct {
	Format     string       `json:"format"`
	Head       Summary      `json:"head"`
	Charter    fileObject   `json:"charter"`
	Checkpoint fileObject   `json:"checkpoint"`
	Note       string       `json:"note"` // the checkpoint as a signed note
	Leaf       Leaf         `json:"leaf"`
	Place      uint64       `json:"place"`
	Path       []Node       `json:"path"`
	Entries    []fileObject `json:"entries"`
}

// Encode is the statement's file: JSON in its one accepted spelling. The head, the note and the sentences are for people;
// VerifyStatement makes them again.
func (s Statement) Encode() []byte {
	c, _ := wire.Decode[member.Charter](s.Charter)
	p, _ := wire.Decode[Checkpoint](s.Checkpoint)
	f := statementFile{
		Format: StatementFormat, Head: s.summary(c, p), Charter: toFile(s.Charter, ""), Checkpoint: toFile(s.Checkpoint, ""),
		Note: Note(c.Market(), p, s.Checkpoint.Sig), Leaf: s.Leaf, Place: s.Place, Path: s.Path, Entries: []fileObject{},
	}
	if f.Path == nil {
		f.Path = []Node{}
	}
	for _, e := range s.Entries {
		o := toFile(e.Entry, sayEntry(e.Entry, s.Leaf.Account))
		o.Proof = e.Proof
		f.Entries = append(f.Entries, o)
	}
	return spell(f)
}

func spell(v any) []byte {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		panic("audit: a file does not encode: " + err.Error())
	}
	return append(b, '\n')
}

// sayEntry says what an entry did to an account.
func sayEntry(o wire.Object, a identity.Address) string {
	e, err := wire.Decode[ledger.Entry](o)
	if err != nil {
		return ""
	}
	s := "entry " + strconv.FormatUint(e.Seq, 10) + ", " + e.At.String() + ", " + e.Entry.String()
	for _, p := range e.Postings {
		if p.Account == a {
			s += ", " + p.Book.String() + " " + p.Amount.String()
		}
	}
	return s
}

// DecodeStatement reads a file without checking what stands in it, its spelling included.
func DecodeStatement(file []byte) (Statement, error) {
	var f statementFile
	if err := json.Unmarshal(file, &f); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrFile, err)
	}
	s := Statement{Charter: f.Charter.object(wire.KindCharter), Checkpoint: f.Checkpoint.object(wire.KindCheckpoint), Leaf: f.Leaf, Place: f.Place, Path: f.Path}
	for _, e := range f.Entries {
		s.Entries = append(s.Entries, Proven{e.object(wire.KindBankEntry), e.Proof})
	}
	return s, nil
}

// VerifyStatement checks a statement's file with nothing but the file: all that Verify checks, and that the file is the
// one spelling of it, so that no byte of it can change.
func VerifyStatement(file []byte, v identity.Verifier) (Summary, error) {
	s, err := DecodeStatement(file)
	if err != nil {
		return Summary{}, err
	}
	sum, err := s.Verify(v)
	if err != nil {
		return Summary{}, err
	}
	return sum, sameSpelling(s.Encode(), file)
}

func sameSpelling(want, got []byte) error {
	if bytes.Equal(want, got) {
		return nil
	}
	n := 0
	for n < min(len(want), len(got)) && want[n] == got[n] {
		n++
	}
	return fmt.Errorf("%w: line %d", ErrFile, bytes.Count(want[:n], []byte("\n"))+1)
}

type evidenceFile struct {
	Format  string       `json:"format"`
	Head    Verdict      `json:"head"`
	Charter fileObject   `json:"charter"`
	Objects []fileObject `json:"objects"`
}

// Encode is the file of evidence, in its one accepted spelling.
func (e Evidence) Encode() []byte {
	c, _ := wire.Decode[member.Charter](e.Charter)
	m := c.Market()
	f := evidenceFile{Format: EvidenceFormat, Head: Verdict{Market: m.ID, Name: c.Name, Testnet: c.Testnet}, Charter: toFile(e.Charter, ""), Objects: []fileObject{}}
	if what := Convicts(m, e.Objects); what != nil {
		f.Head.What = what.Error()
	}
	for _, o := range e.Objects {
		says := ""
		if p, err := wire.Decode[Checkpoint](o); err == nil {
			says, f.Head.Operator = Note(m, p, o.Sig), p.Operator
		} else if p, err := wire.Decode[Consistency](o); err == nil {
			f.Head.Operator = p.Operator
			says = fmt.Sprintf("from %d entries with root %v to %d entries with root %v", p.Old, p.OldRoot, p.Size, p.Root)
		}
		f.Objects = append(f.Objects, toFile(o, says))
	}
	return spell(f)
}

// VerifyEvidence checks a file of evidence with nothing but the file.
func VerifyEvidence(file []byte, v identity.Verifier) (Verdict, error) {
	var f evidenceFile
	if err := json.Unmarshal(file, &f); err != nil {
		return Verdict{}, fmt.Errorf("%w: %w", ErrFile, err)
	}
	e := Evidence{Charter: f.Charter.object(wire.KindCharter)}
	for _, o := range f.Objects {
		e.Objects = append(e.Objects, o.object(wire.KindCheckpoint, wire.KindConsistency))
	}
	verdict, err := e.Verify(v)
	if err != nil {
		return Verdict{}, err
	}
	return verdict, sameSpelling(e.Encode(), file)
}

// Format is the first word of a file; empty where it is neither a statement nor evidence.
func Format(file []byte) string {
	var f struct {
		Format string `json:"format"`
	}
	if json.Unmarshal(file, &f) != nil || f.Format != StatementFormat && f.Format != EvidenceFormat {
		return ""
	}
	return f.Format
}
