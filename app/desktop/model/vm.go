package model

import (
	"context"
	"image"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/text"
)

// pvh is the type of guests that are a Linux kernel, run by HXEN itself; the
// other, hvm, is a whole machine, run by QEMU.
const pvh = "pvh"

// VM is one guest as the service last told. It stays the same object for the
// guest's life.
type VM struct {
	Ref    api.Ref
	Record api.VM

	// Revision counts the changes of Record.
	Revision int

	lib     *Library
	gone    bool
	thumb   image.Image
	preview image.Image
}

// Name is the guest's name, and a word for a guest that has none.
func (v *VM) Name() string {
	if v.Record.NameLabel == "" {
		return text.T("(no name)")
	}
	return v.Record.NameLabel
}

// Gone reports that the guest was deleted.
func (v *VM) Gone() bool { return v.gone }

// Library is the library that the guest is in.
func (v *VM) Library() *Library { return v.lib }

// Allows reports whether the service would accept op now.
func (v *VM) Allows(op string) bool {
	lost := v.lib.state != Online
	return !lost && !v.gone && slices.Contains(v.Record.AllowedOperations, op)
}

// Is reports whether the guest is in this power state.
func (v *VM) Is(state string) bool { return v.Record.PowerState == state }

// Busy is the operation under way, if any, by XenAPI's name.
func (v *VM) Busy() (op string, busy bool) {
	for _, o := range v.Record.CurrentOperations {
		if !busy || o < op {
			op, busy = o, true
		}
	}
	return op, busy
}

// StateText says the state as a person would: what is being done, else what is.
func (v *VM) StateText() string {
	if v.Broken() != "" {
		return text.T("Cannot be used")
	}
	if op, busy := v.Busy(); busy {
		return doingText(op)
	}
	if why := v.Waiting(); why != "" && v.Record.PowerState != Running {
		return text.T("Waiting: %s", why)
	}
	if v.Silent() != "" {
		return text.T("Does not answer")
	}
	switch v.Record.PowerState {
	case Running:
		return text.T("Running")
	case Paused:
		return text.T("Paused")
	case Suspended:
		return text.T("Saved")
	case Halted:
		return text.T("Off")
	}
	return v.Record.PowerState
}

var doing = map[string]string{
	OpStart:     text.T("Starting"),
	OpPause:     text.T("Pausing"),
	OpResume:    text.T("Resuming"),
	OpShutdown:  text.T("Shutting down"),
	OpRestart:   text.T("Restarting"),
	OpPowerOff:  text.T("Powering off"),
	OpReset:     text.T("Resetting"),
	OpSave:      text.T("Saving its state"),
	OpRestore:   text.T("Resuming from its saved state"),
	OpDestroy:   text.T("Deleting"),
	OpConfigure: text.T("Changing settings"),
	OpMedia:     text.T("Changing the CD"),
	OpClone:     text.T("Cloning"),
}

func doingText(op string) string {
	if t := doing[op]; t != "" {
		return t
	}
	return text.T("Busy")
}

// Memory is the guest's RAM in bytes, VCPUs its processors.
func (v *VM) Memory() int64 { return v.Record.MemoryStaticMax }
func (v *VM) VCPUs() int64  { return v.Record.VCPUsMax }

// Hardware is "2 GiB, 2 CPUs".
func (v *VM) Hardware() string {
	if v.VCPUs() == 1 {
		return text.T("%s, 1 CPU", text.Size(v.Memory()))
	}
	return text.T("%s, %d CPUs", text.Size(v.Memory()), v.VCPUs())
}

// Metrics are the facts of the guest's run; nil if none were told.
func (v *VM) Metrics() *api.VMMetrics { return v.lib.cache.metrics[v.Record.Metrics] }

// Badge says engine and accelerator, with the reason when the accelerator is
// not the fastest that could be. Slow is set when guests run by emulation.
type Badge struct {
	Engine, Accel, Reason string
	Slow                  bool
}

// Text is the badge in short: "QEMU · KVM".
func (b Badge) Text() string {
	name := map[string]string{"qemu": "QEMU", "native": text.T("Native")}
	accel := map[string]string{"kvm": "KVM", "tcg": text.T("emulated"), "whpx": "WHPX", "hvf": "HVF", "none": text.T("cannot run here")}
	parts := []string{}
	for _, p := range []struct {
		key   string
		names map[string]string
	}{{b.Engine, name}, {b.Accel, accel}} {
		if n := p.names[p.key]; n != "" {
			parts = append(parts, n)
		} else if p.key != "" {
			parts = append(parts, p.key)
		}
	}
	return strings.Join(parts, " · ")
}

