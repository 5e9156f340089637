package xen

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// fakeVCPU writes down what Xen does to a vCPU.
type fakeVCPU struct {
	mu      sync.Mutex
	raised  []uint8
	withEOI []bool
	woken   int
}

func (v *fakeVCPU) Raise(vector uint8, eoi bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.raised, v.withEOI = append(v.raised, vector), append(v.withEOI, eoi)
	return nil
}

func (v *fakeVCPU) Wake() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.woken++
}

// lab is a domain whose TSC and timers are a test's to move.
type lab struct {
	testing.TB
	*Domain
	mem      *guestmem.Memory
	cpus     []*fakeVCPU
	long     bool
	tsc      uint64
	timers   []*fakeTimer
	console  []byte
	shutdown []uint32
}

// fakeTimer is due when the lab's TSC has reached at.
// directBell calls its function at once.
type directBell func()

func (b directBell) Ring()  { b() }
func (b directBell) Close() {}

type fakeTimer struct {
	l   *lab
	at  uint64
	f   func()
	set bool
}

func (t *fakeTimer) Set(d time.Duration) { t.at, t.set = t.l.tsc+uint64(d), true }
func (t *fakeTimer) Stop()               { t.set = false }
func (t *fakeTimer) Close()              { t.set = false }

// set is how many timers run.
func (l *lab) set() (n int) {
	for _, t := range l.timers {
		if t.set {
			n++
		}
	}
	return n
}

const (
	hz      = 1_000_000_000 // one tick a nanosecond
	ramSize = 1 << 20
	buf     = 0x20000 // where calls put their structures
	shared  = 0x10    // gfn
)

// grown is what every lab grows by; nothing relies on its being zero.
var grown = sync.OnceValue(func() []byte { return guestmem.Host(guestmem.GrowSize / guestmem.PageSize) })

func newLab(t testing.TB, vcpus int, long bool) *lab {
	t.Helper()
	l := &lab{TB: t, long: long, tsc: 5000}
	l.mem = guestmem.New(guestmem.Config{MaxGrown: 1, Grow: func(uint64) ([]byte, error) { return grown(), nil }})
	if err := l.mem.Add(0, guestmem.Host(ramSize/guestmem.PageSize)); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Domid: 1, Memory: l.mem, TSCHz: hz, RAMPages: ramSize / guestmem.PageSize, StorePFN: 0xfc020, ConsolePFN: 0xfc021,
		E820:      []xenabi.MemmapEntry{{Size: ramSize, Type: 1}, {Addr: 0xfc000000, Size: 0x10000, Type: 3}},
		TSC:       func() uint64 { return l.tsc },
		Wallclock: func() time.Time { return time.Unix(1<<32+7, 9) },
		NewTimer: func(f func()) accel.Timer {
			ft := &fakeTimer{l: l, f: f}
			l.timers = append(l.timers, ft)
			return ft
		},
		NewBell:  func(f func()) accel.Bell { return directBell(f) },
		Console:  func(b []byte) { l.console = append(l.console, b...) },
		Shutdown: func(r uint32) { l.shutdown = append(l.shutdown, r) },
		Discard:  func(gpa, n uint64) error { return l.mem.Write(gpa, make([]byte, n)) },
	}
	for range vcpus {
		v := &fakeVCPU{}
		l.cpus, cfg.VCPUs = append(l.cpus, v), append(cfg.VCPUs, v)
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.Domain = d
	return l
}

// advance moves the guest's TSC and lets the timers that are due expire.
func (l *lab) advance(ns uint64) {
	l.tsc += ns
	for i := 0; i < len(l.timers); i++ {
		if t := l.timers[i]; t.set && t.at <= l.tsc {
			t.set = false
			t.f()
		}
	}
}

func noPaging() (guestmem.Paging, error) { return guestmem.Paging{}, nil }

func (l *lab) on(vcpu int, nr uint64, args ...uint64) (int64, Action) {
	c := &Call{VCPU: vcpu, Nr: nr, Long: l.long, Paging: noPaging}
	copy(c.Args[:], args)
	a := l.Hypercall(c)
	if !l.long {
		c.Result = int64(int32(c.Result))
	}
	return c.Result, a
}

// call puts a structure into the guest and calls with its address as last
// argument; the structure is read back.
func call[T any](l *lab, vcpu int, s *T, nr uint64, args ...uint64) int64 {
	l.Helper()
	if err := l.mem.Write(buf, xenabi.Bytes(s)); err != nil {
		l.Fatal(err)
	}
	r, _ := l.on(vcpu, nr, append(args, buf)...)
	if err := l.mem.Read(buf, xenabi.Bytes(s)); err != nil {
		l.Fatal(err)
	}
	return r
}

func (l *lab) want(what string, got, want int64) {
	l.Helper()
	if got != want {
		l.Fatalf("%s: %d, want %d", what, got, want)
	}
}

func (l *lab) word(gpa uint64) uint64 {
	l.Helper()
	w, err := l.mem.Load64(gpa)
	if err != nil {
		l.Fatal(err)
	}
	return w
}

func (l *lab) mapShared() {
	l.Helper()
	if l.long {
		l.want("map shared_info", call(l, 0, &xenabi.AddToPhysmap{Domid: xenabi.DOMID_SELF, Gpfn: shared}, xenabi.HYPERVISOR_memory_op, 7), 0)
	} else {
		l.want("map shared_info", call(l, 0, &xenabi.AddToPhysmap32{Domid: xenabi.DOMID_SELF, Gpfn: shared}, xenabi.HYPERVISOR_memory_op, 7), 0)
	}
}

func (l *lab) setVector(vcpu int, vector uint8) {
	l.Helper()
	l.want("set vector", call(l, 0, &xenabi.HVMEvtchnUpcallVector{VCPU: uint32(vcpu), Vector: vector}, xenabi.HYPERVISOR_hvm_op, 23), 0)
}

func (l *lab) bindVIRQ(vcpu int, virq uint32) uint32 {
	l.Helper()
	a := xenabi.EvtchnBindVIRQ{VIRQ: virq, VCPU: uint32(vcpu)}
	l.want("bind virq", call(l, vcpu, &a, xenabi.HYPERVISOR_event_channel_op, 1), 0)
	return a.Port
}

func (l *lab) alloc() uint32 {
	l.Helper()
	a := xenabi.EvtchnAllocUnbound{Dom: xenabi.DOMID_SELF}
	l.want("alloc unbound", call(l, 0, &a, xenabi.HYPERVISOR_event_channel_op, 6), 0)
	return a.Port
}

// takeUpcall does what a guest's handler does: it clears upcall_pending, takes
// the selector and the pending events that are not masked.
func (l *lab) takeUpcall(info uint64) (ports []int) {
	l.Helper()
	p, err := l.mem.Page(info >> 12)
	if err != nil {
		l.Fatal(err)
	}
	sh, _ := l.mem.Page(shared)
	off := int(info & 0xfff)
	_, _ = p.And64(off, ^uint64(0xff))
	_, _ = p.And64(off+8, 0)
	for w := range 64 {
		mask, _ := sh.Load64(2560 + w*8)
		pend, _ := sh.And64(2048+w*8, mask)
		for b := range 64 {
			if pend&^mask>>b&1 != 0 {
				ports = append(ports, w*64+b)
			}
		}
	}
	return ports
}

