package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// worker is a small supervised process.
type worker struct{}

func (w worker) Handle(ctx context.Context, verb string, params json.RawMessage) (any, error) {
	switch verb {
	case "echo":
		return params, nil
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	case VerbLaunch:
		return nil, &hv.StageError{Stage: "memory", Err: fmt.Errorf("8 GiB wanted, 4 GiB free"), Cure: "lower it"}
	}
	return nil, fmt.Errorf("verb %s: %w", verb, hv.ErrUnsupported)
}

func (w worker) OpenStream(_ context.Context, kind string) (io.ReadWriteCloser, error) {
	if kind != StreamVT100 {
		return nil, fmt.Errorf("no screen: %w", hv.ErrUnavailable)
	}
	a, b := net.Pipe()
	go func() { io.Copy(b, b) }()
	return a, nil
}

func serve(t *testing.T) (dial func() net.Conn, log *EventLog) {
	t.Helper()
	log = NewEventLog()
	s := &Server{Hello: Hello{Protocol: Protocol, Min: MinProtocol, Program: "test", UUID: "u"}, Handler: worker{}, Log: log}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	return func() net.Conn {
		a, b := net.Pipe()
		wg.Go(func() { s.ServeConn(ctx, b) })
		return a
	}, log
}

func TestCallsErrorsAndEvents(t *testing.T) {
	dial, log := serve(t)
	c, err := NewConn(dial(), "test", "1")
	if err != nil || c.Peer.UUID != "u" {
		t.Fatal(c, err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			var got int
			if err := c.Call(t.Context(), "echo", i, &got); err != nil || got != i {
				t.Errorf("echo %d: %d %v", i, got, err)
			}
		})
	}
	wg.Wait()

	err = c.Call(t.Context(), VerbLaunch, nil, nil)
	var e *Error
	if !errors.As(err, &e) || e.Stage != "memory" || e.Cure != "lower it" || !strings.Contains(err.Error(), "4 GiB free") {
		t.Errorf("a stage error lost its parts: %v", err)
	}
	if err := c.Call(t.Context(), "nonsense", nil, nil); !errors.Is(err, hv.ErrUnsupported) {
		t.Errorf("sentinel lost on the wire: %v", err)
	}

	log.Add(Event{Event: &hv.Event{Kind: hv.EventState, State: hv.Running}})
	ch, err := c.Subscribe(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	log.Add(Event{Progress: &Progress{Stage: "a"}})
	log.Add(Event{Exit: &Exit{Reason: hv.ExitPoweroff}})
	for e := range ch {
		if e.Exit != nil {
			if e.Seq != 3 {
				t.Errorf("exit has sequence %d", e.Seq)
			}
			break
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, "wait", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a cancelled call: %v", err)
	}
	c.Close()
	<-c.Done()
	if err := c.Call(t.Context(), "echo", 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a call on a closed connection: %v", err)
	}
}

func TestStream(t *testing.T) {
	dial, _ := serve(t)
	if _, err := DialStream(dial(), "t", "1", StreamRFB); !errors.Is(err, hv.ErrUnavailable) {
		t.Fatalf("a stream that is not there: %v", err)
	}
	s, err := DialStream(dial(), "t", "1", StreamVT100)
	if err != nil {
		t.Fatal(err)
	}
	go s.Write([]byte("hello\n{\"id\":9}\n"))
	buf := make([]byte, 15)
	if _, err := io.ReadFull(s, buf); err != nil || string(buf) != "hello\n{\"id\":9}\n" {
		t.Fatalf("%q %v", buf, err)
	}
	s.Close()
}

func TestVersionsAreNegotiated(t *testing.T) {
	a, b := net.Pipe()
	go func() {
		bufio.NewReader(b).ReadString('\n')
		fmt.Fprintln(b, `{"id":1,"result":{"protocol":9,"min":7,"program":"hxen-worker","version":"9.0"}}`)
	}()
	if _, err := NewConn(a, "hxen", "1"); err == nil || !strings.Contains(err.Error(), "update the older") {
		t.Fatalf("a peer from the future: %v", err)
	}
}

func TestEventLogKeepsOrderAndCoalescesProgress(t *testing.T) {
	l := NewEventLog()
	for range 1000 {
		l.Add(Event{Progress: &Progress{Stage: "copy"}})
	}
	l.Add(Event{Event: &hv.Event{Kind: hv.EventState}})
	got, _ := l.after(0)
	if len(got) != 2 || got[0].Seq != 1000 || got[1].Seq != 1001 {
		t.Fatalf("%+v", got)
	}
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte("{\"id\":1,\"verb\":\"hello\",\"params\":{}}\n{}\n"))
	f.Add([]byte("\n\n{\"event\":{\"seq\":1}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			if _, err := readMessage(r); err != nil {
				return
			}
		}
	})
}
