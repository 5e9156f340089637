package native

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// A hostile guest: it knows the rules, follows them as far as it must to be
// listened to, and then breaks each of them.
const (
	hostileArgs  = 0x400000 // scratch of processor n at +n<<16
	hostileGrant = 0x800000 // frames that it has as its grant table
	hostileRings = 0x900000 // pages that it shares
	hostilePages = 64
	grantFrames  = 2

	// Counters of what is no hypercall.
	hostileCard = 50
	hostileDisk = 51
)

type hostile struct {
	*hvtest.FakeCPU
	rnd      *rand.Rand
	id       int
	calls    *[64]atomic.Int64 // hypercalls made, by number
	store    uint64            // XenStore's page
	ports    []uint32          // that it has
	diskPort uint32
	rings    map[string]uint64 // by kind of device, the last that was published
	deaf     int               // how often XenStore has not answered
}

func (g *hostile) args() uint64 { return hostileArgs + uint64(g.id)<<16 }

// number is small, near a power of two, or anything: where bounds are missed.
func (g *hostile) number() uint64 {
	switch g.rnd.IntN(8) {
	case 0, 1, 2:
		return uint64(g.rnd.IntN(16))
	case 3:
		return 1<<g.rnd.IntN(64) - uint64(g.rnd.IntN(3))
	case 4:
		return uint64(hostileRings/4096 + g.rnd.IntN(hostilePages)) // one of its frames
	case 5:
		return xenabi.DOMID_SELF
	case 6:
		return g.args() + uint64(g.rnd.IntN(0x2000))
	}
	return g.rnd.Uint64()
}

// garbage is structures of numbers in words of all sizes.
func (g *hostile) garbage(n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		switch v := g.number(); g.rnd.IntN(4) {
		case 0:
			b = binary.LittleEndian.AppendUint64(b, v)
		case 1, 2:
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		case 3:
			b = binary.LittleEndian.AppendUint16(b, uint16(v))
		}
	}
	return b[:n]
}

var hostileNumbers = []uint64{
	xenabi.HYPERVISOR_memory_op, xenabi.HYPERVISOR_multicall, xenabi.HYPERVISOR_set_timer_op, xenabi.HYPERVISOR_xen_version,
	xenabi.HYPERVISOR_console_io, xenabi.HYPERVISOR_grant_table_op, xenabi.HYPERVISOR_vm_assist, xenabi.HYPERVISOR_vcpu_op,
	xenabi.HYPERVISOR_sched_op, xenabi.HYPERVISOR_event_channel_op, xenabi.HYPERVISOR_physdev_op, xenabi.HYPERVISOR_hvm_op,
	xenabi.HYPERVISOR_sysctl, xenabi.HYPERVISOR_domctl, 40, 41, 63,
}

// call makes any hypercall but those by which a guest ends itself.
func (g *hostile) call() {
	nr := hostileNumbers[g.rnd.IntN(len(hostileNumbers))]
	args := []uint64{uint64(g.rnd.IntN(26)), g.number(), g.number(), g.number(), g.number()}
	if g.rnd.IntN(3) > 0 { // mostly a structure where one is looked for
		at := 1
		switch nr {
		case xenabi.HYPERVISOR_vcpu_op, xenabi.HYPERVISOR_console_io:
			at = 2
		case xenabi.HYPERVISOR_multicall:
			at = 0
		}
		args[at] = g.args() + uint64(g.rnd.IntN(8))*4
		if nr == xenabi.HYPERVISOR_multicall {
			args[1] = uint64(g.rnd.IntN(40))
		}
		if at == 2 && nr == xenabi.HYPERVISOR_vcpu_op {
			args[1] = uint64(g.rnd.IntN(3))
		}
		g.Store(g.args(), g.garbage(512))
	}
	ends := func(nr, cmd uint64) bool {
		return nr == xenabi.HYPERVISOR_sched_op && (cmd == xenabi.SCHEDOP_shutdown || cmd == xenabi.SCHEDOP_remote_shutdown || cmd == xenabi.SCHEDOP_shutdown_code || cmd == xenabi.SCHEDOP_watchdog)
	}
	waits := args[0] == xenabi.SCHEDOP_block || args[0] == xenabi.SCHEDOP_poll
	if ends(nr, args[0]) || nr == xenabi.HYPERVISOR_sched_op && waits && g.rnd.IntN(50) > 0 {
		args[0] = xenabi.SCHEDOP_pin_override
	}
	if cut := args[0] == xenabi.EVTCHNOP_close || args[0] == xenabi.EVTCHNOP_reset; cut && nr == xenabi.HYPERVISOR_event_channel_op && g.rnd.IntN(50) > 0 {
		args[0] = xenabi.EVTCHNOP_unmask // its devices would hear little
	}
	if nr == xenabi.HYPERVISOR_multicall { // nor in a multicall
		const size = 64
		for i := range uint64(40) {
			at := g.args() + 32 + i*size
			if ends(load[uint64](g.FakeCPU, at), load[uint64](g.FakeCPU, at+16)) {
				g.Store(at, make([]byte, size))
			}
		}
		args[0] = g.args() + 32
	}
	g.calls[nr%64].Add(1)
	g.Call(g.rnd.IntN(4) > 0, nr, args...)
}

