//go:build linux || darwin

package proc

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The whole point of the lock: it is held while the worker or its QEMU lives.
func TestChildKeepsTheLock(t *testing.T) {
	path := lockPath(t)
	p, g := parent(t, "detached", path)
	held(t, path, true)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	held(t, path, true)
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := WaitFree(t.Context(), path); err != nil {
		t.Fatal(err)
	}
}

func TestCloseLeavesTheChildsHold(t *testing.T) {
	path := lockPath(t)
	l, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	c := self("stay")
	c.ExtraFiles = []*os.File{nil, l.File()}
	k := startChild(t, c)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	held(t, path, true)
	if err := k.Kill(); err != nil {
		t.Fatal(err)
	}
	held(t, path, false)
}

// A lock file that is replaced under the taker must not give two holders.
func TestReplacedLockFile(t *testing.T) {
	path := lockPath(t)
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			os.Remove(path)
		}
	}()
	for range 300 {
		l, err := TryLock(path)
		if err != nil {
			t.Error(err)
			break
		}
		l.Close()
	}
	stop.Store(true)
	<-done
	l, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	held(t, path, true)
}

func TestDetachedHasItsOwnSession(t *testing.T) {
	c := self("stay")
	c.Detach = true
	k := startChild(t, c)
	k.line(t)
	sid, err := unix.Getsid(k.PID())
	if err != nil || sid != k.PID() {
		t.Errorf("session %d, %v; want its own, %d", sid, err, k.PID())
	}
}

func TestTerminateAndSignalNames(t *testing.T) {
	k := startChild(t, self("stay"))
	k.line(t)
	if err := k.Terminate(); err != nil {
		t.Fatal(err)
	}
	code, err := k.Wait()
	if code != -1 || err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("Wait: %d, %v; want -1 and the signal's name", code, err)
	}
}
