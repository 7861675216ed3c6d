package market_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"souk/ledger"
	"souk/market"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// billKeys are the keys that bills of these tests are signed with.
type billKeys struct{ operator, host, consumer *identity.PrivateKey }

func billKey(t testing.TB, n byte) *identity.PrivateKey {
	t.Helper()
	k, err := identity.ParsePrivateKey(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A billMaker builds bills, good ones and bad ones.
type billMaker struct {
	billKeys
	t       testing.TB
	charter member.Charter
	market  wire.Market
	terms   market.Terms
	place   ledger.Place
	bill    market.Bill
}

const billMinute = member.Minute(30_000_000)

func newBill(t testing.TB) *billMaker {
	m := &billMaker{t: t, billKeys: billKeys{billKey(t, 1), billKey(t, 2), billKey(t, 3)}}
	m.charter = member.Charter{Salt: wire.ID{1}, Name: "bazaar", Founded: 1_800_000_000_000, ChainID: 1,
		Operators: []identity.PublicKey{m.operator.Public()}, Threshold: 1, Slot: 60}
	m.market = m.charter.Market()
	m.bill.Charter = m.sign(m.operator, m.charter)
	p := member.DefaultPolicy(m.operator.Address(), m.charter.Founded)
	p.Agreement = "be fair"
	m.bill.Policy = m.sign(m.operator, p)
	m.bill.Host = m.sign(m.operator, m.credential(m.host, member.RoleHost, member.TierSecure))
	m.bill.Consumer = m.sign(m.operator, m.credential(m.consumer, member.RoleConsumer, member.TierNone))
	rate := ledger.Rate(600_000_000)
	m.terms = market.Terms{Lease: wire.ID{5}, Seq: 1, Host: m.host.Address(), Consumer: m.consumer.Address(),
		By: m.consumer.Address(), Attendant: m.consumer.Address(), Bid: wire.ID{6}, Type: market.Spot, GPUs: 1, Model: "RTX_4090",
		Rate: rate, Tariff: ledger.Tariff{GPU: rate, VolumeStopped: 60_000}, Grace: 5, OnEnd: market.OnEndStop,
		Isolation: "docker", Image: "sha256:" + strings.Repeat("ab", 32), Reservation: wire.ID{7}, Policy: 1}
	m.bill.Terms = m.sign(m.consumer, m.terms)
	cert := market.Cert{Host: m.host.Address(), Lease: m.terms.Lease, Terms: m.bill.Terms.Ref(m.market), Minute: billMinute, LogSeq: 1}
	m.bill.Cert = m.sign(m.host, cert)
	m.place = ledger.Place{Head: m.bill.Cert.Ref(m.market), Next: billMinute}
	return m
}

func (m *billMaker) credential(k *identity.PrivateKey, r member.Role, tier member.Tier) member.Credential {
	return member.Credential{Subject: k.Public(), Issuer: m.operator.Address(), Owner: k.Address(), Roles: r, Tier: tier,
		Serial: 1, NotBefore: m.charter.Founded, NotAfter: m.charter.Founded + member.Day}
}

func (m *billMaker) sign(k *identity.PrivateKey, msg wire.Message) wire.Object {
	o, err := wire.Seal(m.market, k, msg)
	if err != nil {
		m.t.Fatal(err)
	}
	return o
}

// next is the next entry of the chain; change spoils it before it is signed.
func (m *billMaker) next(s ledger.Status, b ledger.Basis, count uint8, change func(*ledger.Usage)) {
	u := ledger.Usage{Host: m.host.Address(), Lease: m.terms.Lease, Seq: m.place.Seq + 1, First: m.place.Next, Count: count,
		Status: s, Basis: b, Terms: m.bill.Terms.Ref(m.market), Prev: m.place.Head}
	if b != ledger.BasisNone {
		u.Billable = 1<<count - 1
	}
	if s == ledger.StatusRunning || s == ledger.StatusMinimum {
		u.Start = identity.Hash{1}
	}
	rate, err := m.terms.Tariff.Rate(s)
	if err != nil {
		m.t.Fatal(err)
	}
	meter, err := m.place.Meter.Add(rate, u.Minutes()*60)
	if err != nil {
		m.t.Fatal(err)
	}
	u.Numerator = meter.Numerator
	if change != nil {
		change(&u)
	}
	o := m.sign(m.host, u)
	m.bill.Usage = append(m.bill.Usage, o)
	m.place = ledger.Place{Seq: u.Seq, Head: o.Ref(m.market), Next: u.Last() + 1, Meter: ledger.Meter{Numerator: u.Numerator}}
}

// running begins the chain anew with billed entries of these starts.
func (m *billMaker) running(s ledger.Status, count uint8, starts ...byte) {
	m.bill.Usage = m.bill.Usage[:0]
	m.place = ledger.Place{Head: m.bill.Cert.Ref(m.market), Next: billMinute}
	for _, n := range starts {
		m.next(s, ledger.BasisAttended, count, func(u *ledger.Usage) { u.Start = identity.Hash{n} })
	}
}

func (m *billMaker) minimum(start byte) {
	m.next(ledger.StatusMinimum, ledger.BasisAttended, 1, func(u *ledger.Usage) { u.Start = identity.Hash{start} })
}

func (m *billMaker) voucher(change func(*ledger.Voucher)) {
	v := ledger.Voucher{Reservation: m.terms.Reservation, Lease: m.terms.Lease, By: m.consumer.Address(), Host: m.host.Address(),
		Total: m.place.Meter.Owed(), Minute: m.place.Next - 1, Usage: m.place.Head, Seq: m.place.Seq}
	if change != nil {
		change(&v)
	}
	m.bill.Voucher = m.sign(m.consumer, v)
}

func (m *billMaker) reservation(change func(*ledger.Reservation)) {
	r := ledger.Reservation{ID: m.terms.Reservation, Seq: uint64(len(m.bill.Reservations) + 1), Operator: m.operator.Address(),
		Consumer: m.consumer.Address(), By: m.consumer.Address(), Host: m.host.Address(), Lease: m.terms.Lease,
		Cap: 600_000_000, MaxRate: 600_000_000, RedeemBy: m.charter.Founded + member.Day, Entry: 2}
	if change != nil {
		change(&r)
	}
	m.bill.Reservations = append(m.bill.Reservations, m.sign(m.operator, r))
}

func (m *billMaker) receipt(change func(*ledger.SettleReceipt)) {
	r := ledger.SettleReceipt{Operator: m.operator.Address(), Host: m.host.Address(), Lease: m.terms.Lease,
		Reservation: m.terms.Reservation, Paid: m.place.Meter.Owed(), Voucher: m.bill.Voucher.Ref(m.market), Entry: 3}
	if change != nil {
		change(&r)
	}
	m.bill.Receipts = append(m.bill.Receipts, m.sign(m.operator, r))
}

// smallBill is a spot pod that ran for two minutes, was outbid, and was paid for.
func smallBill(t testing.TB) *billMaker {
	m := newBill(t)
	m.next(ledger.StatusSetup, ledger.BasisNone, 1, nil)
	m.next(ledger.StatusPartial, ledger.BasisNone, 1, nil)
	m.next(ledger.StatusRunning, ledger.BasisAttended, 1, nil)
	m.next(ledger.StatusRunning, ledger.BasisAttended, 1, nil)
	m.next(ledger.StatusPreempted, ledger.BasisNone, 1, nil)
	m.next(ledger.StatusStopped, ledger.BasisStorage, 30, func(u *ledger.Usage) { u.Final = true })
	m.voucher(nil)
	m.reservation(nil)
	m.reservation(func(r *ledger.Reservation) { r.Cap *= 2; r.Entry = 3 })
	m.receipt(func(r *ledger.SettleReceipt) { r.Paid, r.Entry = 10_000_000, 4 })
	m.receipt(func(r *ledger.SettleReceipt) { r.Entry, r.Released = 5, true })
	return m
}

// mandatedBill is a pod that ran on for two minutes and was stored for an hour while its consumer was away: the bank paid what
// it and another witness saw, one minute and half of the storage.
func mandatedBill(t testing.TB) *billMaker {
	m := newBill(t)
	m.next(ledger.StatusRunning, ledger.BasisAttended, 1, nil)
	m.voucher(nil)
	m.next(ledger.StatusRunning, ledger.BasisMandate, 1, nil)
	m.next(ledger.StatusRunning, ledger.BasisMandate, 1, nil)
	m.next(ledger.StatusStopped, ledger.BasisStorage, 60, nil)
	m.reservation(nil)
	m.entrust(nil)
	m.witness(m.operator, billMinute+1)
	m.witness(billKey(t, 4), billMinute+1)
	m.witness(m.operator, billMinute+2)
	for i := range member.Minute(30) {
		m.witness(m.operator, billMinute+3+2*i)
	}
	m.receipt(func(r *ledger.SettleReceipt) { r.Paid, r.Entry = 20_030_000, 4 })
	return m
}

func (m *billMaker) entrust(change func(*ledger.Mandate)) {
	m.bill.Panel = reliability.NewPanel(m.operator.Address(), billKey(m.t, 4).Address())
	g := ledger.Mandate{Consumer: m.consumer.Address(), Lease: m.terms.Lease, Seq: 1, Reservation: m.terms.Reservation, From: billMinute,
		Until: billMinute + 1000, MaxTotal: 600_000_000, MaxUnattended: 1440, Quorum: 1, Extension: m.bill.Panel.Hash()}
	if change != nil {
		change(&g)
	}
	m.bill.Mandate = m.sign(m.consumer, g)
}

func (m *billMaker) witness(by *identity.PrivateKey, at member.Minute) {
	r := reliability.Receipt{Witness: by.Address(), Host: m.host.Address(), Minute: at, Answer: identity.Hash{1}}
	m.bill.Witnessed = append(m.bill.Witnessed, m.sign(by, r))
	slices.SortFunc(m.bill.Witnessed, func(a, b wire.Object) int {
		x, _ := wire.Decode[reliability.Receipt](a)
		y, _ := wire.Decode[reliability.Receipt](b)
		return x.Compare(y)
	})
}

func TestBillProvesWhatNobodySigned(t *testing.T) {
	s, err := market.VerifyBill(mandatedBill(t).bill.Encode(), identity.Secp256k1{})
	if err != nil || s.Signed != 10_000_000 || s.Proven != 20_030_000 || s.Paid != s.Proven || s.Owed != 30_060_000 {
		t.Fatalf("got %+v, %v", s, err)
	}
	for _, c := range []struct {
		name string
		make func(m *billMaker)
		want string
	}{
		{"one receipt less", func(m *billMaker) { m.bill.Witnessed = m.bill.Witnessed[1:] }, "bill: receipts: number 1: 0.020030000 is paid"},
		{"no receipts", func(m *billMaker) { m.bill.Witnessed = nil }, "bill: receipts: number 1: 0.020030000 is paid, 0.010000000 is signed for or proven"},
		{"no mandate", func(m *billMaker) { m.bill.Mandate, m.bill.Panel = wire.Object{}, nil }, "bill: receipts: number 1: 0.020030000 is paid"},
		{"other witnesses", func(m *billMaker) { m.bill.Panel = m.bill.Panel[1:] }, "bill: mandate: it names other witnesses"},
		{"mandate of another lease", func(m *billMaker) { m.entrust(func(g *ledger.Mandate) { g.Lease = wire.ID{8} }) }, "bill: mandate: it is for another lease"},
		{"mandate by the host", func(m *billMaker) {
			m.entrust(func(g *ledger.Mandate) { g.Consumer = m.host.Address() })
			m.bill.Mandate = m.sign(m.host, decodeMandate(m))
		}, "bill: mandate: it is for another lease"},
		{"mandate used up", func(m *billMaker) { m.entrust(func(g *ledger.Mandate) { g.MaxTotal = 19_999_999 }) }, "bill: receipts: number 1: 0.020030000 is paid"},
		{"the host as witness", func(m *billMaker) {
			m.bill.Panel = reliability.NewPanel(m.host.Address(), m.operator.Address())
			panel := m.bill.Panel
			m.entrust(func(g *ledger.Mandate) { g.Extension = panel.Hash() })
			m.bill.Panel = panel
		}, "bill: mandate: a party"},
		{"receipt of another host", func(m *billMaker) {
			m.bill.Witnessed[0] = m.sign(m.operator, reliability.Receipt{Witness: m.operator.Address(), Host: billKey(t, 9).Address(), Minute: billMinute + 1, Answer: identity.Hash{1}})
		}, "bill: witnesses' receipts: number 1: it is of another host"},
		{"receipt twice", func(m *billMaker) { m.witness(m.operator, billMinute+1) }, "bill: witnesses' receipts: number "},
		{"receipt for a minute that is signed for", func(m *billMaker) { m.witness(m.operator, billMinute) }, "bill: witnesses' receipts: number 1: the voucher covers"},
		{"forged receipt", func(m *billMaker) { m.bill.Witnessed[2].Sig = m.bill.Witnessed[1].Sig }, "bill: witnesses' receipts: number 3: "},
	} {
		m := mandatedBill(t)
		c.make(m)
		if _, err := market.VerifyBill(m.bill.Encode(), identity.Secp256k1{}); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s…", c.name, err, c.want)
		}
	}
}

func decodeMandate(m *billMaker) ledger.Mandate {
	g, err := wire.Decode[ledger.Mandate](m.bill.Mandate)
	if err != nil {
		m.t.Fatal(err)
	}
	return g
}

// cached is the verifier of real signatures that remembers what it has seen.
type cached struct {
	mu   *sync.Mutex
	seen map[string]cachedAnswer
}

type cachedAnswer struct {
	by  identity.Address
	err error
}

func newCached() cached { return cached{&sync.Mutex{}, map[string]cachedAnswer{}} }

func (c cached) Recover(d identity.Hash, s identity.Signature) (identity.Address, error) {
	key := string(d[:]) + string(s[:])
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.seen[key]; ok {
		return a.by, a.err
	}
	by, err := identity.Secp256k1{}.Recover(d, s)
	c.seen[key] = cachedAnswer{by, err}
	return by, err
}

func TestBillTellsWhatALeaseCost(t *testing.T) {
	s, err := market.VerifyBill(smallBill(t).bill.Encode(), identity.Secp256k1{})
	if err != nil {
		t.Fatal(err)
	}
	// Two minutes at 0.60 an hour, and 30 of storage at 0.00006.
	if s.Owed != 20_030_000 || s.Signed != s.Owed || s.Paid != s.Owed || !s.Final || !s.Released || s.Entries != 6 {
		t.Fatalf("got %+v", s)
	}
	want := map[string][2]int64{"setup": {1, 0}, "partial": {1, 0}, "running": {2, 2}, "preempted": {1, 0}, "stopped": {30, 30}}
	got := map[string][2]int64{}
	for _, m := range s.Minutes {
		got[m.Status.String()] = [2]int64{m.Minutes, m.Billed}
	}
	if !maps.Equal(got, want) {
		t.Fatalf("minutes by status: got %v, want %v", got, want)
	}
}

func TestBillRoundTrips(t *testing.T) {
	for _, m := range []*billMaker{smallBill(t), newBill(t), mandatedBill(t)} {
		file := m.bill.Encode()
		b, err := market.DecodeBill(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Encode(), file) {
			t.Fatal("another spelling comes back")
		}
		if _, err := market.VerifyBill(file, identity.Secp256k1{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryChangedByteFailsABill(t *testing.T) {
	short := mandatedBill(t) // its receipts are all of one kind
	short.bill.Witnessed, short.bill.Receipts = short.bill.Witnessed[:2], nil
	for name, file := range map[string][]byte{"small": smallBill(t).bill.Encode(), "mandated": short.bill.Encode()} {
		t.Run(name, func(t *testing.T) { changedBytesFail(t, file) })
	}
}

func changedBytesFail(t *testing.T, file []byte) {
	v := newCached()
	changes := []func(byte) byte{func(b byte) byte { return b ^ 1 }, func(byte) byte { return ' ' }}
	for i := range file {
		for _, change := range changes {
			bad := bytes.Clone(file)
			if bad[i] = change(bad[i]); bad[i] == file[i] {
				continue
			}
			if _, err := market.VerifyBill(bad, v); err == nil {
				t.Fatalf("byte %d changed from %q to %q: accepted, near %q", i, file[i], bad[i], file[max(0, i-40):i+1])
			}
		}
	}
	for i := 0; i < len(file); i += 7 {
		for _, bad := range [][]byte{file[:i], append(append(bytes.Clone(file[:i]), ' '), file[i:]...),
			append(bytes.Clone(file[:i]), file[i+1:]...)} {
			if _, err := market.VerifyBill(bad, v); err == nil {
				t.Fatalf("cut, added or removed at byte %d: accepted", i)
			}
		}
	}
	t.Logf("%d bytes", len(file))
}

func TestBadPartOfABillIsNamed(t *testing.T) {
	other := billKey(t, 9)
	for _, c := range []struct {
		name string
		make func(m *billMaker)
		want string
	}{
		{"stranger's policy", func(m *billMaker) {
			m.bill.Policy = m.sign(other, member.DefaultPolicy(other.Address(), 1))
		}, "bill: policy: member: not signed by an operator"},
		{"stranger's credential", func(m *billMaker) {
			c := m.credential(m.host, member.RoleHost, member.TierSecure)
			c.Issuer = other.Address()
			m.bill.Host = m.sign(other, c)
		}, "bill: host: member: not signed by an operator"},
		{"consumer as host", func(m *billMaker) {
			m.bill.Host = m.sign(m.operator, m.credential(m.host, member.RoleConsumer, member.TierNone))
		}, "bill: host: "},
		{"swapped credentials", func(m *billMaker) { m.bill.Host, m.bill.Consumer = m.bill.Consumer, m.bill.Host }, "bill: host: "},
		{"other charter", func(m *billMaker) {
			m.charter.Name = "other"
			m.market = m.charter.Market()
			m.bill.Charter = m.sign(m.operator, m.charter)
		}, "bill: terms: "},
		{"other terms", func(m *billMaker) {
			m.terms.Model = "H100"
			m.bill.Terms = m.sign(m.consumer, m.terms)
		}, "bill: cert: it is for other terms"},
		{"other policy number", func(m *billMaker) {
			p := member.DefaultPolicy(m.operator.Address(), 1)
			p.Number = 2
			m.bill.Policy = m.sign(m.operator, p)
		}, "bill: policy: number 2"},
		{"no cert", func(m *billMaker) { m.bill.Cert = wire.Object{} }, "bill: cert: "},
		{"entry gone", func(m *billMaker) { m.bill.Usage = append(m.bill.Usage[:2:2], m.bill.Usage[3:]...) },
			"bill: entry 3 (minute 30000002): ledger: usage entry does not continue its chain"},
		{"entry twice", func(m *billMaker) { m.bill.Usage = append(m.bill.Usage[:2:2], m.bill.Usage[1:]...) },
			"bill: entry 3 (minute 30000002): "},
		{"first entry gone", func(m *billMaker) { m.bill.Usage = m.bill.Usage[1:] }, "bill: entry 1 (minute 30000000): "},
		{"last entries gone", func(m *billMaker) { m.bill.Usage = m.bill.Usage[:3] }, "bill: voucher: entry 6"},
		{"after the final", func(m *billMaker) { m.next(ledger.StatusHold, ledger.BasisNone, 1, nil) },
			"bill: entry 7 (minute 30000035): it comes after the final one"},
		{"one nano-credit-second too many", func(m *billMaker) {
			m.bill.Usage = m.bill.Usage[:0]
			m.place = ledger.Place{Head: m.bill.Cert.Ref(m.market), Next: billMinute}
			m.next(ledger.StatusRunning, ledger.BasisAttended, 1, func(u *ledger.Usage) { u.Numerator++ })
		}, "bill: entry 1 (minute 30000000): ledger: usage entry's numerator"},
		{"free minute billed", func(m *billMaker) {
			m.bill.Usage = m.bill.Usage[:0]
			m.place = ledger.Place{Head: m.bill.Cert.Ref(m.market), Next: billMinute}
			m.next(ledger.StatusPreempted, ledger.BasisAttended, 1, nil)
		}, "bill: entry 1 (minute 30000000): ledger: usage entry bills minutes that are free"},
		{"an hour of running in one entry", func(m *billMaker) { m.running(ledger.StatusRunning, 60, 1) },
			"bill: entry 1 (minute 30000000): ledger: usage entry does not fit its container start: entry 1 is running for 60"},
		{"no start named", func(m *billMaker) { m.running(ledger.StatusRunning, 1, 0) },
			"bill: entry 1 (minute 30000000): ledger: usage entry does not fit its container start: entry 1 is running and names"},
		{"minimum twice", func(m *billMaker) { m.running(ledger.StatusMinimum, 1, 1, 1) },
			"bill: entry 2 (minute 30000001): ledger: usage entry does not fit its container start: entry 2 bills the minimum"},
		{"minimum of a start that ran", func(m *billMaker) { m.running(ledger.StatusRunning, 1, 1); m.minimum(1) },
			"bill: entry 2 (minute 30000001): ledger: usage entry does not fit its container start: entry 2 bills the minimum"},
		{"minimums by turns", func(m *billMaker) { m.running(ledger.StatusMinimum, 1, 1, 2, 1) },
			"bill: entry 3 (minute 30000002): ledger: usage entry does not fit its container start: entry 3 bills a start from"},
		{"forged entry", func(m *billMaker) { m.bill.Usage[3].Sig = m.bill.Usage[2].Sig }, "bill: entry 4 (minute 30000003): "},
		{"voucher of a nano-credit more", func(m *billMaker) { m.voucher(func(v *ledger.Voucher) { v.Total++ }) }, "bill: voucher: it says"},
		{"voucher of a nano-credit less", func(m *billMaker) { m.voucher(func(v *ledger.Voucher) { v.Total-- }) }, "bill: voucher: it says"},
		{"voucher of another lease", func(m *billMaker) { m.voucher(func(v *ledger.Voucher) { v.Lease = wire.ID{8} }) }, "bill: voucher: "},
		{"voucher by another", func(m *billMaker) {
			m.voucher(func(v *ledger.Voucher) { v.By = other.Address() })
		}, "bill: voucher: wire: signed by another key"},
		{"voucher gone", func(m *billMaker) { m.bill.Voucher = wire.Object{} }, "bill: receipts: number 1: 0.010000000 is paid"},
		{"reservations gone", func(m *billMaker) { m.bill.Reservations = nil }, "bill: receipts: number 1: it is of a bank"},
		{"reservations out of order", func(m *billMaker) {
			r := m.bill.Reservations
			r[0], r[1] = r[1], r[0]
		}, "bill: reservations: number 2: sequence 1 after 2"},
		{"reservation for another", func(m *billMaker) {
			m.reservation(func(r *ledger.Reservation) { r.Host = other.Address() })
		}, "bill: reservations: number 3: "},
		{"reserved too little", func(m *billMaker) {
			m.bill.Reservations = nil
			m.reservation(func(r *ledger.Reservation) { r.Cap = 15_000_000 })
		}, "bill: receipts: number 2: 0.020030000 is paid, 0.015000000 is reserved"},
		{"receipts out of order", func(m *billMaker) {
			r := m.bill.Receipts
			r[0], r[1] = r[1], r[0]
		}, "bill: receipts: number 2: it is older"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := smallBill(t)
			c.make(m)
			_, err := market.VerifyBill(m.bill.Encode(), identity.Secp256k1{})
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			var bad *market.BadEntry
			if strings.HasPrefix(c.want, "bill: entry") != errors.As(err, &bad) {
				t.Fatalf("%v is a %T", err, err)
			}
		})
	}
}

func TestMisspeltEntryIsNamed(t *testing.T) {
	file := string(smallBill(t).bill.Encode())
	for _, c := range []struct{ old, new, want string }{
		{"minute 30000002 running", "minute 30000002 stopped", "bill: entry 3: its text is not what is signed, or not in the one accepted spelling"},
		{`{"kind":"usage","says":"minute 30000003`, `{"kind" "usage","says":"minute 30000003`, "bill: entry 4: invalid character"},
		{`"owed": "0.02`, `"owed": "9.02`, "market: not a bill: line "},
		{"\n}\n", "\n}", "market: not a bill: line "},
	} {
		if !strings.Contains(file, c.old) {
			t.Fatalf("the bill does not say %q", c.old)
		}
		_, err := market.VerifyBill([]byte(strings.Replace(file, c.old, c.new, 1)), newCached())
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q for %q: got %v, want %q", c.new, c.old, err, c.want)
		}
	}
}

// longBill is a lease of n minutes.
func longBill(t testing.TB, n int) []byte {
	m := newBill(t)
	for range n {
		m.next(ledger.StatusRunning, ledger.BasisAttended, 1, nil)
	}
	m.voucher(nil)
	return m.bill.Encode()
}

// both checks on two goroutines.
func both(n int, check func(i int)) {
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := w; i < n; i += 2 {
				check(i)
			}
		})
	}
	wg.Wait()
}

