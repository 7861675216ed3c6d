package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"souk/ledger"
	"souk/ledger/audit"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

const noon = member.Time(1_800_000_000_000)

func key(n byte) *identity.PrivateKey {
	k, err := identity.ParsePrivateKey(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		panic(err)
	}
	return k
}

func charter() member.Charter {
	return member.Charter{Salt: wire.ID{1}, Name: "bazaar <&> \u00e9", Founded: noon, ChainID: 1, Operators: []identity.PublicKey{key(1).Public()}, Threshold: 1, Slot: 60}
}

// A teller is an operator's bank with its journal, and all entries that it has made.
type teller struct {
	bank    *ledger.Bank
	journal *audit.Journal
	entries []ledger.Entry
	last    audit.Checkpoint
	now     member.Time
	holds   byte
	refs    int
}

func newTeller() *teller {
	return &teller{bank: ledger.NewBank(key(1).Address(), charter()), journal: audit.NewJournal(), now: noon}
}

// account is one of a few members.
func account(n int) identity.Address { return key(byte(2 + n)).Address() }

// act does something with the bank; what that may be is up to the bank.
func (t *teller) act(kind, a, b int, amount ledger.Amount) {
	p := member.DefaultPolicy(key(1).Address(), noon)
	p.Fee = 50_000
	t.now += member.Second
	switch kind {
	case 0:
		t.refs++
		_, _ = t.bank.Deposit(p, account(a), ledger.Amount(p.MinDeposit)+amount, fmt.Sprint("ref ", t.refs), t.now)
	case 1:
		t.holds++
		_, _ = t.bank.Reserve(p, ledger.Reserve{Consumer: account(a), Reservation: wire.ID{t.holds}, Lease: wire.ID{100, t.holds}, Host: account(b),
			By: account(a), Cap: ledger.Credit, MaxRate: ledger.Rate(ledger.Credit), At: t.now}, 0, t.now)
	case 2:
		if open := t.bank.Open(); len(open) > 0 {
			h, _ := t.bank.Hold(open[a%len(open)])
			r := h.Reservation
			u := ledger.Usage{Host: r.Host, Lease: r.Lease, Seq: h.Voucher.Seq + 1, First: member.Minute(30_000_000 + h.Voucher.Seq), Count: 1, Billable: 1,
				Status: ledger.StatusRunning, Basis: ledger.BasisAttended, Numerator: int64(h.Voucher.Total+amount%1000) * 3600}
			v := ledger.Voucher{Reservation: r.ID, Lease: r.Lease, By: r.By, Host: r.Host, Total: u.Owed(), Minute: u.Last(),
				Usage: charter().Market().Ref(wire.KindUsage, wire.Marshal(u)), Seq: u.Seq}
			_, _ = t.bank.Settle(p, v, u, t.now)
		}
	case 3:
		if open := t.bank.Open(); len(open) > 0 {
			h, _ := t.bank.Hold(open[b%len(open)])
			_, _ = t.bank.NoLease(p, ledger.NoLease{Host: h.Reservation.Host, Lease: h.Reservation.Lease, Reservation: h.Reservation.ID, At: t.now}, t.now)
		}
	}
	for _, e := range t.bank.Changes().Entries {
		t.journal.Add(charter().Market(), e)
		t.entries = append(t.entries, e)
	}
}

func (t *teller) draw() audit.Checkpoint {
	t.last = t.journal.Draw(charter().Market(), key(1).Address(), t.last, t.now)
	return t.last
}

// seal signs with the operator's key.
func seal(msg wire.Message) wire.Object {
	o, err := wire.Seal(charter().Market(), key(1), msg)
	if err != nil {
		panic(err)
	}
	return o
}

// statement is that of an account at the last checkpoint.
func (t *teller) statement(a identity.Address) (audit.Statement, bool) {
	l, place, path, ok := t.journal.Owed(a)
	s := audit.Statement{Charter: seal(charter()), Checkpoint: seal(t.last), Leaf: l, Place: place, Path: path}
	for _, e := range t.entries[:t.last.Size] {
		if l.Touches(e) {
			proof, err := t.journal.Prove(t.last.Size, e.Seq-1)
			if err != nil {
				panic(err)
			}
			s.Entries = append(s.Entries, audit.Proven{Entry: seal(e), Proof: proof})
		}
	}
	return s, ok
}

