package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// child is a QEMU that runs or ran.
type child struct {
	proc   hv.Process
	host   hv.Host
	stderr *tail
	done   chan struct{}
	code   int   // valid after done
	err    error // valid after done
}

func startChild(h hv.Host, c hv.Command) (*child, error) {
	ch := &child{host: h, stderr: &tail{}, done: make(chan struct{})}
	c.Stdout, c.Stderr = ch.stderr, ch.stderr
	p, err := h.Start(c)
	if err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	ch.proc = p
	go func() {
		ch.code, ch.err = p.Wait()
		close(ch.done)
	}()
	return ch, nil
}

// kill ends QEMU and waits for its end.
func (c *child) kill() {
	select {
	case <-c.done:
		return
	default:
	}
	if err := c.proc.Kill(); err == nil || errors.Is(err, os.ErrProcessDone) {
		<-c.done
	}
}

// accept waits for QEMU to connect to l, for QEMU's end, or for ctx. Who else
// connects is sent away.
func (c *child) accept(ctx context.Context, l plug) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	got := make(chan result, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err == nil {
				if verr := verify(conn, c.proc.PID(), c.host); verr != nil {
					c.host.Log.Warn("a connection in the place of QEMU's was refused", "err", verr)
					_ = conn.Close()
					continue
				}
			}
			got <- result{conn, err}
			return
		}
	}()
	select {
	case r := <-got:
		return r.conn, r.err
	case <-c.done:
	case <-ctx.Done():
	}
	_ = l.SetDeadline(time.Unix(1, 0)) // ends Accept
	if r := <-got; r.conn != nil {
		_ = r.conn.Close()
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("wait for QEMU to connect: %w", err)
	}
	return nil, c.failure()
}

// exitGrace is how long a broken connection waits for the end of QEMU that
// explains it.
const exitGrace = 2 * time.Second

// because replaces a broken connection by the reason that QEMU gave.
func (c *child) because(err error) error {
	if !errors.Is(err, errClosed) {
		return err
	}
	t := time.NewTimer(exitGrace)
	defer t.Stop()
	select {
	case <-c.done:
		return c.failure()
	case <-t.C:
		return err
	}
}

// tailSize is how much of QEMU's last words is kept.
const tailSize = 64 << 10

// tail is a writer that keeps the end of what is written. It is safe for
// concurrent use.
type tail struct {
	mu  sync.Mutex
	buf []byte // guarded by mu
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
