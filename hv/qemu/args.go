package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hxen-project/hxen/hv"
)

// Facts are what Args must know of the host besides the Spec.
type Facts struct {
	Accel   string // QEMU's name of the accelerator to use
	Machine string // versioned machine type
	Sandbox bool   // QEMU was built with seccomp
	VGA     string // the device that is the screen adapter "virtio"
	Restore bool   // QEMU waits for a saved state instead of booting
	GenID   string // generation of the virtual machine; "" for a new one

	OVMFCode string // UEFI code image
	names    names
	images   []image // by the disk's place in the Spec
}

// PCI slots of q35's root bus: fixed, so that a guest finds its devices where
// they were after another was added. 0x1f is the chipset's own.
const (
	slotVGA     = 0x02
	slotRNG     = 0x03
	slotBalloon = 0x04
	slotSerial  = 0x05
	slotUSB     = 0x06
	slotSound   = 0x07
	slotNIC     = 0x08 // to 0x0f
	slotDisk    = 0x10 // to 0x17, up to three functions each
	slotAHCI    = 0x18 // to 0x1a: controllers beyond the chipset's
	slotHot     = 0x1b // ports for what is plugged in later
	diskSlots   = 8
	ahciPorts   = 6
)

// Args builds QEMU's command line for s. It looks at nothing but its arguments.
func Args(s hv.Spec, f Facts) ([]string, error) {
	if err := checkStrings(s, f); err != nil {
		return nil, err
	}
	b := &builder{s: s, f: f, bootIndex: bootIndexes(s)}
	b.base()
	b.firmware()
	b.monitor()
	b.display()
	b.devices()
	b.disks()
	b.nics()
	return b.args, b.err
}

// builder collects arguments; the first error stays in err.
type builder struct {
	s         hv.Spec
	f         Facts
	bootIndex map[string]int // by the uuid of a disk or card
	args      []string
	err       error
}

func (b *builder) add(args ...string) { b.args = append(b.args, args...) }

// obj adds an option in QEMU's JSON form, which has no separators to escape.
func (b *builder) obj(option string, v map[string]any) {
	text, err := json.Marshal(v)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("encode %s: %w", option, err)
	}
	b.add(option, string(text))
}

func (b *builder) device(driver, id string, props map[string]any) {
	v := map[string]any{"driver": driver}
	if id != "" {
		v["id"] = id
	}
	for k, p := range props {
		v[k] = p
	}
	b.obj("-device", v)
}

// esc doubles commas: how QEMU's key=value options quote them (qemu-options.hx).
func esc(s string) string { return strings.ReplaceAll(s, ",", ",,") }

func addr(slot, function int) string { return fmt.Sprintf("%#x.%#x", slot, function) }

// checkStrings refuses what cannot be said on a command line at all.
func checkStrings(s hv.Spec, f Facts) error {
	check := map[string]string{
		"name": s.Name, "kernel": s.Boot.Kernel, "initrd": s.Boot.Initrd, "command line": s.Boot.Cmdline,
		"machine": f.Machine, "socket": f.names.QMP, "UEFI image": f.OVMFCode, "UEFI variables": f.names.NVRAM,
	}
	for i, im := range f.images {
		check["disk "+strconv.Itoa(i)] = im.path
	}
	for what, text := range check {
		if strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
			return fmt.Errorf("the %s %q cannot be handed to QEMU: it holds a NUL byte or is not UTF-8", what, text)
		}
	}
	if len(f.images) != len(s.Disks) || len(f.names.NIC) != len(s.NICs) {
		return errors.New("facts are not about this guest")
	}
	return nil
}

func (b *builder) base() {
	b.add("-nodefaults", "-no-user-config", "-S",
		"-name", "guest="+esc(b.s.Name)+",debug-threads=on",
		"-uuid", b.s.UUID)
	if b.f.Restore {
		b.add("-incoming", "defer")
	}
	if b.f.Sandbox {
		b.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
	}
	machine := esc(b.f.Machine) + ",usb=off,vmport=off,dump-guest-core=off"
	if b.f.Accel == "hvf" || b.f.Accel == "whpx" {
		machine += ",smm=off" // neither emulates system management mode
	}
	if b.s.Firmware == hv.UEFI {
		machine += ",pflash0=" + nodeCode + ",pflash1=" + nodeVars
	}
	accel, cpu := acceleration(b.f.Accel)
	b.add("-machine", machine, "-accel", accel, "-cpu", cpu,
		"-smp", fmt.Sprintf("cpus=%d,sockets=1,cores=%d,threads=1", b.s.VCPUs, b.s.VCPUs),
		"-m", strconv.FormatUint(b.s.Memory/hv.MiB, 10)+"M",
		"-rtc", "base=utc",
		"-boot", "menu=off,strict=on",
		"-global", "ICH9-LPC.disable_s3=1", // nothing here could wake a guest from S3
		"-global", "ICH9-LPC.noreboot=off", // the chipset's watchdog works, for guests that arm it
		// A panic ends QEMU, with its reason in the SHUTDOWN event, unless the guest is
		// to be looked at first.
		"-action", "reboot=reset,shutdown=poweroff,panic="+panicAction(b.s)+",watchdog="+watchdogAction(b.s))
}

