package main

// A pvh guest's disk beside one of QEMU's, in the lab of app/cmd/hxen's
// TestFiguresGuestDisk.

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
	port "github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/native"
	"github.com/hxen-project/hxen/platform/accel"
)

// TestBenchDisk runs the same guest on both in turns and prints what it says.
func TestBenchDisk(t *testing.T) {
	dir := filepath.Join(os.Getenv("HXEN_LAB"), "bench")
	if _, err := os.Stat(filepath.Join(dir, "qemu", "run")); err != nil || os.Getenv("HXEN_LAB") == "" {
		t.Skip("runs in the lab of make bench")
	}
	kernel := kernels(t)[0]
	image := diskImage(t, t.TempDir(), "disk", 64<<20)
	for round := range 2 {
		for _, who := range []struct {
			name string
			run  func(t *testing.T, kernel, dir, image string, said func(string))
		}{{"hxen", benchNative}, {"qemu", benchQEMU}} {
			who.run(t, kernel, dir, image, said(who.name, round))
		}
	}
}

// tell passes on the lines of figures.
func tell(r io.Reader, said func(string)) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		for _, mark := range []string{"@@F ", "@@I "} {
			if _, line, ok := strings.Cut(strings.TrimSpace(lines.Text()), mark); ok {
				said(line)
			}
		}
	}
}

func benchNative(t *testing.T, kernel, dir, image string, said func(string)) {
	s := guest(kernel)
	s.Boot.Initrd = filepath.Join(dir, "initrd")
	s.Disks = []hv.Disk{disk(0, image)}
	h := testHost(t, s)
	h.OpenDisk = openDisk
	runNative(t, s, h, openVectors, said)
}

// openVectors opens an accelerator on which events come as interrupts of the guest's
// LAPIC, as on one that has the processor's own for guests. QEMU stands still when its
// budget of instructions (-icount) runs out between an injection and the guest's next
// exit (cpu_handle_interrupt takes the vector that is still noted for something to do).
// Behind the callback there may be none for long; behind a LAPIC's there is the EOI.
func openVectors() (port.Hypervisor, error) {
	h, err := accel.Open()
	return vectors{h}, err
}

type vectors struct{ port.Hypervisor }

func (v vectors) NewVM(c port.Config) (port.VM, error) {
	m, err := v.Hypervisor.NewVM(c)
	return vectorsVM{m}, err
}

type vectorsVM struct{ port.VM }

func (m vectorsVM) Caps() port.Caps {
	c := m.VM.Caps()
	c.EOIExits = false
	return c
}

// runNative runs a guest to its end and hands on what it says.
func runNative(t *testing.T, s hv.Spec, h hv.Host, open func() (port.Hypervisor, error), said func(string)) {
	m, err := native.New(open).Launch(t.Context(), s, h)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	go func() {
		for range m.Events() {
		}
	}()
	tell(m.(hv.Consoler).Console(), said)
	if reason, err := m.Wait(); reason != hv.ExitPoweroff || err != nil {
		t.Errorf("it ended as %s, %v", reason, err)
	}
}

// benchQEMU: as hv/qemu starts guests, with an I/O thread for the disk.
func benchQEMU(t *testing.T, kernel, dir, image string, said func(string)) {
	runQEMU(t, dir, filepath.Join(kernel, "vmlinuz"), "console=ttyS0 quiet", said,
		"-object", "iothread,id=io", "-blockdev", "driver=raw,node-name=d,file.driver=file,file.filename="+image+",discard=unmap",
		"-device", "virtio-blk-pci,drive=d,iothread=io")
}

// said prints a guest's lines as TestFiguresGuestDisk reads them.
func said(who string, round int) func(string) {
	return func(line string) { fmt.Printf("@@D %s %d %s\n", who, round, line) }
}
