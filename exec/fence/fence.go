// Package fence is the firewall around pods: one table of nftables for each home, which knows the home's pods by the names of
// their bridges.
//
// A pod reaches the public internet, and nothing of the machine that it is on: not the host itself, not the networks that the
// host is on, no other pod, no metadata of a cloud, no mail server's port 25, nothing over IPv6. Rules says how.
//
// The order of things: Load puts the table in place, and has to succeed before a pod is started. Run keeps it there: the kernel
// says when anybody changes rules, and a table that is not as it was loaded is loaded again, within milliseconds. Where that fails
// the fence is down: Err says why, no pod is started, and the home's bridges are switched off until it is up again. The
// table outlives the node, as the pods do; Remove takes it away.
//
// Promise E3: a pod reaches neither the host, its LAN, other pods nor the cloud's metadata address, whatever the rules of
// the engine and of others are. What is left: the moment between somebody's deleting the table and its return, and as long as
// nobody runs the node.
package fence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	osexec "os/exec"
	"strings"
	"sync"
	"time"
)

// Options are what a fence keeps.
type Options struct {
	Home   string // identity of the node
	Prefix string // how the names of its pods' bridges begin
	Closed bool   // pods reach nothing at all
	Mbit   int    // what each pod may send, and get, a second, in megabits; 0: no limit
	Nft    string // the program; empty: where it usually is
	Log    *slog.Logger
}

// The fence's clockwork.
const (
	checkEvery = 30 * time.Second      // in case the kernel's word was lost, and for addresses of the host that changed
	retryEvery = 2 * time.Second       // while it is down
	nftTimeout = 10 * time.Second      // it takes milliseconds
	settle     = 20 * time.Millisecond // a burst of changes is looked at once
	loadTries  = 3                     // somebody else's set-up of rules is over by then, or it is looked at again
)

// A Fence is the table of one home. mu guards what is known of it; act is held by whoever changes it.
type Fence struct {
	o   Options
	act sync.Mutex

	mu     sync.Mutex
	rules  string // that were loaded last
	listed string // as the kernel gave them back then; empty: never loaded
	err    error  // why it is down; nil with an empty listed: nobody has tried
}

// ErrNotLoaded says that nobody has tried to load the table yet.
var ErrNotLoaded = errors.New("fence: not loaded yet")

// New does not touch the kernel yet.
func New(o Options) *Fence {
	if o.Home == "" || o.Prefix == "" {
		panic("fence: no home or no prefix")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Fence{o: o}
}

// Table is the name of a home's table: souk_, and 8 hex digits of the home's SHA-256.
func Table(home string) string {
	sum := sha256.Sum256([]byte(home))
	return "souk_" + hex.EncodeToString(sum[:4])
}

// Err is nil while the table is known to be in place.
func (f *Fence) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && f.listed == "" {
		return ErrNotLoaded
	}
	return f.err
}

// Load puts the table in place, unless it is there as it should be.
func (f *Fence) Load(ctx context.Context) error {
	f.act.Lock()
	defer f.act.Unlock()
	err := f.keep(ctx)
	if ctx.Err() == nil || err == nil {
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
	}
	return err
}

// keep loads what should be there, if that is not what is.
func (f *Fence) keep(ctx context.Context) error {
	rules := f.o.Rules(near())
	f.mu.Lock()
	same, listed := rules == f.rules, f.listed
	f.mu.Unlock()
	if same && listed != "" {
		if now, err := f.list(ctx); err == nil && now == listed {
			return nil
		}
	}
	now, err := "", errChanging
	for try := 0; errors.Is(err, errChanging) && try < loadTries; try++ {
		now, err = f.load(ctx, rules)
	}
	if err != nil {
		return err
	}
	if listed != "" && same {
		f.o.Log.Warn("somebody changed the firewall of pods: it was loaded again", "table", Table(f.o.Home))
	}
	f.mu.Lock()
	f.rules, f.listed = rules, now
	f.mu.Unlock()
	return nil
}

// errChanging says that somebody changed the table as soon as it was loaded.
var errChanging = errors.New("fence: the table does not stay as it was loaded")

