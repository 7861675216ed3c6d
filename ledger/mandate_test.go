package ledger_test

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A mandatedLease is a usage chain in which minutes are billed that no voucher names.
type mandatedLease struct {
	tariff  ledger.Tariff
	genesis ledger.Place
	place   ledger.Place
	entries []ledger.Usage
	mandate ledger.Mandate
	seen    map[member.Minute]bool // by the mandate's witnesses
	kept    map[member.Minute]bool // by the bank
	until   member.Minute          // of running minutes, by an order lodged; 0: none
	keep    member.Minute
}

const mandateMinute = member.Minute(30_000_000)

func newMandated() *mandatedLease {
	l := &mandatedLease{
		tariff:  ledger.Tariff{GPU: 600_000_000, VolumeRunning: 7, VolumeStopped: 1_000_001},
		genesis: ledger.Place{Head: identity.Hash{1}, Next: mandateMinute},
		mandate: ledger.Mandate{Consumer: consumer, Lease: wire.ID{100, 1}, Seq: 1, Reservation: wire.ID{1}, From: mandateMinute, Until: mandateMinute + 1<<20,
			MaxTotal: 1 << 60, MaxUnattended: ledger.MaxUnattended, Quorum: 1},
		seen: map[member.Minute]bool{}, kept: map[member.Minute]bool{},
	}
	l.place = l.genesis
	return l
}

func entryRef(u ledger.Usage) identity.Hash {
	return charter().Market().Ref(wire.KindUsage, wire.Marshal(u))
}

// add closes minutes.
func (l *mandatedLease) add(s ledger.Status, b ledger.Basis, count uint8, billable uint64) ledger.Usage {
	u := ledger.Usage{Host: host, Lease: wire.ID{100, 1}, Seq: l.place.Seq + 1, First: l.place.Next, Count: count, Billable: billable, Status: s, Basis: b,
		Prev: l.place.Head, Start: identity.Hash{2}}
	rate, err := l.tariff.Rate(s)
	if err != nil {
		panic(err)
	}
	m, err := l.place.Meter.Add(rate, u.Minutes()*60)
	if err != nil {
		panic(err)
	}
	u.Numerator = m.Numerator
	if l.place, err = l.place.Follow(u, entryRef(u), l.tariff, 60); err != nil {
		panic(err)
	}
	l.entries = append(l.entries, u)
	return u
}

func (l *mandatedLease) running(n int) {
	for range n {
		l.add(ledger.StatusRunning, ledger.BasisMandate, 1, 1)
	}
}

func (l *mandatedLease) see(first, last member.Minute) {
	for m := first; m <= last; m++ {
		l.seen[m], l.kept[m] = true, true
	}
}

func (l *mandatedLease) claim(v *ledger.Voucher, from, to int) ledger.Claim {
	c := ledger.Claim{Reservation: wire.ID{1}, Lease: wire.ID{100, 1}, Host: host, Voucher: v, Genesis: l.genesis, Tariff: l.tariff, Entries: l.entries[from:to],
		Proof: ledger.Proof{Mandate: l.mandate, Seen: func(m member.Minute) bool { return l.seen[m] }, Kept: func(m member.Minute) bool { return l.kept[m] },
			RunUntil: l.until, KeepUntil: l.keep}}
	if v != nil {
		c.Paid = &l.entries[v.Seq-1]
	}
	return c
}

func (l *mandatedLease) voucher(seq int) *ledger.Voucher {
	u := l.entries[seq-1]
	return &ledger.Voucher{Reservation: wire.ID{1}, Lease: u.Lease, By: consumer, Host: host, Total: u.Owed(), Minute: u.Last(), Usage: entryRef(u), Seq: u.Seq}
}

// minutePrice is what one minute of a mandated lease costs, but for its volume's few nano-credits.
const minutePrice = "0.01"

