package ledger_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// BenchmarkVoucher compares, in turns, checking a voucher as it came from a peer (size, canonical encoding, shape, EIP-712 hash,
// signature, address) with the least that it can cost: the check of one signature whose digest and bytes are there. On one core;
// the figure is the median over the turns.
func BenchmarkVoucher(b *testing.B) {
	key, err := identity.ParsePrivateKey(bytes.Repeat([]byte{3}, 32))
	if err != nil {
		b.Fatal(err)
	}
	o := wire.Opener{Market: wire.NewMarket(identity.Hash{1}, 1, identity.Address{2}), Verifier: identity.Secp256k1{}}
	v := ledger.Voucher{
		Reservation: wire.ID{1}, Lease: wire.ID{2}, By: key.Address(), Host: identity.Address{9}, Total: 123_456_789, Minute: 30_000_000,
		Usage: identity.Hash{7}, Seq: 1234,
	}
	obj, err := wire.Seal(o.Market, key, v)
	if err != nil {
		b.Fatal(err)
	}
	digest := o.Market.Digest(v, obj.Payload)
	voucher := func() error {
		_, err := wire.Open[ledger.Voucher](o, obj)
		return err
	}
	signature := func() error {
		_, err := o.Verifier.Recover(digest, obj.Sig)
		return err
	}
	var ratios, took []float64
	for b.Loop() {
		whole, bare := span(b, voucher), span(b, signature)
		ratios, took = append(ratios, bare/whole), append(took, whole)
	}
	slices.Sort(ratios)
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(took[len(took)/2], "ns/voucher")
	b.ReportMetric(ratios[len(ratios)/2], "voucher:signature")
}

// span is how many nanoseconds one check takes, of a few hundred.
func span(b *testing.B, check func() error) float64 {
	const n = 256
	begin := time.Now()
	for range n {
		if err := check(); err != nil {
			b.Fatal(err)
		}
	}
	return float64(time.Since(begin).Nanoseconds()) / n
}
