package main

// A scratch computer for tests of the real setup program: a Debian in a folder of
// memory, in namespaces of its own, with an ordinary user ann. Nothing in it is
// played, but two things: it has no systemd, and where no password dialog can be
// shown sudo lets ann do everything without one.

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// buildsVar names a folder that keeps what the tests build, for who runs them often.
const buildsVar = "HXEN_SETUP_BUILDS"

// setupVar asks for the tests that take minutes.
const setupVar = "HXEN_SETUP"

func TestMain(m *testing.M) {
	code := m.Run()
	if builds.dir != "" && os.Getenv(buildsVar) == "" {
		os.RemoveAll(builds.dir)
	}
	os.Exit(code)
}

func long(t *testing.T) {
	t.Helper()
	if os.Getenv(setupVar) == "" {
		t.Skip("make test-setup runs it: it takes minutes")
	}
	hvtest.Require(t, "images")
	if os.Getuid() != 0 {
		t.Skip("a scratch computer needs root")
	}
}

// builds are setup programs as "make dist" makes them, two versions and a package.
var builds struct {
	sync.Mutex
	dir string
}

// build returns the folder with the parts of a version.
func build(t *testing.T, version string, stamp int, parts string) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if builds.dir == "" {
		builds.dir = os.Getenv(buildsVar)
	}
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "hxen-setup-test-")
		if err != nil {
			t.Fatal(err)
		}
		builds.dir = dir
	}
	dir := filepath.Join(builds.dir, version+"-"+strings.ReplaceAll(parts, " ", "-"))
	if _, err := os.Stat(filepath.Join(dir, "SHA256SUMS")); err == nil {
		return dir
	}
	cmd := exec.Command("../../packaging/dist", version, dir, parts)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.Itoa(stamp), "GOFLAGS=-trimpath -buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dist: %v\n%s", err, out)
	}
	return dir
}

const setupName = "hxen-setup-linux-amd64"

func older(t *testing.T) string {
	return filepath.Join(build(t, "v1.0.0", 1700000000, "setup"), setupName)
}
func newer(t *testing.T) string {
	return filepath.Join(build(t, "v1.1.0", 1710000000, "setup"), setupName)
}

// What Debian's packages a computer has: without OpenGL, or with what a desktop has.
const (
	plainPackages   = "sudo,passwd,adduser,procps"
	desktopPackages = plainPackages + ",libgl1,libgl1-mesa-dri,libwayland-client0,libx11-6,libx11-xcb1,libxkbcommon0," +
		"libxcursor1,libxrandr2,libxinerama1,libxi6,libxxf86vm1,shared-mime-info,desktop-file-utils"
)

// debian makes the computer's files, once: they are kept in the user's cache.
func debian(t *testing.T, packages string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(packages))
	name := filepath.Join(cache, "hxen", fmt.Sprintf("setup-%x.tar", sum[:4]))
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(t.TempDir(), "tree.tar")
	for _, cmd := range [][]string{
		{"mmdebstrap", "--quiet", "--variant=minbase", "--include=" + packages, "bookworm", tmp},
		{"cp", tmp, name + ".new"}, {"mv", name + ".new", name},
	} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd[0], err, out)
		}
	}
	return name
}

// machine is one scratch computer.
type machine struct {
	t    *testing.T
	root string // its files, as this process sees them
	pid  int    // its first process
	at   string // its root folder in its namespace
	env  []string
}

// makeRoot is run in the computer's own namespaces; $1 is its root, $2 its files.
const makeRoot = `
mount -t tmpfs -o mode=755 tmpfs "$1"
tar -C "$1" -xf "$2" --exclude='./dev/*'
cd "$1"
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs dev
mknod -m 666 dev/null c 1 3; mknod -m 666 dev/zero c 1 5; mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8; mknod -m 666 dev/urandom c 1 9; mknod -m 666 dev/tty c 5 0
mkdir dev/shm dev/pts; chmod 1777 dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts; ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mkdir -p tmp/.X11-unix /tmp/.X11-unix; mount --bind /tmp/.X11-unix tmp/.X11-unix
cp /etc/resolv.conf etc/resolv.conf
chroot . groupadd --system kvm
mknod -m 660 dev/kvm c 10 232; chroot . chgrp kvm /dev/kvm
chroot . useradd -m -s /bin/bash ann
echo 'ann ALL=(ALL) NOPASSWD: ALL' >etc/sudoers.d/ann
printf '#!/bin/sh\nexit 101\n' >usr/sbin/policy-rc.d; chmod 755 usr/sbin/policy-rc.d
mkdir -p -m 700 run/user/1000; chroot . chown ann: /run/user/1000
echo ready
exec sleep infinity`

