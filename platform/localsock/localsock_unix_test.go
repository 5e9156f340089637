//go:build linux || darwin

package localsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// childEnv makes this test binary a child that does one thing as another user:
// "serve UID PATH" or "dial UID PATH".
const childEnv = "HXEN_LOCALSOCK_TEST"

func TestMain(m *testing.M) {
	if what := strings.Fields(os.Getenv(childEnv)); len(what) == 3 {
		if err := child(what[0], what[1], what[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(verb, uid, path string) error {
	id, err := strconv.Atoi(uid)
	if err != nil {
		return err
	}
	if err := syscall.Setuid(id); err != nil {
		return err
	}
	if verb == "dial" {
		c, err := Dial(context.Background(), path)
		if err != nil {
			return fmt.Errorf("dial: %w", err)
		}
		_, err = io.Copy(io.Discard, c)
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return l.Close()
}

func childCmd(t *testing.T, verb string, uid int, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", childEnv, verb, uid, path))
	return cmd
}

// testPath is a socket in a private folder; t.TempDir's names would be too long.
func testPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hxls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "t.sock")
}

func checkSelf(t *testing.T, p PeerInfo) {
	t.Helper()
	if p.UID != os.Geteuid() {
		t.Errorf("peer's user is %d, want %d", p.UID, os.Geteuid())
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to act as another user")
	}
}

func TestSocketIsPrivate(t *testing.T) {
	path := testPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for file, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		fi, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", file, fi.Mode().Perm(), want)
		}
	}
}

// stale leaves a socket behind as a killed server does.
func stale(t *testing.T, path string) {
	t.Helper()
	if err := EnsureDir(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
}

func TestStaleSocketIsReplacedByExactlyOne(t *testing.T) {
	path := testPath(t)
	for range 20 {
		stale(t, path)
		if _, err := Dial(withHang(t), path); !Absent(err) {
			t.Fatalf("dial of a dead socket: %v", err)
		}
		var mu sync.Mutex
		var won []net.Listener
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				l, err := Listen(path)
				if err != nil {
					if !errors.Is(err, ErrInUse) {
						t.Errorf("loser: %v", err)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				won = append(won, l)
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d servers believe that they own the path", len(won))
		}
		c, err := Dial(withHang(t), path)
		if err != nil {
			t.Fatalf("the winner cannot be reached: %v", err)
		}
		c.Close()
		won[0].Close()
	}
}

func TestOtherThingsInTheWayStay(t *testing.T) {
	path := testPath(t)
	if err := EnsureDir(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(path); err == nil {
		l.Close()
		t.Fatal("listened over a file")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Fatalf("the file is gone: %q, %v", b, err)
	}
}

func TestPathTooLong(t *testing.T) {
	path := filepath.Join(filepath.Dir(testPath(t)), strings.Repeat("x", 120))
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Fatalf("want an error that names the length, got %v", err)
	}
	if _, err := Dial(withHang(t), path); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Fatalf("want an error that names the length, got %v", err)
	}
}

func TestEnsureDirRefusesWhatIsNotPrivate(t *testing.T) {
	base := t.TempDir()
	mk := func(name string, mode os.FileMode) string {
		p := filepath.Join(base, name)
		if err := os.Mkdir(p, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := mk("good", 0o700)
	if err := EnsureDir(good); err != nil {
		t.Errorf("a private folder: %v", err)
	}
	link := filepath.Join(base, "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for what, p := range map[string]string{
		"open to the group": mk("group", 0o770),
		"open to all":       mk("all", 0o701),
		"a link":            link,
		"a file":            file,
		"in an open parent": filepath.Join(mk("open", 0o777), "run"),
	} {
		if err := EnsureDir(p); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if err := EnsureDir(filepath.Join(mk("sticky", 0o777|os.ModeSticky), "run")); err != nil {
		t.Errorf("in a sticky parent like /tmp: %v", err)
	}
	t.Run("umask", func(t *testing.T) {
		old := syscall.Umask(0o777)
		err := EnsureDir(filepath.Join(base, "umask"))
		syscall.Umask(old)
		if err != nil {
			t.Errorf("under a strange umask: %v", err)
		}
	})
	t.Run("foreign", func(t *testing.T) {
		needRoot(t)
		p := mk("foreign", 0o700)
		if err := os.Chown(p, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if err := EnsureDir(p); !errors.Is(err, ErrForeign) {
			t.Errorf("another user's folder: %v", err)
		}
		if _, err := Listen(filepath.Join(p, "s")); !errors.Is(err, ErrForeign) {
			t.Errorf("listen in another user's folder: %v", err)
		}
	})
}

// openDir is a folder that every user can reach.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hxls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAnotherUserIsNotAllowed(t *testing.T) {
	needRoot(t)
	path := filepath.Join(openDir(t), "s")
	l, err := net.Listen("unix", path) // Listen would keep the other user out
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := childCmd(t, "dial", 12345, path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Peer(c)
	if err != nil {
		t.Fatal(err)
	}
	if p.UID != 12345 || p.PID != cmd.Process.Pid {
		t.Errorf("peer %+v, want user 12345, process %d", p, cmd.Process.Pid)
	}
	if err := Allowed(p); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("another user: %v", err)
	}
	c.Close()
	if err := cmd.Wait(); err != nil { // and root's server is good enough for a user
		t.Errorf("the user's Dial of root's server: %v", err)
	}
}

func TestDialRefusesAForeignServer(t *testing.T) {
	needRoot(t)
	path := filepath.Join(openDir(t), "s")
	srv := childCmd(t, "serve", 12345, path)
	stdin, err := srv.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := srv.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stdin.Close(); _ = srv.Wait() }()
	buf := make([]byte, 64)
	if n, err := stdout.Read(buf); string(buf[:n]) != "ready\n" {
		t.Fatalf("server says %q, %v", buf[:n], err)
	}
	out, err := childCmd(t, "dial", 12346, path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), ErrForeign.Error()) {
		t.Errorf("user 12346 on user 12345's server: %v, %s", err, out)
	}
	c, err := Dial(withHang(t), path)
	if err != nil {
		t.Fatalf("root may reach any user's server: %v", err)
	}
	c.Close()
}
