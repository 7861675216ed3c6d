package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"

	"github.com/spf13/cobra"

	"souk/market"
	"souk/node/api"
	"souk/node/config"
	"souk/node/core/step"
	"souk/p2p/identity"
)

// billMost bounds the file that is read, bytes: a minute takes about 700 in it.
const billMost = 1 << 30

func billCommand(e *env) *cobra.Command {
	return noun("bill", "What a lease cost, and the proof of it", billShowCommand(e), billExportCommand(e), billVerifyCommand(e))
}

func billShowCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show POD", Short: "What a lease has cost", Args: cobra.ExactArgs(1),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			b, err := c.Bill(ctx, args[0])
			if err != nil {
				return err
			}
			return e.showSummary(b.Summary)
		}),
	}
}

func billExportCommand(e *env) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "export POD", Short: "The file that proves what a lease cost", Args: cobra.ExactArgs(1),
		Long: "Export writes a file that 'souk bill verify' checks with nothing but the file. It is JSON; not a byte of it may change.",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			if e.output != "table" && e.output != "json" {
				return usageError("", "a bill is exported as json only")
			}
			b, err := c.Bill(ctx, args[0])
			if err != nil {
				return err
			}
			if file != "" {
				return config.WriteFile(file, []byte(b.File))
			}
			_, err = io.WriteString(e.out, b.File)
			return err
		}),
	}
	c.Flags().StringVar(&file, "file", "", "write it there instead of standard output")
	return c
}

func billVerifyCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use: "verify FILE", Short: "Check a bill with nothing but its file", Args: cobra.ExactArgs(1),
		Long: "Verify checks every signature, the operators' word for both parties, every minute's arithmetic, the voucher and the\n" +
			"bank's receipts. It asks no node and no network. - reads standard input. Exit code 9 means that the bill does not\nverify, and says what is the first wrong part. Whether to trust the operators it names, you must know.",
		RunE: does(func(ctx context.Context, args []string) error {
			b, err := e.readFile(args[0])
			if err != nil {
				return err
			}
			s, err := market.VerifyBillWith(b, identity.Secp256k1{}, inParallel)
			if err != nil {
				return notVerified(args[0], err)
			}
			if e.plain() {
				e.note("%s verifies", args[0])
			}
			return e.showSummary(s)
		}),
	}
	c.Flags().Bool("offline", true, "ask nobody: it never does")
	return c
}

func (e *env) readFile(name string) ([]byte, error) {
	f := e.in
	if name != "-" {
		o, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil, step.Fail(step.ProblemNotFound, "", "there is no file %s", name)
		}
		if err != nil {
			return nil, err
		}
		defer o.Close()
		f = o
	}
	b, err := io.ReadAll(io.LimitReader(f, billMost+1))
	if len(b) > billMost {
		return nil, usageError("", "%s has over %d bytes", name, billMost)
	}
	return b, err
}

// notVerified says what is the first wrong part.
func notVerified(name string, err error) error {
	hint := "ask whoever gave it to you for the file as it was exported"
	var bad *market.BadEntry
	if errors.As(err, &bad) && bad.Entry > 1 {
		hint = fmt.Sprintf("entries before %d are as they should be", bad.Entry)
	}
	return step.Fail(step.ProblemVerify, hint, "%s does not verify: %s", name, trim(err))
}

// inParallel calls check for every i below n, on all cores.
func inParallel(n int, check func(i int)) {
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), n)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				check(i)
			}
		})
	}
	wg.Wait()
}

func (e *env) showSummary(s market.Summary) error {
	operators := ""
	for i, o := range s.Operators {
		if i > 0 {
			operators += ", "
		}
		operators += o.String()
	}
	name := s.Name
	if s.Testnet {
		name += " (testnet)"
	}
	final := "open: more entries may come"
	if s.Final {
		final = "final"
	}
	paid := money(s.Paid) + " $, fee " + money(s.Fee)
	if s.Released {
		paid += ", the rest released"
	}
	err := e.one(s, s.Lease.String(),
		fact{"lease", s.Lease.String()}, fact{"market", name + ", " + s.Market.String()}, fact{"operator", operators},
		fact{"host", s.Host.String()}, fact{"consumer", s.Consumer.String()},
		fact{"what", s.Type.String() + ", " + model(s.GPUs, s.Model, s.Simulated)},
		fact{"running", s.Tariff.GPU.Text() + " $/h, disk " + s.Tariff.DiskRunning.Text() + ", volume " + s.Tariff.VolumeRunning.Text()},
		fact{"stopped", s.Tariff.VolumeStopped.Text() + " $/h"},
		fact{"from", s.From}, fact{"to", s.To}, fact{"entries", strconv.Itoa(s.Entries) + ", " + final},
		fact{"owed", s.Owed.String() + " $"}, fact{"signed", s.Signed.String() + " $"}, fact{"reserved", s.Reserved.String() + " $"}, fact{"paid", paid})
	if err != nil || !e.plain() || len(s.Minutes) == 0 {
		return err
	}
	fmt.Fprintln(e.out)
	return listing[market.StatusMinutes]{
		key: func(m market.StatusMinutes) string { return m.Status.String() },
		columns: []column[market.StatusMinutes]{
			{head: "STATUS", of: func(m market.StatusMinutes) string { return m.Status.String() }},
			{head: "MINUTES of " + strconv.FormatInt(s.SlotSeconds, 10) + " s", right: true, of: func(m market.StatusMinutes) string { return strconv.FormatInt(m.Minutes, 10) }},
			{head: "BILLED", right: true, of: func(m market.StatusMinutes) string { return strconv.FormatInt(m.Billed, 10) }},
		},
	}.show(e, s.Minutes)
}
