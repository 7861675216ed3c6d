package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"souk/exec/gpu"
	"souk/node"
	"souk/node/api"
	"souk/node/config"
	"souk/node/core/step"
)

// hostDoctorCommand shows the gates of hosting.
func hostDoctorCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Is this machine fit to run strangers' pods?", Args: cobra.NoArgs,
		Long: "Doctor shows each gate that a host has to pass: what there is, what is needed, and how to mend it. While one says no, the\n" +
			"node takes no new leases. In a testnet, old versions and disks without quotas only warn. It asks the node if one is\n" +
			"up, and else looks itself. It ends with 1 when a gate says no.",
		RunE: does(func(ctx context.Context, _ []string) error {
			v, err := e.gates(ctx)
			if err != nil {
				return err
			}
			if err := gateList().show(e, v.Gates); err != nil {
				return err
			}
			bad := 0
			for _, g := range v.Gates {
				if g.State == "no" {
					bad++
				}
			}
			if bad > 0 {
				return step.Fail(step.ProblemOther, "", "this machine is not fit to host: %s", plural(bad, "gate says no", "gates say no"))
			}
			return nil
		}),
	}
}

// gates are what the node says, or what is found where none is up, or none made yet.
func (e *env) gates(ctx context.Context) (api.Gates, error) {
	cfg, err := e.load()
	if errors.Is(err, config.ErrNoHome) {
		return api.Gates{Gates: probe(ctx, config.Config{})}, nil
	}
	if err != nil {
		return api.Gates{}, err
	}
	c := api.NewClient(cfg.Socket())
	defer c.Close()
	v, err := c.SelfTest(ctx)
	switch {
	case errors.Is(err, api.ErrDown):
		return api.Gates{Gates: probe(ctx, cfg)}, nil
	case err == nil && len(v.Gates) == 0:
		err = step.Fail(step.ProblemConflict, "a host's node has 'host' among the roles in config.yaml: souk join CODE", "this node hosts no pods")
	}
	return v, err
}

func gateList() listing[api.Gate] {
	return listing[api.Gate]{
		key: func(g api.Gate) string { return g.Name },
		columns: []column[api.Gate]{
			{head: "GATE", of: func(g api.Gate) string { return g.Name }},
			{head: "OK", of: func(g api.Gate) string { return g.State }},
			{head: "ACTUAL", of: func(g api.Gate) string { return g.Actual }},
			{head: "NEEDED", of: func(g api.Gate) string { return g.Needed }},
			{head: "FIX", of: func(g api.Gate) string { return g.Fix }},
		},
	}
}

// probe looks at this machine where no node is up to ask.
func probe(ctx context.Context, cfg config.Config) []api.Gate {
	real := false
	if cfg.SimulatedGPUs == "" {
		list, err := gpu.NVML().Devices(ctx)
		real = err == nil && len(list) > 0
	}
	var list []api.Gate
	for _, r := range node.Probe(ctx, cfg, real) {
		list = append(list, api.Gate{Name: r.Name, State: string(r.State), Actual: r.Actual, Needed: r.Needed, Fix: r.Fix})
	}
	return list
}

// gateFindings are gates as the doctor of everything shows them, which looks at the clock itself.
func gateFindings(gates []api.Gate) []finding {
	var list []finding
	for _, g := range gates {
		if g.Name == "clock" {
			continue
		}
		f := finding{Name: g.Name, OK: g.State != "no", Detail: g.Actual, Hint: g.Fix}
		if g.State != "yes" {
			f.Detail += "; needed: " + g.Needed
		}
		list = append(list, f)
	}
	return list
}
