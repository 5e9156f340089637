package blk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// someGrants permits what its page says: grants below 8 are pages, odd ones to be
// read only.
type someGrants struct{ mem *guestmem.Memory }

func (g someGrants) Grant(ref uint32, write bool) (guestmem.Page, error) {
	if ref >= 8 || write && ref&1 != 0 {
		return guestmem.Page{}, errors.New("no")
	}
	return g.mem.Page(uint64(ref))
}

func (g someGrants) AppendBuffers(bufs [][]byte, pieces []xen.Piece, write bool) ([][]byte, error) {
	for _, p := range pieces {
		page, err := g.Grant(p.Ref, write)
		if err != nil {
			return nil, err
		}
		b, err := page.Buffer(int(p.Off), int(p.N))
		if err != nil {
			return nil, err
		}
		bufs = append(bufs, b)
	}
	return bufs, nil
}

// FuzzRequest reads requests with anything in them: what is taken is the disk's
// and the guest's, and no more than it may be.
func FuzzRequest(f *testing.F) {
	mem := guestmem.New(guestmem.Config{})
	if err := mem.Add(0, guestmem.Host(8)); err != nil {
		f.Fatal(err)
	}
	read := xenabi.BlkifRequest{Operation: xenabi.BLKIF_OP_READ, NrSegments: 2, Sector: 5}
	read.Seg[0], read.Seg[1] = xenabi.BlkifSegment{Gref: 2, Last: 7}, xenabi.BlkifSegment{Gref: 4, First: 1, Last: 2}
	indirect := xenabi.BlkifRequestIndirect32{Operation: xenabi.BLKIF_OP_INDIRECT, IndirectOp: xenabi.BLKIF_OP_WRITE, NrSegments: 200, IndirectRef: [8]uint32{1}}
	discard := xenabi.BlkifRequestDiscard{Operation: xenabi.BLKIF_OP_DISCARD, Sector: 1, NrSectors: 1 << 60}
	f.Add(xenabi.Bytes(&read), false, false, uint64(1<<20), []byte{})
	f.Add(xenabi.Bytes(&indirect), true, false, uint64(1<<20), bytes.Repeat([]byte{2, 0, 0, 0, 0, 7, 0, 0}, 512))
	f.Add(xenabi.Bytes(&discard), false, true, uint64(1<<63-1), []byte{})
	f.Fuzz(func(t *testing.T, b []byte, narrow, readonly bool, size uint64, page []byte) {
		if err := mem.Write(guestmem.PageSize, page[:min(len(page), guestmem.PageSize)]); err != nil {
			t.Fatal(err)
		}
		var in raw
		copy(in[:], b)
		h := decode(&in, narrow)
		var r request
		disk := int64(size >> 1)
		if err := r.fill(&h, someGrants{mem}, disk, readonly); err != nil {
			return
		}
		var sum int64
		for _, p := range r.bufs {
			if len(p) == 0 || len(p) > guestmem.PageSize || len(p)%sector != 0 {
				t.Errorf("a buffer of %d bytes", len(p))
			}
			sum += int64(len(p))
		}
		data := r.op != xenabi.BLKIF_OP_DISCARD
		if r.off < 0 || r.n < 0 || r.off > disk-r.n || data && sum != r.n || !data && sum != 0 || len(r.bufs) > maxSegments {
			t.Errorf("%d bytes at %d of %d in %d buffers of %d bytes", r.n, r.off, disk, len(r.bufs), sum)
		}
		if readonly && (r.op == xenabi.BLKIF_OP_WRITE || r.op == xenabi.BLKIF_OP_DISCARD) {
			t.Errorf("operation %d on a read-only disk", r.op)
		}
		var out [16]byte
		if a := r.answer(narrow, &out); len(a) != 12 && len(a) != 16 {
			t.Errorf("an answer of %d bytes", len(a))
		}
	})
}

// FuzzFront lets a front end do anything to a disk. The back end has to be there
// for one that behaves afterwards.
func FuzzFront(f *testing.F) {
	put := xenabi.BlkifRequest{Operation: xenabi.BLKIF_OP_READ, NrSegments: 1}
	put.Seg[0] = xenabi.BlkifSegment{Gref: 9, Last: 7}
	f.Add(append([]byte{0, 112}, xenabi.Bytes(&put)...), false)
	f.Add([]byte{1, 4, 0xff, 0xff, 0xff, 0xff, 2, 0}, false)
	f.Add([]byte{3, 1, 5, 3, 1, 1, 3, 1, 4, 2, 0}, true)
	f.Add([]byte{4, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0}, true)
	f.Fuzz(func(t *testing.T, script []byte, narrow bool) {
		img := newImage(t, make([]byte, 64<<10))
		img.prompt = len(script)%2 == 0
		r := newRig(t, Config{}, img)
		r.connect(0, narrow)
		r.pages(2)
		for steps := 0; len(script) >= 2 && steps < 60; steps++ {
			what, n := script[0]%5, min(int(script[1]), len(script)-2)
			arg := script[2 : 2+n]
			script = script[2+n:]
			switch what {
			case 0: // a request of any content
				r.ring.Put(arg[:min(len(arg), xenabi.BlkifEntry32)])
				r.push()
			case 1: // the ring's indices
				if len(arg) >= 4 {
					r.ring.Set([]int{xenabi.SringReqProd, xenabi.SringRspEvent, xenabi.SringRspProd}[n%3], binary.LittleEndian.Uint32(arg))
				}
			case 2:
				r.Send(r.port)
			case 3: // a state
				if len(arg) > 0 {
					r.Publish(r.dir, int(arg[0]%9), nil)
				}
			case 4: // a grant
				if len(arg) >= 9 {
					r.SetGrant(uint32(arg[0])%16, binary.LittleEndian.Uint64(arg[1:]))
				}
			}
		}
		r.Publish(r.dir, xenabi.XenbusStateClosed, nil)
		r.Await(r.back+"/state", "6")
		r.Publish(r.dir, xenabi.XenbusStateInitialising, nil)
		r.Await(r.back+"/state", "2")
		r.connect(1, narrow)
		r.want("read", r.do(xenabi.BLKIF_OP_READ, 0, whole(r.pages(1)), false), 0)
	})
}

