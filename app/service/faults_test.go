package service

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// daemon runs the service as a process of its own, which can be killed.
func (b *bench) daemon() (*caller, *proc.Process) {
	b.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	p, err := proc.Start(proc.Command{
		Path: filepath.Join(bin, "hxen-service"+exe), Args: []string{bin, b.home}, Stdout: w, Stderr: os.Stderr,
		// On Windows what dies with us takes its own children along, and those are to stay.
		DieWithParent: exe == "", Detach: exe != "",
	})
	w.Close()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { p.Kill() })
	if line, err := bufio.NewReader(r).ReadString('\n'); line != "ready\n" {
		b.t.Fatalf("the service says %q, %v", line, err)
	}
	return newCaller(b.t, b.home), p
}

func kill(t *testing.T, r control.Process) {
	t.Helper()
	p, ok := proc.Find(r.PID, r.Start)
	if !ok {
		t.Fatalf("process %d is not there", r.PID)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
}

func alive(r control.Process) bool {
	_, ok := proc.Find(r.PID, r.Start)
	return ok
}

// TestKilledServiceAdopts: what runs goes on, and can be controlled again.
func TestKilledServiceAdopts(t *testing.T) {
	b := newBench(t)
	c, p := b.daemon()
	ref := c.create(api.NewGuest{Name: "runs"})
	c.must(nil, "VM.start", ref, false, false)
	paused := c.create(api.NewGuest{Name: "paused"})
	c.must(nil, "VM.start", paused, true, false)
	before := b.state(ref)
	for range 2 {
		p.Kill()
		c, p = b.daemon()
		r := c.vm(ref)
		if r.PowerState != "Running" || r.DomID != int64(before.DomID) || len(r.Consoles) != 2 {
			t.Fatalf("after a restart: %+v", r)
		}
		if r := c.vm(paused); r.PowerState != "Paused" {
			t.Fatalf("the paused guest is %s", r.PowerState)
		}
	}
	if now := b.state(ref); now.Worker != before.Worker || now.Model != before.Model {
		t.Error("the guest was started again")
	}
	c.untilAddressed(c.vm(ref).VIFs[0])
	c.must(nil, "VM.clean_shutdown", ref)
	c.must(nil, "VM.hard_shutdown", paused)
	c.must(nil, "VM.start", ref, false, false)
	if r := c.vm(ref); r.DomID != 3 {
		t.Errorf("domid %d after a restart, want 3", r.DomID)
	}
}

// TestKilledWorkerIsSeen: killed processes are told of, and nothing of them is
// left that could write to the disks.
func TestKilledWorkerIsSeen(t *testing.T) {
	b := newBench(t)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "victim"})
	for _, victim := range []struct {
		name string
		of   func(*control.Status) control.Process
		text string
	}{
		{"worker", func(s *control.Status) control.Process { return s.Worker }, "worker process ended"},
		{"model", func(s *control.Status) control.Process { return s.Model }, "QEMU ended"},
	} {
		t.Run(victim.name, func(t *testing.T) {
			c.must(nil, "VM.start", ref, false, false)
			st := b.state(ref)
			began := time.Now()
			kill(t, victim.of(st))
			r := c.until(ref, "halted", isState(hv.Halted))
			t.Logf("told after %v", time.Since(began))
			if r.OtherConfig[api.KeyLastExit] != "failed" || !strings.Contains(r.OtherConfig[api.KeyLastText], victim.text) {
				t.Errorf("told as %q: %q", r.OtherConfig[api.KeyLastExit], r.OtherConfig[api.KeyLastText])
			}
			if alive(st.Worker) || alive(st.Model) {
				t.Error("a process was left")
			}
			if held, _ := proc.Held(b.opt.Store.Guest(ref.UUID(), "").Lock()); held {
				t.Error("told as halted while the lock is held")
			}
		})
	}
}

// TestAllKilled: everything dies at once, as in a power cut.
func TestAllKilled(t *testing.T) {
	b := newBench(t)
	c, p := b.daemon()
	ref := c.create(api.NewGuest{Name: "cut"})
	c.must(nil, "VM.start", ref, false, false)
	st := b.state(ref)
	p.Kill()
	kill(t, st.Worker)
	if err := proc.WaitFree(t.Context(), b.opt.Store.Guest(ref.UUID(), "").Lock()); err != nil {
		t.Fatal(err)
	}
	c, _ = b.daemon()
	r := c.vm(ref)
	if r.PowerState != "Halted" || r.DomID != -1 {
		t.Errorf("%+v", r)
	}
	c.must(nil, "VM.start", ref, false, false)
	if r := c.vm(ref); r.DomID != 2 {
		t.Errorf("domid %d", r.DomID)
	}
}

