package market

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"souk/ledger"
	"souk/p2p/member"
	"souk/p2p/wire"
)

func devices(model string, n int) []member.Device {
	var out []member.Device
	for i := range n {
		out = append(out, member.Device{UUID: fmt.Sprintf("GPU-%s-%02d", model, i), Model: model, MemoryMiB: 24576})
	}
	return out
}

func lease(n int) wire.ID { return wire.ID{15: byte(n), 14: byte(n >> 8), 0: 1} }

// host is a table with n GPUs of model A.
func host(n int) *Table {
	t := &Table{}
	t.Inventory(devices("A", n))
	return t
}

func ask(n int, k BidKind, rate ledger.Rate, count uint16) Ask {
	return Ask{Lease: lease(n), Type: k, Rate: rate, Model: "A", Count: count}
}

// seat takes a lease from hold to possession.
func seat(t *testing.T, tab *Table, a Ask) {
	t.Helper()
	if _, err := tab.Hold(a, 10); err != nil {
		t.Fatalf("hold for %v: %v", a.Lease, err)
	}
	if _, err := tab.Certify(a.Lease, 1); err != nil {
		t.Fatal(err)
	}
	if err := tab.Take(a.Lease, 2); err != nil {
		t.Fatal(err)
	}
}

func TestOnDemandDisplacesSpotOnlyAfterItIsGone(t *testing.T) {
	tab := host(2)
	seat(t, tab, ask(1, Spot, 10, 2))
	h, err := tab.Hold(ask(2, OnDemand, 50, 1), 10)
	if err != nil || !slices.Equal(h.Victims, []wire.ID{lease(1)}) {
		t.Fatalf("hold: %+v, %v; want lease 1 as its victim", h, err)
	}
	if e, ok := tab.Tenant(lease(1)); !ok || !e.Taken {
		t.Fatal("a hold touched its victim")
	}
	if _, err := tab.Plan(ask(3, OnDemand, 90, 1)); err == nil {
		t.Fatal("a marked victim was offered to another")
	}
	victims, err := tab.Certify(lease(2), 3)
	if err != nil || !slices.Equal(victims, []wire.ID{lease(1)}) {
		t.Fatalf("certify: %v, %v; want lease 1 to be told", victims, err)
	}
	if err := tab.Take(lease(2), 4); !errors.Is(err, ErrOccupied) || tab.Ready(lease(2)) {
		t.Fatalf("take before free: %v, want ErrOccupied", err)
	}
	if got := tab.Free(lease(1)); len(got) != 2 {
		t.Fatalf("free: %v, want both GPUs", got)
	}
	if c := tab.Counts("A"); c != (Counts{2, 1, 1}) {
		t.Fatalf("counts after free: %+v, want the other GPU free", c)
	}
	if err := tab.Take(lease(2), 5); err != nil {
		t.Fatal(err)
	}
	if err := tab.Audit(); err != nil {
		t.Fatal(err)
	}
}

func TestSpotTakesFreeGPUsOnly(t *testing.T) {
	tab := host(2)
	seat(t, tab, ask(1, Spot, 10, 1))
	_, err := tab.Plan(ask(2, Spot, 1000, 2))
	var s Shortage
	if !errors.As(err, &s) || s != (Shortage{"A", 2, 2, 1}) {
		t.Fatalf("plan: %v (%+v), want a shortage of 1 in 2", err, s)
	}
	if got := tab.SpotNow("A", 7); got != 7 {
		t.Fatalf("spot now with a free GPU: %d, want the floor", got)
	}
	seat(t, tab, ask(3, OnDemand, 10, 1))
	if got := tab.SpotNow("A", 7); got != 0 {
		t.Fatalf("spot now with none free: %d, want 0", got)
	}
}

func TestOnDemandIsNeverDisplaced(t *testing.T) {
	tab := host(2)
	seat(t, tab, ask(1, OnDemand, 1, 2))
	_, err := tab.Plan(ask(2, OnDemand, 1_000_000, 1))
	var s Shortage
	if !errors.As(err, &s) || s.Could != 0 {
		t.Fatalf("plan: %v, want a shortage", err)
	}
	_, err = tab.Plan(Ask{Lease: lease(3), Type: OnDemand, Rate: 1, Model: "B", Count: 1})
	if !errors.As(err, &s) || s.Have != 0 {
		t.Fatalf("plan for another model: %v, want no such model", err)
	}
}

