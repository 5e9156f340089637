package main

// End-to-end tests: the real programs, in a store of their own, with real guests
// in QEMU. The short ones run in every "make test", the long ones (HXEN_LONG) in
// "make test-e2e". Files: e2e_demo, e2e_faults, e2e_media, e2e_debian.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/platform/paths"
)

// patience guards against hangs; nothing is expected to take that long. What the
// long tests boot takes minutes, and several times as long on a busy computer.
var patience = func() time.Duration {
	if os.Getenv("HXEN_LONG") != "" {
		return 20 * time.Minute
	}
	return 8 * time.Minute
}()

// long skips what takes minutes unless it was asked for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("HXEN_LONG") == "" {
		t.Skip("takes minutes; make test-e2e runs it")
	}
}

// programs builds the programs, the window too where a test needs it, into a
// folder of this checkout: it is the same every time, so none is left behind.
var programs, windowProgram = building("0", "hxen", "hxen-worker", "hxen-netd"), building("1", "hxen-desktop")

func building(cgo string, names ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir, err := filepath.Abs(filepath.Join(root, ".cache", "e2e"))
		if err != nil {
			return "", err
		}
		args := []string{"build", "-trimpath", "-buildvcs=false", "-o", dir + "/"}
		for _, n := range names {
			args = append(args, "./app/cmd/"+n)
		}
		build := exec.Command("go", args...)
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", strings.Join(names, ", "), err, out)
		}
		return dir, nil
	})
}

// reapVar makes the test binary the reaper of one house: its store and its
// runtime folder, parted by a colon.
const reapVar = "HXEN_TEST_REAP"

func TestMain(m *testing.M) {
	if what := os.Getenv(reapVar); what != "" {
		reap(what)
		return
	}
	os.Exit(m.Run())
}

// reap waits until the test has ended in whatever way, killed or timed out as
// well: its end of standard input closes then. It kills what runs in the house.
func reap(what string) {
	home, run, _ := strings.Cut(what, ":")
	_, _ = io.Copy(io.Discard, os.Stdin)
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		left := processesIn(home, "")
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			fmt.Fprintln(os.Stderr, "these processes do not end:", left)
			os.Exit(1)
		}
		for _, p := range left {
			_ = syscall.Kill(p, syscall.SIGKILL)
		}
	}
	os.RemoveAll(run)
	os.RemoveAll(home)
}

// house is one store with its service and guests.
type house struct {
	t    *testing.T
	bin  string
	home string
	env  []string
}

func newHouse(t *testing.T) *house { return newHouseAt(t, t.TempDir()) }

// newHouseAt is newHouse with the store in this folder.
func newHouseAt(t *testing.T, home string) *house {
	t.Helper()
	hvtest.Require(t, "qemu")
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("", "hx") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, bin: bin, home: home}
	h.env = append(os.Environ(), paths.HomeVar+"="+h.home, "XDG_RUNTIME_DIR="+run)
	reaper := exec.Command("/proc/self/exe")
	reaper.Env, reaper.Stderr = append(os.Environ(), reapVar+"="+h.home+":"+run), os.Stderr
	reaper.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of reach of Ctrl-C
	alive, err := reaper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reaper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			h.logs()
		}
		alive.Close()
		if err := reaper.Wait(); err != nil {
			t.Errorf("end all processes of the test: %v", err)
		}
	})
	return h
}

// logs shows what the programs wrote, for a test that failed.
func (h *house) logs() {
	files, _ := filepath.Glob(h.home + "/*.log")
	more, _ := filepath.Glob(h.home + "/*/*/*.log")
	for _, f := range append(files, more...) {
		b, _ := os.ReadFile(f)
		h.t.Logf("%s:\n%s", strings.TrimPrefix(f, h.home), b[max(0, len(b)-4000):])
	}
}

// hxen runs the command line and returns what it printed, and its exit code.
func (h *house) hxen(stdin string, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(h.bin, "hxen"), args...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = h.env, strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		h.t.Fatalf("hxen %s did not end; it printed:\n%s%s", strings.Join(args, " "), out.Bytes(), errs.Bytes())
	}
	if err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs a command that has to succeed.
