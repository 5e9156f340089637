package hvtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// labPackages are the packages whose tests need an accelerator.
var labPackages = []struct {
	name, path string
	args       []string
}{
	{"kvm", "./platform/accel/kvm", nil},
}

// TestLab runs them under a kernel that keeps Xen's hypercalls to itself
// (Debian's 6.1) and one that hands them on (6.12).
func TestLab(t *testing.T) {
	hvtest.RequireLab(t)
	dir := t.TempDir()
	var binaries []hvtest.LabBinary
	for _, p := range labPackages {
		out := filepath.Join(dir, p.name)
		build := exec.Command("go", "test", "-c", "-trimpath", "-ldflags", "-s -w", "-o", out, p.path)
		build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
		if b, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the tests of %s: %v\n%s", p.path, err, b)
		}
		binaries = append(binaries, hvtest.LabBinary{Name: p.name, Path: out, Args: p.args, Timeout: 3 * time.Minute})
	}
	for _, kernel := range []string{"linux-image-cloud-amd64", "linux-image-6.12-cloud-amd64"} {
		t.Run(kernel, func(t *testing.T) {
			hvtest.Lab{Kernel: kernel, Binaries: binaries, Timeout: 5 * time.Minute}.Run(t)
		})
	}
}
