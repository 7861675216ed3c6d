package market

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// billFormat is the first word of a bill's file. A changed layout is a new one.
const billFormat = "souk bill 1"

// Encode is the bill's file: JSON in its one accepted spelling. Every signed object stands on a line of its own, with its
// kind, a sentence on what it says where that is short, its payload and its signature in hex. The head and the
// sentences are for people; VerifyBill recomputes them.
func (b Bill) Encode() []byte { return b.encode(b.decode()) }

func (b Bill) encode(p parts) []byte {
	head, err := json.MarshalIndent(b.summary(p), " ", " ")
	if err != nil {
		panic("market: a bill's head does not encode: " + err.Error())
	}
	w := billWriter{buf: make([]byte, 0, 8192+768*len(b.Usage))}
	w.text("{\n \"format\": \"" + billFormat + "\",\n \"head\": ")
	w.buf = append(w.buf, head...)
	w.one("charter", b.Charter, "")
	w.one("policy", b.Policy, "")
	w.one("host", b.Host, "")
	w.one("consumer", b.Consumer, "")
	w.one("terms", b.Terms, "")
	w.one("cert", b.Cert, "")
	w.list("usage", b.Usage, func(i int) string { return sayUsage(p.usage[i]) })
	w.one("voucher", b.Voucher, sayVoucher(p.voucher))
	if !b.Mandate.IsZero() {
		w.one("mandate", b.Mandate, sayMandate(p.mandate))
		w.text(",\n \"witnesses\": [")
		for i, a := range b.Panel {
			w.text([]string{"", ","}[min(i, 1)] + `"` + a.String() + `"`)
		}
		w.text("]")
	}
	if len(b.Witnessed) > 0 {
		w.list("witnessed", b.Witnessed, func(i int) string { return "minute " + strconv.FormatUint(uint64(p.witnessed[i].Minute), 10) })
	}
	w.list("reservations", b.Reservations, func(i int) string { return sayReservation(p.reservations[i]) })
	w.list("receipts", b.Receipts, func(i int) string { return sayReceipt(p.receipts[i]) })
	w.text("\n}\n")
	return w.buf
}

func sayUsage(u ledger.Usage) string {
	s := "minute " + strconv.FormatUint(uint64(u.First), 10)
	if u.Count > 1 {
		s += " to " + strconv.FormatUint(uint64(u.Last()), 10)
	}
	s += " " + u.Status.String()
	if n := u.Minutes(); n > 0 {
		s += ", " + strconv.FormatInt(n, 10) + " billed as " + u.Basis.String()
	}
	return s + ", owed " + u.Owed().String()
}

func sayVoucher(v ledger.Voucher) string {
	if v.Usage.IsZero() {
		return ""
	}
	return "pay " + v.Total.String() + " as of entry " + strconv.FormatUint(v.Seq, 10)
}

func sayMandate(m ledger.Mandate) string {
	return "pay what witnesses saw, " + strconv.FormatUint(m.MaxUnattended, 10) + " minutes after a voucher and up to " + m.MaxTotal.String() + " in all"
}

func sayReservation(r ledger.Reservation) string {
	return "up to " + r.Cap.String() + " at sequence " + strconv.FormatUint(r.Seq, 10)
}

func sayReceipt(r ledger.SettleReceipt) string {
	s := "paid " + r.Paid.String() + " in all, fee " + r.Fee.String()
	if r.Released {
		s += ", the rest released"
	}
	return s
}

// A billWriter writes the objects of a bill, one a line.
type billWriter struct{ buf []byte }

func (w *billWriter) text(s string) { w.buf = append(w.buf, s...) }

func (w *billWriter) one(name string, o wire.Object, says string) {
	w.text(",\n \"" + name + "\": ")
	if o.IsZero() && o.Sig.IsZero() {
		w.text("null")
		return
	}
	w.object(o, says)
}

func (w *billWriter) list(name string, list []wire.Object, says func(i int) string) {
	w.text(",\n \"" + name + "\": [")
	for i, o := range list {
		if i > 0 {
			w.text(",")
		}
		w.text("\n  ")
		w.object(o, says(i))
	}
	if len(list) > 0 {
		w.text("\n ")
	}
	w.text("]")
}

