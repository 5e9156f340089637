package blk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/hxen-project/hxen/hv"
)

// What is used of the NBD protocol (the NetworkBlockDevice project's
// doc/proto.md): the fixed newstyle handshake with NBD_OPT_GO, and simple replies.
const (
	nbdMagic      = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOptMagic   = 0x49484156454f5054 // "IHAVEOPT"
	nbdReplyMagic = 0x0003e889045565a9
	nbdFixed      = 1 << 0 // NBD_FLAG_FIXED_NEWSTYLE
	nbdNoZeroes   = 1 << 1 // NBD_FLAG_NO_ZEROES

	nbdOptGo      = 7
	nbdRepAck     = 1
	nbdRepInfo    = 3
	nbdRepError   = 1 << 31
	nbdInfoExport = 0

	nbdRequest     = 0x25609513
	nbdSimpleReply = 0x67446698

	nbdRead, nbdWrite, nbdDisc, nbdFlush, nbdTrim = 0, 1, 2, 3, 4

	nbdCanFlush, nbdCanTrim = 1 << 2, 1 << 5 // transmission flags

	nbdENOSPC, nbdEOPNOTSUPP = 28, 95

	// maxNBDOption bounds the server's answers to options.
	maxNBDOption = 64 << 10
	// maxNBDTrim is the largest piece of a discard: lengths have 32 bits.
	maxNBDTrim = 1 << 30
)

// NBD is an image that an NBD server reads and writes. The server is trusted no
// further than to move its own bytes.
type NBD struct {
	conn  net.Conn
	in    *bufio.Reader // the reading goroutine's
	size  int64
	flags uint16
	done  chan struct{} // closed when the reading goroutine has ended

	wmu sync.Mutex // one request at a time on the wire

	mu    sync.Mutex
	last  uint64              // guarded by mu
	calls map[uint64]*nbdCall // guarded by mu; sent and not answered
	err   error               // guarded by mu; why the connection has ended
}

var _ hv.DiskFile = (*NBD)(nil)

// nbdCall is a request under way.
type nbdCall struct {
	fill [][]byte // of a read
	done chan error
}

// NewNBD greets the server at the other end of conn and chooses an export. conn
// is the NBD's from then on, also when it fails.
func NewNBD(conn net.Conn, export string) (*NBD, error) {
	n := &NBD{conn: conn, in: bufio.NewReaderSize(conn, 128<<10), calls: map[uint64]*nbdCall{}, done: make(chan struct{})}
	if err := n.greet(export); err != nil {
		conn.Close()
		return nil, fmt.Errorf("greet the NBD server: %w", err)
	}
	go n.read()
	return n, nil
}

func (n *NBD) greet(export string) error {
	var hello struct {
		Magic, Opt uint64
		Flags      uint16
	}
	if err := binary.Read(n.in, binary.BigEndian, &hello); err != nil {
		return err
	}
	if hello.Magic != nbdMagic || hello.Opt != nbdOptMagic || hello.Flags&nbdFixed == 0 {
		return errors.New("it speaks no NBD of today")
	}
	msg := binary.BigEndian.AppendUint32(nil, uint32(nbdFixed|hello.Flags&nbdNoZeroes))
	msg = binary.BigEndian.AppendUint64(msg, nbdOptMagic)
	msg = binary.BigEndian.AppendUint32(msg, nbdOptGo)
	msg = binary.BigEndian.AppendUint32(msg, uint32(4+len(export)+2))
	msg = binary.BigEndian.AppendUint32(msg, uint32(len(export)))
	msg = append(append(msg, export...), 0, 0) // no particular information is asked for
	if _, err := n.conn.Write(msg); err != nil {
		return err
	}
	known := false
	for {
		var reply struct {
			Magic             uint64
			Opt, Type, Length uint32
		}
		if err := binary.Read(n.in, binary.BigEndian, &reply); err != nil {
			return err
		}
		if reply.Magic != nbdReplyMagic || reply.Opt != nbdOptGo || reply.Length > maxNBDOption {
			return errors.New("its answer is none of NBD's")
		}
		data := make([]byte, reply.Length)
		if _, err := io.ReadFull(n.in, data); err != nil {
			return err
		}
		switch {
		case reply.Type == nbdRepAck && known:
			return nil
		case reply.Type&nbdRepError != 0:
			return fmt.Errorf("it refuses the export: %q", data[:min(len(data), 200)])
		case reply.Type == nbdRepInfo && len(data) == 12 && binary.BigEndian.Uint16(data) == nbdInfoExport:
			n.size, n.flags, known = int64(binary.BigEndian.Uint64(data[2:])), binary.BigEndian.Uint16(data[10:]), true
			if n.size < 0 {
				return errors.New("it tells an impossible size")
			}
		case reply.Type == nbdRepInfo:
		default:
			return errors.New("its answer is none of NBD's")
		}
	}
}

