package market

import (
	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// A Bill is everything that proves what a lease cost and what was paid for it. It joins the market's charter, the policy
// and the terms that the lease was made under, the credentials of both sides, the host's cert and its whole usage chain,
// the consumer's highest voucher, what the bank reserved and paid, and of minutes that were paid without a voucher the mandate and
// the witnesses' receipts. Its file is JSON with a readable head; nothing but
// the file is needed to check it.
type Bill struct {
	Charter      wire.Object
	Policy       wire.Object // the one that the terms name
	Host         wire.Object // credential
	Consumer     wire.Object // credential
	Terms        wire.Object
	Cert         wire.Object
	Usage        []wire.Object // from the first entry, without gap
	Voucher      wire.Object   // highest; zero when nothing was signed for
	Reservations []wire.Object // as it was opened, raised and lowered; all that are known, in order
	Receipts     []wire.Object // of the bank's settlements, in order

	Mandate   wire.Object       // newest; zero where there is none
	Panel     reliability.Panel // that it names
	Witnessed []wire.Object     // receipts for minutes beyond the voucher, by minute and witness
}

// A Summary is what a bill comes to: the readable head of its file.
type Summary struct {
	Lease       wire.ID            `json:"lease"`
	Market      identity.Hash      `json:"market"`
	Name        string             `json:"name"` // of the market
	Testnet     bool               `json:"testnet"`
	Operators   []identity.Address `json:"operators"`
	Host        identity.Address   `json:"host"`
	Consumer    identity.Address   `json:"consumer"`
	Type        BidKind            `json:"kind"`
	GPUs        uint16             `json:"gpus"`
	Model       string             `json:"model"`
	Simulated   bool               `json:"simulated"`
	Tariff      ledger.Tariff      `json:"perHour"`
	SlotSeconds int64              `json:"slotSeconds"`
	First       member.Minute      `json:"firstMinute"`
	Last        member.Minute      `json:"lastMinute"` // one before First when the chain is empty
	From        string             `json:"from"`       // start of the first minute, UTC
	To          string             `json:"to"`         // end of the last minute
	Entries     int                `json:"entries"`
	Head        identity.Hash      `json:"head"` // ref of the last entry; of the cert when there is none
	Final       bool               `json:"final"`
	Minutes     []StatusMinutes    `json:"minutes"`
	Currency    string             `json:"currency"`
	Owed        ledger.Amount      `json:"owed"`             // by the whole chain
	Signed      ledger.Amount      `json:"signed"`           // by the consumer's highest voucher
	Proven      ledger.Amount      `json:"proven,omitempty"` // by that and witnesses' receipts, where that is more
	Reserved    ledger.Amount      `json:"reserved"`         // cap of the latest reservation
	Paid        ledger.Amount      `json:"paid"`             // by the bank, fee included
	Fee         ledger.Amount      `json:"fee"`
	Released    bool               `json:"released"` // the rest of the reservation went back to the consumer
}

// StatusMinutes is how many minutes of a lease had a status, and how many of them were billed.
type StatusMinutes struct {
	Status  ledger.Status `json:"status"`
	Minutes int64         `json:"minutes"`
	Billed  int64         `json:"billed"`
}

const currency = "credits of 10^9 nano-credits; one is worth a US dollar by convention"

// parts is a bill decoded. What does not decode is zero, so that a head can be made of anything.
type parts struct {
	charter      member.Charter
	terms        Terms
	cert         Cert
	usage        []ledger.Usage
	voucher      ledger.Voucher
	reservations []ledger.Reservation
	receipts     []ledger.SettleReceipt

	certRef       identity.Hash
	mandate       ledger.Mandate
	panel         reliability.Panel
	witnessed     []reliability.Receipt
	witnessedRefs []identity.Hash
}

func decoded[T wire.Message](o wire.Object) T {
	m, err := wire.Decode[T](o)
	if err != nil {
		var none T
		return none
	}
	return m
}

func decodedAll[T wire.Message](list []wire.Object) []T {
	out := make([]T, len(list))
	for i, o := range list {
		out[i] = decoded[T](o)
	}
	return out
}

func (b Bill) decode() parts {
	return parts{
		charter:      decoded[member.Charter](b.Charter),
		terms:        decoded[Terms](b.Terms),
		cert:         decoded[Cert](b.Cert),
		usage:        decodedAll[ledger.Usage](b.Usage),
		voucher:      decoded[ledger.Voucher](b.Voucher),
		reservations: decodedAll[ledger.Reservation](b.Reservations),
		receipts:     decodedAll[ledger.SettleReceipt](b.Receipts),
		mandate:      decoded[ledger.Mandate](b.Mandate),
		panel:        b.Panel,
		witnessed:    decodedAll[reliability.Receipt](b.Witnessed),
	}
}

// refsOf names objects.
func refsOf(m wire.Market, list []wire.Object) []identity.Hash {
	out := make([]identity.Hash, len(list))
	for i, o := range list {
		out[i] = o.Ref(m)
	}
	return out
}

// Summary is what the bill comes to. It checks nothing; VerifyBill does.
func (b Bill) Summary() Summary { return b.summary(b.decode()) }

func (b Bill) summary(p parts) Summary {
	m, t := p.charter.Market(), p.terms
	s := Summary{
		Lease: t.Lease, Market: m.ID, Name: p.charter.Name, Testnet: p.charter.Testnet, Operators: []identity.Address{},
		Host: t.Host, Consumer: t.Consumer, Type: t.Type, GPUs: t.GPUs, Model: t.Model, Simulated: t.Simulated,
		Tariff: t.Tariff, SlotSeconds: int64(p.charter.Slot), First: p.cert.Minute, Last: p.cert.Minute - 1,
		Entries: len(b.Usage), Head: b.Cert.Ref(m), Minutes: minutes(p.usage), Currency: currency, Signed: p.voucher.Total,
	}
	for _, k := range p.charter.Operators {
		a, _ := k.Address()
		s.Operators = append(s.Operators, a)
	}
	if n := len(p.usage); n > 0 {
		u := p.usage[n-1]
		s.Last, s.Final, s.Owed, s.Head = u.Last(), u.Final, u.Owed(), b.Usage[n-1].Ref(m)
	}
	if len(b.Witnessed) > 0 {
		p.certRef, p.witnessedRefs = b.Cert.Ref(m), refsOf(m, b.Witnessed)
		if proven, err := p.proven(refsOf(m, b.Usage)); err == nil && proven > s.Signed {
			s.Proven = proven
		}
	}
	clock := p.charter.Clock()
	s.From, s.To = clock.Tick(s.First).String(), clock.Tick(s.Last+1).String()
	if n := len(p.reservations); n > 0 {
		s.Reserved = p.reservations[n-1].Cap
	}
	if n := len(p.receipts); n > 0 {
		r := p.receipts[n-1]
		s.Paid, s.Fee, s.Released = r.Paid, r.Fee, r.Released
	}
	return s
}

// minutes counts by status, in the order of the statuses' numbers.
func minutes(chain []ledger.Usage) []StatusMinutes {
	var count [256]StatusMinutes
	for _, u := range chain {
		c := &count[u.Status]
		c.Status = u.Status
		c.Minutes += int64(u.Count)
		c.Billed += u.Minutes()
	}
	out := []StatusMinutes{}
	for _, c := range count {
		if c.Minutes > 0 {
			out = append(out, c)
		}
	}
	return out
}
