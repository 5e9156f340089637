package main

// Saving and restoring a pvh guest beside cp of the same file, and a clone's start
// beside a boot, in the lab of app/cmd/hxen's TestFiguresGuestSave and -Clone.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestBenchSave saves a guest of 1 GiB, of which most is not zero, has cp copy the
// file, and goes on from it, in turns. It prints MB/s of what is in the file. A save
// is the whole verb, with the guest's own suspend and the end of the machine; a
// restore goes until the guest runs.
func TestBenchSave(t *testing.T) {
	cp := filepath.Join(os.Getenv("HXEN_LAB"), "bench", "cp", "run")
	if _, err := os.Stat(cp); err != nil || os.Getenv("HXEN_LAB") == "" {
		t.Skip("runs in the lab of make bench")
	}
	s := guest(kernels(t)[0])
	s.Memory = hv.GiB
	h := userHost(t, s)
	dir := t.TempDir() // in memory
	file, copied := filepath.Join(dir, "guest.save"), filepath.Join(dir, "copy")
	l := boot(t, s, h)
	l.Run("mkdir /much && mount -t tmpfs -o size=900m much /much && dd if=/dev/urandom of=/tmp/r bs=1M count=1 2>/dev/null")
	l.Run("for i in $(seq 700); do cat /tmp/r; done >/much/file && sha256sum /much/file >/tmp/sum")
	for round := range 4 {
		rate := func(who, what string, took time.Duration) {
			said(who, round)(fmt.Sprintf("0 %s %.1f MB/s", what, float64(stored(t, file))/1e6/took.Seconds()))
		}
		began := time.Now()
		l.Do("save", func(ctx context.Context) error { return l.Machine.(hv.Saver).Save(ctx, file, nil) })
		took := time.Since(began)
		rate("hxen", "save", took)
		l.Ended(hv.ExitSaved)
		l.End()

		began = time.Now()
		if out, err := exec.Command(cp, file, copied).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v\n%s", err, out)
		}
		took = time.Since(began)
		rate("cp", "save", took)
		rate("cp", "restore", took)
		if a, b := stored(t, file), stored(t, copied); a-b > a/100 || b-a > a/100 {
			t.Errorf("cp made %d bytes of %d", b, a)
		}
		if err := os.Remove(copied); err != nil {
			t.Fatal(err)
		}

		h.Restore = file
		began = time.Now()
		l = launched(t, s, h)
		took = time.Since(began)
		rate("hxen", "restore", took)
		l.Run("true")
		t.Logf("round %d: %d MB, and after %v it has answered", round, stored(t, file)/1e6, time.Since(began))
	}
	l.Run("sha256sum -c /tmp/sum")
	l.End()
}

// TestBenchClone boots a guest and starts a clone of it in turns, each until it has run
// a command, and prints the milliseconds.
func TestBenchClone(t *testing.T) {
	if _, err := os.Stat(filepath.Join(os.Getenv("HXEN_LAB"), "bench", "test")); err != nil || os.Getenv("HXEN_LAB") == "" {
		t.Skip("runs in the lab of make bench")
	}
	s := guest(kernels(t)[0])
	s.Memory = 512 * hv.MiB
	h := userHost(t, s)
	c, from := s, h
	for round := range 4 {
		took := func(who string, f func() *hvtest.Live) *hvtest.Live {
			began := time.Now()
			l := f()
			l.Run("true")
			said(who, round)(fmt.Sprintf("0 running %.1f ms", time.Since(began).Seconds()*1e3))
			return l
		}
		l := took("boot", func() *hvtest.Live { return boot(t, s, h) })
		if from.Restore == "" {
			from.Restore = template(t, l, t.TempDir())
		}
		l.End()
		c.UUID, c.Name = cloneID(round), "clone"
		took("hxen", func() *hvtest.Live { return launched(t, c, from) }).End()
	}
}

// userHost is testHost with a cache that can be written to, as a user's can.
func userHost(t *testing.T, s hv.Spec) hv.Host {
	t.Helper()
	h := testHost(t, s)
	cache := t.TempDir()
	if err := os.CopyFS(cache, os.DirFS(h.Cache)); err != nil {
		t.Fatal(err)
	}
	h.Cache = cache
	return h
}

// stored is how many bytes a file takes: its holes take none.
func stored(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}
