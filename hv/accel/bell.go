package accel

import "sync"

// Bell has one function called on a goroutine of its own whenever it was rung.
type Bell interface {
	// Ring does not wait, and may be called by any goroutine, also after Close. Several
	// rings may come to one call, which begins after the last of them.
	Ring()
	// Close ends the bell and does not wait; a call that was on its way may still
	// come. It may be called more than once.
	Close()
}

// NewBell is a Bell made of Go's own means, for back ends whose system has no better:
// the thread that rings may be slow to hand its goroutine over.
func NewBell(f func()) Bell {
	b := &goBell{rung: make(chan struct{}, 1), closed: make(chan struct{})}
	go func() {
		for {
			select {
			case <-b.rung:
				f()
			case <-b.closed:
				return
			}
		}
	}()
	return b
}

type goBell struct {
	rung   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (b *goBell) Ring() {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

func (b *goBell) Close() { b.once.Do(func() { close(b.closed) }) }
