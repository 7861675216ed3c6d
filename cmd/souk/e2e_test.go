package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"souk/exec"
	"souk/exec/image"
	"souk/exec/plan"
	"souk/ledger"
	"souk/node/api"
	"souk/node/config"
	"souk/node/core/consumer"
)

// Whole sessions, through the built program, on real nodes and a real engine: each script of testdata/e2e founds a market
// of its own. A node is a home below the script's folder, of the node's name.
//
//	market OPERATOR HOST=GPUS[@PRICE/FLOOR]… CONSUMER[@DEPOSIT]…
//	                                                     found one (SLOT, 5s), let hosts and consumers in, put 25 credits
//	                                                     on each consumer's account
//	on NODE ARG…                                         souk ARG… there; ! on, if it has to fail
//	exits CODE NODE ARG…                                 the same, with that exit code
//	patiently NODE ARG…                                  souk ARG…, again when it says when to ask again
//	get VAR PATH NODE ARG…                               a value out of its JSON, as in 0.state
//	await NODE EVENT                                     until the node tells of the next such event
//	counted NODE POD N                                   until N minutes of the pod are counted and paid
//	killed NODE                                          end it with SIGKILL, and wait until it is gone
//	container VAR HOST CONSUMER POD                      the engine's id of the pod's container
//	proven NODE POD                                      its bill verifies, and with any of some bytes changed exits 9
//	books NODE DEPOSITS                                  the operator's accounts add up to it
//	same A B · least A N                                 compare texts, or numbers
func TestEndToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("real nodes in real time")
	}
	files, err := filepath.Glob("testdata/e2e/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	stage := newStage(t)
	// The scripts mostly wait for minutes to pass. More at once than cores are right, but not all: a start must not take
	// so long that it falls into another minute than the script says.
	places := make(chan struct{}, 5)
	var all sync.WaitGroup
	for _, f := range files {
		all.Add(1)
		go func() {
			defer all.Done()
			places <- struct{}{}
			defer func() { <-places }()
			testscript.RunT(serial{t}, testscript.Params{Files: []string{f}, Setup: stage.setup, Cmds: stage.commands()})
		}()
	}
	all.Wait()
}

// serial runs scripts when it is told to: the number at once is ours, not that of -parallel.
type serial struct{ *testing.T }

func (serial) Parallel()     {}
func (serial) Verbose() bool { return testing.Verbose() }

func (s serial) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(serial{t}) })
}

// patience bounds each wait of a script: two real minutes, and a busy machine.
const patience = 3 * time.Minute

// A stage is what all scripts share: the program, and an image of it in a registry.
type stage struct {
	bin    string
	image  string // reference, by tag
	hollow string // another, whose program is not there
	engine *exec.Docker
}

func newStage(t testing.TB) *stage {
	t.Helper()
	s := &stage{bin: program(t)}
	d, err := exec.NewDocker(exec.DockerOptions{})
	if err == nil {
		err = d.Ping(t.Context())
	}
	switch {
	case err == nil:
		s.engine = d
	case os.Getenv("SOUK_TEST_NO_DOCKER") != "1":
		t.Fatalf("%v (start an engine, or set SOUK_TEST_NO_DOCKER=1 to go without these tests)", err)
	default:
		t.Skip("SOUK_TEST_NO_DOCKER=1")
	}
	ctx, cancel := context.WithCancel(context.Background())
	reg, err := serveImageOf(ctx, s.bin)
	if err != nil {
		t.Fatal(err)
	}
	s.image = reg.Addr() + "/" + demoImage
	img, err := image.Build(image.Recipe{Binary: "/bin/true", Entrypoint: []string{"/no/such/program"}})
	if err != nil {
		t.Fatal(err)
	}
	s.hollow = reg.Addr() + "/hollow:1"
	if _, err := reg.Push(ctx, img, "hollow:1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.forget()
		cancel()
		reg.Wait()
		d.Close()
	})
	return s
}

// forget takes the image off the engine.
func (s *stage) forget() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	forgetImage(ctx, s.engine, s.image)
	forgetImage(ctx, s.engine, s.hollow)
}

func (s *stage) setup(env *testscript.Env) error {
	env.Setenv("IMAGE", s.image)
	env.Setenv("HOLLOW", s.hollow)
	env.Setenv("REGISTRY", strings.TrimSuffix(s.image, "/"+demoImage))
	env.Setenv("SLOT", "5s")
	for _, k := range []string{"DOCKER_HOST", "DOCKER_CONTEXT"} {
		env.Setenv(k, os.Getenv(k))
	}
	w := &world{stage: s, lab: lab{bin: s.bin, dir: env.WorkDir}, told: map[string]uint64{}}
	env.Values[worldKey{}] = w
	env.Defer(w.clear)
	return nil
}

