//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// capabilities are the only ones that a pod has, by their numbers in linux/capability.h.
const capabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID | 1<<unix.CAP_KILL |
	1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_AUDIT_WRITE

// errBlocked is an attempt's own word for: it did not get through.
var errBlocked = errors.New("blocked")

// beyond is how a call fails that was let in and had nothing sensible to do there: its permission was given.
func beyond(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EAFNOSUPPORT),
		errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return err
	}
	return nil
}

// attempts are what a pod must not be able to do. Numbers of CVEs name what an attempt has the shape of.
var attempts = []attempt{
	// mounts and namespaces
	{"mount a tmpfs", func() error { return mount("none", "tmpfs", 0, "") }},
	{"mount proc anew, without masks", func() error { return mount("proc", "proc", 0, "") }},
	{"mount sysfs anew", func() error { return mount("sysfs", "sysfs", 0, "") }},
	{"mount a cgroup hierarchy", func() error {
		if mount("cgroup", "cgroup", 0, "memory") == nil {
			return nil
		}
		return mount("cgroup2", "cgroup2", 0, "")
	}},
	{"bind the root elsewhere", func() error { return mount("/", "", unix.MS_BIND, "") }},
	{"make /proc/sys writable", func() error { return unix.Mount("none", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT, "") }},
	{"take the mask off /proc/kcore", func() error { return unix.Unmount("/proc/kcore", unix.MNT_DETACH) }},
	{"the new mount API", func() error { return call(unix.SYS_FSOPEN, str("tmpfs"), 0) }},
	{"open_tree of the root", func() error { return call(unix.SYS_OPEN_TREE, ^uintptr(99), str("/"), unix.OPEN_TREE_CLONE) }},
	{"pivot_root", func() error { return beyond(unix.PivotRoot("/tmp", "/tmp")) }},
	{"a user namespace", func() error { return beyond(unix.Unshare(unix.CLONE_NEWUSER)) }},
	{"a mount namespace", func() error { return unix.Unshare(unix.CLONE_NEWNS) }},
	{"a user namespace by clone", func() error {
		p, err := os.StartProcess("/proc/self/exe", []string{"escapee", "whoami"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}})
		if err == nil {
			p.Wait()
		}
		return err
	}},
	{"join a namespace", func() error {
		f, err := os.Open("/proc/1/ns/net")
		if err != nil {
			return err
		}
		return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
	}},
	{"a file by its handle (shocker)", func() error {
		return beyond(call(unix.SYS_OPEN_BY_HANDLE_AT, ^uintptr(99), ptr(&[16]byte{8, 0, 0, 0, 1}), 0))
	}},

	// the kernel's larger doors
	{"keyctl", func() error { return call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(1), 1) }},
	{"add_key", func() error { return call(unix.SYS_ADD_KEY, str("user"), str("souk"), str("x"), 1, ^uintptr(1)) }},
	{"bpf", func() error {
		return call(unix.SYS_BPF, unix.BPF_MAP_CREATE, ptr(&[18]uint32{unix.BPF_MAP_TYPE_ARRAY, 4, 4, 1}), 72)
	}},
	{"perf_event_open", func() error {
		_, err := unix.PerfEventOpen(&unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: unix.PERF_ATTR_SIZE_VER0}, -1, 0, -1, 0)
		return err
	}},
	{"userfaultfd", func() error { return call(unix.SYS_USERFAULTFD, 0) }},
	{"io_uring", func() error { return call(unix.SYS_IO_URING_SETUP, 1, ptr(&[30]uint32{})) }},
	{"fanotify", func() error { return call(unix.SYS_FANOTIFY_INIT, 0, 0) }},
	{"ASLR off", func() error { return call(unix.SYS_PERSONALITY, 0x0040000) }},
	{"compare another's kernel objects", func() error { return call(unix.SYS_KCMP, 1, uintptr(os.Getpid()), 1) }},
	{"the cipher API (CVE-2026-31431)", func() error { return socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0) }},
	{"sockets by 32-bit socketcall", func() error { return socketcall(unix.AF_INET, unix.SOCK_STREAM) }},
	{"the cipher API by 32-bit socketcall", func() error { return socketcall(unix.AF_ALG, unix.SOCK_SEQPACKET) }},
	{"packets on the wire", func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0x0300) }},
	{"raw ICMP", func() error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) }},
	{"sockets to the hypervisor", func() error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) }},
	{"change the network", func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		r, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFMTU, r); err != nil {
			return err
		}
		return unix.IoctlIfreq(fd, unix.SIOCSIFMTU, r)
	}},
	{"read the kernel's log", func() error { return call(unix.SYS_SYSLOG, 3, ptr(&[64]byte{}), 64) }},
	{"load a module", func() error { return beyond(call(unix.SYS_INIT_MODULE, ptr(&[1]byte{}), 1, str(""))) }},
	{"unload a module", func() error { return beyond(call(unix.SYS_DELETE_MODULE, str("no_such_module"), unix.O_NONBLOCK)) }},
	{"another kernel", func() error { return beyond(call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0xffff)) }},
	{"reboot", func() error { return beyond(call(unix.SYS_REBOOT, 1, 2, 3, 0)) }},
	{"swap", func() error { return beyond(call(unix.SYS_SWAPON, str("/no/such/file"), 0)) }},
	{"accounting", func() error { return beyond(call(unix.SYS_ACCT, str("/no/such/file"))) }},
	{"the clock", func() error {
		var t unix.Timex
		if _, err := unix.Adjtimex(&t); err != nil {
			return err
		}
		t.Modes = unix.ADJ_STATUS
		_, err := unix.Adjtimex(&t)
		return err
	}},
	{"the host's name", func() error {
		name, _ := os.Hostname()
		return unix.Sethostname([]byte(name))
	}},
	{"ports of the machine", ports},
	{"quotas", func() error { return beyond(call(unix.SYS_QUOTACTL, 0x800001<<8, str("/dev/none"), 0, 0)) }},

	// files of the kernel; to open them would be enough
	{"sysrq", write("/proc/sysrq-trigger")},
	{"the kernel's memory as a core", read("/proc/kcore")},
	{"core_pattern", write("/proc/sys/kernel/core_pattern")},
	{"the loader of modules", write("/proc/sys/kernel/modprobe")},
	{"overcommit", write("/proc/sys/vm/overcommit_memory")},
	{"forwarding", write("/proc/sys/net/ipv4/ip_forward")},
	{"binfmt_misc", write("/proc/sys/fs/binfmt_misc/register")},
	{"uevent_helper", write("/sys/kernel/uevent_helper")},
	{"sleep of the machine", write("/sys/power/state")},
	{"release_agent", func() error {
		return some("/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/*/release_agent", "/sys/fs/cgroup/*/*/release_agent")
	}},
	{"its own limits", func() error {
		return some("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/pids/pids.max")
	}},
	{"its own devices", func() error { return some("/sys/fs/cgroup/devices/devices.allow") }},
	{"timers of everybody", read("/proc/timer_list")},
	{"keys of everybody", read("/proc/keys")},
	{"interrupts of the machine", write("/proc/irq/default_smp_affinity")},
	{"firmware", func() error { return list("/sys/firmware") }},

	// devices
	{"/dev/mem", read("/dev/mem")},
	{"/dev/kmsg", read("/dev/kmsg")},
	{"a disk, by mknod", func() error { return device(unix.S_IFBLK, 254, 0) }},
	{"another disk, by mknod", func() error { return device(unix.S_IFBLK, 8, 0) }},
	{"memory, by mknod", func() error { return device(unix.S_IFCHR, 1, 1) }},
	{"FUSE, by mknod", func() error { return device(unix.S_IFCHR, 10, 229) }},
	{"a loop device", func() error { return device(unix.S_IFCHR, 10, 237) }},

	// who it is
	{"more capabilities than its list", func() error {
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
			v, err := strconv.ParseUint(status(set), 16, 64)
			if err != nil {
				return err
			}
			if v&^uint64(capabilities) != 0 {
				return nil
			}
		}
		return errBlocked
	}},
	{"gain a capability", func() error {
		head, data := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
		if err := unix.Capget(&head, &data[0]); err != nil {
			return err
		}
		data[0].Effective |= 1 << unix.CAP_SYS_ADMIN
		data[0].Permitted |= 1 << unix.CAP_SYS_ADMIN
		return unix.Capset(&head, &data[0])
	}},
	{"privileges by exec", func() error { return differs(status("NoNewPrivs"), "1") }},
	{"no filter of calls", func() error { return differs(status("Seccomp"), "2") }},
	{"root by a set-uid program", func() error {
		b, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			return err
		}
		const at = "/tmp/set-uid"
		if err := errors.Join(os.WriteFile(at, b, 0o755), os.Chown(at, 0, 0), unix.Chmod(at, 0o4755)); err != nil {
			return err
		}
		out, err := program(5*time.Second, at, &syscall.Credential{Uid: 1000, Gid: 1000}, "whoami")
		if out != "0" {
			return fmt.Errorf("it is %q, %v", out, err)
		}
		return nil
	}},
	{"never the one to be killed", func() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) }},
	{"ahead of everybody", func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -20) }},
	{"real time", func() error { return call(unix.SYS_SCHED_SETSCHEDULER, 0, 1, ptr(&[1]uint32{1})) }},
	{"first at the disk", func() error { return call(unix.SYS_IOPRIO_SET, 1, 0, 1<<13) }},
	{"more open files than its limit", func() error {
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			return err
		}
		if l.Max > 65536 {
			return nil
		}
		l.Max *= 2
		return unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
	}},
	{"more shared memory than its limit", func() error {
		var st unix.Statfs_t
		if err := unix.Statfs("/dev/shm", &st); err != nil {
			return err
		}
		f, err := os.Create("/dev/shm/more")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		return unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Blocks)*st.Bsize+1<<20)
	}},

	// the host
	{"the engine's socket", func() error {
		for _, s := range []string{"/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/host/docker.sock"} {
			if _, err := os.Stat(s); err == nil {
				return nil
			}
		}
		return errBlocked
	}},
	{"processes of the host", func() error {
		b, err := os.ReadFile("/proc/2/comm")
		if err == nil && strings.HasPrefix(string(b), "kthreadd") {
			return nil
		}
		return errBlocked
	}},
	{"the root of process 1", func() error {
		var ours, first unix.Stat_t
		if err := errors.Join(unix.Stat("/", &ours), unix.Stat("/proc/1/root/", &first)); err != nil {
			return err
		}
		if ours.Dev == first.Dev && ours.Ino == first.Ino {
			return errBlocked
		}
		return nil
	}},
	{"folders that were left open (CVE-2024-21626)", func() error {
		links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
		for _, l := range links {
			to, err := os.Readlink(l)
			if err != nil || !strings.HasPrefix(to, "/") {
				continue
			}
			if info, err := os.Stat(l); err == nil && info.IsDir() {
				if outside(l) {
					return nil
				}
			}
		}
		return errBlocked
	}},
	{"out of two chroots", func() error {
		var before, after unix.Stat_t
		dir, err := os.MkdirTemp("", "jail")
		if err := errors.Join(err, unix.Stat("/", &before), unix.Chroot(dir)); err != nil {
			return err
		}
		for range 64 {
			unix.Chdir("..")
		}
		if err := errors.Join(unix.Chroot("."), unix.Stat("/", &after)); err != nil {
			return err
		}
		if before.Dev == after.Dev && before.Ino == after.Ino {
			return errBlocked
		}
		return nil
	}},
	{"the host's disk in its mounts", func() error {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		for l := range strings.Lines(string(b)) {
			w := strings.Fields(l)
			switch at := w[4]; {
			case at == "/etc/hosts", at == "/etc/hostname", at == "/etc/resolv.conf", at == "/sbin/docker-init", at == os.Getenv("SOUK_VOLUME"):
			case strings.Contains(l, " - ext4 ") || strings.Contains(l, " - xfs ") || strings.Contains(l, " - btrfs "):
				return nil
			}
		}
		return errBlocked
	}},
}

