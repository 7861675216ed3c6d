package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	osexec "os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"souk/exec/plan"
)

// ShimCommand is the hidden command of the node's program that runs Shim.
const ShimCommand = "pod-shim"

// ProcessOptions say how plain processes run.
type ProcessOptions struct {
	Root     string // folder of images, pods and volumes; belongs to one node
	Public   bool   // take images of registries on public addresses only
	NoChroot bool   // run in the unpacked image's folder only, even where a change of root is allowed
}

// Process is the Runtime of plain processes, for development and testnet markets on machines without Docker. It is no
// isolation: a pod runs with the node's rights, in the machine's network. As root it has its image as its root folder and
// its volume mounted; otherwise it runs inside the unpacked image's folder as well as that goes.
//
// On disk, below the root: images/ (one flat archive and one configuration for each digest), pods/<id>/ (pod.json, what to
// run; rootfs/, the container disk; state.json, what happened, by the shim; log; alive, a pipe that the shim holds open
// as long as it lives), volumes/<name>/ (volume.json, data/). A *shim*, this program again, stands between node and pod: it
// survives the node, keeps the output, and writes down how the pod ended.
type Process struct {
	root     string
	chroot   bool
	owner    bool // may give files away and take other users' names
	shimExec string
	public   bool // registries

	mu       sync.Mutex
	watchers map[*processWatch]bool
}

// podSpec is pod.json.
type podSpec struct {
	Home   string   `json:"home"`
	Lease  string   `json:"lease"`
	Start  uint32   `json:"start"`
	Argv   []string `json:"argv"`
	Env    []string `json:"env"`
	Dir    string   `json:"dir"` // inside the image
	User   string   `json:"user"`
	Chroot bool     `json:"chroot"`
	Grace  string   `json:"grace,omitempty"`  // label
	Volume string   `json:"volume,omitempty"` // folder on the host
	Target string   `json:"target,omitempty"` // inside the image
}

// podState is state.json.
type podState struct {
	Pid        int       `json:"pid"`  // also the process group
	Born       uint64    `json:"born"` // start time in ticks since boot, from /proc: tells the process from a later one with its pid
	Boot       string    `json:"boot"` // boot id
	StartedAt  time.Time `json:"started"`
	FinishedAt time.Time `json:"finished,omitzero"`
	ExitCode   int       `json:"exit"`
}

type volumeSpec struct {
	Home  string `json:"home"`
	Lease string `json:"lease"`
}

// NewProcess prepares the root folder.
func NewProcess(o ProcessOptions) (*Process, error) {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, fmt.Errorf("exec: process: %w", err)
	}
	for _, d := range []string{"images", "pods", "volumes", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			return nil, fmt.Errorf("exec: process: %w", err)
		}
	}
	emptyFolder(filepath.Join(root, "tmp")) // what was half made or half removed when a node ended
	p := &Process{root: root, public: o.Public, shimExec: "/proc/self/exe", watchers: map[*processWatch]bool{}}
	p.owner = os.Geteuid() == 0 && capable(unix.CAP_CHOWN) && capable(unix.CAP_SETUID)
	p.chroot = !o.NoChroot && p.owner && capable(unix.CAP_SYS_ADMIN) && capable(unix.CAP_SYS_CHROOT)
	return p, nil
}

// emptyFolder removes what it can: what it cannot only takes space.
func emptyFolder(dir string) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		os.RemoveAll(filepath.Join(dir, e.Name()))
	}
}

func capable(c uint) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&head, &data[0]) == nil && data[c/32].Effective&(1<<(c%32)) != 0
}

// Name is process.
func (p *Process) Name() string { return "process" }

// Ping checks that the root folder is there.
func (p *Process) Ping(context.Context) error {
	if _, err := os.Stat(p.podsDir()); err != nil {
		return &Fault{Code: CodeEngineDown, Reason: "the folder of pods is gone", Err: err}
	}
	return nil
}

// Policy has nothing to say.
func (p *Process) Policy(context.Context) (plan.Policy, error) { return plan.Policy{}, nil }

func (p *Process) podsDir() string         { return filepath.Join(p.root, "pods") }
func (p *Process) podDir(id string) string { return filepath.Join(p.root, "pods", filepath.Base(id)) }
func (p *Process) volumeDir(name string) string {
	return filepath.Join(p.root, "volumes", filepath.Base(name))
}

