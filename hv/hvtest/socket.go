package hvtest

import "testing"

// RunDir is a runtime folder of a test's own, as platform/paths has them: where the
// sockets are or, on Windows, what the names of pipes begin with.
func RunDir(t testing.TB) string {
	t.Helper()
	return runDir(t)
}

// Socket is a path in such a folder, for platform/localsock.
func Socket(t testing.TB) string {
	t.Helper()
	return runDir(t) + socketName
}
