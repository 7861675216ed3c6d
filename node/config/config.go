// Package config is a node's home: the folder that holds everything of one node, and the settings in it.
//
// A home, ~/.souk unless $SOUK_HOME or --home name another, belongs to one key and one market:
//
//	config.yaml  settings, written by 'souk init' and 'souk join', edited by people
//	keystore/    the key
//	db/          the node's tables
//	journal/     the money chain, from which the tables can be made again
//	souk.log     what a node in the background says
//	souk.pid     its process
//	souk.sock    where it answers the command line
//
// Load reads config.yaml strictly: a setting that is not known, or a value that makes no sense, is refused with its line,
// because a misspelt setting that is silently ignored costs somebody a day. Save replaces the file in one step. Folders are
// 0700 and files 0600. Ports are picked once, by Ports, and kept, so that others find the node again after a restart.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	ma "github.com/multiformats/go-multiaddr"

	"souk/p2p/identity"
	"souk/p2p/member"
)

// Errors that callers test with errors.Is.
var (
	ErrNoHome = errors.New("config: there is no node here")
	ErrExists = errors.New("config: there is a node here already")
)

// A Runtime is what runs pods.
type Runtime string

// The runtimes.
const (
	RuntimeAuto    Runtime = "auto"    // docker where an engine answers; in a testnet market, else plain processes
	RuntimeDocker  Runtime = "docker"  // the Docker engine only
	RuntimeProcess Runtime = "process" // plain processes: no isolation, testnet markets only
)

// An Internet is what pods reach of it. They never reach the host or its own network.
type Internet string

// The internets.
const (
	InternetOpen   Internet = "open"
	InternetClosed Internet = "closed" // nothing
)

// A Config is the settings of one node. Paths in it are taken as they are when absolute, else from the home.
type Config struct {
	Home string `yaml:"-"` // absolute

	Roles          []string `yaml:"roles"`                     // wanted: host, consumer, operator
	Listen         []string `yaml:"listen"`                    // multiaddrs, TCP and QUIC, with fixed ports
	Announce       []string `yaml:"announce,omitempty"`        // multiaddrs under which others reach it; none: those found out
	Peers          []string `yaml:"peers,omitempty"`           // multiaddrs with /p2p/ID of members to stay in touch with, that no offer tells the place of
	APISocket      string   `yaml:"api_socket,omitempty"`      // empty: souk.sock in the home
	Runtime        Runtime  `yaml:"runtime,omitempty"`         // empty: auto
	SimulatedGPUs  string   `yaml:"simulated_gpus,omitempty"`  // as in 8xH100; testnet markets only
	Region         string   `yaml:"region,omitempty"`          // ISO 3166 code, as in DE
	Alias          string   `yaml:"alias,omitempty"`           // the name asked for when joining
	PrivateImages  bool     `yaml:"allow_private_registries"`  // pull images from registries of this machine's own network
	PassphraseFile string   `yaml:"passphrase_file,omitempty"` // of the key
	LogLevel       string   `yaml:"log_level,omitempty"`       // debug, info, warn or error; empty: info
	DockerHost     string   `yaml:"docker_host,omitempty"`     // empty: as Docker's own command line has it
	PodInternet    Internet `yaml:"pod_internet,omitempty"`    // open or closed; empty: open
	PodMbit        uint32   `yaml:"pod_mbit,omitempty"`        // what each pod may send, and get, a second, in megabits; 0: no limit
	PodDNS         []string `yaml:"pod_dns,omitempty"`         // resolvers of pods, public addresses; empty: some well-known ones
	PodSubnets     []string `yaml:"pod_subnets,omitempty"`     // ranges that networks of pods are cut from; empty: some that are seldom used
	AttendFor      []string `yaml:"attend_for,omitempty"`      // addresses of members whose pods this node attends and signs for, if they ask
	MinFreeMiB     uint32   `yaml:"min_free_mib,omitempty"`    // room on the home's disk under which nothing new is taken; 0: 256
}

