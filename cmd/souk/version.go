package main

import (
	"context"
	"runtime"

	"github.com/spf13/cobra"

	"souk/exec"
)

// A versionView is what this program is.
type versionView struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	System  string `json:"system"`
}

func versionCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "What this program is", Args: cobra.NoArgs,
		RunE: does(func(context.Context, []string) error {
			v := versionView{buildVersion(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return e.one(v, v.Version, fact{"version", v.Version}, fact{"go", v.Go}, fact{"system", v.System})
		}),
	}
}

// shimCommand stands between a node and a pod that is a plain process. Its arguments are exec's.
func shimCommand() *cobra.Command {
	return &cobra.Command{
		Use: "pod-shim", Hidden: true, DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := exec.Shim(args); code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
}

// configTopic is the help page of config.yaml.
func configTopic() *cobra.Command {
	return &cobra.Command{
		Use: "config", Short: "What stands in config.yaml",
		Long: `config.yaml in the node's home holds its settings. What is not known is refused.

  roles                     what the node is for: host, consumer, operator
  listen                    multiaddrs to listen on, as in /ip4/0.0.0.0/tcp/4001 and /ip4/0.0.0.0/udp/4001/quic-v1
  announce                  multiaddrs under which others reach it (default: those that are found out)
  peers                     multiaddrs, as 'souk status' shows them there, of other nodes to stay in touch with, as one's attendant
  api_socket                unix socket of the command line (default: souk.sock in the home)
  runtime                   what runs pods: auto, docker or process (default: auto)
  docker_host               where Docker listens (default: as Docker's own command line has it)
  simulated_gpus            GPUs to make up, as in 8xH100; testnet markets only
  region                    country of the machine, as in DE
  alias                     name to ask for when joining
  allow_private_registries  pull images from registries of this machine's own network: true or false
  passphrase_file           file with the key's passphrase
  pod_internet              what pods reach of the internet: open or closed (default: open); they never reach the host or its network
  pod_mbit                  what each pod may send, and get, a second, in megabits (default: no limit)
  pod_dns                   resolvers that pods ask, public IPv4 addresses (default: 1.1.1.1 and 9.9.9.9)
  pod_subnets               ranges that the networks of pods are cut from (default: some that are seldom used)
  attend_for                addresses of members whose pods this node attends and signs for when they ask, as an attendant that is always on
  min_free_mib              room on the disk under which the node takes nothing new, in MiB; under a quarter of it, it signs nothing (default: 256)
  log_level                 debug, info, warn or error (default: info)

A node reads it when it starts.`,
	}
}
