//go:build linux

package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"
	"time"
)

// childCommits makes a child commit for as long as its standard input is open, on a disk that may be full.
const childCommits = "SOUK_STORE_TEST_COMMITS"

func init() { endless = commitUntilTold }

// narrow are options for a disk of 64 MiB: enough is kept for what Badger may be writing in the background.
func narrow() Options {
	o := tiny()
	o.SegmentSize, o.MinFree = 1<<20, 20<<20
	return o
}

func commitUntilTold(dir string) error {
	s, err := Open(dir, narrow())
	if err != nil {
		return err
	}
	next, _, _ := s.Guarded([]byte("bank"))
	ctx, stop := context.WithCancel(context.Background())
	c := NewCommitter(s)
	ended := running(ctx, c)
	go func() { io.Copy(io.Discard, os.Stdin); stop() }()
	for n := next + 1; ctx.Err() == nil; n++ {
		done := make(chan error, 1)
		b := numbered(n)
		b.Rows[0].Value = make([]byte, 200)
		b.Done = func(err error) { done <- err }
		c.Submit(b)
		if <-done == nil {
			fmt.Println(n)
		}
	}
	err = errors.Join(<-ended, s.Close())
	if errors.Is(err, ErrDiskFull) {
		err = nil
	}
	return err
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for part := make([]byte, 256<<10); len(part) > 0; {
		if _, err := f.Write(part); err != nil {
			part = part[:len(part)/2]
		}
	}
}

// TestTortureFull fills the disk under a node, and frees it, again and again: it goes on each time, and loses nothing.
func TestTortureFull(t *testing.T) {
	needsRoot(t)
	disk, _ := mount(t, "-t", "tmpfs", "-o", "size=64m", "tmpfs")
	home, ballast := filepath.Join(disk, "home"), filepath.Join(disk, "ballast")
	var last uint64
	crashes, waits, cycles := 0, 0, rounds(3, 40)
	for cycle := 0; cycle < cycles; {
		cmd := osexec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childHome+"="+home, childCommits+"=1")
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acks := make(chan uint64, 1<<20)
		go func() {
			defer close(acks)
			for lines := bufio.NewScanner(out); lines.Scan(); {
				var n uint64
				fmt.Sscan(lines.Text(), &n)
				acks <- n
			}
		}()
		// await reads acknowledgements until there are so many more, or none has come for a while.
		await := func(more int, quiet time.Duration) (alive bool) {
			for idle := time.After(quiet); more > 0; more-- {
				select {
				case n, ok := <-acks:
					if !ok {
						return false
					}
					last = n
				case <-idle:
					return true
				}
			}
			return true
		}
		alive := await(200, time.Minute)
		for ; alive && cycle < cycles; cycle++ {
			fill(t, ballast)
			before := last
			alive = await(1<<20, 300*time.Millisecond) // until it is silent
			os.Remove(ballast)
			if alive {
				alive = await(100, 20*time.Second)
				if waits++; alive && last < before+100 {
					t.Errorf("it did not go on when there was room again: %d, then %d", before, last)
				}
			}
		}
		if !alive {
			crashes++
			if crashes > cycles {
				t.Fatal("it crashes again and again")
			}
		}
		if cycle >= cycles { // and dies on a full disk
			fill(t, ballast)
			cmd.Process.Kill()
		}
		in.Close()
		for n := range acks {
			last = n
		}
		cmd.Wait()
		if cycle < cycles {
			os.Remove(ballast)
		}
	}
	if _, err := Open(home, narrow()); !errors.Is(err, ErrDiskFull) {
		t.Errorf("opening on the full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s, err := Open(home, narrow())
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	top, _, _ := s.Guarded([]byte("bank"))
	if top < last {
		t.Errorf("%d was acknowledged, guarded up to %d", last, top)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	t.Logf("full: a disk of 64 MiB filled %d times under a node, %d batches acknowledged, 0 lost, %d crashes", waits, last, crashes)
}