// Badge tells what runs the guest, or what would: for a halted guest the host's
// own verdict.
func (v *VM) Badge() Badge {
	var b Badge
	if m := v.Metrics(); m != nil && !v.Is(Halted) {
		b = Badge{Engine: m.OtherConfig[api.KeyEngine], Accel: m.OtherConfig[api.KeyAccel], Reason: m.OtherConfig[api.KeyAccelReason]}
	}
	if b.Engine == "" {
		b.Engine = "qemu"
		if v.PVH() {
			b.Engine = "native"
		}
	}
	if h := v.lib.host; b.Accel == "" && h != nil {
		b.Accel, b.Reason = h.Accel, h.AccelWhy
		if v.PVH() {
			b.Accel, b.Reason = h.Native, h.NativeWhy
			if b.Accel == "" {
				b.Accel = "none"
			}
		}
	}
	b.Slow = b.Accel == "tcg"
	return b
}

// Broken says why the guest's folder cannot be used; empty if it can.
func (v *VM) Broken() string { return v.Record.OtherConfig[api.KeyBroken] }

// Silent says that what runs the guest does not answer; empty if it does.
func (v *VM) Silent() string { return v.Record.OtherConfig[api.KeySilent] }

// Notice is what a running guest's user should know (an I/O error, ...).
func (v *VM) Notice() string { return v.Record.OtherConfig[api.KeyNotice] }

// LastExit says how the last run ended; empty if the guest never ran.
func (v *VM) LastExit() string {
	o := v.Record.OtherConfig
	if t := o[api.KeyLastText]; t != "" {
		return Sentence(t)
	}
	switch o[api.KeyLastExit] {
	case "poweroff":
		return text.T("The guest powered itself off.")
	case "reboot":
		return text.T("The guest asked to restart.")
	case "crash":
		return text.T("The guest crashed.")
	case "watchdog":
		return text.T("The guest's watchdog saw it hang.")
	case "destroyed":
		return text.T("The guest was powered off from outside.")
	case "failed":
		return text.T("The engine failed.")
	}
	return o[api.KeyLastExit]
}

// Unclean reports whether the last run ended in a way that wants attention.
func (v *VM) Unclean() bool {
	return v.Is(Halted) && bad(v.Record.OtherConfig[api.KeyLastExit])
}

// Log is the path of the guest's log, if the service told.
func (v *VM) Log() string {
	return v.Record.OtherConfig[api.KeyLog]
}

// PVH reports whether the guest is a Linux kernel run by HXEN itself rather than
// a whole machine run by QEMU.
func (v *VM) PVH() bool { return v.Record.DomainType == pvh }

// NoScreen says why the guest has no screen; empty if it has one.
func (v *VM) NoScreen() string {
	if v.Record.Platform["vga"] == "none" {
		return text.T("This guest was made without a screen; its serial console shows what it says.")
	}
	return ""
}

// What a pvh guest's own drivers have taken up of its screen; empty for guests
// that need none.
const (
	DisplayNone = "none" // nothing, or not yet
	DisplayView = "view" // the screen, but no keyboard
	DisplayFull = "full"
)

// Display is one of these for a guest that is on.
func (v *VM) Display() string {
	if !v.PVH() {
		return ""
	}
	if d := v.Record.OtherConfig[api.KeyDisplay]; d != "" {
		return d
	}
	return DisplayNone
}

// SerialFirst reports whether a window had better begin with the serial line: the
// guest shows nothing, or takes no keys there.
func (v *VM) SerialFirst() bool {
	d := v.Display()
	return v.NoScreen() != "" || d == DisplayNone || d == DisplayView
}

// RunAs makes the guest one of the other type and starts it. done gets what was
// changed for that, a sentence each.
func (v *VM) RunAs(to string, done func(notes []string, err error)) {
	ref := v.Ref
	var notes []string
	v.lib.Async(func(ctx context.Context) (err error) {
		if notes, err = v.lib.svc.Retype(ctx, ref, to); err != nil {
			return err
		}
		return v.lib.svc.Do(ctx, ref, OpStart)
	}, func(err error) { done(notes, err) })
}

