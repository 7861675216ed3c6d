package exec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	osexec "os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// shimResult is what a shim says to whoever started it, once.
type shimResult struct {
	Code   Code   `json:"code,omitempty"` // empty: the pod runs, or has run already
	Reason string `json:"reason,omitempty"`
}

// Shim is the hidden command between a node and a plain process: args is the pod's folder. It starts the pod, says on file
// 3 whether that worked, keeps the pod's output, ends what the pod leaves behind, and writes down how it ended. It needs
// nothing of the node's, so it outlives it. The result is an exit code.
func Shim(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "souk "+ShimCommand+": started by souk itself, for plain-process pods")
		return 2
	}
	// The pod is killed by the kernel if the thread that started it ends (Pdeathsig): this one stays to the end.
	runtime.LockOSThread()
	report := os.NewFile(3, "report")
	unix.CloseOnExec(3)
	say := func(r shimResult) {
		json.NewEncoder(report).Encode(r)
		report.Close()
	}
	s, fault := startShim(args[0])
	if fault != nil {
		say(shimResult{Code: fault.Code, Reason: fault.Reason})
		return 1
	}
	say(shimResult{})
	if s == nil {
		return 0
	}
	return s.wait()
}

// A shim is a pod that runs.
type shim struct {
	dir   string
	cmd   *osexec.Cmd
	state podState
	log   *logWriter
	alive *os.File
	lock  *os.File
	out   sync.WaitGroup
	child chan os.Signal
}

// startShim is nil without a fault if another shim has started this pod.
func startShim(dir string) (*shim, *Fault) {
	engine := func(doing string, err error) (*shim, *Fault) {
		return nil, &Fault{Code: CodeEngine, Reason: doing + ": " + err.Error(), Err: err}
	}
	s := &shim{dir: dir, child: make(chan os.Signal, 1)}
	var spec podSpec
	if err := readJSON(filepath.Join(dir, "pod.json"), &spec); err != nil {
		return engine("read the pod", err)
	}
	var err error
	if s.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return engine("lock the pod", err)
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, nil
	}
	if _, err := readState(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	// Opened for both ways, a pipe does not wait for its other end.
	if s.alive, err = os.OpenFile(filepath.Join(dir, "alive"), os.O_RDWR, 0); err != nil {
		return engine("open the pipe", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return engine("become the reaper", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return engine("drop privileges", err)
	}
	// Caught, not ignored: what is ignored would be ignored by the pod too.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	signal.Notify(s.child, unix.SIGCHLD)
	if s.log, err = openLog(dir); err != nil {
		return engine("open the log", err)
	}
	if fault := s.start(spec); fault != nil {
		return nil, fault
	}
	return s, nil
}

func (s *shim) start(spec podSpec) *Fault {
	rootfs := filepath.Join(s.dir, "rootfs")
	if spec.Chroot {
		if err := mountAll(rootfs, spec); err != nil {
			return &Fault{Code: CodeEngine, Reason: "prepare the pod's root folder: " + err.Error(), Err: err}
		}
	}
	program, err := lookup(rootfs, spec)
	if err != nil {
		return &Fault{Code: CodeBadCommand, Reason: err.Error(), Err: err}
	}
	cmd := &osexec.Cmd{Path: program, Args: spec.Argv, Env: spec.Env, Dir: spec.Dir,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}}
	if spec.Chroot {
		cmd.SysProcAttr.Chroot = rootfs
	} else {
		cmd.Path, cmd.Dir = filepath.Join(rootfs, program), filepath.Join(rootfs, spec.Dir)
	}
	if spec.User != "" {
		credential, err := user(rootfs, spec.User)
		if err != nil {
			return &Fault{Code: CodeBadImage, Reason: err.Error(), Err: err}
		}
		cmd.SysProcAttr.Credential = credential
	}
	streams, err := s.streams(cmd)
	if err != nil {
		return &Fault{Code: CodeEngine, Reason: "make pipes: " + err.Error(), Err: err}
	}
	startedAt := time.Now().UTC()
	err = cmd.Start()
	for _, f := range streams {
		f.Close()
	}
	if err != nil {
		return &Fault{Code: CodeBadCommand, Reason: fmt.Sprintf("%s: %v", spec.Argv[0], errors.Unwrap(err)), Err: err}
	}
	born, err := bornAt(cmd.Process.Pid)
	s.cmd, s.state = cmd, podState{Pid: cmd.Process.Pid, Born: born, Boot: bootID(), StartedAt: startedAt}
	if err == nil {
		err = writeState(s.dir, s.state)
	}
	if err != nil {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		return &Fault{Code: CodeEngine, Reason: "write down the start: " + err.Error(), Err: err}
	}
	return nil
}

// streams gives the pod two pipes and copies what comes out of them. It returns the ends to close once the pod has them.
func (s *shim) streams(cmd *osexec.Cmd) ([]*os.File, error) {
	var ends []*os.File
	for i, to := range []*io.Writer{&cmd.Stdout, &cmd.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return ends, err
		}
		*to = w
		ends = append(ends, w)
		s.out.Go(func() { s.log.copy(byte(i+1), r) })
	}
	return ends, nil
}

