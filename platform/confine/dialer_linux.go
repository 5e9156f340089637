package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pair is one end of a pair of sockets that keeps messages apart: a question is a
// letter and a path, the answer a descriptor or a sentence.
type pair struct {
	mu   sync.Mutex // one question at a time
	conn *net.UnixConn
}

const (
	maxMessage = 4096
	// askTime bounds a question without a deadline: dialling a local socket that
	// anybody serves, or opening a file, takes no time.
	askTime = 30 * time.Second
)

func startPair(start func(*os.File) error) (*pair, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "dialer")
	defer theirs.Close()
	ours, err := unixConn(os.NewFile(uintptr(fds[0]), "dialer"))
	if err != nil {
		return nil, err
	}
	if err := start(theirs); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start what dials for this process: %w", err)
	}
	return &pair{conn: ours}, nil
}

// unixConn makes a connection of f, which it closes.
func unixConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use a pair of sockets: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("%T is no local socket", c)
	}
	return u, nil
}

func (p *pair) Close() error { return p.conn.Close() }

func asConn(f *os.File) (net.Conn, error) {
	c, err := unixConn(f)
	if err != nil {
		return nil, err // not a nil *net.UnixConn
	}
	return c, nil
}

func (p *pair) ask(ctx context.Context, kind byte, path string) (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(path) >= maxMessage {
		return nil, fmt.Errorf("open %.40s...: the path is too long", path)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(askTime)
	}
	// An answer that came too late would be taken for the next one's: after a
	// failure nothing is asked any more.
	if err := p.conn.SetDeadline(deadline); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	f, err := p.exchange(kind, path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return f, nil
}

// errRefused is an answer in words: the pair is still good.
var errRefused = errors.New("the process beside this one")

func (p *pair) exchange(kind byte, path string) (*os.File, error) {
	fail := func(err error) (*os.File, error) {
		p.conn.Close()
		return nil, err
	}
	if _, err := p.conn.Write(append([]byte{kind}, path...)); err != nil {
		return fail(err)
	}
	text, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := p.conn.ReadMsgUnix(text, oob)
	if err != nil {
		return fail(err)
	}
	if n == 0 && oobn == 0 {
		return fail(fmt.Errorf("%w has ended", errRefused))
	}
	if oobn == 0 {
		return nil, fmt.Errorf("%w: %s", errRefused, text[1:n])
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return fail(fmt.Errorf("%w sent %d messages: %w", errRefused, len(messages), err))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return fail(fmt.Errorf("%w sent %d connections: %w", errRefused, len(fds), err))
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), path), nil
}

func servePair(f *os.File, doors Doors) error {
	over, err := unixConn(f)
	if err != nil {
		return err
	}
	defer over.Close()
	question := make([]byte, maxMessage)
	for {
		n, err := over.Read(question)
		if err != nil || n == 0 {
			return nil // the other process has gone
		}
		text, rights := []byte{0}, []byte(nil)
		c, err := doors.open(question[0], string(question[1:n]))
		if err == nil {
			rights, err = descriptor(c)
		}
		if err != nil {
			text = append(text, err.Error()[:min(len(err.Error()), maxMessage-1)]...)
		}
		_, _, err = over.WriteMsgUnix(text, rights, nil)
		if c != nil {
			c.Close()
		}
		if err != nil {
			return nil
		}
	}
}

// open answers one question.
func (d Doors) open(kind byte, path string) (io.Closer, error) {
	switch kind {
	case askDial:
		c, err := d.Dial(path)
		if err != nil {
			return nil, err
		}
		return c, nil
	case askRead, askWrite:
		f, err := d.Open(path, kind == askWrite)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
	return nil, fmt.Errorf("nobody asks with %q", kind)
}

// descriptor is the control message that carries c's descriptor, which stays
// good until c is closed.
func descriptor(c io.Closer) ([]byte, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("%T has no descriptor", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	var rights []byte
	err = raw.Control(func(fd uintptr) { rights = unix.UnixRights(int(fd)) })
	return rights, err
}
