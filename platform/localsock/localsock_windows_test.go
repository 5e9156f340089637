package localsock

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

var pipes atomic.Int64

func testPath(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf(`%shxen-test-%d-%d`, prefix, os.Getpid(), pipes.Add(1))
}

// The runtime "folder" of a system with pipes is only a stem of names.
func TestEnsureDirOfPipes(t *testing.T) {
	if err := EnsureDir(prefix + "hxen-12345678"); err != nil {
		t.Error(err)
	}
	file := filepath.Join(os.TempDir(), fmt.Sprintf("hxen-test-%d", os.Getpid()))
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file)
	if err := EnsureDir(file); err == nil {
		t.Error("a file was taken for a folder")
	}
}

func checkSelf(t *testing.T, p PeerInfo) {
	t.Helper()
	me, err := currentSID()
	if err != nil {
		t.Fatal(err)
	}
	if p.SID != me {
		t.Errorf("peer's user is %q, want %q", p.SID, me)
	}
}

// TestListenForOwner: a service of another account lets the owner of its guests in.
func TestListenForOwner(t *testing.T) {
	const owner = "S-1-5-21-1-2-3-1001"
	path := testPath(t)
	l, err := Listen(path, owner, "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	p := PeerInfo{UID: -1, PID: -1, SID: owner}
	if err := Allowed(p, owner); err != nil {
		t.Error(err)
	}
	if err := Allowed(p, ""); err == nil {
		t.Error("somebody else is let in")
	}
	if _, err := Listen(path+"x", "nobody"); err == nil {
		t.Error("who is to be let in was not understood, and not told")
	}
}