func (h *house) must(args ...string) string {
	h.t.Helper()
	out, errs, code := h.hxen("", args...)
	if code != 0 {
		h.t.Fatalf("hxen %s: exit code %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// connect opens the API as a program would.
func (h *house) connect() *client.Client {
	h.t.Helper()
	store, err := paths.At(h.home)
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := client.Open(h.t.Context(), client.Options{Store: store, NoStart: true, Program: "e2e", Version: "test"})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

// vm returns a guest's record by name.
func (h *house) vm(name string) api.VM {
	h.t.Helper()
	var all []api.VM
	if err := json.Unmarshal([]byte(h.must("list", "-l", name)), &all); err != nil || len(all) != 1 {
		h.t.Fatalf("list -l %s: %d records, %v", name, len(all), err)
	}
	return all[0]
}

// eventually waits for something outside this process.
func (h *house) eventually(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); ; {
		began := time.Now()
		if ok() {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(max(50*time.Millisecond, 2*time.Since(began))) // looking must not keep it from happening
	}
}

// processes returns the processes of this house whose program has this name, or
// all: they were started with its HXEN_HOME, or name its folders.
func (h *house) processes(name string) []int { return processesIn(h.home, name) }

func processesIn(home, name string) []int {
	var out []int
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic(err) // no Linux without it
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		if !bytes.Contains(env, []byte(paths.HomeVar+"="+home+"\x00")) {
			continue
		}
		args, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		program, rest, _ := strings.Cut(string(args), "\x00")
		if filepath.Base(program) == "hxen" && strings.HasPrefix(rest, "service") {
			program = "service"
		}
		// A service that has just started asks QEMU what it is; that QEMU runs no guest.
		if strings.HasPrefix(filepath.Base(program), "qemu-system-") && !strings.Contains(rest, "-uuid\x00") {
			program = "qemu-probe"
		}
		if len(args) > 0 && (name == "" || filepath.Base(program) == name) {
			out = append(out, pid)
		}
	}
	return out
}

// one returns the house's one process of a program. A process that was forked a
// moment ago still has its parent's name, so there may be two for an instant.
func (h *house) one(name string) int {
	h.t.Helper()
	var all []int
	h.eventually("one process called "+name, func() bool {
		all = h.processes(name)
		return len(all) == 1
	})
	return all[0]
}

// screen takes a picture of a guest's screen.
func (h *house) screen(name string) *image.RGBA {
	h.t.Helper()
	img, err := png.Decode(strings.NewReader(h.must("screenshot", name, "-")))
	if err != nil {
		h.t.Fatalf("screenshot of %s: %v", name, err)
	}
	out := image.NewRGBA(img.Bounds())
	draw.Draw(out, out.Rect, img, img.Bounds().Min, draw.Src)
	return out
}

// colours counts a picture's colours.
func colours(img *image.RGBA) map[[3]byte]int {
	n := map[[3]byte]int{}
	for i := 0; i < len(img.Pix); {
		c, from := [3]byte(img.Pix[i:i+3]), i
		for i < len(img.Pix) && [3]byte(img.Pix[i:i+3]) == c { // most neighbours are alike
			i += 4
		}
		n[c] += (i - from) / 4
	}
	return n
}

// shell is a guest's shell on its serial console, through "hxen console".
type shell struct {
	h    *house
	cmd  *exec.Cmd
	in   io.WriteCloser
	mu   sync.Mutex // guards seen and ended
	wake *sync.Cond
	seen bytes.Buffer
	done bool
}

func (h *house) console(name string) *shell {
	h.t.Helper()
	s := &shell{h: h, cmd: exec.Command(filepath.Join(h.bin, "hxen"), "console", name)}
	s.wake = sync.NewCond(&s.mu)
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = h.env, s, s
	in, err := s.cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	s.in = in
	if err := s.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		s.mu.Lock()
		s.done = true
		s.mu.Unlock()
		s.wake.Broadcast()
	}()
	h.t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	return s
}

// Write takes what the guest prints.
func (s *shell) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake.Broadcast()
	return s.seen.Write(b)
}

// expect waits until the guest has printed a text, and forgets all up to it.
func (s *shell) expect(want string) string {
	s.h.t.Helper()
	guard := time.AfterFunc(patience, func() {
		s.mu.Lock()
		s.done = true
		s.mu.Unlock()
		s.wake.Broadcast()
	})
	defer guard.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if i := bytes.Index(s.seen.Bytes(), []byte(want)); i >= 0 {
			return string(s.seen.Next(i + len(want)))
		}
		if s.done {
			s.h.t.Fatalf("the console ended before %q; it said:\n%s", want, s.seen.Bytes())
		}
		s.wake.Wait()
	}
}

// say types a line.
func (s *shell) say(format string, args ...any) {
	s.h.t.Helper()
	if _, err := fmt.Fprintf(s.in, format+"\n", args...); err != nil {
		s.h.t.Fatal(err)
	}
}

// run types a command into a shell and returns what it printed.
func (s *shell) run(command string) string {
	s.h.t.Helper()
	// The mark is split, so that the echo of the command does not hold it.
	s.say("%s; echo en''d-of-it", command)
	return s.expect("end-of-it")
}
