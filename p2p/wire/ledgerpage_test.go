package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

const ledgerPage = "../../docs/protocol/ledger.md"

// A document is a text with headings and tables.
type document struct{ text string }

func openLedgerPage(t *testing.T) document {
	t.Helper()
	b, err := os.ReadFile(ledgerPage)
	if err != nil {
		t.Fatal(err)
	}
	return document{string(b)}
}

// rows are the cells of the first table below a heading, without its head.
func (p document) rows(t *testing.T, heading string) [][]string {
	t.Helper()
	_, below, ok := strings.Cut(p.text, heading)
	_, table, found := strings.Cut(below, "\n|")
	if !ok || !found {
		t.Fatalf("no table below %q", heading)
	}
	table, _, _ = strings.Cut("|"+table, "\n\n")
	var out [][]string
	for _, line := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		out = append(out, cells)
	}
	return out
}

// number is what a cell says.
func number(t *testing.T, cell string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(cell, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// aboutMoney says whether the page owes a section on a message.
func aboutMoney(m wire.Message) bool {
	switch m.(type) {
	case market.Terms, market.Amendment, market.Cert:
		return true
	}
	return strings.HasPrefix(fmt.Sprintf("%T", m), "ledger.")
}

// plainTypes are the page's words for the fields of what is no typed data.
var plainTypes = map[reflect.Kind]string{reflect.Bool: "bool", reflect.String: "text", reflect.Int64: "int", reflect.Uint8: "uint",
	reflect.Uint16: "uint", reflect.Uint64: "uint"}

func plainType(f reflect.Type) string {
	switch f {
	case reflect.TypeFor[wire.ID]():
		return "id"
	case reflect.TypeFor[identity.Hash]():
		return "hash"
	case reflect.TypeFor[identity.Address]():
		return "address"
	case reflect.TypeFor[ledger.Posting]():
		return "posting"
	}
	if f.Kind() == reflect.Slice {
		return "[" + plainType(f.Elem()) + "]"
	}
	return plainTypes[f.Kind()]
}

// fieldRows are the first three cells of a message's table, as the Go type has them.
func fieldRows(t *testing.T, m wire.Message) [][]string {
	t.Helper()
	var rows [][]string
	var walk func(v reflect.Type, number, name string)
	walk = func(v reflect.Type, number, name string) {
		for i := range v.NumField() {
			f := v.Field(i)
			n, rest, _ := strings.Cut(f.Tag.Get("cbor"), ",")
			if rest != "keyasint" {
				t.Fatalf("%v.%s is tagged %q: not a number that is always there", v, f.Name, f.Tag)
			}
			if f.Type.Kind() == reflect.Struct {
				walk(f.Type, number+n+".", name+f.Name+".")
				continue
			}
			rows = append(rows, []string{number + n, "`" + name + f.Name + "`", plainType(f.Type)})
		}
	}
	walk(reflect.TypeOf(m), "", "")
	if typed, ok := m.(wire.TypedMessage); ok {
		_, list := members(typed.Typed().Type())
		if len(list) != len(rows) {
			t.Fatalf("%T has %d fields, its type %d members", m, len(rows), len(list))
		}
		for i, d := range list {
			rows[i][2] = "`" + d.Type + " " + d.Name + "`"
		}
	}
	return rows
}

// TestEveryKindOfMoneyIsOnItsPage compares number, domain, signer and fields of each kind of the money with its section.
func TestEveryKindOfMoneyIsOnItsPage(t *testing.T) {
	p, told := openLedgerPage(t), 0
	for _, s := range samples(t) {
		if !aboutMoney(s.msg) {
			continue
		}
		told++
		name, k := reflect.TypeOf(s.msg).Name(), s.msg.Kind()
		heading := fmt.Sprintf("\n### %s: kind %d, `%s`, signed by `", name, k, k.Domain())
		_, rest, ok := strings.Cut(p.text, heading)
		by, _, _ := strings.Cut(rest, "`")
		if !ok {
			t.Errorf("no section begins with %q", heading[1:])
			continue
		}
		if f := reflect.ValueOf(s.msg).FieldByName(by); !f.IsValid() || f.Interface() != any(s.msg.Signer()) {
			t.Errorf("%s: the page says that %q signs", name, by)
		}
		got, want := p.rows(t, heading), fieldRows(t, s.msg)
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || !slices.Equal(got[i][:3], want[i]) {
				t.Errorf("%s: row %d of the page's table is not that of the code:\n got %q\nwant %q", name, i+1, got[min(i, len(got)-1)], want[min(i, len(want)-1)])
				break
			}
		}
	}
	if n := len(regexp.MustCompile(`(?m)^### .*: kind \d+`).FindAllString(p.text, -1)); n != told {
		t.Errorf("the page has sections on %d kinds, there are %d", n, told)
	}
}

// TestNumbersOfMoneyAreOnItsPage compares the tables of statuses, bases, books, entries and codes with the code.
func TestNumbersOfMoneyAreOnItsPage(t *testing.T) {
	p := openLedgerPage(t)
	for _, c := range []struct {
		heading string
		first   int
		word    func(n int) string
	}{
		{"#### Statuses", 1, func(n int) string { return ledger.Status(n).String() }},
		{"#### Bases", 0, func(n int) string { return ledger.Basis(n).String() }},
		{"#### Kinds of bank entries", 1, func(n int) string { return ledger.EntryKind(n).String() }},
		{"#### Books", 1, func(n int) string { return ledger.Book(n).String() }},
		{"\n## Refusals", 1, func(n int) string { return ledger.Code(n).String() }},
	} {
		rows := p.rows(t, c.heading)
		for i, row := range rows {
			if n := c.first + i; row[0] != strconv.Itoa(n) || row[1] != c.word(n) {
				t.Errorf("%s: row %q, want %d %s", c.heading, row[:2], n, c.word(n))
			}
		}
		if after := c.word(c.first + len(rows)); !strings.HasPrefix(after, "unknown") {
			t.Errorf("%s: %d %s is not there", c.heading, c.first+len(rows), after)
		}
	}
}

// TestStatusesCostWhatThePageSays asks a chain what each status costs, and on which basis it is billed at all.
func TestStatusesCostWhatThePageSays(t *testing.T) {
	tariff := ledger.Tariff{GPU: 1, ZeroGPU: 10, DiskRunning: 100, VolumeRunning: 1000, VolumeStopped: 10_000}
	for i, row := range openLedgerPage(t).rows(t, "#### Statuses") {
		status, sum := ledger.Status(i+1), ledger.Rate(0)
		for _, f := range strings.Split(row[2], " + ") {
			if v := reflect.ValueOf(tariff).FieldByName(f); v.IsValid() {
				sum += ledger.Rate(v.Int())
			}
		}
		if rate, err := tariff.Rate(status); err != nil || rate != sum {
			t.Errorf("%v costs %d, %v; the page says %q", status, rate, err, row[2])
		}
		for basis := ledger.BasisNone; basis <= ledger.BasisStorage; basis++ {
			u := ledger.Usage{Seq: 1, Count: 1, Billable: 1, Status: status, Basis: basis, Start: identity.Hash{1}, Numerator: int64(sum) * 60}
			_, err := ledger.Place{}.Follow(u, identity.Hash{2}, tariff, 60)
			if want := slices.Contains(strings.Split(row[3], ", "), basis.String()); want != (err == nil) || err != nil && !errors.Is(err, ledger.ErrStatusBill) {
				t.Errorf("%v on the basis %v: %v; the page says %q", status, basis, err, row[3])
			}
		}
	}
}

func TestArithmeticIsAsThePageSays(t *testing.T) {
	var m ledger.Meter
	rows := openLedgerPage(t).rows(t, "One lease, entry by entry")
	for _, row := range rows {
		var err error
		if m, err = m.Add(ledger.Rate(number(t, row[0])), number(t, row[1])); err != nil {
			t.Fatal(err)
		}
		if m.Numerator != number(t, row[2]) || int64(m.Owed()) != number(t, row[3]) {
			t.Errorf("after %s × %s: numerator %d, owed %d; the page says %s, %s", row[0], row[1], m.Numerator, m.Owed(), row[2], row[3])
		}
	}
	if b := wire.Marshal(ledger.Usage{}); !bytes.Contains(b, []byte{10, 0xf6, 11}) {
		t.Errorf("no GPUs are not null in %x", b)
	}
}

// TestTheVoucherOnThePageIsTheVectors keeps the voucher that the page goes through byte by byte.
func TestTheVoucherOnThePageIsTheVectors(t *testing.T) {
	const begin, end = "<!-- voucher -->\n", "<!-- end -->"
	before, rest, ok := strings.Cut(openLedgerPage(t).text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place between %q and %q", ledgerPage, begin, end)
	}
	golden(t, ledgerPage, []byte(before+begin+voucherBlock(t)+end+after))
}

func voucherBlock(t *testing.T) string {
	t.Helper()
	m, k := testMarket(), testKey(t)
	i := slices.IndexFunc(samples(t), func(s sample) bool { return s.msg.Kind() == wire.KindVoucher })
	v := samples(t)[i].msg.(ledger.Voucher)
	o, err := wire.Seal(m, k, v)
	if err != nil {
		t.Fatal(err)
	}
	typed := v.Typed()
	_, list := members(typed.Type())
	var b strings.Builder
	b.WriteString("```\n")
	line := func(name string, value any) { fmt.Fprintf(&b, "%-18s %v\n", name, value) }
	line("market", m.ID)
	line("chainId", m.ChainID)
	line("verifyingContract", m.Contract)
	line("domain separator", m.Separator())
	line("", "")
	line("type", typed.Type())
	line("type hash", identity.Keccak([]byte(typed.Type())))
	data := identity.Keccak([]byte(typed.Type()))
	all := data[:]
	for i, f := range flat(reflect.ValueOf(v)) {
		w := word(list[i].Type, f)
		all = append(all, w[:]...)
		line("data "+list[i].Name, hex.EncodeToString(w[:]))
	}
	if identity.Keccak(all) != typed.Hash() {
		t.Fatalf("the struct hash of %x is not %v", all, typed.Hash())
	}
	line("struct hash", typed.Hash())
	digest := m.Digest(v, o.Payload)
	line("digest", digest)
	line("", "")
	by, err := identity.Secp256k1{}.Recover(digest, o.Sig)
	if err != nil {
		t.Fatal(err)
	}
	line("private key", strings.Repeat("46", 32))
	line("signature", hex.EncodeToString(o.Sig[:]))
	line("recovered", by)
	line("", "")
	line("payload", hex.EncodeToString(o.Payload))
	line("ref", o.Ref(m))
	line("object", hex.EncodeToString(wire.Marshal(o)))
	b.WriteString("```\n")
	return regexp.MustCompile(` +\n`).ReplaceAllString(b.String(), "\n")
}

// word is one member of a voucher as the EIP encodes it.
func word(kind string, v reflect.Value) (w [32]byte) {
	switch {
	case v.CanUint():
		binary.BigEndian.PutUint64(w[24:], v.Uint())
	case v.CanInt():
		binary.BigEndian.PutUint64(w[24:], uint64(v.Int()))
	case kind == "address":
		reflect.Copy(reflect.ValueOf(w[12:]), v)
	default:
		reflect.Copy(reflect.ValueOf(w[:]), v)
	}
	return w
}
