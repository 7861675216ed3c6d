package market

import (
	"slices"
	"testing"

	"souk/ledger"
	"souk/p2p/identity"
	"souk/p2p/member"
)

func TestMatchOrder(t *testing.T) {
	list := func(host byte, price, spot ledger.Rate, rel uint32, fresh bool, at member.Time) Listing {
		l := testListing()
		l.Offer.Host, l.Offer.At, l.Reliability, l.New, l.Alias = identity.Address{host}, at, rel, fresh, ""
		l.Offer.Groups = []Group{{Model: "A", MemoryMiB: 1, Count: 2, Free: 1, OnDemand: 2, Price: price, Floor: 1, SpotNow: spot}}
		return l
	}
	ls := []Listing{
		list(1, 50, 20, 990_000, false, 5),
		list(2, 40, 30, 990_000, false, 5),
		list(3, 40, 30, 995_000, true, 5),
		list(4, 40, 30, 995_000, false, 5),
		list(6, 40, 30, 990_000, false, 4),
		list(5, 40, 30, 990_000, false, 5),
		list(7, 40, 0, 990_000, false, 9),
	}
	for _, c := range []struct {
		want Want
		out  []byte
		pay  ledger.Rate
	}{
		{Want{Type: OnDemand, MaxRate: 45, GPUs: 2}, []byte{4, 6, 2, 5, 7, 3}, 40},
		{Want{Type: OnDemand, GPUs: 1}, []byte{4, 6, 2, 5, 7, 3, 1}, 40},
		{Want{Type: Spot, MaxRate: 35, GPUs: 1}, []byte{1, 4, 6, 2, 5, 3}, 35},
		{Want{Type: Spot, MaxRate: 29, GPUs: 1}, []byte{1}, 29},
	} {
		for range 2 {
			got, miss := Match(ls, c.want, 100)
			var hosts []byte
			for _, g := range got {
				hosts = append(hosts, g.Listing.Offer.Host[0])
			}
			if miss != nil || !slices.Equal(hosts, c.out) || got[0].Pay != c.pay {
				t.Errorf("%+v: hosts %v, %v; want %v paying %d", c.want, hosts, miss, c.out, c.pay)
			}
			slices.Reverse(ls)
		}
	}
	if got, miss := Match(ls, Want{Type: OnDemand, GPUs: 1}, 10_000); got != nil || miss == nil || miss.Live != 0 {
		t.Errorf("expired offers match: %v, %v", got, miss)
	}
}

func TestMissNamesTheNearest(t *testing.T) {
	a, b := testListing(), testListing()
	a.Alias, b.Alias = "a", "b"
	b.Offer.Groups = []Group{{Model: "A100", MemoryMiB: 81920, Count: 1, Free: 1, OnDemand: 1, Price: 900_000_000, Floor: 1, SpotNow: 1, Simulated: true}}
	q, err := ParseQuery("gpu_ram>=40GiB")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want Want
		text string
	}{
		{Want{Type: OnDemand, MaxRate: 350_000_000, GPUs: 1},
			"market: no offer fits; none of 2 has on-demand at most 0.35; nearest: host a, asks 0.40, you pay at most 0.35"},
		{Want{Type: Spot, MaxRate: 100_000_000, GPUs: 2, Model: "RTX 4090"},
			"market: no offer fits; nearest: host a, takes 0.15, you bid 0.10"},
		{Want{Type: OnDemand, GPUs: 1, Query: q},
			"market: no offer fits; nearest: host a, gpu_ram is 24GiB"},
		{Want{Type: OnDemand, GPUs: 8, AllowSimulated: true},
			"market: no offer fits; none of 2 has num_gpus>=8; nearest: host a, has 4 of 4 GPUs for on-demand"},
		{Want{Type: OnDemand, GPUs: 1, Disk: 1 << 50, Minutes: 6000, Model: "RTX_4090"},
			"market: no offer fits; none of 2 has disk_space>=1024TiB, leases of 6000 minutes; nearest: host a, has 500GiB of disk, leases for at most 72 h"},
	} {
		_, miss := Match([]Listing{b, a}, c.want, 2000)
		if miss == nil || miss.Error() != c.text {
			t.Errorf("%+v:\n got %v\nwant %s", c.want, miss, c.text)
		}
	}
	if _, miss := Match(nil, Want{}, 0); miss.Error() != "market: no offer is live" {
		t.Errorf("empty book: %v", miss)
	}
}