func TestVictimsAreThoseThatLoseTheLeast(t *testing.T) {
	for _, c := range []struct {
		name  string
		spots []Ask
		want  uint16
		out   []wire.ID
	}{
		{"rate before number", []Ask{ask(1, Spot, 10, 1), ask(2, Spot, 11, 1), ask(3, Spot, 12, 2)}, 2, []wire.ID{lease(2), lease(1)}},
		{"number before arrival", []Ask{ask(1, Spot, 10, 2), ask(2, Spot, 10, 1), ask(3, Spot, 10, 1)}, 2, []wire.ID{lease(1)}},
		{"the newest of equals", []Ask{ask(1, Spot, 10, 1), ask(2, Spot, 10, 1), ask(3, Spot, 10, 1), ask(4, Spot, 10, 1)}, 1,
			[]wire.ID{lease(4)}},
		{"whole lease, not its share", []Ask{ask(1, Spot, 10, 3), ask(2, Spot, 25, 1)}, 1, []wire.ID{lease(2)}},
	} {
		tab := host(4)
		for _, a := range c.spots {
			seat(t, tab, a)
		}
		p, err := tab.Plan(ask(9, OnDemand, 100, c.want))
		if err != nil || !slices.Equal(p.Victims, c.out) {
			t.Errorf("%s: victims %v, %v; want %v", c.name, p.Victims, err, c.out)
		}
	}
}

func TestLostGPUStaysWhoseItIs(t *testing.T) {
	tab := host(3)
	seat(t, tab, ask(1, OnDemand, 1, 2))
	if _, err := tab.Hold(ask(2, OnDemand, 1, 1), 10); err != nil {
		t.Fatal(err)
	}
	tab.Inventory(nil)
	if got := tab.Lost(); !slices.Equal(got, []wire.ID{lease(1), lease(2)}) {
		t.Fatalf("lost: %v, want both", got)
	}
	if _, err := tab.Certify(lease(2), 1); !errors.Is(err, ErrUnusable) {
		t.Fatalf("certify on a lost GPU: %v", err)
	}
	if err := tab.Audit(); err != nil {
		t.Fatal(err)
	}
	if got := tab.Free(lease(1)); len(got) != 2 {
		t.Fatalf("freed %v, want 2", got)
	}
	tab.Expire(lease(2))
	if got := tab.Inventory(devices("B", 1)); len(got) != 2 || got[0].Model != "A" || got[0].GPUs != nil || len(got[1].GPUs) != 1 {
		t.Fatalf("stock: %+v, want A gone and one B", got)
	}
	if got := tab.Models(); !slices.Equal(got, []string{"B"}) {
		t.Fatalf("models: %v", got)
	}
}

func TestVictimThatLeavesByItselfIsForgotten(t *testing.T) {
	tab := host(1)
	seat(t, tab, ask(1, Spot, 10, 1))
	if _, err := tab.Hold(ask(2, OnDemand, 10, 1), 10); err != nil {
		t.Fatal(err)
	}
	tab.Free(lease(1))
	if v, err := tab.Certify(lease(2), 1); err != nil || v != nil || !tab.Ready(lease(2)) {
		t.Fatalf("certify: victims %v, %v; want none and ready", v, err)
	}
	if !tab.Drop(lease(2)) || tab.Drop(lease(2)) {
		t.Fatal("drop gives up a right once")
	}
	if c := tab.Counts("A"); c.Free != 1 {
		t.Fatalf("free after drop: %d, want 1", c.Free)
	}
}

