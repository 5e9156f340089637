package hvtest

import (
	"context"
	"encoding/binary"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenabi"
	"github.com/hxen-project/hxen/hv/xenstore"
)

// Where a Front's own pages lie; from frontFree on they are Alloc's.
const (
	frontShared = 1 // shared_info
	frontGrants = 2 // the grant table's frames
	frontFrames = 8
	frontStore  = 10 // XenStore's ring
	frontCall   = 11 // structures of hypercalls
	frontFree   = 16

	// FrontPages is how much memory a Front has.
	FrontPages = 4096
)

// Front is a guest without processors, for tests of back ends: real memory, a
// real domain and a real XenStore, and by hand what front ends do. It is domain
// 1. Its methods are one goroutine's, but for Until and Events.
type Front struct {
	testing.TB
	Mem    *guestmem.Memory
	Domain *xen.Domain
	Client *xenstore.Client // domain 0's
	Log    *slog.Logger

	storePort uint32
	nextPage  uint64
	nextRef   uint32
	replies   []byte

	mu     sync.Mutex
	more   *sync.Cond
	events map[uint32]int // guarded by mu; by port, since the start
	late   bool           // guarded by mu
	raised chan struct{}
}

// frontCPU is the one processor, of which only the interrupts are of interest.
type frontCPU struct{ raised chan struct{} }

func (c frontCPU) Raise(uint8, bool) error {
	select {
	case c.raised <- struct{}{}:
	default:
	}
	return nil
}

func (frontCPU) Wake() {}

// NewFront makes a guest with its grant table mapped and XenStore running.
func NewFront(t testing.TB) *Front {
	t.Helper()
	f := &Front{TB: t, nextPage: frontFree, nextRef: 8, events: map[uint32]int{}, raised: make(chan struct{}, 1), Log: slog.New(slog.DiscardHandler)}
	f.more = sync.NewCond(&f.mu)
	f.Mem = guestmem.New(guestmem.Config{})
	f.check(f.Mem.Add(0, guestmem.Host(FrontPages)))
	var err error
	f.Domain, err = xen.New(xen.Config{
		Domid: 1, Memory: f.Mem, VCPUs: []xen.VCPU{frontCPU{f.raised}}, RAMPages: FrontPages, StorePFN: frontStore,
		TSC: func() uint64 { return uint64(time.Now().UnixNano()) }, TSCHz: 1e9, NewTimer: accel.NewTimer, NewBell: accel.NewBell,
		Console: func([]byte) {}, Shutdown: func(uint32) {},
	})
	f.check(err)
	f.physmap(xenabi.XENMAPSPACE_shared_info, 0, frontShared)
	for i := range uint64(frontFrames) {
		f.physmap(xenabi.XENMAPSPACE_grant_table, i, frontGrants+i)
	}
	FrontOp(f, xenabi.HYPERVISOR_hvm_op, xenabi.HVMOP_set_evtchn_upcall_vector, &xenabi.HVMEvtchnUpcallVector{Vector: 0xf3})

	store := xenstore.New(xenstore.DefaultQuota)
	f.Client = store.NewClient()
	var channel *xen.Channel
	ring, err := store.NewRing(1, f.page(frontStore), func() { channel.Notify() })
	f.check(err)
	f.storePort = f.Domain.StorePort()
	channel, err = f.Domain.Connect(f.storePort, nil, ring.Kick)
	f.check(err)
	f.check(f.Client.Introduce(xenstore.DomainConfig{Domid: 1, Name: "front", UUID: "0", VCPUs: 1}))

	ctx, cancel := context.WithCancel(context.Background())
	var servers sync.WaitGroup
	servers.Go(func() { ring.Serve(ctx) })
	servers.Go(func() { f.interrupts(ctx) })
	t.Cleanup(func() {
		f.Domain.Close()
		cancel()
		servers.Wait()
		f.Client.Close()
	})
	return f
}

func (f *Front) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *Front) page(gfn uint64) guestmem.Page {
	f.Helper()
	p, err := f.Mem.Page(gfn)
	f.check(err)
	return p
}

