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

// TestSaves saves a guest that computes, writes and sends all the time, and goes on
// with it, again and again: nothing it does is lost.
func TestSaves(t *testing.T) {
	b := busyGuest(t)
	b.Run(fmt.Sprintf(sends, b.url, b.sum))
	b.Run("renice -n -5 -p $$") // what is asked of it comes before its work
	file, began, progress := filepath.Join(b.dir, "memory"), time.Now(), b.progress(t)
	for round := range 500 {
		b.Do("save", func(ctx context.Context) error { return b.Machine.(hv.Saver).Save(ctx, file, nil) })
		b.Ended(hv.ExitSaved)
		b.leave()
		h := b.host
		h.Restore = file
		b.leave = b.net.connect(b.spec, &h)
		b.Live = launched(t, b.spec, h)

		was := progress
		progress = b.progress(t)
		// In a round it may just have time to answer.
		for hang := time.Now().Add(patience); round%10 == 9 && !progress.beyond(was); progress = b.progress(t) {
			if time.Now().After(hang) {
				t.Fatalf("round %d: the guest was at %v and is at %v", round, was, progress)
			}
		}
		if progress.sums < was.sums || progress.writes < was.writes || progress.files < was.files {
			t.Fatalf("round %d: the guest was at %v and is at %v", round, was, progress)
		}
		if bad := b.Run("cat /tmp/bad 2>/dev/null || :"); bad != "" {
			t.Fatalf("round %d: what the guest read, was sent or got differs: %q", round, bad)
		}
		for len(b.got) > 0 {
			if got := <-b.got; got != b.sum {
				t.Fatalf("round %d: the guest sent a file with sha256 %s, want %s", round, got, b.sum)
			}
		}
		if round%25 == 24 {
			t.Logf("round %d after %v: %v", round+1, time.Since(began).Round(time.Second), progress)
		}
	}
}

// progress is how far a busy guest has come.
type progress struct{ sums, writes, files int }

// progress asks for it, once there is any.
func (b *busy) progress(t *testing.T) (p progress) {
	t.Helper()
	var hash string
	said := lastLine(b.Run("while [ ! -f /tmp/at ] || [ ! -f /tmp/wrote ] || [ ! -f /tmp/sent ]; do sleep 0.1; done; echo $(cat /tmp/at /tmp/wrote /tmp/sent)"))
	if _, err := fmt.Sscanf(said, "%d %s %d %d", &p.sums, &hash, &p.writes, &p.files); err != nil || hash != chainSum(p.sums) {
		t.Fatalf("the guest's sums, writes and files are at %q: %v", said, err)
	}
	return p
}

// beyond reports whether all of it is further than was.
func (p progress) beyond(was progress) bool {
	return p.sums > was.sums && p.writes > was.writes && p.files > was.files
}

// sends is a guest's third work, with the address and the hash of a file that it gets
// and sends back.
const sends = `(f=0; while :; do rm -f /tmp/got; wget -q -O /tmp/got %[1]s; s=$(sha256sum </tmp/got); [ "$s" = "%[2]s  -" ] || echo $s >>/tmp/bad; ` +
	`wget -q -O /dev/null --post-file=/tmp/got %[1]s || echo sent >>/tmp/bad; ` +
	`f=$((f+1)); echo $f >/tmp/sent.new; mv /tmp/sent.new /tmp/sent; done) 2>/dev/null &`

// TestGuestSave saves a guest that computes all the time, ends its process, and
// goes on with it in another.
func TestGuestSave(t *testing.T) {
	const rounds = 8
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
		if now := e.behind(); now < behind-2 || now > behind+2 {
			t.Errorf("round %d: the guest's date is %d s behind, and was %d", round, now, behind)
		}
	}
	e.run(fmt.Sprintf("while read i h </tmp/at; [ $i -le %d ]; do sleep 0.1; done", last))
	t.Logf("%d rounds, %d sums after %v", rounds, last, time.Since(began).Round(time.Millisecond))
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
