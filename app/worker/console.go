package worker

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
)

// Bounds of the serial line: what a client that attaches sees of the past, what
// a slow client may lag behind before it is dropped, and the log on disk (two
// files of this size).
const (
	scrollback = 64 << 10
	clientLag  = 256 << 10
	logSize    = 1 << 20
)

// console is the guest's serial line, shared by any number of clients. Reading
// never stops, so a guest never blocks on a console that nobody looks at.
type console struct {
	line io.ReadWriter
	log  *slog.Logger

	mu      sync.Mutex // guards the fields below
	past    []byte
	clients map[*consoleClient]struct{}
	closed  bool
}

// consoleClient is one attached reader and writer.
type consoleClient struct {
	c      *console
	mu     sync.Mutex // guards buf and closed
	wake   *sync.Cond
	buf    []byte
	closed bool
}

func newConsole(line io.ReadWriter, logFile string, log *slog.Logger) *console {
	c := &console{line: line, log: log, clients: map[*consoleClient]struct{}{}}
	go c.pump(logFile)
	return c
}

func (c *console) pump(logFile string) {
	out := &rotatingFile{path: logFile}
	defer out.close()
	buf := make([]byte, 4096)
	for {
		n, err := c.line.Read(buf)
		if n > 0 {
			c.spread(buf[:n])
			if werr := out.write(buf[:n]); werr != nil {
				c.log.Warn("write the console's log", "err", werr)
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				c.log.Debug("the serial line ended", "err", err)
			}
			c.close()
			return
		}
	}
}

func (c *console) spread(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.past = append(c.past, b...)
	if len(c.past) > scrollback {
		c.past = append(c.past[:0], c.past[len(c.past)-scrollback:]...)
	}
	for cl := range c.clients {
		if !cl.push(b) {
			delete(c.clients, cl)
		}
	}
}

// attach returns a client that first reads the past.
func (c *console) attach() io.ReadWriteCloser {
	cl := &consoleClient{c: c}
	cl.wake = sync.NewCond(&cl.mu)
	c.mu.Lock()
	defer c.mu.Unlock()
	cl.buf = append(cl.buf, c.past...)
	cl.closed = c.closed
	if !c.closed {
		c.clients[cl] = struct{}{}
	}
	return cl
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for cl := range c.clients {
		cl.end()
		delete(c.clients, cl)
	}
}

// push gives b to the client; false means that it lags too far and was dropped.
func (cl *consoleClient) push(b []byte) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if len(cl.buf)+len(b) > clientLag {
		cl.closed = true
	} else {
		cl.buf = append(cl.buf, b...)
	}
	cl.wake.Broadcast()
	return !cl.closed
}

func (cl *consoleClient) end() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.closed = true
	cl.wake.Broadcast()
}

// Read returns what the guest wrote; io.EOF after the end.
func (cl *consoleClient) Read(p []byte) (int, error) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for len(cl.buf) == 0 {
		if cl.closed {
			return 0, io.EOF
		}
		cl.wake.Wait()
	}
	n := copy(p, cl.buf)
	cl.buf = cl.buf[n:]
	if len(cl.buf) == 0 {
		cl.buf = nil
	}
	return n, nil
}

// Write types into the guest's serial line.
func (cl *consoleClient) Write(p []byte) (int, error) { return cl.c.line.Write(p) }

// Close detaches the client.
func (cl *consoleClient) Close() error {
	cl.c.mu.Lock()
	delete(cl.c.clients, cl)
	cl.c.mu.Unlock()
	cl.end()
	return nil
}

// rotatingFile appends to a file and keeps one older file when it grows past
// logSize.
type rotatingFile struct {
	path string
	f    *os.File
	size int64
}

func (r *rotatingFile) write(b []byte) error {
	if r.f == nil {
		f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		st, err := f.Stat()
		if err != nil {
			f.Close()
			return err
		}
		r.f, r.size = f, st.Size()
	}
	n, err := r.f.Write(b)
	r.size += int64(n)
	if err == nil && r.size > logSize {
		r.close()
		err = os.Rename(r.path, r.path+".1")
	}
	return err
}

func (r *rotatingFile) close() {
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}