// Firmware is bios or uefi, empty for a guest that has none.
func (v *VM) Firmware() string { return v.Record.HVMBootParams[api.KeyFirmware] }

// Addresses are the guest's network addresses as far as they are known: from
// its agent and from the network's leases.
func (v *VM) Addresses() []string {
	seen := map[string]bool{}
	var out []string
	add := func(a string) {
		if a, _, _ = strings.Cut(a, "/"); a != "" && !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	for _, ref := range v.Record.VIFs {
		if r := v.lib.cache.vifs[ref]; r != nil {
			for _, a := range append(append([]string{}, r.IPv4Addresses...), r.IPv6Addresses...) {
				add(a)
			}
		}
	}
	if g := v.lib.cache.guest[v.Record.GuestMetrics]; g != nil {
		keys := make([]string, 0, len(g.Networks))
		for k := range g.Networks {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			add(g.Networks[k])
		}
	}
	return out
}

// Card is one network card.
type Card struct{ MAC, Device string }

// Cards are the guest's network cards in order.
func (v *VM) Cards() []Card {
	var out []Card
	for _, ref := range v.Record.VIFs {
		if r := v.lib.cache.vifs[ref]; r != nil {
			out = append(out, Card{MAC: r.MAC, Device: r.Device})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Device < out[j].Device })
	return out
}

// Disk is one block device of a guest.
type Disk struct {
	CD, Empty, ReadOnly, Missing bool
	Device, Path, Format         string
	Size, Used                   int64 // bytes; 0 unknown
}

// Name is the file's name, or what stands in its place.
func (d Disk) Name() string {
	switch {
	case d.Empty:
		return text.T("Empty")
	case d.Path == "":
		return d.Device
	}
	return filepath.Base(d.Path)
}

// Disks are the guest's disks, then its CD drives, each by device.
func (v *VM) Disks() []Disk {
	var out []Disk
	for _, ref := range v.Record.VBDs {
		b := v.lib.cache.vbds[ref]
		if b == nil {
			continue
		}
		d := Disk{CD: b.Type == "CD", Empty: b.Empty, ReadOnly: b.Mode == "RO", Device: b.Device}
		if d.Device == "" {
			d.Device = b.Userdevice
		}
		if i := v.lib.cache.vdis[b.VDI]; i != nil {
			d.Path, d.Format, d.Missing = i.Location, i.SMConfig["image-format"], i.Missing
			d.Size, d.Used = i.VirtualSize, i.PhysicalUtilisation
		}
		out = append(out, d)
	}
	sort.SliceStable(out, func(i, j int) bool {
		if out[i].CD != out[j].CD {
			return !out[i].CD
		}
		return out[i].Device < out[j].Device
	})
	return out
}

// userOf is the first guest by name that writes to the image at path; nil if
// there is none.
func (l *Library) userOf(path string) *VM {
	var first *VM
	for _, vm := range l.vms {
		uses := slices.ContainsFunc(vm.Disks(), func(d Disk) bool { return d.Path == path && path != "" && !d.CD && !d.ReadOnly })
		if uses && (first == nil || vm.Name() < first.Name()) {
			first = vm
		}
	}
	return first
}

// CD returns the guest's CD drive, if it has one.
func (v *VM) CD() (Disk, bool) {
	for _, d := range v.Disks() {
		if d.CD {
			return d, true
		}
	}
	return Disk{}, false
}

// Thumbnail is the last small picture of a running guest's screen; nil if none.
func (v *VM) Thumbnail() image.Image {
	if v.Is(Halted) {
		return nil
	}
	return v.thumb
}

// Preview is the same picture, larger.
func (v *VM) Preview() image.Image {
	if v.Is(Halted) {
		return nil
	}
	return v.preview
}

// Do asks the service for one operation; done gets the outcome on the loop. The
// state shown changes when the service says so, not before.
func (v *VM) Do(op string, done func(error)) {
	ref := v.Ref
	v.lib.Async(func(ctx context.Context) error { return v.lib.svc.Do(ctx, ref, op) }, done)
}

func (v *VM) matches(words []string) bool {
	if len(words) == 0 {
		return true
	}
	hay := strings.ToLower(strings.Join(append([]string{
		v.Name(), v.Record.NameDescription, v.StateText(), v.Badge().Text()}, v.Addresses()...), "\n"))
	for _, w := range words {
		if !strings.Contains(hay, w) {
			return false
		}
	}
	return true
}
