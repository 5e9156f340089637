package qemu

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/disk"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestOverlay: an image may build on one in its template's folder, and on no other.
func TestOverlay(t *testing.T) {
	img, err := exec.LookPath("qemu-img")
	if err != nil {
		hvtest.RequireThat(t, "qemu", "qemu-img is not installed")
	}
	guests := t.TempDir()
	mine, base := filepath.Join(guests, "mine"), filepath.Join(guests, "base")
	hvtest.Mkdirs(t, guests, "mine", "base", "other")
	tool := disk.Tool{Img: img, Start: func(c hv.Command) (hv.Process, error) {
		cmd := exec.Command(c.Path, c.Args...)
		cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
		return tested{cmd}, cmd.Start()
	}}
	if err := disk.CreateRaw(filepath.Join(base, "disk.raw"), 1<<20); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(mine, "disk.qcow2")
	if err := tool.Overlay(t.Context(), path, "../base/disk.raw", hv.Raw); err != nil {
		t.Fatal(err)
	}
	d := hv.Disk{Path: "disk.qcow2", Format: hv.QCOW2, Mode: hv.ReadWrite}
	if im, err := inspect(mine, base, d); err != nil || !im.backing {
		t.Errorf("on its template: %+v, %v", im, err)
	}
	for _, other := range []string{"", mine, filepath.Join(guests, "other")} {
		if _, err := inspect(mine, other, d); err == nil {
			t.Errorf("an image that builds on another guest's was taken, with the template %q", other)
		}
	}
	for _, bad := range []string{filepath.Join(base, "disk.raw"), "disk.raw", "-o"} {
		if err := tool.Overlay(t.Context(), path+"2", bad, hv.Raw); err == nil {
			t.Errorf("%s was built on", bad)
		}
	}
	if _, err := os.Stat(path + "2"); err == nil {
		t.Error("an image was left behind")
	}
}

// tested is a hv.Process of os/exec.
type tested struct{ *exec.Cmd }

func (p tested) PID() int    { return p.Process.Pid }
func (p tested) Kill() error { return p.Process.Kill() }
func (p tested) Wait() (int, error) {
	err := p.Cmd.Wait()
	return p.ProcessState.ExitCode(), err
}
