package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"souk/exec"
	"souk/node/api"
	"souk/node/config"
	"souk/node/core/step"
)

// Times of the demo at the edge.
const (
	demoWait  = 45 * time.Second // one thing that the story waits for
	demoClear = 60 * time.Second // taking everything away
	nodeEnds  = 5 * time.Second  // a node that takes longer to end is killed
)

// A demo is the story of one market on one machine: real processes, real containers, real money of a testnet.
type demo struct {
	screen
	bin    string // this program
	dir    string // of everything: homes, bills
	image  string // in the demo's own registry
	engine string // what runs pods, for people
	rt     string // docker or process
	slot   time.Duration
}

func demoCommand(e *env) *cobra.Command {
	var keep, plain bool
	var rt, stop string
	c := &cobra.Command{
		Use: "demo", Short: "Show a whole market on this machine, from nothing to verified bills", Args: cobra.NoArgs,
		Long: "Demo plays an operator, two hosts and a consumer, each a node of its own, on this machine alone: it needs no network, no\n" +
			"GPU (they are simulated) and no arguments. Every command that it types is shown with its answer. Pods are containers where\n" +
			"a Docker engine answers, else plain processes. It takes a minute and a half, and takes everything away again.",
		RunE: does(func(ctx context.Context, _ []string) error {
			if stop != "" {
				return clearDemo(ctx, stop)
			}
			s := screen{out: e.out, color: e.fancy && !plain && os.Getenv("NO_COLOR") == "", width: 100, begun: time.Now()}
			if e.width > 0 {
				s.width = min(s.width, e.width)
			}
			return runDemo(ctx, s, rt, keep)
		}),
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave the nodes running and say how to talk to them")
	c.Flags().StringVar(&stop, "stop", "", "end a demo that was kept: its folder")
	c.Flags().StringVar(&rt, "runtime", "", "what runs pods: docker or process (default docker where it answers)")
	c.Flags().BoolVar(&plain, "no-color", false, "no colours")
	return c
}

func runDemo(ctx context.Context, s screen, rt string, keep bool) (err error) {
	if runtime.GOOS != "linux" {
		return step.Fail(step.ProblemOther, "run it on Linux, in a virtual machine if need be", "pods are Linux programs")
	}
	d := &demo{screen: s, slot: 5 * time.Second}
	if d.rt, d.engine, err = demoEngine(ctx, rt); err != nil {
		return err
	}
	if d.bin, err = os.Executable(); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "souk-demo-"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir, demoMark), nil, 0o600); err != nil {
		return err
	}
	kept := false
	defer func() {
		if !kept {
			err = errors.Join(err, d.takeAway(ctx))
		}
	}()
	if err := d.tell(ctx); err != nil {
		return d.explain(ctx, err)
	}
	if keep {
		kept = true
		d.showKept()
	}
	return nil
}

// demoEngine chooses what runs pods.
func demoEngine(ctx context.Context, want string) (name, shown string, err error) {
	switch want {
	case "", "docker", "process":
	default:
		return "", "", usageError("", "--runtime %q; want docker or process", want)
	}
	if want == "process" {
		return want, "plain processes, as asked for: without isolation, which only a testnet allows", nil
	}
	d, err := exec.NewDocker(exec.DockerOptions{})
	if err != nil {
		return "", "", err
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	v, err := d.Version(ctx)
	switch {
	case err == nil:
		err = d.Fence(demoMark).Load(ctx)
		if err == nil {
			return "docker", "containers of Docker " + v, d.Unfence(ctx, demoMark)
		}
		if want == "docker" {
			return "", "", step.Fail(step.ProblemOther, "run it as root, with nftables installed; or let pods be plain processes: --runtime process", "pods could not be fenced off: %s", trim(err))
		}
		return "process", "plain processes, as the firewall of containers cannot be loaded (" + trim(err) + "): without isolation, which only a testnet allows", nil
	case want == "docker":
		return "", "", step.Fail(step.ProblemOther, "start dockerd, or let pods be plain processes: --runtime process", "%s", trim(err))
	}
	return "process", "plain processes, as no Docker engine answers: without isolation, which only a testnet allows", nil
}

// The files of a demo's folder, beside the homes.
const (
	demoMark     = "this-is-a-souk-demo"
	demoRegistry = "registry" // process and image
)

func (d *demo) home(who string) string { return filepath.Join(d.dir, who) }

// A callError is a command of the story that did not end as the story wants.
type callError struct {
	who  string
	args []string
	code int
	want int
}

// Error implements error.
func (c *callError) Error() string {
	return fmt.Sprintf("%s: 'souk %s' ended with exit code %d, not %d", c.who, strings.Join(c.args, " "), c.code, c.want)
}

// run types a command at somebody's machine, shows what it answers, and gives that back.
func (d *demo) run(ctx context.Context, who string, args ...string) (string, error) {
	return d.ends(ctx, 0, who, args...)
}

// ends is run, of a command that has to end with a code.
func (d *demo) ends(ctx context.Context, code int, who string, args ...string) (string, error) {
	d.prompt(who, args)
	w := d.answer()
	defer w.Close()
	var out bytes.Buffer
	both := io.MultiWriter(&out, w)
	err := d.call(ctx, code, who, args, both, both) // one writer: the order of the two stays
	return out.String(), err
}

// ask runs a command that is not part of the story.
func (d *demo) ask(ctx context.Context, who string, args ...string) (string, error) {
	var out bytes.Buffer
	err := d.call(ctx, 0, who, args, &out, io.Discard)
	return out.String(), err
}

func (d *demo) call(ctx context.Context, code int, who string, args []string, out, errs io.Writer) error {
	c := osexec.CommandContext(ctx, d.bin, args...)
	c.Env = append(os.Environ(), "SOUK_HOME="+d.home(who))
	c.Dir = d.dir
	c.Stdout, c.Stderr = out, errs
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = nodeEnds
	err := c.Run()
	var exit *osexec.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !errors.As(err, &exit):
		return err
	}
	if got := c.ProcessState.ExitCode(); got != code {
		return &callError{who, args, got, code}
	}
	return nil
}

