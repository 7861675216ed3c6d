package host_test

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// witnesses are those that a script knows: the bank, and another host.
var witnesses = map[string]*identity.PrivateKey{"bank": operator, "dave": key(6)}

// A witness of a script.
type witness struct {
	away    bool
	watches bool // the host has asked it to
	asks    bool // an asking is planned
}

func witnessName(a identity.Address) string {
	for _, n := range slices.Sorted(maps.Keys(witnesses)) {
		if witnesses[n].Address() == a {
			return n
		}
	}
	return a.Short()
}

// watch is a host's wish that somebody bear witness for it.
func (b *bench) watch(s step.Send) step.Response {
	w := b.witnesses[witnessName(s.To)]
	if w == nil || w.away {
		return step.Response{ID: s.ID, Err: &step.Failure{Code: step.FailUnreachable}}
	}
	if !w.watches {
		w.watches = true
		b.fact(wire.ID{}, "asks %s to bear witness", witnessName(s.To))
	}
	b.planAsking(witnessName(s.To))
	return step.Response{ID: s.ID, Op: step.OpOK}
}

// planAsking has a witness ask at second 30 of this minute, or of the next, and so on.
func (b *bench) planAsking(name string) {
	w := b.witnesses[name]
	if w.asks {
		return
	}
	w.asks = true
	at := b.now/(60*member.Second)*60*member.Second + 30*member.Second
	if at <= b.now {
		at += 60 * member.Second
	}
	b.after(at-b.now, wire.ID{}, func() {
		w.asks = false
		if !w.away && !b.down {
			w.watches = b.bearWitness(witnesses[name])
		}
		if w.watches {
			b.planAsking(name)
		}
	})
}

// bearWitness asks the host, and gives it a receipt. It reports false when the host wants no more.
func (b *bench) bearWitness(by *identity.PrivateKey) bool {
	b.t.Helper()
	r := b.ask(by, step.OpAsk, step.AskBody{Nonce: uint64(b.now)})
	if r.Refusal != nil {
		return false
	}
	p := sign[reliability.Presence](b, self, r.Frame.Objects[0])
	if v := p.Value(); v.Nonce != uint64(b.now) || v.Minute != b.minute() || v.Witness != by.Address() {
		b.t.Fatalf("%s: answered %+v", b.clock(), v)
	}
	if r := b.ask(by, step.OpWitnessed, nil, seal(b, by, receiptOf(by, b.minute(), p.Ref()))); r.Refusal != nil {
		b.t.Fatalf("%s: a receipt is refused: %v", b.clock(), r.Refusal)
	}
	return true
}

func receiptOf(by *identity.PrivateKey, m member.Minute, answer identity.Hash) reliability.Receipt {
	return reliability.Receipt{Witness: by.Address(), Host: self.Address(), Minute: m, Answer: answer}
}

// give is a consumer's mandate: most=2 minutes=60 panel=bank,dave.
func (b *bench) give(d *deal, args []string) step.Reply {
	b.t.Helper()
	d.mandates++
	m := ledger.Mandate{Consumer: d.by.Address(), Lease: d.id, Seq: d.mandates, Reservation: d.res.ID, From: b.minute(), Until: b.minute() + 1<<20,
		MaxTotal: 1 << 60, MaxUnattended: ledger.MaxUnattended, Quorum: 1, Revocable: true}
	panel := reliability.NewPanel(operator.Address())
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "most":
			m.MaxTotal = ledger.Amount(rate(b, v))
		case "minutes":
			m.MaxUnattended, _ = strconv.ParseUint(v, 10, 64)
		case "panel":
			panel = nil
			for _, n := range strings.Split(v, ",") {
				k := witnesses[n]
				if k == nil {
					k = people[n]
				}
				panel = append(panel, k.Address())
			}
			panel = reliability.NewPanel(panel...)
		}
	}
	m.Extension = panel.Hash()
	return b.ask(d.by, step.OpMandate, step.PanelBody{Panel: panel}, seal(b, d.by, m))
}

// claimed is the bank's answer to a claim: it follows the chain as the real one does.
func (b *bench) claimed(s step.Send) (step.Response, wire.ID, string) {
	b.t.Helper()
	r := step.Response{ID: s.ID}
	body, err := step.Body[step.ClaimBody](s.Frame.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	var d *deal
	at, proof := ledger.Unvouched{}, ledger.Proof{}
	var entries []wire.Object
	receipts := []wire.Object{}
	objects := slices.Clone(s.Frame.Objects)
	for _, span := range s.Append {
		for _, k := range slices.Sorted(maps.Keys(b.logs)) {
			if k >= string(span.From) && bytes.Compare([]byte(k), span.To) < 0 {
				var o wire.Object
				if err := wire.Load(b.logs[k], &o); err != nil {
					b.t.Fatal(err)
				}
				objects = append(objects, o)
			}
		}
	}
	voucher := uint64(0)
	for _, o := range objects {
		switch o.Kind {
		case wire.KindTerms:
			t, _ := wire.Decode[market.Terms](o)
			d = b.deals[t.Lease]
		case wire.KindCert:
			c, _ := wire.Decode[market.Cert](o)
			at = ledger.Unvouched{Place: ledger.Place{Head: o.Ref(b.market), Next: c.Minute}, Vouched: c.Minute - 1}
		case wire.KindMandate:
			proof.Mandate, _ = wire.Decode[ledger.Mandate](o)
		case wire.KindVoucher:
			v, _ := wire.Decode[ledger.Voucher](o)
			voucher = v.Seq
		case wire.KindUsage:
			if u, _ := wire.Decode[ledger.Usage](o); u.Seq == voucher {
				at = u.From(o.Ref(b.market))
			} else {
				entries = append(entries, o)
			}
		case wire.KindReceipt:
			receipts = append(receipts, o)
		}
	}
	if d.claimed.Place.Seq > at.Place.Seq {
		at = d.claimed
	}
	seen, kept := reliability.NewTestimony(self.Address(), body.Panel), reliability.NewTestimony(self.Address(), reliability.NewPanel(operator.Address()))
	for _, o := range receipts {
		x, err := wire.Open[reliability.Receipt](b.open, o)
		if err != nil {
			b.t.Fatal(err)
		}
		seen.Add(x.Value(), x.Ref())
		kept.Add(x.Value(), x.Ref())
	}
	proof.Seen, proof.Kept = seen.Has, kept.Has
	for _, o := range entries {
		u, _ := wire.Decode[ledger.Usage](o)
		if u.Seq <= at.Place.Seq || u.Last() >= body.Until {
			continue
		}
		if at, err = at.Follow(u, o.Ref(b.market), d.terms.Tariff, 60, proof); err != nil {
			b.t.Fatalf("%s: a claim: %v", b.clock(), err)
		}
	}
	d.claimed = at
	r.Op, r.Body = step.OpOK, wire.Marshal(step.ClaimAnswer{Seq: at.Place.Seq, Next: at.Place.Next, Proven: int64(at.Amount())})
	r.Objects = append(r.Objects, b.receipt(d.id, at.Amount(), false))
	return r, d.id, "claim to entry " + strconv.FormatUint(at.Place.Seq, 10) + ", paid " + at.Amount().Text()
}
