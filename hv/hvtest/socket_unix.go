//go:build !windows

package hvtest

import (
	"os"
	"testing"
)

const socketName = "/sock"

func runDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "hx") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