// watchdogAction: what has to be looked at, dumped or ended stops first.
func watchdogAction(s hv.Spec) string {
	if s.OnWatchdog == "" {
		return "reset"
	}
	return "pause"
}

func panicAction(s hv.Spec) string {
	if s.OnCrash == hv.EndPreserve || s.Dumps() {
		return "pause"
	}
	return "shutdown"
}

// acceleration picks the CPU model per accelerator. TCG's translation cache is
// bounded in MiB: its default grows with the guest's memory, to a GiB. WHPX
// hangs in UEFI firmware with "max" and injects interrupts wrongly with its own
// interrupt controller; its named model is the oldest that all systems of today
// still accept (x86-64-v2).
func acceleration(name string) (accel, cpu string) {
	switch name {
	case "kvm", "hvf":
		return name, "host"
	case "whpx":
		return "whpx,kernel-irqchip=off", "Westmere"
	default:
		return "tcg,thread=multi,tb-size=256", "max"
	}
}

// Node names of the firmware's flash.
const (
	nodeCode = "fw-code"
	nodeVars = "fw-vars"
)

func (b *builder) firmware() {
	if b.s.Firmware == hv.UEFI {
		b.obj("-blockdev", map[string]any{
			"driver": "raw", "node-name": nodeCode, "read-only": true,
			"file": map[string]any{"driver": "file", "filename": b.f.OVMFCode, "read-only": true},
		})
		b.obj("-blockdev", map[string]any{
			"driver": "raw", "node-name": nodeVars, "read-only": false,
			"file": map[string]any{"driver": "file", "filename": b.f.names.NVRAM, "locking": "auto"},
		})
	}
	if b.s.Boot.Kernel != "" {
		b.add("-kernel", b.s.Boot.Kernel)
		if b.s.Boot.Initrd != "" {
			b.add("-initrd", b.s.Boot.Initrd)
		}
		if b.s.Boot.Cmdline != "" {
			b.add("-append", b.s.Boot.Cmdline)
		}
	}
}

// monitor adds QMP, the serial line and the guest agent's channel. QEMU dials
// our listening sockets, so there is nothing to wait or poll for.
func (b *builder) monitor() {
	b.chardev("qmp", b.f.names.QMP)
	b.add("-mon", "chardev=qmp,mode=control")
	b.chardev("ser", b.f.names.Serial)
	b.device("isa-serial", "", map[string]any{"chardev": "ser"})
	b.chardev("qga", b.f.names.Agent)
	b.device("virtio-serial-pci", "vser", map[string]any{"addr": addr(slotSerial, 0)})
	b.device("virtserialport", agentID, map[string]any{"bus": "vser.0", "chardev": "qga", "name": "org.qemu.guest_agent.0"})
}

// chardev: this option has no JSON form.
func (b *builder) chardev(id, address string) {
	b.add("-chardev", "socket,id="+id+","+chardevAddress(address)+",server=off")
}

// display adds the screen, its RFB server and sound. All viewers share it.
func (b *builder) display() {
	vnc := "unix:" + esc(b.f.names.VNC) + ",share=force-shared"
	if b.f.names.Password != "" {
		// The first port from 5900 on that is free; until the password is set over QMP
		// nobody gets in.
		vnc = "127.0.0.1:0,to=9999,password=on,share=force-shared"
	}
	if b.s.Display.Audio {
		b.add("-audiodev", "none,id=snd")
		vnc += ",audiodev=snd"
		b.device("ich9-intel-hda", "hda", map[string]any{"addr": addr(slotSound, 0)})
		b.device("hda-duplex", "", map[string]any{"bus": "hda.0", "audiodev": "snd"})
	}
	b.add("-display", "none")
	if b.s.Display.Adapter == "none" {
		return
	}
	b.add("-vnc", vnc)
	driver := b.f.VGA
	if b.s.Display.Adapter == "std" {
		driver = "VGA"
	}
	b.device(driver, "vga", map[string]any{"addr": addr(slotVGA, 0)})
}

