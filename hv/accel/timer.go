package accel

import "time"

// Timer calls one function when it is due. Its methods are called by one goroutine
// at a time, the function by another; a call that was on its way may come after Set
// or Stop, so the function looks whether it is meant.
type Timer interface {
	// Set has the function called once, when d has passed, in place of what was set.
	Set(d time.Duration)
	Stop()
	// Close ends the timer and does not wait; a call that was on its way may still
	// come.
	Close()
}

// NewTimer is a Timer made of Go's own, which may come a millisecond late, for back
// ends whose system has no better.
func NewTimer(f func()) Timer { return &goTimer{f: f} }

type goTimer struct {
	f func()
	t *time.Timer
}

func (g *goTimer) Set(d time.Duration) {
	if g.t == nil {
		g.t = time.AfterFunc(d, g.f)
		return
	}
	g.t.Reset(d)
}

func (g *goTimer) Stop() {
	if g.t != nil {
		g.t.Stop()
	}
}

func (g *goTimer) Close() { g.Stop() }
