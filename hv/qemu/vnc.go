package qemu

import (
	"crypto/des"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
)

// Of RFC 6143: what both sides say first, and security types.
const (
	rfbVersion = "RFB 003.008\n"
	rfbNone    = 1
	rfbVNC     = 2
)

// passwordSize is all that VNC authentication looks at (RFC 6143, 7.2.2).
const passwordSize = 8

// newPassword is one that nobody guesses: 48 random bits, and each guess takes a
// connection to QEMU.
func newPassword() string {
	b := make([]byte, passwordSize*6/8)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// logIn logs in to the screen on conn by its password, once check finds nothing wrong
// with who has greeted: a connection is nobody's until it was accepted. What it returns
// asks for no password.
func logIn(conn net.Conn, password string, check func() error) (io.ReadWriteCloser, error) {
	hello := make([]byte, len(rfbVersion))
	if _, err := io.ReadFull(conn, hello); err != nil {
		return nil, err
	}
	if err := check(); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, rfbVersion); err != nil {
		return nil, err
	}
	var count [1]byte
	if _, err := io.ReadFull(conn, count[:]); err != nil {
		return nil, err
	}
	types := make([]byte, count[0])
	if _, err := io.ReadFull(conn, types); err != nil {
		return nil, err
	}
	if string(types) != string([]byte{rfbVNC}) {
		return nil, fmt.Errorf("QEMU offers the security types %v for its screen, and not its password alone", types)
	}
	if _, err := conn.Write(types); err != nil {
		return nil, err
	}
	challenge := make([]byte, 2*des.BlockSize)
	if _, err := io.ReadFull(conn, challenge); err != nil {
		return nil, err
	}
	if err := answer(challenge, password); err != nil {
		return nil, err
	}
	if _, err := conn.Write(challenge); err != nil {
		return nil, err
	}
	var result [4]byte
	if _, err := io.ReadFull(conn, result[:]); err != nil {
		return nil, err
	}
	if result != [4]byte{} {
		return nil, errors.New("QEMU refuses the password of its screen")
	}
	return &loggedIn{Conn: conn, say: []byte(rfbVersion + string([]byte{1, rfbNone, 0, 0, 0, 0})), hear: rfbVersion + string([]byte{rfbNone})}, nil
}

// answer encrypts the challenge with the password, of which DES, in VNC, takes each
// byte's bits in the other order.
func answer(challenge []byte, password string) error {
	key := make([]byte, des.BlockSize)
	copy(key, password)
	for i, b := range key {
		key[i] = bits.Reverse8(b)
	}
	c, err := des.NewCipher(key)
	if err != nil {
		return err
	}
	for ; len(challenge) > 0; challenge = challenge[des.BlockSize:] {
		c.Encrypt(challenge, challenge)
	}
	return nil
}

// loggedIn is a screen's connection of which the beginning is played for a viewer:
// one goroutine may read while another writes.
type loggedIn struct {
	net.Conn
	say  []byte // what the viewer still has to hear
	hear string // and to say: protocol 3.8, no password
}

func (l *loggedIn) Read(p []byte) (int, error) {
	if len(l.say) > 0 {
		n := copy(p, l.say)
		l.say = l.say[n:]
		return n, nil
	}
	return l.Conn.Read(p)
}

func (l *loggedIn) Write(p []byte) (int, error) {
	n := min(len(p), len(l.hear))
	if string(p[:n]) != l.hear[:n] {
		return 0, errors.New("the viewer does not speak RFB 3.8")
	}
	l.hear = l.hear[n:]
	if n == len(p) {
		return n, nil
	}
	m, err := l.Conn.Write(p[n:])
	return n + m, err
}
