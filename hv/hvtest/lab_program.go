package hvtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBinary builds the tests of one of our packages, named from the module's root, for
// a lab, which has no libraries; env may name another system. It returns the path.
func TestBinary(t testing.TB, pkg string, env ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "test")
	build := exec.Command("go", "test", "-c", "-trimpath", "-ldflags", "-s -w", "-o", out, "github.com/hxen-project/hxen/"+pkg)
	build.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the tests of %s: %v\n%s", pkg, err, b)
	}
	return out
}

// WithLibraries adds a program to a lab's files, in a folder of its own there with
// the libraries that it needs; the folder's "run" starts it.
func WithLibraries(t testing.TB, files map[string]string, folder, program string) {
	t.Helper()
	loader := ""
	for _, word := range strings.Fields(output(t, "", "ldd", program)) {
		if filepath.IsAbs(word) {
			files[folder+"/"+filepath.Base(word)] = word
			if strings.Contains(filepath.Base(word), "ld-linux") {
				loader = filepath.Base(word)
			}
		}
	}
	files[folder+"/"+filepath.Base(program)] = program
	run := filepath.Join(t.TempDir(), "run")
	script := "#!/bin/sh\nexec ${0%/*}/" + loader + " --library-path ${0%/*} ${0%/*}/" + filepath.Base(program) + " \"$@\"\n"
	if err := os.WriteFile(run, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	files[folder+"/run"] = run
}
