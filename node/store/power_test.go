//go:build linux

package store

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childUnsynced makes a child's calls to sync do nothing, and say that all is well: what such a disk loses, the campaign must
// notice.
const childUnsynced = "SOUK_STORE_TEST_UNSYNCED"

func init() { unsynced = neverSync }

// neverSync has the kernel answer fsync, fdatasync and msync of this process with success, without doing them.
func neverSync() error {
	if os.Getenv(childUnsynced) == "" {
		return nil
	}
	load := unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0} // the number of the call
	skip := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO}
	pass := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	is := func(nr uint32, hit uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: hit}
	}
	filter := []unix.SockFilter{load, is(unix.SYS_FSYNC, 3), is(unix.SYS_FDATASYNC, 2), is(unix.SYS_MSYNC, 1), pass, skip}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, no := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if no != 0 {
		return no
	}
	return nil
}

// needsRoot skips what mounts file systems where that is not allowed.
func needsRoot(t *testing.T, files ...string) {
	t.Helper()
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			t.Skipf("%s is not there", f)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("mounting wants root")
	}
}

func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := osexec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// mount mounts for the time of a test, or until the returned function is called.
func mount(t testing.TB, args ...string) (dir string, umount func()) {
	t.Helper()
	dir = t.TempDir()
	if out, err := osexec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
		t.Skipf("mount %v: %v: %s", args, err, out)
	}
	mounted := true
	umount = func() {
		if mounted {
			mounted = false
			command(t, "umount", dir)
		}
	}
	t.Cleanup(umount)
	return dir, umount
}

// powerCuts has a node commit on a disk of its own, and takes what has reached the disk at some moment for what a power cut
// would leave. It returns how many batches were acknowledged in all, how many of them were lost, and how many copies did not
// open.
func powerCuts(t *testing.T, cuts int, env ...string) (acknowledged, lost uint64, broken int) {
	image := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(192 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	command(t, "mkfs.ext4", "-q", "-F", image)
	disk, umount := mount(t, "-o", "loop,noatime", image)
	defer umount()
	home := filepath.Join(disk, "home")
	lots := rand.New(rand.NewPCG(uint64(cuts), 7))
	for range cuts {
		copied := filepath.Join(t.TempDir(), "cut")
		last := cutAt(t, home, 20+lots.IntN(800), func() { command(t, "cp", "--sparse=always", image, copied) }, env...)
		after, release := mount(t, "-o", "loop,noatime", copied)
		s, err := Open(filepath.Join(after, "home"), tiny())
		if err != nil || s.Recovery().Lost != nil {
			broken++
			t.Logf("after %d: %v", last, err)
		}
		if err == nil {
			top, _, _ := s.Guarded([]byte("bank"))
			if n := len(rows(t, s, money(0)[:1])); uint64(n) != top {
				t.Errorf("%d rows, guarded up to %d", n, top)
			}
			if top < last {
				lost += last - top
			}
			closed(t, s)
		} else {
			lost += last
		}
		acknowledged = last
		release()
		os.Remove(copied)
	}
	return acknowledged, lost, broken
}

// cutAt lets a child commit until so many are acknowledged, stops it dead, lets look at the disk, and kills it. It returns
// the last number acknowledged by then.
func cutAt(t *testing.T, home string, acks int, look func(), env ...string) (last uint64) {
	t.Helper()
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, childHome+"="+home)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 0; n < acks && lines.Scan(); n++ {
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			t.Errorf("the child says %q", lines.Text())
		}
	}
	cmd.Process.Signal(syscall.SIGSTOP)
	look()
	cmd.Process.Kill()
	cmd.Wait()
	return last
}

// TestTorturePower cuts the power: what was not synced is lost, and nothing that was acknowledged is.
func TestTorturePower(t *testing.T) {
	needsRoot(t, "/dev/loop-control", "/sbin/mkfs.ext4")
	cuts := rounds(4, 500)
	acknowledged, lost, broken := powerCuts(t, cuts)
	if lost > 0 || broken > 0 {
		t.Errorf("%d acknowledged batches lost, %d homes did not open", lost, broken)
	}
	_, without, unopened := powerCuts(t, 3, childUnsynced+"=1")
	if without == 0 && unopened == 0 {
		t.Error("with syncing turned off nothing was lost: the campaign cannot notice")
	}
	t.Logf("power: %d cuts, %d batches acknowledged, %d lost; with syncing turned off, in 3 cuts, %d lost and %d homes unopened", cuts, acknowledged, lost, without, unopened)
}
