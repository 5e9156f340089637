package xenabi

import "structs"

// The operations, results and flags of io/blkif.h.
const (
	BLKIF_OP_READ            = 0
	BLKIF_OP_WRITE           = 1
	BLKIF_OP_WRITE_BARRIER   = 2
	BLKIF_OP_FLUSH_DISKCACHE = 3
	BLKIF_OP_DISCARD         = 5
	BLKIF_OP_INDIRECT        = 6

	BLKIF_RSP_EOPNOTSUPP = -2
	BLKIF_RSP_ERROR      = -1
	BLKIF_RSP_OKAY       = 0

	BLKIF_MAX_SEGMENTS_PER_REQUEST       = 11
	BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8

	VDISK_CDROM     = 1
	VDISK_REMOVABLE = 2
	VDISK_READONLY  = 4
)

// BlkifSegment is struct blkif_request_segment, io/blkif.h: sectors First to
// Last of 512 bytes of the granted page.
type BlkifSegment struct {
	_     structs.HostLayout
	Gref  uint32
	First uint8
	Last  uint8
	_     uint16
}

// BlkifRequest is struct blkif_request, io/blkif.h.
type BlkifRequest struct {
	_          structs.HostLayout
	Operation  uint8
	NrSegments uint8
	Handle     uint16
	_          uint32
	ID         uint64
	Sector     uint64
	Seg        [BLKIF_MAX_SEGMENTS_PER_REQUEST]BlkifSegment
}

// BlkifRequest32 is the same for 32-bit front ends.
type BlkifRequest32 struct {
	_          structs.HostLayout
	Operation  uint8
	NrSegments uint8
	Handle     uint16
	ID         U64
	Sector     U64
	Seg        [BLKIF_MAX_SEGMENTS_PER_REQUEST]BlkifSegment
}

// BlkifRequestDiscard is struct blkif_request_discard, io/blkif.h.
type BlkifRequestDiscard struct {
	_         structs.HostLayout
	Operation uint8
	Flag      uint8
	Handle    uint16
	_         uint32
	ID        uint64
	Sector    uint64
	NrSectors uint64
}

// BlkifRequestDiscard32 is the same for 32-bit front ends.
type BlkifRequestDiscard32 struct {
	_         structs.HostLayout
	Operation uint8
	Flag      uint8
	Handle    uint16
	ID        U64
	Sector    U64
	NrSectors U64
}

// BlkifRequestIndirect is struct blkif_request_indirect, io/blkif.h: the pages
// hold BlkifSegments, 512 each.
type BlkifRequestIndirect struct {
	_           structs.HostLayout
	Operation   uint8
	IndirectOp  uint8
	NrSegments  uint16
	_           uint32
	ID          uint64
	Sector      uint64
	Handle      uint16
	_           uint16
	IndirectRef [BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST]uint32
	_           uint32
}

// BlkifRequestIndirect32 is the same for 32-bit front ends.
type BlkifRequestIndirect32 struct {
	_           structs.HostLayout
	Operation   uint8
	IndirectOp  uint8
	NrSegments  uint16
	ID          U64
	Sector      U64
	Handle      uint16
	_           uint16
	IndirectRef [BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST]uint32
	_           U64
}

// BlkifResponse is struct blkif_response, io/blkif.h.
type BlkifResponse struct {
	_         structs.HostLayout
	ID        uint64
	Operation uint8
	_         uint8
	Status    int16
	_         uint32
}

// BlkifResponse32 is the same for 32-bit front ends.
type BlkifResponse32 struct {
	_         structs.HostLayout
	ID        U64
	Operation uint8
	_         uint8
	Status    int16
}

// Bytes of a ring's entry: a request or a response, whichever is more.
const (
	BlkifEntry   = 112
	BlkifEntry32 = 108
)
