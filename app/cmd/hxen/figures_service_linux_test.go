package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/platform/paths"
)

// many is how many guests run at once, of defined ones; crowdVar makes it fewer.
const (
	many, defined = 50, 200
	crowdVar      = "HXEN_CROWD"
)

// TestFiguresService measures the background service: with 1,000 guests defined,
// with 50 that are started at once of 200, killed under them, and at rest.
func TestFiguresService(t *testing.T) {
	if os.Getenv("HXEN_BENCH") == "" {
		t.Skip("make bench measures the figures")
	}
	var table []string
	row := func(figure, goal, format string, args ...any) {
		table = append(table, fmt.Sprintf("| %s | %s | %s |", figure, goal, fmt.Sprintf(format, args...)))
		t.Log(table[len(table)-1])
	}
	t.Run("ready", func(t *testing.T) { figureReady(t, row) })
	t.Run("idle", func(t *testing.T) { figureIdle(t, row) })
	t.Run("crowd", func(t *testing.T) {
		n := many
		_, _ = fmt.Sscan(os.Getenv(crowdVar), &n)
		figureCrowd(t, row, n)
	})
	fmt.Println("\n| figure | goal | measured |\n| --- | --- | --- |")
	fmt.Println(strings.Join(table, "\n"))
}

// daemon starts the service as the system would.
func (h *house) daemon(args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := exec.Command(filepath.Join(h.bin, "hxen"), append([]string{"service"}, args...)...)
	log, err := os.OpenFile(filepath.Join(h.home, "daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	cmd.Env, cmd.Stdout, cmd.Stderr = h.env, log, log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	return cmd
}

// answers waits for the service's first answer.
func (h *house) answers() *client.Client {
	h.t.Helper()
	store, err := paths.At(h.home)
	if err != nil {
		h.t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c, err := client.Open(h.t.Context(), client.Options{Store: store, NoStart: true, Program: "e2e", Version: "test"})
		if err == nil {
			if err = c.Ping(h.t.Context()); err == nil {
				h.t.Cleanup(func() { c.Close() })
				return c
			}
			c.Close()
		}
		if time.Now().After(end) {
			h.t.Fatal(err)
		}
	}
}

func figureReady(t *testing.T, row rowFunc) {
	h := newHouse(t)
	h.define(1000)
	var took []time.Duration
	for range 7 {
		began := time.Now()
		cmd := h.daemon()
		h.answers()
		took = append(took, time.Since(began))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	row("service's start to its first answer, 1,000 guests (median of 6)", "< 300 ms", "%d ms", median(took[1:]).Milliseconds())
}

func figureIdle(t *testing.T, row rowFunc) {
	h := newHouse(t)
	h.define(20)
	cmd := h.daemon()
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	h.answers()
	time.Sleep(5 * time.Second) // what it does at its start is not idling
	const watch = 30 * time.Second
	before := switches(t, cmd.Process.Pid)
	time.Sleep(watch)
	row("idle service with 20 guests: wakeups of all its threads", "< 1 a second", "%.2f a second", float64(switches(t, cmd.Process.Pid)-before)/watch.Seconds())
	row("its RSS", "< 40 MiB", "%.0f MiB", rss(t, cmd.Process.Pid))
}

// switches is how often the threads of a process have gone to sleep:
// voluntary_ctxt_switches in proc_pid_status(5).
func switches(t *testing.T, pid int) (n int) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads: %v, %v", threads, err)
	}
	for _, th := range threads {
		b, err := os.ReadFile(th)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), "\nvoluntary_ctxt_switches:")
		one := 0
		if _, err := fmt.Sscan(rest, &one); err != nil {
			t.Fatal(err)
		}
		n += one
	}
	return n
}