func TestMandatePaysWhatWitnessesSaw(t *testing.T) {
	b, p := funded(t, "25"), policy()
	open(t, b, 1, "0.60", "0.60")
	l := newMandated()
	l.running(10)
	l.see(mandateMinute, mandateMinute+9)
	delete(l.seen, mandateMinute+4)
	r, at, err := b.Claim(p, l.claim(nil, 0, 10), noon)
	if err != nil || r.Paid.Text() != "0.090000001" || at.Place.Seq != 10 {
		t.Fatalf("nine of ten minutes were seen: paid %s at entry %d, %v", r.Paid.Text(), at.Place.Seq, err)
	}
	again, _, err := b.Claim(p, l.claim(nil, 0, 10), noon+1)
	if err != nil || again != r {
		t.Fatalf("the same again: %+v, %v", again, err)
	}
	// The consumer is back, and signs for all ten.
	settled, err := b.Settle(p, *l.voucher(10), l.entries[9], noon+2)
	if err != nil || settled.Paid.Text() != "0.100000001" {
		t.Fatalf("after the voucher: %s, %v", settled.Paid.Text(), err)
	}
	l.running(2)
	l.see(mandateMinute+10, mandateMinute+11)
	if r, _, err = b.Claim(p, l.claim(l.voucher(10), 10, 12), noon+3); err != nil || r.Paid.Text() != "0.120000001" {
		t.Fatalf("two minutes on: %s, %v", r.Paid.Text(), err)
	}
	audit(t, b)
}

func TestMandatePaysNothingElse(t *testing.T) {
	for name, x := range map[string]struct {
		spoil func(l *mandatedLease, c *ledger.Claim)
		paid  string
		code  ledger.Code
	}{
		"as it is":                        {func(*mandatedLease, *ledger.Claim) {}, "0.05", 0},
		"no mandate":                      {func(_ *mandatedLease, c *ledger.Claim) { c.Proof.Mandate = ledger.Mandate{} }, "0.00", 0},
		"it begins later":                 {func(_ *mandatedLease, c *ledger.Claim) { c.Proof.Mandate.From += 2 }, "0.03", 0},
		"it has ended":                    {func(_ *mandatedLease, c *ledger.Claim) { c.Proof.Mandate.Until = mandateMinute + 1 }, "0.02", 0},
		"its total is used up":            {func(_ *mandatedLease, c *ledger.Claim) { c.Proof.Mandate.MaxTotal = credits(t, "0.0399") }, "0.03", 0},
		"too long unattended":             {func(_ *mandatedLease, c *ledger.Claim) { c.Proof.Mandate.MaxUnattended = 4 }, "0.04", 0},
		"nobody saw the host":             {func(l *mandatedLease, _ *ledger.Claim) { clear(l.seen) }, "0.00", 0},
		"an order was lodged":             {func(_ *mandatedLease, c *ledger.Claim) { c.Proof.RunUntil = mandateMinute + 1 }, "0.02", 0},
		"of another lease":                {func(_ *mandatedLease, c *ledger.Claim) { c.Proof.Mandate.Lease = wire.ID{9} }, "", ledger.CodeMismatch},
		"of another consumer":             {func(_ *mandatedLease, c *ledger.Claim) { c.Proof.Mandate.Consumer = host }, "", ledger.CodeMismatch},
		"by another host":                 {func(_ *mandatedLease, c *ledger.Claim) { c.Host = consumer }, "", ledger.CodeHost},
		"of no reservation":               {func(_ *mandatedLease, c *ledger.Claim) { c.Reservation = wire.ID{9} }, "", ledger.CodeUnknown},
		"an entry left out":               {func(_ *mandatedLease, c *ledger.Claim) { c.Entries = c.Entries[1:] }, "", ledger.CodeMismatch},
		"more billed than the terms say":  {func(_ *mandatedLease, c *ledger.Claim) { c.Tariff.GPU-- }, "", ledger.CodeMismatch},
		"begun elsewhere than certified":  {func(_ *mandatedLease, c *ledger.Claim) { c.Genesis.Next++ }, "", ledger.CodeMismatch},
		"a voucher without its entry":     {func(l *mandatedLease, c *ledger.Claim) { c.Voucher = l.voucher(2) }, "", ledger.CodeMismatch},
		"a voucher with another entry":    {func(l *mandatedLease, c *ledger.Claim) { c.Voucher, c.Paid = l.voucher(2), &l.entries[2] }, "", ledger.CodeMismatch},
		"a voucher for another host":      {func(l *mandatedLease, c *ledger.Claim) { c.Voucher = l.voucher(2); c.Voucher.Host = consumer }, "", ledger.CodeHost},
		"a voucher signed by who may not": {func(l *mandatedLease, c *ledger.Claim) { c.Voucher = l.voucher(2); c.Voucher.By = host }, "", ledger.CodeSigner},
	} {
		b, p := funded(t, "25"), policy()
		open(t, b, 1, "0.60", "0.60")
		l := newMandated()
		l.tariff.VolumeRunning = 0
		l.running(5)
		l.see(mandateMinute, mandateMinute+4)
		c := l.claim(nil, 0, 5)
		x.spoil(l, &c)
		before, _ := b.Hold(wire.ID{1})
		r, _, err := b.Claim(p, c, noon)
		if x.code != 0 {
			refused(t, name, err, x.code)
			if after, _ := b.Hold(wire.ID{1}); after != before {
				t.Errorf("%s: a refused claim changed the reservation", name)
			}
			continue
		}
		if err != nil || r.Paid.Text() != x.paid {
			t.Errorf("%s: paid %s, %v; want %s", name, r.Paid.Text(), err, x.paid)
		}
		audit(t, b)
	}
}

