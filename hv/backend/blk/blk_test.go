package blk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// image is a file as the platform's are, with switches for faults.
type image struct {
	*os.File
	size int64

	mu       sync.Mutex
	fail     error // guarded by mu; of every transfer
	hold     bool  // guarded by mu; flushes wait
	waiting  int   // guarded by mu
	changed  *sync.Cond
	flushes  int  // guarded by mu
	discards int  // guarded by mu
	noHoles  bool // guarded by mu
	closed   bool // guarded by mu
	calls    int  // guarded by mu
	prompt   bool // guarded by mu; transfers need not wait
	prompts  int  // guarded by mu; those that did not
}

func newImage(t testing.TB, content []byte) *image {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	i := &image{File: f, size: int64(len(content))}
	i.changed = sync.NewCond(&i.mu)
	return i
}

func (i *image) content(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(i.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (i *image) Size() int64 { return i.size }

func (i *image) enter() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls++
	i.changed.Broadcast()
	return i.fail
}

func (i *image) set(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
	i.changed.Broadcast()
}

func (i *image) move(bufs [][]byte, off int64, one func([]byte, int64) (int, error)) error {
	if err := i.enter(); err != nil {
		return err
	}
	for _, b := range bufs {
		if _, err := one(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

func (i *image) ReadV(bufs [][]byte, off int64) error  { return i.move(bufs, off, i.ReadAt) }
func (i *image) WriteV(bufs [][]byte, off int64) error { return i.move(bufs, off, i.WriteAt) }

func (i *image) ReadVNow(bufs [][]byte, off int64) bool  { return i.moveNow(bufs, off, i.ReadAt) }
func (i *image) WriteVNow(bufs [][]byte, off int64) bool { return i.moveNow(bufs, off, i.WriteAt) }

func (i *image) moveNow(bufs [][]byte, off int64, one func([]byte, int64) (int, error)) bool {
	prompt := false
	i.set(func() {
		if prompt = i.prompt; prompt {
			i.prompts++
		}
	})
	return prompt && i.move(bufs, off, one) == nil
}

func (i *image) Flush() error {
	i.set(func() {
		i.flushes++
		i.waiting++
		i.changed.Broadcast()
		for i.hold {
			i.changed.Wait()
		}
		i.waiting--
	})
	return i.enter()
}

func (i *image) Discard(off, n int64) error {
	i.set(func() { i.discards++ })
	if i.noHoles {
		return errors.ErrUnsupported
	}
	return i.move([][]byte{make([]byte, n)}, off, i.WriteAt)
}

func (i *image) Close() error {
	i.set(func() { i.closed = true })
	return i.File.Close()
}

// rig is a disk with a front end by hand.
type rig struct {
	*hvtest.Front
	disk   *Disk
	device *backend.Device
	dir    string // the front end's
	back   string
	narrow bool
	ring   *hvtest.FrontRing
	port   uint32
	nextID uint64

	mu     sync.Mutex
	events []hv.Event // guarded by mu
	full   int        // guarded by mu
}

func newRig(t testing.TB, c Config, img *image) *rig {
	t.Helper()
	r := &rig{Front: hvtest.NewFront(t)}
	c.UUID, c.Log = "the disk", r.Log
	c.Event = func(e hv.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	}
	c.Full = func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.full++
	}
	r.disk = New(c, nil)
	if img != nil {
		r.disk = New(c, img)
	}
	var err error
	if r.device, err = r.disk.Attach(&backend.Guest{Domid: 1, Domain: r.Domain, Store: r.Client, Log: r.Log}); err != nil {
		t.Fatal(err)
	}
	number := strconv.Itoa(Number(c.Index))
	r.dir, r.back = "/local/domain/1/device/vbd/"+number, "/local/domain/0/backend/vbd/1/"+number
	t.Cleanup(func() {
		r.device.Close()
		if err := r.disk.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// connect publishes a ring of 1<<order pages.
func (r *rig) connect(order int, narrow bool) {
	r.Helper()
	size, protocol := xenabi.BlkifEntry, "x86_64-abi"
	if r.narrow = narrow; narrow {
		size, protocol = xenabi.BlkifEntry32, "x86_32-abi"
	}
	r.ring, r.port = r.NewRing(1<<order, size), r.Port()
	nodes := map[string]string{"event-channel": strconv.Itoa(int(r.port)), "protocol": protocol}
	if order == 0 {
		nodes["ring-ref"] = strconv.Itoa(int(r.ring.Refs[0]))
	} else {
		nodes["ring-page-order"] = strconv.Itoa(order)
		for i, ref := range r.ring.Refs {
			nodes["ring-ref"+strconv.Itoa(i)] = strconv.Itoa(int(ref))
		}
	}
	r.Publish(r.dir, xenabi.XenbusStateInitialised, nodes)
	r.Await(r.back+"/state", "4")
}

// page is a page of the guest with its grant.
type page struct {
	gfn uint64
	ref uint32
}

func (r *rig) pages(n int) []page {
	r.Helper()
	out := make([]page, n)
	for i := range out {
		gfn := r.Alloc()
		out[i] = page{gfn, r.Grant(gfn, false)}
	}
	return out
}

// whole is segments that take pages as they are.
func whole(pages []page) []xenabi.BlkifSegment {
	segs := make([]xenabi.BlkifSegment, len(pages))
	for i, p := range pages {
		segs[i] = xenabi.BlkifSegment{Gref: p.ref, Last: 7}
	}
	return segs
}

// put puts a request into the ring: with more segments than fit, or if asked to,
// an indirect one.
func (r *rig) put(op uint8, at uint64, segs []xenabi.BlkifSegment, indirect bool) uint64 {
	r.Helper()
	r.nextID += 1<<40 + 1
	id := r.nextID
	if !indirect && len(segs) <= xenabi.BLKIF_MAX_SEGMENTS_PER_REQUEST {
		if r.narrow {
			q := xenabi.BlkifRequest32{Operation: op, NrSegments: uint8(len(segs)), ID: xenabi.MakeU64(id), Sector: xenabi.MakeU64(at)}
			copy(q.Seg[:], segs)
			r.ring.Put(xenabi.Bytes(&q))
		} else {
			q := xenabi.BlkifRequest{Operation: op, NrSegments: uint8(len(segs)), ID: id, Sector: at}
			copy(q.Seg[:], segs)
			r.ring.Put(xenabi.Bytes(&q))
		}
		return id
	}
	var refs [xenabi.BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST]uint32
	for i := 0; i*segmentsPerPage < len(segs); i++ {
		gfn := r.Alloc()
		refs[i] = r.Grant(gfn, true)
		for k, s := range segs[i*segmentsPerPage : min(len(segs), (i+1)*segmentsPerPage)] {
			r.Write(gfn<<12+uint64(k*8), xenabi.Bytes(&s))
		}
	}
	if r.narrow {
		q := xenabi.BlkifRequestIndirect32{Operation: xenabi.BLKIF_OP_INDIRECT, IndirectOp: op, NrSegments: uint16(len(segs)), ID: xenabi.MakeU64(id), Sector: xenabi.MakeU64(at), IndirectRef: refs}
		r.ring.Put(xenabi.Bytes(&q))
	} else {
		q := xenabi.BlkifRequestIndirect{Operation: xenabi.BLKIF_OP_INDIRECT, IndirectOp: op, NrSegments: uint16(len(segs)), ID: id, Sector: at, IndirectRef: refs}
		r.ring.Put(xenabi.Bytes(&q))
	}
	return id
}

func (r *rig) discard(at, n uint64) uint64 {
	r.nextID++
	if r.narrow {
		q := xenabi.BlkifRequestDiscard32{Operation: xenabi.BLKIF_OP_DISCARD, ID: xenabi.MakeU64(r.nextID), Sector: xenabi.MakeU64(at), NrSectors: xenabi.MakeU64(n)}
		r.ring.Put(xenabi.Bytes(&q))
	} else {
		q := xenabi.BlkifRequestDiscard{Operation: xenabi.BLKIF_OP_DISCARD, ID: r.nextID, Sector: at, NrSectors: n}
		r.ring.Put(xenabi.Bytes(&q))
	}
	return r.nextID
}

func (r *rig) push() {
	r.Helper()
	if r.ring.Push() {
		r.Send(r.port)
	}
}

// answer is the next response.
func (r *rig) answer() (id uint64, op uint8, status int16) {
	r.Helper()
	r.Until("an answer", func() bool {
		if r.narrow {
			var a xenabi.BlkifResponse32
			ok := r.ring.Take(xenabi.Bytes(&a))
			id, op, status = a.ID.Value(), a.Operation, a.Status
			return ok
		}
		var a xenabi.BlkifResponse
		ok := r.ring.Take(xenabi.Bytes(&a))
		id, op, status = a.ID, a.Operation, a.Status
		return ok
	})
	return id, op, status
}

// do has one request served.
func (r *rig) do(op uint8, at uint64, segs []xenabi.BlkifSegment, indirect bool) int16 {
	r.Helper()
	want := r.put(op, at, segs, indirect)
	r.push()
	id, gotOp, status := r.answer()
	if id != want || gotOp != op {
		r.Fatalf("request %d, operation %d, was answered as %d, %d", want, op, id, gotOp)
	}
	return status
}

func (r *rig) want(what string, got, want int16) {
	r.Helper()
	if got != want {
		r.Errorf("%s: status %d, want %d", what, got, want)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	g := rand.NewChaCha8([32]byte{1})
	_, _ = g.Read(b)
	return b
}

// TestTransfers moves data in both directions through every form of request.
func TestTransfers(t *testing.T) {
	for _, c := range []struct {
		name   string
		order  int
		narrow bool
	}{{"64", 0, false}, {"32", 0, true}, {"64 in 16 pages", 4, false}, {"32 in 2 pages", 1, true}} {
		t.Run(c.name, func(t *testing.T) {
			content := random(2 << 20)
			img := newImage(t, content)
			r := newRig(t, Config{}, img)
			r.connect(c.order, c.narrow)
			for name, want := range map[string]string{
				"sectors": "4096", "sector-size": "512", "info": "0", "feature-flush-cache": "1", "feature-discard": "1",
				"feature-max-indirect-segments": "256", "mode": "w", "dev": "xvda",
			} {
				if got := r.ReadNode(r.back + "/" + name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			pages := r.pages(256)
			for _, n := range []int{1, 11, 12, 256} {
				for _, indirect := range []bool{false, true} {
					r.want("read", r.do(xenabi.BLKIF_OP_READ, 3, whole(pages[:n]), indirect), 0)
					for i, p := range pages[:n] {
						got := make([]byte, 4096)
						if r.Read(p.gfn<<12, got); !bytes.Equal(got, content[3*512+i*4096:][:4096]) {
							t.Fatalf("page %d of %d (indirect %v) is wrong", i, n, indirect)
						}
					}
					fresh := random(n * 4096)
					for i, p := range pages[:n] {
						fresh[i*4096] = byte(n)
						r.Write(p.gfn<<12, fresh[i*4096:][:4096])
					}
					r.want("write", r.do(xenabi.BLKIF_OP_WRITE, 5, whole(pages[:n]), indirect), 0)
					copy(content[5*512:], fresh)
				}
			}
			// Parts of pages, and the last sector.
			segs := []xenabi.BlkifSegment{{Gref: pages[0].ref, First: 2, Last: 2}, {Gref: pages[1].ref, First: 6, Last: 7}}
			r.want("read parts", r.do(xenabi.BLKIF_OP_READ, 4093, segs, false), 0)
			got := make([]byte, 4096*2)
			r.Read(pages[0].gfn<<12, got[:4096])
			r.Read(pages[1].gfn<<12, got[4096:])
			if !bytes.Equal(append(got[1024:1536:1536], got[4096+3072:]...), content[4093*512:]) {
				t.Error("parts of pages are wrong")
			}
			r.want("flush", r.do(xenabi.BLKIF_OP_FLUSH_DISKCACHE, 0, nil, false), 0)
			id := r.discard(8, 4088)
			r.push()
			if got, op, status := r.answer(); got != id || op != xenabi.BLKIF_OP_DISCARD || status != 0 {
				t.Errorf("discard: %d %d %d", got, op, status)
			}
			clear(content[8*512:])
			if !bytes.Equal(img.content(t), content) {
				t.Error("the image does not hold what was written")
			}
			if img.flushes != 1 || img.discards != 1 {
				t.Errorf("%d flushes, %d discards", img.flushes, img.discards)
			}
			s := hv.Stats{Disks: map[string]hv.DiskStats{}}
			r.disk.Count(&s)
			const eight = 2 * (1 + 11 + 12 + 256) * 4096
			if got, want := s.Disks["the disk"], (hv.DiskStats{ReadBytes: eight + 3*512, WriteBytes: eight, Reads: 9, Writes: 8}); got != want {
				t.Errorf("counted %+v, want %+v", got, want)
			}
		})
	}
}

// TestManyAtOnce fills the ring again and again, with requests that follow each
// other on the disk and such that do not, and checks each answer's data.
func TestManyAtOnce(t *testing.T) {
	content := random(8 << 20)
	img := newImage(t, content)
	r := newRig(t, Config{Index: 2}, img)
	r.connect(1, false)
	pages := r.pages(int(r.ring.Size))
	g := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		at := map[uint64]int{} // by id, which page
		sectors := make([]uint64, len(pages))
		for i, p := range pages {
			sectors[i] = uint64(i * 8)
			if round%2 == 1 {
				sectors[i] = g.Uint64N(2047) * 8
			}
			at[r.put(xenabi.BLKIF_OP_READ, sectors[i], whole([]page{p}), false)] = i
			if g.IntN(10) == 0 {
				r.push()
			}
		}
		r.push()
		for range pages {
			id, _, status := r.answer()
			i, ok := at[id]
			if !ok || status != 0 {
				t.Fatalf("request %d: %v, status %d", id, ok, status)
			}
			delete(at, id)
			got := make([]byte, 4096)
			if r.Read(pages[i].gfn<<12, got); !bytes.Equal(got, content[sectors[i]*512:][:4096]) {
				t.Fatalf("round %d: page %d is wrong", round, i)
			}
		}
	}
	img.mu.Lock()
	defer img.mu.Unlock()
	if n := 30 * len(pages); img.calls >= n {
		t.Errorf("%d transfers for %d requests: none were joined", img.calls, n)
	}
}

// TestOutOfOrder has a later request answered while an earlier one waits.
// TestNow: what need not wait is answered before the guest's event has returned.
func TestNow(t *testing.T) {
	content := random(1 << 20)
	img := newImage(t, content)
	r := newRig(t, Config{}, img)
	r.connect(0, false)
	r.device.Do(func() {}) // Connect's own Wake is over, or comes to nothing
	p := r.pages(2)
	answered := func() (n int) {
		var a xenabi.BlkifResponse
		for r.ring.Take(xenabi.Bytes(&a)) && a.Status == 0 {
			n++
		}
		return n
	}
	page := make([]byte, 4096)
	img.set(func() { img.prompt = true })
	r.want("first", r.do(xenabi.BLKIF_OP_READ, 0, whole(p), false), 0)
	for i := range 20 {
		before := img.prompts
		r.put(xenabi.BLKIF_OP_READ, uint64(i*16), whole(p), false)
		r.put(xenabi.BLKIF_OP_WRITE, uint64(1024+i*16), whole(p), false)
		if r.push(); answered() != 2 || img.prompts != before+2 {
			t.Fatal("a transfer that need not wait was left to the device's goroutine")
		}
		if r.Read(p[1].gfn<<12, page); !bytes.Equal(page, content[i*8192+4096:][:4096]) {
			t.Fatal("it read something else")
		}
	}
	if !bytes.Equal(img.content(t)[512<<10:][:8192], content[:8192]) {
		t.Error("it wrote something else")
	}
	for range 2 * tryAgain { // now and then the device tries whether there are more
		r.want("read", r.do(xenabi.BLKIF_OP_READ, 0, whole(p), false), 0)
	}
	// Not what is much, nor what is no transfer, nor what has to wait.
	before := img.prompts
	r.want("much", r.do(xenabi.BLKIF_OP_READ, 0, whole(r.pages(33)), true), 0)
	r.want("flush", r.do(xenabi.BLKIF_OP_FLUSH_DISKCACHE, 0, nil, false), 0)
	img.set(func() { img.prompt = false })
	r.want("slow", r.do(xenabi.BLKIF_OP_READ, 0, whole(p), false), 0)
	if img.prompts != before {
		t.Error("a processor's thread did what is not for it")
	}
	// While the device stands still nobody touches the ring, and nothing is forgotten.
	img.set(func() { img.prompt = true })
	release, err := r.device.Hold()
	if err != nil {
		t.Fatal(err)
	}
	r.put(xenabi.BLKIF_OP_READ, 0, whole(p), false)
	if r.push(); answered() > 0 {
		t.Error("a device that was held has answered")
	}
	release()
	if _, _, status := r.answer(); status != 0 {
		t.Errorf("status %d", status)
	}
	// A front end that breaks the rules loses the device, and can begin again.
	r.ring.Set(xenabi.SringReqProd, 1<<20)
	r.Send(r.port)
	r.Await(r.back+"/state", "5")
}

func TestOutOfOrder(t *testing.T) {
	img := newImage(t, random(1<<20))
	r := newRig(t, Config{}, img)
	r.connect(0, false)
	p := r.pages(2)
	img.set(func() { img.hold = true })
	slow := r.put(xenabi.BLKIF_OP_FLUSH_DISKCACHE, 0, nil, false)
	r.push()
	img.set(func() {
		for img.waiting == 0 {
			img.changed.Wait()
		}
	})
	quick := r.put(xenabi.BLKIF_OP_READ, 8, whole(p), false)
	r.push()
	if id, _, status := r.answer(); id != quick || status != 0 {
		t.Errorf("%d, status %d came first", id, status)
	}
	img.set(func() { img.hold = false })
	if id, _, status := r.answer(); id != slow || status != 0 {
		t.Errorf("%d, status %d came second", id, status)
	}
}

// TestRefused asks for what cannot be; the disk goes on.
func TestRefused(t *testing.T) {
	img := newImage(t, random(64<<10))
	r := newRig(t, Config{}, img)
	r.connect(0, false)
	p := r.pages(1)
	good := whole(p)
	readonly := []xenabi.BlkifSegment{{Gref: r.Grant(p[0].gfn, true), Last: 7}}
	for _, c := range []struct {
		name     string
		op       uint8
		at       uint64
		segs     []xenabi.BlkifSegment
		indirect bool
		want     int16
	}{
		{"beyond the end", xenabi.BLKIF_OP_READ, 121, good, false, -1},
		{"far beyond", xenabi.BLKIF_OP_WRITE, 1<<63 - 1, good, false, -1},
		{"so far that it wraps", xenabi.BLKIF_OP_WRITE, 1<<64 - 1, good, false, -1},
		{"no segments", xenabi.BLKIF_OP_READ, 0, nil, false, -1},
		{"sectors backwards", xenabi.BLKIF_OP_READ, 0, []xenabi.BlkifSegment{{Gref: p[0].ref, First: 3, Last: 2}}, false, -1},
		{"sector beyond the page", xenabi.BLKIF_OP_READ, 0, []xenabi.BlkifSegment{{Gref: p[0].ref, Last: 8}}, false, -1},
		{"no such grant", xenabi.BLKIF_OP_READ, 0, []xenabi.BlkifSegment{{Gref: 1 << 31, Last: 7}}, false, -1},
		{"grant taken back", xenabi.BLKIF_OP_READ, 0, []xenabi.BlkifSegment{{Gref: 2000, Last: 7}}, false, -1},
		{"page to be read", xenabi.BLKIF_OP_READ, 0, readonly, false, -1},
		{"page to be read, written to disk", xenabi.BLKIF_OP_WRITE, 0, readonly, false, 0},
		{"too many segments", xenabi.BLKIF_OP_READ, 0, whole(r.pages(257)), true, -1},
		{"indirect flush", xenabi.BLKIF_OP_FLUSH_DISKCACHE, 0, good, true, -1},
		{"barrier", xenabi.BLKIF_OP_WRITE_BARRIER, 0, good, false, -2},
		{"unknown", 77, 0, good, false, -2},
		{"reserved", 4, 0, good, false, -2},
		{"indirect of an indirect", xenabi.BLKIF_OP_INDIRECT, 0, good, true, -2},
		{"flush with data", xenabi.BLKIF_OP_FLUSH_DISKCACHE, 0, good, false, 0},
		{"a good one", xenabi.BLKIF_OP_READ, 120, good, false, 0},
	} {
		r.want(c.name, r.do(c.op, c.at, c.segs, c.indirect), c.want)
	}
	for _, c := range []struct {
		at, n uint64
		want  int16
	}{{0, 129, -1}, {1 << 63, 1 << 63, -1}, {128, 0, 0}, {129, 0, -1}, {0, 128, 0}} {
		r.discard(c.at, c.n)
		r.push()
		_, _, status := r.answer()
		r.want("discard", status, c.want)
	}
	if len(r.events) != 0 {
		t.Errorf("events: %v", r.events)
	}
}

func TestReadOnly(t *testing.T) {
	content := random(64 << 10)
	img := newImage(t, content)
	r := newRig(t, Config{ReadOnly: true}, img)
	r.connect(0, false)
	if info, mode, discard := r.ReadNode(r.back+"/info"), r.ReadNode(r.back+"/mode"), r.ReadNode(r.back+"/feature-discard"); info != "4" || mode != "r" || discard != "" {
		t.Errorf("info %q, mode %q, feature-discard %q", info, mode, discard)
	}
	p := r.pages(1)
	r.want("read", r.do(xenabi.BLKIF_OP_READ, 0, whole(p), false), 0)
	r.want("flush", r.do(xenabi.BLKIF_OP_FLUSH_DISKCACHE, 0, nil, false), 0)
	r.want("write", r.do(xenabi.BLKIF_OP_WRITE, 0, whole(p), false), -1)
	r.want("indirect write", r.do(xenabi.BLKIF_OP_WRITE, 0, whole(p), true), -1)
	r.want("flush with data", r.do(xenabi.BLKIF_OP_FLUSH_DISKCACHE, 0, whole(p), false), 0)
	r.discard(0, 8)
	r.push()
	_, _, status := r.answer()
	r.want("discard", status, -1)
	if !bytes.Equal(img.content(t), content) {
		t.Error("a read-only image was written")
	}
}

// TestMedia changes what is in a drive while it is in use.
func TestMedia(t *testing.T) {
	r := newRig(t, Config{ReadOnly: true, CD: true, Index: 3}, nil)
	r.connect(0, false)
	p := r.pages(1)
	look := func(sectors string, status int16, first []byte) {
		t.Helper()
		if got := r.ReadNode(r.back + "/sectors"); got != sectors {
			t.Errorf("the drive has %q sectors, want %s", got, sectors)
		}
		r.want("read", r.do(xenabi.BLKIF_OP_READ, 0, whole(p), false), status)
		got := make([]byte, len(first))
		if r.Read(p[0].gfn<<12, got); !bytes.Equal(got, first) {
			t.Error("the drive reads as something else")
		}
	}
	if info := r.ReadNode(r.back + "/info"); info != "7" {
		t.Errorf("info %q", info)
	}
	look("0", -1, nil)
	one, two := random(64<<10), random(32<<10)
	two[0]++
	first, second := newImage(t, one), newImage(t, two)
	if err := r.disk.Change(first); err != nil {
		t.Fatal(err)
	}
	look("128", 0, one[:4096])
	// A read that is under way ends before its medium goes.
	first.set(func() { first.hold = true })
	r.put(xenabi.BLKIF_OP_FLUSH_DISKCACHE, 0, nil, false)
	r.push()
	first.set(func() {
		for first.waiting == 0 {
			first.changed.Wait()
		}
	})
	changed := make(chan error)
	go func() { changed <- r.disk.Change(second) }()
	r.Await(r.back+"/sectors", "64")
	first.set(func() {
		if first.closed {
			t.Error("a medium was closed that is in use")
		}
		first.hold = false
	})
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	_, _, status := r.answer()
	r.want("flush", status, 0)
	look("64", 0, two[:4096])
	if err := r.disk.Change(nil); err != nil {
		t.Fatal(err)
	}
	look("0", -1, nil)
	if !first.closed || !second.closed {
		t.Error("a medium was not closed")
	}
	// Without a machine.
	r.device.Close()
	third := newImage(t, one)
	if err := r.disk.Change(third); err != nil {
		t.Fatal(err)
	}
	if n := r.disk.nodes()["sectors"]; n != "128" {
		t.Errorf("the next machine will see %s sectors", n)
	}
	if err := r.disk.Change(nil); err != nil || !third.closed {
		t.Errorf("without a machine the medium stays open: %v", err)
	}
	if err := newRig(t, Config{}, newImage(t, one)).disk.Change(nil); err == nil {
		t.Error("the medium of a disk was changed")
	}
}

// TestErrors has the host fail: once for good, once for want of room.
func TestErrors(t *testing.T) {
	img := newImage(t, random(64<<10))
	r := newRig(t, Config{}, img)
	r.connect(0, false)
	p := r.pages(3)
	img.set(func() { img.fail = syscall.EIO })
	r.want("write", r.do(xenabi.BLKIF_OP_WRITE, 0, whole(p), false), -1)
	r.want("read", r.do(xenabi.BLKIF_OP_READ, 0, whole(p), false), -1)
	if len(r.events) != 2 || r.events[0] != (hv.Event{Kind: hv.EventIOError, Object: "the disk", Text: "the guest could not write to a disk (input/output error)"}) {
		t.Errorf("events: %+v", r.events)
	}
	img.set(func() { img.fail, img.noHoles = nil, true })
	r.discard(0, 8)
	r.push()
	_, _, status := r.answer()
	r.want("discard", status, xenabi.BLKIF_RSP_EOPNOTSUPP)

	img.set(func() { img.fail = syscall.ENOSPC })
	before := img.calls
	for i := range 3 {
		r.put(xenabi.BLKIF_OP_WRITE, uint64(i*24), whole(p), false)
	}
	r.push()
	full := func(n int) {
		t.Helper()
		img.set(func() {
			for img.calls < before+n {
				img.changed.Wait()
			}
		})
		r.device.Do(func() {}) // what has been done is told
	}
	full(1)
	r.disk.Retry()
	img.set(func() { img.fail = nil })
	answered := make(chan bool)
	go func() {
		for range 3 {
			_, _, status := r.answer()
			r.want("write", status, 0)
		}
		close(answered)
	}()
	for done := false; !done; {
		r.disk.Retry()
		select {
		case <-answered:
			done = true
		default:
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full == 0 || len(r.events) != 2 {
		t.Errorf("full %d times, events %v", r.full, r.events)
	}
}

// TestStalledEnd takes a machine away whose disk waits for room.
func TestStalledEnd(t *testing.T) {
	img := newImage(t, random(64<<10))
	r := newRig(t, Config{}, img)
	r.connect(0, false)
	img.set(func() { img.fail = syscall.EDQUOT })
	for range 4 {
		r.put(xenabi.BLKIF_OP_WRITE, 0, whole(r.pages(1)), false)
	}
	r.push()
	img.set(func() {
		for img.calls < 1 {
			img.changed.Wait()
		}
	})
	r.Publish(r.dir, xenabi.XenbusStateClosing, nil)
	r.Await(r.back+"/state", "5")
	img.set(func() { img.fail = errors.New("must not be asked any more") })
	before := img.calls
	r.disk.Retry()
	r.device.Close()
	r.disk.Retry()
	if img.calls != before || len(r.events) > 0 {
		t.Errorf("%d transfers after the end, events %v", img.calls-before, r.events)
	}
}

func TestNames(t *testing.T) {
	for i, want := range map[int][2]string{0: {"51712", "xvda"}, 1: {"51728", "xvdb"}, 15: {"51952", "xvdp"}, 16: {"268439552", "xvdq"}, 23: {"268441344", "xvdx"}} {
		r := newRig(t, Config{Index: i}, newImage(t, make([]byte, 512)))
		if got := r.ReadNode(r.dir + "/virtual-device"); got != want[0] {
			t.Errorf("disk %d has number %s, want %s", i, got, want[0])
		}
		if got := r.ReadNode(r.back + "/dev"); got != want[1] {
			t.Errorf("disk %d is %s, want %s", i, got, want[1])
		}
	}
}