// crowd makes n tiny guests with a disk and a card each, from one that the service
// has made.
func (h *house) crowd(n int) {
	h.t.Helper()
	h.must("new", "tiny000", "--disk", hvtest.GuestDisk(h.t, h.t.TempDir()), "--copy", "--memory", "16M", "--vcpus", "1", "--display", "none")
	first := filepath.Join(h.home, "guests", h.vm("tiny000").UUID)
	var spec hv.Spec
	b, err := os.ReadFile(filepath.Join(first, "spec.json"))
	if err == nil {
		err = json.Unmarshal(b, &spec)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := h.one("service")
	if err := syscall.Kill(cmd, syscall.SIGKILL); err != nil {
		h.t.Fatal(err)
	}
	h.eventually("the service's end", func() bool { return len(h.processes("service")) == 0 })
	for i := 1; i < n; i++ {
		s := spec.Clone()
		s.UUID, s.Name = uuid.NewString(), fmt.Sprintf("tiny%03d", i)
		for d := range s.Disks {
			s.Disks[d].UUID = uuid.NewString()
			if s.Disks[d].VDI != "" {
				s.Disks[d].VDI = uuid.NewString()
			}
		}
		for d := range s.NICs {
			s.NICs[d].UUID, s.NICs[d].MAC = uuid.NewString(), fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255)
		}
		dir := filepath.Join(h.home, "guests", s.UUID)
		b, err := s.MarshalJSON()
		if err == nil {
			err = os.Mkdir(dir, 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "spec.json"), b, 0o600)
		}
		for _, d := range spec.Disks {
			if err == nil && d.Path != "" {
				var image []byte
				if image, err = os.ReadFile(filepath.Join(first, d.Path)); err == nil {
					err = os.WriteFile(filepath.Join(dir, d.Path), image, 0o600)
				}
			}
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// figureCrowd starts n guests at once, asks meanwhile, kills the service under
// them, and stops them as when the computer stops.
func figureCrowd(t *testing.T, row rowFunc, n int) {
	h := newHouse(t)
	h.crowd(n)
	h.define(defined - n)
	cmd := h.daemon()
	c := h.answers()
	all := h.tiny(c)
	if len(all) != n {
		t.Fatalf("%d guests of %d", len(all), n)
	}
	began := time.Now()
	failed := make(chan error, n)
	for ref := range all {
		go func() { failed <- c.Start(t.Context(), ref, false) }()
	}
	done := make(chan int)
	go func() {
		bad := 0
		for range n {
			if err := <-failed; err != nil {
				bad++
				t.Logf("a start failed, saying why: %v", err)
			}
		}
		done <- bad
	}()
	lists, events, bad := meanwhile(t, h, done)
	took := time.Since(began)
	running := 0
	for _, vm := range h.tiny(c) {
		if vm.PowerState == "Running" {
			running++
		}
	}
	if running+bad != n {
		t.Errorf("%d of %d run, and %d starts failed", running, n, bad)
	}
	row(fmt.Sprintf("%d guests started at once, of %d defined", n, defined), "all run, or say why not", "%d run, %d said why not, after %.0f s", running, bad, took.Seconds())
	row("list meanwhile (median, p99, of "+fmt.Sprint(len(lists))+")", "", "%d ms, %d ms", median(lists).Milliseconds(), p99(lists).Milliseconds())
	row("from a change to its event meanwhile (median, p99, of "+fmt.Sprint(len(events))+")", "", "%d ms, %d ms", median(events).Milliseconds(), p99(events).Milliseconds())
	row("service's RSS then", "", "%.0f MiB", rss(t, cmd.Process.Pid))

	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	began = time.Now()
	cmd = h.daemon("--managed=system")
	c = h.answers()
	adopted := 0
	for _, vm := range h.tiny(c) {
		if vm.PowerState == "Running" {
			adopted++
		}
	}
	row(fmt.Sprintf("%d running guests adopted after a kill, to the first answer", n), "< 2 s", "%d in %d ms", adopted, time.Since(began).Milliseconds())
	if adopted != running {
		t.Errorf("%d guests ran, %d were adopted", running, adopted)
	}
	began = time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	row(fmt.Sprintf("%d running guests stopped as when the computer stops", n), "< 300 s", "%.1f s", time.Since(began).Seconds())
	if left := h.processes("qemu-system-x86_64"); len(left) > 0 {
		t.Errorf("these go on: %v", left)
	}
}

func (h *house) tiny(c *client.Client) map[api.Ref]api.VM {
	h.t.Helper()
	all, err := c.VMs(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for ref, vm := range all {
		if !strings.HasPrefix(vm.NameLabel, "tiny") {
			delete(all, ref)
		}
	}
	return all
}

// meanwhile lists the guests, and changes one and waits for its event, until done
// tells a number, which it returns too.
func meanwhile(t *testing.T, h *house, done <-chan int) (lists, events []time.Duration, result int) {
	t.Helper()
	c := h.answers()
	other, _, err := c.Find(t.Context(), "guest 0007")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 100)
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	watching.Go(func() {
		_ = h.answers().Watch(ctx, []string{api.ClassVM}, func(b client.Batch) {
			for _, e := range b.Events {
				var vm api.VM
				if e.Ref == other && json.Unmarshal(e.Snapshot, &vm) == nil {
					seen <- vm.NameDescription
				}
			}
		})
	})
	for i := 0; ; i++ {
		select {
		case result = <-done:
			return lists, events, result
		default:
		}
		began := time.Now()
		if _, err := c.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		lists = append(lists, time.Since(began))
		mark := fmt.Sprint("change ", i)
		began = time.Now()
		if err := c.Call(t.Context(), "VM.set_name_description", nil, other, mark); err != nil {
			t.Fatal(err)
		}
		for got := ""; got != mark; {
			select {
			case got = <-seen:
			case <-time.After(patience):
				t.Fatal("no event came")
			}
		}
		events = append(events, time.Since(began))
		time.Sleep(20 * time.Millisecond) // a pace
	}
}

func p99(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)*99/100]
}
