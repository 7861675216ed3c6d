package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"souk/ledger"
	"souk/ledger/audit"
	"souk/node/api/apitest"
	"souk/node/core/observer"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A till is a small bank: its charter, its journal, and its checkpoints.
type till struct {
	t       *testing.T
	key     *identity.PrivateKey
	charter member.Charter
	journal *audit.Journal
	entries []ledger.Entry
	last    audit.Checkpoint
}

func newTill(t *testing.T) *till {
	k, err := identity.ParsePrivateKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	c := member.Charter{Salt: wire.ID{1}, Name: "bazaar", Founded: noon, ChainID: 1, Operators: []identity.PublicKey{k.Public()}, Threshold: 1, Testnet: true, Slot: 5}
	return &till{t: t, key: k, charter: c, journal: audit.NewJournal()}
}

func (b *till) seal(m wire.Message) wire.Object {
	b.t.Helper()
	o, err := wire.Seal(b.charter.Market(), b.key, m)
	if err != nil {
		b.t.Fatal(err)
	}
	return o
}

// deposits enters a deposit.
func (b *till) deposits(a identity.Address, amount ledger.Amount) {
	e := ledger.Entry{Operator: b.key.Address(), Seq: uint64(len(b.entries)) + 1, At: noon, Entry: ledger.EntryDeposit, Postings: []ledger.Posting{
		{Account: a, Book: ledger.BookExternal, Amount: -amount}, {Account: a, Book: ledger.BookAvailable, Amount: amount}}}
	if n := len(b.entries); n > 0 {
		e.Prev = b.charter.Market().Ref(wire.KindBankEntry, wire.Marshal(b.entries[n-1]))
	}
	b.journal.Add(b.charter.Market(), e)
	b.entries = append(b.entries, e)
}

func (b *till) draw() audit.Checkpoint {
	b.last = b.journal.Draw(b.charter.Market(), b.key.Address(), b.last, noon)
	return b.last
}

// statement is that of an account.
func (b *till) statement(a identity.Address) audit.Statement {
	b.t.Helper()
	l, place, path, _ := b.journal.Owed(a)
	s := audit.Statement{Charter: b.seal(b.charter), Checkpoint: b.seal(b.last), Leaf: l, Place: place, Path: path}
	for _, e := range b.entries {
		if l.Touches(e) {
			proof, err := b.journal.Prove(b.last.Size, e.Seq-1)
			if err != nil {
				b.t.Fatal(err)
			}
			s.Entries = append(s.Entries, audit.Proven{Entry: b.seal(e), Proof: proof})
		}
	}
	return s
}

func TestBalanceIsProvenAndVerifiesOffline(t *testing.T) {
	b := newTill(t)
	for i := range 5 {
		b.deposits([]identity.Address{aUser, aHost}[i%2], 25*ledger.Credit)
	}
	b.draw()
	n := fakeMarket()
	dir := fakeHome(t, n)
	good := b.statement(aUser)
	apitest.Say[observer.Prove](n, good)
	file := filepath.Join(dir, "proof.json")
	out, errs, code := call(t, dir, "", "balance", "--prove", "-f", file)
	if code != 0 || !strings.Contains(out, "75.000000000 $") || !strings.Contains(out, "3 of this account, each proven") || !strings.Contains(errs, "ledger verify") {
		t.Fatalf("exit %d\n%s\n%s", code, out, errs)
	}
	again, errs, code := call(t, t.TempDir(), "", "ledger", "verify", file, "--offline")
	if code != 0 || again != out {
		t.Fatalf("exit %d\n%s\n%s", code, again, errs)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		if i%17 != 0 && i > 40 && i < len(whole)-3 { // the package's own test changes every byte
			continue
		}
		bad := bytes.Clone(whole)
		bad[i] ^= 1
		if out, errs, code := call(t, dir, string(bad), "ledger", "verify", "-", "--offline"); code != int(step.ProblemVerify) || out != "" {
			t.Fatalf("byte %d changed: exit %d\n%s\n%s", i, code, out, errs)
		}
	}
	if _, errs, code := call(t, dir, "", "ledger", "verify", "/no/such/file"); code != int(step.ProblemNotFound) {
		t.Errorf("no file: exit %d: %s", code, errs)
	}
	// A bank that leaves an entry out proves nothing.
	good.Entries = good.Entries[1:]
	apitest.Say[observer.Prove](n, good)
	if out, errs, code := call(t, dir, "", "balance", "--prove"); code != int(step.ProblemVerify) || out != "" {
		t.Errorf("exit %d\n%s\n%s", code, out, errs)
	}
}

func TestEvidenceIsShownAndVerifiesOffline(t *testing.T) {
	b := newTill(t)
	b.deposits(aUser, 25*ledger.Credit)
	c := b.draw()
	n := fakeMarket()
	dir := fakeHome(t, n)
	apitest.Say[observer.Evident](n, []audit.Evidence{})
	held := observer.Audited{Operator: c.Operator, State: "proven", Checkpoint: &c, Note: audit.Note(b.charter.Market(), c, b.seal(c).Sig)}
	apitest.Say[observer.Audits](n, []observer.Audited{held})
	if out, errs, code := call(t, dir, "", "ledger", "evidence"); code != 0 || out != "" || !strings.Contains(errs, "no evidence") {
		t.Errorf("exit %d\n%s\n%s", code, out, errs)
	}
	file := filepath.Join(dir, "evidence.json")
	if _, _, code := call(t, dir, "", "ledger", "evidence", "--file", file); code != int(step.ProblemNotFound) {
		t.Errorf("nothing to write: exit %d", code)
	}
	if out, errs, code := call(t, dir, "", "ledger", "checkpoint"); code != 0 || out != held.Note || !strings.HasPrefix(errs, "checkpoint 1 of ") {
		t.Errorf("exit %d\n%s\n%s", code, out, errs)
	}
	if out, _, code := call(t, dir, "", "status"); code != 0 || !strings.Contains(out, "checkpoint 1 of ") {
		t.Errorf("status: exit %d\n%s", code, out)
	}

	other := c
	other.Root[0] ^= 1
	apitest.Say[observer.Evident](n, []audit.Evidence{{Charter: b.seal(b.charter), Objects: []wire.Object{b.seal(c), b.seal(other)}}})
	held.State, held.What = "false", "audit: the operator contradicts itself"
	apitest.Say[observer.Audits](n, []observer.Audited{held})
	if out, errs, code := call(t, dir, "", "ledger", "evidence"); code != 0 || !strings.Contains(out, c.Operator.String()) || !strings.Contains(out, "two checkpoints have number 1") {
		t.Errorf("exit %d\n%s\n%s", code, out, errs)
	}
	if out, _, code := call(t, dir, "", "status"); code != 0 || !strings.Contains(out, "PROVEN FALSE") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	if _, errs, code := call(t, dir, "", "ledger", "evidence", "--file", file); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if out, errs, code := call(t, t.TempDir(), "", "ledger", "verify", file, "--offline"); code != 0 || !strings.Contains(out, "two checkpoints have number 1") {
		t.Errorf("exit %d\n%s\n%s", code, out, errs)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, code := call(t, dir, strings.Replace(string(whole), "number 1\\n", "number 2\\n", 1), "ledger", "verify", "-"); code != int(step.ProblemVerify) {
		t.Errorf("changed: exit %d", code)
	}
}
