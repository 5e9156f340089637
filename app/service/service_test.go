package service

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// bench is a service in this process with a store of its own.
type bench struct {
	t    testing.TB
	home string
	opt  Options
	stop func()
}

func newBench(t testing.TB) *bench {
	b := &bench{t: t, home: t.TempDir()}
	b.opt = fakeOptions(bin, b.home)
	t.Cleanup(b.endAll)
	return b
}

// up runs the service and returns a client.
func (b *bench) up() *caller {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	opt := b.opt
	opt.Ready = func() { close(ready) }
	go func() { ended <- Run(ctx, opt) }()
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("service: %v", err)
		}
		b.stop = nil
	}
	select {
	case <-ready:
	case err := <-ended:
		b.t.Fatalf("service: %v", err)
	}
	return newCaller(b.t, b.home)
}

// endAll ends what the test has started, by the records in its own store.
func (b *bench) endAll() {
	if b.stop != nil {
		b.stop()
	}
	states, _ := filepath.Glob(filepath.Join(b.opt.Store.Guests(), "*", "worker", "state.json"))
	for _, f := range states {
		st := readState(filepath.Dir(filepath.Dir(f)))
		if st == nil {
			continue
		}
		for _, p := range []control.Process{st.Worker, st.Model} {
			if found, ok := proc.Find(p.PID, p.Start); ok {
				found.Kill()
			}
		}
	}
	run, err := b.opt.Store.RunDir()
	if err != nil {
		return
	}
	defer os.RemoveAll(run)
	nets, _ := filepath.Glob(filepath.Join(b.opt.Store.Networks(), "*"))
	for _, dir := range nets {
		s := &Service{opt: b.opt}
		n := paths.NetworkDir(dir, run)
		if c, err := s.dial(context.Background(), n.Ctl(), filepath.Base(dir)); err == nil {
			c.Call(context.Background(), control.VerbStop, nil, nil)
			c.Close()
		}
	}
}

func (b *bench) state(ref api.Ref) *control.Status {
	return readState(b.opt.Store.Guest(ref.UUID(), "").Dir)
}

func TestLifeOfAGuest(t *testing.T) {
	b := newBench(t)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "demo", Memory: 1 << 30, Forwards: []api.Forward{{From: 1, To: 22}}})
	r := c.vm(ref)
	if r.PowerState != "Halted" || r.DomID != -1 || !slices.Contains(r.AllowedOperations, "start") || len(r.VBDs) != 2 || len(r.VIFs) != 1 {
		t.Fatalf("new guest: %+v", r)
	}
	c.must(nil, "VM.start", ref, false, false)
	r = c.vm(ref)
	if r.PowerState != "Running" || r.DomID != 1 || len(r.Consoles) != 2 || slices.Contains(r.AllowedOperations, "start") || !slices.Contains(r.AllowedOperations, "clean_shutdown") {
		t.Fatalf("started guest: %+v", r)
	}
	var m api.VMMetrics
	c.must(&m, "VM_metrics.get_record", r.Metrics)
	if m.OtherConfig[api.KeyAccel] != "tcg" || m.OtherConfig[api.KeyAccelReason] == "" || m.StartTime.IsZero() {
		t.Errorf("metrics: %+v", m)
	}
	c.until(ref, "pinned", func(r api.VM) bool { return r.Platform["device-model"] == "pc-q35-7.2" })
	// The failed forward reaches the user, the address the card.
	c.until(ref, "noticed", func(r api.VM) bool { return strings.Contains(r.OtherConfig[api.KeyNotice], "taken") })
	vif := c.untilAddressed(r.VIFs[0])
	var net api.Network
	c.must(&net, "network.get_record", vif.Network)
	if len(vif.IPv4Addresses) != 1 || net.AssignedIPs[r.VIFs[0]] != vif.IPv4Addresses[0] {
		t.Errorf("addresses: %v %v", vif.IPv4Addresses, net.AssignedIPs)
	}

	wantCode(t, c.call(nil, "VM.start", ref, false, false), api.ErrVMBadPowerState, "running", "halted")
	c.must(nil, "VM.pause", ref)
	if r = c.vm(ref); r.PowerState != "Paused" {
		t.Errorf("right after pause: %s", r.PowerState)
	}
	wantCode(t, c.call(nil, "VM.clean_shutdown", ref), api.ErrVMBadPowerState)
	c.must(nil, "VM.unpause", ref)
	if r = c.vm(ref); r.PowerState != "Running" {
		t.Errorf("right after unpause: %s", r.PowerState)
	}
	c.must(nil, "VM.clean_reboot", ref)
	c.must(nil, "VM.clean_shutdown", ref)
	r = c.vm(ref)
	if r.PowerState != "Halted" || r.DomID != -1 || len(r.Consoles) != 0 || r.OtherConfig[api.KeyLastExit] != "poweroff" {
		t.Fatalf("after shutdown: %+v", r)
	}
	c.must(nil, "VM.start", ref, true, false)
	if r = c.vm(ref); r.DomID != 2 || r.PowerState != "Paused" {
		t.Errorf("started paused: domid %d, want a new number; %s", r.DomID, r.PowerState)
	}
	c.must(nil, "VM.hard_shutdown", ref)
	if r = c.vm(ref); r.PowerState != "Halted" || r.OtherConfig[api.KeyLastExit] != "destroyed" {
		t.Fatalf("after power off: %+v", r)
	}
}

