// Package exec runs pods: it carries out, on this machine, what the node's core wants, and reports what happens.
//
// A Runtime is where pods run. Docker is the one for markets; Process runs plain processes out of unpacked images, for
// development and for testnet markets on machines without Docker. Both pass the suite in exectest. A Supervisor has one
// worker for each lease; it asks the runtime what there is (inspect), asks package plan what to do about it, does it, and
// tells the core in Events. An event of the engine is only a hint to look again.
//
// One run of a pod: pull the image (with progress), create the container, start it, wait, end. It ends by itself, or by
// SIGTERM and, when the grace is over, SIGKILL. The ended container stays, for its logs, until the lease's next start or
// its removal.
//
// Promises:
//
//	X1 What an Event says about a container (identity, times, exit code) is what inspect says, so it is the same before
//	   and after a restart of the node.
//	X2 A pod outlives the node: nothing is stopped because a node ends, or starts with an older run in mind than the engine's.
//	X3 After Sync, containers of this home whose lease nobody knows are stopped, with their own grace, and removed; within
//	   auditEvery also those that appear later. Their volumes stay, and the log says which they are and how to remove them:
//	   state that is older than the engine's, or lost, costs nobody data.
//	X4 Events of one lease come in order, from one goroutine; each start and each end of a container is reported once by
//	   each Supervisor.
//	X5 Every call to an engine or a registry has a deadline, and an engine that is away fails no pod: the work goes on
//	   when it is back.
//	X6 With Docker each pod is alone on a network of its lease, behind the firewall of package fence: where that is not in
//	   place nothing is started.
package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"souk/exec/plan"
)

// A Runtime is what pods run on. All methods may be called at once. Errors that the user or the market should hear about
// are Faults; any other error means that the engine failed in a way it did not explain.
type Runtime interface {
	// Name is docker or process.
	Name() string
	// Ping answers nil while the engine works.
	Ping(ctx context.Context) error
	// Policy is what this engine needs to be said in configurations.
	Policy(ctx context.Context) (plan.Policy, error)
	// List inspects the objects of home: those of one lease, or all if lease is empty.
	List(ctx context.Context, home, lease string) ([]plan.Have, error)
	// Pull makes the image present, and calls progress from time to time and at the end.
	Pull(ctx context.Context, ref string, progress func(Progress)) error
	// Create makes the container, and its volume and network where they do not exist, and returns the container's id.
	Create(ctx context.Context, c plan.Config) (id string, err error)
	// Start starts a created container. An error means that it does not run.
	Start(ctx context.Context, id string) error
	// Signal sends SIGTERM or, with kill, ends every process of the container. What does not run is no error.
	Signal(ctx context.Context, id string, kill bool) error
	// Remove removes a container, by force, or a volume or network. What does not exist is no error.
	Remove(ctx context.Context, h plan.Have) error
	// Logs copies a container's output and returns at its end; with Follow, at the end of the container.
	Logs(ctx context.Context, id string, o LogOptions, stdout, stderr io.Writer) error
	// Watch calls changed with the lease of a container of home that changed, until ctx ends or the engine goes away;
	// ready is called once nothing can be missed any more.
	Watch(ctx context.Context, home string, ready func(), changed func(lease string)) error
}

// LogOptions choose a part of a run's output.
type LogOptions struct {
	Follow bool
	Tail   int // last lines; 0 or less: all
}

// A Progress is how far a pull is. Total is 0 as long as it is unknown.
type Progress struct {
	Done, Total int64 // bytes
	Layers      []Layer
}

// A Layer is one part of an image that is being pulled.
type Layer struct {
	ID          string // first 12 hex digits of its digest
	Done, Total int64  // bytes
}

// A Code says of what kind a Fault is. The market's rules and the user's hints hang on it.
type Code string

// The codes.
const (
	CodeBadPod         Code = "bad-pod"              // the lease says something that cannot be run
	CodeImageNotFound  Code = "image-not-found"      //
	CodeImageDenied    Code = "image-denied"         //
	CodeBadImage       Code = "bad-image"            // its content cannot be unpacked
	CodeRegistry       Code = "registry-unreachable" //
	CodeBadCommand     Code = "bad-command"          // not found, not executable, or none given
	CodeDisk           Code = "disk-full"            //
	CodeGPU            Code = "gpu"                  // the engine cannot give the GPUs
	CodeFence          Code = "firewall"             // pods cannot be fenced off now; never a pod's fault
	CodeEngine         Code = "engine"               // the engine refused without a reason we know
	CodeEngineDown     Code = "engine-down"          // the engine does not answer; never a pod's fault
	CodeNotImplemented Code = "not-implemented"      // not on this system
)

// A Fault is why something could not be done for a pod.
type Fault struct {
	Code   Code
	Reason string // for the user
	Err    error  // what lies below, may be nil
}

func (f *Fault) Error() string {
	if f.Err == nil {
		return fmt.Sprintf("exec: %s: %s", f.Code, f.Reason)
	}
	return fmt.Sprintf("exec: %s: %s: %v", f.Code, f.Reason, f.Err)
}

// foreignVolume is a volume that has the name of a lease's and is not that lease's.
func foreignVolume(name string) *Fault {
	return &Fault{Code: CodeEngine, Reason: "a volume " + name + " exists already, and is not this lease's"}
}

// Unwrap gives what lies below.
func (f *Fault) Unwrap() error { return f.Err }

// faultOf is the Fault in err; without one the engine is to blame.
func faultOf(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &Fault{Code: CodeEngineDown, Reason: "the engine did not answer in time", Err: err}
	}
	return &Fault{Code: CodeEngine, Reason: "the engine failed", Err: err}
}

// Deadlines of calls to an engine.
const (
	callTimeout   = 15 * time.Second // inspect, signal, ping: an idle engine answers in milliseconds, a pulling one in seconds
	createTimeout = 2 * time.Minute  // copies the image's files on some storage drivers
	startTimeout  = 2 * time.Minute  // set-up of many GPUs takes tens of seconds
	removeTimeout = 5 * time.Minute  // a large container disk is deleted file by file
	pullTimeout   = 4 * time.Hour    // 100 GB at 7 MB/s
	stallTimeout  = 5 * time.Minute  // a pull without any progress
)

// ErrNoRun says that there is no container of this lease and start.
var ErrNoRun = errors.New("exec: no such run")
