package qemu

import (
	"bufio"
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

	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"

	"github.com/hxen-project/hxen/hv/hvtest"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "x"}, "capabilities": ["oob"]}}` + "\r\n"

// fakeQEMU answers every command with what reply returns, after a greeting.
func fakeQEMU(t *testing.T, sink func(qmp.Event), reply func(execute, id string) string) (*Monitor, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	mon := NewMonitor(ours, sink)
	t.Cleanup(func() { _ = mon.Disconnect(); _ = theirs.Close() })
	go func() {
		_, _ = io.WriteString(theirs, greeting)
		r := bufio.NewReader(theirs)
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			var c struct{ Execute, ID string }
			if err := json.Unmarshal(line, &c); err != nil {
				t.Errorf("sent %q: %v", line, err)
				return
			}
			answer := fmt.Sprintf(`{"return": {}, "id": %q}`, c.ID)
			if c.Execute != "qmp_capabilities" {
				answer = reply(c.Execute, c.ID)
			}
			if _, err := io.WriteString(theirs, answer+"\r\n"); err != nil {
				return
			}
		}
	}()
	return mon, theirs
}

func opened(t *testing.T, mon *Monitor) {
	t.Helper()
	if err := mon.Connect(); err != nil {
		t.Fatal(err)
	}
}

func TestMonitorRefusal(t *testing.T) {
	mon, _ := fakeQEMU(t, nil, func(execute, id string) string {
		return fmt.Sprintf(`{"id": %q, "error": {"class": "DeviceNotFound", "desc": "no such thing"}}`, id)
	})
	opened(t, mon)
	err := mon.Do(t.Context(), "eject", nil, nil)
	var q *QMPError
	if !errors.As(err, &q) || q.Class != "DeviceNotFound" || q.Desc != "no such thing" || q.Command != "eject" {
		t.Fatalf("got %v", err)
	}
	// go-qemu's own types see it as well.
	if err := raw.NewMonitor(mon).Stop(); err == nil {
		t.Error("a refused stop looks done")
	}
}

func TestMonitorEventsBeforeReply(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	mon, _ := fakeQEMU(t, func(e qmp.Event) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, e.Event)
	}, func(execute, id string) string {
		return `{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}` + "\r\n" + fmt.Sprintf(`{"return": {}, "id": %q}`, id)
	})
	opened(t, mon)
	events, err := mon.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := mon.Do(t.Context(), "stop", nil, nil); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 1 || seen[0] != "STOP" {
		t.Errorf("the sink saw %v before the reply", seen)
	}
	if e := <-events; e.Event != "STOP" || e.Timestamp.Seconds != 1 {
		t.Errorf("got %+v", e)
	}
}

// TestMonitorSlowReader: who does not read events delays nobody, and finds the
// newest.
func TestMonitorSlowReader(t *testing.T) {
	mon, _ := fakeQEMU(t, nil, func(execute, id string) string {
		var b strings.Builder
		for i := range 3 * keepEvents {
			fmt.Fprintf(&b, `{"event": "E%d"}`+"\n", i)
		}
		fmt.Fprintf(&b, `{"return": {}, "id": %q}`, id)
		return b.String()
	})
	opened(t, mon)
	ctx, cancel := context.WithCancel(t.Context())
	events, err := mon.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := mon.Do(t.Context(), "x", nil, nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	last, n := "", 0
	for e := range events { // ends because ctx has
		last, n = e.Event, n+1
	}
	if want := fmt.Sprintf("E%d", 3*keepEvents-1); last != want || n != keepEvents {
		t.Errorf("kept %d events, the last %s; want %d to %s", n, last, keepEvents, want)
	}
}

func TestMonitorContext(t *testing.T) {
	block := make(chan struct{})
	mon, _ := fakeQEMU(t, nil, func(execute, id string) string {
		if execute == "slow" {
			<-block
		}
		return fmt.Sprintf(`{"return": {"of": %q}, "id": %q}`, execute, id)
	})
	opened(t, mon)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := mon.Do(ctx, "slow", nil, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	close(block)
	// The late reply to "slow" must not be taken for this one's.
	var got struct{ Of string }
	if err := mon.Do(t.Context(), "next", nil, &got); err != nil || got.Of != "next" {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestMonitorEnd(t *testing.T) {
	called := make(chan struct{})
	mon, theirs := fakeQEMU(t, nil, func(execute, id string) string {
		close(called)
		select {} // never answers
	})
	opened(t, mon)
	events, err := mon.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-called; theirs.Close() }()
	if err := mon.Do(t.Context(), "hang", nil, nil); !errors.Is(err, errClosed) {
		t.Errorf("a command in flight ended with %v", err)
	}
	if _, open := <-events; open {
		t.Error("the event stream goes on")
	}
	if err := mon.Do(t.Context(), "more", nil, nil); !errors.Is(err, errClosed) {
		t.Errorf("a command after the end: %v", err)
	}
	if _, err := mon.Events(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("events after the end: %v", err)
	}
	for range 2 {
		if err := mon.Disconnect(); err != nil {
			t.Error(err)
		}
	}
}

func TestMonitorNeverOpened(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	mon := NewMonitor(ours, nil)
	if err := mon.Disconnect(); err != nil {
		t.Fatal(err)
	}
	if _, err := mon.Open(t.Context()); !errors.Is(err, errClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestMonitorNoGreeting(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	mon := NewMonitor(ours, nil)
	defer mon.Disconnect()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := mon.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

// TestMonitorStorm has a real QEMU stop and go on while others ask for its
// schema, which is longer than go-qemu's own transport can take.
func TestMonitorStorm(t *testing.T) {
	l := newLab(t)
	m, err := New().Launch(t.Context(), l.spec(t), l.host)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	go func() {
		for range m.Events() {
		}
	}()
	mon := m.(*Machine).mon
	ctx, cancel := context.WithTimeout(t.Context(), hvtest.Guard)
	defer cancel()
	events, err := mon.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 250
	var work sync.WaitGroup
	work.Go(func() {
		r := raw.NewMonitor(mon.With(ctx))
		for range rounds {
			if err := errors.Join(r.Stop(), r.Cont()); err != nil {
				t.Error(err)
			}
		}
	})
	for range 3 {
		work.Go(func() {
			for i := range rounds {
				var v struct{ Status string }
				if err := mon.Do(ctx, "query-status", nil, &v); err != nil || v.Status == "" {
					t.Errorf("status %q, %v", v.Status, err)
				}
				if i%50 == 0 {
					var schema []json.RawMessage
					if err := mon.Do(ctx, "query-qmp-schema", nil, &schema); err != nil || len(schema) < 100 {
						t.Errorf("schema of %d, %v", len(schema), err)
					}
				}
			}
		})
	}
	stops, resumes := 0, 0
	for stops < rounds || resumes < rounds {
		select {
		case e := <-events:
			switch e.Event {
			case "STOP":
				stops++
			case "RESUME":
				resumes++
			}
		case <-ctx.Done():
			t.Fatalf("saw %d STOP and %d RESUME of %d", stops, resumes, rounds)
		}
	}
	work.Wait()
}

// FuzzDecode feeds the reading goroutine: it may end the connection, nothing else.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(greeting))
	f.Add([]byte(`{"return": {}, "id": "1"}` + "\r\n" + `{"event": "RESET", "data": {"guest": true}}` + "\n"))
	f.Add([]byte(`{"error": {"class": 1}, "id": ["1"]}` + "\n\n{"))
	f.Add([]byte(`{"event": "SHUTDOWN", "data": []}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		mon := NewMonitor(ours, func(e qmp.Event) {
			if e.Event == "" {
				t.Error("an event without a name")
			}
		})
		go func() {
			_, _ = theirs.Write(b)
			_ = theirs.Close()
		}()
		ctx, cancel := context.WithTimeout(context.Background(), hvtest.Guard)
		defer cancel()
		_, err := mon.Open(ctx)
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody is there, but Open says %v", err)
		}
		<-mon.Done()
	})
}

func TestReadLineBound(t *testing.T) {
	r := bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", 1000)+"\n"), 16)
	if _, err := readLine(r, 999); err == nil {
		t.Error("a line beyond the bound was read")
	}
}
