package consumer

import (
	"errors"
	"fmt"

	"souk/ledger"
	"souk/market"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// checkQuote compares a quote with what was asked and with the offer it was asked on, and returns the terms to sign.
// Cheaper is taken; anything worse or other is not.
func (c *Consumer) checkQuote(ctx *step.Context, o *Order, v wire.Verified[market.Quote]) (market.Terms, *step.Problem) {
	q, host := v.Value(), c.hostName(o.Host)
	req := o.request(ctx.Self)
	t, err := q.Contract(v.Ref())
	switch {
	case err != nil:
		return t, step.Fail(step.ProblemVerify, "", "the terms of %s cannot be read: %v", host, err)
	case q.Host != o.Host || q.Lease != o.Lease || q.Request != wire.Draft(req).Ref(ctx.Market):
		return t, step.Fail(step.ProblemVerify, "", "%s quoted for another request", host)
	case q.At < o.Agreed.Asked-skew(ctx) || q.At > ctx.Now+skew(ctx):
		return t, step.Fail(step.ProblemConflict, "compare the clocks: 'souk doctor'", "the quote of %s is dated %v, which is not now", host, q.At)
	case c.runsOut(o, q) <= ctx.Now:
		return t, step.Fail(step.ProblemConflict, "order again", "the quote of %s had run out when it came", host)
	case t.Rate > o.Agreed.Rate || t.Rate > o.Run.MaxRate:
		return t, dearer(host, t.Rate, min(o.Agreed.Rate, o.Run.MaxRate))
	}
	if err := fitting(ctx, o, req, t); err != nil {
		return t, step.Fail(step.ProblemConflict, "look at the offer and order again", "the quote of %s is not what was agreed: %v", host, err)
	}
	return t, nil
}

// runsOut is when a quote ends by this node's clock: as long after it was asked for as the host gives it. The host's clock
// may be off by more than that.
func (c *Consumer) runsOut(o *Order, q market.Quote) member.Time {
	return c.flight(o.Run.Bid).asked + min(max(q.Expires-q.At, 0), member.Hour)
}

// fitting checks every other field of the terms.
func fitting(ctx *step.Context, o *Order, req market.Request, t market.Terms) error {
	if err := t.Validate(); err != nil {
		return err
	}
	a := o.Agreed
	switch {
	case t.Lease != req.Lease || t.Bid != req.Bid || t.Reservation != req.Reservation || t.Seq != 1 || !t.Prev.IsZero() || !t.Parent.IsZero():
		return errors.New("it is of another lease")
	case t.Host != req.Host || t.Consumer != req.Consumer || t.By != req.By || t.Attendant != req.By:
		return errors.New("it is between others")
	case t.Type != req.Type:
		return fmt.Errorf("it is %v, not %v", t.Type, req.Type)
	case t.GPUs != req.GPUs || t.Model != req.Model:
		return fmt.Errorf("it has %d × %s, not %d × %s", t.GPUs, t.Model, req.GPUs, req.Model)
	case t.Simulated && !a.Simulated:
		return errors.New("its GPUs are simulated")
	case t.Type == market.Spot && t.Rate != req.Rate:
		return fmt.Errorf("spot pays the bid of %s, not %s", req.Rate.Text(), t.Rate.Text())
	case t.Spec != req.Spec.Hash() || t.Image != req.Spec.Digest():
		return errors.New("it runs something else")
	case t.Disk != req.Spec.Disk || t.Volume != req.Spec.Volume:
		return fmt.Errorf("it has %d bytes of disk and %d of volume, not %d and %d", t.Disk, t.Volume, req.Spec.Disk, req.Spec.Volume)
	case t.Grace < a.Grace || t.Notice < a.Notice:
		return fmt.Errorf("grace is %d s after %d s of notice, not %d after %d", t.Grace, t.Notice, a.Grace, a.Notice)
	case t.Minutes != req.Minutes || t.Budget != req.Budget || t.StopAt != 0 || t.OnEnd != req.OnEnd || t.Resume != req.Resume:
		return errors.New("its limits are others")
	case t.Volume > 0 && t.Hold < uint64(ctx.Policy.DataHold):
		return fmt.Errorf("it keeps the volume %d minutes after the end, not %d", t.Hold, ctx.Policy.DataHold)
	case t.Isolation == "" || t.Isolation == "process" && !ctx.Charter.Testnet:
		return fmt.Errorf("isolation %q is not for this market", t.Isolation)
	case t.Policy != ctx.Policy.Number:
		return fmt.Errorf("it is made under policy %d; this node knows %d", t.Policy, ctx.Policy.Number)
	case !t.Extension.IsZero():
		return errors.New("it has an extension that this version does not know")
	}
	return dearerIn(t.Tariff, a.Tariff)
}

// dearerIn names a rate of t that is higher than in was.
func dearerIn(t, was ledger.Tariff) error {
	for _, r := range []struct {
		name     string
		now, was ledger.Rate
	}{
		{"the GPUs cost", t.GPU, was.GPU},
		{"running without GPUs costs", t.ZeroGPU, was.ZeroGPU},
		{"the container disk costs", t.DiskRunning, was.DiskRunning},
		{"the volume costs", t.VolumeRunning, was.VolumeRunning},
		{"the volume of a stopped pod costs", t.VolumeStopped, was.VolumeStopped},
	} {
		if r.now > r.was {
			return fmt.Errorf("%s %s per hour, not %s", r.name, r.now.Text(), r.was.Text())
		}
	}
	return nil
}

// checkReservation compares a reservation with what the bank was asked for. Where funds are short the bank may set aside
// less than was asked, but not under the policy's least.
func checkReservation(ctx *step.Context, r ledger.Reservation, asked ledger.Reserve, bank identity.Address) error {
	switch {
	case r.Operator != bank:
		return fmt.Errorf("it is of %v", r.Operator)
	case r.ID != asked.Reservation || r.Lease != asked.Lease || r.Host != asked.Host || r.Consumer != asked.Consumer || r.By != asked.By:
		return errors.New("it is for another lease")
	case r.Cap < min(asked.Cap, costOf(ctx, asked.MaxRate, uint64(ctx.Policy.ReserveLeast))):
		return fmt.Errorf("it sets aside %s of %s", r.Cap.Text(), asked.Cap.Text())
	case r.MaxRate < asked.MaxRate:
		return fmt.Errorf("it allows %s per hour of %s", r.MaxRate.Text(), asked.MaxRate.Text())
	case r.RedeemBy <= ctx.Now:
		return errors.New("it has run out")
	}
	return nil
}

// checkCert compares a certificate with the terms that this node has signed.
func checkCert(ctx *step.Context, o *Order, v wire.Verified[market.Cert]) error {
	cert := v.Value()
	switch {
	case cert.Host != o.Host || cert.Lease != o.Lease:
		return errors.New("the certificate is another lease's")
	case cert.Terms != o.Terms.Ref(ctx.Market):
		return errors.New("the certificate is over other terms")
	case cert.Minute < ctx.Clock.Minute(o.Since-skew(ctx)) || cert.Minute > ctx.Clock.Minute(ctx.Now+skew(ctx)):
		return errors.New("the certificate's minute is not of this time")
	}
	return nil
}
