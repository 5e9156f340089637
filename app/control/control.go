// Package control is the protocol between the service and the processes that
// it supervises: hxen-worker (one guest) and hxen-netd (one network). The
// service dials their control socket, also after a restart of its own, so
// adoption is the normal path.
//
// The wire is JSON lines. The first request on a connection is "hello" with the
// versions that the client speaks. Requests carry ids and are answered in any
// order; "subscribe" adds an event stream with sequence numbers; "stream" turns
// the connection into raw bytes (screen, serial line). The package knows the
// wire and the messages, not what is done with them.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// Protocol is the version spoken by this program; MinProtocol the oldest it
// still understands. Both halves refuse a peer with no version in common.
const (
	Protocol    = 1
	MinProtocol = 1
)

// MaxLine bounds one message in bytes.
const MaxLine = 4 << 20

// Verbs of every supervised process.
const (
	VerbHello     = "hello"     // Hello -> Hello
	VerbSubscribe = "subscribe" // Subscribe -> nothing; then event messages
	VerbStop      = "quit"      // nothing -> nothing; the process ends (netd; a worker without a guest)
)

// Verbs of a worker.
const (
	VerbLaunch     = "launch"      // Launch -> Status
	VerbStatus     = "status"      // nothing -> Status
	VerbPause      = "pause"       // nothing -> nothing
	VerbResume     = "resume"      // nothing -> nothing
	VerbPower      = "power"       // Power -> nothing
	VerbReset      = "reset"       // nothing -> nothing
	VerbSave       = "save"        // nothing -> nothing; the guest ends, or goes on and the error says why
	VerbResync     = "resync"      // nothing -> nothing: the host has slept; set the guest's clock
	VerbSaveCancel = "save_cancel" // nothing -> nothing: the save under way fails
	VerbStats      = "stats"       // nothing -> hv.Stats
	VerbMedia      = "media"       // Media -> nothing
	VerbKeys       = "keys"        // Keys -> nothing
	VerbGuestInfo  = "guest_info"  // nothing -> hv.GuestInfo
	VerbStream     = "stream"      // Stream -> nothing; then raw bytes
	VerbScreenshot = "screenshot"  // nothing -> Screenshot
	VerbResize     = "resize"      // Resize -> nothing
	VerbAttach     = "attach"      // Attach -> nothing
	VerbDetach     = "detach"      // Detach -> nothing; the guest lets go, or the error says that it does not
)

// Verbs of netd.
const (
	VerbSet    = "set"    // NetConfig -> nothing: the whole desired state
	VerbLeases = "leases" // nothing -> []Lease
)

// Hello opens a connection, in both directions.
type Hello struct {
	Protocol int    `json:"protocol"`
	Min      int    `json:"min"`
	Program  string `json:"program"` // "hxen-worker"
	Version  string `json:"version"` // of the program
	UUID     string `json:"uuid"`    // of the guest or network; empty from the client
	PID      int    `json:"pid"`
}

// Resize is what a running guest shall use from now on; 0 leaves it as it is.
type Resize struct {
	Memory uint64 `json:"memory,omitempty"` // bytes
	VCPUs  int    `json:"vcpus,omitempty"`
}

// Launch tells a worker which guest to run.
type Launch struct {
	Spec     hv.Spec           `json:"spec"`
	DomID    int               `json:"domid"`
	Paused   bool              `json:"paused,omitempty"`  // hold the guest at its first instruction
	Restore  bool              `json:"restore,omitempty"` // go on from the guest's saved state
	Force    bool              `json:"force,omitempty"`   // also where the date of a disk was changed since
	Networks map[string]string `json:"networks"`          // network uuid -> its frames socket
	Accel    []hv.AccelInfo    `json:"accel"`
	QEMU     hv.QEMUInfo       `json:"qemu"`
}

// Status is a worker's account of its guest; it is also what state.json holds.
type Status struct {
	Version   int             `json:"version"`
	DomID     int             `json:"domid"`
	State     hv.PowerState   `json:"state"`
	Launching bool            `json:"launching,omitempty"`
	Started   time.Time       `json:"started"`
	Info      hv.MachineInfo  `json:"info"`
	Display   hv.DisplayState `json:"display,omitempty"` // of guests that need drivers for their screen
	Worker    Process         `json:"worker"`
	Model     Process         `json:"model"`          // the device model's process, if there is one
	Exit      *Exit           `json:"exit,omitempty"` // set when the guest has ended
	Spec      *hv.Spec        `json:"spec,omitempty"` // as it runs now (media may have changed); not in state.json
}

// Process names a process so that it can be ended safely later.
type Process struct {
	PID   int    `json:"pid,omitempty"`
	Start string `json:"start,omitempty"` // start token of platform/proc
}

// Exit is how a guest ended.
type Exit struct {
	Reason hv.ExitReason `json:"reason"`
	Stage  string        `json:"stage,omitempty"`
	Text   string        `json:"text,omitempty"` // one sentence for the user
	Cure   string        `json:"cure,omitempty"`
	At     time.Time     `json:"at"`
}

