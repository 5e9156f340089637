package paths

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSocketsFit holds every socket path under MaxSocket for a 200-byte HXEN_HOME.
func TestSocketsFit(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/4294967295")
	for _, runtime := range []string{"/run/user/4294967295", "", "/" + strings.Repeat("deep/", 40)} {
		t.Setenv("XDG_RUNTIME_DIR", runtime)
		s, err := At("/" + strings.Repeat("x", 199))
		if err != nil {
			t.Fatal(err)
		}
		run := runDir(s.Tag())
		g := s.Guest("01234567-89ab-4def-8123-456789abcdef", run)
		n := s.Network("01234567-89ab-4def-8123-456789abcdef", run)
		for _, p := range []string{Socket(run), g.Ctl(), g.Net(7), n.Ctl(), n.Frames()} {
			if len(p) >= MaxSocket {
				t.Errorf("%d bytes: %s", len(p), p)
			}
		}
	}
}

func TestRunDirIsFoundFromTheStore(t *testing.T) {
	s, _ := At(t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if _, err := s.RunDir(); !os.IsNotExist(err) && err == nil {
		t.Fatal("a fresh store has no runtime folder")
	}
	first, err := s.ClaimRunDir()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first, `\\.\`) { // Windows has pipes, which need no folder
		if err := os.MkdirAll(first, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// While a client reads the record Windows does not let anybody replace it.
	reading, err := os.Open(s.runRecord())
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	// Another environment (a service started at boot) must keep the folder in use.
	t.Setenv("XDG_RUNTIME_DIR", "")
	if again, err := s.ClaimRunDir(); err != nil || again != first {
		t.Fatalf("claimed %q (%v), want %q", again, err, first)
	}
	if found, err := s.RunDir(); err != nil || found != first {
		t.Fatalf("client finds %q (%v), want %q", found, err, first)
	}
}

func TestHomeVarMovesTheStore(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(HomeVar, dir)
	s, err := Default()
	if err != nil || s.Root != dir || !strings.HasPrefix(s.Guests(), dir+string(filepath.Separator)) {
		t.Fatalf("%+v %v", s, err)
	}
}
