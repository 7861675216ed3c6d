package ledger_test

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"souk/ledger"
)

// edgy draws numbers that are often at the edge of int64.
func edgy() *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Int64(), rapid.Int64Range(-3, 3), rapid.Int64Range(math.MaxInt64-3, math.MaxInt64),
		rapid.Int64Range(0, 1<<40), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64/3600 - 1, math.MaxInt64 / 3600, math.MaxInt64/3600 + 1}))
}

// agree compares an answer with the exact one: equal where it fits, else an error.
func agree(t *rapid.T, what string, got int64, err error, want *big.Int, wrong bool) {
	t.Helper()
	switch {
	case wrong:
		if !errors.Is(err, ledger.ErrNegative) && !errors.Is(err, ledger.ErrOverflow) {
			t.Fatalf("%s: got %d, %v, want an error", what, got, err)
		}
	case want.IsInt64():
		if err != nil || got != want.Int64() {
			t.Fatalf("%s: got %d, %v, want %v", what, got, err, want)
		}
	case !errors.Is(err, ledger.ErrOverflow):
		t.Fatalf("%s: got %d, %v, want overflow of %v", what, got, err, want)
	}
}

func TestArithmeticIsExactOrRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, n := edgy().Draw(t, "a"), edgy().Draw(t, "b"), rapid.Uint32().Draw(t, "n")
		x, y := big.NewInt(a), big.NewInt(b)

		sum, err := ledger.Amount(a).Add(ledger.Amount(b))
		agree(t, "add", int64(sum), err, new(big.Int).Add(x, y), false)

		times, err := ledger.Rate(a).Times(n)
		agree(t, "times", int64(times), err, new(big.Int).Mul(x, big.NewInt(int64(n))), a < 0)

		product := new(big.Int).Mul(x, y)
		up := new(big.Int).Quo(new(big.Int).Add(product, big.NewInt(3599)), big.NewInt(3600))
		cost, err := ledger.Rate(a).Cost(b)
		agree(t, "cost", int64(cost), err, up, a < 0 || b < 0)

		unit := new(big.Int).Mul(big.NewInt(720), big.NewInt(1_000_000_000))
		bytes := uint64(b)
		down := new(big.Int).Mul(x, new(big.Int).SetUint64(bytes))
		storage, err := ledger.StorageRate(ledger.Amount(a), bytes)
		agree(t, "storage", int64(storage), err, down.Quo(down, unit), a < 0)

		start := ledger.Meter{Numerator: max(0, rapid.Int64().Draw(t, "start"))}
		meter, err := start.Add(ledger.Rate(a), b)
		agree(t, "meter", meter.Numerator, err, product.Add(product, big.NewInt(start.Numerator)), a < 0 || b < 0)
		if err != nil && meter != start {
			t.Fatalf("a refused step moved the meter from %v to %v", start, meter)
		}
	})
}

func TestCostRoundsUp(t *testing.T) {
	for seconds, want := range map[int64]ledger.Amount{0: 0, 1: 1, 3599: 1, 3600: 1, 3601: 2} {
		if got, err := ledger.Rate(1).Cost(seconds); err != nil || got != want {
			t.Errorf("%d s at one nano-credit an hour: got %d, %v, want %d", seconds, got, err, want)
		}
	}
}

func TestMeterDividesOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m ledger.Meter
		exact := new(big.Int)
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			r := rapid.Int64Range(0, 10_000_000_000).Draw(t, "rate")
			s := rapid.Int64Range(5, 3600).Draw(t, "seconds")
			var err error
			if m, err = m.Add(ledger.Rate(r), s); err != nil {
				t.Fatal(err)
			}
			exact.Add(exact, new(big.Int).Mul(big.NewInt(r), big.NewInt(s)))
		}
		if want := new(big.Int).Quo(exact, big.NewInt(3600)); big.NewInt(int64(m.Owed())).Cmp(want) != 0 {
			t.Fatalf("owed %d, want %v", m.Owed(), want)
		}
	})
}

func TestAmountTextRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := ledger.Amount(edgy().Draw(t, "amount"))
		if a == math.MinInt64 {
			return // has no positive twin; nothing makes it
		}
		for _, s := range []string{a.String(), a.Text()} {
			var back ledger.Amount
			if err := back.UnmarshalText([]byte(s)); err != nil || back != a {
				t.Fatalf("%d is %q, which reads %d, %v", a, s, back, err)
			}
		}
		whole, frac, _ := strings.Cut(strings.TrimPrefix(a.String(), "-"), ".")
		n, _ := new(big.Int).SetString(whole+frac, 10)
		if n.CmpAbs(big.NewInt(int64(a))) != 0 || len(frac) != 9 {
			t.Fatalf("%d is %q", a, a)
		}
	})
}

func TestAmountsAreReadStrictly(t *testing.T) {
	for s, want := range map[string]ledger.Amount{"0": 0, "25": 25_000_000_000, "0.34": 340_000_000, ".5": 500_000_000,
		"007": 7_000_000_000, "0.000000001": 1, "9223372036.854775807": math.MaxInt64} {
		if got, err := ledger.ParseAmount(s); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", ".", "1.", "-1", "+1", " 1", "1 ", "1e3", "0x1", "1,5", "1.0000000001", "1..2", "١", "NaN", "1_000"} {
		if got, err := ledger.ParseAmount(s); !errors.Is(err, ledger.ErrAmount) {
			t.Errorf("%q: got %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"9223372036.854775808", "9223372037", strings.Repeat("9", 40)} {
		if got, err := ledger.ParseAmount(s); !errors.Is(err, ledger.ErrOverflow) {
			t.Errorf("%q: got %d, %v", s, got, err)
		}
	}
	var r ledger.Rate
	if err := r.UnmarshalText([]byte("-1")); err == nil {
		t.Error("a negative rate is taken")
	}
}

func TestStoragePriceOfAMonth(t *testing.T) {
	// 0.10 credits per GB-month for 10 GB is 1/720 credit an hour.
	if got, err := ledger.StorageRate(100_000_000, 10_000_000_000); err != nil || got != 1_388_888 {
		t.Fatalf("got %d, %v", got, err)
	}
}

func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"0.34", "25", ".", "9223372036.854775807", "-0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ledger.ParseAmount(s)
		if err != nil {
			return
		}
		exact, ok := new(big.Rat).SetString(s)
		if !ok || a < 0 || exact.Mul(exact, big.NewRat(1_000_000_000, 1)).Cmp(new(big.Rat).SetInt64(int64(a))) != 0 {
			t.Fatalf("%q reads %d", s, a)
		}
		if back, err := ledger.ParseAmount(a.String()); err != nil || back != a {
			t.Fatalf("%d prints %q, which reads %d, %v", a, a, back, err)
		}
	})
}