func TestStartFailuresNameTheStage(t *testing.T) {
	b := newBench(t)
	total, free := 16*hv.GiB, 12*hv.GiB
	b.opt.Host.Memory = func() (uint64, uint64, error) { return total, free, nil }
	c := b.up()
	ref := c.create(api.NewGuest{Name: "is refused", NoNetwork: true})
	err := c.call(nil, "VM.start", ref, false, false)
	wantCode(t, err, api.ErrStartFailed, "qemu", "it is refused", "name it otherwise")
	if held, _ := proc.Held(b.opt.Store.Guest(ref.UUID(), "").Lock()); held || c.vm(ref).PowerState != "Halted" {
		t.Error("a failed start left something behind")
	}
	big := c.create(api.NewGuest{Name: "big", Memory: 32 << 30, NoNetwork: true})
	wantCode(t, c.call(nil, "VM.start", big, false, false), api.ErrStartFailed, "memory", "32 GiB", "16 GiB")
	c.must(nil, "VM.set_memory", big, int64(13<<30))
	wantCode(t, c.call(nil, "VM.start", big, false, false), api.ErrHostNotEnoughMemory, "13408 MiB", "12288 MiB free")

	iso := filepath.Join(b.home, "x.iso")
	writeISO(t, iso)
	cd := c.create(api.NewGuest{Name: "cd", ISO: iso, NoNetwork: true})
	if err := os.Remove(iso); err != nil {
		t.Fatal(err)
	}
	err = c.call(nil, "VM.start", cd, false, false)
	wantCode(t, err, api.ErrStartFailed, "CD image", "x.iso")
	if n := strings.Count(err.Error(), iso); n != 1 {
		t.Errorf("%q names the image %d times", err, n)
	}
	var vdis map[api.Ref]api.VDI
	c.must(&vdis, "VDI.get_all_records")
	for _, v := range vdis {
		if v.Location == iso && !v.Missing {
			t.Error("the image is shown as if it were there")
		}
	}

	raw := filepath.Join(b.home, "shared.img")
	if err := os.WriteFile(raw, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	one := c.create(api.NewGuest{Name: "one", Disk: raw, NoNetwork: true})
	two := c.create(api.NewGuest{Name: "two", Disk: raw, ReadOnly: true, NoNetwork: true})
	c.must(nil, "VM.start", one, false, false)
	wantCode(t, c.call(nil, "VM.start", two, false, false), api.ErrStartFailed, "in use", `"one"`)
	c.must(nil, "VM.hard_shutdown", one)
	c.must(nil, "VM.start", two, false, false)
	c.must(nil, "VM.hard_shutdown", two)
}

// TestShutdownAsksAgain: a guest that is still starting misses the power button.
func TestShutdownAsksAgain(t *testing.T) {
	c := newBench(t).up()
	ref := c.create(api.NewGuest{Name: "drowsy", NoNetwork: true})
	c.must(nil, "VM.start", ref, false, false)
	c.must(nil, "VM.clean_shutdown", ref)
	if r := c.vm(ref); r.PowerState != "Halted" || r.OtherConfig[api.KeyLastExit] != "poweroff" {
		t.Errorf("after shutdown: %s %v", r.PowerState, r.OtherConfig)
	}
}

func TestOperationsExcludeEachOther(t *testing.T) {
	b := newBench(t)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "deaf", NoNetwork: true})
	c.must(nil, "VM.start", ref, false, false)
	var task api.Ref
	c.must(&task, "Async.VM.clean_shutdown", ref)
	r := c.until(ref, "being shut down", func(r api.VM) bool { return len(r.CurrentOperations) == 1 })
	if r.CurrentOperations[string(task)] != "clean_shutdown" || slices.Contains(r.AllowedOperations, "pause") || !slices.Contains(r.AllowedOperations, "hard_shutdown") {
		t.Errorf("while being asked: %+v %+v", r.CurrentOperations, r.AllowedOperations)
	}
	wantCode(t, c.call(nil, "VM.pause", ref), api.ErrOtherOperation)
	c.must(nil, "task.cancel", task)
	c.until(ref, "left alone", isState(hv.Running))
	var done api.Task
	c.must(&done, "task.get_record", task)
	if done.Status != api.TaskCancelled {
		t.Errorf("task: %+v", done)
	}
	c.must(&task, "Async.VM.clean_shutdown", ref)
	c.until(ref, "being shut down", func(r api.VM) bool { return len(r.CurrentOperations) == 1 })
	c.must(nil, "VM.hard_shutdown", ref)
	c.until(ref, "halted", isState(hv.Halted))

	slow := c.create(api.NewGuest{Name: "slow", NoNetwork: true})
	c.must(&task, "Async.VM.start", slow, false, false)
	c.until(slow, "starting", func(r api.VM) bool { return len(r.CurrentOperations) == 1 })
	c.must(nil, "task.cancel", task)
	c.until(slow, "cancelled", isState(hv.Halted))
	if held, _ := proc.Held(b.opt.Store.Guest(slow.UUID(), "").Lock()); held {
		t.Error("a cancelled start left its worker")
	}
}