// FuzzNBD has a server say anything.
func FuzzNBD(f *testing.F) {
	u16, u32, u64 := binary.BigEndian.AppendUint16, binary.BigEndian.AppendUint32, binary.BigEndian.AppendUint64
	hello := u16(u64(u64(nil, nbdMagic), nbdOptMagic), 3)
	info := u32(u32(u32(u64(hello, nbdReplyMagic), nbdOptGo), nbdRepInfo), 12)
	info = u16(u64(u16(info, 0), 1<<20), nbdCanFlush|nbdCanTrim)
	ack := u32(u32(u32(u64(info, nbdReplyMagic), nbdOptGo), nbdRepAck), 0)
	f.Add(append(u64(u32(u32(ack, nbdSimpleReply), 0), 1), make([]byte, 512)...))
	f.Add(u64(u32(u32(ack, nbdSimpleReply), nbdENOSPC), 1))
	f.Add(append(u32(u32(u32(u64(hello, nbdReplyMagic), nbdOptGo), nbdRepError|1), 4), "nope"...))
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, server := net.Pipe()
		guard := time.AfterFunc(time.Minute, func() { panic("the client hangs") })
		defer guard.Stop()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			go io.Copy(io.Discard, server)
			server.Write(said)
			server.Close()
		}()
		n, err := NewNBD(ours, "disk")
		if err != nil {
			ours.Close()
			<-gone
			return
		}
		_ = n.ReadV([][]byte{make([]byte, 100), make([]byte, 412)}, 0)
		_ = n.WriteV([][]byte{make([]byte, 512)}, 512)
		_ = n.Flush()
		_ = n.Discard(0, 5<<30)
		_ = n.Close()
		<-gone
	})
}

// TestNBDAnswers has a server answer out of order, and with errors.
func TestNBDAnswers(t *testing.T) {
	ours, server := net.Pipe()
	u16, u32, u64 := binary.BigEndian.AppendUint16, binary.BigEndian.AppendUint32, binary.BigEndian.AppendUint64
	go func() {
		server.Write(u16(u64(u64(nil, nbdMagic), nbdOptMagic), 3))
		io.ReadFull(server, make([]byte, 4+8+4+4+4+4+2))
		info := u32(u32(u32(u64(nil, nbdReplyMagic), nbdOptGo), nbdRepInfo), 12)
		server.Write(u16(u64(u16(info, 0), 1<<20), nbdCanFlush))
		server.Write(u32(u32(u32(u64(nil, nbdReplyMagic), nbdOptGo), nbdRepAck), 0))
		var reqs [2][28]byte
		for i := range reqs {
			io.ReadFull(server, reqs[i][:])
		}
		for i := range reqs {
			r := reqs[1-i][:]
			off := binary.BigEndian.Uint64(r[16:])
			answer := u64(u32(u32(nil, nbdSimpleReply), 0), binary.BigEndian.Uint64(r[8:]))
			server.Write(append(answer, bytes.Repeat([]byte(strconv.Itoa(int(off/512))), 512)...))
		}
		for _, code := range []uint32{nbdENOSPC, nbdEOPNOTSUPP, 5} {
			var r [28]byte
			io.ReadFull(server, r[:])
			server.Write(u64(u32(u32(nil, nbdSimpleReply), code), binary.BigEndian.Uint64(r[8:])))
		}
		server.Close()
	}()
	n, err := NewNBD(ours, "disk")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	for i := range 2 {
		go func() {
			b := make([]byte, 512)
			err := n.ReadV([][]byte{b[:100], b[100:]}, int64(i)*512)
			if err == nil && !bytes.Equal(b, bytes.Repeat([]byte(strconv.Itoa(i)), 512)) {
				err = errors.New("another request's bytes")
			}
			done <- err
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := n.Flush(); !full(err) {
		t.Errorf("no room is told as %v", err)
	}
	if err := n.Flush(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("what cannot be done is told as %v", err)
	}
	if err := n.Flush(); err == nil || full(err) {
		t.Errorf("a failure is told as %v", err)
	}
	if err := n.Discard(0, 512); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("discard: %v", err)
	}
	if err := n.Flush(); err == nil {
		t.Error("a server that is gone flushes")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
