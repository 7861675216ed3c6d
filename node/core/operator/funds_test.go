package operator_test

import (
	"testing"

	"souk/ledger"
	"souk/market"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// forfeits are those of a minute's tick, as questions to hosts.
func (b *bench) forfeits() (asked []step.Send, signed []ledger.Forfeit) {
	b.t.Helper()
	b.now += 60 * member.Second
	out, _ := b.tick()
	for _, s := range out.Sends {
		for _, o := range s.Frame.Objects {
			if o.Kind == wire.KindForfeit {
				f, err := wire.Decode[ledger.Forfeit](o)
				if err != nil {
					b.t.Fatal(err)
				}
				asked, signed = append(asked, s), append(signed, f)
			}
		}
	}
	return asked, signed
}

// A forfeit waits for as long as the lease's terms keep data, whatever the policy says by then; a host that has answered is left
// alone, and one that was away is told again.
func TestForfeitWaitsForTheTermsAndIsToldOnce(t *testing.T) {
	for name, c := range map[string]struct {
		err   *step.Failure
		again int // minutes
	}{
		"taken":   {nil, 60},
		"refused": {&step.Failure{Code: step.FailRefused, Refusal: step.Refuse(step.RefuseState, "no")}, 60},
		"away":    {&step.Failure{Code: step.FailUnreachable}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, false)
			host, consumer := b.shop("25")
			p, _ := b.world.Policy()
			hold := 2 * uint64(p.DataHold)
			q := b.quote(host, func(t *market.Terms) {
				t.Rate, t.Tariff, t.Hold = 25_000_000_000, ledger.Tariff{GPU: 50_000_000_000}, hold
			})
			r := reserve(q)
			r.MaxRate, r.Cap = 50_000_000_000, 50*ledger.Credit
			object[ledger.Reservation](b, b.bank(consumer, step.OpReserve, nil, seal(b, consumer, r), q))
			b.now += 25 * 60 * member.Second
			b.tick()
			noticed := b.now
			if s, stands := b.o.Bank().ShortageOf(consumer.Address()); !stands || s.Notice.At != noticed {
				t.Fatalf("shortage %+v", s)
			}
			b.now = noticed + member.Time(hold-1)*60*member.Second - 1
			if asked, _ := b.forfeits(); len(asked) > 0 {
				t.Fatal("a forfeit before the time of the terms")
			}
			asked, signed := b.forfeits()
			if len(asked) != 1 || asked[0].To != host.Address() || signed[0].At != noticed+member.Time(hold)*60*member.Second {
				t.Fatalf("forfeits %+v", signed)
			}
			for m := 1; ; m++ {
				b.step(func(ctx *step.Context) { b.o.Response(ctx, step.Response{ID: asked[len(asked)-1].ID, Err: c.err}) })
				more, again := b.forfeits()
				if len(more) == 0 && m <= c.again {
					continue
				}
				if len(more) == 0 || m != c.again || again[0] != signed[0] {
					t.Fatalf("after %d minutes told %+v, want the same again after %d", m, again, c.again)
				}
				break
			}
			do[operator.DepositView](b, operator.Deposit{Addr: consumer.Address().String(), Amount: credits("100"), Ref: "wire 2"})
			if asked, _ := b.forfeits(); len(asked) > 0 {
				t.Error("a forfeit after money came")
			}
		})
	}
}