// load puts the table in place, and gives it as the kernel does. That has to have as many rules: else somebody was at it in
// between, and what he left would be taken for what has to be there.
func (f *Fence) load(ctx context.Context, rules string) (string, error) {
	if _, err := f.nft(ctx, rules, "-f", "-"); err != nil {
		return "", err
	}
	now, err := f.list(ctx)
	if err != nil || count(now) != count(rules) || strings.Contains(now, "dormant") {
		return "", errors.Join(errChanging, err)
	}
	return now, nil
}

// count is how many lines the chains of a table have.
func count(table string) (n int) {
	inside := false
	for line := range strings.Lines(table) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "chain "):
			inside = true
		case line == "}":
			inside = false
		case inside:
			n++
		}
	}
	return n
}

// list is the table as the kernel has it, without what changes by itself.
func (f *Fence) list(ctx context.Context) (string, error) {
	return f.nft(ctx, "", "-s", "-t", "list", "table", "inet", Table(f.o.Home))
}

// Remove takes the table away: no pod of the home may be left.
func (f *Fence) Remove(ctx context.Context) error {
	f.act.Lock()
	defer f.act.Unlock()
	name := Table(f.o.Home)
	_, err := f.nft(ctx, "add table inet "+name+"\ndelete table inet "+name+"\n", "-f", "-")
	f.mu.Lock()
	f.rules, f.listed, f.err = "", "", nil
	f.mu.Unlock()
	return err
}

// Run keeps the table in place until ctx ends, and calls changed when it goes down or comes up.
func (f *Fence) Run(ctx context.Context, changed func()) {
	news := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() { watch(ctx, news) })
	defer wg.Wait()
	tick := time.NewTimer(checkEvery)
	defer tick.Stop()
	for up, first := false, true; ; first = false {
		was := up
		err := f.Load(ctx)
		if ctx.Err() != nil {
			return
		}
		up = err == nil
		switch {
		case !up:
			if was || first {
				f.o.Log.Error("the firewall of pods cannot be loaded: no pod starts, and those that run are cut off", "err", err)
			}
			f.links(false)
		case !was:
			if !first {
				f.o.Log.Warn("the firewall of pods is in place again")
			}
			f.links(true) // also those that a node left off which ended meanwhile
		}
		if up != was || first {
			changed()
		}
		tick.Reset(map[bool]time.Duration{true: checkEvery, false: retryEvery}[up])
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-news:
			t := time.NewTimer(settle)
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}
}

// links switches the bridges of the home's pods on or off.
func (f *Fence) links(on bool) {
	all, err := net.Interfaces()
	if err != nil {
		f.o.Log.Error("bridges of pods", "err", err)
		return
	}
	for _, i := range all {
		if strings.HasPrefix(i.Name, f.o.Prefix) && (i.Flags&net.FlagUp != 0) != on {
			if err := setLink(i.Name, on); err != nil {
				f.o.Log.Error("bridge of a pod", "bridge", i.Name, "on", on, "err", err)
			}
		}
	}
}

// near are the networks that this machine is on, by the addresses that it has.
func near() []netip.Prefix {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the ranges that every LAN should be in are forbidden anyway
	}
	var list []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// places are where nft is looked for: the system's folders are not in everybody's PATH.
var places = []string{"nft", "/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft"}

// ErrNoNft says that there is no nft on this machine.
var ErrNoNft = errors.New("fence: there is no nft command: apt-get install nftables")

// nft runs the program.
func (f *Fence) nft(ctx context.Context, input string, args ...string) (string, error) {
	path := f.o.Nft
	for _, p := range places {
		if path != "" {
			break
		}
		path, _ = osexec.LookPath(p)
	}
	if path == "" {
		return "", ErrNoNft
	}
	ctx, cancel := context.WithTimeout(ctx, nftTimeout)
	defer cancel()
	var out, said bytes.Buffer
	c := osexec.CommandContext(ctx, path, args...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(input), &out, &said
	c.Env = append(os.Environ(), "LC_ALL=C")
	if err := c.Run(); err != nil {
		text, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		if os.Geteuid() != 0 && strings.Contains(text, "not permitted") {
			text += " (the node has to run as root, or with CAP_NET_ADMIN)"
		}
		return "", fmt.Errorf("fence: nft %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return out.String(), nil
}
