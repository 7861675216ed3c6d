package host_test

import (
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// attended is a lease of alice's that bob attends, up since 12:01:10; it is 12:03:30.
func attended(t *testing.T) (*bench, *deal) {
	b := open(t)
	d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
	d.signer, d.request.By = people["bob"], people["bob"].Address()
	b.now += 20 * member.Second
	b.must(b.request(d))
	if d.terms.By != d.request.By || d.terms.Attendant != d.request.By {
		t.Fatalf("the terms have %v sign and %v attend", d.terms.By, d.terms.Attendant)
	}
	b.must(b.accept(d))
	b.to(noon + 70*member.Second)
	b.up(d.id)
	b.to(noon + 210*member.Second)
	return b, d
}

func TestAttendantSignsAndConsumerCommands(t *testing.T) {
	b, d := attended(t)
	b.to(noon + 6*60*member.Second + 30*member.Second)
	if d.vouched == 0 || d.state != market.StateRunning {
		t.Fatalf("after four minutes the pod is %v, and entry %d is the last that was signed for", d.state, d.vouched)
	}
	v, _ := b.voucher(d, 0)
	u, _ := wire.Decode[ledger.Usage](d.usage[len(d.usage)-1])
	if want := ledger.Amount(4 * 10_000_000); v.Value().Total != want || u.Basis != ledger.BasisAttended {
		t.Errorf("%s is signed for on %v, want %s", v.Value().Total.Text(), u.Basis, want.Text())
	}
	order := market.Command{Consumer: d.signer.Address(), Host: self.Address(), Lease: d.id, Seq: 1, Order: market.CommandStop}
	mandate := ledger.Mandate{Consumer: d.signer.Address(), Lease: d.id, Seq: 1, Reservation: d.res.ID, From: 1, Until: 1 << 40, MaxTotal: 1, Quorum: 1}
	for name, r := range map[string]step.Reply{
		"stop": b.ask(d.signer, step.OpCommand, nil, seal(b, d.signer, order)), "mandate": b.ask(d.signer, step.OpMandate, step.PanelBody{}, seal(b, d.signer, mandate)),
	} {
		if r.Refusal == nil || r.Refusal.Code != step.RefuseUnknown {
			t.Errorf("a %s of the attendant's: %+v", name, r.Refusal)
		}
	}
	b.must(b.order(d, market.CommandStop, false))
	b.to(noon + 8*60*member.Second)
	if d.state != market.StateStopped {
		t.Errorf("the consumer stopped it; it is %v", d.state)
	}
}

func TestConsumersMapAttendsNothingWhereAnotherAttends(t *testing.T) {
	b, d := attended(t)
	b.to(noon + 4*60*member.Second + 5*member.Second) // 12:03 is paid
	d.attends = false
	all := seal(b, d.by, market.Alive{By: d.by.Address(), Host: self.Address(), Lease: d.id, Top: b.minute() + 1, Answered: 1<<64 - 1})
	for range 6 { // to 12:06:05
		r := b.ask(d.by, step.OpAlive, step.AliveBody{UsageSeq: uint64(len(d.usage))}, all)
		b.must(r)
		if n := len(r.Frame.Objects); n != 2 || r.Frame.Objects[1].Kind != wire.KindVoucher {
			t.Fatalf("%d objects are answered, want the reply and the attendant's voucher", n)
		}
		b.to(b.now + 20*member.Second)
	}
	for _, o := range d.usage {
		if u, _ := wire.Decode[ledger.Usage](o); u.Billable != 0 && u.Last() >= b.charter.Clock().Minute(noon)+4 {
			t.Errorf("nobody attended from 12:04 on; entry %d bills %s (%v)", u.Seq, b.hour(u.Last()), u.Basis)
		}
	}
	if p := b.pods[d.id]; p.want.Phase == step.PodRun {
		t.Error("the pod runs on unattended")
	}
}

func TestOnlyTheAttendantSigns(t *testing.T) {
	b, d := attended(t)
	d.pays = false
	b.to(noon + 4*60*member.Second + 5*member.Second) // 12:03 is signed and not paid
	good, _ := b.voucher(d, 0)
	mine := good.Value()
	mine.By = d.by.Address()
	if r := b.ask(d.by, step.OpVoucher, nil, seal(b, d.by, mine)); r.Refusal == nil || r.Refusal.Code != step.RefuseVoucher {
		t.Errorf("a voucher by the consumer: %+v", r.Refusal)
	}
	carol := people["carol"]
	if r := b.ask(carol, step.OpVoucher, nil, good); r.Refusal == nil || r.Refusal.Code != step.RefuseUnknown {
		t.Errorf("brought by somebody else: %+v", r.Refusal)
	}
	if r := b.ask(carol, step.OpAlive, step.AliveBody{}, seal(b, carol, market.Alive{By: carol.Address(), Host: self.Address(), Lease: d.id})); r.Refusal == nil || r.Refusal.Code != step.RefuseUnknown {
		t.Errorf("somebody else's keep-alive: %+v", r.Refusal)
	}
	b.must(b.ask(d.signer, step.OpVoucher, nil, good))
	b.must(b.ask(d.signer, step.OpUsage, step.UsageBody{Lease: d.id, From: 1}))
	b.must(b.ask(d.by, step.OpUsage, step.UsageBody{Lease: d.id, From: 1}))
	for who, k := range map[string]*identity.PrivateKey{"attendant": d.signer, "consumer": d.by} {
		if held, known := b.h.Held(k.Address(), d.id); !known || len(held) != 1 {
			t.Errorf("%s is told of %d vouchers (known: %v), want 1", who, len(held), known)
		}
	}
	if got := b.h.Debts(); len(got) != 1 || got[0].Who != d.signer.Address() {
		t.Errorf("a host without its records asks %v, want the attendant", got)
	}
}

func TestForeignAttendantIsRefused(t *testing.T) {
	stranger := key(99)
	for name, who := range map[string]identity.Address{"no member": stranger.Address(), "the host": self.Address()} {
		b := open(t)
		d := b.newDeal(wire.ID{1}, "alice", market.OnDemand, 600_000_000)
		d.request.By = who
		if r := b.request(d); r.Refusal == nil || r.Refusal.Code != step.RefuseSpec {
			t.Errorf("%s attends: %+v", name, r.Refusal)
		}
	}
}