func (d *demo) client(who string) (*api.Client, error) {
	cfg, err := config.Load(d.home(who))
	if err != nil {
		return nil, err
	}
	return api.NewClient(cfg.Socket()), nil
}

// explain shows what a node had to say when a command of it failed.
func (d *demo) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	logs, _ := filepath.Glob(filepath.Join(d.dir, "*", "souk.log"))
	for _, f := range logs {
		d.line("\n%s", d.look(lookBad, "the end of "+f+":"))
		w := d.answer()
		w.Write(tailOf(f, 0))
		w.Close()
	}
	return err
}

// serve starts the registry in a process of its own, which outlives this one when the demo is kept.
func (d *demo) serve(ctx context.Context) error {
	c := osexec.Command(d.bin, "demo-registry")
	detach(c)
	said, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.Process.Kill() })
	defer stop()
	if _, err := fmt.Fscanln(said, &d.image); err != nil {
		c.Process.Kill()
		return fmt.Errorf("the demo's registry did not start: %w", errors.Join(err, c.Wait()))
	}
	return os.WriteFile(filepath.Join(d.dir, demoRegistry), []byte(fmt.Sprintf("%d %s\n", c.Process.Pid, d.image)), 0o600)
}

// takeAway removes everything, even after an interrupt.
func (d *demo) takeAway(ctx context.Context) error {
	d.say("Taking everything away: nodes, containers, volumes, the image, and %s.", d.dir)
	if err := clearDemo(context.WithoutCancel(ctx), d.dir); err != nil {
		d.line("%s", d.look(lookBad, "something is left: "+err.Error()))
		return err
	}
	d.line("  done, %s after the beginning", time.Since(d.begun).Round(time.Second))
	return nil
}

// clearDemo ends all nodes of a demo's folder, and removes what they made, the folder included.
func clearDemo(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, demoMark)); err != nil {
		return step.Fail(step.ProblemNotFound, "", "there is no demo in %s", dir)
	}
	ctx, cancel := context.WithTimeout(ctx, demoClear)
	defer cancel()
	homes, err := filepath.Glob(filepath.Join(dir, "*", "config.yaml"))
	if err != nil {
		return err
	}
	var g errgroup.Group
	for _, f := range homes {
		g.Go(func() error { return endHome(ctx, filepath.Dir(f)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := endRegistry(ctx, dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// endHome ends a node and removes its pods.
func endHome(ctx context.Context, home string) error {
	cfg, err := config.Load(home)
	if err != nil {
		return err
	}
	if err := endNode(ctx, cfg); err != nil {
		return err
	}
	var rt exec.Runtime
	switch cfg.Runtime {
	case config.RuntimeDocker:
		d, err := exec.NewDocker(exec.DockerOptions{})
		if err != nil {
			return err
		}
		defer d.Close()
		rt = d
	case config.RuntimeProcess:
		if rt, err = exec.NewProcess(exec.ProcessOptions{Root: cfg.PodsDir()}); err != nil {
			return err
		}
	default:
		return nil // no host
	}
	return clearEngine(ctx, rt, home)
}

func endNode(ctx context.Context, cfg config.Config) error {
	c := api.NewClient(cfg.Socket())
	defer c.Close()
	st, err := c.Status(ctx)
	if errors.Is(err, api.ErrDown) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.Shutdown(ctx); err != nil && !errors.Is(err, api.ErrDown) {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, nodeEnds)
	defer cancel()
	if awaitEnd(soon, st.PID) == nil {
		return nil
	}
	p, err := os.FindProcess(st.PID)
	if err != nil {
		return nil
	}
	p.Kill()
	return awaitEnd(ctx, st.PID)
}

// endRegistry forgets the image and ends its registry, if that is still there.
func endRegistry(ctx context.Context, dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, demoRegistry))
	if err != nil {
		return nil // it was never started
	}
	number, ref, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	addr, _, _ := strings.Cut(ref, "/")
	pid, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("%s holds no process number", filepath.Join(dir, demoRegistry))
	}
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return nil // gone; the process may be another's by now
	}
	conn.Close()
	d, err := exec.NewDocker(exec.DockerOptions{})
	if err == nil {
		defer d.Close()
		if d.Ping(ctx) == nil {
			err = forgetImage(ctx, d, ref)
		}
	}
	if p, notFound := os.FindProcess(pid); notFound == nil {
		p.Kill()
	}
	return err
}
