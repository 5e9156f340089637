package fb

import (
	"image"
	"sync"
	"time"

	"github.com/hxen-project/hxen/hv/rfb"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// Linux BTN_* numbers (linux/input-event-codes.h).
const (
	btnLeft   = 0x110
	btnRight  = 0x111
	btnMiddle = 0x112
)

// axis is the right and lower edge of positions: the guest scales them to its
// screen, whose size may change.
const axis = 32767

const (
	// maxQueue is how much input waits for a guest that takes none. Releases have
	// room beyond it: there are no more of them than keys that are down.
	maxQueue = 256

	repeatAfter = 500 * time.Millisecond // as PCs; sooner, a busy host doubles what is typed
	repeatEvery = 33 * time.Millisecond
)

// event is one event for the guest.
type event struct {
	kind   uint8 // XENKBD_TYPE_*
	code   uint16
	down   bool
	repeat bool // of a key that is down
	at     image.Point
	wheel  int // steps down
}

// input is what viewers have pressed and moved and the guest has not taken yet.
type input struct {
	mu       sync.Mutex
	wake     func()          // guarded by mu; nil: the guest has no keyboard
	queue    []event         // guarded by mu
	down     map[uint16]bool // guarded by mu; once the queue is taken
	at       image.Point     // guarded by mu; of 0 to axis, or the sum of motions
	buttons  rfb.Buttons     // guarded by mu
	repeated uint16          // guarded by mu; the key that repeats itself; 0: none
	timer    *time.Timer     // guarded by mu
}

// begin has input queued for a front end, which wake calls.
func (in *input) begin(wake func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.wake, in.queue, in.down, in.buttons = wake, nil, map[uint16]bool{}, 0
}

// end forgets all input until the next begin.
func (in *input) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.wake, in.queue, in.down = nil, nil, nil
	in.repeatLocked(0)
}

// take hands out what waits, as far as there is room for it. Without idle, or after
// other events, a key's repetition is left out: the guest has not taken the last one.
func (in *input) take(room int, idle bool) (out []event) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.queue) > 0 && len(out) < room {
		e := in.queue[0]
		in.queue = in.queue[1:]
		if !e.repeat || idle && len(out) == 0 {
			out = append(out, e)
		}
	}
	return out
}

// key presses a key or lets it go. While it is down it repeats itself: the guest
// leaves that to us, and not all viewers do it.
func (in *input) key(code uint16, down bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.pressLocked(code, down) {
		switch {
		case down:
			in.repeatLocked(code)
		case code == in.repeated:
			in.repeatLocked(0)
		}
	}
}

// pressLocked queues what is new to the guest, and reports whether it was.
func (in *input) pressLocked(code uint16, down bool) bool {
	if in.wake == nil || in.down[code] == down || down && len(in.queue) >= maxQueue {
		return false
	}
	if down {
		in.down[code] = true
	} else {
		delete(in.down, code)
	}
	in.putLocked(event{kind: xenabi.XENKBD_TYPE_KEY, code: code, down: down})
	return true
}

func (in *input) putLocked(e event) {
	in.queue = append(in.queue, e)
	in.wake()
}

// repeatLocked has code repeat itself, and no other.
func (in *input) repeatLocked(code uint16) {
	if in.timer != nil {
		in.timer.Stop()
		in.timer = nil
	}
	if in.repeated = code; code != 0 {
		var t *time.Timer
		t = time.AfterFunc(repeatAfter, func() { in.repeat(t) })
		in.timer = t
	}
}

func (in *input) repeat(t *time.Timer) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.timer != t {
		return
	}
	if len(in.queue) == 0 {
		in.putLocked(event{kind: xenabi.XENKBD_TYPE_KEY, code: in.repeated, down: true, repeat: true})
	}
	t.Reset(repeatEvery)
}

// point puts the pointer at a pixel of a screen of some size.
func (in *input) point(at, size image.Point, buttons rfb.Buttons) {
	in.mu.Lock()
	defer in.mu.Unlock()
	to := image.Pt(at.X*axis/max(size.X-1, 1), at.Y*axis/max(size.Y-1, 1))
	wheel := in.wheelLocked(buttons)
	if to != in.at || wheel != 0 {
		in.at = to
		in.moveLocked(event{kind: xenabi.XENKBD_TYPE_POS, at: to, wheel: wheel})
	}
	in.buttonsLocked(buttons)
}

// move moves the pointer of a guest that knows no positions.
func (in *input) move(delta image.Point, buttons rfb.Buttons) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if wheel := in.wheelLocked(buttons); delta != (image.Point{}) || wheel != 0 {
		in.moveLocked(event{kind: xenabi.XENKBD_TYPE_MOTION, at: delta, wheel: wheel})
	}
	in.buttonsLocked(buttons)
}

// wheelLocked is how far the wheel went: RFB tells each step as a button that goes
// down and up.
func (in *input) wheelLocked(buttons rfb.Buttons) int {
	pressed := buttons &^ in.buttons
	in.buttons = buttons
	wheel := 0
	if pressed&rfb.WheelUp != 0 {
		wheel--
	}
	if pressed&rfb.WheelDown != 0 {
		wheel++
	}
	return wheel
}

// moveLocked queues a movement, or makes the last one that waits a longer one.
func (in *input) moveLocked(e event) {
	if in.wake == nil {
		return
	}
	if n := len(in.queue); n > 0 {
		last := &in.queue[n-1]
		switch {
		case last.kind != e.kind:
		case e.kind == xenabi.XENKBD_TYPE_POS:
			last.at, last.wheel = e.at, last.wheel+e.wheel
			return
		default:
			last.at, last.wheel = last.at.Add(e.at), last.wheel+e.wheel
			return
		}
		if n >= maxQueue {
			return
		}
	}
	in.putLocked(e)
}

func (in *input) buttonsLocked(buttons rfb.Buttons) {
	for _, b := range []struct {
		bit  rfb.Buttons
		code uint16
	}{{rfb.Left, btnLeft}, {rfb.Middle, btnMiddle}, {rfb.Right, btnRight}} {
		in.pressLocked(b.code, buttons&b.bit != 0)
	}
}
