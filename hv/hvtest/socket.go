package hvtest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
)

const windows = runtime.GOOS == "windows"

var pipes atomic.Int64

// RunDir is a runtime folder of a test's own, as platform/paths has them: where the
// sockets are or, on Windows, what the names of pipes begin with.
func RunDir(t testing.TB) string {
	t.Helper()
	if windows {
		return fmt.Sprintf(`\\.\pipe\hxen-test-%d-%d`, os.Getpid(), pipes.Add(1))
	}
	dir, err := os.MkdirTemp("", "hx") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Socket is a path in such a folder, for platform/localsock.
func Socket(t testing.TB) string {
	t.Helper()
	run := RunDir(t)
	if windows {
		return run + ".sock"
	}
	return filepath.Join(run, "sock")
}