// story has a teller do things.
func story(t *rapid.T, tell *teller, least, most int) {
	for i := range rapid.IntRange(least, most).Draw(t, "steps") {
		kind := rapid.IntRange(0, 3).Draw(t, "kind")
		if i == 0 && len(tell.entries) == 0 {
			kind = 0
		}
		tell.act(kind, rapid.IntRange(0, 5).Draw(t, "a"), rapid.IntRange(0, 5).Draw(t, "b"), ledger.Amount(rapid.IntRange(0, 9_000_000_000).Draw(t, "amount")))
	}
}

func TestJournalSaysWhatTheBankHas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tell := newTeller()
		story(t, tell, 1, 40)
		p := tell.draw()
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		if p.Sums != audit.SumsOf(tell.bank.Totals()) || p.Size != tell.bank.Head().Seq {
			t.Fatalf("got %+v, the bank has %+v after %d entries", p, tell.bank.Totals(), tell.bank.Head().Seq)
		}
		replay := ledger.NewReplay(key(1).Address(), charter())
		for _, e := range tell.entries {
			if err := replay.Follow(e); err != nil {
				t.Fatal(err)
			}
		}
		want := tell.bank.Snapshot()
		if !slices.Equal(replay.Accounts(), want.Accounts) || replay.Head() != want.Head || replay.Totals() != tell.bank.Totals() {
			t.Fatalf("replayed %+v\nwant %+v", replay.Accounts(), want.Accounts)
		}
		for _, a := range want.Accounts {
			l, place, path, ok := tell.journal.Owed(a.Address)
			if !ok || l.Sums != audit.SumsOf(a) {
				t.Fatalf("leaf %+v, the account has %+v", l, a)
			}
			if err := audit.CheckLeaf(l, place, p.Accounts, path, audit.Node{Hash: p.Liabilities, Sums: p.Sums}); err != nil {
				t.Fatal(err)
			}
		}
		// Brought back from its rows, in any order, the journal is the same.
		back := audit.NewJournal()
		for n := p.Size; n > 0; n-- {
			if err := back.Put(n-1, tell.journal.Row(n-1)); err != nil {
				t.Fatal(err)
			}
		}
		var leaves []audit.Leaf
		for i := range tell.journal.Accounts() {
			leaves = append(leaves, tell.journal.Leaf(i))
		}
		if err := errors.Join(back.Check(), back.PutLeaves(leaves)); err != nil {
			t.Fatal(err)
		}
		p.Number--
		again := back.Draw(charter().Market(), p.Operator, audit.Checkpoint{}, p.At)
		if again.Root != p.Root || again.Liabilities != p.Liabilities || again.Sums != p.Sums {
			t.Fatalf("brought back it draws %+v, want %+v", again, p)
		}
	})
}

// rewritten is a history with something done to it: the entries in another form, each with the chain and the sequence made
// good again, so that only what was signed before can tell.
func rewritten(t *rapid.T, entries []ledger.Entry) []ledger.Entry {
	out := slices.Clone(entries)
	i := rapid.IntRange(0, len(out)-1).Draw(t, "where")
	switch rapid.SampledFrom([]string{"change", "drop", "swap", "repeat"}).Draw(t, "how") {
	case "change":
		e := out[i]
		e.Postings = slices.Clone(e.Postings)
		e.Postings[0].Amount++
		e.Postings[1].Amount--
		out[i] = e
	case "drop":
		out = slices.Delete(out, i, i+1)
	case "swap":
		k := rapid.IntRange(0, len(out)-1).Draw(t, "with")
		out[i], out[k] = out[k], out[i]
	case "repeat":
		out = slices.Insert(out, i, out[i])
	}
	prev := identity.Hash{}
	for i := range out {
		out[i].Seq, out[i].Prev = uint64(i+1), prev
		prev = charter().Market().Ref(wire.KindBankEntry, wire.Marshal(out[i]))
	}
	return out
}

func treeOf(entries []ledger.Entry) *audit.Tree {
	t := &audit.Tree{}
	for _, e := range entries {
		t.Append(wire.Marshal(e))
	}
	return t
}

