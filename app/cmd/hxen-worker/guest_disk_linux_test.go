package main

// The guest suite's disks: Linux' own driver against the block back end.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/platform/diskfile"
)

// longOnly keeps a test out of the short form of the suite.
func longOnly(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a part of the long form (HXEN_LONG=1 make test-guest)")
	}
}

// openDisk is what main gives the engine.
func openDisk(path string, readonly bool) (hv.DiskFile, error) {
	f, err := diskfile.Open(path, readonly)
	if err != nil {
		return nil, err // not a nil *diskfile.File
	}
	return f, nil
}

// diskImage makes an image of random bytes.
func diskImage(t *testing.T, dir, name string, size int64) string {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8(sha256.Sum256([]byte(name))), size); err != nil {
		t.Fatal(err)
	}
	return path
}

func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// sumOf is a disk's checksum as the guest reads it, past its cache.
func sumOf(l *hvtest.Live, disk string) string {
	out := l.Run("echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/" + disk)
	sum, _, _ := strings.Cut(out, " ")
	return sum
}

// disk is the Spec of the i-th one.
func disk(i int, path string) hv.Disk {
	return hv.Disk{UUID: fmt.Sprintf("01020304-0000-4000-8000-0000000001%02x", i), Path: path, Format: hv.Raw, Mode: hv.ReadWrite}
}

// TestGuestDisks reads and writes disks of every kind, and compares with what
// lies on the host.
func TestGuestDisks(t *testing.T) {
	longOnly(t)
	for _, k := range kernels(t) {
		t.Run(filepath.Base(k), func(t *testing.T) {
			dir := t.TempDir()
			s := guest(k)
			s.VCPUs = 2
			for i := range 18 { // more than 16 have numbers of another form
				s.Disks = append(s.Disks, disk(i, diskImage(t, dir, fmt.Sprintf("disk%d", i), 1<<20)))
			}
			s.Disks[0].Path = diskImage(t, dir, "big", 24<<20)
			s.Disks[1].Mode = hv.ReadOnly
			s.Disks[2] = hv.Disk{UUID: s.Disks[2].UUID, Mode: hv.ReadOnly, Kind: hv.KindCDROM}
			h := testHost(t, s)
			h.OpenDisk = openDisk
			l := boot(t, s, h)
			checkWrites(t, l, s.Disks[0].Path)
			checkDiscard(t, l, s.Disks[0].Path)
			checkReadOnly(t, l, s.Disks[1].Path)
			checkMedia(t, l, s.Disks[2].UUID, diskImage(t, dir, "cd", 3<<20))
			if got, want := sumOf(l, "xvdr"), sum(t, s.Disks[17].Path); got != want {
				t.Errorf("disk 18 reads as %s, is %s", got, want)
			}
			l.Do("count", func(ctx context.Context) error {
				st, err := l.Machine.Stats(ctx)
				if d := st.Disks[s.Disks[0].UUID]; d.ReadBytes < 24<<20 || d.WriteBytes < 16<<20 || d.Reads == 0 || d.Writes == 0 {
					t.Errorf("counted %+v", d)
				}
				return err
			})
			l.Say("poweroff -f\n")
			l.Ended(hv.ExitPoweroff)
		})
	}
}