// TestClaimBesideAVoucherThatTheHostDoesNotHave: the consumer has shown the bank a later one.
func TestClaimBesideAVoucherThatTheHostDoesNotHave(t *testing.T) {
	b, p := funded(t, "25"), policy()
	open(t, b, 1, "0.60", "0.60")
	l := newMandated()
	l.tariff.VolumeRunning = 0
	l.running(6)
	l.see(mandateMinute, mandateMinute+5)
	if _, err := b.Settle(p, *l.voucher(4), l.entries[3], noon); err != nil {
		t.Fatal(err)
	}
	r, at, err := b.Claim(p, l.claim(l.voucher(2), 2, 6), noon)
	if err != nil || r.Paid.Text() != "0.06" || at.Place.Seq != 6 {
		t.Fatalf("paid %s at entry %d, %v", r.Paid.Text(), at.Place.Seq, err)
	}
	audit(t, b)
}

// TestVoucherBelowAClaimMovesTheDay: the consumer was there again, as its host knows.
func TestVoucherBelowAClaimMovesTheDay(t *testing.T) {
	b, p := funded(t, "25"), policy()
	open(t, b, 1, "0.60", "0.60")
	l := newMandated()
	l.tariff.VolumeRunning, l.mandate.MaxUnattended = 0, 3
	l.running(5)
	l.see(mandateMinute, mandateMinute+4)
	if r, _, err := b.Claim(p, l.claim(nil, 0, 3), noon); err != nil || r.Paid.Text() != "0.03" {
		t.Fatalf("three minutes: %s, %v", r.Paid.Text(), err)
	}
	if r, _, err := b.Claim(p, l.claim(l.voucher(2), 3, 5), noon); err != nil || r.Paid.Text() != "0.05" {
		t.Fatalf("two more, after a voucher for the second: %s, %v", r.Paid.Text(), err)
	}
	audit(t, b)
}

