package rfb

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Flags of the extended clipboard (rfbproto, "Extended Clipboard Pseudo-Encoding").
const (
	clipText    uint32 = 1 << 0
	clipCaps    uint32 = 1 << 24
	clipRequest uint32 = 1 << 25
	clipPeek    uint32 = 1 << 26
	clipNotify  uint32 = 1 << 27
	clipProvide uint32 = 1 << 28
)

// clipboard is our end of the shared clipboard; Client.mu guards it.
type clipboard struct {
	extended bool
	text     string // what we offered last
	offered  bool
}

// SetClipboard offers text to the guest's clipboard; the guest fetches it when
// something there pastes. Text beyond a mebibyte is refused.
func (c *Client) SetClipboard(text string) error {
	if len(text) > maxClipText-8 {
		return fmt.Errorf("the text is %d bytes long and the guest's clipboard takes %d", len(text), maxClipText-8)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clip.text, c.clip.offered = text, true
	if c.clip.extended {
		c.sendClipLocked(clipNotify|clipText, nil)
		return nil
	}
	latin := latin1(text)
	c.out.send(msgClientCutText, []byte{0, 0, 0}, u32(len(latin)), latin)
	return nil
}

// latin1 is what the plain clipboard message carries.
func latin1(s string) []byte {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			r = '?'
		}
		b = append(b, byte(r))
	}
	return b
}

func (c *Client) sendCapsLocked() {
	caps := clipCaps | clipText | clipRequest | clipPeek | clipNotify | clipProvide
	c.sendClipLocked(caps, appendParts(nil, u32(maxClipText)))
}

func (c *Client) sendClipLocked(flags uint32, body []byte) {
	c.out.send(msgClientCutText, []byte{0, 0, 0}, int32(-(4 + len(body))), u32(flags), body)
}

// cutText reads ServerCutText: Latin-1 text, or with a negative length an
// extended clipboard message.
func (c *Client) cutText() error {
	var b [7]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return unexpected(err)
	}
	n := int64(int32(binary.BigEndian.Uint32(b[3:])))
	extended := n < 0
	if extended {
		n = -n
	}
	if n > maxClipText {
		return c.skip(int(n)) // too much to paste; no reason to lose the screen
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return unexpected(err)
	}
	if extended {
		return c.extendedClipboard(body)
	}
	runes := make([]rune, len(body))
	for i, ch := range body {
		runes[i] = rune(ch)
	}
	c.received(string(runes))
	return nil
}

func (c *Client) extendedClipboard(body []byte) error {
	if len(body) < 4 {
		return errors.New("an extended clipboard message without flags")
	}
	flags, body := binary.BigEndian.Uint32(body), body[4:]
	if flags&clipProvide != 0 && flags&(clipCaps|clipText) == clipText {
		text, err := inflateText(body)
		if err != nil {
			return fmt.Errorf("read the guest's clipboard: %w", err)
		}
		c.received(text)
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case flags&clipCaps != 0:
		c.clip.extended = true
		c.sendCapsLocked()
		if c.clip.offered {
			c.sendClipLocked(clipNotify|clipText, nil)
		}
	case flags&clipNotify != 0:
		c.clip.offered = false // the guest owns the clipboard now
		if flags&clipText != 0 {
			c.sendClipLocked(clipRequest|clipText, nil)
		}
	case flags&clipPeek != 0:
		notify := clipNotify
		if c.clip.offered {
			notify |= clipText
		}
		c.sendClipLocked(notify, nil)
	case flags&clipRequest != 0:
		if flags&clipText != 0 && c.clip.offered {
			c.sendClipLocked(clipProvide|clipText, deflateText(c.clip.text))
		}
	}
	return nil
}

func (c *Client) received(text string) {
	if c.handler.Clipboard != nil {
		c.handler.Clipboard(text)
	}
}

// deflateText packs text as size and bytes. QEMU hands them to the guest as
// they are, so there is no NUL at the end and lines end as the guest ends them.
func deflateText(text string) []byte {
	var buf bytes.Buffer
	z := zlib.NewWriter(&buf)
	z.Write(appendParts(nil, u32(len(text)), []byte(text))) // a bytes.Buffer does not fail
	z.Close()
	return buf.Bytes()
}

// inflateText reads the first format of a provide message, the text.
func inflateText(b []byte) (string, error) {
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	defer z.Close()
	var size [4]byte
	if _, err := io.ReadFull(z, size[:]); err != nil {
		return "", unexpected(err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxClipText {
		return "", fmt.Errorf("%d bytes of text", n)
	}
	var text strings.Builder // grows with what comes, not with what is announced
	if _, err := io.CopyN(&text, z, int64(n)); err != nil {
		return "", unexpected(err)
	}
	s := strings.TrimRight(text.String(), "\x00")
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return strings.ToValidUTF8(s, "\uFFFD"), nil
}