// interrupts counts events as a guest's handler finds them.
func (f *Front) interrupts(ctx context.Context) {
	page := f.page(frontShared)
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.raised:
		}
		_, _ = page.And64(0, ^uint64(0xff)) // upcall_pending
		_, _ = page.And64(xenabi.SharedInfo64.PendingSel, 0)
		f.mu.Lock()
		for w := range 64 {
			bits, _ := page.And64(xenabi.SharedInfo64.EvtchnPending+8*w, 0)
			for b := range 64 {
				if bits>>b&1 != 0 {
					f.events[uint32(w*64+b)]++
				}
			}
		}
		f.more.Broadcast()
		f.mu.Unlock()
	}
}

// FrontOp makes a hypercall with a structure, which is read back.
func FrontOp[T any](f *Front, number, command uint64, v *T) int64 {
	f.Helper()
	f.Write(frontCall<<12, xenabi.Bytes(v))
	c := xen.Call{Nr: number, Long: true, Args: [6]uint64{command, frontCall << 12}, Paging: func() (guestmem.Paging, error) { return guestmem.Paging{}, nil }}
	f.Domain.Hypercall(&c)
	f.Read(frontCall<<12, xenabi.Bytes(v))
	return c.Result
}

func (f *Front) physmap(space uint32, idx, gfn uint64) {
	f.Helper()
	a := xenabi.AddToPhysmap{Domid: xenabi.DOMID_SELF, Space: space, Idx: idx, Gpfn: gfn}
	if r := FrontOp(f, xenabi.HYPERVISOR_memory_op, xenabi.XENMEM_add_to_physmap, &a); r != 0 {
		f.Fatalf("add_to_physmap: %d", r)
	}
}

// Read and Write access the guest's memory.
func (f *Front) Read(gpa uint64, b []byte) { f.Helper(); f.check(f.Mem.Read(gpa, b)) }

// Write is Read's other half.
func (f *Front) Write(gpa uint64, b []byte) { f.Helper(); f.check(f.Mem.Write(gpa, b)) }

// Alloc is the frame number of a page of zeros that nobody uses.
func (f *Front) Alloc() uint64 {
	f.Helper()
	if f.nextPage == FrontPages {
		f.Fatal("the front end's memory is used up")
	}
	f.nextPage++
	return f.nextPage - 1
}

// Grant lets domain 0 use a page.
func (f *Front) Grant(gfn uint64, readonly bool) (ref uint32) {
	f.Helper()
	ref = f.nextRef
	f.nextRef++
	flags := uint64(xenabi.GTF_permit_access)
	if readonly {
		flags |= xenabi.GTF_readonly
	}
	f.SetGrant(ref, flags|gfn<<32)
	return ref
}

// SetGrant writes an entry of the grant table (struct grant_entry_v1); 0 takes
// a grant back.
func (f *Front) SetGrant(ref uint32, entry uint64) {
	f.Helper()
	f.check(f.page(frontGrants+uint64(ref/512)).Store64(int(ref%512)*8, entry))
}

// Port offers a new event channel to domain 0.
func (f *Front) Port() uint32 {
	f.Helper()
	a := xenabi.EvtchnAllocUnbound{Dom: xenabi.DOMID_SELF}
	if r := FrontOp(f, xenabi.HYPERVISOR_event_channel_op, xenabi.EVTCHNOP_alloc_unbound, &a); r != 0 {
		f.Fatalf("alloc_unbound: %d", r)
	}
	return a.Port
}

// Send raises an event in domain 0.
func (f *Front) Send(port uint32) {
	f.Helper()
	if r := FrontOp(f, xenabi.HYPERVISOR_event_channel_op, xenabi.EVTCHNOP_send, &xenabi.EvtchnPort{Port: port}); r != 0 {
		f.Fatalf("send to %d: %d", port, r)
	}
}

// ClosePort closes an event channel's end in the guest.
func (f *Front) ClosePort(port uint32) {
	f.Helper()
	FrontOp(f, xenabi.HYPERVISOR_event_channel_op, xenabi.EVTCHNOP_close, &xenabi.EvtchnPort{Port: port})
}

// Events is how many events a port has had.
func (f *Front) Events(port uint32) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.events[port]
}

// Until waits until ok, which is asked again after each event.
func (f *Front) Until(what string, ok func() bool) {
	f.Helper()
	guard := time.AfterFunc(Guard, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.late = true
		f.more.Broadcast()
	})
	defer guard.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for !ok() {
		if f.late {
			f.Fatalf("%s never came", what)
		}
		f.more.Wait()
	}
}