func TestStepBetweenSpotBids(t *testing.T) {
	for _, c := range []struct {
		ch, v ledger.Rate
		want  bool
	}{{105, 100, true}, {104, 100, false}, {1, 0, true}, {1<<63 - 1, 1<<63 - 1, false}, {1<<63 - 1, 1 << 62, true}, {-1, 0, false}} {
		if got := Beats(c.ch, c.v, 105); got != c.want {
			t.Errorf("Beats(%d, %d): %v, want %v", c.ch, c.v, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		v := ledger.Rate(rapid.Int64Range(0, 1<<62).Draw(t, "victim"))
		step := rapid.Uint32Range(100, 300).Draw(t, "step")
		r, err := ToBeat(v, step)
		if err != nil {
			if Beats(1<<63-1, v, step) {
				t.Fatalf("ToBeat(%d, %d): %v, but the highest rate beats it", v, step, err)
			}
			return
		}
		if !Beats(r, v, step) || Beats(r-1, v, step) {
			t.Fatalf("ToBeat(%d, %d) = %d is not the least", v, step, r)
		}
	})
}

// whole counts the blocks of pick by their definition.
func whole(avail []bool) int {
	n := 0
	for size := 2; size <= len(avail); size *= 2 {
		for i := 0; i+size <= len(avail); i += size {
			if count(avail[i:i+size]) == size {
				n++
			}
		}
	}
	return n
}

// brutePick tries every choice, in order of places.
func brutePick(avail []bool, n int) (best []int, fewest int) {
	fewest = -1
	for mask := range 1 << len(avail) {
		left, at := slices.Clone(avail), []int(nil)
		for i := range avail {
			if mask>>i&1 == 1 && avail[i] {
				left[i], at = false, append(at, i)
			} else if mask>>i&1 == 1 {
				at = nil
				break
			}
		}
		if len(at) != n {
			continue
		}
		if b := whole(avail) - whole(left); fewest < 0 || b < fewest {
			best, fewest = at, b
		}
	}
	return best, fewest
}

func TestPickBreaksTheFewestBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		avail := rapid.SliceOfN(rapid.Bool(), 1, 10).Draw(t, "avail")
		if count(avail) == 0 {
			return
		}
		n := rapid.IntRange(1, count(avail)).Draw(t, "n")
		at, broken := pick(avail, n)
		_, want := brutePick(avail, n)
		left := slices.Clone(avail)
		for _, i := range at {
			if !avail[i] {
				t.Fatalf("pick(%v, %d) = %v: place %d is not available", avail, n, at, i)
			}
			left[i] = false
		}
		if len(at) != n || !slices.IsSorted(at) || broken != want || whole(avail)-whole(left) != want {
			t.Fatalf("pick(%v, %d) = %v breaking %d, want %d", avail, n, at, broken, want)
		}
	})
}

// bruteVictims tries every set of spot leases and keeps the best by the order that Plan states.
func bruteVictims(tab *Table, want int) []wire.ID {
	g := tab.ground("A")
	all := tab.candidates(g)
	var best []candidate
	found := false
	for mask := range 1 << len(all) {
		avail, set := g.free, []candidate(nil)
		for i, c := range all {
			if mask>>i&1 == 1 {
				avail, set = c.open(avail), append(set, c)
			}
		}
		if count(avail) >= want && (!found || better(g.free, set, best, want)) {
			best, found = set, true
		}
	}
	var out []wire.ID
	for _, c := range best {
		out = append(out, c.lease)
	}
	return out
}

func better(free []bool, a, b []candidate, want int) bool {
	sum := func(set []candidate) (lost int64, broken int) {
		avail := free
		for _, c := range set {
			lost += int64(c.lost.lo)
			avail = c.open(avail)
		}
		_, broken = pick(avail, want)
		return lost, broken
	}
	la, ba := sum(a)
	lb, bb := sum(b)
	switch {
	case la != lb:
		return la < lb
	case len(a) != len(b):
		return len(a) < len(b)
	case ba != bb:
		return ba < bb
	}
	for i := range a {
		if a[i].arrival != b[i].arrival {
			return a[i].arrival > b[i].arrival
		}
	}
	return false
}

func TestVictimsAreThoseOfBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 16).Draw(t, "gpus")
		tab := host(n)
		steps := rapid.IntRange(1, 24).Draw(t, "steps")
		for i := range steps {
			if len(tab.Tenants) > 0 && rapid.IntRange(0, 3).Draw(t, "free") == 0 {
				tab.Free(tab.Tenants[rapid.IntRange(0, len(tab.Tenants)-1).Draw(t, "who")].Lease)
				continue
			}
			k := rapid.SampledFrom([]BidKind{Spot, Spot, Spot, OnDemand}).Draw(t, "kind")
			a := ask(i+1, k, ledger.Rate(rapid.IntRange(0, 4).Draw(t, "rate")), rapid.Uint16Range(1, 4).Draw(t, "count"))
			h, err := tab.Hold(a, 10)
			if err != nil {
				continue
			}
			tab.Certify(a.Lease, 1)
			for _, v := range h.Victims {
				tab.Free(v)
			}
			if err := tab.Take(a.Lease, 1); err != nil {
				t.Fatal(err)
			}
			if err := tab.Audit(); err != nil {
				t.Fatal(err)
			}
		}
		want := rapid.IntRange(1, 8).Draw(t, "want")
		p, err := tab.Plan(ask(99, OnDemand, 9, uint16(want)))
		if err != nil {
			if int(tab.Counts("A").OnDemand) >= want {
				t.Fatalf("plan: %v, though %d could be had", err, tab.Counts("A").OnDemand)
			}
			return
		}
		if got, brute := p.Victims, bruteVictims(tab, want); !slices.Equal(got, brute) {
			t.Fatalf("victims %v, brute force says %v; table %+v", got, brute, tab)
		}
		if len(p.GPUs) != want {
			t.Fatalf("plan of %d GPUs, want %d", len(p.GPUs), want)
		}
	})
}

// TestTableKeepsItsPromises drives a table at random and audits it after every step.
func TestTableKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := host(rapid.IntRange(1, 8).Draw(t, "gpus"))
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			l := lease(rapid.IntRange(1, 12).Draw(t, "lease"))
			demand := map[wire.ID]bool{}
			for _, e := range tab.Tenants {
				demand[e.Lease] = e.Type == OnDemand
			}
			switch rapid.SampledFrom([]string{"hold", "hold", "certify", "take", "free", "drop", "expire", "tick", "stock"}).Draw(t, "step") {
			case "hold":
				k := rapid.SampledFrom([]BidKind{Spot, OnDemand}).Draw(t, "kind")
				tab.Hold(Ask{Lease: l, Type: k, Rate: 5, Model: "A", Count: rapid.Uint16Range(1, 3).Draw(t, "n")}, member.Time(i+5))
			case "certify":
				victims, _ := tab.Certify(l, member.Time(i))
				for _, v := range victims {
					if demand[v] {
						t.Fatalf("M2: on-demand lease %v must go", v)
					}
				}
			case "take":
				ready := tab.Ready(l)
				if err := tab.Take(l, member.Time(i)); (err == nil) != ready {
					t.Fatalf("take: %v, ready: %v", err, ready)
				}
			case "free":
				tab.Free(l)
			case "drop":
				tab.Drop(l)
			case "expire":
				tab.Expire(l)
			case "tick":
				tab.ExpireAll(member.Time(i))
			case "stock":
				tab.Inventory(devices("A", rapid.IntRange(0, 8).Draw(t, "now")))
			}
			if err := tab.Audit(); err != nil {
				t.Fatal(err)
			}
			var again Table
			if err := wire.Unmarshal(wire.Marshal(*tab), &again); err != nil || !slices.Equal(wire.Marshal(again), wire.Marshal(*tab)) {
				t.Fatalf("the table does not survive its store: %v", err)
			}
		}
	})
}

func BenchmarkPlanOfEquals(b *testing.B) {
	tab := host(16)
	for i := range 16 {
		a := ask(i+1, Spot, 10, 1)
		tab.Hold(a, 10)
		tab.Certify(a.Lease, 1)
		tab.Take(a.Lease, 1)
	}
	for b.Loop() {
		if _, err := tab.Plan(ask(99, OnDemand, 9, 7)); err != nil {
			b.Fatal(err)
		}
	}
}

// full is a table in which spot leases 1 and 4 have GPUs and on-demand lease 2 waits for those of lease 1.
func full(t *testing.T) *Table {
	tab := host(3)
	seat(t, tab, ask(1, Spot, 10, 2))
	tab.Hold(ask(2, OnDemand, 50, 2), 10)
	if _, err := tab.Certify(lease(2), 1); err != nil {
		t.Fatal(err)
	}
	seat(t, tab, ask(4, Spot, 5, 1))
	return tab
}

