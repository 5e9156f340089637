package hv

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"time"
)

// Engine runs guests of one type.
type Engine interface {
	Name() string
	// Check says in words for the user why s cannot run here; nil means it can.
	// It starts nothing.
	Check(s Spec) error
	// Launch builds the machine and starts the guest. ctx ends the launch, not
	// the machine. The error is a *StageError.
	Launch(ctx context.Context, s Spec, h Host) (Machine, error)
}

// StopHow is how to stop a guest.
type StopHow int

const (
	Ask       StopHow = iota // press the power button; the guest decides
	AskReboot                // ask for a reboot (Ctrl-Alt-Del or agent)
	PowerOff                 // pull the plug
)

// Machine is one running guest. Methods are safe for concurrent use.
type Machine interface {
	Pause(context.Context) error
	Resume(context.Context) error
	Stop(context.Context, StopHow) error
	Reset(context.Context) error
	Stats(context.Context) (Stats, error)
	// Events: state events are never dropped, progress is coalesced. The channel
	// is closed after the last event.
	Events() <-chan Event
	// Wait returns after Events is closed; the error is a fault of the host only.
	Wait() (ExitReason, error)
	Close() error
	// Facts that are fixed for the life of the machine.
	Info() MachineInfo
}

// MachineInfo says what a machine runs on, for badges and records.
type MachineInfo struct {
	Engine      string `json:"engine"`       // "qemu", "native"
	Accelerator string `json:"accelerator"`  // "kvm", "tcg", "whpx", "hvf"
	AccelReason string `json:"accel_reason"` // why not a faster one; empty if there is none
	Machine     string `json:"machine"`      // the machine type to pin; hvm only
	Version     string `json:"version"`      // of the device model
	PID         int    `json:"pid"`          // of the device model; 0 if the worker is it
	// Isolation names the walls around what runs the guest, "landlock 4, seccomp";
	// empty: it may do whatever its user may.
	Isolation string `json:"isolation,omitempty"`
}

// Optional abilities of a Machine, found by type assertion.
type (
	// Displayer opens one RFB stream to the guest's screen.
	Displayer interface {
		OpenDisplay(context.Context) (io.ReadWriteCloser, error)
	}
	// Consoler is the one serial line of the guest. The worker is its only user.
	Consoler interface {
		Console() io.ReadWriter // valid for the machine's life; Read ends with io.EOF
	}
	// MediaChanger changes what is in a CD drive, named by the disk's uuid.
	// Insert with an empty Path is an eject.
	MediaChanger interface {
		ChangeMedia(ctx context.Context, drive string, media Disk) error
	}
	// Keyer presses the keys (Linux KEY_* codes) in order, then lets them go.
	Keyer interface {
		SendKeys(ctx context.Context, keys []uint16) error
	}
	// Screenshotter writes the guest's screen as PNG.
	Screenshotter interface {
		Screenshot(ctx context.Context, w io.Writer) error
	}
	// Saver writes the whole guest into a file and ends it.
	Saver interface {
		// Save writes the guest's state to path (beside it first, on the disk, then
		// renamed) and then ends the machine with ExitSaved. On an error, or when ctx
		// ends, the guest goes on as it was and path is untouched.
		Save(ctx context.Context, path string, progress func(done, total int64)) error
	}
	// Resyncer sets the guest's clock right after the host, or the guest, has slept.
	Resyncer interface {
		Resync(context.Context) error
	}
	// Resizer changes what a running guest uses, with the guest's help: both return
	// when it has been asked.
	Resizer interface {
		// SetMemory has the guest give memory back, or take back what it gave; in
		// bytes, at most the Spec's.
		SetMemory(ctx context.Context, bytes uint64) error
		// SetVCPUs has the guest use the first n of the Spec's processors.
		SetVCPUs(ctx context.Context, n int) error
	}
	// Plugger plugs disks and network cards into a running guest, and has it let go
	// of them: who detaches waits for that until ctx ends, and the device stays then.
	Plugger interface {
		AttachDisk(ctx context.Context, d Disk) error
		DetachDisk(ctx context.Context, uuid string) error
		// AttachNIC connects the card to a socket as Host.NICs has them.
		AttachNIC(ctx context.Context, n NIC, socket string) error
		DetachNIC(ctx context.Context, uuid string) error
	}
	// Agent asks the guest's own agent about the guest.
	Agent interface {
		GuestInfo(context.Context) (GuestInfo, error)
	}
)