func same(a, b []ledger.Entry) bool {
	return slices.EqualFunc(a, b, func(x, y ledger.Entry) bool { return bytes.Equal(wire.Marshal(x), wire.Marshal(y)) })
}

// A1, A2: whatever is done to a journal that was signed for, whoever holds the earlier checkpoint finds it.
func TestTamperingIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tell := newTeller()
		story(t, tell, 3, 25)
		held := tell.draw()
		false1 := rewritten(t, tell.entries)
		story(t, tell, 0, 10)
		// The operator goes on with the other history, and has what came since behind it.
		grown := slices.Concat(false1, tell.entries[held.Size:])
		if n := int(held.Size); len(grown) >= n && same(grown[:n], tell.entries[:n]) {
			t.Skip("nothing was changed in what was signed")
		}
		tree := treeOf(grown)
		if tree.Size() == 0 {
			return
		}
		root, err := tree.Root(tree.Size())
		if err != nil {
			t.Fatal(err)
		}
		next := held
		next.Number, next.Prev, next.Size, next.Root = held.Number+1, charter().Market().Ref(wire.KindCheckpoint, wire.Marshal(held)), tree.Size(), root
		if audit.Same(charter().Market(), held, next) != nil {
			return // found without asking: a journal that has shrunk, or has the same size
		}
		if next.Size == held.Size {
			t.Fatalf("the same size and another history, and nothing is found: roots %v, %v", held.Root, next.Root)
		}
		proof, err := tree.Extend(next.Size, held.Size)
		if err != nil {
			t.Fatal(err)
		}
		own, err := tree.Root(held.Size)
		if err != nil {
			t.Fatal(err)
		}
		for _, old := range []identity.Hash{own, held.Root} { // it tells the root that it has now, or the one that it has signed
			c := audit.Consistency{Operator: held.Operator, Old: held.Size, OldRoot: old, Size: next.Size, Root: next.Root, Proof: proof}
			err := c.Proves(held, next)
			if !errors.Is(err, audit.ErrConflict) {
				t.Fatalf("another history, and its proof says %v", err)
			}
			e := audit.Evidence{Charter: seal(charter()), Objects: []wire.Object{seal(held), seal(c)}}
			if v, err := e.Verify(identity.Secp256k1{}); err != nil || v.Operator != held.Operator {
				t.Fatalf("evidence: %+v, %v", v, err)
			}
			if _, err := audit.VerifyEvidence(e.Encode(), identity.Secp256k1{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The true journal is never accused.
func TestGrowingJournalIsProven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tell := newTeller()
		var points []audit.Checkpoint
		for range rapid.IntRange(2, 5).Draw(t, "checkpoints") {
			story(t, tell, 1, 12)
			points = append(points, tell.draw())
		}
		for i, a := range points {
			for _, b := range points[i:] {
				c, err := tell.journal.Between(a.Operator, a.Size, b.Size)
				if err == nil {
					err = errors.Join(c.Validate(), c.Proves(a, b), audit.Same(charter().Market(), a, b), audit.Same(charter().Market(), b, a))
				}
				if err != nil {
					t.Fatalf("%d to %d: %v", a.Size, b.Size, err)
				}
			}
		}
		e := audit.Evidence{Charter: seal(charter()), Objects: []wire.Object{seal(points[0]), seal(points[1])}}
		if v, err := e.Verify(identity.Secp256k1{}); err == nil {
			t.Fatalf("an honest operator is convicted: %+v", v)
		}
	})
}

