package wire_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"souk/ledger"
	"souk/ledger/audit"
	"souk/market"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// testKey is the key that all vectors are signed with: 32 bytes of 0x46, as in the example of EIP-155.
func testKey(t testing.TB) *identity.PrivateKey {
	t.Helper()
	k, err := identity.ParsePrivateKey(bytes.Repeat([]byte{0x46}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// testMarket is the market that all vectors belong to.
func testMarket() wire.Market {
	return wire.NewMarket(identity.Keccak([]byte("market of the vectors")), 31337, identity.Address{0xc0, 19: 0x7e})
}

// A sample is a message of one kind with no field empty, and how to read and open that kind.
type sample struct {
	msg    wire.Message
	decode func(wire.Object) (wire.Message, error)
	open   func(wire.Opener, wire.Object) (wire.AnyVerified, error)
}

// samples are messages of every kind that has one, in the order of their numbers.
func samples(t testing.TB) []sample {
	k := testKey(t)
	me := k.Address()
	quoted := of(k, func(m *market.Terms) {
		m.Host, m.Type, m.OnEnd, m.Quote = me, market.Spot, market.OnEndStop, identity.Hash{}
		m.Tariff.GPU = m.Rate * ledger.Rate(m.GPUs)
	}).msg.(market.Terms)
	return []sample{
		of(k, func(m *member.Charter) { m.Slot, m.Threshold = 5, 1 }),
		of(k, func(m *member.Credential) { m.Issuer, m.Roles, m.Tier, m.NotAfter = me, 3, 2, m.NotBefore+1 }),
		of(k, func(m *ledger.Deposit) { m.Operator = me }),
		of(k, func(m *ledger.Reservation) { m.Operator = me }),
		of(k, func(m *market.Terms) {
			*m = quoted
			m.Host, m.Consumer, m.Quote = identity.Address{0x0a, 1}, me, identity.Hash{0x99}
		}),
		of(k, func(m *market.Amendment) { m.By = me }),
		of(k, func(m *ledger.Voucher) { m.By = me }),
		of(k, func(m *ledger.Mandate) { m.Consumer, m.Quorum, m.Until = me, 1, m.From+1 }),
		of(k, func(m *member.Policy) {
			n, boot := m.Number, m.Bootstrap
			*m = member.DefaultPolicy(me, m.Effective)
			m.Number, m.Prev, m.Fee, m.Bootstrap, m.Extension = n, identity.Hash{1}, 25_000, boot, identity.Hash{2}
		}),
		of(k, func(m *member.Revocation) { m.Operator, m.Sanction = me, member.Revoke }),
		of(k, func(m *member.JoinRequest) { m.Role = member.RoleHost }),
		of(k, func(m *market.Offer) {
			m.Host, m.Expires, m.Grace, m.Region, m.DiskLimit = me, m.At+600, 5, "DE", "none"
			g := &m.Groups[0]
			g.Floor, g.Count, g.Free, g.OnDemand = g.Price/2, 8, 3, 5
		}),
		of(k, func(m *market.Offer) {
			m.Host, m.Expires, m.Grace, m.Region, m.DiskLimit = me, m.At+600, 5, "DE", "none"
			g := &m.Groups[0]
			g.Floor, g.Count, g.Free, g.OnDemand, g.Compute = g.Price/2, 8, 3, 5, 890
			m.Machine.GPUs = 8
			m.Fills = []market.Fill{{Seq: 3, At: m.At - 1000, Type: market.Spot, Model: "RTX_4090", GPUs: 2, Rate: 150_000_000, Simulated: true}}
		}),
		of(k, func(m *reliability.Beat) { m.Host = me }),
		of(k, func(m *reliability.Receipt) { m.Witness, m.Path = me, reliability.PathRelay }),
		of(k, func(m *market.Request) {
			m.Consumer, m.Type, m.OnEnd, m.GPUs = me, market.OnDemand, market.OnEndRemove, 2
			m.Spec = spec()
		}),
		of(k, func(m *market.Quote) { m.Host, m.Lease, m.Terms = quoted.Host, quoted.Lease, wire.Marshal(quoted) }),
		of(k, func(m *market.Cert) { m.Host = me }),
		of(k, func(m *market.LogEntry) {
			m.Host, m.Entry, m.State, m.Reason = me, market.EntryTake, market.StateSetup, 3
		}),
		of(k, func(m *market.Notice) { m.Host, m.Kill = me, m.Term+5000 }),
		of(k, func(m *ledger.NoLease) { m.Host = me }),
		of(k, func(m *ledger.Usage) {
			m.Host, m.Count, m.Billable, m.Status, m.Basis = me, 60, 1<<60-1, ledger.StatusStopped, ledger.BasisStorage
		}),
		of(k, func(m *market.Alive) { m.By = me }),
		of(k, func(m *market.AliveReply) { m.Host, m.State, m.Reason, m.ExitCode = me, market.StateExited, 2, -9 }),
		of(k, func(m *market.Command) { m.Consumer, m.Order = me, market.CommandStart }),
		of(k, func(m *ledger.Final) { m.Host = me }),
		of(k, func(m *ledger.Close) { m.Consumer = me }),
		of(k, func(m *ledger.Lower) { m.Host = me }),
		of(k, func(m *ledger.FundsNotice) { m.Operator, m.ForfeitAt = me, m.At+172_800_000 }),
		of(k, func(m *ledger.Forfeit) { m.Operator = me }),
		of(k, func(m *market.VolumeRecord) { m.Host, m.Reason = me, market.ReasonForfeit }),
		of(k, func(m *ledger.Reserve) { m.Consumer = me }),
		of(k, func(m *ledger.SettleReceipt) { m.Operator = me; m.Fee = m.Paid / 20 }),
		of(k, func(m *ledger.PayoutReceipt) { m.Operator, m.State = me, ledger.PayoutPaid }),
		of(k, func(m *audit.Checkpoint) {
			m.Operator = me
			m.Sums.Deposited, _ = m.Sums.Held()
		}),
		of(k, func(m *ledger.Entry) {
			m.Operator, m.Entry = me, ledger.EntrySettle
			m.Postings = []ledger.Posting{{Account: me, Book: ledger.BookReserved, Amount: -100},
				{Account: identity.Address{2}, Book: ledger.BookPayable, Amount: 95}, {Account: me, Book: ledger.BookFees, Amount: 5}}
		}),
		of(k, func(m *ledger.PayoutRequest) { m.Account = me }),
		of(k, func(m *ledger.Transfer) { m.From = me }),
		of(k, func(m *ledger.TransferReceipt) { m.Operator = me }),
		of(k, func(m *ledger.Limit) { m.Account = me }),
		of(k, func(m *audit.Consistency) { m.Operator, m.Size = me, m.Old+7 }),
		of(k, func(m *reliability.Presence) { m.Host = me }),
		of(k, func(m *market.Lodged) { m.Operator = me }),
	}
}

func spec() market.Spec {
	return market.Spec{Image: "docker.io/library/busybox@sha256:" + strings.Repeat("5e", 32), Command: []string{"sleep", "1h"},
		Env: []string{"A=1"}, Disk: 10 << 30, Volume: 1 << 30, Mount: "/workspace", SSHKeys: []string{"ssh-ed25519 AAAA"}, Tag: "busybox"}
}

// of is the sample of one type: every field filled, then put right by change.
func of[T wire.Message](k *identity.PrivateKey, change func(*T)) sample {
	var m T
	n := 0
	fill(reflect.ValueOf(&m).Elem(), k, &n)
	change(&m)
	return sample{
		msg:    m,
		decode: func(o wire.Object) (wire.Message, error) { return wire.Decode[T](o) },
		open: func(o wire.Opener, obj wire.Object) (wire.AnyVerified, error) {
			v, err := wire.Open[T](o, obj)
			if err != nil {
				return nil, err
			}
			return v, nil
		},
	}
}

// fill gives every field another value, the same in each run.
func fill(v reflect.Value, k *identity.PrivateKey, n *int) {
	*n++
	if v.Type() == reflect.TypeFor[identity.PublicKey]() {
		v.Set(reflect.ValueOf(k.Public()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			// What a kind has got since stays empty: its vector is that of before, and another sample has the field.
			if f := v.Type().Field(i); f.IsExported() && !strings.Contains(f.Tag.Get("cbor"), "omitempty") {
				fill(v.Field(i), k, n)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(*n*7+i*3) & 0xff)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), k, n)
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(uint64(*n))
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n) + 1000)
	default:
		v.SetInt(int64(*n) + 1_000_000)
	}
}
