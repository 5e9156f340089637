package screen

import (
	"reflect"
	"sync"
	"time"

	"fyne.io/fyne/v2"
	"github.com/go-gl/glfw/v3.4/glfw"
)

// How long the loop may sleep when there is nothing to do: as long as Fyne
// itself while the user does something, then longer and longer. Input and Do end
// the sleep. What others hand to fyne.Do waits for its end, but once only: the
// loop does not sleep while Fyne has more of it.
const (
	busySleep = time.Second / 60
	idleSleep = time.Second / 2
	mostSleep = 4 * time.Second // Fyne looks after its caches every ten
	busyFor   = time.Second
)

// loop paces Fyne's. That one turns 60 times a second, looks for input and work
// only then, and costs as much CPU while nothing happens. An endless animation
// is called on each turn, before Fyne paints: there the work handed to Do is
// done, and where there is none, the window library is asked to wait for input.
// So input and pixels are served at once, and a still window costs next to
// nothing.
var loop = pacer{
	wait: func(d time.Duration) { glfw.WaitEventsTimeout(d.Seconds()) },
	wake: glfw.PostEmptyEvent,
	hand: fyne.Do,
}

type pacer struct {
	wait func(time.Duration) // until input, wake or the time has passed
	wake func()
	hand func(func()) // to Fyne's own queue

	// Of the loop's goroutine alone:
	busy    time.Time     // when there was input
	idle    time.Duration // the last sleep that nothing ended
	stirred time.Time     // when others were about to hand over work
	handed  bool          // a probe is in Fyne's queue, so all before it is, too

	mu       sync.Mutex
	running  bool     // guarded by mu: turn is called
	sleeping bool     // guarded by mu: in wait, or about to be
	todo     []func() // guarded by mu
}

// Pace makes Fyne's loop of a driver with real windows wait for input and for
// Do; others are left alone. To be called once, when the app has started.
func Pace() {
	d := driverFields(fyne.CurrentApp().Driver())
	if d == nil {
		return
	}
	loop.mu.Lock()
	loop.running = true
	loop.mu.Unlock()
	a := fyne.NewAnimation(time.Hour, func(float32) { loop.turn(d.rests) })
	a.RepeatCount = fyne.AnimationRepeatForever
	a.Start()
}

// Do is fyne.Do that does not wait for the loop's next beat.
func Do(f func()) {
	if !loop.add(f) {
		fyne.Do(f)
	}
}

// Stir keeps the loop awake for a moment, for a stream of work that others hand
// to fyne.Do. From any goroutine.
func Stir() { loop.add(func() { loop.stirred = time.Now() }) }

// add reports false where nobody would take f.
func (p *pacer) add(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running {
		return false
	}
	p.todo = append(p.todo, f)
	if p.sleeping {
		p.sleeping = false
		p.wake()
	}
	return true
}

// take returns the work there is; with none the loop counts as sleeping.
func (p *pacer) take(sleep bool) []func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	todo := p.todo
	p.todo = nil
	p.sleeping = sleep && len(todo) == 0
	return todo
}

// turn does what there is to do, waiting for it a while if Fyne rests, too.
func (p *pacer) turn(rests func() bool) {
	if p.run(p.take(false)) || p.handed || !rests() || time.Since(p.stirred) < busyFor {
		return
	}
	todo := p.take(true)
	if len(todo) == 0 {
		began, sleep := time.Now(), min(max(2*p.idle, idleSleep), mostSleep)
		if began.Sub(p.busy) < busyFor {
			sleep = busySleep
		}
		p.wait(sleep)
		todo, p.idle = p.take(false), 0
		switch now := time.Now(); {
		case len(todo) > 0:
		case now.Sub(began) < sleep:
			p.busy = now // input
		case sleep > busySleep:
			p.idle = sleep
		}
	}
	p.run(todo)
	p.handed = true
	p.hand(func() { p.handed = false })
}

func (p *pacer) run(todo []func()) bool {
	for _, f := range todo {
		f()
	}
	return len(todo) > 0
}

// watched are the fields of Fyne's driver that tell whether it has something to
// do. They are not exported; reflection may look at them. A test fails when Fyne
// renames them.
type watched struct{ running, pending, windows reflect.Value }

// driverFields returns nil for a driver without these fields.
func driverFields(d any) *watched {
	v := reflect.ValueOf(d)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil
	}
	runner, windows := v.Elem().FieldByName("animation"), v.Elem().FieldByName("windows")
	if runner.Kind() != reflect.Struct || windows.Kind() != reflect.Slice {
		return nil
	}
	w := &watched{runner.FieldByName("animations"), runner.FieldByName("pendingAnimations"), windows}
	if w.running.Kind() != reflect.Slice || w.pending.Kind() != reflect.Slice {
		return nil
	}
	return w
}

// rests reports whether no animation runs but the pacer's own, and no window is
// to be painted.
func (w *watched) rests() bool {
	if w.running.Len() > 1 || w.pending.Len() > 0 {
		return false
	}
	for i := range w.windows.Len() {
		if dirty(w.windows.Index(i)) {
			return false
		}
	}
	return true
}

// dirty reports whether a window is to be painted, and true where that cannot
// be seen. A hidden one stays unpainted.
func dirty(window reflect.Value) bool {
	w := reflect.Indirect(window.Elem())
	visible, canvas := w.FieldByName("visible"), w.FieldByName("canvas")
	if !visible.IsValid() || !canvas.IsValid() || canvas.IsNil() {
		return true
	}
	d := reflect.Indirect(canvas).FieldByName("dirty")
	return !d.IsValid() || visible.Bool() && d.Bool()
}
