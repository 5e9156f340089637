package qemu

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-qemu/qmp"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestEverything boots a guest with as many devices as a Spec may have: no two
// of them want the same place.
func TestEverything(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	full := fullSpec()
	full.Name, full.Firmware, full.Boot.Order, full.Memory = s.Name, hv.BIOS, "cdn", 256*hv.MiB
	for i, d := range full.Disks {
		if d.Path != "" {
			full.Disks[i].Path = hvtest.GuestDisk(t, t.TempDir())
		}
	}
	for i := range full.NICs {
		path := filepath.Join(l.host.RunDir, fmt.Sprintf("n%d", i))
		l.host.NICs = append(l.host.NICs, path)
		ln, _, err := listen(path) // as the worker does
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	m := boots(t, l, full)
	stats, err := m.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range full.Disks {
		if _, ok := stats.Disks[d.UUID]; !ok {
			t.Errorf("no counters for disk %s", d.UUID)
		}
	}
	if n := stats.Disks[full.Disks[0].UUID].Reads; n == 0 {
		t.Error("the first disk was not read although the guest booted from it")
	}
	if n := stats.Disks[full.Disks[1].UUID].Reads; n > stats.Disks[full.Disks[0].UUID].Reads {
		t.Error("the counters of two disks are mixed up")
	}
	// By its policy its own restart ends it.
	io.WriteString(m.Console(), "r")
	go func() {
		for range m.Events() {
		}
	}()
	if reason, err := m.Wait(); reason != hv.ExitReboot || err != nil {
		t.Errorf("ended as %q, %v", reason, err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// ovmf finds the firmware where distributions put it.
func ovmf(t *testing.T) (code, vars string) {
	for _, pair := range [][2]string{
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
		{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
	} {
		if _, err := os.Stat(pair[0]); err == nil {
			return pair[0], pair[1]
		}
	}
	t.Skip("needs OVMF, which is not installed")
	return "", ""
}

func TestUEFI(t *testing.T) {
	l := newLab(t)
	l.host.QEMU.OVMFCode, l.host.QEMU.OVMFVars = ovmf(t)
	s := l.spec(t)
	s.Firmware, s.Memory = hv.UEFI, 256*hv.MiB
	m, err := New().Launch(t.Context(), s, l.host)
	if err != nil {
		t.Fatal(err)
	}
	until(t, m.(*Machine), "BdsDxe:") // its boot manager; there is nothing on the disk that UEFI could boot
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	vars, err := os.ReadFile(filepath.Join(l.host.Dir, "nvram.fd"))
	if err != nil {
		t.Fatal(err)
	}
	template, err := os.ReadFile(l.host.QEMU.OVMFVars)
	if err != nil {
		t.Fatal(err)
	}
	if len(vars) != len(template) || bytes.Equal(vars, template) {
		t.Error("the firmware's variables are not the guest's own")
	}
	// A second start keeps them.
	if err := makeNVRAM(filepath.Join(l.host.Dir, "nvram.fd"), l.host.QEMU.OVMFVars); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(filepath.Join(l.host.Dir, "nvram.fd"))
	if err != nil || !bytes.Equal(vars, again) {
		t.Errorf("the variables were lost: %v", err)
	}
}

// TestKernel boots memtest86+, which is a Linux kernel to its loader.
func TestKernel(t *testing.T) {
	l := newLab(t)
	const kernel = "/boot/memtest86+x64.bin"
	if _, err := os.Stat(kernel); err != nil {
		t.Skipf("needs memtest86+: %v", err)
	}
	s := l.spec(t)
	s.Memory = 64 * hv.MiB
	s.Boot = hv.Boot{Kernel: kernel, Cmdline: "console=ttyS0,115200 a=b,c"}
	m, err := New().Launch(t.Context(), s, l.host)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	until(t, m.(*Machine), "Memtest86+")
}

// TestViewers: two see the screen at the same time, and neither is left when
// the guest has ended.
func TestViewers(t *testing.T) {
	l := newLab(t)
	m := boots(t, l, l.spec(t))
	var views []io.ReadWriteCloser
	for range 2 {
		v, err := m.OpenDisplay(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		views = append(views, v)
	}
	for _, v := range views {
		b := make([]byte, 12)
		if _, err := io.ReadFull(v, b); err != nil || !strings.HasPrefix(string(b), "RFB 003.") {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	m.Close()
	for _, v := range views {
		if _, err := io.Copy(io.Discard, v); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Logf("the screen ended with %v", err)
		}
	}
	if _, err := m.OpenDisplay(t.Context()); err == nil {
		t.Error("a guest that has ended shows its screen")
	}
}

func TestNoScreen(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	s.Display.Adapter = "none"
	m := boots(t, l, s)
	if _, err := m.OpenDisplay(t.Context()); !errors.Is(err, hv.ErrUnavailable) {
		t.Errorf("display: %v", err)
	}
	if err := m.Screenshot(t.Context(), io.Discard); !errors.Is(err, hv.ErrUnavailable) {
		t.Errorf("screenshot: %v", err)
	}
}

// medium is what QEMU says is in the drive.
func medium(t *testing.T, m *Machine, i int) (file string, open bool) {
	t.Helper()
	var drives []struct {
		Qdev     string `json:"qdev"`
		TrayOpen bool   `json:"tray_open"`
		Inserted *struct {
			Image struct {
				Filename string `json:"filename"`
			} `json:"image"`
		} `json:"inserted"`
	}
	if err := m.mon.Do(t.Context(), "query-block", nil, &drives); err != nil {
		t.Fatal(err)
	}
	for _, d := range drives {
		if strings.Contains(d.Qdev, diskID(i)) {
			if d.Inserted != nil {
				file = d.Inserted.Image.Filename
			}
			return file, d.TrayOpen
		}
	}
	t.Fatalf("no drive %s in %+v", diskID(i), drives)
	return "", false
}

func TestChangeMedia(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	s.Disks = append(s.Disks, hv.Disk{UUID: cdUUID, Mode: hv.ReadOnly, Kind: hv.KindCDROM})
	m := boots(t, l, s)
	one, two := hvtest.GuestDisk(t, t.TempDir()), hvtest.GuestDisk(t, t.TempDir())
	cd := func(path string) hv.Disk { return hv.Disk{Path: path, Format: hv.Raw} }
	for _, step := range []string{one, two, two, "", "", one} {
		if err := m.ChangeMedia(t.Context(), cdUUID, cd(step)); err != nil {
			t.Fatalf("insert %q: %v", step, err)
		}
		if file, open := medium(t, m, 1); file != step || open {
			t.Fatalf("the drive holds %q (open: %v), want %q", file, open, step)
		}
	}
	if err := m.ChangeMedia(t.Context(), cdUUID, cd("/nowhere/x.iso")); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("got %v", err)
	}
	if file, _ := medium(t, m, 1); file != one {
		t.Errorf("the failed change took the old medium out: %q", file)
	}
	if err := m.ChangeMedia(t.Context(), diskUUID, cd(one)); !errors.Is(err, hv.ErrUnavailable) {
		t.Errorf("a disk is no CD drive, but: %v", err)
	}
	var nodes []struct {
		Name string `json:"node-name"`
	}
	if err := m.mon.Do(t.Context(), "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		t.Fatal(err)
	}
	if len(nodes) != 4 { // two images, a file below each
		t.Errorf("ejected images are still open: %v", nodes)
	}
	e := <-m.Events()
	if e.Kind != hv.EventMedia || e.Object != cdUUID {
		t.Errorf("event %+v", e)
	}
}

// TestQcodes: QEMU knows every key of the table.
func TestQcodes(t *testing.T) {
	l := newLab(t)
	m := boots(t, l, l.spec(t))
	var schema []struct {
		Values []string `json:"values"`
	}
	if err := m.mon.Do(t.Context(), "query-qmp-schema", nil, &schema); err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, e := range schema {
		if slices.Contains(e.Values, "grave_accent") {
			known = e.Values
		}
	}
	seen := map[string]bool{}
	for code, name := range qcodes {
		if name == "" {
			continue
		}
		if !slices.Contains(known, name) || seen[name] {
			t.Errorf("key %d: %q is unknown to QEMU or used twice", code, name)
		}
		seen[name] = true
	}
}

// TestRemembered: QEMU is asked what it can do once, and again when it changed.
func TestRemembered(t *testing.T) {
	l := newLab(t)
	n := must(namesFor(l.spec(t), l.host, tryUnix))
	first, err := probe(t.Context(), l.host, n)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(first.Accels, "tcg") || !first.Stream || !first.PNG || first.Newest == "" || len(first.Devices) == 0 {
		t.Errorf("this QEMU can do more than %+v", first)
	}
	starts := len(l.pids)
	if again, err := probe(t.Context(), l.host, n); err != nil || again.Newest != first.Newest || len(l.pids) != starts {
		t.Errorf("asked again: %v, %v", again, err)
	}
	// Another build under the same name.
	copied := filepath.Join(l.host.Dir, "qemu")
	if err := os.WriteFile(copied, []byte("#!/bin/sh\nexec "+l.host.QEMU.Path+` "$@"`+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.host.QEMU.Path = copied
	if _, err := probe(t.Context(), l.host, n); err != nil || len(l.pids) != starts+1 {
		t.Errorf("another QEMU was not asked: %v", err)
	}
}

func socketPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

// TestResets: what belongs to one restart, by QEMU's own time.
func TestResets(t *testing.T) {
	reset := func(ms int64, guest bool) (e qmp.Event) {
		e.Event, e.Data = "RESET", map[string]any{"guest": guest}
		e.Timestamp.Seconds, e.Timestamp.Microseconds = 1000+ms/1000, ms%1000*1000
		return e
	}
	m := &Machine{events: hv.NewEventQueue()}
	defer m.events.Abandon()
	for _, step := range []struct {
		e      qmp.Event
		reboot bool
	}{
		{reset(0, false), false}, {reset(110, true), false}, {reset(115, true), false}, // our reset, then the firmware's
		{reset(5000, true), true}, {reset(5110, true), false}, // the guest's, then the firmware's
		{reset(8100, true), true}, {reset(11200, true), true}, // a guest that restarts all the time
	} {
		m.onEvent(step.e)
		m.events.Put(hv.Event{Kind: hv.EventMedia}) // a mark
		var got []hv.Event
		for len(got) == 0 || got[len(got)-1].Kind != hv.EventMedia {
			got = append(got, <-m.Events())
		}
		if reboot := got[0].Kind == hv.EventReboot; reboot != step.reboot {
			t.Errorf("%+v: told as %+v", step.e, got)
		}
	}
}

// TestAcceleratorFails: KVM and its like stop a guest that they cannot run on;
// QEMU tells only who asks.
func TestAcceleratorFails(t *testing.T) {
	m := &Machine{events: hv.NewEventQueue(), state: hv.Running, info: hv.MachineInfo{Accelerator: "kvm"}}
	m.host.Log = slog.New(slog.DiscardHandler)
	defer m.events.Abandon()
	var theirs net.Conn
	m.mon, theirs = fakeQEMU(t, m.onEvent, func(execute, id string) string {
		return `{"return": {"status": "internal-error", "running": false}, "id": "` + id + `"}`
	})
	opened(t, m.mon)
	io.WriteString(theirs, `{"event": "STOP"}`+"\n")
	if e := <-m.Events(); e.State != hv.Paused {
		t.Errorf("event %+v", e)
	}
	if e := <-m.Events(); e.Kind != hv.EventNotice || !strings.Contains(e.Text, "kvm") {
		t.Errorf("event %+v", e)
	}
}

// TestAgent plays the guest's agent at the other end of a socket.
func TestAgent(t *testing.T) {
	ours, theirs := socketPair(t)
	m := &Machine{agent: newAgent(ours)}
	if _, err := m.GuestInfo(t.Context()); !errors.Is(err, hv.ErrUnavailable) {
		t.Fatalf("nobody has the port open, but: %v", err)
	}
	m.agent.setOpen(true)
	go func() {
		// What an earlier question left over, then an old agent's error.
		_, _ = io.WriteString(theirs, `{"return": {"host-name": "stale"}}`+"\n")
		r := bufio.NewReader(theirs)
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			var c struct {
				Execute   string
				Arguments struct{ ID int64 }
			}
			if err := json.Unmarshal(bytes.TrimLeft(line, "\xff"), &c); err != nil {
				t.Errorf("%q: %v", line, err)
				return
			}
			answer := map[string]string{
				"guest-get-osinfo":             `{"return": {"id": "debian", "name": "Debian\u001b[2J", "kernel-release": "` + strings.Repeat("x", 1000) + `", "evil": {}}}`,
				"guest-get-host-name":          `{"error": {"class": "CommandNotFound", "desc": "no"}}`,
				"guest-network-get-interfaces": `{"return": [{"ip-addresses": [{"ip-address": "127.0.0.1"}, {"ip-address": "192.0.2.7"}, {"ip-address": "; rm"}]}, {}]}`,
			}[c.Execute]
			if c.Execute == "guest-sync-delimited" {
				answer = "\xff" + string(must(json.Marshal(map[string]any{"return": c.Arguments.ID})))
			}
			if _, err := io.WriteString(theirs, answer+"\n"); err != nil {
				return
			}
		}
	}()
	for range 2 {
		info, err := m.GuestInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.OS["id"] != "debian" || info.OS["name"] != "Debian [2J" || len(info.OS["kernel"]) != maxAgentText || info.Hostname != "" {
			t.Errorf("got %+v", info)
		}
		if !slices.Equal(info.Addresses, []string{"192.0.2.7"}) {
			t.Errorf("addresses %q", info.Addresses)
		}
	}
}

// FuzzAgent: an agent may say anything.
func FuzzAgent(f *testing.F) {
	f.Add([]byte("\xff{\"return\": 1}\n{\"return\": {}}\n{\"return\": {}}\n{\"return\": []}\n"))
	f.Add([]byte("\xff{\"return\": 1}\n{\"error\": {}}\nnull\n[]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		m := &Machine{agent: newAgent(ours)}
		m.agent.setOpen(true)
		go io.Copy(io.Discard, theirs)
		go func() {
			theirs.SetWriteDeadline(time.Now().Add(10 * time.Second))
			theirs.Write(b)
			theirs.Close()
		}()
		info, err := m.GuestInfo(t.Context())
		if err == nil && (len(info.Hostname) > 4*maxAgentText || len(info.Addresses) > maxAddresses) {
			t.Errorf("unbounded: %v", info)
		}
	})
}

// FuzzQCOW2 feeds the header's reader.
func FuzzQCOW2(f *testing.F) {
	head := append([]byte(qcow2Magic), 0, 0, 0, 3)
	f.Add(append(head, make([]byte, 120)...))
	f.Add([]byte(qcow2Magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readQCOW2(bytes.NewReader(b))
		if err == nil && len(h.backing) > maxBackingName {
			t.Errorf("a name of %d bytes", len(h.backing))
		}
	})
}

// TestDiskFailure: a disk that the host cannot write pauses the guest, which
// goes on when it can.
func TestDiskFailure(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	boots(t, l, s).Close() // has QEMU's abilities remembered, in a file that the limit would not allow
	start := l.host.Start
	l.host.Start = func(c hv.Command) (hv.Process, error) {
		// A file-size limit of nothing stands for a full disk.
		c.Args = append([]string{"-c", `trap "" XFSZ; ulimit -S -f 0; exec "$0" "$@"`, c.Path}, c.Args...)
		c.Path = "/bin/sh"
		return start(c)
	}
	m := boots(t, l, s)
	io.WriteString(m.Console(), "w")
	e := <-m.Events()
	if e.Kind != hv.EventIOError || e.Object != diskUUID || !strings.Contains(e.Text, "could not write to a disk") {
		t.Errorf("event %+v", e)
	}
	if e := <-m.Events(); e.Kind != hv.EventState || e.State != hv.Paused {
		t.Errorf("event %+v", e)
	}
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip("needs prlimit to take the limit away")
	}
	if out, err := exec.Command("prlimit", "--pid", strconv.Itoa(m.Info().PID), "--fsize=unlimited").CombinedOutput(); err != nil {
		t.Skipf("prlimit: %s", out)
	}
	if err := m.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, m, "W")
}

// TestConfined: QEMU holds the guest's lock and has given up what it does not
// need.
func TestConfined(t *testing.T) {
	l := newLab(t)
	lock, err := os.Create(filepath.Join(l.host.Dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	l.host.Inherit = []*os.File{lock}
	m := boots(t, l, l.spec(t))
	proc := "/proc/" + strconv.Itoa(m.Info().PID)
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		t.Skipf("needs Linux's proc: %v", err)
	}
	if held, err := os.Readlink(proc + "/fd/3"); err != nil || held != lock.Name() {
		t.Errorf("descriptor 3 is %q, %v", held, err)
	}
	if m.caps.Sandbox && !strings.Contains(string(status), "Seccomp:\t2") {
		t.Error("QEMU may make any system call although it could be confined")
	}
}
