package operator

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"souk/ledger"
	"souk/ledger/audit"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// An auditor is what the bank proves itself with: its journal as a transparency log, and the checkpoints of it. The hashes
// and leaves are rows, and all of them in memory too: 64 bytes for each entry that the bank ever made, and for each account
// three copies of its leaf. At the start the log is read from its rows; the tree over the accounts is computed again.
type auditor struct {
	journal *audit.Journal
	tree    *treeRows
	leaves  *step.Map[identity.Address, leafRow]
	last    *step.Cell[audit.Checkpoint]
	drawn   uint64 // number of the checkpoint that the journal's Owed speaks of; 0: of none, it was loaded with what came later
}

// A leafRow is the row of an account's leaf, as it is now.
type leafRow struct {
	Leaf  audit.Leaf `cbor:"1,keyasint"`
	Place uint64     `cbor:"2,keyasint"`
}

func newAuditor() auditor {
	j := audit.NewJournal()
	return auditor{
		journal: j, tree: &treeRows{journal: j}, leaves: step.ByAddress[leafRow](table.Liability), last: step.NewCell[audit.Checkpoint]("bank-checkpoint"),
	}
}

func (a *auditor) keepers() []step.Keeper { return []step.Keeper{a.tree, a.leaves, a.last} }

// treeRows keeps the hashes of the log: one row for each entry, which never changes.
type treeRows struct {
	journal *audit.Journal
	kept    uint64
}

func treeKey(n uint64) []byte { return table.Key(table.BankTree, table.Uint64(n)) }

// Load implements step.Keeper.
func (t *treeRows) Load(key, value []byte) (bool, error) {
	if len(key) == 0 || table.Table(key[0]) != table.BankTree {
		return false, nil
	}
	if err := table.Check(key); err != nil {
		return true, err
	}
	var row []byte
	if err := wire.Load(value, &row); err != nil {
		return true, err
	}
	t.kept++
	return true, t.journal.Put(table.Number(table.Field(key, 0))-1, row)
}

// Flush implements step.Keeper.
func (t *treeRows) Flush(rows []step.Row) []step.Row {
	rows = t.from(rows, t.kept)
	t.kept = t.journal.Size()
	return rows
}

// Rows implements step.Keeper.
func (t *treeRows) Rows(rows []step.Row) []step.Row { return t.from(rows, 0) }

func (t *treeRows) from(rows []step.Row, n uint64) []step.Row {
	for ; n < t.journal.Size(); n++ {
		rows = append(rows, step.Row{Key: treeKey(n + 1), Value: wire.Marshal(t.journal.Row(n))})
	}
	return rows
}

// restore makes the journal of its rows, and compares it with the bank's.
func (a *auditor) restore(head ledger.Head) error {
	if err := a.journal.Check(); err != nil {
		return err
	}
	if n := a.journal.Size(); n != head.Seq {
		return fmt.Errorf("the bank has made %d entries, and its tree has %d", head.Seq, n)
	}
	rows := make([]leafRow, 0, a.leaves.Len())
	for _, k := range a.leaves.Keys() {
		rows = append(rows, *a.leaves.Get(k))
	}
	slices.SortFunc(rows, func(x, y leafRow) int { return cmp.Compare(x.Place, y.Place) })
	leaves := make([]audit.Leaf, len(rows))
	for i, r := range rows {
		if r.Place != uint64(i) {
			return fmt.Errorf("an account has place %d among %d", r.Place, len(rows))
		}
		leaves[i] = r.Leaf
	}
	if last := a.last.Get(); last.Size == a.journal.Size() {
		a.drawn = last.Number
	}
	return a.journal.PutLeaves(leaves)
}

// compare tells whether the leaves are the accounts.
func (a *auditor) compare(b *ledger.Bank) error {
	for i := range a.journal.Accounts() {
		l := a.journal.Leaf(i)
		if l.Sums != audit.SumsOf(b.Account(l.Account)) {
			return fmt.Errorf("operator: the entries of %v add up to %+v, its account is %+v", l.Account, l.Sums, b.Account(l.Account))
		}
	}
	if a.journal.Size() != b.Head().Seq {
		return errors.New("operator: the tree has not all entries")
	}
	return nil
}

// AccountEntryKey is the key of the log row of the n-th entry of an account, from 1. The row is the entry itself.
func AccountEntryKey(a identity.Address, n uint64) []byte {
	return table.Key(table.AccountEntry, a[:], table.Uint64(n))
}

// record enters a new entry of the bank into the log and into the accounts that it touches.
func (o *Operator) record(ctx *step.Context, e ledger.Entry, obj wire.Object) {
	j := o.audit.journal
	for _, i := range j.Add(ctx.Market, e) {
		l := j.Leaf(i)
		o.audit.leaves.Put(l.Account, leafRow{l, uint64(i)})
		ctx.Put(AccountEntryKey(l.Account, l.Entries), obj)
	}
}

// checkpoint draws the next checkpoint if anything has happened since the last one, claims its place, and makes it known.
func (o *Operator) checkpoint(ctx *step.Context) {
	a := &o.audit
	last := *a.last.Get()
	if a.journal.Size() == last.Size {
		return
	}
	c := a.journal.Draw(ctx.Market, ctx.Self, last, ctx.Now)
	o.enact(ctx, []byte("checkpoint"), c.Number, c)
	a.last.Put(c)
	a.drawn = c.Number
}

