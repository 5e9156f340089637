package main

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
)

// TestGuestFalls: what becomes of a guest whose kernel panics, and of one that looks
// after Xen's watchdog no more, is what its policy says.
func TestGuestFalls(t *testing.T) {
	longOnly(t) // two minutes, and a core of 128 MiB is read
	const panics = "echo c >/proc/sysrq-trigger\n"
	const hangs = "watchdog -T 2 -t 600 /dev/watchdog\n" // it is fed once
	notice := func(e hv.Event) bool { return e.Kind == hv.EventNotice }
	for _, c := range []struct {
		how  string
		ends hv.ExitReason
		says string
	}{{panics, hv.ExitCrash, "panicked"}, {hangs, hv.ExitWatchdog, "watchdog saw it hang"}} {
		t.Run(string(c.ends), func(t *testing.T) {
			s := guest(kernels(t)[0])
			s.VCPUs, s.Memory = 2, 128*hv.MiB
			s.OnCrash, s.OnWatchdog = hv.EndCoredumpDestroy, hv.EndCoredumpDestroy
			h := testHost(t, s)
			h.Work = t.TempDir()
			l := boot(t, s, h)
			l.Run("echo hxen | sha256sum >/tmp/mark")
			l.Say(c.how)
			if e := l.Event("notice", notice); !strings.Contains(e.Text, c.says) || !strings.Contains(e.Text, "memory") {
				t.Errorf("its end was told as %q", e.Text)
			}
			l.Ended(c.ends)
			cores, err := filepath.Glob(filepath.Join(h.Work, "*.core"))
			if err != nil || len(cores) != 1 {
				t.Fatalf("cores: %q, %v", cores, err)
			}
			checkGuestCore(t, cores[0], fmt.Sprintf("%x", sha256.Sum256([]byte("hxen\n"))))
			debug.FreeOSMemory() // other tests look at what the process has
		})
		t.Run(string(c.ends)+", kept", func(t *testing.T) {
			s := guest(kernels(t)[0])
			s.Memory = 128 * hv.MiB
			s.OnCrash, s.OnWatchdog = hv.EndPreserve, hv.EndPreserve
			l := boot(t, s, testHost(t, s))
			l.Say(c.how)
			if e := l.Event("notice", notice); !strings.Contains(e.Text, c.says) || !strings.Contains(e.Text, "kept") {
				t.Errorf("its end was told as %q", e.Text)
			}
			l.State(hv.Paused)
			l.Stop(hv.PowerOff)
			l.Ended(hv.ExitDestroyed)
		})
	}
}

// checkGuestCore holds a core against what its guest had in memory, and its
// processors against where they can have been: in the kernel.
func checkGuestCore(t *testing.T, path, mark string) {
	t.Helper()
	core, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	marked, inKernel := false, 0
	for _, p := range core.Progs {
		b, err := io.ReadAll(p.Open())
		if err != nil {
			t.Fatal(err)
		}
		switch p.Type {
		case elf.PT_LOAD:
			marked = marked || bytes.Contains(b, []byte(mark))
		case elf.PT_NOTE:
			// Each note is a header of three words, a name and a descriptor, both filled up
			// to whole words; elf_prstatus has RIP 240 bytes in (sys/procfs.h).
			for len(b) > 0 {
				name, desc := (binary.LittleEndian.Uint32(b)+3)&^3, (binary.LittleEndian.Uint32(b[4:])+3)&^3
				if body := b[12+name:]; bytes.HasPrefix(b[12:], []byte("CORE\x00")) && binary.LittleEndian.Uint64(body[240:])>>63 == 1 {
					inKernel++
				}
				b = b[12+name+desc:]
			}
		}
	}
	if !marked || inKernel == 0 {
		t.Errorf("the core has what the guest wrote: %v; processors in the kernel: %d", marked, inKernel)
	}
}
