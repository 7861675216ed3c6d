package main

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"souk/node"
	"souk/node/api"
	"souk/node/core/step"
	"souk/node/store"
)

func ledgerBackupCommand(e *env) *cobra.Command {
	var p passFlags
	c := &cobra.Command{
		Use: "backup FILE|DIR", Short: "Write the ledger to one file; the node may run", Args: cobra.ExactArgs(1),
		Long: "Backup writes what this node knows and has signed, as it is at one moment, to one file with a checksum; into a folder, under a\n" +
			"name with key and time. Offers and beats of others are not in it, nor is the key: keep that elsewhere ('souk key export').",
		RunE: does(func(ctx context.Context, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			cfg, err := e.load()
			if err != nil {
				return err
			}
			client := api.NewClient(cfg.Socket())
			defer client.Close()
			b, err := client.Backup(ctx, path)
			if errors.Is(err, api.ErrDown) {
				b, err = e.backupDown(path, &p)
			}
			if err != nil {
				return err
			}
			return e.showBackup(b)
		}),
	}
	p.add(c, false)
	return c
}

// backupDown makes a backup of a home whose node is down.
func (e *env) backupDown(path string, p *passFlags) (api.Backup, error) {
	cfg, err := e.journaled()
	if err != nil {
		return api.Backup{}, err
	}
	k, err := e.openKey(cfg, p)
	if err != nil {
		return api.Backup{}, err
	}
	s, err := store.Open(cfg.Home, storeOptions())
	if err != nil {
		return api.Backup{}, err
	}
	b, err := node.BackUp(s, k.Address(), path, buildVersion())
	return b, errors.Join(err, s.Close())
}

func (e *env) showBackup(b api.Backup) error {
	return e.one(b, b.Path, fact{"file", b.Path}, fact{"key", b.Key.String()}, fact{"of", b.At.String()},
		fact{"journal", "up to frame " + strconv.FormatUint(b.Frame, 10)}, fact{"rows", strconv.Itoa(b.Rows)}, fact{"chains", strconv.Itoa(b.Chains)})
}

func ledgerRestoreCommand(e *env) *cobra.Command {
	var p passFlags
	var force bool
	c := &cobra.Command{
		Use: "restore FILE", Short: "Put a backup into this home; the node is down", Args: cobra.ExactArgs(1),
		Long: "Restore puts a backup of this home's key into the home. What the node signed after the backup was made is not in it. So the node\n" +
			"comes up in quarantine: it signs nothing until those it dealt with have told it what they hold, or until 'souk ledger accept-loss'.\n" +
			"Then it goes on behind every place that it can have signed; leases that were open end. A bank goes on only with its newest books.",
		RunE: does(func(_ context.Context, args []string) error {
			cfg, k, err := e.openHome(&p)
			if err != nil {
				return err
			}
			b, err := node.Restore(cfg.Home, k.Address(), args[0], force)
			if err != nil {
				return err
			}
			if err := e.showBackup(b); err != nil || !e.plain() {
				return err
			}
			e.note("the node is in quarantine; next: souk up -d, and souk status says what it waits for")
			return nil
		}),
	}
	p.add(c, false)
	c.Flags().BoolVar(&force, "force", false, "where there is a ledger already: put it aside")
	return c
}

func ledgerAcceptCommand(e *env) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "accept-loss", Short: "End the quarantine without what is still awaited", Args: cobra.NoArgs,
		Long: "Accept-loss gives up what this node waits for in its quarantine ('souk status' lists it): vouchers and entries that only others hold.\n" +
			"A bank whose books lack what a member has shown cannot go on so: what they lack is listed, and newer books must be put back.\n" +
			"No place of a chain is signed again: what the node numbers goes on behind a gap, and leases that were open get no further entry.",
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			st, err := c.Status(ctx)
			switch {
			case err != nil:
				return err
			case st.Condition.Quarantine == "":
				return step.Fail(step.ProblemConflict, "", "this node is not in quarantine")
			}
			if !yes {
				for _, w := range st.Condition.Awaited {
					e.note("given up: %s", w)
				}
			}
			if err := e.agree(ctx, yes, "Go on without it?"); err != nil {
				return err
			}
			a, err := c.AcceptLoss(ctx)
			if err != nil {
				return err
			}
			return e.one(a, strconv.Itoa(len(a.Lost)), fact{"quarantine", "over"}, fact{"given up", plural(len(a.Lost), "answer", "answers")})
		}),
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}
