package ledger_test

import (
	"errors"
	"testing"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

var (
	operator = identity.Address{0: 1}
	consumer = identity.Address{0: 2}
	host     = identity.Address{0: 3}
	noon     = member.Time(1_800_000_000_000)
)

func charter() member.Charter {
	return member.Charter{Salt: wire.ID{1}, Name: "test", Founded: noon, ChainID: 1, Threshold: 1, Slot: 60}
}

func policy() member.Policy {
	p := member.DefaultPolicy(operator, noon)
	p.Fee = 50_000
	return p
}

func credits(t *testing.T, s string) ledger.Amount {
	t.Helper()
	a, err := ledger.ParseAmount(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func reserve(n byte, limit, rate ledger.Amount) ledger.Reserve {
	return ledger.Reserve{Consumer: consumer, Reservation: wire.ID{n}, Lease: wire.ID{100, n}, Host: host, By: consumer,
		Cap: limit, MaxRate: ledger.Rate(rate), At: noon}
}

// claim is a voucher and its usage entry, for the reservation that reserve(n) makes.
func claim(n byte, seq uint64, total ledger.Amount) (ledger.Voucher, ledger.Usage) {
	u := ledger.Usage{Host: host, Lease: wire.ID{100, n}, Seq: seq, First: member.Minute(30_000_000 + seq), Count: 1, Billable: 1,
		Status: ledger.StatusRunning, Basis: ledger.BasisAttended, Numerator: int64(total) * 3600}
	ref := charter().Market().Ref(wire.KindUsage, wire.Marshal(u))
	return ledger.Voucher{Reservation: wire.ID{n}, Lease: u.Lease, By: consumer, Host: host, Total: total, Minute: u.Last(),
		Usage: ref, Seq: seq}, u
}

func funded(t *testing.T, amount string) *ledger.Bank {
	t.Helper()
	b := ledger.NewBank(operator, charter())
	if _, err := b.Deposit(policy(), consumer, credits(t, amount), "first", noon); err != nil {
		t.Fatal(err)
	}
	return b
}

func audit(t *testing.T, b *ledger.Bank) {
	t.Helper()
	if err := b.Audit(); err != nil {
		t.Fatal(err)
	}
}

func TestDepositIsIdempotentByReference(t *testing.T) {
	b := funded(t, "25")
	first, err := b.Deposit(policy(), consumer, 25*ledger.Credit, "first", noon+member.Hour)
	if err != nil || first.At != noon || first.Entry != 1 {
		t.Fatalf("again: got %+v, %v", first, err)
	}
	if _, err := b.Deposit(policy(), consumer, 26*ledger.Credit, "first", noon); !errors.Is(err, ledger.ErrRefReused) {
		t.Fatalf("another amount: got %v", err)
	}
	if _, err := b.Deposit(policy(), host, 25*ledger.Credit, "first", noon); !errors.Is(err, ledger.ErrRefReused) {
		t.Fatalf("another account: got %v", err)
	}
	if got := b.Balance(consumer, noon).Available; got != 25*ledger.Credit {
		t.Fatalf("available %v", got)
	}
	audit(t, b)
}

func TestLeaseIsPaidFromReservationToHost(t *testing.T) {
	b, p := funded(t, "25"), policy()
	r, err := b.Reserve(p, reserve(1, credits(t, "0.60"), credits(t, "0.60")), ledger.Rate(credits(t, "0.60")), noon)
	if err != nil || r.Cap != credits(t, "0.60") || r.Seq != 1 {
		t.Fatalf("got %+v, %v", r, err)
	}
	v, u := claim(1, 3, credits(t, "0.02"))
	receipt, err := b.Settle(p, v, u, noon+3*60*member.Second)
	if err != nil || receipt.Paid != credits(t, "0.02") || receipt.Fee != credits(t, "0.001") {
		t.Fatalf("got %+v, %v", receipt, err)
	}
	again, err := b.Settle(p, v, u, noon+member.Hour)
	if err != nil || again != receipt {
		t.Fatalf("again: got %+v, %v, want %+v", again, err, receipt)
	}
	last, err := b.Final(p, ledger.Final{Host: host, Lease: v.Lease, Reservation: v.Reservation, Total: v.Total}, &v, noon)
	if err != nil || !last.Released || last.Paid != credits(t, "0.02") {
		t.Fatalf("final: got %+v, %v", last, err)
	}
	audit(t, b)
	if s := b.Balance(consumer, noon); s.Available != credits(t, "24.98") || s.Reserved != 0 || s.Settled != credits(t, "0.02") {
		t.Fatalf("consumer: %+v", s)
	}
	if s := b.Balance(host, noon); s.Payable != credits(t, "0.019") {
		t.Fatalf("host: %+v", s)
	}
}

func TestReserveSaysWhatIsMissing(t *testing.T) {
	b, p := funded(t, "10"), policy()
	_, err := b.Reserve(p, reserve(1, 100*ledger.Credit, 44*ledger.Credit), 44*ledger.Rate(ledger.Credit), noon)
	var r *ledger.Refused
	if !errors.Is(err, ledger.ErrFunds) || !errors.As(err, &r) || r.Needed != 11*ledger.Credit || r.Available != 10*ledger.Credit {
		t.Fatalf("got %v", err)
	}
}