func TestMediaStreamsAndFigures(t *testing.T) {
	b := newBench(t)
	c := b.up()
	iso := filepath.Join(b.home, "a disk, with = and spaces.iso")
	writeISO(t, iso)
	ref := c.create(api.NewGuest{Name: "m", ISO: iso, DiskSize: 1 << 30, NoNetwork: true})
	r := c.vm(ref)
	cd := r.VBDs[1]
	c.must(nil, "VM.start", ref, false, false)
	c.must(nil, "VBD.eject", cd)
	wantCode(t, c.call(nil, "VBD.eject", cd), api.ErrVBDIsEmpty)
	wantCode(t, c.call(nil, "VBD.eject", r.VBDs[0]), api.ErrVBDNotRemovable)
	var vdis map[api.Ref]api.VDI
	c.must(&vdis, "VDI.get_all_records")
	var image api.Ref
	for ref, v := range vdis {
		if v.Location == iso {
			image = ref
		}
	}
	c.must(nil, "VBD.insert", cd, image)
	wantCode(t, c.call(nil, "VDI.forget", image), api.ErrVDIInUse)
	spec, err := readSpec(b.opt.Store.Guest(ref.UUID(), "").Dir)
	if err != nil || spec.Disks[1].Path != iso || spec.Disks[1].Format != hv.Raw {
		t.Errorf("settings after insert: %+v %v", spec.Disks, err)
	}

	nc, lines := c.console(c.vm(ref).Consoles[0])
	if line, err := lines.ReadString('\n'); line != "hello from rfb\n" {
		t.Errorf("console: %q %v", line, err)
	}
	io.WriteString(nc, "echo\n")
	if line, err := lines.ReadString('\n'); line != "echo\n" {
		t.Errorf("console: %q %v", line, err)
	}
	nc.Close()
	resp, err := c.http.Get("http://localhost" + api.PathSnapshot + "?uuid=" + ref.UUID() + "&session_id=" + string(c.session))
	if err != nil {
		t.Fatal(err)
	}
	png, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(png), "\x89PNG") || resp.Header.Get("Content-Type") != "image/png" {
		t.Errorf("snapshot: %s %q", resp.Status, png)
	}

	var rows []api.ListRow
	if err := c.plugin(&rows, api.FnList, nil); err != nil || len(rows) != 1 || rows[0].State != "r-----" || rows[0].DomID != 1 || rows[0].Time != 1 {
		t.Errorf("list: %+v %v", rows, err)
	}
	var sources []api.DataSource
	c.must(&sources, "VM.get_data_sources", ref)
	if len(sources) < 6 {
		t.Errorf("data sources: %+v", sources)
	}
	c.until(ref, "known from inside", func(r api.VM) bool { return r.GuestMetrics != api.NullRef })
	var info api.VMGuestMetrics
	c.must(&info, "VM_guest_metrics.get_record", c.vm(ref).GuestMetrics)
	if info.Networks["0/ip"] != "10.0.0.9" || info.OSVersion["name"] != "Debian" {
		t.Errorf("guest metrics: %+v", info)
	}
	if err := c.plugin(nil, api.FnKeys, api.Keys{VM: ref, Codes: []uint16{29, 56, 111}}); err != nil {
		t.Error(err)
	}
	c.until(ref, "typed at", func(r api.VM) bool { return r.OtherConfig[api.KeyNotice] == "keys [29 56 111]" })
}

