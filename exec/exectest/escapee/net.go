//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const patience = 1500 * time.Millisecond

// reach tries every target at once. A refusal is an answer: somebody was reached.
func reach(targets []string) {
	answers := make([]error, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		all.Go(func() { answers[i] = touch(t) })
	}
	all.Wait()
	for i, t := range targets {
		word := "ok"
		if answers[i] != nil {
			word = "no"
		}
		fmt.Printf("%s %s: %v\n", word, t, answers[i])
	}
}

func touch(target string) error {
	network, addr, _ := strings.Cut(target, ":")
	if network == "name" {
		_, err := net.LookupHost(addr)
		return err
	}
	c, err := net.DialTimeout(network, addr, patience)
	if err == nil && network == "udp" {
		c.SetDeadline(time.Now().Add(patience))
		if _, err = c.Write([]byte("hello, anybody?")); err == nil {
			_, err = c.Read(make([]byte, 64))
		}
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		err = nil
	}
	return err
}

// listen answers at each address: TCP takes and closes, UDP echoes, dns answers every name with 8.8.8.8, flood sends until the
// other end has had enough.
func listen(targets []string) {
	for _, t := range targets {
		network, addr, _ := strings.Cut(t, ":")
		switch network {
		case "udp", "dns":
			c, err := net.ListenPacket("udp", addr)
			check(err)
			go echo(c, network == "dns")
		default:
			l, err := net.Listen("tcp", addr)
			check(err)
			go take(l, network == "flood")
		}
	}
	wait()
}

func echo(c net.PacketConn, dns bool) {
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		out := append([]byte(nil), b[:n]...)
		if dns && n > 16 {
			out[2], out[3] = 0x81, 0x80 // a response without error
			out[10], out[11] = 0, 0     // without what EDNS added behind the question
			end := 12
			for end < n && out[end] != 0 {
				end += int(out[end]) + 1
			}
			end = min(end+5, n)
			if a := out[end-3] == 1; a { // type A
				out[7] = 1
				out = append(out[:end], 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 8, 8, 8, 8)
			} else {
				out = out[:end]
			}
		}
		c.WriteTo(out, from)
	}
}

func take(l net.Listener, flood bool) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b := make([]byte, 64<<10)
			for flood {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}()
	}
}

func get(addr, seconds string) {
	n, err := strconv.Atoi(seconds)
	check(err)
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	check(err)
	c.SetDeadline(time.Now().Add(time.Duration(n) * time.Second))
	got, _ := io.Copy(io.Discard, c)
	fmt.Println("got", got)
}

func check(err error) {
	if err != nil {
		fmt.Println("escapee:", err)
		os.Exit(3)
	}
}
