package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/native"
	"github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/diskfile"
	"github.com/hxen-project/hxen/platform/proc"
)

// hostileMemory is what the process of a hostile guest may have beside the guest's
// own memory.
const hostileMemory = 256 << 20

// TestGuestHostile has guests do all the harm that they can
// (hv/hvtest/testdata/hostile.c), from real processors. Each may end; this process
// goes on, is no larger than it should be, and quiet while the guest is paused.
func TestGuestHostile(t *testing.T) {
	kernel := filepath.Join(os.Getenv("HXEN_LAB"), "hostile")
	if _, err := os.Stat(kernel); err != nil {
		hvtest.RequireThat(t, "accel", "the hostile guest is in the lab (make test-guest)")
	}
	if err := hold(); err != nil {
		t.Fatal(err)
	}
	rounds, each := 3, 4*time.Second
	if !testing.Short() {
		rounds, each = 20, 10*time.Second
	}
	said := 0
	for round := range rounds {
		said += hostileGuest(t, kernel, round, each)
	}
	if said == 0 {
		t.Error("no guest has done 256 deeds")
	}
	t.Logf("%d guests have done more than %d deeds", rounds, said*256)
}

// paced is a network's end with some thousand frames a second at most, none while
// gate is held.
type paced struct {
	net.Conn
	gate *sync.Mutex
}

func (p paced) Read(b []byte) (int, error) {
	time.Sleep(200 * time.Microsecond)
	p.wait()
	return p.Conn.Read(b)
}

func (p paced) wait() {
	p.gate.Lock()
	defer p.gate.Unlock()
}

func hostileGuest(t *testing.T, kernel string, round int, each time.Duration) (said int) {
	dir := t.TempDir()
	disk, neighbour := filepath.Join(dir, "disk"), filepath.Join(dir, "neighbour")
	for _, f := range []string{disk, neighbour} {
		if err := os.WriteFile(f, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := hv.Spec{
		Version: hv.SpecVersion, UUID: "01020304-0000-4000-8000-00000000000a", Name: "hostile", Type: hv.PVH,
		VCPUs: 1, Memory: 64 * hv.MiB, Boot: hv.Boot{Kernel: kernel, Cmdline: fmt.Sprint("seed=", round)},
		Disks: []hv.Disk{
			{UUID: "01020304-0000-4000-8000-00000000000b", Path: disk, Format: hv.Raw, Mode: hv.ReadWrite},
			{UUID: "01020304-0000-4000-8000-00000000000c", Path: neighbour, Format: hv.Raw, Mode: hv.ReadOnly},
		},
		NICs: []hv.NIC{{UUID: "01020304-0000-4000-8000-00000000000d", MAC: "52:54:00:00:00:01", Network: netUUID}},
	}
	var gate sync.Mutex // held: the network is quiet
	m, err := native.New(accel.Open).Launch(t.Context(), s, hv.Host{
		Dir: dir, Cache: t.TempDir(), NICs: []string{"card"}, Dial: func(ctx context.Context, socket string) (net.Conn, error) {
			c, err := hvtest.Chatter(ctx, socket)
			return paced{c, &gate}, err
		},
		OpenDisk: func(path string, readonly bool) (hv.DiskFile, error) { return diskfile.Open(path, readonly) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	events := 0
	var text bytes.Buffer
	var readers sync.WaitGroup
	readers.Go(func() {
		for range m.Events() {
			events++
		}
	})
	readers.Go(func() { _, _ = io.Copy(&text, io.LimitReader(m.(hv.Consoler).Console(), 64<<20)) })
	most := uint64(0)
	for end := time.Now().Add(each); time.Now().Before(end); time.Sleep(100 * time.Millisecond) { // it is given time, not waited for
		if u, err := proc.Use(os.Getpid()); err == nil {
			most = max(most, u.RSS)
		}
	}
	gate.Lock()
	paused := m.Pause(t.Context()) == nil // else it has ended by itself
	time.Sleep(time.Second)               // for what is under way
	before, _ := proc.Use(os.Getpid())
	time.Sleep(2 * time.Second)
	after, _ := proc.Use(os.Getpid())
	gate.Unlock()
	m.Close()
	reason, err := m.Wait()
	readers.Wait()
	said = strings.Count(text.String(), "[256 deeds]")
	t.Logf("round %d: ended as %s, %d times 256 deeds, %d events, %d bytes on the console, at most %d MiB; paused (%v) it used %v in 2 s",
		round, reason, said, events, text.Len(), most>>20, paused, after.CPU-before.CPU)
	switch {
	case err != nil:
		t.Errorf("round %d: the machine ended with %v", round, err)
	case reason != hv.ExitDestroyed && reason != hv.ExitCrash && reason != hv.ExitWatchdog: // it may set one, too
		t.Errorf("round %d: the guest ended as %q", round, reason)
	case !strings.Contains(text.String(), "hostile"):
		t.Errorf("round %d: the guest never began", round)
	case paused && after.CPU-before.CPU > time.Second:
		t.Errorf("round %d: a paused guest's process uses the processor for %v of 2 s", round, after.CPU-before.CPU)
	case events > 1000:
		t.Errorf("round %d: the guest made %d events", round, events)
	case most > s.Memory+hostileMemory:
		t.Errorf("round %d: the process had %d MiB", round, most>>20)
	}
	if b, err := os.ReadFile(neighbour); err != nil || len(b) != 1<<20 || strings.Trim(string(b), "\x00") != "" {
		t.Errorf("round %d: the guest has changed a disk that it may only read: %v", round, err)
	}
	if st, err := os.Stat(disk); err != nil || st.Size() != 1<<20 {
		t.Errorf("round %d: the guest has changed its disk's size: %v", round, err)
	}
	runtime.GC()
	return said
}