// xs makes a request of XenStore by the rules, and returns the answer; without
// an answer after a while, nothing.
func (g *hostile) xs(kind uint32, payload string) string {
	if g.deaf > 5 {
		return ""
	}
	h := xenabi.XSDSockmsg{Type: kind, ReqID: 7, Len: uint32(len(payload))}
	msg := append(append([]byte{}, xenabi.Bytes(&h)...), payload...)
	prod := g.Add(g.store+xenabi.XenstoreReqProd, 0)
	for i, b := range msg {
		g.Store(g.store+xenabi.XenstoreReq+uint64((prod+uint32(i))%1024), []byte{b})
	}
	g.Add(g.store+xenabi.XenstoreReqProd, uint32(len(msg)))
	send(g.FakeCPU, param(g.FakeCPU, xenabi.HVM_PARAM_STORE_EVTCHN))
	var answer []byte
	for begun := time.Now(); time.Since(begun) < 200*time.Millisecond; {
		cons, prod := g.Add(g.store+xenabi.XenstoreRspCons, 0), g.Add(g.store+xenabi.XenstoreRspProd, 0)
		for ; cons != prod && prod-cons <= 1024; cons++ { // another processor may be at it too
			var b [1]byte
			g.Load(g.store+xenabi.XenstoreRsp+uint64(cons%1024), b[:])
			answer = append(answer, b[0])
			g.Add(g.store+xenabi.XenstoreRspCons, 1)
		}
		if len(answer) >= 16 {
			n := int(binary.LittleEndian.Uint32(answer[12:]))
			if kind := binary.LittleEndian.Uint32(answer); len(answer) >= 16+n && kind != xenabi.XS_WATCH_EVENT {
				return string(answer[16 : 16+n])
			} else if len(answer) >= 16+n {
				answer = answer[16+n:]
			}
		}
		time.Sleep(20 * time.Microsecond)
		g.Step()
	}
	g.deaf++
	return ""
}

// connect publishes what front ends publish, for every device that there is.
func (g *hostile) connect() {
	for _, kind := range []string{"vbd", "vif", "vfb", "vkbd"} {
		if g.rnd.IntN(2) == 0 {
			continue
		}
		for id := range strings.SplitSeq(strings.TrimRight(g.xs(xenabi.XS_DIRECTORY, "device/"+kind+"\x00"), "\x00"), "\x00") {
			if id == "" || id == "ENOENT" {
				continue
			}
			dir := "device/" + kind + "/" + id + "/"
			write := func(name string, v uint64) { g.xs(xenabi.XS_WRITE, fmt.Sprintf("%s%s\x00%d", dir, name, v)) }
			write("state", xenabi.XenbusStateInitialising)
			page := uint64(g.rnd.IntN(hostilePages))
			_, p := op(g.FakeCPU, xenabi.HYPERVISOR_event_channel_op, xenabi.EVTCHNOP_alloc_unbound, xenabi.EvtchnAllocUnbound{Dom: xenabi.DOMID_SELF})
			g.ports = append(g.ports, p.Port)
			for _, name := range []string{"ring-ref", "tx-ring-ref"} {
				write(name, 8+page)
			}
			write("rx-ring-ref", 8+(page+1)%hostilePages)
			write("page-ref", hostileRings/4096+page)
			write("event-channel", uint64(p.Port))
			write("request-rx-copy", 1)
			write("feature-update", 1)
			write("request-abs-pointer", 1)
			protocol := []string{"x86_64-abi", "x86_64-abi", "x86_32-abi", "", "none"}[g.rnd.IntN(5)]
			g.xs(xenabi.XS_WRITE, dir+"protocol\x00"+protocol)
			g.Store(hostileRings+page<<12, make([]byte, 8192)) // indices that make sense
			if kind != "vbd" && kind != "vif" {
				g.Store(hostileRings+page<<12+16, g.garbage(24))
			}
			if kind == "vbd" {
				g.diskPort = p.Port
			}
			g.rings[kind] = hostileRings + page<<12
			write("state", xenabi.XenbusStateInitialised)
			write("state", xenabi.XenbusStateConnected)
		}
	}
}