// limit bounds what is read of a config file, bytes.
const limit = 64 << 10

// Home is the absolute path of the home: flag if it is set, else $SOUK_HOME, else ~/.souk.
func Home(flag string) (string, error) {
	dir := flag
	if dir == "" {
		dir = os.Getenv("SOUK_HOME")
	}
	if dir == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("config: which home? set SOUK_HOME: %w", err)
		}
		dir = filepath.Join(user, ".souk")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("config: %w", err)
	}
	return abs, nil
}

// Exists reports whether there is a node in the home.
func Exists(home string) bool {
	_, err := os.Lstat(file(home))
	return err == nil
}

func file(home string) string { return filepath.Join(home, "config.yaml") }

// Load reads the settings in a home. It fails with ErrNoHome where there are none.
func Load(home string) (Config, error) {
	f, err := os.Open(file(home))
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%w: %s", ErrNoHome, home)
	}
	if err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	c, err := Parse(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	c.Home = home
	return c, nil
}

// Parse reads settings. Errors name the line.
func Parse(text []byte) (Config, error) {
	var c Config
	if len(text) > limit {
		return c, fmt.Errorf("config: over %d bytes", limit)
	}
	if err := decode(text, &c); err != nil && !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("config: %s", flatten(err))
	}
	if err := c.Validate(); err != nil {
		return c, locate(text, err)
	}
	return c, nil
}

// decode reads YAML strictly. The library panics on some text that is none.
func decode(text []byte, c *Config) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("[1:1] not YAML: %v", p)
		}
	}()
	return yaml.NewDecoder(bytes.NewReader(text), yaml.DisallowUnknownField()).Decode(c)
}

// flatten makes one line of a YAML error: [line:column] what.
func flatten(err error) string {
	return strings.TrimSpace(strings.SplitN(yaml.FormatError(err, false, false), "\n", 2)[0])
}

// locate adds the line of the setting that an invalid value stands under.
func locate(text []byte, err error) error {
	var bad *Invalid
	if !errors.As(err, &bad) {
		return err
	}
	for i, line := range bytes.Split(text, []byte("\n")) {
		if bytes.HasPrefix(line, []byte(bad.Setting+":")) {
			return fmt.Errorf("[%d:1] %w", i+1, err)
		}
	}
	return err
}

// Invalid is a setting with a value that makes no sense.
type Invalid struct{ Setting, Reason string }

// Error names the setting.
func (i *Invalid) Error() string { return "config: " + i.Setting + ": " + i.Reason }

func invalid(setting, format string, args ...any) error {
	return &Invalid{setting, fmt.Sprintf(format, args...)}
}

// Validate checks every setting. It fails with *Invalid.
func (c Config) Validate() error {
	if len(c.Roles) > 0 {
		if _, err := member.ParseRole(strings.Join(c.Roles, ",")); err != nil {
			return invalid("roles", "%v", err)
		}
	}
	for _, a := range c.Listen {
		if _, err := ma.NewMultiaddr(a); err != nil {
			return invalid("listen", "%q: %v", a, err)
		}
	}
	for _, a := range c.Announce {
		if _, err := ma.NewMultiaddr(a); err != nil {
			return invalid("announce", "%q: %v", a, err)
		}
	}
	if _, err := c.Principals(); err != nil {
		return err
	}
	for _, a := range c.Peers {
		m, err := ma.NewMultiaddr(a)
		if err == nil {
			_, err = m.ValueForProtocol(ma.P_P2P)
		}
		if err != nil {
			return invalid("peers", "%q: %v; want what 'souk status' shows on that node", a, err)
		}
	}
	switch c.Runtime {
	case "", RuntimeAuto, RuntimeDocker, RuntimeProcess:
	default:
		return invalid("runtime", "%q; want auto, docker or process", c.Runtime)
	}
	if _, err := c.Level(); err != nil {
		return invalid("log_level", "%q; want debug, info, warn or error", c.LogLevel)
	}
	if err := c.validatePods(); err != nil {
		return err
	}
	switch {
	case c.MinFreeMiB != 0 && c.MinFreeMiB < leastFree:
		return invalid("min_free_mib", "%d; want at least %d", c.MinFreeMiB, leastFree)
	case len(c.Alias) > 32:
		return invalid("alias", "over 32 bytes")
	case len(c.Region) > 8:
		return invalid("region", "over 8 bytes; want a country code, as in DE")
	case len(c.SimulatedGPUs) > 256:
		return invalid("simulated_gpus", "over 256 bytes")
	}
	return nil
}

