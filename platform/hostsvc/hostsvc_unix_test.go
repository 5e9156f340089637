//go:build linux || darwin

package hostsvc

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

type running struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(t *testing.T, how string) running {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+how)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return running{cmd, in, bufio.NewReader(out)}
}

func (r running) expect(t *testing.T, want string) {
	t.Helper()
	got, err := r.out.ReadString('\n')
	if strings.TrimSpace(got) != want {
		t.Fatalf("service says %q, %v; want %q", got, err, want)
	}
}

func TestSignalsLetTheServiceFinish(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			r := start(t, "finish")
			r.expect(t, "started")
			if err := r.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			r.expect(t, "stopping")
			if _, err := io.WriteString(r.in, "go on\n"); err != nil {
				t.Fatal(err)
			}
			r.expect(t, "finished")
			r.expect(t, "returned <nil>")
			if err := r.Wait(); err != nil {
				t.Errorf("exit: %v", err)
			}
		})
	}
}

func TestSecondSignalEnds(t *testing.T) {
	r := start(t, "hang")
	r.expect(t, "started")
	// The first one's effect is seen before the default one is back, so several
	// may be needed; each is sent only while the service still runs.
	if err := r.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	r.expect(t, "stopping")
	done := make(chan error, 1)
	go func() { done <- r.Wait() }()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		_ = r.Process.Signal(syscall.SIGINT)
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "interrupt") {
				t.Errorf("exit: %v", err)
			}
			return
		case <-t.Context().Done():
			t.Fatal("the service still runs")
		case <-again.C:
		}
	}
}
