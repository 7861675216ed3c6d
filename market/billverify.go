package market

import (
	"bytes"
	"errors"
	"fmt"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A BadEntry is the first entry of a bill's usage chain that is not what it should be.
type BadEntry struct {
	Entry  int           // from 1
	Minute member.Minute // that the entry should begin with; 0 where the file could not be read so far
	Err    error
}

// Error implements error.
func (b *BadEntry) Error() string {
	if b.Minute == 0 {
		return fmt.Sprintf("bill: entry %d: %v", b.Entry, b.Err)
	}
	return fmt.Sprintf("bill: entry %d (minute %d): %v", b.Entry, b.Minute, b.Err)
}

// Unwrap gives the reason.
func (b *BadEntry) Unwrap() error { return b.Err }

// errSpelling is a file that says what a bill says in other bytes.
var errSpelling = errors.New("its text is not what is signed, or not in the one accepted spelling")

// VerifyBill checks a bill's file with nothing but the file: every signature and whose it is, the operators' word for both
// parties, that terms, cert and chain belong together, every minute's arithmetic, that no start is billed twice, that the voucher is for what its entry
// owes, that the bank paid no more than reservation and voucher allow, or the receipts of the mandate's witnesses prove, and that the file is the one spelling of all this,
// so that no byte of it can change. Which market it is, and whether its operators are to be trusted, the reader must know:
// Summary names them. Errors name the first bad part; in the chain they are *BadEntry.
func VerifyBill(file []byte, v identity.Verifier) (Summary, error) {
	return VerifyBillWith(file, v, nil)
}

// VerifyBillWith is VerifyBill with the signatures of the chain checked by each, which calls check once for every i from 0
// to n-1, in any order and from as many goroutines as it likes, and returns when all have returned. nil is a plain loop.
func VerifyBillWith(file []byte, v identity.Verifier, each func(n int, check func(i int))) (Summary, error) {
	b, err := DecodeBill(file)
	if err != nil {
		return Summary{}, err
	}
	c := billCheck{bill: b, each: each}
	if c.each == nil {
		c.each = func(n int, check func(i int)) {
			for i := range n {
				check(i)
			}
		}
	}
	if err := c.all(v); err != nil {
		return Summary{}, err
	}
	want := b.encode(c.parts)
	if !bytes.Equal(want, file) {
		return Summary{}, misspelt(file, firstDifference(want, file), errSpelling)
	}
	return b.summary(c.parts), nil
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// A billCheck goes through a bill, part by part, and keeps what it has opened.
type billCheck struct {
	bill   Bill
	each   func(n int, check func(i int))
	opener wire.Opener
	parts
	refs     []identity.Hash // of the chain's entries
	termsRef identity.Hash
	shown    ledger.Amount // by voucher and receipts
}

func (c *billCheck) all(v identity.Verifier) error {
	charter, err := member.OpenCharter(v, c.bill.Charter)
	if err != nil {
		return fmt.Errorf("bill: charter: %w", err)
	}
	c.charter = charter.Value()
	c.opener = wire.Opener{Market: c.charter.Market(), Verifier: v}
	for _, step := range []struct {
		part  string
		check func() error
	}{
		{"terms", c.contract}, {"policy", c.policy}, {"host", c.host}, {"consumer", c.consumer}, {"cert", c.certificate},
		{"", c.chain}, {"voucher", c.paper}, {"reservations", c.reserved},
		{"mandate", c.entrusted}, {"witnesses' receipts", c.observed}, {"receipts", c.settled},
	} {
		if err := step.check(); err != nil && step.part != "" {
			return fmt.Errorf("bill: %s: %w", step.part, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (c *billCheck) contract() error {
	t, err := wire.Open[Terms](c.opener, c.bill.Terms)
	c.terms, c.termsRef = t.Value(), t.Ref()
	return err
}

func (c *billCheck) policy() error {
	p, err := wire.Open[member.Policy](c.opener, c.bill.Policy)
	switch {
	case err != nil:
		return err
	case !c.charter.Operates(p.By()):
		return member.ErrNotOperator
	case p.Value().Number != c.terms.Policy:
		return fmt.Errorf("number %d, the terms name %d", p.Value().Number, c.terms.Policy)
	}
	return nil
}

func (c *billCheck) host() error {
	return c.member(c.bill.Host, c.terms.Host, member.RoleHost)
}

func (c *billCheck) consumer() error {
	return c.member(c.bill.Consumer, c.terms.Consumer, member.RoleConsumer)
}

// member checks that an operator vouched for a. A credential is renewed every few days while a lease may run for months,
// so its dates are not compared with the lease's.
func (c *billCheck) member(obj wire.Object, a identity.Address, role member.Role) error {
	v, err := wire.Open[member.Credential](c.opener, obj)
	if err != nil {
		return err
	}
	cred := v.Value()
	switch {
	case !c.charter.Operates(cred.Issuer):
		return member.ErrNotOperator
	case cred.Address() != a:
		return fmt.Errorf("the credential is of %v, the terms name %v", cred.Address(), a)
	case !cred.Roles.Has(role):
		return fmt.Errorf("%v is vouched for as %v only", a, cred.Roles)
	}
	return nil
}

func (c *billCheck) certificate() error {
	v, err := wire.Open[Cert](c.opener, c.bill.Cert)
	if err != nil {
		return err
	}
	c.cert = v.Value()
	switch t := c.terms; {
	case c.cert.Host != t.Host || c.cert.Lease != t.Lease:
		return errors.New("it is of another host or lease than the terms")
	case c.cert.Terms != c.termsRef:
		return errors.New("it is for other terms")
	}
	return nil
}

// chain opens every entry, and then follows them in order.
func (c *billCheck) chain() error {
	n := len(c.bill.Usage)
	errs := make([]error, n)
	c.usage, c.refs = make([]ledger.Usage, n), make([]identity.Hash, n)
	c.each(n, func(i int) {
		v, err := wire.Open[ledger.Usage](c.opener, c.bill.Usage[i])
		c.usage[i], c.refs[i], errs[i] = v.Value(), v.Ref(), err
	})
	place := ledger.Place{Head: c.bill.Cert.Ref(c.opener.Market), Next: c.cert.Minute}
	before, final := map[identity.Hash]bool{}, false // starts that were billed
	for i, u := range c.usage {
		at, err, last := place.Next, errs[i], place.Billed.Start
		if err == nil {
			err = c.belongs(u, final)
		}
		if err == nil {
			place, err = place.Follow(u, c.refs[i], c.terms.Tariff, c.charter.Clock().Seconds())
		}
		if now := place.Billed.Start; err == nil && now != last {
			if before[now] {
				err = fmt.Errorf("%w: entry %d bills a start from before the last", ledger.ErrStart, u.Seq)
			}
			before[now] = true
		}
		if err != nil {
			return &BadEntry{Entry: i + 1, Minute: at, Err: err}
		}
		final = u.Final
	}
	return nil
}

func (c *billCheck) belongs(u ledger.Usage, final bool) error {
	switch t := c.terms; {
	case final:
		return errors.New("it comes after the final one")
	case u.Host != t.Host || u.Lease != t.Lease:
		return errors.New("it is of another host or lease")
	case u.Terms != c.termsRef:
		return errors.New("it is under other terms")
	}
	return nil
}

// paper checks the voucher: for an entry of this chain, and for exactly what is owed there.
func (c *billCheck) paper() error {
	if c.bill.Voucher.IsZero() {
		return nil
	}
	opened, err := wire.Open[ledger.Voucher](c.opener, c.bill.Voucher)
	if err != nil {
		return err
	}
	v, t := opened.Value(), c.terms
	c.voucher = v
	switch {
	case v.Lease != t.Lease || v.Host != t.Host || v.Reservation != t.Reservation:
		return errors.New("it is for another lease, host or reservation")
	case v.By != t.By:
		return fmt.Errorf("it is signed by %v, the terms name %v", v.By, t.By)
	case v.Seq == 0 || v.Seq > uint64(len(c.usage)) || c.refs[v.Seq-1] != v.Usage:
		return fmt.Errorf("entry %d, which it names, is not in the chain", v.Seq)
	}
	if u := c.usage[v.Seq-1]; v.Total != u.Owed() || v.Minute != u.Last() {
		return fmt.Errorf("it says %s at minute %d, entry %d says %s at %d", v.Total, v.Minute, v.Seq, u.Owed(), u.Last())
	}
	return nil
}

// reserved checks the bank's reservations: this lease's, in order.
func (c *billCheck) reserved() error {
	c.reservations = make([]ledger.Reservation, len(c.bill.Reservations))
	seq := uint64(0)
	for i, obj := range c.bill.Reservations {
		opened, err := wire.Open[ledger.Reservation](c.opener, obj)
		if err != nil {
			return fmt.Errorf("number %d: %w", i+1, err)
		}
		r, t := opened.Value(), c.terms
		switch {
		case !c.charter.Operates(r.Operator):
			err = member.ErrNotOperator
		case r.ID != t.Reservation || r.Lease != t.Lease || r.Host != t.Host || r.Consumer != t.Consumer || r.By != t.By:
			err = errors.New("it is for another lease or other parties")
		case i > 0 && r.Operator != c.reservations[0].Operator:
			err = errors.New("it is another bank's than the one before")
		case r.Seq <= seq:
			err = fmt.Errorf("sequence %d after %d", r.Seq, seq)
		}
		if err != nil {
			return fmt.Errorf("number %d: %w", i+1, err)
		}
		seq, c.reservations[i] = r.Seq, r
	}
	return nil
}

// settled checks the bank's receipts: never less than before, never more than the voucher or than was ever reserved.
func (c *billCheck) settled() error {
	limit := ledger.Amount(0)
	for _, r := range c.reservations {
		limit = max(limit, r.Cap)
	}
	c.receipts = make([]ledger.SettleReceipt, len(c.bill.Receipts))
	var last ledger.SettleReceipt
	for i, obj := range c.bill.Receipts {
		opened, err := wire.Open[ledger.SettleReceipt](c.opener, obj)
		if err != nil {
			return fmt.Errorf("number %d: %w", i+1, err)
		}
		r, t := opened.Value(), c.terms
		switch {
		case len(c.reservations) == 0 || r.Operator != c.reservations[0].Operator:
			err = errors.New("it is of a bank that reserved nothing")
		case r.Lease != t.Lease || r.Host != t.Host || r.Reservation != t.Reservation:
			err = errors.New("it is for another lease, host or reservation")
		case r.Paid < last.Paid || r.Fee < last.Fee || r.Entry < last.Entry || last.Released:
			err = errors.New("it is older than the one before")
		case r.Paid > max(c.voucher.Total, c.shown):
			err = fmt.Errorf("%s is paid, %s is signed for or proven", r.Paid, max(c.voucher.Total, c.shown))
		case r.Paid > limit:
			err = fmt.Errorf("%s is paid, %s is reserved", r.Paid, limit)
		}
		if err != nil {
			return fmt.Errorf("number %d: %w", i+1, err)
		}
		last, c.receipts[i] = r, r
	}
	return nil
}