// validatePods checks what is said of pods' networks.
func (c Config) validatePods() error {
	switch c.PodInternet {
	case "", InternetOpen, InternetClosed:
	default:
		return invalid("pod_internet", "%q; want open or closed", c.PodInternet)
	}
	for _, s := range c.PodDNS {
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is4() || a.IsPrivate() || !a.IsGlobalUnicast() {
			return invalid("pod_dns", "%q; want public IPv4 addresses: pods reach nothing on the host's own network", s)
		}
	}
	for _, s := range c.PodSubnets {
		p, err := netip.ParsePrefix(s)
		if err != nil || !p.Addr().Is4() || p.Bits() < 8 || p.Bits() > 28 {
			return invalid("pod_subnets", "%q; want IPv4 ranges of /8 to /28, as in 10.213.0.0/16", s)
		}
	}
	if c.PodMbit > 1_000_000 {
		return invalid("pod_mbit", "%d; want at most 1000000", c.PodMbit)
	}
	return nil
}

// PodPools are the ranges of pod_subnets. Validate has looked at them.
func (c Config) PodPools() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range c.PodSubnets {
		if p, err := netip.ParsePrefix(s); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// Principals are the members whose pods this node attends. It fails with *Invalid.
func (c Config) Principals() ([]identity.Address, error) {
	var out []identity.Address
	for _, s := range c.AttendFor {
		a, err := identity.ParseAddress(s)
		if err != nil {
			return nil, invalid("attend_for", "%q: %v", s, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// head stands above the settings that Save writes.
const head = "# Settings of this node. Unknown ones are refused. What each means: 'souk help config'.\n"

// Save writes the settings of c.Home in one step: after a crash there are the old ones or the new. It makes the home where
// there is none.
func (c Config) Save() error {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Home, 0o700); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return WriteFile(file(c.Home), append([]byte(head), b...))
}

// WriteFile makes a private file durable with its whole content, in place of an older one, or leaves that as it was.
func WriteFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("config: writing %s: %w", path, err)
	}
	return nil
}

// Role is the roles wanted, as one value.
func (c Config) Role() member.Role {
	if len(c.Roles) == 0 {
		return 0
	}
	r, _ := member.ParseRole(strings.Join(c.Roles, ","))
	return r
}

// Want adds a role to those wanted.
func (c *Config) Want(role string) {
	if !slices.Contains(c.Roles, role) {
		c.Roles = append(c.Roles, role)
	}
}

// Pods is the runtime wanted.
func (c Config) Pods() Runtime {
	if c.Runtime == "" {
		return RuntimeAuto
	}
	return c.Runtime
}

// leastFree is the least that min_free_mib can be: the store needs an eighth of it to finish a write.
const leastFree = 160

// Room is the bytes on the home's disk under which nothing new is taken.
func (c Config) Room() int64 {
	if c.MinFreeMiB == 0 {
		return 256 << 20
	}
	return int64(c.MinFreeMiB) << 20
}

// Level is the least level that is logged.
func (c Config) Level() (slog.Level, error) {
	var l slog.Level
	if c.LogLevel == "" {
		return slog.LevelInfo, nil
	}
	err := l.UnmarshalText([]byte(c.LogLevel))
	return l, err
}
