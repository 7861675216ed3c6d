package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"souk/exec"
	"souk/node/config"
)

// engineWait is how long an engine may take to answer when it is looked for.
const engineWait = 3 * time.Second

// An engine is what runs this home's pods. Under auto it can be open until the node is in a market: plain processes are no
// isolation, and only a testnet takes them. What has run a home's first pod runs all that follow, so that a restart at a bad
// moment does not leave pods behind on the one and start others on the other.
type engine struct {
	cfg     config.Config
	log     *slog.Logger
	testnet func(context.Context) (is, known bool)
	docker  *exec.Docker // nil: plain processes are wanted

	mu    sync.Mutex
	rt    exec.Runtime // nil: not known yet
	noted bool         // the file names rt
}

func newEngine(cfg config.Config, log *slog.Logger, testnet func(context.Context) (is, known bool)) (*engine, error) {
	e := &engine{cfg: cfg, log: log, testnet: testnet}
	if cfg.Pods() == config.RuntimeProcess {
		return e, nil
	}
	var err error
	e.docker, err = newDocker(cfg, log)
	return e, err
}

// newDocker is the engine as the settings have it.
func newDocker(cfg config.Config, log *slog.Logger) (*exec.Docker, error) {
	return exec.NewDocker(exec.DockerOptions{Host: cfg.DockerHost, Public: !cfg.PrivateImages, Log: log,
		DNS: cfg.PodDNS, Pools: cfg.PodPools(), Closed: cfg.PodInternet == config.InternetClosed, Mbit: int(cfg.PodMbit)})
}

// runtime decides, once it can: without an error, nil is not yet.
func (e *engine) runtime(ctx context.Context) (exec.Runtime, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rt != nil {
		return e.rt, nil
	}
	used, err := e.used()
	if err != nil {
		return nil, err
	}
	name := e.cfg.Pods()
	switch {
	case name == config.RuntimeAuto:
		name = e.auto(ctx, used)
	case used != "" && used != name:
		e.log.Warn("pods of this home ran on another runtime before: what it still has is left to people", "before", used, "now", name)
	}
	switch name {
	case config.RuntimeDocker:
		e.rt = e.docker
	case config.RuntimeProcess:
		e.rt, err = exec.NewProcess(exec.ProcessOptions{Root: e.cfg.PodsDir(), Public: !e.cfg.PrivateImages})
	}
	return e.rt, err
}

// auto is Docker where it was used before or answers; else plain processes in a testnet, and Docker, which is down, in any
// other market. Empty: the market is not known yet.
func (e *engine) auto(ctx context.Context, used config.Runtime) config.Runtime {
	if used == config.RuntimeDocker {
		return used
	}
	testnet, known := e.testnet(ctx)
	if used == config.RuntimeProcess && (testnet || !known) {
		return used
	}
	ping, cancel := context.WithTimeout(ctx, engineWait)
	defer cancel()
	err := e.docker.Ping(ping)
	switch {
	case err == nil:
		return config.RuntimeDocker
	case !known:
		return ""
	case testnet && runtime.GOOS == "linux":
		e.log.Warn("no container engine answers; pods are plain processes, as this market is a testnet", "err", err)
		return config.RuntimeProcess
	}
	e.log.Warn("no container engine answers: plain processes instead take a testnet market and Linux", "err", err)
	return config.RuntimeDocker
}

func (e *engine) file() string { return filepath.Join(e.cfg.PodsDir(), "runtime") }

// used is what has run this home's pods before; empty: nothing has.
func (e *engine) used() (config.Runtime, error) {
	b, err := os.ReadFile(e.file())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("node: which runtime this home uses: %w", err)
	}
	r := config.Runtime(strings.TrimSpace(string(b)))
	if r != config.RuntimeDocker && r != config.RuntimeProcess {
		return "", fmt.Errorf("node: %s says %q; want docker or process", e.file(), r)
	}
	return r, nil
}

// note keeps for later runs of this node that it has pods on its runtime.
func (e *engine) note() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.noted || e.rt == nil {
		return
	}
	err := os.MkdirAll(e.cfg.PodsDir(), 0o700)
	if err == nil {
		err = config.WriteFile(e.file(), []byte(e.rt.Name()+"\n"))
	}
	if err != nil {
		e.log.Error("noting which runtime this home uses", "err", err)
		return
	}
	e.noted = true
}

// describe says which engine there is, for people.
func (e *engine) describe(ctx context.Context) (name, version string) {
	rt, err := e.runtime(ctx)
	if err != nil {
		return string(e.cfg.Pods()), fmt.Sprintf("does not answer: %v", err)
	}
	if rt == nil {
		return string(config.RuntimeProcess), "as no container engine answers; in a testnet only"
	}
	v, ok := rt.(interface {
		Version(context.Context) (string, error)
	})
	if !ok {
		return rt.Name(), ""
	}
	if version, err = v.Version(ctx); err != nil {
		return rt.Name(), fmt.Sprintf("does not answer: %v", err)
	}
	return rt.Name(), version
}
