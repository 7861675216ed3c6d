package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"souk/exec/fence"
	"souk/exec/plan"
)

// cdiSince is the first engine that gives GPUs by CDI names; older ones accept them and fail at start.
const cdiSince = 25

// DockerOptions are the host's choices for its engine.
type DockerOptions struct {
	Host    string // where the engine listens, as unix:///var/run/docker.sock; empty: as the environment says
	Runtime string // OCI runtime; empty: the engine's default
	Public  bool   // take images of registries on public addresses only

	DNS    []string       // resolvers of pods; empty: public ones
	Pools  []netip.Prefix // what networks of pods are cut from; empty: ranges that are seldom used
	Closed bool           // pods reach nothing
	Mbit   int            // what each pod may send, and get, a second, in megabits; 0: no limit
	Nft    string         // the program that loads the firewall; empty: where it usually is
	Log    *slog.Logger   // what happens to the firewall; nil: nothing is said
}

// Docker is the Runtime on a Docker engine. Its objects carry the labels of package plan.
type Docker struct {
	api  *client.Client
	opts DockerOptions

	mu     sync.Mutex
	fences map[string]*fence.Fence // by home
	turned []func()                // to be called when one goes down or comes up
	major  int                     // of the engine's version, 0: not asked yet
	root   string                  // folder in which the engine keeps its images, where it is on this machine; empty: not known
}

// NewDocker uses the engine of the options or the one that the environment names (DOCKER_HOST …), by default the local
// socket. It does not talk to it yet.
func NewDocker(o DockerOptions) (*Docker, error) {
	where := client.FromEnv
	if o.Host != "" {
		where = client.WithHost(o.Host)
	}
	api, err := client.New(where)
	if err != nil {
		return nil, fmt.Errorf("exec: docker: %w", err)
	}
	return &Docker{api: api, opts: o, fences: map[string]*fence.Fence{}}, nil
}

// Close gives back the connections to the engine.
func (d *Docker) Close() error { return d.api.Close() }

// Name is docker.
func (d *Docker) Name() string { return "docker" }

// Ping asks the engine whether it is there. An engine that answers anything but well is down.
func (d *Docker) Ping(ctx context.Context) error {
	if _, err := d.api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return &Fault{Code: CodeEngineDown, Reason: "the Docker engine does not answer: is dockerd running?", Err: err}
	}
	return nil
}

// Policy asks the engine once for its version.
func (d *Docker) Policy(ctx context.Context) (plan.Policy, error) {
	d.mu.Lock()
	major := d.major
	d.mu.Unlock()
	if major == 0 {
		v, err := d.api.ServerVersion(ctx, client.ServerVersionOptions{})
		if err != nil {
			return plan.Policy{}, d.fault(err)
		}
		first, _, _ := strings.Cut(v.Version, ".")
		major, err = strconv.Atoi(first)
		if err != nil {
			major = 1 // an engine of another make: the older way of asking for GPUs
		}
		d.mu.Lock()
		d.major = major
		d.mu.Unlock()
	}
	profile, err := seccompProfile()
	if err != nil {
		return plan.Policy{}, err
	}
	return plan.Policy{Runtime: d.opts.Runtime, DNS: d.opts.DNS, Files: openFiles(), Seccomp: profile, CDI: major >= cdiSince}, nil
}

// List inspects containers, volumes and networks by their labels.
func (d *Docker) List(ctx context.Context, home, lease string) ([]plan.Have, error) {
	labels := []string{plan.LabelHome + "=" + home}
	if lease != "" {
		labels = append(labels, plan.LabelLease+"="+lease)
	}
	filter := make(client.Filters).Add("label", labels...)
	found, err := d.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filter})
	if err != nil {
		return nil, d.fault(err)
	}
	var list []plan.Have
	for _, c := range found.Items {
		have, err := d.inspect(ctx, c.ID)
		switch {
		case errdefs.IsNotFound(err): // went away in between
		case err != nil:
			return nil, d.fault(err)
		case have != nil:
			list = append(list, *have)
		}
	}
	volumes, err := d.api.VolumeList(ctx, client.VolumeListOptions{Filters: filter})
	if err != nil {
		return nil, d.fault(err)
	}
	for _, v := range volumes.Items {
		if id := v.Labels[plan.LabelLease]; plan.ValidLease(id) {
			list = append(list, plan.Have{Object: plan.Volume, ID: v.Name, Lease: id})
		}
	}
	networks, err := d.api.NetworkList(ctx, client.NetworkListOptions{Filters: filter})
	if err != nil {
		return nil, d.fault(err)
	}
	for _, n := range networks.Items {
		if id := n.Labels[plan.LabelLease]; plan.ValidLease(id) {
			list = append(list, plan.Have{Object: plan.Network, ID: n.ID, Lease: id})
		}
	}
	return list, nil
}

