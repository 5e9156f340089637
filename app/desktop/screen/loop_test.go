package screen

import (
	"testing"
	"time"
)

// sleeper stands for the window library: a wait ends at a wake or after its time.
func sleeper() (p *pacer, slept chan time.Duration) {
	slept = make(chan time.Duration, 10)
	woken := make(chan struct{}, 10)
	return &pacer{running: true, hand: func(f func()) { f() }, wake: func() { woken <- struct{}{} }, wait: func(d time.Duration) {
		slept <- d
		select {
		case <-woken:
		case <-time.After(d):
		}
	}}, slept
}

func TestWorkEndsTheSleep(t *testing.T) {
	p, slept := sleeper()
	rests := func() bool { return true }
	done := make(chan bool, 1)
	go func() {
		<-slept
		p.add(func() { done <- true })
	}()
	p.turn(rests)
	select {
	case <-done:
	default:
		t.Fatal("the turn ended without the work that ended its sleep")
	}
	if !p.busy.IsZero() {
		t.Error("our own work is taken for input")
	}
}

func TestInputKeepsTheLoopQuick(t *testing.T) {
	p, slept := sleeper()
	rests := func() bool { return true }
	p.turn(rests)
	if d := <-slept; d != idleSleep {
		t.Errorf("an idle loop sleeps %v", d)
	}
	p.turn(rests)
	if d := <-slept; d != 2*idleSleep {
		t.Errorf("after an idle sleep the loop sleeps %v", d)
	}
	for p.busy.IsZero() { // again if the machine itself slept longer
		p.wake() // as input does
		p.turn(rests)
		<-slept
	}
	p.busy = time.Now().Add(time.Hour) // a moment that lasts
	p.turn(rests)
	if d := <-slept; d != busySleep {
		t.Errorf("after input the loop sleeps %v", d)
	}
}

func TestNoSleepOverWork(t *testing.T) {
	p, slept := sleeper()
	p.turn(func() bool { return false }) // Fyne has something to paint
	ran := 0
	p.add(func() {
		ran++
		p.add(func() { ran++ })
	})
	p.turn(func() bool { return true })
	p.turn(func() bool { return true })
	if ran != 2 || len(slept) != 0 {
		t.Errorf("%d pieces of work done, %d sleeps", ran, len(slept))
	}
}

func TestNoSleepOverOthersWork(t *testing.T) {
	p, slept := sleeper()
	rests := func() bool { return true }
	var queue []func()
	p.hand = func(f func()) { queue = append(queue, f) }
	p.turn(rests)
	<-slept
	p.turn(rests) // what was handed over is not done yet
	if len(slept) != 0 || len(queue) != 1 {
		t.Fatalf("the loop slept over a queue of %d", len(queue))
	}
	queue[0]()
	p.turn(rests)
	<-slept
	queue[1]()
	p.stirred = time.Now().Add(time.Hour)
	p.turn(rests)
	if len(slept) != 0 {
		t.Error("the loop slept after a stir")
	}
}

func TestWithoutALoopNothingIsTaken(t *testing.T) {
	if (&pacer{}).add(func() {}) {
		t.Error("work was taken that nobody does")
	}
	for _, d := range []any{nil, 1, struct{}{}, &struct{ animation int }{}} {
		if driverFields(d) != nil {
			t.Errorf("%T is taken for Fyne's driver", d)
		}
	}
}
