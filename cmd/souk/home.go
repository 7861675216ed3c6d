package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"souk/exec/gpu"
	"souk/node"
	"souk/node/api"
	"souk/node/config"
	"souk/node/keys"
)

// homeFlags are the settings that 'init' and 'join' can write.
type homeFlags struct {
	passFlags
	listen    []string
	alias     string
	simulated string
	runtime   string
	region    string
	private   bool
}

func (h *homeFlags) add(cmd *cobra.Command, host bool) {
	h.passFlags.add(cmd, true)
	f := cmd.Flags()
	f.StringArrayVar(&h.listen, "listen", nil, "multiaddr to listen on, more than once; port 0 is replaced by a free one, for good; \"local\": nobody but this machine (default all addresses, TCP and QUIC)")
	f.StringVar(&h.alias, "alias", "", "name that others see")
	if host {
		f.StringVar(&h.simulated, "simulated-gpus", "", "make up GPUs, as in 8xH100; testnet markets only")
		f.StringVar(&h.runtime, "runtime", "", "what runs pods: auto, docker, or process (no isolation; testnet markets only)")
		f.StringVar(&h.region, "region", "", "country of this machine, as in DE")
		f.BoolVar(&h.private, "allow-private-registries", false, "pull images from registries of this machine's own network too")
	}
}

// apply changes settings as the flags say, and reports whether any changed.
func (h *homeFlags) apply(cfg *config.Config) bool {
	changed := false
	set := func(to *string, v string) {
		if v != "" && *to != v {
			*to, changed = v, true
		}
	}
	set(&cfg.Alias, h.alias)
	set(&cfg.SimulatedGPUs, h.simulated)
	set(&cfg.Region, h.region)
	if r := config.Runtime(h.runtime); h.runtime != "" && cfg.Runtime != r {
		cfg.Runtime, changed = r, true
	}
	if h.private && !cfg.PrivateImages {
		cfg.PrivateImages, changed = true, true
	}
	return changed
}

// check refuses settings that could never work.
func (h *homeFlags) check() error {
	if h.simulated == "" {
		return nil
	}
	if _, err := gpu.Simulated([20]byte{}, h.simulated); err != nil {
		return usageError("", "--simulated-gpus: %s", trim(err))
	}
	return nil
}

// fresh is the settings of a new home.
func (h *homeFlags) fresh(home, role string) (config.Config, error) {
	listen := h.listen
	switch {
	case len(listen) == 0:
		listen = config.DefaultListen()
	case len(listen) == 1 && listen[0] == "local":
		listen = config.LocalListen()
	}
	ports, err := config.Ports(listen)
	if err != nil {
		return config.Config{}, err
	}
	cfg := config.Config{Home: home, Roles: []string{role}, Listen: ports}
	h.apply(&cfg)
	return cfg, cfg.Validate()
}

// make creates a home, key first: a home with settings and no key would be good for nothing.
func (h *homeFlags) make(e *env, home, role string) (config.Config, *keys.Key, error) {
	cfg, err := h.fresh(home, role)
	if err != nil {
		var bad *config.Invalid
		if errors.As(err, &bad) {
			err = usageError("", "%s", trim(err))
		}
		return cfg, nil, err
	}
	k, err := e.makeKey(&cfg, &h.passFlags)
	if err != nil {
		return cfg, nil, err
	}
	return cfg, k, cfg.Save()
}

// An inProcess is a node in this process, for as long as a command needs it.
type inProcess struct {
	*api.Client
	stop func() error
}

// runLocal starts a node in this process and gives a client of it. Its words go to the home's log.
func (e *env) runLocal(ctx context.Context, cfg config.Config, k *keys.Key) (*inProcess, error) {
	out, err := os.OpenFile(cfg.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	log := logger(cfg, out)
	n, err := node.New(node.Options{Config: cfg, Key: k, Log: log, Version: buildVersion()})
	if err != nil {
		out.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- n.Run(ctx)
		cancel()
	}()
	select {
	case <-n.Ready():
	case err := <-ended:
		out.Close()
		if err == nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	l := &inProcess{Client: api.Local(ctx, n.Backend(), log)}
	l.stop = func() error {
		l.Close()
		cancel()
		return errors.Join(<-ended, out.Close())
	}
	return l, nil
}

func logger(cfg config.Config, to io.Writer) *slog.Logger {
	level, _ := cfg.Level() // checked when it was loaded
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: level}))
}
