package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
)

const (
	home   = "/tmp/guests"
	runDir = "/tmp/run"
)

// startWorker starts hxen-worker and has it launch the job's guest.
func startWorker(j Job) (*monitor, error) {
	var spec hv.Spec
	if err := json.Unmarshal(j.Spec, &spec); err != nil {
		return nil, err
	}
	dir := filepath.Join(home, spec.UUID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return nil, err
	}
	cmd := exec.Command("/bench/hxen-worker", "--dir", dir, "--run", runDir)
	cmd.Env = append(os.Environ(), "GODEBUG=disablethp=1") // as the service starts it
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(4*time.Millisecond), 0, 0, 0) // likewise
	err = cmd.Start()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
	runtime.UnlockOSThread()
	if err != nil {
		return nil, err
	}
	m := &monitor{pid: cmd.Process.Pid, end: func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.Remove(socketOf(spec)) // as it does itself at its end
	}}
	if err := m.launch(bufio.NewReader(out), spec); err != nil {
		m.end()
		return nil, err
	}
	return m, nil
}

func socketOf(spec hv.Spec) string { return filepath.Join(runDir, spec.UUID[:8]+".ctl") }

func (m *monitor) launch(said *bufio.Reader, spec hv.Spec) error {
	if line, err := said.ReadString('\n'); line != "ready\n" {
		return fmt.Errorf("the worker said %q, %v", line, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	socket := socketOf(spec)
	nc, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	c, err := control.NewConn(nc, "labbench", "test")
	if err != nil {
		return err
	}
	launch := control.Launch{Spec: spec, DomID: 1,
		Accel: []hv.AccelInfo{{Name: "kvm", Usable: true}, {Name: "tcg", Usable: true}}}
	if err := c.Call(ctx, control.VerbLaunch, launch, nil); err != nil {
		return err
	}
	if nc, err = net.Dial("unix", socket); err != nil {
		return err
	}
	m.console, err = control.DialStream(nc, "labbench", "test", control.StreamVT100)
	return err
}