// List reads pods and volumes from disk.
func (p *Process) List(ctx context.Context, home, lease string) ([]plan.Have, error) {
	var list []plan.Have
	pods, err := os.ReadDir(p.podsDir())
	if err != nil {
		return nil, &Fault{Code: CodeEngineDown, Reason: "the folder of pods is gone", Err: err}
	}
	for _, e := range pods {
		var spec podSpec
		if readJSON(filepath.Join(p.podDir(e.Name()), "pod.json"), &spec) != nil || spec.Home != home || lease != "" && spec.Lease != lease {
			continue
		}
		have := plan.Have{ID: e.Name(), Lease: spec.Lease, Start: spec.Start,
			Grace: plan.GraceOf(map[string]string{plan.LabelGrace: spec.Grace})}
		if err := p.inspect(&have); err != nil {
			return nil, err
		}
		list = append(list, have)
	}
	volumes, err := os.ReadDir(filepath.Join(p.root, "volumes"))
	if err != nil {
		return nil, err
	}
	for _, e := range volumes {
		var spec volumeSpec
		if readJSON(filepath.Join(p.volumeDir(e.Name()), "volume.json"), &spec) == nil && spec.Home == home && (lease == "" || spec.Lease == lease) {
			list = append(list, plan.Have{Object: plan.Volume, ID: e.Name(), Lease: spec.Lease})
		}
	}
	return list, nil
}

// inspect fills in what the shim wrote. A pod that is neither ended nor has a shim was cut off: by the machine's end, or by
// somebody who killed the shim. Then its end is written down here, at the last moment at which it gave a sign of life.
func (p *Process) inspect(h *plan.Have) error {
	dir := p.podDir(h.ID)
	alive := shimAlive(dir) // before the state: a shim writes the end before it goes
	state, err := readState(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		h.State = plan.Created
		return nil
	case err != nil:
		return fmt.Errorf("exec: process: state of %s: %w", h.ID, err)
	}
	if state.FinishedAt.IsZero() && !alive {
		if state, err = settle(dir, state); err != nil {
			return err
		}
	}
	h.State, h.StartedAt, h.FinishedAt, h.ExitCode = plan.Running, state.StartedAt, state.FinishedAt, state.ExitCode
	if !state.FinishedAt.IsZero() {
		h.State = plan.Exited
	}
	return nil
}

func settle(dir string, state podState) (podState, error) {
	if state.alive() {
		unix.Kill(-state.Pid, unix.SIGKILL)
	}
	state.ExitCode, state.FinishedAt = 137, state.StartedAt
	if info, err := os.Stat(filepath.Join(dir, logName)); err == nil && info.ModTime().After(state.FinishedAt) {
		state.FinishedAt = info.ModTime().UTC()
	}
	return state, writeState(dir, state)
}

