package model

import (
	"context"
	"errors"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// Connection is how the library stands to the service.
type Connection int

const (
	Connecting Connection = iota // first attempt
	Online
	Lost   // was online, trying again by itself
	Failed // never was; trying again by itself
)

// What says which part of the library changed.
type What uint8

const (
	ChangedList  What = 1 << iota // the guests shown, or their order
	ChangedVM                     // some shown guests: see News.VMs
	ChangedTasks                  // Tasks
	ChangedConn                   // State, Err
	ChangedHost                   // Host
)

// News tells listeners what changed.
type News struct {
	What What
	VMs  map[api.Ref]bool
	Over []*Task // tasks that have ended
}

// Touches reports whether the guest vm changed.
func (n News) Touches(vm api.Ref) bool { return n.What&ChangedList != 0 || n.VMs[vm] }

func (n *News) touch(vm api.Ref) {
	n.What |= ChangedVM
	n.VMs[vm] = true
}

// Library holds every guest of the service and keeps itself up to date. All of
// it belongs to the loop; only inbox is shared with the watching goroutine.
type Library struct {
	svc  Service
	loop func(func())

	vms    map[api.Ref]*VM
	cache  objects
	shown  []*VM
	filter string
	state  Connection
	err    error
	host   *api.HostInfo
	tasks  []*Task

	listeners map[int]func(News)
	nextID    int
	retry     chan struct{}
	inbox     inbox
}

// objects are the records that guests refer to.
type objects struct {
	metrics map[api.Ref]*api.VMMetrics
	guest   map[api.Ref]*api.VMGuestMetrics
	vbds    map[api.Ref]*api.VBD
	vdis    map[api.Ref]*api.VDI
	vifs    map[api.Ref]*api.VIF
}

// inbox joins batches that arrive faster than the loop turns, so that at most
// one call is outstanding there.
type inbox struct {
	mu      sync.Mutex
	pending []Batch // mu
	asked   bool    // mu: the loop will call drain
}

// NewLibrary makes a library over svc whose changes are delivered by loop: a
// function that runs its argument, later or now, on the goroutine that owns the
// views. Run fills it.
func NewLibrary(svc Service, loop func(func())) *Library {
	l := &Library{svc: svc, loop: loop, listeners: map[int]func(News){}, retry: make(chan struct{}, 1)}
	l.reset()
	return l
}

func (l *Library) reset() {
	l.vms = map[api.Ref]*VM{}
	l.cache = objects{
		metrics: map[api.Ref]*api.VMMetrics{}, guest: map[api.Ref]*api.VMGuestMetrics{},
		vbds: map[api.Ref]*api.VBD{}, vdis: map[api.Ref]*api.VDI{}, vifs: map[api.Ref]*api.VIF{},
	}
	l.tasks = nil
}

// Service is the port the library was made over.
func (l *Library) Service() Service { return l.svc }

// Loop runs f on the loop that owns the library. Any goroutine may call it.
func (l *Library) Loop(f func()) { l.loop(f) }

// Listen calls f on the loop after every change, until the returned function is
// called.
func (l *Library) Listen(f func(News)) (stop func()) {
	id := l.nextID
	l.nextID++
	l.listeners[id] = f
	return func() { delete(l.listeners, id) }
}

func (l *Library) tell(n News) {
	if n.What == 0 {
		return
	}
	ids := make([]int, 0, len(l.listeners))
	for id := range l.listeners {
		ids = append(ids, id)
	}
	sort.Ints(ids)
	for _, id := range ids {
		if f := l.listeners[id]; f != nil {
			f(n)
		}
	}
}

// retryFirst and retryMost bound the wait between attempts to connect. Runs
// that were online start again at retryFirst.
const (
	retryFirst = 250 * time.Millisecond
	retryMost  = 10 * time.Second
)

// Run watches the service until ctx ends, connecting again whenever the
// connection drops. It runs on a goroutine of its own.
func (l *Library) Run(ctx context.Context) {
	wait := retryFirst
	for ctx.Err() == nil {
		online := false
		err := l.svc.Watch(ctx, func(b Batch) {
			if !online {
				online = true
				wait = retryFirst
				l.loop(func() { l.connected(ctx) })
			}
			l.deliver(b)
		})
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the service closed the connection")
		}
		l.loop(func() { l.dropped(err) })
		select {
		case <-ctx.Done():
		case <-l.retry:
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMost)
	}
}

// Retry ends the wait before the next attempt to connect.
func (l *Library) Retry() {
	select {
	case l.retry <- struct{}{}:
	default:
	}
}

func (l *Library) connected(ctx context.Context) {
	l.state, l.err = Online, nil
	l.tell(News{What: ChangedConn})
	go l.RefreshHost(ctx)
}

func (l *Library) dropped(err error) {
	if l.state == Online || l.state == Lost {
		l.state = Lost
	} else {
		l.state = Failed
	}
	l.err = err
	l.tell(News{What: ChangedConn})
}

// RefreshHost asks the service again what the host can give. It blocks; any
// goroutine but the loop's may call it.
func (l *Library) RefreshHost(ctx context.Context) {
	h, err := l.svc.Host(ctx)
	if err != nil {
		return // the connection's own state says why
	}
	l.loop(func() {
		l.host = &h
		l.tell(News{What: ChangedHost})
	})
}

func (l *Library) deliver(b Batch) {
	l.inbox.mu.Lock()
	l.inbox.pending = append(l.inbox.pending, b)
	ask := !l.inbox.asked
	l.inbox.asked = true
	l.inbox.mu.Unlock()
	if ask {
		l.loop(l.drain)
	}
}