func newMachine(t *testing.T, packages string) *machine {
	t.Helper()
	long(t)
	tar := debian(t, packages)
	m := &machine{t: t, at: t.TempDir()}
	cmd := exec.Command("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--propagation", "private",
		"sh", "-ec", makeRoot, "sh", m.at, tar)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the computer does not come up: %q, %v\n%s", line, err, said.String())
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if m.pid, err = strconv.Atoi(strings.Fields(string(b) + " 0")[0]); err != nil {
		t.Fatal(err)
	}
	m.root = fmt.Sprintf("/proc/%d/root%s", m.pid, m.at)
	return m
}

// command is a shell command of a user.
func (m *machine) command(who, line string) *exec.Cmd {
	home := "/home/" + who
	if who == "root" {
		home = "/root"
	}
	cmd := exec.Command("nsenter", "-t", strconv.Itoa(m.pid), "-m", "-p", "-i", "-u", "--", "chroot", "--userspec="+who, m.at, "/usr/bin/env", "-i",
		"HOME="+home, "USER="+who, "LOGNAME="+who, "LANG=C.UTF-8", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
	if who != "root" {
		cmd.Args = append(cmd.Args, "XDG_RUNTIME_DIR=/run/user/1000")
	}
	cmd.Args = append(append(cmd.Args, m.env...), "sh", "-c", "cd && "+line)
	return cmd
}

// try runs a command and returns what it printed and its exit code.
func (m *machine) try(who, line string) (string, int) {
	m.t.Helper()
	out, err := m.command(who, line).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatalf("%s: %v", line, err)
	}
	if exit != nil {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

// run is try for what must succeed.
func (m *machine) run(who, line string) string {
	m.t.Helper()
	out, code := m.try(who, line)
	if code != 0 {
		m.t.Fatalf("%s: %s: code %d\n%s", who, line, code, out)
	}
	return out
}

// put gives ann a program.
func (m *machine) put(program, name string) {
	m.t.Helper()
	if out, err := exec.Command("install", "-m", "755", program, filepath.Join(m.root, "home/ann", name)).CombinedOutput(); err != nil {
		m.t.Fatalf("%s", out)
	}
}

// unstable are folders in which an installation is not looked for: what package
// managers keep for themselves, and what does not outlive a boot.
var unstable = []string{"proc", "sys", "dev", "tmp", "run", "var/cache", "var/log", "var/lib/apt", "var/lib/dpkg", "etc/ld.so.cache", "var/cache/ldconfig",
	"root", "home/ann/.cache", "home/ann/.config",
	"etc/group-", "etc/gshadow-", "etc/passwd-", "etc/shadow-"} // what they were before the last change

// files describes all files: mode, owner, and content or target.
func (m *machine) files() map[string]string {
	m.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(m.root+"/", func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(m.root, path)
		if slices.Contains(unstable, name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		st, err := os.Lstat(path)
		if err != nil {
			return nil
		}
		sys := st.Sys().(*syscall.Stat_t)
		what := fmt.Sprintf("%v %d:%d", st.Mode(), sys.Uid, sys.Gid)
		switch {
		case st.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(b)
			what += fmt.Sprintf(" %d %x", len(b), sum[:6])
		case st.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			what += " -> " + target
		}
		all[name] = what
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return all
}

// differences lists what is not the same, without what may be so.
func differences(before, after map[string]string, may func(name string) bool) (out []string) {
	for name, was := range before {
		if is, ok := after[name]; !ok {
			out = append(out, "- "+name)
		} else if is != was && !may(name) {
			out = append(out, "* "+name+": "+was+" is now "+is)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok && !may(name) {
			out = append(out, "+ "+name)
		}
	}
	slices.Sort(out)
	return out
}

// never is for differences when nothing may be different.
func never(string) bool { return false }

// packaged reports what files the distribution's packages own, with their folders.
func (m *machine) packaged() func(name string) bool {
	m.t.Helper()
	owned := map[string]bool{}
	for line := range strings.Lines(m.run("root", "cat /var/lib/dpkg/info/*.list")) {
		name := strings.TrimPrefix(strings.TrimSpace(line), "/")
		// Merged /usr: packages name some of their files by the old folders.
		for _, n := range []string{name, "usr/" + name} {
			owned[n] = true
		}
	}
	return func(name string) bool { return owned[name] || strings.Contains(name, "__pycache__") }
}

// guard is how long something may take before it counts as hung.
const guard = 10 * time.Minute