func TestLongBillVerifiesInParallel(t *testing.T) {
	file := longBill(t, 200)
	one, err := market.VerifyBill(file, identity.Secp256k1{})
	if err != nil {
		t.Fatal(err)
	}
	two, err := market.VerifyBillWith(file, identity.Secp256k1{}, both)
	if err != nil || fmt.Sprint(one) != fmt.Sprint(two) {
		t.Fatalf("got %+v, %v, want %+v", two, err, one)
	}
}

var monthMinutes = flag.Int("minutes", 43_200, "how many minutes the bill of BenchmarkVerifyMonth has")

// BenchmarkVerifyMonth verifies the bill of 30 days on two cores, as 'souk bill verify' does. Beside it, in turns, runs the
// least that this can cost: checking as many bare signatures.
func BenchmarkVerifyMonth(b *testing.B) {
	n := *monthMinutes
	file := longBill(b, n)
	digest := identity.Hash{1}
	sig, err := billKey(b, 1).Sign(digest)
	if err != nil {
		b.Fatal(err)
	}
	var took, ratios []float64
	for b.Loop() {
		begin := time.Now()
		if _, err := market.VerifyBillWith(file, identity.Secp256k1{}, both); err != nil {
			b.Fatal(err)
		}
		whole := time.Since(begin).Seconds()
		begin = time.Now()
		both(n, func(int) {
			if _, err := (identity.Secp256k1{}).Recover(digest, sig); err != nil {
				b.Error(err)
			}
		})
		took, ratios = append(took, whole), append(ratios, time.Since(begin).Seconds()/whole)
	}
	slices.Sort(took)
	slices.Sort(ratios)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(n), "minutes")
	b.ReportMetric(took[len(took)/2], "s/bill")
	b.ReportMetric(ratios[len(ratios)/2], "bill:signatures")
}

func FuzzVerifyBill(f *testing.F) {
	good := smallBill(f).bill.Encode()
	f.Add(good)
	f.Add(newBill(f).bill.Encode())
	f.Add([]byte(`{"format":"souk bill 1"}`))
	f.Add([]byte(`{"format":"souk bill 1","usage":[{},null,{"payload":"a0"}],"receipts":[{}]}`))
	v := newCached()
	f.Fuzz(func(t *testing.T, file []byte) {
		b, err := market.DecodeBill(file)
		if err == nil {
			b.Encode()
		}
		if _, err := market.VerifyBill(file, v); err == nil {
			if again := b.Encode(); !bytes.Equal(again, file) {
				t.Fatal("accepted in another spelling")
			}
		}
	})
}
