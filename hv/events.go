package hv

import "sync"

// maxEvents bounds events that nobody reads yet. Only state events, which a guest
// cannot cause at will, go beyond it.
const maxEvents = 1024

// EventQueue hands a machine's events on without ever blocking who puts them.
type EventQueue struct {
	out      chan Event
	wake     chan struct{} // has room for one
	drop     chan struct{} // closed by Abandon
	finished chan struct{} // closed after out
	once     sync.Once

	mu     sync.Mutex
	items  []Event // guarded by mu
	closed bool    // guarded by mu
}

// NewEventQueue makes a queue. Close or Abandon ends it.
func NewEventQueue() *EventQueue {
	q := &EventQueue{
		out: make(chan Event), wake: make(chan struct{}, 1),
		drop: make(chan struct{}), finished: make(chan struct{}),
	}
	go q.run()
	return q
}

// Out is where the events come out; it is closed after the last.
func (q *EventQueue) Out() <-chan Event { return q.out }

// Put adds an event. One like the last is dropped, and so are all but state
// events once too many wait.
func (q *EventQueue) Put(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.items); e.Kind != EventState && n > 0 && (n >= maxEvents || q.items[n-1] == e) {
		return
	}
	q.items = append(q.items, e)
	q.poke()
}

func (q *EventQueue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Close has Out closed after the last event, and waits until they are read.
func (q *EventQueue) Close() {
	q.mu.Lock()
	q.closed = true
	q.poke()
	q.mu.Unlock()
	<-q.finished
}

// Abandon has the rest dropped.
func (q *EventQueue) Abandon() { q.once.Do(func() { close(q.drop) }) }

func (q *EventQueue) run() {
	defer close(q.finished)
	defer close(q.out)
	for {
		q.mu.Lock()
		items, closed := q.items, q.closed
		q.items = nil
		q.mu.Unlock()
		for _, e := range items {
			select {
			case q.out <- e:
			case <-q.drop:
				return
			}
		}
		if closed {
			return
		}
		select {
		case <-q.wake:
		case <-q.drop:
			return
		}
	}
}
