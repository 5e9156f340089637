package api

// What HXEN adds to XenAPI goes through host.call_plugin(session, host, Plugin,
// function, {"args": JSON}) -> JSON, synchronous or as Async.host.call_plugin.
const (
	Plugin     = "hxen"
	PluginArgs = "args" // the one key of the argument map; its value is JSON
)

// Functions of the plugin: parameter -> result.
const (
	FnCreate  = "vm_create"     // NewGuest -> Created; all or nothing; progress while disks are copied
	FnList    = "vm_list"       // nothing -> []ListRow: xl list's columns, cheap with a thousand guests
	FnConfig  = "vm_config"     // GuestConfig -> nothing: change the settings of a halted guest, as a whole
	FnGet     = "vm_get"        // VMArg -> GuestConfig: the settings as they are
	FnRetype  = "vm_retype"     // Retype -> Retyped: make a halted guest one of the other type
	FnDelete  = "vm_delete"     // Delete -> Deleted
	FnPaths   = "vm_paths"      // VMArg -> Deleted: what a delete would move to the trash, and what it would leave
	FnKeys    = "vm_keys"       // Keys -> nothing
	FnProbe   = "probe"         // Probe -> ProbeResult: what is this image? host limits for a form
	FnDefault = "host_info"     // nothing -> HostInfo: what a form offers
	FnVersion = "version"       // nothing -> Version
	FnTrash   = "trash_list"    // nothing -> []Trashed
	FnUntrash = "trash_restore" // TrashArg -> Created
	FnEmpty   = "trash_empty"   // TrashArg -> int64: bytes freed; an empty id means everything
	FnRepair  = "vm_repair"     // RepairArg -> Created: a guest whose folder cannot be used
	FnRelink  = "vm_relink"     // Relink -> nothing: an image has moved
	FnBoot    = "vm_boot_menu"  // VMArg -> BootMenu: what the disks of a halted guest can boot
	FnEnd     = "service_end"   // nothing -> nothing: the service ends, and guests go on
)

// NewGuest asks for a guest. At most one of ISO (with or without a new disk),
// Disk and Kernel is the boot source; all may be empty with only a new disk.
type NewGuest struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Type        string            `json:"type,omitempty"`      // hvm (default) or pvh
	Memory      int64             `json:"memory,omitempty"`    // bytes; 0: a default that suits the source and the host
	VCPUs       int64             `json:"vcpus,omitempty"`     // 0: a default
	Firmware    string            `json:"firmware,omitempty"`  // bios, uefi; empty: bios
	ISO         string            `json:"iso,omitempty"`       // path of a CD image
	Disk        string            `json:"disk,omitempty"`      // path of an existing disk image, raw or qcow2
	CopyDisk    bool              `json:"copy_disk,omitempty"` // copy it into the store; else it is used in place
	ReadOnly    bool              `json:"read_only,omitempty"` // the existing disk is attached read-only
	DiskSize    int64             `json:"disk_size,omitempty"` // bytes of a new blank qcow2 disk; 0: none
	Kernel      string            `json:"kernel,omitempty"`
	Initrd      string            `json:"initrd,omitempty"`
	Cmdline     string            `json:"cmdline,omitempty"`
	NoNetwork   bool              `json:"no_network,omitempty"`
	Forwards    []Forward         `json:"forwards,omitempty"`
	Display     string            `json:"display,omitempty"` // virtio (default), std, none
	Audio       bool              `json:"audio,omitempty"`
	Autostart   bool              `json:"autostart,omitempty"`
	BootEntry   string            `json:"boot_entry,omitempty"` // pvh: what to boot of the disk's menu; empty: what its boot loader would
	OtherConfig map[string]string `json:"other_config,omitempty"`
}

// Forward makes a guest's port reachable on the host.
type Forward struct {
	Proto string `json:"proto,omitempty"` // tcp (default), udp
	Host  string `json:"host,omitempty"`  // default 127.0.0.1
	From  uint16 `json:"from"`            // port of the host
	To    uint16 `json:"to"`              // port of the guest
}

// Created is the answer to FnCreate.
type Created struct {
	VM   Ref    `json:"vm"`
	UUID string `json:"uuid"`
}

// VMArg names one guest.
type VMArg struct {
	VM Ref `json:"vm"`
}

