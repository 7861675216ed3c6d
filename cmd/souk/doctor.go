package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"souk/exec/gpu"
	"souk/node/api"
	"souk/node/config"
	"souk/node/core/step"
	"souk/node/keys"
)

// A finding is one line of the doctor's.
type finding struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// skewMost is how far a clock is off and still well: a node that is 30 s off signs nothing more.
const skewMost = 2 * time.Second

func doctorCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong with this machine and its node", Args: cobra.NoArgs,
		Long: "Doctor looks at the home, the key, the node and its peers, and of a host at the GPUs and at what 'souk host doctor' shows\nin full. It ends with 1 when something is not well.",
		RunE: does(func(ctx context.Context, _ []string) error {
			list := e.examine(ctx)
			if err := findingList(list).show(e, list); err != nil {
				return err
			}
			bad := 0
			for _, f := range list {
				if !f.OK {
					bad++
				}
			}
			if bad > 0 {
				return step.Fail(step.ProblemOther, "", "%s not well", plural(bad, "thing is", "things are"))
			}
			return nil
		}),
	}
}

func findingList(list []finding) listing[finding] {
	l := listing[finding]{
		key: func(f finding) string { return f.Name },
		columns: []column[finding]{
			{head: "CHECK", of: func(f finding) string { return f.Name }},
			{head: "OK", of: func(f finding) string { return yesNo(f.OK) }},
			{head: "FOUND", of: func(f finding) string { return f.Detail }},
		},
	}
	if slices.ContainsFunc(list, func(f finding) bool { return f.Hint != "" }) {
		l.columns = append(l.columns, column[finding]{head: "WHAT TO DO", of: func(f finding) string { return f.Hint }})
	}
	return l
}

// examine looks at everything.
func (e *env) examine(ctx context.Context) []finding {
	cfg, err := e.load()
	if err != nil {
		p := problem(err)
		return []finding{{Name: "home", Detail: p.Text, Hint: p.Hint}}
	}
	list := []finding{examineHome(cfg), examineKey(cfg)}
	c := api.NewClient(cfg.Socket())
	defer c.Close()
	st, err := c.Status(ctx)
	if err != nil {
		p := problem(err)
		list = append(list, finding{Name: "node", Detail: p.Text, Hint: p.Hint})
		if strings.Contains(cfg.Role().String(), "host") {
			list = append(append(list, examineGPUs(ctx, cfg)), gateFindings(probe(ctx, cfg))...)
		}
		return list
	}
	list = append(list, examineNode(st)...)
	if strings.Contains(cfg.Role().String(), "host") {
		inv, err := c.Inventory(ctx)
		if err != nil {
			return append(list, finding{Name: "inventory", Detail: problem(err).Text})
		}
		gates, err := c.SelfTest(ctx)
		if err != nil {
			return append(list, finding{Name: "self-test", Detail: problem(err).Text})
		}
		for _, k := range inv.Checks {
			if !slices.ContainsFunc(gates.Gates, func(g api.Gate) bool { return g.Name == k.Name }) {
				list = append(list, finding{Name: k.Name, OK: k.OK, Detail: k.Detail})
			}
		}
		list = append(list, gateFindings(gates.Gates)...)
	}
	return list
}

func examineHome(cfg config.Config) finding {
	f := finding{Name: "home", OK: true, Detail: cfg.Home}
	if fi, err := os.Stat(cfg.Home); err == nil && runtime.GOOS != "windows" && fi.Mode().Perm()&0o077 != 0 {
		f.OK, f.Detail, f.Hint = false, fmt.Sprintf("%s is open to others (mode %04o)", cfg.Home, fi.Mode().Perm()), "chmod 700 "+cfg.Home
	}
	return f
}

// examineKey looks at the key's file, and asks for no passphrase.
func examineKey(cfg config.Config) finding {
	k, err := keys.Open(cfg.Keystore(), nil)
	switch {
	case err == nil:
		return finding{Name: "key", OK: true, Detail: k.Address().String() + ", not encrypted"}
	case errors.Is(err, keys.ErrPassphrase):
		return finding{Name: "key", OK: true, Detail: "encrypted"}
	}
	p := problem(err)
	return finding{Name: "key", Detail: p.Text, Hint: p.Hint}
}

func examineNode(st api.Status) []finding {
	skew := time.Duration(st.Standing.Skew) * time.Millisecond
	list := []finding{
		{Name: "node", OK: true, Detail: fmt.Sprintf("up, process %d, version %s", st.PID, st.Version)},
		{Name: "standing", OK: st.Standing.State == "approved", Detail: standing(st.Standing)},
		{Name: "peers", OK: len(st.Peers) > 0, Detail: plural(len(st.Peers), "peer", "peers")},
		{Name: "clock", OK: skew.Abs() <= skewMost, Detail: fmt.Sprintf("%+d ms against the peers", st.Standing.Skew)},
		{Name: "addresses", OK: len(st.Addrs) > 0, Detail: strings.Join(st.Addrs, " ")},
	}
	if !list[1].OK && st.Standing.State == "none" {
		list[1].Hint = "souk join CODE"
	}
	if !list[2].OK {
		list[2].Hint = "is another node of the market up, and do firewalls let its port through?"
	}
	if !list[3].OK {
		list[3].Hint = "set the clock: a node that is 30 s off signs nothing"
	}
	return list
}

func examineGPUs(ctx context.Context, cfg config.Config) finding {
	if cfg.SimulatedGPUs != "" {
		return finding{Name: "gpus", OK: true, Detail: cfg.SimulatedGPUs + " (simulated)"}
	}
	list, err := gpu.NVML().Devices(ctx)
	if err != nil {
		return finding{Name: "gpus", Detail: trim(err), Hint: "install NVIDIA's driver; in a testnet market: souk join CODE --simulated-gpus 8xH100"}
	}
	if len(list) == 0 {
		return finding{Name: "gpus", Detail: "none found"}
	}
	return finding{Name: "gpus", OK: true, Detail: fmt.Sprintf("%d × %s, driver %s", len(list), list[0].Name, list[0].Driver)}
}