func TestTwoHistoriesAreEvidence(t *testing.T) {
	m := charter().Market()
	tell := newTeller()
	for i := range 9 {
		tell.act(0, i, i, ledger.Amount(i))
	}
	first := tell.draw()
	tell.act(0, 1, 1, 5)
	a := tell.draw()
	for name, change := range map[string]func(*audit.Checkpoint){
		"another root":       func(c *audit.Checkpoint) { c.Root[0] ^= 1 },
		"other balances":     func(c *audit.Checkpoint) { c.Sums.Available++; c.Sums.Deposited++ },
		"another number":     func(c *audit.Checkpoint) { c.Number++; c.Root[0] ^= 1 },
		"other accounts":     func(c *audit.Checkpoint) { c.Number++; c.Liabilities[0] ^= 1 },
		"an earlier number":  func(c *audit.Checkpoint) { c.Number--; c.Prev = identity.Hash{} },
		"a shorter journal":  func(c *audit.Checkpoint) { c.Number += 5; c.Size-- },
		"another one before": func(c *audit.Checkpoint) { c.Number++; c.Size++ },
	} {
		b := a
		change(&b)
		if err := audit.Same(m, a, b); !errors.Is(err, audit.ErrConflict) {
			t.Errorf("%s: got %v", name, err)
		}
		e := audit.Evidence{Charter: seal(charter()), Objects: []wire.Object{seal(a), seal(b)}}
		if name == "an earlier number" {
			e.Objects[0] = seal(first)
		}
		file := e.Encode()
		v, err := audit.VerifyEvidence(file, identity.Secp256k1{})
		if err != nil || v.Operator != key(1).Address() || v.What == "" {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
		for i := 0; i < len(file) && name == "another root"; i++ {
			bad := bytes.Clone(file)
			bad[i] ^= 1
			if v, err := audit.VerifyEvidence(bad, memo); err == nil {
				t.Fatalf("%s: evidence verifies with byte %d changed: %+v", name, i, v)
			}
		}
	}
}

// memo verifies the signatures of a test, each once.
var memo = remembering{m: map[[97]byte]identity.Address{}}

type remembering struct{ m map[[97]byte]identity.Address }

func (r remembering) Recover(d identity.Hash, sig identity.Signature) (identity.Address, error) {
	var k [97]byte
	copy(k[:], d[:])
	copy(k[32:], sig[:])
	if a, ok := r.m[k]; ok {
		return a, nil
	}
	a, err := identity.Secp256k1{}.Recover(d, sig)
	if err == nil {
		r.m[k] = a
	}
	return a, err
}

// A3: a statement verifies as it is, and not without an entry, with another's, or with a byte changed.
func TestStatementIsWholeOrNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tell := newTeller()
		story(t, tell, 3, 20)
		tell.draw()
		story(t, tell, 0, 5) // what comes after the checkpoint is not in it
		for n := range 6 {
			a := account(n)
			s, ok := tell.statement(a)
			if !ok {
				continue
			}
			sum, err := audit.VerifyStatement(s.Encode(), memo)
			if err != nil || sum.Account != a || sum.Sums != s.Leaf.Sums {
				t.Fatalf("%+v, %v", sum, err)
			}
			bad := s
			bad.Entries = slices.Clone(s.Entries)
			i := rapid.IntRange(0, len(s.Entries)-1).Draw(t, "entry")
			switch rapid.IntRange(0, 4).Draw(t, "how") {
			case 0:
				bad.Entries = slices.Delete(bad.Entries, i, i+1)
			case 1:
				bad.Entries = slices.Insert(bad.Entries, i, s.Entries[i])
			case 2:
				bad.Leaf.Sums.Available++
			case 3:
				bad.Leaf.Account = account((n + 1) % 6)
			case 4:
				bad.Place++
			}
			if sum, err := bad.Verify(memo); err == nil {
				t.Fatalf("it verifies: %+v", sum)
			}
		}
	})
}

func TestOneChangedByteIsFound(t *testing.T) {
	tell := newTeller()
	for i := range 7 {
		tell.act(0, i%3, 0, ledger.Amount(i))
	}
	tell.draw()
	s, _ := tell.statement(account(1))
	file := s.Encode()
	if _, err := audit.VerifyStatement(file, memo); err != nil {
		t.Fatal(err)
	}
	for i := range file {
		for _, flip := range []byte{1, 0x20} {
			bad := bytes.Clone(file)
			bad[i] ^= flip
			if sum, err := audit.VerifyStatement(bad, memo); err == nil {
				t.Fatalf("byte %d of %d changed (%q): it verifies: %+v", i, len(file), file[max(0, i-20):min(len(file), i+20)], sum)
			}
		}
	}
}

