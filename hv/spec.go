package hv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// SpecVersion is the version of spec.json that this program writes. A file with
// a higher one is refused, never rewritten. Version 1 is the first: there is none
// to come from yet. A field that an older program may ignore needs no new version:
// it keeps what it does not know. Where an old meaning changes, the number rises, and
// where the file is read (app/service/scan.go) each older version is turned into the
// next one, in memory; the next change of the guest's writes it.
const SpecVersion = 1

// GuestType picks the engine, in Xen's words.
type GuestType string

const (
	HVM GuestType = "hvm" // QEMU as the device model
	PVH GuestType = "pvh" // the native engine
)

// Firmware of an hvm guest.
type Firmware string

const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// MiB and GiB in bytes; Memory and sizes are bytes everywhere.
const (
	MiB uint64 = 1 << 20
	GiB uint64 = 1 << 30
)

// Spec is all that is needed to run a guest: what spec.json holds. It never
// holds state. Fields that this version does not know are kept in Unknown and
// written back.
type Spec struct {
	Version     int       `json:"version"`
	UUID        string    `json:"uuid"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Type        GuestType `json:"type"`
	VCPUs       int       `json:"vcpus"`
	Memory      uint64    `json:"memory"` // bytes, a multiple of 1 MiB
	Firmware    Firmware  `json:"firmware,omitempty"`
	Machine     string    `json:"machine,omitempty"` // QEMU's versioned machine type, pinned at the first start
	Boot        Boot      `json:"boot"`
	Disks       []Disk    `json:"disks,omitempty"`
	NICs        []NIC     `json:"nics,omitempty"`
	Display     Display   `json:"display"`
	Autostart   bool      `json:"autostart,omitempty"`
	Template    bool      `json:"template,omitempty"`     // it never runs, and others are made like it
	Base        string    `json:"base,omitempty"`         // uuid of the template whose disks this guest's build on; empty: none
	Order       int       `json:"order,omitempty"`        // place in the start order; guests of one place start by name
	StartDelay  *int      `json:"start_delay,omitempty"`  // seconds between its start and the next guest's; nil: DefaultStartDelay
	WaitFor     string    `json:"wait_for,omitempty"`     // what must be there before it starts by itself: WaitNetwork, or an absolute path
	OnHostStop  string    `json:"on_host_stop,omitempty"` // shutdown (default), save, poweroff
	OnPoweroff  string    `json:"on_poweroff,omitempty"`  // XenAPI on_normal_exit: destroy (default), restart
	OnReboot    string    `json:"on_reboot,omitempty"`
	OnCrash     string    `json:"on_crash,omitempty"`
	OnWatchdog  string    `json:"on_watchdog,omitempty"` // restart (default, in place, as real computers do), and the words of OnCrash
	// Other is XenAPI's other_config: free keys of clients.
	Other map[string]string `json:"other,omitempty"`

	Unknown map[string]json.RawMessage `json:"-"`
}

// Values of OnHostStop, and of WaitFor beside paths.
const (
	StopShutdown = "shutdown"
	StopSave     = "save"
	StopPoweroff = "poweroff"

	WaitNetwork = "network"
)

// DefaultStartDelay is Spec.StartDelay, as xendomains has it, and MaxStartDelay
// its bound, in seconds. MaxOrder bounds Spec.Order.
const (
	DefaultStartDelay = 5
	MaxStartDelay     = 3600
	MaxOrder          = 1000000
)

// StartPause is how many seconds pass between the guest's start and the next's
// when the host starts.
func (s *Spec) StartPause() int {
	if s.StartDelay == nil {
		return DefaultStartDelay
	}
	return *s.StartDelay
}

// Boot says where the guest's first code comes from. With Kernel set it is
// booted directly; else the firmware tries Order, xl's letters: c disk, d CD,
// n network.
type Boot struct {
	Kernel  string `json:"kernel,omitempty"` // absolute path on the host
	Initrd  string `json:"initrd,omitempty"`
	Cmdline string `json:"cmdline,omitempty"`
	Order   string `json:"order,omitempty"`
	// Entry is the entry of the boot loader's menu on the guest's disk that a pvh
	// guest without a Kernel takes: its id or title; empty: the boot loader's choice.
	Entry string `json:"entry,omitempty"`
}

// Image formats and disk modes, buses and kinds. The format of an image is
// decided once, when it is added, and never probed again.
const (
	Raw   = "raw"
	QCOW2 = "qcow2"

	ReadWrite = "rw"
	ReadOnly  = "ro"

	BusVirtio = "virtio"
	BusSATA   = "sata"

	KindDisk  = "disk"
	KindCDROM = "cdrom"
)

// Disk is one block device of a guest: XenAPI's VBD with its VDI.
type Disk struct {
	UUID   string `json:"uuid"`           // of the device (VBD)
	VDI    string `json:"vdi,omitempty"`  // of the image; empty for an empty drive
	Path   string `json:"path,omitempty"` // absolute, or relative to the guest's folder; empty for an empty drive
	Format string `json:"format,omitempty"`
	Mode   string `json:"mode"`           // ReadOnly or ReadWrite
	Bus    string `json:"bus,omitempty"`  // default: virtio for disks, sata for CDs
	Kind   string `json:"kind,omitempty"` // default: disk
}

// IsCD reports whether the device is a CD drive.
func (d Disk) IsCD() bool { return d.Kind == KindCDROM }

// NIC is one network card on one of HXEN's networks.
type NIC struct {
	UUID     string    `json:"uuid"`
	MAC      string    `json:"mac"`
	Network  string    `json:"network"` // uuid of the network
	Forwards []Forward `json:"forwards,omitempty"`
}

// Forward makes a port of the guest reachable on the host.
type Forward struct {
	Proto string `json:"proto,omitempty"` // tcp (default) or udp
	Host  string `json:"host,omitempty"`  // host address to bind; default 127.0.0.1
	From  uint16 `json:"from"`            // host port
	To    uint16 `json:"to"`              // guest port
}

// Display of a guest. A pvh guest's is Xen's vfb, or none.
type Display struct {
	Adapter string `json:"adapter,omitempty"` // virtio (default), std, none; of a pvh guest empty or none
	Audio   bool   `json:"audio,omitempty"`
}

// Limits of a Spec. MaxVCPUs is q35's limit without an emulated IOMMU.
const (
	MaxVCPUs   = 255
	MinMemory  = 16 * MiB
	MaxMemory  = 4096 * GiB
	MaxDisks   = 24
	MaxNICs    = 8
	MaxNameLen = 128
)

// IsUUID reports whether s is a uuid in lower case with dashes.
func IsUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", rune(c)) {
			return false
		}
	}
	return true
}

// CheckName says why s cannot be a guest's name; nil means that it can.
func CheckName(s string) error {
	switch {
	case strings.TrimSpace(s) == "":
		return fmt.Errorf("the name is empty")
	case s != strings.TrimSpace(s):
		return fmt.Errorf("the name %q begins or ends with a space", s)
	case !utf8.ValidString(s):
		return fmt.Errorf("the name is not valid UTF-8")
	case utf8.RuneCountInString(s) > MaxNameLen:
		return fmt.Errorf("the name is longer than %d characters", MaxNameLen)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("the name %q holds a control character", s)
		}
	}
	return nil
}

// Check validates a Spec by itself, without looking at the host. The error
// names the first field that is wrong and what it may be.
func (s *Spec) Check() error {
	if s.Version != SpecVersion {
		return fmt.Errorf("version %d: this program knows version %d", s.Version, SpecVersion)
	}
	if !IsUUID(s.UUID) {
		return fmt.Errorf("uuid %q is not a uuid", s.UUID)
	}
	if err := CheckName(s.Name); err != nil {
		return err
	}
	if s.Type != HVM && s.Type != PVH {
		return fmt.Errorf("type %q: must be hvm or pvh", s.Type)
	}
	if s.VCPUs < 1 || s.VCPUs > MaxVCPUs {
		return fmt.Errorf("vcpus %d: must be 1 to %d", s.VCPUs, MaxVCPUs)
	}
	if s.Memory < MinMemory || s.Memory > MaxMemory || s.Memory%MiB != 0 {
		return fmt.Errorf("memory %d: must be %d MiB to %d GiB in whole MiB", s.Memory, MinMemory/MiB, MaxMemory/GiB)
	}
	if s.Firmware != "" && s.Firmware != BIOS && s.Firmware != UEFI {
		return fmt.Errorf("firmware %q: must be bios or uefi", s.Firmware)
	}
	for _, r := range s.Boot.Order {
		if !strings.ContainsRune("cdn", r) {
			return fmt.Errorf("boot order %q: letters are c (disk), d (CD) and n (network)", s.Boot.Order)
		}
	}
	if s.Boot.Kernel == "" && (s.Boot.Initrd != "" || s.Boot.Cmdline != "") {
		return fmt.Errorf("an initrd or a command line needs a kernel")
	}
	if s.Base != "" && (!IsUUID(s.Base) || s.Base == s.UUID) {
		return fmt.Errorf("base %q is not the uuid of another guest", s.Base)
	}
	if err := s.checkDisks(); err != nil {
		return err
	}
	if err := s.checkNICs(); err != nil {
		return err
	}
	switch s.Display.Adapter {
	case "", "virtio", "std", "none":
	default:
		return fmt.Errorf("display adapter %q: must be virtio, std or none", s.Display.Adapter)
	}
	if err := s.checkStart(); err != nil {
		return err
	}
	return s.checkEnds()
}

func (s *Spec) checkStart() error {
	if s.Order < 0 || s.Order > MaxOrder {
		return fmt.Errorf("order %d: must be 0 to %d", s.Order, MaxOrder)
	}
	if d := s.StartPause(); d < 0 || d > MaxStartDelay {
		return fmt.Errorf("start_delay %d: must be 0 to %d seconds", d, MaxStartDelay)
	}
	if s.WaitFor != "" && s.WaitFor != WaitNetwork && !absolute(s.WaitFor) {
		return fmt.Errorf("wait_for %q: must be %s or an absolute path", s.WaitFor, WaitNetwork)
	}
	switch s.OnHostStop {
	case "", StopShutdown, StopSave, StopPoweroff:
	default:
		return fmt.Errorf("on_host_stop %q: must be %s, %s or %s", s.OnHostStop, StopShutdown, StopSave, StopPoweroff)
	}
	return nil
}

// absolute tells an absolute path of any system: a Spec may come from another.
func absolute(path string) bool {
	return strings.HasPrefix(path, "/") || strings.HasPrefix(path, `\\`) || len(path) > 2 && path[1] == ':' && (path[2] == '\\' || path[2] == '/')
}

func (s *Spec) checkDisks() error {
	if len(s.Disks) > MaxDisks {
		return fmt.Errorf("%d disks: at most %d", len(s.Disks), MaxDisks)
	}
	seen := map[string]bool{}
	for i, d := range s.Disks {
		where := fmt.Sprintf("disk %d", i)
		if !IsUUID(d.UUID) || seen[d.UUID] {
			return fmt.Errorf("%s: uuid %q is not a uuid of its own", where, d.UUID)
		}
		seen[d.UUID] = true
		if d.Path == "" && !d.IsCD() {
			return fmt.Errorf("%s: no path", where)
		}
		if d.Path != "" && d.Format != Raw && d.Format != QCOW2 {
			return fmt.Errorf("%s: format %q: must be raw or qcow2", where, d.Format)
		}
		if d.Mode != ReadOnly && d.Mode != ReadWrite {
			return fmt.Errorf("%s: mode %q: must be ro or rw", where, d.Mode)
		}
		if d.IsCD() && d.Mode != ReadOnly {
			return fmt.Errorf("%s: a CD is read-only", where)
		}
		switch d.Bus {
		case "", BusVirtio, BusSATA:
		default:
			return fmt.Errorf("%s: bus %q: must be virtio or sata", where, d.Bus)
		}
		switch d.Kind {
		case "", KindDisk, KindCDROM:
		default:
			return fmt.Errorf("%s: kind %q: must be disk or cdrom", where, d.Kind)
		}
	}
	return nil
}

func (s *Spec) checkNICs() error {
	if len(s.NICs) > MaxNICs {
		return fmt.Errorf("%d network cards: at most %d", len(s.NICs), MaxNICs)
	}
	seen := map[string]bool{}
	for i, n := range s.NICs {
		where := fmt.Sprintf("network card %d", i)
		if !IsUUID(n.UUID) || seen[n.UUID] {
			return fmt.Errorf("%s: uuid %q is not a uuid of its own", where, n.UUID)
		}
		seen[n.UUID] = true
		if !IsUUID(n.Network) {
			return fmt.Errorf("%s: network %q is not a uuid", where, n.Network)
		}
		mac, err := net.ParseMAC(n.MAC)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 || seen[n.MAC] {
			return fmt.Errorf("%s: MAC %q is not a unicast address of its own", where, n.MAC)
		}
		seen[n.MAC] = true
		for _, f := range n.Forwards {
			if err := f.Check(); err != nil {
				return fmt.Errorf("%s: %w", where, err)
			}
		}
	}
	return nil
}

// Check says why a forward cannot be; nil means that it can.
func (f Forward) Check() error {
	if f.From == 0 || f.To == 0 {
		return fmt.Errorf("forward %d:%d: ports are 1 to 65535", f.From, f.To)
	}
	if f.Proto != "" && f.Proto != "tcp" && f.Proto != "udp" {
		return fmt.Errorf("forward %d:%d: protocol %q: must be tcp or udp", f.From, f.To, f.Proto)
	}
	if f.Host != "" && net.ParseIP(f.Host) == nil {
		return fmt.Errorf("forward %d:%d: %q is not an address", f.From, f.To, f.Host)
	}
	return nil
}

// specFields are the JSON names that Spec itself holds.
var specFields = sync.OnceValue(func() map[string]bool {
	m := map[string]bool{}
	t := reflect.TypeFor[Spec]()
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			m[name] = true
		}
	}
	return m
})

// plainSpec is Spec without its JSON methods.
type plainSpec Spec

// UnmarshalJSON keeps the fields that this version does not know.
func (s *Spec) UnmarshalJSON(b []byte) error {
	var p plainSpec
	known := json.NewDecoder(bytes.NewReader(b))
	known.DisallowUnknownFields()
	if known.Decode(&p) == nil { // nearly always
		*s = Spec(p)
		return nil
	}
	p = plainSpec{}
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for k := range all {
		if specFields()[strings.ToLower(k)] {
			delete(all, k)
		}
	}
	*s = Spec(p)
	if len(all) > 0 {
		s.Unknown = all
	}
	return nil
}

// MarshalJSON writes the unknown fields back after the known ones.
func (s Spec) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(plainSpec(s))
	if err != nil || len(s.Unknown) == 0 {
		return b, err
	}
	extra, err := json.Marshal(s.Unknown)
	if err != nil {
		return nil, err
	}
	return append(append(b[:len(b)-1], ','), extra[1:]...), nil
}

// Clone returns a deep copy.
func (s *Spec) Clone() *Spec {
	c := *s
	c.Disks, c.NICs = slices.Clone(s.Disks), slices.Clone(s.NICs)
	for i := range c.NICs {
		c.NICs[i].Forwards = slices.Clone(c.NICs[i].Forwards)
	}
	if s.StartDelay != nil {
		delay := *s.StartDelay
		c.StartDelay = &delay
	}
	c.Other, c.Unknown = maps.Clone(s.Other), maps.Clone(s.Unknown)
	for k, v := range c.Unknown {
		c.Unknown[k] = slices.Clone(v)
	}
	return &c
}
