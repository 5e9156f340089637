package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestFigures measures what README.md's table of figures shows, side by side
// with the peers, and prints it. "make bench" runs it, on a machine that does
// nothing else.
func TestFigures(t *testing.T) {
	if os.Getenv("HXEN_BENCH") == "" {
		t.Skip("make bench measures the figures")
	}
	hvtest.Require(t, "qemu", "images")
	var table []string
	row := func(figure, goal, format string, args ...any) {
		table = append(table, fmt.Sprintf("| %s | %s | %s |", figure, goal, fmt.Sprintf(format, args...)))
		t.Log(table[len(table)-1])
	}
	t.Run("start", func(t *testing.T) { figureStart(t, row) })
	t.Run("thousand", func(t *testing.T) { figureThousand(t, row) })
	t.Run("window", func(t *testing.T) { figureWindow(t, row) })
	fmt.Println("\n| figure | goal | measured |\n| --- | --- | --- |")
	fmt.Println(strings.Join(table, "\n"))
}

type rowFunc func(figure, goal, format string, args ...any)

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

// figureStart alternates between a start through all layers and the bare QEMU
// command that it led to, each until the guest's first words on the serial line.
func figureStart(t *testing.T, row rowFunc) {
	h := newHouse(t)
	h.must("new", "tiny", "--disk", hvtest.GuestDisk(t, t.TempDir()), "--memory", "64M", "--vcpus", "1", "--display", "virtio")
	c := h.connect()
	vm, listed, err := c.Find(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(h.home, "guests", listed.UUID, "worker", "console.log")
	var ours, bare []time.Duration
	for range 11 { // the first pair warms up
		size := fileSize(log)
		began := time.Now()
		if err := c.Start(t.Context(), vm, false); err != nil {
			t.Fatal(err)
		}
		waitGrown(t, h, log, size)
		ours = append(ours, time.Since(began))
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.one("qemu-system-x86_64")))
		if err != nil {
			t.Fatal(err)
		}
		h.must("destroy", "tiny")
		bare = append(bare, bareStart(t, h, strings.Split(strings.TrimRight(string(args), "\x00"), "\x00")))
	}
	a, b := median(ours[1:]), median(bare[1:])
	row("start request to first guest instruction, over the bare QEMU command (median of 10)", "< 150 ms",
		"%d ms (%d ms against %d ms)", (a - b).Milliseconds(), a.Milliseconds(), b.Milliseconds())
}

// bareStart runs the same command without the sockets that lead to a worker.
func bareStart(t *testing.T, h *house, args []string) time.Duration {
	t.Helper()
	dir := t.TempDir()
	serial := filepath.Join(dir, "serial")
	var bare []string
	for i, a := range args {
		switch {
		case a == "-S":
			continue
		case strings.HasPrefix(a, "socket,id=ser,"):
			a = "file,id=ser,path=" + serial
		case strings.HasPrefix(a, "socket,id="):
			id, _, _ := strings.Cut(strings.TrimPrefix(a, "socket,id="), ",")
			a = "null,id=" + id
		case i > 0 && args[i-1] == "-vnc":
			a = "unix:" + filepath.Join(dir, "vnc")
		case i > 0 && args[i-1] == "-netdev":
			a = "user,id=n0"
		}
		bare = append(bare, a)
	}
	var said bytes.Buffer
	cmd := exec.Command(bare[0], bare[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	waitGrown(t, h, serial, 0)
	return time.Since(began)
}

func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

func waitGrown(t *testing.T, h *house, path string, from int64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); fileSize(path) <= from; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.logs()
			t.Fatal("the guest said nothing")
		}
	}
}

// figureThousand defines 1,000 guests, lists them and weighs the processes.
func figureThousand(t *testing.T, row rowFunc) {
	h := newHouse(t)
	h.define(1000)
	h.must("list")
	var took []time.Duration
	for range 21 {
		began := time.Now()
		cmd := exec.Command(filepath.Join(h.bin, "hxen"), "list")
		cmd.Env = h.env
		out, err := cmd.Output()
		took = append(took, time.Since(began))
		if err != nil || bytes.Count(out, []byte("\n")) != 1001 {
			t.Fatalf("list: %v, %d lines", err, bytes.Count(out, []byte("\n")))
		}
	}
	row("`hxen list` with 1,000 defined guests, the whole program (median of 21)", "< 50 ms", "%d ms", median(took).Milliseconds())
	row("service's RSS then", "< 60 MiB", "%.0f MiB", rss(t, h.one("service")))
	h.must("demo")
	h.must("console", "--until", "demo# ", "demo")
	row("`hxen-worker`'s RSS with the demo guest running", "< 16 MiB", "%.1f MiB", rss(t, h.one("hxen-worker")))
}

// define writes guests into the store before any service has served it.
func (h *house) define(n int) {
	h.t.Helper()
	for i := range n {
		spec := hv.Spec{Version: hv.SpecVersion, UUID: uuid.NewString(), Name: fmt.Sprintf("guest %04d", i),
			Type: hv.HVM, VCPUs: 1, Memory: 512 * hv.MiB,
			Disks: []hv.Disk{{UUID: uuid.NewString(), Mode: hv.ReadOnly, Kind: hv.KindCDROM}}}
		dir := filepath.Join(h.home, "guests", spec.UUID)
		b, err := json.Marshal(spec)
		if err == nil {
			err = os.MkdirAll(dir, 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "spec.json"), b, 0o600)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// rss is a process's resident memory in MiB.
func rss(t *testing.T, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

// figureWindow opens the window with 50 guests and the demo guest's screen.
func figureWindow(t *testing.T, row rowFunc) {
	desktop, err := filepath.Abs(filepath.Join(root, "bin", "hxen-desktop"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(desktop); err != nil {
		t.Skip("no bin/hxen-desktop; make builds it")
	}
	h := newHouse(t)
	h.define(50)
	h.must("demo")
	s := h.console("demo")
	s.expect("demo# ")
	s.run(`printf '\033[?25l' >/dev/tty1`) // a blinking cursor is not a still screen
	display := hvtest.NewDisplay(t, "1600x1000")
	glass := display.Glass(t)
	env := append(h.env, "DISPLAY="+display.Name, "WAYLAND_DISPLAY=", "LIBGL_ALWAYS_SOFTWARE=1")
	var took []time.Duration
	var pid int
	for range 4 { // the first is cold
		cmd := exec.Command(desktop, "--open", "demo")
		cmd.Env = env
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid = cmd.Process.Pid
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		for end := began.Add(time.Minute); !glass.Painted(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the window painted nothing")
			}
		}
		took = append(took, time.Since(began))
		if len(took) < 4 {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			h.eventually("the window to go", func() bool { return !glass.Painted() })
		}
	}
	row("window: first frame, warm, 50 guests in the library (median of 3)", "< 1 s", "%d ms", median(took[1:]).Milliseconds())
	time.Sleep(5 * time.Second) // what it does at the start is not idling
	before := cpuTime(t, pid)
	const watch = 20 * time.Second
	time.Sleep(watch)
	row("window: CPU with the console of a still guest open", "< 2 %", "%.1f %% of one core", float64(cpuTime(t, pid)-before)/float64(watch)*100)
}

// cpuTime is what a process has used, from proc_pid_stat(5), fields 14 and 15.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // 100 ticks a second
}
