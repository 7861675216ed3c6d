//go:build linux

package fence_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"souk/exec/fence"
	"souk/exec/fence/alone"
)

// soon waits for what the kernel does on its own.
func soon(t *testing.T, what string, ok func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > 8*time.Second { // less than the fence takes when it hears nothing
			t.Fatalf("%s: not within %s", what, time.Since(begun))
		}
		<-time.After(2 * time.Millisecond)
	}
	return time.Since(begun)
}

func there(t *testing.T) bool {
	return strings.Contains(alone.Run(t, "nft", "list", "tables"), "table inet "+fence.Table("home"))
}

func up(name string) bool {
	i, err := net.InterfaceByName(name)
	return err == nil && i.Flags&net.FlagUp != 0
}

// A table that is changed, in whatever way, is soon as it was; when it cannot be, the bridges of pods go off until it can.
func TestFenceKeepsItsTable(t *testing.T) {
	if !alone.Here(t) {
		return
	}
	alone.IP(t, "link", "add", "soukabc12345678", "up", "type", "bridge")
	alone.IP(t, "link", "add", "other", "up", "type", "bridge")
	nft := filepath.Join(t.TempDir(), "nft")
	real := strings.TrimSpace(alone.Run(t, "sh", "-c", "PATH=$PATH:/usr/sbin:/sbin command -v nft"))
	link := func(to string) {
		if err := os.Symlink(to, nft+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(nft+".new", nft); err != nil {
			t.Fatal(err)
		}
	}
	link(real)
	f := fence.New(fence.Options{Home: "home", Prefix: "soukabc", Nft: nft, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if !errors.Is(f.Err(), fence.ErrNotLoaded) {
		t.Fatalf("before it is loaded: %v", f.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan bool, 16)
	ended := make(chan struct{})
	go func() { defer close(ended); f.Run(ctx, func() { changes <- f.Err() == nil }) }()
	if !<-changes || !there(t) {
		t.Fatalf("it was not loaded: %v", f.Err())
	}
	whole := alone.Run(t, "nft", "-s", "-t", "list", "ruleset")

	slowest, harms := time.Duration(0), 0
	for i, harm := range []string{
		"flush ruleset", "delete table inet TABLE", "flush table inet TABLE", "flush chain inet TABLE in", "insert rule inet TABLE pod accept",
		"add table inet TABLE { flags dormant; }",
	} {
		alone.Run(t, "nft", strings.ReplaceAll(harm, "TABLE", fence.Table("home")))
		took := soon(t, harm, func() bool { return alone.Run(t, "nft", "-s", "-t", "list", "ruleset") == whole })
		slowest = max(slowest, took)
		harms = i + 1
		if err := f.Load(ctx); err != nil { // waits for Run to be done with it
			t.Fatalf("after %q: %v", harm, err)
		}
	}
	fmt.Printf("fence: changed in %d ways, each time back within %s\n", harms, slowest.Round(time.Millisecond))
	alone.Run(t, "nft", "add table ip another")
	alone.Run(t, "nft", "delete table ip another")
	if f.Err() != nil || !up("soukabc12345678") {
		t.Fatalf("another's table: %v, bridge up %v", f.Err(), up("soukabc12345678"))
	}

	link("/bin/false")
	alone.Run(t, "nft", "flush ruleset")
	if <-changes || f.Err() == nil {
		t.Fatal("it says it is up, and cannot be")
	}
	soon(t, "bridge off", func() bool { return !up("soukabc12345678") })
	if !up("other") {
		t.Fatal("an interface that is no pod's was switched off")
	}
	link(real)
	alone.Run(t, "nft", "add table ip another") // so that it looks again at once
	if !<-changes || !there(t) {
		t.Fatalf("it is not back: %v", f.Err())
	}
	soon(t, "bridge on", func() bool { return up("soukabc12345678") })

	// The host moves into another network: its neighbours there are forbidden too.
	alone.IP(t, "addr", "add", "203.0.113.7/24", "dev", "other")
	if err := f.Load(ctx); err != nil || !strings.Contains(alone.Run(t, "nft", "list", "table", "inet", fence.Table("home")), "203.0.113.0/24") {
		t.Fatalf("after the host's address changed: %v", err)
	}
	cancel()
	<-ended
	if !there(t) {
		t.Fatal("the table went with the node, and pods stay")
	}
	if err := f.Remove(t.Context()); err != nil || there(t) {
		t.Fatalf("removed: %v, there %v", err, there(t))
	}
	if !errors.Is(f.Err(), fence.ErrNotLoaded) {
		t.Fatalf("after its removal: %v", f.Err())
	}
}

func TestFenceSaysWhatIsMissing(t *testing.T) {
	f := fence.New(fence.Options{Home: "home", Prefix: "soukabc", Nft: "/no/such/nft"})
	if err := f.Load(t.Context()); err == nil || !errors.Is(err, os.ErrNotExist) || f.Err() == nil {
		t.Fatalf("without nft: %v, and then %v", err, f.Err())
	}
}