// checkWrites writes in large and small pieces, through the cache and past it.
func checkWrites(t *testing.T, l *hvtest.Live, path string) {
	t.Helper()
	same := func(when string) {
		t.Helper()
		if got, want := sumOf(l, "xvda"), sum(t, path); got != want {
			t.Errorf("%s xvda reads as %s, is %s", when, got, want)
		}
	}
	same("at first")
	if got := l.Run("cat /sys/block/xvda/queue/write_cache"); got != "write back" {
		t.Errorf("its cache is %q", got)
	}
	before := sum(t, path)
	l.Run("dd if=/dev/urandom of=/dev/xvda bs=1M seek=2 count=8 conv=fsync 2>/dev/null")
	same("after 8 MiB")
	l.Run("dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null; dd if=/tmp/data of=/dev/xvda bs=1M seek=12 oflag=direct 2>/dev/null")
	same("after 8 MiB past the cache")
	l.Run("dd if=/tmp/data of=/dev/xvda bs=512 seek=7 count=99 oflag=direct 2>/dev/null; sync")
	same("after single sectors")
	if sum(t, path) == before {
		t.Error("nothing has changed")
	}
	l.Run("cp /tmp/data /tmp/want; dd if=/dev/xvda bs=1M skip=12 count=8 iflag=direct 2>/dev/null | cmp - /tmp/data && rm /tmp/data /tmp/want")
	// Many at once, each its own part, with different sizes.
	l.Run("for i in $(seq 0 7); do (dd if=/dev/urandom of=/dev/xvda bs=$((4096*(i+1))) seek=$((i*500/(i+1))) count=$((400/(i+1))) oflag=direct 2>/dev/null) & done; wait")
	same("after writes by many")
}

// checkDiscard gives room back.
func checkDiscard(t *testing.T, l *hvtest.Live, path string) {
	t.Helper()
	blocks := func() int64 {
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks
	}
	before := blocks()
	if out := l.Run("blkdiscard -o 1048576 -l 8388608 /dev/xvda && echo ok"); out != "ok" {
		t.Errorf("blkdiscard: %q", out)
	}
	if freed := before - blocks(); freed != 8<<20/512 {
		t.Errorf("discarding 8 MiB freed %d KiB", freed/2)
	}
	if got, want := sumOf(l, "xvda"), sum(t, path); got != want {
		t.Errorf("after a discard xvda reads as %s, is %s", got, want)
	}
}

func checkReadOnly(t *testing.T, l *hvtest.Live, path string) {
	t.Helper()
	want := sum(t, path)
	if got := l.Run("cat /sys/block/xvdb/ro; dd if=/dev/zero of=/dev/xvdb bs=4096 count=1 2>/dev/null && echo written || :"); strings.TrimSpace(got) != "1" {
		t.Errorf("a read-only disk: %q", got)
	}
	if got := sumOf(l, "xvdb"); got != want || sum(t, path) != want {
		t.Errorf("a read-only disk reads as %s, was %s, is %s", got, want, sum(t, path))
	}
}

func checkMedia(t *testing.T, l *hvtest.Live, drive, cd string) {
	t.Helper()
	size := func(want string) {
		t.Helper()
		// The driver hears of it soon, and the loop ends on its own.
		if got := l.Run(fmt.Sprintf("n=0; while [ $(cat /sys/block/xvdc/size) != %s ] && [ $n -lt 500 ]; do n=$((n+1)); usleep 20000; done; cat /sys/block/xvdc/size", want)); got != want {
			t.Errorf("the drive has %s sectors, want %s", got, want)
		}
	}
	change := func(path string) {
		t.Helper()
		l.Do("change the medium", func(ctx context.Context) error {
			return l.Machine.(hv.MediaChanger).ChangeMedia(ctx, drive, hv.Disk{Path: path})
		})
	}
	size("0")
	change(cd)
	size(fmt.Sprint(3 << 20 / 512))
	if got, want := sumOf(l, "xvdc"), sum(t, cd); got != want {
		t.Errorf("the CD reads as %s, is %s", got, want)
	}
	if got := l.Run("cat /sys/block/xvdc/ro /sys/block/xvdc/removable | tr -d '\\n'"); got != "11" {
		t.Errorf("read-only and removable: %q", got)
	}
	change("")
	size("0")
	l.Run("dd if=/dev/xvdc of=/dev/null bs=2048 count=1 2>/dev/null; true")
}

