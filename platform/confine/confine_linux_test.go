package confine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain becomes the confined process when it is started as such.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CONFINE_TEST_DIR"); dir != "" {
		for _, line := range confined(dir) {
			fmt.Println(line)
		}
		os.Exit(0)
	}
	if dir := os.Getenv("DIALER_TEST_DIR"); dir != "" {
		err := ServeDialer(os.NewFile(3, "pair"), Doors{
			Dial: func(path string) (net.Conn, error) {
				if filepath.Dir(path) != dir {
					return nil, errors.New("this is no network's socket")
				}
				return net.Dial("unix", path)
			},
			Open: func(path string, write bool) (*os.File, error) {
				if path != filepath.Join(dir, "granted") || write {
					return nil, errors.New("this is not granted")
				}
				return os.Open(path)
			},
		})
		fmt.Println(err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// confined confines this process and returns what it can and cannot do then, a
// line each: "name: error".
func confined(dir string) (lines []string) {
	say := func(name string, err error) { lines = append(lines, fmt.Sprintf("%s: %v", name, err)) }
	path := func(name string) string { return filepath.Join(dir, name) }

	listener, err := net.Listen("unix", path("socket"))
	if err != nil {
		return []string{err.Error()}
	}
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		return []string{err.Error()}
	}
	// A thread that was there before, as a guest's processors are.
	old, answer := make(chan func() error), make(chan error)
	go func() {
		runtime.LockOSThread()
		for f := range old {
			answer <- f()
		}
	}()

	r, err := Apply(Policy{
		Read: []string{path("read"), path("disk"), path("absent")}, Write: []string{path("write"), path("image")},
		Ioctl: 0xae, Files: 256,
	})
	if err != nil {
		return []string{err.Error()}
	}
	say("walls "+strings.Join(r.Walls, ","), nil)

	open := func(name string, flag int) error {
		f, err := os.OpenFile(path(name), flag, 0o600)
		if err == nil {
			f.Close()
		}
		return err
	}
	old <- func() error { return open("secret", os.O_RDONLY) }
	say("an old thread opens a secret", <-answer)
	say("read a file", open("disk", os.O_RDONLY))
	say("read below a folder", open("read/file", os.O_RDONLY))
	say("write a file that is to be read", open("disk", os.O_RDWR))
	say("write an image", open("image", os.O_RDWR))
	say("make a file", open("write/new", os.O_RDWR|os.O_CREATE))
	say("rename it over another", os.Rename(path("write/new"), path("write/file")))
	say("remove it", os.Remove(path("write/file")))
	say("make a file elsewhere", open("new", os.O_RDWR|os.O_CREATE))
	say("open a secret", open("secret", os.O_RDONLY))
	say("open a secret by a link", open("write/link", os.O_RDONLY))
	say("make a link", os.Symlink(path("secret"), path("write/other")))
	say("start a program", func() error { _, err := os.StartProcess("/bin/true", nil, &os.ProcAttr{}); return err }())
	_, err = net.Dial("tcp", "127.0.0.1:1")
	say("dial TCP", err)
	_, err = net.Dial("unix", path("socket"))
	say("dial a socket", err)
	say("signal the parent", syscall.Kill(os.Getppid(), 0))
	say("trace the child", unix.PtraceAttach(child.Process.Pid))
	_, err = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	say("make memory that runs", err)
	_, err = unix.IoctlGetTermios(0, unix.TCGETS)
	say("another ioctl", err)
	say("mount", unix.Mount("none", path("write"), "tmpfs", 0, ""))
	say("confine again", func() error { _, err := Apply(Policy{}); return err }())

	say("end the child", child.Process.Kill())
	say("wait for it", func() error { _, err := child.Process.Wait(); return err }())
	fmt.Println("dial me") // the test does, now
	listener.(*net.UnixListener).SetDeadline(time.Now().Add(2 * time.Minute))
	c, err := listener.Accept()
	say("accept", err)
	if err == nil {
		_, err = c.Write([]byte("hello"))
		say("write to it", err)
		c.Close()
	}
	say("go on as a Go program", work())
	return lines
}

// work is what any Go program does: threads, memory, timers.
func work() error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := 0
	for range 20 {
		wg.Go(func() {
			runtime.LockOSThread()
			var all [][]byte
			for range 100 {
				all = append(all, make([]byte, 100<<10))
			}
			time.Sleep(time.Millisecond)
			mu.Lock()
			kept += len(all)
			mu.Unlock()
		})
	}
	wg.Wait()
	runtime.GC()
	if kept != 2000 {
		return errors.New("work got lost")
	}
	return nil
}

