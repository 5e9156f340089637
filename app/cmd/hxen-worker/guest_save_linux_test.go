package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/native"
	"github.com/hxen-project/hxen/platform/accel"
)

// saveChild is what a process of its own does with a guest.
type saveChild struct {
	Spec    hv.Spec
	Cache   string
	Dir     string
	Restore string
	Save    string // where to, when standard input ends
}

const saveChildEnv = "HXEN_TEST_SAVE_CHILD"

// runSaveChild runs a guest with its console on standard input and output, and
// saves it.
func runSaveChild(arg string) error {
	var c saveChild
	if err := json.Unmarshal([]byte(arg), &c); err != nil {
		return err
	}
	m, err := native.New(accel.Open).Launch(context.Background(), c.Spec, hv.Host{Dir: c.Dir, Cache: c.Cache, Restore: c.Restore})
	if err != nil {
		return err
	}
	go func() {
		for range m.Events() {
		}
	}()
	con := m.(hv.Consoler).Console()
	printed := make(chan error, 1)
	go func() {
		_, err := io.Copy(os.Stdout, con)
		printed <- err
	}()
	if _, err := io.Copy(con, os.Stdin); err != nil {
		return err
	}
	if err := m.(hv.Saver).Save(context.Background(), c.Save, nil); err != nil {
		return err
	}
	if err := <-printed; err != nil {
		return err
	}
	if reason, err := m.Wait(); reason != hv.ExitSaved {
		return fmt.Errorf("the guest ended as %s, %v", reason, err)
	}
	return nil
}

// elsewhere is a guest in a process of its own.
type elsewhere struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	stderr bytes.Buffer

	mu   sync.Mutex
	more *sync.Cond
	text string // guarded by mu; unread
	over bool   // guarded by mu
}

func startElsewhere(t *testing.T, c saveChild) *elsewhere {
	t.Helper()
	arg, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	e := &elsewhere{t: t, cmd: exec.Command(os.Args[0])}
	e.more = sync.NewCond(&e.mu)
	e.cmd.Env = append(os.Environ(), saveChildEnv+"="+string(arg))
	e.cmd.Stderr = &e.stderr
	if e.in, err = e.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.cmd.Process.Kill() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := out.Read(b)
			e.mu.Lock()
			e.text += string(b[:n])
			e.over = err != nil
			e.more.Broadcast()
			e.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return e
}

func (e *elsewhere) expect(text string) (before string) {
	e.t.Helper()
	guard := time.AfterFunc(patience, func() { _ = e.cmd.Process.Kill() })
	defer guard.Stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		if before, after, ok := strings.Cut(e.text, text); ok {
			e.text = after
			return before
		}
		if e.over {
			e.t.Fatalf("%q never came; the guest said %q, its process %q", text, e.text, e.stderr.String())
		}
		e.more.Wait()
	}
}

func (e *elsewhere) run(command string) string {
	e.t.Helper()
	if _, err := io.WriteString(e.in, command+"\n"); err != nil {
		e.t.Fatal(err)
	}
	out := strings.TrimSpace(strings.ReplaceAll(e.expect(hvtest.GuestDone), "\r\n", "\n"))
	if status := e.expect("\r\n"); status != "0" {
		e.t.Fatalf("%q ended with status %s: %q", command, status, out)
	}
	return out
}

// save ends the process with the guest in its file.
func (e *elsewhere) save() {
	e.t.Helper()
	guard := time.AfterFunc(patience, func() { _ = e.cmd.Process.Kill() })
	defer guard.Stop()
	e.in.Close()
	e.mu.Lock()
	for !e.over {
		e.more.Wait()
	}
	e.mu.Unlock()
	if err := e.cmd.Wait(); err != nil {
		e.t.Fatalf("save: %v; %s", err, e.stderr.String())
	}
}

// chain is a guest's work: it writes down how far it has come, and the sum of all
// before.
const chain = `i=0; h=x; while :; do i=$((i+1)); h=$(echo "$h $i" | sha256sum | cut -c1-16); echo "$i $h" >/tmp/at.new; mv /tmp/at.new /tmp/at; done &`

// complaints are a kernel's. At its start it has some about what a PVH guest lacks, and
// on a slow computer of processes that do not freeze in 20 seconds: it is saved all the
// same.
const complaints = `dmesg -r | grep '^<[0-3]>' | grep -v -e 'Freezing of tasks' -e do_suspend || :`

// lastLine is what a command printed, without what the kernel said before.
func lastLine(out string) string {
	return strings.TrimSpace(out[strings.LastIndexByte(out, '\n')+1:])
}

func chainSum(n int) string {
	h := "x"
	for i := 1; i <= n; i++ {
		h = fmt.Sprintf("%x", sha256.Sum256([]byte(h+" "+strconv.Itoa(i)+"\n")))[:16]
	}
	return h
}

// TestGuestSave saves a guest that computes all the time, ends its process, and
// goes on with it in another, again and again. TestSaves does so for longer.
func TestGuestSave(t *testing.T) { saves(t, 20) }
func TestSaves(t *testing.T)     { saves(t, 500) }

func saves(t *testing.T, rounds int) {
	s := guest(kernels(t)[0])
	s.VCPUs, s.Memory = 2, 128*hv.MiB
	h := testHost(t, s)
	file, began := filepath.Join(t.TempDir(), "guest.save"), time.Now()
	c := saveChild{Spec: s, Cache: h.Cache, Dir: h.Dir, Save: file}
	e := startElsewhere(t, c)
	e.expect(hvtest.GuestReady)
	t.Logf("booted after %v", time.Since(began).Round(time.Millisecond))
	e.run(chain)
	e.run("while [ ! -f /tmp/at ]; do sleep 0.1; done")
	before := e.run(complaints)
	behind := e.behind() // a guest that boots on a busy machine loses time before its clock runs
	c.Restore = file
	last := 0
	for round := range rounds {
		e.save()
		if round == 0 {
			time.Sleep(5 * time.Second) // which the guest's clock has to make up for
		}
		e = startElsewhere(t, c)
		var n int
		var sum string
		if at := lastLine(e.run("cat /tmp/at")); !parse(at, &n, &sum) || n < last || sum != chainSum(n) {
			t.Fatalf("round %d: the guest is at %q, and was at %d", round, at, last)
		}
		last = n
		if round%10 == 9 {
			t.Logf("%d rounds, %d sums after %v", round+1, last, time.Since(began).Round(time.Millisecond))
		}
		if now := e.behind(); now < behind-2 || now > behind+2 {
			t.Errorf("round %d: the guest's date is %d s behind, and was %d", round, now, behind)
		}
	}
	e.run(fmt.Sprintf("while read i h </tmp/at; [ $i -le %d ]; do sleep 0.1; done", last))
	if now := e.run(complaints); now != before {
		t.Errorf("the guest's kernel complained of %q before and of %q now", before, now)
	}
}

// behind is how many seconds the guest's date is behind the host's, at most.
func (e *elsewhere) behind() int64 {
	e.t.Helper()
	before := time.Now().Unix()
	date, err := strconv.ParseInt(lastLine(e.run("date +%s")), 10, 64)
	if err != nil {
		e.t.Fatalf("the guest's date: %v", err)
	}
	return before - date
}

func parse(at string, n *int, sum *string) bool {
	k, err := fmt.Sscanf(at, "%d %s", n, sum)
	return k == 2 && err == nil
}