func (s *stage) commands() map[string]func(*testscript.TestScript, bool, []string) {
	in := func(f func(w *world, ts *testscript.TestScript, args []string)) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("! means nothing here")
			}
			f(ts.Value(worldKey{}).(*world), ts, args)
		}
	}
	return map[string]func(*testscript.TestScript, bool, []string){
		"market": in((*world).market),
		"on": func(ts *testscript.TestScript, neg bool, args []string) {
			err := ts.Value(worldKey{}).(*world).on(ts, args[0], args[1:]...)
			if neg == (err == nil) {
				ts.Fatalf("on %s: %v", strings.Join(args, " "), err)
			}
		},
		"exits":      in((*world).exits),
		"eventually": in((*world).eventually),
		"patiently":  in((*world).patiently),
		"get":        in((*world).get),
		"await":      in((*world).await),
		"counted":    in((*world).counted),
		"killed":     in((*world).killed),
		"container":  in((*world).container),
		"proven":     in((*world).proven),
		"books":      in((*world).books),
		"same": func(ts *testscript.TestScript, neg bool, args []string) {
			if neg == (args[0] == args[1]) {
				ts.Fatalf("%q and %q", args[0], args[1])
			}
		},
		"least": in((*world).least),
	}
}

type worldKey struct{}

// A world is the nodes of one script.
type world struct {
	*stage
	lab
	told map[string]uint64 // by node and event: number of the last one awaited
}

func (w *world) on(ts *testscript.TestScript, node string, args ...string) error {
	return ts.Exec(w.stage.bin, append([]string{"--home", w.home(node)}, args...)...)
}

// must runs a command of the market's set-up.
func (w *world) must(ts *testscript.TestScript, node string, args ...string) {
	if err := w.on(ts, node, args...); err != nil {
		ts.Fatalf("souk %s: %v\n%s", strings.Join(args, " "), err, ts.ReadFile("stderr"))
	}
}