// shimAlive asks the kernel: a pipe without a writer is at its end.
func shimAlive(dir string) bool {
	fd, err := unix.Open(filepath.Join(dir, "alive"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var b [1]byte
	_, err = unix.Read(fd, b[:])
	return errors.Is(err, unix.EAGAIN)
}

// alive says whether the pod's first process still exists.
func (s podState) alive() bool {
	born, err := bornAt(s.Pid)
	return err == nil && s.Pid > 0 && born == s.Born && s.Boot == bootID()
}

// bornAt is field 22 of /proc/PID/stat; the second field may contain anything, so count from its closing bracket.
func bornAt(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("exec: process: stat of %d", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// Create unpacks the image into a folder of its own and writes down what to run. It needs no GPU's device: real GPUs are
// for engines that can keep them apart.
func (p *Process) Create(ctx context.Context, c plan.Config) (string, error) {
	if len(c.Devices) > 0 {
		return "", &Fault{Code: CodeGPU, Reason: "plain processes can have simulated GPUs only: real ones need Docker"}
	}
	config, err := p.imageConfig(c.Image)
	if err != nil {
		return "", err
	}
	start, err := strconv.ParseUint(c.Labels[plan.LabelStart], 10, 32)
	if err != nil {
		return "", fmt.Errorf("exec: process: start label %q", c.Labels[plan.LabelStart])
	}
	cmd := c.Cmd
	if len(cmd) == 0 {
		cmd = config.Cmd
	}
	spec := podSpec{Home: c.Labels[plan.LabelHome], Lease: c.Labels[plan.LabelLease], Start: uint32(start), Chroot: p.chroot, Grace: c.Labels[plan.LabelGrace],
		Argv: slices.Concat(config.Entrypoint, cmd), Env: mergeEnv(config.Env, c.Env), Dir: path.Clean("/" + config.WorkingDir)}
	if p.owner {
		spec.User = config.User
	}
	if len(spec.Argv) == 0 {
		return "", &Fault{Code: CodeBadCommand, Reason: "no command specified, and the image has none"}
	}
	if c.Volume != nil {
		spec.Volume, spec.Target = filepath.Join(p.volumeDir(c.Volume.Name), "data"), c.Volume.Target
		if err := p.createVolume(c.Volume.Name, volumeSpec{Home: spec.Home, Lease: spec.Lease}); err != nil {
			return "", diskFault(err)
		}
	}
	id, err := p.createPod(ctx, c, spec)
	return id, diskFault(err)
}

// createPod builds the folder elsewhere and moves it into place, so that a pod's folder is whole or not there.
func (p *Process) createPod(ctx context.Context, c plan.Config, spec podSpec) (id string, err error) {
	tmp, err := os.MkdirTemp(filepath.Join(p.root, "tmp"), "pod-")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	rootfs := filepath.Join(tmp, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		return "", err
	}
	if err := p.unpackImage(ctx, c.Image, rootfs); err != nil {
		return "", err
	}
	if err := furnish(rootfs, &spec); err != nil {
		return "", err
	}
	if err := unix.Mkfifo(filepath.Join(tmp, "alive"), 0o600); err != nil {
		return "", err
	}
	if err := writeJSON(filepath.Join(tmp, "pod.json"), spec); err != nil {
		return "", err
	}
	id = c.Name + strings.TrimPrefix(filepath.Base(tmp), "pod")
	return id, os.Rename(tmp, p.podDir(id))
}

// furnish adds what an engine would: the working folder, name resolution, and a place for the volume.
func furnish(rootfs string, spec *podSpec) error {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll("."+spec.Dir, 0o755); err != nil {
		return &Fault{Code: CodeBadImage, Reason: "the image's working folder " + spec.Dir + " cannot be made", Err: err}
	}
	if _, err := root.Stat("etc/resolv.conf"); err != nil {
		if b, err := os.ReadFile("/etc/resolv.conf"); err == nil && root.MkdirAll("etc", 0o755) == nil {
			root.WriteFile("etc/resolv.conf", b, 0o644)
		}
	}
	if spec.Volume == "" {
		return nil
	}
	if spec.Chroot {
		return root.MkdirAll("."+spec.Target, 0o755)
	}
	spec.Env = mergeEnv(spec.Env, []string{"SOUK_VOLUME=" + spec.Volume})
	if err := root.MkdirAll("."+path.Dir(spec.Target), 0o755); err != nil {
		return err
	}
	if err := root.RemoveAll("." + spec.Target); err != nil {
		return err
	}
	return root.Symlink(spec.Volume, "."+spec.Target)
}

// createVolume makes the volume, or finds it. Its owner is written down before it can hold data.
func (p *Process) createVolume(name string, spec volumeSpec) error {
	dir := p.volumeDir(name)
	data, about := filepath.Join(dir, "data"), filepath.Join(dir, "volume.json")
	var owner volumeSpec
	switch err := readJSON(about, &owner); {
	case err == nil && owner != spec:
		return foreignVolume(name)
	case err == nil:
		return os.MkdirAll(data, 0o777)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("exec: process: volume %s: %w", name, err)
	}
	if _, err := os.Lstat(data); err == nil {
		return foreignVolume(name)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := writeJSON(about, spec); err != nil {
		return err
	}
	return os.Mkdir(data, 0o777)
}

// HowToRemove says how a person removes a volume.
func (p *Process) HowToRemove(volume string) string { return "rm -r " + p.volumeDir(volume) }

// Start starts a shim and waits until it has started the pod, or could not.
func (p *Process) Start(ctx context.Context, id string) error {
	dir := p.podDir(id)
	var spec podSpec
	if err := readJSON(filepath.Join(dir, "pod.json"), &spec); err != nil {
		return fmt.Errorf("exec: process: start: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("exec: process: start: %w", err)
	}
	defer r.Close()
	shim := osexec.Command(p.shimExec, ShimCommand, dir)
	shim.Env = []string{"PATH=" + os.Getenv("PATH")}
	shim.ExtraFiles = []*os.File{w}
	shim.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if spec.Chroot {
		shim.SysProcAttr.Cloneflags = unix.CLONE_NEWNS // its mounts are its own, and end with it
	}
	err = shim.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("exec: process: start shim: %w", err)
	}
	go shim.Wait() // the shim lives as long as the pod, and somebody has to reap it
	if until, ok := ctx.Deadline(); ok {
		r.SetReadDeadline(until)
	}
	var res shimResult
	if err := json.NewDecoder(r).Decode(&res); err != nil {
		return fmt.Errorf("exec: process: the shim said nothing: %w", err)
	}
	if res.Code != "" {
		return &Fault{Code: res.Code, Reason: res.Reason}
	}
	p.changed(spec.Home, spec.Lease, id)
	return nil
}

// Signal signals the pod's process group. The shim ends what has left it.
func (p *Process) Signal(ctx context.Context, id string, kill bool) error {
	state, err := readState(p.podDir(id))
	if err != nil || !state.FinishedAt.IsZero() || !state.alive() {
		return nil
	}
	signal := unix.SIGTERM
	if kill {
		signal = unix.SIGKILL
	}
	if err := unix.Kill(-state.Pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("exec: process: signal: %w", err)
	}
	return nil
}

// Remove removes a pod's folder, after its processes, or a volume's.
func (p *Process) Remove(ctx context.Context, h plan.Have) error {
	dir := p.volumeDir(h.ID)
	if h.Object == plan.Container {
		dir = p.podDir(h.ID)
		if err := p.Signal(ctx, h.ID, true); err != nil {
			return err
		}
		if err := awaitShim(ctx, dir); err != nil {
			return err
		}
	}
	trash, err := os.MkdirTemp(filepath.Join(p.root, "tmp"), "trash-")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(trash, "x")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if h.Object == plan.Container {
		p.gone(h.Lease)
	}
	return os.RemoveAll(trash)
}

// awaitShim returns when no shim of this pod is left.
func awaitShim(ctx context.Context, dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "alive"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var b [1]byte
	if _, err := f.Read(b[:]); err != nil && !errors.Is(err, io.EOF) {
		return errors.Join(ctx.Err(), err)
	}
	return nil
}

// Logs reads what the shim kept.
func (p *Process) Logs(ctx context.Context, id string, o LogOptions, stdout, stderr io.Writer) error {
	dir := p.podDir(id)
	if _, err := os.Stat(dir); err != nil {
		return ErrNoRun
	}
	return copyLog(ctx, dir, o, func() bool { return shimAlive(dir) }, stdout, stderr)
}

// processWatch is one Watch: a goroutine for each pod waits for the end of its shim.
type processWatch struct {
	home    string
	ctx     context.Context
	wg      sync.WaitGroup
	changed func(lease string)
}

// Watch waits for the ends of all pods that run, and hears of what is started and removed through this Process.
func (p *Process) Watch(ctx context.Context, home string, ready func(), changed func(lease string)) error {
	w := &processWatch{home: home, ctx: ctx, changed: changed}
	p.mu.Lock()
	p.watchers[w] = true
	p.mu.Unlock()
	have, err := p.List(ctx, home, "")
	for _, h := range have {
		if h.Object == plan.Container && h.State == plan.Running {
			p.follow(w, h.Lease, h.ID)
		}
	}
	if err == nil {
		ready()
		<-ctx.Done()
		err = ctx.Err()
	}
	p.mu.Lock()
	delete(p.watchers, w)
	p.mu.Unlock()
	w.wg.Wait()
	return err
}

// follow tells the watch when the pod's shim ends. Two for one pod do no harm: a change is a hint.
func (p *Process) follow(w *processWatch, lease, id string) {
	w.wg.Go(func() {
		if awaitShim(w.ctx, p.podDir(id)) == nil {
			w.changed(lease)
		}
	})
}

func (p *Process) changed(home, lease, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.watchers {
		if w.home == home && w.ctx.Err() == nil {
			p.follow(w, lease, id)
		}
	}
}

func (p *Process) gone(lease string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.watchers {
		w.changed(lease)
	}
}

// mergeEnv is base with the names of over replaced, each name once.
func mergeEnv(base, over []string) []string {
	index := map[string]int{}
	var env []string
	for _, e := range slices.Concat(base, over) {
		k, _, _ := strings.Cut(e, "=")
		if i, ok := index[k]; ok {
			env[i] = e
			continue
		}
		index[k] = len(env)
		env = append(env, e)
	}
	return env
}

func readState(dir string) (s podState, err error) {
	err = readJSON(filepath.Join(dir, "state.json"), &s)
	return s, err
}

func writeState(dir string, s podState) error { return writeJSON(filepath.Join(dir, "state.json"), s) }

func readJSON(name string, v any) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// writeJSON replaces a file as a whole.
func writeJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func diskFault(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return &Fault{Code: CodeDisk, Reason: "the host's disk is full", Err: err}
	}
	return err
}

var _ Runtime = (*Process)(nil)
