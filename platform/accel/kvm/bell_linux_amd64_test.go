package kvm

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hxen-project/hxen/hv/accel"
)

// TestBell holds both kinds of bell to the port's word.
func TestBell(t *testing.T) {
	for name, newBell := range map[string]func(func()) accel.Bell{"eventfd": (*vm)(nil).NewBell, "Go": accel.NewBell} {
		t.Run(name, func(t *testing.T) {
			var asked, seen atomic.Int64
			came := make(chan struct{}, 1)
			bell := newBell(func() {
				seen.Store(asked.Load())
				select {
				case came <- struct{}{}:
				default:
				}
			})
			for i := range int64(1000) { // also before its goroutine has begun
				asked.Add(1)
				for bell.Ring(); seen.Load() <= i; {
					<-came
				}
			}
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range 1000 {
						asked.Add(1)
						bell.Ring()
					}
				})
			}
			all.Wait()
			for seen.Load() < 5000 {
				<-came
			}
			for range 4 { // who rings need not know that it is closed
				all.Go(func() {
					for range 1000 {
						bell.Ring()
					}
				})
			}
			bell.Close()
			all.Wait()
			bell.Close()
		})
	}
}

// TestBellCloseLocked: who closes a bell may hold what its function waits for.
func TestBellCloseLocked(t *testing.T) {
	var mu sync.Mutex
	waits := make(chan struct{})
	bell := (*vm)(nil).NewBell(func() {
		close(waits)
		mu.Lock()
		defer mu.Unlock()
	})
	mu.Lock()
	bell.Ring()
	<-waits
	bell.Close()
	mu.Unlock()
}