// Store makes a request of XenStore as the guest and returns the answer; one of
// XS_ERROR is empty with ok false.
func (f *Front) Store(typ, tx uint32, parts ...string) (answer string, ok bool) {
	f.Helper()
	payload := strings.Join(parts, "\x00")
	if typ != xenabi.XS_WRITE {
		payload += "\x00"
	}
	var msg []byte
	for _, w := range []uint32{typ, 1, tx, uint32(len(payload))} {
		msg = binary.LittleEndian.AppendUint32(msg, w)
	}
	msg = append(msg, payload...)
	page := f.page(frontStore)
	prod, _ := page.Load32(xenabi.XenstoreReqProd)
	for i, c := range msg { // requests are shorter than the ring, and one at a time
		f.check(page.Write(xenabi.XenstoreReq+int(prod+uint32(i))%xenabi.XENSTORE_RING_SIZE, []byte{c}))
	}
	f.check(page.Store32(xenabi.XenstoreReqProd, prod+uint32(len(msg))))
	f.Send(f.storePort)
	for {
		header, answer := f.reply()
		switch binary.LittleEndian.Uint32(header) {
		case typ:
			return answer, true
		case xenabi.XS_ERROR:
			return "", false
		}
	}
}

// reply is the next message of XenStore.
func (f *Front) reply() (header []byte, payload string) {
	f.Helper()
	page := f.page(frontStore)
	have := func() bool {
		return len(f.replies) >= 16 && len(f.replies)-16 >= int(binary.LittleEndian.Uint32(f.replies[12:]))
	}
	f.Until("XenStore's answer", func() bool {
		cons, _ := page.Load32(xenabi.XenstoreRspCons)
		prod, _ := page.Load32(xenabi.XenstoreRspProd)
		for ; cons != prod; cons++ {
			var b [1]byte
			_ = page.Read(xenabi.XenstoreRsp+int(cons)%xenabi.XENSTORE_RING_SIZE, b[:])
			f.replies = append(f.replies, b[0])
		}
		_ = page.Store32(xenabi.XenstoreRspCons, cons)
		return have()
	})
	n := 16 + int(binary.LittleEndian.Uint32(f.replies[12:]))
	header, payload = f.replies[:16], string(f.replies[16:n])
	f.replies = f.replies[n:]
	return header, payload
}

// ReadNode is a node of XenStore as the guest sees it.
func (f *Front) ReadNode(path string) string {
	f.Helper()
	v, _ := f.Store(xenabi.XS_READ, 0, path)
	return v
}

// Publish writes nodes below dir in one transaction, then, on its own, the
// state, as front ends do.
func (f *Front) Publish(dir string, state int, nodes map[string]string) {
	f.Helper()
	for {
		id, _ := f.Store(xenabi.XS_TRANSACTION_START, 0, "")
		tx, err := strconv.ParseUint(strings.TrimSuffix(id, "\x00"), 10, 32)
		f.check(err)
		for name, value := range nodes {
			if _, ok := f.Store(xenabi.XS_WRITE, uint32(tx), dir+"/"+name, value); !ok {
				f.Fatalf("the guest may not write %s/%s", dir, name)
			}
		}
		if _, ok := f.Store(xenabi.XS_TRANSACTION_END, uint32(tx), "T"); ok {
			break
		}
	}
	if _, ok := f.Store(xenabi.XS_WRITE, 0, dir+"/state", strconv.Itoa(state)); !ok {
		f.Fatalf("the guest may not write %s/state", dir)
	}
}

// Await waits until a node has a value.
func (f *Front) Await(path, want string) {
	f.Helper()
	f.await(path, want, func(got string) bool { return got == want })
}

// AwaitOther waits until a node has another value than this.
func (f *Front) AwaitOther(path, than string) {
	f.Helper()
	f.await(path, "another", func(got string) bool { return got != than })
}

func (f *Front) await(path, want string, is func(string) bool) {
	f.Helper()
	w, err := f.Client.Watch(path)
	f.check(err)
	defer w.Close()
	guard := time.NewTimer(Guard)
	defer guard.Stop()
	for {
		got := f.ReadNode(path)
		if is(got) {
			return
		}
		select {
		case <-w.C:
		case <-guard.C:
			f.Fatalf("%s is %q and never became %q", path, got, want)
		}
	}
}
