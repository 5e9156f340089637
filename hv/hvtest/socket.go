package hvtest

import (
	"fmt"
	"io"
	"net"
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

// Listen serves a local socket for tests of what is handed connections and does not
// ask what they are; what dials it asks its Addr. On Windows, whose pipes only
// platform/localsock has, it is a port of the loopback.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	network, address := "tcp", "127.0.0.1:0"
	if !windows {
		network, address = "unix", Socket(t)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Join has what comes from one end go to the other, both ways, until either ends.
func Join(a, b io.ReadWriteCloser) {
	go func() { _, _ = io.Copy(a, b); a.Close() }()
	go func() { _, _ = io.Copy(b, a); b.Close() }()
}
