package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// demoPodCommand is what runs inside the pods of the demo and of the end-to-end tests. Without arguments it is a job as
// people rent GPUs for: it does a step a second, keeps its place on its volume, and on SIGTERM saves and leaves. Started
// again it goes on where it was.
func demoPodCommand() *cobra.Command {
	p := &demoPod{}
	c := &cobra.Command{
		Use: "demo-pod", Hidden: true, Short: "The program in the pods of the demo", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.work(c.OutOrStdout()) },
	}
	c.PersistentFlags().DurationVar(&p.pace, "pace", time.Second, "time of a step")
	c.Flags().Uint64Var(&p.steps, "steps", 0, "end after so many steps (0: go on)")
	c.Flags().IntVar(&p.code, "code", 0, "exit code after the last step, and after SIGTERM")
	c.AddCommand(
		&cobra.Command{
			Use: "exit CODE", Short: "End at once with a code", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				code, err := strconv.Atoi(args[0])
				if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "leaving with code %d\n", code)
				return exitCode(code)
			},
		},
		&cobra.Command{
			Use: "echo WORDS…", Short: "Say something and end",
			Run: func(c *cobra.Command, args []string) { fmt.Fprintln(c.OutOrStdout(), strings.Join(args, " ")) },
		},
		&cobra.Command{
			Use: "ignore-term", Short: "Go on after SIGTERM, until SIGKILL", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				p.deaf = true
				return p.work(c.OutOrStdout())
			},
		},
	)
	return c
}

// A demoPod is a job in a pod.
type demoPod struct {
	pace  time.Duration
	steps uint64
	code  int
	deaf  bool // to SIGTERM

	place string // file of the last step done; empty: no volume
	step  uint64
}

// work goes on from the place that the volume holds, until SIGTERM or the last step.
func (p *demoPod) work(out io.Writer) error {
	term := make(chan os.Signal, 4)
	signal.Notify(term, syscall.SIGTERM, os.Interrupt)
	if err := p.open(); err != nil {
		return err
	}
	fmt.Fprintln(out, p.greeting())
	next := time.NewTicker(p.pace)
	defer next.Stop()
	for p.steps == 0 || p.step < p.steps {
		select {
		case <-term:
			if p.deaf {
				fmt.Fprintln(out, "SIGTERM: ignored")
				continue
			}
			fmt.Fprintf(out, "SIGTERM: stopping after step %d\n", p.step)
			return p.leave(out)
		case <-next.C:
			p.step++
			if err := p.save(); err != nil {
				return err
			}
			fmt.Fprintf(out, "step %d\n", p.step)
		}
	}
	return p.leave(out)
}

// open reads the place.
func (p *demoPod) open() error {
	dir := os.Getenv("SOUK_VOLUME")
	if dir == "" {
		return nil
	}
	p.place = filepath.Join(dir, "step")
	b, err := os.ReadFile(p.place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		p.step, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	}
	return err
}

func (p *demoPod) save() error {
	if p.place == "" {
		return nil
	}
	return os.WriteFile(p.place, []byte(strconv.FormatUint(p.step, 10)+"\n"), 0o644)
}

func (p *demoPod) greeting() string {
	gpus := os.Getenv("SOUK_GPU_COUNT")
	if gpus == "" {
		gpus = "0"
	}
	if os.Getenv("SOUK_SIMULATED") != "" {
		gpus += " simulated"
	}
	from := "from the beginning"
	if p.step > 0 {
		from = fmt.Sprintf("on from step %d, as the volume says", p.step)
	}
	return fmt.Sprintf("job with GPUs: %s; %s", gpus, from)
}

// leave ends the program with its code.
func (p *demoPod) leave(out io.Writer) error {
	if err := p.save(); err != nil {
		return err
	}
	if p.place != "" {
		fmt.Fprintf(out, "saved step %d to the volume\n", p.step)
	}
	if p.code != 0 {
		return exitCode(p.code)
	}
	return nil
}