// inside is for images whose working folder is a trick.
func inside() {
	if outside(".") {
		fmt.Println("ok outside")
		return
	}
	fmt.Println("no inside")
}

// outside says whether going up from a folder ends somewhere else than at the pod's root.
func outside(dir string) bool {
	var root, top unix.Stat_t
	up := dir + strings.Repeat("/..", 64)
	return unix.Stat("/", &root) == nil && unix.Stat(up, &top) == nil && (root.Dev != top.Dev || root.Ino != top.Ino)
}

func call(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

func str(s string) uintptr {
	b, err := unix.BytePtrFromString(s)
	check(err)
	return ptr(b)
}

var held []any // what the kernel was given pointers to

func ptr[T any](p *T) uintptr {
	held = append(held, p)
	return uintptr(unsafe.Pointer(p))
}

func mount(source, kind string, flags uintptr, data string) error {
	at, err := os.MkdirTemp("", "mount")
	if err != nil {
		return err
	}
	if err := unix.Mount(source, at, kind, flags, data); err != nil {
		return err
	}
	return unix.Unmount(at, unix.MNT_DETACH)
}

func socket(family, kind, proto int) error {
	fd, err := unix.Socket(family, kind, proto)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func write(path string) func() error {
	return func() error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			f.Close()
		}
		return err
	}
}

// read wants a byte: a masked file opens, and is empty.
func read(path string) func() error {
	return func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		n, err := unix.Read(fd, make([]byte, 4096))
		if err == nil && n == 0 {
			err = io.EOF
		}
		return err
	}
}

func list(path string) error {
	l, err := os.ReadDir(path)
	if err == nil && len(l) == 0 {
		err = errBlocked
	}
	return err
}

// some opens some file of these patterns for writing.
func some(patterns ...string) error {
	for _, p := range patterns {
		files, _ := filepath.Glob(p)
		for _, f := range files {
			if write(f)() == nil {
				return nil
			}
		}
	}
	return errBlocked
}

func device(kind uint32, major, minor uint32) error {
	at := fmt.Sprintf("/tmp/device-%d-%d", major, minor)
	os.Remove(at)
	if err := unix.Mknod(at, kind|0o600, int(unix.Mkdev(major, minor))); err != nil {
		return err
	}
	fd, err := unix.Open(at, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		unix.Close(fd)
	}
	return beyond(err)
}

func status(field string) string {
	b, err := os.ReadFile("/proc/self/status")
	check(err)
	for l := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(l, ":"); ok && k == field {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func differs(got, want string) error {
	if got == want {
		return errBlocked
	}
	return nil
}
