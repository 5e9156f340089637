package native

import (
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// hostMemory is a fake accelerator whose memory is got as the real one's is.
type hostMemory struct{ hvtest.FakeAccel }

type hostRAM struct{ mem []byte }

func (hostMemory) NewRAM(c accel.RAMConfig) (accel.RAM, error) {
	mem, err := syscall.Mmap(-1, 0, int(c.Size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	return &hostRAM{mem}, syscall.Madvise(mem, syscall.MADV_HUGEPAGE)
}

func (r *hostRAM) Bytes() []byte { return r.mem }
func (r *hostRAM) Close() error  { return syscall.Munmap(r.mem) }

func (r *hostRAM) Discard(off, n uint64) error {
	return syscall.Madvise(r.mem[off:off+n], syscall.MADV_DONTNEED)
}

// BenchmarkSaved saves a guest of 1 GiB, of which three quarters are not zero, has cp
// copy the file, which is then on the disk as well, and restores the guest, in turns.
// Only the processor is none. TMPDIR says on which file system.
func BenchmarkSaved(b *testing.B) {
	a := &hostMemory{hvtest.FakeAccel{Programs: map[uint64]func(*hvtest.FakeCPU){entry: func(c *hvtest.FakeCPU) {
		for {
			c.Halt()
		}
	}}}}
	begin := func(s *Saved) *Machine {
		c := testConfig(b, nil)
		c.Memory = 1 << 30
		if c.Saved = s; s != nil {
			c.Kernel, c.KernelFile = nil, nil
		}
		m, err := Start(a, c)
		if err != nil {
			b.Fatal(err)
		}
		return m
	}
	dir := b.TempDir()
	path, copied := filepath.Join(dir, "guest.save"), filepath.Join(dir, "copy")
	m := begin(nil)
	mem := m.ram.Bytes()[64<<20:][:768<<20]
	for i := range mem {
		mem[i] = byte(i>>12) | byte(i) | 1
	}
	took := map[string][]float64{}
	timed := func(what string, f func() error) {
		b.Helper()
		began := time.Now()
		if err := f(); err != nil {
			b.Fatalf("%s: %v", what, err)
		}
		took[what] = append(took[what], time.Since(began).Seconds())
	}
	run := func(args ...string) func() error {
		return func() error { return exec.Command(args[0], args[1:]...).Run() }
	}
	for b.Loop() {
		timed("save", func() error { return m.Save(b.Context(), path, nil) })
		wait(b, m)
		m.Close()
		timed("cp", run("cp", path, copied))
		timed("sync", run("sync", copied))
		timed("restore", func() error {
			s, err := OpenSaved(path)
			if err == nil {
				m = begin(s)
				err = s.Close()
			}
			return err
		})
		if err := run("rm", copied)(); err != nil {
			b.Fatal(err)
		}
	}
	m.Close()
	middle := func(what string) float64 { return slices.Sorted(slices.Values(took[what]))[len(took[what])/2] }
	b.Logf("seconds: %v", took)
	cp, sync := middle("cp"), middle("sync")
	b.ReportMetric(768/middle("save"), "MiB/s-saved")
	b.ReportMetric(768/cp, "MiB/s-cp")
	b.ReportMetric(768/(cp+sync), "MiB/s-cp-sync")
	b.ReportMetric(768/middle("restore"), "MiB/s-restored")
}
