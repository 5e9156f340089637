// Command labbench measures virtual machine monitors inside the nested lab: it
// starts each, reads its guest's console up to a mark, and counts what it cost.
// It takes a file of Jobs and prints a line "@@R " with a Result for each.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Job is one run of one monitor.
type Job struct {
	Op   string          // boot, fail (which is run several times), hist
	Name string          // of the monitor
	Args []string        // a command with the guest's console on its output; or
	Spec json.RawMessage // hxen-worker's guest, an hv.Spec
	Mark string          // ends the run
}

// Result is what it cost; times in ms, memory in KiB.
type Result struct {
	Op, Name, Error string
	Mark            float64 // from the monitor's exec to the mark, or to its end
	Exits           int64   // of processors, to the mark
	Idle            float64 // exits a second, afterwards
	Over, Private   int64   // resident memory without the guest's, and what of that is nobody else's
	Lines           []string
}

const (
	counters = "/sys/kernel/debug/kvm/"
	patience = 60 * time.Second // a hang guard; in the lab's time
)

func main() {
	b, err := os.ReadFile(os.Args[1])
	var jobs []Job
	if err == nil {
		err = json.Unmarshal(b, &jobs)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, j := range jobs {
		r := run(j)
		r.Op, r.Name = j.Op, j.Name
		line, _ := json.Marshal(r)
		fmt.Printf("@@R %s\n", line)
	}
}

// counter is one of KVM's, summed over all machines.
func counter(name string) int64 {
	b, _ := os.ReadFile(counters + name)
	n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n
}

// monitor is a running monitor with its guest's console.
type monitor struct {
	pid     int
	console io.Reader
	end     func()
}

func run(j Job) (r Result) {
	if j.Op == "fail" {
		return fail(j)
	}
	if j.Op == "hist" {
		histogram(true)
	}
	before, began := counter("exits"), time.Now()
	m, err := start(j)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	defer m.end()
	said, err := until(m, j.Mark)
	r.Mark = float64(time.Since(began).Microseconds()) / 1e3
	if err != nil {
		r.Error = fmt.Sprintf("%v; it said %q", err, tail(said))
		return r
	}
	r.Exits = counter("exits") - before
	r.Lines = threads(m.pid)
	if j.Op == "hist" {
		r.Lines = histogram(false)
	}
	go io.Copy(io.Discard, m.console)
	time.Sleep(time.Second)
	if j.Op == "hist" {
		histogram(true)
	}
	idle, at := counter("exits"), time.Now()
	time.Sleep(2 * time.Second)
	r.Idle = float64(counter("exits")-idle) / time.Since(at).Seconds()
	if j.Op == "hist" {
		r.Lines = append(append(r.Lines, "idle, 2 s:"), histogram(false)...)
		return r
	}
	var lines []string
	r.Over, r.Private, lines = memory(m.pid)
	r.Lines = append(r.Lines, lines...)
	return r
}

func tail(b []byte) []byte { return b[max(0, len(b)-1500):] }

// until reads the console up to the mark.
func until(m *monitor, mark string) ([]byte, error) {
	guard := time.AfterFunc(patience, func() { _ = syscall.Kill(m.pid, syscall.SIGKILL) })
	defer guard.Stop()
	var said []byte
	buf := make([]byte, 4096)
	for {
		n, err := m.console.Read(buf)
		said = append(said, buf[:n]...)
		if bytes.Contains(said, []byte(mark)) {
			return said, nil
		}
		if err != nil {
			return said, fmt.Errorf("the console ended: %w", err)
		}
	}
}

func start(j Job) (*monitor, error) {
	if j.Spec != nil {
		return startWorker(j)
	}
	return startCommand(j.Args)
}

// startCommand starts a monitor whose output is its guest's console.
func startCommand(args []string) (*monitor, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	in, hold, err := os.Pipe() // an input that neither ends nor says anything
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, w, w
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w.Close()
	in.Close()
	return &monitor{cmd.Process.Pid, r, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		r.Close()
		hold.Close()
	}}, nil
}

// fail runs a monitor that ends with an error by itself, a few times; the median
// counts, and the time of each is a line.
func fail(j Job) (r Result) {
	var took []float64
	for range 5 {
		began := time.Now()
		out, err := failOnce(j)
		took = append(took, float64(time.Since(began).Microseconds())/1e3)
		r.Lines = append(r.Lines, fmt.Sprintf("%.2f %s", took[len(took)-1], bytes.TrimSpace(tail(out))))
		if err == nil {
			r.Error = "it did not fail"
			return r
		}
	}
	slices.Sort(took)
	r.Mark = took[len(took)/2]
	return r
}

func failOnce(j Job) ([]byte, error) {
	if j.Spec == nil {
		out, err := exec.Command(j.Args[0], j.Args[1:]...).CombinedOutput()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			return []byte(err.Error()), nil
		}
		return out, err
	}
	m, err := startWorker(j)
	if err == nil {
		m.end()
		return nil, nil
	}
	return []byte(err.Error()), err
}

// threads tells what each thread of a process has used of the processor.
func threads(pid int) (lines []string) {
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, dir := range all {
		ran, _ := os.ReadFile(dir + "/schedstat") // ns on a processor, ns waiting, turns
		b, _ := os.ReadFile(dir + "/stat")
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if r := strings.Fields(string(ran)); len(r) == 3 && len(f) > 40 {
			lines = append(lines, fmt.Sprintf("thread %s: %s ns in %s turns; ticks: user %s, system %s, guest %s", filepath.Base(dir), r[0], r[2], f[11], f[12], f[40]))
		}
	}
	return lines
}

// memory weighs a process without its guest: the largest writable mappings are
// the guest's RAM. All in KiB, from proc_pid_smaps(5). What is large is a line.
func memory(pid int) (over, private int64, lines []string) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return 0, 0, nil
	}
	ram, where := false, ""
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if !strings.HasSuffix(f[0], ":") {
			from, to, _ := strings.Cut(f[0], "-")
			a, _ := strconv.ParseUint(from, 16, 64)
			z, _ := strconv.ParseUint(to, 16, 64)
			ram, where = z-a >= 128<<20 && strings.HasPrefix(f[1], "rw"), strings.Join(f, " ")
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch {
		case ram:
		case f[0] == "Rss:":
			over += n
		case f[0] == "Anonymous:":
			private += n
			if n >= 100 {
				lines = append(lines, fmt.Sprintf("%d KiB anonymous in %s", n, where))
			}
		}
	}
	return over, private, lines
}
