package rfb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

const version38 = "RFB 003.008\n"

// securityNone is the only security type spoken: the stream is a private socket
// whose peer was checked when it was opened.
const securityNone = 1

// handshake is RFC 6143 sections 7.1 to 7.3, then our pixel format and encodings.
func (c *Client) handshake() error {
	if err := c.version(); err != nil {
		return err
	}
	if err := c.security(); err != nil {
		return err
	}
	if _, err := c.rwc.Write([]byte{1}); err != nil { // shared: others may watch
		return fmt.Errorf("say hello: %w", err)
	}
	if err := c.serverInit(); err != nil {
		return fmt.Errorf("read the screen's size: %w", err)
	}
	c.chooseFormat()
	return nil
}

func (c *Client) version() error {
	var v [12]byte
	if _, err := io.ReadFull(c.r, v[:]); err != nil {
		return fmt.Errorf("read the protocol version: %w", err)
	}
	if !strings.HasPrefix(string(v[:]), "RFB ") {
		return fmt.Errorf("the other end is no screen server: it says %q", v)
	}
	if string(v[:]) < version38 {
		return fmt.Errorf("the screen server speaks %q, which is older than RFB 3.8", strings.TrimSpace(string(v[:])))
	}
	if _, err := io.WriteString(c.rwc, version38); err != nil {
		return fmt.Errorf("write the protocol version: %w", err)
	}
	return nil
}

func (c *Client) security() error {
	n, err := c.r.ReadByte()
	if err != nil {
		return fmt.Errorf("read the security types: %w", err)
	}
	if n == 0 {
		return c.refused()
	}
	types := make([]byte, n)
	if _, err := io.ReadFull(c.r, types); err != nil {
		return fmt.Errorf("read the security types: %w", err)
	}
	if !strings.Contains(string(types), string(rune(securityNone))) {
		return errors.New("the screen server wants a password, which this connection does not carry")
	}
	if _, err := c.rwc.Write([]byte{securityNone}); err != nil {
		return fmt.Errorf("choose the security type: %w", err)
	}
	result, err := c.u32()
	if err != nil {
		return fmt.Errorf("read the security result: %w", err)
	}
	if result != 0 {
		return c.refused()
	}
	return nil
}

// refused reads the reason the server gives for turning us away.
func (c *Client) refused() error {
	n, err := c.u32()
	if err != nil {
		return errors.New("the screen server refused the connection without a reason")
	}
	reason := make([]byte, min(n, maxReason))
	if _, err := io.ReadFull(c.r, reason); err != nil {
		return errors.New("the screen server refused the connection and broke off")
	}
	return fmt.Errorf("the screen server refused the connection: %q", reason)
}

func (c *Client) serverInit() error {
	var b [24]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return err
	}
	w, h := int(binary.BigEndian.Uint16(b[0:])), int(binary.BigEndian.Uint16(b[2:]))
	n := binary.BigEndian.Uint32(b[20:])
	if n > maxName {
		return fmt.Errorf("a name of %d bytes", n)
	}
	name := make([]byte, n)
	if _, err := io.ReadFull(c.r, name); err != nil {
		return err
	}
	c.name = strings.ToValidUTF8(string(name), "\uFFFD")
	if err := c.checkSize(w, h); err != nil {
		return err
	}
	c.frame.resize(w, h)
	return nil
}

func (c *Client) checkSize(w, h int) error {
	if w < 1 || h < 1 || w > maxSide || h > maxSide || w*h > c.maxArea {
		return fmt.Errorf("a screen of %dx%d pixels", w, h)
	}
	return nil
}

// chooseFormat asks for 32-bit little-endian BGRX, which is QEMU's own format,
// so that the server converts nothing, and for all we understand.
func (c *Client) chooseFormat() {
	c.out.send(msgSetPixelFormat, []byte{0, 0, 0},
		byte(32), byte(24), byte(0), byte(1), // bits, depth, big endian, true colour
		u16(255), u16(255), u16(255), byte(16), byte(8), byte(0), []byte{0, 0, 0})
	encodings := []any{
		encCopyRect, encRaw, encDesktopSize, encExtDesktopSize, encAlphaCursor, encCursor,
		encPointerMode, encExtKey, encLED, encExtClipboard,
	}
	if c.audio {
		encodings = append(encodings, encAudio)
	}
	c.out.send(append([]any{msgSetEncodings, byte(0), u16(len(encodings))}, encodings...)...)
}

func (c *Client) u8() (byte, error) { return c.r.ReadByte() }

func (c *Client) u16() (uint16, error) {
	var b [2]byte
	_, err := io.ReadFull(c.r, b[:])
	return binary.BigEndian.Uint16(b[:]), err
}

func (c *Client) u32() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(c.r, b[:])
	return binary.BigEndian.Uint32(b[:]), err
}