// GuestInfo is what a guest says of itself. Its strings are hostile.
type GuestInfo struct {
	OS        map[string]string `json:"os,omitempty"`       // name, version, kernel as the agent tells them
	Hostname  string            `json:"hostname,omitempty"` // of the guest
	Addresses []string          `json:"addresses,omitempty"`
}

// Stats are counters since the machine started.
type Stats struct {
	CPU    time.Duration        `json:"cpu"`    // CPU time used for the guest
	Memory uint64               `json:"memory"` // bytes the guest now has (after ballooning)
	RSS    uint64               `json:"rss"`    // bytes of host memory in use for it
	Disks  map[string]DiskStats `json:"disks,omitempty"`
	NICs   map[string]NICStats  `json:"nics,omitempty"`
}

// DiskStats by disk uuid, in bytes and operations.
type DiskStats struct {
	ReadBytes  uint64 `json:"read_bytes"`
	WriteBytes uint64 `json:"write_bytes"`
	Reads      uint64 `json:"reads"`
	Writes     uint64 `json:"writes"`
}

// NICStats by NIC uuid, in bytes and frames, as the guest sees the direction.
type NICStats struct {
	RxBytes  uint64 `json:"rx_bytes"`
	TxBytes  uint64 `json:"tx_bytes"`
	RxFrames uint64 `json:"rx_frames"`
	TxFrames uint64 `json:"tx_frames"`
}

// EventKind names what happened.
type EventKind string

const (
	EventState   EventKind = "state"   // Event.State changed
	EventReboot  EventKind = "reboot"  // the guest restarted itself
	EventMedia   EventKind = "media"   // a CD drive's tray or medium changed
	EventIOError EventKind = "ioerror" // a disk failed; Event.Text says how
	EventNotice  EventKind = "notice"  // something the user should know
	EventDisplay EventKind = "display" // Event.Display changed
)

// DisplayState says what of its screen a guest has taken up, where the guest needs
// drivers of its own for it.
type DisplayState string

const (
	DisplayNone DisplayState = "none" // nothing, or not yet
	DisplayView DisplayState = "view" // the screen, but no keyboard
	DisplayFull DisplayState = "full" // screen and keyboard
)

// Event is something that happened to a machine.
type Event struct {
	Kind    EventKind    `json:"kind"`
	State   PowerState   `json:"state,omitempty"`
	Object  string       `json:"object,omitempty"` // uuid of the disk or NIC it is about
	Display DisplayState `json:"display,omitempty"`
	Text    string       `json:"text,omitempty"` // one sentence for the user
}

// ExitReason is why a machine ended, in Xen's shutdown words.
type ExitReason string

const (
	ExitPoweroff  ExitReason = "poweroff"  // the guest powered itself off
	ExitReboot    ExitReason = "reboot"    // the guest asked to restart and restarts by policy
	ExitCrash     ExitReason = "crash"     // the guest crashed
	ExitWatchdog  ExitReason = "watchdog"  // its watchdog saw it hang
	ExitDestroyed ExitReason = "destroyed" // we were told to pull the plug
	ExitSaved     ExitReason = "suspend"   // its state was written into a file, from which it goes on
	ExitFailed    ExitReason = "failed"    // the engine failed; the error says how
)

// Host is what the outside gives an engine.
type Host struct {
	Dir    string // the guest's folder
	Base   string // the folder of the template that the guest's disks build on; "" if none
	Cache  string // a folder, there or not, for what can be made again; guests share it
	Work   string // the worker's folder in the guest's, which it writes into also after Confine
	RunDir string // the runtime folder; sockets go there
	Short  string // first 8 hex digits of the guest's uuid: the stem of socket names
	// Hold has Launch leave the guest Paused at its first instruction; Resume starts it.
	Hold bool
	// Restore is a file that Save wrote: Launch goes on from there instead of
	// booting; "" boots.
	Restore string
	// Force has Restore go on although the date of a disk was changed meanwhile.
	Force bool
	// Inherit is handed to every child that may touch the guest's disks: the held lock.
	Inherit []*os.File
	// Start runs a program that dies with the worker.
	Start func(Command) (Process, error)
	// OpenDisk opens a raw image or a disk of the host, to be written unless readonly,
	// and locks it against other programs as QEMU does.
	OpenDisk func(path string, readonly bool) (DiskFile, error)
	// NICs are the sockets of the guest's network cards, in the Spec's order, on
	// which the worker listens before Launch: Ethernet frames, each after its
	// length as a 32-bit big-endian number (QEMU's -netdev stream form).
	NICs []string
	// Dial connects to one of NICs from within this process, at any time.
	Dial     func(ctx context.Context, socket string) (net.Conn, error)
	Log      *slog.Logger
	Progress func(stage string, done, total int64)
	// QEMU is the device model that the host's probe found; empty Path if none,
	// with the reason and the cure in Missing.
	QEMU QEMUInfo
	// Accel is the probe's verdict on each accelerator, best first; TCG is always last.
	Accel []AccelInfo
	// Confine, if not nil, takes from this process for good what only a launch
	// needs: programs to start, sockets to make, files outside of the guest's. An
	// engine that runs guest code in this process calls it once, when all is open
	// and before the guest's first instruction. It returns MachineInfo.Isolation.
	Confine func() (string, error)
	// PeerPID tells which process is at the other end of a TCP connection within this
	// computer; nil: nobody can tell, and engines make none.
	PeerPID func(net.Conn) (int, error)
	// Slept tells how long the host has slept since it started; nil: nobody knows.
	Slept func() time.Duration
	// Usage tells the CPU time and resident bytes of a process.
	Usage func(pid int) (cpu time.Duration, rss uint64, err error)
}

