package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"souk/ledger"
	"souk/node/api"
	"souk/node/config"
	"souk/node/core/observer"
	"souk/node/core/step"
	"souk/node/keys"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// initFlags are those of 'init'.
type initFlags struct {
	homeFlags
	role                                     string
	market                                   string
	testnet                                  bool
	fee, minDeposit, spendFloor, spendGrowth string
	stopFunds, dataHold                      uint32 // minutes
	slot                                     spanValue
}

func initCommand(e *env) *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use: "init --role operator --market NAME", Short: "Make a home with a key; as operator, found a market", Args: cobra.NoArgs,
		Long: "Init makes a home: a key, and settings with ports that stay the same. As operator it founds a market too. Hosts and\nconsumers do not need it: 'souk join CODE' makes their home.",
		Example: "  souk init --role operator --market \"GPU Coop\"\n" +
			"  souk init --role operator --market demo --testnet --slot 5s --no-passphrase",
		RunE: does(func(ctx context.Context, _ []string) error { return f.run(ctx, e) }),
	}
	f.homeFlags.add(c, true)
	c.Flags().StringVar(&f.role, "role", "", "operator, host or consumer")
	c.Flags().StringVar(&f.market, "market", "", "name of the market to found")
	c.Flags().BoolVar(&f.testnet, "testnet", false, "a market for trying things: simulated GPUs and plain processes are allowed")
	c.Flags().StringVar(&f.fee, "fee", "", "your share of what hosts earn, as in 2.5% (default none)")
	c.Flags().StringVar(&f.spendFloor, "spend-floor", "", "most that a new consumer's pods may cost per hour, credits; 0: no limit (default 20)")
	c.Flags().StringVar(&f.spendGrowth, "spend-growth", "", "by how much of what it has settled that grows (default 10%)")
	c.Flags().StringVar(&f.minDeposit, "min-deposit", "", "smallest deposit, credits (default 10)")
	c.Flags().Uint32Var(&f.stopFunds, "stop-funds", 10, "minutes of funds under which an account's pods stop")
	c.Flags().Uint32Var(&f.dataHold, "data-hold", 2880, "minutes for which volumes outlive their funds or their lease")
	c.Flags().Var(&f.slot, "slot", "length of a billed minute in a testnet, 5s to 60s (default 60s)")
	return c
}

func (f *initFlags) validate() error {
	r, err := member.ParseRole(f.role)
	slot := time.Duration(f.slot)
	switch {
	case f.role == "":
		return usageError("souk init --role operator --market NAME", "say --role")
	case err != nil || r != member.RoleOperator && r != member.RoleHost && r != member.RoleConsumer:
		return usageError("", "no role %q; want operator, host or consumer", f.role)
	case r == member.RoleOperator && f.market == "":
		return usageError("souk init --role operator --market NAME", "an operator founds a market: say --market NAME")
	case r != member.RoleOperator && (f.market != "" || f.testnet || slot != 0):
		return usageError("to become a member: souk join CODE", "only an operator founds a market")
	case slot != 0 && !f.testnet:
		return usageError("", "only a --testnet market has other minutes than 60 s")
	case slot != 0 && (slot%time.Second != 0 || slot < 5*time.Second || slot > time.Minute):
		return usageError("", "--slot is 5s to 60s, in whole seconds")
	}
	if _, err := f.founding(); err != nil {
		return err
	}
	return f.check()
}

// founding is what the flags say of a market's policy.
func (f *initFlags) founding() (out api.Founding, err error) {
	if out.Fee, err = parts("fee", f.fee); err == nil && out.Fee > member.MostFee {
		err = usageError("", "--fee is at most half")
	}
	if err == nil && f.spendGrowth != "" {
		var grow uint32
		grow, err = parts("spend-growth", f.spendGrowth)
		out.SpendGrow = &grow
	}
	for _, x := range []struct {
		flag, text string
		to         **ledger.Amount
	}{{"min-deposit", f.minDeposit, &out.MinDeposit}, {"spend-floor", f.spendFloor, &out.SpendFloor}} {
		if err == nil && x.text != "" {
			var a ledger.Amount
			if a, err = ledger.ParseAmount(x.text); err == nil && a < 0 {
				err = usageError("", "--%s is negative", x.flag)
			}
			*x.to = &a
		}
	}
	return out, err
}

// A made is a home that init has made.
type made struct {
	Home    string             `json:"home"`
	Address identity.Address   `json:"address"`
	Roles   []string           `json:"roles"`
	Listen  []string           `json:"listen"`
	Market  *observer.Standing `json:"market,omitempty"`
}

func (f *initFlags) run(ctx context.Context, e *env) error {
	if err := f.validate(); err != nil {
		return err
	}
	home, err := e.homeDir()
	if err != nil {
		return err
	}
	if config.Exists(home) {
		return step.Fail(step.ProblemConflict, "name another --home, or remove that one if it is worth nothing", "there is a node in %s already", home)
	}
	cfg, k, err := f.make(e, home, f.role)
	if err != nil {
		return err
	}
	m := made{Home: home, Address: k.Address(), Roles: cfg.Roles, Listen: cfg.Listen}
	if f.role == "operator" {
		st, err := f.found(ctx, e, cfg, k)
		if err != nil {
			return err
		}
		m.Market = &st
	}
	return m.show(e)
}

// found founds the market, with a node in this process.
func (f *initFlags) found(ctx context.Context, e *env, cfg config.Config, k *keys.Key) (st observer.Standing, err error) {
	n, err := e.runLocal(ctx, cfg, k)
	if err != nil {
		return st, err
	}
	key := k.Public()
	founding, err := f.founding()
	founding.Salt, founding.Name, founding.Key, founding.Testnet = newID(), f.market, hex.EncodeToString(key[:]), f.testnet
	founding.Slot, founding.Alias, founding.StopFunds, founding.DataHold = uint16(time.Duration(f.slot)/time.Second), cfg.Alias, &f.stopFunds, &f.dataHold
	if err == nil {
		st, err = n.Found(ctx, founding)
	}
	if stopped := n.stop(); err == nil {
		err = stopped
	}
	return st, err
}

// parts is a percentage in parts per million.
func parts(flag, percent string) (uint32, error) {
	if percent == "" {
		return 0, nil
	}
	whole, err := ledger.ParseAmount(strings.TrimSuffix(percent, "%")) // with nine decimals
	if err != nil || whole < 0 || !strings.HasSuffix(percent, "%") || whole%(ledger.Credit/10_000) != 0 {
		return 0, usageError("", "--%s wants a share, as in 2.5%%", flag)
	}
	return uint32(min(whole/(ledger.Credit/10_000), 10_000_001)), nil
}

func (m made) show(e *env) error {
	facts := []fact{{"home", m.Home}, {"address", m.Address.String()}}
	if m.Market != nil {
		facts = append(facts, fact{"market", marketName(*m.Market)}, fact{"market id", m.Market.MarketID.String()})
	}
	if err := e.one(m, m.Address.String(), facts...); err != nil || !e.plain() {
		return err
	}
	if m.Market != nil {
		e.note("next: souk up -d; then souk operator invite create --role host")
	} else {
		e.note("next: souk join CODE")
	}
	return nil
}

// marketName is the market's name and what is special about it.
func marketName(s observer.Standing) string {
	if !s.Testnet {
		return s.Market
	}
	return fmt.Sprintf("%s (testnet, minutes of %d s)", s.Market, s.Slot)
}

// newID draws an id.
func newID() (id wire.ID) {
	rand.Read(id[:]) // never fails: crypto/rand
	return id
}
