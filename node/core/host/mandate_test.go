package host_test

import (
	"testing"

	"souk/market"
	"souk/node/core/host"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// mandated is running, with a mandate that names the bank.
func mandated(t *testing.T) (*bench, *deal) {
	b, d := running(t)
	b.must(b.give(d, nil))
	return b, d
}

func TestReceiptsThatProveNothingAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		by     *identity.PrivateKey
		change func(b *bench, r *reliability.Receipt)
		want   step.RefusalCode
	}{
		{"as it should be", operator, func(*bench, *reliability.Receipt) {}, 0},
		{"of the minute before, in time", operator, func(_ *bench, r *reliability.Receipt) { r.Minute-- }, 0},
		{"for another host", operator, func(_ *bench, r *reliability.Receipt) { r.Host = key(9).Address() }, step.RefuseBadRequest},
		{"another witness's", operator, func(_ *bench, r *reliability.Receipt) { r.Witness = witnesses["dave"].Address() }, step.RefuseBadRequest},
		{"of a minute that has not begun", operator, func(_ *bench, r *reliability.Receipt) { r.Minute++ }, step.RefuseStale},
		{"of a minute that is settled", operator, func(_ *bench, r *reliability.Receipt) { r.Minute -= 2 }, step.RefuseStale},
		{"too late", operator, func(b *bench, r *reliability.Receipt) { b.to(b.now + 20*member.Second); r.Minute-- }, step.RefuseStale},
		{"of who is no witness here", witnesses["dave"], func(*bench, *reliability.Receipt) {}, step.RefuseNotForYou},
	} {
		b, _ := mandated(t)
		r := receiptOf(tt.by, b.minute(), identity.Hash{1})
		tt.change(b, &r)
		signer := tt.by
		if r.Witness != signer.Address() {
			signer = witnesses["dave"]
		}
		got := b.ask(tt.by, step.OpWitnessed, nil, seal(b, signer, r))
		if code := refusalOf(got); code != tt.want {
			t.Errorf("%s: %d (%v), want %d", tt.name, code, got.Refusal, tt.want)
		}
	}
	b, _ := mandated(t)
	if code := refusalOf(b.ask(witnesses["dave"], step.OpAsk, step.AskBody{Nonce: 1})); code != step.RefuseNotForYou {
		t.Errorf("a question of who is no witness here: %d", code)
	}
	if code := refusalOf(b.ask(operator, step.OpAsk, nil)); code != step.RefuseBadRequest {
		t.Errorf("a question without a nonce: %d", code)
	}
}

func refusalOf(r step.Reply) step.RefusalCode {
	if r.Refusal == nil {
		return 0
	}
	return r.Refusal.Code
}

func TestOlderMandateChangesNothing(t *testing.T) {
	b, d := mandated(t)
	b.must(b.give(d, []string{"most=1"}))
	d.mandates = 0
	if code := refusalOf(b.give(d, nil)); code != step.RefuseStale {
		t.Errorf("the first again, after the second: %d", code)
	}
	d.mandates = 1
	b.must(b.give(d, []string{"most=1"})) // the second again
	other := *d
	other.by = people["bob"]
	if code := refusalOf(b.give(&other, nil)); code != step.RefuseUnknown {
		t.Errorf("of another consumer: %d", code)
	}
	other = *d
	other.res.ID = wire.ID{99}
	if code := refusalOf(b.give(&other, nil)); code != step.RefuseBadRequest {
		t.Errorf("for another reservation: %d", code)
	}
}

// TestConsumerThatAttendsAndNeverSigns has a mandate, and no witness sees the host: its pod stops when the day's share of such
// minutes is used up.
func TestConsumerThatAttendsAndNeverSigns(t *testing.T) {
	b, d := mandated(t)
	b.do([]string{"witness", "bank", "on"})
	b.to(b.now + 60*member.Second)
	b.do([]string{"witness", "bank", "off"})
	d.pays = false
	d.res.Seq, d.res.Cap = d.res.Seq+1, d.res.Cap*4
	b.must(b.ask(d.by, step.OpRaise, nil, seal(b, operator, d.res)))
	b.to(b.now + 58*60*member.Second)
	if d.state != market.StateRunning {
		t.Fatalf("after an hour it is %v", d.state)
	}
	b.to(b.now + 10*60*member.Second)
	if d.state != market.StateStopped {
		t.Fatalf("unpaid for over an hour it is %v", d.state)
	}
}

// TestCommandsComeFromTheConsumerOrItsBank: nobody else may hand over what a consumer has signed.
func TestCommandsComeFromTheConsumerOrItsBank(t *testing.T) {
	b, d := running(t)
	d.commands++
	stop := b.command(d, market.CommandStop, false)
	if code := refusalOf(b.ask(people["bob"], step.OpCommand, nil, stop)); code != step.RefuseUnknown {
		t.Errorf("from another member: %d", code)
	}
	if code := refusalOf(b.ask(operator, step.OpCommand, nil, seal(b, operator, market.Command{Consumer: operator.Address(), Host: self.Address(), Lease: d.id, Seq: 9,
		Order: market.CommandStop}))); code != step.RefuseUnknown {
		t.Errorf("the bank's own: %d", code)
	}
	b.must(b.ask(operator, step.OpCommand, nil, stop))
	b.must(b.ask(d.by, step.OpCommand, nil, stop)) // which comes by itself, later
}

// TestSettledLeaseStillShowsItsReceipts: the consumer may come back after all is paid.
func TestSettledLeaseStillShowsItsReceipts(t *testing.T) {
	b := open(t)
	for _, w := range []string{"bank", "dave"} {
		b.do([]string{"witness", w, "on"})
	}
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	d.request.Minutes, d.request.OnEnd = 5, market.OnEndRemove
	b.must(b.request(d))
	b.must(b.accept(d))
	b.must(b.give(d, []string{"panel=bank,dave"}))
	b.to(noon + 5*member.Second)
	b.up(d.id)
	b.to(noon + 70*member.Second)
	d.attends = false
	b.to(noon + 30*60*member.Second)
	if e := b.local(host.Earnings{}).Value.([]host.Earning); e[0].State != market.StateEnded || e[0].Settled == 0 || e[0].Settled != e[0].Owed {
		t.Fatalf("it is not over: %+v", e)
	}
	r := b.ask(d.by, step.OpUsage, step.UsageBody{Lease: d.id, From: 1, Minute: b.charter.Clock().Minute(noon)})
	b.must(r)
	if len(r.Append) != 3 { // entries, and the receipts of two
		t.Fatalf("%d spans of the store are shown", len(r.Append))
	}
}