// tickAudit draws a checkpoint in each hour in which there is something new. It returns when the next is due.
func (o *Operator) tickAudit(ctx *step.Context) member.Time {
	a := &o.audit
	due := func() member.Time {
		if !a.last.IsSet() {
			return ctx.Now
		}
		return ctx.Clock.Tick((ctx.Clock.Minute(a.last.Get().At)/member.HourMinutes + 1) * member.HourMinutes)
	}
	if ctx.Now >= due() {
		o.checkpoint(ctx)
	}
	if a.journal.Size() == a.last.Get().Size {
		return ctx.Now + member.Hour
	}
	return due()
}

// serveAudit answers what members ask to check the bank. It reports false for other requests.
func (o *Operator) serveAudit(ctx *step.Context, r step.Request) bool {
	var err error
	switch r.Op {
	case step.OpCheckpoint:
		err = o.newest(ctx, r)
	case step.OpConsistency:
		err = o.consistent(ctx, r)
	case step.OpEntries:
		err = o.entriesOf(ctx, r)
	case step.OpProve:
		err = o.prove(ctx, r)
	case step.OpOwed:
		err = o.owed(ctx, r)
	default:
		return false
	}
	if err != nil {
		ctx.Refuse(r.ID, refusal(err))
	}
	return true
}

// newest answers with a checkpoint of now; within a minute of the last one with that.
func (o *Operator) newest(ctx *step.Context, r step.Request) error {
	a := &o.audit
	if a.drawn == 0 || ctx.Now >= a.last.Get().At+ctx.Clock.Slot {
		o.checkpoint(ctx)
	}
	if !a.last.IsSet() {
		return step.Refuse(step.RefuseUnknown, "the bank has made no entry yet")
	}
	ctx.Reply(r.ID, step.OpOK, nil, wire.Draft(*a.last.Get()))
	return nil
}

// consistent answers with the proof that the journal at one size begins with the journal at another. It stands in no chain
// and is not guarded: two sizes of a journal whose every entry is guarded have one proof.
func (o *Operator) consistent(ctx *step.Context, r step.Request) error {
	b, err := step.Body[step.ConsistencyBody](r.Body)
	if err != nil {
		return step.Refuse(step.RefuseBadRequest, "%v", err)
	}
	c, err := o.audit.journal.Between(ctx.Self, b.Old, b.Size)
	if err != nil {
		return step.Refuse(step.RefuseUnknown, "%v", err)
	}
	ctx.Reply(r.ID, step.OpOK, nil, wire.Draft(c))
	return nil
}

// entriesOf answers with entries of the asker's own account, from the log.
func (o *Operator) entriesOf(ctx *step.Context, r step.Request) error {
	b, err := step.Body[step.EntriesBody](r.Body)
	if err != nil || b.After+1 == 0 {
		return step.Refuse(step.RefuseBadRequest, "want a number of entries")
	}
	ctx.Reply(r.ID, step.OpOK, nil)
	ctx.Out.Replies[len(ctx.Out.Replies)-1].Append = []step.Span{{
		From: AccountEntryKey(r.Peer, b.After+1), To: table.After(table.Key(table.AccountEntry, r.Peer[:])), Limit: step.MostEntries,
	}}
	return nil
}

// prove answers with proofs of entries. They tell nothing about an entry to whoever does not have it.
func (o *Operator) prove(ctx *step.Context, r step.Request) error {
	b, err := step.Body[step.ProveBody](r.Body)
	if err != nil || len(b.Seqs) > step.MostEntries {
		return step.Refuse(step.RefuseBadRequest, "want a size and at most %d sequences", step.MostEntries)
	}
	a := step.ProveAnswer{Proofs: make([][]identity.Hash, 0, len(b.Seqs))}
	for _, seq := range b.Seqs {
		p, err := o.audit.journal.Prove(b.Size, seq-1)
		if err != nil {
			return step.Refuse(step.RefuseUnknown, "%v", err)
		}
		a.Proofs = append(a.Proofs, p)
	}
	ctx.Reply(r.ID, step.OpOK, a)
	return nil
}

// owed answers with the asker's account in the sum of all, as of the last checkpoint.
func (o *Operator) owed(ctx *step.Context, r step.Request) error {
	b, err := step.Body[step.OwedBody](r.Body)
	switch {
	case err != nil:
		return step.Refuse(step.RefuseBadRequest, "%v", err)
	case b.Number == 0 || b.Number != o.audit.drawn:
		return step.Refuse(step.RefuseStale, "checkpoint %d is not the newest", b.Number)
	}
	l, place, path, ok := o.audit.journal.Owed(r.Peer)
	if !ok {
		return step.Refuse(step.RefuseUnknown, "nothing ever moved on the account of %v", r.Peer)
	}
	ctx.Reply(r.ID, step.OpOK, step.OwedAnswer{Leaf: l, Place: place, Path: path})
	return nil
}

// A Refill makes the rows that go with bank entries that were made before there was a log of them.
type Refill struct {
	market  wire.Market
	auditor auditor
}

// NewRefill begins before a bank's first entry.
func NewRefill(m wire.Market) *Refill { return &Refill{m, newAuditor()} }

// Add takes the next entry and its object, and gives the rows that it is to be found under.
func (r *Refill) Add(e ledger.Entry, obj wire.Object) []step.Row {
	var rows []step.Row
	for _, i := range r.auditor.journal.Add(r.market, e) {
		l := r.auditor.journal.Leaf(i)
		r.auditor.leaves.Put(l.Account, leafRow{l, uint64(i)})
		rows = append(rows, step.Row{Key: AccountEntryKey(l.Account, l.Entries), Value: wire.Marshal(obj)})
	}
	return rows
}

// Rest are the rows of the accounts and of the log, in the order in which they are to be written: the log is whole when its
// last row is there.
func (r *Refill) Rest() []step.Row { return r.auditor.tree.Rows(r.auditor.leaves.Rows(nil)) }
