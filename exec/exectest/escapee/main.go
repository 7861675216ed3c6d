//go:build linux

// Command escapee is the program inside the pods of the escape suite. It tries what a hostile pod tries, and what an honest one
// has to be able to do, and says what came of it, a line for each: ok or no, the name, and how it went. All that it tries is
// harmless where it gets through, so that a container with all privileges can show that each attempt is one.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	verb, args := "", os.Args[1:]
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case "escape": // try everything, each in a process of its own
		for _, a := range attempts {
			report(a.name, "try", a.name)
		}
	case "try": // NAME: one attempt
		i := slices.IndexFunc(attempts, func(a attempt) bool { return a.name == args[0] })
		runtime.LockOSThread()
		result(attempts[i].do())
	case "work": // do what pods do
		for _, w := range works {
			report(w.name, "do", w.name)
		}
	case "do": // NAME: one of these
		i := slices.IndexFunc(works, func(a attempt) bool { return a.name == args[0] })
		result(works[i].do())
	case "whoami": // for the attempt with a program that is set-uid
		fmt.Print(os.Geteuid())
	case "inside": // is this working folder inside the pod's own tree?
		inside()
	case "env":
		for _, e := range os.Environ() {
			fmt.Println(e)
		}
	case "reach": // NET:ADDR…: which of these answer
		reach(args)
	case "listen": // NET:ADDR…: answer, until SIGTERM
		listen(args)
	case "get": // ADDR SECONDS: take what comes, and say how many bytes it was
		get(args[0], args[1])
	default:
		fmt.Println("escapee: no verb", verb)
		os.Exit(2)
	}
}

// wait waits for SIGTERM.
func wait() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	fmt.Println("ready")
	<-c
}

// An attempt is one thing to be tried: nil is that it worked.
type attempt struct {
	name string
	do   func() error
}

// report runs a part in a process of its own, so that what it changes of its process does not last.
func report(name string, args ...string) {
	out, err := child(20*time.Second, nil, args...)
	word, text, _ := strings.Cut(strings.TrimSpace(out), " ")
	if word != "ok" && word != "no" {
		word, text = "no", fmt.Sprintf("%v: %q", err, out) // killed by the filter
	}
	fmt.Printf("%s %s: %s\n", word, name, strings.ReplaceAll(text, "\n", " "))
}

func result(err error) {
	if err != nil {
		fmt.Println("no", err)
		return
	}
	fmt.Println("ok done")
}
