package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"souk/ledger"
	"souk/ledger/audit"
	"souk/node/config"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/table"
	"souk/node/store"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A home whose bank was there before its transparency log opens with all of its entries logged, also when the first try was
// cut off.
func TestOlderBankIsLoggedAtTheStart(t *testing.T) {
	t.Parallel()
	op := start(t, "operator", func(c *config.Config) { c.Roles = []string{"operator"} })
	now := member.At(time.Now())
	ask[observer.Standing](op, observer.Found{
		Charter: member.Charter{Salt: wire.ID{1}, Name: "test", Founded: now, ChainID: member.DefaultChainID, Operators: []identity.PublicKey{op.key.Public()}, Threshold: 1, Testnet: true, Slot: 5},
		Policy:  member.DefaultPolicy(op.self, now), Alias: "op",
	})
	const entries = 300 // more than one batch
	for i := range entries {
		ask[operator.DepositView](op, operator.Deposit{Addr: op.self.String(), Amount: 20 * ledger.Credit, Ref: fmt.Sprint("ref ", i)})
	}
	proves := func() audit.Summary {
		t.Helper()
		s := ask[audit.Statement](op, observer.Prove{})
		var err error
		if s.Charter, err = op.Backend().Signed(context.Background(), s.Charter); err != nil {
			t.Fatal(err)
		}
		sum, err := audit.VerifyStatement(s.Encode(), identity.Secp256k1{})
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	proves()
	for _, forget := range []func(table.Table, uint64) bool{
		func(table.Table, uint64) bool { return true },                                       // as before there was a log
		func(t table.Table, n uint64) bool { return t == table.BankTree && n > entries-100 }, // written in part
	} {
		op.down()
		s, err := store.Open(op.cfg.Home, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, tab := range []table.Table{table.BankTree, table.AccountEntry, table.Liability} {
			var b store.Batch
			err := s.Scan(table.Key(tab), func(key, _ []byte) error {
				n := uint64(0)
				if tab == table.BankTree {
					n = table.Number(table.Field(key, 0))
				}
				if forget(tab, n) {
					b.Rows = append(b.Rows, store.Row{Key: append([]byte(nil), key...), Delete: true})
				}
				return nil
			})
			if err == nil {
				err = s.Commit([]store.Batch{b})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		op.up()
		if got := proves(); got.Entries != entries || got.Sums.Available != entries*20*ledger.Credit || got.Totals != got.Sums {
			t.Fatalf("got %+v", got)
		}
	}
}