// DiskFile is an image or a disk of the host, seen as its bytes. The methods may
// be called from any goroutine; an error that wraps syscall.ENOSPC or
// syscall.EDQUOT says that the host has no room, errors.ErrUnsupported that the
// host cannot do this at all.
type DiskFile interface {
	Size() int64 // bytes, as of when it was opened
	// ReadV and WriteV move all bytes of the buffers, one after the other, from or to
	// the offset off, or fail.
	ReadV(bufs [][]byte, off int64) error
	WriteV(bufs [][]byte, off int64) error
	// Flush returns when all that was written is safe from a power cut.
	Flush() error
	// Discard gives the room of n bytes back to the host; what they read as
	// afterwards is not said.
	Discard(off, n int64) error
	Close() error
}

// PromptFile is a DiskFile that knows which transfers need not wait.
type PromptFile interface {
	DiskFile
	// ReadVNow and WriteVNow are ReadV and WriteV where those only copy memory of the
	// host's. Else, and on any error, they report false, and may have moved a part.
	ReadVNow(bufs [][]byte, off int64) bool
	WriteVNow(bufs [][]byte, off int64) bool
}

// AccelInfo is the verdict on one accelerator.
type AccelInfo struct {
	Name   string `json:"name"` // QEMU's name: kvm, whpx, hvf, tcg
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitempty"` // why not, in one sentence
	Cure   string `json:"cure,omitempty"`
	// Native is the verdict for the native engine, which runs pvh guests and asks
	// for more than QEMU does.
	Native NativeInfo `json:"native"`
}

// NativeInfo says whether the native engine can use an accelerator, and if not,
// why not and what to do.
type NativeInfo struct {
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitempty"`
	Cure   string `json:"cure,omitempty"`
}

// NativeVerdict is the verdict on all accelerators together: the one that pvh
// guests run on, or why the best one cannot be used.
func NativeVerdict(accel []AccelInfo) (name string, verdict NativeInfo) {
	for _, a := range accel {
		if a.Native.Usable {
			return a.Name, a.Native
		}
	}
	if len(accel) == 0 {
		return "", NativeInfo{Reason: "no accelerator is known on this computer"}
	}
	return "", accel[0].Native
}

// QEMUInfo is where the device model and its firmware are.
type QEMUInfo struct {
	Path     string // qemu-system-x86_64
	Img      string // qemu-img
	Storage  string // qemu-storage-daemon, which pvh guests need for qcow2 disks; empty if missing
	OVMFCode string // UEFI code image; empty if missing
	OVMFVars string // UEFI variables template
	Missing  string // one sentence with the install command, when something is missing
}

// Command is a program to run.
type Command struct {
	Path   string
	Args   []string // without the program's name
	Env    []string // nil: the worker's
	Dir    string
	Stdout io.Writer
	Stderr io.Writer
	Files  []*os.File // become descriptors 3, 4, ...
}

// Process is a started Command.
type Process interface {
	PID() int
	Kill() error
	// Wait returns after the process has ended; the code is -1 if a signal ended it.
	Wait() (code int, err error)
}

// StageError is a failed launch: which stage failed, why and what to do.
type StageError struct {
	Stage string `json:"stage"` // "memory", "disk", "firmware", "qemu", ...
	Err   error  `json:"-"`
	Cure  string `json:"cure,omitempty"`
}

func (e *StageError) Error() string {
	s := e.Stage + ": " + e.Err.Error()
	if e.Cure != "" {
		s += "; " + e.Cure
	}
	return s
}

func (e *StageError) Unwrap() error { return e.Err }