// TestGuestDiskFull fills the host's disk: the guest is paused, and what it wrote
// is there once there is room.
func TestGuestDiskFull(t *testing.T) {
	longOnly(t)
	k := kernels(t)[0]
	dir := t.TempDir()
	if err := syscall.Mount("small", dir, "tmpfs", 0, "size=4M"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, 0)
	s := guest(k)
	s.Disks = []hv.Disk{disk(0, filepath.Join(dir, "disk"))}
	if err := os.WriteFile(s.Disks[0].Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.Disks[0].Path, 16<<20); err != nil {
		t.Fatal(err)
	}
	h := testHost(t, s)
	h.OpenDisk = openDisk
	l := boot(t, s, h)
	l.Say("dd if=/dev/urandom of=/tmp/data bs=1M count=12 2>/dev/null; dd if=/tmp/data of=/dev/xvda bs=1M conv=fsync 2>/dev/null; sha256sum </tmp/data\n")
	e := l.Event("a full disk", func(e hv.Event) bool { return e.Kind == hv.EventIOError })
	if e.Object != s.Disks[0].UUID || !strings.Contains(e.Text, "full") {
		t.Errorf("told as %+v", e)
	}
	l.State(hv.Paused)
	if err := syscall.Mount("small", dir, "tmpfs", syscall.MS_REMOUNT, "size=32M"); err != nil {
		t.Fatal(err)
	}
	l.Do("resume", l.Machine.Resume)
	out := l.Expect(hvtest.GuestDone)
	l.Expect("\r\n")
	if err := os.Truncate(s.Disks[0].Path, 12<<20); err != nil {
		t.Fatal(err)
	}
	if want := sum(t, s.Disks[0].Path); !strings.Contains(out, want) {
		t.Errorf("the guest wrote %q, the disk holds %s", out, want)
	}
	l.Say("poweroff -f\n")
	l.Ended(hv.ExitPoweroff)
}

// TestGuestQCOW2 has a real qemu-storage-daemon behind a disk. The lab has it with
// its libraries, and a shell script in its place.
func TestGuestQCOW2(t *testing.T) {
	longOnly(t)
	k := kernels(t)[0]
	daemon := filepath.Join(os.Getenv("HXEN_LAB"), "storage")
	if _, err := os.Stat(daemon); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	image := filepath.Join(dir, "disk.qcow2")
	b, err := os.ReadFile(filepath.Join(daemon, "disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := guest(k)
	s.Disks = []hv.Disk{disk(0, image)}
	s.Disks[0].Format = hv.QCOW2
	h := testHost(t, s)
	h.OpenDisk, h.RunDir, h.Short = openDisk, dir, "01020304"
	h.QEMU.Storage = filepath.Join(daemon, "run")
	h.Start = func(c hv.Command) (hv.Process, error) {
		cmd := exec.Command(c.Path, c.Args...)
		cmd.Stdout, cmd.Stderr, cmd.Dir = c.Stdout, c.Stderr, c.Dir
		return running{cmd}, cmd.Start()
	}
	l := boot(t, s, h)
	want, err := os.ReadFile(filepath.Join(daemon, "disk.sha256"))
	if err != nil {
		t.Fatal(err)
	}
	if got := sumOf(l, "xvda"); got != strings.Fields(string(want))[0] {
		t.Errorf("it reads as %s, is %s", got, want)
	}
	l.Run("dd if=/dev/urandom of=/dev/xvda bs=1M count=3 conv=fsync 2>/dev/null; blkdiscard -o 4194304 -l 1048576 /dev/xvda")
	wrote := sumOf(l, "xvda")
	l.Say("poweroff -f\n")
	l.Ended(hv.ExitPoweroff)
	l = boot(t, s, h) // another daemon
	if got := sumOf(l, "xvda"); got != wrote {
		t.Errorf("after a restart it reads as %s, was %s", got, wrote)
	}
	l.Say("poweroff -f\n")
	l.Ended(hv.ExitPoweroff)
}

// running is a hv.Process of os/exec.
type running struct{ *exec.Cmd }

func (p running) PID() int    { return p.Process.Pid }
func (p running) Kill() error { return p.Process.Kill() }
func (p running) Wait() (int, error) {
	err := p.Cmd.Wait()
	return p.ProcessState.ExitCode(), err
}
