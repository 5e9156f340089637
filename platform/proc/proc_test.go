package proc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hang guards a test against waiting for ever.
const hang = 5 * time.Minute

// childEnv makes this test binary one of the children below.
const childEnv = "HXEN_PROC_TEST"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		os.Exit(child(strings.Split(args, "\n")))
	}
	os.Exit(m.Run())
}

// child does what its words say, one "ready" line with details first.
func child(args []string) int {
	switch args[0] {
	case "echo": // answers lines until its input ends
		fmt.Println("ready")
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "dial": // connects to an address, and stays until the other end lets go
		c, err := net.Dial("tcp4", args[1])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Fprintln(c, "here")
		_, _ = io.Copy(io.Discard, c)
	case "stay":
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "exit":
		fmt.Println("out")
		fmt.Fprintln(os.Stderr, "err")
		n, _ := strconv.Atoi(args[1])
		return n
	case "lock":
		l, err := TryLock(args[1])
		if err != nil {
			fmt.Println("refused", errors.Is(err, ErrLocked))
			return 0
		}
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		l.Close()
	case "parent": // parent dies|detached [lock]: starts a child and tells who it is
		c := self("stay")
		c.Detach, c.DieWithParent = args[1] == "detached", args[1] == "dies"
		if len(args) > 2 {
			l, err := TryLock(args[2])
			if err != nil {
				fmt.Println(err)
				return 1
			}
			c.ExtraFiles = []*os.File{l.File()}
		}
		p, err := Start(c)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("ready", p.PID(), p.StartTime())
		time.Sleep(time.Hour)
	case "burn":
		block := bytes.Repeat([]byte{1}, 64<<20)
		for {
			u, err := Use(os.Getpid())
			if err != nil {
				fmt.Println(err)
				return 1
			}
			if u.CPU > 300*time.Millisecond {
				break
			}
			for i := range block {
				block[i]++
			}
		}
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Println(block[0])
	}
	return 0
}

// self is this test binary as the child that args describe.
func self(args ...string) Command {
	return Command{Path: os.Args[0], Env: append(os.Environ(), childEnv+"="+strings.Join(args, "\n"))}
}

// talk is a child whose output is read line by line and whose input can be ended.
type talk struct {
	*Process
	in  *os.File
	out *bufio.Reader
}

func startChild(t *testing.T, c Command) talk {
	t.Helper()
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdin, c.Stdout, c.Stderr = inR, outW, os.Stderr
	p, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	inR.Close()
	outW.Close()
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		inW.Close()
		outR.Close()
	})
	return talk{p, inW, bufio.NewReader(outR)}
}

func (k talk) line(t *testing.T) string {
	t.Helper()
	s, err := k.out.ReadString('\n')
	if err != nil {
		t.Fatalf("child says nothing more: %q, %v", s, err)
	}
	return strings.TrimSpace(s)
}

func waitDone(t *testing.T, p *Process, what string) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(hang):
		t.Fatalf("%s still runs", what)
	}
}

func TestOutputAndExitCode(t *testing.T) {
	c := self("exit", "7")
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	p, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	code, err := p.Wait()
	if code != 7 || err != nil {
		t.Errorf("Wait: %d, %v; want 7", code, err)
	}
	if strings.TrimSpace(out.String()) != "out" || strings.TrimSpace(errs.String()) != "err" {
		t.Errorf("output %q and %q", out.String(), errs.String())
	}
	if code, _ := p.Wait(); code != 7 {
		t.Errorf("the second Wait: %d", code)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("Kill of what has ended: %v", err)
	}
}

func TestStartRefuses(t *testing.T) {
	if _, err := Start(Command{Path: "/nonexistent/hxen"}); !errors.Is(err, os.ErrNotExist) && !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a missing program: %v", err)
	}
	c := self("stay")
	c.Detach, c.DieWithParent = true, true
	if _, err := Start(c); err == nil {
		t.Error("detached and dying with its parent")
	}
	c = self("stay")
	c.Detach, c.Stdout = true, &bytes.Buffer{}
	if _, err := Start(c); err == nil {
		t.Error("a detached process with a buffer for its output")
	}
}

func TestKillAndFind(t *testing.T) {
	k := startChild(t, self("stay"))
	k.line(t)
	found, ok := Find(k.PID(), k.StartTime())
	if !ok {
		t.Fatal("a running child is not found")
	}
	for what, start := range map[string]string{"another start time": k.StartTime() + "0", "no start time": ""} {
		if _, ok := Find(k.PID(), start); ok {
			t.Errorf("found with %s", what)
		}
	}
	select {
	case <-found.Done():
		t.Fatal("a running process is said to be gone")
	default:
	}
	if err := found.Kill(); err != nil {
		t.Fatal(err)
	}
	waitDone(t, found, "the killed process")
	waitDone(t, k.Process, "the killed child")
	if code, err := k.Wait(); code == 0 {
		t.Errorf("a killed child: %d, %v", code, err)
	}
	if _, ok := Find(k.PID(), k.StartTime()); ok {
		t.Error("found after its end")
	}
}

func TestFindSelf(t *testing.T) {
	pid, start, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := Find(pid, start); !ok {
		t.Error("this process does not find itself")
	}
	for _, pid := range []int{0, -1, 1 << 30} {
		if _, ok := Find(pid, start); ok {
			t.Errorf("found process %d", pid)
		}
	}
}

// parent starts a child that starts a child of its own, and returns both.
func parent(t *testing.T, args ...string) (p talk, grandchild *Process) {
	t.Helper()
	p = startChild(t, self(append([]string{"parent"}, args...)...))
	f := strings.Fields(p.line(t))
	if len(f) != 3 || f[0] != "ready" {
		t.Fatalf("parent says %q", f)
	}
	pid, err := strconv.Atoi(f[1])
	if err != nil {
		t.Fatal(err)
	}
	g, ok := Find(pid, f[2])
	if !ok {
		t.Fatalf("grandchild %v is not there", f)
	}
	t.Cleanup(func() {
		if err := g.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p, g
}

func TestDieWithParent(t *testing.T) {
	p, g := parent(t, "dies")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	waitDone(t, g, "a child that was to die with its parent")
}

func TestDetachedSurvivesItsParent(t *testing.T) {
	p, g := parent(t, "detached")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	again, ok := Find(g.PID(), g.StartTime())
	if !ok {
		t.Fatal("the detached child died with its parent")
	}
	if err := again.Kill(); err != nil {
		t.Fatal(err)
	}
	waitDone(t, g, "the detached child after Kill")
}

func TestUse(t *testing.T) {
	k := startChild(t, self("burn"))
	if s := k.line(t); s != "ready" {
		t.Fatalf("child says %q", s)
	}
	u, err := Use(k.PID())
	if err != nil {
		t.Fatal(err)
	}
	if u.CPU < 300*time.Millisecond || u.CPU > hang {
		t.Errorf("CPU time %v, want more than 300 ms", u.CPU)
	}
	if u.RSS < 64<<20 || u.RSS > 1<<30 {
		t.Errorf("%d bytes in RAM, want more than 64 MiB", u.RSS)
	}
	if err := k.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := Use(k.PID()); err == nil {
		t.Error("usage of a process that is gone")
	}
}
