// Command souk is the one program of a peer-to-peer market for GPU pods: a node, and the command line that its user talks to it with.
//
// 'souk up' is the node. Every other command is short-lived: it asks the node through the API on its unix socket, and
// decides nothing itself. The exceptions work without a node: 'init' and the first 'join' make one in their own process for
// as long as they need it, and 'bill verify' needs nothing but its file.
//
// What a command prints on its standard output is data, in the form that -o names; all else, progress, questions and
// errors, goes to the standard error. It ends with
//
//	0  done                4  conflict, stale quote   8   node or peer unreachable   12   image
//	1  failed otherwise    5  trust, permission       9   does not verify            13   bad command
//	2  usage               6  funds, limit            10  done in part               130  interrupted
//	3  not found           7  timed out               11  no offer fits
//
// except that 'run' and 'wait --for exit' end with the code of the pod's program.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal asks this program to end, a second one kills it
	e := newEnv()
	e.stopped = ctx.Done()
	code := run(ctx, e, os.Args[1:])
	stop()
	os.Exit(code)
}
