package qemu

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
)

const (
	testUUID = "11111111-2222-4333-8444-555555555555"
	diskUUID = "11111111-2222-4333-8444-000000000001"
	cdUUID   = "11111111-2222-4333-8444-000000000002"
)

// testProcess is a hv.Process of os/exec.
type testProcess struct{ cmd *exec.Cmd }

func (p testProcess) PID() int    { return p.cmd.Process.Pid }
func (p testProcess) Kill() error { return p.cmd.Process.Kill() }
func (p testProcess) Wait() (int, error) {
	err := p.cmd.Wait()
	if p.cmd.ProcessState.ExitCode() >= 0 {
		return p.cmd.ProcessState.ExitCode(), nil
	}
	return -1, err
}

// lab is a guest's folder, a runtime folder and a host made of them.
type lab struct {
	host hv.Host
	pids []int
}

func newLab(t testing.TB) *lab {
	hvtest.Require(t, "qemu")
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	return labOf(t, path)
}

// labOf is a lab with the QEMU at path, which need not be there.
func labOf(t testing.TB, path string) *lab {
	run, err := os.MkdirTemp("", "hxq") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	l := &lab{}
	l.host = hv.Host{
		Dir: t.TempDir(), RunDir: run, Short: testUUID[:8],
		Log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
		QEMU:  hv.QEMUInfo{Path: path},
		Accel: []hv.AccelInfo{{Name: "kvm", Reason: "not in this test"}, {Name: "tcg", Usable: true}},
		Start: func(c hv.Command) (hv.Process, error) {
			cmd := exec.Command(c.Path, c.Args...)
			cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = c.Dir, c.Env, c.Stdout, c.Stderr, c.Files
			if err := cmd.Start(); err != nil {
				return nil, err
			}
			l.pids = append(l.pids, cmd.Process.Pid)
			return testProcess{cmd}, nil
		},
		Usage: procUsage,
	}
	return l
}

// procUsage reads Linux's proc(5).
func procUsage(pid int) (time.Duration, uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	pages, _ := strconv.ParseUint(f[21], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, pages * uint64(os.Getpagesize()), nil
}

// left lists what a guest that is gone may not leave behind.
func (l *lab) left(t *testing.T) []string {
	var out []string
	entries, err := os.ReadDir(l.host.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "qemu.caps" {
			out = append(out, e.Name())
		}
	}
	for _, pid := range l.pids {
		if p, err := os.FindProcess(pid); err == nil && p.Signal(syscall.Signal(0)) == nil {
			out = append(out, "process "+strconv.Itoa(pid))
		}
	}
	return out
}

// spec is the tiny guest.
func (l *lab) spec(t testing.TB) hv.Spec {
	disk := filepath.Join(l.host.Dir, "guest.img")
	if _, err := os.Stat(disk); err != nil {
		hvtest.GuestDisk(t, l.host.Dir)
	}
	return hv.Spec{
		Version: hv.SpecVersion, UUID: testUUID, Name: "tiny, guest=1", Type: hv.HVM, VCPUs: 1, Memory: 32 * hv.MiB,
		Disks: []hv.Disk{{UUID: diskUUID, Path: "guest.img", Format: hv.Raw, Mode: hv.ReadWrite}},
	}
}

func TestMachine(t *testing.T) {
	l := newLab(t)
	hvtest.RunMachine(t, hvtest.Rig{
		Launch: func(ctx context.Context, t *testing.T, hold bool) (hv.Machine, error) {
			host := l.host
			host.Hold = hold
			return New().Launch(ctx, l.spec(t), host)
		},
		Kill: func(t *testing.T, m hv.Machine) {
			p, err := os.FindProcess(m.Info().PID)
			if err == nil {
				err = p.Kill()
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		Left: l.left,
	})
}

// launchError launches what cannot start and returns why.
func launchError(t *testing.T, l *lab, s hv.Spec) *hv.StageError {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hvtest.Guard)
	defer cancel()
	m, err := New().Launch(ctx, s, l.host)
	if err == nil {
		_ = m.Close()
		t.Fatal("it started")
	}
	var se *hv.StageError
	if !errors.As(err, &se) {
		t.Fatalf("%T %v is no StageError", err, err)
	}
	if left := l.left(t); len(left) > 0 {
		t.Errorf("the failed launch left %q", left)
	}
	return se
}
