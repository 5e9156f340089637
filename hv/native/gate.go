package native

import "sync"

// gate is what every processor passes before it runs guest code, and where it
// stands still while the guest is paused.
type gate struct {
	mu     sync.Mutex
	cond   *sync.Cond
	closed bool           // guarded by mu; nobody may go in
	over   bool           // guarded by mu; nobody shall wait any more
	inside int            // guarded by mu; who runs guest code or waits as the guest asked
	asked  map[int]func() // guarded by mu; what processors that stand still shall do
}

func newGate(closed bool) *gate {
	g := &gate{closed: closed, asked: map[int]func(){}}
	g.cond = sync.NewCond(&g.mu)
	return g
}

// enter waits until the gate is open, or the machine's end. Meanwhile processor
// id does what it is asked to.
func (g *gate) enter(id int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.closed && !g.over {
		if f := g.asked[id]; f != nil {
			delete(g.asked, id)
			g.mu.Unlock()
			f()
			g.mu.Lock()
			continue
		}
		g.cond.Wait()
	}
	g.inside++
}

// ask has processor id do f on its thread, once, while it stands still.
func (g *gate) ask(id int, f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked[id] = f
	g.cond.Broadcast()
}

// close closes the gate and does not wait.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// leave is told by who has entered.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.cond.Broadcast()
}

// shut closes the gate, has kick call those out who are inside, and waits until
// they are. It reports whether the gate was open.
func (g *gate) shut(kick func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := !g.closed
	g.closed = true
	kick()
	for g.inside > 0 && g.closed && !g.over {
		g.cond.Wait()
	}
	return was
}

// open lets the processors go on. It reports whether the gate was closed.
func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.closed
	g.closed = false
	g.cond.Broadcast()
	return was
}

// held reports whether the guest is paused.
func (g *gate) held() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// end lets everybody through, to see that the machine is over.
func (g *gate) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	g.cond.Broadcast()
}