// inspect is nil for what does not carry good labels, and for what is being removed.
func (d *Docker) inspect(ctx context.Context, id string) (*plan.Have, error) {
	res, err := d.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return nil, err
	}
	c := res.Container
	if c.State == nil || c.Config == nil {
		return nil, errors.New("exec: docker: inspect without state")
	}
	start, err := strconv.ParseUint(c.Config.Labels[plan.LabelStart], 10, 32)
	lease := c.Config.Labels[plan.LabelLease]
	if err != nil || !plan.ValidLease(lease) {
		return nil, nil
	}
	have := &plan.Have{ID: c.ID, Lease: lease, Start: uint32(start), ExitCode: c.State.ExitCode, OOM: c.State.OOMKilled,
		Grace: plan.GraceOf(c.Config.Labels), StartedAt: engineTime(c.State.StartedAt), FinishedAt: engineTime(c.State.FinishedAt)}
	switch c.State.Status {
	case container.StateCreated:
		have.State = plan.Created
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		have.State, have.FinishedAt, have.ExitCode = plan.Running, time.Time{}, 0
	case container.StateRemoving:
		return nil, nil
	default:
		have.State = plan.Exited
		// The engine notes the start only after the program runs: one that ends at once ends before, by some milliseconds.
		if have.FinishedAt.Before(have.StartedAt) {
			have.FinishedAt = have.StartedAt
		}
	}
	return have, nil
}

// engineTime reads the engine's times, whose zero is the year 1.
func engineTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

// Create makes what of the lease's network and volume is not there yet, and the container.
func (d *Docker) Create(ctx context.Context, c plan.Config) (string, error) {
	if err := d.createNetwork(ctx, c); err != nil {
		return "", err
	}
	if c.Volume != nil {
		if err := d.createVolume(ctx, c); err != nil {
			return "", err
		}
	}
	host, err := hostConfig(c)
	if err != nil {
		return "", err
	}
	res, err := d.api.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: c.Name,
		Config: &container.Config{Image: c.Image, Cmd: c.Cmd, Env: c.Env, Labels: maps.Clone(c.Labels),
			// An image's health check would run unbilled programs of its own beside the command.
			Healthcheck: &container.HealthConfig{Test: []string{"NONE"}}},
		HostConfig: host,
	})
	switch {
	case errdefs.IsInvalidArgument(err):
		return "", &Fault{Code: CodeBadCommand, Reason: engineText(err), Err: err}
	case errdefs.IsNotFound(err):
		return "", &Fault{Code: CodeImageNotFound, Reason: engineText(err), Err: err}
	case err != nil:
		return "", d.fault(err)
	}
	return res.ID, nil
}

// createVolume makes the volume. The engine answers with the one that is there already if the name is taken: then it has to
// be this lease's.
func (d *Docker) createVolume(ctx context.Context, c plan.Config) error {
	res, err := d.api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: c.Volume.Name, Labels: c.Volume.Labels})
	if err != nil {
		return d.fault(err)
	}
	if !plan.Belongs(res.Volume.Labels, c.Labels[plan.LabelHome], c.Labels[plan.LabelLease]) {
		return foreignVolume(c.Volume.Name)
	}
	return nil
}

// hostConfig translates field by field. What plan.Config does not name stays at its zero value, which for MaskedPaths,
// ReadonlyPaths and the AppArmor profile means the engine's defaults.
func hostConfig(c plan.Config) (*container.HostConfig, error) {
	host := &container.HostConfig{
		Init:          &c.Init,
		Privileged:    c.Privileged,
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyMode(c.Restart)},
		LogConfig:     container.LogConfig{Type: c.LogType, Config: maps.Clone(c.LogOpts)},
		NetworkMode:   container.NetworkMode(c.Network.Name),
		DNSSearch:     c.Search,
		Runtime:       c.Runtime,
		IpcMode:       container.IpcMode(c.Ipc),
		CgroupnsMode:  container.CgroupnsMode(c.Cgroupns),
		CapDrop:       c.CapDrop,
		CapAdd:        c.CapAdd,
		SecurityOpt:   c.SecurityOpt,
		OomScoreAdj:   c.OomScoreAdj,
		ShmSize:       c.Shm,
		Resources: container.Resources{
			Memory:     c.Memory,
			MemorySwap: c.MemorySwap,
			NanoCPUs:   c.NanoCPUs,
			PidsLimit:  &c.Pids,
			Ulimits: []*units.Ulimit{
				{Name: "core", Soft: c.CoreFile, Hard: c.CoreFile},
				{Name: "nofile", Soft: c.OpenFiles, Hard: c.OpenFiles},
			},
		},
	}
	if c.LockMemory {
		host.Ulimits = append(host.Ulimits, &units.Ulimit{Name: "memlock", Soft: -1, Hard: -1})
	}
	for _, s := range c.DNS {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, &Fault{Code: CodeEngine, Reason: fmt.Sprintf("the host's resolver %q is no address", s), Err: err}
		}
		host.DNS = append(host.DNS, addr)
	}
	if c.Volume != nil {
		host.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: c.Volume.Name, Target: c.Volume.Target}}
	}
	for _, r := range c.Devices {
		request := container.DeviceRequest{Driver: r.Driver, DeviceIDs: r.IDs}
		if len(r.Capabilities) > 0 {
			request.Capabilities = [][]string{r.Capabilities}
		}
		host.DeviceRequests = append(host.DeviceRequests, request)
	}
	return host, nil
}

