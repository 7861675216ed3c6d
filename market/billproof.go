package market

import (
	"errors"
	"fmt"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/wire"
	"souk/reliability"
)

// proven is what receipts prove a lease to owe, beyond its voucher: the minutes after it that the mandate's witnesses saw, and
// the storage that the bank saw. It is what the voucher says where nothing is. Nothing is checked here but the arithmetic.
func (p parts) proven(refs []identity.Hash) (ledger.Amount, error) {
	at := ledger.Unvouched{Place: ledger.Place{Head: p.certRef, Next: p.cert.Minute}, Vouched: p.cert.Minute - 1}
	if s := p.voucher.Seq; s > 0 && s <= uint64(len(p.usage)) {
		at = p.usage[s-1].From(refs[s-1])
	}
	if len(p.witnessed) == 0 {
		return at.Amount(), nil
	}
	seen := reliability.NewTestimony(p.terms.Host, p.panel)
	kept := reliability.NewTestimony(p.terms.Host, nil)
	if len(p.reservations) > 0 {
		kept = reliability.NewTestimony(p.terms.Host, reliability.NewPanel(p.reservations[0].Operator))
	}
	for i, r := range p.witnessed {
		seen.Add(r, p.witnessedRefs[i])
		kept.Add(r, p.witnessedRefs[i])
	}
	proof := ledger.Proof{Mandate: p.mandate, Seen: seen.Has, Kept: kept.Has}
	for i := at.Place.Seq; i < uint64(len(p.usage)); i++ {
		next, err := at.Follow(p.usage[i], refs[i], p.terms.Tariff, p.charter.Clock().Seconds(), proof)
		if err != nil {
			return at.Amount(), err
		}
		at = next
	}
	return at.Amount(), nil
}

// entrusted checks the mandate: this consumer's, for this lease, with the witnesses that it names.
func (c *billCheck) entrusted() error {
	if c.bill.Mandate.IsZero() { // witnesses that none names are a misspelling
		return nil
	}
	v, err := wire.Open[ledger.Mandate](c.opener, c.bill.Mandate)
	if err != nil {
		return err
	}
	c.mandate, c.panel = v.Value(), c.bill.Panel
	if err := c.panel.Validate(); err != nil {
		return err
	}
	switch t := c.terms; {
	case c.mandate.Lease != t.Lease || c.mandate.Reservation != t.Reservation || c.mandate.Consumer != t.Consumer:
		return errors.New("it is for another lease, reservation or consumer")
	case c.mandate.Extension != c.panel.Hash():
		return errors.New("it names other witnesses")
	case c.panel.Has(t.Host) || c.panel.Has(t.Consumer):
		return errors.New("a party of the lease is among its witnesses")
	}
	return nil
}

// observed checks the witnesses' receipts: each once, in order, of this host, for minutes that the voucher does not cover.
func (c *billCheck) observed() error {
	n := len(c.bill.Witnessed)
	errs := make([]error, n)
	c.witnessed, c.witnessedRefs = make([]reliability.Receipt, n), make([]identity.Hash, n)
	c.each(n, func(i int) {
		v, err := wire.Open[reliability.Receipt](c.opener, c.bill.Witnessed[i])
		c.witnessed[i], c.witnessedRefs[i], errs[i] = v.Value(), v.Ref(), err
	})
	for i, r := range c.witnessed {
		err := errs[i]
		switch {
		case err != nil:
		case r.Host != c.terms.Host:
			err = errors.New("it is of another host")
		case i > 0 && c.witnessed[i-1].Compare(r) >= 0:
			err = errors.New("it is not in the order of minutes and witnesses")
		case c.voucher.Seq > 0 && r.Minute <= c.voucher.Minute:
			err = fmt.Errorf("the voucher covers minute %d", r.Minute)
		}
		if err != nil {
			return fmt.Errorf("number %d: %w", i+1, err)
		}
	}
	var err error
	c.certRef = c.bill.Cert.Ref(c.opener.Market)
	c.shown, err = c.proven(c.refs)
	return err
}