func (l *Library) drain() {
	l.inbox.mu.Lock()
	batches := l.inbox.pending
	l.inbox.pending, l.inbox.asked = nil, false
	l.inbox.mu.Unlock()
	l.apply(batches)
}

// apply takes batches in and tells the listeners once.
func (l *Library) apply(batches []Batch) {
	n := News{VMs: map[api.Ref]bool{}}
	for _, b := range batches {
		if b.Full {
			l.forget(b, &n)
		}
		for _, c := range b.Changes {
			l.take(c, &n)
		}
	}
	if n.What&ChangedList != 0 {
		l.arrange()
	}
	l.tell(n)
}

// forget drops what a full batch does not hold, keeping the *VM of those that
// stay, so that views keep theirs.
func (l *Library) forget(b Batch, n *News) {
	old := l.vms
	l.reset()
	for _, c := range b.Changes {
		if vm, ok := old[c.Ref]; ok && !c.Gone {
			l.vms[c.Ref] = vm
		}
	}
	for ref, vm := range old {
		if l.vms[ref] == nil {
			vm.gone = true
		}
	}
	n.What |= ChangedList | ChangedVM | ChangedTasks
}

func (l *Library) take(c Change, n *News) {
	if c.Gone {
		l.remove(c.Ref, n)
		return
	}
	switch r := c.Record.(type) {
	case *api.VM:
		if r.IsATemplate || r.IsControlDomain || r.IsASnapshot {
			return
		}
		vm := l.vms[c.Ref]
		if vm == nil {
			vm = &VM{Ref: c.Ref, lib: l}
			l.vms[c.Ref] = vm
			n.What |= ChangedList
		} else if vm.Record.NameLabel != r.NameLabel {
			n.What |= ChangedList
		}
		vm.Record = *r
		vm.Revision++
		n.touch(c.Ref)
	case *api.VMMetrics:
		l.cache.metrics[c.Ref] = r
		l.touchWhere(n, func(vm *VM) bool { return vm.Record.Metrics == c.Ref })
	case *api.VMGuestMetrics:
		l.cache.guest[c.Ref] = r
		l.touchWhere(n, func(vm *VM) bool { return vm.Record.GuestMetrics == c.Ref })
	case *api.VBD:
		l.cache.vbds[c.Ref] = r
		n.touch(r.VM)
	case *api.VDI:
		l.cache.vdis[c.Ref] = r
		for _, b := range l.cache.vbds {
			if b.VDI == c.Ref {
				n.touch(b.VM)
			}
		}
	case *api.VIF:
		l.cache.vifs[c.Ref] = r
		n.touch(r.VM)
	case *api.Task:
		if t := l.takeTask(c.Ref, r); t != nil {
			n.Over = append(n.Over, t)
		}
		n.What |= ChangedTasks
	}
}

func (l *Library) touchWhere(n *News, is func(*VM) bool) {
	for ref, vm := range l.vms {
		if is(vm) {
			n.touch(ref)
		}
	}
}

func (l *Library) remove(ref api.Ref, n *News) {
	if vm, ok := l.vms[ref]; ok {
		vm.gone = true
		delete(l.vms, ref)
		n.What |= ChangedList
		return
	}
	if r := l.cache.vbds[ref]; r != nil {
		n.touch(r.VM)
	}
	if r := l.cache.vifs[ref]; r != nil {
		n.touch(r.VM)
	}
	delete(l.cache.metrics, ref)
	delete(l.cache.guest, ref)
	delete(l.cache.vbds, ref)
	delete(l.cache.vdis, ref)
	delete(l.cache.vifs, ref)
	if l.dropTask(ref) {
		n.What |= ChangedTasks
	}
}

// arrange rebuilds the list of guests shown: those that match the search, by
// name as a person sorts (case ignored, equal names by reference).
func (l *Library) arrange() {
	words := strings.Fields(strings.ToLower(l.filter))
	l.shown = l.shown[:0]
	for _, vm := range l.vms {
		if vm.matches(words) {
			l.shown = append(l.shown, vm)
		}
	}
	sort.Slice(l.shown, func(i, j int) bool {
		a, b := strings.ToLower(l.shown[i].Name()), strings.ToLower(l.shown[j].Name())
		if a != b {
			return a < b
		}
		return l.shown[i].Ref < l.shown[j].Ref
	})
}

// Search shows only guests whose name, description, state, engine or address
// hold every word of text.
func (l *Library) Search(text string) {
	if text == l.filter {
		return
	}
	l.filter = text
	l.arrange()
	l.tell(News{What: ChangedList})
}

// VMs are the guests shown, sorted. The slice is the library's: do not keep it.
func (l *Library) VMs() []*VM { return l.shown }

// Count is the number of guests, shown or not.
func (l *Library) Count() int { return len(l.vms) }

// Find returns the guest with this reference, uuid or (exactly once) name.
func (l *Library) Find(s string) *VM {
	if vm := l.vms[api.Ref(s)]; vm != nil {
		return vm
	}
	if vm := l.vms[api.RefOf(s)]; vm != nil {
		return vm
	}
	var found *VM
	for _, vm := range l.vms {
		if vm.Name() == s {
			if found != nil {
				return nil
			}
			found = vm
		}
	}
	return found
}

// State tells how the library stands to the service, and why if not Online.
func (l *Library) State() (Connection, error) { return l.state, l.err }

// Host is what the host can give; nil until the service told.
func (l *Library) Host() *api.HostInfo { return l.host }