func (w *world) exits(ts *testscript.TestScript, args []string) {
	if code := w.code(ts, args); strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// eventually is exits for what takes a moment to be heard of.
func (w *world) eventually(ts *testscript.TestScript, args []string) {
	code := -1
	for range 20 {
		if code = w.code(ts, args); strconv.Itoa(code) == args[0] {
			return
		}
		pause(time.Second)
	}
	ts.Fatalf("exit code %d, want %s", code, args[0])
}

// code is with what a command ends.
func (w *world) code(ts *testscript.TestScript, args []string) int {
	err := w.on(ts, args[1], args[2:]...)
	if err == nil {
		return 0
	}
	var exit *osexec.ExitError
	if !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	return exit.ExitCode()
}

// market founds a market and lets everybody in.
func (w *world) market(ts *testscript.TestScript, args []string) {
	ts.Check(w.found(args[0], ts.Getenv("SLOT"), strings.Fields(ts.Getenv("POLICY"))...))
	offers := 0
	for _, member := range args[1:] {
		node, what, isHost := strings.Cut(member, "=")
		if !isHost {
			node, deposit, _ := strings.Cut(member, "@")
			ts.Check(w.consumer(node, cmp.Or(deposit, "25")))
			_, err := w.souk(node, "status", "--wait", fmt.Sprintf("offers=%d", offers))
			ts.Check(err)
			continue
		}
		gpus, prices, _ := strings.Cut(what, "@")
		price, floor, _ := strings.Cut(cmp.Or(prices, "0.36/0.12"), "/")
		ts.Check(w.host(node, gpus, price, floor, "docker"))
		offers++
	}
}

// later is how a host tells somebody to wait.
var later = regexp.MustCompile(`ask again in (\d+) s`)

func (w *world) patiently(ts *testscript.TestScript, args []string) {
	for err := w.on(ts, args[0], args[1:]...); err != nil; err = w.on(ts, args[0], args[1:]...) {
		found := later.FindStringSubmatch(ts.ReadFile("stderr"))
		if found == nil {
			ts.Fatalf("%s: %v", strings.Join(args, " "), err)
		}
		seconds, err := strconv.Atoi(found[1])
		ts.Check(err)
		pause(time.Duration(seconds) * time.Second)
	}
}

func (w *world) client(ts *testscript.TestScript, node string) *api.Client {
	cfg, err := config.Load(w.home(node))
	ts.Check(err)
	return api.NewClient(cfg.Socket())
}

func (w *world) get(ts *testscript.TestScript, args []string) {
	w.must(ts, args[2], append(slices.Clone(args[3:]), "-o", "json")...)
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	d.UseNumber()
	var v any
	ts.Check(d.Decode(&v))
	for part := range strings.SplitSeq(args[1], ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(at) {
				ts.Fatalf("no %s in a list of %d", part, len(at))
			}
			v = at[i]
		}
		if v == nil {
			ts.Fatalf("no %s (at %s)", args[1], part)
		}
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

func (w *world) await(ts *testscript.TestScript, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := w.client(ts, args[0])
	defer c.Close()
	key := strings.Join(args, " ")
	for n, err := range c.Events(ctx, w.told[key], true) {
		if err != nil {
			ts.Fatalf("waiting for %s: %v", key, err)
		}
		if n.Type == args[1] {
			w.told[key] = n.Seq
			ts.Logf("%s", n.Text)
			return
		}
	}
	ts.Fatalf("the events ended before %s", key)
}

func (w *world) counted(ts *testscript.TestScript, args []string) {
	want, err := strconv.ParseUint(args[2], 10, 64)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := w.client(ts, args[0])
	defer c.Close()
	var last consumer.View
	for v, err := range c.Watch(ctx, args[1]) {
		if err != nil {
			ts.Fatalf("%v; %d minutes so far, %s (%s)", err, last.Minutes, last.State, last.Reason)
		}
		if last = v; v.Minutes >= want && v.Vouched == v.Owed {
			return
		}
	}
	ts.Fatalf("%d minutes, want %s", last.Minutes, args[2])
}

func (w *world) killed(ts *testscript.TestScript, args []string) {
	ts.Check(kill(w.home(args[0])))
}

func (w *world) container(ts *testscript.TestScript, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h, c := w.client(ts, args[1]), w.client(ts, args[2])
	defer h.Close()
	defer c.Close()
	host, err := h.Status(ctx)
	ts.Check(err)
	pod, err := c.Lease(ctx, args[3])
	ts.Check(err)
	have, err := w.engine.List(ctx, host.Address.String(), fmt.Sprintf("%x", pod.Lease[:]))
	ts.Check(err)
	have = slices.DeleteFunc(have, func(h plan.Have) bool { return h.Object != plan.Container })
	if len(have) != 1 {
		ts.Fatalf("%d containers, want 1: %v", len(have), have)
	}
	ts.Setenv(args[0], have[0].ID)
}

func (w *world) proven(ts *testscript.TestScript, args []string) {
	w.must(ts, args[0], "bill", "export", args[1], "-o", "json")
	bill := []byte(ts.ReadFile("stdout"))
	file := filepath.Join(w.dir, args[1]+".bill")
	ts.Check(os.WriteFile(file, bill, 0o600))
	w.must(ts, args[0], "bill", "verify", file, "--offline")
	text := bytes.TrimRight(bill, "\n")
	for i := range 8 {
		at := i * (len(text) - 1) / 7
		changed := slices.Clone(bill)
		if changed[at] ^= 1; changed[at] < ' ' {
			changed[at] = '~'
		}
		ts.Check(os.WriteFile(file, changed, 0o600))
		w.exits(ts, []string{"9", args[0], "bill", "verify", file, "--offline"})
	}
}

func (w *world) books(ts *testscript.TestScript, args []string) {
	want, err := ledger.ParseAmount(args[1])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := w.client(ts, args[0])
	defer c.Close()
	accounts, err := c.Accounts(ctx)
	ts.Check(err)
	sum := sumOf(accounts)
	if sum.total() != want || sum.deposited != want || sum.reserved != 0 {
		ts.Fatalf("the accounts hold %+v, in all %s; want %s, nothing of it reserved", sum, sum.total().Text(), want.Text())
	}
}

func (w *world) least(ts *testscript.TestScript, args []string) {
	a, err := strconv.ParseFloat(args[0], 64)
	ts.Check(err)
	b, err := strconv.ParseFloat(args[1], 64)
	ts.Check(err)
	if a < b {
		ts.Fatalf("%s, want at least %s", args[0], args[1])
	}
}

// clear ends the nodes of a script and removes what they left on the engine.
func (w *world) clear() {
	homes, _ := filepath.Glob(filepath.Join(w.dir, "*", "config.yaml"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, f := range homes {
		kill(filepath.Dir(f))
	}
	for _, f := range homes {
		clearEngine(ctx, w.engine, filepath.Dir(f))
	}
}