// A4: nobody can be left out of the sums: a path with a negative or another neighbour is refused.
func TestSumsHoldEveryLeaf(t *testing.T) {
	for n := 1; n <= 20; n++ {
		var tree audit.Liabilities
		var leaves []audit.Leaf
		for i := range n {
			l := audit.Leaf{Account: identity.Address{byte(i + 1)}, Sums: audit.Sums{Deposited: 7, Available: ledger.Amount(i), Fees: 7}, Entries: 1}
			leaves = append(leaves, l)
			if err := tree.Put(i, l); err != nil {
				t.Fatal(err)
			}
		}
		leaves[n/2].Sums.Available += 100
		if err := tree.Put(n/2, leaves[n/2]); err != nil {
			t.Fatal(err)
		}
		root := tree.Root()
		if want := ledger.Amount(n*(n-1)/2 + 100); root.Sums.Available != want || root.Sums.Deposited != ledger.Amount(7*n) {
			t.Fatalf("%d leaves: root %+v", n, root)
		}
		for i, want := range leaves {
			l, path := tree.Prove(i)
			if l != want {
				t.Fatalf("leaf %d: %+v", i, l)
			}
			check := func() error { return audit.CheckLeaf(l, uint64(i), uint64(n), path, root) }
			if err := check(); err != nil {
				t.Fatalf("leaf %d of %d: %v", i, n, err)
			}
			if audit.CheckLeaf(l, uint64(i), uint64(n)*2+1, path, root) == nil || audit.CheckLeaf(l, uint64(i), uint64(n), append(path, root), root) == nil {
				t.Fatalf("leaf %d of %d verifies in another tree", i, n)
			}
			for k := range path {
				keep := path[k]
				path[k].Sums.Available = -path[k].Sums.Available - 1
				if check() == nil {
					t.Fatalf("leaf %d of %d verifies beside a negative sum", i, n)
				}
				path[k] = keep
			}
			l.Sums.Available++
			if check() == nil {
				t.Fatalf("leaf %d of %d verifies with another balance", i, n)
			}
		}
	}
}

// A bank that owes less by owing somebody less than nothing has no sum.
func TestNoBalanceIsNegative(t *testing.T) {
	var tree audit.Liabilities
	if err := tree.Put(0, audit.Leaf{Account: identity.Address{1}, Sums: audit.Sums{Deposited: 5, Available: 5}}); err != nil {
		t.Fatal(err)
	}
	if err := tree.Put(1, audit.Leaf{Account: identity.Address{2}, Sums: audit.Sums{Deposited: -3, Available: -3}}); err == nil {
		t.Fatalf("root %+v", tree.Root())
	}
	for _, s := range []audit.Sums{{Deposited: -1, Available: -1}, {Available: 3, Fees: -3}, {Deposited: 5, Available: 4}, {Available: 1<<63 - 1, Fees: 1, Deposited: -1 << 63}} {
		c := audit.Checkpoint{Number: 1, Size: 1, Accounts: 1, Sums: s}
		if err := c.Validate(); err == nil {
			t.Errorf("a checkpoint of %+v", s)
		}
	}
}

// A bank whose accounts are those of one journal and whose root is of another cannot prove an entry.
func TestEntriesMustBeInTheJournal(t *testing.T) {
	told, kept := newTeller(), newTeller()
	for i := range 5 {
		told.act(0, i%2, 0, 5)
		kept.act(0, i%2, 0, ledger.Amount(5+i))
	}
	told.draw()
	good, _ := told.statement(account(0))
	if _, err := good.Verify(memo); err != nil {
		t.Fatal(err)
	}
	c := told.last
	c.Root = kept.draw().Root
	bad := good
	bad.Checkpoint = seal(c)
	for i := range bad.Entries {
		proof, err := kept.journal.Prove(c.Size, uint64(2*i))
		if err != nil {
			t.Fatal(err)
		}
		bad.Entries[i].Proof = proof
	}
	if sum, err := bad.Verify(memo); err == nil {
		t.Fatalf("it verifies: %+v", sum)
	}
}

