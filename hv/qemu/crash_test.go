package qemu

import (
	"debug/elf"
	"io"
	"path/filepath"
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
