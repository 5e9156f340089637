package kvm

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestTimer: a timer is due when it was last set for, once, and not when stopped.
func TestTimer(t *testing.T) {
	due := make(chan time.Time, 10)
	timer := (*vm)(nil).NewTimer(func() { due <- time.Now() })
	defer timer.Close()
	for range 3 { // also right after it was due
		began := time.Now()
		timer.Set(time.Hour)
		timer.Set(2 * time.Millisecond)
		if took := (<-due).Sub(began); took < 2*time.Millisecond {
			t.Errorf("due after %v", took)
		}
	}
	timer.Set(0)
	<-due
	timer.Set(50 * time.Millisecond)
	timer.Stop()
	timer.Set(time.Hour)
	other := (*vm)(nil).NewTimer(func() { due <- time.Time{} })
	other.Set(100 * time.Millisecond)
	if got := <-due; !got.IsZero() {
		t.Error("due although it was stopped")
	}
	other.Close()
	select {
	case <-due:
		t.Error("due twice")
	default:
	}
}

// TestTimerEarly: a timer may be due before its goroutine has begun.
func TestTimerEarly(t *testing.T) {
	for range 100 {
		due := make(chan struct{}, 2)
		procs := runtime.GOMAXPROCS(1)
		timer := (*vm)(nil).NewTimer(func() { due <- struct{}{} })
		timer.Set(1)
		for began := time.Now(); time.Since(began) < 50*time.Microsecond; {
		}
		runtime.GOMAXPROCS(procs)
		<-due
		timer.Close()
	}
}

// TestTimerCloseLocked: who closes a timer may hold what its function waits for.
func TestTimerCloseLocked(t *testing.T) {
	var mu sync.Mutex
	waits := make(chan struct{})
	timer := (*vm)(nil).NewTimer(func() {
		close(waits)
		mu.Lock()
		defer mu.Unlock()
	})
	mu.Lock()
	timer.Set(1)
	<-waits
	timer.Close()
	mu.Unlock()
}
