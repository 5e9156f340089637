package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/rfb"
)

// peerPID is Linux' answer to hv.Host.PeerPID: proc(5), /proc/net/tcp and the
// descriptors of each process.
func peerPID(conn net.Conn) (int, error) {
	hex := func(a net.Addr) string {
		ap := a.(*net.TCPAddr).AddrPort()
		ip := ap.Addr().Unmap().As4()
		return fmt.Sprintf("%08X:%04X", binary.LittleEndian.Uint32(ip[:]), ap.Port())
	}
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0, err
	}
	inode := ""
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 9 && f[1] == hex(conn.RemoteAddr()) && f[2] == hex(conn.LocalAddr()) {
			inode = f[9]
		}
	}
	all, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range all {
		if to, _ := os.Readlink(fd); to == "socket:["+inode+"]" {
			return strconv.Atoi(strings.Split(fd, "/")[2])
		}
	}
	return 0, errors.New("no process has it")
}

// pipes makes the lab's runtime folder one of pipes, as on Windows, and returns what
// comes to the worker's sockets of network cards.
func (l *lab) pipes(cards ...string) <-chan net.Conn {
	l.host.RunDir, l.host.NICs, l.host.PeerPID = "/pipe/hxen-1", cards, peerPID
	came := make(chan net.Conn, 8)
	l.host.Dial = func(_ context.Context, socket string) (net.Conn, error) {
		if !slices.Contains(cards, socket) {
			return nil, errors.New("no card has the socket " + socket)
		}
		here, there := net.Pipe()
		came <- there
		return here, nil
	}
	return came
}

// broken plays a system on which Unix sockets do not work.
func broken(string) error { return errors.New("no such address family") }

// TestWires boots a guest as on Windows: over Unix sockets in a folder of its own, and
// over the loopback interface. Its screen, serial line and network card work.
func TestWires(t *testing.T) {
	for name, try := range map[string]func(string) error{"unix": tryUnix, "loopback": broken} {
		t.Run(name, func(t *testing.T) {
			dir := must(os.MkdirTemp("/tmp", "hxw")) // t.TempDir is too long for a socket
			t.Cleanup(func() { os.RemoveAll(dir) })
			t.Setenv("TMPDIR", dir)
			l := newLab(t)
			came := l.pipes("one", "two")
			s := l.spec(t)
			s.Boot.Order = "nc" // its firmware asks the network first
			s.NICs = []hv.NIC{{UUID: "11111111-2222-4333-8444-000000000003", MAC: "00:16:3e:00:00:01", Network: testUUID}}
			l.host.NICs = l.host.NICs[:1]
			ctx, cancel := context.WithTimeout(t.Context(), hvtest.Guard)
			defer cancel()
			machine, err := (&Engine{try: try}).Launch(ctx, s, l.host)
			if err != nil {
				t.Fatal(err)
			}
			m := machine.(*Machine)
			defer m.Close()

			frames(t, <-came, s.NICs[0].MAC)
			screens(t, m)
			if err := m.AttachNIC(ctx, hv.NIC{UUID: diskUUID, MAC: "00:16:3e:00:00:02"}, "two"); err != nil {
				t.Fatal(err)
			}
			<-came
			if try(t.TempDir()) != nil {
				if err := m.Save(ctx, filepath.Join(l.host.Dir, "saved"), nil); !errors.Is(err, hv.ErrUnsupported) {
					t.Errorf("a save that could not go on: %v", err)
				}
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if left, _ := filepath.Glob(os.TempDir() + "/hxen-*"); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// frames reads the first frame of a card.
func frames(t *testing.T, card net.Conn, mac string) {
	t.Helper()
	_ = card.SetDeadline(time.Now().Add(hvtest.Guard))
	r := bufio.NewReader(card)
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, min(binary.BigEndian.Uint32(size[:]), 2000))
	if _, err := io.ReadFull(r, frame); err != nil {
		t.Fatal(err)
	}
	if from := net.HardwareAddr(frame[6:12]).String(); from != mac {
		t.Errorf("a frame from %s", from)
	}
	go io.Copy(io.Discard, r)
}

// screens opens the screen twice, as several viewers may.
func screens(t *testing.T, m *Machine) {
	t.Helper()
	for range 2 {
		screen, err := m.OpenDisplay(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c, err := rfb.Connect(t.Context(), screen, rfb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	p, tcp := port(m.names.VNC)
	if !tcp {
		return
	}
	// Who comes without the password gets nothing.
	conn, err := net.Dial("tcp4", "127.0.0.1:"+p)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := logIn(conn, "guessed!", func() error { return nil }); err == nil || !strings.Contains(err.Error(), "refuses the password") {
		t.Errorf("a wrong password: %v", err)
	}
}

// TestStrangers: others who connect in the place of QEMU are sent away, and QEMU is
// waited for.
func TestStrangers(t *testing.T) {
	l := newLab(t)
	l.pipes()
	start := l.host.Start
	var strangers []net.Conn
	ports := regexp.MustCompile(`port=([0-9]+)`)
	l.host.Start = func(c hv.Command) (hv.Process, error) {
		for _, arg := range c.Args {
			if p := ports.FindStringSubmatch(arg); p != nil {
				conn, err := net.Dial("tcp4", "127.0.0.1:"+p[1])
				if err != nil {
					t.Error(err)
					continue
				}
				_, _ = io.WriteString(conn, `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 99}}}}`+"\n")
				strangers = append(strangers, conn)
			}
		}
		return start(c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), hvtest.Guard)
	defer cancel()
	m, err := (&Engine{try: broken}).Launch(ctx, l.spec(t), l.host)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	until(t, m.(*Machine), "READY")
	if len(strangers) < 4 { // of the QEMU that is asked what it can do, and of the guest's
		t.Errorf("%d strangers", len(strangers))
	}
	for _, conn := range strangers {
		_ = conn.SetDeadline(time.Now().Add(hvtest.Guard))
		if got, err := io.ReadAll(conn); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a stranger was told %q, %v", got, err)
		}
		conn.Close()
	}
	l.host.PeerPID = nil
	if _, err := (&Engine{try: broken}).Launch(ctx, l.spec(t), l.host); err == nil || !strings.Contains(err.Error(), "no such address family") {
		t.Errorf("nobody can tell who connects: %v", err)
	}
}

// TestVNCPassword holds the answer to a challenge against RFC 6143's cipher as libvncserver
// and QEMU compute it: DES with the bits of the key's bytes turned around.
func TestVNCPassword(t *testing.T) {
	if a, b := newPassword(), newPassword(); a == b || len(a) != passwordSize {
		t.Errorf("%q and %q", a, b)
	}
	challenge := make([]byte, 16)
	if err := answer(challenge, ""); err != nil {
		t.Fatal(err)
	}
	// DES of zeros under a key of zeros: FIPS 81's "8CA64DE9C1B123A7".
	if want := []byte{0x8c, 0xa6, 0x4d, 0xe9, 0xc1, 0xb1, 0x23, 0xa7}; !bytes.Equal(challenge[:8], want) || !bytes.Equal(challenge[8:], want) {
		t.Errorf("%x", challenge)
	}
}
