package blk

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenabi"
)

const (
	sector = 512

	// maxSegments is how many pages a request may touch: Linux's default maximum
	// transfer of 1 MiB in pages.
	maxSegments = 256
	// segmentsPerPage is how many segments a page of an indirect request holds.
	segmentsPerPage = guestmem.PageSize / segmentSize
	segmentSize     = 8

	_ = uint(segmentsPerPage - maxSegments) // the first page holds all
)

// header is a request of either width.
type header struct {
	op       uint8 // of an indirect request the operation that is meant
	indirect bool
	segments int // how many
	id       uint64
	sector   uint64
	sectors  uint64 // of a discard
	seg      [xenabi.BLKIF_MAX_SEGMENTS_PER_REQUEST]xenabi.BlkifSegment
	refs     [xenabi.BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST]uint32
}

// raw is a request as it lies in the ring, copied.
type raw [xenabi.BlkifEntry]byte

// as is the request seen as one of its forms.
func as[T any](r *raw) (v T) {
	copy(xenabi.Bytes(&v), r[:])
	return v
}

// decode reads a request. It always finds the id, which the answer needs, and
// checks nothing.
func decode(r *raw, narrow bool) (h header) {
	h.op = r[0]
	switch h.op {
	case xenabi.BLKIF_OP_DISCARD:
		if narrow {
			d := as[xenabi.BlkifRequestDiscard32](r)
			h.id, h.sector, h.sectors = d.ID.Value(), d.Sector.Value(), d.NrSectors.Value()
		} else {
			d := as[xenabi.BlkifRequestDiscard](r)
			h.id, h.sector, h.sectors = d.ID, d.Sector, d.NrSectors
		}
	case xenabi.BLKIF_OP_INDIRECT:
		h.indirect = true
		if narrow {
			d := as[xenabi.BlkifRequestIndirect32](r)
			h.op, h.segments, h.id, h.sector, h.refs = d.IndirectOp, int(d.NrSegments), d.ID.Value(), d.Sector.Value(), d.IndirectRef
		} else {
			d := as[xenabi.BlkifRequestIndirect](r)
			h.op, h.segments, h.id, h.sector, h.refs = d.IndirectOp, int(d.NrSegments), d.ID, d.Sector, d.IndirectRef
		}
	default:
		if narrow {
			d := as[xenabi.BlkifRequest32](r)
			h.segments, h.id, h.sector, h.seg = int(d.NrSegments), d.ID.Value(), d.Sector.Value(), d.Seg
		} else {
			d := as[xenabi.BlkifRequest](r)
			h.segments, h.id, h.sector, h.seg = int(d.NrSegments), d.ID, d.Sector, d.Seg
		}
	}
	return h
}

// request is one request that is being served.
type request struct {
	id     uint64
	op     uint8
	off    int64
	n      int64
	bufs   [][]byte // the guest's memory, for the host's kernel only
	status int16

	table  *[maxSegments]xenabi.BlkifSegment // room for those of an indirect request
	pieces []xen.Piece                       // room for what all of them name
}

// errUnsupported is an operation that the disk does not have; others that are
// wrong are errors of the front end's.
var errUnsupported = errors.New("no such operation")

// granter resolves grants for one request.
type granter interface {
	Grant(ref uint32, write bool) (guestmem.Page, error)
	AppendBuffers(bufs [][]byte, pieces []xen.Piece, write bool) ([][]byte, error)
}

// fill checks what h asks for against a disk of size bytes, and finds the
// memory that it is about.
func (r *request) fill(h *header, g granter, size int64, readonly bool) error {
	r.op, r.id, r.bufs, r.n, r.status = h.op, h.id, r.bufs[:0], 0, xenabi.BLKIF_RSP_OKAY
	switch {
	case h.op > xenabi.BLKIF_OP_DISCARD, h.op == xenabi.BLKIF_OP_WRITE_BARRIER, h.op == xenabi.BLKIF_OP_FLUSH_DISKCACHE+1:
		return errUnsupported
	case readonly && h.op != xenabi.BLKIF_OP_READ && h.op != xenabi.BLKIF_OP_FLUSH_DISKCACHE:
		return errors.New("the disk is read-only")
	case h.indirect && h.op != xenabi.BLKIF_OP_READ && h.op != xenabi.BLKIF_OP_WRITE:
		return errors.New("only reads and writes can be indirect")
	case h.op == xenabi.BLKIF_OP_FLUSH_DISKCACHE && h.segments == 0:
		return nil
	case h.op == xenabi.BLKIF_OP_DISCARD:
		return r.place(h.sector, h.sectors, size)
	}
	segs, err := r.segments(h, g)
	if err != nil {
		return err
	}
	r.pieces = slices.Grow(r.pieces[:0], len(segs))[:len(segs)]
	var sectors uint64
	for i, s := range segs {
		if s.First > s.Last || s.Last >= guestmem.PageSize/sector {
			return fmt.Errorf("sectors %d to %d of a page", s.First, s.Last)
		}
		n := uint16(s.Last-s.First) + 1
		sectors += uint64(n)
		r.pieces[i] = xen.Piece{Ref: s.Gref, Off: uint16(s.First) * sector, N: n * sector}
	}
	if err := r.place(h.sector, sectors, size); err != nil {
		return err
	}
	r.bufs, err = g.AppendBuffers(r.bufs, r.pieces, h.op == xenabi.BLKIF_OP_READ)
	return err
}

// place checks that the sectors are the disk's.
func (r *request) place(at, n uint64, size int64) error {
	have := uint64(size) / sector
	if n > have || at > have-n {
		return fmt.Errorf("%d sectors from %d of a disk of %d", n, at, have)
	}
	r.off, r.n = int64(at)*sector, int64(n)*sector
	return nil
}

// segments are a copy of the request's segments.
func (r *request) segments(h *header, g granter) ([]xenabi.BlkifSegment, error) {
	most := len(h.seg)
	if h.indirect {
		most = maxSegments
	}
	if h.segments == 0 || h.segments > most {
		return nil, fmt.Errorf("%d segments", h.segments)
	}
	if !h.indirect {
		return h.seg[:h.segments], nil
	}
	if r.table == nil {
		r.table = new([maxSegments]xenabi.BlkifSegment)
	}
	page, err := g.Grant(h.refs[0], false)
	if err != nil {
		return nil, err
	}
	segs := r.table[:h.segments]
	return segs, page.Read(0, xenabi.Bytes(r.table)[:h.segments*segmentSize])
}

// answer is the response as it lies in the ring.
func (r *request) answer(narrow bool, b *[16]byte) []byte {
	if narrow {
		a := xenabi.BlkifResponse32{ID: xenabi.MakeU64(r.id), Operation: r.op, Status: r.status}
		return b[:copy(b[:], xenabi.Bytes(&a))]
	}
	a := xenabi.BlkifResponse{ID: r.id, Operation: r.op, Status: r.status}
	return b[:copy(b[:], xenabi.Bytes(&a))]
}