func TestSettings(t *testing.T) {
	b := newBench(t)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "one"})
	c.create(api.NewGuest{Name: "two"})
	wantCode(t, c.call(nil, "VM.set_name_label", ref, "two"), api.ErrRefused, "two", "another name")
	err := c.plugin(nil, api.FnCreate, api.NewGuest{Name: "two", DiskSize: 1 << 30})
	wantCode(t, err, api.ErrRefused, "already")
	c.must(nil, "VM.set_name_label", ref, "three")
	c.must(nil, "VM.add_to_other_config", ref, "mine", "yes")
	c.must(nil, "VM.add_to_other_config", ref, "hxen:broken", "forged")
	c.must(nil, "VM.add_to_platform", ref, "viridian", "true")
	r := c.vm(ref)
	if r.NameLabel != "three" || r.OtherConfig["mine"] != "yes" || r.OtherConfig[api.KeyBroken] != "" || r.Platform["viridian"] != "true" {
		t.Errorf("%+v", r)
	}
	var cfg api.GuestConfig
	if err := c.plugin(&cfg, api.FnGet, api.VMArg{VM: ref}); err != nil {
		t.Fatal(err)
	}
	cfg.VCPUs, cfg.Network, cfg.Description = 3, false, "said"
	if err := c.plugin(nil, api.FnConfig, cfg); err != nil {
		t.Fatal(err)
	}
	bad := cfg
	bad.Firmware = "coreboot"
	wantCode(t, c.plugin(nil, api.FnConfig, bad), api.ErrRefused, "firmware")
	b.stop()
	c = b.up()
	r = c.vm(ref)
	if r.VCPUsMax != 3 || len(r.VIFs) != 0 || r.NameDescription != "said" || r.OtherConfig["mine"] != "yes" {
		t.Errorf("after a restart: %+v", r)
	}
}

