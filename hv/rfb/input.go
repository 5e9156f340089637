package rfb

import "image"

// Buttons are the pointer's buttons as RFB numbers them.
type Buttons uint8

// The buttons; a wheel step is a press and release of its own.
const (
	Left Buttons = 1 << iota
	Middle
	Right
	WheelUp
	WheelDown
	WheelLeft
	WheelRight
)

// input is the state of what we press; Client.mu guards it.
type input struct {
	absolute bool
	told     bool // the server knows the rest
	at       image.Point
	buttons  Buttons
}

// resize is the one screen-size request; Client.mu guards it.
type resize struct {
	able   bool // the server speaks ExtendedDesktopSize
	busy   bool // a request is out
	want   image.Point
	sent   image.Point
	screen uint32
	flags  uint32
}

// Key presses or releases a key by its XT scan code, with 0x80 set for those
// with an e0 prefix (QEMU's numbering; platform/keymap has it). Codes outside
// one byte and zero are ignored.
func (c *Client) Key(xt uint32, down bool) {
	if xt == 0 || xt > 0xff {
		return
	}
	state := u16(0)
	if down {
		state = 1
	}
	// The keysym stays 0: QEMU goes by the scan code alone then.
	c.out.send(msgQEMU, qemuKey, state, u32(0), u32(xt))
	c.poke()
}

// CanKey tells whether the server has confirmed that it takes scan codes.
func (c *Client) CanKey() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.features.extKey
}

// Pointer moves the pointer of a guest that takes absolute positions, in its
// pixels, and says which buttons are down. A guest in relative mode gets the
// buttons only.
func (c *Client) Pointer(at image.Point, buttons Buttons) {
	c.mu.Lock()
	size := c.frame.Size()
	at.X = min(max(at.X, 0), size.X-1)
	at.Y = min(max(at.Y, 0), size.Y-1)
	if c.input.told && c.input.at == at && c.input.buttons == buttons {
		c.mu.Unlock()
		return
	}
	c.input.told = true
	c.input.at, c.input.buttons = at, buttons
	c.repeatPointerLocked()
	c.mu.Unlock()
	c.poke()
}

// Move moves the pointer of a guest in relative mode by delta pixels.
func (c *Client) Move(delta image.Point, buttons Buttons) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.input.buttons = buttons
	if c.input.absolute {
		return
	}
	const step = 0x3fff
	dx, dy := min(max(delta.X, -step), step), min(max(delta.Y, -step), step)
	c.out.send(msgPointer, byte(buttons), u16(relativeZero+dx), u16(relativeZero+dy))
	c.poke()
}

// Wheel turns the wheel by whole steps, up and right positive.
func (c *Client) Wheel(dx, dy int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wheelLocked(dy, WheelUp, WheelDown)
	c.wheelLocked(dx, WheelRight, WheelLeft)
	c.poke()
}

// maxWheel bounds what one call can queue.
const maxWheel = 32

func (c *Client) wheelLocked(steps int, positive, negative Buttons) {
	button := positive
	if steps < 0 {
		button, steps = negative, -steps
	}
	held := c.input.buttons
	for range min(steps, maxWheel) {
		c.input.buttons = held | button
		c.repeatPointerLocked()
		c.input.buttons = held
		c.repeatPointerLocked()
	}
}

// repeatPointerLocked says where the pointer is. In relative mode coordinates
// are deltas around 0x7fff (QEMU pointer motion change), never positions.
func (c *Client) repeatPointerLocked() {
	x, y := c.input.at.X, c.input.at.Y
	if !c.input.absolute {
		x, y = relativeZero, relativeZero
	}
	c.out.send(msgPointer, byte(c.input.buttons), u16(x), u16(y))
}

// Absolute tells whether the guest takes absolute positions.
func (c *Client) Absolute() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.input.absolute
}

// RequestSize asks the guest to change its screen to w x h pixels. One request
// is out at a time; the latest wish is sent when the answer is in. Servers that
// cannot, and wishes that are already granted or asked, are passed over.
func (c *Client) RequestSize(w, h int) {
	if w < 1 || h < 1 || w > maxSide || h > maxSide {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resize.want = image.Pt(w, h)
	c.sendResizeLocked()
}

// sendResizeLocked goes by our own wish only: the server's answer to a request
// must never start another, or the two would talk forever.
func (c *Client) sendResizeLocked() {
	r := &c.resize
	if !r.able || r.busy || r.want == (image.Point{}) || r.want == r.sent {
		return
	}
	r.busy, r.sent = true, r.want
	c.out.send(msgSetDesktopSize, byte(0), u16(r.want.X), u16(r.want.Y), byte(1), byte(0),
		u32(r.screen), u16(0), u16(0), u16(r.want.X), u16(r.want.Y), u32(r.flags))
}

// SetAudio switches the guest's sound on or off, for clients that asked for it
// in Options.
func (c *Client) SetAudio(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.audio = on
	c.enableAudioLocked()
}

func (c *Client) enableAudioLocked() {
	if !c.features.audio {
		return
	}
	if !c.audio {
		c.out.send(msgQEMU, qemuAudio, u16(audioDisable))
		return
	}
	c.out.send(msgQEMU, qemuAudio, u16(audioSetFormat), audioS16, byte(2), u32(audioRate))
	c.out.send(msgQEMU, qemuAudio, u16(audioEnable))
}
