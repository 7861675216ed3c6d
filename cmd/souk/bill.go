package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"

	"github.com/spf13/cobra"

	"souk/ledger"
	"souk/market"
	"souk/node/api"
	"souk/node/config"
	"souk/node/core/consumer"
	"souk/node/core/step"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

// billMost bounds the file that is read, bytes: a minute takes about 700 in it.
const billMost = 1 << 30

func billCommand(e *env) *cobra.Command {
	return noun("bill", "What a lease cost, and the proof of it", billListCommand(e), billShowCommand(e), billExportCommand(e), billVerifyCommand(e))
}

func billListCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "What each pod has cost, those that have ended too", Args: cobra.NoArgs,
		Example: "  souk bill ls -o csv > pods.csv",
		RunE: e.asking(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.Leases(ctx, true)
			if err != nil {
				return err
			}
			return billList().show(e, list)
		}),
	}
}

func billList() listing[consumer.View] {
	type view = consumer.View
	return listing[view]{
		key: func(v view) string { return v.Lease.String() },
		columns: []column[view]{
			{head: "LEASE", of: func(v view) string { return v.Lease.Short() }},
			{head: "NAME", of: func(v view) string { return v.Name }},
			{head: "CREATED", of: func(v view) string { return v.Created.String() }},
			{head: "KIND", of: func(v view) string { return v.Type.String() }},
			{head: "GPUS", of: func(v view) string { return model(v.GPUs, v.Model, v.Simulated) }},
			{head: "$/GPU-h", right: true, of: func(v view) string { return price(v.Rate) }},
			{head: "STATE", of: func(v view) string { return because(v.State, v.Reason) }},
			{head: "MINUTES", right: true, of: func(v view) string { return strconv.FormatUint(v.Minutes, 10) }},
			{head: "STORED", right: true, of: func(v view) string { return strconv.FormatUint(v.Stored, 10) }},
			{head: "OWED $", right: true, of: func(v view) string { return v.Owed.Text() }},
			{head: "SIGNED $", right: true, of: func(v view) string { return v.Vouched.Text() }},
			{head: "PAID $", right: true, of: func(v view) string { return v.Paid.Text() }},
			{head: "SETTLED", of: func(v view) string { return yesNo(v.Settled) }},
			{head: "HOST", wide: true, of: func(v view) string { return who(v.Host, v.Alias) }},
		},
	}
}

// minuteList are the entries of a bill, for a spreadsheet.
func minuteList() listing[ledger.Usage] {
	type view = ledger.Usage
	n := func(x uint64) string { return strconv.FormatUint(x, 10) }
	return listing[view]{
		key: func(v view) string { return n(v.Seq) },
		columns: []column[view]{
			{head: "ENTRY", of: func(v view) string { return n(v.Seq) }},
			{head: "FIRST MINUTE", of: func(v view) string { return n(uint64(v.First)) }},
			{head: "MINUTES", of: func(v view) string { return n(uint64(v.Count)) }},
			{head: "BILLED", of: func(v view) string { return strconv.FormatInt(v.Minutes(), 10) }},
			{head: "STATUS", of: func(v view) string { return v.Status.String() }},
			{head: "BASIS", of: func(v view) string { return v.Basis.String() }},
			{head: "OWED SO FAR $", of: func(v view) string { return v.Owed().String() }},
			{head: "FINAL", of: func(v view) string { return yesNo(v.Final) }},
		},
	}
}

func billShowCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show POD", Short: "What a lease has cost", Args: cobra.ExactArgs(1),
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			b, err := c.Bill(ctx, args[0])
			if err != nil {
				return err
			}
			return e.showSummary(b.Summary, removal(b.Wiped)...)
		}),
	}
}

func billExportCommand(e *env) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "export POD", Short: "The file that proves what a lease cost", Args: cobra.ExactArgs(1),
		Long: "Export writes a file that 'souk bill verify' checks with nothing but the file. It is JSON; not a byte of it may change. With\n-o csv it lists the minutes, for a spreadsheet: that proves nothing.",
		RunE: e.asking(func(ctx context.Context, c *api.Client, args []string) error {
			if e.output != "table" && e.output != "json" && e.output != "csv" {
				return usageError("", "a bill is exported as json, which proves it, or as csv, which lists its minutes")
			}
			b, err := c.Bill(ctx, args[0])
			if err != nil {
				return err
			}
			if e.output == "csv" {
				return e.exportMinutes(b.File, file)
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

// exportMinutes writes a bill's entries as csv.
func (e *env) exportMinutes(bill, file string) error {
	b, err := market.DecodeBill([]byte(bill))
	if err != nil {
		return err
	}
	list := make([]ledger.Usage, 0, len(b.Usage))
	for _, o := range b.Usage {
		u, err := wire.Decode[ledger.Usage](o)
		if err != nil {
			return err
		}
		list = append(list, u)
	}
	if file == "" {
		return minuteList().csv(e.out, list)
	}
	var out bytes.Buffer
	if err := minuteList().csv(&out, list); err != nil {
		return err
	}
	return config.WriteFile(file, out.Bytes())
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

// removal says that a volume is gone, if its host has said so.
func removal(w *consumer.Wiped) []fact {
	if w == nil {
		return nil
	}
	text := fmt.Sprintf("removed at %v (%s), signed by the host", w.At, w.Reason)
	if w.Forfeit != nil {
		text += "; it names the bank's forfeit " + w.Forfeit.Short()
	}
	return []fact{{"volume", text}}
}

func (e *env) showSummary(s market.Summary, more ...fact) error {
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
	err := e.one(s, s.Lease.String(), append([]fact{
		{"lease", s.Lease.String()}, {"market", name + ", " + s.Market.String()}, {"operator", operators},
		{"host", s.Host.String()}, {"consumer", s.Consumer.String()},
		{"what", s.Type.String() + ", " + model(s.GPUs, s.Model, s.Simulated)},
		{"running", s.Tariff.GPU.Text() + " $/h, disk " + s.Tariff.DiskRunning.Text() + ", volume " + s.Tariff.VolumeRunning.Text()},
		{"stopped", s.Tariff.VolumeStopped.Text() + " $/h"},
		{"from", s.From}, {"to", s.To}, {"entries", strconv.Itoa(s.Entries) + ", " + final},
		{"owed", s.Owed.String() + " $"}, {"signed", s.Signed.String() + " $"}, {"reserved", s.Reserved.String() + " $"}, {"paid", paid},
	}, more...)...)
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