// The text form is a signed note to golang.org/x/mod/sumdb/note.
func TestCheckpointIsASignedNote(t *testing.T) {
	tell := newTeller()
	tell.act(0, 1, 1, 5)
	tell.draw()
	tell.act(0, 2, 2, 6)
	p, m := tell.draw(), charter().Market()
	text := audit.Note(m, p, seal(p).Sig)
	k := audit.NoteKey{Market: m, Operator: p.Operator, Verifier: identity.Secp256k1{}}
	n, err := note.Open([]byte(text), note.VerifierList(k))
	if err != nil || n.Text != p.Text(m) || len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		t.Fatalf("%+v, %v\n%s", n, err, text)
	}
	if back, err := audit.ParseText(m, p.Operator, n.Text); err != nil || back != p {
		t.Fatalf("%+v, %v", back, err)
	}
	for i := range text {
		bad := []byte(text)
		bad[i] ^= 1
		if n, err := note.Open(bad, note.VerifierList(k)); err == nil {
			t.Fatalf("byte %d changed: it opens: %+v", i, n)
		}
	}
}

func TestReplayRefusesAnotherOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tell := newTeller()
		story(t, tell, 3, 20)
		i := rapid.IntRange(0, len(tell.entries)-1).Draw(t, "where")
		for name, list := range map[string][]ledger.Entry{
			"dropped":  slices.Delete(slices.Clone(tell.entries), i, i+1),
			"repeated": slices.Insert(slices.Clone(tell.entries), i, tell.entries[i]),
			"changed": func() []ledger.Entry {
				out := slices.Clone(tell.entries)
				out[i].At++
				return out
			}(),
		} {
			replay := ledger.NewReplay(key(1).Address(), charter())
			var err error
			for _, e := range list {
				if err = replay.Follow(e); err != nil {
					break
				}
			}
			if err == nil && replay.Head() == tell.bank.Head() {
				t.Fatalf("%s: entry %d, and the replay ends where the bank does", name, i+1)
			}
			if err != nil && !errors.Is(err, ledger.ErrReplay) {
				t.Fatal(err)
			}
		}
	})
}

// FuzzFile reads anything as a file: no panic, and what verifies is what was exported.
func FuzzFile(f *testing.F) {
	tell := newTeller()
	tell.act(0, 1, 1, 5)
	p := tell.draw()
	s, _ := tell.statement(account(1))
	other := p
	other.Root[0] ^= 1
	evidence := audit.Evidence{Charter: seal(charter()), Objects: []wire.Object{seal(p), seal(other)}}.Encode()
	f.Add(s.Encode())
	f.Add(evidence)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, file []byte) {
		audit.Format(file)
		if _, err := audit.VerifyStatement(file, identity.Secp256k1{}); err == nil && !bytes.Equal(file, s.Encode()) {
			t.Fatalf("%q verifies", file)
		}
		if _, err := audit.VerifyEvidence(file, identity.Secp256k1{}); err == nil && !bytes.Equal(file, evidence) {
			t.Fatalf("%q verifies", file)
		}
	})
}

// FuzzText reads anything as the text of a checkpoint: what is read has that one spelling.
func FuzzText(f *testing.F) {
	tell := newTeller()
	tell.act(0, 1, 1, 5)
	m := charter().Market()
	f.Add(tell.draw().Text(m))
	f.Add("\n\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := audit.ParseText(m, key(1).Address(), text)
		if err == nil && c.Text(m) != text {
			t.Fatalf("%q is read and written %q", text, c.Text(m))
		}
	})
}

// crowd is a journal with many accounts, and an entry that follows.
func crowd(n int) (*audit.Journal, func()) {
	j, m := audit.NewJournal(), charter().Market()
	add := func(a identity.Address) {
		j.Add(m, ledger.Entry{Operator: key(1).Address(), Seq: j.Size() + 1, At: noon, Entry: ledger.EntryDeposit, Postings: []ledger.Posting{
			{Account: a, Book: ledger.BookExternal, Amount: -1}, {Account: a, Book: ledger.BookAvailable, Amount: 1}}})
	}
	for i := range n {
		add(identity.Address{1, byte(i), byte(i >> 8), byte(i >> 16)})
	}
	return j, func() { add(identity.Address{1, byte(j.Size() % uint64(n))}) }
}

// What an entry and a checkpoint cost with few accounts and with many.
func BenchmarkEntryAndCheckpoint(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			j, add := crowd(n)
			last := j.Draw(charter().Market(), key(1).Address(), audit.Checkpoint{}, noon)
			for b.Loop() {
				add()
				last = j.Draw(charter().Market(), key(1).Address(), last, noon)
			}
		})
	}
}