// Start starts a container, behind the fence. A command that the engine cannot find leaves the container created, with exit
// code 127.
func (d *Docker) Start(ctx context.Context, id string) error {
	if err := d.fenced(ctx, id); err != nil {
		return err
	}
	_, err := d.api.ContainerStart(ctx, id, client.ContainerStartOptions{})
	switch {
	case err == nil:
		return nil
	case errdefs.IsInvalidArgument(err):
		return &Fault{Code: CodeBadCommand, Reason: engineText(err), Err: err}
	case strings.Contains(err.Error(), "could not select device driver"), strings.Contains(err.Error(), "nvidia-container"),
		strings.Contains(err.Error(), "CDI device"):
		return &Fault{Code: CodeGPU, Reason: "the engine cannot give the GPUs: is nvidia-container-toolkit installed?", Err: err}
	}
	return d.fault(err)
}

// Signal sends SIGTERM, which the init process hands on, or SIGKILL.
func (d *Docker) Signal(ctx context.Context, id string, kill bool) error {
	signal := "SIGTERM"
	if kill {
		signal = "SIGKILL"
	}
	_, err := d.api.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: signal})
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil // a conflict is: not running
	}
	return d.fault(err)
}

// Remove removes a container with the unnamed volumes that its image asked for, or a named volume, or a network.
func (d *Docker) Remove(ctx context.Context, h plan.Have) error {
	var err error
	switch h.Object {
	case plan.Volume:
		_, err = d.api.VolumeRemove(ctx, h.ID, client.VolumeRemoveOptions{})
	case plan.Network:
		_, err = d.api.NetworkRemove(ctx, h.ID, client.NetworkRemoveOptions{})
	default:
		_, err = d.api.ContainerRemove(ctx, h.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	}
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	return d.fault(err)
}

// Logs reads what the engine's log driver kept.
func (d *Docker) Logs(ctx context.Context, id string, o LogOptions, stdout, stderr io.Writer) error {
	tail := "all"
	if o.Tail > 0 {
		tail = strconv.Itoa(o.Tail)
	}
	r, err := d.api.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: o.Follow, Tail: tail})
	if errdefs.IsNotFound(err) {
		return ErrNoRun
	}
	if err != nil {
		return d.fault(err)
	}
	defer r.Close()
	if _, err := stdcopy.StdCopy(stdout, stderr, r); err != nil && ctx.Err() == nil {
		return fmt.Errorf("exec: docker: logs: %w", err)
	}
	return ctx.Err()
}

// Watch reads the engine's events about this home's containers.
func (d *Docker) Watch(ctx context.Context, home string, ready func(), changed func(lease string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	filter := make(client.Filters).Add("label", plan.LabelHome+"="+home).Add("type", string(events.ContainerEventType))
	stream := d.api.Events(ctx, client.EventsListOptions{Filters: filter})
	ready()
	for {
		select {
		case m := <-stream.Messages:
			switch m.Action {
			case events.ActionStart, events.ActionDie, events.ActionDestroy, events.ActionOOM, events.ActionPause, events.ActionUnPause:
				changed(m.Actor.Attributes[plan.LabelLease])
			}
		case err := <-stream.Err:
			return d.fault(err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fault sorts what the engine said into what it can mean for a pod.
func (d *Docker) fault(err error) error {
	var known *Fault
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	case client.IsErrConnectionFailed(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF), errdefs.IsUnavailable(err):
		return &Fault{Code: CodeEngineDown, Reason: "the Docker engine does not answer", Err: err}
	case strings.Contains(err.Error(), "no space left on device"):
		return &Fault{Code: CodeDisk, Reason: "the host's disk is full", Err: err}
	}
	return &Fault{Code: CodeEngine, Reason: engineText(err), Err: err}
}

// engineText is the engine's own explanation, short enough for a user.
func engineText(err error) string {
	const most = 400
	text := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	return strings.ToValidUTF8(text[:min(len(text), most)], "?")
}
