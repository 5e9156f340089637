package hvtest

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// KernelPackage fetches the newest kernel of a Debian package such as
// linux-image-cloud-amd64, once, and returns the folder where it lies unpacked.
func KernelPackage(t testing.TB, pkg string) string {
	t.Helper()
	dir := LabCache(t)
	depends, _ := exec.CommandContext(t.Context(), "apt-cache", "depends", "--important", pkg).Output()
	i := strings.Index(string(depends), "Depends: linux-image-")
	if i < 0 {
		RequireThat(t, "lab", "apt knows no kernel of "+pkg+", a package of Debian's; apt-get update may help")
	}
	name, _, _ := strings.Cut(string(depends[i+len("Depends: "):]), "\n")
	tree := filepath.Join(dir, name)
	if _, err := os.Stat(tree); err == nil {
		return tree
	}
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	// As root, apt would fetch as a user of its own that may not write here.
	output(t, tmp, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name)
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("apt-get download %s left %q, %v", name, debs, err)
	}
	unpack := `mkdir tree && dpkg-deb --fsys-tarfile "$0" | tar -x -C tree --wildcards "$@"`
	output(t, tmp, "sh", append([]string{"-c", unpack, debs[0]}, keptOfKernels...)...)
	if err := os.Rename(filepath.Join(tmp, "tree"), tree); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return tree
}

// keptOfKernels is what tests need of a kernel's package, which has hundreds of
// megabytes of drivers.
var keptOfKernels = []string{"./boot/*", "*/kernel/virt/*", "*/kernel/arch/x86/*", "*/kernel/fs/*", "*/kernel/net/*", "*/kernel/drivers/block/*", "*/kernel/drivers/input/*", "*/kernel/drivers/virtio/*", "*/kernel/drivers/watchdog/*", "*/virtio_net*", "*/net_failover*", "*/xen*", "*/modules.*"}

// LabCache is the folder for what labs need and what is slow to get.
func LabCache(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "hxen", "lab")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// KernelFile is the kernel of a package as KernelPackage takes it.
func KernelFile(t testing.TB, pkg string) string {
	t.Helper()
	tree := KernelPackage(t, pkg)
	kernels, err := filepath.Glob(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("kernels in %s: %q, %v", tree, kernels, err)
	}
	return kernels[0]
}

// PutModule copies a kernel module, unpacked, into a folder. A module that is
// built into the kernel is none.
func PutModule(t testing.TB, tree, name, dir string) {
	t.Helper()
	found := findModule(tree, name)
	if found == "" {
		t.Fatalf("%s has no module %s; if another HXEN has unpacked it, remove the folder", tree, name)
	}
	to := filepath.Join(dir, name+".ko")
	if strings.HasSuffix(found, ".xz") {
		if err := os.WriteFile(to, []byte(output(t, "", "busybox", "xzcat", found)), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	put(t, found, to)
}

// findModule returns a module's file, compressed or not; empty: there is none.
func findModule(tree, name string) (found string) {
	_ = filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		if base, _, ok := strings.Cut(filepath.Base(path), ".ko"); err == nil && ok && base == name {
			found = path
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// PutBusybox makes a folder's bin/busybox.
func PutBusybox(t testing.TB, stage string) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	Mkdirs(t, stage, "bin")
	put(t, busybox, filepath.Join(stage, "bin", "busybox"))
}

// PackInitrd makes an initial ramdisk of a folder and returns its path.
func PackInitrd(t testing.TB, stage string) string {
	t.Helper()
	initrd := filepath.Join(t.TempDir(), "initrd")
	output(t, stage, "busybox", "sh", "-c", `busybox find . | busybox cpio -o -H newc > "$0"`, initrd)
	return initrd
}

// Mkdirs makes folders in dir.
func Mkdirs(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := os.MkdirAll(filepath.Join(dir, n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// put copies a program or a module.
func put(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// output runs a program in dir and returns what it printed.
func output(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, stderr.Bytes())
	}
	return string(out)
}