// read takes replies until the connection ends; it alone completes calls, so that
// no buffer is written after its call has returned.
func (n *NBD) read() {
	defer close(n.done)
	err := n.replies()
	n.conn.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = fmt.Errorf("the connection to the NBD server has ended: %w", err)
	for id, c := range n.calls {
		delete(n.calls, id)
		c.done <- n.err
	}
}

func (n *NBD) replies() error {
	for {
		var b [16]byte
		if _, err := io.ReadFull(n.in, b[:]); err != nil {
			return err
		}
		id := binary.BigEndian.Uint64(b[8:])
		n.mu.Lock()
		c := n.calls[id]
		n.mu.Unlock()
		if binary.BigEndian.Uint32(b[:]) != nbdSimpleReply || c == nil {
			return errors.New("a reply that nobody has asked for")
		}
		err := nbdError(binary.BigEndian.Uint32(b[4:]))
		if err == nil {
			for _, p := range c.fill {
				if _, err := io.ReadFull(n.in, p); err != nil {
					return err
				}
			}
		}
		n.mu.Lock()
		delete(n.calls, id)
		n.mu.Unlock()
		c.done <- err
	}
}

func nbdError(code uint32) error {
	switch code {
	case 0:
		return nil
	case nbdENOSPC:
		return fmt.Errorf("NBD: %w", syscall.ENOSPC)
	case nbdEOPNOTSUPP:
		return fmt.Errorf("NBD: %w", errors.ErrUnsupported)
	}
	return fmt.Errorf("the NBD server has failed with error %d", code)
}

// call sends a request and waits for its reply.
func (n *NBD) call(kind uint16, off int64, length uint32, data, fill [][]byte) error {
	c := &nbdCall{fill: fill, done: make(chan error, 1)}
	n.mu.Lock()
	if n.err != nil {
		n.mu.Unlock()
		return n.err
	}
	n.last++
	id := n.last
	n.calls[id] = c
	n.mu.Unlock()
	if err := n.send(kind, id, off, length, data); err != nil {
		n.conn.Close() // the reading goroutine tells everybody
	}
	return <-c.done
}

func (n *NBD) send(kind uint16, id uint64, off int64, length uint32, data [][]byte) error {
	var b [28]byte
	binary.BigEndian.PutUint32(b[0:], nbdRequest)
	binary.BigEndian.PutUint16(b[6:], kind)
	binary.BigEndian.PutUint64(b[8:], id)
	binary.BigEndian.PutUint64(b[16:], uint64(off))
	binary.BigEndian.PutUint32(b[24:], length)
	n.wmu.Lock()
	defer n.wmu.Unlock()
	if len(data) == 0 {
		_, err := n.conn.Write(b[:])
		return err
	}
	all := append(net.Buffers{b[:]}, data...)
	_, err := all.WriteTo(n.conn)
	return err
}

func total(bufs [][]byte) (n uint32) {
	for _, b := range bufs {
		n += uint32(len(b)) // transfers are a few MiB at most
	}
	return n
}

// Size is the export's size in bytes.
func (n *NBD) Size() int64 { return n.size }

// ReadV reads into bufs.
func (n *NBD) ReadV(bufs [][]byte, off int64) error {
	return n.call(nbdRead, off, total(bufs), nil, bufs)
}

// WriteV writes bufs.
func (n *NBD) WriteV(bufs [][]byte, off int64) error {
	return n.call(nbdWrite, off, total(bufs), bufs, nil)
}

// Flush flushes, unless the server has nothing to flush.
func (n *NBD) Flush() error {
	if n.flags&nbdCanFlush == 0 {
		return nil
	}
	return n.call(nbdFlush, 0, 0, nil, nil)
}

// Discard trims.
func (n *NBD) Discard(off, length int64) error {
	if n.flags&nbdCanTrim == 0 {
		return errors.ErrUnsupported
	}
	for length > 0 {
		some := min(length, maxNBDTrim)
		if err := n.call(nbdTrim, off, uint32(some), nil, nil); err != nil {
			return err
		}
		off, length = off+some, length-some
	}
	return nil
}

// Close says goodbye, if the server is still there. Calls that are under way fail.
func (n *NBD) Close() error {
	_ = n.send(nbdDisc, 0, 0, 0, nil)
	n.conn.Close()
	<-n.done
	return nil
}