// GuestConfig is what the settings page shows and changes. FnConfig replaces
// all of it; disks and CD drives are left as they are.
type GuestConfig struct {
	VM          Ref       `json:"vm"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Memory      int64     `json:"memory"`
	VCPUs       int64     `json:"vcpus"`
	Firmware    string    `json:"firmware"`
	BootOrder   string    `json:"boot_order"` // xl's letters c d n
	Kernel      string    `json:"kernel"`
	Initrd      string    `json:"initrd"`
	Cmdline     string    `json:"cmdline"`
	BootEntry   string    `json:"boot_entry,omitempty"` // pvh: what to boot of the disk's menu; empty: what its boot loader would
	Forwards    []Forward `json:"forwards"`
	Network     bool      `json:"network"`
	Display     string    `json:"display"`
	Audio       bool      `json:"audio"`
	Autostart   bool      `json:"autostart"`
}

// Retype asks for a guest to be of another type: hvm or pvh. Kernel, initial RAM
// disk, disks, cards and the rest stay as they are; the command line names the
// console and the root disk as the other type has them.
type Retype struct {
	VM   Ref    `json:"vm"`
	Type string `json:"type"`
}

// Retyped is the answer to FnRetype: a sentence each on what was changed and
// what the guest's own files may name.
type Retyped struct {
	Notes []string `json:"notes"`
}

// ListRow is one line of xl list. State holds xl's letters "rbpscd".
type ListRow struct {
	Name   string  `json:"name"`
	UUID   string  `json:"uuid"`
	DomID  int     `json:"domid"`  // -1 when halted
	Memory int64   `json:"memory"` // MiB
	VCPUs  int     `json:"vcpus"`
	State  string  `json:"state"`
	Time   float64 `json:"time"` // CPU seconds used
	Power  string  `json:"power_state"`
}

// Delete asks to delete a halted guest: its folder goes to the trash whole, or,
// with KeepDisks, its disks stay behind as images without a guest.
type Delete struct {
	VM        Ref  `json:"vm"`
	KeepDisks bool `json:"keep_disks"`
}

// Deleted lists, by path, what was (or would be) moved to the trash, and what
// was left where it is.
type Deleted struct {
	Trash []string `json:"trash"` // where things were moved from
	Into  string   `json:"into"`  // the folder in the trash
	Kept  []string `json:"kept"`
}

// Trashed is a deleted guest.
type Trashed struct {
	ID      string `json:"id"` // its folder's name in the trash
	Path    string `json:"path"`
	Name    string `json:"name"`
	UUID    string `json:"uuid"`
	Deleted Time   `json:"deleted"`
	Size    int64  `json:"size"`              // bytes of its files
	Problem string `json:"problem,omitempty"` // what it would lack, or why it cannot be restored
}

// TrashArg names one thing in the trash.
type TrashArg struct {
	ID string `json:"id"`
}

// Relink says where a guest's image has moved to.
type Relink struct {
	VM   Ref    `json:"vm"`
	Disk string `json:"disk"` // uuid of the VBD, path, file name or device
	Path string `json:"path"` // absolute
}

// RepairArg names a guest that hxen:broken is told of.
type RepairArg struct {
	VM Ref `json:"vm"`
}

// BootMenu is what a guest's disks can boot, when it has no kernel on the host.
type BootMenu struct {
	Entries []BootEntry `json:"entries"`
	From    string      `json:"from"`   // the file on the guest's disk that says so
	Chosen  string      `json:"chosen"` // the entry in the guest's settings (VM.PV_bootloader_args); empty: its boot loader chooses
	// Boots is the entry that the next start takes; -1: none, as Problem says.
	Boots   int    `json:"boots"`
	Problem string `json:"problem,omitempty"`
}

// BootEntry is one thing to boot. Either of ID and Title names it.
type BootEntry struct {
	ID      string `json:"id"` // as the guest's boot loader has it; > stands between submenus
	Title   string `json:"title"`
	Kernel  string `json:"kernel"` // its path on the guest's disk
	Cmdline string `json:"cmdline"`
}

// Keys presses Linux KEY_* codes together and lets go.
type Keys struct {
	VM    Ref      `json:"vm"`
	Codes []uint16 `json:"codes"`
}

// Probe asks what a file is.
type Probe struct {
	Path string `json:"path"`
}

// ProbeResult describes an image file.
type ProbeResult struct {
	Kind    string `json:"kind"`              // "iso", "disk", "kernel", "unknown"
	Format  string `json:"format"`            // raw, qcow2, iso9660, ...
	Size    int64  `json:"size"`              // virtual size in bytes
	Label   string `json:"label"`             // ISO volume id
	OS      string `json:"os"`                // a guess from the label; may be empty
	UEFI    bool   `json:"uefi"`              // the ISO has a UEFI boot entry
	BIOS    bool   `json:"bios"`              // the ISO has a BIOS boot entry
	Problem string `json:"problem,omitempty"` // why it cannot be used, in words
}

// HostInfo is what forms offer and badges show.
type HostInfo struct {
	Memory     int64  `json:"memory"`      // bytes of the host
	MemoryFree int64  `json:"memory_free"` // available now
	CPUs       int    `json:"cpus"`
	DiskFree   int64  `json:"disk_free"` // where the store is
	Store      string `json:"store"`
	Accel      string `json:"accel"`     // what hvm guests will run on
	AccelWhy   string `json:"accel_why"` // why not something faster; empty if there is none
	AccelCure  string `json:"accel_cure"`
	QEMU       string `json:"qemu"`    // version; empty when missing
	Missing    string `json:"missing"` // one sentence with the install command; empty when nothing is
	UEFI       bool   `json:"uefi"`    // firmware for UEFI guests is there
	Native     string `json:"native"`  // what pvh guests will run on; empty if they cannot
	NativeWhy  string `json:"native_why"`
	NativeCure string `json:"native_cure"`
}

// Version of the running service.
type Version struct {
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	PID      int    `json:"pid"`
	Store    string `json:"store"`
}

// Keys in VM.other_config, VM.platform and VM_metrics.other_config that carry
// what XenAPI has no field for. All are read-only to clients.
const (
	KeyEngine      = "hxen:engine"       // VM_metrics, and VM while it runs: qemu, native
	KeyAccel       = "hxen:accel"        // likewise: kvm, tcg, ...
	KeyAccelReason = "hxen:accel_reason" // likewise: why not a faster one
	KeyIsolation   = "hxen:isolation"    // likewise: the walls around what runs the guest
	KeyDisplay     = "hxen:display"      // VM.other_config of a running pvh guest: what its own drivers have of the screen: none, view (no keyboard), full
	KeyLastExit    = "hxen:last_exit"    // VM.other_config: reason of the last end
	KeyLastText    = "hxen:last_text"    // VM.other_config: one sentence on it
	KeyBroken      = "hxen:broken"       // VM.other_config: why the guest's folder cannot be used
	KeyNotice      = "hxen:notice"       // VM.other_config: the last notice of a running guest (I/O error, ...)
	KeySilent      = "hxen:silent"       // VM.other_config: why a running guest is taken to hang: what runs it does not answer
	KeyLog         = "hxen:log"          // VM.other_config: path of the guest's log on the host
	KeyFirmware    = "firmware"          // VM.HVM_boot_params, as xapi: bios, uefi
	KeyOrder       = "order"             // VM.HVM_boot_params, as xapi
	KeyRepair      = "hxen:repair"       // VM.other_config: what FnRepair would do about that; not there: nothing
	KeyWaiting     = "hxen:waiting"      // VM.other_config: why a guest that is to start by itself has not yet
	KeyWaitFor     = "hxen:wait_for"     // VM.other_config, to be set: what it waits for: network, or a path
	KeyOnHostStop  = "hxen:on_host_stop" // VM.other_config, to be set: shutdown, save, poweroff
	KeyOnWatchdog  = "hxen:on_watchdog"  // VM.other_config, to be set: as actions_after_crash, in xl's words; "" for a reset in place
	KeySavedAt     = "hxen:saved_at"     // VM.other_config of a suspended guest: when it was saved (RFC 3339)
	KeySavedSize   = "hxen:saved_size"   // likewise: bytes of its saved state
	KeyStage       = "hxen:stage"        // task.other_config: what the task is doing, in words
)

// Data sources (VM.get_data_sources), in XAPI's RRD names: "cpu_usage" (0..1 of
// all vCPUs), "memory" (bytes the guest has), "memory_rss" (bytes of host
// memory), "cpu_seconds" (total), "vbd_DEVICE_read", "vbd_DEVICE_write",
// "vif_DEVICE_rx", "vif_DEVICE_tx" (bytes/s).
type DataSource struct {
	Name        string  `json:"name_label"`
	Description string  `json:"name_description"`
	Enabled     bool    `json:"enabled"`
	Standard    bool    `json:"standard"`
	Units       string  `json:"units"`
	Min         float64 `json:"min"`
	Max         float64 `json:"max"`
	Value       float64 `json:"value"`
}