// TestLinuxTrace is Linux 6.x's order of first use.
func TestLinuxTrace(t *testing.T) {
	l := newLab(t, 2, true)
	f := xenabi.FeatureInfo{Submap: 0xffff}
	l.want("get_features", call(l, 0, &f, xenabi.HYPERVISOR_xen_version, 6), 0)
	if f.Submap != 0x31d {
		t.Errorf("features %#x", f.Submap)
	}
	l.mapShared()
	if sec, hi := l.word(shared<<12+3072)>>32, l.word(shared<<12+3080)>>32; sec != 7 || hi != 1 {
		t.Errorf("wall clock %d, high half %d", sec, hi)
	}
	if mul := l.word(shared<<12+32+24) & 0xffffffff; mul == 0 {
		t.Error("no pvclock right after the page was mapped")
	}
	l.want("pagetable_dying", call(l, 0, &xenabi.HVMParam{}, xenabi.HYPERVISOR_hvm_op, 9), -38)
	v, _ := l.on(0, xenabi.HYPERVISOR_xen_version, 0)
	l.want("version", v, 4<<16|17)
	for vcpu := range 2 {
		info := xenabi.RegisterVCPUInfo{MFN: 0x30 + uint64(vcpu), Offset: 0x40}
		l.want("register vcpu_info", call(l, vcpu, &info, xenabi.HYPERVISOR_vcpu_op, 10, uint64(vcpu)), 0)
		l.want("register it again", call(l, vcpu, &info, xenabi.HYPERVISOR_vcpu_op, 10, uint64(vcpu)), -22)
	}
	l.want("init_control", call(l, 0, &xenabi.EvtchnInitControl{ControlGFN: 0x40}, xenabi.HYPERVISOR_event_channel_op, 11), -38)
	l.want("init_control with a bad offset", call(l, 0, &xenabi.EvtchnInitControl{Offset: 4089}, xenabi.HYPERVISOR_event_channel_op, 11), -22)
	for _, gfn := range []uint64{1 << 40, 1<<64 - 2} {
		l.want("init_control without memory", call(l, 0, &xenabi.EvtchnInitControl{ControlGFN: gfn}, xenabi.HYPERVISOR_event_channel_op, 11), -22)
	}
	l.setVector(0, 0xf3)
	l.want("callback", call(l, 0, &xenabi.HVMParam{Domid: xenabi.DOMID_SELF, Value: 1}, xenabi.HYPERVISOR_hvm_op, 0), 0)
	for index, want := range map[uint32]uint64{1: 0xfc020, 2: uint64(l.StorePort()), 17: 0xfc021, 18: uint64(l.ConsolePort())} {
		p := xenabi.HVMParam{Domid: xenabi.DOMID_SELF, Index: index, Value: 99}
		l.want("get_param", call(l, 0, &p, xenabi.HYPERVISOR_hvm_op, 1), 0)
		if p.Value != want || want == 0 {
			t.Errorf("parameter %d is %#x, want %#x", index, p.Value, want)
		}
	}
	for _, cmd := range []uint64{5, 13} {
		l.want("register area", call(l, 0, &xenabi.RegisterArea{Addr: 0x50ff0}, xenabi.HYPERVISOR_vcpu_op, cmd, 0), 0)
	}
	if l.word(0x51008)&0xffffffff == 0 {
		t.Error("no pvclock in the second area, across pages")
	}
	timer := l.bindVIRQ(0, xenabi.VIRQ_TIMER)
	again := xenabi.EvtchnBindVIRQ{VIRQ: xenabi.VIRQ_TIMER}
	l.want("bind virq again", call(l, 0, &again, xenabi.HYPERVISOR_event_channel_op, 1), -17)
	l.want("set_priority", call(l, 0, &xenabi.EvtchnBindVCPU{}, xenabi.HYPERVISOR_event_channel_op, 13), -38)
	for _, cmd := range []uint64{9, 7} {
		r, _ := l.on(0, xenabi.HYPERVISOR_vcpu_op, cmd, 0)
		l.want("stop timers", r, 0)
	}
	l.want("set_singleshot", call(l, 0, &xenabi.SetSingleshotTimer{TimeoutAbsNS: 1000}, xenabi.HYPERVISOR_vcpu_op, 8, 0), 0)
	l.advance(999)
	if l.cpus[0].raised != nil {
		t.Error("the timer fired early")
	}
	l.advance(1)
	if !slices.Equal(l.cpus[0].raised, []uint8{0xf3}) || !l.cpus[0].withEOI[0] {
		t.Fatalf("raised %v", l.cpus[0].raised)
	}
	if got := l.takeUpcall(0x30040); !slices.Equal(got, []int{int(timer)}) {
		t.Errorf("the upcall brought %v, want %d", got, timer)
	}
	r, _ := l.on(0, xenabi.HYPERVISOR_vm_assist, 0, 5)
	l.want("vm_assist", r, -38)
	ipi := xenabi.EvtchnBindIPI{VCPU: 1}
	l.want("bind_ipi", call(l, 0, &ipi, xenabi.HYPERVISOR_event_channel_op, 7), 0)
	l.setVector(1, 0xf4)
	l.want("send IPI", call(l, 0, &xenabi.EvtchnPort{Port: ipi.Port}, xenabi.HYPERVISOR_event_channel_op, 4), 0)
	if !slices.Equal(l.cpus[1].raised, []uint8{0xf4}) || len(l.cpus[0].raised) != 1 {
		t.Errorf("IPI raised %v, %v", l.cpus[0].raised, l.cpus[1].raised)
	}
	q := xenabi.GnttabQuerySize{Dom: xenabi.DOMID_SELF}
	l.want("query_size", callGrant(l, &q, 6), 0)
	if q.MaxNrFrames != 64 || q.Status != 0 {
		t.Errorf("%+v", q)
	}
	l.want("set_version 1", callGrant(l, &xenabi.GnttabSetVersion{Version: 1}, 8), 0)
	l.want("set_version 2", callGrant(l, &xenabi.GnttabSetVersion{Version: 2}, 8), -38)
	const scratch = 0x7ffe // Linux's frames lie in an unpopulated resource above RAM
	l.want("map grant frame", call(l, 0, &xenabi.AddToPhysmap{Domid: xenabi.DOMID_SELF, Space: 1, Gpfn: scratch}, xenabi.HYPERVISOR_memory_op, 7), 0)
	port := l.alloc()
	kicks := 0
	ch, err := l.Connect(port, nil, func() { kicks++ })
	if err != nil {
		t.Fatal(err)
	}
	l.want("bind_vcpu", call(l, 0, &xenabi.EvtchnBindVCPU{Port: port, VCPU: 1}, xenabi.HYPERVISOR_event_channel_op, 8), 0)
	l.want("send", call(l, 0, &xenabi.EvtchnPort{Port: port}, xenabi.HYPERVISOR_event_channel_op, 4), 0)
	if kicks != 1 {
		t.Errorf("the back end was kicked %d times", kicks)
	}
	l.takeUpcall(0x31040)
	ch.Notify()
	if len(l.cpus[1].raised) != 2 {
		t.Error("the back end's event did not reach the vCPU that it was bound to")
	}
	if err := l.mem.Write(buf, []byte{3, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if _, a := l.on(0, xenabi.HYPERVISOR_sched_op, 2, buf); a != Stop || !slices.Equal(l.shutdown, []uint32{3}) {
		t.Errorf("shutdown: %v, reasons %v", a, l.shutdown)
	}
}

func callGrant[T any](l *lab, s *T, cmd uint64) int64 {
	if err := l.mem.Write(buf, xenabi.Bytes(s)); err != nil {
		l.Fatal(err)
	}
	r, _ := l.on(0, xenabi.HYPERVISOR_grant_table_op, cmd, buf, 1)
	if err := l.mem.Read(buf, xenabi.Bytes(s)); err != nil {
		l.Fatal(err)
	}
	return r
}

// TestGRUBTrace is GRUB's order, from 32-bit code, and the hand-over to a
// 64-bit kernel.
func TestGRUBTrace(t *testing.T) {
	l := newLab(t, 1, false)
	if err := l.HypercallPage(0x8000, false, []byte{0xe7, 0xf5, 0x90}); err != nil {
		t.Fatal(err)
	}
	stub := make([]byte, 32)
	_ = l.mem.Read(0x8000+29*32, stub)
	if !slices.Equal(stub[:9], []byte{0xb8, 29, 0, 0, 0, 0xe7, 0xf5, 0x90, 0xc3}) || stub[9] != 0xcc {
		t.Errorf("hypercall page: % x", stub)
	}
	m := xenabi.MemoryMap32{NrEntries: 1, Buffer: 0x30000}
	l.want("memory_map, too small", call(l, 0, &m, xenabi.HYPERVISOR_memory_op, 9), -22)
	m.NrEntries = 128
	l.want("memory_map", call(l, 0, &m, xenabi.HYPERVISOR_memory_op, 9), 0)
	e := make([]byte, 40)
	_ = l.mem.Read(0x30000, e)
	if m.NrEntries != 2 || binary.LittleEndian.Uint64(e[8:]) != ramSize || binary.LittleEndian.Uint32(e[16:]) != 1 || binary.LittleEndian.Uint64(e[20:]) != 0xfc000000 {
		t.Errorf("%+v % x", m, e)
	}
	const grant = ramSize>>12 + 0
	l.want("map grant frame", call(l, 0, &xenabi.AddToPhysmap32{Domid: xenabi.DOMID_SELF, Space: 1, Gpfn: grant}, xenabi.HYPERVISOR_memory_op, 7), 0)
	l.want("map shared_info", call(l, 0, &xenabi.AddToPhysmap32{Domid: xenabi.DOMID_SELF, Gpfn: grant + 1}, xenabi.HYPERVISOR_memory_op, 7), 0)
	if sec := l.word((grant+1)<<12+2304) >> 32; sec != 7 {
		t.Errorf("wall clock at the 32-bit place: %d", sec)
	}
	l.want("set_memory_map", call(l, 0, &m, xenabi.HYPERVISOR_memory_op, 13), -38)
	l.want("setup_table", callGrant(l, &xenabi.GnttabSetupTable32{Dom: xenabi.DOMID_SELF, NrFrames: 1, FrameList: 0x31000}, 2), 0)
	if l.word(0x31000)&0xffffffff != grant {
		t.Error("setup_table does not name the frame")
	}
	port := l.alloc()
	ch, err := l.Connect(port, nil, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if _, a := l.on(0, xenabi.HYPERVISOR_sched_op, 0); a != Yield {
		t.Error("yield does not yield")
	}
	ch.Notify()
	info := l.word((grant + 1) << 12)
	if info&0xff != 1 || info>>32 != 1 || l.word((grant+1)<<12+2048) != 1<<port {
		t.Errorf("vcpu_info %#x", info)
	}
	// The kernel takes over: the page moves, its width flips, what waits stays.
	l.long = true
	l.mapShared()
	if l.word(shared<<12+2048) != 1<<port || l.word(shared<<12)&0xff != 1 || l.word(shared<<12+8) != 1 || l.word(shared<<12)>>32 != 0 {
		t.Errorf("after the hand-over: pending %#x, vcpu_info %#x %#x", l.word(shared<<12+2048), l.word(shared<<12), l.word(shared<<12+8))
	}
	if sec := l.word(shared<<12+3072) >> 32; sec != 7 {
		t.Error("the wall clock did not move")
	}
}

func TestUpcalls(t *testing.T) {
	l := newLab(t, 1, true)
	early, err := l.Connect(l.StorePort(), nil, func() {})
	if err != nil {
		t.Fatal(err)
	}
	early.Notify() // before the guest has anything: kept
	l.mapShared()
	if l.word(shared<<12+2048) != 1<<l.StorePort() {
		t.Fatal("an event from before the page was mapped is lost")
	}
	l.setVector(0, 0xf3)
	cpu := l.cpus[0]
	if len(cpu.raised) != 1 {
		t.Fatal("a vector set while an upcall is pending must be told once")
	}
	sh, _ := l.mem.Page(shared)
	a, b := l.alloc(), l.alloc()
	chA, _ := l.Connect(a, nil, func() {})
	chB, _ := l.Connect(b, nil, func() {})
	steps := []struct {
		name   string
		do     func()
		raises int
	}{
		{"pending twice", func() { early.Notify() }, 0},
		{"the selector's bit is set: the interrupt may have been lost", func() { chA.Notify() }, 1},
		{"handled", func() { l.takeUpcall(shared << 12) }, 0},
		{"a new selector bit", func() { chA.Notify() }, 1},
		{"masked", func() { l.takeUpcall(shared << 12); _, _ = sh.Or64(2560, 1<<b); chB.Notify() }, 0},
		{"unmask", func() {
			l.want("unmask", call(l, 0, &xenabi.EvtchnPort{Port: b}, xenabi.HYPERVISOR_event_channel_op, 9), 0)
		}, 1},
		// upcall_pending stays set while a new selector bit comes: it must be injected.
		{"upcall pending, selector clear", func() { _, _ = sh.And64(8, 0); _, _ = sh.And64(2048, 0); chA.Notify() }, 1},
		{"closed by the guest", func() {
			l.takeUpcall(shared << 12)
			l.want("close", call(l, 0, &xenabi.EvtchnPort{Port: a}, xenabi.HYPERVISOR_event_channel_op, 3), 0)
			chA.Notify()
		}, 0},
		{"closed by the back end", func() { chB.Close(); chB.Notify() }, 0},
	}
	for _, s := range steps {
		before := len(cpu.raised)
		s.do()
		if got := len(cpu.raised) - before; got != s.raises {
			t.Errorf("%s: injected %d times, want %d", s.name, got, s.raises)
		}
	}
	if _, err := l.Connect(a, nil, func() {}); err == nil {
		t.Error("connected to a closed port")
	}
	if _, err := l.Connect(b, nil, func() {}); err != nil {
		t.Errorf("the port does not wait for another back end: %v", err)
	}
}

func TestLegacyCallback(t *testing.T) {
	l := newLab(t, 1, true)
	l.mapShared()
	ch, _ := l.Connect(l.ConsolePort(), nil, func() {})
	ch.Notify()
	if l.cpus[0].raised != nil {
		t.Error("injected without a vector")
	}
	p := xenabi.HVMParam{Domid: xenabi.DOMID_SELF, Value: 2<<56 | 0xf3}
	l.want("set callback", call(l, 0, &p, xenabi.HYPERVISOR_hvm_op, 0), 0)
	if c := l.cpus[0]; !slices.Equal(c.raised, []uint8{0xf3}) || c.withEOI[0] {
		t.Errorf("raised %v, eoi %v", c.raised, c.withEOI)
	}
}

func TestEventChannelErrors(t *testing.T) {
	l := newLab(t, 2, true)
	l.mapShared()
	ec := uint64(xenabi.HYPERVISOR_event_channel_op)
	timer := l.bindVIRQ(0, xenabi.VIRQ_TIMER)
	if next := l.alloc(); next != timer+1 {
		t.Errorf("ports are not allocated from below: %d after %d", next, timer)
	}
	for _, c := range []struct {
		name      string
		got, want int64
	}{
		{"send on a virq", call(l, 0, &xenabi.EvtchnPort{Port: timer}, ec, 4), -22},
		{"send on nothing", call(l, 0, &xenabi.EvtchnPort{Port: 1000}, ec, 4), -22},
		{"send on port 0", call(l, 0, &xenabi.EvtchnPort{}, ec, 4), -22},
		{"send unbound", call(l, 0, &xenabi.EvtchnPort{Port: timer + 1}, ec, 4), 0},
		{"close nothing", call(l, 0, &xenabi.EvtchnPort{Port: 4000}, ec, 3), -22},
		{"unmask beyond", call(l, 0, &xenabi.EvtchnPort{Port: 1 << 31}, ec, 9), -22},
		{"virq of no vCPU", call(l, 0, &xenabi.EvtchnBindVIRQ{VCPU: 2}, ec, 1), -2},
		{"virq too high", call(l, 0, &xenabi.EvtchnBindVIRQ{VIRQ: 24}, ec, 1), -22},
		{"global virq elsewhere", call(l, 0, &xenabi.EvtchnBindVIRQ{VIRQ: 2, VCPU: 1}, ec, 1), -22},
		{"ipi to no vCPU", call(l, 0, &xenabi.EvtchnBindIPI{VCPU: 9}, ec, 7), -2},
		{"move a timer", call(l, 0, &xenabi.EvtchnBindVCPU{Port: timer, VCPU: 1}, ec, 8), -22},
		{"move to no vCPU", call(l, 0, &xenabi.EvtchnBindVCPU{Port: timer + 1, VCPU: 7}, ec, 8), -2},
		{"foreign alloc", call(l, 0, &xenabi.EvtchnAllocUnbound{Dom: 3}, ec, 6), -1},
		{"interdomain", call(l, 0, &xenabi.EvtchnBindInterdomain{}, ec, 0), -22},
		{"init_control of no vCPU", call(l, 0, &xenabi.EvtchnInitControl{VCPU: 2}, ec, 11), -2},
		{"init_control unaligned", call(l, 0, &xenabi.EvtchnInitControl{Offset: 4}, ec, 11), -22},
	} {
		l.want(c.name, c.got, c.want)
	}
	for port, want := range map[uint32]uint32{l.StorePort(): 1, timer: 4, timer + 1: 1, 3000: 0} {
		s := xenabi.EvtchnStatus{Dom: xenabi.DOMID_SELF, Port: port}
		l.want("status", call(l, 0, &s, ec, 5), 0)
		if s.Status != want {
			t.Errorf("port %d has status %d, want %d", port, s.Status, want)
		}
	}
	for range 4095 - timer - 1 {
		l.alloc()
	}
	l.want("alloc with all ports taken", call(l, 0, &xenabi.EvtchnAllocUnbound{Dom: xenabi.DOMID_SELF}, ec, 6), -28)
	l.want("reset", call(l, 0, &xenabi.EvtchnReset{Dom: xenabi.DOMID_SELF}, ec, 10), 0)
	if p := l.bindVIRQ(0, xenabi.VIRQ_TIMER); p != timer {
		t.Errorf("after reset the timer got port %d, want %d", p, timer)
	}
	if _, err := l.Connect(l.StorePort(), nil, func() {}); err != nil {
		t.Errorf("reset took the store's port: %v", err)
	}
}

func (l *lab) pollPorts(vcpu int, timeout uint64, ports ...uint32) (int64, Action) {
	for i, p := range ports {
		_ = l.mem.Store32(0x40000+uint64(4*i), p)
	}
	_ = l.mem.Write(buf, xenabi.Bytes(&xenabi.Poll{Ports: 0x40000, NrPorts: uint32(len(ports)), Timeout: timeout}))
	return l.on(vcpu, xenabi.HYPERVISOR_sched_op, 3, buf)
}

func TestPoll(t *testing.T) {
	l := newLab(t, 2, true)
	l.mapShared()
	port, other := l.alloc(), l.alloc()
	ch, _ := l.Connect(port, nil, func() {})
	sh, _ := l.mem.Page(shared)
	_, _ = sh.Or64(2560, 1<<port) // polling works on masked ports
	if r, a := l.pollPorts(1, 0, other, port); r != 0 || a != Park {
		t.Fatalf("poll: %d, %v", r, a)
	}
	ch.Notify()
	if l.cpus[1].woken != 1 || l.cpus[0].woken != 0 {
		t.Errorf("woken %d, %d", l.cpus[0].woken, l.cpus[1].woken)
	}
	if _, a := l.pollPorts(1, 0, port); a != Continue {
		t.Error("poll waits though the port is pending")
	}
	if _, a := l.pollPorts(1, 500, other); a != Park {
		t.Error("poll with a timeout does not park")
	}
	l.advance(499)
	woken := l.cpus[1].woken
	l.advance(1)
	if woken != 1 || l.cpus[1].woken != 2 {
		t.Errorf("timeout: woken %d, then %d", woken, l.cpus[1].woken)
	}
	if _, a := l.pollPorts(1, 100, other); a != Continue {
		t.Error("a timeout in the past parks")
	}
	if _, a := l.pollPorts(1, 0, other); a != Park {
		t.Fatal(a)
	}
	l.SetBlocked(1, true)
	l.SetBlocked(1, false) // the run loop had another reason
	l.want("poll too many", func() int64 { r, _ := l.pollPorts(0, 0, make([]uint32, 129)...); return r }(), -22)
	l.want("poll port 0", func() int64 { r, _ := l.pollPorts(0, 0, 0); return r }(), -22)
	// An event for the vCPU itself ends any park, polled or not.
	l.setVector(1, 0x50)
	ipi := xenabi.EvtchnBindIPI{VCPU: 1}
	l.want("bind_ipi", call(l, 0, &ipi, xenabi.HYPERVISOR_event_channel_op, 7), 0)
	if _, a := l.on(1, xenabi.HYPERVISOR_sched_op, 1); a != Park {
		t.Fatal("block does not park")
	}
	before := l.cpus[1].woken
	l.want("send", call(l, 0, &xenabi.EvtchnPort{Port: ipi.Port}, xenabi.HYPERVISOR_event_channel_op, 4), 0)
	if l.cpus[1].woken != before+1 {
		t.Error("an event did not end the block")
	}
	if _, a := l.on(1, xenabi.HYPERVISOR_sched_op, 1); a != Continue {
		t.Error("block waits though an upcall is pending")
	}
}

func TestTimers(t *testing.T) {
	l := newLab(t, 1, true)
	l.mapShared()
	l.setVector(0, 0xf3)
	port := l.bindVIRQ(0, xenabi.VIRQ_TIMER)
	fired := func() bool { return slices.Contains(l.takeUpcall(shared<<12), int(port)) }
	arm := func(at uint64, flags uint32) int64 {
		return call(l, 0, &xenabi.SetSingleshotTimer{TimeoutAbsNS: at, Flags: flags}, xenabi.HYPERVISOR_vcpu_op, 8, 0)
	}
	l.advance(1000)
	l.want("in the past, FUTURE", arm(999, 1), -62)
	if fired() {
		t.Error("fired in spite of -ETIME")
	}
	l.want("in the past", arm(999, 0), 0)
	if !fired() {
		t.Error("a timeout in the past does not fire at once")
	}
	arm(2000, 0)
	arm(3000, 0) // replaces
	l.advance(1500)
	if fired() {
		t.Error("the replaced timer fired")
	}
	// The host's timer comes early by its own clock: it sleeps on.
	early := l.timers[len(l.timers)-1]
	early.f()
	if fired() {
		t.Error("fired before the guest's time had come")
	}
	l.advance(500)
	if !fired() {
		t.Error("not fired")
	}
	l.on(0, xenabi.HYPERVISOR_set_timer_op, l.Now()+10)
	l.on(0, xenabi.HYPERVISOR_set_timer_op, 0)
	l.advance(20)
	if fired() {
		t.Error("a stopped timer fired")
	}
	l.want("too short a period", call(l, 0, &xenabi.SetPeriodicTimer{PeriodNS: 999999}, xenabi.HYPERVISOR_vcpu_op, 6, 0), -22)
	l.want("period", call(l, 0, &xenabi.SetPeriodicTimer{PeriodNS: 1e6}, xenabi.HYPERVISOR_vcpu_op, 6, 0), 0)
	for range 3 {
		l.advance(1e6)
		if !fired() {
			t.Error("no tick")
		}
	}
	l.advance(10e6) // missed ticks come as one
	if !fired() || l.set() != 1 {
		t.Errorf("%d timers after a pause", l.set())
	}
	l.want("vCPU that is not there", call(l, 0, &xenabi.SetSingleshotTimer{}, xenabi.HYPERVISOR_vcpu_op, 8, 1), -2)
	// After a sleep timers wait for what is left, and the date is the host's.
	l.on(0, xenabi.HYPERVISOR_vcpu_op, 7, 0)
	arm(l.Now()+1e9, 0)
	at := l.Now()
	l.tsc += 2 * hz
	l.Resync()
	if l.Now() != at+2e9 || !fired() {
		t.Errorf("after Resync: %d, want %d", l.Now(), at+2e9)
	}
	l.Close()
	if arm(l.Now()+5, 0); l.set() != 0 {
		t.Error("a closed domain arms timers")
	}
}

// TestClock compares with the guest's own formula in struct vcpu_time_info.
func TestClock(t *testing.T) {
	if mul, shift := scale(2_600_000_000); mul>>16 != 0xc4ec || shift != -1 {
		t.Errorf("2.6 GHz: %#x, %d", mul, shift)
	}
	for _, f := range []uint64{1e6, 999_999_999, 1e9, 1e9 + 1, 2e9, 2_399_998_765, 4_700_000_000} {
		c := newClock(1e12, f)
		for _, secs := range []uint64{0, 1, 3600, 86400 * 365 * 10} {
			got := float64(c.at(1e12 + secs*f))
			if want := float64(secs) * 1e9; got > want || want-got > want*1e-8+10 {
				t.Errorf("%d Hz: after %d s it is %.0f ns", f, secs, got)
			}
		}
		if c.at(5) != 0 {
			t.Error("before the base it is not 0")
		}
	}
}

// TestGrantedPieces: pieces that follow each other in the guest are one buffer, each
// is granted, and none reaches out of its page.
func TestGrantedPieces(t *testing.T) {
	l := newLab(t, 1, true)
	l.want("map grant frame", call(l, 0, &xenabi.AddToPhysmap{Domid: 1, Space: 1, Idx: 0, Gpfn: 0x20}, xenabi.HYPERVISOR_memory_op, 7), 0)
	for ref, frame := range map[uint64]uint32{1: 0x33, 2: 0x34, 3: 0x36, 4: 0xffffffff} {
		_ = l.mem.Write(0x20000+ref*8, xenabi.Bytes(&xenabi.GrantEntryV1{Flags: 1, Frame: frame}))
	}
	_ = l.mem.Write(0x20000+5*8, xenabi.Bytes(&xenabi.GrantEntryV1{Flags: 1 | 4, Frame: 0x35}))
	for i := range uint64(4 * 8) {
		_ = l.mem.Write(0x33000+i*512, []byte{byte(i)})
	}
	whole := func(ref uint32) Piece { return Piece{Ref: ref, N: 4096} }
	for _, c := range []struct {
		pieces []Piece
		write  bool
		want   []int // bytes of each buffer; nil: refused
		first  []byte
	}{
		{[]Piece{whole(1), whole(2), whole(5)}, false, []int{3 * 4096}, []byte{0}},
		{[]Piece{whole(1), whole(2), whole(5)}, true, nil, nil},
		{[]Piece{whole(2), whole(1), whole(1)}, true, []int{4096, 4096, 4096}, []byte{8, 0, 0}},
		{[]Piece{whole(2), whole(3)}, true, []int{4096, 4096}, []byte{8, 24}},
		{[]Piece{{1, 512, 3584}, {2, 0, 512}, {2, 1024, 512}}, true, []int{4096, 512}, []byte{1, 10}},
		{[]Piece{{1, 512, 512}, {1, 1024, 512}, {2, 0, 0}}, true, []int{1024}, []byte{1}},
		{[]Piece{{1, 512, 4096}}, true, nil, nil},
		{[]Piece{{1, 65535, 65535}}, true, nil, nil},
		{[]Piece{whole(1), whole(6)}, false, nil, nil},
		{[]Piece{whole(1), whole(4)}, false, nil, nil},
		{[]Piece{whole(4), whole(1)}, false, nil, nil},
		{[]Piece{whole(1), whole(512)}, false, nil, nil},
	} {
		bufs, err := l.AppendBuffers(nil, c.pieces, c.write)
		if (err != nil) != (c.want == nil) {
			t.Errorf("%v, to be written %v: %v", c.pieces, c.write, err)
		}
		if err != nil {
			continue
		}
		var sizes []int
		var first []byte
		for _, b := range bufs {
			sizes, first = append(sizes, len(b)), append(first, b[0])
		}
		if !slices.Equal(sizes, c.want) || !slices.Equal(first, c.first) {
			t.Errorf("%v are buffers of %v bytes that begin with %v, want %v, %v", c.pieces, sizes, first, c.want, c.first)
		}
	}
}

func TestGrants(t *testing.T) {
	l := newLab(t, 1, true)
	if _, err := l.Grant(0, false); err == nil {
		t.Error("a grant without a table")
	}
	l.want("map grant frame", call(l, 0, &xenabi.AddToPhysmap{Domid: 1, Space: 1, Idx: 1, Gpfn: 0x20}, xenabi.HYPERVISOR_memory_op, 7), 0)
	for i, c := range []struct {
		e           xenabi.GrantEntryV1
		read, write bool
	}{
		{xenabi.GrantEntryV1{Flags: 1, Frame: 0x33}, true, true},
		{xenabi.GrantEntryV1{Flags: 1 | 4, Frame: 0x33}, true, false},
		{xenabi.GrantEntryV1{Flags: 0, Frame: 0x33}, false, false},
		{xenabi.GrantEntryV1{Flags: 2, Frame: 0x33}, false, false},
		{xenabi.GrantEntryV1{Flags: 1, Domid: 2, Frame: 0x33}, false, false},
		{xenabi.GrantEntryV1{Flags: 1, Frame: 0xffffffff}, false, false},
	} {
		_ = l.mem.Write(0x20000+8, xenabi.Bytes(&c.e))
		p, errR := l.Grant(513, false)
		_, errW := l.Grant(513, true)
		if (errR == nil) != c.read || (errW == nil) != c.write || errR == nil && p.GFN() != 0x33 {
			t.Errorf("entry %d: read %v, write %v", i, errR, errW)
		}
	}
	for _, ref := range []uint32{0, 1024, 1<<32 - 1} {
		if _, err := l.Grant(ref, false); err == nil {
			t.Errorf("grant %d resolves", ref)
		}
	}
	_ = l.mem.Write(0x20000+8, xenabi.Bytes(&xenabi.GrantEntryV1{Flags: 1, Frame: 0x33}))
	m, err := l.Map(513)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Page(0).Store32(0, 1); err != nil {
		t.Error(err)
	}
	m.Close()
	if m.Page(0).Store32(0, 1) == nil || m.Page(7).Valid() {
		t.Error("a closed mapping is still good")
	}
	// The table moves with its entries; taking it away takes the grants.
	l.want("move", call(l, 0, &xenabi.AddToPhysmap{Domid: 1, Space: 1, Idx: 1, Gpfn: 0x21}, xenabi.HYPERVISOR_memory_op, 7), 0)
	if _, err := l.Grant(513, true); err != nil {
		t.Error(err)
	}
	l.want("remove", call(l, 0, &xenabi.RemoveFromPhysmap{Domid: 1, Gpfn: 0x21}, xenabi.HYPERVISOR_memory_op, 15), 0)
	if _, err := l.Grant(513, true); err == nil {
		t.Error("grants of a removed frame")
	}
	for _, a := range []xenabi.AddToPhysmap{
		{Domid: 1, Space: 1, Idx: 64, Gpfn: 0x20}, {Domid: 1, Space: 1, Idx: 1 << 31, Gpfn: 0x20}, {Domid: 1, Space: 2, Gpfn: 0x20},
		{Domid: 1, Idx: 1, Gpfn: 0x20}, {Domid: 1, Gpfn: 1 << 60}, {Domid: 1, Gpfn: ^uint64(0)},
	} {
		l.want("bad add_to_physmap", call(l, 0, &a, xenabi.HYPERVISOR_memory_op, 7), -22)
	}
}

func TestMemoryOps(t *testing.T) {
	l := newLab(t, 1, true)
	for i := range 4 {
		_ = l.mem.Store64(0x50000+uint64(8*i), []uint64{0x60, 0x61, 1 << 50, 0x62}[i])
	}
	_ = l.mem.Store32(0x61000, 77)
	r := xenabi.MemoryReservation{ExtentStart: 0x50000, NrExtents: 4, Domid: xenabi.DOMID_SELF}
	l.want("decrease", call(l, 0, &r, xenabi.HYPERVISOR_memory_op, 1), 2)
	if l.word(0x61000) != 0 {
		t.Error("a page that was given up keeps its content")
	}
	l.want("decrease again", call(l, 0, &r, xenabi.HYPERVISOR_memory_op, 1), 0)
	l.want("populate", call(l, 0, &r, xenabi.HYPERVISOR_memory_op, 6), 2)
	l.want("decrease of what was taken back", call(l, 0, &r, xenabi.HYPERVISOR_memory_op, 1), 2)
	l.want("populate", call(l, 0, &r, xenabi.HYPERVISOR_memory_op, 6), 2)
	r.ExtentOrder = 40
	l.want("a huge order", call(l, 0, &r, xenabi.HYPERVISOR_memory_op, 1), 0)
	r.Domid, r.ExtentOrder = 0, 0
	l.want("of domain 0", call(l, 0, &r, xenabi.HYPERVISOR_memory_op, 1), -1)
	_ = l.mem.Write(buf, xenabi.Bytes(&[1]uint16{xenabi.DOMID_SELF}))
	for cmd, want := range map[uint64]int64{2: 255, 3: 256, 4: 256, 14: 255, 23: -38, 63: -38} {
		got, _ := l.on(0, xenabi.HYPERVISOR_memory_op, cmd, buf)
		l.want("page count", got, want)
	}
}

func TestVersionAndConsole(t *testing.T) {
	l := newLab(t, 1, true)
	for cmd, size := range map[uint64]int{1: 16, 2: 144, 3: 1024, 4: 64, 5: 8, 8: 16} {
		fill := make([]byte, size+1)
		for i := range fill {
			fill[i] = 0xee
		}
		_ = l.mem.Write(buf, fill)
		got, _ := l.on(0, xenabi.HYPERVISOR_xen_version, cmd, buf)
		l.want("xen_version", got, 0)
		_ = l.mem.Read(buf, fill)
		if slices.Contains(fill[:size], 0xee) || fill[size] != 0xee {
			t.Errorf("xen_version %d does not fill %d bytes", cmd, size)
		}
	}
	_ = l.mem.Write(buf, []byte("early text"))
	got, _ := l.on(0, xenabi.HYPERVISOR_console_io, 0, 10, buf)
	l.want("console_io", got, 0)
	if string(l.console) != "early text" {
		t.Errorf("%q", l.console)
	}
	got, _ = l.on(0, xenabi.HYPERVISOR_console_io, 0, ^uint64(0), buf)
	if got != 0 || len(l.console) > maxConsoleWrite+10 {
		t.Errorf("%d, %d bytes", got, len(l.console))
	}
}

func TestMulticall(t *testing.T) {
	for _, long := range []bool{true, false} {
		l := newLab(t, 1, long)
		if long {
			_ = l.mem.Write(buf, xenabi.Bytes(&[3]xenabi.MulticallEntry{{Op: 17}, {Op: 13}, {Op: 99}}))
		} else {
			_ = l.mem.Write(buf, xenabi.Bytes(&[3]xenabi.MulticallEntry32{{Op: 17}, {Op: 13}, {Op: 99}}))
		}
		got, _ := l.on(0, xenabi.HYPERVISOR_multicall, buf, 3)
		l.want("multicall", got, 0)
		for i, want := range []int64{Version, -22, -38} {
			var result int64
			if long {
				result = int64(l.word(buf + uint64(64*i) + 8))
			} else {
				result = int64(int32(l.word(buf+uint64(32*i)) >> 32))
			}
			l.want("entry", result, want)
		}
		got, _ = l.on(0, xenabi.HYPERVISOR_multicall, buf, 1<<30)
		l.want("too many", got, -7)
	}
}

func TestRefusals(t *testing.T) {
	l := newLab(t, 1, true)
	c := &Call{Nr: xenabi.HYPERVISOR_xen_version, Long: true, CPL: 3, Paging: noPaging}
	l.Hypercall(c)
	l.want("from user space", c.Result, -1)
	for _, nr := range []uint64{xenabi.HYPERVISOR_sysctl, xenabi.HYPERVISOR_domctl, xenabi.HYPERVISOR_platform_op} {
		got, _ := l.on(0, nr)
		l.want("a call of domain 0's", got, -1)
	}
	for _, nr := range []uint64{0, 33, 39, 40, 41, 1 << 40, ^uint64(0)} {
		got, a := l.on(0, nr)
		l.want("unknown call", got, -38)
		if a != Continue {
			t.Error(a)
		}
	}
	for nr, cmds := range map[uint64][]uint64{12: {1, 3, 6, 7, 9, 15}, 17: {1, 6}, 29: {2, 3, 4}, 32: {0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 34: {0, 1, 23}} {
		for _, cmd := range cmds {
			got, _ := l.on(0, nr, cmd, 0xfffffff0)
			l.want("pointer to nowhere", got, -14)
		}
	}
	for _, index := range []uint32{1, 2, 12, 38} {
		l.want("set_param", call(l, 0, &xenabi.HVMParam{Domid: 1, Index: index}, xenabi.HYPERVISOR_hvm_op, 0), -1)
	}
	l.want("get_param beyond", call(l, 0, &xenabi.HVMParam{Domid: 1, Index: 39}, xenabi.HYPERVISOR_hvm_op, 1), -22)
	l.want("vector below 16", call(l, 0, &xenabi.HVMEvtchnUpcallVector{Vector: 15}, xenabi.HYPERVISOR_hvm_op, 23), -22)
	l.want("vcpu_info over a page's end", call(l, 0, &xenabi.RegisterVCPUInfo{MFN: 1, Offset: 4040}, xenabi.HYPERVISOR_vcpu_op, 10, 0), -22)
	l.want("remote shutdown", call(l, 0, &xenabi.RemoteShutdown{}, xenabi.HYPERVISOR_sched_op, 4), -1)
	if err := l.HypercallPage(0x8001, true, nil); err == nil {
		t.Error("page 1 of one")
	}
}

func TestRunstate(t *testing.T) {
	l := newLab(t, 1, true)
	l.want("register", call(l, 0, &xenabi.RegisterArea{Addr: 0x50000}, xenabi.HYPERVISOR_vcpu_op, 5, 0), 0)
	l.advance(100)
	l.SetBlocked(0, true)
	l.advance(50)
	l.SetBlocked(0, false)
	l.advance(7)
	if l.word(0x50008) != 150 || l.word(0x50010) != 100 || l.word(0x50020) != 50 {
		t.Errorf("entry %d, running %d, blocked %d", l.word(0x50008), l.word(0x50010), l.word(0x50020))
	}
	var r xenabi.RunstateInfo
	l.want("get", call(l, 0, &r, xenabi.HYPERVISOR_vcpu_op, 4, 0), 0)
	if r.Time[0] != 107 {
		t.Errorf("%+v", r)
	}
}

// TestCompat is what 32-bit callers pass in layouts of their own.
func TestCompat(t *testing.T) {
	l := newLab(t, 1, false)
	l.mapShared()
	l.setVector(0, 0xf3)
	timer := l.bindVIRQ(0, xenabi.VIRQ_TIMER)
	at := uint64(1<<32 + 5000) // needs both halves
	l.want("singleshot", call(l, 0, &xenabi.SetSingleshotTimer32{TimeoutAbsNS: xenabi.MakeU64(at)}, xenabi.HYPERVISOR_vcpu_op, 8, 0), 0)
	l.advance(1 << 32)
	if l.cpus[0].raised != nil {
		t.Error("fired by the low half")
	}
	l.advance(5000)
	if len(l.cpus[0].raised) != 1 || l.word(shared<<12+2048) != 1<<timer || l.word(shared<<12) != 1<<32|1 {
		t.Errorf("raised %v, pending %#x, vcpu_info %#x", l.cpus[0].raised, l.word(shared<<12+2048), l.word(shared<<12))
	}
	if m, _ := l.mem.Page(shared); m.Store64(0, 0) != nil || m.Store64(2048, 0) != nil {
		t.Fatal("no shared page")
	}
	now := l.Now()
	l.on(0, xenabi.HYPERVISOR_set_timer_op, (now+10)&0xffffffff, (now+10)>>32)
	l.advance(10)
	if len(l.cpus[0].raised) != 2 {
		t.Error("set_timer_op does not fire")
	}
	_ = l.mem.Store64(shared<<12, 0)
	_ = l.mem.Store32(0x40000, l.StorePort())
	poll := xenabi.Poll32{Ports: 0x40000, NrPorts: 1, Timeout: xenabi.MakeU64(l.Now() + 50)}
	_ = l.mem.Write(buf, xenabi.Bytes(&poll))
	if _, a := l.on(0, xenabi.HYPERVISOR_sched_op, 3, buf); a != Park {
		t.Error("poll does not park")
	}
	l.advance(50)
	if l.cpus[0].woken != 1 {
		t.Error("poll's timeout does not end it")
	}
	var r xenabi.RunstateInfo32
	l.want("get runstate", call(l, 0, &r, xenabi.HYPERVISOR_vcpu_op, 4, 0), 0)
	if r.Time[0].Value() == 0 {
		t.Errorf("%+v", r)
	}
	_ = l.mem.Store32(0x50000, 0x60)
	_ = l.mem.Store32(0x60000, 1)
	res := xenabi.MemoryReservation32{ExtentStart: 0x50000, NrExtents: 1, Domid: xenabi.DOMID_SELF}
	l.want("decrease", call(l, 0, &res, xenabi.HYPERVISOR_memory_op, 1), 1)
	if l.word(0x60000) != 0 {
		t.Error("the page was not given up")
	}
	got, _ := l.on(0, 1<<32|xenabi.HYPERVISOR_xen_version, 1<<32)
	l.want("registers' upper halves", got, Version)
}

func TestCPUID(t *testing.T) {
	host := []accel.CPUID{{Leaf: 0, EAX: 0xd}, {Leaf: 1, EBX: 0x12345678, ECX: 1 << 5, EDX: 1 << 28}, {Leaf: 7, Indexed: true, ECX: 1 << 16}, {Leaf: 0xb, Indexed: true, Sub: 1, EDX: 9},
		{Leaf: 0x40000000, EBX: 0x4b4d564b}, {Leaf: 0x40000001}, {Leaf: 0x80000001, ECX: 4 | 32}}
	got := CPUID(host, CPUIDConfig{Domid: 5, VCPUs: 4, TSCHz: 2_600_000_000}, 3)
	find := func(leaf, sub uint32) (out accel.CPUID) {
		n := 0
		for _, l := range got {
			if l.Leaf == leaf && l.Sub == sub {
				out = l
				n++
			}
		}
		if n != 1 {
			t.Errorf("leaf %#x.%d is there %d times", leaf, sub, n)
		}
		return out
	}
	if l := find(1, 0); l.EBX != 3<<24|4<<16|0x5678 || l.ECX != 1<<31|1<<24|1<<21 || l.EDX != 1<<28 {
		t.Errorf("%+v", l)
	}
	if l := find(7, 0); l.ECX != 0 {
		t.Errorf("%+v", l)
	}
	if l := find(0xb, 1); l.EDX != 3 {
		t.Errorf("%+v", l)
	}
	if l := find(0x80000001, 0); l.ECX != 32 {
		t.Errorf("%+v", l)
	}
	sig := find(0x40000000, 0)
	var b [12]byte
	binary.LittleEndian.PutUint32(b[0:], sig.EBX)
	binary.LittleEndian.PutUint32(b[4:], sig.ECX)
	binary.LittleEndian.PutUint32(b[8:], sig.EDX)
	if string(b[:]) != "XenVMMXenVMM" || sig.EAX != 0x40000004 {
		t.Errorf("%q %#x", b, sig.EAX)
	}
	if l := find(0x40000004, 0); l.EAX != 0x58 || l.EBX != 3 || l.ECX != 5 {
		t.Errorf("%+v", l)
	}
	got = CPUID(host, CPUIDConfig{Domid: 5, VCPUs: 4, TSCHz: 2_600_000_000, Callback: true}, 3)
	if l := find(0x40000004, 0); l.EAX != 0x18 {
		t.Errorf("with the callback instead of vectors: %+v", l)
	}
	if l := find(0x40000003, 0); l.EBX != 2 || l.ECX != 2600000 || l.EDX != 1 || l.EAX != 2 {
		t.Errorf("%+v", l)
	}
	if l := find(0x40000003, 1); l.ECX>>16 != 0xc4ec || l.EDX != 0xff {
		t.Errorf("%+v", l)
	}
	if host[1].ECX != 1<<5 {
		t.Error("the host's leaves were changed")
	}
}

// TestConcurrentBackEnds has vCPUs and back ends at one domain at once.
func TestConcurrentBackEnds(t *testing.T) {
	l := newLab(t, 4, true)
	l.mapShared()
	port := l.alloc()
	ch, _ := l.Connect(port, nil, func() {})
	_ = l.mem.Write(buf, xenabi.Bytes(&xenabi.EvtchnPort{Port: port}))
	var wg sync.WaitGroup
	for v := range 4 {
		wg.Go(func() {
			for range 500 {
				l.on(v, xenabi.HYPERVISOR_event_channel_op, 4, buf)
				l.on(v, xenabi.HYPERVISOR_sched_op, 1)
				l.SetBlocked(v, false)
				_, _ = l.Grant(0, true)
			}
		})
	}
	for range 500 {
		ch.Notify()
	}
	wg.Wait()
	l.Close()
	ch.Notify()
	ch.Close()
}

func TestNewRefuses(t *testing.T) {
	mem := guestmem.New(guestmem.Config{})
	tsc := func() uint64 { return 0 }
	for name, c := range map[string]Config{
		"no vCPU": {Memory: mem, TSC: tsc, TSCHz: 1e9}, "no clock": {Memory: mem, VCPUs: []VCPU{&fakeVCPU{}}, TSC: tsc},
		"too many": {Memory: mem, VCPUs: make([]VCPU, MaxVCPUs+1), TSC: tsc, TSCHz: 1e9},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	l := newLab(t, 40, true) // vCPUs from 32 on have no place in shared_info
	l.mapShared()
	ipi := xenabi.EvtchnBindIPI{VCPU: 39}
	l.want("bind_ipi", call(l, 0, &ipi, xenabi.HYPERVISOR_event_channel_op, 7), 0)
	l.want("send", call(l, 0, &xenabi.EvtchnPort{Port: ipi.Port}, xenabi.HYPERVISOR_event_channel_op, 4), 0)
	l.setVector(39, 0x40)
	l.want("register", call(l, 39, &xenabi.RegisterVCPUInfo{MFN: 0x30}, xenabi.HYPERVISOR_vcpu_op, 10, 39), 0)
	if l.word(0x30000)&0xff != 1 || len(l.cpus[39].raised) != 2 {
		t.Errorf("vcpu_info %#x, raised %v", l.word(0x30000), l.cpus[39].raised)
	}
}

// FuzzHypercalls lets random code call with random arguments over random
// memory: every call comes back, and the host's invariants hold.
func FuzzHypercalls(f *testing.F) {
	f.Add(uint64(1), true, []byte{32, 1, 32, 6, 32, 4, 29, 3, 12, 7})
	f.Add(uint64(2), false, []byte{12, 9, 20, 2, 34, 0, 24, 8, 13, 0})
	f.Fuzz(func(t *testing.T, seed uint64, long bool, calls []byte) {
		l := newLab(t, 2, long)
		l.mapShared()
		r := rand.New(rand.NewPCG(seed, 1))
		calls = calls[:min(len(calls), 400)]
		for ; len(calls) >= 2; calls = calls[2:] {
			for i := range 16 {
				w := r.Uint64()
				if r.IntN(3) > 0 {
					w = uint64(r.IntN(0x120)) | uint64(r.IntN(4))<<32
				}
				_ = l.mem.Store64(buf+uint64(8*i), w)
			}
			args := []uint64{uint64(calls[1]), buf, buf, uint64(r.IntN(4))}
			if calls[0] == 18 || calls[0] == 20 {
				args[1], args[2] = []uint64{buf, uint64(r.IntN(9000))}[r.IntN(2)], []uint64{buf, 1}[r.IntN(2)]
			}
			if calls[0] == 24 {
				args[1] = uint64(r.IntN(3))
			}
			if r.IntN(8) == 0 {
				args[r.IntN(4)] = r.Uint64()
			}
			vcpu := r.IntN(2)
			_, a := l.on(vcpu, uint64(calls[0]), args...)
			if a == Park {
				l.SetBlocked(vcpu, true)
				l.SetBlocked(vcpu, false)
			}
			ref, write := uint32(r.IntN(1024)), r.IntN(2) == 0
			_, _ = l.Grant(ref, write)
			pieces := []Piece{{ref, uint16(r.IntN(5000)), uint16(r.IntN(5000))}, {ref + 1, 0, 4096}}
			if bufs, err := l.AppendBuffers(nil, pieces, write); err == nil && len(slices.Concat(bufs...)) != int(pieces[0].N)+4096 {
				t.Fatalf("%v are %d bytes", pieces, len(slices.Concat(bufs...)))
			}
			l.advance(uint64(r.IntN(1000)))
		}
		if len(l.ports) > 4096 || len(l.grants) > maxGrantFrames {
			t.Fatalf("%d ports, %d grant frames", len(l.ports), len(l.grants))
		}
		l.carry(2)
	})
}

// TestTimePassesForWhoYields is NetBSD's xen_delay: the time info in the shared
// info page, from which it takes system_time alone.
func TestTimePassesForWhoYields(t *testing.T) {
	l := newLab(t, 1, true)
	l.mapShared()
	const info = shared<<12 + 32
	before := l.word(info + 16)
	l.tsc += 700_000_000
	l.on(0, xenabi.HYPERVISOR_sched_op, xenabi.SCHEDOP_yield)
	if passed := l.word(info+16) - before; passed < 699_999_990 || passed > 700_000_000 {
		t.Errorf("after 700 ms and a yield system_time has grown by %d", passed)
	}
	if now := l.word(info + 8); now != l.tsc || l.word(info)&1 != 0 {
		t.Errorf("the time info begins at the TSC %d, now is %d", now, l.tsc)
	}
	// A registered one begins where it did.
	l.want("register vcpu_info", call(l, 0, &xenabi.RegisterVCPUInfo{MFN: 0x30}, xenabi.HYPERVISOR_vcpu_op, 10, 0), 0)
	begins := l.word(0x30<<12 + 32 + 8)
	l.tsc += 1000
	l.on(0, xenabi.HYPERVISOR_sched_op, xenabi.SCHEDOP_yield)
	if again := l.word(0x30<<12 + 32 + 8); again != begins {
		t.Errorf("a registered time info began at %d, and begins at %d after a yield", begins, again)
	}
}