func TestConfinedProcess(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"read", "write"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"secret", "disk", "image", "read/file", "write/file"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "secret"), filepath.Join(dir, "write/link")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CONFINE_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		if strings.HasPrefix(said.String(), "dial me\n") {
			if c, err := net.Dial("unix", filepath.Join(dir, "socket")); err != nil {
				t.Error(err)
			} else {
				defer c.Close()
			}
			said.Reset()
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the confined process: %v\n%s", err, said.String())
	}
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	if len(lines) < 10 {
		t.Fatalf("the confined process said:\n%s", said.String())
	}
	landlocked := strings.Contains(lines[0], "landlock")
	if !landlocked {
		t.Log("this kernel has no Landlock: files are not restricted")
	}
	if !strings.Contains(lines[0], "seccomp") {
		t.Errorf("no seccomp: %s", lines[0])
	}
	refused := []string{"start a program", "dial TCP", "dial a socket", "signal the parent", "trace the child",
		"make memory that runs", "another ioctl", "mount", "make a link", "confine again"}
	files := []string{"an old thread opens a secret", "write a file that is to be read", "make a file elsewhere",
		"open a secret", "open a secret by a link"}
	for _, line := range lines[1:] {
		name, err, _ := strings.Cut(line, ": ")
		want := "<nil>"
		switch {
		case name == "confine again":
			want = ErrTooLate.Error()
		case slices.Contains(refused, name):
			want = "operation not permitted"
		case landlocked && slices.Contains(files, name):
			want = "permission denied"
		case slices.Contains(files, name):
			continue
		}
		if !strings.HasSuffix(err, want) {
			t.Errorf("%s: got %s, want %s", name, err, want)
		}
	}
}

func TestDialer(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() { // an echo
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DIALER_TEST_DIR="+dir)
	d, err := StartDialer(func(f *os.File) error {
		cmd.ExtraFiles = []*os.File{f}
		return cmd.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			c, err := d.Dial(t.Context(), filepath.Join(dir, "socket"))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			want := fmt.Sprintf("hello %02d", i)
			got := make([]byte, len(want))
			if _, err := c.Write([]byte(want)); err != nil {
				t.Error(err)
			} else if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	for path, want := range map[string]string{
		"/etc/passwd":                     "this is no network's socket",
		filepath.Join(dir, "absent"):      "no such file",
		strings.Repeat("a", maxMessage+1): "is too long",
	} {
		if _, err := d.Dial(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("dial %.20s: %v", path, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "granted"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := d.Open(t.Context(), filepath.Join(dir, "granted"), false); err != nil {
		t.Error(err)
	} else {
		if b, err := io.ReadAll(f); err != nil || string(b) != "content" {
			t.Errorf("a granted file holds %q, %v", b, err)
		}
		f.Close()
	}
	for path, write := range map[string]bool{"/etc/passwd": false, filepath.Join(dir, "granted"): true} {
		if _, err := d.Open(t.Context(), path, write); err == nil || !strings.Contains(err.Error(), "not granted") {
			t.Errorf("open %s: %v", path, err)
		}
	}
	if c, err := d.Dial(t.Context(), filepath.Join(dir, "socket")); err != nil {
		t.Errorf("dial after refusals: %v", err)
	} else {
		c.Close()
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the dialling process: %v", err)
	}
	if _, err := d.Dial(t.Context(), filepath.Join(dir, "socket")); err == nil {
		t.Error("a dialer that was closed dials")
	}
}
