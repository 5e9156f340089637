package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/bootdisk"
)

// A guest without a kernel on the host boots what its own disks have.

// bootPatience bounds reading a guest's disks for what they boot.
const bootPatience = 2 * time.Minute

// hasDisk reports whether a guest has a disk that may have a system on it.
func hasDisk(s hv.Spec) bool {
	return slices.ContainsFunc(s.Disks, func(d hv.Disk) bool { return !d.IsCD() })
}

// loadFromDisk finds what the guest's disks boot and opens it. What it opened
// stays open until closeBoot.
func (g *Guest) loadFromDisk(ctx context.Context, c *Config) error {
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	g.boot = append(g.boot, closer(cancel)) // the ramdisk is read later
	menu, err := bootdisk.Find(ctx, g.bootDisks)
	if err != nil {
		return err
	}
	entry, err := menu.Pick(g.spec.Boot.Entry)
	if err != nil {
		return fmt.Errorf("%w; choose one of them in the guest's settings, or none to leave it to the guest's boot loader", err)
	}
	kernel, initrd, err := entry.Open()
	if err != nil {
		return err
	}
	// Kernels of guests do not go where all guests' are kept: one that has ever
	// other ones must not fill the host's disk.
	dir := filepath.Join(g.host.Work, "kernel")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a folder for the kernel: %w", err)
	}
	image, file, err := openKernel(ctx, kernel, kernel.Size, dir, g.progress("unpacking the kernel"))
	if err != nil {
		return fmt.Errorf("load the kernel %s from the guest's disk: %w", entry.Kernel, err)
	}
	c.Kernel, c.KernelFile, c.Initrd = image, kernel, nil
	if file != nil {
		g.boot = append(g.boot, file)
		c.KernelFile = file
	}
	g.prune(dir, file)
	if initrd != nil {
		c.Initrd = &Image{Data: initrd, Size: uint64(initrd.Size)}
	}
	c.Cmdline = g.driverOptions(hv.PutConsole(hv.PVH, entry.Cmdline))
	g.host.Log.Info("the guest boots from its disk", "kernel", entry.Kernel, "entry", entry.ID, "from", menu.From, "cmdline", c.Cmdline)
	if g.spec.Boot.Entry == "" {
		if err := menu.Commit(); err != nil {
			g.host.Log.Warn("what the guest's boot loader keeps could not be written", "err", err)
		}
	}
	return nil
}

// prune removes the kernels in dir but the one that is open.
func (g *Guest) prune(dir string, keep *os.File) {
	names, err := filepath.Glob(filepath.Join(dir, "*.elf"))
	cut, _ := filepath.Glob(filepath.Join(dir, ".unpack-*")) // of a worker that was killed
	for _, n := range append(names, cut...) {
		if keep == nil || filepath.Base(keep.Name()) != filepath.Base(n) {
			err = errors.Join(err, os.Remove(n))
		}
	}
	if err != nil {
		g.host.Log.Warn("remove the guest's old kernels", "err", err)
	}
}

type closer func()

func (c closer) Close() error { c(); return nil }

// closeBoot closes what loadFromDisk has opened.
func (g *Guest) closeBoot() {
	for _, c := range g.boot {
		if err := c.Close(); err != nil {
			g.host.Log.Warn("close the guest's disk", "err", err)
		}
	}
	g.boot = nil
}

// readDisk is a guest's disk as bootdisk reads it, while the guest does not run.
type readDisk struct{ hv.DiskFile }

func (d readDisk) ReadAt(b []byte, off int64) (int, error) {
	if err := d.ReadV([][]byte{b}, off); err != nil {
		return 0, err
	}
	return len(b), nil
}

// writeDisk is one that may be written too.
type writeDisk struct{ readDisk }

func (d writeDisk) WriteAt(b []byte, off int64) (int, error) {
	err := d.WriteV([][]byte{b}, off)
	if err == nil {
		err = d.Flush()
	}
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// bootsFrom notes that a disk may have what the guest boots.
func (g *Guest) bootsFrom(d hv.Disk, file hv.DiskFile) {
	if d.IsCD() || file == nil {
		return
	}
	disk := bootdisk.Disk{Data: readDisk{file}, Size: file.Size()}
	if d.Mode == hv.ReadWrite {
		disk.Data = writeDisk{readDisk{file}}
	}
	g.bootDisks = append(g.bootDisks, disk)
}
