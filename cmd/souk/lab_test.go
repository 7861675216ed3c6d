package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"souk/node/config"
)

// program is the built command: that of SOUK_BIN, or one built now.
func program(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("SOUK_BIN"); bin != "" {
		return bin
	}
	bin := filepath.Join(t.TempDir(), "souk")
	if out, err := osexec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return bin
}

// A lab is nodes of one market, real processes, each with its home below one folder.
type lab struct {
	bin, dir string
	operator string
}

func (l *lab) home(node string) string { return filepath.Join(l.dir, node) }

// souk runs a command that must not fail, and gives its standard output.
func (l *lab) souk(node string, args ...string) (string, error) {
	c := osexec.Command(l.bin, append([]string{"--home", l.home(node)}, args...)...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: souk %s: %w\n%s%s", node, strings.Join(args, " "), err, &out, &errs)
	}
	return out.String(), nil
}

// value runs a command and decodes its JSON.
func (l *lab) value(into any, node string, args ...string) error {
	out, err := l.souk(node, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

// each runs commands on a node until one fails.
func (l *lab) each(node string, calls ...[]string) error {
	for _, args := range calls {
		if _, err := l.souk(node, args...); err != nil {
			return err
		}
	}
	return nil
}

// loopback keeps a node to this machine.
var loopback = []string{"--no-passphrase", "--listen", "local"}

// found makes the market's operator, and starts it.
func (l *lab) found(operator, slot string, policy ...string) error {
	l.operator = operator
	args := append([]string{"init", "--role", "operator", "--market", "test", "--testnet", "--slot", slot, "--alias", operator}, loopback...)
	return l.each(operator, append(args, policy...),
		[]string{"up", "-d"})
}

// host lets a host in, with simulated GPUs on sale.
func (l *lab) host(node, gpus, price, floor, runtime string) error {
	if err := l.join(node, "host", "--simulated-gpus", gpus, "--runtime", runtime, "--allow-private-registries"); err != nil {
		return err
	}
	addr, err := l.souk(node, "id", "show", "-q")
	if err != nil {
		return err
	}
	if _, err := l.souk(l.operator, "operator", "approve", strings.TrimSpace(addr), "--tier", "community"); err != nil {
		return err
	}
	return l.each(node, []string{"status", "--wait", "approved"}, []string{"host", "advertise", "--price", price, "--min-bid", floor})
}

// consumer lets a consumer in, with money.
func (l *lab) consumer(node, deposit string) error {
	if err := l.join(node, "consumer"); err != nil {
		return err
	}
	addr, err := l.souk(node, "id", "show", "-q")
	if err != nil || deposit == "0" {
		return err
	}
	_, err = l.souk(l.operator, "operator", "deposit", strings.TrimSpace(addr), deposit, "--ref", "deposit-"+node)
	return err
}

func (l *lab) join(node, role string, more ...string) error {
	var invite struct {
		Code string `json:"code"`
	}
	if err := l.value(&invite, l.operator, "operator", "invite", "create", "--role", role); err != nil {
		return err
	}
	args := append([]string{"join", invite.Code, "-y", "--alias", node}, more...)
	return l.each(node, append(args, loopback...), []string{"up", "-d"})
}

// kill ends a node with SIGKILL and waits until it is gone. No node is no error.
func kill(home string) error {
	cfg, err := config.Load(home)
	if errors.Is(err, config.ErrNoHome) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := cfg.PID()
	if err != nil || pid == 0 {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		return err
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
