package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFaultDiskFull lets operations find the disk full. What writes a few small
// files has room for nothing, for one page, for two and so on, until it succeeds;
// what asks for room before it begins loses it at some time on its way. Nothing is
// lost, and what failed can be done once there is room.
func TestFaultDiskFull(t *testing.T) {
	if !inMounts(t) {
		return
	}
	dir := t.TempDir()
	mount(t, "-t", "tmpfs", "-o", "size=400m", "none", dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	c := newCampaign(t, newHouseAt(t, filepath.Join(dir, "home")))
	small, large, parts := []string{"edit", "delete"}, []string{"create", "start", "save"}, 12
	if os.Getenv(faultsVar) == "" {
		large, parts = large[:1], 2
	}
	c.rehearse(slices.Concat(small, large))
	for _, op := range small {
		for pages := 0; ; pages++ {
			c.prepare(op)
			if c.fillFor(op, pages) {
				break
			}
			if t.Failed() || pages > 40 {
				t.Fatalf("%s fails with %d pages free", op, pages)
			}
		}
	}
	for _, op := range large {
		for part := range parts {
			c.prepare(op)
			c.fillDuring(op, c.took[op]*time.Duration(part)/time.Duration(parts))
		}
	}
	fmt.Println("disk full:", c.score.String())
}

// fill takes all of the disk but some pages.
func (c *campaign) fill(pages int) (free func()) {
	c.t.Helper()
	path := filepath.Join(filepath.Dir(c.home), "filler")
	f, err := os.Create(path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	_, err = io.Copy(f, zeros{})
	var fi os.FileInfo
	if errors.Is(err, syscall.ENOSPC) {
		fi, err = f.Stat()
	}
	if err == nil {
		err = f.Truncate(max(fi.Size()/4096-int64(pages), 0) * 4096)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			c.t.Fatal(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// fillFor runs an operation with room for some pages, and reports whether it
// succeeded. One that fails is done again with room.
func (c *campaign) fillFor(op string, pages int) bool {
	c.t.Helper()
	free := c.fill(pages)
	_, errs, code := c.hxen("", c.words(op)...)
	c.judge(op, code)
	free()
	if code == 0 {
		c.t.Logf("%s: needs %d pages", op, pages)
		return true
	}
	c.t.Logf("%s with %d pages: %s", op, pages, errs)
	c.must(c.words(op)...)
	c.check(op, 30*trueWithin)
	return false
}

// fillDuring fills the disk at some time in an operation.
func (c *campaign) fillDuring(op string, after time.Duration) {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(c.bin, "hxen"), c.words(op)...)
	cmd.Env = c.env
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	time.Sleep(after) // the point, not a wait for anything
	free := c.fill(0)
	err := cmd.Wait()
	c.judge(op, cmd.ProcessState.ExitCode())
	free()
	if err != nil {
		c.must(c.words(op)...)
		c.check(op, 30*trueWithin)
	}
}

// judge counts a point and checks that all is there.
func (c *campaign) judge(op string, code int) {
	c.t.Helper()
	c.points++
	c.hits[fmt.Sprintf("%s %s", op, map[bool]string{true: "done", false: "refused"}[code == 0])]++
	c.check(op, 30*trueWithin)
}