// diskRequest makes a request that makes some sense to a disk.
func (g *hostile) diskRequest(page uint64) {
	b := make([]byte, 112)
	b[0], b[1] = byte(g.rnd.IntN(8)), byte(g.rnd.IntN(13))
	binary.LittleEndian.PutUint64(b[16:], g.number()%4096)
	for i := range 11 {
		binary.LittleEndian.PutUint32(b[24+8*i:], uint32(8+g.rnd.IntN(hostilePages)))
		b[28+8*i], b[29+8*i] = byte(g.rnd.IntN(9)), byte(g.rnd.IntN(9))
	}
	g.Store(page+64+uint64(load[uint32](g.FakeCPU, page)%32)*112, b)
	g.Add(page, 1)
}

// scribble writes where others read.
func (g *hostile) scribble() {
	page := uint64(hostileRings) + uint64(g.rnd.IntN(hostilePages))<<12
	if disk := g.rings["vbd"]; disk != 0 && g.rnd.IntN(3) > 0 {
		g.diskRequest(disk)
		send(g.FakeCPU, uint64(g.diskPort))
		return
	}
	switch g.rnd.IntN(10) {
	case 0, 1, 2: // a few requests of garbage
		g.Store(page+64+uint64(g.rnd.IntN(32))*112, g.garbage(112))
		g.Add(page, uint32(1+g.rnd.IntN(3)))
	case 3:
		g.diskRequest(page)
	case 4:
		g.Store(page+uint64(g.rnd.IntN(64)), g.garbage(16)) // indices
	case 5:
		if g.rnd.IntN(20) == 0 {
			g.Store(page, g.garbage(4096))
		}
	case 6:
		g.Store(hostileGrant+uint64(8+g.rnd.IntN(hostilePages))*8, g.garbage(8))
	case 7:
		g.grant(uint64(g.rnd.IntN(hostilePages)))
	case 8:
		if g.rnd.IntN(100) > 0 { // XenStore listens no more after it
			return
		}
		g.Store(g.store+uint64(g.rnd.IntN(1024)), g.garbage(64))
		g.Add(g.store+xenabi.XenstoreReqProd, uint32(g.rnd.IntN(64)))
	case 9:
		console := param(g.FakeCPU, xenabi.HVM_PARAM_CONSOLE_PFN) << 12
		g.Store(console+uint64(g.rnd.IntN(4096)), g.garbage(16))
	}
}

// grant shares a page by the rules.
func (g *hostile) grant(n uint64) {
	e := xenabi.GrantEntryV1{Flags: 1, Frame: uint32(hostileRings/4096 + n)}
	g.Store(hostileGrant+(8+n)*8, xenabi.Bytes(&e))
}

func (g *hostile) run() {
	g.store = param(g.FakeCPU, xenabi.HVM_PARAM_STORE_PFN) << 12
	g.ports = []uint32{uint32(param(g.FakeCPU, xenabi.HVM_PARAM_STORE_EVTCHN)), uint32(param(g.FakeCPU, xenabi.HVM_PARAM_CONSOLE_EVTCHN))}
	op(g.FakeCPU, xenabi.HYPERVISOR_memory_op, xenabi.XENMEM_add_to_physmap, xenabi.AddToPhysmap{Domid: xenabi.DOMID_SELF, Gpfn: hostileArgs/4096 - 1})
	for i := range uint64(grantFrames) {
		op(g.FakeCPU, xenabi.HYPERVISOR_memory_op, xenabi.XENMEM_add_to_physmap,
			xenabi.AddToPhysmap{Domid: xenabi.DOMID_SELF, Space: xenabi.XENMAPSPACE_grant_table, Idx: i, Gpfn: hostileGrant/4096 + i})
	}
	for i := range uint64(hostilePages) {
		g.grant(i)
	}
	for i := 0; ; i++ {
		switch n := g.rnd.IntN(100); {
		case i%300 == 0:
			g.connect()
		case n < 40:
			g.call()
		case n < 80:
			g.scribble()
		case n < 97:
			send(g.FakeCPU, uint64(g.ports[g.rnd.IntN(len(g.ports))]))
		default:
			g.xs(uint32(g.rnd.IntN(24)), string(g.garbage(g.rnd.IntN(60))))
		}
		g.Step()
	}
}

