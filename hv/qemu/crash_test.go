package qemu

import (
	"debug/elf"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
)

// TestOnCrash: a crashed guest is kept to be looked at, or its memory is.
func TestOnCrash(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	s.OnCrash = hv.EndPreserve
	m := boots(t, l, s)
	io.WriteString(m.Console(), "c")
	for e := range m.Events() {
		if e.Kind == hv.EventState {
			if e.State != hv.Paused {
				t.Errorf("the crashed guest is %s", e.State)
			}
			break
		}
	}
	m.Close()
	s.OnCrash = hv.EndCoredumpRestart
	m = boots(t, l, s)
	io.WriteString(m.Console(), "c")
	for range m.Events() {
	}
	if reason, err := m.Wait(); reason != hv.ExitCrash || err != nil {
		t.Errorf("ended as %q, %v", reason, err)
	}
	cores, err := filepath.Glob(filepath.Join(l.host.Dir, "crash-*.core"))
	if err != nil || len(cores) != 1 {
		t.Fatalf("cores: %q, %v", cores, err)
	}
	core, err := elf.Open(cores[0])
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	if core.Type != elf.ET_CORE || len(core.Progs) < 2 {
		t.Errorf("%s is no core file: %+v", cores[0], core.FileHeader)
	}
}

// TestWatchdog: a guest that lets its watchdog run out is reset where it stands, kept
// to be looked at, or ended, as its policy says.
func TestWatchdog(t *testing.T) {
	l := newLab(t)
	hung := func(policy string) *Machine {
		s := l.spec(t)
		s.OnWatchdog = policy
		m := boots(t, l, s)
		io.WriteString(m.Console(), "t")
		return m
	}
	t.Run("reset", func(t *testing.T) {
		m := hung("")
		for e := range m.Events() {
			if e.Kind == hv.EventNotice && strings.Contains(e.Text, "watchdog") {
				break
			}
		}
		until(t, m, "READY")
		m.Close()
	})
	t.Run(hv.EndPreserve, func(t *testing.T) {
		m := hung(hv.EndPreserve)
		if e := <-m.Events(); e.Kind != hv.EventNotice || !strings.Contains(e.Text, "on_watchdog") {
			t.Errorf("told as %+v", e)
		}
		if e := <-m.Events(); e.Kind != hv.EventState || e.State != hv.Paused {
			t.Errorf("told as %+v", e)
		}
		m.Close()
	})
	t.Run(hv.EndRestart, func(t *testing.T) {
		m := hung(hv.EndRestart) // the service starts it again
		for range m.Events() {
		}
		if reason, err := m.Wait(); reason != hv.ExitWatchdog || err != nil {
			t.Errorf("ended as %q, %v", reason, err)
		}
	})
}
