// Command testpod is the program inside the pods of package exectest: each verb shows one way in which a pod can behave.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Println("testpod: verb expected")
		os.Exit(2)
	}
	verb, args := os.Args[1], os.Args[2:]
	switch verb {
	case "echo": // OUT ERR: one line on each stream
		fmt.Println(args[0])
		fmt.Fprintln(os.Stderr, args[1])
	case "exit": // CODE
		code, err := strconv.Atoi(args[0])
		check(err)
		os.Exit(code)
	case "env":
		for _, e := range os.Environ() {
			fmt.Println(e)
		}
	case "lines": // N lines, then wait for SIGTERM
		n, err := strconv.Atoi(args[0])
		check(err)
		out := bufio.NewWriter(os.Stdout)
		for i := range n {
			fmt.Fprintln(out, "line", i+1)
		}
		out.Flush()
		wait(0)
	case "trap": // CODE [FILE…]: end well on SIGTERM, and add a line to each file then
		code, err := strconv.Atoi(args[0])
		check(err)
		wait(code, args[1:]...)
	case "ignore": // SIGTERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		for {
			time.Sleep(time.Hour)
		}
	case "count": // FILE…: add a line to each file, print how many it has now, wait for SIGTERM
		for _, f := range args {
			fmt.Println(f, count(os.ExpandEnv(f)))
		}
		wait(0)
	case "orphan": // start a process in a session of its own, and end
		self, err := os.Executable()
		check(err)
		c := exec.Command(self, "ignore")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		c.Stdout = os.Stdout
		check(c.Start())
		fmt.Println("child", c.Process.Pid)
	default:
		fmt.Println("testpod: no verb", verb)
		os.Exit(2)
	}
}

func wait(code int, files ...string) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	fmt.Println("ready")
	<-c
	fmt.Println("got SIGTERM")
	for _, f := range files {
		count(os.ExpandEnv(f))
	}
	os.Exit(code)
}

func count(name string) int {
	check(os.MkdirAll(filepath.Dir(name), 0o755))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	check(err)
	_, err = f.WriteString("line\n")
	check(err)
	check(f.Close())
	b, err := os.ReadFile(name)
	check(err)
	n := 0
	for _, c := range b {
		if c == '\n' {
			n++
		}
	}
	return n
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "testpod:", err)
		os.Exit(3)
	}
}
