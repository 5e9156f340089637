package rfb

import (
	"encoding/binary"
	"errors"
	"sync"
)

// Client to server messages.
const (
	msgSetPixelFormat byte = 0
	msgSetEncodings   byte = 2
	msgUpdateRequest  byte = 3
	msgKey            byte = 4
	msgPointer        byte = 5
	msgClientCutText  byte = 6
	msgSetDesktopSize byte = 251
	msgQEMU           byte = 255
)

// Server to client messages.
const (
	msgUpdate        byte = 0
	msgColourMap     byte = 1
	msgBell          byte = 2
	msgServerCutText byte = 3
)

// Kinds of msgQEMU (QEMU's docs/interop: "QEMU Extended Key Event", "QEMU Audio").
const (
	qemuKey   byte = 0
	qemuAudio byte = 1

	audioEnable    = 0
	audioDisable   = 1
	audioSetFormat = 2

	audioEnd   = 0
	audioBegin = 1
	audioData  = 2

	audioS16 byte = 3
)

// Encodings and pseudo-encodings.
const (
	encRaw             int32 = 0
	encCopyRect        int32 = 1
	encDesktopSize     int32 = -223
	encCursor          int32 = -239
	encPointerMode     int32 = -257
	encExtKey          int32 = -258
	encAudio           int32 = -259
	encLED             int32 = -261
	encExtDesktopSize  int32 = -308
	encAlphaCursor     int32 = -314
	encExtClipboard    int32 = -0x3f5e1a32 // 0xC0A1E5CE
	bytesPerPixel            = 4
	audioRate                = 44100
	relativeZero             = 0x7fff
	reasonThisClient         = 1
	maxScreens               = 255
	maxScreenInfoBytes       = maxScreens * 16
)

// Bounds on what a server may make us hold.
const (
	maxSide     = 16384
	maxArea     = 1 << 26 // pixels: 256 MiB; two 8K screens
	maxName     = 4096
	maxReason   = 4096
	maxCursor   = 512
	maxClipText = 1 << 20 // as QEMU bounds its own (vnc-clipboard.c)
	maxAudio    = 1 << 20
	maxQueue    = 4 << 20
	readBuffer  = 256 << 10
	stripBytes  = 64 << 10 // one full row at most
)

type (
	u16 uint16
	u32 uint32
)

// output is what is waiting to be written. Senders never wait; a server that
// stops reading fails the connection once too much is queued.
type output struct {
	mu   sync.Mutex
	buf  []byte // guarded by mu
	full bool   // guarded by mu
	wake chan struct{}
	back []byte // owned by take's caller between calls
}

func newOutput() *output { return &output{wake: make(chan struct{}, 1)} }

var errServerStuck = errors.New("the server has stopped reading")

// send queues one message; parts are byte, u16, u32, int32, []byte.
func (o *output) send(parts ...any) {
	o.mu.Lock()
	if len(o.buf) > maxQueue {
		o.full = true
	} else {
		o.buf = appendParts(o.buf, parts...)
	}
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func appendParts(b []byte, parts ...any) []byte {
	for _, p := range parts {
		switch v := p.(type) {
		case byte:
			b = append(b, v)
		case u16:
			b = binary.BigEndian.AppendUint16(b, uint16(v))
		case u32:
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		case int32:
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		case []byte:
			b = append(b, v...)
		}
	}
	return b
}

// take waits for something to write; nil without an error means done was closed.
func (o *output) take(done <-chan struct{}) ([]byte, error) {
	for {
		o.mu.Lock()
		if o.full {
			o.mu.Unlock()
			return nil, errServerStuck
		}
		if len(o.buf) > 0 {
			b := o.buf
			o.buf, o.back = o.back[:0], b
			o.mu.Unlock()
			return b, nil
		}
		o.mu.Unlock()
		select {
		case <-done:
			return nil, nil
		case <-o.wake:
		}
	}
}