// TestHostileGuest has guests do all the harm that they can for a while. Each
// may end; the process goes on, and is no larger afterwards.
func TestHostileGuest(t *testing.T) {
	long := os.Getenv("HXEN_LONG") != ""
	rounds, each := 4, 2*time.Second
	if long {
		rounds, each = 60, 10*time.Second
	}
	var calls [64]atomic.Int64
	var before, after runtime.MemStats
	for round := range rounds {
		if round == 1 { // the first one brings what stays
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
		t.Run(fmt.Sprint(round), func(t *testing.T) { hostileRound(t, round, each, &calls) })
	}
	// Who was told of an event last may end a little after its guest.
	grown := int64(16 << 20)
	for end := time.Now().Add(time.Minute); grown >= 16<<20 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		runtime.ReadMemStats(&after)
		grown = int64(after.HeapAlloc) - int64(before.HeapAlloc)
	}
	if grown >= 16<<20 {
		t.Errorf("%d bytes stay of the guests", grown)
	}
	if long && calls[hostileDisk].Load() == 0 || long && calls[hostileCard].Load() == 0 {
		t.Errorf("the guests' disks did %d requests, their cards %d frames", calls[hostileDisk].Load(), calls[hostileCard].Load())
	}
	total := int64(0)
	for nr := range hostileCard {
		total += calls[nr].Load()
	}
	if total < 1000 {
		t.Errorf("only %d hypercalls were made", total)
	}
	t.Logf("%d guests made %d hypercalls, %d requests of disks, and had %d frames",
		rounds, total, calls[hostileDisk].Load(), calls[hostileCard].Load())
}

func hostileRound(t *testing.T, round int, each time.Duration, calls *[64]atomic.Int64) {
	s, untouched := hostileSpec(t)
	s.VCPUs = 1 + round%3
	program := func(c *hvtest.FakeCPU) {
		for id := range s.VCPUs {
			g := &hostile{rings: map[string]uint64{}, rnd: rand.New(rand.NewPCG(uint64(round), uint64(id))), id: id, calls: calls}
			if id == 0 {
				defer func() { g.FakeCPU = c; g.run() }()
				continue
			}
			c.Start(id, func(c *hvtest.FakeCPU) { g.FakeCPU = c; g.run() })
		}
	}
	host := hv.Host{OpenDisk: openHostFile, NICs: []string{"card"}, Dial: hvtest.Chatter}
	m, ended := launchFakeOn(t, host, s, program)
	var reader sync.WaitGroup
	reader.Go(func() { // somebody reads the serial line
		b := make([]byte, 4096)
		for {
			if _, err := m.(hv.Consoler).Console().Read(b); err != nil {
				return
			}
		}
	})
	time.Sleep(each)                                 // it is given time, not waited for
	if st, err := m.Stats(t.Context()); err == nil { // else it has ended by itself
		for _, d := range st.Disks {
			calls[hostileDisk].Add(int64(d.Reads + d.Writes))
		}
		for _, n := range st.NICs {
			calls[hostileCard].Add(int64(n.RxFrames + n.TxFrames))
		}
	}
	m.Close()
	reason, events := ended()
	reader.Wait()
	if reason != hv.ExitDestroyed && reason != hv.ExitCrash {
		t.Errorf("round %d: the guest ended as %q", round, reason)
	}
	if len(events) > 1000 {
		t.Errorf("round %d: the guest made %d events", round, len(events))
	}
	untouched(t)
}

// hostileSpec is a guest with one of each device, and a check that nothing
// beside its disk has changed.
func hostileSpec(t *testing.T) (hv.Spec, func(*testing.T)) {
	t.Helper()
	s := testSpec(t)
	dir := t.TempDir()
	neighbour := filepath.Join(dir, "neighbour")
	for _, f := range []string{"disk", "neighbour"} {
		if err := os.WriteFile(filepath.Join(dir, f), make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.NICs = []hv.NIC{{UUID: "01020304-0000-4000-8000-000000000030", MAC: "52:54:00:00:00:01", Network: "01020304-0000-4000-8000-000000000040"}}
	s.Disks = []hv.Disk{
		{UUID: "01020304-0000-4000-8000-000000000020", Path: filepath.Join(dir, "disk"), Format: "raw", Mode: hv.ReadWrite},
		{UUID: "01020304-0000-4000-8000-000000000021", Path: neighbour, Format: "raw", Mode: hv.ReadOnly},
	}
	return s, func(t *testing.T) {
		t.Helper()
		b, err := os.ReadFile(neighbour)
		if err != nil || len(b) != 1<<20 || strings.Trim(string(b), "\x00") != "" {
			t.Errorf("the guest has changed a disk that it may only read: %v", err)
		}
		if st, err := os.Stat(filepath.Join(dir, "disk")); err != nil || st.Size() != 1<<20 {
			t.Errorf("the guest has changed its disk's size: %v", err)
		}
	}
}

// hostFile is a disk on a file.
type hostFile struct {
	*os.File
	size int64
}

func openHostFile(path string, readonly bool) (hv.DiskFile, error) {
	flag := os.O_RDWR
	if readonly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	return hostFile{f, st.Size()}, err
}

func (f hostFile) Size() int64              { return f.size }
func (f hostFile) Flush() error             { return f.Sync() }
func (f hostFile) Discard(_, _ int64) error { return nil }

func (f hostFile) ReadV(bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if _, err := f.ReadAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

func (f hostFile) WriteV(bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}
