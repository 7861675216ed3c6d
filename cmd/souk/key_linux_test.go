package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal and gives its two ends.
func terminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { user.Close() })
	fd := int(user.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	return user, program // a read of program may go on: it is not closed
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO != 0
}

// prompts tells when a prompt was written, which is before the terminal stops to echo.
type prompts chan string

func (p prompts) Write(b []byte) (int, error) {
	p <- string(b)
	return len(b), nil
}

func TestInterruptEndsThePassphrasePrompt(t *testing.T) {
	user, program := terminal(t)
	stopped := make(chan struct{})
	said := make(prompts, 8)
	e := &env{in: program, err: said, asks: true, stopped: stopped}
	done := make(chan error, 1)
	go func() {
		_, err := e.secret("passphrase: ")
		done <- err
	}()
	<-said
	for echoes(t, program) { // until it reads
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
	close(stopped)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want %v", err, context.Canceled)
	}
	if !echoes(t, program) {
		t.Errorf("the terminal does not echo any more")
	}
	io.WriteString(user, "x\n") // the read that is left ends
}