// TestKilledCreateLeavesNothing: a guest is there whole or not at all.
func TestKilledCreateLeavesNothing(t *testing.T) {
	b := newBench(t)
	c, p := b.daemon()
	_, task := b.copies(c)
	for token, r := "", (api.Task{}); r.Progress == 0; {
		var e api.EventBatch
		c.must(&e, "event.from", []string{"task"}, token, 5.0)
		token = e.Token
		c.must(&r, "task.get_record", task)
		if r.Status != api.TaskPending {
			t.Fatalf("%+v", r)
		}
	}
	p.Kill()
	c, _ = b.daemon()
	var all []api.Ref
	c.must(&all, "VM.get_all")
	if left, _ := os.ReadDir(b.opt.Store.Guests()); len(left) != 0 || len(all) != 0 {
		t.Errorf("a killed copy left %v, %v", left, all)
	}
	c.create(api.NewGuest{Name: "x"})
}

// netdOf dials the network process that serves the store.
func (b *bench) netdOf() (*control.Conn, error) {
	run, err := b.opt.Store.RunDir()
	if err != nil {
		return nil, err
	}
	dirs, _ := filepath.Glob(filepath.Join(b.opt.Store.Networks(), "*"))
	if len(dirs) != 1 {
		return nil, fmt.Errorf("networks: %v", dirs)
	}
	s := &Service{opt: b.opt}
	return s.dial(context.Background(), paths.NetworkDir(dirs[0], run).Ctl(), filepath.Base(dirs[0]))
}

// TestNetworkComesBack: a network process that dies is started again with all
// that is wanted of it, while its guests run on.
func TestNetworkComesBack(t *testing.T) {
	b := newBench(t)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "On The Net!"})
	c.must(nil, "VM.start", ref, false, false)
	first, err := b.netdOf()
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	netd, err := os.FindProcess(first.Peer.PID)
	if err == nil {
		err = netd.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	var leases []control.Lease
	for deadline := time.Now().Add(5 * time.Minute); len(leases) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the network did not come back")
		}
		n, err := b.netdOf()
		if err != nil {
			time.Sleep(20 * time.Millisecond) // polling another process
			continue
		}
		if n.Peer.PID != first.Peer.PID {
			n.Call(t.Context(), control.VerbLeases, nil, &leases)
		}
		n.Close()
	}
	if r := c.vm(ref); r.PowerState != "Running" {
		t.Error("the guest did not run on")
	}
}

// TestUnusedNetworkEnds: without guests the network process goes after a grace.
func TestUnusedNetworkEnds(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	s, lock, err := open(ctx, b.opt)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	defer s.tasks.Wait()
	defer cancel()
	s.netGrace = 0
	made, err := s.create(ctx, api.NewGuest{Name: "x", DiskSize: 1 << 30}, func(string, float64) {})
	if err != nil {
		t.Fatal(err)
	}
	g, end, err := s.begin(made.VM, hv.OpStart, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.start(ctx, g, launchHow{}, nil); err != nil {
		t.Fatal(err)
	}
	end()
	n := s.networks[s.defaultNetwork()]
	if held, _ := proc.Held(n.files.Lock()); !held {
		t.Fatal("no network runs")
	}
	if err := s.powerOff(ctx, g); err != nil {
		t.Fatal(err)
	}
	wait, stop := context.WithTimeout(ctx, 5*time.Minute)
	defer stop()
	if err := proc.WaitFree(wait, n.files.Lock()); err != nil {
		t.Fatal("the network still runs:", err)
	}
}

func TestNetworkSubnetsAndNames(t *testing.T) {
	if got := freeSubnet(hostSubnets()); !validSubnet(got) {
		t.Errorf("subnet %q", got)
	}
	for in, want := range map[string]string{"On The Net!": "on-the-net", "日本": "guest", strings.Repeat("a", 80): strings.Repeat("a", 63), "": "guest"} {
		if got := dnsName(in); got != want {
			t.Errorf("dnsName(%q) = %q", in, got)
		}
	}
}
