package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"souk/node/api"
	"souk/node/config"
	"souk/node/core/step"
)

// version is set by the build.
var version = ""

// buildVersion is what this program calls itself.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "dev-" + s.Value[:12]
		}
	}
	return "dev"
}

// An env is the world around one call of the program, and the flags that every command has.
type env struct {
	in       io.Reader
	out, err io.Writer
	asks     bool // there is somebody to ask: standard input is a terminal
	fancy    bool // standard output is a terminal
	draws    bool // standard error is a terminal
	width    int  // of the terminal; 0: no limit
	now      func() time.Time

	home    string
	output  string
	quiet   bool
	started bool            // a command was found and its arguments are right
	verb    string          // of the command, for errors: "operator invite create"
	stopped <-chan struct{} // closed when the user interrupts: for what waits at the terminal
	lines   *bufio.Reader
}

func newEnv() *env {
	e := &env{in: os.Stdin, out: os.Stdout, err: os.Stderr, now: time.Now}
	e.asks = term.IsTerminal(int(os.Stdin.Fd()))
	e.fancy = term.IsTerminal(int(os.Stdout.Fd()))
	e.draws = term.IsTerminal(int(os.Stderr.Fd()))
	if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && e.fancy {
		e.width = w
	}
	return e
}

// note tells the user something that is no data.
func (e *env) note(format string, args ...any) { fmt.Fprintf(e.err, format+"\n", args...) }

// homeDir is the node's home.
func (e *env) homeDir() (string, error) { return config.Home(e.home) }

// load reads the settings of the home.
func (e *env) load() (config.Config, error) {
	home, err := e.homeDir()
	if err != nil {
		return config.Config{}, err
	}
	return config.Load(home)
}

// node is a client of the node that is up.
func (e *env) node() (*api.Client, error) {
	cfg, err := e.load()
	if err != nil {
		return nil, err
	}
	return api.NewClient(cfg.Socket()), nil
}

// line reads an answer of the user.
func (e *env) line() (string, error) {
	if e.lines == nil {
		e.lines = bufio.NewReader(e.in)
	}
	s, err := e.lines.ReadString('\n')
	if err != nil && s == "" {
		return "", errors.New("no answer")
	}
	return strings.TrimSpace(s), nil
}

// agree asks a question. Where nobody can be asked it is an error that says how to agree beforehand.
func (e *env) agree(ctx context.Context, yes bool, question string) error {
	if yes {
		return nil
	}
	if !e.asks {
		return step.Fail(step.ProblemUsage, "say -y to agree without being asked", "this wants an answer, and there is no terminal to ask on")
	}
	fmt.Fprintf(e.err, "%s [y/N] ", question)
	s, err := e.answer(ctx)
	if err != nil && ctx.Err() != nil {
		return err
	}
	if s = strings.ToLower(s); s == "y" || s == "yes" {
		return nil
	}
	return step.Fail(step.ProblemOther, "", "not agreed; nothing was done")
}

// answer reads a line, and gives up when ctx ends.
func (e *env) answer(ctx context.Context) (string, error) {
	type reply struct {
		line string
		err  error
	}
	got := make(chan reply, 1)
	go func() {
		s, err := e.line()
		got <- reply{s, err}
	}()
	select {
	case r := <-got:
		return r.line, r.err
	case <-ctx.Done():
		fmt.Fprintln(e.err)
		return "", ctx.Err()
	}
}

// action is the body of a command.
type action func(ctx context.Context, args []string) error

// does makes a command's body.
func does(a action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error { return a(cmd.Context(), args) }
}

// asking makes the body of a command that talks to the node.
func (e *env) asking(a func(ctx context.Context, c *api.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := e.node()
		if err != nil {
			return err
		}
		defer c.Close()
		return a(cmd.Context(), c, args)
	}
}
