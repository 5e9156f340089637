package bootdisk

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const testUUID = "11111111-2222-4333-8444-555555555555"

// command runs a host's program in dir.
func command(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+os.Getenv("PATH")+":/sbin:/usr/sbin", "LC_ALL=C.UTF-8")
	if path, err := exec.LookPath("/sbin/" + name); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

// tree makes a folder of files for a file system; a name that ends in > is a link.
// The programs that make file systems of them are Linux's; elsewhere TestSeeds reads
// some that they have made.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the programs that make file systems are Linux's")
	}
	dir := t.TempDir()
	for name, content := range files {
		name, link := strings.CutSuffix(name, ">")
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil && link {
			err = os.Symlink(content, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// extImage makes a file system of a folder with mke2fs.
func extImage(t testing.TB, dir string, mib int, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "fs")
	args = append([]string{"-q", "-F", "-U", testUUID, "-L", "root", "-d", dir}, args...)
	command(t, "", "mke2fs", append(args, out, fmt.Sprintf("%dM", mib))...)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withTable puts pieces onto a disk with sfdisk: the first script line is the
// label, and each piece lies at its MiB.
func withTable(t testing.TB, mib int, script string, pieces map[int][]byte) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "disk")
	disk := make([]byte, mib<<20)
	if err := os.WriteFile(out, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "", "sh", "-ec", `PATH=$PATH:/sbin:/usr/sbin; printf "$1" | sfdisk -q "$2"`, "sh", script, out)
	disk, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for at, b := range pieces {
		copy(disk[at<<20:], b)
	}
	return disk
}

type memory []byte

func (m memory) ReadAt(b []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(b, off) }
func (m memory) WriteAt(b []byte, off int64) (int, error) {
	return copy(m[off:], b), nil
}

func find(t testing.TB, disks ...[]byte) (*Menu, error) {
	t.Helper()
	var d []Disk
	for _, b := range disks {
		d = append(d, Disk{memory(b), int64(len(b))})
	}
	return Find(t.Context(), d)
}

func mustFind(t testing.TB, disks ...[]byte) *Menu {
	t.Helper()
	m, err := find(t, disks...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func content(t testing.TB, f *File) string {
	t.Helper()
	if f == nil {
		return ""
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// openVolume opens a file system in memory.
func openVolume(t testing.TB, b []byte) fileSystem {
	t.Helper()
	e := &extents{}
	e.add(span{memory(b), &budget{t.Context(), maxReads}, 0, uint64(len(b))})
	fs, err := openFS(e)
	if err != nil || fs == nil {
		t.Fatalf("no file system: %v", err)
	}
	return fs
}

// sameTree compares every file and folder with the ones that were put in.
func sameTree(t *testing.T, vol fileSystem, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir)
		if d.IsDir() {
			got, err := vol.names("/" + name)
			want, _ := os.ReadDir(path)
			if n := len(got); err != nil || n != len(want) && !(name == "" && n == len(want)+1) { // lost+found
				t.Errorf("folder %q: %d names of %d, %v", name, n, len(want), err)
			}
			return nil
		}
		if d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := vol.open(name)
		if err != nil {
			t.Error(err)
			return nil
		}
		got := sha256.New()
		if _, err := io.CopyBuffer(got, io.NewSectionReader(f, 0, f.Size), make([]byte, 3000)); err != nil {
			t.Error(err)
		}
		if sum := sha256.Sum256(want); !bytes.Equal(got.Sum(nil), sum[:]) {
			t.Errorf("%s differs: %d bytes of %d", name, f.Size, len(want))
		}
		files++
		return nil
	})
	if err != nil || files < 3 {
		t.Fatalf("%d files: %v", files, err)
	}
}

// noise is n bytes that no compression or hole can hide.
func noise(n int) string {
	r := rand.NewChaCha8([32]byte{7})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return string(b)
}