func TestDelete(t *testing.T) {
	b := newBench(t)
	c := b.up()
	iso := filepath.Join(b.home, "x.iso")
	writeISO(t, iso)
	gone := c.create(api.NewGuest{Name: "gone", ISO: iso, DiskSize: 1 << 30})
	kept := c.create(api.NewGuest{Name: "kept/../../x"})
	var d api.Deleted
	if err := c.plugin(&d, api.FnDelete, api.Delete{VM: gone}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(d.Into, "spec.json")); err != nil || !slices.Contains(d.Kept, iso) || len(d.Trash) < 2 {
		t.Errorf("%+v %v", d, err)
	}
	if _, err := os.Stat(iso); err != nil {
		t.Error("an image outside the store was touched:", err)
	}
	wantCode(t, c.call(nil, "VM.get_record", gone), api.ErrHandleInvalid)
	if err := c.plugin(&d, api.FnDelete, api.Delete{VM: kept, KeepDisks: true}); err != nil {
		t.Fatal(err)
	}
	if len(d.Kept) != 1 || filepath.Dir(d.Kept[0]) != b.opt.Store.Media() {
		t.Fatalf("%+v", d)
	}
	b.stop()
	c = b.up()
	var vdis map[api.Ref]api.VDI
	c.must(&vdis, "VDI.get_all_records")
	found := false
	for _, v := range vdis {
		found = found || v.Location == d.Kept[0] && !v.Missing
	}
	if !found {
		t.Errorf("the kept disk is not listed: %+v", vdis)
	}
}

