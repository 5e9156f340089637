package qemu

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/disk"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// qcow2Head is the header of an image that builds on another one.
func qcow2Head(backing, format string, incompatible uint64) []byte {
	be := binary.BigEndian
	b := append([]byte(qcow2Magic), make([]byte, 100)...)
	be.PutUint32(b[4:], 3)
	be.PutUint64(b[72:], incompatible)
	be.PutUint32(b[100:], uint32(len(b)))
	if format != "" {
		b = be.AppendUint32(be.AppendUint32(b, extBackingFmt), uint32(len(format)))
		b = append(b, format...)
		b = append(b, make([]byte, -len(b)&7)...)
	}
	b = be.AppendUint64(b, extEnd)
	if backing != "" {
		be.PutUint64(b[8:], uint64(len(b)))
		be.PutUint32(b[16:], uint32(len(backing)))
	}
	return append(b, backing...)
}

// TestChain: what an image may build on, by names as its header may have them.
func TestChain(t *testing.T) {
	guests := t.TempDir()
	hvtest.Mkdirs(t, guests, "mine/sub", "base", "other")
	mine, base := filepath.Join(guests, "mine"), filepath.Join(guests, "base")
	put := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(guests, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("mine/a.raw", nil)
	put("mine/a.qcow2", qcow2Head("a.raw", hv.Raw, 0))
	put("mine/self.qcow2", qcow2Head("self.qcow2", hv.QCOW2, 0))
	put("mine/far.qcow2", qcow2Head("../other/a.raw", hv.Raw, 0))
	put("base/b.raw", nil)
	put("other/a.raw", nil)
	const outside = "outside the guest's folder"
	root := string(filepath.Separator)
	for _, c := range []struct {
		backing, format string
		incompatible    uint64
		want            string // part of why not
	}{
		{"a.raw", hv.Raw, 0, ""},
		{"sub/../a.raw", hv.Raw, 0, ""},
		{"../base/b.raw", hv.Raw, 0, ""},
		{filepath.Join(base, "b.raw"), hv.Raw, 0, ""},
		{"a.qcow2", hv.QCOW2, 0, ""},
		{"../other/a.raw", hv.Raw, 0, outside},
		{filepath.Join(guests, "other", "a.raw"), hv.Raw, 0, outside},
		{"far.qcow2", hv.QCOW2, 0, outside},
		{"/a.raw", hv.Raw, 0, outside}, // on Windows of the drive that QEMU is on
		{root + "a.raw", hv.Raw, 0, outside},
		{"C:a.raw", hv.Raw, 0, outside},
		{"a.raw:stream", hv.Raw, 0, outside},
		{"nbd:localhost:10809", hv.Raw, 0, outside},
		{`json:{"driver":"file","filename":"a.raw"}`, hv.Raw, 0, outside},
		{"", "", qcow2DataFile, "data in another file"},
		{"a.qcow2", "", 0, "does not say which format"},
		{"a.raw", hv.QCOW2, 0, "is not a qcow2 image"},
		{"self.qcow2", hv.QCOW2, 0, "more than 16"},
	} {
		put("mine/top.qcow2", qcow2Head(c.backing, c.format, c.incompatible))
		im, err := inspect(mine, base, hv.Disk{Path: "top.qcow2", Format: hv.QCOW2, Mode: hv.ReadWrite})
		if c.want == "" && (err != nil || !im.backing) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("on %q (%s): %v, want %q", c.backing, c.format, err, c.want)
		}
	}
}

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
