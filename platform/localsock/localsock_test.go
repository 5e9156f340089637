package localsock

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// hang guards a test against waiting for ever.
const hang = 5 * time.Minute

func withHang(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	t.Cleanup(cancel)
	return ctx
}

// serveEcho answers every line on every connection until the listener closes.
func serveEcho(t *testing.T, l net.Listener) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("accept: %v", err)
				}
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
}

func echo(t *testing.T, c net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatal(err)
	}
	got, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || got != line+"\n" {
		t.Fatalf("echo of %q: %q, %v", line, got, err)
	}
}

func TestManyClientsTalk(t *testing.T) {
	path := testPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, l)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			c, err := Dial(withHang(t), path)
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			defer c.Close()
			for range 50 {
				echo(t, c, "hello there")
			}
		})
	}
	wg.Wait()
}

func TestNobodyServes(t *testing.T) {
	_, err := Dial(withHang(t), testPath(t))
	if err == nil || !Absent(err) {
		t.Fatalf("dialled a path that nobody serves: %v", err)
	}
}

// TestGone: who writes to one that has hung up is told so.
func TestGone(t *testing.T) {
	path := testPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		if c, err := l.Accept(); err == nil {
			c.Close()
		}
	}()
	c, err := Dial(withHang(t), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-hungUp
	if _, err := c.Write([]byte("x")); !Gone(err) {
		t.Errorf("it is told as %v", err)
	}
	if Gone(nil) {
		t.Error("no error is told as one")
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	path := testPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, l)
	if l2, err := Listen(path); !errors.Is(err, ErrInUse) {
		if err == nil {
			l2.Close()
		}
		t.Fatalf("second Listen: %v, want ErrInUse", err)
	}
	c, err := Dial(withHang(t), path)
	if err != nil {
		t.Fatalf("the first server was harmed: %v", err)
	}
	defer c.Close()
	echo(t, c, "still here")
}

func TestServeAgainAfterClose(t *testing.T) {
	path := testPath(t)
	for range 3 {
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("Accept after Close: %v", err)
		}
	}
}

func TestCloseWakesAccept(t *testing.T) {
	l, err := Listen(testPath(t))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	l.Close()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Fatalf("Accept: %v", err)
		}
	case <-time.After(hang):
		t.Fatal("Accept still waits after Close")
	}
}

func pair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	path := testPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Errorf("accept: %v", err)
		}
		got <- c
	}()
	client, err = Dial(withHang(t), path)
	if err != nil {
		t.Fatal(err)
	}
	server = <-got
	if server == nil {
		t.FailNow()
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return server, client
}

func TestDeadlineAndClose(t *testing.T) {
	server, client := pair(t)
	if err := client.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := client.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read past the deadline: %v", err)
	}
	// net/http asks like this whether it was its own deadline.
	if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
		t.Fatalf("a deadline is told as %T: %v", err, err)
	}
	if err := client.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Write([]byte("bye")); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if b, err := io.ReadAll(client); err != nil || string(b) != "bye" {
		t.Fatalf("what was sent before the end: %q, %v", b, err)
	}
	done := make(chan error)
	server, client = pair(t)
	go func() {
		_, err := server.Read(make([]byte, 1))
		done <- err
	}()
	server.Close()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Fatalf("Read of a closed connection: %v", err)
		}
	case <-time.After(hang):
		t.Fatal("Read still waits after Close")
	}
	_ = client
}

func TestPeerIsThisProcess(t *testing.T) {
	server, client := pair(t)
	// A pipe's client is known once it has sent something.
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p, err := Peer(server)
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != os.Getpid() {
		t.Errorf("peer's process is %d, want %d", p.PID, os.Getpid())
	}
	if err := Allowed(p); err != nil {
		t.Errorf("this user itself: %v", err)
	}
	checkSelf(t, p)
	if p, err := Peer(struct{ net.Conn }{client}); err == nil || p.UID == 0 {
		t.Errorf("a foreign connection type gave %+v, %v", p, err)
	}
}

func TestZeroPeerIsNobody(t *testing.T) {
	if err := Allowed(PeerInfo{UID: -1, PID: -1}); !errors.Is(err, ErrNotAllowed) {
		t.Fatalf("an unknown peer: %v", err)
	}
}
