package diskfile

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestLocks holds the locks against each other's, and against QEMU's own.
func TestLocks(t *testing.T) {
	hvtest.Require(t, "qemu")
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	// qemu-io uses an image as a guest's disk does, but when it only reads it suffers
	// others to write.
	qemu := func(readonly bool) (ok bool) {
		args := []string{"-f", "raw", "-c", "read 0 512", path}
		if readonly {
			args = append([]string{"-r"}, args...)
		}
		out, err := exec.Command("qemu-io", args...).CombinedOutput()
		if err != nil && !bytes.Contains(out, []byte("lock")) {
			t.Fatalf("qemu-io: %v\n%s", err, out)
		}
		return err == nil
	}
	ours := func(readonly bool) (ok bool) {
		f, err := Open(path, readonly)
		if err != nil {
			return false
		}
		f.Close()
		return true
	}
	for _, holder := range []struct {
		name     string
		readonly bool
	}{{"a reader", true}, {"a writer", false}} {
		f, err := Open(path, holder.readonly)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			who      string
			use      func(bool) bool
			readonly bool
		}{{"QEMU", qemu, true}, {"QEMU", qemu, false}, {"another guest", ours, true}, {"another guest", ours, false}} {
			if got, want := c.use(c.readonly), c.readonly && (holder.readonly || c.who == "QEMU"); got != want {
				t.Errorf("beside %s, %s (read-only %v) may use it: %v", holder.name, c.who, c.readonly, got)
			}
		}
		f.Close()
	}
	// QEMU first.
	cmd := exec.Command("qemu-io", "-f", "raw", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // its prompt: the image is open
		t.Fatal(err)
	}
	if ours(true) || ours(false) {
		t.Error("an image that QEMU writes was opened")
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if !ours(false) {
		t.Error("an image that nobody uses was not opened")
	}
}
