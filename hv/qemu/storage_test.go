package qemu

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend/blk"
)

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
}

// TestServe reads and writes a qcow2 image through a real daemon and compares it,
// turned into a raw one, with what it should hold.
func TestServe(t *testing.T) {
	l := newLab(t)
	var err error
	if l.host.QEMU.Storage, err = exec.LookPath("qemu-storage-daemon"); err != nil {
		t.Fatal(err) // a part of what Require found
	}
	dir := l.host.Dir
	want := make([]byte, 4<<20)
	random := rand.NewChaCha8([32]byte{7})
	random.Read(want)
	raw, path := filepath.Join(dir, "in.raw"), filepath.Join(dir, "a, b=c.qcow2")
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "convert", "-O", "qcow2", "-c", raw, path)
	disk := hv.Disk{UUID: "d", Path: "a, b=c.qcow2", Format: hv.QCOW2, Mode: hv.ReadWrite}
	storage, conn, err := Serve(t.Context(), disk, 0, l.host)
	if err != nil {
		t.Fatal(err)
	}
	nbd, err := blk.NewNBD(conn, Export)
	if err != nil {
		t.Fatal(err)
	}
	if nbd.Size() != int64(len(want)) {
		t.Errorf("it has %d bytes", nbd.Size())
	}
	if _, _, err := Serve(t.Context(), disk, 1, l.host); err == nil || !strings.Contains(err.Error(), "in use by another program") {
		t.Errorf("the same image was opened again: %v", err)
	}
	var all sync.WaitGroup
	for i := range 16 { // each its own part, all at once
		all.Go(func() {
			part := want[i<<18:][:1<<18]
			for off := 0; off < len(part); off += 64 << 10 {
				got := [][]byte{make([]byte, 512), make([]byte, 64<<10-512)}
				if err := nbd.ReadV(got, int64(i<<18+off)); err != nil || !bytes.Equal(append(got[0], got[1]...), part[off:][:64<<10]) {
					t.Errorf("read at %#x: %v", off, err)
				}
				for k := range part[off:][:4096] {
					part[off+k] ^= 0xff
				}
				if err := nbd.WriteV([][]byte{part[off:][:512], part[off+512:][:3584]}, int64(i<<18+off)); err != nil {
					t.Errorf("write at %#x: %v", off, err)
				}
			}
		})
	}
	all.Wait()
	if err := nbd.Discard(1<<20, 1<<20); err != nil {
		t.Error(err)
	}
	clear(want[1<<20 : 2<<20])
	if err := errors.Join(nbd.Flush(), nbd.Close(), storage.Close()); err != nil {
		t.Error(err)
	}
	if err := nbd.ReadV([][]byte{make([]byte, 512)}, 0); err == nil {
		t.Error("it reads after its end")
	}
	qemuImg(t, "check", "-f", "qcow2", path)
	qemuImg(t, "convert", "-f", "qcow2", "-O", "raw", path, raw)
	if got, err := os.ReadFile(raw); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the image does not hold what was written, %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(l.host.RunDir, "*.d*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestServeRefused has images that cannot be served, and a daemon that dies.
func TestServeRefused(t *testing.T) {
	l := newLab(t)
	path := filepath.Join(l.host.Dir, "disk.qcow2")
	qemuImg(t, "create", "-f", "qcow2", path, "1M")
	disk := hv.Disk{UUID: "d", Path: path, Format: hv.QCOW2, Mode: hv.ReadOnly}
	if _, _, err := Serve(t.Context(), disk, 0, l.host); err == nil || !strings.Contains(err.Error(), "qemu-img convert -O raw") {
		t.Errorf("without a daemon: %v", err)
	}
	l.host.QEMU.Storage, _ = exec.LookPath("qemu-storage-daemon")
	storage, conn, err := Serve(t.Context(), disk, 0, l.host)
	if err != nil {
		t.Fatal(err)
	}
	nbd, err := blk.NewNBD(conn, Export)
	if err != nil {
		t.Fatal(err)
	}
	if err := nbd.WriteV([][]byte{make([]byte, 512)}, 0); err == nil {
		t.Error("a read-only image was written")
	}
	if err := storage.child.proc.Kill(); err != nil {
		t.Fatal(err)
	}
	<-storage.child.done
	if err := nbd.ReadV([][]byte{make([]byte, 512)}, 0); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("a read from a daemon that is dead: %v", err)
	}
	if err := nbd.Close(); err != nil {
		t.Error(err)
	}
	if err := storage.Close(); err == nil {
		t.Error("nothing is told of a daemon that was killed")
	}
	if err := os.WriteFile(path, []byte("not any more"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Serve(t.Context(), disk, 0, l.host); err == nil || !strings.Contains(err.Error(), "not a qcow2 image") {
		t.Errorf("what is no qcow2 image: %v", err)
	}
}
