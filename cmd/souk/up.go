package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"souk/node"
	"souk/node/api"
	"souk/node/config"
	"souk/node/core/step"
	"souk/node/keys"
)

// How long the command line waits for a node.
const (
	upWait   = 60 * time.Second // a large store is loaded, an engine asked
	downWait = 60 * time.Second // what is under way is finished
	settled  = 5 * time.Second  // after which a node has done what only a start has to do
)

// garbage is how much of it may lie about, percent of what is in use. Two thirds of a small node's heap are one buffer of the
// store, which is hardly touched: at Go's 100 the garbage would be more than all the rest.
const garbage = 50

func upCommand(e *env) *cobra.Command {
	var p passFlags
	var background bool
	c := &cobra.Command{
		Use: "up", Short: "Run the node", Args: cobra.NoArgs,
		Long: "Up runs the node of this home until it is interrupted; with -d it goes on in the background and writes souk.log. Pods\noutlive their host's node: it finds them again when it is back.",
		RunE: does(func(ctx context.Context, _ []string) error {
			if background {
				return e.upBackground(ctx, &p)
			}
			return e.upForeground(ctx, &p)
		}),
	}
	p.add(c, false)
	c.Flags().BoolVarP(&background, "detach", "d", false, "run it in the background")
	c.Flags().BoolVar(&p.stdin, "passphrase-stdin", false, "read the key's passphrase from standard input")
	return c
}

// openHome reads settings and key.
func (e *env) openHome(p *passFlags) (config.Config, *keys.Key, error) {
	cfg, err := e.load()
	if err != nil {
		return cfg, nil, err
	}
	k, err := e.openKey(cfg, p)
	return cfg, k, err
}

func (e *env) upForeground(ctx context.Context, p *passFlags) error {
	cfg, k, err := e.openHome(p)
	if err != nil {
		return err
	}
	if api.NewClient(cfg.Socket()).Up(ctx) {
		return step.Fail(step.ProblemConflict, "souk status", "the node of this home is up already")
	}
	log := logger(cfg, e.err)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	if err := node.AwaitRoom(ctx, cfg, log); err != nil {
		return err
	}
	n, err := node.New(node.Options{Config: cfg, Key: k, Log: log, Version: buildVersion()})
	if err != nil {
		return err
	}
	if err := cfg.WritePID(os.Getpid()); err != nil {
		return err
	}
	defer cfg.RemovePID(os.Getpid())
	go func() {
		select {
		case <-n.Ready():
			log.Info("node is up", "address", k.Address(), "home", cfg.Home, "version", buildVersion())
		case <-ctx.Done():
		}
		for _, d := range []time.Duration{settled, 5 * settled} { // once for the start, once for what comes of its being up
			select {
			case <-time.After(d):
				debug.FreeOSMemory() // starting takes more than waiting for customers does
			case <-ctx.Done():
			}
		}
	}()
	return n.Run(ctx)
}

func (e *env) upBackground(ctx context.Context, p *passFlags) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	client := api.NewClient(cfg.Socket())
	defer client.Close()
	if client.Up(ctx) {
		e.note("the node of this home is up already")
		return e.showUp(ctx, client)
	}
	// The passphrase is asked for here, where there is a terminal, and checked before anything is started.
	var word []byte
	source := p.source(e, cfg)
	if _, err := keys.Open(cfg.Keystore(), func() (b []byte, err error) { word, err = source(); return word, err }); err != nil {
		return err
	}
	child, said, err := e.spawn(cfg, word)
	if err != nil {
		return err
	}
	if err := awaitChild(ctx, client, child); err != nil {
		tail := said()
		if len(tail) > 0 {
			e.note("%s", bytes.TrimRight(tail, "\n"))
		}
		return err
	}
	return e.showUp(ctx, client)
}

// spawn starts this program again as the node. said is what it has written to its log since.
func (e *env) spawn(cfg config.Config, word []byte) (child *osexec.Cmd, said func() []byte, err error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	log, err := os.OpenFile(cfg.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, nil, err
	}
	child = osexec.Command(exe, "up", "--home", cfg.Home, "--passphrase-stdin")
	child.Stdin, child.Stdout, child.Stderr = bytes.NewReader(word), log, log
	child.Dir = cfg.Home
	detach(child)
	if err := child.Start(); err != nil {
		return nil, nil, err
	}
	return child, func() []byte { return tailOf(cfg.LogFile(), begin) }, nil
}

// tailMost is how much of a log is shown when a node does not start, bytes.
const tailMost = 4096

// tailOf is the end of what a file holds after an offset.
func tailOf(path string, begin int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size()-begin > tailMost {
		begin = fi.Size() - tailMost
	}
	f.Seek(begin, io.SeekStart)
	b, _ := io.ReadAll(io.LimitReader(f, tailMost))
	return b
}

// awaitChild waits until the node answers, and gives up when its process ends first.
func awaitChild(ctx context.Context, c *api.Client, child *osexec.Cmd) error {
	ctx, cancel := context.WithTimeoutCause(ctx, upWait, step.Fail(step.ProblemTimeout, "see souk.log in the home", "the node was started and does not answer"))
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	answers := make(chan error, 1)
	go func() { answers <- c.Await(ctx) }()
	select {
	case err := <-answers:
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	case <-ended:
		return step.Fail(step.ProblemOther, "", "the node ended at once, with exit code %d", child.ProcessState.ExitCode())
	}
}

func (e *env) showUp(ctx context.Context, c *api.Client) error {
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	return e.one(st, st.Address.String(), fact{"address", st.Address.String()}, fact{"pid", fmt.Sprint(st.PID)}, fact{"home", st.Home}, fact{"standing", standing(st.Standing)})
}

func downCommand(e *env) *cobra.Command {
	wait := spanValue(downWait)
	c := &cobra.Command{
		Use: "down", Short: "End the node; pods of a host run on", Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error { return e.down(ctx, time.Duration(wait)) }),
	}
	c.Flags().Var(&wait, "timeout", "how long to wait for its end")
	return c
}

func (e *env) down(ctx context.Context, wait time.Duration) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	c := api.NewClient(cfg.Socket())
	defer c.Close()
	st, err := c.Status(ctx)
	if errors.Is(err, api.ErrDown) {
		e.note("no node is up in this home")
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, step.Fail(step.ProblemTimeout, fmt.Sprintf("its process is %d", st.PID), "the node is still ending"))
	defer cancel()
	if err := c.Shutdown(ctx); err != nil && !errors.Is(err, api.ErrDown) {
		return err
	}
	if st.PID == os.Getpid() {
		return nil // a test's node, in this process
	}
	if err := awaitEnd(ctx, st.PID); err != nil {
		return context.Cause(ctx)
	}
	e.note("the node has ended; pods on this machine run on")
	return nil
}
