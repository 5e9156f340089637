package hostsvc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

// hang guards a test against waiting for ever.
const hang = 5 * time.Minute

// childEnv makes this test binary a service that says what happens to it.
// "finish": tidies up after the stop. "hang": never does.
const childEnv = "HXEN_HOSTSVC_TEST"

func TestMain(m *testing.M) {
	how := os.Getenv(childEnv)
	if how == "" {
		os.Exit(m.Run())
	}
	err := Run(context.Background(), "hxen-test", func(ctx context.Context) error {
		fmt.Println("started")
		<-ctx.Done()
		fmt.Println("stopping")
		if how == "hang" {
			time.Sleep(time.Hour)
		}
		// Run must wait for this line, and nothing tells it to but our return.
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			return err
		}
		fmt.Println("finished")
		return nil
	})
	fmt.Println("returned", err)
}

func TestRunReturnsWhatTheServiceReturns(t *testing.T) {
	boom := errors.New("boom")
	for _, want := range []error{nil, boom} {
		got := make(chan error)
		go func() {
			got <- Run(t.Context(), "hxen-test", func(context.Context) error { return want })
		}()
		select {
		case err := <-got:
			if !errors.Is(err, want) {
				t.Errorf("Run: %v, want %v", err, want)
			}
		case <-time.After(hang):
			t.Fatal("Run does not return")
		}
	}
}

func TestContextStopsTheService(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() {
		got <- Run(ctx, "hxen-test", func(ctx context.Context) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	select {
	case err := <-got:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(hang):
		t.Fatal("Run does not return")
	}
}

// The managers' calls, in the order that the Windows one makes them.
func TestStopWaitsForTheService(t *testing.T) {
	let := make(chan struct{})
	p := newProgram(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		<-let
		return nil
	})
	if err := p.Start(nil); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error)
	go func() { stopped <- p.Stop(nil) }()
	<-p.stopping
	select {
	case <-stopped:
		t.Fatal("Stop returned before the service had")
	default:
	}
	close(let)
	if err := <-stopped; err != nil || !p.ended() {
		t.Errorf("Stop: %v, ended %v", err, p.ended())
	}
}