// Power, Media, Keys, Stream, Subscribe are parameters of the verbs that bear
// their names.
type (
	Power struct {
		How hv.StopHow `json:"how"`
	}
	Media struct {
		Drive string  `json:"drive"` // uuid of the drive
		Disk  hv.Disk `json:"disk"`  // empty path: eject
	}
	Keys struct {
		Codes []uint16 `json:"codes"` // Linux KEY_* codes
	}
	Stream struct {
		Kind string `json:"kind"` // "rfb" or "vt100"
	}
	Subscribe struct {
		Since uint64 `json:"since"` // sequence number of the last event seen; 0 for all that are kept
	}
	// Attach is one of both.
	Attach struct {
		Disk   *hv.Disk `json:"disk,omitempty"`
		NIC    *hv.NIC  `json:"nic,omitempty"`
		Frames string   `json:"frames,omitempty"` // the card's network's frames socket
	}
	Detach struct {
		UUID string        `json:"uuid"` // of the disk or card
		NIC  bool          `json:"nic,omitempty"`
		Wait time.Duration `json:"wait"` // how long the guest may take
	}
	// Screenshot is a PNG picture.
	Screenshot struct {
		PNG []byte `json:"png"`
	}
)

// Kinds of streams.
const (
	StreamRFB   = "rfb"
	StreamVT100 = "vt100"
)

// Grant is what paths.Guest.Grant holds: a file that a worker which can open none any
// more may have for a disk or a drive. The service writes it, and takes it away again
// when the worker has answered.
type Grant struct {
	Path  string `json:"path"` // absolute
	Write bool   `json:"write,omitempty"`
}

// Event is one message of the event stream. Kind "exit" is a worker's last.
type Event struct {
	Seq   uint64    `json:"seq"`
	Event *hv.Event `json:"event,omitempty"`
	Exit  *Exit     `json:"exit,omitempty"`
	// Progress of a launch.
	Progress *Progress `json:"progress,omitempty"`
}

// Progress of long work; Total 0 means that it is not known.
type Progress struct {
	Stage string `json:"stage"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// NetConfig is the whole desired state of one network.
type NetConfig struct {
	UUID   string    `json:"uuid"`
	Name   string    `json:"name"`
	Subnet string    `json:"subnet"` // CIDR, e.g. 192.168.127.0/24; the gateway is its first address
	Ports  []NetPort `json:"ports"`
}

// NetPort is one network card that may connect.
type NetPort struct {
	Guest    string       `json:"guest"` // uuid
	Name     string       `json:"name"`  // host name for DNS, made safe
	NIC      string       `json:"nic"`   // uuid
	MAC      string       `json:"mac"`
	Forwards []hv.Forward `json:"forwards,omitempty"`
}

// Lease is an address given to a network card.
type Lease struct {
	NIC       string    `json:"nic"`
	MAC       string    `json:"mac"`
	IP        string    `json:"ip"`
	Seen      time.Time `json:"seen"`             // when the card last took it
	Connected bool      `json:"connected"`        // the card's relay is connected now
	Failed    []string  `json:"failed,omitempty"` // forwards that could not be bound, a sentence each
}

// FramesHello is the first line on a network's frames socket. The network
// answers with a FramesAnswer line; Ethernet frames follow in both directions,
// each after its length as a 32-bit big-endian number.
type FramesHello struct {
	Protocol int    `json:"protocol"`
	NIC      string `json:"nic"`
	MAC      string `json:"mac"`
}

// FramesAnswer says whether the card may connect; the connection ends if not.
type FramesAnswer struct {
	Protocol int    `json:"protocol"`
	Refused  string `json:"refused,omitempty"` // why not, one sentence
}

// Bounds of the frames socket in bytes: the longest frame (the longest IP packet
// and an Ethernet header fit; without offloads a card sends 1514) and the longest line.
const (
	MaxFrame      = 65550
	MaxFramesLine = 4096
)

// Error is a failed request: which stage failed, why, and what to do.
type Error struct {
	Code  string `json:"code,omitempty"` // "unsupported", "unavailable", "refused" or empty
	Stage string `json:"stage,omitempty"`
	Text  string `json:"text"`
	Cure  string `json:"cure,omitempty"`
}

func (e *Error) Error() string {
	s := e.Text
	if e.Stage != "" {
		s = e.Stage + ": " + s
	}
	if e.Cure != "" {
		s += "; " + e.Cure
	}
	return s
}

// Is lets callers ask for hv's sentinels across the wire.
func (e *Error) Is(target error) bool {
	return e.Code == "unsupported" && target == hv.ErrUnsupported ||
		e.Code == "unavailable" && target == hv.ErrUnavailable
}

// asError turns any error into what goes over the wire.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	out := &Error{Text: err.Error()}
	if s, ok := errors.AsType[*hv.StageError](err); ok {
		out.Stage, out.Text, out.Cure = s.Stage, s.Err.Error(), s.Cure
	}
	switch {
	case errors.Is(err, hv.ErrUnsupported):
		out.Code = "unsupported"
	case errors.Is(err, hv.ErrUnavailable):
		out.Code = "unavailable"
	}
	return out
}

// message is one line in either direction.
type message struct {
	ID     uint64          `json:"id,omitempty"`
	Verb   string          `json:"verb,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
	Event  *Event          `json:"event,omitempty"`
}

// Agree checks a peer's hello.
func (h Hello) Agree() error {
	if h.Protocol < MinProtocol || h.Min > Protocol {
		return fmt.Errorf("%s %s speaks control protocol %d to %d, this program %d to %d: update the older of the two",
			h.Program, h.Version, h.Min, h.Protocol, MinProtocol, Protocol)
	}
	return nil
}
