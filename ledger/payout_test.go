package ledger_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// earned is a bank whose host has so much payable.
func earned(t *testing.T, amount string) *ledger.Bank {
	t.Helper()
	b := funded(t, "100")
	p := policy()
	p.Fee = 0
	total := credits(t, amount)
	if _, err := b.Reserve(p, reserve(1, total, total), 0, noon); err != nil {
		t.Fatal(err)
	}
	v, u := claim(1, 1, total)
	if _, err := b.Settle(p, v, u, noon); err != nil {
		t.Fatal(err)
	}
	if got := b.Account(host).Payable; got != total {
		t.Fatalf("payable is %s, want %s", got, total)
	}
	return b
}

func request(n byte, amount ledger.Amount) ledger.PayoutRequest {
	return ledger.PayoutRequest{Account: host, Operator: operator, ID: wire.ID{n}, Amount: amount, At: noon}
}

func TestPayoutIsMadeOnceWhateverIsRepeated(t *testing.T) {
	b := earned(t, "8")
	first, err := b.Payout(request(1, credits(t, "5")), noon)
	if err != nil || first.State != ledger.PayoutPaying {
		t.Fatalf("got %+v, %v", first, err)
	}
	if again, err := b.Payout(request(1, credits(t, "5")), noon+1000); err != nil || again != first {
		t.Fatalf("repeated: got %+v, %v, want %+v", again, err, first)
	}
	if a := b.Account(host); a.Payable != credits(t, "3") || a.Paying != credits(t, "5") {
		t.Fatalf("got %+v", a)
	}
	paid, err := b.Paid(wire.ID{1}, "sepa-1", noon+2000)
	if err != nil || paid.State != ledger.PayoutPaid || paid.Ref != "sepa-1" {
		t.Fatalf("got %+v, %v", paid, err)
	}
	if again, err := b.Paid(wire.ID{1}, "sepa-1", noon+3000); err != nil || again != paid {
		t.Fatalf("paid twice: got %+v, %v", again, err)
	}
	if now, err := b.Payout(request(1, credits(t, "5")), noon+4000); err != nil || now != paid {
		t.Fatalf("asked again: got %+v, %v, want %+v", now, err, paid)
	}
	for name, err := range map[string]error{
		"another reference":           second(b.Paid(wire.ID{1}, "sepa-2", noon)),
		"returned after it was paid":  second(b.Returned(wire.ID{1}, "no such account", noon)),
		"another amount under its id": second(b.Payout(request(1, credits(t, "4")), noon)),
	} {
		if !errors.Is(err, ledger.ErrRefReused) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if a := b.Account(host); a.PaidOut != credits(t, "5") || a.Paying != 0 {
		t.Fatalf("got %+v", a)
	}
	if err := b.Audit(); err != nil {
		t.Fatal(err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestPayoutsThatCannotBeAreRefused(t *testing.T) {
	b := earned(t, "8")
	foreign := request(2, 1)
	foreign.Operator = identity.Address{9}
	if err := second(b.Payout(foreign, noon)); err == nil {
		t.Error("another bank's payout is taken")
	}
	if err := second(b.Payout(request(3, credits(t, "8")+1), noon)); !errors.Is(err, ledger.ErrFunds) {
		t.Errorf("more than is payable: got %v", err)
	}
	if err := second(b.Payout(request(3, -1), noon)); err == nil {
		t.Error("a negative payout is taken")
	}
	if err := second(b.Paid(wire.ID{4}, "x", noon)); !errors.Is(err, ledger.ErrUnknown) {
		t.Errorf("a payout that nobody asked for: got %v", err)
	}
	for n := range byte(ledger.MostPaying) {
		if err := second(b.Payout(request(100+n, 1), noon)); err != nil {
			t.Fatal(err)
		}
	}
	if err := second(b.Payout(request(99, 1), noon)); err == nil {
		t.Error("there is no end to payouts under way")
	}
	if err := second(b.Paid(wire.ID{100}, "one", noon)); err != nil {
		t.Fatal(err)
	}
	if err := second(b.Paid(wire.ID{101}, "one", noon)); !errors.Is(err, ledger.ErrRefReused) {
		t.Errorf("one payment for two payouts: got %v", err)
	}
	if r, err := b.Returned(wire.ID{101}, "no such account", noon); err != nil || r.State != ledger.PayoutReturned {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestTransferIsMadeOnce(t *testing.T) {
	b := earned(t, "8")
	gift := ledger.Transfer{From: consumer, To: host, Operator: operator, ID: wire.ID{7}, Amount: credits(t, "10"), Memo: "thanks", At: noon}
	first, err := b.Transfer(gift, noon)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.Transfer(gift, noon+5000); err != nil || again != first {
		t.Fatalf("repeated: got %+v, %v", again, err)
	}
	if a := b.Account(host); a.Available != credits(t, "10") || a.Received != credits(t, "10") {
		t.Fatalf("got %+v", a)
	}
	own := ledger.Transfer{From: host, To: host, Operator: operator, ID: wire.ID{8}, Amount: credits(t, "8"), Earned: true, At: noon}
	if err := second(b.Transfer(own, noon)); err != nil {
		t.Fatal(err)
	}
	if a := b.Account(host); a.Available != credits(t, "18") || a.Payable != 0 {
		t.Fatalf("got %+v", a)
	}
	for name, change := range map[string]func(*ledger.Transfer){
		"other amount, same id": func(x *ledger.Transfer) { x.Amount++ },
		"too small":             func(x *ledger.Transfer) { x.ID, x.Amount = wire.ID{9}, ledger.TransferLeast-1 },
		"more than there is":    func(x *ledger.Transfer) { x.ID, x.Amount = wire.ID{9}, credits(t, "1000") },
		"to itself":             func(x *ledger.Transfer) { x.ID, x.To = wire.ID{9}, x.From },
		"another bank's":        func(x *ledger.Transfer) { x.ID, x.Operator = wire.ID{9}, host },
	} {
		x := gift
		change(&x)
		if err := second(b.Transfer(x, noon)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := b.Audit(); err != nil {
		t.Fatal(err)
	}
}

// TestPayoutsAndTransfersKeepTheBooks plays random orders, many of them repeated, against sums kept beside.
func TestPayoutsAndTransfersKeepTheBooks(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b := ledger.NewBank(operator, charter())
		who := []identity.Address{consumer, host, {0: 4}}
		avail := map[identity.Address]ledger.Amount{}
		for i, a := range who {
			if _, err := b.Deposit(policy(), a, 20*ledger.Credit, fmt.Sprint(i), noon); err != nil {
				r.Fatal(err)
			}
			avail[a] = 20 * ledger.Credit
		}
		done := map[wire.ID]ledger.Transfer{}
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			x := ledger.Transfer{From: rapid.SampledFrom(who).Draw(r, "from"), To: rapid.SampledFrom(who).Draw(r, "to"), Operator: operator,
				ID: wire.ID{rapid.ByteRange(1, 9).Draw(r, "id")}, Amount: ledger.Credit * ledger.Amount(rapid.Int64Range(0, 30).Draw(r, "credits")), At: noon}
			_, err := b.Transfer(x, noon)
			old, again := done[x.ID]
			switch {
			case x.From == x.To || x.Amount < ledger.TransferLeast || again && old != x || !again && avail[x.From] < x.Amount:
				if err == nil {
					r.Fatalf("%+v is taken", x)
				}
			case err != nil:
				r.Fatalf("%+v: %v", x, err)
			case !again:
				done[x.ID] = x
				avail[x.From] -= x.Amount
				avail[x.To] += x.Amount
			}
			for _, a := range who {
				if got := b.Account(a).Available; got != avail[a] {
					r.Fatalf("%v has %s, want %s", a, got, avail[a])
				}
			}
		}
		c := ledger.NewBank(operator, charter())
		if err := c.Restore(b.Snapshot()); err != nil {
			r.Fatal(err)
		}
		for id, x := range done {
			first, _ := b.Transfer(x, noon)
			if again, err := c.Transfer(x, noon+1); err != nil || again != first {
				r.Fatalf("transfer %v after a restart: %+v, %v, want %+v", id, again, err, first)
			}
		}
	})
}