// object writes one signed object. No text in it ever needs escaping.
func (w *billWriter) object(o wire.Object, says string) {
	w.text(`{"kind":"` + o.Kind.String() + `"`)
	if says != "" {
		w.text(`,"says":"` + says + `"`)
	}
	w.text(`,"payload":"`)
	w.buf = hex.AppendEncode(w.buf, o.Payload)
	w.text(`","signature":"`)
	w.buf = hex.AppendEncode(w.buf, o.Sig[:])
	w.text(`"}`)
}

// billObject is an object as a file has it. Its kind follows from where it stands.
type billObject struct {
	Payload   hexBytes `json:"payload"`
	Signature hexBytes `json:"signature"`
}

// hexBytes are bytes as a file has them.
type hexBytes []byte

// UnmarshalText reads hex digits.
func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.AppendDecode(nil, text)
	*h = b
	return err
}

// object is the signed object. A signature of another length gives none, which no key verifies.
func (o *billObject) object(k wire.Kind) wire.Object {
	if o == nil {
		return wire.Object{}
	}
	out := wire.Object{Kind: k, Payload: o.Payload}
	if len(o.Signature) == len(out.Sig) {
		out.Sig = identity.Signature(o.Signature)
	}
	return out
}

func billObjects(list []billObject, k wire.Kind) []wire.Object {
	out := make([]wire.Object, len(list))
	for i := range list {
		out[i] = list[i].object(k)
	}
	return out
}

// ErrBill is what a file that is no bill is refused with.
var ErrBill = errors.New("market: not a bill")

// DecodeBill reads a file without checking what stands in it, its spelling included.
func DecodeBill(file []byte) (Bill, error) {
	var f struct {
		Format       string             `json:"format"`
		Charter      *billObject        `json:"charter"`
		Policy       *billObject        `json:"policy"`
		Host         *billObject        `json:"host"`
		Consumer     *billObject        `json:"consumer"`
		Terms        *billObject        `json:"terms"`
		Cert         *billObject        `json:"cert"`
		Usage        []billObject       `json:"usage"`
		Voucher      *billObject        `json:"voucher"`
		Reservations []billObject       `json:"reservations"`
		Receipts     []billObject       `json:"receipts"`
		Mandate      *billObject        `json:"mandate"`
		Witnesses    []identity.Address `json:"witnesses"`
		Witnessed    []billObject       `json:"witnessed"`
	}
	if err := json.Unmarshal(file, &f); err != nil {
		return Bill{}, unreadable(file, err)
	}
	if f.Format != billFormat {
		return Bill{}, fmt.Errorf("%w: format %q, want %q", ErrBill, f.Format, billFormat)
	}
	return Bill{
		Charter:      f.Charter.object(wire.KindCharter),
		Policy:       f.Policy.object(wire.KindPolicy),
		Host:         f.Host.object(wire.KindCredential),
		Consumer:     f.Consumer.object(wire.KindCredential),
		Terms:        f.Terms.object(wire.KindTerms),
		Cert:         f.Cert.object(wire.KindCert),
		Usage:        billObjects(f.Usage, wire.KindUsage),
		Voucher:      f.Voucher.object(wire.KindVoucher),
		Reservations: billObjects(f.Reservations, wire.KindReservation),
		Receipts:     billObjects(f.Receipts, wire.KindSettleReceipt),
		Mandate:      f.Mandate.object(wire.KindMandate),
		Panel:        f.Witnesses,
		Witnessed:    billObjects(f.Witnessed, wire.KindReceipt),
	}, nil
}

// unreadable says where JSON ends to be JSON: in which entry of the chain, or in which line.
func unreadable(file []byte, err error) error {
	at := int64(0)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset - 1
	case errors.As(err, &kind):
		at = kind.Offset - 1
	default:
		return fmt.Errorf("%w: %w", ErrBill, err)
	}
	return misspelt(file, int(min(max(at, 0), int64(len(file)))), err)
}

// misspelt names the place of a wrong byte.
func misspelt(file []byte, at int, why error) error {
	line := bytes.Count(file[:at], []byte("\n")) + 1
	open := bytes.Index(file, []byte("\n \"usage\": ["))
	end := bytes.Index(file, []byte("\n \"voucher\": "))
	if open >= 0 && at > open && (end < 0 || at < end) {
		if n := line - (bytes.Count(file[:open], []byte("\n")) + 2); n > 0 {
			return &BadEntry{Entry: n, Err: why}
		}
	}
	return fmt.Errorf("%w: line %d: %w", ErrBill, line, why)
}