// wait is the rest of the shim's life.
func (s *shim) wait() int {
	main := s.cmd.Process.Pid
	ended := make(chan *os.ProcessState, 1)
	go func() {
		state, _ := s.cmd.Process.Wait()
		ended <- state
	}()
	var end *os.ProcessState
	for end == nil {
		select {
		case end = <-ended:
		case <-s.child:
			for _, pid := range children() {
				if pid != main {
					unix.Wait4(pid, nil, unix.WNOHANG, nil)
				}
			}
		}
	}
	s.state.FinishedAt = time.Now().UTC()
	s.state.ExitCode = exitCode(end)
	// What the pod has left behind holds its output open, and must not outlive it.
	unix.Kill(-main, unix.SIGKILL)
	for {
		for _, pid := range children() {
			unix.Kill(pid, unix.SIGKILL)
		}
		if _, err := unix.Wait4(-1, nil, 0, nil); errors.Is(err, unix.ECHILD) {
			break
		}
	}
	s.out.Wait()
	s.log.close()
	if err := writeState(s.dir, s.state); err != nil {
		return 1 // the next inspect finds a pod without shim, and settles it
	}
	return 0
}

func exitCode(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}

// children are the processes whose parent this one is: the pod's, and those that lost theirs.
func children() []int {
	var list []int
	procs, _ := os.ReadDir("/proc")
	self := strconv.Itoa(os.Getpid())
	for _, e := range procs {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) > 1 && fields[1] == self {
			list = append(list, pid)
		}
	}
	return list
}

// lookup finds the program inside the image, as a shell would, and returns its path there.
func lookup(rootfs string, spec podSpec) (string, error) {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return "", err
	}
	defer root.Close()
	name := spec.Argv[0]
	tries := []string{name}
	if !strings.Contains(name, "/") {
		tries = nil
		for dir := range strings.SplitSeq(envOf(spec.Env, "PATH"), ":") {
			tries = append(tries, path.Join("/", dir, name))
		}
	} else if !path.IsAbs(name) {
		tries = []string{path.Join(spec.Dir, name)}
	}
	for _, p := range tries {
		info, err := root.Stat("." + path.Clean(p))
		switch {
		case err != nil:
			continue
		case info.IsDir():
			err = fmt.Errorf("%s: is a folder", name)
		case info.Mode()&0o111 == 0:
			err = fmt.Errorf("%s: not executable", name)
		default:
			return path.Clean(p), nil
		}
		if len(tries) == 1 {
			return "", err
		}
	}
	return "", fmt.Errorf("%s: not found in the image", name)
}

func envOf(env []string, key string) string {
	for _, e := range env {
		if k, v, _ := strings.Cut(e, "="); k == key {
			return v
		}
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// user reads an image's USER: names or numbers, with or without a group.
func user(rootfs, spec string) (*syscall.Credential, error) {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	name, group, hasGroup := strings.Cut(spec, ":")
	uid, gid, err := identity(root, "etc/passwd", name)
	if err != nil {
		return nil, err
	}
	if hasGroup {
		if gid, _, err = identity(root, "etc/group", group); err != nil {
			return nil, err
		}
	}
	return &syscall.Credential{Uid: uid, Gid: gid}, nil
}

// identity finds a name, or a number, in a file like /etc/passwd: its third field, and its fourth if that is a number.
func identity(root *os.Root, file, name string) (id, group uint32, err error) {
	b, _ := root.ReadFile(file)
	number, numeric := parseID(name)
	for line := range strings.SplitSeq(string(b), "\n") {
		f := strings.Split(line, ":")
		if len(f) < 4 || f[0] != name && !(numeric && f[2] == name) {
			continue
		}
		if id, ok := parseID(f[2]); ok {
			group, _ := parseID(f[3])
			return id, group, nil
		}
	}
	if numeric {
		return number, 0, nil
	}
	return 0, 0, fmt.Errorf("the image names user %q, which its %s does not have", name, file)
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// devices that programs expect, and that do no harm.
var podDevices = [...]string{"null", "zero", "full", "random", "urandom", "tty"}

// mountAll gives the pod its volume, devices and /proc, in the shim's own mount namespace. Targets are opened inside the
// image's folder and mounted on through their descriptors, so that no link of the image leads a mount elsewhere.
func mountAll(rootfs string, spec podSpec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return err
	}
	defer root.Close()
	if spec.Volume != "" {
		if err := mountAt(root, spec.Target, spec.Volume, "", unix.MS_BIND); err != nil {
			return fmt.Errorf("mount the volume: %w", err)
		}
	}
	// An image may come with its own, and a container may not allow these: programs that need them will say so.
	mountAt(root, "/proc", "proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC)
	mountAt(root, "/dev/shm", "shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV)
	for _, d := range podDevices {
		if f, err := root.OpenFile("dev/"+d, os.O_CREATE|os.O_RDONLY, 0o666); err == nil {
			f.Close()
			mountFile(root, "dev/"+d, "/dev/"+d)
		}
	}
	return nil
}

func mountAt(root *os.Root, target, source, kind string, flags uintptr) error {
	if err := root.MkdirAll("."+target, 0o755); err != nil {
		return err
	}
	f, err := root.Open("." + target)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Mount(source, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), kind, flags, "")
}

func mountFile(root *os.Root, target, source string) error {
	f, err := root.Open(target)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Mount(source, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), "", unix.MS_BIND, "")
}