func TestEmptyClaimKeepsNothingAlive(t *testing.T) {
	b, p := funded(t, "25"), policy()
	open(t, b, 1, "0.60", "0.60")
	l := newMandated()
	l.running(2)
	l.see(mandateMinute, mandateMinute+1)
	for _, now := range []member.Time{noon, noon + member.Day} {
		if _, _, err := b.Claim(p, l.claim(nil, 0, 2), now); err != nil {
			t.Fatal(err)
		}
	}
	if h, _ := b.Hold(wire.ID{1}); h.Active != noon {
		t.Errorf("active at %v, the last new entry came at %v", h.Active, noon)
	}
}

func TestClaimedMinutesAreSpentOnce(t *testing.T) {
	b, p := funded(t, "25"), policy()
	open(t, b, 1, "0.60", "0.60")
	l := newMandated()
	l.tariff.VolumeRunning = 0
	l.running(5)
	l.see(mandateMinute, mandateMinute+4)
	now := noon + 5*60*member.Second
	if _, _, err := b.Claim(p, l.claim(nil, 0, 5), now); err != nil {
		t.Fatal(err)
	}
	if left := b.Balance(consumer, now).Left; left.Text() != "24.95" {
		t.Errorf("%s left of 25 after five minutes at 0.01", left.Text())
	}
}

func TestClaimsEndWithTheirReservation(t *testing.T) {
	b, p := funded(t, "25"), policy()
	r := open(t, b, 1, "0.60", "0.60")
	l := newMandated()
	l.running(3)
	l.see(mandateMinute, mandateMinute+2)
	_, _, err := b.Claim(p, l.claim(nil, 0, 2), r.RedeemBy)
	refused(t, "after its redeem-by", err, ledger.CodeLate)
	if _, err := b.Final(p, ledger.Final{Host: host, Lease: r.Lease, Reservation: r.ID}, nil, noon); err != nil {
		t.Fatal(err)
	}
	_, _, err = b.Claim(p, l.claim(nil, 0, 3), noon)
	refused(t, "after its release", err, ledger.CodeClosed)
	audit(t, b)
}

// TestNoMandatePaysMoreThanADay without a voucher, whatever it says itself.
func TestNoMandatePaysMoreThanADay(t *testing.T) {
	m := newMandated().mandate
	m.MaxUnattended = 1 << 40
	if !m.Covers(mandateMinute+1440, mandateMinute, 0) || m.Covers(mandateMinute+1441, mandateMinute, 0) {
		t.Error("it does not end with the 1,440th minute after the voucher")
	}
}

func TestStorageIsPaidByTheTermsThemselves(t *testing.T) {
	b, p := funded(t, "25"), policy()
	open(t, b, 1, "0.60", "0.60")
	l := newMandated()
	l.add(ledger.StatusStopped, ledger.BasisStorage, 60, 1<<60-1)
	for m := range member.Minute(60) {
		l.kept[mandateMinute+m] = m%2 == 0
	}
	c := l.claim(nil, 0, 1)
	c.Proof.Mandate = ledger.Mandate{}
	r, _, err := b.Claim(p, c, noon)
	if want := ledger.Amount(1_000_001 * 30 * 60 / 3600); err != nil || r.Paid != want {
		t.Fatalf("30 minutes of storage: %s, %v; want %s", r.Paid, err, want)
	}
	l.add(ledger.StatusStopped, ledger.BasisStorage, 1, 1)
	l.kept[mandateMinute+60], l.keep = true, mandateMinute+59
	c = l.claim(nil, 1, 2)
	if after, _, err := b.Claim(p, c, noon); err != nil || after.Paid != r.Paid {
		t.Fatalf("a minute after the order to remove it: %s, %v", after.Paid, err)
	}
	audit(t, b)
}