// TestFolderGarbage: whatever lies in the store is shown and left as it is.
func TestFolderGarbage(t *testing.T) {
	b := newBench(t)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "good"})
	b.stop()
	guests := b.opt.Store.Guests()
	good := filepath.Join(guests, ref.UUID())
	spec, err := os.ReadFile(filepath.Join(good, "spec.json"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(dir string, b []byte) {
		os.MkdirAll(filepath.Join(guests, dir), 0o700)
		if b != nil {
			if err := os.WriteFile(filepath.Join(guests, dir, "spec.json"), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	half, empty, newer := newUUID(), newUUID(), newUUID()
	put(half, spec[:len(spec)/2])
	put(empty, nil)
	future := `{"version": 9, "uuid": "` + newer + `", "name": "from the future", "wonder": 1}`
	put(newer, []byte(future))
	put("copy of good", spec)
	put(newPrefix+newUUID(), spec)
	if err := os.WriteFile(filepath.Join(guests, "stray"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A field that this version does not know survives a change.
	if err := os.WriteFile(filepath.Join(good, "spec.json"), append([]byte(`{"wonder": 7,`), spec[1:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	c = b.up()
	var all map[api.Ref]api.VM
	c.must(&all, "VM.get_all_records")
	if len(all) != 5 {
		t.Fatalf("%d guests are shown, want 5", len(all))
	}
	for uuid, word := range map[string]string{half: "damaged", empty: "missing", newer: "newer", derive("folder", "copy of good"): "copy"} {
		r := all[api.RefOf(uuid)]
		if !strings.Contains(r.OtherConfig[api.KeyBroken], word) || !slices.Equal(r.AllowedOperations, []string{"destroy"}) {
			t.Errorf("%s: %q %v", word, r.OtherConfig[api.KeyBroken], r.AllowedOperations)
		}
		wantCode(t, c.call(nil, "VM.start", api.RefOf(uuid), false, false), api.ErrOperationNotAllowed, word)
		wantCode(t, c.call(nil, "VM.set_name_description", api.RefOf(uuid), "x"), api.ErrOperationNotAllowed)
	}
	var made api.Created
	wantCode(t, c.plugin(&made, api.FnRepair, api.RepairArg{VM: api.RefOf(newer)}), api.ErrRefused, "newer")
	if now, _ := os.ReadFile(filepath.Join(guests, newer, "spec.json")); string(now) != future {
		t.Errorf("a newer HXEN's spec was rewritten: %s", now)
	}
	if now, _ := os.ReadFile(filepath.Join(guests, half, "spec.json")); string(now) != string(spec[:len(spec)/2]) {
		t.Error("a damaged spec was rewritten")
	}
	if left, _ := filepath.Glob(filepath.Join(guests, newPrefix+"*")); len(left) != 0 {
		t.Error("an unfinished guest was not swept:", left)
	}
	c.must(nil, "VM.set_name_description", ref, "changed")
	var back map[string]any
	now, _ := os.ReadFile(filepath.Join(good, "spec.json"))
	if json.Unmarshal(now, &back) != nil || back["wonder"] != 7.0 || back["description"] != "changed" {
		t.Errorf("unknown field lost: %s", now)
	}
	c.must(nil, "VM.destroy", api.RefOf(half))
	if trash, _ := filepath.Glob(filepath.Join(b.opt.Store.Trash(), "*", "spec.json")); len(trash) != 1 {
		t.Error("a broken guest's folder is not in the trash:", trash)
	}
}

// copies begins to make a guest with a copy of a disk that never ends, of which it tells
// the path and the task.
func (b *bench) copies(c *caller) (raw string, task api.Ref) {
	b.t.Helper()
	raw = filepath.Join(b.home, "endless.img")
	if err := os.WriteFile(raw, make([]byte, 1<<20), 0o600); err != nil {
		b.t.Fatal(err)
	}
	var hosts []api.Ref
	c.must(&hosts, "host.get_all")
	arg, _ := json.Marshal(api.NewGuest{Name: "x", Disk: raw, CopyDisk: true})
	c.must(&task, "Async.host.call_plugin", hosts[0], api.Plugin, api.FnCreate, map[string]string{api.PluginArgs: string(arg)})
	return raw, task
}

func TestCreateIsAllOrNothing(t *testing.T) {
	b := newBench(t)
	c := b.up()
	raw, task := b.copies(c)
	token := ""
	for done := false; !done; {
		var e api.EventBatch
		c.must(&e, "event.from", []string{"task"}, token, 5.0)
		token = e.Token
		var r api.Task
		c.must(&r, "task.get_record", task)
		if r.Status == api.TaskPending && r.Progress > 0 {
			c.must(nil, "task.cancel", task)
		}
		done = r.Status == api.TaskCancelled
		if r.Status == api.TaskSuccess || r.Status == api.TaskFailure {
			t.Fatalf("%+v", r)
		}
	}
	if left, _ := os.ReadDir(b.opt.Store.Guests()); len(left) != 0 {
		t.Errorf("a cancelled copy left %v", left)
	}
	for _, n := range []api.NewGuest{
		{Name: "x"}, {Name: "", DiskSize: 1 << 30}, {Name: "x", ISO: raw}, {Name: "x", Disk: "relative.img"},
		{Name: "x", Disk: filepath.Join(b.home, "absent")}, {Name: "x", DiskSize: 7}, {Name: "x", DiskSize: 1 << 30, Memory: 5},
		{Name: "x", DiskSize: 1 << 30, Type: "pvh"}, {Name: "x", Disk: "/dev/null"}, {Name: "x", Disk: "/proc/self/fd"},
	} {
		wantCode(t, c.plugin(nil, api.FnCreate, n), api.ErrRefused)
	}
	if left, _ := os.ReadDir(b.opt.Store.Guests()); len(left) != 0 {
		t.Errorf("refused guests left %v", left)
	}
}

func TestOneServicePerStore(t *testing.T) {
	b := newBench(t)
	b.up()
	err := Run(t.Context(), b.opt)
	var served *ServedError
	if !errors.As(err, &served) || !strings.Contains(err.Error(), b.home) {
		t.Fatalf("a second service: %v", err)
	}
}

// writeISO writes the smallest CD image with a volume id.
func writeISO(t testing.TB, path string) {
	t.Helper()
	img := make([]byte, 20*2048)
	copy(img[16*2048:], "\x01CD001\x01")
	copy(img[16*2048+40:], "Debian 12 test                  ")
	copy(img[17*2048:], "\xffCD001\x01")
	if err := os.WriteFile(path, img, 0o600); err != nil {
		t.Fatal(err)
	}
}