func TestAuditFindsEveryBreach(t *testing.T) {
	for name, breach := range map[string]func(*Table){
		"a GPU in no lease that has it":          func(t *Table) { t.Slots[0].Lease = wire.ID{} },
		"a GPU in a lease that is not there":     func(t *Table) { t.Slots[2].Lease = lease(9) },
		"a GPU in a lease that only waits":       func(t *Table) { t.Slots[0].Lease = lease(2) },
		"a GPU there twice":                      func(t *Table) { t.Slots = append(t.Slots, t.Slots[0]) },
		"a lease there twice":                    func(t *Table) { t.Tenants = append(t.Tenants, t.Tenants[0]) },
		"tenants out of order":                   func(t *Table) { slices.Reverse(t.Tenants) },
		"a hold of a lease that has GPUs":        func(t *Table) { t.Holds = []Held{{Lease: lease(1)}} },
		"two holds of a lease":                   func(t *Table) { t.Holds = []Held{{Lease: lease(5)}, {Lease: lease(5)}} },
		"a promise of a GPU that is no victim's": func(t *Table) { t.Tenants[1].Victims = nil },
		"a GPU promised twice": func(t *Table) {
			t.Holds = []Held{{Lease: lease(5), Type: OnDemand, GPUs: t.Tenants[1].GPUs, Victims: t.Tenants[1].Victims}}
		},
		"a promise of a GPU that is not there": func(t *Table) { t.Holds = []Held{{Lease: lease(5), GPUs: []string{"x"}}} },
		"a victim twice": func(t *Table) {
			t.Holds = []Held{{Lease: lease(5), Type: OnDemand, Victims: []wire.ID{lease(1)}}}
		},
		"a victim that has nothing":  func(t *Table) { t.Holds = []Held{{Lease: lease(5), Type: OnDemand, Victims: []wire.ID{lease(2)}}} },
		"a victim that is on-demand": func(t *Table) { t.Tenants[0].Type = OnDemand },
		"a spot lease with victims":  func(t *Table) { t.Tenants[1].Type = Spot },
	} {
		tab := full(t)
		if err := tab.Audit(); err != nil {
			t.Fatal(err)
		}
		breach(tab)
		if tab.Audit() == nil {
			t.Errorf("%s: not found", name)
		}
	}
}

func TestChangesOutOfOrderAreRefused(t *testing.T) {
	tab := full(t)
	if got := tab.Waiting(); !slices.Equal(got, []wire.ID{lease(2)}) {
		t.Fatalf("waiting: %v, want lease 2", got)
	}
	before := string(wire.Marshal(*tab))
	for name, c := range map[string]struct {
		got, want error
	}{
		"hold of a lease that waits":  {errOf(tab.Hold(ask(2, Spot, 1, 1), 9)), ErrBusy},
		"hold of a lease with GPUs":   {errOf(tab.Hold(ask(1, Spot, 1, 1), 9)), ErrBusy},
		"ask for nothing":             {errOf(tab.Plan(ask(7, Spot, 1, 0))), ErrAsk},
		"ask of no kind":              {errOf(tab.Plan(ask(7, 0, 1, 1))), ErrAsk},
		"ask of nobody":               {errOf(tab.Plan(Ask{Type: Spot, Count: 1, Model: "A"})), ErrAsk},
		"certify without hold":        {errOf(tab.Certify(lease(1), 1)), ErrNoHold},
		"take twice":                  {tab.Take(lease(1), 1), ErrNoRight},
		"take of a GPU with a victim": {tab.Take(lease(2), 1), ErrOccupied},
		"amend of nobody":             {tab.Amend(lease(9), Spot, 1), ErrNoRight},
		"amend to nothing":            {tab.Amend(lease(4), 0, 1), ErrAsk},
		"spot with victims":           {tab.Amend(lease(2), Spot, 1), ErrBusy},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	if tab.Expire(lease(1)) || tab.Drop(lease(1)) || tab.Free(lease(2)) != nil {
		t.Error("a lease that has GPUs expires or drops, or one that waits is freed")
	}
	if string(wire.Marshal(*tab)) != before {
		t.Error("what was refused changed the table")
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestShortageSaysHowMuchCouldBeHad(t *testing.T) {
	for s, want := range map[Shortage]string{
		{"A", 4, 2, 1}: `market: 1 of 2 GPUs of model "A" could be had, want 4`,
		{Model: "B"}:   `market: host has no GPU of model "B"`,
	} {
		if s.Error() != want {
			t.Errorf("got %q, want %q", s.Error(), want)
		}
	}
}