// TestClaimsAgainstANaiveBank draws chains, what witnesses saw, vouchers and claims of any part of the chain, in any order that
// a host may choose, and adds up in big integers.
func TestClaimsAgainstANaiveBank(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, p := ledger.NewBank(operator, charter()), policy()
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		_, err := b.Deposit(p, consumer, 25*ledger.Credit, "first", noon)
		must(err)
		limit := ledger.Amount(rapid.Int64Range(20_000_000, 600_000_000).Draw(t, "cap"))
		_, err = b.Reserve(p, reserve(1, limit, 600_000_007), 600_000_007, noon)
		must(err)
		l := newMandated()
		for range rapid.IntRange(1, 30).Draw(t, "entries") {
			m := l.place.Next
			switch rapid.IntRange(0, 3).Draw(t, "entry") {
			case 0:
				l.add(ledger.StatusRunning, ledger.BasisAttended, 1, 1)
			case 1:
				l.running(1)
			case 2:
				n := uint8(rapid.IntRange(1, 60).Draw(t, "count"))
				l.add(ledger.StatusStopped, ledger.BasisStorage, n, rapid.Uint64().Draw(t, "bits")&(1<<n-1))
			case 3:
				l.add(ledger.StatusHostFault, ledger.BasisNone, 1, 0)
			}
			for ; m < l.place.Next; m++ {
				l.seen[m], l.kept[m] = rapid.Bool().Draw(t, "seen"), rapid.Bool().Draw(t, "kept")
			}
		}
		span := uint64(l.place.Next - mandateMinute)
		l.mandate.From += member.Minute(rapid.Uint64Range(0, 3).Draw(t, "from"))
		l.mandate.MaxTotal = ledger.Amount(rapid.Int64Range(0, int64(l.place.Meter.Owed())+1).Draw(t, "total"))
		l.mandate.MaxUnattended = rapid.Uint64Range(0, span).Draw(t, "unattended")
		if rapid.Bool().Draw(t, "lodged") {
			l.until = mandateMinute + member.Minute(rapid.Uint64Range(1, span+1).Draw(t, "until"))
		}

		at, sum, vouched := 0, new(big.Int), mandateMinute-1 // of the naive bank: how far, numerator, last vouched minute
		var shown *ledger.Voucher
		paid := ledger.Amount(0)
		owed := func(n *big.Int) ledger.Amount {
			return ledger.Amount(new(big.Int).Div(n, big.NewInt(3600)).Int64())
		}
		count := func(u ledger.Usage) {
			rate, _ := l.tariff.Rate(u.Status)
			for i := range member.Minute(u.Count) {
				m := u.First + i
				next := new(big.Int).Add(sum, big.NewInt(int64(rate)*60))
				counts := u.Billable>>i&1 == 1
				if u.Status == ledger.StatusRunning {
					counts = counts && l.seen[m] && m >= l.mandate.From && uint64(m-vouched) <= l.mandate.MaxUnattended && owed(next) <= l.mandate.MaxTotal &&
						(l.until == 0 || m <= l.until)
				} else {
					counts = counts && l.kept[m]
				}
				if counts {
					sum = next
				}
			}
		}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			if rapid.IntRange(0, 2).Draw(t, "step") == 0 {
				seq := rapid.IntRange(1, len(l.entries)).Draw(t, "vouch")
				if v := l.voucher(seq); shown == nil || v.Total > shown.Total {
					shown = v
				}
				_, err := b.Settle(p, *l.voucher(seq), l.entries[seq-1], noon)
				must(err)
			} else {
				to := rapid.IntRange(0, len(l.entries)).Draw(t, "to")
				if shown != nil && int(shown.Seq) >= at {
					at, vouched = int(shown.Seq), shown.Minute
					sum = big.NewInt(l.entries[at-1].Numerator)
				}
				from := rapid.IntRange(0, at).Draw(t, "from")
				for ; at < to; at++ {
					count(l.entries[at])
				}
				_, _, err := b.Claim(p, l.claim(shown, min(from, to), to), noon)
				must(err)
			}
			proven := owed(sum)
			if shown != nil {
				proven = max(proven, shown.Total)
			}
			paid = max(paid, min(proven, limit))
			if h, _ := b.Hold(wire.ID{1}); h.Settled != paid {
				t.Fatalf("settled %s, want %s", h.Settled, paid)
			}
			must(b.Audit())
		}
	})
}