// devices adds what every guest has. There is no USB keyboard: QEMU would send
// it the keys as soon as it is there, also while firmware or boot loader look at
// the PS/2 one, which every guest knows.
func (b *builder) devices() {
	b.device("qemu-xhci", "usb", map[string]any{"addr": addr(slotUSB, 0)})
	b.device("usb-tablet", "tablet", map[string]any{"bus": "usb.0"})
	b.device("virtio-rng-pci", "rng", map[string]any{"addr": addr(slotRNG, 0)})
	b.device("virtio-balloon-pci", balloonID, map[string]any{"addr": addr(slotBalloon, 0), "deflate-on-oom": true})
	genid := "auto"
	if b.f.GenID != "" {
		genid = b.f.GenID // a guest that goes on is not another one
	}
	b.device("vmgenid", "genid", map[string]any{"guid": genid})
	b.device("pvpanic", "", nil)
	for i := range hotPorts {
		b.device("pcie-root-port", portName(i), map[string]any{"addr": addr(slotHot, i), "chassis": i + 1, "multifunction": true})
	}
}

// Devices that events and queries name.
const (
	balloonID = "balloon"
	agentID   = "agent"
)

// diskID and nodeName name the i-th disk's device and its image in QEMU. A new
// medium gets a new generation of node; the first is 0.
func diskID(i int) string               { return fmt.Sprintf("vbd%d", i) }
func nodeName(i, generation int) string { return fmt.Sprintf("d%dg%d", i, generation) }

func (b *builder) disks() {
	virtio, sata := 0, 0
	for i, d := range b.s.Disks {
		props := map[string]any{}
		if d.Path != "" {
			b.obj("-blockdev", blockNode(d, b.f.images[i], nodeName(i, 0)))
			props["drive"] = nodeName(i, 0)
		}
		if n, ok := b.bootIndex[d.UUID]; ok {
			props["bootindex"] = n
		}
		if !d.IsCD() { // a scratched CD is the guest's to handle
			props["werror"], props["rerror"] = "stop", "stop"
		}
		driver := "virtio-blk-pci"
		switch {
		case d.IsCD():
			driver = "ide-cd"
		case d.Bus == hv.BusSATA:
			driver = "ide-hd"
		}
		if driver == "virtio-blk-pci" {
			props["addr"] = addr(slotDisk+virtio%diskSlots, virtio/diskSlots)
			props["multifunction"] = true
			virtio++
		} else {
			props["bus"] = b.sataPort(sata)
			sata++
		}
		// The serial number of a virtio disk has 20 bytes (virtio 1.2, 5.2.6.1).
		props["serial"] = strings.ReplaceAll(d.UUID, "-", "")[12:]
		b.device(driver, diskID(i), props)
	}
}

// sataPort names the n-th SATA port, adding a controller when the chipset's
// ports are used up.
func (b *builder) sataPort(n int) string {
	if n < ahciPorts {
		return fmt.Sprintf("ide.%d", n)
	}
	c := n/ahciPorts - 1
	if n%ahciPorts == 0 {
		b.device("ahci", fmt.Sprintf("ahci%d", c), map[string]any{"addr": addr(slotAHCI+c, 0)})
	}
	return fmt.Sprintf("ahci%d.%d", c, n%ahciPorts)
}

// nics: each card is a stream of frames to a socket that we hold. The
// boot ROM is only loaded when the network is in the boot order: looking for a
// server takes the firmware many seconds.
func (b *builder) nics() {
	for i, n := range b.s.NICs {
		id := fmt.Sprintf("n%d", i)
		b.obj("-netdev", map[string]any{
			"type": "stream", "id": id, "server": false,
			"addr": socketAddress(b.f.names.NIC[i]),
		})
		props := map[string]any{"netdev": id, "mac": n.MAC, "addr": addr(slotNIC+i, 0)}
		if k, ok := b.bootIndex[n.UUID]; ok {
			props["bootindex"] = k
		} else {
			props["romfile"] = ""
		}
		b.device("virtio-net-pci", "vif"+strconv.Itoa(i), props)
	}
}

// bootIndexes turns xl's boot order into QEMU's index per device: all disks for
// c, all CD drives for d, all cards for n. By default the disks come first, so
// that an installed guest starts although its CD is still in.
func bootIndexes(s hv.Spec) map[string]int {
	order := s.Boot.Order
	if order == "" {
		order = "cd"
	}
	first := 0
	if s.Boot.Kernel != "" {
		first = 1 // QEMU's boot ROM for the kernel has 0
	}
	index := map[string]int{}
	add := func(uuid string) {
		if _, have := index[uuid]; !have {
			index[uuid] = first + len(index)
		}
	}
	for _, letter := range order {
		for _, d := range s.Disks {
			if d.IsCD() == (letter == 'd') && letter != 'n' {
				add(d.UUID)
			}
		}
		if letter == 'n' {
			for _, n := range s.NICs {
				add(n.UUID)
			}
		}
	}
	return index
}

// pick returns the first of want that is in have.
func pick(have []string, want ...string) string {
	for _, w := range want {
		if slices.Contains(have, w) {
			return w
		}
	}
	return ""
}
